//! Gives field ids to the columns of files that have none, through the table's name mapping.
//!
//! Spec: "Column Projection", "Name Mapping Serialization".

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use esker_format::{LIST_ELEMENT, MAP_KEY, MAP_VALUE, TableMetadata};
use esker_table::properties::{MappedField, NAME_MAPPING, NameMapping};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use crate::defaults::within;
use crate::field_id;

/// A table's name mapping, or the reason for which it can't be read; empty if the table has none.
#[derive(Debug, Default)]
pub struct FieldNames(Option<Result<NameMapping, String>>);

impl FieldNames {
    /// Reads the name mapping from the table property `schema.name-mapping.default`.
    ///
    /// A malformed property is no error here. [`identify`](Self::identify) reports it, if a file needs the mapping.
    pub fn of(metadata: &TableMetadata) -> Self {
        Self(NAME_MAPPING.get_valid(&metadata.properties).map_err(|e| e.to_string()).transpose())
    }

    /// Returns a file's fields with field ids.
    ///
    /// If any field has an id, the fields are returned unchanged. Otherwise their names are looked up in the mapping; a field
    /// that it lacks stays without an id. Spec: "Column Projection".
    ///
    /// # Errors
    ///
    /// Returns a message if no field has an id and the table has no name mapping, or a malformed one.
    pub fn identify(&self, fields: &Fields) -> Result<Fields, String> {
        if fields.is_empty() || fields.iter().any(has_id) {
            return Ok(fields.clone());
        }
        match &self.0 {
            Some(Ok(names)) => Ok(mapped(fields, &names.fields)),
            Some(Err(e)) => Err(format!("a Parquet file without field ids, and {e}")),
            None => Err(format!("a Parquet file without field ids, in a table without {}, can't be read", NAME_MAPPING.key)),
        }
    }
}

impl From<NameMapping> for FieldNames {
    fn from(names: NameMapping) -> Self {
        Self(Some(Ok(names)))
    }
}

/// Checks that a field or one of its descendants has an id.
fn has_id(field: &FieldRef) -> bool {
    field_id(field).is_some() || within(field).into_iter().any(has_id)
}

fn mapped(fields: &Fields, names: &[MappedField]) -> Fields {
    fields.iter().map(|field| one(field, field.name(), names)).collect()
}

/// Returns a field with the ids that the mapping has for `name` and the fields inside.
///
/// Elements, keys and values go by the specification's names, whatever the file calls them.
fn one(field: &FieldRef, name: &str, names: &[MappedField]) -> FieldRef {
    let Some(found) = names.iter().find(|m| m.names.iter().any(|known| known == name)) else { return field.clone() };
    let inner = &found.fields;
    let ty = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(mapped(fields, inner)),
        DataType::List(item) => DataType::List(one(item, LIST_ELEMENT, inner)),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(pair) => {
                let named = pair.iter().zip([MAP_KEY, MAP_VALUE]).map(|(field, name)| one(field, name, inner));
                let pair = DataType::Struct(named.collect());
                DataType::Map(Arc::new(Field::clone(entries).with_data_type(pair)), *sorted)
            }
            other => other.clone(),
        },
        other => other.clone(),
    };
    let mut metadata = field.metadata().clone();
    if let Some(id) = found.field_id {
        metadata.insert(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
    }
    Arc::new(Field::clone(field).with_data_type(ty).with_metadata(metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(name: &str, ty: DataType) -> FieldRef {
        Arc::new(Field::new(name, ty, true))
    }

    fn name(id: i32, names: &[&str], fields: Vec<MappedField>) -> MappedField {
        MappedField { field_id: Some(id), names: names.iter().map(|n| (*n).to_owned()).collect(), fields }
    }

    fn ids(field: &FieldRef, into: &mut Vec<Option<i32>>) {
        into.push(field_id(field));
        within(field).into_iter().for_each(|f| ids(f, into));
    }

    /// The names within lists and maps are those of the specification: Arrow calls an element "item", Hive "array_element".
    #[test]
    fn names_stand_for_ids_at_every_depth() {
        let list = DataType::List(plain("item", DataType::Struct(vec![plain("x", DataType::Int32)].into())));
        let pair = vec![plain("k", DataType::Utf8), plain("v", DataType::Struct(vec![plain("y", DataType::Int32)].into()))];
        let map = DataType::Map(Arc::new(Field::new("pairs", DataType::Struct(pair.into()), false)), false);
        let inner = DataType::Struct(vec![plain("other", DataType::Int32), plain("b", DataType::Int32)].into());
        let file: Fields = vec![plain("l", list), plain("m", map), plain("s", inner), plain("new", DataType::Int32)].into();
        let leaf = |id, text| name(id, &[text], vec![]);
        let fields = vec![
            name(1, &["l"], vec![name(2, &["element"], vec![leaf(3, "x")])]),
            name(4, &["m"], vec![leaf(5, "key"), name(6, &["value"], vec![leaf(7, "y")])]),
            name(8, &["old", "s"], vec![name(9, &["a", "b"], vec![])]),
        ];
        let found = FieldNames::from(NameMapping { fields }).identify(&file).expect("ids");
        let mut all = Vec::new();
        found.iter().for_each(|field| ids(field, &mut all));
        let expected = [1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 0].map(|id| (id > 0).then_some(id));
        assert_eq!(all, expected);
    }

    #[test]
    fn a_file_with_any_id_needs_no_mapping_and_one_without_says_what_is_missing() {
        let id = [(PARQUET_FIELD_ID_META_KEY.to_owned(), "5".to_owned())].into();
        let inner = Arc::new(Field::new("a", DataType::Int32, true).with_metadata(id));
        let file: Fields = vec![plain("s", DataType::Struct(vec![inner].into()))].into();
        assert_eq!(FieldNames::default().identify(&file), Ok(file));
        let bare: Fields = vec![plain("a", DataType::Int32)].into();
        let error = FieldNames::default().identify(&bare).expect_err("no ids");
        assert!(error.contains("in a table without schema.name-mapping.default"), "{error}");
        let error = FieldNames(Some(Err("it is not JSON".to_owned()))).identify(&bare).expect_err("no ids");
        assert!(error.ends_with("it is not JSON"), "{error}");
    }
}
