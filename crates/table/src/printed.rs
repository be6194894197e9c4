//! Partition values as JSON, for clients whose scans are planned here: they take columns from it.

use iceberg::spec::{Literal, PrimitiveLiteral, PrimitiveType, Struct, TableMetadata, Type};
use serde_json::{Value, json};

use crate::label::{date, time, timestamp};
use crate::{Result, TableError, literal_label, partition_types};

/// A partition's values by place (spec, "JSON single-value serialization"), as the table has their types now.
///
/// One that JSON can't express is an error, as a client would take `null` for the column's value.
pub fn partition_json(metadata: &TableMetadata, spec_id: i32, partition: &Struct) -> Result<Vec<Value>> {
    let types = partition_types(metadata, spec_id);
    let value = |(at, value): (usize, Option<&Literal>)| {
        let Some(value) = value else { return Ok(Value::Null) };
        let ty = types.get(at).and_then(Option::as_ref);
        let printed = match (ty, value) {
            (Some(ty), Literal::Primitive(value)) => print(ty, value),
            _ => None,
        };
        printed.ok_or_else(|| {
            let spec = metadata.partition_spec_by_id(spec_id);
            let name = spec.and_then(|spec| spec.fields().get(at)).map_or("?", |field| field.name.as_str());
            let value = match value {
                Literal::Primitive(value) => literal_label(ty, value),
                nested => format!("{nested:?}"),
            };
            TableError::Unsupported(format!(
                "partition field {name} is {value}, which JSON can't say: plan the scan on the client"
            ))
        })
    };
    partition.iter().enumerate().map(value).collect()
}

fn print(ty: &PrimitiveType, value: &PrimitiveLiteral) -> Option<Value> {
    let at = |v: i64, a_second: i64, zone: &str| {
        Some(json!(format!("{}{zone}", timestamp(v, a_second)?.format("%Y-%m-%dT%H:%M:%S%.f"))))
    };
    match (ty, value) {
        (PrimitiveType::Date, PrimitiveLiteral::Int(days)) => Some(json!(date(*days)?.to_string())),
        (PrimitiveType::Time, PrimitiveLiteral::Long(micros)) => Some(json!(time(*micros)?.to_string())),
        (PrimitiveType::Timestamp, PrimitiveLiteral::Long(v)) => at(*v, 1_000_000, ""),
        (PrimitiveType::Timestamptz, PrimitiveLiteral::Long(v)) => at(*v, 1_000_000, "+00:00"),
        (PrimitiveType::TimestampNs, PrimitiveLiteral::Long(v)) => at(*v, 1_000_000_000, ""),
        (PrimitiveType::TimestamptzNs, PrimitiveLiteral::Long(v)) => at(*v, 1_000_000_000, "+00:00"),
        (PrimitiveType::Decimal { .. }, PrimitiveLiteral::Int128(_)) => Some(json!(literal_label(Some(ty), value))),
        (_, value) => {
            let json = Literal::Primitive(value.clone()).try_into_json(&Type::Primitive(ty.clone())).ok()?;
            // So NaN and the infinities are printed.
            (!json.is_null()).then_some(json)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn metadata(ty: &str) -> TableMetadata {
        let json = json!({
            "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "file:///t",
            "last-sequence-number": 9, "last-updated-ms": 1, "last-column-id": 1, "current-schema-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "c", "required": false, "type": ty}]}],
            "default-spec-id": 1, "last-partition-id": 1000, "default-sort-order-id": 0,
            "partition-specs": [{"spec-id": 1, "fields": [{"source-id": 1, "field-id": 1000, "name": "p", "transform": "identity"}]}],
            "sort-orders": [{"order-id": 0, "fields": []}],
        });
        serde_json::from_value(json).expect("metadata")
    }

    fn json_of(ty: &str, value: Literal) -> Result<Value> {
        partition_json(&metadata(ty), 1, &Struct::from_iter([Some(value)])).map(|mut values| values.remove(0))
    }

    #[test]
    fn values_are_printed_as_the_specification_says() {
        for (ty, value, expected) in [
            ("long", Literal::long(5), json!(5)),
            ("date", Literal::date(-1), json!("1969-12-31")),
            ("timestamptz", Literal::timestamptz(-500_000), json!("1969-12-31T23:59:59.500+00:00")),
            ("timestamp", Literal::timestamp(1_000_000), json!("1970-01-01T00:00:01")),
            ("decimal(9,2)", Literal::decimal(1420), json!("14.20")),
            ("string", Literal::string("null"), json!("null")),
            ("boolean", Literal::bool(false), json!(false)),
            ("double", Literal::double(-0.0), json!(-0.0)),
        ] {
            assert_eq!(json_of(ty, value).expect("printed"), expected, "{ty}");
        }
        let none = partition_json(&metadata("long"), 1, &Struct::from_iter([None])).expect("printed");
        assert_eq!(none, [Value::Null]);
    }

    #[test]
    fn a_value_that_json_can_not_say_is_an_error_that_names_the_field() {
        for (ty, value) in [
            ("double", Literal::double(f64::NAN)),
            ("float", Literal::float(f32::INFINITY)),
            ("date", Literal::date(i32::MAX)),
            ("timestamp", Literal::timestamp(i64::MIN)),
            ("time", Literal::time(-1)),
            ("long", Literal::string("x")),
        ] {
            let error = json_of(ty, value).expect_err(ty).to_string();
            assert!(error.contains("partition field p"), "{error}");
        }
    }

    proptest! {
        /// What is printed is read back as the same value.
        #[test]
        fn what_is_printed_is_read_back(v in any::<i64>(), days in -700_000_i32..2_900_000, double in any::<f64>()) {
            let micros = v % 60_000_000_000_000_000;
            for (ty, value) in [
                ("long", Literal::long(v)),
                ("date", Literal::date(days)),
                ("timestamp", Literal::timestamp(micros)),
                ("timestamptz", Literal::timestamptz(micros)),
                ("double", Literal::double(if double.is_finite() { double } else { 1.0 })),
                ("decimal(38,4)", Literal::decimal(v.into())),
            ] {
                let printed = json_of(ty, value.clone()).expect("printed");
                let parsed: PrimitiveType = serde_json::from_value(json!(ty)).expect("a type");
                prop_assert_eq!(Literal::try_from_json(printed, &Type::Primitive(parsed)).expect("read"), Some(value), "{}", ty);
            }
        }
    }
}
