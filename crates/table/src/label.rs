//! Partitions and values for people. Nothing is looked up or compared by these texts, and any value of any type has one.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};
use iceberg::spec::{
    Literal, PartitionField, PartitionSpec, PrimitiveLiteral, PrimitiveType, Schema, Struct, TableMetadata, Transform, Type,
};

use crate::partition_types;

/// A partition for people: `day=2013-01-01/carrier=UA`, or `all` for an unpartitioned spec. A text that could be taken for something
/// else is in quotes: `carrier="null"` is a text, `carrier=null` is none.
pub fn partition_label(metadata: &TableMetadata, spec_id: i32, partition: &Struct) -> String {
    let Some(spec) = metadata.partition_spec_by_id(spec_id) else { return format!("unknown spec {spec_id}") };
    label(spec, &partition_types(metadata, spec_id), partition)
}

fn label(spec: &PartitionSpec, types: &[Option<PrimitiveType>], partition: &Struct) -> String {
    if spec.is_unpartitioned() {
        return "all".to_owned();
    }
    let field = |(at, field): (usize, &PartitionField)| {
        let value = partition.iter().nth(at).flatten();
        format!("{}={}", field.name, value_label(field.transform, types.get(at).and_then(Option::as_ref), value))
    };
    spec.fields().iter().enumerate().map(field).collect::<Vec<_>>().join("/")
}

fn value_label(transform: Transform, ty: Option<&PrimitiveType>, value: Option<&Literal>) -> String {
    match value {
        None => "null".to_owned(),
        _ if transform == Transform::Void => "null".to_owned(),
        Some(Literal::Primitive(value)) => time_label(transform, value).unwrap_or_else(|| match value {
            PrimitiveLiteral::String(text) => text_label(text),
            value => literal_label(ty, value),
        }),
        Some(nested) => format!("{nested:?}"),
    }
}

/// A text as it is, or in quotes where it could be taken for no value, or for the next field.
fn text_label(text: &str) -> String {
    let plain = text != "null" && !text.is_empty() && !text.contains(['=', '"', '\\']) && !text.contains(char::is_control);
    if plain { text.to_owned() } else { format!("{text:?}") }
}

/// A value for people, of whatever type it should be.
pub fn literal_label(ty: Option<&PrimitiveType>, value: &PrimitiveLiteral) -> String {
    let known = match (ty, value) {
        (Some(PrimitiveType::Date), PrimitiveLiteral::Int(days)) => date(*days).map(|d| d.to_string()),
        (Some(PrimitiveType::Time), PrimitiveLiteral::Long(micros)) => time(*micros).map(|t| t.to_string()),
        (Some(PrimitiveType::Timestamp), PrimitiveLiteral::Long(v)) => timestamp(*v, 1_000_000).map(|t| t.to_string()),
        (Some(PrimitiveType::Timestamptz), PrimitiveLiteral::Long(v)) => timestamp(*v, 1_000_000).map(|t| format!("{t} UTC")),
        (Some(PrimitiveType::TimestampNs), PrimitiveLiteral::Long(v)) => timestamp(*v, 1_000_000_000).map(|t| t.to_string()),
        (Some(PrimitiveType::TimestamptzNs), PrimitiveLiteral::Long(v)) => {
            timestamp(*v, 1_000_000_000).map(|t| format!("{t} UTC"))
        }
        (Some(PrimitiveType::Decimal { scale, .. }), PrimitiveLiteral::Int128(v)) => Some(decimal(*v, *scale)),
        _ => None,
    };
    known.unwrap_or_else(|| match value {
        PrimitiveLiteral::Boolean(v) => v.to_string(),
        PrimitiveLiteral::Int(v) => v.to_string(),
        PrimitiveLiteral::Long(v) => v.to_string(),
        PrimitiveLiteral::Float(v) => v.to_string(),
        PrimitiveLiteral::Double(v) => v.to_string(),
        PrimitiveLiteral::String(v) => v.clone(),
        PrimitiveLiteral::Binary(v) => v.iter().map(|byte| format!("{byte:02X}")).collect(),
        PrimitiveLiteral::Int128(v) => v.to_string(),
        PrimitiveLiteral::UInt128(v) => uuid::Uuid::from_u128(*v).to_string(),
        PrimitiveLiteral::AboveMax => "above every value".to_owned(),
        PrimitiveLiteral::BelowMin => "below every value".to_owned(),
    })
}

