//! The extractors: the parts of a request that handlers take as parameters.
//!
//! Names are taken from the raw path and not from the router, which decodes percent signs but not the plus signs of Java clients.
//! A namespace of several levels is one path segment, with `%1F` between the levels.
//!
//! Start reading at [`InWarehouse`] and [`InTable`] for the path, and at [`JsonBody`] for JSON.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use bytes::Bytes;
use esker_access::{Caller, Member};
use esker_auth::has_token;
use esker_catalog::{Actor, Catalog, CatalogError};
use esker_maintenance::Maintenance;
use esker_state::ReceiptKey;
use esker_types::{ErrorCode, JobId, NamespaceName, Principal, TableId, TableName, with_causes};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use utoipa::PartialSchema;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};

use crate::access::{authority_of_change, caller_of, check_warehouse};
use crate::{ApiError, App};

/// The JSON body of a request. The error of a malformed or mistyped body names line, column and field.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        read_json(request, app, |json| T::deserialize(json)).await.map(Self)
    }
}

/// The deserializer of a JSON body. It tracks the path to the field at which an error occurs.
type BodyReader<'a, 'b, 'de> =
    serde_path_to_error::Deserializer<'a, 'b, &'a mut serde_json::Deserializer<serde_json::de::SliceRead<'de>>>;

/// Reads the body of a request.
///
/// # Errors
///
/// Returns [`ErrorCode::TooLarge`] if it is larger than `server.max_body_bytes`, and [`ErrorCode::BadRequest`] if it breaks off.
pub(crate) async fn read_body(request: Request, app: &App) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, app).await.map_err(|e| match e.status().as_u16() {
        413 => ApiError::new(ErrorCode::TooLarge, "the request body is over server.max_body_bytes"),
        _ => ApiError::new(ErrorCode::BadRequest, format!("request body: {}", with_causes(&e))),
    })
}

/// Reads a JSON body. An empty body is an empty object, so that options may be left out altogether.
///
/// # Errors
///
/// Returns [`ErrorCode::BadRequest`] with line, column and field if the body is malformed or mistyped, and
/// [`ErrorCode::TooLarge`] if it is larger than `server.max_body_bytes`.
pub(crate) async fn read_json<T>(
    request: Request,
    app: &App,
    read: impl FnOnce(BodyReader<'_, '_, '_>) -> Result<T, serde_json::Error>,
) -> Result<T, ApiError> {
    let bytes = read_body(request, app).await?;
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    let mut json = serde_json::Deserializer::from_slice(text);
    let mut track = serde_path_to_error::Track::new();
    let value = read(serde_path_to_error::Deserializer::new(&mut json, &mut track)).map_err(|e| {
        // The wording is that of `serde_path_to_error::Error`.
        let path = track.path().to_string();
        let what = if path == "." { e.to_string() } else { format!("{path}: {e}") };
        ApiError::new(ErrorCode::BadRequest, format!("request body: {what}"))
    })?;
    Ok(value)
}

/// The parameters of the query string. The error of a missing or mistyped parameter names it.
///
/// Unknown parameters are ignored here, as the Iceberg routes need. A layer refuses those of the management API.
#[derive(Debug)]
pub(crate) struct QueryParams<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<App> for QueryParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            // PostgreSQL stores no such text, and SQLite does.
            return Err(ApiError::new(ErrorCode::BadRequest, "the query string has the character U+0000; leave it out"));
        }
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        query.map(|q| Self(q.0)).map_err(|e| ApiError::new(ErrorCode::BadRequest, e.body_text()))
    }
}

/// Decodes a path segment. Java clients write a space as `+` and a plus as `%2B`; Python clients write a space as `%20`.
fn decode(segment: &str) -> Result<String, ApiError> {
    let spaced = segment.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded
        .map(|s| s.into_owned())
        .map_err(|_| ApiError::new(ErrorCode::BadRequest, format!("path segment {segment:?} is not UTF-8")))
}

/// Returns the raw path segment that follows a fixed one, such as the name after `tables` in `/…/tables/{name}`.
fn segment_after<'a>(path: &'a str, fixed: &str) -> Option<&'a str> {
    let mut segments = path.split('/');
    segments.find(|s| *s == fixed)?;
    segments.next()
}

/// Returns the namespace that a path names, if it names one.
pub(crate) fn namespace_in(path: &str) -> Option<NamespaceName> {
    split_namespace(path).ok().map(|(namespace, _)| namespace)
}

/// Parses the name of a namespace, whose levels are separated by the unit separator (U+001F).
pub(crate) fn parse_namespace(text: &str) -> Result<NamespaceName, ApiError> {
    Ok(NamespaceName::from_key(text).map_err(CatalogError::from)?)
}

