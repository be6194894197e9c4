//! Tokens: made by people, rotated, issued in exchange, listed and revoked.
//!
//! A person makes a token, which is the root of a chain. `POST /v1/oauth/tokens` issues the next token of the chain in exchange for
//! one that counts. Each issued token ends after `auth.tokens.access_seconds`, and the chain after
//! `auth.tokens.max_session_seconds` or with its root, whichever comes first. Start reading at [`Authenticator::issue`].
//!
//! The token of an identity provider begins a chain too. The root of that chain is the first token that is issued in exchange, and
//! the chain ends with the provider's token.

use std::time::Duration;

use esker_state::{NewToken, TokenRow};
use esker_types::{DAY_MS, DurationMillis, Millis, Principal, now_ms, to_millis};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::access_control::BREAK_GLASS_PREFIX;
use crate::{
    AuthError, AuthOptions, Authenticated, Authenticator, ScramVerifier, SecretToken, TokenFault, VerifiedUser, principal_of,
    token_hash,
};

/// The maximum length of a principal's name and of a label, in bytes.
const MAX_TEXT_BYTES: usize = 200;

/// The claims of a principal that is no user.
const NO_CLAIMS: &str = "[]";

/// The label of a token that was issued in exchange for one of an identity provider.
const EXCHANGED: &str = "in exchange for a token of the identity provider";

/// The label of a token on which a log-in to the page rests.
const PAGE: &str = "log-in to the page with a token of the identity provider";

/// The label of a token that replaced the others of its client.
const ROTATED: &str = "rotated";

/// The time after its end in which a token can be exchanged by a client that proves who it is, in milliseconds.
const ENDED_EXCHANGE_MS: DurationMillis = DAY_MS;

/// The time for which a token that ended or was revoked stays in the list, in milliseconds.
const LISTED_AFTER_END_MS: DurationMillis = 30 * DAY_MS;

/// A token that was issued in exchange for another one.
#[derive(Debug)]
pub struct IssuedToken {
    /// The token.
    pub token: SecretToken,
    /// The seconds until the token ends.
    pub expires_seconds: i64,
    /// The principal of the token.
    pub principal: Principal,
}

/// A token that a person made.
#[derive(Debug)]
pub struct MadeToken {
    /// The token, to be shown once.
    pub token: SecretToken,
    /// The token as the list has it.
    pub info: TokenInfo,
}

/// A token that a person made, or the first one that a user's token of an identity provider was exchanged for. It has no text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TokenInfo {
    /// The id of the token. It is `principal:NAME` for a token of the configuration, of the first start or of an earlier release.
    pub id: String,
    /// The name of the principal. That of a user has the issuer before it: `https://idp.example/ann`.
    pub principal: String,
    /// The purpose of the token, in the words of the person who made it.
    pub label: String,
    /// The time at which the token was made, in milliseconds since the Unix epoch.
    pub created_ms: Millis,
    /// The time at which the token ends, in milliseconds since the Unix epoch; null if it does not.
    pub expires_ms: Option<Millis>,
    /// The time at which the token was revoked, in milliseconds since the Unix epoch.
    pub revoked_ms: Option<Millis>,
    /// The time of the last use, in milliseconds since the Unix epoch and at most a minute behind; null if none is recorded.
    pub last_used_ms: Option<Millis>,
    /// The number of tokens that were issued in exchange for this one and have not ended.
    pub issued: i64,
}

impl TokenInfo {
    /// Checks that the token can be used at the time `now`.
    pub fn is_valid(&self, now: Millis) -> bool {
        self.revoked_ms.is_none() && self.expires_ms.is_none_or(|end| end > now)
    }

    fn of((row, issued): (TokenRow, i64)) -> Self {
        let principal = principal_of(&row).to_string();
        let TokenRow { id, label, created_ms, expires_ms, revoked_ms, last_used_ms, .. } = row;
        Self { id, principal, label, created_ms, expires_ms, revoked_ms, last_used_ms, issued }
    }
}

