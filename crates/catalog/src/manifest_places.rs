//! Refuses to take files of another table into a table, unless the writer may read the other one as a whole.
//!
//! Whoever reads a table reads every file that its manifests name. So a table of one's own with the manifest list, a manifest or
//! a data file of another one would show the other's rows, without the privilege to read them and without its row filters and
//! column masks. Statistics files tell values too. Files in no table's place may be taken. Start reading at
//! [`Catalog::check_new_files`] for commits, and then at [`Catalog::check_files_of_others`]. [`Catalog::check_files_read`] is for
//! queries, [`Catalog::closed_to`] for jobs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use esker_format::{Snapshot, TableMetadata, TableUpdate};
use esker_state::TabularRow;
use esker_storage::{ClosedFiles, Location};
use esker_table::{FileKind, visit_named};
use esker_types::{CodedError, TableId};
use futures::future::{BoxFuture, FutureExt};
use moka::future::Cache;
use uuid::Uuid;

use crate::cache::manifest_list_paths;
use crate::places::{directories_around, places_in_metadata, with_those_around};
use crate::{Authority, Catalog, CatalogError, LoadedTable, Place, Proposal, Result};

/// Number of directories of which a job remembers whether their files are closed to it.
const KNOWN_DIRECTORIES: u64 = 10_000;

/// The snapshots and statistics files that a change brings into a table.
#[derive(Debug, Default)]
pub(crate) struct NewFiles<'a> {
    snapshots: Vec<&'a Snapshot>,
    /// Paths of statistics files and partition statistics files.
    statistics: Vec<&'a str>,
}

impl<'a> NewFiles<'a> {
    /// Collects what updates add.
    pub(crate) fn of_updates(updates: &'a [TableUpdate]) -> Self {
        let mut new = Self::default();
        for update in updates {
            match update {
                TableUpdate::AddSnapshot { snapshot } => new.snapshots.push(snapshot),
                TableUpdate::SetStatistics { statistics } => new.statistics.push(&statistics.statistics_path),
                TableUpdate::SetPartitionStatistics { partition_statistics } => {
                    new.statistics.push(&partition_statistics.statistics_path);
                }
                _ => {}
            }
        }
        new
    }

    /// Collects what the metadata of a table has that is registered.
    pub(crate) fn of_metadata(metadata: &'a TableMetadata) -> Self {
        let statistics = metadata.statistics.iter().map(|file| file.statistics_path.as_str());
        let of_partitions = metadata.partition_statistics.iter().map(|file| file.statistics_path.as_str());
        let snapshots = metadata.snapshots.iter().map(AsRef::as_ref).collect();
        Self { snapshots, statistics: statistics.chain(of_partitions).collect() }
    }

    fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.statistics.is_empty()
    }

    /// Returns the snapshots of a table whose manifests the new snapshots list again: their parents, and the current one.
    fn known<'m>(&self, metadata: &'m TableMetadata) -> Vec<&'m Snapshot> {
        let parents = self.snapshots.iter().filter_map(|snapshot| metadata.snapshots.get(snapshot.parent_snapshot_id?));
        let mut known: Vec<&Snapshot> = parents.chain(metadata.current_snapshot()).map(AsRef::as_ref).collect();
        known.sort_by_key(|snapshot| snapshot.snapshot_id);
        known.dedup_by_key(|snapshot| snapshot.snapshot_id);
        known
    }
}

/// Checks that a place is that of a table itself, or of the dropped one that was registered again as this table, by the UUID.
fn is_own(place: &Place, own: Option<TableId>, uuid: Option<Uuid>) -> bool {
    let was_own = place.dropped && uuid.is_some_and(|uuid| !uuid.is_nil() && uuid == place.owner.table_uuid);
    Some(place.owner.id) == own || was_own
}

/// Returns the directories that the metadata of a table names for its files.
fn own_directories(table: &LoadedTable) -> Vec<Location> {
    let own = places_in_metadata(&table.metadata.location, &table.metadata.properties);
    own.iter().filter_map(|place| Location::parse(place).ok()).collect()
}

/// Returns the location of a file, unless it lies in one of some directories of its own table. Nothing reads a path that is none.
fn outside(path: &str, own: &[Location]) -> Option<Location> {
    Location::parse(path).ok().filter(|at| !own.iter().any(|directory| at.is_inside(directory)))
}

