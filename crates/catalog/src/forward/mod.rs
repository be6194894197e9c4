//! Forwarding: commits to a table that several servers commit to go to one of them, which makes batches of them.
//!
//! ```text
//!   lost two swaps in ten seconds ---> takes the lease of the table, or learns who holds it
//!
//!   commit, another holds it --> sent ---- committed, or refused -----------------------> answered
//!                                 `------- not taken, or no answer: takes the lease with the next term
//!                                            |---- its receipt is there --------------> answered: Ok
//!                                            `---- it is not: it was certainly not made, and never will be
//!                                                    `---> committed here, like any other commit
//! ```
//!
//! The holder publishes a commit that was sent in a term only if it still holds the lease in that term, in the transaction of the
//! pointer swap, which records the receipt too. So after the lease was taken, the receipt says what became of the commit. The swap
//! stays the only truth: a server that knows no lease competes with the holder, and either may win.
//!
//! The catalog was opened with a [`Forwarder`], or there are no leases. It sends messages; this module says which, and what
//! becomes of them. Start reading at `Catalog::forward`, then at [`Catalog::commit_forwarded`] for the holder.

mod known;

use std::fmt;
use std::sync::Arc;

use esker_access::Privilege;
use esker_state::{CommitLease, FORWARDED_COMMIT, ReceiptKey, StateError, TabularKind, TabularRow};
use esker_storage::Location;
use esker_table::MergeClass;
use esker_types::{Coded, ErrorCode, TableId};
use futures::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

use crate::authorize::{ANY_OF_TABLE, hidden_as_missing};
use crate::sequencer::state_unknown;
use crate::{Actor, Authority, Catalog, CatalogError, Committed, LoadedTable, Proposal, RequestOutcome, Result};

pub use known::ForwardCounts;
pub(crate) use known::KnownLeases;

/// The answer of a server to a commit that was sent to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forwarded {
    /// The commit was made.
    Committed {
        /// URI of the metadata file after the batch.
        metadata_location: String,
        /// Number of commits in the batch.
        batch: usize,
        /// Class of the commit, if it was late and was merged.
        merged: Option<MergeClass>,
    },
    /// The commit was certainly not made, and has an error of its own. That of a late commit comes when its client is next.
    Refused {
        /// Code of the error.
        code: ErrorCode,
        /// Text of the error.
        message: String,
    },
    /// The server does not hold the lease in this term any more.
    Ended,
    /// It is not known what became of the commit, for this reason.
    Unanswered(String),
}

/// A commit was certainly not sent, for this reason. It says nothing of the server that it was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotSent(pub String);

/// Sends commits to other servers, and is reached by them.
pub trait Forwarder: fmt::Debug + Send + Sync {
    /// Returns the address at which other servers reach this one.
    fn address(&self) -> &str;

    /// Sends a commit to the server that holds a lease, and waits for its answer. The commit has a receipt key and a caller.
    ///
    /// `warehouse` is the number of the table's warehouse in the database. A server without a sign of life for a short time does
    /// not answer.
    ///
    /// # Errors
    ///
    /// Returns [`NotSent`] if the commit can't be sent to any server now.
    fn forward<'a>(
        &'a self,
        lease: &'a CommitLease,
        warehouse: i64,
        proposal: &'a Proposal,
    ) -> BoxFuture<'a, std::result::Result<Forwarded, NotSent>>;
}

/// Returns the receipt key of a commit; one of its own if the client sent none.
fn receipt_key(catalog: &Catalog, actor: &Actor) -> ReceiptKey {
    actor.receipt.clone().unwrap_or_else(|| ReceiptKey {
        warehouse: catalog.warehouse(),
        principal: actor.principal.clone(),
        operation: FORWARDED_COMMIT.to_owned(),
        key: Uuid::now_v7(),
        body_sha256: String::new(),
    })
}

/// Returns the error of a commit that was made, and whose table can't be read afterwards.
fn unread(row: &TabularRow, error: &CatalogError) -> CatalogError {
    state_unknown(&row.name, format!("it was applied by another server, and the table can't be read: {error}"))
}

/// Another server that holds the lease of a table, with what sends it commits.
pub(crate) struct Holder {
    forwarder: Arc<dyn Forwarder>,
    lease: CommitLease,
}

/// A commit that is sent to the holder of a lease.
struct SentCommit {
    row: TabularRow,
    key: ReceiptKey,
    proposal: Proposal,
    /// Its place among the commits of the warehouse, until it is answered.
    _place: OwnedSemaphorePermit,
}

