//! Files under a table's location that belong to nothing: found, seen twice, put into quarantine.

mod inventory;
mod job;
mod listing;
mod spool;

use std::time::Instant;

use esker_catalog::deletion;
use esker_catalog::recovery::is_ahead;
use esker_catalog::{Catalog, LoadedTable, PathSet, referenced_by_others, referenced_paths};
use esker_state::{NewQuarantine, QuarantineKind};
use esker_storage::Location;
use esker_table::properties::ORPHAN_MIN_AGE;
use esker_types::{Millis, now_ms};
use serde::{Deserialize, Serialize};

use crate::context::JobContext;
use crate::{MaintenanceError, Result, check_deletable};
pub(crate) use job::OrphanRemoval;
use listing::Listing;
use spool::ListedFile;

const DAY_MS: Millis = 24 * 3600 * 1000;

/// Between the look that finds a file first and the one that may put it into quarantine.
const BETWEEN_LOOKS_MS: Millis = DAY_MS;

/// Why a file is an orphan, for people.
const REASON: &str = "no snapshot, statistics entry, metadata log or job refers to it";

/// Orphans that a report names; beyond it they are counted.
const NAMED: usize = 10_000;

/// Files judged at a time.
const BATCH: usize = 1000;

/// Options of a look for orphans.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct OrphanOptions {
    /// Only files older than this many milliseconds; default: the table's `esker.orphans.min-age-ms`, else three days; at least
    /// one.
    pub older_than_age_ms: Option<Millis>,
    /// The listing to go by, rather than asking the store: the `manifest.json` of an S3 Inventory, or a file of CSV or Parquet.
    pub inventory: Option<String>,
}

/// A file that nothing refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// Its URI.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last written.
    pub modified_ms: Millis,
    /// Since when it was seen to belong to nothing, if it was before.
    pub since_ms: Option<Millis>,
    /// Why it is taken for an orphan.
    pub reason: String,
}

/// What lies under a table's location, sorted by what it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocationCensus {
    /// Files listed.
    pub listed: u64,
    /// Of them, referenced by a snapshot, a statistics entry or the metadata log.
    pub referenced: u64,
    /// Of them, unreferenced but too young to judge.
    pub young: u64,
    /// Of them, an output in progress, in quarantine already, in a place of another table, or referenced by one.
    pub accounted: u64,
    /// The rest.
    pub orphans: u64,
    /// Its bytes.
    pub orphan_bytes: u64,
}

/// What a look found: the plan of the job, and its dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanReport {
    /// The table's name.
    pub table: String,
    /// What was listed.
    pub location: String,
    /// Only files last written before this.
    pub older_than_ms: Millis,
    /// What there is.
    #[serde(flatten)]
    pub counted: LocationCensus,
    /// The orphans; ten thousand at most are named.
    pub named: Vec<Orphan>,
}

/// What a job is going to do: the look itself is the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanPlan {
    /// The table's name.
    pub table: String,
    /// What is listed.
    pub location: String,
    /// Only files last written before this.
    pub older_than_ms: Millis,
    /// A file goes into quarantine if it was seen to be an orphan before this.
    pub seen_before_ms: Millis,
    /// How long it stays there before it is deleted.
    pub grace_ms: Millis,
    /// The inventory to go by.
    #[serde(default)]
    pub inventory: Option<String>,
}

/// What a job did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OrphanOutcome {
    /// What there is.
    #[serde(flatten)]
    pub counted: LocationCensus,
    /// Orphans seen for less than a day: the next look may take them.
    pub waiting: u64,
    /// Files put into quarantine.
    #[serde(alias = "doomed_files")]
    pub quarantined_files: u64,
    /// Their bytes.
    #[serde(alias = "doomed_bytes")]
    pub quarantined_bytes: u64,
    /// Seconds.
    pub seconds: f64,
}

/// The age below which a file is not judged.
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

