//! The schema that a container file was written with.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

/// A writer's schema: types in one list, which name each other by place, so that types may refer to those around them.
#[derive(Debug, Clone)]
pub(crate) struct WriterSchema {
    nodes: Vec<Node>,
    root: usize,
}

/// A type.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) logical: Logical,
    /// The fewest bytes that a value takes. If there are none, no value of the type takes any.
    pub(crate) least: usize,
    /// The types of a record's fields whose values take bytes. There may be any number of others, which cost nothing to pass over.
    pub(crate) parts: Box<[usize]>,
}

/// What a type is made of.
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

/// A field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) id: Option<i32>,
    pub(crate) name: Box<str>,
    pub(crate) node: usize,
}

/// What a type's values mean.
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
    /// Out of the JSON of a file's header.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, String> {
        // This does not read JSON that is nested deeper than 128.
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

    /// The fields of a record; none of what is no record.
    pub(crate) fn fields(&self, at: usize) -> &[Field] {
        match &self.node(at).kind {
            NodeKind::Record(fields) => fields,
            _ => &[],
        }
    }

    /// The type of a union of null and one other, and the place of null in it; another type is itself.
    pub(crate) fn without_null(&self, at: usize) -> (usize, Option<usize>) {
        let NodeKind::Union(branches) = &self.node(at).kind else { return (at, None) };
        let is_null = |at: &usize| self.node(*at).kind == NodeKind::Null;
        match branches.as_ref() {
            [first, second] if is_null(first) && !is_null(second) => (*second, Some(0)),
            [first, second] if is_null(second) && !is_null(first) => (*first, Some(1)),
            _ => (at, None),
        }
    }

    /// Works out how many bytes values of each type take at least. A type within itself can only be behind a union, which takes a byte; one
    /// that is not has no values that end, and it does not matter what it is said to take.
    fn measure(&mut self) {
        let mut known = vec![None; self.nodes.len()];
        for at in 0..self.nodes.len() {
            self.least(at, &mut known, 0);
        }
        for (node, least) in self.nodes.iter_mut().zip(known) {
            node.least = least.unwrap_or(1);
        }
        for at in 0..self.nodes.len() {
            let parts = self.fields(at).iter().map(|field| field.node).filter(|node| self.nodes[*node].least > 0).collect();
            self.nodes[at].parts = parts;
        }
    }

    fn least(&self, at: usize, known: &mut [Option<usize>], depth: u32) -> usize {
        if let Some(least) = known[at] {
            return least;
        }
        // What is within itself, or too deep to be read anyway.
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
        // A file can't hold more; sums of such stay what they are.
        let least = least.min(1 << 40);
        known[at] = Some(least);
        least
    }
}

#[derive(Default)]
pub(super) struct Parser<'a> {
    pub(super) nodes: Vec<Node>,
    /// The JSON of each type, if that is an object.
    pub(super) sources: Vec<Option<&'a Map<String, Json>>>,
    names: HashMap<String, usize>,
}

impl<'a> Parser<'a> {
    fn add(&mut self, kind: NodeKind, logical: Logical, source: Option<&'a Map<String, Json>>) -> usize {
        self.nodes.push(Node { kind, logical, least: 0, parts: Box::default() });
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
            // A type around a type, which some writers leave.
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
                let kind = NodeKind::Fixed(size.ok_or("the size of a fixed type is no number")?);
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
        // Its name is known before its fields are read: they may refer to it.
        let at = self.add(NodeKind::Null, Logical::None, Some(object));
        let namespace = self.name(object, namespace, at);
        let Json::Array(fields) = part(object, "fields")? else { return Err("the fields of a record are no list".to_owned()) };
        let mut made = Vec::with_capacity(fields.len());
        for field in fields {
            let Json::Object(field) = field else { return Err("a field of a record is no object".to_owned()) };
            let name = field.get("name").and_then(Json::as_str).unwrap_or_default();
            let node = self.node(part(field, "type")?, &namespace).map_err(|why| format!("{name}: {why}"))?;
            made.push(Field { id: id(field, "field-id"), name: name.into(), node });
        }
        self.nodes[at].kind = NodeKind::Record(made.into());
        Ok(at)
    }

    /// Remembers a named type, and tells the namespace of what is in it.
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

/// An id. Some writers print it as text.
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
        assert_eq!(schema.node(schema.root()).least, 5);
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
        // A record of two of a record of two of ...: so many of nothing.
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
