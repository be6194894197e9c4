//! [`Audit`]: the audit trail as a server writes it: who asked for what, by which rule, and what became of it.
//!
//! Each request has a [`RequestTrail`], which receives the decisions of its caller. [`RequestTrail::begin`] writes a record before a
//! change is tried, if the configuration refuses changes without one. [`RequestTrail::finish`] puts the record of the outcome into a
//! queue in memory, which [`Audit::write_records`] empties into the state database. Records of changes have a queue of their own: a
//! flood of refusals can't push them out. A record that a full queue drops is counted and logged.
//!
//! A record has names and ids only. Bodies, values of properties, texts of statements, tokens and credentials never get here.

mod texts;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esker_access::{AccessDecision, Identity, Leaf, Record, ResourcePath, SecurableKind, WorthRecording};
use esker_state::{AuditDecision, AuditEvents, AuditPhase, AuditRecord, State};
use esker_types::{Millis, Principal, now_ms};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::AuthError;
use crate::access_control::MACHINE;
use crate::decisions::Counted;
use texts::{escaped, shown, shown_name};

/// The maximum number of records that wait in each of the two queues.
const MAX_QUEUED: usize = 10_000;

/// The maximum number of records that are written in one transaction.
const BATCH: usize = 500;

/// The time for which records are gathered before they are written together.
const GATHER: Duration = Duration::from_millis(200);

/// The pause after a failed write.
const RETRY: Duration = Duration::from_secs(1);

/// The maximum number of objects that a record names.
const MAX_OBJECTS: usize = 20;

/// The maximum number of refused log-ins and requests for tokens that are recorded in a second. Strangers can send any number.
const MAX_REFUSED_ENTRIES: u32 = 10;

/// The requests that are recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuditLevel {
    /// None.
    Off,
    /// Requests to change something, refusals, and everything that break-glass does.
    #[default]
    Changes,
    /// Reads of table data too: credentials, signatures, scan plans and queries.
    All,
}

/// The settings of the audit trail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditOptions {
    /// The requests that are recorded.
    pub record: AuditLevel,
    /// True if a change is refused that can't be recorded before it is made.
    pub required: bool,
    /// True if each record is a line in the log too, of the target `esker::audit`.
    pub log: bool,
    /// True if each record of an outcome is an event `audit.recorded` too.
    pub events: bool,
}

/// What a request is about, as far as the trail cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditedKind {
    /// It is to change something.
    Change,
    /// It reads rows of tables, or gets the means to.
    Read,
    /// It is a statement of which nothing is known before it is planned.
    Statement,
    /// Anything else, which is recorded only if it is refused.
    Other,
}

impl AuditedKind {
    /// Checks that a level records requests of this kind, whatever is decided about them.
    const fn is_recorded_at(self, level: AuditLevel) -> bool {
        match (level, self) {
            (AuditLevel::Off, _) | (_, Self::Statement | Self::Other) | (AuditLevel::Changes, Self::Read) => false,
            (_, Self::Change) | (AuditLevel::All, Self::Read) => true,
        }
    }
}

/// The facts of a request that its records begin with.
#[derive(Debug)]
pub struct AuditedRequest<'a> {
    /// The identifier of the request.
    pub request_id: String,
    /// The protocol: `rest` or `flight-sql`.
    pub protocol: &'static str,
    /// The caller.
    pub identity: &'a Identity,
    /// The operation.
    pub operation: String,
    /// What the request is about.
    pub kind: AuditedKind,
    /// The address of the client.
    pub source_ip: Option<IpAddr>,
    /// The header `user-agent`.
    pub engine: Option<&'a str>,
    /// The object that the path of the request names.
    pub object: AuditedObject,
}

/// A log-in or a request for a token, by which somebody becomes known. There is no caller before it.
#[derive(Debug)]
pub struct AuditedEntry<'a> {
    /// The identifier of the request.
    pub request_id: String,
    /// The operation.
    pub operation: &'static str,
    /// The principal that is known now; `None` if the entry was refused.
    pub principal: Option<&'a Principal>,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The address of the client.
    pub source_ip: Option<IpAddr>,
    /// The header `user-agent`.
    pub engine: Option<&'a str>,
}

/// An object that a request names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditedObject {
    /// The name of the warehouse.
    pub warehouse: Option<String>,
    /// The kind: `table`, `view`, `namespace`, …
    pub kind: Option<String>,
    /// The name, levels joined by dots.
    pub name: Option<String>,
    /// The id of the table or view.
    pub id: Option<String>,
}

