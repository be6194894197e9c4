//! Merging of the Avro types of an unknown field that differ between files, and conversion of values to the merged type.
//!
//! Record fields are matched by id, in any order. A field that only one type has becomes optional, and is null in the values of the
//! other. Start with [`merged`] and [`put_as`].

use std::collections::HashSet;

use serde_json::{Value as Json, json};

use crate::avro::{Cursor, DecodeResult, NodeKind, WriterSchema, put_bytes, put_long};

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

/// Returns the type that can hold the values of both types of the field `id`, or `None` if there is no such type.
pub(super) fn merged(id: i32, a: &Json, b: &Json) -> Option<Json> {
    if is_recursive(a) || is_recursive(b) {
        return None;
    }
    let mut ty = of_both(a, b)?;
    rename(&mut ty, id, &mut 0);
    Some(ty)
}

/// Returns `true` if a type is recursive. Types of unknown fields are self-contained, so a name in one refers to a type around it.
fn is_recursive(ty: &Json) -> bool {
    match ty {
        Json::String(name) => !PRIMITIVES.contains(&name.as_str()),
        Json::Array(branches) => branches.iter().any(is_recursive),
        Json::Object(object) => {
            let named = ["record", "fixed", "enum", "array", "map"].iter().any(|kind| ty["type"] == *kind);
            let fields = object.get("fields").and_then(Json::as_array).into_iter().flatten().map(|field| &field["type"]);
            let inner = ["items", "values"].iter().filter_map(|key| object.get(*key));
            (!named && is_recursive(&ty["type"])) || fields.chain(inner).any(is_recursive)
        }
        _ => false,
    }
}

fn of_both(a: &Json, b: &Json) -> Option<Json> {
    if a == b {
        return Some(a.clone());
    }
    if a.is_array() || b.is_array() || a == "null" || b == "null" {
        return match (branch(a)?, branch(b)?) {
            (Some(a), Some(b)) => Some(json!(["null", of_both(a, b)?])),
            (one, other) => Some(one.or(other).map_or_else(|| json!("null"), |ty| json!(["null", ty]))),
        };
    }
    for (narrow, wide) in [("int", "long"), ("float", "double")] {
        if (a == narrow && b == wide) || (a == wide && b == narrow) {
            return Some(wide.into());
        }
    }
    let kind = a["type"].as_str().filter(|kind| b["type"] == **kind)?;
    let mut both = a.clone();
    match kind {
        "record" => both["fields"] = fields(a["fields"].as_array()?, b["fields"].as_array()?)?.into(),
        "array" => both["items"] = of_both(&a["items"], &b["items"])?,
        "map" => both["values"] = of_both(&a["values"], &b["values"])?,
        "fixed" | "enum" => {}
        _ => return None,
    }
    // All other attributes must be equal, except for the name, which has no meaning.
    let mut other = b.clone();
    for key in ["fields", "items", "values", "name"] {
        if let (Some(value), Some(other)) = (both.get(key), other.get_mut(key)) {
            *other = value.clone();
        }
    }
    (other == both).then_some(both)
}

/// Returns the type other than null in a union, or a type that is no union. Returns `None` for a union of several other types.
fn branch(ty: &Json) -> Option<Option<&Json>> {
    match ty {
        Json::Array(branches) => {
            let mut others = branches.iter().filter(|branch| *branch != "null");
            let first = others.next();
            others.next().is_none().then_some(first)
        }
        ty => Some(Some(ty).filter(|ty| *ty != "null")),
    }
}

fn fields(a: &[Json], b: &[Json]) -> Option<Vec<Json>> {
    let id = |field: &Json| field["field-id"].as_i64();
    let ids = |fields: &[Json]| -> Option<HashSet<i64>> {
        let ids: HashSet<i64> = fields.iter().map(id).collect::<Option<_>>()?;
        (ids.len() == fields.len()).then_some(ids)
    };
    let of_a = ids(a)?;
    ids(b)?;
    let mut both = Vec::with_capacity(a.len());
    for field in a {
        let mut field = field.clone();
        field["type"] = match b.iter().find(|other| id(other) == id(&field)) {
            Some(other) => of_both(&field["type"], &other["type"])?,
            None => optional(&field["type"]),
        };
        both.push(field);
    }
    let mut names: HashSet<String> = both.iter().filter_map(|field| field["name"].as_str()).map(str::to_owned).collect();
    for field in b.iter().filter(|field| id(field).is_some_and(|id| !of_a.contains(&id))) {
        let mut field = field.clone();
        let mut name = field["name"].as_str()?.to_owned();
        if names.contains(&name) {
            name = format!("{name}_{}", id(&field)?.unsigned_abs());
            while names.contains(&name) {
                name.push('_');
            }
            field["name"] = name.as_str().into();
        }
        names.insert(name);
        field["type"] = optional(&field["type"]);
        both.push(field);
    }
    Some(both)
}

