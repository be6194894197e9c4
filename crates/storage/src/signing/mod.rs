//! Remote signing: requests of clients to S3, which Esker signs one at a time and clients send.
//!
//! The client has no keys. It asks for each request, and gets the headers that make the store accept it. [`Signer::check`] takes the
//! request apart and decides, without a clock and without keys. Only what it put together again is signed.
//!
//! | file | decides |
//! |---|---|
//! | `address.rs` | which bucket, key and parameters a URI names |
//! | `operation.rs` | which operation of S3 that is, and the level that it needs |
//! | `headers.rs` | which headers are signed or refused |
//! | `delete.rs` | which keys the body of DeleteObjects names |
//!
//! A store must refuse `x-amz-` headers that are not signed: with one, a client could make a copy of another object out of a signed
//! write. AWS does. At other stores, writes are signed with credentials that a session policy narrows to the table.
//!
//! Start reading at [`Signer::sign`], then at [`Signer::check`].

mod address;
mod delete;
mod headers;
mod operation;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use esker_types::CodedError;
use moka::future::Cache;
use object_store::aws::AwsCredentialProvider;

use crate::cloud::{self, S3Access};
use crate::http::RequestCounts;
use crate::sigv4::{Request, Scope, authorization};
use crate::vending::{Grant, Level, PolicyPrefix, Vended};
use crate::{Location, Result, StorageError};
use address::{Refusal, S3Address, S3Store, check_segments};
use headers::SignedHeaders;
use operation::{LIST, S3Operation};

/// Time for which the comparison of a table's places with those of others counts.
const APART_SECONDS: u64 = 60;

/// Maximum number of tables whose comparison is remembered.
const KEPT: u64 = 10_000;

/// The settings of a warehouse that signs requests.
#[derive(Debug, Clone)]
pub struct SigningOptions {
    /// Highest level that a caller with a token gets; `None`: nothing.
    pub level: Option<Level>,
    /// Highest level that an anonymous caller gets; `None`: nothing.
    pub anonymous_level: Option<Level>,
    /// ARN of the key that encrypts the bucket, if a key of one's own does.
    pub kms_key_arn: Option<String>,
    /// The store refuses `x-amz-` headers that are not signed. AWS's does, whatever this is.
    pub checks_headers: bool,
}

/// A request that a client wants to send to the store.
///
/// Spec: REST `RemoteSignRequest`.
#[derive(Debug, Clone)]
pub struct SignRequest {
    /// Region that the client would sign for.
    pub region: String,
    /// URI, percent-encoded.
    pub uri: String,
    /// HTTP method, in capitals.
    pub method: String,
    /// Headers with their values.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Body, which only DeleteObjects needs.
    pub body: Option<String>,
}

/// A signed request: what the client must send.
#[derive(Clone)]
pub struct SignedRequest {
    /// URI. It names the same as the client's, and may be spelt differently.
    pub uri: String,
    /// Headers that the signature covers, without `host`, and the signature.
    pub headers: BTreeMap<String, String>,
    /// The client may use the headers again for the same method and URI, whatever its other headers are.
    pub reusable: bool,
}

impl fmt::Debug for SignedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRequest").field("uri", &self.uri).field("reusable", &self.reusable).finish_non_exhaustive()
    }
}

/// A request that may be signed.
#[derive(Debug)]
struct Checked {
    operation: &'static S3Operation,
    address: S3Address,
    headers: SignedHeaders,
}

/// The keys that a signature is made with. It has no `Debug`.
struct Keys {
    id: String,
    secret: String,
    token: Option<String>,
}

impl Checked {
    /// Signs the request for a time, in the form `20150830T123600Z`.
    fn sign(self, region: &str, time: &str, keys: Keys) -> SignedRequest {
        let (path, query) = (self.address.encoded_path(), self.address.encoded_query());
        let mut headers = self.headers.of_client;
        headers.insert("x-amz-date".to_owned(), time.to_owned());
        headers.insert("x-amz-content-sha256".to_owned(), self.headers.body_sha256.clone());
        headers.extend(keys.token.map(|token| ("x-amz-security-token".to_owned(), token)));
        let mut listed: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        listed.push(("host", self.address.host()));
        let body_sha256 = &self.headers.body_sha256;
        let request = Request { method: self.operation.method(), path: &path, query: &query, headers: &listed, body_sha256 };
        let signature = authorization(&request, &Scope { time, region, service: "s3" }, &keys.id, &keys.secret);
        headers.insert("Authorization".to_owned(), signature);
        SignedRequest { uri: self.address.uri(), headers, reusable: self.headers.reusable }
    }
}

/// Signs the requests of one warehouse's clients.
pub struct Signer {
    options: SigningOptions,
    region: String,
    store: S3Store,
    keys: AwsCredentialProvider,
    /// The tables, with their places, that were found apart from all others a moment ago.
    apart: Cache<(String, Vec<PolicyPrefix>), ()>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("region", &self.region).field("store", &self.store).finish_non_exhaustive()
    }
}

