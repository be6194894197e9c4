//! Inventories: listings that the store itself makes, for buckets whose listing by requests takes hours.
//!
//! Two forms are read. One is the manifest of an Amazon S3 Inventory (`manifest.json`), with files of CSV, gzipped or not, or of
//! Parquet. The other is a single CSV or Parquet file with the columns `key`, `size` and `last_modified_date`, and `bucket` if it
//! lists several buckets. Keys in CSV files are URL-encoded, as S3 writes them. An inventory is older than the scan. The next one
//! has files that it does not list yet; files that were deleted since do no harm.

use std::io::Read;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMillisecondType};
use bytes::Bytes;
use esker_storage::{Location, Storage};
use esker_types::Millis;
use flate2::read::MultiGzDecoder;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::spool::{ListedFile, SpoolWriter};
use crate::{MaintenanceError, Result};

/// The `manifest.json` of an S3 Inventory.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    source_bucket: String,
    destination_bucket: String,
    file_format: String,
    #[serde(default)]
    file_schema: String,
    files: Vec<InventoryFile>,
}

/// A file of an S3 Inventory, by its key in the destination bucket.
#[derive(Debug, Deserialize)]
struct InventoryFile {
    key: String,
}

/// The function that takes each file of the inventory.
type Push<'a> = &'a mut dyn FnMut(ListedFile) -> Result<()>;

/// Returns the error of an inventory that can't be read.
fn bad(uri: &str, reason: impl std::fmt::Display) -> MaintenanceError {
    MaintenanceError::Option { key: "inventory", reason: format!("{uri}: {reason}") }
}

/// Reads an inventory, and writes each file that lies in `location` to the spool.
///
/// Files of the inventory are decompressed and parsed on threads that may block, one after the other.
///
/// # Errors
///
/// - Returns [`MaintenanceError::Option`] if the inventory lists another bucket or lacks a column, or if one of its files can't be
///   parsed or decoded.
/// - Returns [`MaintenanceError::Storage`] if one of its files can't be read, and [`MaintenanceError::Spill`] if the local disk
///   fails.
/// - Returns [`MaintenanceError::Panicked`] if a decoder panics.
pub(crate) async fn read(storage: &Storage, uri: &str, location: &Location, spool: SpoolWriter) -> Result<SpoolWriter> {
    if !uri.ends_with(".json") {
        let bytes = storage.read(uri).await?;
        return spool_file(uri.to_owned(), bytes, None, location, spool).await;
    }
    let manifest: Manifest = serde_json::from_slice(&storage.read(uri).await?).map_err(|e| bad(uri, e))?;
    if manifest.source_bucket != location.authority() {
        return Err(bad(
            uri,
            format!("it lists bucket {}, and the table is in {}", manifest.source_bucket, location.authority()),
        ));
    }
    let columns: Arc<[String]> = manifest.file_schema.split(',').map(column_name).collect();
    let header = (manifest.file_format == "CSV").then_some(columns);
    let bucket = manifest.destination_bucket.rsplit(':').next().unwrap_or_default();
    let (at, mut spool) = (Location::parse(uri)?, spool);
    for file in manifest.files {
        // The destination bucket is an ARN, `arn:aws:s3:::bucket`. Here the bucket may have another scheme or be reached by another
        // name.
        let uri = match at.authority() == bucket {
            true => at.root().join(&file.key).to_string(),
            false => format!("{}://{bucket}/{}", uri.split(':').next().unwrap_or_default(), file.key),
        };
        let bytes = storage.read(&uri).await?;
        spool = spool_file(uri, bytes, header.clone(), location, spool).await?;
    }
    Ok(spool)
}

/// Parses one file of an inventory into the spool, on a thread that may block. `header` is as in [`Inside::file`].
async fn spool_file(
    uri: String,
    bytes: Bytes,
    header: Option<Arc<[String]>>,
    location: &Location,
    mut spool: SpoolWriter,
) -> Result<SpoolWriter> {
    let location = location.clone();
    tokio::task::spawn_blocking(move || {
        let inside = Inside { location: &location, root: location.root() };
        inside.file(&uri, bytes, header.as_deref(), &mut |found| spool.push(&found))?;
        Ok(spool)
    })
    .await?
}

