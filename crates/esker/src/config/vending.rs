//! The section `[warehouses.NAME.vending]`: short-lived credentials of the store for clients, and signed requests.
//!
//! `docs/security/credentials.md` explains the keys. Start reading at [`VendingConfig`].

use std::time::Duration;

use esker_storage::{Level, Location, Scheme, SigningOptions, VendingOptions, s3_option};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::check::require;
use super::endpoint::check_url;
use super::{AuthConfig, WarehouseConfig};
use crate::Result;

/// The section `[warehouses.NAME.vending]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VendingConfig {
    /// What clients get: `none`; `sts` for credentials by AssumeRole of AWS and MinIO, or by the token service of Google Cloud; `sas` for
    /// signed URLs of Azure; `signing` for signatures of requests to S3; or `both` of S3.
    pub mode: VendingMode,
    /// The ARN of the role that is assumed. AWS needs it, MinIO does not.
    pub role_arn: Option<String>,
    /// The external id that the trust policy of the role asks for.
    pub external_id: Option<String>,
    /// The URL of the token service; default: in S3 `storage.endpoint`, or AWS's in the region; in Google Cloud Google's own; in Azure
    /// the Blob endpoint of the account.
    pub sts_endpoint: Option<String>,
    /// The region of the token service; default: `storage.region`.
    pub region: Option<String>,
    /// The ARN of the key that encrypts the bucket, if it is encrypted with a key of your own.
    pub kms_key_arn: Option<String>,
    /// Seconds that credentials are valid: between 900 and 43200. AWS allows a chained role 3600. Google's tokens have a life of their
    /// own.
    #[schema(minimum = 900, maximum = 43200)]
    pub duration_seconds: u64,
    /// The most that callers with a token get: `none`, `read` or `write`.
    pub level: VendingLevel,
    /// The most that callers without a token get, where `auth.anonymous` lets them in: `none`, `read` or `write`. They never get
    /// more than `level`.
    pub anonymous_level: VendingLevel,
    /// Writers may also delete objects. Without it, clients leave deletions to Esker: Spark's `PURGE` and `expire_snapshots` then
    /// delete no files.
    pub delete: bool,
    /// With `signing`, the store refuses `x-amz-` headers that are not signed, as AWS does. Without that, requests that write are not
    /// signed with the warehouse's own keys.
    pub store_checks_headers: bool,
}

impl Default for VendingConfig {
    fn default() -> Self {
        Self {
            mode: VendingMode::None,
            role_arn: None,
            external_id: None,
            sts_endpoint: None,
            region: None,
            kms_key_arn: None,
            duration_seconds: 3600,
            level: VendingLevel::Write,
            anonymous_level: VendingLevel::Write,
            delete: false,
            store_checks_headers: false,
        }
    }
}

/// The way in which clients get access to the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VendingMode {
    /// Clients get none.
    #[default]
    None,
    /// Credentials by a token service, of S3 or of Google Cloud.
    Sts,
    /// Shared access signatures of Azure.
    Sas,
    /// Signatures of single requests, with the warehouse's own keys.
    Signing,
    /// Credentials, or signatures with them.
    Both,
}

impl VendingMode {
    /// Returns the value of the key.
    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sts => "sts",
            Self::Sas => "sas",
            Self::Signing => "signing",
            Self::Both => "both",
        }
    }

    /// Checks whether clients may get credentials.
    fn has_credentials(self) -> bool {
        matches!(self, Self::Sts | Self::Sas | Self::Both)
    }

    /// Checks whether there is this mode in a kind of store.
    fn fits(self, scheme: Scheme) -> bool {
        match scheme {
            Scheme::File => false,
            Scheme::S3 => self != Self::Sas,
            Scheme::Gcs => self == Self::Sts,
            Scheme::Adls => self == Self::Sas,
        }
    }

    /// Checks whether clients may get signatures.
    fn has_signatures(self) -> bool {
        matches!(self, Self::Signing | Self::Both)
    }
}

