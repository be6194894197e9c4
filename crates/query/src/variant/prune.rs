//! Pruning by conditions on parts of variants.
//!
//! Files are left out by the bounds in their manifests, row groups and pages by the statistics in their footers. DataFusion's
//! pruning knows columns only, so each part is a column with a name of its own here.
//! Start with [`Conditions`]; a scan calls its functions in the order in which they stand.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use datafusion::scalar::ScalarValue;
use esker_format::PrimitiveType;
use esker_read::{
    ShreddedField, Variant, VariantColumn, VariantValue, arrow_type, field_id, is_variant, literal_array, only_nulls, part_path,
    part_type, statistic, variant_columns, variant_of_bound,
};
use esker_table::PlannableFile;
use parquet::basic::Type as Physical;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use roaring::RoaringTreemap;

use super::Extract;
use super::cast::natural;
use crate::semantics::{cast_values, extraction_of};

/// The conditions of a scan that name parts of variants.
#[derive(Debug)]
pub(crate) struct Conditions {
    /// The parts, each once.
    parts: Vec<PartColumn>,
    /// All conditions, joined by `AND`.
    whole: PruningPredicate,
    /// The conditions that name one part and nothing else, each with the index of its part.
    single: Vec<(usize, PruningPredicate)>,
}

/// A part of a variant that stands for a column.
#[derive(Debug, Clone)]
struct PartColumn {
    /// Name of the column, which no column of the table has.
    column: String,
    /// Field id of the variant.
    id: i32,
    /// Names of the fields on the path to the part.
    names: Vec<String>,
    /// Type of the part's values in the conditions.
    to: DataType,
}

/// The bounds of a part's values in a file, a row group or a page.
#[derive(Debug, Clone, Default)]
struct PartBounds {
    /// No value is less. An array of one row.
    low: Option<ArrayRef>,
    /// No value is greater. An array of one row.
    high: Option<ArrayRef>,
    /// Number of rows, if the variant is null in all of them.
    nulls: Option<u64>,
}

impl Conditions {
    /// Returns the conditions on parts among the filters of a table; `None` if there are none.
    pub(crate) fn of(state: &dyn Session, schema: &SchemaRef, filters: &[Expr]) -> Result<Option<Self>> {
        let mut parts: Vec<PartColumn> = Vec::new();
        let mut own = Vec::new();
        for filter in filters.iter().flat_map(split_conjunction) {
            let mut named = HashSet::new();
            let made = filter.clone().transform_up(|expr| {
                let Some(part) = part(&expr, schema) else { return Ok(Transformed::no(expr)) };
                let at = parts.iter().position(|known| known.column == part.column).unwrap_or(parts.len());
                if at == parts.len() {
                    parts.push(part);
                }
                named.insert(at);
                Ok(Transformed::yes(Expr::Column(Column::from_name(parts[at].column.clone()))))
            })?;
            if made.transformed {
                own.push((named, made.data));
            }
        }
        let columns = parts.iter().map(|part| Arc::new(Field::new(&part.column, part.to.clone(), true)));
        let fields = Schema::new(schema.fields().iter().cloned().chain(columns).collect::<Vec<_>>());
        let Some(all) = conjunction(own.iter().map(|(_, filter)| filter.clone())) else { return Ok(None) };
        let (schema, known) = (Arc::new(fields.clone()), DFSchema::try_from(fields)?);
        let predicate = |filter: Expr| {
            let condition = state.create_physical_expr(filter, &known)?;
            PruningPredicateBuilder::new().with_file_schema(schema.clone()).try_build(condition)
        };
        let mut single = Vec::new();
        for (named, filter) in own {
            let is_alone = filter.column_refs().iter().all(|column| parts.iter().any(|part| part.column == column.name));
            if let (true, Some(at), 1) = (is_alone, named.iter().next(), named.len()) {
                single.push((*at, predicate(filter)?));
            }
        }
        Ok(Some(Self { parts, whole: predicate(all)?, single }))
    }

