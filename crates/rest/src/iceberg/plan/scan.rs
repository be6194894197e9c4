//! The scan that a request asks for, pinned to snapshots and a schema, and the files that it reads.
//!
//! A [`PinnedScan`] has all that a plan depends on. Snapshots and schemas never change, so every server plans the same files from it,
//! in the same order, whatever was committed since. Start reading at [`PinnedScan::of`].

use std::collections::HashSet;
use std::sync::Arc;

use esker_catalog::{Catalog, CatalogError, LoadedTable};
use esker_format::{Schema, SchemaRef, SnapshotRef, TableMetadata};
use esker_table::{Expr, ScanPlan, TableError, plan_appended, plan_scan, projection};
use esker_types::{ErrorCode, hex};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::ApiError;
use crate::iceberg::content::ContentPrinter;
use crate::iceberg::definer::ReferencedBy;

/// The maximum number of tasks in one page.
const PAGE: usize = 2_000;

/// The size of all filters in one page, in bytes, beyond which the page has fewer tasks: each task has what is left of the filter.
const PAGE_FILTER_BYTES: usize = 16 << 20;

/// Returns the number of tasks in one page of a scan whose filter has a length in bytes. It depends on nothing else, so that all
/// servers make the same pages; the digest of a plan has it.
fn tasks_per_page(filter_bytes: usize) -> usize {
    (PAGE_FILTER_BYTES / filter_bytes.max(1)).clamp(1, PAGE)
}

/// The request to plan a scan.
///
/// Spec: REST `PlanTableScanRequest`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct PlanRequest {
    snapshot_id: Option<i64>,
    start_snapshot_id: Option<i64>,
    end_snapshot_id: Option<i64>,
    #[serde(default)]
    select: Vec<String>,
    filter: Option<Value>,
    min_rows_requested: Option<u64>,
    #[serde(default = "yes")]
    case_sensitive: bool,
    #[serde(default)]
    use_snapshot_schema: bool,
    #[serde(default)]
    stats_fields: Vec<String>,
}

/// Returns the default of `case-sensitive`.
const fn yes() -> bool {
    true
}

/// A scan whose snapshots and schema are fixed. The client or the database carries it, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PinnedScan {
    /// The id of the snapshot; `None` for a table that had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<i64>,
    /// The id of the snapshot after which the rows were appended; `None` for all rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<i64>,
    /// The id of the schema.
    schema: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<Value>,
    case_sensitive: bool,
    /// The ids of the columns whose statistics are answered.
    stats: Vec<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_rows: Option<u64>,
    /// The views through which the principal reads the table. Their owners' rights are checked again at each request.
    #[serde(default, skip_serializing_if = "ReferencedBy::is_empty")]
    pub(super) chain: ReferencedBy,
}

impl PinnedScan {
    /// Checks the arguments of a request against the table, and fixes what they mean now.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorCode::BadRequest`] if the snapshots contradict each other or do not exist, and the code of the table's error if
    /// a column does not exist.
    pub(super) fn of(table: &LoadedTable, request: PlanRequest, chain: ReferencedBy) -> Result<Self, ApiError> {
        let metadata = &table.metadata;
        let (snapshot, after) = match (request.snapshot_id, request.start_snapshot_id, request.end_snapshot_id) {
            (Some(id), None, None) => (Some(find_snapshot(table, id)?), None),
            (None, None, None) => (metadata.current_snapshot().cloned(), None),
            (None, Some(start), Some(end)) => (Some(find_snapshot(table, end)?), Some(start)),
            (Some(_), ..) => {
                return Err(invalid("snapshot-id excludes start-snapshot-id and end-snapshot-id".to_owned()));
            }
            (None, ..) => return Err(invalid("an incremental scan needs start-snapshot-id and end-snapshot-id".to_owned())),
        };
        let own_schema = snapshot.as_ref().filter(|_| request.use_snapshot_schema && after.is_none());
        let schema = match own_schema.and_then(|snapshot| snapshot.schema_id) {
            None => metadata.current_schema().clone(),
            Some(id) => find_schema(table, id)?,
        };
        let ids = |names: &[String]| -> Result<Vec<i32>, ApiError> {
            names.iter().map(|name| field(&schema, name, request.case_sensitive)).collect()
        };
        ids(&request.select)?;
        Ok(Self {
            snapshot: snapshot.map(|snapshot| snapshot.snapshot_id),
            after,
            schema: schema.schema_id(),
            stats: ids(&request.stats_fields)?,
            filter: request.filter,
            case_sensitive: request.case_sensitive,
            min_rows: request.min_rows_requested,
            chain,
        })
    }

    /// Looks up snapshots and schema in the present metadata of the table, and parses the filter.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorCode::BadRequest`] if a snapshot or the schema does not exist any more, and the code of the table's error if the
    /// filter does not fit the schema.
    pub(super) fn resolve(&self, table: &LoadedTable) -> Result<CheckedScan, ApiError> {
        let snapshot = self.snapshot.map(|id| find_snapshot(table, id)).transpose()?;
        let schema = find_schema(table, self.schema)?;
        let filter = match &self.filter {
            Some(json) => Expr::parse(json, &schema, self.case_sensitive).map_err(CatalogError::from)?,
            None => Expr::True,
        };
        let range = match (self.after, snapshot) {
            (Some(start), Some(end)) => ScanRange::Appended(start, end),
            (_, snapshot) => ScanRange::Snapshot(snapshot),
        };
        let filter_bytes = self.filter.as_ref().map_or(0, |json| json.to_string().len());
        let stats = self.stats.iter().copied().collect();
        Ok(CheckedScan { filter, filter_bytes, stats, range, min_rows: self.min_rows, schema })
    }
}