/// The files that a change brings into a table and that may lie in a place of another one: of each directory the first.
#[derive(Debug, Default)]
struct Suspects {
    files: Vec<(FileKind, Location)>,
    /// The directories of these files.
    directories: HashSet<Location>,
}

impl Suspects {
    /// Adds a file, unless it lies below one of the `clear` directories, or its directory has a file already.
    ///
    /// Nothing reads a path that is no location.
    fn add(&mut self, kind: FileKind, path: &str, clear: &[Location]) {
        let Ok(at) = Location::parse(path) else { return };
        let Some(directory) = at.parent() else { return };
        if !clear.iter().any(|clear| at.is_inside(clear)) && self.directories.insert(directory) {
            self.files.push((kind, at));
        }
    }
}

/// The files that jobs on a table don't read: those in places of other tables, but for what lies in the table's own directories.
///
/// A job looks up each directory once. So it asks about few of the places, however many there are.
#[derive(Debug)]
struct FilesOfOthers {
    catalog: Catalog,
    /// The table.
    id: TableId,
    /// The table's UUID.
    uuid: Uuid,
    /// The directories that the table's metadata names.
    own: Vec<Location>,
    /// Directories that were looked up, with true for those whose files are closed.
    known: Cache<Location, bool>,
}

impl FilesOfOthers {
    /// Finds the closed ones among some files.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the database fails.
    async fn find<'a>(&self, paths: &'a [&'a str]) -> Result<HashSet<&'a str>> {
        let mut by_directory: HashMap<Location, Vec<&'a str>> = HashMap::new();
        for &path in paths {
            if let Some(directory) = outside(path, &self.own).and_then(|at| at.parent()) {
                by_directory.entry(directory).or_default().push(path);
            }
        }
        let (mut closed, mut unknown, mut around) = (HashSet::new(), Vec::new(), HashSet::new());
        for (directory, files) in by_directory {
            match self.known.get(&directory).await {
                Some(true) => closed.extend(files),
                Some(false) => {}
                None => {
                    around.extend(with_those_around(&directory));
                    unknown.push((directory, files));
                }
            }
        }
        let is_foreign = |place: &Place| !is_own(place, Some(self.id), Some(self.uuid));
        let places = self.catalog.directories_with_place(&around, is_foreign).await?;
        for (directory, files) in unknown {
            let is_closed = with_those_around(&directory).iter().any(|directory| places.contains(directory));
            self.known.insert(directory, is_closed).await;
            if is_closed {
                closed.extend(files);
            }
        }
        Ok(closed)
    }
}

impl ClosedFiles for FilesOfOthers {
    fn closed_among<'a>(&'a self, paths: &'a [&'a str]) -> BoxFuture<'a, std::result::Result<HashSet<&'a str>, CodedError>> {
        async move { self.find(paths).await.map_err(CodedError::new) }.boxed()
    }
}

/// Checks that a file lies in none of the directories of some places of other tables.
fn check_outside(directories: &HashSet<Location>, kind: FileKind, at: &Location) -> Result<()> {
    let mut around = std::iter::successors(at.parent(), Location::parent);
    if !around.any(|directory| directories.contains(&directory)) {
        return Ok(());
    }
    let what = match kind {
        FileKind::Data => "data file",
        FileKind::Delete => "delete file",
        FileKind::Manifest => "manifest",
        FileKind::ManifestList => "manifest list",
        FileKind::Statistics => "statistics file",
    };
    let reason = format!("it is a {what} of another table, whose rows the caller may not all read; write files of your own");
    Err(CatalogError::Location { location: at.to_string(), reason })
}

impl Catalog {
    /// Checks the files that a client's commit brings into a table, before the commit waits for its turn.
    ///
    /// Nobody else waits while manifests are read. What is committed meanwhile makes no difference: the rules of the caller stay
    /// those of its request, and the manifests that were not known were looked at.
    ///
    /// # Errors
    ///
    /// Returns [`Rights`](CatalogError::Rights) if the caller may not make the commit, the errors of
    /// [`Catalog::check_files_of_others`], and those of [`Catalog::load_row`].
    pub(crate) async fn check_new_files(&self, row: &TabularRow, proposal: &Proposal) -> Result<()> {
        let (new, authority) = (NewFiles::of_updates(&proposal.updates), &proposal.actor.authority);
        if new.is_empty() || authority.reads_all_below(&self.warehouse_path()) {
            return Ok(());
        }
        let table = self.load_row(row.clone()).await?;
        // Who may not commit learns nothing about files.
        self.authorize_commit(&table, proposal)?;
        self.check_files_of_others(&new, Some(row.id), Some(&table), authority).await
    }

