//! The files that new snapshots of a table name.
//!
//! A commit names a manifest list. Everything else that it brings into the table is in manifests. Start reading at
//! [`visit_named`].

use std::collections::HashSet;
use std::sync::Arc;

use esker_format::{DataContentType, ManifestBatch, ManifestFile, ManifestProjection, Snapshot};
use futures::FutureExt;
use futures::stream::StreamExt;

use crate::live::MANIFEST_CONCURRENCY;
use crate::{FileKind, Manifests, Result, TableError};

/// Reads the paths of a manifest. It owns its arguments, so that many calls can run in one stream.
async fn read_paths(source: Manifests, file: ManifestFile) -> Result<Arc<ManifestBatch>> {
    source.batch(&file, &ManifestProjection::paths()).await
}

/// Calls `visit` with each manifest that new snapshots list and known ones do not, and with the files of its entries.
///
/// A manifest is visited before it is read, and an error of `visit` ends the visit. Entries count whatever their status is. A few
/// manifests are in memory at a time. Manifests never change, so the files of known ones were visited when they were new.
///
/// # Errors
///
/// Returns the first error of `visit`, and the errors of [`load_manifests`](crate::load_manifests) and [`Manifests::load`] for
/// what is new. If the list of a known snapshot can't be read, its manifests count as new.
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
    let lists: Vec<_> = new.iter().map(|snapshot| source.list(snapshot).boxed()).collect();
    let mut lists = futures::stream::iter(lists).buffered(MANIFEST_CONCURRENCY);
    while let Some(listed) = lists.next().await {
        let mut unread = Vec::new();
        for file in listed? {
            if seen.insert(file.manifest_path.clone()) {
                visit(FileKind::Manifest, &file.manifest_path)?;
                unread.push(read_paths(source.clone(), file).boxed());
            }
        }
        let mut read = futures::stream::iter(unread).buffered(MANIFEST_CONCURRENCY);
        while let Some(batch) = read.next().await {
            let batch = batch?;
            for row in 0..batch.len() {
                let kind = if batch.content(row) == DataContentType::Data { FileKind::Data } else { FileKind::Delete };
                visit(kind, &batch.path(row))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use esker_format::{
        AvroCodec, DataFile, DataFileFormat, Extra, ManifestEntry, ManifestListWriter, ManifestStatus, NewManifestList,
    };
    use esker_storage::Storage;
    use futures::executor::block_on;

    use super::*;
    use crate::deletes::tests::metadata;
    use crate::manifests::tests::writer;

    #[test]
    fn what_is_new_is_visited_with_entries_of_every_status_and_a_manifest_before_it_is_read() {
        let (dir, metadata, storage) = (tempfile::tempdir().expect("a directory"), metadata(), Storage::local());
        let uri = |name: &str| format!("file://{}/{name}", dir.path().display());
        let manifest = |name: &str, status: ManifestStatus| {
            let file = DataFile::new(DataContentType::Data, format!("of-{name}"), DataFileFormat::Parquet, 1, 1);
            let (snapshot_id, sequence_number, file_sequence_number) = (Some(1), Some(1), Some(1));
            let entry = ManifestEntry { status, snapshot_id, sequence_number, file_sequence_number, data_file: file };
            let mut writer = writer(&metadata, 2);
            match status {
                ManifestStatus::Deleted => writer.deleted(&entry).expect("added"),
                _ => writer.existing(&entry).expect("added"),
            }
            let (bytes, mut manifest) = writer.finish(uri(name)).expect("a manifest");
            (manifest.sequence_number, manifest.min_sequence_number) = (1, 1);
            block_on(storage.write(&uri(name), bytes.into())).expect("written");
            manifest
        };
        let snapshot = |id: i64, manifests: &[&ManifestFile]| {
            let new = NewManifestList {
                format_version: 2,
                snapshot_id: id,
                parent_snapshot_id: None,
                sequence_number: id,
                first_row_id: None,
                codec: AvroCodec::Deflate,
            };
            let mut writer = ManifestListWriter::new(new).expect("a writer");
            manifests.iter().for_each(|manifest| writer.add(manifest).expect("added"));
            let path = uri(&format!("snap-{id}"));
            block_on(storage.write(&path, writer.finish().expect("a list").into())).expect("written");
            Snapshot {
                snapshot_id: id,
                parent_snapshot_id: None,
                sequence_number: Some(id),
                timestamp_ms: 1,
                manifest_list: Some(path),
                manifests: None,
                summary: None,
                schema_id: None,
                first_row_id: None,
                added_rows: None,
                key_id: None,
                extra: Extra::default(),
            }
        };
        let [a, b, c] = [("a", ManifestStatus::Existing), ("b", ManifestStatus::Deleted), ("c", ManifestStatus::Existing)]
            .map(|(name, status)| manifest(name, status));
        let gone = ManifestFile { manifest_path: uri("gone"), ..c.clone() };
        let (first, second, third) = (snapshot(1, &[&a]), snapshot(2, &[&a, &b]), snapshot(3, &[&b, &gone]));
        let source = Manifests::new(storage.clone(), 1 << 20);
        let visited = |known: &[&Snapshot], new: &[&Snapshot], refused: &str| {
            let mut seen = Vec::new();
            let done: Result<()> = block_on(visit_named(&source, known, new, |kind, path| {
                seen.push((kind, path.rsplit('/').next().unwrap_or_default().to_owned()));
                if path.ends_with(refused) { Err(TableError::Invalid(path.to_owned())) } else { Ok(()) }
            }));
            (seen, done.err().map(|error| matches!(error, TableError::Invalid(_))))
        };
        let of = |kind, name: &str| (kind, name.to_owned());
        let new = vec![of(FileKind::Manifest, "b"), of(FileKind::Data, "of-b")];
        assert_eq!(visited(&[&first], &[&second], "none"), (new, None));
        let (seen, error) = visited(&[], &[&second, &third], "none");
        assert_eq!((seen.len(), error), (5, Some(false)), "the missing manifest is no answer: {seen:?}");
        assert_eq!(visited(&[&second], &[&third], "gone"), (vec![of(FileKind::Manifest, "gone")], Some(true)));
    }
}
