//! The files that new snapshots of a table name.
//!
//! A commit names a manifest list. Everything else that it brings into the table is in manifests. Start reading at [`visit_named`].

use std::collections::HashSet;

use esker_format::{DataContentType, ManifestProjection, Snapshot};

use crate::{FileKind, Manifests, TableError};

/// Calls `visit` with each manifest that new snapshots list and known ones do not, and with the files of its entries.
///
/// A manifest is visited before it is read, and an error of `visit` ends the visit. Entries count whatever their status is. One
/// manifest is in memory at a time. Manifests never change, so the files of known ones were visited when they were new.
///
/// # Errors
///
/// Returns the first error of `visit`, and the errors of [`load_manifests`](crate::load_manifests) and [`Manifests::load`] for what
/// is new. If the list of a known snapshot can't be read, its manifests count as new.
pub async fn visit_named<E: From<TableError>>(
    source: &Manifests,
    known: &[&Snapshot],
    new: &[&Snapshot],
    mut visit: impl FnMut(FileKind, &str) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let mut seen: HashSet<String> = HashSet::new();
    for snapshot in known {
        let listed = source.list(snapshot).await.unwrap_or_default();
        seen.extend(listed.into_iter().map(|file| file.manifest_path));
    }
    for snapshot in new {
        for file in source.list(snapshot).await? {
            if seen.contains(&file.manifest_path) {
                continue;
            }
            visit(FileKind::Manifest, &file.manifest_path)?;
            let batch = source.batch(&file, &ManifestProjection::paths()).await?;
            for row in 0..batch.len() {
                let kind = if batch.content(row) == DataContentType::Data { FileKind::Data } else { FileKind::Delete };
                visit(kind, &batch.path(row))?;
            }
            seen.insert(file.manifest_path);
        }
    }
    Ok(())
}
