use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use esker_catalog::{Catalog, CatalogError, Change, LoadedTable, Proposal, Rebase};
use esker_read::{Adapter, FileScan, ReadStats, Reader, target_schema};
use esker_table::{LiveFile, LiveFiles, Rewrite, TableError, data_dir, load_live, partition_label, rewrite_snapshot};
use esker_types::{JobId, TableId};
use futures::TryStreamExt;
use futures::future::BoxFuture;
use iceberg::spec::{DataFile, DataFileBuilder, DataFileFormat, FormatVersion, TableMetadata};
use iceberg::writer::CurrentFileStatus;
use iceberg::writer::file_writer::{FileWriter, FileWriterBuilder, ParquetWriterBuilder};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::group::{Limits, pack};
use crate::jobs::JobContext;
use crate::{Group, MaintenanceError, PlannedFile, Progress, Result, writer};

/// Options of a compaction, named and with defaults as in Spark's `rewrite_data_files`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CompactOptions {
    /// The size that new files aim at; default: the table's `write.target-file-size-bytes`, else 512 MiB.
    pub target_file_size_bytes: Option<u64>,
    /// Smaller files are rewritten; default: 75 % of the target.
    pub min_file_size_bytes: Option<u64>,
    /// Larger files are rewritten; default: 180 % of the target.
    pub max_file_size_bytes: Option<u64>,
    /// A group of this many files is rewritten even if they do not fill one; default 5.
    pub min_input_files: Option<usize>,
    /// Bytes of a group, at most; default 100 GiB.
    pub max_file_group_size_bytes: Option<u64>,
    /// Only partitions whose label (`field=value/…`) contains this.
    pub partition: Option<String>,
}

/// Files that a compaction does not touch although their size is wrong, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftAlone {
    /// The partition, for people.
    pub partition: String,
    /// How many files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Why.
    pub reason: String,
}

/// What a compaction is going to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactPlan {
    /// The table's name.
    pub table: String,
    /// The snapshot that was looked at; none for an empty table.
    pub snapshot_id: Option<i64>,
    /// Its sequence number, which the new files take.
    pub sequence_number: i64,
    /// The size that new files aim at.
    pub target_file_size_bytes: u64,
    /// Data files of the snapshot.
    pub data_files: u64,
    /// What is rewritten.
    pub groups: Vec<Group>,
    /// What is not, and why.
    pub left_alone: Vec<LeftAlone>,
}

impl CompactPlan {
    /// Files that are replaced.
    pub fn files(&self) -> u64 {
        self.groups.iter().map(|g| g.files.len() as u64).sum()
    }

    /// Bytes that are rewritten.
    pub fn bytes(&self) -> u64 {
        self.groups.iter().map(Group::bytes).sum()
    }

    /// Files expected in their place.
    pub fn expected_files(&self) -> u64 {
        self.groups.iter().map(|g| g.expected_files).sum()
    }
}

/// A group that was not rewritten after all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedGroup {
    /// Its number in the plan.
    pub group: usize,
    /// Its partition.
    pub partition: String,
    /// Why.
    pub reason: String,
}

/// What a compaction did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CompactOutcome {
    /// Groups committed.
    pub groups: u64,
    /// Data files replaced.
    pub files_in: u64,
    /// Data files in their place.
    pub files_out: u64,
    /// Bytes replaced.
    pub bytes_in: u64,
    /// Bytes in their place.
    pub bytes_out: u64,
    /// Rows rewritten.
    pub records: u64,
    /// Seconds from start to the last commit.
    pub seconds: f64,
    /// Groups that something in the way kept from being rewritten.
    pub refused: Vec<RefusedGroup>,
}

