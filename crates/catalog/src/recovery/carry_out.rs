//! Carries out the plan of a recovery: inserts entries, moves pointers, and quarantines the files that a person decided against.

use std::collections::{BTreeMap, HashSet};

use esker_state::{
    EventData, NamespaceRow, NewTabular, NoEventData, Outbox, PointerSwap, StateError, TableRecoveredData, TabularKind,
    TabularRow,
};
use esker_table::reachable;
use esker_types::{NamespaceName, now_ms};

use super::{Advance, LedgerEntry, LedgerNamespace, Recovery, RejectedMetadata};
use crate::cache::manifest_list_paths;
use crate::{Actor, Catalog, CatalogError, Result, places, referenced_paths};

/// Carries out the plan of a recovery. With `reconcile`, files may be deleted again afterwards.
///
/// This database is then the one that maintains the warehouse. Each step is a transaction of its own; after a failure, plan
/// again.
///
/// # Errors
///
/// - Returns [`Refused`](CatalogError::Refused) if something is undecided and `reconcile` is set, or if a table was committed to
///   or dropped since the plan was made.
/// - Returns [`State`](CatalogError::State) if the database fails, or an entry or name of the plan exists or is gone by now.
///   Returns [`Storage`](CatalogError::Storage) if the storage fails.
/// - Returns [`MetadataGone`](CatalogError::MetadataGone), [`MetadataInvalid`](CatalogError::MetadataInvalid),
///   [`Table`](CatalogError::Table) or [`Spill`](CatalogError::Spill) if the metadata of a table can't be read.
/// - With `reconcile`, returns [`Encode`](CatalogError::Encode) if the epoch or the ledger can't be written as JSON.
pub async fn recover(catalog: &Catalog, plan: &Recovery, reconcile: bool) -> Result<()> {
    if reconcile && !plan.undecided.is_empty() {
        let names: Vec<String> = plan.undecided.iter().map(|u| u.name.to_string()).collect();
        let what =
            format!("not decided: {}; choose with --tip NAMESPACE.TABLE=METADATA-FILE, or drop the table", names.join(", "));
        return Err(CatalogError::Refused(what));
    }
    let (state, warehouse, actor) = (catalog.state(), catalog.warehouse(), Actor::internal("recover"));
    for LedgerNamespace { name, properties, protected } in plan.namespaces.clone() {
        let outbox = |name: &NamespaceName| {
            let event = catalog.event(&actor, name, EventData::NamespaceRecovered(NoEventData {}));
            Outbox { events: vec![event], receipts: Vec::new() }
        };
        let row = NamespaceRow { name: name.clone(), properties, protected: false };
        state.namespaces().create(warehouse, &row, &outbox(&name), outbox).await?;
        if protected {
            state.namespaces().protect(warehouse, &name, true, &Outbox::default()).await?;
        }
    }
    for entry in plan.enter.clone() {
        enter(catalog, entry, &actor).await?;
    }
    for Advance { name, to, .. } in &plan.advance {
        let row = match state.tables().table(warehouse, name).await {
            Err(StateError::NoSuchTable(_)) => state.tables().view(warehouse, name).await?,
            row => row?,
        };
        let pointed = TabularRow { metadata_location: to.uri.clone(), ..row.clone() };
        let places = places_at(catalog, pointed).await?;
        let (metadata_location, previous_metadata_location) = (to.uri.clone(), Some(row.metadata_location.clone()));
        let data = EventData::TableRecovered(TableRecoveredData { metadata_location, previous_metadata_location });
        let event = catalog.event(&actor, name, data);
        let outbox = Outbox { events: vec![event], receipts: Vec::new() };
        move_pointer(catalog, &row, to.uri.clone(), places, &outbox).await?;
    }
    for set_aside in &plan.set_aside {
        quarantine_rejected(catalog, set_aside).await?;
    }
    catalog.forget_checks();
    match reconcile {
        true => catalog.adopt().await,
        false => Ok(()),
    }
}

