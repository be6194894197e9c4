//! Erasure: removes rows that were deleted from a table from storage by a deadline, and reports which files still hold them.
//!
//! A delete only hides rows. They stay in data files, in equality delete files that name their keys, in files of earlier snapshots,
//! branches and tags, and in quarantine. The job compacts the files of the branches and expires the earlier snapshots, whatever the
//! retention policy keeps. Then it shortens the time in quarantine to the deadline. Branches and tags belong to people. The report
//! names those whose files hold rows, and the job drops only those that the options name, never `main`. Start reading at
//! [`execute_erase`] and `holders`.

mod holders;
mod job;
mod matching;
mod outcome;
mod suspect;
mod unreferenced;

use std::collections::{BTreeSet, HashSet};

use esker_catalog::{Catalog, LoadedTable};
use esker_format::MAIN_BRANCH;
use esker_read::Reader;
use esker_types::now_ms;

use crate::compact::{execute_compact, parse_filter, plan_compact};
use crate::context::JobContext;
use crate::expire::{execute_expire, plan_forced};
use crate::{CompactOptions, MaintenanceError, Result};

use holders::holders;
pub(crate) use job::Erasure;
pub(crate) use outcome::erased;
pub use outcome::{EraseOptions, EraseOutcome, ErasureReport, RowHolder};

/// Reports the files that hold the rows now, and the branches and tags that would be dropped.
///
/// # Errors
///
/// - Returns [`MaintenanceError::Refused`] for `main` in `drop_refs`, and for a name there that the table does not have.
/// - Returns [`MaintenanceError::Option`] if the predicate makes no sense.
/// - Returns what [`holders()`] returns.
pub(crate) async fn erasure_report(
    catalog: &Catalog,
    reader: &Reader,
    table: &LoadedTable,
    options: &EraseOptions,
) -> Result<ErasureReport> {
    check_refs(table, &options.drop_refs)?;
    Ok(report(catalog, reader, table, options).await?.0)
}

/// Plans a job. A later attempt does not check `drop_refs`, because an earlier one may have dropped some of them.
///
/// # Errors
///
/// Returns the errors of [`erasure_report`].
pub(crate) async fn plan_erase(context: &JobContext, table: &LoadedTable, options: &EraseOptions) -> Result<ErasureReport> {
    let (catalog, reader) = (&context.catalog, &context.reader);
    if context.attempt <= 1 {
        return erasure_report(catalog, reader, table, options).await;
    }
    Ok(report(catalog, reader, table, options).await?.0)
}

/// Builds the report, and the ids of the snapshots that lead to any of the files.
async fn report(
    catalog: &Catalog,
    reader: &Reader,
    table: &LoadedTable,
    options: &EraseOptions,
) -> Result<(ErasureReport, HashSet<i64>)> {
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

/// Checks that the table has the branches and tags that are to be dropped, and that `main` is not among them.
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

/// Checks that the rows are deleted in every branch and tag that stays.
///
/// # Errors
///
/// Returns [`MaintenanceError::Refused`] that names the branches and tags in which rows are visible.
fn check_deleted(report: &ErasureReport) -> Result<()> {
    for RowHolder { path, in_table, .. } in &report.holders {
        let names: Vec<&str> = in_table.iter().filter(|name| !report.drop_refs.contains(*name)).map(String::as_str).collect();
        if names.is_empty() {
            continue;
        }
        let way_out = match names.contains(&MAIN_BRANCH) {
            true => "delete them there first",
            false => "delete them there first, or drop these branches and tags (drop-refs)",
        };
        let (table, filter, names) = (&report.table, &report.filter, names.join(", "));
        let what = format!("rows of {table} where {filter} are still in {names} (in {path}); {way_out}");
        return Err(MaintenanceError::Refused(what));
    }
    Ok(())
}

/// Executes an erasure.
///
/// # Errors
///
/// - Returns [`MaintenanceError::Refused`] if rows are visible, a group of files can't be rewritten, or the table was dropped.
/// - Returns what [`plan_compact`], [`execute_compact`], [`plan_forced`], [`execute_expire`] and [`erasure_report`] return.
/// - Returns [`MaintenanceError::State`] if the database fails, and [`MaintenanceError::Catalog`] if the table can't be loaded
///   again.
///
/// An error may come after some branches were compacted.
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
        match catalog.state().tables().by_id(table.row.id).await? {
            Some(row) => Ok::<_, MaintenanceError>(catalog.load_row(row).await?),
            None => Err(MaintenanceError::Refused(format!("table {} was dropped meanwhile", table.row.name))),
        }
    };
    check_deleted(plan)?;
    // A compaction writes no rows that deletes hide, so the new files do not have them.
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
        let plan = plan_compact(catalog, reader, &current, &compact).await?;
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
    outcome.files = catalog.state().quarantine().shorten(&quarantined, deadline_ms).await?;
    outcome.report = report(catalog, reader, &current, &options).await?.0;
    let goes = |h: &RowHolder| h.snapshots == 0 && h.released.is_none() && h.due_ms.is_some_and(|due| due <= deadline_ms);
    outcome.complete = outcome.report.holders.iter().all(goes);
    Ok(outcome)
}
