//! Removes from footers what can't be relied on to skip rows.
//!
//! Pruning takes a footer literally: a bound is a bound in the order that the specification defines today, and a missing null
//! count means that there are no nulls. Some writers, mostly older ones, mean something else. So untrustworthy bounds, null
//! counts, page bounds and Bloom filters are removed once, where a footer is read, for all of its users. Spec: Parquet,
//! `ColumnOrder`, `Statistics`.

use std::collections::HashMap;

use parquet::basic::{ColumnOrder, ConvertedType, LogicalType, SortOrder, Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataBuilder, RowGroupMetaData};
use parquet::file::page_index::column_index::{ColumnIndexMetaData, PrimitiveColumnIndex};
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::schema::types::ColumnDescriptor;

/// Returns the footer without untrustworthy statistics, page bounds and Bloom filters.
pub(crate) fn trusted(footer: ParquetMetaData) -> parquet::errors::Result<ParquetMetaData> {
    let file = footer.file_metadata();
    let order = |i: usize| file.column_orders().and_then(|orders| orders.get(i).copied()).unwrap_or(ColumnOrder::UNDEFINED);
    let mut corrected: HashMap<(usize, usize), ColumnChunkMetaData> = HashMap::new();
    for (g, group) in footer.row_groups().iter().enumerate() {
        for (i, column) in group.columns().iter().enumerate() {
            corrected.extend(corrected_chunk(column, order(i))?.map(|other| ((g, i), other)));
        }
    }
    let columns = file.schema_descr().columns();
    let holds = |i: usize, index: &ColumnIndexMetaData| columns.get(i).is_some_and(|c| page_bounds_hold(index, c, order(i)));
    let indexes = footer.column_index().map_or(&[][..], |groups| groups);
    let pages_hold = indexes.iter().all(|group| group.iter().enumerate().all(|(i, index)| holds(i, index)));
    if corrected.is_empty() && pages_hold {
        return Ok(footer);
    }
    let group = |(g, group): (usize, &RowGroupMetaData)| {
        let columns = group.columns().iter().enumerate();
        let columns = columns.map(|(i, column)| corrected.get(&(g, i)).unwrap_or(column).clone()).collect();
        group.clone().into_builder().set_column_metadata(columns).build()
    };
    let groups = footer.row_groups().iter().enumerate().map(group).collect::<parquet::errors::Result<_>>()?;
    let pages = |group: &Vec<ColumnIndexMetaData>| {
        let column = |(i, index)| if holds(i, index) { index.clone() } else { ColumnIndexMetaData::NONE };
        group.iter().enumerate().map(column).collect()
    };
    Ok(ParquetMetaDataBuilder::new(file.clone())
        .set_row_groups(groups)
        .set_column_index(footer.column_index().map(|groups| groups.iter().map(pages).collect()))
        .set_offset_index(footer.offset_index().cloned())
        .build())
}

/// The result of checking the statistics of a column chunk.
enum Checked {
    /// The statistics are right as they are, or there are none.
    Sound,
    /// Nothing of the statistics can be relied on.
    Unknown,
    /// The statistics must be replaced by these, with corrected bounds or without bounds.
    Corrected(Statistics),
}

/// Returns a column chunk with corrected statistics, and without a Bloom filter that can't be relied on.
///
/// None if the chunk needs no change.
fn corrected_chunk(chunk: &ColumnChunkMetaData, order: ColumnOrder) -> parquet::errors::Result<Option<ColumnChunkMetaData>> {
    let descriptor = chunk.column_descr();
    let values = chunk.num_values().unsigned_abs();
    let checked = chunk.statistics().map_or(Checked::Sound, |statistics| checked(statistics, values, descriptor, order));
    let bloom = chunk.bloom_filter_offset().is_some() && !bloom_filter_holds(descriptor);
    if matches!(checked, Checked::Sound) && !bloom {
        return Ok(None);
    }
    let mut built = chunk.clone().into_builder();
    built = match checked {
        Checked::Sound => built,
        Checked::Unknown => built.clear_statistics(),
        Checked::Corrected(other) => built.set_statistics(other),
    };
    if bloom {
        built = built.set_bloom_filter_offset(None).set_bloom_filter_length(None);
    }
    Ok(Some(built.build()?))
}

