//! Rewrites of functions and operators that DataFusion defines differently from `docs/sql.md`.
//!
//! Each function takes one kind of expression and returns what replaces it, or `None` if DataFusion's meaning is right. The rule
//! `compare::Comparisons` calls them. Start with [`rewrite_cast`], the largest.

use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions::datetime::expr_fn::to_local_time;
use datafusion::logical_expr::expr::{AggregateFunction, Like, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Operator, WindowFrame, WindowFrameBound, WindowFrameUnits, binary_expr, cast, lit, try_cast, when,
};
use datafusion::scalar::ScalarValue;
use esker_read::geo_metadata;

use super::at_time_zone::{self, ShownInZone, is_utc};
use super::constant::constant;
use super::convert::converted;
use super::function::call;
use super::text_literal::{self, text};
use super::trunc::Trunc;
use super::types::is_uuid;
use super::{shapes, sized, uuid, variants};
use crate::error_wording::sql_type;

/// Rewrites `date ± interval`, `date ± time` and `time ± interval`; `minus` is the operator.
///
/// A date with a time, or with an interval that has hours, makes a timestamp. Arrow would drop the hours of the interval, and
/// count the time in nanoseconds. A time with an interval makes a time.
pub(super) fn rewrite_date_arithmetic(left: &Expr, minus: bool, right: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    let is_date = |expr: &Expr| expr.get_type(schema).is_ok_and(|ty| ty == DataType::Date32);
    let has_hours = |expr: &Expr| -> Result<bool> {
        if !matches!(expr.get_type(schema), Ok(DataType::Interval(_))) {
            return Ok(false);
        }
        Ok(matches!(constant(expr)?, Some(ScalarValue::IntervalMonthDayNano(Some(value))) if value.nanoseconds != 0))
    };
    let to_timestamp = |expr: &Expr| cast(expr.clone(), DataType::Timestamp(TimeUnit::Microsecond, None));
    let op = if minus { Operator::Minus } else { Operator::Plus };
    let time = DataType::Time64(TimeUnit::Microsecond);
    let is_time = |expr: &Expr| expr.get_type(schema).is_ok_and(|ty| ty == time);
    if let (true, Some(by)) = (is_time(left), microseconds(right, schema)?) {
        return Ok(Some(add_to_time_of_day(left, if minus { -by } else { by })));
    }
    if let (false, true, Some(by)) = (minus, is_time(right), microseconds(left, schema)?) {
        return Ok(Some(add_to_time_of_day(right, by)));
    }
    if is_date(left) && right.get_type(schema).is_ok_and(|ty| ty == time) {
        let of_day = cast(cast(right.clone(), DataType::Int64), DataType::Duration(TimeUnit::Microsecond));
        return Ok(Some(binary_expr(to_timestamp(left), op, of_day)));
    }
    if is_date(left) && has_hours(right)? {
        return Ok(Some(binary_expr(to_timestamp(left), op, right.clone())));
    }
    if !minus && is_date(right) && has_hours(left)? {
        return Ok(Some(binary_expr(to_timestamp(right), Operator::Plus, left.clone())));
    }
    Ok(None)
}

/// Returns the hours, minutes and seconds of a constant interval, in microseconds. Returns `None` for other expressions.
fn microseconds(expr: &Expr, schema: &DFSchema) -> Result<Option<i64>> {
    if !matches!(expr.get_type(schema), Ok(DataType::Interval(_))) {
        return Ok(None);
    }
    Ok(match constant(expr)? {
        Some(ScalarValue::IntervalMonthDayNano(Some(value))) => Some(value.nanoseconds / 1000),
        _ => None,
    })
}

/// Returns the time `by` microseconds later. After midnight it is the next day's time.
fn add_to_time_of_day(time: &Expr, by: i64) -> Expr {
    const DAY: i64 = 86_400_000_000;
    let later = cast(time.clone(), DataType::Int64) + lit(by.rem_euclid(DAY));
    cast(later % lit(DAY), DataType::Time64(TimeUnit::Microsecond))
}

