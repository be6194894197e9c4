//! Writer of manifests, with the fields and header of Java's `ManifestWriter`.
//!
//! Entries are written as they are added. If some have unknown fields, the file is rewritten at the end with a schema that includes
//! these. Start with [`ManifestWriter`].

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_types::format_count;
use serde_json::Value as Json;

use super::header::MANIFEST;
use super::unknown::UnknownFieldWriter;
use super::{ids, schemas};
use crate::avro::{AvroCodec, Container, ContainerWriter, Cursor, Scratch, avro_schema, encode, put_bytes, put_long};
use crate::{
    BoundBytes, BoundMap, DataContentType, DataFile, DataFileFormat, FieldSummary, FormatError, IdMap, ManifestContent,
    ManifestEntry, ManifestFile, ManifestStatus, NestedField, PartitionSpec, PrimitiveType, Result, Schema, StructType, Tuple,
    Type, UNASSIGNED_SEQUENCE_NUMBER, UnknownFields, Value,
};

/// The block size that Java writes: version 1 requires the field, and no reader uses it.
const BLOCK_SIZE: i64 = 64 << 20;

/// The properties of a manifest that is to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewManifest<'a> {
    /// The table's format version: 1, 2 or 3.
    pub format_version: u8,
    /// The kind of files that the manifest lists.
    pub content: ManifestContent,
    /// The table's schema.
    pub schema: &'a Schema,
    /// The partition spec of the files.
    pub spec: &'a PartitionSpec,
    /// The types of the spec's partition values, see [`PartitionSpec::types`].
    pub types: &'a [Option<PrimitiveType>],
    /// The id of the snapshot that adds the manifest; `None` if entries are to inherit it.
    pub snapshot_id: Option<i64>,
    /// The codec of the file.
    pub codec: AvroCodec,
}

/// A manifest that is being written to memory.
///
/// Spec: "Manifests".
#[derive(Debug)]
pub struct ManifestWriter {
    version: u8,
    content: ManifestContent,
    spec_id: i32,
    snapshot_id: Option<i64>,
    types: Vec<PrimitiveType>,
    writer: ContainerWriter,
    /// The number of entries and of rows by status.
    files: [u64; 3],
    rows: [u64; 3],
    least: Option<i64>,
    summaries: Vec<PartitionSummary>,
    /// The unknown fields of entries that have some, by the entry's index.
    unknown: BTreeMap<u64, UnknownFields>,
}

impl ManifestWriter {
    /// Starts a manifest without entries.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](FormatError::Invalid) if:
    /// - the format version is not 1 to 3, or version 1 is to list delete files;
    /// - the type of a partition field is unknown, unless its transform is void;
    /// - the type of a partition field has no Avro form.
    ///
    /// Returns [`Json`](FormatError::Json) if the schema or spec cannot be printed.
    pub fn new(new: &NewManifest<'_>) -> Result<Self> {
        if !(1..=3).contains(&new.format_version) {
            return Err(invalid(format!("version {} can't be written", new.format_version)));
        }
        if new.format_version == 1 && new.content == ManifestContent::Deletes {
            return Err(invalid("version 1 has no delete files"));
        }
        let types = types(new.spec, new.types)?;
        let fields = new.spec.fields().iter().zip(&types);
        let fields = fields.map(|(field, ty)| Arc::new(NestedField::optional(field.field_id, field.name(), ty.clone())));
        let schema = schemas::entry(new.format_version, StructType::new(fields.collect()));
        let avro = avro_schema("manifest_entry", &schema)?;
        let metadata = metadata(new, schema)?;
        let summaries = types.iter().map(|_| PartitionSummary::default()).collect();
        Ok(Self {
            version: new.format_version,
            content: new.content,
            spec_id: new.spec.spec_id(),
            snapshot_id: new.snapshot_id,
            types,
            writer: ContainerWriter::new(MANIFEST, new.codec, &avro, &metadata),
            files: [0; 3],
            rows: [0; 3],
            least: None,
            summaries,
            unknown: BTreeMap::new(),
        })
    }

    /// Adds a file that the snapshot adds.
    ///
    /// The file inherits its sequence numbers from the commit, unless `sequence_number` sets the data sequence number of older
    /// data. The commit assigns its first row id.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](FormatError::Invalid) if the file's content does not fit the manifest, or its partition values do not
    /// fit the spec. Returns [`Avro`](FormatError::Avro) if compression fails.
    pub fn added(&mut self, file: &DataFile, sequence_number: Option<i64>) -> Result<()> {
        let sequence_number = sequence_number.filter(|number| *number >= 0);
        self.write(ManifestStatus::Added, self.snapshot_id, [sequence_number, None], file, None)
    }

