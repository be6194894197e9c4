//! Labels of partitions and values for people, and directories of new files.
//!
//! Any value of any type has a label. Nothing is looked up or compared by a label: two values may share one, and
//! [`PartitionKey`](crate::PartitionKey) identifies a partition. Start reading at [`partition_label`].

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};
use esker_format::{PartitionField, PartitionSpec, TableMetadata, Transform, Value};

/// Formats a partition for people: `day=2013-01-01/carrier=UA`, or `all` for an unpartitioned spec.
///
/// A string that could be mistaken is quoted: `carrier="null"` is a string, `carrier=null` is a missing value.
pub fn partition_label(metadata: &TableMetadata, spec_id: i32, partition: &[Option<Value>]) -> String {
    match metadata.partition_spec_by_id(spec_id) {
        Some(spec) => label(spec, partition),
        None => format!("unknown spec {spec_id}"),
    }
}

fn label(spec: &PartitionSpec, partition: &[Option<Value>]) -> String {
    if spec.is_unpartitioned() {
        return "all".to_owned();
    }
    let field = |(at, field): (usize, &PartitionField)| {
        format!("{}={}", field.name(), field_label(field.transform(), partition.get(at).and_then(Option::as_ref)))
    };
    spec.fields().iter().enumerate().map(field).collect::<Vec<_>>().join("/")
}

fn field_label(transform: &Transform, value: Option<&Value>) -> String {
    match value {
        None => "null".to_owned(),
        _ if *transform == Transform::Void => "null".to_owned(),
        Some(value) => time_label(transform, value).unwrap_or_else(|| match value {
            Value::String(text) => text_label(text),
            value => value_label(value),
        }),
    }
}

/// Formats a string, in quotes if it could be mistaken for a missing value or for the next field.
fn text_label(text: &str) -> String {
    let plain = text != "null" && !text.is_empty() && !text.contains(['=', '"', '\\']) && !text.contains(char::is_control);
    if plain { text.to_owned() } else { format!("{text:?}") }
}

/// Formats a value for people: dates and times in ISO form, binary values in hexadecimal.
///
/// A date or time that the calendar cannot represent is shown as its number.
pub fn value_label(value: &Value) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    let or_number = |text: Option<String>, number: i64| text.unwrap_or_else(|| number.to_string());
    let at = |v: i64, a_second: i64, zone: &str| or_number(timestamp(v, a_second).map(|t| format!("{t}{zone}")), v);
    match value {
        Value::Boolean(v) => v.to_string(),
        Value::Int(v) => v.to_string(),
        Value::Long(v) => v.to_string(),
        Value::Float(v) => v.to_string(),
        Value::Double(v) => v.to_string(),
        Value::Decimal { unscaled, scale } => decimal(*unscaled, *scale),
        Value::Date(days) => or_number(date(*days).map(|d| d.to_string()), (*days).into()),
        Value::Time(micros) => or_number(time(*micros).map(|t| t.to_string()), *micros),
        Value::Timestamp(v) => at(*v, 1_000_000, ""),
        Value::Timestamptz(v) => at(*v, 1_000_000, " UTC"),
        Value::TimestampNs(v) => at(*v, 1_000_000_000, ""),
        Value::TimestamptzNs(v) => at(*v, 1_000_000_000, " UTC"),
        Value::String(v) => v.to_string(),
        Value::Uuid(v) => v.to_string(),
        Value::Fixed(v) | Value::Binary(v) => hex(v),
        nested @ (Value::Struct(_) | Value::List(_) | Value::Map(_)) => format!("{nested:?}"),
    }
}

fn date(days: i32) -> Option<NaiveDate> {
    DateTime::from_timestamp(i64::from(days) * 86_400, 0).map(|t| t.date_naive())
}

fn time(micros: i64) -> Option<NaiveTime> {
    let seconds = u32::try_from(micros.div_euclid(1_000_000)).ok()?;
    NaiveTime::from_num_seconds_from_midnight_opt(seconds, u32::try_from(micros.rem_euclid(1_000_000)).ok()? * 1000)
}

