//! Tests of the rules that need files: manifests, lists and their numbers. `positions` has those of deletes by position, `rewrites`
//! those of rewrites. The rules of rows are tested against a model in `tests/it/merging`.

mod positions;
mod rewrites;

use std::collections::BTreeMap;
use std::slice::from_ref;

use esker_format::{
    AvroCodec, BoundBytes, DataContentType, DataFile, DataFileFormat, Extra, ManifestContent, ManifestEntry, ManifestListWriter,
    ManifestWriter, NewManifest, NewManifestList,
};
use esker_storage::Storage;
use futures::FutureExt;
use futures::executor::block_on;
use futures::future::BoxFuture;
use tempfile::TempDir;

use super::*;
use crate::{LiveDelete, TableError, decode_vector};

/// A table in a directory, whose branch `main` has one snapshot of the file `a`, with 10 rows.
struct Lake {
    dir: TempDir,
    source: Manifests,
    metadata: TableMetadata,
    base: Snapshot,
    deletes: KnownDeletes,
}

/// Reads deletion vectors from their files. The position delete files are those that a test names, with their positions.
#[derive(Debug)]
struct KnownDeletes {
    storage: Storage,
    files: HashMap<String, DeletedPositions>,
}

impl DeleteFiles for KnownDeletes {
    fn read_deletes<'a>(&'a self, _: &'a TableMetadata, delete: &'a LiveDelete) -> BoxFuture<'a, Result<Arc<DeletedPositions>>> {
        async move {
            let file = &delete.entry.file;
            if delete.kind == DeleteKind::Position {
                let known = self.files.get(&file.file_path).cloned();
                return known.map(Arc::new).ok_or_else(|| TableError::Unsupported(file.file_path.clone()));
            }
            let start = file.content_offset.expect("an offset").unsigned_abs();
            let end = start + file.content_size_in_bytes.expect("a size").unsigned_abs();
            let blob = self.storage.read_range(&file.file_path, start..end).await?;
            let about = file.referenced_data_file.clone().expect("a data file");
            Ok(Arc::new(HashMap::from([(about, decode_vector(&blob)?)])))
        }
        .boxed()
    }

    /// Encodes the rows as a text that is no Parquet.
    fn encode_positions(&self, rows: &RowsToDelete) -> Result<Vec<u8>> {
        Ok(format!("{} {:?}", rows.path, rows.positions.iter().collect::<Vec<_>>()).into_bytes())
    }
}

/// Returns metadata of a table without partitions. The last sequence number is 1, and the next row id 10.
fn metadata(version: u8) -> TableMetadata {
    let mut json = serde_json::json!({
        "format-version": version, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "file:///t",
        "last-sequence-number": 1, "last-updated-ms": 1, "last-column-id": 1, "current-schema-id": 0,
        "schemas": [{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "p", "required": false, "type": "int"}]}],
        "default-spec-id": 0, "last-partition-id": 999, "default-sort-order-id": 0,
        "partition-specs": [{"spec-id": 0, "fields": []}], "sort-orders": [{"order-id": 0, "fields": []}],
    });
    if version == 3 {
        json["next-row-id"] = 10.into();
    }
    serde_json::from_value(json).expect("metadata")
}

fn data(path: &str) -> DataFile {
    DataFile::new(DataContentType::Data, path, DataFileFormat::Parquet, 10, 100)
}

fn added(path: &str) -> ManifestEntry {
    let status = ManifestStatus::Added;
    ManifestEntry { status, snapshot_id: None, sequence_number: None, file_sequence_number: None, data_file: data(path) }
}

/// Returns the entry of the file `a`, as a manifest has it that carries the file over.
fn existing(version: u8, path: &str) -> ManifestEntry {
    let number = Some(if version == 1 { 0 } else { 1 });
    let data_file = DataFile { first_row_id: (version == 3).then_some(0), ..data(path) };
    let status = ManifestStatus::Existing;
    ManifestEntry { status, snapshot_id: Some(1), sequence_number: number, file_sequence_number: number, data_file }
}

impl Lake {
    fn new(version: u8) -> Self {
        let (dir, source) = (tempfile::tempdir().expect("a directory"), Manifests::new(Storage::local(), 1 << 20));
        let mut metadata = metadata(version);
        metadata.location = format!("file://{}", dir.path().display());
        ["metadata", "data"].iter().for_each(|name| std::fs::create_dir(dir.path().join(name)).expect("a directory"));
        metadata.next_row_id = metadata.next_row_id.map(|_| 0);
        let deletes = KnownDeletes { storage: Storage::local(), files: HashMap::new() };
        let mut this = Self { dir, source, metadata, base: empty(), deletes };
        let manifest = this.manifest("a", 1, &[added("a")]);
        this.base = this.snapshot(1, None, 1, "append", &[manifest]);
        this.metadata = TableMetadata { location: this.metadata.location.clone(), ..self::metadata(version) };
        this
    }

