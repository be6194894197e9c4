//! Writes the snapshots of a rebased commit: manifests, manifest lists and summaries.
//!
//! A rebased snapshot keeps its id, so that its client finds it. Parent, sequence number, time and row ids are new. The manifest
//! list is that of the head with the effect of the commit. Start reading at [`RebasePlan::write`].

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use esker_format::{
    BoundBytes, DataContentType, DataFile, DataFileFormat, ManifestContent, ManifestEntry, ManifestFile, Snapshot, TableMetadata,
    UNASSIGNED_SEQUENCE_NUMBER,
};
use esker_storage::Storage;
use futures::FutureExt;
use futures::stream::{StreamExt, TryStreamExt};
use uuid::Uuid;

use super::conditions::removed_data;
use super::effect::AddedFile;
use super::{DeleteFiles, DeletesOrigin, MergeCache, MergeClass, PlannedChange, RebasePlan, StepKind};
use crate::snapshot_builder::{
    COUNTS, ManifestDraft, NewSnapshot, TouchedManifests, added_entry, max_entries, partition_manifests, split, summary,
    write_manifests,
};
use crate::{
    DeleteKind, FILE_PATH_FIELD_ID, Manifests, RecordPaths, Result, RowsToDelete, SnapshotChanges, data_dir, encode_vector_file,
    vector_file_path, with_bounds,
};

/// The summary key of the snapshot that the client had read, or `none`.
pub const REBASED_FROM: &str = "esker.rebased-from";
/// The summary key of the class of the rebased commit.
pub const REBASED_AS: &str = "esker.rebased-as";
/// The summary key of the name of the client's manifest list, by which the client's request is recognised when it comes again.
pub const REBASED_LIST: &str = "esker.rebased-list";

/// Further summary keys that tell of the client's list and the client's counts, which are not those of the merged snapshot.
const OF_CLIENTS_LIST: [&str; 5] =
    ["manifests-created", "manifests-kept", "manifests-replaced", "entries-processed", "partition-summaries-included"];

/// A late commit that was built on the head of its branch, with its files written.
#[derive(Debug, Clone)]
pub struct RebasedCommit {
    /// The new snapshots, which have the ids of the client's.
    pub snapshots: Vec<Snapshot>,
    /// The locations of the client's manifest lists, manifests and delete files that others took the place of.
    pub superseded: Vec<String>,
}

/// Returns the name of a manifest list, as [`REBASED_LIST`] has it: its location without directories.
pub fn list_name(snapshot: &Snapshot) -> Option<&str> {
    snapshot.manifest_list.as_deref().and_then(|path| path.rsplit('/').next())
}

