//! Derives an Iceberg schema from an Arrow schema, for tables that are created from a query's result.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, TimeUnit};
use esker_format::{ListType, MapType, NestedField, PrimitiveType, Schema, StructType, Type};

use crate::schema::{DEFAULT_CRS, geo_metadata};
use crate::{ReadError, Result, is_variant};

/// Returns the Iceberg schema of a new table for rows of an Arrow schema.
///
/// Ids begin at 1 and are assigned as Java does (`TypeUtil.assignFreshIds`): to all fields of a struct, then inside the first
/// field, then inside the second. A comment is taken from the metadata key `doc`. A dictionary has the type of its values.
///
/// # Errors
///
/// Returns [`ReadError::NoType`] if Iceberg has no type that holds all values of a column unchanged. Returns
/// [`ReadError::Format`] if the schema breaks a rule of the specification, such as two columns of one name.
pub fn schema_from_arrow(schema: &ArrowSchema) -> Result<Schema> {
    let mut ids = FieldIds { last: 0 };
    let columns = ids.fields(schema.fields(), None)?;
    Ok(Schema::new(0, columns.fields().to_vec())?)
}

/// Converts fields and types, and assigns field ids in ascending order.
struct FieldIds {
    /// The id that was assigned last; 0 before the first.
    last: i32,
}

impl FieldIds {
    /// Assigns the next id.
    fn next(&mut self) -> i32 {
        self.last = self.last.saturating_add(1);
        self.last
    }

    /// Converts the fields of a struct; `within` is the struct's full name, or none for the top level.
    fn fields(&mut self, fields: &[Arc<Field>], within: Option<&str>) -> Result<StructType> {
        let numbered: Vec<(i32, &Arc<Field>)> = fields.iter().map(|field| (self.next(), field)).collect();
        let fields = numbered.into_iter().map(|(id, field)| {
            let path = within.map_or_else(|| field.name().clone(), |within| format!("{within}.{}", field.name()));
            let ty = match geo_type(field) {
                Some(ty) => ty.into(),
                None => self.ty(field.data_type(), &path)?,
            };
            let made = NestedField::new(id, field.name(), ty, !field.is_nullable());
            Ok(Arc::new(NestedField { doc: field.metadata().get("doc").cloned(), ..made }))
        });
        Ok(StructType::new(fields.collect::<Result<_>>()?))
    }

    /// Converts a type; `path` is the column's full name, for an error.
    fn ty(&mut self, ty: &DataType, path: &str) -> Result<Type> {
        let no_type = || ReadError::NoType { column: path.to_owned(), ty: ty.clone() };
        Ok(match ty {
            ty if is_variant(ty) => Type::Variant,
            DataType::Struct(fields) => self.fields(fields, Some(path))?.into(),
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                let id = self.next();
                ListType::new(id, self.ty(item.data_type(), &format!("{path}.element"))?, !item.is_nullable()).into()
            }
            DataType::Map(entries, _) => {
                let DataType::Struct(pair) = entries.data_type() else { return Err(no_type()) };
                let [key, value] = pair.as_ref() else { return Err(no_type()) };
                let (key_id, value_id) = (self.next(), self.next());
                let key = self.ty(key.data_type(), &format!("{path}.key"))?;
                let value_type = self.ty(value.data_type(), &format!("{path}.value"))?;
                MapType::new((key_id, key), (value_id, value_type), !value.is_nullable()).into()
            }
            DataType::Dictionary(_, values) => self.ty(values, path)?,
            ty => primitive(ty).ok_or_else(no_type)?.into(),
        })
    }
}

/// Returns the geometry or geography type that a field's GeoArrow metadata describes; none for a field without it.
fn geo_type(field: &Field) -> Option<PrimitiveType> {
    let (crs, edges) = geo_metadata(field)?;
    Some(PrimitiveType::named(&match (crs, edges) {
        (crs, Some(edges)) => format!("geography({}, {edges})", crs.as_deref().unwrap_or(DEFAULT_CRS)),
        (Some(crs), None) => format!("geometry({crs})"),
        (None, None) => "geometry".to_owned(),
    }))
}

