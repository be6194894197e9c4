//! Ages as the command line, the REST API and policies write them: a whole number and a unit.

use std::time::Duration;

/// Parses an age such as `5d`, `12h`, `30m` or `10s`.
///
/// A value that is too large for 64 bits of seconds becomes the largest one.
///
/// # Errors
///
/// Returns a message that quotes the text, unless it is a whole number followed by one of these units.
pub fn parse_age(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not an age like 5d, 12h, 30m or 10s");
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "d" => 86_400,
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_numbers_with_a_unit() {
        assert_eq!(parse_age("5d"), Ok(Duration::from_secs(432_000)));
        assert_eq!(parse_age("0s"), Ok(Duration::ZERO));
        for wrong in ["", "5", "d", "5w", "-1d", "1.5h"] {
            assert_eq!(parse_age(wrong), Err(format!("{wrong:?} is not an age like 5d, 12h, 30m or 10s")));
        }
    }
}
