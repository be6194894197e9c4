//! A snapshot of an Iceberg table as DataFusion's `TableProvider`.
//!
//! A scan prunes the files by its filters, finds the rows that deletes leave out, splits the files, and hands all of it to
//! DataFusion's Parquet source. That source reads its bytes through `source`, and `filter_recheck` wraps it. Filters run again
//! above the scan. Spec: "Scan Planning". Start reading at `IcebergTable::scan`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::compute::cast;
use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use esker_catalog::{Authority, Catalog, CatalogError, LoadedTable};
use esker_format::{ColumnSet, DataFileFormat, ManifestProjection, NestedFieldRef, Schema, SnapshotRef};
use esker_read::{Defaults, EqualityBudget, EqualityDeletes, ReadError, ReadStats, Reader, arrow_field, field_id, write_default};
use esker_state::TableUsage;
use esker_table::{DeleteIndex, EqualityDeleteKeys, LiveFile, SnapshotFiles};
use roaring::RoaringTreemap;

use crate::adapter::FieldIdAdapterFactory;
use crate::error::external;
use crate::filter_recheck::RecheckedSource;
use crate::log::QueryStats;
use crate::prune::Within;
use crate::scan_errors::ScannedTable;
use crate::source::{KnownFile, PlannedScan, ScanFiles};
use crate::{arrow_types, files, opaque, prune, selective, semantics};

/// Memory in bytes for the keys of equality deletes, where the memory of queries has no limit.
const EQUALITY_BYTES: usize = 256 << 20;

/// The files of a snapshot that a scan reads.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) files: Vec<LiveFile>,
    /// The conditions of the filters on what is nested in columns.
    within: Within,
    /// All files of the snapshot.
    of: Arc<SnapshotFiles>,
}

/// Values of the columns that an INSERT leaves out, by name of the column.
pub(crate) type WriteDefaults = HashMap<String, Expr>;

/// One snapshot of a table, ready to be scanned.
///
/// The snapshot and the schema are fixed when the table is looked up, so that later commits do not change the result.
#[derive(Debug)]
pub struct IcebergTable {
    /// The table as it was loaded.
    pub(crate) table: LoadedTable,
    snapshot: Option<SnapshotRef>,
    /// The schema that the snapshot is read with.
    pub(crate) iceberg: Arc<Schema>,
    /// Values of the columns that an INSERT leaves out, by name of the column.
    write_defaults: WriteDefaults,
    /// The columns as queries see them.
    schema: SchemaRef,
    /// The columns as they are scanned, with field ids at every depth.
    target: SchemaRef,
    pub(crate) reader: Reader,
    pub(crate) stats: Arc<QueryStats>,
    catalog: Catalog,
    /// Who reads the table.
    reads_for: Authority,
}

impl IcebergTable {
    /// Pins a snapshot of a table, to be read with a schema. A table without snapshots has none.
    pub(crate) async fn open(
        catalog: &Catalog,
        table: LoadedTable,
        snapshot: Option<&SnapshotRef>,
        iceberg: Arc<Schema>,
        reader: Reader,
        stats: Arc<QueryStats>,
        reads_for: Authority,
    ) -> crate::Result<Self> {
        let target = arrow_types::scan_schema(&opaque::columns_as_they_come(&iceberg));
        let schema = seen(&target, &iceberg);
        let write_defaults = write_defaults(&iceberg, &schema);
        let reader = reader.with_name_mapping(&table.metadata);
        Ok(Self {
            table,
            snapshot: snapshot.cloned(),
            iceberg,
            write_defaults,
            schema,
            target,
            reader,
            stats,
            catalog: catalog.clone(),
            reads_for,
        })
    }

