//! Tests of late rewrites.

use super::*;

/// Returns the entry of an added file with a data sequence number of its own and a number of rows.
fn rewritten(path: &str, sequence_number: Option<i64>, rows: i64) -> ManifestEntry {
    ManifestEntry { sequence_number, data_file: DataFile { record_count: rows, ..data(path) }, ..added(path) }
}

/// Returns the entry of a delete file about the file `a`.
fn delete(content: DataContentType) -> ManifestEntry {
    let (about, ids) = match content {
        DataContentType::EqualityDeletes => (None, Some(vec![1])),
        _ => (Some("a".to_owned()), None),
    };
    ManifestEntry { data_file: DataFile { content, referenced_data_file: about, equality_ids: ids, ..data("x") }, ..added("x") }
}

/// Returns the entry of a position delete file about a data file.
fn delete_of(path: &str) -> ManifestEntry {
    let file = DataFile { referenced_data_file: Some(path.to_owned()), ..delete(DataContentType::PositionDeletes).data_file };
    ManifestEntry { data_file: file, ..added("x") }
}

impl Lake {
    /// Returns a snapshot that replaces the file `a` by the files of some entries.
    fn rewrite(&self, id: i64, entries: &[ManifestEntry]) -> Snapshot {
        self.snapshot(id, Some(1), 2, "replace", &[self.manifest("r", id, entries)])
    }

    /// Returns a head that adds a delete file to the base.
    fn head_with(&mut self, id: i64, delete: ManifestEntry) -> Snapshot {
        let manifests = [vec![self.manifest("x", id, &[delete])], self.listed(&self.base)].concat();
        self.metadata.last_sequence_number = 2;
        self.snapshot(id, Some(1), 2, "delete", &manifests)
    }
}

#[test]
fn a_rewrite_is_merged_if_nobody_touched_its_files() {
    for version in 1..=3 {
        let mut lake = Lake::new(version);
        let starting = (version > 1).then_some(1);
        let sent = lake.rewrite(7, &[rewritten("c", starting, 10)]);
        let head = lake.head();
        let (class, rebased) = lake.rebase(&head, &[&sent]).expect("merged");
        assert_eq!(class, MergeClass::Replace);
        let live = lake.live(&rebased.snapshots[0]);
        let found: Vec<(&str, i64)> = live.iter().map(|(path, number, _)| (path.as_str(), *number)).collect();
        let expected = if version == 1 { [("b", 0), ("c", 0)] } else { [("b", 2), ("c", 1)] };
        assert_eq!(found, expected, "version {version}: the rows keep their age");
        assert_eq!(rebased.snapshots[0].summary_value("operation"), Some("replace"));
    }
}

#[test]
fn a_rewrite_is_refused_if_its_files_or_their_deletes_changed() {
    let mut lake = Lake::new(2);
    let (aged, fresh) = (lake.rewrite(7, &[rewritten("c", Some(1), 10)]), lake.rewrite(8, &[rewritten("c", None, 10)]));
    let gone = lake.snapshot(4, Some(1), 2, "delete", &[]);
    let by_position = lake.head_with(2, delete(DataContentType::PositionDeletes));
    let by_equality = lake.head_with(3, delete(DataContentType::EqualityDeletes));
    assert_eq!(rule(lake.rebase(&gone, &[&aged])), MergeRule::RemovedFile);
    assert_eq!(rule(lake.rebase(&by_position, &[&aged])), MergeRule::NewDelete);
    assert_eq!(rule(lake.rebase(&by_equality, &[&fresh])), MergeRule::NewDelete, "the delete would not apply to the new file");
    let (_, rebased) = lake.rebase(&by_equality, &[&aged]).expect("merged");
    let live = block_on(crate::load_live(&lake.source, &lake.metadata, &rebased.snapshots[0])).expect("readable");
    let index = crate::DeleteIndex::new(&live.deletes, &lake.metadata).expect("an index");
    assert!(live.data.iter().all(|file| index.any(file)), "it applies to the new file as it did to the old one");
}