/// The rights of vended credentials and of signed requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VendingLevel {
    /// No credentials.
    None,
    /// To read and list objects.
    Read,
    /// To write objects too.
    Write,
}

impl VendingConfig {
    /// Checks the section of a warehouse.
    pub(super) fn check(&self, name: &str, warehouse: &WarehouseConfig) -> Result<()> {
        if self.mode == VendingMode::None {
            return Ok(());
        }
        let key = |key: &str| format!("warehouses.{name}.vending.{key}");
        let mode = self.mode.as_str();
        let located = warehouse.location.as_deref().and_then(|uri| Location::parse(uri).ok());
        let scheme = located.map_or(Scheme::File, |location| location.scheme());
        require(self.mode.fits(scheme), || {
            let what = "sts is for S3 and Google Cloud Storage, sas for Azure, the others for S3";
            format!("{} is {mode}, which does not fit to warehouses.{name}.location: {what}", key("mode"))
        })?;
        check_arn(&key("kms_key_arn"), self.kms_key_arn.as_deref())?;
        if !self.mode.has_credentials() {
            return Ok(());
        }
        let seconds = self.duration_seconds;
        let possible = (900..=43200).contains(&seconds);
        require(possible, || format!("{} must be between 900 and 43200, and is {seconds}", key("duration_seconds")))?;
        check_url(&key("sts_endpoint"), self.sts_endpoint.as_deref())?;
        let in_s3 = scheme == Scheme::S3;
        let of_aws = in_s3 && self.sts_endpoint.is_none() && s3_option(&warehouse.storage, "endpoint").is_none();
        let role = self.role_arn.is_some() || !of_aws;
        require(role, || format!("{} is not set; AWS vends credentials of a role only", key("role_arn")))?;
        check_arn(&key("role_arn"), self.role_arn.as_deref())
    }

    /// Returns the highest levels of callers with a token and of anonymous ones.
    fn levels(&self, auth: &AuthConfig) -> (Option<Level>, Option<Level>) {
        let level = |level: VendingLevel| match (level, self.delete) {
            (VendingLevel::None, _) => None,
            (VendingLevel::Read, _) => Some(Level::Read),
            (VendingLevel::Write, false) => Some(Level::Write),
            (VendingLevel::Write, true) => Some(Level::WriteDelete),
        };
        // `auth.anonymous` is an error unless the server listens on loopback.
        let anonymous = if auth.anonymous { self.anonymous_level.min(self.level) } else { VendingLevel::None };
        (level(self.level), level(anonymous))
    }

    /// Returns the options by which the warehouse's storage signs requests; `None` if it signs none.
    pub(crate) fn signing(&self, auth: &AuthConfig) -> Option<SigningOptions> {
        let (level, anonymous_level) = self.levels(auth);
        self.mode.has_signatures().then(|| SigningOptions {
            level,
            anonymous_level,
            kms_key_arn: self.kms_key_arn.clone(),
            checks_headers: self.store_checks_headers,
        })
    }

    /// Returns the options by which the warehouse's storage vends credentials; `None` if it vends none.
    pub(crate) fn options(&self, auth: &AuthConfig) -> Option<VendingOptions> {
        let (level, anonymous_level) = self.levels(auth);
        self.mode.has_credentials().then(|| VendingOptions {
            role_arn: self.role_arn.clone(),
            external_id: self.external_id.clone(),
            sts_endpoint: self.sts_endpoint.clone(),
            region: self.region.clone(),
            kms_key_arn: self.kms_key_arn.clone(),
            duration: Duration::from_secs(self.duration_seconds),
            level,
            anonymous_level,
        })
    }
}

