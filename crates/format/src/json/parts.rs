//! The JSON forms of the parts of a table's metadata: schemas, specs, sort orders, snapshots, references, statistics.
//!
//! Spec: Appendix C.

use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    BlobMetadata, EncryptedKey, Extra, MetadataLog, NestedField, PartitionField, PartitionSpec, PartitionStatisticsFile, Schema,
    Snapshot, SnapshotLog, SnapshotReference, SortField, SortOrder, StatisticsFile, Transform, UnboundPartitionField,
    UnboundPartitionSpec,
};

impl<'de> Deserialize<'de> for Transform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl serde::de::Visitor<'_> for Name {
            type Value = Transform;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a transform")
            }

            fn visit_str<E>(self, name: &str) -> Result<Transform, E> {
                Ok(Transform::named(name))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

impl Serialize for Transform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

json_object!(UnboundPartitionField {
    optional "source-id" => source_id,
    optional "source-ids" => source_ids,
    optional "field-id" => field_id,
    needed "name" => name,
    needed "transform" => transform,
});

json_object!(SortField {
    needed "transform" => transform,
    optional "source-id" => source_id,
    optional "source-ids" => source_ids,
    needed "direction" => direction,
    needed "null-order" => null_order,
});

json_object!(SortOrder {
    needed "order-id" => order_id,
    needed "fields" => fields,
});

json_object!(Snapshot {
    optional "sequence-number" => sequence_number,
    needed "snapshot-id" => snapshot_id,
    optional "parent-snapshot-id" => parent_snapshot_id,
    needed "timestamp-ms" => timestamp_ms,
    optional "summary" => summary,
    optional "manifest-list" => manifest_list,
    optional "manifests" => manifests,
    optional "schema-id" => schema_id,
    optional "first-row-id" => first_row_id,
    optional "added-rows" => added_rows,
    optional "key-id" => key_id,
});

json_object!(SnapshotReference {
    needed "snapshot-id" => snapshot_id,
    needed "type" => kind,
    optional "min-snapshots-to-keep" => min_snapshots_to_keep,
    optional "max-snapshot-age-ms" => max_snapshot_age_ms,
    optional "max-ref-age-ms" => max_ref_age_ms,
});

json_object!(SnapshotLog {
    needed "timestamp-ms" => timestamp_ms,
    needed "snapshot-id" => snapshot_id,
});

json_object!(MetadataLog {
    needed "timestamp-ms" => timestamp_ms,
    needed "metadata-file" => metadata_file,
});

json_object!(BlobMetadata {
    needed "type" => blob_type,
    needed "snapshot-id" => snapshot_id,
    needed "sequence-number" => sequence_number,
    needed "fields" => fields,
    optional "properties" => properties,
});

json_object!(StatisticsFile {
    needed "snapshot-id" => snapshot_id,
    needed "statistics-path" => statistics_path,
    needed "file-size-in-bytes" => file_size_in_bytes,
    needed "file-footer-size-in-bytes" => file_footer_size_in_bytes,
    optional "key-metadata" => key_metadata,
    or_default "blob-metadata" => blob_metadata,
});

json_object!(PartitionStatisticsFile {
    needed "snapshot-id" => snapshot_id,
    needed "statistics-path" => statistics_path,
    needed "file-size-in-bytes" => file_size_in_bytes,
});

json_object!(EncryptedKey {
    needed "key-id" => key_id,
    needed "encrypted-key-metadata" => encrypted_key_metadata,
    optional "encrypted-by-id" => encrypted_by_id,
    optional "properties" => properties,
});

json_object!(UnboundPartitionSpec {
    optional "spec-id" => spec_id,
    needed "fields" => fields,
});

impl<'de> Deserialize<'de> for PartitionSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let UnboundPartitionSpec { spec_id, fields, extra } = UnboundPartitionSpec::deserialize(deserializer)?;
        let spec_id = spec_id.ok_or_else(|| D::Error::missing_field("spec-id"))?;
        let mut spec = Self::new(spec_id, fields);
        spec.extra = extra;
        Ok(spec)
    }
}

impl Serialize for PartitionSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = self.fields().iter().map(PartitionField::unbound).cloned().collect();
        UnboundPartitionSpec { spec_id: Some(self.spec_id()), fields, extra: self.extra.clone() }.serialize(serializer)
    }
}

