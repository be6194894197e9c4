/// The sum of counts that anybody may have written: it stays at the largest number instead of going over it.
pub fn total(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stay_at_the_largest_number() {
        assert_eq!((total([1, 2, 3]), total([u64::MAX, 1]), total([])), (6, u64::MAX, 0));
    }
}
