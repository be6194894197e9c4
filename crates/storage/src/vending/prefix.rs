//! [`PolicyPrefix`]: a directory of a bucket or container, as session policies, conditions and signatures name it.
//!
//! It is the only text from clients that gets into a policy. `*`, `?` and `${` mean something there, and stores differ in how they
//! are escaped. So a place with an unusual character is refused, not escaped. Esker's own locations have none. Start reading at
//! [`PolicyPrefix::of`].

use std::fmt;

use crate::{Location, Result, Scheme, StorageError};

/// A directory of a bucket or container, as session policies, conditions and signatures name it.
///
/// Its key ends with a slash: `orders/` covers nothing of `orders2/`. [`PolicyPrefix::of`] is the only constructor.
///
/// ```
/// use esker_storage::{Location, PolicyPrefix};
///
/// let orders = Location::parse("s3://lake/sales/orders").expect("a location");
/// assert_eq!(PolicyPrefix::of(&orders).expect("harmless").to_string(), "s3://lake/sales/orders/");
/// let everything = Location::parse("s3://lake/*").expect("a location");
/// assert!(PolicyPrefix::of(&everything).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyPrefix {
    scheme: Scheme,
    bucket: String,
    key: String,
}

/// Checks that no store gives a character a meaning of its own.
///
/// It is a list of what is allowed. AWS takes only the first 256 characters of Unicode in a policy, and wants some of them escaped.
fn is_harmless(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/_-.=+@,~!() ".contains(c)
}

impl PolicyPrefix {
    /// Returns the prefix of a place.
    ///
    /// # Errors
    ///
    /// Returns [`NotVendable`](StorageError::NotVendable) if the place is in no object store or is a whole bucket, if its key has a
    /// character that policies give a meaning to, or if a segment of the key is empty, `.` or `..`.
    pub fn of(place: &Location) -> Result<Self> {
        let refused = |reason: &str| Err(StorageError::NotVendable { uri: place.to_string(), reason: reason.to_owned() });
        let key = place.key();
        if place.scheme() == Scheme::File {
            return refused("it is in no object store");
        }
        if key.is_empty() {
            return refused("it is a whole bucket; give the table a directory of its own");
        }
        if !key.chars().all(is_harmless) {
            return refused(
                "it has a character other than ASCII letters, digits, spaces and _-.=+@,~!(); give the table another location",
            );
        }
        if key.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return refused("it has an empty, '.' or '..' segment; give the table another location");
        }
        Ok(Self { scheme: place.scheme(), bucket: place.authority().to_owned(), key: format!("{key}/") })
    }

    /// Returns the kind of the store.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Returns the name of the bucket; in Azure, `container@host`.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns the key of the directory, with the slash at its end.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Checks that this is `outer` or lies in it.
    pub fn is_within(&self, outer: &Self) -> bool {
        // Both end with a slash, so this compares whole segments.
        self.scheme == outer.scheme && self.bucket == outer.bucket && self.key.starts_with(&outer.key)
    }

    /// Checks that an object in S3, or the prefix of a listing there, lies in this directory.
    pub fn covers(&self, bucket: &str, key: &str) -> bool {
        // The directory ends with a slash, so this compares whole segments.
        self.scheme == Scheme::S3 && self.bucket == bucket && key.starts_with(&self.key)
    }

    /// Returns the longest URI that all prefixes begin with. It ends with a slash; for several buckets of S3 it is `s3://`.
    pub fn common_uri(prefixes: &[Self]) -> String {
        let Some((first, others)) = prefixes.split_first() else { return "s3://".to_owned() };
        if others.iter().any(|other| other.scheme != first.scheme || other.bucket != first.bucket) {
            return format!("{}://", first.scheme.name());
        }
        let mut common = first.key.as_str();
        while !others.iter().all(|other| other.key.starts_with(common)) {
            // Without its last segment, but with the slash before it.
            let inner = common.trim_end_matches('/');
            common = inner.rfind('/').map_or("", |slash| &inner[..=slash]);
        }
        format!("{}://{}/{common}", first.scheme.name(), first.bucket)
    }
}

impl fmt::Display for PolicyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.scheme.name(), self.bucket, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(uri: &str) -> PolicyPrefix {
        PolicyPrefix::of(&Location::parse(uri).expect("a location")).expect("harmless")
    }

    #[test]
    fn a_prefix_ends_with_a_slash_and_holds_whole_segments() {
        assert_eq!(prefix("s3a://lake/w/orders/").to_string(), "s3://lake/w/orders/");
        assert!(prefix("s3://lake/w/orders/x").is_within(&prefix("s3://lake/w/orders")));
        assert!(!prefix("s3://lake/w/orders2").is_within(&prefix("s3://lake/w/orders")));
        assert!(!prefix("s3://lake2/w/orders").is_within(&prefix("s3://lake/w")));
    }

    #[test]
    fn what_a_policy_could_misread_is_refused() {
        let lake = Location::parse("s3://lake").expect("a location");
        for key in
            ["*", "a/*", "a?", "${aws:username}", "a'b", "a\"b", "a\\b", "a%2Fb", "a`b", "a\u{7f}", "é", "a;b", "a/../b", "a//b"]
        {
            let refused = PolicyPrefix::of(&lake.join(key));
            assert!(matches!(refused, Err(StorageError::NotVendable { .. })), "{key}");
        }
        for uri in ["s3://lake", "s3://lake/", "gs://lake", "file:///x", "abfss://c@a.dfs.core.windows.net"] {
            let refused = PolicyPrefix::of(&Location::parse(uri).expect("a location"));
            assert!(matches!(refused, Err(StorageError::NotVendable { .. })), "{uri}");
        }
    }

    #[test]
    fn the_common_uri_is_cut_at_a_segment() {
        let common = |uris: &[&str]| PolicyPrefix::common_uri(&uris.iter().map(|uri| prefix(uri)).collect::<Vec<_>>());
        assert_eq!(common(&["s3://lake/w/orders"]), "s3://lake/w/orders/");
        assert_eq!(common(&["s3://lake/w/orders", "s3://lake/w/orders2/data"]), "s3://lake/w/");
        assert_eq!(common(&["s3://lake/a/x", "s3://lake/b"]), "s3://lake/");
        assert_eq!(common(&["s3://lake/a", "s3://other/a"]), "s3://");
        assert_eq!(common(&["gs://lake/a/x", "gs://lake/a/y"]), "gs://lake/a/");
        assert_eq!(common(&["abfss://c@a.dfs.core.windows.net/x"]), "abfss://c@a.dfs.core.windows.net/x/");
    }

    #[test]
    fn a_directory_of_one_store_covers_nothing_of_another() {
        assert!(prefix("s3://lake/t").covers("lake", "t/f") && !prefix("gs://lake/t").covers("lake", "t/f"));
        assert!(!prefix("gs://lake/t/x").is_within(&prefix("s3://lake/t")));
    }
}
