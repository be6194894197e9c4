//! What a partition is: its spec and its values, of the types that their columns have now, compared as Java compares them.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use iceberg::spec::{
    Literal, Manifest, ManifestEntryRef, NestedFieldRef, PartitionField, PrimitiveLiteral, PrimitiveType, Struct, TableMetadata,
    Type,
};

use crate::producer::incomplete;
use crate::{LiveFile, Result, copy_of};

/// What identifies a partition.
///
/// Two keys are equal where Java's `StructLikeWrapper` finds them equal: every NaN is the same value, 0.0
/// and -0.0 are two, and a value is the same before and after its column was promoted.
#[derive(Debug, Clone)]
pub struct PartitionKey<'a> {
    spec_id: i32,
    values: Cow<'a, Struct>,
}

impl<'a> PartitionKey<'a> {
    /// The partition of a spec with these values.
    pub fn new(spec_id: i32, values: &'a Struct) -> Self {
        Self { spec_id, values: Cow::Borrowed(values) }
    }

    /// The partition that a data or delete file is in.
    pub fn of(file: &'a LiveFile) -> Self {
        Self::new(file.spec_id, file.file.partition())
    }

    /// The spec.
    pub const fn spec_id(&self) -> i32 {
        self.spec_id
    }

    /// The values, in the order of the spec's fields.
    pub fn values(&self) -> &Struct {
        &self.values
    }

    /// The key with values of its own.
    pub fn into_owned(self) -> PartitionKey<'static> {
        PartitionKey { spec_id: self.spec_id, values: Cow::Owned(self.values.into_owned()) }
    }

    fn compared(&self) -> impl Iterator<Item = Value<'_>> {
        self.values.iter().map(Value::of)
    }
}

impl PartialEq for PartitionKey<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for PartitionKey<'_> {}

impl PartialOrd for PartitionKey<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PartitionKey<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.spec_id.cmp(&other.spec_id).then_with(|| self.compared().cmp(other.compared()))
    }
}

impl Hash for PartitionKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spec_id.hash(state);
        self.compared().for_each(|value| value.hash(state));
    }
}

/// A partition value as it is compared; null comes first. An int and a long of one column are one kind, as are floats and doubles.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Value<'a> {
    Null,
    Boolean(bool),
    Whole(i128),
    /// The bits of a double, turned so that they are in its order.
    Real(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Uuid(u128),
    BelowMin,
    AboveMax,
    /// No transform gives one. Whatever it is, it is equal to itself alone.
    Nested(String),
}

impl<'a> Value<'a> {
    fn of(literal: Option<&'a Literal>) -> Self {
        let Some(literal) = literal else { return Self::Null };
        let Literal::Primitive(literal) = literal else { return Self::Nested(format!("{literal:?}")) };
        match literal {
            PrimitiveLiteral::Boolean(v) => Self::Boolean(*v),
            PrimitiveLiteral::Int(v) => Self::Whole((*v).into()),
            PrimitiveLiteral::Long(v) => Self::Whole((*v).into()),
            PrimitiveLiteral::Int128(v) => Self::Whole(*v),
            PrimitiveLiteral::Float(v) => Self::Real(ordered(v.0.into())),
            PrimitiveLiteral::Double(v) => Self::Real(ordered(v.0)),
            PrimitiveLiteral::String(v) => Self::Text(v),
            PrimitiveLiteral::Binary(v) => Self::Bytes(v),
            PrimitiveLiteral::UInt128(v) => Self::Uuid(*v),
            PrimitiveLiteral::BelowMin => Self::BelowMin,
            PrimitiveLiteral::AboveMax => Self::AboveMax,
        }
    }
}

/// As `Double.compare` orders: -0.0 before 0.0, NaN last.
fn ordered(v: f64) -> i64 {
    let bits = v.to_bits().cast_signed();
    match v.is_nan() {
        true => i64::MAX,
        false => bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed(),
    }
}

/// The types of the values of a spec's fields, in their order; none where nothing tells it any more.
pub type PartitionTypes = Vec<Option<PrimitiveType>>;

/// The types that a spec's partition values have as the table is now: by the present type of each source column; by the last type that
/// it had, where it was dropped.
pub fn partition_types(metadata: &TableMetadata, spec_id: i32) -> PartitionTypes {
    let spec = metadata.partition_spec_by_id(spec_id);
    let fields = spec.map_or(&[][..], |spec| spec.fields());
    let of = |field: &PartitionField| {
        let result = field.transform.result_type(column_type(metadata, field.source_id)?).ok()?;
        result.as_primitive_type().cloned()
    };
    fields.iter().map(of).collect()
}

/// The types that partition values have as the table is now, for every spec of the table, with its id.
pub fn all_partition_types(metadata: &TableMetadata) -> Vec<(i32, PartitionTypes)> {
    let mut specs: Vec<i32> = metadata.partition_specs_iter().map(|spec| spec.spec_id()).collect();
    specs.sort_unstable();
    specs.into_iter().map(|id| (id, partition_types(metadata, id))).collect()
}

