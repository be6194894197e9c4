//! Hashes variants by value: two encodings of one value have the same hash.

use std::hash::Hasher as _;

use twox_hash::XxHash3_64;

use super::value::{Variant, VariantValue};

/// Returns a hash of a variant's value that is the same for any two encodings of it.
///
/// Integers and decimals of any width are one kind of value. Spec: Parquet, "Variant Binary Encoding", exact numeric.
pub fn variant_hash(variant: Variant<'_>) -> u64 {
    let mut hash = XxHash3_64::with_seed(0);
    write(variant, &mut hash);
    hash.finish()
}

fn write(variant: Variant<'_>, hash: &mut XxHash3_64) {
    use VariantValue as V;
    let mut put = |kind: u8, bytes: &[u8]| {
        hash.write_u8(kind);
        hash.write_u64(bytes.len() as u64);
        hash.write(bytes);
    };
    match variant.get() {
        V::Null => put(0, &[]),
        V::Boolean(v) => put(1, &[u8::from(v)]),
        V::Integer(v) => put(2, &exact(v.into(), 0)),
        V::Decimal { unscaled, scale } => put(2, &exact(unscaled, scale)),
        V::Float(v) => put(3, &v.to_bits().to_le_bytes()),
        V::Double(v) => put(4, &v.to_bits().to_le_bytes()),
        V::Date(v) => put(5, &v.to_le_bytes()),
        V::Time(v) => put(6, &v.to_le_bytes()),
        V::Timestamp { micros, zoned } => put(if zoned { 7 } else { 8 }, &micros.to_le_bytes()),
        V::TimestampNs { nanos, zoned } => put(if zoned { 9 } else { 10 }, &nanos.to_le_bytes()),
        V::Binary(v) => put(11, v),
        V::String(v) => put(12, v.as_bytes()),
        V::Uuid(v) => put(13, &v),
        V::Array(items) => {
            put(14, &(items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| write(item, hash));
        }
        V::Object(fields) => {
            put(15, &(fields.len() as u64).to_le_bytes());
            for (name, value) in fields.iter() {
                hash.write_u64(name.len() as u64);
                hash.write(name.as_bytes());
                write(value, hash);
            }
        }
    }
}

/// Encodes an exact number without trailing zeros in its fraction.
fn exact(mut unscaled: i128, mut scale: u8) -> [u8; 17] {
    while scale > 0 && unscaled % 10 == 0 {
        (unscaled, scale) = (unscaled / 10, scale - 1);
    }
    let mut bytes = [scale; 17];
    bytes[..16].copy_from_slice(&unscaled.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use parquet::variant::{Variant as Theirs, VariantBuilder, VariantDecimal4};

    use super::*;

    #[test]
    fn numbers_are_equal_whatever_their_width_and_texts_are_no_numbers() {
        let of = |variant: Theirs<'_, '_>| {
            let mut builder = VariantBuilder::new();
            builder.append_value(variant);
            let (metadata, value) = builder.finish();
            variant_hash(Variant::new(&metadata, &value))
        };
        assert_eq!(of(Theirs::Int8(7)), of(Theirs::Int64(7)));
        let decimal = |unscaled, scale| Theirs::Decimal4(VariantDecimal4::try_new(unscaled, scale).expect("a decimal"));
        assert_eq!(of(decimal(700, 2)), of(Theirs::Int32(7)));
        assert_ne!(of(decimal(701, 2)), of(Theirs::Int32(7)));
        assert_ne!(of(Theirs::from("7")), of(Theirs::Int32(7)));
        assert_ne!(of(Theirs::Double(7.0)), of(Theirs::Int32(7)));
    }

    #[test]
    fn fields_of_objects_have_no_order() {
        let object = |names: [&str; 2]| {
            let mut builder = VariantBuilder::new();
            let mut object = builder.new_object();
            names.iter().for_each(|name| object.insert(name, *name));
            object.finish();
            builder.finish()
        };
        let (one, other) = (object(["b", "a"]), object(["a", "b"]));
        let hash = |(metadata, value): &(Vec<u8>, Vec<u8>)| variant_hash(Variant::new(metadata, value));
        assert_ne!(one.0, other.0);
        assert_eq!(hash(&one), hash(&other));
    }
}
