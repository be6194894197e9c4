//! Deletes by position in a late commit: deletion vectors and position delete files about data files that it does not add itself.
//!
//! Of two commits that delete the same row, the first wins. So the positions that the commit deletes are compared with those that
//! others deleted since its base. A data file has one deletion vector: in format version 3 the result has the positions of both
//! sides in one. In version 2 the delete files stay as they are. Start reading at [`PositionChange::plan`].
//!
//! Spec: "Deletion Vectors", "Position Delete Files", "Scan Planning".

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use esker_format::{DataContentType, DataFile, DataFileFormat, ManifestContent, ManifestFile, TableMetadata, Tuple};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{StreamExt, TryStreamExt};
use roaring::RoaringTreemap;

use super::MergeRule;
use super::conditions::{adds_rows, older_positions, own_paths};
use super::effect::{AddedFile, Changes, Effect, live_files_of};
use super::moves::{follow_rows, load_moves};
use crate::{
    DeleteIndex, DeleteKey, DeleteKind, LiveDelete, LiveFile, LiveFiles, Manifests, Refusal, Result, RowsToDelete, delete_key,
};

/// The positions that one delete file deletes, by the path of the data file.
pub type DeletedPositions = HashMap<String, RoaringTreemap>;

/// Reads and encodes delete files. This crate knows nothing of Parquet, so the caller of a rebase gives it.
pub trait DeleteFiles: fmt::Debug + Send + Sync {
    /// Reads the positions in a deletion vector or a position delete file of a table.
    ///
    /// # Errors
    ///
    /// Returns [`TableError::Caller`](crate::TableError::Caller) if the file can't be read, or contradicts its manifest entry.
    fn read_deletes<'a>(
        &'a self,
        metadata: &'a TableMetadata,
        delete: &'a LiveDelete,
    ) -> BoxFuture<'a, Result<Arc<DeletedPositions>>>;

    /// Encodes a position delete file about one data file, in Parquet.
    ///
    /// # Errors
    ///
    /// Returns [`TableError::Caller`](crate::TableError::Caller) if the file can't be encoded.
    fn encode_positions(&self, rows: &RowsToDelete) -> Result<Vec<u8>>;
}

/// The total size in bytes of the delete files that are read for one commit. The table has its turn meanwhile, and the positions
/// are in memory.
const MAX_DELETE_BYTES: u64 = 64 << 20;

/// The number of delete files that are read at the same time.
const CONCURRENT_DELETES: usize = 8;

/// The positions in delete files that were read, by the identity of the file.
type ReadPositions = HashMap<DeleteKey, Arc<DeletedPositions>>;

/// A change that deletes rows by position, and the state that it meets.
pub(super) struct PositionChange<'a> {
    pub(super) source: &'a Manifests,
    pub(super) metadata: &'a TableMetadata,
    pub(super) files: &'a dyn DeleteFiles,
    /// The manifests of the snapshot that the change was written on.
    pub(super) before: &'a [ManifestFile],
    /// The files that changed between the base of the commit and the head.
    pub(super) since: &'a Changes,
    pub(super) effect: &'a Effect,
    /// The locations of the mappings of rows that compactions since the base have kept.
    pub(super) moves: &'a [String],
    /// True if the commit has further snapshots, which may add the rows that this one deletes.
    pub(super) is_in_chain: bool,
}

/// The deletes of the result that differ from those of the client.
#[derive(Debug, Default)]
pub(super) struct PlannedPositions {
    /// The deletes to write in place of the client's.
    pub(super) written: Vec<RowsToDelete>,
    /// The client's delete files that are not entered: others take their place, or their data file is gone.
    pub(super) left_out: HashSet<DeleteKey>,
    /// The deletes of the head that go, because a vector of the result has their positions.
    pub(super) superseded: HashSet<DeleteKey>,
    /// The data files whose older deletes by position the commit's own contain.
    pub(super) contained: HashSet<String>,
}

/// The positions that a change deletes in one data file.
struct DeletedRows {
    spec_id: i32,
    partition: Tuple,
    positions: RoaringTreemap,
    /// The vector that has them, in format version 3.
    vector: Option<DeleteKey>,
}

/// The deletes by position that a data file has without the change.
#[derive(Default)]
struct OtherDeletes {
    /// The positions that are deleted in the base.
    base: RoaringTreemap,
    /// The positions that are deleted in the head.
    head: RoaringTreemap,
    /// The deletes of the head that are about this data file alone.
    own: HashSet<DeleteKey>,
}

