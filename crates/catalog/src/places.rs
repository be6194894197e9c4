//! The directories in which tables and views have files.
//!
//! Files stay where they were written, even if the table's location or path properties change. So a table keeps a record of its
//! *places*: its location, its earlier locations, and the paths that its properties named. No other table's metadata may come to
//! lie there, and the sweep deletes a file only inside the places of its table.
//!
//! The state database has an index of all places by path. So whether a place overlaps others is a few look-ups, however many tables
//! there are. Start reading at [`Catalog::find_place`].

use std::collections::{BTreeMap, HashMap, HashSet};

use esker_state::{FoundPlace, PlaceClaim, PlaceRange, TabularRow};
use esker_storage::Location;
use esker_types::{TableId, TableName};
use uuid::Uuid;

use crate::{Catalog, CatalogError, LoadedTable, Result};

/// Table properties that name directories for files, instead of those below the location.
pub(crate) const PATH_PROPERTIES: [&str; 4] = [DATA_PATHS[0], DATA_PATHS[1], DATA_PATHS[2], "write.metadata.path"];

/// Table properties that name the directory for data files, in the order in which writers look for them.
///
/// Present releases of the reference implementation refuse the second and the third. Earlier ones write there if the first is not
/// set.
pub(crate) const DATA_PATHS: [&str; 3] = ["write.data.path", "write.object-storage.path", "write.folder-storage.path"];

/// Table property that names a class, which writers load and ask for the path of each data file.
pub(crate) const LOCATION_PROVIDER: &str = "write.location-provider.impl";

/// Checks whether a table property decides in which directory or under which path files are written.
pub(crate) fn decides_paths(property: &str) -> bool {
    PATH_PROPERTIES.contains(&property) || property == LOCATION_PROVIDER
}

/// A directory in which a table or view has files, or had them.
#[derive(Debug, Clone)]
pub struct Place {
    /// Row of the table or view that the place belongs to.
    pub owner: TabularRow,
    /// The directory.
    pub directory: Location,
    /// `true` if the owner was dropped and can be brought back.
    pub dropped: bool,
}

impl Place {
    /// Checks whether the place is the owner's present location.
    pub fn is_location(&self) -> bool {
        Location::parse(&self.owner.location).is_ok_and(|location| location == self.directory)
    }

    /// Describes the place for a message.
    pub fn describe(&self) -> String {
        let name = &self.owner.name;
        match self.is_location() {
            true => format!("the location of {name}"),
            false => format!("a place where {name} has or had files"),
        }
    }
}

/// Lists the places that metadata names, without duplicates; the location comes first.
pub(crate) fn places_in_metadata(location: &str, properties: &BTreeMap<String, String>) -> Vec<String> {
    let paths = PATH_PROPERTIES.iter().filter_map(|key| properties.get(*key)).map(String::as_str);
    let mut named: Vec<String> = Vec::new();
    for place in std::iter::once(location).chain(paths).map(Location::normalize) {
        if !named.contains(&place) {
            named.push(place);
        }
    }
    named
}

/// Returns the places of a table, sorted: those that its metadata names now and those that it had.
///
/// # Errors
///
/// Returns [`State`](crate::CatalogError::State) if the database fails.
pub async fn places_of(catalog: &Catalog, table: &LoadedTable) -> Result<Vec<Location>> {
    let mut places = places_in_metadata(&table.metadata.location, &table.metadata.properties);
    places.extend(catalog.state().tables().places_of(table.row.id).await?);
    let mut places: Vec<Location> = places.iter().filter_map(|place| Location::parse(place).ok()).collect();
    places.sort();
    places.dedup();
    Ok(places)
}

/// Returns a location and the directories around it, the innermost first.
pub(crate) fn with_those_around(at: &Location) -> Vec<Location> {
    std::iter::successors(Some(at.clone()), Location::parent).collect()
}

