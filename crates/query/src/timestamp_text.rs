//! Timestamps and times as text: read with or without seconds, and written as PostgreSQL and DuckDB write them.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StringArray, StructArray};
use arrow::compute::cast;
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use chrono::{DateTime, Datelike, TimeZone, Timelike};

/// Parses a text as a point in time. `zone` is the zone of a text that names none.
pub(crate) fn read<T: TimeZone>(zone: &T, text: &str) -> Result<DateTime<T>, ArrowError> {
    string_to_datetime(zone, &whole(text))
}

/// Returns a text without the blanks around it, with `:00` added to hours and minutes, as Arrow wants seconds.
pub(crate) fn whole(text: &str) -> Cow<'_, str> {
    const MINUTES: usize = 16;
    let text = text.trim();
    let bytes = text.as_bytes();
    let digits = |at: usize| bytes[at].is_ascii_digit() && bytes[at + 1].is_ascii_digit();
    let minutes = bytes.len() >= MINUTES
        && matches!(bytes[10], b'T' | b't' | b' ')
        && bytes[13] == b':'
        && digits(11)
        && digits(14)
        && bytes.get(MINUTES).is_none_or(|next| matches!(next, b'+' | b'-' | b' ') || next.is_ascii_alphabetic());
    match minutes {
        true => Cow::Owned(format!("{}:00{}", &text[..MINUTES], &text[MINUTES..])),
        false => Cow::Borrowed(text),
    }
}

/// Checks whether values of a type hold timestamps or times of day, at any depth.
pub(crate) fn holds_times(ty: &DataType) -> bool {
    match ty {
        DataType::Timestamp(..) | DataType::Time64(_) => true,
        DataType::Struct(fields) => fields.iter().any(|field| holds_times(field.data_type())),
        DataType::List(item) | DataType::Map(item, _) => holds_times(item.data_type()),
        _ => false,
    }
}

/// Returns values with texts in place of timestamps and times of day, at every depth.
pub(crate) fn as_texts(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let renamed = |field: &FieldRef, made: &ArrayRef| Arc::new(Field::clone(field).with_data_type(made.data_type().clone()));
    Ok(match values.data_type() {
        DataType::Timestamp(unit, zone) => {
            let zone = if zone.is_some() { "+00" } else { "" };
            each(values, |v| timestamp(v, *unit, zone))?
        }
        DataType::Time64(unit) => each(values, |v| Some(time(v, *unit)))?,
        ty if !holds_times(ty) => values.clone(),
        DataType::Struct(fields) => {
            let own = values.as_struct();
            let made = own.columns().iter().map(as_texts).collect::<Result<Vec<_>, _>>()?;
            let fields = fields.iter().zip(&made).map(|(field, made)| renamed(field, made)).collect();
            Arc::new(StructArray::try_new_with_length(fields, made, own.nulls().cloned(), own.len())?)
        }
        DataType::List(item) => {
            let own = values.as_list::<i32>();
            let made = as_texts(own.values())?;
            Arc::new(ListArray::try_new(renamed(item, &made), own.offsets().clone(), made, own.nulls().cloned())?)
        }
        DataType::Map(entries, sorted) => {
            let own = values.as_map();
            let made = as_texts(&(Arc::new(own.entries().clone()) as ArrayRef))?;
            let field = renamed(entries, &made);
            Arc::new(MapArray::try_new(field, own.offsets().clone(), made.as_struct().clone(), own.nulls().cloned(), *sorted)?)
        }
        _ => values.clone(),
    })
}

/// Returns the text of each value, which `text` makes of the stored integer.
fn each(values: &ArrayRef, text: impl Fn(i64) -> Option<String>) -> Result<ArrayRef, ArrowError> {
    // This cast returns the integer that is stored; nothing is converted.
    let plain = cast(values, &DataType::Int64)?;
    let one =
        |v: i64| text(v).ok_or_else(|| ArrowError::CastError(format!("a {} of the value {v} has no text", values.data_type())));
    let texts = plain.as_primitive::<Int64Type>().iter().map(|v| v.map(one).transpose()).collect::<Result<StringArray, _>>()?;
    Ok(Arc::new(texts))
}

