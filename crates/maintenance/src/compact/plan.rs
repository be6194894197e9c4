//! The plan of a compaction: which files are rewritten together, and which are left alone and why.
//!
//! Planning reads manifests, and no data files. [`Chooser`] judges each live data file by its size, its deletes and the options;
//! `group::pack_groups` packs the chosen files into groups. Start reading at [`plan_compact`].

use std::collections::{BTreeMap, HashSet};

use esker_catalog::{Catalog, LoadedTable};
use esker_format::{DataFileFormat, MAIN_BRANCH, TableMetadata};
use esker_read::{ReadError, Reader, arrow_schema, check_readable};
use esker_table::{
    DeleteIndex, DeleteKey, DeleteKind, Expr, LiveDelete, LiveFile, LiveFiles, PartitionKey, delete_key, partition_label,
    residual,
};
use esker_types::{format_bytes, format_count, now_ms, saturating_total};
use serde::{Deserialize, Serialize};

use super::group::{ByPartition, CandidateFile, Group, GroupLimits, PlannedFile, pack_groups};
use super::options::{CompactOptions, JobOrder, Strategy};
use super::write_activity::{LastChanges, last_changes};
use super::{order, predicate};
use crate::{MaintenanceError, Result};

/// Files of a partition that would gain from a compaction but are left alone, for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeftAlone {
    /// Label of the partition, for people.
    pub partition: String,
    /// Number of the files.
    pub files: u64,
    /// Total size of the files, in bytes.
    pub bytes: u64,
    /// The reason, for people.
    pub reason: String,
}

/// The plan of a compaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CompactPlan {
    /// Name of the table.
    pub table: String,
    /// The options of the job.
    pub options: CompactOptions,
    /// Id of the snapshot that was planned on; `None` for an empty branch.
    pub snapshot_id: Option<i64>,
    /// Sequence number of the snapshot, which becomes the data sequence number of the new files.
    pub sequence_number: i64,
    /// Target size of new files, in bytes.
    pub target_file_size_bytes: u64,
    /// Number of data files of the snapshot.
    pub data_files: u64,
    /// Number of delete files of the snapshot.
    pub delete_files: u64,
    /// The groups of files that are rewritten. A conversion of deletes has the data files here whose deletes are converted.
    pub groups: Vec<Group>,
    /// The files that are left alone, with the reasons.
    pub left_alone: Vec<LeftAlone>,
    /// True if rows of any partition were changed a moment ago.
    #[serde(default)]
    pub under_change: bool,
    /// True if any file lies in a place of another table. Its rows are not copied.
    #[serde(default)]
    pub has_files_of_others: bool,
    /// The reason that nothing is rewritten, for people; absent if a group is, or if deletes may be dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nothing_to_do: Option<String>,
}

impl CompactPlan {
    /// Creates the plan of a branch without a snapshot.
    fn empty(table: String, options: &CompactOptions, limits: GroupLimits) -> Self {
        Self {
            table,
            options: options.clone(),
            snapshot_id: None,
            sequence_number: 0,
            target_file_size_bytes: limits.target,
            data_files: 0,
            delete_files: 0,
            groups: Vec::new(),
            left_alone: Vec::new(),
            under_change: false,
            has_files_of_others: false,
            nothing_to_do: None,
        }
    }

    /// Returns the number of files that are replaced.
    pub fn files(&self) -> u64 {
        self.groups.iter().map(|g| g.files.len() as u64).sum()
    }

    /// Returns the total size of the files that are replaced, in bytes.
    pub fn bytes(&self) -> u64 {
        saturating_total(self.groups.iter().map(Group::bytes))
    }

    /// Returns the expected number of new files.
    pub fn expected_files(&self) -> u64 {
        saturating_total(self.groups.iter().map(|g| g.expected_files))
    }
}

