//! The files of a snapshot in the form that scan plans use: data files as columns, manifest by manifest.
//!
//! A table may have millions of files. A manifest is decoded only into the fields that the plan asks for ([`ManifestProjection`]).
//! A row ([`LiveFile`]) is made only of a file that the plan keeps. Delete files are few, so all of them are made into rows. A
//! [`FileRef`] addresses a file by the position of its manifest and of its entry. Start reading at [`SnapshotFiles`]; `runs` groups
//! files by partition.

use std::ops::Range;
use std::sync::Arc;

use esker_format::{
    ColumnStats, DataContentType, ManifestBatch, ManifestContent, ManifestFile, ManifestProjection, ManifestStatus, Snapshot,
    TableMetadata, Tuple, Value,
};
use futures::FutureExt;
use futures::stream::{StreamExt, TryStreamExt};

use crate::live::MANIFEST_CONCURRENCY;
use crate::{DeleteKind, LiveDelete, LiveFile, Manifests, PartitionKey, Result};

mod runs;

pub(crate) use runs::Run;

/// The total size in bytes of a snapshot's manifests up to which all fields are decoded at once.
///
/// Reading small manifests again for other columns later would take longer.
const SMALL_MANIFESTS_BYTES: i64 = 4 << 20;

/// The properties of a data file that planning needs. Rows ([`LiveFile`]), columns ([`FileRef`]) and manifest entries have them.
pub trait PlannableFile {
    /// Returns the id of the partition spec that the file was written under.
    fn spec_id(&self) -> i32;

    /// Returns the values of the file's partition, in the order of the spec's fields and with the types that the table has now.
    fn partition(&self) -> &[Option<Value>];

    /// Returns the number of rows in the file, or `None` if it is unknown.
    fn rows(&self) -> Option<u64>;

    /// Returns the statistics of a column (by field id), or `None` if the manifest has none.
    fn stats(&self, field_id: i32) -> Option<ColumnStats<'_>>;

    /// Returns the key of the file's partition.
    fn partition_key(&self) -> PartitionKey<'_> {
        PartitionKey::new(self.spec_id(), self.partition())
    }
}

impl PlannableFile for LiveFile {
    fn spec_id(&self) -> i32 {
        self.spec_id
    }

    fn partition(&self) -> &[Option<Value>] {
        &self.file.partition
    }

    fn rows(&self) -> Option<u64> {
        self.file.rows()
    }

    fn stats(&self, field_id: i32) -> Option<ColumnStats<'_>> {
        self.file.stats(field_id)
    }
}

/// The live files of one snapshot: data files as columns, and delete files, which are few, as rows.
#[derive(Debug, Default)]
pub struct SnapshotFiles {
    data: Vec<ManifestPart>,
    /// The delete files of every kind, in the order of the manifests, with all fields.
    pub deletes: Vec<LiveDelete>,
    /// The fields that were decoded of the data files.
    projection: ManifestProjection,
}

/// The live data files of one manifest.
#[derive(Debug)]
struct ManifestPart {
    manifest: ManifestFile,
    batch: Arc<ManifestBatch>,
    /// The positions in `batch` of the entries that are live data files; `None` if all entries are.
    rows: Option<Box<[u32]>>,
    /// The partitions with the types that the table has now, by [`ManifestBatch::partition_index`]; `None` if the batch has these
    /// types.
    partitions: Option<Box<[Tuple]>>,
}

impl ManifestPart {
    fn new(metadata: &TableMetadata, manifest: ManifestFile, batch: Arc<ManifestBatch>) -> Self {
        let is_live = |row: &usize| batch.is_alive(*row) && batch.content(*row) == DataContentType::Data;
        let all = (0..batch.len()).all(|row| is_live(&row));
        let rows = (!all).then(|| (0..batch.len()).filter(is_live).map(|row| row as u32).collect());
        let partitions = crate::manifests::converted_partitions(metadata, &manifest, &batch);
        Self { manifest, batch, rows, partitions }
    }

    fn len(&self) -> usize {
        self.rows.as_ref().map_or(self.batch.len(), |rows| rows.len())
    }

    fn rows(&self) -> impl Iterator<Item = u32> {
        selected_or_all(self.rows.as_deref(), 0..self.batch.len() as u32)
    }

    fn partition(&self, row: usize) -> &[Option<Value>] {
        match (&self.partitions, self.batch.partition_index(row)) {
            (Some(partitions), Some(at)) => &partitions[at],
            _ => self.batch.partition(row),
        }
    }

