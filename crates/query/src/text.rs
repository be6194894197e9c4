//! A statement's text as DataFusion's parser takes it: JDBC's `?` and Iceberg's time travel are written in terms that it knows.

use chrono::Utc;
use datafusion::arrow::compute::kernels::cast_utils::string_to_datetime;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::{Keyword, RESERVED_FOR_TABLE_ALIAS};
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Word};

use crate::{QueryError, Result};

/// Between a table's name and what of it is wanted. No engine makes names that hold it.
const MARK: char = '\u{1f}';

/// Which snapshot of a table a statement speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AsOf {
    /// A snapshot's id, or the name of a branch or tag.
    Version(String),
    /// What was current then, in milliseconds since the epoch.
    Timestamp(i64),
    /// A snapshot's rows with their places; none of a table without any.
    Rows(Option<i64>),
}

/// The name of a table's rows with their places, in a snapshot.
pub(crate) fn rows_name(table: &str, snapshot: Option<i64>) -> String {
    format!("{table}{MARK}rows={}", snapshot.map_or_else(String::new, |id| id.to_string()))
}

/// The snapshot in such a name.
pub(crate) fn rows_snapshot(name: &str) -> Option<Option<i64>> {
    match parse_name(name) {
        (_, Some(AsOf::Rows(snapshot))) => Some(snapshot),
        _ => None,
    }
}

/// Whether a name is such a name.
pub(crate) fn is_rows_name(name: &str) -> bool {
    rows_snapshot(name).is_some()
}

/// A table's name and the version that [`prepared`] put into it.
pub(crate) fn parse_name(name: &str) -> (&str, Option<AsOf>) {
    let Some((name, version)) = name.split_once(MARK) else { return (name, None) };
    let as_of = match version.split_once('=') {
        Some(("timestamp", ms)) => ms.parse().map(AsOf::Timestamp).ok(),
        Some(("version", version)) => Some(AsOf::Version(version.to_owned())),
        Some(("rows", snapshot)) => Some(AsOf::Rows(snapshot.parse().ok())),
        _ => None,
    };
    (name, as_of)
}

/// The statement with `?` written as `$1`, `$2`, …, and `t FOR VERSION AS OF v` (`FOR TIMESTAMP AS OF`; Spark's forms without `FOR`;
/// `SYSTEM_VERSION` and `SYSTEM_TIME`) as a name that says so.
pub(crate) fn prepared(sql: &str) -> Result<String> {
    let upper = sql.to_ascii_uppercase();
    if !sql.contains('?') && !(upper.contains("OF") && (upper.contains("VERSION") || upper.contains("TIME"))) {
        return Ok(sql.to_owned());
    }
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().map_err(|e| QueryError::Statement(e.to_string()))?;
    let mut out: Vec<Token> = Vec::with_capacity(tokens.len());
    let (mut at, mut parameters) = (0, 0);
    while at < tokens.len() {
        match &tokens[at] {
            Token::Placeholder(text) if text == "?" => {
                parameters += 1;
                out.push(Token::Placeholder(format!("${parameters}")));
                at += 1;
            }
            _ => match as_of(&tokens, at)? {
                Some((version, end)) => {
                    let name = out.iter().rposition(|t| matches!(t, Token::Word(_)));
                    let blank = |t: &Token| matches!(t, Token::Whitespace(_));
                    let name = name.filter(|name| out[name + 1..].iter().all(blank));
                    let Some(Token::Word(word)) = name.map(|i| &mut out[i]) else {
                        return Err(QueryError::Statement("AS OF must follow the name of a table".to_owned()));
                    };
                    let plain = if word.quote_style.is_some() { word.value.clone() } else { word.value.to_lowercase() };
                    *word = quoted(&format!("{plain}{MARK}{version}"));
                    out.truncate(name.map_or(0, |name| name + 1));
                    if !has_alias(&tokens[end..]) {
                        out.extend([space(), Token::make_keyword("AS"), space(), Token::Word(quoted(&plain))]);
                    }
                    at = end;
                }
                None => {
                    out.push(tokens[at].clone());
                    at += 1;
                }
            },
        }
    }
    Ok(out.iter().map(Token::to_string).collect())
}

fn space() -> Token {
    Token::Whitespace(datafusion::sql::sqlparser::tokenizer::Whitespace::Space)
}

fn quoted(name: &str) -> Word {
    Word { value: name.to_owned(), quote_style: Some('"'), keyword: Keyword::NoKeyword }
}

/// The next token that is not blank, from `at` on, and where the one after it is.
fn next(tokens: &[Token], at: usize) -> Option<(&Token, usize)> {
    let i = (at..tokens.len()).find(|i| !matches!(tokens[*i], Token::Whitespace(_)))?;
    Some((&tokens[i], i + 1))
}

