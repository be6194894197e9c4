//! Translates the table's `write.parquet.*` properties to settings of Parquet's writer.

use std::collections::HashMap;

use esker_format::TableMetadata;
use esker_table::properties::{
    BLOOM_ENABLED, BLOOM_FPP, DICT_BYTES, PAGE_BYTES, PAGE_ROWS, PAGE_VERSION, ParquetCodec, ROW_GROUP_BYTES, STATISTICS_ENABLED,
    compression,
};
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::{ColumnPath, SchemaDescriptor};

/// Returns the writer's settings for files with some columns, and the table's row group size in bytes.
pub(crate) fn properties(metadata: &TableMetadata, file: &SchemaDescriptor) -> (WriterProperties, usize) {
    let table = &metadata.properties;
    let version = if PAGE_VERSION.of(table) == 2 { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 };
    let (codec, level) = compression(table);
    let mut builder = WriterProperties::builder()
        .set_writer_version(version)
        .set_compression(codec_of(codec, level))
        // The caller ends row groups, not Parquet's writer.
        .set_max_row_group_bytes(None)
        .set_max_row_group_row_count(None)
        .set_data_page_size_limit(PAGE_BYTES.of(table))
        .set_data_page_row_count_limit(PAGE_ROWS.of(table))
        .set_dictionary_page_size_limit(DICT_BYTES.of(table));
    let schema = metadata.current_schema();
    let paths = paths(file);
    let path = |name: &str| schema.field_by_name(name).and_then(|field| paths.get(&field.id));
    let shares: HashMap<&str, f64> = BLOOM_FPP.by_column(table).collect();
    for (name, _) in BLOOM_ENABLED.by_column(table).filter(|(_, enabled)| *enabled) {
        let Some(column) = path(name).cloned() else { continue };
        builder = builder.set_column_bloom_filter_enabled(column.clone(), true);
        if let Some(share) = shares.get(name) {
            builder = builder.set_column_bloom_filter_fpp(column, *share);
        }
    }
    for (column, enabled) in STATISTICS_ENABLED.by_column(table) {
        let Some(column) = path(column).cloned() else { continue };
        let enabled = if enabled { EnabledStatistics::Page } else { EnabledStatistics::None };
        builder = builder.set_column_statistics_enabled(column, enabled);
    }
    (builder.build(), ROW_GROUP_BYTES.of(table))
}

/// Returns the paths of leaf columns by field id.
///
/// Paths can't be derived from column names: names may hold dots, and lists and maps add levels of their own.
fn paths(file: &SchemaDescriptor) -> HashMap<i32, ColumnPath> {
    let leaves = file.columns().iter().map(|leaf| (leaf.self_type().get_basic_info(), leaf.path()));
    leaves.filter(|(info, _)| info.has_id()).map(|(info, path)| (info.id(), path.clone())).collect()
}

/// Returns the compression for a codec and its level. A level that is set is valid for the codec.
fn codec_of(codec: ParquetCodec, level: Option<i32>) -> Compression {
    let unsigned = |default: u32| level.and_then(|level| u32::try_from(level).ok()).unwrap_or(default);
    match codec {
        ParquetCodec::Zstd => Compression::ZSTD(ZstdLevel::try_new(level.unwrap_or(3)).unwrap_or_default()),
        ParquetCodec::Gzip => Compression::GZIP(GzipLevel::try_new(unsigned(6)).unwrap_or_default()),
        ParquetCodec::Brotli => Compression::BROTLI(BrotliLevel::try_new(unsigned(1)).unwrap_or_default()),
        ParquetCodec::Snappy => Compression::SNAPPY,
        ParquetCodec::Lz4 => Compression::LZ4_RAW,
        ParquetCodec::Uncompressed => Compression::UNCOMPRESSED,
    }
}
