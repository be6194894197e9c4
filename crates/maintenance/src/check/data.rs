//! The check of a data file: compares its content with its manifest entry and its partition.
//!
//! The footer of every file is read. Columns are read only where statistics leave a doubt that an Esker compaction may have caused,
//! or all of them with the option `files`. Start reading at `Check::data`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, Scalar, new_null_array};
use arrow::compute::filter;
use arrow::compute::kernels::cmp::distinct;
use arrow::datatypes::{DataType, Field};
use arrow::util::display::array_value_to_string;
use esker_format::{DataFile, DataFileFormat, PartitionField, PrimitiveType, Transform, Type, Value};
use esker_read::{
    BatchAdapter, FileScan, OpenFile, arrow_field, arrow_type, field_id, literal_array, normalize_nan, optional_schema, transform,
};
use esker_table::{ColumnBounds, LiveFile};
use esker_types::{format_count, is_or_are};
use futures::TryStreamExt;

use super::columns::{Leaf, nans, nulls_in_structs, values};
use super::findings::{CheckFinding, CheckFindingKind};
use super::origin::Origins;
use super::{Check, CheckOutcome, Stats};
use crate::Result;
use crate::compact::BATCH_ROWS;

/// Number of values of wrong rows that a finding shows.
const SAMPLE: usize = 3;

/// A partition field of a file's spec, with the value that the file's rows must have.
struct Expected<'a> {
    field: &'a PartitionField,
    leaf: &'a Leaf,
    value: Option<&'a Value>,
    /// The result type of the field's transform.
    result: PrimitiveType,
}

/// The rows of a column that do not belong to their file's partition.
#[derive(Default)]
struct WrongRows {
    rows: u64,
    sample: BTreeSet<String>,
}

/// The counts from reading a file.
#[derive(Default)]
struct ContentCounts {
    rows: u64,
    /// Rows of a wrong partition, by index of the expected partition field.
    contradict: BTreeMap<usize, WrongRows>,
    /// Number of NaN values, by field id.
    nans: BTreeMap<i32, u64>,
    /// Number of nulls in structs that are not null, by field id.
    nulls: BTreeMap<i32, u64>,
}

