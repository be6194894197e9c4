//! The JSON form of table metadata, format versions 1 to 3.
//!
//! Reading fills in what version 1 may leave out, and adds the branch `main` if the table has a current snapshot without it.
//! Printing uses Java's fields in Java's order.
//!
//! Spec: Appendix C, "Table Metadata and Snapshots". Start with `MetadataJson`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::{print, read};
use crate::metadata::{MAX_FORMAT_VERSION, highest_partition_id, shared};
use crate::{
    EncryptedKey, Extra, MAIN_BRANCH, MetadataLog, PartitionSpec, PartitionStatisticsFile, Result, Schema, Snapshot, SnapshotLog,
    SnapshotReference, SortOrder, StatisticsFile, TableMetadata, UnboundPartitionField, branch_at,
};

/// The JSON form of table metadata of any format version.
#[derive(Debug)]
struct MetadataJson {
    format_version: u8,
    table_uuid: Option<Uuid>,
    location: String,
    last_sequence_number: Option<i64>,
    last_updated_ms: i64,
    last_column_id: i32,
    schema: Option<Schema>,
    schemas: Option<Vec<Schema>>,
    current_schema_id: Option<i32>,
    partition_spec: Option<Vec<UnboundPartitionField>>,
    partition_specs: Option<Vec<PartitionSpec>>,
    default_spec_id: Option<i32>,
    last_partition_id: Option<i32>,
    properties: Option<BTreeMap<String, String>>,
    current_snapshot_id: Option<i64>,
    snapshots: Option<Vec<Snapshot>>,
    snapshot_log: Option<Vec<SnapshotLog>>,
    metadata_log: Option<Vec<MetadataLog>>,
    sort_orders: Option<Vec<SortOrder>>,
    default_sort_order_id: Option<i64>,
    refs: Option<BTreeMap<String, SnapshotReference>>,
    statistics: Option<Vec<StatisticsFile>>,
    partition_statistics: Option<Vec<PartitionStatisticsFile>>,
    encryption_keys: Option<Vec<EncryptedKey>>,
    next_row_id: Option<u64>,
    extra: Extra,
}

json_object!(MetadataJson {
    needed "format-version" => format_version,
    optional "table-uuid" => table_uuid,
    needed "location" => location,
    optional "last-sequence-number" => last_sequence_number,
    needed "last-updated-ms" => last_updated_ms,
    needed "last-column-id" => last_column_id,
    optional "schema" => schema,
    optional "schemas" => schemas,
    optional "current-schema-id" => current_schema_id,
    optional "partition-spec" => partition_spec,
    optional "partition-specs" => partition_specs,
    optional "default-spec-id" => default_spec_id,
    optional "last-partition-id" => last_partition_id,
    optional "properties" => properties,
    optional "current-snapshot-id" => current_snapshot_id,
    optional "snapshots" => snapshots,
    optional "snapshot-log" => snapshot_log,
    optional "metadata-log" => metadata_log,
    optional "sort-orders" => sort_orders,
    optional "default-sort-order-id" => default_sort_order_id,
    optional "refs" => refs,
    optional "statistics" => statistics,
    optional "partition-statistics" => partition_statistics,
    optional "encryption-keys" => encryption_keys,
    optional "next-row-id" => next_row_id,
});

