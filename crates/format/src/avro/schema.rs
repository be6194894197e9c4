//! The schema with which a container file was written.
//!
//! The types form a list; they refer to each other by index ("node"), so that recursive types need no pointers. For each type the
//! smallest size of its values is computed, which bounds the counts that a damaged file can claim.
//!
//! Spec: Avro specification, "Schema Declaration". Start with [`WriterSchema`].

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

/// The schema of a file: a list of types that refer to each other by index.
#[derive(Debug, Clone)]
pub(crate) struct WriterSchema {
    nodes: Vec<Node>,
    root: usize,
}

/// A type of a schema.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) logical: Logical,
    /// The smallest size of a value, in bytes. If it is 0, every value of the type takes 0 bytes.
    pub(crate) min_size: usize,
    /// The types of a record's fields whose values take bytes. A record may have any number of other fields; they cost nothing to
    /// skip.
    pub(crate) parts: Box<[usize]>,
}

/// The structure of a type. Numbers are indexes of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Enum,
    Fixed(usize),
    Union(Box<[usize]>),
    Record(Box<[Field]>),
    Array { items: usize, element_id: Option<i32> },
    Map { values: usize },
}

/// A field of a record. Its id is Iceberg's `field-id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) id: Option<i32>,
    pub(crate) name: Box<str>,
    pub(crate) node: usize,
}

/// The logical type of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Logical {
    #[default]
    None,
    Date,
    TimeMicros,
    TimestampMicros {
        utc: bool,
    },
    TimestampNanos {
        utc: bool,
    },
    Decimal {
        precision: u32,
        scale: u32,
    },
    Uuid,
}

impl WriterSchema {
    /// Parses the JSON of a file's header.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, String> {
        // The JSON parser rejects a nesting deeper than 128.
        let json: Json = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let mut parser = Parser::default();
        let root = parser.node(&json, "")?;
        let mut schema = Self { nodes: parser.nodes, root };
        schema.measure();
        Ok(schema)
    }

    pub(crate) fn node(&self, at: usize) -> &Node {
        &self.nodes[at]
    }

    pub(crate) const fn root(&self) -> usize {
        self.root
    }

    /// Returns the fields of a record; an empty slice for another type.
    pub(crate) fn fields(&self, at: usize) -> &[Field] {
        match &self.node(at).kind {
            NodeKind::Record(fields) => fields,
            _ => &[],
        }
    }

    /// Returns the other type of a union of null and one type, and the position of null in the union. Returns any other type itself
    /// and `None`.
    pub(crate) fn without_null(&self, at: usize) -> (usize, Option<usize>) {
        let NodeKind::Union(branches) = &self.node(at).kind else { return (at, None) };
        let is_null = |at: &usize| self.node(*at).kind == NodeKind::Null;
        match branches.as_ref() {
            [first, second] if is_null(first) && !is_null(second) => (*second, Some(0)),
            [first, second] if is_null(second) && !is_null(first) => (*first, Some(1)),
            _ => (at, None),
        }
    }

    /// Computes the smallest size of the values of each type.
    ///
    /// A recursive type that ends has a union in each cycle, and a union takes at least a byte. Any other recursive type has no
    /// finite values, so its size does not matter.
    fn measure(&mut self) {
        let mut known = vec![None; self.nodes.len()];
        for at in 0..self.nodes.len() {
            self.least(at, &mut known, 0);
        }
        for (node, least) in self.nodes.iter_mut().zip(known) {
            node.min_size = least.unwrap_or(1);
        }
        for at in 0..self.nodes.len() {
            let parts = self.fields(at).iter().map(|field| field.node).filter(|node| self.nodes[*node].min_size > 0).collect();
            self.nodes[at].parts = parts;
        }
    }

    fn least(&self, at: usize, known: &mut [Option<usize>], depth: u32) -> usize {
        if let Some(least) = known[at] {
            return least;
        }
        // A cycle, or a nesting that is too deep to be read anyway.
        known[at] = Some(1);
        if depth > 128 {
            return 1;
        }
        let least = match &self.nodes[at].kind {
            NodeKind::Null => 0,
            NodeKind::Fixed(length) => *length,
            NodeKind::Float => 4,
            NodeKind::Double => 8,
            NodeKind::Record(fields) => {
                fields.iter().fold(0_usize, |sum, field| sum.saturating_add(self.least(field.node, known, depth + 1)))
            }
            NodeKind::Boolean
            | NodeKind::Int
            | NodeKind::Long
            | NodeKind::Bytes
            | NodeKind::String
            | NodeKind::Enum
            | NodeKind::Union(_)
            | NodeKind::Array { .. }
            | NodeKind::Map { .. } => 1,
        };
        // No file is larger; the limit keeps sums from overflowing.
        let least = least.min(1 << 40);
        known[at] = Some(least);
        least
    }
}

