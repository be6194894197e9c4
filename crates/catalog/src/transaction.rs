//! Commits to several tables: all of them are applied, or none.
//!
//! A transaction takes the turns of its tables in the order of their ids, so that two transactions never wait for each other. It
//! checks every change before it writes the first file, and swaps all pointers in one database transaction. A lost race repeats
//! the whole.
//!
//! Start reading at [`Catalog::commit_transaction`], then `try_transact`. Spec: REST `commitTransaction`.

use std::collections::{BTreeMap, HashMap};

use esker_access::{Need, Privilege, Required, RightsError};
use esker_format::TableRequirement;
use esker_state::{EventData, NewTabular, Outbox, PointerSwap, StateError, TabularKind, TabularRow};
use esker_types::{TableId, TableName};

use crate::actor::receipt;
use crate::authorize::{ANY_OF_TABLE, Named, found, is_audit_name, no_such_namespace, no_such_tabular, require_named};
use crate::commit_queue::CommitHold;
use crate::create::{CheckedCreation, created_data, failed_assert_create};
use crate::places::check_claims_apart;
use crate::sequencer::{AppliedProposal, state_unknown};
use crate::{Actor, Authority, Catalog, CatalogError, LoadedTable, Proposal, RequestOutcome, Result, needs};

/// Maximum number of times that a transaction is applied, if other servers keep winning the race for a table.
const MAX_REPLAYS: usize = 10;

/// The part of a transaction that concerns one table.
#[derive(Debug, Clone)]
pub struct TableChange {
    /// Name of the table.
    pub name: TableName,
    /// Requirements and updates. With `assert-create`, the table is created.
    pub proposal: Proposal,
}

impl TableChange {
    /// Checks whether the change creates its table.
    pub fn creates(&self) -> bool {
        self.proposal.requirements.iter().any(|r| matches!(r, TableRequirement::AssertCreate))
    }
}

/// The part of a transaction that concerns one table, with the id of the table; `None` if it is to be created.
#[derive(Debug)]
struct Resolved {
    change: TableChange,
    id: Option<TableId>,
}

/// A change to an existing table that passed every check and is not written yet.
struct CheckedUpdate<'a> {
    current: LoadedTable,
    applied: AppliedProposal,
    proposal: &'a Proposal,
}

/// Files and rows of a transaction that are not published yet. If it fails, the files go into quarantine.
#[derive(Default)]
struct Written {
    updated: Vec<(LoadedTable, LoadedTable)>,
    swaps: Vec<PointerSwap>,
    created: Vec<LoadedTable>,
    new: Vec<NewTabular>,
    outbox: Outbox,
}

/// The thing that a change of a transaction needs privileges on, with the key of its namespace.
enum ChangedThing {
    /// A table that exists.
    Table { key: String, table: Box<LoadedTable> },
    /// The namespace of a table that is created.
    Namespace { key: String, required: Required },
}

/// Returns the error for a change whose table, or whose namespace, does not exist.
fn missing(change: &TableChange) -> StateError {
    match change.creates() {
        true => no_such_namespace(&change.name.namespace),
        false => no_such_tabular(TabularKind::Table, &change.name),
    }
}

/// Builds the error for a table that occurs twice, with both spellings of its name.
fn duplicate_table(one: &TableName, other: &TableName) -> CatalogError {
    let spelt = if one == other { String::new() } else { format!(", as {one} and as {other}") };
    CatalogError::Invalid(format!("table {one} is in the transaction more than once{spelt}"))
}

impl Catalog {
    /// Commits to several tables at once. If one change fails, none is applied.
    ///
    /// The transaction goes on if the caller stops waiting for it.
    ///
    /// Spec: REST `commitTransaction`.
    ///
    /// # Errors
    ///
    /// - Returns [`State`](CatalogError::State) if a table or namespace does not exist, a view has the name of a new table, or
    ///   the database fails.
    /// - Returns [`Invalid`](CatalogError::Invalid) if a table occurs twice, `assert-create` is not the only requirement of its
    ///   table, or a change has that error in [`Catalog::commit_to`].
    /// - Returns [`Format`](CatalogError::Format), [`Location`](CatalogError::Location) or [`Refused`](CatalogError::Refused) if
    ///   a change has that error in [`Catalog::commit_to`] or [`Catalog::create_by_commit`].
    /// - Returns [`QueueFull`](CatalogError::QueueFull) if too many commits are in the warehouse, and [`Busy`](CatalogError::Busy) if a
    ///   table gave no turn in time. Returns [`Conflict`](CatalogError::Conflict) if a
    ///   snapshot's manifest list is in quarantine or deleted, or other servers won the race ten times.
    /// - Returns [`Behind`](CatalogError::Behind) if storage has states of a table that the database does not have.
    /// - Returns [`StateUnknown`](CatalogError::StateUnknown) if the outcome could not be observed, or the transaction panicked.
    /// - Returns [`Storage`](CatalogError::Storage), [`MetadataGone`](CatalogError::MetadataGone),
    ///   [`MetadataInvalid`](CatalogError::MetadataInvalid), [`OwnFileInvalid`](CatalogError::OwnFileInvalid) or
    ///   [`Table`](CatalogError::Table) if a table can't be read or written, its manifests can't be checked, or the ledger can't be
    ///   read.
    pub async fn commit_transaction(&self, changes: Vec<TableChange>, actor: Actor) -> Result<()> {
        self.authorize_transaction(&changes, &actor.authority).await?;
        let changes = self.resolve(changes).await?;
        for Resolved { change, id } in &changes {
            if let Some(id) = id {
                self.check_new_files(&self.row_by_id(*id, &change.name).await?, &change.proposal).await?;
            }
        }
        let (this, place) = (self.clone(), self.inner.commit_queues.place()?);
        // The transaction runs in a task of its own: a client that disconnects must not leave it half done.
        let work = tokio::spawn(async move {
            let _place = place;
            this.transact(&changes, &actor).await
        });
        let (tables, wait) = ("the transaction's tables", self.options().commit_wait);
        // One wait for the turns, one for the work.
        match tokio::time::timeout(wait * 2, work).await {
            Ok(done) => done.unwrap_or_else(|e| Err(state_unknown(&tables, e.to_string()))),
            Err(_) => Err(state_unknown(&tables, format!("it was started and did not end within {} s", wait.as_secs()))),
        }
    }

