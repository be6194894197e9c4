//! Conversions from variants to the types of SQL.
//!
//! The rows of an array may hold values of different kinds. The values of one kind are converted together, and the results are
//! merged row by row. Start with [`Extract`], then read [`Conversion`].

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, MapArray, StringArray, StructArray, new_null_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{can_cast_types, cast, concat};
use arrow::datatypes::{DataType, FieldRef, Fields, TimeUnit};
use arrow::row::{RowConverter, SortField};
use datafusion::error::{DataFusionError, Result};
use esker_read::{Variant, VariantFields, VariantItems, VariantRows, VariantValue, is_variant, typed_column, variant_at};

use super::Path;
use super::json::text;
use crate::error_wording::sql_type;
use crate::semantics::{cast_values, is_own};

/// A part of a variant, read as a value of a type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Extract {
    /// Path to the part.
    pub(crate) path: Path,
    /// Type of the value.
    pub(crate) to: DataType,
    /// True if a value that cannot be converted is null, and no error.
    pub(crate) safe: bool,
}

/// The kinds of values that variants hold. The values of a kind have one Arrow type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Boolean,
    Integer,
    /// A decimal with this many digits after the point.
    Decimal(u8),
    Float,
    Double,
    Date,
    Time,
    Timestamp {
        zoned: bool,
    },
    TimestampNs {
        zoned: bool,
    },
    Binary,
    String,
    Uuid,
    /// An object or an array.
    Nested,
}

/// Returns the kind of a value, or `None` for a variant's `null`.
fn kind(value: VariantValue<'_>) -> Option<Kind> {
    use VariantValue as V;
    Some(match value {
        V::Null => return None,
        V::Boolean(_) => Kind::Boolean,
        V::Integer(_) => Kind::Integer,
        V::Decimal { scale, .. } => Kind::Decimal(scale),
        V::Float(_) => Kind::Float,
        V::Double(_) => Kind::Double,
        V::Date(_) => Kind::Date,
        V::Time(_) => Kind::Time,
        V::Timestamp { zoned, .. } => Kind::Timestamp { zoned },
        V::TimestampNs { zoned, .. } => Kind::TimestampNs { zoned },
        V::Binary(_) => Kind::Binary,
        V::String(_) => Kind::String,
        V::Uuid(_) => Kind::Uuid,
        V::Object(_) | V::Array(_) => Kind::Nested,
    })
}

/// A variant for each row; `None` if the row has no value.
type Values<'a> = [Option<Variant<'a>>];

impl Kind {
    /// Returns the Arrow type of the kind's values.
    fn ty(self) -> Result<DataType> {
        let zone = |zoned: bool| zoned.then(|| "UTC".into());
        Ok(match self {
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Decimal(scale) => {
                DataType::Decimal128(38, i8::try_from(scale).map_err(|e| DataFusionError::External(Box::new(e)))?)
            }
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp { zoned } => DataType::Timestamp(TimeUnit::Microsecond, zone(zoned)),
            Self::TimestampNs { zoned } => DataType::Timestamp(TimeUnit::Nanosecond, zone(zoned)),
            Self::Binary => DataType::Binary,
            Self::Uuid => DataType::FixedSizeBinary(16),
            Self::String | Self::Nested => DataType::Utf8,
        })
    }
}

/// Returns the values of one kind as an array. Rows with values of other kinds are null.
fn of_kind(values: &Values<'_>, of: Kind) -> Result<ArrayRef> {
    let own = |value: &Variant<'_>| kind(value.get()) == Some(of);
    Ok(match of {
        Kind::Nested => Arc::new(values.iter().map(|v| v.filter(own).map(text)).collect::<StringArray>()),
        of => {
            let own: Vec<_> = values.iter().map(|v| v.filter(own).map(Variant::get)).collect();
            typed_column(&own, &of.ty()?)?
        }
    })
}

