//! Appends rows to a test's table.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use esker_format::TableMetadata;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::commit::{Additions, missing_data_file};
use super::{PreparedCommit, Row, TestTable, new_path, partition, rows_schema};

impl TestTable<'_> {
    /// Appends rows, as one file for each partition. Retries until the commit succeeds. Returns the partition spec's id.
    pub async fn append(&self, rows: &[Row]) -> i32 {
        loop {
            let metadata = self.metadata().await;
            let mut additions = Additions::default();
            self.write_rows(&metadata, rows, &mut additions).await;
            if self.try_commit(&metadata, additions, "append").await {
                return metadata.default_spec_id;
            }
        }
    }

    /// Writes rows as one file for each partition, in row groups of 7, so that files have several.
    pub(super) async fn write_rows(&self, metadata: &TableMetadata, rows: &[Row], additions: &mut Additions) {
        let spec = metadata.default_partition_spec();
        let mut by_partition: BTreeMap<Option<i32>, Vec<&Row>> = BTreeMap::new();
        for row in rows {
            by_partition.entry((!spec.is_unpartitioned()).then_some(row.2)).or_default().push(row);
        }
        let level = ZstdLevel::try_new(3).expect("a level");
        let properties =
            WriterProperties::builder().set_compression(Compression::ZSTD(level)).set_max_row_group_row_count(Some(7)).build();
        for (p, rows) in by_partition {
            let batch = batch(metadata, &rows);
            let path = new_path(metadata, ".parquet");
            let mut file = self.write_at(metadata, &path, &batch, properties.clone()).await;
            file.partition = partition(p);
            additions.data.push((spec.spec_id(), file));
        }
    }

    /// Appends rows as a Parquet file at any path, inside the table's location or not.
    pub async fn append_at(&self, path: &str, rows: &[Row]) {
        let metadata = self.metadata().await;
        let batch = batch(&metadata, &rows.iter().collect::<Vec<_>>());
        let file = self.write_at(&metadata, path, &batch, WriterProperties::default()).await;
        self.add([file], []).await;
    }

    /// Appends rows with the given ids to the table `n.t`, as one file.
    pub async fn append_ids(&self, ids: Range<i64>) {
        let prepared = self.prepare_append(ids).await;
        self.commit(&prepared).await;
    }

    /// Appends rows with the given ids to the table `n.t`, as one file without a page index.
    ///
    /// pyarrow, DuckDB and Trino write such files.
    pub async fn append_without_index(&self, ids: Range<i64>) {
        let properties = WriterProperties::builder()
            .set_offset_index_disabled(true)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_data_page_row_count_limit(100);
        let prepared = self.prepare_append_with(ids, properties.build()).await;
        self.commit(&prepared).await;
    }

    /// Writes an append of rows with the given ids to the table `n.t`, without committing it.
    pub async fn prepare_append(&self, ids: Range<i64>) -> PreparedCommit {
        self.prepare_append_with(ids, WriterProperties::default()).await
    }

    async fn prepare_append_with(&self, ids: Range<i64>, properties: WriterProperties) -> PreparedCommit {
        let metadata = self.metadata().await;
        let strings: StringArray = ids.clone().map(|i| Some(format!("s{}", i % 3))).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(ids.collect::<Int64Array>()), Arc::new(strings)];
        let batch = RecordBatch::try_new(rows_schema(&metadata), columns).expect("a batch");
        let file = self.write_at(&metadata, &new_path(&metadata, ".parquet"), &batch, properties).await;
        self.prepare(&metadata, Additions::of(&metadata, [file], []), "append").await
    }

    /// Commits entries of `n` data files that do not exist: for tests that only plan.
    pub async fn append_missing_files(&self, n: usize) {
        let metadata = self.metadata().await;
        let missing: Vec<_> = (0..n).map(|i| missing_data_file(&metadata, &format!("missing-{i}"))).collect();
        self.add(missing, []).await;
    }
}

/// Makes a batch of the table's present columns.
fn batch(metadata: &TableMetadata, rows: &[&Row]) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| Some(r.0)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| Some(r.1.as_str())).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| Some(r.2)).collect::<Int32Array>()),
    ];
    if metadata.current_schema().field_by_name("extra").is_some() {
        columns.push(Arc::new(rows.iter().map(|r| r.3).collect::<Int32Array>()));
    }
    RecordBatch::try_new(rows_schema(metadata), columns).expect("a batch")
}
