//! Decoder of manifests into columnar batches.
//!
//! The decoder runs the steps of a plan for each entry. Partitions are decoded once per distinct byte sequence, because many files
//! share a partition. Start with [`decode_manifest`].

use std::collections::HashMap;

use super::batch::{ManifestBatch, ManifestProjection};
use super::header::{MANIFEST, ManifestHeader, PartitionPart, header};
use super::ids;
use super::plan::{DecodePlan, FieldOp, MapPart, MapPlan, Role, SLOTS, Slot, Step, plan};
use super::unknown::UnknownColumn;
use super::unknown::damaged;
use crate::avro::{Container, Cursor, DecodeError, DecodeResult, Scratch, WriterSchema, decode};
use crate::{DataContentType, ManifestEntry, ManifestStatus, Result, Tuple, Value};

/// Decodes the entries of a manifest whose bytes are all in memory.
///
/// Values that entries inherit from the manifest list are missing, see [`ManifestBatch::inherit`].
///
/// Spec: "Manifests".
///
/// # Errors
///
/// Returns [`Avro`](crate::FormatError::Avro) if the file is no Avro file, is damaged, has an unsupported codec, decompresses to
/// more bytes than any manifest does, or lacks a required field. An error in a field has the field's id.
pub fn decode_manifest(bytes: &[u8], projection: &ManifestProjection) -> Result<ManifestBatch> {
    let mut container = Container::open(MANIFEST, bytes)?;
    let (header, partition) = header(&container);
    let DecodePlan { steps, unknown } = plan(container.schema(), projection, partition)?;
    let schema = container.schema().clone();
    let unknown = UnknownColumn::of(MANIFEST, &container, Some(schema.root()), &unknown)?;
    let mut reader = ManifestDecoder {
        schema: &schema,
        batch: ManifestBatch::new(header, projection.clone(), unknown),
        numbers: [None; SLOTS],
        ids: Vec::new(),
        seen: HashMap::new(),
        last: Vec::new(),
        values: 0,
        bytes: 0,
        columns: RequiredParts::of(&steps),
    };
    let mut scratch = Scratch::default();
    while let Some((count, bytes)) = container.next(&mut scratch)? {
        reader.bytes += bytes.len();
        let mut cursor = Cursor::new(bytes);
        for _ in 0..count {
            reader.entry(&mut cursor, &steps).map_err(|(id, why)| damaged(MANIFEST, id, why))?;
        }
    }
    reader.batch.shrink();
    Ok(reader.batch)
}

/// Decodes the header and all entries of a manifest. Values that entries inherit from the manifest list are missing.
///
/// Spec: "Manifests".
///
/// # Errors
///
/// Returns what [`decode_manifest`] returns.
pub fn read_manifest(file: &[u8]) -> Result<(ManifestHeader, Vec<ManifestEntry>)> {
    let batch = decode_manifest(file, &ManifestProjection::all())?;
    let entries = batch.entries();
    Ok((batch.header, entries))
}

/// The id of a damaged field, and the damage.
type Fault = (i32, DecodeError);

struct ManifestDecoder<'a> {
    schema: &'a WriterSchema,
    batch: ManifestBatch,
    /// The numbers of the current entry.
    numbers: [Option<i64>; SLOTS],
    /// The keys of the current map.
    ids: Vec<i32>,
    /// Partitions by their encoded bytes. Few need to be decoded, because many files share a partition.
    seen: HashMap<Box<[u8]>, u32>,
    last: Vec<u8>,
    /// The number of partition values decoded so far, and the number of decompressed bytes.
    values: usize,
    bytes: usize,
    columns: RequiredParts,
}

/// The optional parts of the plan; each entry must have a value for those that are `true`.
#[derive(Debug, Clone, Copy, Default)]
struct RequiredParts {
    path: bool,
    partition: bool,
}

impl RequiredParts {
    fn of(steps: &[Step]) -> Self {
        let inner = steps.iter().find_map(|step| if let FieldOp::File(inner) = &step.op { Some(inner) } else { None });
        let has = |which: fn(&FieldOp) -> bool| inner.is_some_and(|steps| steps.iter().any(|step| which(&step.op)));
        Self { path: has(|op| matches!(op, FieldOp::Path)), partition: has(|op| matches!(op, FieldOp::Partition(_))) }
    }
}

