//! `date_trunc` of timestamps in microseconds, for every year. DataFusion's function computes in nanoseconds, which hold the
//! years 1677 to 2262 only.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::error::{DataFusionError, Result};

use super::function::Unary;
use crate::calendar::{date_of, first_day};

/// Microseconds in a second.
const SECOND: i64 = 1_000_000;
/// Microseconds in a day.
const DAY: i64 = 86_400 * SECOND;

/// The unit to which a timestamp is truncated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Trunc {
    /// A number of microseconds that divides a day evenly.
    Even(i64),
    /// A week, which begins on Monday.
    Week,
    /// A number of months that divides a year evenly.
    Months(i64),
}

impl Trunc {
    /// Returns the unit of a name, in upper or lower case; `None` if no unit has it.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name.to_lowercase().as_str() {
            "microsecond" => Self::Even(1),
            "millisecond" => Self::Even(1_000),
            "second" => Self::Even(SECOND),
            "minute" => Self::Even(60 * SECOND),
            "hour" => Self::Even(3_600 * SECOND),
            "day" => Self::Even(DAY),
            "week" => Self::Week,
            "month" => Self::Months(1),
            "quarter" => Self::Months(3),
            "year" => Self::Months(12),
            _ => return None,
        })
    }

    /// Truncates microseconds since the Unix epoch. Returns `None` if the result is out of range.
    fn cut(self, micros: i64) -> Option<i64> {
        let days = micros.div_euclid(DAY);
        match self {
            Self::Even(unit) => micros.checked_sub(micros.rem_euclid(unit)),
            // The epoch was a Thursday.
            Self::Week => (days - (days + 3).rem_euclid(7)).checked_mul(DAY),
            Self::Months(many) => {
                let (year, month, _) = date_of(days);
                first_day(year, month - (month - 1) % many).checked_mul(DAY)
            }
        }
    }
}

impl Unary for Trunc {
    fn name(&self) -> &'static str {
        "date_trunc_of_microseconds"
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        Ok(Field::new("", input.data_type().clone(), input.is_nullable()))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let micros = cast(values, &DataType::Int64)?;
        let far = || DataFusionError::Execution("date_trunc: the timestamp is too far in the past".to_owned());
        let cut: Int64Array = micros.as_primitive::<Int64Type>().try_unary(|v| self.cut(v).ok_or_else(far))?;
        Ok(cast(&(Arc::new(cut) as ArrayRef), values.data_type())?)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Datelike, NaiveDate};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The expected days come from chrono's calendar.
        #[test]
        fn days_are_in_the_months_and_weeks_that_the_calendar_says(days in -70_000_000_i64..70_000_000) {
            let date = NaiveDate::default().checked_add_signed(chrono::Duration::days(days)).expect("in range");
            prop_assert_eq!(date_of(days), (i64::from(date.year()), i64::from(date.month()), i64::from(date.day())));
            let first = date.with_day(1).expect("a day");
            prop_assert_eq!(first_day(i64::from(date.year()), i64::from(date.month())), (first - NaiveDate::default()).num_days());
            let monday = Trunc::Week.cut(days * DAY + 5).expect("in range");
            prop_assert_eq!(DateTime::from_timestamp_micros(monday).expect("in range").weekday(), chrono::Weekday::Mon);
            prop_assert!((0..7).contains(&(days - monday / DAY)));
        }
    }

    #[test]
    fn timestamps_are_cut_towards_the_past() {
        assert_eq!(Trunc::named("HOUR").expect("a part").cut(-1), Some(-3_600 * SECOND));
        assert_eq!(Trunc::Months(12).cut(-1), Some(-365 * DAY));
        assert_eq!(Trunc::Months(3).cut(0), Some(0));
        assert_eq!(Trunc::Months(12).cut(i64::MIN), None);
        assert_eq!(Trunc::named("fortnight"), None);
    }
}
