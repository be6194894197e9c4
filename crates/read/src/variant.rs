//! The Arrow representation of Iceberg's type `variant`: a struct of `metadata` and `value`, both binary views.
//!
//! Files may shred parts of the values into columns of their own; rows in memory always have the whole value in `value`.
//! [`variants`] converts a file's column and checks every value, so that later readers need not. Spec: Parquet, "Variant Binary
//! Encoding", "Variant Shredding".

use std::hash::Hasher as _;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, BinaryViewBuilder, StructArray};
use arrow::datatypes::{DataType, Field, Fields};
use arrow::error::ArrowError;
use twox_hash::XxHash3_64;

use crate::unshred::reassemble;
use crate::{Variant, VariantValue};

/// The variant value `null`: one byte of basic type "primitive" and primitive type 0.
const NULL: &[u8] = &[0];

/// The fields of the Arrow type of variants.
static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    let bytes = |name| Field::new(name, DataType::BinaryView, false);
    vec![bytes("metadata"), bytes("value")].into()
});

/// Returns the Arrow type of a variant: a struct of the binary views `metadata` and `value`, neither nullable.
///
/// No other column has this type: Esker reads other bytes in structs as binary arrays, not as views.
pub fn variant_type() -> DataType {
    DataType::Struct(FIELDS.clone())
}

/// Checks that an Arrow type is the type of a variant.
pub fn is_variant(ty: &DataType) -> bool {
    matches!(ty, DataType::Struct(fields) if fields.len() == 2 && is_bytes(&fields[0], "metadata") && is_bytes(&fields[1], "value"))
}

/// Checks that a field is a binary view of some name.
fn is_bytes(field: &Field, name: &str) -> bool {
    field.name() == name && *field.data_type() == DataType::BinaryView
}

/// Returns the metadata and the value column of an array of variants.
pub fn variant_parts(array: &StructArray) -> (&BinaryViewArray, &BinaryViewArray) {
    (array.column(0).as_binary_view(), array.column(1).as_binary_view())
}

/// Returns the variant in a row, which must not be null.
///
/// The bytes are not checked again: arrays that come from [`variants`] hold only valid ones.
pub fn variant_at(array: &StructArray, row: usize) -> Variant<'_> {
    let (metadata, value) = variant_parts(array);
    Variant::new(metadata.value(row), value.value(row))
}

/// Makes an array of variants from metadata and values; a row with a null value is null.
///
/// # Errors
///
/// Returns [`ArrowError::InvalidArgumentError`] if the two arrays differ in length.
pub fn variant_array(metadata: BinaryViewArray, value: BinaryViewArray) -> Result<ArrayRef, ArrowError> {
    let nulls = value.nulls().cloned();
    let (metadata, value): (ArrayRef, ArrayRef) = (filled(&metadata, &[1, 0, 0]), filled(&value, NULL));
    Ok(Arc::new(StructArray::try_new(FIELDS.clone(), vec![metadata, value], nulls)?))
}

/// Builds an array of variants row by row.
#[derive(Debug, Default)]
pub struct VariantRows {
    metadata: BinaryViewBuilder,
    values: BinaryViewBuilder,
}

impl VariantRows {
    /// Appends a null row.
    pub fn append_null(&mut self) {
        self.metadata.append_null();
        self.values.append_null();
    }

    /// Appends a variant: the bytes of its metadata and of its value.
    pub fn append(&mut self, (metadata, value): (impl AsRef<[u8]>, impl AsRef<[u8]>)) {
        self.metadata.append_value(metadata);
        self.values.append_value(value);
    }

    /// Returns the array of all appended rows.
    ///
    /// # Errors
    ///
    /// Returns [`ArrowError`] as [`variant_array`] does; rows appended here always have equal lengths.
    pub fn finish(self) -> Result<ArrayRef, ArrowError> {
        let (metadata, value) = self.columns();
        variant_array(metadata, value)
    }

