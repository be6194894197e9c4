//! Credentials of Google Cloud Storage: the warehouse's own token, narrowed to the places of one table.
//!
//! The token service exchanges a token for one with a *credential access boundary*: rules of what the new one may still do. A place
//! is a condition in CEL, which holds the place in quotes. A [`PolicyPrefix`] has no quote and no backslash, so nothing breaks out of
//! it. Start reading at [`Gcs::exchange`].
//!
//! Spec: "Create a downscoped credential" in the IAM documentation of Google Cloud; RFC 8693.

use std::fmt;

use chrono::Utc;
use object_store::gcp::GcpCredentialProvider;
use percent_encoding::utf8_percent_encode;
use reqwest::{Client, Url};
use serde::{Deserialize, Serialize};

use super::sts::{ALL_BUT_UNRESERVED, is_passing, origin, send, token_service};
use super::{BearerToken, Grant, Level, PolicyPrefix, VendingOptions};
use crate::{Result, Scheme, StorageError};

/// The address of Google's token service.
const GOOGLE: &str = "https://sts.googleapis.com/v1/token";

/// The type of all tokens of an exchange.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The maximum number of rules of a boundary. There is one for each bucket.
const MOST_RULES: usize = 10;

/// The maximum length of a condition, in characters.
const LONGEST_CONDITION: usize = 2_048;

/// The least life in seconds of the warehouse's own token: `object_store` gets a new one when 300 seconds are left.
///
/// A narrowed token of a service account ends with its own one, and Google does not say when that is.
const LEAST_LIFE_SECONDS: i64 = 240;

/// The parameter `options` of an exchange.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Options {
    access_boundary: AccessBoundary,
}

/// Rules, of which one must allow what a token does.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AccessBoundary {
    access_boundary_rules: Vec<Rule>,
}

/// A rule for one bucket.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    available_permissions: &'static [&'static str],
    available_resource: String,
    availability_condition: Condition,
}

/// A condition in CEL.
#[derive(Debug, Serialize)]
struct Condition {
    expression: String,
}

/// The answer to an exchange.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    /// Google leaves it out for the token of a service account.
    expires_in: Option<i64>,
}

/// The answer to an exchange that is refused.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// The client of Google's token service.
pub(super) struct Gcs {
    endpoint: Url,
    own: GcpCredentialProvider,
    http: Client,
}

impl fmt::Debug for Gcs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gcs").field("endpoint", &origin(&self.endpoint)).finish_non_exhaustive()
    }
}

impl Gcs {
    /// Makes the client. Sends no request.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidLocation`](StorageError::InvalidLocation) if the endpoint is not a URL of HTTP, and
    /// [`StsUnavailable`](StorageError::StsUnavailable) if the HTTP client can't be built.
    pub(super) fn new(options: &VendingOptions, own: GcpCredentialProvider) -> Result<Self> {
        let (endpoint, http) = token_service(options.sts_endpoint.as_deref().unwrap_or(GOOGLE))?;
        Ok(Self { endpoint, own, http })
    }

    /// Returns a token for a grant.
    ///
    /// # Errors
    ///
    /// Returns [`NotVendable`](StorageError::NotVendable) if the grant makes no boundary,
    /// [`StsRefused`](StorageError::StsRefused) if the service refuses, [`StsUnavailable`](StorageError::StsUnavailable) if it does
    /// not answer, and the errors of [`StorageError::new`] if the warehouse's own token can't be got.
    pub(super) async fn exchange(&self, grant: &Grant) -> Result<BearerToken> {
        let uri = || origin(&self.endpoint);
        let boundary = boundary(grant)?;
        let own = self.own.get_credential().await.map_err(|e| StorageError::new(&uri(), e))?;
        let now_ms = Utc::now().timestamp_millis();
        let request = self.http.post(self.endpoint.clone()).header("content-type", "application/x-www-form-urlencoded");
        let (status, text) = send(request.body(form(&own.bearer, &boundary)), &uri()).await?;
        if !status.is_success() {
            let code = serde_json::from_str(&text).map_or_else(|_| status.to_string(), |refusal: Refusal| refusal.error);
            tracing::warn!(endpoint = uri(), %status, code, "the token service vends no credentials");
            return Err(match is_passing(status) {
                true => StorageError::StsUnavailable { uri: uri(), reason: code },
                false => StorageError::StsRefused { uri: uri(), code },
            });
        }
        let answer: Answer = serde_json::from_str(&text)
            .map_err(|_| StorageError::StsRefused { uri: uri(), code: "its answer has no token".to_owned() })?;
        let seconds = answer.expires_in.unwrap_or(LEAST_LIFE_SECONDS).clamp(0, 24 * 3600);
        Ok(BearerToken { token: answer.access_token, expires_ms: now_ms + seconds * 1000 })
    }
}

