//! Reads variants from their bytes, without copying.
//!
//! A [`Variant`] is a pair of byte slices; [`Variant::get`] decodes one level. Dates and times are plain numbers, so that values
//! beyond any calendar, such as DuckDB's date `infinity`, are values like any other. Spec: Parquet, "Variant Binary Encoding".

/// A variant: a value, and the metadata with the dictionary of field names.
///
/// The bytes must have been checked, for example with [`check_variant`](crate::check_variant). In bytes that are no variant,
/// unreadable parts are null.
#[derive(Debug, Clone, Copy)]
pub struct Variant<'a> {
    metadata: &'a [u8],
    value: &'a [u8],
}

/// The decoded value of a variant.
///
/// Integers of all widths are one kind, and so are decimals. Spec: Parquet, "Variant Binary Encoding", exact numeric.
#[derive(Debug, Clone, Copy)]
pub enum VariantValue<'a> {
    /// The value `null`, which differs from a null row.
    Null,
    /// A boolean.
    Boolean(bool),
    /// An integer of 8 to 64 bits.
    Integer(i64),
    /// A decimal of at most 38 digits.
    Decimal {
        /// The value without its decimal point.
        unscaled: i128,
        /// The number of digits after the decimal point.
        scale: u8,
    },
    /// A 32-bit float.
    Float(f32),
    /// A 64-bit float.
    Double(f64),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// A timestamp in microseconds.
    Timestamp {
        /// Microseconds since 1970-01-01T00:00.
        micros: i64,
        /// True for an instant in UTC, false for a local time.
        zoned: bool,
    },
    /// A timestamp in nanoseconds.
    TimestampNs {
        /// Nanoseconds since 1970-01-01T00:00.
        nanos: i64,
        /// True for an instant in UTC, false for a local time.
        zoned: bool,
    },
    /// A byte string.
    Binary(&'a [u8]),
    /// A character string.
    String(&'a str),
    /// A UUID, the most significant byte first.
    Uuid([u8; 16]),
    /// An array.
    Array(VariantItems<'a>),
    /// An object.
    Object(VariantFields<'a>),
}

/// The items of an array, in order.
#[derive(Debug, Clone, Copy)]
pub struct VariantItems<'a>(Children<'a>);

/// The fields of an object, sorted by name.
#[derive(Debug, Clone, Copy)]
pub struct VariantFields<'a>(Children<'a>);

/// The ids of primitive types.
pub(super) mod primitive {
    pub(crate) const NULL: u8 = 0;
    pub(crate) const TRUE: u8 = 1;
    pub(crate) const FALSE: u8 = 2;
    pub(crate) const INT8: u8 = 3;
    pub(crate) const INT16: u8 = 4;
    pub(crate) const INT32: u8 = 5;
    pub(crate) const INT64: u8 = 6;
    pub(crate) const DOUBLE: u8 = 7;
    pub(crate) const DECIMAL4: u8 = 8;
    pub(crate) const DECIMAL8: u8 = 9;
    pub(crate) const DECIMAL16: u8 = 10;
    pub(crate) const DATE: u8 = 11;
    pub(crate) const TIMESTAMPTZ: u8 = 12;
    pub(crate) const TIMESTAMP: u8 = 13;
    pub(crate) const FLOAT: u8 = 14;
    pub(crate) const BINARY: u8 = 15;
    pub(crate) const STRING: u8 = 16;
    pub(crate) const TIME: u8 = 17;
    pub(crate) const TIMESTAMPTZ_NS: u8 = 18;
    pub(crate) const TIMESTAMP_NS: u8 = 19;
    pub(crate) const UUID: u8 = 20;
}

/// The basic types: the two low bits of a value's first byte. 0 is a primitive.
pub(super) mod basic {
    pub(crate) const SHORT_STRING: u8 = 1;
    pub(crate) const OBJECT: u8 = 2;
    pub(crate) const ARRAY: u8 = 3;
}

/// Decodes an unsigned number of at most eight bytes, the lowest first.
pub(super) fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// Returns a dictionary's offsets, the bytes of its names, and the width of an offset; none if it is malformed.
fn dictionary(metadata: &[u8]) -> Option<(&[u8], &[u8], usize)> {
    let (header, rest) = metadata.split_first()?;
    if header & 0x0f != 1 {
        return None;
    }
    let width = usize::from(header >> 6) + 1;
    let count = number(rest.get(..width)?);
    let (offsets, bytes) = rest.get(width..)?.split_at_checked(count.checked_add(1)?.checked_mul(width)?)?;
    Some((offsets, bytes, width))
}

/// Returns all names of a dictionary, in order of their ids; none if it is malformed.
pub(super) fn names(metadata: &[u8]) -> Option<Vec<&str>> {
    let (offsets, bytes, width) = dictionary(metadata)?;
    let offsets: Vec<usize> = offsets.chunks_exact(width).map(number).collect();
    offsets.windows(2).map(|pair| std::str::from_utf8(bytes.get(pair[0]..pair[1])?).ok()).collect()
}

/// Returns the length of a dictionary that is followed by a value, as in bounds.
pub(super) fn dictionary_length(metadata: &[u8]) -> Option<usize> {
    let (offsets, bytes, width) = dictionary(metadata)?;
    let names = number(offsets.chunks_exact(width).next_back()?);
    (names <= bytes.len()).then(|| metadata.len() - bytes.len() + names)
}

impl<'a> Variant<'a> {
    /// Makes a variant of bytes that were checked.
    pub fn new(metadata: &'a [u8], value: &'a [u8]) -> Self {
        Self { metadata, value }
    }

    /// Returns the metadata: the dictionary of field names, which may hold unused names.
    pub fn metadata(self) -> &'a [u8] {
        self.metadata
    }

    /// Returns the bytes of the value only, without those that follow inside an array or an object.
    pub fn bytes(self) -> &'a [u8] {
        // In an array or an object, the bytes of other values may follow.
        length(self.value).and_then(|length| self.value.get(..length)).unwrap_or(self.value)
    }

    /// Decodes the value, one level deep.
    pub fn get(self) -> VariantValue<'a> {
        self.read().unwrap_or(VariantValue::Null)
    }

    fn read(self) -> Option<VariantValue<'a>> {
        let (header, rest) = self.value.split_first()?;
        let about = header >> 2;
        Some(match header & 3 {
            basic::SHORT_STRING => VariantValue::String(std::str::from_utf8(rest.get(..about.into())?).ok()?),
            basic::OBJECT => VariantValue::Object(VariantFields(Children::of(self.metadata, self.value)?)),
            basic::ARRAY => VariantValue::Array(VariantItems(Children::of(self.metadata, self.value)?)),
            _ => primitive(about, rest)?,
        })
    }
}

