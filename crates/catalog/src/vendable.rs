//! The places of a table for which clients may get credentials.
//!
//! A credential works at the store, past every check of the catalog. So what was checked when a table was made or changed is
//! checked again, with the configuration and the other tables of now. [`Catalog::vendable`] checks each place by itself, at each
//! vending. [`Catalog::check_apart`] compares with other tables, when new credentials are made. Start reading at the first.

use std::collections::BTreeMap;

use esker_storage::{Location, PolicyPrefix, StorageError};
use esker_types::TableId;
use uuid::Uuid;

use crate::places::places_in_metadata;
use crate::{Catalog, CatalogError, LoadedTable, Place, Result, places_of};

/// The places of a table for which a credential may be vended, if no other table's place overlaps them.
#[derive(Debug, Clone)]
pub struct Vendable {
    /// Id of the table in the catalog; `None` if the table is only staged.
    table: Option<TableId>,
    /// UUID in the metadata; nil if the metadata has none.
    uuid: Uuid,
    places: Vec<Location>,
    prefixes: Vec<PolicyPrefix>,
}

impl Vendable {
    /// Returns the identity that credentials are kept by: the id of the table, or the UUID of a staged one.
    pub fn id(&self) -> String {
        self.table.map_or_else(|| format!("staged {}", self.uuid), |id| id.to_string())
    }

    /// Checks whether a place is of another table or view, which must not be reached.
    ///
    /// The UUID comes from metadata, which clients write. `docs/security/credentials.md` says what that means.
    fn is_other(&self, place: &Place) -> bool {
        let returned = place.dropped && !self.uuid.is_nil() && place.owner.table_uuid == self.uuid;
        Some(place.owner.id) != self.table && !returned
    }

    /// Returns the places as session policies name them, with one for each place.
    pub fn prefixes(&self) -> &[PolicyPrefix] {
        &self.prefixes
    }
}

impl Catalog {
    /// Returns the places of a table for which a credential may be vended.
    ///
    /// They are the table's present places and its earlier ones, because files stay where they were written. One place that is not
    /// allowed is enough for an error. [`Catalog::check_apart`] has the check that costs more.
    ///
    /// # Errors
    ///
    /// - Returns [`Storage`](CatalogError::Storage) with [`NotVendable`](StorageError::NotVendable) if a place lies outside the
    ///   warehouse and its present allowed locations, or overlaps with the directory of Esker's own files.
    /// - Returns [`Storage`](CatalogError::Storage) with the errors of [`PolicyPrefix::of`], and if a place can't be parsed.
    /// - Returns [`State`](CatalogError::State) if the database fails.
    pub async fn vendable(&self, table: &LoadedTable) -> Result<Vendable> {
        for place in places_in_metadata(&table.metadata.location, &table.metadata.properties) {
            // Below, a place that can't be parsed would be left out.
            Location::parse(&place)?;
        }
        let places = places_of(self, table).await?;
        self.vendable_places(Some(table.row.id), table.row.table_uuid, places)
    }

    /// Returns the places for which a credential may be vended to the client that stages the creation of a table.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Catalog::vendable`], but [`State`](CatalogError::State).
    pub fn vendable_staged(&self, uuid: Uuid, location: &str, properties: &BTreeMap<String, String>) -> Result<Vendable> {
        let places = places_in_metadata(location, properties);
        let places: std::result::Result<Vec<Location>, StorageError> =
            places.iter().map(|place| Location::parse(place)).collect();
        self.vendable_places(None, uuid, places?)
    }

    /// Checks each place by itself.
    fn vendable_places(&self, table: Option<TableId>, uuid: Uuid, places: Vec<Location>) -> Result<Vendable> {
        for place in &places {
            self.check_allowed(place).map_err(|e| match e {
                CatalogError::Location { reason, .. } => not_vendable(place, reason),
                e => e,
            })?;
            if place.overlaps(&self.own_directory()) {
                return Err(not_vendable(place, "it overlaps with the directory of Esker's own files".to_owned()));
            }
        }
        let prefixes = places.iter().map(PolicyPrefix::of).collect::<std::result::Result<Vec<_>, StorageError>>()?;
        Ok(Vendable { table, uuid, places, prefixes })
    }

    /// Checks that no place overlaps one of another table or view.
    ///
    /// Dropped tables count, because they can be brought back. Not so one with the UUID of this table, which is what a dropped
    /// table leaves that is registered again.
    ///
    /// # Errors
    ///
    /// Returns [`Storage`](CatalogError::Storage) with [`NotVendable`](StorageError::NotVendable) if one does, and
    /// [`State`](CatalogError::State) if the database fails.
    pub async fn check_apart(&self, vendable: &Vendable) -> Result<()> {
        for place in &vendable.places {
            if let Some(other) = self.find_place(place, |other| vendable.is_other(other)).await? {
                // The caller may not be allowed to see the other one.
                let (at, what) = (&other.directory, other.describe());
                tracing::info!(%place, other = %at, what, "no credentials are vended for a place that overlaps another one");
                return Err(not_vendable(place, "it overlaps with a place of another table or view".to_owned()));
            }
        }
        Ok(())
    }
}

/// Makes the error for a place.
fn not_vendable(place: &Location, reason: String) -> CatalogError {
    StorageError::NotVendable { uri: place.to_string(), reason }.into()
}
