//! The Parquet writer of rewrites, set up as the table's `write.parquet.*` properties say.

use std::collections::HashMap;

use iceberg::spec::TableMetadata;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::{Result, WriteError};

const ROW_GROUP_BYTES: (&str, usize) = ("write.parquet.row-group-size-bytes", 128 << 20);
/// Iceberg's writers take 1 MiB and 20,000 rows; a lookup decodes a page of each column, and pages of a quarter compress as well.
const PAGE_BYTES: (&str, usize) = ("write.parquet.page-size-bytes", 256 << 10);
const PAGE_ROWS: (&str, usize) = ("write.parquet.page-row-limit", 5000);
/// Iceberg's writers take 2 MiB; a lookup decodes the whole dictionary of each column.
const DICT_BYTES: (&str, usize) = ("write.parquet.dict-size-bytes", 512 << 10);
const PAGE_VERSION: &str = "write.parquet.page-version";
const BLOOM_ENABLED: &str = "write.parquet.bloom-filter-enabled.column.";
const BLOOM_FPP: &str = "write.parquet.bloom-filter-fpp.column.";
const STATISTICS_ENABLED: &str = "write.parquet.stats-enabled.column.";
const CODEC: &str = "write.parquet.compression-codec";
const LEVEL: &str = "write.parquet.compression-level";

fn number(properties: &HashMap<String, String>, (key, default): (&'static str, usize)) -> Result<usize> {
    match properties.get(key) {
        None => Ok(default),
        Some(text) => text
            .parse()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| WriteError::Option { key, reason: format!("the table property is {text:?}, not a positive number") }),
    }
}

/// The writer's properties for a table.
pub(crate) fn properties(metadata: &TableMetadata) -> Result<(WriterProperties, usize)> {
    let table = metadata.properties();
    let row_group = number(table, ROW_GROUP_BYTES)?;
    let version = match table.get(PAGE_VERSION).map(String::as_str) {
        None | Some("v1") => WriterVersion::PARQUET_1_0,
        Some("v2") => WriterVersion::PARQUET_2_0,
        Some(other) => {
            let reason = format!("the table property is {other:?}, neither v1 nor v2");
            return Err(WriteError::Option { key: PAGE_VERSION, reason });
        }
    };
    let mut builder = WriterProperties::builder()
        .set_writer_version(version)
        .set_compression(compression(table)?)
        // Row groups are cut by whoever writes them.
        .set_max_row_group_bytes(None)
        .set_max_row_group_row_count(None)
        .set_data_page_size_limit(number(table, PAGE_BYTES)?)
        .set_data_page_row_count_limit(number(table, PAGE_ROWS)?)
        .set_dictionary_page_size_limit(number(table, DICT_BYTES)?);
    let schema = metadata.current_schema();
    for (key, text) in table {
        let column = |prefix: &str| {
            let name = key.strip_prefix(prefix)?;
            schema.field_by_name(name).map(|_| ColumnPath::new(name.split('.').map(str::to_owned).collect()))
        };
        if let Some(column) = column(BLOOM_ENABLED) {
            builder = builder.set_column_bloom_filter_enabled(column, text == "true");
        } else if let Some(column) = column(BLOOM_FPP) {
            let fpp = text.parse().ok().filter(|p: &f64| *p > 0.0 && *p < 1.0);
            let reason = || format!("{key} is {text:?}, not a probability");
            let fpp =
                fpp.ok_or_else(|| WriteError::Option { key: "write.parquet.bloom-filter-fpp.column.*", reason: reason() })?;
            builder = builder.set_column_bloom_filter_fpp(column, fpp);
        } else if let Some(column) = column(STATISTICS_ENABLED) {
            let enabled = if text == "false" { EnabledStatistics::None } else { EnabledStatistics::Page };
            builder = builder.set_column_statistics_enabled(column, enabled);
        }
    }
    Ok((builder.build(), row_group))
}

fn compression(table: &HashMap<String, String>) -> Result<Compression> {
    let bad = |reason: String| WriteError::Option { key: CODEC, reason };
    let level: Option<i32> =
        match table.get(LEVEL) {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| WriteError::Option {
                key: LEVEL,
                reason: format!("the table property is {text:?}, not a number"),
            })?),
        };
    Ok(match table.get(CODEC).map(|c| c.to_lowercase()).as_deref() {
        None | Some("zstd") => Compression::ZSTD(ZstdLevel::try_new(level.unwrap_or(3)).map_err(|e| bad(e.to_string()))?),
        Some("gzip") => {
            let level = u32::try_from(level.unwrap_or(6)).unwrap_or(6);
            Compression::GZIP(GzipLevel::try_new(level).map_err(|e| bad(e.to_string()))?)
        }
        Some("brotli") => {
            let level = u32::try_from(level.unwrap_or(1)).unwrap_or(1);
            Compression::BROTLI(BrotliLevel::try_new(level).map_err(|e| bad(e.to_string()))?)
        }
        Some("snappy") => Compression::SNAPPY,
        Some("lz4") => Compression::LZ4_RAW,
        Some("uncompressed" | "none") => Compression::UNCOMPRESSED,
        Some(other) => return Err(bad(format!("the table property is {other:?}, which can't be written here"))),
    })
}
