//! Functions whose arguments are brought to one type. DataFusion finds no common type for bytes in two layouts, for a UUID next
//! to a null, and for decimals next to floats in lists.
//!
//! [`OneType`] wraps one of DataFusion's functions and coerces its arguments. Start with [`common`], which finds the type.

use std::sync::{Arc, LazyLock};

use arrow::array::Array;
use arrow::datatypes::{DataType, Decimal128Type, DecimalType, Field, FieldRef, Fields, TimeUnit};
use datafusion::error::Result;
use datafusion::functions_nested::map::map_udf;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ArrayFunctionArgument, ArrayFunctionSignature, ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, cast, lit,
};
use datafusion::scalar::ScalarValue;

use super::list_set_functions;

const MAP: &str = "map";

/// Names of DataFusion's functions that are wrapped.
const WRAPPED_FUNCTIONS: [&str; 25] = [
    MAP,
    "coalesce",
    "greatest",
    "least",
    "nullif",
    "make_array",
    "array_append",
    "array_concat",
    "array_distinct",
    "array_except",
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_intersect",
    "array_position",
    "array_positions",
    "array_prepend",
    "array_remove",
    "array_remove_all",
    "array_remove_n",
    "array_replace",
    "array_replace_all",
    "array_replace_n",
    "array_resize",
    "array_union",
];

/// Names of the functions that read their texts as UUIDs if another argument is a UUID.
pub(super) const BESIDE_UUIDS: [&str; 4] = ["coalesce", "greatest", "least", "nullif"];

/// Names of the functions whose arguments DataFusion brings to one type itself, if none of them is a UUID.
const OWN_TYPE: [&str; 3] = ["greatest", "least", "nullif"];

/// Returns true if the types are texts and 16 bytes, at least one of each, and otherwise only nulls.
pub(super) fn texts_and_uuids(types: &[DataType]) -> bool {
    let is_uuid = |ty: &DataType| *ty == DataType::FixedSizeBinary(16);
    types.iter().any(is_uuid)
        && types.iter().any(DataType::is_string)
        && types.iter().all(|ty| is_uuid(ty) || ty.is_string() || ty.is_null())
}

/// A wrapper of one of DataFusion's functions that brings the arguments to one type, if they have one.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OneType {
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

/// Returns the wrappers that replace DataFusion's functions. `known` returns DataFusion's function of a name.
pub(super) fn functions(known: impl Fn(&str) -> Option<Arc<ScalarUDF>>) -> Vec<ScalarUDF> {
    WRAPPED_FUNCTIONS.iter().filter_map(|name| known(name)).map(function).collect()
}

/// Wraps one of DataFusion's functions.
fn function(inner: Arc<ScalarUDF>) -> ScalarUDF {
    let signature = Signature::user_defined(inner.signature().volatility);
    ScalarUDF::new_from_impl(OneType { inner, signature })
}

/// Returns the map of two lists, which are its keys and its values.
pub(super) fn map_of(lists: Vec<Expr>) -> Expr {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(function(map_udf())));
    Expr::ScalarFunction(ScalarFunction::new_udf(FUNCTION.clone(), lists))
}

/// Returns the type that holds the values of all given types, at every depth. A null has any type.
pub(super) fn common(types: &[DataType]) -> Option<DataType> {
    use DataType::{Binary, BinaryView, Date32, LargeBinary, List, Map, Struct, Timestamp};
    let mut known: Vec<DataType> = types.iter().filter(|ty| !ty.is_null()).cloned().collect();
    known.dedup();
    let (first, rest) = known.split_first()?;
    if rest.is_empty() {
        return Some(first.clone());
    }
    let all = |is: fn(&DataType) -> bool| known.iter().all(is);
    if all(DataType::is_numeric) || all(|ty| matches!(ty, Date32 | Timestamp(..))) {
        return wider(&known).or_else(|| type_union_resolution(&known));
    }
    if all(|ty| matches!(ty, Binary | LargeBinary | BinaryView)) {
        return Some(if known.contains(&BinaryView) { BinaryView } else { LargeBinary });
    }
    let fields = |ty: &DataType| match ty {
        List(item) | Map(item, _) => Some(Fields::from(vec![item.clone()])),
        Struct(fields) => Some(fields.clone()),
        _ => None,
    };
    let Some(nested) = known.iter().map(fields).collect::<Option<Vec<_>>>() else { return type_union_resolution(&known) };
    match first {
        List(_) if all(|ty| matches!(ty, List(_))) => Some(List(each(&nested)?.first()?.clone())),
        Map(_, sorted) if all(|ty| matches!(ty, Map(..))) => Some(Map(each(&nested)?.first()?.clone(), *sorted)),
        Struct(own) if all(|ty| matches!(ty, Struct(_))) => {
            let named = |of: &Fields| of.len() == own.len() && of.iter().zip(own).all(|(a, b)| a.name() == b.name());
            nested.iter().all(named).then(|| each(&nested).map(Struct)).flatten()
        }
        _ => None,
    }
}

