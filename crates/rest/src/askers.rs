//! [`RuleAuthorities`]: the rights of who asked for a job, by the rules as they are when it begins or a worker claims it.

use esker_access::AccessMode;
use esker_auth::{AccessControl, AuthError, Authenticator};
use esker_catalog::Authority;
use esker_maintenance::JobAuthorities;
use esker_state::JobAsker;
use esker_types::CodedError;
use futures::FutureExt;
use futures::future::BoxFuture;

/// Finds the authority of who asked for a job in the rules of access control.
#[derive(Debug, Clone)]
pub struct RuleAuthorities {
    /// Knows who was shut out.
    pub auth: Authenticator,
    /// The rules.
    pub access: AccessControl,
}

impl RuleAuthorities {
    /// Returns the authority of an asker. A client whose tokens were all revoked has none in the mode `on`.
    ///
    /// The request is over: access policies whose conditions read its facts permit nothing, and forbid.
    async fn authority(&self, asker: &JobAsker) -> Result<Authority, AuthError> {
        let caller = self.access.caller_without_request(asker.identity(), "startJob").await?;
        if let JobAsker::Client { name } = asker
            && caller.subject().rules().mode() == AccessMode::On
        {
            self.auth.check_not_shut_out(name).await?;
        }
        Ok(Authority::Caller(caller))
    }
}

impl JobAuthorities for RuleAuthorities {
    fn find<'a>(&'a self, asker: &'a JobAsker) -> BoxFuture<'a, Result<Authority, CodedError>> {
        async move { self.authority(asker).await.map_err(CodedError::new) }.boxed()
    }

    fn enforces(&self) -> BoxFuture<'_, Result<bool, CodedError>> {
        async move { Ok(self.access.rules().await.map_err(CodedError::new)?.mode() == AccessMode::On) }.boxed()
    }
}
