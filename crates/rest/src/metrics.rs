//! Prometheus: the service on `/metrics`, each table on `/metrics/tables`. Base units; no label grows with the data, except
//! the table's name, on its own path and for a bounded number of tables.

use std::time::Duration;

use axum::extract::State;
use esker_catalog::CatalogError;
use esker_maintenance::Maintenance;
use esker_table::HISTOGRAM_BOUNDS;
use esker_types::Coded;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::{ApiError, App};

/// Tables on `/metrics/tables`, the worst first.
const MAX_TABLES: usize = 500;

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: HistogramVec,
    commits: IntCounterVec,
    conflicts: IntCounterVec,
    batches: Histogram,
    tables: IntGauge,
    scores: IntGaugeVec,
    findings: IntGaugeVec,
    jobs: IntGauge,
    deletes_off: IntGaugeVec,
    quarantine_files: IntGauge,
    quarantine_bytes: IntGauge,
    storage: IntCounterVec,
    sink_lag: IntGaugeVec,
    sink_age: GaugeVec,
    queries_running: IntGauge,
    queries: IntCounterVec,
    cache_parts: IntCounterVec,
    cache_bytes: IntGaugeVec,
}

/// Registers a metric whose name and labels are fixed here, so that only a slip in this file could fail.
macro_rules! registered {
    ($registry:expr, $metric:expr) => {{
        let metric = $metric.expect("a valid metric");
        $registry.register(Box::new(metric.clone())).expect("registered once");
        metric
    }};
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
        let requests =
            HistogramOpts::new("esker_http_request_duration_seconds", "Seconds from request to response.").buckets(buckets);
        let batches = HistogramOpts::new("esker_commit_batch_size", "Commits that shared one metadata file.")
            .buckets(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]);
        let gauge = IntGauge::new;
        Self {
            requests: registered!(r, HistogramVec::new(requests, &["method", "route", "status"])),
            commits: registered!(r, IntCounterVec::new(Opts::new("esker_commits_total", "Commits by result."), &["result"])),
            conflicts: registered!(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "esker_commit_conflicts_total",
                        "Commits refused as conflicts, by the operation of their snapshot: what overwrites and deletes had to retry."
                    ),
                    &["operation"]
                )
            ),
            batches: registered!(r, Histogram::with_opts(batches)),
            tables: registered!(r, gauge("esker_tables", "Tables in the catalog.")),
            scores: registered!(
                r,
                IntGaugeVec::new(
                    Opts::new("esker_tables_by_score", "Tables by health score; class 'unknown' can't be examined."),
                    &["class"]
                )
            ),
            findings: registered!(
                r,
                IntGaugeVec::new(Opts::new("esker_tables_with_finding", "Tables with a health finding."), &["code", "severity"])
            ),
            jobs: registered!(r, gauge("esker_jobs_running", "Maintenance jobs at work in this process.")),
            deletes_off: registered!(
                r,
                IntGaugeVec::new(
                    Opts::new(
                        "esker_warehouse_deletes_off",
                        "1: database and warehouse don't go together, and nothing is deleted."
                    ),
                    &["warehouse"]
                )
            ),
            quarantine_files: registered!(r, gauge("esker_quarantine_files", "Files in quarantine.")),
            quarantine_bytes: registered!(r, gauge("esker_quarantine_bytes", "Bytes in quarantine, where sizes are known.")),
            storage: registered!(
                r,
                IntCounterVec::new(
                    Opts::new("esker_storage_requests_total", "HTTP requests to cloud stores, retries included."),
                    &["warehouse", "method", "status"]
                )
            ),
            sink_lag: registered!(
                r,
                IntGaugeVec::new(Opts::new("esker_event_sink_lag_events", "Events that a sink does not have yet."), &["sink"])
            ),
            sink_age: registered!(
                r,
                GaugeVec::new(
                    Opts::new("esker_event_sink_lag_seconds", "Age of the oldest event that a sink does not have yet."),
                    &["sink"]
                )
            ),
            queries_running: registered!(r, gauge("esker_queries_running", "SQL statements at work or waiting.")),
            queries: registered!(
                r,
                IntCounterVec::new(Opts::new("esker_queries_total", "SQL statements that ended, by result."), &["result"])
            ),
            cache_parts: registered!(
                r,
                IntCounterVec::new(
                    Opts::new("esker_cache_parts_total", "Parts of data files that queries read, by where they were found."),
                    &["found"]
                )
            ),
            cache_bytes: registered!(
                r,
                IntGaugeVec::new(Opts::new("esker_cache_bytes", "Bytes of parts of data files that are kept."), &["tier"])
            ),
            registry,
        }
    }

    pub(crate) fn observe(&self, method: &str, route: &str, status: u16, elapsed: Duration) {
        let labels = [method, route, &status.to_string()];
        self.requests.with_label_values(&labels).observe(elapsed.as_secs_f64());
    }

    pub(crate) fn commit(&self, error: Option<&CatalogError>, operation: &str) {
        let result = error.map_or("ok", |e| e.code().iceberg_type());
        self.commits.with_label_values(&[result]).inc();
        if matches!(error, Some(CatalogError::Conflict(_))) {
            self.conflicts.with_label_values(&[operation]).inc();
        }
    }

    pub(crate) fn batch(&self, size: usize) {
        self.batches.observe(size as f64);
    }
}

