//! Finds the deletes that apply to each data file, without comparing every file with every delete.
//!
//! A delete file applies by scope (one file, one partition, the whole table) and by sequence number. [`DeleteIndex`] keeps one list
//! for each scope, sorted by sequence number, so that a lookup is a hash and a binary search. A position (`usize`) is the index of
//! a delete file in the slice that the index was made of. Start reading at [`DeleteIndex::new`]. Spec: "Scan Planning".

use std::collections::{BTreeMap, HashMap};

use esker_format::TableMetadata;

use crate::{DeleteKind, LiveDelete, LiveFile, LiveFiles, PartitionKey, Result, TableError};

/// The field id of the column `file_path` in position delete files.
///
/// Spec: "Reserved Field IDs".
pub const FILE_PATH_FIELD_ID: i32 = 2_147_483_546;

/// The delete files of one scope: sequence number and position of each, the oldest first.
type BySequence = Vec<(i64, usize)>;

/// The deletes of one snapshot, indexed by the data files that they can apply to.
///
/// ```
/// # use esker_format::TableMetadata;
/// use esker_format::{DataContentType, DataFile, DataFileFormat};
/// use esker_table::{DeleteIndex, DeleteKind, LiveDelete, LiveFile};
///
/// # let metadata = TableMetadata::from_json(br#"{
/// #   "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "s3://lake/db/events",
/// #   "last-sequence-number": 0, "last-updated-ms": 1700000000000, "last-column-id": 1, "current-schema-id": 0,
/// #   "schemas": [{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "id", "required": true, "type": "long"}]}],
/// #   "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}], "last-partition-id": 999,
/// #   "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}]
/// # }"#).expect("metadata");
/// let live = |content, path: &str, sequence_number| LiveFile {
///     file: DataFile::new(content, path, DataFileFormat::Parquet, 10, 1000),
///     # spec_id: 0, file_sequence_number: None, snapshot_id: 1, first_row_id: None,
///     sequence_number,
/// };
/// let entry = live(DataContentType::EqualityDeletes, "deletes.parquet", 2);
/// let deletes = [LiveDelete { entry, kind: DeleteKind::Equality }];
/// let index = DeleteIndex::new(&deletes, &metadata).expect("an index");
///
/// // An equality delete applies to older data files, not to those of its own commit.
/// assert_eq!(index.all(&live(DataContentType::Data, "older.parquet", 1)), [0]);
/// assert!(!index.any(&live(DataContentType::Data, "same-commit.parquet", 2)));
/// ```
#[derive(Debug, Default)]
pub struct DeleteIndex<'a> {
    deletes: &'a [LiveDelete],
    /// Deletion vectors, by the path of their data file.
    vectors: HashMap<String, usize>,
    /// Position delete files that name a single data file, by the path of that data file.
    by_path: HashMap<String, BySequence>,
    /// Position delete files that may name several data files, by partition.
    positions: HashMap<PartitionKey<'a>, BySequence>,
    /// Equality delete files, by partition.
    equality: HashMap<PartitionKey<'a>, BySequence>,
    /// Equality delete files of an unpartitioned spec, which apply to the whole table.
    global: BySequence,
}

