//! Reads a test's table through the server: rows by Flight SQL, and scan plans by REST.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions, array_value_to_string};
use reqwest::Method;
use serde_json::Value;

use super::{Row, TestTable};

impl TestTable<'_> {
    /// Returns the rows that the server's SQL engine reads, sorted.
    pub async fn rows(&self) -> Vec<Row> {
        let extra = self.metadata().await.current_schema().field_by_name("extra").is_some();
        let extra = if extra { "extra" } else { "CAST(NULL AS INT)" };
        let sql = format!("SELECT id, s, p, {extra} FROM {}.{}", self.namespace, self.name);
        let batches = self.app.sql(&sql).await.expect("rows");
        let mut rows: Vec<Row> = Vec::new();
        for batch in &batches {
            let strings = arrow::compute::cast(batch.column(1), &DataType::Utf8).expect("strings");
            for i in 0..batch.num_rows() {
                let int = |c: usize| {
                    let column = batch.column(c).as_primitive::<Int32Type>();
                    column.is_valid(i).then(|| column.value(i))
                };
                let text = strings.as_string::<i32>().value(i).to_owned();
                rows.push((batch.column(0).as_primitive::<Int64Type>().value(i), text, int(2).unwrap_or(0), int(3)));
            }
        }
        rows.sort();
        rows
    }

    /// Returns the ids that the server's SQL engine reads, sorted.
    ///
    /// # Errors
    ///
    /// Returns the text of the server's error if the query fails.
    pub async fn ids(&self) -> Result<Vec<i64>, String> {
        let batches = self.app.sql(&format!("SELECT id FROM {}.{} ORDER BY id", self.namespace, self.name)).await?;
        let column = |b: &RecordBatch| b.column(0).as_any().downcast_ref::<Int64Array>().expect("ids").values().to_vec();
        Ok(batches.iter().flat_map(column).collect())
    }

    /// Runs a statement. Returns its rows, each value as text; null is `NULL`.
    pub async fn query(&self, sql: &str) -> Vec<Vec<String>> {
        let batches = self.app.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        let cell = |column: &ArrayRef, row| match column.is_null(row) {
            true => "NULL".to_owned(),
            false => array_value_to_string(column, row).expect("text"),
        };
        let rows = |batch: &RecordBatch| -> Vec<Vec<String>> {
            (0..batch.num_rows()).map(|row| batch.columns().iter().map(|column| cell(column, row)).collect()).collect()
        };
        batches.iter().flat_map(rows).collect()
    }

    /// Plans a scan of the table through REST. Returns the completed plan.
    pub async fn plan_scan(&self, request: Value) -> Value {
        let answer = self.app.ok(Method::POST, &format!("{}/plan", self.path()), Some(request)).await;
        assert_eq!(answer["status"], "completed", "{answer}");
        answer
    }
}

/// Formats the cells of record batches as text, row by row; null is `null`.
pub fn text_cells(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("null");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).expect("a formatter")).collect();
        rows.extend((0..batch.num_rows()).map(|i| columns.iter().map(|c| c.value(i).to_string()).collect()));
    }
    rows
}