impl Check<'_> {
    /// Checks the content of a data file of `size` bytes, and adds findings and notes to `outcome`.
    ///
    /// # Errors
    ///
    /// - Returns [`MaintenanceError::Read`](crate::MaintenanceError::Read) or
    ///   [`MaintenanceError::Arrow`](crate::MaintenanceError::Arrow) if the file can't be read or its values can't be compared.
    /// - Returns [`MaintenanceError::Table`](crate::MaintenanceError::Table) if a manifest of the snapshot that added the file
    ///   can't be read.
    /// - Returns [`MaintenanceError::Cancelled`](crate::MaintenanceError::Cancelled) after a cancellation.
    ///
    /// The caller makes findings of errors about data.
    pub(super) async fn data(&self, live: &LiveFile, size: u64, outcome: &mut CheckOutcome) -> Result<()> {
        let file = &live.file;
        if file.file_format != DataFileFormat::Parquet || file.key_metadata.is_some() {
            let kind = if file.key_metadata.is_some() { "encrypted" } else { "not Parquet" };
            outcome.notes.push(format!("{kind}: its content was not checked"));
            return Ok(());
        }
        if !self.context.reader.closed_among(&[file.file_path.as_str()]).await?.is_empty() {
            outcome.notes.push("in a place of another table: its content was not checked".to_owned());
            return Ok(());
        }
        let stats: &Stats = &self.context.counters.reads;
        let open = self.context.reader.with_name_mapping(&self.table.metadata).open(&file.file_path, size, stats).await?;
        if let Some(rows) = file.rows()
            && let Err(error) = open.check_records(rows)
        {
            outcome.findings.push(CheckFinding::of(CheckFindingKind::WrongRecordCount, live, error.to_string()));
        }
        self.required(live, &open, outcome);
        let ours = Origins::job(&file.file_path).is_some();
        let expected = self.expected(live, &open);
        let doubted: Vec<&Expected<'_>> = expected.iter().filter(|e| !holds_by_bounds(file, e)).collect();
        let lost: Vec<&Leaf> = if ours { self.may_lack_defaults(live).await? } else { Vec::new() };
        let suspected = if ours { self.suspected_nans(live).await? } else { Vec::new() };
        let floats: Vec<&Leaf> = self.leaves.iter().filter(|leaf| leaf.is_float()).collect();
        let roots: BTreeSet<i32> = match (self.options.files, ours) {
            (true, _) => self.readable(outcome),
            // Files of Esker's compactions are read wherever statistics prove nothing.
            (false, true) => doubted.iter().map(|e| e.leaf.root).chain(suspected.iter().map(|leaf| leaf.root)).collect(),
            (false, false) => BTreeSet::new(),
        };
        if !self.options.files && !ours && !doubted.is_empty() {
            outcome.notes.push("statistics do not prove that the rows belong to their partition; --files reads them".to_owned());
        }
        if !self.options.files {
            suspect(live, &lost, outcome);
        }
        if roots.is_empty() {
            return Ok(());
        }
        let (floats, lost) = if self.options.files { (floats, lost) } else { (suspected, Vec::new()) };
        let counted = self.count(open, &roots.into_iter().collect::<Vec<_>>(), &expected, &floats, &lost).await?;
        outcome.rows += counted.rows;
        let explained = if counted.nulls.values().any(|n| *n > 0) { self.explained(live, &lost).await } else { None };
        self.judge(live, &expected, counted, explained.as_ref(), outcome);
        Ok(())
    }

    /// Adds findings for required columns that have nulls by the manifest entry, or that the file lacks and no default fills in.
    ///
    /// Spec: "Column Projection".
    fn required(&self, live: &LiveFile, open: &OpenFile, outcome: &mut CheckOutcome) {
        let columns = self.table.metadata.current_schema().as_struct().fields();
        for column in columns.iter().filter(|column| column.required && !column.field_type.is_nested()) {
            let is_there = open.fields().iter().any(|field| has_leaf(field, column.id));
            let nulls = live.file.stats(column.id).and_then(|stats| stats.null_count).unwrap_or(0);
            let what = match is_there {
                true if nulls > 0 => format!("the column is required, and the manifest counts {nulls} nulls in it"),
                false if column.initial_default.is_none() && !self.is_identity(live, column.id) => {
                    "the column is required and has no initial default, and the file lacks it".to_owned()
                }
                _ => continue,
            };
            let finding = CheckFinding::of(CheckFindingKind::NullInRequired, live, what);
            outcome.findings.push(CheckFinding { column: Some(column.name.clone()), certain: !is_there, ..finding });
        }
    }

    /// Checks whether a column is the source of an identity field of the file's partition, so that readers take it from there.
    fn is_identity(&self, live: &LiveFile, column: i32) -> bool {
        let spec = self.table.metadata.partition_spec_by_id(live.spec_id);
        let is_of = |field: &PartitionField| field.source_id() == Some(column) && field.transform().is_identity();
        spec.is_some_and(|spec| spec.fields().iter().any(is_of))
    }

    /// Returns the ids of the columns whose values can be decoded, and notes the others.
    fn readable(&self, outcome: &mut CheckOutcome) -> BTreeSet<i32> {
        let mut readable = BTreeSet::new();
        for column in self.table.metadata.current_schema().as_struct().fields() {
            match arrow_field(column) {
                Ok(_) => drop(readable.insert(column.id)),
                Err(error) => outcome.notes.push(error.to_string()),
            }
        }
        readable
    }

    /// Returns the partition fields whose source column the file has. For other columns readers take the partition's value.
    fn expected<'a>(&'a self, live: &'a LiveFile, open: &OpenFile) -> Vec<Expected<'a>> {
        let Some(spec) = self.table.metadata.partition_spec_by_id(live.spec_id) else { return Vec::new() };
        let has = |id: i32| open.fields().iter().any(|f| has_leaf(f, id));
        let of = |(field, value): (&'a PartitionField, &'a Option<Value>)| {
            let leaf = self.leaves.iter().find(|leaf| Some(leaf.id) == field.source_id()).filter(|leaf| has(leaf.id))?;
            let result = match field.transform().result_type(&Type::Primitive(leaf.ty.clone()))? {
                Type::Primitive(ty) if *field.transform() != Transform::Void => ty,
                _ => return None,
            };
            Some(Expected { field, leaf, value: value.as_ref(), result })
        };
        spec.fields().iter().zip(&live.file.partition).filter_map(of).collect()
    }

    /// Returns the fields that may have lost their default in a compaction.
    ///
    /// These are fields in structs with an initial default, which may be NULL in this file and which an input of the compaction
    /// lacked. If the inputs can't be read any more, every such field that may be NULL is returned.
    ///
    /// Spec: "Default values".
    async fn may_lack_defaults(&self, live: &LiveFile) -> Result<Vec<&Leaf>> {
        let null = |leaf: &&Leaf| live.file.stats(leaf.id).and_then(|stats| stats.null_count) != Some(0);
        let mut lost: Vec<&Leaf> = self.leaves.iter().filter(|leaf| leaf.nested_default).filter(null).collect();
        let inputs = if lost.is_empty() { None } else { self.origins.made_of(live).await? };
        let Some(inputs) = inputs else { return Ok(lost) };
        let mut lacked = BTreeSet::new();
        for input in inputs {
            let (path, size) = (input.file.file_path.as_str(), input.file.size());
            // An input that was swept can't be read.
            let Ok(open) =
                self.context.reader.with_name_mapping(&self.table.metadata).open(path, size, &self.context.counters.reads).await
            else {
                return Ok(lost);
            };
            let lacks = |leaf: &&&Leaf| !open.fields().iter().any(|f| has_leaf(f, leaf.id));
            lacked.extend(lost.iter().filter(lacks).map(|leaf| leaf.id));
        }
        lost.retain(|leaf| lacked.contains(&leaf.id));
        Ok(lost)
    }

    /// Returns the number of NULLs of each field in those inputs of the file's compaction that had the field. The compaction did
    /// not make these NULLs.
    ///
    /// Returns `None` if an input can't be read any more.
    async fn explained(&self, live: &LiveFile, lost: &[&Leaf]) -> Option<BTreeMap<i32, u64>> {
        let mut explained = BTreeMap::new();
        for input in self.origins.made_of(live).await.ok()?? {
            let (path, size) = (input.file.file_path.as_str(), input.file.size());
            let reader = self.context.reader.with_name_mapping(&self.table.metadata);
            let open = reader.open(path, size, &self.context.counters.reads).await.ok()?;
            let has = |leaf: &&&Leaf| open.fields().iter().any(|f| has_leaf(f, leaf.id));
            let had: Vec<&Leaf> = lost.iter().filter(has).copied().collect();
            let roots: BTreeSet<i32> = had.iter().map(|leaf| leaf.root).collect();
            if roots.is_empty() {
                continue;
            }
            let counted = self.count(open, &roots.into_iter().collect::<Vec<_>>(), &[], &[], &had).await.ok()?;
            counted.nulls.into_iter().for_each(|(id, nulls)| *explained.entry(id).or_default() += nulls);
        }
        Some(explained)
    }

    /// Returns the float columns that have no NaN by the manifest entry, although an input of the compaction had no count of NaN
    /// values.
    ///
    /// If the inputs are not known any more, all columns without NaN are returned.
    async fn suspected_nans(&self, live: &LiveFile) -> Result<Vec<&Leaf>> {
        let none = |leaf: &&Leaf| leaf.is_float() && nan_count(&live.file, leaf.id) == Some(0);
        let zero: Vec<&Leaf> = self.leaves.iter().filter(none).collect();
        if zero.is_empty() {
            return Ok(zero);
        }
        let Some(inputs) = self.origins.made_of(live).await? else { return Ok(zero) };
        let unknown = |leaf: &Leaf| {
            let has = |f: &LiveFile| f.file.stats(leaf.id).and_then(|stats| stats.value_count) != Some(0);
            inputs.iter().any(|f| has(f) && nan_count(&f.file, leaf.id).is_none())
        };
        Ok(zero.into_iter().filter(|leaf| unknown(leaf)).collect())
    }

    /// Reads the columns `roots` of a file, including deleted rows, and counts wrong partitions, NaN values and nulls.
    async fn count(
        &self,
        open: OpenFile,
        roots: &[i32],
        expected: &[Expected<'_>],
        floats: &[&Leaf],
        defaulted: &[&Leaf],
    ) -> Result<ContentCounts> {
        let schema = self.table.metadata.current_schema();
        // Without the partition, so that all values come from the file.
        let adapter = Arc::new(BatchAdapter::new(optional_schema(schema, roots)?, schema, None));
        let scan = FileScan { adapter, row_groups: None, deleted: None, batch_size: BATCH_ROWS };
        let mut batches = open.stream(scan)?;
        let mut counted = ContentCounts::default();
        while let Some(batch) = batches.try_next().await? {
            self.context.check_cancelled()?;
            counted.rows += batch.num_rows() as u64;
            for (at, expected) in expected.iter().enumerate() {
                if let Some(column) = leaf_of(&batch, expected.leaf) {
                    contradictions(expected, column, counted.contradict.entry(at).or_default())?;
                }
            }
            for leaf in floats {
                *counted.nans.entry(leaf.id).or_default() += leaf_of(&batch, leaf).map_or(0, |column| nans(&column));
            }
            for leaf in defaulted {
                let nulls = root_of(&batch, leaf).map_or(0, |(_, column)| nulls_in_structs(column, leaf.id));
                *counted.nulls.entry(leaf.id).or_default() += nulls;
            }
        }
        Ok(counted)
    }

    /// Turns counts into findings. `explained` has the NULLs that the compaction's inputs had already, if they are known.
    fn judge(
        &self,
        live: &LiveFile,
        expected: &[Expected<'_>],
        counted: ContentCounts,
        explained: Option<&BTreeMap<i32, u64>>,
        outcome: &mut CheckOutcome,
    ) {
        for (at, wrong) in counted.contradict.into_iter().filter(|(_, wrong)| wrong.rows > 0) {
            let Expected { field, leaf, value, result, .. } = &expected[at];
            let value = shown(result, *value);
            let what = foreign_rows_text(wrong.rows, field.name(), &value);
            outcome.findings.push(CheckFinding {
                column: Some(leaf.name.clone()),
                rows: Some(wrong.rows),
                sample: wrong.sample.into_iter().collect(),
                ..CheckFinding::of(CheckFindingKind::WrongPartition, live, what)
            });
        }
        let leaf = |id: i32| self.leaves.iter().find(|leaf| leaf.id == id).map(|leaf| leaf.name.clone());
        for (id, is) in counted.nans {
            let Some(stated) = nan_count(&live.file, id).filter(|stated| *stated != is) else { continue };
            let what = format!("{} {} NaN, and its manifest counts {stated}", format_count(is, "value"), is_or_are(is));
            let finding = CheckFinding::of(CheckFindingKind::NanCount, live, what);
            outcome.findings.push(CheckFinding { column: leaf(id), rows: Some(is), ..finding });
        }
        for (id, nulls) in counted.nulls.into_iter().filter(|(_, nulls)| *nulls > 0) {
            // The compaction did not make a NULL that its input had.
            let unexplained = explained.map_or(0, |known| nulls.saturating_sub(known.get(&id).copied().unwrap_or(0)));
            let (rows, certain) = if unexplained == 0 { (nulls, false) } else { (unexplained, true) };
            let what = lost_default_text(nulls, unexplained);
            let finding = CheckFinding::of(CheckFindingKind::LostDefault, live, what);
            outcome.findings.push(CheckFinding { column: leaf(id), rows: Some(rows), certain, ..finding });
        }
    }
}

/// Adds findings for fields that may have lost their default, without reading the file.
fn suspect(live: &LiveFile, lost: &[&Leaf], outcome: &mut CheckOutcome) {
    for leaf in lost {
        let what = "it holds NULL, perhaps in rows that are older than the column and should have its default";
        let finding = CheckFinding::of(CheckFindingKind::LostDefault, live, what.to_owned());
        outcome.findings.push(CheckFinding { column: Some(leaf.name.clone()), certain: false, ..finding });
    }
}

/// Describes rows whose partition value is not that of their file.
fn foreign_rows_text(rows: u64, field: &str, value: &str) -> String {
    format!("{} of another partition than the file's, {field} = {value}", format_count(rows, "row"))
}

/// Describes rows with NULL, of which the first `lost` certainly lost their default; if none did, any may have.
fn lost_default_text(nulls: u64, lost: u64) -> String {
    let rows = format_count(nulls, "row");
    match lost {
        0 => format!("{rows} with NULL, perhaps older than the column; rows that are should have its default"),
        _ => format!("{lost} of {rows} with NULL {} older than the column and should have the default", is_or_are(lost)),
    }
}

/// Returns the number of NaN values of a column by the manifest entry.
fn nan_count(file: &DataFile, id: i32) -> Option<u64> {
    file.stats(id)?.nan_count
}

/// Formats a partition value for people.
fn shown(ty: &PrimitiveType, value: Option<&Value>) -> String {
    let Some(value) = value else { return "NULL".to_owned() };
    let array = arrow_type(&Type::Primitive(ty.clone())).ok().and_then(|to| literal_array(value, &to));
    array.map_or_else(|| "a value that can't be shown".to_owned(), |array| value_at(&array, 0))
}

/// Formats a value for people. Strings are quoted, so that `'null'` is not NULL.
fn value_at(values: &ArrayRef, at: usize) -> String {
    let text = array_value_to_string(values, at).unwrap_or_default();
    match values.data_type() {
        _ if values.is_null(at) => "NULL".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => format!("'{text}'"),
        _ => text,
    }
}

/// Checks whether an Arrow field is the field with an id, or contains it.
fn has_leaf(field: &Field, id: i32) -> bool {
    if field_id(field) == Some(id) {
        return true;
    }
    match field.data_type() {
        DataType::Struct(fields) => fields.iter().any(|f| has_leaf(f, id)),
        DataType::List(inner) | DataType::LargeList(inner) | DataType::Map(inner, _) => has_leaf(inner, id),
        _ => false,
    }
}

/// Returns the top-level column of a leaf in a batch.
fn root_of<'a>(batch: &'a RecordBatch, leaf: &Leaf) -> Option<(&'a Field, &'a ArrayRef)> {
    let at = batch.schema_ref().fields().iter().position(|f| field_id(f) == Some(leaf.root))?;
    Some((batch.schema_ref().field(at), batch.column(at)))
}

