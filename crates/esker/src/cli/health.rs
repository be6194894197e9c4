use esker_health::bytes_for_people;
use serde_json::Value;

use super::client::{Client, encode};
use super::out;
use crate::Result;

pub(super) async fn run(client: &Client, table: Option<String>, json: bool) -> Result<()> {
    let Some(table) = table else {
        if json {
            let tables: Value = client.get("/api/v1/tables").await?;
            out(&format!("{tables:#}"));
            return Ok(());
        }
        return fleet(client, None).await;
    };
    let health: Value = client.get(&format!("{}/health", client.table_path(&table)?)).await?;
    if json {
        out(&format!("{health:#}"));
    } else {
        out(&describe(&table, &health));
    }
    Ok(())
}

/// The tables of one warehouse or of all, the worst first.
pub(super) async fn fleet(client: &Client, warehouse: Option<&str>) -> Result<()> {
    let query = warehouse.map(|w| format!("?warehouse={}", encode(w))).unwrap_or_default();
    let tables: Vec<Value> = client.get(&format!("/api/v1/tables{query}")).await?;
    let several = tables.iter().any(|t| t["warehouse"] != tables[0]["warehouse"]);
    out(&format!("{:>5}  {:<40} {:>10} {:>12}  findings", "score", "table", "files", "size"));
    for table in &tables {
        let number = |key: &str| table[key].as_u64().map_or_else(|| "?".to_owned(), |n| n.to_string());
        let size = table["data_bytes"].as_u64().map_or_else(|| "?".to_owned(), bytes_for_people);
        let findings = table["findings"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let findings: Vec<&str> = findings.chain(table["error"].as_str()).collect();
        let text = |key: &str| table[key].as_str().unwrap_or_default();
        let name = if several { format!("{}: {}", text("warehouse"), text("table")) } else { text("table").to_owned() };
        out(&format!("{:>5}  {name:<40} {:>10} {size:>12}  {}", number("score"), number("data_files"), findings.join(", ")));
    }
    Ok(())
}

fn describe(table: &str, health: &Value) -> String {
    let facts = &health["facts"];
    let n = |key: &str| facts[key].as_u64().unwrap_or(0);
    let mut lines = vec![format!("{table}: score {} of 100", health["score"])];
    if facts.is_object() {
        lines.push(format!(
            "  {} data files, {}, {} rows, {} partitions; {} files would do",
            n("data_files"),
            bytes_for_people(n("data_bytes")),
            n("records"),
            n("partitions"),
            n("ideal_files"),
        ));
        lines.push(format!(
            "  {} snapshots, {} manifests ({}), metadata file {}",
            n("snapshots"),
            n("manifests"),
            bytes_for_people(n("manifest_bytes")),
            bytes_for_people(n("metadata_bytes")),
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
