//! What still holds rows: every file in storage that some snapshot, the quarantine or nothing at all leads to.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use esker_catalog::{Catalog, LoadedTable, deletion};
use esker_format::{DataFileFormat, ManifestProjection, TableMetadata};
use esker_read::{BatchAdapter, EqualityBudget, FileScan, ReadStats, Reader, optional_schema};
use esker_storage::Location;
use esker_table::{DeleteIndex, EntryRef, Expr, LiveFile, LiveFiles, PlannableFile, load_live, referenced_manifests, residual};
use esker_types::{Coded, Millis};
use futures::stream::{StreamExt, TryStreamExt};
use roaring::RoaringTreemap;

use super::matching::{fields, matching};
use super::outcome::RowHolder;
use super::outside::outside;
use crate::compact::{BATCH_ROWS, resolve_within, union};
use crate::{Result, check_plain};

/// Files read at the same time.
const CONCURRENCY: usize = 4;

/// A file that may hold rows.
pub(super) struct Suspect {
    file: Option<LiveFile>,
    bytes: u64,
    parquet: bool,
    refs: BTreeSet<String>,
    in_table: BTreeSet<String>,
    /// Branches and tags whose head has it with deletes that may apply, and the rows that these delete.
    hidden: Vec<(String, Arc<RoaringTreemap>)>,
    snapshots: BTreeSet<i64>,
    /// In quarantine: what it is called there, and when it goes.
    pub(super) quarantined: Option<(String, Millis)>,
}

impl Suspect {
    pub(super) fn new(file: Option<LiveFile>, bytes: u64, parquet: bool) -> Self {
        let (refs, in_table, hidden, snapshots, quarantined) = Default::default();
        Self { file, bytes, parquet, refs, in_table, hidden, snapshots, quarantined }
    }
}

/// The holders of the rows for which a filter is true, with the snapshots that lead to any of them.
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
                    // Nobody's file, such as one that a writer left half written, keeps nothing of the table's from being erased.
                    Err(e) if suspect.file.is_none() && !e.code().is_transient() => {
                        tracing::warn!(path, error = %e, "whether a file holds rows to erase is not known: it can't be read");
                        None
                    }
                    Err(e) => return Err(e),
                },
                false => None,
            };
            Ok::<_, crate::MaintenanceError>((path, suspect, rows))
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
        let (doomed_as, due_ms) = quarantined.unzip();
        found.push(RowHolder { path, bytes, rows, refs, in_table, snapshots, due_ms, released: None, quarantined_as: doomed_as });
    }
    if found.iter().any(|holder| holder.quarantined_as.is_some()) {
        let mut kept = deletion::reasons_to_keep(catalog, table.row.id).await?;
        for holder in &mut found {
            holder.released = holder.quarantined_as.as_ref().and_then(|path| kept.remove(path));
        }
    }
    Ok((found, snapshots))
}

/// Every file that bounds and partitions do not rule out, by the normal spelling of its path: a listing, the quarantine and manifests
/// spell it each in their own way.
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
        for named in manifest.files(source, metadata, &ManifestProjection::all()).await?.iter().filter(EntryRef::is_alive) {
            let data = named.file();
            let path = Location::normalize(&data.file_path);
            known.insert(path.clone());
            let spec = metadata.partition_spec_by_id(named.spec_id());
            let ruled_out = spec.is_some_and(|s| residual(filter, metadata.current_schema(), s, &named) == Expr::False);
            if ruled_out || data.file_format == DataFileFormat::Puffin {
                continue;
            }
            // Whether it holds any of the rows can't be found out.
            check_plain(&data.file_path, data.key_metadata.as_ref())?;
            let suspect = found.entry(path).or_insert_with(|| {
                let parquet = data.file_format == DataFileFormat::Parquet;
                Suspect::new(Some(named.live()), data.size(), parquet)
            });
            suspect.snapshots.extend(manifest.snapshots.iter().copied());
        }
    }
    // Statistics files hold no rows of the table, though those of partitions are Parquet.
    known.extend(metadata.statistics.iter().map(|file| Location::normalize(&file.statistics_path)));
    known.extend(metadata.partition_statistics.iter().map(|file| Location::normalize(&file.statistics_path)));
    heads(catalog, reader, metadata, &mut found, stats).await?;
    outside(catalog, table, &known, &mut found).await?;
    Ok(found)
}

/// Which heads of branches and tags have the files, and what is deleted of them there.
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

/// Which rows of a file match, by position, deleted ones included. A column that the file does not have, as in a file of equality
/// deletes, is null.
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