    /// Writes a manifest of a snapshot.
    fn manifest(&self, name: &str, snapshot_id: i64, entries: &[ManifestEntry]) -> ManifestFile {
        let is_data = entries.iter().all(|entry| entry.data_file.content == DataContentType::Data);
        let new = NewManifest {
            format_version: self.metadata.format_version,
            content: if is_data { ManifestContent::Data } else { ManifestContent::Deletes },
            schema: self.metadata.current_schema(),
            spec: self.metadata.partition_spec_by_id(0).expect("a spec"),
            types: &[],
            snapshot_id: Some(snapshot_id),
            codec: AvroCodec::Deflate,
        };
        let mut writer = ManifestWriter::new(&new).expect("a writer");
        for entry in entries {
            match entry.status {
                ManifestStatus::Added => writer.added(&entry.data_file, entry.sequence_number),
                ManifestStatus::Existing => writer.existing(entry),
                ManifestStatus::Deleted => writer.deleted(entry),
            }
            .expect("added");
        }
        let path = format!("file://{}/{name}-{snapshot_id}.avro", self.dir.path().display());
        let (bytes, manifest) = writer.finish(path.clone()).expect("a manifest");
        block_on(self.source.storage().write(&path, bytes.into())).expect("written");
        manifest
    }

    /// Writes a snapshot as a client does, with row ids from the table's next one on.
    fn snapshot(&self, id: i64, parent: Option<i64>, number: i64, operation: &str, manifests: &[ManifestFile]) -> Snapshot {
        let version = self.metadata.format_version;
        let first_row_id = self.metadata.next_row_id.map(u64::cast_signed);
        let list = NewManifestList {
            format_version: version,
            snapshot_id: id,
            parent_snapshot_id: parent,
            sequence_number: number,
            first_row_id,
            codec: AvroCodec::Deflate,
        };
        let mut writer = ManifestListWriter::new(list).expect("a writer");
        manifests.iter().for_each(|manifest| writer.add(manifest).expect("added"));
        let next = writer.next_row_id();
        let path = format!("file://{}/snap-{id}-{}.avro", self.dir.path().display(), uuid::Uuid::new_v4());
        block_on(self.source.storage().write(&path, writer.finish().expect("a list").into())).expect("written");
        let summary =
            BTreeMap::from([("operation", operation), ("total-records", "10"), ("mine", "kept"), ("added-records", "99")]);
        Snapshot {
            snapshot_id: id,
            parent_snapshot_id: parent,
            sequence_number: (version > 1).then_some(number),
            timestamp_ms: 1,
            manifest_list: Some(path),
            summary: Some(summary.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()),
            schema_id: Some(0),
            first_row_id: self.metadata.next_row_id,
            added_rows: first_row_id.zip(next).map(|(first, next)| (next - first).cast_unsigned()),
            ..empty()
        }
    }

    /// Returns the manifests of a snapshot.
    fn listed(&self, snapshot: &Snapshot) -> Vec<ManifestFile> {
        block_on(self.source.list(snapshot)).expect("a list")
    }

    /// Returns a snapshot that appends the file `b` to the base, which is now the head.
    fn head(&mut self) -> Snapshot {
        let mut manifests = vec![self.manifest("b", 2, &[added("b")])];
        manifests.extend(self.listed(&self.base));
        let head = self.snapshot(2, Some(1), 2, "append", &manifests);
        self.metadata.last_sequence_number = 2;
        self.metadata.next_row_id = self.metadata.next_row_id.map(|next| next + 10);
        head
    }

    /// Builds late snapshots on a head, and returns the class and the result.
    fn rebase(&self, head: &Snapshot, chain: &[&Snapshot]) -> Result<(MergeClass, RebasedCommit)> {
        self.rebase_in(&mut MergeCache::default(), head, chain)
    }

    /// Builds late snapshots like [`Self::rebase`], in a batch.
    fn rebase_in(&self, cache: &mut MergeCache, head: &Snapshot, chain: &[&Snapshot]) -> Result<(MergeClass, RebasedCommit)> {
        let late =
            LateCommit { branch: "main", base: Some(&self.base), head: Some(head), since: vec![head], chain: chain.to_vec() };
        let mut written = Vec::new();
        block_on(async {
            let plan = plan_rebase(&self.source, &self.deletes, &self.metadata, late, cache).await?;
            let (class, record) = (plan.class(), |_: Vec<String>| async { Ok::<(), TableError>(()) }.boxed());
            let rebased = plan.write(&self.source, &self.metadata, cache, &record, &mut written).await?;
            assert!(rebased.snapshots.iter().all(|made| written.contains(made.manifest_list.as_ref().expect("a list"))));
            Ok((class, rebased))
        })
    }

    /// Returns the live data files of a snapshot with their data sequence numbers and first row ids, by path.
    fn live(&self, snapshot: &Snapshot) -> Vec<(String, i64, Option<i64>)> {
        let live = block_on(crate::load_live(&self.source, &self.metadata, snapshot)).expect("readable");
        let one = |live: LiveFile| (live.file.file_path, live.sequence_number, live.first_row_id);
        let mut files: Vec<_> = live.data.into_iter().map(one).collect();
        files.sort();
        files
    }
}

fn empty() -> Snapshot {
    Snapshot {
        snapshot_id: 0,
        parent_snapshot_id: None,
        sequence_number: None,
        timestamp_ms: 1,
        manifest_list: None,
        manifests: None,
        summary: None,
        schema_id: None,
        first_row_id: None,
        added_rows: None,
        key_id: None,
        extra: Extra::default(),
    }
}

/// Returns the rule that a commit breaks.
fn rule(result: Result<(MergeClass, RebasedCommit)>) -> MergeRule {
    match result {
        Err(TableError::NotMerged(refusal)) => refusal.rule,
        other => panic!("no refusal: {other:?}"),
    }
}