impl Signer {
    /// Makes the signer of a warehouse. Sends no request.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidLocation`](StorageError::InvalidLocation) if the warehouse is not in S3 or the endpoint is not the URL of a
    /// host, and other errors of the store's options.
    pub(crate) fn open(
        at: &Location,
        cloud: &BTreeMap<String, String>,
        requests: &RequestCounts,
        options: SigningOptions,
    ) -> Result<Self> {
        let S3Access { credentials, region, endpoint, virtual_hosted } = cloud::s3_access(at, cloud, requests)?;
        let invalid = |reason| StorageError::InvalidLocation { uri: at.to_string(), reason };
        let store = S3Store::new(endpoint.as_deref(), &region, virtual_hosted).map_err(invalid)?;
        let apart = Cache::builder().max_capacity(KEPT).time_to_live(Duration::from_secs(APART_SECONDS)).build();
        Ok(Self { options, region, store, keys: credentials, apart })
    }

    /// Returns the region of the store, which clients need.
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

    /// Runs a check of a table's places, unless it succeeded for the same places a minute ago.
    ///
    /// # Errors
    ///
    /// Returns the error of `check`.
    pub async fn once_a_minute(
        &self,
        table: String,
        prefixes: &[PolicyPrefix],
        check: impl Future<Output = std::result::Result<(), CodedError>> + Send,
    ) -> std::result::Result<(), Arc<CodedError>> {
        self.apart.try_get_with((table, prefixes.to_vec()), check).await
    }

    /// Signs a request of a client that has a grant.
    ///
    /// `scoped` are credentials with the rights of the grant. Without them the warehouse's own keys are used.
    ///
    /// # Errors
    ///
    /// Returns [`NotSignable`](StorageError::NotSignable) if the grant does not cover the request, if its meaning is not certain, or
    /// if it writes with the warehouse's own keys at a store that takes further headers. Returns the errors of
    /// [`StorageError::new`] if these keys can't be got.
    pub async fn sign(&self, request: &SignRequest, grant: &Grant, scoped: Option<&Vended>) -> Result<SignedRequest> {
        let refused = |reason| StorageError::NotSignable { uri: without_query(&request.uri).to_owned(), reason };
        let checked = self.check(request, grant).map_err(refused)?;
        if scoped.is_none() && checked.operation.needs > Level::Read && !self.checks_headers() {
            let what = "the store may take unsigned headers; set vending.mode to both, or vending.store_checks_headers";
            return Err(refused(what.to_owned()));
        }
        let keys = match scoped {
            Some(Vended { access_key_id, secret_access_key, session_token, .. }) => {
                let token = Some(session_token.clone());
                Keys { id: access_key_id.clone(), secret: secret_access_key.clone(), token }
            }
            None => {
                let own = self.keys.get_credential().await.map_err(|e| StorageError::new(without_query(&request.uri), e))?;
                Keys { id: own.key_id.clone(), secret: own.secret_key.clone(), token: own.token.clone() }
            }
        };
        let time = Utc::now().format("%Y%m%dT%H%M%SZ").to_string();
        tracing::debug!(operation = checked.operation.name, key = checked.address.key(), key_id = keys.id, "request signed");
        Ok(checked.sign(&self.region, &time, keys))
    }

    /// Checks whether the store refuses `x-amz-` headers that are not signed.
    fn checks_headers(&self) -> bool {
        self.options.checks_headers || self.store.is_aws()
    }

    /// Checks whether a grant covers a request.
    fn check(&self, request: &SignRequest, grant: &Grant) -> std::result::Result<Checked, Refusal> {
        if request.region != self.region {
            return Err(format!("it is for the region {:?}, and the warehouse's is {:?}", request.region, self.region));
        }
        let buckets: Vec<&str> = grant.prefixes().iter().map(PolicyPrefix::bucket).collect();
        let address = self.store.resolve(&request.uri, &buckets)?;
        let operation = S3Operation::of(&request.method, &address)?;
        if operation.needs > grant.level() {
            let (needs, has) = (operation.needs.as_str(), grant.level().as_str());
            return Err(format!("{} needs the level {needs}, and the caller has {has}", operation.name));
        }
        let body = request.body.as_deref();
        check_keys(operation, &address, &headers::deleted_keys(operation, body)?, grant)?;
        let host = |host: &str| self.store.normal_host(host);
        let headers = headers::check(operation, &address, &request.headers, body, host, self.options.kms_key_arn.as_deref())?;
        Ok(Checked { operation, address, headers })
    }
}

/// Checks that everything that a request reaches lies in the places of a grant.
fn check_keys(
    operation: &S3Operation,
    address: &S3Address,
    deleted: &[String],
    grant: &Grant,
) -> std::result::Result<(), Refusal> {
    let covered = |key: &str| match grant.prefixes().iter().any(|place| place.covers(address.bucket(), key)) {
        true => Ok(()),
        false => Err(format!("{key:?} is outside the places of the table")),
    };
    if operation.name == LIST {
        let prefix = address.parameters().get("prefix").map_or("", String::as_str);
        covered(prefix)?;
        return check_segments(prefix.strip_suffix('/').unwrap_or(prefix));
    }
    if address.key().is_empty() {
        return deleted.iter().try_for_each(|key| covered(key).and_then(|()| check_segments(key)));
    }
    covered(address.key())
}

/// Returns a URI without its query, as errors show it.
fn without_query(uri: &str) -> &str {
    uri.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
