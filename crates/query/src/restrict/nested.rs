//! Masks of columns and of what is in them, by field id.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, MapArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::compute::nullif;
use arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use esker_access::MaskAction;
use esker_catalog::refused_type;
use esker_format::{NestedField, Type};
use esker_read::is_variant;

use super::{Salt, mask};

/// The masks of a table by field id.
pub(super) struct Masks(BTreeMap<i32, MaskAction>);

/// The mask of a field: an action on its values, or masks of the fields in it.
#[derive(Debug)]
pub(super) enum FieldMask {
    /// Replaces each value of a type.
    Action(MaskAction, Type),
    /// Masks fields of a struct, in their order; `None` leaves a field as it is.
    Struct(Vec<Option<Self>>),
    /// Masks the elements of a list.
    List(Box<Self>),
    /// Masks the values of a map.
    Map(Box<Self>),
}

impl Masks {
    /// Takes the masks of a table.
    pub(super) fn new(masks: &[(i32, MaskAction)]) -> Self {
        Self(masks.iter().copied().collect())
    }

    /// Returns the mask of a column; `None` if neither it nor a field in it is masked.
    ///
    /// # Errors
    ///
    /// Returns the reason if a mask does not fit its field. Such a column can't be read at all.
    pub(super) fn of_column(&self, field: &NestedField) -> std::result::Result<Option<FieldMask>, String> {
        if let Some(action) = self.0.get(&field.id) {
            return match refused_type(&field.field_type, *action) {
                None => Ok(Some(FieldMask::Action(*action, field.field_type.as_ref().clone()))),
                Some(_) => Err(format!("field {} can't be read, as {action} does not fit its type", field.name)),
            };
        }
        Ok(match field.field_type.as_ref() {
            Type::Primitive(_) | Type::Variant => None,
            Type::Struct(ty) => {
                let inner = ty.fields().iter().map(|field| self.of_column(field)).collect::<std::result::Result<Vec<_>, _>>()?;
                inner.iter().any(Option::is_some).then_some(FieldMask::Struct(inner))
            }
            Type::List(ty) => self.of_column(&ty.element_field)?.map(|mask| FieldMask::List(Box::new(mask))),
            Type::Map(ty) => match self.of_column(&ty.key_field)? {
                // Two keys could become one.
                Some(_) => return Err(format!("field {} can't be read, as keys of maps can't be masked", field.name)),
                None => self.of_column(&ty.value_field)?.map(|mask| FieldMask::Map(Box::new(mask))),
            },
        })
    }
}

impl FieldMask {
    /// Returns masked values. Their Arrow type stays as it is.
    ///
    /// # Errors
    ///
    /// Returns [`DataFusionError::Internal`] if the array is of another type than its field, and
    /// [`DataFusionError::ArrowError`] if Arrow can't build an array.
    pub(super) fn apply(&self, array: &ArrayRef, salt: &Salt) -> Result<ArrayRef> {
        Ok(match self {
            Self::Action(action, ty) => mask::masked(*action, ty, array, salt)?,
            Self::Struct(masks) => {
                let all = array.as_struct_opt().ok_or_else(|| unexpected(array))?;
                if all.num_columns() != masks.len() {
                    return Err(unexpected(array));
                }
                let outer = all.nulls().filter(|nulls| nulls.null_count() > 0);
                let one = |(mask, column): (&Option<Self>, &ArrayRef)| match (mask, outer) {
                    (Some(mask), Some(outer)) => null_within(&mask.apply(column, salt)?, outer),
                    (Some(mask), None) => mask.apply(column, salt),
                    (None, _) => Ok(column.clone()),
                };
                let columns = masks.iter().zip(all.columns()).map(one).collect::<Result<Vec<_>>>()?;
                Arc::new(StructArray::try_new(all.fields().clone(), columns, all.nulls().cloned())?)
            }
            Self::List(mask) => {
                let (item, offsets, values, nulls) =
                    array.as_list_opt::<i32>().ok_or_else(|| unexpected(array))?.clone().into_parts();
                Arc::new(ListArray::try_new(item, offsets, mask.apply(&values, salt)?, nulls)?)
            }
            Self::Map(mask) => {
                let (field, offsets, entries, nulls, ordered) =
                    array.as_map_opt().ok_or_else(|| unexpected(array))?.clone().into_parts();
                let (pair, mut columns, of_entries) = entries.into_parts();
                let [_, values] = columns.as_mut_slice() else { return Err(unexpected(array)) };
                *values = mask.apply(values, salt)?;
                let entries = StructArray::try_new(pair, columns, of_entries)?;
                Arc::new(MapArray::try_new(field, offsets, entries, nulls, ordered)?)
            }
        })
    }
}

/// Sets values to null where the struct around them is null, at every depth of structs.
///
/// An access to a field does not look at the struct's own nulls, and a fixed value would be seen there.
fn null_within(array: &ArrayRef, outer: &NullBuffer) -> Result<ArrayRef> {
    match array.data_type() {
        ty @ DataType::Struct(fields) if !is_variant(ty) && !fields.is_empty() => {
            let inner = array.as_struct();
            let columns = inner.columns().iter().map(|column| null_within(column, outer)).collect::<Result<Vec<_>>>()?;
            let nulls = NullBuffer::union(inner.nulls(), Some(outer));
            Ok(Arc::new(StructArray::try_new(fields.clone(), columns, nulls)?))
        }
        _ => Ok(nullif(array, &BooleanArray::new(!outer.inner(), None))?),
    }
}

