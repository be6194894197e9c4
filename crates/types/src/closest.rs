//! [`closest`]: the known name that a misspelt one is likely to mean.

/// Finds the name that a misspelt one is likely to mean, so that an error can propose it.
///
/// It differs in at most two letters added, left out or changed, and in less than half of the letters.
pub fn closest<'a>(misspelt: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, name) = known.into_iter().map(|name| (edit_distance(misspelt, name), name)).min()?;
    (distance <= 2 && 2 * distance < misspelt.chars().count()).then_some(name)
}

/// Computes the Levenshtein distance of two texts.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j].min(diagonal) + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_recognized_and_another_word_is_not() {
        let known = ["rest_port", "flight_port", "log"];
        assert_eq!(closest("rest_prt", known), Some("rest_port"));
        assert_eq!(closest("rest_prot", known), Some("rest_port"));
        assert_eq!(closest("foo", known), None);
        assert_eq!(closest("timeout", known), None);
    }
}
