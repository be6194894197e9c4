//! The sweep, the only function that deletes files of tables, and the settling of files that dead servers left.
//!
//! A file that becomes unreferenced is not deleted. It is recorded in quarantine, stays in place for the grace period, and is
//! checked again before it is removed. The states of a quarantined file ([`QuarantineState`]):
//!
//! ```text
//!  expiry, compaction, purge, orphan scan, failed commit, dead server
//!                        |
//!                        v
//!                   quarantined ------ a check finds a reason to keep it, or a commit restores it ---> released
//!                        |    ^
//!                        |    `------- not due; table frozen, gc.enabled=false, or can't be checked: stays
//!                        |  due, and every check passed while commits were held back
//!                        v
//!                    deleting -------- a later sweep finds a reason to keep it ---------------------> released
//!                        |    ^
//!                        |    `------- storage failed or server died: stays, the next sweep repeats
//!                        |  storage removed it, or had no such file
//!                        v
//!                     deleted
//! ```
//!
//! A path that is released or deleted can be quarantined again.
//!
//! Start reading at [`sweep`]. `DeletionGuard::reason_to_keep` lists the reasons to keep a file.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::Ordering;

use esker_state::{NewQuarantine, PendingOutput, QuarantineKind, QuarantineState, QuarantinedFile, TabularKind, TabularRow};
use esker_storage::Location;
use esker_table::TableError;
use esker_table::properties::GC_ENABLED;
use esker_types::{Millis, TableId, catch_panic, now_ms};
use uuid::Uuid;

use crate::extents::referenced_by_others;
use crate::places::{Place, places_of};
use crate::referenced::referenced_paths;
use crate::{Catalog, CatalogError, LoadedTable, PathSet, Result, Unreadable};

/// Maximum number of files of one table in one sweep.
const SWEEP_LIMIT: u32 = 10_000;

/// The counts of one sweep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Swept {
    /// Number of files removed from storage; a file that was not there counts.
    pub deleted: u64,
    /// Total size of the deleted files, in bytes; unknown sizes count as zero.
    pub bytes: u64,
    /// Number of files kept, because something refers to them or they lie where nothing may be deleted.
    pub released: u64,
    /// Number of files that the next sweep tries again.
    ///
    /// The storage did not remove them, or they are orphans and another table could not be read.
    pub failed: u64,
    /// Number of due files that stay in quarantine because their table is frozen or has `gc.enabled=false`.
    pub held: u64,
    /// Number of tables that could not be checked, so that none of their files was deleted.
    ///
    /// The log names them.
    pub sick_tables: u64,
}

impl Swept {
    /// Adds the counts of another sweep.
    pub fn add(&mut self, other: Self) {
        self.deleted += other.deleted;
        self.bytes += other.bytes;
        self.released += other.released;
        self.failed += other.failed;
        self.held += other.held;
        self.sick_tables += other.sick_tables;
    }
}

