//! What a manifest says about a column of a file, as far as it can be relied on.

use std::cmp::Ordering;

use iceberg::spec::{DataFile, Datum, PrimitiveType};

use crate::partition::promoted;
use crate::ranges::{datum, high_zero, low_zero};

/// Counts and bounds of a column in a file. What is missing is unknown, never zero.
///
/// A bound may lie beyond the values: texts are cut, and writers leave room. It is of the type that was asked for, and holds for both
/// zeros where engines differ in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnBounds {
    /// No value but NaN is less.
    pub lower: Option<Datum>,
    /// No value but NaN is greater.
    pub upper: Option<Datum>,
    /// Values, null and NaN included; in lists and maps there may be more than rows.
    pub values: Option<u64>,
    /// Values that are null.
    pub nulls: Option<u64>,
    /// Values that are NaN.
    pub nans: Option<u64>,
}

impl ColumnBounds {
    /// What the manifest says about a column of a type.
    ///
    /// Of bounds of which one is NaN, or the lower is above the upper, neither is taken: whoever wrote them did not compare values as the
    /// specification does.
    pub fn of(file: &DataFile, id: i32, ty: &PrimitiveType) -> Self {
        let given = |bound: Option<&Datum>| bound.map(|bound| bound_of(bound, ty));
        let (lower, upper) = (given(file.lower_bounds().get(&id)), given(file.upper_bounds().get(&id)));
        let nan = |bound: &Option<Option<Datum>>| bound.as_ref().and_then(Option::as_ref).is_some_and(Datum::is_nan);
        let reliable = !nan(&lower) && !nan(&upper);
        let (lower, upper) = (lower.flatten().map(low_zero), upper.flatten().map(high_zero));
        let inverted =
            lower.as_ref().zip(upper.as_ref()).is_some_and(|(l, u)| l.partial_cmp(u) != Some(Ordering::Less) && l != u);
        let (lower, upper) = if reliable && !inverted { (lower, upper) } else { (None, None) };
        let count = |of: &std::collections::HashMap<i32, u64>| of.get(&id).copied();
        Self {
            lower,
            upper,
            values: count(file.value_counts()),
            nulls: count(file.null_value_counts()),
            nans: count(file.nan_value_counts()),
        }
    }

    /// Whether every value is known to be null.
    pub fn only_nulls(&self) -> bool {
        self.values.is_some() && self.values == self.nulls
    }

    /// Whether no value is null, as far as is known.
    pub fn no_nulls(&self) -> bool {
        self.nulls == Some(0)
    }

    /// Whether no value is NaN, as far as is known. Of types without NaN nobody counts it.
    pub fn no_nans(&self) -> bool {
        self.nans == Some(0)
    }
}

/// A bound as a column of a type has it, where it can be: a file from before a promotion has the older type's. No value is cut to fit:
/// a bound that the type can't hold is none.
pub(crate) fn bound_of(bound: &Datum, ty: &PrimitiveType) -> Option<Datum> {
    match (bound.data_type(), ty) {
        (own, ty) if own == ty => Some(bound.clone()),
        // The length that a bound tells is its own.
        (PrimitiveType::Fixed(_), PrimitiveType::Fixed(_)) => Some(bound.clone()),
        (PrimitiveType::Decimal { scale: own, .. }, PrimitiveType::Decimal { scale, .. }) if own == scale => {
            datum(ty, bound.literal())
        }
        (own, ty) if is_promotion(own, ty) || is_promotion(ty, own) => datum(ty, &promoted(bound.literal(), ty)?),
        _ => None,
    }
}

