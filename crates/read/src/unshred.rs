//! Reassembles shredded variants, and re-encodes those whose bytes can't be used as they are.
//!
//! A shredded value is a pair of columns: `typed_value` holds it if it is of that column's type, `value` holds it otherwise.
//! Objects and arrays nest such pairs. Nearly all files are not shredded and keep their bytes; every value is checked before
//! anything walks it. Start with [`reassemble`]. Spec: Parquet, "Variant Shredding".

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow::error::ArrowError;

use crate::variant_check::{MAX_VARIANT_DEPTH, VariantCheck};
use crate::variant_typed::can_be_shredded;
use crate::{Variant, VariantBuilder, VariantRows, VariantValue};

type Result<T> = std::result::Result<T, ArrowError>;

/// Makes the error for a variant that can't be read.
fn wrong(what: impl Into<String>) -> ArrowError {
    ArrowError::InvalidArgumentError(format!("a variant can't be read: {}", what.into()))
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
/// Returns [`ArrowError::InvalidArgumentError`] if variants have no values of the column's type.
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
pub(crate) fn reassemble(array: &StructArray) -> Result<(BinaryViewArray, BinaryViewArray)> {
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
