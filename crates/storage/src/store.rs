//! [`Storage`]: the object stores of one warehouse, addressed by URI.
//!
//! Every operation goes through [`Storage::object`], which refuses URIs outside the warehouse's roots. Stores of buckets are opened
//! at their first use and kept. Nothing is retried here: the stores' clients do that ([`crate::cloud`]).

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::http::RequestCounts;
use crate::listing::{ListingPart, directories, list_concurrently, list_part, split};
use crate::{LocalStore, Location, Result, Scheme, Signer, SigningOptions, StorageError, VendingOptions, Vendor, cloud};

/// One file of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// The normalised URI of the file.
    pub uri: String,
    /// The size of the file, in bytes.
    pub size: u64,
    /// The time of the last modification, in milliseconds since the Unix epoch.
    pub modified_ms: i64,
}

/// The configuration of a warehouse's storage.
#[derive(Debug, Clone)]
pub struct StorageOptions {
    /// The locations in which files may be read and written. Everything outside is refused. If empty, the whole local file system
    /// is allowed.
    pub roots: Vec<Location>,
    /// Options of the cloud store, by the names that the `object_store` crate gives them: `endpoint`, `region`, `access_key_id`,
    /// `service_account_key`, `account_key`, …
    pub cloud: BTreeMap<String, String>,
    /// The store for `file:` locations. Tests put one here that fails on purpose.
    pub local: Arc<dyn ObjectStore>,
    /// The settings by which clients get credentials of the store that the first root is in; `None`: they get none.
    pub vending: Option<VendingOptions>,
    /// The settings by which requests of clients to that store are signed; `None`: they are not.
    pub signing: Option<SigningOptions>,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self { roots: Vec::new(), cloud: BTreeMap::new(), local: Arc::new(LocalStore::default()), vending: None, signing: None }
    }
}

/// The time in which a store must answer a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The object stores of one warehouse, addressed by URI. Cheap to clone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use esker_storage::{Location, Storage};
/// use futures::StreamExt;
///
/// let dir = tempfile::tempdir()?;
/// let table = Location::from_path(dir.path())?;
/// let file = table.join("data/a.parquet").to_string();
///
/// let storage = Storage::local();
/// storage.write(&file, "PAR1".into()).await?;
/// assert_eq!(storage.size(&file).await?, Some(4));
/// assert_eq!(storage.list(&table).count().await, 1);
///
/// // A file that is not there is no error for a removal, because another process may have removed it.
/// storage.remove(&file).await?;
/// storage.remove(&file).await?;
/// assert_eq!(storage.size(&file).await?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Storage {
    inner: Arc<StorageInner>,
}

/// The shared part of a [`Storage`].
#[derive(Debug)]
struct StorageInner {
    options: StorageOptions,
    /// The store of each bucket, opened at its first use. The key is the root of the bucket.
    buckets: Mutex<HashMap<Location, Arc<dyn ObjectStore>>>,
    requests: RequestCounts,
    vendor: Option<Vendor>,
    signer: Option<Signer>,
}

impl Storage {
    /// Returns storage that may use the whole local file system, and nothing else.
    pub fn local() -> Self {
        Self { inner: Arc::new(StorageInner::new(StorageOptions::default())) }
    }

    /// Opens storage, and the store of each root.
    ///
    /// The option keys are checked against the kind of store that the first root is in. No request is sent.
    ///
    /// # Errors
    ///
    /// Returns [`UnknownOption`](StorageError::UnknownOption) if that kind of store has no option of a given name. Returns
    /// [`Io`](StorageError::Io) if a store does not accept its options or credentials, and [`Denied`](StorageError::Denied) if this
    /// server may not read a file of credentials. Returns [`InvalidLocation`](StorageError::InvalidLocation) if credentials are to
    /// be vended or requests signed and the first root is not in S3, or if an endpoint has no form that this can work with. Returns
    /// [`StsUnavailable`](StorageError::StsUnavailable) if the client of that service can't be built.
    pub fn open(options: StorageOptions) -> Result<Self> {
        if let Some(root) = options.roots.first() {
            cloud::check_options(root.scheme(), &options.cloud)?;
        }
        let mut inner = StorageInner::new(options);
        if let (Some(root), Some(vending)) = (inner.options.roots.first(), &inner.options.vending) {
            inner.vendor = Some(Vendor::open(root, &inner.options.cloud, &inner.requests, vending.clone())?);
        }
        if let (Some(root), Some(signing)) = (inner.options.roots.first(), &inner.options.signing) {
            inner.signer = Some(Signer::open(root, &inner.options.cloud, &inner.requests, signing.clone())?);
        }
        let this = Self { inner: Arc::new(inner) };
        for root in &this.inner.options.roots {
            this.store(root)?;
        }
        Ok(this)
    }

