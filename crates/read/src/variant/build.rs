//! Encodes variants as bytes.
//!
//! Values are appended one after the other. Those of an array or an object come between `begin` and `end_array` or `end_object`,
//! which put the header before them. Field names go into a dictionary that the builder reuses for the next variant. Spec:
//! Parquet, "Variant Binary Encoding".

use std::collections::HashMap;

use super::check::SORTED;
use super::value::{Variant, VariantValue, basic, names, primitive};

/// Encodes one variant after the other.
///
/// Values are appended in order; those of an array or an object come between its begin and its end.
#[derive(Debug, Default)]
pub struct VariantBuilder {
    names: Names,
    bytes: Vec<u8>,
}

/// An array or an object whose values are being written.
#[derive(Debug)]
pub struct OpenContainer {
    start: usize,
    /// Name id (0 in an array) and offset of each value.
    parts: Vec<(usize, usize)>,
}

/// The dictionary of field names, in order of first use.
#[derive(Debug, Default)]
struct Names {
    ids: HashMap<Box<str>, usize>,
    all: Vec<Box<str>>,
    /// The encoded dictionary, if it is up to date.
    known: Option<Vec<u8>>,
}

impl Names {
    /// Returns the id of a name, adding it if it is new.
    fn id(&mut self, name: &str) -> usize {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        self.known = None;
        self.all.push(name.into());
        self.ids.insert(name.into(), self.all.len() - 1);
        self.all.len() - 1
    }

    /// Replaces the names by those of an encoded dictionary, each with its id there.
    fn take(&mut self, metadata: &[u8]) {
        if self.known.as_deref() == Some(metadata) {
            return;
        }
        self.ids.clear();
        self.all = names(metadata).unwrap_or_default().into_iter().map(Box::from).collect();
        for (id, name) in self.all.iter().enumerate() {
            self.ids.entry(name.clone()).or_insert(id);
        }
        let falsely_sorted = metadata.first().is_some_and(|header| header & SORTED != 0) && !self.are_sorted();
        self.known = (!falsely_sorted).then(|| metadata.to_vec());
    }

    fn are_sorted(&self) -> bool {
        self.all.windows(2).all(|pair| pair[0] < pair[1])
    }

    /// Encodes the dictionary.
    fn dictionary(&self) -> Vec<u8> {
        let length: usize = self.all.iter().map(|name| name.len()).sum();
        let width = width(length.max(self.all.len()));
        let sorted = if self.are_sorted() { SORTED } else { 0 };
        let mut made = vec![1 | sorted | header_width(width) << 6];
        put(&mut made, self.all.len(), width);
        let mut end = 0;
        put(&mut made, end, width);
        for name in &self.all {
            end += name.len();
            put(&mut made, end, width);
        }
        self.all.iter().for_each(|name| made.extend_from_slice(name.as_bytes()));
        made
    }
}

/// Returns the number of bytes that hold a number, at most four.
fn width(number: usize) -> usize {
    match number {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xff_ffff => 3,
        _ => 4,
    }
}

/// Encodes a width for a header: less one, in two bits.
fn header_width(width: usize) -> u8 {
    u8::try_from(width - 1).unwrap_or(3)
}

/// Appends the lowest `width` bytes of a number, the lowest first.
fn put(bytes: &mut Vec<u8>, number: usize, width: usize) {
    bytes.extend_from_slice(&number.to_le_bytes()[..width]);
}

impl VariantBuilder {
    /// Begins a variant with the names of an encoded dictionary.
    ///
    /// Values that refer to this dictionary can then be added with [`add_bytes`](Self::add_bytes).
    pub fn begin_with(&mut self, metadata: &[u8]) {
        self.names.take(metadata);
        self.bytes.clear();
    }

    /// Begins an array or an object at the current position.
    pub fn begin(&self) -> OpenContainer {
        OpenContainer { start: self.bytes.len(), parts: Vec::new() }
    }

    /// Announces that the next value is the next item of an array.
    pub fn item(&self, array: &mut OpenContainer) {
        array.parts.push((0, self.bytes.len() - array.start));
    }

