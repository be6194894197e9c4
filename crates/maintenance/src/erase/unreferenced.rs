//! Files that may hold rows although no snapshot leads to them.
//!
//! These are files in quarantine, whatever their location and name, and unreferenced files in the table's places. A file that is
//! not named like Parquet is recognized by its first bytes. Start reading at [`outside`].

use std::collections::{BTreeMap, HashSet};

use esker_catalog::{Catalog, LoadedTable, PathSet, Place, places_of, referenced_by_others};
use esker_storage::{Location, Storage, StorageError};
use esker_table::metadata_dir;
use esker_types::{Millis, TableId};
use futures::stream::{StreamExt, TryChunksError, TryStreamExt};

use super::suspect::Suspect;
use crate::Result;

/// Number of files whose first bytes are read at the same time.
const CONCURRENCY: usize = 16;

/// Number of listed files that are looked up at a time.
const LOOKUPS: usize = 1000;

/// Number of first bytes of a file that are read to recognize its format: the header of an Avro file has its schema.
const BEGINNING: u64 = 64 << 10;

/// A file outside of all snapshots that may hold rows.
struct UnreferencedFile {
    /// Normalized location of the file.
    path: String,
    /// Size of the file in bytes; 0 if it is not known yet.
    bytes: u64,
    /// The file's path as quarantine records it, and the time from which it may be deleted, in milliseconds since the Unix epoch.
    quarantined: Option<(String, Millis)>,
}

/// Adds the files that no snapshot leads to and that may hold rows to `found`, and notes which files of `found` are in quarantine.
///
/// `known` has the normalized locations of all files that snapshots and statistics lead to.
pub(super) async fn outside(
    catalog: &Catalog,
    table: &LoadedTable,
    known: &HashSet<String>,
    found: &mut BTreeMap<String, Suspect>,
) -> Result<()> {
    let mut quarantined: BTreeMap<String, (String, Millis)> = BTreeMap::new();
    for file in catalog.state().quarantine().of_table(table.row.id).await? {
        quarantined.insert(Location::normalize(&file.record.path), (file.record.path, file.record.due_ms));
    }
    for (path, quarantined) in &quarantined {
        if let Some(suspect) = found.get_mut(path) {
            suspect.quarantined = Some(quarantined.clone());
        }
    }
    quarantined.retain(|path, _| !found.contains_key(path));
    let mut strays = loose(catalog, table, |path| known.contains(path) || quarantined.contains_key(path)).await?;
    for (path, quarantined) in quarantined {
        strays.push(UnreferencedFile { path, bytes: 0, quarantined: Some(quarantined) });
    }
    let storage = catalog.storage();
    let looks = strays.into_iter().map(|stray| async move {
        let parquet = parquet(storage, &stray).await?;
        Ok::<_, crate::MaintenanceError>((stray, parquet))
    });
    let mut looks = futures::stream::iter(looks).buffered(CONCURRENCY);
    while let Some((UnreferencedFile { path, quarantined, .. }, look)) = looks.try_next().await? {
        if let Some((bytes, parquet)) = look {
            let mut suspect = Suspect::new(None, bytes, parquet);
            suspect.quarantined = quarantined;
            found.insert(path, suspect);
        }
    }
    Ok(())
}

/// Returns the unreferenced files in the table's places, and the files that were released from quarantine.
async fn loose(catalog: &Catalog, table: &LoadedTable, known: impl Fn(&str) -> bool) -> Result<Vec<UnreferencedFile>> {
    let own = places_of(catalog, table).await?;
    let elsewhere = referenced_by_others(catalog, table.row.id, &own).await?;
    let places = Places { catalog, table: table.row.id, own, elsewhere };
    let metadata = Location::parse(&metadata_dir(&table.metadata.location, &table.metadata.properties))?;
    let mut strays: BTreeMap<String, u64> = BTreeMap::new();
    for place in places.own.iter().filter(|place| !places.own.iter().any(|outer| place.is_inside(outer))) {
        let mut batches = catalog.storage().list(place).try_chunks(LOOKUPS);
        while let Some(files) = batches.try_next().await.map_err(|TryChunksError(_, error)| error)? {
            let mut unknown = Vec::new();
            for file in files {
                let at = Location::parse(&file.uri)?;
                let of_metadata = at.is_inside(&metadata) && !file.uri.ends_with(".parquet");
                if !known(&file.uri) && !of_metadata {
                    unknown.push((at, file.uri, file.size));
                }
            }
            let anothers = places.are_anothers(unknown.iter().map(|(at, ..)| at.clone()).collect()).await?;
            let own = unknown.into_iter().zip(anothers).filter(|(_, anothers)| !anothers);
            strays.extend(own.map(|((_, uri, size), _)| (uri, size)));
        }
    }
    let released = catalog.state().quarantine().released_of(table.row.id).await?;
    let released = released.into_iter().filter_map(|file| Location::parse(&file.record.path).ok());
    let released: Vec<Location> =
        released.filter(|at| !known(&at.to_string()) && !strays.contains_key(&at.to_string())).collect();
    let anothers = places.are_anothers(released.clone()).await?;
    let own = released.iter().zip(anothers).filter(|(_, anothers)| !anothers);
    strays.extend(own.map(|(at, _)| (at.to_string(), 0)));
    Ok(strays.into_iter().map(|(path, bytes)| UnreferencedFile { path, bytes, quarantined: None }).collect())
}

