//! Between variants and SQL's types.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, StringArray, StructArray, new_null_array};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, TimeUnit};
use arrow::util::display::FormatOptions;
use datafusion::error::{DataFusionError, Result};
use esker_read::{column_of_variants, is_variant, variant_at};
use parquet::variant::{GetOptions, Variant, VariantArray, VariantArrayBuilder, cast_to_variant, variant_get};

use super::json::text;
use super::{Path, holds_variant};
use crate::semantics::cast_values;
use crate::wording::sql_type;

/// A part of a variant as a value of a type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Extract {
    pub(crate) path: Path,
    pub(crate) to: DataType,
    /// Whether what is of no use is null, or an error.
    pub(crate) safe: bool,
}

/// What a value of a variant is in Arrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Boolean,
    Whole,
    /// With so many digits after the point.
    Decimal(u8),
    Float,
    Double,
    Date,
    Time,
    Micros(bool),
    Nanos(bool),
    Bytes,
    Text,
    Uuid,
    /// An object or an array.
    Nested,
}

fn kind(value: &Variant<'_, '_>) -> Option<Kind> {
    Some(match value {
        Variant::Null => return None,
        Variant::BooleanTrue | Variant::BooleanFalse => Kind::Boolean,
        Variant::Int8(_) | Variant::Int16(_) | Variant::Int32(_) | Variant::Int64(_) => Kind::Whole,
        Variant::Decimal4(v) => Kind::Decimal(v.scale()),
        Variant::Decimal8(v) => Kind::Decimal(v.scale()),
        Variant::Decimal16(v) => Kind::Decimal(v.scale()),
        Variant::Float(_) => Kind::Float,
        Variant::Double(_) => Kind::Double,
        Variant::Date(_) => Kind::Date,
        Variant::Time(_) => Kind::Time,
        Variant::TimestampMicros(_) => Kind::Micros(true),
        Variant::TimestampNtzMicros(_) => Kind::Micros(false),
        Variant::TimestampNanos(_) => Kind::Nanos(true),
        Variant::TimestampNtzNanos(_) => Kind::Nanos(false),
        Variant::Binary(_) => Kind::Bytes,
        Variant::String(_) | Variant::ShortString(_) => Kind::Text,
        Variant::Uuid(_) => Kind::Uuid,
        Variant::Object(_) | Variant::List(_) => Kind::Nested,
    })
}

type Values<'a> = Vec<Option<Variant<'a, 'a>>>;

impl Kind {
    /// The Arrow type of its values.
    fn ty(self) -> Result<DataType> {
        let zoned = |zone: bool| zone.then(|| "UTC".into());
        Ok(match self {
            Self::Boolean => DataType::Boolean,
            Self::Whole => DataType::Int64,
            Self::Decimal(scale) => {
                DataType::Decimal128(38, i8::try_from(scale).map_err(|e| DataFusionError::External(Box::new(e)))?)
            }
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Micros(zone) => DataType::Timestamp(TimeUnit::Microsecond, zoned(zone)),
            Self::Nanos(zone) => DataType::Timestamp(TimeUnit::Nanosecond, zoned(zone)),
            Self::Bytes => DataType::Binary,
            Self::Uuid => DataType::FixedSizeBinary(16),
            Self::Text | Self::Nested => DataType::Utf8,
        })
    }
}

/// The values of one kind; all others are null.
fn of_kind(values: &Values<'_>, of: Kind) -> Result<ArrayRef> {
    let own = || values.iter().map(|value| value.as_ref().filter(|value| kind(value) == Some(of)));
    Ok(match of {
        Kind::Nested => Arc::new(own().map(|v| v.map(text)).collect::<StringArray>()),
        of => column_of_variants(&own().collect::<Vec<_>>(), &of.ty()?)?,
    })
}

