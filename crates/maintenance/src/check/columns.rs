//! The leaves of a schema, and their values in Arrow arrays.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, make_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type};
use esker_format::{NestedFieldRef, PrimitiveType, Schema, Type};
use esker_read::field_id;

/// A leaf of a schema: a field of a primitive type, at any depth.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    /// Field id of the leaf.
    pub(super) id: i32,
    /// Field id of the top-level column that contains the leaf, or is the leaf.
    pub(super) root: i32,
    /// Full name of the leaf, with dots.
    pub(super) name: String,
    pub(super) ty: PrimitiveType,
    /// True if the leaf is nested and has an initial default, so that rows older than it have a value.
    pub(super) nested_default: bool,
}

impl Leaf {
    /// Checks whether the values are floating-point numbers.
    pub(super) fn is_float(&self) -> bool {
        matches!(self.ty, PrimitiveType::Float | PrimitiveType::Double)
    }
}

/// Returns every leaf of a schema, including those in lists and maps.
pub(super) fn leaves(schema: &Schema) -> Vec<Leaf> {
    let mut found = Vec::new();
    for field in schema.as_struct().fields() {
        walk(field, field.id, None, &mut found);
    }
    found
}

/// Adds the leaves of a field to `found`. `outer` is the full name of the field around it.
fn walk(field: &NestedFieldRef, root: i32, outer: Option<&str>, found: &mut Vec<Leaf>) {
    let name = outer.map_or_else(|| field.name.clone(), |outer| format!("{outer}.{}", field.name));
    match field.field_type.as_ref() {
        Type::Primitive(ty) => {
            let default = field.initial_default.as_ref().and_then(|default| default.value(&field.field_type));
            let nested_default = outer.is_some() && default.is_some();
            found.push(Leaf { id: field.id, root, name, ty: ty.clone(), nested_default });
        }
        Type::Struct(inner) => inner.fields().iter().for_each(|f| walk(f, root, Some(&name), found)),
        Type::List(list) => walk(&list.element_field, root, Some(&name), found),
        Type::Map(map) => [&map.key_field, &map.value_field].into_iter().for_each(|f| walk(f, root, Some(&name), found)),
        // Metadata does not describe the content of a variant.
        Type::Variant => {}
    }
}

/// Returns the values of a leaf in a column, one for each struct that contains it, and null where the struct is; `None` if there is
/// no such leaf.
pub(super) fn values(column: &ArrayRef, field: &Field, id: i32) -> Option<ArrayRef> {
    if field_id(field) == Some(id) {
        return Some(column.clone());
    }
    match column.data_type() {
        DataType::Struct(fields) => {
            let structs = column.as_struct();
            let found = fields.iter().zip(structs.columns()).find_map(|(field, child)| values(child, field, id))?;
            // Only a leaf with as many values as the struct takes over its nulls; one in a list or map has another number.
            if found.len() != structs.len() || structs.null_count() == 0 || found.data_type().is_null() {
                return Some(found);
            }
            let nulls = NullBuffer::union(structs.nulls(), found.logical_nulls().as_ref());
            found.to_data().into_builder().nulls(nulls).build().ok().map(make_array)
        }
        DataType::List(element) => values(column.as_list::<i32>().values(), element, id),
        DataType::LargeList(element) => values(column.as_list::<i64>().values(), element, id),
        DataType::Map(entries, _) => {
            let entries_array: ArrayRef = Arc::new(column.as_map().entries().clone());
            values(&entries_array, entries, id)
        }
        _ => None,
    }
}

/// Counts the values of a leaf that are null in structs that are not null.
pub(super) fn nulls_in_structs(column: &ArrayRef, id: i32) -> u64 {
    match column.data_type() {
        DataType::Struct(fields) => {
            let structs = column.as_struct();
            let inside = fields.iter().zip(structs.columns());
            inside
                .map(|(field, child)| match field_id(field) == Some(id) {
                    true => {
                        let there = structs.nulls().map_or(structs.len(), |n| n.len() - n.null_count());
                        let both = NullBuffer::union(structs.nulls(), child.logical_nulls().as_ref());
                        let valid = both.map_or(structs.len(), |n| n.len() - n.null_count());
                        (there - valid) as u64
                    }
                    false => nulls_in_structs(child, id),
                })
                .sum()
        }
        DataType::List(_) => nulls_in_structs(column.as_list::<i32>().values(), id),
        DataType::LargeList(_) => nulls_in_structs(column.as_list::<i64>().values(), id),
        DataType::Map(..) => {
            let entries_array: ArrayRef = Arc::new(column.as_map().entries().clone());
            nulls_in_structs(&entries_array, id)
        }
        _ => 0,
    }
}

/// Counts the values that are NaN.
pub(super) fn nans(values: &ArrayRef) -> u64 {
    match values.data_type() {
        DataType::Float32 => values.as_primitive::<Float32Type>().iter().flatten().filter(|v| v.is_nan()).count() as u64,
        DataType::Float64 => values.as_primitive::<Float64Type>().iter().flatten().filter(|v| v.is_nan()).count() as u64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, StructArray};
    use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

    use super::*;

    #[test]
    fn a_nested_leaf_is_null_where_its_struct_is_and_that_null_is_not_its_own() {
        let field = |name: &str, ty, id: i32| {
            Field::new(name, ty, true).with_metadata([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())].into())
        };
        let inner = vec![field("x", DataType::Int32, 2)];
        let values_of_x = Int32Array::from(vec![Some(1), None, Some(3)]);
        let nulls = NullBuffer::from(vec![true, true, false]);
        let structs = StructArray::try_new(inner.clone().into(), vec![Arc::new(values_of_x)], Some(nulls)).expect("a struct");
        let (column, outer): (ArrayRef, _) = (Arc::new(structs), field("s", DataType::Struct(inner.into()), 1));
        let x = values(&column, &outer, 2).expect("found");
        assert_eq!(x.as_ref(), &Int32Array::from(vec![Some(1), None, None]) as &dyn Array);
        assert_eq!(nulls_in_structs(&column, 2), 1);
        assert!(values(&column, &outer, 9).is_none());
    }
}
