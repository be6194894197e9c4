//! The execution of a compaction's plan. The states of a group:
//!
//! ```text
//!   planned ---- a budget is spent, or a file is not in the planned snapshot ---> refused
//!      |
//!      v
//!   writing ---- reading, encoding or verification failed ----------------------> refused
//!      |
//!      v
//!   ready: the new files are in storage, and no snapshot has them
//!      |
//!      v
//!   committing, together with the other groups that are ready ------------------> committed
//!      |    ^
//!      |    `--- the commit failed and had several groups: each is tried alone
//!      |
//!      `-------- the commit failed and had one group ---------------------------> refused
//! ```
//!
//! Several groups are written at the same time; one commit runs at a time. After a cancellation no group and no commit starts; the
//! worker reclaims the files of groups that are not committed. A conversion of deletes has no such states: it is one commit.
//!
//! Start reading at [`execute_compact`], then the loop over the groups in `rewrite`, and `GroupWork::run`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use esker_catalog::LoadedTable;
use esker_format::{DataFile, Schema, TableMetadata, Tuple, Type};
use esker_read::{BatchAdapter, ReadError};
use esker_table::{
    DeleteIndex, DeleteKey, LiveFile, LiveFiles, PartitionKey, ROW_MOVES, RowsToDelete, data_dir, delete_key, dir_of_label,
};
use esker_types::{Coded, ErrorCode, TableId, format_count, saturating_total};
use esker_write::{ParquetLayout, Shredding};
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::parquet_to_arrow_schema;
use parquet::basic::Repetition;
use roaring::RoaringTreemap;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::commit::{CommitEffects, ConvertCommit, GroupCommit, WrittenGroup};
use super::content_hash::{ContentHash, PartitionConstants};
use super::deletes::{resolve, union};
use super::group::Group;
use super::kept_moves::keep_moves;
use super::options::{CompactOptions, Strategy};
use super::order::{RowOrder, order};
use super::outcome::{CompactOutcome, RefusedGroup};
use super::plan::CompactPlan;
use super::prefetch::InputFile;
use super::rewrite::{CopiedRowGroups, OutputTarget, rewrite};
use super::sort::rewrite_sorted;
use crate::context::JobContext;
use crate::{MaintenanceError, Result};

/// Executes a plan group by group. Each group is a commit of its own unless the options ask for fewer commits.
///
/// # Errors
///
/// - Returns [`MaintenanceError::NothingDone`] if groups were refused and none was committed.
/// - Returns [`MaintenanceError::Cancelled`] after a cancellation; groups that were committed before stay so.
/// - Returns [`MaintenanceError::Panicked`] for a bug in the rewrite of a group.
/// - Returns [`MaintenanceError::Catalog`] if the manifests of the snapshot cannot be read, or if the commit of a conversion of
///   deletes fails.
/// - Returns [`MaintenanceError::Write`] if files can't hold the table's columns, [`MaintenanceError::Option`] if the sort order
///   does not fit the table, and [`MaintenanceError::Table`] if a data file has two deletion vectors.
pub(crate) async fn execute_compact(context: &JobContext, table: &LoadedTable, plan: &CompactPlan) -> Result<CompactOutcome> {
    let started = Instant::now();
    let mut outcome = CompactOutcome::default();
    let Some(snapshot) = plan.snapshot_id.and_then(|id| table.metadata.snapshots.get(id)) else {
        return Ok(outcome);
    };
    let mut context = context.clone();
    context.reader = context.reader.with_name_mapping(&table.metadata);
    if let Some(bytes) = plan.options.memory_bytes {
        context.limits.bytes = bytes;
    }
    let live = Arc::new(context.catalog.live_files(table, snapshot).await?);
    context.progress.set_total(plan.bytes());
    let start = snapshot.snapshot_id;
    let run = CompactRun {
        context: &context,
        table: table.row.id,
        metadata: table.metadata.clone(),
        plan,
        live,
        start_snapshot_id: start,
        keeps_moves: context.catalog.merges_positions(table).await?,
        started,
    };
    match plan.options.strategy {
        Strategy::ConvertDeletes => run.convert(&mut outcome).await?,
        _ => run.rewrite(&mut outcome).await?,
    }
    context.check_cancelled()?;
    context.counters.report(&mut outcome);
    outcome.seconds = started.elapsed().as_secs_f64();
    if outcome.groups == 0
        && let Some(first) = outcome.refused.first()
    {
        // The job is tried again if that may help any of the groups.
        let transient = outcome.refused.iter().find(|group| group.code.is_some_and(ErrorCode::is_transient));
        let group = transient.unwrap_or(first);
        let what = format!("no group was rewritten; group {}: {}", group.group, group.reason);
        return Err(MaintenanceError::NothingDone { code: group.code.unwrap_or(ErrorCode::Refused), what });
    }
    Ok(outcome)
}

