//! The table properties that Esker reads: their defaults, what their values may be, and what a value that can't be read means.
//!
//! Anybody who may commit can set any property to anything. One that makes no sense costs itself alone: the default holds, and health
//! names it. Where it protects something, what it protects against stays off until it is mended.

use std::collections::{BTreeMap, HashMap};

use esker_types::Millis;
use serde::{Deserialize, Serialize};

use crate::{Result, TableError};

const DAY_MS: Millis = 24 * 3600 * 1000;

/// A property whose value can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("table property {key} = {value:?} is not {expects}; {instead}")]
pub struct BadProperty {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What it should be.
    pub expects: String,
    /// What is taken instead, or stays off.
    pub instead: String,
}

/// Properties by key.
pub trait Properties {
    /// The value of a key.
    fn value(&self, key: &str) -> Option<&str>;
    /// The properties whose keys begin with `prefix`: what comes after it, and the value.
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

/// A property. One whose key ends in `.column.` is of the column that comes after it.
#[derive(Debug)]
pub struct Property<T> {
    /// Its key.
    pub key: &'static str,
    /// What holds where it is not set.
    pub default: T,
    expects: &'static str,
    instead: &'static str,
    parse: fn(&str) -> Option<T>,
}

impl<T: Clone> Property<T> {
    /// The value; the default where it is not set or can't be read.
    pub fn of(&self, properties: &dyn Properties) -> T {
        self.set(properties).unwrap_or_else(|| self.default.clone())
    }

    /// The value, if it is set and can be read.
    pub fn set(&self, properties: &dyn Properties) -> Option<T> {
        (self.parse)(properties.value(self.key)?)
    }

    /// The value or the default, for what must not go on by a value that can't be read.
    pub fn checked(&self, properties: &dyn Properties) -> Result<T> {
        match properties.value(self.key) {
            None => Ok(self.default.clone()),
            Some(text) => (self.parse)(text).ok_or_else(|| TableError::Property(self.bad("", text))),
        }
    }

    /// The values by column that can be read.
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

/// What can be said of a property without its type.
trait AnyProperty: Sync {
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

/// Names of fields in files that have no field ids (specification, "Column Projection"; `schema.name-mapping.default`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NameMapping {
    /// The columns.
    pub fields: Vec<MappedField>,
}

/// A field by the names that files may have for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MappedField {
    /// Its id; a field that has none is not in the schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_id: Option<i32>,
    /// Its names.
    #[serde(default)]
    pub names: Vec<String>,
    /// The fields in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Self>,
}

/// A codec of data files that Esker writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParquetCodec {
    /// Zstandard.
    Zstd,
    /// Deflate in gzip's frame.
    Gzip,
    /// Brotli.
    Brotli,
    /// Snappy.
    Snappy,
    /// LZ4 in blocks.
    Lz4,
    /// None.
    Uncompressed,
}

impl ParquetCodec {
    /// The levels that it has.
    const fn levels(self) -> Option<(i32, i32)> {
        match self {
            Self::Zstd => Some((1, 22)),
            Self::Gzip => Some((0, 9)),
            Self::Brotli => Some((0, 11)),
            Self::Snappy | Self::Lz4 | Self::Uncompressed => None,
        }
    }
}

/// What a manifest keeps of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsMode {
    /// Nothing.
    None,
    /// How many values, nulls and NaNs there are.
    Counts,
    /// That, and bounds cut to a length.
    Truncate(usize),
    /// That, and bounds as they are.
    Full,
}

/// What a change of rows must not have missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Rows that its condition might have met.
    Serializable,
    /// Changes to the rows that it changes.
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

