//! Converts a file's columns to a table's fields.
//!
//! Fields are found by id at every depth, whatever their name and place in the file. Older types are promoted. A field that the
//! file lacks gets, in this order: the value of its identity partition field, its initial default, null. Spec: "Column
//! Projection", "Default values", "Schema Evolution".

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, ListArray, MapArray, StructArray, UInt32Array, new_empty_array, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{concat, nullif, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::error::ArrowError;
use esker_format::{DefaultValue, NestedField, PartitionSpec, Schema, Transform, Type, Value};

use crate::variant::variants;
use crate::{InvalidVariant, cast_exactly, field_id, is_variant, literal_array};

/// The values of fields that a file lacks, for a scan of files of one partition.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// Arrays of length one, by field id.
    ///
    /// None stands for a value that the Arrow type can't hold. A field without an entry is null.
    values: HashMap<i32, Option<ArrayRef>>,
}

impl Defaults {
    /// Collects the values of a scan's fields at every depth.
    ///
    /// A field has the value of its identity partition field, or else its initial default, or else null. Without a partition only
    /// defaults count. `schema` defines the fields; `target` is the Arrow schema of the scan. Spec: "Column Projection".
    pub fn new(schema: &Schema, target: &Fields, partition: Option<(&PartitionSpec, &[Option<Value>])>) -> Self {
        let mut this = Self::default();
        target.iter().for_each(|field| this.add_initial(schema, field));
        let Some((spec, values)) = partition else { return this };
        for (field, value) in spec.fields().iter().zip(values) {
            if *field.transform() == Transform::Identity
                && let Some(source) = field.source_id().and_then(|id| schema.field_by_id(id))
                && let Some(wanted) = find(target.iter(), source.id)
            {
                let (ty, to) = (&source.field_type, wanted.data_type());
                this.values.insert(source.id, or_null(value.as_ref(), ty, to, INITIAL));
            }
        }
        this
    }

    fn add_initial(&mut self, schema: &Schema, field: &Field) {
        let about = field_id(field).and_then(|id| schema.field_by_id(id));
        if let Some((about, default)) = about.and_then(|f| Some((f, f.initial_default.as_ref()?))) {
            let value = default.value(&about.field_type);
            self.values.insert(about.id, value.and_then(|value| one(&value, &about.field_type, field.data_type(), INITIAL)));
        }
        within(field).into_iter().for_each(|field| self.add_initial(schema, field));
    }

    /// Returns a missing field's value as an array of length one, which may be null.
    ///
    /// # Errors
    ///
    /// Returns [`ArrowError::SchemaError`] if the field is required, and its partition value is null or it has neither a partition
    /// value nor an initial default. Returns [`ArrowError::NotYetImplemented`] if the Arrow type can't hold that value.
    pub fn of(&self, field: &Field) -> Result<ArrayRef, ArrowError> {
        match field_id(field).and_then(|id| self.values.get(&id)) {
            Some(Some(value)) if value.null_count() == 0 || field.is_nullable() => Ok(value.clone()),
            Some(None) => Err(ArrowError::NotYetImplemented(format!("the default of column {} can't be read", field.name()))),
            None if field.is_nullable() => Ok(new_null_array(field.data_type(), 1)),
            _ => {
                let what = format!("required column {} is not in the file and has no initial default", field.name());
                Err(ArrowError::SchemaError(what))
            }
        }
    }

    /// Returns `rows` values of a missing field. They are null where `parents`, the validity of its struct, is null.
    pub(crate) fn rows(&self, field: &Field, rows: usize, parents: Option<&NullBuffer>) -> Result<ArrayRef, ArrowError> {
        if rows == 0 {
            return Ok(new_empty_array(field.data_type()));
        }
        let value = self.of(field)?;
        match value.null_count() {
            0 => take(&value, &UInt32Array::new(vec![0; rows].into(), parents.cloned()), None),
            _ => Ok(new_null_array(field.data_type(), rows)),
        }
    }