    /// Returns the number of HTTP requests so far, retries included, by method and status.
    pub fn requests(&self) -> BTreeMap<(String, String), u64> {
        self.inner.requests.get()
    }

    /// Returns the vendor of credentials; `None` if this warehouse vends none.
    pub fn vendor(&self) -> Option<&Vendor> {
        self.inner.vendor.as_ref()
    }

    /// Returns the signer of requests; `None` if this warehouse signs none.
    pub fn signer(&self) -> Option<&Signer> {
        self.inner.signer.as_ref()
    }

    /// Returns the store that a location is in. Opens it at its first use.
    fn store(&self, at: &Location) -> Result<Arc<dyn ObjectStore>> {
        if at.scheme() == Scheme::File {
            return Ok(self.inner.options.local.clone());
        }
        let root = at.root();
        let mut buckets = self.inner.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = buckets.get(&root) {
            return Ok(store.clone());
        }
        let store = cloud::open(&root, &self.inner.options.cloud, &self.inner.requests)?;
        buckets.insert(root, store.clone());
        Ok(store)
    }

    /// Returns the store and the path in it, for readers that need ranges and concurrency of their own.
    ///
    /// Refuses URIs outside the warehouse: metadata and manifests are written by clients, and may name any file.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidLocation`](StorageError::InvalidLocation) if the URI is not a location, or lies outside the roots. Without
    /// roots, every location that is not `file:` lies outside.
    pub fn object(&self, uri: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
        let at = Location::parse(uri)?;
        let roots = &self.inner.options.roots;
        let allowed = match roots.is_empty() {
            true => at.scheme() == Scheme::File,
            false => roots.iter().any(|root| at == *root || at.is_inside(root)),
        };
        let invalid = |reason| StorageError::InvalidLocation { uri: uri.to_owned(), reason };
        if !allowed {
            return Err(invalid("outside the warehouse and its allowed locations"));
        }
        let path = Path::parse(at.key()).map_err(|_| invalid("not a valid object path"))?;
        Ok((self.store(&at)?, path))
    }

    /// Reads a whole file.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidLocation`](StorageError::InvalidLocation) if the URI is not allowed, and
    /// [`NotFound`](StorageError::NotFound) if no such file or bucket exists. Returns [`Denied`](StorageError::Denied) if the store
    /// forbids the read, [`Unavailable`](StorageError::Unavailable) if it does not answer or is overloaded, and
    /// [`Io`](StorageError::Io) for any other failure.
    pub async fn read(&self, uri: &str) -> Result<Bytes> {
        let (store, path) = self.object(uri)?;
        let read = store.get(&path).await.map_err(|e| StorageError::new(uri, e))?;
        read.bytes().await.map_err(|e| StorageError::new(uri, e))
    }

    /// Reads a range of bytes of a file. The end of the range is exclusive.
    ///
    /// # Errors
    ///
    /// Returns [`Truncated`](StorageError::Truncated) if the file ends before the range does, and otherwise what [`Self::read`]
    /// returns.
    pub async fn read_range(&self, uri: &str, range: Range<u64>) -> Result<Bytes> {
        let (store, path) = self.object(uri)?;
        let end = range.end;
        match store.get_range(&path, range).await {
            Ok(bytes) => Ok(bytes),
            Err(e) => Err(StorageError::for_range(uri, (store.as_ref(), &path), end, e).await),
        }
    }

