//! The one place where table files are deleted, and the reclaiming of what a killed process left behind.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::Ordering;

use esker_state::{NewQuarantine, PendingOutput, QuarantineKind, QuarantineState, QuarantinedFile, TableRow, TabularKind};
use esker_storage::Location;
use esker_table::TableError;
use esker_table::properties::GC_ENABLED;
use esker_types::{Millis, TableId, caught, now_ms};
use uuid::Uuid;

use crate::extents::referenced_by_others;
use crate::places::{Place, places_of};
use crate::referenced::referenced_paths;
use crate::{Catalog, CatalogError, LoadedTable, PathSet, Result, Unreadable};

/// Files of one table taken up in one sweep.
const SWEEP_LIMIT: u32 = 10_000;

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Swept {
    /// Files removed.
    pub deleted: u64,
    /// Their bytes, where known.
    pub bytes: u64,
    /// Files kept, because something refers to them or they lie where nothing may be deleted.
    pub released: u64,
    /// Files that the storage would not remove; they are tried again.
    pub failed: u64,
    /// Files whose time is over and that stay in quarantine, because their table is frozen or says `gc.enabled=false`.
    pub held: u64,
    /// Tables of which nothing could be deleted, because what they refer to can't be found out. The log names them.
    pub sick_tables: u64,
}

impl Swept {
    /// Counts another sweep in.
    pub fn add(&mut self, other: Self) {
        self.deleted += other.deleted;
        self.bytes += other.bytes;
        self.released += other.released;
        self.failed += other.failed;
        self.held += other.held;
        self.sick_tables += other.sick_tables;
    }
}

/// Deletes a warehouse's files whose time in quarantine is over at `now`. Nothing else deletes a table's files.
///
/// Each is checked again first, with commits to its table held off: the table is still the one it was quarantined for and owned,
/// no snapshot refers to the file, and it lies inside the table's own places. An orphan goes only if no other table refers to it either.
/// Then it is marked, then removed. Of a table that is frozen or says `gc.enabled=false` nothing is, for as long as that is so.
pub async fn sweep(catalog: &Catalog, now: Millis) -> Result<Swept> {
    catalog.check_epoch()?;
    let (state, warehouse) = (catalog.state(), catalog.warehouse());
    let mut swept = Swept::default();
    // Table by table: neither a sick table nor one with many files must stop the others.
    for table in state.due_tables(warehouse, now).await? {
        let quarantines = state.due_for_deletion(warehouse, table, now, SWEEP_LIMIT).await?;
        let name = quarantines.first().map(|d| d.record.table_name.clone()).unwrap_or_default();
        let done = caught(sweep_table(catalog, table, quarantines, &mut swept)).await;
        if let Err(error) = done.unwrap_or_else(|panic| Err(CatalogError::Panicked(panic))) {
            swept.sick_tables += 1;
            if let CatalogError::Table(error) = &error
                && let Some(met) = Unreadable::of_snapshot(error)
            {
                catalog.record_damage(table, &met, "met by the sweep of the quarantine").await;
            }
            tracing::error!(table_id = %table, table = name, %error, "a table's quarantine could not be swept; it is tried again");
        }
    }
    catalog.inner.sick_tables.store(swept.sick_tables, Ordering::Relaxed);
    Ok(swept)
}

async fn sweep_table(catalog: &Catalog, id: TableId, quarantines: Vec<QuarantinedFile>, swept: &mut Swept) -> Result<()> {
    let state = catalog.state();
    let looked_in: BTreeSet<&str> =
        quarantines.iter().filter(|d| is_orphan(&d.record)).map(|d| d.record.table_location.as_str()).collect();
    let looked_in: Vec<Location> = looked_in.into_iter().filter_map(|place| Location::parse(place).ok()).collect();
    let elsewhere = match looked_in.is_empty() {
        true => Ok(PathSet::default()),
        false => referenced_by_others(catalog, id, &looked_in).await,
    };
    let held = catalog.hold_commits(id).await?;
    if let Some(row) = state.table_by_id(id).await? {
        // What a state leads to that somebody may decide for is not this one's to judge.
        catalog.check_only_tip(&row).await?;
    }
    if let Some(why) = held_by(catalog, id).await? {
        swept.held += quarantines.len() as u64;
        tracing::debug!(table = %id, files = quarantines.len(), why, "files in quarantine are held");
        return Ok(());
    }
    let mut keep = DeletionGuard::of(catalog, id).await?;
    if let Some(bad) = keep.undecided.take() {
        return Err(bad.into());
    }
    let (mut go, mut spare) = (Vec::new(), BTreeMap::<String, Vec<String>>::new());
    let mut waiting = 0;
    for quarantined in quarantines {
        let needed = match &elsewhere {
            Err(_) if is_orphan(&quarantined.record) => {
                waiting += 1;
                continue;
            }
            Ok(elsewhere) if is_orphan(&quarantined.record) => elsewhere.contains(&quarantined.record.path)?,
            _ => false,
        };
        match keep.reason(&quarantined.record)? {
            _ if needed => spare.entry("another table refers to it".to_owned()).or_default().push(quarantined.record.path),
            None => go.push(quarantined.record),
            Some(why) => spare.entry(why).or_default().push(quarantined.record.path),
        }
    }
    if let Err(error) = &elsewhere {
        swept.failed += waiting;
        tracing::warn!(table = %id, files = waiting, %error, "orphans were not deleted; it is tried again");
    }
    for (why, paths) in spare {
        swept.released += paths.len() as u64;
        tracing::warn!(table = %id, files = paths.len(), why, "files were released from quarantine");
        state.end_deletion(&paths, QuarantineState::Released, Some(&why)).await?;
    }
    let paths: Vec<String> = go.iter().map(|d| d.path.clone()).collect();
    let checked = keep.row.as_ref().map(|row| row.metadata_location.as_str());
    let begun: HashSet<String> = state.begin_deleting(id, checked, paths).await?.into_iter().collect();
    go.retain(|record| begun.contains(&record.path));
    drop(held);
    catalog.failpoint("sweep-before-delete").await;
    remove(catalog, go, swept).await
}