/// The JSON form of a schema.
#[derive(Debug)]
struct SchemaJson {
    kind: Option<String>,
    schema_id: Option<i32>,
    identifier_field_ids: Option<Vec<i32>>,
    fields: Vec<NestedField>,
    extra: Extra,
}

json_object!(SchemaJson {
    optional "type" => kind,
    optional "schema-id" => schema_id,
    optional "identifier-field-ids" => identifier_field_ids,
    needed "fields" => fields,
});

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = SchemaJson::deserialize(deserializer)?;
        let fields = json.fields.into_iter().map(Arc::new).collect();
        // Format version 1 may leave out the id.
        let mut schema = Self::new(json.schema_id.unwrap_or(0), fields).map_err(D::Error::custom)?;
        schema.extra = json.extra;
        Ok(schema.with_identifier_field_ids(json.identifier_field_ids.unwrap_or_default()))
    }
}

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ids: Vec<i32> = self.identifier_field_ids().iter().copied().collect();
        let json = SchemaJson {
            kind: Some("struct".to_owned()),
            schema_id: Some(self.schema_id()),
            identifier_field_ids: Some(ids).filter(|ids| !ids.is_empty()),
            fields: self.as_struct().fields().iter().map(|field| field.as_ref().clone()).collect(),
            extra: self.extra.clone(),
        };
        json.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value as Json, json};

    use super::*;

    fn round<T: DeserializeOwned + Serialize>(json: &Json) -> T {
        let parsed: T = serde_json::from_value(json.clone()).unwrap_or_else(|e| panic!("{json}: {e}"));
        assert_eq!(serde_json::to_value(&parsed).expect("printed"), *json);
        parsed
    }

    #[test]
    fn parts_are_printed_as_they_were_read_with_what_nobody_knows() {
        round::<Schema>(&json!({"type": "struct", "schema-id": 4, "identifier-field-ids": [1], "later": {"a": 1},
            "fields": [{"id": 1, "name": "x", "required": true, "type": "long", "later": [1]}]}));
        let spec: PartitionSpec = round(&json!({"spec-id": 1, "later": true, "fields": [
            {"source-id": 1, "field-id": 1000, "name": "x", "transform": "bucket[4]", "later": null},
            {"source-ids": [1, 2], "field-id": 1001, "name": "y", "transform": "zorder"}]}));
        assert_eq!(spec.fields()[1].source_id(), None);
        round::<SortOrder>(&json!({"order-id": 3, "fields": [
            {"transform": "identity", "source-id": 2, "direction": "asc", "null-order": "nulls-last", "collation": "de"}]}));
        round::<SnapshotReference>(&json!({"snapshot-id": 1, "type": "tag", "max-ref-age-ms": 5, "later": 1}));
        let snapshot = json!({"sequence-number": 7, "snapshot-id": 3051729675574597004_i64, "parent-snapshot-id": 1, "timestamp-ms": 2,
            "summary": {"operation": "append", "x": "y"}, "manifest-list": "s3://b/l.avro", "schema-id": 0, "first-row-id": 0,
            "added-rows": 5, "key-id": "k", "later": 1.5});
        assert_eq!(round::<Snapshot>(&snapshot).operation(), Some("append"));
        round::<StatisticsFile>(
            &json!({"snapshot-id": 1, "statistics-path": "p", "file-size-in-bytes": 2, "file-footer-size-in-bytes": 1,
            "blob-metadata": [{"type": "t", "snapshot-id": 1, "sequence-number": 1, "fields": [1], "properties": {"ndv": "3"}, "later": 1}]}),
        );
    }

    /// Snowflake and old versions of Java write such snapshots.
    #[test]
    fn snapshots_need_neither_operation_nor_summary_nor_a_list() {
        let snapshot: Snapshot = round(&json!({"snapshot-id": 1, "timestamp-ms": 2, "manifests": ["a", "b"]}));
        assert_eq!((snapshot.operation(), snapshot.sequence_number(), &snapshot.manifest_list), (None, 0, &None));
        let snapshot: Snapshot =
            round(&json!({"snapshot-id": 1, "timestamp-ms": 2, "manifest-list": "l", "summary": {"a": "b"}}));
        assert_eq!(snapshot.operation(), None);
    }
}