/// Returns the number of bytes that a value takes.
fn length(value: &[u8]) -> Option<usize> {
    let (header, rest) = value.split_first()?;
    let about = header >> 2;
    Some(match header & 3 {
        basic::SHORT_STRING => 1 + usize::from(about),
        basic::OBJECT | basic::ARRAY => Children::of(&[], value)?.end,
        _ => match about {
            primitive::NULL | primitive::TRUE | primitive::FALSE => 1,
            primitive::INT8 => 2,
            primitive::INT16 => 3,
            primitive::INT32 | primitive::DATE | primitive::FLOAT => 5,
            primitive::DECIMAL4 => 6,
            primitive::DECIMAL8 => 10,
            primitive::UUID => 17,
            primitive::DECIMAL16 => 18,
            primitive::BINARY | primitive::STRING => 5 + number(rest.get(..4)?),
            _ => 9,
        },
    })
}

/// Decodes a primitive value from its type and the bytes after the first.
pub(super) fn primitive(ty: u8, bytes: &[u8]) -> Option<VariantValue<'_>> {
    fn fixed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
        bytes.get(..N)?.try_into().ok()
    }
    let long = || fixed(bytes).map(i64::from_le_bytes);
    let sized = || {
        let (length, rest) = bytes.split_at_checked(4)?;
        rest.get(..number(length))
    };
    let decimal = |unscaled: i128| Some(VariantValue::Decimal { unscaled, scale: *bytes.first()? });
    let digits = || bytes.get(1..);
    Some(match ty {
        primitive::NULL => VariantValue::Null,
        primitive::TRUE => VariantValue::Boolean(true),
        primitive::FALSE => VariantValue::Boolean(false),
        primitive::INT8 => VariantValue::Integer(i8::from_le_bytes(fixed(bytes)?).into()),
        primitive::INT16 => VariantValue::Integer(i16::from_le_bytes(fixed(bytes)?).into()),
        primitive::INT32 => VariantValue::Integer(i32::from_le_bytes(fixed(bytes)?).into()),
        primitive::INT64 => VariantValue::Integer(long()?),
        primitive::DOUBLE => VariantValue::Double(f64::from_le_bytes(fixed(bytes)?)),
        primitive::DECIMAL4 => decimal(i32::from_le_bytes(fixed(digits()?)?).into())?,
        primitive::DECIMAL8 => decimal(i64::from_le_bytes(fixed(digits()?)?).into())?,
        primitive::DECIMAL16 => decimal(i128::from_le_bytes(fixed(digits()?)?))?,
        primitive::DATE => VariantValue::Date(i32::from_le_bytes(fixed(bytes)?)),
        primitive::TIMESTAMPTZ => VariantValue::Timestamp { micros: long()?, zoned: true },
        primitive::TIMESTAMP => VariantValue::Timestamp { micros: long()?, zoned: false },
        primitive::FLOAT => VariantValue::Float(f32::from_le_bytes(fixed(bytes)?)),
        primitive::BINARY => VariantValue::Binary(sized()?),
        primitive::STRING => VariantValue::String(std::str::from_utf8(sized()?).ok()?),
        primitive::TIME => VariantValue::Time(long()?),
        primitive::TIMESTAMPTZ_NS => VariantValue::TimestampNs { nanos: long()?, zoned: true },
        primitive::TIMESTAMP_NS => VariantValue::TimestampNs { nanos: long()?, zoned: false },
        primitive::UUID => VariantValue::Uuid(fixed(bytes)?),
        _ => return None,
    })
}

