//! The table properties that Esker reads: their keys, defaults, valid values, and the effect of an invalid value.
//!
//! Any client that may commit can set a property to any text. An invalid value affects only its own property: the default holds,
//! and health reports it. If the property protects files or snapshots, the operation that it limits stays off until the value is
//! fixed. The list of properties is the `properties!` call. Start reading at [`Property`].

use std::collections::{BTreeMap, HashMap};

use esker_types::{DAY_MS, DurationMillis};
use serde::{Deserialize, Serialize};

use crate::{BadProperty, Result, TableError};

/// A map of properties, by key.
pub trait Properties {
    /// Returns the value of a key, if it is set.
    fn value(&self, key: &str) -> Option<&str>;
    /// Iterates over the properties whose keys begin with `prefix`: the rest of the key, and the value. The order is that of the
    /// map.
    fn beginning<'a>(&'a self, prefix: &'a str) -> Box<dyn Iterator<Item = (&'a str, &'a str)> + 'a>;
}

impl Properties for HashMap<String, String> {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }

    fn beginning<'a>(&'a self, prefix: &'a str) -> Box<dyn Iterator<Item = (&'a str, &'a str)> + 'a> {
        Box::new(self.iter().filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_str()))))
    }
}

impl Properties for BTreeMap<String, String> {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }

    fn beginning<'a>(&'a self, prefix: &'a str) -> Box<dyn Iterator<Item = (&'a str, &'a str)> + 'a> {
        Box::new(self.iter().filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_str()))))
    }
}

/// The declaration of a property.
///
/// A key that ends in `.column.` is a prefix: the column's name follows it, and each column has a value of its own.
#[derive(Debug)]
pub struct Property<T> {
    /// The key, or the prefix of the key.
    pub key: &'static str,
    /// The value if the property is not set.
    pub default: T,
    expects: &'static str,
    instead: &'static str,
    parse: fn(&str) -> Option<T>,
}

impl<T: Clone> Property<T> {
    /// Returns the value, or the default if the property is not set or cannot be parsed.
    pub fn of(&self, properties: &dyn Properties) -> T {
        self.get_if_set(properties).unwrap_or_else(|| self.default.clone())
    }

    /// Returns the value, if it is set and can be parsed.
    pub fn get_if_set(&self, properties: &dyn Properties) -> Option<T> {
        (self.parse)(properties.value(self.key)?)
    }

    /// Returns the value or the default, for operations that must not go on with an invalid value.
    ///
    /// # Errors
    ///
    /// Returns [`TableError::Property`] if the value cannot be parsed.
    pub fn get_valid(&self, properties: &dyn Properties) -> Result<T> {
        match properties.value(self.key) {
            None => Ok(self.default.clone()),
            Some(text) => (self.parse)(text).ok_or_else(|| TableError::Property(self.bad("", text))),
        }
    }

    /// Iterates over the columns whose values can be parsed: the column's name and the value.
    pub fn by_column<'a>(&'a self, properties: &'a dyn Properties) -> impl Iterator<Item = (&'a str, T)> + 'a {
        properties.beginning(self.key).filter_map(|(column, text)| Some((column, (self.parse)(text)?)))
    }

    fn bad(&self, column: &str, value: &str) -> BadProperty {
        BadProperty {
            key: format!("{}{column}", self.key),
            value: value.to_owned(),
            expects: self.expects.to_owned(),
            instead: self.instead.to_owned(),
        }
    }
}

/// A property without the type of its value, for the list of all properties.
trait AnyProperty: Sync {
    /// Adds the values that cannot be parsed to `found`.
    fn check(&self, properties: &dyn Properties, found: &mut Vec<BadProperty>);
}

impl<T: Clone + Sync> AnyProperty for Property<T> {
    fn check(&self, properties: &dyn Properties, found: &mut Vec<BadProperty>) {
        let all: Vec<(&str, &str)> = match self.key.ends_with('.') {
            true => properties.beginning(self.key).collect(),
            false => properties.value(self.key).map(|text| ("", text)).into_iter().collect(),
        };
        let bad = all.into_iter().filter(|(_, text)| (self.parse)(text).is_none());
        found.extend(bad.map(|(column, text)| self.bad(column, text)));
    }
}

/// The mapping from names to field ids, for files without field ids (`schema.name-mapping.default`).
///
/// Spec: "Column Projection", "Name Mapping Serialization".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NameMapping {
    /// The top-level fields.
    pub fields: Vec<MappedField>,
}

