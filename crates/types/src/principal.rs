//! The identity that a request is made under.

use std::fmt;

/// The identity that a request is made under. Every accepted request has one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A caller that presented a valid token. The string is the token's name, not its secret.
    Token(String),
    /// A person or service that an identity provider knows.
    User {
        /// Issuer of the tokens, exactly as they say it. It is a URL, so it has no space.
        issuer: String,
        /// Name of the user at the issuer.
        name: String,
    },
    /// A caller on loopback, where the configuration allows callers without a token.
    Anonymous,
}

impl Principal {
    /// The kind of principals that have a token, as the database keeps it.
    pub const CLIENT: &'static str = "client";

    /// The kind of principals that an identity provider knows, as the database keeps it.
    pub const USER: &'static str = "user";

    /// Returns a text that no two principals share: the kind with the name, such as `client:admin`, and for a user with the issuer
    /// before the name: `user:https://idp.example ann`.
    ///
    /// The displayed name does not tell a token called `anonymous` from a caller without a token.
    pub fn identity(&self) -> String {
        match self {
            Self::Token(name) => format!("{}:{name}", Self::CLIENT),
            Self::User { issuer, name } => format!("{}:{issuer} {name}", Self::USER),
            Self::Anonymous => "anonymous".to_owned(),
        }
    }
}

/// Prints the name that jobs, events and logs have: `client`, `ISSUER/user`, `anonymous`.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(name) => f.write_str(name),
            Self::User { issuer, name } => write!(f, "{issuer}/{name}"),
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

    #[test]
    fn no_two_principals_have_one_identity_whatever_their_names_are() {
        let user = |issuer: &str, name: &str| Principal::User { issuer: issuer.to_owned(), name: name.to_owned() };
        let principals = [
            user("https://a", "b/c"),
            user("https://a/b", "c"),
            user("https://a", "b c"),
            Principal::Token("https://a/b/c".to_owned()),
            Principal::Token("user:https://a b c".to_owned()),
            Principal::Anonymous,
        ];
        assert_eq!(principals[0].to_string(), principals[1].to_string());
        assert_eq!(principals[0].to_string(), principals[3].to_string());
        for (i, one) in principals.iter().enumerate() {
            for other in &principals[i + 1..] {
                assert!(one != other && one.identity() != other.identity(), "{one:?} {other:?}");
            }
        }
    }
}
