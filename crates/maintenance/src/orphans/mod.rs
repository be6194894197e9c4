//! Orphans: files under a table's location that nothing refers to.
//!
//! A scan lists the location, then reads what the table and others refer to, and compares. A file that is unreferenced in a scan
//! becomes an orphan candidate. A scan at least a day later that finds the candidate again quarantines it, so that a writer has the
//! time to commit its files. Start reading at [`execute_orphans`] and `OrphanScan::next`.

mod inventory;
mod job;
mod listing;
mod spool;

use std::path::Path;
use std::time::Instant;

use esker_catalog::recovery::is_ahead;
use esker_catalog::{Catalog, LoadedTable, PathSet, referenced_by_others, referenced_paths};
use esker_state::{NewQuarantine, QuarantineKind};
use esker_storage::Location;
use esker_table::properties::ORPHAN_MIN_AGE;
use esker_types::{DAY_MS, DurationMillis, Millis, now_ms};
use serde::{Deserialize, Serialize};

use crate::context::JobContext;
use crate::{MaintenanceError, Result};
pub(crate) use job::OrphanRemoval;
use listing::{Listing, ListingSource};
use spool::ListedFile;

/// Time in milliseconds between the scan that first finds a candidate and the earliest scan that may quarantine it.
const CONFIRMATION_DELAY_MS: DurationMillis = DAY_MS;

/// The reason that a file is an orphan, for people.
const REASON: &str = "no snapshot, statistics entry, metadata log or job refers to it";

/// Maximum number of orphans that a report names; further ones are only counted.
const NAMED: usize = 10_000;

/// Number of listed files that are judged at a time, and least number of orphans that are recorded at a time.
const BATCH: usize = 1000;

/// The options of an orphan scan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct OrphanOptions {
    /// Minimum age of a file since it was last written, in milliseconds; default: the table's `esker.orphans.min-age-ms`, else
    /// three days.
    ///
    /// It must be at least a day.
    pub older_than_age_ms: Option<DurationMillis>,
    /// URI of a listing to use instead of listing the storage: the `manifest.json` of an S3 Inventory, or a file of CSV or Parquet.
    pub inventory: Option<String>,
}

/// A file that nothing refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Orphan {
    /// URI of the file.
    pub path: String,
    /// Size of the file, in bytes.
    pub bytes: u64,
    /// Time of the last write, in milliseconds since the Unix epoch.
    pub modified_ms: Millis,
    /// Time since when the file is a candidate, in milliseconds since the Unix epoch; `None` if this scan is the first to find it.
    pub since_ms: Option<Millis>,
    /// The reason that the file is an orphan, for people.
    pub reason: String,
}

/// Counts of the files under a table's location, by what refers to them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LocationCensus {
    /// Number of files that were listed.
    pub listed: u64,
    /// Number of listed files that a snapshot, a statistics entry or the metadata log refers to.
    pub referenced: u64,
    /// Number of listed files that are unreferenced but too young to judge.
    pub young: u64,
    /// Number of listed files that are pending outputs, are in quarantine, or belong to another table.
    pub accounted: u64,
    /// Number of orphans.
    pub orphans: u64,
    /// Total size of the orphans, in bytes.
    pub orphan_bytes: u64,
}

/// The result of an orphan scan that changes nothing: the dry run of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OrphanReport {
    /// Name of the table.
    pub table: String,
    /// The location that was listed.
    pub location: String,
    /// Time before which a file must have been written last to be judged, in milliseconds since the Unix epoch.
    pub older_than_ms: Millis,
    /// Counts of the listed files.
    #[serde(flatten)]
    pub counted: LocationCensus,
    /// The orphans, by location; at most ten thousand are named.
    pub named: Vec<Orphan>,
}

/// The plan of a job that removes orphans. It has the limits of the scan, because the scan itself is the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OrphanPlan {
    /// Name of the table.
    pub table: String,
    /// The location that is listed.
    pub location: String,
    /// Time before which a file must have been written last to be judged, in milliseconds since the Unix epoch.
    pub older_than_ms: Millis,
    /// Time by which a file must have become a candidate to be quarantined, in milliseconds since the Unix epoch.
    pub seen_before_ms: Millis,
    /// Time that a file stays in quarantine before it is deleted, in milliseconds.
    pub grace_ms: DurationMillis,
    /// URI of the inventory that is read instead of listing the storage.
    #[serde(default)]
    pub inventory: Option<String>,
}