/// Plans a compaction of the head of a branch. Files that are closed to the reader are left alone.
///
/// # Errors
///
/// - Returns [`MaintenanceError::Option`] for an option that makes no sense or does not fit the table.
/// - Returns [`MaintenanceError::Catalog`] if the manifests of the branch's head can't be read.
/// - Returns [`MaintenanceError::Table`] if a manifest of a recent snapshot can't be read, or if a data file has two deletion
///   vectors.
/// - Returns [`MaintenanceError::Read`] if a column has a type that Esker can't decode, or if it can't be looked up which files
///   lie in places of other tables.
pub(crate) async fn plan_compact(
    catalog: &Catalog,
    reader: &Reader,
    table: &LoadedTable,
    options: &CompactOptions,
) -> Result<CompactPlan> {
    options.check()?;
    let metadata = &table.metadata;
    order::order(metadata, options)?;
    let limits = limits(metadata, options)?;
    let filter = options.filter.as_deref().map(|text| predicate::parse(text, metadata.current_schema())).transpose()?;
    let mut plan = CompactPlan::empty(table.row.name.to_string(), options, limits);
    let Some(snapshot) = metadata.snapshot_for_ref(options.branch()) else {
        if options.branch() != MAIN_BRANCH {
            let reason = format!("the table has no branch {:?}", options.branch());
            return Err(MaintenanceError::Option { key: "branch", reason });
        }
        plan.nothing_to_do = Some(format!("branch {} has no snapshot", options.branch()));
        return Ok(plan);
    };
    let live = catalog.live_files(table, snapshot).await?;
    let since = now_ms().saturating_sub_unsigned(quiet_seconds(options).saturating_mul(1000));
    let changed = last_changes(catalog.manifests(), metadata, snapshot, since).await?;
    plan.under_change = !changed.is_empty();
    (plan.snapshot_id, plan.sequence_number) = (Some(snapshot.snapshot_id), snapshot.sequence_number());
    (plan.data_files, plan.delete_files) = (live.data.len() as u64, live.deletes.len() as u64);
    let files = live.data.iter().chain(live.deletes.iter().map(|delete| &delete.entry));
    let paths: Vec<&str> = files.map(|file| file.file.file_path.as_str()).collect();
    let closed = reader.closed_among(&paths).await?;
    plan.has_files_of_others = !closed.is_empty();
    let chooser = Chooser {
        metadata,
        closed: &closed,
        options,
        limits,
        filter,
        index: DeleteIndex::new(&live.deletes, metadata)?,
        unreadable: live.deletes.iter().any(|delete| check_applicable(&closed, delete).is_err()),
        live: &live,
        changed: &changed,
    };
    let (candidates, left_alone) = chooser.choose();
    plan.left_alone = left_alone;
    let gaining = candidates.values().flatten().filter(|c| limits.chooses(c)).count() as u64;
    plan.groups = match options.strategy {
        Strategy::ConvertDeletes => by_partition(candidates),
        _ => pack_groups(candidates, limits),
    };
    let packed = !plan.groups.is_empty();
    trim(&mut plan.groups, options);
    let matching = live.data.iter().any(|data| chooser.matches_options(data));
    plan.nothing_to_do = why_nothing(&plan, limits, Found { matching, gaining, packed });
    chooser.count_deletes(&mut plan.groups);
    if options.strategy != Strategy::ConvertDeletes && !plan.groups.is_empty() {
        // A column whose values can't be decoded can't be rewritten.
        arrow_schema(metadata.current_schema())?;
    }
    Ok(plan)
}

/// The files that a planner found before it chose groups.
#[derive(Debug, Clone, Copy)]
struct Found {
    /// True if a data file matches the options `where` and `partition`.
    matching: bool,
    /// Number of files that would gain from a rewrite and may be rewritten.
    gaining: u64,
    /// True if some of them made a group.
    packed: bool,
}

/// Returns the reason that a plan does nothing, if so. A conversion also drops deletes that apply to nothing.
fn why_nothing(plan: &CompactPlan, limits: GroupLimits, found: Found) -> Option<String> {
    let CompactPlan { options, data_files, delete_files, .. } = plan;
    let converts = options.strategy == Strategy::ConvertDeletes;
    if !plan.groups.is_empty() || (converts && *delete_files > 0) {
        return None;
    }
    Some(match found {
        _ if converts => "the branch has no delete file".to_owned(),
        _ if *data_files == 0 => format!("branch {} has no data file", options.branch()),
        Found { matching: false, .. } => "no data file matches the options where and partition".to_owned(),
        Found { packed: true, .. } => {
            let most = options.max_files_to_rewrite.unwrap_or_default();
            format!("the first group has more files than max-files-to-rewrite permits, which is {most}")
        }
        _ if !plan.left_alone.is_empty() => "the files that would gain from it are left alone, for the reasons above".to_owned(),
        Found { gaining: 0, .. } => "every file has the right size and few deletes".to_owned(),
        Found { gaining, .. } => {
            let (small, least, target) =
                (format_count(gaining, "file"), format_bytes(limits.min_file), format_bytes(limits.target));
            format!(
                "too few small files: {small} under {least}; a group of one partition needs at least {} (min-input-files), or more \
                 than {target} (target-file-size-bytes)",
                limits.min_input_files
            )
        }
    })
}

