//! A limit for the memory of values that functions make from few arguments, such as `repeat`, `range` and `array_resize`.
//!
//! No share of memory counts these values, and a constant is computed while its statement is planned, before it is admitted. So a
//! function is wrapped in [`Bounded`], which computes from the arguments how many bytes the call makes at most, and refuses it
//! beyond [`MOST_BYTES`]. Start with [`size`], which knows the functions.

use std::cell::Cell;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Field, FieldRef, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Documentation, Expr, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

use super::plans::rewrite_expressions;

/// The most bytes that one call may make for a batch of rows.
const MOST_BYTES: u64 = 256 << 20;

/// The most bytes of a constant that is made from few arguments while a statement is planned. What is larger is computed when the
/// statement runs, where the number of rows that get it is known.
const MOST_CONSTANT_BYTES: u64 = 16 << 10;

/// The most bytes of a constant that is put together from other constants while a statement is planned.
const MOST_JOINED_BYTES: u64 = 1 << 20;

/// Name of the function that bounds the operator `||`.
const JOINED: &str = "joined";

/// Names of the functions whose result is larger than their arguments by a number or a pattern.
const MAKERS: [&str; 13] = [
    "array_repeat",
    "array_replace",
    "array_replace_all",
    "array_replace_n",
    "array_resize",
    "array_to_string",
    "generate_series",
    "lpad",
    "range",
    "regexp_replace",
    "repeat",
    "replace",
    "rpad",
];

/// Names of the functions whose result has all of their arguments. One that calls itself doubles them each time.
const JOINERS: [&str; 9] =
    ["array_append", "array_concat", "array_prepend", "arrays_zip", "concat", "concat_ws", "make_array", "map", "overlay"];

/// Names of the functions that write a constant argument once for each row.
const SPREADERS: [&str; 8] = ["array_slice", "left", "right", "split_part", "substr", "substr_index", "to_char", "translate"];

thread_local! {
    /// True while this thread computes the constants of a statement that is planned.
    static FOLDING: Cell<bool> = const { Cell::new(false) };
}

/// Calls `optimize`, during which calls of the wrapped functions are calls on constants.
pub(super) fn folding<T>(optimize: impl FnOnce() -> T) -> T {
    /// Sets the mark back, after a panic too.
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            FOLDING.set(self.0);
        }
    }
    let _back = Back(FOLDING.replace(true));
    optimize()
}

/// A function whose result has a limit. `inner` computes it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
}

/// Returns the wrappers that replace functions. `known` returns the function of a name.
pub(super) fn functions(known: impl Fn(&str) -> Option<Arc<ScalarUDF>>) -> Vec<ScalarUDF> {
    let names = MAKERS.iter().chain(&JOINERS).chain(&SPREADERS);
    names.filter_map(|name| known(name)).map(|inner| ScalarUDF::new_from_impl(Bounded { inner })).collect()
}

/// Returns true if a function of this name has a wrapper.
fn is_bounded(name: &str) -> bool {
    MAKERS.contains(&name) || JOINERS.contains(&name) || SPREADERS.contains(&name)
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(arguments)
    }

    // Without `simplify`: that of `concat` puts literals together itself.

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        check(self.name(), size(self.name(), &arguments)?, &arguments)?;
        self.inner.invoke_with_args(arguments)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// Checks the bytes that a call makes for each of its rows, or for all of them if an argument is an array.
fn check(name: &str, bytes: u64, arguments: &ScalarFunctionArgs) -> Result<()> {
    let constant = !arguments.args.iter().any(|value| matches!(value, ColumnarValue::Array(_)));
    let (bytes, most) = match (constant, FOLDING.get()) {
        (false, _) => (bytes, MOST_BYTES),
        (true, true) if MAKERS.contains(&name) => (bytes, MOST_CONSTANT_BYTES),
        (true, true) => (bytes, MOST_JOINED_BYTES),
        // The value of a constant is written once for each row, except in a condition.
        (true, false) => (bytes.saturating_mul((arguments.number_rows as u64).max(1)), MOST_BYTES),
    };
    if bytes <= most {
        return Ok(());
    }
    Err(DataFusionError::ResourcesExhausted(format!(
        "{name} makes values of {bytes} bytes for one batch of rows; the limit is {most}"
    )))
}

/// The values of one argument, of which a constant has only one.
struct Argument {
    values: ArrayRef,
    is_constant: bool,
}

