//! Commits of clients that are late: written on one state of a test's table, and sent when it has another one.

use std::collections::{BTreeMap, HashSet};

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};
use esker_format::TableMetadata;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use roaring::RoaringTreemap;
use serde_json::{Value, json};

use super::commit::Additions;
use super::{PositionDeleteScope, PreparedCommit, Row, TestTable, partition};

/// A change of a client, of any kind.
#[derive(Debug, Clone, Default)]
pub struct ClientChange {
    /// The paths of data files that go.
    pub removed: Vec<String>,
    /// Ids, with their partitions, whose older rows are deleted by equality.
    pub keys: Vec<(i64, i32)>,
    /// The ids and texts of rows that are deleted by position.
    pub versions: HashSet<(i64, String)>,
    /// The granularity of the position delete files that do so, in format version 2.
    pub scope: PositionDeleteScope,
    /// The rows that come.
    pub rows: Vec<Row>,
    /// True if the rows that come are those of the data files that go.
    pub is_rewrite: bool,
}

impl PreparedCommit {
    /// Returns the commit as clients send it that let the server merge it: it asserts the UUID of the table, too.
    #[must_use]
    pub fn asserting(mut self, uuid: &str) -> Self {
        let requirements = self.body["requirements"].as_array_mut().expect("requirements");
        requirements.insert(0, json!({"type": "assert-table-uuid", "uuid": uuid}));
        self
    }

    /// Returns the commit for another branch, which must be where `main` is.
    #[must_use]
    pub fn on_branch(mut self, name: &str) -> Self {
        for requirement in self.body["requirements"].as_array_mut().expect("requirements") {
            if requirement["type"] == "assert-ref-snapshot-id" {
                requirement["ref"] = name.into();
            }
        }
        for update in self.body["updates"].as_array_mut().expect("updates") {
            if update["action"] == "set-snapshot-ref" {
                update["ref-name"] = name.into();
            }
        }
        self
    }

    /// Returns the commit with another entry in the summary of its snapshot.
    #[must_use]
    pub fn with_summary(mut self, key: &str, value: &str) -> Self {
        self.snapshot_mut()["summary"][key] = value.into();
        self
    }

    /// Returns the snapshot that the commit adds.
    pub fn snapshot(&self) -> &Value {
        let updates = self.body["updates"].as_array().expect("updates");
        &updates.iter().find(|update| update["action"] == "add-snapshot").expect("a snapshot")["snapshot"]
    }

    fn snapshot_mut(&mut self) -> &mut Value {
        let updates = self.body["updates"].as_array_mut().expect("updates");
        &mut updates.iter_mut().find(|update| update["action"] == "add-snapshot").expect("a snapshot")["snapshot"]
    }
}

impl TestTable<'_> {
    /// Writes a change on the head of `main`, without sending it. It asserts the UUID of the table.
    pub async fn prepare_change(&self, change: &ClientChange) -> PreparedCommit {
        let metadata = self.metadata().await;
        let spec = metadata.default_partition_spec();
        let mut additions = Additions::default();
        additions.replaced.extend(change.removed.iter().map(|path| (path.clone(), None)));
        let mut by_partition: BTreeMap<Option<i32>, Vec<i64>> = BTreeMap::new();
        for (id, p) in &change.keys {
            by_partition.entry((!spec.is_unpartitioned()).then_some(*p)).or_default().push(*id);
        }
        for (p, ids) in by_partition {
            additions.deletes.push((spec.spec_id(), self.equality_deletes(&ids, partition(p)).await));
        }
        if !change.versions.is_empty() {
            self.delete_versions(&metadata, change, &mut additions).await;
        }
        self.write_rows(&metadata, &change.rows, &mut additions).await;
        let is_append = change.removed.is_empty() && change.keys.is_empty() && change.versions.is_empty();
        let operation = match (is_append, change.rows.is_empty()) {
            _ if change.is_rewrite => "replace",
            (true, _) => "append",
            (false, true) => "delete",
            (false, false) => "overwrite",
        };
        let uuid = metadata.table_uuid.expect("a UUID").to_string();
        self.prepare(&metadata, additions, operation).await.asserting(&uuid)
    }

    /// Writes the deletes by position of a change.
    async fn delete_versions(&self, metadata: &TableMetadata, change: &ClientChange, additions: &mut Additions) {
        let live = self.live(metadata).await;
        let mut found = Vec::new();
        for file in &live.data {
            let rows = self.rows_in(&file.file.file_path).await;
            let numbered = (0_u64..).zip(&rows);
            let positions: RoaringTreemap =
                numbered.filter(|(_, row)| change.versions.contains(*row)).map(|(at, _)| at).collect();
            if !positions.is_empty() {
                found.push((file.clone(), positions));
            }
        }
        match metadata.format_version {
            3 => self.write_vectors(metadata, &live, found, additions).await,
            _ => self.write_positions(metadata, found, change.scope, additions).await,
        }
    }

    /// Returns the ids and texts of all rows in a data file, whether they are deleted or not.
    pub async fn rows_in(&self, path: &str) -> Vec<(i64, String)> {
        let bytes = self.storage.read(path).await.expect("a data file");
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("a footer").build().expect("a reader");
        let mut rows = Vec::new();
        for batch in reader {
            let batch = batch.expect("a batch");
            let ids = batch.column_by_name("id").expect("ids").as_primitive::<Int64Type>();
            let texts = arrow::compute::cast(batch.column_by_name("s").expect("texts"), &DataType::Utf8).expect("texts");
            rows.extend(
                ids.values().iter().zip(texts.as_string::<i32>()).map(|(id, text)| (*id, text.expect("no null").to_owned())),
            );
        }
        rows
    }
}
