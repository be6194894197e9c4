//! [`PeerPort`]: takes the commits that other servers send, and commits them.
//!
//! A message that is not one of a server of this database, not for this process, too old, or that came before, is refused with 403
//! and nothing else. The answer is 503 while the servers' keys can't be used. Why is in the log.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use esker_auth::{AccessControl, KeyRing};
use esker_catalog::{Actor, Authority, Catalog, CatalogError, Forwarded, Proposal};
use esker_types::{CodedError, now_ms, to_millis};
use futures::{StreamExt, stream};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

use super::message::{AnswerMessage, CommitMessage};
use super::once::SeenMessages;
use super::{ROUTE, SIGN_OF_LIFE, VALID};
use crate::{Error, Result};

/// The size that a message may have beyond that of a request, in bytes, before it is encrypted: its caller, and what JSON adds.
const MESSAGE_BYTES: usize = 1 << 20;

/// The sign of life of a receiver that works on a commit.
const WORKING: &[u8] = b" ";

/// The port for other servers. Cheap to clone; the clones remember the messages together.
#[derive(Debug, Clone)]
pub(crate) struct PeerPort {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    keys: KeyRing,
    access: AccessControl,
    catalogs: Vec<Catalog>,
    /// The identifier of this process.
    own: Uuid,
    seen: SeenMessages,
}

impl PeerPort {
    /// Makes the port of the process `own`, for commits to the tables of some catalogs.
    pub(crate) fn new(keys: KeyRing, access: AccessControl, catalogs: Vec<Catalog>, own: Uuid) -> Self {
        Self { inner: Arc::new(Inner { keys, access, catalogs, own, seen: SeenMessages::default() }) }
    }

    /// Builds the service of the port. `max_body_bytes` is the maximum size of a client's request.
    pub(crate) fn router(self, max_body_bytes: usize) -> Router {
        // Encryption adds a third. What a client spells short, such as numbers, may be longer here.
        let most = max_body_bytes.saturating_mul(2).saturating_add(MESSAGE_BYTES);
        Router::new().route(ROUTE, post(receive)).layer(DefaultBodyLimit::max(most)).with_state(self)
    }

    /// Checks a message, and returns it if it counts. From then on it does not count again.
    ///
    /// # Errors
    ///
    /// Returns [`Remote`](Error::Remote) if the message does not count, and [`Auth`](Error::Auth) if the servers' keys can't be used.
    async fn accept(&self, sealed: &[u8]) -> Result<CommitMessage<'static>> {
        let message = CommitMessage::open(&self.inner.keys, sealed).await?;
        if message.receiver != self.inner.own {
            return Err(Error::Remote(format!("it is for the process {}", message.receiver)));
        }
        let now = now_ms();
        if now.saturating_sub(message.sent_ms).saturating_abs() > to_millis(VALID) {
            let what = "it was sent over 30 seconds ago, or the clocks of the two servers differ by more";
            return Err(Error::Remote(what.to_owned()));
        }
        match self.inner.seen.is_first(message.id, now) {
            true => Ok(message),
            false => Err(Error::Remote("it came before".to_owned())),
        }
    }

    /// Commits what a message asks for. Returns the answer.
    async fn commit(&self, message: CommitMessage<'static>) -> AnswerMessage {
        let CommitMessage { term, warehouse, table, caller, principal, receipt, requirements, updates, .. } = message;
        let Some(catalog) = self.inner.catalogs.iter().find(|catalog| catalog.warehouse().id == warehouse) else {
            // A server whose configuration has other warehouses took no lease of the table.
            return AnswerMessage::Ended;
        };
        let (identity, facts) = caller.into_parts();
        let caller = match self.inner.access.caller(identity, facts).await {
            Ok(caller) => caller,
            Err(error) => return Forwarded::of(&Err(CatalogError::Carried(CodedError::new(error)))).into(),
        };
        let receipt = Some(receipt.into_key(catalog.warehouse()));
        let proposal = Proposal {
            requirements: requirements.into_owned(),
            updates: updates.into_owned(),
            actor: Actor { principal, receipt, authority: Authority::Caller(caller) },
            ..Proposal::default()
        };
        Forwarded::of(&catalog.commit_forwarded(table, term, proposal).await).into()
    }
}