/// The outcome of a job that removes orphans.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OrphanOutcome {
    /// Counts of the listed files.
    #[serde(flatten)]
    pub counted: LocationCensus,
    /// Number of candidates that are known for less than a day; the next scan may quarantine them.
    pub waiting: u64,
    /// Number of files that were quarantined.
    #[serde(alias = "doomed_files")]
    pub quarantined_files: u64,
    /// Total size of the quarantined files, in bytes.
    #[serde(alias = "doomed_bytes")]
    pub quarantined_bytes: u64,
    /// Duration of the job, in seconds.
    pub seconds: f64,
}

/// Returns the age below which a file is not judged, in milliseconds.
///
/// # Errors
///
/// Returns [`MaintenanceError::Option`] if the age is less than a day, or less than the table's property asks for. Returns
/// [`MaintenanceError::Table`] if the property can't be parsed.
fn min_age(table: &LoadedTable, options: &OrphanOptions) -> Result<Millis> {
    const KEY: &str = ORPHAN_MIN_AGE.key;
    let properties = &table.metadata.properties;
    let least = ORPHAN_MIN_AGE.get_valid(properties)?;
    let property = properties.contains_key(KEY).then_some(least);
    let (key, age) = match (options.older_than_age_ms, property) {
        (Some(age), Some(least)) if age < least => {
            let reason = format!("{age} ms is less than the table's {KEY}, {least} ms");
            return Err(MaintenanceError::Option { key: "older-than-age-ms", reason });
        }
        (Some(age), _) => ("older-than-age-ms", age),
        (None, Some(age)) => (KEY, age),
        (None, None) => (KEY, least),
    };
    if age < DAY_MS {
        let reason = format!("{age} ms is under the floor of 24 hours: a writer's files are unreferenced until it commits");
        return Err(MaintenanceError::Option { key, reason });
    }
    Ok(age)
}

/// The limits and the source of a scan, and the place of its listing.
struct ScanRequest<'a> {
    /// Time before which a file must have been written last to be judged, in milliseconds since the Unix epoch.
    older_than_ms: Millis,
    /// URI of an inventory that is read instead of listing the storage.
    inventory: Option<&'a str>,
    /// Directory for the listing on local disk.
    spill: &'a Path,
    /// Name under which a later attempt resumes the listing; `None` for a dry run.
    name: Option<&'a str>,
}

/// An orphan scan. The listing is spooled to disk, then its files are judged by the references that were read after the listing
/// ended.
struct OrphanScan {
    listed: Listing,
    table: LoadedTable,
    /// Files that the table's metadata leads to.
    referenced: PathSet,
    /// Pending outputs and quarantined files of the table.
    accounted: PathSet,
    /// Files within the table's location that other tables lead to.
    elsewhere: PathSet,
    /// Places of other tables that overlap the table's location: those within it or equal to it, and locations that enclose it.
    /// The directory of Esker's own files is one of them if it overlaps the location.
    others: Vec<Location>,
    older_than_ms: Millis,
    counted: LocationCensus,
}

impl OrphanScan {
    /// Lists the location, or reads the inventory, then reads all references.
    async fn begin(catalog: &Catalog, table: &LoadedTable, request: ScanRequest<'_>) -> Result<Self> {
        let ScanRequest { older_than_ms, inventory, spill, name } = request;
        let location = Location::parse(&table.row.location)?;
        let source = ListingSource { location: &location, inventory, spill, name };
        let listed = Listing::take(catalog.storage(), source).await?;
        let counted = LocationCensus::default();
        // References are read after the listing ended, so that a file committed meanwhile is no orphan.
        let table = match catalog.state().tables().by_id(table.row.id).await? {
            Some(row) => catalog.load_row(row).await?,
            None => return Err(MaintenanceError::Refused(format!("table {} was dropped during the listing", table.row.name))),
        };
        // If the table has a second tip, files that only that tip leads to look like orphans until a person has chosen.
        catalog.check_only_tip(&table.row).await?;
        let referenced = referenced_paths(catalog, &table).await?;
        let mut accounted = catalog.path_set();
        catalog.state().outputs().visit_accounted_files(table.row.id, |path| accounted.insert(path)).await?;
        let accounted = accounted.finish()?;
        let elsewhere = referenced_by_others(catalog, table.row.id, std::slice::from_ref(&location)).await?;
        let others = catalog.places_overlapping(Some(table.row.id), &location).await?;
        // A place that encloses the location and is not a table's present location is shared. A file in it belongs to the table
        // that refers to it.
        let others =
            others.into_iter().filter(|p| p.is_location() || p.directory == location || p.directory.is_inside(&location));
        // Esker's own files belong to no table.
        let others = others.map(|place| place.directory).chain([catalog.own_directory()]);
        let others = others.filter(|at| at.overlaps(&location)).collect();
        Ok(Self { listed, table, referenced, accounted, elsewhere, others, older_than_ms, counted })
    }

