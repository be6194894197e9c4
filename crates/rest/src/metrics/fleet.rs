//! The sums over all tables, on `/metrics`.
//!
//! A scrape assesses all tables, page by page. Of a large fleet that takes seconds, so its sums are kept for 20 times as long as they
//! took: they cost 5 % of a core at most. Start reading at [`fleet_totals`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use esker_catalog::{Authority, CatalogError};
use esker_health::{CODES, Severity};
use esker_state::TabularRow;

use super::{ServiceMetrics, gauge};
use crate::App;
use crate::health::TableAssessment;

/// The time for which the sums over a large fleet are kept, in multiples of the time that they took.
const KEPT: u32 = 20;

/// The sums over the tables of all warehouses.
#[derive(Debug, Default)]
pub(super) struct FleetTotals {
    tables: u64,
    damaged_files: usize,
    /// Bytes and number of the data files, by warehouse.
    data: BTreeMap<String, (i64, i64)>,
    /// Number of tables by the class of their score.
    scores: BTreeMap<&'static str, i64>,
    /// Number of tables by code and severity of a finding.
    findings: BTreeMap<(&'static str, &'static str), i64>,
}

impl FleetTotals {
    /// Adds a table.
    fn add(&mut self, assessed: &TableAssessment) {
        self.tables += 1;
        self.damaged_files += assessed.damaged;
        if let Ok(facts) = &assessed.facts {
            let (bytes, files) = self.data.entry(assessed.warehouse.clone()).or_default();
            *bytes = bytes.saturating_add(gauge(facts.data_bytes));
            *files = files.saturating_add(gauge(facts.data_files));
        }
        let class = match assessed.score() {
            Some(90..) => "90-100",
            Some(70..) => "70-89",
            Some(50..) => "50-69",
            Some(_) => "0-49",
            None => "unknown",
        };
        *self.scores.entry(class).or_default() += 1;
        for finding in &assessed.assessment.findings {
            *self.findings.entry((finding.code, finding.severity.as_str())).or_default() += 1;
        }
    }

    /// Sets the metrics. Classes and findings that no table has are 0.
    pub(super) fn set(&self, metrics: &ServiceMetrics) {
        metrics.tables.set(gauge(self.tables));
        metrics.damaged.set(gauge(self.damaged_files));
        metrics.scores.reset();
        for class in ["90-100", "70-89", "50-69", "0-49", "unknown"] {
            metrics.scores.with_label_values(&[class]).set(self.scores.get(class).copied().unwrap_or_default());
        }
        metrics.findings.reset();
        for (code, severity) in CODES.iter().flat_map(|code| Severity::ALL.map(|severity| (*code, severity.as_str()))) {
            metrics.findings.with_label_values(&[code, severity]).set(0);
        }
        for ((code, severity), n) in &self.findings {
            metrics.findings.with_label_values(&[*code, *severity]).set(*n);
        }
        metrics.data_bytes.reset();
        metrics.data_files.reset();
        for (warehouse, (bytes, files)) in &self.data {
            metrics.data_bytes.with_label_values(&[warehouse.as_str()]).set(*bytes);
            metrics.data_files.with_label_values(&[warehouse.as_str()]).set(*files);
        }
    }
}

/// Sums that were taken before.
#[derive(Debug)]
pub(super) struct KeptTotals {
    totals: Arc<FleetTotals>,
    /// The time at which they were complete.
    at: Instant,
    /// The time that they took.
    took: Duration,
}

/// Returns the sums over all tables as of now; over a large fleet, as of a while ago.
///
/// Two scrapes at once share the work. It goes on if a scrape is given up, so that the next one finds the sums.
///
/// # Errors
///
/// Returns [`State`](CatalogError::State) if the database fails, and [`Encode`](CatalogError::Encode) if new facts can't be written
/// as JSON.
pub(super) async fn fleet_totals(app: &App) -> Result<Arc<FleetTotals>, CatalogError> {
    let app = app.clone();
    let work = tokio::spawn(async move {
        let mut kept = app.inner.metrics.kept_totals.lock().await;
        let is_large = app.has_large_fleet().await?;
        if let Some(kept) = kept.as_ref().filter(|kept| is_large && kept.at.elapsed() < kept.took * KEPT) {
            return Ok(kept.totals.clone());
        }
        let (began, mut totals) = (Instant::now(), FleetTotals::default());
        app.visit_fleet(&Authority::Server, &|_: &TabularRow| true, |assessed| totals.add(&assessed)).await?;
        let totals = Arc::new(totals);
        *kept = Some(KeptTotals { totals: totals.clone(), at: Instant::now(), took: began.elapsed() });
        Ok::<_, CatalogError>(totals)
    });
    work.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
