//! The headers of a signed request: those that the signature covers, and those that may not be there.
//!
//! AWS wants every `x-amz-` header signed. So the ones listed here are all that a client can send. Others change what the request
//! means: they copy another object, open an object to everybody, encrypt it with a key of the client's, or redirect from it. Headers
//! without the prefix are not signed and change nothing but the answer or the object's own metadata. Start reading at [`check`].
//!
//! Spec: "Authenticating Requests: Using the Authorization Header" in the Amazon S3 API Reference.

use std::collections::BTreeMap;

use super::address::{Refusal, S3Address};
use super::delete;
use super::operation::{DELETE_OBJECTS, S3Operation};
use crate::sigv4::sha256_hex;

/// The hash of a body that the signature does not cover.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// The hash of such a body if checksums follow it.
const UNSIGNED_WITH_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// The headers that are made here. Those of the client, if it sends any, are replaced.
const MADE_HERE: [&str; 4] = ["authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"];

/// The `x-amz-` headers that a client may send.
const KNOWN: [&str; 14] = [
    "x-amz-checksum-algorithm",
    "x-amz-checksum-mode",
    "x-amz-checksum-type",
    "x-amz-decoded-content-length",
    "x-amz-expected-bucket-owner",
    "x-amz-mp-object-size",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-storage-class",
    "x-amz-te",
    "x-amz-trailer",
    "x-amz-user-agent",
];

/// The beginnings of further ones.
const KNOWN_BEGINNINGS: [&str; 4] = ["x-amz-checksum-crc32", "x-amz-checksum-crc64nvme", "x-amz-checksum-sha", "x-amz-meta-"];

/// The only headers of a client that the signature of a read may cover and still be used again: they have one value each.
const CONSTANT: [&str; 2] = ["x-amz-checksum-mode", "x-amz-te"];

/// The headers that a signature covers, besides those that have the time and the keys.
#[derive(Debug)]
pub(super) struct SignedHeaders {
    /// The client's own headers, by the names that it gave them.
    pub(super) of_client: BTreeMap<String, String>,
    /// The value of `x-amz-content-sha256`.
    pub(super) body_sha256: String,
    /// The signature holds for any request for the same URI, whatever its headers.
    pub(super) reusable: bool,
}

/// Checks the headers and the body of a request, and returns those that are signed.
///
/// `normal_host` brings a host into the form of the address. `kms_key_arn` names the only key that a client may have objects
/// encrypted with.
///
/// # Errors
///
/// Returns the reason if a header changes the meaning of the request, is there twice or contradicts the URI or the body.
pub(super) fn check(
    operation: &S3Operation,
    address: &S3Address,
    sent: &BTreeMap<String, Vec<String>>,
    body: Option<&str>,
    normal_host: impl Fn(&str) -> String,
    kms_key_arn: Option<&str>,
) -> Result<SignedHeaders, Refusal> {
    let mut by_name: BTreeMap<String, String> = BTreeMap::new();
    let mut of_client = BTreeMap::new();
    for (name, values) in sent {
        let (lower, value) = (name.to_ascii_lowercase(), values.join(","));
        check_one(&lower, &value, kms_key_arn)?;
        if lower == "host" && normal_host(&value) != address.host() {
            return Err("its header Host is not the host of its URI".to_owned());
        }
        if is_signed(&lower) && !MADE_HERE.contains(&lower.as_str()) {
            of_client.insert(name.clone(), value.clone());
        }
        if by_name.insert(lower, value).is_some() {
            return Err(format!("its header {name:?} is there in two spellings"));
        }
    }
    let given = by_name.get("x-amz-content-sha256").map(String::as_str);
    let body_sha256 = match operation.name {
        // Only the hash binds the signature to the keys that were checked.
        DELETE_OBJECTS => sha256_hex(body.unwrap_or_default().as_bytes()),
        _ => body_sha256(operation, given, by_name.contains_key("x-amz-trailer"))?,
    };
    if given.is_some_and(|given| given != body_sha256) {
        return Err("its header x-amz-content-sha256 is not the hash of its body".to_owned());
    }
    let constant = of_client.keys().all(|name: &String| CONSTANT.contains(&name.to_ascii_lowercase().as_str()));
    let reusable = operation.reads_object() && constant && body_sha256 == UNSIGNED;
    Ok(SignedHeaders { of_client, body_sha256, reusable })
}