/// A value as the Arrow type has it that it is of; none of null, and of what has no order.
pub(super) fn natural(value: &Variant<'_, '_>) -> Option<ArrayRef> {
    let kind = kind(value).filter(|kind| !matches!(kind, Kind::Nested | Kind::Uuid | Kind::Bytes))?;
    of_kind(&vec![Some(value.clone())], kind).ok()
}

impl Extract {
    /// The parts of some variants. What is not there is null, and so is a variant's `null`.
    pub(crate) fn of(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let variants = array.as_struct();
        if is_variant(&self.to) {
            return self.parts(variants);
        }
        if self.to.is_nested() {
            return self.nested(variants);
        }
        let parts: Vec<Option<Variant<'_, '_>>> = (0..variants.len()).map(|row| self.part(variants, row)).collect();
        let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
        for (row, value) in parts.iter().enumerate() {
            if let Some(kind) = value.as_ref().and_then(kind) {
                kinds.entry(kind).or_insert(row);
            }
        }
        let mut made: Option<ArrayRef> = None;
        for (kind, row) in kinds {
            let next = match kind {
                Kind::Nested if !self.to.is_string() => match self.safe {
                    true => continue,
                    false => return Err(self.misfit(parts[row].as_ref())),
                },
                Kind::Bytes | Kind::Uuid if self.to.is_string() => cast_values(&as_json(&parts, kind), &self.to, self.safe)?,
                kind => match cast_values(&of_kind(&parts, kind)?, &self.to, self.safe) {
                    Ok(values) => values,
                    // Between the two types there is no conversion.
                    Err(_) if self.safe => continue,
                    Err(_) => return Err(self.misfit(parts[row].as_ref())),
                },
            };
            made = Some(match made {
                None => next,
                Some(before) => {
                    let own: BooleanArray = parts.iter().map(|v| Some(v.as_ref().and_then(self::kind) == Some(kind))).collect();
                    zip(&own, &next, &before)?
                }
            });
        }
        Ok(made.unwrap_or_else(|| new_null_array(&self.to, variants.len())))
    }

    /// The parts that are of use, null for others, and for each of the others what is wrong with it.
    pub(crate) fn tried(&self, array: &ArrayRef) -> Result<(ArrayRef, StringArray)> {
        let variants = array.as_struct();
        let found = Self { safe: true, ..self.clone() }.of(array)?;
        let wrong = |row: usize| {
            let part = found.is_null(row).then(|| self.part(variants, row)).flatten()?;
            (!matches!(part, Variant::Null)).then(|| self.why(&part))
        };
        let wrong = (0..variants.len()).map(wrong).collect();
        Ok((found, wrong))
    }

    fn part<'a>(&self, variants: &'a StructArray, row: usize) -> Option<Variant<'a, 'a>> {
        variants.is_valid(row).then(|| self.path.of(variant_at(variants, row))).flatten()
    }

    fn parts(&self, variants: &StructArray) -> Result<ArrayRef> {
        let mut builder = VariantArrayBuilder::new(variants.len());
        for row in 0..variants.len() {
            match self.part(variants, row) {
                Some(part) => builder.append_variant(part),
                None => builder.append_null(),
            }
        }
        of_values(&ArrayRef::from(builder.build()))
    }

    /// Lists and structs, item by item and field by field.
    fn nested(&self, variants: &StructArray) -> Result<ArrayRef> {
        let parts = self.parts(variants)?;
        let options = CastOptions { safe: self.safe, format_options: FormatOptions::new() };
        let to = Arc::new(Field::new("", self.to.clone(), true));
        Ok(variant_get(&parts, GetOptions::new().with_as_type(Some(to)).with_cast_options(options))?)
    }

    fn misfit(&self, value: Option<&Variant<'_, '_>>) -> DataFusionError {
        DataFusionError::Execution(value.map(|value| self.why(value)).unwrap_or_default())
    }

    fn why(&self, value: &Variant<'_, '_>) -> String {
        self.unreadable(&text(value))
    }

    /// What is said of a value that can't be read as the type.
    pub(crate) fn unreadable(&self, shown: &str) -> String {
        const SHOWN: usize = 80;
        let cut: String = shown.chars().take(SHOWN).collect();
        let more = if cut.len() < shown.len() { "…" } else { "" };
        format!("{cut}{more} of a variant can't be read as {}", sql_type(&self.to))
    }
}

