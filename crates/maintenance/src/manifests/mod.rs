//! The rewrite of manifests: fewer of them, and each about few partitions, so that planning a scan opens few.
//!
//! The plan chooses manifests by their size and by the ranges of their first partition field. Entries are sorted by partition and
//! written into manifests of the target size. Start reading at [`plan_manifests`] and `chosen`.
//!
//! Spec: "Manifests", "Manifest Lists".

mod job;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use esker_catalog::{CatalogError, LoadedTable, Proposal, Rebase};
use esker_format::{MAIN_BRANCH, ManifestContent, ManifestFile, Operation, TableMetadata, Value};
use esker_table::{SnapshotChanges, load_manifests, manifest_bytes, partition_types};
use esker_types::saturating_total;
use serde::{Deserialize, Serialize};

use crate::compact::{Proposed, propose};
use crate::context::JobContext;
use crate::{MaintenanceError, Result, check_plain};
pub(crate) use job::ManifestRewrite;

/// Bytes of memory that entries take for each byte of their manifest, which is compressed.
const MEMORY_PER_BYTE: u64 = 16;

/// Options of a rewrite of manifests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ManifestOptions {
    /// The branch whose head is rewritten; default `main`.
    pub branch: Option<String>,
    /// Rewrite every manifest, whether it needs a rewrite or not.
    pub rewrite_all: bool,
}

/// A manifest that is rewritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlannedManifest {
    /// URI of the manifest.
    pub path: String,
    /// Size of the manifest, in bytes.
    pub bytes: u64,
    /// Number of live files that the manifest names.
    pub files: u64,
    /// The reason: `small`, `large`, `overlaps` (other manifests name files of the same partitions) or `asked`.
    pub reason: String,
}

/// The plan of a rewrite of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ManifestPlan {
    /// Name of the table.
    pub table: String,
    /// Name of the branch.
    pub branch: String,
    /// Number of manifests of the branch's head.
    pub manifests: u64,
    /// Target size of new manifests, in bytes.
    pub target_bytes: u64,
    /// The manifests that are rewritten.
    pub rewrite: Vec<PlannedManifest>,
    /// Number of manifests that need a rewrite but do not fit into the job's memory; the next job takes them.
    pub left: u64,
    /// The reason that no manifest is rewritten, for people; absent if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nothing_to_do: Option<String>,
}

/// The outcome of a rewrite of manifests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ManifestOutcome {
    /// Number of manifests that were replaced.
    pub replaced: u64,
    /// Number of new manifests.
    pub created: u64,
    /// Duration of the job, in seconds.
    pub seconds: f64,
}

/// Plans a rewrite of some of `manifests`, as many as fit into the job's memory. The `closed` ones stay.
fn plan_of(
    context: &JobContext,
    table: &LoadedTable,
    options: &ManifestOptions,
    manifests: &[ManifestFile],
    closed: &HashSet<&str>,
) -> Result<ManifestPlan> {
    let target = manifest_bytes(&table.metadata);
    let mut kinds: BTreeMap<(bool, i32), Vec<&ManifestFile>> = BTreeMap::new();
    let open: Vec<&ManifestFile> =
        manifests.iter().filter(|manifest| !closed.contains(manifest.manifest_path.as_str())).collect();
    for &manifest in &open {
        let deletes = manifest.content == ManifestContent::Deletes;
        kinds.entry((deletes, manifest.partition_spec_id)).or_default().push(manifest);
    }
    let mut rewrite = Vec::new();
    for ((_, spec_id), of_kind) in kinds {
        rewrite.extend(chosen(&table.metadata, options, spec_id, of_kind, target));
    }
    let found = rewrite.len();
    let mut bytes = 0_u64;
    rewrite.retain(|m| {
        bytes = m.bytes.saturating_mul(MEMORY_PER_BYTE).saturating_add(bytes);
        bytes <= context.limits.bytes
    });
    for manifest in manifests.iter().filter(|m| rewrite.iter().any(|planned| planned.path == m.manifest_path)) {
        check_plain(&manifest.manifest_path, manifest.key_metadata.as_ref())?;
    }
    let left = found - rewrite.len();
    // A single manifest would come out as it is, or only split.
    let lone = rewrite.len() == 1 && rewrite[0].reason != "large" && rewrite[0].reason != "asked";
    if lone {
        rewrite.clear();
    }
    let branch = options.branch.clone().unwrap_or_else(|| MAIN_BRANCH.to_owned());
    let reason = match (manifests.len(), lone, left) {
        (0, ..) if table.metadata.snapshot_for_ref(&branch).is_none() => format!("branch {branch} has no snapshot"),
        (0, ..) => format!("branch {branch} has no manifest"),
        (_, _, 1..) => "the manifests that need a rewrite do not fit into the job's memory".to_owned(),
        (_, true, _) => "only one manifest needs a rewrite, and it would come out as it is".to_owned(),
        _ if open.len() < manifests.len() => "manifests in places of other tables stay, and no other needs a rewrite".to_owned(),
        (_, false, _) => "no manifest is too small, too large, or overlaps another".to_owned(),
    };
    Ok(ManifestPlan {
        table: table.row.name.to_string(),
        branch,
        manifests: manifests.len() as u64,
        target_bytes: target,
        left: left as u64,
        nothing_to_do: rewrite.is_empty().then_some(reason),
        rewrite,
    })
}