impl RebasePlan<'_> {
    /// Writes the snapshots of the commit on the head of the branch.
    ///
    /// `record` gets the locations of the new files of each snapshot before they are written. `written` gets all that were
    /// recorded, whether the result is an error or not.
    ///
    /// Spec: "Snapshot Row IDs": row ids are assigned anew, from the table's `next-row-id` on.
    ///
    /// # Errors
    ///
    /// - Returns the errors of [`build_snapshot`](crate::build_snapshot) for reading and writing manifests.
    /// - Returns the error of `record`, if it fails.
    pub async fn write(
        self,
        source: &Manifests,
        metadata: &TableMetadata,
        cache: &mut MergeCache,
        record: RecordPaths<'_>,
        written: &mut Vec<String>,
    ) -> Result<RebasedCommit> {
        let Self { late, class, steps, deletes } = self;
        let head_list = cache.list(source, late.head).await?;
        let (mut metadata, mut listed) = (Cow::Borrowed(metadata), head_list.to_vec());
        let (mut snapshots, mut superseded): (Vec<Snapshot>, Vec<String>) = (Vec::new(), Vec::new());
        let (from, n) = (late.base.map_or_else(|| "none".to_owned(), |base| base.snapshot_id.to_string()), steps.len());
        for mut step in steps {
            let sent = step.snapshot;
            let parent = snapshots.last().or(late.head);
            let new = NewSnapshot::with_id(&metadata, parent, sent.snapshot_id);
            let draft = match &mut step.kind {
                StepKind::Renumber(own) => renumbered(&listed, own, sent),
                StepKind::Change(change) => {
                    superseded.extend(change.effect.superseded.iter().cloned());
                    change.write_deletes(source, deletes, &metadata, record, written).await?;
                    changed(source, &metadata, parent, &listed, late.branch, change, sent).await?
                }
            };
            let paths = new.paths(&metadata, draft.drafts.len());
            record(paths.all()).await?;
            written.extend(paths.all());
            let drafts = paths.manifests.iter().zip(draft.drafts);
            let mut manifests = draft.taken;
            manifests.extend(write_manifests(source, &metadata, sent.snapshot_id, &listed, drafts).await?);
            manifests.extend(draft.kept);
            let mut summary = draft.summary;
            summary.insert(REBASED_FROM.to_owned(), from.clone());
            summary.insert(REBASED_AS.to_owned(), class.name().to_owned());
            summary.extend(list_name(sent).map(|name| (REBASED_LIST.to_owned(), name.to_owned())));
            superseded.extend(sent.manifest_list.clone());
            let (snapshot, as_listed) = new.write_listed(source, &metadata, paths.list, manifests, summary).await?;
            let snapshot = Snapshot { schema_id: sent.schema_id, extra: sent.extra.clone(), ..snapshot };
            cache.add_made(&snapshot, as_listed.as_slice().into());
            if let StepKind::Change(change) = &step.kind
                && class == MergeClass::Append
            {
                cache.add_append(parent, &snapshot, &change.effect);
            }
            listed = as_listed;
            advance(&mut metadata, &snapshot, snapshots.len() + 1 < n);
            snapshots.push(snapshot);
        }
        Ok(RebasedCommit { snapshots, superseded })
    }
}

impl PlannedChange {
    /// Returns the paths of those manifests of the head that have no removed file.
    ///
    /// Without them, a removal would read all manifests of a large table while the table has its turn.
    fn untouched<'a>(&'a self, head: &'a [ManifestFile]) -> HashSet<&'a str> {
        if self.removed_deletes.is_empty() && removed_data(&self.effect).next().is_none() {
            return HashSet::new();
        }
        let (data, deletes) = (ManifestContent::Data, ManifestContent::Deletes);
        let [mut untouched, of_deletes] = [(data, DeletesOrigin::Client), (deletes, self.origin)]
            .map(|(content, origin)| self.untouched_of(content, origin, head));
        untouched.extend(of_deletes);
        untouched
    }

    /// Returns the paths of those manifests of one kind that have no removed file.
    ///
    /// What the client removed is in the manifests that it replaced. If the head has all of these, it is nowhere else. If another
    /// commit has rewritten one, it may be in any manifest but those that the client kept.
    fn untouched_of<'a>(&'a self, content: ManifestContent, origin: DeletesOrigin, head: &'a [ManifestFile]) -> HashSet<&'a str> {
        let paths = |list: &'a [ManifestFile]| -> HashSet<&'a str> {
            list.iter().filter(|file| file.content == content).map(|file| file.manifest_path.as_str()).collect()
        };
        let [before, sent] = &self.lists;
        let (before, sent, head) = (paths(before), paths(sent), paths(head));
        let are_there = before.difference(&sent).all(|path| head.contains(path));
        match origin {
            DeletesOrigin::Any => HashSet::new(),
            DeletesOrigin::Client if are_there => {
                head.into_iter().filter(|path| sent.contains(path) || !before.contains(path)).collect()
            }
            DeletesOrigin::Client | DeletesOrigin::ClientOrHead => before.intersection(&sent).copied().collect(),
        }
    }

