//! `esker jobs` and `esker undo`, and the wait for a job that `esker maintain` started.

use std::time::Duration;

use esker_maintenance::{UndoOutcome, describe_outcome};
use esker_types::format_count;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::client::{Client, encode};
use super::output::WarehouseColumn;
use super::{print_json, print_line};
use crate::{Error, Result};

/// Carries out `esker jobs`: lists jobs, or shows, cancels or prints the log of one.
pub(super) async fn run(client: &Client, job: Option<String>, cancel: bool, log: bool) -> Result<()> {
    match job {
        None => list(client).await,
        Some(job) if cancel => self::cancel(client, &job).await,
        Some(job) if log => self::log(client, &job).await,
        Some(job) => show(client, &job).await,
    }
}

/// Returns the management path of a job.
fn path(job: &str) -> String {
    format!("/api/v1/jobs/{}", encode(job))
}

/// Returns the record of a job.
///
/// # Errors
///
/// Returns [`Error::Usage`] if the job is not of the warehouse that `--warehouse` names.
async fn find(client: &Client, job: &str) -> Result<Value> {
    let record: Value = client.get(&path(job)).await?;
    let warehouse = text_field(&record, "warehouse");
    match client.chosen_warehouse() {
        Some(name) if name != warehouse => Err(Error::Usage(format!("job {job} is of warehouse {warehouse}, not of {name}"))),
        _ => Ok(record),
    }
}

/// Checks that a job is of the warehouse that `--warehouse` names. Without the option, asks the server nothing.
///
/// # Errors
///
/// Returns the errors of [`find`].
async fn check_warehouse(client: &Client, job: &str) -> Result<()> {
    match client.chosen_warehouse() {
        Some(_) => find(client, job).await.map(drop),
        None => Ok(()),
    }
}

async fn cancel(client: &Client, job: &str) -> Result<()> {
    check_warehouse(client, job).await?;
    let answer: Value = client.post(&format!("{}/cancel", path(job)), &serde_json::json!({})).await?;
    if client.prints_json() {
        return print_json(&answer);
    }
    print_line(&match answer["state"].as_str() {
        Some("running" | "queued") => format!("job {job} stops at the next safe point"),
        Some("cancelled") => format!("job {job} is cancelled"),
        state => format!("job {job} has already ended: {}", state.unwrap_or("unknown")),
    });
    Ok(())
}

async fn log(client: &Client, job: &str) -> Result<()> {
    check_warehouse(client, job).await?;
    let lines: Vec<Value> = client.get(&format!("{}/log", path(job))).await?;
    if client.prints_json() {
        return print_json(&lines);
    }
    for line in &lines {
        print_line(&format!("{}  {}", format_time(&line["time_ms"]), text_field(line, "text")));
    }
    Ok(())
}

async fn show(client: &Client, job: &str) -> Result<()> {
    let job = find(client, job).await?;
    if client.prints_json() {
        return print_json(&job);
    }
    print_line(&format!("{} of {}: {}", text_field(&job, "kind"), text_field(&job, "table"), text_field(&job, "state")));
    let line = |name: &str, value: String| {
        if !value.is_empty() {
            print_line(&format!("  {name:<10} {value}"));
        }
    };
    line("job", text_field(&job, "id").to_owned());
    line("warehouse", text_field(&job, "warehouse").to_owned());
    line("asked by", asked_by(&job));
    line("created", format_time(&job["created_ms"]));
    line("started", format_time(&job["started_ms"]));
    line("finished", format_time(&job["finished_ms"]));
    line("why", state_reason(&job));
    if let Some(kind) = text_field(&job, "kind").parse().ok().filter(|_| text_field(&job, "state") == "succeeded")
        && let Ok(report) = describe_outcome(kind, text_field(&job, "table"), &job["outcome"])
    {
        print_line(&report.text);
    }
    Ok(())
}

/// Returns the principal that asked for a job, and the reason if it says more.
fn asked_by(job: &Value) -> String {
    let (principal, reason) = (text_field(job, "principal"), text_field(job, "reason"));
    match reason.strip_prefix("asked for by ") {
        Some(same) if same == principal => principal.to_owned(),
        _ => format!("{principal}: {reason}"),
    }
}