#[derive(Default)]
pub(super) struct Parser<'a> {
    pub(super) nodes: Vec<Node>,
    /// The JSON object of each type; `None` if its JSON is a name or a list.
    pub(super) sources: Vec<Option<&'a Map<String, Json>>>,
    names: HashMap<String, usize>,
}

impl<'a> Parser<'a> {
    fn add(&mut self, kind: NodeKind, logical: Logical, source: Option<&'a Map<String, Json>>) -> usize {
        self.nodes.push(Node { kind, logical, min_size: 0, parts: Box::default() });
        self.sources.push(source);
        self.nodes.len() - 1
    }

    pub(super) fn node(&mut self, json: &'a Json, namespace: &str) -> Result<usize, String> {
        match json {
            Json::String(name) => match primitive(name) {
                Some(kind) => Ok(self.add(kind, Logical::None, None)),
                None => self.named(name, namespace),
            },
            Json::Array(branches) => {
                let branches: Result<_, _> = branches.iter().map(|branch| self.node(branch, namespace)).collect();
                Ok(self.add(NodeKind::Union(branches?), Logical::None, None))
            }
            Json::Object(object) => self.object(object, namespace),
            other => Err(format!("a type is a name, a list or an object, not {other}")),
        }
    }

    fn named(&self, name: &str, namespace: &str) -> Result<usize, String> {
        let full = if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") };
        let found = self.names.get(&full).or_else(|| self.names.get(name));
        found.copied().ok_or_else(|| format!("there is no type {name}"))
    }

    fn object(&mut self, object: &'a Map<String, Json>, namespace: &str) -> Result<usize, String> {
        let ty = match object.get("type") {
            Some(Json::String(name)) => name.as_str(),
            // Some writers wrap a type in another `type` object.
            Some(inner) => return self.node(inner, namespace),
            None => return Err("a type has no type".to_owned()),
        };
        let logical = logical(object);
        if let Some(kind) = primitive(ty) {
            return Ok(self.add(kind, logical, Some(object)));
        }
        match ty {
            "array" => {
                let items = self.node(part(object, "items")?, namespace)?;
                Ok(self.add(NodeKind::Array { items, element_id: id(object, "element-id") }, logical, Some(object)))
            }
            "map" => {
                let values = self.node(part(object, "values")?, namespace)?;
                Ok(self.add(NodeKind::Map { values }, logical, Some(object)))
            }
            "record" | "error" => self.record(object, namespace),
            "fixed" => {
                let size = part(object, "size")?.as_u64().and_then(|size| usize::try_from(size).ok());
                let kind = NodeKind::Fixed(size.ok_or("the size of a fixed type is not a number")?);
                let at = self.add(kind, logical, Some(object));
                self.name(object, namespace, at);
                Ok(at)
            }
            "enum" => {
                let at = self.add(NodeKind::Enum, logical, Some(object));
                self.name(object, namespace, at);
                Ok(at)
            }
            name => self.named(name, namespace),
        }
    }

    fn record(&mut self, object: &'a Map<String, Json>, namespace: &str) -> Result<usize, String> {
        // The name is registered before the fields are parsed, because they may refer to it.
        let at = self.add(NodeKind::Null, Logical::None, Some(object));
        let namespace = self.name(object, namespace, at);
        let Json::Array(fields) = part(object, "fields")? else { return Err("the fields of a record are not a list".to_owned()) };
        let mut made = Vec::with_capacity(fields.len());
        for field in fields {
            let Json::Object(field) = field else { return Err("a field of a record is not an object".to_owned()) };
            let name = field.get("name").and_then(Json::as_str).unwrap_or_default();
            let node = self.node(part(field, "type")?, &namespace).map_err(|why| format!("{name}: {why}"))?;
            made.push(Field { id: id(field, "field-id"), name: name.into(), node });
        }
        self.nodes[at].kind = NodeKind::Record(made.into());
        Ok(at)
    }

    /// Registers a named type, and returns the namespace for the names within it.
    fn name(&mut self, object: &Map<String, Json>, around: &str, at: usize) -> String {
        let name = object.get("name").and_then(Json::as_str).unwrap_or_default();
        let (namespace, full) = match name.rsplit_once('.') {
            Some((namespace, _)) => (namespace.to_owned(), name.to_owned()),
            None => {
                let namespace = object.get("namespace").and_then(Json::as_str).unwrap_or(around);
                let full = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") };
                (namespace.to_owned(), full)
            }
        };
        self.names.insert(full, at);
        namespace
    }
}