impl<'a> DeleteIndex<'a> {
    /// Indexes the deletes of a snapshot.
    ///
    /// # Errors
    ///
    /// Returns [`TableError::Invalid`] if a data file has two deletion vectors: nothing says which of them holds. Returns it also
    /// if a deletion vector names no data file: nothing says whose rows it deletes.
    pub fn new(deletes: &'a [LiveDelete], metadata: &TableMetadata) -> Result<Self> {
        let unpartitioned = |spec: i32| metadata.partition_spec_by_id(spec).is_some_and(|s| s.is_unpartitioned());
        let mut this = Self { deletes, ..Self::default() };
        for (i, delete) in deletes.iter().enumerate() {
            let entry = &delete.entry;
            let numbered = (entry.sequence_number, i);
            let partition = PartitionKey::of(entry);
            match (delete.kind, entry.file.referenced_data_file.clone()) {
                (DeleteKind::DeletionVector, Some(path)) => {
                    if let Some(other) = this.vectors.insert(path.clone(), i) {
                        let (a, b) = (&deletes[other].entry.file.file_path, &entry.file.file_path);
                        let what = format!(
                            "data file {path} has two deletion vectors, in {a} and in {b}, where the specification allows one"
                        );
                        return Err(TableError::Invalid(what));
                    }
                }
                (DeleteKind::DeletionVector, None) => {
                    let path = &entry.file.file_path;
                    let what = format!(
                        "the deletion vector in {path} has no referenced_data_file, which the specification requires; so nobody \
                         knows whose rows it deletes"
                    );
                    return Err(TableError::Invalid(what));
                }
                (DeleteKind::Position, Some(path)) => this.by_path.entry(path).or_default().push(numbered),
                (DeleteKind::Position, None) => this.positions.entry(partition).or_default().push(numbered),
                (DeleteKind::Equality, _) if unpartitioned(entry.spec_id) => this.global.push(numbered),
                (DeleteKind::Equality, _) => this.equality.entry(partition).or_default().push(numbered),
            }
        }
        let all = this.by_path.values_mut().chain(this.positions.values_mut()).chain(this.equality.values_mut());
        all.chain([&mut this.global]).for_each(|list| list.sort_unstable());
        Ok(this)
    }

    /// Returns the position of the deletion vector that applies to a data file, if there is one.
    pub fn vector(&self, file: &LiveFile) -> Option<usize> {
        self.vectors.get(&file.file.file_path).copied().filter(|i| file.sequence_number <= self.sequence_number(*i))
    }

    /// Returns the positions of the position delete files, or of the deletion vector, that may apply to a data file.
    ///
    /// A deletion vector replaces all position delete files of its data file, so it is returned alone.
    pub fn positional_deletes(&self, file: &LiveFile) -> Vec<usize> {
        if let Some(vector) = self.vector(file) {
            return vec![vector];
        }
        let own = self.by_path.get(&file.file.file_path).map_or(&[][..], |list| suffix_from(list, file.sequence_number));
        let shared = self.positions.get(&PartitionKey::of(file)).map_or(&[][..], |list| suffix_from(list, file.sequence_number));
        own.iter().chain(shared).map(|(_, i)| *i).collect()
    }

