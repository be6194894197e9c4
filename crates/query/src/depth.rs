//! Limits on the depth and the size of statements and plans.
//!
//! Expressions and plans are processed by recursion. One that is deeper than a thread's stack would end the process, not only the
//! statement. `check` counts tokens before parsing, `balance` makes long `AND` and `OR` chains flat, and `check_plan` measures
//! plans. Start reading at `check`.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::syntax_tree::{binary, taken};
use crate::{QueryError, Result};

/// Maximum number of operators in a row, each applied to the result of those before it, and of open parentheses.
///
/// The time of planning grows with a power of this number.
pub(crate) const LEVELS: usize = 150;

/// Maximum number of queries in one `UNION`, `INTERSECT` or `EXCEPT`.
const QUERIES: usize = 250;

/// Maximum number of terms in one `AND` or `OR`, which may be grouped in any order.
const TERMS: usize = 20_000;

/// Number of terms from which on their grouping matters to the stack.
const MANY: usize = 32;

/// Maximum number of levels of a plan.
const PLAN_LEVELS: usize = 1_000;
/// Maximum number of steps of a plan, on all levels.
const PLAN_STEPS: u64 = 100_000;

/// Maximum size of a statement, in bytes.
const TEXT_BYTES: usize = 4 << 20;
/// Maximum number of words, values, signs and blanks of a statement. Each takes some hundred bytes until it is planned.
const TOKENS: usize = 1_000_000;

/// Checks that a text is not too long to be split into tokens.
///
/// # Errors
///
/// Returns [`QueryError::Statement`] if it is.
pub(crate) fn check_text(sql: &str) -> Result<()> {
    match sql.len() > TEXT_BYTES {
        true => Err(too_long(format!("more than {} MiB", TEXT_BYTES >> 20))),
        false => Ok(()),
    }
}

/// Returns the error of a statement that is too long. `what` says how long it is.
fn too_long(what: String) -> QueryError {
    let way_out = "split it, bind parameters, or put the values into a table";
    QueryError::Statement(format!("the statement is too long: it has {what}; {way_out}"))
}

fn too_deep(what: String) -> QueryError {
    QueryError::Statement(format!("the statement is too deep: {what}; split it, or put the values into a table"))
}

/// The counts so far of what follows one another between two parentheses.
#[derive(Default)]
struct Chain {
    operators: usize,
    terms: usize,
    queries: usize,
}

/// Checks that the parser would not make too deep or too large a tree of the tokens.
pub(crate) fn check(tokens: &[TokenWithSpan]) -> Result<()> {
    if tokens.len() > TOKENS {
        return Err(too_long(format!("more than {TOKENS} words, values, signs and blanks")));
    }
    let mut open = vec![Chain::default()];
    for TokenWithSpan { token, .. } in tokens {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace if open.len() > LEVELS => {
                return Err(QueryError::Statement("the statement is nested too deeply".to_owned()));
            }
            Token::LParen | Token::LBracket | Token::LBrace => open.push(Chain::default()),
            Token::RParen | Token::RBracket | Token::RBrace if open.len() > 1 => {
                open.pop();
            }
            _ => {}
        }
        let Some(chain) = open.last_mut() else { continue };
        // An item of an item (`x[1][2]`), or a list of lists.
        if *token == Token::RBracket {
            chain.operators += 1;
        }
        match token {
            Token::Comma | Token::SemiColon => (chain.operators, chain.terms) = (0, 0),
            Token::Word(word) if word.quote_style.is_none() => chain.keyword(word.keyword),
            token if is_operator(token) => chain.operators += 1,
            _ => {}
        }
        for (count, most, what) in [
            (chain.operators, LEVELS, "operators in a row"),
            (chain.queries, QUERIES, "queries in one UNION, INTERSECT or EXCEPT"),
            (chain.terms, TERMS, "terms in one AND or OR"),
        ] {
            if count > most {
                return Err(too_deep(format!("it has more than {most} {what}")));
            }
        }
    }
    Ok(())
}

