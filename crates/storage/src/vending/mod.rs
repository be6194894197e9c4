//! Vended credentials: short-lived keys of an object store that reach the places of one table and nothing else.
//!
//! A [`Grant`] is a level and the places. `policy.rs` turns it into a session policy, and a Security Token Service turns that into
//! credentials with no other rights. [`Vendor`] keeps them until a third of their life is left, so that loads don't ask again.
//! The caller decides who gets which level, and checks that the places are the table's own.
//!
//! Start reading at [`Vendor::vend`], then at `policy.rs`.

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
use crate::{Location, Result, cloud};
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
}

/// Credentials for a grant. They end by themselves, and nothing ends them earlier.
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

/// The settings of a warehouse that vends credentials.
#[derive(Debug, Clone)]
pub struct VendingOptions {
    /// ARN of the role that is assumed. MinIO needs none.
    pub role_arn: Option<String>,
    /// External id that the role's trust policy asks for.
    pub external_id: Option<String>,
    /// URL of the token service; by default that of the store, or AWS's in the region.
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
    vended: Arc<Vended>,
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
    /// Region of the store, which may be another than that of the token service.
    region: String,
    sts: Sts,
    kept: Cache<VendRequest, Kept>,
}

impl fmt::Debug for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vendor").field("region", &self.region).field("sts", &self.sts).finish_non_exhaustive()
    }
}

impl Vendor {
    /// Makes the vendor of a warehouse. Sends no request.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidLocation`](crate::StorageError::InvalidLocation) if the warehouse is not in S3 or the token service's
    /// endpoint is not a URL of HTTP, [`StsUnavailable`](crate::StorageError::StsUnavailable) if the HTTP client can't be built,
    /// and other errors of the store's options.
    pub(crate) fn open(
        at: &Location,
        cloud: &BTreeMap<String, String>,
        requests: &RequestCounts,
        options: VendingOptions,
    ) -> Result<Self> {
        let access = cloud::s3_access(at, cloud, requests)?;
        let region = access.region.clone();
        let sts = Sts::new(&options, access)?;
        let kept = Cache::builder().max_capacity(KEPT).time_to_live(options.duration).build();
        Ok(Self { options, region, sts, kept })
    }

    /// Returns the region of the store, which clients need beside the credentials.
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
    ) -> std::result::Result<Arc<Vended>, Arc<CodedError>> {
        // The cache counts the time that the machine runs. Credentials end by the clock, also while a machine sleeps.
        if self.kept.get(request).await.is_some_and(|kept| kept.until_ms <= now_ms()) {
            self.kept.invalidate(request).await;
        }
        let fresh = async {
            check.await?;
            let (partition, key) = (self.sts.partition(), self.options.kms_key_arn.as_deref());
            let policy = session_policy(&request.grant, partition, key).map_err(CodedError::new)?;
            let vended = self.sts.assume_role(&policy, &request.session).await.map_err(CodedError::new)?;
            tracing::info!(
                table = request.table,
                session = request.session.as_str(),
                level = request.grant.level().as_str(),
                access_key_id = vended.access_key_id,
                expires_ms = vended.expires_ms,
                "credentials vended"
            );
            let until_ms = kept_until(now_ms(), vended.expires_ms);
            Ok::<_, CodedError>(Kept { vended: Arc::new(vended), until_ms })
        };
        let kept = self.kept.try_get_with(request.clone(), fresh).await?;
        Ok(kept.vended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StorageError;

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
    fn a_higher_level_has_the_rights_of_the_lower_ones() {
        assert!(Level::Read < Level::Write && Level::Write < Level::WriteDelete);
    }
}
