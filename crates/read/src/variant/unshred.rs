//! Reassembles shredded variants, and re-encodes those whose bytes can't be used as they are.
//!
//! A shredded value is a pair of columns: `typed_value` holds it if it is of that column's type, `value` holds it otherwise.
//! Objects and arrays nest such pairs. Nearly all files are not shredded and keep their bytes; every value is checked before
//! anything walks it. Start with [`variants`]. Spec: Parquet, "Variant Shredding".

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow::error::ArrowError;

use super::array::{VariantRows, is_variant, with_nulls};
use super::build::VariantBuilder;
use super::check::{MAX_VARIANT_DEPTH, VariantCheck};
use super::typed::can_be_shredded;
use super::value::{Variant, VariantValue};

type Result<T> = std::result::Result<T, ArrowError>;

/// Makes the error for a variant that can't be read.
fn wrong(what: impl Into<String>) -> ArrowError {
    ArrowError::InvalidArgumentError(format!("a variant can't be read: {}", what.into()))
}

/// Converts a file's variant column to whole variants, and checks every value.
///
/// Shredded fields are reassembled. An array that has the type of variants already is returned unchanged and unchecked.
///
/// # Errors
///
/// - Returns [`ArrowError::SchemaError`] if the array is no struct.
/// - Returns [`ArrowError::InvalidArgumentError`] if the struct has no `metadata`, or a `typed_value` of a type that variants
///   don't have. Also returns it if a value that is not null is no valid variant, or is stored in both `value` and `typed_value`.
/// - Returns [`ArrowError::CastError`] if `metadata` or `value` does not hold bytes.
pub fn variants(array: &ArrayRef) -> Result<ArrayRef> {
    if is_variant(array.data_type()) {
        return Ok(array.clone());
    }
    let structs = array.as_struct_opt().ok_or_else(|| ArrowError::SchemaError("a variant column is no struct".to_owned()))?;
    let (metadata, value) = reassemble(structs)?;
    with_nulls(&metadata, &value, array.nulls().cloned())
}

/// A shredded value in a file, as its pair of columns.
struct Part {
    /// The column of values that are not of the type of `typed`.
    value: Option<BinaryViewArray>,
    /// The column of values of one type.
    typed: Option<Typed>,
}

/// The column `typed_value`.
enum Typed {
    /// Values of a primitive type.
    Plain(ArrayRef),
    /// Objects, with their shredded fields by name.
    Object(StructArray, Vec<(String, Part)>),
    /// Arrays, with their items.
    Array(ArrayRef, Box<Part>),
}

impl Part {
    /// Reads the pair of columns of a shredded value.
    fn of(array: &StructArray) -> Result<Self> {
        let views = |column: &ArrayRef| Ok::<_, ArrowError>(cast(column, &DataType::BinaryView)?.as_binary_view().clone());
        let value = array.column_by_name("value").map(views).transpose()?;
        let typed = match array.column_by_name("typed_value") {
            None => None,
            Some(column) => Some(match column.data_type() {
                DataType::Struct(fields) => {
                    let structs = column.as_struct();
                    let part = |(field, child): (&arrow::datatypes::FieldRef, &ArrayRef)| {
                        let child = child.as_struct_opt().ok_or_else(|| wrong(format!("field {} is no pair", field.name())))?;
                        Ok::<_, ArrowError>((field.name().clone(), Self::of(child)?))
                    };
                    let parts = fields.iter().zip(structs.columns()).map(part).collect::<Result<_>>()?;
                    Typed::Object(structs.clone(), parts)
                }
                DataType::List(_) => {
                    let items =
                        column.as_list::<i32>().values().as_struct_opt().ok_or_else(|| wrong("its items are no pairs"))?;
                    Typed::Array(column.clone(), Box::new(Self::of(items)?))
                }
                ty if !may_be_typed(ty) => return Err(wrong(format!("a part can't be of type {ty}"))),
                _ => Typed::Plain(column.clone()),
            }),
        };
        Ok(Self { value, typed })
    }

    /// Checks that a row has the value in either column.
    fn is_there(&self, row: usize) -> bool {
        let typed = match &self.typed {
            None => false,
            Some(Typed::Plain(array) | Typed::Array(array, _)) => array.is_valid(row),
            Some(Typed::Object(array, _)) => array.is_valid(row),
        };
        typed || self.value.as_ref().is_some_and(|value| value.is_valid(row))
    }