impl PositionChange<'_> {
    /// Checks each data file that the change deletes rows of by position, and plans the deletes of the result.
    ///
    /// # Errors
    ///
    /// - Returns [`TableError::NotMerged`](crate::TableError::NotMerged) with the rule that the change breaks.
    /// - Returns the errors of [`Manifests::load`] and [`DeleteFiles::read_deletes`], and
    ///   [`TableError::Invalid`](crate::TableError::Invalid) if a data file has two deletion vectors.
    pub(super) async fn plan(&self) -> Result<PlannedPositions> {
        let mut plan = PlannedPositions::default();
        let own = own_paths(self.effect);
        let added: Vec<LiveDelete> = older_positions(self.effect, &own).filter_map(as_delete).collect();
        if added.is_empty() {
            return Ok(plan);
        }
        self.check_kinds(&added)?;
        let read = self.read(added.iter()).await?;
        let by_file = rows_by_file(&added, &read, &own);
        let mut others = self.other_deletes(&by_file).await?;
        let [new, old] = [&self.since.added, &self.since.removed].map(|files| DeleteIndex::new(&files.deletes, self.metadata));
        let (new, old) = (new?, old?);
        let [came, went] = [&self.since.added, &self.since.removed].map(data_files);
        let (mut staying, mut moved) = (Vec::new(), Vec::new());
        for (path, rows) in by_file {
            let other = others.remove(&path).unwrap_or_default();
            match (went.contains_key(path.as_str()), came.contains_key(path.as_str())) {
                (false, false) => {
                    self.check_equality(&rows.target(&path), &new, &old)?;
                    self.check_rows(&path, &rows, &other)?;
                    staying.push((path, rows, other));
                }
                // Its rows are gone, and no commit since the base has added any.
                (true, false) if self.may_overlap() => plan.left_out.extend(rows.vector),
                (true, false) => moved.push((path, rows, other.base)),
                _ => return Err(replaced(&path).into()),
            }
        }
        let is_rewritten = !self.has_vectors() && !moved.is_empty();
        if is_rewritten {
            // A delete file of version 2 may be about several data files, so none of the commit's stays.
            check_none_of_own(&read, &own)?;
            plan.left_out.extend(read.into_keys());
        }
        for (path, rows, other) in staying {
            plan.add(path, rows, other, is_rewritten);
        }
        self.follow_moved(moved, &came, &[&new, &old], &mut plan).await?;
        Ok(plan)
    }

    /// Checks whether deletes by position are deletion vectors in this table.
    const fn has_vectors(&self) -> bool {
        self.metadata.format_version >= 3
    }

    /// Plans the deletes in data files that compactions replaced: they follow their rows, where the mapping of rows is kept.
    ///
    /// `moved` has the paths of the files with the rows that the change deletes, and the positions that were deleted in the base.
    /// `indexes` are those of the deletes that came and of those that are gone.
    async fn follow_moved(
        &self,
        moved: Vec<(String, DeletedRows, RoaringTreemap)>,
        came: &HashMap<&str, &LiveFile>,
        indexes: &[&DeleteIndex<'_>; 2],
        plan: &mut PlannedPositions,
    ) -> Result<()> {
        if moved.is_empty() {
            return Ok(());
        }
        let moves = load_moves(self.source.storage(), self.moves).await;
        let (mut by_file, mut deleted): (BTreeMap<String, DeletedRows>, BTreeMap<String, RoaringTreemap>) = Default::default();
        for (path, rows, base) in moved {
            check_contains(&path, &rows, &base)?;
            let own = &rows.positions - &base;
            let follow = |positions: &RoaringTreemap| follow_rows(&moves, came, &path, positions);
            let (Some(now), Some(before)) = (follow(&own), follow(&base)) else { return Err(replaced(&path).into()) };
            let gone = own.len().saturating_sub(now.values().map(RoaringTreemap::len).sum());
            if gone > 0 {
                let what = format!("it deletes {gone} rows of {path} that were deleted before a compaction replaced it");
                return Err(MergeRule::SameRow.refuse(what).into());
            }
            for (path, positions) in now {
                let Some(live) = came.get(path.as_str()) else { continue };
                let rows = by_file.entry(path).or_insert_with(|| DeletedRows::none_of(live));
                rows.positions |= positions;
            }
            before.into_iter().for_each(|(path, positions)| *deleted.entry(path).or_default() |= positions);
            plan.left_out.extend(rows.vector);
        }
        let mut others = self.other_deletes(&by_file).await?;
        for (path, rows) in by_file {
            let Some(live) = came.get(path.as_str()) else { continue };
            self.check_equality(live, indexes[0], indexes[1])?;
            let mut other = others.remove(&path).unwrap_or_default();
            // What was deleted in the base was deleted by the compaction, or followed its rows.
            other.base |= deleted.remove(&path).unwrap_or_default();
            self.check_rows(&path, &rows, &other)?;
            plan.add_moved(path, rows, other, self.has_vectors());
        }
        Ok(())
    }

    /// Checks that nobody has added rows since the base, this commit included. Then deletes of the same row agree with each other.
    fn may_overlap(&self) -> bool {
        !self.is_in_chain && !adds_rows(self.effect) && self.since.added.data.is_empty()
    }

    /// Checks that the added deletes are of the kind that the format version has, one vector to a data file.
    fn check_kinds(&self, added: &[LiveDelete]) -> Result<()> {
        DeleteIndex::new(added, self.metadata)?;
        let expected = if self.has_vectors() { DeleteKind::DeletionVector } else { DeleteKind::Position };
        match added.iter().find(|delete| delete.kind != expected) {
            None => Ok(()),
            Some(delete) => {
                let (path, version) = (&delete.entry.file.file_path, self.metadata.format_version);
                let what = format!("it adds {path}, which is no delete file of format version {version}");
                Err(MergeRule::Operation.refuse(what).into())
            }
        }
    }

    /// Reads delete files, several at a time.
    async fn read<'d>(&self, deletes: impl Iterator<Item = &'d LiveDelete>) -> Result<ReadPositions> {
        let deletes: Vec<&LiveDelete> = deletes.collect();
        let bytes = deletes.iter().fold(0_u64, |sum, delete| sum.saturating_add(delete_bytes(&delete.entry.file)));
        if bytes > MAX_DELETE_BYTES {
            let what = format!("{bytes} bytes of deletes would have to be read, more than {MAX_DELETE_BYTES}");
            return Err(MergeRule::Unreadable.refuse(what).into());
        }
        let reads: Vec<_> = deletes.into_iter().map(|delete| self.read_one(delete).boxed()).collect();
        futures::stream::iter(reads).buffer_unordered(CONCURRENT_DELETES).try_collect().await
    }

    /// Reads one delete file.
    async fn read_one(&self, delete: &LiveDelete) -> Result<(DeleteKey, Arc<DeletedPositions>)> {
        let positions = self.files.read_deletes(self.metadata, delete).await?;
        Ok((delete_key(&delete.entry.file), positions))
    }

    /// Finds the deletes by position that data files have in the base and in the head.
    async fn other_deletes(&self, by_file: &BTreeMap<String, DeletedRows>) -> Result<HashMap<String, OtherDeletes>> {
        let base = self.base_deletes(by_file).await?;
        let gone: HashSet<DeleteKey> = self.since.removed.deletes.iter().map(|delete| delete_key(&delete.entry.file)).collect();
        let new = self.since.added.deletes.iter().filter(|delete| is_about_any(delete, by_file));
        let kept: Vec<&LiveDelete> = base.iter().filter(|delete| !gone.contains(&delete_key(&delete.entry.file))).collect();
        let head: Vec<LiveDelete> = kept.into_iter().chain(new).cloned().collect();
        check_one_vector(&head)?;
        let (base_index, head_index) = (DeleteIndex::new(&base, self.metadata)?, DeleteIndex::new(&head, self.metadata)?);
        let mut needed: HashMap<DeleteKey, &LiveDelete> = HashMap::new();
        let mut found = Vec::with_capacity(by_file.len());
        for (path, rows) in by_file {
            let target = [rows.target(path)];
            let both = [&base_index, &head_index].map(|index| index.positional_deletes_of_any(&target));
            needed.extend(both.iter().flatten().map(|delete| (delete_key(&delete.entry.file), *delete)));
            found.push((path, both));
        }
        let read = self.read(needed.into_values()).await?;
        let mut others = HashMap::new();
        for (path, both) in found {
            let [base, in_head] = both.map(|deletes| positions_of(path, &deletes, &read));
            let is_own = |delete: &&LiveDelete| delete.entry.file.referenced_data_file.as_ref() == Some(path);
            let own = head.iter().filter(is_own).map(|delete| delete_key(&delete.entry.file)).collect();
            others.insert(path.clone(), OtherDeletes { base, head: in_head, own });
        }
        Ok(others)
    }

    /// Returns the deletes by position of the snapshot that the change was written on, those that may be about its data files.
    async fn base_deletes(&self, by_file: &BTreeMap<String, DeletedRows>) -> Result<Vec<LiveDelete>> {
        let manifests = self.before.iter().filter(|file| file.content == ManifestContent::Deletes).collect();
        let mut reads = live_files_of(self.source, self.metadata, manifests);
        let mut found = Vec::new();
        while let Some(files) = reads.try_next().await? {
            let deletes =
                files.into_iter().filter_map(|entry| DeleteKind::of(&entry.file).map(|kind| LiveDelete { entry, kind }));
            found.extend(deletes.filter(|delete| is_about_any(delete, by_file)));
        }
        Ok(found)
    }

    /// Checks the equality deletes of a data file: none came if the commit adds rows, and none is gone.
    ///
    /// A row that came with the commit would replace one that was deleted meanwhile.
    fn check_equality(
        &self,
        target: &LiveFile,
        new: &DeleteIndex<'_>,
        old: &DeleteIndex<'_>,
    ) -> std::result::Result<(), Refusal> {
        let path = &target.file.file_path;
        if old.equality(target).next().is_some() {
            return Err(MergeRule::LostDelete.refuse(format!("an equality delete that applied to {path} is gone")));
        }
        let only_deletes = !self.is_in_chain && !adds_rows(self.effect);
        if !only_deletes && new.equality(target).next().is_some() {
            let what = format!("it deletes rows of {path} and adds rows, and equality deletes came that apply to that file");
            return Err(MergeRule::NewDelete.refuse(what));
        }
        Ok(())
    }

    /// Checks that no other commit deleted the same rows since the base, and that the deletes of the base still hold.
    fn check_rows(&self, path: &str, rows: &DeletedRows, other: &OtherDeletes) -> std::result::Result<(), Refusal> {
        if !other.base.is_subset(&other.head) {
            return Err(MergeRule::LostDelete.refuse(format!("rows of {path} that were deleted are back")));
        }
        check_contains(path, rows, &other.base)?;
        let (own, since) = (&rows.positions - &other.base, &other.head - &other.base);
        let both = own.intersection_len(&since);
        if both > 0 && !self.may_overlap() {
            let what = format!("it deletes {both} of the rows of {path} that another commit deleted");
            return Err(MergeRule::SameRow.refuse(what));
        }
        Ok(())
    }
}

