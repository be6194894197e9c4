//! The listing of a location, spooled to local disk with a file for each part of the location.
//!
//! A complete part stays on disk until all files are judged, so that a scan that was interrupted resumes instead of listing again.
//! The disk is used on threads that may block, because a dry run runs on the serving runtime. Start reading at [`Listing::take`].

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};

use esker_storage::{ListingPart, Location, Storage};
use esker_types::{DAY_MS, DurationMillis, Millis, now_ms};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{StreamExt, TryChunksError, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::inventory;
use super::spool::{ListedFile, SpoolReader, SpoolWriter};
use crate::Result;

/// Number of parts that are listed at the same time.
const CONCURRENCY: usize = 32;

/// Number of files that are written to disk at a time: a page of a store's listing.
const BATCH: usize = 1000;

/// Age in milliseconds from which an unfinished listing is discarded.
const KEEP_MS: DurationMillis = DAY_MS;

/// The table of contents of a listing, as the file `contents.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    /// The location that is listed, or the URI of the inventory.
    of: String,
    /// Time of the listing's start, in milliseconds since the Unix epoch.
    begun_ms: Millis,
    parts: Vec<ListingPart>,
    /// Files that are in no part.
    loose_files: Vec<ListedFile>,
}

/// The directory of a listing.
#[derive(Debug)]
enum ListingDir {
    /// The directory of a dry run, which is removed with it.
    Temporary(tempfile::TempDir),
    /// The directory of a job, which stays until all files are judged.
    Kept(PathBuf),
}

impl ListingDir {
    fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Kept(path) => path,
        }
    }
}

/// What is listed, and where a listing is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListingSource<'a> {
    /// The location.
    pub(crate) location: &'a Location,
    /// URI of an inventory of the location, which is read instead of listing the storage.
    pub(crate) inventory: Option<&'a str>,
    /// Directory for listings on local disk.
    pub(crate) spill: &'a Path,
    /// Name under which a later attempt resumes the listing; `None` for a dry run.
    pub(crate) name: Option<&'a str>,
}

/// A complete listing, which is read in batches.
#[derive(Debug)]
pub(crate) struct Listing {
    place: ListingDir,
    left: ListingRest,
}

/// The part of a listing that was not read yet.
#[derive(Debug, Default)]
struct ListingRest {
    loose_files: VecDeque<ListedFile>,
    parts: VecDeque<PathBuf>,
    reader: Option<SpoolReader>,
}

impl Listing {
    /// Lists a location, or reads an inventory of it.
    ///
    /// With a name, parts that an earlier attempt of that name has listed are not listed again.
    ///
    /// # Errors
    ///
    /// - Returns [`Storage`](crate::MaintenanceError::Storage) if the store fails, and [`Spill`](crate::MaintenanceError::Spill) if
    ///   the disk does.
    /// - Returns what [`inventory::read`] returns.
    pub(crate) async fn take(storage: &Storage, source: ListingSource<'_>) -> Result<Self> {
        let ListingSource { location, inventory, .. } = source;
        let (spill, name) = (source.spill.to_owned(), source.name.map(str::to_owned));
        let place = spawn_blocking(move || listing_dir(&spill, name.as_deref())).await??;
        let dir = place.path();
        let of = inventory.map_or_else(|| location.to_string(), str::to_owned);
        let contents = match unfinished(dir, &of).await {
            Some(contents) => contents,
            None => begin(storage, location, inventory, of, dir).await?,
        };
        let parts = contents.parts.len().max(usize::from(inventory.is_some()));
        let paths: Vec<PathBuf> = (0..parts).map(|i| part_path(dir, i)).collect();
        let wanted = paths.clone();
        let missing = spawn_blocking(move || wanted.iter().map(|path| !path.exists()).collect::<Vec<_>>()).await?;
        match inventory {
            Some(uri) if missing.contains(&true) => spool_inventory(storage, uri, location, part_path(dir, 0)).await?,
            Some(_) => {}
            None => {
                let missing = contents.parts.iter().zip(&paths).zip(missing).filter(|(_, missing)| *missing);
                let listed: Vec<BoxFuture<'static, Result<()>>> = missing
                    .map(|((part, path), _)| list_part(storage.clone(), location.clone(), part.clone(), path.clone()).boxed())
                    .collect();
                futures::stream::iter(listed).buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
            }
        }
        let left = ListingRest { loose_files: contents.loose_files.into(), parts: paths.into(), reader: None };
        Ok(Self { place, left })
    }

    /// Returns the next files, at most `most`; none at the end.
    ///
    /// A listing is at its end after a failed or dropped call.
    ///
    /// # Errors
    ///
    /// Returns [`Spill`](crate::MaintenanceError::Spill) if a part can't be read back.
    pub(crate) async fn next_batch(&mut self, most: usize) -> Result<Vec<ListedFile>> {
        let mut left = std::mem::take(&mut self.left);
        let read = move || {
            let mut files = Vec::new();
            while files.len() < most
                && let Some(file) = left.next()?
            {
                files.push(file);
            }
            Ok::<_, crate::MaintenanceError>((left, files))
        };
        let (left, files) = spawn_blocking(read).await??;
        self.left = left;
        Ok(files)
    }

    /// Removes the listing from disk, after all files were judged.
    ///
    /// # Errors
    ///
    /// Returns [`Spill`](crate::MaintenanceError::Spill) if it can't be removed.
    pub(crate) async fn done(self) -> Result<()> {
        spawn_blocking(move || match self.place {
            ListingDir::Temporary(dir) => Ok(dir.close()?),
            ListingDir::Kept(path) => Ok(std::fs::remove_dir_all(path)?),
        })
        .await?
    }
}

