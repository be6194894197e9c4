//! Ages as the command line, the REST API and policies write them: a whole number and a unit.

use std::time::Duration;

/// Parses an age such as `5d`, `12h`, `30m` or `10s`.
///
/// Returns `None` unless the text is a whole number followed by one of these units. A value that is too large for 64 bits of
/// seconds becomes the largest one.
pub fn parse_age(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "d" => 86_400,
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    Some(Duration::from_secs(number.saturating_mul(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_numbers_with_a_unit() {
        assert_eq!(parse_age("5d"), Some(Duration::from_secs(432_000)));
        assert_eq!(parse_age("0s"), Some(Duration::ZERO));
        for wrong in ["", "5", "d", "5w", "-1d", "1.5h"] {
            assert!(parse_age(wrong).is_none(), "{wrong}");
        }
    }
}