/// A compaction that is being executed.
struct CompactRun<'a> {
    context: &'a JobContext,
    table: TableId,
    metadata: Arc<TableMetadata>,
    plan: &'a CompactPlan,
    live: Arc<LiveFiles>,
    /// Id of the snapshot that is read.
    start_snapshot_id: i64,
    /// True if it is kept where rows went, for late commits.
    keeps_moves: bool,
    started: Instant,
}

/// A group whose new files are written, with the numbers for its report.
struct ReadyGroup {
    written: WrittenGroup,
    hash: ContentHash,
    deleted: u64,
    copied: CopiedRowGroups,
}

impl CompactRun<'_> {
    /// Returns the summary of a snapshot of the job, with additional entries.
    fn summary(&self, what: &[(&str, String)]) -> BTreeMap<String, String> {
        let mut summary = self.context.summary();
        summary.extend(what.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
        summary
    }

    /// Returns the reason that no further group starts, if a budget is spent.
    fn spent_budget(&self, outcome: &CompactOutcome) -> Option<String> {
        let CompactOptions { max_bytes, max_seconds, max_requests, .. } = self.plan.options;
        let over = |limit: Option<u64>, is: u64| limit.filter(|limit| is >= *limit);
        if let Some(limit) = over(max_seconds, self.started.elapsed().as_secs()) {
            return Some(format!("the budget of {limit} s is spent"));
        }
        if let Some(limit) = over(max_bytes, outcome.bytes_in) {
            return Some(format!("the budget of {} is spent", format_count(limit, "byte")));
        }
        let limit = over(max_requests, self.context.counters.requests())?;
        Some(format!("the budget of {} is spent", format_count(limit, "request")))
    }

    /// Rewrites and commits the groups of the plan, and adds the results to `outcome`.
    async fn rewrite(&self, outcome: &mut CompactOutcome) -> Result<()> {
        let options = &self.plan.options;
        let layout = ParquetLayout::new(&self.metadata, self.metadata.current_schema().clone())?;
        let by_path: HashMap<&str, &LiveFile> = self.live.data.iter().map(|f| (f.file.file_path.as_str(), f)).collect();
        let at_once = options.max_concurrent_file_group_rewrites.unwrap_or(self.context.concurrency);
        let at_once = at_once.min(self.plan.groups.len()).max(1);
        let batch = match (options.partial_progress.unwrap_or(true), options.max_commits) {
            _ if self.lacks_row_ids() => usize::MAX,
            (false, _) => usize::MAX,
            (true, Some(most)) => self.plan.groups.len().div_ceil(most.max(1)).max(1),
            (true, None) => 1,
        };
        let mut waiting = self.plan.groups.iter();
        let mut writing = JoinSet::new();
        let mut ready: Vec<ReadyGroup> = Vec::new();
        let mut committing: Option<BoxFuture<'_, Vec<CommitResult>>> = None;
        let mut failure = None;
        loop {
            if self.context.check_cancelled().is_err() {
                waiting = [].iter();
            }
            while writing.len() < at_once
                && let Some(group) = waiting.next()
            {
                if let Some(reason) = self.spent_budget(outcome) {
                    outcome.refused.push(left_out(group, reason));
                    continue;
                }
                let files: Option<Vec<LiveFile>> =
                    group.files.iter().map(|f| by_path.get(f.path.as_str()).map(|live| (*live).clone())).collect();
                let Some(files) = files else {
                    let reason = "a file of the plan is not in the planned snapshot".to_owned();
                    outcome.refused.push(left_out(group, reason));
                    continue;
                };
                let order = order(&self.metadata, options)?;
                let work = GroupWork {
                    context: self.context.share(at_once),
                    metadata: self.metadata.clone(),
                    live: self.live.clone(),
                    shape: layout.clone(),
                    group: group.clone(),
                    target: self.target(group),
                    files,
                    order,
                };
                let span = tracing::info_span!("group", group = work.group.id, files = work.files.len());
                let work = async move {
                    let (id, partition) = (work.group.id, work.group.partition.clone());
                    (id, partition, work.run().await)
                };
                writing.spawn(work.instrument(span));
            }
            // Groups that become ready while a commit runs go into the next one together.
            let due = ready.len() >= batch || writing.is_empty();
            if committing.is_none() && due && !ready.is_empty() {
                committing = Some(self.commit(std::mem::take(&mut ready)).boxed());
            }
            if writing.is_empty() && committing.is_none() {
                return failure.map_or(Ok(()), Err);
            }
            let settled = async {
                match committing.as_mut() {
                    Some(commit) => commit.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(finished) = writing.join_next(), if !writing.is_empty() => {
                    match finished {
                        Ok((_, _, Ok(group))) => ready.push(group),
                        Ok((id, partition, Err(error))) => {
                            self.context.record_damage(&error).await;
                            outcome.refused.push(refused(id, partition, &error));
                        }
                        Err(e) => {
                            // The task panicked, which is a bug. Groups that are being written are still committed; no other group
                            // starts.
                            failure = Some(e.into());
                            waiting = [].iter();
                        }
                    }
                }
                settled = settled => {
                    committing = None;
                    settled.into_iter().for_each(|settled| settled.add_to(outcome));
                }
            }
        }
    }

    /// Checks whether rows have no row ids yet, as right after an upgrade to format version 3.
    ///
    /// All groups are then one commit. The first commit assigns row ids to the files in the table; a group that is committed later
    /// would assign other ids to its rows.
    ///
    /// Spec: "Row Lineage".
    fn lacks_row_ids(&self) -> bool {
        self.metadata.format_version >= 3 && self.live.data.iter().any(|f| f.first_row_id.is_none())
    }

    /// Returns the sizes and the names of a group's new files.
    fn target(&self, group: &Group) -> OutputTarget {
        let dir = data_dir(&self.metadata);
        let partition = dir_of_label(&group.partition);
        let options = &self.plan.options;
        let target = self.plan.target_file_size_bytes;
        OutputTarget {
            file_bytes: target,
            max_bytes: options.max_file_size_bytes.unwrap_or(target.saturating_mul(9) / 5),
            copy_row_groups: options.splice.unwrap_or(true),
            verify: options.verify,
            prefix: format!("{dir}/{partition}compacted-{}-{}-{}", self.context.job, self.context.attempt, group.id),
        }
    }

    /// Commits groups together. If that fails, it commits each alone, so that only the group that can't be committed is lost.
    async fn commit(&self, groups: Vec<ReadyGroup>) -> Vec<CommitResult> {
        let mut began = Instant::now();
        let mut settled = Vec::new();
        let (reports, done): (Vec<GroupReport>, Vec<Arc<WrittenGroup>>) =
            groups.into_iter().map(|g| (GroupReport::of(self.plan, &g), Arc::new(g.written))).unzip();
        let mut batches = vec![(reports, done)];
        while let Some((facts, done)) = batches.pop() {
            let mut hash = ContentHash::default();
            facts.iter().for_each(|f| hash.merge(f.hash));
            let partitions = facts.iter().map(|f| f.partition.as_str()).collect::<Vec<_>>().join(", ");
            let mut summary = self.summary(&[
                ("esker.partition", partitions.chars().take(200).collect()),
                ("esker.content-hash", hash.to_string()),
                ("esker.verify", format!("{:?}", self.plan.options.verify).to_lowercase()),
            ]);
            let moves = match self.keeps_moves {
                true => keep_moves(self.context, &self.metadata, &done).await,
                false => None,
            };
            summary.extend(moves.iter().map(|moves| (ROW_MOVES.to_owned(), moves.name.clone())));
            let commit = GroupCommit {
                context: self.context.clone(),
                branch: self.plan.options.branch().to_owned(),
                start: self.start_snapshot_id,
                sequence_number: self.plan.sequence_number,
                groups: done.clone(),
                drop_dangling: self.plan.options.remove_dangling_deletes.unwrap_or(true),
                moves,
                summary,
            };
            let result = match self.context.check_cancelled() {
                Ok(()) => self.context.catalog.commit_rebase(self.table, commit).await.map_err(Into::into),
                Err(cancelled) => Err(cancelled),
            };
            let seconds = std::mem::replace(&mut began, Instant::now()).elapsed().as_secs_f64();
            match result {
                Ok((_, effects)) => {
                    let files = format_count(facts.iter().map(|f| f.files_in).sum(), "file");
                    let groups = format_count(facts.len() as u64, "group");
                    self.context.progress.log(format!("committed {groups} of {files}: {partitions:.200}"));
                    let proof = format!("{:?} {hash}", self.plan.options.verify).to_lowercase();
                    settled.push(CommitResult { reports: facts, result: Ok((effects, proof)), seconds });
                }
                Err(_) if facts.len() > 1 => batches.extend(facts.into_iter().zip(done).map(|(f, d)| (vec![f], vec![d]))),
                Err(error) => settled.push(CommitResult { reports: facts, result: Err(error), seconds }),
            }
        }
        settled
    }

    /// Converts deletes, all in one commit: a delete of the whole table can be removed only when every partition is converted.
    async fn convert(&self, outcome: &mut CompactOutcome) -> Result<()> {
        let by_path: HashMap<&str, &LiveFile> = self.live.data.iter().map(|f| (f.file.file_path.as_str(), f)).collect();
        let index = DeleteIndex::new(&self.live.deletes, &self.metadata)?;
        let (mut files, mut covered): (HashMap<String, RowsToDelete>, HashSet<DeleteKey>) = Default::default();
        for group in &self.plan.groups {
            let data: Vec<LiveFile> =
                group.files.iter().filter_map(|f| by_path.get(f.path.as_str()).map(|live| (*live).clone())).collect();
            let found = resolve(self.context, &self.metadata, &self.live, &data).await;
            let (positional, by_equality) = match found {
                Ok(found) => found,
                Err(error) => {
                    outcome.refused.push(refused(group.id, group.partition.clone(), &error));
                    continue;
                }
            };
            outcome.deleted_records += by_equality.values().map(RoaringTreemap::len).sum::<u64>();
            let mut positions = union(positional, by_equality);
            covered.extend(index.positional_deletes_of_any(&data).into_iter().map(|d| delete_key(&d.entry.file)));
            for (_, deletes) in index.equality_by_partition(&data) {
                covered.extend(deletes.iter().map(|d| delete_key(&d.entry.file)));
            }
            for file in data {
                let path = file.file.file_path.clone();
                let partition = file.file.partition.clone();
                let positions = positions.remove(&path).unwrap_or_default();
                files.insert(path.clone(), RowsToDelete { path, spec_id: file.spec_id, partition, positions });
            }
            self.context.progress.add(group.bytes());
            outcome.groups += 1;
        }
        let drop_dangling = self.plan.options.remove_dangling_deletes.unwrap_or(true);
        let has_dangling = drop_dangling && !esker_table::dangling(&self.live, &[], &self.metadata).is_empty();
        if files.is_empty() && !has_dangling {
            return Ok(());
        }
        let began = Instant::now();
        let commit = ConvertCommit {
            context: self.context.clone(),
            branch: self.plan.options.branch().to_owned(),
            start: self.start_snapshot_id,
            sequence_number: self.plan.sequence_number,
            files,
            covered,
            drop_dangling,
            summary: self.summary(&[]),
        };
        let (_, effects) = self.context.catalog.commit_rebase(self.table, commit).await?;
        add_effects(outcome, effects);
        outcome.commit_seconds = began.elapsed().as_secs_f64();
        Ok(())
    }
}

/// Adds the effects of a commit to the outcome.
fn add_effects(outcome: &mut CompactOutcome, effects: CommitEffects) {
    outcome.commits += 1;
    outcome.late_deletes_moved += effects.late_deletes;
    outcome.delete_files_removed += effects.removed_deletes;
}

/// Returns a refusal of a group that was not begun.
fn left_out(group: &Group, reason: String) -> RefusedGroup {
    RefusedGroup { group: group.id, partition: group.partition.clone(), reason, code: None }
}

/// Returns a refusal of a group that met an error, and logs it.
fn refused(group: usize, partition: String, error: &MaintenanceError) -> RefusedGroup {
    tracing::warn!(group, partition, %error, "a group was not rewritten");
    RefusedGroup { group, partition, reason: error.to_string(), code: Some(error.code()) }
}

/// The result of a commit of some groups.
struct CommitResult {
    reports: Vec<GroupReport>,
    /// The effects of the commit, and its verification with the content hash, as [`CompactOutcome::proof`] has them.
    result: Result<(CommitEffects, String)>,
    /// Duration of the commit, in seconds.
    seconds: f64,
}

impl CommitResult {
    fn add_to(self, outcome: &mut CompactOutcome) {
        outcome.commit_seconds += self.seconds;
        match self.result {
            Ok((effects, proof)) => {
                self.reports.iter().for_each(|f| f.add_to(outcome));
                add_effects(outcome, effects);
                outcome.proof = proof;
            }
            Err(error) => outcome.refused.extend(self.reports.iter().map(|f| refused(f.group, f.partition.clone(), &error))),
        }
    }
}

/// The numbers that the outcome gets from a group once it is committed.
struct GroupReport {
    group: usize,
    partition: String,
    files_in: u64,
    bytes_in: u64,
    files_out: u64,
    bytes_out: u64,
    deleted: u64,
    copied: CopiedRowGroups,
    hash: ContentHash,
}

impl GroupReport {
    fn of(plan: &CompactPlan, ready: &ReadyGroup) -> Self {
        let done = &ready.written;
        let planned = plan.groups.iter().find(|g| g.id == done.group);
        Self {
            group: done.group,
            partition: planned.map_or_else(String::new, |g| g.partition.clone()),
            files_in: done.removed.len() as u64,
            bytes_in: saturating_total(done.removed.iter().map(|f| f.file.size())),
            files_out: done.added.len() as u64,
            bytes_out: saturating_total(done.added.iter().map(|file| file.size())),
            deleted: ready.deleted,
            copied: ready.copied,
            hash: ready.hash,
        }
    }

    fn add_to(&self, outcome: &mut CompactOutcome) {
        outcome.groups += 1;
        outcome.files_in += self.files_in;
        outcome.files_out += self.files_out;
        outcome.bytes_in += self.bytes_in;
        outcome.bytes_out += self.bytes_out;
        outcome.records += self.hash.rows;
        outcome.deleted_records += self.deleted;
        outcome.row_groups_spliced += self.copied.count;
        outcome.bytes_spliced += self.copied.bytes;
    }
}

/// The rewrite of one group, which runs in a task of its own.
struct GroupWork {
    context: JobContext,
    metadata: Arc<TableMetadata>,
    live: Arc<LiveFiles>,
    shape: Arc<ParquetLayout>,
    group: Group,
    target: OutputTarget,
    files: Vec<LiveFile>,
    /// The order of the rows, and the id of the table's sort order if the rows are sorted by it; `None` if rows keep their order.
    order: Option<(RowOrder, Option<i32>)>,
}

/// Returns the partition that all of the files lie in.
///
/// Files of different partitions are never rewritten into one, whatever a plan asks for. Readers take values of identity partition
/// fields from the partition, so rows would change.
///
/// # Errors
///
/// Returns [`MaintenanceError::MixedPartitions`] if the files lie in several partitions, and [`MaintenanceError::Refused`] if there
/// are none.
fn one_partition(files: &[LiveFile]) -> Result<PartitionKey<'_>> {
    let Some(first) = files.first() else { return Err(MaintenanceError::Refused("a group without files".to_owned())) };
    let partition = PartitionKey::of(first);
    match files.iter().find(|file| PartitionKey::of(file) != partition) {
        None => Ok(partition),
        Some(other) => {
            let (first, other) = (first.file.file_path.clone(), other.file.file_path.clone());
            Err(MaintenanceError::MixedPartitions { first, other })
        }
    }
}