    /// Judges the next files of the listing. Returns the orphans among them, which may be none; `None` at the end.
    ///
    /// # Errors
    ///
    /// Returns [`MaintenanceError::Refused`] if a file is a later metadata file of the table than the catalog knows, and
    /// [`MaintenanceError::Spill`] if the local disk fails.
    async fn next(&mut self) -> Result<Option<Vec<ListedFile>>> {
        let files = self.listed.next_batch(BATCH).await?;
        if files.is_empty() {
            return Ok(None);
        }
        self.counted.listed += files.len() as u64;
        let owners: Vec<String> = files.iter().map(|f| with_checksum(&f.path).unwrap_or_else(|| f.path.clone())).collect();
        let referenced = self.referenced.contains_each(&owners).await?;
        self.counted.referenced += referenced.iter().filter(|referenced| **referenced).count() as u64;
        let rest = files.into_iter().zip(owners).zip(referenced).filter(|(_, referenced)| !referenced);
        let (files, owners): (Vec<ListedFile>, Vec<String>) = rest.map(|(file, _)| file).unzip();
        let accounted = self.accounted.contains_each(&owners).await?;
        let elsewhere = self.elsewhere.contains_each(&owners).await?;
        let mut orphans = Vec::new();
        for ((file, accounted), elsewhere) in files.into_iter().zip(accounted).zip(elsewhere) {
            if Location::parse(&file.path).is_err() {
                // No table can refer to it, and the sweep would not delete it.
                tracing::warn!(path = file.path, "a file is skipped, because its name can't be part of a location");
            } else if accounted || elsewhere || self.is_foreign(&file.path)? {
                self.counted.accounted += 1;
            } else if file.modified_ms >= self.older_than_ms {
                self.counted.young += 1;
            } else {
                self.check_not_ahead(&file.path)?;
                self.counted.orphans += 1;
                self.counted.orphan_bytes += file.bytes;
                orphans.push(file);
            }
        }
        Ok(Some(orphans))
    }

    /// Refuses the scan if a file is a later metadata file of the table than the catalog knows.
    fn check_not_ahead(&self, path: &str) -> Result<()> {
        if !is_ahead(path, &self.table.row.metadata_location) {
            return Ok(());
        }
        let name = &self.table.row.name;
        Err(MaintenanceError::Refused(format!(
            "{path} is a later metadata file of {name} than the catalog knows: the state database was restored from a backup, or \
             another catalog commits to the table; `esker recover --dry-run` shows which"
        )))
    }

    /// Checks whether a file lies in a place of another table.
    fn is_foreign(&self, path: &str) -> Result<bool> {
        if self.others.is_empty() {
            return Ok(false);
        }
        let at = Location::parse(path)?;
        Ok(self.others.iter().any(|other| at == *other || at.is_inside(other)))
    }
}

/// Returns the file whose checksum a file holds; `None` if it is not a checksum file.
///
/// Hadoop's local file systems write `.NAME.crc` next to each file `NAME`.
pub(crate) fn with_checksum(path: &str) -> Option<String> {
    let (directory, name) = path.rsplit_once('/')?;
    let name = name.strip_prefix('.')?.strip_suffix(".crc").filter(|name| !name.is_empty())?;
    Some(format!("{directory}/{name}"))
}

