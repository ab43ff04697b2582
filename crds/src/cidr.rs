//! Ranges of IP addresses in CIDR notation (RFC 4632, RFC 4291 §2.3).

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A range of IP addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    network: Ipv6Addr,
    /// Of the network, in bits of an IPv6 address.
    length: u8,
}

/// Text that is no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no address with a length of 0 to 32 (IPv4) or 128 (IPv6)")]
pub struct NoRange;

impl FromStr for Range {
    type Err = NoRange;

    fn from_str(text: &str) -> Result<Self, NoRange> {
        let (address, length) = text.split_once('/').ok_or(NoRange)?;
        let address: IpAddr = address.parse().map_err(|_| NoRange)?;
        let length: u8 = length.parse().map_err(|_| NoRange)?;
        let (network, length) = match address {
            IpAddr::V4(four) => (four.to_ipv6_mapped(), length.checked_add(96).ok_or(NoRange)?),
            IpAddr::V6(six) => (six, length),
        };
        if length > 128 { Err(NoRange) } else { Ok(Self { network, length }) }
    }
}

impl Range {
    /// Whether an address lies in it. An IPv4 address is the same however a socket shows it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = match address {
            IpAddr::V4(four) => four.to_ipv6_mapped(),
            IpAddr::V6(six) => six,
        };
        let differs = self.network.to_bits() ^ address.to_bits();
        self.length == 0 || differs >> (128 - u32::from(self.length)) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_contains_what_begins_as_it_does() {
        let contains =
            |range: &str, address: &str| range.parse::<Range>().unwrap().contains(address.parse().unwrap());
        assert!(contains("10.0.0.0/8", "10.255.0.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"), "as a socket for both families shows it");
        assert!(!contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("0.0.0.0/0", "192.0.2.1"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("2001:db8::/32", "2001:db8:1::1"));
        assert!(contains("::/0", "192.0.2.1"));
        assert!(contains("192.0.2.1/32", "192.0.2.1") && !contains("192.0.2.1/32", "192.0.2.2"));
        for wrong in ["10.0.0.0", "10.0.0.0/33", "300.0.0.0/8", "::/129", "/8", "::1/-1"] {
            assert_eq!(wrong.parse::<Range>(), Err(NoRange), "{wrong}");
        }
    }
}
