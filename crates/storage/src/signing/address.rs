//! The address of a request: the bucket, the key and the parameters that a URI names at the warehouse's store.
//!
//! A URI is taken apart here and put together again. Only the second one is signed, in which nothing is percent-encoded that need
//! not be, and everything that must. So there is one reading of what is signed, even where stores read the client's spelling
//! differently. Whatever has two readings all the same, such as a dot segment, is refused. Start reading at [`S3Store::resolve`].

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, percent_decode_str, utf8_percent_encode};
use reqwest::Url;

use crate::vending::ALL_BUT_UNRESERVED;

/// The characters of a path that are percent-encoded. Slashes stay.
const IN_PATH: &AsciiSet = &ALL_BUT_UNRESERVED.remove(b'/');

/// The reason for which a request is not signed.
pub(super) type Refusal = String;

/// A way in which a host and a path name a bucket.
#[derive(Debug)]
enum Style {
    /// The host is this one, and the path begins with the bucket.
    Path(String),
    /// The host is the bucket, a dot and this text.
    Host(String),
    /// The host is this one, which begins with the bucket and a dot.
    OwnHost(String),
}

impl Style {
    /// Returns the path of a bucket's root if `host` names the bucket in this style.
    fn root(&self, host: &str, bucket: &str) -> Option<String> {
        let with_dot = format!("{bucket}.");
        match self {
            Self::Path(all) => (host == all).then(|| format!("/{bucket}/")),
            // Hosts are in lower case here. A bucket that is not has no host.
            Self::Host(of_store) => (host.strip_prefix(&with_dot) == Some(of_store.as_str())).then(|| "/".to_owned()),
            Self::OwnHost(own) => (host == own && own.starts_with(&with_dot)).then(|| "/".to_owned()),
        }
    }
}

/// The store of a warehouse, by the spellings of its URL that clients use.
#[derive(Debug)]
pub(super) struct S3Store {
    /// `https` or `http`.
    scheme: String,
    styles: Vec<Style>,
    is_aws: bool,
}

impl S3Store {
    /// Makes the store with an endpoint; without one it is AWS's in the region.
    ///
    /// A store that is not AWS's has one style, that of the configuration. MinIO without a domain takes the path
    /// `/other/key` for the bucket `other`, whatever the host.
    ///
    /// # Errors
    ///
    /// Returns the reason if the endpoint is not the URL of a host.
    pub(super) fn new(endpoint: Option<&str>, region: &str, virtual_hosted: bool) -> Result<Self, &'static str> {
        let Some(endpoint) = endpoint else { return Ok(Self::of_aws(region)) };
        let wrong = "requests are signed only for an endpoint of the form http://HOST or https://HOST:PORT";
        let url = Url::parse(endpoint).map_err(|_| wrong)?;
        let plain = matches!(url.scheme(), "http" | "https") && matches!(url.path(), "" | "/") && url.query().is_none();
        let host = url.host_str().filter(|_| plain && url.username().is_empty() && url.password().is_none()).ok_or(wrong)?;
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let is_aws = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
        let styles = match virtual_hosted {
            true => vec![Style::OwnHost(authority)],
            false => vec![Style::Path(authority)],
        };
        Ok(Self { scheme: url.scheme().to_owned(), styles, is_aws })
    }

    /// Returns AWS's store in a region. It serves both styles, and its hosts tell them apart.
    fn of_aws(region: &str) -> Self {
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        let mut hosts = vec![format!("s3.{region}.amazonaws.com{suffix}")];
        if region == "us-east-1" {
            // Java's clients use the oldest host for the oldest region.
            hosts.push("s3.amazonaws.com".to_owned());
        }
        let styles = hosts.into_iter().flat_map(|host| [Style::Path(host.clone()), Style::Host(host)]).collect();
        Self { scheme: "https".to_owned(), styles, is_aws: true }
    }

    /// Checks whether the store is AWS's.
    pub(super) fn is_aws(&self) -> bool {
        self.is_aws
    }

    /// Returns the host of a request's header or URI in lower case, without the port if the scheme implies it.
    pub(super) fn normal_host(&self, host: &str) -> String {
        let host = host.to_ascii_lowercase();
        let port = if self.scheme == "https" { ":443" } else { ":80" };
        host.strip_suffix(port).map_or_else(|| host.clone(), str::to_owned)
    }

    /// Returns what a URI names, if it is one of the buckets or an object in one of them.
    ///
    /// # Errors
    ///
    /// Returns the reason if the URI names anything else, or is not the only way to name it.
    pub(super) fn resolve(&self, uri: &str, buckets: &[&str]) -> Result<S3Address, Refusal> {
        // A plus sign in a path is a space to some stores, and a semicolon begins parameters.
        let known = |b: u8| b.is_ascii_alphanumeric() || b"-._~%/:?!$&'()*,=@[]".contains(&b);
        if !uri.bytes().all(known) {
            return Err("its URI has a character that must be percent-encoded".to_owned());
        }
        let foreign = || format!("its URI is not that of a bucket of the table at {}", self.shown());
        let rest = uri.strip_prefix(self.scheme.as_str()).and_then(|rest| rest.strip_prefix("://")).ok_or_else(foreign)?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = place.find('/').map_or((place, "/"), |slash| place.split_at(slash));
        let host = self.normal_host(host);
        if path.to_ascii_lowercase().contains("%2f") {
            return Err("its path has an encoded slash".to_owned());
        }
        let path = decoded(path)?;
        let named = buckets.iter().find_map(|bucket| {
            let root = self.styles.iter().find_map(|style| style.root(&host, bucket))?;
            // A bucket may be named without the slash at its end.
            let key = if format!("{path}/") == root { "" } else { path.strip_prefix(&root)? };
            Some(((*bucket).to_owned(), key.to_owned()))
        });
        let (bucket, key) = named.ok_or_else(foreign)?;
        if !key.is_empty() {
            check_segments(&key)?;
        }
        Ok(S3Address { scheme: self.scheme.clone(), host, path, bucket, key, parameters: parameters(query)? })
    }

    /// Returns the store as an error shows it.
    fn shown(&self) -> String {
        let host = self.styles.first().map_or("", |style| match style {
            Style::Path(host) | Style::Host(host) | Style::OwnHost(host) => host,
        });
        format!("{}://{host}", self.scheme)
    }
}

