//! Parses the text of a statement, once.
//!
//! JDBC's `?` and Iceberg's time travel are replaced, while they are tokens, by terms that the parser knows. No statement is ever
//! printed and parsed again. Start reading at `statement`.

use chrono::Utc;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use datafusion::sql::sqlparser::dialect::{Dialect, DuckDbDialect, GenericDialect};
use datafusion::sql::sqlparser::keywords::{Keyword, RESERVED_FOR_TABLE_ALIAS};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Word};

use crate::dialect::{Grammar, Postgres};
use crate::spark::Spark;
use crate::{QueryError, Result, depth, foreign_views, select, semantics, timestamp_text};

/// Separator between the name of a table and the version of it that is wanted.
const MARK: char = '\u{1f}';

/// The kinds of versions that may follow the separator in a name.
const KINDS: [&str; 3] = ["version", "timestamp", "rows"];

/// The query that `SHOW SCHEMAS`, `SHOW DATABASES` and `SHOW NAMESPACES` stand for.
const LIST_OF_SCHEMAS: &str =
    "SELECT catalog_name, schema_name FROM information_schema.schemata ORDER BY catalog_name, schema_name";

/// Maximum depth of nested expressions and subqueries.
const DEPTH: usize = 50;

/// The snapshot of a table that a statement asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AsOf {
    /// A snapshot's id, or the name of a branch or tag.
    Version(String),
    /// The snapshot that was current at a time, in milliseconds since the Unix epoch.
    Timestamp(i64),
    /// The rows of a snapshot with their positions; `None` for a table without snapshots.
    Rows(Option<i64>),
}

/// Returns the name that stands for a table's rows with their positions, in a snapshot.
pub(crate) fn rows_name(table: &str, snapshot: Option<i64>) -> String {
    format!("{table}{MARK}rows={}", snapshot.map_or_else(String::new, |id| id.to_string()))
}

/// Returns the snapshot in a name that [`rows_name`] made; `None` for any other name.
pub(crate) fn rows_snapshot(name: &str) -> Option<Option<i64>> {
    match parse_name(name) {
        (_, Some(AsOf::Rows(snapshot))) => Some(snapshot),
        _ => None,
    }
}

/// Checks whether [`rows_name`] made a name.
pub(crate) fn is_rows_name(name: &str) -> bool {
    rows_snapshot(name).is_some()
}

/// Splits a name into the table's own and the version that [`statement`] put into it.
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

/// A statement that was parsed.
#[derive(Debug, Clone)]
pub(crate) struct Parsed {
    pub(crate) statement: Statement,
    /// Number of parameters, which are `$1` to this number.
    pub(crate) parameters: usize,
}

fn wrong(what: impl Into<String>) -> QueryError {
    QueryError::Statement(what.into())
}

/// Parses a text that is one statement. Statements of clients and texts of views all pass here.
///
/// Afterwards parameters are `$1`, `$2`, …, and `t FOR VERSION AS OF v` is a name that holds the version. The same goes for `FOR
/// TIMESTAMP AS OF`, for Spark's forms without `FOR`, and for `SYSTEM_VERSION` and `SYSTEM_TIME`.
///
/// # Errors
///
/// Returns [`QueryError::Statement`] if the text is not one statement, is too deep, or has a part that is not served.
pub(crate) fn statement(sql: &str, grammar: Grammar) -> Result<Parsed> {
    let (statement, parameters) = as_written(sql, grammar)?;
    if lists_schemas(&statement)? {
        return self::statement(LIST_OF_SCHEMAS, Grammar::Standard);
    }
    let mut statement = statement;
    foreign_views::rewrite_view(&mut statement, grammar).map_err(wrong)?;
    let mut statement = meant(statement)?;
    foreign_views::fractions(&mut statement, grammar);
    Ok(Parsed { statement, parameters })
}