    /// Adds a row's value to the writer; a value that is in neither column is null.
    ///
    /// `depth` is the number of levels of objects and arrays that may follow.
    fn append(&self, row: usize, writer: &mut Writer<'_>, depth: usize) -> Result<()> {
        let rest = self.value.as_ref().filter(|value| value.is_valid(row)).map(|value| value.value(row));
        let within = || depth.checked_sub(1).ok_or_else(|| wrong(format!("it is nested more than {MAX_VARIANT_DEPTH} deep")));
        match &self.typed {
            Some(Typed::Plain(array) | Typed::Array(array, _)) if array.is_valid(row) && rest.is_some() => {
                Err(wrong("a value is there twice: in `value` and in `typed_value`"))
            }
            Some(Typed::Plain(array)) if array.is_valid(row) => {
                writer.builder.add(variant_of_column(array, row)?);
                Ok(())
            }
            Some(Typed::Object(array, parts)) if array.is_valid(row) => {
                let depth = within()?;
                let mut object = writer.builder.begin();
                for (name, part) in parts.iter().filter(|(_, part)| part.is_there(row)) {
                    writer.builder.field(&mut object, name);
                    part.append(row, writer, depth)?;
                }
                match rest.map(|rest| writer.checked(rest, depth + 1)).transpose()? {
                    None => {}
                    Some((rest, as_it_is)) => {
                        let VariantValue::Object(fields) = rest.get() else {
                            return Err(wrong("the `value` of a shredded object is no object"));
                        };
                        for (name, value) in fields.iter() {
                            if parts.iter().any(|(known, _)| known == name) {
                                return Err(wrong(format!("field {name} has a column and is in `value`")));
                            }
                            writer.builder.field(&mut object, name);
                            writer.add(value, as_it_is);
                        }
                    }
                }
                writer.builder.end_object(object);
                Ok(())
            }
            Some(Typed::Array(array, part)) if array.is_valid(row) => {
                let depth = within()?;
                let offsets = array.as_list::<i32>().value_offsets();
                let mut list = writer.builder.begin();
                for item in offsets[row] as usize..offsets[row + 1] as usize {
                    writer.builder.item(&mut list);
                    part.append(item, writer, depth)?;
                }
                writer.builder.end_array(list);
                Ok(())
            }
            _ => {
                match rest.map(|rest| writer.checked(rest, depth)).transpose()? {
                    None => writer.builder.add(VariantValue::Null),
                    Some((rest, as_it_is)) => writer.add(rest, as_it_is),
                }
                Ok(())
            }
        }
    }
}

/// Writes the variant of one row.
struct Writer<'a> {
    /// The row's dictionary of field names.
    metadata: &'a [u8],
    check: &'a mut VariantCheck,
    builder: &'a mut VariantBuilder,
}

impl<'a> Writer<'a> {
    /// Checks a value; also returns whether its bytes can be used as they are.
    fn checked<'v>(&mut self, value: &'v [u8], depth: usize) -> Result<(Variant<'v>, bool)>
    where
        'a: 'v,
    {
        let as_it_is = self.check.check(self.metadata, value, depth).map_err(wrong)?;
        Ok((Variant::new(self.metadata, value), as_it_is))
    }

    /// Adds a value: its bytes if they can be used as they are, otherwise encoded again.
    fn add(&mut self, value: Variant<'_>, as_it_is: bool) {
        match as_it_is {
            true => self.builder.add_bytes(value),
            false => self.builder.add(value.get()),
        }
    }
}

/// Checks that `typed_value` may have a type. Spec: Parquet, "Variant Shredding", Shredded Value Types.
fn may_be_typed(ty: &DataType) -> bool {
    can_be_shredded(ty) || ty.is_string() || matches!(ty, DataType::BinaryView | DataType::LargeBinary)
}