/// A look at work: what was listed is spooled, then judged by what the table refers to after the listing ended.
struct OrphanScan {
    listed: Listing,
    table: LoadedTable,
    referenced: PathSet,
    accounted: PathSet,
    /// What other tables lead to within the table's location.
    elsewhere: PathSet,
    /// Places of other tables, within the table's location or the same; and the locations of others that it lies in.
    others: Vec<Location>,
    older_than_ms: Millis,
    counted: LocationCensus,
}

impl OrphanScan {
    async fn begin(
        catalog: &Catalog,
        table: &LoadedTable,
        (older_than_ms, inventory): (Millis, Option<&str>),
        spill: &std::path::Path,
        name: Option<&str>,
    ) -> Result<Self> {
        let location = Location::parse(&table.row.location)?;
        let listed = Listing::take(catalog.storage(), &location, inventory, spill, name).await?;
        let counted = LocationCensus::default();
        // What is referenced is read after the listing ended, so that a file committed meanwhile is no orphan.
        let table = match catalog.state().tabular_by_id(table.row.id).await? {
            Some(row) => catalog.load_row(row).await?,
            None => return Err(MaintenanceError::Refused(format!("table {} was dropped during the listing", table.row.name))),
        };
        // Files of a state that the table had by another database are nobody's only until somebody has decided.
        catalog.check_only_tip(&table.row).await?;
        let referenced = referenced_paths(catalog, &table).await?;
        let mut accounted = catalog.path_set();
        catalog.state().visit_accounted(table.row.id, |path| accounted.insert(path)).await?;
        let accounted = accounted.finish()?;
        let elsewhere = referenced_by_others(catalog, table.row.id, std::slice::from_ref(&location)).await?;
        let others = deletion::other_places(catalog, Some(table.row.id)).await?;
        // What encloses the location, if it is no location itself, is shared: what is referenced says whose a file is.
        let others =
            others.into_iter().filter(|p| p.is_location() || p.directory == location || p.directory.is_inside(&location));
        let others = others.map(|place| place.directory).filter(|at| at.overlaps(&location)).collect();
        Ok(Self { listed, table, referenced, accounted, elsewhere, others, older_than_ms, counted })
    }

    /// The next orphans; none at the end.
    fn next(&mut self) -> Result<Vec<ListedFile>> {
        let mut orphans = Vec::new();
        while orphans.len() < BATCH
            && let Some(file) = self.listed.next()?
        {
            self.counted.listed += 1;
            let owner = with_checksum(&file.path);
            let owner = owner.as_deref().unwrap_or(&file.path);
            if self.referenced.contains(owner)? {
                self.counted.referenced += 1;
            } else if Location::parse(&file.path).is_err() {
                // No table can have it, and the sweep would not touch it.
                tracing::warn!(path = file.path, "a file whose name is no location is passed over");
            } else if self.accounted.contains(owner)? || self.is_foreign(&file.path)? || self.elsewhere.contains(owner)? {
                self.counted.accounted += 1;
            } else if file.modified_ms >= self.older_than_ms {
                self.counted.young += 1;
            } else {
                if is_ahead(&file.path, &self.table.row.metadata_location) {
                    let (name, path) = (&self.table.row.name, &file.path);
                    let what = format!(
                        "{path} is a later metadata file of {name} than the catalog knows: the state database was restored from a \
                         backup, or another catalog commits to the table; see what `esker recover --dry-run` says"
                    );
                    return Err(MaintenanceError::Refused(what));
                }
                self.counted.orphans += 1;
                self.counted.orphan_bytes += file.bytes;
                orphans.push(file);
            }
        }
        Ok(orphans)
    }

    fn is_foreign(&self, path: &str) -> Result<bool> {
        if self.others.is_empty() {
            return Ok(false);
        }
        let at = Location::parse(path)?;
        Ok(self.others.iter().any(|other| at == *other || at.is_inside(other)))
    }
}

/// The file whose checksum is in a file, as Hadoop's local file systems keep it beside each that they write: `.NAME.crc` of `NAME`.
pub(crate) fn with_checksum(path: &str) -> Option<String> {
    let (directory, name) = path.rsplit_once('/')?;
    let name = name.strip_prefix('.')?.strip_suffix(".crc").filter(|name| !name.is_empty())?;
    Some(format!("{directory}/{name}"))
}

