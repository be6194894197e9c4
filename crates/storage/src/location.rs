use std::fmt;

use crate::{Result, StorageError};

/// A normalised `file:///…` directory or file URI.
///
/// `file:/x`, `file:///x` and `file://localhost/x` are the same place; empty and `.` segments vanish; `..` is refused,
/// because a location that climbs could leave its warehouse.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    path: String,
}

impl Location {
    /// Normalises a URI.
    pub fn parse(uri: &str) -> Result<Self> {
        let invalid = |reason| StorageError::InvalidLocation { uri: uri.to_owned(), reason };
        let rest = uri.strip_prefix("file:").ok_or_else(|| invalid("not a file: URI, the only scheme of a local warehouse"))?;
        let path = match rest.strip_prefix("//") {
            Some(authority) => authority.strip_prefix("localhost").unwrap_or(authority),
            None => rest,
        };
        if !path.starts_with('/') {
            return Err(invalid("a file: URI needs an absolute path"));
        }
        if path.contains(['\0', '#', '?']) {
            return Err(invalid("a location holds no NUL, '#' or '?'"));
        }
        let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty() && *s != ".").collect();
        if segments.contains(&"..") {
            return Err(invalid("a location must not climb with '..'"));
        }
        if segments.is_empty() {
            return Err(invalid("the root directory can't be a location"));
        }
        Ok(Self { path: format!("/{}", segments.join("/")) })
    }

    /// Of a directory or file on this machine.
    pub fn of_path(path: &std::path::Path) -> Result<Self> {
        Self::parse(&format!("file://{}", path.display()))
    }

    /// The absolute path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Appends segments.
    #[must_use]
    pub fn join(&self, relative: &str) -> Self {
        Self { path: format!("{}/{}", self.path, relative.trim_matches('/')) }
    }

    /// Whether this is strictly inside `outer`, by whole segments: `/a/orders2` is not inside `/a/orders`.
    pub fn is_inside(&self, outer: &Self) -> bool {
        self.path.strip_prefix(&outer.path).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Whether the two are the same or one lies inside the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self == other || self.is_inside(other) || other.is_inside(self)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file://{}", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(uri: &str) -> Location {
        Location::parse(uri).expect("a valid location")
    }

    #[test]
    fn spellings_of_one_place_are_equal() {
        for uri in ["file:/a/b", "file:///a/b/", "file:///a//./b", "file://localhost/a/b"] {
            assert_eq!(at(uri).to_string(), "file:///a/b", "{uri}");
        }
    }

    #[test]
    fn a_sibling_with_the_same_beginning_is_outside() {
        assert!(at("file:///w/orders/data/x").is_inside(&at("file:///w/orders")));
        assert!(!at("file:///w/orders2").is_inside(&at("file:///w/orders")));
        assert!(!at("file:///w/orders").is_inside(&at("file:///w/orders")));
        assert!(at("file:///w").overlaps(&at("file:///w/orders")));
    }

    #[test]
    fn climbing_relative_and_foreign_locations_are_refused() {
        for uri in ["file:///a/../b", "s3://bucket/x", "/a/b", "file:a", "file://host/a", "file:///"] {
            assert!(Location::parse(uri).is_err(), "{uri}");
        }
    }
}
