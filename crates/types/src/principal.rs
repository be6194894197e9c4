use std::fmt;

/// Who makes a request. Every request has one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Whoever showed the token of this name.
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
