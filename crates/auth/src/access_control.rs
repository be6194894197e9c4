//! [`AccessControl`]: the rules of the database as one server holds them, the callers under them, and their changes.
//!
//! Rules that are older than [`MAX_AGE`] are compared with the version in the database before they are used again. So a change
//! holds on every server within that time, and no task runs in the background. Start reading at [`AccessControl::rules`] and
//! [`AccessControl::change`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use esker_access::{
    ADMIN, AccessMode, BREAK_GLASS, Caller, GrantRow, Identity, LEGACY, Member, Need, Privilege, PrivilegeSet, Record,
    RequestFacts, Required, ResourcePath, RightsError, RuleChange, RuleRows, Rules, Securable, Subject,
};
use esker_state::{
    AccessChangedData, EventData, NewEvent, Outbox, State, StateError, StoredColumnMask, StoredGrant, StoredMember, StoredPolicy,
    StoredRole, StoredRowFilter,
};
use esker_types::{Coded, ErrorCode, Millis, Principal, now_ms};
use moka::future::Cache;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::audit::{Audited, record_command};
use crate::decisions::{Counted, DecisionCounts};
use crate::{Audit, AuditLevel, AuditOptions, AuthError, AuthOptions, Authenticator, MadeToken, Providers, RequestTrail};

/// The time in seconds after which a change of the rules holds on every server.
pub const RULES_SECONDS: u64 = 2;

/// The maximum age of rules that decide.
const MAX_AGE: Duration = Duration::from_secs(RULES_SECONDS);

/// The maximum number of subjects that are kept with the rules.
const MAX_SUBJECTS: u64 = 10_000;

/// The number of attempts to store a change, each on the rules that another change has just made.
const MAX_ATTEMPTS: usize = 20;

/// The beginning of the names of break-glass principals.
pub(crate) const BREAK_GLASS_PREFIX: &str = "break-glass-";

/// The time in milliseconds that an emergency gets to begin: its membership is stored before its token is.
const EMERGENCY_BEGINS_MS: Millis = 60_000;

/// The principal of changes that a command makes on the server's machine. No token can have the name.
pub(crate) const MACHINE: &str = "esker:machine";

/// The rules of access control on one server. Cheap to clone; the clones share the rules.
#[derive(Debug, Clone)]
pub struct AccessControl {
    inner: Arc<Inner>,
    audit: Audit,
    /// The providers whose users can log in.
    providers: Providers,
}

#[derive(Debug)]
struct Inner {
    state: State,
    record: Arc<Counted>,
    loaded: RwLock<Option<Loaded>>,
    /// The number of calls of [`AccessControl::refresh`].
    refreshes: AtomicU64,
    /// Held by the one request that asks the database. It keeps the last failure, for those that waited meanwhile.
    asking: Mutex<Option<Failure>>,
}

/// Rules that were loaded, with the subjects under them.
#[derive(Debug, Clone)]
struct Loaded {
    rules: Arc<Rules>,
    subjects: Cache<Identity, Arc<Subject>>,
    /// The time at which the database was asked for the version.
    asked: Instant,
    /// The number of refreshes at that time. After another refresh, the rules are out of date.
    refreshes: u64,
}

/// A failed question to the database.
#[derive(Debug)]
struct Failure {
    began: Instant,
    code: ErrorCode,
    text: String,
}

impl AccessControl {
    /// Loads the rules. `record` receives the decisions of callers that must be recorded.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::rules`].
    pub async fn open(state: State, record: Arc<dyn Record>) -> Result<Self, AuthError> {
        let record = Arc::new(Counted::new(record));
        let audit = Audit::new(state.clone(), AuditOptions { record: AuditLevel::Off, ..AuditOptions::default() });
        let (loaded, refreshes, asking) = (RwLock::new(None), AtomicU64::new(0), Mutex::new(None));
        let inner = Arc::new(Inner { state, record, loaded, refreshes, asking });
        let opened = Self { inner, audit, providers: Providers::default() };
        opened.rules().await?;
        Ok(opened)
    }

    /// Records requests in an audit trail. Without this, nothing is recorded.
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Self {
        Self { audit, ..self }
    }

    /// Counts users and claims of these providers among those who can log in. Without this, nobody but clients can.
    #[must_use]
    pub fn with_providers(self, providers: Providers) -> Self {
        Self { providers, ..self }
    }

