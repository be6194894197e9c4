//! Metadata tables such as `"t$snapshots"` and `"t$files"`, with the names and the columns that engines have for them.
//!
//! Their rows come from a table's metadata and from the manifests of one snapshot. Start reading at `open`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use esker_access::Privilege;
use esker_catalog::{Authority, Catalog, CatalogError, LoadedTable};
use esker_format::{
    ColumnStats, ManifestContent, ManifestFile, OPERATION, SnapshotLog, SnapshotRef, SnapshotReference, Type, Value as Single,
};
use esker_table::{DeleteKind, LiveDelete, LiveFile, LiveFiles, PartitionKey, ancestors, partition_label, value_label};
use serde_json::{Value, json};

use crate::rows::table;
use crate::served_tables::{FILES, HISTORY, MANIFESTS, METADATA_LOG, METADATA_TABLES, PARTITIONS, PROPERTIES, REFS, SNAPSHOTS};
use crate::{QueryError, Result};

/// Returns the privilege on a table that its metadata table `what` needs.
///
/// What shows values of columns, such as partitions and bounds, needs the privilege to read rows. So do the paths of manifests: a
/// table of one's own that names a manifest would show its rows.
pub(crate) fn privilege(what: &str) -> Privilege {
    match what {
        "snapshots" | "history" | "refs" | "metadata_log_entries" | "properties" => Privilege::ReadMetadata,
        _ => Privilege::ReadData,
    }
}

/// Checks that a metadata table shows counts, bounds or partitions of a table's rows, which a row filter or a mask hides.
pub(crate) fn shows_rows(what: &str) -> bool {
    let is_known = METADATA_TABLES.iter().any(|table| table.name == what);
    is_known && !matches!(what, "history" | "refs" | "metadata_log_entries" | "properties")
}

/// Opens a metadata table of a snapshot for a caller. `what` is its name without the `$`.
///
/// # Errors
///
/// Returns [`QueryError::Statement`] if there is no such metadata table, [`QueryError::Catalog`] if manifests cannot be read or name
/// files of another table, and [`QueryError::Execution`] if a value does not fit its column.
pub(crate) async fn open(
    catalog: &Catalog,
    of: &LoadedTable,
    snapshot: Option<&SnapshotRef>,
    what: &str,
    by: &Authority,
) -> Result<Arc<dyn TableProvider>> {
    let live = async || {
        let Some(snapshot) = snapshot else { return Ok(LiveFiles::default()) };
        let live = catalog.live_files(of, snapshot).await?;
        {
            let files = live.data.iter().chain(live.deletes.iter().map(|delete| &delete.entry));
            let paths: Vec<&str> = files.map(|file| file.file.file_path.as_str()).collect();
            catalog.check_files_read(of, &paths, by).await?;
        }
        Ok::<_, CatalogError>(live)
    };
    match what {
        "snapshots" => snapshots(of),
        "history" => history(of),
        "refs" => refs(of),
        "metadata_log_entries" => metadata_log(of),
        "properties" => properties(of),
        "manifests" => manifests(&live().await?),
        "files" => files(of, &live().await?, true, true),
        "data_files" => files(of, &live().await?, true, false),
        "delete_files" => files(of, &live().await?, false, true),
        "partitions" => partitions(of, &live().await?),
        other => {
            let names: Vec<String> = METADATA_TABLES.iter().map(|table| format!("${}", table.name)).collect();
            let (last, first) = names.split_last().map_or(("", names.as_slice()), |(last, first)| (last.as_str(), first));
            let there = format!("{} and {last}", first.join(", "));
            Err(QueryError::Statement(format!("{}: no metadata table ${other}; there are {there}", of.row.name)))
        }
    }
}

