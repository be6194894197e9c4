//! Networks, and the address of a client behind trusted proxies.
//!
//! A header such as `x-forwarded-for` can be written by anybody. It counts only if the peer of the connection is a proxy that the
//! configuration trusts. Start reading at [`client_address`].

use std::net::IpAddr;
use std::str::FromStr;

use axum::http::HeaderMap;

/// A network: all addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// The number of bits that all addresses of the network share.
    bits: u8,
}

impl FromStr for Network {
    type Err = String;

    /// Parses an address, or an address and a number of bits: `10.0.0.0/8`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a network; write an address, or one with its number of bits such as 10.0.0.0/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse::<u8>).map_err(|_| wrong())?;
        if bits > most { Err(wrong()) } else { Ok(Self { address, bits }) }
    }
}

impl Network {
    /// Checks whether an address lies in the network. An IPv4 address that is written as IPv6 counts as the former.
    fn contains(&self, address: IpAddr) -> bool {
        let (ours, theirs, width) = match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => (u128::from(u32::from(ours)), u128::from(u32::from(theirs)), 32),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (u128::from(ours), u128::from(theirs), 128),
            _ => return false,
        };
        // A shift by the whole width is not defined, and no bits mean every address.
        self.bits == 0 || (ours ^ theirs) >> (width - u32::from(self.bits)) == 0
    }
}

/// Checks whether an address is one of a trusted proxy.
pub(crate) fn is_trusted(trusted: &[Network], address: IpAddr) -> bool {
    trusted.iter().any(|network| network.contains(address))
}

/// Returns the address of the client of a request: that of the peer, or the one that trusted proxies tell.
///
/// Each proxy adds the address of its peer at the end of `x-forwarded-for`. So the client is the last address that is not a trusted
/// proxy; everything before it may be made up. An entry that is no address ends the search.
pub(crate) fn client_address(trusted: &[Network], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    if !is_trusted(trusted, peer) {
        return peer.to_canonical();
    }
    let values: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
    let mut client = peer;
    for hop in values.iter().rev().flat_map(|value| value.rsplit(',')) {
        let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
        client = address;
        if !is_trusted(trusted, address) {
            break;
        }
    }
    client.to_canonical()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect("a network")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_network_has_the_addresses_that_share_its_bits() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.1.1", "11.0.0.1"),
            ("10.1.2.3/8", "10.9.9.9", "9.1.2.3"),
            ("192.168.1.7", "192.168.1.7", "192.168.1.6"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::1", "::1", "::2"),
            ("10.0.0.0/8", "::ffff:10.1.1.1", "::a01:101"),
        ] {
            assert!(network(text).contains(ip(inside)), "{text} {inside}");
            assert!(!network(text).contains(ip(outside)), "{text} {outside}");
        }
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0", "host", "10.0.0.0/-1", "10.0.0.0/"] {
            assert!(text.parse::<Network>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_client_is_the_last_address_that_no_trusted_proxy_has() {
        let trusted = [network("10.0.0.0/8"), network("127.0.0.1")];
        let client = |peer: &str, forwarded: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append("x-forwarded-for", HeaderValue::from_static(value));
            }
            client_address(&trusted, ip(peer), &headers)
        };
        assert_eq!(client("203.0.113.9", &["198.51.100.1"]), ip("203.0.113.9"), "the peer is not trusted");
        assert_eq!(client("10.0.0.1", &["1.1.1.1, 198.51.100.1, 10.0.0.2"]), ip("198.51.100.1"), "1.1.1.1 may be made up");
        assert_eq!(client("10.0.0.1", &["1.1.1.1", "198.51.100.1"]), ip("198.51.100.1"), "several headers are one list");
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), ip("10.0.0.3"), "the client is inside");
        assert_eq!(client("10.0.0.1", &["198.51.100.1, unknown, 10.0.0.2"]), ip("10.0.0.2"), "no address ends the search");
        assert_eq!(client("127.0.0.1", &[]), ip("127.0.0.1"));
    }
}
