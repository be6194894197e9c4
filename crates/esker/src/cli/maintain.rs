//! `esker maintain KIND TABLE`: one command for all kinds of jobs.
//!
//! `esker_maintenance` has the arguments of each kind ([`command`]) and the texts about its plan and outcome. This file has what
//! all kinds share: show the plan, start the job, wait for it with a progress bar, print the outcome. `esker check` is the same
//! command under a shorter name. Start reading at `MaintainCommand::run`.

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, Subcommand, error::ErrorKind};
use esker_maintenance::{JobReport, JobRequest, ProgressUnit, command, describe_outcome, describe_preview, kind_view};
use esker_types::JobKind;
use serde_json::{Value, json};

use super::client::Client;
use super::{jobs, print_json, print_line};
use crate::{Error, Result};

/// A job to start or to preview: its kind with its options, and its table.
#[derive(Debug)]
pub(super) struct MaintainCommand {
    request: JobRequest,
    table: String,
    dry_run: bool,
}

/// Adds the arguments that all kinds share to the command of a kind.
pub(super) fn with_shared_arguments(command: Command) -> Command {
    let table = Arg::new("table").required(true).value_name("TABLE").help("The table, as NAMESPACE.TABLE.");
    let dry_run =
        Arg::new("dry-run").long("dry-run").action(ArgAction::SetTrue).help("Print what the job would do, and change nothing.");
    command.arg(table).arg(dry_run)
}

impl MaintainCommand {
    /// Reads the job from the arguments that clap parsed for a kind.
    fn of(kind: JobKind, arguments: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let request = JobRequest::of_arguments(kind, arguments)?;
        let table = arguments.get_one::<String>("table").cloned().unwrap_or_default();
        Ok(Self { request, table, dry_run: arguments.get_flag("dry-run") })
    }
}

impl FromArgMatches for MaintainCommand {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let missing = || clap::Error::raw(ErrorKind::MissingSubcommand, "name the kind of job\n");
        let (name, arguments) = matches.subcommand().ok_or_else(missing)?;
        let kind = name.parse().map_err(|e| clap::Error::raw(ErrorKind::InvalidSubcommand, format!("{e}\n")))?;
        Self::of(kind, arguments)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Subcommand for MaintainCommand {
    fn augment_subcommands(parent: Command) -> Command {
        let kinds = JobKind::ALL.map(|kind| with_shared_arguments(command(kind)));
        parent.subcommands(kinds).subcommand_required(true).arg_required_else_help(true)
    }

    fn augment_subcommands_for_update(parent: Command) -> Command {
        Self::augment_subcommands(parent)
    }

    fn has_subcommand(name: &str) -> bool {
        name.parse::<JobKind>().is_ok()
    }
}

/// The command `esker check`, short for `esker maintain check`.
#[derive(Debug)]
pub(super) struct CheckCommand(MaintainCommand);

impl FromArgMatches for CheckCommand {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        MaintainCommand::of(JobKind::Check, matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for CheckCommand {
    fn augment_args(parent: Command) -> Command {
        let arguments = with_shared_arguments(command(JobKind::Check));
        parent.args(arguments.get_arguments().cloned().collect::<Vec<_>>())
    }

    fn augment_args_for_update(parent: Command) -> Command {
        Self::augment_args(parent)
    }
}

impl CheckCommand {
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        self.0.run(client).await
    }
}

impl MaintainCommand {
    /// Previews the job, or runs it and prints its outcome. A preview is also shown before a job if its kind asks for it and the
    /// caller may have it.
    ///
    /// As JSON, it prints the preview of a dry run, else the job's record. With nothing to do, `job-id` is null.
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        let Self { request, table, dry_run } = self;
        let (kind, json) = (request.kind(), client.prints_json());
        let (options, view) = (request.options(), kind_view(kind));
        let path = format!("{}/{kind}", client.table_path(&table).await?);
        let other = |e: serde_json::Error| Error::Remote(format!("{kind}: the answer is not one of this version of esker: {e}"));
        let preview_path = format!("{path}?dry-run=true");
        let preview: Option<Value> = match (dry_run, view.shows_preview) {
            (true, _) => Some(client.post(&preview_path, &options).await?),
            // Who may start the job may be told less than the preview has.
            (false, true) => client.post_if_permitted(&preview_path, &options).await?,
            (false, false) => None,
        };
        if let Some(preview) = preview {
            let report = describe_preview(kind, &preview).map_err(other)?;
            match (json, dry_run, &report.nothing_to_do) {
                (true, true, _) => return print_json(&preview),
                (true, false, Some(reason)) => {
                    return print_json(&json!({"job-id": null, "reason": reason, "plan": preview}));
                }
                (true, false, None) => {}
                (false, ..) => print(&report),
            }
            if dry_run || report.nothing_to_do.is_some() {
                return Ok(());
            }
        }
        let accepted: Value = client.post(&path, &options).await?;
        let id = accepted["job-id"].as_str().ok_or_else(|| Error::Remote("the server's answer has no job-id".to_owned()))?;
        let job = jobs::wait(client, id, view.progress == ProgressUnit::Bytes).await?;
        if json {
            print_json(&job)?;
        }
        if job["state"] != "succeeded" {
            let untold = match job["state"] == "failed" {
                true => "the job failed; why is told to those who may read all rows of the table",
                false => "the job was cancelled",
            };
            let error = job["error"].as_str().unwrap_or(untold);
            return Err(Error::Remote(format!("job {id}: {error}")));
        }
        if job["outcome"].is_null() {
            if !json {
                print_line(&format!("job {id} has succeeded; what it did is told to those who may read all rows of the table"));
            }
            return Ok(());
        }
        let report = describe_outcome(kind, &table, &job["outcome"]).map_err(other)?;
        if !json {
            print(&report);
            print_line(&undo_hint(id, view.undoable && !report.nothing_to_undo));
        }
        report.failure.map_or(Ok(()), |failure| Err(Error::Remote(failure)))
    }
}

/// Prints a report, and the reason if there is nothing to do.
fn print(report: &JobReport) {
    print_line(&report.text);
    if let Some(reason) = &report.nothing_to_do {
        print_line(&format!("nothing to do: {reason}"));
    }
}

/// Returns the line about a finished job: its id, and the command that undoes it, if that is possible.
fn undo_hint(id: &str, undoable: bool) -> String {
    match undoable {
        true => format!("job {id}; `esker undo {id}` undoes it while its files are in quarantine"),
        false => format!("job {id}"),
    }
}
