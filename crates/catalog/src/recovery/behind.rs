//! The refusal of commits to tables of which a restored database has an old state.
//!
//! A restored database continues from the time of the backup. If a table was committed to since then, another commit would begin
//! a second chain of metadata files. Clients have seen the first one. So the commit is refused until a person has run a recovery.
//! Commits to other tables go on. Start reading at [`Catalog::check_not_behind`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use esker_state::{StateError, TabularRow};
use esker_storage::StorageError;
use esker_types::{Coded, TableId, TableName};

use super::history::{HistorySearch, examine, is_stranger};
use super::tips::{Tip, TipVerdict};
use crate::ledger::{Ledger, LedgerEntry};
use crate::{Catalog, CatalogError, Result};

/// The results of the checks of tables, while database and storage disagree.
#[derive(Debug, Default)]
pub(crate) struct BehindChecks {
    /// Reason why a table must not be committed to, by table; `None` if the database has its latest state. A table that could not
    /// be examined has no result.
    judged: Mutex<HashMap<TableId, Option<String>>>,
    /// The ledger, which no server writes while database and storage disagree; `None` before it is read.
    ledger: Mutex<Option<Arc<Ledger>>>,
    /// `true` once the database was found to have everything that the ledger has.
    ledger_agrees: AtomicBool,
    /// The losses of the database that this server knew of when the first of these results was found.
    losses: AtomicU64,
}

impl BehindChecks {
    /// Forgets the results if the database has lost changes since: they are of another state.
    fn renew(&self, losses: u64) {
        if self.losses.swap(losses, Ordering::AcqRel) != losses {
            self.judged.lock().unwrap_or_else(PoisonError::into_inner).clear();
            *self.ledger.lock().unwrap_or_else(PoisonError::into_inner) = None;
            self.ledger_agrees.store(false, Ordering::Release);
        }
    }
}

/// Returns the reason why a metadata file is not the only one that may be current; `None` if it is.
fn reason(verdict: TipVerdict) -> Option<String> {
    let uris = |tips: Vec<Tip>| tips.into_iter().map(|tip| tip.uri).collect::<Vec<_>>().join(", ");
    Some(match verdict {
        TipVerdict::Current => return None,
        TipVerdict::Advance(tip) => format!("it was committed to, and this database does not know of {}", tip.uri),
        TipVerdict::Ambiguous(tips) if tips.len() > 1 => {
            format!("more than one metadata file may be its current one: {}", uris(tips))
        }
        TipVerdict::Ambiguous(tips) => {
            format!("its metadata file is gone, and {} was not built on it, by its metadata log", uris(tips))
        }
    })
}

/// Checks that an error is a failure of the database or the storage, which says nothing about the table.
fn is_failure(error: &CatalogError) -> bool {
    match error {
        CatalogError::State(_) => true,
        CatalogError::Storage(e) => !matches!(e, StorageError::NotFound { .. }),
        e => e.code().is_transient(),
    }
}

/// Builds the error for a table or view that storage may have other states of.
fn behind(name: &TableName, why: String) -> CatalogError {
    CatalogError::Behind { table: name.to_string(), why }
}

impl Catalog {
    /// Refuses a change to a table or view if storage has states of it that the database does not have.
    ///
    /// Nothing is read while database and storage agree. A table is examined once, or until it can be, and again after the database
    /// lost changes.
    ///
    /// # Errors
    ///
    /// Returns [`Behind`](CatalogError::Behind) if storage has such states or the table can't be examined. Returns
    /// [`State`](CatalogError::State) if its row can't be read or the server is just noticing a loss,
    /// [`Storage`](CatalogError::Storage) if the storage fails, and [`OwnFileInvalid`](CatalogError::OwnFileInvalid) if the ledger
    /// can't be parsed.
    pub(crate) async fn check_not_behind(&self, row: &TabularRow) -> Result<()> {
        if self.check_epoch().is_ok() {
            return Ok(());
        }
        let judged = || self.inner.behind.judged.lock().unwrap_or_else(PoisonError::into_inner);
        let losses = || self.state().servers().losses().ok_or(StateError::LostChanges);
        loop {
            let before = losses()?;
            self.inner.behind.renew(before);
            let known = judged().get(&row.id).cloned();
            let why = match known {
                Some(why) => why,
                None => self.other_tips(row.id, HistorySearch::default()).await?,
            };
            // What was found while the database lost changes may be of the time before.
            if losses()? == before {
                judged().insert(row.id, why.clone());
                return why.map_or(Ok(()), |why| Err(behind(&row.name, why)));
            }
        }
    }