    /// Checks that new files of a table lie in no place of another table whose rows the caller may not all read.
    ///
    /// Dropped tables that can be brought back count, but for one that was registered again as this table, by the UUID. `own` is
    /// the table that is changed or replaced. `before` is its state before the change, whose manifests are not read again.
    ///
    /// # Errors
    ///
    /// Returns [`Location`](CatalogError::Location) if one does, [`Table`](CatalogError::Table) if a new manifest list or a new
    /// manifest can't be read, and [`State`](CatalogError::State) if the database fails.
    pub(crate) async fn check_files_of_others(
        &self,
        new: &NewFiles<'_>,
        own: Option<TableId>,
        before: Option<&LoadedTable>,
        authority: &Authority,
    ) -> Result<()> {
        if new.is_empty() || authority.reads_all_below(&self.warehouse_path()) {
            return Ok(());
        }
        let uuid = before.map(|table| table.row.table_uuid);
        let is_hidden = |place: &Place| !is_own(place, own, uuid) && !self.shows_all(&place.owner, authority);
        let clear = self.clear_places(before, is_hidden).await?;
        let mut suspects = Suspects::default();
        for path in &new.statistics {
            suspects.add(FileKind::Statistics, path, &clear);
        }
        for path in new.snapshots.iter().flat_map(|snapshot| manifest_list_paths(snapshot)) {
            suspects.add(FileKind::ManifestList, &path, &clear);
        }
        self.check_suspects(&suspects, is_hidden).await?;
        let known = before.map_or_else(Vec::new, |table| new.known(&table.metadata));
        let read = visit_named(self.manifests(), &known, &new.snapshots, |kind, path| {
            suspects.add(kind, path, &clear);
            Ok::<(), CatalogError>(())
        })
        .await;
        // A manifest of another table is refused as such, also if it can't be read.
        self.check_suspects(&suspects, is_hidden).await?;
        read
    }

    /// Returns the places that a table's metadata names and that overlap no hidden place: no file in them lies in a hidden one.
    async fn clear_places(
        &self,
        table: Option<&LoadedTable>,
        is_hidden: impl Fn(&Place) -> bool + Send + Sync + Copy,
    ) -> Result<Vec<Location>> {
        let mut clear = Vec::new();
        let Some(LoadedTable { metadata, .. }) = table else { return Ok(clear) };
        for place in places_in_metadata(&metadata.location, &metadata.properties) {
            let Ok(at) = Location::parse(&place) else { continue };
            if self.find_place(&at, is_hidden).await?.is_none() {
                clear.push(at);
            }
        }
        Ok(clear)
    }

    /// Checks that no suspect lies in a hidden place.
    async fn check_suspects(&self, suspects: &Suspects, is_hidden: impl Fn(&Place) -> bool + Send + Sync) -> Result<()> {
        let around = directories_around(suspects.files.iter().map(|(_, at)| at));
        let hidden = self.directories_with_place(&around, is_hidden).await?;
        suspects.files.iter().try_for_each(|(kind, at)| check_outside(&hidden, *kind, at))
    }

    /// Checks that files which a reader is about to read lie in no place of another table whose rows it may not all read.
    ///
    /// Commits are checked, but whoever has credentials for writing can later put another file in the place of a manifest. Files in
    /// the places that the table's metadata names need no look-up.
    ///
    /// # Errors
    ///
    /// Returns [`FilesOfOthers`](CatalogError::FilesOfOthers) if one does, and [`State`](CatalogError::State) if the database
    /// fails.
    pub async fn check_files_read(&self, table: &LoadedTable, paths: &[&str], reader: &Authority) -> Result<()> {
        if reader.reads_all_below(&self.warehouse_path()) {
            return Ok(());
        }
        let own = own_directories(table);
        let outside: Vec<Location> = paths.iter().filter_map(|path| outside(path, &own)).collect();
        if outside.is_empty() {
            return Ok(());
        }
        let (id, uuid) = (Some(table.row.id), Some(table.row.table_uuid));
        let is_foreign = |place: &Place| !is_own(place, id, uuid) && !self.shows_all(&place.owner, reader);
        match self.directories_with_place(&directories_around(&outside), is_foreign).await?.is_empty() {
            true => Ok(()),
            false => Err(CatalogError::FilesOfOthers { table: table.row.name.to_string() }),
        }
    }