impl From<&ResourcePath<'_>> for AuditedObject {
    fn from(path: &ResourcePath<'_>) -> Self {
        let id = match path.leaf() {
            // A table that was refused before it was made has no id.
            Some(Leaf::Table { id, .. } | Leaf::View { id, .. }) => Some(id).filter(|id| !id.0.is_nil()).map(|id| id.to_string()),
            Some(Leaf::Function { .. }) | None => None,
        };
        Self {
            warehouse: path.warehouse_part().map(|(_, name)| name.to_owned()),
            kind: Some(path.kind().as_str().to_owned()),
            name: Some(path.name()).filter(|name| !name.is_empty()),
            id,
        }
    }
}

/// The numbers of records since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditCounts {
    /// Records that are in the state database.
    pub written: u64,
    /// Records that a full queue dropped.
    pub lost: u64,
    /// Records that wait in the queues now.
    pub queued: u64,
    /// Changes that were refused because they could not be recorded.
    pub refused: u64,
}

/// The records that wait to be written.
#[derive(Debug, Default)]
struct Queue {
    changes: VecDeque<AuditRecord>,
    others: VecDeque<AuditRecord>,
}

/// The audit trail of a server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Audit {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    options: AuditOptions,
    queue: Mutex<Queue>,
    /// Held by who takes records out of the queue, until they are in the database.
    writing: tokio::sync::Mutex<()>,
    more: Notify,
    /// The present second since the Unix epoch, and the number of refused entries in it.
    refused_entries: Mutex<(Millis, u32)>,
    /// True since a write failed, until one succeeds.
    fails: AtomicBool,
    written: AtomicU64,
    lost: AtomicU64,
    refused: AtomicU64,
}

impl Audit {
    /// Makes the trail over a state database.
    pub fn new(state: State, options: AuditOptions) -> Self {
        let (queue, writing, more) = (Mutex::default(), tokio::sync::Mutex::default(), Notify::new());
        let (written, lost, refused) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let (refused_entries, fails) = (Mutex::default(), AtomicBool::new(false));
        let inner = Inner { state, options, queue, writing, more, refused_entries, fails, written, lost, refused };
        Self { inner: Arc::new(inner) }
    }

    /// Checks that nothing is recorded, whatever is asked for.
    fn is_off(&self) -> bool {
        self.inner.options.record == AuditLevel::Off
    }