    /// Writes the deletes by position that take the place of the client's, and adds them to the effect.
    async fn write_deletes(
        &mut self,
        source: &Manifests,
        files: &dyn DeleteFiles,
        metadata: &TableMetadata,
        record: RecordPaths<'_>,
        written: &mut Vec<String>,
    ) -> Result<()> {
        let deletes = std::mem::take(&mut self.deletes);
        if deletes.is_empty() {
            return Ok(());
        }
        let files: Vec<EncodedDeletes> = match metadata.format_version {
            ..=2 => deletes.into_iter().map(|rows| encode_positions(files, metadata, rows)).collect::<Result<_>>()?,
            3.. => {
                let path = vector_file_path(metadata);
                let (bytes, entries) = encode_vector_file(&path, deletes)?;
                vec![(path, bytes, entries)]
            }
        };
        let paths: Vec<String> = files.iter().map(|(path, ..)| path.clone()).collect();
        record(paths.clone()).await?;
        written.extend(paths);
        let writes: Vec<_> = files.into_iter().map(|file| write_file(source.storage(), file).boxed()).collect();
        let mut writes = futures::stream::iter(writes).buffered(CONCURRENT_WRITES);
        while let Some(entries) = writes.try_next().await? {
            let fresh = entries.into_iter().map(|(spec_id, file)| AddedFile { spec_id, file, sequence_number: None });
            self.effect.fresh_files.extend(fresh);
        }
        Ok(())
    }
}

/// A delete file: its location, its bytes, and its manifest entries with the ids of their partition specs.
type EncodedDeletes = (String, Vec<u8>, Vec<(i32, DataFile)>);

/// The number of delete files that are written at the same time. In format version 2 there may be one for each data file.
const CONCURRENT_WRITES: usize = 8;

/// Writes a delete file, and returns its manifest entries.
async fn write_file(storage: &Storage, (path, bytes, entries): EncodedDeletes) -> Result<Vec<(i32, DataFile)>> {
    storage.write(&path, bytes.into()).await?;
    Ok(entries)
}

/// Encodes a position delete file about one data file.
fn encode_positions(files: &dyn DeleteFiles, metadata: &TableMetadata, rows: RowsToDelete) -> Result<EncodedDeletes> {
    let bytes = files.encode_positions(&rows)?;
    let path = format!("{}/{}-deletes.parquet", data_dir(metadata), Uuid::now_v7());
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (content, format) = (DataContentType::PositionDeletes, DataFileFormat::Parquet);
    let file = DataFile::new(content, path.clone(), format, number(rows.positions.len()), number(bytes.len() as u64));
    let bound = || Some((FILE_PATH_FIELD_ID, BoundBytes::new(rows.path.clone())));
    let file = with_bounds(file, bound(), bound());
    let file = DataFile { partition: rows.partition.clone(), referenced_data_file: Some(rows.path.clone()), ..file };
    Ok((path, bytes, vec![(rows.spec_id, file)]))
}

/// Counts the numbers of a snapshot as given, if another snapshot of the same commit follows.
fn advance(metadata: &mut Cow<'_, TableMetadata>, snapshot: &Snapshot, is_followed: bool) {
    if is_followed {
        let metadata = metadata.to_mut();
        metadata.last_sequence_number = metadata.last_sequence_number.max(snapshot.sequence_number());
        metadata.last_updated_ms = metadata.last_updated_ms.max(snapshot.timestamp_ms);
        if let Some((first, rows)) = snapshot.first_row_id.zip(snapshot.added_rows) {
            metadata.next_row_id = Some(first.saturating_add(rows));
        }
    }
}

/// The manifests and the summary of a snapshot that is about to be written.
struct SnapshotDraft {
    /// The client's manifests that are listed as they are, without numbers.
    taken: Vec<ManifestFile>,
    /// The manifests to write.
    drafts: Vec<ManifestDraft>,
    /// The manifests of the parent that stay.
    kept: Vec<ManifestFile>,
    summary: BTreeMap<String, String>,
}

/// Lists a client's manifest without the numbers that its snapshot gave to it, so that the writer of the new list gives others.
fn unassigned(file: &ManifestFile, claim: i64) -> ManifestFile {
    let least = if file.min_sequence_number == claim { UNASSIGNED_SEQUENCE_NUMBER } else { file.min_sequence_number };
    let sequence_number = UNASSIGNED_SEQUENCE_NUMBER;
    ManifestFile { sequence_number, min_sequence_number: least, first_row_id: None, ..file.clone() }
}

