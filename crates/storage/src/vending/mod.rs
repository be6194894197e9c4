//! Vended credentials: short-lived keys of an object store that reach the places of one table and nothing else.
//!
//! A [`Grant`] is a level and the places. In S3, `policy.rs` turns it into a session policy, and a Security Token Service turns that
//! into credentials with no other rights. In Google Cloud Storage, `gcs.rs` narrows a token, and in Azure, `adls.rs` signs for one
//! directory. [`Vendor`] keeps them until a third of their life is left, so that loads don't ask again.
//! The caller decides who gets which level, and checks that the places are the table's own.
//!
//! Start reading at [`Vendor::vend`], then at `policy.rs`.

mod adls;
mod gcs;
mod policy;
mod prefix;
mod sts;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use esker_types::{CodedError, Millis, now_ms};
use moka::future::Cache;

pub use prefix::PolicyPrefix;
pub use sts::{ALL_BUT_UNRESERVED, SessionName};

use crate::http::RequestCounts;
use crate::sigv4::sha256_hex;
use crate::{Location, Result, Scheme, StorageError, cloud};
use adls::Adls;
use gcs::Gcs;
use policy::session_policy;
use sts::Sts;

/// Maximum number of credentials that are kept for a warehouse.
const KEPT: u64 = 10_000;

/// The rights of a vended credential. A higher level has all rights of the lower ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// To read objects, and to list them.
    Read,
    /// To write objects too.
    Write,
    /// To delete objects too.
    WriteDelete,
}

impl Level {
    /// Returns the name of the level.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::WriteDelete => "write-delete",
        }
    }
}

/// A level, and the places that it holds for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Grant {
    level: Level,
    /// Sorted, and none within another.
    prefixes: Vec<PolicyPrefix>,
}

impl Grant {
    /// Makes a grant. A place within another one is left out.
    pub fn new(level: Level, mut prefixes: Vec<PolicyPrefix>) -> Self {
        prefixes.sort();
        // A place sorts directly before those within it, because its key is their beginning.
        prefixes.dedup_by(|inner, outer| inner.is_within(outer));
        Self { level, prefixes }
    }

    /// Returns the level.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Returns the places, sorted, none within another.
    pub fn prefixes(&self) -> &[PolicyPrefix] {
        &self.prefixes
    }

    /// Returns the buckets of places in one kind of store, each once.
    fn buckets(&self) -> Vec<&str> {
        let mut buckets: Vec<&str> = self.prefixes.iter().map(PolicyPrefix::bucket).collect();
        // The places are sorted, so those of a bucket stand together.
        buckets.dedup();
        buckets
    }
}

/// Credentials of S3 for a grant. They end by themselves, and nothing ends them earlier.
#[derive(Clone, PartialEq, Eq)]
pub struct Vended {
    /// Id of the access key, which the store's own logs show. It is no secret.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: String,
    /// Session token, which each request with the key must have.
    pub session_token: String,
    /// End of the credentials, in milliseconds since the Unix epoch.
    pub expires_ms: Millis,
}

impl fmt::Debug for Vended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Vended");
        shown.field("access_key_id", &self.access_key_id).field("expires_ms", &self.expires_ms).finish_non_exhaustive()
    }
}

/// A token of Google Cloud Storage for a grant.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken {
    /// The token.
    pub token: String,
    /// End of the token at the earliest, in milliseconds since the Unix epoch.
    pub expires_ms: Millis,
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerToken").field("expires_ms", &self.expires_ms).finish_non_exhaustive()
    }
}

/// A shared access signature of Azure for a grant.
#[derive(Clone, PartialEq, Eq)]
pub struct DirectorySas {
    /// The parameters of signed URLs, without a question mark.
    pub token: String,
    /// Name of the account.
    pub account: String,
    /// Host of the account, as the locations have it.
    pub host: String,
    /// End of the signature, in milliseconds since the Unix epoch.
    pub expires_ms: Millis,
}