#[test]
fn an_append_gets_the_next_numbers_and_keeps_its_id_its_keys_and_its_manifest() {
    for version in 1..=3 {
        let mut lake = Lake::new(version);
        let mine = lake.manifest("c", 7, &[added("c")]);
        let mut manifests = vec![mine.clone()];
        manifests.extend(lake.listed(&lake.base));
        let sent = lake.snapshot(7, Some(1), 2, "append", &manifests);
        let head = lake.head();
        let (class, rebased) = lake.rebase(&head, &[&sent]).expect("merged");
        let made = &rebased.snapshots[0];
        assert_eq!((class, made.snapshot_id, made.parent_snapshot_id), (MergeClass::Append, 7, Some(2)));
        assert_eq!(made.sequence_number, (version > 1).then_some(3));
        let number = |n: i64| if version == 1 { 0 } else { n };
        let row_id = |id: i64| (version == 3).then_some(id);
        let expected = [("a", number(1), row_id(0)), ("b", number(2), row_id(10)), ("c", number(3), row_id(20))]
            .map(|(p, n, r)| (p.to_owned(), n, r));
        assert_eq!(lake.live(made), expected, "version {version}");
        assert_eq!((made.first_row_id, made.added_rows), if version == 3 { (Some(20), Some(10)) } else { (None, None) });
        assert!(lake.listed(made).iter().any(|listed| listed.manifest_path == mine.manifest_path), "taken by its path");
        assert_eq!(rebased.superseded, [sent.manifest_list.clone().expect("a list")]);
        let said = |key: &str| made.summary_value(key).map(str::to_owned);
        assert_eq!(said("mine").as_deref(), Some("kept"));
        assert_eq!((said("added-records").as_deref(), said("total-records").as_deref()), (Some("10"), Some("20")));
        assert_eq!((said(REBASED_FROM).as_deref(), said(REBASED_AS).as_deref()), (Some("1"), Some("append")));
        assert_eq!(said(REBASED_LIST).as_deref(), list_name(&sent));
    }
}

#[test]
fn the_added_files_of_a_merged_manifest_go_into_a_fresh_one() {
    for version in 1..=3 {
        let mut lake = Lake::new(version);
        let merged = lake.manifest("m", 7, &[existing(version, "a"), added("c")]);
        let sent = lake.snapshot(7, Some(1), 2, "append", from_ref(&merged));
        let head = lake.head();
        let (_, rebased) = lake.rebase(&head, &[&sent]).expect("merged");
        let paths: Vec<String> = lake.live(&rebased.snapshots[0]).into_iter().map(|(path, ..)| path).collect();
        assert_eq!(paths, ["a", "b", "c"], "version {version}: each once");
        assert!(rebased.superseded.contains(&merged.manifest_path));
        let row_ids: Vec<Option<i64>> = lake.live(&rebased.snapshots[0]).into_iter().map(|(.., id)| id).collect();
        if version == 3 {
            assert_eq!(row_ids, [Some(0), Some(10), Some(20)]);
        }
    }
}

#[test]
fn a_commit_on_an_unmoved_branch_is_renumbered_whatever_it_does() {
    for version in 2..=3 {
        let mut lake = Lake::new(version);
        let removed = ManifestEntry { status: ManifestStatus::Deleted, ..existing(version, "a") };
        let manifests = [lake.manifest("c", 7, &[added("c")]), lake.manifest("d", 7, &[removed])];
        let sent = lake.snapshot(7, Some(1), 2, "overwrite", &manifests);
        // Another branch took the number 2 and ten row ids.
        lake.head();
        let (class, rebased) = lake.rebase(&lake.base, &[&sent]).expect("renumbered");
        let made = &rebased.snapshots[0];
        assert_eq!((class, made.parent_snapshot_id, made.sequence_number), (MergeClass::Renumber, Some(1), Some(3)));
        assert_eq!(lake.live(made), [("c".to_owned(), 3, (version == 3).then_some(20))]);
        assert_eq!(made.summary_value("added-records"), Some("99"), "nothing else of the summary changes");
    }
}

#[test]
fn a_chain_is_built_in_its_order() {
    let mut lake = Lake::new(3);
    let one = lake.manifest("c", 7, &[added("c")]);
    let mut manifests = vec![one];
    manifests.extend(lake.listed(&lake.base));
    let first = lake.snapshot(7, Some(1), 2, "append", &manifests);
    let mut manifests = vec![lake.manifest("d", 8, &[added("d")])];
    manifests.extend(lake.listed(&first));
    let second = {
        let next = lake.metadata.next_row_id;
        lake.metadata.next_row_id = next.map(|next| next + 10);
        let second = lake.snapshot(8, Some(7), 3, "append", &manifests);
        lake.metadata.next_row_id = next;
        second
    };
    let head = lake.head();
    let (_, rebased) = lake.rebase(&head, &[&first, &second]).expect("merged");
    let [one, two] = rebased.snapshots.as_slice() else { panic!("two snapshots") };
    assert_eq!((one.parent_snapshot_id, two.parent_snapshot_id), (Some(2), Some(7)));
    assert_eq!((one.sequence_number, two.sequence_number, two.first_row_id), (Some(3), Some(4), Some(30)));
    assert_eq!(
        lake.live(two).iter().map(|(path, n, id)| (path.as_str(), *n, *id)).collect::<Vec<_>>(),
        [("a", 1, Some(0)), ("b", 2, Some(10)), ("c", 3, Some(20)), ("d", 4, Some(30))]
    );
}

