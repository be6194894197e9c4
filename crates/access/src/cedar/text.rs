//! Strings of the language: escapes, and the patterns of `like`.

use std::str::Chars;

use super::guard::Part;

/// A character of a string or pattern, after its escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// A character that stands for itself.
    Plain(char),
    /// A star.
    Star,
    /// A star after a backslash, which only patterns have.
    EscapedStar,
}

/// Returns the string that a text between quotes stands for.
///
/// # Errors
///
/// Returns what is wrong with an escape.
pub(super) fn unescape(raw: &str) -> Result<String, String> {
    let characters = pieces(raw)?.into_iter().map(|piece| match piece {
        Piece::Plain(c) => Ok(c),
        Piece::Star => Ok('*'),
        Piece::EscapedStar => Err("the escape \\* belongs in patterns, after like; write * alone".to_owned()),
    });
    characters.collect()
}

/// Splits a text between quotes into its characters.
fn pieces(raw: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '\\' => escape(&mut chars)?,
            '*' => Piece::Star,
            '\r' => return Err("the string has a bare carriage return; write \\r".to_owned()),
            c => Piece::Plain(c),
        });
    }
    Ok(pieces)
}

/// Reads an escape after its backslash.
fn escape(chars: &mut Chars<'_>) -> Result<Piece, String> {
    let c = match chars.next() {
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('0') => '\0',
        Some(c @ ('\\' | '\'' | '"')) => c,
        Some('*') => return Ok(Piece::EscapedStar),
        Some('x') => ascii(chars)?,
        Some('u') => unicode(chars)?,
        Some(other) => {
            return Err(format!(r#"there is no escape \{other}; the escapes are \n \r \t \0 \\ \' \" \xNN and \u{{N}}"#));
        }
        None => return Err("the string ends in an escape".to_owned()),
    };
    // As the reference does: a star that an escape gives by its number is a wildcard.
    Ok(if c == '*' { Piece::Star } else { Piece::Plain(c) })
}

/// Reads the digits of an escape `\xNN`.
fn ascii(chars: &mut Chars<'_>) -> Result<char, String> {
    let mut digit = || chars.next().and_then(|c| c.to_digit(16));
    match (digit(), digit()) {
        (Some(high @ 0..=7), Some(low)) => Ok(char::from_u32(high * 16 + low).unwrap_or_default()),
        _ => Err(r"the escape \x needs two hexadecimal digits, at most 7F".to_owned()),
    }
}

/// Reads the digits of an escape `\u{N}`.
fn unicode(chars: &mut Chars<'_>) -> Result<char, String> {
    let bad = || r"the escape \u needs braces with one to six hexadecimal digits of a character: \u{e9}".to_owned();
    let (digits, rest) = chars.as_str().strip_prefix('{').and_then(|rest| rest.split_once('}')).ok_or_else(bad)?;
    let is_number = (1..=6).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = u32::from_str_radix(digits, 16).ok().filter(|_| is_number);
    *chars = rest.chars();
    number.and_then(char::from_u32).ok_or_else(bad)
}

/// A pattern of `like`. A star stands for any number of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// The text before the first star, or the whole text.
    start: Box<str>,
    /// The texts after each star.
    after_stars: Vec<Box<str>>,
}

impl Pattern {
    /// Reads the text between the quotes of a pattern.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with an escape.
    pub(super) fn parse(raw: &str) -> Result<Self, String> {
        let mut texts = vec![String::new()];
        for piece in pieces(raw)? {
            match (piece, texts.last_mut()) {
                (Piece::Plain(c), Some(text)) => text.push(c),
                (Piece::EscapedStar, Some(text)) => text.push('*'),
                (Piece::Star, _) | (_, None) => texts.push(String::new()),
            }
        }
        let mut texts = texts.into_iter().map(String::into_boxed_str);
        Ok(Self { start: texts.next().unwrap_or_default(), after_stars: texts.collect() })
    }

    /// Returns a part that every matching text has, as long as possible; `None` if any text may match.
    pub(super) fn anchor(&self) -> Option<(Part, &str)> {
        let (start, Some(end)) = (&*self.start, self.after_stars.last()) else { return Some((Part::Whole, &*self.start)) };
        let (part, text) = if end.len() < start.len() { (Part::Start, start) } else { (Part::End, &**end) };
        (!text.is_empty()).then_some((part, text))
    }

    /// Checks that a whole text matches.
    pub(super) fn matches(&self, text: &str) -> bool {
        let Some(rest) = text.strip_prefix(&*self.start) else { return false };
        let Some((last, inner)) = self.after_stars.split_last() else { return rest.is_empty() };
        let Some(mut rest) = rest.strip_suffix(&**last) else { return false };
        for part in inner {
            // The first place is enough: it leaves the most text to the parts that follow.
            let Some(at) = rest.find(&**part) else { return false };
            rest = &rest[at + part.len()..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_the_language() {
        assert_eq!(unescape(r#"a\n\r\t\0\\\'\"\x41\u{e9}\u{1F600}*"#).as_deref(), Ok("a\n\r\t\0\\'\"Aé\u{1f600}*"));
        for bad in [r"\q", r"\x4", r"\x80", r"\xg0", r"\u41", r"\u{}", r"\u{110000}", r"\u{d800}", r"\u{1234567}", r"\*", "\r"] {
            assert!(unescape(bad).is_err(), "{bad}");
        }
        assert!(unescape(r"\q").expect_err("no escape").starts_with(r"there is no escape \q; the escapes are \n"));
    }

    #[test]
    fn a_pattern_matches_the_whole_text() {
        let matches = |pattern: &str, text: &str| Pattern::parse(pattern).expect("a pattern").matches(text);
        for (pattern, text) in [
            ("", ""),
            ("a", "a"),
            ("*", ""),
            ("*", "any"),
            ("a*", "a"),
            ("*a", "ca"),
            ("a*c", "abbc"),
            ("**", "x"),
            ("a*b*c", "abc"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("a", "ab"), ("a*", "ca"), ("*a", "ab"), ("ab*bc", "abc"), ("a*b*b", "ab"), ("*x*", "abc"), ("a*a", "a")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!(matches("*aab", "aaab") && matches("é*", "éa") && matches("*ab*ab*", "xabyab"));
    }

    #[test]
    fn an_escaped_star_stands_for_itself() {
        let pattern = Pattern::parse(r"a\*b*").expect("a pattern");
        assert!(pattern.matches("a*b") && pattern.matches("a*bc"));
        assert!(!pattern.matches("axb") && !pattern.matches("ab"));
        assert!(Pattern::parse(r"\x2a").expect("a pattern").matches("anything"), "as in the reference");
    }
}
