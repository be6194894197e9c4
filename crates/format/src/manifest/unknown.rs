//! Unknown fields of manifests and lists: decoding into columns, and encoding into other files.
//!
//! An unknown value is kept as a value of a union: null first, then the field's types. So it can be copied into any file.
//! [`UnknownColumn`] reads the values, the second half of the file writes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::columns::Bounds;
use super::merge::{merged, put_as};
use crate::avro::{Container, Cursor, DecodeResult, NodeKind, WriterSchema, put_long, self_contained_fields};
use crate::avro_names::{avro_name, valid_avro_name};
use crate::{FormatError, Result, UnknownField, UnknownFields};

/// The values of a record's unknown fields, for many records.
#[derive(Debug, Clone)]
pub(super) struct UnknownColumn {
    fields: Arc<[UnknownField]>,
    /// Per field, the index in the kept union of each branch that its union in the file has; 0 is null. Empty if the type is no
    /// union.
    branches: Vec<Box<[usize]>>,
    /// The encoded values of each row, keyed by the field's index.
    values: Bounds,
    /// The indexes of the current record's fields that have a value.
    places: Vec<i32>,
    /// The current value.
    value: Vec<u8>,
}

impl UnknownColumn {
    /// Creates the column of the fields `places`, in the order in which they are read; `None` if there are none.
    ///
    /// A place is the node of a record and a position in it. Fields of the record `entry` are marked as fields of the manifest
    /// entry.
    pub(super) fn of(
        what: &str,
        container: &Container<'_>,
        entry: Option<usize>,
        places: &[(usize, usize)],
    ) -> Result<Option<Box<Self>>> {
        if places.is_empty() {
            return Ok(None);
        }
        let schema = container.schema();
        let mut fields = self_contained_fields(container.schema_json(), places).map_err(|(id, why)| damaged(what, id, why))?;
        for (field, (record, _)) in fields.iter_mut().zip(places) {
            field.of_entry = entry == Some(*record);
        }
        let branches = places.iter().map(|(record, place)| branches(schema, schema.fields(*record)[*place].node)).collect();
        let column = Self { fields: fields.into(), branches, values: Bounds::default(), places: Vec::new(), value: Vec::new() };
        Ok(Some(Box::new(column)))
    }

    /// Reads a field's value, whose type is `node`.
    pub(super) fn read(&mut self, place: usize, cursor: &mut Cursor<'_>, schema: &WriterSchema, node: usize) -> DecodeResult<()> {
        let (branch, node) = match &schema.node(node).kind {
            NodeKind::Union(types) => {
                let at = usize::try_from(cursor.long()?).map_err(|_| NO_TYPE)?;
                (*self.branches[place].get(at).ok_or(NO_TYPE)?, types[at])
            }
            _ => (1, node),
        };
        if branch == 0 {
            return Ok(());
        }
        let start = *cursor;
        cursor.skip(schema, node)?;
        self.value.clear();
        put_long(&mut self.value, branch as i64);
        self.value.extend_from_slice(cursor.since(&start));
        self.places.push(place as i32);
        self.values.push(&self.value)
    }

    /// Ends a record.
    pub(super) fn close(&mut self, row: usize) -> DecodeResult<()> {
        if !self.places.is_empty() {
            self.values.close(row, &self.places)?;
            self.places.clear();
        }
        Ok(())
    }

    /// Returns the unknown fields of a row. Rows share memory.
    pub(super) fn row(&self, row: usize) -> UnknownFields {
        self.values.of_row(row).map(|values| UnknownFields::of(&self.fields, values)).unwrap_or_default()
    }

    pub(super) fn shrink(&mut self) {
        self.values.shrink();
        (self.places, self.value) = (Vec::new(), Vec::new());
    }

    /// Returns the size in memory of the values, in bytes.
    pub(super) const fn memory(&self) -> usize {
        self.values.memory()
    }
}

const NO_TYPE: &str = "a union has no branch of that index";

fn branches(schema: &WriterSchema, node: usize) -> Box<[usize]> {
    let NodeKind::Union(types) = &schema.node(node).kind else { return Box::default() };
    let mut next = 0;
    let place = |node: &usize| {
        let is_null = schema.node(*node).kind == NodeKind::Null;
        next += usize::from(!is_null);
        if is_null { 0 } else { next }
    };
    types.iter().map(place).collect()
}

/// The unknown fields of all records of a file that is being written, by record and id.
#[derive(Debug, Default)]
pub(super) struct UnknownFieldWriter(BTreeMap<(bool, i32), WrittenField>);

/// An unknown field of a file that is being written.
#[derive(Debug)]
struct WrittenField {
    field: UnknownField,
    /// The merged type, and the types of values that must be converted to it; `None` if all values have the field's type.
    others: Option<(WriterSchema, Vec<(Json, WriterSchema)>)>,
}

