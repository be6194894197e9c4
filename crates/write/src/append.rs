//! Writes new rows into data files, partition by partition.
//!
//! Each partition has one row group in memory. At the table's row group size the row group is cut: it is encoded and appended to
//! the partition's file. All partitions together hold at most 256 MiB in memory: beyond that the largest row group is cut early.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use esker_format::{DataFile, PartitionSpecRef, TableMetadata};
use esker_read::cast_exactly;
use esker_table::properties::TARGET_FILE_BYTES;
use esker_table::{PartitionKey, data_dir, partition_dir};
use esker_types::format_count;
use uuid::Uuid;

use crate::encode::{ParquetLayout, RowGroupEncoder, RowLineage, count_nans};
use crate::metrics::NanCounts;
use crate::output::{OutputFile, RowGroup, WrittenFile};
use crate::partition_split::Splitter;
use crate::{Destination, Result, WriteError};

/// Greatest number of bytes in row groups in memory, over all partitions.
const OPEN_BYTES: usize = 256 << 20;

/// Takes rows and writes data files with the table's current schema and default partition spec.
///
/// Files are closed at the table's target file size. Nothing is committed.
pub struct Appender {
    destination: Destination,
    layout: Arc<ParquetLayout>,
    spec: PartitionSpecRef,
    splitter: Splitter,
    /// The size in bytes at which a file is closed.
    file_bytes: u64,
    /// The location of the table's data directory.
    prefix: String,
    /// Number of files begun; part of the next file's name.
    files_begun: usize,
    /// The row group in memory and the file of each partition.
    open: HashMap<PartitionKey<'static>, OpenPartition>,
    /// The manifest entries of closed files, with the ids of their partition specs.
    closed_files: Vec<(i32, DataFile)>,
    rows: u64,
}

/// A partition's row group in memory, and the file that it goes into.
struct OpenPartition {
    encoder: RowGroupEncoder,
    nans: NanCounts,
    output: Option<OutputFile>,
}

