//! Partition values, counts and bounds as JSON, in the answers of scan planning.
//!
//! A client that lets the catalog plan its scan may take a column's value from the partition. So a value that JSON cannot express
//! is an error.
//! Spec: REST OpenAPI document, `ContentFile`.

use std::collections::HashSet;

use esker_format::{DataFile, TableMetadata, Value, value_to_json};
use serde_json::{Value as Json, json};

use crate::{Result, TableError, partition_types, value_label};

/// Returns the values of a partition as JSON, in the order of the spec's fields and with the types that the table has now.
///
/// Spec: "JSON single-value serialization".
///
/// # Errors
///
/// Returns [`TableError::Unsupported`] if JSON cannot express a value as one of the field's type, such as NaN, or if no schema
/// gives the field's type. A client would take `null` for the column's value.
pub fn partition_json(metadata: &TableMetadata, spec_id: i32, partition: &[Option<Value>]) -> Result<Vec<Json>> {
    let types = partition_types(metadata, spec_id);
    let value = |(at, value): (usize, &Option<Value>)| {
        let Some(value) = value else { return Ok(Json::Null) };
        let name = || {
            let spec = metadata.partition_spec_by_id(spec_id);
            spec.and_then(|spec| spec.fields().get(at)).map_or("?", |field| field.name())
        };
        let unsupported =
            |why: String| TableError::Unsupported(format!("partition field {}: {why}; plan the scan on the client", name()));
        let Some(ty) = types.get(at).cloned().flatten() else {
            return Err(unsupported("no schema has its column, so the type of its values is not known".to_owned()));
        };
        // Java prints NaN and the infinities as strings, which no client accepts as a number.
        let is_number = match value {
            Value::Float(v) => v.is_finite(),
            Value::Double(v) => v.is_finite(),
            _ => true,
        };
        let (of, json) = (ty.to_string(), value_to_json(&ty.into(), value).filter(|_| is_number));
        json.ok_or_else(|| unsupported(format!("JSON can't express {} as a value of type {of}", value_label(value))))
    };
    partition.iter().enumerate().map(value).collect()
}

/// Returns the counts and bounds of the given columns (field ids). Each pair is the name of a statistic in `ContentFile`, such as
/// `value-counts`, and its values by column.
///
/// Unknown counts and bounds are left out. Some writers put a negative count for an unknown one, so those are left out too.
///
/// Spec: REST OpenAPI document, `ContentFile`.
pub fn stats_json(file: &DataFile, columns: &HashSet<i32>) -> Vec<(&'static str, Json)> {
    let counts = [
        ("column-sizes", &file.column_sizes),
        ("value-counts", &file.value_counts),
        ("null-value-counts", &file.null_value_counts),
        ("nan-value-counts", &file.nan_value_counts),
    ];
    let bounds = [("lower-bounds", &file.lower_bounds), ("upper-bounds", &file.upper_bounds)];
    let wanted = |id: i32| columns.contains(&id);
    let counts = counts.into_iter().filter_map(|(name, of)| {
        let known = of.as_ref()?.iter().filter(|(id, n)| wanted(*id) && **n >= 0);
        Some((name, keys_and_values(known.map(|(id, n)| (id, (*n).into())))?))
    });
    let bounds = bounds.into_iter().filter_map(|(name, of)| {
        let known = of.as_ref()?.iter().filter(|(id, _)| wanted(*id));
        Some((name, keys_and_values(known.map(|(id, bound)| (id, hex(bound.bytes()).into())))?))
    });
    counts.chain(bounds).collect()
}

/// Encodes a map as an object with a list of keys and a list of values, in the order of `entries`; `None` if it is empty.
fn keys_and_values(entries: impl Iterator<Item = (i32, Json)>) -> Option<Json> {
    let (keys, values): (Vec<i32>, Vec<Json>) = entries.unzip();
    (!keys.is_empty()).then(|| json!({"keys": keys, "values": values}))
}