/// Deletes the files of a warehouse whose grace period in quarantine ended by `now`, in milliseconds since the Unix epoch.
///
/// No other function deletes files of tables. Commits to a table are held back while its files are checked and marked. A file is
/// deleted only if all of this holds:
///
/// - The table is owned and has the UUID that it had when the file was quarantined, or it was dropped for good.
/// - Nothing in the table's metadata leads to the file.
/// - The file lies in a place of the table, and in no place of another. It is none of Esker's own files.
/// - No other table refers to the file, if it is an orphan.
///
/// A file that fails a check is released. The files of a table that is frozen or has `gc.enabled=false` stay in quarantine. A
/// file is first marked and then removed, so that a killed sweep is repeated. One sweep takes at most 10,000 files of a table.
///
/// # Errors
///
/// Returns [`Refused`](CatalogError::Refused) if database and storage disagree ([`Catalog::check_epoch`]), and
/// [`State`](CatalogError::State) if the list of due files can't be read. A table that can't be checked is no error;
/// [`Swept::sick_tables`] counts it.
pub async fn sweep(catalog: &Catalog, now: Millis) -> Result<Swept> {
    catalog.check_epoch()?;
    let (state, warehouse) = (catalog.state(), catalog.warehouse());
    let mut swept = Swept::default();
    let due = state.quarantine().due_tables(warehouse, now).await?;
    if !due.is_empty() {
        catalog.check_nothing_lost().await?;
    }
    // Table by table: neither an unreadable table nor one with many files must stop the others.
    for table in due {
        let quarantines = state.quarantine().due_for_deletion(warehouse, table, now, SWEEP_LIMIT).await?;
        let name = quarantines.first().map(|d| d.record.table_name.clone()).unwrap_or_default();
        let done = catch_panic(sweep_table(catalog, table, quarantines, &mut swept)).await;
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
    catalog.inner.unswept_tables.store(swept.sick_tables, Ordering::Relaxed);
    Ok(swept)
}

/// Checks the due files of one table, marks those that may be deleted, and removes them.
async fn sweep_table(catalog: &Catalog, id: TableId, quarantines: Vec<QuarantinedFile>, swept: &mut Swept) -> Result<()> {
    let state = catalog.state();
    let elsewhere = referenced_elsewhere(catalog, id, &quarantines).await;
    let held = catalog.hold_commits(id).await?;
    if let Some(row) = state.tables().by_id(id).await? {
        // A person may still decide for another tip of the table: the files of that state must stay.
        catalog.check_only_tip(&row).await?;
    }
    if let Some(why) = hold_reason(catalog, id).await? {
        swept.held += quarantines.len() as u64;
        tracing::debug!(table = %id, files = quarantines.len(), why, "due files stay in quarantine");
        return Ok(());
    }
    let paths: Vec<&str> = quarantines.iter().map(|d| d.record.path.as_str()).collect();
    let mut keep = DeletionGuard::of(catalog, id, &paths).await?;
    if let Some(bad) = keep.gc_error.take() {
        return Err(bad.into());
    }
    let (mut go, mut spare) = (Vec::new(), BTreeMap::<String, Vec<String>>::new());
    let mut waiting = 0;
    let referenced = keep.referenced.contains_each(&paths).await?;
    let by_others = match &elsewhere {
        Ok(elsewhere) => elsewhere.contains_each(&paths).await?,
        Err(_) => vec![false; paths.len()],
    };
    for ((quarantined, referenced), by_others) in quarantines.into_iter().zip(referenced).zip(by_others) {
        if elsewhere.is_err() && is_orphan(&quarantined.record) {
            waiting += 1;
            continue;
        }
        match keep.reason_to_keep(&quarantined.record, referenced) {
            _ if by_others && is_orphan(&quarantined.record) => {
                spare.entry("another table refers to it".to_owned()).or_default().push(quarantined.record.path)
            }
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
        state.quarantine().set_state(&paths, QuarantineState::Released, Some(&why)).await?;
    }
    let paths: Vec<String> = go.iter().map(|d| d.path.clone()).collect();
    let checked = keep.row.as_ref().map(|row| row.metadata_location.as_str());
    let begun: HashSet<String> = state.quarantine().begin_deleting(id, checked, paths).await?.into_iter().collect();
    go.retain(|record| begun.contains(&record.path));
    // The database may have lost changes since it was read. What is marked stays, and is checked again by a later sweep.
    catalog.check_epoch()?;
    drop(held);
    catalog.failpoint("sweep-before-delete").await;
    remove(catalog, go, swept).await
}

/// Returns what other tables refer to in the places of the table's due orphans.
async fn referenced_elsewhere(catalog: &Catalog, id: TableId, quarantines: &[QuarantinedFile]) -> Result<PathSet> {
    let orphans = quarantines.iter().filter(|quarantined| is_orphan(&quarantined.record));
    let places: BTreeSet<&str> = orphans.map(|orphan| orphan.record.table_location.as_str()).collect();
    let places: Vec<Location> = places.into_iter().filter_map(|place| Location::parse(place).ok()).collect();
    match places.is_empty() {
        true => Ok(PathSet::default()),
        false => referenced_by_others(catalog, id, &places).await,
    }
}

/// Removes marked files from storage, and records those that are gone.
///
/// A file that can't be removed stays marked.
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
    Ok(catalog.state().quarantine().set_state(&gone, QuarantineState::Deleted, None).await?)
}

/// Checks whether a scan found the file without any reference, so that another table may refer to it.
fn is_orphan(record: &NewQuarantine) -> bool {
    record.kind == QuarantineKind::Orphan
}

/// Returns the row of a table or view, or that of a dropped table that can be brought back.
async fn live_or_dropped_row(catalog: &Catalog, id: TableId) -> Result<Option<TabularRow>> {
    Ok(match catalog.state().tables().by_id(id).await? {
        Some(row) => Some(row),
        None => catalog.state().tables().dropped(id).await?.map(|dropped| dropped.row),
    })
}

/// Returns the reason why nothing of a table is deleted for now; `None` if there is none.
///
/// A dropped table that can be brought back counts as a living one.
///
/// # Errors
///
/// Returns [`State`](CatalogError::State) if the database fails. Returns [`MetadataGone`](CatalogError::MetadataGone),
/// [`MetadataInvalid`](CatalogError::MetadataInvalid) or [`Storage`](CatalogError::Storage) if the table's metadata can't be read.
pub async fn hold_reason(catalog: &Catalog, id: TableId) -> Result<Option<String>> {
    let Some(row) = live_or_dropped_row(catalog, id).await?.filter(|row| row.kind == TabularKind::Table) else { return Ok(None) };
    let table = catalog.load_row(row).await?;
    if matches!(GC_ENABLED.get_valid(&table.metadata.properties), Ok(false)) {
        return Ok(Some("it has gc.enabled=false".to_owned()));
    }
    Ok(catalog.frozen_by(&table).await?.map(|by| format!("it is frozen by {by}")))
}

/// The facts about one table that decide which of its files must stay.
struct DeletionGuard {
    /// Row of the table or view, or of a dropped table that can be brought back; `None` if it was dropped for good.
    row: Option<TabularRow>,
    /// Paths of all files that the table's metadata leads to.
    referenced: PathSet,
    /// Places in which the table may have files.
    own: Vec<Location>,
    /// Places of the other tables and views in which the files lie that are judged.
    foreign: Vec<Place>,
    /// Directory of Esker's own files in the warehouse, which belong to no table.
    esker: Location,
    /// Error of reading `gc.enabled`; if it is set, nothing of the table is deleted.
    gc_error: Option<TableError>,
}

impl DeletionGuard {
    /// Collects the facts about a table by which the given files are judged.
    ///
    /// A dropped table that can be brought back counts as a living one.
    async fn of<P: AsRef<str>>(catalog: &Catalog, id: TableId, files: &[P]) -> Result<Self> {
        let files: Vec<Location> = files.iter().filter_map(|path| Location::parse(path.as_ref()).ok()).collect();
        match live_or_dropped_row(catalog, id).await? {
            // A view has only metadata files.
            Some(row) if row.kind == TabularKind::View => Self::view(catalog, row, &files).await,
            Some(row) => Self::living(catalog, catalog.load_row(row).await?, &files).await,
            None => Self::dropped(catalog, id, &files).await,
        }
    }

    /// Collects the facts about a table that is in the catalog or can be brought back.
    async fn living(catalog: &Catalog, table: LoadedTable, files: &[Location]) -> Result<Self> {
        let metadata = &table.metadata;
        let referenced = referenced_paths(catalog, &table).await?;
        let own = places_of(catalog, &table).await?;
        let foreign = catalog.places_around(Some(table.row.id), files).await?;
        let undecided = GC_ENABLED.get_valid(&metadata.properties).err();
        Ok(Self { row: Some(table.row), referenced, own, foreign, esker: catalog.own_directory(), gc_error: undecided })
    }

    /// Collects the facts about a view.
    async fn view(catalog: &Catalog, row: TabularRow, files: &[Location]) -> Result<Self> {
        let mut referenced = catalog.path_set();
        referenced.insert(&row.metadata_location);
        let referenced = referenced.finish()?;
        let foreign = catalog.places_around(Some(row.id), files).await?;
        let own = Location::parse(&row.location).into_iter().collect();
        Ok(Self { row: Some(row), referenced, own, foreign, esker: catalog.own_directory(), gc_error: None })
    }

    /// Collects the facts about a table that was dropped for good.
    async fn dropped(catalog: &Catalog, id: TableId, files: &[Location]) -> Result<Self> {
        let foreign = catalog.places_around(None, files).await?;
        let own = catalog.state().tables().places_of(id).await?;
        let own = own.iter().filter_map(|place| Location::parse(place).ok()).collect();
        let (referenced, esker) = (PathSet::default(), catalog.own_directory());
        Ok(Self { row: None, referenced, own, foreign, esker, gc_error: None })
    }

    /// Checks whether a file that lies in another table's place belongs to that table rather than to this one.
    ///
    /// Shared places may enclose each other; the inner place decides then. The location of a table and the places of a dropped
    /// table are never shared.
    fn is_foreign(&self, place: &Place, at: &Location) -> bool {
        let ours = |own: &Location| at.is_inside(own) && (*own == place.directory || own.is_inside(&place.directory));
        let decided = place.is_location() || place.dropped || self.row.is_none();
        at.is_inside(&place.directory) && (decided || !self.own.iter().any(ours))
    }

    /// Returns the reason to keep a file; `None` if it may be deleted.
    ///
    /// `referenced` says whether the file is in [`DeletionGuard::referenced`].
    fn reason_to_keep(&self, record: &NewQuarantine, referenced: bool) -> Option<String> {
        let Ok(at) = Location::parse(&record.path) else { return Some("its path is not a valid location".to_owned()) };
        if at.is_inside(&self.esker) {
            return Some("it is one of Esker's own files".to_owned());
        }
        if let Some(place) = self.foreign.iter().find(|place| self.is_foreign(place, &at)) {
            return Some(format!("it lies in {}, {}", place.directory, place.describe()));
        }
        let where_it_was = Location::parse(&record.table_location).is_ok_and(|l| at.is_inside(&l));
        let inside = where_it_was || self.own.iter().any(|l| at.is_inside(l));
        let why = match &self.row {
            None if inside => return None,
            None => "it lies outside the places that the dropped table had",
            Some(row) if row.table_uuid != record.table_uuid => "the table's uuid has changed since the file was quarantined",
            Some(row) if !row.owned => "the table is foreign",
            Some(_) if referenced => "the table refers to it",
            Some(_) if inside => return None,
            Some(_) => "it lies outside the table's places",
        };
        Some(why.to_owned())
    }
}

/// Returns the table or view in whose place a file lies; the innermost place decides. `None` if the file lies in no place.
///
/// Dropped tables that can be brought back count.
///
/// # Errors
///
/// Returns [`State`](CatalogError::State) if the database fails.
pub async fn owner(catalog: &Catalog, at: &Location) -> Result<Option<TabularRow>> {
    let inside = catalog.places_around(None, std::slice::from_ref(at)).await?;
    let innermost = inside.into_iter().max_by_key(|place| (place.directory.to_string().len(), place.is_location()));
    Ok(innermost.map(|place| place.owner))
}

/// Lists the quarantined files of a table that a sweep would release, each path with the reason.
///
/// References by other tables to orphans are not checked here, nor whether the table is frozen.
///
/// # Errors
///
/// Returns [`State`](CatalogError::State) if the database fails. Returns [`MetadataGone`](CatalogError::MetadataGone),
/// [`MetadataInvalid`](CatalogError::MetadataInvalid), [`Storage`](CatalogError::Storage) or [`Table`](CatalogError::Table) if
/// the table can't be read, and [`Spill`](CatalogError::Spill) if the disk for large sets fails.
pub async fn reasons_to_keep(catalog: &Catalog, id: TableId) -> Result<BTreeMap<String, String>> {
    let mut kept = BTreeMap::new();
    let quarantines = catalog.state().quarantine().of_table(id).await?;
    let paths: Vec<&str> = quarantines.iter().map(|d| d.record.path.as_str()).collect();
    let keep = DeletionGuard::of(catalog, id, &paths).await?;
    let referenced = keep.referenced.contains_each(&paths).await?;
    for (quarantined, referenced) in quarantines.into_iter().zip(referenced) {
        if let Some(why) = keep.reason_to_keep(&quarantined.record, referenced) {
            kept.insert(quarantined.record.path, why);
        }
    }
    Ok(kept)
}

/// Settles the pending outputs of servers that are gone. Returns the number of files that were put into quarantine.
///
/// A file that is part of its table is left alone; any other is due for the next [`sweep`]. If a table can't be read, its pending
/// outputs stay recorded for the next call. So do all that are left once a disagreement of database and storage is noticed.
///
/// # Errors
///
/// Returns [`Refused`](CatalogError::Refused) if database and storage disagree ([`Catalog::check_epoch`]), and
/// [`State`](CatalogError::State) if the pending outputs can't be read.
pub async fn reclaim_outputs(catalog: &Catalog) -> Result<u64> {
    catalog.check_epoch()?;
    let mut by_table: BTreeMap<TableId, Vec<PendingOutput>> = BTreeMap::new();
    for output in catalog.state().outputs().of_dead_servers(catalog.warehouse()).await? {
        by_table.entry(output.table).or_default().push(output);
    }
    if !by_table.is_empty() {
        catalog.state().servers().note_losses().await?;
    }
    let mut quarantined = 0;
    for (id, outputs) in by_table {
        if let Err(error) = catalog.check_epoch() {
            // A record may be that of a file which a lost change published.
            tracing::warn!(%error, "files of stopped servers stay as they are");
            break;
        }
        let paths: Vec<String> = outputs.into_iter().map(|o| o.path).collect();
        let settle = async {
            let judged = judge_outputs(catalog, id, &paths, "the server that was writing it stopped").await?;
            // The state of the table by which the files were judged may be one after the loss.
            catalog.check_epoch()?;
            judged.settle(catalog).await
        };
        // What can't be checked now stays recorded for the next call.
        match catch_panic(settle).await {
            Ok(Ok(n)) => quarantined += n,
            Ok(Err(error)) => tracing::warn!(table = %id, %error, "files of a stopped server could not be checked"),
            Err(panic) => tracing::error!(table = %id, %panic, "files of a stopped server could not be checked"),
        }
    }
    Ok(quarantined)
}

/// Settles pending outputs of one table. Returns the number of files that were put into quarantine.
///
/// If the table refers to a file, only its record is removed. Any other file is put into quarantine with `reason` and is due at
/// once.
///
/// # Errors
///
/// Returns [`State`](CatalogError::State) if the database fails. Returns [`MetadataGone`](CatalogError::MetadataGone),
/// [`MetadataInvalid`](CatalogError::MetadataInvalid), [`Storage`](CatalogError::Storage) or [`Table`](CatalogError::Table) if
/// the table can't be read, and [`Spill`](CatalogError::Spill) if the disk for large sets fails.
pub async fn settle_outputs(catalog: &Catalog, id: TableId, paths: &[String], reason: &str) -> Result<u64> {
    judge_outputs(catalog, id, paths, reason).await?.settle(catalog).await
}

/// Pending outputs of one table, told apart by what the table's metadata leads to.
struct JudgedOutputs {
    /// Paths of the files that are part of the table.
    part: Vec<String>,
    /// Records for the quarantine of all other files.
    quarantines: Vec<NewQuarantine>,
}

impl JudgedOutputs {
    /// Removes the records of pending outputs, and puts the files into quarantine that are no part of the table. Returns the number
    /// of these.
    async fn settle(self, catalog: &Catalog) -> Result<u64> {
        catalog.state().outputs().forget_committed(&self.part).await?;
        catalog.state().quarantine().add(&self.quarantines).await?;
        Ok(self.quarantines.len() as u64)
    }
}

/// Finds out which pending outputs of one table are part of it. `reason` is for the quarantine of the others.
async fn judge_outputs(catalog: &Catalog, id: TableId, paths: &[String], reason: &str) -> Result<JudgedOutputs> {
    let keep = DeletionGuard::of(catalog, id, paths).await?;
    let mut judged = JudgedOutputs { part: Vec::new(), quarantines: Vec::new() };
    for (path, referenced) in paths.iter().zip(keep.referenced.contains_each(paths).await?) {
        if referenced {
            judged.part.push(path.clone());
            continue;
        }
        // The file was never part of a table and can't be needed, so it gets no grace period.
        judged.quarantines.push(match &keep.row {
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
    Ok(judged)
}