    /// Makes a row of an entry, with the fields that `batch` has: another decoding of the same manifest may have more of them.
    fn live(&self, batch: &ManifestBatch, row: usize) -> LiveFile {
        let mut live = LiveFile::of(&self.manifest, batch.entry(row));
        if self.partitions.is_some() {
            live.file.partition = self.partition(row).into();
        }
        live
    }

    fn memory(&self) -> usize {
        let values = |tuple: &Tuple| size_of::<Tuple>() + size_of_val::<[_]>(tuple);
        let partitions = self.partitions.iter().flatten().map(values).sum::<usize>();
        size_of::<Self>() + self.batch.memory() + self.rows.as_ref().map_or(0, |rows| 4 * rows.len()) + partitions
    }
}

/// Iterates over the given positions, or over the whole range if they are `None`.
fn selected_or_all(some: Option<&[u32]>, all: Range<u32>) -> impl Iterator<Item = u32> {
    let all = if some.is_some() { 0..0 } else { all };
    some.unwrap_or_default().iter().copied().chain(all)
}

/// A reference to one of the data files of [`SnapshotFiles`].
#[derive(Debug, Clone, Copy)]
pub struct FileRef<'a> {
    files: &'a SnapshotFiles,
    part: u32,
    row: u32,
}

impl<'a> FileRef<'a> {
    fn part(self) -> &'a ManifestPart {
        &self.files.data[self.part as usize]
    }

    /// Returns the position of the file's entry in its manifest.
    pub(crate) const fn row(self) -> usize {
        self.row as usize
    }

    /// Returns the location of the file.
    pub fn path(&self) -> String {
        self.part().batch.path(self.row as usize)
    }

    /// Returns the size of the file in bytes; 0 if the manifest gives a negative size.
    pub fn size(&self) -> u64 {
        u64::try_from(self.part().batch.file_size_in_bytes(self.row as usize)).unwrap_or(0)
    }

    /// Makes a row of the file, with the fields that were decoded.
    pub fn live(&self) -> LiveFile {
        self.part().live(&self.part().batch, self.row as usize)
    }
}

impl PlannableFile for FileRef<'_> {
    fn spec_id(&self) -> i32 {
        self.part().manifest.partition_spec_id
    }

    fn partition(&self) -> &[Option<Value>] {
        self.part().partition(self.row as usize)
    }

    fn rows(&self) -> Option<u64> {
        self.part().batch.rows(self.row as usize)
    }

    fn stats(&self, field_id: i32) -> Option<ColumnStats<'_>> {
        self.part().batch.stats(self.row as usize, field_id)
    }
}

impl SnapshotFiles {
    /// Loads the live files of a snapshot, with at least the fields of `wanted` of the data files.
    ///
    /// # Errors
    ///
    /// - Returns [`TableError::File`](crate::TableError::File) if the manifest list or a manifest cannot be read or decoded.
    /// - Returns [`TableError::Unsupported`](crate::TableError::Unsupported) if one of them is encrypted.
    /// - Returns [`TableError::Invalid`](crate::TableError::Invalid) if the snapshot names neither a manifest list nor manifests.
    pub async fn load(
        source: &Manifests,
        metadata: &TableMetadata,
        snapshot: &Snapshot,
        wanted: &ManifestProjection,
    ) -> Result<Self> {
        Self::load_manifests(source, metadata, source.list(snapshot).await?, wanted, SMALL_MANIFESTS_BYTES).await
    }

    /// Loads the live files of the given manifests. If these take at most `decode_all_up_to_bytes` bytes together, all fields are
    /// decoded.
    async fn load_manifests(
        source: &Manifests,
        metadata: &TableMetadata,
        manifests: Vec<ManifestFile>,
        wanted: &ManifestProjection,
        decode_all_up_to_bytes: i64,
    ) -> Result<Self> {
        let bytes = manifests.iter().fold(0_i64, |sum, manifest| sum.saturating_add(manifest.manifest_length));
        let projection = if bytes <= decode_all_up_to_bytes { ManifestProjection::all() } else { wanted.clone() };
        let all = ManifestProjection::all();
        let wanted = |manifest: &ManifestFile| if manifest.content == ManifestContent::Data { &projection } else { &all };
        let read: Vec<_> = manifests.iter().map(|manifest| source.batch(manifest, wanted(manifest)).boxed()).collect();
        let batches: Vec<_> = futures::stream::iter(read).buffered(MANIFEST_CONCURRENCY).try_collect().await?;
        let mut this = Self { projection: projection.clone(), ..Self::default() };
        for (manifest, batch) in manifests.into_iter().zip(batches) {
            let part = ManifestPart::new(metadata, manifest, batch);
            this.add_deletes(&part);
            if part.len() > 0 {
                this.data.push(part);
            }
        }
        Ok(this)
    }

