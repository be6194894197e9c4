//! Whether bytes are a variant (Parquet, "Variant Binary Encoding"), so that whoever goes through it later need not ask.

use crate::variant_value::{Children, VariantValue, basic, names, primitive};

/// Objects and arrays within one another, at most: whoever goes through a variant has as many calls on its stack.
pub const DEPTH: usize = 200;

/// The bit of a dictionary's header that says that its names are sorted, and each there once.
pub(crate) const SORTED: u8 = 0x10;

/// Digits of a decimal, at most.
const DIGITS: u32 = 38;

type Found = Result<(), String>;

/// Checks variants one after the other. Neighbours often have the same names.
#[derive(Debug, Default)]
pub(crate) struct VariantCheck {
    metadata: Vec<u8>,
    names: Vec<String>,
    /// Whether the dictionary says of its names that they are sorted, and they are not. DuckDB 1.5 says so of any.
    lies: bool,
}

impl VariantCheck {
    fn read(&mut self, metadata: &[u8]) -> Found {
        if self.metadata != metadata || metadata.is_empty() {
            self.metadata.clear();
            let names = names(metadata).ok_or("its names are none")?;
            self.names = names.into_iter().map(str::to_owned).collect();
            self.lies = metadata[0] & SORTED != 0 && self.names.windows(2).any(|pair| pair[0] >= pair[1]);
            self.metadata = metadata.to_vec();
        }
        Ok(())
    }

    /// Checks a variant with at most so many objects and arrays within one another. Tells whether its bytes can be taken as they are; else
    /// fields of an object are in another order than their names, or names in another than the dictionary says. An error says what is wrong.
    pub(crate) fn check(&mut self, metadata: &[u8], value: &[u8], depth: usize) -> Result<bool, String> {
        self.read(metadata)?;
        // A value takes a byte at least. One that others refer to again and again would be gone through each time.
        let mut node = Node { names: &self.names, left: value.len().saturating_mul(2), in_order: true };
        node.check(value, depth)?;
        Ok(node.in_order && !self.lies)
    }
}

/// Checks one variant. An error says what is wrong with its bytes.
pub fn check_variant(metadata: &[u8], value: &[u8]) -> Result<(), String> {
    VariantCheck::default().check(metadata, value, DEPTH).map(drop)
}

struct Node<'a> {
    names: &'a [String],
    left: usize,
    in_order: bool,
}

impl Node<'_> {
    fn check(&mut self, value: &[u8], depth: usize) -> Found {
        let (header, rest) = value.split_first().ok_or("it ends too early")?;
        self.left = self.left.checked_sub(1).ok_or("its values lie in one another")?;
        let about = header >> 2;
        let is_object = match header & 3 {
            basic::OBJECT => true,
            basic::ARRAY => false,
            basic::SHORT_STRING => return text(rest.get(..about.into())),
            _ => return plain(about, rest),
        };
        if depth == 0 {
            return Err(format!("it is nested more than {DEPTH} deep"));
        }
        let children = Children::of(&[], value).ok_or("it ends too early")?;
        if is_object {
            self.fields(&children)?;
        } else if (0..children.count).any(|at| children.offset(at) > children.offset(at + 1)) {
            return Err("its items are in no order".to_owned());
        }
        (0..children.count).try_for_each(|at| self.check(children.value(at).ok_or("it ends too early")?, depth - 1))
    }

    fn fields(&mut self, children: &Children<'_>) -> Found {
        let named: Option<Vec<&String>> = (0..children.count).map(|at| self.names.get(children.id(at)?)).collect();
        let mut named = named.ok_or("a field has a name that is not there")?;
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

fn text(bytes: Option<&[u8]>) -> Found {
    std::str::from_utf8(bytes.ok_or("it ends too early")?).map(drop).map_err(|e| format!("a text is no UTF-8: {e}"))
}

/// Checks a value of a primitive type.
fn plain(ty: u8, bytes: &[u8]) -> Found {
    match primitive(ty, bytes) {
        Some(VariantValue::Decimal { unscaled, scale })
            if u32::from(scale) > DIGITS || unscaled.unsigned_abs() >= 10_u128.pow(DIGITS) =>
        {
            Err(format!("a decimal has more than {DIGITS} digits"))
        }
        Some(_) => Ok(()),
        None if ty > primitive::UUID => Err(format!("its type {ty} is none that is known")),
        None => Err("it ends too early, or a text is no UTF-8".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DuckDB's `'infinity'::DATE`, and the least and greatest that bytes can say.
    #[test]
    fn dates_that_no_calendar_has_are_values() {
        for days in [i32::MIN, -i32::MAX, -1, i32::MAX] {
            let date = [vec![primitive::DATE << 2], days.to_le_bytes().to_vec()].concat();
            assert_eq!(VariantCheck::default().check(&[1, 0, 0], &date, DEPTH), Ok(true));
            let read = crate::Variant::new(&[1, 0, 0], &date).get();
            assert!(matches!(read, VariantValue::Date(found) if found == days), "{read:?}");
        }
    }

    #[test]
    fn what_is_no_value_is_told() {
        let decimal = |unscaled: i128, scale: u8| [&[primitive::DECIMAL16 << 2, scale][..], &unscaled.to_le_bytes()].concat();
        let most = 10_i128.pow(38) - 1;
        for (value, expected) in [
            (decimal(most, 38), None),
            (decimal(most + 1, 0), Some("more than 38 digits")),
            (decimal(1, 39), Some("more than 38 digits")),
            (vec![21 << 2], Some("type 21 is none")),
            (vec![primitive::INT64 << 2, 0], Some("ends too early")),
            (vec![basic::SHORT_STRING | 1 << 2, 0xff], Some("no UTF-8")),
            (vec![], Some("ends too early")),
        ] {
            let found = VariantCheck::default().check(&[1, 0, 0], &value, DEPTH).err();
            assert_eq!(found.is_some(), expected.is_some(), "{value:?}: {found:?}");
            assert!(found.as_deref().unwrap_or_default().contains(expected.unwrap_or_default()), "{found:?}");
        }
    }
}