async fn remove(catalog: &Catalog, quarantines: Vec<NewQuarantine>, swept: &mut Swept) -> Result<()> {
    let mut gone = Vec::new();
    for record in quarantines {
        match catalog.storage().remove(&record.path).await {
            Ok(()) => {
                swept.deleted += 1;
                swept.bytes += record.bytes.unwrap_or(0);
                gone.push(record.path);
            }
            Err(error) => {
                swept.failed += 1;
                tracing::warn!(path = record.path, %error, "a file could not be deleted");
            }
        }
    }
    Ok(catalog.state().end_deletion(&gone, QuarantineState::Deleted, None).await?)
}

fn is_orphan(record: &NewQuarantine) -> bool {
    record.kind == QuarantineKind::Orphan
}

/// The table or view, or what it was dropped as and can be brought back.
async fn row_of(catalog: &Catalog, id: TableId) -> Result<Option<TableRow>> {
    Ok(match catalog.state().table_by_id(id).await? {
        Some(row) => Some(row),
        None => catalog.state().dropped_table(id).await?.map(|dropped| dropped.row),
    })
}

/// Why nothing of a table is deleted for now: its files stay in quarantine until that is over.
async fn held_by(catalog: &Catalog, id: TableId) -> Result<Option<String>> {
    let Some(row) = row_of(catalog, id).await?.filter(|row| row.kind == TabularKind::Table) else { return Ok(None) };
    let table = catalog.load_row(row).await?;
    if matches!(GC_ENABLED.checked(&table.metadata.properties), Ok(false)) {
        return Ok(Some("it says gc.enabled=false".to_owned()));
    }
    Ok(catalog.frozen_by(&table).await?.map(|by| format!("it is frozen by {by}")))
}

/// What must be kept of one table.
struct DeletionGuard {
    /// The living table or view; none if it was dropped for good.
    row: Option<TableRow>,
    /// Everything that its metadata leads to.
    referenced: PathSet,
    /// Where its files may lie.
    own: Vec<Location>,
    /// Where other tables' files lie.
    foreign: Vec<Place>,
    /// Why it is not known whether the table lets anything be deleted.
    undecided: Option<TableError>,
}

impl DeletionGuard {
    /// A table that was dropped and can be brought back is kept like one that lives.
    async fn of(catalog: &Catalog, id: TableId) -> Result<Self> {
        match row_of(catalog, id).await? {
            // A view has no files but its metadata.
            Some(row) if row.kind == TabularKind::View => Self::view(catalog, row).await,
            Some(row) => Self::living(catalog, catalog.load_row(row).await?).await,
            None => Self::dropped(catalog, id).await,
        }
    }

    async fn living(catalog: &Catalog, table: LoadedTable) -> Result<Self> {
        let metadata = &table.metadata;
        let referenced = referenced_paths(catalog, &table).await?;
        let own = places_of(catalog, &table).await?;
        let foreign = other_places(catalog, Some(table.row.id)).await?;
        let undecided = GC_ENABLED.checked(&metadata.properties).err();
        Ok(Self { row: Some(table.row), referenced, own, foreign, undecided })
    }

    async fn view(catalog: &Catalog, row: TableRow) -> Result<Self> {
        let mut referenced = catalog.path_set();
        referenced.insert(&row.metadata_location);
        let referenced = referenced.finish()?;
        let foreign = other_places(catalog, Some(row.id)).await?;
        let own = Location::parse(&row.location).into_iter().collect();
        Ok(Self { row: Some(row), referenced, own, foreign, undecided: None })
    }

    async fn dropped(catalog: &Catalog, id: TableId) -> Result<Self> {
        let foreign = other_places(catalog, None).await?;
        let own = catalog.state().places_of(id).await?;
        let own = own.iter().filter_map(|place| Location::parse(place).ok()).collect();
        Ok(Self { row: None, referenced: PathSet::default(), own, foreign, undecided: None })
    }

