//! The columns of a table as lists of columns show them: with the types that clients see, and their names in SQL.

use arrow::datatypes::{Field, FieldRef, Schema as ArrowSchema, SchemaRef};
use esker_format::Schema;

use crate::opaque::arrow_columns;
use crate::{semantics, variant};

/// Metadata key of the name of a column's type (Flight SQL, `CommandGetTables`).
const FLIGHT_TYPE: &str = "ARROW:FLIGHT:SQL:TYPE_NAME";

/// Returns all columns of a table as clients see their values, for lists of columns.
///
/// The metadata of each field holds the SQL name of its type, under `ARROW:FLIGHT:SQL:TYPE_NAME`. Columns that cannot be decoded
/// are included.
pub fn listed_columns(iceberg: &Schema) -> SchemaRef {
    let marked = semantics::mark_fixed(&arrow_columns(iceberg), iceberg);
    let one = |field: &FieldRef| {
        let name = semantics::type_name(field);
        let as_json = variant::json_field(field);
        let mut metadata = as_json.metadata().clone();
        metadata.insert(FLIGHT_TYPE.to_owned(), name);
        Field::clone(&as_json).with_metadata(metadata)
    };
    semantics::without_marks(&ArrowSchema::new(marked.fields().iter().map(one).collect::<Vec<_>>()))
}
