//! Columns that options name, and orders of columns in words.
//!
//! A name that holds commas, dots or blanks stands in double quotes or backticks. Fields of structs follow after dots.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::error::ArrowError;
use esker_format::{NestedFieldRef, PrimitiveType, Schema, Type};
use esker_types::{split_dotted, split_list, split_names};

use crate::{MaintenanceError, Result};

/// The path to a column that can be sorted by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ColumnPath {
    /// Index of the top-level column in the table's schema, then indexes within structs.
    path: Vec<usize>,
    /// Field id of the column.
    pub(crate) id: i32,
}

impl ColumnPath {
    /// Finds the column that the option `key` names.
    ///
    /// # Errors
    ///
    /// Returns [`MaintenanceError::Option`] if the table has no such column, or it can't be sorted by.
    pub(crate) fn named(schema: &Schema, text: &str, key: &'static str) -> Result<Self> {
        let bad = |reason: String| MaintenanceError::Option { key, reason };
        let names = split_dotted(text);
        let found = names.as_ref().ok().and_then(|names| walk(schema, names));
        // In a list of names, a name needs no quotes.
        if let Some(found) = found.or_else(|| walk(schema, &[text.to_owned()])) {
            return Ok(found);
        }
        names.map_err(|e| bad(e.to_string()))?;
        Err(bad(format!(
            "the table has no sortable column {text}; a name that holds blanks, commas or dots stands in double quotes"
        )))
    }

    /// Finds the column with a field id that the table's sort order names.
    ///
    /// # Errors
    ///
    /// Returns [`MaintenanceError::Option`] if the column was dropped or can't be sorted by.
    pub(crate) fn of(schema: &Schema, id: i32) -> Result<Self> {
        let found = schema.field_by_id(id).filter(|field| is_sortable(&field.field_type));
        found.and_then(|_| field_path(schema.as_struct().fields(), id)).map(|path| Self { path, id }).ok_or_else(|| {
            let name = schema.name_by_field_id(id).unwrap_or("a dropped column");
            let reason = format!("the table is sorted by {name:?}, which is not a sortable column");
            MaintenanceError::Option { key: "sort-order", reason }
        })
    }

    /// Returns the values of the column in a batch of the table's schema, null where a struct around them is null.
    pub(crate) fn values(&self, batch: &RecordBatch) -> std::result::Result<ArrayRef, ArrowError> {
        esker_read::column_at(batch, &self.path)
    }

    #[cfg(test)]
    pub(crate) fn top(at: usize, id: i32) -> Self {
        Self { path: vec![at], id }
    }
}

/// Finds a sortable column by the names on its path.
fn walk(schema: &Schema, names: &[String]) -> Option<ColumnPath> {
    let (mut fields, mut path) = (schema.as_struct().fields(), Vec::new());
    for (i, name) in names.iter().enumerate() {
        let at = fields.iter().position(|f| f.name == *name)?;
        path.push(at);
        match fields[at].field_type.as_ref() {
            Type::Struct(inner) => fields = inner.fields(),
            ty => return (i + 1 == names.len() && is_sortable(ty)).then(|| ColumnPath { path, id: fields[at].id }),
        }
    }
    None
}

/// Checks whether values of a type have an order.
const fn is_sortable(ty: &Type) -> bool {
    use PrimitiveType::{Geography, Geometry, Other, Unknown};
    match ty {
        Type::Primitive(ty) => !matches!(ty, Unknown | Geometry { .. } | Geography { .. } | Other(_)),
        Type::Struct(_) | Type::List(_) | Type::Map(_) | Type::Variant => false,
    }
}

/// Returns the path to a field of a primitive type: the index of its column, then indexes within structs; `None` for fields in
/// lists and maps.
pub(crate) fn field_path(fields: &[NestedFieldRef], id: i32) -> Option<Vec<usize>> {
    fields.iter().enumerate().find_map(|(at, field)| match field.field_type.as_ref() {
        Type::Primitive(_) => (field.id == id).then(|| vec![at]),
        Type::Struct(inner) => field_path(inner.fields(), id).map(|rest| [vec![at], rest].concat()),
        Type::List(_) | Type::Map(_) | Type::Variant => None,
    })
}

/// A column of an order as its text has it.
#[derive(Debug, PartialEq)]
pub(crate) struct SortColumn<'a> {
    /// The column's name as the text has it, with its quotes.
    pub(crate) name: &'a str,
    pub(crate) descending: bool,
    pub(crate) nulls_first: bool,
}