    /// Returns the files that may hold rows that fulfil the conditions.
    pub(crate) fn files<F: PlannableFile>(&self, files: Vec<F>) -> Vec<F> {
        let range = |part: &PartColumn, file: &F| -> PartBounds {
            let stats = file.stats(part.id);
            let of = |bound: Option<&[u8]>| bound_of(bound?, &part.names).and_then(|value| converted(value, &part.to));
            let nulls = stats.and_then(|s| s.null_count).filter(|nulls| Some(*nulls) == file.rows());
            PartBounds { low: of(stats.and_then(|s| s.lower_bound)), high: of(stats.and_then(|s| s.upper_bound)), nulls }
        };
        let ranges = self.parts.iter().map(|part| (part.clone(), files.iter().map(|file| range(part, file)).collect()));
        match self.whole.prune(&ContainerBounds { all: ranges.collect(), containers: files.len() }) {
            Ok(keep) => files.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| file).collect(),
            Err(_) => files,
        }
    }

    /// Returns the positions in a file of the rows that cannot fulfil the conditions, by the file's footer.
    pub(crate) fn left_out(&self, footer: &ParquetMetaData) -> RoaringTreemap {
        let mut gone = RoaringTreemap::new();
        let columns = variant_columns(footer.file_metadata().schema_descr());
        let found: Vec<Option<(&VariantColumn, &ShreddedField)>> = self.parts.iter().map(|part| part.in_file(&columns)).collect();
        if found.iter().all(Option::is_none) {
            return gone;
        }
        let groups = footer.row_groups();
        let ranges = self.parts.iter().zip(&found).map(|(part, found)| {
            let range =
                |group: usize| found.map_or_else(PartBounds::default, |(_, own)| chunk_range(footer, group, own, &part.to));
            (part.clone(), (0..groups.len()).map(range).collect())
        });
        let keep = self.whole.prune(&ContainerBounds { all: ranges.collect(), containers: groups.len() });
        let keep = keep.unwrap_or_else(|_| vec![true; groups.len()]);
        let mut start = 0;
        for (at, group) in groups.iter().enumerate() {
            let rows = group.num_rows().unsigned_abs();
            match keep[at] {
                false => drop(gone.insert_range(start..start + rows)),
                true => {
                    for (part, condition) in &self.single {
                        if let Some((_, own)) = found[*part] {
                            pages_left_out(footer, at, own, &self.parts[*part], condition, start, &mut gone);
                        }
                    }
                }
            }
            start += rows;
        }
        gone
    }
}

/// Returns the part of a variant that an expression takes, if it can stand for a column.
fn part(expr: &Expr, schema: &Schema) -> Option<PartColumn> {
    let (column, Extract { path, to, .. }) = extraction_of(expr)?;
    let field = schema.field_with_name(&column.name).ok()?;
    if !is_variant(field.data_type()) || to.is_nested() {
        return None;
    }
    let names = path.names()?.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let text = format!("{}\u{1f}{names:?}\u{1f}{to}", column.name);
    Some(PartColumn { column: text, id: field_id(field)?, names, to })
}

impl PartColumn {
    /// Finds the part among the variants of a file. Returns `None` if the file has no typed column for it.
    fn in_file<'a>(&self, columns: &'a [VariantColumn]) -> Option<(&'a VariantColumn, &'a ShreddedField)> {
        let column = columns.iter().find(|column| column.id == Some(self.id))?;
        let part = column.parts.iter().find(|part| part.path == self.names)?;
        part.typed.is_some().then_some((column, part))
    }
}

/// The bounds of parts in several files, row groups or pages, which DataFusion calls containers.
struct ContainerBounds {
    /// The parts, each with its bounds by container.
    all: Vec<(PartColumn, Vec<PartBounds>)>,
    /// Number of containers.
    containers: usize,
}

impl ContainerBounds {
    /// Returns one bound of a column in each container, null where it is unknown.
    fn values(&self, column: &Column, pick: impl Fn(&PartBounds) -> Option<&ArrayRef>) -> Option<ArrayRef> {
        let (part, ranges) = self.all.iter().find(|(part, _)| part.column == column.name)?;
        let null = new_null_array(&part.to, 1);
        let values: Vec<&dyn arrow::array::Array> =
            ranges.iter().map(|range| pick(range).map_or(null.as_ref(), |value| value.as_ref())).collect();
        if values.is_empty() { None } else { concat(&values).ok() }
    }
}