    /// Writes a whole file, or replaces it. The file appears complete or not at all.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidLocation`](StorageError::InvalidLocation) if the URI is not allowed, [`NoBucket`](StorageError::NoBucket)
    /// if the bucket does not exist, and [`Full`](StorageError::Full) if the store has no room. Returns
    /// [`Denied`](StorageError::Denied) if the store forbids the write, [`Unavailable`](StorageError::Unavailable) if it does not
    /// answer or is overloaded, and [`Io`](StorageError::Io) for any other failure.
    pub async fn write(&self, uri: &str, bytes: Bytes) -> Result<()> {
        let (store, path) = self.object(uri)?;
        store.put(&path, bytes.into()).await.map_err(|e| StorageError::new(uri, e))?;
        Ok(())
    }

    /// Checks that the store answers, has the bucket, and lets this server list a location.
    ///
    /// Waits 5 seconds at most: a probe must not wait as long as other operations, which are retried.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidLocation`](StorageError::InvalidLocation) if the location is not allowed, and
    /// [`NoBucket`](StorageError::NoBucket) if the bucket does not exist. Returns [`Denied`](StorageError::Denied) if the listing
    /// is not permitted, and [`Unavailable`](StorageError::Unavailable) if no answer comes in time or the store is overloaded. Any
    /// other failure is [`Io`](StorageError::Io).
    pub async fn probe(&self, at: &Location) -> Result<()> {
        let uri = at.to_string();
        let (store, prefix) = self.object(&uri)?;
        match tokio::time::timeout(PROBE_TIMEOUT, store.list(Some(&prefix)).next()).await {
            Ok(None | Some(Ok(_))) => Ok(()),
            // An empty location lists as empty, so only the bucket can be missing. A directory is made with the first file in it.
            Ok(Some(Err(object_store::Error::NotFound { .. }))) if at.scheme() == Scheme::File => Ok(()),
            Ok(Some(Err(e))) => Err(StorageError::new(&uri, e)),
            Err(_) => {
                // The store's client still tries. Its tries say which endpoint is wrong, and in which way.
                let last = self.inner.requests.last_failure().map_or_else(String::new, |last| format!("; the last try: {last}"));
                let late = io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {} s{last}", PROBE_TIMEOUT.as_secs()));
                Err(StorageError::new(&uri, object_store::Error::Generic { store: "probe", source: Box::new(late) }))
            }
        }
    }

    /// Makes a directory and those above it, on a file system. Does nothing in an object store.
    ///
    /// Engines write into the directories of a table without making them.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidLocation`](StorageError::InvalidLocation) if the location is not allowed. On a file system, returns
    /// [`Full`](StorageError::Full) if there is no room, and [`Denied`](StorageError::Denied) if this server may not make the
    /// directory. Returns [`Unavailable`](StorageError::Unavailable) for another error that may pass, and
    /// [`Io`](StorageError::Io) for any other failure.
    pub async fn make_directory(&self, at: &Location) -> Result<()> {
        let uri = at.to_string();
        self.object(&uri)?;
        if at.scheme() != Scheme::File {
            return Ok(());
        }
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| {
            StorageError::new(&uri, object_store::Error::Generic { store: "LocalFileSystem", source })
        };
        let path = format!("/{}", at.key());
        let made = tokio::task::spawn_blocking(move || std::fs::create_dir_all(path)).await;
        made.map_err(|e| failed(e.into()))?.map_err(|e| failed(e.into()))
    }

    /// Returns the size of a file in bytes, or `None` if no such file exists.
    ///
    /// # Errors
    ///
    /// Returns what [`Self::stat`] returns.
    pub async fn size(&self, uri: &str) -> Result<Option<u64>> {
        Ok(self.stat(uri).await?.map(|found| found.size))
    }

