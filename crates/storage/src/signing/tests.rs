//! Requests that are signed and refused, and a model of what a store takes of a URI.
//!
//! The model reads the signed URI with the URL parser of browsers, which removes dot segments, and decodes the path by itself. It
//! shares no code with the signer.

use std::sync::LazyLock;

use proptest::prelude::*;
use reqwest::Url;
use serde::Deserialize;

use super::*;

const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "get"];

/// Beginnings of URIs. Those of the two stores come more often.
const HOSTS: [&str; 15] = [
    "http://minio:9000",
    "http://minio:9000",
    "HTTP://minio:9000",
    "http://MINIO:9000",
    "http://lake.minio:9000",
    "http://minio",
    "http://u@minio:9000",
    "http://minio:9000@evil",
    "https://lake.s3.eu-west-1.amazonaws.com",
    "https://lake.s3.eu-west-1.amazonaws.com:443",
    "https://s3.eu-west-1.amazonaws.com",
    "https://second.s3.eu-west-1.amazonaws.com",
    "https://other.s3.eu-west-1.amazonaws.com",
    "https://lake.s3.eu-west-1.amazonaws.com.evil",
    "//minio:9000",
];

/// The signers of the random requests: for a store with the bucket in the path, and for AWS's with both styles.
static SIGNERS: LazyLock<[Signer; 2]> = LazyLock::new(|| [signer(Some("http://minio:9000"), true), signer(None, true)]);

/// Makes a signer for `eu-west-1`, at an endpoint or at AWS.
fn signer(endpoint: Option<&str>, checks_headers: bool) -> Signer {
    let options = [("region", "eu-west-1"), ("access_key_id", "own"), ("secret_access_key", "secret")];
    let mut cloud: BTreeMap<String, String> = options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    cloud.extend(endpoint.map(|endpoint| ("endpoint".to_owned(), endpoint.to_owned())));
    let level = Some(Level::WriteDelete);
    let options = SigningOptions { level, anonymous_level: None, kms_key_arn: None, checks_headers };
    let at = Location::parse("s3://lake/w").expect("a location");
    Signer::open(&at, &cloud, &RequestCounts::default(), options).expect("a signer")
}

/// Makes a grant for a table with two places.
fn grant(level: Level) -> Grant {
    let place = |uri: &str| PolicyPrefix::of(&Location::parse(uri).expect("a location")).expect("harmless");
    Grant::new(level, vec![place("s3://lake/w/t"), place("s3://second/t")])
}

fn request(method: &str, uri: &str, body: Option<String>) -> SignRequest {
    let (region, headers) = ("eu-west-1".to_owned(), BTreeMap::new());
    SignRequest { region, uri: uri.to_owned(), method: method.to_owned(), headers, body }
}

fn keys(token: Option<&str>) -> Keys {
    Keys { id: "KEY".to_owned(), secret: "secret".to_owned(), token: token.map(str::to_owned) }
}

