//! The grammars of texts, and SQL dialects in which operators bind as in PostgreSQL (chapter 4.1.6 of its manual).
//!
//! `||` and the operators of bits, arrays and patterns bind less tightly than `+`, and more tightly than `LIKE`, `IN` and
//! `BETWEEN`. These bind more tightly than `=` and `<`. Start reading at `Postgres::prec_value`.

use std::any::TypeId;

use datafusion::sql::sqlparser::ast::{Expr, UnaryOperator};
use datafusion::sql::sqlparser::dialect::{Dialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

/// The grammar by which a text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grammar {
    /// The grammar of statements that clients send.
    Standard,
    Spark,
    Trino,
    DuckDb,
}

impl Grammar {
    /// Returns the rank and the grammar of a view's dialect; lower ranks are tried first. Unknown dialects have none.
    pub(crate) fn of_dialect(dialect: &str) -> Option<(u8, Self)> {
        match dialect.to_lowercase().as_str() {
            "esker" | "datafusion" => Some((0, Self::Standard)),
            "trino" | "presto" => Some((1, Self::Trino)),
            "spark" | "databricks" => Some((2, Self::Spark)),
            "duckdb" => Some((3, Self::DuckDb)),
            _ => None,
        }
    }
}

/// Precedence of an operator that has none of its own.
const ANY: u8 = 70;

/// A dialect with another precedence of operators.
///
/// It forwards those settings in which the wrapped dialects differ from the parser's defaults.
#[derive(Debug)]
pub(crate) struct Postgres(pub(crate) &'static dyn Dialect);

macro_rules! as_inner {
    ($($name:ident)*) => {
        $(fn $name(&self) -> bool {
            self.0.$name()
        })*
    };
}

impl Dialect for Postgres {
    fn dialect(&self) -> TypeId {
        self.0.dialect()
    }

    fn is_delimited_identifier_start(&self, c: char) -> bool {
        self.0.is_delimited_identifier_start(c)
    }

    fn is_identifier_start(&self, c: char) -> bool {
        self.0.is_identifier_start(c)
    }

    fn is_identifier_part(&self, c: char) -> bool {
        self.0.is_identifier_part(c)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        match precedence {
            Precedence::Period => 200,
            Precedence::DoubleColon => 140,
            Precedence::AtTz => 110,
            Precedence::MulDivModOp => 90,
            Precedence::PlusMinus => 80,
            Precedence::Xor => 75,
            Precedence::Ampersand | Precedence::Caret | Precedence::Pipe | Precedence::Colon | Precedence::PgOther => ANY,
            Precedence::Between | Precedence::Like => 60,
            Precedence::Eq => 50,
            Precedence::Is => 40,
            Precedence::UnaryNot => 30,
            Precedence::And => 20,
            Precedence::Or => 10,
        }
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        match parser.peek_token_ref().token {
            Token::StringConcat
            | Token::Tilde
            | Token::TildeAsterisk
            | Token::ExclamationMarkTilde
            | Token::ExclamationMarkTildeAsterisk
            | Token::DoubleTilde
            | Token::DoubleTildeAsterisk
            | Token::ExclamationMarkDoubleTilde
            | Token::ExclamationMarkDoubleTildeAsterisk => Some(Ok(ANY)),
            _ => None,
        }
    }

    /// Parses `~ 1 + 2` as `~ (1 + 2)`.
    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        if parser.peek_token_ref().token != Token::Tilde {
            return None;
        }
        parser.next_token();
        let operand = parser.parse_subexpr(ANY);
        Some(operand.map(|operand| Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr: Box::new(operand) }))
    }

    /// Parses `x IN ((SELECT 1), 2)` as a list. The parser would take the first item for all of it.
    fn parse_infix(&self, parser: &mut Parser<'_>, expr: &Expr, _precedence: u8) -> Option<Result<Expr, ParserError>> {
        let negated = is_list(parser)?;
        let mut list = || {
            if negated {
                parser.expect_keyword(Keyword::NOT)?;
            }
            parser.expect_keyword(Keyword::IN)?;
            parser.expect_token(&Token::LParen)?;
            let list = parser.parse_comma_separated(Parser::parse_expr)?;
            parser.expect_token(&Token::RParen)?;
            Ok(Expr::InList { expr: Box::new(expr.clone()), list, negated })
        };
        Some(list())
    }

    as_inner! {
            allow_extract_custom
            allow_extract_single_quotes
            support_map_literal_syntax
            supports_array_join_syntax
            supports_array_typedef_with_brackets
            supports_asc_desc_in_column_definition
            supports_bitwise_shift_operators
            supports_comma_separated_set_assignments
            supports_comma_separated_trim
            supports_comment_on
            supports_comment_optimizer_hint
            supports_connect_by
            supports_constraint_keyword_without_name
            supports_create_index_with_clause
            supports_create_view_comment_syntax
            supports_cte_without_as
            supports_data_type_signed_suffix
            supports_detach
            supports_dictionary_syntax
            supports_empty_projections
            supports_explain_with_utility_options
            supports_extract_comma_syntax
            supports_filter_during_aggregation
            supports_from_first_select
            supports_group_by_expr
            supports_group_by_with_modifier
            supports_install
            supports_interpolate
            supports_interval_options
            supports_key_column_option
            supports_lambda_functions
            supports_left_associative_joins_without_parens
            supports_limit_by
            supports_limit_comma
            supports_load_extension
            supports_match_against
            supports_match_recognize
            supports_multiline_comment_hints
            supports_named_fn_args_with_assignment_operator
            supports_named_fn_args_with_eq_operator
            supports_nested_comments
            supports_notnull_operator
            supports_optimize_table
            supports_order_by_all
            supports_parens_around_table_factor
            supports_parenthesized_set_variables
            supports_partition_by_after_order_by
            supports_pipe_operator
            supports_prewhere
            supports_projection_trailing_commas
            supports_quote_delimited_string
            supports_select_format
            supports_select_item_multi_column_alias
            supports_select_wildcard_except
            supports_select_wildcard_exclude
            supports_select_wildcard_ilike
            supports_select_wildcard_rename
            supports_select_wildcard_replace
            supports_set_names
            supports_settings
            supports_start_transaction_modifier
            supports_string_escape_constant
            supports_struct_literal
            supports_trailing_commas
            supports_try_convert
            supports_unicode_string_literal
            supports_update_order_by
            supports_user_host_grantee
            supports_values_as_table_factor
            supports_window_clause_named_window_reference
            supports_window_function_null_treatment_arg
            supports_with_fill
            supports_xml_expressions
    }
}