/// Returns the form of an exchange.
fn form(own: &str, boundary: &str) -> String {
    let fields = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token_type", ACCESS_TOKEN),
        ("requested_token_type", ACCESS_TOKEN),
        ("subject_token", own),
        ("options", boundary),
    ];
    let encoded = fields.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ALL_BUT_UNRESERVED)));
    encoded.join("&")
}

/// Returns the roles whose permissions a level has at most.
///
/// A creator makes new objects and overwrites none: that needs the permission to delete.
const fn roles(level: Level) -> &'static [&'static str] {
    match level {
        Level::Read => &["inRole:roles/storage.objectViewer"],
        Level::Write => &["inRole:roles/storage.objectViewer", "inRole:roles/storage.objectCreator"],
        Level::WriteDelete => &["inRole:roles/storage.objectUser"],
    }
}

/// Returns the boundary for a grant, as JSON.
///
/// # Errors
///
/// Returns [`NotVendable`](StorageError::NotVendable) if a place is not in Google Cloud Storage, if there is none, or if there are so
/// many that a condition is too long.
fn boundary(grant: &Grant) -> Result<String> {
    let refused = |reason: &str| {
        let uri = PolicyPrefix::common_uri(grant.prefixes());
        StorageError::NotVendable { uri, reason: reason.to_owned() }
    };
    if grant.prefixes().is_empty() || grant.prefixes().iter().any(|prefix| prefix.scheme() != Scheme::Gcs) {
        return Err(refused("the table has no place in Google Cloud Storage, or one elsewhere"));
    }
    let buckets = grant.buckets();
    let rule = |bucket: &&str| {
        let within = grant.prefixes().iter().filter(|prefix| prefix.bucket() == *bucket);
        let expression = within.map(condition).collect::<Vec<_>>().join(" || ");
        Rule {
            available_permissions: roles(grant.level()),
            available_resource: format!("//storage.googleapis.com/projects/_/buckets/{bucket}"),
            availability_condition: Condition { expression },
        }
    };
    let rules: Vec<Rule> = buckets.iter().map(rule).collect();
    if rules.len() > MOST_RULES || rules.iter().any(|rule| rule.availability_condition.expression.len() > LONGEST_CONDITION) {
        return Err(refused("its places make a condition that is too long; give the table fewer or shorter ones"));
    }
    let options = Options { access_boundary: AccessBoundary { access_boundary_rules: rules } };
    serde_json::to_string(&options).map_err(|_| refused("its boundary can't be written as JSON, which is a bug of Esker"))
}