    /// Announces that the next value is the field `name` of an object, which must not have that field yet.
    pub fn field(&mut self, object: &mut OpenContainer, name: &str) {
        object.parts.push((self.names.id(name), self.bytes.len() - object.start));
    }

    /// Ends an array: writes its header before its items.
    pub fn end_array(&mut self, array: OpenContainer) {
        let (count, offsets) = (array.parts.len(), width(self.bytes.len() - array.start));
        let is_large = count > 0xff;
        let about = header_width(offsets) | u8::from(is_large) << 2;
        self.end(array, basic::ARRAY | about << 2, if is_large { 4 } else { 1 }, 0, offsets);
    }

    /// Ends an object: writes its header before its fields, and sorts their ids by name.
    pub fn end_object(&mut self, mut object: OpenContainer) {
        let names = &self.names.all;
        object.parts.sort_unstable_by(|a, b| names[a.0].cmp(&names[b.0]));
        let offsets = width(self.bytes.len() - object.start);
        let ids = width(object.parts.iter().map(|(id, _)| *id).max().unwrap_or(0));
        let is_large = object.parts.len() > 0xff;
        let about = header_width(offsets) | header_width(ids) << 2 | u8::from(is_large) << 4;
        self.end(object, basic::OBJECT | about << 2, if is_large { 4 } else { 1 }, ids, offsets);
    }

    /// Inserts the header of an array or an object before its values.
    ///
    /// `counted`, `ids` and `offsets` are the widths in bytes of the count, the ids and the offsets.
    fn end(&mut self, open: OpenContainer, header: u8, counted: usize, ids: usize, offsets: usize) {
        let end = self.bytes.len() - open.start;
        let mut head = vec![header];
        put(&mut head, open.parts.len(), counted);
        open.parts.iter().for_each(|(id, _)| put(&mut head, *id, ids));
        open.parts.iter().for_each(|(_, offset)| put(&mut head, *offset, offsets));
        put(&mut head, end, offsets);
        self.bytes.splice(open.start..open.start, head);
    }

    /// Appends a value. The names of objects in it go into this variant's dictionary.
    pub fn add(&mut self, value: VariantValue<'_>) {
        use VariantValue as V;
        let bytes = &mut self.bytes;
        let zoned = |zoned: bool, yes: u8, no: u8| if zoned { yes } else { no };
        match value {
            V::Null => bytes.push(primitive::NULL << 2),
            V::Boolean(v) => bytes.push(if v { primitive::TRUE } else { primitive::FALSE } << 2),
            V::Integer(v) => integer(bytes, v),
            V::Decimal { unscaled, scale } => decimal(bytes, unscaled, scale),
            V::Float(v) => add(bytes, primitive::FLOAT, &v.to_le_bytes()),
            V::Double(v) => add(bytes, primitive::DOUBLE, &v.to_le_bytes()),
            V::Date(v) => add(bytes, primitive::DATE, &v.to_le_bytes()),
            V::Time(v) => add(bytes, primitive::TIME, &v.to_le_bytes()),
            V::Timestamp { micros, zoned: z } => {
                add(bytes, zoned(z, primitive::TIMESTAMPTZ, primitive::TIMESTAMP), &micros.to_le_bytes());
            }
            V::TimestampNs { nanos, zoned: z } => {
                add(bytes, zoned(z, primitive::TIMESTAMPTZ_NS, primitive::TIMESTAMP_NS), &nanos.to_le_bytes());
            }
            V::Uuid(v) => add(bytes, primitive::UUID, &v),
            V::Binary(v) => sized(bytes, primitive::BINARY, v),
            V::String(v) => match u8::try_from(v.len()).ok().filter(|length| *length < 64) {
                Some(length) => {
                    bytes.push(basic::SHORT_STRING | length << 2);
                    bytes.extend_from_slice(v.as_bytes());
                }
                None => sized(bytes, primitive::STRING, v.as_bytes()),
            },
            V::Array(items) => {
                let mut array = self.begin();
                for item in items.iter() {
                    self.item(&mut array);
                    self.add(item.get());
                }
                self.end_array(array);
            }
            V::Object(fields) => {
                let mut object = self.begin();
                for (name, value) in fields.iter() {
                    self.field(&mut object, name);
                    self.add(value.get());
                }
                self.end_object(object);
            }
        }
    }