fn snapshots(of: &LoadedTable) -> Result<Arc<dyn TableProvider>> {
    let mut all: Vec<&SnapshotRef> = of.metadata.snapshots.iter().collect();
    all.sort_by_key(|s| (s.timestamp_ms, s.sequence_number()));
    let row = |s: &&SnapshotRef| {
        let others = |summary: &BTreeMap<String, String>| {
            let others = summary.iter().filter(|(key, _)| *key != OPERATION);
            others.map(|(key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>()
        };
        json!({
            "committed_at": s.timestamp_ms, "snapshot_id": s.snapshot_id, "parent_id": s.parent_snapshot_id,
            "sequence_number": s.sequence_number(), "schema_id": s.schema_id, "operation": s.operation(),
            "manifest_list": s.manifest_list, "summary": s.summary.as_ref().map(others),
        })
    };
    table(SNAPSHOTS.fields(), &all.iter().map(row).collect::<Vec<_>>())
}

fn history(of: &LoadedTable) -> Result<Arc<dyn TableProvider>> {
    let metadata = &of.metadata;
    let ancestors: HashSet<i64> = ancestors(metadata, metadata.current_snapshot()).map(|s| s.snapshot_id).collect();
    let row = |entry: &SnapshotLog| {
        let parent = metadata.snapshots.get(entry.snapshot_id).and_then(|s| s.parent_snapshot_id);
        json!({
            "made_current_at": entry.timestamp_ms, "snapshot_id": entry.snapshot_id, "parent_id": parent,
            "is_current_ancestor": ancestors.contains(&entry.snapshot_id),
        })
    };
    table(HISTORY.fields(), &metadata.snapshot_log.iter().map(row).collect::<Vec<_>>())
}

fn refs(of: &LoadedTable) -> Result<Arc<dyn TableProvider>> {
    let row = |(name, reference): (&String, &SnapshotReference)| {
        json!({
            "name": name, "type": if reference.is_branch() { "BRANCH" } else { "TAG" }, "snapshot_id": reference.snapshot_id,
            "max_reference_age_in_ms": reference.max_ref_age_ms, "min_snapshots_to_keep": reference.min_snapshots_to_keep,
            "max_snapshot_age_in_ms": reference.max_snapshot_age_ms,
        })
    };
    table(REFS.fields(), &of.metadata.refs.iter().map(row).collect::<Vec<_>>())
}

fn metadata_log(of: &LoadedTable) -> Result<Arc<dyn TableProvider>> {
    let (metadata, current) = (&of.metadata, (of.metadata.last_updated_ms, of.row.metadata_location.as_str()));
    let earlier = metadata.metadata_log.iter().map(|entry| (entry.timestamp_ms, entry.metadata_file.as_str()));
    let row = |(at, file): (i64, &str)| {
        let snapshot = metadata.snapshot_log.iter().rev().find(|s| s.timestamp_ms <= at);
        let snapshot = snapshot.and_then(|s| metadata.snapshots.get(s.snapshot_id));
        json!({
            "timestamp": at, "file": file, "latest_snapshot_id": snapshot.map(|s| s.snapshot_id),
            "latest_schema_id": snapshot.and_then(|s| s.schema_id), "latest_sequence_number": snapshot.map(|s| s.sequence_number()),
        })
    };
    table(METADATA_LOG.fields(), &earlier.chain([current]).map(row).collect::<Vec<_>>())
}

fn properties(of: &LoadedTable) -> Result<Arc<dyn TableProvider>> {
    let rows: Vec<Value> = of.metadata.properties.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    table(PROPERTIES.fields(), &rows)
}

fn manifests(live: &LiveFiles) -> Result<Arc<dyn TableProvider>> {
    let row = |m: &ManifestFile| {
        json!({
            "content": if m.content == ManifestContent::Data { 0 } else { 1 }, "path": m.manifest_path,
            "length": m.manifest_length, "partition_spec_id": m.partition_spec_id, "added_snapshot_id": m.added_snapshot_id,
            "sequence_number": m.sequence_number, "added_files_count": m.added_files_count,
            "existing_files_count": m.existing_files_count, "deleted_files_count": m.deleted_files_count,
            "added_rows_count": m.added_rows_count, "existing_rows_count": m.existing_rows_count,
            "deleted_rows_count": m.deleted_rows_count, "first_row_id": m.first_row_id,
        })
    };
    table(MANIFESTS.fields(), &live.manifests.iter().map(row).collect::<Vec<_>>())
}

/// Returns the label of a file's partition.
fn label(of: &LoadedTable, file: &LiveFile) -> String {
    partition_label(&of.metadata, file.spec_id, &file.file.partition)
}

/// Returns the lower or upper bounds of a file by the names of columns, for those bounds that can be decoded.
fn bounds(of: &LoadedTable, file: &LiveFile, bound: for<'a> fn(ColumnStats<'a>) -> Option<&'a [u8]>) -> BTreeMap<String, String> {
    let schema = of.metadata.current_schema();
    let named = |id: i32| {
        let Type::Primitive(ty) = schema.field_by_id(id)?.field_type.as_ref() else { return None };
        let text = match Single::from_bytes(ty, bound(file.file.stats(id)?)?)? {
            Single::String(text) => format!("\"{text}\""),
            value => value_label(&value),
        };
        Some((schema.name_by_field_id(id)?.to_owned(), text))
    };
    schema.field_ids().filter_map(named).collect()
}

/// Returns `$files` with its data files, its delete files or both.
fn files(of: &LoadedTable, live: &LiveFiles, data: bool, deletes: bool) -> Result<Arc<dyn TableProvider>> {
    let row = |file: &LiveFile, content: i32| {
        let f = &file.file;
        json!({
            "content": content, "file_path": f.file_path, "file_format": f.file_format.as_str().to_uppercase(),
            "spec_id": file.spec_id, "partition": label(of, file), "record_count": f.rows(), "file_size_in_bytes": f.size(),
            "sequence_number": file.sequence_number, "snapshot_id": file.snapshot_id, "first_row_id": file.first_row_id,
            "sort_order_id": f.sort_order_id, "split_offsets": f.split_offsets, "equality_ids": f.equality_ids,
            "referenced_data_file": f.referenced_data_file, "content_offset": f.content_offset,
            "content_size_in_bytes": f.content_size_in_bytes, "lower_bounds": bounds(of, file, |stats| stats.lower_bound),
            "upper_bounds": bounds(of, file, |stats| stats.upper_bound),
        })
    };
    let content = |delete: &LiveDelete| if delete.kind == DeleteKind::Equality { 2 } else { 1 };
    let mut rows: Vec<Value> = Vec::new();
    if data {
        rows.extend(live.data.iter().map(|file| row(file, 0)));
    }
    if deletes {
        rows.extend(live.deletes.iter().map(|delete| row(&delete.entry, content(delete))));
    }
    table(FILES.fields(), &rows)
}

fn partitions(of: &LoadedTable, live: &LiveFiles) -> Result<Arc<dyn TableProvider>> {
    // In the order of their labels. These need not be unique, so the partition's key follows.
    let mut all: BTreeMap<(i32, String, PartitionKey<'_>), [u64; 7]> = BTreeMap::new();
    for file in &live.data {
        let sums = all.entry((file.spec_id, label(of, file), PartitionKey::of(file))).or_default();
        sums[0] = sums[0].saturating_add(file.file.rows().unwrap_or(0));
        sums[1] += 1;
        sums[2] = sums[2].saturating_add(file.file.size());
    }
    for delete in &live.deletes {
        let file = &delete.entry;
        let sums = all.entry((file.spec_id, label(of, file), PartitionKey::of(file))).or_default();
        let at = if delete.kind == DeleteKind::Equality { 5 } else { 3 };
        sums[at] = sums[at].saturating_add(file.file.rows().unwrap_or(0));
        sums[at + 1] += 1;
    }
    let names = [
        "record_count",
        "file_count",
        "total_data_file_size_in_bytes",
        "position_delete_record_count",
        "position_delete_file_count",
        "equality_delete_record_count",
        "equality_delete_file_count",
    ];
    let row = |((spec, partition, _), sums): ((i32, String, PartitionKey<'_>), [u64; 7])| {
        let mut row = json!({"partition": partition, "spec_id": spec});
        for (name, sum) in names.iter().zip(sums) {
            row[*name] = json!(sum);
        }
        row
    };
    table(PARTITIONS.fields(), &all.into_iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metadata_table_that_shows_values_needs_the_right_to_read_rows() {
        for table in METADATA_TABLES {
            let shows = ["partition", "lower_bounds", "upper_bounds", "path"];
            let shows_values = table.fields().iter().any(|field| shows.contains(&field.name().as_str()));
            let needed = if shows_values { Privilege::ReadData } else { Privilege::ReadMetadata };
            assert_eq!(privilege(table.name), needed, "{}", table.name);
        }
        assert_eq!(privilege("a later one"), Privilege::ReadData);
    }

    #[test]
    fn a_metadata_table_with_counts_or_values_is_not_for_who_sees_some_rows() {
        for table in METADATA_TABLES {
            let reveals = |name: &String| ["count", "bounds", "summary", "partition"].iter().any(|part| name.contains(part));
            let expected = table.fields().iter().any(|field| reveals(field.name()));
            assert_eq!(shows_rows(table.name), expected, "{}", table.name);
        }
        assert!(!shows_rows("a name without a table"), "the error names the tables");
    }
}