/// Returns the number of rows of a file, including deleted ones; from its footer if its manifest entry has none.
async fn records(context: &JobContext, file: &LiveFile) -> Result<u64> {
    let file = &file.file;
    if let Some(rows) = file.rows() {
        return Ok(rows);
    }
    let footer = context.reader.footer(&file.file_path, file.size(), &context.counters.reads).await?;
    Ok(footer.file_metadata().num_rows().unsigned_abs())
}

/// Returns the layout of the new files: `strict`, or a copy of it in which some required fields are optional.
///
/// A field becomes optional so that a null in the data survives the rewrite. It must be optional in some file, and its nulls must
/// be possible: by [`TableMetadata::unreliable_required_fields`], or because the statistics do not exclude them.
async fn layout_for(
    context: &JobContext,
    metadata: &TableMetadata,
    files: &[LiveFile],
    strict: Arc<ParquetLayout>,
) -> Result<Arc<ParquetLayout>> {
    let mut doubtful = metadata.unreliable_required_fields(&strict.schema);
    let required = strict.schema.as_struct().fields().iter().filter(|field| field.required && !field.field_type.is_nested());
    let has_nulls = |id: i32| files.iter().any(|file| file.file.stats(id).and_then(|stats| stats.null_count) != Some(0));
    doubtful.extend(required.map(|field| field.id).filter(|id| has_nulls(*id)));
    if doubtful.is_empty() {
        return Ok(strict);
    }
    let mut lacking = BTreeSet::new();
    for file in files {
        let footer = context.reader.footer(&file.file.file_path, file.file.size(), &context.counters.reads).await?;
        let mut required = BTreeSet::new();
        add_required(footer.file_metadata().schema(), &mut required);
        lacking.extend(doubtful.difference(&required).copied());
    }
    if lacking.is_empty() {
        return Ok(strict);
    }
    Ok(ParquetLayout::new(metadata, Arc::new(Schema::clone(&strict.schema).with_optional(&lacking)))?)
}

