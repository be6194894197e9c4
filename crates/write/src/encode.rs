//! Batches to row groups, in memory.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use esker_read::{LAST_UPDATED, ROW_ID, target_schema, with_lineage};
use iceberg::spec::{FormatVersion, Schema, TableMetadata};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriter, ArrowWriterOptions, compute_leaves,
};
use parquet::basic::Type as PhysicalType;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};

use crate::dictionary::overflows;
use crate::metrics::{Modes, NanCounts, leaf_id};
use crate::properties;
use crate::{Result, WriteError};

/// What all output files of a job have in common.
#[derive(Debug)]
pub struct Shape {
    /// The table's columns, and those of row lineage where the table has it.
    pub arrow: SchemaRef,
    pub schema: Arc<Schema>,
    pub lineage: bool,
    pub(crate) modes: Modes,
    pub root: TypePtr,
    pub descriptor: Arc<SchemaDescriptor>,
    pub properties: WriterPropertiesPtr,
    pub row_group_bytes: usize,
    /// With and without dictionaries.
    factory: ArrowRowGroupWriterFactory,
    plain: ArrowRowGroupWriterFactory,
}

impl Shape {
    /// For rows that exist already: with row lineage, where the table has it.
    pub fn new(metadata: &TableMetadata) -> Result<Arc<Self>> {
        Self::of(metadata, metadata.format_version() == FormatVersion::V3)
    }

    /// With or without row lineage: new rows inherit theirs.
    pub(crate) fn of(metadata: &TableMetadata, lineage: bool) -> Result<Arc<Self>> {
        let schema = metadata.current_schema().clone();
        let ids: Vec<i32> = schema.as_struct().fields().iter().map(|f| f.id).collect();
        let columns = target_schema(&schema, &ids)?;
        let arrow = if lineage { with_lineage(&columns) } else { columns };
        let (writer, row_group_bytes) = properties::properties(metadata, &arrow)?;
        // The Arrow schema is left out: it is one writer's view, and spliced row groups may come from another's.
        let factory = |properties: WriterProperties| {
            let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
            ArrowWriter::try_new_with_options(Vec::new(), arrow.clone(), options)?.into_serialized_writer()
        };
        let (_, plain) = factory(writer.clone().into_builder().set_dictionary_enabled(false).build())?;
        let (writer, factory) = factory(writer)?;
        let descriptor = writer.schema_descr().clone();
        Ok(Arc::new(Self {
            root: descriptor.root_schema_ptr(),
            descriptor: Arc::new(descriptor),
            properties: writer.properties().clone(),
            modes: Modes::new(metadata),
            arrow,
            schema,
            lineage,
            row_group_bytes,
            factory,
            plain,
        }))
    }

    /// Leaf columns that hold the table's rows; those of row lineage come after them.
    pub fn own_leaves(&self) -> usize {
        self.descriptor.num_columns() - if self.lineage { 2 } else { 0 }
    }

    pub fn encoder(self: &Arc<Self>) -> Result<RowGroupEncoder> {
        let (writers, judging) = (self.factory.create_column_writers(0)?, Some(self.clone()));
        Ok(RowGroupEncoder { writers, schema: self.arrow.clone(), rows: 0, judging })
    }

    /// Takes the dictionary from the columns for which it is not worth it, by the first rows.
    fn judge(&self, writers: &mut [ArrowColumnWriter], rows: &RecordBatch) -> Result<()> {
        let mut plain = None;
        let mut leaf = 0;
        for (field, column) in self.root.get_fields().iter().zip(rows.columns()) {
            if field.is_primitive() {
                let limit = self.properties.column_dictionary_page_size_limit(self.descriptor.column(leaf).path());
                if overflows(column, limit) {
                    let plain = match &mut plain {
                        Some(plain) => plain,
                        none => none.insert(self.plain.create_column_writers(0)?),
                    };
                    std::mem::swap(&mut writers[leaf], &mut plain[leaf]);
                }
            }
            leaf += leaves(field);
        }
        Ok(())
    }

