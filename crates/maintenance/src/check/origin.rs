//! The origin of a file: the job or snapshot that wrote it, and the inputs of a compaction. It also shows whether the job can be
//! undone.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use esker_catalog::LoadedTable;
use esker_format::{DataContentType, ManifestStatus, Snapshot};
use esker_table::{LiveFile, PartitionKey, visit_changes};
use esker_types::{Coded, JobId};
use tokio::sync::Mutex;

use super::CheckFinding;
use crate::Result;
use crate::compact::check_reversible;
use crate::context::JobContext;

/// Prefix of the names of files that a compaction writes; the job's id follows.
const COMPACTED: &str = "compacted-";

/// The data files that a snapshot removed from the table.
type Inputs = Arc<Vec<LiveFile>>;

/// The lookup of origins. It caches the removed files of each snapshot.
pub(super) struct Origins<'a> {
    context: &'a JobContext,
    table: &'a LoadedTable,
    /// The data files that each snapshot removed, by snapshot id; `None` if the snapshot was expired or can't be read.
    inputs: Mutex<HashMap<i64, Option<Inputs>>>,
}

impl<'a> Origins<'a> {
    /// Creates a lookup for a table.
    pub(super) fn new(context: &'a JobContext, table: &'a LoadedTable) -> Self {
        Self { context, table, inputs: Mutex::default() }
    }

    /// Returns the Esker compaction that wrote a file, by the file's name.
    pub(super) fn job(path: &str) -> Option<JobId> {
        let name = path.rsplit('/').next()?.strip_prefix(COMPACTED)?;
        name.get(..36)?.parse().ok()
    }

    /// Returns the inputs of the compaction that wrote a file: the files of its partition that the same snapshot removed.
    ///
    /// Returns `None` if the snapshot was expired or can't be read.
    pub(super) async fn made_of(&self, file: &LiveFile) -> Result<Option<Vec<LiveFile>>> {
        let same = |f: &&LiveFile| PartitionKey::of(f) == PartitionKey::of(file);
        let inputs = self.inputs_of(file.snapshot_id).await?;
        Ok(inputs.map(|inputs| inputs.iter().filter(same).cloned().collect()))
    }

    /// Returns the data files that a snapshot removed; `None` if it was expired or can't be read.
    async fn inputs_of(&self, id: i64) -> Result<Option<Inputs>> {
        let mut known = self.inputs.lock().await;
        if let Some(found) = known.get(&id) {
            return Ok(found.clone());
        }
        let metadata = &self.table.metadata;
        let found = match metadata.snapshots.get(id) {
            None => None,
            Some(snapshot) => {
                let source = self.context.catalog.manifests();
                let mut removed = Vec::new();
                let read = visit_changes(source, metadata, snapshot, |named| {
                    if named.status() == ManifestStatus::Deleted && named.file().content == DataContentType::Data {
                        removed.push(named.live());
                    }
                })
                .await;
                match read {
                    Ok(()) => Some(Arc::new(removed)),
                    Err(error) if error.code().is_transient() => return Err(error.into()),
                    // A manifest that can't be read has a finding of its own. It says nothing about the files of a compaction.
                    Err(_) => None,
                }
            }
        };
        known.insert(id, found.clone());
        Ok(found)
    }

    /// Adds to each finding who wrote its file, and whether an undo of that job helps.
    pub(super) async fn explain(&self, findings: &mut [CheckFinding]) -> Result<()> {
        let mut undos: HashMap<JobId, String> = HashMap::new();
        for finding in findings {
            let snapshot = finding.snapshot_id.and_then(|id| self.table.metadata.snapshots.get(id));
            let of_job = || snapshot.and_then(|s| s.summary_value("esker.job-id")?.parse().ok());
            finding.job = Self::job(&finding.path).or_else(of_job);
            finding.written_by = match (finding.job, finding.snapshot_id, snapshot) {
                (Some(job), ..) => Some(format!("job {job} of Esker")),
                (None, Some(_), Some(snapshot)) => Some(writer(snapshot)),
                (None, Some(id), None) => Some(format!("snapshot {id}, which was expired")),
                _ => None,
            };
            let Some(job) = finding.job.filter(|_| finding.kind.is_job_mistake()) else { continue };
            finding.undo = Some(match undos.entry(job) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(new) => new.insert(self.undo(job).await?).clone(),
            });
        }
        Ok(())
    }

    /// Describes whether a job can be undone.
    async fn undo(&self, id: JobId) -> Result<String> {
        let catalog = &self.context.catalog;
        let Some(job) = catalog.state().jobs().get(id).await? else {
            return Ok(format!("not possible: the record of job {id} is gone"));
        };
        Ok(match check_reversible(catalog, self.table, &job).await {
            Ok(()) => format!("possible: esker undo {id}"),
            Err(why) => format!("not possible: {why}"),
        })
    }
}

/// Describes a snapshot by its id, its operation and its engine, as far as its summary has them.
fn writer(snapshot: &Snapshot) -> String {
    let engine = snapshot.summary_value("engine-name").or_else(|| snapshot.summary_value("app-id"));
    let engine = engine.map(|engine| format!("by {engine}"));
    let details: Vec<&str> = snapshot.operation().into_iter().chain(engine.as_deref()).collect();
    match details.is_empty() {
        true => format!("snapshot {}", snapshot.snapshot_id),
        false => format!("snapshot {} ({})", snapshot.snapshot_id, details.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_snapshot_says_who_made_it_as_far_as_it_tells() {
        let said = |summary: serde_json::Value| {
            let snapshot = json!({"snapshot-id": 7, "timestamp-ms": 1, "summary": summary});
            writer(&serde_json::from_value(snapshot).expect("a snapshot"))
        };
        assert_eq!(said(json!({"operation": "append", "engine-name": "spark", "app-id": "a1"})), "snapshot 7 (append by spark)");
        assert_eq!(said(json!({"operation": "append"})), "snapshot 7 (append)");
        assert_eq!(said(json!({"app-id": "a1"})), "snapshot 7 (by a1)");
        assert_eq!(said(json!({})), "snapshot 7");
    }

    #[test]
    fn a_compacted_file_s_name_tells_its_job() {
        let id = JobId::fresh();
        assert_eq!(Origins::job(&format!("s3://lake/t/data/p=1/compacted-{id}-1-0-0.parquet")), Some(id));
        assert_eq!(Origins::job("s3://lake/t/data/compacted-by-hand.parquet"), None);
        assert_eq!(Origins::job("s3://lake/t/data/00000-1.parquet"), None);
    }
}