/// Returns the keys that a request deletes by its body.
///
/// # Errors
///
/// Returns the reason if the body is missing or has another form.
pub(super) fn deleted_keys(operation: &S3Operation, body: Option<&str>) -> Result<Vec<String>, Refusal> {
    if operation.name == DELETE_OBJECTS { delete::keys(body.unwrap_or_default()) } else { Ok(Vec::new()) }
}

/// Checks whether a signature covers a header of the client, by the name in lower case.
fn is_signed(name: &str) -> bool {
    name.starts_with("x-amz-") || matches!(name, "content-type" | "content-md5")
}

/// Checks a header by itself.
fn check_one(name: &str, value: &str, kms_key_arn: Option<&str>) -> Result<(), Refusal> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let plain = value.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if name.is_empty() || !name.bytes().all(token) || is_signed(name) && !plain {
        return Err(format!("its header {name:?} has a character that can't be signed"));
    }
    if !name.starts_with("x-amz-") || MADE_HERE.contains(&name) {
        return Ok(());
    }
    let known = KNOWN.contains(&name) || KNOWN_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
    if !known {
        return Err(format!("its header {name} changes what the request means, and may not be sent"));
    }
    if name == "x-amz-server-side-encryption-aws-kms-key-id" && kms_key_arn != Some(value) {
        return Err(format!("its header {name} is not the key of vending.kms_key_arn"));
    }
    Ok(())
}

