//! Maintenance windows: times of the week at which the autopilot may begin a job.
//!
//! A window is written as `22:00-06:00` or `Mon-Fri 20:00-23:30`. The days are those on which the window begins: `Fri 22:00-06:00`
//! ends on Saturday morning.

use chrono::{DateTime, Datelike, Timelike};
use chrono_tz::Tz;
use esker_types::Millis;

use super::values::ParseResult;

/// The names of the days in windows, from Monday on.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A time of the day on some days of the week. If it ends before it begins, it goes on into the next day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaintenanceWindow {
    /// The days on which the window begins; Monday is the first.
    days: [bool; 7],
    /// The first minute of the day that is inside the window, counted from midnight.
    start_minute: u32,
    /// The first minute of the day that is outside the window again, counted from midnight; 1440 is the end of the day.
    end_minute: u32,
}

/// Parses a time such as `22:00` as minutes of the day. `24:00` is the end of the day.
fn minute_of_day(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60 || (hours, minutes) == (24, 0)).then_some(hours * 60 + minutes)
}

/// Parses a day such as `Mon`, in upper or lower case, as its index in [`DAYS`].
fn day(text: &str) -> Option<usize> {
    DAYS.iter().position(|day| day.eq_ignore_ascii_case(text.trim()))
}

/// Parses days such as `Mon-Fri` or `Sat+Sun`, as one flag for each of [`DAYS`]. A range may go on past Sunday: `Sat-Mon`.
fn days(text: &str) -> Option<[bool; 7]> {
    let mut flags = [false; 7];
    for part in text.split('+') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let mut at = first;
        flags[at] = true;
        while at != last {
            at = (at + 1) % 7;
            flags[at] = true;
        }
    }
    Some(flags)
}

impl MaintenanceWindow {
    /// Parses a list of windows: `Mon-Fri 22:00-06:00, Sat+Sun 00:00-24:00`. An empty text gives no window.
    pub(super) fn parse_list(text: &str) -> ParseResult<Vec<Self>> {
        text.split(',').filter(|part| !part.trim().is_empty()).map(|part| Self::parse(part.trim())).collect()
    }

    /// Parses one window: its days, then the times at which it begins and ends. Without days it begins on every day.
    fn parse(text: &str) -> ParseResult<Self> {
        let wrong = || format!("{text:?} is not a window like 22:00-06:00 or Mon-Fri 20:00-23:30");
        let (on, hours) = match text.rsplit_once(' ') {
            Some((on, hours)) => (days(on.trim()).ok_or_else(wrong)?, hours),
            None => ([true; 7], text),
        };
        let (from, to) = hours.split_once('-').ok_or_else(wrong)?;
        let (from, to) = (minute_of_day(from).ok_or_else(wrong)?, minute_of_day(to).ok_or_else(wrong)?);
        if from == to {
            return Err(wrong());
        }
        Ok(Self { days: on, start_minute: from, end_minute: to })
    }

    /// Checks whether a time, in milliseconds since the Unix epoch, is inside the window in a time zone.
    pub fn contains(&self, now: Millis, zone: Tz) -> bool {
        let Some(at) = DateTime::from_timestamp_millis(now).map(|at| at.with_timezone(&zone)) else { return false };
        let (minute, today) = (at.hour() * 60 + at.minute(), at.weekday().num_days_from_monday() as usize);
        if self.start_minute < self.end_minute {
            return self.days[today] && (self.start_minute..self.end_minute).contains(&minute);
        }
        (self.days[today] && minute >= self.start_minute) || (self.days[(today + 6) % 7] && minute < self.end_minute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses an RFC 3339 time. In these tests, 2026-06-29 is a Monday.
    fn at(text: &str) -> Millis {
        DateTime::parse_from_rfc3339(text).expect("a time").timestamp_millis()
    }

    #[test]
    fn a_window_may_go_on_into_the_next_day() {
        let windows = MaintenanceWindow::parse_list("Mon-Fri 22:00-06:00, Sat+Sun 00:00-24:00").expect("valid");
        let open = |text: &str| windows.iter().any(|w| w.contains(at(text), Tz::UTC));
        assert!(open("2026-06-29T22:00:00Z") && open("2026-06-30T05:59:00Z"));
        assert!(!open("2026-06-30T06:00:00Z") && !open("2026-06-29T05:00:00Z"), "Sunday's night is not in it");
        assert!(open("2026-07-04T05:00:00Z") && open("2026-07-05T23:59:00Z"));
        let zurich = MaintenanceWindow::parse_list("22:00-06:00").expect("valid");
        assert!(zurich[0].contains(at("2026-06-29T20:00:00Z"), Tz::Europe__Zurich));
        for wrong in ["22-06", "22:00", "25:00-26:00", "Mon-Foo 22:00-23:00", "10:00-10:00"] {
            assert!(MaintenanceWindow::parse_list(wrong).is_err(), "{wrong}");
        }
    }
}
