use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use iceberg::io::{FileIO, FileIOBuilder};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::adapter::Factory;
use crate::{Location, Result, StorageError};

/// One file of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its URI, normalised.
    pub uri: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since the epoch.
    pub modified_ms: i64,
}

/// An object store addressed by URI.
#[derive(Debug, Clone)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
}

impl Storage {
    /// The file system of this machine.
    pub fn local() -> Self {
        Self { store: Arc::new(LocalFileSystem::new()) }
    }

    /// Another store in its place: tests put one here that fails on purpose.
    pub fn with_store(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// The same store as the `iceberg` crate sees it.
    pub fn file_io(&self) -> FileIO {
        FileIOBuilder::new(Arc::new(Factory::new(self.clone()))).build()
    }

    /// The store and the path in it, for readers that need ranges and concurrency of their own.
    pub fn object(&self, uri: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
        Ok((self.store.clone(), to_path(uri)?))
    }

    /// A whole file.
    pub async fn read(&self, uri: &str) -> Result<Bytes> {
        let read = async { self.store.get(&to_path(uri)?).await.map_err(|e| StorageError::new(uri, e)) };
        read.await?.bytes().await.map_err(|e| StorageError::new(uri, e))
    }

    /// Bytes of a file.
    pub async fn read_range(&self, uri: &str, range: Range<u64>) -> Result<Bytes> {
        self.store.get_range(&to_path(uri)?, range).await.map_err(|e| StorageError::new(uri, e))
    }

    /// Writes a whole file, which appears complete or not at all.
    pub async fn write(&self, uri: &str, bytes: Bytes) -> Result<()> {
        self.store.put(&to_path(uri)?, bytes.into()).await.map_err(|e| StorageError::new(uri, e))?;
        Ok(())
    }

    /// The size in bytes, or `None` if nothing is there.
    pub async fn size(&self, uri: &str) -> Result<Option<u64>> {
        match self.store.head(&to_path(uri)?).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(StorageError::new(uri, e)),
        }
    }

    /// Removes a file; one that is not there counts as removed.
    ///
    /// Table files are deleted by one function only, `esker_catalog::deletion::sweep`, which calls this.
    pub async fn remove(&self, uri: &str) -> Result<()> {
        match self.store.delete(&to_path(uri)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(StorageError::new(uri, e)),
        }
    }

    /// Every file under a location, at any depth, in no particular order.
    pub fn list(&self, location: &Location) -> BoxStream<'static, Result<Listed>> {
        let uri = location.to_string();
        let prefix = match to_path(&uri) {
            Ok(prefix) => prefix,
            Err(e) => return futures::stream::once(async { Err(e) }).boxed(),
        };
        self.store
            .list(Some(&prefix))
            .map_ok(|meta| Listed {
                uri: format!("file:///{}", meta.location.as_ref()),
                size: meta.size,
                modified_ms: meta.last_modified.timestamp_millis(),
            })
            .map_err(move |e| StorageError::new(&uri, e))
            .boxed()
    }
}

fn to_path(uri: &str) -> Result<Path> {
    let location = Location::parse(uri)?;
    Path::parse(&location.path()[1..])
        .map_err(|_| StorageError::InvalidLocation { uri: uri.to_owned(), reason: "not a valid object path" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_with_odd_names_are_written_listed_read_and_removed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = Location::of_path(dir.path()).expect("valid");
        let storage = Storage::local();
        for name in ["plain", "day=2013-01-01/x.parquet", "a b+c%20d/é.bin"] {
            let uri = root.join(name).to_string();
            storage.write(&uri, Bytes::from_static(b"abcdef")).await.expect("written");
            assert!(dir.path().join(name).is_file(), "{name} is where engines look for it");
            assert_eq!(storage.read_range(&uri, 1..3).await.expect("read"), "bc");
            assert_eq!(storage.size(&uri).await.expect("head"), Some(6));
            let listed: Vec<Listed> = storage.list(&root).try_collect().await.expect("listed");
            assert_eq!(listed.iter().map(|l| l.uri.as_str()).collect::<Vec<_>>(), [uri.as_str()]);
            storage.remove(&uri).await.expect("removed");
            storage.remove(&uri).await.expect("removing twice is fine");
            assert!(matches!(storage.read(&uri).await, Err(StorageError::NotFound { .. })));
        }
    }
}
