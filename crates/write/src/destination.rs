//! The place that files are written to, with the record that is made before each write.
//!
//! A recorded file is a pending output: if the process dies, the record names the files to delete.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use esker_storage::Storage;
use futures::future::BoxFuture;

use crate::Result;

/// Records the locations of files before they are written.
///
/// A failure of the recorder prevents the write.
pub type Recorder = Arc<dyn Fn(Vec<String>) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// Counters of the cost of writes.
#[derive(Debug, Default)]
pub struct WriteCounters {
    /// Bytes passed to the storage.
    pub bytes: AtomicU64,
    /// Number of requests to the storage. Those of an upload are estimated from its size.
    pub requests: AtomicU64,
}

impl WriteCounters {
    /// Adds to both counters.
    pub(crate) fn add(&self, bytes: u64, requests: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
        self.requests.fetch_add(requests, Relaxed);
    }
}

/// A storage to write to, with the recorder of pending outputs. Cheap to clone; clones share the counters.
#[derive(Clone)]
pub struct Destination {
    /// The table's storage.
    pub storage: Storage,
    /// Called with the location of every file before it is written.
    pub recorder: Recorder,
    /// The cost of all writes to this destination.
    pub counters: Arc<WriteCounters>,
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Destination").field("storage", &self.storage).finish_non_exhaustive()
    }
}

impl Destination {
    /// Records a file, then writes all of it with one request.
    pub(crate) async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        (self.recorder)(vec![path.to_owned()]).await?;
        self.counters.add(bytes.len() as u64, 1);
        Ok(self.storage.write(path, bytes.into()).await?)
    }
}