impl Authenticator {
    /// Makes a token of a principal. It does not end if `lifetime` is `None`.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](AuthError::Invalid) if the name, the label or the lifetime can't be used, [`Random`](AuthError::Random)
    /// if the system gives no random numbers, and [`State`](AuthError::State) if the database fails.
    pub async fn make(&self, principal: &str, label: &str, lifetime: Option<Duration>) -> Result<MadeToken, AuthError> {
        let now = now_ms();
        self.make_until(principal, label, now, lifetime.map(|life| now.saturating_add(to_millis(life)))).await
    }

    /// Makes a token that ends at `expires_ms`. `created_ms` is the time at which the end was decided.
    async fn make_until(
        &self,
        principal: &str,
        label: &str,
        created_ms: Millis,
        expires_ms: Option<Millis>,
    ) -> Result<MadeToken, AuthError> {
        self.store(principal, label, created_ms, expires_ms, None).await
    }

    /// Makes a token and stores it. The other tokens of the client end at `others_end_ms` at the latest, if it is given.
    async fn store(
        &self,
        principal: &str,
        label: &str,
        created_ms: Millis,
        expires_ms: Option<Millis>,
        others_end_ms: Option<Millis>,
    ) -> Result<MadeToken, AuthError> {
        check_name(principal)?;
        check_label(label)?;
        if expires_ms.is_some_and(|end| end <= created_ms) {
            return Err(AuthError::Invalid("a token that ends at once is of no use; give a longer time, or none".to_owned()));
        }
        let (token, id) = (SecretToken::generate()?, Uuid::now_v7().to_string());
        let row = NewToken {
            id: &id,
            token_sha256: &token.hash(),
            principal_kind: Principal::CLIENT,
            principal,
            label,
            root_id: &id,
            created_ms,
            expires_ms,
            root_expires_ms: expires_ms,
            issuer: "",
            claims: NO_CLAIMS,
        };
        let verifier = ScramVerifier::of(principal, token.text()).to_string();
        match others_end_ms {
            None => self.state.tokens().insert(&row, Some(&verifier)).await?,
            Some(end) => {
                self.state.tokens().rotate(&row, Some(&verifier), end).await?;
                self.known.invalidate_all();
            }
        }
        let (principal, label) = (principal.to_owned(), label.to_owned());
        let info = TokenInfo { id, principal, label, created_ms, expires_ms, revoked_ms: None, last_used_ms: None, issued: 0 };
        Ok(MadeToken { token, info })
    }

    /// Makes a token of a client. The client's other tokens end after `overlap` at the latest, with all that were issued in exchange.
    ///
    /// The end holds on this server at once, and on the others within [`REVOCATION_SECONDS`](crate::REVOCATION_SECONDS).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::make`].
    pub async fn rotate(&self, client: &str, overlap: Duration, lifetime: Option<Duration>) -> Result<MadeToken, AuthError> {
        let now = now_ms();
        let end = lifetime.map(|life| now.saturating_add(to_millis(life)));
        self.store(client, ROTATED, now, end, Some(now.saturating_add(to_millis(overlap)))).await
    }

    /// Rotates the tokens of a client for a caller: of the client `principal`, or of the caller if `principal` is `None`.
    ///
    /// The new token ends no later than the chain of the caller's token, as that of [`Self::make_for`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::make_for`].
    pub async fn rotate_for(
        &self,
        caller: &Authenticated,
        principal: Option<&str>,
        overlap: Duration,
        lifetime: Option<Duration>,
    ) -> Result<MadeToken, AuthError> {
        let now = now_ms();
        let (client, end) = new_token_for(caller, principal, now, lifetime)?;
        self.store(client, ROTATED, now, end, Some(now.saturating_add(to_millis(overlap)))).await
    }

