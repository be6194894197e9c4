//! What transforms make of values as columns hold them (specification, "Partition Transforms", Appendix B).
//!
//! There is a function for each kind of value. [`Transform::apply`](crate::Transform::apply) does the same of one value that says by itself
//! of which type it is.

use crate::value::shortest;

/// The bucket, of so many, that a hash is in.
pub const fn bucket(hash: i32, buckets: u32) -> i32 {
    ((hash & i32::MAX).cast_unsigned() % buckets).cast_signed()
}

/// The hash of an int, a long, a date, a time, or microseconds since 1970.
pub fn hash_whole(value: i64) -> i32 {
    hash_bytes(&value.to_le_bytes())
}

/// The hash of nanoseconds since 1970, which is that of their microseconds.
pub fn hash_nanos(value: i64) -> i32 {
    hash_whole(value.div_euclid(1000))
}

/// The hash of a decimal without its point.
pub fn hash_unscaled(value: i128) -> i32 {
    let (bytes, from) = shortest(value);
    hash_bytes(&bytes[from..])
}

/// The hash of a text, a UUID or other bytes: MurmurHash3, 32 bits for x86, with the seed 0 (Austin Appleby; public domain).
pub fn hash_bytes(bytes: &[u8]) -> i32 {
    let mixed = |k: u32| k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let mut h = 0_u32;
    let (blocks, tail) = bytes.as_chunks::<4>();
    for block in blocks {
        h = (h ^ mixed(u32::from_le_bytes(*block))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    if !tail.is_empty() {
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        h ^= mixed(u32::from_le_bytes(last));
    }
    h ^= bytes.len() as u32;
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    (h ^ (h >> 16)).cast_signed()
}

/// An int cut to a width. The least numbers wrap as Java's do, so that rows come into the partition that every engine looks in.
pub const fn truncated_int(value: i32, width: u32) -> i32 {
    // A width that is no int of Java's is not read, see `Transform::named`.
    let width = if width > i32::MAX as u32 { i32::MAX } else { width as i32 };
    value.wrapping_sub(value.rem_euclid(width))
}

/// A long cut to a width. See [`truncated_int`].
pub const fn truncated_long(value: i64, width: u32) -> i64 {
    value.wrapping_sub(value.rem_euclid(width as i64))
}

/// A decimal without its point cut to a width, which is without a point as well; none if no decimal is so small.
pub const fn truncated_unscaled(value: i128, width: u32) -> Option<i128> {
    value.checked_sub(value.rem_euclid(width as i128))
}

/// The first so many characters of a text.
pub fn truncated_text(text: &str, width: u32) -> &str {
    let width = width as usize;
    if text.len() <= width {
        // No text has more characters than bytes.
        return text;
    }
    text.char_indices().nth(width).map_or(text, |(at, _)| &text[..at])
}

/// The first so many bytes.
pub fn truncated_bytes(bytes: &[u8], width: u32) -> &[u8] {
    &bytes[..bytes.len().min(width as usize)]
}

/// Years since 1970 of a day since 1970-01-01.
pub const fn year_of_day(days: i32) -> i32 {
    civil(days).0 - 1970
}

/// Months since 1970-01 of a day since 1970-01-01.
pub const fn month_of_day(days: i32) -> i32 {
    let (year, month) = civil(days);
    (year - 1970) * 12 + month - 1
}

/// The day since 1970-01-01 of microseconds since then.
pub const fn day_of_micros(micros: i64) -> i32 {
    // All microseconds that 64 bits hold are within days that 32 bits hold.
    micros.div_euclid(86_400_000_000) as i32
}

/// The hour since 1970-01-01 of microseconds since then; none of those that 32 bits do not hold, after the year 246,000.
pub const fn hour_of_micros(micros: i64) -> Option<i32> {
    let hours = micros.div_euclid(3_600_000_000);
    if hours >= i32::MIN as i64 && hours <= i32::MAX as i64 { Some(hours as i32) } else { None }
}

/// The year and the month of a day since 1970-01-01, of every day that 32 bits hold (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`). Libraries of dates end before.
const fn civil(days: i32) -> (i32, i32) {
    let z = days as i64 + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + (month <= 2) as i64;
    (year as i32, month as i32)
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, NaiveDate};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn days_are_of_the_months_that_a_calendar_says(days in -90_000_000_i32..90_000_000) {
            let day = NaiveDate::default() + chrono::TimeDelta::days(days.into());
            prop_assert_eq!(civil(days), (day.year(), day.month() as i32));
        }
    }
}
