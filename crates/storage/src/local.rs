//! [`LocalStore`]: the local file system as an object store, whose listings go on past names that they can't represent.
//!
//! Reads and writes are those of `object_store`'s [`LocalFileSystem`]. Only the two listings are Esker's own: [`Walk`] goes through
//! the directories on a blocking thread and hands out files in chunks. Start reading with [`inspect_entry`], which decides what an
//! entry is.

use std::collections::VecDeque;
use std::fs::{DirEntry, Metadata, ReadDir};
use std::ops::Range;
use std::path::{Path as OsPath, PathBuf};
use std::{fmt, fs, io};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// The number of files that are read on the blocking thread before the first of them is handed out.
const FILES_PER_CHUNK: usize = 1024;

/// The local file system as an object store.
///
/// A listing of [`LocalFileSystem`] fails at the first name that is not a valid path of a store (one with a tab, or not in UTF-8).
/// It also fails at a symbolic link to a directory that contains the link. This store skips both and logs them. No table refers to
/// a file with such a name, and such a link leads only to files that are listed anyway.
#[derive(Debug, Default)]
pub struct LocalStore {
    inner: LocalFileSystem,
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

/// Returns the path on disk of a path in the store. `None` is the root directory.
fn on_disk(path: Option<&Path>) -> PathBuf {
    PathBuf::from(format!("/{}", path.map_or("", |path| path.as_ref())))
}

/// Converts an error of the operating system to one of the store, and adds the path to its text.
fn failed(at: &OsPath, error: io::Error) -> Error {
    let error = io::Error::new(error.kind(), format!("{}: {error}", at.display()));
    Error::Generic { store: "LocalFileSystem", source: Box::new(error) }
}

/// Logs that a listing skips an entry.
fn log_skipped(at: &OsPath, why: &dyn fmt::Display) {
    tracing::warn!(path = %at.display(), why = %why, "a listing skips a file or directory, with everything in it");
}

/// An entry of a directory that a listing reports.
enum LocalEntry {
    Directory(PathBuf, Path),
    File(ObjectMeta),
}

/// Inspects an entry of a directory. Returns `None` for one that a listing leaves out.
///
/// A listing leaves out entries without a valid path, files that were removed meanwhile, broken links, links to a directory that
/// contains them, and files that are only partly written. It also leaves out what is neither a file nor a directory, such as a
/// socket.
fn inspect_entry(entry: &DirEntry) -> Result<Option<LocalEntry>> {
    let at = entry.path();
    let is_link = entry.file_type().is_ok_and(|ty| ty.is_symlink());
    let metadata = match fs::metadata(&at) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) if is_link => {
            log_skipped(&at, &e);
            return Ok(None);
        }
        Err(e) => return Err(failed(&at, e)),
    };
    let location = match Path::from_absolute_path(&at) {
        Ok(location) => location,
        Err(e) => {
            log_skipped(&at, &e);
            return Ok(None);
        }
    };
    if metadata.is_dir() {
        if is_link && links_to_ancestor(&at).map_err(|e| failed(&at, e))? {
            log_skipped(&at, &"it is a symbolic link to a directory that contains it");
            return Ok(None);
        }
        return Ok(Some(LocalEntry::Directory(at, location)));
    }
    if !metadata.is_file() || is_partial_write(&location) {
        return Ok(None);
    }
    Ok(Some(LocalEntry::File(object_meta(&at, location, &metadata)?)))
}

/// Checks that a symbolic link points to a directory that contains the link.
fn links_to_ancestor(link: &OsPath) -> io::Result<bool> {
    let lies_in = fs::canonicalize(link.parent().unwrap_or(link))?;
    Ok(lies_in.starts_with(fs::canonicalize(link)?))
}

