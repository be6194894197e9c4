//! The rules: one function for each finding.
//!
//! [`ALL`] holds the rules that read the facts of a table: its shape and its properties. [`unreadable`], [`damaged_files`] and
//! [`damaged_snapshots`] report files that could not be read. Most rules compute points up to a maximum, and the share of the
//! maximum gives the severity. `docs/findings.md` gives each threshold to users; keep it in step. Start reading at [`small_files`].

use esker_table::{DeleteFacts, TableFacts};
use esker_types::{DAY_MS, Millis, format_bytes, format_count, is_or_are, without_path};

use crate::{Damage, Finding, Severity};

/// A rule that reads the facts of a table: it returns a finding, or `None` if the table is fine. The time is the present, in
/// milliseconds since the Unix epoch.
type Rule = fn(&TableFacts, Millis) -> Option<Finding>;

/// All rules that read the facts of a table.
pub(crate) const ALL: [Rule; 8] = [
    small_files,
    equality_deletes,
    position_deletes,
    deletion_vectors,
    many_snapshots,
    many_manifests,
    large_metadata,
    bad_properties,
];

/// The number of damaged files that a finding names.
const MAX_NAMED_FILES: usize = 5;

/// Reports a table whose facts cannot be collected.
///
/// It costs all points, because nothing is known of the table's shape. `passing` is true if the reason may pass by itself.
pub(crate) fn unreadable(why: &str, passing: bool) -> Finding {
    let (severity, recommendation) = match passing {
        true => (Severity::Warning, "it may pass, and Esker tries again every minute; check that the storage answers"),
        false => (Severity::Critical, "restore the named file from the store's versions or a backup"),
    };
    let recommendation = format!("{recommendation}; the autopilot does nothing to the table meanwhile");
    Finding { code: "unreadable", severity, points: 100, evidence: why.to_owned(), recommendation }
}

/// Lists the first damaged files, then the number of further ones.
fn damaged_files_text(damage: &[&Damage]) -> String {
    let describe = |damage: &&Damage| {
        let how = match damage.missing {
            true => "is gone".to_owned(),
            false => format!("is damaged: {}", without_path(&damage.error, &damage.path)),
        };
        let of = damage.snapshot_id.map_or_else(String::new, |id| format!("snapshot {id}: "));
        format!("{of}{} {how} ({})", damage.path, damage.met_by)
    };
    let mut named: Vec<String> = damage.iter().take(MAX_NAMED_FILES).map(describe).collect();
    if damage.len() > MAX_NAMED_FILES {
        named.push(format!("and {} more", damage.len() - MAX_NAMED_FILES));
    }
    named.join("; ")
}

/// Reports unreadable files of earlier snapshots.
///
/// The files do not belong to the current snapshot, so they cost its readers nothing. Jobs that must know every file that the table
/// refers to are refused until the files are restored.
pub(crate) fn damaged_snapshots(damage: &[Damage]) -> Option<Finding> {
    let damage: Vec<&Damage> = damage.iter().filter(|file| file.snapshot_id.is_some()).collect();
    (!damage.is_empty()).then(|| Finding {
        code: "damaged-snapshots",
        severity: Severity::Warning,
        points: 20,
        evidence: damaged_files_text(&damage),
        recommendation: "restore the files from the store's versions or a backup, or drop the branches and tags that need \
                         the snapshots and expire them: esker maintain expire TABLE --older-than AGE; until then orphan \
                         scans and erasures of the table are refused, and none of its files in quarantine is deleted"
            .to_owned(),
    })
}

/// Reports unreadable data and delete files of the current snapshot.
pub(crate) fn damaged_files(damage: &[Damage]) -> Option<Finding> {
    let damage: Vec<&Damage> = damage.iter().filter(|file| file.snapshot_id.is_none()).collect();
    (!damage.is_empty()).then(|| Finding {
        code: "damaged-files",
        severity: Severity::Critical,
        points: 60,
        evidence: damaged_files_text(&damage),
        recommendation:
            "restore the files from the store's versions or a backup, or delete their rows and load them again from the table's \
                         source; `esker explain FILE` shows what Esker knows of a file"
                .to_owned(),
    })
}

