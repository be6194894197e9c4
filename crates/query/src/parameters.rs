//! Parameters of statements, which are bound as values and never as text.
//!
//! For planning, a bound parameter becomes a function without arguments that has the type of its value (`Parameter`). `bind`
//! replaces these functions by literals before the plan is processed further. Start reading at `place`.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    ident,
};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType as SqlType, Expr as SqlExpr, Select, SelectItem, Value, ValueWithSpan, VisitMut, VisitorMut,
};

use crate::semantics::rewrite_expressions;
use crate::statement_text::Parsed;
use crate::syntax_tree::{call, taken};
use crate::{QueryError, Result};

/// Prefix of the names of the functions that stand for parameters.
const FUNCTION: &str = "\u{1f}parameter=";

/// The type of a parameter if nothing implies one.
const UNKNOWN: DataType = DataType::Utf8;

/// Puts the stand-ins of the values that are bound into a statement.
///
/// `values` is `None` if the values are not known yet; parameters then have no types of their own.
pub(crate) fn place(parsed: &mut Parsed, session: &mut SessionState, values: Option<&[ScalarValue]>) -> Result<()> {
    if let Some(values) = values {
        if values.len() != parsed.parameters {
            return Err(QueryError::Statement(format!(
                "{} parameters are bound; the statement has {}",
                values.len(),
                parsed.parameters
            )));
        }
        for (at, value) in values.iter().enumerate() {
            session.register_udf(Arc::new(ScalarUDF::new_from_impl(Parameter::new(at, value.data_type()))))?;
        }
    }
    if parsed.parameters > 0 {
        visit(&mut parsed.statement, values.is_some());
    }
    Ok(())
}

/// Visits a statement, also within `EXPLAIN`.
fn visit(statement: &mut Statement, bound: bool) {
    match statement {
        Statement::Statement(inner) => {
            let _ = inner.visit(&mut Placer { bound });
        }
        Statement::Explain(explain) => visit(&mut explain.statement, bound),
        _ => {}
    }
}

/// The visitor that puts stand-ins into a statement, or prepares it for parameters without values.
struct Placer {
    bound: bool,
}

impl VisitorMut for Placer {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            // A column that is a parameter has no type until a value is bound, so it is cast to text.
            if let (false, SelectItem::ExprWithAlias { expr, .. } | SelectItem::UnnamedExpr(expr)) = (self.bound, item)
                && number(expr).is_some()
            {
                let placeholder = taken(expr);
                *expr = SqlExpr::Cast {
                    kind: CastKind::Cast,
                    expr: Box::new(placeholder),
                    data_type: SqlType::Varchar(None),
                    array: false,
                    format: None,
                };
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<()> {
        if let (true, Some(number)) = (self.bound, number(expr)) {
            *expr = call(&format!("{FUNCTION}{number}"), Vec::new());
        }
        ControlFlow::Continue(())
    }
}

/// Returns the number of the parameter that an expression is: 1 for `$1`.
pub(crate) fn number(expr: &SqlExpr) -> Option<usize> {
    match expr {
        SqlExpr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) => name.strip_prefix('$')?.parse().ok(),
        SqlExpr::Nested(inner) => number(inner),
        _ => None,
    }
}

/// The function that stands for a parameter while a statement is planned.
#[derive(Debug)]
struct Parameter {
    /// Index of the parameter: 0 for `$1`.
    at: usize,
    name: String,
    ty: DataType,
    signature: Signature,
}

impl Parameter {
    fn new(at: usize, ty: DataType) -> Self {
        // Volatile, so that it is not evaluated before its value is bound.
        Self { at, name: format!("{FUNCTION}{}", at + 1), ty, signature: Signature::nullary(Volatility::Volatile) }
    }
}

impl PartialEq for Parameter {
    fn eq(&self, other: &Self) -> bool {
        (self.at, &self.ty) == (other.at, &other.ty)
    }
}

impl Eq for Parameter {}

impl Hash for Parameter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.at.hash(state);
    }
}

