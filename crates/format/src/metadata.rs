//! The metadata of a table.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use crate::{
    EncryptedKey, Extra, FormatError, MAIN_BRANCH, MetadataLog, NestedField, NestedFieldRef, PartitionSpecRef,
    PartitionStatisticsFile, PrimitiveType, Result, Schema, SchemaRef, SnapshotLog, SnapshotRef, SnapshotReference, SortOrderRef,
    StatisticsFile, Type,
};

/// The highest version of the format that is read.
pub const MAX_FORMAT_VERSION: u8 = 3;

/// A table: its columns, partitioning and snapshots.
///
/// What leads nowhere is an error only where nothing could be read without it: the current schema, the default spec and sort order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMetadata {
    /// The version of the format, 1 to 3.
    pub format_version: u8,
    /// What identifies the table, whatever it is called. Version 1 may leave it out.
    pub table_uuid: Option<Uuid>,
    /// Where the table's files lie.
    pub location: String,
    /// The highest sequence number of its snapshots; 0 in version 1.
    pub last_sequence_number: i64,
    /// When it was last changed, in milliseconds since 1970.
    pub last_updated_ms: i64,
    /// The highest id that a field ever had.
    pub last_column_id: i32,
    /// The table's schemas, in the order that they are written in.
    pub schemas: Vec<SchemaRef>,
    /// The schema that it has now.
    pub current_schema_id: i32,
    /// The ways in which the table's files are or were parted.
    pub partition_specs: Vec<PartitionSpecRef>,
    /// The spec that writers use.
    pub default_spec_id: i32,
    /// The highest id that a partition field ever had.
    pub last_partition_id: i32,
    /// The table's properties.
    pub properties: BTreeMap<String, String>,
    /// The snapshot that `main` is at.
    pub current_snapshot_id: Option<i64>,
    /// The table's snapshots.
    pub snapshots: Snapshots,
    /// Which snapshots were current, and when.
    pub snapshot_log: Vec<SnapshotLog>,
    /// Which metadata files were current, and when.
    pub metadata_log: Vec<MetadataLog>,
    /// The orders in which the table's rows are or were sorted.
    pub sort_orders: Vec<SortOrderRef>,
    /// The sort order that writers use.
    pub default_sort_order_id: i64,
    /// The table's branches and tags.
    pub refs: BTreeMap<String, SnapshotReference>,
    /// Statistics of the table's snapshots.
    pub statistics: Vec<StatisticsFile>,
    /// Statistics of the partitions of the table's snapshots.
    pub partition_statistics: Vec<PartitionStatisticsFile>,
    /// The keys that its files are encrypted with (version 3).
    pub encryption_keys: Vec<EncryptedKey>,
    /// The first row id that no row has (version 3).
    pub next_row_id: Option<u64>,
    /// What else its JSON says.
    pub extra: Extra,
}

/// Snapshots in the order that they are written in, found by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshots {
    all: Vec<SnapshotRef>,
    places: HashMap<i64, usize>,
}

impl Snapshots {
    /// The snapshots in order.
    pub fn iter(&self) -> std::slice::Iter<'_, SnapshotRef> {
        self.all.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The snapshot with an id.
    pub fn get(&self, id: i64) -> Option<&SnapshotRef> {
        self.places.get(&id).map(|place| &self.all[*place])
    }

    /// Adds a snapshot at the end. Of two with one id the first is found.
    pub fn push(&mut self, snapshot: SnapshotRef) {
        self.places.entry(snapshot.snapshot_id).or_insert(self.all.len());
        self.all.push(snapshot);
    }

    /// Leaves out the snapshots that `kept` says false of.
    pub fn retain(&mut self, mut kept: impl FnMut(&SnapshotRef) -> bool) {
        *self = std::mem::take(&mut self.all).into_iter().filter(|snapshot| kept(snapshot)).collect();
    }
}

impl FromIterator<SnapshotRef> for Snapshots {
    fn from_iter<I: IntoIterator<Item = SnapshotRef>>(all: I) -> Self {
        let mut snapshots = Self::default();
        all.into_iter().for_each(|snapshot| snapshots.push(snapshot));
        snapshots
    }
}

impl<'a> IntoIterator for &'a Snapshots {
    type Item = &'a SnapshotRef;
    type IntoIter = std::slice::Iter<'a, SnapshotRef>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl TableMetadata {
    /// The schema with an id.
    pub fn schema_by_id(&self, id: i32) -> Option<&SchemaRef> {
        self.schemas.iter().find(|schema| schema.schema_id() == id)
    }

    /// The schema that the table has now. Metadata that lacks it is not read, and no update removes it.
    pub fn current_schema(&self) -> &SchemaRef {
        self.schema_by_id(self.current_schema_id).expect("the current schema is there, or the metadata was not read")
    }

    /// The partition spec with an id.
    pub fn partition_spec_by_id(&self, id: i32) -> Option<&PartitionSpecRef> {
        self.partition_specs.iter().find(|spec| spec.spec_id() == id)
    }

    /// The partition spec that writers use. Metadata that lacks it is not read, and no update removes it.
    pub fn default_partition_spec(&self) -> &PartitionSpecRef {
        self.partition_spec_by_id(self.default_spec_id).expect("the default spec is there, or the metadata was not read")
    }

    /// The sort order with an id.
    pub fn sort_order_by_id(&self, id: i64) -> Option<&SortOrderRef> {
        self.sort_orders.iter().find(|order| order.order_id == id)
    }