    /// Makes a token for a caller: one of the client `principal`, or of the caller if `principal` is `None`.
    ///
    /// A user gets tokens from the identity provider alone, so a caller that is one has to name a client.
    ///
    /// The token ends no later than the chain of the caller's token, so that nobody prolongs a stolen token. Without `lifetime`, it
    /// ends with that chain. The token is the root of a chain of its own: a revocation of the caller's token does not end it.
    ///
    /// # Errors
    ///
    /// - Returns [`AnonymousCaller`](AuthError::AnonymousCaller) if the caller has no token.
    /// - Returns [`OutlivesCaller`](AuthError::OutlivesCaller) if the token would end later than the caller's chain.
    /// - Returns [`Invalid`](AuthError::Invalid) if the name is one of an emergency and not the caller's own, or if the caller is a user and
    ///   names no client.
    /// - Returns the errors of [`Self::make`].
    pub async fn make_for(
        &self,
        caller: &Authenticated,
        principal: Option<&str>,
        label: &str,
        lifetime: Option<Duration>,
    ) -> Result<MadeToken, AuthError> {
        let now = now_ms();
        let (client, end) = new_token_for(caller, principal, now, lifetime)?;
        self.make_until(client, label, now, end).await
    }

    /// Issues a token in exchange for one that counts.
    ///
    /// A client's secret is a token of its principal. A token that is about to end can be exchanged for the next one, until its
    /// chain ends. `client` is the principal's name, if the client sends it, and must match.
    ///
    /// Spec: REST `getToken`; RFC 6749, section 4.4; RFC 8693.
    ///
    /// # Errors
    ///
    /// Returns [`Unknown`](AuthError::Unknown) if the token does not count or belongs to another principal than `client`,
    /// [`Random`](AuthError::Random) if the system gives no random numbers, and [`State`](AuthError::State) if the database fails.
    pub async fn issue(&self, client: Option<&str>, shown: &str) -> Result<IssuedToken, AuthError> {
        let is_client = |row: &TokenRow, name: &str| row.principal_kind == Principal::CLIENT && row.principal == name;
        let shown = self.find(shown).await?.filter(|row| client.is_none_or(|name| is_client(row, name)));
        let shown = shown.ok_or(AuthError::Unknown)?;
        self.next_of_chain(&shown).await
    }

    /// Issues a token in exchange for a subject token: one of Esker, or one of an identity provider.
    ///
    /// A subject token that ended less than a day ago is taken from the same client only, if that sends name and secret as well:
    /// Java does so after a pause. A chain of its own begins then.
    ///
    /// Spec: RFC 8693.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::issue`], [`Refused`](AuthError::Refused) if the token of an identity provider is not valid,
    /// and [`KeysUnavailable`](AuthError::KeysUnavailable) if its key can't be fetched.
    pub async fn exchange(&self, subject: &str, client: Option<(&str, &str)>) -> Result<IssuedToken, AuthError> {
        if self.providers.reads(subject) {
            let user = self.providers.verify(subject).await?;
            let (token, expires_ms) = self.begin_chain(&user, EXCHANGED, self.options.access).await?;
            let expires_seconds = expires_ms.saturating_sub(now_ms()) / 1000;
            return Ok(IssuedToken { token, expires_seconds, principal: Authenticated::of_user(&user).principal });
        }
        if let Some(row) = self.find(subject).await? {
            return self.next_of_chain(&row).await;
        }
        let (name, secret) = client.ok_or(AuthError::Unknown)?;
        let hash = token_hash(subject);
        let ended = self.state.tokens().ended_since(&hash, now_ms().saturating_sub(ENDED_EXCHANGE_MS)).await?;
        match ended {
            Some((kind, owner)) if kind == Principal::CLIENT && (name.is_empty() || name == owner) => {
                self.issue(Some(&owner), secret).await
            }
            _ => Err(AuthError::Unknown),
        }
    }