fn text(registry: &Registry) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    let encoded = TextEncoder::new().encode(&registry.gather(), &mut bytes);
    let bug = |what: String| ApiError::new(esker_types::ErrorCode::Internal, what);
    encoded.map_err(|e| bug(e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| bug(e.to_string()))
}

fn gauge(n: impl TryInto<i64>) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}

/// `GET /metrics`
pub(crate) async fn service(State(app): State<App>) -> Result<String, ApiError> {
    let metrics = &app.inner.metrics;
    let all = app.examine_all().await?;
    metrics.tables.set(gauge(all.len()));
    metrics.scores.reset();
    metrics.findings.reset();
    for class in ["90-100", "70-89", "50-69", "0-49", "unknown"] {
        metrics.scores.with_label_values(&[class]).set(0);
    }
    for examined in &all {
        let class = match examined.result.as_ref().map(|(_, a)| a.score) {
            Ok(90..) => "90-100",
            Ok(70..) => "70-89",
            Ok(50..) => "50-69",
            Ok(_) => "0-49",
            Err(_) => "unknown",
        };
        metrics.scores.with_label_values(&[class]).inc();
        for finding in examined.result.iter().flat_map(|(_, a)| &a.findings) {
            metrics.findings.with_label_values(&[finding.code, finding.severity.as_str()]).inc();
        }
    }
    metrics.jobs.set(gauge(app.warehouses().map(Maintenance::running).sum::<usize>()));
    metrics.storage.reset();
    for warehouse in app.warehouses() {
        let catalog = warehouse.catalog();
        for ((method, status), n) in catalog.storage().requests() {
            metrics.storage.with_label_values(&[catalog.options().warehouse.as_str(), &method, &status]).inc_by(n);
        }
    }
    let (running, finished, failed) = app.inner.engine.log().counts();
    metrics.queries_running.set(gauge(running));
    metrics.queries.reset();
    for (result, n) in [("ok", finished), ("failed", failed)] {
        metrics.queries.with_label_values(&[result]).inc_by(n);
    }
    let cache = app.inner.engine.cache();
    metrics.cache_parts.reset();
    for (found, n) in [("memory", cache.memory_hits), ("disk", cache.disk_hits), ("nowhere", cache.misses)] {
        metrics.cache_parts.with_label_values(&[found]).inc_by(n);
    }
    for (tier, bytes) in [("memory", cache.memory_bytes), ("disk", cache.disk_bytes)] {
        metrics.cache_bytes.with_label_values(&[tier]).set(gauge(bytes));
    }
    for sink in &app.inner.options.sinks {
        let (events, age_ms) = app.state().sink_lag(sink).await?;
        metrics.sink_lag.with_label_values(&[sink]).set(events);
        metrics.sink_age.with_label_values(&[sink]).set(age_ms as f64 / 1000.0);
    }
    for catalog in app.warehouses().map(Maintenance::catalog) {
        let off = i64::from(catalog.check_epoch().is_err());
        metrics.deletes_off.with_label_values(&[&catalog.options().warehouse]).set(off);
    }
    let (files, bytes) = app.state().quarantine_totals().await?;
    metrics.quarantine_files.set(files);
    metrics.quarantine_bytes.set(bytes);
    text(&metrics.registry)
}