    /// Returns the audit trail.
    pub const fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Returns the rules. They are never older than [`RULES_SECONDS`].
    ///
    /// Older ones are compared with the version in the database first, by one query of one request; others wait for its answer.
    ///
    /// # Errors
    ///
    /// - Returns [`State`](AuthError::State) if the database does not answer.
    /// - Returns [`Rules`](AuthError::Rules) if it did not answer another request meanwhile, or the stored rows make no rules.
    pub async fn rules(&self) -> Result<Arc<Rules>, AuthError> {
        Ok(self.inner.current().await?.rules)
    }

    /// Returns the caller of a request.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::rules`].
    pub async fn caller(&self, identity: Identity, facts: RequestFacts) -> Result<Arc<Caller>, AuthError> {
        self.audited_caller(identity, facts, None).await
    }

    /// Returns somebody who sends no request now, such as who asked for a job earlier. See [`Caller::without_request`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::rules`].
    pub async fn caller_without_request(&self, identity: Identity, operation: &str) -> Result<Arc<Caller>, AuthError> {
        let record: Arc<dyn Record> = self.inner.record.clone();
        Ok(Arc::new(Caller::without_request(self.subject(identity).await?, operation.into(), record)))
    }

    /// Returns the caller of a request whose decisions its trail receives too.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::rules`].
    pub async fn audited_caller(
        &self,
        identity: Identity,
        facts: RequestFacts,
        trail: Option<Arc<RequestTrail>>,
    ) -> Result<Arc<Caller>, AuthError> {
        let subject = self.subject(identity).await?;
        let counted = self.inner.record.clone();
        let record: Arc<dyn Record> = match trail {
            Some(trail) => Arc::new(Audited { counted, trail }),
            None => counted,
        };
        Ok(Arc::new(Caller::new(subject, facts, record)))
    }

    /// Returns a principal under the rules. Subjects are kept with the rules: what they know depends on no request.
    async fn subject(&self, identity: Identity) -> Result<Arc<Subject>, AuthError> {
        let Loaded { rules, subjects, .. } = self.inner.current().await?;
        if let Some(subject) = subjects.get(&identity).await {
            return Ok(subject);
        }
        let subject = Arc::new(Subject::new(rules, identity.clone()));
        subjects.insert(identity, subject.clone()).await;
        Ok(subject)
    }

    /// Makes the next request compare the rules with the database, after a transaction that may have changed them.
    pub fn refresh(&self) {
        self.inner.refreshes.fetch_add(1, Ordering::AcqRel);
    }

    /// Makes the next request compare the rules with the database, after a request of `caller` that may have changed them.
    ///
    /// Without it, whoever creates a thing could not use it until the rules are compared. In the mode `off` nothing gets rights.
    pub fn refresh_after(&self, caller: &Caller) {
        if caller.subject().rules().mode() != AccessMode::Off {
            self.refresh();
        }
    }

    /// Returns the numbers of recorded decisions since the start.
    pub fn decision_counts(&self) -> DecisionCounts {
        self.inner.record.counts()
    }

    /// Returns the roles that people created, by name.
    ///
    /// # Errors
    ///
    /// Returns [`State`](AuthError::State) if the database fails.
    pub async fn roles(&self) -> Result<Vec<StoredRole>, AuthError> {
        Ok(self.inner.state.access().roles().await?)
    }

    /// Returns the memberships of all roles, by role and member.
    ///
    /// # Errors
    ///
    /// Returns [`State`](AuthError::State) if the database fails.
    pub async fn members(&self) -> Result<Vec<StoredMember>, AuthError> {
        Ok(self.inner.state.access().members().await?)
    }

    /// Returns all grants, the oldest first.
    ///
    /// # Errors
    ///
    /// Returns [`State`](AuthError::State) if the database fails.
    pub async fn grants(&self) -> Result<Vec<StoredGrant>, AuthError> {
        Ok(self.inner.state.access().grants().await?)
    }

    /// Returns the row filters of all tables, the oldest first.
    ///
    /// # Errors
    ///
    /// Returns [`State`](AuthError::State) if the database fails.
    pub async fn row_filters(&self) -> Result<Vec<StoredRowFilter>, AuthError> {
        Ok(self.inner.state.access().row_filters().await?)
    }