    /// Returns the positions of rows that deletes of every kind leave out, by path of the data file.
    ///
    /// Equality deletes are looked up in the files' key columns here, before the scan begins. The result is cached for the next
    /// query. Spec: "Scan Planning".
    pub(crate) async fn deleted(
        &self,
        state: &dyn Session,
        kept: &Kept,
    ) -> esker_read::Result<HashMap<String, Arc<RoaringTreemap>>> {
        let (files, deletes) = (&kept.files, &kept.of.deletes);
        if deletes.is_empty() {
            return Ok(HashMap::new());
        }
        let metadata = &self.table.metadata;
        let index = DeleteIndex::new(deletes, metadata)?;
        let mut deleted = self.reader.deleted_positions(files, &index, &self.stats.read).await?;
        let mut unknown: Vec<LiveFile> = Vec::new();
        let mut keys: HashMap<&str, String> = HashMap::new();
        let names = index.equality_keys(esker_read::digest);
        for file in files {
            let Some(key) = equality_key(file, &names) else { continue };
            match self.reader.cached_equality_positions(&key).await {
                Some(found) => *deleted.entry(file.file.file_path.clone()).or_default() |= found.as_ref(),
                None => {
                    keys.insert(&file.file.file_path, key);
                    unknown.push(file.clone());
                }
            }
        }
        let bytes = match state.runtime_env().memory_pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / 4,
            _ => EQUALITY_BYTES,
        };
        let dir = state.runtime_env().disk_manager.temp_dir_paths().into_iter().next();
        let dir = dir.ok_or_else(|| ReadError::Spill(std::io::Error::other("the engine has no directory to spill to")))?;
        let budget = EqualityBudget { bytes, dir, use_block_cache: true };
        for (files, deletes) in index.equality_by_partition(&unknown) {
            let equality = EqualityDeletes::new(metadata, deletes)?;
            let mut found = equality.positions(&self.reader, metadata, &files, &budget, &self.stats.read).await?;
            for path in files.iter().map(|f| f.file.file_path.as_str()) {
                let positions = Arc::new(found.remove(path).unwrap_or_default());
                if let Some(key) = keys.remove(path) {
                    self.reader.cache_equality_positions(key, positions.clone()).await;
                }
                if !positions.is_empty() {
                    *deleted.entry(path.to_owned()).or_default() |= positions.as_ref();
                }
            }
        }
        Ok(deleted.into_iter().filter(|(_, set)| !set.is_empty()).map(|(path, set)| (path, Arc::new(set))).collect())
    }

    /// Returns what was read, or records in the catalog that a file could not be read.
    pub(crate) fn noted<T>(&self, read: esker_read::Result<T>) -> Result<T> {
        read.map_err(|error| {
            self.owner().record_damage(&error);
            external(error)
        })
    }

    /// Returns the owner of the files of a scan.
    pub(crate) fn owner(&self) -> ScannedTable {
        ScannedTable { catalog: self.catalog.clone(), table: self.table.row.id, reader: self.reader.clone() }
    }

    /// Returns the files that may hold rows that the filters keep.
    ///
    /// `filters` are on the columns of `schema`. `read` holds the indices of the columns whose statistics are loaded. A file that
    /// cannot be read is an error.
    pub(crate) async fn files(&self, state: &dyn Session, schema: &SchemaRef, filters: &[Expr], read: &[usize]) -> Result<Kept> {
        let Some(snapshot) = &self.snapshot else { return Ok(Kept::default()) };
        let condition = prune::condition(state, schema, filters)?;
        let filtered = filters.iter().flat_map(Expr::column_refs).filter_map(|c| field_id(schema.field_with_name(&c.name).ok()?));
        let planning = ManifestProjection::planning(ColumnSet::of(filtered));
        let of = self.catalog.snapshot_files(&self.table, snapshot, &planning).await.map_err(external)?;
        let kept = prune::files(condition.as_ref(), schema, &self.table.metadata, of.iter().collect())?;
        let within = Within::of(state, schema, filters)?;
        let kept = within.files(kept);
        let read = ColumnSet::of(read.iter().filter_map(|at| field_id(schema.field(*at))));
        let files = of.read(self.catalog.manifests(), &kept, &ManifestProjection::reading(read)).await;
        let files = files.map_err(|e| external(CatalogError::from(e)))?;
        {
            let deletes = of.deletes.iter().map(|delete| &delete.entry);
            let paths: Vec<&str> = files.iter().chain(deletes).map(|file| file.file.file_path.as_str()).collect();
            self.catalog.check_files_read(&self.table, &paths, &self.reads_for).await.map_err(external)?;
        }
        check_readable(&files)?;
        Ok(Kept { files, within, of })
    }

    /// Returns the expression adapter for files whose partition has no values for columns that they lack.
    fn adapters(&self) -> FieldIdAdapterFactory {
        let defaults = Arc::new(Defaults::new(&self.iceberg, self.target.fields(), None));
        FieldIdAdapterFactory { defaults, target: self.target.clone(), names: self.reader.names().clone() }
    }
}

/// Returns columns of a table as queries see them.
pub(crate) fn seen(columns: &ArrowSchema, iceberg: &Schema) -> SchemaRef {
    semantics::mark_fixed(&arrow_types::schema_with_function_names(columns), iceberg)
}

/// Returns all columns of a table as queries see them.
pub(crate) fn columns(iceberg: &Schema) -> SchemaRef {
    seen(&arrow_types::scan_schema(&opaque::columns_as_they_come(iceberg)), iceberg)
}

/// Returns the values of the columns that an INSERT leaves out, by name of the column.
pub(crate) fn write_defaults_of(iceberg: &Schema) -> WriteDefaults {
    write_defaults(iceberg, &columns(iceberg))
}

/// Returns the write defaults of columns by name. Spec: "Default values".
fn write_defaults(iceberg: &Schema, schema: &SchemaRef) -> WriteDefaults {
    let default = |(i, field): (usize, &NestedFieldRef)| {
        let array = write_default(field, arrow_field(field).ok()?.data_type())?;
        let array = cast(&array, schema.field(i).data_type()).ok()?;
        Some((field.name.clone(), lit(ScalarValue::try_from_array(&array, 0).ok()?)))
    };
    iceberg.as_struct().fields().iter().enumerate().filter_map(default).collect()
}

