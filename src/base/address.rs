//! Addresses of clients as limits count them, and networks of proxies.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// The bits of an IPv6 address that say whose it is: a home or a phone has a whole /64, and may use any address in it.
const IPV6_PREFIX: u32 = 64;

/// The address of a client, as limits count it: an IPv4 address, or an IPv6 network of /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let host = u128::MAX >> IPV6_PREFIX;
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !host))
            }
        })
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A list of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl FromStr for Networks {
    type Err = String;

    /// Reads a comma-separated list of CIDRs such as `10.0.0.0/8`, or of single addresses.
    fn from_str(list: &str) -> Result<Self, String> {
        let network = |text: &str| {
            let single = || text.parse::<IpAddr>().map(IpNet::from);
            text.parse::<IpNet>()
                .or_else(|_| single())
                .map_err(|_| format!("{text:?} is not a network such as 10.0.0.0/8"))
        };
        let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(network).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn ipv6_counts_by_network_and_mapped_ipv4_as_ipv4() {
        let counted = |text| ClientAddress::from(address(text));
        assert_eq!(counted("2001:db8:1:2::1"), counted("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(counted("2001:db8:1:2::1"), counted("2001:db8:1:3::1"));
        assert_eq!(counted("::ffff:192.0.2.1"), counted("192.0.2.1"));
        assert_ne!(counted("192.0.2.1"), counted("192.0.2.2"));
    }

    #[test]
    fn networks_are_cidrs_or_single_addresses() {
        let networks: Networks = "10.0.0.0/8, 192.0.2.7,2001:db8::/32,".parse().expect("networks");
        for (text, inside) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.1.2.3", true),
            ("2001:db8:5::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(networks.contains(address(text)), inside, "{text}");
        }
        assert_eq!("".parse::<Networks>(), Ok(Networks::default()));
        for wrong in ["10.0.0.0/33", "proxy", "10.0.0.0/8;11.0.0.0/8", "10.0.0"] {
            assert!(wrong.parse::<Networks>().is_err(), "{wrong}");
        }
    }
}
