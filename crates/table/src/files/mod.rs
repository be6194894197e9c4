//! The files of a snapshot as plans go over them: data files in columns, manifest by manifest, and of each no more than is asked for.
//!
//! A table may have millions of files. Rows are made only of those that a plan leaves.

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

/// Bytes of all manifests of a snapshot up to which they are decoded as a whole at once: reading them again for columns that are asked
/// for later would take longer.
const SMALL: i64 = 4 << 20;

/// What planning asks about a file, however it is kept.
pub trait Planned {
    /// The id of the partition spec that the file was written by.
    fn spec_id(&self) -> i32;

    /// The values of its partition, in the order of the spec's fields.
    fn partition(&self) -> &[Option<Value>];

    /// How many rows it has, if its writer knew.
    fn rows(&self) -> Option<u64>;

    /// What is said of a column; none if nothing is.
    fn stats(&self, field_id: i32) -> Option<ColumnStats<'_>>;

    /// What identifies its partition.
    fn partition_key(&self) -> PartitionKey<'_> {
        PartitionKey::new(self.spec_id(), self.partition())
    }
}

impl Planned for LiveFile {
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

/// The live files of one snapshot: data files in columns, delete files, which are few, as rows.
#[derive(Debug, Default)]
pub struct SnapshotFiles {
    data: Vec<Part>,
    /// Delete files of every kind.
    pub deletes: Vec<LiveDelete>,
    projection: ManifestProjection,
}

/// The live data files of one manifest.
#[derive(Debug)]
struct Part {
    manifest: ManifestFile,
    batch: Arc<ManifestBatch>,
    /// The entries that are live data files; none if all are.
    rows: Option<Box<[u32]>>,
    /// The values of partitions, of the types that the table has now; none if the manifest has them so.
    partitions: Option<Box<[Tuple]>>,
}

impl Part {
    fn new(metadata: &TableMetadata, manifest: ManifestFile, batch: Arc<ManifestBatch>) -> Self {
        let is_live = |row: &usize| batch.is_alive(*row) && batch.content(*row) == DataContentType::Data;
        let all = (0..batch.len()).all(|row| is_live(&row));
        let rows = (!all).then(|| (0..batch.len()).filter(is_live).map(|row| row as u32).collect());
        let partitions = crate::manifests::partitions(metadata, &manifest, &batch);
        Self { manifest, batch, rows, partitions }
    }

    fn len(&self) -> usize {
        self.rows.as_ref().map_or(self.batch.len(), |rows| rows.len())
    }

    fn rows(&self) -> impl Iterator<Item = u32> {
        some_or_all(self.rows.as_deref(), 0..self.batch.len() as u32)
    }

    fn partition(&self, row: usize) -> &[Option<Value>] {
        match (&self.partitions, self.batch.partition_index(row)) {
            (Some(partitions), Some(at)) => &partitions[at],
            _ => self.batch.partition(row),
        }
    }

    /// An entry as a row, with what `batch` has of it.
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

/// Some entries, or all of a range where none are named.
fn some_or_all(some: Option<&[u32]>, all: Range<u32>) -> impl Iterator<Item = u32> {
    let all = if some.is_some() { 0..0 } else { all };
    some.unwrap_or_default().iter().copied().chain(all)
}

/// One of the data files of [`SnapshotFiles`].
#[derive(Debug, Clone, Copy)]
pub struct FileRef<'a> {
    files: &'a SnapshotFiles,
    part: u32,
    row: u32,
}

impl<'a> FileRef<'a> {
    fn part(self) -> &'a Part {
        &self.files.data[self.part as usize]
    }

    /// The place of the file's entry in its manifest.
    pub(crate) const fn row(self) -> usize {
        self.row as usize
    }

    /// Where it is.
    pub fn path(&self) -> String {
        self.part().batch.path(self.row as usize)
    }

    /// How many bytes it has; 0 if the manifest says that they are fewer than none.
    pub fn size(&self) -> u64 {
        u64::try_from(self.part().batch.file_size_in_bytes(self.row as usize)).unwrap_or(0)
    }

    /// The file as a row, with what was asked for of it.
    pub fn live(&self) -> LiveFile {
        self.part().live(&self.part().batch, self.row as usize)
    }
}