    /// Returns the column masks of all tables, by table and field.
    ///
    /// # Errors
    ///
    /// Returns [`State`](AuthError::State) if the database fails.
    pub async fn column_masks(&self) -> Result<Vec<StoredColumnMask>, AuthError> {
        Ok(self.inner.state.access().column_masks().await?)
    }

    /// Returns the access policies, by name.
    ///
    /// # Errors
    ///
    /// Returns [`State`](AuthError::State) if the database fails.
    pub async fn policies(&self) -> Result<Vec<StoredPolicy>, AuthError> {
        Ok(self.inner.state.access().policies().await?)
    }

    /// Returns the access policy of a name.
    ///
    /// # Errors
    ///
    /// - Returns [`Rights`](AuthError::Rights) with [`RightsError::NoSuchPolicy`] if there is none.
    /// - Returns [`State`](AuthError::State) if the database fails.
    pub async fn policy(&self, name: &str) -> Result<StoredPolicy, AuthError> {
        let found = self.inner.state.access().policy(name).await?;
        Ok(found.ok_or_else(|| RightsError::NoSuchPolicy { name: name.to_owned() })?)
    }

    /// Checks changes on the rules as they are now, stores them together, and returns the version of the rules with them.
    ///
    /// If the mode leaves `off`, the clients whose tokens worked until then become members of [`LEGACY`], and that role gets its
    /// grant the first time. A change that changes nothing is no new version.
    ///
    /// # Errors
    ///
    /// - Returns [`Rights`](AuthError::Rights) if the changes make no sense, or change a role whose members the server decides. Also
    ///   if the caller can't manage access, unless nobody can and the mode is `off` or `report`.
    /// - Returns [`LocksOut`](AuthError::LocksOut) if nobody with a token could manage access any more.
    /// - Returns [`State`](AuthError::State) if the database fails, or others change the rules all the time.
    pub async fn change(&self, by: &Caller, changes: Vec<RuleChange>) -> Result<i64, AuthError> {
        self.change_as(by, &[Need::new(ResourcePath::SERVER, Privilege::ManageAccess)], &changes).await
    }

