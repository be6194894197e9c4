//! Runs jobs on a test's table, and takes them back.

use reqwest::Method;
use serde_json::{Value, json};

use super::TestTable;

impl TestTable<'_> {
    /// Runs a job of any kind. Returns its record.
    pub async fn run_job(&self, kind: &str, options: Value) -> Value {
        let accepted = self.app.ok(Method::POST, &self.management_path(kind), Some(options)).await;
        self.wait(accepted["job-id"].as_str().expect("an id")).await
    }

    /// Runs a compaction. Returns the record of the job.
    pub async fn compact(&self, options: Value) -> Value {
        self.run_job("compact", options).await
    }

    /// Starts a compaction. Returns the id of the job.
    pub async fn start_compaction(&self, options: Value) -> String {
        let accepted = self.app.ok(Method::POST, &self.management_path("compact"), Some(options)).await;
        accepted["job-id"].as_str().expect("an id").to_owned()
    }

    /// Waits until a job has its plan, or has ended.
    pub async fn wait_for_plan(&self, job: &str) {
        self.app.wait_for_plan(job).await;
    }

    /// Waits for a job to end. Returns its record.
    pub async fn wait(&self, job: &str) -> Value {
        self.app.wait_for_job(job).await
    }

    /// Returns the preview of an orphan removal.
    pub async fn preview_orphans(&self) -> Value {
        self.app.ok(Method::POST, &self.management_path("orphans?dry-run=true"), Some(json!({}))).await
    }

    /// Undoes a job, given by its record. Returns the outcome.
    ///
    /// # Errors
    ///
    /// Returns the body of the answer if the server refuses.
    pub async fn undo(&self, job: &Value) -> Result<Value, String> {
        let path = format!("/api/v1/warehouses/default/jobs/{}/undo", job["id"].as_str().expect("an id"));
        let (status, body) = self.app.send(Method::POST, &path, Some(json!({}))).await;
        if status.is_success() { Ok(body) } else { Err(body.to_string()) }
    }
}
