//! The snapshots and references that an expiry may remove.
//!
//! Each branch keeps its newest snapshots by number and by age. On top of the specification's rules, two kinds of snapshots are
//! kept: very young ones, and the newest of each streaming writer, which finds its progress there. Start reading at
//! [`snapshots_to_expire`]. Spec: "Snapshot Retention Policy".

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use esker_format::{MAIN_BRANCH, Snapshot, SnapshotReference, TableMetadata, branch_at};
use esker_types::{DurationMillis, Millis, format_count};
use serde::{Deserialize, Serialize};

use crate::properties::{EXPIRE_MIN_AGE, MAX_REF_AGE, MAX_SNAPSHOT_AGE, MIN_SNAPSHOTS, WRITER_STATE, check_retention};
use crate::{Result, ancestors};

/// The caller's limits for an expiry.
///
/// A limit that is `None` comes from the table's properties (`history.expire.*`), or else from the specification's defaults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExpiryPolicy {
    /// The time before which snapshots may be expired, in milliseconds since the Unix epoch.
    pub older_than_ms: Option<Millis>,
    /// The number of newest snapshots to keep on each branch that has no setting of its own.
    pub retain_last: Option<usize>,
}

/// The snapshots and references of a table that may be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expirable {
    /// The ids of the snapshots to remove, the oldest first.
    pub expire: Vec<i64>,
    /// The names of the references to remove, in the order of the alphabet.
    pub expire_refs: Vec<String>,
    /// The reason that keeps each other snapshot, for people, by the snapshot's id. It names the reference or the limit.
    pub kept: BTreeMap<i64, String>,
}

impl Expirable {
    /// Says why no snapshot can be removed: each reason with the number of snapshots that it keeps, the most first.
    pub fn why_all_stay(&self) -> String {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        self.kept.values().for_each(|reason| *counts.entry(reason).or_default() += 1);
        let mut counts: Vec<(&str, u64)> = counts.into_iter().collect();
        counts.sort_by_key(|(_, n)| Reverse(*n));
        let reasons: Vec<String> =
            counts.into_iter().map(|(reason, n)| format!("{}: {reason}", format_count(n, "snapshot"))).collect();
        if reasons.is_empty() { "the table has no snapshot".to_owned() } else { reasons.join("; ") }
    }
}

/// The limits of an expiry, each with the name of the option or property that sets it.
struct Limits {
    /// The time before which snapshots go, in milliseconds since the Unix epoch.
    older_than: (Millis, String),
    /// The number of newest snapshots that stay on each branch.
    keep_last: (usize, &'static str),
    /// The age from which references go.
    max_ref_age: DurationMillis,
    /// The time after which snapshots are too young to go, in milliseconds since the Unix epoch.
    just_added: Millis,
    /// The time since which the progress of a streaming writer is kept, in milliseconds since the Unix epoch.
    state_since: Millis,
}

impl Limits {
    /// Takes each limit from the policy, or else from the table's properties.
    fn of(metadata: &TableMetadata, policy: ExpiryPolicy, now: Millis) -> Result<Self> {
        // An invalid property may be meant to keep more than the default or the caller asks for.
        let properties = &metadata.properties;
        check_retention(properties)?;
        let max_age = MAX_SNAPSHOT_AGE.of(properties);
        Ok(Self {
            older_than: match policy.older_than_ms {
                Some(at) => (at, "not older than the option older-than-ms asks for".to_owned()),
                None => (now.saturating_sub(max_age), format!("not older than {max_age} ms ({})", MAX_SNAPSHOT_AGE.key)),
            },
            keep_last: match policy.retain_last {
                Some(n) => (n.max(1), "the option retain-last"),
                None => (MIN_SNAPSHOTS.of(properties).max(1), MIN_SNAPSHOTS.key),
            },
            max_ref_age: MAX_REF_AGE.of(properties),
            just_added: protected_since(metadata, now)?,
            state_since: now.saturating_sub(WRITER_STATE.of(properties)),
        })
    }