    /// Returns the entry that a listing would have for a file, or `None` if no such file exists.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidLocation`](StorageError::InvalidLocation) if the URI is not allowed. Returns
    /// [`Denied`](StorageError::Denied) if the store forbids the request, [`Unavailable`](StorageError::Unavailable) if it does not
    /// answer or is overloaded, and [`Io`](StorageError::Io) for any other failure.
    pub async fn stat(&self, uri: &str) -> Result<Option<ListedObject>> {
        let (store, path) = self.object(uri)?;
        match store.head(&path).await {
            Ok(meta) => Ok(Some(listed(&Location::parse(uri)?.root(), meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(StorageError::new(uri, e)),
        }
    }

    /// Removes a file. A file that does not exist counts as removed.
    ///
    /// Table files are deleted by one function only, `esker_catalog::deletion::sweep`, which calls this.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidLocation`](StorageError::InvalidLocation) if the URI is not allowed, and
    /// [`NoBucket`](StorageError::NoBucket) if the bucket does not exist. Returns [`Denied`](StorageError::Denied) if the store
    /// forbids the request, [`Unavailable`](StorageError::Unavailable) if it does not answer or is overloaded, and
    /// [`Io`](StorageError::Io) for any other failure.
    pub async fn remove(&self, uri: &str) -> Result<()> {
        let (store, path) = self.object(uri)?;
        match store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(StorageError::new(uri, e)),
        }
    }

    /// Returns the directories directly under a location.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidLocation`](StorageError::InvalidLocation) if the location is not allowed, and
    /// [`NoBucket`](StorageError::NoBucket) if the bucket does not exist. Returns [`Denied`](StorageError::Denied) if the store
    /// forbids the listing, [`Unavailable`](StorageError::Unavailable) if it does not answer or is overloaded, and
    /// [`Io`](StorageError::Io) for any other failure.
    pub async fn directories(&self, location: &Location) -> Result<Vec<Location>> {
        let uri = location.to_string();
        let (store, prefix) = self.object(&uri)?;
        let found = store.list_with_delimiter(Some(&prefix)).await.map_err(|e| StorageError::new(&uri, e))?;
        let root = location.root();
        Ok(found.common_prefixes.iter().map(|dir| root.join(dir.as_ref())).collect())
    }

    /// Cuts a location into parts that can be listed independently of each other.
    ///
    /// Together with the returned files, which are in no part, they hold everything under the location.
    ///
    /// # Errors
    ///
    /// Returns what [`Self::directories`] returns.
    pub async fn listing_parts(&self, location: &Location) -> Result<(Vec<ListingPart>, Vec<ListedObject>)> {
        let uri = location.to_string();
        let (store, prefix) = self.object(&uri)?;
        let found = match location.scheme() {
            Scheme::File => directories(store.as_ref(), &prefix).await,
            _ => split(store.as_ref(), prefix).await,
        };
        let (parts, files) = found.map_err(|e| StorageError::new(&uri, e))?;
        let root = location.root();
        Ok((parts, files.into_iter().map(|meta| listed(&root, meta)).collect()))
    }

    /// Lists the files of one part of a location.
    ///
    /// # Errors
    ///
    /// The stream yields the errors that [`Self::directories`] returns, and [`InvalidLocation`](StorageError::InvalidLocation) if
    /// the part is not one of the location.
    pub fn list_part(&self, location: &Location, part: ListingPart) -> BoxStream<'static, Result<ListedObject>> {
        let uri = location.to_string();
        let refusal = match self.object(&uri) {
            Ok((store, prefix)) if part.is_in(&prefix) => {
                let (root, found) = (location.root(), list_part(&store, part));
                return found.map_ok(move |meta| listed(&root, meta)).map_err(move |e| StorageError::new(&uri, e)).boxed();
            }
            Ok(_) => StorageError::InvalidLocation { uri, reason: "the part of the listing is not in it" },
            Err(e) => e,
        };
        futures::stream::once(async { Err(refusal) }).boxed()
    }

    /// Lists every file under a location, at any depth, in no particular order. In a cloud store, many requests run at once.
    ///
    /// # Errors
    ///
    /// The stream yields the errors that [`Self::directories`] returns.
    pub fn list(&self, location: &Location) -> BoxStream<'static, Result<ListedObject>> {
        let uri = location.to_string();
        let (store, prefix) = match self.object(&uri) {
            Ok(found) => found,
            Err(e) => return futures::stream::once(async { Err(e) }).boxed(),
        };
        let root = location.root();
        let listed = match location.scheme() {
            // A file system lists names in no order, so it can't be cut into ranges.
            Scheme::File => store.list(Some(&prefix)),
            _ => list_concurrently(store, prefix),
        };
        listed.map_ok(move |meta| self::listed(&root, meta)).map_err(move |e| StorageError::new(&uri, e)).boxed()
    }
}

