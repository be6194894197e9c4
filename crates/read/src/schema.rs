//! Derives Arrow schemas from Iceberg schemas.
//!
//! Arrow fields carry the field id (metadata key `PARQUET:field_id`), the comment (`doc`) and, for types that Arrow lacks, an
//! extension type: `arrow.parquet.variant`, or `geoarrow.wkb` for geometry and geography. `from_arrow.rs` is the way back. Spec:
//! "Schemas and Data Types", Appendix A "Parquet".

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef, TimeUnit};
use esker_format::{NestedField, NestedFieldRef, PrimitiveType, Schema, Type};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use crate::{ReadError, Result, is_variant, variant_type};

/// The Arrow time zone of timestamps with zone.
const UTC: &str = "+00:00";

/// The name of the struct of a map's keys and values.
const ENTRIES: &str = "key_value";

/// The metadata key of a field's comment.
const DOC: &str = "doc";

/// The name of Arrow's extension type for variants.
const VARIANT: &str = "arrow.parquet.variant";

/// The name of GeoArrow's extension type for geometries in Well-Known Binary.
pub const WKB: &str = "geoarrow.wkb";

/// The coordinate reference system of geometry and geography types that name none. Spec: "CRS".
pub const DEFAULT_CRS: &str = "OGC:CRS84";
/// The edge interpolation of geography types that name none. Spec: "Edge-Interpolation Algorithm".
pub const DEFAULT_EDGES: &str = "spherical";

/// Returns the Arrow schema of all columns of a table. Fields at every depth carry their ids.
///
/// # Errors
///
/// Returns [`ReadError::Undecodable`] if a column has a type without an Arrow counterpart.
pub fn arrow_schema(schema: &Schema) -> Result<ArrowSchema> {
    Ok(ArrowSchema::new(schema.as_struct().fields().iter().map(|field| arrow_field(field)).collect::<Result<Vec<_>>>()?))
}

/// Returns the Arrow schema of some top-level columns, in the order of `field_ids`.
///
/// Fields at every depth carry their ids. Ids that the schema lacks are skipped. Types of other columns don't matter.
///
/// # Errors
///
/// Returns [`ReadError::Undecodable`] if a chosen column has a type without an Arrow counterpart.
pub fn target_schema(schema: &Schema, field_ids: &[i32]) -> Result<SchemaRef> {
    let columns = field_ids.iter().filter_map(|id| schema.as_struct().field_by_id(*id));
    Ok(Arc::new(ArrowSchema::new(columns.map(|field| arrow_field(field)).collect::<Result<Vec<_>>>()?)))
}

/// Returns a [`target_schema`] in which everything is [optional](all_optional).
///
/// # Errors
///
/// Returns the errors of [`target_schema`].
pub fn optional_schema(schema: &Schema, field_ids: &[i32]) -> Result<SchemaRef> {
    Ok(all_optional(target_schema(schema, field_ids)?.as_ref()))
}

/// Returns a schema in which everything except map keys may be null.
///
/// It suits rows that are not checked yet, and files that need not have all columns, such as equality delete files.
pub fn all_optional(schema: &ArrowSchema) -> SchemaRef {
    Arc::new(ArrowSchema::new(schema.fields().iter().map(|field| optional(field)).collect::<Vec<_>>()))
}

/// Returns a field in which everything except map keys may be null.
fn optional(field: &Field) -> Field {
    let inner = match field.data_type() {
        ty if is_variant(ty) => ty.clone(),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| optional(field)).collect()),
        DataType::List(item) => DataType::List(Arc::new(optional(item))),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                let pair = vec![pair[0].clone(), Arc::new(optional(&pair[1]))];
                let entries = Field::clone(entries).with_data_type(DataType::Struct(pair.into()));
                DataType::Map(Arc::new(entries), *sorted)
            }
            _ => field.data_type().clone(),
        },
        ty => ty.clone(),
    };
    field.clone().with_data_type(inner).with_nullable(true)
}

/// Returns the Arrow field of a column, with its id.
///
/// # Errors
///
/// Returns [`ReadError::Undecodable`] if the type, or one inside it, has no Arrow counterpart.
pub fn arrow_field(field: &NestedField) -> Result<Field> {
    named(field, None)
}

/// Returns the Arrow type of an Iceberg type.
///
/// # Errors
///
/// Returns [`ReadError::Undecodable`] if the type, or one inside it, has no Arrow counterpart.
pub fn arrow_type(ty: &Type) -> Result<DataType> {
    of_type(ty, None)
}

/// Returns the Iceberg field id in an Arrow field's metadata, if there is one.
pub fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

