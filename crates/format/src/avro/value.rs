//! Single values in Avro's binary encoding.
//!
//! Spec: Avro specification, "Binary Encoding".

use uuid::Uuid;

use super::cursor::{Cursor, DecodeResult};
use super::schema::{Node, NodeKind};
use super::write::{put_bytes, put_long};
use crate::value::unscaled;
use crate::{FormatError, PrimitiveType, Result, Value};

/// Decodes a value of the Avro type `node` as the primitive type `ty`, which [`super::primitive_of`] returns for `node`.
///
/// A value that is no `ty`, such as a truncated UTF-8 text, becomes `None`: it costs only itself.
pub(crate) fn decode(cursor: &mut Cursor<'_>, node: &Node, ty: &PrimitiveType) -> DecodeResult<Option<Value>> {
    use PrimitiveType as P;
    Ok(Some(match node.kind {
        NodeKind::Null => return Ok(None),
        NodeKind::Boolean => Value::Boolean(cursor.boolean()?),
        NodeKind::Int => match (cursor.int()?, ty) {
            (days, P::Date) => Value::Date(days),
            (value, _) => Value::Int(value),
        },
        NodeKind::Long => {
            let value = cursor.long()?;
            match ty {
                P::Time => Value::Time(value),
                P::Timestamp => Value::Timestamp(value),
                P::Timestamptz => Value::Timestamptz(value),
                P::TimestampNs => Value::TimestampNs(value),
                P::TimestamptzNs => Value::TimestamptzNs(value),
                _ => Value::Long(value),
            }
        }
        NodeKind::Float => Value::Float(f32::from_le_bytes(array(cursor.take(4)?))),
        NodeKind::Double => Value::Double(f64::from_le_bytes(array(cursor.take(8)?))),
        NodeKind::Bytes => return Ok(of_bytes(cursor.bytes()?, ty)),
        NodeKind::Fixed(length) => return Ok(of_bytes(cursor.take(length)?, ty)),
        NodeKind::String => {
            let text = std::str::from_utf8(cursor.bytes()?).ok();
            return Ok(match ty {
                P::Uuid => text.and_then(|text| Uuid::parse_str(text).ok()).map(Value::Uuid),
                _ => text.map(|text| Value::String(text.into())),
            });
        }
        NodeKind::Enum | NodeKind::Union(_) | NodeKind::Record(_) | NodeKind::Array { .. } | NodeKind::Map { .. } => {
            return Err("its type has no single values");
        }
    }))
}

fn of_bytes(bytes: &[u8], ty: &PrimitiveType) -> Option<Value> {
    match ty {
        PrimitiveType::Decimal { scale, .. } => unscaled(bytes).map(|unscaled| Value::Decimal { unscaled, scale: *scale }),
        PrimitiveType::Uuid => Uuid::from_slice(bytes).ok().map(Value::Uuid),
        PrimitiveType::Fixed(_) => Some(Value::Fixed(bytes.into())),
        _ => Some(Value::Binary(bytes.into())),
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

/// Encodes a value of type `ty`, whose Avro schema is that of [`super::avro_schema`].
pub(crate) fn encode(out: &mut Vec<u8>, ty: &PrimitiveType, value: &Value) -> Result<()> {
    use PrimitiveType as P;
    match (value, ty) {
        (Value::Boolean(v), P::Boolean) => out.push((*v).into()),
        (Value::Int(v), P::Int | P::Long) | (Value::Date(v), P::Date) => put_long(out, (*v).into()),
        (Value::Long(v), P::Long)
        | (Value::Time(v), P::Time)
        | (Value::Timestamp(v), P::Timestamp)
        | (Value::Timestamptz(v), P::Timestamptz)
        | (Value::TimestampNs(v), P::TimestampNs)
        | (Value::TimestamptzNs(v), P::TimestamptzNs) => put_long(out, *v),
        (Value::Float(v), P::Float) => out.extend_from_slice(&v.to_le_bytes()),
        (Value::Double(v), P::Double) => out.extend_from_slice(&v.to_le_bytes()),
        (Value::String(v), P::String) => put_bytes(out, v.as_bytes()),
        (Value::Uuid(v), P::Uuid) => out.extend_from_slice(v.as_bytes()),
        (Value::Fixed(v), P::Fixed(length)) if v.len() as u64 == *length => out.extend_from_slice(v),
        (Value::Binary(v), P::Binary) => put_bytes(out, v),
        (Value::Decimal { unscaled, scale }, P::Decimal { precision, scale: of }) if scale == of => {
            let bytes = unscaled.to_be_bytes();
            let size = P::decimal_bytes((*precision).min(crate::MAX_DECIMAL_PRECISION)) as usize;
            let (cut, kept) = bytes.split_at(16 - size);
            let fill = if *unscaled < 0 { 0xff } else { 0 };
            if cut.iter().any(|byte| *byte != fill) || (kept[0].cast_signed() < 0) != (*unscaled < 0) {
                return Err(misfit(value, ty));
            }
            out.extend_from_slice(kept);
        }
        // The column was promoted after the value was written.
        (value, ty) => match value.promoted(ty) {
            Some(promoted) if promoted != *value => return encode(out, ty, &promoted),
            _ => return Err(misfit(value, ty)),
        },
    }
    Ok(())
}

fn misfit(value: &Value, ty: &PrimitiveType) -> FormatError {
    FormatError::invalid(format!("a value of type {ty}"), format!("{value:?} is not such a value"))
}
