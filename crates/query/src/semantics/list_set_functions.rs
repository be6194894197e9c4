//! List functions that choose items by equality, for item types in which equal values have several forms: -0.0 and 0.0, the many
//! NaNs, intervals of one length.
//!
//! DataFusion's functions compare the stored form. The functions here compare the keys that [`normalize_nan_and_zero`] makes, and
//! return the items as they were stored.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, interleave};
use arrow::datatypes::{DataType, Int64Type};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;
use esker_read::{needs_normalization, normalize_nan_and_zero};

/// The operation of such a function on the lists of one row.
#[derive(Clone, Copy, PartialEq)]
enum Choice {
    Distinct,
    Union,
    Intersect,
    Except,
    /// Removes up to a number of equal items.
    Remove,
    /// Replaces up to a number of equal items.
    Replace,
}

/// Returns the operation of the function `name`, or `None` if it does not choose items.
fn choice(name: &str) -> Option<Choice> {
    Some(match name {
        "array_distinct" => Choice::Distinct,
        "array_union" => Choice::Union,
        "array_intersect" => Choice::Intersect,
        "array_except" => Choice::Except,
        "array_remove_n" | "array_remove_all" => Choice::Remove,
        "array_replace_n" | "array_replace_all" => Choice::Replace,
        _ => return None,
    })
}

/// Evaluates a call. Returns `None` if DataFusion's function has to, because of its name or its list's type.
pub(super) fn chosen(name: &str, args: &[ColumnarValue]) -> Result<Option<ColumnarValue>> {
    let Some(choice) = choice(name) else { return Ok(None) };
    match args.first().map(ColumnarValue::data_type) {
        Some(DataType::List(item)) if needs_normalization(item.data_type()) => {}
        _ => return Ok(None),
    }
    let arrays = ColumnarValue::values_to_arrays(args)?;
    let Some(made) = of_arrays(choice, &arrays)? else { return Ok(None) };
    Ok(Some(match args.iter().any(|arg| matches!(arg, ColumnarValue::Array(_))) {
        true => ColumnarValue::Array(made),
        false => ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?),
    }))
}

/// Evaluates an operation on arrays. Returns `None` if DataFusion's function has to.
fn of_arrays(choice: Choice, args: &[ArrayRef]) -> Result<Option<ArrayRef>> {
    let Some((list, more)) = args.split_first() else { return Ok(None) };
    let list = list.as_list::<i32>();
    let converter = RowConverter::new(vec![SortField::new(list.value_type())])?;
    let keys = |values: &ArrayRef| -> Result<Rows> { Ok(converter.convert_columns(&[normalize_nan_and_zero(values)?])?) };
    let own = keys(list.values())?;
    Ok(Some(match (choice, more) {
        (Choice::Distinct, []) => {
            let nulls = list.nulls().cloned();
            collected(list, &[list.values().as_ref()], nulls, |row, items| {
                let mut seen = HashSet::new();
                items.extend(range(list, row).filter(|at| seen.insert(own.row(*at))).map(|at| (0, at)));
            })?
        }
        (Choice::Union | Choice::Intersect | Choice::Except, [other]) if other.data_type() == list.data_type() => {
            let other = other.as_list::<i32>();
            let others = keys(other.values())?;
            let nulls = NullBuffer::union(list.nulls(), other.nulls());
            collected(list, &[list.values().as_ref(), other.values().as_ref()], nulls, |row, items| {
                let there: HashSet<_> = range(other, row).map(|at| others.row(at)).collect();
                let mut seen = HashSet::new();
                let kept = |at: &usize| choice == Choice::Union || there.contains(&own.row(*at)) == (choice == Choice::Intersect);
                items.extend(range(list, row).filter(|at| kept(at) && seen.insert(own.row(*at))).map(|at| (0, at)));
                if choice == Choice::Union {
                    items.extend(range(other, row).filter(|at| seen.insert(others.row(*at))).map(|at| (1, at)));
                }
            })?
        }
        // Nulls among the searched values are left to DataFusion: a null has one form only.
        (Choice::Remove, [wanted, count @ ..]) if looked_for(wanted, list) => {
            let (wanted, most) = (keys(wanted)?, most(count)?);
            collected(list, &[list.values().as_ref()], list.nulls().cloned(), |row, items| {
                let mut left = most.as_ref().map_or(i64::MAX, |most| most.value(row));
                items.extend(range(list, row).filter(|at| !found(&own, *at, &wanted, row, &mut left)).map(|at| (0, at)));
            })?
        }
        (Choice::Replace, [wanted, by, count @ ..]) if looked_for(wanted, list) && by.data_type() == &list.value_type() => {
            let (wanted, most) = (keys(wanted)?, most(count)?);
            collected(list, &[list.values().as_ref(), by.as_ref()], list.nulls().cloned(), |row, items| {
                let mut left = most.as_ref().map_or(i64::MAX, |most| most.value(row));
                items
                    .extend(range(list, row).map(|at| if found(&own, at, &wanted, row, &mut left) { (1, row) } else { (0, at) }));
            })?
        }
        _ => return Ok(None),
    }))
}

/// Returns true if the searched values have the type of the list's items, and none is null.
fn looked_for(wanted: &ArrayRef, list: &ListArray) -> bool {
    wanted.data_type() == &list.value_type() && wanted.null_count() == 0
}

/// Checks if item `at` equals the value that is searched in `row`, and if so counts it in `left`. The count is the number of
/// items that may still be found.
fn found(own: &Rows, at: usize, wanted: &Rows, row: usize, left: &mut i64) -> bool {
    let found = *left > 0 && own.row(at) == wanted.row(row);
    *left -= i64::from(found);
    found
}

/// Returns the greatest number of items to change in each row. `None` means all items, if the function has no such argument.
fn most(count: &[ArrayRef]) -> Result<Option<Int64Array>> {
    count.first().map(|count| Ok(cast(count, &DataType::Int64)?.as_primitive::<Int64Type>().clone())).transpose()
}

/// Returns the positions of a row's items among the values of the list array.
fn range(list: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = list.value_offsets();
    offsets[row] as usize..offsets[row + 1] as usize
}

/// Builds a list array from items of the arrays `from`, with a list for each row that is not null.
///
/// For each such row, `add` appends the items: pairs of an array's index in `from` and the item's position in that array.
fn collected(
    like: &ListArray,
    from: &[&dyn Array],
    nulls: Option<NullBuffer>,
    mut add: impl FnMut(usize, &mut Vec<(usize, usize)>),
) -> Result<ArrayRef> {
    let mut items = Vec::new();
    let mut lengths = Vec::with_capacity(like.len());
    for row in 0..like.len() {
        let before = items.len();
        if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
            add(row, &mut items);
        }
        lengths.push(items.len() - before);
    }
    let (item, ..) = like.clone().into_parts();
    let values = interleave(from, &items)?;
    Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), values, nulls)?))
}