/// Checks the statistics of a column chunk. `values` is its number of values, nulls included.
fn checked(statistics: &Statistics, values: u64, descriptor: &ColumnDescriptor, order: ColumnOrder) -> Checked {
    let bounded = statistics.min_bytes_opt().is_some() || statistics.max_bytes_opt().is_some();
    match statistics.null_count_opt() {
        // A missing null count does not mean that there are no nulls.
        None if descriptor.max_def_level() > 0 => Checked::Unknown,
        Some(nulls) if nulls > values => Checked::Unknown,
        // All values are null, and yet there are bounds: one of the two is wrong.
        Some(nulls) if nulls == values && values > 0 && bounded => Checked::Unknown,
        _ if bounded => corrected_bounds(statistics, descriptor, order).map_or(Checked::Sound, Checked::Corrected),
        _ => Checked::Sound,
    }
}

/// Checks that a writer computed the bounds of a column in the order that the column's type defines.
///
/// Deprecated statistics (`deprecated`) and files without column orders are trusted for numbers only.
fn has_type_order(descriptor: &ColumnDescriptor, order: ColumnOrder, deprecated: bool) -> bool {
    let bytes = matches!(descriptor.physical_type(), Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY);
    let number = !bytes && (descriptor.sort_order() == SortOrder::SIGNED || descriptor.physical_type() == Type::BOOLEAN);
    match (descriptor.sort_order(), order) {
        (SortOrder::UNDEFINED, _) | (_, ColumnOrder::UNKNOWN) => false,
        (_, ColumnOrder::TYPE_DEFINED_ORDER(_)) => number || !deprecated,
        (_, ColumnOrder::UNDEFINED) => number,
    }
}

/// Returns corrected statistics: with bounds that hold, or with none. None if the statistics are right as they are.
fn corrected_bounds(statistics: &Statistics, descriptor: &ColumnDescriptor, order: ColumnOrder) -> Option<Statistics> {
    let hold = has_type_order(descriptor, order, statistics.is_min_max_deprecated());
    let signed = descriptor.sort_order() == SortOrder::SIGNED;
    // None if the bounds hold, otherwise the statistics without bounds.
    macro_rules! unless {
        ($kind:ident, $s:expr, $holds:expr) => {
            match hold && $s.min_opt().zip($s.max_opt()).is_none_or($holds) {
                true => None,
                false => {
                    Some(Statistics::$kind(ValueStatistics::new(None, None, $s.distinct_count(), $s.null_count_opt(), false)))
                }
            }
        };
    }
    // The same for floats; bounds that hold also get the sign of zero that includes the other zero.
    macro_rules! floats {
        ($kind:ident, $s:expr) => {
            match unless!($kind, $s, |(min, max)| min <= max) {
                // The sign of a zero in a bound means nothing (Parquet, `ColumnOrder`).
                None if $s.min_opt().is_some_and(|v| *v == 0.0 && v.is_sign_positive())
                    || $s.max_opt().is_some_and(|v| *v == 0.0 && v.is_sign_negative()) =>
                {
                    let min = $s.min_opt().map(|v| if *v == 0.0 { -0.0 } else { *v });
                    let max = $s.max_opt().map(|v| if *v == 0.0 { 0.0 } else { *v });
                    Some(Statistics::$kind(ValueStatistics::new(min, max, $s.distinct_count(), $s.null_count_opt(), false)))
                }
                other => other,
            }
        };
    }
    match statistics {
        Statistics::Boolean(s) => unless!(Boolean, s, |(min, max)| min <= max),
        Statistics::Int32(s) => unless!(Int32, s, |(min, max)| !signed || min <= max),
        Statistics::Int64(s) => unless!(Int64, s, |(min, max)| !signed || min <= max),
        Statistics::Int96(s) => unless!(Int96, s, |_| true),
        Statistics::Float(s) => floats!(Float, s),
        Statistics::Double(s) => floats!(Double, s),
        Statistics::ByteArray(s) => unless!(ByteArray, s, |(min, max)| signed || min.data() <= max.data()),
        Statistics::FixedLenByteArray(s) => unless!(FixedLenByteArray, s, |(min, max)| signed || min.data() <= max.data()),
    }
}