    /// Forgets the results of the checks, after pointers were moved.
    pub(crate) fn forget_checks(&self) {
        self.inner.behind.judged.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Refuses an operation that relies on a table's metadata file being the only one that may be current.
    ///
    /// The files of another tip would look unreferenced.
    ///
    /// # Errors
    ///
    /// Returns [`Behind`](CatalogError::Behind) if another metadata file may be current or the table can't be examined. Returns
    /// [`State`](CatalogError::State) if its row can't be read, [`Storage`](CatalogError::Storage) if the storage fails, and
    /// [`OwnFileInvalid`](CatalogError::OwnFileInvalid) if the ledger can't be parsed.
    pub async fn check_only_tip(&self, row: &TabularRow) -> Result<()> {
        let since_ms = self.state().tables().created_ms(row.id).await?;
        let why = self
            .other_tips(
                row.id,
                HistorySearch { storage_agrees: self.check_epoch().is_ok(), since_ms, ..HistorySearch::default() },
            )
            .await?;
        why.map_or(Ok(()), |why| Err(behind(&row.name, why)))
    }

    /// Returns the reason why a table's metadata file is not the only one that may be current; `None` if it is.
    async fn other_tips(&self, id: TableId, search: HistorySearch) -> Result<Option<String>> {
        if self.state().tables().by_id(id).await?.is_none() {
            // A new entry is behind of nothing, whatever the ledger says.
            return Ok(None);
        }
        // If database and storage agree, the ledger was compared at the start.
        let ledger = if search.storage_agrees { Arc::default() } else { self.cached_ledger().await? };
        loop {
            let Some(row) = self.state().tables().by_id(id).await? else { return Ok(None) };
            let entry = LedgerEntry::from(row.clone());
            let theirs = ledger.entries.iter().filter(|e| e.id == entry.id && e.uuid == entry.uuid);
            let beside = theirs.map(|e| e.metadata_location.clone()).collect();
            let search = HistorySearch { extra_files: beside, ..search.clone() };
            let why = self.judge(&entry, &search).await?;
            if matches!(why, Ok(None)) {
                return why;
            }
            let now = self.state().tables().by_id(id).await?.map(|row| row.metadata_location);
            // Another server may have committed while storage was examined.
            if now.is_none_or(|now| now == row.metadata_location) {
                return why;
            }
        }
    }

    /// Returns the reason why the metadata file of an entry is not the only one that may be current; `None` if it is.
    ///
    /// The inner error is [`Behind`](CatalogError::Behind), if the entry can't be examined.
    ///
    /// # Errors
    ///
    /// Returns the error of the database or the storage if one of them fails, which says nothing about the table.
    async fn judge(&self, entry: &LedgerEntry, search: &HistorySearch) -> Result<Result<Option<String>>> {
        match examine(self, entry, search).await {
            Ok(found) => Ok(Ok(reason(found.verdict))),
            Err(e) if is_failure(&e) => Err(e),
            Err(e) => Ok(Err(behind(&entry.name, e.to_string()))),
        }
    }

    /// Refuses the purge of a dropped table that storage has other states of.
    ///
    /// The table was then undropped and committed to since the backup that the database was restored from. The purge would delete
    /// files of those states. The caller has checked that database and storage agree.
    ///
    /// # Errors
    ///
    /// Returns [`Behind`](CatalogError::Behind) if storage has other states or the table can't be examined. Returns
    /// [`State`](CatalogError::State) or [`Storage`](CatalogError::Storage) if the database or the storage fails.
    pub(crate) async fn check_dropped_tip(&self, row: &TabularRow) -> Result<()> {
        let search = HistorySearch { storage_agrees: true, ..HistorySearch::default() };
        let why = self.judge(&LedgerEntry::from(row.clone()), &search).await??;
        why.map_or(Ok(()), |why| Err(behind(&row.name, why)))
    }

    /// Reads the ledger once; it is empty if there is none.
    async fn cached_ledger(&self) -> Result<Arc<Ledger>> {
        let cached = || self.inner.behind.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let known = cached().clone();
        if let Some(ledger) = known {
            return Ok(ledger);
        }
        let ledger = Arc::new(self.read_ledger().await?.map(|written| written.ledger).unwrap_or_default());
        Ok(cached().get_or_insert(ledger).clone())
    }

    /// Returns the reason why the ledger shows that the database was restored; `None` if it does not.
    ///
    /// The ledger then has a state of a table that the database does not have, or a table that the database has as dropped. This
    /// finds a restored backup even before the epoch advanced.
    pub(crate) async fn ledger_disagreement(&self) -> Result<Option<String>> {
        if let Some(losses) = self.state().servers().losses() {
            self.inner.behind.renew(losses);
        }
        let agrees = &self.inner.behind.ledger_agrees;
        if agrees.load(Ordering::Acquire) {
            return Ok(None);
        }
        // The ledger is read first: if other servers commit meanwhile, the database has the later state.
        let Some(written) = self.read_ledger().await? else {
            agrees.store(true, Ordering::Release);
            return Ok(None);
        };
        if let Some(theirs) = written.undropped(&self.dropped_tables().await?).first() {
            return Ok(Some(format!(
                "the ledger in storage has the table {} at {}, which the database knows only as dropped",
                theirs.name, theirs.metadata_location
            )));
        }
        let rows: HashMap<TableId, TabularRow> = self.tables_and_views().await?.into_iter().map(|row| (row.id, row)).collect();
        for theirs in &written.ledger.entries {
            let Some(row) = rows.get(&theirs.id).filter(|row| row.table_uuid == theirs.uuid) else { continue };
            match is_stranger(self, row, &theirs.metadata_location).await {
                Ok(false) => {}
                Ok(true) => {
                    let uri = &theirs.metadata_location;
                    return Ok(Some(format!(
                        "the ledger in storage has {uri} for {}, which the database does not know",
                        row.name
                    )));
                }
                // One table that can't be read says nothing about the others.
                Err(error) => tracing::warn!(table = %row.name, %error, "a table can't be compared with the ledger"),
            }
        }
        agrees.store(true, Ordering::Release);
        Ok(None)
    }
}