/// Plans a compaction of the table's current snapshot.
pub async fn plan_compact(catalog: &Catalog, table: &LoadedTable, options: &CompactOptions) -> Result<CompactPlan> {
    let target = target_size(&table.metadata, options)?;
    let limits = Limits {
        target,
        min_file: options.min_file_size_bytes.unwrap_or(target / 4 * 3),
        max_file: options.max_file_size_bytes.unwrap_or(target.saturating_mul(9) / 5),
        min_input_files: options.min_input_files.unwrap_or(5),
        max_group: options.max_file_group_size_bytes.unwrap_or(100 << 30),
    };
    if limits.min_file > limits.target || limits.max_file < limits.target {
        let reason = format!("{} ≤ {target} ≤ {} does not hold", limits.min_file, limits.max_file);
        return Err(MaintenanceError::Option { key: "target-file-size-bytes", reason });
    }
    let mut plan = CompactPlan {
        table: table.row.name.to_string(),
        snapshot_id: table.metadata.current_snapshot_id(),
        sequence_number: 0,
        target_file_size_bytes: target,
        data_files: 0,
        groups: Vec::new(),
        left_alone: Vec::new(),
    };
    let Some(snapshot) = table.metadata.current_snapshot() else { return Ok(plan) };
    let live = catalog.live(table, snapshot).await?;
    plan.sequence_number = snapshot.sequence_number();
    plan.data_files = live.data.len() as u64;
    let (candidates, left_alone) = candidates(&table.metadata, &live, limits, options.partition.as_deref());
    plan.left_alone = left_alone;
    plan.groups = pack(candidates, limits);
    Ok(plan)
}

fn target_size(metadata: &TableMetadata, options: &CompactOptions) -> Result<u64> {
    const KEY: &str = "write.target-file-size-bytes";
    let target = match (options.target_file_size_bytes, metadata.properties().get(KEY)) {
        (Some(target), _) => target,
        (None, None) => 512 << 20,
        (None, Some(text)) => text.parse().map_err(|_| MaintenanceError::Option {
            key: KEY,
            reason: format!("the table property is {text:?}, not a number"),
        })?,
    };
    if target == 0 {
        return Err(MaintenanceError::Option { key: "target-file-size-bytes", reason: "it must not be 0".to_owned() });
    }
    Ok(target)
}

type ByPartition = BTreeMap<(i32, String), Vec<PlannedFile>>;

/// The files that may be rewritten, by partition, and those of the wrong size that may not.
fn candidates(metadata: &TableMetadata, live: &LiveFiles, limits: Limits, only: Option<&str>) -> (ByPartition, Vec<LeftAlone>) {
    let with_deletes = live.deletes_by_file(metadata);
    let mut candidates = ByPartition::new();
    let mut left: BTreeMap<(String, &str), (u64, u64)> = BTreeMap::new();
    for (i, data) in live.data.iter().enumerate() {
        let file = &data.file;
        let partition = label(metadata, data);
        if only.is_some_and(|part| !partition.contains(part)) {
            continue;
        }
        let bytes = file.file_size_in_bytes();
        let reason = if metadata.format_version() == FormatVersion::V3 {
            Some("format version 3: a rewrite has to keep row lineage, which this version can't yet")
        } else if file.key_metadata().is_some() {
            Some("encrypted files are not supported")
        } else if file.file_format() != DataFileFormat::Parquet {
            Some("only Parquet files are rewritten")
        } else if with_deletes.contains_key(&i) {
            Some("deletes apply to these files; rewriting files with deletes is not done yet")
        } else {
            None
        };
        match reason {
            Some(reason) if bytes < limits.min_file || bytes > limits.max_file || with_deletes.contains_key(&i) => {
                let sum = left.entry((partition, reason)).or_default();
                *sum = (sum.0 + 1, sum.1 + bytes);
            }
            Some(_) => {}
            None => {
                let planned = PlannedFile { path: file.file_path().to_owned(), bytes, records: file.record_count() };
                candidates.entry((data.spec_id, partition)).or_default().push(planned);
            }
        }
    }
    let left = left.into_iter().map(|((partition, reason), (files, bytes))| LeftAlone {
        partition,
        files,
        bytes,
        reason: reason.to_owned(),
    });
    (candidates, left.collect())
}