impl Catalog {
    /// Takes the lease of the commits to a table, or learns which server holds it. Does nothing without a [`Forwarder`].
    ///
    /// Servers call this when they lost swaps of the table. A failure is logged: without the lease, servers go on to compete.
    pub async fn seek_lease(&self, table: TableId) {
        let Some(forwarder) = &self.options().forwarder else { return };
        if self.inner.leases.knows(table, Instant::now()) {
            return;
        }
        match self.state().tables().take_lease(table, forwarder.address(), None).await {
            Ok(lease) => {
                tracing::info!(table_id = %table, server = %lease.server, term = lease.term, "the commits to a table have a sequencer");
                self.inner.leases.note(lease, Instant::now());
            }
            Err(error) => tracing::warn!(table_id = %table, %error, "the lease of a table's commits could not be taken"),
        }
    }

    /// Notes that a batch lost a swap of a table to another server. Seeks the lease if that happens often.
    pub(crate) async fn note_lost_swap(&self, table: TableId) {
        if self.options().forwarder.is_some() && self.inner.leases.note_loss(table, Instant::now()) {
            self.seek_lease(table).await;
        }
    }

    /// Returns the numbers of commits that went to other servers or came from them. `None` if this server forwards none.
    pub fn forward_counts(&self) -> Option<ForwardCounts> {
        self.options().forwarder.as_ref().map(|_| self.inner.leases.counts())
    }

    /// Returns the server to which a client's commit is to be sent. `None` if this one commits it.
    pub(crate) fn holder_of(&self, table: TableId, proposal: &Proposal) -> Option<Holder> {
        let is_sent = matches!(proposal.actor.authority, Authority::Caller(_)) && proposal.restore.is_none();
        let forwarder = self.options().forwarder.clone().filter(|_| is_sent)?;
        let lease = self.inner.leases.of_another(table, self.state().servers().own_id(), Instant::now())?;
        Some(Holder { forwarder, lease })
    }

    /// Commits a client's change that was checked at the server that holds the lease of the table.
    pub(crate) async fn forward(&self, row: &TabularRow, holder: Holder, proposal: Proposal) -> Result<Committed> {
        let key = receipt_key(self, &proposal.actor);
        let proposal = Proposal { actor: Actor { receipt: Some(key.clone()), ..proposal.actor }, ..proposal };
        let sent = SentCommit { row: row.clone(), key, proposal, _place: self.inner.commit_queues.place()? };
        // A task of its own, because a client that disconnects must not keep a commit from being made.
        let this = self.clone();
        let work = async move { this.forward_to_end(holder, sent).await };
        let task = tokio::spawn(work.in_current_span());
        task.await.unwrap_or_else(|error| Err(state_unknown(&row.name, format!("the task that sent the commit ended: {error}"))))
    }

    /// Sends a commit to the holder of the lease, and finds out what became of it if that one does not answer.
    async fn forward_to_end(&self, holder: Holder, sent: SentCommit) -> Result<Committed> {
        let (leases, lease) = (&self.inner.leases, &holder.lease);
        let answer = match holder.forwarder.forward(lease, self.warehouse().id, &sent.proposal).await {
            Ok(answer) => answer,
            Err(NotSent(reason)) => {
                tracing::warn!(table = %sent.row.name, reason, "a commit can't be sent to the sequencer of its table; it is made here");
                return self.commit_in_turn(sent.row.id, sent.proposal, None).await;
            }
        };
        match answer {
            Forwarded::Committed { metadata_location, batch, merged } => {
                leases.count(|counts| counts.committed += 1);
                // The holder has renewed the lease.
                leases.note(lease.clone(), Instant::now());
                let table = self.load_as_committed(&sent.row, metadata_location).await?;
                Ok(Committed { table, batch, merged })
            }
            Forwarded::Refused { code, message } => {
                leases.count(|counts| counts.refused += 1);
                Err(CatalogError::Forwarded { code, message })
            }
            Forwarded::Ended => self.find_out(holder, sent).await,
            Forwarded::Unanswered(reason) => {
                let (table, server) = (&sent.row.name, &lease.server);
                tracing::warn!(%table, %server, reason, "the sequencer of a table did not answer; this server takes the lease");
                leases.note_silent(lease.server, Instant::now());
                self.find_out(holder, sent).await
            }
        }
    }

    /// Takes the lease of the next term, and finds out whether a commit of the earlier one was made. If not, it is made here.
    async fn find_out(&self, Holder { forwarder, lease }: Holder, sent: SentCommit) -> Result<Committed> {
        let SentCommit { row, key, proposal, _place } = sent;
        self.inner.leases.count(|counts| counts.unanswered += 1);
        let unknown = |error: CatalogError| {
            state_unknown(&row.name, format!("it was sent to another server, which did not answer, and then: {error}"))
        };
        let taken = self.state().tables().take_lease(row.id, forwarder.address(), Some(lease.term)).await;
        // From here on, nothing that was sent in an earlier term is published.
        self.inner.leases.note(taken.map_err(|error| unknown(error.into()))?, Instant::now());
        if let Some(table) = self.made_before(&row, &key).await.map_err(unknown)? {
            return Ok(Committed { table, batch: 1, merged: None });
        }
        match self.commit_in_turn(row.id, proposal, None).await {
            // The holder wrote a receipt without a publish: the commit changed nothing.
            Err(duplicate @ CatalogError::State(StateError::DuplicateKey(_))) => {
                let made = self.made_before(&row, &key).await.map_err(unknown)?;
                made.map(|table| Committed { table, batch: 1, merged: None }).ok_or(duplicate)
            }
            result => result,
        }
    }

