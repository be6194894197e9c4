//! Rewrites the texts of other engines' views (Spark, Trino, DuckDB) so that they mean the same here.
//!
//! Engines differ in where they put nulls in an order, and in functions that have the same name and another meaning. What this
//! engine can express is rewritten. Anything else is refused by name, because it would return other rows than in the view's own
//! engine. Start reading at `rewrite_view`.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, DataType, DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArguments, NamedWindowExpr, ObjectNamePart, OrderByExpr, OrderByKind, OrderByOptions, Query,
    Select, Subscript, UnaryOperator, Value, VisitMut, VisitorMut, WindowType,
};
use esker_types::format_count;

use crate::dialect::Grammar;
use crate::semantics::FRACTION;
use crate::syntax_tree::{binary, call, normal, taken};

/// Rewrites the text of a view so that it means the same here as in its own engine.
///
/// # Errors
///
/// Returns a message that names what has another meaning here and cannot be rewritten.
pub(crate) fn rewrite_view(statement: &mut Statement, grammar: Grammar) -> Result<(), String> {
    let Some(engine) = ViewEngine::of(grammar) else { return Ok(()) };
    match statement {
        Statement::Statement(inner) => match inner.visit(&mut ViewRewriter { engine }) {
            ControlFlow::Break(why) => Err(format!("{why} means something else in {}", engine.name())),
            ControlFlow::Continue(()) => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Rewrites `/` and `%` as Spark and DuckDB define them.
///
/// Their `/` keeps the fraction of integers. Spark's operators return null if the divisor is 0.
pub(crate) fn fractions(statement: &mut Statement, grammar: Grammar) {
    struct Fractions(Grammar);
    impl VisitorMut for Fractions {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            let Expr::BinaryOp { left, op: op @ (BinaryOperator::Divide | BinaryOperator::Modulo), right } = expr else {
                return ControlFlow::Continue(());
            };
            let (left, right) = (taken(left), taken(right));
            let right = match self.0 {
                Grammar::Spark if !is_number(&right) => call("nullif", vec![right, number(0)]),
                _ => right,
            };
            *expr = match op {
                BinaryOperator::Divide => call(FRACTION, vec![left, right]),
                op => Expr::Nested(Box::new(binary(left, op.clone(), right))),
            };
            ControlFlow::Continue(())
        }
    }
    if let (Statement::Statement(inner), Grammar::Spark | Grammar::DuckDb) = (statement, grammar) {
        let _ = inner.visit(&mut Fractions(grammar));
    }
}

/// The engine that made a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ViewEngine {
    Spark,
    Trino,
    DuckDb,
}

impl ViewEngine {
    const fn of(grammar: Grammar) -> Option<Self> {
        match grammar {
            Grammar::Standard => None,
            Grammar::Spark => Some(Self::Spark),
            Grammar::Trino => Some(Self::Trino),
            Grammar::DuckDb => Some(Self::DuckDb),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Spark => "Spark",
            Self::Trino => "Trino",
            Self::DuckDb => "DuckDB",
        }
    }

    /// Checks whether nulls come first. Spark orders them as the least values; Trino and DuckDB put them last in both directions.
    const fn nulls_first(self, ascending: bool) -> bool {
        match self {
            Self::Spark => ascending,
            Self::Trino | Self::DuckDb => false,
        }
    }
}

/// The visitor that rewrites the text of a view.
struct ViewRewriter {
    engine: ViewEngine,
}

impl ViewRewriter {
    fn order(&self, options: &mut OrderByOptions) {
        options.nulls_first.get_or_insert(self.engine.nulls_first(options.asc.unwrap_or(true)));
    }

    fn orders(&self, orders: &mut [OrderByExpr]) {
        orders.iter_mut().for_each(|order| self.order(&mut order.options));
    }

    /// Returns the replacement of an expression whose operands are rewritten; `None` if it means the same here.
    fn expr(&self, expr: &mut Expr) -> Result<Option<Expr>, String> {
        let spark = self.engine == ViewEngine::Spark;
        match expr {
            Expr::Function(function) => self.function(function),
            Expr::Substring { substring_from: Some(from), .. } if !is_from_one(from) => Err(from_the_end("substring")),
            Expr::Extract { field, .. } if is_weekday(field) && self.engine != ViewEngine::DuckDb => {
                Err(format!("extract({field} …)"))
            }
            Expr::Trim { trim_characters: Some(_), .. } if spark => Err("trim of two arguments".to_owned()),
            Expr::Like { pattern, escape_char: None, .. } | Expr::ILike { pattern, escape_char: None, .. }
                if !spark && text(pattern).is_some_and(|pattern| pattern.contains('\\')) =>
            {
                Err("a backslash in LIKE without ESCAPE".to_owned())
            }
            // Spark does not cut a text to a length.
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, data_type, .. } if spark => {
                if matches!(data_type, DataType::Varchar(_) | DataType::Char(_) | DataType::Character(_)) {
                    *data_type = DataType::Varchar(None);
                }
                Ok(None)
            }
            // Spark counts the items of arrays from 0.
            Expr::CompoundFieldAccess { access_chain, .. } if spark && access_chain.iter().any(is_place) => {
                Err("an item of an array by its position, x[n],".to_owned())
            }
            _ => Ok(None),
        }
    }

    /// Rewrites the orders in a function call; returns the replacement of the call, if it needs one.
    fn function(&self, function: &mut Function) -> Result<Option<Expr>, String> {
        if let FunctionArguments::List(list) = &mut function.args {
            for clause in &mut list.clauses {
                if let FunctionArgumentClause::OrderBy(orders) = clause {
                    self.orders(orders);
                }
            }
        }
        if let Some(WindowType::WindowSpec(window)) = &mut function.over {
            self.orders(&mut window.order_by);
        }
        let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else { return Ok(None) };
        let name = normal(name);
        let Some(mut args) = arguments(function) else { return Ok(None) };
        match self.engine {
            ViewEngine::Spark => of_spark(&name, &mut args),
            ViewEngine::Trino => of_trino(&name, &mut args),
            ViewEngine::DuckDb => of_duckdb(&name, &args),
        }
    }
}