    /// Checks the privileges of all changes as one sum, before any table is asked for its turn.
    ///
    /// A table or namespace that does not exist is reported after the privileges on the others, as a hidden one is.
    async fn authorize_transaction(&self, changes: &[TableChange], authority: &Authority) -> Result<()> {
        let touches_audit = changes.iter().any(|change| is_audit_name(&change.name));
        if !authority.is_decided() && !touches_audit {
            return Ok(());
        }
        let mut things = Vec::with_capacity(changes.len());
        for change in changes {
            things.push(self.look_up(change, authority).await?);
        }
        let mut named = Vec::with_capacity(changes.len());
        for (change, thing) in changes.iter().zip(&things) {
            let need = |on, required| Named::found(on, required, missing(change));
            match thing {
                Some(ChangedThing::Table { key, table }) => {
                    let updates = &change.proposal.updates;
                    let required = needs::of_updates(&table.metadata, updates).and(Privilege::ReadMetadata.into());
                    named.push(need(self.tabular_path(key, &table.row), required));
                    if needs::leaves_places(&table.metadata, updates) {
                        named.push(need(self.namespace_path(key), Required::privilege(Privilege::ChooseLocation)));
                    }
                }
                Some(ChangedThing::Namespace { key, required }) => named.push(need(self.namespace_path(key), *required)),
                None => named.push(Named::looked_up(None, missing(change))),
            }
        }
        require_named(authority, named)
    }

    /// Finds the thing that a change needs privileges on: its table, or the namespace in which it creates one.
    ///
    /// A table with which the caller may do nothing at all is not loaded: it is as if it were not there. That is a refusal, which
    /// is recorded.
    async fn look_up(&self, change: &TableChange, authority: &Authority) -> Result<Option<ChangedThing>> {
        let (name, updates) = (&change.name, &change.proposal.updates);
        if change.creates() {
            let Some(into) = found(self.namespace(&name.namespace).await)? else { return Ok(None) };
            let required = self.privileges_to_create_by_commit(authority, &into, name, updates).await?;
            return Ok(Some(ChangedThing::Namespace { key: into.name.key(), required }));
        }
        let Some(row) = found(self.table(name).await)? else { return Ok(None) };
        let key = row.name.namespace.key();
        let on = self.tabular_path(&key, &row);
        if !authority.has(&on, ANY_OF_TABLE) {
            return match authority.require(&Need { on, required: ANY_OF_TABLE }) {
                Ok(()) | Err(RightsError::Hidden { .. }) => Ok(None),
                Err(refused) => Err(refused.into()),
            };
        }
        Ok(Some(ChangedThing::Table { key, table: Box::new(self.load_row(row).await?) }))
    }

    /// Finds the id of each table, once.
    ///
    /// A table under two names would wait for itself, and two new tables under one name would clash later, so both are refused.
    async fn resolve(&self, changes: Vec<TableChange>) -> Result<Vec<Resolved>> {
        let (mut by_id, mut by_name) = (HashMap::new(), HashMap::new());
        let mut resolved = Vec::with_capacity(changes.len());
        for change in changes {
            let name = change.name.clone();
            let id = match change.creates() {
                true => None,
                false => Some(self.table(&name).await?.id),
            };
            let before = match id {
                Some(id) => by_id.insert(id, name.clone()),
                None => by_name.insert(self.warehouse().full_key(&name), name.clone()),
            };
            if let Some(before) = before {
                return Err(duplicate_table(&before, &name));
            }
            resolved.push(Resolved { change, id });
        }
        Ok(resolved)
    }