    /// Adds a file that was in the table before. Inherited values of the entry must be filled in.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](FormatError::Invalid) if:
    /// - the entry has no sequence number, and the format version is above 1;
    /// - the file's content does not fit the manifest;
    /// - the partition values do not fit the spec.
    ///
    /// Returns [`Avro`](FormatError::Avro) if compression fails.
    pub fn existing(&mut self, entry: &ManifestEntry) -> Result<()> {
        let numbers = [entry.sequence_number, entry.file_sequence_number];
        self.write(ManifestStatus::Existing, entry.snapshot_id, numbers, &entry.data_file, entry.data_file.first_row_id)
    }

    /// Adds a file that the snapshot removes. Inherited values of the entry must be filled in.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](FormatError::Invalid) if:
    /// - the entry has no sequence number, and the format version is above 1;
    /// - the file's content does not fit the manifest;
    /// - the partition values do not fit the spec.
    ///
    /// Returns [`Avro`](FormatError::Avro) if compression fails.
    pub fn deleted(&mut self, entry: &ManifestEntry) -> Result<()> {
        let numbers = [entry.sequence_number, entry.file_sequence_number];
        self.write(ManifestStatus::Deleted, self.snapshot_id, numbers, &entry.data_file, entry.data_file.first_row_id)
    }

    fn write(
        &mut self,
        status: ManifestStatus,
        snapshot_id: Option<i64>,
        numbers: [Option<i64>; 2],
        file: &DataFile,
        first_row_id: Option<i64>,
    ) -> Result<()> {
        let bad = |why: &str| FormatError::invalid(format!("file {}", file.file_path), why);
        if (file.content == DataContentType::Data) != (self.content == ManifestContent::Data) {
            return Err(bad("a manifest lists data files or delete files, not both"));
        }
        if self.version >= 2 && status != ManifestStatus::Added && numbers[0].is_none() {
            return Err(bad("only a file that is added can inherit its sequence number"));
        }
        let partition = self.promoted(file)?;
        let (version, types) = (self.version, &self.types);
        self.writer.add(|out| {
            put_long(out, status as i64);
            put_option(out, snapshot_id);
            if version >= 2 {
                numbers.into_iter().for_each(|number| put_option(out, number));
            }
            put_file(out, version, file, &partition, types, first_row_id)
        })?;
        if !file.extra.is_empty() {
            self.unknown.insert(self.files.iter().sum(), file.extra.clone());
        }
        self.files[status as usize] += 1;
        self.rows[status as usize] = self.rows[status as usize].saturating_add(file.rows().unwrap_or(0));
        if status != ManifestStatus::Deleted
            && let Some(number) = numbers[0]
        {
            self.least = Some(self.least.map_or(number, |least| least.min(number)));
        }
        for (summary, value) in self.summaries.iter_mut().zip(partition) {
            summary.add(value);
        }
        Ok(())
    }

    /// Converts a file's partition values to the types that are written.
    fn promoted(&self, file: &DataFile) -> Result<Tuple> {
        let bad = |why: String| FormatError::invalid(format!("file {}", file.file_path), why);
        if file.partition.len() != self.types.len() {
            return Err(bad(format!(
                "its partition has {}, its spec has {}",
                format_count(file.partition.len() as u64, "value"),
                format_count(self.types.len() as u64, "field")
            )));
        }
        let values = file.partition.iter().zip(&self.types).map(|(value, ty)| match value {
            None => Ok(None),
            Some(value) => match value.converted_to(ty) {
                Some(value) => Ok(Some(value)),
                None => Err(bad(format!("its partition has {value:?}, which is not of type {ty}"))),
            },
        });
        values.collect()
    }

    /// Ends the manifest. Returns the bytes of the file, and its record for a manifest list.
    ///
    /// The record's sequence number is [`UNASSIGNED_SEQUENCE_NUMBER`], which the writer of the list replaces. Unknown fields of
    /// entries are written back.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](FormatError::Invalid) if an unknown field has types that cannot be merged. Returns
    /// [`Avro`](FormatError::Avro) if an unknown value cannot be converted to the merged type, or compression fails.
    pub fn finish(self, path: impl Into<String>) -> Result<(Vec<u8>, ManifestFile)> {
        let mut bytes = self.writer.finish()?;
        if !self.unknown.is_empty() {
            bytes = rewrite_with_unknown_fields(&bytes, &self.unknown)?;
        }
        let [existing, added, deleted] = self.files.map(Some);
        let [existing_rows, added_rows, deleted_rows] = self.rows.map(Some);
        let manifest = ManifestFile {
            manifest_path: path.into(),
            manifest_length: bytes.len() as i64,
            partition_spec_id: self.spec_id,
            content: self.content,
            sequence_number: UNASSIGNED_SEQUENCE_NUMBER,
            min_sequence_number: self.least.unwrap_or(UNASSIGNED_SEQUENCE_NUMBER),
            added_snapshot_id: self.snapshot_id.unwrap_or(-1),
            added_files_count: added,
            existing_files_count: existing,
            deleted_files_count: deleted,
            added_rows_count: added_rows,
            existing_rows_count: existing_rows,
            deleted_rows_count: deleted_rows,
            partitions: Some(self.summaries.into_iter().map(PartitionSummary::finish).collect()),
            key_metadata: None,
            first_row_id: None,
            extra: UnknownFields::default(),
        };
        Ok((bytes, manifest))
    }
}

