//! Whether bytes are a variant (Parquet, "Variant Binary Encoding"), so that whoever goes through it later need not ask.
//!
//! The library's own check refuses an empty name in a dictionary that is not sorted, and takes as many calls of itself as a value has levels.

use arrow::temporal_conversions::date32_to_datetime;
use parquet::variant::{EMPTY_VARIANT_METADATA, Variant};

/// Objects and arrays within one another, at most: whoever goes through a variant has as many calls on its stack.
pub const DEPTH: usize = 200;

/// Checks variants one after the other. Neighbours often have the same names.
#[derive(Debug, Default)]
pub(crate) struct Check {
    metadata: Vec<u8>,
    names: Vec<String>,
}

/// The header of a date.
const DATE: u8 = 11 << 2;

type Found = Result<(), String>;

/// The bit of a dictionary's header that says that its names are sorted, and each there once.
pub(crate) const SORTED: u8 = 0x10;

impl Check {
    /// Whether a dictionary says of itself that it is sorted, and is not.
    pub(crate) fn says_sorted_and_is_not(&mut self, metadata: &[u8]) -> bool {
        let says = metadata.first().is_some_and(|header| header & SORTED != 0);
        says && self.read(metadata).is_ok() && self.names.windows(2).any(|pair| pair[0] >= pair[1])
    }

    fn read(&mut self, metadata: &[u8]) -> Found {
        if self.metadata != metadata || metadata.is_empty() {
            self.metadata.clear();
            self.names = names(metadata).ok_or("its names are none")?;
            self.metadata = metadata.to_vec();
        }
        Ok(())
    }

    /// Checks a variant; an error says what is wrong.
    pub(crate) fn check(&mut self, metadata: &[u8], value: &[u8]) -> Found {
        self.checked(metadata, value, true)
    }

    /// Checks a variant whose objects may have their fields in any order; an error says what is wrong.
    pub(crate) fn check_in_any_order(&mut self, metadata: &[u8], value: &[u8]) -> Found {
        self.checked(metadata, value, false)
    }

    /// Whether a value can be gone through. What its names are is not asked.
    pub(crate) fn walk(value: &[u8]) -> Found {
        let mut left = value.len().saturating_mul(2);
        Node { names: None, left: &mut left, in_order: false }.check(value, DEPTH)
    }

    fn checked(&mut self, metadata: &[u8], value: &[u8], in_order: bool) -> Found {
        self.read(metadata)?;
        // A value takes a byte at least. One that others refer to again and again would be gone through each time.
        let mut left = value.len().saturating_mul(2);
        Node { names: Some(&self.names), left: &mut left, in_order }.check(value, DEPTH)
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// The names of a dictionary, some of which may be empty.
fn names(metadata: &[u8]) -> Option<Vec<String>> {
    let (header, rest) = metadata.split_first()?;
    if header & 0x0f != 1 {
        return None;
    }
    let width = usize::from(header >> 6) + 1;
    let count = number(rest.get(..width)?);
    let (offsets, bytes) = rest.get(width..)?.split_at_checked(count.checked_add(1)?.checked_mul(width)?)?;
    let offsets: Vec<usize> = offsets.chunks_exact(width).map(number).collect();
    let name = |pair: &[usize]| Some(std::str::from_utf8(bytes.get(pair[0]..pair[1])?).ok()?.to_owned());
    offsets.windows(2).map(name).collect()
}

struct Node<'a> {
    names: Option<&'a [String]>,
    left: &'a mut usize,
    in_order: bool,
}

impl Node<'_> {
    fn check(&mut self, value: &[u8], depth: usize) -> Found {
        *self.left = self.left.checked_sub(1).ok_or("its values lie in one another")?;
        let header = *value.first().ok_or("it ends too early")?;
        let (is_object, about) = match header & 3 {
            2 => (true, header >> 2),
            3 => (false, header >> 2),
            // Values of other kinds have no names.
            _ => {
                // The library ends the process's task for a date that its calendar has not.
                if header == DATE
                    && let Some(days) = value.get(1..5).and_then(|days| days.try_into().ok())
                    && date32_to_datetime(i32::from_le_bytes(days)).is_none()
                {
                    return Err("a date is beyond all calendars".to_owned());
                }
                let checked = Variant::try_new_with_metadata(EMPTY_VARIANT_METADATA, value);
                return checked.map(drop).map_err(|e| e.to_string());
            }
        };
        if depth == 0 {
            return Err(format!("it is nested more than {DEPTH} deep"));
        }
        let rest = &value[1..];
        let width = usize::from(about & 3) + 1;
        let (ids, is_large) = match is_object {
            true => (usize::from(about >> 2 & 3) + 1, about >> 4 & 1 == 1),
            false => (0, about >> 2 & 1 == 1),
        };
        let early = || "it ends too early".to_owned();
        let counted = if is_large { 4 } else { 1 };
        let count = number(rest.get(..counted).ok_or_else(early)?);
        let rest = &rest[counted..];
        let of_ids = count.checked_mul(ids).ok_or_else(early)?;
        let of_offsets = count.checked_add(1).and_then(|n| n.checked_mul(width)).ok_or_else(early)?;
        let (fields, rest) = rest.split_at_checked(of_ids).ok_or_else(early)?;
        let (offsets, items) = rest.split_at_checked(of_offsets).ok_or_else(early)?;
        let offsets: Vec<usize> = offsets.chunks_exact(width).map(number).collect();
        let end = offsets.last().copied().unwrap_or(0);
        let items = items.get(..end).ok_or_else(early)?;
        match self.names {
            Some(names) if is_object => {
                let named: Option<Vec<&String>> = fields.chunks_exact(ids).map(|id| names.get(number(id))).collect();
                let mut named = named.ok_or("a field has a name that is not there")?;
                if self.in_order && named.windows(2).any(|pair| pair[0] >= pair[1]) {
                    return Err("its fields are not in the order of their names".to_owned());
                }
                named.sort_unstable();
                if let Some(pair) = named.windows(2).find(|pair| pair[0] == pair[1]) {
                    return Err(format!("field {} is there twice", pair[0]));
                }
            }
            _ if !is_object && offsets.windows(2).any(|pair| pair[0] > pair[1]) => {
                return Err("its items are in no order".to_owned());
            }
            _ => {}
        }
        offsets[..count].iter().try_for_each(|start| self.check(items.get(*start..).ok_or_else(early)?, depth - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_that_no_calendar_has_are_told() {
        let names = [1, 0, 0];
        let date = |days: i32| [vec![DATE], days.to_le_bytes().to_vec()].concat();
        for days in [i32::MIN, i32::MAX] {
            let error = Check::default().check(&names, &date(days)).expect_err("beyond");
            assert!(error.contains("beyond all calendars"), "{error}");
        }
        Check::default().check(&names, &date(-1)).expect("a date");
    }
}