    /// Begins a log-in to the web page. Returns its caller, and the SHA-256 of the token with which the log-in ends.
    ///
    /// A token of Esker is that token itself. One of an identity provider is in no database, so another one with its end is.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::authenticate_token`], and [`Random`](AuthError::Random) if the system gives no random numbers.
    pub async fn begin_session(&self, token: &str) -> Result<(Authenticated, String), AuthError> {
        if !self.providers.reads(token) {
            return Ok((self.authenticate_token(token).await?, token_hash(token)));
        }
        let user = self.providers.verify(token).await?;
        let (own, _) = self.begin_chain(&user, PAGE, Duration::MAX).await?;
        Ok((Authenticated::of_user(&user), own.hash()))
    }

    /// Returns the caller of a log-in to the web page; `None` if its token, whose SHA-256 this is, does not count any more.
    ///
    /// # Errors
    ///
    /// Returns [`State`](AuthError::State) if the database fails.
    pub async fn resume_session(&self, token_sha256: &str) -> Result<Option<Authenticated>, AuthError> {
        let row = self.state.tokens().live(token_sha256, now_ms()).await?.filter(|row| self.knows_principal(row));
        row.map(|row| Authenticated::of_token(row.into())).transpose()
    }

    /// Issues the first token of a chain that ends with a user's token of the identity provider. Returns its end as well.
    pub(crate) async fn begin_chain(
        &self,
        user: &VerifiedUser,
        label: &str,
        life: Duration,
    ) -> Result<(SecretToken, Millis), AuthError> {
        let now = now_ms();
        let chain_end = now.saturating_add(to_millis(self.options.max_session)).min(user.ends_ms);
        let expires_ms = now.saturating_add(to_millis(life)).min(chain_end);
        if expires_ms <= now {
            // It counts for the sake of a clock that is behind, and nothing may outlive it.
            return Err(TokenFault::Expired.into());
        }
        let (token, id) = (SecretToken::generate()?, Uuid::now_v7().to_string());
        let row = NewToken {
            id: &id,
            token_sha256: &token.hash(),
            principal_kind: Principal::USER,
            principal: &user.name,
            label,
            root_id: &id,
            created_ms: now,
            expires_ms: Some(expires_ms),
            root_expires_ms: Some(chain_end),
            issuer: &user.issuer,
            claims: &user.claims.iter().map(|value| &**value).collect::<Value>().to_string(),
        };
        self.state.tokens().insert_issued(&row).await?;
        Ok((token, expires_ms))
    }

    /// Issues the next token of a chain.
    async fn next_of_chain(&self, shown: &TokenRow) -> Result<IssuedToken, AuthError> {
        let now = now_ms();
        let (expires_ms, chain_end) = ends(shown, now, &self.options);
        let (token, id) = (SecretToken::generate()?, Uuid::now_v7().to_string());
        let row = NewToken {
            id: &id,
            token_sha256: &token.hash(),
            principal_kind: &shown.principal_kind,
            principal: &shown.principal,
            label: "",
            root_id: &shown.root_id,
            created_ms: now,
            expires_ms: Some(expires_ms),
            root_expires_ms: Some(chain_end),
            issuer: &shown.issuer,
            claims: &shown.claims,
        };
        self.state.tokens().insert_issued(&row).await?;
        let expires_seconds = expires_ms.saturating_sub(now) / 1000;
        Ok(IssuedToken { token, expires_seconds, principal: principal_of(shown) })
    }

    /// Returns the tokens that people made, and the roots of users' chains, by principal and age.
    ///
    /// Tokens of people that ended or were revoked are among them for 30 days, and roots of users for a day after the chain's end.
    ///
    /// # Errors
    ///
    /// Returns [`State`](AuthError::State) if the database fails.
    pub async fn list(&self) -> Result<Vec<TokenInfo>, AuthError> {
        Ok(self.state.tokens().list(now_ms()).await?.into_iter().map(TokenInfo::of).collect())
    }