/// A bucket, or an object in it, with the parameters of the request.
#[derive(Debug)]
pub(super) struct S3Address {
    scheme: String,
    host: String,
    /// The path, decoded.
    path: String,
    bucket: String,
    key: String,
    parameters: BTreeMap<String, String>,
}

impl S3Address {
    /// Returns the host and, unless the scheme implies it, the port.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Returns the name of the bucket.
    pub(super) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns the key of the object. It is empty if the URI names the bucket.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Returns the parameters, decoded.
    pub(super) fn parameters(&self) -> &BTreeMap<String, String> {
        &self.parameters
    }

    /// Returns the path in the only spelling that is signed.
    pub(super) fn encoded_path(&self) -> String {
        utf8_percent_encode(&self.path, IN_PATH).to_string()
    }

    /// Returns the query in the only spelling that is signed, with an equals sign in each parameter.
    pub(super) fn encoded_query(&self) -> String {
        let encode = |text| utf8_percent_encode(text, ALL_BUT_UNRESERVED);
        self.parameters.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&")
    }

    /// Returns the URI in the only spelling that is signed.
    pub(super) fn uri(&self) -> String {
        let (scheme, host, path, query) = (&self.scheme, &self.host, self.encoded_path(), self.encoded_query());
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{scheme}://{host}{path}{mark}{query}")
    }
}

/// Decodes the percent signs of a text, once.
fn decoded(text: &str) -> Result<String, Refusal> {
    let bytes = text.as_bytes();
    let is_hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let whole = bytes.iter().enumerate().all(|(at, b)| *b != b'%' || is_hex(at + 1) && is_hex(at + 2));
    let decoded = percent_decode_str(text).decode_utf8().ok().filter(|_| whole);
    decoded.map(Into::into).ok_or_else(|| "its URI has a percent sign that encodes nothing, or is not UTF-8".to_owned())
}

/// Reads the parameters of a query. None may be there twice, because stores differ in which one counts.
fn parameters(query: &str) -> Result<BTreeMap<String, String>, Refusal> {
    let mut parameters = BTreeMap::new();
    for parameter in query.split('&').filter(|_| !query.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let (name, value) = (decoded(name)?, decoded(value)?);
        if parameters.insert(name.clone(), value).is_some() {
            return Err(format!("its URI has the parameter {name:?} twice"));
        }
    }
    Ok(parameters)
}

