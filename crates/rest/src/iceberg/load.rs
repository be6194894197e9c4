//! Loading a table, and the response that load, create, register and commit have in common.
//!
//! A response repeats the text of the metadata file between a head and an end, so metadata is not serialised or copied. It has an
//! entity tag, by which a client that has the current response gets 304. With `snapshots=refs` the snapshots without a reference
//! are cut out of the text.
//!
//! Start reading at [`load`], then `answer` and [`without_unreferenced`].

use std::collections::HashSet;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use esker_catalog::{Catalog, LoadedTable};
use esker_format::TableMetadata;
use esker_types::ErrorCode;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::etag;
use crate::extract::{InTable, InWarehouse, QueryParams};
use crate::{ApiError, App};

/// The snapshots that a load response has in its metadata.
///
/// Spec: REST `loadTable`, parameter `snapshots`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SnapshotSelection {
    /// All snapshots.
    #[default]
    All,
    /// The snapshots that branches and tags point to.
    Refs,
}

/// The parameters of a request to load a table.
#[derive(Debug, Deserialize)]
pub(crate) struct LoadQuery {
    #[serde(default)]
    snapshots: Option<String>,
}

/// The options of a load response: all that it depends on besides the table.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoadOptions {
    snapshots: SnapshotSelection,
    /// The mechanisms in the header `X-Iceberg-Access-Delegation`, in lower case and sorted.
    delegation: Vec<String>,
}

impl LoadOptions {
    /// Returns the options with all snapshots and the delegation mechanisms in the headers of a request.
    pub(crate) fn all(headers: &HeaderMap) -> Self {
        Self { snapshots: SnapshotSelection::All, delegation: delegation(headers) }
    }
}

impl FromRequestParts<App> for LoadOptions {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        Ok(Self::all(&parts.headers))
    }
}

/// Reads the delegation mechanisms from the headers: lists with commas, in which clients also put spaces and bytes that are not
/// UTF-8.
fn delegation(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all("x-iceberg-access-delegation").into_iter();
    let text: Vec<String> = values.map(|v| String::from_utf8_lossy(v.as_bytes()).to_lowercase()).collect();
    let mut mechanisms: Vec<String> =
        text.iter().flat_map(|t| t.split(',')).map(|m| m.trim().to_owned()).filter(|m| !m.is_empty()).collect();
    mechanisms.sort();
    mechanisms
}

/// Loads a table, or answers 304 if the client has the current response.
///
/// Route: `GET /v1/{prefix}/namespaces/{namespace}/tables/{table}?snapshots=`. Spec: REST `loadTable`.
pub(crate) async fn load(
    State(app): State<App>,
    warehouse: InWarehouse,
    InTable(name): InTable,
    QueryParams(query): QueryParams<LoadQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let snapshots = match query.snapshots.as_deref().map(str::to_lowercase).as_deref() {
        // Java sends `snapshots=` without a value.
        None | Some("" | "all") => SnapshotSelection::All,
        Some("refs") => SnapshotSelection::Refs,
        Some(other) => {
            return Err(ApiError::new(ErrorCode::BadRequest, format!("snapshots={other:?} is neither all nor refs")));
        }
    };
    let shape = LoadOptions { snapshots, ..LoadOptions::all(&headers) };
    let catalog = warehouse.catalog();
    let table = catalog.load(&name).await?;
    catalog.check_metadata_file(&table).await?;
    let tag = tag(catalog, &table, &shape);
    if etag::client_has(&headers, &tag) {
        let mut response = (StatusCode::NOT_MODIFIED, private()).into_response();
        app.inner.header_case.tag(&mut response, &tag);
        return Ok(response);
    }
    response(&app, catalog, &table, &shape).await
}

/// Makes the error for metadata that can't be serialised, which is a bug.
fn bug(e: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::Internal, format!("table metadata can't be serialised: {e}"))
}

/// Computes the entity tag of a load response.
fn tag(catalog: &Catalog, table: &LoadedTable, shape: &LoadOptions) -> axum::http::HeaderValue {
    let snapshots = match shape.snapshots {
        SnapshotSelection::All => "all",
        SnapshotSelection::Refs => "refs",
    };
    let delegation = shape.delegation.join(",");
    // A table that is dropped and registered again from the same metadata file is another table, with another id.
    let id = table.row.id.to_string();
    etag::tag(&[&catalog.options().warehouse, &id, &table.row.metadata_location, snapshots, &delegation])
}

