//! AWS Signature Version 4: the header `authorization` of a signed request.
//!
//! Every function is pure. The caller gives path and query as they are sent, because services differ in how they encode a path.
//! Start reading at [`authorization`].
//!
//! Spec: "Signature Version 4 for API requests" in the AWS IAM User Guide; "Authenticating Requests" in the Amazon S3 API
//! Reference. The tests have the examples that both pages and AWS's test suite publish.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use esker_types::hex;
use ring::{digest, hmac};

/// A request to be signed. It has no `Debug`: a session token is a secret.
pub(crate) struct Request<'a> {
    /// The HTTP method, in capitals.
    pub(crate) method: &'a str,
    /// The path as it is sent, percent-encoded; `/` if the URL has none.
    pub(crate) path: &'a str,
    /// The query as it is sent, percent-encoded, without the question mark.
    pub(crate) query: &'a str,
    /// The headers that are signed. `host` must be among them, and a session token.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// The SHA-256 of the body, in hexadecimal. For S3 it may be a word such as `UNSIGNED-PAYLOAD`.
    pub(crate) body_sha256: &'a str,
}

/// The time and the service that a signature is valid for.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    /// The time in UTC as the header `x-amz-date` has it: `20150830T123600Z`.
    pub(crate) time: &'a str,
    /// The region, such as `eu-west-1`.
    pub(crate) region: &'a str,
    /// The service, such as `sts`.
    pub(crate) service: &'a str,
}

impl Scope<'_> {
    /// Returns the day: the part of the time before the `T`.
    fn day(&self) -> &str {
        self.time.split('T').next().unwrap_or_default()
    }

    /// Returns the scope as text, as the credential and the string to sign have it.
    fn text(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.day(), self.region, self.service)
    }
}

/// Returns the SHA-256 of bytes, in hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Returns the HMAC-SHA-256 of a text.
fn hmac_sha256(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

/// Returns the query with its parameters sorted, each with an equals sign.
fn canonical_query(query: &str) -> String {
    let mut parameters: Vec<(&str, &str)> =
        query.split('&').filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap_or((p, ""))).collect();
    parameters.sort_unstable();
    parameters.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Returns the headers by their names in lower case. Runs of spaces are one space; values of one name are joined by commas.
fn canonical_headers(headers: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut canonical: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        canonical
            .entry(name.to_ascii_lowercase())
            .and_modify(|earlier| {
                earlier.push(',');
                earlier.push_str(&value);
            })
            .or_insert(value);
    }
    canonical
}

/// Returns the canonical request, and the names of its headers joined by semicolons.
fn canonical_request(request: &Request<'_>) -> (String, String) {
    let headers = canonical_headers(request.headers);
    let signed = headers.keys().map(String::as_str).collect::<Vec<_>>().join(";");
    let listed = headers.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{name}:{value}");
        text
    });
    let query = canonical_query(request.query);
    let canonical = format!("{}\n{}\n{query}\n{listed}\n{signed}\n{}", request.method, request.path, request.body_sha256);
    (canonical, signed)
}