impl MetadataJson {
    /// Fills in the fields that format version 1 may leave out. Fails with the name of a field that later versions must have.
    fn complete(self) -> std::result::Result<TableMetadata, String> {
        let version = self.format_version;
        if !(1..=MAX_FORMAT_VERSION).contains(&version) {
            return Err(format!("format-version is {version}; supported are 1 to {MAX_FORMAT_VERSION}"));
        }
        let first = version == 1;
        let lacks = |name: &str| format!("missing field `{name}`");
        let needed = |name: &'static str, is_there: bool| if first || is_there { Ok(()) } else { Err(lacks(name)) };
        needed("table-uuid", self.table_uuid.is_some())?;
        needed("last-sequence-number", self.last_sequence_number.is_some())?;
        needed("last-partition-id", self.last_partition_id.is_some())?;
        let (schemas, current_schema_id) = match (self.schemas, self.schema) {
            (Some(schemas), _) => (schemas, self.current_schema_id.ok_or_else(|| lacks("current-schema-id"))?),
            (None, Some(schema)) if first => (vec![schema.clone()], schema.schema_id()),
            _ => return Err(lacks(if first { "schema" } else { "schemas" })),
        };
        let (partition_specs, default_spec_id) = match (self.partition_specs, self.partition_spec) {
            (Some(specs), _) => (specs, self.default_spec_id.ok_or_else(|| lacks("default-spec-id"))?),
            (None, Some(fields)) if first => (vec![PartitionSpec::new(0, fields)], 0),
            _ => return Err(lacks(if first { "partition-spec" } else { "partition-specs" })),
        };
        let (sort_orders, default_sort_order_id) = match self.sort_orders {
            Some(orders) => (orders, self.default_sort_order_id.ok_or_else(|| lacks("default-sort-order-id"))?),
            None if first => (vec![SortOrder::unsorted()], 0),
            None => return Err(lacks("sort-orders")),
        };
        let partition_specs = shared(partition_specs);
        // Java writes -1 if there is no current snapshot.
        let current_snapshot_id = self.current_snapshot_id.filter(|id| *id != -1);
        Ok(TableMetadata {
            format_version: version,
            table_uuid: self.table_uuid,
            location: self.location,
            last_sequence_number: self.last_sequence_number.unwrap_or(0),
            last_updated_ms: self.last_updated_ms,
            last_column_id: self.last_column_id,
            schemas: shared(schemas),
            current_schema_id,
            default_spec_id,
            last_partition_id: self.last_partition_id.unwrap_or_else(|| highest_partition_id(&partition_specs)),
            partition_specs,
            properties: self.properties.unwrap_or_default(),
            current_snapshot_id,
            snapshots: self.snapshots.unwrap_or_default().into_iter().map(Arc::new).collect(),
            snapshot_log: self.snapshot_log.unwrap_or_default(),
            metadata_log: self.metadata_log.unwrap_or_default(),
            sort_orders: shared(sort_orders),
            default_sort_order_id,
            refs: with_main(self.refs.unwrap_or_default(), current_snapshot_id),
            statistics: self.statistics.unwrap_or_default(),
            partition_statistics: self.partition_statistics.unwrap_or_default(),
            encryption_keys: self.encryption_keys.unwrap_or_default(),
            next_row_id: self.next_row_id.or_else(|| (version >= 3).then_some(0)),
            extra: self.extra,
        })
    }
}

/// Prints shared items as a list.
struct SharedItems<I>(I);

impl<'a, T: Serialize + 'a, I: Iterator<Item = &'a Arc<T>> + Clone> Serialize for SharedItems<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.clone().map(AsRef::as_ref))
    }
}

/// Returns the references, with `main` at the current snapshot if the writer left that branch out.
fn with_main(mut refs: BTreeMap<String, SnapshotReference>, current: Option<i64>) -> BTreeMap<String, SnapshotReference> {
    if let Some(id) = current {
        refs.entry(MAIN_BRANCH.to_owned()).or_insert_with(|| branch_at(id));
    }
    refs
}

impl<'de> Deserialize<'de> for TableMetadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let metadata = MetadataJson::deserialize(deserializer)?.complete().map_err(D::Error::custom)?;
        metadata.checked().map_err(D::Error::custom)
    }
}

/// Prints the metadata with Java's fields in Java's order.
impl Serialize for TableMetadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        MetadataPrinter { metadata: self, with_snapshots: true }.serialize(serializer)
    }
}

/// Metadata to be printed, with or without `snapshots` and `snapshot-log`.
struct MetadataPrinter<'a> {
    metadata: &'a TableMetadata,
    with_snapshots: bool,
}