fn word(tokens: &[Token], at: usize) -> Option<(String, usize)> {
    match next(tokens, at)? {
        (Token::Word(word), end) if word.quote_style.is_none() => Some((word.value.to_uppercase(), end)),
        _ => None,
    }
}

/// `[FOR] VERSION AS OF literal` at a place, as the suffix of a name, and where it ends.
fn as_of(tokens: &[Token], at: usize) -> Result<Option<(String, usize)>> {
    if !matches!(tokens[at], Token::Word(_)) {
        return Ok(None);
    }
    let head = || {
        let (mut kind, mut end) = word(tokens, at)?;
        let explicit = kind == "FOR";
        if explicit {
            (kind, end) = word(tokens, end)?;
        }
        let time = match kind.as_str() {
            "VERSION" | "SYSTEM_VERSION" => false,
            "TIMESTAMP" | "SYSTEM_TIME" => true,
            _ => return None,
        };
        let (first, end) = word(tokens, end)?;
        let (second, end) = word(tokens, end)?;
        (first == "AS" && second == "OF").then_some((time, explicit, end))
    };
    let Some((time, explicit, mut end)) = head() else { return Ok(None) };
    if let (true, Some((kind, after))) = (time, word(tokens, end))
        && matches!(kind.as_str(), "TIMESTAMP" | "DATE")
    {
        end = after;
    }
    let literal = match next(tokens, end) {
        Some((Token::SingleQuotedString(text), end)) => Some((text.clone(), false, end)),
        Some((Token::Number(text, _), end)) => Some((text.clone(), true, end)),
        _ => None,
    };
    let Some((text, number, end)) = literal else {
        return match explicit {
            true => Err(QueryError::Statement("AS OF wants a literal: a number, 'a string' or TIMESTAMP '…'".to_owned())),
            // `version AS of` may well be a column and its alias.
            false => Ok(None),
        };
    };
    if !time {
        return Ok(Some((format!("version={text}"), end)));
    }
    let bad = || QueryError::Statement(format!("AS OF {text:?} is not a time"));
    let ms = match number {
        // Seconds, as Spark takes them.
        true => text.parse::<i64>().ok().and_then(|s| s.checked_mul(1000)).ok_or_else(bad)?,
        false => string_to_datetime(&Utc, &text).map_err(|_| bad())?.timestamp_millis(),
    };
    Ok(Some((format!("timestamp={ms}"), end)))
}

fn has_alias(after: &[Token]) -> bool {
    match next(after, 0) {
        Some((Token::Word(word), _)) => {
            word.quote_style.is_some() || word.keyword == Keyword::AS || !RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_marks_become_numbers_except_in_strings() {
        let sql = "SELECT '?', \"a?\" FROM t WHERE a = ? AND b = ? -- ?\n";
        assert_eq!(prepared(sql).expect("valid"), "SELECT '?', \"a?\" FROM t WHERE a = $1 AND b = $2 -- ?\n");
    }

    #[test]
    fn versions_go_into_names() {
        let check = |sql: &str, expected: &str| {
            assert_eq!(prepared(sql).expect(sql).replace(MARK, "@"), expected, "{sql}");
        };
        check("SELECT t.a FROM n.T FOR VERSION AS OF 7 WHERE a = 1", "SELECT t.a FROM n.\"t@version=7\" AS \"t\" WHERE a = 1");
        check("SELECT * FROM t VERSION AS OF 'b' x", "SELECT * FROM \"t@version=b\" x");
        check(
            "SELECT * FROM t FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-01 00:00:01Z' AS x",
            "SELECT * FROM \"t@timestamp=1767225601000\" AS x",
        );
        check("SELECT * FROM a FOR TIMESTAMP AS OF 10, b", "SELECT * FROM \"a@timestamp=10000\" AS \"a\", b");
        check("SELECT version AS of FROM t", "SELECT version AS of FROM t");
        check("SELECT 'FOR VERSION AS OF 3' FROM t", "SELECT 'FOR VERSION AS OF 3' FROM t");
        assert!(prepared("SELECT * FROM t FOR VERSION AS OF now()").is_err());
        assert!(prepared("SELECT * FROM t FOR TIMESTAMP AS OF 'soon'").is_err());
        assert!(prepared("SELECT * FROM (SELECT 1) FOR VERSION AS OF 3").is_err());
    }

    #[test]
    fn a_name_says_which_version() {
        assert_eq!(parse_name("t"), ("t", None));
        assert_eq!(parse_name(&format!("t{MARK}version=b=c")), ("t", Some(AsOf::Version("b=c".to_owned()))));
        assert_eq!(parse_name(&format!("t{MARK}timestamp=5")), ("t", Some(AsOf::Timestamp(5))));
    }
}
