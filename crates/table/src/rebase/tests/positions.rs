//! Tests of late commits that delete rows by position.

use roaring::RoaringTreemap;

use super::*;
use crate::{MovedRun, ROW_MOVES, RowMoves, RowsToDelete, encode_vector_file, load_live, row_moves_path};

/// Rows of data files, by position.
type Rows<'a> = &'a [(&'a str, &'a [u64])];

fn set(positions: &[u64]) -> RoaringTreemap {
    positions.iter().copied().collect()
}

fn entry(data_file: DataFile) -> ManifestEntry {
    ManifestEntry { data_file, ..added("") }
}

/// Returns the entry of an equality delete file.
fn equality(path: &str) -> ManifestEntry {
    entry(DataFile { content: DataContentType::EqualityDeletes, equality_ids: Some(vec![1]), ..data(path) })
}

impl Lake {
    /// Writes deletion vectors into one file.
    fn vectors(&self, name: &str, rows: Rows<'_>) -> Vec<ManifestEntry> {
        let path = format!("file://{}/{name}.puffin", self.dir.path().display());
        let one = |(path, positions): &(&str, &[u64])| RowsToDelete {
            path: (*path).to_owned(),
            spec_id: 0,
            partition: data("").partition,
            positions: set(positions),
        };
        let (bytes, entries) = encode_vector_file(&path, rows.iter().map(one).collect()).expect("a file");
        block_on(self.source.storage().write(&path, bytes.into())).expect("written");
        entries.into_iter().map(|(_, file)| entry(file)).collect()
    }

    /// Returns the entry of a position delete file, which is read as these rows.
    fn position_file(&mut self, name: &str, rows: Rows<'_>) -> ManifestEntry {
        let positions = rows.iter().map(|(path, positions)| ((*path).to_owned(), set(positions))).collect();
        self.deletes.files.insert(name.to_owned(), positions);
        entry(DataFile { content: DataContentType::PositionDeletes, ..data(name) })
    }

    /// Returns a snapshot on the base with manifests of delete files, of data files, and those of the base but for its deletes.
    fn change(&self, id: i64, deletes: &[ManifestEntry], data: &[ManifestEntry]) -> Snapshot {
        let of_base = self.listed(&self.base).into_iter().filter(|file| file.content == ManifestContent::Data);
        let mut manifests: Vec<ManifestFile> = of_base.collect();
        if !deletes.is_empty() {
            manifests.push(self.manifest("deletes", id, deletes));
        }
        if !data.is_empty() {
            manifests.push(self.manifest("data", id, data));
        }
        let operation = if data.is_empty() { "delete" } else { "overwrite" };
        self.snapshot(id, Some(self.base.snapshot_id), self.base.sequence_number() + 1, operation, &manifests)
    }

    /// Makes a snapshot with these deletes the base of late commits.
    fn rebase_on(&mut self, deletes: &[ManifestEntry]) {
        self.base = self.change(5, deletes, &[]);
        self.metadata.last_sequence_number = 2;
    }

    /// Takes a snapshot as the head.
    fn take(&mut self, head: &Snapshot) {
        self.metadata.last_sequence_number = head.sequence_number();
        self.metadata.next_row_id = self.metadata.next_row_id.map(|next| next + 100);
    }

    /// Returns the positions that are deleted in a snapshot, by data file. In version 3, each data file has one vector.
    fn deleted(&self, snapshot: &Snapshot) -> BTreeMap<String, Vec<u64>> {
        let live = block_on(load_live(&self.source, &self.metadata, snapshot)).expect("readable");
        crate::DeleteIndex::new(&live.deletes, &self.metadata).expect("one vector to a file");
        let mut found: BTreeMap<String, RoaringTreemap> = BTreeMap::new();
        for delete in live.deletes.iter().filter(|delete| delete.kind != DeleteKind::Equality) {
            let positions = block_on(self.deletes.read_deletes(&self.metadata, delete)).expect("readable");
            for (path, positions) in positions.iter() {
                *found.entry(path.clone()).or_default() |= positions;
            }
        }
        found.into_iter().map(|(path, positions)| (path, positions.iter().collect())).collect()
    }
}