/// Returns a value as an array of one row. Returns `None` for null, and for kinds that have no order.
pub(super) fn natural(value: Variant<'_>) -> Option<ArrayRef> {
    let kind = kind(value.get()).filter(|kind| !matches!(kind, Kind::Nested | Kind::Uuid | Kind::Binary))?;
    of_kind(&[Some(value)], kind).ok()
}

impl Extract {
    /// Returns the part of each variant. It is null if the variant does not have it, or if it is a variant's `null`.
    pub(crate) fn of(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let variants = array.as_struct();
        let parts: Vec<Option<Variant<'_>>> = (0..variants.len()).map(|row| self.part(variants, row)).collect();
        Conversion { ty: &self.to, safe: self.safe }.of(&parts)
    }

    /// Returns the part of each variant, and what is wrong with those that cannot be converted.
    ///
    /// The part is null where the error is not.
    pub(crate) fn tried(&self, array: &ArrayRef) -> Result<(ArrayRef, StringArray)> {
        let variants = array.as_struct();
        let found = Self { safe: true, ..self.clone() }.of(array)?;
        let wrong = |row: usize| {
            let part = found.is_null(row).then(|| self.part(variants, row)).flatten()?;
            (!matches!(part.get(), VariantValue::Null)).then(|| self.unreadable(&text(part)))
        };
        let wrong = (0..variants.len()).map(wrong).collect();
        Ok((found, wrong))
    }

    /// Returns the part of the variant in a row.
    fn part<'a>(&self, variants: &'a StructArray, row: usize) -> Option<Variant<'a>> {
        variants.is_valid(row).then(|| self.path.of(variant_at(variants, row))).flatten()
    }

    /// Returns the error for a value that cannot be read as the type.
    pub(crate) fn unreadable(&self, shown: &str) -> String {
        unreadable(shown, &self.to)
    }
}

/// Returns the error for a value that cannot be read as a type. It shows 80 characters of the value.
fn unreadable(shown: &str, ty: &DataType) -> String {
    const SHOWN: usize = 80;
    let cut: String = shown.chars().take(SHOWN).collect();
    let more = if cut.len() < shown.len() { "…" } else { "" };
    format!("{cut}{more} of a variant can't be read as {}", sql_type(ty))
}

/// A conversion of variants to a type, each by itself as a `CAST` would convert it.
#[derive(Clone, Copy)]
struct Conversion<'a> {
    ty: &'a DataType,
    /// True if a value that cannot be converted is null, and no error.
    safe: bool,
}

