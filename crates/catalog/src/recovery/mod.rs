//! Rebuilding catalog entries from storage, after the database was lost or restored from a backup.
//!
//! [`plan_recovery`] compares the database, the ledger and the metadata files in storage; [`recover`] carries the plan out.
//! Entries that only the ledger has are inserted. A dropped table that was undropped since, by the ledger, is brought back. A
//! pointer advances if one metadata file, the *tip*, is certainly the current one. Everything uncertain is listed for a person to
//! decide.
//!
//! Start reading at [`plan_recovery`]. The module `history` finds the metadata files of a table, and `tips` judges them.

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
use crate::locations::version;
use crate::{Catalog, CatalogError, Result};

pub use crate::ledger::{LedgerEntry, LedgerNamespace};
pub(crate) use behind::BehindChecks;
pub use carry_out::recover;
use history::{HistorySearch, TableHistory, candidate, examine, metadata_files};
use tips::TipVerdict;
pub(crate) use tips::unique_name;
pub use tips::{Tip, is_ahead};

/// Number of directory levels below the warehouse that are searched for tables.
const DEPTH: usize = 8;

/// A table or view whose pointer moves to a later metadata file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advance {
    /// Name of the table or view.
    pub name: TableName,
    /// URI of the metadata file that its entry points to.
    pub from: String,
    /// Metadata file that its entry will point to.
    pub to: Tip,
}

/// A table or view whose metadata file a person must choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Undecided {
    /// Name of the table or view.
    pub name: TableName,
    /// Reason why no file is certain.
    pub why: String,
    /// Metadata files that may be current.
    pub tips: Vec<Tip>,
}

/// Metadata files of a table that a person decided against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RejectedMetadata {
    /// Name of the table or view.
    pub name: TableName,
    /// Id of the table or view in the state database.
    #[serde(skip)]
    pub id: TableId,
    /// URIs of the files, which go into quarantine with everything that only they lead to.
    pub files: Vec<String>,
}

/// A table in storage that has no entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnregisteredTable {
    /// Location of the table.
    pub location: String,
    /// URIs of its newest metadata files; the table can be registered with one of them.
    pub tips: Vec<String>,
    /// Probable reason why it has no entry.
    pub note: String,
}

/// The plan of a recovery.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recovery {
    /// Name of the warehouse.
    pub warehouse: String,
    /// Time at which the ledger was written, in milliseconds since the Unix epoch; `None` without a ledger.
    pub ledger_ms: Option<Millis>,
    /// Reason why nothing is deleted at present; `None` if database and storage agree.
    pub disagreement: Option<String>,
    /// Namespaces to create.
    pub namespaces: Vec<LedgerNamespace>,
    /// Entries to insert; a dropped table among them is brought back.
    pub enter: Vec<LedgerEntry>,
    /// Pointers to move.
    pub advance: Vec<Advance>,
    /// Metadata files to put into quarantine.
    pub set_aside: Vec<RejectedMetadata>,
    /// Tables and views that a person must decide on.
    pub undecided: Vec<Undecided>,
    /// Tables in storage without an entry, which are only reported.
    pub strays: Vec<UnregisteredTable>,
    /// Number of entries that need no change.
    pub current: u64,
}

/// Plans a recovery: compares database, ledger and storage, and changes nothing.
///
/// `choices` holds the metadata files that a person chose, by table.
///
/// # Errors
///
/// Returns [`Invalid`](CatalogError::Invalid) if a choice is for a table that neither database nor ledger has. Returns
/// [`State`](CatalogError::State) or [`Storage`](CatalogError::Storage) if the database or the storage fails, and
/// [`OwnFileInvalid`](CatalogError::OwnFileInvalid) if the ledger can't be parsed. An entry that can't be examined is
/// undecided, which is no error.
pub async fn plan_recovery(catalog: &Catalog, choices: &BTreeMap<TableName, String>) -> Result<Recovery> {
    let known = catalog.entries().await?;
    let written = catalog.read_ledger().await?;
    let mut plan = Recovery {
        warehouse: catalog.options().warehouse.clone(),
        ledger_ms: written.as_ref().map(|w| w.written_ms),
        disagreement: catalog.check_epoch().err().map(|e| e.to_string()),
        ..Recovery::default()
    };
    let dropped = catalog.dropped_tables().await?;
    let undropped: HashSet<TableId> = written.iter().flat_map(|w| w.undropped(&dropped)).map(|entry| entry.id).collect();
    let ledger = written.map(|w| w.ledger).unwrap_or_default();
    let names: HashSet<_> = known.namespaces.iter().map(|n| n.name.clone()).collect();
    plan.namespaces = ledger.namespaces.iter().filter(|n| !names.contains(&n.name)).cloned().collect();
    let key = |name: &TableName| catalog.warehouse().full_key(name);
    let names: HashSet<_> = known.entries.iter().chain(&ledger.entries).map(|e| key(&e.name)).collect();
    if let Some((name, _)) = choices.iter().find(|(name, _)| !names.contains(&key(name))) {
        return Err(CatalogError::Invalid(format!("--tip {name}: neither database nor ledger has a table of this name")));
    }
    let (entries, refused) = merged(catalog, (&known, &ledger), &undropped, choices);
    plan.undecided.extend(refused);
    let present: HashSet<TableId> = known.entries.iter().map(|e| e.id).collect();
    let ledgers: HashMap<_, _> = ledger.entries.iter().map(|e| ((e.id, e.uuid), e.metadata_location.clone())).collect();
    // A table in storage without an entry, but with the UUID of one, is the table of that entry in another location.
    let (mut elsewhere, mut unknown): (HashMap<Uuid, Vec<String>>, Vec<UnregisteredTable>) = Default::default();
    let ours: HashSet<Uuid> = [&known.entries, &ledger.entries, &known.dropped].into_iter().flatten().map(|e| e.uuid).collect();
    for (stray, uuid) in find_unregistered(catalog, &known, &ledger).await? {
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
        let search = HistorySearch { extra_files: beside, storage_agrees: plan.disagreement.is_none(), since_ms: None };
        let name = entry.name.clone();
        // One failing table must not keep the others from being recovered.
        if let Err(e) = plan_entry(catalog, &mut plan, entry, &search, (choice, &present)).await {
            plan.undecided.push(Undecided { name, why: e.to_string(), tips: Vec::new() });
        }
    }
    Ok(plan)
}