    /// The NaNs of a row group that is copied, by the manifest entry of its file: of all of it if it is the `whole` file, else only where there
    /// are none. What the entry does not count is unknown.
    pub fn copied_nans(&self, counted: &HashMap<i32, u64>, whole: bool) -> NanCounts {
        let floats = self.descriptor.columns().iter().filter(|column| {
            matches!(column.physical_type(), PhysicalType::FLOAT | PhysicalType::DOUBLE) && column.max_rep_level() == 0
        });
        let known = |id: i32| (id, counted.get(&id).copied().filter(|n| whole || *n == 0));
        floats.filter_map(|column| leaf_id(column)).map(known).collect()
    }

    /// An encoder of the two columns of row lineage alone.
    pub fn lineage_encoder(&self) -> Result<RowGroupEncoder> {
        let writers = self.factory.create_column_writers(0)?.split_off(self.own_leaves());
        let fields: Vec<_> = self.arrow.fields().iter().filter(|f| is_lineage(f)).cloned().collect();
        Ok(RowGroupEncoder { writers, schema: Arc::new(arrow::datatypes::Schema::new(fields)), rows: 0, judging: None })
    }
}

/// The leaf columns of a field.
fn leaves(field: &Type) -> usize {
    if field.is_primitive() { 1 } else { field.get_fields().iter().map(|f| leaves(f)).sum() }
}

fn is_lineage(field: &arrow::datatypes::Field) -> bool {
    let id = field.metadata().get(PARQUET_FIELD_ID_META_KEY).and_then(|id| id.parse().ok());
    id.is_some_and(|id: i32| id == ROW_ID || id == LAST_UPDATED)
}

/// A row group in the making.
#[expect(missing_debug_implementations, reason = "Parquet's writers have none")]
pub struct RowGroupEncoder {
    writers: Vec<ArrowColumnWriter>,
    schema: SchemaRef,
    rows: u64,
    /// Until the first rows are there.
    judging: Option<Arc<Shape>>,
}

/// An encoded row group.
#[expect(missing_debug_implementations, reason = "Parquet's writers have none")]
pub struct EncodedGroup {
    pub chunks: Vec<ArrowColumnChunk>,
    pub rows: u64,
}

impl EncodedGroup {
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|c| c.close().bytes_written).sum()
    }
}

impl RowGroupEncoder {
    /// Adds rows, with the columns shared out among `lanes` threads.
    pub fn write(&mut self, batch: &RecordBatch, lanes: usize) -> Result<()> {
        if let Some(shape) = self.judging.take() {
            shape.judge(&mut self.writers, batch)?;
        }
        self.rows += batch.num_rows() as u64;
        let mut leaves = Vec::with_capacity(self.writers.len());
        for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
            leaves.extend(compute_leaves(field, column)?);
        }
        let mut work: Vec<_> = self.writers.iter_mut().zip(&leaves).collect();
        if lanes < 2 || work.len() < 2 {
            return work.into_iter().try_for_each(|(writer, leaf)| Ok(writer.write(leaf)?));
        }
        let per_lane = work.len().div_ceil(lanes);
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            while !work.is_empty() {
                let lane = work.split_off(work.len().saturating_sub(per_lane));
                threads.push(scope.spawn(move || lane.into_iter().try_for_each(|(writer, leaf)| writer.write(leaf))));
            }
            for thread in threads {
                thread.join().map_err(|_| WriteError::Refused("an encoder stopped".to_owned()))??;
            }
            Ok(())
        })
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// About the bytes of the row group so far.
    pub fn bytes(&self) -> usize {
        self.writers.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum()
    }

    pub fn finish(self) -> Result<EncodedGroup> {
        let chunks = self.writers.into_iter().map(ArrowColumnWriter::close).collect::<std::result::Result<_, _>>()?;
        Ok(EncodedGroup { chunks, rows: self.rows })
    }
}

