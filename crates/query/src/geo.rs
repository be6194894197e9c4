//! Functions on shapes in SQL. Values of `geometry` and `geography` are bytes in "Well-Known Binary" (WKB).
//!
//! The functions are those of the OGC's "Simple Feature Access". Coordinates are taken for those of a plane, whatever the
//! column's reference system is. The edges of a geography are not straight lines, so that only the distance of points is served
//! there: along the surface of WGS 84, in metres. Start reading at `ShapeFunction`.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Float64Array, LargeBinaryArray, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use esker_read::{MAX_WKB_DEPTH, WKB, geo_metadata};
use esker_types::format_count;
use geo::{BoundingRect, CoordsIter, Distance, Euclidean, Geodesic, Geometry, PreparedGeometry, Rect, Relate};
use geo_traits::to_geo::{ToGeoGeometry, ToGeoPoint};
use geo_traits::{GeometryCollectionTrait, GeometryTrait, GeometryType, MultiPointTrait};
use wkb::reader::{Wkb, read_wkb};
use wkb::writer::{WriteOptions, write_geometry};

use crate::semantics::null_if_untyped;
use crate::wkt;

/// Metadata key of the name of an Arrow extension type.
const NAME: &str = "ARROW:extension:name";
/// Metadata key of the parameters of an Arrow extension type.
const ABOUT: &str = "ARROW:extension:metadata";

/// The message for bytes that are not a shape as other engines read it.
pub(crate) const NO_SHAPE: &str = "is not well-known binary (WKB), or has PostGIS's flags (EWKB) or bytes after its shape";

/// Returns the index of the first value that is not a shape as other engines read it.
pub(crate) fn first_wrong(shapes: &LargeBinaryArray) -> Option<usize> {
    (0..shapes.len()).find(|row| shapes.is_valid(*row) && !is_standard(shapes.value(*row)))
}

/// Returns the values as large binary, with those that are not standard shapes as nulls.
///
/// Unless `safe` is set, such a value is an error instead.
pub(crate) fn checked(values: &ArrayRef, safe: bool) -> Result<ArrayRef> {
    let bytes = cast(values, &DataType::LargeBinary)?;
    let shapes = bytes.as_binary::<i64>();
    match first_wrong(shapes) {
        None => Ok(bytes.clone()),
        Some(_) if safe => {
            let kept = shapes.iter().map(|shape| shape.filter(|shape| is_standard(shape)));
            Ok(Arc::new(kept.collect::<LargeBinaryArray>()))
        }
        Some(row) => {
            let shown: String = shapes.value(row).iter().take(20).map(|byte| format!("{byte:02X}")).collect();
            exec_err!("X'{shown}…' {NO_SHAPE}")
        }
    }
}

/// Checks that bytes are a shape as the standard has it: without PostGIS's flags, and with nothing after the shape.
fn is_standard(bytes: &[u8]) -> bool {
    esker_read::wkb_kind(bytes) == esker_read::WkbKind::Standard && read_wkb(bytes).is_ok()
}

/// The operation of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ShapeOperation {
    AsText,
    AsBinary,
    FromText,
    FromBinary,
    Point,
    Compare(Relation),
    Distance,
    Near,
}

/// The spatial relation of two shapes that a function tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Relation {
    Intersects,
    Within,
    Contains,
}

/// An SQL function on shapes.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ShapeFunction {
    name: &'static str,
    does: ShapeOperation,
    signature: Signature,
}

/// Returns all functions on shapes, with their aliases.
pub(crate) fn functions() -> Vec<ScalarUDF> {
    let one = |name, does, aliases: &[&'static str]| {
        let signature = Signature::variadic_any(Volatility::Immutable);
        ScalarUDF::new_from_impl(ShapeFunction { name, does, signature }).with_aliases(aliases.iter().copied())
    };
    vec![
        one("st_astext", ShapeOperation::AsText, &["st_aswkt"]),
        one("st_asbinary", ShapeOperation::AsBinary, &["st_aswkb"]),
        one("st_geomfromtext", ShapeOperation::FromText, &["st_geometryfromtext"]),
        one("st_geomfromwkb", ShapeOperation::FromBinary, &[]),
        one("st_point", ShapeOperation::Point, &[]),
        one("st_intersects", ShapeOperation::Compare(Relation::Intersects), &[]),
        one("st_within", ShapeOperation::Compare(Relation::Within), &[]),
        one("st_contains", ShapeOperation::Compare(Relation::Contains), &[]),
        one("st_distance", ShapeOperation::Distance, &[]),
        one("st_dwithin", ShapeOperation::Near, &[]),
    ]
}