/// Inserts an entry. If the database has it as a dropped table, the table is brought back and its pointer moved.
///
/// A kill between the two steps leaves a table with an old pointer, which the next plan advances.
async fn enter(catalog: &Catalog, entry: LedgerEntry, actor: &Actor) -> Result<()> {
    let (tables, warehouse) = (catalog.state().tables(), catalog.warehouse());
    let mut row = entry.row(warehouse.id);
    // Without its places, the files of the table would not be protected from the sweeps of others.
    let places = places_at(catalog, row.clone()).await?;
    row.location.clone_from(&places[0]);
    let dropped = tables.dropped(row.id).await?.map(|dropped| dropped.row).filter(|dropped| dropped.warehouse == warehouse.id);
    let previous_metadata_location = dropped.as_ref().map(|dropped| dropped.metadata_location.clone());
    let data = TableRecoveredData { metadata_location: row.metadata_location.clone(), previous_metadata_location };
    let event = catalog.event(actor, &row.name, EventData::TableRecovered(data));
    let outbox = Outbox { events: vec![event], receipts: Vec::new() };
    let Some(dropped) = dropped else {
        let new = NewTabular { row, recorded_output: None, replaces: None, places, claims: Vec::new(), owner: None };
        tables.publish(warehouse, &[], &[new], &outbox).await?;
        return Ok(());
    };
    tables.undrop(warehouse, row.id, &row.name, &Outbox::default()).await?;
    if row.owned && !dropped.owned {
        tables.claim(row.id, &Outbox::default()).await?;
    }
    if row.protected {
        tables.protect(row.id, true, &Outbox::default()).await?;
    }
    move_pointer(catalog, &dropped, row.metadata_location, places, &outbox).await
}

/// Moves the pointer of an entry to another metadata file, with the places that this file names.
async fn move_pointer(catalog: &Catalog, row: &TabularRow, to: String, places: Vec<String>, outbox: &Outbox) -> Result<()> {
    let swap = PointerSwap {
        id: row.id,
        from: row.metadata_location.clone(),
        to,
        location: places[0].clone(),
        places,
        claims: Vec::new(),
        quarantine: Vec::new(),
        settled_outputs: Vec::new(),
        restored: Vec::new(),
        merged: Vec::new(),
        term: None,
    };
    match catalog.state().tables().publish(catalog.warehouse(), &[swap], &[], outbox).await? {
        true => Ok(()),
        false => Err(CatalogError::Refused(format!("{} was committed to meanwhile; plan again", row.name))),
    }
}

/// Returns the places that the metadata of a row names; the location comes first.
async fn places_at(catalog: &Catalog, row: TabularRow) -> Result<Vec<String>> {
    Ok(match row.kind {
        TabularKind::View => {
            let view = catalog.load_view_row(row).await?;
            places::places_in_metadata(&view.metadata.location, &view.metadata.properties)
        }
        TabularKind::Table => {
            let table = catalog.load_row(row).await?;
            places::places_in_metadata(&table.metadata.location, &table.metadata.properties)
        }
    })
}

/// Puts metadata files that a person decided against into quarantine, with the files that only they lead to.
///
/// They stay at least as long as a dropped table, so that rows can be fetched from them.
async fn quarantine_rejected(catalog: &Catalog, RejectedMetadata { name, id, files }: &RejectedMetadata) -> Result<()> {
    let row = catalog.state().tables().by_id(*id).await?;
    let row = row.ok_or_else(|| CatalogError::Refused(format!("{name} was dropped meanwhile; plan again")))?;
    let mut paths: BTreeMap<String, Option<u64>> = files.iter().map(|file| (file.clone(), None)).collect();
    if row.kind == TabularKind::Table {
        let kept = catalog.load_row(row.clone()).await?;
        let referenced = referenced_paths(catalog, &kept).await?;
        let mut seen: HashSet<Vec<String>> = kept.metadata.snapshots.iter().map(|s| manifest_list_paths(s)).collect();
        for file in files {
            match unseen_reachable(catalog, file, &mut seen).await {
                Ok(found) => paths.extend(found),
                // The files that it leads to become orphans, which get a grace period, too.
                Err(error) => tracing::warn!(table = %name, file, %error, "the files of a metadata file can't be listed"),
            }
        }
        let all: Vec<&String> = paths.keys().collect();
        let referenced = referenced.contains_each(&all).await?;
        paths = paths.into_iter().zip(referenced).filter(|(_, referenced)| !referenced).map(|(path, _)| path).collect();
    }
    let options = catalog.options();
    let due_ms = now_ms().saturating_add(options.grace_ms.max(options.undrop_ms));
    let record = |(path, bytes)| row.quarantine(path, bytes, "`esker recover` kept another state of the table", None, due_ms);
    Ok(catalog.state().quarantine().add(&paths.into_iter().map(record).collect::<Vec<_>>()).await?)
}

/// Lists the files that the snapshots of a metadata file lead to, each with its size in bytes if that is known.
///
/// Snapshots in `seen` are left out. They are compared by manifest list, which differs if a writer tried the snapshot again.
async fn unseen_reachable(catalog: &Catalog, file: &str, seen: &mut HashSet<Vec<String>>) -> Result<Vec<(String, Option<u64>)>> {
    let (metadata, _) = catalog.metadata_at(file).await?;
    let snapshots: Vec<_> = metadata.snapshots.iter().filter(|s| seen.insert(manifest_list_paths(s))).cloned().collect();
    let found = reachable(catalog.manifests(), &metadata, &snapshots, &HashSet::new()).await?;
    Ok(found.files.into_iter().map(|(path, (_, bytes))| (path, bytes)).collect())
}