impl fmt::Debug for DirectorySas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("DirectorySas");
        shown.field("host", &self.host).field("expires_ms", &self.expires_ms).finish_non_exhaustive()
    }
}

/// Credentials for a grant, by the kind of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// Keys of S3.
    S3(Vended),
    /// A token of Google Cloud Storage.
    Gcs(BearerToken),
    /// A signature of Azure.
    Adls(DirectorySas),
}

impl Credential {
    /// Returns a text that tells the credentials from others, and is no secret: the id of the access key, or the beginning of a hash.
    pub fn id(&self) -> String {
        match self {
            Self::S3(keys) => keys.access_key_id.clone(),
            Self::Gcs(BearerToken { token, .. }) | Self::Adls(DirectorySas { token, .. }) => {
                sha256_hex(token.as_bytes())[..24].to_owned()
            }
        }
    }

    /// Returns the end of the credentials, in milliseconds since the Unix epoch.
    pub fn expires_ms(&self) -> Millis {
        match self {
            Self::S3(keys) => keys.expires_ms,
            Self::Gcs(token) => token.expires_ms,
            Self::Adls(sas) => sas.expires_ms,
        }
    }

    /// Returns the keys of S3, if they are that.
    pub fn as_s3(&self) -> Option<&Vended> {
        match self {
            Self::S3(keys) => Some(keys),
            Self::Gcs(_) | Self::Adls(_) => None,
        }
    }
}

/// The settings of a warehouse that vends credentials.
#[derive(Debug, Clone)]
pub struct VendingOptions {
    /// ARN of the role that is assumed. MinIO needs none.
    pub role_arn: Option<String>,
    /// External id that the role's trust policy asks for.
    pub external_id: Option<String>,
    /// URL of the token service; by default that of the store, AWS's in the region, Google's, or the Blob endpoint of the account.
    pub sts_endpoint: Option<String>,
    /// Region of the token service; by default that of the store.
    pub region: Option<String>,
    /// ARN of the key that encrypts the bucket, if a key of one's own does.
    pub kms_key_arn: Option<String>,
    /// Life of the credentials.
    pub duration: Duration,
    /// Highest level that a caller with a token gets; `None`: nothing.
    pub level: Option<Level>,
    /// Highest level that an anonymous caller gets; `None`: nothing.
    pub anonymous_level: Option<Level>,
}

/// A request for credentials: everything that they depend on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VendRequest {
    /// Id of the table.
    pub table: String,
    /// Level and places.
    pub grant: Grant,
    /// Name of the session, which stands for the principal.
    pub session: SessionName,
}

/// Credentials that are given out again until a time.
#[derive(Debug, Clone)]
struct Kept {
    vended: Arc<Credential>,
    /// Time from which on others are got, in milliseconds since the Unix epoch.
    until_ms: Millis,
}

/// Returns the time until which credentials that were got at `now_ms` are given out: a third of their life before their end.
fn kept_until(now_ms: Millis, expires_ms: Millis) -> Millis {
    now_ms.saturating_add(expires_ms.saturating_sub(now_ms).max(0) / 3 * 2)
}

/// Vends the credentials of one warehouse, and keeps them in memory only.
pub struct Vendor {
    options: VendingOptions,
    /// Region of a store in S3, which may be another than that of the token service.
    region: String,
    source: Source,
    kept: Cache<VendRequest, Kept>,
}

/// The source of new credentials, by the kind of the store.
#[derive(Debug)]
enum Source {
    /// The token service of S3.
    S3(Sts),
    /// Google's token service.
    Gcs(Gcs),
    /// An account in Azure.
    Adls(Adls),
}

impl fmt::Debug for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vendor").field("region", &self.region).field("source", &self.source).finish_non_exhaustive()
    }
}

