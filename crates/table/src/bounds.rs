//! The counts and bounds of a column in a file, reduced to those that can be relied on.
//!
//! Many writers fill manifests. Bounds that contradict each other are dropped, and zeros are widened to both signs. A missing count
//! or bound means unknown, so a reader must not rule out the file by it.

use esker_format::{BoundBytes, BoundMap, ColumnStats, DataFile, PrimitiveType, Value};

use crate::ranges::{high_zero, low_zero};

/// The counts and bounds of a column in a file. `None` means unknown, never zero.
///
/// A bound may lie beyond the values, because writers truncate strings and may round. It has the type that the caller asked for. A
/// zero bound covers both -0.0 and 0.0, because engines differ in their order. Spec: "Data File Fields".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnBounds<T = Value> {
    /// The lower bound: no value except NaN is less.
    pub lower: Option<T>,
    /// The upper bound: no value except NaN is greater.
    pub upper: Option<T>,
    /// The number of values, null and NaN included. Columns in lists and maps may have more values than rows.
    pub values: Option<u64>,
    /// The number of values that are null.
    pub nulls: Option<u64>,
    /// The number of values that are NaN.
    pub nans: Option<u64>,
}

impl<T> Default for ColumnBounds<T> {
    fn default() -> Self {
        Self { lower: None, upper: None, values: None, nulls: None, nans: None }
    }
}

impl ColumnBounds {
    /// Decodes the statistics of a column as bounds of the type `ty`.
    ///
    /// It drops both bounds if one is NaN or if the lower is above the upper. Their writer did not compare values as the
    /// specification does. `None` gives unknown counts and bounds.
    pub fn of(stats: Option<ColumnStats<'_>>, ty: &PrimitiveType) -> Self {
        let Some(stats) = stats else { return Self::default() };
        let decoded = |bound: Option<&[u8]>| Value::from_bytes(ty, bound?);
        let (lower, upper) = (decoded(stats.lower_bound), decoded(stats.upper_bound));
        let is_nan = [&lower, &upper].into_iter().flatten().any(Value::is_nan);
        let (lower, upper) = if is_nan { (None, None) } else { (lower.map(low_zero), upper.map(high_zero)) };
        Self::new(&stats, lower, upper)
    }
}

impl ColumnBounds<i64> {
    /// Decodes the statistics of a column like [`ColumnBounds::of`], for types whose values are whole numbers
    /// ([`Value::as_integer`]).
    #[inline]
    pub(crate) fn of_whole(stats: Option<ColumnStats<'_>>, ty: &PrimitiveType) -> Self {
        let Some(stats) = stats else { return Self::default() };
        let decoded = |bound: Option<&[u8]>| Value::integer_from_bytes(ty, bound?);
        Self::new(&stats, decoded(stats.lower_bound), decoded(stats.upper_bound))
    }
}

impl<T: PartialOrd> ColumnBounds<T> {
    #[inline]
    fn new(stats: &ColumnStats<'_>, lower: Option<T>, upper: Option<T>) -> Self {
        let inverted = lower.as_ref().zip(upper.as_ref()).is_some_and(|(lower, upper)| lower > upper);
        let (lower, upper) = if inverted { (None, None) } else { (lower, upper) };
        Self { lower, upper, values: stats.value_count, nulls: stats.null_count, nans: stats.nan_count }
    }

    /// Returns true if every value is known to be null.
    pub fn only_nulls(&self) -> bool {
        self.values.is_some() && self.values == self.nulls
    }

    /// Returns true if no value is known to be null; an unknown count gives false.
    pub fn no_nulls(&self) -> bool {
        self.nulls == Some(0)
    }

    /// Returns true if the manifest counts no NaN; an unknown count gives false, as for types that have no NaN.
    pub fn no_nans(&self) -> bool {
        self.nans == Some(0)
    }
}

/// Sets the lower and upper bounds of a file's columns, by field id. An empty list becomes `None`.
pub fn with_bounds(
    file: DataFile,
    lower: impl IntoIterator<Item = (i32, BoundBytes)>,
    upper: impl IntoIterator<Item = (i32, BoundBytes)>,
) -> DataFile {
    let some = |bounds: BoundMap| Some(bounds).filter(|bounds| !bounds.is_empty());
    let (lower_bounds, upper_bounds) = (some(lower.into_iter().collect()), some(upper.into_iter().collect()));
    DataFile { lower_bounds, upper_bounds, ..file }
}

#[cfg(test)]
pub(crate) mod tests {
    use esker_format::{DataContentType, DataFileFormat};
    use proptest::prelude::*;