    /// Returns the metadata and the values, both null in rows without a variant.
    pub(crate) fn columns(mut self) -> (BinaryViewArray, BinaryViewArray) {
        (self.metadata.finish(), self.values.finish())
    }
}

/// Converts a file's variant column to whole variants, and checks every value.
///
/// Shredded fields are reassembled. An array that has the type of variants already is returned unchanged and unchecked.
///
/// # Errors
///
/// Returns [`ArrowError::SchemaError`] if the array is no struct. Returns [`ArrowError::InvalidArgumentError`] if a value that is
/// not null is no valid variant, or is stored in both `value` and `typed_value`.
pub fn variants(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if is_variant(array.data_type()) {
        return Ok(array.clone());
    }
    let structs = array.as_struct_opt().ok_or_else(|| ArrowError::SchemaError("a variant column is no struct".to_owned()))?;
    let (metadata, value) = reassemble(structs)?;
    let (metadata, value) = (filled(&metadata, &[1, 0, 0]), filled(&value, NULL));
    Ok(Arc::new(StructArray::try_new(FIELDS.clone(), vec![metadata, value], array.nulls().cloned())?))
}

/// Replaces null bytes by `with`.
///
/// A variant that is in none of a file's columns is the variant `null`. Spec: Parquet, "Variant Shredding".
fn filled(array: &BinaryViewArray, with: &[u8]) -> ArrayRef {
    if array.null_count() == 0 {
        return Arc::new(array.clone());
    }
    let mut made = BinaryViewBuilder::with_capacity(array.len());
    array.iter().for_each(|bytes| made.append_value(bytes.unwrap_or(with)));
    Arc::new(made.finish())
}

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
    use arrow::array::{BinaryArray, Int64Array, StringArray};
    use arrow::buffer::NullBuffer;
    use arrow::compute::cast;
    use parquet::variant::{
        ShreddedSchemaBuilder, Variant as Theirs, VariantArray, VariantArrayBuilder, VariantBuilder, VariantBuilderExt,
        VariantDecimal4, shred_variant,
    };

    use super::*;
    use crate::MAX_VARIANT_DEPTH;

    /// Six rows: three objects `{"a": …, "b": "x"}`, a string, the variant `null`, and null.
    fn some() -> VariantArray {
        let mut builder = VariantArrayBuilder::new(5);
        for a in [Some(1_i64), Some(i64::MAX), None] {
            let mut object = builder.try_new_object().expect("an object");
            if let Some(a) = a {
                object.insert("a", a);
            }
            object.insert("b", "x");
            object.finish();
        }
        builder.append_variant(Theirs::from("a text that is no object"));
        builder.append_variant(Theirs::Null);
        builder.append_null();
        builder.build()
    }

    fn hashes(array: &ArrayRef) -> Vec<Option<u64>> {
        let of = array.as_struct();
        (0..of.len()).map(|row| of.is_valid(row).then(|| variant_hash(variant_at(of, row)))).collect()
    }

    #[test]
    fn what_files_keep_apart_is_the_same_value() {
        let whole = variants(&ArrayRef::from(some())).expect("variants");
        assert!(is_variant(whole.data_type()), "{}", whole.data_type());
        let apart = ShreddedSchemaBuilder::new().with_path("a", &DataType::Int64).expect("a path").build();
        let shredded = ArrayRef::from(shred_variant(&some(), &apart).expect("shredded"));
        assert!(shredded.as_struct().column_by_name("typed_value").is_some());
        let read = variants(&shredded).expect("variants");
        assert_eq!(read.data_type(), whole.data_type());
        assert_eq!((read.null_count(), hashes(&read)), (1, hashes(&whole)));
        let distinct: std::collections::HashSet<_> = hashes(&whole).into_iter().collect();
        assert_eq!(distinct.len(), 6);
    }

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

    #[test]
    fn bytes_that_are_no_variant_are_an_error_but_under_null() {
        let of = |value: &[u8], valid: bool| {
            let metadata: ArrayRef = Arc::new(BinaryArray::from(vec![&[1_u8, 0, 0][..]]));
            let value: ArrayRef = Arc::new(BinaryArray::from(vec![value]));
            let fields = [("metadata", &metadata), ("value", &value)];
            let fields: Fields = fields.iter().map(|(name, a)| Field::new(*name, a.data_type().clone(), true)).collect();
            let array = StructArray::new(fields, vec![metadata, value], Some(NullBuffer::from(vec![valid])));
            variants(&(Arc::new(array) as ArrayRef))
        };
        of(&[0], true).expect("null");
        of(&[0xff, 1, 2], true).expect_err("no variant");
        assert_eq!(of(&[0xff, 1, 2], false).expect("a null").null_count(), 1);
    }

    /// Arrays within arrays.
    fn nested(depth: usize) -> Vec<u8> {
        let mut value = vec![0];
        for _ in 0..depth {
            let length = u32::try_from(value.len()).expect("a length").to_le_bytes();
            value = [&[3 | 3 << 2, 1, 0, 0, 0, 0][..], &length, &value].concat();
        }
        value
    }

    #[test]
    fn what_is_nested_too_deep_is_refused_before_anybody_goes_through_it() {
        let of = |value: &[u8]| {
            let metadata: ArrayRef = Arc::new(BinaryArray::from(vec![&[1_u8, 0, 0][..]]));
            let value: ArrayRef = Arc::new(BinaryArray::from(vec![value]));
            let fields: Fields =
                ["metadata", "value"].map(|name| Field::new(name, DataType::Binary, false)).into_iter().collect();
            variants(&(Arc::new(StructArray::new(fields, vec![metadata, value], None)) as ArrayRef))
        };
        let deep = of(&nested(MAX_VARIANT_DEPTH)).expect("a variant");
        variant_hash(variant_at(deep.as_struct(), 0));
        for more in [MAX_VARIANT_DEPTH + 1, 20_000] {
            let error = of(&nested(more)).expect_err("too deep").to_string();
            assert!(error.contains("more than 200 deep"), "{error}");
        }
        // Each array has two items that share their bytes.
        let mut again = vec![0];
        for _ in 0..100 {
            let length = u32::try_from(again.len()).expect("a length").to_le_bytes();
            again = [&[3 | 3 << 2, 2, 0, 0, 0, 0, 0, 0, 0, 0][..], &length, &again].concat();
        }
        let error = of(&again).expect_err("in one another").to_string();
        assert!(error.contains("values overlap"), "{error}");
    }

    fn integer(object: Variant<'_>, name: &str) -> Option<i64> {
        let VariantValue::Object(fields) = object.get() else { return None };
        if let VariantValue::Integer(v) = fields.get(name)?.get() { Some(v) } else { None }
    }

    /// `SELECT '{"b":1,"a":2}'::JSON::VARIANT` in DuckDB 1.5.5.
    #[test]
    fn a_dictionary_that_is_said_to_be_sorted_need_not_be() {
        let metadata = [0x11, 2, 0, 1, 2, b'b', b'a'];
        let value = [0x02, 2, 1, 0, 0, 2, 4, 0x0c, 2, 0x0c, 1];
        let bytes = |bytes: &[u8]| -> ArrayRef { Arc::new(BinaryArray::from(vec![bytes])) };
        let fields: Fields = ["metadata", "value"].map(|name| Field::new(name, DataType::Binary, false)).into_iter().collect();
        let array = StructArray::new(fields, vec![bytes(&metadata), bytes(&value)], None);
        let read = variants(&(Arc::new(array) as ArrayRef)).expect("variants");
        let object = variant_at(read.as_struct(), 0);
        assert_eq!((integer(object, "a"), integer(object, "b")), (Some(2), Some(1)));
        assert_eq!(object.metadata()[0] & 0x10, 0, "they are not sorted");
    }

    /// A name may be empty, and names need not be sorted.
    #[test]
    fn a_field_without_a_name_is_read() {
        let mut builder = VariantBuilder::new();
        let mut object = builder.new_object();
        object.insert("b", 1_i8);
        object.insert("", 2_i8);
        object.finish();
        let (metadata, value) = builder.finish();
        let views = |bytes: &[u8]| BinaryViewArray::from(vec![bytes]);
        let array = variant_array(views(&metadata), views(&value)).expect("variants");
        let plain: Fields = ["metadata", "value"].map(|name| Field::new(name, DataType::Binary, false)).into_iter().collect();
        let plain = cast(&array, &DataType::Struct(plain)).expect("bytes");
        // The same object with `b` shredded: the field without a name stays in `value`.
        let typed = |ty: DataType| Field::new("typed_value", ty, true);
        let pair: Fields = vec![Field::new("value", DataType::BinaryView, true), typed(DataType::Int8)].into();
        let rest: ArrayRef = Arc::new(views(&[0x02_u8, 1, 1, 0, 2, 0x0c, 2]));
        let none: ArrayRef = Arc::new(BinaryViewArray::from(vec![None::<&[u8]>]));
        let one: ArrayRef = Arc::new(arrow::array::Int8Array::from(vec![1]));
        let b: ArrayRef = Arc::new(StructArray::new(pair.clone(), vec![none, one], None));
        let objects: Fields = vec![Field::new("b", DataType::Struct(pair), false)].into();
        let objects: ArrayRef = Arc::new(StructArray::new(objects, vec![b], None));
        let fields = vec![Field::new("metadata", DataType::BinaryView, false), Field::new("value", DataType::BinaryView, true)];
        let fields: Fields = fields.into_iter().chain([typed(objects.data_type().clone())]).collect();
        let apart = StructArray::new(fields, vec![array.as_struct().column(0).clone(), rest, objects], None);
        for array in [plain, Arc::new(apart)] {
            let read = variants(&array).expect("variants");
            let object = variant_at(read.as_struct(), 0);
            assert_eq!((integer(object, ""), integer(object, "b")), (Some(2), Some(1)));
        }
    }

    /// Parquet's own test files have these (cases 42, 127 and 137): neither of the two values may be dropped.
    #[test]
    fn a_value_that_is_there_twice_is_refused() {
        let apart = |value: Option<&[u8]>, typed: ArrayRef| -> ArrayRef {
            let columns: [(&str, ArrayRef); 3] = [
                ("metadata", Arc::new(BinaryViewArray::from(vec![&[1_u8, 0, 0][..]]))),
                ("value", Arc::new(BinaryViewArray::from(vec![value]))),
                ("typed_value", typed),
            ];
            let field = |(name, array): (&str, ArrayRef)| (Arc::new(Field::new(name, array.data_type().clone(), true)), array);
            Arc::new(StructArray::from(columns.map(field).to_vec()))
        };
        let number = || -> ArrayRef { Arc::new(arrow::array::Int32Array::from(vec![34])) };
        variants(&apart(None, number())).expect("a number");
        let error = variants(&apart(Some(&[0x0c, 1]), number())).expect_err("two values").to_string();
        assert!(error.contains("a value is there twice"), "{error}");
        let unsigned = Arc::new(arrow::array::UInt32Array::from(vec![None]));
        let error = variants(&apart(Some(&[0x0c, 1]), unsigned)).expect_err("no type of variants").to_string();
        assert!(error.contains("can't be of type UInt32"), "{error}");
    }

    #[test]
    fn structs_of_other_columns_are_no_variants() {
        let a: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        let array: ArrayRef = Arc::new(StructArray::from(vec![
            (Arc::new(Field::new("metadata", DataType::Int64, false)), a),
            (Arc::new(Field::new("value", DataType::Utf8, false)), text),
        ]));
        assert!(!is_variant(array.data_type()));
        variants(&array).expect_err("no variants");
    }
}
