//! Health of a table: facts and damage in, findings and a score out. Pure; does no I/O.
//!
//! Every finding says what was seen (evidence), how bad it is (severity and the points it costs) and what to do. The score
//! is 100 less the points of all findings.

mod rules;

use esker_table::TableFacts;
use esker_types::Millis;
use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Costs readers noticeably.
    Warning,
    /// Costs readers or the catalog dearly, and grows.
    Critical,
}

impl Severity {
    /// In lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Severity {
    /// All, the mildest first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];
}

/// The codes of all findings.
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

/// Something about a table that costs its users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable name: `small-files`, `equality-deletes`, …
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Points that it takes off the score.
    pub points: u32,
    /// What was seen, with numbers.
    pub evidence: String,
    /// What to do.
    pub recommendation: String,
}

/// The verdict on a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Assessment {
    /// 0 (sick) to 100 (well).
    pub score: u32,
    /// The worst first.
    pub findings: Vec<Finding>,
}

/// A file of the table that somebody could not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: String,
    /// It is gone; else it is there, and not what its metadata says.
    pub missing: bool,
    /// What was met.
    pub error: String,
    /// What met it first: a job, a query.
    pub met_by: String,
    /// The earlier snapshot that leads to it; none: it is a data or delete file of the current one.
    pub snapshot_id: Option<i64>,
}

/// Judges a table at the time `now` (milliseconds since the epoch): by its facts, or by why they can't be had and whether that may pass,
/// and by what is known of its files.
pub fn assess(facts: Result<&TableFacts, Option<(&str, bool)>>, damage: &[Damage], now: Millis) -> Assessment {
    let mut findings: Vec<Finding> = match facts {
        Ok(facts) => rules::ALL.iter().filter_map(|rule| rule(facts, now)).collect(),
        Err(Some((why, passing))) => vec![rules::unreadable(why, passing)],
        // It was not looked at yet.
        Err(None) => Vec::new(),
    };
    findings.extend(rules::damaged(damage));
    findings.extend(rules::damaged_snapshots(damage));
    findings.sort_by(|a, b| b.points.cmp(&a.points).then(a.code.cmp(b.code)));
    let lost: u32 = findings.iter().map(|f| f.points).sum();
    Assessment { score: 100_u32.saturating_sub(lost), findings }
}

/// A number of bytes for people: `3.4 MiB`.
pub fn bytes_for_people(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}
