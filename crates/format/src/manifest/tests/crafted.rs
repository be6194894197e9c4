//! Generators of unknown fields of any Avro type: proptest strategies for the types, and a seeded generator for the values.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::{Value as Json, json};

use crate::avro::{put_bytes, put_long};
use crate::fuzz::FuzzRng;

/// Generates an Avro type, in JSON. Named types (record, fixed, enum) have no name yet, and `{"reference": N}` stands for the N-th
/// named type before it, counted backwards from 0. [`name_types`] fills in both.
pub(super) fn any_type() -> impl Strategy<Value = Json> {
    simple().prop_recursive(3, 12, 3, |inner| {
        let nested = prop_oneof![inner.clone(), Just(json!(["null", {"reference": 0}])), Just(json!(["null", {"reference": 1}]))];
        let record = vec(nested.clone(), 0..4).prop_map(|types| {
            let field =
                |(at, ty): (usize, Json)| json!({"name": format!("f{at}"), "type": ty, "field-id": 8000 + at, "doc": "x"});
            json!({"type": "record", "fields": types.into_iter().enumerate().map(field).collect::<Vec<_>>()})
        });
        let unions = (record.clone(), inner.clone(), Just(()).prop_perturb(|(), mut rng| rng.random::<u8>()));
        let union = unions.prop_flat_map(|(record, items, size)| {
            let types = vec![
                json!("null"),
                json!("boolean"),
                json!({"type": "long", "logicalType": "timestamp-micros", "adjust-to-utc": true}),
                json!("string"),
                json!({"type": "array", "items": items, "element-id": 8100}),
                json!({"type": "enum", "symbols": ["A", "B"]}),
                json!({"type": "fixed", "size": size % 9 + 1}),
                record,
            ];
            subsequence(types, 2..6).prop_shuffle().prop_map(Json::from)
        });
        let option = inner.prop_filter("no union, and not null", |ty| !ty.is_array() && *ty != json!("null"));
        prop_oneof![
            record,
            union,
            option.clone().prop_map(|ty| json!(["null", ty])),
            option.prop_map(|ty| json!([ty, "null"])),
            nested.clone().prop_map(|items| json!({"type": "array", "items": items, "element-id": 8200})),
            nested.prop_map(|values| json!({"type": "map", "values": values, "key-id": 8300, "value-id": 8301})),
        ]
    })
}

/// Generates a type without inner types.
fn simple() -> impl Strategy<Value = Json> {
    let primitives = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
    prop_oneof![
        (0..primitives.len()).prop_map(move |at| primitives[at].into()),
        Just(json!({"type": "int", "logicalType": "date"})),
        Just(json!({"type": "long", "logicalType": "nobody-knows", "how": {"so": [1, "x"]}})),
        Just(json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2})),
        Just(json!({"type": "enum", "symbols": ["A", "B", "C"], "default": "A"})),
        (1_usize..20).prop_map(|size| json!({"type": "fixed", "size": size})),
    ]
}

/// The names of the first named types. Files that this crate writes use the same names for their own types, so names collide.
const NAMES: [&str; 6] = ["r2", "fixed_4", "x7000_0", "uuid_fixed", "manifest_entry", "k117_v118"];

/// Gives each named type within `ty` a name, and adds the types to `types`. A reference without a target becomes an int.
pub(super) fn name_types(ty: &mut Json, types: &mut Vec<(String, Json)>) {
    match ty {
        Json::Array(branches) => branches.iter_mut().for_each(|branch| name_types(branch, types)),
        Json::Object(object) => {
            if let Some(reference) = object.get("reference").and_then(Json::as_u64) {
                *ty = types.len().checked_sub(1 + reference as usize).map_or(json!("int"), |at| types[at].0.as_str().into());
                return;
            }
            let mut place = None;
            if ["record", "fixed", "enum"].iter().any(|kind| object["type"] == *kind) {
                let name = NAMES.get(types.len()).map_or_else(|| format!("n{}", types.len()), |name| (*name).to_owned());
                object.insert("name".into(), name.as_str().into());
                place = Some(types.len());
                types.push((name, Json::Null));
            }
            for key in ["items", "values"] {
                object.get_mut(key).into_iter().for_each(|ty| name_types(ty, types));
            }
            let fields = object.get_mut("fields").and_then(Json::as_array_mut);
            fields.into_iter().flatten().for_each(|field| name_types(&mut field["type"], types));
            if let Some(place) = place {
                types[place].1 = ty.clone();
            }
        }
        _ => {}
    }
}

