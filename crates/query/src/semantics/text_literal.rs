//! Texts that are compared with values of another type, and stand for a value of that type: `ts < '9999-12-31'`.
//!
//! A text that stands for no value is an error. Start with [`place`].

use arrow::compute::kernels::cast_utils::{parse_decimal, string_to_time_nanoseconds};
use arrow::datatypes::{DataType, Decimal128Type, TimeUnit};
use chrono::{NaiveDate, Utc};
use datafusion::error::{DataFusionError, Result};
use datafusion::scalar::ScalarValue;

use super::literal_position::{LiteralPosition, at_instant, position_of};
use super::uuid;
use crate::stored_text::is_year_known;
use crate::timestamp_text;

/// Nanoseconds in a microsecond.
const MICROSECOND: i64 = 1_000;

/// Returns the text of a literal, or `None` if it is none.
pub(super) fn text(value: &ScalarValue) -> Option<&str> {
    match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => Some(text),
        _ => None,
    }
}

/// Returns the bytes of a literal, or `None` if it is none.
pub(super) fn bytes(value: &ScalarValue) -> Option<&[u8]> {
    match value {
        ScalarValue::Binary(Some(bytes))
        | ScalarValue::LargeBinary(Some(bytes))
        | ScalarValue::BinaryView(Some(bytes))
        | ScalarValue::FixedSizeBinary(_, Some(bytes)) => Some(bytes),
        _ => None,
    }
}

/// Returns the error for a text that stands for no value of a kind.
fn wrong(text: &str, kind: &str) -> DataFusionError {
    DataFusionError::Plan(format!("'{text}' is not a {kind}"))
}

/// Checks that a text for a date or a timestamp has a year from 0001 to 9999.
pub(super) fn check_year(text: &str, to: &DataType) -> Result<()> {
    match to {
        DataType::Date32 | DataType::Timestamp(_, _) if !is_year_known(text) => {
            Err(DataFusionError::Plan(format!("'{text}' has no year from 0001 to 9999")))
        }
        _ => Ok(()),
    }
}

/// Returns the position of a text among the values of a type.
///
/// Returns `None` for types for which DataFusion's own conversion is right. Fails if the text stands for no value.
pub(super) fn place(text: &str, to: &DataType) -> Result<Option<LiteralPosition>> {
    check_year(text, to)?;
    Ok(Some(match to {
        DataType::Timestamp(_, _) => moment(text, to, "timestamp")?,
        DataType::Date32 => match NaiveDate::parse_from_str(text.trim(), "%Y-%m-%d") {
            Ok(date) => at_instant(midnight(date), to).ok_or_else(|| wrong(text, "date"))?,
            Err(_) => moment(text, to, "date")?,
        },
        DataType::Time64(TimeUnit::Microsecond) => {
            let nanoseconds = string_to_time_nanoseconds(text.trim()).map_err(|_| wrong(text, "time"))?;
            let value = ScalarValue::Time64Microsecond(Some(nanoseconds.div_euclid(MICROSECOND)));
            if nanoseconds % MICROSECOND == 0 { LiteralPosition::At(value) } else { LiteralPosition::After(value) }
        }
        DataType::Boolean => LiteralPosition::At(boolean(text)?),
        DataType::Decimal128(_, _) => match decimal(text)? {
            Some(value) => position_of(&value, to).ok_or_else(|| wrong(text, "number"))?,
            None => return Ok(None),
        },
        _ => return Ok(None),
    }))
}

/// Returns the UUID that a text spells, as a literal of 16 bytes.
pub(super) fn uuid(text: &str) -> Result<ScalarValue> {
    Ok(ScalarValue::FixedSizeBinary(16, Some(uuid::parse(text)?.to_vec())))
}

/// Returns the midnight of a date in nanoseconds since the Unix epoch.
fn midnight(date: NaiveDate) -> i128 {
    let epoch = NaiveDate::default();
    i128::from((date - epoch).num_days()) * 86_400_000_000_000
}

