//! Schemas: the columns of a table at one time, with an index of all fields by id and by full name.
//!
//! The full name of a field joins the names of the fields around it and its own with dots. Below a list or a map, `element` and
//! `value` may be left out.
//!
//! Spec: "Schemas and Data Types".

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::{Extra, FormatError, ListType, MapType, NestedField, NestedFieldRef, Result, StructType, Type};

/// The columns of a table or view at one time.
///
/// Spec: "Schemas and Data Types".
#[derive(Debug, Clone)]
pub struct Schema {
    schema_id: i32,
    columns: StructType,
    identifier_field_ids: BTreeSet<i32>,
    pub(crate) extra: Extra,
    index: Index,
}

/// A shared schema.
pub type SchemaRef = Arc<Schema>;

/// Indexes of the fields at all depths.
#[derive(Debug, Clone, Default)]
struct Index {
    by_id: HashMap<i32, NestedFieldRef>,
    names: HashMap<i32, String>,
    ids: HashMap<String, i32>,
    parents: HashMap<i32, i32>,
}

impl Schema {
    /// Builds a schema from its columns. It has no identifier fields.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](FormatError::Invalid) if two fields, at any depth, have the same id or the same full name: readers could
    /// not tell them apart.
    pub fn new(schema_id: i32, fields: Vec<NestedFieldRef>) -> Result<Self> {
        let mut index = Index::default();
        for field in &fields {
            index.add(field, None, "").map_err(|why| FormatError::invalid(format!("schema {schema_id}"), why))?;
        }
        let columns = StructType::new(fields);
        Ok(Self { schema_id, columns, identifier_field_ids: BTreeSet::new(), extra: Extra::default(), index })
    }

    /// Returns the schema with `ids` as its identifier fields. The ids are not checked.
    ///
    /// Spec: "Identifier Field IDs".
    #[must_use]
    pub fn with_identifier_field_ids(mut self, ids: impl IntoIterator<Item = i32>) -> Self {
        self.identifier_field_ids = ids.into_iter().collect();
        self
    }

    /// Returns the schema with `schema_id` as its id.
    #[must_use]
    pub fn with_schema_id(mut self, schema_id: i32) -> Self {
        self.schema_id = schema_id;
        self
    }

    /// Returns the schema with the fields `ids`, at any depth, made optional.
    #[must_use]
    pub fn with_optional(mut self, ids: &BTreeSet<i32>) -> Self {
        let by_id = &mut self.index.by_id;
        let fields = self.columns.fields().iter().map(|field| optional(field, ids, by_id)).collect();
        self.columns = StructType::new(fields);
        self
    }

    /// Returns the id of the schema, unique within its table or view.
    pub const fn schema_id(&self) -> i32 {
        self.schema_id
    }

    /// Returns the columns as a struct.
    pub const fn as_struct(&self) -> &StructType {
        &self.columns
    }

    /// Returns the ids of the fields that identify a row, by rising id.
    ///
    /// Spec: "Identifier Field IDs".
    pub const fn identifier_field_ids(&self) -> &BTreeSet<i32> {
        &self.identifier_field_ids
    }

    /// Returns the field with `id`, at any depth.
    pub fn field_by_id(&self, id: i32) -> Option<&NestedFieldRef> {
        self.index.by_id.get(&id)
    }

    /// Returns the id of the field with the full name `name`, case-sensitively.
    pub fn field_id_by_name(&self, name: &str) -> Option<i32> {
        self.index.ids.get(name).copied()
    }

    /// Returns the field with the full name `name`, case-sensitively: the names of the fields around it and its own, joined by
    /// dots.
    pub fn field_by_name(&self, name: &str) -> Option<&NestedFieldRef> {
        self.field_by_id(self.field_id_by_name(name)?)
    }

    /// Returns the field with the full name `name`, whatever its case.
    ///
    /// A field that is spelled exactly like `name` wins. Otherwise returns `None` if several fields match.
    pub fn field_by_name_case_insensitive(&self, name: &str) -> Option<&NestedFieldRef> {
        let lower = name.to_lowercase();
        let mut found = self.index.ids.iter().filter(|(full, _)| full.to_lowercase() == lower).map(|(_, id)| *id);
        let only = || found.next().filter(|first| found.all(|other| other == *first));
        self.field_by_id(self.field_id_by_name(name).or_else(only)?)
    }

    /// Returns the full name of the field with `id`, without abbreviation.
    pub fn name_by_field_id(&self, id: i32) -> Option<&str> {
        self.index.names.get(&id).map(String::as_str)
    }

    /// Returns the id of the struct, list or map field that directly contains the field. Returns `None` for a column.
    pub fn parent_of(&self, id: i32) -> Option<i32> {
        self.index.parents.get(&id).copied()
    }

    /// Returns the highest field id at any depth; 0 if the schema has no fields.
    pub fn highest_field_id(&self) -> i32 {
        self.index.by_id.keys().max().copied().unwrap_or(0)
    }

    /// Returns the ids of all fields at all depths, in no particular order.
    pub fn field_ids(&self) -> impl Iterator<Item = i32> {
        self.index.by_id.keys().copied()
    }

    /// Returns `true` if two schemas are equal except for their schema ids.
    pub fn equals_except_id(&self, other: &Self) -> bool {
        self.columns == other.columns && self.identifier_field_ids == other.identifier_field_ids && self.extra == other.extra
    }
}

