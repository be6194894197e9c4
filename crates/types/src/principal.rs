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

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(name) => f.write_str(name),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}
