//! Conversions from JSON to variants and back. Start with [`parse`] and [`text`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use esker_read::{MAX_VARIANT_DEPTH, Variant, VariantBuilder, VariantValue};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::calendar::date_of;

/// Makes a variant of a text of JSON; returns the bytes of its metadata and of its value.
///
/// Whole numbers are integers. Numbers with a point are decimals if 38 digits hold them. All others are doubles.
pub(super) fn parse(text: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
    // The depth is checked first, because each level is parsed again by the level above it.
    if depth(text) > MAX_VARIANT_DEPTH {
        return Err(format!("it is nested more than {MAX_VARIANT_DEPTH} deep"));
    }
    let mut builder = VariantBuilder::default();
    append(text.trim_ascii(), &mut builder)?;
    Ok(builder.finish())
}

/// Returns the greatest depth of objects and arrays in a text, whether it is JSON or not.
fn depth(text: &str) -> usize {
    let (mut depth, mut most, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if std::mem::take(&mut escaped) => {}
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                most = most.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// The name of an object's field, which may be written with escapes.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Appends a value of JSON to a variant.
fn append(text: &str, builder: &mut VariantBuilder) -> Result<(), String> {
    let wrong = |error: serde_json::Error| error.to_string();
    match text.as_bytes().first() {
        Some(b'{') => {
            let Fields(fields) = serde_json::from_str(text).map_err(wrong)?;
            let mut object = builder.begin();
            for (name, value) in &fields {
                builder.field(&mut object, &name.0);
                append(value.get(), builder)?;
            }
            builder.end_object(object);
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(wrong)?;
            let mut list = builder.begin();
            for item in items {
                builder.item(&mut list);
                append(item.get(), builder)?;
            }
            builder.end_array(list);
        }
        Some(b'"') => builder.add(VariantValue::String(&serde_json::from_str::<Name<'_>>(text).map_err(wrong)?.0)),
        Some(b'-' | b'0'..=b'9') => {
            let number: serde_json::Number = serde_json::from_str(text).map_err(wrong)?;
            builder.add(exact(text).unwrap_or_else(|| VariantValue::Double(number.as_f64().unwrap_or(f64::NAN))));
        }
        _ => builder.add(match serde_json::from_str::<Option<bool>>(text).map_err(wrong)? {
            Some(truth) => VariantValue::Boolean(truth),
            None => VariantValue::Null,
        }),
    }
    Ok(())
}

/// The fields of an object. A name that occurs twice is an error.
struct Fields<'a>(BTreeMap<Name<'a>, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    if fields.contains_key(&name) {
                        return Err(serde::de::Error::custom(format!("field {:?} is there twice", name.0)));
                    }
                    fields.insert(name, value);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// Returns a number that is written without an exponent, or `None` if a variant does not hold it exactly.
fn exact(text: &str) -> Option<VariantValue<'static>> {
    const DIGITS: u8 = 38;
    if let Ok(whole) = text.parse::<i64>() {
        return Some(VariantValue::Integer(whole));
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let unscaled: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = u8::try_from(fraction.len()).ok().filter(|scale| *scale <= DIGITS)?;
    // No decimal is -0.0, so it is a double.
    let is_decimal = unscaled.unsigned_abs() < 10_u128.pow(DIGITS.into()) && !(unscaled == 0 && text.starts_with('-'));
    is_decimal.then_some(VariantValue::Decimal { unscaled, scale })
}

/// Makes JSON of a variant.
///
/// A value that JSON does not have becomes a text. Bytes are Base64. Dates, times and timestamps are written as in ISO 8601, NaN
/// and the infinities by their names.
pub(super) fn text(variant: Variant<'_>) -> String {
    let mut out = String::new();
    write(variant, &mut out);
    out
}

/// Appends a text in quotes, with escapes.
fn quoted(text: &str, out: &mut String) {
    // A text can always be written.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// Appends a variant.
fn write(variant: Variant<'_>, out: &mut String) {
    use VariantValue as V;
    match variant.get() {
        V::Null => out.push_str("null"),
        V::Boolean(v) => out.push_str(if v { "true" } else { "false" }),
        V::Integer(v) => _ = write!(out, "{v}"),
        V::Decimal { unscaled, scale } => decimal(unscaled, scale, out),
        V::Float(v) => number(f64::from(v), &v.to_string(), out),
        V::Double(v) => number(v, &v.to_string(), out),
        V::Date(days) => _ = write!(out, "\"{}\"", Date(days.into())),
        V::Time(micros) => {
            let fraction = format!("{:06}", micros.rem_euclid(MICROS));
            let fraction = fraction.trim_end_matches('0');
            let fraction = if fraction.is_empty() { "0" } else { fraction };
            let _ = write!(out, "\"{}.{fraction}\"", Clock(micros.div_euclid(MICROS)));
        }
        V::Timestamp { micros, zoned } => timestamp(micros, MICROS, zoned, out),
        V::TimestampNs { nanos, zoned } => timestamp(nanos, NANOS, zoned, out),
        V::Binary(v) => quoted(&STANDARD.encode(v), out),
        V::String(v) => quoted(v, out),
        V::Uuid(v) => _ = write!(out, "\"{}\"", uuid::Uuid::from_bytes(v)),
        V::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        V::Object(fields) => {
            out.push('{');
            for (at, (name, value)) in fields.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                quoted(name, out);
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
    }
}

/// Appends a decimal without zeros at the end of its fraction.
fn decimal(unscaled: i128, scale: u8, out: &mut String) {
    let digits = format!("{:0width$}", unscaled.unsigned_abs(), width = usize::from(scale) + 1);
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    if unscaled < 0 {
        out.push('-');
    }
    out.push_str(whole);
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
}

/// Microseconds in a second.
const MICROS: i64 = 1_000_000;
/// Nanoseconds in a second.
const NANOS: i64 = 1_000_000_000;
/// Seconds in a day.
const DAY: i64 = 86_400;

/// A date, in days since 1970-01-01. Years before 0 and after 9999 have a sign, as in ISO 8601.
struct Date(i64);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_of(self.0);
        match year {
            0..=9999 => write!(f, "{year:04}-{month:02}-{day:02}"),
            year => write!(f, "{year:+05}-{month:02}-{day:02}"),
        }
    }
}

/// A time of day, in seconds since midnight.
struct Clock(i64);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}:{:02}", self.0 / 3_600, self.0 / 60 % 60, self.0 % 60)
    }
}

/// Appends a timestamp. `at` is in units since the Unix epoch, and `in_a_second` is the number of units in a second.
fn timestamp(at: i64, in_a_second: i64, zoned: bool, out: &mut String) {
    let (seconds, fraction) = (at.div_euclid(in_a_second), at.rem_euclid(in_a_second));
    let (date, clock) = (Date(seconds.div_euclid(DAY)), Clock(seconds.rem_euclid(DAY)));
    let width = if in_a_second == MICROS { 6 } else { 9 };
    let digits = format!("{fraction:0width$}");
    match zoned {
        false => _ = write!(out, "\"{date}T{clock}.{digits}\""),
        true => {
            // Three, six or nine digits, or none.
            let shown = digits.trim_end_matches('0').len().next_multiple_of(3);
            let point = if shown > 0 { "." } else { "" };
            let _ = write!(out, "\"{date}T{clock}{point}{}+00:00\"", &digits[..shown]);
        }
    }
}

/// Appends a float with a point or an exponent. `shortest` is its shortest text.
fn number(value: f64, shortest: &str, out: &mut String) {
    if !value.is_finite() {
        let name = if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        return quoted(name, out);
    }
    let digits = shortest.len();
    match shortest.contains('.') {
        true => out.push_str(shortest),
        false if digits <= 17 => _ = write!(out, "{shortest}.0"),
        false => _ = write!(out, "{value:e}"),
    }
}

#[cfg(test)]
mod tests {
    use parquet::variant::Variant as Theirs;

    use super::*;

    /// Values of each kind as JSON; no calendar has some of them. The other texts are those of Arrow's library
    /// (parquet-variant-json 59).
    #[test]
    fn what_json_has_not_is_text() {
        let shown = |value: VariantValue<'_>| {
            let mut builder = VariantBuilder::default();
            builder.add(value);
            let (metadata, value) = builder.finish();
            text(Variant::new(&metadata, &value))
        };
        use VariantValue as V;
        let micros = |micros, zoned| V::Timestamp { micros, zoned };
        let nanos = |nanos, zoned| V::TimestampNs { nanos, zoned };
        for (value, expected) in [
            (V::Decimal { unscaled: -5, scale: 3 }, "-0.005"),
            (V::Decimal { unscaled: 1200, scale: 2 }, "12"),
            (V::Decimal { unscaled: -10_i128.pow(38) + 1, scale: 38 }, "-0.99999999999999999999999999999999999999"),
            (V::Date(0), r#""1970-01-01""#),
            (V::Date(19_782), r#""2024-02-29""#),
            (V::Date(-719_528), r#""0000-01-01""#),
            (V::Date(-719_529), r#""-0001-12-31""#),
            (V::Date(2_932_897), r#""+10000-01-01""#),
            (V::Date(i32::MAX), r#""+5881580-07-11""#),
            (V::Date(-i32::MAX), r#""-5877641-06-24""#),
            (V::Time(0), r#""00:00:00.0""#),
            (V::Time(86_399_120_000), r#""23:59:59.12""#),
            (V::Time(86_400_000_000), r#""24:00:00.0""#),
            (micros(-1, false), r#""1969-12-31T23:59:59.999999""#),
            (micros(0, true), r#""1970-01-01T00:00:00+00:00""#),
            (micros(1_500_000, true), r#""1970-01-01T00:00:01.500+00:00""#),
            (micros(i64::MAX, true), r#""+294247-01-10T04:00:54.775807+00:00""#),
            (micros(i64::MIN, false), r#""-290308-12-21T19:59:05.224192""#),
            (nanos(1, true), r#""1970-01-01T00:00:00.000000001+00:00""#),
            (nanos(i64::MIN, false), r#""1677-09-21T00:12:43.145224192""#),
            (V::Binary(&[0xff, 0]), r#""/wA=""#),
            (V::Uuid([7; 16]), r#""07070707-0707-0707-0707-070707070707""#),
            (V::Float(0.1), "0.1"),
        ] {
            assert_eq!(shown(value), expected, "{value:?}");
        }
    }

    fn again(json: &str) -> String {
        let (metadata, value) = parse(json).expect(json);
        text(Variant::new(&metadata, &value))
    }

    #[test]
    fn json_comes_back() {
        for (json, expected) in [
            (r#" {"b": [1, 2.50, "x\né", null, true], "a": {"": {}}} "#, r#"{"a":{"":{}},"b":[1,2.5,"x\né",null,true]}"#),
            ("12345678901234567890", "12345678901234567890"),
            ("-0.0", "-0.0"),
            ("1e3", "1000.0"),
            ("1e300", "1e300"),
            ("0.1", "0.1"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("[]", "[]"),
            (r#""a\u0041\ud83d\ude00""#, r#""aA😀""#),
        ] {
            assert_eq!(again(json), expected, "{json}");
        }
    }

    #[test]
    fn numbers_are_exact_as_far_as_variants_are() {
        let kind = |json: &str| {
            let (metadata, value) = parse(json).expect(json);
            match Theirs::try_new(&metadata, &value).expect("a variant") {
                Theirs::Int8(_) => "int8",
                Theirs::Int16(_) => "int16",
                Theirs::Int32(_) => "int32",
                Theirs::Int64(_) => "int64",
                Theirs::Decimal4(_) => "decimal4",
                Theirs::Decimal8(_) => "decimal8",
                Theirs::Decimal16(_) => "decimal16",
                Theirs::Double(_) => "double",
                other => panic!("{other:?}"),
            }
        };
        let long = format!("0.{}", "1".repeat(39));
        for (json, expected) in [
            ("127", "int8"),
            ("-128", "int8"),
            ("128", "int16"),
            ("40000", "int32"),
            ("3000000000", "int64"),
            ("1.5", "decimal4"),
            ("1234567890.5", "decimal8"),
            ("12345678901234567890", "decimal16"),
            ("1.5e1", "double"),
            (long.as_str(), "double"),
            ("-0.0", "double"),
        ] {
            assert_eq!(kind(json), expected, "{json}");
        }
    }

    #[test]
    fn what_is_no_json_is_an_error() {
        for wrong in ["", "{", "[1,]", "{\"a\":1,}", "nul", "01", "1 2", "'a'", "{\"a\":1,\"a\":2}", "\u{1}", "NaN", "+1", "-"] {
            parse(wrong).map(drop).expect_err(wrong);
        }
        let error = parse(r#"{"x": {"a": 1, "\u0061": 2}}"#).expect_err("twice");
        assert!(error.contains(r#"field "a" is there twice"#), "{error}");
        let deep = "[".repeat(5000) + &"]".repeat(5000);
        parse(&deep).expect_err("too deep");
        let most = "[".repeat(MAX_VARIANT_DEPTH) + &"]".repeat(MAX_VARIANT_DEPTH);
        assert_eq!(again(&most), most);
        assert_eq!(depth(r#"{"a[[\"[[": [{}]}"#), 3);
    }
}
