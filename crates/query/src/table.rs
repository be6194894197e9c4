use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use esker_catalog::{Catalog, LoadedTable};
use esker_read::{Adapter, ReadStats, Reader, check_readable, target_schema};
use esker_table::LiveFiles;

use crate::log::QueryStats;
use crate::prune;
use crate::scan::{FileTask, Scan, ScanExec, ScanInput};

/// Bytes of a file that are worth a task of their own.
const SPLIT_BYTES: u64 = 16 << 20;

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

    /// Tasks for the files that pass, with the deletes of each; one that can't be applied is an error already here.
    fn tasks(&self, state: &dyn Session, kept: Vec<(usize, &esker_table::LiveFile)>) -> Result<Vec<FileTask>> {
        let mut deletes_by_file = self.live.deletes_by_file(&self.table.metadata);
        let parallel = state.config().target_partitions() as u64;
        let mut tasks = Vec::new();
        for (i, file) in kept {
            let deletes: Vec<_> =
                deletes_by_file.remove(&i).unwrap_or_default().into_iter().map(|d| self.live.deletes[d].clone()).collect();
            for delete in &deletes {
                check_readable(delete).map_err(|e| DataFusionError::External(Box::new(e)))?;
            }
            let deletes: Arc<[_]> = deletes.into();
            let row_groups = file.file.split_offsets().map_or(1, <[i64]>::len) as u64;
            let bytes = file.file.file_size_in_bytes();
            let parts = (bytes / SPLIT_BYTES).clamp(1, parallel.max(1)).min(row_groups.max(1));
            for part in 0..parts {
                let part = (part, parts);
                tasks.push(FileTask { file: Arc::new(file.clone()), deletes: deletes.clone(), part });
            }
        }
        Ok(tasks)
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
        let tasks = self.tasks(state, kept)?;

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