/// The places of a table and those of others.
struct Places<'a> {
    catalog: &'a Catalog,
    table: TableId,
    own: Vec<Location>,
    /// Files within the table's own places that other tables lead to.
    elsewhere: PathSet,
}

impl Places<'_> {
    /// Checks which files belong to another table. Where places enclose each other, the innermost decides.
    async fn are_anothers(&self, files: Vec<Location>) -> Result<Vec<bool>> {
        let theirs = |at: &Location, place: &Place| {
            let ours = |own: &Location| at.is_inside(own) && (*own == place.directory || own.is_inside(&place.directory));
            at.is_inside(&place.directory) && !self.own.iter().any(ours)
        };
        let paths: Vec<String> = files.iter().map(Location::to_string).collect();
        let mut anothers = self.elsewhere.contains_each(&paths).await?;
        let others = self.catalog.places_around(Some(self.table), &files).await?;
        for (at, anothers) in files.iter().zip(&mut anothers) {
            *anothers |= others.iter().any(|place| theirs(at, place));
        }
        Ok(anothers)
    }
}

/// Returns the size of a file in bytes and whether it is Parquet; `None` if it is missing or holds no rows.
///
/// Esker can't look for rows in files of other formats.
async fn parquet(storage: &Storage, stray: &UnreferencedFile) -> Result<Option<(u64, bool)>> {
    let bytes = match stray.bytes {
        0 => storage.size(&stray.path).await?.unwrap_or_default(),
        bytes => bytes,
    };
    if bytes == 0 || stray.path.ends_with(".metadata.json") {
        return Ok(None);
    }
    if stray.path.ends_with(".parquet") {
        return Ok(Some((bytes, true)));
    }
    let beginning = match storage.read_range(&stray.path, 0..bytes.min(BEGINNING)).await {
        Err(StorageError::NotFound { .. }) => return Ok(None),
        beginning => beginning?,
    };
    Ok(is_parquet(&beginning).map(|parquet| (bytes, parquet)))
}

/// Recognizes a file by its first bytes: returns whether it is readable Parquet, and `None` if it holds no rows.
///
/// Spec: "Manifests", "Manifest Lists".
fn is_parquet(beginning: &[u8]) -> Option<bool> {
    let has = |text: &[u8]| beginning.windows(text.len()).any(|window| window == text);
    match beginning {
        [b'P', b'A', b'R', b'1', ..] => Some(true),
        // With an encrypted footer.
        [b'P', b'A', b'R', b'E', ..] | [b'O', b'R', b'C', ..] => Some(false),
        // Manifests and manifest lists are Avro too. The specification gives their records these names.
        [b'O', b'b', b'j', 1, ..] if !has(b"manifest_entry") && !has(b"manifest_file") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::is_parquet;

    #[test]
    fn a_file_is_known_by_how_it_begins() {
        assert_eq!(is_parquet(b"PAR1\x15\x04"), Some(true));
        for unreadable in [&b"PARE\x15"[..], b"ORC\x08", b"Obj\x01\x04\x16avro.schema\x02{\"name\":\"table\"}"] {
            assert_eq!(is_parquet(unreadable), Some(false), "{unreadable:?}");
        }
        let metadata = [&b"Obj\x01\x04\x16avro.schema\x02{\"name\":\"manifest_entry\"}"[..], b"PFA1", b"{}", b"\x1f\x8b", b""];
        assert!(metadata.into_iter().all(|beginning| is_parquet(beginning).is_none()));
    }
}