/// Returns the values of a leaf in a batch.
fn leaf_of(batch: &RecordBatch, leaf: &Leaf) -> Option<ArrayRef> {
    let (field, column) = root_of(batch, leaf)?;
    values(column, field, leaf.id)
}

/// Returns the value that rows must have after the transform, as an array of length 1.
fn wanted(expected: &Expected<'_>, ty: &DataType) -> Result<Option<ArrayRef>> {
    Ok(match expected.value {
        None => Some(new_null_array(ty, 1)),
        Some(value) => literal_array(value, ty).map(|array| normalize_nan(&array)).transpose()?,
    })
}

/// Counts the rows of a column whose transformed value is not the partition's, and collects some of their values.
fn contradictions(expected: &Expected<'_>, column: ArrayRef, wrong: &mut WrongRows) -> Result<()> {
    // All NaN values are one partition.
    let made = normalize_nan(&transform::array(expected.field.transform(), &column)?)?;
    let Some(wanted) = wanted(expected, made.data_type())? else { return Ok(()) };
    let other: BooleanArray = distinct(&made, &Scalar::new(wanted))?;
    let rows = other.true_count();
    if rows == 0 {
        return Ok(());
    }
    wrong.rows += rows as u64;
    let values = filter(&column, &other)?;
    for at in 0..values.len() {
        if wrong.sample.len() >= SAMPLE {
            break;
        }
        wrong.sample.insert(value_at(&values, at));
    }
    Ok(())
}

