//! Who wrote a file, what it was made of, and whether that can be taken back.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use esker_catalog::LoadedTable;
use esker_table::{LiveFile, first_row_ids, load_manifests};
use esker_types::JobId;
use iceberg::spec::{DataContentType, ManifestStatus};
use tokio::sync::Mutex;

use super::Finding;
use crate::Result;
use crate::jobs::JobContext;
use crate::reverse::check_reversible;

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
        let same = |f: &&LiveFile| f.spec_id == file.spec_id && f.file.partition() == file.file.partition();
        let inputs = self.inputs_of(file.snapshot_id).await?;
        Ok(inputs.map(|inputs| inputs.iter().filter(same).cloned().collect()))
    }

    async fn inputs_of(&self, id: i64) -> Result<Option<Inputs>> {
        let mut known = self.inputs.lock().await;
        if let Some(found) = known.get(&id) {
            return Ok(found.clone());
        }
        let metadata = &self.table.metadata;
        let found = match metadata.snapshot_by_id(id) {
            None => None,
            Some(snapshot) => {
                let source = self.context.catalog.manifests();
                let mut removed = Vec::new();
                for manifest in load_manifests(source, metadata, snapshot).await? {
                    if manifest.added_snapshot_id != id {
                        continue;
                    }
                    let read = source.load(metadata, &manifest).await?;
                    for (entry, first_row_id) in read.entries().iter().zip(first_row_ids(&manifest, &read)) {
                        let gone = entry.status() == ManifestStatus::Deleted && entry.snapshot_id().unwrap_or(id) == id;
                        if gone && entry.content_type() == DataContentType::Data {
                            removed.push(LiveFile::of(&manifest, entry, first_row_id));
                        }
                    }
                }
                Some(Arc::new(removed))
            }
        };
        known.insert(id, found.clone());
        Ok(found)
    }

    /// Says of each finding who wrote its file, and whether an undo helps.
    pub(super) async fn explain(&self, findings: &mut [Finding]) -> Result<()> {
        let mut undos: HashMap<JobId, String> = HashMap::new();
        for finding in findings {
            let snapshot = finding.snapshot_id.and_then(|id| self.table.metadata.snapshot_by_id(id));
            let said = |key: &str| snapshot.and_then(|s| s.summary().additional_properties.get(key)).map(String::as_str);
            finding.job = Self::job(&finding.path).or_else(|| said("esker.job-id").and_then(|id| id.parse().ok()));
            finding.written_by = match (finding.job, finding.snapshot_id, snapshot) {
                (Some(job), ..) => Some(format!("job {job} of Esker's")),
                (None, Some(id), Some(s)) => {
                    let engine = said("engine-name").or(said("app-id")).map_or_else(String::new, |by| format!(" by {by}"));
                    Some(format!("snapshot {id} ({}{engine})", s.summary().operation.as_str()))
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compacted_file_s_name_tells_its_job() {
        let id = JobId::fresh();
        assert_eq!(Origins::job(&format!("s3://lake/t/data/p=1/compacted-{id}-1-0-0.parquet")), Some(id));
        assert_eq!(Origins::job("s3://lake/t/data/compacted-by-hand.parquet"), None);
        assert_eq!(Origins::job("s3://lake/t/data/00000-1.parquet"), None);
    }
}
