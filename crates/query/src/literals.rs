//! The text of a statement as the log shows it: without the values in it.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// The text in the place of a statement that is none.
const UNREADABLE: &str = "(a text that can't be read)";

/// Returns a statement with `?` in the place of each literal, and without comments. Names stay.
pub(crate) fn without_literals(sql: &str) -> String {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return UNREADABLE.to_owned() };
    let mut shown = String::with_capacity(sql.len());
    for token in tokens {
        match token {
            Token::Word(word) => shown.push_str(&word.to_string()),
            Token::Whitespace(_) if shown.ends_with(' ') => {}
            Token::Whitespace(_) => shown.push(' '),
            // Every form of a literal has a quote or a digit, and so has a parameter; no operator has.
            other => {
                let text = other.to_string();
                let is_value = text.contains(|c: char| c.is_ascii_digit() || matches!(c, '\'' | '"' | '$'));
                shown.push_str(if is_value { "?" } else { &text });
            }
        }
    }
    shown.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_left_out_of_a_statement_and_names_are_not() {
        for (sql, shown) in [
            (
                "SELECT a1, 'ann@x.eu' FROM n.t WHERE id = 5 AND d > DATE '2026-01-01'",
                "SELECT a1, ? FROM n.t WHERE id = ? AND d > DATE ?",
            ),
            (
                "SELECT \"my col\" -- of ann\n FROM \"t$files\" /* bob */ WHERE x IN (1.5e3, -2, $1)",
                "SELECT \"my col\" FROM \"t$files\" WHERE x IN (?, -?, ?)",
            ),
            ("SELECT X'ff', N'ann', E'a\\n', $$bob$$, 'it''s'", "SELECT ?, ?, ?, ?, ?"),
            ("SELECT a || 'b' <> c", "SELECT a || ? <> c"),
            ("SELECT 'open", UNREADABLE),
        ] {
            assert_eq!(without_literals(sql), shown);
        }
    }
}
