//! Opens the stores of cloud providers from a warehouse's storage options.
//!
//! The options are those of the `object_store` crate, by its names. Each store retries by time, not by number of tries, and its
//! HTTP client shares one pause per bucket ([`crate::http`]). Start reading with [`open`].

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredentialProvider};
use object_store::azure::{AzureConfigKey, AzureCredentialProvider, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredentialProvider, GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use crate::http::{PacedConnector, RequestCounts};
use crate::{Location, Result, Scheme, StorageError};

/// The longest time in which one operation is retried. The client of a commit waits about this long.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest pause between two tries of one operation. It is short, because an operation should go on soon after its store is
/// back.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Returns the retry configuration: only [`RETRY_TIMEOUT`] ends the tries.
///
/// A limit on the number of tries would end them too early: pauses grow so slowly that ten tries are over in three seconds.
fn retry_config() -> RetryConfig {
    let backoff = BackoffConfig { max_backoff: LONGEST_PAUSE, ..BackoffConfig::default() };
    RetryConfig { max_retries: 10_000, retry_timeout: RETRY_TIMEOUT, backoff }
}

/// Checks that a kind of store knows every option key. Sends no request and does not check the values.
pub(crate) fn check_options(scheme: Scheme, options: &BTreeMap<String, String>) -> Result<()> {
    let known = |key: &String| match scheme {
        Scheme::File => false,
        Scheme::S3 => AmazonS3ConfigKey::from_str(key).is_ok(),
        Scheme::Gcs => GoogleConfigKey::from_str(key).is_ok(),
        Scheme::Adls => AzureConfigKey::from_str(key).is_ok(),
    };
    match options.keys().find(|key| !known(key)) {
        None => Ok(()),
        Some(key) => Err(StorageError::UnknownOption { key: key.clone(), scheme: format!("{scheme:?}") }),
    }
}

/// Returns the value of an option of S3, by any of its spellings: `endpoint`, `aws_endpoint`, `endpoint_url` and `aws_endpoint_url`
/// are one option.
///
/// `name` is one of the spellings. If the options have several, the one that the store uses counts.
///
/// ```
/// use std::collections::BTreeMap;
///
/// let options = BTreeMap::from([("aws_endpoint_url".to_owned(), "http://minio:9000".to_owned())]);
/// assert_eq!(esker_storage::s3_option(&options, "endpoint"), Some("http://minio:9000"));
/// assert_eq!(esker_storage::s3_option(&options, "region"), None);
/// ```
pub fn s3_option<'a>(options: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    let wanted = AmazonS3ConfigKey::from_str(name).ok()?;
    // Of several spellings the builder keeps the last, because it gets the options in the order of the alphabet.
    let mut spellings = options.iter().rev();
    spellings.find(|(key, _)| AmazonS3ConfigKey::from_str(key).is_ok_and(|key| key == wanted)).map(|(_, value)| value.as_str())
}

/// Parses the options, and allows plain HTTP if an endpoint among them begins with `http://`. Drops unknown keys.
fn parsed_options<K: FromStr>(options: &BTreeMap<String, String>) -> Vec<(K, String)> {
    let mut parsed: Vec<(K, String)> = options.iter().filter_map(|(k, v)| Some((k.parse().ok()?, v.clone()))).collect();
    if options.iter().any(|(k, v)| k.contains("endpoint") && v.starts_with("http://")) {
        parsed.extend("allow_http".parse().ok().map(|key| (key, "true".to_owned())));
    }
    parsed
}

/// Opens the store of a bucket or container.
///
/// Credentials that the options don't name come from the places that the provider's own tools search: the environment, a web
/// identity, the instance.
pub(crate) fn open(at: &Location, options: &BTreeMap<String, String>, requests: &RequestCounts) -> Result<Arc<dyn ObjectStore>> {
    let failed = |e| StorageError::new(&at.to_string(), e);
    Ok(match at.scheme() {
        Scheme::File => {
            return Err(StorageError::InvalidLocation { uri: at.to_string(), reason: "not a location in a cloud store" });
        }
        Scheme::S3 => Arc::new(s3_builder(at, options, requests).build().map_err(failed)?),
        Scheme::Gcs => Arc::new(gcs_store(at, options, requests).map_err(failed)?),
        Scheme::Adls => Arc::new(adls_store(at, options, requests).map_err(failed)?),
    })
}

/// Opens the store of a bucket of Google Cloud Storage.
fn gcs_store(
    at: &Location,
    options: &BTreeMap<String, String>,
    requests: &RequestCounts,
) -> object_store::Result<GoogleCloudStorage> {
    let builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(at.authority())
        .with_retry(retry_config())
        .with_http_connector(PacedConnector::new(requests.clone()));
    parsed_options(options).into_iter().fold(builder, |b, (key, value)| b.with_config(key, value)).build()
}

/// Opens the store of a container of Azure.
fn adls_store(
    at: &Location,
    options: &BTreeMap<String, String>,
    requests: &RequestCounts,
) -> object_store::Result<MicrosoftAzure> {
    let (container, host) = container_and_host(at.authority());
    let builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_account(account_of(host))
        .with_retry(retry_config())
        .with_http_connector(PacedConnector::new(requests.clone()));
    parsed_options(options).into_iter().fold(builder, |b, (key, value)| b.with_config(key, value)).build()
}

/// Splits `container@host`, the authority of a location in Azure.
pub(crate) fn container_and_host(authority: &str) -> (&str, &str) {
    authority.split_once('@').unwrap_or((authority, ""))
}