/// Returns the Arrow field of a field inside another; `within` is the full name of the outer one.
fn named(field: &NestedField, within: Option<&str>) -> Result<Field> {
    let name = within.map_or_else(|| field.name.clone(), |within| format!("{within}.{}", field.name));
    let ty = of_type(&field.field_type, Some(&name))?;
    let id = (PARQUET_FIELD_ID_META_KEY.to_owned(), field.id.to_string());
    let doc = field.doc.as_ref().map(|doc| (DOC.to_owned(), doc.clone()));
    let metadata: HashMap<String, String> = std::iter::once(id).chain(doc).chain(extension(&field.field_type)).collect();
    Ok(Field::new(&field.name, ty, !field.required).with_metadata(metadata))
}

/// Returns the Arrow type of a type; `column` is the name for an error.
fn of_type(ty: &Type, column: Option<&str>) -> Result<DataType> {
    let inner = |field: &NestedFieldRef| named(field, column);
    match ty {
        Type::Primitive(primitive) => of_primitive(primitive).ok_or_else(|| ReadError::undecodable(column, ty)),
        Type::Struct(ty) => Ok(DataType::Struct(ty.fields().iter().map(inner).collect::<Result<_>>()?)),
        Type::List(ty) => Ok(DataType::List(Arc::new(inner(&ty.element_field)?))),
        Type::Map(ty) => {
            let pair = vec![inner(&ty.key_field)?, inner(&ty.value_field)?];
            Ok(DataType::Map(Arc::new(Field::new(ENTRIES, DataType::Struct(pair.into()), false)), false))
        }
        Type::Variant => Ok(variant_type()),
    }
}

/// Returns the metadata of an extension type, for a type that Arrow lacks.
///
/// The names are those of Arrow's canonical extension types and of GeoArrow.
fn extension(ty: &Type) -> Vec<(String, String)> {
    let named = |name: &str, about: String| {
        vec![("ARROW:extension:name".to_owned(), name.to_owned()), ("ARROW:extension:metadata".to_owned(), about)]
    };
    let shape = |crs: Option<&str>, edges: Option<&str>| {
        let mut about = serde_json::Map::new();
        about.insert("crs".to_owned(), crs.unwrap_or(DEFAULT_CRS).into());
        about.extend(edges.map(|edges| ("edges".to_owned(), edges.into())));
        named(WKB, serde_json::Value::from(about).to_string())
    };
    match ty {
        Type::Variant => named(VARIANT, String::new()),
        Type::Primitive(PrimitiveType::Geometry { crs }) => shape(crs.as_deref(), None),
        Type::Primitive(PrimitiveType::Geography { crs, edges }) => {
            shape(crs.as_deref(), Some(edges.as_ref().map_or(DEFAULT_EDGES, |edges| edges.as_str())))
        }
        _ => vec![],
    }
}

/// Returns the coordinate reference system and the edge interpolation of a GeoArrow field.
///
/// The system is none if it is the default; the interpolation is none for geometries. None for any other field.
pub fn geo_metadata(field: &Field) -> Option<(Option<String>, Option<String>)> {
    if field.extension_type_name() != Some(WKB) {
        return None;
    }
    let about: serde_json::Value = serde_json::from_str(field.extension_type_metadata().unwrap_or("{}")).unwrap_or_default();
    let text = |key: &str| about.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    Some((text("crs").filter(|crs| crs != DEFAULT_CRS), text("edges")))
}

