//! Encodes batches as Parquet row groups, in memory.
//!
//! A [`ParquetLayout`] is made once per job: schema, writer properties and column order of all its files. It makes a
//! [`RowGroupEncoder`] for each row group, which ends as an [`EncodedGroup`] and goes into an `OutputFile`. The first batch of a
//! row group decides which columns get no dictionary. NaNs are counted separately, because Parquet's statistics don't count them.

use std::sync::Arc;
use std::thread::ScopedJoinHandle;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use esker_format::{DataFile, Schema, TableMetadata};
use esker_read::{LAST_UPDATED_FIELD_ID, ROW_ID_FIELD_ID, field_id, target_schema, with_lineage};
use esker_types::Panicked;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriter, ArrowWriterOptions, compute_leaves,
};
use parquet::basic::Type as PhysicalType;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};

use crate::dictionary::dictionary_overflows;
use crate::file_columns::{FileColumns, check_writable};
use crate::metrics::{ColumnMetricsModes, NanCounts, leaf_id};
use crate::shredding::Shredding;
use crate::uuid_annotation;
use crate::{Result, WriteError};
use crate::{geo_statistics, properties};

/// The lineage of the rows of new files. Spec: "Row Lineage".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowLineage {
    /// Rows are new and inherit their lineage, so files have no columns for it.
    Inherited,
    /// Rows keep their lineage, in two columns after those of the table.
    Kept,
}

impl RowLineage {
    /// Returns the lineage of rows that are written again: tables keep it from format version 3 on.
    pub const fn of_rewrite(metadata: &TableMetadata) -> Self {
        match metadata.format_version {
            ..3 => Self::Inherited,
            _ => Self::Kept,
        }
    }
}

/// The part of its file that a copied row group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopiedPart {
    /// The file's only row group.
    WholeFile,
    /// One of several row groups.
    OneRowGroup,
}

/// The properties that all output files of a job share: columns, Parquet schema and writer settings.
#[derive(Debug)]
pub struct ParquetLayout {
    /// The schema of batches: the table's columns, then the two row lineage columns if `lineage` is [`RowLineage::Kept`].
    pub arrow: SchemaRef,
    /// The conversion of batches to the columns that files store.
    stored: Arc<FileColumns>,
    /// The table schema of the files.
    pub schema: Arc<Schema>,
    /// The lineage of the rows, which decides whether files have the two row lineage columns.
    pub lineage: RowLineage,
    /// The metrics that the table's properties ask for.
    pub(crate) modes: ColumnMetricsModes,
    /// The Parquet schema of the files.
    pub root: TypePtr,
    /// The Parquet schema with its leaf columns.
    pub descriptor: Arc<SchemaDescriptor>,
    /// The settings of Parquet's writer.
    pub properties: WriterPropertiesPtr,
    /// The table's target size of a row group in bytes.
    pub row_group_bytes: usize,
    /// Makes column writers with dictionaries.
    factory: ArrowRowGroupWriterFactory,
    /// Makes column writers without dictionaries.
    factory_without_dictionaries: ArrowRowGroupWriterFactory,
}

impl ParquetLayout {
    /// Creates the layout for rewrites of existing rows, in the columns of `schema`.
    ///
    /// From format version 3 on, files have the row lineage columns, because rewritten rows keep their lineage. Spec: "Row
    /// Lineage".
    ///
    /// # Errors
    ///
    /// Returns [`WriteError::Unwritable`] if a column has a type that no file can hold. Returns [`WriteError::Read`],
    /// [`WriteError::Parquet`] or [`WriteError::Arrow`] if no Parquet schema can be derived.
    pub fn new(metadata: &TableMetadata, schema: Arc<Schema>) -> Result<Arc<Self>> {
        Self::shredded(metadata, schema, Shredding::default())
    }

    /// Creates the layout for rewrites of existing rows, with shredded variants.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`new`](Self::new).
    pub fn shredded(metadata: &TableMetadata, schema: Arc<Schema>, shredding: Shredding) -> Result<Arc<Self>> {
        Self::build(metadata, schema, RowLineage::of_rewrite(metadata), shredding)
    }