/// Converts a column name to snake case: `LastModifiedDate` becomes `last_modified_date`.
fn column_name(name: &str) -> String {
    let mut plain = String::new();
    for c in name.trim().chars() {
        if c.is_ascii_uppercase() && !plain.is_empty() && !plain.ends_with('_') {
            plain.push('_');
        }
        plain.push(c.to_ascii_lowercase());
    }
    plain
}

/// A filter that passes the files of a location on.
struct Inside<'a> {
    location: &'a Location,
    root: Location,
}

impl Inside<'_> {
    /// Reads one file of an inventory. `header` has the column names of a CSV file that has no header line.
    fn file(&self, uri: &str, bytes: Bytes, header: Option<&[String]>, push: Push<'_>) -> Result<()> {
        if uri.ends_with(".parquet") {
            return self.parquet(uri, bytes, push);
        }
        if uri.ends_with(".csv.gz") {
            return self.csv(uri, MultiGzDecoder::new(bytes.as_ref()), header, push);
        }
        if uri.ends_with(".csv") {
            return self.csv(uri, bytes.as_ref(), header, push);
        }
        Err(bad(uri, "it is neither a manifest.json nor a file of CSV (.csv, .csv.gz) or Parquet"))
    }

    /// Passes a file on if it lies in the location.
    fn one(&self, bucket: Option<&str>, key: &str, bytes: u64, modified_ms: Millis, push: &mut Push<'_>) -> Result<()> {
        if bucket.is_some_and(|bucket| bucket != self.location.authority()) {
            return Ok(());
        }
        let at = self.root.join(key);
        match at.is_inside(self.location) {
            true => push(ListedFile { path: at.to_string(), bytes, modified_ms }),
            false => Ok(()),
        }
    }

    fn csv(&self, uri: &str, text: impl Read, header: Option<&[String]>, mut push: Push<'_>) -> Result<()> {
        let mut rows = csv::ReaderBuilder::new().has_headers(header.is_none()).from_reader(text);
        let names: Vec<String> = match header {
            Some(names) => names.to_vec(),
            None => rows.headers().map_err(|e| bad(uri, e))?.iter().map(column_name).collect(),
        };
        let column = |name: &str| names.iter().position(|n| n == name);
        let needed = |name: &str| column(name).ok_or_else(|| bad(uri, format!("it has no column {name}")));
        let (bucket, key) = (column("bucket"), needed("key")?);
        let (size, modified) = (needed("size")?, needed("last_modified_date")?);
        for row in rows.records() {
            let row = row.map_err(|e| bad(uri, e))?;
            let field = |i: usize| row.get(i).unwrap_or_default();
            let name = percent_decode_str(field(key)).decode_utf8().map_err(|e| bad(uri, e))?;
            let Ok(bytes) = field(size).parse() else { continue }; // a delete marker
            let when = chrono::DateTime::parse_from_rfc3339(field(modified)).map_err(|e| bad(uri, e))?;
            self.one(bucket.map(field), &name, bytes, when.timestamp_millis(), &mut push)?;
        }
        Ok(())
    }

    fn parquet(&self, uri: &str, bytes: Bytes, mut push: Push<'_>) -> Result<()> {
        let batches = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(ParquetRecordBatchReaderBuilder::build);
        for batch in batches.map_err(|e| bad(uri, e))? {
            let batch = batch.map_err(|e| bad(uri, e))?;
            let as_type = |name: &str, column: &ArrayRef, to: &DataType| {
                cast(column, to).map_err(|e| bad(uri, format!("its column {name} can't be read: {e}")))
            };
            let needed = |name: &str, to: &DataType| {
                let column = batch.column_by_name(name).ok_or_else(|| bad(uri, format!("it has no column {name}")))?;
                as_type(name, column, to)
            };
            let key = needed("key", &DataType::Utf8)?;
            let size = needed("size", &DataType::Int64)?;
            let modified = needed("last_modified_date", &DataType::Timestamp(TimeUnit::Millisecond, None))?;
            let bucket = batch.column_by_name("bucket").map(|column| as_type("bucket", column, &DataType::Utf8)).transpose()?;
            let (key, size) = (key.as_string::<i32>(), size.as_primitive::<Int64Type>());
            let modified = modified.as_primitive::<TimestampMillisecondType>();
            for i in (0..batch.num_rows()).filter(|i| size.is_valid(*i)) {
                let bucket = bucket.as_ref().map(|b| b.as_string::<i32>().value(i));
                self.one(bucket, key.value(i), size.value(i).unsigned_abs(), modified.value(i), &mut push)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use arrow::array::{Int64Array, RecordBatch, StringArray, StructArray, TimestampMillisecondArray};
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn found(uri: &str, bytes: Vec<u8>, header: Option<&[String]>) -> Result<Vec<(String, u64, Millis)>> {
        let location = Location::parse("s3://lake/n/t").expect("valid");
        let mut all = Vec::new();
        let mut push = |f: ListedFile| {
            all.push((f.path, f.bytes, f.modified_ms));
            Ok(())
        };
        Inside { location: &location, root: location.root() }.file(uri, bytes.into(), header, &mut push)?;
        Ok(all)
    }

    #[test]
    fn an_inventory_of_s3_is_read_in_both_formats() {
        let expected = vec![("s3://lake/n/t/data/a b.parquet".to_owned(), 7, 1_700_000_000_000)];
        let text = "\"lake\",\"n/t/data/a%20b.parquet\",\"7\",\"2023-11-14T22:13:20.000Z\"\n\
                    \"lake\",\"n/t2/x\",\"7\",\"2023-11-14T22:13:20.000Z\"\n\
                    \"other\",\"n/t/x\",\"7\",\"2023-11-14T22:13:20.000Z\"\n\
                    \"lake\",\"n/t/gone\",\"\",\"2023-11-14T22:13:20.000Z\"\n";
        let header: Vec<String> = "Bucket, Key, Size, LastModifiedDate".split(',').map(column_name).collect();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text.as_bytes()).expect("written");
        let gzip = gzip.finish().expect("finished");
        assert_eq!(found("x/0.csv.gz", gzip, Some(&header)).expect("read"), expected);
        let with_header = format!("bucket,key,size,last_modified_date\n{text}");
        assert_eq!(found("x/0.csv", with_header.into_bytes(), None).expect("read"), expected);

        let strings = |values: [&str; 2]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
        let times = TimestampMillisecondArray::from(vec![1_700_000_000_000, 1_700_000_000_000]);
        let batch = RecordBatch::try_from_iter([
            ("bucket", strings(["lake", "lake"])),
            ("key", strings(["n/t/data/a b.parquet", "n/x"])),
            ("size", Arc::new(Int64Array::from(vec![7, 7])) as ArrayRef),
            ("last_modified_date", Arc::new(times) as ArrayRef),
        ])
        .expect("a batch");
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).expect("a writer");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        assert_eq!(found("x/0.parquet", bytes, None).expect("read"), expected);
        let refused = found("x/0.csv", b"key,size\na,1\n".to_vec(), None).expect_err("no time").to_string();
        assert!(refused.contains("last_modified_date"), "{refused}");
    }

    #[test]
    fn an_inventory_of_parquet_that_cannot_be_read_is_a_wrong_option_and_is_named() {
        let refused = |bytes: Vec<u8>| match found("x/0.parquet", bytes, None) {
            Err(MaintenanceError::Option { key: "inventory", reason }) if reason.starts_with("x/0.parquet: ") => reason,
            other => panic!("{other:?}"),
        };
        refused(b"no Parquet".to_vec());
        let size: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        let parts: ArrayRef = Arc::new(StructArray::from(RecordBatch::try_from_iter([("a", size.clone())]).expect("a batch")));
        let key: ArrayRef = Arc::new(StringArray::from(vec!["n/t/x"]));
        let batch = RecordBatch::try_from_iter([("key", key), ("size", parts), ("last_modified_date", size)]).expect("a batch");
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).expect("a writer");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        assert!(refused(bytes).contains("column size"));
    }
}
