//! The extension `ip`: addresses and ranges of addresses.

use std::net::IpAddr;

/// A range of addresses: an address and the number of its bits that count. A single address has all of them.
///
/// Two ranges are equal if both parts are: `10.0.0.1/8` is not `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct IpRange {
    /// The address.
    address: IpAddr,
    /// Number of bits that count.
    prefix: u8,
}

impl IpRange {
    /// Returns the range that is one address. An IPv4 address that is mapped into IPv6 is an IPv4 address.
    pub(super) fn single(address: IpAddr) -> Self {
        Self::whole(address.to_canonical())
    }

    /// Returns the range with all bits of an address.
    const fn whole(address: IpAddr) -> Self {
        Self { address, prefix: width(address) }
    }

    /// Reads an address, or a range such as `10.0.0.0/8`.
    ///
    /// # Errors
    ///
    /// Returns what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no address or range; write one as 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32");
        // The reference refuses IPv4 addresses that are written so in IPv6, because comparisons with IPv4 addresses never hold.
        let is_mixed = text.matches(':').count() > 1 && text.matches('.').count() > 1;
        if text.len() > 43 || is_mixed {
            return Err(bad());
        }
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let range = Self::whole(address.parse().map_err(|_| bad())?);
        // As hexadecimal digits it takes them. But no client has such an address, see `single`.
        if range.address.to_canonical() != range.address {
            return Err(format!("{text:?} is an IPv4 address in IPv6, which no client has; write the IPv4 address"));
        }
        let Some(digits) = prefix else { return Ok(range) };
        let is_number = digits.bytes().all(|digit| digit.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        match digits.parse() {
            Ok(prefix) if is_number && prefix <= range.prefix => Ok(Self { prefix, ..range }),
            _ => Err(bad()),
        }
    }

    /// Checks that these are IPv4 addresses.
    pub(super) const fn is_ipv4(self) -> bool {
        self.address.is_ipv4()
    }

    /// Checks that all addresses of the range are loopback addresses.
    pub(super) const fn is_loopback(self) -> bool {
        self.address.is_loopback() && self.prefix >= if self.is_ipv4() { 8 } else { 128 }
    }

    /// Checks that all addresses of the range are multicast addresses.
    pub(super) const fn is_multicast(self) -> bool {
        self.address.is_multicast() && self.prefix >= if self.is_ipv4() { 4 } else { 8 }
    }

    /// Checks that every address of the range is in another one. No IPv4 address is in a range of IPv6 addresses.
    pub(super) fn is_in_range(self, outer: Self) -> bool {
        let ((first, last), (outer_first, outer_last)) = (self.bounds(), outer.bounds());
        self.is_ipv4() == outer.is_ipv4() && outer_first <= first && last <= outer_last
    }

    /// Returns the numbers of the first and the last address.
    fn bounds(self) -> (u128, u128) {
        let bits = match self.address {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address),
        };
        let free = match width(self.address) - self.prefix {
            0 => 0,
            free => u128::MAX >> (128 - u32::from(free)),
        };
        (bits & !free, bits | free)
    }
}

/// Returns the number of bits of an address.
const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpRange {
        IpRange::parse(text).expect("a range")
    }

    #[test]
    fn a_range_is_in_another_if_all_its_addresses_are() {
        for (inner, outer) in [
            ("10.1.2.3", "10.0.0.0/8"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.0/8", "0.0.0.0/0"),
            ("10.1.2.3", "10.200.0.0/8"),
            ("2001:db8::1", "2001:db8::/32"),
            ("::1", "::/0"),
        ] {
            assert!(ip(inner).is_in_range(ip(outer)), "{inner} {outer}");
        }
        for (inner, outer) in
            [("11.0.0.0", "10.0.0.0/8"), ("10.0.0.0/7", "10.0.0.0/8"), ("10.0.0.1", "::/0"), ("::1", "0.0.0.0/0")]
        {
            assert!(!ip(inner).is_in_range(ip(outer)), "{inner} {outer}");
        }
    }

    #[test]
    fn loopback_and_multicast_hold_for_the_whole_range() {
        assert!(ip("127.0.0.1").is_loopback() && ip("127.0.0.0/8").is_loopback() && ip("::1").is_loopback());
        assert!(!ip("127.0.0.0/7").is_loopback() && !ip("10.0.0.1").is_loopback() && !ip("::1/127").is_loopback());
        assert!(ip("224.0.0.0/4").is_multicast() && ip("ff00::/8").is_multicast());
        assert!(!ip("224.0.0.0/3").is_multicast() && !ip("ff00::/7").is_multicast());
    }

    #[test]
    fn texts_that_the_reference_refuses_are_refused() {
        for bad in
            ["", "10.0.0", "10.0.0.01", "10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/", "10.0.0.0/+8", "::ffff:10.0.0.1", "::/129"]
        {
            assert!(IpRange::parse(bad).is_err(), "{bad}");
        }
        assert_ne!(ip("10.0.0.1/8"), ip("10.0.0.0/8"));
        assert_eq!(ip("10.0.0.1/32"), ip("10.0.0.1"));
    }

    #[test]
    fn an_address_that_is_mapped_into_ipv6_is_an_ipv4_address() {
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().expect("an address");
        assert_eq!(IpRange::single(mapped), ip("10.0.0.1"));
        for never_met in ["::ffff:a00:1", "::ffff:0:0/96"] {
            assert!(IpRange::parse(never_met).expect_err("never met").contains("write the IPv4 address"), "{never_met}");
        }
        assert!(!ip("::/0").is_ipv4() && !ip("64:ff9b::a00:1").is_ipv4());
    }
}