/// `GET /metrics/tables`: made anew for each scrape, so that a dropped table leaves no series behind.
pub(crate) async fn tables(State(app): State<App>) -> Result<String, ApiError> {
    let registry = Registry::new();
    let r = &registry;
    let by_table = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &["warehouse", "namespace", "table"]);
    let by_kind = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &["warehouse", "namespace", "table", "kind"]);
    let score = registered!(r, by_table("esker_table_health_score", "Health score, 0 to 100."));
    let data_files = registered!(r, by_table("esker_table_data_files", "Live data files."));
    let data_bytes = registered!(r, by_table("esker_table_data_bytes", "Bytes of live data files."));
    let records = registered!(r, by_table("esker_table_records", "Rows of live data files, deleted ones included."));
    let small =
        registered!(r, by_table("esker_table_small_files_ratio", "Share of data files under three quarters of the target size."));
    let excess =
        registered!(r, by_table("esker_table_excess_files", "Data files beyond what the data needs at the target size."));
    let sizes = registered!(
        r,
        GaugeVec::new(
            Opts::new("esker_table_data_files_by_size", "Live data files of at most 'le' bytes."),
            &["warehouse", "namespace", "table", "le"]
        )
    );
    let delete_files = registered!(r, by_kind("esker_table_delete_files", "Live delete files."));
    let deletes = registered!(r, by_kind("esker_table_deletes", "Deletes that live delete files hold."));
    let snapshots = registered!(r, by_table("esker_table_snapshots", "Snapshots in the metadata."));
    let oldest = registered!(r, by_table("esker_table_oldest_snapshot_timestamp_seconds", "When the oldest snapshot was made."));
    let last = registered!(r, by_table("esker_table_last_commit_timestamp_seconds", "When the table last changed."));
    let metadata = registered!(r, by_table("esker_table_metadata_bytes", "Bytes of the current metadata file."));
    let manifests = registered!(r, by_table("esker_table_manifests", "Manifests of the current snapshot."));
    let manifest_bytes = registered!(r, by_table("esker_table_manifest_bytes", "Bytes of those manifests."));
    let unexamined = registered!(r, IntGauge::new("esker_tables_not_examined", "Tables whose metadata can't be read."));
    let left_out = registered!(r, IntGauge::new("esker_tables_not_exported", "Tables beyond the limit of this page."));

    let all = app.examine_all().await?;
    left_out.set(gauge(all.len().saturating_sub(MAX_TABLES)));
    for examined in all.iter().take(MAX_TABLES) {
        let Ok((facts, assessment)) = &examined.result else {
            unexamined.inc();
            continue;
        };
        let namespace = examined.row.name.namespace.to_string();
        let labels = [examined.warehouse.as_str(), namespace.as_str(), examined.row.name.name.as_str()];
        let set = |metric: &GaugeVec, value: f64| metric.with_label_values(&labels).set(value);
        set(&score, f64::from(assessment.score));
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
    text(&registry)
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn every_metric_has_a_valid_name_of_its_own() {
        Metrics::new();
    }
}