impl Argument {
    /// Takes an argument of a call.
    fn new(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Array(values) => Self { values: values.clone(), is_constant: false },
            ColumnarValue::Scalar(value) => Self { values: value.to_array()?, is_constant: true },
        })
    }

    /// Returns the position of a row's value.
    fn at(&self, row: usize) -> usize {
        if self.is_constant { 0 } else { row }
    }

    /// Returns the bytes of all values, for so many rows.
    fn weight(&self, rows: usize) -> u64 {
        weight(&self.values).saturating_mul(if self.is_constant { rows as u64 } else { 1 })
    }

    /// Returns the bytes of each value.
    fn weights(&self) -> Vec<u64> {
        if let Some(texts) = self.values.data_type().is_string().then(|| self.texts().ok()).flatten() {
            return texts.as_string_view().iter().map(|text| text.map_or(0, str::len) as u64).collect();
        }
        (0..self.values.len()).map(|at| weight(&self.values.slice(at, 1))).collect()
    }

    /// Returns the values as integers. A null and a negative number are 0.
    fn counts(&self) -> Result<Vec<u64>> {
        let values = cast(&self.values, &DataType::Int64)?;
        Ok(values.as_primitive::<Int64Type>().iter().map(|value| u64::try_from(value.unwrap_or(0)).unwrap_or(0)).collect())
    }

    /// Returns the values as an array of views of texts.
    fn texts(&self) -> Result<ArrayRef> {
        Ok(cast(&self.values, &DataType::Utf8View)?)
    }
}

/// Returns the bytes of an array's values, of the part that it is a slice of.
fn weight(values: &ArrayRef) -> u64 {
    let rows = values.len() as u64;
    let between = |offsets: &[i32]| match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => (usize::try_from(*first).unwrap_or(0), usize::try_from(last - first).unwrap_or(0)),
        _ => (0, 0),
    };
    let bytes = match values.data_type() {
        DataType::Null | DataType::Boolean => 0,
        DataType::Utf8 => between(values.as_string::<i32>().value_offsets()).1 as u64,
        DataType::Binary => between(values.as_binary::<i32>().value_offsets()).1 as u64,
        DataType::LargeUtf8 => values.as_string::<i64>().iter().flatten().map(|text| text.len() as u64).sum(),
        DataType::LargeBinary => values.as_binary::<i64>().iter().flatten().map(|value| value.len() as u64).sum(),
        DataType::Utf8View => values.as_string_view().iter().flatten().map(|text| text.len() as u64).sum(),
        DataType::BinaryView => values.as_binary_view().iter().flatten().map(|value| value.len() as u64).sum(),
        DataType::FixedSizeBinary(size) => rows.saturating_mul(u64::from(size.unsigned_abs())),
        DataType::List(_) => {
            let list = values.as_list::<i32>();
            let (first, length) = between(list.value_offsets());
            weight(&list.values().slice(first, length))
        }
        DataType::LargeList(_) => values.as_list::<i64>().iter().flatten().map(|items| weight(&items)).sum(),
        DataType::FixedSizeList(..) => weight(values.as_fixed_size_list().values()),
        DataType::Map(..) => {
            let map = values.as_map();
            let (first, length) = between(map.value_offsets());
            map.entries().columns().iter().map(|column| weight(&column.slice(first, length))).sum()
        }
        DataType::Struct(_) => values.as_struct().columns().iter().map(weight).sum(),
        ty => rows.saturating_mul(ty.primitive_width().unwrap_or(16) as u64),
    };
    // Offsets and nulls.
    bytes.saturating_add(rows.saturating_mul(4))
}

/// Returns the number of values in lists, and in the lists in them.
fn items(values: &ArrayRef) -> u64 {
    match values.data_type() {
        DataType::List(_) => values.as_list::<i32>().iter().flatten().map(|inner| items(&inner)).sum(),
        DataType::LargeList(_) => values.as_list::<i64>().iter().flatten().map(|inner| items(&inner)).sum(),
        DataType::FixedSizeList(..) => values.as_fixed_size_list().iter().flatten().map(|inner| items(&inner)).sum(),
        _ => values.len() as u64,
    }
}

/// Returns the most bytes that a call of the function `name` makes: for each row if all arguments are constants, else in all.
fn size(name: &str, arguments: &ScalarFunctionArgs) -> Result<u64> {
    let args = arguments.args.iter().map(Argument::new).collect::<Result<Vec<_>>>()?;
    let rows = if args.iter().all(|arg| arg.is_constant) { 1 } else { arguments.number_rows };
    if let Some(made) = text_size(name, &args, rows)? {
        return Ok(made);
    }
    if let Some(made) = list_size(name, &args, rows)? {
        return Ok(made);
    }
    let of = |(at, arg): (usize, &Argument)| match name {
        "concat_ws" if at == 0 => arg.weight(rows).saturating_mul(args.len() as u64),
        "to_char" => arg.weight(rows).saturating_mul(16),
        name if SPREADERS.contains(&name) && !arg.is_constant => 0,
        _ => arg.weight(rows),
    };
    Ok(args.iter().enumerate().map(of).fold(0, u64::saturating_add))
}