    /// Appends a value as its bytes. It must refer to the dictionary that the variant began with.
    pub fn add_bytes(&mut self, value: Variant<'_>) {
        self.bytes.extend_from_slice(value.bytes());
    }

    /// Ends the variant and returns its metadata and its value.
    ///
    /// The names stay in the dictionary of the next variant, unless that begins with another.
    pub fn finish(&mut self) -> (Vec<u8>, Vec<u8>) {
        let names = &mut self.names;
        let known = names.known.take().unwrap_or_else(|| names.dictionary());
        names.known = Some(known.clone());
        (known, std::mem::take(&mut self.bytes))
    }
}

/// Appends a primitive value of fixed length.
fn add(bytes: &mut Vec<u8>, ty: u8, value: &[u8]) {
    bytes.push(ty << 2);
    bytes.extend_from_slice(value);
}

/// Appends a primitive value with its length in four bytes.
fn sized(bytes: &mut Vec<u8>, ty: u8, value: &[u8]) {
    bytes.push(ty << 2);
    put(bytes, value.len(), 4);
    bytes.extend_from_slice(value);
}

/// Appends an integer in the least number of bytes.
fn integer(bytes: &mut Vec<u8>, v: i64) {
    match (i8::try_from(v), i16::try_from(v), i32::try_from(v)) {
        (Ok(v), ..) => add(bytes, primitive::INT8, &v.to_le_bytes()),
        (_, Ok(v), _) => add(bytes, primitive::INT16, &v.to_le_bytes()),
        (_, _, Ok(v)) => add(bytes, primitive::INT32, &v.to_le_bytes()),
        _ => add(bytes, primitive::INT64, &v.to_le_bytes()),
    }
}

