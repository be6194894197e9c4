//! The header of a manifest: its key-value pairs, and the types of its partition values.
//!
//! Spec: "Manifests". Start with [`ManifestHeader`].

use std::collections::HashMap;

use serde_json::Value as Json;

use super::ids;
use crate::avro::{Container, WriterSchema, primitive_of};
use crate::{ManifestContent, PartitionSpec, PrimitiveType, Result, Schema, UnboundPartitionField};

/// The properties of a manifest that its file's header has.
///
/// Spec: "Manifests".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHeader {
    /// The format version of the manifest; 1 if the header has none.
    pub format_version: u8,
    /// The kind of files that the manifest lists; data if the header has none.
    pub content: ManifestContent,
    /// The id of the table's schema when the manifest was written.
    pub schema_id: Option<i32>,
    /// The id of the partition spec of its files; 0 if the header has none.
    pub partition_spec_id: i32,
    /// The partition fields, in the order of the partition values.
    pub partition: Vec<PartitionColumn>,
}

/// A partition field of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionColumn {
    /// The id of the partition field.
    pub field_id: i32,
    /// The type of the values in the manifest, or `None` if it is not known. The column may have been promoted since.
    pub value_type: Option<PrimitiveType>,
}

/// Reads the header of a manifest, without its entries.
///
/// Spec: "Manifests".
///
/// # Errors
///
/// Returns [`Avro`](crate::FormatError::Avro) if the file is no Avro file, its header or Avro schema is damaged, or its codec is
/// not supported.
pub fn read_manifest_header(file: &[u8]) -> Result<ManifestHeader> {
    Ok(header(&Container::open(MANIFEST, file)?).0)
}

/// Returns the table's schema in a manifest's header, or `None` if the header has none or it cannot be parsed.
///
/// # Errors
///
/// Returns what [`read_manifest_header`] returns.
pub fn manifest_schema(file: &[u8]) -> Result<Option<Schema>> {
    Ok(schema(&Container::open(MANIFEST, file)?))
}

pub(super) const MANIFEST: &str = "manifest";

/// A field of the file's partition struct: its position in the decoded tuple, and its type.
#[derive(Debug)]
pub(super) struct PartitionPart {
    /// The position in the tuple; `None` if the spec has no such field.
    pub(super) place: Option<usize>,
    pub(super) node: usize,
    pub(super) null: Option<usize>,
    pub(super) ty: Option<PrimitiveType>,
}

/// Returns the header, and the fields of the partition struct in the file's order, without those that take no bytes.
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
    // The JSON of the schema may be large. It is parsed only if its types are needed.
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
        // Format version 1 identifies partition fields by position.
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
        if writer.node(field.node).min_size > 0 {
            parts.push(PartitionPart { place, node, null, ty });
        }
    }
    // A file of a later version is read as far as it is understood.
    let format_version = number("format-version").and_then(|version| u8::try_from(version).ok()).unwrap_or(1);
    // Java leaves out the key; the id is in the schema.
    let schema_id = number("schema-id").or_else(|| schema_id(container));
    (ManifestHeader { format_version, content, schema_id, partition_spec_id, partition }, parts)
}

/// Returns the node of the partition struct.
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

/// Returns the id in the header's schema.
fn schema_id(container: &Container<'_>) -> Option<i32> {
    #[derive(serde::Deserialize)]
    struct Named {
        #[serde(rename = "schema-id")]
        id: Option<i32>,
    }
    serde_json::from_slice::<Named>(container.metadata("schema")?).ok()?.id
}

/// Returns the header's partition spec: only its fields, as the specification has it, or the whole spec, as some writers do.
fn spec(container: &Container<'_>, spec_id: i32) -> Option<PartitionSpec> {
    let json: Json = serde_json::from_slice(container.metadata("partition-spec")?).ok()?;
    let fields = match json {
        Json::Object(mut object) => object.remove("fields")?,
        other => other,
    };
    let fields: Vec<UnboundPartitionField> = serde_json::from_value(fields).ok()?;
    Some(PartitionSpec::new(spec_id, fields))
}
