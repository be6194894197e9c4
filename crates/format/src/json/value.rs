//! The JSON form of single values, such as defaults.
//!
//! Reading accepts more than the specification's form, as Java's parser does; printing uses exactly that form.
//!
//! Spec: Appendix D, "JSON single-value serialization".

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};
use esker_types::hex;
use serde_json::{Map, Number, Value as Json, json};
use uuid::Uuid;

use crate::{NestedFieldRef, PrimitiveType, Type, Value};

/// Reads a value of type `ty`. Returns `None` if the JSON is no such value.
///
/// Spec: Appendix D, "JSON single-value serialization".
pub fn value_from_json(ty: &Type, json: &Json) -> Option<Value> {
    match ty {
        Type::Primitive(ty) => primitive(ty, json),
        Type::Struct(ty) => {
            let object = json.as_object()?;
            let field = |field: &NestedFieldRef| nullable(&field.field_type, object.get(&field.id.to_string()));
            Some(Value::Struct(ty.fields().iter().map(field).collect::<Option<_>>()?))
        }
        Type::List(ty) => {
            let items = json.as_array()?.iter().map(|item| nullable(&ty.element_field.field_type, Some(item)));
            Some(Value::List(items.collect::<Option<_>>()?))
        }
        Type::Map(ty) => {
            let (keys, values) = (json.get("keys")?.as_array()?, json.get("values")?.as_array()?);
            if keys.len() != values.len() {
                return None;
            }
            let entry = |(key, value)| {
                Some((value_from_json(&ty.key_field.field_type, key)?, nullable(&ty.value_field.field_type, Some(value))?))
            };
            Some(Value::Map(keys.iter().zip(values).map(entry).collect::<Option<_>>()?))
        }
        Type::Variant => None,
    }
}

/// Returns `true` if the JSON of a value has the specification's form. Esker reads more forms; Java does not.
pub(crate) fn is_as_specified(ty: &Type, json: &Json) -> bool {
    use PrimitiveType as P;
    let text = || json.as_str().unwrap_or_default();
    let day = |text: &str| date(text.get(..10).unwrap_or_default()).is_some();
    match ty {
        Type::Primitive(P::Float) => primitive(&P::Float, json).is_some_and(|v| matches!(v, Value::Float(v) if v.is_finite())),
        Type::Primitive(P::Double) => json.as_f64().is_some_and(f64::is_finite),
        Type::Primitive(P::Decimal { scale, .. }) => digits_behind(text()) == i32::try_from(*scale).ok(),
        Type::Primitive(P::Date) => text().len() == 10 && day(text()),
        Type::Primitive(P::Timestamp | P::TimestampNs) => day(text()),
        Type::Primitive(P::Timestamptz | P::TimestamptzNs) => {
            day(text()) && (text().ends_with("+00:00") || text().ends_with('Z'))
        }
        Type::Primitive(_) | Type::Struct(_) | Type::Variant => true,
        Type::List(ty) => all_as_specified(&ty.element_field.field_type, json),
        Type::Map(ty) => {
            let of = |name: &str, ty: &Type| json.get(name).is_some_and(|values| all_as_specified(ty, values));
            of("keys", &ty.key_field.field_type) && of("values", &ty.value_field.field_type)
        }
    }
}

fn all_as_specified(ty: &Type, items: &Json) -> bool {
    items.as_array().is_some_and(|items| items.iter().all(|item| item.is_null() || is_as_specified(ty, item)))
}

/// Reads a value that may be null. Returns `None` if the JSON is neither null nor a value of the type.
fn nullable(ty: &Type, json: Option<&Json>) -> Option<Option<Value>> {
    match json {
        None | Some(Json::Null) => Some(None),
        Some(json) => value_from_json(ty, json).map(Some),
    }
}

