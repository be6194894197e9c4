use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use esker_catalog::{Catalog, LoadedTable};
use esker_read::{Adapter, EqualityBudget, EqualityDeletes, ReadStats, Reader, target_schema};
use esker_table::{DeleteIndex, LiveFile, LiveFiles};
use iceberg::spec::Struct;
use roaring::RoaringTreemap;

use crate::log::QueryStats;
use crate::prune;
use crate::scan::{FileTask, Scan, ScanExec, ScanInput};

/// Bytes of a file that are worth a task of their own.
const SPLIT_BYTES: u64 = 16 << 20;

/// Keys of equality deletes in memory, where queries' memory has no limit.
const EQUALITY_BYTES: usize = 256 << 20;

/// One snapshot of a table, ready to be scanned.
#[derive(Debug)]
pub struct IcebergTable {
    table: LoadedTable,
    live: Arc<LiveFiles>,
    schema: SchemaRef,
    reader: Reader,
    stats: Arc<QueryStats>,
}

impl IcebergTable {
    /// Pins the table's current snapshot.
    pub async fn open(catalog: &Catalog, table: LoadedTable, reader: Reader, stats: Arc<QueryStats>) -> crate::Result<Self> {
        let live = match table.metadata.current_snapshot() {
            Some(snapshot) => catalog.live(&table, snapshot).await?,
            None => Arc::default(),
        };
        let fields = table.metadata.current_schema().as_struct().fields();
        let ids: Vec<i32> = fields.iter().map(|f| f.id).collect();
        let schema = target_schema(table.metadata.current_schema(), &ids).map_err(|e| DataFusionError::External(Box::new(e)))?;
        Ok(Self { table, live, schema, reader, stats })
    }

    /// Tasks for the files that pass, with the deleted positions of each; a delete that can't be applied is an error.
    async fn tasks(&self, state: &dyn Session, kept: Vec<LiveFile>) -> Result<Vec<FileTask>> {
        let mut deleted = self.deleted(state, &kept).await.map_err(|e| DataFusionError::External(Box::new(e)))?;
        let parallel = state.config().target_partitions() as u64;
        let mut tasks = Vec::new();
        for file in kept {
            let deleted = deleted.remove(file.file.file_path()).map(Arc::new);
            let row_groups = file.file.split_offsets().map_or(1, <[i64]>::len) as u64;
            let bytes = file.file.file_size_in_bytes();
            let parts = (bytes / SPLIT_BYTES).clamp(1, parallel.max(1)).min(row_groups.max(1));
            let file = Arc::new(file);
            for part in 0..parts {
                tasks.push(FileTask { file: file.clone(), deleted: deleted.clone(), part: (part, parts) });
            }
        }
        Ok(tasks)
    }

    /// The rows of some files that deletes of every kind leave out. Equality deletes are looked up in the files' key columns here,
    /// before the scan begins.
    async fn deleted(&self, state: &dyn Session, files: &[LiveFile]) -> esker_read::Result<HashMap<String, RoaringTreemap>> {
        if self.live.deletes.is_empty() {
            return Ok(HashMap::new());
        }
        let metadata = &self.table.metadata;
        let index = DeleteIndex::new(&self.live, metadata);
        let mut deleted = self.reader.deleted_positions(files, &index, &self.stats.read).await?;
        let mut by_partition: HashMap<(i32, &Struct), Vec<LiveFile>> = HashMap::new();
        for file in files.iter().filter(|f| index.equality(f).next().is_some()) {
            by_partition.entry((file.spec_id, file.file.partition())).or_default().push(file.clone());
        }
        let memory = state.runtime_env().memory_pool.clone();
        let bytes = match memory.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / 4,
            _ => EQUALITY_BYTES,
        };
        let budget = EqualityBudget { bytes, dir: std::env::temp_dir() };
        for files in by_partition.into_values() {
            let equality = EqualityDeletes::new(metadata, index.equality_of(&files))?;
            for (path, positions) in equality.positions(&self.reader, metadata, &files, &budget, &self.stats.read).await? {
                *deleted.entry(path).or_default() |= positions;
            }
        }
        Ok(deleted)
    }
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
        // Files and row groups are left out by statistics; rows are filtered above the scan.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let metadata = &self.table.metadata;
        let predicate = prune::predicate(state, &self.schema, filters)?;
        let kept = prune::files(predicate.as_deref(), &self.schema, metadata, &self.live.data)?;
        let considered = self.live.data.len() as u64;
        ReadStats::add(&self.stats.files_considered, considered);
        ReadStats::add(&self.stats.files_pruned, considered - kept.len() as u64);
        let pruned = self.live.data.len() - kept.len();
        let kept = kept.into_iter().map(|(_, file)| file.clone()).collect();
        let tasks = self.tasks(state, kept).await?;

        let fields = metadata.current_schema().as_struct().fields();
        let ids: Vec<i32> = match projection {
            Some(columns) => columns.iter().map(|i| fields[*i].id).collect(),
            None => fields.iter().map(|f| f.id).collect(),
        };
        let external = |e: esker_read::ReadError| DataFusionError::External(Box::new(e));
        let target = target_schema(metadata.current_schema(), &ids).map_err(external)?;
        // Constants depend on the partition only where a file lacks a column; one adapter a spec and partition.
        let mut adapters = BTreeMap::new();
        let mut inputs = Vec::with_capacity(tasks.len());
        for task in tasks {
            let key = (task.file.spec_id, format!("{:?}", task.file.file.partition()));
            let adapter = adapters.entry(key).or_insert_with(|| {
                let spec = metadata.partition_spec_by_id(task.file.spec_id);
                let partition = spec.map(|spec| (spec.as_ref(), task.file.file.partition()));
                Arc::new(Adapter::new(target.clone(), metadata.current_schema(), partition))
            });
            inputs.push(ScanInput { task, adapter: adapter.clone() });
        }
        let scan = Scan {
            name: self.table.row.name.to_string(),
            schema: target,
            table_schema: self.schema.clone(),
            predicate,
            limit,
            files_pruned: pruned,
            reader: self.reader.clone(),
            stats: self.stats.read.clone(),
        };
        Ok(Arc::new(ScanExec::new(scan, inputs, state.config().target_partitions())))
    }
}
