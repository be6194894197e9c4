//! The entity tags of load responses, and the spelling of the headers `ETag` and `Cache-Control`.
//!
//! A client that has the current response gets 304 instead of the metadata. A tag covers everything that the body depends on.
//!
//! Spec: REST `loadTable`, headers `ETag` and `If-None-Match`.

use axum::http::{Extensions, HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use esker_types::hex;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

/// The extensions that make hyper spell the headers `ETag` and `Cache-Control` with two capitals.
///
/// Header names in HTTP have no case. But Java clients up to 1.11.0 look `ETag` up in a map that distinguishes case
/// (iceberg#17978). A server that writes `etag`, as hyper does, never gets a conditional request from Spark, Flink or Trino. The same
/// clients look for `Cache-Control` in the answer to a request for a signature.
///
/// hyper records the spelling of a request's headers in its extensions. It uses the record of any request that it finds among the
/// extensions of a response. So one made-up request is parsed at the start, and its record is added to the responses.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeaderCase(Extensions);

impl HeaderCase {
    /// Lets hyper parse a made-up request with the headers, and takes its record of the spelling.
    pub(crate) async fn record_spelling() -> Self {
        let (mut client, server) = tokio::io::duplex(1024);
        let (send, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            // The receiver outlives the connection.
            drop(send.send(request.into_parts().0.extensions));
            async { Ok::<_, std::convert::Infallible>(hyper::Response::new(String::new())) }
        });
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nETag: x\r\nCache-Control: x\r\nConnection: close\r\n\r\n";
        let connection =
            hyper::server::conn::http1::Builder::new().preserve_header_case(true).serve_connection(TokioIo::new(server), service);
        let (_, _) = tokio::join!(client.write_all(request), connection);
        Self(seen.recv().await.unwrap_or_default())
    }

    /// Adds an entity tag to a response, in the header `ETag`.
    pub(crate) fn tag(&self, response: &mut Response, tag: &HeaderValue) {
        response.headers_mut().insert(header::ETAG, tag.clone());
        self.spell(response);
    }

    /// Makes hyper spell the headers of a response.
    pub(crate) fn spell(&self, response: &mut Response) {
        response.extensions_mut().extend(self.0.clone());
    }
}

/// Computes a weak entity tag from the parts that a response's body depends on.
pub(crate) fn tag(parts: &[&str]) -> HeaderValue {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    HeaderValue::from_str(&format!("W/\"{}\"", hex(&digest[..16]))).unwrap_or(HeaderValue::from_static(""))
}

/// Checks whether the client has the response with this tag, by the header `If-None-Match`.
pub(crate) fn client_has(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let weak = |text: &str| text.trim().trim_start_matches("W/").to_owned();
    let Ok(tag) = tag.to_str() else { return false };
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|known| known.trim() == "*" || weak(known) == weak(tag))
}

/// Makes a body of several pieces without copying them. Returns the body and its length in bytes.
pub(crate) fn body_of_pieces(pieces: Vec<Bytes>) -> (axum::body::Body, u64) {
    let length = pieces.iter().map(|p| p.len() as u64).sum();
    let stream = futures::stream::iter(pieces.into_iter().map(Ok::<_, std::convert::Infallible>));
    (axum::body::Body::from_stream(stream), length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_depend_on_every_part_and_its_place() {
        let tags = [tag(&["a", "b"]), tag(&["b", "a"]), tag(&["ab", ""]), tag(&["a", "b", ""])];
        for (i, one) in tags.iter().enumerate() {
            assert!(tags.iter().skip(i + 1).all(|other| other != one));
        }
    }

    #[test]
    fn known_tags_are_found_in_lists_weak_or_strong() {
        let tag = tag(&["x"]);
        let text = tag.to_str().expect("ascii").to_owned();
        for (sent, known) in [
            (text.clone(), true),
            (text.trim_start_matches("W/").to_owned(), true),
            (format!("\"other\", {text}"), true),
            ("*".to_owned(), true),
            ("\"other\"".to_owned(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, sent.parse().expect("a value"));
            assert_eq!(client_has(&headers, &tag), known, "{sent}");
        }
        assert!(!client_has(&HeaderMap::new(), &tag));
    }
}
