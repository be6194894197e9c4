//! The check of a table: compares its files with its metadata, and changes nothing.
//!
//! It finds files that are missing or damaged, metadata that breaks the specification, and mistakes that earlier versions of Esker
//! may have written. `metadata` checks the metadata file, `snapshots` the other snapshots, `data` the content of data files.
//! `origin` adds who wrote a file and whether an undo helps. Start reading at [`execute_check`] and `Check::snapshot`.

mod columns;
mod data;
mod findings;
mod job;
mod metadata;
mod origin;
mod snapshots;
mod stored;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use esker_catalog::{Catalog, LoadedTable};
use esker_format::{MAIN_BRANCH, ManifestFile, PrimitiveType, Schema, SnapshotRef, Type};
use esker_table::{DeleteKind, LiveDelete, LiveFile, LiveFiles, Manifest, TableError, count_live_files, load_manifests};
use esker_types::{Coded, ErrorCode, format_count, without_path};
use futures::stream::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::context::JobContext;
use crate::{MaintenanceError, Result};
use columns::{Leaf, leaves};
pub use findings::{CheckFinding, CheckFindingKind};
pub(crate) use job::Verification;
use metadata::{list_of, of_rules, of_unknown_specs};
use origin::Origins;
use snapshots::CONCURRENCY;
use stored::stored_size;

/// The options of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CheckOptions {
    /// The branch whose head is checked; default `main`.
    pub branch: Option<String>,
    /// Read every file whole, instead of only the columns that statistics leave in doubt.
    pub files: bool,
}

/// The plan of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CheckPlan {
    /// Name of the table.
    pub table: String,
    /// The options of the job.
    pub options: CheckOptions,
    /// Id of the snapshot that is checked; `None` if the branch is empty.
    pub snapshot_id: Option<i64>,
    /// Number of data and delete files of the snapshot; 0 if its manifests can't be read.
    pub files: u64,
}

/// The outcome of a check.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CheckOutcome {
    /// The findings, by kind and location.
    pub findings: Vec<CheckFinding>,
    /// Number of data and delete files that were checked.
    pub files: u64,
    /// Number of rows that were read.
    pub rows: u64,
    /// Notes on what could not be judged; each counts the files that it is about.
    pub notes: Vec<String>,
    /// Duration of the check, in seconds.
    pub seconds: f64,
}

impl CheckOutcome {
    /// Adds the outcome of a file.
    fn add(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.notes.extend(other.notes);
        self.files += other.files;
        self.rows += other.rows;
    }
}

/// Returns the head of the branch that is checked; `None` if `main` is empty.
fn head<'a>(table: &'a LoadedTable, options: &CheckOptions) -> Result<Option<&'a SnapshotRef>> {
    let branch = options.branch.as_deref().unwrap_or(MAIN_BRANCH);
    let head = table.metadata.snapshot_for_ref(branch);
    if head.is_none() && branch != MAIN_BRANCH {
        let reason = format!("{} has no branch {branch}", table.row.name);
        return Err(MaintenanceError::Option { key: "branch", reason });
    }
    Ok(head)
}

/// Plans a check. It succeeds for a table whose manifests can't be read, because a check is for such tables.
///
/// # Errors
///
/// Returns [`MaintenanceError::Option`] if the branch does not exist.
pub(crate) async fn plan_check(catalog: &Catalog, table: &LoadedTable, options: &CheckOptions) -> Result<CheckPlan> {
    let head = head(table, options)?;
    let files = match head {
        Some(head) => count_live_files(catalog.manifests(), head).await.unwrap_or_default(),
        None => 0,
    };
    let snapshot_id = head.map(|s| s.snapshot_id);
    Ok(CheckPlan { table: table.row.name.to_string(), options: options.clone(), snapshot_id, files })
}

/// A check that is being executed, with what each file's check needs.
struct Check<'a> {
    context: &'a JobContext,
    table: &'a LoadedTable,
    options: &'a CheckOptions,
    leaves: Vec<Leaf>,
    origins: &'a Origins<'a>,
}