impl PlannedPositions {
    /// Adds the deletes of one data file, which keep the rules. `is_rewritten` is true if position delete files are written anew.
    fn add(&mut self, path: String, rows: DeletedRows, other: OtherDeletes, is_rewritten: bool) {
        let DeletedRows { spec_id, partition, positions, vector } = rows;
        match vector {
            Some(key) => {
                self.superseded.extend(other.own);
                if !other.head.is_subset(&positions) {
                    self.left_out.insert(key);
                    self.written.push(RowsToDelete { path, spec_id, partition, positions: positions | other.head });
                }
            }
            None => {
                if other.base.is_subset(&positions) {
                    self.contained.insert(path.clone());
                }
                if is_rewritten {
                    self.written.push(RowsToDelete { path, spec_id, partition, positions });
                }
            }
        }
    }

    /// Adds the deletes of a data file that a compaction wrote, which keep the rules. A vector has those that the file has, too.
    fn add_moved(&mut self, path: String, rows: DeletedRows, other: OtherDeletes, has_vectors: bool) {
        let DeletedRows { spec_id, partition, mut positions, .. } = rows;
        if has_vectors {
            self.superseded.extend(other.own);
            positions |= other.head;
        }
        self.written.push(RowsToDelete { path, spec_id, partition, positions });
    }
}