/// Checks that the bounds of all pages of a column chunk can be relied on.
fn page_bounds_hold(index: &ColumnIndexMetaData, descriptor: &ColumnDescriptor, order: ColumnOrder) -> bool {
    fn all<T>(index: &PrimitiveColumnIndex<T>, holds: impl Fn(&T, &T) -> bool) -> bool {
        index
            .min_values_iter()
            .zip(index.max_values_iter())
            .all(|(min, max)| min.zip(max).is_none_or(|(min, max)| holds(min, max)))
    }
    let signed = descriptor.sort_order() == SortOrder::SIGNED;
    let zero = |v: f64, positive: bool| v == 0.0 && v.is_sign_positive() == positive;
    let floats = |min: f64, max: f64| min <= max && !zero(min, true) && !zero(max, false);
    matches!(index, ColumnIndexMetaData::NONE)
        || has_type_order(descriptor, order, false)
            && match index {
                ColumnIndexMetaData::INT32(pages) => all(pages, |min, max| !signed || min <= max),
                ColumnIndexMetaData::INT64(pages) => all(pages, |min, max| !signed || min <= max),
                ColumnIndexMetaData::FLOAT(pages) => all(pages, |min, max| floats(f64::from(*min), f64::from(*max))),
                ColumnIndexMetaData::DOUBLE(pages) => all(pages, |min, max| floats(*min, *max)),
                _ => true,
            }
}

