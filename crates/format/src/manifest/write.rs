//! Writing manifests, as Java's `ManifestWriter` does.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::header::MANIFEST;
use super::unknown::Extension;
use super::{ids, schemas};
use crate::avro::{AvroCodec, Container, ContainerWriter, Cursor, Scratch, avro_schema, encode, put_bytes, put_long};
use crate::{
    BoundBytes, BoundMap, DataContentType, DataFile, DataFileFormat, FieldSummary, FormatError, IdMap, ManifestContent,
    ManifestEntry, ManifestFile, ManifestStatus, NestedField, PartitionSpec, PrimitiveType, Result, Schema, StructType, Tuple,
    Type, UNASSIGNED_SEQUENCE_NUMBER, UnknownFields, Value,
};

/// What Java puts for the size of blocks, which version 1 must have and nobody reads.
const BLOCK_SIZE: i64 = 64 << 20;

/// What a manifest is to be.
#[derive(Debug, Clone, Copy)]
pub struct NewManifest<'a> {
    /// The table's version: 1, 2 or 3.
    pub format_version: u8,
    /// What it lists.
    pub content: ManifestContent,
    /// The table's schema.
    pub schema: &'a Schema,
    /// The spec of its files' partitions.
    pub spec: &'a PartitionSpec,
    /// The types of the spec's values: [`PartitionSpec::types`].
    pub types: &'a [Option<PrimitiveType>],
    /// The snapshot that adds it; none if it is not known yet, and inherited.
    pub snapshot_id: Option<i64>,
    /// How it is compressed.
    pub codec: AvroCodec,
}

/// A manifest that is written.
#[derive(Debug)]
pub struct ManifestWriter {
    version: u8,
    content: ManifestContent,
    spec_id: i32,
    snapshot_id: Option<i64>,
    types: Vec<PrimitiveType>,
    writer: ContainerWriter,
    /// Entries and rows by status.
    files: [u64; 3],
    rows: [u64; 3],
    least: Option<i64>,
    summaries: Vec<Summary>,
    /// Entries that have fields that nobody knows, by their places.
    unknown: BTreeMap<u64, UnknownFields>,
}

impl ManifestWriter {
    /// A manifest without entries. A spec whose values have types that can't be written is refused, with the field.
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
        let summaries = types.iter().map(|_| Summary::default()).collect();
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

    /// Adds a file that the snapshot adds. Its sequence numbers are those of the commit, unless its data belongs to an older one; its first
    /// row id is given by the commit.
    pub fn added(&mut self, file: &DataFile, sequence_number: Option<i64>) -> Result<()> {
        let sequence_number = sequence_number.filter(|number| *number >= 0);
        self.write(ManifestStatus::Added, self.snapshot_id, [sequence_number, None], file, None)
    }

    /// Adds a file that is there already. What it inherited must be set.
    pub fn existing(&mut self, entry: &ManifestEntry) -> Result<()> {
        let numbers = [entry.sequence_number, entry.file_sequence_number];
        self.write(ManifestStatus::Existing, entry.snapshot_id, numbers, &entry.data_file, entry.data_file.first_row_id)
    }

    /// Adds a file that the snapshot removes. What it inherited must be set.
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
            return Err(bad("a manifest lists data files, or delete files, and not both"));
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

    /// The values of a file's partition, of the types that are written.
    fn promoted(&self, file: &DataFile) -> Result<Tuple> {
        let bad = |why: String| FormatError::invalid(format!("file {}", file.file_path), why);
        if file.partition.len() != self.types.len() {
            return Err(bad(format!("its partition has {} values, its spec {} fields", file.partition.len(), self.types.len())));
        }
        let values = file.partition.iter().zip(&self.types).map(|(value, ty)| match value {
            None => Ok(None),
            Some(value) => match value.of_type(ty) {
                Some(value) => Ok(Some(value)),
                None => Err(bad(format!("its partition has {value:?}, which is no {ty}"))),
            },
        });
        values.collect()
    }

    /// The file's bytes, and how a list has it. Its sequence number is the commit's, which the list's writer puts. What entries have that
    /// nobody knows is written back; a field of which they have two types is refused.
    pub fn finish(self, path: impl Into<String>) -> Result<(Vec<u8>, ManifestFile)> {
        let mut bytes = self.writer.finish()?;
        if !self.unknown.is_empty() {
            bytes = extended(&bytes, &self.unknown)?;
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
            partitions: Some(self.summaries.into_iter().map(Summary::finish).collect()),
            key_metadata: None,
            first_row_id: None,
            extra: UnknownFields::default(),
        };
        Ok((bytes, manifest))
    }
}

/// A manifest anew, with what its entries have that nobody knows. Most have nothing, which is known only once the last one is there.
/// A file is the last field of its entry, so that a field at its end is one at the entry's end.
fn extended(manifest: &[u8], unknown: &BTreeMap<u64, UnknownFields>) -> Result<Vec<u8>> {
    let extension = Extension::of(MANIFEST, unknown.values())?;
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
            // A field that is always null has whatever type.
            _ if *field.transform() == crate::Transform::Void => Ok(PrimitiveType::Int),
            Some(None) | None => Err(bad("the type of its values is not known, so that no partition of it can be written")),
        }
    };
    spec.fields().iter().enumerate().map(of).collect()
}

/// What the header says. `iceberg.schema` is what Java's Avro writer adds; the specification asks for the rest.
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

/// A struct as Java prints schemas.
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

/// A file, its fields in the order of [`schemas::entry`].
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
        // A type that has only nulls is no union, and takes nothing.
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

/// In capitals, as Java and PyIceberg write it.
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

/// What values a partition field has.
#[derive(Debug, Default)]
struct Summary {
    null: bool,
    nan: bool,
    least: Option<Value>,
    greatest: Option<Value>,
}

impl Summary {
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