    /// Adds the snapshots that a reference which stays keeps, each with the reason, unless it has one.
    fn keep_of(
        &self,
        metadata: &TableMetadata,
        (name, reference): (&str, &SnapshotReference),
        now: Millis,
        kept: &mut BTreeMap<i64, String>,
    ) {
        let head = metadata.snapshots.get(reference.snapshot_id);
        let ancestors = || ancestors(metadata, head);
        if reference.is_branch() {
            let own = reference.min_snapshots_to_keep.and_then(|n| usize::try_from(n).ok());
            let (at_least, by) = own.map_or(self.keep_last, |n| (n.max(1), "its min-snapshots-to-keep"));
            let (oldest, too_young) = match reference.max_snapshot_age_ms {
                Some(age) => (now.saturating_sub(age), format!("not older than {age} ms (max-snapshot-age-ms of branch {name})")),
                None => self.older_than.clone(),
            };
            for (i, s) in ancestors().enumerate().take_while(|(i, s)| *i < at_least || s.timestamp_ms >= oldest) {
                match i {
                    0 => keep(kept, s, || format!("the head of branch {name}")),
                    i if i < at_least => keep(kept, s, || format!("among the newest {at_least} of branch {name} ({by})")),
                    _ => keep(kept, s, || too_young.clone()),
                }
            }
        } else if let Some(head) = head {
            // A tag keeps its own snapshot only, not the ancestors.
            keep(kept, head, || format!("held by tag {name}"));
        }
        let mut writers = BTreeSet::new();
        let recent = ancestors().take_while(|s| s.timestamp_ms >= self.state_since).enumerate();
        let newest = recent.filter(|(_, s)| streaming_writer(s).is_some_and(|writer| writers.insert(writer)));
        let depth = newest.map(|(i, _)| i + 1).last().unwrap_or(0);
        let reason = || format!("needed by a streaming writer of {name} ({})", WRITER_STATE.key);
        ancestors().take(depth).for_each(|s| keep(kept, s, reason));
    }
}

/// Adds a snapshot with the reason that keeps it, unless it has one.
fn keep(kept: &mut BTreeMap<i64, String>, snapshot: &Snapshot, reason: impl FnOnce() -> String) {
    kept.entry(snapshot.snapshot_id).or_insert_with(reason);
}

/// Identifies the streaming writer of a snapshot; `None` if no known one wrote it.
///
/// Flink's committer, Kafka Connect's coordinator and Spark's streaming sink record their progress in the summary. After a restart
/// they walk from the head of the branch to the newest snapshot that has it. If a snapshot on the way is missing, they stop and
/// commit the same rows again.
fn streaming_writer(snapshot: &Snapshot) -> Option<String> {
    let summary = snapshot.summary.as_ref()?;
    let value = |key: &str| summary.get(key).map_or("", String::as_str);
    if summary.contains_key("flink.max-committed-checkpoint-id") {
        return Some(format!("flink {} {}", value("flink.job-id"), value("flink.operator-id")));
    }
    if let Some(query) = summary.get("spark.sql.streaming.queryId") {
        return Some(format!("spark {query}"));
    }
    summary.keys().find(|key| key.starts_with("kafka.connect.offsets.")).cloned()
}

/// Returns the time after which snapshots are too young to be expired, in milliseconds since the Unix epoch.
///
/// # Errors
///
/// Returns [`TableError::Property`](crate::TableError::Property) if `esker.expire.min-age-ms` cannot be parsed.
pub fn protected_since(metadata: &TableMetadata, now: Millis) -> Result<Millis> {
    Ok(now.saturating_sub(EXPIRE_MIN_AGE.get_valid(&metadata.properties)?))
}

/// Selects the snapshots and references that may be removed.
///
/// `refs` are the references to judge, `now` is in milliseconds since the Unix epoch. Beyond the specification it keeps the current
/// snapshot and very young snapshots. It also keeps the newest snapshot of each streaming writer, and all between it and the head.
///
/// Spec: "Snapshot Retention Policy".
///
/// # Errors
///
/// Returns [`TableError::Property`](crate::TableError::Property) if a property about retention cannot be parsed.
///
/// ```
/// use esker_format::TableMetadata;
/// use esker_table::{ExpiryPolicy, snapshots_to_expire};
/// use esker_types::DAY_MS;
///
/// # let head = r#"{"format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "s3://lake/db/t",
/// #   "last-sequence-number": 3, "last-updated-ms": 259200000, "last-column-id": 1, "current-schema-id": 0,
/// #   "schemas": [{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "id", "required": true, "type": "long"}]}],
/// #   "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}], "last-partition-id": 999,
/// #   "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}], "current-snapshot-id": 3,
/// #   "refs": {"main": {"snapshot-id": 3, "type": "branch"}}, "snapshots": ["#;
/// # let snapshot = |id: i64| format!(r#"{{"snapshot-id": {id}, "parent-snapshot-id": {}, "sequence-number": {id},
/// #   "timestamp-ms": {}, "manifest-list": "s3://lake/db/t/metadata/{id}.avro", "summary": {{"operation": "append"}},
/// #   "schema-id": 0}}"#, id - 1, id * DAY_MS);
/// # let metadata = TableMetadata::from_json(
/// #     format!("{head}{}]}}", [1, 2, 3].map(snapshot).join(",")).as_bytes())?;
/// // `metadata` has snapshots 1, 2 and 3, of the first, second and third day. It is day 30 now.
/// let policy = ExpiryPolicy { retain_last: Some(2), ..ExpiryPolicy::default() };
/// let expirable = snapshots_to_expire(&metadata, &metadata.refs, policy, 30 * DAY_MS)?;
/// assert_eq!(expirable.expire, [1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn snapshots_to_expire(
    metadata: &TableMetadata,
    refs: &BTreeMap<String, SnapshotReference>,
    policy: ExpiryPolicy,
    now: Millis,
) -> Result<Expirable> {
    let limits = Limits::of(metadata, policy, now)?;
    let mut kept = BTreeMap::new();
    let mut referenced = BTreeSet::new();
    let mut expire_refs = Vec::new();
    // Readers see `current-snapshot-id`, even if `main` points elsewhere.
    let main = refs.get(MAIN_BRANCH).map(|main| main.snapshot_id);
    let current = metadata.current_snapshot_id.filter(|id| main != Some(*id)).map(branch_at);
    let main = MAIN_BRANCH.to_owned();
    for (name, reference) in refs.iter().chain(current.as_ref().map(|current| (&main, current))) {
        let head = metadata.snapshots.get(reference.snapshot_id);
        let max_age = reference.max_ref_age_ms.unwrap_or(limits.max_ref_age);
        if name != MAIN_BRANCH && head.is_none_or(|h| now.saturating_sub(h.timestamp_ms) > max_age) {
            expire_refs.push(name.clone());
            continue;
        }
        match reference.is_branch() {
            true => referenced.extend(ancestors(metadata, head).map(|s| s.snapshot_id)),
            false => referenced.extend(head.map(|s| s.snapshot_id)),
        }
        limits.keep_of(metadata, (name.as_str(), reference), now, &mut kept);
    }
    let mut expire: Vec<_> = Vec::new();
    for s in &metadata.snapshots {
        let id = s.snapshot_id;
        if kept.contains_key(&id) {
            continue;
        }
        if s.timestamp_ms > limits.just_added {
            let age = EXPIRE_MIN_AGE.of(&metadata.properties);
            kept.insert(id, format!("younger than {age} ms ({})", EXPIRE_MIN_AGE.key));
        } else if !referenced.contains(&id) && s.timestamp_ms >= limits.older_than.0 {
            // A snapshot that no reference reaches (rolled back, or staged by write-audit-publish) is judged by age alone.
            kept.insert(id, limits.older_than.1.clone());
        } else {
            expire.push(s);
        }
    }
    expire.sort_by_key(|s| (s.timestamp_ms, s.snapshot_id));
    Ok(Expirable { expire: expire.iter().map(|s| s.snapshot_id).collect(), expire_refs, kept })
}