    /// Converts one column of a file to a field of the table.
    ///
    /// `from` is the file's field: it may have field ids that the array's own type lacks.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`BatchAdapter::adapt`](crate::BatchAdapter::adapt).
    pub fn convert(&self, array: &ArrayRef, from: &Field, to: &Field) -> Result<ArrayRef, ArrowError> {
        if array.data_type() == to.data_type() {
            return Ok(array.clone());
        }
        match (from.data_type(), to.data_type()) {
            (_, target) if is_variant(target) => variants(array).map_err(|e| InvalidVariant::of(to.name(), e)),
            (DataType::Struct(source), DataType::Struct(target)) => {
                let structs = downcast::<StructArray>(array)?;
                Ok(Arc::new(self.convert_struct(structs, source, target)?))
            }
            (DataType::List(source), DataType::List(target)) => {
                let list = downcast::<ListArray>(array)?;
                // A list whose element has another field id has none of the wanted elements.
                let is_other = field_id(source).zip(field_id(target)).is_some_and(|(own, wanted)| own != wanted);
                let values = match is_other {
                    true => self.rows(target, list.values().len(), None)?,
                    false => self.convert(list.values(), source, target)?,
                };
                Ok(Arc::new(ListArray::try_new(target.clone(), list.offsets().clone(), values, list.nulls().cloned())?))
            }
            (DataType::Map(source, _), DataType::Map(target, sorted)) => {
                let map = downcast::<MapArray>(array)?;
                let (DataType::Struct(source), DataType::Struct(fields)) = (source.data_type(), target.data_type()) else {
                    return Err(ArrowError::SchemaError("a map without entries".to_owned()));
                };
                let entries = self.convert_struct(map.entries(), source, fields)?;
                let map = MapArray::try_new(target.clone(), map.offsets().clone(), entries, map.nulls().cloned(), *sorted)?;
                Ok(Arc::new(map))
            }
            (_, wanted) => cast_exactly(array, wanted).map_err(|e| ArrowError::CastError(format!("column {}: {e}", to.name()))),
        }
    }

    fn convert_struct(&self, array: &StructArray, source: &Fields, target: &Fields) -> Result<StructArray, ArrowError> {
        let child = |field: &FieldRef| match position(source, field) {
            // A required child of a null struct holds an arbitrary value, which need not even be a valid variant. So the struct's
            // nulls go onto the child first.
            Some(i) if !source[i].is_nullable() && (field.is_nullable() || field.data_type().is_nested()) => {
                self.convert(&null_where(array.column(i), array.nulls())?, &source[i], field)
            }
            Some(i) => self.convert(array.column(i), &source[i], field),
            None => self.rows(field, array.len(), array.nulls()),
        };
        let children = target.iter().map(child).collect::<Result<Vec<_>, _>>()?;
        StructArray::try_new_with_length(target.clone(), children, array.nulls().cloned(), array.len())
    }
}

/// Returns the index of a table's field among a file's fields, by field id.
pub(crate) fn position(file: &Fields, wanted: &Field) -> Option<usize> {
    let id = field_id(wanted)?;
    file.iter().position(|f| field_id(f) == Some(id))
}

/// Downcasts an array to the type that its field promises.
fn downcast<T: 'static>(array: &ArrayRef) -> Result<&T, ArrowError> {
    array.as_any().downcast_ref().ok_or_else(|| ArrowError::SchemaError("an array has another type than its field".to_owned()))
}

/// Returns the direct children of a field. For a map these are key and value.
pub(crate) fn within(field: &Field) -> Vec<&FieldRef> {
    match field.data_type() {
        DataType::Struct(fields) => fields.iter().collect(),
        DataType::List(item) => vec![item],
        DataType::Map(entries, _) => within(entries),
        _ => Vec::new(),
    }
}

/// Finds a field by id among fields and all of their descendants.
pub(crate) fn find<'a>(mut fields: impl Iterator<Item = &'a FieldRef>, id: i32) -> Option<&'a FieldRef> {
    fields.find_map(|f| if field_id(f) == Some(id) { Some(f) } else { find(within(f).into_iter(), id) })
}

/// Returns a column's write default as an array of length one.
///
/// `to` is the Arrow type that [`arrow_field`](crate::arrow_field) gives the column. None if the column has no write default, or
/// if the Arrow type can't hold it. Spec: "Default values".
pub fn write_default(field: &NestedField, to: &DataType) -> Option<ArrayRef> {
    one(&field.write_default.as_ref()?.value(&field.field_type)?, &field.field_type, to, |field| &field.write_default)
}

/// Chooses the initial or the write default of a field.
type Pick = fn(&NestedField) -> &Option<DefaultValue>;

/// Chooses the initial default.
const INITIAL: Pick = |field| &field.initial_default;

/// Returns a value as an array of length one: null without a value, none if the Arrow type can't hold it.
fn or_null(value: Option<&Value>, ty: &Type, to: &DataType, pick: Pick) -> Option<ArrayRef> {
    value.map_or_else(|| Some(new_null_array(to, 1)), |value| one(value, ty, to, pick))
}