fn as_json(values: &Values<'_>, of: Kind) -> ArrayRef {
    let own = values.iter().map(|value| value.as_ref().filter(|value| kind(value) == Some(of)));
    let bare = |text: String| text.trim_matches('"').to_owned();
    Arc::new(own.map(|v| v.map(|v| bare(text(v)))).collect::<StringArray>())
}

/// Values as variants; null stays null.
pub(crate) fn of_values(array: &ArrayRef) -> Result<ArrayRef> {
    let made = match array.data_type() {
        ty if is_variant(ty) => return Ok(array.clone()),
        DataType::Struct(fields) if fields.find("metadata").is_some() && VariantArray::try_new(array).is_ok() => {
            VariantArray::try_new(array)?
        }
        ty if holds_variant(ty) => {
            return Err(DataFusionError::NotImplemented("a variant of what holds variants is not served".to_owned()));
        }
        DataType::FixedSizeBinary(16) => uuids(array.as_fixed_size_binary()),
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => nanoseconds(array, zone.is_some()),
        DataType::FixedSizeBinary(_) => {
            let options = CastOptions { safe: false, format_options: FormatOptions::new() };
            cast_to_variant(&cast_with_options(array, &DataType::Binary, &options)?)?
        }
        _ => cast_to_variant(array)?,
    };
    let made = made.into_inner();
    let views = |name: &str| -> Result<ArrayRef> {
        let column = made.column_by_name(name).ok_or_else(|| DataFusionError::Internal(format!("a variant without {name}")))?;
        Ok(arrow::compute::cast(column, &DataType::BinaryView)?)
    };
    let (metadata, value) = (views("metadata")?, views("value")?);
    let value = arrow::array::make_array(value.to_data().into_builder().nulls(made.nulls().cloned()).build()?);
    Ok(esker_read::variant_array(metadata.as_binary_view().clone(), value.as_binary_view().clone())?)
}

fn uuids(array: &FixedSizeBinaryArray) -> VariantArray {
    let mut builder = VariantArrayBuilder::new(array.len());
    for id in array.iter() {
        match id.and_then(|id| <[u8; 16]>::try_from(id).ok()) {
            Some(id) => builder.append_variant(Variant::Uuid(uuid::Uuid::from_bytes(id))),
            None => builder.append_null(),
        }
    }
    builder.build()
}

