//! Catalog entries from storage, after the database was lost or restored from a backup.
//!
//! What is certain is done: entries that only the ledger has are entered, and pointers move on to the newest metadata file where there
//! is one. What is not certain is listed, for a person to decide.

mod behind;
mod carry_out;
mod history;
mod tips;

use std::collections::{BTreeMap, HashMap, HashSet};

use esker_storage::Location;
use esker_types::{Millis, TableId, TableName};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ledger::Ledger;
use crate::{Catalog, CatalogError, Result};

pub use crate::ledger::{LedgerEntry, LedgerNamespace};
pub(crate) use behind::Behind;
pub use carry_out::recover;
use history::{HistorySearch, TableHistory, candidate, examine, metadata_files};
use tips::TipVerdict;
pub use tips::{Tip, is_ahead};
pub(crate) use tips::{unique_name, version};

/// Directories below the warehouse that are looked into for tables.
const DEPTH: usize = 8;

/// A pointer that moves on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advance {
    /// The table or view.
    pub name: TableName,
    /// The metadata file that its entry points at.
    pub from: String,
    /// The one that it is going to point at.
    pub to: Tip,
}

/// A table that a person has to decide on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Undecided {
    /// The table or view.
    pub name: TableName,
    /// Why.
    pub why: String,
    /// The metadata files that may be current.
    pub tips: Vec<Tip>,
}

/// Metadata files of a table that a person decided against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RejectedMetadata {
    /// The table or view.
    pub name: TableName,
    /// The id of the table or view in the state database.
    #[serde(skip)]
    pub id: TableId,
    /// The files. They, and what only they lead to, go into quarantine.
    pub files: Vec<String>,
}

/// A table in storage that no entry leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnregisteredTable {
    /// Where it is.
    pub location: String,
    /// Its newest metadata files: it can be registered with one of them.
    pub tips: Vec<String>,
    /// What is known of it.
    pub note: String,
}

/// What a recovery is going to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recovery {
    /// The warehouse.
    pub warehouse: String,
    /// When the ledger was written, if there is one.
    pub ledger_ms: Option<Millis>,
    /// Why nothing is deleted at present.
    pub disagreement: Option<String>,
    /// Namespaces to be made.
    pub namespaces: Vec<LedgerNamespace>,
    /// Entries to be made.
    pub enter: Vec<LedgerEntry>,
    /// Pointers to be moved on.
    pub advance: Vec<Advance>,
    /// What was decided against.
    pub set_aside: Vec<RejectedMetadata>,
    /// What is not decided.
    pub undecided: Vec<Undecided>,
    /// Tables without an entry.
    pub strays: Vec<UnregisteredTable>,
    /// Entries that are as they should be.
    pub current: u64,
}