/// The warehouse that a path names: the prefix of an Iceberg route, or the segment after `warehouses` in any other route.
///
/// The caller sees it, or the request is refused.
#[derive(Debug, Clone)]
pub(crate) struct InWarehouse(pub(crate) Maintenance);

impl InWarehouse {
    /// Returns the catalog of the warehouse.
    pub(crate) fn catalog(&self) -> &Catalog {
        self.0.catalog()
    }

    /// Finds the warehouse by the raw path of a request, whoever sends it.
    pub(crate) fn of(path: &str, app: &App) -> Result<Self, ApiError> {
        let segment = match path.strip_prefix("/v1/") {
            Some(rest) => rest.split('/').next(),
            None => segment_after(path, "warehouses"),
        };
        let segment = segment.ok_or_else(|| ApiError::new(ErrorCode::BadRequest, "the path names no warehouse"))?;
        Ok(Self(app.warehouse(&decode(segment)?)?.clone()))
    }
}

impl FromRequestParts<App> for InWarehouse {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let warehouse = Self::of(parts.uri.path(), app)?;
        check_warehouse(parts, warehouse.catalog())?;
        Ok(warehouse)
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

/// The id of the job that a path names, as text.
#[derive(Debug)]
pub(crate) struct InJob(pub(crate) String);

/// The id of the dropped table that a path names, as text.
#[derive(Debug)]
pub(crate) struct InDropped(pub(crate) String);

/// The number of the query that a path names.
#[derive(Debug)]
pub(crate) struct InQuery(pub(crate) u64);

/// The id of the token that a path names.
#[derive(Debug)]
pub(crate) struct InToken(pub(crate) String);

/// The role that a path names.
#[derive(Debug)]
pub(crate) struct InRole(pub(crate) String);

/// The member of a role that a path names.
#[derive(Debug)]
pub(crate) struct InMember(pub(crate) Member);

/// The id of the grant that a path names.
#[derive(Debug)]
pub(crate) struct InGrant(pub(crate) String);

/// The id of the row filter that a path names.
#[derive(Debug)]
pub(crate) struct InFilter(pub(crate) String);

/// The name of the access policy that a path names.
#[derive(Debug)]
pub(crate) struct InPolicy(pub(crate) String);

/// Splits a raw path into its namespace and the rest.
///
/// A search for `namespaces` must begin behind the warehouse, and one for `tables` behind the namespace, because these may have
/// such names.
fn split_namespace(path: &str) -> Result<(NamespaceName, &str), ApiError> {
    let missing = || ApiError::new(ErrorCode::BadRequest, "the path names no namespace");
    let from_warehouse = path.strip_prefix("/v1/").or_else(|| path.split_once("/warehouses/").map(|(_, rest)| rest));
    let (_, rest) = from_warehouse.and_then(|rest| rest.split_once('/')).ok_or_else(missing)?;
    let rest = rest.strip_prefix("namespaces/").ok_or_else(missing)?;
    let (segment, rest) = rest.split_once('/').unwrap_or((rest, ""));
    Ok((parse_namespace(&decode(segment)?)?, rest))
}

/// Returns the name of the table, view or function that a path names after the segment `kind`.
fn name_after(path: &str, kind: &str) -> Result<TableName, ApiError> {
    let (namespace, rest) = split_namespace(path)?;
    let missing = || ApiError::new(ErrorCode::BadRequest, format!("the path has no name after /{kind}/"));
    let segment = segment_after(rest, kind).ok_or_else(missing)?;
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

from_path!(InNamespace, |path| split_namespace(path).map(|(namespace, _)| namespace));
from_path!(InTable, |path| name_after(path, "tables"));
from_path!(InView, |path| name_after(path, "views"));
from_path!(InFunction, |path| name_after(path, "functions"));

/// Returns a parameter of the route that is no name of a catalog entry. The router decodes it.
///
/// # Errors
///
/// Returns [`ErrorCode::BadRequest`] if the parameter is not of the type, not UTF-8, or has a token.
async fn parameter<T: FromStr<Err: Display>>(parts: &mut Parts, name: &str) -> Result<T, ApiError> {
    let wrong = |what: String| ApiError::new(ErrorCode::BadRequest, format!("path parameter {name}: {what}"));
    let all = RawPathParams::from_request_parts(parts, &()).await.map_err(|e| wrong(e.body_text()))?;
    let (_, text) = all.iter().find(|(named, _)| *named == name).ok_or_else(|| wrong("the route has none".to_owned()))?;
    if has_token(text) {
        // The answer to a client that shows a token in a place that is logged must not have it either.
        return Err(wrong("this has a token; give the id of the token, and revoke it if others may have seen it".to_owned()));
    }
    text.parse().map_err(|e: T::Err| wrong(e.to_string()))
}

macro_rules! from_parameter {
    ($extractor:ident, $name:literal) => {
        impl FromRequestParts<App> for $extractor {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
                parameter(parts, $name).await.map(Self)
            }
        }
    };
}

from_parameter!(InJob, "job");
from_parameter!(InDropped, "table-id");
from_parameter!(InQuery, "id");
from_parameter!(InToken, "token-id");
from_parameter!(InRole, "role");
from_parameter!(InMember, "member");
from_parameter!(InGrant, "grant-id");
from_parameter!(InFilter, "filter-id");
from_parameter!(InPolicy, "policy");

/// Describes parameters in the path, by their names.
fn in_path(named: &[&str]) -> Vec<Parameter> {
    let described = named.iter().map(|name| {
        let (text, schema) = match *name {
            "warehouse" => ("The name of the warehouse.".to_owned(), String::schema()),
            "namespace" => {
                ("The levels of the namespace, with `%1F` (the unit separator) between them.".to_owned(), String::schema())
            }
            "job" => ("The id of the job.".to_owned(), JobId::schema()),
            "table-id" => ("The id in the list of dropped tables.".to_owned(), TableId::schema()),
            "token-id" => ("The id in the list of tokens.".to_owned(), String::schema()),
            "role" => ("The name of the role.".to_owned(), String::schema()),
            "member" => {
                let form = "The member: `role:NAME`, `client:NAME`, `user:NAME@ISSUER` or `claim:VALUE@ISSUER`.";
                (form.to_owned(), String::schema())
            }
            "grant-id" => ("The id in the list of grants.".to_owned(), String::schema()),
            "filter-id" => ("The id in the list of the table's restrictions.".to_owned(), String::schema()),
            "policy" => ("The name of the access policy.".to_owned(), String::schema()),
            "id" => ("The number of the query in this process.".to_owned(), u64::schema()),
            name => (format!("The name of the {name} in the namespace."), String::schema()),
        };
        let parameter = ParameterBuilder::new().name(*name).parameter_in(ParameterIn::Path).required(Required::True);
        parameter.description(Some(text)).schema(Some(schema)).build()
    });
    described.collect()
}

macro_rules! described {
    ($($extractor:ident: $names:expr,)*) => {
        $(impl utoipa::IntoParams for $extractor {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                in_path(&$names)
            }
        })*
    };
}