/// The children of an object or an array.
#[derive(Debug, Clone, Copy)]
pub(super) struct Children<'a> {
    metadata: &'a [u8],
    /// The name ids of an object's fields; empty for an array.
    ids: &'a [u8],
    id_width: usize,
    offsets: &'a [u8],
    offset_width: usize,
    pub(super) count: usize,
    values: &'a [u8],
    /// Length in bytes of the whole object or array.
    end: usize,
}

impl<'a> Children<'a> {
    /// Reads the header of an object or an array; none if the bytes end too early.
    pub(super) fn of(metadata: &'a [u8], value: &'a [u8]) -> Option<Self> {
        let (header, rest) = value.split_first()?;
        let about = header >> 2;
        let offset_width = usize::from(about & 3) + 1;
        let (id_width, is_large) = match header & 3 {
            basic::OBJECT => (usize::from(about >> 2 & 3) + 1, about >> 4 & 1 == 1),
            _ => (0, about >> 2 & 1 == 1),
        };
        let (count, rest) = rest.split_at_checked(if is_large { 4 } else { 1 })?;
        let count = number(count);
        let (ids, rest) = rest.split_at_checked(count.checked_mul(id_width)?)?;
        let (offsets, values) = rest.split_at_checked(count.checked_add(1)?.checked_mul(offset_width)?)?;
        let length = number(offsets.chunks_exact(offset_width).next_back()?);
        let end = value.len() - values.len() + length;
        Some(Self { metadata, ids, id_width, offsets, offset_width, count, values: values.get(..length)?, end })
    }

    /// Returns the offset of a child's value; the one after the last is the end.
    pub(super) fn offset(&self, at: usize) -> Option<usize> {
        self.offsets.chunks_exact(self.offset_width).nth(at).map(number)
    }

    /// Returns the bytes from a child's value on.
    pub(super) fn value(&self, at: usize) -> Option<&'a [u8]> {
        self.values.get(self.offset(at)?..)
    }

    /// Returns the name id of a field.
    pub(super) fn id(&self, at: usize) -> Option<usize> {
        self.ids.chunks_exact(self.id_width).nth(at).map(number)
    }

    fn variant(&self, at: usize) -> Variant<'a> {
        Variant::new(self.metadata, self.value(at).unwrap_or_default())
    }

    fn name(&self, at: usize) -> &'a str {
        let name = || {
            let (offsets, bytes, width) = dictionary(self.metadata)?;
            let mut ends = offsets.chunks_exact(width).skip(self.id(at)?).map(number);
            std::str::from_utf8(bytes.get(ends.next()?..ends.next()?)?).ok()
        };
        name().unwrap_or_default()
    }
}

impl<'a> VariantItems<'a> {
    /// Returns the number of items.
    pub fn len(self) -> usize {
        self.0.count
    }

    /// Returns true if there are no items.
    pub fn is_empty(self) -> bool {
        self.0.count == 0
    }

    /// Returns an item; none beyond the last.
    pub fn get(self, at: usize) -> Option<Variant<'a>> {
        (at < self.len()).then(|| self.0.variant(at))
    }

    /// Iterates over the items, in order.
    pub fn iter(self) -> impl Iterator<Item = Variant<'a>> {
        (0..self.len()).map(move |at| self.0.variant(at))
    }
}

impl<'a> VariantFields<'a> {
    /// Returns the number of fields.
    pub fn len(self) -> usize {
        self.0.count
    }

    /// Returns true if there are no fields.
    pub fn is_empty(self) -> bool {
        self.0.count == 0
    }

    /// Iterates over names and values, sorted by name.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Variant<'a>)> {
        (0..self.len()).map(move |at| (self.0.name(at), self.0.variant(at)))
    }

    /// Returns the field of a name, found by binary search.
    pub fn get(self, name: &str) -> Option<Variant<'a>> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.0.name(middle).cmp(name) {
                std::cmp::Ordering::Equal => return Some(self.0.variant(middle)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}