/// Returns the replacement of a call of a function of Spark's, if it means something else here.
fn of_spark(name: &str, args: &mut [&mut Expr]) -> Result<Option<Expr>, String> {
    let of = |n: usize| format!("{name} of {}", format_count(n as u64, "argument"));
    Ok(match (name, args) {
        ("concat", args) => joined(args),
        ("log", [x]) => Some(call("ln", vec![taken(x)])),
        ("regexp_replace", [x, pattern, by]) => Some(replaced(x, pattern, by)?),
        // Spark takes the characters to cut off, or the text to look for, first.
        ("ltrim" | "rtrim", [what, from]) => Some(call(name, vec![taken(from), taken(what)])),
        ("position", [part, whole]) => Some(call("strpos", vec![taken(whole), taken(part)])),
        ("substring" | "substr", [_, from, ..]) if !is_from_one(from) => return Err(from_the_end(name)),
        ("left" | "right", [_, length]) if whole(length).is_none() => {
            return Err(format!("{name} of a length that is not a literal"));
        }
        ("array_agg", _) => return Err("array_agg, which leaves nulls out,".to_owned()),
        ("date_part" | "datepart", [field, _]) if text(field).is_none_or(|field| is_weekday_name(&field)) => {
            return Err(format!("{name} of a day of the week"));
        }
        ("trim" | "regexp_replace" | "position", args) if args.len() > 1 => return Err(of(args.len())),
        ("to_date" | "to_timestamp" | "date_format" | "to_char", args) if args.len() > 1 => return Err(of(args.len())),
        ("initcap", _) => return Err(name.to_owned()),
        _ => None,
    })
}

/// Returns the replacement of a call of a function of Trino's, if it means something else here.
fn of_trino(name: &str, args: &mut [&mut Expr]) -> Result<Option<Expr>, String> {
    Ok(match (name, args) {
        ("concat", args) => joined(args),
        ("regexp_replace", [x, pattern, by]) => Some(replaced(x, pattern, by)?),
        ("substring" | "substr", [_, from, ..]) if !is_from_one(from) => return Err(from_the_end(name)),
        // In Trino these return null if any argument is null, or take other arguments.
        ("greatest" | "least" | "date_format" | "to_char" | "strpos", args)
            if args.len() > 1 && (name != "strpos" || args.len() > 2) =>
        {
            return Err(name.to_owned());
        }
        _ => None,
    })
}

