//! The plan of decoding a manifest: a step for each field of the file's schema, made once per file.
//!
//! Fields are identified by id. A field of an unexpected type is skipped; a required one makes the file invalid. Start with
//! [`plan`].

use std::collections::HashSet;

use super::batch::{ColumnSet, ManifestProjection};
use super::header::{MANIFEST, PartitionPart};
use super::ids;
use crate::avro::{Field, NodeKind, WriterSchema};
use crate::{FormatError, Result};

/// The handling of a field. Steps are in the order of the fields in the file.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) id: i32,
    pub(super) op: FieldOp,
    /// The node of the field's type; for an optional field, of the type other than null.
    pub(super) node: usize,
    /// The branch of null if the type is a union of null and another type.
    pub(super) null: Option<usize>,
}

/// The operation on a field.
#[derive(Debug)]
pub(super) enum FieldOp {
    Skip,
    File(Vec<Step>),
    Number(Slot),
    Path,
    Format,
    Partition(Vec<PartitionPart>),
    /// Decodes a map of counts; the number is its index in the batch's `counts`.
    Counts(usize, MapPlan),
    /// Decodes a map of bounds; the number is its index in the batch's `bounds`.
    Bounds(usize, MapPlan),
    KeyMetadata,
    ReferencedFile,
    Splits(usize),
    EqualityIds(usize),
    /// Keeps an unknown field; the number is its index among the kept fields.
    Unknown(usize),
}

/// A number of an entry or its file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Slot {
    Status,
    SnapshotId,
    SequenceNumber,
    FileSequenceNumber,
    Content,
    RecordCount,
    FileSize,
    SortOrder,
    FirstRowId,
    ContentOffset,
    ContentSize,
}

/// The number of [`Slot`]s.
pub(super) const SLOTS: usize = 11;

/// The plan of decoding a map, which Avro stores as a list of key-value records.
#[derive(Debug)]
pub(super) struct MapPlan {
    pub(super) columns: ColumnSet,
    /// The smallest size of an item, in bytes.
    pub(super) least: usize,
    /// The fields of an item; `None` if an item is exactly a required number and then a required value, the usual case.
    pub(super) parts: Option<Vec<MapPart>>,
}

/// A field of a map's item.
#[derive(Debug)]
pub(super) struct MapPart {
    pub(super) role: Role,
    pub(super) node: usize,
    pub(super) null: Option<usize>,
}

/// The role of a field in a map's item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Key,
    Value,
    Other,
}

/// The plan of decoding entries.
#[derive(Debug)]
pub(super) struct DecodePlan {
    pub(super) steps: Vec<Step>,
    /// The unknown fields in the order in which they are read: the node of the record, and the position in it.
    pub(super) unknown: Vec<(usize, usize)>,
}

/// Makes the plan of decoding entries. Fails if the schema lacks a required field.
pub(super) fn plan(schema: &WriterSchema, projection: &ManifestProjection, partition: Vec<PartitionPart>) -> Result<DecodePlan> {
    let planner = Planner { schema, projection };
    let mut partition = Some(partition);
    let mut steps = planner.record(schema.root(), |planner, field, node| planner.entry(field, node, &mut partition))?;
    needed(&steps, &[ids::STATUS, ids::DATA_FILE])?;
    let mut unknown = Vec::new();
    let mut counted = |record, step: &mut Step| {
        if let FieldOp::Unknown(place) = &mut step.op {
            unknown.push((record, *place));
            *place = unknown.len() - 1;
        }
    };
    for step in &mut steps {
        counted(schema.root(), step);
        if let FieldOp::File(inner) = &mut step.op {
            inner.iter_mut().for_each(|inner| counted(step.node, inner));
            needed(inner, &[ids::FILE_FORMAT, ids::RECORD_COUNT, ids::FILE_SIZE])?;
            let path =
                inner.iter().any(|step| step.id == ids::FILE_PATH && (matches!(step.op, FieldOp::Path) || !projection.path));
            if !path {
                return Err(missing(ids::FILE_PATH));
            }
        }
    }
    Ok(DecodePlan { steps, unknown })
}

