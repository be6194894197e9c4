//! `esker explain`: the reason why a file of a warehouse exists or does not.

use esker_maintenance::{Explanation, FileHolder};
use esker_state::QuarantineState;
use esker_types::{format_bytes, format_count, now_ms};

use super::client::{Client, encode};
use super::{print_json, print_line};
use crate::Result;

/// Prints what refers to a file, and its state in quarantine, if it is there.
pub(super) async fn run(client: &Client, file: &str) -> Result<()> {
    let path = format!("{}/explain?path={}", client.warehouse_path().await?, encode(file));
    let found: Explanation = client.get(&path).await?;
    match client.prints_json() {
        true => print_json(&found),
        false => {
            print_line(&format_explanation(&found));
            Ok(())
        }
    }
}

/// Formats an explanation as lines of text.
fn format_explanation(found: &Explanation) -> String {
    let size = found.bytes.map_or_else(|| "not in storage".to_owned(), format_bytes);
    let mut lines = vec![format!("{} ({size})", found.path), format!("  {}", found.verdict)];
    // A holder that only has a role says no more than the verdict.
    let says_more = |holder: &&FileHolder| !holder.snapshots.is_empty() || holder.manifest.is_some();
    for holder in found.held_by.iter().filter(says_more) {
        let mut line = format!("  {}", holder.role_in_words());
        if let (Some(first), Some(last)) = (holder.snapshots.first(), holder.snapshots.last()) {
            line += &format!(", {}, {first} to {last}", format_count(holder.snapshots.len() as u64, "snapshot"));
        }
        if !holder.refs.is_empty() {
            line += &format!(", heads of {}", holder.refs.join(", "));
        }
        lines.push(line);
        lines.extend(holder.manifest.as_ref().map(|manifest| format!("    in manifest {manifest}")));
    }
    if let Some(q) = &found.quarantine {
        let by = q.job.map_or_else(String::new, |job| format!(" by job {job}"));
        lines.push(format!("  quarantine: {}{by}: {}", q.state.as_str(), q.reason));
        let hours = (q.due_ms - now_ms()).max(0) / 3_600_000;
        match (&q.note, q.state) {
            (Some(note), _) => lines.push(format!("    released: {note}")),
            (None, QuarantineState::Quarantined) => {
                lines.push(format!("    deleted in {} at the earliest", format_count(hours.unsigned_abs(), "hour")))
            }
            _ => {}
        }
    }
    lines.join("\n")
}