/// Builds the error for an array that is not of its field's type.
pub(super) fn unexpected(array: &dyn Array) -> DataFusionError {
    DataFusionError::Internal(format!("a masked field has the type {}", array.data_type()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{Field, Fields, Int64Type};
    use esker_format::{ListType, MapType, PrimitiveType, StructType};

    use super::*;

    fn optional(id: i32, name: &str, ty: impl Into<Type>) -> Arc<NestedField> {
        Arc::new(NestedField::optional(id, name, ty))
    }

    /// Returns a struct of the long `a` (id 2) and the string `b` (id 3), and two values of it; the second one is null.
    fn pair() -> (StructType, StructArray) {
        let ty = StructType::new(vec![optional(2, "a", PrimitiveType::Long), optional(3, "b", PrimitiveType::String)]);
        let fields = Fields::from(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)]);
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![7, 8])), Arc::new(StringArray::from(vec![Some("Anna-1"), None]))];
        (ty, StructArray::new(fields, columns, Some(NullBuffer::from(vec![true, false]))))
    }

    fn masked(masks: &[(i32, MaskAction)], field: &NestedField, array: &ArrayRef) -> ArrayRef {
        let mask = Masks::new(masks).of_column(field).expect("it fits").expect("a mask");
        let made = mask.apply(array, &Salt::fresh()).expect("masked");
        assert_eq!(made.data_type(), array.data_type());
        made
    }

    #[test]
    fn a_field_of_a_struct_is_masked_alone() {
        let (ty, array) = pair();
        let array: ArrayRef = Arc::new(array);
        let made = masked(&[(3, MaskAction::MaskAlphanum)], &optional(1, "s", ty), &array);
        let made = made.as_struct();
        assert_eq!(made.column(0).as_ref(), array.as_struct().column(0).as_ref());
        assert_eq!(made.column(1).as_string::<i32>().value(0), "xxxx-n");
        assert!(made.is_null(1));
    }

    #[test]
    fn nothing_is_seen_in_a_struct_that_is_null() {
        let (ty, array) = pair();
        let fields = Fields::from(vec![Field::new("inner", array.data_type().clone(), true)]);
        let outer = StructArray::new(fields, vec![Arc::new(array)], Some(NullBuffer::from(vec![true, false])));
        let field = optional(1, "s", StructType::new(vec![optional(9, "inner", ty)]));
        let array: ArrayRef = Arc::new(outer);
        for masked_field in [2, 9] {
            let made = masked(&[(masked_field, MaskAction::MaskToFixedValue)], &field, &array);
            assert!(made.is_null(1));
            let inner = made.as_struct().column(0).as_struct();
            assert_eq!((inner.is_null(0), inner.is_null(1)), (false, true));
            let numbers = inner.column(0).as_primitive::<Int64Type>();
            assert_eq!((numbers.value(0), numbers.is_null(1)), (0, true));
        }
    }

    #[test]
    fn elements_of_lists_and_values_of_maps_are_masked() {
        let (ty, array) = pair();
        let item = Arc::new(Field::new_list_field(array.data_type().clone(), true));
        let list: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([2, 0]), Arc::new(array.clone()), None));
        let field = optional(1, "l", ListType::new(9, ty.clone(), false));
        let made = masked(&[(3, MaskAction::ShowFirst4)], &field, &list);
        assert_eq!(made.as_list::<i32>().values().as_struct().column(1).as_string::<i32>().value(0), "Anna-n");

        let entries =
            Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", array.data_type().clone(), true)]);
        let keys: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
        let entries = StructArray::new(entries, vec![keys.clone(), Arc::new(array)], None);
        let field_of_entries = Arc::new(Field::new("entries", entries.data_type().clone(), false));
        let map: ArrayRef = Arc::new(MapArray::new(field_of_entries, OffsetBuffer::from_lengths([1, 1]), entries, None, false));
        let field = optional(1, "m", MapType::new((8, PrimitiveType::String.into()), (9, ty.into()), false));
        let made = masked(&[(2, MaskAction::ReplaceWithNull)], &field, &map);
        assert_eq!(made.as_map().keys().as_ref(), keys.as_ref());
        assert_eq!(made.as_map().values().as_struct().column(0).null_count(), 2);
        assert_eq!(made.as_map().values().as_struct().column(1).as_string::<i32>().value(0), "Anna-1");
    }

    #[test]
    fn what_is_not_masked_has_no_mask_and_what_does_not_fit_is_an_error() {
        let map = MapType::new((8, PrimitiveType::String.into()), (9, PrimitiveType::Long.into()), false);
        let field = optional(1, "m", map);
        let of = |masks: &[(i32, MaskAction)]| Masks::new(masks).of_column(&field);
        assert!(of(&[(77, MaskAction::ReplaceWithNull)]).expect("it fits").is_none());
        let key = of(&[(8, MaskAction::MaskAlphanum)]).expect_err("a key");
        assert_eq!(key, "field m can't be read, as keys of maps can't be masked");
        let other = of(&[(9, MaskAction::ShowLast4)]).expect_err("a long");
        assert_eq!(other, "field value can't be read, as show-last-4 does not fit its type");
    }
}