    use super::*;

    fn file(lower: Option<Value>, upper: Option<Value>) -> DataFile {
        let bounds = |bound: Option<Value>| -> Option<BoundMap> {
            Some([(1, BoundBytes::of(&bound?).expect("a bound"))].into_iter().collect())
        };
        let file = DataFile::new(DataContentType::Data, "f", DataFileFormat::Parquet, 1, 1);
        DataFile { lower_bounds: bounds(lower), upper_bounds: bounds(upper), ..file }
    }

    fn bounds(lower: Option<Value>, upper: Option<Value>, ty: &PrimitiveType) -> (Option<Value>, Option<Value>) {
        let found = ColumnBounds::of(file(lower, upper).stats(1), ty);
        (found.lower, found.upper)
    }

    #[test]
    fn what_a_manifest_leaves_out_is_unknown() {
        let none = ColumnBounds::of(file(None, None).stats(1), &PrimitiveType::Int);
        assert_eq!(none, ColumnBounds::default());
        assert!(!none.only_nulls() && !none.no_nulls() && !none.no_nans());
    }

    #[test]
    fn a_bound_that_is_nan_or_inverted_is_none() {
        let double = PrimitiveType::Double;
        let of = |v: f64| Some(Value::Double(v));
        assert_eq!(bounds(of(f64::NAN), of(1.0), &double), (None, None));
        assert_eq!(bounds(of(1.0), of(-f64::NAN), &double), (None, None));
        assert_eq!(bounds(of(2.0), of(1.0), &double), (None, None));
        assert_eq!(bounds(of(1.0), None, &double), (of(1.0), None));
        assert_eq!(
            bounds(Some(Value::String("b".into())), Some(Value::String("a".into())), &PrimitiveType::String),
            (None, None)
        );
        assert_eq!(bounds(Some(Value::Int(7)), Some(Value::Int(7)), &PrimitiveType::Int).1, Some(Value::Int(7)));
    }

    #[test]
    fn bounds_hold_for_both_zeros() {
        let of = |v: f64| Some(Value::Double(v));
        assert_eq!(bounds(of(0.0), of(-0.0), &PrimitiveType::Double), (of(-0.0), of(0.0)));
    }

    #[test]
    fn bounds_are_of_the_type_that_the_column_has_now() {
        let (low, high) = bounds(Some(Value::Int(-1)), Some(Value::Int(9)), &PrimitiveType::Long);
        assert_eq!((low, high), (Some(Value::Long(-1)), Some(Value::Long(9))));
        let (low, high) = bounds(Some(Value::Float(0.1)), Some(Value::Float(0.5)), &PrimitiveType::Double);
        assert_eq!((low, high), (Some(Value::Double(f64::from(0.1_f32))), Some(Value::Double(0.5))));
        assert_eq!(bounds(Some(Value::String("a".into())), None, &PrimitiveType::Int), (None, None));
        let day = Some(Value::Timestamp(86_400_000_000));
        assert_eq!(bounds(Some(Value::Date(1)), None, &PrimitiveType::Timestamp).0, day);
        assert_eq!(bounds(Some(Value::Long(1 << 40)), None, &PrimitiveType::Int), (None, None));
    }

    #[test]
    fn a_bound_that_is_cut_inside_a_character_is_none_and_costs_no_other() {
        let cut = |bytes: &[u8]| Some([(1, BoundBytes::new(bytes.to_vec()))].into_iter().collect::<BoundMap>());
        let file = DataFile { lower_bounds: cut(b"a"), upper_bounds: cut(&[0xe2, 0x82]), ..file(None, None) };
        let found = ColumnBounds::of(file.stats(1), &PrimitiveType::String);
        assert_eq!((found.lower, found.upper), (Some(Value::String("a".into())), None));
    }

    proptest! {
        /// Checks that the decoded bounds never exclude a value that lies between the written bounds, whatever those are.
        #[test]
        fn a_value_between_the_bounds_stays_between_them(low in any::<i32>(), high in any::<i32>(), value in any::<i32>()) {
            let (found_low, found_high) = bounds(Some(Value::Int(low)), Some(Value::Int(high)), &PrimitiveType::Long);
            prop_assert_eq!(found_low.is_some(), low <= high);
            if low <= value && value <= high {
                let value = Value::Long(i64::from(value));
                prop_assert!(found_low.is_none_or(|l| l <= value) && found_high.is_none_or(|h| h >= value));
            }
        }
    }
}