impl Chain {
    /// Counts a keyword.
    fn keyword(&mut self, keyword: Keyword) {
        match keyword {
            // A term has its own count of operators.
            Keyword::AND | Keyword::OR => (self.operators, self.terms) = (0, self.terms + 1),
            Keyword::NOT
            | Keyword::IS
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::SIMILAR
            | Keyword::IN
            | Keyword::AT
            | Keyword::COLLATE => {
                self.operators += 1;
            }
            Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS => self.queries += 1,
            Keyword::SELECT | Keyword::FROM | Keyword::WHERE | Keyword::HAVING | Keyword::ON | Keyword::BY => {
                (self.operators, self.terms) = (0, 0);
            }
            Keyword::WHEN | Keyword::THEN | Keyword::ELSE | Keyword::END => self.operators = 0,
            _ => {}
        }
    }
}

fn is_operator(token: &Token) -> bool {
    !matches!(
        token,
        Token::Word(_)
            | Token::Number(..)
            | Token::Whitespace(_)
            | Token::SingleQuotedString(_)
            | Token::Placeholder(_)
            | Token::Period
            | Token::LParen
            | Token::RParen
            | Token::LBracket
            | Token::RBracket
            | Token::LBrace
            | Token::RBrace
            | Token::EOF
    )
}

/// Groups the terms of a long `AND` or `OR` in pairs, because the parser nests them one in another.
pub(crate) fn balance(expr: &mut Expr) {
    let Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } = expr else { return };
    let op = op.clone();
    let same = |expr: &Expr| matches!(expr, Expr::BinaryOp { op: other, .. } if *other == op);
    let mut terms = 1;
    let mut at = &*expr;
    while let Expr::BinaryOp { left, .. } = at
        && same(at)
    {
        (at, terms) = (left.as_ref(), terms + 1);
    }
    if terms < MANY {
        return;
    }
    let mut parts = Vec::with_capacity(terms);
    let mut rest = taken(expr);
    while same(&rest) {
        let Expr::BinaryOp { left, right, .. } = rest else { break };
        parts.push(*right);
        rest = *left;
    }
    parts.push(rest);
    parts.reverse();
    while parts.len() > 1 {
        let mut pairs = Vec::with_capacity(parts.len().div_ceil(2));
        let mut each = parts.into_iter();
        while let Some(left) = each.next() {
            pairs.push(match each.next() {
                Some(right) => binary(left, op.clone(), right),
                None => left,
            });
        }
        parts = pairs;
    }
    if let Some(whole) = parts.pop() {
        *expr = whole;
    }
}

/// Checks that a plan is not too deep and has not too many steps.
///
/// A query that `WITH` names counts each time that it is used.
pub(crate) fn check_plan(plan: &LogicalPlan) -> Result<()> {
    let mut within = Vec::new();
    let mut steps = measured(plan, &mut within)?;
    while let Some(subquery) = within.pop() {
        steps += measured(&subquery, &mut within)?;
        within_limits(0, steps)?;
    }
    Ok(())
}

/// Checks numbers of levels and of steps against the limits.
fn within_limits(levels: usize, steps: u64) -> Result<()> {
    if levels > PLAN_LEVELS || steps > PLAN_STEPS {
        return Err(too_deep("its plan would have too many joins, subqueries or uses of WITH queries".to_owned()));
    }
    Ok(())
}

