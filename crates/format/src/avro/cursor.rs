//! Decoding of Avro's binary encoding from untrusted bytes.
//!
//! Spec: Avro specification, "Binary Encoding".

use super::schema::{NodeKind, WriterSchema};

/// The damage of some bytes. The caller adds the name of the field, so that reading a number stays cheap.
pub(crate) type DecodeError = &'static str;
/// The result of reading a value.
pub(crate) type DecodeResult<T> = Result<T, DecodeError>;

const END: DecodeError = "its bytes end within a value";
/// The deepest nesting of types. Iceberg's own files nest five deep.
const DEPTH: u32 = 64;

/// A position in a byte slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns the bytes that are left.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Returns the bytes that were read since `earlier`, an older copy of this cursor.
    pub(crate) fn since(&self, earlier: &Self) -> &'a [u8] {
        &earlier.rest[..earlier.rest.len() - self.rest.len()]
    }

    /// Reads `length` bytes.
    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> DecodeResult<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(END)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads a long. Most take one byte or two.
    #[inline]
    pub(crate) fn long(&mut self) -> DecodeResult<i64> {
        match self.rest {
            [first, rest @ ..] if *first < 0x80 => {
                self.rest = rest;
                Ok(zigzag((*first).into()))
            }
            [first, second, rest @ ..] if *second < 0x80 => {
                self.rest = rest;
                Ok(zigzag(u64::from(*first & 0x7f) | u64::from(*second) << 7))
            }
            _ => self.long_of_many(),
        }
    }

    fn long_of_many(&mut self) -> DecodeResult<i64> {
        let mut value = 0_u64;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            // The tenth byte holds the last of the 64 bits.
            if at == 9 && *byte > 1 {
                return Err("a number has more than 64 bits");
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(zigzag(value));
            }
        }
        Err(if self.rest.len() < 10 { END } else { "a number has more than 64 bits" })
    }

    /// Skips an int or long without decoding it.
    #[inline]
    fn skip_long(&mut self) -> DecodeResult<()> {
        match self.rest {
            [first, rest @ ..] if *first < 0x80 => {
                self.rest = rest;
                Ok(())
            }
            [_, second, rest @ ..] if *second < 0x80 => {
                self.rest = rest;
                Ok(())
            }
            _ => self.long_of_many().map(|_| ()),
        }
    }

    /// Reads an int.
    #[inline]
    pub(crate) fn int(&mut self) -> DecodeResult<i32> {
        i32::try_from(self.long()?).map_err(|_| "an int has more than 32 bits")
    }

    /// Reads bytes, or a text as bytes: a length and so many bytes.
    #[inline]
    pub(crate) fn bytes(&mut self) -> DecodeResult<&'a [u8]> {
        let length = self.long()?;
        self.take(usize::try_from(length).map_err(|_| "a length is negative")?)
    }

    /// Reads a text and checks that it is UTF-8.
    pub(crate) fn text(&mut self) -> DecodeResult<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a text is not UTF-8")
    }

    pub(crate) fn boolean(&mut self) -> DecodeResult<bool> {
        Ok(self.take(1)?[0] != 0)
    }

    /// Returns the number of items in the next block of an array or map, or `None` at its end. `least` is the smallest size of an
    /// item, in bytes.
    #[inline]
    pub(crate) fn items(&mut self, least: usize) -> DecodeResult<Option<usize>> {
        let count = self.long()?;
        if count == 0 {
            return Ok(None);
        }
        if count < 0 {
            // After a negative count comes the length of the block in bytes, for readers that skip it.
            self.long()?;
        }
        let count = usize::try_from(count.unsigned_abs()).map_err(|_| END)?;
        if count > self.rest.len() / least.max(1) {
            return Err("it claims more items than its bytes can hold");
        }
        Ok(Some(count))
    }

    /// Skips a value of the type `node`.
    pub(crate) fn skip(&mut self, schema: &WriterSchema, node: usize) -> DecodeResult<()> {
        self.skip_at(schema, node, 0)
    }

    fn skip_at(&mut self, schema: &WriterSchema, node: usize, depth: u32) -> DecodeResult<()> {
        if depth > DEPTH {
            return Err("its types are nested too deep");
        }
        let node = schema.node(node);
        // Values of zero bytes are not counted: a count without bytes behind it could make this loop very long.
        if node.min_size == 0 {
            return Ok(());
        }
        match &node.kind {
            NodeKind::Null => Ok(()),
            NodeKind::Boolean => self.take(1).map(|_| ()),
            NodeKind::Int | NodeKind::Long | NodeKind::Enum => self.skip_long(),
            NodeKind::Float => self.take(4).map(|_| ()),
            NodeKind::Double => self.take(8).map(|_| ()),
            NodeKind::Bytes | NodeKind::String => self.bytes().map(|_| ()),
            NodeKind::Fixed(length) => self.take(*length).map(|_| ()),
            NodeKind::Union(branches) => {
                let branch = self.branch(branches)?;
                self.skip_at(schema, branch, depth + 1)
            }
            // Most fields are handled here without recursion: the maps of counts and bounds have no others.
            NodeKind::Record(_) => node.parts.iter().try_for_each(|part| match schema.node(*part).kind {
                NodeKind::Int | NodeKind::Long => self.skip_long(),
                NodeKind::Bytes | NodeKind::String => self.bytes().map(|_| ()),
                _ => self.skip_at(schema, *part, depth + 1),
            }),
            NodeKind::Array { items, .. } => {
                self.skip_blocks(|cursor| cursor.skip_at(schema, *items, depth + 1), schema.node(*items).min_size)
            }
            NodeKind::Map { values } => self.skip_blocks(
                |cursor| {
                    cursor.bytes()?;
                    cursor.skip_at(schema, *values, depth + 1)
                },
                schema.node(*values).min_size + 1,
            ),
        }
    }

    fn skip_blocks(&mut self, mut item: impl FnMut(&mut Self) -> DecodeResult<()>, least: usize) -> DecodeResult<()> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                let length = self.long()?;
                self.take(usize::try_from(length).map_err(|_| "a length is negative")?)?;
                continue;
            }
            if least == 0 {
                continue;
            }
            if count.unsigned_abs() > (self.rest.len() / least) as u64 {
                return Err("it claims more items than its bytes can hold");
            }
            for _ in 0..count {
                item(self)?;
            }
        }
    }

    /// Reads the branch of a union and returns its node.
    pub(crate) fn branch(&mut self, branches: &[usize]) -> DecodeResult<usize> {
        let at = usize::try_from(self.long()?).ok();
        at.and_then(|at| branches.get(at)).copied().ok_or("a union has no branch of that index")
    }
}

#[inline]
const fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::avro::put_long;

    #[test]
    fn numbers_that_are_too_long_or_cut_are_refused() {
        assert!(Cursor::new(&[0xff; 9]).long().is_err());
        assert!(Cursor::new(&[0xff; 11]).long().is_err());
        assert!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).long().is_err());
        assert!(Cursor::new(&[]).long().is_err());
        assert_eq!(Cursor::new(&[0x80, 0x80, 0]).long(), Ok(0));
        assert!(Cursor::new(&[0x80, 0x80, 0x80, 0x80, 0x20]).int().is_err(), "2^32");
        assert!(Cursor::new(&[1]).bytes().is_err(), "a negative length");
        assert!(Cursor::new(&[200, 1, 0]).items(1).is_err(), "a hundred items in one byte");
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_written(value in any::<i64>(), shift in 0_u32..64) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            put_long(&mut bytes, value);
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(cursor.long(), Ok(value));
            prop_assert!(cursor.rest().is_empty());
        }
    }
}