/// Returns the time after a change of rows for which a partition is left alone, in seconds.
fn quiet_seconds(options: &CompactOptions) -> u64 {
    options.courtesy_seconds.unwrap_or(60)
}

/// Returns the limits of groups, from the options and the table's properties.
fn limits(metadata: &TableMetadata, options: &CompactOptions) -> Result<GroupLimits> {
    let target = options.target(metadata)?;
    let limits = GroupLimits {
        target,
        min_file: options.min_file_size_bytes.unwrap_or(target / 4 * 3),
        max_file: options.max_file_size_bytes.unwrap_or(target.saturating_mul(9) / 5),
        min_input_files: options.min_input_files.unwrap_or(5),
        max_group: options.max_file_group_size_bytes.unwrap_or(100 << 30),
        max_group_files: options.max_file_group_input_files.unwrap_or(usize::MAX).max(1),
        all: options.rewrite_all,
    };
    if limits.min_file > limits.target || limits.max_file < limits.target {
        let reason = format!("minimum ≤ target ≤ maximum must hold, not {} ≤ {target} ≤ {}", limits.min_file, limits.max_file);
        return Err(MaintenanceError::Option { key: "target-file-size-bytes", reason });
    }
    Ok(limits)
}

/// Builds the groups of a conversion of deletes: each is a whole partition.
fn by_partition(partitions: ByPartition) -> Vec<Group> {
    let some = partitions.into_iter().filter(|(_, files)| !files.is_empty()).enumerate();
    let groups = some.map(|(id, ((spec_id, partition, _), files))| {
        let files: Vec<PlannedFile> = files.into_iter().map(|c| c.file).collect();
        Group { id, partition, spec_id, expected_files: files.len() as u64, files, delete_files: 0 }
    });
    groups.collect()
}

/// Orders the groups, drops those beyond the maximum number of files, and numbers the rest.
fn trim(groups: &mut Vec<Group>, options: &CompactOptions) {
    match options.rewrite_job_order {
        JobOrder::None => {}
        JobOrder::BytesAsc => groups.sort_by_key(Group::bytes),
        JobOrder::BytesDesc => groups.sort_by_key(|g| std::cmp::Reverse(g.bytes())),
        JobOrder::FilesAsc => groups.sort_by_key(|g| g.files.len()),
        JobOrder::FilesDesc => groups.sort_by_key(|g| std::cmp::Reverse(g.files.len())),
    }
    if let Some(most) = options.max_files_to_rewrite {
        let mut files = 0;
        groups.retain(|g| {
            files += g.files.len();
            files <= most
        });
    }
    groups.iter_mut().enumerate().for_each(|(i, g)| g.id = i);
}

/// Checks that a delete can be applied: it has a format that Esker reads, and is not one of the `closed` files.
fn check_applicable(closed: &HashSet<&str>, delete: &LiveDelete) -> std::result::Result<(), ReadError> {
    check_readable(delete)?;
    let path = &delete.entry.file.file_path;
    match closed.contains(path.as_str()) {
        true => Err(ReadError::Closed { path: path.clone() }),
        false => Ok(()),
    }
}

/// Chooses the files to rewrite among all live data files of a snapshot.
struct Chooser<'a> {
    metadata: &'a TableMetadata,
    /// Files that may not be read, because they lie in places of other tables.
    closed: &'a HashSet<&'a str>,
    options: &'a CompactOptions,
    limits: GroupLimits,
    filter: Option<Expr>,
    index: DeleteIndex<'a>,
    /// True if any live delete can't be applied, by [`check_applicable`].
    unreadable: bool,
    live: &'a LiveFiles,
    changed: &'a LastChanges,
}

