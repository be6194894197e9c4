//! Values of expressions. They borrow their texts from the policy and the request.

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

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    /// A value that is neither a set nor a record.
    Scalar(Scalar<'a>),
    /// A set of constants, sorted and each once.
    Literals(&'a [Literal]),
    /// A set. A value may be there twice.
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

    /// Checks that the values are equal. Values of different types are not.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => a == b,
            (Self::Literals(_) | Self::Set(_), Self::Literals(_) | Self::Set(_)) => {
                self.contains_all(other) == Ok(true) && other.contains_all(self) == Ok(true)
            }
            (Self::Record(a), Self::Record(b)) => {
                let pairs = || a.iter().zip(b);
                a.len() == b.len() && pairs().all(|((a_name, a), (b_name, b))| a_name == b_name && a.is_same(b))
            }
            _ => false,
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
            (Self::Set(values), _) => Ok(values.iter().any(|of| of.is_same(value))),
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

    /// Checks that all values of the set pass a test.
    pub(super) fn all(&self, passes: impl Fn(&Self) -> Evaluated<bool>) -> Evaluated<bool> {
        match self {
            Self::Literals(values) => each(values.iter().map(|literal| passes(&Value::Scalar(literal.scalar())))),
            Self::Set(values) => each(values.iter().map(passes)),
            _ => Err(EvalError::WrongType),
        }
    }
}

/// Checks that all results are true. The first that is not ends it.
fn each(results: impl Iterator<Item = Evaluated<bool>>) -> Evaluated<bool> {
    for result in results {
        if !result? {
            return Ok(false);
        }
    }
    Ok(true)
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
        (sorted.into_iter().map(Literal::Long).collect(), Value::Set(numbers.iter().map(|n| Value::from(*n)).collect()))
    }

    #[test]
    fn sets_have_each_value_once_and_in_no_order() {
        let (constant, written) = sets(&[3, 1, 3, 2]);
        let (more, _) = sets(&[1, 2, 3, 4]);
        let (constant, more) = (Value::Literals(&constant), Value::Literals(&more));
        assert!(constant.is_same(&written) && written.is_same(&constant) && !constant.is_same(&more));
        assert_eq!((written.contains(&Value::from(3)), constant.contains(&Value::from(4))), (Ok(true), Ok(false)));
        assert_eq!((more.contains_all(&written), written.contains_all(&more)), (Ok(true), Ok(false)));
        let (four, _) = sets(&[4]);
        assert_eq!(written.contains_any(&Value::Literals(&four)), Ok(false));
        assert_eq!(more.contains_any(&Value::Literals(&four)), Ok(true));
        assert_eq!(written.contains_any(&Value::Set(Vec::new())), Ok(false));
        assert_eq!(written.contains_all(&Value::from(1)), Err(EvalError::WrongType));
    }

    #[test]
    fn records_are_equal_if_all_attributes_are() {
        let record = |n: i64| Value::Record(vec![("a", Value::from(n)), ("b", Value::from(true))]);
        assert!(record(1).is_same(&record(1)) && !record(1).is_same(&record(2)));
        assert!(!record(1).is_same(&Value::Record(vec![("a", Value::from(1))])));
        assert!(!Value::from(1).is_same(&Value::from(true)));
    }
}