/// Lists a table's orphans and changes nothing.
///
/// # Errors
///
/// - Returns [`MaintenanceError::Option`] if the age is too short, if the inventory lists another bucket or lacks a column, or if
///   one of its files can't be parsed or decoded.
/// - Returns [`MaintenanceError::Panicked`] if a decoder of the inventory panics.
/// - Returns [`MaintenanceError::Table`] if the table's property for the age can't be parsed.
/// - Returns [`MaintenanceError::Refused`] if the location has a later metadata file of the table than the catalog knows, or if the
///   table was dropped meanwhile.
/// - Returns [`MaintenanceError::Catalog`] if the table has a second tip, or if metadata of this or another table can't be read.
/// - Returns [`MaintenanceError::Storage`] if the storage can't be listed or the inventory can't be read, and
///   [`MaintenanceError::Spill`] if the local disk fails.
/// - Returns [`MaintenanceError::State`] or [`MaintenanceError::Catalog`] if the database fails.
pub(crate) async fn list_orphans(
    catalog: &Catalog,
    table: &LoadedTable,
    options: &OrphanOptions,
    spill: &Path,
) -> Result<OrphanReport> {
    let older_than_ms = now_ms() - min_age(table, options)?;
    let request = ScanRequest { older_than_ms, inventory: options.inventory.as_deref(), spill, name: None };
    let mut scan = OrphanScan::begin(catalog, table, request).await?;
    let mut named = Vec::new();
    while let Some(found) = scan.next().await? {
        for ListedFile { path, bytes, modified_ms } in found.into_iter().take(NAMED - named.len()) {
            let since_ms = catalog.state().quarantine().orphan_candidate_since(&path).await?;
            named.push(Orphan { path, bytes, modified_ms, since_ms, reason: REASON.to_owned() });
        }
    }
    named.sort_by(|a, b| a.path.cmp(&b.path));
    let location = scan.table.row.location.clone();
    scan.listed.done().await?;
    Ok(OrphanReport { table: scan.table.row.name.to_string(), location, older_than_ms, counted: scan.counted, named })
}

/// Plans the removal of a table's orphans.
///
/// # Errors
///
/// Returns [`MaintenanceError::Option`] for an age that is too short, and [`MaintenanceError::Table`] if the table's property for
/// the age can't be parsed.
pub(crate) fn plan_orphans(catalog: &Catalog, table: &LoadedTable, options: &OrphanOptions) -> Result<OrphanPlan> {
    let now = now_ms();
    Ok(OrphanPlan {
        table: table.row.name.to_string(),
        location: table.row.location.clone(),
        older_than_ms: now - min_age(table, options)?,
        seen_before_ms: now - CONFIRMATION_DELAY_MS,
        grace_ms: catalog.options().grace_ms,
        inventory: options.inventory.clone(),
    })
}

/// Scans for orphans, records them as candidates, and quarantines those that were candidates a day before.
///
/// # Errors
///
/// - Returns [`MaintenanceError::Cancelled`] after a cancellation.
/// - Returns [`MaintenanceError::State`] if candidates or quarantined files can't be recorded.
/// - Returns the errors of [`list_orphans`], except those about the age.
pub(crate) async fn execute_orphans(context: &JobContext, table: &LoadedTable, plan: &OrphanPlan) -> Result<OrphanOutcome> {
    let (started, began) = (Instant::now(), now_ms());
    let state = context.catalog.state();
    let (older_than_ms, name) = (plan.older_than_ms, table.row.id.to_string());
    let (inventory, spill) = (plan.inventory.as_deref(), context.limits.spill_dir.as_path());
    let request = ScanRequest { older_than_ms, inventory, spill, name: Some(&name) };
    let mut scan = OrphanScan::begin(&context.catalog, table, request).await?;
    let mut outcome = OrphanOutcome::default();
    let due_ms = now_ms().saturating_add(plan.grace_ms);
    let (mut waiting, mut ended) = (Vec::new(), false);
    while !ended {
        context.check_cancelled()?;
        match scan.next().await? {
            Some(orphans) => waiting.extend(orphans),
            None => ended = true,
        }
        let LocationCensus { referenced, accounted, young, orphans, .. } = &scan.counted;
        context.progress.set_done(referenced + accounted + young + orphans);
        if waiting.is_empty() || waiting.len() < BATCH && !ended {
            continue;
        }
        let found = std::mem::take(&mut waiting);
        let paths: Vec<String> = found.iter().map(|f| f.path.clone()).collect();
        let since = state.quarantine().record_orphan_candidates(table.row.id, &paths, began).await?;
        let due = found.into_iter().zip(since).filter(|(_, since)| *since <= plan.seen_before_ms);
        let quarantines: Vec<_> = due
            .map(|(f, _)| {
                let record = scan.table.row.quarantine(f.path, Some(f.bytes), REASON, Some(context.job), due_ms);
                NewQuarantine { kind: QuarantineKind::Orphan, ..record }
            })
            .collect();
        outcome.waiting += (paths.len() - quarantines.len()) as u64;
        outcome.quarantined_files += quarantines.len() as u64;
        outcome.quarantined_bytes += quarantines.iter().filter_map(|d| d.bytes).sum::<u64>();
        state.quarantine().add(&quarantines).await?;
    }
    state.quarantine().forget_orphan_candidates(table.row.id, began).await?;
    scan.listed.done().await?;
    outcome.counted = scan.counted;
    outcome.seconds = started.elapsed().as_secs_f64();
    Ok(outcome)
}