/// Returns the hash that a signature covers instead of the body: the client's, if it is one that needs no key.
fn body_sha256(operation: &S3Operation, given: Option<&str>, has_trailer: bool) -> Result<String, Refusal> {
    let Some(given) = given else {
        let missing = if has_trailer && operation.has_content() { UNSIGNED_WITH_TRAILER } else { UNSIGNED };
        return Ok(missing.to_owned());
    };
    let is_hash = given.len() == 64 && given.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let possible = is_hash || given == UNSIGNED || given == UNSIGNED_WITH_TRAILER && operation.has_content();
    match possible {
        true => Ok(given.to_owned()),
        false => Err(format!("its body is signed in pieces or has no hash: x-amz-content-sha256 is {given:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::address::S3Store;

    const DELETE: &str = "<Delete><Object><Key>k</Key></Object></Delete>";

    fn checked(method: &str, request: &str, sent: &[(&str, &str)], body: Option<&str>) -> Result<SignedHeaders, Refusal> {
        let store = S3Store::new(Some("http://minio:9000"), "r", false).expect("a store");
        let address = store.resolve(&format!("http://minio:9000/lake{request}"), &["lake"]).expect("an address");
        let operation = S3Operation::of(method, &address).expect("an operation");
        let sent = sent.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect();
        check(operation, &address, &sent, body, |host| store.normal_host(host), Some("arn:aws:kms:r:1:key/k"))
    }

    #[test]
    fn headers_that_change_the_meaning_are_refused_in_any_spelling() {
        for (name, value) in [
            ("x-amz-copy-source", "/lake/other"),
            ("X-Amz-Copy-Source", "/lake/other"),
            ("x-amz-copy-source-range", "bytes=0-1"),
            ("x-amz-acl", "public-read"),
            ("x-amz-grant-read", "uri=x"),
            ("x-amz-website-redirect-location", "http://evil"),
            ("x-amz-server-side-encryption-customer-key", "x"),
            ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "arn:aws:kms:r:2:key/k"),
            ("x-amz-tagging", "a=b"),
            ("x-amz-object-lock-mode", "COMPLIANCE"),
            ("x-amz-bypass-governance-retention", "true"),
            ("x-amz-request-payer", "requester"),
            ("x-amz-rename-source", "/lake/other"),
            ("x-amz-mfa", "1"),
            ("x-amz-new", "1"),
            ("x-amz-meta-a", "b\r\nx-amz-acl: public-read"),
            ("x-amz-acl ", "public-read"),
            ("x-amz-\u{e9}", "x"),
            ("", "x"),
            ("Host", "evil"),
        ] {
            assert!(checked("PUT", "/k", &[(name, value)], None).is_err(), "{name}");
        }
        let twice = [("x-amz-meta-a", "1"), ("X-Amz-Meta-A", "2")];
        assert!(checked("PUT", "/k", &twice, None).is_err());
    }

    #[test]
    fn the_headers_of_clients_are_signed_or_left_alone() {
        let sent = [
            ("Host", "minio:9000"),
            ("Content-Type", "application/octet-stream"),
            ("Content-Length", "3"),
            ("User-Agent", "é"),
            ("amz-sdk-invocation-id", "1"),
            ("x-amz-sdk-checksum-algorithm", "CRC32"),
            ("x-amz-checksum-crc32", "AAAA"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "arn:aws:kms:r:1:key/k"),
            ("x-amz-date", "x"),
        ];
        let signed = checked("PUT", "/k", &sent, None).expect("signed");
        let names: Vec<&str> = signed.of_client.keys().map(String::as_str).collect();
        let expected = [
            "Content-Type",
            "x-amz-checksum-crc32",
            "x-amz-sdk-checksum-algorithm",
            "x-amz-server-side-encryption-aws-kms-key-id",
        ];
        assert_eq!(names, expected);
        assert_eq!((signed.body_sha256.as_str(), signed.reusable), (UNSIGNED, false));
    }

    #[test]
    fn the_body_of_a_deletion_is_bound_and_others_are_as_the_client_says() {
        let hash = sha256_hex(DELETE.as_bytes());
        assert_eq!(checked("POST", "?delete", &[], Some(DELETE)).expect("signed").body_sha256, hash);
        assert!(checked("POST", "?delete", &[("x-amz-content-sha256", &hash)], Some(DELETE)).is_ok());
        for wrong in [UNSIGNED, UNSIGNED_WITH_TRAILER, &sha256_hex(b"")] {
            assert!(checked("POST", "?delete", &[("x-amz-content-sha256", wrong)], Some(DELETE)).is_err(), "{wrong}");
        }
        let put = |sent: &[(&str, &str)]| checked("PUT", "/k", sent, None).map(|signed| signed.body_sha256);
        assert_eq!(put(&[("x-amz-content-sha256", &hash)]).expect("signed"), hash);
        assert_eq!(put(&[("X-Amz-Trailer", "x-amz-checksum-crc32")]).expect("signed"), UNSIGNED_WITH_TRAILER);
        for wrong in ["STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "", "x"] {
            assert!(put(&[("x-amz-content-sha256", wrong)]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_signature_of_a_read_is_used_again_if_no_header_changes_it() {
        let reusable =
            |method: &str, request: &str, sent: &[(&str, &str)]| checked(method, request, sent, None).expect("signed").reusable;
        assert!(reusable("GET", "/k", &[("Range", "bytes=0-1"), ("x-amz-checksum-mode", "ENABLED"), ("Host", "minio:9000")]));
        assert!(reusable("HEAD", "/k", &[]));
        assert!(!reusable("GET", "/k", &[("x-amz-expected-bucket-owner", "1")]));
        assert!(!reusable("GET", "/k", &[("Content-Type", "x")]));
        assert!(!reusable("GET", "?list-type=2&prefix=k%2F", &[]) && !reusable("PUT", "/k", &[]));
    }
}
