//! The metrics of each table, on `/metrics/tables`.

use std::collections::HashMap;

use axum::extract::State;
use esker_catalog::{Authority, CatalogError, NotAssessed};
use esker_table::HISTOGRAM_BOUNDS;
use esker_types::TableId;
use prometheus::{GaugeVec, IntGauge, Opts, Registry};

use super::{gauge, registered, render};
use crate::health::TableAssessment;
use crate::openapi::ReadErrors;
use crate::{ApiError, App};

/// The maximum number of tables with metrics; those with the lowest scores are exported.
const MAX_TABLES: u32 = 500;

/// Returns the tables to export, and the number of those that are left out.
async fn exported(app: &App) -> Result<(Vec<TableAssessment>, u64), CatalogError> {
    let (all, tables) = match app.has_large_fleet().await? {
        true => (app.worst_tables(MAX_TABLES).await?, app.count_tables(u32::MAX).await?),
        false => {
            let mut all = app.assess_all(&Authority::Server, |_| true).await?;
            let tables = all.len() as u64;
            all.truncate(MAX_TABLES as usize);
            (all, tables)
        }
    };
    let left_out = tables.saturating_sub(all.len() as u64);
    Ok((all, left_out))
}

/// Returns the metrics of up to 500 tables, the worst first.
///
/// The registry is built for each scrape, so a dropped table leaves no series behind.
#[utoipa::path(
    get,
    path = "/metrics/tables",
    operation_id = "getTableMetrics",
    tag = "metrics",
    responses((status = 200, description = "The metrics, in the text format of Prometheus.", body = String), ReadErrors)
)]
pub(crate) async fn tables(State(app): State<App>) -> Result<String, ApiError> {
    let registry = Registry::new();
    let r = &registry;
    let by_table = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &["warehouse", "namespace", "table"]);
    let by_kind = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &["warehouse", "namespace", "table", "kind"]);
    let score = registered!(r, by_table("esker_table_health_score", "Health score from 0 to 100."));
    let unreadable = registered!(r, by_table("esker_table_unreadable", "1 if the table's metadata can't be read; else 0."));
    let damaged = registered!(
        r,
        by_table("esker_table_damaged_files", "Number of files of the current snapshot that a job or query could not read.")
    );
    let data_files = registered!(r, by_table("esker_table_data_files", "Number of live data files."));
    let data_bytes = registered!(r, by_table("esker_table_data_bytes", "Size in bytes of the live data files."));
    let records =
        registered!(r, by_table("esker_table_records", "Number of rows in the live data files, deleted rows included."));
    let small = registered!(
        r,
        by_table("esker_table_small_files_ratio", "Share of data files under three quarters of the target size, from 0 to 1.")
    );
    let excess = registered!(
        r,
        by_table("esker_table_excess_files", "Number of data files beyond those that the data needs at the target size.")
    );
    let sizes = registered!(
        r,
        GaugeVec::new(
            Opts::new("esker_table_data_files_by_size", "Number of live data files under 'le' bytes."),
            &["warehouse", "namespace", "table", "le"]
        )
    );
    let delete_files = registered!(r, by_kind("esker_table_delete_files", "Number of live delete files."));
    let deletes = registered!(r, by_kind("esker_table_deletes", "Number of deletes in the live delete files."));
    let snapshots = registered!(r, by_table("esker_table_snapshots", "Number of snapshots in the metadata."));
    let oldest = registered!(
        r,
        by_table(
            "esker_table_oldest_snapshot_timestamp_seconds",
            "Time in seconds since the Unix epoch at which the oldest snapshot was made."
        )
    );
    let last = registered!(
        r,
        by_table(
            "esker_table_last_commit_timestamp_seconds",
            "Time in seconds since the Unix epoch at which the table last changed."
        )
    );
    let metadata = registered!(r, by_table("esker_table_metadata_bytes", "Size in bytes of the current metadata file."));
    let manifests = registered!(r, by_table("esker_table_manifests", "Number of manifests of the current snapshot."));
    let manifest_bytes =
        registered!(r, by_table("esker_table_manifest_bytes", "Size in bytes of the manifests of the current snapshot."));
    let unreadable_tables =
        registered!(r, IntGauge::new("esker_tables_not_examined", "Number of tables whose metadata can't be read."));
    let left_out = registered!(
        r,
        IntGauge::new("esker_tables_not_exported", "Number of tables that are left out, because there are more than 500.")
    );

    let success = registered!(
        r,
        by_kind(
            "esker_table_last_success_timestamp_seconds",
            "Time in seconds since the Unix epoch at which a job of this kind last succeeded on the table."
        )
    );
    let scans =
        registered!(r, by_table("esker_table_reported_scans", "Number of scans that engines reported in the last seven days."));
    let commits = registered!(
        r,
        by_table("esker_table_reported_commits", "Number of commits that engines reported in the last seven days.")
    );
    let attempts = registered!(
        r,
        by_table(
            "esker_table_reported_commit_attempts",
            "Number of attempts at the commits that engines reported in the last seven days."
        )
    );
    let (all, more) = exported(&app).await?;
    let ids: Vec<TableId> = all.iter().map(|assessed| assessed.row.id).collect();
    let mut successes: HashMap<TableId, Vec<(String, i64)>> = HashMap::new();
    for (table, kind, at) in app.overview().last_successes(&ids).await? {
        successes.entry(table).or_default().push((kind, at));
    }
    let uses = app.overview().usages_of(&ids).await?;
    left_out.set(gauge(more));
    for assessed in &all {
        let namespace = assessed.row.name.namespace.to_string();
        let labels = [assessed.warehouse.as_str(), namespace.as_str(), assessed.row.name.name.as_str()];
        let set = |metric: &GaugeVec, value: f64| metric.with_label_values(&labels).set(value);
        set(&damaged, assessed.damaged as f64);
        let facts = match &assessed.facts {
            Ok(facts) => facts,
            // A table that nobody has assessed yet has no score, and is not unreadable.
            Err(NotAssessed::NotYet) => continue,
            Err(NotAssessed::Unreadable(_)) => {
                unreadable_tables.inc();
                set(&unreadable, 1.0);
                continue;
            }
        };
        set(&score, f64::from(assessed.assessment.score));
        set(&unreadable, 0.0);
        set(&data_files, facts.data_files as f64);
        set(&data_bytes, facts.data_bytes as f64);
        set(&records, facts.records as f64);
        set(&small, if facts.data_files == 0 { 0.0 } else { facts.small_files as f64 / facts.data_files as f64 });
        set(&excess, facts.data_files.saturating_sub(facts.ideal_files) as f64);
        set(&snapshots, facts.snapshots as f64);
        set(&last, facts.last_commit_ms as f64 / 1000.0);
        if let Some(ms) = facts.oldest_snapshot_ms {
            set(&oldest, ms as f64 / 1000.0);
        }
        set(&metadata, facts.metadata_bytes as f64);
        set(&manifests, facts.manifests as f64);
        set(&manifest_bytes, facts.manifest_bytes as f64);
        for (kind, at) in successes.get(&assessed.row.id).into_iter().flatten() {
            success.with_label_values(&[labels[0], labels[1], labels[2], kind]).set(*at as f64 / 1000.0);
        }
        if let Some(used) = uses.get(&assessed.row.id) {
            set(&scans, used.scans as f64);
            set(&commits, used.commits as f64);
            set(&attempts, used.commit_attempts as f64);
        }
        let mut so_far = 0;
        for (i, files) in facts.size_histogram.iter().enumerate() {
            so_far += files;
            let le = HISTOGRAM_BOUNDS.get(i).map_or_else(|| "+Inf".to_owned(), u64::to_string);
            sizes.with_label_values(&[labels[0], labels[1], labels[2], &le]).set(so_far as f64);
        }
        for (kind, of) in [
            ("position", &facts.position_deletes),
            ("equality", &facts.equality_deletes),
            ("deletion-vector", &facts.deletion_vectors),
        ] {
            delete_files.with_label_values(&[labels[0], labels[1], labels[2], kind]).set(of.files as f64);
            deletes.with_label_values(&[labels[0], labels[1], labels[2], kind]).set(of.records as f64);
        }
    }
    render(&registry)
}