/// Converts an interval to the type of differences of timestamps.
///
/// A day has 24 hours and a month thirty days. Returns `None` if the unit does not hold the interval exactly.
pub(super) fn duration(interval: &ScalarValue, unit: TimeUnit) -> Option<ScalarValue> {
    let ScalarValue::IntervalMonthDayNano(Some(value)) = interval else { return None };
    let days = i128::from(value.months) * 30 + i128::from(value.days);
    let nanoseconds = days * 86_400_000_000_000 + i128::from(value.nanoseconds);
    let of = |per: i128| (nanoseconds % per == 0).then(|| i64::try_from(nanoseconds / per).ok()).flatten();
    Some(match unit {
        TimeUnit::Second => ScalarValue::DurationSecond(Some(of(1_000_000_000)?)),
        TimeUnit::Millisecond => ScalarValue::DurationMillisecond(Some(of(1_000_000)?)),
        TimeUnit::Microsecond => ScalarValue::DurationMicrosecond(Some(of(1_000)?)),
        TimeUnit::Nanosecond => ScalarValue::DurationNanosecond(Some(of(1)?)),
    })
}

/// Rewrites `date_trunc` of a text, a date, or a timestamp with at most six digits of a second.
pub(super) fn rewrite_trunc(args: &[Expr], schema: &DFSchema) -> Result<Option<Expr>> {
    let [part, value] = args else { return Ok(None) };
    let (Some(part), ty) = (constant(part)?, value.get_type(schema)?) else { return Ok(None) };
    let Some(part) = text(&part).and_then(Trunc::named) else { return Ok(None) };
    let zone = match &ty {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => return Ok(None),
        DataType::Timestamp(_, zone) => zone.clone(),
        DataType::Date32 => None,
        ty if ty.is_string() => None,
        _ => return Ok(None),
    };
    let to = DataType::Timestamp(TimeUnit::Microsecond, zone);
    Ok(Some(call(part, if ty == to { value.clone() } else { cast(value.clone(), to) })))
}

/// Casts the result of `date_bin` to microseconds, if its argument has at most six digits of a second.
pub(super) fn rewrite_date_bin(call: &Expr, args: &[Expr], schema: &DFSchema) -> Result<Option<Expr>> {
    let of = match args.get(1) {
        Some(source) => source.get_type(schema)?,
        None => return Ok(None),
    };
    let (DataType::Timestamp(from, zone), DataType::Timestamp(TimeUnit::Nanosecond, _)) = (of, call.get_type(schema)?) else {
        return Ok(None);
    };
    let to = DataType::Timestamp(TimeUnit::Microsecond, zone);
    Ok((from != TimeUnit::Nanosecond).then(|| cast(call.clone(), to)))
}

/// Rewrites a pattern with another escape character than the backslash, which is the only one that Arrow knows.
///
/// Fails if the pattern ends with its escape character.
pub(super) fn rewrite_like(like: &Like) -> Result<Option<Expr>> {
    let Some(escape) = like.escape_char.filter(|c| *c != '\\') else { return Ok(None) };
    let Some(pattern) = constant(&like.pattern)? else { return Ok(None) };
    let Some(pattern) = text(&pattern) else { return Ok(None) };
    let mut written = String::with_capacity(pattern.len() + 2);
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        let plain = match c {
            c if c == escape => characters.next().ok_or_else(|| {
                DataFusionError::Plan(format!("LIKE '{pattern}' must not end with its escape character {escape}"))
            })?,
            '%' | '_' => {
                written.push(c);
                continue;
            }
            c => c,
        };
        if matches!(plain, '%' | '_' | '\\') {
            written.push('\\');
        }
        written.push(plain);
    }
    Ok(Some(Expr::Like(Like { pattern: Box::new(lit(written)), escape_char: None, ..like.clone() })))
}