    /// Creates the layout for new rows, or for rows of which some keep their lineage.
    pub(crate) fn of(metadata: &TableMetadata, schema: Arc<Schema>, lineage: RowLineage) -> Result<Arc<Self>> {
        Self::build(metadata, schema, lineage, Shredding::default())
    }

    /// Creates a layout.
    fn build(metadata: &TableMetadata, schema: Arc<Schema>, lineage: RowLineage, shredding: Shredding) -> Result<Arc<Self>> {
        check_writable(&schema)?;
        geo_statistics::register_bounders();
        let ids: Vec<i32> = schema.as_struct().fields().iter().map(|f| f.id).collect();
        let columns = target_schema(&schema, &ids)?;
        let arrow = match lineage {
            RowLineage::Kept => with_lineage(&columns),
            RowLineage::Inherited => columns,
        };
        let stored = Arc::new(FileColumns::new(&arrow, shredding)?);
        let columns = &stored.schema;
        let file = uuid_annotation::annotated(&ArrowSchemaConverter::new().convert(columns)?, &schema)?;
        let (writer, row_group_bytes) = properties::properties(metadata, &file);
        // The Arrow schema is left out: it is one writer's view, and copied row groups may come from another writer.
        let factory = |properties: WriterProperties| {
            let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
            let options = options.with_parquet_schema(file.clone());
            ArrowWriter::try_new_with_options(Vec::new(), columns.clone(), options)?.into_serialized_writer()
        };
        let (_, plain) = factory(writer.clone().into_builder().set_dictionary_enabled(false).build())?;
        let (writer, factory) = factory(writer)?;
        let descriptor = writer.schema_descr().clone();
        Ok(Arc::new(Self {
            root: descriptor.root_schema_ptr(),
            descriptor: Arc::new(descriptor),
            properties: writer.properties().clone(),
            modes: ColumnMetricsModes::new(metadata),
            arrow,
            stored,
            schema,
            lineage,
            row_group_bytes,
            factory,
            factory_without_dictionaries: plain,
        }))
    }

    /// Returns the number of leaf columns of the table's rows. The leaves of row lineage come after them.
    pub fn table_leaves(&self) -> usize {
        let lineage = match self.lineage {
            RowLineage::Kept => 2,
            RowLineage::Inherited => 0,
        };
        self.descriptor.num_columns() - lineage
    }

    /// Begins a row group.
    ///
    /// # Errors
    ///
    /// Returns [`WriteError::Parquet`] if Parquet's column writers can't be created.
    pub fn encoder(self: &Arc<Self>) -> Result<RowGroupEncoder> {
        let (writers, undecided_layout) = (self.factory.create_column_writers(0)?, Some(self.clone()));
        Ok(RowGroupEncoder { writers, stored: self.stored.clone(), rows: 0, undecided_layout })
    }

    /// Replaces the writers of the columns for which a dictionary does not pay. `columns` are the first rows, which decide that.
    fn drop_dictionaries(&self, writers: &mut [ArrowColumnWriter], columns: &[ArrayRef]) -> Result<()> {
        let mut plain = None;
        let mut leaf = 0;
        for (field, column) in self.root.get_fields().iter().zip(columns) {
            if field.is_primitive() {
                let limit = self.properties.column_dictionary_page_size_limit(self.descriptor.column(leaf).path());
                if dictionary_overflows(column, limit) {
                    let plain = match &mut plain {
                        Some(plain) => plain,
                        none => none.insert(self.factory_without_dictionaries.create_column_writers(0)?),
                    };
                    std::mem::swap(&mut writers[leaf], &mut plain[leaf]);
                }
            }
            leaf += leaves(field);
        }
        Ok(())
    }

