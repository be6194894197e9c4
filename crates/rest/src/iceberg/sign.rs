//! Remote signing: clients without keys of the store ask here for the signature of each request.
//!
//! A client that sends `X-Iceberg-Access-Delegation: remote-signing` gets the properties that turn it on with the answer to a load, a
//! creation or a registration, if it gets no credentials. The places of the table are checked as they are for credentials. Where
//! the warehouse vends credentials too, requests are signed with those, so that the store checks the places once more.
//!
//! A table that is only staged has no route, and so no signatures. Start reading at [`sign`], then in `storage/src/signing`.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use esker_catalog::{Catalog, LoadedTable, Vendable};
use esker_storage::{Credential, Grant, Level, SignRequest, Signer};
use esker_types::{Coded, CodedError, ErrorCode, Principal};
use serde::Deserialize;
use serde_json::json;

use super::credentials::{self, StorageAccess};
use super::load::{CredentialRights, LoadOptions};
use super::restrictions::require_files;
use crate::access::RequestAccess;
use crate::extract::{InTable, InWarehouse, JsonBody};
use crate::{ApiError, App, Caller};

/// The class by which PyIceberg signs remotely.
const PYICEBERG_SIGNER: &str = "S3V4RestSigner";

/// The only file access of PyIceberg that signs remotely.
const PYICEBERG_FILE_IO: &str = "pyiceberg.io.fsspec.FsspecFileIO";

/// A request to the store that a client wants to send. Its `properties` are not used.
///
/// Spec: REST `RemoteSignRequest`.
#[derive(Debug, Deserialize)]
pub(crate) struct RemoteSignRequest {
    region: String,
    uri: String,
    method: String,
    headers: BTreeMap<String, Vec<String>>,
    body: Option<String>,
    provider: Option<String>,
}

/// Signs a request to the store for a client.
///
/// Java's clients use the answer to a read again for 30 seconds if its `Cache-Control` is `private`, with other headers such as
/// `Range`. They look the header up with its capitals.
///
/// Route: `POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/sign`. Spec: REST `signRequest`.
///
/// # Errors
///
/// - Returns [`ErrorCode::Unsupported`] if the warehouse signs no requests, and [`ErrorCode::BadRequest`] if the store is not S3.
/// - Returns [`ErrorCode::Forbidden`] if the caller gets no signatures or is restricted on the table, the places of the table can't be
///   vended, or the request is outside of them or not certain to be inside.
/// - Returns the code of the catalog's or the storage's error if the table does not exist, or the database, the store or the token
///   service fails.
pub(crate) async fn sign(
    State(app): State<App>,
    warehouse: InWarehouse,
    access: RequestAccess,
    Extension(caller): Caller,
    InTable(name): InTable,
    JsonBody(request): JsonBody<RemoteSignRequest>,
) -> Result<Response, ApiError> {
    let catalog = warehouse.catalog();
    let row = access.table(catalog, &name).await?;
    let rights = CredentialRights::Rules(access.quiet_authority());
    require_files(&row, &rights)?;
    let named = &catalog.options().warehouse;
    let signer = catalog.storage().signer().ok_or_else(|| {
        let what = format!("warehouse {named} signs no requests: configure the engine's own credentials");
        ApiError::new(ErrorCode::Unsupported, what)
    })?;
    if let Some(provider) = request.provider.as_deref().filter(|provider| !provider.eq_ignore_ascii_case("s3")) {
        return Err(ApiError::new(ErrorCode::BadRequest, format!("requests to the provider {provider:?} are not signed")));
    }
    let allowed = credentials::level_by_rights(catalog, &row, &rights);
    let level = level_of(signer, &caller).zip(allowed).map(|(level, allowed)| level.min(allowed)).ok_or_else(|| {
        let what = format!("warehouse {named} signs no requests of {caller}");
        ApiError::new(ErrorCode::Forbidden, what)
    })?;
    let table = catalog.load_row(row).await?;
    let vendable = catalog.vendable(&table).await?;
    let grant = Grant::new(level, vendable.prefixes().to_vec());
    let scoped = match catalog.storage().vendor() {
        Some(vendor) => Some(credentials::scoped(catalog, vendor, &vendable, grant.clone(), &caller).await?),
        None => {
            check_apart(catalog, signer, &vendable).await?;
            None
        }
    };
    let RemoteSignRequest { region, uri, method, headers, body, .. } = request;
    let request = SignRequest { region, uri, method, headers, body };
    // Only a warehouse in S3 signs requests, and its credentials are keys of S3.
    let signed = signer.sign(&request, &grant, scoped.as_deref().and_then(Credential::as_s3)).await?;
    let headers: BTreeMap<&String, [&String; 1]> = signed.headers.iter().map(|(name, value)| (name, [value])).collect();
    let caching = if signed.reusable { "private" } else { "no-cache" };
    let body = Json(json!({"uri": signed.uri, "headers": headers}));
    let mut response = ([(header::CACHE_CONTROL, caching)], body).into_response();
    app.inner.header_case.spell(&mut response);
    Ok(response)
}

/// Returns the highest level at which a caller's requests are signed; `None`: they are not.
fn level_of(signer: &Signer, caller: &Principal) -> Option<Level> {
    credentials::level_of(caller, signer.level(), signer.anonymous_level())
}

/// Checks that no place overlaps one of another table, if that was not checked a moment ago.
async fn check_apart(catalog: &Catalog, signer: &Signer, vendable: &Vendable) -> Result<(), ApiError> {
    let apart = async { catalog.check_apart(vendable).await.map_err(CodedError::new) };
    let checked = signer.once_a_minute(vendable.id(), vendable.prefixes(), apart).await;
    checked.map_err(|e| ApiError::new(e.code(), e.to_string()))
}

/// Returns the properties that make a client sign remotely, if it asks for that and may. `most` bounds the level.
///
/// # Errors
///
/// Returns the errors of the checks of the table's places.
pub(super) async fn for_table(
    catalog: &Catalog,
    table: &LoadedTable,
    asked: &LoadOptions,
    most: Level,
) -> Result<Option<StorageAccess>, ApiError> {
    let signer = catalog.storage().signer().filter(|_| asked.wants_signing());
    let (Some(signer), Some(caller)) = (signer, asked.caller()) else { return Ok(None) };
    let Some(level) = level_of(signer, caller) else { return Ok(None) };
    let vendable = catalog.vendable(table).await?;
    check_apart(catalog, signer, &vendable).await?;
    let level = level.min(most);
    let route = credentials::route(&catalog.options().warehouse, &table.row.name, "sign");
    let mut properties = credentials::store_properties(catalog, signer.region(), level);
    let mut set = |key: &str, value: &str| properties.insert(key.to_owned(), value.to_owned());
    set("s3.remote-signing-enabled", "true");
    // Java up to 1.10 and PyIceberg know the first one, Java 1.11 the second. Later ones know the route. Without a URI, all of them
    // take that of the catalog.
    set("s3.signer.endpoint", &route);
    set("signer.endpoint", &route);
    set("s3.signer", PYICEBERG_SIGNER);
    set("py-io-impl", PYICEBERG_FILE_IO);
    Ok(Some(StorageAccess::signed(level, properties)))
}