/// The commits of a batch share what was read, and each is built on the one before it.
#[test]
fn the_next_commit_of_a_batch_knows_what_the_one_before_it_added() {
    for version in 1..=3 {
        let mut lake = Lake::new(version);
        let base = lake.listed(&lake.base);
        let sent = |id: i64, path: &str| {
            let own = [lake.manifest(path, id, &[added(path)])];
            lake.snapshot(id, Some(1), 2, "append", &[own.as_slice(), base.as_slice()].concat())
        };
        let commits = [sent(7, "c"), sent(8, "d"), sent(9, "c")];
        let mut head = lake.head();
        let mut cache = MergeCache::default();
        block_on(cache.prefetch(&lake.source, &lake.metadata, &commits.iter().collect::<Vec<_>>()));
        for commit in &commits[..2] {
            let (_, mut rebased) = lake.rebase_in(&mut cache, &head, &[commit]).expect("merged");
            let made = rebased.snapshots.remove(0);
            assert_eq!(made.parent_snapshot_id, Some(head.snapshot_id));
            lake.metadata.last_sequence_number += i64::from(version > 1);
            lake.metadata.next_row_id = lake.metadata.next_row_id.map(|next| next + 10);
            head = made;
        }
        // Of the lists that the batch has written, the last one is kept. Each has all manifests of the table.
        let lists: HashSet<&String> = cache.lists.keys().collect();
        let known = [&lake.base, &head].map(|snapshot| snapshot.manifest_list.as_ref().expect("a list"));
        assert!(known.iter().all(|list| lists.contains(list)) && lists.len() == 3, "{lists:?}");
        let waiting: Vec<&String> = cache.sent.keys().collect();
        assert_eq!(waiting, [commits[2].manifest_list.as_ref().expect("a list")], "what is planned is not kept");
        let live: Vec<String> = lake.live(&head).into_iter().map(|(path, ..)| path).collect();
        assert_eq!(live, ["a", "b", "c", "d"], "version {version}");
        assert_eq!(rule(lake.rebase_in(&mut cache, &head, &[&commits[2]])), MergeRule::AddedPath);
        assert_eq!(rule(lake.rebase(&head, &[&commits[2]])), MergeRule::AddedPath, "and so without the batch");
    }
}

#[test]
fn what_breaks_a_rule_of_files_is_refused_by_its_name() {
    let mut lake = Lake::new(2);
    let base = lake.listed(&lake.base);
    let with = |own: &[ManifestFile]| [own, base.as_slice()].concat();
    let snapshot = |operation: &str, manifests: &[ManifestFile]| lake.snapshot(7, Some(1), 2, operation, manifests);
    let numbered = |number: i64| ManifestEntry { sequence_number: Some(number), ..added("c") };
    let plain = lake.manifest("c", 7, &[added("c")]);
    let cases = [
        ("revived", snapshot("append", &with(&[lake.manifest("r", 7, &[existing(2, "z")])])), MergeRule::ExistingFile),
        ("twice", snapshot("append", &with(&[lake.manifest("t", 7, &[existing(2, "a")])])), MergeRule::ExistingFile),
        ("older", snapshot("append", &with(&[lake.manifest("o", 7, &[numbered(1)])])), MergeRule::SequenceNumber),
        ("newer", snapshot("append", &with(&[lake.manifest("n", 7, &[numbered(5)])])), MergeRule::SequenceNumber),
        ("known", snapshot("append", &with(&[lake.manifest("k", 7, &[added("b")])])), MergeRule::AddedPath),
        ("an overwrite of nothing", snapshot("overwrite", &with(from_ref(&plain))), MergeRule::Operation),
        ("an append that removes", snapshot("append", from_ref(&plain)), MergeRule::Operation),
        (
            "other numbers",
            {
                let sent = snapshot("append", &with(from_ref(&plain)));
                Snapshot { sequence_number: Some(3), ..sent }
            },
            MergeRule::SequenceNumber,
        ),
        ("another schema", Snapshot { schema_id: Some(4), ..snapshot("append", &with(from_ref(&plain))) }, MergeRule::Schema),
        (
            "encrypted",
            Snapshot { key_id: Some("k".to_owned()), ..snapshot("append", &with(from_ref(&plain))) },
            MergeRule::Encryption,
        ),
    ];
    let head = lake.head();
    for (what, sent, expected) in cases {
        assert_eq!(rule(lake.rebase(&head, &[&sent])), expected, "{what}");
    }
    // A number that is that of the commit counts as inherited.
    let lake = Lake::new(2);
    let manifests = [vec![lake.manifest("e", 7, &[numbered(2)])], lake.listed(&lake.base)].concat();
    let sent = lake.snapshot(7, Some(1), 2, "append", &manifests);
    let mut lake = lake;
    let head = lake.head();
    let (_, rebased) = lake.rebase(&head, &[&sent]).expect("merged");
    assert_eq!(lake.live(&rebased.snapshots[0])[2], ("c".to_owned(), 3, None));
}

