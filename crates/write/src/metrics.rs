//! A data file's manifest entry from its footer, with the metrics that the table's properties ask for.

use std::collections::HashMap;

use esker_table::properties::{METRICS_COLUMN, METRICS_COLUMNS, METRICS_DEFAULT, MetricsMode as Mode};
use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, Datum, PrimitiveLiteral, PrimitiveType, Schema, TableMetadata, Type,
};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

/// The modes of a table's columns (`write.metadata.metrics.*`).
#[derive(Debug)]
pub(crate) struct Modes {
    default: Mode,
    by_id: HashMap<i32, Mode>,
}

impl Modes {
    pub(crate) fn new(metadata: &TableMetadata) -> Self {
        let (schema, properties) = (metadata.current_schema(), metadata.properties());
        let default = METRICS_DEFAULT.set(properties);
        let mut by_id = HashMap::new();
        if default.is_none() {
            let beyond = schema.as_struct().fields().iter().skip(METRICS_COLUMNS.of(properties));
            by_id.extend(beyond.map(|field| (field.id, Mode::None)));
        }
        for field in &metadata.default_sort_order().fields {
            // A sorted column prunes best of all.
            if matches!(default.or(by_id.get(&field.source_id).copied()), Some(Mode::None | Mode::Counts)) {
                by_id.insert(field.source_id, Mode::Truncate(16));
            }
        }
        for (column, mode) in METRICS_COLUMN.by_column(properties) {
            if let Some(field) = schema.field_by_name(column) {
                by_id.insert(field.id, mode);
            }
        }
        Self { default: METRICS_DEFAULT.of(properties), by_id }
    }

    fn of(&self, id: i32) -> Mode {
        self.by_id.get(&id).copied().unwrap_or(self.default)
    }
}

/// NaNs in float columns by field id; none for a column of which some were not counted.
pub type NanCounts = HashMap<i32, Option<u64>>;