/// Compares database, ledger and storage. `choices` name the metadata file of tables that can't be decided on.
pub async fn plan_recovery(catalog: &Catalog, choices: &BTreeMap<TableName, String>) -> Result<Recovery> {
    let known = catalog.entries().await?;
    let written = catalog.read_ledger().await?;
    let mut plan = Recovery {
        warehouse: catalog.options().warehouse.clone(),
        ledger_ms: written.as_ref().map(|w| w.written_ms),
        disagreement: catalog.check_epoch().err().map(|e| e.to_string()),
        ..Recovery::default()
    };
    let ledger = written.map(|w| w.ledger).unwrap_or_default();
    let names: HashSet<_> = known.namespaces.iter().map(|n| n.name.clone()).collect();
    plan.namespaces = ledger.namespaces.iter().filter(|n| !names.contains(&n.name)).cloned().collect();
    let key = |name: &TableName| catalog.warehouse().full_key(name);
    let names: HashSet<_> = known.entries.iter().chain(&ledger.entries).map(|e| key(&e.name)).collect();
    if let Some((name, _)) = choices.iter().find(|(name, _)| !names.contains(&key(name))) {
        return Err(CatalogError::Invalid(format!("--tip {name}: neither database nor ledger has a table of this name")));
    }
    let (entries, refused) = merged(catalog, &known, &ledger);
    // Who chooses a file of the database's own table has decided that the name is that table's.
    plan.undecided.extend(refused.into_iter().filter(|u| choices.keys().all(|name| key(name) != key(&u.name))));
    let present: HashSet<TableId> = known.entries.iter().map(|e| e.id).collect();
    let ledgers: HashMap<_, _> = ledger.entries.iter().map(|e| ((e.id, e.uuid), e.metadata_location.clone())).collect();
    // A table without an entry that has the UUID of one is that one, elsewhere.
    let (mut elsewhere, mut unknown): (HashMap<Uuid, Vec<String>>, Vec<UnregisteredTable>) = Default::default();
    let ours: HashSet<Uuid> = [&known.entries, &ledger.entries, &known.dropped].into_iter().flatten().map(|e| e.uuid).collect();
    for (stray, uuid) in strays(catalog, &known, &ledger).await? {
        match uuid.filter(|uuid| ours.contains(uuid)) {
            Some(uuid) => elsewhere.entry(uuid).or_default().extend(stray.tips),
            None => unknown.push(stray),
        }
    }
    plan.strays = unknown;
    for entry in entries {
        let choice = choices.iter().find(|(name, _)| key(name) == key(&entry.name)).map(|(_, uri)| uri.as_str());
        let mut beside: Vec<String> = ledgers.get(&(entry.id, entry.uuid)).cloned().into_iter().collect();
        if entry.owned {
            beside.extend(elsewhere.get(&entry.uuid).into_iter().flatten().cloned());
        }
        let look = HistorySearch { beside, sound: plan.disagreement.is_none(), since_ms: None };
        let name = entry.name.clone();
        // One sick table must not keep the others from being put right.
        if let Err(e) = plan_entry(catalog, &mut plan, entry, &look, (choice, &present)).await {
            plan.undecided.push(Undecided { name, why: e.to_string(), tips: Vec::new() });
        }
    }
    Ok(plan)
}

/// What becomes of one entry, which the database has or only the ledger.
async fn plan_entry(
    catalog: &Catalog,
    plan: &mut Recovery,
    mut entry: LedgerEntry,
    look: &HistorySearch,
    (choice, present): (Option<&str>, &HashSet<TableId>),
) -> Result<()> {
    let to = match choice {
        Some(uri) => {
            let (tip, files) = chosen(catalog, &entry, look, uri).await?;
            if !files.is_empty() {
                plan.set_aside.push(RejectedMetadata { name: entry.name.clone(), id: entry.id, files });
            }
            Some(tip).filter(|tip| tip.uri != entry.metadata_location)
        }
        None => match examine(catalog, &entry, look).await?.verdict {
            TipVerdict::Current => None,
            TipVerdict::Advance(to) => Some(to),
            TipVerdict::Ambiguous(tips) => {
                let why = match tips.as_slice() {
                    [_] => {
                        format!("{} is gone, and the only one that may be current was not built on it", entry.metadata_location)
                    }
                    _ => "more than one metadata file may be the current one".to_owned(),
                };
                plan.undecided.push(Undecided { name: entry.name, why, tips });
                return Ok(());
            }
        },
    };
    match (present.contains(&entry.id), to) {
        (true, None) => plan.current += 1,
        (true, Some(to)) => plan.advance.push(Advance { name: entry.name, from: entry.metadata_location, to }),
        (false, to) => {
            entry.metadata_location = to.map_or(entry.metadata_location, |to| to.uri);
            plan.enter.push(entry);
        }
    }
    Ok(())
}

