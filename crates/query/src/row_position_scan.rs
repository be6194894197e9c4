//! A table provider whose rows hold their positions, in which `DELETE` and `UPDATE` look for rows.
//!
//! Three columns follow the table's own: the path of the file, the position in it and the row id. Start reading at `RowTable`.

use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use esker_format::Schema as IcebergSchema;
use esker_read::{BatchAdapter, FileScan, Lineage, ReadStats, Reader, RowPositions, optional_schema, with_lineage};
use esker_table::LiveFile;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use roaring::RoaringTreemap;

use crate::error::external;
use crate::scan_errors::ScannedTable;
use crate::table::seen;
use crate::{IcebergTable, opaque};

/// Returns the names of the three columns for file, position and row id. No column of the table begins like them.
pub(crate) fn position_columns(schema: &IcebergSchema) -> [String; 3] {
    let mut mark = "\u{1f}".to_owned();
    while schema.as_struct().fields().iter().any(|field| field.name.starts_with(&mark)) {
        mark.push('\u{1f}');
    }
    ["file", "pos", "row_id"].map(|name| format!("{mark}{name}"))
}

/// A snapshot of a table, with three columns for the position of a row after its own.
#[derive(Debug)]
pub(crate) struct RowTable {
    table: IcebergTable,
    schema: SchemaRef,
}

impl RowTable {
    pub(crate) fn new(table: IcebergTable) -> Self {
        let own = seen(&opaque::columns_as_they_come(&table.iceberg), &table.iceberg);
        let [file, position, row_id] = position_columns(&table.iceberg);
        let place = [
            Field::new(file, DataType::Utf8, false),
            Field::new(position, DataType::Int64, false),
            Field::new(row_id, DataType::Int64, true),
        ];
        let fields: Vec<_> = own.fields().iter().cloned().chain(place.into_iter().map(Arc::new)).collect();
        Self { table, schema: Arc::new(Schema::new(fields)) }
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
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let projection = projection.unwrap_or(&all);
        opaque::check(projection.iter().map(|at| &self.schema.fields()[*at]))?;
        let kept = table.files(state, &self.schema, filters, &[]).await?;
        let mut deleted = table.noted(table.deleted(state, &kept).await)?;

        let own = self.schema.fields().len() - 3;
        let fields = table.iceberg.as_struct().fields();
        let ids: Vec<i32> = projection.iter().filter(|i| **i < own).map(|i| fields[*i].id).collect();
        let mut target = optional_schema(&table.iceberg, &ids).map_err(external)?;
        let row_ids = metadata.format_version >= 3 && projection.contains(&(own + 2));
        if row_ids {
            target = with_lineage(&target);
        }
        let schema = Arc::new(self.schema.project(projection)?);
        let columns: Arc<[ColumnSource]> = projection.iter().map(|i| ColumnSource::of(*i, own)).collect();
        let shape = PositionedColumns { schema: schema.clone(), columns, row_ids };
        let mut parts: Vec<Part> = Vec::new();
        for file in kept.files {
            let spec = metadata.partition_spec_by_id(file.spec_id);
            let partition = spec.map(|spec| (spec.as_ref(), &*file.file.partition));
            let adapter = Arc::new(BatchAdapter::new(target.clone(), &table.iceberg, partition));
            let deleted = deleted.remove(&file.file.file_path);
            parts.push(Part { file, adapter, deleted });
        }
        let n = state.config().target_partitions().clamp(1, parts.len().max(1));
        let mut groups: Vec<Vec<Part>> = (0..n).map(|_| Vec::new()).collect();
        for (i, part) in parts.into_iter().enumerate() {
            groups[i % n].push(part);
        }
        let streams = groups.into_iter().map(|parts| {
            let (reader, stats) = (table.reader.clone(), table.stats.read.clone());
            let owner = table.owner();
            Arc::new(PositionedRows { shape: shape.clone(), parts, reader, stats, owner }) as Arc<dyn PartitionStream>
        });
        let none: Vec<datafusion::physical_expr::LexOrdering> = Vec::new();
        Ok(Arc::new(StreamingTableExec::try_new(schema.clone(), streams.collect(), None, none, false, limit)?))
    }
}