/// Appends a decimal in the least width that holds its digits: 9, 18 or 38 of them.
fn decimal(bytes: &mut Vec<u8>, unscaled: i128, scale: u8) {
    let digits = |most: u32| unscaled.unsigned_abs() < 10_u128.pow(most) && u32::from(scale) <= most;
    match (i32::try_from(unscaled), i64::try_from(unscaled)) {
        (Ok(v), _) if digits(9) => add(bytes, primitive::DECIMAL4, &[&[scale][..], &v.to_le_bytes()].concat()),
        (_, Ok(v)) if digits(18) => add(bytes, primitive::DECIMAL8, &[&[scale][..], &v.to_le_bytes()].concat()),
        _ => add(bytes, primitive::DECIMAL16, &[&[scale][..], &unscaled.to_le_bytes()].concat()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use parquet::variant::Variant as Theirs;
    use proptest::prelude::*;

    use super::super::check::{MAX_VARIANT_DEPTH, VariantCheck, check_variant};
    use super::super::hash::variant_hash;
    use super::*;

    /// Prints a variant with the kinds of its values.
    fn shown(variant: Variant<'_>) -> String {
        use VariantValue as V;
        match variant.get() {
            V::Null => "null".to_owned(),
            V::Boolean(v) => format!("{v}"),
            V::Integer(v) => format!("{v}"),
            V::Decimal { unscaled, scale } => format!("decimal {unscaled} {scale}"),
            V::Float(v) => format!("float {v}"),
            V::Double(v) => format!("double {v}"),
            V::Date(v) => format!("date {v}"),
            V::Time(v) => format!("time {v}"),
            V::Timestamp { micros, zoned } => format!("micros {micros} {zoned}"),
            V::TimestampNs { nanos, zoned } => format!("nanos {nanos} {zoned}"),
            V::Binary(v) => format!("{v:?}"),
            V::String(v) => format!("{v:?}"),
            V::Uuid(v) => uuid::Uuid::from_bytes(v).to_string(),
            V::Array(items) => format!("[{}]", items.iter().map(|item| shown(item) + ",").collect::<String>()),
            V::Object(fields) => {
                format!("{{{}}}", fields.iter().map(|(name, v)| format!("{name}:{},", shown(v))).collect::<String>())
            }
        }
    }

    fn shown_by_them(variant: &Theirs<'_, '_>) -> String {
        use Theirs as T;
        match variant {
            T::Null => "null".to_owned(),
            T::BooleanTrue => "true".to_owned(),
            T::BooleanFalse => "false".to_owned(),
            T::Int8(v) => v.to_string(),
            T::Int16(v) => v.to_string(),
            T::Int32(v) => v.to_string(),
            T::Int64(v) => v.to_string(),
            T::Decimal4(v) => format!("decimal {} {}", v.integer(), v.scale()),
            T::Decimal8(v) => format!("decimal {} {}", v.integer(), v.scale()),
            T::Decimal16(v) => format!("decimal {} {}", v.integer(), v.scale()),
            T::Float(v) => format!("float {v}"),
            T::Double(v) => format!("double {v}"),
            T::Date(v) => format!("date {}", v.signed_duration_since(chrono::NaiveDate::default()).num_days()),
            T::Time(v) => {
                format!("time {:?}", v.signed_duration_since(chrono::NaiveTime::MIN).num_microseconds().expect("short"))
            }
            T::TimestampMicros(v) => format!("micros {} true", v.timestamp_micros()),
            T::TimestampNtzMicros(v) => format!("micros {} false", v.and_utc().timestamp_micros()),
            T::TimestampNanos(v) => format!("nanos {:?} true", v.timestamp_nanos_opt().expect("near")),
            T::TimestampNtzNanos(v) => format!("nanos {:?} false", v.and_utc().timestamp_nanos_opt().expect("near")),
            T::Binary(v) => format!("{v:?}"),
            T::String(v) => format!("{v:?}"),
            T::ShortString(v) => format!("{:?}", v.as_str()),
            T::Uuid(v) => v.to_string(),
            T::List(items) => format!("[{}]", items.iter().map(|item| shown_by_them(&item) + ",").collect::<String>()),
            T::Object(object) => {
                format!("{{{}}}", object.iter().map(|(name, v)| format!("{name}:{},", shown_by_them(&v))).collect::<String>())
            }
        }
    }

    /// A random variant, to be written with the builder.
    #[derive(Debug, Clone)]
    enum Any {
        Integer(i64),
        Decimal(i64, u8),
        Double(f64),
        Date(i32),
        Timestamp(i64, bool),
        Nanos(i64, bool),
        Text(String),
        Bytes(Vec<u8>),
        Array(Vec<Any>),
        Object(BTreeMap<String, Any>),
    }

    fn any_variant() -> impl Strategy<Value = Any> {
        let name = || prop_oneof![9 => "[a-dé]{0,3}", 1 => "x{300}"];
        let leaf = prop_oneof![
            prop_oneof![any::<i64>(), -200_i64..200].prop_map(Any::Integer),
            (any::<i64>(), 0_u8..=38).prop_map(|(v, scale)| Any::Decimal(v, scale)),
            any::<f64>().prop_map(Any::Double),
            any::<i32>().prop_map(Any::Date),
            (any::<i64>(), any::<bool>()).prop_map(|(v, zoned)| Any::Timestamp(v, zoned)),
            (any::<i64>(), any::<bool>()).prop_map(|(v, zoned)| Any::Nanos(v, zoned)),
            prop_oneof![Just(0_usize), Just(63), Just(64), Just(70_000)].prop_map(|n| Any::Text("y".repeat(n))),
            prop::collection::vec(any::<u8>(), 0..9).prop_map(Any::Bytes),
        ];
        leaf.prop_recursive(4, 600, 300, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Any::Array),
                // A count of 256 or more does not fit one byte.
                prop::collection::vec(inner.clone(), 255..258).prop_map(Any::Array),
                prop::collection::btree_map(name(), inner, 0..6).prop_map(Any::Object),
            ]
        })
    }

    impl Any {
        fn write(&self, builder: &mut VariantBuilder) {
            use VariantValue as V;
            match self {
                Self::Integer(v) => builder.add(V::Integer(*v)),
                Self::Decimal(unscaled, scale) => builder.add(V::Decimal { unscaled: (*unscaled).into(), scale: *scale }),
                Self::Double(v) => builder.add(V::Double(*v)),
                Self::Date(v) => builder.add(V::Date(*v)),
                Self::Timestamp(micros, zoned) => builder.add(V::Timestamp { micros: *micros, zoned: *zoned }),
                Self::Nanos(nanos, zoned) => builder.add(V::TimestampNs { nanos: *nanos, zoned: *zoned }),
                Self::Text(v) => builder.add(V::String(v)),
                Self::Bytes(v) => builder.add(V::Binary(v)),
                Self::Array(items) => {
                    let mut array = builder.begin();
                    for item in items {
                        builder.item(&mut array);
                        item.write(builder);
                    }
                    builder.end_array(array);
                }
                Self::Object(fields) => {
                    let mut object = builder.begin();
                    // Names are added in an order that is not theirs.
                    for (name, value) in fields.iter().rev() {
                        builder.field(&mut object, name);
                        value.write(builder);
                    }
                    builder.end_object(object);
                }
            }
        }

        fn shown(&self) -> String {
            match self {
                Self::Integer(v) => v.to_string(),
                Self::Decimal(unscaled, scale) => format!("decimal {unscaled} {scale}"),
                Self::Double(v) => format!("double {v}"),
                Self::Date(v) => format!("date {v}"),
                Self::Timestamp(v, zoned) => format!("micros {v} {zoned}"),
                Self::Nanos(v, zoned) => format!("nanos {v} {zoned}"),
                Self::Text(v) => format!("{v:?}"),
                Self::Bytes(v) => format!("{v:?}"),
                Self::Array(items) => format!("[{}]", items.iter().map(|item| item.shown() + ",").collect::<String>()),
                Self::Object(fields) => {
                    format!("{{{}}}", fields.iter().map(|(name, v)| format!("{name}:{},", v.shown())).collect::<String>())
                }
            }
        }

        /// Checks that the library supports the value: it limits dates, and has no empty names.
        fn is_theirs(&self) -> bool {
            match self {
                Self::Date(v) => v.unsigned_abs() < 90_000_000,
                Self::Timestamp(v, _) => v.unsigned_abs() < 8_000_000_000_000_000_000,
                Self::Array(items) => items.iter().all(Self::is_theirs),
                Self::Object(fields) => fields.iter().all(|(name, value)| !name.is_empty() && value.is_theirs()),
                _ => true,
            }
        }
    }

    proptest! {
        /// A built variant is read back the same, by the library too.
        #[test]
        fn what_is_built_is_the_same_value(any in any_variant()) {
            let mut builder = VariantBuilder::default();
            any.write(&mut builder);
            let (metadata, value) = builder.finish();
            let own = Variant::new(&metadata, &value);
            prop_assert_eq!(check_variant(&metadata, &value), Ok(()));
            prop_assert_eq!(own.bytes().len(), value.len());
            prop_assert_eq!(shown(own), any.shown());
            if any.is_theirs() {
                let theirs = Theirs::try_new(&metadata, &value).expect("a variant");
                prop_assert_eq!(shown_by_them(&theirs), any.shown());
            }
        }

        /// Any bytes that pass the check can be walked.
        #[test]
        fn bytes_are_a_variant_or_an_error(value in prop::collection::vec(0_u8..40, 0..40), names in 0_u8..3) {
            let metadata = match names {
                0 => vec![1, 0, 0],
                1 => vec![1, 1, 0, 1, b'a'],
                _ => vec![1, 2, 0, 1, 1, b'b'],
            };
            if let Ok(in_order) = VariantCheck::default().check(&metadata, &value, MAX_VARIANT_DEPTH) {
                let own = Variant::new(&metadata, &value);
                variant_hash(own);
                // The library relies on the order of names.
                if in_order && own.bytes().len() == value.len() && let Ok(theirs) = Theirs::try_new(&metadata, &value) {
                    prop_assert_eq!(shown(own), shown_by_them(&theirs));
                }
            }
        }
    }
}