/// Returns the headers that keep caches from giving one client's response to another. Rights and credentials may differ.
fn private() -> [(header::HeaderName, &'static str); 2] {
    [(header::CACHE_CONTROL, "private, no-cache"), (header::VARY, "authorization, x-iceberg-access-delegation")]
}

/// Builds the load response of a table. The metadata has the text of the metadata file.
///
/// Spec: REST `LoadTableResult`.
pub(crate) async fn response(
    app: &App,
    catalog: &Catalog,
    table: &LoadedTable,
    shape: &LoadOptions,
) -> Result<Response, ApiError> {
    answer(app, catalog, table, shape, LOADED).await
}

/// Builds the response of a commit: a load response without `config`.
///
/// Spec: REST `CommitTableResponse`.
pub(crate) async fn committed(
    app: &App,
    catalog: &Catalog,
    table: &LoadedTable,
    shape: &LoadOptions,
) -> Result<Response, ApiError> {
    answer(app, catalog, table, shape, b"}").await
}

/// Builds a response from the metadata of a table and the text after it, with the entity tag.
async fn answer(
    app: &App,
    catalog: &Catalog,
    table: &LoadedTable,
    shape: &LoadOptions,
    end: &'static [u8],
) -> Result<Response, ApiError> {
    let metadata = match shape.snapshots {
        SnapshotSelection::All => table.json.bytes().clone(),
        SnapshotSelection::Refs => referenced_only(app, table).await?,
    };
    let mut response = pieces(&response_head(&table.row.metadata_location), metadata, end);
    app.inner.header_case.tag(&mut response, &tag(catalog, table, shape));
    Ok(response)
}

/// Returns the text of a load response before the metadata.
pub(crate) fn response_head(location: &str) -> String {
    format!("{{\"metadata-location\":{},\"metadata\":", Value::from(location))
}

/// The text of a load response after the metadata. It has no `storage-credentials`, because no warehouse issues any.
const LOADED: &[u8] = b",\"config\":{}}";

/// Builds a load response from its head and the metadata as JSON.
pub(crate) fn load_response(head: &str, metadata: Bytes) -> Response {
    pieces(head, metadata, LOADED)
}

/// Builds a JSON response of three pieces without copying the metadata.
fn pieces(head: &str, metadata: Bytes, end: &'static [u8]) -> Response {
    let pieces = vec![Bytes::from(head.to_owned()), metadata, Bytes::from_static(end)];
    let (body, length) = etag::body_of_pieces(pieces);
    let headers = [(header::CONTENT_TYPE, "application/json".to_owned()), (header::CONTENT_LENGTH, length.to_string())];
    (private(), headers, body).into_response()
}

/// Returns the metadata with only the snapshots that a reference points to, from the cache if it is there.
async fn referenced_only(app: &App, table: &LoadedTable) -> Result<Bytes, ApiError> {
    let key = &table.row.metadata_location;
    if let Some(found) = app.inner.referenced.get(key).await {
        return Ok(found);
    }
    let shortened = without_unreferenced(table.json.bytes()).map_err(|e| bug(&e))?;
    app.inner.referenced.insert(key.clone(), shortened.clone()).await;
    Ok(shortened)
}

/// Removes the snapshots that no reference and no `current-snapshot-id` points to. Logs and references stay whole.
///
/// Only the outermost fields are parsed, and of each snapshot only its id. Their text stays as it is.
fn without_unreferenced(json: &Bytes) -> Result<Bytes, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Named {
        snapshot_id: i64,
    }
    let mut fields: std::collections::BTreeMap<&str, &RawValue> = serde_json::from_slice(json)?;
    let mut kept: HashSet<i64> = HashSet::new();
    if let Some(refs) = fields.get("refs") {
        let refs: std::collections::BTreeMap<String, Named> = serde_json::from_str(refs.get())?;
        kept.extend(refs.values().map(|r| r.snapshot_id));
    }
    if let Some(current) = fields.get("current-snapshot-id") {
        kept.extend(serde_json::from_str::<Option<i64>>(current.get())?);
    }
    let Some(snapshots) = fields.get("snapshots") else { return Ok(json.clone()) };
    let all: Vec<&RawValue> = serde_json::from_str(snapshots.get())?;
    let mut left = Vec::new();
    for snapshot in all {
        if kept.contains(&serde_json::from_str::<Named>(snapshot.get())?.snapshot_id) {
            left.push(snapshot);
        }
    }
    let left = serde_json::value::to_raw_value(&left)?;
    fields.insert("snapshots", &left);
    Ok(serde_json::to_vec(&fields)?.into())
}

/// Builds the response of a staged creation, which has no metadata file yet.
pub(crate) fn staged(metadata: &TableMetadata) -> Result<Response, ApiError> {
    let metadata = metadata.to_json().map_err(|e| bug(&e))?;
    Ok(load_response("{\"metadata\":", metadata.into()))
}

/// Builds the response of an unregistered table. It has no entity tag, because the table can't be loaded again.
pub(crate) fn unregistered(table: &LoadedTable) -> Response {
    load_response(&response_head(&table.row.metadata_location), table.json.bytes().clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_unreferenced_snapshots_are_left_out() {
        let metadata = json!({
            "current-snapshot-id": 9_007_199_254_740_993_i64, "refs": {"tag": {"snapshot-id": 2, "type": "tag"}},
            "snapshots": [{"snapshot-id": 1}, {"snapshot-id": 2, "x": {"y": [1]}}, {"snapshot-id": 9_007_199_254_740_993_i64}],
            "snapshot-log": [{"snapshot-id": 1, "timestamp-ms": 3}],
        });
        let mut expected = metadata.clone();
        expected["snapshots"].as_array_mut().expect("a list").remove(0);
        let shortened = without_unreferenced(&Bytes::from(metadata.to_string())).expect("shortened");
        assert_eq!(serde_json::from_slice::<Value>(&shortened).expect("json"), expected);
    }

    #[test]
    fn delegation_lists_are_taken_however_they_are_written() {
        let mut headers = HeaderMap::new();
        let value = header::HeaderValue::from_bytes("Remote-Signing ,, vended-credentials,\u{e9}".as_bytes()).expect("bytes");
        headers.insert("x-iceberg-access-delegation", value);
        assert_eq!(delegation(&headers), ["remote-signing", "vended-credentials", "é"]);
    }
}
