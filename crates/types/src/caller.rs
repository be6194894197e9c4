//! The origin of a request, as far as it is known before the caller is authenticated. REST and Flight SQL share the rule.

use std::net::IpAddr;

/// The headers by which a proxy says for whom it asks. A request with one of them does not come from the machine of the socket.
pub const FORWARDED_HEADERS: [&str; 13] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
    "via",
    // Of Cloudflare, Akamai, Fastly, Envoy, and proxies of clusters. Some send no other one.
    "cf-connecting-ip",
    "true-client-ip",
    "x-client-ip",
    "fastly-client-ip",
    "x-envoy-external-address",
    "x-cluster-client-ip",
];

/// Checks whether a proxy passes a request on. Its certificate is then that of the proxy.
///
/// `has_header` tells if the request has a header of a name, in lower case.
pub fn is_passed_on(has_header: impl Fn(&str) -> bool) -> bool {
    FORWARDED_HEADERS.into_iter().any(has_header)
}

/// Checks that a request comes from this machine: its socket is on loopback, and no proxy passes it on.
///
/// `has_header` tells if the request has a header of a name, in lower case.
pub fn is_from_loopback(socket: IpAddr, has_header: impl Fn(&str) -> bool) -> bool {
    // A socket that listens on IPv6 shows IPv4 addresses in the form of IPv6.
    socket.to_canonical().is_loopback() && !is_passed_on(has_header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_on_loopback_without_a_proxy_are_from_loopback() {
        let from = |socket: &str, header: &str| is_from_loopback(socket.parse().expect("an address"), |name| name == header);
        for socket in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(from(socket, "user-agent"), "{socket}");
            for name in FORWARDED_HEADERS {
                assert!(!from(socket, name), "{socket} {name}");
            }
        }
        for socket in ["10.0.0.1", "0.0.0.0", "::ffff:10.0.0.1"] {
            assert!(!from(socket, "user-agent"), "{socket}");
        }
    }
}
