//! The log-in of users to the web page at their identity provider, and the log-out there.
//!
//! The session rests on a token of Esker that nobody knows: only its SHA-256 is kept. It is the root of a chain, so it is listed,
//! and its revocation ends the session. Start reading at [`Authenticator::begin_log_in`].

use std::fmt;
use std::time::Duration;

use esker_types::{Principal, now_ms};

use crate::oidc::{BegunLogIn, LogInAnswer};
use crate::{AuthError, Authenticated, Authenticator};

/// The label of a token on which a log-in rests.
const LABEL: &str = "log-in to the page at the identity provider";

/// A provider at which users log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogInProvider {
    /// The name of its section in the configuration, which is a part of addresses.
    pub name: String,
    /// The text of its button.
    pub label: String,
}

/// A log-in that a provider has confirmed.
pub struct FinishedLogIn {
    /// The user.
    pub caller: Authenticated,
    /// The SHA-256 of the token on which the session rests, in hexadecimal.
    pub token_sha256: String,
    /// The page that the reader wants, as the browser sent it when the log-in began.
    pub next: String,
}

impl fmt::Debug for FinishedLogIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FinishedLogIn").field("principal", &self.caller.principal).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// Returns the providers at which users log in to the page, by name.
    pub fn log_in_providers(&self) -> Vec<LogInProvider> {
        let named = self.providers.with_log_in();
        named.map(|options| LogInProvider { name: options.name.clone(), label: options.label.clone() }).collect()
    }

    /// Begins a log-in at a provider. `redirect_uri` is the address to which the provider sends the browser back.
    ///
    /// # Errors
    ///
    /// Returns [`LogIn`](AuthError::LogIn) if the configuration has no log-in at this provider,
    /// [`ProviderUnavailable`](AuthError::ProviderUnavailable) if its document can't be used, and [`Random`](AuthError::Random) if
    /// the system gives no random numbers.
    pub async fn begin_log_in(&self, provider: &str, redirect_uri: &str, next: &str) -> Result<BegunLogIn, AuthError> {
        self.providers.begin_log_in(provider, redirect_uri, next, now_ms()).await
    }

    /// Finishes a log-in with what the browser brings back.
    ///
    /// # Errors
    ///
    /// - Returns [`LogIn`](AuthError::LogIn) if the answer does not belong to a log-in of this browser, if it is that of another
    ///   issuer, if it is an error, or if the provider does not exchange the code.
    /// - Returns [`Refused`](AuthError::Refused) if the ID token is not valid.
    /// - Returns [`ProviderUnavailable`](AuthError::ProviderUnavailable) or [`KeysUnavailable`](AuthError::KeysUnavailable) if the
    ///   provider does not answer.
    /// - Returns [`State`](AuthError::State) if the database fails, and [`Random`](AuthError::Random) if the system gives no random
    ///   numbers.
    pub async fn finish_log_in(&self, answer: LogInAnswer<'_>) -> Result<FinishedLogIn, AuthError> {
        let (user, next) = self.providers.finish_log_in(answer, now_ms()).await?;
        let (token, _) = self.begin_chain(&user, LABEL, Duration::MAX).await?;
        Ok(FinishedLogIn { caller: Authenticated::of_user(&user), token_sha256: token.hash(), next })
    }

    /// Returns the address at which a principal logs out of its identity provider, which sends the browser to `back` then.
    ///
    /// Returns `None` if the principal is no user, if its issuer has no log-in, or if the provider has no log-out or is down.
    pub async fn log_out_url(&self, principal: &Principal, back: &str) -> Option<String> {
        match principal {
            Principal::User { issuer, .. } => self.providers.log_out_url(issuer, back).await,
            Principal::Token(_) | Principal::Anonymous => None,
        }
    }
}