/// A data file to scan, with its adapter and its deleted rows.
#[derive(Debug, Clone)]
struct Part {
    file: LiveFile,
    adapter: Arc<BatchAdapter>,
    deleted: Option<Arc<RoaringTreemap>>,
}

/// The source of a column of the rows.
#[derive(Debug, Clone, Copy)]
enum ColumnSource {
    Own,
    File,
    Position,
    RowId,
}

impl ColumnSource {
    /// Returns the source of the schema's column at index `at`; the first `own` columns are the table's.
    fn of(at: usize, own: usize) -> Self {
        match at.checked_sub(own) {
            None => Self::Own,
            Some(0) => Self::File,
            Some(1) => Self::Position,
            Some(_) => Self::RowId,
        }
    }
}

/// The columns that are made of a file's rows.
#[derive(Debug, Clone)]
struct PositionedColumns {
    schema: SchemaRef,
    columns: Arc<[ColumnSource]>,
    row_ids: bool,
}

/// The rows of some files, one file after another.
#[derive(Debug)]
struct PositionedRows {
    shape: PositionedColumns,
    parts: Vec<Part>,
    reader: Reader,
    stats: Arc<ReadStats>,
    owner: ScannedTable,
}

impl PartitionStream for PositionedRows {
    fn schema(&self) -> &SchemaRef {
        &self.shape.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batch_size = context.session_config().batch_size();
        let (shape, reader, stats) = (self.shape.clone(), self.reader.clone(), self.stats.clone());
        let owner = self.owner.clone();
        let rows = futures::stream::iter(self.parts.clone())
            .then(move |part| one_file(part, shape.clone(), reader.clone(), stats.clone(), batch_size))
            .try_flatten()
            .inspect_err(move |error| owner.record_damage_within(error));
        Box::pin(RecordBatchStreamAdapter::new(self.shape.schema.clone(), rows))
    }
}

/// Returns the rows of a file that are not deleted, each with its position.
async fn one_file(
    part: Part,
    shape: PositionedColumns,
    reader: Reader,
    stats: Arc<ReadStats>,
    batch_size: usize,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let Part { file, adapter, deleted } = part;
    let open = reader.open_cached(&file.file.file_path, file.file.size(), &stats).await.map_err(external)?;
    let batches = open.stream(FileScan { adapter, row_groups: None, deleted: None, batch_size }).map_err(external)?;
    let mut next = 0;
    let lineage = Lineage { first_row_id: file.first_row_id, sequence_number: file.sequence_number };
    let placed = move |batch: esker_read::Result<RecordBatch>| {
        let mut batch = batch.map_err(external)?;
        let range = next..next + batch.num_rows() as u64;
        next = range.end;
        if shape.row_ids {
            batch = lineage.fill(&batch, &RowPositions::Run(range.clone()))?;
        }
        let batch = place(&batch, &shape, &file.file.file_path, range.start)?;
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

/// Returns a batch with the columns that were asked for. `start` is the position of its first row.
fn place(batch: &RecordBatch, shape: &PositionedColumns, path: &str, start: u64) -> Result<RecordBatch> {
    let n = batch.num_rows();
    let first = i64::try_from(start).map_err(external)?;
    let mut own = 0;
    let mut columns: Vec<arrow::array::ArrayRef> = Vec::with_capacity(shape.columns.len());
    for (source, field) in shape.columns.iter().zip(shape.schema.fields()) {
        columns.push(match source {
            ColumnSource::File => Arc::new(StringArray::from(vec![path; n])),
            ColumnSource::Position => Arc::new((first..).take(n).collect::<Int64Array>()),
            ColumnSource::RowId if shape.row_ids => batch.column(batch.num_columns() - 2).clone(),
            ColumnSource::RowId => Arc::new(Int64Array::new_null(n)),
            ColumnSource::Own => {
                own += 1;
                cast(batch.column(own - 1), field.data_type())?
            }
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(n));
    Ok(RecordBatch::try_new_with_options(shape.schema.clone(), columns, &options)?)
}