impl DeletedRows {
    /// Returns no rows of a data file.
    fn none_of(live: &LiveFile) -> Self {
        let (spec_id, partition) = (live.spec_id, live.file.partition.clone());
        Self { spec_id, partition, positions: RoaringTreemap::new(), vector: None }
    }

    /// Returns the data file as far as it decides which deletes apply to it. It counts as older than all of them.
    fn target(&self, path: &str) -> LiveFile {
        let file = DataFile::new(DataContentType::Data, path, DataFileFormat::Parquet, 0, 0);
        let file = DataFile { partition: self.partition.clone(), ..file };
        LiveFile {
            file,
            spec_id: self.spec_id,
            sequence_number: 0,
            file_sequence_number: None,
            snapshot_id: 0,
            first_row_id: None,
        }
    }
}

/// Returns a delete file that a change adds as a live one. Its sequence number is not known yet.
fn as_delete(added: &AddedFile) -> Option<LiveDelete> {
    let kind = DeleteKind::of(&added.file)?;
    let (file, spec_id) = (added.file.clone(), added.spec_id);
    let entry = LiveFile { file, spec_id, sequence_number: 0, file_sequence_number: None, snapshot_id: 0, first_row_id: None };
    Some(LiveDelete { entry, kind })
}

/// Returns the size in bytes of what is read of a delete file.
fn delete_bytes(file: &DataFile) -> u64 {
    file.content_size_in_bytes.map_or_else(|| file.size(), i64::unsigned_abs)
}

