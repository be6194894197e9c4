//! Casts the results of functions that return unsigned integers to `BIGINT`, because integers of SQL are signed.
//!
//! DataFusion's ranks, row numbers, lengths and positions are unsigned. Without the cast they would divide like decimals, have no
//! negation and make columns of decimals.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, CastKind, DataType, Expr, Function, ObjectNamePart, VisitMut, VisitorMut,
};

/// Functions that return unsigned integers, by all their names.
const UNSIGNED: [&str; 15] = [
    "approx_distinct",
    "array_indexof",
    "array_length",
    "array_ndims",
    "array_position",
    "cardinality",
    "dense_rank",
    "list_indexof",
    "list_length",
    "list_ndims",
    "list_position",
    "ntile",
    "rank",
    "regr_count",
    "row_number",
];

/// Functions that return lists of unsigned integers, by all their names.
const UNSIGNED_LISTS: [&str; 4] = ["array_dims", "array_positions", "list_dims", "list_positions"];

/// Adds the casts to a statement's syntax tree. A cast does not change the name of a column.
pub(crate) fn signed(statement: &mut Statement) {
    match statement {
        Statement::Statement(inner) => {
            let _ = inner.visit(&mut Signed);
        }
        Statement::Explain(explain) => signed(&mut explain.statement),
        _ => {}
    }
}

/// The visitor that adds the casts.
struct Signed;

impl VisitorMut for Signed {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Function(function) = &*expr else { return ControlFlow::Continue(()) };
        let name = name(function);
        let integer = DataType::BigInt(None);
        let data_type = match name.as_deref() {
            Some(name) if UNSIGNED.contains(&name) => integer,
            Some(name) if UNSIGNED_LISTS.contains(&name) => {
                DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(integer), None))
            }
            _ => return ControlFlow::Continue(()),
        };
        let given = Expr::Function(function.clone());
        *expr = Expr::Cast { kind: CastKind::Cast, expr: Box::new(given), data_type, array: false, format: None };
        ControlFlow::Continue(())
    }
}

/// Returns the name by which the planner looks a function up; `None` if it is qualified.
fn name(function: &Function) -> Option<String> {
    match function.name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] if name.quote_style.is_some() => Some(name.value.clone()),
        [ObjectNamePart::Identifier(name)] => Some(name.value.to_lowercase()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, FieldRef};
    use datafusion::execution::SessionStateBuilder;
    use datafusion::logical_expr::function::WindowUDFFieldArgs;
    use datafusion::logical_expr::type_coercion::functions::{UDFCoercionExt, fields_with_udf};
    use datafusion::logical_expr::{ReturnFieldArgs, WindowUDF};

    use super::*;

    fn is_unsigned(ty: &DataType) -> bool {
        match ty {
            DataType::List(item) => is_unsigned(item.data_type()),
            ty => ty.is_unsigned_integer(),
        }
    }

    fn coerced(function: &impl UDFCoercionExt, types: &[DataType]) -> Option<Vec<FieldRef>> {
        let fields: Vec<_> = types.iter().map(|ty| Arc::new(Field::new("a", ty.clone(), true))).collect();
        fields_with_udf(&fields, function).ok()
    }

    /// Compares the lists of names with the functions of a session. A new version of DataFusion may add some.
    #[test]
    fn all_functions_of_unsigned_numbers_are_known() {
        let session = crate::semantics::build(SessionStateBuilder::new()).expect("a session");
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)));
        let arguments: Vec<Vec<DataType>> = vec![
            vec![],
            vec![DataType::Int64],
            vec![DataType::Utf8],
            vec![DataType::Float64],
            vec![list.clone()],
            vec![list.clone(), DataType::Int64],
            vec![list.clone(), list],
            vec![DataType::Utf8, DataType::Utf8],
            vec![DataType::Float64, DataType::Float64],
        ];
        let mut found = BTreeSet::new();
        for types in &arguments {
            for (name, function) in session.scalar_functions() {
                let Some(fields) = coerced(function.as_ref(), types) else { continue };
                let scalars = vec![None; fields.len()];
                let given = function.return_field_from_args(ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &scalars });
                if given.is_ok_and(|field| is_unsigned(field.data_type())) {
                    found.insert(name.clone());
                }
            }
            for (name, function) in session.aggregate_functions() {
                let Some(fields) = coerced(function.as_ref(), types) else { continue };
                if function.return_field(&fields).is_ok_and(|field| is_unsigned(field.data_type())) {
                    found.insert(name.clone());
                }
            }
            for (name, function) in session.window_functions() {
                let field = |function: &WindowUDF| {
                    let fields = coerced(function, types)?;
                    function.field(WindowUDFFieldArgs::new(&fields, name)).ok()
                };
                if field(function).is_some_and(|field| is_unsigned(field.data_type())) {
                    found.insert(name.clone());
                }
            }
        }
        let known: BTreeSet<String> = UNSIGNED.into_iter().chain(UNSIGNED_LISTS).map(str::to_owned).collect();
        assert_eq!(found, known);
    }
}
