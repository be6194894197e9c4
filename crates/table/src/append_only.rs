//! Checks that a snapshot only appends to its parent.
//!
//! A summary may say `append` and the snapshot may still remove rows: its manifest list can leave out a manifest, a merged manifest
//! can leave out a file, and a file can be listed with other bounds, so that scans skip it. A writer that may only append is
//! believed after this check alone. Start reading at [`beyond_append`].

use std::collections::HashMap;

use esker_format::{
    DataContentType, DataFile, FieldSummary, ManifestContent, ManifestFile, ManifestStatus, PrimitiveType, Snapshot,
    TableMetadata, Value,
};

use crate::{DeleteKey, LiveFile, Manifests, Result, delete_key};

/// Finds out how a snapshot does more than append data files to its parent. Returns the first thing, or `None` if it does not.
///
/// Manifests of the parent are either in the new list as they were, or all their live files are in new manifests as they were.
/// New manifests may merge old ones, as Java's appends do, but a change of a list's counts or of a file's statistics is more than
/// an append. Snapshots of format version 1 without a manifest list are more than that too, because their manifests have no counts.
///
/// `parent` is the head of the branch, or `None` if the branch is new. `metadata` has the schemas and specs of both.
///
/// # Errors
///
/// - Returns [`TableError::File`](crate::TableError::File) if a manifest list or a manifest cannot be read or decoded.
/// - Returns [`TableError::Unsupported`](crate::TableError::Unsupported) if one of them is encrypted.
/// - Returns [`TableError::Invalid`](crate::TableError::Invalid) if a snapshot names neither a manifest list nor manifests.
pub async fn beyond_append(
    source: &Manifests,
    metadata: &TableMetadata,
    parent: Option<&Snapshot>,
    snapshot: &Snapshot,
) -> Result<Option<String>> {
    let before = match parent {
        Some(parent) => source.list(parent).await?,
        None => Vec::new(),
    };
    let mut replaced: HashMap<&str, &ManifestFile> = before.iter().map(|file| (file.manifest_path.as_str(), file)).collect();
    let after = source.list(snapshot).await?;
    let mut new = Vec::new();
    let mut kept = Vec::new();
    for file in &after {
        match replaced.get(file.manifest_path.as_str()) {
            None => new.push(file),
            Some(before) if is_same_manifest(before, file) => kept.push(file.manifest_path.as_str()),
            Some(_) => return Ok(Some(format!("it lists the manifest {} with other values", file.manifest_path))),
        }
    }
    for path in kept {
        replaced.remove(path);
    }
    let mut missing = MissingFiles::default();
    for file in before.iter().filter(|file| replaced.contains_key(file.manifest_path.as_str())) {
        for entry in source.load(metadata, file).await?.entries.into_iter().filter(|entry| entry.is_alive()) {
            missing.add(LiveFile::of(file, entry));
        }
    }
    for file in new {
        if let Some(what) = beyond_append_in(source, metadata, file, &mut missing).await? {
            return Ok(Some(what));
        }
    }
    Ok(missing.any().map(|path| format!("it leaves out {path}")))
}

/// Checks one new manifest, and takes the files that it carries over off those that are missing.
async fn beyond_append_in(
    source: &Manifests,
    metadata: &TableMetadata,
    file: &ManifestFile,
    missing: &mut MissingFiles,
) -> Result<Option<String>> {
    let types = metadata.partition_types(file.partition_spec_id);
    let mut carried = 0;
    for entry in source.load(metadata, file).await?.entries {
        let path = entry.data_file.file_path.clone();
        // Some readers take the kind of a file from its entry, others from the list.
        let is_data = entry.data_file.content == DataContentType::Data;
        if is_data != (file.content == ManifestContent::Data) {
            return Ok(Some(format!("it lists {path} in a manifest of another kind of files")));
        }
        match entry.status {
            ManifestStatus::Added if is_data => {}
            ManifestStatus::Added => return Ok(Some(format!("it adds the delete file {path}"))),
            ManifestStatus::Deleted => return Ok(Some(format!("it removes {path}"))),
            ManifestStatus::Existing => {
                carried += 1;
                if !summaries_cover(file.partitions.as_deref(), &types, &entry.data_file.partition) {
                    return Ok(Some(format!("the summary of the manifest {} does not cover {path}", file.manifest_path)));
                }
                if !missing.take(&LiveFile::of(file, entry)) {
                    return Ok(Some(format!("it lists {path} as an existing file, but its parent has no such file")));
                }
            }
        }
    }
    // Readers skip a manifest that says that it has no such files.
    let is_counted = file.existing_files_count.is_none_or(|count| count == carried);
    Ok((!is_counted).then(|| format!("it lists the manifest {} with a wrong count", file.manifest_path)))
}

