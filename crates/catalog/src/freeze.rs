use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use esker_types::NamespaceName;

use crate::{Catalog, LoadedTable, Result};

/// Properties by namespace.
type Namespaces = BTreeMap<NamespaceName, BTreeMap<String, String>>;

type ByWhom = dyn Fn(&Namespaces, &NamespaceName, &BTreeMap<String, String>) -> Option<String> + Send + Sync;

/// By whom a table is frozen, as the policy says that is over the catalog: from the properties of all namespaces, the table's namespace
/// and its own properties.
#[derive(Clone)]
pub struct Freeze(Arc<ByWhom>);

impl Freeze {
    /// As a function tells it.
    pub fn new(
        by: impl Fn(&Namespaces, &NamespaceName, &BTreeMap<String, String>) -> Option<String> + Send + Sync + 'static,
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
    /// Tells by whom a table is frozen by its policy; none if nobody froze it.
    pub async fn frozen_by(&self, table: &LoadedTable) -> Result<Option<String>> {
        let namespaces = self.state().all_namespaces(self.warehouse()).await?;
        let namespaces = namespaces.into_iter().map(|row| (row.name, row.properties)).collect();
        Ok((self.options().freeze.0)(&namespaces, &table.row.name.namespace, &table.metadata.properties))
    }
}
