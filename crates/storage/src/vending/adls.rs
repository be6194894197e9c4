//! Credentials of Azure Data Lake Storage: a shared access signature for the directory of one table.
//!
//! The account gives out a *user delegation key* for the warehouse's own token of Entra ID. Esker signs with it what the bearer may
//! do: permissions, one directory, an end. Directories are real ones in accounts with a hierarchical namespace only, so others refuse
//! such a signature. Start reading at [`Adls::sign`].
//!
//! Spec: "Create a user delegation SAS" and "Get User Delegation Key" in the REST reference of Azure Storage, version 2020-12-06.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use object_store::azure::{AzureCredential, AzureCredentialProvider};
use percent_encoding::utf8_percent_encode;
use reqwest::{Client, Url};
use ring::hmac;
use serde::Deserialize;

use super::sts::{ALL_BUT_UNRESERVED, is_passing, origin, send, token_service};
use super::{DirectorySas, Grant, Level, PolicyPrefix, VendingOptions};
use crate::cloud::{account_of, container_and_host};
use crate::{Location, Result, Scheme, StorageError};

/// The version of the protocol: that of the requests, and that of the text that is signed.
const VERSION: &str = "2020-12-06";

/// A user delegation key, as the account answers.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DelegationKey {
    signed_oid: String,
    signed_tid: String,
    signed_start: String,
    signed_expiry: String,
    signed_service: String,
    signed_version: String,
    value: String,
}

/// What a signature allows.
struct Permit<'a> {
    account: &'a str,
    container: &'a str,
    /// The directory, without a slash in front or at the end.
    directory: &'a str,
    permissions: &'static str,
    expiry: &'a str,
}

/// The client of one account.
pub(super) struct Adls {
    /// The Blob endpoint of the account.
    endpoint: Url,
    own: AzureCredentialProvider,
    duration: Duration,
    http: Client,
}

impl fmt::Debug for Adls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adls").field("endpoint", &origin(&self.endpoint)).finish_non_exhaustive()
    }
}

impl Adls {
    /// Makes the client for the account of a warehouse. Sends no request.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidLocation`](StorageError::InvalidLocation) if the endpoint is not a URL of HTTP, and
    /// [`StsUnavailable`](StorageError::StsUnavailable) if the HTTP client can't be built.
    pub(super) fn new(at: &Location, options: &VendingOptions, own: AzureCredentialProvider) -> Result<Self> {
        let (_, host) = container_and_host(at.authority());
        let of_account = format!("https://{}", host.replacen(".dfs.", ".blob.", 1));
        let (endpoint, http) = token_service(options.sts_endpoint.as_deref().unwrap_or(&of_account))?;
        Ok(Self { endpoint, own, duration: options.duration, http })
    }

    /// Returns a signature for a grant.
    ///
    /// # Errors
    ///
    /// Returns [`NotVendable`](StorageError::NotVendable) if the grant has not exactly one place in Azure,
    /// [`StsRefused`](StorageError::StsRefused) if the account gives out no key, or the warehouse's own credential is no token of
    /// Entra ID, [`StsUnavailable`](StorageError::StsUnavailable) if the account does not answer, and the errors of
    /// [`StorageError::new`] if the own token can't be got.
    pub(super) async fn sign(&self, grant: &Grant) -> Result<DirectorySas> {
        let place = only_place(grant)?;
        let ends = Utc::now() + self.duration;
        let key = self.key(ends).await?;
        let (container, host) = container_and_host(place.bucket());
        let permit = Permit {
            account: account_of(host),
            container,
            directory: place.key().trim_end_matches('/'),
            permissions: permissions(grant.level()),
            expiry: &time(ends),
        };
        let token = signature(&permit, &key).ok_or_else(|| self.refused("its key is not Base64".to_owned()))?;
        let account = account_of(host).to_owned();
        Ok(DirectorySas { token, account, host: host.to_owned(), expires_ms: ends.timestamp() * 1000 })
    }

    /// Gets a user delegation key that ends with the signature.
    async fn key(&self, ends: DateTime<Utc>) -> Result<DelegationKey> {
        let uri = || origin(&self.endpoint);
        let own = self.own.get_credential().await.map_err(|e| StorageError::new(&uri(), e))?;
        let AzureCredential::BearerToken(own) = &*own else {
            return Err(self.refused("the warehouse's own credential is no token of Entra ID".to_owned()));
        };
        let mut url = self.endpoint.clone();
        url.set_query(Some("restype=service&comp=userdelegationkey"));
        let request = self.http.post(url).bearer_auth(own).header("x-ms-version", VERSION);
        let request = request.header("content-type", "application/xml").body(key_request(Utc::now(), ends));
        let (status, text) = send(request, &uri()).await?;
        if status.is_success() {
            return quick_xml::de::from_str(&text).map_err(|_| self.refused("its answer has no key".to_owned()));
        }
        tracing::warn!(endpoint = uri(), %status, "the account gives out no key for signatures");
        match is_passing(status) {
            true => Err(StorageError::StsUnavailable { uri: uri(), reason: status.to_string() }),
            false => Err(self.refused(status.to_string())),
        }
    }

