//! Bounding boxes of geometries, as Parquet footers and manifests hold them.
//!
//! A box has ranges of x and y, and optionally z and m. On a globe, x is a longitude in degrees. A range whose first longitude is
//! greater than its second crosses the 180th meridian. Spec: "Bounds for Geometry and Geography", Appendix D "Bound
//! serialization".

use esker_format::BoundBytes;
use parquet::basic::LogicalType;
use parquet::file::metadata::ColumnChunkMetaData;

/// The range of longitudes of a globe, in degrees.
pub const LONGITUDES: (f64, f64) = (-180.0, 180.0);

/// A box around geometries, with ranges of x and y and optionally z and m.
///
/// If the lower x is greater than the upper one, the box crosses the 180th meridian.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoundingBox {
    x: (f64, f64),
    y: (f64, f64),
    z: Option<(f64, f64)>,
    m: Option<(f64, f64)>,
}

impl BoundingBox {
    /// Returns the box around the geometries of a column chunk; none if the footer has none or an invalid one.
    pub fn of(chunk: &ColumnChunkMetaData) -> Option<Self> {
        let found = chunk.geo_statistics()?.bounding_box()?;
        let pair = |low: Option<f64>, high: Option<f64>| low.zip(high);
        let z = pair(found.get_zmin(), found.get_zmax());
        let m = pair(found.get_mmin(), found.get_mmax());
        let made = Self { x: (found.get_xmin(), found.get_xmax()), y: (found.get_ymin(), found.get_ymax()), z, m };
        let on_globe = matches!(chunk.column_descr().logical_type_ref(), Some(LogicalType::Geography(_)));
        made.is_sound(on_globe).then_some(made)
    }

    /// Decodes the box around a file's geometries from the two bounds of its manifest entry.
    ///
    /// `on_globe` is true for type `geography`; only such a box may cross the 180th meridian. None if the bounds are no valid
    /// corners. Spec: Appendix D, "Bound serialization".
    pub fn of_bounds(lower: &[u8], upper: &[u8], on_globe: bool) -> Option<Self> {
        let corner = |bytes: &[u8]| -> Option<Vec<f64>> {
            let whole = bytes.len().is_multiple_of(8) && (2..=4).contains(&(bytes.len() / 8));
            whole.then(|| bytes.chunks_exact(8).filter_map(|b| Some(f64::from_le_bytes(b.try_into().ok()?))).collect())
        };
        let (low, high) = (corner(lower)?, corner(upper)?);
        let pair = |at: usize| Some((*low.get(at)?, *high.get(at)?)).filter(|(low, high)| !low.is_nan() && !high.is_nan());
        let made = Self { x: pair(0)?, y: pair(1)?, z: pair(2), m: pair(3) };
        made.is_sound(on_globe).then_some(made)
    }

    /// Checks that a geometry within this box may share a point with the box of `x` and `y`.
    ///
    /// Either box may cross the 180th meridian.
    pub fn may_meet(&self, x: (f64, f64), y: (f64, f64)) -> bool {
        let overlap = |a: (f64, f64), b: (f64, f64)| a.0 <= b.1 && b.0 <= a.1;
        let parts = |x: (f64, f64)| match x.0 <= x.1 {
            true => vec![x],
            false => vec![(x.0, f64::INFINITY), (f64::NEG_INFINITY, x.1)],
        };
        overlap(self.y, y) && parts(self.x).iter().any(|a| parts(x).iter().any(|b| overlap(*a, *b)))
    }

    /// Checks that all ranges are finite and ascend; longitudes may descend on a globe.
    fn is_sound(&self, on_globe: bool) -> bool {
        let finite = |(low, high): (f64, f64)| low.is_finite() && high.is_finite();
        let rises = |pair: (f64, f64)| finite(pair) && pair.0 <= pair.1;
        let in_degrees = |(low, high): (f64, f64)| low.abs() <= 180.0 && high.abs() <= 180.0;
        let x = rises(self.x) || (on_globe && finite(self.x) && in_degrees(self.x));
        x && rises(self.y) && self.z.is_none_or(rises) && self.m.is_none_or(rises)
    }

    /// Returns the least box around both boxes. A z or m range that only one box has is taken as it is.
    pub fn with(self, other: Self) -> Self {
        let hull = |a: (f64, f64), b: (f64, f64)| (a.0.min(b.0), a.1.max(b.1));
        let both = |a: Option<(f64, f64)>, b| a.zip(b).map(|(a, b)| hull(a, b)).or(a).or(b);
        Self { x: longitudes(self.x, other.x), y: hull(self.y, other.y), z: both(self.z, other.z), m: both(self.m, other.m) }
    }

    /// Encodes the lower and the upper corner as bounds of a manifest entry.
    ///
    /// Each is two to four little-endian doubles: x, y, z, m; z is NaN if only m is known. Spec: Appendix D, "Bound
    /// serialization".
    pub fn bounds(&self) -> (BoundBytes, BoundBytes) {
        let corner = |x: f64, y: f64, z: Option<f64>, m: Option<f64>| {
            let third = match (z, m) {
                (None, Some(_)) => Some(f64::NAN),
                (z, _) => z,
            };
            let numbers = [Some(x), Some(y), third, m];
            BoundBytes::new(numbers.into_iter().flatten().flat_map(f64::to_le_bytes).collect::<Vec<u8>>())
        };
        let (low, high) = (|pair: (f64, f64)| pair.0, |pair: (f64, f64)| pair.1);
        (
            corner(self.x.0, self.y.0, self.z.map(low), self.m.map(low)),
            corner(self.x.1, self.y.1, self.z.map(high), self.m.map(high)),
        )
    }
}

