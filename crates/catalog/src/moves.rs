//! Commits that move the metadata directory of a table or view.
//!
//! Such a commit writes its metadata file to the new directory, and a copy of it to the previous one. A database that is restored
//! to an earlier time looks for later commits in the previous directory. There it finds the copy, which names the new directory.

use bytes::Bytes;
use esker_state::TabularRow;
use esker_storage::Location;

use crate::recovery::unique_name;
use crate::{Catalog, LoadedTable, Result};

/// Returns the path for a copy of `file` in the directory of `before`, the metadata file before it.
///
/// Returns `None` if both lie in one directory, or if the name of `file` has no UUID.
fn copy_path(before: &str, file: &str) -> Option<String> {
    let ((old, _), (new, _)) = (before.rsplit_once('/')?, file.rsplit_once('/')?);
    let moved = match (Location::parse(old), Location::parse(new)) {
        (Ok(old), Ok(new)) => old != new,
        _ => old != new,
    };
    let name = unique_name(file).filter(|_| moved)?;
    Some(format!("{old}/{name}"))
}

/// Returns the path for the copy of a row's next metadata file; `None` if it needs none.
///
/// Nothing is written to the directories of a foreign table.
pub(crate) fn copy_path_of_next(row: &TabularRow, next: &str) -> Option<String> {
    copy_path(&row.metadata_location, next).filter(|_| row.owned)
}

/// Lists the metadata files of a table: its metadata log from the oldest on, then the current file, then the copies.
pub(crate) fn metadata_files(table: &LoadedTable) -> Vec<String> {
    let log = table.metadata.metadata_log.iter().map(|log| log.metadata_file.clone());
    with_copies(log.chain([table.row.metadata_location.clone()]).collect())
}

/// Appends the copies in previous directories to metadata files, which must be in commit order.
pub(crate) fn with_copies(mut files: Vec<String>) -> Vec<String> {
    let left: Vec<String> = files.windows(2).filter_map(|pair| copy_path(&pair[0], &pair[1])).collect();
    files.extend(left);
    files
}

impl Catalog {
    /// Writes the metadata file that follows a row's, and the copy of it if the directory changed.
    ///
    /// Returns the paths of both: pending outputs to settle once the file is current.
    pub(crate) async fn write_following(&self, row: &TabularRow, uri: &str, json: Bytes) -> Result<Vec<String>> {
        self.write_metadata_file(row, uri, json.clone()).await?;
        let mut written = vec![uri.to_owned()];
        if let Some(left) = copy_path_of_next(row, uri) {
            self.failpoint("commit-between-metadata-files").await;
            if let Err(e) = self.write_metadata_file(row, &left, json).await {
                self.discard(row, uri, "its copy in the previous metadata directory could not be written").await;
                return Err(e);
            }
            written.push(left);
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &str, version: u32) -> String {
        format!("{dir}/0000{version}-0197f3c2-0000-7000-8000-00000000000{version}.metadata.json")
    }

    #[test]
    fn a_file_is_left_where_the_one_before_it_lies_and_only_where_that_is_elsewhere() {
        let files = vec![
            file("s3://b/t/metadata", 1),
            file("s3://b/u/metadata", 2),
            file("s3a://b/u/metadata", 3),
            file("s3://b/t/metadata", 4),
        ];
        let expected = [files.clone(), vec![file("s3://b/t/metadata", 2), file("s3a://b/u/metadata", 4)]].concat();
        assert_eq!(with_copies(files), expected);
    }

    #[test]
    fn a_name_that_another_file_may_have_is_not_taken_for_a_copy() {
        let files = vec!["s3://b/t/metadata/v1.metadata.json".to_owned(), "s3://b/u/metadata/v2.metadata.json".to_owned()];
        assert_eq!(with_copies(files.clone()), files);
    }
}
