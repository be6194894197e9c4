//! Parses texts that are stored as values of other types. All of a text must be a value, or the text does not fit. Start reading
//! at `read`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array, Int32Array,
    Int64Array, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use arrow::datatypes::DataType;
use chrono::{DateTime, FixedOffset, NaiveDate, NaiveTime, Timelike, Utc};
use esker_format::PrimitiveType;

use crate::timestamp_text;

/// Number of nanoseconds in a microsecond.
const MICROSECOND: u32 = 1000;

/// Parses texts as values of a type; nulls stay null.
///
/// Returns `None` if texts cannot be stored as the type. The error is the index of the first text that does not fit.
pub(crate) fn read(texts: &StringArray, ty: &PrimitiveType, arrow: &DataType) -> Option<Result<ArrayRef, usize>> {
    Some(match ty {
        PrimitiveType::Boolean => each(texts, boolean).map(|v| Arc::new(BooleanArray::from(v)) as ArrayRef),
        PrimitiveType::Int => each(texts, |t| t.parse::<i32>().ok()).map(|v| Arc::new(Int32Array::from(v)) as ArrayRef),
        PrimitiveType::Long => each(texts, |t| t.parse::<i64>().ok()).map(|v| Arc::new(Int64Array::from(v)) as ArrayRef),
        PrimitiveType::Float => each(texts, float).map(|v| Arc::new(Float32Array::from(v)) as ArrayRef),
        PrimitiveType::Double => each(texts, double).map(|v| Arc::new(Float64Array::from(v)) as ArrayRef),
        PrimitiveType::Decimal { precision, scale } => {
            let values = each(texts, |t| decimal(t, *precision, *scale));
            values.map(|v| Arc::new(Decimal128Array::from(v).with_data_type(arrow.clone())) as ArrayRef)
        }
        PrimitiveType::Date => each(texts, date).map(|v| Arc::new(Date32Array::from(v)) as ArrayRef),
        PrimitiveType::Time => each(texts, time).map(|v| Arc::new(Time64MicrosecondArray::from(v)) as ArrayRef),
        PrimitiveType::Timestamp | PrimitiveType::Timestamptz => {
            let zoned = matches!(ty, PrimitiveType::Timestamptz);
            let micros = |at: DateTime<Utc>| at.nanosecond().is_multiple_of(MICROSECOND).then(|| at.timestamp_micros());
            let values = each(texts, |t| timestamp(t, zoned).and_then(micros));
            values.map(|v| Arc::new(TimestampMicrosecondArray::from(v).with_data_type(arrow.clone())) as ArrayRef)
        }
        PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs => {
            let zoned = matches!(ty, PrimitiveType::TimestamptzNs);
            let values = each(texts, |t| timestamp(t, zoned).and_then(|at| at.timestamp_nanos_opt()));
            values.map(|v| Arc::new(TimestampNanosecondArray::from(v).with_data_type(arrow.clone())) as ArrayRef)
        }
        PrimitiveType::Uuid => each(texts, uuid).and_then(|values| {
            let stored = FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.into_iter(), 16);
            stored.map(|v| Arc::new(v) as ArrayRef).map_err(|_| 0)
        }),
        PrimitiveType::String
        | PrimitiveType::Fixed(_)
        | PrimitiveType::Binary
        | PrimitiveType::Unknown
        | PrimitiveType::Geometry { .. }
        | PrimitiveType::Geography { .. }
        | PrimitiveType::Other(_) => return None,
    })
}

/// Parses each text without the blanks around it. The error is the index of the first text that does not fit.
fn each<T>(texts: &StringArray, read: impl Fn(&str) -> Option<T>) -> Result<Vec<Option<T>>, usize> {
    let value = |(row, text): (usize, Option<&str>)| match text {
        None => Ok(None),
        Some(text) => read(text.trim()).map(Some).ok_or(row),
    };
    texts.iter().enumerate().map(value).collect()
}

/// Parses a truth value in one of PostgreSQL's spellings, in upper or lower case.
fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Checks that a number of floating point is within its range: neither infinite nor zero, unless the text is.
fn within_range(text: &str, infinite: bool, zero: bool) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let says_infinite = text.to_ascii_lowercase().contains("inf");
    infinite == says_infinite && (!zero || !mantissa.contains(|c: char| ('1'..='9').contains(&c)))
}

fn float(text: &str) -> Option<f32> {
    text.parse::<f32>().ok().filter(|v| within_range(text, v.is_infinite(), *v == 0.0))
}

fn double(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|v| within_range(text, v.is_infinite(), *v == 0.0))
}

/// Parses a decimal such as `123.45` or `-1e3`; returns its unscaled value.
fn decimal(text: &str, precision: u32, scale: u32) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // The number of digits to add to get the unscaled value; negative if digits are to be cut.
    let missing = exponent.checked_add(i32::try_from(scale).ok()?)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    match usize::try_from(missing) {
        // Only a zero can need more digits than a decimal has.
        Ok(more) => all.extend(std::iter::repeat_n('0', more.min(40))),
        Err(_) => {
            let less = usize::try_from(missing.unsigned_abs()).ok()?;
            let (kept, cut) = all.split_at(all.len().saturating_sub(less));
            if cut.bytes().any(|b| b != b'0') {
                return None;
            }
            all = kept.to_owned();
        }
    }
    let digits = all.trim_start_matches('0');
    if digits.len() > usize::try_from(precision).ok()? {
        return None;
    }
    let value: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    Some(if negative { -value } else { value })
}

