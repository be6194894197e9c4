//! Reading Avro's binary encoding out of bytes that nobody vouches for.

use super::schema::{NodeKind, WriterSchema};

/// What is wrong with the bytes. The field is named by who reads it, so that a number costs no more than reading it.
pub(crate) type Broken = &'static str;
/// What was read.
pub(crate) type Read<T> = Result<T, Broken>;

const END: Broken = "its bytes end before the value";
/// How deep types may be nested. Iceberg's own files go to five.
const DEPTH: u32 = 64;

/// A place in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes that are left.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// What was read since an earlier place.
    pub(crate) fn since(&self, earlier: &Self) -> &'a [u8] {
        &earlier.rest[..earlier.rest.len() - self.rest.len()]
    }

    /// So many bytes.
    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(END)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A number of 64 bits. Most take one byte or two.
    #[inline]
    pub(crate) fn long(&mut self) -> Read<i64> {
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

    fn long_of_many(&mut self) -> Read<i64> {
        let mut value = 0_u64;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            // The tenth byte has one bit left to say.
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

    /// Passes a number without working it out.
    #[inline]
    fn skip_long(&mut self) -> Read<()> {
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

    /// A number of 32 bits.
    #[inline]
    pub(crate) fn int(&mut self) -> Read<i32> {
        i32::try_from(self.long()?).map_err(|_| "an int has more than 32 bits")
    }

    /// Bytes behind their length; text, too, as far as Avro goes.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = self.long()?;
        self.take(usize::try_from(length).map_err(|_| "a length is negative")?)
    }

    /// Text.
    pub(crate) fn text(&mut self) -> Read<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a text is not UTF-8")
    }

    pub(crate) fn boolean(&mut self) -> Read<bool> {
        Ok(self.take(1)?[0] != 0)
    }

    /// How many items the next block of an array or map has, each of which takes at least so many bytes; none at its end.
    #[inline]
    pub(crate) fn items(&mut self, least: usize) -> Read<Option<usize>> {
        let count = self.long()?;
        if count == 0 {
            return Ok(None);
        }
        if count < 0 {
            // Behind a negative count is the block's length, so that it could be skipped.
            self.long()?;
        }
        let count = usize::try_from(count.unsigned_abs()).map_err(|_| END)?;
        if count > self.rest.len() / least.max(1) {
            return Err("there are fewer bytes than items");
        }
        Ok(Some(count))
    }

    /// Passes a value of a type.
    pub(crate) fn skip(&mut self, schema: &WriterSchema, node: usize) -> Read<()> {
        self.skip_at(schema, node, 0)
    }

    fn skip_at(&mut self, schema: &WriterSchema, node: usize, depth: u32) -> Read<()> {
        if depth > DEPTH {
            return Err("its types are nested too deep");
        }
        let node = schema.node(node);
        // What takes no bytes can't end this: it must not be counted out.
        if node.least == 0 {
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
            // What most fields of most records are is passed over here: maps of counts and bounds are nothing else.
            NodeKind::Record(_) => node.parts.iter().try_for_each(|part| match schema.node(*part).kind {
                NodeKind::Int | NodeKind::Long => self.skip_long(),
                NodeKind::Bytes | NodeKind::String => self.bytes().map(|_| ()),
                _ => self.skip_at(schema, *part, depth + 1),
            }),
            NodeKind::Array { items, .. } => {
                self.skip_blocks(|cursor| cursor.skip_at(schema, *items, depth + 1), schema.node(*items).least)
            }
            NodeKind::Map { values } => self.skip_blocks(
                |cursor| {
                    cursor.bytes()?;
                    cursor.skip_at(schema, *values, depth + 1)
                },
                schema.node(*values).least + 1,
            ),
        }
    }

    fn skip_blocks(&mut self, mut item: impl FnMut(&mut Self) -> Read<()>, least: usize) -> Read<()> {
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
                return Err("there are fewer bytes than items");
            }
            for _ in 0..count {
                item(self)?;
            }
        }
    }

    /// The type of a union's value.
    pub(crate) fn branch(&mut self, branches: &[usize]) -> Read<usize> {
        let at = usize::try_from(self.long()?).ok();
        at.and_then(|at| branches.get(at)).copied().ok_or("a union has no such type")
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