impl UnknownFieldWriter {
    /// Collects the unknown fields of the records. Fails if the types of a field cannot be merged.
    pub(super) fn of<'a>(what: &str, records: impl IntoIterator<Item = &'a UnknownFields>) -> Result<Self> {
        let mut fields: BTreeMap<(bool, i32), WrittenField> = BTreeMap::new();
        let mut types: BTreeMap<(bool, i32), Vec<Json>> = BTreeMap::new();
        for (field, _) in records.into_iter().flat_map(UnknownFields::iter) {
            match fields.get_mut(&field.key()) {
                None => {
                    types.insert(field.key(), vec![field.avro_type.clone()]);
                    fields.insert(field.key(), WrittenField { field: field.clone(), others: None });
                }
                Some(known) => {
                    let seen = types.entry(field.key()).or_default();
                    if seen.contains(&field.avro_type) {
                        continue;
                    }
                    seen.push(field.avro_type.clone());
                    let ty = merged(field.id, &known.field.avro_type, &field.avro_type).ok_or_else(|| {
                        let what = format!("{what}: field {} ({})", field.id, field.name);
                        let (a, b) = (&known.field.avro_type, &field.avro_type);
                        FormatError::invalid(what, format!("its types {a} and {b} can't be merged"))
                    })?;
                    known.field.avro_type = ty;
                }
            }
        }
        for (key, extended) in &mut fields {
            let seen = types.remove(key).filter(|types| types.len() > 1);
            extended.others = seen.map(|types| others(what, &extended.field, types)).transpose()?;
        }
        Ok(Self(fields))
    }

    /// Adds the fields to the schema of a record, after its own fields. `entry` selects the fields of manifest entries, or those of
    /// other records.
    pub(super) fn add_to(&self, record: &mut Json, entry: bool) {
        let Some(fields) = record["fields"].as_array_mut() else { return };
        let name = |field: &Json| field["name"].as_str().unwrap_or_default().to_owned();
        let mut names: Vec<String> = fields.iter().map(name).collect();
        for WrittenField { field, .. } in self.0.values().filter(|extended| extended.field.of_entry == entry) {
            let mut object = Map::new();
            let mut name = avro_name(&field.name).into_owned();
            if names.contains(&name) {
                name = format!("{name}_{}", field.id.unsigned_abs());
                while names.contains(&name) {
                    name.push('_');
                }
            } else if !valid_avro_name(&field.name) {
                object.insert("iceberg-field-name".into(), (*field.name).into());
            }
            object.insert("name".into(), name.as_str().into());
            names.push(name);
            object.insert("type".into(), field.avro_type.clone());
            if let Some(doc) = &field.doc {
                object.insert("doc".into(), (**doc).into());
            }
            object.insert("default".into(), Json::Null);
            object.insert("field-id".into(), field.id.into());
            fields.push(object.into());
        }
    }

    /// Writes a record's unknown values, to be placed after its own fields.
    pub(super) fn put(&self, out: &mut Vec<u8>, record: &UnknownFields) -> Result<()> {
        let mut values = record.by_id().into_iter().peekable();
        for (key, extended) in &self.0 {
            match values.next_if(|(field, _)| field.key() == *key) {
                Some((field, value)) => extended.put(out, field, value.bytes())?,
                None => put_long(out, 0),
            }
        }
        Ok(())
    }
}

impl WrittenField {
    fn put(&self, out: &mut Vec<u8>, field: &UnknownField, value: &[u8]) -> Result<()> {
        let other = self
            .others
            .as_ref()
            .and_then(|(to, others)| others.iter().find(|(ty, _)| *ty == field.avro_type).map(|(_, from)| (from, to)));
        let Some((from, to)) = other else {
            out.extend_from_slice(value);
            return Ok(());
        };
        put_as(out, &mut Cursor::new(value), (from, from.root()), (to, to.root()))
            .map_err(|why| damaged("unknown field", field.id, why))
    }
}

/// Parses a field's merged type, and those of `types` that differ from it.
fn others(what: &str, field: &UnknownField, types: Vec<Json>) -> Result<(WriterSchema, Vec<(Json, WriterSchema)>)> {
    let schema = |ty: &Json| {
        let bad = |why| FormatError::invalid(format!("{what}: field {} ({})", field.id, field.name), why);
        WriterSchema::parse(ty.to_string().as_bytes()).map_err(bad)
    };
    let others = types.into_iter().filter(|ty| *ty != field.avro_type);
    let others: Result<Vec<_>> = others.map(|ty| schema(&ty).map(|schema| (ty, schema))).collect();
    Ok((schema(&field.avro_type)?, others?))
}

/// Returns the error of a field that can't be decoded.
pub(super) fn damaged(what: &str, id: i32, why: &str) -> FormatError {
    FormatError::Avro { what: format!("{what}: field {id}"), why: why.to_owned() }
}