/// Returns the directories around files, each once. Files share most of them.
pub(crate) fn directories_around<'a>(files: impl IntoIterator<Item = &'a Location>) -> HashSet<Location> {
    let mut around = HashSet::new();
    for file in files {
        let mut next = file.parent();
        while let Some(directory) = next.filter(|directory| !around.contains(directory)) {
            next = directory.parent();
            around.insert(directory);
        }
    }
    around
}

/// Returns the claim to a directory that was free, which is checked again when its entry is published.
pub(crate) fn claim(at: &Location, is_shared: bool) -> PlaceClaim {
    let around = with_those_around(at).iter().map(Location::to_string).collect();
    PlaceClaim { directory: at.to_string(), around, is_shared }
}

/// Checks that the entries of one transaction claim no places that overlap, unless both share theirs.
///
/// # Errors
///
/// Returns [`Location`](CatalogError::Location) with the names of two entries that do.
pub(crate) fn check_claims_apart<'a>(entries: impl IntoIterator<Item = (&'a TableName, &'a Vec<PlaceClaim>)>) -> Result<()> {
    let all: Vec<(&TableName, &PlaceClaim)> =
        entries.into_iter().flat_map(|(name, claims)| claims.iter().map(move |claim| (name, claim))).collect();
    let mut at: HashMap<&str, Vec<(&TableName, &PlaceClaim)>> = HashMap::new();
    for &(name, claim) in &all {
        at.entry(&claim.directory).or_default().push((name, claim));
    }
    for &(name, claim) in &all {
        let mut around = claim.around.iter().filter_map(|directory| at.get(directory.as_str())).flatten();
        if let Some((other, _)) = around.find(|(other, theirs)| *other != name && !(claim.is_shared && theirs.is_shared)) {
            let reason = format!("the places of {name} and {other} overlap; choose a place of its own for each");
            return Err(CatalogError::Location { location: claim.directory.clone(), reason });
        }
    }
    Ok(())
}

/// Reads a place of the index. `None` if its location can't be parsed: nothing can lie there.
fn place(found: FoundPlace) -> Option<Place> {
    let directory = Location::parse(&found.location).ok()?;
    Some(Place { owner: found.owner, directory, dropped: found.dropped })
}

/// Places of many entries. Of those with one directory, one of each sort is kept: many tables may share a data path.
///
/// The sorts are told apart by [`Place::is_location`] and [`Place::dropped`].
#[derive(Debug, Default)]
struct PlacesBySort {
    known: HashSet<(Location, bool, bool)>,
    places: Vec<Place>,
}

impl PlacesBySort {
    /// Keeps a place, if it is the first of its sort.
    fn add(&mut self, place: Place) {
        if self.known.insert((place.directory.clone(), place.is_location(), place.dropped)) {
            self.places.push(place);
        }
    }
}

