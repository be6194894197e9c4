//! The keys of a block cache.

use std::ops::Range;
use std::sync::Arc;

/// The key of a part: a byte range of a file, and whether the part is in a cached form.
///
/// Parts of one file overlap only if a column chunk is cached both whole and in segments; their ends differ then.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct BlockKey {
    pub(super) file: Arc<str>,
    pub(super) start: u64,
    pub(super) end: u64,
    /// True for the part in a cached form, false for the part as stored.
    is_form: bool,
}

impl BlockKey {
    /// Returns the key of a part as stored.
    pub(super) fn stored(file: &Arc<str>, part: &Range<u64>) -> Self {
        Self { file: file.clone(), start: part.start, end: part.end, is_form: false }
    }

    /// Returns the key of a part in a cached form.
    pub(super) fn form(file: &Arc<str>, part: &Range<u64>) -> Self {
        Self { is_form: true, ..Self::stored(file, part) }
    }
}