/// Takes a message, and answers with signs of life until the commit has ended.
async fn receive(State(port): State<PeerPort>, sealed: Bytes) -> Response {
    let message = match port.accept(&sealed).await {
        Ok(message) => message,
        Err(Error::Remote(reason)) => {
            tracing::warn!(reason, "a message to the port for servers was refused");
            return StatusCode::FORBIDDEN.into_response();
        }
        Err(error) => {
            tracing::error!(%error, "a message to the port for servers can't be read now");
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
    };
    tracing::debug!(table_id = %message.table, sender = %message.sender, term = message.term, "a commit of another server");
    // A task of its own: a sender that is gone must not cut the commit in two.
    let work = tokio::spawn(async move {
        let id = message.id;
        let answer = port.commit(message).await;
        answer.seal(&port.inner.keys, id).await
    });
    let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(WORKING))]);
    Body::from_stream(first.chain(answer_at_last(work))).into_response()
}

/// Returns a stream of signs of life, which ends with the answer. Without an answer it just ends.
fn answer_at_last(
    work: JoinHandle<Result<String>>,
) -> impl futures::Stream<Item = std::result::Result<Bytes, Infallible>> + Send + 'static {
    stream::unfold(Some(work), |work| async move {
        let mut work = work?;
        tokio::select! {
            answered = &mut work => match answered {
                Ok(Ok(answer)) => Some((Ok(answer.into()), None)),
                Ok(Err(error)) => {
                    tracing::error!(%error, "a commit of another server can't be answered");
                    None
                }
                Err(error) => {
                    tracing::error!(%error, "the task of a commit of another server ended");
                    None
                }
            },
            () = sleep(SIGN_OF_LIFE) => Some((Ok(Bytes::from_static(WORKING)), Some(work))),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::net::IpAddr;

    use esker_access::{Caller, Identity, RequestFacts, RuleRows, Rules, Subject, Unrecorded};
    use esker_auth::{KeyPurpose, LoggedDecisions, MasterKeys};
    use esker_format::{TableRequirement, TableUpdate};
    use esker_state::{Database, ReceiptKey, Warehouse};
    use esker_types::TableId;

    use super::super::message::{MessageCaller, MessageReceipt};
    use super::*;

    const OWN: Uuid = Uuid::from_u128(1);

    /// Opens a port of the process [`OWN`], and the keys that it has.
    async fn port(dir: &tempfile::TempDir) -> (PeerPort, KeyRing) {
        let state = esker_state::State::open(Database::Sqlite(dir.path().join("esker.db"))).await.expect("opened");
        let keys = KeyRing::open(state.clone(), MasterKeys::default()).await.expect("keys");
        let access = AccessControl::open(state, Arc::new(LoggedDecisions)).await.expect("rules");
        (PeerPort::new(keys.clone(), access, Vec::new(), OWN), keys)
    }

    /// Makes a message to the process [`OWN`] that was sent now.
    fn message() -> CommitMessage<'static> {
        let rules = Arc::new(Rules::build(RuleRows::default()).expect("rules"));
        let claims = vec!["ops".into()];
        let ann = Identity::User { issuer: "https://id.example".into(), name: "ann".into(), claims };
        let source_ip = Some(IpAddr::from([10, 0, 0, 1]));
        let facts = RequestFacts { operation: "updateTable".into(), source_ip, engine: None, is_tls: true };
        let caller = Caller::new(Arc::new(Subject::new(rules, ann)), facts, Arc::new(Unrecorded));
        let key = ReceiptKey {
            warehouse: Warehouse { id: 1, case_insensitive: false },
            principal: "user:ann".to_owned(),
            operation: "POST /t".to_owned(),
            key: Uuid::now_v7(),
            body_sha256: "abc".to_owned(),
        };
        let updates = r#"[{"action": "set-properties", "updates": {"a": "b"}},
            {"action": "add-snapshot", "snapshot": {"snapshot-id": 7, "sequence-number": 3, "timestamp-ms": 5,
             "manifest-list": "s3://b/l.avro", "summary": {"operation": "append", "engine": "x"}, "schema-id": 0, "new": 1}}]"#;
        let requirements = r#"[{"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": null}]"#;
        CommitMessage {
            id: Uuid::now_v7(),
            sender: Uuid::from_u128(2),
            receiver: OWN,
            sent_ms: now_ms(),
            term: 5,
            warehouse: 1,
            table: TableId::fresh(),
            caller: MessageCaller::of(&caller),
            principal: "https://id.example/ann".to_owned(),
            receipt: MessageReceipt::of(&key),
            requirements: Cow::Owned(serde_json::from_str::<Vec<TableRequirement>>(requirements).expect("requirements")),
            updates: Cow::Owned(serde_json::from_str::<Vec<TableUpdate>>(updates).expect("updates")),
        }
    }

    #[tokio::test]
    async fn a_message_comes_as_it_was_sent_and_counts_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let (port, keys) = port(&dir).await;
        let sent = message();
        let sealed = sent.seal(&keys).await.expect("sealed");
        assert!(!sealed.contains("ann") && !sealed.contains("set-properties"), "nobody reads it: {sealed}");
        assert_eq!(port.accept(sealed.as_bytes()).await.expect("accepted"), sent);
        let (identity, facts) = sent.caller.clone().into_parts();
        assert!(matches!(identity, Identity::User { claims, .. } if claims == [Arc::<str>::from("ops")]));
        assert_eq!((facts.source_ip, facts.is_tls), (Some(IpAddr::from([10, 0, 0, 1])), true));
        let again = port.accept(sealed.as_bytes()).await.expect_err("it came before");
        assert!(matches!(&again, Error::Remote(why) if why.contains("came before")), "{again}");
        let sealed_again = sent.seal(&keys).await.expect("sealed");
        assert!(port.accept(sealed_again.as_bytes()).await.is_err(), "the same message in another form");
    }

    #[tokio::test]
    async fn a_message_for_another_process_or_another_time_or_of_nobody_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let (port, keys) = port(&dir).await;
        let too_early = now_ms().saturating_add(60_000);
        let wrong = [
            (CommitMessage { receiver: Uuid::from_u128(3), ..message() }, "for the process"),
            (CommitMessage { sent_ms: now_ms() - 60_000, ..message() }, "30 seconds"),
            (CommitMessage { sent_ms: too_early, ..message() }, "30 seconds"),
        ];
        for (message, why) in wrong {
            let refused = port.accept(message.seal(&keys).await.expect("sealed").as_bytes()).await.expect_err(why);
            assert!(matches!(&refused, Error::Remote(reason) if reason.contains(why)), "{refused}");
        }
        let sealed = message().seal(&keys).await.expect("sealed");
        for at in (0..sealed.len()).step_by(7) {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            assert!(port.accept(&changed).await.is_err(), "{at}");
            assert!(port.accept(&sealed.as_bytes()[..at]).await.is_err(), "{at}");
        }
        // What the servers made for clients, and their answers, are no messages.
        let json = serde_json::to_vec(&message()).expect("JSON");
        for (purpose, data) in [(KeyPurpose::Plans, &b"commit 1"[..]), (KeyPurpose::Servers, &b"answer 1"[..])] {
            let forged = keys.encrypt(purpose, &[data], &json).await.expect("encrypted");
            assert!(port.accept(forged.as_bytes()).await.is_err(), "{purpose}");
        }
        assert!(port.accept(&json).await.is_err() && port.accept(b"").await.is_err());
        port.accept(sealed.as_bytes()).await.expect("the message itself");
    }

    #[tokio::test]
    async fn an_answer_is_that_of_its_message_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let (_, keys) = port(&dir).await;
        let merged = Some(esker_table::MergeClass::Append);
        let committed = Forwarded::Committed { metadata_location: "s3://b/2.metadata.json".to_owned(), batch: 3, merged };
        let refused =
            Forwarded::Refused { code: esker_types::ErrorCode::CommitConflict, message: "branch main has changed".to_owned() };
        for answer in [committed, refused, Forwarded::Ended, Forwarded::Unanswered("unknown".to_owned())] {
            let sealed = AnswerMessage::from(answer.clone()).seal(&keys, OWN).await.expect("sealed");
            let with_signs = format!("   {sealed}");
            let opened = AnswerMessage::open(&keys, OWN, with_signs.as_bytes()).await.expect("opened");
            assert_eq!(Forwarded::from(opened), answer);
            assert!(AnswerMessage::open(&keys, Uuid::from_u128(9), sealed.as_bytes()).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_server_without_the_warehouse_takes_no_commit() {
        let dir = tempfile::tempdir().expect("a directory");
        let (port, _) = port(&dir).await;
        assert_eq!(port.commit(message()).await, AnswerMessage::Ended);
    }
}