#[cfg(test)]
mod tests {
    use esker_types::DAY_MS;

    use super::*;

    /// Creates a table with the snapshots `(id, parent, timestamp)`, with `main` at `head` and the given other references.
    fn table(snapshots: &[(i64, Option<i64>, i64)], head: i64, refs: &serde_json::Value) -> TableMetadata {
        let snapshots: Vec<_> = snapshots
            .iter()
            .enumerate()
            .map(|(i, (id, parent, ts))| {
                let mut snapshot = serde_json::json!({"snapshot-id": id, "sequence-number": i + 1, "timestamp-ms": ts,
                    "manifest-list": format!("file:///t/{id}.avro"), "summary": {"operation": "append"}, "schema-id": 0});
                if let Some(parent) = parent {
                    snapshot["parent-snapshot-id"] = (*parent).into();
                }
                snapshot
            })
            .collect();
        let mut all = serde_json::json!({"main": {"snapshot-id": head, "type": "branch"}});
        for (name, reference) in refs.as_object().expect("an object") {
            all[name] = reference.clone();
        }
        let json = serde_json::json!({"format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1",
            "location": "file:///t", "last-sequence-number": snapshots.len(), "last-updated-ms": 1000, "last-column-id": 1,
            "schemas": [{"type": "struct", "schema-id": 0,
                "fields": [{"id": 1, "name": "x", "required": false, "type": "long"}]}], "current-schema-id": 0,
            "partition-specs": [{"spec-id": 0, "fields": []}], "default-spec-id": 0, "last-partition-id": 999,
            "sort-orders": [{"order-id": 0, "fields": []}], "default-sort-order-id": 0, "properties": {"esker.expire.min-age-ms": "0"},
            "current-snapshot-id": head, "snapshots": snapshots, "refs": all});
        serde_json::from_value(json).expect("valid metadata")
    }

