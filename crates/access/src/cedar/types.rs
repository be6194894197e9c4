//! Types of expressions.

use std::fmt;

use super::schema::{EntityKind, listed};

/// A set of types of entities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds(u16);

impl Kinds {
    /// Returns the set of one type.
    pub(super) const fn of(kind: EntityKind) -> Self {
        Self(1 << kind as u16)
    }

    /// Returns the types that are in one of the sets.
    pub(super) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Checks that the sets share a type.
    pub(super) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Iterates over the types.
    pub(super) fn iter(self) -> impl Iterator<Item = EntityKind> {
        EntityKind::ALL.into_iter().filter(move |kind| self.intersects(Self::of(*kind)))
    }

    /// Returns the boolean that a test gives for every type; `None` if it differs.
    pub(super) fn all_same(self, test: impl Fn(EntityKind) -> bool) -> Option<bool> {
        let mut results = self.iter().map(test);
        let first = results.next()?;
        results.all(|result| result == first).then_some(first)
    }
}

/// The type of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    /// A boolean, with its value if the types tell it.
    Bool(Option<bool>),
    /// An integer.
    Long,
    /// A string.
    Text,
    /// An address or a range of addresses.
    Ip,
    /// An entity of one of some types.
    Entity(Kinds),
    /// A set of values of a type; `None` for the set without a value.
    Set(Option<Box<Type>>),
    /// A record, sorted by the names of its attributes.
    Record(Vec<(Box<str>, Type)>),
    /// The facts of the request.
    Context,
}

impl Type {
    /// A boolean that the types do not tell.
    pub(super) const BOOL: Self = Self::Bool(None);

    /// Returns the type of the values of both types; `None` if there is none.
    pub(super) fn common(&self, other: &Self) -> Option<Self> {
        Some(match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Self::Bool(a.filter(|_| a == b)),
            (Self::Entity(a), Self::Entity(b)) => Self::Entity(a.union(*b)),
            (Self::Set(None), Self::Set(of)) | (Self::Set(of), Self::Set(None)) => Self::Set(of.clone()),
            (Self::Set(Some(a)), Self::Set(Some(b))) => Self::Set(Some(Box::new(a.common(b)?))),
            (Self::Record(a), Self::Record(b)) if a.len() == b.len() => {
                let both = a.iter().zip(b).map(
                    |((name, a), (other, b))| {
                        if name == other { Some((name.clone(), a.common(b)?)) } else { None }
                    },
                );
                Self::Record(both.collect::<Option<_>>()?)
            }
            (a, b) if a == b => a.clone(),
            _ => return None,
        })
    }
}

/// Prints the type for people.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(_) => f.write_str("a boolean"),
            Self::Long => f.write_str("an integer"),
            Self::Text => f.write_str("a string"),
            Self::Ip => f.write_str("an address"),
            Self::Entity(kinds) => f.write_str(&listed(kinds.iter().map(EntityKind::as_str))),
            Self::Set(None) => f.write_str("an empty set"),
            Self::Set(Some(of)) => write!(f, "a set of {of}"),
            Self::Record(_) => f.write_str("a record"),
            Self::Context => f.write_str("the context"),
        }
    }
}