impl Conversion<'_> {
    /// Converts variants to the type.
    fn of(self, values: &Values<'_>) -> Result<ArrayRef> {
        match self.ty {
            ty if is_variant(ty) => variants(values),
            DataType::List(item) => self.lists(values, item),
            DataType::Struct(fields) => self.structs(values, fields),
            DataType::Map(entries, sorted) => self.maps(values, entries, *sorted),
            _ => self.plain(values),
        }
    }

    /// Converts variants to a type that is not nested.
    fn plain(self, values: &Values<'_>) -> Result<ArrayRef> {
        let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
        for (row, value) in values.iter().enumerate() {
            if let Some(kind) = value.and_then(|value| kind(value.get())) {
                kinds.entry(kind).or_insert(row);
            }
        }
        let mut made: Option<ArrayRef> = None;
        for (kind, row) in kinds {
            let next = match kind {
                Kind::Binary | Kind::Uuid if self.ty.is_string() => as_json(values, kind),
                Kind::Nested if !self.ty.is_string() => match self.safe {
                    true => continue,
                    false => return Err(self.misfit(values[row])),
                },
                kind => of_kind(values, kind)?,
            };
            let next = match converted(&next, self.ty, self.safe)? {
                Some(next) => next,
                None if self.safe => continue,
                None => {
                    let lost = |row: &usize| {
                        let own = next.is_valid(*row).then(|| converted(&next.slice(*row, 1), self.ty, true));
                        own.is_some_and(|made| made.is_ok_and(|made| made.is_none_or(|made| made.is_null(0))))
                    };
                    return Err(self.misfit(values[(0..next.len()).find(lost).unwrap_or(row)]));
                }
            };
            made = Some(match made {
                None => next,
                Some(before) => {
                    let own = |value: &Option<Variant<'_>>| Some(value.and_then(|value| self::kind(value.get())) == Some(kind));
                    zip(&values.iter().map(own).collect::<BooleanArray>(), &next, &before)?
                }
            });
        }
        Ok(made.unwrap_or_else(|| new_null_array(self.ty, values.len())))
    }

    /// Returns what `of` makes of each value; null stays null.
    ///
    /// A value of which `of` makes nothing is null if `safe`, else an error.
    fn each<'v, T>(self, values: &Values<'v>, of: impl Fn(VariantValue<'v>) -> Option<T>) -> Result<Vec<Option<T>>> {
        let one = |value: &Option<Variant<'v>>| match value.map(|value| (value.get(), value)) {
            None | Some((VariantValue::Null, _)) => Ok(None),
            Some((found, value)) => match of(found) {
                None if !self.safe => Err(self.misfit(Some(value))),
                found => Ok(found),
            },
        };
        values.iter().map(one).collect()
    }

    /// Converts arrays to lists.
    fn lists(self, values: &Values<'_>, item: &FieldRef) -> Result<ArrayRef> {
        let arrays = self.each(values, |value| if let VariantValue::Array(items) = value { Some(items) } else { None })?;
        let items: Vec<_> = arrays.iter().flatten().flat_map(|items| items.iter()).map(Some).collect();
        let lengths = OffsetBuffer::from_lengths(arrays.iter().map(|items| items.map_or(0, VariantItems::len)));
        let items = Conversion { ty: item.data_type(), safe: self.safe }.of(&items)?;
        Ok(Arc::new(ListArray::try_new(item.clone(), lengths, items, Some(nulls(&arrays)))?))
    }

    /// Converts objects to structs, by the names of the fields.
    fn structs(self, values: &Values<'_>, fields: &Fields) -> Result<ArrayRef> {
        let objects = self.each(values, object)?;
        let column = |field: &FieldRef| {
            let own: Vec<_> = objects.iter().map(|object| object.and_then(|object| object.get(field.name()))).collect();
            Conversion { ty: field.data_type(), safe: self.safe }.of(&own)
        };
        let columns = fields.iter().map(column).collect::<Result<_>>()?;
        Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, Some(nulls(&objects)), values.len())?))
    }

    /// Converts objects to maps. Each name of a field has to be a key of its own.
    fn maps(self, values: &Values<'_>, entries: &FieldRef, sorted: bool) -> Result<ArrayRef> {
        let DataType::Struct(pair) = entries.data_type() else {
            return Err(DataFusionError::Internal("a map without entries".to_owned()));
        };
        let keys = |object: VariantFields<'_>| {
            let names: ArrayRef = Arc::new(object.iter().map(|(name, _)| Some(name)).collect::<StringArray>());
            converted(&names, pair[0].data_type(), true)
        };
        let is_map = |object: &VariantFields<'_>| {
            // The names of an object are texts, and all different.
            if pair[0].data_type().is_string() {
                return true;
            }
            let Ok(Some(keys)) = keys(*object) else { return false };
            let different = RowConverter::new(vec![SortField::new(keys.data_type().clone())])
                .and_then(|converter| converter.convert_columns(std::slice::from_ref(&keys)))
                .map_or(0, |keys| keys.iter().collect::<HashSet<_>>().len());
            keys.null_count() == 0 && different == keys.len()
        };
        let objects = self.each(values, |value| object(value).filter(is_map))?;
        let (names, of): (Vec<&str>, Vec<_>) =
            objects.iter().flatten().flat_map(|object| object.iter()).map(|(name, value)| (name, Some(value))).unzip();
        let lengths = OffsetBuffer::from_lengths(objects.iter().map(|object| object.map_or(0, VariantFields::len)));
        let keys = cast_values(&(Arc::new(StringArray::from(names)) as ArrayRef), pair[0].data_type(), false)?;
        let pairs = StructArray::try_new(
            pair.clone(),
            vec![keys, Conversion { ty: pair[1].data_type(), safe: self.safe }.of(&of)?],
            None,
        )?;
        Ok(Arc::new(MapArray::try_new(entries.clone(), lengths, pairs, Some(nulls(&objects)), sorted)?))
    }

    /// Returns the error for a value that cannot be converted.
    fn misfit(self, value: Option<Variant<'_>>) -> DataFusionError {
        DataFusionError::Execution(value.map(|value| unreadable(&text(value), self.ty)).unwrap_or_default())
    }
}