    /// Does what [`Self::change`] does, for changes that others than managers of access may make: one of the needs must be met.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::change`].
    pub async fn change_as(&self, by: &Caller, needs: &[Need<'_>], changes: &[RuleChange]) -> Result<i64, AuthError> {
        changes.iter().try_for_each(RuleChange::check_by_people)?;
        self.store(&by.subject().identity().to_string(), changes, Some(Author { by, needs })).await
    }

    /// Makes a client a member of [`ADMIN`], and sets the mode if one is given. For commands on the server's machine.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](AuthError::Invalid) if the client has no token, and the errors of [`Self::change`].
    pub async fn bootstrap(&self, client: &str, mode: Option<AccessMode>) -> Result<i64, AuthError> {
        if !self.inner.state.tokens().clients(0, now_ms()).await?.iter().any(|name| name == client) {
            let what = format!("the client {client} has no token that counts; make one with `esker token create {client}`");
            return Err(AuthError::Invalid(what));
        }
        record_command(&self.inner.state, "bootstrap", (Principal::CLIENT, client)).await?;
        let admin = RuleChange::AddMember { role: ADMIN.to_owned(), member: Member::client(client) };
        let mode = mode.map(|mode| RuleChange::SetMode { mode });
        self.store(MACHINE, &[admin].into_iter().chain(mode).collect::<Vec<_>>(), None).await
    }

    /// Makes a token of a new principal to which no rule refuses anything. For commands on the server's machine.
    ///
    /// Principals of earlier emergencies whose tokens have ended lose the membership in [`BREAK_GLASS`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::change`] and of [`Authenticator::make`].
    pub async fn break_glass(&self, lifetime: Duration) -> Result<MadeToken, AuthError> {
        let name = format!("{BREAK_GLASS_PREFIX}{}", Uuid::now_v7().simple());
        record_command(&self.inner.state, "break-glass", (Principal::CLIENT, name.as_str())).await?;
        let mut changes = ended_emergencies(&self.inner.state, now_ms()).await?;
        changes.push(RuleChange::AddMember { role: BREAK_GLASS.to_owned(), member: Member::client(name.as_str()) });
        self.store(MACHINE, &changes, None).await?;
        let tokens = Authenticator::new(self.inner.state.clone(), AuthOptions::default());
        tokens.make(&name, "an emergency", Some(lifetime)).await
    }

    /// Takes the principals of emergencies out of [`BREAK_GLASS`] whose tokens have ended. For the housekeeping.
    ///
    /// # Errors
    ///
    /// Returns [`State`](AuthError::State) if the database fails, or others change the rules all the time.
    pub async fn end_emergencies(state: &State) -> Result<(), AuthError> {
        Self::end_emergencies_until(state, now_ms().saturating_sub(EMERGENCY_BEGINS_MS)).await
    }

    /// Does what [`Self::end_emergencies`] does, for those that began before a time.
    async fn end_emergencies_until(state: &State, before_ms: Millis) -> Result<(), AuthError> {
        let access = state.access();
        for _ in 0..MAX_ATTEMPTS {
            // The version is read first, so that the changes are made on the memberships that were looked at.
            let (version, _) = access.version().await?;
            let changes = ended_emergencies(state, before_ms).await?;
            if changes.is_empty() {
                return Ok(());
            }
            match access.change(version, MACHINE, &changes, &outbox(version + 1, MACHINE, &changes)).await {
                Err(StateError::RulesChanged) => {}
                changed => return changed.map(drop).map_err(AuthError::from),
            }
        }
        Err(StateError::RulesChanged.into())
    }

    /// Removes an access policy without building the rules, and returns its text. For commands on the server's machine.
    ///
    /// It is the way out if the text can't be read: there are no rules then, and no request can change them. It locks nobody out,
    /// because no policy makes a manager of access.
    ///
    /// # Errors
    ///
    /// - Returns [`Rights`](AuthError::Rights) with [`RightsError::NoSuchPolicy`] if there is none.
    /// - Returns [`State`](AuthError::State) if the database fails, or others change the rules all the time.
    pub async fn remove_stored_policy(state: &State, name: &str) -> Result<String, AuthError> {
        record_command(state, "remove-policy", ("policy", name)).await?;
        let access = state.access();
        let changes = [RuleChange::RemovePolicy { name: name.to_owned() }];
        for _ in 0..MAX_ATTEMPTS {
            // The version is read first, so that the text that is removed is the one that is returned.
            let (version, _) = access.version().await?;
            let stored = access.policy(name).await?.ok_or_else(|| RightsError::NoSuchPolicy { name: name.to_owned() })?;
            match access.change(version, MACHINE, &changes, &outbox(version + 1, MACHINE, &changes)).await {
                Err(StateError::RulesChanged) => {}
                changed => return changed.map(|_| stored.text).map_err(AuthError::from),
            }
        }
        Err(StateError::RulesChanged.into())
    }

    /// Stores changes, on the rules of the version that they were checked on. Without an author, the server itself makes them.
    async fn store(&self, by: &str, wanted: &[RuleChange], author: Option<Author<'_>>) -> Result<i64, AuthError> {
        let access = self.inner.state.access();
        for _ in 0..MAX_ATTEMPTS {
            let before = access.rows().await?;
            if let Some(author) = author {
                self.check_author(&before, author).await?;
            }
            let mut changes = self.legacy_changes(&before, wanted).await?;
            changes.extend_from_slice(wanted);
            let mut after = before.clone();
            changes.iter().try_for_each(|change| after.apply(change))?;
            let version = before.version;
            if after == before {
                return Ok(version);
            }
            self.check_lock_out(before, after).await?;
            match access.change(version, by, &changes, &outbox(version + 1, by, &changes)).await {
                // The next attempt decides on the rules that the other change made.
                Err(StateError::RulesChanged) => {}
                stored => {
                    self.refresh();
                    return Ok(stored?);
                }
            }
        }
        Err(StateError::RulesChanged.into())
    }

    /// Returns the changes that come with a mode that leaves `off`.
    ///
    /// The clients that got their first token while everything was allowed go on as before, as members of [`LEGACY`]. A client
    /// that was taken out of the role earlier does not come back.
    async fn legacy_changes(&self, before: &RuleRows, wanted: &[RuleChange]) -> Result<Vec<RuleChange>, AuthError> {
        let is_on = |change: &RuleChange| matches!(change, RuleChange::SetMode { mode } if *mode != AccessMode::Off);
        if before.mode != AccessMode::Off || !wanted.iter().any(is_on) {
            return Ok(Vec::new());
        }
        let since = self.inner.state.access().mode_ms().await?;
        let clients = self.inner.state.tokens().clients(since, now_ms()).await?.into_iter().map(Member::client);
        let breaks_glass = |member: &Member| before.members.iter().any(|row| row.role == BREAK_GLASS && row.member == *member);
        let clients = clients.filter(|member| !breaks_glass(member));
        let mut changes: Vec<_> = clients.map(|member| RuleChange::AddMember { role: LEGACY.to_owned(), member }).collect();
        if since == 0 {
            let (id, to, on) = (Uuid::now_v7().to_string(), Member::role(LEGACY), Securable::Server);
            changes.push(RuleChange::AddGrant { grant: GrantRow { id, to, on, privileges: PrivilegeSet::LEGACY, future: None } });
        }
        Ok(changes)
    }

    /// Checks that the author of a change may make it, if somebody can manage access. In the mode `on` that is always asked.
    ///
    /// Here a user counts whatever the issuer is: a provider that the configuration lacks for a while gives nobody the rules.
    ///
    /// The request was checked by rules that may be some seconds old, and in the modes `off` and `report` by none. A change lasts,
    /// so the rules on which it is stored decide. Otherwise any token could make itself an administrator for the day on which the
    /// mode becomes `on`, or just after it. Access policies count in every mode, with the facts of the author's request. One that
    /// forbids everybody to manage access opens the rules to nobody.
    async fn check_author(&self, before: &RuleRows, Author { by, needs }: Author<'_>) -> Result<(), AuthError> {
        let rules = Arc::new(Rules::build(before.clone())?);
        let is_managed = before.mode == AccessMode::On || {
            let live = self.inner.state.tokens().clients(0, now_ms()).await?;
            can_log_in(&rules.granted_holders(Privilege::ManageAccess), &live, |_| true)
        };
        let by = by.under(rules);
        let is_open = !is_managed && !needs.iter().all(|need| by.is_forbidden(&need.on, need.required.named()));
        let lacks = |need: &Need<'_>| need.required.missing_from(by.granted(&need.on));
        match needs.first() {
            Some(first) if !is_open && needs.iter().all(|need| lacks(need) != Required::NOTHING) => {
                Err(by.denial(&first.on, lacks(first)).into())
            }
            _ => Ok(()),
        }
    }

    /// Builds the rules after a change, and refuses those under which nobody can manage access any more.
    ///
    /// Where that is so already, the change is not refused unless it sets the mode. In the mode `off`, everybody manages access if
    /// no grant lets anybody. So only access policies can lock everybody out, and they must leave it to somebody then too.
    async fn check_lock_out(&self, before: RuleRows, after: RuleRows) -> Result<(), AuthError> {
        let (mode, after) = (before.mode, Rules::build(after)?);
        if after.mode() == AccessMode::Off && !after.has_policies() {
            return Ok(());
        }
        let live = self.inner.state.tokens().clients(0, now_ms()).await?;
        let can_log_in = |members: &[&Member]| can_log_in(members, &live, |issuer| self.providers.has(issuer));
        let is_open_to_some = |rules: &Rules| {
            can_log_in(&rules.holders(Privilege::ManageAccess))
                || (rules.mode() == AccessMode::Off
                    && !can_log_in(&rules.granted_holders(Privilege::ManageAccess))
                    && is_left_to_one(rules, &live))
        };
        if is_open_to_some(&after) || (mode == after.mode() && !is_open_to_some(&Rules::build(before)?)) {
            return Ok(());
        }
        Err(AuthError::LocksOut)
    }
}

/// The author of a change, with the needs of which one must be met.
#[derive(Debug, Clone, Copy)]
struct Author<'a> {
    by: &'a Caller,
    needs: &'a [Need<'a>],
}