fn primitive(ty: &PrimitiveType, json: &Json) -> Option<Value> {
    use PrimitiveType as P;
    let text = || json.as_str();
    match ty {
        P::Boolean => json.as_bool().map(Value::Boolean),
        P::Int => json.as_i64().and_then(|v| v.try_into().ok()).map(Value::Int),
        P::Long => json.as_i64().map(Value::Long),
        // The text is parsed as a 32-bit float at once: rounding by way of a double could give another float.
        P::Float => match json {
            Json::Number(number) => number.to_string().parse().ok().map(Value::Float),
            other => not_finite(other.as_str()?).map(|v| Value::Float(if v.is_nan() { f32::NAN } else { v as f32 })),
        },
        P::Double => json.as_f64().or_else(|| not_finite(json.as_str()?)).map(Value::Double),
        P::Decimal { scale, .. } => {
            let unscaled = decimal(&json.as_str().map_or_else(|| json.to_string(), str::to_owned), *scale)?;
            Some(Value::Decimal { unscaled, scale: *scale }).filter(|value| value.fits_type(&ty.clone().into()))
        }
        P::Date => {
            let days = date(text()?)?.signed_duration_since(NaiveDate::default()).num_days();
            days.try_into().ok().map(Value::Date)
        }
        P::Time => {
            let time = time(text()?)?;
            let nanos = u64::from(time.num_seconds_from_midnight()) * 1_000_000_000 + u64::from(time.nanosecond());
            (nanos % 1000 == 0).then(|| i64::try_from(nanos / 1000).ok().map(Value::Time))?
        }
        P::Timestamp => micros(local(text()?)?).map(Value::Timestamp),
        P::Timestamptz => micros(zoned(text()?)?).map(Value::Timestamptz),
        P::TimestampNs => local(text()?)?.and_utc().timestamp_nanos_opt().map(Value::TimestampNs),
        P::TimestamptzNs => zoned(text()?)?.and_utc().timestamp_nanos_opt().map(Value::TimestamptzNs),
        P::String => text().map(|text| Value::String(text.into())),
        P::Uuid => Uuid::parse_str(text()?).ok().map(Value::Uuid),
        P::Fixed(length) => bytes(text()?).filter(|bytes| bytes.len() as u64 == *length).map(|v| Value::Fixed(v.into())),
        P::Binary => bytes(text()?).map(|v| Value::Binary(v.into())),
        P::Unknown | P::Geometry { .. } | P::Geography { .. } | P::Other(_) => None,
    }
}

/// Reads a float that JSON has no number for, as Java's writer prints it.
fn not_finite(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// Returns the number of digits after the decimal point: 2 for `14.20`, -20 for `2E+20`.
fn digits_behind(text: &str) -> Option<i32> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, Some(0)), |(m, e)| (m, e.parse::<i32>().ok()));
    let fraction = mantissa.split_once('.').map_or("", |(_, fraction)| fraction);
    i32::try_from(fraction.len()).ok()?.checked_sub(exponent?)
}

/// Reads a decimal such as `14.20` or `2E+20` as a number without its decimal point. Returns `None` if `scale` digits cannot hold
/// it exactly.
fn decimal(text: &str, scale: u32) -> Option<i128> {
    let mantissa = text.split_once(['e', 'E']).map_or(text, |(mantissa, _)| mantissa);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let behind = digits_behind(text)?;
    if mantissa.ends_with('.') || fraction.starts_with(['+', '-']) {
        return None;
    }
    let shift = i32::try_from(scale).ok()?.checked_sub(behind)?;
    let by = 10_i128.checked_pow(shift.unsigned_abs());
    match by {
        Some(by) if shift >= 0 => digits.checked_mul(by),
        Some(by) => (digits % by == 0).then_some(digits / by),
        None => (digits == 0).then_some(0),
    }
}

fn date(text: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()
}

fn time(text: &str) -> Option<NaiveTime> {
    let with_seconds = NaiveTime::parse_from_str(text, "%H:%M:%S%.f");
    // A leap second (:60) is no valid time.
    with_seconds.or_else(|_| NaiveTime::parse_from_str(text, "%H:%M")).ok().filter(|time| time.nanosecond() < 1_000_000_000)
}

fn local(text: &str) -> Option<NaiveDateTime> {
    let (day, clock) = text.split_once(['T', 't'])?;
    Some(date(day)?.and_time(time(clock)?))
}