/// Converts values of one kind to another type, as a `CAST` does.
///
/// Returns `None` if the types have no conversion. Unless `safe`, also returns `None` if a value cannot be converted.
pub(super) fn converted(values: &ArrayRef, to: &DataType, safe: bool) -> Result<Option<ArrayRef>> {
    let from = values.data_type();
    // A number is no date and no time of day.
    if (from.is_numeric() && to.is_temporal()) || !(can_cast_types(from, to) || is_own(from, to)) {
        return Ok(None);
    }
    match cast_values(values, to, safe) {
        Ok(made) => Ok(Some(made)),
        Err(_) if !safe => Ok(None),
        // For some values Arrow returns an error and not a null, such as for days that its calendar does not have. So each value
        // is converted by itself.
        Err(_) => {
            let one = |row: usize| cast_values(&values.slice(row, 1), to, true).unwrap_or_else(|_| new_null_array(to, 1));
            let each: Vec<ArrayRef> = (0..values.len()).map(one).collect();
            match each.is_empty() {
                true => Ok(Some(new_null_array(to, 0))),
                false => Ok(Some(concat(&each.iter().map(AsRef::as_ref).collect::<Vec<_>>())?)),
            }
        }
    }
}

/// Converts a column of a file to the type that values of variants have: `BIGINT` for integers, 38 digits for decimals.
pub(super) fn as_variants_have(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        ty if ty.is_integer() => cast(array, &DataType::Int64)?,
        DataType::Decimal128(_, scale) => cast(array, &DataType::Decimal128(38, *scale))?,
        _ => array.clone(),
    })
}

/// Returns the fields of an object, or `None` for other values.
fn object(value: VariantValue<'_>) -> Option<VariantFields<'_>> {
    if let VariantValue::Object(fields) = value { Some(fields) } else { None }
}

/// Returns the null buffer of some values.
fn nulls<T>(values: &[Option<T>]) -> NullBuffer {
    values.iter().map(Option::is_some).collect::<Vec<_>>().into()
}

/// Returns variants as an array.
fn variants(values: &Values<'_>) -> Result<ArrayRef> {
    let mut made = VariantRows::default();
    for value in values {
        match value {
            Some(value) => made.append((value.metadata(), value.bytes())),
            None => made.append_null(),
        }
    }
    Ok(made.finish()?)
}

/// Returns bytes or UUIDs as JSON has them, without its quotes.
fn as_json(values: &Values<'_>, of: Kind) -> ArrayRef {
    let bare = |text: String| text.trim_matches('"').to_owned();
    Arc::new(values.iter().map(|v| v.filter(|v| kind(v.get()) == Some(of)).map(|v| bare(text(v)))).collect::<StringArray>())
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Date32Array, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int32Array, StringViewArray, Time64MicrosecondArray,
        TimestampMicrosecondArray, TimestampNanosecondArray,
    };
    use arrow::datatypes::{Float64Type, Int32Type, Int64Type};

    use super::super::functions::parsed;
    use super::super::make::of_values;
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