/// A field of a name mapping, with the names that files may have for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MappedField {
    /// The field id; `None` if the field is not in the schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_id: Option<i32>,
    /// The names that files may have for the field.
    #[serde(default)]
    pub names: Vec<String>,
    /// The nested fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Self>,
}

/// A compression codec for the data files that Esker writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParquetCodec {
    /// Zstandard.
    Zstd,
    /// Gzip (Deflate).
    Gzip,
    /// Brotli.
    Brotli,
    /// Snappy.
    Snappy,
    /// LZ4 blocks.
    Lz4,
    /// No compression.
    Uncompressed,
}

impl ParquetCodec {
    /// Returns the lowest and highest level of the codec, if it has levels.
    const fn levels(self) -> Option<(i32, i32)> {
        match self {
            Self::Zstd => Some((1, 22)),
            Self::Gzip => Some((0, 9)),
            Self::Brotli => Some((0, 11)),
            Self::Snappy | Self::Lz4 | Self::Uncompressed => None,
        }
    }
}

/// The statistics of a column that a manifest keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsMode {
    /// No statistics.
    None,
    /// The counts of values, nulls and NaNs.
    Counts,
    /// The counts, and bounds truncated to this length.
    Truncate(usize),
    /// The counts, and bounds in full length.
    Full,
}

/// The isolation level of a DELETE or UPDATE: the concurrent changes that make it fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// The change fails if a concurrent commit added rows that its condition may match, or changed rows that it changes.
    Serializable,
    /// The change fails only if a concurrent commit changed rows that it changes.
    Snapshot,
}

fn flag(text: &str) -> Option<bool> {
    [("true", true), ("false", false)].into_iter().find_map(|(word, value)| text.eq_ignore_ascii_case(word).then_some(value))
}

fn positive(text: &str) -> Option<u64> {
    text.parse().ok().filter(|n| *n > 0)
}

fn count(text: &str) -> Option<usize> {
    text.parse().ok()
}

fn positive_size(text: &str) -> Option<usize> {
    count(text).filter(|n| *n > 0)
}

fn age(text: &str) -> Option<DurationMillis> {
    text.parse().ok().filter(|age| *age >= 0)
}

fn codec(text: &str) -> Option<ParquetCodec> {
    Some(match text.to_lowercase().as_str() {
        "zstd" => ParquetCodec::Zstd,
        "gzip" => ParquetCodec::Gzip,
        "brotli" => ParquetCodec::Brotli,
        "snappy" => ParquetCodec::Snappy,
        "lz4" => ParquetCodec::Lz4,
        "uncompressed" | "none" => ParquetCodec::Uncompressed,
        _ => return None,
    })
}

fn page_version(text: &str) -> Option<u8> {
    match text {
        "v1" => Some(1),
        "v2" => Some(2),
        _ => None,
    }
}

fn probability(text: &str) -> Option<f64> {
    text.parse().ok().filter(|p| *p > 0.0 && *p < 1.0)
}

fn metrics(text: &str) -> Option<MetricsMode> {
    let lower = text.trim().to_lowercase();
    let length = || lower.strip_prefix("truncate(")?.strip_suffix(')')?.trim().parse().ok().filter(|n| *n > 0);
    match lower.as_str() {
        "none" => Some(MetricsMode::None),
        "counts" => Some(MetricsMode::Counts),
        "full" => Some(MetricsMode::Full),
        _ => length().map(MetricsMode::Truncate),
    }
}

fn isolation(text: &str) -> Option<Isolation> {
    [("serializable", Isolation::Serializable), ("snapshot", Isolation::Snapshot)]
        .into_iter()
        .find_map(|(word, level)| text.eq_ignore_ascii_case(word).then_some(level))
}

/// Parses the codec of metadata files; true is gzip.
fn metadata_gzip(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "none" | "" => Some(false),
        "gzip" => Some(true),
        _ => None,
    }
}

fn mapping(text: &str) -> Option<Option<NameMapping>> {
    serde_json::from_str(text).ok().map(Some)
}