/// The entry of a file, all but its partition.
pub(crate) fn data_file(
    path: &str,
    bytes: u64,
    footer: &ParquetMetaData,
    schema: &Schema,
    modes: &Modes,
    nans: &NanCounts,
) -> DataFileBuilder {
    let mut sizes: HashMap<i32, u64> = HashMap::new();
    let mut values: HashMap<i32, u64> = HashMap::new();
    let mut nulls: HashMap<i32, Option<u64>> = HashMap::new();
    let mut bounds: HashMap<i32, Option<(Datum, Datum)>> = HashMap::new();
    for chunk in footer.row_groups().iter().flat_map(|g| g.columns()) {
        let Some(id) = leaf_id(chunk.column_descr()) else { continue };
        let mode = modes.of(id);
        if mode == Mode::None {
            continue;
        }
        *sizes.entry(id).or_default() += chunk.compressed_size().unsigned_abs();
        if chunk.column_descr().max_rep_level() > 0 {
            // Within lists and maps, values are not rows.
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
        let found = statistics.and_then(|s| Some((datum(ty, s, s.min_bytes_opt()?)?, datum(ty, s, s.max_bytes_opt()?)?)));
        match (bounds.get_mut(&id), found) {
            (_, None) if all_null => {}
            // One row group without bounds leaves the file without.
            (_, None) => drop(bounds.insert(id, None)),
            (None, Some(found)) => drop(bounds.insert(id, Some(found))),
            (Some(None), _) => {}
            (Some(Some((low, high))), Some((l, h))) => {
                if l.partial_cmp(low).is_some_and(std::cmp::Ordering::is_lt) {
                    *low = l;
                }
                if h.partial_cmp(high).is_some_and(std::cmp::Ordering::is_gt) {
                    *high = h;
                }
            }
        }
    }
    let (mut lower, mut upper) = (HashMap::new(), HashMap::new());
    for (id, (low, high)) in bounds.into_iter().filter_map(|(id, b)| Some((id, b?))) {
        let width = match modes.of(id) {
            Mode::Truncate(width) => Some(width),
            _ => None,
        };
        lower.insert(id, shorten(&low, width, false).unwrap_or(low));
        if let Some(high) = shorten(&high, width, true) {
            upper.insert(id, high);
        }
    }
    let kept = |id: &i32| modes.of(*id) != Mode::None;
    let mut builder = DataFileBuilder::default();
    builder
        .content(DataContentType::Data)
        .file_path(path.to_owned())
        .file_format(DataFileFormat::Parquet)
        .record_count(footer.file_metadata().num_rows().unsigned_abs())
        .file_size_in_bytes(bytes)
        .column_sizes(sizes)
        .value_counts(values)
        .null_value_counts(nulls.into_iter().filter_map(|(id, n)| Some((id, n?))).collect())
        .nan_value_counts(nans.iter().filter(|(id, _)| kept(id)).filter_map(|(id, n)| Some((*id, (*n)?))).collect())
        .lower_bounds(lower)
        .upper_bounds(upper)
        .split_offsets(Some(footer.row_groups().iter().filter_map(start).collect()));
    builder
}

/// Where a row group begins: at its first page.
fn start(group: &parquet::file::metadata::RowGroupMetaData) -> Option<i64> {
    group.columns().iter().map(|c| c.dictionary_page_offset().unwrap_or_else(|| c.data_page_offset())).min()
}

/// The field id of a leaf column.
pub(crate) fn leaf_id(column: &ColumnDescriptor) -> Option<i32> {
    let info = column.self_type().get_basic_info();
    info.has_id().then(|| info.id())
}

fn datum(ty: &PrimitiveType, statistics: &Statistics, bytes: &[u8]) -> Option<Datum> {
    match (ty, statistics) {
        (PrimitiveType::Decimal { .. }, Statistics::Int32(_)) => {
            let value = i128::from(i32::from_le_bytes(bytes.try_into().ok()?));
            Datum::try_from_bytes(&value.to_be_bytes(), ty.clone()).ok()
        }
        (PrimitiveType::Decimal { .. }, Statistics::Int64(_)) => {
            let value = i128::from(i64::from_le_bytes(bytes.try_into().ok()?));
            Datum::try_from_bytes(&value.to_be_bytes(), ty.clone()).ok()
        }
        (PrimitiveType::Long, Statistics::Int32(_)) => Some(Datum::long(i64::from(i32::from_le_bytes(bytes.try_into().ok()?)))),
        (PrimitiveType::Double, Statistics::Float(_)) => {
            Some(Datum::double(f64::from(f32::from_le_bytes(bytes.try_into().ok()?))))
        }
        _ => Datum::try_from_bytes(bytes, ty.clone()).ok(),
    }
}

/// A bound of at most `width` characters or bytes that still bounds; none where there is no such upper bound.
fn shorten(bound: &Datum, width: Option<usize>, up: bool) -> Option<Datum> {
    let Some(width) = width else { return Some(bound.clone()) };
    match bound.literal() {
        PrimitiveLiteral::String(text) if text.chars().count() > width => {
            let cut: String = text.chars().take(width).collect();
            if !up {
                return Some(Datum::string(cut));
            }
            let mut chars: Vec<char> = cut.chars().collect();
            while let Some(last) = chars.pop() {
                let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
                if let Some(next) = next {
                    chars.push(next);
                    return Some(Datum::string(chars.into_iter().collect::<String>()));
                }
            }
            None
        }
        PrimitiveLiteral::Binary(bytes) if *bound.data_type() == PrimitiveType::Binary && bytes.len() > width => {
            let mut cut = bytes[..width].to_vec();
            if !up {
                return Some(Datum::binary(cut));
            }
            while let Some(last) = cut.pop() {
                if last < u8::MAX {
                    cut.push(last + 1);
                    return Some(Datum::binary(cut));
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
        let text = |t: &str, up| shorten(&Datum::string(t), Some(3), up).map(|d| d.to_string());
        assert_eq!(text("abc", true), Some("\"abc\"".to_owned()));
        assert_eq!(text("abcd", false), Some("\"abc\"".to_owned()));
        assert_eq!(text("abcd", true), Some("\"abd\"".to_owned()));
        assert_eq!(text("ab\u{10ffff}d", true), Some("\"ac\"".to_owned()));
        assert_eq!(text("\u{10ffff}\u{10ffff}\u{10ffff}d", true), None);
        let bytes = shorten(&Datum::binary(vec![1, 255, 255, 9]), Some(3), true).expect("a bound");
        assert_eq!(bytes, Datum::binary(vec![2]));
    }
}
