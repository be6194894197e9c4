//! The sections `[warehouses.NAME]` and `[tables]`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::check::require;
use super::policy::{policies, policy};
use super::vending::VendingConfig;
use crate::Result;

/// The name of the warehouse that exists if the configuration has none. It is also the only one with a default location.
pub const DEFAULT_WAREHOUSE: &str = "default";

/// The section `[warehouses.NAME]`. The name is also the REST prefix and the SQL catalog.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WarehouseConfig {
    /// The location of new tables: a `file:///`, `s3://`, `gs://` or `abfss://` URI. Fixed when the warehouse is created.
    ///
    /// The warehouse `default` has `warehouse` in the data directory as its default; others have none.
    pub location: Option<String>,
    /// Further locations in which clients may create and register tables. They must be in the same kind of store.
    pub allowed_locations: Vec<String>,
    /// New tables and commits may set a `write.data.path` that other tables have as well. Tables that share one already go on.
    pub shared_data_paths: bool,
    /// Names of classes that the table property `write.location-provider.impl` may name. Engines that write the table load them.
    pub allowed_location_providers: Vec<String>,
    /// Names of namespaces, tables and views are compared without case, and keep the case of their creation. Fixed when the
    /// warehouse is created.
    pub case_insensitive: bool,
    /// Options of the cloud store, by their names in the `object_store` crate: `endpoint`, `region`, `access_key_id`,
    /// `secret_access_key`, `service_account_path`, `account_key`, … Missing ones are taken from the places that the cloud's own
    /// tools use, such as environment variables.
    #[serde(deserialize_with = "texts")]
    pub storage: BTreeMap<String, String>,
    /// Seconds that a file stays in quarantine before it is deleted; default: `maintenance.grace_seconds`.
    pub grace_seconds: Option<u64>,
    /// The policy of this warehouse's tables, as policy keys with their values. Wins over `[policy]`.
    #[serde(deserialize_with = "policy")]
    pub policy: BTreeMap<String, String>,
    /// Policies for the tables of namespaces, by a pattern of the namespace's name such as `raw.*`. Wins over `policy`.
    #[serde(deserialize_with = "policies")]
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Properties that clients get as defaults. If `storage.endpoint` or `storage.region` is set, its `s3.` counterpart is added.
    #[serde(deserialize_with = "texts")]
    pub client: BTreeMap<String, String>,
    /// Short-lived credentials of the store, which clients get for one table at a time.
    pub vending: VendingConfig,
}

impl WarehouseConfig {
    pub(super) fn check(&self, name: &str) -> Result<()> {
        let valid = !name.is_empty() && !name.contains(['/', '%', '?', '#', '+', '.']);
        require(valid, || format!("warehouses.{name}: the name must not be empty or contain / % ? # + ."))?;
        let located = self.location.is_some() || name == DEFAULT_WAREHOUSE;
        require(located, || format!("warehouses.{name}.location is not set; only the warehouse `default` has a default"))?;
        self.vending.check(name, self)
    }
}

/// Reads a map of texts. A value that looks like a number or a boolean, in TOML or the environment, becomes its text.
fn texts<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    let text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let map = BTreeMap::<String, serde_json::Value>::deserialize(d)?;
    Ok(map.into_iter().map(|(k, v)| (k, text(v))).collect())
}

/// The section `[tables]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TablesConfig {
    /// Seconds for which a dropped table can be undropped; 0: it can't be.
    pub undrop_seconds: u64,
}

impl Default for TablesConfig {
    fn default() -> Self {
        Self { undrop_seconds: 7 * 24 * 3600 }
    }
}
