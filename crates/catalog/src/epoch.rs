//! The epoch: a number in the database and in the warehouse's storage that moves on whenever the house is kept. A database that was
//! restored from a backup knows an earlier one than the storage, and a copy of a database is another than the one that storage
//! names. Neither knows what was committed since, and would take its files for garbage: so nothing is deleted until
//! [`recovery`](crate::recovery) has seen to it.

use std::sync::{Mutex, PoisonError};

use esker_state::Epoch;
use esker_storage::StorageError;
use serde::{Deserialize, Serialize};

use crate::{Catalog, CatalogError, Result};

/// The directory of a warehouse in which Esker keeps what is not a table's.
const DIRECTORY: &str = "_esker";

/// What storage says of the database that takes care of the warehouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct EpochMark {
    database: String,
    identity: String,
    epoch: i64,
}

/// Why nothing may be deleted; none: database and storage agree.
#[derive(Debug, Default)]
pub(crate) struct EpochCheck(Mutex<Option<String>>);

/// Why database and storage don't go together; `None` if they do.
fn disagreement(epoch: &Epoch, mark: Option<&EpochMark>) -> Option<String> {
    if let Some(ms) = epoch.backup_ms {
        return Some(format!("the database is the backup of {ms} ms since the epoch: it was restored"));
    }
    let Some(mark) = mark else {
        return (epoch.now > 0)
            .then(|| "the warehouse does not know of any database, but this one took care of it before".to_owned());
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
    // A smaller one was written by a server that was slow.
    (mark.epoch > epoch.next).then(|| {
        let (theirs, ours) = (mark.epoch, epoch.next);
        format!("the database is at epoch {ours} and the warehouse at {theirs}: it was restored from a backup")
    })
}

impl Catalog {
    /// A path in the warehouse that no table has.
    pub(crate) fn own_path(&self, name: &str) -> String {
        self.options().location.join(DIRECTORY).join(name).to_string()
    }

    /// Whether files may be deleted: not while database and storage don't go together.
    pub fn check_epoch(&self) -> Result<()> {
        match &*self.inner.epoch.0.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(why) => Err(CatalogError::Refused(format!(
                "nothing is deleted in warehouse {}: {why}; stop the server and see what `esker recover` says, then \
                 `esker recover --reconcile`",
                self.options().warehouse
            ))),
        }
    }

    /// Compares database and storage, and moves both on if they go together. What can't be found out counts as a disagreement.
    pub async fn advance_epoch(&self) {
        if let Err(e) = self.check_storage().await {
            let warehouse = &self.options().warehouse;
            tracing::error!(warehouse, error = %e, "the warehouse can't be served, and nothing is deleted: its storage is not there");
            *self.inner.epoch.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("its storage is not there: {e}"));
            return;
        }
        let why = match self.compare().await {
            Ok((_, Some(why))) => Some(why),
            Ok((next, None)) => self.enter_epoch(next).await.err().map(|e| format!("the epoch can't be written: {e}")),
            Err(e) => Some(format!("the epoch can't be read: {e}")),
        };
        if let Some(why) = &why {
            tracing::error!(
                warehouse = self.options().warehouse,
                why,
                "nothing is deleted: database and storage don't go together"
            );
        }
        *self.inner.epoch.0.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// The next epoch, and why it may not be entered.
    async fn compare(&self) -> Result<(i64, Option<String>)> {
        // Storage first: what another server writes meanwhile makes the database's the later one.
        let mark = self.mark().await?;
        let epoch = self.state().epoch(self.warehouse()).await?;
        let newest = mark.as_ref().map_or(0, |mark| mark.epoch).max(epoch.next);
        Ok((
            newest + 1,
            match disagreement(&epoch, mark.as_ref()) {
                Some(why) => Some(why),
                None => self.ledger_disagreement().await?,
            },
        ))
    }

    async fn mark(&self) -> Result<Option<EpochMark>> {
        let path = self.own_path("epoch.json");
        let invalid = |e: serde_json::Error| CatalogError::MetadataInvalid { uri: path.clone(), reason: e.to_string() };
        match self.storage().read(&path).await {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(invalid),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Both enter an epoch: the database says first that it is about to, so that a kill in between is no disagreement.
    async fn enter_epoch(&self, next: i64) -> Result<()> {
        let (state, warehouse) = (self.state(), self.warehouse());
        let Epoch { database, identity, now, .. } = state.epoch(warehouse).await?;
        state.set_epoch(warehouse, now, next).await?;
        let mark = serde_json::to_vec(&EpochMark { database, identity, epoch: next }).unwrap_or_default();
        self.storage().write(&self.own_path("epoch.json"), mark.into()).await?;
        Ok(state.set_epoch(warehouse, next, next).await?)
    }

    /// Makes this database the one that takes care of the warehouse, whatever was before.
    pub(crate) async fn adopt(&self) -> Result<()> {
        let (next, _) = self.compare().await?;
        self.enter_epoch(next).await?;
        self.state().forget_backup(self.warehouse()).await?;
        *self.inner.epoch.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // What it says must not be taken for news by the next start.
        self.write_ledger().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_copied_or_new_database_disagrees_and_a_killed_one_does_not() {
        let epoch = |now, next| Epoch { database: "d".into(), identity: "i".into(), now, next, backup_ms: None };
        let mark = |epoch| EpochMark { database: "d".into(), identity: "i".into(), epoch };
        assert_eq!(disagreement(&epoch(0, 0), None), None, "both are new");
        assert_eq!(disagreement(&epoch(3, 3), Some(&mark(3))), None);
        assert_eq!(disagreement(&epoch(3, 4), Some(&mark(3))), None, "killed before storage was written");
        assert_eq!(disagreement(&epoch(3, 4), Some(&mark(4))), None, "killed after it was");
        assert_eq!(disagreement(&epoch(5, 5), Some(&mark(4))), None, "a slow server wrote last");
        let refused = [
            (epoch(3, 3), Some(mark(5)), "restored"),
            (Epoch { backup_ms: Some(7), ..epoch(3, 3) }, Some(mark(3)), "backup of 7 ms"),
            (epoch(3, 3), None, "does not know"),
            (epoch(0, 0), Some(EpochMark { database: "e".into(), ..mark(3) }), "another database"),
            (epoch(3, 3), Some(EpochMark { identity: "j".into(), ..mark(3) }), "a copy"),
        ];
        for (epoch, mark, why) in refused {
            assert!(disagreement(&epoch, mark.as_ref()).expect("a disagreement").contains(why));
        }
    }
}