/// Parses `column [asc|desc] [nulls first|nulls last], …`. By default nulls come first if ascending and last if descending, as in
/// Spark.
///
/// # Errors
///
/// Returns [`MaintenanceError::Option`] that quotes the part which can't be parsed.
pub(crate) fn parse_sort_order(text: &str) -> Result<Vec<SortColumn<'_>>> {
    let bad = |reason: String| MaintenanceError::Option { key: "sort-order", reason };
    let key = |part| {
        let words: Vec<&str> = split_names(part, char::is_whitespace).into_iter().filter(|word| !word.is_empty()).collect();
        let Some((name, rest)) = words.split_first() else { return Err(bad(format!("{text:?} has an empty part"))) };
        split_dotted(name).map_err(|e| bad(e.to_string()))?;
        let rest: Vec<String> = rest.iter().map(|w| w.to_lowercase()).collect();
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        let (descending, rest) = match rest.as_slice() {
            ["desc", rest @ ..] => (true, rest),
            ["asc", rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let nulls_first = match rest {
            [] => !descending,
            ["nulls", "first"] => true,
            ["nulls", "last"] => false,
            other => return Err(bad(format!("expected `nulls first` or `nulls last`, found {:?}", other.join(" ")))),
        };
        Ok(SortColumn { name, descending, nulls_first })
    };
    split_list(text).map(key).collect()
}

/// Checks the syntax of an order of columns, such as the value of the option `sort-order`.
///
/// # Errors
///
/// Returns [`MaintenanceError::Option`] that quotes the part which can't be parsed.
pub fn check_sort_order(text: &str) -> Result<()> {
    parse_sort_order(text).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, AsArray, Int32Array, StructArray};
    use arrow::buffer::NullBuffer;
    use arrow::datatypes::{DataType, Field, Int32Type};
    use esker_format::{NestedField, StructType};

    use super::*;

    fn schema() -> Schema {
        let field = |id, name: &str, ty: PrimitiveType| Arc::new(NestedField::optional(id, name, ty));
        let inner = StructType::new(vec![field(7, "x y", PrimitiveType::Int), field(8, "z", PrimitiveType::Int)]);
        let fields = vec![
            field(1, "a", PrimitiveType::Long),
            field(2, "b", PrimitiveType::String),
            field(3, "a b", PrimitiveType::Long),
            field(4, "c,d", PrimitiveType::Long),
            field(5, "e.f\"", PrimitiveType::Long),
            Arc::new(NestedField::optional(6, "s", inner)),
            field(9, "shape", PrimitiveType::Geometry { crs: None }),
            Arc::new(NestedField::optional(10, "v", Type::Variant)),
        ];
        Schema::new(0, fields).expect("a schema")
    }

    fn ids(text: &str) -> Result<Vec<(i32, bool, bool)>> {
        let place =
            |s: &SortColumn<'_>| Ok((ColumnPath::named(&schema(), s.name, "sort-order")?.id, s.descending, s.nulls_first));
        parse_sort_order(text)?.iter().map(place).collect()
    }

    #[test]
    fn orders_are_read_as_sql_writes_them() {
        assert_eq!(ids("b desc, a ASC NULLS LAST").expect("an order"), [(2, true, false), (1, false, false)]);
        for wrong in ["", "c", "a up", "a desc nulls", "a,", "\"a", "\"a\"b", "s", "s.q", "a.b", "shape", "v"] {
            assert!(ids(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn columns_with_blanks_commas_and_dots_stand_in_quotes() {
        let all = ids("\"a b\" desc, `c,d` NULLS LAST,\"e.f\"\"\", e.f\", s.z, s.`x y` desc nulls first").expect("an order");
        assert_eq!(
            all,
            [(3, true, false), (4, false, false), (5, false, true), (5, false, true), (8, false, true), (7, true, true)]
        );
    }

    #[test]
    fn names_of_a_list_need_no_quotes() {
        for (name, id) in [("a b", 3), ("c,d", 4), ("e.f\"", 5), ("\"a b\"", 3), ("s.x y", 7), ("s.\"x y\"", 7)] {
            assert_eq!(ColumnPath::named(&schema(), name, "zorder-columns").expect("a column").id, id, "{name}");
        }
    }

    #[test]
    fn a_field_is_null_where_its_struct_is() {
        let place = ColumnPath::of(&schema(), 8).expect("a field");
        let field = |name: &str| Arc::new(Field::new(name, DataType::Int32, true));
        let values = |v: Vec<i32>| Arc::new(Int32Array::from(v)) as ArrayRef;
        let nulls = Some(NullBuffer::from(vec![true, false]));
        let fields = vec![field("x y"), field("z")].into();
        let structs: ArrayRef = Arc::new(StructArray::new(fields, vec![values(vec![1, 2]), values(vec![3, 4])], nulls));
        let other = values(vec![0, 0]);
        let columns = [("a", &other), ("b", &other), ("c", &other), ("d", &other), ("e", &other), ("s", &structs)];
        let batch = RecordBatch::try_from_iter(columns.map(|(name, c)| (name, c.clone()))).expect("a batch");
        let found = place.values(&batch).expect("values");
        assert_eq!((found.as_primitive::<Int32Type>().value(0), found.is_null(0), found.is_null(1)), (3, false, true));
    }
}