/// Parses a text that is one statement, and changes nothing else of it than [`statement`] says. Returns the number of parameters too.
///
/// # Errors
///
/// Returns [`QueryError::Statement`] if the text is not one statement, or is too deep.
pub(crate) fn as_written(sql: &str, grammar: Grammar) -> Result<(Statement, usize)> {
    let dialect: &dyn Dialect = match grammar {
        Grammar::Standard | Grammar::Trino => &Postgres(&GenericDialect {}),
        Grammar::Spark => &Spark,
        Grammar::DuckDb => &Postgres(&DuckDbDialect {}),
    };
    let (tokens, parameters) = tokens(sql, dialect)?;
    depth::check(&tokens)?;
    let mut parser = DFParserBuilder::new(tokens).with_dialect(dialect).with_recursion_limit(DEPTH).build()?;
    let mut statements = parser.parse_statements()?;
    match (statements.pop_front(), statements.len()) {
        (Some(statement), 0) => Ok((statement, parameters)),
        (None, _) => Err(wrong("there is no statement")),
        (Some(_), more) => Err(wrong(format!("one statement at a time, not {}", more + 1))),
    }
}

/// Checks whether a statement asks for the list of namespaces.
///
/// # Errors
///
/// Returns [`QueryError::Statement`] if it asks for a part of the list.
fn lists_schemas(statement: &Statement) -> Result<bool> {
    let Statement::Statement(statement) = statement else { return Ok(false) };
    let is_whole = match statement.as_ref() {
        SqlStatement::ShowSchemas { .. } | SqlStatement::ShowDatabases { .. } => {
            matches!(statement.to_string().as_str(), "SHOW SCHEMAS" | "SHOW DATABASES")
        }
        // No word of the standard: the parser takes it for the name of a variable, and skips what is no word.
        SqlStatement::ShowVariable { variable } => match variable.as_slice() {
            [first, more @ ..] if first.quote_style.is_none() && first.value.eq_ignore_ascii_case("namespaces") => {
                more.is_empty()
            }
            _ => return Ok(false),
        },
        _ => return Ok(false),
    };
    match is_whole {
        true => Ok(true),
        false => Err(wrong(
            "SHOW SCHEMAS, SHOW DATABASES and SHOW NAMESPACES list everything; for a part of it, use SELECT schema_name FROM \
             information_schema.schemata WHERE …",
        )),
    }
}

/// Rewrites what the planner would misunderstand in a statement.
fn meant(statement: Statement) -> Result<Statement> {
    let mut statement = select::rewritten(statement)?;
    semantics::numbers(&mut statement)?;
    semantics::signed(&mut statement);
    Ok(statement)
}

/// Returns the tokens of a text, and the number of its parameters.
///
/// Placeholders and time travel are replaced by terms that the parser knows.
fn tokens(sql: &str, dialect: &dyn Dialect) -> Result<(Vec<TokenWithSpan>, usize)> {
    depth::check_text(sql)?;
    let tokens = Tokenizer::new(dialect, sql).tokenize_with_location().map_err(|e| wrong(e.to_string()))?;
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut parameters = Placeholders::default();
    let mut at = 0;
    while at < tokens.len() {
        let span = tokens[at].span;
        match &tokens[at].token {
            Token::Placeholder(text) => out.push(TokenWithSpan::new(parameters.take(text)?, span)),
            Token::Word(word) if word.quote_style.is_some() && is_marked(&word.value) => {
                return Err(wrong(format!("there is no table {:?}", word.value)));
            }
            _ => {
                if let Some((version, end)) = as_of(&tokens, at)? {
                    let plain = versioned(&mut out, &version)?;
                    if !has_alias(&tokens[end..]) {
                        let alias = [space(), Token::make_keyword("AS"), space(), Token::Word(quoted(&plain))];
                        out.extend(alias.into_iter().map(|token| TokenWithSpan::new(token, span)));
                    }
                    at = end;
                    continue;
                }
                out.push(tokens[at].clone());
            }
        }
        at += 1;
    }
    Ok((out, parameters.count()))
}

/// The placeholders that were found so far.
#[derive(Default)]
struct Placeholders {
    /// Number of `?`.
    marks: usize,
    /// The highest number in `$1`, `$2`, …
    highest: usize,
}

impl Placeholders {
    /// Counts a placeholder; returns the token for it.
    fn take(&mut self, text: &str) -> Result<Token> {
        match text.strip_prefix('$').map(str::parse::<usize>) {
            Some(Ok(number)) if number > 0 && number <= usize::from(u16::MAX) => self.highest = self.highest.max(number),
            None if text == "?" => self.marks += 1,
            _ => return Err(wrong(format!("parameter {text}: parameters are ?, or $1, $2, …"))),
        }
        if self.marks > 0 && self.highest > 0 {
            return Err(wrong("parameters are either ? or $1, $2, …, not both in one statement"));
        }
        Ok(Token::Placeholder(if self.marks > 0 { format!("${}", self.marks) } else { text.to_owned() }))
    }