    /// Loads the data files that an append added. These are the files with status `ADDED` in the manifests that the append wrote.
    pub(crate) async fn added_by(
        source: &Manifests,
        metadata: &TableMetadata,
        snapshot: &Snapshot,
        wanted: &ManifestProjection,
    ) -> Result<Self> {
        let mut manifests = source.list(snapshot).await?;
        let is_own = |m: &ManifestFile| m.content == ManifestContent::Data && m.added_snapshot_id == snapshot.snapshot_id;
        manifests.retain(is_own);
        let mut this = Self::load_manifests(source, metadata, manifests, wanted, SMALL_MANIFESTS_BYTES).await?;
        for part in &mut this.data {
            let is_added = |row: &u32| part.batch.status(*row as usize) == ManifestStatus::Added;
            part.rows = Some(part.rows().filter(is_added).collect());
        }
        Ok(this)
    }

    /// Adds the live delete files of a manifest.
    fn add_deletes(&mut self, part: &ManifestPart) {
        let batch = &part.batch;
        for row in (0..batch.len()).filter(|row| batch.is_alive(*row) && batch.content(*row) != DataContentType::Data) {
            let entry = part.live(batch, row);
            if let Some(kind) = DeleteKind::of(&entry.file) {
                self.deletes.push(LiveDelete { entry, kind });
            }
        }
    }

    /// Returns the number of data files.
    pub fn len(&self) -> usize {
        self.data.iter().map(ManifestPart::len).sum()
    }

    /// Returns true if there is no data file.
    pub fn is_empty(&self) -> bool {
        self.data.iter().all(|part| part.len() == 0)
    }

