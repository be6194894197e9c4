//! Prunes files and row groups by the boxes around their shapes.
//!
//! Conditions on where shapes lie become boxes that the shapes must meet. Spec: "Bounds for Geometry and Geography".

use arrow::datatypes::Schema;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::scalar::ScalarValue;
use esker_read::{BoundingBox, WkbKind, field_id, geo_metadata, wkb_kind};
use esker_table::PlannableFile;
use geo::{BoundingRect, CoordsIter};
use geo_traits::to_geo::ToGeoGeometry;
use parquet::file::metadata::ParquetMetaData;
use roaring::RoaringTreemap;
use wkb::reader::read_wkb;

/// Least number of metres that a radian of the surface of WGS 84 has.
const RADIUS: f64 = 6_335_439.0;

/// A box that the shapes of a column must have a point in common with.
///
/// A condition on distance widens the box. On a globe, the least longitude is the greater one if the box crosses the 180th
/// meridian.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SpatialCondition {
    id: i32,
    on_globe: bool,
    x: (f64, f64),
    y: (f64, f64),
}

/// Returns the conditions of filters on where shapes lie.
pub(crate) fn conditions(schema: &Schema, filters: &[Expr]) -> Vec<SpatialCondition> {
    filters.iter().flat_map(split_conjunction).filter_map(|filter| of(schema, filter)).collect()
}

/// Returns the condition of a filter on where shapes lie, if it is one.
fn of(schema: &Schema, filter: &Expr) -> Option<SpatialCondition> {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = filter else { return None };
    let more = match func.name() {
        "st_intersects" | "st_within" | "st_contains" => 0.0,
        "st_dwithin" => match args.get(2)? {
            Expr::Literal(value, _) => match value.cast_to(&arrow::datatypes::DataType::Float64).ok()? {
                ScalarValue::Float64(Some(most)) if most >= 0.0 => most,
                _ => return None,
            },
            _ => return None,
        },
        _ => return None,
    };
    let (column, shape) = match (args.first()?, args.get(1)?) {
        (Expr::Column(column), Expr::Literal(shape, _)) | (Expr::Literal(shape, _), Expr::Column(column)) => (column, shape),
        _ => return None,
    };
    let field = schema.field_with_name(&column.name).ok()?;
    let (_, edges) = geo_metadata(field)?;
    let bytes = match shape {
        ScalarValue::Binary(Some(bytes)) | ScalarValue::LargeBinary(Some(bytes)) | ScalarValue::BinaryView(Some(bytes)) => bytes,
        _ => return None,
    };
    let shape = (wkb_kind(bytes) != WkbKind::Wrong).then(|| read_wkb(bytes).ok())??.try_to_geometry()?;
    if shape.coords_iter().any(|at| !at.x.is_finite() || !at.y.is_finite()) {
        return None;
    }
    let around = shape.bounding_rect()?;
    let (x, y) = ((around.min().x, around.max().x), (around.min().y, around.max().y));
    let (id, on_globe) = (field_id(field)?, edges.is_some());
    let (x, y) = match on_globe {
        // Rounded up, because the ends of sums of floats may be less than they should be.
        false => widened(x, y, more * (1.0 + 1e-9)),
        true => on_surface(x, y, more)?,
    };
    Some(SpatialCondition { id, on_globe, x, y })
}

/// Widens a box by a distance on all sides.
fn widened(x: (f64, f64), y: (f64, f64), by: f64) -> ((f64, f64), (f64, f64)) {
    ((x.0 - by, x.1 + by), (y.0 - by, y.1 + by))
}

/// Returns the degrees that hold everything within a distance of a box; `None` around a pole or the whole globe.
fn on_surface(x: (f64, f64), y: (f64, f64), metres: f64) -> Option<((f64, f64), (f64, f64))> {
    let angle = metres / RADIUS * 1.01 + 1e-9;
    let (south, north) = (y.0.to_radians() - angle, y.1.to_radians() + angle);
    let most = std::f64::consts::FRAC_PI_2 - 1e-6;
    if south <= -most || north >= most {
        return None;
    }
    let widest = (angle.sin() / y.0.to_radians().cos().min(y.1.to_radians().cos())).min(1.0).asin();
    let by = widest.to_degrees() * 1.01;
    let (west, east) = (x.0 - by, x.1 + by);
    if east - west >= 360.0 {
        return None;
    }
    let around = |x: f64| {
        if x < -180.0 {
            x + 360.0
        } else if x > 180.0 {
            x - 360.0
        } else {
            x
        }
    };
    Some(((around(west), around(east)), (south.to_degrees(), north.to_degrees())))
}

impl SpatialCondition {
    /// Checks whether shapes in a box may meet the condition; unknown boxes may.
    fn may_hold(&self, around: Option<BoundingBox>) -> bool {
        around.is_none_or(|around| around.may_meet(self.x, self.y))
    }

    /// Checks whether a file may hold shapes that meet the condition.
    fn in_file(&self, file: &impl PlannableFile) -> bool {
        let stats = file.stats(self.id);
        if stats.is_some_and(|stats| stats.null_count.is_some() && stats.null_count == file.rows()) {
            return false;
        }
        let corners = stats.and_then(|stats| stats.lower_bound.zip(stats.upper_bound));
        self.may_hold(corners.and_then(|(low, high)| BoundingBox::of_bounds(low, high, self.on_globe)))
    }
}

/// Returns the files that may hold shapes that all conditions keep.
pub(crate) fn files<F: PlannableFile>(conditions: &[SpatialCondition], files: Vec<F>) -> Vec<F> {
    files.into_iter().filter(|file| conditions.iter().all(|near| near.in_file(file))).collect()
}

/// Returns the positions of rows in a file that the conditions do not keep, as far as its footer shows.
pub(crate) fn left_out(conditions: &[SpatialCondition], footer: &ParquetMetaData) -> RoaringTreemap {
    let (mut gone, mut start) = (RoaringTreemap::new(), 0);
    for group in footer.row_groups() {
        let rows = group.num_rows().unsigned_abs();
        let of = |id: i32| {
            group.columns().iter().find(|chunk| {
                let about = chunk.column_descr().self_type().get_basic_info();
                about.has_id() && about.id() == id && chunk.column_descr().max_rep_level() == 0
            })
        };
        if !conditions.iter().all(|near| near.may_hold(of(near.id).and_then(BoundingBox::of))) {
            gone.insert_range(start..start + rows);
        }
        start += rows;
    }
    gone
}

#[cfg(test)]
mod tests {
    use geo::{Destination, Geodesic, Point};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Anything within a distance in metres of a point lies in the box around it, across the 180th meridian too.
        #[test]
        fn the_box_around_a_point_holds_what_is_near_to_it(
            x in -180.0_f64..=180.0, y in -89.0_f64..=89.0, bearing in 0.0_f64..360.0, metres in 0.0_f64..2e6, share in 0.0_f64..=1.0,
        ) {
            if let Some((across, along)) = on_surface((x, x), (y, y), metres) {
                let there = Geodesic.destination(Point::new(x, y), bearing, metres * share);
                let within = |range: (f64, f64), v: f64| if range.0 <= range.1 { range.0 <= v && v <= range.1 } else { v >= range.0 || v <= range.1 };
                prop_assert!(within(along, there.y()), "{:?} {:?}", along, there);
                prop_assert!(within(across, there.x()), "{:?} {:?}", across, there);
            }
        }
    }
}