/// Executes a check. Damage is a finding and not an error.
///
/// # Errors
///
/// - Returns [`MaintenanceError::Cancelled`] after a cancellation, and [`MaintenanceError::State`] if the database fails.
/// - Returns [`MaintenanceError::Storage`], [`MaintenanceError::Table`] or [`MaintenanceError::Read`] for a transient error, which
///   is no evidence about a file.
/// - Returns [`MaintenanceError::Read`] if the decoder of a data file panics, and [`MaintenanceError::Arrow`] if its values can't
///   be compared.
pub(crate) async fn execute_check(context: &JobContext, table: &LoadedTable, plan: &CheckPlan) -> Result<CheckOutcome> {
    let started = Instant::now();
    let mut outcome = CheckOutcome::default();
    outcome.findings.extend(of_rules(&table.metadata, &table.row.metadata_location));
    let unreadable = CheckFindingKind::UnreadableFile;
    outcome.findings.extend(not_in_storage(context, &[&table.row.metadata_location], unreadable).await?);
    let origins = Origins::new(context, table);
    if let Some(snapshot) = plan.snapshot_id.and_then(|id| table.metadata.snapshots.get(id)) {
        let (options, leaves) = (&plan.options, leaves(table.metadata.current_schema()));
        Check { context, table, options, leaves, origins: &origins }.snapshot(snapshot, &mut outcome).await?;
    }
    origins.explain(&mut outcome.findings).await?;
    merge_notes(&mut outcome.notes);
    outcome.findings.sort_by(|a, b| (a.kind, &a.path).cmp(&(b.kind, &b.path)));
    for finding in &outcome.findings {
        context.progress.log(finding.to_string());
    }
    outcome.seconds = started.elapsed().as_secs_f64();
    Ok(outcome)
}

/// Merges equal notes into one that counts their files.
fn merge_notes(notes: &mut Vec<String>) {
    let mut counted: HashMap<String, u64> = HashMap::new();
    for note in notes.drain(..) {
        *counted.entry(note).or_default() += 1;
    }
    notes.extend(counted.into_iter().map(|(note, n)| format!("{}: {note}", format_count(n, "file"))));
    notes.sort();
}

/// Records a manifest or manifest list that can't be read as a finding, or as a note if it is encrypted.
///
/// # Errors
///
/// Returns [`MaintenanceError::Table`] for a transient error, because it is no evidence about the file.
fn note_unreadable(path: &str, error: TableError, outcome: &mut CheckOutcome) -> Result<()> {
    match error.code() {
        code if code.is_transient() => return Err(error.into()),
        ErrorCode::Unsupported => outcome.notes.push(error.to_string()),
        _ => outcome.findings.push(CheckFinding::new(CheckFindingKind::UnreadableManifest, path, error.to_string())),
    }
    Ok(())
}

/// Returns the live files of a snapshot, as far as its manifests can be read. Those that can't be are findings.
async fn alive(
    context: &JobContext,
    table: &LoadedTable,
    snapshot: &SnapshotRef,
    outcome: &mut CheckOutcome,
) -> Result<LiveFiles> {
    let source = context.catalog.manifests();
    let mut live = LiveFiles::default();
    let manifests = match load_manifests(source, snapshot).await {
        Ok(manifests) => manifests,
        Err(error) => {
            note_unreadable(list_of(snapshot, &table.row.metadata_location), error, outcome)?;
            return Ok(live);
        }
    };
    outcome.findings.extend(of_unknown_specs(&table.metadata, &manifests));
    let mut read = Vec::new();
    for file in &manifests {
        match source.load(&table.metadata, file).await {
            Ok(manifest) => {
                outcome.findings.extend(counted_wrong(file, &manifest));
                live.add_manifest(file, manifest);
                read.push(file.manifest_path.as_str());
            }
            Err(error) => note_unreadable(&file.manifest_path, error, outcome)?,
        }
    }
    outcome.findings.extend(not_in_storage(context, &read, CheckFindingKind::UnreadableManifest).await?);
    Ok(live)
}