/// The live files of replaced manifests that no new manifest has carried over yet.
#[derive(Default)]
struct MissingFiles(HashMap<DeleteKey, Vec<LiveFile>>);

impl MissingFiles {
    /// Adds a file of a replaced manifest.
    fn add(&mut self, file: LiveFile) {
        self.0.entry(delete_key(&file.file)).or_default().push(file);
    }

    /// Takes a file off. Returns false if there is none that is the same in every way.
    fn take(&mut self, after: &LiveFile) -> bool {
        let Some(files) = self.0.get_mut(&delete_key(&after.file)) else { return false };
        let Some(at) = files.iter().position(|before| is_same_file(before, after)) else { return false };
        files.swap_remove(at);
        true
    }

    /// Returns the path of a file that is missing.
    fn any(&self) -> Option<&str> {
        self.0.values().flatten().map(|file| file.file.file_path.as_str()).min()
    }
}

/// Checks that two lists describe a manifest alike. Row ids may be new, and unknown fields may be lost.
fn is_same_manifest(before: &ManifestFile, after: &ManifestFile) -> bool {
    let first_row_id = before.first_row_id.or(after.first_row_id);
    ManifestFile { first_row_id, extra: after.extra.clone(), ..before.clone() } == *after
}

/// Checks that a file was carried over as it was. Row ids may be new, and unknown fields may be lost.
fn is_same_file(before: &LiveFile, after: &LiveFile) -> bool {
    let first_row_id = before.file.first_row_id.or(after.file.first_row_id);
    let file = DataFile { first_row_id, extra: after.file.extra.clone(), ..before.file.clone() };
    file == after.file
        && before.spec_id == after.spec_id
        && before.sequence_number == after.sequence_number
        && (before.file_sequence_number == after.file_sequence_number || before.file_sequence_number.is_none())
}

/// Checks that no reader skips a manifest with these summaries when it looks for a partition.
fn summaries_cover(summaries: Option<&[FieldSummary]>, types: &[Option<PrimitiveType>], partition: &[Option<Value>]) -> bool {
    let Some(summaries) = summaries else { return true };
    let covers = |(at, value): (usize, &Option<Value>)| {
        summaries.get(at).is_some_and(|summary| covers(summary, types.get(at).and_then(Option::as_ref), value.as_ref()))
    };
    partition.iter().enumerate().all(covers)
}

/// Checks that a summary covers a partition value.
fn covers(summary: &FieldSummary, ty: Option<&PrimitiveType>, value: Option<&Value>) -> bool {
    match value {
        None => summary.contains_null,
        Some(value) if value.is_nan() => summary.contains_nan != Some(false),
        Some(value) => {
            let lower = ty.and_then(|ty| summary.lower_bound.as_ref()?.decode(ty));
            let upper = ty.and_then(|ty| summary.upper_bound.as_ref()?.decode(ty));
            lower.is_some_and(|lower| lower <= *value) && upper.is_some_and(|upper| *value <= upper)
        }
    }
}

#[cfg(test)]
mod tests {
    use esker_format::{
        AvroCodec, BoundBytes, DataFileFormat, Extra, ManifestEntry, ManifestListWriter, ManifestWriter, NewManifest,
        NewManifestList,
    };
    use esker_storage::Storage;
    use futures::executor::block_on;
    use tempfile::TempDir;

    use super::*;
    use crate::deletes::tests::metadata;

    /// A table whose files are partitioned by an integer. Its parent snapshot has two manifests, with the files `a` and `b`.
    struct Lake {
        dir: TempDir,
        source: Manifests,
        metadata: TableMetadata,
        parent: [ManifestFile; 2],
    }

