//! Replaces what differs from run to run in JSON and text by placeholders, for snapshot tests.
//!
//! Placeholders: `[dir]`, `[address]`, `[uuid]`, `[id]`, `[ms]`, `[time]`, `[measured]`, `[version]`, `[suffix]`. A measured number
//! that becomes a string shows as `[text of measured]`. Start reading at [`Redactor::json`].

use serde_json::{Map, Value};

/// The least number that counts as an id: 10^15. Times in milliseconds are less.
const LEAST_ID: i64 = 1_000_000_000_000_000;
/// The times in milliseconds that a test can meet: from September 2020 to May 2033.
const TIMES: std::ops::Range<i64> = 1_600_000_000_000..2_000_000_000_000;

/// Parts of the names of fields whose numbers are measured or depend on the machine: sizes, durations, costs, progress in bytes.
const MEASURED: [&str; 11] =
    ["bytes", "size", "length", "seconds", "offset", "cpu", "duration", "requests", "age_ms", "age-ms", "progress"];
/// Beginnings of the names of fields that have such a part but hold a setting.
const SETTINGS: [&str; 7] = ["target", "max", "min", "courtesy", "spark", "grace", "partial"];

/// Redacts JSON and text. It knows the texts of one test, such as the path of its directory.
#[derive(Debug, Default)]
pub(crate) struct Redactor {
    /// Texts with their placeholders, in the order of replacement.
    texts: Vec<(String, &'static str)>,
}

impl Redactor {
    /// Adds a text to replace, such as the path of a directory.
    pub(crate) fn replace(&mut self, text: impl Into<String>, placeholder: &'static str) {
        self.texts.push((text.into(), placeholder));
    }

    /// Redacts every text, key and number of a JSON value. The keys of the result are sorted.
    pub(crate) fn json(&self, value: &Value) -> Value {
        self.within(value, false)
    }

    fn within(&self, value: &Value, measured: bool) -> Value {
        match value {
            Value::Null | Value::Bool(_) => value.clone(),
            Value::Number(number) => match number.as_i64() {
                None => "[measured]".into(),
                Some(id) if id.abs() >= LEAST_ID => "[id]".into(),
                Some(time) if TIMES.contains(&time) => "[ms]".into(),
                Some(_) if measured => "[measured]".into(),
                Some(_) => value.clone(),
            },
            Value::String(text) if measured && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                "[text of measured]".into()
            }
            Value::String(text) => self.text(text).into(),
            Value::Array(items) => items.iter().map(|item| self.within(item, measured)).collect(),
            Value::Object(fields) => {
                let mut keys: Vec<&String> = fields.keys().collect();
                keys.sort();
                let mut redacted = Map::new();
                for key in keys {
                    let value = match key.as_str() {
                        "access_token" => "[token]".into(),
                        _ => self.within(&fields[key], measured || is_measured(key)),
                    };
                    redacted.insert(self.text(key), value);
                }
                redacted.into()
            }
        }
    }

    /// Redacts a text.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, placeholder) in &self.texts {
            text = text.replace(from.as_str(), placeholder);
        }
        let text = text.replace(env!("CARGO_PKG_VERSION"), "[version]");
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(c) = rest.chars().next() {
            // Nothing begins in the middle of a word.
            let inside = out.chars().last().is_some_and(|before| before.is_ascii_alphanumeric());
            let found = if inside { suffix(rest) } else { uuid(rest).or_else(|| time(rest)).or_else(|| number(rest)) };
            match found {
                Some((length, placeholder)) => {
                    out.push_str(placeholder);
                    rest = &rest[length..];
                }
                None => {
                    out.push(c);
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        out
    }
}

fn is_measured(key: &str) -> bool {
    MEASURED.iter().any(|part| key.contains(part)) && !SETTINGS.iter().any(|begin| key.starts_with(begin))
}

/// Returns the length of the beginning of `text` that fits a pattern.
///
/// In the pattern, `9` is a digit and `f` a hexadecimal digit. Every other character is itself.
fn fits(text: &str, pattern: &str) -> Option<usize> {
    let is = |(byte, pattern): (u8, u8)| match pattern {
        b'9' => byte.is_ascii_digit(),
        b'f' => byte.is_ascii_hexdigit(),
        other => byte == other,
    };
    (text.len() >= pattern.len() && text.bytes().zip(pattern.bytes()).all(is)).then_some(pattern.len())
}

/// Finds the end of a table's location, such as `-5e655f99`, which keeps it apart from that of an earlier table of the name.
fn suffix(text: &str) -> Option<(usize, &'static str)> {
    let end = fits(text, "-ffffffff")?;
    let goes_on = text[end..].chars().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '-');
    (!goes_on).then_some((end, "-[suffix]"))
}

fn uuid(text: &str) -> Option<(usize, &'static str)> {
    Some((fits(text, "ffffffff-ffff-ffff-ffff-ffffffffffff")?, "[uuid]"))
}

/// Finds a point in time: a date and a time of day, with a fraction and a zone or not.
fn time(text: &str) -> Option<(usize, &'static str)> {
    let mut end = fits(text, "9999-99-99T99:99:99").or_else(|| fits(text, "9999-99-99 99:99:99"))?;
    let fraction = text[end..].strip_prefix('.').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count() + 1);
    end += fraction;
    end += ["Z", "+00:00", " UTC"].iter().find(|zone| text[end..].starts_with(**zone)).map_or(0, |zone| zone.len());
    Some((end, "[time]"))
}

/// Finds a long number, or a number with the unit of a size or a duration.
fn number(text: &str) -> Option<(usize, &'static str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    match digits {
        0 => return None,
        14.. => return Some((digits, "[id]")),
        13 if text.starts_with('1') => return Some((digits, "[ms]")),
        _ => {}
    }
    let fraction = text[digits..].strip_prefix('.').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count() + 1);
    let number = if fraction == 1 { digits } else { digits + fraction };
    let after = text[number..].strip_prefix(' ')?;
    let unit = after.chars().take_while(char::is_ascii_alphabetic).collect::<String>();
    let measures = ["B", "kB", "KB", "KiB", "MB", "MiB", "GB", "GiB", "bytes", "ms", "s", "seconds"];
    measures.contains(&unit.as_str()).then_some((number + 1 + unit.len(), "[measured]"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_differs_from_run_to_run_is_replaced_and_settings_stay() {
        let mut redactor = Redactor::default();
        redactor.replace("/tmp/x", "[dir]");
        let value = json!({"path": "file:///tmp/x/9c12d441-03fe-4693-9a96-a0705ddf69c1-m0.avro", "id": 3_051_729_675_574_597_004_i64,
            "at": 1_700_000_000_123_i64, "bytes": 17, "max_bytes": 18, "count": 19, "total-files-size": "20",
            "text": "snapshot 3051729675574597004 of 2026-11-29T10:00:00.5Z has 1.5 MB in 3 files", "quarantined_bytes": 0,
            "progress": [21, 22], "partial-progress.max-commits": "23"});
        let expected = json!({"path": "file://[dir]/[uuid]-m0.avro", "id": "[id]", "at": "[ms]", "bytes": "[measured]",
            "max_bytes": 18, "count": 19, "total-files-size": "[text of measured]",
            "text": "snapshot [id] of [time] has [measured] in 3 files", "quarantined_bytes": "[measured]",
            "progress": ["[measured]", "[measured]"], "partial-progress.max-commits": "23"});
        assert_eq!(redactor.json(&value), expected);
    }
}
