//! Metrics in the format of Prometheus: of the service on `/metrics`, of each table on `/metrics/tables`.
//!
//! Units are base units: seconds and bytes. No label has a value for each table, because that would grow with the data. Only
//! `/metrics/tables` has one, for a bounded number of tables. Most values are read from their source when Prometheus scrapes.
//! Only requests and commits are counted as they happen.
//!
//! Start reading at [`service`].

mod fleet;
mod tables;

use std::time::Duration;

use axum::extract::State;
use esker_catalog::{CatalogError, Committed, ForwardCounts};
use esker_maintenance::Maintenance;
use esker_types::{Coded, ErrorCode, JobKind};
use prometheus::{
    CounterVec, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::openapi::ReadErrors;
use crate::{ApiError, App};

/// The methods of HTTP, by which requests are counted.
///
/// Spec: RFC 9110, section 9.3; RFC 5789 for `PATCH`.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// The metrics of the service, in a registry of their own.
#[derive(Debug)]
pub(crate) struct ServiceMetrics {
    registry: Registry,
    requests: HistogramVec,
    commits: IntCounterVec,
    conflicts: IntCounterVec,
    turns: IntCounterVec,
    turn_wait: CounterVec,
    forwarded: IntCounterVec,
    commits_waiting: IntGaugeVec,
    batches: Histogram,
    merged: IntCounterVec,
    not_merged: IntCounterVec,
    servers: IntGauge,
    tables: IntGauge,
    scores: IntGaugeVec,
    findings: IntGaugeVec,
    jobs: IntGauge,
    queue: IntGaugeVec,
    longest_wait: Gauge,
    job_attempts: IntCounterVec,
    job_seconds: CounterVec,
    job_bytes: IntCounterVec,
    job_cpu: CounterVec,
    decisions: IntGaugeVec,
    data_bytes: IntGaugeVec,
    data_files: IntGaugeVec,
    deletes_off: IntGaugeVec,
    unswept_tables: IntGaugeVec,
    quarantine_files: IntGauge,
    quarantine_bytes: IntGauge,
    storage: IntCounterVec,
    sink_lag: IntGaugeVec,
    sink_age: GaugeVec,
    queries_running: IntGauge,
    queries: IntCounterVec,
    cache_parts: IntCounterVec,
    cache_bytes: IntGaugeVec,
    damaged: IntGauge,
    task_restarts: IntCounterVec,
    tasks_down: IntGaugeVec,
    certificate_ends: IntGaugeVec,
    access_decisions: IntCounterVec,
    audit_records: IntCounterVec,
    audit_queued: IntGauge,
    limit_refusals: IntCounterVec,
    /// The last sums over all tables.
    kept_totals: tokio::sync::Mutex<Option<fleet::KeptTotals>>,
}

/// Registers a metric. Its name and labels are constants, so only a mistake in this file could make it panic.
macro_rules! registered {
    ($registry:expr, $metric:expr) => {{
        let metric = $metric.expect("a valid metric");
        $registry.register(Box::new(metric.clone())).expect("registered once");
        metric
    }};
}

impl ServiceMetrics {
    /// Registers all metrics of the service.
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
        let requests =
            HistogramOpts::new("esker_http_request_duration_seconds", "Duration in seconds from a request to its response.")
                .buckets(buckets);
        let batches = HistogramOpts::new("esker_commit_batch_size", "Number of commits that shared one metadata file.")
            .buckets(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]);
        let gauge = IntGauge::new;
        Self {
            requests: registered!(r, HistogramVec::new(requests, &["method", "route", "status"])),
            commits: registered!(
                r,
                IntCounterVec::new(Opts::new("esker_commits_total", "Number of commits, by result."), &["result"])
            ),
            conflicts: registered!(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "esker_commit_conflicts_total",
                        "Number of commits refused as conflicts, by the operation of their snapshot."
                    ),
                    &["operation"]
                )
            ),
            turns: registered!(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "esker_commit_turns_total",
                        "Number of turns of clients whose commits were late, by what became of them: 'used', 'late' once more, or \
                         'expired'; 'without' counts late commits that got none."
                    ),
                    &["warehouse", "outcome"]
                )
            ),
            turn_wait: registered!(
                r,
                CounterVec::new(
                    Opts::new(
                        "esker_commit_turn_wait_seconds_total",
                        "Duration in seconds for which late commits waited for their turns."
                    ),
                    &["warehouse"]
                )
            ),
            forwarded: registered!(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "esker_commits_forwarded_total",
                        "Number of commits that this server sent to the sequencer of their table, by its answer: 'committed', \
                         'refused' or 'unanswered'; 'received' counts those that other servers sent."
                    ),
                    &["warehouse", "outcome"]
                )
            ),
            commits_waiting: registered!(
                r,
                IntGaugeVec::new(
                    Opts::new(
                        "esker_commits_waiting",
                        "Number of commits of clients that wait: in the 'queue', those under way included, or, being late, for \
                         their 'turn'."
                    ),
                    &["warehouse", "place"]
                )
            ),
            batches: registered!(r, Histogram::with_opts(batches)),
            merged: registered!(
                r,
                IntCounterVec::new(
                    Opts::new("esker_commits_merged_total", "Number of late commits that were merged, by class."),
                    &["class"]
                )
            ),
            not_merged: registered!(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "esker_commits_not_merged_total",
                        "Number of late commits that the policy of their table would have merged, by the rule that forbade it."
                    ),
                    &["rule"]
                )
            ),
            servers: registered!(r, gauge("esker_servers", "Number of live servers on the state database.")),
            tables: registered!(r, gauge("esker_tables", "Number of tables in the catalog.")),
            scores: registered!(
                r,
                IntGaugeVec::new(
                    Opts::new(
                        "esker_tables_by_score",
                        "Number of tables by health score; the class 'unknown' counts those that have none."
                    ),
                    &["class"]
                )
            ),
            findings: registered!(
                r,
                IntGaugeVec::new(
                    Opts::new("esker_tables_with_finding", "Number of tables with a health finding."),
                    &["code", "severity"]
                )
            ),
            jobs: registered!(r, gauge("esker_jobs_running", "Number of maintenance jobs that run in this process.")),
            queue: registered!(
                r,
                IntGaugeVec::new(
                    Opts::new("esker_jobs", "Number of queued and running jobs on all servers."),
                    &["kind", "state"]
                )
            ),
            longest_wait: registered!(
                r,
                Gauge::new("esker_job_longest_wait_seconds", "Age in seconds of the oldest queued job that is due.")
            ),
            job_attempts: registered!(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "esker_job_attempts_total",
                        "Number of job attempts that ended in this process; 'queued' means that another attempt follows."
                    ),
                    &["warehouse", "kind", "state"]
                )
            ),
            job_seconds: registered!(
                r,
                CounterVec::new(
                    Opts::new("esker_job_seconds_total", "Duration in seconds of the job attempts that ended in this process."),
                    &["warehouse", "kind"]
                )
            ),
            job_bytes: registered!(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "esker_job_bytes_total",
                        "Size in bytes of what the job attempts that ended in this process read and wrote."
                    ),
                    &["warehouse", "kind", "direction"]
                )
            ),
            job_cpu: registered!(
                r,
                CounterVec::new(
                    Opts::new(
                        "esker_job_cpu_seconds_total",
                        "Processor time in seconds of the job attempts that ended in this process."
                    ),
                    &["warehouse", "kind"]
                )
            ),
            decisions: registered!(
                r,
                IntGaugeVec::new(
                    Opts::new("esker_autopilot_tables", "Number of tables by the autopilot's verdict."),
                    &["verdict"]
                )
            ),
            data_bytes: registered!(
                r,
                IntGaugeVec::new(
                    Opts::new("esker_warehouse_data_bytes", "Size in bytes of the live data files."),
                    &["warehouse"]
                )
            ),
            data_files: registered!(
                r,
                IntGaugeVec::new(Opts::new("esker_warehouse_data_files", "Number of live data files."), &["warehouse"])
            ),
            deletes_off: registered!(
                r,
                IntGaugeVec::new(
                    Opts::new(
                        "esker_warehouse_deletes_off",
                        "1 if database and warehouse disagree, so that no file is deleted; else 0."
                    ),
                    &["warehouse"]
                )
            ),
            unswept_tables: registered!(
                r,
                IntGaugeVec::new(
                    Opts::new(
                        "esker_quarantine_sick_tables",
                        "Number of tables whose files stay in quarantine, because the last sweep could not check them."
                    ),
                    &["warehouse"]
                )
            ),
            quarantine_files: registered!(r, gauge("esker_quarantine_files", "Number of files in quarantine.")),
            quarantine_bytes: registered!(
                r,
                gauge("esker_quarantine_bytes", "Size in bytes of the files in quarantine; unknown sizes count as zero.")
            ),
            storage: registered!(
                r,
                IntCounterVec::new(
                    Opts::new("esker_storage_requests_total", "Number of HTTP requests to cloud stores, retries included."),
                    &["warehouse", "method", "status"]
                )
            ),
            sink_lag: registered!(
                r,
                IntGaugeVec::new(
                    Opts::new("esker_event_sink_lag_events", "Number of events that a sink does not have yet."),
                    &["sink"]
                )
            ),
            sink_age: registered!(
                r,
                GaugeVec::new(
                    Opts::new("esker_event_sink_lag_seconds", "Age of the oldest event that a sink does not have yet."),
                    &["sink"]
                )
            ),
            queries_running: registered!(
                r,
                gauge("esker_queries_running", "Number of SQL statements that run or wait for admission.")
            ),
            queries: registered!(
                r,
                IntCounterVec::new(
                    Opts::new("esker_queries_total", "Number of SQL statements that ended, by result."),
                    &["result"]
                )
            ),
            cache_parts: registered!(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "esker_cache_parts_total",
                        "Number of parts of data files that queries read, by the place where they were found."
                    ),
                    &["found"]
                )
            ),
            cache_bytes: registered!(
                r,
                IntGaugeVec::new(Opts::new("esker_cache_bytes", "Size in bytes of the cached parts of data files."), &["tier"])
            ),
            damaged: registered!(
                r,
                gauge(
                    "esker_damaged_files",
                    "Number of files of current snapshots that a job or query could not read: missing or damaged."
                )
            ),
            task_restarts: registered!(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "esker_background_task_restarts_total",
                        "Number of times that a background task was started again after it failed."
                    ),
                    &["task"]
                )
            ),
            tasks_down: registered!(
                r,
                IntGaugeVec::new(
                    Opts::new("esker_background_task_down", "1 if the task failed and waits to be started again; else 0."),
                    &["task"]
                )
            ),
            certificate_ends: registered!(
                r,
                IntGaugeVec::new(
                    Opts::new(
                        "esker_tls_certificate_end_seconds",
                        "Time in seconds since the epoch at which the certificate that a port serves ends."
                    ),
                    &["port"]
                )
            ),
            access_decisions: registered!(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "esker_access_decisions_total",
                        "Number of recorded decisions of access control; 'reported' counts those that the mode on would refuse."
                    ),
                    &["outcome"]
                )
            ),
            audit_records: registered!(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "esker_audit_records_total",
                        "Number of records of the audit trail; 'lost' counts those that a full queue or the end of the server \
                         dropped, 'refused' the changes that were refused because no record could be written."
                    ),
                    &["outcome"]
                )
            ),
            audit_queued: registered!(
                r,
                IntGauge::new("esker_audit_queued_records", "Number of records of the audit trail that wait to be written.")
            ),
            limit_refusals: registered!(
                r,
                IntCounterVec::new(
                    Opts::new(
                        "esker_limit_refusals_total",
                        "Number of requests and statements that were refused because their caller had reached a limit."
                    ),
                    &["limit"]
                )
            ),
            registry,
            kept_totals: tokio::sync::Mutex::default(),
        }
    }

    /// Counts a request with its duration. `route` is the pattern of the route, not the path.
    ///
    /// A method may be any word that a client makes up. All but those of HTTP are one label, because each keeps memory for good.
    pub(crate) fn observe(&self, method: &str, route: &str, status: u16, elapsed: Duration) {
        let method = if METHODS.contains(&method) { method } else { "other" };
        let labels = [method, route, &status.to_string()];
        self.requests.with_label_values(&labels).observe(elapsed.as_secs_f64());
    }

    /// Counts a commit by its result, and a conflict by its `operation`.
    pub(crate) fn commit(&self, error: Option<&CatalogError>, operation: &str) {
        let result = error.map_or("ok", |e| e.code().iceberg_type());
        self.commits.with_label_values(&[result]).inc();
        if error.is_some_and(|error| error.code() == ErrorCode::CommitConflict) {
            self.conflicts.with_label_values(&[operation]).inc();
        }
        if let Some(CatalogError::NotMerged { refusal, .. }) = error {
            self.not_merged.with_label_values(&[refusal.rule.name()]).inc();
        }
    }

    /// Counts the batch of a commit by its size, the number of commits that share a metadata file, and a merge by its class.
    pub(crate) fn committed(&self, committed: &Committed) {
        self.batches.observe(committed.batch as f64);
        if let Some(class) = committed.merged {
            self.merged.with_label_values(&[class.name()]).inc();
        }
    }
}

