//! Catalog entries from storage, after the database was lost or restored from a backup.
//!
//! What is certain is done: entries that only the ledger has are entered, and pointers move on to the newest metadata file where there
//! is one. What is not certain is listed, for a person to decide.

mod tips;

use std::collections::{BTreeMap, HashMap, HashSet};

use esker_state::{Along, Kind, NamespaceRow, NewTable, Swap, TableRow};
use esker_storage::Location;
use esker_types::{Millis, TableName};
use futures::TryStreamExt;
use serde::Serialize;
use serde_json::json;

use crate::ledger::Ledger;
use crate::{Catalog, CatalogError, Cause, Result};

pub use crate::ledger::{LedgerEntry, LedgerNamespace};
pub(crate) use tips::version;
use tips::{Candidate, Verdict, judge};
pub use tips::{Tip, is_ahead};

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

/// A table in storage that no entry leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stray {
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
    /// What is not decided.
    pub undecided: Vec<Undecided>,
    /// Tables without an entry.
    pub strays: Vec<Stray>,
    /// Entries that are as they should be.
    pub current: u64,
}

/// Compares database, ledger and storage. `choices` name the metadata file of tables that can't be decided on.
pub async fn plan_recovery(catalog: &Catalog, choices: &BTreeMap<String, String>) -> Result<Recovery> {
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
    let (entries, refused) = merged(&known, &ledger);
    plan.undecided.extend(refused);
    let present: HashMap<_, _> = known.entries.iter().map(|e| (e.id, e.metadata_location.clone())).collect();
    for mut entry in entries {
        let decided = match choices.get(&entry.name.to_string()) {
            Some(uri) => chosen(catalog, &entry, uri).await.map(Verdict::Advance),
            None => examine(catalog, &entry).await,
        };
        match decided {
            Err(e) => plan.undecided.push(Undecided { name: entry.name.clone(), why: e.to_string(), tips: Vec::new() }),
            Ok(Verdict::Ambiguous(tips)) => {
                let why = "more than one metadata file may be the current one".to_owned();
                plan.undecided.push(Undecided { name: entry.name.clone(), why, tips });
            }
            Ok(Verdict::Current) => match present.get(&entry.id) {
                None => plan.enter.push(entry),
                Some(ours) if *ours == entry.metadata_location => plan.current += 1,
                // What the ledger points at is the newest.
                Some(ours) => {
                    let to = chosen(catalog, &entry, &entry.metadata_location).await?;
                    plan.advance.push(Advance { name: entry.name, from: ours.clone(), to });
                }
            },
            Ok(Verdict::Advance(to)) => match present.get(&entry.id) {
                Some(ours) => plan.advance.push(Advance { name: entry.name, from: ours.clone(), to }),
                None => {
                    entry.metadata_location = to.uri;
                    plan.enter.push(entry);
                }
            },
        }
    }
    plan.strays = strays(catalog, &known, &ledger).await?;
    Ok(plan)
}

/// Every entry once: the database's with the ledger's pointer where that is newer, and those that only the ledger has.
fn merged(known: &Ledger, ledger: &Ledger) -> (Vec<LedgerEntry>, Vec<Undecided>) {
    let by_id: HashMap<_, _> = ledger.entries.iter().map(|e| (e.id, e)).collect();
    let ids: HashSet<_> = known.entries.iter().chain(&known.dropped).map(|e| e.id).collect();
    let taken: HashSet<_> = known.entries.iter().map(|e| &e.name).collect();
    let newer = |ours: &LedgerEntry| {
        let theirs = by_id
            .get(&ours.id)
            .filter(|theirs| theirs.uuid == ours.uuid && version(&theirs.metadata_location) > version(&ours.metadata_location));
        let metadata_location = theirs.map_or(&ours.metadata_location, |theirs| &theirs.metadata_location).clone();
        LedgerEntry { metadata_location, ..ours.clone() }
    };
    let mut refused = Vec::new();
    let mut entries: Vec<LedgerEntry> = known.entries.iter().map(newer).collect();
    for entry in ledger.entries.iter().filter(|e| !ids.contains(&e.id)) {
        if taken.contains(&entry.name) {
            let why = format!("the ledger has another table of this name, at {}", entry.metadata_location);
            refused.push(Undecided { name: entry.name.clone(), why, tips: Vec::new() });
        } else {
            entries.push(entry.clone());
        }
    }
    (entries, refused)
}

/// The metadata file that a person chose.
async fn chosen(catalog: &Catalog, entry: &LedgerEntry, uri: &str) -> Result<Tip> {
    match candidate(catalog, entry, uri.to_owned(), version(uri).unwrap_or(0)).await? {
        Some(candidate) => Ok(candidate.tip),
        None => Err(CatalogError::Invalid(format!("{uri} is not a metadata file of {}", entry.name))),
    }
}

async fn examine(catalog: &Catalog, entry: &LedgerEntry) -> Result<Verdict> {
    if catalog.storage().size(&entry.metadata_location).await?.is_none() && !entry.owned {
        return Err(CatalogError::Invalid(format!("{} is gone, and the table is foreign", entry.metadata_location)));
    }
    // Another catalog may commit to a foreign table: its files are not this one's to follow.
    if !entry.owned {
        return Ok(Verdict::Current);
    }
    let at = version(&entry.metadata_location).unwrap_or(0);
    let mut candidates = Vec::new();
    for (uri, version) in metadata_files(catalog, &entry.metadata_location).await? {
        if version > at {
            candidates.extend(candidate(catalog, entry, uri, version).await?);
        }
    }
    let verdict = judge(&entry.metadata_location, at, candidates);
    if verdict == Verdict::Current && catalog.storage().size(&entry.metadata_location).await?.is_none() {
        return Err(CatalogError::Invalid(format!("{} is gone, and there is none newer", entry.metadata_location)));
    }
    Ok(verdict)
}

