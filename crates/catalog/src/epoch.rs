//! The epoch: a number in the database and in the warehouse's storage that grows together.
//!
//! Housekeeping advances both. A database that was restored from a backup has a smaller number than the storage. A copied
//! database has another identity than the storage names. Neither has the commits made since, and each would take their files for
//! orphans. So nothing is deleted until [`recovery`](crate::recovery) has reconciled database and storage. The same holds from the
//! moment at which a server notices that the database lost changes under it ([`losses`](esker_state::Servers::losses)).
//!
//! Start reading at [`Catalog::advance_epoch`] and `disagreement`.

use std::sync::{Mutex, PoisonError};

use esker_state::Epoch;
use esker_storage::{Location, StorageError};
use serde::{Deserialize, Serialize};

use crate::{Catalog, CatalogError, Result};

/// Directory of a warehouse for Esker's own files, which belong to no table.
const DIRECTORY: &str = "_esker";

/// The file `epoch.json`: the database that maintains the warehouse, and its epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct EpochMark {
    database: String,
    identity: String,
    epoch: i64,
}

/// The result of the last comparison of database and storage.
#[derive(Debug, Default)]
pub(crate) struct EpochCheck(Mutex<Compared>);

/// The result of a comparison of database and storage.
#[derive(Debug, Default)]
struct Compared {
    /// The reason why nothing may be deleted; `None` if database and storage agree.
    why: Option<String>,
    /// The losses that this server knew of before the comparison. With a further one, the comparison says nothing any more.
    losses: Option<u64>,
}

/// Returns the epoch after those of database and storage.
fn next_epoch(epoch: &Epoch, mark: Option<&EpochMark>) -> i64 {
    mark.map_or(0, |mark| mark.epoch).max(epoch.entering) + 1
}

/// Returns the reason why database and storage disagree; `None` if they agree.
fn disagreement(epoch: &Epoch, mark: Option<&EpochMark>) -> Option<String> {
    if let Some(ms) = epoch.backup_ms {
        return Some(format!(
            "the database was restored from the backup of {ms} ms since the Unix epoch, or declared to be behind at that time"
        ));
    }
    let Some(mark) = mark else {
        return (epoch.entered > 0)
            .then(|| "the warehouse has no _esker/epoch.json, but this database took care of it before".to_owned());
    };
    if mark.database != epoch.database {
        return Some("another database took care of the warehouse before".to_owned());
    }
    if mark.identity != epoch.identity {
        let (mark, now) = (&mark.identity, &epoch.identity);
        return Some(format!(
            "the database is a copy, or was moved: the warehouse was taken care of from {mark}, and this is {now}"
        ));
    }
    // A smaller epoch in storage was written late by a slow server.
    (mark.epoch > epoch.entering).then(|| {
        let (theirs, ours) = (mark.epoch, epoch.entering);
        format!("the database is at epoch {ours} and the warehouse at {theirs}: it was restored from a backup")
    })
}

impl Catalog {
    /// Returns the directory of Esker's own files in the warehouse. No table has a place there, and nothing in it is an orphan.
    pub fn own_directory(&self) -> Location {
        self.options().location.join(DIRECTORY)
    }

    /// Returns the path of one of Esker's own files in the warehouse.
    pub(crate) fn own_path(&self, name: &str) -> String {
        self.own_directory().join(name).to_string()
    }

    /// Checks that files may be deleted, which is so while database and storage agree.
    ///
    /// The answer is that of the last [`Catalog::advance_epoch`], unless the database has lost changes since. Nothing is read.
    ///
    /// # Errors
    ///
    /// Returns [`Refused`](CatalogError::Refused) if they disagree, could not be compared or advanced, or the storage did not
    /// answer, and if the database lost changes.
    pub fn check_epoch(&self) -> Result<()> {
        let losses = self.state().servers().losses();
        let compared = self.inner.epoch.0.lock().unwrap_or_else(PoisonError::into_inner);
        let why = match &compared.why {
            Some(why) => why.as_str(),
            None if losses.is_some() && losses == compared.losses => return Ok(()),
            None => "the database lost changes that it had confirmed, or was declared to be behind",
        };
        Err(CatalogError::Refused(format!(
            "nothing is deleted in warehouse {}: {why}; stop the server, run `esker recover --dry-run`, then \
             `esker recover --reconcile`",
            self.options().warehouse
        )))
    }

    /// Compares what the servers confirmed with the database now, and then does the work of [`Catalog::check_epoch`].
    ///
    /// A change of this server compares its own number alone. What a server that is gone had confirmed would else be compared by the
    /// next heartbeat.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Catalog::check_epoch`], and [`State`](CatalogError::State) if the database fails.
    pub(crate) async fn check_nothing_lost(&self) -> Result<()> {
        self.state().servers().note_losses().await?;
        self.check_epoch()
    }

    /// Remembers the result of a comparison that began when this server knew of a number of losses.
    fn set_compared(&self, why: Option<String>, losses: Option<u64>) {
        *self.inner.epoch.0.lock().unwrap_or_else(PoisonError::into_inner) = Compared { why, losses };
    }