fn rows(expected: Rows<'_>) -> BTreeMap<String, Vec<u64>> {
    expected.iter().map(|(path, positions)| ((*path).to_owned(), positions.to_vec())).collect()
}

#[test]
fn the_vectors_of_two_commits_become_one_with_the_rows_of_both() {
    let mut lake = Lake::new(3);
    let sent = lake.change(7, &lake.vectors("c", &[("a", &[1, 2])]), &[]);
    let head = lake.change(2, &lake.vectors("h", &[("a", &[3])]), &[]);
    lake.take(&head);
    let (class, rebased) = lake.rebase(&head, &[&sent]).expect("merged");
    let made = &rebased.snapshots[0];
    assert_eq!(class, MergeClass::PositionDeletes);
    assert_eq!(lake.deleted(made), rows(&[("a", &[1, 2, 3])]));
    let count = |key: &str| made.summary_value(key).map(str::to_owned);
    assert_eq!((count("added-dvs").as_deref(), count("removed-dvs").as_deref()), (Some("1"), Some("1")));
    assert_eq!(count("added-position-deletes").as_deref(), Some("3"));
    let superseded = |end: &str| rebased.superseded.iter().any(|path| path.ends_with(end));
    assert!(superseded("/c.puffin") && superseded("/deletes-7.avro"), "{:?}", rebased.superseded);
    assert!(!superseded("/h.puffin"), "an older snapshot has it");
}

#[test]
fn a_vector_that_nobody_else_touched_is_taken_as_it_is() {
    let mut lake = Lake::new(3);
    lake.rebase_on(&lake.vectors("b", &[("a", &[0])]));
    let sent = lake.change(7, &lake.vectors("c", &[("a", &[0, 1])]), &[added("n")]);
    let head = lake.change(2, &lake.vectors("b", &[("a", &[0])]), &[added("o")]);
    lake.take(&head);
    let (_, rebased) = lake.rebase(&head, &[&sent]).expect("merged");
    let made = &rebased.snapshots[0];
    assert_eq!(lake.deleted(made), rows(&[("a", &[0, 1])]), "the vector of the base goes");
    assert!(lake.listed(made).iter().any(|file| file.manifest_path.ends_with("/deletes-7.avro")), "taken by its path");
    let paths: Vec<String> = lake.live(made).into_iter().map(|(path, ..)| path).collect();
    assert_eq!(paths, ["a", "n", "o"]);
}

#[test]
fn of_a_file_with_two_vectors_the_one_that_counts_stays() {
    let mut lake = Lake::new(3);
    let sent = lake.change(7, &lake.vectors("c", &[("a", &[1]), ("z", &[5])]), &[]);
    let head = lake.change(2, &lake.vectors("h", &[("a", &[3])]), &[]);
    lake.take(&head);
    let (_, rebased) = lake.rebase(&head, &[&sent]).expect("merged");
    assert_eq!(lake.deleted(&rebased.snapshots[0]), rows(&[("a", &[1, 3]), ("z", &[5])]));
    assert!(!rebased.superseded.iter().any(|path| path.ends_with("/c.puffin")), "{:?}", rebased.superseded);
}

#[test]
fn the_first_commit_wins_a_row_unless_nobody_adds_rows() {
    for version in 2..=3 {
        let mut lake = Lake::new(version);
        // In version 2, one file has the deletes of two data files.
        let delete = |lake: &mut Lake, name: &str, positions: &[u64]| match version {
            2 => vec![lake.position_file(name, &[("a", positions), ("y", positions)])],
            _ => lake.vectors(name, &[("a", positions)]),
        };
        let (mine, theirs) = (delete(&mut lake, "c", &[1, 2]), delete(&mut lake, "h", &[2]));
        let other = delete(&mut lake, "d", &[4]);
        let (only_deletes, updates) = (lake.change(7, &mine, &[]), lake.change(8, &mine, &[added("n")]));
        let apart = lake.change(9, &other, &[added("n")]);
        let deleted = lake.change(2, &theirs, &[]);
        let updated = lake.change(3, &theirs, &[added("o")]);
        lake.take(&deleted);
        let found = |result: Result<(MergeClass, RebasedCommit)>| lake.deleted(&result.expect("merged").1.snapshots[0]);
        let at_a = |rows: BTreeMap<String, Vec<u64>>| rows["a"].clone();
        assert_eq!(at_a(found(lake.rebase(&deleted, &[&only_deletes]))), [1, 2], "version {version}");
        assert_eq!(at_a(found(lake.rebase(&updated, &[&apart]))), [2, 4], "version {version}");
        for (head, sent) in [(&deleted, &updates), (&updated, &only_deletes), (&updated, &updates)] {
            assert_eq!(rule(lake.rebase(head, &[sent])), MergeRule::SameRow, "version {version}");
        }
    }
}