#[test]
fn a_list_of_another_format_version_is_refused() {
    let mut lake = Lake::new(2);
    let manifests = [vec![lake.manifest("c", 7, &[added("c")])], lake.listed(&lake.base)].concat();
    let sent = lake.snapshot(7, Some(1), 2, "append", &manifests);
    let head = lake.head();
    lake.metadata = TableMetadata { location: lake.metadata.location.clone(), last_sequence_number: 2, ..metadata(3) };
    assert_eq!(rule(lake.rebase(&head, &[&sent])), MergeRule::FormatVersion);
    assert_eq!(rule(lake.rebase(&lake.base, &[&sent])), MergeRule::FormatVersion);
}

#[test]
fn a_removal_is_merged_unless_the_file_or_its_deletes_changed() {
    let mut lake = Lake::new(2);
    let removed = ManifestEntry { status: ManifestStatus::Deleted, ..existing(2, "a") };
    let sent = lake.snapshot(7, Some(1), 2, "delete", &[lake.manifest("d", 7, from_ref(&removed))]);
    let dropped = lake.snapshot(8, Some(1), 2, "delete", &[]);
    let head = lake.head();
    for sent in [&sent, &dropped] {
        let (class, rebased) = lake.rebase(&head, &[sent]).expect("merged");
        let left: Vec<String> = lake.live(&rebased.snapshots[0]).into_iter().map(|(path, ..)| path).collect();
        assert_eq!((class, left), (MergeClass::Delete, vec!["b".to_owned()]), "with an entry for what is removed, and without");
        let number = rebased.snapshots[0].summary_value("deleted-records");
        assert_eq!(number, Some("10"));
    }
    let delete = DataFile { content: DataContentType::PositionDeletes, referenced_data_file: Some("a".to_owned()), ..data("x") };
    let deleted = lake.manifest("x", 3, &[ManifestEntry { data_file: delete, ..added("x") }]);
    let other = lake.snapshot(3, Some(1), 2, "delete", &[vec![deleted], lake.listed(&lake.base)].concat());
    assert_eq!(rule(lake.rebase(&other, &[&sent])), MergeRule::NewDelete);
    let gone = lake.snapshot(4, Some(1), 2, "delete", &[lake.manifest("g", 4, &[removed])]);
    assert_eq!(rule(lake.rebase(&gone, &[&sent])), MergeRule::RemovedFile);
    let replaced = lake.snapshot(9, Some(1), 2, "overwrite", &[lake.manifest("c", 9, &[added("c")])]);
    let (class, rebased) = lake.rebase(&head, &[&replaced]).expect("merged");
    let left: Vec<String> = lake.live(&rebased.snapshots[0]).into_iter().map(|(path, ..)| path).collect();
    assert_eq!((class, left), (MergeClass::Overwrite, vec!["b".to_owned(), "c".to_owned()]));
}

#[test]
fn equality_deletes_are_merged_and_do_not_apply_to_the_rows_of_their_commit() {
    let mut lake = Lake::new(2);
    let equal = DataFile { content: DataContentType::EqualityDeletes, equality_ids: Some(vec![1]), ..data("e") };
    let own = [lake.manifest("e", 7, &[ManifestEntry { data_file: equal, ..added("e") }]), lake.manifest("c", 7, &[added("c")])];
    let sent = lake.snapshot(7, Some(1), 2, "overwrite", &[own.as_slice(), lake.listed(&lake.base).as_slice()].concat());
    // Deletes by position are about the rows of the commit. The bounds of the paths say so, if nothing else does.
    let about = |path: &str| {
        let bounds = || Some([(2_147_483_546, BoundBytes::new(path.as_bytes().to_vec()))].into_iter().collect());
        let content = DataContentType::PositionDeletes;
        ManifestEntry {
            data_file: DataFile { content, lower_bounds: bounds(), upper_bounds: bounds(), ..data("p") },
            ..added("p")
        }
    };
    let with = |name: &str, id: i64, deletes: ManifestEntry| {
        let positions = [lake.manifest(name, id, &[deletes])];
        let own = [lake.manifest(&format!("{name}c"), id, &[added("c")])];
        let all = [positions.as_slice(), own.as_slice(), lake.listed(&lake.base).as_slice()].concat();
        lake.snapshot(id, Some(1), 2, "overwrite", &all)
    };
    let (blind, seeing) = (with("blind", 8, about("c")), with("seeing", 9, about("a")));
    let head = lake.head();
    assert!(lake.rebase(&head, &[&blind]).is_ok(), "nothing of it is read");
    assert!(matches!(lake.rebase(&head, &[&seeing]), Err(TableError::Unsupported(_))), "its positions are read");
    let (class, rebased) = lake.rebase(&head, &[&sent]).expect("merged");
    assert_eq!(class, MergeClass::EqualityDeletes);
    let live = block_on(crate::load_live(&lake.source, &lake.metadata, &rebased.snapshots[0])).expect("readable");
    let index = crate::DeleteIndex::new(&live.deletes, &lake.metadata).expect("an index");
    let hit: Vec<&str> = live.data.iter().filter(|file| index.any(file)).map(|live| live.file.file_path.as_str()).collect();
    assert_eq!((live.deletes.len(), hit.len(), hit.contains(&"c")), (1, 2, false));
}