    /// Returns the files in places of all other tables, without what lies in the places that the table's metadata names.
    ///
    /// Jobs read none of them. They write rows into files of the table, so whoever reads the table would read them, whatever the
    /// rights of who asked for the job.
    pub fn closed_to(&self, table: &LoadedTable) -> Arc<dyn ClosedFiles> {
        let (catalog, id, uuid, own) = (self.clone(), table.row.id, table.row.table_uuid, own_directories(table));
        Arc::new(FilesOfOthers { catalog, id, uuid, own, known: Cache::new(KNOWN_DIRECTORIES) })
    }

    /// Checks that the UUID of a table that is registered is not that of another one whose rows the caller may not all read.
    ///
    /// By the UUID, a table gets to the files of a dropped one.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](CatalogError::Invalid) if it is, and [`State`](CatalogError::State) if the database fails.
    pub(crate) async fn check_uuid_of_others(
        &self,
        metadata: &TableMetadata,
        own: Option<TableId>,
        authority: &Authority,
    ) -> Result<()> {
        let Some(uuid) = metadata.table_uuid.filter(|_| !authority.reads_all_below(&self.warehouse_path())) else {
            return Ok(());
        };
        match self.find_by_uuid(uuid, |row| Some(row.id) != own && !self.shows_all(row, authority)).await? {
            None => Ok(()),
            Some(_) => Err(CatalogError::Invalid(format!(
                "can't register: {uuid} is the UUID of another table, whose rows the caller may not all read"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_in_the_directories_around_it_and_in_no_other() {
        let at = |uri: &str| Location::parse(uri).expect("a location");
        let places = ["s3://b/t", "s3://b/t/data", "s3://b/t2", "s3://b", "s3://c/t", "file:///t", "file:///t/data/x"].map(at);
        for path in ["s3a://b/t/data/f", "s3://b/t", "s3://b/t2/f", "s3://c/f", "file:/t/f", "file:///u"] {
            let around = directories_around(&[at(path), at("file:///v/f")]);
            for place in &places {
                let is_inside = at(path).is_inside(place);
                assert_eq!(around.contains(place), is_inside, "{path} in {place}");
                let refused = check_outside(&HashSet::from([place.clone()]), FileKind::Data, &at(path)).is_err();
                assert_eq!(refused, is_inside, "{path} in {place}");
            }
        }
    }

    #[test]
    fn a_file_is_outside_unless_it_lies_in_a_directory_of_its_table_in_any_spelling() {
        let own = ["s3://b/t/mine", "file:///w/t/data"].map(|uri| Location::parse(uri).expect("a location"));
        for path in ["s3://b/t/f", "s3://b/t/mine", "s3a://b/t/mine2/f", "file:///w/t/f"] {
            assert!(outside(path, &own).is_some(), "{path}");
        }
        for path in ["s3a://b/t/mine/x/f", "file:/w/t/data/f", "no location"] {
            assert_eq!(outside(path, &own), None, "{path}");
        }
    }

    #[test]
    fn of_each_directory_one_file_is_suspect_but_none_below_what_is_clear() {
        let clear = [Location::parse("s3://b/t").expect("a location")];
        let mut suspects = Suspects::default();
        for path in ["s3://b/t/data/f", "s3://b/u/f", "s3a://b/u/g", "s3://b/u/x/", "s3://b/u/x/f", "no location", "s3://b/t2/f"]
        {
            suspects.add(FileKind::Data, path, &clear);
        }
        let found: Vec<String> = suspects.files.iter().map(|(_, at)| at.to_string()).collect();
        assert_eq!(found, ["s3://b/u/f", "s3://b/u/x/f", "s3://b/t2/f"]);
    }
}