pub(super) fn part<'a>(object: &'a Map<String, Json>, name: &str) -> Result<&'a Json, String> {
    object.get(name).ok_or_else(|| format!("a type has no {name}"))
}

/// Returns an Iceberg id. Some writers print ids as text.
fn id(object: &Map<String, Json>, name: &str) -> Option<i32> {
    match object.get(name)? {
        Json::Number(number) => number.as_i64().and_then(|id| i32::try_from(id).ok()),
        Json::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn primitive(name: &str) -> Option<NodeKind> {
    Some(match name {
        "null" => NodeKind::Null,
        "boolean" => NodeKind::Boolean,
        "int" => NodeKind::Int,
        "long" => NodeKind::Long,
        "float" => NodeKind::Float,
        "double" => NodeKind::Double,
        "bytes" => NodeKind::Bytes,
        "string" => NodeKind::String,
        _ => return None,
    })
}

fn logical(object: &Map<String, Json>) -> Logical {
    let number = |name: &str| object.get(name).and_then(Json::as_u64).and_then(|value| u32::try_from(value).ok());
    let utc = object.get("adjust-to-utc").and_then(Json::as_bool).unwrap_or(false);
    match object.get("logicalType").and_then(Json::as_str).unwrap_or_default() {
        "date" => Logical::Date,
        "time-micros" => Logical::TimeMicros,
        "timestamp-micros" => Logical::TimestampMicros { utc },
        "timestamp-nanos" => Logical::TimestampNanos { utc },
        "local-timestamp-micros" => Logical::TimestampMicros { utc: false },
        "local-timestamp-nanos" => Logical::TimestampNanos { utc: false },
        "uuid" => Logical::Uuid,
        "decimal" => match number("precision") {
            Some(precision) => Logical::Decimal { precision, scale: number("scale").unwrap_or(0) },
            None => Logical::None,
        },
        _ => Logical::None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::avro::Cursor;

    fn parsed(json: Json) -> WriterSchema {
        WriterSchema::parse(json.to_string().as_bytes()).expect("a schema")
    }

    #[test]
    fn named_types_are_found_within_their_namespaces() {
        let schema = parsed(json!({"type": "record", "name": "a.r", "fields": [
            {"name": "f", "type": {"type": "fixed", "name": "x", "size": 3}, "field-id": 5},
            {"name": "g", "type": ["null", "x"], "field-id": "7"},
            {"name": "h", "type": ["a.r", "null"]}]}));
        let fields = schema.fields(schema.root());
        assert_eq!(fields.iter().map(|field| field.id).collect::<Vec<_>>(), [Some(5), Some(7), None]);
        assert_eq!(schema.without_null(fields[1].node), (fields[0].node, Some(0)));
        assert_eq!(schema.without_null(fields[2].node), (schema.root(), Some(1)));
        assert_eq!(schema.node(schema.root()).min_size, 5);
        let error = WriterSchema::parse(br#"{"type":"array","items":"b"}"#).expect_err("no such type");
        assert_eq!(error, "there is no type b");
    }

    #[test]
    fn what_takes_no_bytes_is_not_counted_out_and_what_never_ends_is_refused() {
        let nulls = parsed(json!({"type": "array", "items": "null"}));
        let mut bytes = Vec::new();
        crate::avro::put_long(&mut bytes, i64::MAX);
        bytes.push(0);
        assert_eq!(Cursor::new(&bytes).skip(&nulls, nulls.root()), Ok(()));
        let endless = parsed(json!({"type": "record", "name": "r", "fields": [{"name": "f", "type": "r"}]}));
        assert!(Cursor::new(&bytes).skip(&endless, endless.root()).is_err());
        // Each record has two fields of the record before it: the number of fields is exponential, their size is zero.
        let mut types: Vec<Json> = vec![json!({"name": "f0", "type": {"type": "record", "name": "r0", "fields": []}})];
        for n in 1..60 {
            let inner = format!("r{}", n - 1);
            let fields = json!([{"name": "a", "type": inner}, {"name": "b", "type": inner}]);
            types.push(json!({"name": format!("f{n}"), "type": {"type": "record", "name": format!("r{n}"), "fields": fields}}));
        }
        let wide = parsed(json!({"type": "record", "name": "r", "fields": types}));
        assert_eq!(Cursor::new(&[]).skip(&wide, wide.root()), Ok(()));
    }
}