/// Returns the value of a row of a typed column as a variant value. The row must not be null.
///
/// Spec: Parquet, "Variant Shredding", Shredded Value Types.
///
/// # Errors
///
/// Returns [`ArrowError::InvalidArgumentError`] if variants have no values of the column's type, or if the scale of a decimal
/// column is negative.
pub fn variant_of_column(array: &ArrayRef, row: usize) -> Result<VariantValue<'_>> {
    use VariantValue as V;
    macro_rules! of {
        ($ty:ty) => {
            array.as_primitive::<$ty>().value(row)
        };
    }
    Ok(match array.data_type() {
        DataType::Boolean => V::Boolean(array.as_boolean().value(row)),
        DataType::Int8 => V::Integer(of!(Int8Type).into()),
        DataType::Int16 => V::Integer(of!(Int16Type).into()),
        DataType::Int32 => V::Integer(of!(Int32Type).into()),
        DataType::Int64 => V::Integer(of!(Int64Type)),
        DataType::Float32 => V::Float(of!(Float32Type)),
        DataType::Float64 => V::Double(of!(Float64Type)),
        DataType::Decimal128(_, scale) => {
            let scale = u8::try_from(*scale).map_err(|_| wrong(format!("a decimal has scale {scale}")))?;
            V::Decimal { unscaled: of!(Decimal128Type), scale }
        }
        DataType::Date32 => V::Date(of!(Date32Type)),
        DataType::Time64(TimeUnit::Microsecond) => V::Time(of!(Time64MicrosecondType)),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            V::Timestamp { micros: of!(TimestampMicrosecondType), zoned: zone.is_some() }
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            V::TimestampNs { nanos: of!(TimestampNanosecondType), zoned: zone.is_some() }
        }
        DataType::Utf8 => V::String(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => V::String(array.as_string::<i64>().value(row)),
        DataType::Utf8View => V::String(array.as_string_view().value(row)),
        DataType::Binary => V::Binary(array.as_binary::<i32>().value(row)),
        DataType::BinaryView => V::Binary(array.as_binary_view().value(row)),
        DataType::LargeBinary => V::Binary(array.as_binary::<i64>().value(row)),
        DataType::FixedSizeBinary(16) => {
            let id = array.as_fixed_size_binary().value(row).try_into();
            V::Uuid(id.map_err(|_| wrong("a UUID does not have 16 bytes"))?)
        }
        other => return Err(wrong(format!("a part can't be of type {other}"))),
    })
}

/// Returns the metadata and the whole value of each variant of a file's column.
///
/// Rows that are null have null bytes, or the bytes that the file stored if the whole column is used unchanged.
fn reassemble(array: &StructArray) -> Result<(BinaryViewArray, BinaryViewArray)> {
    let own = array.column_by_name("metadata").ok_or_else(|| wrong("it has no metadata"))?;
    let own = cast(own, &DataType::BinaryView)?;
    let (own, part) = (own.as_binary_view(), Part::of(array)?);
    let (mut check, mut builder) = (VariantCheck::default(), VariantBuilder::default());
    if let (None, Some(value)) = (&part.typed, &part.value) {
        // Nearly all files are not shredded: if all rows are valid as they are, the columns are used unchanged.
        let mut as_it_is = |row: usize| {
            array.is_null(row)
                || (value.is_valid(row) && check.check(own.value(row), value.value(row), MAX_VARIANT_DEPTH) == Ok(true))
        };
        if (0..array.len()).all(&mut as_it_is) {
            return Ok((own.clone(), value.clone()));
        }
    }
    let mut made = VariantRows::default();
    for row in 0..array.len() {
        if array.is_null(row) {
            made.append_null();
            continue;
        }
        builder.begin_with(own.value(row));
        let mut writer = Writer { metadata: own.value(row), check: &mut check, builder: &mut builder };
        part.append(row, &mut writer, MAX_VARIANT_DEPTH)?;
        made.append(builder.finish());
    }
    Ok(made.columns())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, Int64Array, StringArray};
    use arrow::buffer::NullBuffer;
    use arrow::datatypes::{Field, Fields};
    use parquet::variant::{
        ShreddedSchemaBuilder, Variant as Theirs, VariantArray, VariantArrayBuilder, VariantBuilder, VariantBuilderExt,
        shred_variant,
    };

    use super::super::array::{variant_array, variant_at};
    use super::super::hash::variant_hash;
    use super::*;

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
