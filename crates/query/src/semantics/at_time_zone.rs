//! `AT TIME ZONE` of timestamps without a zone: the instant at which clocks in the zone show the timestamp.
//!
//! As in PostgreSQL, the later instant is taken if clocks show a time twice. If clocks skip a time, it counts as if they had not
//! been put forward yet.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone};
use datafusion::error::{DataFusionError, Result};

use super::function::Unary;
use super::instant::unit_nanoseconds;

/// The function from the time that clocks in `zone` show to its instant, a timestamp in UTC.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ShownInZone {
    /// Name or offset of the zone.
    pub(super) zone: Arc<str>,
}

/// Returns true if a zone is UTC, which is the zone of all sessions.
pub(super) fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "utc" | "Z" | "+00:00" | "+0000" | "+00")
}

/// Returns the zone of a name or an offset. Fails if there is none.
pub(super) fn named(zone: &str) -> Result<Tz> {
    zone.parse().map_err(|_| DataFusionError::Plan(format!("there is no time zone '{zone}'")))
}

/// Returns the seconds that clocks in `zone` are ahead of UTC when they show `local`.
fn ahead(zone: &Tz, local: NaiveDateTime) -> Option<i64> {
    // A skipped time has no offset: search back, by quarters of an hour, for a time that has one. No clock was ever put forward
    // by more than a day.
    let before = (0..=100).filter_map(|quarters| local.checked_sub_signed(TimeDelta::minutes(15 * quarters)));
    let offset = before.map(|time| zone.offset_from_local_datetime(&time)).find_map(|offset| match offset {
        MappedLocalTime::Single(one) => Some(one.fix().local_minus_utc()),
        MappedLocalTime::Ambiguous(a, b) => Some(a.fix().local_minus_utc().min(b.fix().local_minus_utc())),
        MappedLocalTime::None => None,
    });
    offset.map(i64::from)
}

impl Unary for ShownInZone {
    fn name(&self) -> &'static str {
        "instant_in_zone"
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        let DataType::Timestamp(unit, _) = input.data_type() else {
            return Err(DataFusionError::Internal(format!("an instant of {}", input.data_type())));
        };
        Ok(Field::new("", DataType::Timestamp(*unit, Some("UTC".into())), input.is_nullable()))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let DataType::Timestamp(unit, _) = values.data_type() else {
            return Err(DataFusionError::Internal(format!("an instant of {}", values.data_type())));
        };
        let zone = named(&self.zone)?;
        let per = i64::try_from(1_000_000_000 / unit_nanoseconds(*unit)).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let instant = |v: i64| {
            let local = DateTime::from_timestamp(v.div_euclid(per), 0)?.naive_utc();
            v.checked_sub(ahead(&zone, local)?.checked_mul(per)?)
        };
        let beyond = || DataFusionError::Execution(format!("a timestamp is out of the range of time zone '{}'", self.zone));
        let plain = cast(values, &DataType::Int64)?;
        let made: Int64Array = plain.as_primitive::<Int64Type>().try_unary(|v| instant(v).ok_or_else(beyond))?;
        Ok(cast(&made, &DataType::Timestamp(*unit, Some("UTC".into())))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected instants are PostgreSQL 17's: `SELECT timestamp '…' AT TIME ZONE '…'`.
    #[test]
    fn a_time_that_clocks_show_twice_or_never_is_an_instant() {
        let utc = |zone: &str, local: &str| {
            let local = NaiveDateTime::parse_from_str(local, "%Y-%m-%d %H:%M").expect("a time");
            let ahead = ahead(&named(zone).expect("a zone"), local).expect("an offset");
            (local - TimeDelta::seconds(ahead)).format("%Y-%m-%d %H:%M").to_string()
        };
        for (zone, local, expected) in [
            ("Europe/Berlin", "2024-03-31 01:59", "2024-03-31 00:59"),
            ("Europe/Berlin", "2024-03-31 02:30", "2024-03-31 01:30"),
            ("Europe/Berlin", "2024-03-31 03:00", "2024-03-31 01:00"),
            ("Europe/Berlin", "2024-10-27 02:30", "2024-10-27 01:30"),
            ("Europe/Berlin", "2024-07-01 12:00", "2024-07-01 10:00"),
            ("America/New_York", "2024-03-10 02:30", "2024-03-10 07:30"),
            ("America/New_York", "2024-11-03 01:30", "2024-11-03 06:30"),
            ("Pacific/Apia", "2011-12-30 12:00", "2011-12-30 22:00"),
            ("+05:30", "2024-01-01 00:00", "2023-12-31 18:30"),
        ] {
            assert_eq!(utc(zone, local), expected, "{local} in {zone}");
        }
        assert!(named("Mars/Olympus").is_err());
    }
}
