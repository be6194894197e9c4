//! The JSON forms of types and fields.
//!
//! Spec: Appendix C, "Schemas".

use std::sync::Arc;

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value as Json};

use super::of_field;
use crate::{
    DefaultValue, Extra, LIST_ELEMENT, ListType, MAP_KEY, MAP_VALUE, MapType, NestedField, NestedFieldRef, PrimitiveType,
    StructType, Type,
};

json_object!(NestedField {
    needed "id" => id,
    needed "name" => name,
    needed "required" => required,
    needed "type" => field_type,
    optional "doc" => doc,
    optional "initial-default" => initial_default,
    optional "write-default" => write_default,
});

impl<'de> Deserialize<'de> for DefaultValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Json::deserialize(deserializer).map(Self::new)
    }
}

impl Serialize for DefaultValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Type {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse(Json::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Builds a type from its name or its object.
fn parse(json: Json) -> Result<Type, serde_json::Error> {
    let mut object = match json {
        Json::String(name) if name.eq_ignore_ascii_case("variant") => return Ok(Type::Variant),
        Json::String(name) => return Ok(PrimitiveType::named(&name).into()),
        Json::Object(object) => object,
        other => return Err(serde_json::Error::custom(format!("a type is a name or an object, not {other}"))),
    };
    match object.get("type").and_then(Json::as_str).map(str::to_ascii_lowercase).as_deref() {
        Some("struct") => {
            let fields: Vec<NestedField> = taken(&mut object, "fields")?;
            Ok(StructType::new(fields.into_iter().map(Arc::new).collect()).into())
        }
        Some("list") => {
            object.remove("type");
            let element_field = part(&mut object, LIST_ELEMENT, Some("element-required"))?;
            Ok(ListType { element_field, extra: rest(object) }.into())
        }
        Some("map") => {
            object.remove("type");
            let key_field = part(&mut object, MAP_KEY, None)?;
            let value_field = part(&mut object, MAP_VALUE, Some("value-required"))?;
            Ok(MapType { key_field, value_field, extra: rest(object) }.into())
        }
        // A kind of type that this version of Esker does not define.
        _ => Ok(PrimitiveType::Other(Box::new(Json::Object(object))).into()),
    }
}

fn taken<T: DeserializeOwned>(object: &mut Map<String, Json>, name: &'static str) -> Result<T, serde_json::Error> {
    let value = object.remove(name).ok_or_else(|| serde_json::Error::missing_field(name))?;
    of_field(name, value)
}

/// Takes the element of a list, or the key or value of a map, out of the type's object.
fn part(
    object: &mut Map<String, Json>,
    name: &'static str,
    required: Option<&'static str>,
) -> Result<NestedFieldRef, serde_json::Error> {
    let id = match name {
        LIST_ELEMENT => "element-id",
        MAP_KEY => "key-id",
        _ => "value-id",
    };
    let required = required.map_or(Ok(true), |name| taken(object, name))?;
    let ty: Type = taken(object, name)?;
    Ok(Arc::new(NestedField::new(taken(object, id)?, name, ty, required)))
}

fn rest(object: Map<String, Json>) -> Extra {
    let mut extra = Extra::default();
    for (name, value) in object {
        extra.insert(name, value);
    }
    extra
}

impl Serialize for Type {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Primitive(PrimitiveType::Other(json)) => json.serialize(serializer),
            Self::Primitive(ty) => serializer.collect_str(ty),
            Self::Variant => serializer.serialize_str("variant"),
            Self::Struct(ty) => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("type", "struct")?;
                map.serialize_entry("fields", &ty.fields().iter().map(AsRef::as_ref).collect::<Vec<&NestedField>>())?;
                map.end()
            }
            Self::List(ty) => {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("type", "list")?;
                map.serialize_entry("element-id", &ty.element_field.id)?;
                map.serialize_entry("element", &ty.element_field.field_type)?;
                map.serialize_entry("element-required", &ty.element_field.required)?;
                for (name, value) in ty.extra.iter() {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
            Self::Map(ty) => {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("type", "map")?;
                map.serialize_entry("key-id", &ty.key_field.id)?;
                map.serialize_entry("key", &ty.key_field.field_type)?;
                map.serialize_entry("value-id", &ty.value_field.id)?;
                map.serialize_entry("value", &ty.value_field.field_type)?;
                map.serialize_entry("value-required", &ty.value_field.required)?;
                for (name, value) in ty.extra.iter() {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn round(json: Json) -> Type {
        let ty: Type = serde_json::from_value(json.clone()).unwrap_or_else(|e| panic!("{json}: {e}"));
        assert_eq!(serde_json::to_value(&ty).expect("printed"), json);
        ty
    }

    #[test]
    fn types_are_printed_as_they_were_read_with_what_nobody_knows() {
        round(json!("decimal(9, 2)"));
        assert_eq!(round(json!("variant")), Type::Variant);
        let field = json!({"id": 2, "name": "a.b\u{e9}", "required": true, "type": "interval(day)", "doc": "d", "initial-default": {"x": [1]},
            "write-default": 5, "collation": "de", "later": {"a": null}});
        round(json!({"type": "struct", "fields": [field]}));
        round(
            json!({"type": "list", "element-id": 3, "element": {"type": "tensor", "shape": [2, 2]}, "element-required": false, "order": "x"}),
        );
        round(
            json!({"type": "map", "key-id": 4, "key": "string", "value-id": 5, "value": {"type": "map", "key-id": 6, "key": "int",
            "value-id": 7, "value": "geography(OGC:CRS84, karney)", "value-required": true}, "value-required": false, "later": 1}),
        );
    }

    #[test]
    fn what_a_type_lacks_is_named() {
        for (json, what) in [
            (json!({"type": "struct"}), "fields"),
            (json!({"type": "list", "element-id": 1, "element": "int"}), "element-required"),
            (json!({"type": "map", "key-id": 1, "key": "int", "value-id": 1, "value-required": true}), "value"),
            (json!({"type": "struct", "fields": [{"id": 1, "required": true, "type": "int"}]}), "name"),
            (json!(5), "a type is a name or an object"),
        ] {
            let error = serde_json::from_value::<Type>(json).expect_err(what).to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