/// Returns the position of a text that spells a timestamp among the values of a type.
fn moment(text: &str, to: &DataType, kind: &str) -> Result<LiteralPosition> {
    let instant = timestamp_text::read(&Utc, text).map_err(|_| wrong(text, kind))?;
    let nanoseconds = i128::from(instant.timestamp()) * 1_000_000_000 + i128::from(instant.timestamp_subsec_nanos());
    at_instant(nanoseconds, to).ok_or_else(|| wrong(text, kind))
}

/// Returns the boolean that a text spells.
fn boolean(text: &str) -> Result<ScalarValue> {
    // PostgreSQL takes these spellings and their beginnings. An "o" may begin "on" or "off", so it is neither.
    let lower = text.trim().to_lowercase();
    let begins = |whole: &str, least: usize| lower.len() >= least && whole.starts_with(lower.as_str());
    let value = match lower.as_str() {
        "1" => true,
        "0" => false,
        _ if begins("true", 1) || begins("yes", 1) || begins("on", 2) => true,
        _ if begins("false", 1) || begins("no", 1) || begins("off", 2) => false,
        _ => return Err(wrong(text, "boolean")),
    };
    Ok(ScalarValue::Boolean(Some(value)))
}

/// Parses a number with all of its digits. Returns `None` if it has an exponent, or more than 38 digits after the point.
fn decimal(text: &str) -> Result<Option<ScalarValue>> {
    let trimmed = text.trim();
    let scale = trimmed.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    if trimmed.contains(['e', 'E']) || scale > 38 {
        return Ok(None);
    }
    let scale = i8::try_from(scale).map_err(|_| wrong(text, "number"))?;
    let value = parse_decimal::<Decimal128Type>(trimmed, 38, scale).map_err(|_| wrong(text, "number"))?;
    Ok(Some(ScalarValue::Decimal128(Some(value), 38, scale)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_values_of_the_type_beside_them() {
        let us = DataType::Timestamp(TimeUnit::Microsecond, None);
        let micros = |v| ScalarValue::TimestampMicrosecond(Some(v), None);
        let cases = [
            ("1970-01-01 00:00:01", us.clone(), LiteralPosition::At(micros(1_000_000))),
            ("1970-01-01 00:01", us.clone(), LiteralPosition::At(micros(60_000_000))),
            ("1970-01-01T01:01+01", us.clone(), LiteralPosition::At(micros(60_000_000))),
            ("9999-12-31", us.clone(), LiteralPosition::At(micros(253_402_214_400_000_000))),
            ("0001-01-01", us.clone(), LiteralPosition::At(micros(-62_135_596_800_000_000))),
            ("1970-01-01T00:00:00.0000015Z", us.clone(), LiteralPosition::After(micros(1))),
            ("1970-01-02", DataType::Date32, LiteralPosition::At(ScalarValue::Date32(Some(1)))),
            ("1970-01-02 12:00:00", DataType::Date32, LiteralPosition::After(ScalarValue::Date32(Some(1)))),
            (
                "10:00:00",
                DataType::Time64(TimeUnit::Microsecond),
                LiteralPosition::At(ScalarValue::Time64Microsecond(Some(36_000_000_000))),
            ),
            ("1.005", DataType::Decimal128(10, 2), LiteralPosition::After(ScalarValue::Decimal128(Some(100), 10, 2))),
            ("t", DataType::Boolean, LiteralPosition::At(ScalarValue::Boolean(Some(true)))),
        ];
        for (text, to, expected) in cases {
            assert_eq!(place(text, &to).expect(text), Some(expected), "{text} among {to}");
        }
    }

    #[test]
    fn a_text_that_stands_for_no_value_is_named() {
        let types = [
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Date32,
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Boolean,
            DataType::Decimal128(10, 2),
        ];
        for ty in types {
            let error = place("abc", &ty).expect_err("no value").to_string();
            assert!(error.contains("'abc' is not a"), "{error}");
        }
        assert!(place("2026-13-45", &DataType::Date32).is_err());
        assert!(place("o", &DataType::Boolean).is_err());
    }
}