    fn file(path: &str) -> DataFile {
        let partition = [Some(Value::Int(i32::from(path.as_bytes()[0])))].into();
        DataFile { partition, ..DataFile::new(DataContentType::Data, path, DataFileFormat::Parquet, 10, 100) }
    }

    /// Returns the entry of a file that was added with the sequence number 1.
    fn entry(status: ManifestStatus, data_file: DataFile) -> ManifestEntry {
        let (snapshot_id, sequence_number, file_sequence_number) = (Some(1), Some(1), Some(1));
        ManifestEntry { status, snapshot_id, sequence_number, file_sequence_number, data_file }
    }

    fn existing(path: &str) -> ManifestEntry {
        entry(ManifestStatus::Existing, file(path))
    }

    fn added(path: &str) -> ManifestEntry {
        entry(ManifestStatus::Added, file(path))
    }

    impl Lake {
        fn new() -> Self {
            let (dir, source) = (tempfile::tempdir().expect("a directory"), Manifests::new(Storage::local(), 1 << 20));
            let metadata = metadata();
            let first = |name: &str| manifest(&dir, &source, &metadata, name, 1, &[added(name)]);
            let parent = [first("a"), first("b")];
            Self { dir, source, metadata, parent }
        }

        /// Writes a manifest of the new snapshot.
        fn manifest(&self, name: &str, entries: &[ManifestEntry]) -> ManifestFile {
            manifest(&self.dir, &self.source, &self.metadata, name, 2, entries)
        }

        fn snapshot(&self, id: i64, manifests: &[ManifestFile]) -> Snapshot {
            let list = NewManifestList {
                format_version: 2,
                snapshot_id: id,
                parent_snapshot_id: None,
                sequence_number: id,
                first_row_id: None,
                codec: AvroCodec::Deflate,
            };
            let mut writer = ManifestListWriter::new(list).expect("a writer");
            manifests.iter().for_each(|manifest| writer.add(manifest).expect("added"));
            let path = format!("file://{}/snap-{id}.avro", self.dir.path().display());
            block_on(self.source.storage().write(&path, writer.finish().expect("a list").into())).expect("written");
            Snapshot {
                snapshot_id: id,
                parent_snapshot_id: None,
                sequence_number: Some(id),
                timestamp_ms: 1,
                manifest_list: Some(path),
                manifests: None,
                summary: None,
                schema_id: None,
                first_row_id: None,
                added_rows: None,
                key_id: None,
                extra: Extra::default(),
            }
        }

        /// Checks a snapshot with these manifests against the parent.
        fn check(&self, manifests: &[ManifestFile]) -> Option<String> {
            let (parent, snapshot) = (self.snapshot(1, &self.parent), self.snapshot(2, manifests));
            block_on(beyond_append(&self.source, &self.metadata, Some(&parent), &snapshot)).expect("readable")
        }
    }

    fn manifest(
        dir: &TempDir,
        source: &Manifests,
        metadata: &TableMetadata,
        name: &str,
        sequence_number: i64,
        entries: &[ManifestEntry],
    ) -> ManifestFile {
        let is_data = entries.iter().all(|entry| entry.data_file.content == DataContentType::Data);
        let new = NewManifest {
            format_version: 2,
            content: if is_data { ManifestContent::Data } else { ManifestContent::Deletes },
            schema: metadata.current_schema(),
            spec: metadata.partition_spec_by_id(1).expect("a spec"),
            types: &metadata.partition_types(1),
            snapshot_id: Some(sequence_number),
            codec: AvroCodec::Deflate,
        };
        let mut writer = ManifestWriter::new(&new).expect("a writer");
        for entry in entries {
            match entry.status {
                ManifestStatus::Added => writer.added(&entry.data_file, None),
                ManifestStatus::Existing => writer.existing(entry),
                ManifestStatus::Deleted => writer.deleted(entry),
            }
            .expect("added");
        }
        let path = format!("file://{}/{name}-{sequence_number}.avro", dir.path().display());
        let (bytes, manifest) = writer.finish(path.clone()).expect("a manifest");
        block_on(source.storage().write(&path, bytes.into())).expect("written");
        ManifestFile { sequence_number, min_sequence_number: 1, ..manifest }
    }

