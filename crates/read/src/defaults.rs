//! A file's columns as the table has them: fields are found by id at every depth, whatever they are called, wherever they stand, and with
//! whatever older type the file has them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, MapArray, StructArray, UInt32Array, new_empty_array, new_null_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options, concat, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::error::ArrowError;
use iceberg::spec::{Literal, PartitionSpec, Schema, Struct, Transform, Type};

use crate::{field_id, literal_array};

/// What fields are where a file lacks them.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// Arrays of one value, by field id; none for a value that Arrow's type can't hold. A field without an entry is null.
    values: HashMap<i32, Option<ArrayRef>>,
}

impl Defaults {
    /// Of the fields of a scan, at every depth: the value of their identity partition field, or else their initial default, or else null
    /// (spec, "Column Projection"). Files of several partitions differ; without a partition, only defaults count.
    pub fn new(schema: &Schema, target: &Fields, partition: Option<(&PartitionSpec, &Struct)>) -> Self {
        let mut this = Self::default();
        target.iter().for_each(|field| this.add_initial(schema, field));
        let Some((spec, values)) = partition else { return this };
        for (field, value) in spec.fields().iter().zip(values.iter()) {
            if field.transform == Transform::Identity
                && let Some(source) = schema.field_by_id(field.source_id)
                && let Some(wanted) = find(target.iter(), field.source_id)
            {
                let one = |literal| one(literal, &source.field_type, wanted.data_type());
                this.values.insert(source.id, value.map_or_else(|| Some(new_null_array(wanted.data_type(), 1)), one));
            }
        }
        this
    }

    fn add_initial(&mut self, schema: &Schema, field: &Field) {
        let about = field_id(field).and_then(|id| schema.field_by_id(id));
        if let Some((about, literal)) = about.and_then(|f| Some((f, f.initial_default.as_ref()?))) {
            self.values.insert(about.id, one(literal, &about.field_type, field.data_type()));
        }
        within(field).into_iter().for_each(|field| self.add_initial(schema, field));
    }

    /// The one value of a field that a file lacks: null if it is an array without a value.
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

    /// Some rows of a field that the file lacks, null where its struct is.
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

    /// A file's column as the table has it. The file's field may have ids that the array's own type has not.
    pub fn convert(&self, array: &ArrayRef, from: &Field, to: &Field) -> Result<ArrayRef, ArrowError> {
        if array.data_type() == to.data_type() {
            return Ok(array.clone());
        }
        match (from.data_type(), to.data_type()) {
            (DataType::Struct(source), DataType::Struct(target)) => {
                let structs = downcast::<StructArray>(array)?;
                Ok(Arc::new(self.convert_struct(structs, source, target)?))
            }
            (DataType::List(source), DataType::List(target)) => {
                let list = downcast::<ListArray>(array)?;
                let values = self.convert(list.values(), source, target)?;
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
            // What does not fit is an error, not null.
            (_, wanted) => cast_with_options(array, wanted, &CastOptions { safe: false, ..CastOptions::default() })
                .map_err(|e| ArrowError::CastError(format!("column {}: {e}", to.name()))),
        }
    }

    fn convert_struct(&self, array: &StructArray, source: &Fields, target: &Fields) -> Result<StructArray, ArrowError> {
        let child = |field: &FieldRef| match position(source, field) {
            Some(i) => self.convert(array.column(i), &source[i], field),
            None => self.rows(field, array.len(), array.nulls()),
        };
        let children = target.iter().map(child).collect::<Result<Vec<_>, _>>()?;
        StructArray::try_new_with_length(target.clone(), children, array.nulls().cloned(), array.len())
    }
}

/// Where the file has a field of the table.
pub(crate) fn position(file: &Fields, wanted: &Field) -> Option<usize> {
    let id = field_id(wanted)?;
    file.iter().position(|f| field_id(f) == Some(id))
}

fn downcast<T: 'static>(array: &ArrayRef) -> Result<&T, ArrowError> {
    array.as_any().downcast_ref().ok_or_else(|| ArrowError::SchemaError("array and type disagree".to_owned()))
}

/// The fields within a field.
pub(crate) fn within(field: &Field) -> Vec<&FieldRef> {
    match field.data_type() {
        DataType::Struct(fields) => fields.iter().collect(),
        DataType::List(item) => vec![item],
        DataType::Map(entries, _) => within(entries),
        _ => Vec::new(),
    }
}

/// A field by its id, among some fields or within them.
pub(crate) fn find<'a>(mut fields: impl Iterator<Item = &'a FieldRef>, id: i32) -> Option<&'a FieldRef> {
    fields.find_map(|f| if field_id(f) == Some(id) { Some(f) } else { find(within(f).into_iter(), id) })
}