/// Returns the type as a union with null as the first branch.
fn optional(ty: &Json) -> Json {
    match ty {
        Json::Array(branches) => {
            let others = branches.iter().filter(|branch| *branch != "null").cloned();
            Json::Array(std::iter::once(json!("null")).chain(others).collect())
        }
        ty if ty == "null" => ty.clone(),
        ty => json!(["null", ty]),
    }
}

/// Renames all named types so that they differ from each other and from those of other fields.
fn rename(ty: &mut Json, id: i32, next: &mut usize) {
    match ty {
        Json::Array(branches) => branches.iter_mut().for_each(|branch| rename(branch, id, next)),
        Json::Object(object) => {
            if object.contains_key("name") {
                object.insert("name".to_owned(), format!("x{id}_{next}").into());
                *next += 1;
            }
            for key in ["items", "values"] {
                object.get_mut(key).into_iter().for_each(|ty| rename(ty, id, next));
            }
            let fields = object.get_mut("fields").and_then(Json::as_array_mut);
            fields.into_iter().flatten().for_each(|field| rename(&mut field["type"], id, next));
        }
        _ => {}
    }
}

/// Converts a value from the type `from` to the type `to`, which is a merge of `from` with others.
pub(super) fn put_as(
    out: &mut Vec<u8>,
    cursor: &mut Cursor<'_>,
    from: (&WriterSchema, usize),
    to: (&WriterSchema, usize),
) -> DecodeResult<()> {
    const OTHER: &str = "its type does not fit the merged type";
    let ((source, a), (target, b)) = (from, to);
    let null = |branches: &[usize]| branches.iter().position(|at| target.node(*at).kind == NodeKind::Null).ok_or(OTHER);
    match (&source.node(a).kind, &target.node(b).kind) {
        (NodeKind::Union(types), NodeKind::Union(branches)) => {
            let at = cursor.branch(types)?;
            let others = |schema: &WriterSchema, branches: &[usize]| -> Vec<usize> {
                (0..branches.len()).filter(|place| schema.node(branches[*place]).kind != NodeKind::Null).collect()
            };
            // If there are several types, their order is the same in both unions, but null may be elsewhere.
            let place = match others(source, types).iter().position(|place| types[*place] == at) {
                Some(nth) => *others(target, branches).get(nth).ok_or(OTHER)?,
                None => null(branches)?,
            };
            put_long(out, place as i64);
            put_as(out, cursor, (source, at), (target, branches[place]))
        }
        (kind, NodeKind::Union(branches)) => {
            let place = match kind {
                NodeKind::Null => null(branches)?,
                _ => branches.iter().position(|at| target.node(*at).kind != NodeKind::Null).ok_or(OTHER)?,
            };
            put_long(out, place as i64);
            put_as(out, cursor, from, (target, branches[place]))
        }
        (NodeKind::Record(_), NodeKind::Record(wanted)) => {
            let mut places = Vec::new();
            for field in source.fields(a) {
                places.push((field, *cursor));
                cursor.skip(source, field.node)?;
            }
            for (at, field) in wanted.iter().enumerate() {
                let found = match field.id {
                    Some(_) => places.iter().find(|(other, _)| other.id == field.id),
                    // Records without field ids are merged only if they are equal.
                    None => places.get(at),
                };
                match (found, &target.node(field.node).kind) {
                    (Some((other, place)), _) => put_as(out, &mut place.clone(), (source, other.node), (target, field.node))?,
                    (None, NodeKind::Union(branches)) => put_long(out, null(branches)? as i64),
                    (None, NodeKind::Null) => {}
                    (None, _) => return Err(OTHER),
                }
            }
            Ok(())
        }
        (NodeKind::Array { items: a, .. }, NodeKind::Array { items: b, .. }) => {
            while let Some(count) = cursor.items(source.node(*a).min_size)? {
                put_long(out, count as i64);
                for _ in 0..count {
                    put_as(out, cursor, (source, *a), (target, *b))?;
                }
            }
            put_long(out, 0);
            Ok(())
        }
        (NodeKind::Map { values: a }, NodeKind::Map { values: b }) => {
            while let Some(count) = cursor.items(source.node(*a).min_size + 1)? {
                put_long(out, count as i64);
                for _ in 0..count {
                    put_bytes(out, cursor.bytes()?);
                    put_as(out, cursor, (source, *a), (target, *b))?;
                }
            }
            put_long(out, 0);
            Ok(())
        }
        (NodeKind::Float, NodeKind::Double) => {
            let bytes = cursor.take(4)?;
            let value = bytes.first_chunk().map_or(f32::NAN, |bytes| f32::from_le_bytes(*bytes));
            out.extend_from_slice(&f64::from(value).to_le_bytes());
            Ok(())
        }
        _ => {
            let start = *cursor;
            cursor.skip(source, a)?;
            out.extend_from_slice(cursor.since(&start));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(ty: &Json) -> WriterSchema {
        WriterSchema::parse(ty.to_string().as_bytes()).expect("a type")
    }

    fn converted(value: &[u8], from: &Json, to: &Json) -> Vec<u8> {
        let (source, target, mut out) = (parsed(from), parsed(to), Vec::new());
        let mut cursor = Cursor::new(value);
        put_as(&mut out, &mut cursor, (&source, source.root()), (&target, target.root())).expect("converted");
        assert!(cursor.rest().is_empty());
        let mut cursor = Cursor::new(&out);
        cursor.skip(&target, target.root()).expect("a value of the type");
        assert!(cursor.rest().is_empty(), "{out:?} of {to}");
        out
    }

    #[test]
    fn records_are_merged_by_the_ids_of_their_fields() {
        let field = |name: &str, id: i32, ty: Json| json!({"name": name, "field-id": id, "type": ty});
        let record = |fields: &[Json]| json!(["null", {"type": "record", "name": "x9_0", "fields": fields}]);
        let early = record(&[field("n", 1, json!("int")), field("s", 2, json!(["null", "string"]))]);
        let item = json!({"type": "record", "name": "x9_1", "fields": [field("v", 5, json!("float"))]});
        let list = json!({"type": "array", "element-id": 4, "items": item});
        let late = record(&[field("s", 2, json!("string")), field("n", 3, list.clone()), field("n", 1, json!("long"))]);
        let both = merged(9, &early, &late).expect("merged");
        let expected = record(&[
            field("n", 1, json!("long")),
            field("s", 2, json!(["null", "string"])),
            field("n_3", 3, json!(["null", list])),
        ]);
        assert_eq!(both, expected);
        assert_eq!(merged(9, &both, &late), Some(both.clone()));
        // `n` is 7, `s` is "a".
        assert_eq!(converted(&[2, 14, 2, 2, b'a'], &early, &both), [2, 14, 2, 2, b'a', 0]);
        assert_eq!(converted(&[0], &early, &both), [0]);
        // `s` is "a", the list has one item 0.5, `n` is -1.
        let value = [&[2, 2, b'a', 2][..], &0.5_f32.to_le_bytes(), &[0, 1]].concat();
        let as_both = [&[2, 1, 2, 2, b'a', 2, 2][..], &0.5_f32.to_le_bytes(), &[0]].concat();
        assert_eq!(converted(&value, &late, &both), as_both);
    }

    #[test]
    fn types_that_have_no_values_in_common_are_not_merged() {
        let array = |items: Json, id: i32| json!({"type": "array", "items": items, "element-id": id});
        let map = |values: Json| json!({"type": "map", "values": values, "key-id": 1, "value-id": 2});
        assert_eq!(merged(9, &json!(["null", "int"]), &json!(["null", "long"])), Some(json!(["null", "long"])));
        assert_eq!(merged(9, &json!(["null"]), &json!(["null", "long"])), Some(json!(["null", "long"])));
        assert_eq!(merged(9, &map(json!("float")), &map(json!(["double", "null"]))), Some(map(json!(["null", "double"]))));
        assert_eq!(converted(&[2, 2, b'k', 0, 0, 0, 63, 0], &map(json!("float")), &map(json!(["null", "double"]))).len(), 13);
        let date = json!({"type": "int", "logicalType": "date"});
        let fixed = |size: u32| json!({"type": "fixed", "name": "x9_0", "size": size});
        let record = |field: Json| json!({"type": "record", "name": "x9_0", "fields": [field]});
        for (a, b) in [
            (json!("int"), json!("string")),
            (json!("int"), date.clone()),
            (json!(["null", "int", "string"]), json!(["null", "int"])),
            (array(json!("int"), 4), array(json!("string"), 4)),
            (array(json!("int"), 4), array(json!("long"), 5)),
            (fixed(3), fixed(4)),
            // Without ids, nothing tells which fields correspond.
            (record(json!({"name": "a", "type": "int"})), record(json!({"name": "a", "type": "long"}))),
            (
                record(json!({"name": "a", "type": ["null", "x9_0"], "field-id": 1})),
                record(json!({"name": "b", "type": ["null", "x9_0"], "field-id": 2})),
            ),
        ] {
            assert_eq!(merged(9, &a, &b), None, "{a} {b}");
            assert_eq!(merged(9, &b, &a), None, "{b} {a}");
        }
    }
}
