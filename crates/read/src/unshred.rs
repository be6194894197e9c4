//! Variants put together anew, value by value: where a file's own bytes can't be taken as they are, as the fields of objects stand in
//! another order than that of their names (DuckDB 1.5), or a name is empty.

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, BinaryViewBuilder, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow::error::ArrowError;
use arrow::temporal_conversions::{date32_to_datetime, time64us_to_time, timestamp_ns_to_datetime, timestamp_us_to_datetime};
use parquet::variant::{
    ObjectFieldBuilder, Variant, VariantBuilder, VariantBuilderExt, VariantDecimal4, VariantDecimal8, VariantDecimal16,
};
use uuid::Uuid;

use crate::variant_check::Check;
use crate::variant_typed::can_be_part;

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

    /// Adds a row's value. What is nowhere is null.
    fn append(&self, row: usize, builder: &mut impl VariantBuilderExt, names: &mut Names<'_>) -> Result<()> {
        let rest = match self.value.as_ref().filter(|value| value.is_valid(row)) {
            Some(value) => Some(names.variant(value.value(row))?),
            None => None,
        };
        match &self.typed {
            Some(Typed::Plain(array) | Typed::Array(array, _)) if array.is_valid(row) && rest.is_some() => {
                return Err(wrong("a value is there twice: as itself, and in a column of its type"));
            }
            Some(Typed::Object(array, parts)) if array.is_valid(row) => {
                let mut object = builder.try_new_object()?;
                for (name, part) in parts.iter().filter(|(_, part)| part.is_there(row)) {
                    part.append(row, &mut ObjectFieldBuilder::new(name, &mut object), names)?;
                }
                match rest {
                    None => {}
                    Some(Variant::Object(rest)) => {
                        for (name, value) in rest.iter() {
                            if parts.iter().any(|(known, _)| known == name) {
                                return Err(wrong(format!("field {name} has a column, and is not in it")));
                            }
                            object.insert(name, value);
                        }
                    }
                    Some(_) => return Err(wrong("an object has a value beside its fields")),
                }
                object.finish();
            }
            Some(Typed::Array(array, part)) if array.is_valid(row) => {
                let offsets = array.as_list::<i32>().value_offsets();
                let mut list = builder.try_new_list()?;
                for item in offsets[row] as usize..offsets[row + 1] as usize {
                    part.append(item, &mut list, names)?;
                }
                list.finish();
            }
            Some(Typed::Plain(array)) if array.is_valid(row) => builder.append_value(plain(array, row)?),
            _ => builder.append_value(rest.unwrap_or(Variant::Null)),
        }
        Ok(())
    }
}

/// The names of one row, and what checks what refers to them.
struct Names<'a> {
    metadata: &'a [u8],
    check: &'a mut Check,
}

impl<'a> Names<'a> {
    fn variant<'v>(&mut self, value: &'v [u8]) -> Result<Variant<'a, 'v>> {
        self.check.check_in_any_order(self.metadata, value).map_err(wrong)?;
        Ok(Variant::new(self.metadata, value))
    }
}

/// Whether a column of a type holds values of variants (Parquet, "Variant Shredding", Shredded Value Types).
fn may_be_typed(ty: &DataType) -> bool {
    can_be_part(ty) || ty.is_string() || matches!(ty, DataType::BinaryView | DataType::LargeBinary)
}

/// A value of a column.
fn plain(array: &ArrayRef, row: usize) -> Result<Variant<'_, '_>> {
    let beyond = || wrong("a point in time is beyond all calendars");
    Ok(match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float32 => array.as_primitive::<Float32Type>().value(row).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).into(),
        DataType::Decimal128(precision, scale) => {
            let (unscaled, scale) =
                (array.as_primitive::<Decimal128Type>().value(row), u8::try_from(*scale).map_err(|_| beyond())?);
            let narrow = |e: std::num::TryFromIntError| wrong(e.to_string());
            match precision {
                0..=9 => Variant::Decimal4(VariantDecimal4::try_new(unscaled.try_into().map_err(narrow)?, scale)?),
                10..=18 => Variant::Decimal8(VariantDecimal8::try_new(unscaled.try_into().map_err(narrow)?, scale)?),
                _ => Variant::Decimal16(VariantDecimal16::try_new(unscaled, scale)?),
            }
        }
        DataType::Date32 => {
            Variant::Date(date32_to_datetime(array.as_primitive::<Date32Type>().value(row)).ok_or_else(beyond)?.date())
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            Variant::Time(time64us_to_time(array.as_primitive::<Time64MicrosecondType>().value(row)).ok_or_else(beyond)?)
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let at = timestamp_us_to_datetime(array.as_primitive::<TimestampMicrosecondType>().value(row)).ok_or_else(beyond)?;
            if zone.is_some() { Variant::TimestampMicros(at.and_utc()) } else { Variant::TimestampNtzMicros(at) }
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            let at = timestamp_ns_to_datetime(array.as_primitive::<TimestampNanosecondType>().value(row)).ok_or_else(beyond)?;
            if zone.is_some() { Variant::TimestampNanos(at.and_utc()) } else { Variant::TimestampNtzNanos(at) }
        }
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::Utf8View => array.as_string_view().value(row).into(),
        DataType::Binary => Variant::Binary(array.as_binary::<i32>().value(row)),
        DataType::BinaryView => Variant::Binary(array.as_binary_view().value(row)),
        DataType::LargeBinary => Variant::Binary(array.as_binary::<i64>().value(row)),
        DataType::FixedSizeBinary(16) => {
            let id = Uuid::from_slice(array.as_fixed_size_binary().value(row));
            Variant::Uuid(id.map_err(|e| wrong(e.to_string()))?)
        }
        other => return Err(wrong(format!("a part can't be of type {other}"))),
    })
}

/// An error if what is not in columns of its own can't be gone through, at any depth.
pub(crate) fn check_rest(array: &StructArray) -> Result<()> {
    if let Some(value) = array.column_by_name("value") {
        let views = cast(value, &DataType::BinaryView)?;
        views.as_binary_view().iter().flatten().try_for_each(|value| Check::walk(value).map_err(wrong))?;
    }
    match array.column_by_name("typed_value").map(|column| (column, column.data_type())) {
        Some((column, DataType::Struct(_))) => {
            column.as_struct().columns().iter().filter_map(|child| child.as_struct_opt()).try_for_each(check_rest)
        }
        Some((column, DataType::List(_))) => column.as_list::<i32>().values().as_struct_opt().map_or(Ok(()), check_rest),
        _ => Ok(()),
    }
}

/// The metadata and the value of each of a file's variants, with names of their own.
pub(crate) fn rebuilt(array: &StructArray) -> Result<(BinaryViewArray, BinaryViewArray)> {
    let own = array.column_by_name("metadata").ok_or_else(|| wrong("it has no metadata"))?;
    let own = cast(own, &DataType::BinaryView)?;
    let (own, part) = (own.as_binary_view(), Part::of(array)?);
    let (mut metadata, mut values) = (BinaryViewBuilder::new(), BinaryViewBuilder::new());
    let mut check = Check::default();
    for row in 0..array.len() {
        if array.is_null(row) {
            metadata.append_null();
            values.append_null();
            continue;
        }
        let mut names = Names { metadata: own.value(row), check: &mut check };
        let mut builder = VariantBuilder::new();
        part.append(row, &mut builder, &mut names)?;
        let (names, value) = builder.finish();
        metadata.append_value(names);
        values.append_value(value);
    }
    Ok((metadata.finish(), values.finish()))
}