/// Returns fields that hold the values of all given lists of fields, position by position.
fn each(several: &[Fields]) -> Option<Fields> {
    let first = several.first()?;
    let one = |(i, field): (usize, &FieldRef)| {
        let here: Vec<&FieldRef> = several.iter().filter_map(|fields| fields.get(i)).collect();
        let types: Vec<DataType> = here.iter().map(|f| f.data_type().clone()).collect();
        let ty = common(&types).unwrap_or(DataType::Null);
        let nullable = here.iter().any(|f| f.is_nullable());
        (types.iter().all(DataType::is_null) || !ty.is_null())
            .then(|| Arc::new(Field::clone(field).with_data_type(ty).with_nullable(nullable)))
    };
    first.iter().enumerate().map(one).collect()
}

/// Casts an expression from one type to another. A decimal literal becomes the nearest double.
fn converted(expr: Expr, from: &DataType, to: &DataType) -> Expr {
    match from {
        from if from == to => expr,
        from if from.is_decimal() && *to == DataType::Float64 => double(expr),
        _ => cast(expr, to.clone()),
    }
}

/// Casts the items of a list to the type that holds all of them. Returns them unchanged if there is none.
pub(super) fn coerce_items(items: Vec<Expr>, types: &[DataType]) -> Vec<Expr> {
    let Some(one) = common(types) else { return items };
    items.into_iter().zip(types).map(|(item, ty)| converted(item, ty, &one)).collect()
}

/// Casts two lists, or a list and an item, to the type that holds all items. Returns them unchanged if there is none.
pub(super) fn lists(sides: [Expr; 2], types: &[DataType; 2]) -> [Expr; 2] {
    let item = |ty: &DataType| match ty {
        DataType::List(item) => item.data_type().clone(),
        ty => ty.clone(),
    };
    let items = types.each_ref().map(item);
    // DataFusion refuses a text next to a value of another type: leave that to it.
    let alike = items[0].is_string() == items[1].is_string();
    let listed = types.iter().any(|ty| matches!(ty, DataType::List(_)));
    let Some(one) = common(&items).filter(|_| listed && alike) else { return sides };
    let [left, right] = sides;
    let to = |side: Expr, ty: &DataType| match ty {
        DataType::List(own) if *own.data_type() != one => cast(side, DataType::new_list(one.clone(), true)),
        DataType::List(_) => side,
        ty => converted(side, ty, &one),
    };
    [to(left, &types[0]), to(right, &types[1])]
}

/// Returns the types of the arguments, or `None` if DataFusion's own coercion has to find them.
fn unified(signature: &TypeSignature, types: &[DataType]) -> Option<Vec<DataType>> {
    match signature {
        TypeSignature::OneOf(several) => several.iter().find_map(|one| unified(one, types)),
        TypeSignature::UserDefined => Some(vec![common(types)?; types.len()]),
        TypeSignature::ArraySignature(ArrayFunctionSignature::Array { arguments, .. }) if arguments.len() == types.len() => {
            let mut values = Vec::new();
            for (argument, ty) in arguments.iter().zip(types) {
                match (argument, ty) {
                    (ArrayFunctionArgument::Array, DataType::List(item)) => values.push(item.data_type().clone()),
                    (ArrayFunctionArgument::Array, _) => return None,
                    (ArrayFunctionArgument::Element, ty) => values.push(ty.clone()),
                    _ => {}
                }
            }
            let one = common(&values).filter(|one| values.iter().any(|ty| ty != one))?;
            let typed = |(argument, ty): (&ArrayFunctionArgument, &DataType)| match (argument, ty) {
                (ArrayFunctionArgument::Array, DataType::List(item)) => {
                    DataType::List(Arc::new(Field::clone(item).with_data_type(one.clone()).with_nullable(true)))
                }
                (ArrayFunctionArgument::Element, _) => one.clone(),
                (ArrayFunctionArgument::Index, _) => DataType::Int64,
                (_, ty) => ty.clone(),
            };
            Some(arguments.iter().zip(types).map(typed).collect())
        }
        _ => None,
    }
}

/// Returns true if a list consists of literals, none of them null.
fn without_nulls(list: &Expr) -> bool {
    match list {
        Expr::Literal(ScalarValue::List(list), _) => list.values().null_count() == 0,
        Expr::ScalarFunction(call) if call.func.name() == "make_array" => {
            call.args.iter().all(|item| matches!(item, Expr::Literal(value, _) if !value.is_null()))
        }
        _ => false,
    }
}

impl OneType {
    /// Returns true if the function returns a UUID, and texts among its arguments are still to be read as UUIDs.
    fn chooses_uuids(&self, types: &[DataType]) -> bool {
        BESIDE_UUIDS.contains(&self.name()) && texts_and_uuids(types)
    }
}