/// Equality deletes are merged because they are blind. Whoever removes a file beside them has read it.
#[test]
fn equality_deletes_of_a_commit_that_removes_data_files_are_refused() {
    let mut lake = Lake::new(2);
    let equal = DataFile { content: DataContentType::EqualityDeletes, equality_ids: Some(vec![1]), ..data("e") };
    let deletes = lake.manifest("e", 7, &[ManifestEntry { data_file: equal, ..added("e") }]);
    let removes = lake.snapshot(7, Some(1), 2, "delete", from_ref(&deletes));
    let replaces = lake.snapshot(7, Some(1), 2, "overwrite", &[deletes, lake.manifest("c", 7, &[added("c")])]);
    let head = lake.head();
    for sent in [&removes, &replaces] {
        assert_eq!(rule(lake.rebase(&head, &[sent])), MergeRule::Operation);
    }
}

/// Java tells of the manifests of its own list in each summary, and of partitions that are counted anew.
#[test]
fn a_summary_says_nothing_of_the_list_that_another_one_took_the_place_of() {
    let mut lake = Lake::new(2);
    let manifests = [vec![lake.manifest("c", 7, &[added("c")])], lake.listed(&lake.base)].concat();
    let mut sent = lake.snapshot(7, Some(1), 2, "append", &manifests);
    let of_list = ["manifests-created", "manifests-kept", "manifests-replaced", "partition-summaries-included"];
    for key in of_list {
        sent.summary.as_mut().expect("a summary").insert(key.to_owned(), "1".to_owned());
    }
    let head = lake.head();
    let (_, rebased) = lake.rebase(&head, &[&sent]).expect("merged");
    let made = &rebased.snapshots[0];
    assert_eq!(of_list.map(|key| made.summary_value(key)), [None; 4]);
    assert_eq!(made.summary_value("mine"), Some("kept"));
}

#[test]
fn a_delete_file_that_another_commit_added_is_not_added_again() {
    let mut lake = Lake::new(2);
    let equal = DataFile { content: DataContentType::EqualityDeletes, equality_ids: Some(vec![1]), ..data("e") };
    let sent = |id: i64| {
        let own = lake.manifest("e", id, &[ManifestEntry { data_file: equal.clone(), ..added("e") }]);
        lake.snapshot(id, Some(1), 2, "delete", &[vec![own], lake.listed(&lake.base)].concat())
    };
    let (first, second) = (sent(2), sent(7));
    lake.metadata.last_sequence_number = 2;
    assert_eq!(rule(lake.rebase(&first, &[&second])), MergeRule::AddedPath);
}

/// Row ids are assigned by the counts of the list. With too few, the next commit's files would get the same ones.
#[test]
fn a_manifest_with_wrong_counts_is_written_anew() {
    let mut lake = Lake::new(3);
    let own = lake.manifest("c", 7, &[added("c")]);
    let wrong = ManifestFile { added_rows_count: Some(3), ..own.clone() };
    let sent = lake.snapshot(7, Some(1), 2, "append", &[vec![wrong], lake.listed(&lake.base)].concat());
    let head = lake.head();
    let (_, rebased) = lake.rebase(&head, &[&sent]).expect("merged");
    let made = &rebased.snapshots[0];
    assert_eq!((made.first_row_id, made.added_rows), (Some(20), Some(10)));
    assert!(rebased.superseded.contains(&own.manifest_path));
    assert_eq!(lake.live(made)[2], ("c".to_owned(), 3, Some(20)));
}

#[test]
fn an_upgrade_in_the_same_batch_refuses_what_was_read_before_it() {
    let mut lake = Lake::new(2);
    let manifests = [vec![lake.manifest("c", 7, &[added("c")])], lake.listed(&lake.base)].concat();
    let sent = lake.snapshot(7, Some(1), 2, "append", &manifests);
    let head = lake.head();
    let mut cache = MergeCache::default();
    block_on(cache.prefetch(&lake.source, &lake.metadata, &[&sent]));
    lake.metadata = TableMetadata { location: lake.metadata.location.clone(), last_sequence_number: 2, ..metadata(3) };
    assert_eq!(rule(lake.rebase_in(&mut cache, &head, &[&sent])), MergeRule::FormatVersion);
}

/// The partition had no file that the writer saw and replaced: the one that it removes is its own.
#[test]
fn a_chain_writes_to_no_partition_to_which_something_came_unless_it_replaced_files_there() {
    let mut lake = Lake::new(2);
    let base = lake.listed(&lake.base);
    let first = lake.snapshot(7, Some(1), 2, "append", &[vec![lake.manifest("c", 7, &[added("c")])], base.clone()].concat());
    let second = lake.snapshot(8, Some(7), 3, "overwrite", &[vec![lake.manifest("d", 8, &[added("d")])], base].concat());
    let replaces = lake.snapshot(9, Some(1), 2, "delete", &[]);
    let refills = lake.snapshot(10, Some(9), 3, "append", &[lake.manifest("f", 10, &[added("f")])]);
    let head = lake.head();
    assert_eq!(rule(lake.rebase(&head, &[&first, &second])), MergeRule::AddedPartition);
    let (class, rebased) = lake.rebase(&head, &[&replaces, &refills]).expect("it replaced the file of the partition");
    let left: Vec<String> = lake.live(&rebased.snapshots[1]).into_iter().map(|(path, ..)| path).collect();
    assert_eq!((class, left), (MergeClass::Delete, vec!["b".to_owned(), "f".to_owned()]));
}

