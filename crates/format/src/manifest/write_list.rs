//! Writer of manifest lists, with the fields and header of Java's `ManifestListWriter`.
//!
//! Start with [`ManifestListWriter`].

use serde_json::Value as Json;

use super::schemas;
use super::unknown::UnknownFieldWriter;
use super::write::{put_option, put_optional_bytes, schema_json};
use crate::avro::{AvroCodec, ContainerWriter, avro_schema, put_bytes, put_long};
use crate::{
    FieldSummary, FormatError, ManifestContent, ManifestFile, NestedField, Result, StructType, UNASSIGNED_SEQUENCE_NUMBER,
};

const LIST: &str = "manifest list";

/// The properties of a manifest list that is to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewManifestList {
    /// The table's format version: 1, 2 or 3.
    pub format_version: u8,
    /// The id of the snapshot that the list belongs to.
    pub snapshot_id: i64,
    /// The id of the snapshot's parent.
    pub parent_snapshot_id: Option<i64>,
    /// The sequence number of the snapshot; not written in version 1.
    pub sequence_number: i64,
    /// The table's next row id; required in version 3, ignored before.
    pub first_row_id: Option<i64>,
    /// The codec of the file.
    pub codec: AvroCodec,
}

/// A manifest list that is being written to memory.
///
/// Spec: "Manifest Lists".
#[derive(Debug)]
pub struct ManifestListWriter {
    new: NewManifestList,
    next_row_id: Option<i64>,
    manifests: Vec<ManifestFile>,
}

impl ManifestListWriter {
    /// Starts a list without manifests.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](FormatError::Invalid) if the format version is not 1 to 3, or version 3 lacks a first row id.
    pub fn new(new: NewManifestList) -> Result<Self> {
        if !(1..=3).contains(&new.format_version) {
            return Err(FormatError::invalid(LIST, format!("version {} can't be written", new.format_version)));
        }
        if new.format_version == 3 && new.first_row_id.is_none() {
            return Err(FormatError::invalid(LIST, "version 3 needs the table's next row id"));
        }
        Ok(Self { new, next_row_id: new.first_row_id.filter(|_| new.format_version >= 3), manifests: Vec::new() })
    }

    /// Adds a manifest, and assigns what it lacks.
    ///
    /// A manifest without a sequence number gets the snapshot's. In version 3 a manifest of data files without a first row id gets
    /// the next one. It reserves as many ids as its existing and added files have rows.
    ///
    /// Spec: "First Row ID Assignment".
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](FormatError::Invalid) if:
    /// - the list is of version 1, and the manifest lists delete files;
    /// - the list is of a later version, and the manifest has no sequence number although another snapshot added it;
    /// - the list is of version 3, and the row counts for assigning row ids are missing or too large.
    pub fn add(&mut self, manifest: &ManifestFile) -> Result<()> {
        let bad = |why: String| FormatError::invalid(format!("manifest {}", manifest.manifest_path), why);
        let mut manifest = manifest.clone();
        if self.new.format_version == 1 {
            if manifest.content == ManifestContent::Deletes {
                return Err(bad("version 1 has no delete files".to_owned()));
            }
            // Readers take numbers that a list does not have for 0.
            (manifest.sequence_number, manifest.min_sequence_number) = (0, 0);
            self.manifests.push(manifest);
            return Ok(());
        }
        for number in [&mut manifest.sequence_number, &mut manifest.min_sequence_number] {
            if *number == UNASSIGNED_SEQUENCE_NUMBER {
                if manifest.added_snapshot_id != self.new.snapshot_id {
                    return Err(bad(format!("it has no sequence number, but snapshot {} added it", manifest.added_snapshot_id)));
                }
                *number = self.new.sequence_number;
            }
        }
        if self.new.format_version >= 3 && manifest.content == ManifestContent::Data && manifest.first_row_id.is_none() {
            manifest.first_row_id = self.next_row_id;
            // Existing files may lack row ids too, if the table had an earlier version.
            let rows = manifest.existing_rows_count.zip(manifest.added_rows_count).and_then(|(a, b)| a.checked_add(b));
            let next = rows.and_then(|rows| self.next_row_id?.checked_add_unsigned(rows));
            self.next_row_id = Some(next.ok_or_else(|| bad("row ids need its row counts, which are missing".to_owned()))?);
        }
        if manifest.content == ManifestContent::Deletes {
            manifest.first_row_id = None;
        }
        self.manifests.push(manifest);
        Ok(())
    }

    /// Returns the manifests that were added, with what they were assigned.
    pub fn manifests(&self) -> &[ManifestFile] {
        &self.manifests
    }

    /// Returns the table's next row id after the commit (version 3).
    pub const fn next_row_id(&self) -> Option<i64> {
        self.next_row_id
    }

    /// Ends the list and returns the bytes of the file.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](FormatError::Invalid) if a count of files exceeds an `int` or one of rows a `long`, or if an unknown
    /// field has types that cannot be merged. Returns [`Avro`](FormatError::Avro) if an unknown value cannot be converted to the
    /// merged type, or if compression fails.
    pub fn finish(self) -> Result<Vec<u8>> {
        let new = &self.new;
        let loose = new.format_version >= 2 && !self.manifests.iter().all(counted);
        let schema = schema(new.format_version, loose);
        let mut avro = avro_schema("manifest_file", &schema)?;
        let extension = UnknownFieldWriter::of(LIST, self.manifests.iter().map(|manifest| &manifest.extra))?;
        extension.add_to(&mut avro, false);
        let summaries = self.manifests.iter().flat_map(|manifest| manifest.partitions.iter().flatten());
        let of_summaries = UnknownFieldWriter::of(LIST, summaries.map(|summary| &summary.extra))?;
        if let Some(summary) = summary_of(&mut avro) {
            of_summaries.add_to(summary, false);
        }
        let or_null = |number: Option<i64>| number.map_or_else(|| "null".to_owned(), |number| number.to_string());
        let mut metadata = vec![
            ("iceberg.schema", schema_json(schema).to_string()),
            ("snapshot-id", new.snapshot_id.to_string()),
            ("parent-snapshot-id", or_null(new.parent_snapshot_id)),
        ];
        if new.format_version >= 2 {
            metadata.push(("sequence-number", new.sequence_number.to_string()));
        }
        if new.format_version >= 3 {
            metadata.push(("first-row-id", or_null(new.first_row_id)));
        }
        metadata.push(("format-version", new.format_version.to_string()));
        let mut writer = ContainerWriter::new(LIST, new.codec, &avro, &metadata);
        for manifest in &self.manifests {
            writer.add(|out| {
                put_manifest(out, new.format_version, loose, manifest, &of_summaries)?;
                extension.put(out, &manifest.extra)
            })?;
        }
        writer.finish()
    }
}

