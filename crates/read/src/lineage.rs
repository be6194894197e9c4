use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use crate::RowPositions;

/// Reserved field ids of the row lineage columns (spec, "Row Lineage").
pub const ROW_ID: i32 = 2_147_483_540;
/// See [`ROW_ID`].
pub const LAST_UPDATED: i32 = 2_147_483_539;

/// A schema with the two columns of row lineage at its end.
pub fn with_lineage(schema: &SchemaRef) -> SchemaRef {
    let column = |name: &str, id: i32| {
        let metadata = [(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())].into();
        Arc::new(Field::new(name, DataType::Int64, true).with_metadata(metadata))
    };
    let lineage = [column("_row_id", ROW_ID), column("_last_updated_sequence_number", LAST_UPDATED)];
    Arc::new(ArrowSchema::new(schema.fields().iter().cloned().chain(lineage).collect::<Vec<_>>()))
}

/// What the rows of a data file inherit where its own lineage columns say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lineage {
    /// The row id of the file's first row; none for a file from before the table had row lineage.
    pub first_row_id: Option<i64>,
    /// The file's data sequence number.
    pub sequence_number: i64,
}

impl Lineage {
    /// The two columns alone, of rows at neighbouring positions of the file.
    pub fn of_rows(self, rows: std::ops::Range<u64>) -> Result<RecordBatch, ArrowError> {
        let schema = with_lineage(&Arc::new(ArrowSchema::empty()));
        let count = usize::try_from(rows.end - rows.start).unwrap_or(usize::MAX);
        let nulls = || -> ArrayRef { Arc::new(Int64Array::new_null(count)) };
        let batch = RecordBatch::try_new(schema, vec![nulls(), nulls()])?;
        self.fill(&batch, &RowPositions::Run(rows))
    }

    /// Fills in the two last columns, as [`with_lineage`] placed them, of rows at some positions of the file.
    pub fn fill(self, batch: &RecordBatch, positions: &RowPositions) -> Result<RecordBatch, ArrowError> {
        let Some(at) = batch.num_columns().checked_sub(2) else { return Ok(batch.clone()) };
        let mut columns = batch.columns().to_vec();
        if let Some(first) = self.first_row_id {
            let inherited = positions.iter().map(|p| first.saturating_add_unsigned(p));
            columns[at] = or(&columns[at], inherited)?;
            let updated = std::iter::repeat_n(self.sequence_number, batch.num_rows());
            columns[at + 1] = or(&columns[at + 1], updated)?;
        }
        RecordBatch::try_new(batch.schema(), columns)
    }
}

fn or(own: &ArrayRef, inherited: impl Iterator<Item = i64>) -> Result<ArrayRef, ArrowError> {
    let own = own.as_any().downcast_ref::<Int64Array>();
    let own = own.ok_or_else(|| ArrowError::SchemaError("a row lineage column that is not a long".to_owned()))?;
    if own.null_count() == 0 && !own.is_empty() {
        return Ok(Arc::new(own.clone()));
    }
    Ok(Arc::new(own.iter().zip(inherited).map(|(own, inherited)| Some(own.unwrap_or(inherited))).collect::<Int64Array>()))
}