    /// Returns the NaN counts of a row group that is copied, from the manifest entry of its file.
    ///
    /// The counts of a file's only row group are those of the entry. For one row group of several, a count is known only if the
    /// entry has 0; otherwise it is none.
    pub fn nan_counts_of_copy(&self, file: &DataFile, part: CopiedPart) -> NanCounts {
        let whole = part == CopiedPart::WholeFile;
        let floats = self.descriptor.columns().iter().filter(|column| {
            matches!(column.physical_type(), PhysicalType::FLOAT | PhysicalType::DOUBLE) && column.max_rep_level() == 0
        });
        let counted = |id: i32| file.stats(id).and_then(|stats| stats.nan_count);
        let known = |id: i32| (id, counted(id).filter(|n| whole || *n == 0));
        floats.filter_map(|column| leaf_id(column)).map(known).collect()
    }

    /// Begins a row group of only the two row lineage columns, to complete a copied row group.
    ///
    /// # Errors
    ///
    /// Returns [`WriteError::Parquet`] if Parquet's column writers can't be created.
    pub fn lineage_encoder(&self) -> Result<RowGroupEncoder> {
        let writers = self.factory.create_column_writers(0)?.split_off(self.table_leaves());
        let fields: Vec<_> = self.arrow.fields().iter().filter(|f| is_lineage(f)).cloned().collect();
        let stored = FileColumns::new(&Arc::new(arrow::datatypes::Schema::new(fields)), Shredding::default())?;
        Ok(RowGroupEncoder { writers, stored: Arc::new(stored), rows: 0, undecided_layout: None })
    }
}

/// Returns the number of leaf columns of a field.
fn leaves(field: &Type) -> usize {
    if field.is_primitive() { 1 } else { field.get_fields().iter().map(|f| leaves(f)).sum() }
}

/// Checks that a field is a row lineage column.
fn is_lineage(field: &arrow::datatypes::Field) -> bool {
    field_id(field).is_some_and(|id| id == ROW_ID_FIELD_ID || id == LAST_UPDATED_FIELD_ID)
}

/// A row group that is being encoded in memory.
#[expect(missing_debug_implementations, reason = "Parquet's writers have none")]
pub struct RowGroupEncoder {
    writers: Vec<ArrowColumnWriter>,
    stored: Arc<FileColumns>,
    rows: u64,
    /// The layout, until the first rows have decided on dictionaries.
    undecided_layout: Option<Arc<ParquetLayout>>,
}

/// An encoded row group in memory.
#[expect(missing_debug_implementations, reason = "Parquet's writers have none")]
pub struct EncodedGroup {
    /// The column chunks, in the order of the file's leaf columns.
    pub chunks: Vec<ArrowColumnChunk>,
    /// Number of rows.
    pub rows: u64,
}

impl EncodedGroup {
    /// Returns the length of the encoded chunks in bytes.
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|c| c.close().bytes_written).sum()
    }
}

impl RowGroupEncoder {
    /// Encodes a batch. The columns are divided among `threads` threads; if `threads` is below two, the caller's thread encodes
    /// them.
    ///
    /// Blocks until all columns are encoded.
    ///
    /// # Errors
    ///
    /// Returns [`WriteError::Arrow`] or [`WriteError::Parquet`] if a column can't be encoded, and [`WriteError::Panicked`] if an
    /// encoder thread panics.
    pub fn write(&mut self, batch: &RecordBatch, threads: usize) -> Result<()> {
        let columns = self.stored.columns(batch.schema_ref().fields(), batch.columns())?;
        if let Some(shape) = self.undecided_layout.take() {
            shape.drop_dictionaries(&mut self.writers, &columns)?;
        }
        self.rows += batch.num_rows() as u64;
        let mut leaves = Vec::with_capacity(self.writers.len());
        for (field, column) in self.stored.schema.fields().iter().zip(&columns) {
            leaves.extend(compute_leaves(field, column)?);
        }
        let mut work: Vec<_> = self.writers.iter_mut().zip(&leaves).collect();
        if threads < 2 || work.len() < 2 {
            return work.into_iter().try_for_each(|(writer, leaf)| Ok(writer.write(leaf)?));
        }
        let per_lane = work.len().div_ceil(threads);
        std::thread::scope(|scope| {
            let mut handles = Vec::new();
            while !work.is_empty() {
                let lane = work.split_off(work.len().saturating_sub(per_lane));
                handles.push(scope.spawn(move || lane.into_iter().try_for_each(|(writer, leaf)| writer.write(leaf))));
            }
            // All are joined before the first error is returned: a scope passes on the panic of a thread that is not joined.
            let joined: Vec<_> = handles.into_iter().map(ScopedJoinHandle::join).collect();
            joined.into_iter().try_for_each(|joined| panic_as_error(joined)?.map_err(WriteError::from))
        })
    }