/// Checks that no store takes a key for another one.
///
/// # Errors
///
/// Returns the reason if a segment is empty, `.` or `..`, or if the key has a backslash or a control character.
pub(super) fn check_segments(key: &str) -> Result<(), Refusal> {
    if key.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err("its key has an empty, '.' or '..' segment".to_owned());
    }
    if key.contains('\\') || key.contains(char::is_control) {
        return Err("its key has a backslash or a control character".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minio() -> S3Store {
        S3Store::new(Some("http://minio:9000"), "r", false).expect("a store")
    }

    fn aws() -> S3Store {
        S3Store::new(None, "eu-west-1", false).expect("a store")
    }

    #[test]
    fn both_styles_of_aws_name_the_same_object() {
        for uri in [
            "https://lake.s3.eu-west-1.amazonaws.com/w/t/a%20b",
            "https://LAKE.s3.eu-west-1.amazonaws.com:443/w/t/a%20b",
            "https://s3.eu-west-1.amazonaws.com/lake/w/t/a%20b",
        ] {
            let found = aws().resolve(uri, &["other", "lake"]).expect(uri);
            assert_eq!((found.bucket(), found.key()), ("lake", "w/t/a b"), "{uri}");
            assert!(found.uri().ends_with("/w/t/a%20b") && !found.uri().contains(":443"), "{}", found.uri());
        }
        let old = S3Store::new(None, "us-east-1", false).expect("a store");
        assert_eq!(old.resolve("https://lake.s3.amazonaws.com/x", &["lake"]).expect("the oldest host").key(), "x");
        assert!(S3Store::new(None, "cn-north-1", false).expect("a store").shown().ends_with(".amazonaws.com.cn"));
    }

    #[test]
    fn another_store_has_the_style_of_its_configuration_only() {
        let found = minio().resolve("http://minio:9000/lake/w/x", &["lake"]).expect("in the path");
        assert_eq!((found.key(), found.uri().as_str()), ("w/x", "http://minio:9000/lake/w/x"));
        // MinIO without a domain takes `w` for the bucket.
        assert!(minio().resolve("http://lake.minio:9000/w/x", &["lake"]).is_err());
        let hosted = S3Store::new(Some("https://lake.s3.example.com"), "r", true).expect("a store");
        assert_eq!(hosted.resolve("https://lake.s3.example.com/w/x", &["lake"]).expect("in the host").key(), "w/x");
        assert!(hosted.resolve("https://lake.s3.example.com/w/x", &["lane"]).is_err());
        for endpoint in ["http://minio:9000/s3", "http://a:b@minio", "minio:9000", "http://minio?x", "ftp://minio"] {
            assert!(S3Store::new(Some(endpoint), "r", false).is_err(), "{endpoint}");
        }
    }

    #[test]
    fn other_hosts_schemes_and_buckets_are_refused() {
        for uri in [
            "https://minio:9000/lake/x",
            "HTTP://minio:9000/lake/x",
            "http://minio/lake/x",
            "http://minio:9001/lake/x",
            "http://evil@minio:9000/lake/x",
            "http://minio:9000@evil/lake/x",
            "http://minio:9000.evil/lake/x",
            "http://minio:9000/lake2/x",
            "http://minio:9000/LAKE/x",
            "http://minio:9000//lake/x",
            "http://minio:9000/./lake/x",
            "http://minio:9000/other/../lake/x",
            "http://minio:9000/lak%2565/x",
            "/lake/x",
            "",
        ] {
            assert!(minio().resolve(uri, &["lake"]).is_err(), "{uri}");
        }
    }

    #[test]
    fn percent_signs_are_decoded_once_and_spelt_anew() {
        let spelt = |path: &str| minio().resolve(&format!("http://minio:9000{path}"), &["lake"]).map(|found| found.uri());
        // A partition of the value `a/b` has a percent sign in its key.
        let uri = spelt("/lake/w/c=a%252Fb/%78%2B(1)~").expect("signed");
        assert_eq!(uri, "http://minio:9000/lake/w/c%3Da%252Fb/x%2B%281%29~");
        assert_eq!(spelt("/lake/%C3%A9").expect("signed"), "http://minio:9000/lake/%C3%A9");
        for path in [
            "/lake/w%2Fx",
            "/lake%2fw/x",
            "/lake/%2e%2E/x",
            "/lake/a/..",
            "/lake/a//b",
            "/lake/a/",
            "/lake/./a",
            "/lake/%5Ca",
            "/lake/a%00",
            "/lake/%",
            "/lake/%zz",
            "/lake/%c3",
            "/lake/%c0%ae",
            "/lake/a+b",
            "/lake/a;b",
            "/lake/a#b",
            "/lake/é",
            "/lake/a\tb",
            "/lake/a\\b",
        ] {
            assert!(spelt(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_parameter_is_there_once_in_any_spelling() {
        let resolve = |query: &str| minio().resolve(&format!("http://minio:9000/lake?{query}"), &["lake"]);
        let found = resolve("prefix=a%2Fb&list-type=2&delimiter=/").expect("a listing");
        assert_eq!((found.key(), found.parameters()["prefix"].as_str()), ("", "a/b"));
        assert_eq!(found.uri(), "http://minio:9000/lake?delimiter=%2F&list-type=2&prefix=a%2Fb");
        assert!(resolve("prefix=a&prefix=b").is_err() && resolve("prefix=a&pref%69x=b").is_err());
        assert!(resolve("prefix=a+b").is_err());
    }
}
