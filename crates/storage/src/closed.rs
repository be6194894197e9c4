//! [`ClosedFiles`]: files that somebody may not read.

use std::collections::HashSet;
use std::fmt;

use esker_types::CodedError;
use futures::future::BoxFuture;

/// Tells which files somebody may not read, such as those of other tables.
pub trait ClosedFiles: fmt::Debug + Send + Sync {
    /// Returns those of some files, given by their paths, that may not be read.
    ///
    /// Nothing reads a path that is no location, so such a path is not closed.
    fn closed_among<'a>(&'a self, paths: &'a [&'a str]) -> BoxFuture<'a, Result<HashSet<&'a str>, CodedError>>;
}
