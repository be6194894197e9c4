//! Writes manifests and manifest lists, and commits snapshots: the one way in which files become part of a test's table.

use std::collections::{BTreeMap, HashSet};

use esker_format::{
    AvroCodec, DataContentType, DataFile, DataFileFormat, ManifestContent, ManifestFile, ManifestListWriter, ManifestWriter,
    NewManifest, NewManifestList, TableMetadata,
};
use esker_storage::Storage;
use esker_table::{Manifests, load_manifests};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::TestTable;

/// The files that one commit adds, each with the id of its partition spec, and the files that it removes.
#[derive(Debug, Default)]
pub(super) struct Additions {
    pub(super) data: Vec<(i32, DataFile)>,
    pub(super) deletes: Vec<(i32, DataFile)>,
    /// Data files, and deletion vectors that new ones replace, by path and offset.
    pub(super) replaced: HashSet<(String, Option<i64>)>,
}

impl Additions {
    /// Returns data files and delete files of the table's present partition spec.
    pub(super) fn of(
        metadata: &TableMetadata,
        data: impl IntoIterator<Item = DataFile>,
        deletes: impl IntoIterator<Item = DataFile>,
    ) -> Self {
        let of_spec = |file| (metadata.default_spec_id, file);
        let (data, deletes) = (data.into_iter().map(of_spec).collect(), deletes.into_iter().map(of_spec).collect());
        Self { data, deletes, ..Self::default() }
    }
}

/// A commit whose files are written and that was not sent yet.
#[derive(Debug, Clone)]
pub struct PreparedCommit {
    pub(super) body: Value,
    /// The paths of everything that was written for it.
    written: Vec<String>,
}

impl PreparedCommit {
    /// Writes an append of one data file that does not exist, on the head of `main`, without sending it.
    ///
    /// The table has no partitions. This is for clients of servers that are no [`TestApp`](crate::TestApp).
    pub async fn light_append(storage: &Storage, metadata: &TableMetadata) -> Self {
        let mut draft = DraftSnapshot::new(storage, metadata);
        let mut manifests = Vec::new();
        if let Some(parent) = metadata.current_snapshot() {
            manifests = load_manifests(&Manifests::new(storage.clone(), 0), parent).await.expect("manifests");
        }
        let mut out = draft.manifest(metadata.default_spec_id, ManifestContent::Data);
        out.added(&missing_data_file(metadata, &draft.name.to_string()), None).expect("added");
        manifests.insert(0, draft.write(out).await);
        let snapshot = draft.snapshot(&manifests, json!({"operation": "append", "added-data-files": "1"})).await;
        let uuid = metadata.table_uuid.expect("a UUID").to_string();
        Self { body: commit_body(metadata, &snapshot, draft.id), written: draft.written }.asserting(&uuid)
    }

    /// Returns the body of the commit's request.
    pub fn body(&self) -> &Value {
        &self.body
    }
}

