//! Conversion of Iceberg types to Avro schemas, with the names of Java's `TypeToSchema`, and back.
//!
//! Spec: Appendix A, "Avro".

use std::collections::HashSet;

use serde_json::{Map, Value as Json, json};

use super::schema::{Logical, Node, NodeKind};
use crate::avro_names::{avro_name, valid_avro_name};
use crate::{FormatError, MAX_DECIMAL_PRECISION, NestedField, PrimitiveType, Result, StructType, Type};

/// Returns the Avro schema of a struct as a record called `name`. Fails if a type has no Avro form.
pub(crate) fn avro_schema(name: &str, ty: &StructType) -> Result<Json> {
    AvroSchemaBuilder::default().record(name, ty)
}

/// Builds Avro schemas. A named type is written out where it occurs first, and referred to by name after that.
#[derive(Default)]
struct AvroSchemaBuilder {
    named: HashSet<String>,
}

impl AvroSchemaBuilder {
    fn record(&mut self, name: &str, ty: &StructType) -> Result<Json> {
        let fields: Result<Vec<Json>> = ty.fields().iter().map(|field| self.field(field)).collect();
        Ok(json!({"type": "record", "name": name, "fields": fields?}))
    }

    fn field(&mut self, field: &NestedField) -> Result<Json> {
        let mut object = Map::new();
        object.insert("name".into(), avro_name(&field.name).into());
        object.insert("type".into(), self.option(field)?);
        if let Some(doc) = &field.doc {
            object.insert("doc".into(), doc.as_str().into());
        }
        if !field.required {
            object.insert("default".into(), Json::Null);
        }
        if !valid_avro_name(&field.name) {
            object.insert("iceberg-field-name".into(), field.name.as_str().into());
        }
        object.insert("field-id".into(), field.id.into());
        Ok(object.into())
    }

    fn option(&mut self, field: &NestedField) -> Result<Json> {
        let ty = self.ty(field)?;
        // The type null needs no union to be optional.
        let is_null = ty.as_str() == Some("null");
        Ok(if field.required || is_null { ty } else { json!(["null", ty]) })
    }

    fn ty(&mut self, field: &NestedField) -> Result<Json> {
        match field.field_type.as_ref() {
            Type::Primitive(ty) => self.primitive(field, ty),
            Type::Struct(ty) => self.record(&format!("r{}", field.id), ty),
            Type::List(ty) => {
                let items = self.option(&ty.element_field)?;
                Ok(json!({"type": "array", "items": items, "element-id": ty.element_field.id}))
            }
            Type::Map(ty) => {
                let (key, value) = (&ty.key_field, &ty.value_field);
                let values = self.option(value)?;
                if *key.field_type == PrimitiveType::String.into() {
                    return Ok(json!({"type": "map", "values": values, "key-id": key.id, "value-id": value.id}));
                }
                let mut value_field = json!({"name": "value", "type": values, "field-id": value.id});
                if !value.required {
                    value_field["default"] = Json::Null;
                }
                let key_field = json!({"name": "key", "type": self.ty(key)?, "field-id": key.id});
                let name = format!("k{}_v{}", key.id, value.id);
                let items = json!({"type": "record", "name": name, "fields": [key_field, value_field]});
                Ok(json!({"type": "array", "logicalType": "map", "items": items}))
            }
            Type::Variant => Err(unwritable(field)),
        }
    }

