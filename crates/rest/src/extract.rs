//! What handlers take from a request.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use bytes::Bytes;
use esker_types::{ErrorCode, NamespaceName, TableName};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use crate::{ApiError, App};

/// A JSON body. A malformed or mistyped one is named, with the line, column and field.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &App) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state).await.map_err(|e| match e.status().as_u16() {
            413 => ApiError::new(ErrorCode::TooLarge, "the request body is over server.max_body_bytes"),
            _ => ApiError::new(ErrorCode::BadRequest, format!("request body: {e}")),
        })?;
        // An empty body is an empty object, so that options may be left out altogether.
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        let json = &mut serde_json::Deserializer::from_slice(text);
        let value = serde_path_to_error::deserialize(json)
            .map_err(|e| ApiError::new(ErrorCode::BadRequest, format!("request body: {e}")))?;
        Ok(Self(value))
    }
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
    Ok(NamespaceName::from_key(text).map_err(esker_catalog::CatalogError::from)?)
}

/// The namespace that a path names. A prefix other than the warehouse's is refused.
#[derive(Debug)]
pub(crate) struct InNamespace(pub(crate) NamespaceName);

/// The table that a path names.
#[derive(Debug)]
pub(crate) struct InTable(pub(crate) TableName);

/// That the path's prefix is the warehouse's.
#[derive(Debug)]
pub(crate) struct Prefix;

impl FromRequestParts<App> for Prefix {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Some(prefix) = parts.uri.path().strip_prefix("/v1/").and_then(|rest| rest.split('/').next()) else {
            return Ok(Self);
        };
        check_warehouse(app, &decode(prefix)?)?;
        Ok(Self)
    }
}

pub(crate) fn check_warehouse(app: &App, name: &str) -> Result<(), ApiError> {
    if name == app.catalog().options().warehouse {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::NoSuchWarehouse, format!("warehouse {name} does not exist")))
}

impl FromRequestParts<App> for InNamespace {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Prefix::from_request_parts(parts, app).await?;
        let missing = || ApiError::new(ErrorCode::BadRequest, "the path names no namespace");
        let segment = after(parts.uri.path(), "namespaces").ok_or_else(missing)?;
        Ok(Self(parse_namespace(&decode(segment)?)?))
    }
}

impl FromRequestParts<App> for InTable {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let InNamespace(namespace) = InNamespace::from_request_parts(parts, app).await?;
        let missing = || ApiError::new(ErrorCode::BadRequest, "the path names no table");
        // Behind the namespace, which may itself be called "tables".
        let rest = parts.uri.path().split_once("/namespaces/").map_or("", |(_, rest)| rest);
        let rest = rest.split_once('/').map_or("", |(_, rest)| rest);
        let segment = after(rest, "tables").ok_or_else(missing)?;
        let name = TableName::new(namespace, decode(segment)?).map_err(esker_catalog::CatalogError::from)?;
        Ok(Self(name))
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