/// Converts a point in time, which counts from 1970 with `a_second` units for each second.
fn timestamp(v: i64, a_second: i64) -> Option<NaiveDateTime> {
    let nanos = u32::try_from(v.rem_euclid(a_second) * (1_000_000_000 / a_second)).ok()?;
    DateTime::from_timestamp(v.div_euclid(a_second), nanos).map(|t| t.naive_utc())
}

fn decimal(unscaled: i128, scale: u32) -> String {
    let scale = scale as usize;
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale.saturating_add(1).min(100));
    let (whole, rest) = digits.split_at(digits.len().saturating_sub(scale));
    let sign = if unscaled < 0 { "-" } else { "" };
    if rest.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{rest}") }
}

/// Formats the ordinal of a time transform: `2013`, `2013-07`, `2013-07-04`, `2013-07-04-16`.
fn time_label(transform: &Transform, value: &Value) -> Option<String> {
    let (Value::Int(v) | Value::Date(v)) = *value else { return None };
    match transform {
        Transform::Year => Some(format!("{:04}", v.checked_add(1970)?)),
        Transform::Month => Some(format!("{:04}-{:02}", 1970 + v.div_euclid(12), v.rem_euclid(12) + 1)),
        Transform::Day => Some(date(v)?.to_string()),
        Transform::Hour => Some(format!("{}-{:02}", date(v.div_euclid(24))?, v.rem_euclid(24))),
        _ => None,
    }
}

/// Returns the directory of a partition's new files, with a slash at its end.
///
/// It is the partition's label, or empty if the label is no plain path ([`dir_of_label`]).
pub fn partition_dir(spec: &PartitionSpec, partition: &[Option<Value>]) -> String {
    dir_of_label(&label(spec, partition))
}

/// The largest length of a directory's name, in bytes. File systems allow 255.
const MAX_NAME_BYTES: usize = 200;

/// The largest length of a partition's directories, in bytes. S3 allows keys of 1,024.
const MAX_PATH_BYTES: usize = 500;

