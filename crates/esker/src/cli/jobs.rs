use std::time::Duration;

use esker_maintenance::Undone;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::client::{Client, encode};
use super::out;
use crate::{Error, Result};

pub(super) async fn run(client: &Client, job: Option<String>, cancel: bool, log: bool) -> Result<()> {
    if let Some(job) = job {
        let path = format!("/api/v1/jobs/{}", encode(&job));
        if cancel {
            let answer: Value = client.post(&format!("{path}/cancel"), &serde_json::json!({})).await?;
            out(match answer["state"].as_str() {
                Some("running" | "queued") => "the job ends where nothing is half done",
                Some("cancelled") => "the job is cancelled",
                _ => "the job is over already",
            });
        } else if log {
            let lines: Vec<Value> = client.get(&format!("{path}/log")).await?;
            for line in &lines {
                out(&format!("{}  {}", time(&line["time_ms"]), line["text"].as_str().unwrap_or_default()));
            }
        } else {
            let job: Value = client.get(&path).await?;
            out(&format!("{job:#}"));
        }
        return Ok(());
    }
    let jobs: Vec<Value> = client.get("/api/v1/jobs").await?;
    for job in &jobs {
        let text = |key: &str| job[key].as_str().unwrap_or_default();
        let why = match (text("state"), text("error")) {
            _ if job["undone_by"].is_string() => format!("undone by {}", text("undone_by")),
            _ if text("kind") == "undo" => text("reason").to_owned(),
            ("queued", "") => waits(job),
            (_, error) => error.to_owned(),
        };
        out(&format!("{}  {:<8} {:<11} {}  {why}", text("id"), text("kind"), text("state"), text("table")));
    }
    Ok(())
}

/// What a job in the queue waits for.
fn waits(job: &Value) -> String {
    match job["engine"].as_str() {
        Some(engine) => format!("waits for a worker of {engine}"),
        None => "waits for its turn".to_owned(),
    }
}

pub(super) fn time(ms: &Value) -> String {
    let time = ms.as_i64().and_then(chrono::DateTime::from_timestamp_millis);
    time.map_or_else(String::new, |time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

pub(super) async fn undo(client: &Client, job: &str) -> Result<()> {
    let path = format!("{}/jobs/{}/undo", client.warehouse_path(), encode(job));
    let undone: Undone = client.post(&path, &serde_json::json!({})).await?;
    let Undone { snapshots, refs, files, gone, job_id } = &undone;
    let refs = if refs.is_empty() { String::new() } else { format!(" and {}", refs.join(", ")) };
    out(&format!("{snapshots} snapshots{refs} are back; {files} files left quarantine, {gone} were deleted already"));
    if let Some(record) = job_id {
        out(&format!("recorded as job {record}"));
    }
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
        bar.set_message(match (job["state"].as_str(), job["error"].as_str()) {
            (Some("queued"), Some(error)) => format!("waits for its next attempt: {error}"),
            (Some("queued"), None) => waits(&job),
            _ => String::new(),
        });
        if let Some([done, total]) = job["progress"].as_array().map(Vec::as_slice) {
            bar.set_length(total.as_u64().unwrap_or(0));
            bar.set_position(done.as_u64().unwrap_or(0));
        }
        match job["state"].as_str() {
            Some("running" | "queued") => tokio::time::sleep(Duration::from_millis(100)).await,
            Some("succeeded") => {
                bar.finish_and_clear();
                return Ok(job["outcome"].clone());
            }
            _ => {
                bar.abandon();
                let error = job["error"].as_str().unwrap_or("it was cancelled");
                return Err(Error::Remote(format!("job {id}: {error}")));
            }
        }
    }
}