/// Returns the layout that shreds variants as the replaced files do, so that filters on shredded fields prune no less than before.
///
/// Spec: Parquet, "Variant Shredding".
async fn with_shredding(
    context: &JobContext,
    metadata: &TableMetadata,
    files: &[LiveFile],
    whole: Arc<ParquetLayout>,
) -> Result<Arc<ParquetLayout>> {
    let is_variant = |id: i32| whole.schema.field_by_id(id).is_some_and(|field| *field.field_type == Type::Variant);
    if !whole.schema.field_ids().any(is_variant) {
        return Ok(whole);
    }
    let mut found = Vec::with_capacity(files.len());
    for file in files {
        let file = &file.file;
        let footer = context.reader.footer(&file.file_path, file.size(), &context.counters.reads).await?;
        let about = footer.file_metadata();
        let columns = parquet_to_arrow_schema(about.schema_descr(), None);
        let columns = columns.map_err(|source| ReadError::Parquet { path: file.file_path.clone(), source })?;
        let columns = context.reader.names().identify(columns.fields());
        let columns = columns.map_err(|what| ReadError::unsupported(&file.file_path, what))?;
        found.push((columns, about.num_rows().unsigned_abs()));
    }
    let shredding = Shredding::of_files(found.iter().map(|(columns, rows)| (columns, *rows)));
    match shredding.is_empty() {
        true => Ok(whole),
        false => Ok(ParquetLayout::shredded(metadata, whole.schema.clone(), shredding)?),
    }
}