fn label(metadata: &TableMetadata, data: &LiveFile) -> String {
    metadata.partition_spec_by_id(data.spec_id).map_or_else(
        || format!("unknown spec {}", data.spec_id),
        |spec| partition_label(spec, metadata.current_schema(), data.file.partition()),
    )
}

/// Executes a plan group by group, and commits each by itself.
pub(crate) async fn execute_compact(context: &JobContext, table: &LoadedTable, plan: &CompactPlan) -> Result<CompactOutcome> {
    let started = Instant::now();
    let mut outcome = CompactOutcome::default();
    let Some(snapshot) = plan.snapshot_id.and_then(|id| table.metadata.snapshot_by_id(id)) else {
        return Ok(outcome);
    };
    let live = context.catalog.live(table, snapshot).await?;
    let by_path: HashMap<&str, &LiveFile> = live.data.iter().map(|f| (f.file.file_path(), f)).collect();
    context.progress.set_total(plan.bytes());
    let mut waiting = plan.groups.iter();
    let mut writing = JoinSet::new();
    loop {
        while writing.len() < context.concurrency.max(1)
            && let Some(group) = waiting.next()
        {
            let inputs = group.files.iter().map(|f| by_path.get(f.path.as_str()).map(|live| (*live).clone())).collect();
            let rewrite = GroupRewrite {
                context: context.clone(),
                metadata: table.metadata.clone(),
                group: group.clone(),
                inputs,
                target: plan.target_file_size_bytes,
            };
            writing.spawn(async move {
                let added = rewrite.run().await;
                (rewrite.group, added)
            });
        }
        let Some(done) = writing.join_next().await else { break };
        let (group, added) = done.map_err(|e| MaintenanceError::Refused(format!("a rewrite stopped: {e}")))?;
        let committed = match added {
            Ok(added) => commit_group(context, table.row.id, plan, &group, added).await,
            Err(error) => Err(error),
        };
        match committed {
            Ok((files_out, bytes_out)) => {
                outcome.groups += 1;
                outcome.files_in += group.files.len() as u64;
                outcome.files_out += files_out;
                outcome.bytes_in += group.bytes();
                outcome.bytes_out += bytes_out;
                outcome.records += group.records();
            }
            Err(error) => outcome.refused.push(refused(&group, &error)),
        }
    }
    outcome.seconds = started.elapsed().as_secs_f64();
    if outcome.groups == 0
        && let Some(first) = outcome.refused.first()
    {
        return Err(MaintenanceError::Refused(format!("no group was rewritten; group {}: {}", first.group, first.reason)));
    }
    Ok(outcome)
}

fn refused(group: &Group, error: &MaintenanceError) -> RefusedGroup {
    tracing::warn!(group = group.id, partition = group.partition, %error, "a group was not rewritten");
    RefusedGroup { group: group.id, partition: group.partition.clone(), reason: error.to_string() }
}

/// One group on its way into new files, in a task of its own.
struct GroupRewrite {
    context: JobContext,
    metadata: Arc<TableMetadata>,
    group: Group,
    /// The planned files as the planned snapshot has them; none if one is not there.
    inputs: Option<Vec<LiveFile>>,
    target: u64,
}

