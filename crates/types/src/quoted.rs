//! Splits and unquotes names in texts that people type: table names in commands, sort orders, lists of columns.
//!
//! A name that contains a separator is written in double quotes or in backticks. A quote inside such a name is written twice.

use std::borrow::Cow;

/// The error of a quoted name that does not end with its quote, or contains its quote without doubling it. It holds the name as
/// it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}: a quoted name must end with its quote, and a quote inside it must be written twice")]
pub struct BadQuotes(pub String);

const QUOTES: [char; 2] = ['"', '`'];

/// Splits a text at separators that are not in quotes.
///
/// The pieces keep their quotes and blanks. A quote opens only where a name may begin: at the start of the text, or after a
/// separator, a dot, a comma, a blank or an opening parenthesis. Elsewhere it is an ordinary character.
pub fn split_names(text: &str, separates: impl Fn(char) -> bool) -> Vec<&str> {
    let (mut pieces, mut start) = (Vec::new(), 0);
    let (mut open_quote, mut just_closed, mut previous) = (None, None, '.');
    for (at, c) in text.char_indices() {
        let begins = |c: char| separates(c) || c.is_whitespace() || matches!(c, '.' | ',' | '(');
        match open_quote {
            Some(quote) if c == quote => (open_quote, just_closed) = (None, Some(c)),
            Some(_) => {}
            None if QUOTES.contains(&c) && (just_closed == Some(c) || begins(previous)) => open_quote = Some(c),
            None => {
                just_closed = None;
                if separates(c) {
                    pieces.push(&text[start..at]);
                    start = at + c.len_utf8();
                }
            }
        }
        previous = c;
    }
    pieces.push(&text[start..]);
    pieces
}

/// Splits a text at commas that are not in quotes, and trims the blanks around each piece.
///
/// The pieces keep their quotes.
pub fn split_list(text: &str) -> impl Iterator<Item = &str> {
    split_names(text, |c| c == ',').into_iter().map(str::trim)
}

/// Removes the quotes of a name; a name without quotes is returned as it is.
///
/// # Errors
///
/// Returns [`BadQuotes`] if the name opens with a quote and does not end with it, or contains this quote without doubling it.
pub fn unquote(piece: &str) -> Result<Cow<'_, str>, BadQuotes> {
    let Some(quote) = piece.chars().next().filter(|c| QUOTES.contains(c)) else { return Ok(piece.into()) };
    let doubled: String = [quote, quote].iter().collect();
    let inner = piece[1..].strip_suffix(quote).ok_or_else(|| BadQuotes(piece.to_owned()))?;
    let parts: Vec<&str> = inner.split(&doubled).collect();
    if parts.iter().any(|part| part.contains(quote)) {
        return Err(BadQuotes(piece.to_owned()));
    }
    Ok(parts.join(&quote.to_string()).into())
}

/// Splits a text at dots that are not in quotes, and removes the quotes of each name.
///
/// # Errors
///
/// Returns [`BadQuotes`] for the first name that [`unquote`] refuses.
pub fn split_dotted(text: &str) -> Result<Vec<String>, BadQuotes> {
    split_names(text, |c| c == '.').into_iter().map(|piece| unquote(piece).map(Cow::into_owned)).collect()
}

/// Puts a name in quotes and doubles each quote in it.
pub fn quote_name(name: &str, quote: char) -> String {
    let twice: String = [quote, quote].iter().collect();
    format!("{quote}{}{quote}", name.replace(quote, &twice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_quotes_separate_nothing() {
        assert_eq!(split_names(r#""a, b" desc, `c,``d`, e"f, g"#, |c| c == ','), [r#""a, b" desc"#, " `c,``d`", r#" e"f"#, " g"]);
        assert_eq!(split_dotted(r#"a."b.c".`d``.e`"#), Ok(vec!["a".to_owned(), "b.c".to_owned(), "d`.e".to_owned()]));
        assert_eq!(split_dotted(r#"it's.5".t"#), Ok(vec!["it's".to_owned(), "5\"".to_owned(), "t".to_owned()]));
        for wrong in [r#"a."b"#, r#""a"b.c"#, "`a``", r#"""""#] {
            assert!(split_dotted(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn quoted_names_round_trip() {
        let names = ["a", "a.b", ",", "\"", "``", "\"`.", " (a) ", "\"\""];
        for (first, second, quote) in names.iter().flat_map(|a| names.iter().flat_map(move |b| ['"', '`'].map(|q| (*a, *b, q)))) {
            let text = [quote_name(first, quote), quote_name(second, quote)];
            assert_eq!(split_dotted(&text.join(".")), Ok(vec![first.to_owned(), second.to_owned()]));
            assert_eq!(split_names(&text.join(","), |c| c == ','), text);
        }
    }
}