/// Returns the account of a host in Azure.
pub(crate) fn account_of(host: &str) -> &str {
    host.split('.').next().unwrap_or_default()
}

/// Returns the source of the tokens with which a bucket of Google Cloud Storage is reached. Sends no request.
///
/// # Errors
///
/// Returns the errors of [`open`].
pub(crate) fn gcs_token(
    at: &Location,
    options: &BTreeMap<String, String>,
    requests: &RequestCounts,
) -> Result<GcpCredentialProvider> {
    let store = gcs_store(at, options, requests).map_err(|e| StorageError::new(&at.to_string(), e))?;
    Ok(store.credentials().clone())
}

/// Returns the source of the credentials with which a container of Azure is reached. Sends no request.
///
/// # Errors
///
/// Returns the errors of [`open`].
pub(crate) fn adls_token(
    at: &Location,
    options: &BTreeMap<String, String>,
    requests: &RequestCounts,
) -> Result<AzureCredentialProvider> {
    let store = adls_store(at, options, requests).map_err(|e| StorageError::new(&at.to_string(), e))?;
    Ok(store.credentials().clone())
}

/// Returns the builder of a bucket's store, with all options set.
fn s3_builder(at: &Location, options: &BTreeMap<String, String>, requests: &RequestCounts) -> AmazonS3Builder {
    let builder = AmazonS3Builder::from_env()
        .with_bucket_name(at.authority())
        .with_retry(retry_config())
        .with_http_connector(PacedConnector::new(requests.clone()));
    parsed_options(options).into_iter().fold(builder, |b, (key, value)| b.with_config(key, value))
}

/// The keys and the place that a request to another service of a bucket's provider needs, such as its token service.
#[derive(Debug)]
pub(crate) struct S3Access {
    /// The source of the keys: the options, the environment, a web identity or the instance.
    pub(crate) credentials: AwsCredentialProvider,
    /// The region; `us-east-1` if nothing names one.
    pub(crate) region: String,
    /// The URL of the store, if it is not AWS's.
    pub(crate) endpoint: Option<String>,
    /// The name of the bucket is part of the host, and not of the path.
    pub(crate) virtual_hosted: bool,
}

/// Returns what requests to other services of a bucket's provider need. Sends no request.
///
/// # Errors
///
/// Returns [`InvalidLocation`](StorageError::InvalidLocation) if the location is not in S3, and the errors of [`open`].
pub(crate) fn s3_access(at: &Location, options: &BTreeMap<String, String>, requests: &RequestCounts) -> Result<S3Access> {
    if at.scheme() != Scheme::S3 {
        return Err(StorageError::InvalidLocation { uri: at.to_string(), reason: "not a location in S3" });
    }
    let builder = s3_builder(at, options, requests);
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    let virtual_hosted = builder.get_config_value(&AmazonS3ConfigKey::VirtualHostedStyleRequest).is_some_and(|v| v == "true");
    let store: AmazonS3 = builder.build().map_err(|e| StorageError::new(&at.to_string(), e))?;
    Ok(S3Access { credentials: store.credentials().clone(), region, endpoint, virtual_hosted })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn every_kind_of_store_is_made_from_options_alone() {
        let requests = RequestCounts::default();
        for (uri, pairs) in [
            (
                "s3://lake",
                &[("endpoint", "http://127.0.0.1:9"), ("region", "eu"), ("access_key_id", "a"), ("secret_access_key", "b")][..],
            ),
            (
                "gs://lake",
                &[(
                    "service_account_key",
                    r#"{"gcs_base_url":"http://127.0.0.1:9","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}"#,
                )],
            ),
            ("abfss://c@acc.dfs.core.windows.net", &[("account_key", "a2V5")]),
        ] {
            let at = Location::parse(uri).expect("valid");
            let options = options(pairs);
            check_options(at.scheme(), &options).expect("known keys");
            open(&at, &options, &requests).expect(uri);
        }
    }

    #[test]
    fn an_endpoint_is_found_and_may_be_of_plain_http_by_each_of_its_spellings() {
        let at = Location::parse("s3://lake").expect("valid");
        let plain: AmazonS3ConfigKey = "allow_http".parse().expect("known");
        for key in ["endpoint", "aws_endpoint", "endpoint_url", "aws_endpoint_url"] {
            let options = options(&[(key, "http://minio:9000"), ("access_key_id", "a"), ("secret_access_key", "b")]);
            check_options(Scheme::S3, &options).expect(key);
            assert_eq!(s3_option(&options, "endpoint"), Some("http://minio:9000"), "{key}");
            let access = s3_access(&at, &options, &RequestCounts::default()).expect(key);
            assert_eq!(access.endpoint.as_deref(), Some("http://minio:9000"), "{key}");
            assert!(parsed_options(&options).contains(&(plain, "true".to_owned())), "{key}");
        }
        let both = options(&[("endpoint", "http://a"), ("aws_endpoint_url", "http://b"), ("endpoint_url", "http://c")]);
        let used = s3_access(&at, &both, &RequestCounts::default()).expect("valid").endpoint;
        assert_eq!(s3_option(&both, "aws_endpoint"), used.as_deref());
        assert_eq!(s3_option(&both, "region"), None);
    }

    #[test]
    fn an_unknown_option_is_named() {
        let error = check_options(Scheme::S3, &options(&[("acess_key_id", "x")])).expect_err("unknown");
        assert!(error.to_string().contains("acess_key_id"), "{error}");
        assert!(check_options(Scheme::File, &options(&[("endpoint", "x")])).is_err());
    }
}
