//! Decoding of manifest lists.

use bytes::Bytes;

use super::batch::damaged;
use crate::avro::{Container, Cursor, Field, Kind, Read, Scratch, WriterSchema};
use crate::{Bound, FieldSummary, ManifestContent, ManifestFile, Result};

const LIST: &str = "manifest list";

/// The manifests of a list of any version, of which all bytes are there. What version 1 does not say is as it is to be taken: data, sequence
/// numbers of 0, unknown counts.
pub fn read_manifest_list(file: &[u8]) -> Result<Vec<ManifestFile>> {
    let mut container = Container::open(LIST, file)?;
    let schema = container.schema().clone();
    let mut scratch = Scratch::default();
    let fields = solid(&schema, schema.root());
    let mut manifests = Vec::new();
    while let Some((count, bytes)) = container.next(&mut scratch)? {
        let mut cursor = Cursor::new(bytes);
        for _ in 0..count {
            manifests.push(manifest(&mut cursor, &schema, &fields)?);
        }
    }
    Ok(manifests)
}

/// The fields of a record whose values take bytes.
fn solid(schema: &WriterSchema, node: usize) -> Vec<&Field> {
    schema.fields(node).iter().filter(|field| schema.node(field.node).least > 0).collect()
}

/// What a list says of a manifest.
#[derive(Default)]
struct Said {
    path: Option<String>,
    /// Fields 501 to 506, 512 to 516, and 520.
    numbers: [Option<i64>; 12],
    content: ManifestContent,
    partitions: Option<Vec<FieldSummary>>,
    key_metadata: Option<Bytes>,
}

fn manifest(cursor: &mut Cursor<'_>, schema: &WriterSchema, fields: &[&Field]) -> Result<ManifestFile> {
    let mut said = Said::default();
    for field in fields {
        let id = field.id.unwrap_or(-1);
        let bad = |why| damaged(LIST, id, why);
        match id {
            500 => said.path = bytes(cursor, schema, field.node).and_then(text).map_err(bad)?,
            501..=506 | 512..=516 | 520 => {
                let at = match id {
                    520 => 11,
                    512.. => id - 506,
                    _ => id - 501,
                };
                said.numbers[at as usize] = number(cursor, schema, field.node).map_err(bad)?;
            }
            507 => said.partitions = summaries(cursor, schema, field.node).map_err(bad)?,
            517 => {
                said.content = match number(cursor, schema, field.node).map_err(bad)? {
                    None | Some(0) => ManifestContent::Data,
                    Some(1) => ManifestContent::Deletes,
                    Some(_) => return Err(bad("there is no such content")),
                }
            }
            519 => said.key_metadata = bytes(cursor, schema, field.node).map_err(bad)?.map(Bytes::copy_from_slice),
            _ => cursor.skip(schema, field.node).map_err(bad)?,
        }
    }
    said.manifest()
}

impl Said {
    fn manifest(self) -> Result<ManifestFile> {
        let [
            length,
            spec_id,
            snapshot_id,
            added,
            existing,
            deleted,
            added_rows,
            existing_rows,
            deleted_rows,
            sequence,
            least,
            first_row_id,
        ] = self.numbers;
        let needed = |value: Option<i64>, id| value.ok_or_else(|| damaged(LIST, id, "it is missing"));
        // A count that is negative says as much as one that is missing.
        let count = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        Ok(ManifestFile {
            manifest_path: self.path.ok_or_else(|| damaged(LIST, 500, "it is missing"))?,
            manifest_length: needed(length, 501)?,
            partition_spec_id: i32::try_from(needed(spec_id, 502)?)
                .map_err(|_| damaged(LIST, 502, "an int has more than 32 bits"))?,
            content: self.content,
            sequence_number: sequence.unwrap_or(0),
            min_sequence_number: least.unwrap_or(0),
            added_snapshot_id: needed(snapshot_id, 503)?,
            added_files_count: count(added),
            existing_files_count: count(existing),
            deleted_files_count: count(deleted),
            added_rows_count: count(added_rows),
            existing_rows_count: count(existing_rows),
            deleted_rows_count: count(deleted_rows),
            partitions: self.partitions,
            key_metadata: self.key_metadata,
            first_row_id,
        })
    }
}