#[test]
fn deletes_of_the_base_must_still_hold_and_be_in_the_vector() {
    let mut lake = Lake::new(3);
    let before = lake.vectors("b", &[("a", &[0, 9])]);
    lake.rebase_on(&before);
    let complete = lake.change(7, &lake.vectors("c", &[("a", &[0, 1, 9])]), &[]);
    let lacking = lake.change(8, &lake.vectors("l", &[("a", &[0, 1])]), &[]);
    let more = lake.change(2, &lake.vectors("h", &[("a", &[0, 5, 9])]), &[]);
    let undone = lake.change(3, &[], &[]);
    lake.take(&more);
    let (_, rebased) = lake.rebase(&more, &[&complete]).expect("merged");
    assert_eq!(lake.deleted(&rebased.snapshots[0]), rows(&[("a", &[0, 1, 5, 9])]));
    assert_eq!(rule(lake.rebase(&more, &[&lacking])), MergeRule::LostDelete);
    assert_eq!(rule(lake.rebase(&undone, &[&complete])), MergeRule::LostDelete, "the rows are back");
}

#[test]
fn an_equality_delete_that_came_is_in_the_way_of_an_update_alone() {
    let mut lake = Lake::new(3);
    let mine = lake.vectors("c", &[("a", &[1])]);
    let (deletes, updates) = (lake.change(7, &mine, &[]), lake.change(8, &mine, &[added("n")]));
    let head = lake.change(2, &[equality("e")], &[]);
    lake.take(&head);
    let (_, rebased) = lake.rebase(&head, &[&deletes]).expect("merged");
    assert_eq!(lake.deleted(&rebased.snapshots[0]), rows(&[("a", &[1])]));
    assert_eq!(rule(lake.rebase(&head, &[&updates])), MergeRule::NewDelete);
    // An equality delete that is gone may be undone.
    let mut lake = Lake::new(3);
    lake.rebase_on(&[equality("e")]);
    let with = [mine, vec![equality("e")]].concat();
    let sent = lake.change(7, &with, &[]);
    let undone = lake.change(2, &[], &[]);
    lake.take(&undone);
    assert_eq!(rule(lake.rebase(&undone, &[&sent])), MergeRule::LostDelete);
}

#[test]
fn the_deletes_of_a_file_that_was_deleted_fall_away() {
    let mut lake = Lake::new(3);
    let mine = lake.vectors("c", &[("a", &[1])]);
    let (deletes, updates) = (lake.change(7, &mine, &[]), lake.change(8, &mine, &[added("n")]));
    let gone = lake.snapshot(2, Some(1), 2, "delete", &[]);
    let replaced = lake.snapshot(3, Some(1), 2, "overwrite", &[lake.manifest("o", 3, &[added("o")])]);
    lake.take(&gone);
    let (_, rebased) = lake.rebase(&gone, &[&deletes]).expect("merged");
    assert_eq!(lake.deleted(&rebased.snapshots[0]), rows(&[]), "a vector of no file is not entered");
    assert_eq!(rule(lake.rebase(&gone, &[&updates])), MergeRule::RemovedFile);
    assert_eq!(rule(lake.rebase(&replaced, &[&deletes])), MergeRule::RemovedFile);
}

