//! A table whose rows say where they are: what `DELETE` and `UPDATE` look for rows in.

use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use esker_read::{Adapter, FileScan, Lineage, Positions, ReadStats, Reader, target_schema, with_lineage};
use esker_table::LiveFile;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use iceberg::spec::FormatVersion;
use roaring::RoaringTreemap;

use crate::IcebergTable;
use crate::error::external;

/// The columns that say where a row is. No table's own can have such names.
pub(crate) const FILE: &str = "\u{1f}file";
pub(crate) const POSITION: &str = "\u{1f}pos";
pub(crate) const ROW_ID: &str = "\u{1f}row_id";

/// A snapshot of a table with the three columns after its own.
#[derive(Debug)]
pub(crate) struct RowTable {
    table: IcebergTable,
    schema: SchemaRef,
}

impl RowTable {
    pub(crate) fn new(table: IcebergTable) -> Result<Self> {
        let ids: Vec<i32> = table.iceberg.as_struct().fields().iter().map(|f| f.id).collect();
        let own = target_schema(&table.iceberg, &ids).map_err(external)?;
        let place = [
            Field::new(FILE, DataType::Utf8, false),
            Field::new(POSITION, DataType::Int64, false),
            Field::new(ROW_ID, DataType::Int64, true),
        ];
        let fields: Vec<_> = own.fields().iter().cloned().chain(place.into_iter().map(Arc::new)).collect();
        Ok(Self { table, schema: Arc::new(Schema::new(fields)) })
    }
}

#[async_trait]
impl TableProvider for RowTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let table = &self.table;
        let metadata = &table.table.metadata;
        let kept = table.files(state, &self.schema, filters)?;
        let mut deleted = table.deleted(state, &kept).await.map_err(external)?;

        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let projection = projection.unwrap_or(&all);
        let own = self.schema.fields().len() - 3;
        let fields = table.iceberg.as_struct().fields();
        let ids: Vec<i32> = projection.iter().filter(|i| **i < own).map(|i| fields[*i].id).collect();
        let mut target = target_schema(&table.iceberg, &ids).map_err(external)?;
        let row_ids =
            metadata.format_version() == FormatVersion::V3 && projection.iter().any(|i| self.schema.field(*i).name() == ROW_ID);
        if row_ids {
            target = with_lineage(&target);
        }
        let schema = Arc::new(self.schema.project(projection)?);
        let mut parts: Vec<Part> = Vec::new();
        for file in kept {
            let spec = metadata.partition_spec_by_id(file.spec_id);
            let partition = spec.map(|spec| (spec.as_ref(), file.file.partition()));
            let adapter = Arc::new(Adapter::new(target.clone(), &table.iceberg, partition));
            let deleted = deleted.remove(file.file.file_path());
            parts.push(Part { file, adapter, deleted });
        }
        let n = state.config().target_partitions().clamp(1, parts.len().max(1));
        let mut groups: Vec<Vec<Part>> = (0..n).map(|_| Vec::new()).collect();
        for (i, part) in parts.into_iter().enumerate() {
            groups[i % n].push(part);
        }
        let streams = groups.into_iter().map(|parts| {
            let (reader, stats) = (table.reader.clone(), table.stats.read.clone());
            Arc::new(Rows { schema: schema.clone(), parts, row_ids, reader, stats }) as Arc<dyn PartitionStream>
        });
        let none: Vec<datafusion::physical_expr::LexOrdering> = Vec::new();
        Ok(Arc::new(StreamingTableExec::try_new(schema.clone(), streams.collect(), None, none, false, limit)?))
    }
}

#[derive(Debug, Clone)]
struct Part {
    file: LiveFile,
    adapter: Arc<Adapter>,
    deleted: Option<Arc<RoaringTreemap>>,
}

/// Some files, one after the other.
#[derive(Debug)]
struct Rows {
    schema: SchemaRef,
    parts: Vec<Part>,
    row_ids: bool,
    reader: Reader,
    stats: Arc<ReadStats>,
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batch_size = context.session_config().batch_size();
        let (schema, row_ids, reader, stats) = (self.schema.clone(), self.row_ids, self.reader.clone(), self.stats.clone());
        let rows = futures::stream::iter(self.parts.clone())
            .then(move |part| one_file(part, schema.clone(), row_ids, reader.clone(), stats.clone(), batch_size))
            .try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}

/// The rows of a file that are alive, each with its place.
async fn one_file(
    part: Part,
    schema: SchemaRef,
    row_ids: bool,
    reader: Reader,
    stats: Arc<ReadStats>,
    batch_size: usize,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let Part { file, adapter, deleted } = part;
    let open = reader.open_kept(file.file.file_path(), file.file.file_size_in_bytes(), &stats).await.map_err(external)?;
    let batches = open.stream(FileScan { adapter, row_groups: None, deleted: None, batch_size }).map_err(external)?;
    let mut next = 0;
    let lineage = Lineage { first_row_id: file.first_row_id, sequence_number: file.sequence_number };
    let placed = move |batch: esker_read::Result<RecordBatch>| {
        let mut batch = batch.map_err(external)?;
        let range = next..next + batch.num_rows() as u64;
        next = range.end;
        if row_ids {
            batch = lineage.fill(&batch, &Positions::Run(range.clone()))?;
        }
        let batch = place(&batch, &schema, file.file.file_path(), range.start, row_ids)?;
        match &deleted {
            None => Ok(batch),
            Some(deleted) => {
                let kept: BooleanArray = range.map(|position| Some(!deleted.contains(position))).collect();
                Ok(filter_record_batch(&batch, &kept)?)
            }
        }
    };
    Ok(batches.map(placed).boxed())
}

/// A batch in the schema that was asked for.
fn place(batch: &RecordBatch, schema: &SchemaRef, path: &str, start: u64, row_ids: bool) -> Result<RecordBatch> {
    let n = batch.num_rows();
    let first = i64::try_from(start).map_err(external)?;
    let mut own = 0;
    let mut columns: Vec<arrow::array::ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        columns.push(match field.name().as_str() {
            FILE => Arc::new(StringArray::from(vec![path; n])),
            POSITION => Arc::new((first..).take(n).collect::<Int64Array>()),
            ROW_ID if row_ids => batch.column(batch.num_columns() - 2).clone(),
            ROW_ID => Arc::new(Int64Array::new_null(n)),
            _ => {
                own += 1;
                batch.column(own - 1).clone()
            }
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(n));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}