/// Rewrites a manifest with the unknown fields of its entries.
///
/// The fields are known only after the last entry, and most manifests have none. The data file is the last field of an entry, so
/// that appended bytes can belong to either.
fn rewrite_with_unknown_fields(manifest: &[u8], unknown: &BTreeMap<u64, UnknownFields>) -> Result<Vec<u8>> {
    let extension = UnknownFieldWriter::of(MANIFEST, unknown.values())?;
    let mut container = Container::open(MANIFEST, manifest)?;
    let mut avro: Json = serde_json::from_slice(container.schema_json()).unwrap_or_default();
    let file =
        avro["fields"].as_array_mut().and_then(|fields| fields.iter_mut().find(|field| field["field-id"] == ids::DATA_FILE));
    extension.add_to(file.map_or(&mut Json::Null, |file| &mut file["type"]), false);
    extension.add_to(&mut avro, true);
    let said: Vec<_> = container.said().map(|(key, value)| (key, String::from_utf8_lossy(value).into_owned())).collect();
    let mut writer = ContainerWriter::new(MANIFEST, container.codec(), &avro, &said);
    let (schema, none) = (container.schema().clone(), UnknownFields::default());
    let (mut scratch, mut place) = (Scratch::default(), 0);
    while let Some((count, block)) = container.next(&mut scratch)? {
        let mut cursor = Cursor::new(block);
        for _ in 0..count {
            let start = cursor;
            cursor.skip(&schema, schema.root()).map_err(invalid)?;
            writer.add(|out| {
                out.extend_from_slice(cursor.since(&start));
                extension.put(out, unknown.get(&place).unwrap_or(&none))
            })?;
            place += 1;
        }
    }
    writer.finish()
}

fn invalid(why: impl Into<String>) -> FormatError {
    FormatError::invalid(MANIFEST, why)
}

fn types(spec: &PartitionSpec, types: &[Option<PrimitiveType>]) -> Result<Vec<PrimitiveType>> {
    let of = |(at, field): (usize, &crate::PartitionField)| {
        let bad = |why: &str| FormatError::invalid(format!("partition field {}", field.name()), why);
        match types.get(at) {
            Some(Some(ty)) => Ok(ty.clone()),
            // A void field is always null, so its type does not matter.
            _ if *field.transform() == crate::Transform::Void => Ok(PrimitiveType::Int),
            Some(None) | None => Err(bad("the type of its values is unknown, so no partition can be written")),
        }
    };
    spec.fields().iter().enumerate().map(of).collect()
}

/// Returns the key-value pairs of the header. `iceberg.schema` is added by Java's Avro writer, the others are required by the
/// specification.
fn metadata(new: &NewManifest<'_>, entry: StructType) -> Result<Vec<(&'static str, String)>> {
    let text = |what: &'static str, json: Result<String, serde_json::Error>| {
        json.map_err(|source| FormatError::Json { what, at: ".".to_owned(), source })
    };
    let fields: Vec<_> = new.spec.fields().iter().map(crate::PartitionField::unbound).collect();
    let mut metadata = vec![
        ("iceberg.schema", text("manifest schema", serde_json::to_string(&schema_json(entry)))?),
        ("schema", text("schema", serde_json::to_string(new.schema))?),
        ("schema-id", new.schema.schema_id().to_string()),
        ("partition-spec", text("partition spec", serde_json::to_string(&fields))?),
        ("partition-spec-id", new.spec.spec_id().to_string()),
        ("format-version", new.format_version.to_string()),
    ];
    if new.format_version >= 2 {
        metadata.push(("content", new.content.as_str().to_owned()));
    }
    Ok(metadata)
}

/// Returns a struct in Java's JSON form of schemas.
pub(super) fn schema_json(fields: StructType) -> Json {
    let mut json = serde_json::to_value(Type::from(fields)).unwrap_or_default();
    json["schema-id"] = 0.into();
    json
}

