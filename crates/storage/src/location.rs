//! [`Location`]: a normalised URI of a file or directory, by which files are compared.
//!
//! One file has several spellings (`s3:`, `s3a:`, `file:/x`, `file:///x`). If two of them passed for two files, every check of
//! containment could be evaded. So [`Location::parse`] maps them to one, and refuses what is ambiguous. Containment is decided by
//! whole path segments.

use std::fmt;

use crate::{Result, StorageError};

/// The kind of store that a location is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// `file:`, this machine's file system.
    File,
    /// `s3:` (also written `s3a:`, `s3n:`), AWS S3 and what speaks its protocol.
    S3,
    /// `gs:`, Google Cloud Storage.
    Gcs,
    /// `abfss:` (also written `abfs:`, `wasb:`, `wasbs:`), Azure Data Lake Storage.
    Adls,
}

impl Scheme {
    /// Parses the part of a URI before the colon. Each scheme has several spellings.
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "file" => Self::File,
            "s3" | "s3a" | "s3n" => Self::S3,
            "gs" | "gcs" => Self::Gcs,
            "abfss" | "abfs" | "wasbs" | "wasb" => Self::Adls,
            _ => return None,
        })
    }

    /// Returns the normal spelling.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Adls => "abfss",
        }
    }
}

/// A normalised directory or file URI.
///
/// `file:/x`, `file:///x` and `file://localhost/x` are the same location, as are `s3:`, `s3a:` and `s3n:`. On a file system, empty
/// and `.` segments are removed. In an object store they are part of the key, so they are refused: two spellings of one location
/// would defeat every check. `..` is refused everywhere, because a location that climbs could leave its warehouse.
///
/// ```
/// use esker_storage::Location;
///
/// let table = Location::parse("s3a://lake/nyc/flights/").expect("a location");
/// let file = Location::parse("s3://lake/nyc/flights/data/1.parquet").expect("a location");
/// assert_eq!(table.to_string(), "s3://lake/nyc/flights");
/// assert!(file.is_inside(&table));
/// assert!(Location::parse("s3://lake/nyc/../other").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    scheme: Scheme,
    /// The bucket, or the container with its account. Empty for files.
    authority: String,
    /// The path: empty for a whole bucket, else with a slash in front and none at the end.
    path: String,
}

/// Host of an Azure account's Blob endpoint, after the account's name.
const BLOB_HOST: &str = ".blob.core.windows.net";

/// Host of the same account's Data Lake endpoint.
const DATA_LAKE_HOST: &str = ".dfs.core.windows.net";

