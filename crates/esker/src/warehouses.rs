//! Turns the configured warehouses into the storage and the options of their catalogs. No store is asked anything here.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use esker_autopilot::{frozen_by, merges_of};
use esker_catalog::{CatalogOptions, Freeze, MergePolicies};
use esker_storage::{Location, Scheme, Storage, StorageOptions, s3_option};
use object_store::ObjectStore;

use crate::config::WarehouseConfig;
use crate::{Config, Error, Result};

/// Builds the storage and the options of each warehouse, in the order of their names.
///
/// Sends no request to any store. `local` is the store of `file://` locations, and `dir` the data directory.
///
/// # Errors
///
/// - Returns [`Config`](Error::Config) if a location, a storage option or a policy is wrong, if the locations of one warehouse are
///   in different kinds of stores, or if two warehouses overlap.
/// - Returns [`Storage`](Error::Storage) if the data directory can't be the location of the default warehouse.
pub(crate) fn plan(config: &Config, dir: &Path, local: &Arc<dyn ObjectStore>) -> Result<Vec<(Storage, CatalogOptions)>> {
    let mut plans: Vec<(Storage, CatalogOptions)> = Vec::new();
    for (name, warehouse) in config.all_warehouses() {
        let options = options(config, dir, &name, &warehouse)?;
        let roots = roots(&options);
        if let Some(other) = roots.iter().find(|root| root.scheme() != options.location.scheme()) {
            let what = format!("warehouses.{name}: {other} and {} are in different kinds of stores", options.location);
            return Err(Error::Config(what));
        }
        // If two warehouses shared a location, each would treat the other's files as unreferenced.
        for (_, earlier) in &plans {
            let overlap = self::roots(earlier).into_iter().find(|a| roots.iter().any(|b| a.overlaps(b)));
            if let Some(place) = overlap {
                let what = format!("warehouses.{name} and warehouses.{} overlap in {place}", earlier.warehouse);
                return Err(Error::Config(what));
            }
        }
        let (vending, signing) = (warehouse.vending.options(&config.auth), warehouse.vending.signing(&config.auth));
        let storage = StorageOptions { roots, cloud: warehouse.storage.clone(), local: local.clone(), vending, signing };
        let storage = Storage::open(storage).map_err(|e| Error::Config(format!("warehouses.{name}.storage: {e}")))?;
        plans.push((storage, options));
    }
    Ok(plans)
}

/// Returns the locations in which a warehouse may have files: its own, then the allowed ones.
fn roots(options: &CatalogOptions) -> Vec<Location> {
    std::iter::once(&options.location).chain(&options.allowed_locations).cloned().collect()
}

/// Builds the options of one warehouse's catalog.
fn options(config: &Config, dir: &Path, name: &str, warehouse: &WarehouseConfig) -> Result<CatalogOptions> {
    let wrong = |key: &str, e| Error::Config(format!("warehouses.{name}.{key}: {e}"));
    let location = match &warehouse.location {
        Some(uri) => Location::parse(uri).map_err(|e| wrong("location", e))?,
        None => Location::from_path(&dir.join("warehouse"))?,
    };
    let allowed: std::result::Result<Vec<_>, _> = warehouse.allowed_locations.iter().map(|uri| Location::parse(uri)).collect();
    let layers = config.layers_of(name, warehouse)?;
    let of_merges = layers.clone();
    let ms = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
    Ok(CatalogOptions {
        warehouse: name.to_owned(),
        client: client_defaults(&location, warehouse),
        location,
        location_is_set: warehouse.location.is_some(),
        case_insensitive: warehouse.case_insensitive,
        allowed_locations: allowed.map_err(|e| wrong("allowed_locations", e))?,
        shared_data_paths: warehouse.shared_data_paths,
        allowed_location_providers: warehouse.allowed_location_providers.clone(),
        trino_issuer: config.auth.opa.issuer.clone(),
        undrop_ms: ms(config.tables.undrop_seconds),
        grace_ms: ms(warehouse.grace_seconds.unwrap_or(config.maintenance.grace_seconds)),
        commit_wait: Duration::from_secs(config.server.commit_wait_seconds),
        queues: config.commit.queue_options(),
        turns: config.commit.turn_options(),
        cache_bytes: config.cache.bytes,
        path_set_bytes: config.maintenance.memory_bytes / 8,
        spill_dir: config.maintenance.spill_dir(dir),
        check_policy: esker_autopilot::policy::bad_properties,
        freeze: Freeze::new(move |namespaces, name, own| frozen_by(&layers, namespaces, name, own)),
        merge: MergePolicies::new(move |namespaces, name, own| merges_of(&of_merges, namespaces, name, own)),
        deletes: None,
        forwarder: None,
        failpoint: config.debug.failpoint(),
    })
}

/// Returns the properties that clients get as defaults: the address of the store, and the configured ones. Never credentials.
fn client_defaults(location: &Location, warehouse: &WarehouseConfig) -> BTreeMap<String, String> {
    let mut defaults = BTreeMap::new();
    if location.scheme() == Scheme::S3 {
        let option = |name: &str| s3_option(&warehouse.storage, name);
        if let Some(endpoint) = option("endpoint") {
            defaults.insert("s3.endpoint".to_owned(), endpoint.to_owned());
            let virtual_hosts = option("virtual_hosted_style_request").is_some_and(|v| v == "true");
            defaults.insert("s3.path-style-access".to_owned(), (!virtual_hosts).to_string());
        }
        if let Some(region) = option("region") {
            defaults.insert("s3.region".to_owned(), region.to_owned());
            defaults.insert("client.region".to_owned(), region.to_owned());
        }
    }
    defaults.extend(warehouse.client.clone());
    defaults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_the_endpoint_of_the_store_however_it_is_spelt() {
        let location = Location::parse("s3://b/w").expect("a location");
        for key in ["endpoint", "aws_endpoint", "endpoint_url", "aws_endpoint_url"] {
            let storage = BTreeMap::from([(key.to_owned(), "http://minio:9000".to_owned())]);
            let defaults = client_defaults(&location, &WarehouseConfig { storage, ..WarehouseConfig::default() });
            let expected = [("s3.endpoint", "http://minio:9000"), ("s3.path-style-access", "true")];
            let expected = BTreeMap::from(expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
            assert_eq!(defaults, expected, "{key}");
        }
    }
}
