//! Who a change or a statement is carried out for, and what they may do.
//!
//! Everything that asks for privileges asks an [`Authority`]. Esker's own work is allowed; anybody else's is decided by the rules.

use std::sync::Arc;

use esker_access::{Caller, Needs, ResourcePath, RightsError};

use crate::Catalog;

/// Who a change or a statement is carried out for.
#[derive(Debug, Clone, Default)]
pub enum Authority {
    /// Esker itself: jobs, recovery, the health table.
    #[default]
    Server,
    /// Who sent the request.
    Caller(Arc<Caller>),
}

impl Authority {
    /// Checks that what a request needs is allowed, before anything is done.
    ///
    /// # Errors
    ///
    /// Returns [`RightsError::Denied`] if privileges are missing on a securable that the caller may see, and
    /// [`RightsError::Hidden`] if the caller may not know that the securable exists.
    pub fn require<'n>(&self, needs: impl Into<Needs<'n>>) -> Result<(), RightsError> {
        match self {
            Self::Server => Ok(()),
            Self::Caller(caller) => caller.require(needs),
        }
    }

    /// Checks that a securable may be known to exist, as lists do for each entry.
    pub fn sees(&self, on: &ResourcePath<'_>) -> bool {
        match self {
            Self::Server => true,
            Self::Caller(caller) => caller.sees(on),
        }
    }

    /// Checks that everything in a container may be seen, so that a list of it needs no filter.
    pub fn sees_all_below(&self, container: &ResourcePath<'_>) -> bool {
        match self {
            Self::Server => true,
            Self::Caller(caller) => caller.sees_all_below(container),
        }
    }
}

impl Catalog {
    /// Returns the path to the warehouse, on which privileges are granted.
    pub fn warehouse_path(&self) -> ResourcePath<'_> {
        ResourcePath::warehouse(self.warehouse().id, &self.options().warehouse)
    }

    /// Returns the path to a namespace by its key, in the case that the database has.
    pub fn namespace_path<'a>(&'a self, key: &'a str) -> ResourcePath<'a> {
        self.warehouse_path().namespace(key)
    }
}