/// A generator of encoded values.
pub(super) struct ValueGenerator<'a> {
    /// The source of random numbers.
    pub(super) rng: &'a mut FuzzRng,
    /// The named types, by name.
    pub(super) types: &'a HashMap<String, Json>,
}

impl ValueGenerator<'_> {
    /// Writes a value of a type. Returns the bytes that [`UnknownFields`](crate::UnknownFields) keep of it: a value of a union with
    /// null first. Returns `None` if the value is null or takes no bytes.
    pub(super) fn put(&mut self, out: &mut Vec<u8>, ty: &Json) -> Option<Vec<u8>> {
        let (start, mut kept) = (out.len(), Vec::new());
        match ty.as_array() {
            Some(branches) => {
                let at = self.rng.below(branches.len());
                put_long(out, at as i64);
                let start = out.len();
                self.value(out, &branches[at], 0);
                let place = branches[..=at].iter().filter(|branch| **branch != json!("null")).count();
                put_long(&mut kept, place as i64);
                kept.extend_from_slice(&out[start..]);
                (branches[at] != json!("null")).then_some(kept)
            }
            None => {
                self.value(out, ty, 0);
                put_long(&mut kept, 1);
                kept.extend_from_slice(&out[start..]);
                (out.len() > start).then_some(kept)
            }
        }
    }

    /// Writes a value of a type, within `depth` other values.
    fn value(&mut self, out: &mut Vec<u8>, ty: &Json, depth: u32) {
        let kind = match ty {
            Json::String(name) => match self.types.get(name) {
                Some(ty) => return self.value(out, &ty.clone(), depth),
                None => name.as_str(),
            },
            Json::Array(branches) => {
                // A recursive value must end.
                let null = branches.iter().position(|branch| *branch == json!("null")).filter(|_| depth > 6);
                let at = null.unwrap_or_else(|| self.rng.below(branches.len()));
                put_long(out, at as i64);
                return self.value(out, &branches[at], depth + 1);
            }
            ty => ty["type"].as_str().expect("a type"),
        };
        match kind {
            "null" => {}
            "boolean" => out.push(self.rng.below(2) as u8),
            "int" => put_long(out, self.rng.below(1 << 31) as i64 - (1 << 30)),
            "long" => put_long(out, self.rng.below(usize::MAX) as i64),
            "float" => out.extend((0..4).map(|_| self.rng.below(256) as u8)),
            "double" => out.extend((0..8).map(|_| self.rng.below(256) as u8)),
            "bytes" | "string" => {
                // A decimal has at least one digit.
                let length = self.rng.below(12) + usize::from(ty.is_object());
                let bytes: Vec<u8> = (0..length).map(|_| b'a' + self.rng.below(26) as u8).collect();
                put_bytes(out, &bytes);
            }
            "enum" => put_long(out, self.rng.below(2) as i64),
            "fixed" => out.extend((0..ty["size"].as_u64().expect("a size")).map(|_| self.rng.below(256) as u8)),
            "record" => {
                ty["fields"].as_array().expect("fields").iter().for_each(|field| self.value(out, &field["type"], depth + 1));
            }
            "array" => self.blocks(out, |values, out| values.value(out, &ty["items"], depth + 1)),
            "map" => self.blocks(out, |values, out| {
                let key = format!("k{}", values.rng.below(1000));
                put_bytes(out, key.as_bytes());
                values.value(out, &ty["values"], depth + 1);
            }),
            other => panic!("{other}"),
        }
    }

    /// Writes up to two blocks of one or two items each. About half of the blocks state their length in bytes, as Avro allows.
    fn blocks(&mut self, out: &mut Vec<u8>, item: impl Fn(&mut Self, &mut Vec<u8>)) {
        for _ in 0..self.rng.below(3) {
            let count = 1 + self.rng.below(2);
            let mut items = Vec::new();
            (0..count).for_each(|_| item(self, &mut items));
            if self.rng.below(2) == 0 {
                put_long(out, -(count as i64));
                put_bytes(out, &items);
            } else {
                put_long(out, count as i64);
                out.extend_from_slice(&items);
            }
        }
        put_long(out, 0);
    }
}
