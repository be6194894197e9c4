//! Splits a text into its statements, by the tokens that statements of clients are read with.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::dialect::Postgres;
use crate::{QueryError, Result};

/// The statements of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementTexts<'a> {
    /// The statements that a semicolon ends, without it. Those of white space and comments alone are left out.
    pub ended: Vec<&'a str>,
    /// The statement after the last semicolon; `None` if only white space and comments are there.
    pub rest: Option<&'a str>,
}

/// Splits a text at the semicolons that are not in quotes or comments.
///
/// ```
/// let texts = esker_query::split_statements("SELECT ';'; -- a; comment\nSELECT 2").expect("tokens");
/// assert_eq!(texts.ended, ["SELECT ';'"]);
/// assert_eq!(texts.rest, Some("-- a; comment\nSELECT 2"));
/// ```
///
/// # Errors
///
/// Returns [`QueryError::Statement`] if quotes or a comment do not end.
pub fn split_statements(text: &str) -> Result<StatementTexts<'_>> {
    let dialect = Postgres(&GenericDialect {});
    let tokens = Tokenizer::new(&dialect, text).tokenize_with_location().map_err(|e| QueryError::Statement(e.to_string()))?;
    let says_something = |tokens: &[TokenWithSpan]| tokens.iter().any(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF));
    let mut groups = tokens.split(|t| t.token == Token::SemiColon).map(says_something);
    let (mut ended, mut start) = (Vec::new(), 0);
    for at in semicolons(text, &tokens) {
        if groups.next() == Some(true) {
            ended.push(text[start..at].trim());
        }
        start = at + 1;
    }
    let rest = groups.next().unwrap_or_default().then(|| text[start..].trim());
    Ok(StatementTexts { ended, rest })
}

/// Returns the byte positions of the semicolons among the tokens of a text. The tokenizer counts lines and characters, from 1.
fn semicolons(text: &str, tokens: &[TokenWithSpan]) -> Vec<usize> {
    let mut places = tokens.iter().filter(|t| t.token == Token::SemiColon).map(|t| t.span.start).peekable();
    let (mut line, mut column, mut found) = (1, 1, Vec::new());
    for (at, c) in text.char_indices() {
        if places.next_if(|place| (place.line, place.column) == (line, column)).is_some() {
            found.push(at);
        }
        (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SQL/Foundation (ISO 9075-2), 5.2 and 5.3: a quote is doubled within its quotes, and comments count as white space.
    #[test]
    fn semicolons_in_quotes_and_comments_end_no_statement() {
        let split = |text| {
            let texts = split_statements(text).expect("tokens");
            texts.ended.into_iter().chain(texts.rest).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(split("SELECT 1; SELECT 2;\n"), ["SELECT 1", "SELECT 2"]);
        assert_eq!(split("SELECT 'a;''b;';SELECT 2"), ["SELECT 'a;''b;'", "SELECT 2"]);
        assert_eq!(split("SELECT \"a;\"\"b\" FROM t;SELECT 2"), ["SELECT \"a;\"\"b\" FROM t", "SELECT 2"]);
        assert_eq!(split("SELECT 1 -- one; two\n;SELECT 2"), ["SELECT 1 -- one; two", "SELECT 2"]);
        assert_eq!(split("SELECT /* a; /* b; */ */ 1;SELECT 2"), ["SELECT /* a; /* b; */ */ 1", "SELECT 2"]);
        assert_eq!(split("SELECT 'ä\r\né;';\r\nSELECT 'ü' ; SELECT 3"), ["SELECT 'ä\r\né;'", "SELECT 'ü'", "SELECT 3"]);
        assert_eq!(split(" ;; -- nothing;\n;/* ; */"), Vec::<String>::new());
        assert_eq!(split_statements("SELECT 1;").expect("tokens").rest, None);
        assert_eq!(split_statements("SELECT 1; SELECT 2 -- x").expect("tokens").rest, Some("SELECT 2 -- x"));
        assert!(split_statements("SELECT 'a;").is_err());
    }
}