    fn says(found: Option<String>, part: &str) {
        assert!(found.as_ref().is_some_and(|what| what.contains(part)), "{found:?} does not say {part:?}");
    }

    #[test]
    fn appends_that_keep_or_merge_manifests_are_believed() {
        let lake = Lake::new();
        let [a, b] = &lake.parent;
        let new = lake.manifest("c", &[added("c")]);
        assert_eq!(lake.check(&[a.clone(), b.clone(), new.clone()]), None);
        assert_eq!(lake.check(&[new.clone(), b.clone(), a.clone()]), None, "the order does not matter");
        let merged = lake.manifest("m", &[existing("a"), existing("b"), added("d")]);
        assert_eq!(lake.check(&[merged]), None);
        let first = lake.snapshot(2, &[new]);
        assert_eq!(block_on(beyond_append(&lake.source, &lake.metadata, None, &first)).expect("readable"), None);
    }

    #[test]
    fn an_append_that_removes_rows_is_no_append() {
        let lake = Lake::new();
        let [a, b] = &lake.parent;
        let new = lake.manifest("c", &[added("c")]);
        says(lake.check(&[b.clone(), new.clone()]), "leaves out a");
        says(lake.check(&[]), "leaves out a");
        says(lake.check(&[a.clone(), lake.manifest("d", &[entry(ManifestStatus::Deleted, file("b"))])]), "removes b");
        says(lake.check(&[lake.manifest("m", &[existing("a"), added("b")])]), "leaves out b");
        let delete = DataFile { content: DataContentType::PositionDeletes, ..file("x") };
        let deletes = lake.manifest("x", &[entry(ManifestStatus::Added, delete)]);
        says(lake.check(&[a.clone(), b.clone(), deletes.clone()]), "adds the delete file x");
        let disguised = ManifestFile { content: ManifestContent::Data, ..deletes };
        says(lake.check(&[a.clone(), b.clone(), disguised]), "x in a manifest of another kind");
        let hidden = ManifestFile { content: ManifestContent::Deletes, ..lake.manifest("h", &[existing("a")]) };
        says(lake.check(&[hidden, b.clone()]), "a in a manifest of another kind");
    }

    #[test]
    fn a_file_that_is_carried_over_with_other_values_is_no_append() {
        let lake = Lake::new();
        let [_, b] = &lake.parent;
        let bounds = Some([(1, BoundBytes::new(vec![9_u8, 0, 0, 0]))].into_iter().collect());
        let changed = [
            ManifestEntry { data_file: DataFile { record_count: 0, ..file("a") }, ..existing("a") },
            ManifestEntry { data_file: DataFile { upper_bounds: bounds, ..file("a") }, ..existing("a") },
            ManifestEntry { data_file: DataFile { file_size_in_bytes: 4, ..file("a") }, ..existing("a") },
            ManifestEntry { sequence_number: Some(0), ..existing("a") },
            existing("z"),
        ];
        for (n, entry) in changed.into_iter().enumerate() {
            says(lake.check(&[lake.manifest(&format!("m{n}"), &[entry]), b.clone()]), "its parent has no such file");
        }
        says(lake.check(&[lake.manifest("twice", &[existing("a"), existing("a")]), b.clone()]), "its parent has no such file");
    }

    #[test]
    fn a_manifest_that_readers_would_skip_is_no_append() {
        let lake = Lake::new();
        let [a, b] = &lake.parent;
        let elsewhere = |manifest: &ManifestFile| {
            let mut partitions = manifest.partitions.clone().expect("summaries");
            partitions[0].lower_bound = BoundBytes::of(&Value::Int(500));
            partitions[0].upper_bound = BoundBytes::of(&Value::Int(600));
            ManifestFile { partitions: Some(partitions), ..manifest.clone() }
        };
        says(lake.check(&[elsewhere(a), b.clone()]), "with other values");
        let uncounted = ManifestFile { added_files_count: Some(0), ..a.clone() };
        says(lake.check(&[uncounted, b.clone()]), "with other values");
        let merged = lake.manifest("m", &[existing("a"), existing("b")]);
        says(lake.check(&[elsewhere(&merged)]), "does not cover a");
        says(lake.check(&[ManifestFile { existing_files_count: Some(0), ..merged }]), "with a wrong count");
    }
}