    /// Checks that a client was not shut out: that not every token which it had was revoked or is gone.
    ///
    /// Tokens that ended count as tokens that were not revoked, until they are forgotten. Those of the first start and of earlier
    /// releases are gone when they are revoked. A client with a certificate is never shut out.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](AuthError::Invalid) if the client was shut out, and [`State`](AuthError::State) if the database fails.
    pub async fn check_not_shut_out(&self, client: &str) -> Result<(), AuthError> {
        if self.certificates.knows(client) {
            return Ok(());
        }
        match self.state.tokens().has_unrevoked(client).await? {
            true => Ok(()),
            false => Err(AuthError::Invalid(format!("every token of the client {client} was revoked"))),
        }
    }

    /// Revokes a token by its id, with all that were issued in exchange for it.
    ///
    /// It holds on this server at once, but for a check that runs meanwhile: its answer may be cached for 3 s. It holds on the
    /// others within [`REVOCATION_SECONDS`](crate::REVOCATION_SECONDS). A token that is revoked already stays as it is.
    ///
    /// # Errors
    ///
    /// Returns [`NoSuchToken`](AuthError::NoSuchToken) if no token has the id, and [`State`](AuthError::State) if the database
    /// fails.
    pub async fn revoke(&self, id: &str) -> Result<(), AuthError> {
        let revoked = self.state.tokens().revoke(id).await?;
        self.known.invalidate_all();
        if revoked { Ok(()) } else { Err(AuthError::NoSuchToken(id.to_owned())) }
    }

    /// Checks that there is a token of an id, whether it counts or not.
    ///
    /// # Errors
    ///
    /// Returns [`State`](AuthError::State) if the database fails.
    pub async fn knows(&self, id: &str) -> Result<bool, AuthError> {
        Ok(self.state.tokens().knows(id).await?)
    }

    /// Revokes a token for a caller.
    ///
    /// # Errors
    ///
    /// Returns [`AnonymousCaller`](AuthError::AnonymousCaller) if the caller has no token, and the errors of [`Self::revoke`].
    pub async fn revoke_for(&self, caller: &Authenticated, id: &str) -> Result<(), AuthError> {
        caller.chain_end()?;
        self.revoke(id).await
    }

    /// Removes tokens from the database that ended long ago: issued ones and chains of users after a day, those of people after 30
    /// days.
    ///
    /// # Errors
    ///
    /// Returns [`State`](AuthError::State) if the database fails.
    pub async fn forget_ended(&self) -> Result<(), AuthError> {
        let now = now_ms();
        Ok(self.state.tokens().forget(now - ENDED_EXCHANGE_MS, now - LISTED_AFTER_END_MS).await?)
    }
}

/// Returns the client and the end of a token that a caller may make at the time `now`: for the client `principal`, or for the caller.
///
/// # Errors
///
/// Returns the errors of [`Authenticator::make_for`], but for those of [`Authenticator::make`].
fn new_token_for<'a>(
    caller: &'a Authenticated,
    principal: Option<&'a str>,
    now: Millis,
    lifetime: Option<Duration>,
) -> Result<(&'a str, Option<Millis>), AuthError> {
    let chain_end = caller.chain_end()?;
    let is_own = |name: &str| caller.principal == Principal::Token(name.to_owned());
    if principal.is_some_and(|name| name.starts_with(BREAK_GLASS_PREFIX) && !is_own(name)) {
        return Err(AuthError::Invalid(format!(
            "names that begin with {BREAK_GLASS_PREFIX} are those of emergencies; run `esker access break-glass` on the \
             server's machine"
        )));
    }
    let wanted = lifetime.map(|life| now.saturating_add(to_millis(life)));
    let end = match (wanted, chain_end) {
        (Some(wanted), Some(end)) if wanted > end => {
            return Err(AuthError::OutlivesCaller(end.saturating_sub(now).max(0).unsigned_abs() / 1000));
        }
        (None, end) => end,
        (wanted, _) => wanted,
    };
    let client = match (principal, &caller.principal) {
        (Some(client), _) => client,
        (None, Principal::Token(client)) => client.as_str(),
        (None, Principal::User { .. }) => {
            let why = "a user's tokens come from the identity provider; name the client that the token is for";
            return Err(AuthError::Invalid(why.to_owned()));
        }
        (None, Principal::Anonymous) => return Err(AuthError::AnonymousCaller),
    };
    Ok((client, end))
}