/// Prints the metrics of a registry in the text format of Prometheus.
fn render(registry: &Registry) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    let encoded = TextEncoder::new().encode(&registry.gather(), &mut bytes);
    let bug = |what: String| ApiError::new(ErrorCode::Internal, what);
    encoded.map_err(|e| bug(e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| bug(e.to_string()))
}

/// Converts a number to the type of integer gauges.
fn gauge(n: impl TryInto<i64>) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}

/// Sets the metrics of the job queue, of the job attempts of this process, and of the autopilot's decisions.
async fn set_job_metrics(app: &App) -> Result<(), ApiError> {
    let (metrics, overview) = (&app.inner.metrics, app.overview());
    metrics.queue.reset();
    for (kind, state) in JobKind::ALL.into_iter().flat_map(|kind| [(kind.as_str(), "queued"), (kind.as_str(), "running")]) {
        metrics.queue.with_label_values(&[kind, state]).set(0);
    }
    let counts = overview.queue_counts().await?;
    for (kind, state, n) in counts.open {
        metrics.queue.with_label_values(&[&kind, &state]).set(n);
    }
    metrics.longest_wait.set(counts.longest_wait_ms as f64 / 1000.0);
    metrics.decisions.reset();
    for verdict in ["act", "wait", "leave"] {
        metrics.decisions.with_label_values(&[verdict]).set(0);
    }
    for (verdict, n) in overview.count_verdicts().await? {
        metrics.decisions.with_label_values(&[&verdict]).set(n);
    }
    metrics.job_attempts.reset();
    metrics.job_seconds.reset();
    metrics.job_bytes.reset();
    metrics.job_cpu.reset();
    for warehouse in app.warehouses() {
        let name = &warehouse.catalog().options().warehouse;
        // A counter must exist with 0 before the first failure, or `increase` would not show that failure.
        for kind in JobKind::ALL.map(JobKind::as_str) {
            metrics.job_seconds.with_label_values(&[name.as_str(), kind]);
            metrics.job_cpu.with_label_values(&[name.as_str(), kind]);
            for state in ["succeeded", "failed", "cancelled", "queued"] {
                metrics.job_attempts.with_label_values(&[name.as_str(), kind, state]);
            }
            for direction in ["read", "written"] {
                metrics.job_bytes.with_label_values(&[name.as_str(), kind, direction]);
            }
        }
        for (kind, stats) in warehouse.stats() {
            for (state, n) in stats.ended {
                metrics.job_attempts.with_label_values(&[name.as_str(), kind.as_str(), state]).inc_by(n);
            }
            metrics.job_seconds.with_label_values(&[name, &kind]).inc_by(stats.seconds);
            metrics.job_cpu.with_label_values(&[name, &kind]).inc_by(stats.cost.cpu_seconds);
            for (direction, bytes) in [("read", stats.cost.bytes_read), ("written", stats.cost.bytes_written)] {
                metrics.job_bytes.with_label_values(&[name.as_str(), kind.as_str(), direction]).inc_by(bytes);
            }
        }
    }
    Ok(())
}

