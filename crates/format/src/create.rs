//! The first metadata of a table, built from a client's request or from the updates of a commit that creates its table.
//!
//! [`create`] assigns fresh ids, as `TableMetadata.newTableMetadata` in Java does. [`create_by_updates`] keeps the client's ids, as
//! `TableMetadata.buildFromEmpty` does: manifests refer to them already. Both reject metadata that breaks a rule of the
//! specification.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use crate::apply::refused;
use crate::metadata::highest_partition_id;
use crate::rules::{self, Rule, Violation};
use crate::{
    CommitContext, Extra, FormatError, ListType, MAX_FORMAT_VERSION, MapType, NestedField, NestedFieldRef, PartitionSpec, Result,
    Schema, Snapshots, SortField, SortOrder, StructType, TableMetadata, TableUpdate, Type, UnboundPartitionField,
    UnboundPartitionSpec, apply,
};

/// The table property with which a client requests a format version.
pub const FORMAT_VERSION: &str = "format-version";

/// The format version of new tables whose client requests none.
pub const DEFAULT_FORMAT_VERSION: u8 = 2;

/// The names of properties that are not stored, because the metadata has the facts elsewhere (Java:
/// `TableProperties.RESERVED_PROPERTIES`).
pub const RESERVED_PROPERTIES: [&str; 9] = [
    FORMAT_VERSION,
    "uuid",
    "snapshot-count",
    "current-snapshot-id",
    "current-snapshot-summary",
    "current-snapshot-timestamp-ms",
    "current-schema",
    "default-partition-spec",
    "default-sort-order",
];

/// A property that new tables get by default (Java: `TableMetadata.persistedProperties`). Tables without it are from a time when
/// another codec was the default.
const DEFAULT_PROPERTY: (&str, &str) = ("write.parquet.compression-codec", "zstd");

/// The request of a client for a new table. All ids in it are replaced by fresh ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTable {
    /// The columns of the table.
    pub schema: Schema,
    /// The partition spec, whose source ids are those of `schema`; `None` for an unpartitioned table.
    pub spec: Option<UnboundPartitionSpec>,
    /// The sort order, whose source ids are those of `schema`; `None` for an unsorted table.
    pub order: Option<SortOrder>,
    /// The base location of the table's files.
    pub location: String,
    /// The properties. [`FORMAT_VERSION`] among them sets the format version.
    pub properties: BTreeMap<String, String>,
}

impl NewTable {
    /// Returns the request for a table without partitions, sort order and properties.
    pub fn of(schema: Schema, location: impl Into<String>) -> Self {
        Self { schema, spec: None, order: None, location: location.into(), properties: BTreeMap::new() }
    }
}

/// Builds the metadata of a requested table. All ids of fields, specs and orders are fresh.
///
/// `now_ms` is the time of creation, in milliseconds since the Unix epoch.
///
/// # Errors
///
/// Returns [`Refused`](FormatError::Refused) if:
/// - the requested format version is not 1 to 3;
/// - an identifier, partition or sort field has no source in the schema;
/// - the table would break another rule of the specification.
pub fn create(new: NewTable, uuid: Uuid, now_ms: i64) -> Result<TableMetadata> {
    let mut ids = FreshIds::default();
    let fields = ids.fields(new.schema.as_struct().fields());
    let identifiers = new.schema.identifier_field_ids().iter().map(|id| {
        let what = || format!("schema 0, identifier field {id}");
        ids.of(*id).ok_or_else(|| violation(Rule::IdentifierField, &what(), "the schema has no such field"))
    });
    let identifiers: Vec<i32> = identifiers.collect::<Result<_>>()?;
    let mut schema = Schema::new(0, fields)?.with_identifier_field_ids(identifiers);
    schema.extra = new.schema.extra.clone();
    let mut properties = BTreeMap::from([(DEFAULT_PROPERTY.0.to_owned(), DEFAULT_PROPERTY.1.to_owned())]);
    properties.extend(unreserved(&new.properties));
    let mut made = TableMetadata {
        last_column_id: ids.last,
        location: new.location.trim_end_matches('/').to_owned(),
        schemas: vec![Arc::new(schema)],
        partition_specs: vec![Arc::new(ids.spec(new.spec)?)],
        sort_orders: vec![Arc::new(ids.order(new.order)?)],
        properties,
        ..empty(version_of(&new.properties)?, uuid, now_ms)
    };
    made.last_partition_id = highest_partition_id(&made.partition_specs);
    made.default_sort_order_id = made.sort_orders[0].order_id;
    check_rules(made)
}

