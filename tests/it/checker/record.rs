//! [`Record`]: the answers about one table that its clients got, and what they say of each later answer and of the table's end.

use std::collections::{HashMap, HashSet};

use esker_format::TableMetadata;

/// The answers about one table, of all clients and all servers.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The parent of each snapshot that an answer had.
    parents: HashMap<i64, Option<i64>>,
    /// Snapshots whose commits were answered as successes.
    acknowledged: HashSet<i64>,
    /// Snapshots whose commits were answered as not applied.
    refused: HashSet<i64>,
    /// Moves of `main` from its head back to an ancestor that have happened, or may have.
    rollbacks: Vec<(i64, i64)>,
    /// The highest sequence number of the table that an answer had.
    newest: i64,
}

impl Record {
    /// Returns the sequence number that the answer to a request sent now has at least.
    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    /// Returns the number of snapshots that were acknowledged.
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Returns the parent of a snapshot, as the answers have it.
    pub(super) fn parent(&self, id: i64) -> Option<i64> {
        self.parents.get(&id).copied().flatten()
    }

    /// Takes the acknowledgement of a commit of a snapshot.
    pub(super) fn acknowledge(&mut self, id: i64) {
        self.acknowledged.insert(id);
    }

    /// Takes an answer that a commit of a snapshot was not applied, and never will be.
    pub(super) fn refuse(&mut self, id: i64) {
        self.refused.insert(id);
    }

    /// Takes a move of `main` back to an ancestor, which was acknowledged or has an unknown outcome.
    pub(super) fn roll_back(&mut self, from: i64, to: i64) {
        self.rollbacks.push((from, to));
    }

    /// Takes an answer to a request that was sent when [`Record::newest`] was `sent_at`.
    ///
    /// # Errors
    ///
    /// Returns the contradiction between this answer and an earlier one.
    pub(super) fn observe(&mut self, answer: &TableMetadata, sent_at: i64) -> Result<(), String> {
        let reached = answer.last_sequence_number;
        if reached < sent_at {
            return Err(format!("an answer has sequence number {reached}, after one had {sent_at}"));
        }
        self.newest = self.newest.max(reached);
        for snapshot in &answer.snapshots {
            let (id, parent) = (snapshot.snapshot_id, snapshot.parent_snapshot_id);
            let known = *self.parents.entry(id).or_insert(parent);
            if known != parent {
                return Err(format!("snapshot {id} has the parent {parent:?}, and had {known:?}"));
            }
            if self.refused.contains(&id) {
                return Err(format!("snapshot {id} is in the table, and its commit was answered as not applied"));
            }
        }
        Ok(())
    }

    /// Judges the table once nobody changes it any more.
    ///
    /// # Errors
    ///
    /// Returns an acknowledged snapshot that is neither an ancestor of the head nor removed by a commit, or what else is wrong.
    pub(super) fn judge(&mut self, last: &TableMetadata) -> Result<(), String> {
        self.observe(last, self.newest)?;
        let chain = self.ancestors(last.current_snapshot_id);
        let rolled_back: Vec<(HashSet<i64>, HashSet<i64>)> =
            self.rollbacks.iter().map(|(from, to)| (self.ancestors(Some(*from)), self.ancestors(Some(*to)))).collect();
        let removed = |id: &i64| rolled_back.iter().any(|(before, after)| before.contains(id) && !after.contains(id));
        match self.acknowledged.iter().find(|&id| !chain.contains(id) && !removed(id)) {
            Some(lost) => Err(format!("snapshot {lost} was acknowledged, and is no ancestor of {:?}", last.current_snapshot_id)),
            None => Ok(()),
        }
    }

    /// Returns a snapshot and its ancestors, those that are no longer in the table included.
    fn ancestors(&self, head: Option<i64>) -> HashSet<i64> {
        let (mut found, mut next) = (HashSet::new(), head);
        while let Some(id) = next {
            if !found.insert(id) {
                break;
            }
            next = self.parent(id);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Returns a table whose snapshots have these ids and parents, and are numbered in this order. The last is the head.
    fn table(snapshots: &[(i64, Option<i64>)]) -> TableMetadata {
        let snapshot = |(at, (id, parent)): (usize, &(i64, Option<i64>))| {
            let mut json = json!({"snapshot-id": id, "sequence-number": at + 1, "timestamp-ms": 1000 + at, "schema-id": 0,
                "manifest-list": format!("file:///t/metadata/snap-{id}.avro"), "summary": {"operation": "append"}});
            if let Some(parent) = parent {
                json["parent-snapshot-id"] = (*parent).into();
            }
            json
        };
        let all: Vec<Value> = snapshots.iter().enumerate().map(snapshot).collect();
        let head = snapshots.last().expect("a snapshot").0;
        serde_json::from_value(json!({
            "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "file:///t",
            "last-sequence-number": all.len(), "last-updated-ms": 1000 + all.len(), "last-column-id": 1,
            "schemas": [{"type": "struct", "schema-id": 0,
                "fields": [{"id": 1, "name": "id", "required": false, "type": "long"}]}],
            "current-schema-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}], "default-spec-id": 0,
            "last-partition-id": 999, "sort-orders": [{"order-id": 0, "fields": []}], "default-sort-order-id": 0,
            "properties": {}, "current-snapshot-id": head, "snapshots": all,
            "refs": {"main": {"type": "branch", "snapshot-id": head}},
        }))
        .expect("metadata")
    }

    #[test]
    fn an_acknowledged_snapshot_that_is_in_no_chain_is_found_and_an_expired_one_is_not() {
        let mut record = Record::default();
        record.observe(&table(&[(1, None), (2, Some(1))]), 0).expect("consistent");
        [1, 2, 3].into_iter().for_each(|id| record.acknowledge(id));
        // The first snapshot has expired, and the third one never appears.
        let lost = record.judge(&table(&[(2, Some(1)), (4, Some(2))])).expect_err("a lost snapshot");
        assert!(lost.contains("snapshot 3 was acknowledged"), "{lost}");
        record.observe(&table(&[(2, Some(1)), (3, Some(2)), (4, Some(3))]), 0).expect_err("4 had another parent");
    }

    #[test]
    fn a_snapshot_that_a_rollback_removed_is_not_lost_and_one_beside_it_is() {
        let mut record = Record::default();
        record.observe(&table(&[(1, None), (2, Some(1))]), 0).expect("consistent");
        [1, 2].into_iter().for_each(|id| record.acknowledge(id));
        let after = table(&[(1, None), (2, Some(1)), (3, Some(1))]);
        assert!(record.judge(&after).expect_err("nobody rolled back").contains("snapshot 2"));
        record.roll_back(2, 1);
        record.judge(&after).expect("2 was rolled back");
    }

    #[test]
    fn an_answer_that_is_older_than_the_one_before_it_and_a_refused_snapshot_are_found() {
        let mut record = Record::default();
        record.observe(&table(&[(1, None), (2, Some(1))]), 0).expect("consistent");
        record.observe(&table(&[(1, None)]), 0).expect("it was sent before the other one was answered");
        let back = record.observe(&table(&[(1, None)]), record.newest()).expect_err("a read goes back");
        assert!(back.contains("sequence number 1, after one had 2"), "{back}");
        record.refuse(3);
        let applied = record.observe(&table(&[(1, None), (2, Some(1)), (3, Some(2))]), 2).expect_err("it was refused");
        assert!(applied.contains("answered as not applied"), "{applied}");
    }
}