/// Drafts a snapshot with the manifests that its client listed. Those of its parent have the values that they have there.
fn renumbered(parent: &[ManifestFile], own: &[ManifestFile], sent: &Snapshot) -> SnapshotDraft {
    let known: HashMap<&str, &ManifestFile> = parent.iter().map(|file| (file.manifest_path.as_str(), file)).collect();
    let claim = sent.sequence_number();
    let listed = |file: &ManifestFile| match known.get(file.manifest_path.as_str()) {
        Some(file) => (*file).clone(),
        None => unassigned(file, claim),
    };
    let summary = sent.summary.clone().unwrap_or_default();
    SnapshotDraft { taken: own.iter().map(listed).collect(), drafts: Vec::new(), kept: Vec::new(), summary }
}

/// Drafts a snapshot with the manifests of its parent, changed by an effect.
async fn changed(
    source: &Manifests,
    metadata: &TableMetadata,
    parent: Option<&Snapshot>,
    listed: &[ManifestFile],
    branch: &str,
    change: &PlannedChange,
    sent: &Snapshot,
) -> Result<SnapshotDraft> {
    let effect = &change.effect;
    let mut removed: HashMap<String, usize> = HashMap::new();
    removed_data(effect).for_each(|live| *removed.entry(live.file.file_path.clone()).or_default() += 1);
    let of_kind = |is_data: bool| -> Vec<(i32, DataFile)> {
        let files = effect.added().filter(|added| DeleteKind::of(&added.file).is_none() == is_data);
        files.map(|added| (added.spec_id, added.file.clone())).collect()
    };
    let changes = SnapshotChanges {
        operation: change.operation,
        branch: branch.to_owned(),
        removed,
        removed_deletes: change.removed_deletes.clone(),
        added: of_kind(true),
        rewritten_manifests: HashSet::new(),
        added_deletes: of_kind(false),
        starting_sequence_number: None,
        restored_files: Vec::new(),
        summary: own_summary(sent),
    };
    let TouchedManifests { kept, by_kind, removed, bytes_per_entry, .. } =
        partition_manifests(source, metadata, listed.to_vec(), &changes, &change.untouched(listed)).await?;
    let most = max_entries(metadata, bytes_per_entry);
    let all = fresh_drafts(&effect.fresh_files).into_iter().chain(by_kind);
    let parts = |(content, spec_id, entries)| split(entries, most).map(move |entries| (content, spec_id, entries));
    let drafts: Vec<ManifestDraft> = all.flat_map(parts).collect();
    let taken = effect.taken.iter().map(|file| unassigned(file, sent.sequence_number())).collect();
    Ok(SnapshotDraft { taken, drafts, kept, summary: summary(parent, &changes, &removed) })
}

/// Makes the entries of the added files whose manifests are not taken, grouped by content and partition spec.
fn fresh_drafts(files: &[AddedFile]) -> Vec<ManifestDraft> {
    let mut by_kind: BTreeMap<(ManifestContent, i32), Vec<ManifestEntry>> = BTreeMap::new();
    for added in files {
        let content = if DeleteKind::of(&added.file).is_none() { ManifestContent::Data } else { ManifestContent::Deletes };
        let entry = added_entry(added.file.clone(), added.sequence_number);
        by_kind.entry((content, added.spec_id)).or_default().push(entry);
    }
    by_kind.into_iter().map(|((content, spec_id), entries)| (content, spec_id, entries)).collect()
}

/// Returns the entries of a client's summary that are no counts of its files. Those are computed for the new head.
fn own_summary(sent: &Snapshot) -> BTreeMap<String, String> {
    let mut own = sent.summary.clone().unwrap_or_default();
    let is_count = |key: &str| COUNTS.contains(&key) || OF_CLIENTS_LIST.contains(&key);
    own.retain(|key, _| !is_count(key) && !key.starts_with("total-") && !key.starts_with("partitions."));
    own
}
