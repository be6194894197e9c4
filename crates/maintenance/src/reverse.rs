//! A compaction taken back: the files that it replaced take the place of its own again, with the sequence numbers that they had.
//!
//! The rows stay the same in this direction as well. Equality deletes that landed since apply to the old files as they did to the
//! new. Deletes by position do not: they name rows of the new files, and nothing keeps where those came from. So an undo is refused
//! where there are any, as it is where a file of the job's is not in the table any more.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use esker_catalog::{Catalog, Cause, Change, LoadedTable, Proposal, Rebase, deletion};
use esker_state::{DoomState, Job};
use esker_table::{
    DeleteIndex, DeleteKey, DeleteKind, LiveFile, LiveFiles, Rewrite, delete_key, first_row_ids, load_live, load_manifests,
};
use esker_types::{Principal, TableId};
use futures::future::BoxFuture;
use futures::stream::{StreamExt, TryStreamExt};
use iceberg::spec::{DataContentType, ManifestStatus, Operation, Snapshot, TableMetadata};

use crate::compact::{into_catalog, propose_for};
use crate::{MaintenanceError, Result};

/// Files asked after at the same time.
const CONCURRENCY: usize = 32;

/// What a job did to a table: what it put in, and what it took out.
#[derive(Debug, Default)]
struct Effect {
    branch: String,
    added: HashSet<String>,
    added_deletes: HashSet<DeleteKey>,
    removed: Vec<LiveFile>,
}

fn refused<T>(what: String) -> Result<T> {
    Err(MaintenanceError::Refused(what))
}

/// Takes a compaction back; returns how many files are in the table again.
pub(crate) async fn reverse(catalog: &Catalog, table: &LoadedTable, job: &Job, principal: &Principal) -> Result<u64> {
    let effect = effect(catalog, &table.metadata, job).await?;
    check_there(catalog, table.row.id, &effect.removed).await?;
    let files = effect.removed.len() as u64;
    let reversal = Reversal {
        catalog: catalog.clone(),
        job: job.clone(),
        effect,
        cause: Cause { principal: principal.to_string(), receipt: None },
    };
    let committed = catalog.commit_to(table.row.id, Change::Rebased(Arc::new(reversal))).await;
    let left = catalog.state().outputs_of_job(job.id).await?;
    if !left.is_empty() {
        deletion::settle(catalog, table.row.id, &left, "written by an undo and not committed").await?;
    }
    committed?;
    Ok(files)
}

/// What a job's snapshots did, by their manifests.
async fn effect(catalog: &Catalog, metadata: &TableMetadata, job: &Job) -> Result<Effect> {
    let source = catalog.manifests();
    let branch = job.plan.as_ref().and_then(|plan| plan["options"]["branch"].as_str()).unwrap_or("main").to_owned();
    let mut effect = Effect { branch, ..Effect::default() };
    let id = job.id.to_string();
    let of_job = |s: &Snapshot| s.summary().additional_properties.get("esker.job-id") == Some(&id);
    let snapshots: Vec<_> = metadata.snapshots().filter(|s| of_job(s)).collect();
    let told = job.outcome.as_ref().and_then(|o| o["commits"].as_u64()).unwrap_or(1).max(1);
    if (snapshots.len() as u64) < told {
        let there = snapshots.len();
        return refused(format!(
            "job {id} made {told} snapshots, of which {there} are still in the table: the others were expired"
        ));
    }
    for snapshot in snapshots {
        for file in load_manifests(source, metadata, snapshot).await? {
            if file.added_snapshot_id != snapshot.snapshot_id() {
                continue;
            }
            let manifest = source.load(metadata, &file).await?;
            for (entry, first_row_id) in manifest.entries().iter().zip(first_row_ids(&file, &manifest)) {
                if entry.snapshot_id().unwrap_or(file.added_snapshot_id) != snapshot.snapshot_id() {
                    continue;
                }
                let data = entry.data_file();
                match (entry.status(), data.content_type()) {
                    (ManifestStatus::Existing, _) => {}
                    (ManifestStatus::Added, DataContentType::Data) => drop(effect.added.insert(data.file_path().to_owned())),
                    (ManifestStatus::Added, _) => drop(effect.added_deletes.insert(delete_key(data))),
                    (ManifestStatus::Deleted, _) => effect.removed.push(LiveFile::of(&file, entry, first_row_id)),
                }
            }
        }
    }
    // What one group's commit put in and another's took out again was never part of the table before the job.
    let (added, added_deletes) = (effect.added.clone(), effect.added_deletes.clone());
    let own = |f: &LiveFile| added.contains(f.file.file_path()) || added_deletes.contains(&delete_key(&f.file));
    let passing: Vec<LiveFile> = effect.removed.extract_if(.., |f| own(f)).collect();
    for file in passing {
        effect.added.remove(file.file.file_path());
        effect.added_deletes.remove(&delete_key(&file.file));
    }
    Ok(effect)
}