/// Adds the NaNs of a batch's float columns to the counts, those inside structs too.
pub fn count_nans(counts: &mut NanCounts, batch: &RecordBatch) {
    fn count(counts: &mut NanCounts, field: &arrow::datatypes::Field, column: &ArrayRef) {
        let nans = match column.data_type() {
            DataType::Float32 => column.as_primitive::<Float32Type>().iter().flatten().filter(|v| v.is_nan()).count(),
            DataType::Float64 => column.as_primitive::<Float64Type>().iter().flatten().filter(|v| v.is_nan()).count(),
            DataType::Struct(fields) => {
                for (field, child) in fields.iter().zip(column.as_struct().columns()) {
                    count(counts, field, child);
                }
                return;
            }
            _ => return,
        };
        if let Some(id) = field.metadata().get(PARQUET_FIELD_ID_META_KEY).and_then(|id| id.parse().ok()) {
            let known = counts.entry(id).or_insert(Some(0));
            *known = known.map(|n| n + nans as u64);
        }
    }
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        count(counts, field, column);
    }
}

/// Adds counts to counts; a column that is unknown in one is unknown in the sum. Both have an entry for every column that is counted, or there
/// were no rows yet.
pub(crate) fn merge_nans(into: &mut NanCounts, from: &NanCounts) {
    for (id, n) in from {
        let known = into.entry(*id).or_insert(Some(0));
        *known = known.zip(*n).map(|(a, b)| a + b);
    }
}

#[cfg(test)]
mod tests {
    use iceberg::spec::{NestedField, PartitionSpec, PrimitiveType, SortOrder, StructType, TableMetadataBuilder};

    use super::*;

    fn shape() -> Arc<Shape> {
        let double = || iceberg::spec::Type::Primitive(PrimitiveType::Double);
        let inner = StructType::new(vec![NestedField::optional(3, "y", double()).into()]);
        let list = iceberg::spec::ListType::new(NestedField::list_element(5, double(), false).into());
        let schema = Schema::builder()
            .with_fields([
                NestedField::optional(1, "x", double()).into(),
                NestedField::optional(2, "s", iceberg::spec::Type::Struct(inner)).into(),
                NestedField::optional(4, "l", iceberg::spec::Type::List(list)).into(),
                NestedField::optional(6, "n", iceberg::spec::Type::Primitive(PrimitiveType::Int)).into(),
            ])
            .build()
            .expect("a schema");
        let (spec, order) = (PartitionSpec::unpartition_spec().into_unbound(), SortOrder::unsorted_order());
        let built = TableMetadataBuilder::new(schema, spec, order, "file:///t".to_owned(), FormatVersion::V2, HashMap::new());
        Shape::new(&built.expect("a builder").build().expect("metadata").metadata).expect("a shape")
    }

    /// A file's entry that has no NaN count of a column says nothing of it, and neither does one of a file that is copied in part.
    #[test]
    fn what_no_entry_counts_is_unknown_in_the_sum() {
        let shape = shape();
        let ids: HashMap<&str, i32> =
            ["x", "s.y", "n"].map(|name| (name, shape.schema.field_by_name(name).expect(name).id)).into();
        let (x, y) = (ids["x"], ids["s.y"]);
        let copied = |counts: &[(i32, u64)], whole| shape.copied_nans(&counts.iter().copied().collect(), whole);
        assert_eq!(copied(&[], true), HashMap::from([(x, None), (y, None)]));
        assert_eq!(copied(&[(x, 2), (y, 0), (ids["n"], 0)], true), HashMap::from([(x, Some(2)), (y, Some(0))]));
        assert_eq!(copied(&[(x, 2), (y, 0)], false), HashMap::from([(x, None), (y, Some(0))]));

        let mut sum = NanCounts::new();
        merge_nans(&mut sum, &HashMap::from([(x, Some(1)), (y, Some(0))]));
        merge_nans(&mut sum, &copied(&[(x, 2)], true));
        assert_eq!(sum, HashMap::from([(x, Some(3)), (y, None)]));
    }
}