/// Returns the Arrow type of a primitive type; none if Arrow has no counterpart.
fn of_primitive(ty: &PrimitiveType) -> Option<DataType> {
    use PrimitiveType as P;
    Some(match ty {
        P::Boolean => DataType::Boolean,
        P::Int => DataType::Int32,
        P::Long => DataType::Int64,
        P::Float => DataType::Float32,
        P::Double => DataType::Float64,
        P::Decimal { precision, scale } => {
            let within = (1..=esker_format::MAX_DECIMAL_PRECISION).contains(precision) && scale <= precision;
            within.then(|| Some(DataType::Decimal128((*precision).try_into().ok()?, (*scale).try_into().ok()?)))??
        }
        P::Date => DataType::Date32,
        P::Time => DataType::Time64(TimeUnit::Microsecond),
        P::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        P::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        P::TimestampNs => DataType::Timestamp(TimeUnit::Nanosecond, None),
        P::TimestamptzNs => DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())),
        P::String => DataType::Utf8,
        P::Uuid => DataType::FixedSizeBinary(16),
        // Arrow's fixed sizes have 32 bits; longer values are of variable size.
        P::Fixed(length) => i32::try_from(*length).map_or(DataType::LargeBinary, DataType::FixedSizeBinary),
        // Geometries are bytes in Well-Known Binary (specification, Appendix A).
        P::Binary | P::Geometry { .. } | P::Geography { .. } => DataType::LargeBinary,
        P::Unknown => DataType::Null,
        P::Other(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use esker_format::{ListType, MapType, StructType};

    use super::*;

    fn field(id: i32, name: &str, ty: impl Into<Type>) -> NestedFieldRef {
        Arc::new(NestedField::optional(id, name, ty))
    }

    #[test]
    fn fields_carry_ids_and_comments_at_every_depth() {
        let x = NestedField { doc: Some("east".to_owned()), ..NestedField::required(4, "x", PrimitiveType::Double) };
        let point = StructType::new(vec![Arc::new(x)]);
        let columns = vec![
            field(1, "m", MapType::new((2, PrimitiveType::String.into()), (3, point.into()), true)),
            field(5, "l", ListType::new(6, PrimitiveType::Int, false)),
        ];
        let schema = Schema::new(0, columns).expect("a schema");
        let arrow = arrow_schema(&schema).expect("an Arrow schema");
        let DataType::Map(entries, false) = arrow.field(0).data_type() else { panic!("{arrow}") };
        let DataType::Struct(pair) = entries.data_type() else { panic!("{entries}") };
        assert_eq!((entries.name().as_str(), entries.is_nullable()), ("key_value", false));
        assert_eq!((pair[0].is_nullable(), pair[1].is_nullable(), field_id(&pair[1])), (false, false, Some(3)));
        let DataType::Struct(point) = pair[1].data_type() else { panic!("{}", pair[1]) };
        assert_eq!((field_id(&point[0]), point[0].metadata().get("doc").map(String::as_str)), (Some(4), Some("east")));
        let DataType::List(element) = arrow.field(1).data_type() else { panic!("{arrow}") };
        assert_eq!((element.name().as_str(), element.is_nullable(), field_id(element)), ("element", true, Some(6)));
        assert_eq!(field_id(arrow.field(1)), Some(5));
    }

    #[test]
    fn what_nobody_can_decode_is_refused_with_column_and_type() {
        let inner = StructType::new(vec![field(2, "v", PrimitiveType::named("quaternion"))]);
        let columns = vec![
            field(1, "s", inner),
            field(3, "i", PrimitiveType::named("interval(day)")),
            field(4, "g", PrimitiveType::named("geometry")),
            field(5, "u", PrimitiveType::Unknown),
            field(6, "d", PrimitiveType::named("decimal(99, 2)")),
        ];
        let schema = Schema::new(0, columns).expect("a schema");
        let error = |ids: &[i32]| target_schema(&schema, ids).expect_err("refused").to_string();
        assert_eq!(error(&[1]), "column s.v: values of type quaternion can't be read");
        assert_eq!(error(&[3]), "column i: values of type interval(day) can't be read");
        assert_eq!(error(&[6]), "column d: values of type decimal(99, 2) can't be read");
        let others = target_schema(&schema, &[5, 4, 77]).expect("a schema");
        let types: Vec<&DataType> = others.fields().iter().map(|field| field.data_type()).collect();
        assert_eq!(types, [&DataType::Null, &DataType::LargeBinary]);
        let alone = arrow_type(&PrimitiveType::named("quaternion").into()).expect_err("refused").to_string();
        assert_eq!(alone, "values of type quaternion can't be read");
    }

    /// The names and the metadata are those of Arrow's "canonical extension types" and of GeoArrow's "extension types".
    #[test]
    fn types_that_arrow_has_not_are_marked_by_their_names() {
        let columns = vec![
            field(1, "v", Type::Variant),
            field(2, "g", PrimitiveType::named("geometry")),
            field(3, "h", PrimitiveType::named("geography(EPSG:4267, karney)")),
            field(4, "i", PrimitiveType::named("geography")),
            field(5, "b", PrimitiveType::Binary),
        ];
        let arrow = arrow_schema(&Schema::new(0, columns).expect("a schema")).expect("an Arrow schema");
        let extension = |at: usize| {
            let about = arrow.field(at).metadata();
            let of = |key: &str| about.get(key).map(String::as_str);
            (of("ARROW:extension:name"), of("ARROW:extension:metadata"))
        };
        assert!(is_variant(arrow.field(0).data_type()));
        assert_eq!(extension(0), (Some("arrow.parquet.variant"), Some("")));
        assert_eq!(extension(1), (Some("geoarrow.wkb"), Some(r#"{"crs":"OGC:CRS84"}"#)));
        assert_eq!(extension(2), (Some("geoarrow.wkb"), Some(r#"{"crs":"EPSG:4267","edges":"karney"}"#)));
        assert_eq!(extension(3), (Some("geoarrow.wkb"), Some(r#"{"crs":"OGC:CRS84","edges":"spherical"}"#)));
        assert_eq!(extension(4), (None, None));
        let optional = all_optional(&arrow);
        assert_eq!(optional.field(0).data_type(), arrow.field(0).data_type());
    }
}
