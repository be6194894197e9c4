//! Reads files of tables with Esker's parsers and writes them again, for `tests/engines/test_round_trip.py`.
//!
//! The test compares both files by other parsers. Each line of standard input is a request as JSON. Each line of standard output is
//! the answer: what Esker found in the file, or the error. Start reading at [`answer`].

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use esker_format::{
    AvroCodec, BoundBytes, BoundMap, IdMap, ManifestEntry, ManifestFile, ManifestListWriter, ManifestProjection, ManifestStatus,
    ManifestWriter, NewBlob, NewManifest, NewManifestList, PrimitiveType, PuffinCodec, PuffinMetadata, PuffinWriter, Snapshot,
    TableMetadata, Value, ViewMetadata, decode_manifest, manifest_schema, puffin_footer_length, read_manifest,
    read_manifest_list, read_puffin,
};
use esker_types::hex;
use serde_json::{Map, Value as Json, json};

type Result<T = Json> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let (input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    for line in input.lines() {
        let request: Json = serde_json::from_str(&line?)?;
        let answered = catch_unwind(AssertUnwindSafe(|| answer(&request))).unwrap_or_else(|_| Err("it panics".into()));
        let mut json = answered.unwrap_or_else(|error| json!({"error": error.to_string()}));
        json["id"] = request["id"].clone();
        writeln!(output, "{json}")?;
    }
    Ok(())
}

/// Answers one request. Its `kind` is the kind of the file.
fn answer(request: &Json) -> Result {
    match text(request, "kind")? {
        "table" => {
            std::fs::write(text(request, "out")?, TableMetadata::from_json(&read(request, "file")?)?.to_json()?)?;
            Ok(json!({}))
        }
        "view" => {
            std::fs::write(text(request, "out")?, ViewMetadata::from_json(&read(request, "file")?)?.to_json()?)?;
            Ok(json!({}))
        }
        "paths" => {
            let manifests = read_manifest_list(&read(request, "file")?)?;
            Ok(json!({"paths": manifests.into_iter().map(|manifest| manifest.manifest_path).collect::<Vec<_>>()}))
        }
        "list" => list(request),
        "puffin" => puffin(request),
        other => Err(format!("there is no kind of request {other}").into()),
    }
}

/// Returns a text of a request by its name.
fn text<'a>(request: &'a Json, name: &str) -> Result<&'a str> {
    request[name].as_str().ok_or_else(|| format!("the request has no {name}").into())
}

/// Reads the file whose path a request has under a name.
fn read(request: &Json, name: &str) -> Result<Vec<u8>> {
    Ok(std::fs::read(text(request, name)?)?)
}

/// Writes a snapshot's manifest list again, and those of its manifests that the request names. Returns what is in them.
fn list(request: &Json) -> Result {
    let metadata = TableMetadata::from_json(&read(request, "metadata")?)?;
    let id = request["snapshot"].as_i64().ok_or("the request names no snapshot")?;
    let snapshot = metadata.snapshots.get(id).ok_or("the table has no such snapshot")?;
    let manifests = read_manifest_list(&read(request, "file")?)?;
    std::fs::write(text(request, "out")?, rewrite_list(&metadata, snapshot, &manifests)?)?;
    let mut found = Map::new();
    for (path, place) in request["manifests"].as_object().into_iter().flatten() {
        let of_list = manifests.iter().find(|manifest| manifest.manifest_path == *path).ok_or("the list has no such manifest")?;
        let entries = manifest(&metadata, of_list, place);
        found.insert(path.clone(), entries.unwrap_or_else(|error| json!({"error": error.to_string()})));
    }
    Ok(json!({"list": manifests.iter().map(manifest_file_json).collect::<Vec<_>>(), "manifests": found}))
}

