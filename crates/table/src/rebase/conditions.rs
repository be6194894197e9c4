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
    /// Rows of older data files are deleted by position.
    PositionDeletes,
    /// Data files are removed, and none is added.
    Delete,
    /// Data files are replaced by others.
    Overwrite,
    /// Data files are rewritten. The rows stay the same.
    Replace,
}

impl MergeClass {
    /// All classes.
    pub const ALL: [Self; 7] = [
        Self::Renumber,
        Self::Append,
        Self::EqualityDeletes,
        Self::PositionDeletes,
        Self::Delete,
        Self::Overwrite,
        Self::Replace,
    ];

    /// Returns the name of the class, as summaries, logs and metrics have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Renumber => "renumber",
            Self::Append => "append",
            Self::EqualityDeletes => "equality-deletes",
            Self::PositionDeletes => "position-deletes",
            Self::Delete => "delete",
            Self::Overwrite => "overwrite",
            Self::Replace => "replace",
        }
    }
}

/// Returns the class of an effect, and checks that it may be built again on the head, which differs from the base by `since`.
///
/// Deletes by position are not compared here: that needs their files (`positions`).
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
    if class == MergeClass::Replace {
        check_rewrite(metadata, effect)?;
    }
    if class >= MergeClass::Delete {
        let starting = (class == MergeClass::Replace).then(|| starting_number(effect)).flatten();
        check_removed(metadata, effect, since, starting)?;
    }
    Ok(class)
}

/// Returns the class of an effect. A change that no class describes is refused.
fn class_of(snapshot: &Snapshot, operation: Operation, effect: &Effect) -> std::result::Result<MergeClass, Refusal> {
    if snapshot.summary_value("replace-partitions") == Some("true") {
        return Err(MergeRule::Operation.refuse("it replaces partitions, whatever is in them"));
    }
    if operation == Operation::Replace {
        return Ok(MergeClass::Replace);
    }
    if let Some(old) = effect.added().find(|added| added.sequence_number.is_some()) {
        let what = format!("{} has a sequence number of its own, which only a rewrite gives", old.file.file_path);
        return Err(MergeRule::SequenceNumber.refuse(what));
    }
    let removes_rows = removed_data(effect).next().is_some();
    // Deletes by equality are blind. Whoever removes files has read them.
    let by_equality = effect.added().find(|added| DeleteKind::of(&added.file) == Some(DeleteKind::Equality));
    if let Some(delete) = by_equality.filter(|_| removes_rows) {
        let what = format!("it removes data files and adds the equality delete file {}", delete.file.file_path);
        return Err(MergeRule::Operation.refuse(what));
    }
    let class = if removes_rows && adds_rows(effect) {
        MergeClass::Overwrite
    } else if removes_rows {
        MergeClass::Delete
    } else if older_positions(effect, &own_paths(effect)).next().is_some() {
        MergeClass::PositionDeletes
    } else if effect.added().any(|added| DeleteKind::of(&added.file).is_some()) {
        MergeClass::EqualityDeletes
    } else {
        MergeClass::Append
    };
    let fits = match class {
        MergeClass::Append => operation == Operation::Append,
        MergeClass::EqualityDeletes | MergeClass::PositionDeletes | MergeClass::Delete => {
            matches!(operation, Operation::Overwrite | Operation::Delete)
        }
        MergeClass::Overwrite => operation == Operation::Overwrite,
        MergeClass::Renumber | MergeClass::Replace => true,
    };
    if !fits {
        let what = format!("its operation is {}, and by its files it is of the class {}", operation.as_str(), class.name());
        return Err(MergeRule::Operation.refuse(what));
    }
    Ok(class)
}

/// Iterates over the data files that an effect removes.
pub(super) fn removed_data(effect: &Effect) -> impl Iterator<Item = &LiveFile> {
    effect.removed.iter().filter(|live| DeleteKind::of(&live.file).is_none())
}

/// Checks whether an effect adds data files.
pub(super) fn adds_rows(effect: &Effect) -> bool {
    effect.added().any(|added| DeleteKind::of(&added.file).is_none())
}

/// Returns the paths of the data files that an effect adds.
pub(super) fn own_paths(effect: &Effect) -> HashSet<&[u8]> {
    let data = effect.added().filter(|added| DeleteKind::of(&added.file).is_none());
    data.map(|added| added.file.file_path.as_bytes()).collect()
}

