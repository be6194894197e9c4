//! Several tables in one commit: all of it, or none.

use std::collections::HashSet;

use esker_state::{Along, NewTable, StateError, Swap};
use esker_types::{TableId, TableName};
use iceberg::TableRequirement;
use tokio::sync::OwnedMutexGuard;

use crate::cause::receipt;
use crate::{Catalog, CatalogError, Cause, Change, LoadedTable, Outcome, Proposal, Result};

/// Times that the whole is applied again after another server process won the race for one of its tables.
const MAX_REPLAYS: usize = 10;

/// One table's part of a transaction.
#[derive(Debug, Clone)]
pub struct TableChange {
    /// The table.
    pub name: TableName,
    /// What changes. With `assert-create`, the table is made.
    pub proposal: Proposal,
}

impl TableChange {
    fn creates(&self) -> bool {
        self.proposal.requirements.iter().any(|r| matches!(r, TableRequirement::NotExist))
    }
}

impl Catalog {
    /// Commits to several tables at once. A requirement that fails for one fails all.
    pub async fn commit_transaction(&self, changes: Vec<TableChange>, cause: Cause) -> Result<()> {
        let mut names = HashSet::new();
        if let Some(twice) = changes.iter().find(|c| !names.insert(c.name.clone())) {
            return Err(CatalogError::Invalid(format!("table {} is in the transaction more than once", twice.name)));
        }
        let this = self.clone();
        // A task of its own: a client that goes away must not leave it half done.
        let work = tokio::spawn(async move { this.transact(&changes, &cause).await });
        work.await.unwrap_or_else(|e| {
            Err(CatalogError::StateUnknown { table: "the transaction's tables".to_owned(), reason: e.to_string() })
        })
    }

    async fn transact(&self, changes: &[TableChange], cause: &Cause) -> Result<()> {
        let _held = self.hold_all(changes).await?;
        for _ in 0..MAX_REPLAYS {
            if self.try_transact(changes, cause).await? {
                return Ok(());
            }
        }
        let lost = format!("other servers kept committing to the transaction's tables for {MAX_REPLAYS} attempts");
        Err(CatalogError::Conflict(lost))
    }

    /// The turns of all tables that exist, in the order of their ids, so that two transactions never wait for each other.
    async fn hold_all(&self, changes: &[TableChange]) -> Result<Vec<OwnedMutexGuard<()>>> {
        let mut ids: Vec<TableId> = Vec::new();
        for change in changes.iter().filter(|c| !c.creates()) {
            ids.push(self.state().table(self.warehouse(), &change.name).await?.id);
        }
        ids.sort_unstable();
        let mut held = Vec::new();
        for id in ids {
            held.push(self.hold_commits(id).await);
        }
        Ok(held)
    }

    /// `false`: a pointer moved meanwhile.
    async fn try_transact(&self, changes: &[TableChange], cause: &Cause) -> Result<bool> {
        // Everything is checked before the first file is written.
        let mut updated: Vec<(LoadedTable, LoadedTable, Proposal)> = Vec::new();
        let mut created = Vec::new();
        for change in changes {
            if change.creates() {
                let metadata = self.metadata_of_create(&change.name, change.proposal.clone()).await?;
                created.push((change.name.clone(), metadata));
                continue;
            }
            let current = self.load(&change.name).await?;
            let base = Some(current.row.metadata_location.as_str());
            let fixed = Change::Fixed(Box::new(change.proposal.clone()));
            if let (Some(metadata), proposal) = self.apply_change(&current, base, &fixed).await? {
                let working = LoadedTable { metadata: metadata.into(), ..current.clone() };
                updated.push((current, working, proposal));
            }
        }
        let mut along = Along::default();
        let mut swaps: Vec<Swap> = Vec::new();
        for (current, working, proposal) in &mut updated {
            let dooms = std::mem::take(&mut proposal.dooms);
            let settled = std::mem::take(&mut proposal.settled_outputs);
            let swap = self.write_next(current, working, dooms, settled, &proposal.updates).await?;
            along.events.push(self.update_event(current, working, proposal, cause));
            swaps.push(swap);
        }
        let (mut new, mut made): (Vec<NewTable>, Vec<LoadedTable>) = (Vec::new(), Vec::new());
        for (name, metadata) in created {
            let (table, entry) = self.write_first(name, metadata).await?;
            let data = crate::create::created_data(&table.row, serde_json::json!({}));
            along.events.push(self.event(cause, "table.created", &table.row.name, data));
            new.push(entry);
            made.push(table);
        }
        along.receipts.extend(receipt(cause, &Outcome::NoContent));
        self.halt("commit-before-swap").await;
        let published = self.state().publish(self.warehouse(), &swaps, &new, &along).await;
        match &published {
            Ok(true) => {
                self.tell_change();
                for table in updated.iter().map(|(_, working, _)| working).chain(&made) {
                    self.remember_metadata(&table.row.metadata_location, table.metadata.clone(), table.json.clone()).await;
                }
            }
            // Files whose fate nobody knows are kept.
            Err(StateError::Ambiguous(_)) => {}
            Ok(false) | Err(_) => {
                for ((current, ..), swap) in updated.iter().zip(&swaps) {
                    self.discard(&current.row, &swap.to, "a transaction that did not come about").await;
                }
            }
        }
        published.map_err(|e| {
            let tables: Vec<String> = changes.iter().map(|c| c.name.to_string()).collect();
            CatalogError::of_publishing(e, &tables.join(", "))
        })
    }
}