/// Returns the schema of partition summaries within the schema of manifests.
fn summary_of(avro: &mut Json) -> Option<&mut Json> {
    let field = avro["fields"].as_array_mut()?.iter_mut().find(|field| field["field-id"] == 507)?;
    let list = field["type"].as_array_mut()?.iter_mut().find(|ty| ty["type"] == "array")?;
    Some(&mut list["items"])
}

/// Returns `true` if all counts of a manifest are known.
fn counted(manifest: &ManifestFile) -> bool {
    counts(manifest).iter().all(Option::is_some)
}

fn counts(manifest: &ManifestFile) -> [Option<u64>; 6] {
    [
        manifest.added_files_count,
        manifest.existing_files_count,
        manifest.deleted_files_count,
        manifest.added_rows_count,
        manifest.existing_rows_count,
        manifest.deleted_rows_count,
    ]
}

/// Returns the schema of the list. Version 2 requires the counts, but manifests of version 1 may lack them. `loose` makes them
/// optional, because a 0 would let readers skip the manifest.
fn schema(version: u8, loose: bool) -> StructType {
    let schema = schemas::manifest_file(version);
    if !loose {
        return schema;
    }
    let fields = schema.fields().iter().map(|field| match field.id {
        504..=506 | 512..=514 => NestedField { required: false, ..field.as_ref().clone() }.into(),
        _ => field.clone(),
    });
    StructType::new(fields.collect())
}

/// Writes a manifest, with its fields in the order of [`schemas::manifest_file`].
fn put_manifest(
    out: &mut Vec<u8>,
    version: u8,
    loose: bool,
    manifest: &ManifestFile,
    of_summaries: &UnknownFieldWriter,
) -> Result<()> {
    let counts = counts(manifest);
    // Counts of files have 32 bits, those of rows 64.
    let (files, rows) = counts.split_at(3);
    let too_many_files = files.iter().flatten().any(|count| i32::try_from(*count).is_err());
    if too_many_files || rows.iter().flatten().any(|count| i64::try_from(*count).is_err()) {
        let what = if too_many_files { "files" } else { "rows" };
        let why = format!("it has more {what} than can be counted");
        return Err(FormatError::invalid(format!("manifest {}", manifest.manifest_path), why));
    }
    let optional = version == 1 || loose;
    let put_counts = |out: &mut Vec<u8>, counts: &[Option<u64>]| {
        for count in counts.iter().map(|count| count.map(u64::cast_signed)) {
            if optional { put_option(out, count) } else { put_long(out, count.unwrap_or(0)) }
        }
    };
    put_bytes(out, manifest.manifest_path.as_bytes());
    put_long(out, manifest.manifest_length);
    put_long(out, manifest.partition_spec_id.into());
    if version >= 2 {
        put_long(out, manifest.content as i64);
        put_long(out, manifest.sequence_number);
        put_long(out, manifest.min_sequence_number);
    }
    put_long(out, manifest.added_snapshot_id);
    put_counts(out, files);
    if version == 1 {
        put_summaries(out, manifest.partitions.as_deref(), of_summaries)?;
        put_counts(out, rows);
    } else {
        put_counts(out, rows);
        put_summaries(out, manifest.partitions.as_deref(), of_summaries)?;
    }
    put_optional_bytes(out, manifest.key_metadata.as_deref());
    if version >= 3 {
        put_option(out, manifest.first_row_id);
    }
    Ok(())
}

fn put_summaries(out: &mut Vec<u8>, summaries: Option<&[FieldSummary]>, of_summaries: &UnknownFieldWriter) -> Result<()> {
    put_long(out, summaries.is_some().into());
    let Some(summaries) = summaries else { return Ok(()) };
    if !summaries.is_empty() {
        put_long(out, summaries.len() as i64);
        for summary in summaries {
            out.push(summary.contains_null.into());
            put_long(out, summary.contains_nan.is_some().into());
            out.extend(summary.contains_nan.map(u8::from));
            put_optional_bytes(out, summary.lower_bound.as_ref().map(|bound| bound.bytes()));
            put_optional_bytes(out, summary.upper_bound.as_ref().map(|bound| bound.bytes()));
            of_summaries.put(out, &summary.extra)?;
        }
    }
    put_long(out, 0);
    Ok(())
}
