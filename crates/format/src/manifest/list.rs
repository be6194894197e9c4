//! Decoder of manifest lists.
//!
//! A list is small, so it is decoded into rows and without a projection. Start with [`read_manifest_list`].

use std::collections::HashSet;

use bytes::Bytes;

use super::unknown::UnknownColumn;
use super::unknown::damaged;
use crate::avro::{Container, Cursor, DecodeResult, Field, NodeKind, Scratch, WriterSchema};
use crate::{BoundBytes, FieldSummary, ManifestContent, ManifestFile, Result, UnknownFields};

const LIST: &str = "manifest list";

/// Decodes a manifest list of any format version, whose bytes are all in memory.
///
/// Fields that version 1 lacks get the specification's defaults: content data, sequence numbers 0, counts `None`.
///
/// Spec: "Manifest Lists".
///
/// # Errors
///
/// Returns [`Avro`](crate::FormatError::Avro) if the file is no Avro file, is damaged, has an unsupported codec, decompresses to
/// more bytes than any manifest list does, or lacks a required field. An error in a field has the field's id.
pub fn read_manifest_list(file: &[u8]) -> Result<Vec<ManifestFile>> {
    let mut container = Container::open(LIST, file)?;
    let schema = container.schema().clone();
    let mut scratch = Scratch::default();
    let (parts, unknown) = parts(&schema, schema.root(), is_known);
    let mut unknown = UnknownColumn::of(LIST, &container, None, &unknown)?;
    let mut summaries = Summaries::of(&container, &schema, &parts)?;
    let mut manifests = Vec::new();
    while let Some((count, bytes)) = container.next(&mut scratch)? {
        let mut cursor = Cursor::new(bytes);
        for _ in 0..count {
            manifests.push(manifest(&mut cursor, &schema, &parts, unknown.as_deref_mut(), &mut summaries)?);
            if let Some(unknown) = &mut unknown {
                unknown.close(manifests.len() - 1).map_err(|why| damaged(LIST, -1, why))?;
            }
        }
    }
    if let Some(mut unknown) = unknown {
        unknown.shrink();
        manifests.iter_mut().enumerate().for_each(|(row, manifest)| manifest.extra = unknown.row(row));
    }
    if let Some(mut unknown) = summaries.unknown {
        unknown.shrink();
        let all = manifests.iter_mut().flat_map(|manifest| manifest.partitions.iter_mut().flatten());
        all.enumerate().for_each(|(row, summary)| summary.extra = unknown.row(row));
    }
    Ok(manifests)
}

/// Returns the format version that a manifest list's header names, or `None` if it names none.
///
/// # Errors
///
/// Returns [`Avro`](crate::FormatError::Avro) if the file is no Avro file, its header is damaged, or its codec is not supported.
pub fn manifest_list_version(file: &[u8]) -> Result<Option<u8>> {
    Ok(Container::open(LIST, file)?.text("format-version").and_then(|text| text.trim().parse().ok()))
}

/// A field of a record whose values take bytes.
struct Part<'a> {
    field: &'a Field,
    /// The index of an unknown field among the unknown fields of its record; `None` for a defined field.
    unknown: Option<usize>,
}

/// Returns the fields of a record whose values take bytes, and the positions of the unknown ones. If two unknown fields have the
/// same id, the first counts.
fn parts(schema: &WriterSchema, record: usize, is_known: fn(i32) -> bool) -> (Vec<Part<'_>>, Vec<(usize, usize)>) {
    let (mut parts, mut unknown, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for (place, field) in schema.fields(record).iter().enumerate() {
        if schema.node(field.node).min_size == 0 {
            continue;
        }
        let is_unknown = field.id.is_some_and(|id| !is_known(id) && seen.insert(id));
        parts.push(Part { field, unknown: is_unknown.then_some(unknown.len()) });
        if is_unknown {
            unknown.push((record, place));
        }
    }
    (parts, unknown)
}

const fn is_known(id: i32) -> bool {
    matches!(id, 500..=507 | 512..=517 | 519 | 520)
}

/// The decoder of partition summaries, with their unknown fields.
struct Summaries<'a> {
    parts: Vec<Part<'a>>,
    unknown: Option<Box<UnknownColumn>>,
    /// The number of summaries read so far.
    count: usize,
}

impl<'a> Summaries<'a> {
    fn of(container: &Container<'_>, schema: &'a WriterSchema, list: &[Part<'_>]) -> Result<Self> {
        let field = list.iter().find(|part| part.field.id == Some(507)).map(|part| schema.without_null(part.field.node).0);
        // An item of the list may be null; then it is a summary without facts.
        let (parts, unknown) = match field.map(|node| &schema.node(node).kind) {
            Some(NodeKind::Array { items, .. }) => {
                parts(schema, schema.without_null(*items).0, |id| matches!(id, 509..=511 | 518))
            }
            _ => (Vec::new(), Vec::new()),
        };
        Ok(Self { parts, unknown: UnknownColumn::of(LIST, container, None, &unknown)?, count: 0 })
    }
}

/// The fields of one manifest's record in the list.
#[derive(Default)]
struct ManifestRecord {
    path: Option<String>,
    /// The values of the fields 501 to 506, 512 to 516, and 520.
    numbers: [Option<i64>; 12],
    content: ManifestContent,
    partitions: Option<Vec<FieldSummary>>,
    key_metadata: Option<Bytes>,
}

fn manifest(
    cursor: &mut Cursor<'_>,
    schema: &WriterSchema,
    parts: &[Part<'_>],
    mut unknown: Option<&mut UnknownColumn>,
    summaries: &mut Summaries<'_>,
) -> Result<ManifestFile> {
    let mut said = ManifestRecord::default();
    for Part { field, unknown: place } in parts {
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
            507 => said.partitions = summaries.read(cursor, schema, field.node).map_err(bad)?,
            517 => {
                said.content = match number(cursor, schema, field.node).map_err(bad)? {
                    None | Some(0) => ManifestContent::Data,
                    Some(1) => ManifestContent::Deletes,
                    Some(_) => return Err(bad("the content is not 0 or 1")),
                }
            }
            519 => said.key_metadata = bytes(cursor, schema, field.node).map_err(bad)?.map(Bytes::copy_from_slice),
            _ => match (&mut unknown, place) {
                (Some(unknown), Some(place)) => unknown.read(*place, cursor, schema, field.node).map_err(bad)?,
                _ => cursor.skip(schema, field.node).map_err(bad)?,
            },
        }
    }
    said.manifest()
}

impl ManifestRecord {
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
        // A negative count is as unknown as a missing one.
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
            extra: UnknownFields::default(),
        })
    }
}

