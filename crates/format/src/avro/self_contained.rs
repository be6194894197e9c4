//! Self-contained Avro types for unknown fields, so that a field of one file can be written into another.
//!
//! A type in a file's schema may refer by name to types anywhere in that schema. Here such references are replaced by the types
//! themselves, and named types get new names that are unique per field.

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use super::schema::{Field, NodeKind, Parser, part};
use crate::UnknownField;

/// The limit of a type's nesting in its JSON. A manifest's schema adds up to ten levels, and JSON parsers accept 128.
const DEPTH: usize = 100;

/// Attributes of a type that are not copied: those that are rebuilt, those that readers of values ignore, and names, which are made
/// anew. Defaults apply only to fields that a file lacks.
const DROPPED: [&str; 10] = ["type", "name", "namespace", "aliases", "doc", "default", "order", "fields", "items", "values"];

/// Returns self-contained definitions of some fields.
///
/// `json` is the schema of the file as the header has it. `places` has for each field the node of its record in the
/// [`super::WriterSchema`] and the field's position in it. An error names the field by its id.
pub(crate) fn self_contained_fields(json: &[u8], places: &[(usize, usize)]) -> Result<Vec<UnknownField>, (i32, &'static str)> {
    const NONE: (i32, &str) = (-1, "its schema is invalid");
    let length = json.len();
    let json: Json = serde_json::from_slice(json).map_err(|_| NONE)?;
    let mut parser = Parser::default();
    parser.node(&json, "").map_err(|_| NONE)?;
    // A type that many fields share is printed for each of them, so the total size needs a limit.
    let mut left = length.saturating_mul(4).saturating_add(1 << 20);
    let mut alone = Vec::with_capacity(places.len());
    for (record, place) in places {
        let (NodeKind::Record(fields), Some(source)) = (&parser.nodes[*record].kind, parser.sources[*record]) else {
            return Err(NONE);
        };
        let sources = part(source, "fields").ok().and_then(Json::as_array).ok_or(NONE)?;
        let (field, source) = (&fields[*place], &sources[*place]);
        let id = field.id.unwrap_or(-1);
        let text = |key: &str| source.get(key).and_then(Json::as_str);
        let mut printer = TypeInliner { parser: &parser, id, around: HashMap::new(), named: 0, left: &mut left };
        alone.push(UnknownField {
            id,
            of_entry: false,
            name: text("iceberg-field-name").unwrap_or(&field.name).into(),
            doc: text("doc").map(Into::into),
            avro_type: printer.optional(field.node).map_err(|why| (id, why))?,
        });
    }
    Ok(alone)
}

struct TypeInliner<'a, 'b> {
    parser: &'b Parser<'a>,
    id: i32,
    /// Names of the types around the one that is being printed, by node. Only recursive references use a name: PyIceberg resolves
    /// no names, and the `apache-avro` crate resolves none within fields that it skips.
    around: HashMap<usize, String>,
    /// The number of names given so far.
    named: usize,
    /// The number of bytes that may still be printed.
    left: &'b mut usize,
}

impl TypeInliner<'_, '_> {
    /// Returns the type as a union whose first branch is null.
    fn optional(&mut self, node: usize) -> Result<Json, &'static str> {
        let mut types = vec![json!("null")];
        match &self.parser.nodes[node].kind {
            NodeKind::Null => {}
            NodeKind::Union(branches) => {
                for branch in branches.iter().filter(|branch| self.parser.nodes[**branch].kind != NodeKind::Null) {
                    types.push(self.print(*branch, 1)?);
                }
            }
            _ => types.push(self.print(node, 1)?),
        }
        Ok(types.into())
    }

    fn print(&mut self, node: usize, depth: usize) -> Result<Json, &'static str> {
        if depth > DEPTH {
            return Err("its types are nested too deep");
        }
        if let Some(name) = self.around.get(&node) {
            return Ok(name.as_str().into());
        }
        let source = self.parser.sources[node];
        let kind = &self.parser.nodes[node].kind;
        if let NodeKind::Union(branches) = kind {
            let branches: Result<Vec<Json>, _> = branches.iter().map(|branch| self.print(*branch, depth + 1)).collect();
            return branches.map(Json::from);
        }
        let mut object = self.said(source.into_iter().flatten())?;
        if matches!(kind, NodeKind::Record(_) | NodeKind::Fixed(_) | NodeKind::Enum) {
            let name = format!("x{}_{}", self.id.unsigned_abs(), self.named);
            object.insert("name".to_owned(), name.as_str().into());
            self.around.insert(node, name);
            self.named += 1;
        }
        let inner = match kind {
            NodeKind::Record(fields) => Some(("fields", self.fields(fields, source, depth)?)),
            NodeKind::Array { items, .. } => Some(("items", self.print(*items, depth + 1)?)),
            NodeKind::Map { values } => Some(("values", self.print(*values, depth + 1)?)),
            _ => None,
        };
        self.around.remove(&node);
        if let Some((key, inner)) = inner {
            object.insert(key.to_owned(), inner);
        }
        if object.is_empty() {
            return Ok(name(kind).into());
        }
        object.insert("type".to_owned(), name(kind).into());
        Ok(object.into())
    }

    fn fields(&mut self, fields: &[Field], source: Option<&Map<String, Json>>, depth: usize) -> Result<Json, &'static str> {
        let sources = source.and_then(|source| source.get("fields")).and_then(Json::as_array);
        let mut printed = Vec::with_capacity(fields.len());
        for (field, source) in fields.iter().zip(sources.into_iter().flatten()) {
            let mut object = self.said(source.as_object().into_iter().flatten())?;
            object.insert("name".to_owned(), (*field.name).into());
            object.insert("type".to_owned(), self.print(field.node, depth + 3)?);
            printed.push(Json::from(object));
        }
        Ok(printed.into())
    }

    /// Returns the attributes of a type or field, without those in [`DROPPED`].
    fn said<'c>(&mut self, source: impl Iterator<Item = (&'c String, &'c Json)>) -> Result<Map<String, Json>, &'static str> {
        let mut said = Map::new();
        let mut length = 32;
        for (key, value) in source.filter(|(key, _)| !DROPPED.contains(&key.as_str())) {
            length += key.len() + value.to_string().len();
            said.insert(key.clone(), value.clone());
        }
        *self.left = self.left.checked_sub(length).ok_or("its types are too large together")?;
        Ok(said)
    }
}

