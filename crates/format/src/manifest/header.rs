//! What a manifest says of itself: its header's keys, and the types of its partitions.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::ids;
use crate::avro::{Container, WriterSchema, primitive_of};
use crate::{ManifestContent, PartitionSpec, PrimitiveType, Result, Schema, UnboundPartitionField};

/// What a manifest says of itself (specification, "Manifests").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHeader {
    /// The version that it was written in; 1 if it does not say.
    pub format_version: u8,
    /// What it lists; data if it does not say.
    pub content: ManifestContent,
    /// The schema that the table had.
    pub schema_id: Option<i32>,
    /// The spec of its files' partitions; 0 if it does not say.
    pub partition_spec_id: i32,
    /// The partitions' fields, in the order of their values.
    pub partition: Vec<PartitionColumn>,
}

/// A field of a manifest's partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionColumn {
    /// The field of the spec.
    pub field_id: i32,
    /// The type that the manifest's values have; none if they are of none that is known. The column may have been promoted since.
    pub value_type: Option<PrimitiveType>,
}

/// What a manifest says of itself. Its entries are not decoded.
pub fn read_manifest_header(file: &[u8]) -> Result<ManifestHeader> {
    Ok(header(&Container::open(MANIFEST, file)?).0)
}

/// The table's schema as a manifest's header has it; none if there is none that can be understood.
pub fn manifest_schema(file: &[u8]) -> Result<Option<Schema>> {
    Ok(schema(&Container::open(MANIFEST, file)?))
}

pub(super) const MANIFEST: &str = "manifest";

/// A field of the partition struct that a file was written with: where its values go in the tuple, and of which type they are.
#[derive(Debug)]
pub(super) struct PartitionPart {
    /// Its place in the tuple; none if the spec has no such field.
    pub(super) place: Option<usize>,
    pub(super) node: usize,
    pub(super) null: Option<usize>,
    pub(super) ty: Option<PrimitiveType>,
}

/// The header, and the fields of the partition struct in the order in which they are written, but for those that take no bytes.
pub(super) fn header(container: &Container<'_>) -> (ManifestHeader, Vec<PartitionPart>) {
    let number = |name| container.text(name).and_then(|text| text.trim().trim_matches('"').parse::<i32>().ok());
    let content = match container.text("content") {
        Some(text) if text.trim_matches('"').eq_ignore_ascii_case("deletes") => ManifestContent::Deletes,
        _ => ManifestContent::Data,
    };
    let partition_spec_id = number("partition-spec-id").unwrap_or(0);
    let writer = container.schema();
    let fields = partition_node(writer).map(|node| writer.fields(node)).unwrap_or_default();
    let spec = spec(container, partition_spec_id);
    // The schema's JSON may be large: it is read only where it may tell more than the file's own types do.
    let table = if fields.is_empty() { None } else { schema(container) };
    let expected: Vec<Option<PrimitiveType>> = match (&spec, &table) {
        (Some(spec), Some(table)) => spec.types(|id| table.field_by_id(id).map(|field| field.field_type.as_ref())),
        _ => Vec::new(),
    };
    let mut partition: Vec<PartitionColumn> = match &spec {
        Some(spec) => spec.fields().iter().map(|field| PartitionColumn { field_id: field.field_id, value_type: None }).collect(),
        None => Vec::new(),
    };
    let mut places: HashMap<i32, usize> = partition.iter().enumerate().map(|(at, column)| (column.field_id, at)).collect();
    let mut parts = Vec::with_capacity(fields.len());
    for (at, field) in fields.iter().enumerate() {
        // Version 1 knew its partition fields by their places.
        let id = field
            .id
            .or_else(|| partition.get(at).map(|column| column.field_id))
            .unwrap_or(crate::FIRST_PARTITION_FIELD_ID + at as i32);
        let place = match (places.get(&id), &spec) {
            (Some(place), _) => Some(*place),
            (None, Some(_)) => None,
            (None, None) => {
                places.insert(id, partition.len());
                partition.push(PartitionColumn { field_id: id, value_type: None });
                Some(partition.len() - 1)
            }
        };
        let (node, null) = writer.without_null(field.node);
        let expected = place.and_then(|place| expected.get(place)?.as_ref());
        let ty = primitive_of(writer.node(node), expected);
        if let Some(place) = place {
            partition[place].value_type.clone_from(&ty);
        }
        if writer.node(field.node).least > 0 {
            parts.push(PartitionPart { place, node, null, ty });
        }
    }
    // The last version that there could be; a file of a later one is read as far as it is understood.
    let format_version = number("format-version").and_then(|version| u8::try_from(version).ok()).unwrap_or(1);
    // Java leaves the key out, and has the id in the schema.
    let schema_id = number("schema-id").or_else(|| schema_id(container));
    (ManifestHeader { format_version, content, schema_id, partition_spec_id, partition }, parts)
}

/// The type of partitions.
fn partition_node(writer: &WriterSchema) -> Option<usize> {
    let find = |at: usize, id: i32| {
        let field = writer.fields(at).iter().find(|field| field.id == Some(id))?;
        Some(writer.without_null(field.node).0)
    };
    find(find(writer.root(), ids::DATA_FILE)?, ids::PARTITION)
}

fn schema(container: &Container<'_>) -> Option<Schema> {
    serde_json::from_slice(container.metadata("schema")?).ok()
}

/// The id that the schema in the header says it has.
fn schema_id(container: &Container<'_>) -> Option<i32> {
    #[derive(serde::Deserialize)]
    struct Named {
        #[serde(rename = "schema-id")]
        id: Option<i32>,
    }
    serde_json::from_slice::<Named>(container.metadata("schema")?).ok()?.id
}

/// The spec that the header has: its fields only, as the specification says, or all of it, as some writers have it.
fn spec(container: &Container<'_>, spec_id: i32) -> Option<PartitionSpec> {
    let json: Json = serde_json::from_slice(container.metadata("partition-spec")?).ok()?;
    let fields = match json {
        Json::Object(mut object) => object.remove("fields")?,
        other => other,
    };
    let fields: Vec<UnboundPartitionField> = serde_json::from_value(fields).ok()?;
    Some(PartitionSpec::new(spec_id, fields))
}
