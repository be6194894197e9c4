//! Parsers of policy values: flags, numbers, ages, sizes, cron patterns and lists.
//!
//! For a text that is not valid, a parser returns the reason as a `String`. [`PolicyError`](crate::PolicyError) adds the key and
//! the place at which the value is set.

use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use esker_types::{parse_age, split_list};

/// The schedule of a kind of job: a cron pattern whose times are in the time zone of the policy.
#[derive(Debug, Clone)]
pub struct Schedule(pub Cron);

/// A parsed value, or the reason why the text is not valid.
pub(super) type ParseResult<T> = Result<T, String>;

/// Parses a value with `parse`, after trimming it. An empty value gives `None`.
pub(super) fn optional<T>(text: &str, parse: impl FnOnce(&str) -> ParseResult<T>) -> ParseResult<Option<T>> {
    if text.trim().is_empty() { Ok(None) } else { parse(text.trim()).map(Some) }
}

/// Parses `true` or `false`.
pub(super) fn flag(text: &str) -> ParseResult<bool> {
    match text.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}

/// Parses a whole number.
pub(super) fn number<T: FromStr>(text: &str) -> ParseResult<T> {
    text.parse().map_err(|_| "not a whole number".to_owned())
}

/// Parses an age: a whole number with `d`, `h`, `m` or `s`.
pub(super) fn age(text: &str) -> ParseResult<Duration> {
    parse_age(text.trim()).map_err(|_| "not an age like 5d, 12h, 30m or 10s".to_owned())
}

/// Parses a size in bytes: a whole number with `B`, `KiB`, `MiB`, `GiB`, `TiB` or no unit.
pub(super) fn bytes(text: &str) -> ParseResult<u64> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err("not a number of bytes like 500MiB or 2TiB".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "not a number of bytes like 500MiB or 2TiB".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too many bytes".to_owned())
}

/// Parses a cron pattern such as `0 3 * * 1-5` or `@daily`.
pub(super) fn cron(text: &str) -> ParseResult<Schedule> {
    Cron::from_str(text).map(Schedule).map_err(|e| format!("not a cron pattern: {e}"))
}

/// Splits a list at its commas, but not at commas in double quotes or backticks. Items keep their quotes; empty ones are left out.
pub(super) fn list(text: &str) -> Vec<String> {
    split_list(text).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units_of_1024() {
        assert_eq!((bytes("7"), bytes("500MiB"), bytes("2 TiB")), (Ok(7), Ok(500 << 20), Ok(2 << 40)));
        for wrong in ["", "x", "5GB", "-1", "99999999999TiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_of_a_list_hold_commas_in_quotes() {
        assert_eq!(list(" a, \"b, c\" ,, `d`"), ["a", "\"b, c\"", "`d`"]);
    }

    #[test]
    fn cron_patterns_are_checked() {
        assert!(cron("0 3 * * 1-5").is_ok() && cron("@daily").is_ok());
        assert!(cron("0 25 * * *").is_err() && cron("daily").is_err());
    }
}