/// Chooses the manifests to rewrite among those of one content and spec.
///
/// These are small ones if there are several, large ones, and those whose partitions overlap others'. A rewrite leaves none of
/// these.
fn chosen(
    metadata: &TableMetadata,
    options: &ManifestOptions,
    spec_id: i32,
    manifests: Vec<&ManifestFile>,
    target: u64,
) -> Vec<PlannedManifest> {
    let bytes = |m: &ManifestFile| m.manifest_length.unsigned_abs();
    let small = |m: &ManifestFile| bytes(m) < target / 2;
    let smalls = manifests.iter().filter(|m| small(m)).count() as u64;
    let together = saturating_total(manifests.iter().filter(|m| small(m)).map(|m| bytes(m)));
    let fewer = together.div_ceil(target.max(1)).saturating_mul(2) <= smalls;
    let overlapping = overlapping(metadata, spec_id, &manifests);
    let reason = |m: &ManifestFile| match () {
        () if options.rewrite_all => Some("asked"),
        () if bytes(m) > target.saturating_mul(2) => Some("large"),
        () if overlapping.contains(m.manifest_path.as_str()) => Some("overlaps"),
        () if fewer && small(m) => Some("small"),
        () => None,
    };
    let files = |m: &ManifestFile| saturating_total([m.added_files_count, m.existing_files_count].into_iter().flatten());
    let planned = |m: &&ManifestFile| {
        let reason = reason(m)?.to_owned();
        Some(PlannedManifest { path: m.manifest_path.clone(), bytes: bytes(m), files: files(m), reason })
    };
    manifests.iter().filter_map(planned).collect()
}

/// Returns the locations of manifests that share more than one value of the first partition field with another.
fn overlapping<'a>(metadata: &TableMetadata, spec_id: i32, manifests: &[&'a ManifestFile]) -> HashSet<&'a str> {
    let Some(Some(ty)) = partition_types(metadata, spec_id).into_iter().next() else { return HashSet::new() };
    let range = |m: &&'a ManifestFile| {
        let summary = m.partitions.as_ref()?.first()?;
        let (lower, upper) = (summary.lower_bound.as_ref()?.decode(&ty)?, summary.upper_bound.as_ref()?.decode(&ty)?);
        Some((lower, upper, m.manifest_path.as_str()))
    };
    let mut ranges: Vec<(Value, Value, &str)> = manifests.iter().filter_map(range).collect();
    ranges.sort();
    let mut found = HashSet::new();
    let mut furthest: Option<&(Value, Value, &str)> = None;
    for range in &ranges {
        // A manifest may begin with the value that the one before ends with: a large partition is split.
        if let Some(before) = furthest.filter(|before| range.0 < before.1) {
            found.extend([before.2, range.2]);
        }
        if furthest.is_none_or(|before| before.1 < range.1) {
            furthest = Some(range);
        }
    }
    found
}