    fn primitive(&mut self, field: &NestedField, ty: &PrimitiveType) -> Result<Json> {
        use PrimitiveType as P;
        let logical = |ty: &str, logical: &str| json!({"type": ty, "logicalType": logical});
        let time = |kind: &str, utc: bool| json!({"type": "long", "logicalType": kind, "adjust-to-utc": utc});
        Ok(match ty {
            P::Boolean => json!("boolean"),
            P::Int => json!("int"),
            P::Long => json!("long"),
            P::Float => json!("float"),
            P::Double => json!("double"),
            P::Date => logical("int", "date"),
            P::Time => logical("long", "time-micros"),
            P::Timestamp => time("timestamp-micros", false),
            P::Timestamptz => time("timestamp-micros", true),
            P::TimestampNs => time("timestamp-nanos", false),
            P::TimestamptzNs => time("timestamp-nanos", true),
            P::String => json!("string"),
            P::Binary | P::Geometry { .. } | P::Geography { .. } => json!("bytes"),
            P::Unknown => json!("null"),
            P::Uuid => {
                let fixed = json!({"type": "fixed", "name": "uuid_fixed", "size": 16, "logicalType": "uuid"});
                self.once("uuid_fixed".to_owned(), fixed)
            }
            P::Fixed(length) => {
                let name = format!("fixed_{length}");
                self.once(name.clone(), json!({"type": "fixed", "name": name, "size": length}))
            }
            P::Decimal { precision, .. } if *precision > MAX_DECIMAL_PRECISION => return Err(unwritable(field)),
            P::Decimal { precision, scale } => {
                let (name, size) = (format!("decimal_{precision}_{scale}"), P::decimal_bytes(*precision));
                let fixed = json!({"type": "fixed", "name": name, "size": size, "logicalType": "decimal",
                    "precision": precision, "scale": scale});
                self.once(name, fixed)
            }
            P::Other(_) => return Err(unwritable(field)),
        })
    }

    fn once(&mut self, name: String, ty: Json) -> Json {
        if self.named.contains(&name) {
            return name.into();
        }
        self.named.insert(name);
        ty
    }
}

fn unwritable(field: &NestedField) -> FormatError {
    FormatError::invalid(format!("field {}", field.name), format!("its type can't be written: {}", field.field_type))
}

/// Returns the Iceberg type of values of the Avro type `node`, or `None` if they are no single values.
///
/// `expected` is the column's type by the table. It decides where the Avro type has only the physical form: dates as plain ints,
/// decimals as bytes.
pub(crate) fn primitive_of(node: &Node, expected: Option<&PrimitiveType>) -> Option<PrimitiveType> {
    use PrimitiveType as P;
    Some(match (&node.kind, node.logical) {
        (NodeKind::Null, _) => P::Unknown,
        (NodeKind::Boolean, _) => P::Boolean,
        (NodeKind::Int, Logical::Date) => P::Date,
        (NodeKind::Int, _) => match expected {
            Some(P::Date) => P::Date,
            _ => P::Int,
        },
        (NodeKind::Long, Logical::TimeMicros) => P::Time,
        (NodeKind::Long, Logical::TimestampMicros { utc }) => match (utc, expected) {
            // Writers that do not know `adjust-to-utc` leave it out.
            (false, Some(P::Timestamptz)) | (true, _) => P::Timestamptz,
            _ => P::Timestamp,
        },
        (NodeKind::Long, Logical::TimestampNanos { utc }) => match (utc, expected) {
            (false, Some(P::TimestamptzNs)) | (true, _) => P::TimestamptzNs,
            _ => P::TimestampNs,
        },
        (NodeKind::Long, _) => match expected {
            Some(ty @ (P::Time | P::Timestamp | P::Timestamptz | P::TimestampNs | P::TimestamptzNs)) => ty.clone(),
            _ => P::Long,
        },
        (NodeKind::Float, _) => P::Float,
        (NodeKind::Double, _) => P::Double,
        (NodeKind::Bytes | NodeKind::Fixed(_), Logical::Decimal { precision, scale }) => P::Decimal { precision, scale },
        (NodeKind::Fixed(16), Logical::Uuid) => P::Uuid,
        (NodeKind::Bytes | NodeKind::Fixed(_), _) if matches!(expected, Some(P::Decimal { .. })) => expected?.clone(),
        (NodeKind::Fixed(16), _) if matches!(expected, Some(P::Uuid)) => P::Uuid,
        (NodeKind::Bytes, _) => match expected {
            Some(ty @ P::Fixed(_)) => ty.clone(),
            _ => P::Binary,
        },
        (NodeKind::Fixed(length), _) => match expected {
            Some(P::Binary) => P::Binary,
            _ => P::Fixed(*length as u64),
        },
        (NodeKind::String, Logical::Uuid) => P::Uuid,
        (NodeKind::String, _) => match expected {
            Some(P::Uuid) => P::Uuid,
            _ => P::String,
        },
        (NodeKind::Enum | NodeKind::Union(_) | NodeKind::Record(_) | NodeKind::Array { .. } | NodeKind::Map { .. }, _) => {
            return None;
        }
    })
}
