//! The file source of a scan whose filters are checked again above it, and which leaves out deleted rows.
//!
//! DataFusion's Parquet scan silently ignores those parts of a pushed-down filter that it cannot evaluate while it decodes. These
//! are conditions on fields of structs that a file has in another shape, and on columns that a file lacks. With a `LIMIT` it
//! forgets row selections. So filters stay in the plan above the scan, and what the scan filters is only a head start. Start
//! reading at `RecheckedSource`.

use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileOpener, FileScanConfig, FileSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::object_store::ObjectStore;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, SortOrderPushdownResult};
use datafusion_datasource::morsel::{MorselPlanner, Morselizer};

use crate::deleted::DeletesMorselizer;
use crate::files::PartitionAdapter;
use crate::scan_errors::{NamedReader, ScannedTable};

/// A wrapper around DataFusion's Parquet source.
#[derive(Clone)]
pub(crate) struct RecheckedSource {
    inner: Arc<dyn FileSource>,
    /// True if row groups may be read in another order than the file's.
    reordered: bool,
    owner: ScannedTable,
}

impl RecheckedSource {
    pub(crate) fn new(inner: Arc<dyn FileSource>, owner: ScannedTable) -> Self {
        Self { inner, reordered: false, owner }
    }

    /// Wraps another inner source in the same way.
    fn around(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { inner, ..self.clone() })
    }

    /// Checks that the scan reads every row of a file in order and computes nothing from the rows.
    ///
    /// A computation could fail on a deleted row.
    fn is_unbroken(&self, config: &FileScanConfig) -> bool {
        let plain = self.inner.projection().is_none_or(|exprs| exprs.expr_iter().all(|expr| expr.is::<Column>()));
        self.inner.filter().is_none() && config.limit.is_none() && !self.reordered && plain
    }
}

/// A morselizer that opens files with the expression adapter of their partition, if they have one.
struct PartitionMorselizer {
    others: Box<dyn Morselizer>,
    source: Arc<dyn FileSource>,
    store: Arc<dyn ObjectStore>,
    /// The scan's configuration, without its files.
    config: FileScanConfig,
    partition: usize,
    unbroken: bool,
}

impl fmt::Debug for PartitionMorselizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByPartition").field("others", &self.others).finish_non_exhaustive()
    }
}

impl Morselizer for PartitionMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let Some(PartitionAdapter(expressions)) = file.extension::<PartitionAdapter>() else {
            return self.others.plan_file(file);
        };
        let mut config = self.config.clone();
        config.expr_adapter_factory = Some(expressions.clone());
        let inner = self.source.create_morselizer(self.store.clone(), &config, self.partition)?;
        DeletesMorselizer { inner, unbroken: self.unbroken }.plan_file(file)
    }
}

impl FileSource for RecheckedSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        self.inner.create_file_opener(store, config, partition)
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        let inner = self.inner.create_morselizer(store.clone(), config, partition)?;
        let opened: Box<dyn Morselizer> = Box::new(DeletesMorselizer { inner, unbroken: self.is_unbroken(config) });
        let named =
            |inner: Box<dyn Morselizer>| Box::new(NamedReader { inner, owner: self.owner.clone() }) as Box<dyn Morselizer>;
        let by_partition = |file: &PartitionedFile| file.extension::<PartitionAdapter>().is_some();
        if !config.file_groups.iter().flat_map(FileGroup::iter).any(by_partition) {
            return Ok(named(opened));
        }
        let mut config = config.clone();
        config.file_groups = Vec::new();
        let unbroken = self.is_unbroken(&config);
        Ok(named(Box::new(PartitionMorselizer {
            others: opened,
            source: self.inner.clone(),
            store,
            config,
            partition,
            unbroken,
        })))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        self.around(self.inner.with_batch_size(batch_size))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_extra(t, f)
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let n = filters.len();
        let pushed = self.inner.try_pushdown_filters(filters, config)?;
        let mut answer = FilterPushdownPropagation::with_parent_pushdown_result(vec![PushedDown::No; n]);
        answer.updated_node = pushed.updated_node.map(|inner| self.around(inner));
        Ok(answer)
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        let around = |inner| Arc::new(Self { inner, reordered: true, owner: self.owner.clone() }) as Arc<dyn FileSource>;
        Ok(match self.inner.try_pushdown_sort(order, properties)? {
            SortOrderPushdownResult::Exact { inner } => SortOrderPushdownResult::Exact { inner: around(inner) },
            SortOrderPushdownResult::Inexact { inner } => SortOrderPushdownResult::Inexact { inner: around(inner) },
            SortOrderPushdownResult::Unsupported => SortOrderPushdownResult::Unsupported,
        })
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(visit)
    }

    /// Returns false: files are split into parts and groups already, and only the reader has the parts.
    fn supports_repartitioning(&self) -> bool {
        false
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_projection(projection)?.map(|inner| self.around(inner)))
    }
}
