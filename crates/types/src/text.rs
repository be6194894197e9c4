//! Numbers and errors as text for people: on pages, in the command line and in job logs. Bytes as text for programs.

use std::fmt::Write as _;

/// Formats a size in binary units with one decimal: `512 B`, `3.4 MiB`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// Formats a count with its noun, of which `one` is the singular: `1 file`, `2 files`, `0 branches`, `3 entries`.
pub fn format_count(n: u64, one: &str) -> String {
    if n == 1 {
        return format!("1 {one}");
    }
    match one {
        one if one.ends_with('y') && !one.ends_with("ay") => format!("{n} {}ies", &one[..one.len() - 1]),
        one if one.ends_with("ch") || one.ends_with('x') || one.ends_with('s') => format!("{n} {one}es"),
        one => format!("{n} {one}s"),
    }
}

/// Formats the total of sizes of which some may be unknown: `3.4 MiB`, `at least 3.4 MiB`, or `?` if none is known.
pub fn format_known_bytes(sizes: impl IntoIterator<Item = Option<u64>>) -> String {
    let (mut known, mut unknown, mut total) = (0_u64, 0_u64, 0_u64);
    for size in sizes {
        match size {
            Some(size) => (known, total) = (known + 1, total.saturating_add(size)),
            None => unknown += 1,
        }
    }
    match (known, unknown) {
        (_, 0) => format_bytes(total),
        (0, _) => "?".to_owned(),
        _ => format!("at least {}", format_bytes(total)),
    }
}

/// Formats bytes in hexadecimal, in lower case: two digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Removes the path of a file from the start of an error's text, for a place where the path is named already.
pub fn without_path<'a>(text: &'a str, path: &str) -> &'a str {
    let rest = text.strip_prefix(path).filter(|rest| rest.starts_with([':', ' ']));
    rest.map_or(text, |rest| rest.trim_start_matches([':', ' ']))
}

/// Returns the verb that agrees with a count: `is` for one, else `are`.
pub const fn is_or_are(n: u64) -> &'static str {
    if n == 1 { "is" } else { "are" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_read_as_english() {
        assert_eq!([0, 1023, 1536, 5 << 30].map(format_bytes), ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
        let counts = [(0, "file"), (1, "file"), (2, "file"), (2, "branch"), (3, "entry"), (2, "day")];
        let texts = counts.map(|(n, one)| format_count(n, one));
        assert_eq!([0, 1, 2].map(is_or_are), ["are", "is", "are"]);
        assert_eq!(texts, ["0 files", "1 file", "2 files", "2 branches", "3 entries", "2 days"]);
        let sizes = [&[][..], &[Some(1), Some(2)], &[Some(1), None], &[None]];
        assert_eq!(sizes.map(|s| format_known_bytes(s.iter().copied())), ["0 B", "3 B", "at least 1 B", "?"]);
    }

    #[test]
    fn bytes_have_two_hexadecimal_digits_each() {
        // RFC 4648, section 10, in lower case.
        assert_eq!(hex(b"foobar"), "666f6f626172");
        assert_eq!([hex(&[]), hex(&[0, 10, 255])], ["", "000aff"]);
    }

    #[test]
    fn a_path_is_named_once() {
        assert_eq!(without_path("s3://b/f: not found", "s3://b/f"), "not found");
        assert_eq!(without_path("s3://b/f2: not found", "s3://b/f"), "s3://b/f2: not found");
    }
}
