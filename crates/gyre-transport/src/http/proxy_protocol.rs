//! The header that a proxy for TCP sends before everything else: who it is connected with.
//!
//! Where it is expected it has to be there: a receiver that guesses can be told anything by anybody.
//!
//! Spec: HAProxy, "The PROXY protocol", versions 1 and 2

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use super::Networks;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// A line of version 1, its end included.
const LINE_BYTES_MAX: usize = 107;
/// What follows the fixed part of version 2: addresses, and whatever else a proxy says.
const REST_BYTES_MAX: usize = 4096;

/// Who sends the header, and how long it may take.
#[derive(Clone, Debug)]
pub struct ProxyProtocol {
    /// Everybody, or connections from these networks; others are connected directly and send none.
    pub senders: Option<Networks>,
    /// Until the whole header is there.
    pub timeout: Duration,
}

impl ProxyProtocol {
    /// Takes the header off, and returns the address it gives; the connection's own if it gives none.
    ///
    /// # Errors
    /// If there is none, it is malformed, or does not come in time.
    pub(super) async fn read(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        connected: SocketAddr,
    ) -> io::Result<SocketAddr> {
        if self.senders.as_ref().is_some_and(|senders| !senders.contains(connected.ip())) {
            return Ok(connected);
        }
        Ok(timeout(self.timeout, header(stream)).await??.unwrap_or(connected))
    }
}

async fn header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    // Shorter than any header.
    let mut begin = [0; SIGNATURE.len()];
    stream.read_exact(&mut begin).await?;
    if begin == SIGNATURE {
        return version_2(stream).await;
    }
    if !begin.starts_with(b"PROXY ") {
        return Err(malformed("no PROXY protocol header"));
    }
    let mut line = begin.to_vec();
    // Byte by byte: what follows the line is not ours. It has some fifty.
    while !line.ends_with(b"\r\n") {
        if line.len() >= LINE_BYTES_MAX {
            return Err(malformed("a PROXY protocol line that is too long"));
        }
        line.push(stream.read_u8().await?);
    }
    version_1(&line).ok_or_else(|| malformed("a malformed PROXY protocol line"))
}

/// `None` if malformed, and `Some(None)` if it gives no address.
fn version_1(line: &[u8]) -> Option<Option<SocketAddr>> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let (source, _destination) = (words.next()?, words.next()?);
    let (port, _destination_port) = (words.next()?, words.next()?);
    let address: IpAddr = source.parse().ok()?;
    let is_of_family = match family {
        "TCP4" => address.is_ipv4(),
        "TCP6" => address.is_ipv6(),
        _ => false,
    };
    let port = port.parse().ok()?;
    (is_of_family && words.next().is_none()).then_some(Some(SocketAddr::new(address, port)))
}

async fn version_2(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await?;
    let [command, family, length @ ..] = fixed;
    let length = usize::from(u16::from_be_bytes(length));
    if length > REST_BYTES_MAX {
        return Err(malformed("a PROXY protocol header that is too long"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match command {
        // The proxy's own connection, to see if we live.
        0x20 => Ok(None),
        0x21 => source(family, &rest).ok_or_else(|| malformed("a malformed PROXY protocol header")),
        _ => Err(malformed("an unknown version of the PROXY protocol")),
    }
}

/// As [`version_1`]. Source and destination address are followed by their ports.
fn source(family: u8, rest: &[u8]) -> Option<Option<SocketAddr>> {
    let (address, port): (IpAddr, _) = match family {
        0x11 => (IpAddr::from(*rest.first_chunk::<4>()?), rest.get(8..10)?),
        0x21 => (IpAddr::from(*rest.first_chunk::<16>()?), rest.get(32..34)?),
        // Sockets of other kinds.
        _ => return Some(None),
    };
    Some(Some(SocketAddr::new(address, u16::from_be_bytes(port.try_into().ok()?))))
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> (io::Result<SocketAddr>, Vec<u8>) {
        let proxy = ProxyProtocol { senders: None, timeout: Duration::from_secs(1) };
        let mut stream = bytes;
        let read = proxy.read(&mut stream, ([10, 0, 0, 1], 7).into()).await;
        (read, stream.to_vec())
    }

    fn second(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest, b"GET"].concat()
    }

    /// Headers of both versions give the address of the source, or none, and nothing behind them is taken.
    #[tokio::test]
    async fn headers_give_the_source() {
        let ipv6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0x12, 0x34, 0, 80], b"x"].concat();
        let cases = [
            (b"PROXY TCP4 192.0.2.1 10.0.0.9 4660 443\r\nGET".to_vec(), "192.0.2.1:4660"),
            (b"PROXY TCP6 2001:db8::1 ::1 4660 443\r\nGET".to_vec(), "[2001:db8::1]:4660"),
            (b"PROXY UNKNOWN\r\nGET".to_vec(), "10.0.0.1:7"),
            (second(0x21, 0x11, &[192, 0, 2, 1, 10, 0, 0, 9, 0x12, 0x34, 1, 187]), "192.0.2.1:4660"),
            (second(0x21, 0x21, &ipv6), "[2001:db8::1]:4660"),
            (second(0x21, 0x31, &[0; 216]), "10.0.0.1:7"),
            (second(0x20, 0, &[]), "10.0.0.1:7"),
        ];
        for (bytes, expected) in cases {
            let (read, rest) = read(&bytes).await;
            assert_eq!(read.unwrap().to_string(), expected, "{}", bytes.escape_ascii());
            assert_eq!(rest, b"GET");
        }
    }

    /// What is no header is refused, however long it is.
    #[tokio::test]
    async fn other_beginnings_are_refused() {
        let cases: [&[u8]; 11] = [
            b"",
            b"GET / HTTP/1.1\r\n\r\n",
            b"PROXY TCP4 192.0.2.1\r\n",
            b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.9 70000 443\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.9 1",
            &[b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat(),
            &second(0x21, 0x11, &[1, 2, 3]),
            &second(0x11, 0x11, &[0; 12]),
            &second(0x21, 0x11, &[0; REST_BYTES_MAX + 1]),
            &SIGNATURE,
        ];
        for bytes in cases {
            assert!(read(bytes).await.0.is_err(), "{}", bytes.escape_ascii());
        }
    }

    /// A header that does not come in time ends the wait, and who is no sender is not waited for; with paused time.
    #[tokio::test(start_paused = true)]
    async fn only_senders_are_waited_for() {
        let senders = Some(Networks(vec!["10.0.0.0/8".parse().unwrap()]));
        let proxy = ProxyProtocol { senders, timeout: Duration::from_secs(5) };
        let (_silent, mut stream) = tokio::io::duplex(64);
        let late = proxy.read(&mut stream, ([10, 0, 0, 1], 7).into()).await;
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let direct = ([203, 0, 113, 9], 7).into();
        assert_eq!(proxy.read(&mut stream, direct).await.unwrap(), direct);
    }
}
