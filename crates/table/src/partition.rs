//! The identity of a partition: its spec and its values, compared as Java compares them.
//!
//! Values have the types that their columns have now, so that a partition stays the same one when its column is promoted.
//! Labels are for people and identify nothing.

use std::borrow::Cow;

use esker_format::{PrimitiveType, TableMetadata, Type, Value};

/// The key that identifies a partition: the id of its spec, and its values.
///
/// Two keys are equal if Java's `StructLikeWrapper` finds them equal: every NaN is the same value, 0.0 and -0.0 are different ones.
/// The values must have the types that their columns have now, as [`crate::Manifests::load`] returns them. Spec: "Partitioning".
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionKey<'a> {
    spec_id: i32,
    values: Cow<'a, [Option<Value>]>,
}

impl<'a> PartitionKey<'a> {
    /// Creates the key of the partition of a spec with these values, in the order of the spec's fields.
    pub const fn new(spec_id: i32, values: &'a [Option<Value>]) -> Self {
        Self { spec_id, values: Cow::Borrowed(values) }
    }

    /// Returns the id of the partition spec.
    pub const fn spec_id(&self) -> i32 {
        self.spec_id
    }

    /// Returns the values, in the order of the spec's fields.
    pub fn values(&self) -> &[Option<Value>] {
        &self.values
    }

    /// Converts the key into one that owns its values.
    pub fn into_owned(self) -> PartitionKey<'static> {
        PartitionKey { spec_id: self.spec_id, values: Cow::Owned(self.values.into_owned()) }
    }
}

/// The types of a spec's partition values, in the order of its fields; `None` if no schema has the source column any more.
pub type PartitionTypes = Vec<Option<PrimitiveType>>;

/// Returns the present types of a spec's partition values.
///
/// They follow from the present type of each source column, or from its last type if the column was dropped. The result is empty if
/// the table has no such spec.
pub fn partition_types(metadata: &TableMetadata, spec_id: i32) -> PartitionTypes {
    metadata.partition_types(spec_id)
}

/// Returns the present types of the partition values of every spec of the table, in the order of the spec ids.
pub fn all_partition_types(metadata: &TableMetadata) -> Vec<(i32, PartitionTypes)> {
    let mut specs: Vec<i32> = metadata.partition_specs.iter().map(|spec| spec.spec_id()).collect();
    specs.sort_unstable();
    specs.into_iter().map(|id| (id, partition_types(metadata, id))).collect()
}

/// Returns the present type of a column, or its last type if it was dropped.
pub fn column_type(metadata: &TableMetadata, id: i32) -> Option<&Type> {
    metadata.type_of_field(id)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashSet;

    use esker_format::Tuple;
    use proptest::prelude::*;

    use super::*;
    use crate::manifests::convert_partition;

    /// Compares two values of one column as Java's comparators do (`Comparators.forType`, `Double.compare`, unsigned bytes).
    fn java_equal(a: Option<&Value>, b: Option<&Value>) -> bool {
        let (Some(a), Some(b)) = (a, b) else { return a.is_none() && b.is_none() };
        let real = |v: &Value| match v {
            Value::Float(v) => Some(f64::from(*v)),
            Value::Double(v) => Some(*v),
            _ => None,
        };
        let same = std::mem::discriminant(a) == std::mem::discriminant(b);
        match (real(a), real(b)) {
            (Some(a), Some(b)) => {
                same && ((a.is_nan() && b.is_nan()) || (a == b && a.is_sign_negative() == b.is_sign_negative()))
            }
            _ => same && a.to_bytes() == b.to_bytes(),
        }
    }

    /// Generates values that are easily confused.
    pub(crate) fn value() -> impl Strategy<Value = Option<Value>> {
        let reals = prop_oneof![Just(0.0_f32), Just(-0.0), Just(f32::NAN), Just(-f32::NAN), Just(1.5), Just(f32::INFINITY)];
        let texts = prop_oneof!["null", "", "a", "a/b=1", "\"", "[a-b]{0,2}"];
        prop_oneof![
            Just(None),
            (-2_i32..3).prop_map(|v| Some(Value::Int(v))),
            (-2_i64..3).prop_map(|v| Some(Value::Long(v))),
            reals.clone().prop_map(|v| Some(Value::Float(v))),
            reals.prop_map(|v| Some(Value::Double(f64::from(v)))),
            any::<bool>().prop_map(|v| Some(Value::Boolean(v))),
            texts.prop_map(|v| Some(Value::String(v.into()))),
            prop::collection::vec(any::<u8>(), 0..3).prop_map(|v| Some(Value::Binary(v.into()))),
            (-2_i128..3).prop_map(|unscaled| Some(Value::Decimal { unscaled, scale: 0 })),
            any::<u8>().prop_map(|v| Some(Value::Uuid(uuid::Uuid::from_u128(v.into())))),
        ]
    }

    proptest! {
        /// Checks that keys are equal, have equal hashes and compare as equal exactly if Java finds the values equal.
        #[test]
        fn partitions_are_compared_as_java_compares_them(
            a in prop::collection::vec(value(), 0..3), b in prop::collection::vec(value(), 0..3), specs in (0_i32..2, 0_i32..2),
        ) {
            let expected = specs.0 == specs.1 && a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| java_equal(a.as_ref(), b.as_ref()));
            let (a, b) = (PartitionKey::new(specs.0, &a), PartitionKey::new(specs.1, &b));
            prop_assert_eq!(a == b, expected, "{:?} {:?}", a, b);
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(HashSet::from([a, b]).len(), 2 - usize::from(expected));
        }

        /// Checks that a value from before a promotion, or from before the table was set back, stays in the same partition.
        #[test]
        fn a_promoted_value_is_in_the_same_partition(v in -2_i32..3, real in prop_oneof![Just(0.5_f32), Just(-0.0), Just(f32::NAN)], wide: bool) {
            let (narrow, wider) = ([Some(Value::Int(v)), Some(Value::Float(real))], [Some(Value::Long(v.into())), Some(Value::Double(real.into()))]);
            let (from, to) = if wide { (narrow, wider) } else { (wider, narrow) };
            let types = match wide {
                true => vec![Some(PrimitiveType::Long), Some(PrimitiveType::Double)],
                false => vec![Some(PrimitiveType::Int), Some(PrimitiveType::Float)],
            };
            let mut brought: Tuple = from.into();
            convert_partition(&mut brought, &types);
            prop_assert_eq!(PartitionKey::new(0, &brought), PartitionKey::new(0, &to));
        }
    }
}