/// Checks for the name of an unfinished write: `object_store` writes a file as `NAME#NUMBER` first.
fn is_partial_write(location: &Path) -> bool {
    let number = location.filename().and_then(|name| name.split_once('#')).map_or("", |(_, number)| number);
    !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

/// Makes the record of a file from its metadata.
fn object_meta(at: &OsPath, location: Path, metadata: &Metadata) -> Result<ObjectMeta> {
    let modified = metadata.modified().map_err(|e| failed(at, e))?;
    Ok(ObjectMeta { location, last_modified: modified.into(), size: metadata.len(), e_tag: None, version: None })
}

/// Opens a directory. Returns `None` if no such directory exists.
fn read_dir_if_exists(dir: &OsPath) -> Result<Option<ReadDir>> {
    match fs::read_dir(dir) {
        Ok(entries) => Ok(Some(entries)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(failed(dir, e)),
    }
}

/// An iterator over every file below a directory, at any depth, in no particular order.
struct Walk {
    /// The directories that are still to be read.
    pending_dirs: Vec<PathBuf>,
    /// The path of the directory that is being read, and its remaining entries.
    open_dir: Option<(PathBuf, ReadDir)>,
}

impl Walk {
    /// Returns the next file, or `None` at the end.
    fn step(&mut self) -> Result<Option<ObjectMeta>> {
        loop {
            let Some((dir, here)) = &mut self.open_dir else {
                let Some(dir) = self.pending_dirs.pop() else { return Ok(None) };
                self.open_dir = read_dir_if_exists(&dir)?.map(|found| (dir, found));
                continue;
            };
            match here.next().transpose().map_err(|e| failed(dir, e))? {
                None => self.open_dir = None,
                Some(entry) => match inspect_entry(&entry)? {
                    Some(LocalEntry::Directory(below, _)) => self.pending_dirs.push(below),
                    Some(LocalEntry::File(file)) => return Ok(Some(file)),
                    None => {}
                },
            }
        }
    }
}

impl Iterator for Walk {
    type Item = Result<ObjectMeta>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let walk = Walk { pending_dirs: vec![on_disk(prefix)], open_dir: None };
        let next = |(mut walk, mut ready): (Walk, VecDeque<Result<ObjectMeta>>)| async move {
            if ready.is_empty() {
                let taken = tokio::task::spawn_blocking(move || {
                    let ready = walk.by_ref().take(FILES_PER_CHUNK).collect();
                    (walk, ready)
                });
                (walk, ready) = taken.await?;
            }
            Ok(ready.pop_front().transpose()?.map(|file| (file, (walk, ready))))
        };
        futures::stream::try_unfold((walk, VecDeque::new()), next).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let dir = on_disk(prefix);
        let listed = tokio::task::spawn_blocking(move || {
            let mut found = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
            for entry in read_dir_if_exists(&dir)?.into_iter().flatten() {
                match inspect_entry(&entry.map_err(|e| failed(&dir, e))?)? {
                    Some(LocalEntry::Directory(_, location)) => found.common_prefixes.push(location),
                    Some(LocalEntry::File(file)) => found.objects.push(file),
                    None => {}
                }
            }
            found.common_prefixes.sort();
            Ok(found)
        });
        listed.await?
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use futures::TryStreamExt;

    use super::*;

    fn names(dir: &OsPath, found: &[ObjectMeta]) -> Vec<String> {
        let root = format!("{}/", Path::from_absolute_path(dir).expect("a path"));
        let mut names: Vec<String> = found.iter().map(|f| f.location.as_ref().replace(&root, "")).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn what_no_store_can_name_is_passed_over_and_everything_else_is_listed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let put = |name: &str| {
            let at = dir.path().join(name);
            fs::create_dir_all(at.parent().expect("a directory")).expect("made");
            fs::write(at, name).expect("written");
        };
        for name in ["a.parquet", "a\tb.parquet", "z/c.parquet", "z/d\u{7f}.parquet", "t\tab/e.parquet", "x#1", "x#y", "k=1/a b"]
        {
            put(name);
        }
        let not_utf8 = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff.parquet");
        fs::write(dir.path().join(not_utf8), "x").expect("written");
        symlink(dir.path(), dir.path().join("z/up")).expect("linked");
        symlink(dir.path().join("nowhere"), dir.path().join("broken")).expect("linked");
        symlink("itself", dir.path().join("itself")).expect("linked");
        symlink(dir.path().join("z"), dir.path().join("beside")).expect("linked");

        let prefix = Path::from_absolute_path(dir.path()).expect("a path");
        let listed: Vec<ObjectMeta> = LocalStore::default().list(Some(&prefix)).try_collect().await.expect("listed");
        let all = ["a.parquet", "beside/c.parquet", "k=1/a b", "x#y", "z/c.parquet"];
        assert_eq!(names(dir.path(), &listed), all);
        assert_eq!(listed.iter().find(|f| f.location.as_ref().ends_with("/a.parquet")).expect("there").size, 9);
        let here = LocalStore::default().list_with_delimiter(Some(&prefix)).await.expect("listed");
        assert_eq!(names(dir.path(), &here.objects), ["a.parquet", "x#y"]);
        let below: Vec<&str> = here.common_prefixes.iter().filter_map(Path::filename).collect();
        assert_eq!(below, ["beside", "k=1", "z"]);
        let nothing =
            LocalStore::default().list(Some(&prefix.clone().join("none"))).try_collect::<Vec<_>>().await.expect("listed");
        assert_eq!(nothing, []);
    }

    /// A listing of valid names equals that of `object_store`.
    #[tokio::test]
    async fn a_listing_equals_that_of_object_store() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let prefix = Path::from_absolute_path(dir.path()).expect("a path");
        for i in 0..2500 {
            let at = dir.path().join(format!("d{}/e{}/f%20{i}.é", i % 7, i % 3));
            fs::create_dir_all(at.parent().expect("a directory")).expect("made");
            fs::write(at, "x".repeat(i % 5)).expect("written");
        }
        let of = async |store: &dyn ObjectStore| {
            let found: Vec<ObjectMeta> = store.list(Some(&prefix)).try_collect().await.expect("listed");
            let mut found: Vec<_> = found.into_iter().map(|f| (f.location.to_string(), f.size, f.last_modified)).collect();
            found.sort();
            found
        };
        let (ours, theirs) = (of(&LocalStore::default()).await, of(&LocalFileSystem::new()).await);
        assert_eq!(ours.len(), 2500);
        assert_eq!(ours, theirs);
    }
}