fn age(text: &str) -> Option<Millis> {
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

/// Whether metadata files are compressed by gzip.
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

/// Declares properties, and the list of all.
macro_rules! properties {
    ($($(#[$doc:meta])* $name:ident: $ty:ty = $key:literal, $default:expr, $parse:expr, $expects:literal, $instead:literal;)*) => {
        $($(#[$doc])* pub static $name: Property<$ty> =
            Property { key: $key, default: $default, expects: $expects, instead: $instead, parse: $parse };)*

        /// All of them.
        static ALL: &[&dyn AnyProperty] = &[$(&$name),*];
    };
}

properties! {
    /// The size that data files aim at.
    TARGET_FILE_BYTES: u64 = "write.target-file-size-bytes", 512 << 20, positive, "a positive number of bytes", "512 MiB is taken";
    /// The size that manifests aim at.
    MANIFEST_BYTES: u64 = "commit.manifest.target-size-bytes", 8 << 20, positive, "a positive number of bytes", "8 MiB is taken";
    /// Files of the table may be deleted.
    GC_ENABLED: bool = "gc.enabled", true, flag, "true or false", "nothing of the table is deleted until it is mended";
    /// Metadata files that fell out of the metadata log go.
    DELETE_METADATA: bool = "write.metadata.delete-after-commit.enabled", false, flag, "true or false", "false is taken";
    /// How many earlier metadata files are listed.
    METADATA_VERSIONS: usize = "write.metadata.previous-versions-max", 100, count, "a whole number", "100 are listed, and none is deleted until it is mended";
    /// Metadata files are compressed.
    METADATA_GZIP: bool = "write.metadata.compression-codec", false, metadata_gzip, "none or gzip", "none is taken";
    /// Snapshots older than this may be expired.
    MAX_SNAPSHOT_AGE: Millis = "history.expire.max-snapshot-age-ms", 5 * DAY_MS, age, "a number of milliseconds", "no snapshot of the table is expired until it is mended";
    /// So many snapshots of a branch stay.
    MIN_SNAPSHOTS: usize = "history.expire.min-snapshots-to-keep", 1, count, "a whole number", "no snapshot of the table is expired until it is mended";
    /// References older than this may be expired.
    MAX_REF_AGE: Millis = "history.expire.max-ref-age-ms", Millis::MAX, age, "a number of milliseconds", "no snapshot of the table is expired until it is mended";
    /// A snapshot younger than this stays, whatever the policy says: a client that did not hear the answer to its commit looks for it.
    EXPIRE_MIN_AGE: Millis = "esker.expire.min-age-ms", 10 * 60 * 1000, age, "a number of milliseconds", "no snapshot of the table is expired until it is mended";
    /// For so long a writer's newest snapshot stays, with those between it and the head of the branch.
    WRITER_STATE: Millis = "esker.expire.writer-state-ms", 7 * DAY_MS, age, "a number of milliseconds", "no snapshot of the table is expired until it is mended";
    /// Files younger than this are not judged by a look for orphans.
    ORPHAN_MIN_AGE: Millis = "esker.orphans.min-age-ms", 3 * DAY_MS, age, "a number of milliseconds", "no orphan of the table is looked for until it is mended";
    /// What a DELETE must not have missed.
    DELETE_ISOLATION: Isolation = "write.delete.isolation-level", Isolation::Serializable, isolation, "serializable or snapshot", "serializable is taken";
    /// What an UPDATE must not have missed.
    UPDATE_ISOLATION: Isolation = "write.update.isolation-level", Isolation::Serializable, isolation, "serializable or snapshot", "serializable is taken";
    /// Names of fields in files that have no field ids.
    NAME_MAPPING: Option<NameMapping> = "schema.name-mapping.default", None, mapping, "a name mapping as JSON", "files without field ids can't be read until it is mended";
    /// The codec of data files.
    PARQUET_CODEC: ParquetCodec = "write.parquet.compression-codec", ParquetCodec::Zstd, codec, "one of zstd, gzip, brotli, snappy, lz4, uncompressed", "zstd is taken";
    /// The size of row groups.
    ROW_GROUP_BYTES: usize = "write.parquet.row-group-size-bytes", 128 << 20, positive_size, "a positive number of bytes", "128 MiB is taken";
    /// The size of pages. Iceberg's writers take 1 MiB and 20,000 rows; a lookup decodes a page of each column, and pages of a quarter compress as well.
    PAGE_BYTES: usize = "write.parquet.page-size-bytes", 256 << 10, positive_size, "a positive number of bytes", "256 KiB is taken";
    /// Rows of a page.
    PAGE_ROWS: usize = "write.parquet.page-row-limit", 5000, positive_size, "a positive number", "5000 is taken";
    /// The size of dictionaries. Iceberg's writers take 2 MiB; a lookup decodes the whole dictionary of each column.
    DICT_BYTES: usize = "write.parquet.dict-size-bytes", 512 << 10, positive_size, "a positive number of bytes", "512 KiB is taken";
    /// The version of data pages.
    PAGE_VERSION: u8 = "write.parquet.page-version", 1, page_version, "v1 or v2", "v1 is taken";
    /// Columns with a bloom filter.
    BLOOM_ENABLED: bool = "write.parquet.bloom-filter-enabled.column.", false, flag, "true or false", "false is taken";
    /// The share of false positives of those.
    BLOOM_FPP: f64 = "write.parquet.bloom-filter-fpp.column.", 0.01, probability, "a probability between 0 and 1", "0.01 is taken";
    /// Columns with statistics.
    STATISTICS_ENABLED: bool = "write.parquet.stats-enabled.column.", true, flag, "true or false", "true is taken";
    /// What manifests keep of columns.
    METRICS_DEFAULT: MetricsMode = "write.metadata.metrics.default", MetricsMode::Truncate(16), metrics, "one of none, counts, truncate(n), full", "truncate(16) is taken";
    /// What they keep of one column.
    METRICS_COLUMN: MetricsMode = "write.metadata.metrics.column.", MetricsMode::Truncate(16), metrics, "one of none, counts, truncate(n), full", "the table's default is taken";
    /// Of so many columns something is kept, where nothing is said.
    METRICS_COLUMNS: usize = "write.metadata.metrics.max-inferred-column-defaults", 100, count, "a whole number", "100 is taken";
}

const LEVEL: &str = "write.parquet.compression-level";

/// The level of a codec as it is set, or none where the codec's own default holds.
fn level(properties: &dyn Properties, codec: ParquetCodec) -> std::result::Result<Option<i32>, BadProperty> {
    let (Some(text), Some((least, most))) = (properties.value(LEVEL), codec.levels()) else { return Ok(None) };
    match text.parse().ok().filter(|level| (least..=most).contains(level)) {
        Some(level) => Ok(Some(level)),
        None => Err(BadProperty {
            key: LEVEL.to_owned(),
            value: text.to_owned(),
            expects: format!("a level of {codec:?} from {least} to {most}"),
            instead: "the codec's default is taken".to_owned(),
        }),
    }
}

/// The codec of data files and its level, where one is set.
pub fn compression(properties: &dyn Properties) -> (ParquetCodec, Option<i32>) {
    let codec = PARQUET_CODEC.of(properties);
    (codec, level(properties, codec).unwrap_or(None))
}

/// Every property that can't be read, in the order of their keys.
pub fn bad_properties(properties: &dyn Properties) -> Vec<BadProperty> {
    let mut found = Vec::new();
    ALL.iter().for_each(|property| property.check(properties, &mut found));
    found.extend(level(properties, PARQUET_CODEC.of(properties)).err());
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found
}

/// An error where a property that says what is retained can't be read: no snapshot of the table is expired then.
pub fn check_retention(properties: &dyn Properties) -> Result<()> {
    for property in [&MAX_SNAPSHOT_AGE, &MAX_REF_AGE, &EXPIRE_MIN_AGE, &WRITER_STATE] {
        property.checked(properties)?;
    }
    MIN_SNAPSHOTS.checked(properties)?;
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
        // A level that the codec does not have is not read.
        let snappy = HashMap::from([(PARQUET_CODEC.key, "snappy"), (LEVEL, "high")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(bad_properties(&snappy), []);
    }

    #[test]
    fn what_protects_is_an_error_and_what_does_not_is_the_default() {
        let bad = with("history.expire.max-snapshot-age-ms", "5d");
        let refused = check_retention(&bad).expect_err("refused").to_string();
        assert!(refused.contains("history.expire.max-snapshot-age-ms = \"5d\"") && refused.contains("no snapshot"), "{refused}");
        assert!(GC_ENABLED.checked(&with("gc.enabled", "flase")).is_err());
        assert_eq!(TARGET_FILE_BYTES.of(&with("write.target-file-size-bytes", "200KB")), 512 << 20);
        assert_eq!(DELETE_ISOLATION.of(&with("write.delete.isolation-level", "snapshto")), Isolation::Serializable);
        assert_eq!(compression(&with(LEVEL, "99")), (ParquetCodec::Zstd, None));
    }
}