/// Makes an entry of a listing from the store's record of a file.
fn listed(root: &Location, meta: ObjectMeta) -> ListedObject {
    let modified_ms = meta.last_modified.timestamp_millis();
    ListedObject { uri: root.join(meta.location.as_ref()).to_string(), size: meta.size, modified_ms }
}

impl StorageInner {
    /// Makes the shared part. No store is opened yet.
    fn new(options: StorageOptions) -> Self {
        Self { options, buckets: Mutex::default(), requests: RequestCounts::default(), vendor: None, signer: None }
    }
}

#[cfg(test)]
mod tests {
    use esker_types::{Coded, ErrorCode};

    use super::*;

    #[tokio::test]
    async fn files_with_odd_names_are_written_listed_read_and_removed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = Location::from_path(dir.path()).expect("valid");
        let storage = Storage::local();
        for name in ["plain", "day=2013-01-01/x.parquet", "a b+c%20d/é.bin"] {
            let uri = root.join(name).to_string();
            storage.write(&uri, Bytes::from_static(b"abcdef")).await.expect("written");
            assert!(dir.path().join(name).is_file(), "{name} is where engines look for it");
            assert_eq!(storage.read_range(&uri, 1..3).await.expect("read"), "bc");
            assert_eq!(storage.size(&uri).await.expect("head"), Some(6));
            let listed: Vec<ListedObject> = storage.list(&root).try_collect().await.expect("listed");
            assert_eq!(listed.iter().map(|l| l.uri.as_str()).collect::<Vec<_>>(), [uri.as_str()]);
            storage.remove(&uri).await.expect("removed");
            storage.remove(&uri).await.expect("removing twice is fine");
            assert!(matches!(storage.read(&uri).await, Err(StorageError::NotFound { .. })));
        }
    }

    #[tokio::test]
    async fn a_file_that_ends_before_what_is_read_of_it_is_damaged() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = Location::from_path(dir.path()).expect("valid");
        let storage = Storage::local();
        let uri = root.join("x").to_string();
        storage.write(&uri, Bytes::new()).await.expect("written");
        let error = storage.read_range(&uri, 0..8).await.expect_err("nothing is in it");
        assert!(matches!(error, StorageError::Truncated { size: 0, end: 8, .. }), "{error}");
        assert_eq!(error.code(), ErrorCode::DataInvalid);
    }

    #[tokio::test]
    async fn a_part_of_another_listing_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = Location::from_path(dir.path()).expect("valid");
        let storage = Storage::local();
        let (here, beside) = (root.join("t"), root.join("t2"));
        for table in [&here, &beside] {
            storage.write(&table.join("data/x").to_string(), Bytes::new()).await.expect("written");
        }
        let (parts, _) = storage.listing_parts(&beside).await.expect("parts");
        let [part] = parts.as_slice() else { panic!("one directory") };
        let listed: Vec<ListedObject> = storage.list_part(&beside, part.clone()).try_collect().await.expect("listed");
        assert_eq!(listed.len(), 1);
        let error = storage.list_part(&here, part.clone()).try_collect::<Vec<_>>().await.expect_err("another table's part");
        assert!(matches!(error, StorageError::InvalidLocation { .. }), "{error}");
    }

    #[tokio::test]
    async fn what_lies_outside_the_roots_is_neither_read_nor_written() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = Location::from_path(&dir.path().join("w")).expect("valid");
        let storage = Storage::open(StorageOptions { roots: vec![root.clone()], ..StorageOptions::default() }).expect("valid");
        let outside = Location::from_path(&dir.path().join("w2/x")).expect("valid").to_string();
        for uri in [outside.as_str(), "file:///etc/passwd", "s3://bucket/key"] {
            assert!(matches!(storage.read(uri).await, Err(StorageError::InvalidLocation { .. })), "{uri}");
            assert!(matches!(storage.write(uri, Bytes::new()).await, Err(StorageError::InvalidLocation { .. })), "{uri}");
        }
        storage.write(&root.join("x").to_string(), Bytes::new()).await.expect("inside");
    }
}
