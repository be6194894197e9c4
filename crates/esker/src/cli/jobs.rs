use std::time::Duration;

use esker_maintenance::Undone;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::client::{Client, encode};
use super::out;
use crate::{Error, Result};

pub(super) async fn run(client: &Client, job: Option<String>) -> Result<()> {
    if let Some(job) = job {
        let job: Value = client.get(&format!("/api/v1/jobs/{job}")).await?;
        out(&format!("{job:#}"));
        return Ok(());
    }
    let jobs: Vec<Value> = client.get("/api/v1/jobs").await?;
    for job in &jobs {
        let text = |key: &str| job[key].as_str().unwrap_or_default();
        out(&format!("{}  {:<8} {:<11} {}  {}", text("id"), text("kind"), text("state"), text("table"), text("error")));
    }
    Ok(())
}

pub(super) async fn undo(client: &Client, job: &str) -> Result<()> {
    let path = format!("{}/jobs/{}/undo", client.warehouse_path(), encode(job));
    let undone: Undone = client.post(&path, &serde_json::json!({})).await?;
    let Undone { snapshots, refs, files, gone } = &undone;
    let refs = if refs.is_empty() { String::new() } else { format!(" and {}", refs.join(", ")) };
    out(&format!("{snapshots} snapshots{refs} are back; {files} files left quarantine, {gone} were deleted already"));
    Ok(())
}

/// Waits for a job with a progress bar; returns its outcome.
pub(super) async fn wait(client: &Client, id: &str, bytes: bool) -> Result<Value> {
    let bar = ProgressBar::new(0);
    let template = match bytes {
        true => "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}",
        false => "{bar:30} {pos}/{len} files {msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    loop {
        let job: Value = client.get(&format!("/api/v1/jobs/{id}")).await?;
        if let Some([done, total]) = job["progress"].as_array().map(Vec::as_slice) {
            bar.set_length(total.as_u64().unwrap_or(0));
            bar.set_position(done.as_u64().unwrap_or(0));
        }
        match job["state"].as_str() {
            Some("running") => tokio::time::sleep(Duration::from_millis(100)).await,
            Some("succeeded") => {
                bar.finish_and_clear();
                return Ok(job["outcome"].clone());
            }
            _ => {
                bar.abandon();
                let error = job["error"].as_str().unwrap_or("the job did not succeed");
                return Err(Error::Remote(format!("job {id}: {error}")));
            }
        }
    }
}
