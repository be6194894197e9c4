//! The classes of changes, and the conditions under which a change of each class may be built again on another head.
//!
//! The result of a merge is one that snapshot isolation permits: of two commits that change the same rows, the first wins. Start
//! reading at [`check`].

use std::collections::HashSet;

use esker_format::{DataFile, Operation, Snapshot, TableMetadata};

use super::MergeRule;
use super::effect::{AddedFile, Changes, Effect};
use crate::{DeleteIndex, DeleteKey, DeleteKind, FILE_PATH_FIELD_ID, LiveFile, PartitionKey, Refusal, Result, delete_key};

/// The class of a change, which decides under which conditions it is merged. Later classes need more of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MergeClass {
    /// The branch has not moved. Only the table's sequence number or next row id has, with another branch.
    Renumber,
    /// Data files are added, and nothing else is.
    Append,
    /// Equality deletes are added, with data files or without.
    EqualityDeletes,
    /// Data files are removed, and none is added.
    Delete,
    /// Data files are replaced by others.
    Overwrite,
}

impl MergeClass {
    /// Returns the name of the class, as summaries, logs and metrics have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Renumber => "renumber",
            Self::Append => "append",
            Self::EqualityDeletes => "equality-deletes",
            Self::Delete => "delete",
            Self::Overwrite => "overwrite",
        }
    }
}

/// Returns the class of an effect, and checks that it may be built again on the head, which differs from the base by `since`.
///
/// # Errors
///
/// Returns [`TableError::NotMerged`](crate::TableError::NotMerged) with the rule that the change breaks, and
/// [`TableError::Invalid`](crate::TableError::Invalid) if a data file has two deletion vectors.
pub(super) fn check(
    metadata: &TableMetadata,
    snapshot: &Snapshot,
    operation: Operation,
    effect: &Effect,
    since: &Changes,
) -> Result<MergeClass> {
    let class = class_of(snapshot, operation, effect)?;
    let paths: HashSet<&str> = since.added.data.iter().map(|live| live.file.file_path.as_str()).collect();
    let deletes: HashSet<DeleteKey> = since.added.deletes.iter().map(|delete| delete_key(&delete.entry.file)).collect();
    let is_known =
        |file: &DataFile| paths.contains(file.file_path.as_str()) || !deletes.is_empty() && deletes.contains(&delete_key(file));
    if let Some(added) = effect.added().find(|added| is_known(&added.file)) {
        let what = format!("it adds {}, which is in the table since another commit", added.file.file_path);
        return Err(MergeRule::AddedPath.refuse(what).into());
    }
    if class >= MergeClass::Delete {
        check_removed(metadata, effect, since)?;
    }
    Ok(class)
}

/// Returns the class of an effect. A mixed change that no class describes is refused.
fn class_of(snapshot: &Snapshot, operation: Operation, effect: &Effect) -> std::result::Result<MergeClass, Refusal> {
    let kinds: HashSet<Option<DeleteKind>> = effect.added().map(|added| DeleteKind::of(&added.file)).collect();
    let adds_rows = kinds.contains(&None);
    let adds_deletes = kinds.iter().any(Option::is_some);
    let removes_rows = removed_data(effect).next().is_some();
    if snapshot.summary_value("replace-partitions") == Some("true") {
        return Err(MergeRule::Operation.refuse("it replaces partitions, whatever is in them"));
    }
    if operation == Operation::Replace {
        return Err(MergeRule::NotMergedYet.refuse("it rewrites files, which has to be done again on the new head"));
    }
    if let Some(old) = effect.added().find(|added| added.sequence_number.is_some()) {
        let what = format!("{} has a sequence number of its own, which only a rewrite gives", old.file.file_path);
        return Err(MergeRule::SequenceNumber.refuse(what));
    }
    let class = match (removes_rows, adds_deletes) {
        (false, false) => MergeClass::Append,
        (false, true) => MergeClass::EqualityDeletes,
        (true, false) if adds_rows => MergeClass::Overwrite,
        (true, false) => MergeClass::Delete,
        (true, true) => {
            let what = "it removes data files and adds deletes in one snapshot";
            return Err(MergeRule::NotMergedYet.refuse(what));
        }
    };
    let fits = match class {
        MergeClass::Append => operation == Operation::Append,
        MergeClass::EqualityDeletes => matches!(operation, Operation::Overwrite | Operation::Delete),
        MergeClass::Delete => matches!(operation, Operation::Delete | Operation::Overwrite),
        MergeClass::Overwrite => operation == Operation::Overwrite,
        MergeClass::Renumber => true,
    };
    if !fits {
        let what = format!("its operation is {}, and by its files it is of the class {}", operation.as_str(), class.name());
        return Err(MergeRule::Operation.refuse(what));
    }
    if class == MergeClass::EqualityDeletes {
        check_blind(effect)?;
    }
    Ok(class)
}