/// Returns the sum of the sizes of rows.
fn sum(rows: usize, of: impl Fn(usize) -> u64) -> u64 {
    (0..rows).map(of).fold(0, u64::saturating_add)
}

/// Returns the most bytes that a function makes of texts. Returns `None` for other functions.
fn text_size(name: &str, args: &[Argument], rows: usize) -> Result<Option<u64>> {
    Ok(Some(match (name, args) {
        ("repeat", [text, count]) => {
            let (weights, counts) = (text.weights(), count.counts()?);
            sum(rows, |row| weights[text.at(row)].saturating_mul(counts[count.at(row)]))
        }
        ("lpad" | "rpad", [text, count, fill @ ..]) => {
            let (weights, counts) = (text.weights(), count.counts()?);
            let mut widest = 1;
            if let [fill, ..] = fill {
                let texts = fill.texts()?;
                widest = texts.as_string_view().iter().flatten().flat_map(str::chars).map(char::len_utf8).max().unwrap_or(1);
            }
            sum(rows, |row| weights[text.at(row)].saturating_add(counts[count.at(row)].saturating_mul(widest as u64)))
        }
        ("replace", [text, from, to]) => replaced(rows, [text, from, to])?,
        ("regexp_replace", [text, _, by, flags @ ..]) => {
            let (weights, texts) = (text.weights(), by.texts()?);
            let flags = flags.first().map(Argument::texts).transpose()?;
            let every = flags.is_some_and(|flags| flags.as_string_view().iter().flatten().any(|flags| flags.contains('g')));
            sum(rows, |row| {
                let (length, by) = (weights[text.at(row)], texts.as_string_view().value(by.at(row)));
                let times = if every { length.saturating_add(1) } else { 1 };
                // What a pattern found is at most as long as the text, all times together.
                let parts = by.matches(['\\', '$']).count() as u64;
                times.saturating_mul(by.len() as u64).saturating_add(parts.saturating_add(1).saturating_mul(length))
            })
        }
        _ => return Ok(None),
    }))
}

/// Returns the most bytes that a function makes of or for lists. Returns `None` for other functions.
fn list_size(name: &str, args: &[Argument], rows: usize) -> Result<Option<u64>> {
    Ok(Some(match (name, args) {
        ("range" | "generate_series", _) => {
            let lengths = lengths(args)?;
            sum(rows, |row| lengths(row).saturating_mul(8))
        }
        ("array_repeat", [value, count]) => {
            let (weights, counts) = (value.weights(), count.counts()?);
            // An item has an offset, too.
            sum(rows, |row| weights[value.at(row)].saturating_add(4).saturating_mul(counts[count.at(row)]))
        }
        ("array_resize", [list, count, fill @ ..]) => {
            let (counts, filled) = (count.counts()?, fill.first().map(|fill| (fill, fill.weights())));
            let item = |row: usize| filled.as_ref().map_or(16, |(fill, weights)| weights[fill.at(row)].max(16));
            sum(rows, |row| counts[count.at(row)].saturating_mul(item(row))).saturating_add(list.weight(rows))
        }
        ("array_replace" | "array_replace_n" | "array_replace_all", [list, _, to, ..]) => {
            let (weights, widths) = (list.weights(), to.weights());
            let numbers: Vec<u64> = (0..list.values.len()).map(|at| items(&list.values.slice(at, 1))).collect();
            sum(rows, |row| {
                let at = list.at(row);
                weights[at].saturating_add(numbers[at].saturating_mul(widths[to.at(row)]))
            })
        }
        ("array_to_string", [list, more @ ..]) => {
            let widths = more.iter().map(|arg| arg.weights().into_iter().max().unwrap_or(0)).fold(0, u64::saturating_add);
            // A number has up to 25 characters.
            let made = items(&list.values).saturating_mul(widths.saturating_add(25)).saturating_add(weight(&list.values));
            made.saturating_mul(if list.is_constant { rows as u64 } else { 1 })
        }
        _ => return Ok(None),
    }))
}

