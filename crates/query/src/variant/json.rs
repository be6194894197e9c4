//! Variants from JSON and as JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use esker_read::DEPTH;
use parquet::variant::{Variant, VariantBuilder, VariantBuilderExt, VariantDecimal4, VariantDecimal8, VariantDecimal16};
use parquet_variant_json::VariantToJson;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The metadata and the value of a variant with what JSON says. Whole numbers are integers, those with a point decimals as far as 38 digits
/// hold them, others doubles.
pub(super) fn parse(text: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
    // Before anybody goes into it: each level is looked through again by the one above it.
    if depth(text) > DEPTH {
        return Err(format!("it is nested more than {DEPTH} deep"));
    }
    let mut builder = VariantBuilder::new();
    append(text.trim_ascii(), &mut builder)?;
    Ok(builder.finish())
}

/// Objects and arrays within one another, at most, whether the text is JSON or not.
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

/// A name of an object's field, which may be written with escapes.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

fn append(text: &str, builder: &mut impl VariantBuilderExt) -> Result<(), String> {
    let wrong = |error: serde_json::Error| error.to_string();
    match text.as_bytes().first() {
        Some(b'{') => {
            let Fields(fields) = serde_json::from_str(text).map_err(wrong)?;
            let mut object = builder.try_new_object().map_err(|e| e.to_string())?;
            for (name, value) in &fields {
                let mut field = parquet::variant::ObjectFieldBuilder::new(&name.0, &mut object);
                append(value.get(), &mut field)?;
            }
            object.finish();
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(wrong)?;
            let mut list = builder.try_new_list().map_err(|e| e.to_string())?;
            for item in items {
                append(item.get(), &mut list)?;
            }
            list.finish();
        }
        Some(b'"') => {
            let text: Cow<'_, str> = serde_json::from_str::<Name<'_>>(text).map_err(wrong)?.0;
            builder.append_value(text.as_ref());
        }
        Some(b'-' | b'0'..=b'9') => {
            let number: serde_json::Number = serde_json::from_str(text).map_err(wrong)?;
            builder.append_value(exact(text).unwrap_or_else(|| Variant::Double(number.as_f64().unwrap_or(f64::NAN))));
        }
        _ => match serde_json::from_str::<Option<bool>>(text).map_err(wrong)? {
            Some(truth) => builder.append_value(truth),
            None => builder.append_value(Variant::Null),
        },
    }
    Ok(())
}

/// The fields of an object, each once.
struct Fields<'a>(BTreeMap<Name<'a>, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// A number that is written without an exponent, if a variant holds it exactly.
fn exact(text: &str) -> Option<Variant<'static, 'static>> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(match (i8::try_from(whole), i16::try_from(whole), i32::try_from(whole)) {
            (Ok(v), ..) => Variant::Int8(v),
            (_, Ok(v), _) => Variant::Int16(v),
            (_, _, Ok(v)) => Variant::Int32(v),
            _ => Variant::Int64(whole),
        });
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let unscaled: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = u8::try_from(fraction.len()).ok()?;
    let fits = |max: u8| scale <= max;
    // -0.0 is a double, and no decimal.
    if unscaled == 0 && text.starts_with('-') {
        return None;
    }
    i32::try_from(unscaled)
        .ok()
        .filter(|_| fits(9))
        .and_then(|v| VariantDecimal4::try_new(v, scale).ok())
        .map(Variant::Decimal4)
        .or_else(|| {
            i64::try_from(unscaled)
                .ok()
                .filter(|_| fits(18))
                .and_then(|v| VariantDecimal8::try_new(v, scale).ok())
                .map(Variant::Decimal8)
        })
        .or_else(|| {
            Some(unscaled).filter(|_| fits(38)).and_then(|v| VariantDecimal16::try_new(v, scale).ok()).map(Variant::Decimal16)
        })
}

/// A variant as JSON. What JSON has not is text: bytes in Base64, dates, times and timestamps as ISO 8601 has them, and NaN and infinities by
/// their names.
pub(super) fn text(variant: &Variant<'_, '_>) -> String {
    let mut out = String::new();
    write(variant, &mut out);
    out
}

fn quoted(text: &str, out: &mut String) {
    // A text can always be written.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

fn write(variant: &Variant<'_, '_>, out: &mut String) {
    match variant {
        Variant::Float(v) => number(f64::from(*v), &v.to_string(), out),
        Variant::Double(v) => number(*v, &v.to_string(), out),
        Variant::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(&item, out);
            }
            out.push(']');
        }
        Variant::Object(object) => {
            out.push('{');
            for (at, (name, value)) in object.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                quoted(name, out);
                out.push(':');
                write(&value, out);
            }
            out.push('}');
        }
        other => match other.to_json_string() {
            Ok(text) => out.push_str(&text),
            Err(_) => out.push_str("null"),
        },
    }
}

/// A number of floating point, with a point or an exponent.
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
        false if digits <= 17 => drop(write!(out, "{shortest}.0")),
        false => drop(write!(out, "{value:e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(json: &str) -> String {
        let (metadata, value) = parse(json).expect(json);
        text(&Variant::new(&metadata, &value))
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
            match Variant::try_new(&metadata, &value).expect("a variant") {
                Variant::Int8(_) => "int8",
                Variant::Int16(_) => "int16",
                Variant::Int32(_) => "int32",
                Variant::Int64(_) => "int64",
                Variant::Decimal4(_) => "decimal4",
                Variant::Decimal8(_) => "decimal8",
                Variant::Decimal16(_) => "decimal16",
                Variant::Double(_) => "double",
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
        let most = "[".repeat(DEPTH) + &"]".repeat(DEPTH);
        assert_eq!(again(&most), most);
        assert_eq!(depth(r#"{"a[[\"[[": [{}]}"#), 3);
    }
}