/// The type of a column now, or the last that it had before it was dropped.
pub fn column_type(metadata: &TableMetadata, id: i32) -> Option<&Type> {
    let now = metadata.current_schema().field_by_id(id);
    now.or_else(|| last_field(metadata, id)).map(|field| field.field_type.as_ref())
}

/// A column as the newest schema that has it has it.
pub(crate) fn last_field(metadata: &TableMetadata, id: i32) -> Option<&NestedFieldRef> {
    let newest =
        metadata.schemas_iter().filter(|schema| schema.field_by_id(id).is_some()).max_by_key(|schema| schema.schema_id());
    newest.and_then(|schema| schema.field_by_id(id))
}

/// A value as a column of a type has it after promotion (spec, "Schema Evolution"); none where it is of that type already, or can't be.
pub(crate) fn promoted(literal: &PrimitiveLiteral, to: &PrimitiveType) -> Option<PrimitiveLiteral> {
    const DAY_MICROS: i64 = 86_400_000_000;
    Some(match (literal, to) {
        (PrimitiveLiteral::Int(v), PrimitiveType::Long) => PrimitiveLiteral::Long((*v).into()),
        (PrimitiveLiteral::Float(v), PrimitiveType::Double) => PrimitiveLiteral::Double(f64::from(v.0).into()),
        (PrimitiveLiteral::Int(days), PrimitiveType::Timestamp | PrimitiveType::Timestamptz) => {
            PrimitiveLiteral::Long(i64::from(*days).checked_mul(DAY_MICROS)?)
        }
        (PrimitiveLiteral::Int(days), PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs) => {
            PrimitiveLiteral::Long(i64::from(*days).checked_mul(DAY_MICROS)?.checked_mul(1000)?)
        }
        // A table may be set back to a schema from before the promotion.
        (PrimitiveLiteral::Long(v), PrimitiveType::Int) => PrimitiveLiteral::Int(i32::try_from(*v).ok()?),
        (PrimitiveLiteral::Double(v), PrimitiveType::Float) => {
            let narrow = v.0 as f32;
            (ordered(narrow.into()) == ordered(v.0)).then(|| PrimitiveLiteral::Float(narrow.into()))?
        }
        _ => return None,
    })
}

/// Partition values as the types have them; none where they are so already.
pub(crate) fn of_types(values: &Struct, types: &[Option<PrimitiveType>]) -> Option<Struct> {
    let promoted = |(at, value): (usize, Option<&Literal>)| match (value?, types.get(at)?.as_ref()?) {
        (Literal::Primitive(value), ty) => promoted(value, ty).map(Literal::Primitive),
        _ => None,
    };
    let changed: Vec<Option<Literal>> = values.iter().enumerate().map(promoted).collect();
    let value = |(changed, value): (Option<Literal>, Option<&Literal>)| changed.or_else(|| value.cloned());
    changed.iter().any(Option::is_some).then(|| changed.into_iter().zip(values.iter()).map(value).collect())
}

/// Whether a manifest's partition values are of the types, so that none of them has to be changed.
pub(crate) fn has_types(manifest: &Manifest, types: &[Option<PrimitiveType>]) -> bool {
    let header = manifest.metadata();
    let own = header.partition_spec().partition_type(header.schema());
    own.is_ok_and(|own| {
        let same = |(field, ty): (&NestedFieldRef, &Option<PrimitiveType>)| {
            ty.as_ref().is_none_or(|ty| field.field_type.as_primitive_type() == Some(ty))
        };
        own.fields().iter().zip(types).all(same)
    })
}

