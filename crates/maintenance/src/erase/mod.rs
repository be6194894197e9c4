//! Erasure: rows that were deleted from a table are made to go from storage by a deadline, and what still holds them is told.
//!
//! A delete hides rows; they stay in data files that deletes apply to, in files of equality deletes that name their keys, in files of
//! earlier snapshots, of branches and tags, and in quarantine. The job rewrites the first two, expires the earlier snapshots whatever
//! the retention policy says, and sets the time of what is in quarantine to the deadline. Branches and tags are people's: those that
//! hold rows are named, and go if they are asked to. `main` never does. An erasure that is refused has changed nothing.

mod holders;
mod job;
mod matching;
mod outcome;
mod outside;

use std::collections::{BTreeSet, HashSet};

use esker_catalog::{Catalog, LoadedTable};
use esker_format::MAIN_BRANCH;
use esker_read::Reader;
use esker_types::now_ms;

use crate::compact::{execute_compact, parse_filter, plan_compact};
use crate::context::JobContext;
use crate::expire::{execute_expire, plan_forced};
use crate::{CompactOptions, MaintenanceError, Result, check_deletable};

use holders::holders;
pub(crate) use job::Erasure;
pub(crate) use outcome::erased;
pub use outcome::{EraseOptions, EraseOutcome, ErasureReport, RowHolder};

/// What holds rows now, and which branches and tags would go.
pub(crate) async fn erasure_report(
    catalog: &Catalog,
    reader: &Reader,
    table: &LoadedTable,
    options: &EraseOptions,
) -> Result<ErasureReport> {
    check_refs(table, &options.drop_refs)?;
    Ok(report(catalog, reader, table, options).await?.0)
}

/// The plan of a job. What an earlier attempt dropped is not there any more.
pub(crate) async fn plan_erase(context: &JobContext, table: &LoadedTable, options: &EraseOptions) -> Result<ErasureReport> {
    let (catalog, reader) = (&context.catalog, &context.reader);
    if context.attempt <= 1 {
        return erasure_report(catalog, reader, table, options).await;
    }
    Ok(report(catalog, reader, table, options).await?.0)
}

async fn report(
    catalog: &Catalog,
    reader: &Reader,
    table: &LoadedTable,
    options: &EraseOptions,
) -> Result<(ErasureReport, HashSet<i64>)> {
    check_deletable(catalog, table)?;
    let filter = parse_filter(&options.filter, table.metadata.current_schema())?;
    let (holders, snapshots) = holders(catalog, reader, table, &filter).await?;
    let held: BTreeSet<&String> = holders.iter().flat_map(|holder| &holder.refs).collect();
    let goes = |name: &&String| *name != MAIN_BRANCH && held.contains(name);
    let report = ErasureReport {
        table: table.row.name.to_string(),
        filter: options.filter.clone(),
        deadline_ms: options.deadline_ms.unwrap_or_else(now_ms),
        drop_refs: options.drop_refs.iter().filter(goes).cloned().collect(),
        holders,
    };
    Ok((report, snapshots))
}

/// Branches and tags that are to go must be there, and `main` stays.
fn check_refs(table: &LoadedTable, drop_refs: &BTreeSet<String>) -> Result<()> {
    let all = &table.metadata.refs;
    match drop_refs.iter().find(|name| *name == MAIN_BRANCH || !all.contains_key(*name)) {
        None => Ok(()),
        Some(name) if name == MAIN_BRANCH => {
            Err(MaintenanceError::Refused("main can't be dropped; delete the rows there first".to_owned()))
        }
        Some(name) => Err(MaintenanceError::Refused(format!("the table has no branch or tag {name}"))),
    }
}

/// The rows must be out of sight before they are made to go.
fn check_deleted(report: &ErasureReport) -> Result<()> {
    for RowHolder { path, in_table, .. } in &report.holders {
        let names: Vec<&str> = in_table.iter().filter(|name| !report.drop_refs.contains(*name)).map(String::as_str).collect();
        if names.is_empty() {
            continue;
        }
        let way_out = match names.contains(&MAIN_BRANCH) {
            true => "delete them there first",
            false => "delete them there first, or drop what holds them (drop-refs)",
        };
        let (table, filter, names) = (&report.table, &report.filter, names.join(", "));
        let what = format!("rows of {table} where {filter} are still in {names} (in {path}); {way_out}");
        return Err(MaintenanceError::Refused(what));
    }
    Ok(())
}

pub(crate) async fn execute_erase(
    context: &JobContext,
    table: &LoadedTable,
    options: &EraseOptions,
    plan: &ErasureReport,
) -> Result<EraseOutcome> {
    let (catalog, reader) = (&context.catalog, &context.reader);
    let mut outcome = EraseOutcome::default();
    let deadline_ms = plan.deadline_ms;
    let options = EraseOptions { deadline_ms: Some(deadline_ms), ..options.clone() };
    let reload = || async {
        match catalog.state().tabular_by_id(table.row.id).await? {
            Some(row) => Ok::<_, MaintenanceError>(catalog.load_row(row).await?),
            None => Err(MaintenanceError::Refused(format!("table {} was dropped meanwhile", table.row.name))),
        }
    };
    check_deleted(plan)?;
    // Rows that deletes hide come to nothing in files of their own.
    let branches: BTreeSet<String> = plan.holders.iter().flat_map(|h| h.refs.iter().cloned()).collect();
    let all = &table.metadata.refs;
    for branch in branches.iter().filter(|name| !plan.drop_refs.contains(*name) && all.get(*name).is_some_and(|r| r.is_branch()))
    {
        let current = reload().await?;
        let compact = CompactOptions {
            branch: Some(branch.clone()),
            filter: Some(options.filter.clone()),
            rewrite_all: true,
            min_input_files: Some(1),
            splice: Some(false),
            courtesy_seconds: Some(0),
            ..CompactOptions::default()
        };
        let plan = plan_compact(catalog, &current, &compact).await?;
        let done = execute_compact(context, &current, &plan).await?;
        outcome.files_rewritten += done.files_in;
        if let Some(refused) = done.refused.first() {
            return Err(MaintenanceError::Refused(format!("partition {}: {}", refused.partition, refused.reason)));
        }
    }
    let current = reload().await?;
    let (before, snapshots) = report(catalog, reader, &current, &options).await?;
    check_deleted(&before)?;
    let expiry = plan_forced(catalog, &current, &snapshots, &before.drop_refs).await?;
    outcome.refs.clone_from(&expiry.0.expire_refs);
    outcome.snapshots = execute_expire(context, &current, &expiry.0, &expiry.1).await?.snapshots;
    let current = reload().await?;
    let (after, _) = report(catalog, reader, &current, &options).await?;
    let quarantined: Vec<String> = after.holders.iter().filter_map(|h| h.quarantined_as.clone()).collect();
    outcome.files = catalog.state().shorten_quarantine(&quarantined, deadline_ms).await?;
    outcome.report = report(catalog, reader, &current, &options).await?.0;
    let goes = |h: &RowHolder| h.snapshots == 0 && h.released.is_none() && h.due_ms.is_some_and(|due| due <= deadline_ms);
    outcome.complete = outcome.report.holders.iter().all(goes);
    Ok(outcome)
}