/// Returns the least range that holds two ranges, each of which may cross the 180th meridian.
fn longitudes(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    let across = |range: (f64, f64)| range.0 > range.1;
    match (across(a), across(b)) {
        (false, false) => (a.0.min(b.0), a.1.max(b.1)),
        (true, true) => {
            let made = (a.0.min(b.0), a.1.max(b.1));
            if across(made) { made } else { LONGITUDES }
        }
        (false, true) => longitudes(b, a),
        // Only the first range crosses the meridian. It grows to the west or to the east, whichever adds less.
        (true, false) if b.0 >= a.0 || b.1 <= a.1 => a,
        (true, false) => {
            let (west, east) = ((b.0, a.1), (a.0, b.1));
            let least = if a.0 - b.0 <= b.1 - a.1 { west } else { east };
            if across(least) { least } else { LONGITUDES }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(range: (f64, f64), x: f64) -> bool {
        if range.0 <= range.1 { (range.0..=range.1).contains(&x) } else { x >= range.0 || x <= range.1 }
    }

    proptest! {
        #[test]
        fn a_range_around_two_holds_what_either_holds(
            a in (-18_i32..=18, -18_i32..=18), b in (-18_i32..=18, -18_i32..=18), x in -18_i32..=18,
        ) {
            let range = |(low, high): (i32, i32)| (f64::from(low) * 10.0, f64::from(high) * 10.0);
            let (a, b, x) = (range(a), range(b), f64::from(x) * 10.0);
            let made = longitudes(a, b);
            if holds(a, x) || holds(b, x) {
                prop_assert!(holds(made, x), "{:?} and {:?} in {:?}: {}", a, b, made, x);
            }
            if a.0 <= a.1 && b.0 <= b.1 {
                prop_assert!(made.0 <= made.1, "geometries have no meridian to cross");
            }
        }
    }

    #[test]
    fn a_range_around_two_is_no_larger_than_it_has_to_be() {
        assert_eq!(longitudes((170.0, -170.0), (160.0, 165.0)), (160.0, -170.0));
        assert_eq!(longitudes((170.0, -170.0), (-165.0, -160.0)), (170.0, -160.0));
        assert_eq!(longitudes((-179.0, -178.0), (170.0, -170.0)), (170.0, -170.0));
        assert_eq!(longitudes((10.0, 5.0), (6.0, 9.0)), (6.0, 5.0));
        assert_eq!(longitudes((10.0, 5.0), (4.0, 11.0)), LONGITUDES);
    }

    #[test]
    fn bounds_come_back_and_say_what_may_meet_them() {
        let of = |around: BoundingBox, on_globe| {
            let (low, high) = around.bounds();
            BoundingBox::of_bounds(low.bytes(), high.bytes(), on_globe)
        };
        let flat = BoundingBox { x: (1.0, 2.0), y: (3.0, 4.0), z: Some((5.0, 6.0)), m: None };
        assert_eq!(of(flat, false), Some(flat));
        assert!(
            flat.may_meet((2.0, 9.0), (0.0, 3.0))
                && !flat.may_meet((2.1, 9.0), (0.0, 3.0))
                && !flat.may_meet((1.0, 2.0), (5.0, 6.0))
        );
        let across = BoundingBox { x: (170.0, -170.0), ..flat };
        assert_eq!((of(across, true), of(across, false)), (Some(across), None));
        for (x, meets) in [((175.0, 176.0), true), ((-175.0, -171.0), true), ((0.0, 10.0), false), ((160.0, -175.0), true)] {
            assert_eq!(across.may_meet(x, (3.0, 3.0)), meets, "{x:?}");
        }
        assert_eq!(BoundingBox::of_bounds(&[0; 8], &[0; 16], false), None);
        let nan = f64::NAN.to_le_bytes().repeat(2);
        assert_eq!(BoundingBox::of_bounds(&nan, &nan, false), None);
    }

    /// Specification, Appendix D: x and y, then z, then m; z is NaN where there is m alone.
    #[test]
    fn corners_are_numbers_one_after_the_other() {
        let doubles = |bound: &BoundBytes| -> Vec<f64> {
            bound.bytes().chunks(8).map(|b| f64::from_le_bytes(b.try_into().expect("eight bytes"))).collect()
        };
        let flat = BoundingBox { x: (1.0, 2.0), y: (3.0, 4.0), z: None, m: None };
        let (low, high) = flat.bounds();
        assert_eq!((doubles(&low), doubles(&high)), (vec![1.0, 3.0], vec![2.0, 4.0]));
        let (low, _) = BoundingBox { z: Some((5.0, 6.0)), m: Some((7.0, 8.0)), ..flat }.bounds();
        assert_eq!(doubles(&low), [1.0, 3.0, 5.0, 7.0]);
        let (_, high) = BoundingBox { m: Some((7.0, 8.0)), ..flat }.bounds();
        let high = doubles(&high);
        assert!(high[2].is_nan() && high[3] == 8.0, "{high:?}");
    }
}