impl Serialize for MetadataPrinter<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Self { metadata, with_snapshots } = *self;
        let first = metadata.format_version == 1;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("format-version", &metadata.format_version)?;
        if let Some(uuid) = &metadata.table_uuid {
            map.serialize_entry("table-uuid", uuid)?;
        }
        map.serialize_entry("location", &metadata.location)?;
        if !first || metadata.last_sequence_number != 0 {
            map.serialize_entry("last-sequence-number", &metadata.last_sequence_number)?;
        }
        map.serialize_entry("last-updated-ms", &metadata.last_updated_ms)?;
        map.serialize_entry("last-column-id", &metadata.last_column_id)?;
        if first && let Some(schema) = metadata.schema_by_id(metadata.current_schema_id) {
            map.serialize_entry("schema", schema.as_ref())?;
        }
        map.serialize_entry("current-schema-id", &metadata.current_schema_id)?;
        map.serialize_entry("schemas", &SharedItems(metadata.schemas.iter()))?;
        if first && let Some(spec) = metadata.partition_spec_by_id(metadata.default_spec_id) {
            let fields: Vec<&UnboundPartitionField> = spec.fields().iter().map(|field| field.unbound()).collect();
            map.serialize_entry("partition-spec", &fields)?;
        }
        map.serialize_entry("default-spec-id", &metadata.default_spec_id)?;
        map.serialize_entry("partition-specs", &SharedItems(metadata.partition_specs.iter()))?;
        map.serialize_entry("last-partition-id", &metadata.last_partition_id)?;
        map.serialize_entry("default-sort-order-id", &metadata.default_sort_order_id)?;
        map.serialize_entry("sort-orders", &SharedItems(metadata.sort_orders.iter()))?;
        map.serialize_entry("properties", &metadata.properties)?;
        match metadata.current_snapshot_id {
            None if metadata.format_version >= 3 => map.serialize_entry("current-snapshot-id", &())?,
            id => map.serialize_entry("current-snapshot-id", &id.unwrap_or(-1))?,
        }
        if let Some(next) = metadata.next_row_id {
            map.serialize_entry("next-row-id", &next)?;
        }
        map.serialize_entry("refs", &metadata.refs)?;
        if with_snapshots {
            map.serialize_entry("snapshots", &SharedItems(metadata.snapshots.iter()))?;
        }
        if !metadata.statistics.is_empty() {
            map.serialize_entry("statistics", &metadata.statistics)?;
        }
        if !metadata.partition_statistics.is_empty() {
            map.serialize_entry("partition-statistics", &metadata.partition_statistics)?;
        }
        if !metadata.encryption_keys.is_empty() {
            map.serialize_entry("encryption-keys", &metadata.encryption_keys)?;
        }
        if with_snapshots {
            map.serialize_entry("snapshot-log", &metadata.snapshot_log)?;
        }
        map.serialize_entry("metadata-log", &metadata.metadata_log)?;
        for (name, value) in metadata.extra.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl TableMetadata {
    /// Parses the JSON of a metadata file.
    ///
    /// # Errors
    ///
    /// Returns [`Json`](crate::FormatError::Json), with the path of the field, if:
    /// - the text is not JSON, or a field is missing or has a wrong type;
    /// - the format version is not 1 to 3;
    /// - two fields of a schema have the same id or full name;
    /// - the current schema, the default spec or the default sort order is not listed.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        read("table metadata", json)
    }

    /// Prints the JSON of a metadata file.
    ///
    /// # Errors
    ///
    /// Returns [`Json`](crate::FormatError::Json) if a value cannot be printed.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        print("table metadata", self)
    }

    /// Prints the JSON of a metadata file without `snapshots` and `snapshot-log`, for callers that have the texts of these already.
    ///
    /// # Errors
    ///
    /// Returns [`Json`](crate::FormatError::Json) if a value cannot be printed.
    pub fn to_json_without_snapshots(&self) -> Result<Vec<u8>> {
        print("table metadata", &MetadataPrinter { metadata: self, with_snapshots: false })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    pub(crate) fn of_version(version: u8) -> Json {
        let mut json = json!({
            "format-version": version, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "s3://bucket/t",
            "last-sequence-number": 34, "last-updated-ms": 1_602_638_573_590_i64, "last-column-id": 3, "current-schema-id": 1,
            "schemas": [
                {"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "x", "required": true, "type": "int"},
                    {"id": 4, "name": "gone", "required": false, "type": "string"}]},
                {"type": "struct", "schema-id": 1, "identifier-field-ids": [1, 2], "fields": [
                    {"id": 1, "name": "x", "required": true, "type": "long"},
                    {"id": 2, "name": "y", "required": true, "type": "long", "doc": "comment"},
                    {"id": 3, "name": "z", "required": true, "type": "long"}]}],
            "default-spec-id": 0,
            "partition-specs": [{"spec-id": 0, "fields": [
                {"name": "x", "transform": "identity", "source-id": 1, "field-id": 1000},
                {"name": "gone", "transform": "truncate[4]", "source-id": 4, "field-id": 1001}]}],
            "last-partition-id": 1001, "default-sort-order-id": 3,
            "sort-orders": [{"order-id": 3, "fields": [
                {"transform": "identity", "source-id": 2, "direction": "asc", "null-order": "nulls-first"},
                {"transform": "bucket[4]", "source-id": 3, "direction": "desc", "null-order": "nulls-last"}]}],
            "properties": {"read.split.target.size": "134217728"}, "current-snapshot-id": 3_055_729_675_574_597_004_i64,
            "snapshots": [
                {"snapshot-id": 3_051_729_675_574_597_004_i64, "timestamp-ms": 1_515_100_955_770_i64, "sequence-number": 0,
                    "summary": {"operation": "append"}, "manifest-list": "s3://a/b/1.avro"},
                {"snapshot-id": 3_055_729_675_574_597_004_i64, "parent-snapshot-id": 3_051_729_675_574_597_004_i64,
                    "timestamp-ms": 1_555_100_955_770_i64, "sequence-number": 1, "summary": {"operation": "append"},
                    "manifest-list": "s3://a/b/2.avro", "schema-id": 1}],
            "snapshot-log": [{"snapshot-id": 3_051_729_675_574_597_004_i64, "timestamp-ms": 1_515_100_955_770_i64}],
            "metadata-log": [{"metadata-file": "s3://bucket/0.json", "timestamp-ms": 1_515_100}],
            "refs": {"main": {"snapshot-id": 3_055_729_675_574_597_004_i64, "type": "branch"},
                "t": {"snapshot-id": 3_051_729_675_574_597_004_i64, "type": "tag", "max-ref-age-ms": 10_000_000}},
        });
        if version == 3 {
            json["next-row-id"] = json!(7);
            // The second schema has required columns that the first lacks, without defaults.
            json["snapshots"][0]["schema-id"] = json!(1);
            for snapshot in json["snapshots"].as_array_mut().expect("snapshots") {
                snapshot["first-row-id"] = json!(0);
                snapshot["added-rows"] = json!(5);
            }
        }
        if version == 1 {
            json.as_object_mut().expect("an object").remove("last-sequence-number");
            json["schema"] = json["schemas"][1].clone();
            json["partition-spec"] = json["partition-specs"][0]["fields"].clone();
        }
        json
    }

    fn parsed(json: &Json) -> TableMetadata {
        TableMetadata::from_json(json.to_string().as_bytes()).unwrap_or_else(|e| panic!("{e}: {json}"))
    }

    fn refused(json: &Json) -> String {
        TableMetadata::from_json(json.to_string().as_bytes()).expect_err("refused").to_string()
    }

    #[test]
    fn metadata_is_printed_as_it_was_read() {
        for version in 1..=3 {
            let json = of_version(version);
            let metadata = parsed(&json);
            let printed: Json = serde_json::from_slice(&metadata.to_json().expect("printed")).expect("JSON");
            assert_eq!(printed, json, "{version}");
            assert_eq!(metadata.current_snapshot().map(|s| s.schema_id), Some(Some(1)));
            assert_eq!(metadata.snapshot_for_ref("t").map(|s| s.sequence_number()), Some(0));
            let names = metadata.partition_types(0).into_iter().map(|ty| ty.map(|ty| ty.to_string())).collect::<Vec<_>>();
            assert_eq!(names, [Some("long".to_owned()), Some("string".to_owned())], "a dropped column keeps its type");
        }
    }

    /// Unknown fields are written back where they were, at every depth.
    #[test]
    fn what_nobody_knows_is_kept() {
        fn strewn(json: &mut Json, n: &mut u32) {
            let free = ["properties", "summary", "refs"];
            match json {
                Json::Object(fields) => {
                    fields.iter_mut().filter(|(name, _)| !free.contains(&name.as_str())).for_each(|(_, value)| strewn(value, n));
                    *n += 1;
                    fields.insert(format!("unknown-{n}"), json!({"a": [*n, null], "b": 1.5}));
                }
                Json::Array(items) => items.iter_mut().for_each(|item| strewn(item, n)),
                _ => {}
            }
        }
        for version in 1..=3 {
            let (mut json, mut n) = (of_version(version), 0);
            strewn(&mut json, &mut n);
            // Version 1 has its schema and spec twice; the printed one is the one in the list.
            if version == 1 {
                json["schema"] = json["schemas"][1].clone();
                json["partition-spec"] = json["partition-specs"][0]["fields"].clone();
            }
            let printed: Json = serde_json::from_slice(&parsed(&json).to_json().expect("printed")).expect("JSON");
            assert!(n > 10);
            assert_eq!(printed, json, "{version}");
        }
    }

    /// Old versions of Java write such metadata.
    #[test]
    fn version_1_needs_little() {
        let json = json!({"format-version": 1, "location": "s3://b/t", "last-updated-ms": 1, "last-column-id": 1, "schema":
            {"type": "struct", "fields": [{"id": 1, "name": "x", "required": true, "type": "int"}]},
            "partition-spec": [{"name": "p", "transform": "identity", "source-id": 1}], "current-snapshot-id": -1,
            "snapshots": [{"snapshot-id": 1, "timestamp-ms": 1, "manifests": ["a"]}]});
        let metadata = parsed(&json);
        assert_eq!((metadata.current_snapshot_id, metadata.last_partition_id, metadata.refs.len()), (None, 1000, 0));
        assert!(metadata.default_sort_order().is_unsorted());
        assert_eq!(metadata.default_partition_spec().fields()[0].field_id, 1000);
        let mut json = json;
        json["current-snapshot-id"] = json!(1);
        let main = |json: &Json| parsed(json).refs.get("main").map(|main| main.snapshot_id);
        assert_eq!(main(&json), Some(1));
        json["refs"] = json!({"t": {"snapshot-id": 1, "type": "tag"}});
        assert_eq!(main(&json), Some(1), "other references do not stand for it");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_with_its_place() {
        let without = |name: &str| {
            let mut json = of_version(2);
            json.as_object_mut().expect("an object").remove(name);
            refused(&json)
        };
        for name in [
            "format-version",
            "table-uuid",
            "location",
            "last-sequence-number",
            "schemas",
            "partition-specs",
            "sort-orders",
            "last-partition-id",
            "current-schema-id",
            "default-spec-id",
            "default-sort-order-id",
            "last-column-id",
        ] {
            let error = without(name);
            assert!(error.contains(name), "{name}: {error}");
        }
        let with = |path: &[&str], value: Json| {
            let mut json = of_version(2);
            let place = path.iter().fold(&mut json, |at, part| match part.parse::<usize>() {
                Ok(place) => &mut at[place],
                Err(_) => &mut at[*part],
            });
            *place = value;
            refused(&json)
        };
        for (path, value, words) in [
            (&["format-version"][..], json!(4), "format-version is 4"),
            (&["current-schema-id"], json!(9), "current-schema-id is 9, which is not in schemas"),
            (&["default-sort-order-id"], json!(9), "not in sort-orders"),
            (&["snapshots", "1", "snapshot-id"], json!("x"), "snapshots[1].snapshot-id"),
            (&["schemas", "1", "fields", "2", "id"], json!(1), "fields x and z have one id, 1"),
            (&["refs", "t", "type"], json!("later"), "refs.t.type"),
        ] {
            let error = with(path, value);
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    /// The `iceberg` crate reads what this crate prints, and the reverse.
    #[test]
    fn another_reader_finds_the_same() {
        for version in 1..=3 {
            let mut json = of_version(version);
            // The `iceberg` crate rejects a spec with a dropped column.
            json["partition-specs"][0]["fields"].as_array_mut().expect("fields").pop();
            if version == 1 {
                json["partition-spec"] = json["partition-specs"][0]["fields"].clone();
            }
            let theirs: iceberg::spec::TableMetadata = serde_json::from_value(json.clone()).expect("read");
            let ours = parsed(&json);
            let printed = serde_json::to_value(&theirs).expect("printed");
            let again = parsed(&printed);
            let by_id = |metadata: &TableMetadata| {
                metadata.schemas.iter().map(|s| (s.schema_id(), s.clone())).collect::<BTreeMap<_, _>>()
            };
            assert_eq!(by_id(&again), by_id(&ours));
            assert_eq!(again.snapshots.len(), ours.snapshots.len());
            assert_eq!((&again.properties, again.next_row_id), (&ours.properties, ours.next_row_id));
            // The `iceberg` crate drops the tags of version 1.
            assert!(version == 1 || again.refs == ours.refs);
            let printed: iceberg::spec::TableMetadata = serde_json::from_slice(&ours.to_json().expect("printed")).expect("read");
            assert_eq!(printed, theirs, "{version}");
        }
    }
}