impl Planned for FileRef<'_> {
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
    /// The live files of a snapshot, with what is asked for of data files.
    pub async fn load(
        source: &Manifests,
        metadata: &TableMetadata,
        snapshot: &Snapshot,
        wanted: &ManifestProjection,
    ) -> Result<Self> {
        Self::of(source, metadata, source.list(snapshot).await?, wanted, SMALL).await
    }

    /// The live files of some manifests. Of those that take no more than `small` bytes together all is decoded.
    async fn of(
        source: &Manifests,
        metadata: &TableMetadata,
        manifests: Vec<ManifestFile>,
        wanted: &ManifestProjection,
        small: i64,
    ) -> Result<Self> {
        let bytes = manifests.iter().fold(0_i64, |sum, manifest| sum.saturating_add(manifest.manifest_length));
        let projection = if bytes <= small { ManifestProjection::all() } else { wanted.clone() };
        let all = ManifestProjection::all();
        let wanted = |manifest: &ManifestFile| if manifest.content == ManifestContent::Data { &projection } else { &all };
        let read: Vec<_> = manifests.iter().map(|manifest| source.batch(manifest, wanted(manifest)).boxed()).collect();
        let batches: Vec<_> = futures::stream::iter(read).buffered(MANIFEST_CONCURRENCY).try_collect().await?;
        let mut this = Self { projection: projection.clone(), ..Self::default() };
        for (manifest, batch) in manifests.into_iter().zip(batches) {
            let part = Part::new(metadata, manifest, batch);
            this.add_deletes(&part);
            if part.len() > 0 {
                this.data.push(part);
            }
        }
        Ok(this)
    }

    /// The files that a snapshot's own manifests added, as an append has them.
    pub(crate) async fn added_by(
        source: &Manifests,
        metadata: &TableMetadata,
        snapshot: &Snapshot,
        wanted: &ManifestProjection,
    ) -> Result<Self> {
        let mut manifests = source.list(snapshot).await?;
        let is_own = |m: &ManifestFile| m.content == ManifestContent::Data && m.added_snapshot_id == snapshot.snapshot_id;
        manifests.retain(is_own);
        let mut this = Self::of(source, metadata, manifests, wanted, SMALL).await?;
        for part in &mut this.data {
            let is_added = |row: &u32| part.batch.status(*row as usize) == ManifestStatus::Added;
            part.rows = Some(part.rows().filter(is_added).collect());
        }
        Ok(this)
    }

    fn add_deletes(&mut self, part: &Part) {
        let batch = &part.batch;
        for row in (0..batch.len()).filter(|row| batch.is_alive(*row) && batch.content(*row) != DataContentType::Data) {
            let entry = part.live(batch, row);
            if let Some(kind) = DeleteKind::of(&entry.file) {
                self.deletes.push(LiveDelete { entry, kind });
            }
        }
    }

    /// How many data files there are.
    pub fn len(&self) -> usize {
        self.data.iter().map(Part::len).sum()
    }

    /// Whether there is no data file.
    pub fn is_empty(&self) -> bool {
        self.data.iter().all(|part| part.len() == 0)
    }

    /// The data files.
    pub fn iter(&self) -> impl Iterator<Item = FileRef<'_>> {
        let of = move |part: u32| self.data[part as usize].rows().map(move |row| FileRef { files: self, part, row });
        (0..self.data.len() as u32).flat_map(of)
    }

    /// What it was given.
    pub const fn projection(&self) -> &ManifestProjection {
        &self.projection
    }

    /// Whether it was given all that is asked for.
    pub fn covers(&self, wanted: &ManifestProjection) -> bool {
        self.projection.covers(wanted)
    }

    /// Some of the data files as rows, in their order, with what is asked for of them.
    pub async fn read(&self, source: &Manifests, some: &[FileRef<'_>], wanted: &ManifestProjection) -> Result<Vec<LiveFile>> {
        if self.covers(wanted) {
            return Ok(some.iter().map(FileRef::live).collect());
        }
        let parts: Vec<&[FileRef<'_>]> = some.chunk_by(|a, b| a.part == b.part).collect();
        let batches: Vec<_> = parts.iter().map(|files| source.batch(&files[0].part().manifest, wanted).boxed()).collect();
        let mut batches = futures::stream::iter(batches).buffered(MANIFEST_CONCURRENCY);
        let mut rows = Vec::with_capacity(some.len());
        for files in &parts {
            // A manifest's columns are let go of once its rows are made.
            if let Some(batch) = batches.try_next().await? {
                rows.extend(files.iter().map(|file| file.part().live(&batch, file.row as usize)));
            }
        }
        Ok(rows)
    }

    /// The bytes of memory that it takes, about.
    pub fn memory(&self) -> usize {
        let delete = |delete: &LiveDelete| size_of::<LiveDelete>() + delete.entry.file.memory();
        self.data.iter().map(Part::memory).sum::<usize>() + self.deletes.iter().map(delete).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use esker_format::{
        AvroCodec, BoundBytes, Columns, DataFile, DataFileFormat, ManifestEntry, ManifestListWriter, ManifestWriter, NewManifest,
        NewManifestList,
    };
    use esker_storage::Storage;
    use futures::executor::block_on;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{Expr, load_live, plan_scan, projection, residual};

    const SNAPSHOT: i64 = 7;

    /// A table whose `id` was an int when its files were written, and partitions them by `p`, which was one as well.
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

    /// Writes the manifests of a snapshot, those of data files and those of delete files apart.
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

        /// Files in columns are the files as rows, whatever of them is asked for first: the same files are planned, with the same
        /// deletes and the same residuals.
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
                SnapshotFiles::of(source, &metadata, source.list(snapshot).await?, wanted, small).await
            };
            if warm {
                block_on(load(&ManifestProjection::paths(), 0)).expect("files");
            }
            let (wanted, small) = (projection(&filter, []), if all { SMALL } else { 0 });
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
            // Rows of some have what is asked for of them, whatever the plan asked for.
            let some: Vec<FileRef<'_>> = files.iter().step_by(2).collect();
            let columns = ManifestProjection::reading(Columns::of([1]));
            let rows = block_on(files.read(source, &some, &columns)).expect("rows");
            for (row, file) in rows.iter().zip(live.data.iter().step_by(2)) {
                prop_assert_eq!(row.file.stats(1), file.file.stats(1));
                prop_assert_eq!((row.sequence_number, &row.file.file_path), (file.sequence_number, &file.file.file_path));
            }
            prop_assert_eq!(rows.len(), some.len());
        }
    }
}