impl Location {
    /// Parses and normalises a URI.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidLocation`](StorageError::InvalidLocation) if:
    /// - the scheme is missing or unknown;
    /// - the bucket or container is missing or invalid;
    /// - the path contains a control character, `#`, `?` or a `..` segment;
    /// - a `file:` path is not absolute, or is the root directory;
    /// - the key of an object has an empty or `.` segment.
    pub fn parse(uri: &str) -> Result<Self> {
        let invalid = |reason| StorageError::InvalidLocation { uri: uri.to_owned(), reason };
        let unknown = "not a URI with a scheme of file:, s3:, gs: or abfss:";
        let (scheme, rest) = uri.split_once(':').ok_or_else(|| invalid(unknown))?;
        let scheme = Scheme::parse(scheme).ok_or_else(|| invalid(unknown))?;
        let (authority, path) = match (scheme, rest.strip_prefix("//")) {
            (Scheme::File, None) => ("", rest),
            (Scheme::File, Some(rest)) => ("", rest.strip_prefix("localhost").unwrap_or(rest)),
            (_, None) => return Err(invalid("a bucket is missing: write scheme://bucket/path")),
            (_, Some(rest)) => rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash)),
        };
        if scheme != Scheme::File && !is_authority(authority, scheme) {
            return Err(invalid("the name of the bucket or container is not valid"));
        }
        if scheme == Scheme::File && !path.starts_with('/') {
            return Err(invalid("a file: URI needs an absolute path"));
        }
        if path.contains(['#', '?']) || path.contains(char::is_control) {
            return Err(invalid("a location must not contain a control character, '#' or '?'"));
        }
        let segments = path.trim_start_matches('/').split('/');
        let segments: Vec<&str> = match scheme {
            Scheme::File => segments.filter(|s| !s.is_empty() && *s != ".").collect(),
            _ if path.starts_with("//") => return Err(invalid("an object's key must not begin with an empty segment")),
            _ => path.trim_matches('/').split('/').filter(|_| path.len() > 1).collect(),
        };
        if segments.contains(&"..") {
            return Err(invalid("a location must not climb with '..'"));
        }
        if scheme == Scheme::File && segments.is_empty() {
            return Err(invalid("the root directory can't be a location"));
        }
        if scheme != Scheme::File && segments.iter().any(|s| s.is_empty() || *s == ".") {
            return Err(invalid("an object's key must not contain an empty or '.' segment"));
        }
        let path = segments.iter().fold(String::new(), |path, segment| path + "/" + segment);
        let authority = match scheme {
            // `wasbs:` names the Blob endpoint of an account, `abfss:` the Data Lake endpoint: the files are the same.
            Scheme::Adls => authority.replacen(BLOB_HOST, DATA_LAKE_HOST, 1),
            _ => authority.to_owned(),
        };
        Ok(Self { scheme, authority, path })
    }

    /// Returns the normal spelling of a URI, by which locations are compared. Text that is not a location is returned unchanged.
    pub fn normalize(uri: &str) -> String {
        Self::parse(uri).map_or_else(|_| uri.to_owned(), |at| at.to_string())
    }

    /// Returns the spellings that engines use for this location. The normal one comes first.
    pub fn spellings(&self) -> Vec<String> {
        let (authority, path) = (&self.authority, &self.path);
        let as_scheme = |name: &str| format!("{name}://{authority}{path}");
        match self.scheme {
            Scheme::File => vec![self.to_string(), format!("file:{path}")],
            Scheme::S3 => ["s3", "s3a", "s3n"].map(as_scheme).to_vec(),
            Scheme::Gcs => ["gs", "gcs"].map(as_scheme).to_vec(),
            Scheme::Adls => {
                let blob = authority.replacen(DATA_LAKE_HOST, BLOB_HOST, 1);
                let of_blob = ["wasbs", "wasb", "abfss", "abfs"].map(|name| format!("{name}://{blob}{path}"));
                let mut all = ["abfss", "abfs", "wasbs", "wasb"].map(as_scheme).to_vec();
                all.extend(of_blob.into_iter().filter(|_| blob != *authority));
                all
            }
        }
    }

    /// Returns the URIs under which the state database may have recorded a file.
    ///
    /// The first is `uri` itself. If `uri` is a location, the other spellings of that location follow.
    pub fn all_spellings(uri: &str) -> Vec<String> {
        let known = Self::parse(uri).map_or_else(|_| Vec::new(), |at| at.spellings());
        [uri.to_owned()].into_iter().chain(known.into_iter().filter(|spelling| spelling != uri)).collect()
    }

    /// Returns the location of a directory or file on this machine.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidLocation`](StorageError::InvalidLocation) if the path is not absolute, is not UTF-8 or is the root
    /// directory, or if it contains a `..` segment, `#`, `?` or a control character.
    pub fn from_path(path: &std::path::Path) -> Result<Self> {
        let invalid = |reason| StorageError::InvalidLocation { uri: path.display().to_string(), reason };
        match path.to_str() {
            // A relative path would be taken for a host: `localhost/a` for the location `file://localhost/a`, which is `/a`.
            _ if !path.is_absolute() => Err(invalid("the path of a location must be absolute")),
            None => Err(invalid("the path of a location must be UTF-8")),
            Some(path) => Self::parse(&format!("file://{path}")),
        }
    }

    /// Returns the kind of store that this location is in.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Returns the bucket, or the container with its account (`container@account.dfs.core.windows.net`). Empty for files.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the key in the bucket, or the path in the file system without the slash in front.
    pub fn key(&self) -> &str {
        self.path.strip_prefix('/').unwrap_or_default()
    }

    /// Returns the bucket, or the root of the file system, that this location is in.
    pub fn root(&self) -> Self {
        Self { path: String::new(), ..self.clone() }
    }

    /// Appends path segments. They are not checked: parse the result if they come from outside.
    #[must_use]
    pub fn join(&self, relative: &str) -> Self {
        Self { path: format!("{}/{}", self.path, relative.trim_matches('/')), ..self.clone() }
    }

    /// Returns the enclosing directory. A whole bucket has none, and neither has a directory at the root of a file system.
    pub fn parent(&self) -> Option<Self> {
        let (outer, _) = self.path.rsplit_once('/')?;
        (self.scheme != Scheme::File || !outer.is_empty()).then(|| Self { path: outer.to_owned(), ..self.clone() })
    }

    /// Checks that this is strictly inside `outer`, by whole segments: `/a/orders2` is not inside `/a/orders`.
    pub fn is_inside(&self, outer: &Self) -> bool {
        let same_store = self.scheme == outer.scheme && self.authority == outer.authority;
        same_store && self.path.strip_prefix(&outer.path).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Checks that the two locations are equal or that one is inside the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self == other || self.is_inside(other) || other.is_inside(self)
    }
}