    /// Returns the position deletes and deletion vectors that may apply to any of these data files, each once.
    pub fn positional_deletes_of_any(&self, files: &[LiveFile]) -> Vec<&'a LiveDelete> {
        let mut oldest: HashMap<PartitionKey<'_>, i64> = HashMap::new();
        let mut found = Vec::new();
        for file in files {
            match self.vector(file) {
                Some(vector) => found.push(vector),
                None => {
                    let own =
                        self.by_path.get(&file.file.file_path).map_or(&[][..], |list| suffix_from(list, file.sequence_number));
                    found.extend(own.iter().map(|(_, i)| *i));
                    let first = oldest.entry(PartitionKey::of(file)).or_insert(i64::MAX);
                    *first = (*first).min(file.sequence_number);
                }
            }
        }
        for (key, first) in oldest {
            let shared = self.positions.get(&key).map_or(&[][..], |list| suffix_from(list, first));
            found.extend(shared.iter().map(|(_, i)| *i));
        }
        found.into_iter().map(|i| &self.deletes[i]).collect()
    }

    /// Groups data files by partition, each group with the equality deletes that may apply to any of its files.
    ///
    /// Files to which no equality delete may apply are left out.
    pub fn equality_by_partition(&self, files: &[LiveFile]) -> Vec<(Vec<LiveFile>, Vec<LiveDelete>)> {
        let mut partitions: BTreeMap<PartitionKey<'_>, Vec<LiveFile>> = BTreeMap::new();
        for file in files.iter().filter(|file| self.equality(file).next().is_some()) {
            partitions.entry(PartitionKey::of(file)).or_default().push(file.clone());
        }
        let deletes = |files: &[LiveFile]| {
            let oldest = files.iter().min_by_key(|f| f.sequence_number);
            let indices = oldest.into_iter().flat_map(|file| self.equality(file).collect::<Vec<_>>());
            indices.map(|i| self.deletes[i].clone()).collect()
        };
        let with_deletes = |files: Vec<LiveFile>| {
            let deletes = deletes(&files);
            (files, deletes)
        };
        partitions.into_values().map(with_deletes).collect()
    }

    /// Checks that a position delete file or deletion vector applies to a data file by partition and sequence number. If it does,
    /// it deletes each row of the data file that it names.
    pub fn may_apply(&self, delete: &LiveDelete, file: &LiveFile) -> bool {
        let same = PartitionKey::of(&delete.entry) == PartitionKey::of(file);
        file.sequence_number <= delete.entry.sequence_number && (same || delete.kind == DeleteKind::DeletionVector)
    }

    /// Returns the positions of [`Self::positional_deletes`] whose delete files name this data file alone.
    pub fn file_scoped(&self, file: &LiveFile) -> Vec<usize> {
        let names_one_file = |i: &usize| self.deletes[*i].entry.file.referenced_data_file.is_some();
        self.positional_deletes(file).into_iter().filter(names_one_file).collect()
    }

    /// Iterates over the positions of the equality delete files that may apply to a data file.
    ///
    /// Delete files of its partition come first, then those of the whole table. Both groups begin with the oldest.
    pub fn equality<'s>(&'s self, file: &'s LiveFile) -> impl Iterator<Item = usize> + use<'s, 'a> {
        let after = file.sequence_number.saturating_add(1);
        let own = self.equality.get(&PartitionKey::of(file)).map_or(&[][..], |list| suffix_from(list, after));
        own.iter().chain(suffix_from(&self.global, after)).map(|(_, i)| *i)
    }

    /// Computes a name for each list of equality delete files that can apply to a data file, as a cache key.
    ///
    /// The delete files that apply to a data file are the end of a list sorted by sequence number. So `name` is called once for
    /// each delete file, with its path and the name of the list that begins after it. The cost does not grow with the data files.
    pub fn equality_keys(&self, name: impl Fn(&[&str]) -> String) -> EqualityDeleteKeys<'a> {
        let named_suffixes = |list: &BySequence| {
            let path = |i: usize| self.deletes[i].entry.file.file_path.as_str();
            let mut list = list.clone();
            list.sort_by_key(|(number, i)| (*number, path(*i)));
            let (mut names, mut after) = (Vec::with_capacity(list.len()), String::new());
            for (number, i) in list.into_iter().rev() {
                after = name(&[path(i), &after]);
                names.push((number, after.clone()));
            }
            names.reverse();
            names
        };
        EqualityDeleteKeys {
            own: self.equality.iter().map(|(partition, list)| (partition.clone(), named_suffixes(list))).collect(),
            global: named_suffixes(&self.global),
        }
    }

    /// Returns the positions of all deletes that may apply to a data file.
    pub fn all(&self, file: &LiveFile) -> Vec<usize> {
        self.positional_deletes(file).into_iter().chain(self.equality(file)).collect()
    }

    /// Checks that at least one delete may apply to a data file.
    pub fn any(&self, file: &LiveFile) -> bool {
        self.equality(file).next().is_some() || !self.positional_deletes(file).is_empty()
    }

    fn sequence_number(&self, i: usize) -> i64 {
        self.deletes[i].entry.sequence_number
    }
}

