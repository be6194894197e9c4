use clap::Args;
use esker_maintenance::{CheckFinding, CheckOptions, CheckOutcome};

use super::client::Client;
use super::{maintain, out};
use crate::{Error, Result};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// NAMESPACE.TABLE
    table: String,
    /// Read every file whole, instead of what statistics leave in doubt.
    #[arg(long)]
    files: bool,
    /// The branch; default `main`.
    #[arg(long)]
    branch: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl CheckArgs {
    /// Fails if anything is found, so that a script hears of it.
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        let options = CheckOptions { branch: self.branch, files: self.files };
        let path = format!("{}/check", client.table_path(&self.table)?);
        let outcome: CheckOutcome = maintain::start(client, &path, &options, false).await?;
        match self.json {
            true => out(&serde_json::to_string_pretty(&outcome).unwrap_or_default()),
            false => out(&text(&self.table, &outcome)),
        }
        match outcome.findings.len() {
            0 => Ok(()),
            n => Err(Error::Remote(format!("{n} findings in {}", self.table))),
        }
    }
}

fn text(table: &str, outcome: &CheckOutcome) -> String {
    let (files, rows, seconds) = (outcome.files, outcome.rows, outcome.seconds);
    let mut lines: Vec<String> = outcome.findings.iter().map(finding).collect();
    lines.extend(outcome.notes.iter().map(|note| format!("not judged, {note}")));
    let found = outcome.findings.len();
    lines.push(format!("{table}: {found} findings; {files} files looked at, {rows} rows read, {seconds:.1} s"));
    lines.join("\n")
}

fn finding(finding: &CheckFinding) -> String {
    let mut lines = vec![finding.to_string()];
    if !finding.sample.is_empty() {
        lines.push(format!("    such as {}", finding.sample.join(", ")));
    }
    lines.extend(finding.undo.as_ref().map(|undo| format!("    undo: {undo}")));
    lines.push(format!("    repair: {}", finding.repair));
    lines.join("\n")
}