/// Reads a timestamp with an offset, and converts it to UTC.
fn zoned(text: &str) -> Option<NaiveDateTime> {
    if let Some(text) = text.strip_suffix(['Z', 'z']) {
        return local(text);
    }
    let at = text.rfind(['+', '-']).filter(|at| *at > text.find(['T', 't']).unwrap_or(usize::MAX))?;
    let (before, offset) = text.split_at(at);
    let (hours, minutes) = offset[1..].split_once(':')?;
    let seconds = 3600 * hours.parse::<i64>().ok()? + 60 * minutes.parse::<i64>().ok()?;
    let offset = chrono::TimeDelta::try_seconds(if offset.starts_with('-') { -seconds } else { seconds })?;
    local(before)?.checked_sub_signed(offset)
}

fn micros(at: NaiveDateTime) -> Option<i64> {
    at.nanosecond().is_multiple_of(1000).then(|| at.and_utc().timestamp_micros())
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digit = |at: usize| (hex.as_bytes()[at] as char).to_digit(16);
    let pairs = (0..hex.len()).step_by(2);
    if !hex.len().is_multiple_of(2) {
        return None;
    }
    pairs.map(|at| u8::try_from(digit(at)? * 16 + digit(at + 1)?).ok()).collect()
}

/// Prints a value of type `ty`. Returns `None` if JSON cannot express the value: it is not of the type, or a date beyond the year
/// 262,000.
///
/// Spec: Appendix D, "JSON single-value serialization".
pub fn value_to_json(ty: &Type, value: &Value) -> Option<Json> {
    let nullable = |ty: &Type, value: &Option<Value>| value.as_ref().map_or(Some(Json::Null), |value| value_to_json(ty, value));
    match (ty, value) {
        (Type::Struct(ty), Value::Struct(values)) if ty.fields().len() == values.len() => {
            let field = |(field, value): (&NestedFieldRef, _)| Some((field.id.to_string(), nullable(&field.field_type, value)?));
            Some(Json::Object(ty.fields().iter().zip(values).map(field).collect::<Option<Map<_, _>>>()?))
        }
        (Type::List(ty), Value::List(items)) => {
            items.iter().map(|item| nullable(&ty.element_field.field_type, item)).collect::<Option<Vec<_>>>().map(Json::Array)
        }
        (Type::Map(ty), Value::Map(entries)) => {
            let keys: Vec<Json> =
                entries.iter().map(|(key, _)| value_to_json(&ty.key_field.field_type, key)).collect::<Option<_>>()?;
            let values: Vec<Json> =
                entries.iter().map(|(_, value)| nullable(&ty.value_field.field_type, value)).collect::<Option<_>>()?;
            Some(json!({"keys": keys, "values": values}))
        }
        (Type::Primitive(_), value) if value.fits_type(ty) => printed(value),
        _ => None,
    }
}

fn printed(value: &Value) -> Option<Json> {
    let text = |text: String| Some(Json::String(text));
    let at = |at: DateTime<Utc>, zone: &str| text(format!("{}{zone}", at.format("%Y-%m-%dT%H:%M:%S%.f")));
    match value {
        Value::Boolean(v) => Some(json!(v)),
        Value::Int(v) => Some(json!(v)),
        Value::Long(v) => Some(json!(v)),
        // The shortest digits of the 32-bit float: printed as a double it would have others.
        Value::Float(v) if v.is_finite() => v.to_string().parse().ok().and_then(Number::from_f64).map(Json::Number),
        Value::Float(v) => text(unfinite((*v).into())),
        Value::Double(v) => Number::from_f64(*v).map(Json::Number).or_else(|| text(unfinite(*v))),
        Value::Decimal { unscaled, scale } => text(point(*unscaled, *scale)),
        Value::Date(days) => {
            let day = NaiveDate::default().checked_add_signed(chrono::TimeDelta::try_days((*days).into())?)?;
            text(day.format("%Y-%m-%d").to_string())
        }
        Value::Time(micros) => {
            let (seconds, micros) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
            let nanos = u32::try_from(micros * 1000).ok()?;
            let time = NaiveTime::from_num_seconds_from_midnight_opt(seconds.try_into().ok()?, nanos)?;
            text(time.format("%H:%M:%S%.f").to_string())
        }
        Value::Timestamp(micros) => at(DateTime::from_timestamp_micros(*micros)?, ""),
        Value::Timestamptz(micros) => at(DateTime::from_timestamp_micros(*micros)?, "+00:00"),
        Value::TimestampNs(nanos) => at(DateTime::from_timestamp_nanos(*nanos), ""),
        Value::TimestamptzNs(nanos) => at(DateTime::from_timestamp_nanos(*nanos), "+00:00"),
        Value::String(v) => text(v.to_string()),
        Value::Uuid(v) => text(v.to_string()),
        Value::Fixed(v) | Value::Binary(v) => text(hex(v)),
        Value::Struct(_) | Value::List(_) | Value::Map(_) => None,
    }
}