/// Checks that one of some members can log in. `live` are the clients with a token. Users and claims count if `knows` is true for
/// their issuer.
fn can_log_in(members: &[&Member], live: &[String], knows: impl Fn(&str) -> bool) -> bool {
    members.iter().any(|member| match member {
        Member::Client { name } => live.contains(name),
        Member::User { issuer, .. } | Member::Claim { issuer, .. } => knows(issuer),
        Member::Role { .. } => false,
    })
}

/// Checks that no access policy may forbid one of the clients with a token to manage access; if there are none, a caller without
/// a token.
fn is_left_to_one(rules: &Rules, live: &[String]) -> bool {
    let is_left = |identity: &Identity| !rules.may_forbid(identity, Privilege::ManageAccess);
    match live.is_empty() {
        true => is_left(&Identity::Anonymous),
        false => live.iter().any(|name| is_left(&Identity::client(name.as_str()))),
    }
}

/// Returns the error of rules that can't be built from the database's rows. The clients of the server have nothing to do with it.
fn unusable(error: &RightsError) -> AuthError {
    let way_out = match error {
        RightsError::BadPolicy { name, .. } => {
            let quote = if name.contains(char::is_whitespace) { "\"" } else { "" };
            format!("; `esker access remove-policy {quote}{name}{quote}` on the server's machine takes the policy out")
        }
        _ => String::new(),
    };
    AuthError::Rules { code: ErrorCode::Unavailable, text: format!("{error}{way_out}") }
}