/// The names of lists of equality delete files. Each delete file has the name of the list that begins with it and ends with the
/// newest.
#[derive(Debug)]
pub struct EqualityDeleteKeys<'a> {
    /// The sequence number of each delete file and the name of the list that begins with it, the oldest first; by partition.
    own: HashMap<PartitionKey<'a>, Vec<(i64, String)>>,
    /// The same for the delete files that apply to the whole table.
    global: Vec<(i64, String)>,
}

impl EqualityDeleteKeys<'_> {
    /// Returns the names of two lists of equality delete files that apply to a data file: of its partition, and of the whole table.
    ///
    /// An empty name stands for an empty list. The result is `None` if both lists are empty.
    pub fn of<'s>(&'s self, file: &'s LiveFile) -> Option<[&'s str; 2]> {
        let first = |list: &[(i64, String)]| list.partition_point(|(number, _)| *number <= file.sequence_number);
        let own = self.own.get(&PartitionKey::of(file)).and_then(|list| list.get(first(list)));
        let global = self.global.get(first(&self.global));
        (own.is_some() || global.is_some())
            .then(|| [own.map_or("", |(_, name)| name.as_str()), global.map_or("", |(_, name)| name.as_str())])
    }
}

/// Returns the end of a sorted list: the delete files whose sequence number is at least `sequence_number`.
fn suffix_from(list: &[(i64, usize)], sequence_number: i64) -> &[(i64, usize)] {
    &list[list.partition_point(|(s, _)| *s < sequence_number)..]
}

/// Lowers the oldest sequence number of the file's partition to that of the file.
fn lower_oldest<'a>(oldest: &mut HashMap<PartitionKey<'a>, i64>, file: &'a LiveFile) {
    let first = oldest.entry(PartitionKey::of(file)).or_insert(i64::MAX);
    *first = (*first).min(file.sequence_number);
}

