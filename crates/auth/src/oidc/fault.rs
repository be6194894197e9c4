//! [`TokenFault`]: the reasons for which a token of an identity provider is refused.

use std::fmt;

/// The reason for which a token of an identity provider is refused. Its text is for the sender of the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenFault {
    /// The token has more bytes than the server reads.
    TooLong,
    /// A part of the token is not Base64 or no JSON object.
    Malformed,
    /// The header names no algorithm, one that is not allowed, or one with a shared secret.
    Algorithm,
    /// The header has the type of tokens for another purpose.
    Type,
    /// The header asks for an extension.
    Critical,
    /// The issuer is not one of the configuration.
    Issuer,
    /// The issuer has no such key, or none for this algorithm.
    Key,
    /// The signature is not that of the issuer's key.
    Signature,
    /// The token is for other services.
    Audience,
    /// The token has ended, or does not say when it ends.
    Expired,
    /// The token is not valid yet, or was issued in the future.
    NotYet,
    /// The token is valid for longer than the configuration accepts, or does not say since when.
    Lifetime,
    /// The claim with the user's name is missing, or can't be a name.
    Name(String),
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "it is too long",
            Self::Malformed => "its form is wrong",
            Self::Algorithm => "its algorithm is not accepted",
            Self::Type => "it is a token for another purpose",
            Self::Critical => "it asks for an extension (crit)",
            Self::Issuer => "its issuer is not known here",
            Self::Key => "its issuer has no such key",
            Self::Signature => "its signature is wrong",
            Self::Audience => "it is for another audience",
            Self::Expired => "it has ended",
            Self::NotYet => "it is not valid yet",
            Self::Lifetime => "it is valid for too long",
            Self::Name(claim) => return write!(f, "its claim {claim} is no name"),
        })
    }
}