/// A manifest with its partition values as the types have them.
pub(crate) fn with_types(manifest: &Manifest, types: &[Option<PrimitiveType>]) -> Result<Manifest> {
    let entry = |entry: &ManifestEntryRef| {
        let mut entry = entry.as_ref().clone();
        if let Some(values) = of_types(entry.data_file.partition(), types) {
            entry.data_file = copy_of(&entry.data_file).partition(values).build().map_err(incomplete)?;
        }
        Ok(entry)
    };
    let entries = manifest.entries().iter().map(entry).collect::<Result<Vec<_>>>()?;
    Ok(Manifest::new(manifest.metadata().clone(), entries))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn key(spec_id: i32, values: &Struct) -> PartitionKey<'_> {
        PartitionKey::new(spec_id, values)
    }

    /// Whether Java's comparators find two values of one column equal (`Comparators.forType`, `Double.compare`, unsigned bytes), each
    /// widened to the type that the column has now.
    fn java_equal(a: Option<&Literal>, b: Option<&Literal>) -> bool {
        let (Some(Literal::Primitive(a)), Some(Literal::Primitive(b))) = (a, b) else { return a.is_none() && b.is_none() };
        let real = |v: &PrimitiveLiteral| match v {
            PrimitiveLiteral::Float(v) => Some(f64::from(v.0)),
            PrimitiveLiteral::Double(v) => Some(v.0),
            _ => None,
        };
        let whole = |v: &PrimitiveLiteral| match v {
            PrimitiveLiteral::Int(v) => Some(i64::from(*v)),
            PrimitiveLiteral::Long(v) => Some(*v),
            _ => None,
        };
        match (real(a), real(b), whole(a), whole(b)) {
            (Some(a), Some(b), ..) => (a.is_nan() && b.is_nan()) || (a == b && a.is_sign_negative() == b.is_sign_negative()),
            (.., Some(a), Some(b)) => a == b,
            _ => std::mem::discriminant(a) == std::mem::discriminant(b) && a == b,
        }
    }

    /// Values that are easily confused, each also as the type before a promotion has it.
    pub(crate) fn value() -> impl Strategy<Value = Option<Literal>> {
        let reals = prop_oneof![Just(0.0_f32), Just(-0.0), Just(f32::NAN), Just(-f32::NAN), Just(1.5), Just(f32::INFINITY)];
        let texts = prop_oneof!["null", "", "a", "a/b=1", "\"", "[a-b]{0,2}"];
        prop_oneof![
            Just(None),
            (-2_i32..3).prop_map(|v| Some(Literal::int(v))),
            (-2_i64..3).prop_map(|v| Some(Literal::long(v))),
            reals.clone().prop_map(|v| Some(Literal::float(v))),
            reals.prop_map(|v| Some(Literal::double(f64::from(v)))),
            any::<bool>().prop_map(|v| Some(Literal::bool(v))),
            texts.prop_map(|v| Some(Literal::string(v))),
            prop::collection::vec(any::<u8>(), 0..3).prop_map(|v| Some(Literal::binary(v))),
            (-2_i128..3).prop_map(|v| Some(Literal::decimal(v))),
            any::<u8>().prop_map(|v| Some(Literal::Primitive(PrimitiveLiteral::UInt128(v.into())))),
        ]
    }

    proptest! {
        /// Keys of one column's type are equal, hashed alike and ordered as equal exactly where Java finds the values equal.
        #[test]
        fn partitions_are_compared_as_java_compares_them(
            a in prop::collection::vec(value(), 0..3), b in prop::collection::vec(value(), 0..3), specs in (0_i32..2, 0_i32..2),
        ) {
            let comparable = |(a, b): (&Option<Literal>, &Option<Literal>)| match (a, b) {
                // A column is never an int in one file and a decimal in another.
                (Some(Literal::Primitive(PrimitiveLiteral::Int128(_))), Some(_)) => false,
                (Some(_), Some(Literal::Primitive(PrimitiveLiteral::Int128(_)))) => false,
                _ => true,
            };
            prop_assume!(a.iter().zip(&b).all(comparable));
            let expected = specs.0 == specs.1 && a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| java_equal(a.as_ref(), b.as_ref()));
            let (a, b): (Struct, Struct) = (a.into_iter().collect(), b.into_iter().collect());
            let (a, b) = (key(specs.0, &a), key(specs.1, &b));
            prop_assert_eq!(a == b, expected, "{:?} {:?}", a, b);
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(HashSet::from([a, b]).len(), 2 - usize::from(expected));
        }

        /// A promotion changes no partition's identity, and is done once.
        #[test]
        fn a_promoted_value_is_in_the_same_partition(v in value(), wide in any::<bool>()) {
            let types = match &v {
                Some(Literal::Primitive(PrimitiveLiteral::Int(_))) if wide => PrimitiveType::Long,
                Some(Literal::Primitive(PrimitiveLiteral::Long(_))) if !wide => PrimitiveType::Int,
                Some(Literal::Primitive(PrimitiveLiteral::Float(_))) if wide => PrimitiveType::Double,
                Some(Literal::Primitive(PrimitiveLiteral::Double(_))) if !wide => PrimitiveType::Float,
                _ => return Ok(()),
            };
            let before: Struct = [v].into_iter().collect();
            let after = of_types(&before, &[Some(types.clone())]).expect("of another type");
            prop_assert_eq!(key(0, &before), key(0, &after));
            prop_assert_eq!(of_types(&after, &[Some(types)]), None);
        }
    }

    /// Specification, "Schema Evolution": a date becomes the timestamp of its midnight. One that is too far is left as it is.
    #[test]
    fn a_promoted_date_is_its_midnight() {
        let of = |days: i32, to: PrimitiveType| promoted(&PrimitiveLiteral::Int(days), &to);
        for (to, second) in [
            (PrimitiveType::Timestamp, 1_000_000),
            (PrimitiveType::Timestamptz, 1_000_000),
            (PrimitiveType::TimestampNs, 1_000_000_000),
            (PrimitiveType::TimestamptzNs, 1_000_000_000),
        ] {
            for days in [-1, 0, 1, 20_000] {
                let midnight = i64::from(days) * 24 * 3600 * second;
                assert_eq!(of(days, to.clone()), Some(PrimitiveLiteral::Long(midnight)), "{days} as {to}");
            }
            assert_eq!(of(i32::MAX, to), None);
        }
    }

    #[test]
    fn real_numbers_are_in_javas_order() {
        let values = [f64::NEG_INFINITY, -1.5, -0.0, 0.0, 1.5, f64::INFINITY, f64::NAN];
        assert!(values.windows(2).all(|pair| ordered(pair[0]) < ordered(pair[1])));
        assert_eq!(ordered(-f64::NAN), ordered(f64::NAN));
    }
}
