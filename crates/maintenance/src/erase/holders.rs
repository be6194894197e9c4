//! The search for files that hold rows: files of all snapshots, files in quarantine, and unreferenced files.
//!
//! Bounds and partitions rule most files out. The others are suspects and are read; a file that can't be decoded stays one. Start
//! reading at [`holders`].

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use esker_catalog::{Catalog, LoadedTable, deletion};
use esker_format::{DataFileFormat, ManifestProjection, TableMetadata};
use esker_read::{BatchAdapter, EqualityBudget, FileScan, ReadStats, Reader, optional_schema};
use esker_storage::Location;
use esker_table::{DeleteIndex, EntryRef, Expr, LiveFiles, PlannableFile, load_live, referenced_manifests, residual};
use esker_types::Coded;
use futures::stream::{StreamExt, TryStreamExt};
use roaring::RoaringTreemap;

use super::matching::{fields, matching};
use super::outcome::RowHolder;
use super::suspect::Suspect;
use super::unreferenced::outside;
use crate::compact::{BATCH_ROWS, resolve_within, union};
use crate::{MaintenanceError, Result, check_plain};

/// Number of files that are read at the same time.
const CONCURRENCY: usize = 4;

/// Finds the files that hold rows for which a filter is true, and the ids of the snapshots that lead to any of them.
///
/// # Errors
///
/// - Returns [`Table`](MaintenanceError::Table) if a manifest list or manifest can't be read, if a data file has two
///   deletion vectors, or if a file that may hold rows is encrypted.
/// - Returns [`Read`](MaintenanceError::Read) if a data file or delete file can't be read, or if a file that may hold rows, or a
///   manifest, lies in a place of another table. A file that no snapshot leads to
///   stops the search only with a transient error; else the report has it without a count.
/// - Returns [`Option`](MaintenanceError::Option) or [`Arrow`](MaintenanceError::Arrow) if a condition of the filter
///   can't be evaluated on rows.
/// - Returns [`State`](MaintenanceError::State), [`Catalog`](MaintenanceError::Catalog),
///   [`Storage`](MaintenanceError::Storage) or [`Spill`](MaintenanceError::Spill) if the files that no snapshot leads
///   to can't be found or looked up.
pub(super) async fn holders(
    catalog: &Catalog,
    reader: &Reader,
    table: &LoadedTable,
    filter: &Expr,
) -> Result<(Vec<RowHolder>, HashSet<i64>)> {
    let stats = Arc::new(ReadStats::default());
    let suspects = suspects(catalog, reader, table, filter, &stats).await?;
    let looks = suspects.into_iter().map(|(path, suspect)| {
        let stats = stats.clone();
        async move {
            let rows = match suspect.parquet {
                true => match rows_in(reader, &table.metadata, &path, &suspect, filter, &stats).await {
                    Ok(rows) => Some(rows),
                    Err(e) if leaves_unknown(&suspect, &e) => {
                        tracing::warn!(path, error = %e, "a file can't be read; it may hold rows to erase");
                        None
                    }
                    Err(e) => return Err(e),
                },
                false => None,
            };
            Ok::<_, MaintenanceError>((path, suspect, rows))
        }
    });
    let mut looks = futures::stream::iter(looks).buffered(CONCURRENCY);
    let (mut found, mut snapshots) = (Vec::new(), HashSet::new());
    while let Some((path, suspect, rows)) = looks.try_next().await? {
        if rows.as_ref().is_some_and(RoaringTreemap::is_empty) {
            continue;
        }
        snapshots.extend(&suspect.snapshots);
        let Suspect { bytes, refs, mut in_table, hidden, snapshots, quarantined, .. } = suspect;
        let shown = |(_, deleted): &(String, Arc<RoaringTreemap>)| rows.as_ref().is_some_and(|rows| !rows.is_subset(deleted));
        in_table.extend(hidden.into_iter().filter(shown).map(|(name, _)| name));
        let (rows, snapshots) = (rows.map(|rows| rows.len()), snapshots.len() as u64);
        let (quarantined_as, due_ms) = quarantined.unzip();
        found.push(RowHolder { path, bytes, rows, refs, in_table, snapshots, due_ms, released: None, quarantined_as });
    }
    if found.iter().any(|holder| holder.quarantined_as.is_some()) {
        let mut kept = deletion::reasons_to_keep(catalog, table.row.id).await?;
        for holder in &mut found {
            holder.released = holder.quarantined_as.as_ref().and_then(|path| kept.remove(path));
        }
    }
    Ok((found, snapshots))
}

/// Checks that an error is about the content of a file that no snapshot leads to, such as one that a writer left half written.
///
/// Such a file does not stop an erasure. A condition that can't be evaluated does: then nothing is known of any file.
fn leaves_unknown(suspect: &Suspect, error: &MaintenanceError) -> bool {
    suspect.file.is_none() && matches!(error, MaintenanceError::Read(_)) && !error.code().is_transient()
}

