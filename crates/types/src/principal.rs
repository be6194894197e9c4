//! The identity that a request is made under.

use std::fmt;

/// The identity that a request is made under. Every accepted request has one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A caller that presented a valid token. The string is the token's name, not its secret.
    Token(String),
    /// A caller on loopback, where the configuration allows callers without a token.
    Anonymous,
}

impl Principal {
    /// The kind of principals that have a token, as the database keeps it.
    pub const CLIENT: &'static str = "client";

    /// Returns a text that no two principals share: the kind with the name, such as `client:admin`.
    ///
    /// The displayed name does not tell a token called `anonymous` from a caller without a token.
    pub fn identity(&self) -> String {
        match self {
            Self::Token(name) => format!("{}:{name}", Self::CLIENT),
            Self::Anonymous => "anonymous".to_owned(),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(name) => f.write_str(name),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_called_anonymous_is_told_from_a_caller_without_a_token() {
        let named = Principal::Token("anonymous".to_owned());
        assert_eq!(named.to_string(), Principal::Anonymous.to_string());
        assert_ne!(named.identity(), Principal::Anonymous.identity());
    }
}