    fn count(&self) -> usize {
        self.marks.max(self.highest)
    }
}

/// Checks whether a name looks as if [`statement`] had put a version into it.
fn is_marked(name: &str) -> bool {
    name.split_once(MARK).and_then(|(_, rest)| rest.split_once('=')).is_some_and(|(kind, _)| KINDS.contains(&kind))
}

/// Puts a version into the name at the end of `out`; returns the name as it was.
fn versioned(out: &mut Vec<TokenWithSpan>, version: &str) -> Result<String> {
    let mut before = out.iter().enumerate().rev().filter(|(_, t)| !matches!(t.token, Token::Whitespace(_)));
    let (name, ahead) = (before.next().map(|(i, _)| i), before.next().map(|(_, t)| &t.token));
    let begins = match ahead {
        Some(Token::Period | Token::Comma | Token::LParen) => true,
        Some(Token::Word(word)) => matches!(word.keyword, Keyword::FROM | Keyword::JOIN),
        _ => false,
    };
    let Some((at, Token::Word(word))) = name.filter(|_| begins).map(|i| (i, &mut out[i].token)) else {
        return Err(wrong("AS OF must follow the name of a table"));
    };
    let plain = if word.quote_style.is_some() { word.value.clone() } else { word.value.to_ascii_lowercase() };
    *word = quoted(&format!("{plain}{MARK}{version}"));
    out.truncate(at + 1);
    Ok(plain)
}

fn space() -> Token {
    Token::Whitespace(datafusion::sql::sqlparser::tokenizer::Whitespace::Space)
}

fn quoted(name: &str) -> Word {
    Word { value: name.to_owned(), quote_style: Some('"'), keyword: Keyword::NoKeyword }
}

/// Returns the first token from `at` on that is not blank, and the index after it.
fn next(tokens: &[TokenWithSpan], at: usize) -> Option<(&Token, usize)> {
    let i = (at..tokens.len()).find(|i| !matches!(tokens[*i].token, Token::Whitespace(_)))?;
    Some((&tokens[i].token, i + 1))
}

/// Returns the next word in upper case if it is not quoted, and the index after it.
fn word(tokens: &[TokenWithSpan], at: usize) -> Option<(String, usize)> {
    match next(tokens, at)? {
        (Token::Word(word), end) if word.quote_style.is_none() => Some((word.value.to_ascii_uppercase(), end)),
        _ => None,
    }
}

/// Reads `[FOR] VERSION AS OF literal` at a token; returns the suffix of the table's name and the index after the clause.
fn as_of(tokens: &[TokenWithSpan], at: usize) -> Result<Option<(String, usize)>> {
    if !matches!(tokens[at].token, Token::Word(_)) {
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
        && matches!(kind.as_str(), "TIMESTAMP" | "TIMESTAMPTZ" | "DATE")
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
            true => Err(wrong("AS OF takes a literal: a number, 'a string' or TIMESTAMP '…'")),
            // `version AS of` may well be a column and its alias.
            false => Ok(None),
        };
    };
    if !time {
        return Ok(Some((format!("version={text}"), end)));
    }
    let bad = || wrong(format!("AS OF {text:?} is not a time"));
    let ms = match number {
        // Seconds, as Spark takes them.
        true => text.parse::<i64>().ok().and_then(|s| s.checked_mul(1000)).ok_or_else(bad)?,
        false => timestamp_text::read(&Utc, &text).map_err(|_| bad())?.timestamp_millis(),
    };
    Ok(Some((format!("timestamp={ms}"), end)))
}

