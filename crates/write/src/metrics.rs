//! Derives a data file's manifest entry from its footer, with the metrics that the table's properties ask for.
//!
//! [`ColumnMetricsModes`] resolves the properties `write.metadata.metrics.*` per column; [`data_file`] sums sizes and counts over
//! row groups and merges bounds. A metric that any row group lacks is left out. Spec: "Data File Fields", "Field-level Metrics and
//! Statistics", Appendix D "Bound serialization".

use std::collections::HashMap;

use esker_format::{
    BoundBytes, DataContentType, DataFile, DataFileFormat, IdMap, PrimitiveType, Schema, TableMetadata, Type, Value,
};
use esker_read::{BoundingBox, statistic, variant_columns};
use esker_table::properties::{METRICS_COLUMN, METRICS_COLUMNS, METRICS_DEFAULT, MetricsMode as Mode};
use esker_table::with_bounds;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

use crate::variant_bounds;

/// The metrics modes of a table's columns (`write.metadata.metrics.*`).
#[derive(Debug)]
pub(crate) struct ColumnMetricsModes {
    default: Mode,
    by_id: HashMap<i32, Mode>,
}

impl ColumnMetricsModes {
    /// Resolves the modes of the current schema's columns.
    pub(crate) fn new(metadata: &TableMetadata) -> Self {
        let (schema, properties) = (metadata.current_schema(), &metadata.properties);
        let default = METRICS_DEFAULT.get_if_set(properties);
        let mut by_id = HashMap::new();
        if default.is_none() {
            let beyond = schema.as_struct().fields().iter().skip(METRICS_COLUMNS.of(properties));
            by_id.extend(beyond.map(|field| (field.id, Mode::None)));
        }
        for id in metadata.default_sort_order().fields.iter().filter_map(|field| field.source_id) {
            // Bounds of a sorted column prune best, so it has bounds unless a property of the column itself says otherwise.
            if matches!(default.or(by_id.get(&id).copied()), Some(Mode::None | Mode::Counts)) {
                by_id.insert(id, Mode::Truncate(16));
            }
        }
        for (column, mode) in METRICS_COLUMN.by_column(properties) {
            if let Some(field) = schema.field_by_name(column) {
                by_id.insert(field.id, mode);
            }
        }
        Self { default: METRICS_DEFAULT.of(properties), by_id }
    }

    /// Returns the mode of a column.
    fn of(&self, id: i32) -> Mode {
        self.by_id.get(&id).copied().unwrap_or(self.default)
    }
}

/// The numbers of NaNs in float columns, by field id; none for a column with uncounted rows.
pub type NanCounts = HashMap<i32, Option<u64>>;