/// Reports properties whose values cannot be parsed. Esker uses another value than the owner meant, or leaves an operation off.
fn bad_properties(facts: &TableFacts, _now: Millis) -> Option<Finding> {
    let named: Vec<String> = facts.bad_properties.iter().map(ToString::to_string).collect();
    (!named.is_empty()).then(|| Finding {
        code: "bad-property",
        severity: Severity::Warning,
        points: 5,
        evidence: named.join("; "),
        recommendation: "set the property to a valid value, or remove it".to_owned(),
    })
}

/// Computes the points of a share: `max_points` points from a share of `full_share` on, and proportionally fewer below it.
fn points(max_points: u32, share: f64, full_share: f64) -> u32 {
    (f64::from(max_points) * (share / full_share).clamp(0.0, 1.0)).round() as u32
}

fn severity(points: u32, most: u32) -> Severity {
    match points * 4 {
        p if p >= most * 3 => Severity::Critical,
        p if p >= most => Severity::Warning,
        _ => Severity::Info,
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Reports more data files than the data needs. Each file costs a request, a footer and a manifest entry.
///
/// The ideal number of files is counted for each partition, so a partition with one small file is fine.
fn small_files(facts: &TableFacts, _now: Millis) -> Option<Finding> {
    const MAX_POINTS: u32 = 40;
    let excess = facts.data_files.saturating_sub(facts.ideal_files);
    if excess < 5 {
        return None;
    }
    // Ten files instead of one are an excess of 0.9 and cost all points.
    let points = points(MAX_POINTS, ratio(excess, facts.data_files), 0.9);
    let fullest = facts.fullest_partition.as_ref().filter(|_| facts.partitions > 1);
    let worst = fullest.map_or_else(String::new, |(name, files)| format!("; partition {name} alone has {files}"));
    Some(Finding {
        code: "small-files",
        severity: severity(points, MAX_POINTS),
        points,
        evidence: format!(
            "{} of {} on average, where {} of {} would hold the same rows ({} {} under three quarters of the target){worst}",
            format_count(facts.data_files, "data file"),
            format_bytes(facts.data_bytes / facts.data_files.max(1)),
            facts.ideal_files,
            format_bytes(facts.target_file_bytes),
            facts.small_files,
            is_or_are(facts.small_files),
        ),
        recommendation: format!("compact: {} to open in a full scan", format_count(excess, "fewer file")),
    })
}

/// Reports delete files of one kind, of which `one` is the singular.
///
/// The points reach `max_points` when the share of deleted rows is `full_share`. They reach half of it when deletes apply to every
/// data file, however few the rows are. The facts count the data files to which deletes of any kind apply. So `affected`, the data
/// files to which deletes of this kind apply, is an upper bound if the table has other kinds as well.
fn delete_finding(
    code: &'static str,
    one: &str,
    (max_points, full_share): (u32, f64),
    (deletes, affected): (&DeleteFacts, u64),
    facts: &TableFacts,
) -> Option<Finding> {
    if deletes.files == 0 {
        return None;
    }
    let bound = if facts.deletes().files > deletes.files { "at most " } else { "" };
    let share = ratio(deletes.records, facts.records).max(ratio(affected, facts.data_files) * full_share / 2.0);
    let points = points(max_points, share, full_share).max(1);
    Some(Finding {
        code,
        severity: severity(points, max_points),
        points,
        evidence: format!(
            "{} with {} ({}) for {}; {bound}{affected} of {} {} affected",
            format_count(deletes.files, one),
            format_count(deletes.records, "delete"),
            format_bytes(deletes.bytes),
            format_count(facts.records, "row"),
            format_count(facts.data_files, "data file"),
            is_or_are(affected),
        ),
        recommendation: "compact: rewrite the affected data files, so that readers need not apply the deletes".to_owned(),
    })
}

/// Reports equality deletes, which cost most: every reader holds the keys in memory and tests every row against them.
fn equality_deletes(facts: &TableFacts, _now: Millis) -> Option<Finding> {
    let deletes = (&facts.equality_deletes, facts.files_with_deletes);
    delete_finding("equality-deletes", "equality delete file", (25, 0.1), deletes, facts)
}

fn position_deletes(facts: &TableFacts, _now: Millis) -> Option<Finding> {
    let deletes = (&facts.position_deletes, facts.files_with_deletes);
    delete_finding("position-deletes", "position delete file", (15, 0.2), deletes, facts)
}

fn deletion_vectors(facts: &TableFacts, _now: Millis) -> Option<Finding> {
    // A deletion vector applies to one data file.
    let deletes = (&facts.deletion_vectors, facts.files_with_deletes.min(facts.deletion_vectors.files));
    delete_finding("deletion-vectors", "deletion vector", (10, 0.3), deletes, facts)
}

/// Reports many or old snapshots. They keep replaced files in storage, and enlarge the metadata file that every commit rewrites.
fn many_snapshots(facts: &TableFacts, now: Millis) -> Option<Finding> {
    const MAX_POINTS: u32 = 20;
    let age_days = facts.oldest_snapshot_ms.map_or(0, |ms| now.saturating_sub(ms) / DAY_MS);
    if facts.snapshots <= 50 && (facts.snapshots <= 1 || age_days <= 30) {
        return None;
    }
    let points = points(MAX_POINTS, facts.snapshots as f64, 500.0).max(2);
    Some(Finding {
        code: "many-snapshots",
        severity: severity(points, MAX_POINTS),
        points,
        evidence: format!(
            "{}, the oldest {} old",
            format_count(facts.snapshots, "snapshot"),
            format_count(age_days.unsigned_abs(), "day")
        ),
        recommendation: "expire snapshots; branches, tags and what the retention properties protect are kept".to_owned(),
    })
}

/// Reports more manifests than the target size of manifests needs. Planning opens manifests, and each costs a request.
fn many_manifests(facts: &TableFacts, _now: Millis) -> Option<Finding> {
    const MAX_POINTS: u32 = 10;
    let ideal = facts.manifest_bytes.div_ceil(facts.target_manifest_bytes.max(1)).max(1);
    let excess = facts.manifests.saturating_sub(ideal);
    if excess < 10 {
        return None;
    }
    let points = points(MAX_POINTS, excess as f64, 100.0);
    Some(Finding {
        code: "many-manifests",
        severity: severity(points, MAX_POINTS),
        points,
        evidence: format!(
            "{} of {} on average, {} of them with deletes",
            format_count(facts.manifests, "manifest"),
            format_bytes(facts.manifest_bytes / facts.manifests.max(1)),
            facts.delete_manifests,
        ),
        recommendation: "rewrite manifests: fewer, and each about few partitions".to_owned(),
    })
}

/// Reports a large metadata file. Every commit rewrites the file, and every load without a cache reads it.
fn large_metadata(facts: &TableFacts, _now: Millis) -> Option<Finding> {
    const MAX_POINTS: u32 = 10;
    const LARGE: u64 = 1 << 20;
    if facts.metadata_bytes < LARGE {
        return None;
    }
    let points = points(MAX_POINTS, facts.metadata_bytes as f64, (16 * LARGE) as f64).max(1);
    Some(Finding {
        code: "large-metadata",
        severity: severity(points, MAX_POINTS),
        points,
        evidence: format!(
            "the metadata file has {}; it lists {} and {}",
            format_bytes(facts.metadata_bytes),
            format_count(facts.snapshots, "snapshot"),
            format_count(facts.metadata_log, "earlier metadata file"),
        ),
        recommendation: "expire snapshots; consider write.metadata.compression-codec=gzip".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_table::BadProperty;

    use crate::assess;

    const NOW: Millis = 1_700_000_000_000;

    fn healthy() -> TableFacts {
        TableFacts {
            target_manifest_bytes: 8 << 20,
            format_version: 2,
            data_files: 12,
            data_bytes: 12 << 29,
            records: 1_000_000,
            ideal_files: 12,
            target_file_bytes: 512 << 20,
            partitions: 12,
            snapshots: 3,
            oldest_snapshot_ms: Some(NOW - DAY_MS),
            last_commit_ms: NOW,
            manifests: 2,
            manifest_bytes: 20_000,
            ..TableFacts::default()
        }
    }

    #[test]
    fn every_code_is_listed() {
        let deletes = DeleteFacts { files: 3, records: 200_000, bytes: 9000 };
        let facts = TableFacts {
            data_files: 400,
            data_bytes: 4 << 20,
            equality_deletes: deletes,
            position_deletes: deletes,
            deletion_vectors: deletes,
            files_with_deletes: 400,
            snapshots: 9000,
            manifests: 900,
            metadata_bytes: 9 << 20,
            bad_properties: vec![bad_property()],
            ..healthy()
        };
        let mut found = codes(&facts);
        let damage = [missing_file("a"), Damage { snapshot_id: Some(1), ..missing_file("b") }];
        found.extend(assess(Err(Some(("gone", false))), &damage, NOW).findings.iter().map(|f| f.code));
        found.sort_unstable();
        let mut all = crate::CODES.to_vec();
        all.sort_unstable();
        assert_eq!(found, all);
    }

    fn codes(facts: &TableFacts) -> Vec<&'static str> {
        assess(Ok(facts), &[], NOW).findings.iter().map(|f| f.code).collect()
    }

    fn bad_property() -> BadProperty {
        let text = str::to_owned;
        BadProperty { key: text("k"), value: text("v"), expects: text("a number"), instead: text("7 is used") }
    }

    fn missing_file(path: &str) -> Damage {
        let (error, met_by) = ("not found".to_owned(), "job 7".to_owned());
        Damage { path: path.to_owned(), missing: true, error, met_by, snapshot_id: None }
    }

    #[test]
    fn a_file_of_an_earlier_snapshot_is_a_warning_that_names_both() {
        let earlier = Damage { snapshot_id: Some(42), ..missing_file("snap-42.avro") };
        let found = assess(Ok(&healthy()), &[missing_file("f"), earlier.clone()], NOW).findings;
        assert_eq!(found.iter().map(|f| f.code).collect::<Vec<_>>(), ["damaged-files", "damaged-snapshots"]);
        assert!(!found[0].evidence.contains("snap-42.avro"), "{}", found[0].evidence);
        let alone = assess(Ok(&healthy()), &[earlier], NOW);
        assert_eq!((alone.score, alone.findings[0].severity), (80, Severity::Warning));
        assert_eq!(alone.findings[0].evidence, "snapshot 42: snap-42.avro is gone (job 7)");
        assert!(alone.findings[0].recommendation.contains("expire"), "{}", alone.findings[0].recommendation);
    }

    #[test]
    fn what_cant_be_read_is_critical_and_named() {
        let unavailable = assess(Err(Some(("m.avro: timed out", true))), &[], NOW);
        assert_eq!(
            (unavailable.findings[0].code, unavailable.findings[0].severity, unavailable.score),
            ("unreadable", Severity::Warning, 0)
        );
        let unreadable = assess(Err(Some(("m.avro: not found", false))), &[], NOW);
        assert_eq!(
            (unreadable.score, unreadable.findings[0].code, unreadable.findings[0].severity),
            (0, "unreadable", Severity::Critical)
        );
        assert_eq!(unreadable.findings[0].evidence, "m.avro: not found");
        let files: Vec<Damage> = (0..9).map(|i| missing_file(&format!("f{i}"))).collect();
        let damaged = assess(Ok(&healthy()), &files, NOW);
        assert_eq!(
            (damaged.score, damaged.findings[0].code, damaged.findings[0].severity),
            (40, "damaged-files", Severity::Critical)
        );
        let evidence = &damaged.findings[0].evidence;
        assert!(evidence.contains("f0 is gone (job 7)") && evidence.contains("and 4 more"), "{evidence}");
        let misconfigured = assess(Ok(&TableFacts { bad_properties: vec![bad_property()], ..healthy() }), &[], NOW);
        assert_eq!(misconfigured.findings[0].evidence, "table property k = \"v\" is not a number; 7 is used");
    }

    #[test]
    fn a_healthy_and_an_empty_table_have_nothing_to_complain_about() {
        assert_eq!(assess(Ok(&healthy()), &[], NOW).score, 100);
        assert_eq!(assess(Ok(&TableFacts::default()), &[], NOW).score, 100);
    }

    #[test]
    fn each_ill_is_found_by_itself_and_the_worst_comes_first() {
        let small = TableFacts { data_files: 400, small_files: 400, data_bytes: 4 << 20, ..healthy() };
        assert_eq!(codes(&small), ["small-files"]);
        let deletes = DeleteFacts { files: 3, records: 200_000, bytes: 9000 };
        let eq = TableFacts { equality_deletes: deletes, files_with_deletes: 12, ..healthy() };
        assert_eq!(codes(&eq), ["equality-deletes"]);
        assert_eq!(assess(Ok(&eq), &[], NOW).findings[0].severity, Severity::Critical);
        let old = TableFacts { snapshots: 9000, metadata_bytes: 9 << 20, ..healthy() };
        assert_eq!(codes(&old), ["many-snapshots", "large-metadata"]);
        let all = TableFacts { snapshots: 9000, equality_deletes: deletes, files_with_deletes: 400, ..small };
        assert_eq!(codes(&all), ["small-files", "equality-deletes", "many-snapshots"]);
        assert_eq!(assess(Ok(&all), &[], NOW).score, 100 - 40 - 25 - 20);
    }

    #[test]
    fn one_deletion_vector_among_many_equality_deletes_affects_one_data_file() {
        let one = DeleteFacts { files: 1, records: 1, bytes: 40 };
        let many = DeleteFacts { files: 9, records: 200_000, bytes: 9000 };
        let mixed = TableFacts { equality_deletes: many, deletion_vectors: one, files_with_deletes: 12, ..healthy() };
        let found = assess(Ok(&mixed), &[], NOW).findings;
        let [equality, vector] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((vector.code, vector.points), ("deletion-vectors", 1));
        assert!(vector.evidence.contains("; at most 1 of 12 data files"), "{}", vector.evidence);
        assert!(equality.evidence.contains("; at most 12 of 12 data files"), "{}", equality.evidence);
        let alone = TableFacts { equality_deletes: many, files_with_deletes: 7, ..healthy() };
        let found = assess(Ok(&alone), &[], NOW).findings;
        assert!(found[0].evidence.contains("; 7 of 12 data files"), "{}", found[0].evidence);
    }

    #[test]
    fn evidence_of_one_thing_is_in_the_singular() {
        let evidence = |facts: &TableFacts| assess(Ok(facts), &[], NOW).findings.remove(0).evidence;
        let one = DeleteFacts { files: 1, records: 1, bytes: 1331 };
        let deleted = TableFacts { position_deletes: one, files_with_deletes: 1, data_files: 1, records: 4000, ..healthy() };
        let text = "1 position delete file with 1 delete (1.3 KiB) for 4000 rows; 1 of 1 data file is affected";
        assert_eq!(evidence(&deleted), text);
        let many = TableFacts { snapshots: 60, ..healthy() };
        assert_eq!(evidence(&many), "60 snapshots, the oldest 1 day old");
        let large = TableFacts { metadata_bytes: 1 << 20, snapshots: 1, metadata_log: 1, ..healthy() };
        assert_eq!(evidence(&large), "the metadata file has 1.0 MiB; it lists 1 snapshot and 1 earlier metadata file");
        let small = TableFacts { data_files: 20, small_files: 1, partitions: 1, ..healthy() };
        assert!(evidence(&small).contains("(1 is under three quarters"), "{}", evidence(&small));
    }

    #[test]
    fn more_excess_never_scores_better() {
        let score = |files| assess(Ok(&TableFacts { data_files: files, ..healthy() }), &[], NOW).score;
        let scores: Vec<u32> = (12..600).step_by(7).map(score).collect();
        assert!(scores.windows(2).all(|w| w[1] <= w[0]), "{scores:?}");
    }
}