/// Returns the primitive type that holds all values of an Arrow type unchanged; none if there is no such type.
fn primitive(ty: &DataType) -> Option<PrimitiveType> {
    use PrimitiveType as P;
    Some(match ty {
        DataType::Boolean => P::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => P::Int,
        DataType::UInt32 | DataType::Int64 => P::Long,
        DataType::Float32 => P::Float,
        DataType::Float64 => P::Double,
        DataType::Decimal128(precision, scale) => P::Decimal {
            precision: (*precision).into(),
            scale: u32::try_from(*scale).ok().filter(|s| *s <= (*precision).into())?,
        },
        DataType::Date32 => P::Date,
        DataType::Time64(TimeUnit::Microsecond) => P::Time,
        DataType::Timestamp(TimeUnit::Microsecond, None) => P::Timestamp,
        DataType::Timestamp(TimeUnit::Nanosecond, None) => P::TimestampNs,
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if is_utc(zone) => P::Timestamptz,
        DataType::Timestamp(TimeUnit::Nanosecond, Some(zone)) if is_utc(zone) => P::TimestamptzNs,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => P::Binary,
        DataType::FixedSizeBinary(width) => P::Fixed(u64::try_from(*width).ok()?),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => P::String,
        _ => return None,
    })
}

fn is_utc(zone: &str) -> bool {
    zone == "UTC" || zone == "+00:00"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrow_schema;

    fn field(name: &str, ty: DataType) -> Arc<Field> {
        Arc::new(Field::new(name, ty, true))
    }

    #[test]
    fn ids_are_given_struct_by_struct() {
        let int = || field("x", DataType::Int32);
        let deep = field("deep", DataType::Struct(vec![int()].into()));
        let list = DataType::List(field("item", DataType::Struct(vec![int(), field("y", DataType::Utf8)].into())));
        let pair = DataType::Struct(vec![field("keys", DataType::Utf8), field("values", list)].into());
        let map = DataType::Map(Arc::new(Field::new("entries", pair, false)), false);
        let columns = vec![
            field("a", DataType::Struct(vec![deep, field("b", DataType::Int64)].into())),
            field("m", map),
            field("z", DataType::Boolean),
        ];
        let schema = schema_from_arrow(&ArrowSchema::new(columns)).expect("a schema");
        let ids = ["a", "m", "z", "a.deep", "a.b", "a.deep.x", "m.key", "m.value", "m.value.element", "m.value.element.x"];
        for (name, id) in ids.into_iter().zip(1..) {
            assert_eq!(schema.field_id_by_name(name), Some(id), "{name}");
        }
        assert_eq!(schema.highest_field_id(), 11);
        let key = schema.field_by_name("m.key").expect("a key");
        assert!(key.required && !schema.field_by_name("m.value").expect("a value").required);
    }

    #[test]
    fn a_type_that_iceberg_lacks_is_refused_with_its_column() {
        for ty in [
            DataType::Null,
            DataType::UInt64,
            DataType::Decimal128(9, -2),
            DataType::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into())),
            DataType::Timestamp(TimeUnit::Second, None),
            DataType::Interval(arrow::datatypes::IntervalUnit::DayTime),
        ] {
            let inner = DataType::Struct(vec![field("x", ty.clone())].into());
            let error = schema_from_arrow(&ArrowSchema::new(vec![field("s", inner)])).expect_err("refused").to_string();
            assert!(error.starts_with("column s.x: "), "{error}");
        }
    }

    fn all_types() -> Vec<Arc<NestedField>> {
        let names = [
            "boolean",
            "int",
            "long",
            "float",
            "double",
            "decimal(9, 2)",
            "date",
            "time",
            "timestamp",
            "timestamptz",
            "timestamp_ns",
            "timestamptz_ns",
            "string",
            "uuid",
            "fixed[5]",
            "fixed[5000000000]",
            "binary",
        ];
        (1..).zip(names).map(|(id, name)| Arc::new(NestedField::optional(id, name, PrimitiveType::named(name)))).collect()
    }

    /// Arrow has no type for UUIDs, only 16 bytes, and no fixed size beyond 32 bits.
    #[test]
    fn types_come_back_from_arrow() {
        let schema = Schema::new(0, all_types()).expect("a schema");
        let back = schema_from_arrow(&arrow_schema(&schema).expect("an Arrow schema")).expect("a schema");
        for (field, back) in schema.as_struct().fields().iter().zip(back.as_struct().fields()) {
            let expected = match field.name.as_str() {
                "uuid" => "fixed[16]",
                "fixed[5000000000]" => "binary",
                name => name,
            };
            assert_eq!(back.field_type.to_string(), expected);
        }
    }
}