/// Checks that the year at the beginning of a text is one that literals may have: 0001 to 9999. Files may hold others.
pub(crate) fn is_year_known(text: &str) -> bool {
    let text = text.trim_start();
    let year: String = text.chars().take_while(char::is_ascii_digit).collect();
    !text.starts_with(['-', '+'])
        && (year.is_empty() || matches!(year.parse::<u32>(), Ok(1..=9999)) || year.len() > 4 && !text.contains('-'))
}

/// Parses a date; returns the number of days since 1970-01-01.
fn date(text: &str) -> Option<i32> {
    if !is_year_known(text) {
        return None;
    }
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    i32::try_from(day.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

/// Parses a time of day; returns the number of microseconds since midnight.
fn time(text: &str) -> Option<i64> {
    let at = NaiveTime::parse_from_str(text, "%H:%M:%S%.f").or_else(|_| NaiveTime::parse_from_str(text, "%H:%M")).ok()?;
    // Chrono represents a leap second by more nanoseconds than a second has.
    let whole = at.nanosecond() < 1_000_000_000 && at.nanosecond().is_multiple_of(MICROSECOND);
    whole.then(|| i64::from(at.num_seconds_from_midnight()) * 1_000_000 + i64::from(at.nanosecond() / MICROSECOND))
}

/// Parses a timestamp. Without a zone it is in UTC; with a zone it fits only columns with zones.
fn timestamp(text: &str, zoned: bool) -> Option<DateTime<Utc>> {
    if !is_year_known(text) {
        return None;
    }
    let at = timestamp_text::read(&Utc, text).ok()?;
    let elsewhere = timestamp_text::read(&FixedOffset::east_opt(3600)?, text).ok()?;
    let says_zone = elsewhere == at;
    (zoned || !says_zone).then_some(at)
}

/// Parses a UUID, with or without hyphens.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let hyphens = |(i, b): (usize, u8)| (b == b'-') == [8, 13, 18, 23].contains(&i);
    if text.len() != 32 && !(text.len() == 36 && text.bytes().enumerate().all(hyphens)) {
        return None;
    }
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let valid = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    valid.then(|| u128::from_str_radix(&digits, 16).ok()).flatten().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_every_digit_or_do_not_fit() {
        let read = |text: &str| decimal(text, 9, 2);
        assert_eq!(read("1234567.89"), Some(123_456_789));
        assert_eq!(read("-0.10"), Some(-10));
        assert_eq!(read("1.2300"), Some(123));
        assert_eq!(read("+1e3"), Some(100_000));
        assert_eq!(read("1.5E-1"), Some(15));
        assert_eq!(read("0e99"), Some(0));
        assert_eq!(read(".5"), Some(50));
        for text in ["1.234", "12345678.00", "1e9", "1e-3", "", ".", "1,5", "--1", "1e", "0x10", "1 2"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(
            decimal("99999999999999999999999999999999999999", 38, 0),
            Some(99_999_999_999_999_999_999_999_999_999_999_999_999)
        );
    }

    #[test]
    fn times_and_dates_lose_nothing() {
        assert_eq!(date("1970-01-02"), Some(1));
        assert_eq!(date("0001-01-01"), Some(-719_162));
        assert_eq!(date("9999-12-31"), Some(2_932_896));
        assert_eq!(date("2026-13-45"), None);
        assert_eq!(date("2026-01-01 10:00:00"), None);
        assert_eq!(time("10:00:00.000001"), Some(36_000_000_001));
        assert_eq!(time("10:00:00.0000001"), None);
        assert_eq!(time("24:00:00"), None);
        assert_eq!(timestamp("2026-01-01 00:00:00", false).map(|t| t.timestamp()), Some(1_767_225_600));
        assert_eq!(timestamp("2026-01-01T01:00:00+01:00", true).map(|t| t.timestamp()), Some(1_767_225_600));
        assert_eq!(timestamp("2026-01-01T01:00:00+01:00", false), None);
        assert_eq!(timestamp("2026-01-01 00:00", false).map(|t| t.timestamp()), Some(1_767_225_600));
        assert_eq!(timestamp("2026-01-01T01:00+01", true).map(|t| t.timestamp()), Some(1_767_225_600));
        assert_eq!(timestamp("2026-01-01T01:00Z", false), None);
        assert_eq!(timestamp("2026-13-45", false), None);
    }

    #[test]
    fn other_texts_are_values_or_do_not_fit() {
        assert_eq!(uuid("f79c3e09-677c-4bbd-a479-3f349cb785e7").map(|u| u[0]), Some(0xf7));
        assert_eq!(uuid("f79c3e09677c4bbda4793f349cb785e7").map(|u| u[15]), Some(0xe7));
        assert_eq!(uuid("f79c3e09-677c4bbd-a479-3f349cb785e7-"), None);
        assert_eq!(uuid("f79c3e09"), None);
        assert_eq!((boolean("T"), boolean("off"), boolean("2")), (Some(true), Some(false), None));
        assert_eq!((float("1e39"), float("1e-60"), float("-inf")), (None, None, Some(f32::NEG_INFINITY)));
        assert_eq!((double("1e400"), double("0.0"), double("1.5e3")), (None, Some(0.0), Some(1500.0)));
        assert!(double("NaN").is_some_and(f64::is_nan));
    }
}
