//! The `iceberg` crate's storage trait over [`Storage`].

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use esker_types::Carried;
use futures::StreamExt;
use futures::stream::BoxStream;
use iceberg::io::{FileMetadata, FileRead, FileWrite, InputFile, OutputFile, StorageConfig, StorageFactory};
use iceberg::{Error, ErrorKind};
use object_store::buffered::BufWriter;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use crate::{Storage, StorageError};

/// Bytes kept before a file is written in parts.
const WRITE_BUFFER: usize = 8 << 20;

fn failed(error: StorageError) -> Error {
    Error::new(ErrorKind::Unexpected, error.to_string()).with_source(Carried::new(error))
}

fn default_storage() -> Storage {
    Storage::local()
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Factory {
    #[serde(skip, default = "default_storage")]
    storage: Storage,
}

impl Factory {
    pub(crate) fn new(storage: Storage) -> Self {
        Self { storage }
    }
}

#[typetag::serde]
impl StorageFactory for Factory {
    fn build(&self, _config: &StorageConfig) -> iceberg::Result<Arc<dyn iceberg::io::Storage>> {
        Ok(Arc::new(Adapter { storage: self.storage.clone() }))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Adapter {
    #[serde(skip, default = "default_storage")]
    storage: Storage,
}

#[async_trait]
#[typetag::serde]
impl iceberg::io::Storage for Adapter {
    async fn exists(&self, path: &str) -> iceberg::Result<bool> {
        Ok(self.storage.size(path).await.map_err(failed)?.is_some())
    }

    async fn metadata(&self, path: &str) -> iceberg::Result<FileMetadata> {
        let size = self.storage.size(path).await.map_err(failed)?;
        let size = size.ok_or_else(|| failed(StorageError::NotFound { uri: path.to_owned() }))?;
        Ok(FileMetadata { size })
    }

    async fn read(&self, path: &str) -> iceberg::Result<Bytes> {
        self.storage.read(path).await.map_err(failed)
    }

    async fn reader(&self, path: &str) -> iceberg::Result<Box<dyn FileRead>> {
        Ok(Box::new(Ranges { storage: self.storage.clone(), uri: path.to_owned() }))
    }

    async fn write(&self, path: &str, bytes: Bytes) -> iceberg::Result<()> {
        self.storage.write(path, bytes).await.map_err(failed)
    }

    async fn writer(&self, path: &str) -> iceberg::Result<Box<dyn FileWrite>> {
        let (store, object) = self.storage.object(path).map_err(failed)?;
        let writer = BufWriter::with_capacity(store, object, WRITE_BUFFER);
        Ok(Box::new(Parts { writer, uri: path.to_owned() }))
    }

    async fn delete(&self, path: &str) -> iceberg::Result<()> {
        Err(no_delete(path))
    }

    async fn delete_prefix(&self, path: &str) -> iceberg::Result<()> {
        Err(no_delete(path))
    }

    async fn delete_stream(&self, mut paths: BoxStream<'static, String>) -> iceberg::Result<()> {
        match paths.next().await {
            Some(path) => Err(no_delete(&path)),
            None => Ok(()),
        }
    }

    fn new_input(&self, path: &str) -> iceberg::Result<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), path.to_owned()))
    }

    fn new_output(&self, path: &str) -> iceberg::Result<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), path.to_owned()))
    }
}

/// One function deletes files, and it does not come this way.
fn no_delete(path: &str) -> Error {
    Error::new(ErrorKind::FeatureUnsupported, format!("{path}: files are deleted through quarantine only"))
}

#[derive(Debug)]
struct Ranges {
    storage: Storage,
    uri: String,
}

#[async_trait]
impl FileRead for Ranges {
    async fn read(&self, range: Range<u64>) -> iceberg::Result<Bytes> {
        self.storage.read_range(&self.uri, range).await.map_err(failed)
    }
}

struct Parts {
    writer: BufWriter,
    uri: String,
}

impl Parts {
    fn failed(&self, error: std::io::Error) -> Error {
        failed(StorageError::new(&self.uri, object_store::Error::Generic { store: "write", source: Box::new(error) }))
    }
}

#[async_trait]
impl FileWrite for Parts {
    async fn write(&mut self, bytes: Bytes) -> iceberg::Result<()> {
        let written = self.writer.write_all(&bytes).await;
        written.map_err(|e| self.failed(e))
    }

    async fn close(&mut self) -> iceberg::Result<()> {
        let closed = self.writer.shutdown().await;
        closed.map_err(|e| self.failed(e))
    }
}