/// Returns the most bytes that `replace` makes. The occurrences are counted only if there may be too many.
fn replaced(rows: usize, [text, from, to]: [&Argument; 3]) -> Result<u64> {
    let (lengths, widths) = (text.weights(), to.weights());
    let (texts, searched) = (text.texts()?, from.texts()?);
    let made = |times: &dyn Fn(usize) -> u64| {
        sum(rows, |row| lengths[text.at(row)].saturating_add(times(row).saturating_mul(widths[to.at(row)])))
    };
    let searched = |row: usize| searched.as_string_view().value(from.at(row));
    let at_most = made(&|row| lengths[text.at(row)] / (searched(row).len() as u64).max(1) + 1);
    let few = if text.is_constant { MOST_CONSTANT_BYTES } else { MOST_BYTES };
    if at_most <= few {
        return Ok(at_most);
    }
    Ok(made(&|row| texts.as_string_view().value(text.at(row)).matches(searched(row)).count() as u64))
}

/// Returns a function that returns how many items a row of `range` or `generate_series` has at most.
fn lengths(args: &[Argument]) -> Result<impl Fn(usize) -> u64> {
    let (start, stop, step) = match args {
        [stop] => (None, stop, None),
        [start, stop] => (Some(start), stop, None),
        [start, stop, step, ..] => (Some(start), stop, Some(step)),
        [] => return Err(DataFusionError::Plan("a range has an end".to_owned())),
    };
    let starts = start.map(|start| Ok::<_, DataFusionError>((start.is_constant, places(&start.values)?))).transpose()?;
    let stops = (stop.is_constant, places(&stop.values)?);
    let steps = step.map(|step| Ok::<_, DataFusionError>((step.is_constant, distances(&step.values)?))).transpose()?;
    let one =
        |(is_constant, of): &(bool, Vec<Option<i128>>), row: usize| of.get(if *is_constant { 0 } else { row }).copied().flatten();
    Ok(move |row| {
        let start = starts.as_ref().map_or(Some(0), |starts| one(starts, row));
        let step = steps.as_ref().map_or(Some(1), |steps| one(steps, row));
        let (Some(start), Some(stop), Some(step)) = (start, one(&stops, row), step) else { return 0 };
        // A step of nothing is the function's own error.
        if step == 0 || (stop < start) != (step < 0) {
            return 1;
        }
        u64::try_from((stop - start) / step).unwrap_or(u64::MAX).saturating_add(1)
    })
}

/// Returns integers as they are, and dates and times in nanoseconds.
fn places(values: &ArrayRef) -> Result<Vec<Option<i128>>> {
    let unit: i128 = match values.data_type() {
        DataType::Date32 => 86_400_000_000_000,
        DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        _ => 1,
    };
    if let Some(dates) = values.as_primitive_opt::<Date32Type>() {
        return Ok(dates.iter().map(|value| value.map(|value| i128::from(value) * unit)).collect());
    }
    let values = cast(values, &DataType::Int64)?;
    Ok(values.as_primitive::<Int64Type>().iter().map(|value| value.map(|value| i128::from(value) * unit)).collect())
}

/// Returns the least nanoseconds of intervals, and integers as they are.
///
/// An interval whose parts have different signs counts as a nanosecond: nobody knows how far it goes.
fn distances(values: &ArrayRef) -> Result<Vec<Option<i128>>> {
    const DAY: i128 = 86_400_000_000_000;
    if !matches!(values.data_type(), DataType::Interval(IntervalUnit::MonthDayNano)) {
        return places(values);
    }
    let least = |value: IntervalMonthDayNano| {
        let parts = [i128::from(value.months) * 28 * DAY, i128::from(value.days) * DAY, i128::from(value.nanoseconds)];
        let mixed = parts.iter().any(|part| *part < 0) && parts.iter().any(|part| *part > 0);
        // A day with a change of the clock has less than 24 hours.
        if mixed { 1 } else { (parts[0] + parts[1]) / 24 * 22 + parts[2] }
    };
    Ok(values.as_primitive::<IntervalMonthDayNanoType>().iter().map(|value| value.map(least)).collect())
}

/// The function that hands on the result of `||`, if it is not too large.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Joined {
    signature: Signature,
}

impl ScalarUDFImpl for Joined {
    fn name(&self) -> &'static str {
        JOINED
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().cloned().unwrap_or(DataType::Null))
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = arguments.arg_fields.iter().any(|field| field.is_nullable());
        let ty = arguments.arg_fields.first().map_or(DataType::Null, |field| field.data_type().clone());
        Ok(Arc::new(Field::new(JOINED, ty, nullable)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        check("||", size(JOINED, &arguments)?, &arguments)?;
        Ok(arguments.args.into_iter().next().unwrap_or(ColumnarValue::Scalar(ScalarValue::Null)))
    }
}