impl ManifestDecoder<'_> {
    fn entry(&mut self, cursor: &mut Cursor<'_>, steps: &[Step]) -> Result<(), Fault> {
        self.numbers = [None; SLOTS];
        let batch = &mut self.batch;
        batch.record_count.push(0);
        batch.file_size.push(0);
        batch.content.push(DataContentType::Data);
        batch.status.push(ManifestStatus::Existing);
        self.record(cursor, steps)?;
        self.close()
    }

    fn record(&mut self, cursor: &mut Cursor<'_>, steps: &[Step]) -> Result<(), Fault> {
        for step in steps {
            let there = present(cursor, step.null).map_err(|why| (step.id, why))?;
            if there {
                match &step.op {
                    FieldOp::File(inner) => self.record(cursor, inner)?,
                    op => self.field(cursor, op, step.node).map_err(|why| (step.id, why))?,
                }
            }
        }
        Ok(())
    }

    fn field(&mut self, cursor: &mut Cursor<'_>, op: &FieldOp, node: usize) -> DecodeResult<()> {
        let row = self.batch.len;
        match op {
            FieldOp::Skip => cursor.skip(self.schema, node)?,
            FieldOp::Number(slot) => self.numbers[*slot as usize] = Some(cursor.long()?),
            FieldOp::Path => self.batch.paths.push(cursor.text()?)?,
            FieldOp::Format => {
                let code = self.batch.format_code(cursor.text()?)?;
                self.batch.format.push(code);
            }
            FieldOp::Partition(parts) => self.partition(cursor, parts)?,
            FieldOp::Counts(which, plan) => self.counts(cursor, *which, plan)?,
            FieldOp::Bounds(which, plan) => self.bounds(cursor, *which, plan)?,
            FieldOp::KeyMetadata => self.batch.key_metadata.push(row, cursor.bytes()?)?,
            FieldOp::ReferencedFile => self.batch.referenced_file.push(row, cursor.text()?.as_bytes())?,
            FieldOp::Splits(items) => {
                let list = list(cursor, self.schema, *items, Cursor::long)?;
                self.batch.splits.push(row, &list)?;
            }
            FieldOp::EqualityIds(items) => {
                let list = list(cursor, self.schema, *items, Cursor::int)?;
                self.batch.equality_ids.push(row, &list)?;
            }
            FieldOp::Unknown(place) => {
                if let Some(unknown) = &mut self.batch.unknown {
                    unknown.read(*place, cursor, self.schema, node)?;
                }
            }
            // A data file within a data file is not allowed.
            FieldOp::File(_) => return Err("it is in another data file"),
        }
        Ok(())
    }

    /// Ends an entry: checks that required values exist, and stores its numbers.
    fn close(&mut self) -> Result<(), Fault> {
        let number = |slot: Slot| self.numbers[slot as usize];
        let needed = |slot: Slot, id: i32| number(slot).ok_or((id, "it is null"));
        let batch = &mut self.batch;
        let row = batch.len;
        batch.status[row] =
            ManifestStatus::of(needed(Slot::Status, ids::STATUS)?).ok_or((ids::STATUS, "the status is not 0, 1 or 2"))?;
        let content = number(Slot::Content).unwrap_or(0);
        batch.content[row] = DataContentType::of(content).ok_or((ids::CONTENT, "the content is not 0, 1 or 2"))?;
        batch.record_count[row] = needed(Slot::RecordCount, ids::RECORD_COUNT)?;
        batch.file_size[row] = needed(Slot::FileSize, ids::FILE_SIZE)?;
        batch.snapshot_id.set(row, number(Slot::SnapshotId));
        batch.sequence_number.set(row, number(Slot::SequenceNumber));
        batch.file_sequence_number.set(row, number(Slot::FileSequenceNumber));
        batch.sort_order_id.set(row, number(Slot::SortOrder));
        batch.first_row_id.set(row, number(Slot::FirstRowId));
        batch.content_offset.set(row, number(Slot::ContentOffset));
        batch.content_size.set(row, number(Slot::ContentSize));
        if batch.format.len() == row {
            return Err((ids::FILE_FORMAT, "it is null"));
        }
        if self.columns.path && batch.paths.len() == row {
            return Err((ids::FILE_PATH, "it is null"));
        }
        if self.columns.partition && batch.tuple.len() == row {
            // A partition struct that is null has only null values.
            batch.tuple.push(batch.tuples.len() as u32);
            batch.tuples.push(vec![None; batch.header.partition.len()].into());
            self.last.clear();
        }
        if let Some(unknown) = &mut batch.unknown {
            unknown.close(row).map_err(|why| (ids::DATA_FILE, why))?;
        }
        batch.len += 1;
        Ok(())
    }

    /// Reads a partition. Adjacent entries usually have the same.
    fn partition(&mut self, cursor: &mut Cursor<'_>, parts: &[PartitionPart]) -> DecodeResult<()> {
        let start = *cursor;
        for part in parts {
            if present(cursor, part.null)? {
                cursor.skip(self.schema, part.node)?;
            }
        }
        let bytes = cursor.since(&start);
        let batch = &mut self.batch;
        if let Some(last) = batch.tuple.last()
            && bytes == self.last
            && !bytes.is_empty()
        {
            batch.tuple.push(*last);
            return Ok(());
        }
        self.last.clear();
        self.last.extend_from_slice(bytes);
        let at = match self.seen.get(bytes) {
            Some(at) => *at,
            None => {
                self.values += batch.header.partition.len();
                // A field of the spec that the file lacks costs memory for each partition, but no byte of the file.
                if self.values > self.bytes + (1 << 20) {
                    return Err("its spec has too many fields that the partition struct lacks");
                }
                let tuple = tuple(start, self.schema, parts, batch.header.partition.len())?;
                let at = u32::try_from(batch.tuples.len()).map_err(|_| super::columns::TOO_LARGE)?;
                batch.tuples.push(tuple);
                self.seen.insert(bytes.into(), at);
                at
            }
        };
        batch.tuple.push(at);
        Ok(())
    }

    fn counts(&mut self, cursor: &mut Cursor<'_>, which: usize, plan: &MapPlan) -> DecodeResult<()> {
        let column = &mut self.batch.counts[which];
        self.ids.clear();
        while let Some(count) = cursor.items(plan.least)? {
            for _ in 0..count {
                let (key, value) = match &plan.parts {
                    None => (Some(cursor.int()?), Some(cursor.long()?)),
                    Some(parts) => item(cursor, self.schema, parts, Cursor::long)?,
                };
                if let (Some(key), Some(value)) = (key, value)
                    && plan.columns.has(key)
                {
                    self.ids.push(key);
                    column.push(value);
                }
            }
        }
        column.close(self.batch.len, &self.ids)
    }

    fn bounds(&mut self, cursor: &mut Cursor<'_>, which: usize, plan: &MapPlan) -> DecodeResult<()> {
        let column = &mut self.batch.bounds[which];
        self.ids.clear();
        while let Some(count) = cursor.items(plan.least)? {
            for _ in 0..count {
                let (key, value) = match &plan.parts {
                    None => (Some(cursor.int()?), Some(cursor.bytes()?)),
                    Some(parts) => item(cursor, self.schema, parts, Cursor::bytes)?,
                };
                if let (Some(key), Some(value)) = (key, value)
                    && plan.columns.has(key)
                {
                    self.ids.push(key);
                    column.push(value)?;
                }
            }
        }
        column.close(self.batch.len, &self.ids)
    }
}