    /// Returns the trail of a request; `None` if nothing is recorded.
    pub fn request<'a>(&self, request: impl FnOnce() -> AuditedRequest<'a>) -> Option<Arc<RequestTrail>> {
        if self.is_off() {
            return None;
        }
        let request = request();
        let principal_kind = match request.identity {
            Identity::User { .. } => "user",
            Identity::Client { .. } => "client",
            Identity::Anonymous => "anonymous",
        };
        let record = AuditRecord {
            request_id: request.request_id,
            is_change: request.kind == AuditedKind::Change,
            source_ip: request.source_ip.map(|ip| ip.to_string()),
            engine: request.engine.map(shown),
            // A part of it may come from the path: the kind of a job, or a method that does not exist.
            ..record_of(request.protocol, (principal_kind, request.identity.to_string()), shown_name(&request.operation))
        };
        let rank = rank_of(request.object.kind.as_deref());
        let mut noted = Noted {
            record,
            kind: request.kind,
            rank,
            rank_of_rule: 0,
            objects: Vec::new(),
            refused: None,
            broke_glass: false,
            is_over: false,
        };
        noted.set_object(request.object);
        let notes = request.kind == AuditedKind::Statement || request.kind.is_recorded_at(self.inner.options.record);
        Some(Arc::new(RequestTrail { audit: self.clone(), notes, noted: Mutex::new(noted) }))
    }

    /// Records a log-in or a request for a token: each one that succeeded, and at most ten refused ones in a second.
    ///
    /// One that failed for another reason is not recorded.
    pub fn record_entry(&self, entry: AuditedEntry<'_>) {
        let AuditedEntry { request_id, operation, principal, status, source_ip, engine } = entry;
        let is_refused = principal.is_none() && matches!(status, 401 | 403);
        let counts = principal.is_some() || (is_refused && self.admits_refused_entry());
        if self.is_off() || !counts {
            return;
        }
        let principal_kind = match principal {
            Some(Principal::Token(_)) => Principal::CLIENT,
            Some(Principal::User { .. }) => Principal::USER,
            Some(Principal::Anonymous) => "anonymous",
            None => "unknown",
        };
        let name = principal.map(Principal::to_string).unwrap_or_default();
        self.enqueue(stamped(AuditRecord {
            request_id,
            decision: if is_refused { AuditDecision::Refused } else { AuditDecision::None },
            status: Some(status),
            source_ip: source_ip.map(|ip| ip.to_string()),
            engine: engine.map(shown),
            ..record_of("rest", (principal_kind, name), operation.to_owned())
        }));
    }

    /// Counts a refused entry. Returns false if too many were refused in this second.
    fn admits_refused_entry(&self) -> bool {
        let second = now_ms() / 1000;
        let mut counted = self.inner.refused_entries.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.0 != second {
            *counted = (second, 0);
        }
        counted.1 = counted.1.saturating_add(1);
        counted.1 <= MAX_REFUSED_ENTRIES
    }

    /// Returns the numbers of records since the start.
    pub fn counts(&self) -> AuditCounts {
        let queue = self.queue();
        AuditCounts {
            written: self.inner.written.load(Ordering::Relaxed),
            lost: self.inner.lost.load(Ordering::Relaxed),
            queued: (queue.changes.len() + queue.others.len()) as u64,
            refused: self.inner.refused.load(Ordering::Relaxed),
        }
    }

    /// Writes the records of the queues to the state database, until the server stops.
    ///
    /// What is queued later is left to [`Self::flush`].
    pub async fn write_records(self, mut stopped: watch::Receiver<bool>) {
        loop {
            let pause = match self.flush().await {
                true => {
                    tokio::select! {
                        () = self.inner.more.notified() => {}
                        _ = stopped.wait_for(|stop| *stop) => return,
                    }
                    GATHER
                }
                false => RETRY,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Writes all records of the queues to the state database. False if one could not be written; it stays in its queue.
    ///
    /// Waits for another task that writes records.
    pub async fn flush(&self) -> bool {
        let _alone = self.inner.writing.lock().await;
        loop {
            let mut taken = Taken { audit: self, records: self.take_batch() };
            if taken.records.is_empty() {
                return true;
            }
            let events = if self.inner.options.events { AuditEvents::Sent } else { AuditEvents::Off };
            match self.inner.state.audit().append_all(&taken.records, events).await {
                Ok(()) => {
                    let written = std::mem::take(&mut taken.records);
                    self.inner.written.fetch_add(written.len() as u64, Ordering::Relaxed);
                    if self.inner.fails.swap(false, Ordering::Relaxed) {
                        tracing::info!("the audit trail is written again");
                    }
                }
                Err(error) => {
                    // A database that is away for long is one line, and not one each second.
                    if !self.inner.fails.swap(true, Ordering::Relaxed) {
                        tracing::error!(%error, "the audit trail can't be written; it is tried again each second");
                    }
                    return false;
                }
            }
        }
    }

    /// Writes all records of the queues at the end of the server. Those that can't be written are counted as lost, and logged.
    pub async fn drain(&self) {
        if self.flush().await {
            return;
        }
        let unwritten: Vec<AuditRecord> = {
            let mut queue = self.queue();
            let Queue { changes, others } = &mut *queue;
            changes.drain(..).chain(others.drain(..)).collect()
        };
        for record in &unwritten {
            self.lose(record, "the state database could not be written before the server stopped");
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.inner.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the oldest records out of the queues: changes first.
    fn take_batch(&self) -> Vec<AuditRecord> {
        let mut queue = self.queue();
        let changes = queue.changes.len().min(BATCH);
        let mut records: Vec<AuditRecord> = queue.changes.drain(..changes).collect();
        let others = queue.others.len().min(BATCH - changes);
        records.extend(queue.others.drain(..others));
        records
    }

    /// Puts records back to the front of their queues.
    fn put_back(&self, records: Vec<AuditRecord>) {
        let mut queue = self.queue();
        for record in records.into_iter().rev() {
            let of = if record.is_change { &mut queue.changes } else { &mut queue.others };
            of.push_front(record);
        }
    }

    /// Puts a record into its queue. A full queue drops it, which is counted, and logged with what is lost.
    fn enqueue(&self, record: AuditRecord) {
        if self.inner.options.log {
            log(&record);
        }
        let mut queue = self.queue();
        let of = if record.is_change { &mut queue.changes } else { &mut queue.others };
        if of.len() < MAX_QUEUED {
            of.push_back(record);
            drop(queue);
            self.inner.more.notify_one();
            return;
        }
        drop(queue);
        self.lose(&record, "its queue is full");
    }

    /// Counts a record that is lost, and logs what is lost.
    fn lose(&self, record: &AuditRecord, why: &str) {
        self.inner.lost.fetch_add(1, Ordering::Relaxed);
        let AuditRecord { principal, operation, request_id: request, object, status, .. } = record;
        let (object, status) = (object.as_deref(), status.map(u64::from));
        tracing::error!(principal, operation, request, object, status, why, "a record of the audit trail is lost");
    }
}

/// Records that were taken out of their queues. They go back unless they were written, also if the task is aborted meanwhile.
struct Taken<'a> {
    audit: &'a Audit,
    records: Vec<AuditRecord>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.audit.put_back(std::mem::take(&mut self.records));
    }
}

/// Writes a record to the log, for the shippers of logs.
fn log(record: &AuditRecord) {
    tracing::info!(
        target: "esker::audit",
        uuid = record.uuid,
        phase = record.phase.as_str(),
        // The index of logs has `request_id` as another name of the field of the span.
        request = record.request_id,
        protocol = record.protocol,
        principal_kind = record.principal_kind,
        principal = record.principal,
        operation = record.operation,
        is_change = record.is_change,
        decision = record.decision.as_str(),
        rule = record.rule.as_deref(),
        privileges = record.privileges.as_deref(),
        warehouse = record.warehouse.as_deref(),
        object_kind = record.object_kind.as_deref(),
        object = record.object.as_deref(),
        object_id = record.object_id.as_deref(),
        objects = record.objects.as_deref(),
        status = record.status.map(u64::from),
        source_ip = record.source_ip.as_deref(),
        engine = record.engine.as_deref(),
        "audit"
    );
}

/// The rank of tables, views and functions.
const RANK_OF_TABLE: u8 = 3;

/// Returns the place of a kind in the order by which the main object of a request is chosen: the innermost one.
fn rank_of(kind: Option<&str>) -> u8 {
    let Some(kind) = kind else { return 0 };
    match SecurableKind::from_name(kind) {
        Some(SecurableKind::Server) => 0,
        Some(SecurableKind::Warehouse) => 1,
        // A job, a role, a token: it lies in no namespace, and says more than the warehouse.
        None | Some(SecurableKind::Namespace) => 2,
        Some(SecurableKind::Table | SecurableKind::View | SecurableKind::Function) => RANK_OF_TABLE,
    }
}

/// What is known of a request so far.
#[derive(Debug)]
struct Noted {
    record: AuditRecord,
    kind: AuditedKind,
    /// The rank of the record's object.
    rank: u8,
    /// The rank of the object of the record's rule.
    rank_of_rule: u8,
    /// Kinds and names of the objects, each once.
    objects: Vec<String>,
    /// The first refusal: its object, its privileges, and false if it is only reported.
    refused: Option<(AuditedObject, String, bool, Option<String>)>,
    broke_glass: bool,
    /// True once the outcome is recorded.
    is_over: bool,
}

impl Noted {
    fn set_object(&mut self, object: AuditedObject) {
        let AuditedObject { warehouse, kind, name, id } = object;
        let [warehouse, name, id] = [warehouse, name, id].map(|text| text.as_deref().map(escaped));
        (self.record.warehouse, self.record.object_kind) = (warehouse, kind);
        (self.record.object, self.record.object_id) = (name, id);
    }

    /// Notes an object. Returns its rank.
    fn note(&mut self, path: &ResourcePath<'_>) -> u8 {
        let rank = rank_of(Some(path.kind().as_str()));
        if rank > 1 && self.objects.len() < MAX_OBJECTS {
            let object = escaped(&path.to_string());
            if !self.objects.contains(&object) {
                self.objects.push(object);
            }
        }
        if rank >= self.rank {
            self.rank = rank;
            self.set_object(path.into());
        }
        rank
    }

    /// Returns the record of the outcome; `None` if the level leaves it out.
    fn outcome(&mut self, level: AuditLevel, status: u16) -> Option<AuditRecord> {
        let failed = status >= 400;
        // A look-up that found nothing visible may have been followed by one that did.
        let refused = self.refused.take().filter(|(_, _, is_enforced, _)| failed || !is_enforced);
        // Some refusals ask for no privilege: those of row filters and column masks, and that of a form without its secret.
        let is_forbidden = status == 403;
        if !(self.kind.is_recorded_at(level) || refused.is_some() || is_forbidden || self.broke_glass) {
            return None;
        }
        if let Some((object, privileges, is_enforced, policy)) = refused {
            // A role or a token says more than the server, on which its privilege is asked for.
            if object.kind.as_deref() != Some(SecurableKind::Server.as_str()) || self.record.object.is_none() {
                self.set_object(object);
            }
            (self.record.privileges, self.record.rule) = (Some(privileges), policy);
            self.record.decision = if is_enforced { AuditDecision::Refused } else { AuditDecision::Reported };
        } else if is_forbidden {
            self.record.rule = None;
        }
        if is_forbidden {
            self.record.decision = AuditDecision::Refused;
        }
        let several = self.objects.len() > 1;
        self.record.objects = several.then(|| self.objects.join("; "));
        self.record.status = Some(status);
        Some(self.record.clone())
    }
}

/// The trail of one request, which receives the decisions of its caller.
#[derive(Debug)]
pub struct RequestTrail {
    audit: Audit,
    /// True if objects and rules are noted. A request that is recorded only if it is refused does without.
    notes: bool,
    noted: Mutex<Noted>,
}

impl RequestTrail {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the operation and its kind, which are not known before a statement is planned.
    pub fn set_operation(&self, operation: &str, kind: AuditedKind) {
        let mut noted = self.noted();
        operation.clone_into(&mut noted.record.operation);
        (noted.kind, noted.record.is_change) = (kind, kind == AuditedKind::Change);
    }

    /// Sets the object of a request that names it in its body: a thing that is to be made, a role, or the client of a token.
    ///
    /// The warehouse stays that of the path. The catalog says more of a thing that it finds.
    pub fn set_object(&self, kind: &str, name: &str) {
        let mut noted = self.noted();
        // Rights are decided on the namespace around a new one, which is not the object.
        let is_namespace = kind == SecurableKind::Namespace.as_str();
        noted.rank = if is_namespace { RANK_OF_TABLE } else { rank_of(Some(kind)) };
        let warehouse = noted.record.warehouse.take();
        let (kind, name) = (Some(kind.to_owned()), Some(shown_name(name)));
        noted.set_object(AuditedObject { warehouse, kind, name, id: None });
    }

    /// Takes over what was noted of the request in which a statement was planned that this one runs.
    pub fn adopt(&self, planned: &Self) {
        let (record, objects, rank, rank_of_rule) = {
            let planned = planned.noted();
            (planned.record.clone(), planned.objects.clone(), planned.rank, planned.rank_of_rule)
        };
        let mut noted = self.noted();
        (noted.objects, noted.rank, noted.rank_of_rule) = (objects, rank, rank_of_rule);
        let own = &mut noted.record;
        (own.warehouse, own.object_kind) = (record.warehouse, record.object_kind);
        (own.object, own.object_id) = (record.object, record.object_id);
        (own.decision, own.rule, own.privileges) = (record.decision, record.rule, record.privileges);
    }

    /// Records the attempt at a change, before anything is changed, if changes need a record.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Unrecorded`] if the record can't be written. The change must then not be made.
    pub async fn begin(&self) -> Result<(), AuthError> {
        if !self.audit.inner.options.required {
            return Ok(());
        }
        let record = {
            let noted = self.noted();
            if noted.kind != AuditedKind::Change {
                return Ok(());
            }
            stamped(AuditRecord { phase: AuditPhase::Attempt, ..noted.record.clone() })
        };
        let inner = &self.audit.inner;
        if let Err(error) = inner.state.audit().append(&record).await {
            inner.refused.fetch_add(1, Ordering::Relaxed);
            return Err(AuthError::Unrecorded(error));
        }
        inner.written.fetch_add(1, Ordering::Relaxed);
        if inner.options.log {
            log(&record);
        }
        Ok(())
    }

    /// Records the outcome of the request, once. `status` is the HTTP status of the answer.
    pub fn finish(&self, status: u16) {
        let record = {
            let mut noted = self.noted();
            if std::mem::replace(&mut noted.is_over, true) {
                return;
            }
            noted.outcome(self.audit.inner.options.record, status)
        };
        if let Some(record) = record {
            self.audit.enqueue(stamped(record));
        }
    }
}

/// Records the outcome of a request when it is dropped, so that a client that goes away or a panic leaves its record too.
#[derive(Debug)]
pub struct OutcomeGuard {
    trail: Option<Arc<RequestTrail>>,
    status: Option<u16>,
}

impl OutcomeGuard {
    /// The status of a request whose client went away before the answer.
    const CLIENT_GONE: u16 = 499;

    /// Guards a request, if it has a trail.
    pub const fn new(trail: Option<Arc<RequestTrail>>) -> Self {
        Self { trail, status: None }
    }

    /// Sets the HTTP status of the answer.
    pub const fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }
}

impl Drop for OutcomeGuard {
    fn drop(&mut self) {
        let cut_short = if std::thread::panicking() { 500 } else { Self::CLIENT_GONE };
        if let Some(trail) = &self.trail {
            trail.finish(self.status.unwrap_or(cut_short));
        }
    }
}

/// Records a command on the server's machine, whatever the configuration of a server records.
///
/// `kind` and `name` are those of the object: of a client, a token, a key or an access policy.
///
/// # Errors
///
/// Returns [`AuthError::State`] if the record can't be written.
pub async fn record_command(state: &State, operation: &str, (kind, name): (&str, &str)) -> Result<(), AuthError> {
    let record = AuditRecord {
        phase: AuditPhase::Attempt,
        is_change: true,
        object_kind: Some(kind.to_owned()),
        object: Some(shown_name(name)),
        ..record_of("command", ("machine", MACHINE.to_owned()), operation.to_owned())
    };
    Ok(state.audit().append(&stamped(record)).await?)
}

/// Returns the record of an outcome of which only the principal, by kind and name, and the operation are known.
fn record_of(protocol: &str, (principal_kind, principal): (&str, String), operation: String) -> AuditRecord {
    AuditRecord {
        uuid: String::new(),
        time_ms: 0,
        phase: AuditPhase::Outcome,
        request_id: String::new(),
        protocol: protocol.to_owned(),
        principal_kind: principal_kind.to_owned(),
        principal,
        operation,
        is_change: false,
        decision: AuditDecision::None,
        rule: None,
        privileges: None,
        warehouse: None,
        object_kind: None,
        object: None,
        object_id: None,
        objects: None,
        status: None,
        source_ip: None,
        engine: None,
    }
}

/// Returns a record with an identifier of its own and the present time.
fn stamped(record: AuditRecord) -> AuditRecord {
    AuditRecord { uuid: Uuid::now_v7().to_string(), time_ms: now_ms(), ..record }
}

impl Record for RequestTrail {
    fn record(&self, decision: WorthRecording<'_>) {
        let mut noted = self.noted();
        match decision.decision {
            AccessDecision::Allow { .. } => {
                noted.broke_glass = true;
                noted.record.decision = AuditDecision::Allowed;
                noted.record.rule = Some(esker_access::BREAK_GLASS.to_owned());
            }
            AccessDecision::Deny { missing, .. } => {
                let need = decision.need;
                let policy = || decision.caller.forbidden_by(&need.on, missing).map(str::to_owned);
                let refusal = || (AuditedObject::from(&need.on), need.required.to_string(), decision.is_enforced, policy());
                noted.refused.get_or_insert_with(refusal);
            }
        }
    }

    fn decided(&self, decision: WorthRecording<'_>) {
        // A refusal may be one of several ways to a right. The last word is with `record`.
        let AccessDecision::Allow { rule } = decision.decision else { return };
        if !self.notes {
            return;
        }
        let mut noted = self.noted();
        let rank = noted.note(&decision.need.on);
        if rank >= noted.rank_of_rule {
            noted.rank_of_rule = rank;
            noted.record.decision = AuditDecision::Allowed;
            noted.record.rule = Some(decision.caller.subject().rules().rule_name(rule).to_owned());
            noted.record.privileges = Some(decision.need.required.to_string());
        }
    }

    fn named(&self, on: &ResourcePath<'_>) {
        self.noted().note(on);
    }

    fn wants_names(&self) -> bool {
        self.notes
    }
}

/// A receiver that hands decisions to the counters and the log, and to the trail of their request.
#[derive(Debug)]
pub(crate) struct Audited {
    pub(crate) counted: Arc<Counted>,
    pub(crate) trail: Arc<RequestTrail>,
}

impl Record for Audited {
    fn record(&self, decision: WorthRecording<'_>) {
        self.counted.record(decision);
        self.trail.record(decision);
    }

    fn decided(&self, decision: WorthRecording<'_>) {
        self.trail.decided(decision);
    }

    fn named(&self, on: &ResourcePath<'_>) {
        self.trail.named(on);
    }

    fn wants_names(&self) -> bool {
        self.trail.wants_names()
    }
}

#[cfg(test)]
mod tests;
