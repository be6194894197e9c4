//! Basic authentication, which the ODBC and JDBC drivers of Flight SQL use: the user is the name of a principal, the password is
//! one of its tokens.
//!
//! A driver sends both with a handshake, and then sends the bearer token of the answer with each call. Every call takes Basic
//! authentication, too. Spec: RFC 7617.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The name of a principal and its token, as a client sent them. It has no `Debug`, so that no log can have the token.
pub(crate) struct BasicCredentials {
    /// The name of the principal.
    pub(crate) user: String,
    /// The token. It is empty if the client has none.
    pub(crate) token: String,
}

/// A header with the scheme Basic that has no user and password.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads a header `authorization`; `None` if it has another scheme.
///
/// # Errors
///
/// Returns [`Malformed`] if what follows the scheme is not Base64 of a text with a colon.
pub(crate) fn basic_credentials(header: &[u8]) -> Option<Result<BasicCredentials, Malformed>> {
    let at = header.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = header.split_at(at);
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let decoded = STANDARD.decode(rest.trim_ascii()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let parts = decoded.as_deref().and_then(|text| text.split_once(':'));
    let credentials = parts.map(|(user, token)| BasicCredentials { user: user.to_owned(), token: token.trim().to_owned() });
    Some(credentials.ok_or(Malformed))
}

/// Returns the token of a header `authorization`, with the scheme Basic or Bearer; `None` if it has none.
pub(crate) fn token_of(header: &[u8]) -> Option<String> {
    let token = match basic_credentials(header) {
        Some(basic) => basic.ok()?.token,
        None => {
            let at = header.iter().position(|byte| *byte == b' ')?;
            std::str::from_utf8(header[at..].trim_ascii()).ok()?.to_owned()
        }
    };
    (!token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_and_a_token_are_read_from_a_header() {
        let parts = |header: &[u8]| basic_credentials(header).map(|basic| basic.map(|basic| (basic.user, basic.token)));
        let read = |text: &str| parts(format!("Basic {}", STANDARD.encode(text)).as_bytes());
        let of = |user: &str, token: &str| Some(Ok((user.to_owned(), token.to_owned())));
        assert_eq!(read("ann:esk_1"), of("ann", "esk_1"));
        assert_eq!(read("ann:a:b "), of("ann", "a:b"), "only the first colon separates");
        assert_eq!(read(":"), of("", ""));
        assert_eq!(read("ann"), Some(Err(Malformed)));
        assert_eq!(parts(b"basic YTpi"), of("a", "b"));
        for wrong in [b"Basic ?".as_slice(), b"Basic ", b"Basic /w==", b"Basic \xff"] {
            assert_eq!(parts(wrong), Some(Err(Malformed)), "{wrong:?}");
        }
        for other in [b"Bearer YTpi".as_slice(), b"", b"Basic", b"basically YTpi"] {
            assert_eq!(parts(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_handshake_gives_back_the_token_of_either_scheme() {
        assert_eq!(token_of(b"Basic YTpi").as_deref(), Some("b"));
        assert_eq!(token_of(b"bearer  abc ").as_deref(), Some("abc"));
        for none in [b"".as_slice(), b"Bearer ", b"Basic Og==", b"Basic ?"] {
            assert_eq!(token_of(none), None, "{none:?}");
        }
    }
}