/// Encodes a manifest list again, in the table's format version.
///
/// A snapshot from before version 3 has no row ids, so its list stays of version 2.
fn rewrite_list(metadata: &TableMetadata, snapshot: &Snapshot, manifests: &[ManifestFile]) -> Result<Vec<u8>> {
    let first_row_id = snapshot.first_row_id.map(i64::try_from).transpose()?;
    let mut writer = ManifestListWriter::new(NewManifestList {
        format_version: if first_row_id.is_some() { 3 } else { metadata.format_version.min(2) },
        snapshot_id: snapshot.snapshot_id,
        parent_snapshot_id: snapshot.parent_snapshot_id,
        sequence_number: snapshot.sequence_number(),
        first_row_id,
        codec: AvroCodec::Deflate,
    })?;
    manifests.iter().try_for_each(|manifest| writer.add(manifest))?;
    Ok(writer.finish()?)
}

/// Writes a manifest again, in its own format version. Returns its entries.
fn manifest(metadata: &TableMetadata, of_list: &ManifestFile, place: &Json) -> Result {
    let file = read(place, "file")?;
    let (header, own) = read_manifest(&file)?;
    let mut batch = decode_manifest(&file, &ManifestProjection::all())?;
    batch.inherit(of_list);
    let entries = batch.entries();
    let id = of_list.partition_spec_id;
    let spec = metadata.partition_spec_by_id(id).ok_or("the table has no such spec")?;
    let types = metadata.partition_types(id);
    let schema = manifest_schema(&file)?.unwrap_or_else(|| metadata.current_schema().as_ref().clone());
    // A header without a version counts as version 1, which has no deletes. So a manifest of deletes is of version 2 at least.
    let format_version = if of_list.content as u8 == 1 { header.format_version.max(2) } else { header.format_version };
    let changed = entries.iter().find(|entry| entry.status != ManifestStatus::Existing);
    let new = NewManifest {
        format_version,
        content: of_list.content,
        schema: &schema,
        spec,
        types: &types,
        snapshot_id: changed.map_or(Some(of_list.added_snapshot_id), |entry| entry.snapshot_id),
        codec: AvroCodec::Deflate,
    };
    let mut writer = ManifestWriter::new(&new)?;
    for (entry, own) in entries.iter().zip(&own) {
        match entry.status {
            ManifestStatus::Added => writer.added(&entry.data_file, own.sequence_number)?,
            ManifestStatus::Existing => writer.existing(entry)?,
            ManifestStatus::Deleted => writer.deleted(entry)?,
        }
    }
    std::fs::write(text(place, "out")?, writer.finish(of_list.manifest_path.as_str())?.0)?;
    Ok(json!({"entries": entries.iter().map(|entry| entry_json(entry, &types)).collect::<Vec<_>>()}))
}

/// Returns an entry of a manifest list as JSON.
fn manifest_file_json(manifest: &ManifestFile) -> Json {
    let bound = |bound: &Option<BoundBytes>| bound.as_ref().map(|bound| hex(bound.bytes()));
    let summaries = manifest.partitions.as_ref().map(|summaries| {
        let each = summaries.iter().map(|summary| {
            json!({"null": summary.contains_null, "nan": summary.contains_nan, "lower": bound(&summary.lower_bound),
                "upper": bound(&summary.upper_bound)})
        });
        each.collect::<Vec<_>>()
    });
    json!({
        "path": manifest.manifest_path, "length": manifest.manifest_length, "spec": manifest.partition_spec_id,
        "content": manifest.content as u8, "sequence": manifest.sequence_number, "min_sequence": manifest.min_sequence_number,
        "snapshot": manifest.added_snapshot_id, "added_files": manifest.added_files_count,
        "existing_files": manifest.existing_files_count, "deleted_files": manifest.deleted_files_count,
        "added_rows": manifest.added_rows_count, "existing_rows": manifest.existing_rows_count,
        "deleted_rows": manifest.deleted_rows_count, "partitions": summaries,
        "key": manifest.key_metadata.as_deref().map(hex), "first_row": manifest.first_row_id,
    })
}