impl TestTable<'_> {
    /// Commits data files and delete files of the table's present partition spec, in one snapshot.
    pub async fn add(&self, data: impl IntoIterator<Item = DataFile>, deletes: impl IntoIterator<Item = DataFile>) {
        let metadata = self.metadata().await;
        let additions = Additions::of(&metadata, data, deletes);
        let operation = if additions.deletes.is_empty() { "append" } else { "overwrite" };
        assert!(self.try_commit(&metadata, additions, operation).await, "nobody else commits");
    }

    /// Sends a prepared commit, which must succeed. Returns the answer.
    pub async fn commit(&self, prepared: &PreparedCommit) -> Value {
        self.app.ok(Method::POST, &self.path(), Some(prepared.body.clone())).await
    }

    /// Commits to the head of `main`. Returns false if another writer was first; then the written files are removed.
    pub(super) async fn try_commit(&self, metadata: &TableMetadata, additions: Additions, operation: &str) -> bool {
        let prepared = self.prepare(metadata, additions, operation).await;
        let (status, answer) = self.app.send(Method::POST, &self.path(), Some(prepared.body)).await;
        assert!(status.is_success() || status.as_u16() == 409, "{answer}");
        if !status.is_success() {
            // Engines also remove the files of a commit that failed.
            for path in prepared.written {
                self.storage.remove(&path).await.expect("removed");
            }
        }
        status.is_success()
    }

    /// Writes a snapshot that follows the head of `main`.
    pub(super) async fn prepare(&self, metadata: &TableMetadata, additions: Additions, operation: &str) -> PreparedCommit {
        let mut draft = DraftSnapshot::new(&self.storage, metadata);
        let mut manifests = Vec::new();
        if let Some(parent) = metadata.current_snapshot() {
            manifests = load_manifests(&self.manifests(), parent).await.expect("manifests");
        }
        if !additions.replaced.is_empty() {
            manifests = self.without(&mut draft, manifests, &additions.replaced).await;
        }
        let counts = (additions.data.len(), additions.deletes.len());
        let mut written = Vec::new();
        for (content, files) in [(ManifestContent::Data, additions.data), (ManifestContent::Deletes, additions.deletes)] {
            let mut by_spec: BTreeMap<i32, Vec<DataFile>> = BTreeMap::new();
            for (spec, file) in files {
                written.push(file.file_path.clone());
                by_spec.entry(spec).or_default().push(file);
            }
            for (spec, files) in by_spec {
                let mut out = draft.manifest(spec, content);
                files.iter().for_each(|file| out.added(file, None).expect("added"));
                manifests.insert(0, draft.write(out).await);
            }
        }
        let summary = json!({"operation": operation, "added-data-files": counts.0.to_string(),
            "added-delete-files": counts.1.to_string()});
        let snapshot = draft.snapshot(&manifests, summary).await;
        written.append(&mut draft.written);
        PreparedCommit { body: commit_body(metadata, &snapshot, draft.id), written }
    }

    /// Writes a commit of data files and delete files of the table's present partition spec, without sending it.
    pub async fn prepare_add(
        &self,
        data: impl IntoIterator<Item = DataFile>,
        deletes: impl IntoIterator<Item = DataFile>,
    ) -> PreparedCommit {
        let metadata = self.metadata().await;
        let additions = Additions::of(&metadata, data, deletes);
        let operation = if additions.deletes.is_empty() { "append" } else { "overwrite" };
        self.prepare(&metadata, additions, operation).await
    }

    /// Writes a commit of a snapshot whose manifest list names the manifests of another table, without sending it.
    pub async fn prepare_manifests_of(&self, other: &TestTable<'_>) -> PreparedCommit {
        let (metadata, theirs) = (self.metadata().await, other.metadata().await);
        let snapshot = theirs.current_snapshot().expect("a snapshot");
        let manifests = load_manifests(&self.manifests(), snapshot).await.expect("manifests");
        let mut draft = DraftSnapshot::new(&self.storage, &metadata);
        let snapshot = draft.snapshot(&manifests, json!({"operation": "overwrite"})).await;
        PreparedCommit { body: commit_body(&metadata, &snapshot, draft.id), written: draft.written }
    }

    /// Rewrites the manifests that have a replaced file, with that marked as deleted. Returns all manifests.
    async fn without(
        &self,
        draft: &mut DraftSnapshot<'_>,
        manifests: Vec<ManifestFile>,
        replaced: &HashSet<(String, Option<i64>)>,
    ) -> Vec<ManifestFile> {
        let mut kept = Vec::new();
        for file in manifests {
            let manifest = self.manifests().load(draft.metadata, &file).await.expect("a manifest");
            let live: Vec<_> = manifest.entries.iter().filter(|entry| entry.is_alive()).collect();
            let goes = |file: &DataFile| replaced.contains(&(file.file_path.clone(), file.content_offset));
            if !live.iter().any(|entry| goes(&entry.data_file)) {
                kept.push(file);
                continue;
            }
            let mut out = draft.manifest(file.partition_spec_id, file.content);
            for entry in live {
                match goes(&entry.data_file) {
                    true => out.deleted(entry).expect("added"),
                    false => out.existing(entry).expect("added"),
                }
            }
            kept.push(draft.write(out).await);
        }
        kept
    }

    /// Gives the table `n` snapshots, with one registration in place of `n` commits.
    ///
    /// Each snapshot replaces the data files of its parent, `files` of them, by others. The data files do not exist.
    pub async fn long_history(&self, n: i64, files: usize) {
        let mut metadata = self.metadata().await;
        let mut json = serde_json::to_value(&metadata).expect("JSON");
        let began = esker_types::now_ms() - n - 1000;
        let (mut snapshots, mut log) = (Vec::new(), Vec::new());
        for at in 1..=n {
            let mut draft = DraftSnapshot::new(&self.storage, &metadata);
            let mut writer = draft.manifest(metadata.default_spec_id, ManifestContent::Data);
            for i in 0..files {
                writer.added(&missing_data_file(&metadata, &format!("{at}-{i}")), None).expect("added");
            }
            let manifest = draft.write(writer).await;
            let mut snapshot = draft.snapshot(&[manifest], json!({"operation": "overwrite"})).await;
            snapshot["timestamp-ms"] = (began + at).into();
            log.push(json!({"snapshot-id": draft.id, "timestamp-ms": began + at}));
            snapshots.push(snapshot);
            (metadata.current_snapshot_id, metadata.last_sequence_number) = (Some(draft.id), at);
        }
        (json["snapshots"], json["snapshot-log"]) = (snapshots.into(), log.into());
        (json["current-snapshot-id"], json["last-sequence-number"]) = (json!(metadata.current_snapshot_id), n.into());
        json["refs"] = json!({"main": {"type": "branch", "snapshot-id": metadata.current_snapshot_id}});
        json["last-updated-ms"] = esker_types::now_ms().into();
        self.replace_metadata(&json).await;
    }
}