/// Checks whether the statistics of the manifest entry prove that all rows belong to the file's partition.
fn holds_by_bounds(file: &DataFile, expected: &Expected<'_>) -> bool {
    let (leaf, transform) = (expected.leaf, expected.field.transform());
    let bounds = ColumnBounds::of(file.stats(leaf.id), &leaf.ty);
    if expected.value.is_none() {
        return bounds.nulls.is_some() && bounds.nulls == file.rows();
    }
    let no_nan = !leaf.is_float() || bounds.no_nans();
    let holds = |bound: &Option<Value>| {
        bound.is_some() && transform.apply(bound.as_ref()).is_ok_and(|made| made.as_ref() == expected.value)
    };
    transform.preserves_order() && no_nan && bounds.no_nulls() && holds(&bounds.lower) && holds(&bounds.upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_is_described_in_the_singular() {
        assert_eq!(foreign_rows_text(1, "p", "1"), "1 row of another partition than the file's, p = 1");
        assert_eq!(foreign_rows_text(2, "p", "1"), "2 rows of another partition than the file's, p = 1");
        let certain = "1 of 1 row with NULL is older than the column and should have the default";
        assert_eq!(lost_default_text(1, 1), certain);
        assert!(lost_default_text(1, 0).starts_with("1 row with NULL, perhaps older"));
    }
}
