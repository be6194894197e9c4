use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use esker_storage::Storage;
use futures::future::BoxFuture;

use crate::Result;

/// Called with the paths of files before they are written.
pub type Recorder = Arc<dyn Fn(Vec<String>) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// What writing costs.
#[derive(Debug, Default)]
pub struct WriteCounters {
    /// Bytes handed to the storage.
    pub bytes: AtomicU64,
    /// Requests to it.
    pub requests: AtomicU64,
}

impl WriteCounters {
    pub(crate) fn add(&self, bytes: u64, requests: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
        self.requests.fetch_add(requests, Relaxed);
    }
}

/// Where files go, and who is told before. Cheap to clone.
#[derive(Clone)]
pub struct Destination {
    /// The table's storage.
    pub storage: Storage,
    /// Records files before they are written.
    pub record: Recorder,
    /// What it costs.
    pub counters: Arc<WriteCounters>,
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Destination").field("storage", &self.storage).finish_non_exhaustive()
    }
}

impl Destination {
    /// Writes a whole file.
    pub(crate) async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        (self.record)(vec![path.to_owned()]).await?;
        self.counters.add(bytes.len() as u64, 1);
        Ok(self.storage.write(path, bytes.into()).await?)
    }
}