/// Builds the metadata of a table from the updates of a commit that requires the table not to exist.
///
/// Keeps the client's ids, because its manifests refer to them already. `location` and `uuid` apply unless the updates set others.
/// `now_ms` is the time of the commit, in milliseconds since the Unix epoch.
///
/// # Errors
///
/// Returns [`Refused`](FormatError::Refused) if:
/// - the format version is not 1 to 3;
/// - the updates contain no schema, or one of them is impossible, see [`apply()`];
/// - the table would break a rule of the specification.
///
/// Returns [`StaleSnapshot`](FormatError::StaleSnapshot) if the updates add snapshots whose sequence numbers or row ids go back.
/// Returns [`Invalid`](FormatError::Invalid) if they remove the schema or spec that they added last and set no other.
pub fn create_by_updates(updates: &[TableUpdate], location: &str, uuid: Uuid, now_ms: i64) -> Result<TableMetadata> {
    // The table begins with the first version that the updates name, so that update is no upgrade.
    let version = updates.iter().find_map(|update| match update {
        TableUpdate::UpgradeFormatVersion { format_version } => Some(*format_version),
        _ => None,
    });
    let version = version.unwrap_or(DEFAULT_FORMAT_VERSION);
    if !(1..=MAX_FORMAT_VERSION).contains(&version) {
        return refused(format!("unsupported format version: v{version} (supported: v{MAX_FORMAT_VERSION})"));
    }
    let mut nothing = TableMetadata { table_uuid: None, location: location.to_owned(), ..empty(version, uuid, now_ms) };
    if !updates.iter().any(|update| matches!(update, TableUpdate::AddSpec { .. })) {
        nothing.partition_specs.push(Arc::new(PartitionSpec::unpartitioned(0)));
    }
    if !updates.iter().any(|update| matches!(update, TableUpdate::AddSortOrder { .. })) {
        nothing.sort_orders.push(Arc::new(SortOrder::unsorted()));
    }
    let mut made = apply::apply_to_empty(nothing, updates, CommitContext { now_ms, metadata_file: None })?;
    made.table_uuid.get_or_insert(uuid);
    made.properties.retain(|key, _| !is_reserved(key));
    check_rules(made.checked()?)
}

/// Returns the metadata of a table without schemas, specs and snapshots.
fn empty(format_version: u8, uuid: Uuid, now_ms: i64) -> TableMetadata {
    TableMetadata {
        format_version,
        table_uuid: Some(uuid),
        location: String::new(),
        last_sequence_number: 0,
        last_updated_ms: now_ms,
        last_column_id: 0,
        schemas: Vec::new(),
        current_schema_id: 0,
        partition_specs: Vec::new(),
        default_spec_id: 0,
        last_partition_id: highest_partition_id(&[]),
        properties: BTreeMap::new(),
        current_snapshot_id: None,
        snapshots: Snapshots::default(),
        snapshot_log: Vec::new(),
        metadata_log: Vec::new(),
        sort_orders: Vec::new(),
        default_sort_order_id: 0,
        refs: BTreeMap::new(),
        statistics: Vec::new(),
        partition_statistics: Vec::new(),
        encryption_keys: Vec::new(),
        next_row_id: (format_version >= 3).then_some(0),
        extra: Extra::default(),
    }
}

/// Checks that a new table breaks no rule of the specification.
fn check_rules(made: TableMetadata) -> Result<TableMetadata> {
    match rules::check(&made).into_iter().next() {
        Some(violation) => Err(violation.into()),
        None => Ok(made),
    }
}

fn violation(rule: Rule, what: &str, why: impl Into<String>) -> FormatError {
    Violation::new(rule, what, why).into()
}

fn is_reserved(key: &str) -> bool {
    RESERVED_PROPERTIES.contains(&key)
}

fn unreserved(properties: &BTreeMap<String, String>) -> impl Iterator<Item = (String, String)> {
    properties.iter().filter(|(key, _)| !is_reserved(key)).map(|(key, value)| (key.clone(), value.clone()))
}

/// Returns the format version that the properties request.
fn version_of(properties: &BTreeMap<String, String>) -> Result<u8> {
    let Some(text) = properties.get(FORMAT_VERSION) else { return Ok(DEFAULT_FORMAT_VERSION) };
    match text.parse() {
        Ok(version) if (1..=MAX_FORMAT_VERSION).contains(&version) => Ok(version),
        _ => refused(format!("table property {FORMAT_VERSION}: {text:?} is not 1 to {MAX_FORMAT_VERSION}")),
    }
}

