use std::collections::HashSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

/// A store whose disk can be filled: while it is full, every write fails as the operating system would have it fail.
#[derive(Debug, Clone)]
pub struct Faults {
    inner: Arc<dyn ObjectStore>,
    full: Arc<AtomicBool>,
    /// Writes of files whose path contains one of these wait.
    held: Arc<Mutex<HashSet<String>>>,
    /// The next write of a file whose path contains this has one bit turned.
    flipped: Arc<Mutex<HashSet<String>>>,
}

impl Faults {
    /// Over the local file system.
    pub fn local() -> Self {
        Self {
            inner: Arc::new(object_store::local::LocalFileSystem::new()),
            full: Arc::default(),
            held: Arc::default(),
            flipped: Arc::default(),
        }
    }

    /// Fills or empties the disk.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// Lets writes of files whose path contains this wait until they are released.
    pub fn hold(&self, part: &str) {
        self.held.lock().expect("a lock").insert(part.to_owned());
    }

    /// Lets them go on.
    pub fn release(&self, part: &str) {
        self.held.lock().expect("a lock").remove(part);
    }

    /// Turns one bit of the next file whose path contains this, once it is written.
    pub fn flip_a_bit_of(&self, part: &str) {
        self.flipped.lock().expect("a lock").insert(part.to_owned());
    }

    /// Takes the order back, if it is still open.
    pub fn flip_nothing_of(&self, part: &str) {
        self.flipped.lock().expect("a lock").remove(part);
    }

    async fn wait(&self, location: &Path) {
        while self.held.lock().expect("a lock").iter().any(|part| location.as_ref().contains(part.as_str())) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The payload, damaged if this is the file to be damaged.
    fn damage(&self, location: &Path, payload: PutPayload) -> PutPayload {
        let mut flipped = self.flipped.lock().expect("a lock");
        let Some(part) = flipped.iter().find(|part| location.as_ref().contains(part.as_str())).cloned() else { return payload };
        flipped.remove(&part);
        let mut bytes: Vec<u8> = payload.iter().flat_map(|part| part.to_vec()).collect();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        PutPayload::from(bytes)
    }

    fn check(&self) -> Result<()> {
        match self.full.load(Ordering::SeqCst) {
            true => Err(Error::Generic { store: "faults", source: Box::new(io::Error::from(io::ErrorKind::StorageFull)) }),
            false => Ok(()),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faults")
    }
}

#[async_trait]
impl ObjectStore for Faults {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.check()?;
        self.wait(location).await;
        let payload = self.damage(location, payload);
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.check()?;
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
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check()?;
        self.inner.copy_opts(from, to, options).await
    }
}