/// The analyzer rule that bounds what the planner writes itself: `||` of texts, and the functions that `||` and `[…]` of lists
/// become.
#[derive(Debug)]
pub(super) struct BoundedSizes;

impl AnalyzerRule for BoundedSizes {
    fn name(&self) -> &'static str {
        "bounded_sizes"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| rewrite_expressions(plan, |expr| Ok(bounded(expr)))).data()
    }
}

/// Bounds one expression, whose operands are bounded already.
fn bounded(expr: Expr) -> Transformed<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { op: Operator::StringConcat, .. }) => {
            let joined = Joined { signature: Signature::any(1, Volatility::Immutable) };
            Transformed::yes(ScalarUDF::new_from_impl(joined).call(vec![expr]))
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) if is_bounded(func.name()) && !func.inner().is::<Bounded>() => {
            let func = Arc::new(ScalarUDF::new_from_impl(Bounded { inner: func }));
            Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args }))
        }
        expr => Transformed::no(expr),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    /// Returns how many bytes a call makes for `rows` rows.
    fn made(name: &str, args: Vec<ColumnarValue>, rows: usize) -> u64 {
        let field = Arc::new(Field::new("", DataType::Null, true));
        let config_options = Arc::new(ConfigOptions::default());
        let arg_fields = vec![field.clone(); args.len()];
        size(name, &ScalarFunctionArgs { args, arg_fields, number_rows: rows, return_field: field, config_options })
            .expect("a size")
    }

    fn number(value: i64) -> ColumnarValue {
        ScalarValue::Int64(Some(value)).into()
    }

    fn text(value: &str) -> ColumnarValue {
        ScalarValue::from(value).into()
    }

    #[test]
    fn the_size_of_what_a_call_makes_is_known_before() {
        assert_eq!(made("repeat", vec![text("ab"), number(1_000_000_000_000)], 1), 2_000_000_000_000);
        assert_eq!(made("repeat", vec![text("ab"), number(-1)], 1), 0);
        let counts = ColumnarValue::Array(Arc::new(Int64Array::from(vec![Some(3), None, Some(4)])));
        assert_eq!(made("repeat", vec![text("ab"), counts], 3), 14);
        assert!(made("lpad", vec![text("a"), number(1 << 40), text("ä")], 1) >= 2 << 40);
        assert_eq!(made("range", vec![number(0), number(4_000_000_000)], 1), 8 * 4_000_000_001);
        assert_eq!(made("range", vec![number(10), number(0), number(-5)], 1), 24);
        assert_eq!(made("range", vec![number(i64::MIN), number(i64::MAX), number(1)], 1), u64::MAX);
        assert!(made("array_repeat", vec![text("abcd"), number(1000)], 1) >= 4000);
        assert!(made("replace", vec![text(&"a".repeat(10_000)), text("a"), text(&"b".repeat(10_000))], 1) >= 100_000_000);
        assert!(made("replace", vec![text(&"a".repeat(10_000)), text("z"), text(&"b".repeat(10_000))], 1) < 20_000);
        let column = ColumnarValue::Array(Arc::new(StringArray::from(vec!["a"; 100])));
        assert!(made("concat", vec![column, text(&"b".repeat(1000))], 100) >= 100_000);
    }

    #[test]
    fn steps_of_time_are_counted_by_the_least_that_they_take() {
        let day = |at: i32| ColumnarValue::from(ScalarValue::Date32(Some(at)));
        let step = |months, days, nanoseconds| {
            let value = IntervalMonthDayNano { months, days, nanoseconds };
            ColumnarValue::from(ScalarValue::IntervalMonthDayNano(Some(value)))
        };
        let month = made("generate_series", vec![day(0), day(280), step(1, 0, 0)], 1);
        assert!((80..=96).contains(&month), "{month}");
        assert!(made("generate_series", vec![day(0), day(280), step(1, -30, 0)], 1) > MOST_BYTES);
        assert_eq!(made("generate_series", vec![day(280), day(0), step(0, 1, 0)], 1), 8);
    }

    #[test]
    fn nested_values_are_weighed_by_the_part_that_they_are_a_slice_of() {
        let lists =
            ScalarValue::List(ScalarValue::new_list(&[ScalarValue::from("abc"), ScalarValue::from("de")], &DataType::Utf8, true));
        let lists = lists.to_array_of_size(3).expect("three lists");
        assert_eq!(weight(&lists), 3 * (4 + 13));
        assert_eq!(weight(&lists.slice(1, 1)), 17);
        assert_eq!(items(&lists), 6);
    }
}