/// Decodes percent signs once, byte by byte.
fn once(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut left = text.as_bytes();
    while let Some((first, rest)) = left.split_first() {
        left = rest;
        if *first == b'%' {
            let hex = std::str::from_utf8(&rest[..2]).expect("two digits");
            bytes.push(u8::from_str_radix(hex, 16).expect("two digits"));
            left = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

/// Returns the bucket and the key that a store finds in a signed URI.
fn taken(uri: &str) -> (String, String) {
    let url = Url::parse(uri).expect("a URL");
    assert_eq!(url.as_str(), uri, "the parser finds nothing to normalise");
    let host = url.host_str().expect("a host").to_owned();
    let path = url.path().strip_prefix('/').expect("a path");
    let own = host.strip_suffix(".s3.eu-west-1.amazonaws.com").map(str::to_owned);
    let (bucket, key) = match own {
        Some(bucket) => (bucket, path),
        None => {
            assert!(host == "minio" && url.port() == Some(9000) || host == "s3.eu-west-1.amazonaws.com", "{uri}");
            let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
            (bucket.to_owned(), key)
        }
    };
    (bucket, once(key))
}

/// Checks that a key, or the prefix of a listing, lies in a place of the grant.
fn is_inside(bucket: &str, key: &str) -> bool {
    let mut segments = key.split('/');
    let first = match bucket {
        "lake" => segments.next() == Some("w") && segments.next() == Some("t"),
        "second" => segments.next() == Some("t"),
        _ => false,
    };
    let rest: Vec<&str> = segments.collect();
    first && !rest.is_empty() && !rest.iter().any(|segment| matches!(*segment, "." | ".."))
}

/// The body of DeleteObjects, as a library reads it.
#[derive(Deserialize)]
struct DeleteBody {
    #[serde(rename = "Object", default)]
    objects: Vec<DeletedObject>,
}

/// An object in such a body.
#[derive(Deserialize)]
struct DeletedObject {
    #[serde(rename = "Key")]
    key: String,
}

/// Checks that a signed request reaches nothing outside of the grant.
fn check_reach(method: &str, signed: &SignedRequest, body: Option<&str>) {
    let url = Url::parse(&signed.uri).expect("a URL");
    let (bucket, key) = taken(&signed.uri);
    assert!(["lake", "second"].contains(&bucket.as_str()), "{}", signed.uri);
    let parameters: Vec<(String, String)> = url.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
    let of_objects = ["uploads", "uploadId", "partNumber", "x-id"];
    if !key.is_empty() {
        assert!(is_inside(&bucket, &key) && !key.contains("//") && !key.ends_with('/'), "{}", signed.uri);
        assert!(parameters.iter().all(|(name, _)| of_objects.contains(&name.as_str())), "{}", signed.uri);
    } else if method == "POST" {
        let body: DeleteBody = quick_xml::de::from_str(body.expect("a body")).expect("XML");
        assert!(!body.objects.is_empty() && body.objects.iter().all(|object| is_inside(&bucket, &object.key)));
    } else {
        let prefixes: Vec<&String> = parameters.iter().filter(|(name, _)| name == "prefix").map(|(_, value)| value).collect();
        assert!(method == "GET" && prefixes.len() == 1 && is_inside(&bucket, prefixes[0]), "{}", signed.uri);
    }
}

/// Pieces of paths. Half of them are legal.
fn path() -> impl Strategy<Value = String> {
    let begins = [
        "",
        "/",
        "/lake/w/t/",
        "/lake/w/t/",
        "/w/t/",
        "/w/t/",
        "/second/t/",
        "/lake/w/t",
        "/lake/w/t2/",
        "/lake/W/t/",
        "//lake/w/t/",
        "/other/",
        "/lake",
        "/lake/",
    ];
    let pieces = [
        "/",
        "/",
        "x",
        "data",
        "t",
        "..",
        ".",
        "%2e",
        "%2E%2e",
        "..%2f",
        "%2F",
        "%5c",
        "\\",
        "%252e%252e%252f",
        "+",
        "%20",
        "%00",
        "%c3%a9",
        "é",
        "%C0%AE",
        ";v=1",
        "?",
        "#",
        "%",
        "=",
        "(",
        "lake",
        "w",
        "T",
        "\u{2024}",
        "\t",
        "@",
        ":",
        "*",
    ];
    let piece = prop::sample::select(pieces.to_vec());
    let begin = prop::sample::select(begins.to_vec());
    (begin, prop::collection::vec(piece, 0..6)).prop_map(|(begin, rest)| begin.to_owned() + &rest.concat())
}

fn query() -> impl Strategy<Value = String> {
    let pieces = [
        "list-type=2",
        "prefix=w%2Ft%2F",
        "prefix=w/t/x",
        "prefix=w%2Ft",
        "prefix=",
        "prefix=t%2F",
        "prefix=w/t/../u/",
        "prefix=w%2Ft%2F%2e%2e%2F",
        "Prefix=o",
        "pref%69x=o",
        "delimiter=%2F",
        "start-after=o",
        "delete",
        "delete=",
        "uploads",
        "uploadId=u",
        "partNumber=1",
        "acl",
        "policy",
        "tagging",
        "versionId=1",
        "versions",
        "x-id=GetObject",
        "X-Amz-Signature=1",
        "",
        "location",
    ];
    let some = prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..4).prop_map(|pieces| pieces.join("&"));
    prop_oneof![Just(String::new()), some, Just("list-type=2&prefix=w/t/".to_owned()), Just("delete".to_owned())]
}

fn body() -> impl Strategy<Value = Option<String>> {
    let keys = ["w/t/x", "w/t/y&amp;z", "w/t", "w/t2/x", "w/t/../u/x", "t/x", "w/t/<!-- -->x", "&#x77;/t/x", "&#46;&#46;/x", ""];
    let keys = prop::collection::vec(prop::sample::select(keys.to_vec()), 0..4);
    prop::option::of(keys.prop_map(|keys| {
        let objects = keys.iter().map(|key| format!("<Object><Key>{key}</Key></Object>")).collect::<String>();
        format!("<Delete>{objects}<Quiet>true</Quiet></Delete>")
    }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// The store reads the signed URI, and the client may have meant anything.
    #[test]
    fn no_signed_request_reaches_outside_of_the_table(
        method in prop::sample::select(METHODS.to_vec()),
        host in prop::sample::select(HOSTS.to_vec()),
        path in path(),
        query in query(),
        body in body(),
        level in prop::sample::select(vec![Level::Read, Level::Write, Level::WriteDelete]),
    ) {
        let mark = if query.is_empty() { "" } else { "?" };
        let request = request(method, &format!("{host}{path}{mark}{query}"), body);
        for signer in SIGNERS.iter() {
            let Ok(checked) = signer.check(&request, &grant(level)) else { continue };
            prop_assert!(level > Level::Read || matches!(method, "GET" | "HEAD"), "{request:?}");
            let is_abort = query.contains("uploadId");
            prop_assert!(level == Level::WriteDelete || method != "DELETE" || is_abort, "{request:?}");
            check_reach(method, &checked.sign("eu-west-1", "20260102T030405Z", keys(None)), request.body.as_deref());
        }
    }

    /// Every key that a table may have can be signed, and is the one that the store finds.
    #[test]
    fn every_harmless_key_is_signed_and_arrives(key in "[ -.0-\\[\\]-~é€]{1,12}(/[ -.0-\\[\\]-~é€]{1,12}){0,2}") {
        let segments: Vec<&str> = key.split('/').collect();
        prop_assume!(!segments.iter().any(|segment| matches!(*segment, "." | "..")));
        let encoded = segments.iter().map(|segment| {
            segment.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02x}"))
        }).collect::<Vec<_>>().join("/");
        let request = request("PUT", &format!("http://minio:9000/lake/w/t/{encoded}"), None);
        let checked = SIGNERS[0].check(&request, &grant(Level::Write)).expect("signed");
        let signed = checked.sign("eu-west-1", "20260102T030405Z", keys(None));
        prop_assert_eq!(taken(&signed.uri), ("lake".to_owned(), format!("w/t/{key}")));
    }
}

#[test]
fn the_requests_of_clients_are_signed_at_the_level_that_they_need() {
    let delete = "<Delete><Object><Key>w/t/x</Key></Object></Delete>".to_owned();
    for (method, path, needs) in [
        ("GET", "/lake/w/t/x", Level::Read),
        ("HEAD", "/lake/w/t/data/x", Level::Read),
        ("GET", "/second/t/x", Level::Read),
        ("GET", "/lake?list-type=2&prefix=w%2Ft%2F&delimiter=%2F", Level::Read),
        ("GET", "/lake/?list-type=2&prefix=w%2Ft%2Fdata", Level::Read),
        ("PUT", "/lake/w/t/x", Level::Write),
        ("POST", "/lake/w/t/x?uploads", Level::Write),
        ("PUT", "/lake/w/t/x?partNumber=1&uploadId=u", Level::Write),
        ("POST", "/lake/w/t/x?uploadId=u", Level::Write),
        ("DELETE", "/lake/w/t/x?uploadId=u", Level::Write),
        ("DELETE", "/lake/w/t/x", Level::WriteDelete),
        ("POST", "/lake?delete", Level::WriteDelete),
    ] {
        let request = request(method, &format!("http://minio:9000{path}"), Some(delete.clone()));
        for level in [Level::Read, Level::Write, Level::WriteDelete] {
            let checked = SIGNERS[0].check(&request, &grant(level));
            assert_eq!(checked.is_ok(), level >= needs, "{method} {path} at {}", level.as_str());
        }
    }
}

#[test]
fn a_request_for_another_region_or_a_key_beside_the_table_is_refused_with_the_reason() {
    let refusal = |request: SignRequest| SIGNERS[0].check(&request, &grant(Level::WriteDelete)).expect_err("refused");
    let elsewhere = SignRequest { region: "us-east-1".to_owned(), ..request("GET", "http://minio:9000/lake/w/t/x", None) };
    assert!(refusal(elsewhere).contains("eu-west-1"));
    for path in ["/lake/w/t", "/lake/w/t2/x", "/lake/w/T/x", "/lake/t/x", "/second/w/t/x"] {
        let reason = refusal(request("GET", &format!("http://minio:9000{path}"), None));
        assert!(reason.contains("outside the places of the table"), "{path}: {reason}");
    }
    for (body, word) in [(None, "body"), (Some("<Delete><Object><Key>w/u/x</Key></Object></Delete>".to_owned()), "w/u/x")] {
        let reason = refusal(request("POST", "http://minio:9000/lake?delete", body));
        assert!(reason.contains(word), "{reason}");
    }
    let copy = BTreeMap::from([("X-Amz-Copy-Source".to_owned(), vec!["/lake/w/u/x".to_owned()])]);
    let reason = refusal(SignRequest { headers: copy, ..request("PUT", "http://minio:9000/lake/w/t/x", None) });
    assert!(reason.contains("x-amz-copy-source"), "{reason}");
}

/// The signature was computed with Python's `hmac`, by the steps of the S3 API reference.
#[test]
fn the_signature_covers_the_uri_and_the_headers_of_the_answer() {
    let headers = BTreeMap::from([
        ("Content-Type".to_owned(), vec!["a/b".to_owned()]),
        ("Content-Length".to_owned(), vec!["3".to_owned()]),
        ("x-amz-date".to_owned(), vec!["another".to_owned()]),
    ]);
    let uri = "http://minio:9000/lake/w/t/%61%20b%2b?uploadId=u/1&partNumber=1";
    let request = SignRequest { headers, ..request("PUT", uri, None) };
    let checked = SIGNERS[0].check(&request, &grant(Level::Write)).expect("signed");
    let signed = checked.sign("r", "20260102T030405Z", keys(Some("tok")));
    assert_eq!(signed.uri, "http://minio:9000/lake/w/t/a%20b%2B?partNumber=1&uploadId=u%2F1");
    let expected = [
        (
            "Authorization",
            "AWS4-HMAC-SHA256 Credential=KEY/20260102/r/s3/aws4_request, \
             SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token, \
             Signature=f37c041e27aea34c765c889553baa7699d3d2c4723b70a7cbc9e739b9c684496",
        ),
        ("Content-Type", "a/b"),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        ("x-amz-date", "20260102T030405Z"),
        ("x-amz-security-token", "tok"),
    ];
    let got: Vec<(&str, &str)> = signed.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(got, expected);
    assert!(!signed.reusable && !format!("{signed:?}").contains("Signature"), "{signed:?}");
}

#[tokio::test]
async fn writes_need_scoped_credentials_at_a_store_that_may_take_further_headers() {
    let scoped = Vended {
        access_key_id: "SCOPED".to_owned(),
        secret_access_key: "s".to_owned(),
        session_token: "t".to_owned(),
        expires_ms: 0,
    };
    let (put, get) = (request("PUT", "http://minio:9000/lake/w/t/x", None), request("GET", "http://minio:9000/lake/w/t/x", None));
    let (careless, careful) = (signer(Some("http://minio:9000"), false), signer(Some("http://minio:9000"), true));
    let grant = grant(Level::Write);
    let id = async |signer: &Signer, request: &SignRequest, scoped: Option<&Vended>| {
        let signed = signer.sign(request, &grant, scoped).await?;
        let credential = signed.headers["Authorization"].split("Credential=").nth(1).and_then(|rest| rest.split('/').next());
        Ok::<_, StorageError>(credential.unwrap_or_default().to_owned())
    };
    let error = id(&careless, &put, None).await.expect_err("refused").to_string();
    assert!(error.starts_with("no request to http://minio:9000/lake/w/t/x is signed: ") && error.contains("both"), "{error}");
    assert_eq!(id(&careless, &get, None).await.expect("signed"), "own");
    assert_eq!(id(&careless, &put, Some(&scoped)).await.expect("signed"), "SCOPED");
    assert_eq!(id(&careful, &put, None).await.expect("signed"), "own");
    let at_aws = request("PUT", "https://lake.s3.eu-west-1.amazonaws.com/w/t/x", None);
    assert_eq!(id(&signer(None, false), &at_aws, None).await.expect("signed"), "own");
}