/// Returns data files by their paths.
fn data_files(files: &LiveFiles) -> HashMap<&str, &LiveFile> {
    files.data.iter().map(|live| (live.file.file_path.as_str(), live)).collect()
}

/// Checks that delete files that are written anew have no rows of data files of the same commit.
fn check_none_of_own(read: &ReadPositions, own: &HashSet<&[u8]>) -> std::result::Result<(), Refusal> {
    match read.values().flat_map(|positions| positions.keys()).find(|path| own.contains(path.as_bytes())) {
        None => Ok(()),
        Some(path) => {
            let what = format!("a delete file about a data file that another commit replaced has rows of its own {path} too");
            Err(MergeRule::RemovedFile.refuse(what))
        }
    }
}

/// Returns the refusal of deletes in a data file that another commit replaced.
fn replaced(path: &str) -> Refusal {
    MergeRule::RemovedFile.refuse(format!("it deletes rows of {path}, which another commit replaced"))
}

/// Checks that the vector of a data file, if the rows are in one, contains the positions that were deleted in the base.
fn check_contains(path: &str, rows: &DeletedRows, base: &RoaringTreemap) -> std::result::Result<(), Refusal> {
    if rows.vector.is_none() || base.is_subset(&rows.positions) {
        return Ok(());
    }
    Err(MergeRule::LostDelete.refuse(format!("its deletion vector for {path} lacks positions that were deleted before")))
}

/// Collects the positions that a change deletes, by data file. Data files of the change itself are left out.
fn rows_by_file(added: &[LiveDelete], read: &ReadPositions, own: &HashSet<&[u8]>) -> BTreeMap<String, DeletedRows> {
    let mut by_file: BTreeMap<String, DeletedRows> = BTreeMap::new();
    for delete in added {
        let (file, key) = (&delete.entry.file, delete_key(&delete.entry.file));
        let Some(positions) = read.get(&key) else { continue };
        let vector = (delete.kind == DeleteKind::DeletionVector).then_some(key);
        for (path, positions) in positions.iter().filter(|(path, _)| !own.contains(path.as_bytes())) {
            let rows = by_file.entry(path.clone()).or_insert_with(|| DeletedRows {
                spec_id: delete.entry.spec_id,
                partition: file.partition.clone(),
                positions: RoaringTreemap::new(),
                vector: None,
            });
            rows.positions |= positions;
            rows.vector = rows.vector.take().or_else(|| vector.clone());
        }
    }
    by_file
}

/// Checks whether a delete by position may be about one of some data files.
fn is_about_any(delete: &LiveDelete, by_file: &BTreeMap<String, DeletedRows>) -> bool {
    let names_one = delete.entry.file.referenced_data_file.as_ref().is_none_or(|path| by_file.contains_key(path));
    delete.kind != DeleteKind::Equality && names_one
}

/// Checks that each data file has one deletion vector.
///
/// It has two if an earlier snapshot of the commit and another commit have each replaced it.
fn check_one_vector(head: &[LiveDelete]) -> std::result::Result<(), Refusal> {
    let mut seen = HashSet::new();
    let vectors = head.iter().filter(|delete| delete.kind == DeleteKind::DeletionVector);
    for path in vectors.filter_map(|delete| delete.entry.file.referenced_data_file.as_deref()) {
        if !seen.insert(path) {
            let what = format!("two of its snapshots delete rows of {path}, and another commit did so since");
            return Err(MergeRule::NotMergedYet.refuse(what));
        }
    }
    Ok(())
}

/// Returns the positions that some deletes delete in a data file.
fn positions_of(path: &str, deletes: &[&LiveDelete], read: &ReadPositions) -> RoaringTreemap {
    let mut all = RoaringTreemap::new();
    for delete in deletes {
        if let Some(positions) = read.get(&delete_key(&delete.entry.file)).and_then(|positions| positions.get(path)) {
            all |= positions;
        }
    }
    all
}