/// Returns the condition for a place: an object in it, or a listing of it.
fn condition(place: &PolicyPrefix) -> String {
    let (bucket, key) = (place.bucket(), place.key());
    format!(
        "resource.name.startsWith('projects/_/buckets/{bucket}/objects/{key}') || \
         api.getAttribute('storage.googleapis.com/objectListPrefix', '').startsWith('{key}')"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::Location;

    fn grant(level: Level, uris: &[&str]) -> Grant {
        let prefix = |uri: &&str| PolicyPrefix::of(&Location::parse(uri).expect("a location")).expect("harmless");
        Grant::new(level, uris.iter().map(prefix).collect())
    }

    /// Reads the prefixes that the conditions of a boundary allow, by bucket.
    fn allowed(boundary: &str) -> Vec<(String, String)> {
        let boundary: Value = serde_json::from_str(boundary).expect("JSON");
        let rules = boundary["accessBoundary"]["accessBoundaryRules"].as_array().expect("rules");
        let mut all = Vec::new();
        for rule in rules {
            let bucket = rule["availableResource"].as_str().and_then(|name| name.rsplit('/').next()).expect("a bucket");
            let expression = rule["availabilityCondition"]["expression"].as_str().expect("a condition");
            for part in expression.split(" || ") {
                // A condition is one call with one text in single quotes at its end.
                let (call, rest) = part.split_once("startsWith('").expect("a call");
                let text = rest.strip_suffix("')").expect("the end of the call");
                assert!(!text.contains(['\'', '\\']), "{part}");
                let object = format!("projects/_/buckets/{bucket}/objects/");
                let key = match call {
                    "resource.name." => text.strip_prefix(object.as_str()).expect("an object of the bucket"),
                    "api.getAttribute('storage.googleapis.com/objectListPrefix', '')." => text,
                    other => panic!("{other}"),
                };
                all.push((bucket.to_owned(), key.to_owned()));
            }
        }
        all
    }

    /// The example "Limit permissions when listing objects" of Google's documentation, with a slash at the end of the prefix.
    #[test]
    fn a_boundary_is_that_of_the_documented_example_with_a_slash_at_the_end() {
        let made = boundary(&grant(Level::Read, &["gs://example-bucket/customer-a"])).expect("a boundary");
        let expected = json!({"accessBoundary": {"accessBoundaryRules": [{
            "availablePermissions": ["inRole:roles/storage.objectViewer"],
            "availableResource": "//storage.googleapis.com/projects/_/buckets/example-bucket",
            "availabilityCondition": {
                "expression": "resource.name.startsWith('projects/_/buckets/example-bucket/objects/customer-a/') || \
                    api.getAttribute('storage.googleapis.com/objectListPrefix', '').startsWith('customer-a/')",
            },
        }]}});
        assert_eq!(serde_json::from_str::<Value>(&made).expect("JSON"), expected);
    }

    /// The example request of Google's documentation, whose fields are these.
    #[test]
    fn an_exchange_has_the_documented_fields() {
        assert_eq!(
            form("ya29.a+b", "{}"),
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
             &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token\
             &requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token&subject_token=ya29.a%2Bb&options=%7B%7D"
        );
    }

    #[test]
    fn a_level_has_no_role_of_a_higher_one_and_nobody_lists_another_bucket() {
        let of = |level| boundary(&grant(level, &["gs://a/t", "gs://b/u"])).expect("a boundary");
        assert!(!of(Level::Read).contains("Creator") && !of(Level::Write).contains("objectUser"));
        assert!(of(Level::WriteDelete).contains("roles/storage.objectUser"));
        let pair = |bucket: &str, key: &str| (bucket.to_owned(), key.to_owned());
        assert_eq!(allowed(&of(Level::Read)), [pair("a", "t/"), pair("a", "t/"), pair("b", "u/"), pair("b", "u/")]);
    }

    #[test]
    fn places_elsewhere_none_and_too_many_are_refused() {
        let many: Vec<String> = (0..40).map(|n| format!("gs://lake/a-long-directory-of-a-table-{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let buckets: Vec<String> = (0..11).map(|n| format!("gs://lake{n}/t")).collect();
        let buckets: Vec<&str> = buckets.iter().map(String::as_str).collect();
        for uris in [&[][..], &["s3://lake/t"], &["gs://lake/t", "s3://lake/t"], &many[..], &buckets[..]] {
            assert!(matches!(boundary(&grant(Level::Read, uris)), Err(StorageError::NotVendable { .. })), "{uris:?}");
        }
    }

    proptest! {
        /// Whatever a place is called, it makes no boundary, or one that allows exactly the place, with a slash at its end.
        #[test]
        fn no_name_of_a_place_reaches_another_one(key in "[a-z'\"\\\\*?$%{}()|&. \n/]{1,12}", sibling in "[a-z0-9]") {
            let Ok(location) = Location::parse(&format!("gs://lake/{key}")) else { return Ok(()) };
            let Ok(prefix) = PolicyPrefix::of(&location) else { return Ok(()) };
            let made = boundary(&Grant::new(Level::WriteDelete, vec![prefix])).expect("a boundary");
            let expected = format!("{}/", location.key());
            for (bucket, allowed) in allowed(&made) {
                prop_assert_eq!(&bucket, "lake");
                prop_assert_eq!(&allowed, &expected);
                let other = format!("{}{sibling}/data.parquet", location.key());
                prop_assert!(!other.starts_with(&allowed), "orders covers nothing of orders2");
            }
        }
    }
}