/// A literal as an array of one value; none if the Arrow type can't hold it. What a struct's literal leaves out is what its fields say.
fn one(literal: &Literal, ty: &Type, to: &DataType) -> Option<ArrayRef> {
    let or_null = |literal: Option<&Literal>, ty: &Type, to: &DataType| match literal {
        Some(literal) => one(literal, ty, to),
        None => Some(new_null_array(to, 1)),
    };
    let all = |items: Vec<ArrayRef>, to: &DataType| match items.is_empty() {
        true => Some(new_empty_array(to)),
        false => concat(&items.iter().map(|item| item.as_ref()).collect::<Vec<_>>()).ok(),
    };
    match (literal, ty, to) {
        (Literal::Primitive(literal), Type::Primitive(ty), to) => literal_array(ty, literal, to),
        (Literal::Struct(values), Type::Struct(about), DataType::Struct(fields)) => {
            let child = |field: &FieldRef| {
                let at = about.fields().iter().position(|f| Some(f.id) == field_id(field))?;
                let about = &about.fields()[at];
                let value = values.iter().nth(at).flatten().or(about.initial_default.as_ref());
                or_null(value, &about.field_type, field.data_type())
            };
            let children = fields.iter().map(child).collect::<Option<Vec<_>>>()?;
            Some(Arc::new(StructArray::try_new_with_length(fields.clone(), children, None, 1).ok()?))
        }
        (Literal::List(items), Type::List(about), DataType::List(item)) => {
            let element = |v: &Option<Literal>| or_null(v.as_ref(), &about.element_field.field_type, item.data_type());
            let values = all(items.iter().map(element).collect::<Option<_>>()?, item.data_type())?;
            let offsets = OffsetBuffer::from_lengths([items.len()]);
            Some(Arc::new(ListArray::try_new(item.clone(), offsets, values, None).ok()?))
        }
        (Literal::Map(pairs), Type::Map(about), DataType::Map(entries, sorted)) => {
            let DataType::Struct(fields) = entries.data_type() else { return None };
            let (to_key, to_value) = (fields.first()?.data_type(), fields.get(1)?.data_type());
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for (key, value) in pairs.clone() {
                keys.push(one(&key, &about.key_field.field_type, to_key)?);
                values.push(or_null(value.as_ref(), &about.value_field.field_type, to_value)?);
            }
            let offsets = OffsetBuffer::from_lengths([keys.len()]);
            let pairs = StructArray::try_new(fields.clone(), vec![all(keys, to_key)?, all(values, to_value)?], None).ok()?;
            Some(Arc::new(MapArray::try_new(entries.clone(), offsets, pairs, None, *sorted).ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Int32Type, Int64Type};
    use iceberg::spec::{Map, MapType, NestedField, PrimitiveType, StructType};

    use super::*;
    use crate::target_schema;

    /// What a column is in files that lack it.
    fn default_of(field: NestedField) -> ArrayRef {
        let schema = Schema::builder().with_fields([Arc::new(field)]).build().expect("a schema");
        let target = target_schema(&schema, &[1]).expect("a target");
        Defaults::new(&schema, target.fields(), None).of(target.field(0)).expect("a default")
    }

    /// Specification, "Default values": a struct's default is empty, what its fields are is theirs to say.
    #[test]
    fn the_fields_of_a_struct_that_is_added_have_their_own_defaults() {
        let (long, text) = (Type::Primitive(PrimitiveType::Long), Type::Primitive(PrimitiveType::String));
        let inner = StructType::new(vec![
            NestedField::optional(2, "a", long).with_initial_default(Literal::long(7)).into(),
            NestedField::optional(3, "b", text).into(),
        ]);
        let empty = Literal::Struct(Struct::from_iter([None, None]));
        let found = default_of(NestedField::optional(1, "s", Type::Struct(inner)).with_initial_default(empty));
        let (a, b) = (found.as_struct().column(0), found.as_struct().column(1));
        assert!(found.is_valid(0) && b.is_null(0));
        assert_eq!(a.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(7)]);
    }

    /// Specification, "Column Projection": the value of an identity partition field comes before the default, at every depth.
    #[test]
    fn what_the_partition_tells_of_a_field_is_what_it_is_in_files_that_lack_it() {
        let long = |id, name| NestedField::optional(id, name, Type::Primitive(PrimitiveType::Long));
        let default = |field: NestedField| field.with_initial_default(Literal::long(7));
        let within = StructType::new(vec![default(long(3, "a")).into(), default(long(4, "b")).into()]);
        let fields = [default(long(1, "p")), NestedField::optional(2, "s", Type::Struct(within))];
        let schema = Schema::builder().with_fields(fields.map(Arc::new)).build().expect("a schema");
        let target = target_schema(&schema, &[1, 2]).expect("a target");
        let spec = PartitionSpec::builder(Arc::new(schema.clone())).add_partition_field("p", "p", Transform::Identity);
        let spec = spec.and_then(|spec| spec.add_partition_field("s.a", "a", Transform::Identity));
        let spec = spec.and_then(|spec| spec.build()).expect("a spec");
        let values = Struct::from_iter([None, Some(Literal::long(9))]);
        let defaults = Defaults::new(&schema, target.fields(), Some((&spec, &values)));
        let of =
            |field: &Field| defaults.of(field).expect("a value").as_primitive::<Int64Type>().iter().next().expect("one value");
        let inner = super::within(target.field(1));
        assert_eq!((of(target.field(0)), of(inner[0]), of(inner[1])), (None, Some(9), Some(7)));
    }

    #[test]
    fn a_map_that_is_added_has_the_keys_and_values_of_its_default() {
        let key = NestedField::map_key_element(2, Type::Primitive(PrimitiveType::Int));
        let value = NestedField::map_value_element(3, Type::Primitive(PrimitiveType::String), false);
        let pairs = Map::from([(Literal::int(1), Some(Literal::string("x"))), (Literal::int(2), None)]);
        let field = NestedField::optional(1, "m", Type::Map(MapType::new(key.into(), value.into())));
        let found = default_of(field.with_initial_default(Literal::Map(pairs)));
        let pairs = found.as_map().value(0);
        let keys = pairs.column(0).as_primitive::<Int32Type>().iter().collect::<Vec<_>>();
        let values = pairs.column(1).as_string::<i32>().iter().collect::<Vec<_>>();
        assert_eq!((keys, values), (vec![Some(1), Some(2)], vec![Some("x"), None]));
    }
}