/// Returns the end of the next token of a chain, and the end of the chain, in milliseconds since the Unix epoch.
///
/// A chain begins with the exchange of a token that a person made, and keeps its end from then on.
fn ends(shown: &TokenRow, now: Millis, options: &AuthOptions) -> (Millis, Millis) {
    let chain_end = match shown.root_expires_ms {
        Some(end) if !shown.is_root() => end,
        root_end => now.saturating_add(to_millis(options.max_session)).min(root_end.unwrap_or(Millis::MAX)),
    };
    (now.saturating_add(to_millis(options.access)).min(chain_end), chain_end)
}

/// Checks that a name can be that of a principal with tokens.
///
/// Clients send name and token as `NAME:TOKEN`. A slash is for the people of an identity provider.
pub(crate) fn check_name(name: &str) -> Result<(), AuthError> {
    let refuse = |why: &str| Err(AuthError::Invalid(format!("{name:?} can't be the name of a principal: {why}")));
    if name.is_empty() || name.len() > MAX_TEXT_BYTES {
        return refuse(&format!("give 1 to {MAX_TEXT_BYTES} bytes"));
    }
    if name.chars().any(|c| c.is_control() || matches!(c, ':' | '/')) {
        return refuse("colons, slashes and control characters are not allowed");
    }
    if name.trim() != name {
        return refuse("it can't begin or end with a blank, which lists do not show");
    }
    if name == Principal::Anonymous.to_string() {
        return refuse("it is that of callers without a token");
    }
    Ok(())
}

/// Checks the label of a token.
fn check_label(label: &str) -> Result<(), AuthError> {
    match label.len() <= MAX_TEXT_BYTES && !label.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(AuthError::Invalid(format!("a label has at most {MAX_TEXT_BYTES} bytes, and no control characters"))),
    }
}

#[cfg(test)]
mod tests {
    use esker_state::{Database, State};
    use proptest::prelude::*;

    use super::*;

    async fn open(dir: &tempfile::TempDir, options: AuthOptions) -> (State, Authenticator) {
        let state = State::open(Database::Sqlite(dir.path().join("esker.db"))).await.expect("opened");
        (state.clone(), Authenticator::new(state, options))
    }

    fn row(root: bool, expires_ms: Option<Millis>, root_expires_ms: Option<Millis>) -> TokenRow {
        TokenRow {
            id: if root { "root" } else { "issued" }.to_owned(),
            principal_kind: Principal::CLIENT.to_owned(),
            principal: "p".to_owned(),
            label: String::new(),
            root_id: "root".to_owned(),
            created_ms: 0,
            expires_ms,
            root_expires_ms,
            revoked_ms: None,
            last_used_ms: None,
            issuer: String::new(),
            claims: NO_CLAIMS.to_owned(),
        }
    }

    proptest! {
        /// A client that exchanges each token for the next one, whenever it likes, has none after the end of the chain.
        #[test]
        fn no_chain_of_exchanges_outlives_its_end(
            access in 1_u64..500,
            max_session in 1_u64..2_000,
            root_end in proptest::option::of(1_i64..2_000_000),
            steps in proptest::collection::vec(0_i64..600_000, 1..40),
        ) {
            let options = AuthOptions {
                access: Duration::from_secs(access),
                max_session: Duration::from_secs(max_session),
                ..AuthOptions::default()
            };
            // The model: the whole chain is known at its first exchange, at the time 0.
            let model_end = (max_session as i64 * 1000).min(root_end.unwrap_or(Millis::MAX));
            let (mut now, mut shown) = (0, row(true, root_end, root_end));
            for step in steps {
                let (end, chain_end) = ends(&shown, now, &options);
                prop_assert_eq!(chain_end, model_end);
                prop_assert!(end <= model_end && end <= now + access as i64 * 1000);
                prop_assert!(end == model_end || end == now + access as i64 * 1000, "no token is shorter than it must be");
                shown = row(false, Some(end), Some(chain_end));
                now += step;
                if end <= now {
                    break;
                }
            }
        }
    }

