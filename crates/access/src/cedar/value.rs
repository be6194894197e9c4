//! Values of expressions. They borrow their texts from the policy and the request.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::ast::{EntityId, Literal};
use super::ip::IpRange;
use super::schema::EntityKind;

/// The reason why an expression has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EvalError {
    /// A number is out of the range of 64 bits.
    Overflow,
    /// The facts of the request are not known.
    NoFacts,
    /// An entity, a record or the context does not have an attribute.
    NoAttribute,
    /// A value has another type than its operation needs. The check of a policy leaves no such policy.
    WrongType,
}

/// The result of an evaluation.
pub(super) type Evaluated<T> = Result<T, EvalError>;

/// An entity: its type and its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entity<'a> {
    /// Type of the entity.
    pub(super) kind: EntityKind,
    /// Id of the entity among those of its type.
    pub(super) id: &'a str,
}

impl EntityId {
    /// Returns the entity.
    pub(super) fn entity(&self) -> Entity<'_> {
        Entity { kind: self.kind, id: &self.id }
    }
}

/// A value that is neither a set nor a record. The order is that of sets of constants; it has no meaning in policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scalar<'a> {
    /// A boolean.
    Bool(bool),
    /// An integer.
    Long(i64),
    /// A string.
    Text(&'a str),
    /// An entity.
    Entity(Entity<'a>),
    /// An address or a range of addresses.
    Ip(IpRange),
}

/// A value. The order is that of sets; it has no meaning in policies.
///
/// Sets are compared value by value, in their order. A search of each value in the other set would double the time with each
/// level of sets in sets: a policy of 200 bytes would take years.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    /// A value that is neither a set nor a record.
    Scalar(Scalar<'a>),
    /// A set of constants, sorted and each once.
    Literals(&'a [Literal]),
    /// A set, sorted and each value once. [`Value::set`] makes it.
    Set(Vec<Value<'a>>),
    /// A record, sorted by the names of its attributes.
    Record(Vec<(&'a str, Value<'a>)>),
    /// The facts of the request.
    Context,
}

impl<'a> Value<'a> {
    /// Returns the boolean.
    pub(super) const fn bool(&self) -> Evaluated<bool> {
        match self {
            Self::Scalar(Scalar::Bool(value)) => Ok(*value),
            _ => Err(EvalError::WrongType),
        }
    }

    /// Returns the integer.
    pub(super) const fn long(&self) -> Evaluated<i64> {
        match self {
            Self::Scalar(Scalar::Long(value)) => Ok(*value),
            _ => Err(EvalError::WrongType),
        }
    }

    /// Returns the string.
    pub(super) const fn text(&self) -> Evaluated<&'a str> {
        match self {
            Self::Scalar(Scalar::Text(value)) => Ok(*value),
            _ => Err(EvalError::WrongType),
        }
    }

    /// Returns the entity.
    pub(super) const fn entity(&self) -> Evaluated<Entity<'a>> {
        match self {
            Self::Scalar(Scalar::Entity(value)) => Ok(*value),
            _ => Err(EvalError::WrongType),
        }
    }

    /// Returns the address or range of addresses.
    pub(super) const fn ip(&self) -> Evaluated<IpRange> {
        match self {
            Self::Scalar(Scalar::Ip(value)) => Ok(*value),
            _ => Err(EvalError::WrongType),
        }
    }

    /// Makes a set of some values.
    pub(super) fn set(mut values: Vec<Self>) -> Self {
        values.sort_unstable();
        values.dedup();
        Self::Set(values)
    }

    /// Iterates over the values of a set, in their order. Others have none.
    fn values(&self) -> impl Iterator<Item = Cow<'_, Self>> {
        (0_usize..).map_while(move |at| -> Option<Cow<'_, Self>> {
            match self {
                Self::Literals(values) => values.get(at).map(|literal| Cow::Owned(Self::Scalar(literal.scalar()))),
                Self::Set(values) => values.get(at).map(Cow::Borrowed),
                Self::Scalar(_) | Self::Record(_) | Self::Context => None,
            }
        })
    }

    /// Returns the place of the values of this form among those of others.
    const fn rank(&self) -> u8 {
        match self {
            Self::Scalar(_) => 0,
            Self::Literals(_) | Self::Set(_) => 1,
            Self::Record(_) => 2,
            Self::Context => 3,
        }
    }

    /// Checks that the set has no value.
    pub(super) const fn is_empty(&self) -> Evaluated<bool> {
        match self {
            Self::Literals(values) => Ok(values.is_empty()),
            Self::Set(values) => Ok(values.is_empty()),
            _ => Err(EvalError::WrongType),
        }
    }

    /// Checks that the set has a value.
    pub(super) fn contains(&self, value: &Self) -> Evaluated<bool> {
        match (self, value) {
            (Self::Literals(values), Self::Scalar(scalar)) => {
                Ok(values.binary_search_by(|literal| literal.scalar().cmp(scalar)).is_ok())
            }
            (Self::Literals(_), _) => Ok(false),
            (Self::Set(values), _) => Ok(values.binary_search(value).is_ok()),
            _ => Err(EvalError::WrongType),
        }
    }

    /// Checks that the set has all values of another.
    pub(super) fn contains_all(&self, other: &Self) -> Evaluated<bool> {
        // Both must be sets, whatever they contain.
        self.is_empty()?;
        other.all(|value| self.contains(value))
    }

    /// Checks that the set has a value of another.
    pub(super) fn contains_any(&self, other: &Self) -> Evaluated<bool> {
        self.is_empty()?;
        Ok(!other.all(|value| Ok(!self.contains(value)?))?)
    }

    /// Checks that all values of the set pass a test. The first that does not ends it.
    pub(super) fn all(&self, passes: impl Fn(&Self) -> Evaluated<bool>) -> Evaluated<bool> {
        self.is_empty()?;
        for value in self.values() {
            if !passes(&value)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Values of different types are not equal.
impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Value<'_> {}

impl PartialOrd for Value<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => a.cmp(b),
            (Self::Record(a), Self::Record(b)) => a.cmp(b),
            (Self::Literals(_) | Self::Set(_), Self::Literals(_) | Self::Set(_)) => self.values().cmp(other.values()),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Scalar(Scalar::Bool(value))
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Scalar(Scalar::Long(value))
    }
}