/// Iterates over the added deletes by position that may be about older data files.
///
/// Those about a data file of the same commit alone are blind: no other commit can have changed that file.
pub(super) fn older_positions<'a>(effect: &'a Effect, own: &HashSet<&[u8]>) -> impl Iterator<Item = &'a AddedFile> {
    let is_older = move |added: &&AddedFile| match DeleteKind::of(&added.file) {
        None | Some(DeleteKind::Equality) => false,
        Some(_) => only_path(&added.file).is_none_or(|path| !own.contains(path.as_slice())),
    };
    effect.added().filter(is_older)
}

/// Returns the path of the only data file whose rows a delete file deletes by position, if its entry names it.
///
/// Writers without `referenced_data_file` say so by equal bounds of the paths. Spec: "Position Delete Files".
pub(super) fn only_path(file: &DataFile) -> Option<Vec<u8>> {
    if let Some(path) = &file.referenced_data_file {
        return Some(path.clone().into_bytes());
    }
    let bounds = [&file.lower_bounds, &file.upper_bounds].map(|bounds| bounds.as_ref()?.get(FILE_PATH_FIELD_ID));
    match bounds {
        [Some(lower), Some(upper)] if lower == upper => Some(lower.bytes().to_vec()),
        _ => None,
    }
}

/// Checks that a rewrite is one that can be had on another head: it replaces data files by no more rows, and adds no deletes.
fn check_rewrite(metadata: &TableMetadata, effect: &Effect) -> std::result::Result<(), Refusal> {
    let refused = |why: String| Err(MergeRule::Rewrite.refuse(why));
    if removed_data(effect).next().is_none() {
        return refused("it rewrites manifests or delete files alone, which costs its client little to repeat".to_owned());
    }
    if let Some(delete) = effect.added().find(|added| DeleteKind::of(&added.file).is_some()) {
        return refused(format!("it rewrites data files and adds the delete file {}", delete.file.file_path));
    }
    let added: u64 = sum(effect.added().map(|added| &added.file));
    let removed: u64 = sum(removed_data(effect).map(|live| &live.file));
    if added > removed {
        return refused(format!("it replaces {removed} rows by {added}"));
    }
    let unnumbered = removed_data(effect).find(|live| metadata.format_version >= 3 && live.first_row_id.is_none());
    match unnumbered {
        None => Ok(()),
        Some(live) => refused(format!("the rows of {} had no row ids when it read them", live.file.file_path)),
    }
}

/// Adds up the rows of files. An unknown number counts as none.
fn sum<'a>(files: impl Iterator<Item = &'a DataFile>) -> u64 {
    files.fold(0, |sum, file| sum.saturating_add(file.rows().unwrap_or(0)))
}

/// Returns the highest data sequence number that a rewrite gives to its files. None if one of them gets that of the commit.
///
/// Equality deletes that are newer apply to the new files as they did to the old ones.
fn starting_number(effect: &Effect) -> Option<i64> {
    effect.added().map(|added| added.sequence_number).try_fold(i64::MIN, |most, number| Some(most.max(number?)))
}

/// Checks that each removed data file is live in the head, with the deletes that it had in the base.
///
/// Equality deletes may have come if they are newer than `starting`, the data sequence number of a rewrite's files.
fn check_removed(metadata: &TableMetadata, effect: &Effect, since: &Changes, starting: Option<i64>) -> Result<()> {
    let gone: HashSet<&str> = since.removed.data.iter().map(|live| live.file.file_path.as_str()).collect();
    let [new, old] = [&since.added, &since.removed].map(|files| DeleteIndex::new(&files.deletes, metadata));
    let (new, old) = (new?, old?);
    let still_applies = |at: usize| starting.is_some_and(|starting| since.added.deletes[at].entry.sequence_number > starting);
    for live in removed_data(effect) {
        let path = &live.file.file_path;
        if gone.contains(path.as_str()) {
            return Err(MergeRule::RemovedFile.refuse(format!("it removes {path}, which another commit replaced")).into());
        }
        // By set, not by number: an undo brings deletes back with their old numbers, and takes others away.
        let is_changed = old.any(live) || !new.positional_deletes(live).is_empty() || !new.equality(live).all(still_applies);
        if is_changed {
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
