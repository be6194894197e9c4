//! Spark's dialect of SQL, as views need it: that of Databricks, with the escapes in Spark's strings.

use std::any::TypeId;

use datafusion::sql::sqlparser::dialect::{DatabricksDialect, Dialect, Precedence};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

/// The dialect of texts that Spark wrote.
#[derive(Debug)]
pub(crate) struct Spark;

impl Dialect for Spark {
    fn dialect(&self) -> TypeId {
        TypeId::of::<DatabricksDialect>()
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        // It binds as `+` does; the parser's default is to bind it as `*`.
        (parser.peek_token_ref().token == Token::StringConcat).then(|| Ok(self.prec_value(Precedence::PlusMinus)))
    }

    fn is_delimited_identifier_start(&self, c: char) -> bool {
        DatabricksDialect.is_delimited_identifier_start(c)
    }

    fn is_identifier_start(&self, c: char) -> bool {
        DatabricksDialect.is_identifier_start(c)
    }

    fn is_identifier_part(&self, c: char) -> bool {
        DatabricksDialect.is_identifier_part(c)
    }

    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }

    fn ignores_wildcard_escapes(&self) -> bool {
        true
    }

    fn supports_numeric_prefix(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_group_by_with_modifier(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_lambda_functions(&self) -> bool {
        true
    }

    fn supports_select_wildcard_except(&self) -> bool {
        true
    }

    fn supports_struct_literal(&self) -> bool {
        true
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }

    fn supports_values_as_table_factor(&self) -> bool {
        true
    }

    fn supports_bang_not_operator(&self) -> bool {
        true
    }

    fn supports_cte_without_as(&self) -> bool {
        true
    }

    fn require_interval_qualifier(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::dialect::Grammar;
    use crate::statement_text::statement;

    #[test]
    fn strings_are_escaped_as_spark_escapes_them() {
        let same = |spark: &str, standard: &str| {
            let (spark, standard) =
                (statement(spark, Grammar::Spark).expect(spark), statement(standard, Grammar::Standard).expect(standard));
            assert_eq!(spark.statement, standard.statement);
        };
        same(r"SELECT a FROM t WHERE s = 'it\'s ? -- \\' AND b = 1", r"SELECT a FROM t WHERE s = 'it''s ? -- \' AND b = 1");
        same(r"SELECT a FROM t WHERE s = 'a\tb\n'", "SELECT a FROM t WHERE s = 'a\tb\n'");
        same(r"SELECT a FROM t WHERE s LIKE '50\%'", r"SELECT a FROM t WHERE s LIKE '50\%'");
        assert!(statement("SELECT a FROM t TIMESTAMP AS OF current_timestamp()", Grammar::Spark).is_err(), "never skipped");
    }
}