/// Fresh field ids: first those of all fields of one level, then those within them (Java: `TypeUtil.assignFreshIds`).
#[derive(Debug, Default)]
struct FreshIds {
    last: i32,
    by_old: HashMap<i32, i32>,
}

impl FreshIds {
    /// Returns the fresh id of the field that had the id `old`.
    fn of(&self, old: i32) -> Option<i32> {
        self.by_old.get(&old).copied()
    }

    fn next(&mut self, field: &NestedField) -> i32 {
        self.last += 1;
        self.by_old.insert(field.id, self.last);
        self.last
    }

    fn fields(&mut self, fields: &[NestedFieldRef]) -> Vec<NestedFieldRef> {
        let ids: Vec<i32> = fields.iter().map(|field| self.next(field)).collect();
        fields.iter().zip(ids).map(|(field, id)| self.within(field, id)).collect()
    }

    fn within(&mut self, field: &NestedField, id: i32) -> NestedFieldRef {
        let field_type = Box::new(self.ty(&field.field_type));
        Arc::new(NestedField { id, field_type, ..field.clone() })
    }

    fn ty(&mut self, ty: &Type) -> Type {
        match ty {
            Type::Primitive(_) | Type::Variant => ty.clone(),
            Type::Struct(ty) => StructType::new(self.fields(ty.fields())).into(),
            Type::List(ty) => {
                let id = self.next(&ty.element_field);
                ListType { element_field: self.within(&ty.element_field, id), extra: ty.extra.clone() }.into()
            }
            Type::Map(ty) => {
                let (key, value) = (self.next(&ty.key_field), self.next(&ty.value_field));
                let (key_field, value_field) = (self.within(&ty.key_field, key), self.within(&ty.value_field, value));
                MapType { key_field, value_field, extra: ty.extra.clone() }.into()
            }
        }
    }

    /// Translates the sources of a partition or sort field, one or several, to fresh ids.
    fn sources(&self, what: &str, one: Option<i32>, several: Option<Vec<i32>>) -> Result<(Option<i32>, Option<Vec<i32>>)> {
        let new = |id: i32| {
            let why = || format!("the schema has no field with the id {id}, its source");
            self.of(id).ok_or_else(|| violation(Rule::SourceExists, what, why()))
        };
        let several = several.map(|ids| ids.into_iter().map(new).collect::<Result<Vec<_>>>());
        Ok((one.map(new).transpose()?, several.transpose()?))
    }

    fn spec(&self, spec: Option<UnboundPartitionSpec>) -> Result<PartitionSpec> {
        let Some(UnboundPartitionSpec { fields, extra, .. }) = spec else { return Ok(PartitionSpec::unpartitioned(0)) };
        let fields = fields.into_iter().map(|field| {
            let what = format!("partition spec 0, field {}", field.name);
            let (source_id, source_ids) = self.sources(&what, field.source_id, field.source_ids)?;
            // Partition field ids start at 1000, whatever the client's are.
            Ok(UnboundPartitionField { source_id, source_ids, field_id: None, ..field })
        });
        let mut spec = PartitionSpec::new(0, fields.collect::<Result<_>>()?);
        spec.extra = extra;
        Ok(spec)
    }

    fn order(&self, order: Option<SortOrder>) -> Result<SortOrder> {
        let Some(SortOrder { fields, extra, .. }) = order.filter(|order| !order.is_unsorted()) else {
            return Ok(SortOrder::unsorted());
        };
        let fields = fields.into_iter().enumerate().map(|(place, field)| {
            let what = format!("sort order 1, field {}", place + 1);
            let (source_id, source_ids) = self.sources(&what, field.source_id, field.source_ids)?;
            Ok(SortField { source_id, source_ids, ..field })
        });
        Ok(SortOrder { order_id: 1, fields: fields.collect::<Result<_>>()?, extra })
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value as Json, json};

    use super::*;

    const NOW: i64 = 2_000_000_000_000;

    fn parsed<T: DeserializeOwned>(json: Json) -> T {
        serde_json::from_value(json.clone()).unwrap_or_else(|e| panic!("{e}: {json}"))
    }

    fn columns(fields: Json) -> Schema {
        parsed(json!({"type": "struct", "schema-id": 7, "fields": fields}))
    }

