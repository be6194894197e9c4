//! Columns of types that cannot be decoded: their table is read for its other columns.
//!
//! Such a column is represented by a binary field whose metadata names the type and the reason. A query that reads the column
//! fails.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema as ArrowSchema, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use esker_format::{NestedFieldRef, Schema};
use esker_read::{ReadError, all_optional, arrow_field};

/// Metadata key of the type's name in a field that stands for a column that cannot be decoded.
///
/// Lists of tables contain such fields; results do not.
const OPAQUE: &str = "esker.opaque";
/// Metadata key of the reason for which a column cannot be decoded.
const WHY: &str = "esker.opaque.why";
/// Metadata key that marks a required column.
pub(crate) const REQUIRED: &str = "esker.required";

/// Returns all columns of a table in Arrow's types, with field ids at every depth.
///
/// A column that cannot be decoded is represented by its name alone.
pub(crate) fn arrow_columns(iceberg: &Schema) -> SchemaRef {
    // Binary, so that no condition on the column is evaluated from its type alone.
    let stand_in = |field: &NestedFieldRef, why: ReadError| {
        let metadata = [(OPAQUE, field.field_type.to_string()), (WHY, why.to_string())];
        let metadata = metadata.into_iter().map(|(key, text)| (key.to_owned(), text)).collect();
        Field::new(&field.name, DataType::Binary, !field.required).with_metadata(metadata)
    };
    let one = |field: &NestedFieldRef| arrow_field(field).unwrap_or_else(|why| stand_in(field, why));
    Arc::new(ArrowSchema::new(iceberg.as_struct().fields().iter().map(one).collect::<Vec<_>>()))
}

/// Returns all columns of a table as nullable, because rows may lack values of required columns.
///
/// Some writers leave nulls in required columns. So the planner must not rely on a column being required. The field's metadata
/// marks a required column ([`REQUIRED`]).
pub(crate) fn columns_as_they_come(iceberg: &Schema) -> SchemaRef {
    let columns = all_optional(&arrow_columns(iceberg));
    let one = |(column, field): (&FieldRef, &NestedFieldRef)| {
        let mut metadata = column.metadata().clone();
        if field.required {
            metadata.insert(REQUIRED.to_owned(), "true".to_owned());
        }
        Field::clone(column).with_metadata(metadata)
    };
    let fields = columns.fields().iter().zip(iceberg.as_struct().fields());
    Arc::new(ArrowSchema::new(fields.map(one).collect::<Vec<_>>()))
}

/// Checks whether a column may be null according to its table's schema.
pub(crate) fn may_be_null(field: &Field) -> bool {
    field.is_nullable() && !field.metadata().contains_key(REQUIRED)
}

/// Returns the name of the type of a column that cannot be decoded.
pub(crate) fn type_of(field: &Field) -> Option<&str> {
    field.metadata().get(OPAQUE).map(String::as_str)
}

/// Checks that all of some columns can be decoded.
///
/// # Errors
///
/// Returns [`DataFusionError::NotImplemented`] with the reason for the first column that cannot be decoded.
pub(crate) fn check<'a>(columns: impl IntoIterator<Item = &'a FieldRef>) -> Result<()> {
    match columns.into_iter().find_map(|field| field.metadata().get(WHY)) {
        Some(why) => Err(DataFusionError::NotImplemented(why.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use esker_format::{NestedField, PrimitiveType, StructType, Type};

    use super::*;

    #[test]
    fn a_column_that_can_not_be_decoded_is_named_and_costs_no_other() {
        let field = |id, name: &str, ty: Type| Arc::new(NestedField::optional(id, name, ty));
        let within = StructType::new(vec![field(4, "v", PrimitiveType::named("matrix").into())]);
        let columns = vec![
            field(1, "id", PrimitiveType::Long.into()),
            field(2, "v", PrimitiveType::named("matrix").into()),
            field(3, "s", within.into()),
            field(5, "new", PrimitiveType::named("quaternion").into()),
            field(6, "nothing", PrimitiveType::Unknown.into()),
        ];
        let schema = arrow_columns(&Schema::new(0, columns).expect("a schema"));
        let types: Vec<_> = schema.fields().iter().map(|field| type_of(field)).collect();
        let of_struct = "struct<4: v: optional matrix>";
        assert_eq!(types, [None, Some("matrix"), Some(of_struct), Some("quaternion"), None]);
        assert_eq!((schema.field(0).data_type(), schema.field(4).data_type()), (&DataType::Int64, &DataType::Null));
        check([&schema.fields()[0], &schema.fields()[4]]).expect("they can be read");
        for (at, column) in [(1, "v"), (2, "s.v"), (3, "new")] {
            let error = check([&schema.fields()[at]]).expect_err("it can't be read").to_string();
            assert!(error.contains(&format!("column {column}")), "{error}");
        }
    }
}
