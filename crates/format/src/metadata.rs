//! The metadata of a table, and its lookups.
//!
//! The JSON form is in `json::metadata`, changes are in `apply` and `create`, the rules of the specification in `rules`. Metadata
//! whose current schema, default spec or default sort order is missing from its list is not read, so those lookups cannot fail.
//!
//! Spec: "Table Metadata". Start with [`TableMetadata`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use crate::{
    EncryptedKey, Extra, FormatError, MAIN_BRANCH, MetadataLog, NestedField, NestedFieldRef, PartitionSpecRef,
    PartitionStatisticsFile, PrimitiveType, Result, Schema, SchemaRef, SnapshotLog, SnapshotRef, SnapshotReference, SortOrderRef,
    StatisticsFile, Type,
};

/// The highest format version that is read and written.
pub const MAX_FORMAT_VERSION: u8 = 3;

/// The metadata of a table: its schemas, partition specs, snapshots and references.
///
/// A dangling id is an error only where nothing could be read without its target: the current schema, the default spec, the default
/// sort order.
///
/// Spec: "Table Metadata Fields".
///
/// ```
/// use esker_format::TableMetadata;
///
/// let json = br#"{
///   "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "s3://lake/db/events",
///   "last-sequence-number": 0, "last-updated-ms": 1700000000000, "last-column-id": 1, "current-schema-id": 0,
///   "schemas": [{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "id", "required": true, "type": "long"}]}],
///   "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}], "last-partition-id": 999,
///   "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}]
/// }"#;
/// let metadata = TableMetadata::from_json(json)?;
/// assert_eq!(metadata.current_schema().name_by_field_id(1), Some("id"));
/// assert!(metadata.current_snapshot().is_none(), "nothing was written yet");
///
/// // A file without a required field is refused, with the path of the field.
/// let error = TableMetadata::from_json(br#"{"format-version": 2}"#).expect_err("no schema");
/// assert!(error.to_string().contains("table metadata"), "{error}");
/// # Ok::<(), esker_format::FormatError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMetadata {
    /// The format version, 1 to 3.
    pub format_version: u8,
    /// The identity of the table, which renaming does not change. Format version 1 may leave it out.
    pub table_uuid: Option<Uuid>,
    /// The base location of the table's files.
    pub location: String,
    /// The highest sequence number of the table's snapshots; 0 in format version 1.
    pub last_sequence_number: i64,
    /// The time of the last change, in milliseconds since the Unix epoch.
    pub last_updated_ms: i64,
    /// The highest field id that was ever assigned.
    pub last_column_id: i32,
    /// The table's schemas, in the order in which the metadata lists them.
    pub schemas: Vec<SchemaRef>,
    /// The id of the schema that the table has now.
    pub current_schema_id: i32,
    /// The present and former partition specs of the table.
    pub partition_specs: Vec<PartitionSpecRef>,
    /// The id of the spec that writers use.
    pub default_spec_id: i32,
    /// The highest partition field id that was ever assigned.
    pub last_partition_id: i32,
    /// The table's properties.
    pub properties: BTreeMap<String, String>,
    /// The id of the snapshot of `main`; `None` if the table has no current snapshot.
    pub current_snapshot_id: Option<i64>,
    /// The table's snapshots.
    pub snapshots: Snapshots,
    /// The history of the current snapshot, oldest first.
    pub snapshot_log: Vec<SnapshotLog>,
    /// The history of the table's metadata files, oldest first; the present one is not in it.
    pub metadata_log: Vec<MetadataLog>,
    /// The present and former sort orders of the table.
    pub sort_orders: Vec<SortOrderRef>,
    /// The id of the sort order that writers use.
    pub default_sort_order_id: i64,
    /// The table's branches and tags, by name.
    pub refs: BTreeMap<String, SnapshotReference>,
    /// The statistics files of the table's snapshots.
    pub statistics: Vec<StatisticsFile>,
    /// The partition statistics files of the table's snapshots.
    pub partition_statistics: Vec<PartitionStatisticsFile>,
    /// The keys that encrypt the keys of the table's files (format version 3).
    pub encryption_keys: Vec<EncryptedKey>,
    /// The first row id that is not assigned to a row (format version 3).
    pub next_row_id: Option<u64>,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

/// A list of snapshots in the order of the metadata, indexed by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshots {
    all: Vec<SnapshotRef>,
    places: HashMap<i64, usize>,
}