const fn name(kind: &NodeKind) -> &'static str {
    match kind {
        NodeKind::Null => "null",
        NodeKind::Boolean => "boolean",
        NodeKind::Int => "int",
        NodeKind::Long => "long",
        NodeKind::Float => "float",
        NodeKind::Double => "double",
        NodeKind::Bytes => "bytes",
        NodeKind::String => "string",
        NodeKind::Enum => "enum",
        NodeKind::Fixed(_) => "fixed",
        NodeKind::Record(_) => "record",
        NodeKind::Array { .. } => "array",
        NodeKind::Map { .. } => "map",
        NodeKind::Union(_) => "union",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avro::WriterSchema;

    fn alone(schema: &Json) -> Result<Vec<UnknownField>, (i32, &'static str)> {
        let json = schema.to_string();
        let parsed = WriterSchema::parse(json.as_bytes()).expect("a schema");
        let root = parsed.root();
        let places: Vec<_> = (0..parsed.fields(root).len()).map(|place| (root, place)).collect();
        self_contained_fields(json.as_bytes(), &places)
    }

    #[test]
    fn types_stand_alone_and_say_what_their_writer_says() {
        let schema = json!({"type": "record", "name": "a.r", "fields": [
            {"name": "f", "type": {"type": "fixed", "name": "x", "size": 3, "logicalType": "later", "aliases": ["y"]}, "field-id": 5},
            {"name": "_x2603", "iceberg-field-name": "☃", "doc": "said", "field-id": "6", "default": 1, "type": [
                {"type": "record", "name": "b.s", "doc": "not said", "fields": [
                    {"name": "of", "type": "a.x", "field-id": 7, "default": "abc", "kept": {"so": 1}},
                    {"name": "twice", "type": "a.x"},
                    {"name": "again", "type": ["null", {"type": "array", "items": "s", "element-id": 8}]},
                    {"name": "kind", "type": {"type": "enum", "name": "e", "symbols": ["A"], "default": "A"}},
                    {"name": "around", "type": {"type": {"type": "int", "logicalType": "date"}}}]},
                "null", {"type": "long"}]}]});
        let fields = alone(&schema).expect("fields");
        assert_eq!(fields[0].avro_type, json!(["null", {"type": "fixed", "name": "x5_0", "size": 3, "logicalType": "later"}]));
        assert_eq!((fields[1].id, &*fields[1].name, fields[1].doc.as_deref()), (6, "☃", Some("said")));
        let expected = json!(["null", {"type": "record", "name": "x6_0", "fields": [
            {"name": "of", "type": {"type": "fixed", "name": "x6_1", "size": 3, "logicalType": "later"}, "field-id": 7, "kept": {"so": 1}},
            {"name": "twice", "type": {"type": "fixed", "name": "x6_2", "size": 3, "logicalType": "later"}},
            {"name": "again", "type": ["null", {"type": "array", "items": "x6_0", "element-id": 8}]},
            {"name": "kind", "type": {"type": "enum", "name": "x6_3", "symbols": ["A"]}},
            {"name": "around", "type": {"type": "int", "logicalType": "date"}}]}, "long"]);
        assert_eq!(fields[1].avro_type, expected);
    }

    #[test]
    fn types_that_grow_when_they_stand_alone_are_refused() {
        // Each type contains the one before it, once or twice. Self-contained, it is as deep as there are types, or as large as all
        // of them.
        let nested = |names: &[&str]| {
            let mut fields = vec![json!({"name": "f0", "field-id": 0, "type": {"type": "fixed", "name": "r0", "size": 1}})];
            for n in 1..60 {
                let inner: Vec<Json> = names.iter().map(|name| json!({"name": name, "type": format!("r{}", n - 1)})).collect();
                let record = json!({"type": "record", "name": format!("r{n}"), "fields": inner});
                fields.push(json!({"name": "f", "field-id": n, "type": record}));
            }
            alone(&json!({"type": "record", "name": "r", "fields": fields})).expect_err("too large")
        };
        assert_eq!(nested(&["a"]), (34, "its types are nested too deep"));
        assert_eq!(nested(&["a", "b"]).1, "its types are too large together");
        // One large type that many fields share.
        let symbols: Vec<String> = (0..20_000).map(|n| format!("symbol_{n}")).collect();
        let large = json!({"type": "enum", "name": "e", "symbols": symbols});
        let mut fields = vec![json!({"name": "f", "field-id": 0, "type": large})];
        fields.extend((1..1000).map(|id| json!({"name": "f", "field-id": id, "type": "e"})));
        let error = alone(&json!({"type": "record", "name": "r", "fields": fields})).expect_err("hundreds of megabytes");
        assert_eq!(error.1, "its types are too large together");
    }
}
