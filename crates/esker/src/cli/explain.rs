use esker_health::bytes_for_people;
use esker_maintenance::Explanation;
use esker_state::QuarantineState;
use esker_types::now_ms;

use super::client::{Client, encode};
use super::out;
use crate::{Error, Result};

pub(super) async fn run(client: &Client, file: &str, json: bool) -> Result<()> {
    let path = format!("{}/explain?path={}", client.warehouse_path(), encode(file));
    let found: Explanation = client.get(&path).await?;
    if json {
        out(&serde_json::to_string_pretty(&found).map_err(|e| Error::Remote(e.to_string()))?);
    } else {
        out(&text(&found));
    }
    Ok(())
}

fn text(found: &Explanation) -> String {
    let size = found.bytes.map_or_else(|| "not there".to_owned(), bytes_for_people);
    let mut lines = vec![format!("{} ({size})", found.path), format!("  {}", found.verdict)];
    for holder in &found.held_by {
        let mut line = format!("  {}", holder.role);
        if let (Some(first), Some(last)) = (holder.snapshots.first(), holder.snapshots.last()) {
            line += &format!(", {} snapshots, {first} to {last}", holder.snapshots.len());
        }
        if !holder.refs.is_empty() {
            line += &format!(", heads of {}", holder.refs.join(", "));
        }
        lines.push(line);
        lines.extend(holder.manifest.as_ref().map(|manifest| format!("    named by {manifest}")));
    }
    if let Some(q) = &found.quarantine {
        let by = q.job.map_or_else(String::new, |job| format!(" by job {job}"));
        lines.push(format!("  quarantine: {}{by}: {}", q.state.as_str(), q.reason));
        let hours = (q.due_ms - now_ms()).max(0) / 3_600_000;
        match (&q.note, q.state) {
            (Some(note), _) => lines.push(format!("    released: {note}")),
            (None, QuarantineState::Quarantined) => lines.push(format!("    not deleted for another {hours} h")),
            _ => {}
        }
    }
    lines.join("\n")
}