/// Every entry once: the database's, and those that only the ledger has.
fn merged(catalog: &Catalog, known: &Ledger, ledger: &Ledger) -> (Vec<LedgerEntry>, Vec<Undecided>) {
    let ids: HashSet<_> = known.entries.iter().chain(&known.dropped).map(|e| e.id).collect();
    let key = |name: &TableName| catalog.warehouse().full_key(name);
    let taken: HashSet<_> = known.entries.iter().map(|e| key(&e.name)).collect();
    let mut refused = Vec::new();
    let mut entries: Vec<LedgerEntry> = known.entries.clone();
    for entry in ledger.entries.iter().filter(|e| !ids.contains(&e.id)) {
        if taken.contains(&key(&entry.name)) {
            let why = format!(
                "the ledger has another table of this name, at {}: choose the metadata file of the database's own table to keep that \
                 under the name, or rename or drop it with the server running, and the other is entered",
                entry.metadata_location
            );
            refused.push(Undecided { name: entry.name.clone(), why, tips: Vec::new() });
        } else {
            entries.push(entry.clone());
        }
    }
    (entries, refused)
}

/// The metadata file that a person chose, and those that may have been current and that it was not built on.
async fn chosen(catalog: &Catalog, entry: &LedgerEntry, look: &HistorySearch, uri: &str) -> Result<(Tip, Vec<String>)> {
    let version = version(uri).unwrap_or(0);
    let Some(candidate) = candidate(catalog, entry, uri.to_owned(), version).await? else {
        return Err(CatalogError::Invalid(format!("{uri} is not a metadata file of {}", entry.name)));
    };
    // Seen from the chosen file, the entry's own and those before it up to the fork are strangers like any other.
    let own = LedgerEntry { metadata_location: uri.to_owned(), ..entry.clone() };
    let mut look = look.clone();
    look.beside.push(entry.metadata_location.clone());
    let TableHistory { strangers, .. } = examine(catalog, &own, &look).await?;
    Ok((candidate.tip, strangers.into_iter().map(|c| c.tip.uri).collect()))
}

/// Tables below the warehouse where neither database nor ledger have one, with their UUIDs as far as they can be read.
async fn strays(catalog: &Catalog, known: &Ledger, ledger: &Ledger) -> Result<Vec<(UnregisteredTable, Option<Uuid>)>> {
    let dropped: HashSet<&String> = ledger.dropped.iter().map(|e| &e.location).collect();
    let dropped_uuids: HashSet<Uuid> = ledger.dropped.iter().map(|e| e.uuid).collect();
    let all = [known, ledger].into_iter().flat_map(|l| &l.entries).chain(&known.dropped);
    let all: Vec<Location> = all.filter_map(|e| Location::parse(&e.location).ok()).collect();
    let (mut open, mut found) = (vec![catalog.options().location.clone()], Vec::new());
    for _ in 0..DEPTH {
        let mut below = Vec::new();
        for location in open {
            if all.contains(&location) {
                continue;
            }
            let inside = catalog.storage().directories(&location).await?;
            let metadata = inside.iter().find(|dir| dir.to_string().ends_with("/metadata"));
            let files = match metadata {
                Some(dir) => metadata_files(catalog, &dir.to_string()).await?,
                None => Vec::new(),
            };
            if let Some(newest) = files.iter().map(|f| f.version).max() {
                let mut tips: Vec<String> = files.into_iter().filter(|f| f.version == newest).map(|f| f.uri).collect();
                tips.sort();
                let location = location.to_string();
                let uuid = uuid_at(catalog, &tips[0]).await;
                let note = match dropped.contains(&location) || uuid.is_some_and(|uuid| dropped_uuids.contains(&uuid)) {
                    true => "it was dropped, and could be brought back",
                    false => "it was dropped before, or made after the ledger was written",
                };
                found.push((UnregisteredTable { location, tips, note: note.to_owned() }, uuid));
            } else {
                below.extend(inside);
            }
        }
        open = below;
    }
    Ok(found)
}

/// The UUID of the table or view that a metadata file is of, if it can be read.
async fn uuid_at(catalog: &Catalog, uri: &str) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Of {
        #[serde(alias = "table-uuid", alias = "view-uuid")]
        uuid: Uuid,
    }
    let json = catalog.json_at(uri).await.ok()?;
    serde_json::from_slice::<Of>(&json).ok().map(|of| of.uuid)
}
