//! [`Faults`]: an object store that fails or waits as a test wants. [`FaultSchedule`]: faults of every so many requests.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
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

/// What happens to one request to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request is served.
    Nothing,
    /// The request fails, and nothing was done.
    Unserved,
    /// The request is served, and its answer is lost.
    Unanswered,
}

/// Faults of every so many requests to a store, and a delay of each request. There are none until a test sets them.
///
/// Clones share the faults, so a test keeps one while a store has the other.
#[derive(Debug, Clone, Default)]
pub struct FaultSchedule {
    /// The number of requests of which one fails; 0: none fails.
    every: Arc<AtomicU64>,
    delay_ms: Arc<AtomicU64>,
    /// The number of requests that were counted so far.
    requests: Arc<AtomicU64>,
    /// The number of requests that failed so far.
    faults: Arc<AtomicU64>,
}

impl FaultSchedule {
    /// Makes one in `every` requests fail, or none if it is 0, and delays each request.
    pub fn set(&self, every: u64, delay: Duration) {
        self.every.store(every, Ordering::SeqCst);
        self.delay_ms.store(u64::try_from(delay.as_millis()).expect("a short delay"), Ordering::SeqCst);
    }

    /// Returns the number of requests that failed so far.
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::SeqCst)
    }

    /// Waits for the delay of the next request. Returns what happens to it.
    pub async fn next_fault(&self) -> Fault {
        let delay = self.delay_ms.load(Ordering::SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        let every = self.every.load(Ordering::SeqCst);
        if every == 0 || self.requests.fetch_add(1, Ordering::SeqCst) % every != every - 1 {
            return Fault::Nothing;
        }
        match self.faults.fetch_add(1, Ordering::SeqCst) % 2 {
            0 => Fault::Unserved,
            _ => Fault::Unanswered,
        }
    }
}

/// A store that fails on purpose: as with a full disk, without an answer, or with a damaged bit. It can also delay requests.
///
/// Clones share the faults, so a test keeps one while a server has the other.
#[derive(Debug, Clone)]
pub struct Faults {
    inner: Arc<dyn ObjectStore>,
    full: Arc<AtomicBool>,
    /// Requests about paths that contain this time out.
    away: Arc<Mutex<Option<String>>>,
    /// Requests about paths that contain this are denied.
    denied: Arc<Mutex<Option<String>>>,
    /// Reads of paths that contain one of these wait.
    held_reads: Arc<Mutex<HashSet<String>>>,
    /// Number of reads that wait.
    waiting: Arc<AtomicUsize>,
    /// Writes of paths that contain one of these wait.
    held: Arc<Mutex<HashSet<String>>>,
    /// Number of writes that wait.
    waiting_writes: Arc<AtomicUsize>,
    /// The next write of a path that contains one of these has one bit flipped.
    flipped: Arc<Mutex<HashSet<String>>>,
    /// Faults of reads and writes of all paths.
    schedule: FaultSchedule,
}

impl Faults {
    /// Returns a store over the local file system, without faults so far.
    pub fn local() -> Self {
        Self {
            inner: Arc::new(esker_storage::LocalStore::default()),
            full: Arc::default(),
            away: Arc::default(),
            denied: Arc::default(),
            held_reads: Arc::default(),
            waiting: Arc::default(),
            held: Arc::default(),
            waiting_writes: Arc::default(),
            flipped: Arc::default(),
            schedule: FaultSchedule::default(),
        }
    }

    /// Returns the schedule of faults of reads and writes, whatever their paths are. Lists and deletes still work.
    pub fn schedule(&self) -> &FaultSchedule {
        &self.schedule
    }

