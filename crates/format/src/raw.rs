//! Partition transforms on native values, one function for each kind of value, for loops over columns.
//!
//! [`Transform::apply`](crate::Transform::apply) does the same for one [`Value`](crate::Value), which carries its type.
//!
//! Spec: "Partition Transforms", Appendix B.

use crate::value::minimal_be_bytes;

/// Returns the bucket of a hash, from 0 to `buckets` - 1.
///
/// Spec: "Bucket Transform Details".
pub const fn bucket(hash: i32, buckets: u32) -> i32 {
    ((hash & i32::MAX).cast_unsigned() % buckets).cast_signed()
}

/// Hashes an int, a long, a date, a time, or a timestamp in microseconds.
///
/// Spec: Appendix B.
pub fn hash_whole(value: i64) -> i32 {
    hash_bytes(&value.to_le_bytes())
}

/// Hashes a timestamp in nanoseconds since 1970: the hash is that of its microseconds.
///
/// Spec: Appendix B.
pub fn hash_nanos(value: i64) -> i32 {
    hash_whole(value.div_euclid(1000))
}

/// Hashes a decimal, given without its decimal point.
///
/// Spec: Appendix B.
pub fn hash_unscaled(value: i128) -> i32 {
    let (bytes, from) = minimal_be_bytes(value);
    hash_bytes(&bytes[from..])
}

/// Hashes a text, a UUID or other bytes with MurmurHash3, 32 bits for x86, seed 0 (Austin Appleby; public domain).
///
/// Spec: Appendix B.
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

/// Truncates an int to a multiple of `width`. The least numbers wrap as in Java, so that their rows are in the partition that every
/// engine looks in.
///
/// Spec: "Truncate Transform Details".
pub const fn truncated_int(value: i32, width: u32) -> i32 {
    // `Transform::named` rejects a width that is no `i32`.
    let width = if width > i32::MAX as u32 { i32::MAX } else { width as i32 };
    value.wrapping_sub(value.rem_euclid(width))
}

/// Truncates a long to a multiple of `width`. The least numbers wrap, as in [`truncated_int`].
pub const fn truncated_long(value: i64, width: u32) -> i64 {
    value.wrapping_sub(value.rem_euclid(width as i64))
}

/// Truncates a decimal to a multiple of `width`; argument and result are without decimal point. Returns `None` on overflow.
pub const fn truncated_unscaled(value: i128, width: u32) -> Option<i128> {
    value.checked_sub(value.rem_euclid(width as i128))
}

/// Returns the first `width` characters of a text.
pub fn truncated_text(text: &str, width: u32) -> &str {
    let width = width as usize;
    if text.len() <= width {
        // A text never has more characters than bytes.
        return text;
    }
    text.char_indices().nth(width).map_or(text, |(at, _)| &text[..at])
}

/// Returns the first `width` bytes.
pub fn truncated_bytes(bytes: &[u8], width: u32) -> &[u8] {
    &bytes[..bytes.len().min(width as usize)]
}

/// Returns the year of a day, as years since 1970. `days` are days since 1970-01-01.
pub const fn year_of_day(days: i32) -> i32 {
    civil(days).0 - 1970
}

/// Returns the month of a day, as months since 1970-01. `days` are days since 1970-01-01.
pub const fn month_of_day(days: i32) -> i32 {
    let (year, month) = civil(days);
    (year - 1970) * 12 + month - 1
}

/// Returns the day of a timestamp in microseconds since 1970-01-01, as days since 1970-01-01.
pub const fn day_of_micros(micros: i64) -> i32 {
    // Every number of microseconds in 64 bits is a number of days in 32 bits.
    micros.div_euclid(86_400_000_000) as i32
}

/// Returns the hour of a timestamp in microseconds since 1970-01-01, as hours since then. Returns `None` if it needs more than 32
/// bits, after the year 246,000.
pub const fn hour_of_micros(micros: i64) -> Option<i32> {
    let hours = micros.div_euclid(3_600_000_000);
    if hours >= i32::MIN as i64 && hours <= i32::MAX as i64 { Some(hours as i32) } else { None }
}

/// Returns the year and month of a day, for every `i32` (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// `civil_from_days`). Calendar libraries cover a smaller range.
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