/// Counts the steps of a plan, and adds the plans of its subqueries to `within`. Too many are an error.
fn measured(plan: &LogicalPlan, within: &mut Vec<Arc<LogicalPlan>>) -> Result<u64> {
    let address = |plan: &LogicalPlan| std::ptr::from_ref(plan);
    let mut known: HashMap<*const LogicalPlan, (usize, u64)> = HashMap::new();
    let mut open = vec![plan];
    while let Some(at) = open.last().copied() {
        let below = at.inputs();
        let before = open.len();
        open.extend(below.iter().copied().filter(|plan| !known.contains_key(&address(plan))));
        if open.len() > before {
            continue;
        }
        open.pop();
        let (mut levels, mut steps) = (0, 1_u64);
        for (deep, many) in below.into_iter().filter_map(|plan| known.get(&address(plan))) {
            (levels, steps) = (levels.max(*deep), steps.saturating_add(*many));
        }
        within_limits(levels + 1, steps)?;
        if known.insert(address(at), (levels + 1, steps)).is_none() {
            at.apply_subqueries(|plan| {
                if let LogicalPlan::Subquery(subquery) = plan {
                    within.push(subquery.subquery.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
    }
    Ok(known.get(&address(plan)).map_or(1, |(_, steps)| *steps))
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{LogicalPlanBuilder, lit};
    use datafusion::sql::parser::DFParserBuilder;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::*;

    fn checked(sql: &str) -> Result<()> {
        check(&Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().expect("tokens"))
    }

    fn chain(term: &str, operator: &str, count: usize) -> String {
        format!("SELECT {}", vec![term; count].join(operator))
    }

    #[test]
    fn operators_in_a_row_are_counted_where_they_are_nested() {
        for operator in ["+", "||", "=", " IS NULL = ", "::", " UNION ALL SELECT "] {
            assert!(checked(&chain("1", operator, LEVELS / 2)).is_ok(), "{operator}");
            let error = checked(&chain("1", operator, QUERIES + 2)).expect_err(operator).to_string();
            assert!(error.contains("too deep"), "{error}");
        }
        // What stands side by side is not nested.
        for between in [", ", " OR ", " AND ", " ELSE "] {
            assert!(checked(&chain("a + 1 = 2", between, 5_000)).is_ok(), "{between}");
        }
        assert!(checked(&format!("SELECT {}", "(1 + 1), ".repeat(5_000))).is_ok());
        assert!(checked(&chain("a = 1", " OR ", TERMS + 2)).is_err());
    }

    #[test]
    fn a_text_and_its_tokens_are_counted() {
        assert!(check_text(&"x".repeat(TEXT_BYTES)).is_ok());
        assert!(check_text(&"x".repeat(TEXT_BYTES + 1)).expect_err("too long").to_string().contains("4 MiB"));
        assert!(checked(&format!("SELECT 1{}", ",1".repeat(TOKENS / 2 - 2))).is_ok());
        assert!(checked(&format!("SELECT 1{}", ",1".repeat(TOKENS / 2))).expect_err("too many").to_string().contains("words"));
    }

    fn depth(expr: &Expr) -> usize {
        match expr {
            Expr::BinaryOp { left, right, .. } => 1 + depth(left).max(depth(right)),
            _ => 0,
        }
    }

    #[test]
    fn a_long_or_is_balanced_and_its_terms_keep_their_order() {
        let text = (0..1_000).map(|i| format!("a{i}")).collect::<Vec<_>>().join(" OR ");
        let mut parser = DFParserBuilder::new(text.as_str()).build().expect("tokens");
        let mut expr = parser.parser.parse_expr().expect("an expression");
        assert_eq!(depth(&expr), 999);
        balance(&mut expr);
        assert_eq!(depth(&expr), 10);
        assert_eq!(expr.to_string(), text);
    }

    #[test]
    fn a_plan_counts_what_it_uses_twice_twice() {
        let one = LogicalPlanBuilder::empty(true).project(vec![lit(1)]).expect("a row").build().expect("a plan");
        let mut plan = one.clone();
        let double =
            |plan: LogicalPlan| LogicalPlanBuilder::from(plan.clone()).union(plan).expect("a union").build().expect("a plan");
        for _ in 0..10 {
            plan = double(plan);
        }
        assert!(check_plan(&plan).is_ok());
        for _ in 0..10 {
            plan = double(plan);
        }
        assert!(check_plan(&plan).is_err());
    }
}
