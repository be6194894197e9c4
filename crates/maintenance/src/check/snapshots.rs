//! The check of the snapshots other than the one that is checked whole: their manifest lists and manifests must be readable.
//!
//! Without these metadata files Esker does not know which data files the snapshots need, so orphan scans and erasures are refused.

use std::collections::HashSet;

use esker_catalog::{LoadedTable, Unreadable};
use esker_format::{ManifestFile, SnapshotRef};
use esker_table::{UnreadableFile, outline_lenient};
use esker_types::{Coded, without_path};
use futures::stream::{StreamExt, TryStreamExt};

use super::findings::{CheckFinding, CheckFindingKind};
use super::metadata::of_unknown_specs;
use super::stored::stored_size;
use crate::context::JobContext;
use crate::{MaintenanceError, Result};

/// Number of files that are checked at the same time.
pub(super) const CONCURRENCY: usize = 16;

/// Returns findings for manifest lists and manifests that can't be read, in snapshots other than `checked`, and records them as
/// damage.
///
/// With `specs` it also finds manifests whose partition spec the table does not have. Encrypted files are noted and are no damage.
/// Files that the storage denies, or whose location it can't hold, are findings and no damage.
///
/// # Errors
///
/// - Returns [`MaintenanceError::Cancelled`] after a cancellation.
/// - Returns [`MaintenanceError::Table`] or [`MaintenanceError::Storage`] for a transient error, which is no evidence about a file.
pub(super) async fn check_other_snapshots(
    context: &JobContext,
    table: &LoadedTable,
    checked: i64,
    specs: bool,
    notes: &mut Vec<String>,
) -> Result<Vec<CheckFinding>> {
    let (catalog, metadata) = (&context.catalog, &table.metadata);
    // A snapshot that names neither a manifest list nor manifests breaks a rule of the specification: `of_rules` has a finding.
    let leading = metadata.snapshots.iter().filter(|s| s.manifest_list.is_some() || s.manifests.is_some());
    let (of_checked, others): (Vec<SnapshotRef>, Vec<SnapshotRef>) = leading.cloned().partition(|s| s.snapshot_id == checked);
    // Unreadable manifests of the checked snapshot are findings already, by `alive`.
    let (known, _) = outline_lenient(catalog.manifests(), metadata, &of_checked, &HashSet::new()).await?;
    let known: HashSet<String> = known.manifests.into_keys().collect();
    let (found, mut unread) = outline_lenient(catalog.manifests(), metadata, &others, &known).await?;
    let mut findings = match specs {
        true => of_unknown_specs(metadata, found.manifests.values().map(|(_, manifest)| manifest)),
        false => Vec::new(),
    };
    let looks = found.manifests.into_values().map(|(id, manifest)| async move {
        context.check_cancelled()?;
        check_manifest(context, table, id, &manifest).await
    });
    let mut looks = futures::stream::iter(looks.collect::<Vec<_>>()).buffer_unordered(CONCURRENCY);
    while let Some(found) = looks.try_next().await? {
        unread.extend(found);
    }
    let (unsupported, unread): (Vec<UnreadableFile>, Vec<UnreadableFile>) =
        unread.into_iter().partition(|unread| unread.unsupported);
    notes.extend(unsupported.iter().map(ToString::to_string));
    for UnreadableFile { snapshot_id, path, error, denied, .. } in unread {
        if !denied {
            let met = Unreadable { path: path.clone(), error: error.clone(), decoding: true, snapshot_id: Some(snapshot_id) };
            catalog.record_damage(table.row.id, &met, &format!("found by job {}", context.job)).await;
        }
        let what = format!("snapshot {snapshot_id} leads to it: {}", without_path(&error, &path));
        findings.push(CheckFinding {
            snapshot_id: Some(snapshot_id),
            ..CheckFinding::new(CheckFindingKind::UnreadableSnapshot, &path, what)
        });
    }
    Ok(findings)
}

/// Reads a manifest, after checking that it is in storage: this server may have it in its cache.
async fn check_manifest(
    context: &JobContext,
    table: &LoadedTable,
    snapshot_id: i64,
    manifest: &ManifestFile,
) -> Result<Option<UnreadableFile>> {
    let path = manifest.manifest_path.clone();
    if let Err(why) = stored_size(context, &path).await? {
        return Ok(Some(UnreadableFile { snapshot_id, path, error: why.what, unsupported: false, denied: why.denied }));
    }
    match context.catalog.manifests().load(&table.metadata, manifest).await {
        Ok(_) => Ok(None),
        Err(error) if error.code().is_transient() => Err(MaintenanceError::from(error)),
        Err(error) => Ok(Some(UnreadableFile::of(snapshot_id, path, &error))),
    }
}