impl Snapshots {
    /// Returns the snapshots in the order of the metadata.
    pub fn iter(&self) -> std::slice::Iter<'_, SnapshotRef> {
        self.all.iter()
    }

    /// Returns the number of snapshots.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns `true` if there are no snapshots.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Returns the snapshot with `id`; the first one if two have it.
    pub fn get(&self, id: i64) -> Option<&SnapshotRef> {
        self.places.get(&id).map(|place| &self.all[*place])
    }

    /// Adds a snapshot at the end. If its id is in the list already, lookups keep finding the first.
    pub fn push(&mut self, snapshot: SnapshotRef) {
        self.places.entry(snapshot.snapshot_id).or_insert(self.all.len());
        self.all.push(snapshot);
    }

    /// Removes the snapshots for which `kept` returns `false`.
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
    /// Returns the schema with `id`.
    pub fn schema_by_id(&self, id: i32) -> Option<&SchemaRef> {
        self.schemas.iter().find(|schema| schema.schema_id() == id)
    }

    /// Returns the schema that the table has now. It always exists: metadata without it is not read, and no update removes it.
    pub fn current_schema(&self) -> &SchemaRef {
        self.schema_by_id(self.current_schema_id).expect("the current schema is there, or the metadata was not read")
    }

    /// Returns the partition spec with `id`.
    pub fn partition_spec_by_id(&self, id: i32) -> Option<&PartitionSpecRef> {
        self.partition_specs.iter().find(|spec| spec.spec_id() == id)
    }

    /// Returns the partition spec that writers use. It always exists: metadata without it is not read, and no update removes it.
    pub fn default_partition_spec(&self) -> &PartitionSpecRef {
        self.partition_spec_by_id(self.default_spec_id).expect("the default spec is there, or the metadata was not read")
    }

    /// Returns the sort order with `id`.
    pub fn sort_order_by_id(&self, id: i64) -> Option<&SortOrderRef> {
        self.sort_orders.iter().find(|order| order.order_id == id)
    }

    /// Returns the sort order that writers use. It always exists: metadata without it is not read, and no update removes it.
    pub fn default_sort_order(&self) -> &SortOrderRef {
        self.sort_order_by_id(self.default_sort_order_id).expect("the default order is there, or the metadata was not read")
    }

    /// Returns the snapshot of `main`.
    pub fn current_snapshot(&self) -> Option<&SnapshotRef> {
        self.snapshots.get(self.current_snapshot_id?)
    }

    /// Returns the snapshot of the branch or tag `name`. For `main` it is the current snapshot even if the metadata has no such
    /// branch.
    pub fn snapshot_for_ref(&self, name: &str) -> Option<&SnapshotRef> {
        match self.refs.get(name) {
            Some(reference) => self.snapshots.get(reference.snapshot_id),
            None if name == MAIN_BRANCH => self.current_snapshot(),
            None => None,
        }
    }

    /// Returns the field with `id` from the current schema, or else from the newest schema that has it.
    pub fn field_by_id(&self, id: i32) -> Option<&NestedFieldRef> {
        let current = self.schema_by_id(self.current_schema_id).and_then(|schema| schema.field_by_id(id));
        // Some writers do not list schemas in the order of their ids.
        let with = self.schemas.iter().filter(|schema| schema.field_by_id(id).is_some());
        let newest = || with.max_by_key(|schema| schema.schema_id()).and_then(|schema| schema.field_by_id(id));
        current.or_else(newest)
    }

    /// Returns the type of the field with `id`, taken from the current schema, or else from the newest schema that has the field.
    pub fn type_of_field(&self, id: i32) -> Option<&Type> {
        self.field_by_id(id).map(|field| field.field_type.as_ref())
    }

    /// Returns the ids of required fields of `schema` that rows may lack nevertheless.
    ///
    /// A field is doubtful if another schema of the table has it as optional, or lacks it and no initial default fills it in. If a
    /// schema was removed, all required fields are: it may have been such a schema. The result covers all depths except map keys.
    ///
    /// The specification allows neither change ("Schema Evolution"), but clients make both when a user asks for incompatible
    /// changes.
    pub fn unreliable_required_fields(&self, schema: &Schema) -> BTreeSet<i32> {
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

    /// Returns the types of the partition values of a spec, in the order of its fields; see
    /// [`PartitionSpec::types`](crate::PartitionSpec::types). The result is empty if the table has no such spec.
    pub fn partition_types(&self, spec_id: i32) -> Vec<Option<PrimitiveType>> {
        self.partition_spec_by_id(spec_id).map(|spec| spec.types(|id| self.type_of_field(id))).unwrap_or_default()
    }

    /// Returns the sequence number of the next snapshot; 0 in format version 1, which has none.
    ///
    /// Spec: "Sequence Numbers".
    pub fn next_sequence_number(&self) -> i64 {
        if self.format_version == 1 {
            return 0;
        }
        // Deletes of a snapshot with a higher number than the table's would hide the rows of the next snapshot.
        let highest = self.snapshots.iter().map(|snapshot| snapshot.sequence_number()).max();
        self.last_sequence_number.max(highest.unwrap_or(0)).saturating_add(1)
    }

    /// Returns the statistics file of the snapshot with `id`.
    pub fn statistics_for_snapshot(&self, id: i64) -> Option<&StatisticsFile> {
        self.statistics.iter().find(|file| file.snapshot_id == id)
    }

    /// Returns the partition statistics file of the snapshot with `id`.
    pub fn partition_statistics_for_snapshot(&self, id: i64) -> Option<&PartitionStatisticsFile> {
        self.partition_statistics.iter().find(|file| file.snapshot_id == id)
    }

    /// Returns the metadata without the lists that grow with each commit: snapshots, logs, references and statistics files.
    ///
    /// It is for what is kept for long, and reads schemas, specs and properties alone.
    #[must_use]
    pub fn without_history(&self) -> Self {
        Self {
            format_version: self.format_version,
            table_uuid: self.table_uuid,
            location: self.location.clone(),
            last_sequence_number: self.last_sequence_number,
            last_updated_ms: self.last_updated_ms,
            last_column_id: self.last_column_id,
            schemas: self.schemas.clone(),
            current_schema_id: self.current_schema_id,
            partition_specs: self.partition_specs.clone(),
            default_spec_id: self.default_spec_id,
            last_partition_id: self.last_partition_id,
            properties: self.properties.clone(),
            current_snapshot_id: None,
            snapshots: Snapshots::default(),
            snapshot_log: Vec::new(),
            metadata_log: Vec::new(),
            sort_orders: self.sort_orders.clone(),
            default_sort_order_id: self.default_sort_order_id,
            refs: BTreeMap::new(),
            statistics: Vec::new(),
            partition_statistics: Vec::new(),
            encryption_keys: self.encryption_keys.clone(),
            next_row_id: self.next_row_id,
            extra: self.extra.clone(),
        }
    }

    /// Checks that the current schema, the default spec and the default sort order exist.
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

/// Returns the highest partition field id of `specs`, which format version 1 may leave out; 999 if there is none.
pub(crate) fn highest_partition_id(specs: &[PartitionSpecRef]) -> i32 {
    let ids = specs.iter().flat_map(|spec| spec.fields()).map(|field| field.field_id);
    ids.max().unwrap_or(crate::FIRST_PARTITION_FIELD_ID - 1)
}

/// Wraps each item in an [`Arc`].
pub(crate) fn shared<T>(all: Vec<T>) -> Vec<Arc<T>> {
    all.into_iter().map(Arc::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_without_its_history_has_the_same_schemas_specs_and_properties() {
        let json = br#"{
            "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "s3://lake/db/events",
            "last-sequence-number": 1, "last-updated-ms": 1700000000000, "last-column-id": 1, "current-schema-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "id", "required": true, "type": "long"}]}],
            "default-spec-id": 0, "last-partition-id": 1000, "properties": {"owner": "team"},
            "partition-specs": [{"spec-id": 0, "fields": [{"source-id": 1, "field-id": 1000, "name": "id", "transform": "identity"}]}],
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}], "current-snapshot-id": 7,
            "snapshots": [{"snapshot-id": 7, "sequence-number": 1, "timestamp-ms": 1700000000000, "schema-id": 0,
                           "summary": {"operation": "append"}, "manifest-list": "s3://lake/db/events/metadata/snap-7.avro"}],
            "snapshot-log": [{"snapshot-id": 7, "timestamp-ms": 1700000000000}],
            "refs": {"main": {"snapshot-id": 7, "type": "branch"}}
        }"#;
        let whole = TableMetadata::from_json(json).expect("metadata");
        let small = whole.without_history();
        assert_eq!((small.snapshots.len(), small.snapshot_log.len(), small.refs.len()), (0, 0, 0));
        assert_eq!(small.current_snapshot(), None);
        assert_eq!(
            (&small.schemas, &small.partition_specs, &small.properties),
            (&whole.schemas, &whole.partition_specs, &whole.properties)
        );
        assert_eq!(small.partition_types(0), whole.partition_types(0));
        assert_eq!(small.partition_types(0).len(), 1);
    }
}