    fn expired(metadata: &TableMetadata, older_than: Millis, retain_last: usize, now: Millis) -> (Vec<i64>, Vec<String>) {
        let policy = ExpiryPolicy { older_than_ms: Some(older_than), retain_last: Some(retain_last) };
        let verdict = snapshots_to_expire(metadata, &metadata.refs, policy, now).expect("a verdict");
        (verdict.expire, verdict.expire_refs)
    }

    const LINE: [(i64, Option<i64>, i64); 4] = [(1, None, 10), (2, Some(1), 20), (3, Some(2), 30), (4, Some(3), 40)];

    #[test]
    fn age_and_count_decide_on_the_main_branch() {
        let t = table(&LINE, 4, &serde_json::json!({}));
        assert_eq!(expired(&t, 30, 1, 100).0, [1, 2]);
        assert_eq!(expired(&t, 99, 1, 100).0, [1, 2, 3]);
        assert_eq!(expired(&t, 99, 3, 100).0, [1]);
        assert_eq!(expired(&t, 0, 1, 100).0, [0_i64; 0]);
    }

    #[test]
    fn a_kept_snapshot_names_the_reference_or_the_limit_that_keeps_it() {
        let why = |t: &TableMetadata, older_than_ms, retain_last| {
            let policy = ExpiryPolicy { older_than_ms, retain_last };
            snapshots_to_expire(t, &t.refs, policy, 100).expect("a verdict").why_all_stay()
        };
        let fresh = table(&LINE, 4, &serde_json::json!({}));
        let fresh = with(fresh, |json| json["properties"]["esker.expire.min-age-ms"] = "600".into());
        let min_age = "3 snapshots: younger than 600 ms (esker.expire.min-age-ms)";
        assert_eq!(why(&fresh, Some(100), None), format!("{min_age}; 1 snapshot: the head of branch main"));
        let by_default = "3 snapshots: not older than 432000000 ms (history.expire.max-snapshot-age-ms)";
        assert_eq!(why(&fresh, None, None), format!("{by_default}; 1 snapshot: the head of branch main"));
        let tagged = table(&LINE, 4, &serde_json::json!({"audit": {"snapshot-id": 1, "type": "tag"}}));
        let newest = "2 snapshots: among the newest 3 of branch main (the option retain-last)";
        let others = "1 snapshot: held by tag audit; 1 snapshot: the head of branch main";
        assert_eq!(why(&tagged, Some(100), Some(3)), format!("{newest}; {others}"));
        assert_eq!(Expirable::default().why_all_stay(), "the table has no snapshot");
    }

    #[test]
    fn a_tag_keeps_its_snapshot_and_an_old_branch_goes() {
        let refs = serde_json::json!({"audit": {"snapshot-id": 1, "type": "tag"},
            "old": {"snapshot-id": 2, "type": "branch", "max-ref-age-ms": 50}});
        let t = table(&LINE, 4, &refs);
        assert_eq!(expired(&t, 99, 1, 100), (vec![2, 3], vec!["old".to_owned()]));
        assert_eq!(expired(&t, 99, 1, 60), (vec![3], vec![]));
    }