    /// Returns the number of rows written.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the estimated length of the row group so far, in bytes.
    pub fn bytes(&self) -> usize {
        self.writers.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum()
    }

    /// Ends the row group.
    ///
    /// # Errors
    ///
    /// Returns [`WriteError::Parquet`] if a column can't be encoded.
    pub fn finish(self) -> Result<EncodedGroup> {
        let chunks = self.writers.into_iter().map(ArrowColumnWriter::close).collect::<std::result::Result<_, _>>()?;
        Ok(EncodedGroup { chunks, rows: self.rows })
    }
}

/// Returns what a thread returned, or its panic as an error.
fn panic_as_error<T>(joined: std::thread::Result<T>) -> Result<T> {
    joined.map_err(|payload| WriteError::Panicked(Panicked::of(payload.as_ref())))
}

/// Adds the NaNs of a batch's float columns to counts by field id, also of columns inside structs.
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
        if let Some(id) = field_id(field) {
            let known = counts.entry(id).or_insert(Some(0));
            *known = known.map(|n| n + nans as u64);
        }
    }
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        count(counts, field, column);
    }
}

/// Adds the NaN counts of `from` to `into`. A count that is unknown (none) in either is unknown in the sum.
///
/// Both maps have an entry for every counted column. Only the map of no rows may be empty.
pub(crate) fn merge_nans(into: &mut NanCounts, from: &NanCounts) {
    for (id, n) in from {
        let known = into.entry(*id).or_insert(Some(0));
        *known = known.zip(*n).map(|(a, b)| a + b);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::array::{Int32Array, NullArray, StructArray};
    use bytes::Bytes;
    use esker_format::{
        DataContentType, DataFileFormat, ListType, NestedField, NestedFieldRef, NewTable, PrimitiveType, StructType, Type, create,
    };
    use esker_types::{Coded, ErrorCode};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::file::writer::SerializedFileWriter;
    use uuid::Uuid;

    use super::*;

    fn field(id: i32, name: &str, ty: impl Into<Type>) -> NestedFieldRef {
        Arc::new(NestedField::optional(id, name, ty))
    }

    fn shape(version: u8, fields: Vec<NestedFieldRef>) -> Result<Arc<ParquetLayout>> {
        let mut new = NewTable::of(Schema::new(0, fields).expect("a schema"), "file:///t");
        new.properties.insert("format-version".to_owned(), version.to_string());
        let metadata = create(new, Uuid::nil(), 0).expect("metadata");
        ParquetLayout::of(&metadata, metadata.current_schema().clone(), RowLineage::Inherited)
    }

    /// A count is unknown if the file's entry lacks it, or if only a part of the file is copied.
    #[test]
    fn what_no_entry_counts_is_unknown_in_the_sum() {
        let inner = StructType::new(vec![field(3, "y", PrimitiveType::Double)]);
        let fields = vec![
            field(1, "x", PrimitiveType::Double),
            field(2, "s", inner),
            field(4, "l", ListType::new(5, PrimitiveType::Double, false)),
            field(6, "n", PrimitiveType::Int),
        ];
        let shape = shape(2, fields).expect("a shape");
        let ids: HashMap<&str, i32> =
            ["x", "s.y", "n"].map(|name| (name, shape.schema.field_by_name(name).expect(name).id)).into();
        let (x, y) = (ids["x"], ids["s.y"]);
        let (whole, part) = (CopiedPart::WholeFile, CopiedPart::OneRowGroup);
        let copied = |counts: &[(i32, i64)], of| {
            let file = DataFile::new(DataContentType::Data, "f", DataFileFormat::Parquet, 9, 1);
            let nan_value_counts = Some(counts.iter().copied().collect());
            shape.nan_counts_of_copy(&DataFile { nan_value_counts, ..file }, of)
        };
        assert_eq!(copied(&[], whole), HashMap::from([(x, None), (y, None)]));
        assert_eq!(copied(&[(x, 2), (y, 0), (ids["n"], 0)], whole), HashMap::from([(x, Some(2)), (y, Some(0))]));
        assert_eq!(copied(&[(x, 2), (y, 0)], part), HashMap::from([(x, None), (y, Some(0))]));

        let mut sum = NanCounts::new();
        merge_nans(&mut sum, &HashMap::from([(x, Some(1)), (y, Some(0))]));
        merge_nans(&mut sum, &copied(&[(x, 2)], whole));
        assert_eq!(sum, HashMap::from([(x, Some(3)), (y, None)]));
    }

    /// Specification, Appendix A, "Parquet": columns of type `unknown` are omitted from data files.
    #[test]
    fn what_is_of_no_type_is_in_no_file() {
        let inner = StructType::new(vec![field(3, "u", PrimitiveType::Unknown), field(4, "x", PrimitiveType::Int)]);
        let fields = vec![field(1, "u", PrimitiveType::Unknown), field(2, "s", inner), field(5, "y", PrimitiveType::Int)];
        let shape = shape(3, fields).expect("a shape");
        let ints = |ints: [Option<i32>; 2]| -> ArrayRef { Arc::new(Int32Array::from(ints.to_vec())) };
        let nothing = || -> ArrayRef { Arc::new(NullArray::new(2)) };
        let DataType::Struct(within) = shape.arrow.field(1).data_type().clone() else { panic!("no struct") };
        let inner = StructArray::new(within, vec![nothing(), ints([Some(1), None])], None);
        let batch = RecordBatch::try_new(shape.arrow.clone(), vec![nothing(), Arc::new(inner), ints([None, Some(7)])]);
        let mut encoder = shape.encoder().expect("an encoder");
        encoder.write(&batch.expect("a batch"), 1).expect("encoded");

        let mut writer = SerializedFileWriter::new(Vec::new(), shape.root.clone(), shape.properties.clone()).expect("a writer");
        let mut group = writer.next_row_group().expect("a row group");
        for chunk in encoder.finish().expect("finished").chunks {
            chunk.append_to_row_group(&mut group).expect("appended");
        }
        group.close().expect("closed");
        let file = SerializedFileReader::new(Bytes::from(writer.into_inner().expect("a file"))).expect("a footer");
        let footer = file.metadata();
        let leaves: Vec<String> = shape.descriptor.columns().iter().map(|column| column.path().string()).collect();
        assert_eq!((leaves, footer.file_metadata().num_rows()), (vec!["s.x".to_owned(), "y".to_owned()], 2));
        let nulls: Vec<_> =
            footer.row_group(0).columns().iter().map(|c| c.statistics().and_then(|s| s.null_count_opt())).collect();
        assert_eq!(nulls, [Some(1), Some(1)]);
    }

    #[test]
    fn the_panic_of_an_encoder_thread_is_an_error_with_its_text() {
        let joined = std::thread::spawn(|| panic!("a bug")).join();
        let error = panic_as_error::<()>(joined).expect_err("a panic");
        assert!(matches!(error, WriteError::Panicked(_)) && error.to_string().contains("a bug"), "{error}");
        assert_eq!(error.code(), ErrorCode::Internal);
    }

    #[test]
    fn what_can_not_be_written_is_refused_with_column_and_type() {
        let error = |fields| shape(3, fields).expect_err("refused").to_string();
        let inner = StructType::new(vec![field(2, "q", PrimitiveType::named("quaternion"))]);
        assert_eq!(error(vec![field(1, "s", inner)]), "column s.q: values of type quaternion can't be written");
        let list = ListType::new(2, PrimitiveType::Unknown, false);
        assert_eq!(error(vec![field(1, "l", list)]), "column l: values of type list<unknown> can't be written");
        assert_eq!(error(vec![field(1, "u", PrimitiveType::Unknown)]), "column u: values of type unknown can't be written");
    }
}
