//! The section `[auth.opa]`: who Trino's users are, and which warehouses its catalogs are, for the decisions that Trino asks for.
//!
//! `docs/security/engines.md` explains the keys. Start reading at [`OpaConfig`].

use std::collections::BTreeMap;

use esker_auth::check_issuer_url;
use esker_rest::OpaOptions;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::WarehouseConfig;
use super::check::require;
use crate::{Error, Result};

/// The section `[auth.opa]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OpaConfig {
    /// The issuer of Trino's users, as their tokens here have it. Without it, a user of Trino is the client of the same name.
    pub issuer: Option<String>,
    /// Takes the groups that Trino sends with a user for claims of the issuer. Needs `auth.opa.issuer`.
    pub groups: bool,
    /// The warehouses of Trino's catalogs, by the names of the catalogs. A catalog without an entry is the warehouse of its name.
    pub catalogs: BTreeMap<String, String>,
    /// Allows everything in catalogs of Trino that are no warehouse of this server. Otherwise everything in them is refused.
    pub allow_other_catalogs: bool,
}

impl OpaConfig {
    pub(super) fn check(&self, warehouses: &BTreeMap<String, WarehouseConfig>) -> Result<()> {
        let issuer = self.issuer.as_deref().map_or(Ok(()), check_issuer_url);
        issuer.map_err(|why| Error::Config(format!("auth.opa.issuer: {why}")))?;
        require(!self.groups || self.issuer.is_some(), || "auth.opa.groups needs auth.opa.issuer".to_owned())?;
        self.catalogs.iter().try_for_each(|(catalog, warehouse)| {
            let what = || format!("auth.opa.catalogs.{catalog}: there is no warehouse {warehouse:?}");
            require(warehouses.contains_key(warehouse), what)
        })
    }

    /// Returns the options of the decisions for Trino.
    pub(crate) fn options(&self) -> OpaOptions {
        OpaOptions {
            issuer: self.issuer.clone(),
            groups: self.groups,
            catalogs: self.catalogs.clone(),
            allow_other_catalogs: self.allow_other_catalogs,
        }
    }
}