/// Refuses a call of a function of DuckDB's that means something else here.
fn of_duckdb(name: &str, args: &[&mut Expr]) -> Result<Option<Expr>, String> {
    match (name, args) {
        ("substring" | "substr", [_, from, ..]) if !is_from_one(from) => Err(from_the_end(name)),
        ("left" | "right", [_, length]) if whole(length).is_none() => Err(format!("{name} of a length that is not a literal")),
        _ => Ok(None),
    }
}

fn from_the_end(name: &str) -> String {
    format!("{name} from a position that is not a literal of 1 or more")
}

/// Joins texts by `||`, which returns null if any of them is null.
fn joined(args: &mut [&mut Expr]) -> Option<Expr> {
    let mut args = args.iter_mut().map(|arg| Expr::Nested(Box::new(taken(arg))));
    let first = args.next()?;
    Some(Expr::Nested(Box::new(args.fold(first, |all, arg| binary(all, BinaryOperator::StringConcat, arg)))))
}

/// Builds a `regexp_replace` that replaces every match, and not only the first.
fn replaced(x: &mut Expr, pattern: &mut Expr, by: &mut Expr) -> Result<Expr, String> {
    if text(by).is_none_or(|by| by.contains(['$', '\\'])) {
        return Err("regexp_replace with a replacement that is not plain text".to_owned());
    }
    let all = Expr::Value(Value::SingleQuotedString("g".to_owned()).into());
    Ok(call("regexp_replace", vec![taken(x), taken(pattern), taken(by), all]))
}

/// Returns the arguments of a function, if all of them are plain expressions.
fn arguments(function: &mut Function) -> Option<Vec<&mut Expr>> {
    let FunctionArguments::List(list) = &mut function.args else { return None };
    let expr = |arg| match arg {
        &mut FunctionArg::Unnamed(FunctionArgExpr::Expr(ref mut expr)) => Some(expr),
        _ => None,
    };
    list.args.iter_mut().map(expr).collect()
}

fn number(value: u32) -> Expr {
    Expr::Value(Value::Number(value.to_string(), false).into())
}

/// Checks whether an expression is a literal number other than 0.
fn is_number(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => {
            matches!(&value.value, Value::Number(digits, _) if digits.parse().is_ok_and(|number: f64| number != 0.0))
        }
        Expr::Nested(inner) | Expr::UnaryOp { op: UnaryOperator::Plus | UnaryOperator::Minus, expr: inner } => is_number(inner),
        Expr::Cast { expr, .. } => text(expr).is_some_and(|digits| digits.parse().is_ok_and(|number: f64| number != 0.0)),
        _ => false,
    }
}

/// Returns the value of a literal whole number that is 0 or more.
fn whole(expr: &Expr) -> Option<u64> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.parse().ok(),
            _ => None,
        },
        Expr::Nested(inner) | Expr::UnaryOp { op: UnaryOperator::Plus, expr: inner } => whole(inner),
        _ => None,
    }
}

fn is_from_one(place: &Expr) -> bool {
    whole(place).is_some_and(|place| place > 0)
}

fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => value.value.clone().into_string(),
        _ => None,
    }
}

fn is_weekday(field: &DateTimeField) -> bool {
    is_weekday_name(&field.to_string())
}

fn is_weekday_name(field: &str) -> bool {
    ["dow", "dayofweek", "day_of_week", "weekday"].contains(&field.to_ascii_lowercase().as_str())
}

/// Checks whether an access is by position: a text can only be the key of a map.
fn is_place(access: &AccessExpr) -> bool {
    match access {
        AccessExpr::Subscript(Subscript::Index { index }) => text(index).is_none(),
        AccessExpr::Subscript(Subscript::Slice { .. }) => true,
        AccessExpr::Dot(_) => false,
    }
}

