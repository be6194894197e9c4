//! The columns of row lineage, `_row_id` and `_last_updated_sequence_number`.
//!
//! A data file may store them. Rows with a null there inherit: the row id from the file's first row id and the row's position,
//! the sequence number from the file. Spec: "Row Lineage".

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use crate::RowPositions;

/// Field id of the column `_row_id`. Spec: "Reserved Field IDs".
pub const ROW_ID_FIELD_ID: i32 = 2_147_483_540;
/// Field id of the column `_last_updated_sequence_number`. Spec: "Reserved Field IDs".
pub const LAST_UPDATED_FIELD_ID: i32 = 2_147_483_539;

/// Appends the two row lineage columns to a schema, as optional 64-bit integers.
pub fn with_lineage(schema: &SchemaRef) -> SchemaRef {
    let column = |name: &str, id: i32| {
        let metadata = [(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())].into();
        Arc::new(Field::new(name, DataType::Int64, true).with_metadata(metadata))
    };
    let lineage = [column("_row_id", ROW_ID_FIELD_ID), column("_last_updated_sequence_number", LAST_UPDATED_FIELD_ID)];
    Arc::new(ArrowSchema::new(schema.fields().iter().cloned().chain(lineage).collect::<Vec<_>>()))
}

/// The values that rows of a data file inherit if the file's own lineage columns are null.
///
/// Spec: "Row Lineage".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lineage {
    /// The row id of the file's first row; none if the file is from before the table had row lineage.
    pub first_row_id: Option<i64>,
    /// The data sequence number of the file.
    pub sequence_number: i64,
}

impl Lineage {
    /// Returns a batch of only the two lineage columns, for consecutive positions of the file.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`fill`](Self::fill); the columns that this function makes never cause one.
    pub fn of_rows(self, rows: std::ops::Range<u64>) -> Result<RecordBatch, ArrowError> {
        let schema = with_lineage(&Arc::new(ArrowSchema::empty()));
        let count = usize::try_from(rows.end - rows.start).unwrap_or(usize::MAX);
        let nulls = || -> ArrayRef { Arc::new(Int64Array::new_null(count)) };
        let batch = RecordBatch::try_new(schema, vec![nulls(), nulls()])?;
        self.fill(&batch, &RowPositions::Run(rows))
    }

    /// Replaces nulls in the last two columns of a batch by the inherited values.
    ///
    /// [`with_lineage`] put the columns there. `positions` are those of the batch's rows in the file. A file without a first row
    /// id leaves the nulls. A batch of fewer than two columns is returned unchanged.
    ///
    /// # Errors
    ///
    /// Returns [`ArrowError::SchemaError`] if one of the two columns is not a 64-bit integer, and
    /// [`ArrowError::InvalidArgumentError`] if there are fewer positions than rows.
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

/// Returns a lineage column with its nulls replaced by the inherited values.
fn or(own: &ArrayRef, inherited: impl Iterator<Item = i64>) -> Result<ArrayRef, ArrowError> {
    let own = own.as_any().downcast_ref::<Int64Array>();
    let own = own.ok_or_else(|| ArrowError::SchemaError("a row lineage column that is not a long".to_owned()))?;
    if own.null_count() == 0 && !own.is_empty() {
        return Ok(Arc::new(own.clone()));
    }
    Ok(Arc::new(own.iter().zip(inherited).map(|(own, inherited)| Some(own.unwrap_or(inherited))).collect::<Int64Array>()))
}