/// Whether every file is still in storage, and not about to go.
async fn check_there(catalog: &Catalog, table: TableId, files: &[LiveFile]) -> Result<()> {
    let quarantine = catalog.state().quarantine_of(table).await?;
    let going: HashSet<String> = quarantine.into_iter().filter(|d| d.state == DoomState::Deleting).map(|d| d.doom.path).collect();
    let paths: HashSet<&str> = files.iter().map(|f| f.file.file_path()).collect();
    if let Some(path) = paths.iter().find(|path| going.contains(**path)) {
        return refused(format!("{path} is being deleted"));
    }
    let asked = futures::stream::iter(paths.into_iter().map(str::to_owned));
    let asked = asked.map(|path| async move { Ok::<_, MaintenanceError>((catalog.storage().size(&path).await?, path)) });
    let mut asked = asked.buffer_unordered(CONCURRENCY);
    while let Some((size, path)) = asked.try_next().await? {
        if size.is_none() {
            return refused(format!("{path} is not in storage any more"));
        }
    }
    Ok(())
}

struct Reversal {
    catalog: Catalog,
    job: Job,
    effect: Effect,
    cause: Cause,
}

impl Rebase for Reversal {
    fn propose<'a>(&'a self, table: &'a LoadedTable) -> BoxFuture<'a, esker_catalog::Result<Proposal>> {
        Box::pin(async move {
            let rewrite = self.rewrite(table).await.map_err(into_catalog)?;
            propose_for(&self.catalog, self.job.id, &self.cause, table, &rewrite).await
        })
    }
}

impl Reversal {
    async fn rewrite(&self, table: &LoadedTable) -> Result<Rewrite> {
        let (metadata, effect, id) = (&table.metadata, &self.effect, self.job.id);
        let Some(head) = metadata.snapshot_for_ref(&effect.branch) else {
            return refused(format!("{} has no branch {}", table.row.name, effect.branch));
        };
        let live = load_live(self.catalog.manifests(), metadata, head).await?;
        let own: Vec<&LiveFile> = live.data.iter().filter(|f| effect.added.contains(f.file.file_path())).collect();
        if own.len() < effect.added.len() {
            let (n, of) = (effect.added.len() - own.len(), effect.added.len());
            return refused(format!("{n} of the {of} files that job {id} wrote were replaced or deleted since"));
        }
        let is_later = |d: &&esker_table::LiveDelete| {
            d.kind != DeleteKind::Equality && !effect.added_deletes.contains(&delete_key(&d.entry.file))
        };
        let later = LiveFiles { deletes: live.deletes.iter().filter(is_later).cloned().collect(), ..LiveFiles::default() };
        let index = DeleteIndex::new(&later, metadata)?;
        if let Some(file) = own.iter().find(|file| !index.all(file).is_empty()) {
            let path = file.file.file_path();
            return refused(format!(
                "rows of {path}, which job {id} wrote, were deleted since: where they came from is not kept"
            ));
        }
        let there: HashSet<DeleteKey> = live.deletes.iter().map(|d| delete_key(&d.entry.file)).collect();
        if let Some((path, _)) = effect.added_deletes.iter().find(|key| !there.contains(*key)) {
            return refused(format!("the deletes in {path}, which job {id} wrote, were replaced since"));
        }
        let undone = BTreeMap::from([
            ("engine-name".to_owned(), "esker".to_owned()),
            ("engine-version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("esker.undone-job-id".to_owned(), id.to_string()),
        ]);
        Ok(Rewrite {
            operation: Operation::Replace,
            branch: effect.branch.clone(),
            removed: effect.added.clone(),
            removed_deletes: effect.added_deletes.clone(),
            added: Vec::new(),
            regrouped: HashSet::new(),
            added_deletes: Vec::new(),
            starting_sequence_number: None,
            revived: effect.removed.clone(),
            summary: undone,
        })
    }
}
