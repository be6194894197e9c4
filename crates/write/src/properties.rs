//! The Parquet writer of rewrites, set up as the table's `write.parquet.*` properties say.

use std::collections::HashMap;

use esker_table::properties::{
    BLOOM_ENABLED, BLOOM_FPP, Codec, DICT_BYTES, PAGE_BYTES, PAGE_ROWS, PAGE_VERSION, ROW_GROUP_BYTES, STATISTICS_ENABLED,
    compression,
};
use iceberg::spec::TableMetadata;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

/// The writer's properties for a table, and the size of its row groups.
pub(crate) fn properties(metadata: &TableMetadata) -> (WriterProperties, usize) {
    let table = metadata.properties();
    let version = if PAGE_VERSION.of(table) == 2 { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 };
    let (codec, level) = compression(table);
    let mut builder = WriterProperties::builder()
        .set_writer_version(version)
        .set_compression(codec_of(codec, level))
        // Row groups are cut by whoever writes them.
        .set_max_row_group_bytes(None)
        .set_max_row_group_row_count(None)
        .set_data_page_size_limit(PAGE_BYTES.of(table))
        .set_data_page_row_count_limit(PAGE_ROWS.of(table))
        .set_dictionary_page_size_limit(DICT_BYTES.of(table));
    let schema = metadata.current_schema();
    let path = |name: &str| schema.field_by_name(name).map(|_| ColumnPath::new(name.split('.').map(str::to_owned).collect()));
    let shares: HashMap<&str, f64> = BLOOM_FPP.by_column(table).collect();
    for (name, _) in BLOOM_ENABLED.by_column(table).filter(|(_, enabled)| *enabled) {
        let Some(column) = path(name) else { continue };
        builder = builder.set_column_bloom_filter_enabled(column.clone(), true);
        if let Some(share) = shares.get(name) {
            builder = builder.set_column_bloom_filter_fpp(column, *share);
        }
    }
    for (column, enabled) in STATISTICS_ENABLED.by_column(table) {
        let Some(column) = path(column) else { continue };
        let enabled = if enabled { EnabledStatistics::Page } else { EnabledStatistics::None };
        builder = builder.set_column_statistics_enabled(column, enabled);
    }
    (builder.build(), ROW_GROUP_BYTES.of(table))
}

/// A level that is set is one that the codec has.
fn codec_of(codec: Codec, level: Option<i32>) -> Compression {
    let unsigned = |default: u32| level.and_then(|level| u32::try_from(level).ok()).unwrap_or(default);
    match codec {
        Codec::Zstd => Compression::ZSTD(ZstdLevel::try_new(level.unwrap_or(3)).unwrap_or_default()),
        Codec::Gzip => Compression::GZIP(GzipLevel::try_new(unsigned(6)).unwrap_or_default()),
        Codec::Brotli => Compression::BROTLI(BrotliLevel::try_new(unsigned(1)).unwrap_or_default()),
        Codec::Snappy => Compression::SNAPPY,
        Codec::Lz4 => Compression::LZ4_RAW,
        Codec::Uncompressed => Compression::UNCOMPRESSED,
    }
}
