//! Checks that bytes are a valid variant, so that later readers can walk it without errors.
//!
//! Beyond the encoding itself this bounds the nesting depth, and the number of values: a value that several others refer to would
//! otherwise be walked once for each. Spec: Parquet, "Variant Binary Encoding".

use super::value::{Children, Variant, VariantValue, basic, dictionary_length, names, primitive};

/// Greatest number of objects and arrays inside one another. Walking a variant takes a stack frame for each.
pub const MAX_VARIANT_DEPTH: usize = 200;

/// The bit of a dictionary's header that declares its names sorted and unique.
pub(super) const SORTED: u8 = 0x10;

/// Greatest number of digits of a decimal.
const DIGITS: u32 = 38;

/// The result of a check; the error describes the defect.
type CheckResult = Result<(), String>;

/// Checks variants one after the other; reuses the dictionary if the next variant has the same.
#[derive(Debug, Default)]
pub(super) struct VariantCheck {
    metadata: Vec<u8>,
    names: Vec<String>,
    /// True if the dictionary declares its names sorted and they are not. DuckDB 1.5 always does so.
    falsely_sorted: bool,
}

impl VariantCheck {
    /// Decodes a dictionary, unless it is the previous one.
    fn read(&mut self, metadata: &[u8]) -> CheckResult {
        if self.metadata != metadata || metadata.is_empty() {
            self.metadata.clear();
            let names = names(metadata).ok_or("its dictionary of names is malformed")?;
            self.names = names.into_iter().map(str::to_owned).collect();
            self.falsely_sorted = metadata[0] & SORTED != 0 && self.names.windows(2).any(|pair| pair[0] >= pair[1]);
            self.metadata = metadata.to_vec();
        }
        Ok(())
    }

    /// Checks a variant with at most `depth` objects and arrays inside one another.
    ///
    /// Returns true if its bytes can be used as they are. They can't if an object's fields are not in the order of their names,
    /// or if the dictionary falsely declares its names sorted. The error describes the defect.
    pub(super) fn check(&mut self, metadata: &[u8], value: &[u8], depth: usize) -> Result<bool, String> {
        self.read(metadata)?;
        // A value takes at least one byte, so more values than bytes overlap. A value that others refer to many times would be
        // walked each time.
        let mut node = Node { names: &self.names, left: value.len().saturating_mul(2), in_order: true };
        node.check(value, depth)?;
        Ok(node.in_order && !self.falsely_sorted)
    }
}

/// Checks that metadata and value are one valid variant.
///
/// Spec: Parquet, "Variant Binary Encoding".
///
/// # Errors
///
/// Returns a description of the defect: malformed bytes, unknown types, names that are missing or used twice, values that
/// overlap, a decimal of more than 38 digits, or more than [`MAX_VARIANT_DEPTH`] levels.
pub fn check_variant(metadata: &[u8], value: &[u8]) -> Result<(), String> {
    VariantCheck::default().check(metadata, value, MAX_VARIANT_DEPTH).map(drop)
}

/// Decodes a bound of a variant: metadata followed by the value.
///
/// None if the bytes are no valid variant. Spec: "Bounds for Variant", Appendix D "Bound serialization".
pub fn variant_of_bound(bytes: &[u8]) -> Option<Variant<'_>> {
    let (metadata, value) = bytes.split_at_checked(dictionary_length(bytes)?)?;
    let is_one = VariantCheck::default().check(metadata, value, MAX_VARIANT_DEPTH) == Ok(true);
    is_one.then(|| Variant::new(metadata, value))
}

/// The state of a check: the dictionary, the number of values left, and the order of fields so far.
struct Node<'a> {
    names: &'a [String],
    left: usize,
    in_order: bool,
}