impl GroupRewrite {
    /// Writes the rows into new files. Decoding runs in a task beside the encoder.
    async fn run(&self) -> Result<Vec<DataFile>> {
        let Self { context, metadata, group, .. } = self;
        let missing = || MaintenanceError::Refused("a file of the plan is not in the planned snapshot".to_owned());
        let files = self.inputs.clone().ok_or_else(missing)?;
        let Some(first) = files.first() else { return Ok(Vec::new()) };
        let spec = metadata.partition_spec_by_id(group.spec_id);
        let no_spec = || MaintenanceError::Refused(format!("partition spec {} does not exist", group.spec_id));
        let partition = first.file.partition().clone();

        let schema = metadata.current_schema().clone();
        let ids: Vec<i32> = schema.as_struct().fields().iter().map(|f| f.id).collect();
        let adapter = Adapter::new(target_schema(&schema, &ids)?, &schema, Some((spec.ok_or_else(no_spec)?, &partition)));
        let (send, batches) = mpsc::channel::<Result<RecordBatch>>(2);
        let decoding = tokio::spawn(decode_all(context.reader.clone(), files, Arc::new(adapter), send, context.progress.clone()));
        let (written, rows_out) = self.encode(batches).await?;
        decoding.await.map_err(|e| MaintenanceError::Refused(format!("decoding stopped: {e}")))?;
        let rows_in = group.records();
        if rows_in != rows_out {
            return Err(MaintenanceError::NotEquivalent { group: group.id, rows_in, rows_out });
        }
        context.catalog.halt("compact-after-write").await;
        let finish = |mut file: DataFileBuilder| file.partition(partition.clone()).partition_spec_id(group.spec_id).build();
        let files: std::result::Result<Vec<_>, _> = written.into_iter().map(finish).collect();
        files.map_err(|e| MaintenanceError::Refused(e.to_string()))
    }

    /// Writes batches into files of about the target size; returns them and the rows written.
    async fn encode(&self, mut batches: mpsc::Receiver<Result<RecordBatch>>) -> Result<(Vec<DataFileBuilder>, u64)> {
        let Self { context, metadata, group, .. } = self;
        let builder = ParquetWriterBuilder::new(writer::properties(metadata)?, metadata.current_schema().clone());
        let io = context.catalog.storage().file_io();
        let mut written = Vec::new();
        let mut rows = 0;
        let mut open = None;
        while let Some(batch) = batches.recv().await {
            let batch = batch?;
            let mut out = match open.take() {
                Some(out) => out,
                None => {
                    let path = data_path(metadata, context.job, group, written.len());
                    context.record(vec![path.clone()]).await?;
                    builder.build(io.new_output(&path)?).await?
                }
            };
            rows += batch.num_rows() as u64;
            out.write(&batch).await?;
            if out.current_written_size() as u64 >= self.target {
                written.extend(out.close().await?);
            } else {
                open = Some(out);
            }
        }
        if let Some(out) = open {
            written.extend(out.close().await?);
        }
        Ok((written, rows))
    }
}

async fn decode_all(
    reader: Reader,
    files: Vec<LiveFile>,
    adapter: Arc<Adapter>,
    send: mpsc::Sender<Result<RecordBatch>>,
    progress: Arc<Progress>,
) {
    for file in files {
        let result = decode(&reader, &file.file, adapter.clone(), &send).await;
        progress.add(file.file.file_size_in_bytes());
        if let Err(e) = result {
            // The receiver being gone means that the encoder failed; its error is the one to report.
            drop(send.send(Err(e)).await);
            return;
        }
    }
}