/// Checks that the value of a key, if there is one, is an ARN without wildcards: it becomes part of policies.
fn check_arn(key: &str, arn: Option<&str>) -> Result<()> {
    let plain = |arn: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || ":/-_+=.@,".contains(c);
        arn.starts_with("arn:") && arn.split(':').count() >= 6 && arn.chars().all(known)
    };
    require(arn.is_none_or(plain), || format!("{key} is not an ARN, such as arn:aws:iam::123456789012:role/esker"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_store_that_is_not_aws_needs_no_role_however_its_endpoint_is_spelt() {
        let vending = VendingConfig { mode: VendingMode::Sts, ..VendingConfig::default() };
        for key in ["endpoint", "aws_endpoint", "endpoint_url", "aws_endpoint_url"] {
            let storage = BTreeMap::from([(key.to_owned(), "http://minio:9000".to_owned())]);
            let warehouse = WarehouseConfig { location: Some("s3://b/w".to_owned()), storage, ..WarehouseConfig::default() };
            vending.check("x", &warehouse).expect(key);
        }
    }

    #[test]
    fn anonymous_callers_get_nothing_unless_they_are_let_in_and_never_more_than_others() {
        let config = VendingConfig { mode: VendingMode::Sts, ..VendingConfig::default() };
        let closed = config.options(&AuthConfig::default()).expect("options");
        assert_eq!((closed.level, closed.anonymous_level), (Some(Level::Write), None));
        let open = AuthConfig { anonymous: true, ..AuthConfig::default() };
        assert_eq!(config.options(&open).expect("options").anonymous_level, Some(Level::Write));
        let readers = VendingConfig { level: VendingLevel::Read, delete: true, ..config };
        let readers = readers.options(&open).expect("options");
        assert_eq!((readers.level, readers.anonymous_level), (Some(Level::Read), Some(Level::Read)));
        assert!(VendingConfig::default().options(&open).is_none());
    }

    #[test]
    fn a_mode_fits_to_the_store_of_its_warehouse_alone() {
        let fits = |mode: VendingMode, uri: &str| {
            let warehouse = WarehouseConfig { location: Some(uri.to_owned()), ..WarehouseConfig::default() };
            let role_arn = Some("arn:aws:iam::123456789012:role/esker".to_owned());
            VendingConfig { mode, role_arn, ..VendingConfig::default() }.check("x", &warehouse).is_ok()
        };
        let stores = ["s3://b/w", "gs://b/w", "abfss://c@a.dfs.core.windows.net/w"];
        for (mode, expected) in [
            (VendingMode::None, [true, true, true]),
            (VendingMode::Sts, [true, true, false]),
            (VendingMode::Sas, [false, false, true]),
            (VendingMode::Signing, [true, false, false]),
            (VendingMode::Both, [true, false, false]),
        ] {
            assert_eq!(stores.map(|uri| fits(mode, uri)), expected, "{mode:?}");
        }
    }

    #[test]
    fn each_mode_has_its_options_and_only_credentials_need_a_role() {
        let auth = AuthConfig::default();
        let warehouse = WarehouseConfig { location: Some("s3://b/w".to_owned()), ..WarehouseConfig::default() };
        for (mode, vends, signs) in [
            (VendingMode::None, false, false),
            (VendingMode::Sts, true, false),
            (VendingMode::Signing, false, true),
            (VendingMode::Both, true, true),
        ] {
            let config = VendingConfig { mode, ..VendingConfig::default() };
            assert_eq!((config.options(&auth).is_some(), config.signing(&auth).is_some()), (vends, signs), "{mode:?}");
            assert_eq!(config.check("x", &warehouse).is_err(), vends, "{mode:?}: AWS needs a role");
            let elsewhere = WarehouseConfig { location: Some("file:///w".to_owned()), ..WarehouseConfig::default() };
            assert_eq!(config.check("x", &elsewhere).is_err(), vends || signs, "{mode:?}");
            assert_eq!(serde_json::to_value(mode).expect("JSON"), mode.as_str());
        }
        let readers = VendingConfig { mode: VendingMode::Signing, level: VendingLevel::Read, ..VendingConfig::default() };
        let options = readers.signing(&auth).expect("options");
        assert_eq!((options.level, options.anonymous_level, options.checks_headers), (Some(Level::Read), None, false));
    }
}