/// Returns the manifest entry of a data file of `bytes` bytes, without its partition.
///
/// Spec: "Data File Fields".
pub(crate) fn data_file(
    path: &str,
    bytes: u64,
    footer: &ParquetMetaData,
    schema: &Schema,
    modes: &ColumnMetricsModes,
    nans: &NanCounts,
) -> DataFile {
    let mut sizes: HashMap<i32, u64> = HashMap::new();
    let mut values: HashMap<i32, u64> = HashMap::new();
    let mut nulls: HashMap<i32, Option<u64>> = HashMap::new();
    let mut bounds: HashMap<i32, Option<(Value, Value)>> = HashMap::new();
    let mut boxes: HashMap<i32, Option<BoundingBox>> = HashMap::new();
    for chunk in footer.row_groups().iter().flat_map(|g| g.columns()) {
        let Some(id) = leaf_id(chunk.column_descr()) else { continue };
        let mode = modes.of(id);
        if mode == Mode::None {
            continue;
        }
        *sizes.entry(id).or_default() += chunk.compressed_size().unsigned_abs();
        if chunk.column_descr().max_rep_level() > 0 {
            // In lists and maps, the number of values is not the number of rows.
            continue;
        }
        *values.entry(id).or_default() += chunk.num_values().unsigned_abs();
        let statistics = chunk.statistics();
        let count = statistics.and_then(Statistics::null_count_opt);
        let known = nulls.entry(id).or_insert(Some(0));
        *known = known.zip(count).map(|(a, b)| a + b);
        if mode == Mode::Counts {
            continue;
        }
        let Some(Type::Primitive(ty)) = schema.field_by_id(id).map(|f| f.field_type.as_ref()) else { continue };
        let all_null = count == Some(chunk.num_values().unsigned_abs());
        if matches!(ty, PrimitiveType::Geometry { .. } | PrimitiveType::Geography { .. }) {
            if !all_null {
                let found = BoundingBox::of(chunk);
                // If one row group has no known box, the file has none.
                let known = boxes.entry(id).or_insert(found);
                *known = known.zip(found).map(|(a, b)| a.with(b));
            }
            continue;
        }
        let found = statistics.and_then(|s| {
            Some((statistic(ty, s.physical_type(), s.min_bytes_opt()?)?, statistic(ty, s.physical_type(), s.max_bytes_opt()?)?))
        });
        match (bounds.get_mut(&id), found) {
            (_, None) if all_null => {}
            // If one row group has no bounds, the file has none.
            (_, None) => drop(bounds.insert(id, None)),
            (None, Some(found)) => drop(bounds.insert(id, Some(found))),
            (Some(None), _) => {}
            (Some(Some((low, high))), Some((l, h))) => {
                if l < *low {
                    *low = l;
                }
                if h > *high {
                    *high = h;
                }
            }
        }
    }
    let (mut lower, mut upper) = (Vec::new(), Vec::new());
    for (id, (low, high)) in bounds.into_iter().filter_map(|(id, b)| Some((id, b?))) {
        let width = match modes.of(id) {
            Mode::Truncate(width) => Some(width),
            _ => None,
        };
        lower.extend(
            truncate_bound(&low, width, BoundSide::Lower).or(Some(low)).and_then(|low| Some((id, BoundBytes::of(&low)?))),
        );
        upper.extend(truncate_bound(&high, width, BoundSide::Upper).and_then(|high| Some((id, BoundBytes::of(&high)?))));
    }
    for (id, (low, high)) in boxes.into_iter().filter_map(|(id, found)| Some((id, found?.bounds()))) {
        lower.push((id, low));
        upper.push((id, high));
    }
    for column in variant_columns(footer.file_metadata().schema_descr()) {
        let Some((id, mode)) = column.id.map(|id| (id, modes.of(id))).filter(|(_, mode)| *mode != Mode::None) else { continue };
        let leaf = |leaf: usize| footer.row_groups().iter().map(move |group| group.column(leaf));
        sizes.insert(id, column.leaves.clone().flat_map(leaf).map(|chunk| chunk.compressed_size().unsigned_abs()).sum());
        values.insert(id, leaf(column.metadata).map(|chunk| chunk.num_values().unsigned_abs()).sum());
        let null = |chunk: &ColumnChunkMetaData| chunk.statistics().and_then(Statistics::null_count_opt);
        nulls.insert(id, leaf(column.metadata).map(null).sum());
        if mode != Mode::Counts
            && let Some((low, high)) = variant_bounds::bounds(footer, &column)
        {
            lower.push((id, low));
            upper.push((id, high));
        }
    }
    let known = |counts: HashMap<i32, Option<u64>>| count_map(counts.into_iter().filter_map(|(id, n)| Some((id, n?))));
    let rows = footer.file_metadata().num_rows();
    let file = DataFile {
        column_sizes: count_map(sizes),
        value_counts: count_map(values),
        null_value_counts: known(nulls),
        nan_value_counts: known(nans.iter().filter(|(id, _)| modes.of(**id) != Mode::None).map(|(id, n)| (*id, *n)).collect()),
        split_offsets: Some(footer.row_groups().iter().filter_map(row_group_offset).collect()),
        ..DataFile::new(DataContentType::Data, path, DataFileFormat::Parquet, rows, to_i64(bytes))
    };
    with_bounds(file, lower, upper)
}

/// Converts a count to a signed 64-bit number, as manifests hold it.
fn to_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Converts counts by field id to the map that manifests hold; none if there are no counts.
fn count_map(counts: impl IntoIterator<Item = (i32, u64)>) -> Option<IdMap<i64>> {
    let counts: IdMap<i64> = counts.into_iter().map(|(id, n)| (id, to_i64(n))).collect();
    (!counts.is_empty()).then_some(counts)
}