/// Rewrites a `RANGE` frame that DataFusion does not compute.
///
/// Over an order that has no addition, only the equality of rows matters, so the frame becomes one of `GROUPS`; an offset is an
/// error there. Over integers, an offset needs a wider type.
pub(super) fn rewrite_frame(window: &WindowFunction, schema: &DFSchema) -> Result<Option<WindowFunction>> {
    let WindowFunctionParams { window_frame: frame, order_by, .. } = &window.params;
    let Some(first) = order_by.first().filter(|_| frame.units == WindowFrameUnits::Range) else { return Ok(None) };
    let ty = first.expr.get_type(schema)?;
    let added_to = ty.is_numeric() || matches!(ty, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..));
    let has_offset = |bound: &WindowFrameBound| !bound.is_unbounded() && *bound != WindowFrameBound::CurrentRow;
    let offsets = [&frame.start_bound, &frame.end_bound].map(has_offset);
    if added_to {
        // DataFusion takes a bound that is out of the range of its type for NULL. A wider type holds every bound.
        let wide = match ty {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => {
                DataType::Int64
            }
            DataType::Int64 | DataType::UInt64 => DataType::Decimal128(38, 0),
            _ => return Ok(None),
        };
        if offsets == [false, false] {
            return Ok(None);
        }
        let mut made = window.clone();
        made.params.order_by[0].expr = cast(first.expr.clone(), wide);
        return Ok(Some(made));
    }
    for offset in offsets {
        if offset {
            return Err(DataFusionError::Plan(format!(
                "RANGE with an offset needs an ORDER BY of numbers, dates or timestamps, not {ty}"
            )));
        }
    }
    let mut made = window.clone();
    made.params.window_frame =
        WindowFrame::new_bounds(WindowFrameUnits::Groups, frame.start_bound.clone(), frame.end_bound.clone());
    Ok(Some(made))
}

/// Writes the offset and the default of `lag` or `lead` as literals.
///
/// An offset that is null finds no row, not even the default, as in PostgreSQL.
pub(super) fn rewrite_lag_lead(window: &WindowFunction, schema: &DFSchema) -> Result<Option<WindowFunction>> {
    if !matches!(window.fun.name(), "lag" | "lead") || window.params.args.len() < 2 {
        return Ok(None);
    }
    let mut made = window.clone();
    for arg in &mut made.params.args[1..] {
        if let Some(value) = constant(arg)? {
            *arg = lit(value);
        }
    }
    if matches!(&made.params.args[1], Expr::Literal(offset, _) if offset.is_null()) {
        let types = window.params.args.iter().step_by(2).map(|arg| arg.get_type(schema)).collect::<Result<Vec<_>>>()?;
        let ty = types.into_iter().find(|ty| !ty.is_null()).unwrap_or(DataType::Null);
        made.params.args = vec![lit(ScalarValue::try_from(&ty)?)];
    }
    Ok((made.params.args != window.params.args).then_some(made))
}

/// Rewrites an aggregate whose filter is a null without a type, which keeps no row.
///
/// Fails if the filter is not a condition.
pub(super) fn rewrite_filter(function: &AggregateFunction, schema: &DFSchema) -> Result<Option<AggregateFunction>> {
    let Some(filter) = &function.params.filter else { return Ok(None) };
    match filter.get_type(schema)? {
        DataType::Null => {}
        DataType::Boolean => return Ok(None),
        ty => return Err(DataFusionError::Plan(format!("FILTER takes a condition, not a value of type {}", sql_type(&ty)))),
    }
    let mut made = function.clone();
    made.params.filter = Some(Box::new(lit(false)));
    Ok(Some(made))
}

/// Rewrites `replace` so that an empty text is not replaced, as in PostgreSQL and DuckDB.
///
/// DataFusion puts the other text between all characters.
pub(super) fn rewrite_replace(call: &Expr, args: &[Expr]) -> Result<Option<Expr>> {
    let [value, what, _] = args else { return Ok(None) };
    let is_text = |expr: &Expr| matches!(expr, Expr::Literal(value, _) if text(value).is_some_and(|text| !text.is_empty()));
    if is_text(what) {
        return Ok(None);
    }
    Ok(Some(when(what.clone().eq(lit("")), value.clone()).otherwise(call.clone())?))
}