/// Whether a column of a type may become one of another (spec, "Schema Evolution").
fn is_promotion(from: &PrimitiveType, to: &PrimitiveType) -> bool {
    use PrimitiveType::{Date, Double, Float, Int, Long, Timestamp, TimestampNs};
    matches!((from, to), (Int, Long) | (Float, Double) | (Date, Timestamp | TimestampNs))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;

    use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat};
    use proptest::prelude::*;

    use super::*;

    fn file(lower: Option<Datum>, upper: Option<Datum>) -> DataFile {
        let bounds = |bound: Option<Datum>| bound.map(|bound| (1, bound)).into_iter().collect::<HashMap<_, _>>();
        let mut builder = DataFileBuilder::default();
        builder.content(DataContentType::Data).file_path("f".to_owned()).file_format(DataFileFormat::Parquet).record_count(1);
        builder.file_size_in_bytes(1).lower_bounds(bounds(lower)).upper_bounds(bounds(upper));
        builder.build().expect("a file")
    }

    fn bounds(lower: Option<Datum>, upper: Option<Datum>, ty: &PrimitiveType) -> (Option<Datum>, Option<Datum>) {
        let found = ColumnBounds::of(&file(lower, upper), 1, ty);
        (found.lower, found.upper)
    }

    #[test]
    fn what_a_manifest_leaves_out_is_unknown() {
        let none = ColumnBounds::of(&file(None, None), 1, &PrimitiveType::Int);
        assert_eq!(none, ColumnBounds::default());
        assert!(!none.only_nulls() && !none.no_nulls() && !none.no_nans());
    }

    #[test]
    fn a_bound_that_is_nan_or_inverted_is_none() {
        let double = PrimitiveType::Double;
        let of = |v: f64| Some(Datum::double(v));
        assert_eq!(bounds(of(f64::NAN), of(1.0), &double), (None, None));
        assert_eq!(bounds(of(1.0), of(-f64::NAN), &double), (None, None));
        assert_eq!(bounds(of(2.0), of(1.0), &double), (None, None));
        assert_eq!(bounds(of(1.0), None, &double), (of(1.0), None));
        assert_eq!(bounds(Some(Datum::string("b")), Some(Datum::string("a")), &PrimitiveType::String), (None, None));
        assert_eq!(bounds(Some(Datum::int(7)), Some(Datum::int(7)), &PrimitiveType::Int).1, Some(Datum::int(7)));
    }

    #[test]
    fn bounds_hold_for_both_zeros() {
        let of = |v: f64| Some(Datum::double(v));
        let (low, high) = bounds(of(0.0), of(-0.0), &PrimitiveType::Double);
        assert_eq!((low.map(|l| l.to_bytes().expect("bytes")), high.map(|h| h.to_bytes().expect("bytes"))), {
            let bytes = |v: f64| Some(Datum::double(v).to_bytes().expect("bytes"));
            (bytes(-0.0), bytes(0.0))
        });
    }

    #[test]
    fn bounds_are_of_the_type_that_the_column_has_now() {
        let (low, high) = bounds(Some(Datum::int(-1)), Some(Datum::int(9)), &PrimitiveType::Long);
        assert_eq!((low, high), (Some(Datum::long(-1)), Some(Datum::long(9))));
        let (low, high) = bounds(Some(Datum::float(0.1_f32)), Some(Datum::float(0.5_f32)), &PrimitiveType::Double);
        assert_eq!((low, high), (Some(Datum::double(f64::from(0.1_f32))), Some(Datum::double(0.5))));
        assert_eq!(bounds(Some(Datum::string("a")), None, &PrimitiveType::Int), (None, None));
        assert_eq!(bounds(Some(Datum::date(1)), None, &PrimitiveType::Int), (None, None), "no promotion");
        let day = Some(Datum::timestamp_micros(86_400_000_000_i64));
        assert_eq!(bounds(Some(Datum::date(1)), None, &PrimitiveType::Timestamp).0, day);
        assert_eq!(bounds(Some(Datum::long(1_i64 << 40)), None, &PrimitiveType::Int), (None, None));
    }

    proptest! {
        /// Whatever is said of a column, what is taken of it never leaves out a value that lies between the bounds.
        #[test]
        fn a_value_between_the_bounds_stays_between_them(low in any::<i32>(), high in any::<i32>(), value in any::<i32>()) {
            let (found_low, found_high) = bounds(Some(Datum::int(low)), Some(Datum::int(high)), &PrimitiveType::Long);
            prop_assert_eq!(found_low.is_some(), low <= high);
            if low <= value && value <= high {
                let value = Datum::long(i64::from(value));
                prop_assert!(found_low.is_none_or(|l| l <= value) && found_high.is_none_or(|h| h >= value));
            }
        }
    }
}
