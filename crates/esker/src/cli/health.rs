//! `esker health` and `esker table list`: scores and findings of tables.

use esker_types::{format_bytes, format_count};
use serde_json::Value;

use super::client::{Client, encode};
use super::{print_json, print_line};
use crate::Result;

/// Prints the health of one table, or of all tables if none is given.
pub(super) async fn run(client: &Client, table: Option<String>) -> Result<()> {
    let Some(table) = table else { return fleet(client, client.chosen_warehouse()).await };
    let health: Value = client.get(&format!("{}/health", client.table_path(&table).await?)).await?;
    if client.prints_json() {
        return print_json(&health);
    }
    print_line(&describe(&table, &health));
    Ok(())
}

/// Prints a line for each table of one warehouse, or of all, the worst first.
pub(super) async fn fleet(client: &Client, warehouse: Option<&str>) -> Result<()> {
    let query = warehouse.map(|w| format!("?warehouse={}", encode(w))).unwrap_or_default();
    let tables: Vec<Value> = client.get(&format!("/api/v1/tables{query}")).await?;
    if client.prints_json() {
        return print_json(&tables);
    }
    let several = tables.iter().any(|t| t["warehouse"] != tables[0]["warehouse"]);
    print_line(&format!("{:>5}  {:<40} {:>10} {:>12}  findings", "score", "table", "files", "size"));
    for table in &tables {
        let number = |key: &str| table[key].as_u64().map_or_else(|| "?".to_owned(), |n| n.to_string());
        let size = table["data_bytes"].as_u64().map_or_else(|| "?".to_owned(), format_bytes);
        let findings = table["findings"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let findings: Vec<&str> = findings.chain(table["error"].as_str()).collect();
        let text = |key: &str| table[key].as_str().unwrap_or_default();
        let name = if several { format!("{}: {}", text("warehouse"), text("table")) } else { text("table").to_owned() };
        print_line(&format!(
            "{:>5}  {name:<40} {:>10} {size:>12}  {}",
            number("score"),
            number("data_files"),
            findings.join(", ")
        ));
    }
    Ok(())
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
