//! The Parquet writer of rewrites, set up as the table's `write.parquet.*` properties say.

use std::collections::HashMap;

use iceberg::spec::TableMetadata;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterVersion};

use crate::{MaintenanceError, Result};

const ROW_GROUP_BYTES: (&str, usize) = ("write.parquet.row-group-size-bytes", 128 << 20);
const PAGE_BYTES: (&str, usize) = ("write.parquet.page-size-bytes", 1 << 20);
const PAGE_ROWS: (&str, usize) = ("write.parquet.page-row-limit", 20_000);
const DICT_BYTES: (&str, usize) = ("write.parquet.dict-size-bytes", 2 << 20);
const CODEC: &str = "write.parquet.compression-codec";
const LEVEL: &str = "write.parquet.compression-level";

fn number(properties: &HashMap<String, String>, (key, default): (&'static str, usize)) -> Result<usize> {
    match properties.get(key) {
        None => Ok(default),
        Some(text) => text.parse().ok().filter(|n| *n > 0).ok_or_else(|| MaintenanceError::Option {
            key,
            reason: format!("the table property is {text:?}, not a positive number"),
        }),
    }
}

/// The writer's properties for a table.
pub(crate) fn properties(metadata: &TableMetadata) -> Result<WriterProperties> {
    let table = metadata.properties();
    Ok(WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(compression(table)?)
        .set_max_row_group_bytes(Some(number(table, ROW_GROUP_BYTES)?))
        .set_max_row_group_row_count(None)
        .set_data_page_size_limit(number(table, PAGE_BYTES)?)
        .set_data_page_row_count_limit(number(table, PAGE_ROWS)?)
        .set_dictionary_page_size_limit(number(table, DICT_BYTES)?)
        .build())
}

fn compression(table: &HashMap<String, String>) -> Result<Compression> {
    let bad = |reason: String| MaintenanceError::Option { key: CODEC, reason };
    let level: Option<i32> = match table.get(LEVEL) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| MaintenanceError::Option {
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
        Some("snappy") => Compression::SNAPPY,
        Some("lz4") => Compression::LZ4_RAW,
        Some("uncompressed" | "none") => Compression::UNCOMPRESSED,
        Some(other) => return Err(bad(format!("the table property is {other:?}, which can't be written here"))),
    })
}