pub(crate) fn date(days: i32) -> Option<NaiveDate> {
    DateTime::from_timestamp(i64::from(days) * 86_400, 0).map(|t| t.date_naive())
}

pub(crate) fn time(micros: i64) -> Option<NaiveTime> {
    let seconds = u32::try_from(micros.div_euclid(1_000_000)).ok()?;
    NaiveTime::from_num_seconds_from_midnight_opt(seconds, u32::try_from(micros.rem_euclid(1_000_000)).ok()? * 1000)
}

/// A point in time, counted from 1970 in so many units a second.
pub(crate) fn timestamp(v: i64, a_second: i64) -> Option<NaiveDateTime> {
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

/// The ordinal of a time transform as people write it: `2013`, `2013-07`, `2013-07-04`, `2013-07-04-16`.
fn time_label(transform: Transform, value: &PrimitiveLiteral) -> Option<String> {
    let PrimitiveLiteral::Int(v) = *value else { return None };
    match transform {
        Transform::Year => Some(format!("{:04}", v.checked_add(1970)?)),
        Transform::Month => Some(format!("{:04}-{:02}", 1970 + v.div_euclid(12), v.rem_euclid(12) + 1)),
        Transform::Day => Some(date(v)?.to_string()),
        Transform::Hour => Some(format!("{}-{:02}", date(v.div_euclid(24))?, v.rem_euclid(24))),
        _ => None,
    }
}

/// The directory of a partition's new files, with a slash at its end: its label, where that is a plain path, or else none.
pub fn partition_dir(spec: &PartitionSpec, schema: &Schema, partition: &Struct) -> String {
    let ty = |field: &PartitionField| {
        let source: &Type = schema.field_by_id(field.source_id)?.field_type.as_ref();
        field.transform.result_type(source).ok()?.as_primitive_type().cloned()
    };
    plain_dir(&label(spec, &spec.fields().iter().map(ty).collect::<Vec<_>>(), partition))
}

/// The directory of new files of a partition with a label, with a slash at its end: the label, where that is a plain path, or else none.
pub fn plain_dir(label: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '=' | '_' | '-' | '/');
    if label != "all" && label.chars().all(plain) { format!("{label}/") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use iceberg::spec::UnboundPartitionSpec;
    use proptest::prelude::*;

    use super::*;
    use crate::PartitionKey;
    use crate::partition::tests::value;

    fn spec(fields: &[(&str, Transform)]) -> PartitionSpec {
        let fields = fields.iter().enumerate().map(|(i, (name, transform))| {
            serde_json::json!({"source-id": i + 1, "field-id": 1000 + i, "name": name, "transform": transform})
        });
        let json = serde_json::json!({"spec-id": 0, "fields": fields.collect::<Vec<_>>()});
        serde_json::from_value(json).expect("a spec")
    }

    fn any_type() -> impl Strategy<Value = Option<PrimitiveType>> {
        let decimal = (1_u32..39, 0_u32..60).prop_map(|(precision, scale)| PrimitiveType::Decimal { precision, scale });
        let types = prop_oneof![
            Just(PrimitiveType::Boolean),
            Just(PrimitiveType::Int),
            Just(PrimitiveType::Long),
            Just(PrimitiveType::Float),
            Just(PrimitiveType::Double),
            Just(PrimitiveType::Date),
            Just(PrimitiveType::Time),
            Just(PrimitiveType::Timestamp),
            Just(PrimitiveType::Timestamptz),
            Just(PrimitiveType::TimestampNs),
            Just(PrimitiveType::TimestamptzNs),
            Just(PrimitiveType::String),
            Just(PrimitiveType::Uuid),
            Just(PrimitiveType::Fixed(3)),
            Just(PrimitiveType::Binary),
            decimal,
        ];
        prop::option::weighted(0.9, types)
    }

    fn any_value() -> impl Strategy<Value = Option<Literal>> {
        let int = prop_oneof![any::<i32>(), Just(i32::MIN), Just(i32::MAX)].prop_map(Literal::int);
        let long = prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)].prop_map(Literal::long);
        let decimal = prop_oneof![any::<i128>(), Just(i128::MIN)].prop_map(Literal::decimal);
        prop_oneof![value(), int.prop_map(Some), long.prop_map(Some), decimal.prop_map(Some)]
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
            Just(Transform::Unknown),
        ]
    }

    proptest! {
        #[test]
        fn a_label_never_panics(transform in any_transform(), ty in any_type(), value in any_value()) {
            let text = label(&spec(&[("p", transform)]), &[ty], &Struct::from_iter([value]));
            prop_assert!(text == "all" || text.starts_with("p="));
        }

        /// Two partitions of texts never read the same.
        #[test]
        fn labels_of_texts_tell_partitions_apart(
            all in prop::collection::vec((prop::option::of("[nul/b=\"]{0,6}|null"), prop::option::of("[nul/b=\"]{0,6}|null")), 2..20),
        ) {
            let spec = spec(&[("a", Transform::Identity), ("b", Transform::Truncate(4))]);
            let structs: Vec<Struct> = all.into_iter()
                .map(|(a, b)| Struct::from_iter([a.map(Literal::string), b.map(Literal::string)])).collect();
            let mut seen: HashMap<String, PartitionKey<'_>> = HashMap::new();
            for values in &structs {
                let key = PartitionKey::new(0, values);
                let text = label(&spec, &[Some(PrimitiveType::String), Some(PrimitiveType::String)], values);
                prop_assert_eq!(seen.entry(text).or_insert(key.clone()), &key);
            }
        }
    }

    #[test]
    fn a_missing_value_and_the_text_null_read_differently() {
        let spec = spec(&[("a", Transform::Identity), ("b", Transform::Identity)]);
        let types = [Some(PrimitiveType::String), Some(PrimitiveType::String)];
        let of = |a: Option<&str>, b: Option<&str>| {
            label(&spec, &types, &Struct::from_iter([a.map(Literal::string), b.map(Literal::string)]))
        };
        assert_eq!(of(None, Some("null")), "a=null/b=\"null\"");
        assert_eq!(of(Some("Europe/Berlin"), Some("x y")), "a=Europe/Berlin/b=x y");
        assert_ne!(of(Some("1/b=2"), Some("3")), of(Some("1"), Some("2/b=3")));
    }

    #[test]
    fn values_read_as_people_write_them() {
        let text = |ty: PrimitiveType, value: PrimitiveLiteral| literal_label(Some(&ty), &value);
        let decimal = |scale| PrimitiveType::Decimal { precision: 10, scale };
        assert_eq!(text(decimal(2), PrimitiveLiteral::Int128(-5)), "-0.05");
        assert_eq!(text(decimal(2), PrimitiveLiteral::Int128(12_300)), "123.00");
        assert_eq!(text(decimal(0), PrimitiveLiteral::Int128(7)), "7");
        assert_eq!(text(PrimitiveType::Date, PrimitiveLiteral::Int(1)), "1970-01-02");
        assert_eq!(text(PrimitiveType::Date, PrimitiveLiteral::Int(i32::MAX)), "2147483647");
        assert_eq!(text(PrimitiveType::Time, PrimitiveLiteral::Long(1)), "00:00:00.000001");
        assert_eq!(text(PrimitiveType::Timestamp, PrimitiveLiteral::Long(-1)), "1969-12-31 23:59:59.999999");
        assert_eq!(text(PrimitiveType::Timestamptz, PrimitiveLiteral::Long(0)), "1970-01-01 00:00:00 UTC");
        assert_eq!(text(PrimitiveType::Long, PrimitiveLiteral::Int(5)), "5");
        assert_eq!(text(PrimitiveType::Binary, PrimitiveLiteral::Binary(vec![1, 255])), "01FF");
    }

    #[test]
    fn time_partitions_read_as_people_write_them() {
        let label = |transform, v| time_label(transform, &PrimitiveLiteral::Int(v)).expect("a label");
        assert_eq!(label(Transform::Month, 522), "2013-07");
        assert_eq!(label(Transform::Month, -1), "1969-12");
        assert_eq!(label(Transform::Day, 0), "1970-01-01");
        assert_eq!(label(Transform::Hour, 25), "1970-01-02-01");
    }

    #[test]
    fn a_directory_is_a_plain_label() {
        let schema = serde_json::json!({"type": "struct", "schema-id": 0,
            "fields": [{"id": 1, "name": "p", "required": false, "type": "string"}]});
        let schema: Schema = serde_json::from_value(schema).expect("a schema");
        let spec = UnboundPartitionSpec::builder().add_partition_field(1, "p", Transform::Identity).expect("a field").build();
        let spec = spec.bind(schema.clone()).expect("a spec");
        let dir = |v: Option<&str>| partition_dir(&spec, &schema, &Struct::from_iter([v.map(Literal::string)]));
        assert_eq!(dir(Some("UA")), "p=UA/");
        assert_eq!(dir(None), "p=null/");
        assert_eq!(dir(Some("null")), "");
    }
}
