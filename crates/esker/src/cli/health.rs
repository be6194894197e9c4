//! `esker health` and `esker table list`: scores and findings of tables.

use esker_types::{format_bytes, format_count};
use serde_json::Value;

use super::client::Client;
use super::output::WarehouseColumn;
use super::{print_json, print_line};
use crate::Result;

/// Prints the health of one table, or of all tables if none is given.
pub(super) async fn run(client: &Client, table: Option<String>) -> Result<()> {
    let Some(table) = table else { return fleet(client).await };
    let health: Value = client.get(&format!("{}/health", client.table_path(&table).await?)).await?;
    if client.prints_json() {
        return print_json(&health);
    }
    print_line(&describe(&table, &health));
    Ok(())
}

/// Prints a line for each table of the chosen warehouse, or of all, the worst first.
pub(super) async fn fleet(client: &Client) -> Result<()> {
    let tables: Vec<Value> = client.get(&format!("/api/v1/tables{}", client.list_query(&[]))).await?;
    if client.prints_json() {
        return print_json(&tables);
    }
    let column = WarehouseColumn::of(&tables);
    if !tables.is_empty() {
        let heading = column.heading();
        print_line(&format!("{:>5}  {heading}{:<40} {:>10} {:>12}  findings", "score", "table", "files", "size"));
    }
    tables.iter().for_each(|table| print_line(&format_table(table, &column)));
    print_line(&format_count(tables.len() as u64, "table"));
    Ok(())
}

/// Formats a table in a list. The reason why a table can't be assessed gets a line of its own.
fn format_table(table: &Value, column: &WarehouseColumn) -> String {
    let number = |key: &str| table[key].as_u64().map_or_else(|| "?".to_owned(), |n| n.to_string());
    let size = table["data_bytes"].as_u64().map_or_else(|| "?".to_owned(), format_bytes);
    let findings: Vec<&str> = table["findings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (warehouse, name) = (column.cell(table), table["table"].as_str().unwrap_or_default());
    let (score, files, findings) = (number("score"), number("data_files"), findings.join(", "));
    let line = format!("{score:>5}  {warehouse}{name:<40} {files:>10} {size:>12}  {findings}");
    match table["error"].as_str() {
        Some(error) => format!("{}\n       {error}", line.trim_end()),
        None => line.trim_end().to_owned(),
    }
}

/// Formats a table's facts and findings as lines of text.
fn describe(table: &str, health: &Value) -> String {
    let facts = &health["facts"];
    let n = |key: &str| facts[key].as_u64().unwrap_or(0);
    let mut lines = vec![format!("{table}: score {} of 100", health["score"])];
    if facts.is_object() {
        lines.push(format!(
            "  {}, {}, {}, {}; the target size needs {}",
            format_count(n("data_files"), "data file"),
            format_bytes(n("data_bytes")),
            format_count(n("records"), "row"),
            format_count(n("partitions"), "partition"),
            format_count(n("ideal_files"), "file"),
        ));
        lines.push(format!(
            "  {}, {} ({}), metadata file {}",
            format_count(n("snapshots"), "snapshot"),
            format_count(n("manifests"), "manifest"),
            format_bytes(n("manifest_bytes")),
            format_bytes(n("metadata_bytes")),
        ));
    }
    for finding in health["findings"].as_array().into_iter().flatten() {
        let text = |key: &str| finding[key].as_str().unwrap_or_default();
        lines.push(format!("  [{}] {} (-{})", text("severity"), text("code"), finding["points"]));
        lines.push(format!("      {}", text("evidence")));
        lines.push(format!("      -> {}", text("recommendation")));
    }
    lines.join("\n")
}