/// Finds the delete files that apply to no data file any more. Returns positions in [`LiveFiles::deletes`].
///
/// A delete file dangles if no data file of its scope is old enough, or if the single data file that it names is not live.
/// `about_to_be_added` are data files that are about to be added. No position delete can name them yet, but equality deletes may
/// apply to them.
pub fn dangling(live: &LiveFiles, about_to_be_added: &[LiveFile], metadata: &TableMetadata) -> Vec<usize> {
    let unpartitioned = |spec: i32| metadata.partition_spec_by_id(spec).is_some_and(|s| s.is_unpartitioned());
    let mut by_path: HashMap<&str, &LiveFile> = HashMap::new();
    let mut oldest: HashMap<PartitionKey<'_>, i64> = HashMap::new();
    let mut oldest_named: HashMap<PartitionKey<'_>, i64> = HashMap::new();
    let mut oldest_of_all = i64::MAX;
    for file in &live.data {
        by_path.insert(&file.file.file_path, file);
        lower_oldest(&mut oldest_named, file);
    }
    for file in live.data.iter().chain(about_to_be_added) {
        lower_oldest(&mut oldest, file);
        oldest_of_all = oldest_of_all.min(file.sequence_number);
    }
    let applies = |delete: &LiveDelete| {
        let entry = &delete.entry;
        let first = |map: &HashMap<PartitionKey<'_>, i64>| map.get(&PartitionKey::of(entry)).copied().unwrap_or(i64::MAX);
        match (delete.kind, &entry.file.referenced_data_file) {
            (DeleteKind::Equality, _) if unpartitioned(entry.spec_id) => oldest_of_all < entry.sequence_number,
            (DeleteKind::Equality, _) => first(&oldest) < entry.sequence_number,
            (_, Some(path)) => by_path.get(path.as_str()).is_some_and(|f| f.sequence_number <= entry.sequence_number),
            (DeleteKind::Position, None) => first(&oldest_named) <= entry.sequence_number,
            // The specification requires a deletion vector to name its data file. Keep one that does not: nobody knows its rows.
            (DeleteKind::DeletionVector, None) => true,
        }
    };
    (0..live.deletes.len()).filter(|i| !applies(&live.deletes[*i])).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use esker_format::{DataContentType, DataFile, DataFileFormat, Value};
    use esker_types::{Coded, ErrorCode};

    fn file(path: String, partition: i32, sequence_number: i64, content: DataContentType, about: Option<String>) -> LiveFile {
        let file = DataFile::new(content, path, DataFileFormat::Parquet, 1, 1);
        let file = DataFile { partition: [Some(Value::Int(partition))].into(), referenced_data_file: about, ..file };
        LiveFile { file, spec_id: 1, sequence_number, file_sequence_number: None, snapshot_id: 1, first_row_id: None }
    }

    pub(crate) fn metadata() -> TableMetadata {
        let json = serde_json::json!({
            "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "file:///t",
            "last-sequence-number": 9, "last-updated-ms": 1, "last-column-id": 1, "current-schema-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "p", "required": false, "type": "int"}]}],
            "default-spec-id": 1, "last-partition-id": 1000, "default-sort-order-id": 0,
            "partition-specs": [{"spec-id": 0, "fields": []},
                {"spec-id": 1, "fields": [{"source-id": 1, "field-id": 1000, "name": "p", "transform": "identity"}]}],
            "sort-orders": [{"order-id": 0, "fields": []}],
        });
        serde_json::from_value(json).expect("metadata")
    }

    fn value(file: &LiveFile) -> &Option<Value> {
        &file.file.partition[0]
    }

    /// Applies the rules of the specification literally, delete by delete, as the model for the index.
    fn applies(delete: &LiveDelete, data: &LiveFile) -> bool {
        let same = delete.entry.spec_id == data.spec_id && value(&delete.entry) == value(data);
        let (d, s) = (delete.entry.sequence_number, data.sequence_number);
        match delete.kind {
            DeleteKind::Equality => s < d && (same || delete.entry.spec_id == 0),
            _ => {
                let about = delete.entry.file.referenced_data_file.as_ref();
                s <= d && same && about.is_none_or(|path| *path == data.file.file_path)
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn the_index_finds_what_the_specification_says(
            data in proptest::collection::vec((0_i32..3, 1_i64..8), 0..12),
            deletes in proptest::collection::vec((0_u8..4, 0_i32..3, 1_i64..8, 0_usize..12), 0..12),
        ) {
            let mut live = LiveFiles::default();
            for (i, (partition, s)) in data.iter().enumerate() {
                live.data.push(file(format!("d{i}"), *partition, *s, DataContentType::Data, None));
            }
            for (i, (kind, partition, s, about)) in deletes.iter().enumerate() {
                let target = live.data.get(*about);
                let (content, about, partition) = match (kind, target) {
                    (0, _) => (DataContentType::PositionDeletes, None, *partition),
                    (1, Some(f)) => {
                        (DataContentType::PositionDeletes, Some(f.file.file_path.clone()), data[*about].0)
                    }
                    _ => (DataContentType::EqualityDeletes, None, *partition),
                };
                let kind_of = if content == DataContentType::EqualityDeletes { DeleteKind::Equality } else { DeleteKind::Position };
                let mut entry = file(format!("x{i}"), partition, *s, content, about);
                if *kind == 3 {
                    entry.spec_id = 0;
                }
                live.deletes.push(LiveDelete { entry, kind: kind_of });
            }
            let metadata = metadata();
            let index = DeleteIndex::new(&live.deletes, &metadata).expect("an index");
            let dangling_deletes = dangling(&live, &[], &metadata);
            for data in &live.data {
                let mut found = index.all(data);
                found.sort_unstable();
                let expected: Vec<usize> = (0..live.deletes.len()).filter(|i| applies(&live.deletes[*i], data)).collect();
                proptest::prop_assert_eq!(index.any(data), !expected.is_empty());
                proptest::prop_assert!(expected.iter().all(|i| !dangling_deletes.contains(i)));
                proptest::prop_assert_eq!(found, expected);
            }
            for i in 0..live.deletes.len() {
                let used = live.data.iter().any(|d| applies(&live.deletes[i], d));
                proptest::prop_assert_eq!(dangling_deletes.contains(&i), !used);
            }
        }
    }

    #[test]
    fn two_vectors_about_one_file_are_an_error_that_names_it() {
        let vector = |path: &str| {
            let entry = file(path.to_owned(), 0, 2, DataContentType::PositionDeletes, Some("d0".to_owned()));
            LiveDelete { entry, kind: DeleteKind::DeletionVector }
        };
        let data = vec![file("d0".to_owned(), 0, 1, DataContentType::Data, None)];
        let live = LiveFiles { data, deletes: vec![vector("v1"), vector("v2")], ..LiveFiles::default() };
        let error = DeleteIndex::new(&live.deletes, &metadata()).expect_err("ambiguous");
        assert_eq!(error.code(), ErrorCode::DataInvalid);
        let error = error.to_string();
        assert!(error.contains("d0") && error.contains("v1") && error.contains("v2"), "{error}");
    }

    /// Spec: "Data File Fields": `referenced_data_file` is required for deletion vectors.
    #[test]
    fn a_vector_that_names_no_data_file_is_an_error_that_names_it_and_is_kept() {
        let entry = file("v1".to_owned(), 0, 2, DataContentType::PositionDeletes, None);
        let deletes = vec![LiveDelete { entry, kind: DeleteKind::DeletionVector }];
        let live = LiveFiles { deletes, ..LiveFiles::default() };
        let error = DeleteIndex::new(&live.deletes, &metadata()).expect_err("nobody knows whose rows it deletes");
        assert!(error.to_string().contains("v1"), "{error}");
        assert_eq!(error.code(), ErrorCode::DataInvalid);
        assert_eq!(dangling(&live, &[], &metadata()), Vec::<usize>::new());
    }

    proptest::proptest! {
        /// Checks that equality deletes are grouped by partition, and that each file occurs once.
        #[test]
        fn equality_deletes_are_resolved_partition_by_partition(
            data in proptest::collection::vec((0_i32..3, 1_i64..8), 0..12),
            deletes in proptest::collection::vec((0_i32..3, 1_i64..8), 0..6),
        ) {
            let named = |prefix: &str, content, all: &[(i32, i64)]| -> Vec<LiveFile> {
                let one = |(i, (v, s)): (usize, &(i32, i64))| file(format!("{prefix}{i}"), *v, *s, content, None);
                all.iter().enumerate().map(one).collect()
            };
            let deletes = named("x", DataContentType::EqualityDeletes, &deletes);
            let deletes = deletes.into_iter().map(|entry| LiveDelete { entry, kind: DeleteKind::Equality }).collect();
            let live = LiveFiles { data: named("d", DataContentType::Data, &data), deletes, ..LiveFiles::default() };
            let metadata = metadata();
            let index = DeleteIndex::new(&live.deletes, &metadata).expect("an index");
            let mut seen = Vec::new();
            for (files, deletes) in index.equality_by_partition(&live.data) {
                let of_one = files.iter().all(|f| value(f) == value(&files[0])) && deletes.iter().all(|d| value(&d.entry) == value(&files[0]));
                proptest::prop_assert!(of_one);
                for file in &files {
                    let needed = live.deletes.iter().filter(|d| applies(d, file)).map(|d| d.entry.file.file_path.as_str());
                    let found: Vec<&str> = deletes.iter().map(|d| d.entry.file.file_path.as_str()).collect();
                    proptest::prop_assert!(needed.into_iter().all(|path| found.contains(&path)));
                    seen.push(file.file.file_path.clone());
                }
            }
            seen.sort_unstable();
            let mut expected: Vec<_> = live.data.iter().filter(|f| live.deletes.iter().any(|d| applies(d, f))).map(|f| f.file.file_path.clone()).collect();
            expected.sort_unstable();
            proptest::prop_assert_eq!(seen, expected);
        }
    }
}