fn unfinite(value: f64) -> String {
    match (value.is_nan(), value > 0.0) {
        (true, _) => "NaN",
        (false, true) => "Infinity",
        (false, false) => "-Infinity",
    }
    .to_owned()
}

/// Prints a decimal with its point, such as `14.20`.
fn point(unscaled: i128, scale: u32) -> String {
    let (sign, digits) = (if unscaled < 0 { "-" } else { "" }, unscaled.unsigned_abs().to_string());
    match scale as usize {
        0 => format!("{sign}{digits}"),
        scale => {
            let digits = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            format!("{sign}{whole}.{fraction}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{ListType, MapType, NestedField, StructType};

    fn both(ty: Type, value: Value, json: Json) {
        assert_eq!(value_from_json(&ty, &json), Some(value.clone()), "{ty}: {json}");
        assert_eq!(value_to_json(&ty, &value), Some(json), "{ty}");
    }

    fn named(name: &str) -> Type {
        PrimitiveType::named(name).into()
    }

    /// The examples of the specification's table.
    #[test]
    fn values_are_read_and_printed_as_the_specification_says() {
        both(named("boolean"), Value::Boolean(true), json!(true));
        both(named("int"), Value::Int(34), json!(34));
        both(named("long"), Value::Long(34), json!(34));
        both(named("float"), Value::Float(0.1), json!(0.1));
        both(named("double"), Value::Double(1.0), json!(1.0));
        both(named("decimal(4, 2)"), Value::Decimal { unscaled: 1420, scale: 2 }, json!("14.20"));
        both(named("decimal(4, 4)"), Value::Decimal { unscaled: -5, scale: 4 }, json!("-0.0005"));
        both(named("date"), Value::Date(17_486), json!("2017-11-16"));
        both(named("time"), Value::Time(81_068_123_456), json!("22:31:08.123456"));
        both(named("timestamp"), Value::Timestamp(1_510_871_468_123_456), json!("2017-11-16T22:31:08.123456"));
        both(named("timestamptz"), Value::Timestamptz(1_510_871_468_123_456), json!("2017-11-16T22:31:08.123456+00:00"));
        both(named("timestamp_ns"), Value::TimestampNs(1_510_871_468_123_456_789), json!("2017-11-16T22:31:08.123456789"));
        both(named("string"), Value::String("iceberg".into()), json!("iceberg"));
        let uuid = Uuid::parse_str("f79c3e09-677c-4bbd-a479-3f349cb785e7").expect("a UUID");
        both(named("uuid"), Value::Uuid(uuid), json!("f79c3e09-677c-4bbd-a479-3f349cb785e7"));
        both(named("fixed[4]"), Value::Fixed([0, 1, 2, 255].into()), json!("000102ff"));
        both(named("binary"), Value::Binary([0, 1, 2, 255].into()), json!("000102ff"));
        let field = |id, name: &str| Arc::new(NestedField::optional(id, name, named(name)));
        let ty = StructType::new(vec![field(1, "int"), field(2, "string"), field(3, "date")]);
        let value = Value::Struct([Some(Value::Int(1)), Some(Value::String("bar".into())), None].into());
        both(ty.into(), value, json!({"1": 1, "2": "bar", "3": null}));
        let list = ListType::new(1, named("int"), false);
        both(list.into(), Value::List([1, 2, 3].map(|v| Some(Value::Int(v))).into()), json!([1, 2, 3]));
        let map = MapType::new((1, named("string")), (2, named("int")), false);
        let value = Value::Map([(Value::String("a".into()), Some(Value::Int(1))), (Value::String("b".into()), None)].into());
        both(map.into(), value, json!({"keys": ["a", "b"], "values": [1, null]}));
    }

    #[test]
    fn what_java_writes_besides_is_read() {
        for (ty, json, value) in [
            ("double", json!("NaN"), Value::Double(f64::NAN)),
            ("float", json!("-Infinity"), Value::Float(f32::NEG_INFINITY)),
            ("decimal(22, 0)", json!("2E+20"), Value::Decimal { unscaled: 200_000_000_000_000_000_000, scale: 0 }),
            ("timestamptz", json!("2017-11-16T14:31:08.123456-08:00"), Value::Timestamptz(1_510_871_468_123_456)),
            ("timestamptz", json!("2017-11-16T22:31:08Z"), Value::Timestamptz(1_510_871_468_000_000)),
            ("time", json!("22:31"), Value::Time(81_060_000_000)),
            ("date", json!("-0001-01-01"), Value::Date(-719_893)),
            ("date", json!("+10000-01-01"), Value::Date(2_932_897)),
            ("double", json!(1), Value::Double(1.0)),
        ] {
            assert_eq!(value_from_json(&named(ty), &json), Some(value), "{ty}: {json}");
        }
    }

    #[test]
    fn what_is_no_value_of_the_type_is_none() {
        for (ty, json) in [
            ("int", json!(3_000_000_000_i64)),
            ("int", json!(1.5)),
            ("int", json!("1")),
            ("decimal(4, 2)", json!("1.234")),
            ("decimal(4, 2)", json!("123.45")),
            ("decimal(4, 2)", json!("1.+2")),
            ("decimal(4, 2)", json!("1e999999999999")),
            ("date", json!("2017-02-30")),
            ("time", json!("24:00:00")),
            ("time", json!("23:59:60")),
            ("time", json!("10:00:00.1234567")),
            ("timestamp", json!("2017-11-16T22:31:08+00:00")),
            ("timestamptz", json!("2017-11-16T22:31:08")),
            ("timestamp_ns", json!("9999-01-01T00:00:00")),
            ("fixed[4]", json!("000102")),
            ("binary", json!("0g")),
            ("binary", json!("é0")),
            ("uuid", json!("f79c3e09")),
            ("unknown", json!(1)),
            ("interval", json!(1)),
        ] {
            assert_eq!(value_from_json(&named(ty), &json), None, "{ty}: {json}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(long in any::<i64>(), float in any::<f32>(), double in any::<f64>(), wide in any::<i128>(), scale in 0_u32..39) {
            let micros = long % 8_000_000_000_000_000_000;
            let decimal = Value::Decimal { unscaled: wide % 10_i128.pow(38), scale };
            for (ty, value) in [
                ("long", Value::Long(long)),
                ("float", Value::Float(float)),
                ("double", Value::Double(double)),
                ("timestamp", Value::Timestamp(micros)),
                ("timestamptz", Value::Timestamptz(micros)),
                ("timestamptz_ns", Value::TimestamptzNs(long)),
                ("time", Value::Time(long.rem_euclid(86_400_000_000))),
                ("date", Value::Date((long % 90_000_000) as i32)),
                (&format!("decimal(38, {scale})"), decimal),
            ] {
                let ty = named(ty);
                let Some(json) = value_to_json(&ty, &value) else {
                    // The calendar library has a limited range of years.
                    prop_assert!(matches!(value, Value::Timestamp(_) | Value::Timestamptz(_) | Value::Date(_)), "{:?}", value);
                    continue;
                };
                prop_assert_eq!(value_from_json(&ty, &json), Some(value), "{}: {}", ty, json);
            }
        }
    }
}