/// Checks that files can be read: they are Parquet and not encrypted. The error names the file.
fn check_readable(files: &[LiveFile]) -> Result<()> {
    for LiveFile { file, .. } in files {
        if file.file_format != DataFileFormat::Parquet {
            let what = format!("{}: {} files can't be read", file.file_path, file.file_format);
            return Err(DataFusionError::NotImplemented(what));
        }
        if file.key_metadata.is_some() {
            return Err(DataFusionError::NotImplemented(format!("{}: encrypted files can't be read", file.file_path)));
        }
    }
    Ok(())
}

/// Returns the cache key for the rows of a file that equality deletes leave out; `None` if no equality delete applies to it.
fn equality_key(file: &LiveFile, names: &EqualityDeleteKeys<'_>) -> Option<String> {
    let [own, global] = names.of(file)?;
    Some(format!("{}\n{}\n{own}\n{global}", file.file.file_path, file.sequence_number))
}

#[async_trait]
impl TableProvider for IcebergTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Files, row groups and pages are left out by statistics; rows are filtered above the scan.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.write_defaults.get(column)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let metadata = &self.table.metadata;
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let projected = projection.unwrap_or(&all);
        let mut wanted: BTreeSet<usize> = projected.iter().copied().collect();
        let named = filters.iter().flat_map(Expr::column_refs);
        wanted.extend(named.filter_map(|c| self.schema.index_of(&c.name).ok()));
        let wanted: Vec<usize> = wanted.into_iter().collect();
        opaque::check(wanted.iter().map(|at| &self.schema.fields()[*at]))?;
        let kept = self.files(state, &self.schema, filters, &wanted).await?;
        let considered = kept.of.len();
        ReadStats::add(&self.stats.files_considered, considered as u64);
        ReadStats::add(&self.stats.files_pruned, (considered - kept.files.len()) as u64);
        let deleted = self.noted(self.deleted(state, &kept).await)?;
        let rows_deleted = deleted.values().map(|set| set.len()).sum::<u64>();
        ReadStats::add(&self.stats.rows_deleted, rows_deleted);

        let scan = files::Scan {
            metadata,
            iceberg: &self.iceberg,
            schema: &self.schema,
            target: &self.target,
            wanted: &wanted,
            filtered: !filters.is_empty(),
            within: &kept.within,
            names: self.reader.names(),
        };
        let files = files::partitioned(&scan, &kept.files, &deleted, &self.reader, &self.stats.read);
        let files = self.noted(files.await)?;
        if files.is_empty() {
            let schema = Arc::new(self.schema.project(projected)?);
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let whole = files.iter().filter(|f| f.extension::<KnownFile>().is_none_or(KnownFile::is_first));
        let mut statistics = Statistics::try_merge_iter(whole.filter_map(|f| f.statistics.as_deref()), &self.schema)?;
        // Counts of rows are exact; bounds need not be values.
        statistics.column_statistics = statistics.column_statistics.into_iter().map(ColumnStatistics::to_inexact).collect();
        if !state.config_options().execution.collect_statistics {
            statistics = statistics.to_inexact();
            statistics.column_statistics.fill(ColumnStatistics::new_unknown());
        }
        let share = selective::share(filters, &self.schema, &kept.files, &statistics);

        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let (scanned_files, scanned_deletes) = (count(kept.files.len()), count(kept.of.deletes.len()));
        let planned = PlannedScan {
            files_pruned: considered - kept.files.len(),
            rows_deleted: usize::try_from(rows_deleted).unwrap_or(usize::MAX),
            table: self.table.row.id,
            used: TableUsage { scans: 1, scanned_files, scanned_deletes, ..TableUsage::default() },
            catalog: self.catalog.clone(),
        };
        let mut options = TableParquetOptions::default();
        options.global.coerce_int96 = Some("us".to_owned());
        // Rows that the filter leaves out are not decoded then.
        options.global.pushdown_filters = share.is_some();
        if let Some(share) = share {
            let rows = statistics.num_rows.get_value().copied();
            statistics.num_rows =
                rows.map_or(Precision::Absent, |rows| Precision::Inexact((rows as f64 * share).ceil() as usize));
        }
        options.global.reorder_filters = true;
        // The cache would be filled with whole batches, around the few rows of the pages that are left.
        options.global.max_predicate_cache_size = Some(0);
        let factory = ScanFiles::new(self.reader.clone(), &self.iceberg, self.stats.read.clone(), planned);
        let source = ParquetSource::new(self.schema.clone())
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(factory));
        // DataFusion asks for the store and does not use it: bytes come from the reader. This store is always registered.
        let config = FileScanConfigBuilder::new(
            ObjectStoreUrl::local_filesystem(),
            Arc::new(RecheckedSource::new(Arc::new(source), self.owner())),
        )
        .with_file_groups(files::groups(files, state.config().target_partitions()))
        .with_statistics(statistics)
        .with_projection_indices(projection.cloned())?
        .with_limit(limit)
        .with_expr_adapter(Some(Arc::new(self.adapters())))
        .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