/// Returns whether an `IN` list that begins with a parenthesis is negated; `None` if no such list follows.
fn is_list(parser: &Parser<'_>) -> Option<bool> {
    let keyword =
        |at: usize, wanted: Keyword| matches!(&parser.peek_nth_token_ref(at).token, Token::Word(w) if w.keyword == wanted);
    let negated = keyword(0, Keyword::NOT);
    let at = usize::from(negated);
    if !keyword(at, Keyword::IN) || [1, 2].iter().any(|next| parser.peek_nth_token_ref(at + next).token != Token::LParen) {
        return None;
    }
    // Looks for the end of the first item by tokens: parsing it twice would take exponential time where such lists are nested.
    let (mut depth, mut closed) = (0, false);
    for place in 0.. {
        match parser.peek_nth_token_no_skip(place).token {
            Token::EOF => break,
            Token::Whitespace(_) => {}
            Token::Comma if closed => return Some(negated),
            // A word continues a query: `(SELECT 1) UNION …`.
            Token::Word(_) | Token::RParen if closed => break,
            _ if closed => return Some(negated),
            Token::LParen => depth += 1,
            Token::RParen => {
                depth -= 1;
                closed = depth == 1;
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use datafusion::sql::parser::Statement;
    use datafusion::sql::sqlparser::ast::{Expr, VisitMut, VisitorMut};

    use super::Grammar;
    use crate::statement_text::statement;
    use crate::syntax_tree::taken;

    /// Takes the parentheses out of a tree, in which they leave a mark.
    struct Bare;

    impl VisitorMut for Bare {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Nested(inner) = expr {
                *expr = taken(inner);
            }
            ControlFlow::Continue(())
        }
    }

    /// A statement with a condition, without parentheses.
    fn tree(condition: &str, grammar: Grammar) -> Statement {
        let sql = format!("SELECT a FROM t WHERE {condition}");
        let mut read = statement(&sql, grammar).unwrap_or_else(|e| panic!("{sql}: {e}")).statement;
        if let Statement::Statement(inner) = &mut read {
            let _ = inner.visit(&mut Bare);
        }
        read
    }

    /// PostgreSQL 17, 4.1.6. Operator Precedence.
    #[test]
    fn operators_bind_as_in_postgresql() {
        for (text, other) in [
            ("a + 1 || 'x' = b", "((a + 1) || 'x') = b"),
            ("a || b * c || d = e", "((a || (b * c)) || d) = e"),
            ("a || b - 1 < c || d", "(a || (b - 1)) < (c || d)"),
            ("a || b LIKE c || d", "(a || b) LIKE (c || d)"),
            ("a || b IN (c)", "(a || b) IN (c)"),
            ("a | b & c = d", "((a | b) & c) = d"),
            ("a << b + 1 || c = d", "((a << (b + 1)) || c) = d"),
            ("p = a LIKE b", "p = (a LIKE b)"),
            ("a LIKE b = p", "(a LIKE b) = p"),
            ("p = a IN (b)", "p = (a IN (b))"),
            ("p = a BETWEEN b AND c", "p = (a BETWEEN b AND c)"),
            ("p = a ~ b", "p = (a ~ b)"),
            ("a @> b = p", "(a @> b) = p"),
            ("a = b IS NULL", "(a = b) IS NULL"),
            ("NOT a = b AND c < d OR e", "((NOT (a = b)) AND (c < d)) OR e"),
            ("-a || b = c", "((-a) || b) = c"),
            ("~ a + b = c", "(~ (a + b)) = c"),
        ] {
            for grammar in [Grammar::Standard, Grammar::DuckDb] {
                assert_eq!(tree(text, grammar), tree(other, grammar), "{text}");
            }
        }
    }

    /// Spark's `||` binds as `+` does.
    #[test]
    fn operators_of_views_of_spark_bind_as_in_spark() {
        for (text, other) in [("a || b * c = d", "(a || (b * c)) = d"), ("a + b || c = d", "((a + b) || c) = d")] {
            assert_eq!(tree(text, Grammar::Spark), tree(other, Grammar::Spark), "{text}");
        }
    }

    #[test]
    fn a_list_may_begin_with_a_subquery() {
        for (list, items) in
            [("(SELECT 1), 2", 2), ("((SELECT 1)), 2, 3", 3), ("(1) + 1, 2", 2), ("(SELECT ')'), 2", 2), ("(1), (2)", 2)]
        {
            for not in ["", "NOT "] {
                let text = format!("a {not}IN ({list})");
                assert_eq!(list_of(&text), Some((items, !not.is_empty())), "{text}");
            }
        }
        for query in ["a IN ((SELECT 1))", "a IN ((SELECT 1) UNION SELECT 2)", "a IN (((SELECT 1)))"] {
            assert_eq!(list_of(query), None, "{query}");
        }
    }

    /// Returns the number of items in the list of an `IN`, and whether it is negated.
    fn list_of(condition: &str) -> Option<(usize, bool)> {
        let mut found = Lists(None);
        if let Statement::Statement(mut inner) = tree(condition, Grammar::Standard) {
            let _ = inner.visit(&mut found);
        }
        found.0
    }

    struct Lists(Option<(usize, bool)>);

    impl VisitorMut for Lists {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::InList { list, negated, .. } = expr {
                self.0 = Some((list.len(), *negated));
            }
            ControlFlow::Continue(())
        }
    }
}