/// Rewrites a cast that is not Arrow's, or whose type has a length. `safe` is true for `TRY_CAST`.
pub(super) fn rewrite_cast(expr: &Expr, to: &FieldRef, from: &FieldRef, safe: bool) -> Result<Option<Expr>> {
    let made = match variants::converted(expr, from.data_type(), to.data_type(), safe)? {
        Some(bytes) if geo_metadata(to).is_some() => Some(shapes::cast(&bytes, to, to.data_type(), safe)?),
        Some(made) => Some(made),
        None if geo_metadata(to).is_some() => Some(shapes::cast(expr, to, from.data_type(), safe)?),
        None if safe => converted(expr, from.data_type(), to.data_type(), safe),
        None => conversion(expr, to, from)?,
    };
    let Some(length) = sized::length(to)? else { return Ok(made) };
    let plain = || match safe {
        _ if from.data_type() == to.data_type() => expr.clone(),
        true => try_cast(expr.clone(), to.data_type().clone()),
        false => cast(expr.clone(), to.data_type().clone()),
    };
    Ok(Some(sized::cut(made.unwrap_or_else(plain), length)))
}

/// Rewrites casts between UUIDs, their text and their bytes, casts to time zones, and others that are not Arrow's.
fn conversion(expr: &Expr, to: &FieldRef, from: &FieldRef) -> Result<Option<Expr>> {
    if matches!(to.data_type(), DataType::Date32 | DataType::Timestamp(_, _))
        && let Some(value) = constant(expr)?
        && let Some(text) = text(&value)
    {
        text_literal::check_year(text, to.data_type())?;
    }
    if let DataType::Timestamp(_, Some(zone)) = to.data_type() {
        at_time_zone::named(zone)?;
    }
    Ok(match (from.data_type(), to.data_type()) {
        (ty, _) if is_uuid(to) && ty.is_string() => Some(match constant(expr)?.as_ref().and_then(text) {
            Some(text) => call(uuid::FromBytes, lit(text_literal::uuid(text)?)),
            None => call(uuid::FromText, expr.clone()),
        }),
        (DataType::FixedSizeBinary(_) | DataType::Binary | DataType::BinaryView | DataType::LargeBinary, _) if is_uuid(to) => {
            Some(if is_uuid(from) { expr.clone() } else { call(uuid::FromBytes, expr.clone()) })
        }
        (_, ty) if is_uuid(from) && ty.is_string() => {
            let text = call(uuid::ToText, expr.clone());
            Some(if *ty == DataType::Utf8 { text } else { cast(text, ty.clone()) })
        }
        // Only `AT TIME ZONE` names another zone than UTC. It returns the instant at which clocks in the zone show a timestamp,
        // or the time that they show at an instant.
        (DataType::Timestamp(_, None), DataType::Timestamp(_, Some(zone))) if !is_utc(zone) => {
            Some(call(ShownInZone { zone: zone.clone() }, expr.clone()))
        }
        (DataType::Date32, DataType::Timestamp(_, Some(zone))) if !is_utc(zone) => {
            let midnight = cast(expr.clone(), DataType::Timestamp(TimeUnit::Microsecond, None));
            Some(call(ShownInZone { zone: zone.clone() }, midnight))
        }
        (DataType::Timestamp(unit, Some(own)), DataType::Timestamp(_, Some(zone))) if own != zone && !is_utc(zone) => {
            Some(to_local_time(vec![cast(expr.clone(), DataType::Timestamp(*unit, Some(zone.clone())))]))
        }
        // An integer counts seconds since the Unix epoch.
        (from, ty @ DataType::Timestamp(unit, zone)) if from.is_integer() && *unit != TimeUnit::Second => {
            Some(cast(cast(expr.clone(), DataType::Timestamp(TimeUnit::Second, zone.clone())), ty.clone()))
        }
        (from, ty) => converted(expr, from, ty, false),
    })
}