/// Returns a value as an array of length one; none if the Arrow type can't hold it.
///
/// A struct's default leaves out fields that have defaults of their own. Spec: "Default values".
fn one(value: &Value, ty: &Type, to: &DataType, pick: Pick) -> Option<ArrayRef> {
    let all = |items: Vec<ArrayRef>, to: &DataType| match items.is_empty() {
        true => Some(new_empty_array(to)),
        false => concat(&items.iter().map(|item| item.as_ref()).collect::<Vec<_>>()).ok(),
    };
    match (value, ty, to) {
        (value, Type::Primitive(_), to) => literal_array(value, to),
        (Value::Struct(values), Type::Struct(about), DataType::Struct(fields)) => {
            let child = |field: &FieldRef| {
                let at = about.fields().iter().position(|f| Some(f.id) == field_id(field))?;
                let (about, own) = (&about.fields()[at], values.get(at)?);
                match (own, pick(about)) {
                    (None, Some(default)) => one(&default.value(&about.field_type)?, &about.field_type, field.data_type(), pick),
                    (own, _) => or_null(own.as_ref(), &about.field_type, field.data_type(), pick),
                }
            };
            let children = fields.iter().map(child).collect::<Option<Vec<_>>>()?;
            Some(Arc::new(StructArray::try_new_with_length(fields.clone(), children, None, 1).ok()?))
        }
        (Value::List(items), Type::List(about), DataType::List(item)) => {
            let element = |v: &Option<Value>| or_null(v.as_ref(), &about.element_field.field_type, item.data_type(), pick);
            let values = all(items.iter().map(element).collect::<Option<_>>()?, item.data_type())?;
            let offsets = OffsetBuffer::from_lengths([items.len()]);
            Some(Arc::new(ListArray::try_new(item.clone(), offsets, values, None).ok()?))
        }
        (Value::Map(pairs), Type::Map(about), DataType::Map(entries, sorted)) => {
            let DataType::Struct(fields) = entries.data_type() else { return None };
            let (to_key, to_value) = (fields.first()?.data_type(), fields.get(1)?.data_type());
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for (key, value) in pairs {
                keys.push(one(key, &about.key_field.field_type, to_key, pick)?);
                values.push(or_null(value.as_ref(), &about.value_field.field_type, to_value, pick)?);
            }
            let offsets = OffsetBuffer::from_lengths([keys.len()]);
            let pairs = StructArray::try_new(fields.clone(), vec![all(keys, to_key)?, all(values, to_value)?], None).ok()?;
            Some(Arc::new(MapArray::try_new(entries.clone(), offsets, pairs, None, *sorted).ok()?))
        }
        _ => None,
    }
}