#[test]
fn upserts_with_position_deletes_of_several_files_of_their_own_are_merged() {
    let mut lake = Lake::new(2);
    let own = lake.position_file("p", &[("n", &[0]), ("m", &[1])]);
    let sent = lake.change(7, &[equality("e"), own], &[added("n"), added("m")]);
    let head = lake.head();
    let (_, rebased) = lake.rebase(&head, &[&sent]).expect("merged");
    assert_eq!(lake.deleted(&rebased.snapshots[0]), rows(&[("m", &[1]), ("n", &[0])]));
}

#[test]
fn a_delete_file_that_the_client_replaced_goes_if_its_own_has_all_of_it() {
    let about = |delete: ManifestEntry| entry(DataFile { referenced_data_file: Some("a".to_owned()), ..delete.data_file });
    for (positions, expected) in [(&[0_u64, 1][..], &["c"][..]), (&[1][..], &["b", "c"][..])] {
        let mut lake = Lake::new(2);
        let before = about(lake.position_file("b", &[("a", &[0])]));
        lake.rebase_on(from_ref(&before));
        let mine = about(lake.position_file("c", &[("a", positions)]));
        let sent = lake.change(7, &[mine], &[]);
        let head = lake.change(2, &[before], &[added("o")]);
        lake.take(&head);
        let (_, rebased) = lake.rebase(&head, &[&sent]).expect("merged");
        let live = block_on(load_live(&lake.source, &lake.metadata, &rebased.snapshots[0])).expect("readable");
        let mut left: Vec<&str> = live.deletes.iter().map(|delete| delete.entry.file.file_path.as_str()).collect();
        left.sort_unstable();
        assert_eq!(left, expected);
    }
}

impl Lake {
    /// Returns a head in which a compaction replaced the file `a` by `o`, with deletes. Row 0 to 4 are at 5 to 9 now, and 5 to 9 at
    /// 0 to 4, but for a row that had been deleted before.
    fn compacted(&self, id: i64, deletes: &[ManifestEntry], gone: Option<u64>) -> Snapshot {
        let run = |start: u64, rows: u64| MovedRun { input: 0, start, rows, output: 0, first: (start + 5) % 10 };
        let runs = (0..10).filter(|row| gone != Some(*row)).map(|row| run(row, 1)).collect();
        let moves = RowMoves { inputs: vec!["a".to_owned()], outputs: vec!["o".to_owned()], runs };
        let bytes = moves.encode().expect("encoded").expect("small");
        let path = row_moves_path(&self.metadata, "rows.json");
        block_on(self.source.storage().write(&path, bytes.into())).expect("written");
        let mut manifests = vec![self.manifest("o", id, &[ManifestEntry { sequence_number: Some(1), ..added("o") }])];
        if !deletes.is_empty() {
            manifests.push(self.manifest("deletes", id, deletes));
        }
        let mut head = self.snapshot(id, Some(self.base.snapshot_id), self.base.sequence_number() + 1, "replace", &manifests);
        head.summary.as_mut().expect("a summary").insert(ROW_MOVES.to_owned(), "rows.json".to_owned());
        head
    }
}

#[test]
fn deletes_follow_their_rows_through_a_compaction_whose_mapping_is_kept() {
    let mut lake = Lake::new(3);
    let sent = lake.change(7, &lake.vectors("c", &[("a", &[1, 2])]), &[added("n")]);
    let head = lake.compacted(2, &lake.vectors("h", &[("o", &[0])]), None);
    lake.take(&head);
    let (class, rebased) = lake.rebase(&head, &[&sent]).expect("merged");
    assert_eq!(class, MergeClass::PositionDeletes);
    assert_eq!(lake.deleted(&rebased.snapshots[0]), rows(&[("o", &[0, 6, 7])]));
    let with_same = lake.compacted(3, &lake.vectors("s", &[("o", &[7])]), None);
    assert_eq!(rule(lake.rebase(&with_same, &[&sent])), MergeRule::SameRow);
    let before = lake.compacted(4, &[], Some(2));
    assert_eq!(rule(lake.rebase(&before, &[&sent])), MergeRule::SameRow, "the compaction left the row out");
    let came = lake.compacted(6, &[equality("e")], None);
    assert_eq!(rule(lake.rebase(&came, &[&sent])), MergeRule::NewDelete);
    std::fs::remove_file(lake.dir.path().join("metadata/rows.json")).expect("removed");
    assert_eq!(rule(lake.rebase(&head, &[&sent])), MergeRule::RemovedFile, "an hour later");
}