    /// Returns the table as a commit left it, if there is a receipt of the commit.
    async fn made_before(&self, row: &TabularRow, key: &ReceiptKey) -> Result<Option<LoadedTable>> {
        let receipt = self.receipt(key).await?.filter(|receipt| receipt.body_sha256 == key.body_sha256);
        let outcome = receipt.and_then(|receipt| serde_json::from_str::<RequestOutcome>(&receipt.outcome).ok());
        match outcome {
            Some(RequestOutcome::Table { metadata_location, .. }) => {
                self.load_as_committed(row, metadata_location).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Loads the state that a commit of another server made.
    async fn load_as_committed(&self, row: &TabularRow, metadata_location: String) -> Result<LoadedTable> {
        let then = TabularRow { metadata_location, ..row.clone() };
        let mut table = self.load_row(then).await.map_err(|error| unread(row, &error))?;
        // A commit may move the table.
        let location = Location::parse(&table.metadata.location).map_err(|error| unread(row, &error.into()))?;
        table.row.location = location.to_string();
        Ok(table)
    }

    /// Commits a change that another server sent in a term, because this one holds the lease of the table.
    ///
    /// The caller's privileges are checked under the rules of this server. The commit goes on if nobody waits for it any more. Its
    /// client has turns here, like those of this server.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) with [`StateError::LeaseEnded`] if this server does not hold the lease in this term any
    /// more, and with [`StateError::NoSuchTable`] if the warehouse has no such table. Returns the errors of [`Catalog::commit`].
    pub async fn commit_forwarded(&self, table: TableId, term: i64, proposal: Proposal) -> Result<Committed> {
        self.inner.leases.count(|counts| counts.received += 1);
        let row = self.tabular_by_id(table).await?.filter(|row| row.kind == TabularKind::Table);
        let row = row.ok_or_else(|| StateError::NoSuchTable(table.to_string()))?;
        let required = ANY_OF_TABLE.and(Privilege::ReadMetadata.into());
        self.require_tabular(&proposal.actor.authority, &row.name, &row, required)?;
        self.prefetch_appends(&row, &proposal).await;
        self.check_new_files(&row, &proposal).await.map_err(|error| hidden_as_missing(&row.name, error))?;
        let result = self.commit_in_turn(row.id, proposal, Some(term)).await;
        result.map_err(|error| hidden_as_missing(&row.name, error))
    }
}

impl Forwarded {
    /// Returns the answer of the holder of a lease, from the result of [`Catalog::commit_forwarded`].
    pub fn of(result: &Result<Committed>) -> Self {
        match result {
            Ok(committed) => Self::Committed {
                metadata_location: committed.table.row.metadata_location.clone(),
                batch: committed.batch,
                merged: committed.merged,
            },
            Err(CatalogError::State(StateError::LeaseEnded { .. })) => Self::Ended,
            Err(error) if error.code() == ErrorCode::CommitStateUnknown => Self::Unanswered(error.to_string()),
            Err(error) => Self::Refused { code: error.code(), message: error.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use esker_format::FormatError;

    use super::*;

    #[test]
    fn an_answer_says_whether_a_commit_was_certainly_not_made() {
        let of = |error: CatalogError| Forwarded::of(&Err(error));
        let ended = StateError::LeaseEnded { table: "t".to_owned(), term: 1 };
        assert_eq!(of(ended.into()), Forwarded::Ended);
        let unknown = state_unknown(&"n.t", "the database did not confirm".to_owned());
        assert!(matches!(of(unknown), Forwarded::Unanswered(reason) if reason.contains("did not confirm")));
        let copy = CatalogError::Batch { code: ErrorCode::CommitStateUnknown, message: "unknown".to_owned() };
        assert_eq!(of(copy), Forwarded::Unanswered("unknown".to_owned()));
        for (error, code) in [
            (CatalogError::from(FormatError::Requirement("moved".to_owned())), ErrorCode::CommitConflict),
            (CatalogError::Invalid("wrong".to_owned()), ErrorCode::BadRequest),
            (CatalogError::QueueFull { what: "table t".to_owned(), waiting: 9 }, ErrorCode::TooBusy),
        ] {
            let text = error.to_string();
            let Forwarded::Refused { code: sent, message } = of(error) else { panic!("{text} is certain") };
            assert_eq!((sent, &message), (code, &text));
            // The client of the sender gets what the receiver's own client would get.
            let answered = CatalogError::Forwarded { code: sent, message };
            assert_eq!((answered.code(), answered.to_string()), (code, text));
        }
    }
}