    /// Makes the error of an account that gives out nothing.
    fn refused(&self, code: String) -> StorageError {
        StorageError::StsRefused { uri: origin(&self.endpoint), code }
    }
}

/// Returns the only place of a grant.
fn only_place(grant: &Grant) -> Result<&PolicyPrefix> {
    match grant.prefixes() {
        [place] if place.scheme() == Scheme::Adls => Ok(place),
        places => Err(StorageError::NotVendable {
            uri: PolicyPrefix::common_uri(places),
            reason: "a signature of Azure is for one directory; give the table no place but its location".to_owned(),
        }),
    }
}

/// Returns the permissions of a level, in the order that Azure wants.
const fn permissions(level: Level) -> &'static str {
    match level {
        Level::Read => "rl",
        Level::Write => "racwl",
        Level::WriteDelete => "racwdl",
    }
}

/// Formats a time as signatures have it.
fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Returns the body of the request for a key. It counts from a little earlier, for clocks that are behind.
fn key_request(now: DateTime<Utc>, ends: DateTime<Utc>) -> String {
    let starts = now - Duration::from_secs(300);
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><KeyInfo><Start>{}</Start><Expiry>{}</Expiry></KeyInfo>",
        time(starts),
        time(ends)
    )
}

/// Returns the text that is signed: fields in a fixed order, each in a line of its own. Fields that are not used are empty.
fn string_to_sign(permit: &Permit<'_>, key: &DelegationKey) -> String {
    let resource = format!("/blob/{}/{}/{}", permit.account, permit.container, permit.directory);
    [
        permit.permissions,
        // The start: none, so that it counts at once.
        "",
        permit.expiry,
        resource.as_str(),
        key.signed_oid.as_str(),
        key.signed_tid.as_str(),
        key.signed_start.as_str(),
        key.signed_expiry.as_str(),
        key.signed_service.as_str(),
        key.signed_version.as_str(),
        // The authorised and the unauthorised user, the id of the correlation, the address.
        "",
        "",
        "",
        "",
        "https",
        VERSION,
        "d",
        // The snapshot, the scope of encryption, and five headers of answers.
        "",
        "",
        "",
        "",
        "",
        "",
        "",
    ]
    .join("\n")
}

