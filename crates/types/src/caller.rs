//! Headers that tell of the caller of a request before the caller is authenticated. REST and Flight SQL share the rules.

/// The headers by which a proxy says for whom it asks. A request with one of them does not come from the machine of the socket.
pub const FORWARDED_HEADERS: [&str; 7] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-real-ip", "via"];

/// Checks whether the header `authorization` shows a bearer token.
///
/// An empty token counts as none: PyIceberg sends one if no token is configured. A caller that shows a token wants to be the
/// token's principal, so a wrong one is an error even where callers need none.
pub fn shows_token(authorization: &[u8]) -> bool {
    let Some(space) = authorization.iter().position(|byte| *byte == b' ') else { return false };
    authorization[..space].eq_ignore_ascii_case(b"bearer") && !authorization[space..].trim_ascii().is_empty()
}

#[cfg(test)]
mod tests {
    use super::shows_token;

    #[test]
    fn an_empty_bearer_token_and_other_schemes_show_none() {
        for header in ["", "Bearer", "Bearer ", "bearer   ", "Basic YTpi", "token x"] {
            assert!(!shows_token(header.as_bytes()), "{header:?}");
        }
        for header in ["Bearer x", "bEARER  x ", "Bearer a b"] {
            assert!(shows_token(header.as_bytes()), "{header:?}");
        }
        assert!(shows_token(b"Bearer \xff"), "a token that is no text is a wrong one");
    }
}