    #[tokio::test]
    async fn an_exchange_chain_ends() {
        let dir = tempfile::tempdir().expect("a directory");
        let max_session = Duration::from_millis(600);
        let (state, auth) = open(&dir, AuthOptions { max_session, ..AuthOptions::default() }).await;
        let made = auth.make("p", "", None).await.expect("made").token.reveal();
        let mut token = auth.issue(Some("p"), &made).await.expect("issued").token.reveal();
        let began = std::time::Instant::now();
        let refused = loop {
            match auth.exchange(&token, None).await {
                Ok(next) => token = next.token.reveal(),
                Err(refused) => break refused,
            }
            assert!(began.elapsed() < Duration::from_secs(30), "the chain goes on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(matches!(refused, AuthError::Unknown), "{refused}");
        // The client's own secret begins another chain, also beside the token that has ended.
        for (client, secret) in [("p", "wrong"), ("q", made.as_str())] {
            let refused = auth.exchange(&token, Some((client, secret))).await.expect_err("refused");
            assert!(matches!(refused, AuthError::Unknown), "{client}: {refused}");
        }
        let other = auth.make("q", "", None).await.expect("made").token.reveal();
        let stranger = auth.exchange(&token, Some(("q", other.as_str()))).await.expect_err("another's token");
        assert!(matches!(stranger, AuthError::Unknown), "{stranger}");
        auth.exchange(&token, Some(("p", made.as_str()))).await.expect("issued");
        auth.issue(None, &made).await.expect("issued");
        state.close().await;
    }

    #[tokio::test]
    async fn a_token_makes_none_that_outlives_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let (state, auth) = open(&dir, AuthOptions::default()).await;
        let caller = async |token: &str| auth.authenticate_token(token).await.expect("known");
        let endless = auth.make("p", "", None).await.expect("made").token.reveal();
        let by_endless = caller(&endless).await;
        assert_eq!(auth.make_for(&by_endless, None, "l", None).await.expect("made").info.expires_ms, None);
        let issued = auth.issue(None, &endless).await.expect("issued").token.reveal();
        let by_issued = caller(&issued).await;
        let month = Duration::from_secs(30 * 24 * 3600);
        let refused = auth.make_for(&by_issued, None, "", Some(month * 2)).await.expect_err("longer than its chain");
        assert!(matches!(refused, AuthError::OutlivesCaller(_)), "{refused}");
        let capped = auth.make_for(&by_issued, Some("q"), "", None).await.expect("made").info;
        assert_eq!(capped.principal, "q");
        assert!(capped.expires_ms.is_some_and(|end| end <= now_ms() + to_millis(month)), "{capped:?}");
        let anonymous = Authenticated::anonymous();
        let refused = auth.make_for(&anonymous, Some("p"), "", None).await.expect_err("refused");
        assert!(matches!(refused, AuthError::AnonymousCaller), "{refused}");
        let emergency = auth.make_for(&by_endless, Some("break-glass-1"), "", None).await.expect_err("refused");
        assert!(matches!(emergency, AuthError::Invalid(_)), "{emergency}");
        assert!(auth.revoke_for(&anonymous, &capped.id).await.is_err());
        state.close().await;
    }

    #[tokio::test]
    async fn a_revocation_ends_the_chain_at_once_on_its_own_server_and_a_use_is_recorded() {
        let dir = tempfile::tempdir().expect("a directory");
        let (state, auth) = open(&dir, AuthOptions::default()).await;
        let made = auth.make("p", "for tests", None).await.expect("made");
        assert_eq!(auth.list().await.expect("listed"), std::slice::from_ref(&made.info), "the answer and the list agree");
        let (id, token) = (made.info.id, made.token.reveal());
        let issued = auth.issue(None, &token).await.expect("issued").token.reveal();
        let listed = auth.list().await.expect("listed");
        assert_eq!((listed.len(), listed[0].label.as_str(), listed[0].issued), (1, "for tests", 1));
        let began = std::time::Instant::now();
        while auth.list().await.expect("listed")[0].last_used_ms.is_none() {
            assert!(began.elapsed() < Duration::from_secs(30), "the use is not recorded");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(auth.find(&issued).await.expect("asked").is_some(), "it is cached now");
        auth.revoke(&id).await.expect("revoked");
        for token in [&token, &issued] {
            assert!(auth.find(token).await.expect("asked").is_none());
        }
        assert!(!auth.list().await.expect("listed")[0].is_valid(now_ms()));
        assert!(matches!(auth.revoke("nobody").await, Err(AuthError::NoSuchToken(id)) if id == "nobody"));
        state.close().await;
    }

    #[tokio::test]
    async fn a_rotation_ends_the_other_tokens_of_the_client_after_the_overlap() {
        let dir = tempfile::tempdir().expect("a directory");
        let (state, auth) = open(&dir, AuthOptions::default()).await;
        state.principals().put("p", &token_hash("from-the-first-start")).await.expect("stored");
        let other = auth.make("q", "", None).await.expect("made").token.reveal();
        let made = auth.make("p", "", None).await.expect("made").token.reveal();
        let issued = auth.issue(None, "from-the-first-start").await.expect("issued").token.reveal();
        let counts = async |token: &str| auth.authenticate_token(token).await.is_ok();
        let hour = Duration::from_secs(3600);
        let second = auth.rotate("p", hour, None).await.expect("rotated").token.reveal();
        for token in [&made, &issued, &second, &other, &"from-the-first-start".to_owned()] {
            assert!(counts(token).await, "the earlier ones count for a while");
        }
        let ends: Vec<bool> = auth.list().await.expect("listed").iter().map(|info| info.expires_ms.is_some()).collect();
        assert_eq!(ends, [true, true, false, false], "two of p end, by age; the new one and that of q do not");
        let chained = auth.exchange(&issued, None).await.expect("issued");
        assert!(chained.expires_seconds <= 3600, "no exchange outlives the end");

        let caller = auth.authenticate_token(&second).await.expect("known");
        let third = auth.rotate_for(&caller, None, Duration::ZERO, None).await.expect("rotated").token.reveal();
        for token in [&made, &issued, &second, &"from-the-first-start".to_owned(), &chained.token.reveal()] {
            assert!(!counts(token).await, "all but the newest have ended");
        }
        assert!(counts(&third).await && counts(&other).await, "those of other clients stay");

        // Another server may know the ended token for a moment still, and exchange it.
        let late = Authenticator::new(state.clone(), AuthOptions::default());
        late.authenticate_token(&third).await.expect("known");
        // A start makes the token of the configuration valid again, which is rotated again.
        state.principals().put("p", &token_hash("from-the-first-start")).await.expect("stored");
        auth.rotate("p", Duration::ZERO, None).await.expect("rotated again");
        assert!(!counts("from-the-first-start").await && !counts(&third).await);
        let issued = late.exchange(&third, None).await.expect("known still").token.reveal();
        assert!(!counts(&issued).await, "nothing outlives the end of its root");
        state.close().await;
    }

    #[test]
    fn names_that_mean_something_else_are_refused() {
        for name in ["", "anonymous", "esker:health", "issuer/ann", "a\nb", " admin", "admin ", "\u{a0}admin", &"x".repeat(201)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["admin", "Büro 1", "a.b@c"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
        assert!(check_label("nightly: copy of the lake").is_ok() && check_label("a\tb").is_err());
    }
}
