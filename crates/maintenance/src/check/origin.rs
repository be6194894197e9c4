//! Who wrote a file, what it was made of, and whether that can be taken back.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use esker_catalog::LoadedTable;
use esker_format::{DataContentType, ManifestStatus, Snapshot};
use esker_table::{LiveFile, PartitionKey, visit_changes};
use esker_types::JobId;
use tokio::sync::Mutex;

use super::CheckFinding;
use crate::Result;
use crate::compact::check_reversible;
use crate::context::JobContext;

/// What the names of files begin with that a compaction writes, before the job's id.
const COMPACTED: &str = "compacted-";

/// The data files that a snapshot took out of the table.
type Inputs = Arc<Vec<LiveFile>>;

pub(super) struct Origins<'a> {
    context: &'a JobContext,
    table: &'a LoadedTable,
    /// By the snapshot; none if it is not there any more.
    inputs: Mutex<HashMap<i64, Option<Inputs>>>,
}

impl<'a> Origins<'a> {
    pub(super) fn new(context: &'a JobContext, table: &'a LoadedTable) -> Self {
        Self { context, table, inputs: Mutex::default() }
    }

    /// The job of Esker's that wrote a file, by the file's name.
    pub(super) fn job(path: &str) -> Option<JobId> {
        let name = path.rsplit('/').next()?.strip_prefix(COMPACTED)?;
        name.get(..36)?.parse().ok()
    }

    /// What a compaction made a file of: the files of its partition that went with the snapshot that added it. None if that snapshot was
    /// expired.
    pub(super) async fn made_of(&self, file: &LiveFile) -> Result<Option<Vec<LiveFile>>> {
        let same = |f: &&LiveFile| PartitionKey::of(f) == PartitionKey::of(file);
        let inputs = self.inputs_of(file.snapshot_id).await?;
        Ok(inputs.map(|inputs| inputs.iter().filter(same).cloned().collect()))
    }

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
                visit_changes(source, metadata, snapshot, |named| {
                    if named.status() == ManifestStatus::Deleted && named.file().content == DataContentType::Data {
                        removed.push(named.live());
                    }
                })
                .await?;
                Some(Arc::new(removed))
            }
        };
        known.insert(id, found.clone());
        Ok(found)
    }

    /// Says of each finding who wrote its file, and whether an undo helps.
    pub(super) async fn explain(&self, findings: &mut [CheckFinding]) -> Result<()> {
        let mut undos: HashMap<JobId, String> = HashMap::new();
        for finding in findings {
            let snapshot = finding.snapshot_id.and_then(|id| self.table.metadata.snapshots.get(id));
            let of_job = || snapshot.and_then(|s| s.summary_value("esker.job-id")?.parse().ok());
            finding.job = Self::job(&finding.path).or_else(of_job);
            finding.written_by = match (finding.job, finding.snapshot_id, snapshot) {
                (Some(job), ..) => Some(format!("job {job} of Esker's")),
                (None, Some(_), Some(snapshot)) => Some(writer(snapshot)),
                (None, Some(id), None) => Some(format!("snapshot {id}, which was expired")),
                _ => None,
            };
            let Some(job) = finding.job.filter(|_| finding.kind.is_of_a_job()) else { continue };
            finding.undo = Some(match undos.entry(job) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(new) => new.insert(self.undo(job).await?).clone(),
            });
        }
        Ok(())
    }

    async fn undo(&self, id: JobId) -> Result<String> {
        let catalog = &self.context.catalog;
        let Some(job) = catalog.state().job(id).await? else {
            return Ok(format!("not possible: the record of job {id} is gone"));
        };
        Ok(match check_reversible(catalog, self.table, &job).await {
            Ok(()) => format!("possible: esker undo {id}"),
            Err(why) => format!("not possible: {why}"),
        })
    }
}

/// A snapshot in words, with what it did and the engine that made it, as far as its summary tells.
fn writer(snapshot: &Snapshot) -> String {
    let engine = snapshot.summary_value("engine-name").or_else(|| snapshot.summary_value("app-id"));
    let engine = engine.map(|engine| format!("by {engine}"));
    let told: Vec<&str> = snapshot.operation().into_iter().chain(engine.as_deref()).collect();
    match told.is_empty() {
        true => format!("snapshot {}", snapshot.snapshot_id),
        false => format!("snapshot {} ({})", snapshot.snapshot_id, told.join(" ")),
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