    /// Compares database and storage, and advances the epoch of both if they agree.
    ///
    /// An error counts as a disagreement. [`Catalog::check_epoch`] reports it from then on.
    pub async fn advance_epoch(&self) {
        let losses = self.state().servers().losses();
        if let Err(e) = self.check_storage().await {
            let warehouse = &self.options().warehouse;
            tracing::error!(warehouse, error = %e, "nothing is served or deleted: the storage of the warehouse is unavailable");
            self.set_compared(Some(format!("its storage is unavailable: {e}")), losses);
            return;
        }
        let why = match self.compare().await {
            Ok((_, Some(why))) => Some(why),
            Ok((next, None)) => self.enter_epoch(next).await.err().map(|e| format!("the epoch can't be written: {e}")),
            Err(e) => Some(format!("database and storage can't be compared: {e}")),
        };
        if let Some(why) = &why {
            tracing::error!(
                warehouse = self.options().warehouse,
                why,
                "database and storage disagree: nothing is deleted until a person has reconciled them"
            );
        }
        self.set_compared(why, losses);
    }

    /// Returns the next epoch, with the reason why it may not be entered.
    async fn compare(&self) -> Result<(i64, Option<String>)> {
        // Storage is read first: if another server advances meanwhile, the database has the greater number, which is no
        // disagreement.
        let mark = self.mark().await?;
        let epoch = self.state().warehouses().epoch(self.warehouse()).await?;
        Ok((
            next_epoch(&epoch, mark.as_ref()),
            match disagreement(&epoch, mark.as_ref()) {
                Some(why) => Some(why),
                None => self.ledger_disagreement().await?,
            },
        ))
    }

    /// Reads `epoch.json`; `None` if there is none.
    async fn mark(&self) -> Result<Option<EpochMark>> {
        let path = self.own_path("epoch.json");
        let invalid = |e: serde_json::Error| CatalogError::OwnFileInvalid { uri: path.clone(), reason: e.to_string() };
        match self.storage().read(&path).await {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(invalid),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Enters an epoch in the database and in storage.
    ///
    /// The database first records that the epoch is about to be entered, so that a kill in between is no disagreement.
    async fn enter_epoch(&self, next: i64) -> Result<()> {
        let (state, warehouse) = (self.state(), self.warehouse());
        let Epoch { database, identity, entered: now, .. } = state.warehouses().epoch(warehouse).await?;
        state.warehouses().set_epoch(warehouse, now, next).await?;
        let mark = serde_json::to_vec(&EpochMark { database, identity, epoch: next })
            .map_err(|source| CatalogError::Encode { what: "the epoch", source })?;
        self.storage().write(&self.own_path("epoch.json"), mark.into()).await?;
        Ok(state.warehouses().set_epoch(warehouse, next, next).await?)
    }

    /// Makes this database the one that maintains the warehouse, whatever maintained it before.
    ///
    /// It reads no ledger, and replaces an epoch file that can't be parsed: it is the way out of both.
    pub(crate) async fn adopt(&self) -> Result<()> {
        let losses = self.state().servers().losses();
        let mark = match self.mark().await {
            Err(error @ CatalogError::OwnFileInvalid { .. }) => {
                tracing::warn!(%error, "the epoch file is replaced");
                None
            }
            mark => mark?,
        };
        let epoch = self.state().warehouses().epoch(self.warehouse()).await?;
        self.enter_epoch(next_epoch(&epoch, mark.as_ref())).await?;
        self.state().warehouses().forget_backup(self.warehouse()).await?;
        self.set_compared(None, losses);
        // The next start must not take the old ledger for later commits. The file may have changed or gone since the last write.
        self.forget_written_ledger();
        self.write_ledger().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_copied_or_new_database_disagrees_and_a_killed_one_does_not() {
        let epoch =
            |now, next| Epoch { database: "d".into(), identity: "i".into(), entered: now, entering: next, backup_ms: None };
        let mark = |epoch| EpochMark { database: "d".into(), identity: "i".into(), epoch };
        assert_eq!(disagreement(&epoch(0, 0), None), None, "both are new");
        assert_eq!(disagreement(&epoch(3, 3), Some(&mark(3))), None);
        assert_eq!(disagreement(&epoch(3, 4), Some(&mark(3))), None, "killed before storage was written");
        assert_eq!(disagreement(&epoch(3, 4), Some(&mark(4))), None, "killed after it was");
        assert_eq!(disagreement(&epoch(5, 5), Some(&mark(4))), None, "a slow server wrote last");
        let refused = [
            (epoch(3, 3), Some(mark(5)), "restored"),
            (Epoch { backup_ms: Some(7), ..epoch(3, 3) }, Some(mark(3)), "backup of 7 ms"),
            (epoch(3, 3), None, "has no _esker/epoch.json"),
            (epoch(0, 0), Some(EpochMark { database: "e".into(), ..mark(3) }), "another database"),
            (epoch(3, 3), Some(EpochMark { identity: "j".into(), ..mark(3) }), "a copy"),
        ];
        for (epoch, mark, why) in refused {
            assert!(disagreement(&epoch, mark.as_ref()).expect("a disagreement").contains(why));
        }
    }
}