/// Checks whether an alias follows.
fn has_alias(after: &[TokenWithSpan]) -> bool {
    match next(after, 0) {
        Some((Token::Word(word), _)) => {
            word.quote_style.is_some() || word.keyword == Keyword::AS || !RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(sql: &str) -> Parsed {
        statement(sql, Grammar::Standard).unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    fn refused(sql: &str) -> String {
        statement(sql, Grammar::Standard).expect_err(sql).to_string()
    }

    /// Two texts mean the same; `@` stands for the mark.
    fn same(sql: &str, other: &str) {
        let other = other.replace('@', &MARK.to_string());
        let unmarked = DFParserBuilder::new(other.as_str()).build().expect("tokens").parse_statements().expect("valid");
        let other = unmarked.into_iter().next().map(|s| meant(s).expect("understood"));
        assert_eq!(Some(read(sql).statement), other, "{sql}");
    }

    #[test]
    fn question_marks_are_parameters_except_where_they_are_text() {
        let sql = "SELECT '?', 'it''s ?', \"a?\", $$?$$, E'\\'?' FROM t WHERE a = ? /* ? /* ? */ ? */ AND b = ? -- ?\n";
        assert_eq!(read(sql).parameters, 2);
        same("SELECT a FROM t WHERE a = ? AND b IN (?, '?')", "SELECT a FROM t WHERE a = $1 AND b IN ($2, '?')");
        assert_eq!(read("SELECT $2, $1, $2").parameters, 2);
        assert!(refused("SELECT ?, $1").contains("not both"));
        assert!(refused("SELECT :name").contains("parameter :name"));
        assert!(refused("SELECT ?7").contains("parameter ?7"));
    }

    #[test]
    fn versions_go_into_names() {
        same("SELECT t.a FROM n.T FOR VERSION AS OF 7 WHERE a = 1", "SELECT t.a FROM n.\"t@version=7\" AS \"t\" WHERE a = 1");
        same("SELECT * FROM t VERSION AS OF 'b' x", "SELECT * FROM \"t@version=b\" x");
        same("SELECT * FROM t VERSION AS OF 'it''s' x", "SELECT * FROM \"t@version=it's\" x");
        for time in ["SYSTEM_TIME AS OF TIMESTAMP '2026-01-01 00:00:01Z'", "TIMESTAMP AS OF TIMESTAMPTZ '2026-01-01 00:00:01+00'"]
        {
            same(&format!("SELECT * FROM t FOR {time} AS x"), "SELECT * FROM \"t@timestamp=1767225601000\" AS x");
        }
        same("SELECT * FROM t TIMESTAMP AS OF '2026-01-01 00:01' x", "SELECT * FROM \"t@timestamp=1767225660000\" x");
        same("SELECT * FROM a FOR TIMESTAMP AS OF 10, b", "SELECT * FROM \"a@timestamp=10000\" AS \"a\", b");
        same("SELECT * FROM a /* FOR */ FOR VERSION AS OF 3 -- x", "SELECT * FROM \"a@version=3\" AS \"a\"");
        same(
            "SELECT * FROM b JOIN \"A b\" FOR VERSION AS OF 3 ON true",
            "SELECT * FROM b JOIN \"A b@version=3\" AS \"A b\" ON true",
        );
        same("SELECT version AS of FROM t", "SELECT version AS of FROM t");
        same("SELECT 'FOR VERSION AS OF 3' FROM t", "SELECT 'FOR VERSION AS OF 3' FROM t");
        assert!(refused("SELECT * FROM t FOR VERSION AS OF now()").contains("literal"));
        assert!(refused("SELECT * FROM t FOR TIMESTAMP AS OF 'soon'").contains("not a time"));
        assert!(refused("SELECT * FROM (SELECT 1) FOR VERSION AS OF 3").contains("name of a table"));
        assert!(refused("SELECT 1 FROM FOR VERSION AS OF 3").contains("name of a table"));
    }

    #[test]
    fn nobody_names_a_tables_rows_by_hand() {
        assert!(refused(&format!("SELECT * FROM \"{}\"", rows_name("t", Some(5)))).contains("no table"));
    }

    #[test]
    fn a_comparison_by_is_distinct_from_ends_where_postgresql_ends_it() {
        let filter = |text: &str| format!("SELECT a FROM t WHERE {text}");
        for (text, other) in [
            ("a IS DISTINCT FROM b OR c", "(a IS DISTINCT FROM b) OR c"),
            ("a IS NOT DISTINCT FROM b AND c OR d", "((a IS NOT DISTINCT FROM b) AND c) OR d"),
            ("p AND a IS DISTINCT FROM b OR c", "(p AND (a IS DISTINCT FROM b)) OR c"),
            ("NOT a IS DISTINCT FROM b AND c", "(NOT (a IS DISTINCT FROM b)) AND c"),
            ("a IS DISTINCT FROM b + 1 OR c", "(a IS DISTINCT FROM (b + 1)) OR c"),
            ("a IS DISTINCT FROM (b OR c)", "a IS DISTINCT FROM ((b OR c))"),
            ("p AND (q OR r)", "p AND ((q OR r))"),
        ] {
            assert_eq!(tree(&read(&filter(text)).statement), tree(&read(&filter(other)).statement), "{text}");
        }
    }

    /// The condition of a statement with parentheses around every operation.
    fn tree(statement: &Statement) -> String {
        use datafusion::sql::sqlparser::ast::{Expr, SetExpr, Statement as SqlStatement};
        fn of(expr: &Expr) -> String {
            match expr {
                Expr::Nested(inner) => of(inner),
                Expr::BinaryOp { left, op, right } => format!("({} {op} {})", of(left), of(right)),
                Expr::UnaryOp { op, expr } => format!("({op} {})", of(expr)),
                Expr::IsDistinctFrom(a, b) => format!("({} <d> {})", of(a), of(b)),
                Expr::IsNotDistinctFrom(a, b) => format!("({} <n> {})", of(a), of(b)),
                other => other.to_string(),
            }
        }
        let Statement::Statement(inner) = statement else { panic!("a statement") };
        let SqlStatement::Query(query) = inner.as_ref() else { panic!("a query") };
        let SetExpr::Select(select) = query.body.as_ref() else { panic!("a select") };
        of(select.selection.as_ref().expect("a condition"))
    }

    #[test]
    fn one_statement_at_a_time() {
        assert!(refused("SELECT 1; DELETE FROM t").contains("one statement"));
        assert!(refused("  -- nothing").contains("no statement"));
        read("SELECT ';' ;");
    }

    #[test]
    fn a_name_says_which_version() {
        assert_eq!(parse_name("t"), ("t", None));
        assert_eq!(parse_name(&format!("t{MARK}version=b=c")), ("t", Some(AsOf::Version("b=c".to_owned()))));
        assert_eq!(parse_name(&format!("t{MARK}timestamp=5")), ("t", Some(AsOf::Timestamp(5))));
    }

    /// Texts that look like more than they are: what each reads as, and how many parameters it has.
    fn operand() -> impl Strategy<Value = (String, usize)> {
        let hostile = "[-a?$'\"/*;\\\\ ]{0,6}|x' OR 1=1 --|FOR VERSION AS OF 3|\\$1|\\?";
        prop_oneof![
            hostile.prop_map(|text| (format!("'{}'", text.replace('\'', "''")), 0)),
            hostile.prop_map(|text| (format!("\"c{}\"", text.replace('"', "\"\"")), 0)),
            "[a?' ;-]{0,6}".prop_map(|text| (format!("$x${text}$x$"), 0)),
            Just(("?".to_owned(), 1)),
            Just(("a".to_owned(), 0)),
            Just(("-1.50".to_owned(), 0)),
        ]
    }

    fn gap() -> impl Strategy<Value = String> {
        prop_oneof![
            Just(" ".to_owned()),
            "[a?' \";]{0,5}".prop_map(|text| format!(" /*{text}*/ ")),
            "[a?' \";-]{0,5}".prop_map(|text| format!(" --{text}\n")),
            Just(" /* /* ' */ ? */ ".to_owned()),
        ]
    }

    proptest! {
        /// Anything but a parameter or a version is read as the parser reads it in the original text.
        #[test]
        fn nothing_but_parameters_and_versions_is_changed(
            parts in proptest::collection::vec((operand(), gap(), "=|<>|\\|\\|", gap()), 1..5),
            delete: bool,
            version: bool,
        ) {
            let head = if delete { "DELETE FROM t" } else { "SELECT a, 'it''s' FROM t" };
            let as_of = |text: &'static str| if version && !delete { text } else { "" };
            let (mut ours, mut theirs, mut count) = (String::new(), String::new(), 0);
            for ((operand, parameters), before, op, after) in &parts {
                let plain = if *parameters == 1 { count += 1; format!("${count}") } else { operand.clone() };
                ours += &format!("{operand}{before}{op}{after}");
                theirs += &format!("{plain}{before}{op}{after}");
            }
            let sql = format!("{head}{} WHERE {ours}1", as_of(" FOR VERSION AS OF 'b''c'"));
            let plain = format!("{head} WHERE {theirs}1");
            let marked = plain.replacen("FROM t", as_of("FROM \"t@version=b'c\" AS \"t\""), usize::from(version && !delete));
            let parsed = read(&sql);
            prop_assert_eq!(parsed.parameters, count);
            same(&sql, &marked.replacen('@', &MARK.to_string(), 1));
        }
    }
}