/// Adds the field ids of a Parquet type's required fields, at every depth, to `found`.
fn add_required(ty: &parquet::schema::types::Type, found: &mut BTreeSet<i32>) {
    let about = ty.get_basic_info();
    if about.has_id() && about.has_repetition() && about.repetition() == Repetition::REQUIRED {
        found.insert(about.id());
    }
    if ty.is_group() {
        ty.get_fields().iter().for_each(|field| add_required(field, found));
    }
}

/// Removes positions beyond the end of a file: position deletes may name rows that the file does not have.
fn clip_to_file(mut positions: RoaringTreemap, records: u64) -> RoaringTreemap {
    positions.remove_range(records..);
    positions
}

impl GroupWork {
    /// Writes the new files of the group.
    async fn run(self) -> Result<ReadyGroup> {
        let Self { context, metadata, live, shape, group, target, files, order } = self;
        let shape = layout_for(&context, &metadata, &files, shape).await?;
        let shape = with_shredding(&context, &metadata, &files, shape).await?;
        let spec = metadata.partition_spec_by_id(group.spec_id);
        let spec = spec.ok_or_else(|| MaintenanceError::Refused(format!("partition spec {} does not exist", group.spec_id)))?;
        let partition: Tuple = one_partition(&files)?.values().into();
        let (positional, by_equality) = resolve(&context, &metadata, &live, &files).await?;
        let mut deleted = union(positional, by_equality);
        let mut inputs = Vec::with_capacity(files.len());
        for file in &files {
            let partition = &file.file.partition;
            let records = records(&context, file).await?;
            inputs.push(InputFile {
                file: file.clone(),
                records,
                deleted: deleted.remove(&file.file.file_path).map(|positions| Arc::new(clip_to_file(positions, records))),
                adapter: Arc::new(BatchAdapter::new(shape.arrow.clone(), &shape.schema, Some((spec.as_ref(), partition)))),
                constants: Arc::new(PartitionConstants::of(&shape, spec, partition)),
            });
        }
        let deleted = inputs.iter().map(|i| i.records - i.rows()).sum();
        let inputs = Arc::new(inputs);
        let (sort_order, rewritten) = match order {
            None => (None, rewrite(&context, &shape, inputs, &target).await?),
            Some((mut order, id)) => {
                order.stretch(&shape.schema, &files);
                (id, rewrite_sorted(&context, &shape, inputs, &target, order).await?)
            }
        };
        context.catalog.failpoint("compact-after-write").await;
        let mut added = Vec::with_capacity(rewritten.files.len());
        for file in rewritten.files {
            added.push(DataFile { partition: partition.clone(), sort_order_id: sort_order, ..file });
        }
        let done =
            WrittenGroup { group: group.id, removed: files, added, spec_id: group.spec_id, row_mapping: rewritten.row_mapping };
        Ok(ReadyGroup { written: done, hash: rewritten.hash, deleted, copied: rewritten.copied })
    }
}

#[cfg(test)]
mod tests {
    use esker_format::{DataContentType, DataFileFormat, Value};

    use super::*;

    fn file(path: &str, spec_id: i32, value: Option<&str>) -> LiveFile {
        let mut file = DataFile::new(DataContentType::Data, path, DataFileFormat::Parquet, 1, 1);
        file.partition = [value.map(|text| Value::String(text.into()))].into();
        LiveFile { file, spec_id, sequence_number: 1, file_sequence_number: None, snapshot_id: 1, first_row_id: None }
    }

    /// Plans of earlier versions, which told partitions apart by their labels, may hold such a group.
    #[test]
    fn a_group_of_two_partitions_is_refused() {
        assert!(one_partition(&[file("a", 0, None), file("b", 0, None)]).is_ok());
        for other in [file("b", 0, Some("null")), file("b", 1, None)] {
            let files = [file("a", 0, None), other];
            let error = one_partition(&files).expect_err("refused");
            assert!(matches!(error, MaintenanceError::MixedPartitions { .. }), "{error}");
        }
    }
}