    fn xyz() -> Schema {
        columns(json!([
            {"id": 3, "name": "x", "required": true, "type": "long"},
            {"id": 4, "name": "y", "required": true, "type": "long"},
            {"id": 5, "name": "z", "required": true, "type": "long"},
        ]))
    }

    fn made(new: NewTable) -> TableMetadata {
        create(new, Uuid::nil(), NOW).expect("made")
    }

    fn refusal(new: NewTable) -> String {
        create(new, Uuid::nil(), NOW).expect_err("refused").to_string()
    }

    /// Java: `testNewTableMetadataReassignmentAllIds`, `testUpdateSortOrder`, `testNoTrailingLocationSlash`.
    #[test]
    fn all_ids_are_given_anew_and_what_refers_to_columns_follows() {
        let spec = parsed(json!({"spec-id": 5, "fields": [
            {"source-id": 3, "field-id": 1005, "name": "x_partition", "transform": "bucket[4]"},
            {"source-id": 5, "field-id": 1003, "name": "z_partition", "transform": "bucket[8]"}]}));
        let order = parsed(json!({"order-id": 4, "fields": [
            {"source-id": 5, "transform": "identity", "direction": "asc", "null-order": "nulls-first"}]}));
        let schema = xyz().with_identifier_field_ids([4]);
        let metadata = made(NewTable { spec: Some(spec), order: Some(order), ..NewTable::of(schema, "file:///tmp/db/table/") });
        let printed = serde_json::to_value(&metadata).expect("printed");
        let expected = json!({
            "format-version": 2, "table-uuid": Uuid::nil(), "location": "file:///tmp/db/table", "last-sequence-number": 0,
            "last-updated-ms": NOW, "last-column-id": 3, "current-schema-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "identifier-field-ids": [2], "fields": [
                {"id": 1, "name": "x", "required": true, "type": "long"}, {"id": 2, "name": "y", "required": true, "type": "long"},
                {"id": 3, "name": "z", "required": true, "type": "long"}]}],
            "default-spec-id": 0, "last-partition-id": 1001, "partition-specs": [{"spec-id": 0, "fields": [
                {"source-id": 1, "field-id": 1000, "name": "x_partition", "transform": "bucket[4]"},
                {"source-id": 3, "field-id": 1001, "name": "z_partition", "transform": "bucket[8]"}]}],
            "default-sort-order-id": 1, "sort-orders": [{"order-id": 1, "fields": [
                {"source-id": 3, "transform": "identity", "direction": "asc", "null-order": "nulls-first"}]}],
            "properties": {"write.parquet.compression-codec": "zstd"}, "current-snapshot-id": -1, "refs": {}, "snapshots": [],
            "snapshot-log": [], "metadata-log": [],
        });
        assert_eq!(printed, expected);
        let plain = made(NewTable::of(xyz(), "s3://b/t"));
        assert_eq!((plain.last_partition_id, plain.default_sort_order_id), (999, 0));
        assert!(plain.default_partition_spec().is_unpartitioned() && plain.default_sort_order().is_unsorted());
    }

    /// PyIceberg: `tests/table/test_metadata.py`, `test_new_table_metadata_with_explicit_v1_format`.
    #[test]
    fn columns_get_their_ids_before_what_is_in_them() {
        let schema = columns(json!([
            {"id": 10, "name": "foo", "required": false, "type": "string"},
            {"id": 22, "name": "bar", "required": true, "type": "int"},
            {"id": 33, "name": "baz", "required": false, "type": "boolean"},
            {"id": 41, "name": "qux", "required": true, "type":
                {"type": "list", "element-id": 56, "element": "string", "element-required": true}},
            {"id": 6, "name": "quux", "required": true, "type": {"type": "map", "key-id": 77, "key": "string", "value-id": 88,
                "value": {"type": "map", "key-id": 91, "key": "string", "value-id": 101, "value": "int", "value-required": true},
                "value-required": true}},
            {"id": 113, "name": "location", "required": true, "type": {"type": "list", "element-id": 124, "element":
                {"type": "struct", "fields": [{"id": 132, "name": "latitude", "required": false, "type": "float"},
                    {"id": 14, "name": "longitude", "required": false, "type": "float"}]}, "element-required": true}},
            {"id": 15, "name": "person", "required": false, "type": {"type": "struct", "fields": [
                {"id": 16, "name": "name", "required": false, "type": "string"},
                {"id": 17, "name": "age", "required": true, "type": "int"}]}},
        ]));
        let schema = schema.with_identifier_field_ids([22]);
        let metadata = made(NewTable {
            properties: BTreeMap::from([("format-version".to_owned(), "1".to_owned())]),
            ..NewTable::of(schema, "s3://some_v1_location/")
        });
        let schema = metadata.current_schema();
        for (name, id) in [
            ("foo", 1),
            ("bar", 2),
            ("baz", 3),
            ("qux", 4),
            ("quux", 5),
            ("location", 6),
            ("person", 7),
            ("qux.element", 8),
            ("quux.key", 9),
            ("quux.value", 10),
            ("quux.value.key", 11),
            ("quux.value.value", 12),
            ("location.element", 13),
            ("location.element.latitude", 14),
            ("location.element.longitude", 15),
            ("person.name", 16),
            ("person.age", 17),
        ] {
            assert_eq!(schema.field_id_by_name(name), Some(id), "{name}");
        }
        assert_eq!((metadata.last_column_id, metadata.format_version, schema.identifier_field_ids().len()), (17, 1, 1));
        assert_eq!((schema.identifier_field_ids().first(), metadata.properties.len()), (Some(&2), 1));
    }

    /// Java: `TableMetadata.persistedProperties`.
    #[test]
    fn properties_have_the_defaults_of_new_tables_and_none_that_the_metadata_says_itself() {
        let with = |properties: &[(&str, &str)]| {
            let properties = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            NewTable { properties, ..NewTable::of(xyz(), "s3://b/t") }
        };
        let metadata =
            made(with(&[("format-version", "3"), ("uuid", "x"), ("a", "b"), ("write.parquet.compression-codec", "snappy")]));
        let expected = [("a", "b"), ("write.parquet.compression-codec", "snappy")];
        assert_eq!(metadata.properties, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert_eq!((metadata.format_version, metadata.next_row_id), (3, Some(0)));
        for version in ["0", "4", "two"] {
            assert!(refusal(with(&[("format-version", version)])).contains(version));
        }
    }

    #[test]
    fn what_breaks_a_rule_is_refused_with_the_rule() {
        let of = |field: Json| NewTable::of(columns(json!([field])), "s3://b/t");
        let partitioned = |source: i32, name: &str| {
            let spec = json!({"fields": [{"source-id": source, "name": name, "transform": "bucket[4]"}]});
            NewTable { spec: Some(parsed(spec)), ..NewTable::of(xyz(), "s3://b/t") }
        };
        let sorted = json!({"order-id": 1, "fields": [
            {"source-id": 1, "transform": "identity", "direction": "asc", "null-order": "nulls-last"}]});
        for (new, words) in [
            // The text is Java's (`CatalogTests.testCreateV2TableWithVariantColumnFails`).
            (
                of(json!({"id": 2, "name": "data", "required": false, "type": "variant"})),
                "schema 0, field data (1): variant is not supported until v3 (specification, \"Schemas and Data Types\")",
            ),
            (of(json!({"id": 2, "name": "d", "required": false, "type": "int", "initial-default": 1})), "field d (1)"),
            // The client's schema has no field 1, although a column gets that id.
            (partitioned(1, "p"), "partition spec 0, field p: the schema has no field with the id 1, its source"),
            (partitioned(3, "y"), "partition spec 0, field y: a column is called y (specification, \"Partitioning\")"),
            (NewTable { order: Some(parsed(sorted)), ..NewTable::of(xyz(), "s3://b/t") }, "sort order 1, field 1"),
            (NewTable::of(xyz().with_identifier_field_ids([1]), "s3://b/t"), "schema 0, identifier field 1"),
        ] {
            let error = refusal(new);
            assert!(error.contains(words), "{words}: {error}");
        }
        // Java accepts a day and an hour field of the same column.
        let spec = json!({"fields": [{"source-id": 2, "name": "d", "transform": "day"}, {"source-id": 2, "name": "h", "transform": "hour"}]});
        let at = json!({"id": 2, "name": "at", "required": false, "type": "timestamp"});
        assert_eq!(made(NewTable { spec: Some(parsed(spec)), ..of(at) }).default_partition_spec().fields().len(), 2);
    }

    fn by_updates(updates: Json) -> Result<TableMetadata> {
        let updates: Vec<TableUpdate> = parsed(updates);
        create_by_updates(&updates, "s3://b/chosen", Uuid::nil(), NOW)
    }

    fn schema_update() -> Json {
        json!({"action": "add-schema", "schema": {"type": "struct", "schema-id": 0,
            "fields": [{"id": 1, "name": "x", "required": false, "type": "long"}]}, "last-column-id": 1})
    }

    /// Returns the updates that Java's client sends (`RESTSessionCatalog.createChanges`).
    #[test]
    fn a_commit_alone_makes_a_table() {
        let snapshot = json!({"snapshot-id": 5, "sequence-number": 1, "timestamp-ms": 1_900_000_000_000_i64, "manifest-list": "l",
            "summary": {"operation": "append"}, "schema-id": 0, "first-row-id": 0, "added-rows": 3});
        let metadata = by_updates(json!([
            {"action": "assign-uuid", "uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1"},
            {"action": "upgrade-format-version", "format-version": 3},
            schema_update(), {"action": "set-current-schema", "schema-id": -1},
            {"action": "add-spec", "spec": {"spec-id": 0, "fields": [
                {"source-id": 1, "field-id": 1000, "name": "p", "transform": "bucket[4]"}]}},
            {"action": "set-default-spec", "spec-id": -1},
            {"action": "add-sort-order", "sort-order": {"order-id": 0, "fields": []}},
            {"action": "set-default-sort-order", "sort-order-id": -1},
            {"action": "set-location", "location": "s3://b/t/"},
            {"action": "set-properties", "updates": {"a": "b", "format-version": "3"}},
            {"action": "add-encryption-key", "encryption-key": {"key-id": "k", "encrypted-key-metadata": "AA=="}},
            {"action": "add-snapshot", "snapshot": snapshot},
            {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": 5},
        ]));
        let metadata = metadata.expect("made");
        assert_eq!(metadata.table_uuid, Uuid::parse_str("9c12d441-03fe-4693-9a96-a0705ddf69c1").ok());
        assert_eq!((metadata.format_version, metadata.next_row_id, metadata.last_sequence_number), (3, Some(3), 1));
        assert_eq!((metadata.last_column_id, metadata.last_partition_id, metadata.location.as_str()), (1, 1000, "s3://b/t"));
        assert_eq!((metadata.current_snapshot_id, metadata.snapshot_log.len(), metadata.metadata_log.len()), (Some(5), 1, 0));
        assert_eq!(metadata.last_updated_ms, 1_900_000_000_000);
        // The properties are the client's only: the defaults of new tables were in the staged metadata.
        assert_eq!(metadata.properties, BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        assert_eq!(metadata.encryption_keys.len(), 1);
    }

    #[test]
    fn what_a_commit_leaves_out_is_what_is_plainest_and_its_ids_stay() {
        let metadata = by_updates(json!([schema_update()])).expect("made");
        assert_eq!(
            (metadata.location.as_str(), metadata.table_uuid, metadata.format_version),
            ("s3://b/chosen", Some(Uuid::nil()), 2)
        );
        assert!(metadata.default_partition_spec().is_unpartitioned() && metadata.default_sort_order().is_unsorted());
        assert_eq!(metadata.last_updated_ms, NOW);
        let mut schema = schema_update();
        schema["schema"]["schema-id"] = json!(4);
        schema["schema"]["fields"][0]["id"] = json!(9);
        let metadata = by_updates(json!([
            {"action": "upgrade-format-version", "format-version": 1},
            schema,
            {"action": "add-spec", "spec": {"spec-id": 6, "fields": [{"source-id": 9, "name": "p", "transform": "bucket[4]"}]}},
            {"action": "set-default-spec", "spec-id": 6},
        ]));
        let metadata = metadata.expect("made");
        assert_eq!((metadata.current_schema_id, metadata.default_spec_id, metadata.last_column_id), (4, 6, 9));
        assert_eq!((metadata.format_version, metadata.last_partition_id), (1, 1000));
        for (updates, words) in [
            (json!([]), "a table needs a schema"),
            (json!([schema_update(), {"action": "upgrade-format-version", "format-version": 4}]), "unsupported format version"),
            (json!([schema_update(), {"action": "upgrade-format-version", "format-version": 0}]), "unsupported format version"),
            (json!([schema_update(), {"action": "set-current-schema", "schema-id": 3}]), "unknown schema: 3"),
            (
                json!([schema_update(), {"action": "add-spec", "spec": {"fields": [{"source-id": 9, "name": "p", "transform": "day"}]}}]),
                "partition spec 0, field p: the schema has no field with the id 9, its source (specification, \"Partitioning\")",
            ),
        ] {
            let error = by_updates(updates.clone()).expect_err(words).to_string();
            assert!(error.contains(words), "{updates}: {error}");
        }
    }
}
