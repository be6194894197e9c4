//! [`Issuer`]: one issuer of the configuration, with the keys that are known of it.
//!
//! Keys are fetched when the first token of the issuer is shown, so a provider that is down holds up no start of the server. They
//! are fetched again behind the requests that use them, and at once for a token whose key is unknown or was not used for a while.
//! Only one fetch runs at a time, and two begin at least [`KeyTimes::refetch`](super::KeyTimes::refetch) apart. Start reading at
//! [`Issuer::key`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::IssuerOptions;
use super::algorithm::SigningAlgorithm;
use super::client::KeyClient;
use super::endpoints::LogInEndpoints;
use super::fault::TokenFault;
use super::jwk::VerificationKey;
use super::jws::Jws;
use super::keys::{KeyLookup, KnownKeys};
use crate::AuthError;

/// One issuer of the configuration.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) options: IssuerOptions,
    pub(super) client: KeyClient,
    keys: Mutex<KnownKeys>,
    /// Held by whoever fetches.
    fetching: tokio::sync::Mutex<()>,
    /// Where users log in, and the time at which the issuer's document said so.
    endpoints: Mutex<Option<(Instant, Arc<LogInEndpoints>)>>,
}

impl Issuer {
    /// Makes the issuer. Sends no request.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](AuthError::Invalid) if an address or the certificates can't be used.
    pub(super) fn new(options: IssuerOptions) -> Result<Self, AuthError> {
        let client = KeyClient::new(&options)?;
        let (keys, fetching, endpoints) = (Mutex::default(), tokio::sync::Mutex::default(), Mutex::default());
        Ok(Self { options, client, keys, fetching, endpoints })
    }

    /// Checks that a token is signed by a key of the issuer, with an algorithm that the configuration allows.
    ///
    /// # Errors
    ///
    /// Returns [`Refused`](AuthError::Refused) with [`Algorithm`](TokenFault::Algorithm) or [`Signature`](TokenFault::Signature),
    /// and the errors of [`Self::key`].
    pub(super) async fn check_signature(self: &Arc<Self>, jws: &Jws<'_>) -> Result<(), AuthError> {
        if !self.options.algorithms.contains(&jws.algorithm) {
            return Err(TokenFault::Algorithm.into());
        }
        let key = self.key(jws.kid.as_deref(), jws.algorithm).await?;
        match key.verifies(jws.algorithm, jws.signed, &jws.signature) {
            true => Ok(()),
            false => Err(TokenFault::Signature.into()),
        }
    }

    /// Returns where users log in, as the issuer's own document has it. It is asked again as often as for keys.
    ///
    /// # Errors
    ///
    /// Returns [`ProviderUnavailable`](AuthError::ProviderUnavailable) if the document can't be fetched, or lacks an address.
    pub(super) async fn log_in_endpoints(&self) -> Result<Arc<LogInEndpoints>, AuthError> {
        let known = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((fetched, endpoints)) = known
            && fetched.elapsed() < self.options.key_times.refresh
        {
            return Ok(endpoints);
        }
        match self.client.log_in_endpoints().await {
            Ok(endpoints) => {
                let endpoints = Arc::new(endpoints);
                *self.endpoints.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), endpoints.clone()));
                Ok(endpoints)
            }
            Err(error) => {
                tracing::warn!(issuer = self.options.issuer, error, "nobody can log in: the provider's document can't be used");
                Err(AuthError::ProviderUnavailable { issuer: self.options.issuer.clone() })
            }
        }
    }

    /// Returns the key for a token.
    ///
    /// # Errors
    ///
    /// Returns [`KeysUnavailable`](AuthError::KeysUnavailable) if no key fits and the provider does not answer, and
    /// [`Refused`](AuthError::Refused) with [`Key`](TokenFault::Key) if it has no such key.
    pub(super) async fn key(
        self: &Arc<Self>,
        kid: Option<&str>,
        algorithm: SigningAlgorithm,
    ) -> Result<Arc<VerificationKey>, AuthError> {
        match self.find(kid, algorithm) {
            KeyLookup::Fresh(key) => return Ok(key),
            KeyLookup::Stale(key) => {
                let issuer = Arc::clone(self);
                tokio::spawn(async move { issuer.fetch_if_due().await });
                return Ok(key);
            }
            KeyLookup::Overdue(_) | KeyLookup::Missing => {}
        }
        let issuer = Arc::clone(self);
        // A task of its own: a client that goes away does not end a fetch for which others wait.
        if let Err(error) = tokio::spawn(async move { issuer.fetch_if_due().await }).await {
            tracing::error!(issuer = self.options.issuer, %error, "the fetch of signing keys hit a bug");
        }
        match self.find(kid, algorithm) {
            KeyLookup::Fresh(key) | KeyLookup::Stale(key) | KeyLookup::Overdue(key) => Ok(key),
            KeyLookup::Missing if self.known().may_be_incomplete(Instant::now(), &self.options.key_times) => {
                Err(AuthError::KeysUnavailable { issuer: self.options.issuer.clone() })
            }
            KeyLookup::Missing => Err(TokenFault::Key.into()),
        }
    }

    /// Looks for a key among the known ones.
    fn find(&self, kid: Option<&str>, algorithm: SigningAlgorithm) -> KeyLookup {
        self.known().find(kid, algorithm, Instant::now(), &self.options.key_times)
    }

    /// Returns the known keys. No holder waits for anything.
    fn known(&self) -> MutexGuard<'_, KnownKeys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches the keys, unless a fetch began a moment ago. Waits for one that runs.
    async fn fetch_if_due(&self) {
        let _one = self.fetching.lock().await;
        let times = &self.options.key_times;
        if !self.known().begin_fetch(Instant::now(), times) {
            return;
        }
        match self.client.fetch().await {
            Ok(keys) => {
                tracing::debug!(issuer = self.options.issuer, keys = keys.len(), "signing keys fetched");
                self.known().store(keys, Instant::now(), times);
            }
            Err(error) => {
                tracing::warn!(issuer = self.options.issuer, error, "signing keys can't be fetched; the known ones go on");
                self.known().fail();
            }
        }
    }
}