impl ShapeOperation {
    /// Returns the number of arguments, and how many of them are shapes; the shapes come first.
    const fn takes(self) -> (usize, usize) {
        match self {
            Self::AsText | Self::AsBinary => (1, 1),
            Self::FromText | Self::FromBinary => (1, 0),
            Self::Point => (2, 0),
            Self::Compare(_) | Self::Distance => (2, 2),
            Self::Near => (3, 2),
        }
    }
}

fn is_binary(ty: &DataType) -> bool {
    matches!(ty, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// Returns a field of shapes in the default reference system.
fn shapes(name: &str) -> Field {
    let about = [(NAME.to_owned(), WKB.to_owned()), (ABOUT.to_owned(), "{}".to_owned())];
    Field::new(name, DataType::Binary, true).with_metadata(about.into())
}

impl ShapeFunction {
    fn wrong<T>(&self, what: impl std::fmt::Display) -> Result<T> {
        Err(DataFusionError::Plan(format!("{}: {what}", self.name)))
    }

    fn no_shape(&self, why: &str) -> DataFusionError {
        DataFusionError::Execution(format!("{}: a value is not well-known binary (WKB){why}", self.name))
    }

    /// Reads a shape from WKB, with or without PostGIS's flags.
    fn read<'a>(&self, bytes: &'a [u8]) -> Result<Wkb<'a>> {
        match esker_read::wkb_kind(bytes) {
            esker_read::WkbKind::Wrong => Err(self.no_shape("")),
            _ => read_wkb(bytes).map_err(|e| self.no_shape(&format!(": {e}"))),
        }
    }

    /// Reads a shape for calculations; `None` if it has no points, or a coordinate that is not a finite number.
    fn shape(&self, bytes: &[u8]) -> Result<Option<Geometry<f64>>> {
        let has_place = |shape: &Geometry<f64>| shape.coords_iter().all(|at| at.x.is_finite() && at.y.is_finite());
        let shape = geometry(&self.read(bytes)?);
        Ok(shape.filter(|shape| shape.coords_count() > 0 && has_place(shape)))
    }

    /// Writes a shape as well-known text (WKT).
    fn text(&self, bytes: &[u8]) -> Result<String> {
        self.read(bytes)?;
        wkt::text(bytes).ok_or_else(|| self.no_shape(""))
    }

    /// Reads a shape from well-known text (WKT) and writes it as WKB.
    fn of_text(&self, text: &str) -> Result<Vec<u8>> {
        let failed = |what: String| {
            let shown: String = text.chars().take(80).collect();
            DataFusionError::Execution(format!("{}: '{shown}' is not well-known text (WKT): {what}", self.name))
        };
        if depth(text) > MAX_WKB_DEPTH {
            return Err(failed(format!("it is nested more than {MAX_WKB_DEPTH} deep")));
        }
        let shape: ::wkt::Wkt<f64> = text.parse().map_err(|e: &str| failed(e.to_owned()))?;
        let mut bytes = Vec::new();
        write_geometry(&mut bytes, &shape, &WriteOptions::default()).map_err(|e| failed(e.to_string()))?;
        Ok(bytes)
    }

    /// Tests a relation row by row; the result is null where an argument is.
    fn relate(&self, relation: Relation, left: &BinaryArray, right: &BinaryArray) -> Result<ArrayRef> {
        // The prepared form of a shape is kept, because one side often is the same shape in all rows.
        let mut made = Vec::with_capacity(left.len());
        let (mut last_left, mut last_right) = (LastShape::default(), LastShape::default());
        for row in 0..left.len() {
            if left.is_null(row) || right.is_null(row) {
                made.push(None);
                continue;
            }
            let a = last_left.of(left.value(row), |bytes| self.shape(bytes))?;
            let b = last_right.of(right.value(row), |bytes| self.shape(bytes))?;
            made.push(Some(match (a, b) {
                (Some(a), Some(b)) if a.around.is_some_and(|a| b.around.is_some_and(|b| meets(&a, &b))) => {
                    let found = a.shape.relate(&b.shape);
                    match relation {
                        Relation::Intersects => found.is_intersects(),
                        Relation::Within => found.is_within(),
                        Relation::Contains => found.is_contains(),
                    }
                }
                _ => false,
            }));
        }
        Ok(Arc::new(BooleanArray::from(made)))
    }

    /// Returns the distance of each pair of shapes: in the units of the plane, or in metres on a globe.
    fn distances(&self, left: &BinaryArray, right: &BinaryArray, on_globe: bool) -> Result<Float64Array> {
        let distance = |row: usize| -> Result<Option<f64>> {
            if left.is_null(row) || right.is_null(row) {
                return Ok(None);
            }
            Ok(match (self.shape(left.value(row))?, self.shape(right.value(row))?) {
                (Some(Geometry::Point(a)), Some(Geometry::Point(b))) if on_globe => Some(Geodesic.distance(a, b)),
                (Some(_), Some(_)) if on_globe => {
                    return self.wrong("for geographies it takes only points, because other edges are not straight lines");
                }
                (Some(a), Some(b)) => Some(Euclidean.distance(&a, &b)),
                _ => None,
            })
        };
        Ok((0..left.len()).map(distance).collect::<Result<Vec<_>>>()?.into())
    }
}

