//! Sums of counts that come from files. Any client may have written them, so a sum must not overflow.

/// Adds up counts and stops at [`u64::MAX`] instead of overflowing.
pub fn saturating_total(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stay_at_the_largest_number() {
        assert_eq!((saturating_total([1, 2, 3]), saturating_total([u64::MAX, 1]), saturating_total([])), (6, u64::MAX, 0));
    }
}