pub(super) fn put_option(out: &mut Vec<u8>, value: Option<i64>) {
    put_long(out, value.is_some().into());
    if let Some(value) = value {
        put_long(out, value);
    }
}

pub(super) fn put_optional_bytes(out: &mut Vec<u8>, value: Option<&[u8]>) {
    put_long(out, value.is_some().into());
    if let Some(value) = value {
        put_bytes(out, value);
    }
}

/// Writes a data file, with its fields in the order of [`schemas::entry`].
fn put_file(
    out: &mut Vec<u8>,
    version: u8,
    file: &DataFile,
    partition: &Tuple,
    types: &[PrimitiveType],
    first_row_id: Option<i64>,
) -> Result<()> {
    if version >= 2 {
        put_long(out, file.content as i64);
    }
    put_bytes(out, file.file_path.as_bytes());
    put_bytes(out, format_name(&file.file_format).as_bytes());
    for (value, ty) in partition.iter().zip(types) {
        // A type that has only nulls is not a union, and takes no bytes.
        if *ty != PrimitiveType::Unknown {
            put_long(out, value.is_some().into());
            if let Some(value) = value {
                encode(out, ty, value)?;
            }
        }
    }
    put_long(out, file.record_count);
    put_long(out, file.file_size_in_bytes);
    if version == 1 {
        put_long(out, BLOCK_SIZE);
    }
    for counts in [&file.column_sizes, &file.value_counts, &file.null_value_counts, &file.nan_value_counts] {
        put_map(out, counts.as_ref().map(IdMap::iter), |out, count| put_long(out, *count));
    }
    for bounds in [&file.lower_bounds, &file.upper_bounds] {
        put_map(out, bounds.as_ref().map(BoundMap::iter), |out, bound| put_bytes(out, bound.bytes()));
    }
    put_optional_bytes(out, file.key_metadata.as_deref());
    put_list(out, file.split_offsets.as_ref().map(|list| list.iter().copied()));
    if version >= 2 {
        put_list(out, file.equality_ids.as_ref().map(|list| list.iter().map(|id| (*id).into())));
    }
    put_option(out, file.sort_order_id.map(Into::into));
    if version >= 3 {
        put_option(out, first_row_id.filter(|_| file.content == DataContentType::Data));
    }
    if version >= 2 {
        put_optional_bytes(out, file.referenced_data_file.as_ref().map(String::as_bytes));
    }
    if version >= 3 {
        put_option(out, file.content_offset);
        put_option(out, file.content_size_in_bytes);
    }
    Ok(())
}

/// Returns the format in upper case, as Java and PyIceberg write it.
fn format_name(format: &DataFileFormat) -> String {
    match format {
        DataFileFormat::Other(name) => name.to_string(),
        known => known.as_str().to_ascii_uppercase(),
    }
}

fn put_map<T>(out: &mut Vec<u8>, map: Option<impl ExactSizeIterator<Item = (i32, T)>>, put: impl Fn(&mut Vec<u8>, T)) {
    put_long(out, map.is_some().into());
    let Some(map) = map else { return };
    if map.len() > 0 {
        put_long(out, map.len() as i64);
        for (id, value) in map {
            put_long(out, id.into());
            put(out, value);
        }
    }
    put_long(out, 0);
}

fn put_list(out: &mut Vec<u8>, list: Option<impl ExactSizeIterator<Item = i64>>) {
    put_long(out, list.is_some().into());
    let Some(list) = list else { return };
    if list.len() > 0 {
        put_long(out, list.len() as i64);
        list.for_each(|item| put_long(out, item));
    }
    put_long(out, 0);
}

/// The summary of a partition field's values.
#[derive(Debug, Default)]
struct PartitionSummary {
    null: bool,
    nan: bool,
    least: Option<Value>,
    greatest: Option<Value>,
}

impl PartitionSummary {
    fn add(&mut self, value: Option<Value>) {
        match value {
            None => self.null = true,
            Some(value) if value.is_nan() => self.nan = true,
            Some(value) => {
                if self.least.as_ref().is_none_or(|least| value < *least) {
                    self.least = Some(value.clone());
                }
                if self.greatest.as_ref().is_none_or(|greatest| value > *greatest) {
                    self.greatest = Some(value);
                }
            }
        }
    }

    fn finish(self) -> FieldSummary {
        FieldSummary {
            contains_null: self.null,
            contains_nan: Some(self.nan),
            lower_bound: self.least.as_ref().and_then(BoundBytes::of),
            upper_bound: self.greatest.as_ref().and_then(BoundBytes::of),
            extra: UnknownFields::default(),
        }
    }
}