async fn decode(reader: &Reader, file: &DataFile, adapter: Arc<Adapter>, send: &mpsc::Sender<Result<RecordBatch>>) -> Result<()> {
    let open = reader.open(file.file_path(), file.file_size_in_bytes(), &Arc::new(ReadStats::default())).await?;
    let mut stream = open.stream(FileScan { adapter, row_groups: None, deleted: None, batch_size: 8192 })?;
    while let Some(batch) = stream.try_next().await? {
        if send.send(Ok(batch)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The path of a new data file. The partition is part of it only where its label is a plain path.
fn data_path(metadata: &TableMetadata, job: JobId, group: &Group, n: usize) -> String {
    let dir = data_dir(metadata);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '=' | '_' | '-' | '/');
    let partition = match group.partition.as_str() {
        "all" => String::new(),
        label if label.chars().all(plain) => format!("{label}/"),
        _ => String::new(),
    };
    format!("{dir}/{partition}compacted-{job}-{}-{n}.parquet", group.id)
}

async fn commit_group(
    context: &JobContext,
    table: TableId,
    plan: &CompactPlan,
    group: &Group,
    added: Vec<DataFile>,
) -> Result<(u64, u64)> {
    let sizes = (added.len() as u64, added.iter().map(DataFile::file_size_in_bytes).sum());
    let outputs = added.iter().map(|f| f.file_path().to_owned()).collect();
    let commit = GroupCommit {
        context: context.clone(),
        table,
        sequence_number: plan.sequence_number,
        outputs,
        rewrite: Rewrite {
            removed: group.files.iter().map(|f| f.path.clone()).collect(),
            added: added.into_iter().map(|f| (group.spec_id, f)).collect(),
            starting_sequence_number: plan.sequence_number,
            summary: BTreeMap::from([
                ("engine-name".to_owned(), "esker".to_owned()),
                ("engine-version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
                ("esker.job-id".to_owned(), context.job.to_string()),
                ("esker.partition".to_owned(), group.partition.clone()),
            ]),
        },
    };
    context.catalog.commit_to(table, Change::Rebased(Arc::new(commit))).await?;
    Ok(sizes)
}

struct GroupCommit {
    context: JobContext,
    table: TableId,
    sequence_number: i64,
    outputs: Vec<String>,
    rewrite: Rewrite,
}

impl Rebase for GroupCommit {
    fn propose<'a>(&'a self, table: &'a LoadedTable) -> BoxFuture<'a, esker_catalog::Result<Proposal>> {
        Box::pin(async move {
            let metadata = &table.metadata;
            if metadata.current_snapshot().is_some_and(|s| s.sequence_number() > self.sequence_number) {
                self.check_late_deletes(table).await?;
            }
            let (catalog, table_id, job) = (self.context.catalog.clone(), self.table, self.context.job);
            let record = move |paths: Vec<String>| -> BoxFuture<'static, esker_table::Result<()>> {
                let catalog = catalog.clone();
                Box::pin(async move {
                    let recorded = catalog.state().record_outputs(catalog.warehouse(), table_id, Some(job), &paths).await;
                    recorded.map_err(|e| TableError::Invalid(e.to_string()))
                })
            };
            let rewritten = rewrite_snapshot(self.context.catalog.manifests(), metadata, &self.rewrite, &record).await?;
            self.context.catalog.halt("compact-before-commit").await;
            let settled_outputs = self.outputs.iter().cloned().chain(rewritten.written).collect();
            Ok(Proposal {
                requirements: rewritten.requirements,
                updates: rewritten.updates,
                dooms: Vec::new(),
                settled_outputs,
                cause: self.context.cause.clone(),
            })
        })
    }
}

impl GroupCommit {
    /// Position deletes that landed since the plan name rows by their place in the files that would go: the group
    /// is given up. Equality deletes still apply, because the new files keep the old sequence number.
    async fn check_late_deletes(&self, table: &LoadedTable) -> esker_catalog::Result<()> {
        let Some(snapshot) = table.metadata.current_snapshot() else { return Ok(()) };
        // Not through the cache: this state may be one that no metadata file holds yet.
        let live = load_live(self.context.catalog.manifests(), &table.metadata, snapshot).await?;
        let removed: HashSet<&str> = self.rewrite.removed.iter().map(String::as_str).collect();
        let unpartitioned = |spec: i32| table.metadata.partition_spec_by_id(spec).is_some_and(|s| s.is_unpartitioned());
        let replaced = live.data.iter().filter(|f| removed.contains(f.file.file_path()));
        let late: Vec<_> = live
            .deletes
            .iter()
            .filter(|d| d.entry.sequence_number > self.sequence_number && d.kind != esker_table::DeleteKind::Equality)
            .collect();
        for file in replaced {
            if let Some(delete) = late.iter().find(|d| d.applies_to(file, &unpartitioned)) {
                let what = format!(
                    "{} landed meanwhile and may delete rows of {}",
                    delete.entry.file.file_path(),
                    file.file.file_path()
                );
                return Err(CatalogError::Conflict(what));
            }
        }
        Ok(())
    }
}