/// Returns the body of a commit that moves `main` to a new snapshot.
fn commit_body(metadata: &TableMetadata, snapshot: &Value, id: i64) -> Value {
    json!({
        "requirements": [
            {"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": metadata.current_snapshot_id},
            {"type": "assert-current-schema-id", "current-schema-id": metadata.current_schema_id},
        ],
        "updates": [
            {"action": "add-snapshot", "snapshot": snapshot},
            {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": id},
        ],
    })
}

/// Returns the entry of a data file of one row that does not exist.
pub(super) fn missing_data_file(metadata: &TableMetadata, name: &str) -> DataFile {
    let path = format!("{}/data/{name}.parquet", metadata.location);
    DataFile::new(DataContentType::Data, path, DataFileFormat::Parquet, 1, 1)
}

/// A snapshot in the making, with the table's current snapshot as its parent.
#[derive(Debug)]
struct DraftSnapshot<'a> {
    storage: &'a Storage,
    metadata: &'a TableMetadata,
    name: Uuid,
    id: i64,
    /// Paths of the manifests and manifest lists that were written for it.
    written: Vec<String>,
}

impl<'a> DraftSnapshot<'a> {
    /// Begins a snapshot with a random id.
    fn new(storage: &'a Storage, metadata: &'a TableMetadata) -> Self {
        let id = i64::try_from(Uuid::new_v4().as_u128() >> 66).expect("62 bits");
        Self { storage, metadata, name: Uuid::new_v4(), id, written: Vec::new() }
    }

    /// Returns the writer of a new manifest of this snapshot.
    fn manifest(&self, spec_id: i32, content: ManifestContent) -> ManifestWriter {
        let new = NewManifest {
            format_version: self.metadata.format_version,
            content,
            schema: self.metadata.current_schema(),
            spec: self.metadata.partition_spec_by_id(spec_id).expect("a spec"),
            types: &self.metadata.partition_types(spec_id),
            snapshot_id: Some(self.id),
            codec: AvroCodec::default(),
        };
        ManifestWriter::new(&new).expect("a manifest")
    }

    /// Writes a manifest to storage. Returns its entry for the manifest list.
    ///
    /// The manifest has no key `schema-id`, as those of the Java implementation, though the specification asks for it.
    async fn write(&mut self, writer: ManifestWriter) -> ManifestFile {
        let path = format!("{}/metadata/{}-m{}.avro", self.metadata.location, self.name, self.written.len());
        let (mut bytes, manifest) = writer.finish(path.clone()).expect("a manifest");
        // In Avro a text follows its length, here of nine characters. Another key of the same length takes its place.
        let at = bytes.windows(10).position(|window| window == b"\x12schema-id").expect("the key");
        bytes[at + 1..at + 10].copy_from_slice(b"of-a-test");
        self.storage.write(&path, bytes.into()).await.expect("written");
        self.written.push(path);
        manifest
    }

    /// Writes the manifest list to storage. Returns the snapshot as the JSON of an `add-snapshot` update.
    async fn snapshot(&mut self, manifests: &[ManifestFile], summary: Value) -> Value {
        let metadata = self.metadata;
        let list = format!("{}/metadata/snap-{}-{}.avro", metadata.location, self.id, self.name);
        let parent = metadata.current_snapshot_id;
        let first_row_id = metadata.next_row_id.map(u64::cast_signed);
        let new = NewManifestList {
            format_version: metadata.format_version,
            snapshot_id: self.id,
            parent_snapshot_id: parent,
            sequence_number: metadata.next_sequence_number(),
            first_row_id,
            codec: AvroCodec::default(),
        };
        let mut writer = ManifestListWriter::new(new).expect("a manifest list");
        manifests.iter().for_each(|manifest| writer.add(manifest).expect("added"));
        let next_row_id = writer.next_row_id();
        self.storage.write(&list, writer.finish().expect("a manifest list").into()).await.expect("written");
        let mut snapshot = json!({"snapshot-id": self.id, "manifest-list": list, "schema-id": metadata.current_schema_id,
            "timestamp-ms": metadata.last_updated_ms.max(esker_types::now_ms()), "summary": summary});
        self.written.push(list);
        if metadata.format_version > 1 {
            snapshot["sequence-number"] = metadata.next_sequence_number().into();
        }
        if let Some(parent) = parent {
            snapshot["parent-snapshot-id"] = parent.into();
        }
        if let (Some(first), Some(next)) = (first_row_id, next_row_id) {
            (snapshot["first-row-id"], snapshot["added-rows"]) = (first.into(), (next - first).into());
        }
        snapshot
    }
}
