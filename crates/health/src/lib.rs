//! Judges the health of a table: computes findings and a score from the table's facts and its damaged files. The crate does no I/O.
//!
//! Each finding has evidence, a severity, points and a recommendation. The score is 100 minus the points of all findings.
//! The rules are in `rules`, one function for each finding; `docs/findings.md` explains them to users. Start reading at [`assess`].

mod rules;

use esker_table::TableFacts;
use esker_types::Millis;
use serde::Serialize;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The finding is worth knowing.
    Info,
    /// The finding costs readers noticeably.
    Warning,
    /// The finding costs readers or the catalog much, and grows.
    Critical,
}

impl Severity {
    /// Returns the name in lower case, as in JSON and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Severity {
    /// All severities, the mildest first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];
}

/// The codes of all findings, in the order of `docs/findings.md`. A test checks that no rule has another code.
pub const CODES: [&str; 11] = [
    "unreadable",
    "damaged-files",
    "damaged-snapshots",
    "bad-property",
    "small-files",
    "equality-deletes",
    "position-deletes",
    "deletion-vectors",
    "many-snapshots",
    "many-manifests",
    "large-metadata",
];

/// One thing about a table that costs its users, with evidence and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Finding {
    /// The stable name of the kind of finding, one of [`CODES`]: `small-files`, `equality-deletes`, …
    pub code: &'static str,
    /// The severity of the finding.
    pub severity: Severity,
    /// The points that the finding takes off the score, 0 to 100.
    pub points: u32,
    /// The observation, with numbers and names of files.
    pub evidence: String,
    /// The remedy.
    pub recommendation: String,
}

/// The score and the findings of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Assessment {
    /// The score from 0 (worst) to 100 (best): 100 minus the points of all findings, never below 0.
    pub score: u32,
    /// The findings, those with the most points first, then by code.
    pub findings: Vec<Finding>,
}

/// A file of a table that a job or a query could not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The location of the file.
    pub path: String,
    /// True if the file is missing; false if it exists but contradicts its metadata or cannot be decoded.
    pub missing: bool,
    /// The error of the read that failed.
    pub error: String,
    /// The reader that first failed to read the file: a job with its id, or a query.
    pub met_by: String,
    /// The earlier snapshot that refers to the file; `None` for a data or delete file of the current snapshot.
    pub snapshot_id: Option<i64>,
}

/// Judges a table by its facts and by the damage known of its files.
///
/// `facts` is `Err(Some((reason, is_transient)))` if the facts could not be collected. `is_transient` is true if the reason may
/// pass by itself. `Err(None)` means that the table was not assessed yet. `now` is in milliseconds since the Unix epoch.
///
/// ```
/// use esker_health::assess;
/// use esker_table::TableFacts;
///
/// let facts = TableFacts { data_files: 400, small_files: 400, ideal_files: 1, data_bytes: 4 << 20, ..TableFacts::default() };
/// let assessment = assess(Ok(&facts), &[], 0);
/// assert!(assessment.score < 100);
/// assert_eq!(assessment.findings[0].code, "small-files");
/// ```
pub fn assess(facts: Result<&TableFacts, Option<(&str, bool)>>, damage: &[Damage], now: Millis) -> Assessment {
    let mut findings: Vec<Finding> = match facts {
        Ok(facts) => rules::ALL.iter().filter_map(|rule| rule(facts, now)).collect(),
        Err(Some((why, passing))) => vec![rules::unreadable(why, passing)],
        // The table was not assessed yet, so no rule about its shape can run.
        Err(None) => Vec::new(),
    };
    findings.extend(rules::damaged_files(damage));
    findings.extend(rules::damaged_snapshots(damage));
    findings.sort_by(|a, b| b.points.cmp(&a.points).then(a.code.cmp(b.code)));
    let lost: u32 = findings.iter().map(|f| f.points).sum();
    Assessment { score: 100_u32.saturating_sub(lost), findings }
}
