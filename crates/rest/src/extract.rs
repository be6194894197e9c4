//! What handlers take from a request.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use bytes::Bytes;
use esker_catalog::{Actor, Catalog, CatalogError};
use esker_maintenance::Maintenance;
use esker_state::ReceiptKey;
use esker_types::{ErrorCode, NamespaceName, Principal, TableName};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use crate::{ApiError, App};

/// A JSON body. A malformed or mistyped one is named, with the line, column and field.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        read_json(request, app, |json| T::deserialize(json)).await.map(Self)
    }
}

/// What reads a value of a JSON body.
type BodyReader<'a, 'b, 'de> =
    serde_path_to_error::Deserializer<'a, 'b, &'a mut serde_json::Deserializer<serde_json::de::SliceRead<'de>>>;

/// Reads a JSON body. An empty body is an empty object, so that options may be left out altogether.
///
/// # Errors
///
/// Returns [`ErrorCode::BadRequest`] with line, column and field for a body that is malformed or mistyped, and [`ErrorCode::TooLarge`] for one over
/// `server.max_body_bytes`.
pub(crate) async fn read_json<T>(
    request: Request,
    app: &App,
    read: impl FnOnce(BodyReader<'_, '_, '_>) -> Result<T, serde_json::Error>,
) -> Result<T, ApiError> {
    let bytes = Bytes::from_request(request, app).await.map_err(|e| match e.status().as_u16() {
        413 => ApiError::new(ErrorCode::TooLarge, "the request body is over server.max_body_bytes"),
        _ => ApiError::new(ErrorCode::BadRequest, format!("request body: {e}")),
    })?;
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    let mut json = serde_json::Deserializer::from_slice(text);
    let mut track = serde_path_to_error::Track::new();
    let value = read(serde_path_to_error::Deserializer::new(&mut json, &mut track)).map_err(|e| {
        // As `serde_path_to_error::Error` words it.
        let path = track.path().to_string();
        let what = if path == "." { e.to_string() } else { format!("{path}: {e}") };
        ApiError::new(ErrorCode::BadRequest, format!("request body: {what}"))
    })?;
    Ok(value)
}

/// A query string. An unknown or mistyped parameter is named.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        query.map(|q| Self(q.0)).map_err(|e| ApiError::new(ErrorCode::BadRequest, e.body_text()))
    }
}

/// A path segment as clients encode it: Java writes a space as `+` and a plus as `%2B`, Python a space as `%20`.
fn decode(segment: &str) -> Result<String, ApiError> {
    let spaced = segment.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(|s| s.into_owned()).map_err(|_| ApiError::new(ErrorCode::BadRequest, format!("{segment:?} is not UTF-8")))
}

/// The segment after a fixed one: `/…/namespaces/{here}/…`. Taken from the raw path, because the router has decoded
/// percent signs but not plus signs.
fn after<'a>(path: &'a str, fixed: &str) -> Option<&'a str> {
    let mut segments = path.split('/');
    segments.find(|s| *s == fixed)?;
    segments.next()
}

pub(crate) fn parse_namespace(text: &str) -> Result<NamespaceName, ApiError> {
    Ok(NamespaceName::from_key(text).map_err(CatalogError::from)?)
}

/// The warehouse that a path names: the prefix of the Iceberg routes, `warehouses/{here}` elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct In(pub(crate) Maintenance);

impl In {
    pub(crate) fn catalog(&self) -> &Catalog {
        self.0.catalog()
    }

    /// Of a path as it came.
    pub(crate) fn of(path: &str, app: &App) -> Result<Self, ApiError> {
        let segment = match path.strip_prefix("/v1/") {
            Some(rest) => rest.split('/').next(),
            None => after(path, "warehouses"),
        };
        let segment = segment.ok_or_else(|| ApiError::new(ErrorCode::BadRequest, "the path names no warehouse"))?;
        Ok(Self(app.warehouse(&decode(segment)?)?.clone()))
    }
}

impl FromRequestParts<App> for In {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Self::of(parts.uri.path(), app)
    }
}

/// The namespace that a path names.
#[derive(Debug)]
pub(crate) struct InNamespace(pub(crate) NamespaceName);

/// The table that a path names.
#[derive(Debug)]
pub(crate) struct InTable(pub(crate) TableName);

/// The view that a path names.
#[derive(Debug)]
pub(crate) struct InView(pub(crate) TableName);

/// The function that a path names.
#[derive(Debug)]
pub(crate) struct InFunction(pub(crate) TableName);

/// What follows the namespace in a path; the namespace may itself be called "tables".
fn behind_namespace(path: &str) -> Result<(NamespaceName, &str), ApiError> {
    let missing = || ApiError::new(ErrorCode::BadRequest, "the path names no namespace");
    let (_, rest) = path.split_once("/namespaces/").ok_or_else(missing)?;
    let (segment, rest) = rest.split_once('/').unwrap_or((rest, ""));
    Ok((parse_namespace(&decode(segment)?)?, rest))
}

fn named(path: &str, kind: &str) -> Result<TableName, ApiError> {
    let (namespace, rest) = behind_namespace(path)?;
    let missing = || ApiError::new(ErrorCode::BadRequest, format!("the path names none of the {kind}"));
    let segment = after(rest, kind).ok_or_else(missing)?;
    Ok(TableName::new(namespace, decode(segment)?).map_err(CatalogError::from)?)
}

macro_rules! from_path {
    ($extractor:ident, $parse:expr) => {
        impl FromRequestParts<App> for $extractor {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
                Ok(Self($parse(parts.uri.path())?))
            }
        }
    };
}

from_path!(InNamespace, |path| behind_namespace(path).map(|(namespace, _)| namespace));
from_path!(InTable, |path| named(path, "tables"));
from_path!(InView, |path| named(path, "views"));
from_path!(InFunction, |path| named(path, "functions"));

/// Who makes a change, and under which idempotency key.
#[derive(Debug)]
pub(crate) struct By(pub(crate) Actor);

impl FromRequestParts<App> for By {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        let principal = parts.extensions.get::<Principal>().map(ToString::to_string).unwrap_or_default();
        Ok(Self(Actor { principal, receipt: parts.extensions.get::<ReceiptKey>().cloned() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_and_plus_signs_arrive_from_both_kinds_of_clients() {
        assert_eq!(decode("a+b%20c%2Bd%1Fe%C3%A9").expect("valid"), "a b c+d\u{1f}eé");
        assert!(decode("%ff").is_err());
    }
}
