//! `esker recover`: rebuilds catalog entries from storage, with the server stopped.
//!
//! The plan and its execution are in `esker_catalog::recovery`. This file opens the warehouses, passes the person's choices on and
//! prints the plan.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use esker_catalog::Catalog;
use esker_catalog::recovery::{Recovery, Tip, plan_recovery, recover};
use esker_state::State;
use esker_storage::LocalStore;
use esker_types::{TableName, format_count, split_names};

use super::jobs::format_time;
use super::{print_json, print_line};
use crate::server::{data_dir, lock_data_dir, seen_changes_file};
use crate::{Config, Error, Result, warehouses};

/// The arguments of `esker recover`.
#[derive(Debug, Args)]
pub(super) struct RecoverArgs {
    /// The server's data directory. Wins over data_dir of the configuration.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The server's TOML file. Every key can also be set as ESKER__SECTION__KEY.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Recover only this warehouse. Default: all.
    #[arg(long)]
    warehouse: Option<String>,
    /// Print what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Declare that the database may have lost transactions, such as after a fail-over to a standby that was late. Nothing is
    /// deleted from then on until --reconcile, as after a restore.
    #[arg(long, conflicts_with = "dry_run")]
    behind: bool,
    /// Accept this database as that of the warehouse, so that files may be deleted again. Fails while a table is undecided. No
    /// other database may serve the warehouse any more.
    #[arg(long, conflicts_with = "dry_run")]
    reconcile: bool,
    /// Choose the metadata file of an undecided table, as NAMESPACE.TABLE=URI. Repeatable.
    #[arg(long = "tip", value_name = "TABLE=URI")]
    tips: Vec<String>,
    /// Print the plan as JSON.
    #[arg(long)]
    json: bool,
}

impl RecoverArgs {
    pub(super) async fn run(self) -> Result<()> {
        let mut config = Config::load(self.config.as_deref())?;
        config.data_dir = self.data_dir.or(config.data_dir);
        config.check()?;
        let dir = data_dir(config.data_dir.as_deref())?;
        let _lock = lock_data_dir(&dir)?;
        let choice = |tip: &String| {
            let table = split_names(tip, |c| c == '=').first().map_or("", |table| *table);
            let uri = tip[table.len()..].strip_prefix('=');
            let uri = uri.ok_or_else(|| Error::Usage(format!("--tip {tip}: give NAMESPACE.TABLE=URI")))?;
            Ok((table.parse::<TableName>().map_err(|e| Error::Usage(format!("--tip {tip}: {e}")))?, uri.to_owned()))
        };
        let choices: BTreeMap<TableName, String> = self.tips.iter().map(choice).collect::<Result<_>>()?;
        let state = State::open(config.state.database(&dir)?).await?;
        let plans = warehouses::plan(&config, &dir, &(Arc::new(LocalStore::default()) as _))?;
        if let Some(name) = &self.warehouse
            && !plans.iter().any(|(_, options)| options.warehouse == *name)
        {
            let known: Vec<&str> = plans.iter().map(|(_, options)| options.warehouse.as_str()).collect();
            return Err(Error::Usage(format!("warehouse {name} does not exist; the configuration has {}", known.join(", "))));
        }
        // Before the catalogs are opened: each compares database and storage then.
        if self.behind {
            state.warehouses().declare_behind().await?;
        }
        if !self.dry_run {
            state.servers().remember_in(&seen_changes_file(&dir))?;
            state.servers().note_losses().await?;
        }
        let chosen = plans.into_iter().filter(|(_, o)| self.warehouse.as_ref().is_none_or(|name| *name == o.warehouse));
        for (storage, options) in chosen {
            let catalog = Catalog::open(state.clone(), storage, options).await?;
            let plan = plan_recovery(&catalog, &choices).await?;
            match self.json {
                true => print_json(&plan)?,
                false => print_line(&format_plan(&plan)),
            }
            if self.dry_run {
                continue;
            }
            recover(&catalog, &plan, self.reconcile).await?;
            if !self.json {
                print_line(match (self.reconcile, &plan.disagreement) {
                    (true, _) => "Done. Files of the warehouse may be deleted again.",
                    (false, None) => "Done.",
                    (false, Some(_)) => "Done. No file is deleted until `esker recover --reconcile`.",
                });
            }
        }
        state.close().await;
        Ok(())
    }
}

/// Formats a metadata file that may be the current one.
fn format_tip(tip: &Tip) -> String {
    let snapshot = tip.snapshot.map_or_else(String::new, |id| format!(", snapshot {id}"));
    format!(
        "{} (written {}{snapshot}, {} ahead)",
        tip.uri,
        format_time(&tip.updated_ms.into()),
        format_count(tip.commits, "commit")
    )
}

/// Formats the plan of a recovery as lines of text.
fn format_plan(plan: &Recovery) -> String {
    let mut lines = vec![format!("Warehouse {}", plan.warehouse)];
    lines.extend(plan.disagreement.iter().map(|why| format!("  {why}")));
    lines.push(match plan.ledger_ms {
        Some(ms) => format!("  the ledger in storage was written at {}", format_time(&ms.into())),
        None => "  the storage has no ledger".to_owned(),
    });
    lines.push(format!("  entries without a change: {}", plan.current));
    lines.extend(plan.namespaces.iter().map(|n| format!("  create namespace {}", n.name)));
    lines.extend(plan.enter.iter().map(|e| {
        let what = if e.view { "view" } else { "table" };
        format!("  add {what} {} at {}", e.name, e.metadata_location)
    }));
    lines.extend(plan.advance.iter().map(|a| format!("  move {} to {}", a.name, format_tip(&a.to))));
    lines.extend(plan.set_aside.iter().map(|s| {
        let (files, name) = (s.files.len(), &s.name);
        format!("  quarantine {files} other metadata files of {name}, and the files that only they refer to")
    }));
    for undecided in &plan.undecided {
        lines.push(format!("  NOT DECIDED: {}: {}", undecided.name, undecided.why));
        lines.extend(undecided.tips.iter().map(|t| format!("    --tip {}={}", undecided.name, format_tip(t))));
    }
    for stray in &plan.strays {
        lines.push(format!("  no catalog entry for the table at {}: {}", stray.location, stray.note));
        lines.extend(stray.tips.iter().map(|uri| format!("    to register it, use {uri}")));
    }
    lines.join("\n")
}
