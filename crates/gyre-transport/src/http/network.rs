//! Networks of addresses, as they are configured: `10.0.0.0/8`, `fd00::/8`, one address, or `unix`.

use std::{net::IpAddr, str::FromStr};

/// A part of those who connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// The addresses that begin with some bits.
    Addresses {
        /// The bits, and whatever follows.
        address: IpAddr,
        /// How many they are.
        bits: u32,
    },
    /// Whoever is connected over a unix socket, which has [`super::UNIX_PEER`] as its address.
    UnixSockets,
}

/// It is not written like a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address, nor a network such as 10.0.0.0/8")]
pub struct NoNetwork;

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        if text == "unix" {
            return Ok(Self::UnixSockets);
        }
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.trim_matches(['[', ']']).parse().map_err(|_| NoNetwork)?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(bits_max), |bits| bits.parse().map_err(|_| NoNetwork))?;
        if bits > bits_max { Err(NoNetwork) } else { Ok(Self::Addresses { address, bits }) }
    }
}

impl Network {
    /// True if the address is in it. An IPv4 address inside IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let Self::Addresses { address: network, bits } = *self else { return address.is_unspecified() };
        match (network, address.to_canonical()) {
            (_, address) if address.is_unspecified() => false,
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                differing.checked_shr(32 - bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                differing.checked_shr(128 - bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Some networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(pub Vec<Network>);

impl Networks {
    /// True if the address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses are in the networks they begin with, and what is no network is refused.
    #[test]
    fn networks_contain_their_addresses() {
        let contains = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().contains(address.parse().unwrap())
        };
        for (network, address) in [
            ("10.0.0.0/8", "10.255.1.2"),
            ("10.0.0.1", "::ffff:10.0.0.1"),
            ("0.0.0.0/0", "203.0.113.9"),
            ("fd00::/8", "fd12::1"),
            ("::/0", "2001:db8::1"),
            ("[::1]", "::1"),
            ("unix", "0.0.0.0"),
        ] {
            assert!(contains(network, address), "{network} {address}");
        }
        let others = [
            ("10.0.0.0/8", "11.0.0.0"),
            ("10.0.0.1", "10.0.0.2"),
            ("::/0", "10.0.0.1"),
            ("0.0.0.0/0", "0.0.0.0"),
            ("unix", "127.0.0.1"),
        ];
        for (network, address) in others {
            assert!(!contains(network, address), "{network} {address}");
        }
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "localhost", "10.0.0.0/-1", "10.0.0.0/"] {
            assert_eq!(text.parse::<Network>(), Err(NoNetwork), "{text}");
        }
    }
}