/// The metadata files beside one, with their versions.
async fn metadata_files(catalog: &Catalog, beside: &str) -> Result<Vec<(String, u64)>> {
    let dir = beside.rsplit_once('/').map_or(beside, |(dir, _)| dir);
    let files: Vec<_> = catalog.storage().list(&Location::parse(dir)?).try_collect().await?;
    let metadata = files.into_iter().map(|f| f.uri).filter(|uri| uri.ends_with(".metadata.json"));
    Ok(metadata.filter_map(|uri| version(&uri).map(|version| (uri, version))).collect())
}

/// A metadata file as a candidate, if it is of the entry's table.
async fn candidate(catalog: &Catalog, entry: &LedgerEntry, uri: String, version: u64) -> Result<Option<Candidate>> {
    let at = self::version(&entry.metadata_location).unwrap_or(0);
    let commits = version.saturating_sub(at);
    if entry.view {
        let row = TableRow { metadata_location: uri.clone(), ..entry.clone().row(catalog.warehouse().id) };
        let view = catalog.load_view_row(row).await?;
        let updated_ms = view.metadata.current_version().timestamp_ms();
        let tip = Tip { uri, updated_ms, snapshot: None, commits };
        return Ok((view.metadata.uuid() == entry.uuid).then_some(Candidate { tip, version, log: None }));
    }
    let (metadata, _) = catalog.metadata_at(&uri).await?;
    if metadata.uuid() != entry.uuid {
        return Ok(None);
    }
    let log = metadata.metadata_log().iter().map(|log| log.metadata_file.clone()).collect();
    let tip = Tip { uri, updated_ms: metadata.last_updated_ms(), snapshot: metadata.current_snapshot_id(), commits };
    Ok(Some(Candidate { tip, version, log: Some(log) }))
}

/// Tables below the warehouse that neither database nor ledger have.
async fn strays(catalog: &Catalog, known: &Ledger, ledger: &Ledger) -> Result<Vec<Stray>> {
    let dropped: HashSet<&String> = ledger.dropped.iter().map(|e| &e.location).collect();
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
                Some(dir) => metadata_files(catalog, &dir.join("x").to_string()).await?,
                None => Vec::new(),
            };
            if let Some(newest) = files.iter().map(|(_, version)| *version).max() {
                let mut tips: Vec<String> = files.into_iter().filter(|(_, v)| *v == newest).map(|(uri, _)| uri).collect();
                tips.sort();
                let location = location.to_string();
                let note = match dropped.contains(&location) {
                    true => "it was dropped, and could be brought back",
                    false => "it was dropped before, or made after the ledger was written",
                };
                found.push(Stray { location, tips, note: note.to_owned() });
            } else {
                below.extend(inside);
            }
        }
        open = below;
    }
    Ok(found)
}

/// Carries a plan out. With `reconcile`, this database is from now on the one that takes care of the warehouse, and files may be
/// deleted again: refused while something is not decided.
pub async fn recover(catalog: &Catalog, plan: &Recovery, reconcile: bool) -> Result<()> {
    if reconcile && !plan.undecided.is_empty() {
        let names: Vec<String> = plan.undecided.iter().map(|u| u.name.to_string()).collect();
        let what =
            format!("not decided: {}; choose with --tip NAMESPACE.TABLE=METADATA-FILE, or drop the table", names.join(", "));
        return Err(CatalogError::Refused(what));
    }
    let (state, warehouse, cause) = (catalog.state(), catalog.warehouse(), Cause::internal("recover"));
    for LedgerNamespace { name, properties, protected } in plan.namespaces.clone() {
        let event = catalog.event(&cause, "namespace.recovered", &name, json!({}));
        let row = NamespaceRow { name: name.clone(), properties, protected: false };
        let along = Along { events: vec![event], receipts: Vec::new() };
        state.create_namespace(warehouse, &row, &along).await?;
        if protected {
            state.protect_namespace(warehouse, &name, true, &Along::default()).await?;
        }
    }
    for entry in plan.enter.clone() {
        let row = entry.row(warehouse.id);
        let data = json!({"metadata-location": row.metadata_location});
        let event = catalog.event(&cause, "table.recovered", &row.name, data);
        let along = Along { events: vec![event], receipts: Vec::new() };
        let new = NewTable { row, recorded_output: None, replaces: None };
        state.publish(warehouse, &[], &[new], &along).await?;
    }
    for Advance { name, to, .. } in &plan.advance {
        let row = match state.table(warehouse, name).await {
            Ok(row) => row,
            Err(_) => state.view(warehouse, name).await?,
        };
        let pointed = TableRow { metadata_location: to.uri.clone(), ..row.clone() };
        let location = match row.kind {
            Kind::View => catalog.load_view_row(pointed).await?.metadata.location().to_owned(),
            Kind::Table => catalog.load_row(pointed).await?.metadata.location().to_owned(),
        };
        let data = json!({"metadata-location": to.uri, "previous-metadata-location": row.metadata_location});
        let event = catalog.event(&cause, "table.recovered", name, data);
        let swap = Swap {
            id: row.id,
            from: row.metadata_location,
            to: to.uri.clone(),
            location,
            dooms: Vec::new(),
            settled_outputs: Vec::new(),
            revives: Vec::new(),
        };
        if !state.publish(warehouse, &[swap], &[], &Along { events: vec![event], receipts: Vec::new() }).await? {
            return Err(CatalogError::Refused(format!("{name} was committed to meanwhile; plan again")));
        }
    }
    match reconcile {
        true => catalog.adopt().await,
        false => Ok(()),
    }
}