    /// The sort order that writers use. Metadata that lacks it is not read, and no update removes it.
    pub fn default_sort_order(&self) -> &SortOrderRef {
        self.sort_order_by_id(self.default_sort_order_id).expect("the default order is there, or the metadata was not read")
    }

    /// The snapshot that `main` is at.
    pub fn current_snapshot(&self) -> Option<&SnapshotRef> {
        self.snapshots.get(self.current_snapshot_id?)
    }

    /// The snapshot that a branch or tag is at.
    pub fn snapshot_for_ref(&self, name: &str) -> Option<&SnapshotRef> {
        match self.refs.get(name) {
            Some(reference) => self.snapshots.get(reference.snapshot_id),
            None if name == MAIN_BRANCH => self.current_snapshot(),
            None => None,
        }
    }

    /// A field as the table has it now, or as the newest schema had it that had it.
    pub fn field_by_id(&self, id: i32) -> Option<&NestedFieldRef> {
        let current = self.schema_by_id(self.current_schema_id).and_then(|schema| schema.field_by_id(id));
        // Some writers list schemas in no order.
        let with = self.schemas.iter().filter(|schema| schema.field_by_id(id).is_some());
        let newest = || with.max_by_key(|schema| schema.schema_id()).and_then(|schema| schema.field_by_id(id));
        current.or_else(newest)
    }

    /// The type of a field: as the table has it now, or as the newest schema had it that had the field.
    pub fn type_of_field(&self, id: i32) -> Option<&Type> {
        self.field_by_id(id).map(|field| field.field_type.as_ref())
    }

    /// The required fields of a schema that rows may lack all the same, at any depth but keys of maps: another schema of the table has
    /// them as optional, or lacks them and no initial default fills them in. Schemas that were removed may have been such ones.
    ///
    /// The specification allows neither change ("Schema Evolution"), but clients make both when they are told to allow incompatible ones.
    pub fn doubtful_fields(&self, schema: &Schema) -> BTreeSet<i32> {
        let ids: BTreeSet<i32> = self.schemas.iter().map(|schema| schema.schema_id()).collect();
        let complete = ids.iter().copied().eq(0..ids.len() as i32);
        let certain = |field: &NestedField| {
            complete
                && self.schemas.iter().all(|other| match other.field_by_id(field.id) {
                    Some(other) => other.required,
                    None => field.initial_default.is_some(),
                })
        };
        let is_key = |id: i32| {
            let map = schema.parent_of(id).and_then(|parent| schema.field_by_id(parent)).map(|parent| parent.field_type.as_ref());
            matches!(map, Some(Type::Map(map)) if map.key_field.id == id)
        };
        let required = schema.field_ids().filter(|id| !is_key(*id));
        required.filter(|id| schema.field_by_id(*id).is_some_and(|field| field.required && !certain(field))).collect()
    }

    /// The types of the values of a spec's partitions, by place; of a spec that the table has not, none.
    pub fn partition_types(&self, spec_id: i32) -> Vec<Option<PrimitiveType>> {
        self.partition_spec_by_id(spec_id).map(|spec| spec.types(|id| self.type_of_field(id))).unwrap_or_default()
    }

    /// The sequence number that the next snapshot gets; 0 in version 1, which has none.
    pub fn next_sequence_number(&self) -> i64 {
        if self.format_version == 1 {
            return 0;
        }
        // Deletes of a snapshot with a higher number than the table's would hide the rows of the next.
        let highest = self.snapshots.iter().map(|snapshot| snapshot.sequence_number()).max();
        self.last_sequence_number.max(highest.unwrap_or(0)).saturating_add(1)
    }

    /// The statistics of a snapshot.
    pub fn statistics_for_snapshot(&self, id: i64) -> Option<&StatisticsFile> {
        self.statistics.iter().find(|file| file.snapshot_id == id)
    }

    /// The statistics of a snapshot's partitions.
    pub fn partition_statistics_for_snapshot(&self, id: i64) -> Option<&PartitionStatisticsFile> {
        self.partition_statistics.iter().find(|file| file.snapshot_id == id)
    }

    /// What can't be left out of a table's metadata leads somewhere.
    pub(crate) fn checked(self) -> Result<Self> {
        let lead = |found: bool, field, id: i64, list| if found { Ok(()) } else { Err(missing(field, id, list)) };
        let (schema, spec, order) = (self.current_schema_id, self.default_spec_id, self.default_sort_order_id);
        lead(self.schema_by_id(schema).is_some(), "current-schema-id", schema.into(), "schemas")?;
        lead(self.partition_spec_by_id(spec).is_some(), "default-spec-id", spec.into(), "partition-specs")?;
        lead(self.sort_order_by_id(order).is_some(), "default-sort-order-id", order, "sort-orders")?;
        Ok(self)
    }
}

fn missing(field: &str, id: impl std::fmt::Display, list: &str) -> FormatError {
    FormatError::invalid("table metadata", format!("{field} is {id}, which is not in {list}"))
}

/// An id that metadata needs and version 1 leaves out: one more than the highest.
pub(crate) fn highest_partition_id(specs: &[PartitionSpecRef]) -> i32 {
    let ids = specs.iter().flat_map(|spec| spec.fields()).map(|field| field.field_id);
    ids.max().unwrap_or(crate::FIRST_PARTITION_FIELD_ID - 1)
}

/// One of a list that is shared.
pub(crate) fn shared<T>(all: Vec<T>) -> Vec<Arc<T>> {
    all.into_iter().map(Arc::new).collect()
}