/// Returns the value of the header `authorization` for a request.
///
/// `key_id` and `secret` are the long-lived or temporary keys of whoever sends the request.
pub(crate) fn authorization(request: &Request<'_>, scope: &Scope<'_>, key_id: &str, secret: &str) -> String {
    let (canonical, signed) = canonical_request(request);
    let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{}\n{}", scope.time, scope.text(), sha256_hex(canonical.as_bytes()));
    let mut key = hmac_sha256(format!("AWS4{secret}").as_bytes(), scope.day());
    for part in [scope.region, scope.service, "aws4_request"] {
        key = hmac_sha256(key.as_ref(), part);
    }
    let signature = hex(hmac_sha256(key.as_ref(), &to_sign).as_ref());
    format!("AWS4-HMAC-SHA256 Credential={key_id}/{}, SignedHeaders={signed}, Signature={signature}", scope.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "20150830T123600Z";
    const SUITE: [(&str, &str); 2] = [("Host", "example.amazonaws.com"), ("X-Amz-Date", TIME)];

    /// Signs with the keys of AWS's test suite, and returns the signature.
    fn suite(method: &str, query: &str, more: &[(&str, &str)], body: &str) -> String {
        let headers = [SUITE.as_slice(), more].concat();
        let request = Request { method, path: "/", query, headers: &headers, body_sha256: &sha256_hex(body.as_bytes()) };
        let scope = Scope { time: TIME, region: "us-east-1", service: "service" };
        let header = authorization(&request, &scope, "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        header.rsplit_once("Signature=").expect("a signature").1.to_owned()
    }

    #[test]
    fn the_test_suite_of_aws_is_signed_as_published() {
        let form = [("Content-Type", "application/x-www-form-urlencoded")];
        let trimmed = [("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")];
        let token = [(
            "X-Amz-Security-Token",
            concat!(
                "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRq",
                "TflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75Y",
                "U9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9K",
                "SYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==",
            ),
        )];
        for (name, signature, published) in [
            ("get-vanilla", suite("GET", "", &[], ""), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("post-vanilla", suite("POST", "", &[], ""), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            (
                "get-vanilla-query-order-key-case",
                suite("GET", "Param2=value2&Param1=value1", &[], ""),
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "get-header-value-trim",
                suite("GET", "", &trimmed, ""),
                "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            ),
            (
                "post-x-www-form-urlencoded",
                suite("POST", "", &form, "Param1=value1"),
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                "post-sts-header-before",
                suite("POST", "", &token, ""),
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
        ] {
            assert_eq!(signature, published, "{name}");
        }
    }

    #[test]
    fn the_example_of_the_iam_guide_is_signed_as_published() {
        let headers = [
            ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("Host", "iam.amazonaws.com"),
            ("X-Amz-Date", TIME),
        ];
        let query = "Action=ListUsers&Version=2010-05-08";
        let request = Request { method: "GET", path: "/", query, headers: &headers, body_sha256: &sha256_hex(b"") };
        let scope = Scope { time: TIME, region: "us-east-1", service: "iam" };
        assert_eq!(
            authorization(&request, &scope, "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    /// The S3 reference publishes the canonical request of its example of GET, and the hash of it.
    #[test]
    fn the_canonical_request_is_the_published_one() {
        let body_sha256 = sha256_hex(b"");
        let headers = [
            ("x-amz-date", "20130524T000000Z"),
            ("Range", "bytes=0-9"),
            ("Host", "examplebucket.s3.amazonaws.com"),
            ("x-amz-content-sha256", body_sha256.as_str()),
        ];
        let request = Request { method: "GET", path: "/test.txt", query: "", headers: &headers, body_sha256: &body_sha256 };
        let (canonical, signed) = canonical_request(&request);
        assert_eq!(signed, "host;range;x-amz-content-sha256;x-amz-date");
        assert_eq!(
            canonical,
            "GET\n/test.txt\n\nhost:examplebucket.s3.amazonaws.com\nrange:bytes=0-9\n\
             x-amz-content-sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\
             x-amz-date:20130524T000000Z\n\nhost;range;x-amz-content-sha256;x-amz-date\n\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(sha256_hex(canonical.as_bytes()), "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972");
    }

    #[test]
    fn the_examples_of_the_s3_reference_are_signed_as_published() {
        let time = "20130524T000000Z";
        let signature = |method: &str, path: &str, query: &str, more: &[(&str, &str)], body: &str| {
            let body_sha256 = sha256_hex(body.as_bytes());
            let common = [
                ("Host", "examplebucket.s3.amazonaws.com"),
                ("x-amz-date", time),
                ("x-amz-content-sha256", body_sha256.as_str()),
            ];
            let headers = [common.as_slice(), more].concat();
            let request = Request { method, path, query, headers: &headers, body_sha256: &body_sha256 };
            let scope = Scope { time, region: "us-east-1", service: "s3" };
            let header = authorization(&request, &scope, "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
            header.rsplit_once("Signature=").expect("a signature").1.to_owned()
        };
        assert_eq!(
            signature("GET", "/test.txt", "", &[("Range", "bytes=0-9")], ""),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        let put = [("Date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
        assert_eq!(
            signature("PUT", "/test%24file.text", "", &put, "Welcome to Amazon S3."),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
        assert_eq!(
            signature("GET", "/", "lifecycle", &[], ""),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
        assert_eq!(
            signature("GET", "/", "max-keys=2&prefix=J", &[], ""),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
    }
}