/// A manifest that base, head and commit share has no file that the commit removes. A large table has very many of them.
#[test]
fn a_removal_reads_no_manifest_that_the_client_kept() {
    let mut lake = Lake::new(2);
    let (of_rows, of_deletes) = (lake.manifest("k", 5, &[added("k")]), lake.manifest("v", 5, &[delete_of("k")]));
    lake.base = lake.snapshot(5, Some(1), 2, "append", &[vec![of_rows, of_deletes], lake.listed(&lake.base)].concat());
    let listed = lake.listed(&lake.base);
    let kept: Vec<ManifestFile> = listed.iter().filter(|file| !file.manifest_path.ends_with("/a-1.avro")).cloned().collect();
    assert_eq!((listed.len(), kept.len()), (3, 2));
    let sent = lake.snapshot(7, Some(5), 3, "delete", &kept);
    let head = lake.snapshot(2, Some(5), 3, "append", &[listed, vec![lake.manifest("b", 2, &[added("b")])]].concat());
    lake.metadata.last_sequence_number = 3;
    for file in &kept {
        std::fs::remove_file(file.manifest_path.trim_start_matches("file://")).expect("removed");
    }
    let (class, rebased) = lake.rebase(&head, &[&sent]).expect("merged without them");
    let made = lake.listed(&rebased.snapshots[0]);
    let has = |end: &str| made.iter().any(|file| file.manifest_path.ends_with(end));
    assert_eq!((class, made.len()), (MergeClass::Delete, 4));
    assert!(has("/k-5.avro") && has("/v-5.avro") && has("/b-2.avro") && !has("/a-1.avro"), "{made:?}");
    assert_eq!(rebased.snapshots[0].summary_value("deleted-records"), Some("10"));
}

/// The manifest of the removed file is not among those of later commits, of which a hot table has many.
#[test]
fn a_removal_reads_no_manifest_of_a_later_commit_again() {
    let mut lake = Lake::new(2);
    let sent = lake.snapshot(7, Some(1), 2, "delete", &[]);
    let head = lake.head();
    let late = LateCommit { branch: "main", base: Some(&lake.base), head: Some(&head), since: vec![&head], chain: vec![&sent] };
    let (mut cache, mut written, record) =
        (MergeCache::default(), Vec::new(), |_: Vec<String>| async { Ok::<(), TableError>(()) }.boxed());
    let plan = block_on(plan_rebase(&lake.source, &lake.deletes, &lake.metadata, late, &mut cache)).expect("a plan");
    std::fs::remove_file(lake.dir.path().join("b-2.avro")).expect("removed");
    let rebased = block_on(plan.write(&lake.source, &lake.metadata, &mut cache, &record, &mut written)).expect("written");
    assert_eq!(rebased.snapshots[0].summary_value("deleted-data-files"), Some("1"));
    assert!(lake.listed(&rebased.snapshots[0]).iter().any(|file| file.manifest_path.ends_with("/b-2.avro")));
}

#[test]
fn a_removed_file_is_found_in_the_manifest_that_another_commit_has_merged_it_into() {
    for version in 1..=3 {
        let mut lake = Lake::new(version);
        let sent = lake.snapshot(7, Some(1), 2, "delete", &[]);
        let merged = lake.manifest("m", 2, &[existing(version, "a"), added("b")]);
        let head = lake.snapshot(2, Some(1), 2, "append", &[merged]);
        (lake.metadata.last_sequence_number, lake.metadata.next_row_id) = (2, lake.metadata.next_row_id.map(|next| next + 20));
        let (_, rebased) = lake.rebase(&head, &[&sent]).expect("merged");
        let left: Vec<String> = lake.live(&rebased.snapshots[0]).into_iter().map(|(path, ..)| path).collect();
        assert_eq!(left, ["b"], "version {version}");
    }
}

#[test]
fn what_is_no_rewrite_of_data_files_is_refused() {
    let mut lake = Lake::new(2);
    let more = lake.rewrite(7, &[rewritten("c", Some(1), 11)]);
    let manifests = lake.rewrite(8, &[existing(2, "a")]);
    let own = [
        lake.manifest("r", 9, &[rewritten("c", Some(1), 10)]),
        lake.manifest("x", 9, &[delete(DataContentType::PositionDeletes)]),
    ];
    let with_deletes = lake.snapshot(9, Some(1), 2, "replace", &own);
    let head = lake.head();
    for sent in [&more, &manifests, &with_deletes] {
        assert_eq!(rule(lake.rebase(&head, &[sent])), MergeRule::Rewrite);
    }
}

/// An overwrite that did the same would have read that there are no other rows. A rewrite has read nothing.
#[test]
fn a_rewrite_of_a_file_of_its_own_commit_is_merged_whatever_came_to_the_partition() {
    let mut lake = Lake::new(2);
    let base = lake.listed(&lake.base);
    let first = lake.snapshot(7, Some(1), 2, "append", &[vec![lake.manifest("c", 7, &[added("c")])], base.clone()].concat());
    let own = lake.manifest("d", 8, &[rewritten("d", None, 10)]);
    let second = lake.snapshot(8, Some(7), 3, "replace", &[vec![own], base].concat());
    let head = lake.head();
    let (class, rebased) = lake.rebase(&head, &[&first, &second]).expect("merged");
    let left: Vec<String> = lake.live(&rebased.snapshots[1]).into_iter().map(|(path, ..)| path).collect();
    assert_eq!(class, MergeClass::Replace);
    assert_eq!(left, ["a", "b", "d"]);
}