impl ScalarUDFImpl for OneType {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if self.chooses_uuids(types) {
            return Ok(types.to_vec());
        }
        let own = OWN_TYPE.contains(&self.name());
        if let Some(unified) = unified(&self.inner.signature().type_signature, types).filter(|_| !own) {
            return Ok(unified);
        }
        let fields: Vec<FieldRef> = types.iter().map(|ty| Arc::new(Field::new("", ty.clone(), true))).collect();
        Ok(fields_with_udf(&fields, self.inner.as_ref())?.iter().map(|field| field.data_type().clone()).collect())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        if self.chooses_uuids(types) {
            return Ok(DataType::FixedSizeBinary(16));
        }
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = arguments.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        if self.chooses_uuids(&types) {
            return Ok(Arc::new(Field::new(self.name(), DataType::FixedSizeBinary(16), true)));
        }
        self.inner.return_field_from_args(arguments)
    }

    fn invoke_with_args(&self, mut arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // `map` takes two arrays or two scalars, but not one of each.
        if self.name() == MAP && arguments.args.iter().any(|list| matches!(list, ColumnarValue::Array(_))) {
            let lists = ColumnarValue::values_to_arrays(&arguments.args)?;
            arguments.args = lists.into_iter().map(ColumnarValue::Array).collect();
        }
        if let Some(chosen) = list_set_functions::chosen(self.name(), &arguments.args)? {
            return Ok(chosen);
        }
        self.inner.invoke_with_args(arguments)
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        // DataFusion would write `array_has` as an `IN`, which is null if the list has a null. The function itself skips nulls.
        if self.name() == "array_has" && !args.first().is_some_and(without_nulls) {
            return Ok(ExprSimplifyResult::Original(args));
        }
        self.inner.simplify(args, context)
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// Returns the type that holds the values of all given types, if DataFusion would take another.
pub(super) fn wider(types: &[DataType]) -> Option<DataType> {
    let zone = types.iter().find_map(|ty| match ty {
        DataType::Timestamp(_, Some(zone)) => Some(zone.clone()),
        _ => None,
    });
    let finest = types.iter().filter_map(|ty| match ty {
        DataType::Timestamp(unit, _) => Some(*unit),
        _ => None,
    });
    if types.iter().any(|ty| ty.is_floating()) && types.iter().any(DataType::is_decimal) {
        return Some(DataType::Float64);
    }
    let finest = finest.max()?;
    let mixed = types.iter().any(|ty| match ty {
        DataType::Timestamp(unit, _) => *unit != finest,
        DataType::Date32 => true,
        _ => false,
    });
    mixed.then(|| DataType::Timestamp(finest.max(TimeUnit::Microsecond), zone))
}

/// Casts a decimal to a double. A literal becomes the double that is nearest to its text.
pub(super) fn double(expr: Expr) -> Expr {
    if let Expr::Literal(value, _) = &expr
        && let Some(text) = decimal_text(value)
        && let Ok(value) = text.parse::<f64>()
    {
        return lit(value);
    }
    cast(expr, DataType::Float64)
}

/// Returns the text of a decimal, or `None` for other values.
pub(super) fn decimal_text(value: &ScalarValue) -> Option<String> {
    match value {
        ScalarValue::Decimal128(Some(v), precision, scale) => Some(Decimal128Type::format_decimal(*v, *precision, *scale)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_found_that_holds_all() {
        use DataType::{Binary, BinaryView, Decimal128, Float32, Float64, Int32, Int64, Null, Utf8};
        let list = |ty: DataType| DataType::new_list(ty, true);
        let of = |a: &DataType, b: &DataType| common(&[a.clone(), b.clone()]);
        let uuid = DataType::FixedSizeBinary(16);
        for (a, b, both) in [
            (&Null, &uuid, Some(uuid.clone())),
            (&Binary, &BinaryView, Some(BinaryView)),
            (&Float32, &Decimal128(3, 1), Some(Float64)),
            (&Int32, &Int64, Some(Int64)),
            (&list(Float64), &list(Decimal128(3, 1)), Some(list(Float64))),
            (&list(Null), &list(list(Int32)), Some(list(list(Int32)))),
            (&list(Int32), &Int32, None),
            (&Null, &Null, None),
        ] {
            assert_eq!(of(a, b), both, "{a} and {b}");
            assert_eq!(of(b, a), both, "{b} and {a}");
        }
        let pair = |ty: DataType, name: &str| DataType::Struct(vec![Field::new(name, ty, false)].into());
        assert_eq!(of(&pair(Null, "a"), &pair(Utf8, "a")), Some(pair(Utf8, "a")));
        assert_eq!(of(&pair(Utf8, "b"), &pair(Utf8, "a")), None);
    }
}
