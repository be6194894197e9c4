//! The JSON of data files, delete files and scan tasks in the answers of scan planning.
//!
//! Spec: REST `ContentFile`, `DataFile`, `PositionDeleteFile`, `EqualityDeleteFile`, `FileScanTask`.

use std::collections::{BTreeMap, HashSet};

use esker_format::{DataContentType, DataFile, TableMetadata};
use esker_table::{Result, ScanPlan, ScanTask, hex, partition_json, stats_json};
use serde_json::{Value, json};

/// The printer of a table's files and scan tasks as JSON.
pub(crate) struct ContentPrinter<'a> {
    metadata: &'a TableMetadata,
    /// The field ids of the columns whose counts and bounds are printed.
    stats: HashSet<i32>,
}

impl<'a> ContentPrinter<'a> {
    /// Makes the printer of a table. `stats` are the field ids of the columns whose counts and bounds are printed.
    pub(crate) fn new(metadata: &'a TableMetadata, stats: HashSet<i32>) -> Self {
        Self { metadata, stats }
    }

    /// Prints some tasks of a plan, with the delete files that they refer to and no others.
    pub(crate) fn tasks(&self, plan: &ScanPlan, tasks: &[ScanTask]) -> Result<Value> {
        // The index of each delete file in this answer, by its index in the plan: tasks refer to delete files by index.
        let mut places: BTreeMap<usize, usize> = BTreeMap::new();
        let mut deletes = Vec::new();
        let mut printed = Vec::with_capacity(tasks.len());
        for task in tasks {
            let mut references = Vec::with_capacity(task.deletes.len());
            for &delete in &task.deletes {
                let (spec, file) = &plan.deletes[delete];
                let place = deletes.len();
                references.push(*places.entry(delete).or_insert(place));
                if places[&delete] == place {
                    deletes.push(self.file(*spec, file)?);
                }
            }
            let file = self.file(task.spec_id, &task.file)?;
            let mut one = json!({"data-file": file, "residual-filter": task.residual.to_json()});
            if !references.is_empty() {
                one["delete-file-references"] = json!(references);
            }
            printed.push(one);
        }
        Ok(json!({"delete-files": deletes, "file-scan-tasks": printed}))
    }

    /// Prints a data or delete file.
    fn file(&self, spec_id: i32, file: &DataFile) -> Result<Value> {
        let content = match file.content {
            DataContentType::Data => "data",
            DataContentType::PositionDeletes => "position-deletes",
            DataContentType::EqualityDeletes => "equality-deletes",
        };
        let mut json = json!({
            "content": content,
            "file-path": file.file_path,
            "file-format": file.file_format.as_str(),
            "spec-id": spec_id,
            "partition": partition_json(self.metadata, spec_id, &file.partition)?,
            "file-size-in-bytes": file.file_size_in_bytes,
            "record-count": file.record_count,
        });
        let mut optional = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                json[key] = value;
            }
        };
        optional("split-offsets", file.split_offsets.as_ref().filter(|o| !o.is_empty()).map(|o| json!(o)));
        optional("sort-order-id", file.sort_order_id.map(|id| json!(id)));
        optional("key-metadata", file.key_metadata.as_ref().map(|k| json!(hex(k))));
        optional("first-row-id", file.first_row_id.map(|id| json!(id)));
        if file.content == DataContentType::EqualityDeletes {
            optional("equality-ids", file.equality_ids.as_ref().map(|ids| json!(ids)));
        }
        if file.content == DataContentType::PositionDeletes {
            optional("referenced-data-file", file.referenced_data_file.as_ref().map(|path| json!(path)));
            optional("content-offset", file.content_offset.map(|n| json!(n)));
            optional("content-size-in-bytes", file.content_size_in_bytes.map(|n| json!(n)));
        }
        if !self.stats.is_empty() {
            stats_json(file, &self.stats).into_iter().for_each(|(name, of)| optional(name, Some(of)));
        }
        Ok(json)
    }
}
