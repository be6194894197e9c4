//! Commits that move where a table's or view's metadata files lie. Such a commit leaves its metadata file in the directory before as
//! well: a database that is put back to a time before it looks there for what it does not know, and that file says where the others lie.

use bytes::Bytes;
use esker_state::TableRow;
use esker_storage::Location;

use crate::recovery::unique_name;
use crate::{Catalog, LoadedTable, Result};

/// Where a metadata file is left as well, if it was written to another directory than the one before it.
fn beside(before: &str, file: &str) -> Option<String> {
    let ((old, _), (new, _)) = (before.rsplit_once('/')?, file.rsplit_once('/')?);
    let moved = match (Location::parse(old), Location::parse(new)) {
        (Ok(old), Ok(new)) => old != new,
        _ => old != new,
    };
    let name = unique_name(file).filter(|_| moved)?;
    Some(format!("{old}/{name}"))
}

/// Where the metadata file that follows a row's is left as well. Another catalog's directories are left as they are.
pub(crate) fn left_behind(row: &TableRow, next: &str) -> Option<String> {
    beside(&row.metadata_location, next).filter(|_| row.owned)
}

/// The metadata files that a table's metadata tells, the oldest first and its own last, and then what they were left as elsewhere.
pub(crate) fn metadata_files(table: &LoadedTable) -> Vec<String> {
    let log = table.metadata.metadata_log.iter().map(|log| log.metadata_file.clone());
    with_left_behind(log.chain([table.row.metadata_location.clone()]).collect())
}

/// Metadata files, one after the other as they were current, and then what they were left as elsewhere.
pub(crate) fn with_left_behind(mut files: Vec<String>) -> Vec<String> {
    let left: Vec<String> = files.windows(2).filter_map(|pair| beside(&pair[0], &pair[1])).collect();
    files.extend(left);
    files
}

impl Catalog {
    /// Writes the metadata file that follows a row's, and leaves it in the directory before where that is another. Returns what has to be
    /// settled once it is current.
    pub(crate) async fn write_following(&self, row: &TableRow, uri: &str, json: Bytes) -> Result<Vec<String>> {
        self.write_metadata_file(row, uri, json.clone()).await?;
        let mut written = vec![uri.to_owned()];
        if let Some(left) = left_behind(row, uri) {
            self.failpoint("commit-between-metadata-files").await;
            if let Err(e) = self.write_metadata_file(row, &left, json).await {
                self.discard(row, uri, "a commit that could not leave its metadata file in the directory before").await;
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
        assert_eq!(with_left_behind(files), expected);
    }

    #[test]
    fn a_name_that_another_file_may_have_is_not_taken_for_a_copy() {
        let files = vec!["s3://b/t/metadata/v1.metadata.json".to_owned(), "s3://b/u/metadata/v2.metadata.json".to_owned()];
        assert_eq!(with_left_behind(files.clone()), files);
    }
}
