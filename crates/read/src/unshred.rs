//! Variants whose parts are in columns of their own (Parquet, "Variant Shredding"), and those whose bytes can't be taken as they are, put
//! together anew.

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow::error::ArrowError;

use crate::variant_check::{DEPTH, VariantCheck};
use crate::variant_typed::can_be_part;
use crate::{Variant, VariantBuilder, VariantRows, VariantValue};

type Result<T> = std::result::Result<T, ArrowError>;

fn wrong(what: impl Into<String>) -> ArrowError {
    ArrowError::InvalidArgumentError(format!("a variant can't be read: {}", what.into()))
}

/// What a file has of a part of a variant.
struct Part {
    /// What is not in a column of the part's own.
    value: Option<BinaryViewArray>,
    typed: Option<Typed>,
}

enum Typed {
    Plain(ArrayRef),
    Object(StructArray, Vec<(String, Part)>),
    Array(ArrayRef, Box<Part>),
}

impl Part {
    fn of(array: &StructArray) -> Result<Self> {
        let views = |column: &ArrayRef| Ok::<_, ArrowError>(cast(column, &DataType::BinaryView)?.as_binary_view().clone());
        let value = array.column_by_name("value").map(views).transpose()?;
        let typed = match array.column_by_name("typed_value") {
            None => None,
            Some(column) => Some(match column.data_type() {
                DataType::Struct(fields) => {
                    let structs = column.as_struct();
                    let part = |(field, child): (&arrow::datatypes::FieldRef, &ArrayRef)| {
                        let child = child.as_struct_opt().ok_or_else(|| wrong(format!("field {} is no part", field.name())))?;
                        Ok::<_, ArrowError>((field.name().clone(), Self::of(child)?))
                    };
                    let parts = fields.iter().zip(structs.columns()).map(part).collect::<Result<_>>()?;
                    Typed::Object(structs.clone(), parts)
                }
                DataType::List(_) => {
                    let items = column.as_list::<i32>().values().as_struct_opt().ok_or_else(|| wrong("an array has no parts"))?;
                    Typed::Array(column.clone(), Box::new(Self::of(items)?))
                }
                ty if !may_be_typed(ty) => return Err(wrong(format!("a part can't be of type {ty}"))),
                _ => Typed::Plain(column.clone()),
            }),
        };
        Ok(Self { value, typed })
    }

    fn is_there(&self, row: usize) -> bool {
        let typed = match &self.typed {
            None => false,
            Some(Typed::Plain(array) | Typed::Array(array, _)) => array.is_valid(row),
            Some(Typed::Object(array, _)) => array.is_valid(row),
        };
        typed || self.value.as_ref().is_some_and(|value| value.is_valid(row))
    }

    /// Adds a row's value, in which so many objects and arrays may lie within one another. What is nowhere is null.
    fn append(&self, row: usize, writer: &mut Writer<'_>, depth: usize) -> Result<()> {
        let rest = self.value.as_ref().filter(|value| value.is_valid(row)).map(|value| value.value(row));
        let within = || depth.checked_sub(1).ok_or_else(|| wrong(format!("it is nested more than {DEPTH} deep")));
        match &self.typed {
            Some(Typed::Plain(array) | Typed::Array(array, _)) if array.is_valid(row) && rest.is_some() => {
                Err(wrong("a value is there twice: as itself, and in a column of its type"))
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
                            return Err(wrong("an object has a value beside its fields"));
                        };
                        for (name, value) in fields.iter() {
                            if parts.iter().any(|(known, _)| known == name) {
                                return Err(wrong(format!("field {name} has a column, and is not in it")));
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
    /// The row's names.
    metadata: &'a [u8],
    check: &'a mut VariantCheck,
    builder: &'a mut VariantBuilder,
}

impl<'a> Writer<'a> {
    /// A value that was checked, and whether its bytes can be taken as they are.
    fn checked<'v>(&mut self, value: &'v [u8], depth: usize) -> Result<(Variant<'v>, bool)>
    where
        'a: 'v,
    {
        let as_it_is = self.check.check(self.metadata, value, depth).map_err(wrong)?;
        Ok((Variant::new(self.metadata, value), as_it_is))
    }

    fn add(&mut self, value: Variant<'_>, as_it_is: bool) {
        match as_it_is {
            true => self.builder.add_bytes(value),
            false => self.builder.add(value.get()),
        }
    }
}

/// Whether a column of a type holds values of variants (Parquet, "Variant Shredding", Shredded Value Types).
fn may_be_typed(ty: &DataType) -> bool {
    can_be_part(ty) || ty.is_string() || matches!(ty, DataType::BinaryView | DataType::LargeBinary)
}

/// A value of a column that is not null, as a variant has it. Of a type that no variant has values of it is an error.
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
            let scale = u8::try_from(*scale).map_err(|_| wrong(format!("a decimal has {scale} digits after the point")))?;
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
            V::Uuid(id.map_err(|_| wrong("a UUID has other than 16 bytes"))?)
        }
        other => return Err(wrong(format!("a part can't be of type {other}"))),
    })
}

/// The metadata and the value of each of a file's variants, all of a value in one.
pub(crate) fn put_together(array: &StructArray) -> Result<(BinaryViewArray, BinaryViewArray)> {
    let own = array.column_by_name("metadata").ok_or_else(|| wrong("it has no metadata"))?;
    let own = cast(own, &DataType::BinaryView)?;
    let (own, part) = (own.as_binary_view(), Part::of(array)?);
    let (mut check, mut builder) = (VariantCheck::default(), VariantBuilder::default());
    if let (None, Some(value)) = (&part.typed, &part.value) {
        // Nearly all files have their variants in one piece, as rows have them.
        let mut as_it_is = |row: usize| {
            array.is_null(row) || (value.is_valid(row) && check.check(own.value(row), value.value(row), DEPTH) == Ok(true))
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
        part.append(row, &mut writer, DEPTH)?;
        made.append(builder.finish());
    }
    Ok(made.columns())
}