/// Returns an entry of a manifest as JSON. Partition values have the present types of their columns.
fn entry_json(entry: &ManifestEntry, types: &[Option<PrimitiveType>]) -> Json {
    let file = &entry.data_file;
    let counts =
        |map: &Option<IdMap<i64>>| map.as_ref().map(|map| map.iter().map(|(id, n)| (id, *n)).collect::<BTreeMap<_, _>>());
    let bounds = |map: &Option<BoundMap>| {
        map.as_ref().map(|map| map.iter().map(|(id, bound)| (id, hex(bound.bytes()))).collect::<BTreeMap<_, _>>())
    };
    let partition = file.partition.iter().zip(types).map(|(value, ty)| match (value, ty) {
        (None, _) => Json::Null,
        (Some(value), Some(ty)) => value_json(&value.converted_to(ty).unwrap_or_else(|| value.clone())),
        (Some(value), None) => value_json(value),
    });
    json!({
        "status": entry.status as u8, "snapshot": entry.snapshot_id, "sequence": entry.sequence_number,
        "file_sequence": entry.file_sequence_number, "content": file.content as u8, "path": file.file_path,
        "format": file.file_format.as_str(), "partition": partition.collect::<Vec<_>>(), "records": file.record_count,
        "bytes": file.file_size_in_bytes, "sizes": counts(&file.column_sizes), "values": counts(&file.value_counts),
        "nulls": counts(&file.null_value_counts), "nans": counts(&file.nan_value_counts), "lower": bounds(&file.lower_bounds),
        "upper": bounds(&file.upper_bounds), "key": file.key_metadata.as_deref().map(hex), "splits": file.split_offsets,
        "equality_ids": file.equality_ids, "sort_order": file.sort_order_id, "first_row": file.first_row_id,
        "referenced": file.referenced_data_file, "offset": file.content_offset, "size": file.content_size_in_bytes,
    })
}

/// Returns a value as JSON. Values of other types than numbers and texts become texts that lose no digit.
fn value_json(value: &Value) -> Json {
    match value {
        Value::Boolean(value) => (*value).into(),
        Value::Int(value) | Value::Date(value) => (*value).into(),
        Value::Long(value)
        | Value::Time(value)
        | Value::Timestamp(value)
        | Value::Timestamptz(value)
        | Value::TimestampNs(value)
        | Value::TimestamptzNs(value) => (*value).into(),
        Value::Float(value) => format!("float {:08x}", value.to_bits()).into(),
        Value::Double(value) => format!("double {:016x}", value.to_bits()).into(),
        Value::Decimal { unscaled, scale } => format!("{unscaled}e-{scale}").into(),
        Value::String(value) => (**value).into(),
        Value::Uuid(value) => value.to_string().into(),
        Value::Fixed(value) | Value::Binary(value) => hex(value).into(),
        nested => format!("{nested:?}").into(),
    }
}

/// Writes a Puffin file with its footer encoded again, and one with all blobs encoded again. Returns the footer.
fn puffin(request: &Json) -> Result {
    let file = Bytes::from(read(request, "file")?);
    let metadata = read_puffin(&file)?;
    let footer = usize::try_from(puffin_footer_length(&file, file.len() as u64)?)?;
    let mut printed = file[..file.len() - footer].to_vec();
    let json = serde_json::to_vec(&metadata)?;
    printed.extend_from_slice(b"PFA1");
    printed.extend_from_slice(&json);
    printed.extend_from_slice(&i32::try_from(json.len())?.to_le_bytes());
    printed.extend_from_slice(b"\0\0\0\0PFA1");
    std::fs::write(text(request, "out")?, printed)?;
    std::fs::write(text(request, "anew")?, rewrite_puffin(&file, &metadata)?)?;
    Ok(json!({"footer": metadata}))
}

/// Encodes every blob and the footer of a Puffin file again.
fn rewrite_puffin(file: &Bytes, metadata: &PuffinMetadata) -> Result<Vec<u8>> {
    let mut writer = PuffinWriter::default();
    for blob in &metadata.blobs {
        let codec = match blob.compression_codec.as_deref() {
            None => PuffinCodec::None,
            Some("lz4") => PuffinCodec::Lz4,
            _ => PuffinCodec::Zstd,
        };
        let new = NewBlob {
            blob_type: blob.blob_type.clone(),
            fields: blob.fields.clone(),
            snapshot_id: blob.snapshot_id,
            sequence_number: blob.sequence_number,
            properties: blob.properties.clone().unwrap_or_default(),
        };
        writer.add(new, &blob.of(file)?, codec)?;
    }
    Ok(writer.finish(metadata.properties.clone().unwrap_or_default(), false)?.0)
}