/// Checks that a column's Bloom filter can be used for lookups.
///
/// That of a float column can't, because 0.0 equals -0.0 but has other bytes. That of a decimal column stored as bytes can't
/// either, because a lookup always hashes 16 bytes, whatever number of bytes the file has.
fn bloom_filter_holds(descriptor: &ColumnDescriptor) -> bool {
    let decimal = matches!(descriptor.logical_type_ref(), Some(LogicalType::Decimal { .. }))
        || descriptor.converted_type() == ConvertedType::DECIMAL;
    match descriptor.physical_type() {
        Type::FLOAT | Type::DOUBLE => false,
        Type::FIXED_LEN_BYTE_ARRAY | Type::BYTE_ARRAY => !decimal,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray};
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use parquet::data_type::ByteArray;
    use parquet::file::metadata::{FileMetaData, PageIndexPolicy, ParquetMetaDataReader};
    use parquet::file::properties::WriterProperties;

    use super::*;

    /// A footer of an optional int, an optional string and an optional double.
    fn footer() -> ParquetMetaData {
        let columns: Vec<(&str, ArrayRef, bool)> = vec![
            ("i", Arc::new(Int32Array::from(vec![Some(1), None, Some(3)])), true),
            ("s", Arc::new(StringArray::from(vec![Some("a"), Some("b"), None])), true),
            ("f", Arc::new(Float64Array::from(vec![Some(0.0), Some(1.0), None])), true),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).expect("a batch");
        let mut bytes = Vec::new();
        let properties = WriterProperties::builder().set_bloom_filter_enabled(true).build();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).expect("a writer");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
        reader.parse_and_finish(&Bytes::from(bytes)).expect("a footer")
    }

    fn footer_with(column: usize, statistics: Statistics) -> ParquetMetaData {
        let footer = footer();
        let group = footer.row_group(0);
        let mut columns = group.columns().to_vec();
        columns[column] = columns[column].clone().into_builder().set_statistics(statistics).build().expect("a chunk");
        let group = group.clone().into_builder().set_column_metadata(columns).build().expect("a row group");
        ParquetMetaDataBuilder::new(footer.file_metadata().clone()).set_row_groups(vec![group]).build()
    }

    fn trusted_statistics_of(footer: ParquetMetaData, column: usize) -> Option<Statistics> {
        trusted(footer).expect("a footer").row_group(0).column(column).statistics().cloned()
    }

    fn bounded(statistics: &Statistics) -> bool {
        statistics.min_bytes_opt().is_some() || statistics.max_bytes_opt().is_some()
    }

    #[test]
    fn a_sound_footer_stays_as_it_is() {
        let footer = footer();
        let checked = trusted(footer.clone()).expect("a footer");
        for (a, b) in footer.row_group(0).columns().iter().zip(checked.row_group(0).columns()) {
            assert_eq!(a.statistics(), b.statistics());
        }
        assert!(checked.column_index().expect("pages")[0].iter().all(|index| !matches!(index, ColumnIndexMetaData::NONE)));
        let blooms: Vec<bool> = checked.row_group(0).columns().iter().map(|c| c.bloom_filter_offset().is_some()).collect();
        assert_eq!(blooms, [true, true, false]);
    }

    #[test]
    fn a_missing_or_impossible_null_count_is_unknown() {
        for nulls in [None, Some(4)] {
            assert_eq!(trusted_statistics_of(footer_with(0, Statistics::int32(Some(1), Some(3), None, nulls, false)), 0), None);
        }
        // All three values are null, and yet there are bounds.
        assert_eq!(trusted_statistics_of(footer_with(0, Statistics::int32(Some(1), Some(3), None, Some(3), false)), 0), None);
        let all_null = Statistics::int32(None, None, None, Some(3), false);
        assert_eq!(trusted_statistics_of(footer_with(0, all_null.clone()), 0), Some(all_null));
    }

    #[test]
    fn bounds_in_another_order_bound_nothing() {
        let text = |old| Statistics::byte_array(Some(ByteArray::from("a")), Some(ByteArray::from("b")), None, Some(1), old);
        let kept = trusted_statistics_of(footer_with(1, text(true)), 1).expect("a null count");
        assert!(!bounded(&kept) && kept.null_count_opt() == Some(1), "{kept:?}");
        assert!(bounded(&trusted_statistics_of(footer_with(1, text(false)), 1).expect("statistics")));
        // Numbers have always been ordered by value.
        assert!(bounded(
            &trusted_statistics_of(footer_with(0, Statistics::int32(Some(1), Some(3), None, Some(1), true)), 0)
                .expect("statistics")
        ));
        // Inverted bounds are removed.
        assert!(!bounded(
            &trusted_statistics_of(footer_with(0, Statistics::int32(Some(3), Some(1), None, Some(1), false)), 0)
                .expect("statistics")
        ));
    }

    #[test]
    fn without_column_orders_only_numbers_have_bounds() {
        let footer = footer();
        let file = footer.file_metadata();
        let file = FileMetaData::new(file.version(), file.num_rows(), None, None, file.schema_descr_ptr(), None);
        let footer = ParquetMetaDataBuilder::new(file)
            .set_row_groups(footer.row_groups().to_vec())
            .set_column_index(footer.column_index().cloned())
            .set_offset_index(footer.offset_index().cloned())
            .build();
        let checked = trusted(footer).expect("a footer");
        let has: Vec<bool> = checked.row_group(0).columns().iter().map(|c| bounded(c.statistics().expect("some"))).collect();
        assert_eq!(has, [true, false, true]);
        let pages = &checked.column_index().expect("pages")[0];
        let none: Vec<bool> = pages.iter().map(|index| matches!(index, ColumnIndexMetaData::NONE)).collect();
        assert_eq!(none, [false, true, false]);
    }

    #[test]
    fn bounds_of_floats_leave_neither_zero_nor_nan_out() {
        let checked = |min, max| {
            trusted_statistics_of(footer_with(2, Statistics::double(min, max, None, Some(1), false)), 2).expect("statistics")
        };
        for (min, max) in [(f64::NAN, 1.0), (0.5, f64::NAN), (2.0, 1.0)] {
            assert!(!bounded(&checked(Some(min), Some(max))), "{min} {max}");
        }
        let zeros = checked(Some(0.0), Some(-0.0));
        let Statistics::Double(zeros) = &zeros else { panic!("{zeros:?}") };
        let signs = (zeros.min_opt().map(|v| v.is_sign_negative()), zeros.max_opt().map(|v| v.is_sign_negative()));
        assert_eq!(signs, (Some(true), Some(false)));
    }
}