/// Returns the offset of a row group in its file: that of its first page.
fn row_group_offset(group: &parquet::file::metadata::RowGroupMetaData) -> Option<i64> {
    group.columns().iter().map(|c| c.dictionary_page_offset().unwrap_or_else(|| c.data_page_offset())).min()
}

/// Returns the field id of a leaf column.
pub(crate) fn leaf_id(column: &ColumnDescriptor) -> Option<i32> {
    let info = column.self_type().get_basic_info();
    info.has_id().then(|| info.id())
}

/// The side on which a bound limits values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BoundSide {
    Lower,
    Upper,
}

/// Cuts a bound to at most `width` characters or bytes, so that it is still a bound of the same values.
///
/// An upper bound is incremented after the cut; none if that is not possible.
fn truncate_bound(bound: &Value, width: Option<usize>, side: BoundSide) -> Option<Value> {
    let Some(width) = width else { return Some(bound.clone()) };
    match bound {
        Value::String(text) if text.chars().count() > width => {
            let mut chars: Vec<char> = text.chars().take(width).collect();
            if side == BoundSide::Lower {
                return Some(Value::String(chars.into_iter().collect()));
            }
            while let Some(last) = chars.pop() {
                let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
                if let Some(next) = next {
                    chars.push(next);
                    return Some(Value::String(chars.into_iter().collect()));
                }
            }
            None
        }
        Value::Binary(bytes) if bytes.len() > width => {
            let mut cut = bytes[..width].to_vec();
            if side == BoundSide::Lower {
                return Some(Value::Binary(cut.into()));
            }
            while let Some(last) = cut.pop() {
                if last < u8::MAX {
                    cut.push(last + 1);
                    return Some(Value::Binary(cut.into()));
                }
            }
            None
        }
        _ => Some(bound.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_bounds_are_cut_so_that_they_still_bound() {
        let text = |text: &str| Value::String(text.into());
        let cut = |t: &str, side| truncate_bound(&text(t), Some(3), side);
        assert_eq!(cut("abc", BoundSide::Upper), Some(text("abc")));
        assert_eq!(cut("abcd", BoundSide::Lower), Some(text("abc")));
        assert_eq!(cut("abcd", BoundSide::Upper), Some(text("abd")));
        assert_eq!(cut("ab\u{10ffff}d", BoundSide::Upper), Some(text("ac")));
        assert_eq!(cut("\u{10ffff}\u{10ffff}\u{10ffff}d", BoundSide::Upper), None);
        let bytes = truncate_bound(&Value::Binary([1, 255, 255, 9].into()), Some(3), BoundSide::Upper);
        assert_eq!(bytes, Some(Value::Binary([2].into())));
        let fixed = Value::Fixed([1, 2, 3, 4].into());
        assert_eq!(truncate_bound(&fixed, Some(3), BoundSide::Upper), Some(fixed));
    }

    #[test]
    fn statistics_are_read_as_the_column_has_its_values_now() {
        let decimal = PrimitiveType::Decimal { precision: 9, scale: 2 };
        let int = Statistics::int32(Some(0), Some(0), None, None, false);
        let float = Statistics::float(Some(0.0), Some(0.0), None, None, false);
        let of = |ty, statistics: &Statistics, bytes: &[u8]| statistic(&ty, statistics.physical_type(), bytes);
        let unscaled = |unscaled| Some(Value::Decimal { unscaled, scale: 2 });
        assert_eq!(of(decimal, &int, &(-250_i32).to_le_bytes()), unscaled(-250));
        assert_eq!(of(PrimitiveType::Long, &int, &7_i32.to_le_bytes()), Some(Value::Long(7)));
        assert_eq!(of(PrimitiveType::Timestamp, &int, &1_i32.to_le_bytes()), Some(Value::Timestamp(86_400_000_000)));
        assert_eq!(of(PrimitiveType::Double, &float, &0.5_f32.to_le_bytes()), Some(Value::Double(0.5)));
        assert_eq!(of(PrimitiveType::Float, &float, &f32::NAN.to_le_bytes()), None);
    }
}