    #[test]
    fn what_led_to_a_tag_goes_by_age() {
        // 4 is tagged and main was rolled back to 2. As in Java, a tag references its own snapshot only, so nothing references 3.
        let t = table(&LINE, 2, &serde_json::json!({"audit": {"snapshot-id": 4, "type": "tag"}}));
        assert_eq!(expired(&t, 25, 1, 100).0, [1]);
        assert_eq!(expired(&t, 35, 1, 100).0, [1, 3]);
    }

    #[test]
    fn a_snapshot_off_every_branch_goes_by_age() {
        let t = table(&[(1, None, 10), (2, Some(1), 20), (9, Some(1), 25)], 2, &serde_json::json!({}));
        assert_eq!(expired(&t, 22, 1, 100).0, [1]);
        assert_eq!(expired(&t, 26, 1, 100).0, [1, 9]);
    }

    fn with(mut t: TableMetadata, change: impl FnOnce(&mut serde_json::Value)) -> TableMetadata {
        let mut json = serde_json::to_value(&t).expect("JSON");
        change(&mut json);
        t = serde_json::from_value(json).expect("valid metadata");
        t
    }

    #[test]
    fn what_readers_see_stays_though_main_is_elsewhere() {
        let t = with(table(&LINE, 2, &serde_json::json!({})), |json| json["current-snapshot-id"] = 4.into());
        assert_eq!(expired(&t, 99, 1, 100).0, [1, 3]);
    }

    #[test]
    fn what_was_just_added_stays() {
        let t = with(table(&LINE, 4, &serde_json::json!({})), |json| json["properties"]["esker.expire.min-age-ms"] = "75".into());
        assert_eq!(expired(&t, 99, 1, 100).0, [1, 2]);
    }

    #[test]
    fn the_newest_snapshot_of_each_streaming_writer_is_reached_from_the_head() {
        let t = with(table(&LINE, 4, &serde_json::json!({})), |json| {
            for snapshot in json["snapshots"].as_array_mut().expect("snapshots") {
                let key = match snapshot["snapshot-id"].as_i64() {
                    Some(1) => "spark.sql.streaming.queryId",
                    Some(2 | 3) => "flink.max-committed-checkpoint-id",
                    _ => continue,
                };
                snapshot["summary"] = serde_json::json!({"operation": "append", key: "7"});
            }
        });
        assert_eq!(expired(&t, 99, 1, 100).0, [0_i64; 0], "of the query, there is but the first");
        assert_eq!(expired(&t, 99, 1, 7 * DAY_MS + 15).0, [1, 2], "Flink's newest is the third, and the first is too old");
        assert_eq!(expired(&t, 99, 1, 8 * DAY_MS).0, [1, 2, 3]);
    }

    proptest::proptest! {
        /// Checks for any history that heads and the promised number of newest snapshots are kept.
        #[test]
        fn heads_and_the_promised_count_always_stay(
            parents in proptest::collection::vec(0_usize..8, 1..12),
            head in 0_usize..12, older_than in 0_i64..200, retain in 1_usize..5,
        ) {
            let history: Vec<(i64, Option<i64>, i64)> = parents.iter().enumerate().map(|(i, p)| {
                let parent = (i > 0).then(|| i64::try_from(p % i).expect("small") + 1);
                let i = i64::try_from(i).expect("small");
                (i + 1, parent, i * 10)
            }).collect();
            let head = i64::try_from(head % parents.len()).expect("small") + 1;
            let t = table(&history, head, &serde_json::json!({}));
            let (gone, _) = expired(&t, older_than, retain, 1000);
            let line: Vec<i64> = std::iter::successors(Some(head), |id| {
                history[usize::try_from(*id).expect("small") - 1].1
            }).collect();
            for (i, id) in line.iter().enumerate() {
                if i < retain {
                    proptest::prop_assert!(!gone.contains(id), "{id} is among the newest {retain}");
                }
            }
            for (id, _, ts) in &history {
                if *ts >= older_than && line.iter().all(|l| l != id) {
                    proptest::prop_assert!(!gone.contains(id), "{id} is young");
                }
            }
        }
    }
}