fn text(bytes: Option<&[u8]>) -> DecodeResult<Option<String>> {
    let text = bytes.map(|bytes| std::str::from_utf8(bytes).map(str::to_owned));
    text.transpose().map_err(|_| "a text is not UTF-8")
}

/// Reads the branch of an optional value. Returns the node of the value, or `None` if it is null.
fn present(cursor: &mut Cursor<'_>, schema: &WriterSchema, node: usize) -> DecodeResult<Option<usize>> {
    let node = match &schema.node(node).kind {
        NodeKind::Union(branches) => cursor.branch(branches)?,
        _ => node,
    };
    Ok((schema.node(node).kind != NodeKind::Null).then_some(node))
}

/// Reads a number. A value of another type is skipped and unknown.
fn number(cursor: &mut Cursor<'_>, schema: &WriterSchema, node: usize) -> DecodeResult<Option<i64>> {
    match present(cursor, schema, node)? {
        None => Ok(None),
        Some(node) if matches!(schema.node(node).kind, NodeKind::Int | NodeKind::Long) => cursor.long().map(Some),
        Some(node) => cursor.skip(schema, node).map(|()| None),
    }
}

/// Reads bytes or a text. A value of another type is skipped and unknown.
fn bytes<'a>(cursor: &mut Cursor<'a>, schema: &WriterSchema, node: usize) -> DecodeResult<Option<&'a [u8]>> {
    match present(cursor, schema, node)? {
        None => Ok(None),
        Some(node) => match schema.node(node).kind {
            NodeKind::Bytes | NodeKind::String => cursor.bytes().map(Some),
            NodeKind::Fixed(length) => cursor.take(length).map(Some),
            _ => cursor.skip(schema, node).map(|()| None),
        },
    }
}

fn boolean(cursor: &mut Cursor<'_>, schema: &WriterSchema, node: usize) -> DecodeResult<Option<bool>> {
    match present(cursor, schema, node)? {
        None => Ok(None),
        Some(node) if schema.node(node).kind == NodeKind::Boolean => cursor.boolean().map(Some),
        Some(node) => cursor.skip(schema, node).map(|()| None),
    }
}

impl Summaries<'_> {
    fn read(&mut self, cursor: &mut Cursor<'_>, schema: &WriterSchema, node: usize) -> DecodeResult<Option<Vec<FieldSummary>>> {
        let Some(node) = present(cursor, schema, node)? else { return Ok(None) };
        let NodeKind::Array { items, .. } = schema.node(node).kind else { return cursor.skip(schema, node).map(|()| None) };
        let mut summaries = Vec::new();
        // Items of zero bytes are not counted: their count could be any number. A summary takes at least a byte.
        let least = schema.node(items).min_size;
        if least == 0 {
            return cursor.skip(schema, node).map(|()| None);
        }
        while let Some(count) = cursor.items(least)? {
            for _ in 0..count {
                summaries.push(self.summary(cursor, schema, items)?);
                if let Some(unknown) = &mut self.unknown {
                    unknown.close(self.count)?;
                }
                self.count += 1;
            }
        }
        Ok(Some(summaries))
    }

    fn summary(&mut self, cursor: &mut Cursor<'_>, schema: &WriterSchema, node: usize) -> DecodeResult<FieldSummary> {
        let mut summary = FieldSummary::default();
        if present(cursor, schema, node)?.is_none() {
            return Ok(summary);
        }
        if self.parts.is_empty() {
            return Err("a summary is not a record");
        }
        let bound = |bytes: Option<&[u8]>| bytes.map(|bytes| BoundBytes::new(bytes.to_vec()));
        for Part { field, unknown: place } in &self.parts {
            match field.id {
                // If the writer did not say so, there may be nulls.
                Some(509) => summary.contains_null = boolean(cursor, schema, field.node)?.unwrap_or(true),
                Some(518) => summary.contains_nan = boolean(cursor, schema, field.node)?,
                Some(510) => summary.lower_bound = bound(bytes(cursor, schema, field.node)?),
                Some(511) => summary.upper_bound = bound(bytes(cursor, schema, field.node)?),
                _ => match (&mut self.unknown, place) {
                    (Some(unknown), Some(place)) => unknown.read(*place, cursor, schema, field.node)?,
                    _ => cursor.skip(schema, field.node)?,
                },
            }
        }
        Ok(summary)
    }
}