/// Returns every file that bounds and partitions do not rule out, by normalized location.
///
/// Locations are normalized because a listing, the quarantine and manifests may spell them differently.
async fn suspects(
    catalog: &Catalog,
    reader: &Reader,
    table: &LoadedTable,
    filter: &Expr,
    stats: &Arc<ReadStats>,
) -> Result<BTreeMap<String, Suspect>> {
    let (metadata, source) = (&table.metadata, catalog.manifests());
    let mut found: BTreeMap<String, Suspect> = BTreeMap::new();
    let mut known: HashSet<String> = HashSet::new();
    for manifest in referenced_manifests(source, metadata).await? {
        reader.check_open(manifest.path()).await?;
        for named in manifest.files(source, metadata, &ManifestProjection::all()).await?.iter().filter(EntryRef::is_alive) {
            let data = named.file();
            let path = Location::normalize(&data.file_path);
            known.insert(path.clone());
            let spec = metadata.partition_spec_by_id(named.spec_id());
            let ruled_out = spec.is_some_and(|s| residual(filter, metadata.current_schema(), s, &named) == Expr::False);
            if ruled_out || data.file_format == DataFileFormat::Puffin {
                continue;
            }
            // Esker can't find out whether an encrypted file holds any of the rows.
            check_plain(&data.file_path, data.key_metadata.as_ref())?;
            let suspect = found.entry(path).or_insert_with(|| {
                let parquet = data.file_format == DataFileFormat::Parquet;
                Suspect::new(Some(named.live()), data.size(), parquet)
            });
            suspect.snapshots.extend(manifest.snapshots.iter().copied());
        }
    }
    // Statistics files hold no rows of the table, although partition statistics are Parquet.
    known.extend(metadata.statistics.iter().map(|file| Location::normalize(&file.statistics_path)));
    known.extend(metadata.partition_statistics.iter().map(|file| Location::normalize(&file.statistics_path)));
    heads(catalog, reader, metadata, &mut found, stats).await?;
    outside(catalog, table, &known, &mut found).await?;
    Ok(found)
}

/// Adds to each suspect the branches and tags whose head has the file, and the positions that are deleted there.
async fn heads(
    catalog: &Catalog,
    reader: &Reader,
    metadata: &Arc<TableMetadata>,
    found: &mut BTreeMap<String, Suspect>,
    stats: &Arc<ReadStats>,
) -> Result<()> {
    let bytes = usize::try_from(catalog.options().path_set_bytes).unwrap_or(usize::MAX);
    let budget = EqualityBudget { bytes, dir: catalog.options().spill_dir.clone(), use_block_cache: false };
    let mut names: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for (name, reference) in &metadata.refs {
        names.entry(reference.snapshot_id).or_default().push(name.clone());
    }
    for (id, names) in names {
        let Some(snapshot) = metadata.snapshots.get(id) else { continue };
        let live: LiveFiles = load_live(catalog.manifests(), metadata, snapshot).await?;
        let index = DeleteIndex::new(&live.deletes, metadata)?;
        let mut reached = Vec::new();
        for file in &live.data {
            if let Some(suspect) = found.get_mut(&Location::normalize(&file.file.file_path)) {
                suspect.refs.extend(names.iter().cloned());
                match index.any(file) {
                    false => suspect.in_table.extend(names.iter().cloned()),
                    true => reached.push(file.clone()),
                }
            }
        }
        for delete in &live.deletes {
            if let Some(suspect) = found.get_mut(&Location::normalize(&delete.entry.file.file_path)) {
                suspect.refs.extend(names.iter().cloned());
            }
        }
        if reached.is_empty() {
            continue;
        }
        let (positional, by_equality) = resolve_within(reader, &budget, stats, metadata, &live, &reached).await?;
        let mut deleted = union(positional, by_equality);
        for file in reached {
            let path = &file.file.file_path;
            let deleted = Arc::new(deleted.remove(path).unwrap_or_default());
            if let Some(suspect) = found.get_mut(&Location::normalize(path)) {
                suspect.hidden.extend(names.iter().map(|name| (name.clone(), deleted.clone())));
            }
        }
    }
    Ok(())
}

/// Returns the positions of a file's rows for which the filter is true, including deleted rows.
///
/// A column that the file does not have is null, as in an equality delete file.
async fn rows_in(
    reader: &Reader,
    metadata: &TableMetadata,
    path: &str,
    suspect: &Suspect,
    filter: &Expr,
    stats: &Arc<ReadStats>,
) -> Result<RoaringTreemap> {
    let schema = metadata.current_schema();
    let spec = suspect.file.as_ref().and_then(|f| Some((metadata.partition_spec_by_id(f.spec_id)?, f.file.partition.as_ref())));
    let spec = spec.map(|(spec, partition)| (spec.as_ref(), partition));
    let target = optional_schema(schema, &fields(filter, schema)?)?;
    let adapter = Arc::new(BatchAdapter::new(target, schema, spec));
    let open = reader.with_name_mapping(metadata).open(path, suspect.bytes, stats).await?;
    let mut batches = open.stream(FileScan { adapter, row_groups: None, deleted: None, batch_size: BATCH_ROWS })?;
    let (mut rows, mut first) = (RoaringTreemap::new(), 0);
    while let Some(batch) = batches.try_next().await? {
        let found = matching(filter, &batch, schema)?;
        rows.extend((first..).zip(&found).filter(|(_, found)| *found == Some(true)).map(|(position, _)| position));
        first += batch.num_rows() as u64;
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use esker_read::ReadError;
    use esker_storage::StorageError;

    use super::*;

    #[test]
    fn a_condition_that_cannot_be_evaluated_is_no_unreadable_file() {
        let stray = Suspect::new(None, 7, true);
        let gone = StorageError::NotFound { uri: "s3://lake/t/data/x.parquet".to_owned() };
        assert!(leaves_unknown(&stray, &ReadError::Storage(gone).into()));
        let condition = MaintenanceError::Option { key: "where", reason: "it can't be evaluated on rows".to_owned() };
        assert!(!leaves_unknown(&stray, &condition));
    }
}