/// Checks that the required fields `ids` are decoded.
fn needed(steps: &[Step], ids: &[i32]) -> Result<()> {
    let has = |id: &i32| steps.iter().any(|step| step.id == *id && !matches!(step.op, FieldOp::Skip));
    ids.iter().find(|id| !has(id)).map_or(Ok(()), |id| Err(missing(*id)))
}

fn missing(id: i32) -> FormatError {
    FormatError::Avro { what: format!("{MANIFEST}: field {id}"), why: "it is missing or has an unsupported type".to_owned() }
}

struct Planner<'a> {
    schema: &'a WriterSchema,
    projection: &'a ManifestProjection,
}

impl Planner<'_> {
    /// Returns the steps of a record. If two fields have the same id, the first counts, so that each is read once.
    fn record(&self, node: usize, mut op: impl FnMut(&Self, i32, usize) -> Result<FieldOp>) -> Result<Vec<Step>> {
        let mut seen = HashSet::new();
        let mut steps = Vec::new();
        for (place, Field { id, node, .. }) in self.schema.fields(node).iter().enumerate() {
            let (inner, null) = self.schema.without_null(*node);
            let op = match id {
                Some(id) if seen.insert(*id) => op(self, *id, inner)?,
                _ => FieldOp::Skip,
            };
            let op = if matches!(op, FieldOp::Unknown(_)) { FieldOp::Unknown(place) } else { op };
            let is_whole = matches!(op, FieldOp::Skip | FieldOp::Unknown(_));
            // A field of zero bytes need not be skipped, and has no value to keep.
            if is_whole && self.schema.node(*node).min_size == 0 {
                continue;
            }
            let (node, null) = if is_whole { (*node, None) } else { (inner, null) };
            steps.push(Step { id: id.unwrap_or(-1), op, node, null });
        }
        Ok(steps)
    }

    fn entry(&self, id: i32, node: usize, partition: &mut Option<Vec<PartitionPart>>) -> Result<FieldOp> {
        Ok(match id {
            ids::STATUS => self.number(node, Slot::Status),
            ids::SNAPSHOT_ID => self.number(node, Slot::SnapshotId),
            ids::SEQUENCE_NUMBER => self.number(node, Slot::SequenceNumber),
            ids::FILE_SEQUENCE_NUMBER => self.number(node, Slot::FileSequenceNumber),
            ids::DATA_FILE if matches!(self.schema.node(node).kind, NodeKind::Record(_)) => {
                FieldOp::File(self.record(node, |planner, id, node| Ok(planner.file(id, node, partition)))?)
            }
            // `record` puts in the field's position.
            _ if self.projection.details && id != ids::DATA_FILE => FieldOp::Unknown(0),
            _ => FieldOp::Skip,
        })
    }

    fn file(&self, id: i32, node: usize, partition: &mut Option<Vec<PartitionPart>>) -> FieldOp {
        let ManifestProjection { path, partition: with_partition, counts, sizes, bounds, details } = self.projection;
        let when = |wanted: bool, op: FieldOp| if wanted { op } else { FieldOp::Skip };
        let counts_by_id = |columns, ids, at| {
            self.map(node, columns, ids, Self::is_number).map_or(FieldOp::Skip, |plan| FieldOp::Counts(at, plan))
        };
        let bounds_by_id =
            |ids, at| self.map(node, bounds, ids, Self::is_text).map_or(FieldOp::Skip, |plan| FieldOp::Bounds(at, plan));
        match id {
            ids::CONTENT => self.number(node, Slot::Content),
            ids::RECORD_COUNT => self.number(node, Slot::RecordCount),
            ids::FILE_SIZE => self.number(node, Slot::FileSize),
            ids::FIRST_ROW_ID => self.number(node, Slot::FirstRowId),
            ids::FILE_FORMAT => when(self.is_text(node), FieldOp::Format),
            ids::FILE_PATH => when(*path && self.is_text(node), FieldOp::Path),
            ids::PARTITION if *with_partition => partition.take().map_or(FieldOp::Skip, FieldOp::Partition),
            ids::COLUMN_SIZES => counts_by_id(sizes, (117, 118), 0),
            ids::VALUE_COUNTS => counts_by_id(counts, (119, 120), 1),
            ids::NULL_COUNTS => counts_by_id(counts, (121, 122), 2),
            ids::NAN_COUNTS => counts_by_id(counts, (138, 139), 3),
            ids::LOWER_BOUNDS => bounds_by_id((126, 127), 0),
            ids::UPPER_BOUNDS => bounds_by_id((129, 130), 1),
            _ if !details => FieldOp::Skip,
            ids::KEY_METADATA => when(self.is_text(node), FieldOp::KeyMetadata),
            ids::REFERENCED_FILE => when(self.is_text(node), FieldOp::ReferencedFile),
            ids::SPLIT_OFFSETS => self.list(node).map_or(FieldOp::Skip, FieldOp::Splits),
            ids::EQUALITY_IDS => self.list(node).map_or(FieldOp::Skip, FieldOp::EqualityIds),
            ids::SORT_ORDER_ID => self.number(node, Slot::SortOrder),
            ids::CONTENT_OFFSET => self.number(node, Slot::ContentOffset),
            ids::CONTENT_SIZE => self.number(node, Slot::ContentSize),
            ids::PARTITION => FieldOp::Skip,
            id if ids::DEPRECATED.contains(&id) => FieldOp::Skip,
            // `record` puts in the field's position.
            _ => FieldOp::Unknown(0),
        }
    }

    fn is_number(&self, node: usize) -> bool {
        matches!(self.schema.node(node).kind, NodeKind::Int | NodeKind::Long)
    }

    /// Returns `true` for text or bytes, which have the same encoding.
    fn is_text(&self, node: usize) -> bool {
        matches!(self.schema.node(node).kind, NodeKind::String | NodeKind::Bytes)
    }

    fn number(&self, node: usize, slot: Slot) -> FieldOp {
        if self.is_number(node) { FieldOp::Number(slot) } else { FieldOp::Skip }
    }

    /// Returns the type of a list's items if they are numbers.
    fn list(&self, node: usize) -> Option<usize> {
        match self.schema.node(node).kind {
            NodeKind::Array { items, .. } if self.is_number(self.schema.without_null(items).0) => Some(items),
            _ => None,
        }
    }

    /// Returns the plan of a map, which is a list of records with a key and a value. They are identified by id, or by position if
    /// the writer left out the ids.
    fn map(&self, node: usize, columns: &ColumnSet, (key, value): (i32, i32), fits: fn(&Self, usize) -> bool) -> Option<MapPlan> {
        if columns.is_none() {
            return None;
        }
        let NodeKind::Array { items, .. } = self.schema.node(node).kind else { return None };
        let fields = self.schema.fields(items);
        let by_id = |id: i32| fields.iter().position(|field| field.id == Some(id));
        let (key, value) = (by_id(key).unwrap_or(0), by_id(value).unwrap_or(1));
        if key == value || fields.len() < 2 {
            return None;
        }
        let mut parts = Vec::with_capacity(fields.len());
        for (at, field) in fields.iter().enumerate() {
            if self.schema.node(field.node).min_size == 0 {
                continue;
            }
            let role = if at == key {
                Role::Key
            } else if at == value {
                Role::Value
            } else {
                Role::Other
            };
            let (inner, null) = self.schema.without_null(field.node);
            let (node, null) = if role == Role::Other { (field.node, None) } else { (inner, null) };
            parts.push(MapPart { role, node, null });
        }
        let node = |at: usize| self.schema.without_null(fields[at].node).0;
        if !self.is_number(node(key)) || !fits(self, node(value)) {
            return None;
        }
        let plain = parts.len() == 2 && key == 0 && parts.iter().all(|part| part.null.is_none());
        Some(MapPlan { columns: columns.clone(), least: self.schema.node(items).min_size, parts: (!plain).then_some(parts) })
    }
}