/// Sets the metrics about commits that wait, about the turns of late ones, and about those that go to other servers.
fn set_commit_metrics(app: &App) {
    let metrics = &app.inner.metrics;
    metrics.turns.reset();
    metrics.turn_wait.reset();
    metrics.forwarded.reset();
    for catalog in app.warehouses().map(Maintenance::catalog) {
        let (name, counts) = (catalog.options().warehouse.as_str(), catalog.turn_counts());
        let outcomes = [("used", counts.used), ("late", counts.late), ("expired", counts.expired), ("without", counts.without)];
        for (outcome, n) in outcomes {
            metrics.turns.with_label_values(&[name, outcome]).inc_by(n);
        }
        metrics.turn_wait.with_label_values(&[name]).inc_by(counts.wait_seconds);
        for (place, n) in [("queue", catalog.queued_commits()), ("turn", counts.waiting)] {
            metrics.commits_waiting.with_label_values(&[name, place]).set(gauge(n));
        }
        let Some(ForwardCounts { committed, refused, unanswered, received }) = catalog.forward_counts() else { continue };
        let outcomes = [("committed", committed), ("refused", refused), ("unanswered", unanswered), ("received", received)];
        for (outcome, n) in outcomes {
            metrics.forwarded.with_label_values(&[name, outcome]).inc_by(n);
        }
    }
}

