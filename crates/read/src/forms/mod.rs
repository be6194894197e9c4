//! The forms other than the stored one in which column chunks are cached.

pub(crate) mod repacked;
pub(crate) mod uncompressed;