/// All nine digits of a second.
fn nanoseconds(array: &ArrayRef, zone: bool) -> VariantArray {
    let times = array.as_primitive::<arrow::datatypes::TimestampNanosecondType>();
    let mut builder = VariantArrayBuilder::new(times.len());
    for time in times.iter() {
        match time.map(chrono::DateTime::from_timestamp_nanos) {
            Some(time) if zone => builder.append_variant(Variant::TimestampNanos(time)),
            Some(time) => builder.append_variant(Variant::TimestampNtzNanos(time.naive_utc())),
            None => builder.append_null(),
        }
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Date32Array, Decimal128Array, Float64Array, Int32Array, StringViewArray, Time64MicrosecondArray,
        TimestampMicrosecondArray, TimestampNanosecondArray,
    };
    use arrow::datatypes::{Float64Type, Int32Type, Int64Type};

    use super::super::functions::parsed;
    use super::*;

    fn variants(json: &[Option<&str>]) -> ArrayRef {
        parsed(&(Arc::new(json.iter().copied().collect::<StringViewArray>()) as ArrayRef), false).expect("JSON")
    }

    fn get(array: &ArrayRef, path: &str, to: DataType, safe: bool) -> Result<ArrayRef> {
        Extract { path: Path::parse(path).expect("a path"), to, safe }.of(array)
    }

    #[test]
    fn parts_are_values_of_the_type_that_is_asked_for() {
        let array = variants(&[
            Some(r#"{"a": {"b": 7}}"#),
            Some(r#"{"a": {"b": "8"}}"#),
            Some(r#"{"a": {"b": 9.0}}"#),
            Some("5"),
            None,
            Some(r#"{"a": {"b": null}}"#),
        ]);
        let ints = get(&array, "$.a.b", DataType::Int32, false).expect("numbers");
        let expected = [Some(7), Some(8), Some(9), None, None, None];
        assert_eq!(ints.as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), expected);
        let doubles = get(&array, "$['a']['b']", DataType::Float64, false).expect("numbers");
        assert_eq!(doubles.as_primitive::<Float64Type>().iter().flatten().sum::<f64>(), 24.0);
        let texts = get(&array, "$.a", DataType::Utf8, false).expect("texts");
        assert_eq!(texts.as_string::<i32>().value(0), r#"{"b":7}"#);
        let lists = variants(&[Some(r#"{"l": [1, 2, 3]}"#), Some("{}")]);
        let items = get(&lists, "$.l", DataType::new_list(DataType::Int64, true), false).expect("a list");
        assert_eq!(items.as_list::<i32>().value(0).as_primitive::<Int64Type>().values(), &[1, 2, 3]);
        assert!(items.is_null(1));
        let second = get(&lists, "$.l[1]", DataType::Int64, false).expect("an item");
        assert_eq!(second.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(2), None]);
    }

    #[test]
    fn what_does_not_fit_is_named_or_null() {
        let array = variants(&[Some("1"), Some(r#""x""#), Some("[1]"), Some("300")]);
        let error = get(&array.slice(0, 2), "$", DataType::Int32, false).expect_err("no number").to_string();
        assert!(error.contains("\"x\" of a variant can't be read as int"), "{error}");
        get(&array, "$", DataType::Int8, false).expect_err("an array");
        let fraction = variants(&[Some("1.5"), Some("true"), Some(r#""2020-01-02""#)]);
        get(&fraction, "$", DataType::Date32, false).expect_err("no date");
        let dates = get(&fraction, "$", DataType::Date32, true).expect("nulls");
        assert_eq!((dates.null_count(), dates.is_valid(2)), (2, true));
        let found = get(&array, "$", DataType::Int32, true).expect("nulls");
        assert_eq!(found.as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [Some(1), None, None, Some(300)]);
    }

    #[test]
    fn values_come_back_from_variants() {
        let ns = TimestampNanosecondArray::from(vec![Some(1_700_000_000_123_456_789), None]);
        let ids = FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some([7_u8; 16]), None].into_iter(), 16).expect("UUIDs");
        let all: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![Some(1), None])),
            Arc::new(Float64Array::from(vec![Some(f64::NAN), None])),
            Arc::new(StringArray::from(vec![Some("x"), None])),
            Arc::new(Decimal128Array::from(vec![Some(125), None]).with_precision_and_scale(10, 2).expect("a type")),
            Arc::new(Date32Array::from(vec![Some(-1), None])),
            Arc::new(Time64MicrosecondArray::from(vec![Some(86_399_999_999), None])),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None]).with_timezone("UTC")),
            Arc::new(ns),
            Arc::new(BooleanArray::from(vec![Some(true), None])),
            Arc::new(ids),
        ];
        for array in all {
            let variants = of_values(&array).expect("variants");
            assert!(is_variant(variants.data_type()) && variants.is_null(1), "{}", array.data_type());
            let back = get(&variants, "$", array.data_type().clone(), false).expect("values");
            assert_eq!(&back, &array);
        }
    }
}