described! {
    InWarehouse: ["warehouse"],
    InNamespace: ["namespace"],
    InTable: ["namespace", "table"],
    InView: ["namespace", "view"],
    InFunction: ["namespace", "function"],
    InJob: ["job"],
    InDropped: ["table-id"],
    InQuery: ["id"],
    InToken: ["token-id"],
    InRole: ["role"],
    InMember: ["member"],
    InGrant: ["grant-id"],
    InFilter: ["filter-id"],
    InPolicy: ["policy"],
}

/// The caller of a request, for a handler that checks its needs by itself.
#[derive(Debug)]
pub(crate) struct RequestCaller(pub(crate) Arc<Caller>);

impl FromRequestParts<App> for RequestCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        caller_of(parts).map(Self)
    }
}

/// The author of a change: the principal of the request, with its idempotency key and its authority.
#[derive(Debug)]
pub(crate) struct RequestActor(pub(crate) Actor);

impl FromRequestParts<App> for RequestActor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        let principal = parts.extensions.get::<Principal>().map(ToString::to_string).unwrap_or_default();
        let authority = authority_of_change(parts)?;
        Ok(Self(Actor { principal, receipt: parts.extensions.get::<ReceiptKey>().cloned(), authority }))
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

    #[test]
    fn a_warehouse_and_a_namespace_may_have_the_name_of_a_segment() {
        for path in [
            "/v1/w/namespaces/n/tables/t",
            "/v1/namespaces/namespaces/n/tables/t",
            "/v1/warehouses/namespaces/n/tables/t",
            "/api/v1/warehouses/w/namespaces/n/tables/t/jobs",
            "/api/v1/warehouses/namespaces/namespaces/n/tables/t",
            "/warehouses/namespaces/namespaces/n/tables/t",
        ] {
            let found = name_after(path, "tables").expect(path);
            assert_eq!((found.namespace.key(), found.name.as_str()), ("n".to_owned(), "t"), "{path}");
        }
        let named = namespace_in("/v1/namespaces/namespaces/namespaces/tables").expect("a namespace");
        assert_eq!(named.key(), "namespaces");
        assert_eq!(namespace_in("/v1/namespaces/views"), None);
    }
}
