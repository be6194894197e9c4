//! [`TokenFault`] and [`LogInFault`]: the reasons for which a token of an identity provider or a log-in there is refused.

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
    /// The token was made for another log-in, or for none.
    Nonce,
    /// The token was made for another client (`azp`).
    Client,
    /// The token does not belong to the access token that came with it (`at_hash`).
    AccessToken,
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
            Self::Nonce => "it was made for another log-in",
            Self::Client => "it was made for another client",
            Self::AccessToken => "it belongs to another access token",
        })
    }
}

/// The reason for which a log-in at an identity provider is refused. Its text is for the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogInFault {
    /// The configuration has no log-in at this provider.
    Unknown,
    /// The browser has not begun this log-in, or has begun it too long ago.
    NotBegun,
    /// The provider answers with an error: it did not log the user in.
    Denied,
    /// The answer names another issuer than the one at which the log-in began, or none where it must.
    Issuer,
    /// The provider does not exchange the code, or exchanges it for no ID token.
    Code,
}

impl fmt::Display for LogInFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "no such identity provider",
            Self::NotBegun => "the log-in was not begun in this browser, or was begun too long ago",
            Self::Denied => "the identity provider did not log you in",
            Self::Issuer => "the answer is that of another identity provider",
            Self::Code => "the identity provider did not confirm the log-in",
        })
    }
}