impl Vendor {
    /// Makes the vendor of a warehouse. Sends no request.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidLocation`](crate::StorageError::InvalidLocation) if the warehouse is in no object store or the token service's
    /// endpoint is not a URL of HTTP, [`StsUnavailable`](crate::StorageError::StsUnavailable) if the HTTP client can't be built,
    /// and other errors of the store's options.
    pub(crate) fn open(
        at: &Location,
        cloud: &BTreeMap<String, String>,
        requests: &RequestCounts,
        options: VendingOptions,
    ) -> Result<Self> {
        let (region, source) = match at.scheme() {
            Scheme::S3 => {
                let access = cloud::s3_access(at, cloud, requests)?;
                (access.region.clone(), Source::S3(Sts::new(&options, access)?))
            }
            Scheme::Gcs => (String::new(), Source::Gcs(Gcs::new(&options, cloud::gcs_token(at, cloud, requests)?)?)),
            Scheme::Adls => (String::new(), Source::Adls(Adls::new(at, &options, cloud::adls_token(at, cloud, requests)?)?)),
            Scheme::File => {
                return Err(StorageError::InvalidLocation { uri: at.to_string(), reason: "not a location in an object store" });
            }
        };
        let kept = Cache::builder().max_capacity(KEPT).time_to_live(options.duration).build();
        Ok(Self { options, region, source, kept })
    }

    /// Returns the region of a store in S3, which clients need beside the credentials. It is empty for other stores.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Returns the highest level for a caller with a token; `None` if such a caller gets nothing.
    pub fn level(&self) -> Option<Level> {
        self.options.level
    }

    /// Returns the highest level for an anonymous caller; `None` if such a caller gets nothing.
    pub fn anonymous_level(&self) -> Option<Level> {
        self.options.anonymous_level
    }

    /// Returns credentials for a request: kept ones, or new ones if these have less than a third of their life left.
    ///
    /// `check` decides whether the places may be vended. It runs before new credentials are got. Equal requests at one time share
    /// one call.
    ///
    /// # Errors
    ///
    /// Returns the error of `check`. Returns [`NotVendable`](crate::StorageError::NotVendable) if the policy would be too long,
    /// [`StsRefused`](crate::StorageError::StsRefused) if the token service refuses, and
    /// [`StsUnavailable`](crate::StorageError::StsUnavailable) if it does not answer.
    pub async fn vend(
        &self,
        request: &VendRequest,
        check: impl Future<Output = std::result::Result<(), CodedError>> + Send,
    ) -> std::result::Result<Arc<Credential>, Arc<CodedError>> {
        // The cache counts the time that the machine runs. Credentials end by the clock, also while a machine sleeps.
        if self.kept.get(request).await.is_some_and(|kept| kept.until_ms <= now_ms()) {
            self.kept.invalidate(request).await;
        }
        let fresh = async {
            check.await?;
            let vended = self.get(request).await.map_err(CodedError::new)?;
            tracing::info!(
                table = request.table,
                session = request.session.as_str(),
                level = request.grant.level().as_str(),
                access_key_id = vended.id(),
                expires_ms = vended.expires_ms(),
                "credentials vended"
            );
            let until_ms = kept_until(now_ms(), vended.expires_ms());
            Ok::<_, CodedError>(Kept { vended: Arc::new(vended), until_ms })
        };
        let kept = self.kept.try_get_with(request.clone(), fresh).await?;
        Ok(kept.vended)
    }