/// PyIceberg overwrites with a snapshot that removes files, and one that appends.
#[test]
fn the_snapshots_of_a_chain_are_one_overwrite() {
    let in_partition =
        |path: &str, value: i32| DataFile { partition: [Some(esker_format::Value::Int(value))].into(), ..data(path) };
    let live = |path: &str, value: i32| LiveFile {
        file: in_partition(path, value),
        spec_id: 1,
        sequence_number: 1,
        file_sequence_number: Some(1),
        snapshot_id: 1,
        first_row_id: None,
    };
    let adds = |path: &str, value: i32| effect::AddedFile { spec_id: 1, file: in_partition(path, value), sequence_number: None };
    let removes = Effect { removed: vec![live("a", 1)], ..Effect::default() };
    let appends = Effect { fresh_files: vec![adds("c", 1), adds("d", 2)], ..Effect::default() };
    let came = |value: i32| {
        let mut changes = Changes::default();
        changes.added.data.push(live("b", value));
        changes
    };
    let check = |value: i32| check_partitions(&[&removes, &appends], &came(value)).map_err(|refusal| refusal.rule);
    assert_eq!(check(1), Ok(()), "it replaced the file that it saw there");
    assert_eq!(check(2), Err(MergeRule::AddedPartition), "it saw an empty partition");
    assert_eq!(check(3), Ok(()), "it writes nothing there");
}

/// The second snapshot replaces a file of the first one. Rows that moved have their row ids in the new data file, and those that
/// the client took are those of another commit's rows now. Spec: "Row Lineage".
#[test]
fn a_chain_moves_no_rows_of_its_own_where_rows_have_ids() {
    for (version, expected) in [(2, None), (3, Some(MergeRule::SequenceNumber))] {
        let mut lake = Lake::new(version);
        let base = lake.listed(&lake.base);
        let first = lake.snapshot(7, Some(1), 2, "append", &[vec![lake.manifest("c", 7, &[added("c")])], base.clone()].concat());
        let next = lake.metadata.next_row_id;
        lake.metadata.next_row_id = next.map(|next| next + 10);
        let moved = lake.snapshot(8, Some(7), 3, "replace", &[vec![lake.manifest("d", 8, &[added("d")])], base.clone()].concat());
        let more =
            lake.snapshot(9, Some(7), 3, "append", &[vec![lake.manifest("e", 9, &[added("e")])], lake.listed(&first)].concat());
        lake.metadata.next_row_id = next;
        let head = lake.head();
        assert!(lake.rebase(&head, &[&first, &more]).is_ok(), "version {version}");
        for head in [&head, &lake.base] {
            let refused = lake.rebase(head, &[&first, &moved]).err().map(|error| rule(Err(error)));
            assert_eq!(refused, expected, "version {version}");
        }
    }
}

/// The first snapshot after an upgrade gives row ids to all older rows, whatever else it does. Spec: "First Row ID Assignment".
#[test]
fn a_chain_moves_no_rows_to_which_it_gave_ids_after_an_upgrade() {
    for (is_upgraded, expected) in [(false, None), (true, Some(MergeRule::SequenceNumber))] {
        let mut lake = Lake::new(2);
        let (old, more) = (lake.manifest("o", 5, &[added("o")]), lake.manifest("g", 5, &[added("g")]));
        let manifests = [vec![old, more], lake.listed(&lake.base)].concat();
        let as_version = |lake: &mut Lake, version: u8, number: i64, next: u64| {
            let location = lake.metadata.location.clone();
            lake.metadata =
                TableMetadata { location, last_sequence_number: number, next_row_id: Some(next), ..metadata(version) };
        };
        if !is_upgraded {
            as_version(&mut lake, 3, 1, 0);
        }
        lake.base = lake.snapshot(5, Some(1), 2, "append", &manifests);
        as_version(&mut lake, 3, 2, if is_upgraded { 0 } else { 30 });
        let without = |lake: &Lake, gone: &[&str]| -> Vec<ManifestFile> {
            let stays = |file: &ManifestFile| !gone.iter().any(|end| file.manifest_path.ends_with(end));
            lake.listed(&lake.base).into_iter().filter(stays).collect()
        };
        let first = lake.snapshot(7, Some(5), 3, "delete", &without(&lake, &["/g-5.avro"]));
        let own = lake.manifest("c", 8, &[added("c")]);
        let moved = [vec![own], without(&lake, &["/g-5.avro", "/o-5.avro"])].concat();
        let second = lake.snapshot(8, Some(7), 4, "overwrite", &moved);
        let refused = lake.rebase(&lake.base, &[&first, &second]).err().map(|error| rule(Err(error)));
        assert_eq!(refused, expected, "upgraded: {is_upgraded}");
    }
}

/// Whoever applies the plan refuses what is about to be deleted.
#[test]
fn the_paths_that_a_plan_adds_are_those_of_its_files_and_of_the_manifests_that_are_taken() {
    let mut lake = Lake::new(2);
    let own = lake.manifest("c", 7, &[added("c")]);
    let sent = lake.snapshot(7, Some(1), 2, "append", &[vec![own.clone()], lake.listed(&lake.base)].concat());
    let head = lake.head();
    let late = LateCommit { branch: "main", base: Some(&lake.base), head: Some(&head), since: vec![&head], chain: vec![&sent] };
    let mut cache = MergeCache::default();
    let plan = block_on(plan_rebase(&lake.source, &lake.deletes, &lake.metadata, late, &mut cache)).expect("a plan");
    assert_eq!(plan.added_paths().collect::<Vec<_>>(), [own.manifest_path.as_str(), "c"]);
}