/// Declares the properties as statics, and the list `ALL` of them.
macro_rules! properties {
    ($($(#[$doc:meta])* $name:ident: $ty:ty = $key:literal, $default:expr, $parse:expr, $expects:literal, $instead:literal;)*) => {
        $($(#[$doc])* pub static $name: Property<$ty> =
            Property { key: $key, default: $default, expects: $expects, instead: $instead, parse: $parse };)*

        /// All declared properties.
        static ALL: &[&dyn AnyProperty] = &[$(&$name),*];
    };
}

properties! {
    /// The target size of data files, in bytes.
    TARGET_FILE_BYTES: u64 = "write.target-file-size-bytes", 512 << 20, positive, "a positive number of bytes", "512 MiB is used";
    /// The target size of manifests, in bytes.
    MANIFEST_BYTES: u64 = "commit.manifest.target-size-bytes", 8 << 20, positive, "a positive number of bytes", "8 MiB is used";
    /// True if Esker may delete files of the table.
    GC_ENABLED: bool = "gc.enabled", true, flag, "true or false", "no file of the table is deleted until the property is fixed";
    /// True if Esker deletes metadata files that dropped out of the metadata log.
    DELETE_METADATA: bool = "write.metadata.delete-after-commit.enabled", false, flag, "true or false", "false is used";
    /// The number of earlier metadata files in the metadata log.
    METADATA_VERSIONS: usize = "write.metadata.previous-versions-max", 100, count, "a whole number", "100 are listed, and none is deleted until the property is fixed";
    /// True if metadata files are compressed with gzip.
    METADATA_GZIP: bool = "write.metadata.compression-codec", false, metadata_gzip, "none or gzip", "none is used";
    /// The age in milliseconds from which snapshots may be expired.
    MAX_SNAPSHOT_AGE: DurationMillis = "history.expire.max-snapshot-age-ms", 5 * DAY_MS, age, "a number of milliseconds", "no snapshot of the table is expired until the property is fixed";
    /// The number of newest snapshots of a branch that are never expired.
    MIN_SNAPSHOTS: usize = "history.expire.min-snapshots-to-keep", 1, count, "a whole number", "no snapshot of the table is expired until the property is fixed";
    /// The age in milliseconds from which references other than `main` may be expired.
    MAX_REF_AGE: DurationMillis = "history.expire.max-ref-age-ms", DurationMillis::MAX, age, "a number of milliseconds", "no snapshot of the table is expired until the property is fixed";
    /// The age in milliseconds below which no snapshot is expired, whatever the policy says.
    ///
    /// A client that missed the answer to its commit looks for its snapshot.
    EXPIRE_MIN_AGE: DurationMillis = "esker.expire.min-age-ms", 10 * 60 * 1000, age, "a number of milliseconds", "no snapshot of the table is expired until the property is fixed";
    /// The time in milliseconds for which the newest snapshot of each streaming writer is kept.
    ///
    /// The snapshots between it and the head of the branch are kept as well.
    WRITER_STATE: DurationMillis = "esker.expire.writer-state-ms", 7 * DAY_MS, age, "a number of milliseconds", "no snapshot of the table is expired until the property is fixed";
    /// The age in milliseconds below which an orphan scan ignores a file.
    ORPHAN_MIN_AGE: DurationMillis = "esker.orphans.min-age-ms", 3 * DAY_MS, age, "a number of milliseconds", "orphan scans of the table stay off until the property is fixed";
    /// The isolation level of DELETE.
    DELETE_ISOLATION: Isolation = "write.delete.isolation-level", Isolation::Serializable, isolation, "serializable or snapshot", "serializable is used";
    /// The isolation level of UPDATE.
    UPDATE_ISOLATION: Isolation = "write.update.isolation-level", Isolation::Serializable, isolation, "serializable or snapshot", "serializable is used";
    /// The isolation level of MERGE, which decides with the two others if late commits are merged.
    MERGE_ISOLATION: Isolation = "write.merge.isolation-level", Isolation::Serializable, isolation, "serializable or snapshot", "serializable is used";
    /// The name mapping for files without field ids.
    NAME_MAPPING: Option<NameMapping> = "schema.name-mapping.default", None, mapping, "a name mapping as JSON", "files without field ids can't be read until the property is fixed";
    /// The compression codec of data files.
    PARQUET_CODEC: ParquetCodec = "write.parquet.compression-codec", ParquetCodec::Zstd, codec, "one of zstd, gzip, brotli, snappy, lz4, uncompressed", "zstd is used";
    /// The target size of row groups, in bytes.
    ROW_GROUP_BYTES: usize = "write.parquet.row-group-size-bytes", 128 << 20, positive_size, "a positive number of bytes", "128 MiB is used";
    /// The target size of pages, in bytes.
    ///
    /// Iceberg's writers use 1 MiB and 20,000 rows. A lookup decodes a page of each column, and pages of a quarter compress as
    /// well.
    PAGE_BYTES: usize = "write.parquet.page-size-bytes", 256 << 10, positive_size, "a positive number of bytes", "256 KiB is used";
    /// The largest number of rows in a page.
    PAGE_ROWS: usize = "write.parquet.page-row-limit", 5000, positive_size, "a positive number", "5000 is used";
    /// The largest size of dictionaries, in bytes.
    ///
    /// Iceberg's writers use 2 MiB. A lookup decodes the whole dictionary of each column.
    DICT_BYTES: usize = "write.parquet.dict-size-bytes", 512 << 10, positive_size, "a positive number of bytes", "512 KiB is used";
    /// The version of data pages, 1 or 2.
    PAGE_VERSION: u8 = "write.parquet.page-version", 1, page_version, "v1 or v2", "v1 is used";
    /// True for a column that gets a Bloom filter.
    BLOOM_ENABLED: bool = "write.parquet.bloom-filter-enabled.column.", false, flag, "true or false", "false is used";
    /// The share of false positives of a column's Bloom filter.
    BLOOM_FPP: f64 = "write.parquet.bloom-filter-fpp.column.", 0.01, probability, "a probability between 0 and 1", "0.01 is used";
    /// True for a column that gets statistics in the Parquet file.
    STATISTICS_ENABLED: bool = "write.parquet.stats-enabled.column.", true, flag, "true or false", "true is used";
    /// The statistics that manifests keep of columns by default.
    METRICS_DEFAULT: MetricsMode = "write.metadata.metrics.default", MetricsMode::Truncate(16), metrics, "one of none, counts, truncate(n), full", "truncate(16) is used";
    /// The statistics that manifests keep of one column.
    METRICS_COLUMN: MetricsMode = "write.metadata.metrics.column.", MetricsMode::Truncate(16), metrics, "one of none, counts, truncate(n), full", "the table's default is used";
    /// The number of columns that get statistics in manifests if no property sets a mode.
    METRICS_COLUMNS: usize = "write.metadata.metrics.max-inferred-column-defaults", 100, count, "a whole number", "100 is used";
}

/// The key of the compression level, whose valid values depend on the codec.
const LEVEL: &str = "write.parquet.compression-level";

/// Returns the level that is set for a codec, or `None` if the codec's own default holds or the codec has no levels.
fn level(properties: &dyn Properties, codec: ParquetCodec) -> std::result::Result<Option<i32>, BadProperty> {
    let (Some(text), Some((least, most))) = (properties.value(LEVEL), codec.levels()) else { return Ok(None) };
    match text.parse().ok().filter(|level| (least..=most).contains(level)) {
        Some(level) => Ok(Some(level)),
        None => Err(BadProperty {
            key: LEVEL.to_owned(),
            value: text.to_owned(),
            expects: format!("a level of {codec:?} from {least} to {most}"),
            instead: "the codec's default is used".to_owned(),
        }),
    }
}

/// Returns the codec of data files and its level. The level is `None` if it is not set or invalid.
pub fn compression(properties: &dyn Properties) -> (ParquetCodec, Option<i32>) {
    let codec = PARQUET_CODEC.of(properties);
    (codec, level(properties, codec).unwrap_or(None))
}

/// Returns every property whose value cannot be parsed, in the order of the keys.
pub fn bad_properties(properties: &dyn Properties) -> Vec<BadProperty> {
    let mut found = Vec::new();
    ALL.iter().for_each(|property| property.check(properties, &mut found));
    found.extend(level(properties, PARQUET_CODEC.of(properties)).err());
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found
}

/// Checks the properties about the retention of snapshots. No snapshot of the table may be expired if one is invalid.
///
/// # Errors
///
/// Returns [`TableError::Property`] for the first of them that cannot be parsed.
pub fn check_retention(properties: &dyn Properties) -> Result<()> {
    for property in [&MAX_SNAPSHOT_AGE, &MAX_REF_AGE, &EXPIRE_MIN_AGE, &WRITER_STATE] {
        property.get_valid(properties)?;
    }
    MIN_SNAPSHOTS.get_valid(properties)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> HashMap<String, String> {
        HashMap::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn every_value_that_makes_no_sense_is_named_with_its_key() {
        for (key, values) in [
            ("write.target-file-size-bytes", &["200KB", "0", "-1", "", "1e9"][..]),
            ("commit.manifest.target-size-bytes", &["8MB", "0"]),
            ("gc.enabled", &["flase", "0", ""]),
            ("write.metadata.delete-after-commit.enabled", &["yes"]),
            ("write.metadata.previous-versions-max", &["all", "-1"]),
            ("write.metadata.compression-codec", &["zstd"]),
            ("history.expire.max-snapshot-age-ms", &["5d", "-1", "99999999999999999999"]),
            ("history.expire.min-snapshots-to-keep", &["ten", "-3"]),
            ("history.expire.max-ref-age-ms", &["7 days", "-1"]),
            ("esker.expire.min-age-ms", &["10m"]),
            ("esker.expire.writer-state-ms", &["1w"]),
            ("esker.orphans.min-age-ms", &["3d", "-1"]),
            ("write.delete.isolation-level", &["snapshots"]),
            ("write.update.isolation-level", &["none"]),
            ("write.merge.isolation-level", &["none"]),
            ("schema.name-mapping.default", &["{", "[{\"names\": 3}]"]),
            ("write.parquet.compression-codec", &["lzo", "zst"]),
            ("write.parquet.compression-level", &["high", "23", "-1"]),
            ("write.parquet.row-group-size-bytes", &["128MB", "0"]),
            ("write.parquet.page-size-bytes", &["1MB"]),
            ("write.parquet.page-row-limit", &["-1"]),
            ("write.parquet.dict-size-bytes", &["x"]),
            ("write.parquet.page-version", &["v3", "2"]),
            ("write.parquet.bloom-filter-enabled.column.a", &["maybe"]),
            ("write.parquet.bloom-filter-fpp.column.a", &["0", "1", "NaN", "-0.1", "a"]),
            ("write.parquet.stats-enabled.column.a", &["on"]),
            ("write.metadata.metrics.default", &["truncate(0)", "truncate(x)", "most"]),
            ("write.metadata.metrics.column.a", &["truncate"]),
            ("write.metadata.metrics.max-inferred-column-defaults", &["-1"]),
        ] {
            for value in values {
                let found = bad_properties(&with(key, value));
                let named: Vec<(&str, &str)> = found.iter().map(|bad| (bad.key.as_str(), bad.value.as_str())).collect();
                assert_eq!(named, [(key, *value)]);
                assert!(!found[0].instead.is_empty());
            }
        }
    }

    #[test]
    fn values_that_iceberg_writers_set_are_taken() {
        for (key, value) in [
            ("write.target-file-size-bytes", "536870912"),
            ("gc.enabled", "FALSE"),
            ("write.metadata.compression-codec", "GZIP"),
            ("write.metadata.compression-codec", "none"),
            ("history.expire.min-snapshots-to-keep", "1"),
            ("history.expire.max-ref-age-ms", "9223372036854775807"),
            ("write.delete.isolation-level", "SNAPSHOT"),
            ("schema.name-mapping.default", "[{\"field-id\": 1, \"names\": [\"id\"]}]"),
            ("write.parquet.compression-codec", "ZSTD"),
            ("write.parquet.compression-level", "3"),
            ("write.parquet.bloom-filter-fpp.column.a", "0.05"),
            ("write.metadata.metrics.default", "truncate(16)"),
            ("comment", "5d"),
        ] {
            assert_eq!(bad_properties(&with(key, value)), [], "{key} = {value}");
        }
        // The level is ignored if the codec has no levels.
        let snappy = HashMap::from([(PARQUET_CODEC.key, "snappy"), (LEVEL, "high")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(bad_properties(&snappy), []);
    }

    #[test]
    fn what_protects_is_an_error_and_what_does_not_is_the_default() {
        let bad = with("history.expire.max-snapshot-age-ms", "5d");
        let refused = check_retention(&bad).expect_err("refused").to_string();
        assert!(refused.contains("history.expire.max-snapshot-age-ms = \"5d\"") && refused.contains("no snapshot"), "{refused}");
        assert!(GC_ENABLED.get_valid(&with("gc.enabled", "flase")).is_err());
        assert_eq!(TARGET_FILE_BYTES.of(&with("write.target-file-size-bytes", "200KB")), 512 << 20);
        assert_eq!(DELETE_ISOLATION.of(&with("write.delete.isolation-level", "snapshto")), Isolation::Serializable);
        assert_eq!(compression(&with(LEVEL, "99")), (ParquetCodec::Zstd, None));
    }
}