impl Catalog {
    /// Returns those of some directories that are places of any table or view, in no order.
    async fn places_among<'a>(&self, directories: impl IntoIterator<Item = &'a Location>) -> Result<Vec<String>> {
        let directories: Vec<String> = directories.into_iter().map(Location::to_string).collect();
        Ok(self.state().tables().places_among(&directories).await?)
    }

    /// Visits the places in a range, page by page, until `visit` returns false.
    async fn visit_places(&self, range: &PlaceRange, mut visit: impl FnMut(Place) -> bool + Send) -> Result<()> {
        let mut after = None;
        loop {
            let (found, next) = self.state().tables().places_in(self.warehouse(), range, after.as_ref()).await?;
            for place in found.into_iter().filter_map(place) {
                if !visit(place) {
                    return Ok(());
                }
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Returns a place in a range that `is_wanted` accepts, or `None` if there is none.
    async fn find_place_in(
        &self,
        range: &PlaceRange,
        is_wanted: &(impl Fn(&Place) -> bool + Send + Sync),
    ) -> Result<Option<Place>> {
        let mut found = None;
        self.visit_places(range, |place| {
            let wanted = is_wanted(&place);
            if wanted {
                found = Some(place);
            }
            !wanted
        })
        .await?;
        Ok(found)
    }

    /// Returns a place that overlaps a location and that `is_wanted` accepts; `None` if there is none.
    ///
    /// Dropped tables that can be brought back have places.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub(crate) async fn find_place(
        &self,
        at: &Location,
        is_wanted: impl Fn(&Place) -> bool + Send + Sync,
    ) -> Result<Option<Place>> {
        let mut ranges: Vec<PlaceRange> =
            self.places_among(&with_those_around(at)).await?.iter().map(|directory| PlaceRange::at(directory)).collect();
        ranges.push(PlaceRange::below(&at.to_string()));
        for range in &ranges {
            if let Some(found) = self.find_place_in(range, &is_wanted).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Returns those of some directories that are a place which `is_wanted` accepts.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub(crate) async fn directories_with_place(
        &self,
        directories: &HashSet<Location>,
        is_wanted: impl Fn(&Place) -> bool + Send + Sync,
    ) -> Result<HashSet<Location>> {
        let mut found = HashSet::new();
        for directory in self.places_among(directories).await? {
            let place = self.find_place_in(&PlaceRange::at(&directory), &is_wanted).await?;
            found.extend(place.map(|place| place.directory));
        }
        Ok(found)
    }

    /// Returns the present location of a living table or view other than `own` that overlaps a location; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub(crate) async fn find_location_of_another(&self, at: &Location, own: Option<TableId>) -> Result<Option<Place>> {
        let around: Vec<String> = with_those_around(at).iter().map(Location::to_string).collect();
        let tables = self.state().tables();
        let owner = tables.with_location_overlapping(self.warehouse(), &at.to_string(), &around, own).await?;
        Ok(owner
            .and_then(|owner| Location::parse(&owner.location).ok().map(|directory| Place { owner, directory, dropped: false })))
    }

    /// Returns the places of tables and views other than `own` in which some files lie: at each directory one of each sort.
    ///
    /// The sorts are told apart by [`Place::is_location`] and [`Place::dropped`]. Dropped tables that can be brought back have
    /// places.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn places_around(&self, own: Option<TableId>, files: &[Location]) -> Result<Vec<Place>> {
        let mut found = PlacesBySort::default();
        for directory in self.places_among(&directories_around(files)).await? {
            self.add_places(&mut found, own, &PlaceRange::at(&directory)).await?;
        }
        Ok(found.places)
    }

    /// Returns the places of tables and views other than `own` that overlap a location: at each directory one of each sort.
    ///
    /// The sorts are those of [`Catalog::places_around`].
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn places_overlapping(&self, own: Option<TableId>, at: &Location) -> Result<Vec<Place>> {
        let mut found = PlacesBySort::default();
        for directory in self.places_among(&with_those_around(at)).await? {
            self.add_places(&mut found, own, &PlaceRange::at(&directory)).await?;
        }
        self.add_places(&mut found, own, &PlaceRange::below(&at.to_string())).await?;
        Ok(found.places)
    }

    /// Adds the places in a range that are not those of `own`.
    async fn add_places(&self, found: &mut PlacesBySort, own: Option<TableId>, range: &PlaceRange) -> Result<()> {
        self.visit_places(range, |place| {
            if Some(place.owner.id) != own {
                found.add(place);
            }
            true
        })
        .await
    }

    /// Returns an entry with a UUID in its metadata that `is_wanted` accepts, or `None`.
    ///
    /// Dropped tables that can be brought back count.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub(crate) async fn find_by_uuid(
        &self,
        uuid: Uuid,
        is_wanted: impl Fn(&TabularRow) -> bool + Send + Sync,
    ) -> Result<Option<TabularRow>> {
        let mut after = None;
        loop {
            let page = self.state().tables().with_uuid(self.warehouse(), uuid, after).await?;
            let Some(last) = page.last().map(|row| row.id) else { return Ok(None) };
            if let Some(found) = page.into_iter().find(|row| is_wanted(row)) {
                return Ok(Some(found));
            }
            after = Some(last);
        }
    }
}