async fn list(client: &Client) -> Result<()> {
    let jobs: Vec<Value> = client.get(&format!("/api/v1/jobs{}", client.list_query(&[]))).await?;
    if client.prints_json() {
        return print_json(&jobs);
    }
    let column = WarehouseColumn::of(&jobs);
    if !jobs.is_empty() {
        let heading = column.heading();
        print_line(&format!("{:<36}  {:<24}  {:<10} {:<11} {heading}table", "job", "created", "kind", "state"));
    }
    for job in &jobs {
        let (id, created, kind, state) =
            (text_field(job, "id"), format_time(&job["created_ms"]), text_field(job, "kind"), text_field(job, "state"));
        let (warehouse, table) = (column.cell(job), text_field(job, "table"));
        let line = format!("{id}  {created}  {kind:<10} {state:<11} {warehouse}{table}  {}", state_reason(job));
        print_line(line.trim_end());
    }
    print_line(&format_count(jobs.len() as u64, "job"));
    Ok(())
}

/// Returns a field of an object as text, or the empty text if it is missing or no text.
fn text_field<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}

/// Returns the reason for a job's state, or the empty text if the state needs none.
fn state_reason(job: &Value) -> String {
    match (text_field(job, "state"), text_field(job, "error")) {
        _ if job["undone_by"].is_string() => format!("undone by job {}", text_field(job, "undone_by")),
        _ if text_field(job, "kind") == "undo" => text_field(job, "reason").to_owned(),
        ("queued", "") => waiting_text(job),
        (_, error) => error.to_owned(),
    }
}

/// Returns text about what a queued job waits for.
fn waiting_text(job: &Value) -> String {
    match job["engine"].as_str() {
        Some(engine) => format!("waits for a worker of {engine}"),
        None => "waits for its turn".to_owned(),
    }
}

/// Formats milliseconds since the Unix epoch as a UTC time; anything but a number gives the empty text.
pub(super) fn format_time(ms: &Value) -> String {
    let time = ms.as_i64().and_then(chrono::DateTime::from_timestamp_millis);
    time.map_or_else(String::new, |time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// Undoes a job, and prints what came back.
pub(super) async fn undo(client: &Client, job: &str) -> Result<()> {
    // The path needs the warehouse, which the job's record names.
    let record = find(client, job).await?;
    let path = format!("/api/v1/warehouses/{}/jobs/{}/undo", encode(text_field(&record, "warehouse")), encode(job));
    let undone: UndoOutcome = client.post(&path, &serde_json::json!({})).await?;
    if client.prints_json() {
        return print_json(&undone);
    }
    let UndoOutcome { snapshots, refs, files, deleted, job_id } = &undone;
    let (snapshots, files) = (format_count(*snapshots, "snapshot"), format_count(*files, "file"));
    let refs = if refs.is_empty() { String::new() } else { format!(", with {}", refs.join(", ")) };
    print_line(&format!("undid job {job}: restored {snapshots}{refs}; {files} back in the table or released from quarantine"));
    if *deleted > 0 {
        print_line(&format!("  {} deleted before the undo", format_count(*deleted, "file")));
    }
    if let Some(record) = job_id {
        print_line(&format!("the undo is recorded as job {record}"));
    }
    Ok(())
}

/// Waits for a job, with a progress bar, and returns its record when it has ended.
///
/// The bar counts bytes or files. Asks the server for the job's state ten times a second.
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
        let job: Value = client.get(&path(id)).await?;
        bar.set_message(match (job["state"].as_str(), job["error"].as_str()) {
            (Some("queued"), Some(error)) => format!("waits for its next attempt: {error}"),
            (Some("queued"), None) => waiting_text(&job),
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
                return Ok(job);
            }
            _ => {
                bar.abandon();
                return Ok(job);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reason_that_repeats_the_principal_is_left_out() {
        assert_eq!(asked_by(&json!({"principal": "admin", "reason": "asked for by admin"})), "admin");
        assert_eq!(asked_by(&json!({"principal": "ci", "reason": "nightly"})), "ci: nightly");
    }
}
