//! Names of namespaces and tables, and identifiers of catalog entries and jobs.
//!
//! A namespace is a list of levels. Its key joins them by the unit separator, for URL paths and the state database. Its display
//! form joins them by dots, for people.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::quoted::{BadQuotes, split_dotted};

/// The reason why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentError {
    /// The namespace has no level; it needs at least one.
    #[error("a namespace needs at least one level")]
    NoLevels,
    /// A level or table name is empty or contains a control character, such as the unit separator.
    #[error("invalid name {0:?}: names are not empty and hold no control characters")]
    InvalidName(String),
    /// A full table name lacks the namespace or the name.
    #[error("invalid table name {0:?}: expected NAMESPACE.TABLE")]
    NotQualified(String),
    /// A full table name has unbalanced or misplaced quotes.
    #[error("invalid table name {0}")]
    Quotes(#[from] BadQuotes),
}

fn check_name(name: &str) -> Result<(), IdentError> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(IdentError::InvalidName(name.to_owned()));
    }
    Ok(())
}

/// The name of a namespace: one or more levels, the outermost first. Names keep their case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(transparent)]
pub struct NamespaceName(Vec<String>);

impl NamespaceName {
    /// The unit separator, which joins levels in URL paths and in keys of the state database.
    ///
    /// Spec: REST OpenAPI document, `namespace` parameter.
    pub const SEPARATOR: char = '\u{1f}';

    /// Creates a namespace name from its levels, the outermost first.
    ///
    /// # Errors
    ///
    /// Returns [`IdentError::NoLevels`] if there is no level, and [`IdentError::InvalidName`] if a level is empty or has a control
    /// character.
    pub fn new(levels: Vec<String>) -> Result<Self, IdentError> {
        if levels.is_empty() {
            return Err(IdentError::NoLevels);
        }
        levels.iter().try_for_each(|l| check_name(l))?;
        Ok(Self(levels))
    }

    /// Parses levels that are joined by [`Self::SEPARATOR`], as in a URL path or a database key.
    ///
    /// # Errors
    ///
    /// Returns [`IdentError::InvalidName`] if a level is empty or has a control character.
    pub fn from_key(key: &str) -> Result<Self, IdentError> {
        Self::new(key.split(Self::SEPARATOR).map(str::to_owned).collect())
    }

    /// Returns the levels joined by [`Self::SEPARATOR`].
    pub fn key(&self) -> String {
        self.0.join("\u{1f}")
    }

    /// Returns the levels, the outermost first.
    pub fn levels(&self) -> &[String] {
        &self.0
    }

    /// Returns the enclosing namespace, or `None` if this one has a single level.
    pub fn parent(&self) -> Option<Self> {
        (self.0.len() > 1).then(|| Self(self.0[..self.0.len() - 1].to_vec()))
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

impl<'de> Deserialize<'de> for NamespaceName {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(Vec::<String>::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// The full name of a table or view: its namespace and its name in that namespace.
///
/// ```
/// use esker_types::TableName;
///
/// let name: TableName = "raw.crm.orders".parse().expect("a name");
/// assert_eq!((name.namespace.levels(), name.name.as_str()), (&["raw".to_owned(), "crm".to_owned()][..], "orders"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TableName {
    /// The namespace that contains the table.
    pub namespace: NamespaceName,
    /// The last part of the name, unquoted.
    pub name: String,
}

impl TableName {
    /// Creates a full name.
    ///
    /// # Errors
    ///
    /// Returns [`IdentError::InvalidName`] if `name` is empty or has a control character.
    pub fn new(namespace: NamespaceName, name: impl Into<String>) -> Result<Self, IdentError> {
        let name = name.into();
        check_name(&name)?;
        Ok(Self { namespace, name })
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.namespace, self.name)
    }
}

/// Parses the dotted form that people type: `a.b.t`. A name that contains dots is quoted: `a."b.c".t`.
impl FromStr for TableName {
    type Err = IdentError;

    fn from_str(s: &str) -> Result<Self, IdentError> {
        let mut parts = split_dotted(s)?;
        let name = parts.pop().filter(|_| !parts.is_empty());
        let name = name.ok_or_else(|| IdentError::NotQualified(s.to_owned()))?;
        Self::new(NamespaceName::new(parts)?, name)
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Generates an identifier (UUID version 7); later ones sort after earlier ones.
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(s: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(s).map(Self)
            }
        }
    };
}

uuid_id! {
    /// The identifier of a catalog entry.
    ///
    /// It is not the table's own UUID: a table that is registered again gets a new entry.
    TableId
}
uuid_id! {
    /// The identifier of a maintenance job.
    JobId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_names_split_at_the_last_dot() {
        let name: TableName = "a.b.t".parse().expect("valid");
        assert_eq!(name.namespace.levels(), ["a", "b"]);
        assert_eq!((name.name.as_str(), name.to_string().as_str()), ("t", "a.b.t"));
        assert!("t".parse::<TableName>().is_err());
        assert!("a..t".parse::<TableName>().is_err());
    }

    #[test]
    fn names_that_hold_dots_stand_in_quotes() {
        let name: TableName = "\"a.b\".`t.u`".parse().expect("valid");
        assert_eq!((name.namespace.levels(), name.name.as_str()), (["a.b".to_owned()].as_slice(), "t.u"));
        assert!("a.\"b".parse::<TableName>().is_err());
    }

    #[test]
    fn keys_round_trip_and_levels_keep_their_dots() {
        let ns = NamespaceName::new(vec!["a.b".into(), "c d".into()]).expect("valid");
        assert_eq!(NamespaceName::from_key(&ns.key()), Ok(ns.clone()));
        assert_eq!(ns.parent().map(|p| p.key()), Some("a.b".to_owned()));
    }
}
