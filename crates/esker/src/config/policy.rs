//! Policy keys in the configuration: the section `[policy]`, a warehouse's own, and those of its namespaces.

use std::collections::BTreeMap;

use esker_autopilot::Layers;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{Config, WarehouseConfig};
use crate::{Error, Result};

impl Config {
    /// Returns the policy layers of each warehouse's tables, by warehouse.
    ///
    /// # Errors
    ///
    /// Returns [`Config`](Error::Config) if a policy key is unknown or has a wrong value, or if a namespace pattern is not a glob
    /// pattern.
    pub fn layers(&self) -> Result<BTreeMap<String, Layers>> {
        let of = |(name, w): (String, WarehouseConfig)| Ok((name.clone(), self.layers_of(&name, &w)?));
        self.all_warehouses().into_iter().map(of).collect()
    }

    /// Returns the policy layers of one warehouse's tables: `[policy]`, the warehouse's own policy, then its namespace patterns.
    pub(crate) fn layers_of(&self, name: &str, warehouse: &WarehouseConfig) -> Result<Layers> {
        Layers::new(name, &self.policy, &warehouse.policy, &warehouse.namespaces).map_err(|e| Error::Config(e.to_string()))
    }
}

/// Reads policy keys with their values. `compact.schedule = "…"` and `[policy.compact] schedule = "…"` mean the same.
pub(super) fn policy<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    Ok(flatten_keys(Map::deserialize(d)?))
}

/// Reads policies by namespace pattern, each as [`policy`] does.
pub(super) fn policies<'de, D>(d: D) -> std::result::Result<BTreeMap<String, BTreeMap<String, String>>, D::Error>
where
    D: Deserializer<'de>,
{
    let by_pattern = BTreeMap::<String, Map<String, Value>>::deserialize(d)?;
    Ok(by_pattern.into_iter().map(|(pattern, values)| (pattern, flatten_keys(values))).collect())
}

/// Joins the keys of nested maps with dots, and turns all values into text.
fn flatten_keys(values: Map<String, Value>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (key, value) in values {
        match value {
            Value::Object(inner) => found.extend(flatten_keys(inner).into_iter().map(|(k, v)| (format!("{key}.{k}"), v))),
            Value::String(text) => drop(found.insert(key, text)),
            other => drop(found.insert(key, other.to_string())),
        }
    }
    found
}