/// Encodes bytes as upper-case hexadecimal, the JSON form of binary values.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use esker_format::value_from_json;
    use proptest::prelude::*;

    use super::*;

    fn metadata(ty: &str) -> TableMetadata {
        let json = json!({
            "format-version": 3, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "file:///t",
            "last-sequence-number": 9, "last-updated-ms": 1, "last-column-id": 1, "current-schema-id": 0, "next-row-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "c", "required": false, "type": ty}]}],
            "default-spec-id": 1, "last-partition-id": 1000, "default-sort-order-id": 0,
            "partition-specs": [{"spec-id": 1, "fields": [{"source-id": 1, "field-id": 1000, "name": "p", "transform": "identity"}]}],
            "sort-orders": [{"order-id": 0, "fields": []}],
        });
        serde_json::from_value(json).expect("metadata")
    }

    /// Returns the JSON of a partition value of an identity field whose column has the type `ty`.
    fn printed(ty: &str, value: Value) -> Result<Json> {
        partition_json(&metadata(ty), 1, &[Some(value)]).map(|mut values| values.remove(0))
    }

    #[test]
    fn values_are_printed_as_the_specification_says() {
        for (ty, value, expected) in [
            ("long", Value::Long(5), json!(5)),
            ("date", Value::Date(-1), json!("1969-12-31")),
            ("timestamptz", Value::Timestamptz(-500_000), json!("1969-12-31T23:59:59.500+00:00")),
            ("timestamp", Value::Timestamp(1_000_000), json!("1970-01-01T00:00:01")),
            ("timestamp_ns", Value::TimestampNs(1), json!("1970-01-01T00:00:00.000000001")),
            ("uuid", Value::Uuid(uuid::Uuid::from_u128(1)), json!("00000000-0000-0000-0000-000000000001")),
            ("decimal(9,2)", Value::Decimal { unscaled: 1420, scale: 2 }, json!("14.20")),
            ("string", Value::String("null".into()), json!("null")),
            ("boolean", Value::Boolean(false), json!(false)),
            ("double", Value::Double(-0.0), json!(-0.0)),
        ] {
            assert_eq!(printed(ty, value).expect("printed"), expected, "{ty}");
        }
        assert_eq!(partition_json(&metadata("long"), 1, &[None]).expect("printed"), [Json::Null]);
    }

    #[test]
    fn a_value_that_json_can_not_say_is_an_error_that_names_the_field() {
        for (ty, value) in [
            ("double", Value::Double(f64::NAN)),
            ("float", Value::Float(f32::INFINITY)),
            ("date", Value::Date(i32::MAX)),
            ("timestamp", Value::Timestamp(i64::MIN)),
            ("time", Value::Time(-1)),
            ("long", Value::String("x".into())),
        ] {
            let error = printed(ty, value).expect_err(ty).to_string();
            assert!(error.contains("partition field p") && error.contains(&format!("type {ty}")), "{error}");
        }
    }

    #[test]
    fn a_value_of_an_unknown_type_is_an_error_that_blames_the_type() {
        let mut json = serde_json::to_value(metadata("long")).expect("JSON");
        json["partition-specs"][0]["fields"][0]["source-id"] = json!(9);
        let metadata: TableMetadata = serde_json::from_value(json).expect("metadata");
        let error = partition_json(&metadata, 1, &[Some(Value::Long(1))]).expect_err("nobody knows the type").to_string();
        assert!(error.contains("partition field p") && error.contains("type of its values is not known"), "{error}");
    }

    proptest! {
        /// Checks that each printed value is parsed back as the same value.
        #[test]
        fn what_is_printed_is_read_back(v in any::<i64>(), days in -700_000_i32..2_900_000, double in any::<f64>()) {
            let micros = v % 60_000_000_000_000_000;
            for (ty, value) in [
                ("long", Value::Long(v)),
                ("date", Value::Date(days)),
                ("timestamp", Value::Timestamp(micros)),
                ("timestamptz", Value::Timestamptz(micros)),
                ("double", Value::Double(if double.is_finite() { double } else { 1.0 })),
                ("decimal(38,4)", Value::Decimal { unscaled: v.into(), scale: 4 }),
            ] {
                let json = printed(ty, value.clone()).expect("printed");
                let of = esker_format::PrimitiveType::named(ty).into();
                prop_assert_eq!(value_from_json(&of, &json), Some(value), "{}", ty);
            }
        }
    }
}