/// Writes a timestamp; `None` if the calendar does not reach it.
fn timestamp(value: i64, unit: TimeUnit, zone: &str) -> Option<String> {
    let per = per_second(unit);
    let at = DateTime::from_timestamp(value.div_euclid(per), 0)?.naive_utc();
    let (year, before) = if at.year() > 0 { (at.year(), "") } else { (1 - at.year(), " BC") };
    let (month, day, fraction) = (at.month(), at.day(), fraction(value.rem_euclid(per), unit));
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    Some(format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{fraction}{zone}{before}"))
}

/// Writes a time of day.
fn time(value: i64, unit: TimeUnit) -> String {
    let per = per_second(unit);
    let (seconds, fraction) = (value.div_euclid(per), fraction(value.rem_euclid(per), unit));
    format!("{:02}:{:02}:{:02}{fraction}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Returns the number of a unit's digits after the point.
fn digits(unit: TimeUnit) -> usize {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// Returns the number of units in a second.
fn per_second(unit: TimeUnit) -> i64 {
    (0..digits(unit)).fold(1, |per, _| per * 10)
}

/// Writes the digits after the point, and the point; nothing if all digits are 0.
fn fraction(rest: i64, unit: TimeUnit) -> String {
    if rest == 0 {
        return String::new();
    }
    format!(".{rest:0width$}", width = digits(unit)).trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray};
    use chrono::Utc;

    use super::*;

    #[test]
    fn a_text_needs_no_seconds() {
        let at = |text: &str| read(&Utc, text).map(|at| at.timestamp()).ok();
        let ten = Some(1_704_103_200);
        for text in ["2024-01-01 10:00", "2024-01-01T10:00", " 2024-01-01 10:00 ", "2024-01-01T10:00Z", "2024-01-01 10:00 +00:00"]
        {
            assert_eq!(at(text), ten, "{text}");
        }
        assert_eq!(at("2024-01-01 11:00+01"), ten);
        assert_eq!(at("2024-01-01 05:00-0500"), ten);
        assert_eq!(at("2024-01-01 11:00 Europe/Berlin"), ten);
        for text in [
            "2024-01-01 10:0",
            "2024-01-01 10:00.5",
            "2024-01-01 10:00x",
            "2024-01-01 25:00",
            "2024-01-01 10:00:",
            "äöüäöüä10:00",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    fn texts(values: impl Array + 'static) -> Vec<String> {
        let made = as_texts(&(Arc::new(values) as ArrayRef)).expect("texts");
        made.as_string::<i32>().iter().map(|text| text.unwrap_or("NULL").to_owned()).collect()
    }

    /// SELECT x::text in PostgreSQL 17 with `timezone` UTC.
    #[test]
    fn times_are_written_as_postgresql_writes_them() {
        let micros = vec![Some(0), Some(-1), Some(1_709_168_523_000_004), Some(500_000), None, Some(-62_135_596_800_000_001)];
        let plain = [
            "1970-01-01 00:00:00",
            "1969-12-31 23:59:59.999999",
            "2024-02-29 01:02:03.000004",
            "1970-01-01 00:00:00.5",
            "NULL",
            "0001-12-31 23:59:59.999999 BC",
        ];
        assert_eq!(texts(TimestampMicrosecondArray::from(micros)), plain);
        let zoned = TimestampMicrosecondArray::from(vec![253_402_300_800_000_000, -62_135_596_800_000_001]).with_timezone("UTC");
        assert_eq!(texts(zoned), ["10000-01-01 00:00:00+00", "0001-12-31 23:59:59.999999+00 BC"]);
        assert_eq!(texts(TimestampNanosecondArray::from(vec![1])), ["1970-01-01 00:00:00.000000001"]);
        assert_eq!(texts(Time64MicrosecondArray::from(vec![36_000_500_000, 0])), ["10:00:00.5", "00:00:00"]);
    }
}
