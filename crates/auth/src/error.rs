//! [`AuthError`]: the refusals of authentication, and the failures behind it.

use esker_access::RightsError;
use esker_state::StateError;
use esker_types::{Coded, ErrorCode};

use crate::{LogInFault, TokenFault};

/// A request without a valid principal, or a change of tokens that can't be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The request has no token.
    #[error("no token: send 'authorization: Bearer TOKEN', with the token printed at the first start")]
    Missing,
    /// The token is not known, has ended, was revoked, or belongs to another client.
    #[error("the token is not valid")]
    Unknown,
    /// The client certificate has ended, belongs to no client, or belongs to several.
    #[error("the client certificate {0}")]
    Certificate(String),
    /// The token of an identity provider is not valid.
    #[error("the token is not valid: {0}")]
    Refused(TokenFault),
    /// The keys of an issuer are not known, and its provider does not answer.
    #[error("the signing keys of {issuer} can't be fetched; try again, and see the server's log")]
    KeysUnavailable {
        /// The issuer.
        issuer: String,
    },
    /// The identity provider does not answer, or not as OpenID Connect says.
    #[error("the identity provider {issuer} does not answer as it should; try again, and see the server's log")]
    ProviderUnavailable {
        /// The issuer.
        issuer: String,
    },
    /// A log-in at an identity provider is refused.
    #[error("{0}")]
    LogIn(LogInFault),
    /// No token has this id.
    #[error("token {0} does not exist; `esker token list` shows the ids")]
    NoSuchToken(String),
    /// The name can't be that of a principal with tokens, the label is too long, or an issuer's options can't be used.
    #[error("{0}")]
    Invalid(String),
    /// The caller has no token, and may not make or revoke one.
    #[error("callers without a token can't make or revoke tokens; run `esker token` on the server's machine")]
    AnonymousCaller,
    /// The token would end later than the chain of the token that the caller sent.
    #[error(
        "a token ends no later than the chain of its maker's token, which ends in {0} seconds; give a smaller expires-seconds"
    )]
    OutlivesCaller(u64),
    /// The rules of access control refuse a request or a change of themselves.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// Nobody could manage access after the change.
    #[error(
        "nobody with a token could manage access after this change; first make a client with a token a member of esker:admin, \
         with `esker access member add esker:admin client:NAME`, or on the server's machine with `esker access bootstrap NAME`"
    )]
    LocksOut,
    /// The rules in the database make no sense, or the database did not give them to another request, for which this one waited.
    #[error("the rules of access control can't be read: {text}")]
    Rules {
        /// The code of the error.
        code: ErrorCode,
        /// The text of the error.
        text: String,
    },
    /// The audit trail can't be written, and changes need a record.
    #[error("nothing was changed, because the audit trail can't be written (audit.required): {0}")]
    Unrecorded(#[source] StateError),
    /// A key that authenticates what clients carry is missing, or can't be encrypted or decrypted.
    #[error("{0}")]
    Keys(String),
    /// The server can't use the keys that authenticate what clients carry. Its log says why; clients are not told.
    #[error("the server can't use its keys for tickets and plan tasks; its log says why")]
    KeysUnusable,
    /// The system gives no random numbers.
    #[error("random numbers of the system: {0}")]
    Random(getrandom::Error),
    /// The state database failed.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<LogInFault> for AuthError {
    fn from(fault: LogInFault) -> Self {
        Self::LogIn(fault)
    }
}

impl From<TokenFault> for AuthError {
    fn from(fault: TokenFault) -> Self {
        Self::Refused(fault)
    }
}

impl Coded for AuthError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Missing | Self::Unknown | Self::Certificate(_) | Self::Refused(_) => ErrorCode::Unauthenticated,
            Self::KeysUnavailable { .. } | Self::ProviderUnavailable { .. } | Self::Unrecorded(_) => ErrorCode::Unavailable,
            Self::LogIn(LogInFault::Unknown) => ErrorCode::NotFound,
            Self::LogIn(LogInFault::NotBegun) => ErrorCode::Forbidden,
            Self::LogIn(_) => ErrorCode::Unauthenticated,
            Self::NoSuchToken(_) => ErrorCode::NotFound,
            Self::Invalid(_) => ErrorCode::BadRequest,
            Self::AnonymousCaller | Self::OutlivesCaller(_) => ErrorCode::Forbidden,
            Self::Random(_) | Self::Keys(_) | Self::KeysUnusable => ErrorCode::Internal,
            Self::LocksOut => ErrorCode::Refused,
            Self::Rules { code, .. } => *code,
            Self::Rights(e) => e.code(),
            Self::State(e) => e.code(),
        }
    }
}