impl VisitorMut for ViewRewriter {
    type Break = String;

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<String> {
        match query.order_by.as_mut().map(|order| &mut order.kind) {
            Some(OrderByKind::Expressions(orders)) => self.orders(orders),
            Some(OrderByKind::All(options)) => self.order(options),
            None => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<String> {
        for window in &mut select.named_window {
            if let NamedWindowExpr::WindowSpec(window) = &mut window.1 {
                self.orders(&mut window.order_by);
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<String> {
        match self.expr(expr) {
            Ok(Some(made)) => *expr = made,
            Ok(None) => {}
            Err(why) => return ControlFlow::Break(why),
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::Grammar;
    use crate::statement_text::statement;

    fn same(grammar: Grammar, view: &str, here: &str) {
        let (read, meant) = (statement(view, grammar), statement(here, Grammar::Standard));
        let text = |parsed: crate::Result<crate::statement_text::Parsed>| {
            parsed.unwrap_or_else(|e| panic!("{view}: {e}")).statement.to_string()
        };
        assert_eq!(text(read).replace(['(', ')'], ""), text(meant).replace(['(', ')'], ""), "{view}");
    }

    /// The engines' manuals, "ORDER BY" and "Window functions".
    #[test]
    fn nulls_come_where_the_view_s_engine_puts_them() {
        for (grammar, ascending, descending) in
            [(Grammar::Spark, "FIRST", "LAST"), (Grammar::Trino, "LAST", "LAST"), (Grammar::DuckDb, "LAST", "LAST")]
        {
            let here = |order: &str, nulls: &str| {
                format!(
                    "SELECT row_number() OVER (ORDER BY b {order} NULLS {nulls}), array_to_string(c) FROM t WINDOW w AS (ORDER BY d {order} \
                     NULLS {nulls}) ORDER BY a {order} NULLS {nulls}"
                )
            };
            let there = |order: &str| here(order, "").replace("NULLS ", "");
            same(grammar, &there("ASC"), &here("ASC", ascending));
            same(grammar, &there("DESC"), &here("DESC", descending));
            let explicit = "SELECT a FROM t ORDER BY a NULLS LAST, b DESC NULLS FIRST";
            same(grammar, explicit, explicit);
        }
    }

    #[test]
    fn functions_that_mean_something_else_are_written_in_terms_of_this_engine() {
        for (view, here) in [
            ("SELECT concat(a, b, 'c') FROM t", "SELECT a || b || 'c' FROM t"),
            ("SELECT log(a) FROM t", "SELECT \"ln\"(a) FROM t"),
            ("SELECT regexp_replace(a, 'x', 'y') FROM t", "SELECT \"regexp_replace\"(a, 'x', 'y', 'g') FROM t"),
            ("SELECT ltrim('x', a) FROM t", "SELECT \"ltrim\"(a, 'x') FROM t"),
            ("SELECT position('c', a) FROM t", "SELECT \"strpos\"(a, 'c') FROM t"),
            ("SELECT CAST(a AS VARCHAR(2)) FROM t", "SELECT CAST(a AS VARCHAR) FROM t"),
            ("SELECT a % b AS x FROM t", "SELECT a % \"nullif\"(b, 0) AS x FROM t"),
            ("SELECT a % 7 FROM t", "SELECT a % 7 FROM t"),
        ] {
            same(Grammar::Spark, view, here);
        }
        same(Grammar::Trino, "SELECT concat(a, b) FROM t", "SELECT a || b FROM t");
    }

    #[test]
    fn functions_that_can_not_be_written_here_are_refused_by_name() {
        use Grammar::{DuckDb, Spark, Trino};
        for (grammar, expr, name) in [
            (Spark, "substring(a, -1)", "substring"),
            (Spark, "substr(a, b)", "substr"),
            (DuckDb, "substring(a, 0, 2)", "substring"),
            (Trino, "substr(a, -2, 1)", "substr"),
            (Spark, "initcap(a)", "initcap"),
            (Spark, "extract(dow FROM a)", "DOW"),
            (Trino, "extract(dow FROM a)", "DOW"),
            (Spark, "date_format(a, 'yyyy')", "date_format"),
            (Spark, "a[0]", "x[n]"),
            (Spark, "regexp_replace(a, '(x)', '$1')", "regexp_replace"),
            (Trino, "greatest(a, b)", "greatest"),
            (Trino, "a LIKE 'x\\_%'", "LIKE"),
            (Spark, "array_agg(a)", "array_agg"),
        ] {
            let error = statement(&format!("SELECT {expr} FROM t"), grammar).expect_err(expr).to_string();
            assert!(error.contains(name), "{expr}: {error}");
        }
        for (grammar, expr) in [
            (Spark, "substring(a, 1, 2)"),
            (DuckDb, "extract(dow FROM a)"),
            (Spark, "a['k']"),
            (DuckDb, "a[1]"),
            (Spark, "to_date(a)"),
        ] {
            statement(&format!("SELECT {expr} FROM t"), grammar).unwrap_or_else(|e| panic!("{expr}: {e}"));
        }
    }
}