#[test]
fn rows_that_were_deleted_before_a_compaction_must_be_so_after_it() {
    let mut lake = Lake::new(3);
    lake.rebase_on(&lake.vectors("b", &[("a", &[9])]));
    let sent = lake.change(7, &lake.vectors("c", &[("a", &[1, 9])]), &[]);
    // The compaction had read the file before row 9 was deleted, which is at 4 now.
    let followed = lake.compacted(2, &lake.vectors("h", &[("o", &[4])]), None);
    lake.take(&followed);
    let (_, rebased) = lake.rebase(&followed, &[&sent]).expect("merged");
    assert_eq!(lake.deleted(&rebased.snapshots[0]), rows(&[("o", &[4, 6])]));
    let left_out = lake.compacted(3, &[], Some(9));
    let (_, rebased) = lake.rebase(&left_out, &[&sent]).expect("merged");
    assert_eq!(lake.deleted(&rebased.snapshots[0]), rows(&[("o", &[6])]));
    let lost = lake.compacted(4, &[], None);
    assert_eq!(rule(lake.rebase(&lost, &[&sent])), MergeRule::LostDelete);
}

/// A position delete file about several data files is written anew, with one file for each.
#[test]
fn position_delete_files_follow_their_rows_through_a_compaction() {
    let mut lake = Lake::new(2);
    let file = lake.position_file("c", &[("a", &[1]), ("z", &[3])]);
    let sent = lake.change(7, &[file], &[added("n")]);
    let head = lake.compacted(2, &[], None);
    lake.take(&head);
    let (_, rebased) = lake.rebase(&head, &[&sent]).expect("merged");
    let live = block_on(load_live(&lake.source, &lake.metadata, &rebased.snapshots[0])).expect("readable");
    let mut found = BTreeMap::new();
    for delete in &live.deletes {
        let text = block_on(lake.source.storage().read(&delete.entry.file.file_path)).expect("a file");
        found.insert(delete.entry.file.referenced_data_file.clone(), String::from_utf8(text.to_vec()).expect("a text"));
    }
    let expected = [("o", "o [6]"), ("z", "z [3]")].map(|(path, text)| (Some(path.to_owned()), text.to_owned()));
    assert_eq!(found, BTreeMap::from(expected));
    assert!(rebased.superseded.contains(&"c".to_owned()), "{:?}", rebased.superseded);
    // Rows of the commit's own files in the same delete file stand in the way.
    let mixed = lake.position_file("m", &[("a", &[1]), ("n", &[0])]);
    let sent = lake.change(8, &[mixed], &[added("n")]);
    assert_eq!(rule(lake.rebase(&head, &[&sent])), MergeRule::RemovedFile);
}

#[test]
fn a_chain_deletes_rows_of_one_file_twice_unless_others_did_so_too() {
    let mut lake = Lake::new(3);
    let first = lake.change(7, &lake.vectors("c", &[("a", &[1])]), &[]);
    let own = lake.manifest("deletes", 8, &lake.vectors("d", &[("a", &[1, 2])]));
    let second = lake.snapshot(8, Some(7), 3, "delete", &[lake.listed(&lake.base), vec![own]].concat());
    let touched = lake.change(2, &lake.vectors("h", &[("a", &[3])]), &[]);
    let appended = lake.change(3, &[], &[added("o")]);
    lake.take(&touched);
    let (_, rebased) = lake.rebase(&appended, &[&first, &second]).expect("merged");
    let deleted: Vec<_> = rebased.snapshots.iter().map(|made| lake.deleted(made)).collect();
    assert_eq!(deleted, [rows(&[("a", &[1])]), rows(&[("a", &[1, 2])])]);
    assert_eq!(rule(lake.rebase(&touched, &[&first, &second])), MergeRule::NotMergedYet);
}
