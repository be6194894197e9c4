use std::time::Duration;

/// An age as people write it: `5d`, `12h`, `30m`, `10s`.
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
