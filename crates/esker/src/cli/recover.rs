use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use esker_catalog::Catalog;
use esker_catalog::recovery::{Recovery, Tip, plan_recovery, recover};
use esker_state::State;
use esker_storage::LocalStore;
use esker_types::{TableName, format_count, split_names};

use super::jobs::time;
use super::out;
use crate::server::{data_dir, lock};
use crate::{Config, Error, Result, warehouses};

/// Works on the database itself, with the server stopped. Without an option it makes what is certain: entries that the database does
/// not know any more, and pointers to newer metadata files. What is not certain is listed.
#[derive(Debug, Args)]
pub(super) struct RecoverArgs {
    /// The server's data directory; wins over data_dir of the configuration.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The server's TOML file; every key can also be set as ESKER__SECTION__KEY.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Only this warehouse.
    #[arg(long)]
    warehouse: Option<String>,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Let this database take care of the warehouse from now on, so that files may be deleted again. Refused while something is not
    /// decided. No other database may serve the warehouse any more.
    #[arg(long, conflicts_with = "dry_run")]
    reconcile: bool,
    /// The metadata file of a table that is not decided: NAMESPACE.TABLE=URI. Repeatable.
    #[arg(long = "tip", value_name = "TABLE=URI")]
    tips: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl RecoverArgs {
    pub(super) async fn run(self) -> Result<()> {
        let mut config = Config::load(self.config.as_deref())?;
        config.data_dir = self.data_dir.or(config.data_dir);
        config.check()?;
        let dir = data_dir(&config)?;
        let _lock = lock(&dir)?;
        let choice = |tip: &String| {
            let table = split_names(tip, |c| c == '=').first().map_or("", |table| *table);
            let uri = tip[table.len()..].strip_prefix('=');
            let uri = uri.ok_or_else(|| Error::Usage(format!("--tip {tip}: give NAMESPACE.TABLE=URI")))?;
            Ok((table.parse::<TableName>().map_err(|e| Error::Usage(format!("--tip {tip}: {e}")))?, uri.to_owned()))
        };
        let choices: BTreeMap<TableName, String> = self.tips.iter().map(choice).collect::<Result<_>>()?;
        let state = State::open(config.database(&dir)?).await?;
        let plans = warehouses::plan(&config, &dir, &(Arc::new(LocalStore::default()) as _))?;
        let chosen = plans.into_iter().filter(|(_, o)| self.warehouse.as_ref().is_none_or(|name| *name == o.warehouse));
        for (storage, options) in chosen {
            let catalog = Catalog::open(state.clone(), storage, options).await?;
            let plan = plan_recovery(&catalog, &choices).await?;
            match self.json {
                true => out(&serde_json::to_string_pretty(&plan).map_err(|e| Error::Usage(e.to_string()))?),
                false => out(&text(&plan)),
            }
            if self.dry_run {
                continue;
            }
            recover(&catalog, &plan, self.reconcile).await?;
            if !self.json {
                out(match (self.reconcile, &plan.disagreement) {
                    (true, _) => "Done. This database takes care of the warehouse.",
                    (false, None) => "Done.",
                    (false, Some(_)) => "Done. Nothing is deleted until `esker recover --reconcile`.",
                });
            }
        }
        state.close().await;
        Ok(())
    }
}

fn tip(tip: &Tip) -> String {
    let snapshot = tip.snapshot.map_or_else(String::new, |id| format!(", snapshot {id}"));
    format!("{} (of {}{snapshot}, {} ahead)", tip.uri, time(&tip.updated_ms.into()), format_count(tip.commits, "commit"))
}

fn text(plan: &Recovery) -> String {
    let mut lines = vec![format!("Warehouse {}", plan.warehouse)];
    lines.extend(plan.disagreement.iter().map(|why| format!("  {why}")));
    lines.push(match plan.ledger_ms {
        Some(ms) => format!("  the ledger in storage is of {}", time(&ms.into())),
        None => "  there is no ledger in storage".to_owned(),
    });
    lines.push(format!("  {} entries are as they should be", plan.current));
    lines.extend(plan.namespaces.iter().map(|n| format!("  make namespace {}", n.name)));
    lines.extend(plan.enter.iter().map(|e| {
        let what = if e.view { "view" } else { "table" };
        format!("  enter {what} {} at {}", e.name, e.metadata_location)
    }));
    lines.extend(plan.advance.iter().map(|a| format!("  move {} on to {}", a.name, tip(&a.to))));
    lines.extend(plan.set_aside.iter().map(|s| {
        let (files, name) = (s.files.len(), &s.name);
        format!("  set {files} other metadata files of {name} aside, and what only they lead to: in quarantine for now")
    }));
    for undecided in &plan.undecided {
        lines.push(format!("  NOT DECIDED: {}: {}", undecided.name, undecided.why));
        lines.extend(undecided.tips.iter().map(|t| format!("    --tip {}={}", undecided.name, tip(t))));
    }
    for stray in &plan.strays {
        lines.push(format!("  no entry leads to the table at {}: {}", stray.location, stray.note));
        lines.extend(stray.tips.iter().map(|uri| format!("    can be registered with {uri}")));
    }
    lines.join("\n")
}
