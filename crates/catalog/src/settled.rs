//! [`Settled`]: the changes of a batch whose results are known before they are computed.
//!
//! A request may be repeated while the first one still waits, and a lease may end while commits that were sent under it wait. Neither
//! has anything to do with the other changes of the batch.

use std::collections::HashSet;

use esker_state::{ReceiptKey, StateError};
use esker_table::MergeClass;
use esker_types::TableId;
use uuid::Uuid;

use crate::commit_queue::{PendingCommit, QueuedChange};
use crate::{CatalogError, Result};

/// What the attempts of a batch have found out about its changes.
#[derive(Default)]
pub(crate) struct Settled {
    /// The idempotency keys of which there are receipts already.
    pub(crate) carried_out: HashSet<Uuid>,
    /// The highest term of the batch, if this server does not hold the lease in it any more.
    pub(crate) ended_term: Option<i64>,
}

impl Settled {
    /// Returns the term in which changes of a batch may still be published. Of several, the highest one is the present one.
    pub(crate) fn present_term(&self, batch: &[PendingCommit]) -> Option<i64> {
        let highest = batch.iter().filter_map(|pending| pending.change.term()).max();
        highest.filter(|_| self.ended_term.is_none())
    }

    /// Returns the result of a change that is not computed: one that was sent in another term than `term`, or whose request another
    /// one of the batch or before it had. `applied` are the requests of the batch before it.
    pub(crate) fn result_of(
        &self,
        change: &dyn QueuedChange,
        (table, term): (TableId, Option<i64>),
        applied: &[ReceiptKey],
    ) -> Option<Result<Option<MergeClass>>> {
        if let Some(ended) = change.term().filter(|sent_in| Some(*sent_in) != term) {
            return Some(Err(StateError::LeaseEnded { table: table.to_string(), term: ended }.into()));
        }
        result_of_repeated(change.request()?, applied, &self.carried_out)
    }
}

/// Returns the result of a request whose key another one had before it: one of `applied` in the batch, or one that was carried
/// out earlier. `None` for a key that is new.
///
/// A client that gave up repeats a request whose first commit may still wait. A second receipt would fail the whole batch.
fn result_of_repeated(
    request: &ReceiptKey,
    applied: &[ReceiptKey],
    carried_out: &HashSet<Uuid>,
) -> Option<Result<Option<MergeClass>>> {
    if carried_out.contains(&request.key) {
        return Some(Err(StateError::DuplicateKey(request.key).into()));
    }
    let names = |key: &ReceiptKey| (key.key, key.principal.clone(), key.operation.clone());
    let first = applied.iter().find(|first| names(first) == names(request))?;
    Some(match first.body_sha256 == request.body_sha256 {
        true => Ok(None),
        false => {
            let what = format!("idempotency-key {} was used for another request body; use a new key", request.key);
            Err(CatalogError::Invalid(what))
        }
    })
}

#[cfg(test)]
mod tests {
    use esker_state::Warehouse;
    use tokio::sync::oneshot;

    use super::*;
    use crate::commit_queue::{CommitQueues, FixedChange};
    use crate::{Proposal, QueueOptions};

    #[test]
    fn of_changes_that_were_sent_in_terms_those_of_the_highest_one_count_until_it_has_ended() {
        let (queues, table) = (CommitQueues::new(QueueOptions { per_table: 9, total: 9, batch: 9 }), TableId::fresh());
        let queue = queues.queue(table);
        for term in [None, Some(4), Some(5)] {
            let change = FixedChange { proposal: Proposal::default(), term, done: oneshot::channel().0 };
            queue.enter(table, Box::new(change)).expect("room");
        }
        let batch = queue.take_batch();
        let ended = |settled: &Settled| -> Vec<Option<i64>> {
            let term = settled.present_term(&batch);
            let result = |pending: &PendingCommit| settled.result_of(pending.change.as_ref(), (table, term), &[]);
            let term_of = |result: Option<Result<Option<MergeClass>>>| match result {
                Some(Err(CatalogError::State(StateError::LeaseEnded { term, .. }))) => Some(term),
                _ => None,
            };
            batch.iter().map(|pending| term_of(result(pending))).collect()
        };
        assert_eq!(ended(&Settled::default()), [None, Some(4), None]);
        assert_eq!(ended(&Settled { ended_term: Some(5), ..Settled::default() }), [None, Some(4), Some(5)]);
    }

    #[test]
    fn a_repeated_request_has_the_result_of_the_first_one_and_another_body_is_refused() {
        let request = |principal: &str, body: &str| ReceiptKey {
            warehouse: Warehouse { id: 1, case_insensitive: false },
            principal: principal.to_owned(),
            operation: "POST /v1/t".to_owned(),
            key: Uuid::from_u128(7),
            body_sha256: body.to_owned(),
        };
        let (applied, nothing) = ([request("a", "body")], HashSet::new());
        assert!(matches!(result_of_repeated(&request("a", "body"), &applied, &nothing), Some(Ok(None))));
        let other_body = result_of_repeated(&request("a", "another"), &applied, &nothing);
        assert!(matches!(other_body, Some(Err(CatalogError::Invalid(_)))));
        assert!(result_of_repeated(&request("b", "body"), &applied, &nothing).is_none(), "another client's");
        let carried_out = HashSet::from([Uuid::from_u128(7)]);
        let result = result_of_repeated(&request("a", "body"), &[], &carried_out);
        assert!(matches!(result, Some(Err(CatalogError::State(StateError::DuplicateKey(_))))));
    }
}