/// Returns the changes that take members out of [`BREAK_GLASS`] who came before a time, and have no token that counts.
async fn ended_emergencies(state: &State, before_ms: Millis) -> Result<Vec<RuleChange>, AuthError> {
    let live = state.tokens().clients(0, now_ms()).await?;
    let is_over = |member: &Member| matches!(member, Member::Client { name } if !live.contains(name));
    let members = state.access().members().await?.into_iter();
    let over =
        members.filter(|stored| stored.row.role == BREAK_GLASS && stored.created_ms <= before_ms && is_over(&stored.row.member));
    Ok(over.map(|stored| RuleChange::RemoveMember { role: stored.row.role, member: stored.row.member }).collect())
}

/// Returns the events of changes.
fn outbox(version: i64, by: &str, changes: &[RuleChange]) -> Outbox {
    let event = |change: &RuleChange| NewEvent {
        data: EventData::AccessChanged(AccessChangedData { version, change: change.clone() }),
        warehouse: String::new(),
        subject: change.subject(),
        principal: by.to_owned(),
    };
    Outbox { events: changes.iter().map(event).collect(), receipts: Vec::new() }
}

impl Inner {
    /// Returns the rules if they may still decide.
    fn fresh(&self) -> Option<Loaded> {
        let refreshes = self.refreshes.load(Ordering::Acquire);
        self.known().filter(|loaded| loaded.refreshes == refreshes && loaded.asked.elapsed() < MAX_AGE)
    }

    /// Returns the rules that were loaded last.
    fn known(&self) -> Option<Loaded> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns rules that may decide, after a question to the database if there are none.
    async fn current(&self) -> Result<Loaded, AuthError> {
        if let Some(loaded) = self.fresh() {
            return Ok(loaded);
        }
        let waits_since = Instant::now();
        let mut failure = self.asking.lock().await;
        if let Some(loaded) = self.fresh() {
            return Ok(loaded);
        }
        // While the database is away, requests must not wait for it one after the other.
        if let Some(Failure { code, text, .. }) = failure.as_ref().filter(|failure| failure.began >= waits_since) {
            return Err(AuthError::Rules { code: *code, text: text.clone() });
        }
        let began = Instant::now();
        let loaded = self.load(began).await;
        let text_of = |error: &AuthError| match error {
            AuthError::Rules { text, .. } => text.clone(),
            error => error.to_string(),
        };
        *failure = loaded.as_ref().err().map(|error| Failure { began, code: error.code(), text: text_of(error) });
        loaded
    }

    /// Asks the database for the version, and for the rules if it is another one.
    async fn load(&self, asked: Instant) -> Result<Loaded, AuthError> {
        let refreshes = self.refreshes.load(Ordering::Acquire);
        let (version, _) = self.state.access().version().await?;
        let loaded = match self.known().filter(|known| known.rules.version() == version) {
            Some(known) => Loaded { asked, refreshes, ..known },
            None => {
                let rules = Rules::build(self.state.access().rows().await?).map_err(|error| unusable(&error))?;
                let rules = Arc::new(rules);
                Loaded { rules, subjects: Cache::new(MAX_SUBJECTS), asked, refreshes }
            }
        };
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Some(loaded.clone());
        Ok(loaded)
    }
}

#[cfg(test)]
mod tests;