impl PruningStatistics for ContainerBounds {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |range| range.low.as_ref())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |range| range.high.as_ref())
    }

    fn num_containers(&self) -> usize {
        self.containers
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let (_, ranges) = self.all.iter().find(|(part, _)| part.column == column.name)?;
        Some(Arc::new(ranges.iter().map(|range| range.nulls).collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = |at: usize| self.all.iter().find_map(|(_, ranges)| ranges[at].nulls);
        Some(Arc::new((0..self.containers).map(rows).collect::<UInt64Array>()))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// Returns the bound of a part within the bound of a variant.
///
/// Spec: "Bound serialization" (Appendix D).
fn bound_of<'a>(bytes: &'a [u8], names: &[String]) -> Option<Variant<'a>> {
    match variant_of_bound(bytes)?.get() {
        VariantValue::Object(bounds) => bounds.get(&part_path(names)),
        _ => None,
    }
}

/// Converts a bound to another type. Returns `None` if values have another order in that type.
fn in_type(value: &ArrayRef, to: &DataType) -> Option<ArrayRef> {
    let from = value.data_type();
    let same_order = match (from, to) {
        (from, to) if from.is_numeric() => to.is_numeric(),
        (from, to) if from.is_string() => to.is_string(),
        (DataType::Timestamp(_, a), DataType::Timestamp(_, b)) => a.is_some() == b.is_some(),
        (from, to) => from == to,
    };
    same_order.then(|| cast_values(value, to, true).ok())?.filter(|value| value.null_count() == 0)
}

/// Converts the bound of a part to another type, or returns `None`.
fn converted(value: Variant<'_>, to: &DataType) -> Option<ArrayRef> {
    in_type(&natural(value)?, to)
}

/// Returns true if the typed column of a part has all of its values in a row group.
fn is_whole(footer: &ParquetMetaData, group: usize, part: &ShreddedField) -> bool {
    part.value.is_none_or(|value| only_nulls(footer.row_group(group).column(value)))
}

/// Returns the bounds of a part in a row group, by the footer.
fn chunk_range(footer: &ParquetMetaData, group: usize, part: &ShreddedField, to: &DataType) -> PartBounds {
    let Some(typed) = part.typed.filter(|_| is_whole(footer, group, part)) else { return PartBounds::default() };
    let chunk = footer.row_group(group).column(typed);
    let (Some(ty), Some(statistics)) = (part_type(chunk.column_descr()), chunk.statistics()) else {
        return PartBounds::default();
    };
    range(&ty, statistics.physical_type(), statistics.min_bytes_opt(), statistics.max_bytes_opt(), to)
}

/// Returns the bounds that the bytes of two statistics stand for.
///
/// Footers do not count NaN, which is greater than every number. So floats have no upper bound.
fn range(ty: &PrimitiveType, physical: Physical, low: Option<&[u8]>, high: Option<&[u8]>, to: &DataType) -> PartBounds {
    let is_float = matches!(ty, PrimitiveType::Float | PrimitiveType::Double);
    let value = |bytes: Option<&[u8]>| {
        let own = arrow_type(&ty.clone().into()).ok()?;
        in_type(&literal_array(&statistic(ty, physical, bytes?)?, &own)?, to)
    };
    PartBounds { low: value(low), high: value(high.filter(|_| !is_float)), nulls: None }
}

/// Adds the rows of pages that cannot fulfil a condition to `gone`.
///
/// `start` is the position in the file of the row group's first row.
fn pages_left_out(
    footer: &ParquetMetaData,
    group: usize,
    part: &ShreddedField,
    about: &PartColumn,
    condition: &PruningPredicate,
    start: u64,
    gone: &mut RoaringTreemap,
) {
    let Some(typed) = part.typed.filter(|_| is_whole(footer, group, part)) else { return };
    let index = footer.column_index().and_then(|groups| groups.get(group)?.get(typed));
    let pages = footer.offset_index().and_then(|groups| groups.get(group)?.get(typed)).map(|pages| pages.page_locations());
    let chunk = footer.row_group(group).column(typed);
    let (Some(index), Some(pages), Some(ty)) = (index, pages, part_type(chunk.column_descr())) else { return };
    let physical = chunk.column_type();
    let ranges = (0..pages.len()).map(|page| {
        let (low, high) = ends(index, page);
        range(&ty, physical, low.as_deref(), high.as_deref(), &about.to)
    });
    let ranges = ContainerBounds { all: vec![(about.clone(), ranges.collect())], containers: pages.len() };
    let Ok(keep) = condition.prune(&ranges) else { return };
    let rows = footer.row_group(group).num_rows();
    for (page, keep) in keep.into_iter().enumerate() {
        let end = pages.get(page + 1).map_or(rows, |next| next.first_row_index);
        if !keep {
            gone.insert_range(start + pages[page].first_row_index.unsigned_abs()..start + end.unsigned_abs());
        }
    }
}

/// Returns the bounds of a page, as little-endian bytes.
fn ends(index: &ColumnIndexMetaData, page: usize) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    use ColumnIndexMetaData as I;
    macro_rules! number {
        ($index:expr) => {
            ($index.min_value(page).map(|v| v.to_le_bytes().to_vec()), $index.max_value(page).map(|v| v.to_le_bytes().to_vec()))
        };
    }
    match index {
        I::INT32(index) => number!(index),
        I::INT64(index) => number!(index),
        I::FLOAT(index) => number!(index),
        I::DOUBLE(index) => number!(index),
        I::BOOLEAN(index) => {
            (index.min_value(page).map(|v| vec![u8::from(*v)]), index.max_value(page).map(|v| vec![u8::from(*v)]))
        }
        I::BYTE_ARRAY(index) | I::FIXED_LEN_BYTE_ARRAY(index) => {
            (index.min_value(page).map(<[u8]>::to_vec), index.max_value(page).map(<[u8]>::to_vec))
        }
        _ => (None, None),
    }
}