/// Reads the branch of an optional value. Returns `true` if the value is not null. The union has two branches.
#[inline]
fn present(cursor: &mut Cursor<'_>, null: Option<usize>) -> DecodeResult<bool> {
    let Some(null) = null else { return Ok(true) };
    match cursor.long()? {
        branch @ (0 | 1) => Ok(branch as usize != null),
        _ => Err("a union has no branch of that index"),
    }
}

/// Reads the key and the value of a map's item, whatever the order of the item's fields.
fn item<'a, T>(
    cursor: &mut Cursor<'a>,
    schema: &WriterSchema,
    parts: &[MapPart],
    read: impl Fn(&mut Cursor<'a>) -> DecodeResult<T>,
) -> DecodeResult<(Option<i32>, Option<T>)> {
    let (mut key, mut value) = (None, None);
    for part in parts {
        if present(cursor, part.null)? {
            match part.role {
                Role::Key => key = Some(cursor.int()?),
                Role::Value => value = Some(read(cursor)?),
                Role::Other => cursor.skip(schema, part.node)?,
            }
        }
    }
    Ok((key, value))
}

/// Reads a list of numbers; nulls are left out.
fn list<'a, T>(
    cursor: &mut Cursor<'a>,
    schema: &WriterSchema,
    items: usize,
    read: impl Fn(&mut Cursor<'a>) -> DecodeResult<T>,
) -> DecodeResult<Vec<T>> {
    let (_, null) = schema.without_null(items);
    let mut list = Vec::new();
    while let Some(count) = cursor.items(schema.node(items).min_size)? {
        for _ in 0..count {
            if present(cursor, null)? {
                list.push(read(cursor)?);
            }
        }
    }
    Ok(list)
}

fn tuple(mut cursor: Cursor<'_>, schema: &WriterSchema, parts: &[PartitionPart], width: usize) -> DecodeResult<Tuple> {
    let mut values: Vec<Option<Value>> = vec![None; width];
    for part in parts {
        if !present(&mut cursor, part.null)? {
            continue;
        }
        match (&part.ty, part.place) {
            (Some(ty), Some(place)) => values[place] = decode(&mut cursor, schema.node(part.node), ty)?,
            _ => cursor.skip(schema, part.node)?,
        }
    }
    Ok(values.into())
}