    /// Iterates over the data files, in the order of the manifests.
    pub fn iter(&self) -> impl Iterator<Item = FileRef<'_>> {
        let of = move |part: u32| self.data[part as usize].rows().map(move |row| FileRef { files: self, part, row });
        (0..self.data.len() as u32).flat_map(of)
    }

    /// Returns the fields that were decoded of the data files.
    pub const fn projection(&self) -> &ManifestProjection {
        &self.projection
    }

    /// Checks that all fields of `wanted` were decoded.
    pub fn covers(&self, wanted: &ManifestProjection) -> bool {
        self.projection.covers(wanted)
    }

    /// Makes rows of some of these data files, in the order of `some`, with at least the fields of `wanted`.
    ///
    /// It reads manifests again if a field was not decoded. `some` should have the files of a manifest next to each other, so that
    /// each manifest is read once.
    ///
    /// # Errors
    ///
    /// - Returns [`TableError::File`](crate::TableError::File) if a manifest cannot be read or decoded.
    /// - Returns [`TableError::Unsupported`](crate::TableError::Unsupported) if one is encrypted.
    pub async fn read(&self, source: &Manifests, some: &[FileRef<'_>], wanted: &ManifestProjection) -> Result<Vec<LiveFile>> {
        if self.covers(wanted) {
            return Ok(some.iter().map(FileRef::live).collect());
        }
        let parts: Vec<&[FileRef<'_>]> = some.chunk_by(|a, b| a.part == b.part).collect();
        let batches: Vec<_> = parts.iter().map(|files| source.batch(&files[0].part().manifest, wanted).boxed()).collect();
        let mut batches = futures::stream::iter(batches).buffered(MANIFEST_CONCURRENCY);
        let mut rows = Vec::with_capacity(some.len());
        for files in &parts {
            // Only the manifests in flight are in memory: each batch is dropped when its rows are made.
            if let Some(batch) = batches.try_next().await? {
                rows.extend(files.iter().map(|file| file.part().live(&batch, file.row as usize)));
            }
        }
        Ok(rows)
    }

    /// Estimates the memory that the files take, in bytes.
    pub fn memory(&self) -> usize {
        let delete = |delete: &LiveDelete| size_of::<LiveDelete>() + delete.entry.file.memory();
        self.data.iter().map(ManifestPart::memory).sum::<usize>() + self.deletes.iter().map(delete).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use esker_format::{
        AvroCodec, BoundBytes, ColumnSet, DataFile, DataFileFormat, ManifestEntry, ManifestListWriter, ManifestWriter,
        NewManifest, NewManifestList,
    };
    use esker_storage::Storage;
    use futures::executor::block_on;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{Expr, load_live, plan_scan, projection, residual};

    /// The id of the table's only snapshot.
    const SNAPSHOT: i64 = 7;

    /// Creates a table that is partitioned by `p`. Its columns are of the type `long` if `widened`, and else `int`.
    fn metadata(dir: &str, widened: bool) -> TableMetadata {
        let ty = if widened { "long" } else { "int" };
        let schema = |id: i32, ty: &str| {
            let field = |id: i32, name: &str| json!({"id": id, "name": name, "required": false, "type": ty});
            json!({"type": "struct", "schema-id": id, "fields": [field(1, "id"), field(2, "p"), field(3, "other")]})
        };
        let json = json!({
            "format-version": 2, "table-uuid": "8d1c5a5e-0000-4000-8000-000000000000", "location": format!("file://{dir}"),
            "last-sequence-number": 9, "last-updated-ms": 1, "last-column-id": 3, "current-schema-id": 0,
            "schemas": [schema(0, ty)], "default-spec-id": 0, "last-partition-id": 1000,
            "partition-specs": [{"spec-id": 0, "fields": [{"source-id": 2, "field-id": 1000, "name": "p", "transform": "identity"}]}],
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}], "current-snapshot-id": SNAPSHOT,
            "snapshots": [{"snapshot-id": SNAPSHOT, "sequence-number": 9, "timestamp-ms": 1, "schema-id": 0,
                "summary": {"operation": "append"}, "manifest-list": format!("file://{dir}/list.avro")}],
            "refs": {"main": {"snapshot-id": SNAPSHOT, "type": "branch"}},
        });
        TableMetadata::from_json(json.to_string().as_bytes()).expect("metadata")
    }

    /// The random properties of a manifest entry.
    #[derive(Debug, Clone)]
    struct Entry {
        delete: bool,
        removed: bool,
        partition: Option<i32>,
        sequence_number: i64,
        low: i32,
        width: i32,
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let numbers = (prop::option::weighted(0.9, 0_i32..3), 1_i64..9, 0_i32..20, 0_i32..5);
        (prop::bool::weighted(0.2), prop::bool::weighted(0.2), numbers).prop_map(
            |(delete, removed, (partition, sequence_number, low, width))| Entry {
                delete,
                removed,
                partition,
                sequence_number,
                low,
                width,
            },
        )
    }

    fn file(at: usize, entry: &Entry) -> DataFile {
        let content = if entry.delete { DataContentType::EqualityDeletes } else { DataContentType::Data };
        let of = |value: i32| Some([(1, BoundBytes::of(&Value::Int(value)).expect("a bound"))].into_iter().collect());
        DataFile {
            partition: [entry.partition.map(Value::Int)].into(),
            equality_ids: entry.delete.then(|| vec![1]),
            value_counts: Some([(1, 10), (3, 10)].into_iter().collect()),
            null_value_counts: Some([(1, 0), (3, 10)].into_iter().collect()),
            lower_bounds: of(entry.low),
            upper_bounds: of(entry.low + entry.width),
            split_offsets: Some(vec![4]),
            ..DataFile::new(content, format!("file:///t/{at}"), DataFileFormat::Parquet, 10, 1)
        }
    }

    /// Writes the manifests of a snapshot, separate ones for data files and for delete files.
    fn written(metadata: &TableMetadata, dir: &str, storage: &Storage, manifests: &[Vec<Entry>]) {
        let (format_version, sequence_number, codec) = (2, 9, AvroCodec::default());
        let new = NewManifestList {
            format_version,
            snapshot_id: SNAPSHOT,
            parent_snapshot_id: None,
            sequence_number,
            first_row_id: None,
            codec,
        };
        let mut list = ManifestListWriter::new(new).expect("a list");
        for (i, entries) in manifests.iter().enumerate() {
            for delete in [false, true] {
                let content = if delete { ManifestContent::Deletes } else { ManifestContent::Data };
                let (schema, spec) = (metadata.current_schema(), metadata.default_partition_spec());
                let (types, snapshot_id) = (&metadata.partition_types(0), Some(SNAPSHOT));
                let new = NewManifest { format_version, content, schema, spec, types, snapshot_id, codec };
                let mut writer = ManifestWriter::new(&new).expect("a writer");
                let mut empty = true;
                for (j, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.delete == delete) {
                    let file = file(100 * i + j, entry);
                    let status = if entry.removed { ManifestStatus::Deleted } else { ManifestStatus::Existing };
                    let sequence_number = Some(entry.sequence_number);
                    let entry = ManifestEntry {
                        status,
                        snapshot_id: Some(3),
                        sequence_number,
                        file_sequence_number: sequence_number,
                        data_file: file,
                    };
                    match status {
                        ManifestStatus::Deleted => writer.deleted(&entry),
                        _ => writer.existing(&entry),
                    }
                    .expect("written");
                    empty = false;
                }
                if !empty {
                    let path = format!("file://{dir}/{i}-{delete}.avro");
                    let (bytes, manifest) = writer.finish(path.clone()).expect("a manifest");
                    block_on(storage.write(&path, bytes.into())).expect("written");
                    list.add(&manifest).expect("listed");
                }
            }
        }
        block_on(storage.write(&format!("file://{dir}/list.avro"), list.finish().expect("a list").into())).expect("written");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Checks that plans over columns and plans over rows have the same files, deletes and residuals. This holds whatever
        /// fields were decoded before (`warm`), and whether all fields are decoded (`all`). The files were written as `int`.
        #[test]
        fn plans_over_columns_are_plans_over_rows(
            manifests in prop::collection::vec(prop::collection::vec(entry(), 0..6), 0..4),
            low in 0_i32..22, partition in 0_i32..3, widened: bool, warm: bool, all: bool,
        ) {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().display().to_string();
            let storage = Storage::local();
            written(&metadata(&path, false), &path, &storage, &manifests);
            let metadata = metadata(&path, widened);
            let snapshot = metadata.current_snapshot().expect("a snapshot");
            let schema = metadata.current_schema();
            let filter = json!({"type": "and", "left": {"type": "gt-eq", "term": "id", "value": low},
                "right": {"type": "or", "left": {"type": "eq", "term": "p", "value": partition}, "right": {"type": "not-null", "term": "other"}}});
            let filter = Expr::parse(&filter, schema, true).expect("a filter");
            let live = block_on(load_live(&Manifests::new(storage.clone(), 1 << 20), &metadata, snapshot)).expect("live files");

            let source = &Manifests::new(storage, 1 << 20);
            let load = async |wanted: &ManifestProjection, small: i64| {
                SnapshotFiles::load_manifests(source, &metadata, source.list(snapshot).await?, wanted, small).await
            };
            if warm {
                block_on(load(&ManifestProjection::paths(), 0)).expect("files");
            }
            let (wanted, small) = (projection(&filter, []), if all { SMALL_MANIFESTS_BYTES } else { 0 });
            let files = block_on(load(&wanted, small)).expect("files");
            prop_assert_eq!(files.len(), live.data.len());
            let plan = plan_scan(&metadata, schema, &files, &filter, None).expect("a plan");
            let index = crate::DeleteIndex::new(&live.deletes, &metadata).expect("an index");
            let spec = metadata.default_partition_spec();
            let left = |file: &LiveFile| residual(&filter, schema, spec, file);
            let expected: Vec<_> = live.data.iter().filter(|file| left(file) != Expr::False).collect();
            prop_assert_eq!(plan.tasks.len(), expected.len());
            for (task, file) in plan.tasks.iter().zip(&expected) {
                prop_assert_eq!(&task.file.file_path, &file.file.file_path);
                prop_assert_eq!((&task.file.partition, task.spec_id), (&file.file.partition, file.spec_id));
                prop_assert_eq!(&task.file.split_offsets, &file.file.split_offsets);
                prop_assert_eq!(&*task.residual, &left(file));
                let deletes = task.deletes.iter().map(|at| plan.deletes[*at].1.file_path.clone());
                let needed = index.all(file).into_iter().map(|at| live.deletes[at].entry.file.file_path.clone());
                prop_assert_eq!(deletes.collect::<Vec<_>>(), needed.collect::<Vec<_>>());
            }
            // Rows have the fields that are asked for, even if the plan asked for others.
            let some: Vec<FileRef<'_>> = files.iter().step_by(2).collect();
            let columns = ManifestProjection::reading(ColumnSet::of([1]));
            let rows = block_on(files.read(source, &some, &columns)).expect("rows");
            for (row, file) in rows.iter().zip(live.data.iter().step_by(2)) {
                prop_assert_eq!(row.file.stats(1), file.file.stats(1));
                prop_assert_eq!((row.sequence_number, &row.file.file_path), (file.sequence_number, &file.file.file_path));
            }
            prop_assert_eq!(rows.len(), some.len());
        }
    }
}