/// Checks the characters of a bucket name, or of `container@host` for Azure.
fn is_authority(authority: &str, scheme: Scheme) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match (scheme, authority.split_once('@')) {
        (Scheme::Adls, Some((container, host))) => {
            !container.is_empty() && !host.is_empty() && container.chars().chain(host.chars()).all(plain)
        }
        (Scheme::Adls, None) | (_, Some(_)) => false,
        (_, None) => !authority.is_empty() && authority.chars().all(plain),
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.name(), self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(uri: &str) -> Location {
        Location::parse(uri).expect("a valid location")
    }

    #[test]
    fn both_endpoints_of_an_azure_account_are_one_place() {
        let uris = [
            "abfss://c@a.dfs.core.windows.net/t/f",
            "wasbs://c@a.blob.core.windows.net/t/f",
            "abfs://c@a.blob.core.windows.net/t/f",
        ];
        let normal: Vec<String> = uris.iter().map(|uri| Location::normalize(uri)).collect();
        assert!(normal.iter().all(|uri| *uri == uris[0]), "{normal:?}");
        let names = Location::all_spellings(uris[0]);
        assert!(uris.iter().all(|uri| names.iter().any(|name| name == uri)), "{names:?}");
    }

    #[test]
    fn spellings_of_one_place_are_equal() {
        for uri in ["file:/a/b", "file:///a/b/", "file:///a//./b", "file://localhost/a/b"] {
            assert_eq!(at(uri).to_string(), "file:///a/b", "{uri}");
        }
        for uri in ["s3://lake/a/b", "s3a://lake/a/b/", "s3n://lake/a/b"] {
            assert_eq!(at(uri).to_string(), "s3://lake/a/b", "{uri}");
        }
        assert_eq!(at("abfs://c@a.dfs.core.windows.net/x").to_string(), "abfss://c@a.dfs.core.windows.net/x");
        assert_eq!(at("gs://b").key(), "");
        for uri in ["file:///a/b", "s3://lake/a/b", "gs://b/x", "abfss://c@a.dfs.core.windows.net/x"] {
            let spellings = at(uri).spellings();
            assert!(spellings.len() > 1 && spellings.iter().all(|s| Location::normalize(s) == uri), "{spellings:?}");
        }
        assert_eq!(Location::normalize("no location"), "no location");
        assert_eq!(Location::all_spellings("s3a://lake/a/"), ["s3a://lake/a/", "s3://lake/a", "s3a://lake/a", "s3n://lake/a"]);
        assert_eq!(Location::all_spellings("no location"), ["no location"]);
    }

    #[test]
    fn a_path_that_is_relative_or_not_utf_8_is_no_location() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        use std::path::Path;
        assert_eq!(Location::from_path(Path::new("/localhost/a")).expect("a location").to_string(), "file:///localhost/a");
        for path in [OsStr::new("localhost/a"), OsStr::new("a"), OsStr::new(""), OsStr::from_bytes(b"/a\xff")] {
            let error = Location::from_path(Path::new(path)).expect_err("no location");
            assert!(matches!(error, StorageError::InvalidLocation { .. }), "{error}");
        }
    }

    #[test]
    fn a_sibling_with_the_same_beginning_is_outside() {
        for root in ["file:///w", "s3://w"] {
            let at = |path: &str| at(&format!("{root}{path}"));
            assert!(at("/x/orders/data/x").is_inside(&at("/x/orders")));
            assert!(!at("/x/orders2").is_inside(&at("/x/orders")));
            assert!(!at("/x/orders").is_inside(&at("/x/orders")));
            assert!(at("/x").overlaps(&at("/x/orders")));
        }
        assert!(at("s3://b/x").is_inside(&at("s3://b")));
        assert!(!at("s3://bb/x").overlaps(&at("s3://b")));
        assert!(!at("gs://b/x").overlaps(&at("s3://b/x")));
    }

    #[test]
    fn a_bucket_and_a_top_level_directory_have_no_parent() {
        for (inner, outer) in [("s3://b/a/c", Some("s3://b/a")), ("s3://b/a", Some("s3://b")), ("file:///a/b", Some("file:///a"))]
        {
            assert_eq!(at(inner).parent(), outer.map(at), "{inner}");
        }
        assert_eq!((at("s3://b").parent(), at("file:///a").parent()), (None, None));
    }

    #[test]
    fn climbing_relative_and_ambiguous_locations_are_refused() {
        for uri in [
            "file:///a/../b",
            "/a/b",
            "file:a",
            "file://host/a",
            "file:///",
            "http://host/a",
            "s3:/a",
            "s3:///a",
            "s3://b/a/../c",
            "s3://b/a//c",
            "s3://b//a",
            "s3://b/./a",
            "s3://u@b/a",
            "s3://b/a\u{1}",
            "abfss://account/a",
        ] {
            assert!(Location::parse(uri).is_err(), "{uri}");
        }
    }
}