/// After a rewrite of all manifests of a very large table, a late commit would have all its files compared in its turn.
#[test]
fn a_commit_that_needs_too_many_files_compared_is_refused() {
    let mut lake = Lake::new(2);
    let sent =
        lake.snapshot(7, Some(1), 2, "append", &[vec![lake.manifest("c", 7, &[added("c")])], lake.listed(&lake.base)].concat());
    let large = ManifestFile { existing_files_count: Some(1_000_000), ..lake.manifest("b", 2, &[added("b")]) };
    let head = lake.snapshot(2, Some(1), 2, "append", &[vec![large], lake.listed(&lake.base)].concat());
    lake.metadata.last_sequence_number = 2;
    assert_eq!(rule(lake.rebase(&head, &[&sent])), MergeRule::TooManyFiles);
}

/// DuckDB writes `false` for a `contains_nan` that is missing, and others leave out counts. A merge has the entries of the head.
#[test]
fn what_a_client_lists_of_manifests_and_files_that_it_keeps_does_not_matter_but_for_their_numbers() {
    let mut lake = Lake::new(2);
    let base = lake.listed(&lake.base).remove(0);
    let own = lake.manifest("c", 7, &[added("c")]);
    let sent = |kept: ManifestFile| lake.snapshot(7, Some(1), 2, "append", &[own.clone(), kept]);
    let described = sent(ManifestFile { partitions: None, existing_rows_count: Some(9), manifest_length: 1, ..base.clone() });
    let renumbered = sent(ManifestFile { sequence_number: 2, ..base.clone() });
    let sorted = DataFile { sort_order_id: Some(4), ..existing(2, "a").data_file };
    let merged = lake.manifest("m", 8, &[ManifestEntry { data_file: sorted, ..existing(2, "a") }, added("c")]);
    let carried = lake.snapshot(8, Some(1), 2, "append", &[merged]);
    let head = lake.head();
    assert_eq!(rule(lake.rebase(&head, &[&renumbered])), MergeRule::Manifest);
    for sent in [&described, &carried] {
        let (_, rebased) = lake.rebase(&head, &[sent]).expect("merged");
        let made = &rebased.snapshots[0];
        assert!(lake.listed(made).contains(&base), "as the head lists it");
        assert_eq!(lake.live(made).into_iter().map(|(path, ..)| path).collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}

/// A client that took hours may come after very many commits, each with a manifest of its own.
#[test]
fn a_commit_that_needs_too_many_manifests_compared_is_refused_before_they_are_read() {
    let mut lake = Lake::new(2);
    let base = lake.listed(&lake.base);
    let sent = lake.snapshot(7, Some(1), 2, "append", &[vec![lake.manifest("c", 7, &[added("c")])], base.clone()].concat());
    let own = lake.manifest("b", 2, &[added("b")]);
    let came = (0..=10_000).map(|n| ManifestFile { manifest_path: format!("{n}-{}", own.manifest_path), ..own.clone() });
    let head = lake.snapshot(2, Some(1), 2, "append", &came.chain(base).collect::<Vec<_>>());
    lake.metadata.last_sequence_number = 2;
    assert_eq!(rule(lake.rebase(&head, &[&sent])), MergeRule::TooManyFiles);
}

/// The entries that a late delete of a whole large table removes would not fit into memory, with the statistics of their columns.
#[test]
fn a_commit_of_too_large_manifests_is_refused_before_they_are_read() {
    let mut lake = Lake::new(2);
    let own = lake.manifest("c", 7, &[added("c")]);
    let large = |bytes: i64| ManifestFile { manifest_length: bytes, ..own.clone() };
    let sent = |bytes: i64| lake.snapshot(7, Some(1), 2, "append", &[vec![large(bytes)], lake.listed(&lake.base)].concat());
    let (fits, exceeds) = (sent(128 << 20), sent((128 << 20) + 1));
    let head = lake.head();
    assert!(lake.rebase(&head, &[&fits]).is_ok());
    assert_eq!(rule(lake.rebase(&head, &[&exceeds])), MergeRule::TooManyFiles);
}

/// A file of an upgraded table may have got its row ids by the commit, and another branch has taken the same ones since.
#[test]
fn a_commit_is_not_renumbered_if_a_file_that_it_carries_over_has_row_ids_of_it() {
    let mut lake = Lake::new(3);
    let carried = |first_row_id: i64| {
        let entry = existing(3, "a");
        ManifestEntry { data_file: DataFile { first_row_id: Some(first_row_id), ..entry.data_file }, ..entry }
    };
    let sent =
        |id: i64, first_row_id: i64| lake.snapshot(id, Some(1), 2, "append", &[lake.manifest("m", id, &[carried(first_row_id)])]);
    let (own, before) = (sent(7, 10), sent(8, 0));
    lake.head();
    assert_eq!(rule(lake.rebase(&lake.base, &[&own])), MergeRule::SequenceNumber);
    assert!(lake.rebase(&lake.base, &[&before]).is_ok());
}