/// Adds one entry to the plan. `present` holds the ids of the entries that the database has.
async fn plan_entry(
    catalog: &Catalog,
    plan: &mut Recovery,
    mut entry: LedgerEntry,
    search: &HistorySearch,
    (choice, present): (Option<&str>, &HashSet<TableId>),
) -> Result<()> {
    let to = match choice {
        Some(uri) => {
            let (tip, files) = chosen(catalog, &entry, search, uri).await?;
            if !files.is_empty() {
                plan.set_aside.push(RejectedMetadata { name: entry.name.clone(), id: entry.id, files });
            }
            Some(tip).filter(|tip| tip.uri != entry.metadata_location)
        }
        None => match examine(catalog, &entry, search).await?.verdict {
            TipVerdict::Current => None,
            TipVerdict::Advance(to) => Some(to),
            TipVerdict::Ambiguous(tips) => {
                let why = match tips.as_slice() {
                    [_] => {
                        format!("{} is gone, and the only file that may be current was not built on it", entry.metadata_location)
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

/// Merges the entries of database and ledger. `undropped` holds the ids of the dropped tables that live by the ledger.
///
/// An entry of the ledger is undecided if the database has another table of its name.
fn merged(
    catalog: &Catalog,
    (known, ledger): (&Ledger, &Ledger),
    undropped: &HashSet<TableId>,
    choices: &BTreeMap<TableName, String>,
) -> (Vec<LedgerEntry>, Vec<Undecided>) {
    let dropped = known.dropped.iter().map(|e| e.id).filter(|id| !undropped.contains(id));
    let ids: HashSet<_> = known.entries.iter().map(|e| e.id).chain(dropped).collect();
    let key = |name: &TableName| catalog.warehouse().full_key(name);
    let taken: HashSet<_> = known.entries.iter().map(|e| key(&e.name)).collect();
    let chosen: HashSet<_> = choices.keys().map(key).collect();
    let mut refused = Vec::new();
    let mut entries: Vec<LedgerEntry> = known.entries.clone();
    for entry in ledger.entries.iter().filter(|e| !ids.contains(&e.id)) {
        let at = &entry.metadata_location;
        let why = if !taken.contains(&key(&entry.name)) {
            entries.push(entry.clone());
            continue;
        } else if undropped.contains(&entry.id) {
            // To leave it dropped could purge the files of a table that lived.
            format!(
                "the ledger has another table of this name, at {at}, which was undropped since the backup; start the server, and \
                 undrop the table with the id {} under another name",
                entry.id
            )
        } else if chosen.contains(&key(&entry.name)) {
            // A choice for the database's table decides that the name belongs to that table.
            continue;
        } else {
            format!(
                "the ledger has another table of this name, at {at}; to keep the database's table under the name, choose its \
                 metadata file with --tip; to enter the other one, start the server, and rename or drop the database's table"
            )
        };
        refused.push(Undecided { name: entry.name.clone(), why, tips: Vec::new() });
    }
    (entries, refused)
}

/// Returns the metadata file that a person chose, and the files that may have been current and that it was not built on.
async fn chosen(catalog: &Catalog, entry: &LedgerEntry, search: &HistorySearch, uri: &str) -> Result<(Tip, Vec<String>)> {
    let version = version(uri).unwrap_or(0);
    let Some(candidate) = candidate(catalog, entry, uri.to_owned(), version).await? else {
        return Err(CatalogError::Invalid(format!("{uri} is not a metadata file of {}", entry.name)));
    };
    // From the chosen file's view, the entry's own file and those before it up to the fork are strangers, too.
    let own = LedgerEntry { metadata_location: uri.to_owned(), ..entry.clone() };
    let mut search = search.clone();
    search.extra_files.push(entry.metadata_location.clone());
    let TableHistory { strangers, .. } = examine(catalog, &own, &search).await?;
    Ok((candidate.tip, strangers.into_iter().map(|c| c.tip.uri).collect()))
}

/// Finds the tables in storage that neither database nor ledger has, each with its UUID if that can be read.
async fn find_unregistered(catalog: &Catalog, known: &Ledger, ledger: &Ledger) -> Result<Vec<(UnregisteredTable, Option<Uuid>)>> {
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

/// Reads the UUID of the table or view from a metadata file; `None` if it can't be read.
async fn uuid_at(catalog: &Catalog, uri: &str) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Of {
        #[serde(alias = "table-uuid", alias = "view-uuid")]
        uuid: Uuid,
    }
    let json = catalog.json_at(uri).await.ok()?;
    serde_json::from_slice::<Of>(&json).ok().map(|of| of.uuid)
}