impl std::fmt::Debug for Appender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Appender").field("prefix", &self.prefix).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl Appender {
    /// Creates an appender for a table as it is now. No file is created yet.
    ///
    /// If rows keep their lineage, batches end with its two columns, as [`with_lineage`](esker_read::with_lineage) places them.
    ///
    /// # Errors
    ///
    /// Returns [`WriteError::Unwritable`] if a column has a type that no file can hold. Returns [`WriteError::Refused`] if rows
    /// can't be partitioned by the spec. Returns [`WriteError::Read`], [`WriteError::Parquet`] or [`WriteError::Arrow`] if no
    /// Parquet schema can be derived.
    pub fn new(metadata: &TableMetadata, destination: Destination, lineage: RowLineage) -> Result<Self> {
        let layout = ParquetLayout::of(metadata, metadata.current_schema().clone(), lineage)?;
        let spec = metadata.default_partition_spec().clone();
        let splitter = Splitter::new(&layout.schema, layout.arrow.fields(), &spec)?;
        let file_bytes = TARGET_FILE_BYTES.of(&metadata.properties);
        Ok(Self {
            destination,
            spec,
            splitter,
            file_bytes,
            prefix: data_dir(metadata),
            files_begun: 0,
            open: HashMap::new(),
            closed_files: Vec::new(),
            rows: 0,
            layout,
        })
    }

    /// Returns the number of rows taken so far.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes a batch of rows.
    ///
    /// Columns are in the table's order; their types must be castable to the table's without changing a value. May write to
    /// storage.
    ///
    /// # Errors
    ///
    /// Returns [`WriteError::Refused`] if the number of columns is wrong or a required column has a null. Also if a value does
    /// not fit its column or its partition field. Returns [`WriteError::Record`], [`WriteError::Storage`] or
    /// [`WriteError::NotAsWritten`] if a file can't be recorded or written. Returns [`WriteError::Read`], [`WriteError::Parquet`]
    /// or [`WriteError::Arrow`] if partitioning or encoding fails.
    pub async fn append(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = self.cast_batch(batch)?;
        self.rows += batch.num_rows() as u64;
        for (partition, rows) in self.splitter.split(&batch)? {
            if !self.open.contains_key(&partition) {
                let fresh = OpenPartition { encoder: self.layout.encoder()?, nans: NanCounts::new(), output: None };
                self.open.insert(partition.clone(), fresh);
            }
            let Some(open) = self.open.get_mut(&partition) else { continue };
            count_nans(&mut open.nans, &rows);
            open.encoder.write(&rows, 1)?;
            if open.encoder.bytes() >= self.layout.row_group_bytes {
                self.cut_row_group(&partition).await?;
            }
        }
        while self.open.values().map(|open| open.encoder.bytes()).sum::<usize>() > OPEN_BYTES {
            let largest = self.open.iter().max_by_key(|(_, open)| open.encoder.bytes());
            let Some(partition) = largest.map(|(partition, _)| partition.clone()) else { break };
            self.cut_row_group(&partition).await?;
        }
        Ok(())
    }

    /// Casts a batch to the table's column types, and checks required columns.
    fn cast_batch(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (wanted, given) = (self.layout.arrow.fields().len(), batch.num_columns());
        if wanted != given {
            return Err(WriteError::Refused(format!(
                "a batch of {} for a table of {wanted}",
                format_count(given as u64, "column")
            )));
        }
        let mut columns = Vec::with_capacity(wanted);
        for (field, column) in self.layout.arrow.fields().iter().zip(batch.columns()) {
            if !field.is_nullable() && column.null_count() > 0 {
                return Err(WriteError::Refused(format!("column {} is required and can't be null", field.name())));
            }
            let cast = cast_exactly(column, field.data_type());
            columns.push(cast.map_err(|e| WriteError::Refused(format!("column {}: {e}", field.name())))?);
        }
        Ok(RecordBatch::try_new(self.layout.arrow.clone(), columns)?)
    }

    /// Encodes a partition's row group into its file, and closes the file at the target size.
    async fn cut_row_group(&mut self, partition: &PartitionKey<'static>) -> Result<()> {
        let fresh = self.layout.encoder()?;
        let Some(open) = self.open.get_mut(partition) else { return Ok(()) };
        let encoder = std::mem::replace(&mut open.encoder, fresh);
        let nans = std::mem::take(&mut open.nans);
        if encoder.rows() == 0 {
            return Ok(());
        }
        let group = encoder.finish()?;
        let mut output = match open.output.take() {
            Some(output) => output,
            None => {
                let dir = partition_dir(&self.spec, partition.values());
                let path = format!("{}/{dir}{}-{}.parquet", self.prefix, Uuid::now_v7(), self.files_begun);
                self.files_begun += 1;
                OutputFile::create(&self.destination, &self.layout, path).await?
            }
        };
        output.append(RowGroup::Encoded(group), &nans).await?;
        match output.bytes() >= self.file_bytes {
            true => {
                let written = output.close().await?;
                self.add_entry(partition, written);
            }
            false => open.output = Some(output),
        }
        Ok(())
    }

    /// Adds the manifest entry of a closed file, with its partition.
    fn add_entry(&mut self, partition: &PartitionKey<'_>, written: WrittenFile) {
        self.closed_files.push((self.spec.spec_id(), DataFile { partition: partition.values().into(), ..written.entry }));
    }

    /// Closes all files and returns their manifest entries, each with the id of its partition spec.
    ///
    /// # Errors
    ///
    /// Returns [`WriteError::Record`], [`WriteError::Storage`] or [`WriteError::NotAsWritten`] if a file can't be recorded or
    /// written, and [`WriteError::Parquet`] if encoding fails.
    pub async fn finish(mut self) -> Result<Vec<(i32, DataFile)>> {
        let partitions: Vec<PartitionKey<'static>> = self.open.keys().cloned().collect();
        for partition in partitions {
            self.cut_row_group(&partition).await?;
            if let Some(output) = self.open.remove(&partition).and_then(|open| open.output) {
                let written = output.close().await?;
                self.add_entry(&partition, written);
            }
        }
        Ok(self.closed_files)
    }
}