/// Returns a finding if the manifest list gives a wrong number of a manifest's live files.
///
/// Spec: "Manifest Lists".
fn counted_wrong(file: &ManifestFile, manifest: &Manifest) -> Option<CheckFinding> {
    let listed = file.added_files_count?.saturating_add(file.existing_files_count?);
    let there = manifest.entries.iter().filter(|entry| entry.is_alive()).count() as u64;
    let what = || format!("it has {} by the manifest list, but {there} in fact", format_count(listed, "file"));
    (listed != there).then(|| CheckFinding::new(CheckFindingKind::WrongFileCount, &file.manifest_path, what()))
}

/// Returns findings for metadata files that were read but are missing in storage. Those that the storage denies have the kind
/// `unreadable`.
///
/// A server that has read such a file has it in its cache, and would miss it only at its next start.
async fn not_in_storage(context: &JobContext, read: &[&str], unreadable: CheckFindingKind) -> Result<Vec<CheckFinding>> {
    let looks = read.iter().map(|path| async move {
        context.check_cancelled()?;
        let not_stored = stored_size(context, path).await?.err();
        Ok::<_, MaintenanceError>(not_stored.map(|why| CheckFinding::new(why.kind(unreadable), path, why.what)))
    });
    let looks = futures::stream::iter(looks.collect::<Vec<_>>()).buffer_unordered(CONCURRENCY);
    looks.try_filter_map(|found| std::future::ready(Ok(found))).try_collect().await
}

/// Returns findings for deletes about files that are not in the table, and for two deletion vectors of one file, of which readers
/// apply one.
///
/// Spec: "Deletion Vectors".
fn about_deletes(live: &LiveFiles) -> Vec<CheckFinding> {
    let data: HashSet<&str> = live.data.iter().map(|f| f.file.file_path.as_str()).collect();
    let mut vectors: HashMap<String, &LiveDelete> = HashMap::new();
    let mut findings = Vec::new();
    for delete in &live.deletes {
        let file = &delete.entry.file;
        let Some(about) = &file.referenced_data_file else { continue };
        if !data.contains(about.as_str()) {
            let what = format!("it deletes rows of {about}, which is not in the table");
            findings.push(CheckFinding::of(CheckFindingKind::DeleteWithoutFile, &delete.entry, what));
        }
        if delete.kind != DeleteKind::DeletionVector {
            continue;
        }
        if let Some(other) = vectors.insert(about.clone(), delete) {
            let what = format!("it and {} are both deletion vectors of {about}", other.entry.file.file_path);
            findings.push(CheckFinding::of(CheckFindingKind::TwoVectors, &delete.entry, what));
        }
    }
    findings
}

/// Returns findings for delete files whose manifest entry lacks a field that says which rows they delete. Readers refuse them.
///
/// Spec: "Data File Fields".
fn incomplete_deletes(live: &LiveFiles) -> Vec<CheckFinding> {
    let lacks = |delete: &LiveDelete| {
        let file = &delete.entry.file;
        match delete.kind {
            DeleteKind::DeletionVector if file.referenced_data_file.is_none() => Some("referenced_data_file"),
            DeleteKind::DeletionVector if file.content_offset.is_none() => Some("content_offset"),
            DeleteKind::DeletionVector if file.content_size_in_bytes.is_none() => Some("content_size_in_bytes"),
            DeleteKind::Equality if file.equality_ids.as_ref().is_none_or(Vec::is_empty) => Some("equality_ids"),
            _ => None,
        }
    };
    let finding = |(delete, field): (&LiveDelete, &str)| {
        let what = format!("its manifest entry lacks {field}, so no reader knows which rows it deletes");
        CheckFinding::of(CheckFindingKind::UnreadableFile, &delete.entry, what)
    };
    live.deletes.iter().filter_map(|delete| Some((delete, lacks(delete)?))).map(finding).collect()
}