/// Sets the metrics of background tasks.
fn set_task_metrics(app: &App) {
    let metrics = &app.inner.metrics;
    metrics.task_restarts.reset();
    for (name, task) in app.tasks().all() {
        metrics.task_restarts.with_label_values(&[&name]).inc_by(task.restarts);
        metrics.tasks_down.with_label_values(&[&name]).set(i64::from(!task.running));
    }
}

/// Sets the metric of the certificates that the ports serve.
fn set_certificate_metrics(app: &App) {
    for (port, certificate) in app.certificates().all() {
        app.inner.metrics.certificate_ends.with_label_values(&[&port]).set(certificate.ends_seconds);
    }
}

/// Sets the metrics of access control.
fn set_access_metrics(app: &App) {
    let (metrics, counts) = (&app.inner.metrics, app.access().decision_counts());
    metrics.access_decisions.reset();
    for (outcome, n) in [("refused", counts.refused), ("reported", counts.reported), ("break-glass", counts.break_glass)] {
        metrics.access_decisions.with_label_values(&[outcome]).inc_by(n);
    }
    let counts = app.access().audit().counts();
    metrics.audit_records.reset();
    for (outcome, n) in [("written", counts.written), ("lost", counts.lost), ("refused", counts.refused)] {
        metrics.audit_records.with_label_values(&[outcome]).inc_by(n);
    }
    metrics.audit_queued.set(i64::try_from(counts.queued).unwrap_or(i64::MAX));
}