/// Makes the error for a request that asks for what is not there.
fn invalid(what: String) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, what)
}

/// Returns a snapshot of a table by its id.
fn find_snapshot(table: &LoadedTable, id: i64) -> Result<SnapshotRef, ApiError> {
    let found = table.metadata.snapshots.get(id).cloned();
    found.ok_or_else(|| invalid(format!("table {} has no snapshot {id}", table.row.name)))
}

/// Returns a schema of a table by its id.
fn find_schema(table: &LoadedTable, id: i32) -> Result<SchemaRef, ApiError> {
    let missing =
        || invalid(format!("the snapshot has the schema {id}, which the metadata of table {} does not have", table.row.name));
    table.metadata.schema_by_id(id).cloned().ok_or_else(missing)
}

/// Returns the id of the field with a name.
fn field(schema: &Schema, name: &str, case_sensitive: bool) -> Result<i32, ApiError> {
    let found = match case_sensitive {
        true => schema.field_by_name(name),
        false => schema.field_by_name_case_insensitive(name),
    };
    let what = || format!("the scan names the column {name:?}, which the table does not have");
    Ok(found.map(|f| f.id).ok_or_else(|| CatalogError::from(TableError::Filter(what())))?)
}

/// A scan whose arguments were checked against the table.
#[derive(Debug)]
pub(super) struct CheckedScan {
    schema: SchemaRef,
    filter: Expr,
    /// The length of the filter as JSON, in bytes.
    filter_bytes: usize,
    stats: HashSet<i32>,
    range: ScanRange,
    min_rows: Option<u64>,
}

/// The part of a table's history that a scan reads.
#[derive(Debug)]
enum ScanRange {
    /// The rows of one snapshot. A table without a snapshot has none.
    Snapshot(Option<SnapshotRef>),
    /// The rows that were appended after the snapshot with the id, up to the other snapshot.
    Appended(i64, SnapshotRef),
}

impl CheckedScan {
    /// Plans the scan: reads the manifests and applies the filter.
    ///
    /// # Errors
    ///
    /// Returns the catalog's error if a manifest can't be read, or the table's one if the plan can't be made.
    pub(super) async fn run(self, catalog: &Catalog, table: &LoadedTable) -> Result<Planned, CatalogError> {
        let metadata = &table.metadata;
        let wanted = projection(&self.filter, self.stats.iter().copied());
        let plan = match &self.range {
            ScanRange::Snapshot(snapshot) => {
                let files = match snapshot {
                    Some(snapshot) => catalog.snapshot_files(table, snapshot, &wanted).await?,
                    None => Arc::default(),
                };
                plan_scan(metadata, &self.schema, &files, &self.filter, self.min_rows)?
            }
            ScanRange::Appended(start, end) => {
                plan_appended(catalog.manifests(), metadata, &self.schema, *start, end, &self.filter, &wanted).await?
            }
        };
        let (metadata, digest) = (metadata.without_history(), digest_of(&plan, tasks_per_page(self.filter_bytes)));
        Ok(Planned { metadata, digest, filter_bytes: self.filter_bytes, stats: self.stats, plan })
    }
}

/// A completed plan, with the columns that its tasks are printed with.
#[derive(Debug)]
pub(super) struct Planned {
    /// The metadata of the table, without its history: plans of many states of a table are kept, each for minutes.
    metadata: TableMetadata,
    /// The length of the filter as JSON, in bytes.
    pub(super) filter_bytes: usize,
    stats: HashSet<i32>,
    plan: ScanPlan,
    /// A text that tells the plan from every plan of other files, of another order or with other pages.
    pub(super) digest: String,
}

impl Planned {
    /// Returns the number of pages, which is 0 without tasks.
    pub(super) fn pages(&self) -> usize {
        self.plan.tasks.len().div_ceil(tasks_per_page(self.filter_bytes))
    }

    /// Returns the number of data files and delete files.
    pub(super) fn files(&self) -> usize {
        self.plan.tasks.len() + self.plan.deletes.len()
    }

    /// Prints a page of the tasks, with their delete files.
    ///
    /// # Errors
    ///
    /// Returns the code of the table's error if a partition value does not fit its spec.
    pub(super) fn print(&self, page: usize) -> Result<Value, ApiError> {
        let tasks = self.plan.tasks.chunks(tasks_per_page(self.filter_bytes)).nth(page).unwrap_or_default();
        let printer = ContentPrinter::new(&self.metadata, self.stats.clone());
        Ok(printer.tasks(&self.plan, tasks).map_err(CatalogError::from)?)
    }
}

/// Computes the digest of a plan from the size of its pages and the paths of its data files.
///
/// Servers of two releases may leave out other files. Pages of both together would have files twice, or not at all.
fn digest_of(plan: &ScanPlan, tasks_per_page: usize) -> String {
    let mut hash = Sha256::new();
    hash.update((tasks_per_page as u64).to_le_bytes());
    for task in &plan.tasks {
        hash.update((task.file.file_path.len() as u64).to_le_bytes());
        hash.update(task.file.file_path.as_bytes());
    }
    hex(&hash.finalize()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_fewer_tasks_if_each_has_a_long_filter() {
        for bytes in [0, 1, 1_000, PAGE_FILTER_BYTES / PAGE] {
            assert_eq!(tasks_per_page(bytes), PAGE, "{bytes}");
        }
        assert_eq!(tasks_per_page(1 << 20), 16);
        assert_eq!((tasks_per_page(PAGE_FILTER_BYTES + 1), tasks_per_page(usize::MAX)), (1, 1));
    }
}