/// Returns findings for equality deletes by columns whose values have no equality. Readers refuse them.
///
/// Spec: "Equality Delete Files".
fn about_equality(schema: &Schema, live: &LiveFiles) -> Vec<CheckFinding> {
    let has_none = |id: &i32| match schema.field_by_id(*id).map(|field| field.field_type.as_ref()) {
        Some(Type::Primitive(PrimitiveType::Geometry { .. } | PrimitiveType::Geography { .. }) | Type::Variant) => {
            schema.name_by_field_id(*id).map(str::to_owned)
        }
        _ => None,
    };
    let equality = live.deletes.iter().filter_map(|delete| Some((delete, delete.entry.file.equality_ids.as_ref()?)));
    let by = equality.filter_map(|(delete, ids)| Some((delete, ids.iter().find_map(has_none)?)));
    let finding = |(delete, column): (&LiveDelete, String)| {
        let what = "it deletes by this column, whose values have no equality: no reader knows which rows it deletes".to_owned();
        CheckFinding { column: Some(column), ..CheckFinding::of(CheckFindingKind::BrokenRule, &delete.entry, what) }
    };
    by.map(finding).collect()
}

/// Returns findings for data files that were added more than once.
fn repeated(live: &LiveFiles) -> Vec<CheckFinding> {
    let what = |n: usize| format!("it has {}, and readers return its rows once for each", format_count(n as u64, "entry"));
    live.duplicate_paths().into_iter().map(|(path, n)| CheckFinding::new(CheckFindingKind::RepeatedFile, path, what(n))).collect()
}

impl Check<'_> {
    /// Checks the metadata that leads from a snapshot to its files, the other snapshots, and each live file.
    async fn snapshot(&self, snapshot: &SnapshotRef, outcome: &mut CheckOutcome) -> Result<()> {
        let (context, table) = (self.context, self.table);
        let live = alive(context, table, snapshot, outcome).await?;
        outcome.findings.extend(about_deletes(&live));
        outcome.findings.extend(incomplete_deletes(&live));
        outcome.findings.extend(about_equality(table.metadata.current_schema(), &live));
        outcome.findings.extend(repeated(&live));
        let found =
            snapshots::check_other_snapshots(context, table, snapshot.snapshot_id, self.options.files, &mut outcome.notes)
                .await?;
        outcome.findings.extend(found);
        context.progress.set_total((live.data.len() + live.deletes.len()) as u64);
        let files = live.data.into_iter().map(|file| (file, None));
        let deletes = live.deletes.into_iter().map(|delete| (delete.entry, Some(delete.kind)));
        let looks = files.chain(deletes).map(|(file, kind)| async move {
            context.check_cancelled()?;
            let found = self.file(&file, kind).await?;
            context.progress.add(1);
            Ok::<_, MaintenanceError>(found)
        });
        let mut looks = futures::stream::iter(looks.collect::<Vec<_>>()).buffer_unordered(CONCURRENCY);
        while let Some(found) = looks.try_next().await? {
            outcome.add(found);
        }
        Ok(())
    }

    /// Checks one file: that it is in storage with its size, and for a data file also its content.
    async fn file(&self, file: &LiveFile, kind: Option<DeleteKind>) -> Result<CheckOutcome> {
        let mut outcome = CheckOutcome { files: 1, ..CheckOutcome::default() };
        let (path, stated_size) = (file.file.file_path.as_str(), file.file.size());
        let size = match stored_size(self.context, path).await? {
            Ok(size) => size,
            Err(why) => {
                outcome.findings.push(CheckFinding::of(why.kind(CheckFindingKind::UnreadableFile), file, why.what));
                return Ok(outcome);
            }
        };
        if size != stated_size {
            let what = format!("it has {}, but its manifest says {}", format_count(size, "byte"), file.file.file_size_in_bytes);
            outcome.findings.push(CheckFinding::of(CheckFindingKind::WrongSize, file, what));
        }
        if kind.is_some() {
            return Ok(outcome);
        }
        match self.data(file, size, &mut outcome).await {
            Ok(()) => {}
            Err(error) => match error.code() {
                ErrorCode::DataInvalid | ErrorCode::DataMissing | ErrorCode::Forbidden => {
                    outcome.findings.push(CheckFinding::of(CheckFindingKind::UnreadableFile, file, error.to_string()));
                }
                ErrorCode::Unsupported => {
                    // Equal notes about several files are merged, so a note does not name its file.
                    outcome.notes.push(without_path(&error.to_string(), path).to_owned());
                }
                _ => return Err(error),
            },
        }
        Ok(outcome)
    }
}

/// The counters of reads from storage.
type Stats = Arc<esker_read::ReadStats>;