    /// Whether a file is in a place that is another's rather than this table's. Of places that enclose each other, as shared ones may, the
    /// inner one says whose the file is.
    fn is_foreign(&self, place: &Place, at: &Location) -> bool {
        let ours = |own: &Location| at.is_inside(own) && (*own == place.at || own.is_inside(&place.at));
        let decided = place.is_location() || place.dropped || self.row.is_none();
        at.is_inside(&place.at) && (decided || !self.own.iter().any(ours))
    }

    /// Why a file is kept; `None` if it may go.
    fn reason(&self, record: &NewQuarantine) -> Result<Option<String>> {
        let Ok(at) = Location::parse(&record.path) else { return Ok(Some("its path is not a valid location".to_owned())) };
        if let Some(place) = self.foreign.iter().find(|place| self.is_foreign(place, &at)) {
            return Ok(Some(format!("it lies in {}, {}", place.at, place.what())));
        }
        let where_it_was = Location::parse(&record.table_location).is_ok_and(|l| at.is_inside(&l));
        let inside = where_it_was || self.own.iter().any(|l| at.is_inside(l));
        let why = match &self.row {
            None if inside => return Ok(None),
            None => "it lies outside the places that the dropped table had",
            Some(row) if row.table_uuid != record.table_uuid => "the table has another uuid than when the file was quarantined",
            Some(row) if !row.owned => "the table is foreign",
            Some(_) if self.referenced.contains(&record.path)? => "the table refers to it",
            Some(_) if inside => return Ok(None),
            Some(_) => "it lies outside the table's places",
        };
        Ok(Some(why.to_owned()))
    }
}

/// The places of the tables and views other than `own`, dropped ones that can be brought back included.
pub async fn other_places(catalog: &Catalog, own: Option<TableId>) -> Result<Vec<Place>> {
    let places = catalog.places().await?;
    Ok(places.into_iter().filter(|place| Some(place.owner.id) != own).collect())
}

/// The table or view in whose place a file lies, the innermost; dropped ones that can be brought back included.
pub async fn owner(catalog: &Catalog, at: &Location) -> Result<Option<TableRow>> {
    let inside = catalog.places().await?.into_iter().filter(|place| at.is_inside(&place.at));
    let innermost = inside.max_by_key(|place| (place.at.to_string().len(), place.is_location()));
    Ok(innermost.map(|place| place.owner.as_ref().clone()))
}

/// Why a sweep would keep each of a table's files that are in quarantine, if it would.
pub async fn reasons_to_keep(catalog: &Catalog, id: TableId) -> Result<BTreeMap<String, String>> {
    let keep = DeletionGuard::of(catalog, id).await?;
    let mut kept = BTreeMap::new();
    for quarantined in catalog.state().quarantine_of(id).await? {
        if let Some(why) = keep.reason(&quarantined.record)? {
            kept.insert(quarantined.record.path, why);
        }
    }
    Ok(kept)
}

/// Settles what processes that are gone recorded and did not finish: a file that is part of its table is left, any other is
/// handed to [`sweep`]. Returns how many files were handed over.
pub async fn reclaim_outputs(catalog: &Catalog) -> Result<u64> {
    catalog.check_epoch()?;
    let mut by_table: BTreeMap<TableId, Vec<PendingOutput>> = BTreeMap::new();
    for output in catalog.state().outputs_of_dead_instances(catalog.warehouse()).await? {
        by_table.entry(output.table).or_default().push(output);
    }
    let mut quarantined = 0;
    for (id, outputs) in by_table {
        let paths: Vec<String> = outputs.into_iter().map(|o| o.path).collect();
        // What can't be judged now stays recorded for the next start.
        match caught(settle_outputs(catalog, id, &paths, "left behind when the server was stopped")).await {
            Ok(Ok(n)) => quarantined += n,
            Ok(Err(error)) => tracing::warn!(table = %id, %error, "leftovers could not be judged"),
            Err(panic) => tracing::error!(table = %id, %panic, "leftovers could not be judged"),
        }
    }
    Ok(quarantined)
}

/// Settles recorded files: those that the table refers to are forgotten as intents, the others are quarantined for at once.
/// Returns how many were quarantined.
pub async fn settle_outputs(catalog: &Catalog, id: TableId, paths: &[String], reason: &str) -> Result<u64> {
    let state = catalog.state();
    let keep = DeletionGuard::of(catalog, id).await?;
    let mut quarantines = Vec::new();
    for path in paths {
        if keep.referenced.contains(path)? {
            state.forget_output(path).await?;
            continue;
        }
        // It was never part of a table, so nobody can need it: no grace.
        quarantines.push(match &keep.row {
            Some(row) => row.quarantine(path.clone(), None, reason, None, now_ms()),
            None => NewQuarantine {
                path: path.clone(),
                warehouse: catalog.warehouse().id,
                table: id,
                table_name: "(never created)".to_owned(),
                table_uuid: Uuid::nil(),
                table_location: catalog.options().location.to_string(),
                job: None,
                kind: QuarantineKind::Own,
                reason: reason.to_owned(),
                bytes: None,
                due_ms: now_ms(),
            },
        });
    }
    state.quarantine(&quarantines).await?;
    Ok(quarantines.len() as u64)
}
