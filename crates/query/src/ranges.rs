//! Minima, maxima and null counts of columns, from manifests and from Parquet footers, as DataFusion's pruning wants them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt64Array, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema as ArrowSchema, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use esker_read::{OpenFile, literal_array};
use esker_table::{LiveFile, source_range};
use iceberg::spec::{Datum, TableMetadata};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;

fn field_id(schema: &ArrowSchema, name: &str) -> Option<i32> {
    schema.field_with_name(name).ok()?.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

/// What manifests say about files.
pub(crate) struct FileRanges<'a> {
    schema: SchemaRef,
    files: &'a [&'a LiveFile],
    /// For each file, ranges that its partition values imply for source columns.
    partitions: Vec<HashMap<i32, (Datum, Option<Datum>)>>,
}

impl<'a> FileRanges<'a> {
    pub(crate) fn new(schema: SchemaRef, metadata: &TableMetadata, files: &'a [&'a LiveFile]) -> Self {
        let partitions = files.iter().map(|file| partition_ranges(metadata, file)).collect();
        Self { schema, files, partitions }
    }

    fn values(&self, column: &Column, bound: impl Fn(usize, i32) -> Option<Datum>) -> Option<ArrayRef> {
        let id = field_id(&self.schema, &column.name)?;
        let to = self.schema.field_with_name(&column.name).ok()?.data_type();
        let null = ScalarValue::try_from(to).ok()?;
        let value = |i: usize| {
            let datum = bound(i, id)?;
            let array = literal_array(datum.data_type(), datum.literal(), to)?;
            ScalarValue::try_from_array(&array, 0).ok()
        };
        let values: Vec<ScalarValue> = (0..self.files.len()).map(|i| value(i).unwrap_or_else(|| null.clone())).collect();
        ScalarValue::iter_to_array(values).ok()
    }
}

fn partition_ranges(metadata: &TableMetadata, file: &LiveFile) -> HashMap<i32, (Datum, Option<Datum>)> {
    let Some(spec) = metadata.partition_spec_by_id(file.spec_id) else { return HashMap::new() };
    let range = |(field, value): (&iceberg::spec::PartitionField, Option<&iceberg::spec::Literal>)| {
        let source = metadata.current_schema().field_by_id(field.source_id)?;
        Some((field.source_id, source_range(field.transform, &source.field_type, value?)?))
    };
    spec.fields().iter().zip(file.file.partition().iter()).filter_map(range).collect()
}

impl PruningStatistics for FileRanges<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |i, id| {
            let of_partition = || self.partitions[i].get(&id).map(|(low, _)| low.clone());
            self.files[i].file.lower_bounds().get(&id).cloned().or_else(of_partition)
        })
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        let float = matches!(self.schema.field_with_name(&column.name).ok()?.data_type(), DataType::Float32 | DataType::Float64);
        self.values(column, |i, id| {
            let file = &self.files[i].file;
            // Bounds leave NaN out, and NaN is greater than every number: without a count of zero there is no maximum.
            if float && file.nan_value_counts().get(&id) != Some(&0) {
                return None;
            }
            let of_partition = || self.partitions[i].get(&id).and_then(|(_, high)| high.clone());
            file.upper_bounds().get(&id).cloned().or_else(of_partition)
        })
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let id = field_id(&self.schema, &column.name)?;
        let counts = self.files.iter().map(|f| f.file.null_value_counts().get(&id).copied());
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.files.iter().map(|f| Some(f.file.record_count())).collect::<UInt64Array>()))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// What a Parquet footer says about row groups.
pub(crate) struct RowGroupRanges<'a> {
    pub(crate) schema: SchemaRef,
    pub(crate) file: &'a OpenFile,
}

impl RowGroupRanges<'_> {
    /// The file's converter for a table column, found by field id; none if the file lacks it.
    fn converter(&self, column: &Column) -> Option<StatisticsConverter<'_>> {
        let id = field_id(&self.schema, &column.name)?.to_string();
        let file_schema = self.file.file_schema();
        let field = file_schema.fields().iter().find(|f| f.metadata().get(PARQUET_FIELD_ID_META_KEY) == Some(&id))?;
        StatisticsConverter::try_new(field.name(), file_schema, self.file.reader_metadata().parquet_schema()).ok()
    }

    fn to_table_type(&self, column: &Column, array: &ArrayRef) -> Option<ArrayRef> {
        cast(array, self.schema.field_with_name(&column.name).ok()?.data_type()).ok()
    }
}

impl PruningStatistics for RowGroupRanges<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        let array = self.converter(column)?.row_group_mins(self.file.footer().row_groups()).ok()?;
        self.to_table_type(column, &array)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        let array = self.converter(column)?.row_group_maxes(self.file.footer().row_groups()).ok()?;
        match array.data_type() {
            // As for files; and a footer has no count of NaN.
            DataType::Float32 | DataType::Float64 => Some(new_null_array(array.data_type(), array.len())),
            _ => self.to_table_type(column, &array),
        }
    }

    fn num_containers(&self) -> usize {
        self.file.footer().num_row_groups()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let counts = self.converter(column)?.row_group_null_counts(self.file.footer().row_groups()).ok()?;
        Some(Arc::new(counts))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let counts = self.file.footer().row_groups().iter().map(|g| Some(g.num_rows().unsigned_abs()));
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