impl<'a> From<Entity<'a>> for Value<'a> {
    fn from(value: Entity<'a>) -> Self {
        Self::Scalar(Scalar::Entity(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two forms of the set of some numbers.
    fn sets(numbers: &[i64]) -> (Vec<Literal>, Value<'static>) {
        let mut sorted: Vec<i64> = numbers.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        (sorted.into_iter().map(Literal::Long).collect(), Value::set(numbers.iter().map(|n| Value::from(*n)).collect()))
    }

    #[test]
    fn sets_have_each_value_once_and_in_no_order() {
        let (constant, written) = sets(&[3, 1, 3, 2]);
        let (more, _) = sets(&[1, 2, 3, 4]);
        let (constant, more) = (Value::Literals(&constant), Value::Literals(&more));
        assert_eq!(constant, written);
        assert_eq!(written, constant);
        assert_ne!(constant, more);
        assert_eq!((written.contains(&Value::from(3)), constant.contains(&Value::from(4))), (Ok(true), Ok(false)));
        assert_eq!((more.contains_all(&written), written.contains_all(&more)), (Ok(true), Ok(false)));
        let (four, _) = sets(&[4]);
        assert_eq!(written.contains_any(&Value::Literals(&four)), Ok(false));
        assert_eq!(more.contains_any(&Value::Literals(&four)), Ok(true));
        assert_eq!(written.contains_any(&Value::set(Vec::new())), Ok(false));
        assert_eq!(written.contains_all(&Value::from(1)), Err(EvalError::WrongType));
    }

    #[test]
    fn sets_in_sets_are_equal_in_any_order() {
        let ((_, one), (literals, also_one)) = (sets(&[1]), sets(&[1]));
        let ((_, two), (_, empty)) = (sets(&[2, 1]), sets(&[]));
        let nested = Value::set(vec![two.clone(), one.clone(), empty.clone(), also_one]);
        let other = Value::set(vec![empty, Value::Literals(&literals), two.clone()]);
        assert_eq!(nested, other);
        assert_ne!(nested, Value::set(vec![one.clone(), two.clone()]));
        assert_eq!((nested.contains(&Value::Literals(&literals)), other.contains(&one)), (Ok(true), Ok(true)));
        assert_eq!((nested.contains(&Value::from(1)), nested.contains_all(&other)), (Ok(false), Ok(true)));
        assert_eq!(Value::set(vec![one]).contains_any(&Value::set(vec![two])), Ok(false));
    }

    #[test]
    fn records_are_equal_if_all_attributes_are() {
        let record = |n: i64| Value::Record(vec![("a", Value::from(n)), ("b", Value::from(true))]);
        assert!(record(1) == record(1) && record(1) != record(2));
        assert_ne!(record(1), Value::Record(vec![("a", Value::from(1))]));
        assert_ne!(Value::from(1), Value::from(true));
    }
}