impl ListingRest {
    /// Returns the next file; `None` at the end. Blocks the calling thread.
    fn next(&mut self) -> Result<Option<ListedFile>> {
        if let Some(found) = self.loose_files.pop_front() {
            return Ok(Some(found));
        }
        loop {
            if let Some(reader) = &mut self.reader
                && let Some(found) = reader.next()?
            {
                return Ok(Some(found));
            }
            let Some(path) = self.parts.pop_front() else { return Ok(None) };
            self.reader = Some(SpoolReader::new(File::open(path)?));
        }
    }
}

/// Creates the directory of a listing. Blocks the calling thread.
fn listing_dir(spill: &Path, name: Option<&str>) -> Result<ListingDir> {
    std::fs::create_dir_all(spill)?;
    let Some(name) = name else { return Ok(ListingDir::Temporary(tempfile::tempdir_in(spill)?)) };
    let path = spill.join(format!("listing-{name}"));
    std::fs::create_dir_all(&path)?;
    Ok(ListingDir::Kept(path))
}

fn part_path(dir: &Path, part: usize) -> PathBuf {
    dir.join(format!("{part}.part"))
}

const CONTENTS: &str = "contents.json";

/// Reads the contents of an earlier attempt's listing of `of`, unless it is too old.
async fn unfinished(dir: &Path, of: &str) -> Option<Contents> {
    let text = tokio::fs::read(dir.join(CONTENTS)).await.ok()?;
    let found = serde_json::from_slice::<Contents>(&text).ok();
    found.filter(|c| c.of == of && c.begun_ms > now_ms() - KEEP_MS)
}

/// Divides the location into parts and writes the contents of a new listing.
async fn begin(storage: &Storage, location: &Location, inventory: Option<&str>, of: String, dir: &Path) -> Result<Contents> {
    tokio::fs::remove_dir_all(dir).await?;
    tokio::fs::create_dir_all(dir).await?;
    let (parts, loose_files) = match inventory {
        Some(_) => (Vec::new(), Vec::new()),
        None => storage.listing_parts(location).await?,
    };
    let contents =
        Contents { of, begun_ms: now_ms(), parts, loose_files: loose_files.into_iter().map(ListedFile::from).collect() };
    let text = serde_json::to_vec(&contents).map_err(std::io::Error::other)?;
    tokio::fs::write(dir.join("contents.tmp"), text).await?;
    tokio::fs::rename(dir.join("contents.tmp"), dir.join(CONTENTS)).await?;
    Ok(contents)
}

/// Starts the file of a part, under a passing name.
async fn start_part(path: &Path) -> Result<SpoolWriter> {
    let file = tokio::fs::File::create(path.with_extension("tmp")).await?;
    Ok(SpoolWriter::new(file.into_std().await))
}

/// Ends the file of a part. It appears complete or not at all, by a rename.
async fn finish_part(spool: SpoolWriter, path: PathBuf) -> Result<()> {
    spawn_blocking(move || {
        spool.finish()?;
        Ok(std::fs::rename(path.with_extension("tmp"), path)?)
    })
    .await?
}

/// Lists a part into a file.
async fn list_part(storage: Storage, location: Location, part: ListingPart, path: PathBuf) -> Result<()> {
    let mut spool = start_part(&path).await?;
    let mut batches = storage.list_part(&location, part).try_chunks(BATCH);
    while let Some(files) = batches.try_next().await.map_err(|TryChunksError(_, error)| error)? {
        spool = spool.push_all(files.into_iter().map(ListedFile::from).collect()).await?;
    }
    finish_part(spool, path).await
}

/// Reads an inventory into a file.
async fn spool_inventory(storage: &Storage, uri: &str, location: &Location, path: PathBuf) -> Result<()> {
    let spool = inventory::read(storage, uri, location, start_part(&path).await?).await?;
    finish_part(spool, path).await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    async fn listed(storage: &Storage, location: &Location, spill: &Path) -> (Listing, BTreeSet<String>) {
        let source = ListingSource { location, inventory: None, spill, name: Some("t") };
        let mut listing = Listing::take(storage, source).await.expect("listed");
        let mut found = BTreeSet::new();
        loop {
            let files = listing.next_batch(2).await.expect("read");
            for file in &files {
                assert!(found.insert(file.path.rsplit('/').next().expect("a name").to_owned()), "once");
            }
            if files.is_empty() {
                break;
            }
            assert!(files.len() <= 2);
        }
        (listing, found)
    }

    #[tokio::test]
    async fn a_listing_that_was_cut_short_goes_on_where_it_was() {
        let (dir, spill) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let (storage, location) = (Storage::local(), Location::from_path(dir.path()).expect("a location"));
        for name in ["a/1", "a/2", "b/3", "c/x/4", "5"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, "x").expect("written");
        }
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
        let (_, found) = listed(&storage, &location, spill.path()).await;
        assert_eq!(found, names(&["1", "2", "3", "4", "5"]));
        // As if it had been killed before `b` was complete. Files that are added to complete parts meanwhile are not seen.
        std::fs::remove_file(spill.path().join("listing-t/1.part")).expect("removed");
        std::fs::write(dir.path().join("a/6"), "x").expect("written");
        std::fs::write(dir.path().join("b/7"), "x").expect("written");
        let (listing, found) = listed(&storage, &location, spill.path()).await;
        assert_eq!(found, names(&["1", "2", "3", "4", "5", "7"]));
        listing.done().await.expect("done");
        let (_, found) = listed(&storage, &location, spill.path()).await;
        assert_eq!(found, names(&["1", "2", "3", "4", "5", "6", "7"]));
    }
}