/// Returns an array that is also null wherever `others` is.
fn null_where(array: &ArrayRef, others: Option<&NullBuffer>) -> Result<ArrayRef, ArrowError> {
    // Arrays of type null have no validity mask.
    match others.filter(|others| others.null_count() > 0 && !array.data_type().is_null()) {
        Some(others) => nullif(array, &BooleanArray::new(!others.inner(), None)),
        None => Ok(array.clone()),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Int32Type, Int64Type, TimeUnit};
    use esker_format::{MapType, NestedFieldRef, PrimitiveType, StructType, UnboundPartitionField};

    use super::*;
    use crate::target_schema;

    fn with_default(field: NestedField, value: &Value) -> NestedFieldRef {
        let default = DefaultValue::of(&field.field_type, value).expect("a default");
        Arc::new(NestedField { initial_default: Some(default), ..field })
    }

    /// The value of a column in files that lack it.
    fn default_of(field: NestedFieldRef) -> ArrayRef {
        let schema = Schema::new(0, vec![field]).expect("a schema");
        let target = target_schema(&schema, &[1]).expect("a target");
        Defaults::new(&schema, target.fields(), None).of(target.field(0)).expect("a default")
    }

    /// Specification, "Default values": a struct's default is empty, and its fields have their own defaults.
    #[test]
    fn the_fields_of_a_struct_that_is_added_have_their_own_defaults() {
        let inner = StructType::new(vec![
            with_default(NestedField::optional(2, "a", PrimitiveType::Long), &Value::Long(7)),
            NestedField::optional(3, "b", PrimitiveType::String).into(),
        ]);
        let empty = Value::Struct([None, None].into());
        let found = default_of(with_default(NestedField::optional(1, "s", inner), &empty));
        let (a, b) = (found.as_struct().column(0), found.as_struct().column(1));
        assert!(found.is_valid(0) && b.is_null(0));
        assert_eq!(a.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(7)]);
    }

    /// Specification, "Column Projection": the value of an identity partition field comes before the default, at every depth.
    #[test]
    fn what_the_partition_tells_of_a_field_is_what_it_is_in_files_that_lack_it() {
        let long = |id, name| with_default(NestedField::optional(id, name, PrimitiveType::Long), &Value::Long(7));
        let within = StructType::new(vec![long(3, "a"), long(4, "b")]);
        let fields = vec![long(1, "p"), NestedField::optional(2, "s", within).into()];
        let schema = Schema::new(0, fields).expect("a schema");
        let target = target_schema(&schema, &[1, 2]).expect("a target");
        let of = |source, name| UnboundPartitionField::new(source, name, Transform::Identity);
        let spec = PartitionSpec::new(0, vec![of(1, "p"), of(3, "a"), of(99, "gone")]);
        let values = [None, Some(Value::Long(9)), Some(Value::Int(1))];
        let defaults = Defaults::new(&schema, target.fields(), Some((&spec, &values)));
        let of =
            |field: &Field| defaults.of(field).expect("a value").as_primitive::<Int64Type>().iter().next().expect("one value");
        let inner = super::within(target.field(1));
        assert_eq!((of(target.field(0)), of(inner[0]), of(inner[1])), (None, Some(9), Some(7)));
    }

    #[test]
    fn a_map_that_is_added_has_the_keys_and_values_of_its_default() {
        let ty = MapType::new((2, PrimitiveType::Int.into()), (3, PrimitiveType::String.into()), false);
        let pairs = Value::Map([(Value::Int(1), Some(Value::String("x".into()))), (Value::Int(2), None)].into());
        let found = default_of(with_default(NestedField::optional(1, "m", ty), &pairs));
        let pairs = found.as_map().value(0);
        let keys = pairs.column(0).as_primitive::<Int32Type>().iter().collect::<Vec<_>>();
        let values = pairs.column(1).as_string::<i32>().iter().collect::<Vec<_>>();
        assert_eq!((keys, values), (vec![Some(1), Some(2)], vec![Some("x"), None]));
    }

    /// A column of type `unknown` is null whatever the file holds. A day beyond the range of 64-bit nanoseconds is an error.
    #[test]
    fn values_are_converted_as_they_are_or_not_at_all() {
        let convert = |array: ArrayRef, to: DataType| {
            let field = |ty: &DataType| Field::new("c", ty.clone(), true);
            Defaults::default().convert(&array, &field(array.data_type()), &field(&to))
        };
        let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let days = |day: i32| -> ArrayRef { Arc::new(arrow::array::Date32Array::from(vec![Some(day), None])) };
        let early = convert(days(1), nanos.clone()).expect("in 1970");
        assert_eq!(early.as_primitive::<arrow::datatypes::TimestampNanosecondType>().value(0), 86_400_000_000_000);
        let error = convert(days(200_000), nanos).expect_err("after 2262").to_string();
        assert!(error.contains("column c: "), "{error}");
        assert_eq!(convert(days(1), DataType::Null).expect("nulls").data_type(), &DataType::Null);
    }

    /// Under a null struct, writers store a required variant as empty bytes.
    #[test]
    fn a_required_variant_of_a_null_struct_need_be_none() {
        let id = |field: Field, id: &str| field.with_metadata([("PARQUET:field_id".to_owned(), id.to_owned())].into());
        let pair: Fields = ["metadata", "value"].map(|name| Field::new(name, DataType::Binary, false)).into_iter().collect();
        let bytes = |first: &'static [u8]| -> ArrayRef { Arc::new(arrow::array::BinaryArray::from(vec![first, b""])) };
        let variants = StructArray::new(pair.clone(), vec![bytes(&[1, 0, 0]), bytes(&[0x0c, 7])], None);
        let source: Fields = vec![id(Field::new("v", DataType::Struct(pair), false), "2")].into();
        let target: Fields = vec![id(Field::new("v", crate::variant_type(), false), "2")].into();
        let outer = StructArray::new(source.clone(), vec![Arc::new(variants)], Some(vec![true, false].into()));
        let read = Defaults::default().convert_struct(&outer, &source, &target).expect("structs");
        assert!(matches!(crate::variant_at(read.column(0).as_struct(), 0).get(), crate::VariantValue::Integer(7)));
    }
}