/// Iterates over the data files that an effect removes.
pub(super) fn removed_data(effect: &Effect) -> impl Iterator<Item = &LiveFile> {
    effect.removed.iter().filter(|live| DeleteKind::of(&live.file).is_none())
}

/// Checks that deletes by position are about data files of the same commit, so that no other commit can have changed those.
fn check_blind(effect: &Effect) -> std::result::Result<(), Refusal> {
    let own: HashSet<&[u8]> = effect.added().map(|added| added.file.file_path.as_bytes()).collect();
    let is_blind = |added: &&AddedFile| match DeleteKind::of(&added.file) {
        None | Some(DeleteKind::Equality) => true,
        Some(_) => only_path(&added.file).is_some_and(|path| own.contains(path.as_slice())),
    };
    match effect.added().find(|added| !is_blind(added)) {
        None => Ok(()),
        Some(added) => {
            let what = format!("{} deletes rows of older data files by position", added.file.file_path);
            Err(MergeRule::NotMergedYet.refuse(what))
        }
    }
}

/// Returns the path of the only data file whose rows a delete file deletes by position, if its entry names it.
///
/// Writers without `referenced_data_file` say so by equal bounds of the paths. Spec: "Position Delete Files".
fn only_path(file: &DataFile) -> Option<Vec<u8>> {
    if let Some(path) = &file.referenced_data_file {
        return Some(path.clone().into_bytes());
    }
    let bounds = [&file.lower_bounds, &file.upper_bounds].map(|bounds| bounds.as_ref()?.get(FILE_PATH_FIELD_ID));
    match bounds {
        [Some(lower), Some(upper)] if lower == upper => Some(lower.bytes().to_vec()),
        _ => None,
    }
}

/// Checks that each removed data file is live in the head, with the deletes that it had in the base.
fn check_removed(metadata: &TableMetadata, effect: &Effect, since: &Changes) -> Result<()> {
    let gone: HashSet<&str> = since.removed.data.iter().map(|live| live.file.file_path.as_str()).collect();
    let [new, old] = [&since.added, &since.removed].map(|files| DeleteIndex::new(&files.deletes, metadata));
    let (new, old) = (new?, old?);
    for live in removed_data(effect) {
        let path = &live.file.file_path;
        if gone.contains(path.as_str()) {
            return Err(MergeRule::RemovedFile.refuse(format!("it removes {path}, which another commit replaced")).into());
        }
        // By set, not by number: an undo brings deletes back with their old numbers, and takes others away.
        if new.any(live) || old.any(live) {
            let what = format!("it removes {path}, whose deletes are not those that it was written by");
            return Err(MergeRule::NewDelete.refuse(what).into());
        }
    }
    Ok(())
}

/// Checks that nothing came to the partitions that get files without having had any of those that are removed.
///
/// The writer may have read there that a partition has no rows. `effects` are those of all snapshots of the commit: PyIceberg
/// overwrites with one snapshot that removes and another one that appends.
///
/// # Errors
///
/// Returns the refusal of [`MergeRule::AddedPartition`] if something came.
pub(super) fn check_partitions(effects: &[&Effect], since: &Changes) -> std::result::Result<(), Refusal> {
    let added = || effects.iter().flat_map(|effect| effect.added()).filter(|added| DeleteKind::of(&added.file).is_none());
    let own: HashSet<&str> = added().map(|added| added.file.file_path.as_str()).collect();
    let removed = effects.iter().flat_map(|effect| removed_data(effect));
    // The removal of a file that the commit itself added says nothing of what the writer saw.
    let seen = removed.filter(|live| !own.contains(live.file.file_path.as_str()));
    let touched: HashSet<PartitionKey<'_>> = seen.map(PartitionKey::of).collect();
    let deletes = since.added.deletes.iter().map(|delete| &delete.entry);
    let came: Vec<&LiveFile> = since.added.data.iter().chain(deletes).collect();
    for added in added() {
        let key = PartitionKey::new(added.spec_id, &added.file.partition);
        if touched.contains(&key) {
            continue;
        }
        // Partitions of two specs can't be compared.
        if let Some(live) = came.iter().find(|live| live.spec_id != added.spec_id || PartitionKey::of(live) == key) {
            let what = format!("it writes {} to a partition to which {} came", added.file.file_path, live.file.file_path);
            return Err(MergeRule::AddedPartition.refuse(what));
        }
    }
    Ok(())
}