impl Node<'_> {
    /// Checks a value and all values inside it.
    fn check(&mut self, value: &[u8], depth: usize) -> CheckResult {
        let (header, rest) = value.split_first().ok_or("it ends too early")?;
        self.left = self.left.checked_sub(1).ok_or("its values overlap")?;
        let about = header >> 2;
        let is_object = match header & 3 {
            basic::OBJECT => true,
            basic::ARRAY => false,
            basic::SHORT_STRING => return text(rest.get(..about.into())),
            _ => return check_primitive(about, rest),
        };
        if depth == 0 {
            return Err(format!("it is nested more than {MAX_VARIANT_DEPTH} deep"));
        }
        let children = Children::of(&[], value).ok_or("it ends too early")?;
        if is_object {
            self.fields(&children)?;
        } else if (0..children.count).any(|at| children.offset(at) > children.offset(at + 1)) {
            return Err("the offsets of its items descend".to_owned());
        }
        (0..children.count).try_for_each(|at| self.check(children.value(at).ok_or("it ends too early")?, depth - 1))
    }

    /// Checks the names of an object's fields.
    fn fields(&mut self, children: &Children<'_>) -> CheckResult {
        let named: Option<Vec<&String>> = (0..children.count).map(|at| self.names.get(children.id(at)?)).collect();
        let mut named = named.ok_or("the dictionary lacks the name of a field")?;
        if named.windows(2).all(|pair| pair[0] < pair[1]) {
            return Ok(());
        }
        self.in_order = false;
        named.sort_unstable();
        match named.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("field {} is there twice", pair[0])),
            None => Ok(()),
        }
    }
}

fn text(bytes: Option<&[u8]>) -> CheckResult {
    std::str::from_utf8(bytes.ok_or("it ends too early")?).map(drop).map_err(|e| format!("a string is not UTF-8: {e}"))
}

/// Checks a value of a primitive type.
fn check_primitive(ty: u8, bytes: &[u8]) -> CheckResult {
    match primitive(ty, bytes) {
        Some(VariantValue::Decimal { unscaled, scale })
            if u32::from(scale) > DIGITS || unscaled.unsigned_abs() >= 10_u128.pow(DIGITS) =>
        {
            Err(format!("a decimal has more than {DIGITS} digits"))
        }
        Some(_) => Ok(()),
        None if ty > primitive::UUID => Err(format!("its primitive type {ty} is unknown")),
        None => Err("it ends too early, or a string is not UTF-8".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DuckDB's `'infinity'::DATE`, and the least and greatest dates that can be encoded.
    #[test]
    fn dates_that_no_calendar_has_are_values() {
        for days in [i32::MIN, -i32::MAX, -1, i32::MAX] {
            let date = [vec![primitive::DATE << 2], days.to_le_bytes().to_vec()].concat();
            assert_eq!(VariantCheck::default().check(&[1, 0, 0], &date, MAX_VARIANT_DEPTH), Ok(true));
            let read = Variant::new(&[1, 0, 0], &date).get();
            assert!(matches!(read, VariantValue::Date(found) if found == days), "{read:?}");
        }
    }

    #[test]
    fn what_is_no_value_is_reported() {
        let decimal = |unscaled: i128, scale: u8| [&[primitive::DECIMAL16 << 2, scale][..], &unscaled.to_le_bytes()].concat();
        let most = 10_i128.pow(38) - 1;
        for (value, expected) in [
            (decimal(most, 38), None),
            (decimal(most + 1, 0), Some("more than 38 digits")),
            (decimal(1, 39), Some("more than 38 digits")),
            (vec![21 << 2], Some("type 21 is unknown")),
            (vec![primitive::INT64 << 2, 0], Some("ends too early")),
            (vec![basic::SHORT_STRING | 1 << 2, 0xff], Some("not UTF-8")),
            (vec![], Some("ends too early")),
        ] {
            let found = VariantCheck::default().check(&[1, 0, 0], &value, MAX_VARIANT_DEPTH).err();
            assert_eq!(found.is_some(), expected.is_some(), "{value:?}: {found:?}");
            assert!(found.as_deref().unwrap_or_default().contains(expected.unwrap_or_default()), "{found:?}");
        }
    }
}