fn text(bytes: Option<&[u8]>) -> Read<Option<String>> {
    let text = bytes.map(|bytes| std::str::from_utf8(bytes).map(str::to_owned));
    text.transpose().map_err(|_| "a text is not UTF-8")
}

/// The type of the value that follows; none if it is null.
fn present(cursor: &mut Cursor<'_>, schema: &WriterSchema, node: usize) -> Read<Option<usize>> {
    let node = match &schema.node(node).kind {
        Kind::Union(branches) => cursor.branch(branches)?,
        _ => node,
    };
    Ok((schema.node(node).kind != Kind::Null).then_some(node))
}

/// A number. What is of another type is passed over: it is not known.
fn number(cursor: &mut Cursor<'_>, schema: &WriterSchema, node: usize) -> Read<Option<i64>> {
    match present(cursor, schema, node)? {
        None => Ok(None),
        Some(node) if matches!(schema.node(node).kind, Kind::Int | Kind::Long) => cursor.long().map(Some),
        Some(node) => cursor.skip(schema, node).map(|()| None),
    }
}

/// Bytes or text. What is of another type is passed over.
fn bytes<'a>(cursor: &mut Cursor<'a>, schema: &WriterSchema, node: usize) -> Read<Option<&'a [u8]>> {
    match present(cursor, schema, node)? {
        None => Ok(None),
        Some(node) => match schema.node(node).kind {
            Kind::Bytes | Kind::String => cursor.bytes().map(Some),
            Kind::Fixed(length) => cursor.take(length).map(Some),
            _ => cursor.skip(schema, node).map(|()| None),
        },
    }
}

fn boolean(cursor: &mut Cursor<'_>, schema: &WriterSchema, node: usize) -> Read<Option<bool>> {
    match present(cursor, schema, node)? {
        None => Ok(None),
        Some(node) if schema.node(node).kind == Kind::Boolean => cursor.boolean().map(Some),
        Some(node) => cursor.skip(schema, node).map(|()| None),
    }
}

fn summaries(cursor: &mut Cursor<'_>, schema: &WriterSchema, node: usize) -> Read<Option<Vec<FieldSummary>>> {
    let Some(node) = present(cursor, schema, node)? else { return Ok(None) };
    let Kind::Array { items, .. } = schema.node(node).kind else { return cursor.skip(schema, node).map(|()| None) };
    let mut summaries = Vec::new();
    // What takes no bytes can't be counted out; a summary takes one.
    let least = schema.node(items).least;
    if least == 0 {
        return cursor.skip(schema, node).map(|()| None);
    }
    // Items may be null, too; then they say nothing.
    let fields = solid(schema, schema.without_null(items).0);
    while let Some(count) = cursor.items(least)? {
        for _ in 0..count {
            summaries.push(summary(cursor, schema, items, &fields)?);
        }
    }
    Ok(Some(summaries))
}

fn summary(cursor: &mut Cursor<'_>, schema: &WriterSchema, node: usize, fields: &[&Field]) -> Read<FieldSummary> {
    let mut summary = FieldSummary::default();
    if present(cursor, schema, node)?.is_none() {
        return Ok(summary);
    }
    if fields.is_empty() {
        return Err("a summary is no record");
    }
    let bound = |bytes: Option<&[u8]>| bytes.map(|bytes| Bound::new(bytes.to_vec()));
    for field in fields {
        match field.id {
            // Where it is not said, there may be nulls.
            Some(509) => summary.contains_null = boolean(cursor, schema, field.node)?.unwrap_or(true),
            Some(518) => summary.contains_nan = boolean(cursor, schema, field.node)?,
            Some(510) => summary.lower_bound = bound(bytes(cursor, schema, field.node)?),
            Some(511) => summary.upper_bound = bound(bytes(cursor, schema, field.node)?),
            _ => cursor.skip(schema, field.node)?,
        }
    }
    Ok(summary)
}