/// Sets the metrics about the limits of callers.
fn set_limit_metrics(app: &App) {
    let (metrics, refused) = (&app.inner.metrics, app.inner.options.principal_limits.refusals());
    metrics.limit_refusals.reset();
    for (limit, n) in [("rate", refused.rate), ("requests", refused.requests), ("statements", refused.statements)] {
        metrics.limit_refusals.with_label_values(&[limit]).inc_by(n);
    }
}

/// Returns the routes of the metrics.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(service)).routes(routes!(tables::tables))
}

/// Returns the metrics of the service.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "getMetrics",
    tag = "metrics",
    responses((status = 200, description = "The metrics, in the text format of Prometheus.", body = String), ReadErrors)
)]
pub(crate) async fn service(State(app): State<App>) -> Result<String, ApiError> {
    let metrics = &app.inner.metrics;
    fleet::fleet_totals(&app).await?.set(metrics);
    set_job_metrics(&app).await?;
    set_commit_metrics(&app);
    set_task_metrics(&app);
    set_certificate_metrics(&app);
    set_access_metrics(&app);
    set_limit_metrics(&app);
    metrics.jobs.set(gauge(app.warehouses().map(Maintenance::running).sum::<usize>()));
    metrics.servers.set(app.overview().live_servers().await?);
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
        let (events, age_ms) = app.overview().sink_lag(sink).await?;
        metrics.sink_lag.with_label_values(&[sink]).set(events);
        metrics.sink_age.with_label_values(&[sink]).set(age_ms as f64 / 1000.0);
    }
    for catalog in app.warehouses().map(Maintenance::catalog) {
        let off = i64::from(catalog.check_epoch().is_err());
        let warehouse = &catalog.options().warehouse;
        metrics.deletes_off.with_label_values(&[warehouse]).set(off);
        metrics.unswept_tables.with_label_values(&[warehouse]).set(gauge(catalog.unswept_tables()));
    }
    let (files, bytes) = app.overview().quarantine_totals().await?;
    metrics.quarantine_files.set(files);
    metrics.quarantine_bytes.set(bytes);
    render(&metrics.registry)
}

use registered;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ServiceMetrics, render};

    #[test]
    fn every_metric_has_a_valid_name_of_its_own() {
        ServiceMetrics::new();
    }

    #[test]
    fn methods_that_clients_make_up_are_counted_together() {
        let metrics = ServiceMetrics::new();
        for method in ["GET", "QUERY", "get", "X1", "X2", "X3"] {
            metrics.observe(method, "other", 405, Duration::ZERO);
        }
        let text = render(&metrics.registry).expect("metrics");
        let counts: Vec<&str> = text.lines().filter(|line| line.contains("_duration_seconds_count{")).collect();
        let of = |method: &str, count: u32| {
            format!(r#"esker_http_request_duration_seconds_count{{method="{method}",route="other",status="405"}} {count}"#)
        };
        assert_eq!(counts, [of("GET", 1), of("other", 5)]);
    }
}