    /// Takes the turns of the tables, and applies the transaction until its swap succeeds or it fails.
    async fn transact(&self, changes: &[Resolved], actor: &Actor) -> Result<()> {
        let wait = self.options().commit_wait;
        let busy = |_| CatalogError::Busy(format!("a table of {}", names(changes)), wait.as_secs());
        let _held = tokio::time::timeout(wait, self.hold_all(changes)).await.map_err(busy)??;
        for _ in 0..MAX_REPLAYS {
            if self.try_transact(changes, actor).await? {
                return Ok(());
            }
        }
        let lost = format!("other servers kept committing to the transaction's tables for {MAX_REPLAYS} attempts");
        Err(CatalogError::Conflict(lost))
    }

    /// Takes the turns of all existing tables, in the order of their ids, so that two transactions never wait for each other.
    async fn hold_all(&self, changes: &[Resolved]) -> Result<BTreeMap<TableId, CommitHold>> {
        let mut ids: Vec<TableId> = changes.iter().filter_map(|c| c.id).collect();
        ids.sort_unstable();
        let mut held = BTreeMap::new();
        for id in ids {
            held.insert(id, self.hold_commits(id).await?);
        }
        Ok(held)
    }

    /// Applies the transaction to the tables as they are now and publishes it. `false` if a pointer moved meanwhile.
    async fn try_transact(&self, changes: &[Resolved], actor: &Actor) -> Result<bool> {
        // Everything is checked before the first file is written. The privileges were checked as a sum before the tables gave
        // their turns; they are checked again on the states that the changes are applied to.
        let mut updated: Vec<CheckedUpdate<'_>> = Vec::new();
        let mut created = Vec::new();
        for Resolved { change, id } in changes {
            let Some(id) = id else {
                let checked = self.check_creation(&change.name, &change.proposal).await?;
                created.push((change.name.clone(), checked));
                continue;
            };
            let row = self.row_by_id(*id, &change.name).await?;
            self.check_not_behind(&row).await?;
            let current = self.load_row(row).await?;
            self.authorize_commit(&current, &change.proposal)?;
            let base = Some(current.row.metadata_location.as_str());
            if let Some(applied) = self.apply_proposal(&current, base, &change.proposal).await? {
                updated.push(CheckedUpdate { current, applied, proposal: &change.proposal });
            }
        }
        let moved = updated.iter().map(|update| (&update.current.row.name, &update.applied.claims));
        check_claims_apart(moved.chain(created.iter().map(|(name, checked)| (name, &checked.claims))))?;
        let mut written = Written::default();
        if let Err(e) = self.write_all(&mut written, updated, created, actor).await {
            self.discard_all(&written).await;
            return Err(e);
        }
        written.outbox.receipts.extend(receipt(actor, &RequestOutcome::NoContent));
        self.failpoint("commit-before-swap").await;
        let published = self.state().tables().publish(self.warehouse(), &written.swaps, &written.new, &written.outbox).await;
        match &published {
            Ok(true) => {
                self.notify_change();
                for table in written.updated.iter().map(|(_, working)| working).chain(&written.created) {
                    self.cache_metadata(&table.row.metadata_location, table.metadata.clone(), table.json.clone()).await;
                }
            }
            // The transaction may have been applied, so its files are kept.
            Err(StateError::Ambiguous(_)) => {}
            Ok(false) | Err(_) => self.discard_all(&written).await,
        }
        // A name that is taken now was free when the changes were checked.
        published.map_err(|e| failed_assert_create(CatalogError::of_publishing(e, &names(changes))))
    }

    /// Writes every metadata file of a transaction, and collects the swaps, rows and events.
    async fn write_all(
        &self,
        written: &mut Written,
        updated: Vec<CheckedUpdate<'_>>,
        created: Vec<(TableName, CheckedCreation)>,
        actor: &Actor,
    ) -> Result<()> {
        for CheckedUpdate { current, applied, proposal } in updated {
            let mut working = LoadedTable { metadata: applied.metadata.into(), ..current.clone() };
            let mut records = proposal.records.clone();
            records.quarantine.extend(applied.outdated);
            let swap = self.write_next(&current, &mut working, records, &proposal.updates).await?;
            let swap = PointerSwap { claims: applied.claims, ..swap };
            written.outbox.events.push(self.update_event(&current, &working, &proposal.updates, actor));
            written.swaps.push(swap);
            written.updated.push((current, working));
        }
        for (name, checked) in created {
            let owner = actor.authority.owner_of_new();
            let (table, entry) = self.write_first_metadata_file(name, checked, owner).await?;
            let data = EventData::TableCreated(created_data(&table.row));
            written.outbox.events.push(self.event(actor, &table.row.name, data));
            written.new.push(entry);
            written.created.push(table);
        }
        Ok(())
    }

    /// Puts the metadata files of a transaction that was not published into quarantine.
    async fn discard_all(&self, written: &Written) {
        let updated = written.updated.iter().map(|(current, working)| (&current.row, &working.row.metadata_location));
        let made = written.created.iter().map(|table| (&table.row, &table.row.metadata_location));
        let all: Vec<(&TabularRow, &String)> = updated.chain(made).collect();
        for (row, path) in all {
            self.discard(row, path, "the transaction was not published").await;
        }
    }
}

/// Lists the tables of a transaction for a message.
fn names(changes: &[Resolved]) -> String {
    changes.iter().map(|c| c.change.name.to_string()).collect::<Vec<_>>().join(", ")
}