    /// Gets new credentials.
    async fn get(&self, request: &VendRequest) -> Result<Credential> {
        match &self.source {
            Source::S3(sts) => {
                let policy = session_policy(&request.grant, sts.partition(), self.options.kms_key_arn.as_deref())?;
                sts.assume_role(&policy, &request.session).await.map(Credential::S3)
            }
            Source::Gcs(gcs) => gcs.exchange(&request.grant).await.map(Credential::Gcs),
            Source::Adls(adls) => adls.sign(&request.grant).await.map(Credential::Adls),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes the vendor of a store in `eu-west-1`, whose token service is in `us-east-1`.
    fn vendor(sts_endpoint: &str) -> Result<Vendor> {
        let cloud = [("region", "eu-west-1"), ("access_key_id", "k"), ("secret_access_key", "s")];
        let cloud: BTreeMap<String, String> = cloud.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let options = VendingOptions {
            role_arn: None,
            external_id: None,
            sts_endpoint: Some(sts_endpoint.to_owned()),
            region: Some("us-east-1".to_owned()),
            kms_key_arn: None,
            duration: Duration::from_secs(900),
            level: Some(Level::Read),
            anonymous_level: None,
        };
        Vendor::open(&Location::parse("s3://lake/w").expect("a location"), &cloud, &RequestCounts::default(), options)
    }

    #[test]
    fn clients_get_the_region_of_the_store_and_not_that_of_the_token_service() {
        assert_eq!(vendor("https://sts.us-east-1.amazonaws.com").expect("a vendor").region(), "eu-west-1");
    }

    #[tokio::test]
    async fn a_password_in_the_endpoint_is_in_no_error_and_not_printed() {
        let vendor = vendor("http://esker:hunter2@127.0.0.1:1/hunter2?key=hunter2").expect("a vendor");
        let place = PolicyPrefix::of(&Location::parse("s3://lake/w/t").expect("a location")).expect("harmless");
        let grant = Grant::new(Level::Read, vec![place]);
        let request = VendRequest { table: "t".to_owned(), grant, session: SessionName::of("admin") };
        let error = vendor.vend(&request, async { Ok(()) }).await.expect_err("nobody listens there").to_string();
        for shown in [error, format!("{vendor:?}")] {
            assert!(shown.contains("http://127.0.0.1:1") && !shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn an_endpoint_that_is_no_url_is_refused_with_the_reason_and_without_its_password() {
        for endpoint in ["minio:9000", "esker:hunter2@minio:9000", "http://esker:hunter2@minio:x"] {
            let error = vendor(endpoint).expect_err(endpoint);
            assert!(matches!(error, StorageError::InvalidLocation { .. }), "{error}");
            let text = error.to_string();
            assert!(text.starts_with("minio:") && text.contains("http://") && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_place_within_another_is_left_out_and_a_sibling_stays() {
        let prefix = |uri: &str| PolicyPrefix::of(&Location::parse(uri).expect("a location")).expect("harmless");
        let all = ["s3://b/t/data", "s3://b/t2", "s3://b/t", "s3://b/t", "s3://b/t/x/y", "s3://b/t-1", "s3://c/t"];
        let grant = Grant::new(Level::Read, all.map(prefix).to_vec());
        let left: Vec<String> = grant.prefixes().iter().map(ToString::to_string).collect();
        assert_eq!(left, ["s3://b/t-1/", "s3://b/t/", "s3://b/t2/", "s3://c/t/"]);
    }

    #[test]
    fn credentials_are_given_out_until_a_third_of_their_life_is_left() {
        assert_eq!(kept_until(1_000, 3_601_000), 2_401_000);
        assert_eq!(kept_until(2_000, 1_000), 2_000, "they have ended");
    }

    #[test]
    fn a_credential_is_told_from_others_without_its_secret() {
        let token = |token: &str| Credential::Gcs(BearerToken { token: token.to_owned(), expires_ms: 1 });
        let (account, host) = ("acc".to_owned(), "acc.dfs.core.windows.net".to_owned());
        let sas = Credential::Adls(DirectorySas { token: "sig=hunter2".to_owned(), account, host, expires_ms: 1 });
        assert_ne!(token("hunter2").id(), token("hunter3").id());
        for credential in [token("hunter2"), sas] {
            let shown = format!("{credential:?} {}", credential.id());
            assert!(!shown.contains("hunter2") && credential.as_s3().is_none(), "{shown}");
        }
    }

    #[test]
    fn a_higher_level_has_the_rights_of_the_lower_ones() {
        assert!(Level::Read < Level::Write && Level::Write < Level::WriteDelete);
    }
}
