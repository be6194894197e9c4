//! Exactly-once writers: clients that find out from the table's history which of their commits were made.
//!
//! Flink, Spark's streams and Kafka Connect put a key into the summaries of their snapshots, and look for it before they commit.
//! A merge would skip that look, so a commit with such a key is refused if the same writer has committed since its base.

use esker_format::Snapshot;

/// The keys that name a Flink job and its sink together.
const FLINK: [&str; 2] = ["flink.job-id", "flink.operator-id"];
/// The key that names a streaming query of Spark.
const SPARK: &str = "spark.sql.streaming.queryId";
/// The beginning of the keys that name a topic and a consumer group of Kafka Connect. Their values are offsets, which move on.
const KAFKA: &str = "kafka.connect.offsets.";

/// Returns the key by which two snapshots are of the same exactly-once writer, or `None` if they are not.
///
/// `further` are keys that name such writers by their values.
pub(super) fn same_writer<'a>(one: &'a Snapshot, other: &Snapshot, further: &'a [String]) -> Option<&'a str> {
    let same = |key: &str| one.summary_value(key) == other.summary_value(key);
    if one.summary_value(FLINK[0]).is_some() && FLINK.into_iter().all(same) {
        return Some(FLINK[0]);
    }
    if one.summary_value(SPARK).is_some() && same(SPARK) {
        return Some(SPARK);
    }
    let own = further.iter().find(|key| one.summary_value(key).is_some() && same(key));
    if let Some(key) = own {
        return Some(key);
    }
    let keys = one.summary.iter().flatten().map(|(key, _)| key.as_str());
    keys.filter(|key| key.starts_with(KAFKA)).find(|key| other.summary_value(key).is_some())
}

#[cfg(test)]
mod tests {
    use esker_format::Extra;

    use super::*;

    fn snapshot(summary: &[(&str, &str)]) -> Snapshot {
        let summary = summary.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Snapshot {
            snapshot_id: 1,
            parent_snapshot_id: None,
            sequence_number: Some(1),
            timestamp_ms: 1,
            manifest_list: None,
            manifests: None,
            summary: Some(summary),
            schema_id: None,
            first_row_id: None,
            added_rows: None,
            key_id: None,
            extra: Extra::default(),
        }
    }

    #[test]
    fn a_writer_is_known_by_the_keys_that_it_looks_for() {
        let flink = |job: &str, operator: &str| snapshot(&[("flink.job-id", job), ("flink.operator-id", operator)]);
        let kafka = |topic: &str, offsets: &str| snapshot(&[(format!("kafka.connect.offsets.{topic}.g").as_str(), offsets)]);
        let known = |one: &Snapshot, other: &Snapshot| same_writer(one, other, &[]).map(str::to_owned);
        let by = |key: &str| Some(key.to_owned());
        let spark = |query: &str| snapshot(&[("spark.sql.streaming.queryId", query)]);
        assert_eq!(known(&flink("a", "x"), &flink("a", "x")), by("flink.job-id"));
        assert_eq!(known(&flink("a", "x"), &flink("a", "y")), None, "two sinks of one job");
        assert_eq!(known(&flink("a", "x"), &flink("b", "x")), None);
        assert_eq!(known(&spark("q"), &spark("q")), by("spark.sql.streaming.queryId"));
        assert_eq!(known(&spark("q"), &spark("r")), None);
        assert_eq!(known(&kafka("t", "{\"0\":1}"), &kafka("t", "{\"0\":2}")), by("kafka.connect.offsets.t.g"));
        assert_eq!(known(&kafka("t", "{}"), &kafka("u", "{}")), None);
        assert_eq!(known(&snapshot(&[]), &spark("q")), None, "a writer without a key");
        assert_eq!(known(&snapshot(&[]), &snapshot(&[])), None);
        let further = ["my.pipeline".to_owned()];
        let own = |value: &str| snapshot(&[("my.pipeline", value)]);
        assert_eq!(same_writer(&own("a"), &own("a"), &further), Some("my.pipeline"));
        assert_eq!(same_writer(&own("a"), &own("b"), &further), None);
    }
}