/// Returns the parameters of a signed URL; `None` if the key is not Base64.
fn signature(permit: &Permit<'_>, key: &DelegationKey) -> Option<String> {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(&key.value).ok()?);
    let signature = STANDARD.encode(hmac::sign(&secret, string_to_sign(permit, key).as_bytes()));
    let depth = permit.directory.split('/').count().to_string();
    let fields = [
        ("sp", permit.permissions),
        ("se", permit.expiry),
        ("skoid", key.signed_oid.as_str()),
        ("sktid", key.signed_tid.as_str()),
        ("skt", key.signed_start.as_str()),
        ("ske", key.signed_expiry.as_str()),
        ("sks", key.signed_service.as_str()),
        ("skv", key.signed_version.as_str()),
        ("spr", "https"),
        ("sv", VERSION),
        ("sr", "d"),
        ("sdd", depth.as_str()),
        ("sig", signature.as_str()),
    ];
    Some(fields.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ALL_BUT_UNRESERVED))).join("&"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> DelegationKey {
        // The answer of the reference of "Get User Delegation Key", with values.
        let answer = "<?xml version=\"1.0\" encoding=\"utf-8\"?><UserDelegationKey><SignedOid>oid</SignedOid>\
            <SignedTid>tid</SignedTid><SignedStart>2026-11-30T00:00:00Z</SignedStart><SignedExpiry>2026-11-30T01:00:00Z</SignedExpiry>\
            <SignedService>b</SignedService><SignedVersion>2020-12-06</SignedVersion><Value>c2VjcmV0</Value></UserDelegationKey>";
        quick_xml::de::from_str(answer).expect("a key")
    }

    fn permit(directory: &str) -> Permit<'_> {
        Permit { account: "myaccount", container: "music", directory, permissions: "rl", expiry: "2026-11-30T01:00:00Z" }
    }

    fn grant(uris: &[&str]) -> Grant {
        let prefix = |uri: &&str| PolicyPrefix::of(&Location::parse(uri).expect("a location")).expect("harmless");
        Grant::new(Level::Read, uris.iter().map(prefix).collect())
    }

    /// The fields and the resource `/blob/myaccount/music/…` are those of the reference, in its order.
    #[test]
    fn the_text_that_is_signed_has_the_fields_of_the_reference_in_its_order() {
        let text = string_to_sign(&permit("instruments/guitar"), &key());
        let expected = "rl\n\n2026-11-30T01:00:00Z\n/blob/myaccount/music/instruments/guitar\noid\ntid\n2026-11-30T00:00:00Z\n\
            2026-11-30T01:00:00Z\nb\n2020-12-06\n\n\n\n\nhttps\n2020-12-06\nd\n\n\n\n\n\n\n";
        assert_eq!(text, expected);
        assert_eq!(text.matches('\n').count(), 23, "24 fields");
    }

    /// The signature was computed apart: `printf … | openssl dgst -sha256 -hmac secret -binary | base64`.
    #[test]
    fn a_signature_names_its_directory_by_depth_and_is_encoded() {
        let token = signature(&permit("instruments/guitar"), &key()).expect("signed");
        let expected = "sp=rl&se=2026-11-30T01%3A00%3A00Z&skoid=oid&sktid=tid&skt=2026-11-30T00%3A00%3A00Z\
            &ske=2026-11-30T01%3A00%3A00Z&sks=b&skv=2020-12-06&spr=https&sv=2020-12-06&sr=d&sdd=2\
            &sig=38rw5buxvpoS1TNUcAgOSnFqllBRJPwtntGrpyjczwA%3D";
        assert_eq!(token, expected);
        let broken = DelegationKey { value: "not Base64!".to_owned(), ..key() };
        assert!(signature(&permit("a"), &broken).is_none());
    }

    #[test]
    fn the_request_for_a_key_has_the_form_of_the_reference() {
        let now: DateTime<Utc> = "2026-11-30T00:05:00Z".parse().expect("a time");
        let body = key_request(now, now + Duration::from_secs(3300));
        let expected = "<?xml version=\"1.0\" encoding=\"utf-8\"?><KeyInfo><Start>2026-11-30T00:00:00Z</Start>\
            <Expiry>2026-11-30T01:00:00Z</Expiry></KeyInfo>";
        assert_eq!(body, expected);
    }

    #[test]
    fn a_signature_is_for_one_place_in_azure() {
        let place = "abfss://lake@acc.dfs.core.windows.net/w/t";
        assert_eq!(only_place(&grant(&[place, &format!("{place}/data")])).expect("one").key(), "w/t/");
        for uris in [&[][..], &[place, "abfss://lake@acc.dfs.core.windows.net/w/t2"], &["gs://lake/t"]] {
            assert!(matches!(only_place(&grant(uris)), Err(StorageError::NotVendable { .. })), "{uris:?}");
        }
    }

    #[test]
    fn higher_levels_add_permissions_in_the_order_of_the_reference() {
        const ORDER: &str = "racwdxltmeop";
        for level in [Level::Read, Level::Write, Level::WriteDelete] {
            let places: Vec<_> = permissions(level).chars().map(|c| ORDER.find(c).expect("a permission")).collect();
            assert!(places.is_sorted(), "{level:?}");
            assert_eq!(permissions(level).contains('d'), level == Level::WriteDelete);
            assert_eq!(permissions(level).contains('w'), level != Level::Read);
        }
    }

    proptest! {
        /// Whatever a place is called, it makes no signature, or one whose resource is the place and whose depth is that of it.
        #[test]
        fn no_name_of_a_place_reaches_another_one(key in "[a-z'\"\\\\*?$%&=. \n/]{1,12}") {
            let Ok(location) = Location::parse(&format!("abfss://lake@acc.dfs.core.windows.net/{key}")) else { return Ok(()) };
            let Ok(prefix) = PolicyPrefix::of(&location) else { return Ok(()) };
            let directory = prefix.key().trim_end_matches('/');
            let text = string_to_sign(&permit(directory), &self::key());
            let fields: Vec<&str> = text.split('\n').collect();
            prop_assert_eq!(fields.len(), 24, "no name adds a field");
            prop_assert_eq!(fields[3], format!("/blob/myaccount/music/{}", location.key()));
            let token = signature(&permit(directory), &self::key()).expect("signed");
            let depth = format!("&sdd={}&", location.key().split('/').count());
            prop_assert!(token.contains(&depth), "{}", token);
        }
    }
}
