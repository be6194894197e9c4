//! Warehouses in the database and namespace patterns in the configuration that have no effect on this server.
//!
//! The server reports them at its start, because nobody would look for them.

use std::collections::{BTreeMap, BTreeSet};

use esker_autopilot::Layers;
use esker_catalog::Catalog;
use esker_state::State;
use esker_types::NamespaceName;

use crate::Result;

/// Returns a sentence for each warehouse of the database that this server does not serve, and for each pattern of namespaces that
/// matches none.
///
/// # Errors
///
/// Returns [`State`](crate::Error::State) if the database can't list the warehouses, and [`Catalog`](crate::Error::Catalog) if it
/// can't list the namespaces of one.
pub(crate) async fn names_without_effect(
    state: &State,
    catalogs: &[Catalog],
    layers: &BTreeMap<String, Layers>,
) -> Result<Vec<String>> {
    let served: BTreeSet<&str> = catalogs.iter().map(|catalog| catalog.options().warehouse.as_str()).collect();
    let mut found = Vec::new();
    for name in state.warehouses().names().await? {
        if !served.contains(name.as_str()) {
            found.push(format!(
                "warehouse {name} is in the database and is not served; add [warehouses.{name}] to serve it again"
            ));
        }
    }
    for catalog in catalogs {
        let Some(layers) = layers.get(&catalog.options().warehouse) else { continue };
        let namespaces = catalog.all_namespaces().await?;
        let names: Vec<NamespaceName> = namespaces.into_iter().map(|row| row.name).collect();
        for origin in layers.unmatched(&names) {
            found.push(format!("{origin} matches no namespace yet; \"raw.*\" matches raw.a and not raw"));
        }
    }
    Ok(found)
}