/// Converts a shape for calculations, without the empty points in it; `None` for an empty point.
fn geometry(shape: &Wkb<'_>) -> Option<Geometry<f64>> {
    match shape.as_type() {
        GeometryType::MultiPoint(points) => {
            let points = points.points().filter_map(|point| point.try_to_point());
            Some(Geometry::MultiPoint(points.collect::<Vec<_>>().into()))
        }
        GeometryType::GeometryCollection(shapes) => {
            let shapes = shapes.geometries().filter_map(geometry);
            Some(Geometry::GeometryCollection(shapes.collect::<Vec<_>>().into()))
        }
        _ => shape.try_to_geometry(),
    }
}

/// Returns the greatest depth of nested parentheses in a text.
fn depth(text: &str) -> usize {
    let (mut depth, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

/// Checks whether two rectangles have a point in common.
fn meets(a: &Rect<f64>, b: &Rect<f64>) -> bool {
    a.min().x <= b.max().x && b.min().x <= a.max().x && a.min().y <= b.max().y && b.min().y <= a.max().y
}

/// A shape that is prepared for comparisons, with its bounding rectangle.
struct PreparedShape {
    shape: PreparedGeometry<'static, Geometry<f64>, f64>,
    around: Option<Rect<f64>>,
}

/// The last shape of a column in prepared form; often all rows have the same shape.
#[derive(Default)]
struct LastShape {
    bytes: Option<Vec<u8>>,
    made: Option<PreparedShape>,
}

impl LastShape {
    fn of(&mut self, bytes: &[u8], read: impl Fn(&[u8]) -> Result<Option<Geometry<f64>>>) -> Result<Option<&PreparedShape>> {
        if self.bytes.as_deref() != Some(bytes) {
            let shape = read(bytes)?;
            self.made = shape.map(|shape| PreparedShape { around: shape.bounding_rect(), shape: shape.into() });
            self.bytes = Some(bytes.to_vec());
        }
        Ok(self.made.as_ref())
    }
}

impl ScalarUDFImpl for ShapeFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(match self.does {
            ShapeOperation::AsText => DataType::Utf8,
            ShapeOperation::AsBinary | ShapeOperation::FromText | ShapeOperation::FromBinary | ShapeOperation::Point => {
                DataType::Binary
            }
            ShapeOperation::Compare(_) | ShapeOperation::Near => DataType::Boolean,
            ShapeOperation::Distance => DataType::Float64,
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let (wanted, of_shapes) = self.does.takes();
        let types: Vec<&DataType> = args.arg_fields.iter().map(|field| field.data_type()).collect();
        if types.len() != wanted {
            return self.wrong(format!("it takes {}, not {}", format_count(wanted as u64, "argument"), types.len()));
        }
        if let Some(other) = types[..of_shapes].iter().find(|ty| !is_binary(ty) && !ty.is_null()) {
            let hint = if other.is_string() { "; use ST_GeomFromText for text" } else { "" };
            return self.wrong(format!("it takes shapes, not {}{hint}", crate::error_wording::sql_type(other)));
        }
        let rest = &types[of_shapes..];
        let fits = |ty: &DataType| match self.does {
            ShapeOperation::FromText => ty.is_string(),
            ShapeOperation::FromBinary => is_binary(ty),
            _ => ty.is_numeric(),
        };
        if let Some(other) = rest.iter().find(|ty| !fits(ty) && !ty.is_null()) {
            return self.wrong(format!("it can't take {}", crate::error_wording::sql_type(other)));
        }
        if matches!(self.does, ShapeOperation::Compare(_)) && args.arg_fields.iter().any(|field| is_on_globe(field)) {
            return self.wrong("it is not served for geographies, whose edges are not straight lines");
        }
        Ok(Arc::new(match self.does {
            ShapeOperation::FromText | ShapeOperation::FromBinary | ShapeOperation::Point => shapes(self.name),
            _ => Field::new(self.name, self.return_type(&[])?, true),
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Some(null) = null_if_untyped(&args)? {
            return Ok(null);
        }
        let on_globe = args.arg_fields.iter().any(|field| is_on_globe(field));
        let all_scalar = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let bytes = |at: usize| -> Result<BinaryArray> { Ok(cast(&arrays[at], &DataType::Binary)?.as_binary::<i32>().clone()) };
        let numbers = |at: usize| -> Result<Float64Array> {
            Ok(cast(&arrays[at], &DataType::Float64)?.as_primitive::<Float64Type>().clone())
        };
        let made: ArrayRef = match self.does {
            ShapeOperation::AsText => {
                let texts = bytes(0)?.iter().map(|b| b.map(|b| self.text(b)).transpose()).collect::<Result<Vec<_>>>()?;
                Arc::new(StringArray::from(texts))
            }
            ShapeOperation::AsBinary => Arc::new(bytes(0)?),
            ShapeOperation::FromBinary => {
                let all = bytes(0)?;
                cast(&checked(&(Arc::new(all) as ArrayRef), false)?, &DataType::Binary)?
            }
            ShapeOperation::FromText => {
                let texts = cast(&arrays[0], &DataType::Utf8)?;
                let mut made = BinaryBuilder::new();
                for text in texts.as_string::<i32>() {
                    made.append_option(text.map(|text| self.of_text(text)).transpose()?);
                }
                Arc::new(made.finish())
            }
            ShapeOperation::Point => {
                let (x, y) = (numbers(0)?, numbers(1)?);
                let mut made = BinaryBuilder::new();
                for (x, y) in x.iter().zip(y.iter()) {
                    let point = x.zip(y).map(|(x, y)| {
                        let mut bytes = Vec::with_capacity(21);
                        write_geometry(&mut bytes, &geo::Point::new(x, y), &WriteOptions::default()).map(|()| bytes)
                    });
                    made.append_option(point.transpose().map_err(|e| DataFusionError::External(Box::new(e)))?);
                }
                Arc::new(made.finish())
            }
            ShapeOperation::Compare(relation) => self.relate(relation, &bytes(0)?, &bytes(1)?)?,
            ShapeOperation::Distance => Arc::new(self.distances(&bytes(0)?, &bytes(1)?, on_globe)?),
            ShapeOperation::Near => {
                let (left, right, most) = (bytes(0)?, bytes(1)?, numbers(2)?);
                let found = self.distances(&left, &right, on_globe)?;
                // A shape without a distance is near to nothing.
                let near = |row: usize| {
                    let known = left.is_valid(row) && right.is_valid(row) && most.is_valid(row);
                    known.then(|| found.is_valid(row) && found.value(row) <= most.value(row))
                };
                Arc::new((0..found.len()).map(near).collect::<BooleanArray>())
            }
        };
        Ok(match all_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?),
            false => ColumnarValue::Array(made),
        })
    }
}

/// Checks whether a field holds geographies.
fn is_on_globe(field: &Field) -> bool {
    geo_metadata(field).is_some_and(|(_, edges)| edges.is_some())
}

#[cfg(test)]
mod tests {
    use datafusion::config::ConfigOptions;

    use super::*;

    fn globe() -> Field {
        let about = [(NAME.to_owned(), WKB.to_owned()), (ABOUT.to_owned(), r#"{"edges":"spherical"}"#.to_owned())];
        Field::new("g", DataType::Binary, true).with_metadata(about.into())
    }

    fn call(name: &str, args: Vec<(Field, ScalarValue)>) -> Result<ScalarValue> {
        let function = functions().into_iter().find(|f| f.name() == name).expect(name);
        let arg_fields: Vec<FieldRef> = args.iter().map(|(field, _)| Arc::new(field.clone())).collect();
        let scalars: Vec<Option<&ScalarValue>> = args.iter().map(|(_, value)| Some(value)).collect();
        let return_field =
            function.return_field_from_args(ReturnFieldArgs { arg_fields: &arg_fields, scalar_arguments: &scalars })?;
        let args = args.iter().map(|(_, value)| ColumnarValue::Scalar(value.clone())).collect();
        let config_options = Arc::new(ConfigOptions::default());
        match function.invoke_with_args(ScalarFunctionArgs { args, arg_fields, number_rows: 1, return_field, config_options })? {
            ColumnarValue::Scalar(value) => Ok(value),
            ColumnarValue::Array(_) => panic!("a scalar of scalars"),
        }
    }

    fn shape(text: &str) -> (Field, ScalarValue) {
        let text = (Field::new("t", DataType::Utf8, true), ScalarValue::from(text));
        (shapes("g"), call("st_geomfromtext", vec![text]).expect("a shape"))
    }

    /// The expected values are those of PostGIS.
    #[test]
    fn shapes_lie_to_each_other_as_they_do() {
        let square = "POLYGON ((0 0, 10 0, 10 10, 0 10, 0 0))";
        for (name, a, b, expected) in [
            ("st_intersects", "POINT (5 5)", square, true),
            ("st_intersects", "POINT (10 5)", square, true),
            ("st_intersects", "POINT (10.5 5)", square, false),
            ("st_intersects", "LINESTRING (-5 5, 15 5)", square, true),
            ("st_intersects", "POINT EMPTY", square, false),
            ("st_within", "POINT (5 5)", square, true),
            ("st_within", "POINT (10 5)", square, false),
            ("st_within", "LINESTRING (1 1, 2 2)", square, true),
            ("st_within", square, square, true),
            ("st_contains", square, "POINT (5 5)", true),
            ("st_contains", square, "POINT (0 0)", false),
        ] {
            let found = call(name, vec![shape(a), shape(b)]).expect("a truth");
            assert_eq!(found, ScalarValue::Boolean(Some(expected)), "{name} of {a} and {b}");
        }
        let near = |b: &str, most: f64| {
            call("st_dwithin", vec![shape("POINT (0 0)"), shape(b), (Field::new("d", DataType::Float64, true), most.into())])
        };
        assert_eq!(near("POINT (3 4)", 5.0).expect("a truth"), true.into());
        assert_eq!(near("POINT (3 4)", 4.99).expect("a truth"), false.into());
        assert_eq!(near("POLYGON ((3 3, 4 3, 4 4, 3 3))", 4.25).expect("a truth"), true.into());
        assert_eq!(near("POINT EMPTY", 1.0).expect("a truth"), false.into());
    }

    #[test]
    fn text_comes_back_with_all_its_coordinates() {
        for text in [
            "POINT(1 2)",
            "POINT Z(1 2 3)",
            "LINESTRING(0 0,1.5 -2)",
            "POLYGON((0 0,4 0,4 4,0 0),(1 1,2 1,2 2,1 1))",
            "MULTIPOINT((0 0),(1 1))",
            "GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1))",
            "POINT EMPTY",
        ] {
            let back = call("st_astext", vec![shape(text)]).expect("text");
            assert_eq!(back, ScalarValue::Utf8(Some(text.to_owned())));
        }
        let deep = format!("{}POINT (1 2){}", "GEOMETRYCOLLECTION (".repeat(20_000), ")".repeat(20_000));
        let deep = (Field::new("t", DataType::Utf8, true), ScalarValue::from(deep));
        let error = call("st_geomfromtext", vec![deep]).expect_err("too deep").to_string();
        assert!(error.contains("more than 100 deep"), "{error}");
        let wrong = (Field::new("t", DataType::Utf8, true), ScalarValue::from("POINT (1"));
        let error = call("st_geomfromtext", vec![wrong]).expect_err("no text").to_string();
        assert!(error.contains("'POINT (1' is not well-known text (WKT)"), "{error}");
        let bytes = (Field::new("b", DataType::Binary, true), ScalarValue::Binary(Some(vec![1, 2, 3])));
        call("st_astext", vec![bytes]).expect_err("no shape");
    }

    /// The way from Paris to New York is 5,853 km long along the surface of WGS 84.
    #[test]
    fn on_a_globe_points_have_a_distance_in_metres_and_others_have_none() {
        let on = |text: &str| (globe(), shape(text).1);
        let found = call("st_distance", vec![on("POINT (2.3522 48.8566)"), on("POINT (-74.0060 40.7128)")]).expect("a distance");
        assert!(matches!(found, ScalarValue::Float64(Some(m)) if (m / 5_852_900.0 - 1.0).abs() < 0.01), "{found}");
        call("st_distance", vec![on("LINESTRING (0 0, 1 1)"), on("POINT (0 0)")]).expect_err("no points");
        let error = call("st_intersects", vec![on("POINT (0 0)"), shape("POINT (0 0)")]).expect_err("a globe").to_string();
        assert!(error.contains("not served for geographies"), "{error}");
    }
}