/// Returns the directory of new files of the partition with this label, with a slash at its end.
///
/// It is empty for the label `all`, and for a label with characters or lengths that some storage refuses.
pub fn dir_of_label(label: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '=' | '_' | '-' | '/');
    let short = label.len() <= MAX_PATH_BYTES && label.split('/').all(|name| name.len() <= MAX_NAME_BYTES);
    if label != "all" && short && label.chars().all(plain) { format!("{label}/") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use esker_format::UnboundPartitionField;
    use proptest::prelude::*;

    use super::*;
    use crate::PartitionKey;
    use crate::partition::tests::value;

    fn spec(fields: &[(&str, Transform)]) -> PartitionSpec {
        let field = |(i, (name, transform)): (usize, &(&str, Transform))| {
            UnboundPartitionField::new(i32::try_from(i).expect("few") + 1, *name, transform.clone())
        };
        PartitionSpec::new(0, fields.iter().enumerate().map(field).collect())
    }

    fn any_value() -> impl Strategy<Value = Option<Value>> {
        let ints = prop_oneof![any::<i32>(), Just(i32::MIN), Just(i32::MAX)];
        let longs = prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)];
        let decimal = (prop_oneof![any::<i128>(), Just(i128::MIN)], 0_u32..60);
        prop_oneof![
            value(),
            ints.prop_flat_map(|v| prop_oneof![Just(Some(Value::Int(v))), Just(Some(Value::Date(v)))]),
            longs.prop_flat_map(|v| {
                let all =
                    [Value::Long, Value::Time, Value::Timestamp, Value::Timestamptz, Value::TimestampNs, Value::TimestamptzNs];
                (0..all.len()).prop_map(move |at| Some(all[at](v)))
            }),
            decimal.prop_map(|(unscaled, scale)| Some(Value::Decimal { unscaled, scale })),
        ]
    }

    fn any_transform() -> impl Strategy<Value = Transform> {
        prop_oneof![
            Just(Transform::Identity),
            Just(Transform::Bucket(4)),
            Just(Transform::Truncate(4)),
            Just(Transform::Year),
            Just(Transform::Month),
            Just(Transform::Day),
            Just(Transform::Hour),
            Just(Transform::Void),
            Just(Transform::Unknown("zorder".into())),
        ]
    }

    fn text(text: &str) -> Option<Value> {
        Some(Value::String(text.into()))
    }

    proptest! {
        #[test]
        fn a_label_never_panics(transform in any_transform(), value in any_value()) {
            let text = label(&spec(&[("p", transform)]), &[value]);
            prop_assert!(text == "all" || text.starts_with("p="));
        }

        /// Checks that two partitions of strings never have the same label.
        #[test]
        fn labels_of_texts_tell_partitions_apart(
            all in prop::collection::vec((prop::option::of("[nul/b=\"]{0,6}|null"), prop::option::of("[nul/b=\"]{0,6}|null")), 2..20),
        ) {
            let spec = spec(&[("a", Transform::Identity), ("b", Transform::Truncate(4))]);
            let tuples: Vec<[Option<Value>; 2]> =
                all.iter().map(|(a, b)| [a.as_deref().and_then(text), b.as_deref().and_then(text)]).collect();
            let mut seen: HashMap<String, PartitionKey<'_>> = HashMap::new();
            for values in &tuples {
                let key = PartitionKey::new(0, values);
                prop_assert_eq!(seen.entry(label(&spec, values)).or_insert(key.clone()), &key);
            }
        }
    }

    #[test]
    fn a_missing_value_and_the_text_null_read_differently() {
        let spec = spec(&[("a", Transform::Identity), ("b", Transform::Identity)]);
        let of = |a: Option<&str>, b: Option<&str>| label(&spec, &[a.and_then(text), b.and_then(text)]);
        assert_eq!(of(None, Some("null")), "a=null/b=\"null\"");
        assert_eq!(of(Some("Europe/Berlin"), Some("x y")), "a=Europe/Berlin/b=x y");
        assert_ne!(of(Some("1/b=2"), Some("3")), of(Some("1"), Some("2/b=3")));
    }

    #[test]
    fn values_read_as_people_write_them() {
        let decimal = |unscaled, scale| Value::Decimal { unscaled, scale };
        for (value, text) in [
            (decimal(-5, 2), "-0.05"),
            (decimal(12_300, 2), "123.00"),
            (decimal(7, 0), "7"),
            (Value::Date(1), "1970-01-02"),
            (Value::Date(i32::MAX), "2147483647"),
            (Value::Time(1), "00:00:00.000001"),
            (Value::Timestamp(-1), "1969-12-31 23:59:59.999999"),
            (Value::Timestamptz(0), "1970-01-01 00:00:00 UTC"),
            (Value::Long(5), "5"),
            (Value::Binary([1, 255].into()), "01FF"),
        ] {
            assert_eq!(value_label(&value), text);
        }
    }

    #[test]
    fn time_partitions_read_as_people_write_them() {
        let label = |transform: Transform, v| time_label(&transform, &Value::Int(v)).expect("a label");
        assert_eq!(label(Transform::Month, 522), "2013-07");
        assert_eq!(label(Transform::Month, -1), "1969-12");
        assert_eq!(label(Transform::Day, 0), "1970-01-01");
        assert_eq!(label(Transform::Hour, 25), "1970-01-02-01");
    }

    #[test]
    fn a_directory_is_a_plain_label() {
        let spec = spec(&[("p", Transform::Identity)]);
        let dir = |v: Option<&str>| partition_dir(&spec, &[v.and_then(text)]);
        assert_eq!(dir(Some("UA")), "p=UA/");
        assert_eq!(dir(None), "p=null/");
        assert_eq!(dir(Some("null")), "");
        assert_eq!(dir(Some(&"x".repeat(300))), "", "file systems take names of 255 bytes");
        assert_eq!(dir_of_label(&["x=1"; 200].join("/")), "", "S3 takes keys of 1,024 bytes");
    }
}