/// Looks for a table's orphans, and does nothing.
pub(crate) async fn list_orphans(
    catalog: &Catalog,
    table: &LoadedTable,
    options: &OrphanOptions,
    spill: &std::path::Path,
) -> Result<OrphanReport> {
    let older_than_ms = now_ms() - min_age(table, options)?;
    let by = (older_than_ms, options.inventory.as_deref());
    let mut look = OrphanScan::begin(catalog, table, by, spill, None).await?;
    let mut named = Vec::new();
    loop {
        let found = look.next()?;
        if found.is_empty() {
            break;
        }
        for ListedFile { path, bytes, modified_ms } in found.into_iter().take(NAMED - named.len()) {
            let since_ms = catalog.state().orphan_candidate_since(&path).await?;
            named.push(Orphan { path, bytes, modified_ms, since_ms, reason: REASON.to_owned() });
        }
    }
    named.sort_by(|a, b| a.path.cmp(&b.path));
    let location = look.table.row.location.clone();
    look.listed.done()?;
    Ok(OrphanReport { table: look.table.row.name.to_string(), location, older_than_ms, counted: look.counted, named })
}

/// Plans the removal of a table's orphans. Refused for foreign tables and where `gc.enabled` is false.
pub(crate) fn plan_orphans(catalog: &Catalog, table: &LoadedTable, options: &OrphanOptions) -> Result<OrphanPlan> {
    check_deletable(catalog, table)?;
    let now = now_ms();
    Ok(OrphanPlan {
        table: table.row.name.to_string(),
        location: table.row.location.clone(),
        older_than_ms: now - min_age(table, options)?,
        seen_before_ms: now - BETWEEN_LOOKS_MS,
        grace_ms: catalog.options().grace_ms,
        inventory: options.inventory.clone(),
    })
}

/// Looks, records what is seen, and quarantines what was seen a day before.
pub(crate) async fn execute_orphans(context: &JobContext, table: &LoadedTable, plan: &OrphanPlan) -> Result<OrphanOutcome> {
    let (started, began) = (Instant::now(), now_ms());
    let state = context.catalog.state();
    let (by, name) = ((plan.older_than_ms, plan.inventory.as_deref()), table.row.id.to_string());
    let mut look = OrphanScan::begin(&context.catalog, table, by, &context.limits.spill_dir, Some(&name)).await?;
    let mut outcome = OrphanOutcome::default();
    let due_ms = now_ms().saturating_add(plan.grace_ms);
    loop {
        context.check_cancelled()?;
        let found = look.next()?;
        let LocationCensus { referenced, accounted, young, orphans, .. } = &look.counted;
        context.progress.set_done(referenced + accounted + young + orphans);
        if found.is_empty() {
            break;
        }
        let paths: Vec<String> = found.iter().map(|f| f.path.clone()).collect();
        let since = state.record_orphan_candidates(table.row.id, &paths, began).await?;
        let due = found.into_iter().zip(since).filter(|(_, since)| *since <= plan.seen_before_ms);
        let quarantines: Vec<_> = due
            .map(|(f, _)| {
                let record = look.table.row.quarantine(f.path, Some(f.bytes), REASON, Some(context.job), due_ms);
                NewQuarantine { kind: QuarantineKind::Orphan, ..record }
            })
            .collect();
        outcome.waiting += (paths.len() - quarantines.len()) as u64;
        outcome.quarantined_files += quarantines.len() as u64;
        outcome.quarantined_bytes += quarantines.iter().filter_map(|d| d.bytes).sum::<u64>();
        state.quarantine(&quarantines).await?;
    }
    state.forget_orphan_candidates(table.row.id, began).await?;
    look.listed.done()?;
    outcome.counted = look.counted;
    outcome.seconds = started.elapsed().as_secs_f64();
    Ok(outcome)
}
