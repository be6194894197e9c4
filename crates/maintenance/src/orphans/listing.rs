//! The listing of a location, spooled to local disk with a file for each part of the location.
//!
//! A complete part stays on disk until all files are judged, so that a scan that was interrupted resumes instead of listing again.
//! Start reading at [`Listing::take`].

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};

use esker_storage::{ListingPart, Location, Storage};
use esker_types::{Millis, now_ms};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::inventory;
use super::spool::{ListedFile, SpoolReader, SpoolWriter};
use crate::Result;

/// Number of parts that are listed at the same time.
const CONCURRENCY: usize = 32;

/// Age in milliseconds from which an unfinished listing is discarded.
const KEEP_MS: Millis = 24 * 3600 * 1000;

/// The table of contents of a listing, as the file `contents.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    /// The location that is listed, or the URI of the inventory.
    of: String,
    /// Time of the listing's start, in milliseconds since the Unix epoch.
    begun_ms: Millis,
    parts: Vec<ListingPart>,
    /// Files that are in no part.
    beside: Vec<ListedFile>,
}

/// The directory of a listing.
#[derive(Debug)]
enum ListingDir {
    /// The directory of a dry run, which is removed with it.
    Passing(tempfile::TempDir),
    /// The directory of a job, which stays until all files are judged.
    Kept(PathBuf),
}

impl ListingDir {
    fn path(&self) -> &Path {
        match self {
            Self::Passing(dir) => dir.path(),
            Self::Kept(path) => path,
        }
    }
}

/// A complete listing, which is read file by file.
#[derive(Debug)]
pub(crate) struct Listing {
    place: ListingDir,
    beside: VecDeque<ListedFile>,
    left: VecDeque<PathBuf>,
    reader: Option<SpoolReader>,
}

impl Listing {
    /// Lists a location, or reads an inventory of it.
    ///
    /// With a `name`, parts that an earlier attempt of that name has listed are not listed again.
    ///
    /// # Errors
    ///
    /// Returns [`Storage`](crate::MaintenanceError::Storage) if the store fails, [`Spill`](crate::MaintenanceError::Spill) if the
    /// disk does, and [`Option`](crate::MaintenanceError::Option) if the inventory can't be read.
    pub(crate) async fn take(
        storage: &Storage,
        location: &Location,
        inventory: Option<&str>,
        spill: &Path,
        name: Option<&str>,
    ) -> Result<Self> {
        std::fs::create_dir_all(spill)?;
        let place = match name {
            None => ListingDir::Passing(tempfile::tempdir_in(spill)?),
            Some(name) => ListingDir::Kept(spill.join(format!("listing-{name}"))),
        };
        let dir = place.path();
        std::fs::create_dir_all(dir)?;
        let of = inventory.map_or_else(|| location.to_string(), str::to_owned);
        let contents = match unfinished(dir, &of)? {
            Some(contents) => contents,
            None => begin(storage, location, inventory, of, dir).await?,
        };
        if let Some(uri) = inventory {
            let path = part_path(dir, 0);
            if !path.exists() {
                let mut spool = SpoolWriter::new(File::create(path.with_extension("tmp"))?);
                inventory::read(storage, uri, location, &mut |found| spool.push(&found)).await?;
                spool.finish()?;
                std::fs::rename(path.with_extension("tmp"), &path)?;
            }
        }
        let missing = contents.parts.iter().enumerate().filter(|(i, _)| !part_path(dir, *i).exists());
        let listed: Vec<BoxFuture<'static, Result<()>>> = missing
            .map(|(i, part)| list_part(storage.clone(), location.clone(), part.clone(), part_path(dir, i)).boxed())
            .collect();
        futures::stream::iter(listed).buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
        let parts = contents.parts.len().max(usize::from(inventory.is_some()));
        let left = (0..parts).map(|i| part_path(dir, i)).collect();
        Ok(Self { place, beside: contents.beside.into(), left, reader: None })
    }

    /// Returns the next file; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<ListedFile>> {
        if let Some(found) = self.beside.pop_front() {
            return Ok(Some(found));
        }
        loop {
            if let Some(reader) = &mut self.reader
                && let Some(found) = reader.next()?
            {
                return Ok(Some(found));
            }
            let Some(path) = self.left.pop_front() else { return Ok(None) };
            self.reader = Some(SpoolReader::new(File::open(path)?));
        }
    }

    /// Removes the listing from disk, after all files were judged.
    pub(crate) fn done(self) -> Result<()> {
        match self.place {
            ListingDir::Passing(dir) => Ok(dir.close()?),
            ListingDir::Kept(path) => Ok(std::fs::remove_dir_all(path)?),
        }
    }
}

fn part_path(dir: &Path, part: usize) -> PathBuf {
    dir.join(format!("{part}.part"))
}

const CONTENTS: &str = "contents.json";

/// Reads the contents of an earlier attempt's listing of `of`, unless it is too old.
fn unfinished(dir: &Path, of: &str) -> Result<Option<Contents>> {
    let Ok(text) = std::fs::read(dir.join(CONTENTS)) else { return Ok(None) };
    let found = serde_json::from_slice::<Contents>(&text).ok();
    Ok(found.filter(|c| c.of == of && c.begun_ms > now_ms() - KEEP_MS))
}

/// Divides the location into parts and writes the contents of a new listing.
async fn begin(storage: &Storage, location: &Location, inventory: Option<&str>, of: String, dir: &Path) -> Result<Contents> {
    std::fs::remove_dir_all(dir)?;
    std::fs::create_dir_all(dir)?;
    let (parts, beside) = match inventory {
        Some(_) => (Vec::new(), Vec::new()),
        None => storage.listing_parts(location).await?,
    };
    let contents = Contents { of, begun_ms: now_ms(), parts, beside: beside.into_iter().map(ListedFile::from).collect() };
    let text = serde_json::to_vec(&contents).map_err(std::io::Error::other)?;
    std::fs::write(dir.join("contents.tmp"), text)?;
    std::fs::rename(dir.join("contents.tmp"), dir.join(CONTENTS))?;
    Ok(contents)
}

/// Lists a part into a file. The file appears complete or not at all, by a rename.
async fn list_part(storage: Storage, location: Location, part: ListingPart, path: PathBuf) -> Result<()> {
    let mut spool = SpoolWriter::new(File::create(path.with_extension("tmp"))?);
    let mut files = storage.list_part(&location, part);
    while let Some(file) = files.try_next().await? {
        spool.push(&file.into())?;
    }
    spool.finish()?;
    Ok(std::fs::rename(path.with_extension("tmp"), path)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    async fn listed(storage: &Storage, location: &Location, spill: &Path) -> (Listing, BTreeSet<String>) {
        let mut listing = Listing::take(storage, location, None, spill, Some("t")).await.expect("listed");
        let mut found = BTreeSet::new();
        while let Some(file) = listing.next().expect("read") {
            assert!(found.insert(file.path.rsplit('/').next().expect("a name").to_owned()), "once");
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
        listing.done().expect("done");
        let (_, found) = listed(&storage, &location, spill.path()).await;
        assert_eq!(found, names(&["1", "2", "3", "4", "5", "6", "7"]));
    }
}
