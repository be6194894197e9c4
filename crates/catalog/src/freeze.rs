//! The lookup that names who froze a table.
//!
//! A freeze is a policy, and policies belong to a crate above this one. So the catalog is opened with a function that looks it
//! up. No file of a frozen table is deleted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use esker_types::{NamespaceName, TableName};

use crate::{Catalog, LoadedTable, Result};

/// Properties of the namespace of a table and of those around it, by the name of the namespace.
pub(crate) type Namespaces = BTreeMap<NamespaceName, BTreeMap<String, String>>;

/// The lookup: it takes the properties of the namespaces around the table, the table's name, and the table's properties.
type FreezeLookup = dyn Fn(&Namespaces, &TableName, &BTreeMap<String, String>) -> Option<String> + Send + Sync;

/// The lookup that names who froze a table, if it is frozen.
///
/// It sees the properties of the namespaces around the table, the table's name, and the table's own properties.
#[derive(Clone)]
pub struct Freeze(Arc<FreezeLookup>);

impl Freeze {
    /// Wraps a function that names who froze a table.
    pub fn new(
        by: impl Fn(&Namespaces, &TableName, &BTreeMap<String, String>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(by))
    }
}

impl fmt::Debug for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Freeze")
    }
}

impl Catalog {
    /// Returns who froze a table by a policy; `None` if it is not frozen.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn frozen_by(&self, table: &LoadedTable) -> Result<Option<String>> {
        let namespaces = self.properties_around(&table.row.name.namespace).await?;
        Ok((self.options().freeze.0)(&namespaces, &table.row.name, &table.metadata.properties))
    }
}