impl ScalarUDFImpl for Parameter {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> datafusion::error::Result<DataType> {
        Ok(self.ty.clone())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> datafusion::error::Result<ColumnarValue> {
        datafusion::common::exec_err!("parameter ${} has no value", self.at + 1)
    }
}

/// Returns the `count` parameters of a statement, `$1` first, with the types that its plan implies.
pub(crate) fn fields(plan: &LogicalPlan, count: usize, implied: &BTreeMap<usize, DataType>) -> Result<Vec<Field>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    // A parameter that comes more than once has the first type that is implied (PostgreSQL). A bound one has the type of its
    // value.
    let mut types: HashMap<String, DataType> = HashMap::new();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Placeholder(placeholder) = expr
                    && let Some(field) = &placeholder.field
                {
                    types.entry(placeholder.id.clone()).or_insert_with(|| field.data_type().clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let field = |number: usize| {
        let name = format!("${number}");
        let ty = implied.get(&number).or_else(|| types.get(&name)).filter(|ty| !ty.is_null());
        let ty = ty.cloned().unwrap_or(UNKNOWN);
        Field::new(name, ty, true)
    };
    Ok((1..=count).map(field).collect())
}

/// Replaces the parameters of a plan by values.
pub(crate) fn bind(plan: LogicalPlan, values: Option<&Vec<ScalarValue>>) -> Result<LogicalPlan> {
    let Some(values) = values.filter(|values| !values.is_empty()) else { return Ok(plan) };
    let literal = |expr: Expr| match value(&expr, values) {
        Some(value) => Ok(Transformed::yes(Expr::Literal(value, None))),
        None => Ok(Transformed::no(expr)),
    };
    Ok(plan.transform_up_with_subqueries(|node| rewrite_expressions(node, literal))?.data)
}

/// Binds many rows of values at once to a plan of one row, `INSERT … VALUES (…)`; returns `None` for other plans.
pub(crate) fn bind_rows(plan: &LogicalPlan, rows: &[Vec<ScalarValue>]) -> Result<Option<LogicalPlan>> {
    let (mut values, mut others) = (0, false);
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::Values(all) if all.values.len() == 1 => values += 1,
            LogicalPlan::Projection(_) => {}
            _ => others = true,
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if others || values != 1 {
        return Ok(None);
    }
    let given = table(rows)?;
    let bound = plan.clone().transform_up(|node| {
        let LogicalPlan::Values(all) = node else { return Ok(Transformed::no(node)) };
        let mut columns = Vec::new();
        for (expr, field) in all.values.into_iter().flatten().zip(all.schema.fields()) {
            let column = expr.transform_up(|expr| match parameter(&expr) {
                Some(at) => Ok(Transformed::yes(ident(at.to_string()))),
                None => Ok(Transformed::no(expr)),
            })?;
            columns.push(column.data.alias(field.name()));
        }
        let source = provider_as_source(given.clone());
        LogicalPlanBuilder::scan("parameters", source, None)?.project(columns)?.build().map(Transformed::yes)
    })?;
    Ok(Some(bound.data))
}

/// Returns rows of values as a table whose columns are named by their index.
fn table(rows: &[Vec<ScalarValue>]) -> Result<Arc<dyn TableProvider>> {
    let width = rows.first().map_or(0, Vec::len);
    let mut columns = Vec::with_capacity(width);
    for at in 0..width {
        let array = ScalarValue::iter_to_array(rows.iter().filter_map(|row| row.get(at).cloned()))?;
        columns.push((at.to_string(), array, true));
    }
    let batch = RecordBatch::try_from_iter_with_nullable(columns)?;
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}

/// Returns the index of the parameter that an expression stands for.
fn parameter(expr: &Expr) -> Option<usize> {
    let Expr::ScalarFunction(ScalarFunction { func, .. }) = expr else { return None };
    let function = func.inner().as_ref() as &dyn std::any::Any;
    function.downcast_ref::<Parameter>().map(|parameter| parameter.at)
}

/// Returns the value of the parameter that an expression stands for.
fn value(expr: &Expr, values: &[ScalarValue]) -> Option<ScalarValue> {
    values.get(parameter(expr)?).cloned()
}
