//! What a listener does to every request and its answer: finds out who the client is, and keeps browsers on TLS.

use std::net::{IpAddr, SocketAddr};

use ::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{Networks, Peer};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Nothing, by default.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Proxies that are believed about the address of the client. With them, headers that say something of it reach
    /// nobody unless they come from there; without, they are left alone.
    pub trusted_forwarders: Option<Networks>,
    /// `Strict-Transport-Security` of answers over TLS.
    ///
    /// Spec: RFC 6797 section 7.2
    pub transport_security: Option<HeaderValue>,
}

impl Policy {
    /// Sets the address of the client, and headers that say the same.
    pub fn apply(&self, peer: &mut Peer, headers: &mut HeaderMap) {
        let Some(trusted) = &self.trusted_forwarders else { return };
        let connected = peer.address.ip().to_canonical();
        if trusted.contains(connected) {
            if let Some(client) = client(trusted, connected, headers) {
                peer.address = SocketAddr::new(client, 0);
            }
        } else {
            headers.remove(FORWARDED_FOR);
            headers.remove(header::FORWARDED);
        }
        if let Ok(address) = HeaderValue::try_from(peer.address.ip().to_canonical().to_string()) {
            headers.insert(REAL_IP, address.clone());
            // Whoever reads only this one finds the client in it.
            headers.entry(FORWARDED_FOR).or_insert(address);
        }
    }

    /// Keeps browsers that came over TLS there.
    pub fn add_transport_security(&self, peer: Peer, headers: &mut HeaderMap) {
        if let Some(value) = self.transport_security.as_ref().filter(|_| peer.is_tls) {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, value.clone());
        }
    }
}

/// Each proxy adds, behind what it was sent, whom it was connected with: the last address that is no trusted proxy's is
/// the client's. Whatever stands before it anybody can have written.
fn client(trusted: &Networks, connected: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
    let lines: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().map(|line| line.to_str().unwrap_or_default()).collect();
    if lines.is_empty() {
        return headers.get(REAL_IP).and_then(|value| parse(value.to_str().ok()?.trim()));
    }
    let mut nearest = connected;
    for address in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        let Some(address) = parse(address.trim()) else { break };
        nearest = address;
        if !trusted.contains(address) {
            break;
        }
    }
    Some(nearest)
}

/// An address, of which some proxies write the port as well.
fn parse(text: &str) -> Option<IpAddr> {
    let alone: Option<IpAddr> = text.trim_matches(['[', ']']).parse().ok();
    let address = alone.or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whom we are connected with, headers, and the client.
    type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);

    fn client_of(connected: &str, lines: &[(&'static str, &'static str)]) -> (String, HeaderMap) {
        let networks = ["10.0.0.0/8", "::1"].map(|network| network.parse().unwrap());
        let policy = Policy { trusted_forwarders: Some(Networks(networks.into())), ..Policy::default() };
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let mut peer = Peer { address: SocketAddr::new(connected.parse().unwrap(), 7), is_tls: true };
        policy.apply(&mut peer, &mut headers);
        (peer.address.ip().to_string(), headers)
    }

    /// Trusted proxies are believed as far as they are trusted, others are not; and the header says what was found.
    #[test]
    fn the_client_is_the_last_address_that_is_not_trusted() {
        let cases: [Case; 9] = [
            ("203.0.113.9", &[("x-forwarded-for", "192.0.2.1")], "203.0.113.9"),
            ("203.0.113.9", &[("x-real-ip", "192.0.2.1")], "203.0.113.9"),
            ("10.0.0.1", &[("x-forwarded-for", "192.0.2.1:443")], "192.0.2.1"),
            ("10.0.0.1", &[("x-forwarded-for", "198.51.100.1, 192.0.2.1, 10.0.0.2")], "192.0.2.1"),
            (
                "10.0.0.1",
                &[("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "192.0.2.1")],
                "192.0.2.1",
            ),
            ("10.0.0.1", &[("x-forwarded-for", "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
            ("10.0.0.1", &[("x-forwarded-for", "192.0.2.1, unknown, 10.0.0.2")], "10.0.0.2"),
            ("::1", &[("x-real-ip", "2001:db8::1")], "2001:db8::1"),
            ("10.0.0.1", &[], "10.0.0.1"),
        ];
        for (connected, lines, expected) in cases {
            let (address, headers) = client_of(connected, lines);
            assert_eq!(address, expected, "{lines:?}");
            assert_eq!(headers[REAL_IP], expected, "{lines:?}");
        }
        let lines = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=1")];
        let (_, headers) = client_of("203.0.113.9", &lines);
        assert_eq!(headers[FORWARDED_FOR], "203.0.113.9");
        assert!(!headers.contains_key(header::FORWARDED));
    }

    /// Without trusted proxies nothing is touched.
    #[test]
    fn nothing_is_touched_by_default() {
        let mut headers = HeaderMap::from_iter([(FORWARDED_FOR, HeaderValue::from_static("192.0.2.1"))]);
        let mut peer = Peer { address: ([203, 0, 113, 9], 7).into(), is_tls: true };
        Policy::default().apply(&mut peer, &mut headers);
        Policy::default().add_transport_security(peer, &mut headers);
        assert_eq!((headers.len(), peer.address.port()), (1, 7));
    }
}