impl Chooser<'_> {
    /// Returns the files that may be rewritten, by partition, and those that would gain from it but may not be rewritten.
    fn choose(&self) -> (ByPartition, Vec<LeftAlone>) {
        let mut candidates = ByPartition::new();
        let mut left: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
        let repeated = self.live.duplicate_paths();
        for data in &self.live.data {
            if !self.matches_options(data) {
                continue;
            }
            let partition = self.label(data);
            let Some(candidate) = self.candidate(data) else { continue };
            let bytes = candidate.file.bytes;
            let twice = || "the file is in the table more than once, and so are its rows".to_owned();
            let is_repeated = repeated.contains_key(data.file.file_path.as_str());
            match is_repeated.then(twice).or_else(|| self.why_not(data)) {
                Some(reason) if self.limits.chooses(&candidate) => {
                    let sum = left.entry((partition, reason)).or_default();
                    *sum = (sum.0 + 1, sum.1 + bytes);
                }
                Some(_) => {}
                None => {
                    let place = (data.spec_id, partition, PartitionKey::of(data).into_owned());
                    candidates.entry(place).or_default().push(candidate);
                }
            }
        }
        let left = left.into_iter();
        let left = left.map(|((partition, reason), (files, bytes))| LeftAlone { partition, files, bytes, reason });
        (candidates, left.collect())
    }

    fn label(&self, data: &LiveFile) -> String {
        partition_label(self.metadata, data.spec_id, &data.file.partition)
    }

    /// Checks whether a file matches the options `partition` and `where`.
    fn matches_options(&self, data: &LiveFile) -> bool {
        self.options.partition.as_deref().is_none_or(|part| self.label(data).contains(part)) && self.matches(data)
    }

    /// Checks whether a file may hold rows for which the predicate of the option `where` is true.
    fn matches(&self, data: &LiveFile) -> bool {
        let (Some(filter), Some(spec)) = (&self.filter, self.metadata.partition_spec_by_id(data.spec_id)) else { return true };
        residual(filter, self.metadata.current_schema(), spec, data) != Expr::False
    }

    /// Measures a file; `None` if the job is a conversion and the file has no deletes to convert.
    fn candidate(&self, data: &LiveFile) -> Option<CandidateFile> {
        let file = &data.file;
        let own = |i: usize| self.live.deletes[i].entry.file.rows().unwrap_or(0);
        let deleted = saturating_total(self.index.file_scoped(data).into_iter().map(own));
        let planned = PlannedFile {
            path: file.file_path.clone(),
            bytes: file.size(),
            records: file.rows().unwrap_or(0),
            deleted: file.rows().map_or(deleted, |rows| deleted.min(rows)),
        };
        if self.options.strategy == Strategy::ConvertDeletes {
            return self.convertible(data).then_some(CandidateFile { file: planned, urgent: true });
        }
        // The share is not known for a file whose manifest entry has no record count.
        let ratio = file.rows().map(|rows| deleted as f64 / rows.max(1) as f64);
        let threshold = self.options.delete_ratio_threshold.unwrap_or(0.3);
        let many_deletes = deleted > 0 && ratio.is_some_and(|ratio| ratio >= threshold);
        let over = |most: usize| self.index.positional_deletes(data).len() + self.index.equality(data).take(most).count() >= most;
        let many_delete_files = self.options.delete_file_threshold.is_some_and(|most| most > 0 && over(most));
        let row_groups = file.split_offsets.as_ref().map_or(1, Vec::len).max(1) as u64;
        let small_row_groups =
            row_groups > 1 && self.options.min_row_group_size_bytes.is_some_and(|least| planned.bytes / row_groups < least);
        Some(CandidateFile { file: planned, urgent: many_deletes || many_delete_files || small_row_groups })
    }

    /// Checks whether a file has deletes that a conversion improves.
    ///
    /// These are equality deletes, position delete files where the format has deletion vectors, and several position delete files
    /// that become one.
    fn convertible(&self, data: &LiveFile) -> bool {
        let vectors = self.metadata.format_version >= 3;
        let positional = self.index.positional_deletes(data);
        let kind = |i: &usize| self.live.deletes[*i].kind;
        let better = positional.iter().any(|i| kind(i) == DeleteKind::Position && (vectors || positional.len() > 1));
        better || self.index.equality(data).next().is_some()
    }

    /// Returns the reason that keeps a file from being rewritten, if there is one.
    fn why_not(&self, data: &LiveFile) -> Option<String> {
        let file = &data.file;
        if file.key_metadata.is_some() {
            return Some("encrypted files are not supported".to_owned());
        }
        if self.closed.contains(file.file_path.as_str()) {
            return Some("they lie in a place of another table, so their rows are not copied".to_owned());
        }
        if file.file_format != DataFileFormat::Parquet {
            return Some("only Parquet files are rewritten".to_owned());
        }
        if self.unreadable {
            let errors =
                self.index.all(data).into_iter().filter_map(|i| check_applicable(self.closed, &self.live.deletes[i]).err());
            if let Some(error) = errors.into_iter().next() {
                return Some(format!("a delete of its rows can't be applied: {error}"));
            }
        }
        let last = self.changed.get(&PartitionKey::of(data))?;
        // A conversion replaces no data file.
        (self.options.strategy != Strategy::ConvertDeletes).then(|| {
            let ago = now_ms().saturating_sub(*last) / 1000;
            let wait = quiet_seconds(self.options);
            format!(
                "rows were changed {ago} s ago; left alone for {wait} s, so that a running MERGE, UPDATE or DELETE does not fail"
            )
        })
    }

    /// Sets the number of delete files that may apply to each group.
    fn count_deletes(&self, groups: &mut [Group]) {
        if self.live.deletes.is_empty() {
            return;
        }
        let by_path: std::collections::HashMap<&str, &LiveFile> =
            self.live.data.iter().map(|f| (f.file.file_path.as_str(), f)).collect();
        for group in groups {
            let files: Vec<LiveFile> =
                group.files.iter().filter_map(|f| Some((*by_path.get(f.path.as_str())?).clone())).collect();
            let mut found: HashSet<DeleteKey> = HashSet::new();
            found.extend(self.index.positional_deletes_of_any(&files).iter().map(|d| delete_key(&d.entry.file)));
            for (_, deletes) in self.index.equality_by_partition(&files) {
                found.extend(deletes.iter().map(|d| delete_key(&d.entry.file)));
            }
            group.delete_files = found.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_without_groups_says_what_the_table_or_the_options_lack() {
        let limits = GroupLimits {
            target: 512 << 20,
            min_file: 384 << 20,
            max_file: 900 << 20,
            min_input_files: 5,
            max_group: u64::MAX,
            max_group_files: usize::MAX,
            all: false,
        };
        let why = |options: CompactOptions, data_files, found| {
            let plan = CompactPlan { data_files, ..CompactPlan::empty("n.t".to_owned(), &options, limits) };
            why_nothing(&plan, limits, found).expect("a reason")
        };
        let found = |matching, gaining, packed| Found { matching, gaining, packed };
        let options = CompactOptions::default;
        assert_eq!(why(options(), 0, found(false, 0, false)), "branch main has no data file");
        assert_eq!(why(options(), 3, found(false, 0, false)), "no data file matches the options where and partition");
        assert_eq!(why(options(), 3, found(true, 0, false)), "every file has the right size and few deletes");
        let small = "too few small files: 1 file under 384.0 MiB; a group of one partition needs at least 5 (min-input-files), or \
                     more than 512.0 MiB (target-file-size-bytes)";
        assert_eq!(why(options(), 3, found(true, 1, false)), small);
        let trimmed = CompactOptions { max_files_to_rewrite: Some(2), ..options() };
        let most = "the first group has more files than max-files-to-rewrite permits, which is 2";
        assert_eq!(why(trimmed, 9, found(true, 9, true)), most);
        let converts = CompactOptions { strategy: Strategy::ConvertDeletes, ..options() };
        assert_eq!(why(converts.clone(), 3, found(true, 0, false)), "the branch has no delete file");
        let dangling = CompactPlan { delete_files: 1, ..CompactPlan::empty("n.t".to_owned(), &converts, limits) };
        assert_eq!(why_nothing(&dangling, limits, found(false, 0, false)), None, "the delete may apply to nothing");
    }
}