/// Returns `field` with itself and the fields within it made optional where `ids` has them. Records every resulting field in
/// `by_id`.
fn optional(field: &NestedFieldRef, ids: &BTreeSet<i32>, by_id: &mut HashMap<i32, NestedFieldRef>) -> NestedFieldRef {
    let mut within = |field: &NestedFieldRef| optional(field, ids, by_id);
    let ty = match field.field_type.as_ref() {
        Type::Struct(ty) => StructType::new(ty.fields().iter().map(within).collect()).into(),
        Type::List(ty) => ListType { element_field: within(&ty.element_field), ..ty.clone() }.into(),
        Type::Map(ty) => MapType { key_field: within(&ty.key_field), value_field: within(&ty.value_field), ..ty.clone() }.into(),
        ty @ (Type::Primitive(_) | Type::Variant) => ty.clone(),
    };
    let required = field.required && !ids.contains(&field.id);
    let made = Arc::new(NestedField { required, field_type: Box::new(ty), ..field.as_ref().clone() });
    by_id.insert(made.id, made.clone());
    made
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.schema_id == other.schema_id && self.equals_except_id(other)
    }
}

impl Eq for Schema {}

impl Index {
    fn add(&mut self, field: &NestedFieldRef, parent: Option<i32>, prefix: &str) -> Result<(), String> {
        let name = if prefix.is_empty() { field.name.clone() } else { format!("{prefix}.{}", field.name) };
        if let Some(other) = self.names.get(&field.id) {
            return Err(format!("fields {other} and {name} have one id, {}", field.id));
        }
        if let Some(other) = self.ids.insert(name.clone(), field.id) {
            return Err(format!("fields {other} and {} have one name, {name}", field.id));
        }
        if let Some(parent) = parent {
            self.parents.insert(field.id, parent);
        }
        self.by_id.insert(field.id, field.clone());
        self.names.insert(field.id, name.clone());
        for child in field.field_type.children() {
            self.add(child, Some(field.id), &name)?;
        }
        self.add_short_names(field, prefix);
        Ok(())
    }

    /// Adds names without `element` or `value` for the fields of structs within a list or map, where no field has that name yet.
    /// Java does the same (`TypeUtil.indexByName`).
    fn add_short_names(&mut self, field: &NestedFieldRef, prefix: &str) {
        let (Type::List(_) | Type::Map(_)) = field.field_type.as_ref() else { return };
        let name = if prefix.is_empty() { field.name.clone() } else { format!("{prefix}.{}", field.name) };
        for part in ["element", "value"] {
            let long = format!("{name}.{part}.");
            let found: Vec<(String, i32)> =
                self.ids.iter().filter_map(|(full, id)| Some((format!("{name}.{}", full.strip_prefix(&long)?), *id))).collect();
            for (short, id) in found {
                self.ids.entry(short).or_insert(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ListType, MapType, NestedField, PrimitiveType};

    fn field(id: i32, name: &str, ty: impl Into<Type>) -> NestedFieldRef {
        Arc::new(NestedField::optional(id, name, ty))
    }

    fn point(first: i32) -> Type {
        StructType::new(vec![field(first, "x", PrimitiveType::Int), field(first + 1, "y", PrimitiveType::Int)]).into()
    }

    #[test]
    fn fields_of_every_depth_are_found() {
        let map = MapType::new((5, PrimitiveType::String.into()), (6, point(7)), false);
        let columns = vec![
            field(1, "a", point(2)),
            field(4, "m", map),
            field(9, "l", ListType::new(10, point(11), true)),
            field(13, "a.b", PrimitiveType::Long),
        ];
        let schema = Schema::new(3, columns).expect("a schema").with_identifier_field_ids([13]);
        for (name, id) in [("a.x", 2), ("m.key", 5), ("m.value.y", 8), ("m.y", 8), ("l.element", 10), ("l.x", 11), ("a.b", 13)] {
            assert_eq!(schema.field_id_by_name(name), Some(id), "{name}");
        }
        assert_eq!((schema.name_by_field_id(8), schema.parent_of(8)), (Some("m.value.y"), Some(6)));
        assert_eq!((schema.highest_field_id(), schema.parent_of(1)), (13, None));
        assert_eq!(schema.field_by_name("l.element.y").map(|field| field.id), Some(12));
        let found = |name: &str| schema.field_by_name_case_insensitive(name).map(|field| field.id);
        assert_eq!((found("L.Element.Y"), found("a.X"), found("A.c")), (Some(12), Some(2), None));
    }

    #[test]
    fn of_names_that_differ_in_case_the_one_that_is_spelled_alike_is_found() {
        let schema =
            Schema::new(0, vec![field(1, "a", PrimitiveType::Int), field(2, "A", PrimitiveType::Int)]).expect("a schema");
        let found = |name: &str| schema.field_by_name_case_insensitive(name).map(|field| field.id);
        assert_eq!((found("a"), found("A")), (Some(1), Some(2)));
        let schema =
            Schema::new(0, vec![field(1, "aB", PrimitiveType::Int), field(2, "Ab", PrimitiveType::Int)]).expect("a schema");
        assert_eq!(schema.field_by_name_case_insensitive("ab"), None);
    }

    #[test]
    fn two_fields_of_one_id_or_name_are_refused() {
        let columns = vec![field(1, "a", point(2)), field(3, "b", PrimitiveType::Int)];
        let error = Schema::new(7, columns).expect_err("one id").to_string();
        assert!(error.contains("schema 7: fields a.y and b have one id, 3"), "{error}");
        let columns = vec![field(1, "a", point(2)), field(4, "a.x", PrimitiveType::Int)];
        let error = Schema::new(7, columns).expect_err("one name").to_string();
        assert!(error.contains("have one name, a.x"), "{error}");
    }
}
