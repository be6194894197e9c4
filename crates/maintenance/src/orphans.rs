use std::collections::HashSet;

use esker_catalog::{Catalog, LoadedTable, deletion};
use esker_storage::Location;
use esker_types::{Millis, now_ms};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::{MaintenanceError, Result};

const DAY_MS: Millis = 24 * 3600 * 1000;

/// Options of an orphan listing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct OrphanOptions {
    /// Only files older than this many milliseconds; default three days, at least one.
    pub older_than_age_ms: Option<Millis>,
}

/// A file that nothing refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// Its URI.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last written.
    pub modified_ms: Millis,
}

/// What lies under a table's location and belongs to nothing. A listing only: this version deletes no orphans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanReport {
    /// The table's name.
    pub table: String,
    /// What was listed.
    pub location: String,
    /// Only files last written before this.
    pub older_than_ms: Millis,
    /// Files listed.
    pub listed: u64,
    /// Of them, referenced by a snapshot, a statistics entry or the metadata log.
    pub referenced: u64,
    /// Of them, unreferenced but too young to judge.
    pub young: u64,
    /// Of them, recorded as an output in progress or in quarantine.
    pub accounted: u64,
    /// The rest.
    pub orphans: Vec<Orphan>,
}

/// Lists the orphans of a table. References are read after the listing ended, so that a file committed meanwhile is never one.
pub async fn list_orphans(catalog: &Catalog, table: &LoadedTable, options: &OrphanOptions) -> Result<OrphanReport> {
    let age = options.older_than_age_ms.unwrap_or(3 * DAY_MS);
    if age < DAY_MS {
        let reason = format!("{age} ms is under the floor of 24 hours: a writer's files are unreferenced until it commits");
        return Err(MaintenanceError::Option { key: "older-than-age-ms", reason });
    }
    let location = Location::parse(&table.row.location)?;
    let older_than_ms = now_ms() - age;
    let listed: Vec<_> = catalog.storage().list(&location).try_collect().await?;

    let table = match catalog.state().table_by_id(table.row.id).await? {
        Some(row) => catalog.load_row(row).await?,
        None => return Err(MaintenanceError::Refused(format!("table {} was dropped during the listing", table.row.name))),
    };
    let referenced = deletion::referenced_paths(catalog, &table).await?;
    let mut accounted: HashSet<String> = catalog.state().recorded_paths(table.row.id).await?.into_iter().collect();
    accounted.extend(catalog.state().quarantine_of(table.row.id).await?.into_iter().map(|d| d.doom.path));
    let others = deletion::other_locations(catalog, Some(table.row.id)).await?;

    let mut report = OrphanReport {
        table: table.row.name.to_string(),
        location: location.to_string(),
        older_than_ms,
        listed: listed.len() as u64,
        referenced: 0,
        young: 0,
        accounted: 0,
        orphans: Vec::new(),
    };
    for file in listed {
        let at = Location::parse(&file.uri)?;
        if referenced.contains(&at.to_string()) {
            report.referenced += 1;
        } else if accounted.contains(&file.uri) || others.iter().any(|(_, l)| at.is_inside(l)) {
            report.accounted += 1;
        } else if file.modified_ms >= older_than_ms {
            report.young += 1;
        } else {
            report.orphans.push(Orphan { path: file.uri, bytes: file.size, modified_ms: file.modified_ms });
        }
    }
    report.orphans.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(report)
}