    /// Runs a request under the schedule of faults.
    async fn scheduled<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let fault = self.schedule.next_fault().await;
        if fault == Fault::Unserved {
            return Err(timed_out());
        }
        let answer = request.await?;
        match fault {
            Fault::Unanswered => Err(timed_out()),
            _ => Ok(answer),
        }
    }

    /// Makes writes fail as on a full disk, or no longer.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// Makes all reads and writes time out, or no longer. Lists and deletes still work.
    pub fn set_unreachable(&self, away: bool) {
        *self.away.lock().expect("a lock") = away.then(String::new);
    }

    /// Makes reads and writes of paths that contain `part` time out; of none if it is empty.
    pub fn set_unreachable_for(&self, part: &str) {
        *self.away.lock().expect("a lock") = (!part.is_empty()).then(|| part.to_owned());
    }

    /// Makes the store deny reads and writes of paths that contain `part`; of none if it is empty.
    pub fn deny(&self, part: &str) {
        *self.denied.lock().expect("a lock") = (!part.is_empty()).then(|| part.to_owned());
    }

    /// Makes reads of paths that contain `part` wait until [`Faults::release_reads`].
    pub fn hold_reads(&self, part: &str) {
        self.held_reads.lock().expect("a lock").insert(part.to_owned());
    }

    /// Lets all waiting reads continue.
    pub fn release_reads(&self) {
        self.held_reads.lock().expect("a lock").clear();
    }

    /// Returns once a read waits.
    pub async fn wait_for_a_held_read(&self) {
        while self.waiting.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits while reads of a path are held. Fails if the path is not to answer, before or after the wait.
    async fn wait_to_read(&self, location: &Path) -> Result<()> {
        self.answers(location)?;
        let held = || self.held_reads.lock().expect("a lock").iter().any(|part| location.as_ref().contains(part.as_str()));
        if held() {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            while held() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        self.answers(location)
    }

    /// Fails with the error of a timeout if the path is not to answer, and with that of denied access if it is denied.
    fn answers(&self, location: &Path) -> Result<()> {
        let is_about = |part: &Mutex<Option<String>>| {
            part.lock().expect("a lock").as_ref().is_some_and(|part| location.as_ref().contains(part.as_str()))
        };
        if is_about(&self.denied) {
            let source = Box::new(io::Error::from(io::ErrorKind::PermissionDenied));
            return Err(Error::PermissionDenied { path: location.to_string(), source });
        }
        match is_about(&self.away) {
            true => Err(timed_out()),
            false => Ok(()),
        }
    }

    /// Makes writes of paths that contain `part` wait until [`Faults::release`].
    pub fn hold(&self, part: &str) {
        self.held.lock().expect("a lock").insert(part.to_owned());
    }

    /// Returns once a write waits.
    pub async fn wait_for_a_held_write(&self) {
        while self.waiting_writes.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Lets the waiting writes of paths that contain `part` continue.
    pub fn release(&self, part: &str) {
        self.held.lock().expect("a lock").remove(part);
    }

    /// Flips one bit of the next file that is written to a path that contains `part`.
    pub fn flip_a_bit_of(&self, part: &str) {
        self.flipped.lock().expect("a lock").insert(part.to_owned());
    }

    /// Cancels [`Faults::flip_a_bit_of`], if no such file was written yet.
    pub fn cancel_bit_flip(&self, part: &str) {
        self.flipped.lock().expect("a lock").remove(part);
    }

    /// Waits while writes of a path are held.
    async fn wait(&self, location: &Path) {
        let held = || self.held.lock().expect("a lock").iter().any(|part| location.as_ref().contains(part.as_str()));
        if held() {
            self.waiting_writes.fetch_add(1, Ordering::SeqCst);
            while held() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            self.waiting_writes.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Returns the payload, with one bit flipped if that was asked for the path.
    fn damage(&self, location: &Path, payload: PutPayload) -> PutPayload {
        let mut flipped = self.flipped.lock().expect("a lock");
        let Some(part) = flipped.iter().find(|part| location.as_ref().contains(part.as_str())).cloned() else { return payload };
        flipped.remove(&part);
        let mut bytes: Vec<u8> = payload.iter().flat_map(|part| part.to_vec()).collect();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        PutPayload::from(bytes)
    }

    /// Fails if the path is not to answer, or if the disk is full.
    fn check(&self, location: &Path) -> Result<()> {
        self.answers(location)?;
        match self.full.load(Ordering::SeqCst) {
            true => Err(Error::Generic { store: "faults", source: Box::new(io::Error::from(io::ErrorKind::StorageFull)) }),
            false => Ok(()),
        }
    }
}

/// Returns the error of a request without an answer.
fn timed_out() -> Error {
    Error::Generic { store: "faults", source: Box::new(io::Error::from(io::ErrorKind::TimedOut)) }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faults")
    }
}

#[async_trait]
impl ObjectStore for Faults {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.check(location)?;
        self.wait(location).await;
        let payload = self.damage(location, payload);
        self.scheduled(self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.check(location)?;
        self.scheduled(self.inner.put_multipart_opts(location, options)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.wait_to_read(location).await?;
        self.scheduled(self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.wait_to_read(location).await?;
        self.scheduled(self.inner.get_ranges(location, ranges)).await
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
        self.check(to)?;
        self.scheduled(self.inner.copy_opts(from, to, options)).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    #[tokio::test]
    async fn every_third_request_fails_and_by_turns_it_is_served_or_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let faults = Faults::local();
        let path = |n: usize| Path::from_absolute_path(dir.path().join(n.to_string())).expect("a path");
        faults.schedule().set(3, Duration::ZERO);
        let mut failed = Vec::new();
        for n in 0..9 {
            if faults.put(&path(n), "x".into()).await.is_err() {
                failed.push(n);
            }
        }
        assert_eq!((failed, faults.schedule().faults()), (vec![2, 5, 8], 3));
        let there: Vec<usize> = (0..9).filter(|n| dir.path().join(n.to_string()).exists()).collect();
        assert_eq!(there, [0, 1, 3, 4, 5, 6, 7], "the third request was not served, the sixth was");
        faults.schedule().set(0, Duration::ZERO);
        faults.put(&path(8), "x".into()).await.expect("no faults any more");
    }
}