/// Plans a rewrite of the manifests of a branch's head.
///
/// # Errors
///
/// - Returns [`MaintenanceError::Option`] if the branch does not exist.
/// - Returns [`MaintenanceError::Table`] if the manifest list can't be read or a planned manifest is encrypted.
/// - Returns [`MaintenanceError::Read`] if it can't be looked up which manifests lie in places of other tables.
pub(crate) async fn plan_manifests(context: &JobContext, table: &LoadedTable, options: &ManifestOptions) -> Result<ManifestPlan> {
    let branch = options.branch.as_deref().unwrap_or(MAIN_BRANCH);
    let manifests = match table.metadata.snapshot_for_ref(branch) {
        Some(head) => load_manifests(context.catalog.manifests(), head).await?,
        None if branch == MAIN_BRANCH => Vec::new(),
        None => {
            return Err(MaintenanceError::Option { key: "branch", reason: format!("{} has no branch {branch}", table.row.name) });
        }
    };
    let paths: Vec<&str> = manifests.iter().map(|manifest| manifest.manifest_path.as_str()).collect();
    let closed = context.reader.closed_among(&paths).await?;
    plan_of(context, table, options, &manifests, &closed)
}

/// Executes a plan, in one commit. Manifests of the plan that were replaced meanwhile are skipped.
///
/// # Errors
///
/// Returns [`MaintenanceError::Catalog`] if all of them were replaced, the branch is gone, or the commit fails.
pub(crate) async fn execute_manifests(context: &JobContext, table: &LoadedTable, plan: &ManifestPlan) -> Result<ManifestOutcome> {
    let started = Instant::now();
    if plan.rewrite.is_empty() {
        return Ok(ManifestOutcome::default());
    }
    context.progress.set_total(plan.rewrite.len() as u64);
    let commit = ManifestCommit { context: context.clone(), plan: plan.clone() };
    let (_, mut outcome) = context.catalog.commit_rebase(table.row.id, commit).await?;
    context.progress.add(plan.rewrite.len() as u64);
    outcome.seconds = started.elapsed().as_secs_f64();
    Ok(outcome)
}

/// The commit of a rewrite of manifests.
struct ManifestCommit {
    context: JobContext,
    plan: ManifestPlan,
}

impl Rebase for ManifestCommit {
    /// The outcome of the job, without its duration.
    type Effect = ManifestOutcome;

    fn propose<'a>(&'a self, table: &'a LoadedTable) -> Proposed<'a, ManifestOutcome> {
        Box::pin(async move {
            let planned: HashSet<String> = self.plan.rewrite.iter().map(|m| m.path.clone()).collect();
            let metadata = &table.metadata;
            let head = metadata.snapshot_for_ref(&self.plan.branch);
            let head = head.ok_or_else(|| CatalogError::Conflict(format!("branch {} is gone", self.plan.branch)))?;
            let there = load_manifests(self.context.catalog.manifests(), head).await?;
            if !there.iter().any(|m| planned.contains(&m.manifest_path)) {
                let what = "every manifest of the plan was replaced meanwhile; plan again";
                return Err(CatalogError::Conflict(what.to_owned()));
            }
            let rewrite = SnapshotChanges {
                operation: Operation::Replace,
                branch: self.plan.branch.clone(),
                removed: HashMap::new(),
                removed_deletes: HashSet::new(),
                added: Vec::new(),
                rewritten_manifests: planned,
                restored_files: Vec::new(),
                added_deletes: Vec::new(),
                starting_sequence_number: None,
                summary: self.context.summary(),
            };
            let proposal = propose(&self.context, table, &rewrite).await?;
            let outcome = outcome_of(&proposal);
            Ok((proposal, outcome))
        })
    }
}

/// Returns the outcome that the summary of a proposed snapshot has.
fn outcome_of(proposal: &Proposal) -> ManifestOutcome {
    let snapshot = proposal.added_snapshots().next();
    let count = |key: &str| snapshot.and_then(|s| s.summary_value(key)?.parse().ok()).unwrap_or(0);
    ManifestOutcome { replaced: count("manifests-replaced"), created: count("manifests-created"), seconds: 0.0 }
}
