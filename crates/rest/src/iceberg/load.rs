//! Loading a table, and the response that load, create, register and commit have in common.
//!
//! A response repeats the text of the metadata file between a head and an end, so metadata is not serialised or copied. The end
//! has the credentials, if any are vended, or the properties of signing. A response has an entity tag, by which a client that has
//! the current one gets 304. With `snapshots=refs` the snapshots without a reference are cut out of the text. Callers that are
//! restricted on the table by row filters or column masks get what `restrictions.rs` says.
//!
//! Start reading at [`load`], then `answer` and [`without_unreferenced`].

use std::collections::{BTreeMap, HashSet};

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use esker_catalog::{Authority, Catalog, LoadedTable};
use esker_format::TableMetadata;
use esker_storage::Level;
use esker_types::{ErrorCode, NamespaceName, Principal, TableId};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::credentials::{self, StorageAccess};
use super::definer::ReferencedBy;
use super::restrictions::{FileAccess, without_counts, without_values};
use crate::access::{RequestAccess, authority_of_answer};
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
#[derive(Debug, Clone)]
pub(crate) struct LoadOptions {
    snapshots: SnapshotSelection,
    /// The mechanisms in the header `X-Iceberg-Access-Delegation`, in lower case and sorted.
    delegation: Vec<String>,
    /// The principal of the request, which gets no credentials if it is missing.
    caller: Option<Principal>,
    /// The rights that credentials depend on.
    rights: CredentialRights,
    /// The views through which the client reads the table.
    chain: ReferencedBy,
}

/// The rights of a caller, as far as credentials depend on them.
#[derive(Debug, Clone)]
pub(crate) enum CredentialRights {
    /// Those that the rules give.
    Rules(Authority),
    /// Those of the owner of a view, for reading: the caller is a trusted engine that reads the table through the view.
    Definer(Authority),
    /// Those of the owner, because the request makes the table, without what access policies forbid the caller.
    Owner(Authority),
    /// None, because the request has no caller.
    Nothing,
}

impl LoadOptions {
    /// Returns the options of a request, with all snapshots.
    pub(crate) fn of(parts: &Parts) -> Self {
        let caller = parts.extensions.get::<Principal>().cloned();
        let rights = authority_of_answer(parts).map_or(CredentialRights::Nothing, CredentialRights::Rules);
        let (snapshots, delegation, chain) = (SnapshotSelection::All, delegation(&parts.headers), ReferencedBy::of(parts));
        Self { snapshots, delegation, caller, rights, chain }
    }

    /// Returns the options for the answer to a request that makes the table, so that the caller owns it.
    pub(crate) fn for_owner(self) -> Self {
        let rights = match self.rights {
            CredentialRights::Rules(authority) | CredentialRights::Owner(authority) => CredentialRights::Owner(authority),
            CredentialRights::Definer(_) | CredentialRights::Nothing => CredentialRights::Nothing,
        };
        Self { rights, ..self }
    }

    /// Returns the options for an answer by other rights.
    pub(crate) fn with_rights(self, rights: CredentialRights) -> Self {
        Self { rights, ..self }
    }

    /// Returns the views through which the client reads the table.
    pub(crate) fn chain(&self) -> &ReferencedBy {
        &self.chain
    }

    /// Returns the rights that credentials depend on.
    pub(crate) fn rights(&self) -> &CredentialRights {
        &self.rights
    }

    /// Checks whether the client asks for vended credentials.
    pub(crate) fn wants_credentials(&self) -> bool {
        self.delegation.iter().any(|mechanism| mechanism == "vended-credentials")
    }

    /// Checks whether the client can let its requests to the store be signed.
    pub(crate) fn wants_signing(&self) -> bool {
        self.delegation.iter().any(|mechanism| mechanism == "remote-signing")
    }

    /// Returns the principal of the request.
    pub(crate) fn caller(&self) -> Option<&Principal> {
        self.caller.as_ref()
    }
}

impl FromRequestParts<App> for LoadOptions {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        Ok(Self::of(parts))
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
/// Route: `GET /v1/{prefix}/namespaces/{namespace}/tables/{table}?snapshots=&referenced-by=`. Spec: REST `loadTable`.
pub(crate) async fn load(
    State(app): State<App>,
    warehouse: InWarehouse,
    caller: RequestAccess,
    InTable(name): InTable,
    QueryParams(query): QueryParams<LoadQuery>,
    shape: LoadOptions,
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
    let catalog = warehouse.catalog();
    let (row, rights) = caller.table_through(&app, catalog, &name, shape.chain()).await?;
    if let Some(principal) = shape.caller() {
        catalog.note_load(row.id, principal);
    }
    let shape = LoadOptions { snapshots, rights, ..shape };
    let table = catalog.load_row(row).await?;
    catalog.check_metadata_file(&table).await?;
    let access = credentials::for_table(catalog, &table, &shape, Level::WriteDelete).await?;
    let files = FileAccess::of(catalog, &table, shape.rights());
    let tag = tag(catalog, &table, &shape, (access.as_ref(), &files));
    if etag::client_has(&headers, &tag) {
        let mut response = (StatusCode::NOT_MODIFIED, private()).into_response();
        app.inner.header_case.tag(&mut response, &tag);
        return Ok(response);
    }
    let end = loaded_end(access.as_ref(), files.restrictions());
    answer(&app, &table, shape.snapshots, &files, &tag, end).await
}

/// Makes the error for metadata that can't be serialised, which is a bug.
fn bug(e: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::Internal, format!("table metadata can't be serialised: {e}"))
}

/// Computes the entity tag of a load response.
///
/// Whoever has the tag of a response with credentials has the same ones that the response would have now. So no 304 leaves a
/// client with credentials that end before those which a whole response would bring. The restrictions of the caller are covered
/// too, so that nobody goes on with those of somebody else or of yesterday.
fn tag(
    catalog: &Catalog,
    table: &LoadedTable,
    shape: &LoadOptions,
    (access, files): (Option<&StorageAccess>, &FileAccess),
) -> HeaderValue {
    let snapshots = match shape.snapshots {
        SnapshotSelection::All => "all",
        SnapshotSelection::Refs => "refs",
    };
    let delegation = shape.delegation.join(",");
    // A table that is dropped and registered again from the same metadata file is another table, with another id.
    let id = table.row.id.to_string();
    let access = access.map_or_else(String::new, StorageAccess::identity);
    let files = files.identity();
    etag::tag(&[&catalog.options().warehouse, &id, &table.row.metadata_location, snapshots, &delegation, &access, &files])
}

/// Returns the headers that keep caches from giving one client's response to another. Rights and credentials may differ.
fn private() -> [(header::HeaderName, &'static str); 2] {
    [(header::CACHE_CONTROL, "private, no-cache"), (header::VARY, "authorization, x-iceberg-access-delegation")]
}

/// Builds the load response of a table that the request made or changed. The metadata has the text of the metadata file.
///
/// Spec: REST `LoadTableResult`.
pub(crate) async fn response(
    app: &App,
    catalog: &Catalog,
    table: &LoadedTable,
    shape: &LoadOptions,
) -> Result<Response, ApiError> {
    let access = credentials::for_table_if_possible(catalog, table, shape, Level::WriteDelete).await;
    let files = FileAccess::of(catalog, table, shape.rights());
    let tag = tag(catalog, table, shape, (access.as_ref(), &files));
    let end = loaded_end(access.as_ref(), files.restrictions());
    answer(app, table, shape.snapshots, &files, &tag, end).await
}

/// Builds the response of a commit: a load response without `config` and credentials.
///
/// Spec: REST `CommitTableResponse`.
pub(crate) async fn committed(
    app: &App,
    catalog: &Catalog,
    table: &LoadedTable,
    shape: &LoadOptions,
) -> Result<Response, ApiError> {
    let files = FileAccess::of(catalog, table, shape.rights());
    let tag = tag(catalog, table, shape, (None, &files));
    answer(app, table, shape.snapshots, &files, &tag, Bytes::from_static(b"}")).await
}

/// Builds a response from the metadata of a table and the text after it, with the entity tag.
async fn answer(
    app: &App,
    table: &LoadedTable,
    snapshots: SnapshotSelection,
    files: &FileAccess,
    tag: &HeaderValue,
    end: Bytes,
) -> Result<Response, ApiError> {
    let mut metadata = match snapshots {
        SnapshotSelection::All => table.json.bytes().clone(),
        SnapshotSelection::Refs => referenced_only(app, table).await?,
    };
    if let FileAccess::Withheld { hides_counts } = files {
        let shown = if *hides_counts { without_counts(&metadata) } else { without_values(&metadata) };
        metadata = shown.map_err(|e| bug(&e))?;
    }
    let mut response = pieces(&response_head(&table.row.metadata_location), metadata, end);
    app.inner.header_case.tag(&mut response, tag);
    Ok(response)
}

/// Returns the text of a load response before the metadata.
pub(crate) fn response_head(location: &str) -> String {
    format!("{{\"metadata-location\":{},\"metadata\":", Value::from(location))
}

/// Returns the text of a load response after the metadata. Without credentials it has no `storage-credentials`.
///
/// The configuration of signing is empty: nothing has to be sent with a request for a signature.
fn loaded_end(access: Option<&StorageAccess>, restrictions: Option<&Value>) -> Bytes {
    let restrictions = restrictions.map_or_else(String::new, |value| format!(",\"read-restrictions\":{value}"));
    let Some(access) = access else { return format!(",\"config\":{{}}{restrictions}}}").into() };
    let config = Value::Object(access.properties().clone());
    let more = match access.entry() {
        Some(entry) => format!("\"storage-credentials\":[{entry}]"),
        None => "\"remote-signing-config\":{}".to_owned(),
    };
    format!(",\"config\":{config},{more}{restrictions}}}").into()
}

/// Builds a load response without credentials from its head and the metadata as JSON.
pub(crate) fn load_response(head: &str, metadata: Bytes) -> Response {
    pieces(head, metadata, loaded_end(None, None))
}

/// Builds a JSON response of three pieces without copying the metadata.
fn pieces(head: &str, metadata: Bytes, end: Bytes) -> Response {
    let pieces = vec![Bytes::from(head.to_owned()), metadata, end];
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
    let mut fields: BTreeMap<&str, &RawValue> = serde_json::from_slice(json)?;
    let mut kept: HashSet<i64> = HashSet::new();
    if let Some(refs) = fields.get("refs") {
        let refs: BTreeMap<String, Named> = serde_json::from_str(refs.get())?;
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

/// The text of the response to a staged creation before the metadata. There is no metadata file yet.
const STAGED_HEAD: &str = "{\"metadata\":";

/// Builds the response of a staged creation of a table with a name.
pub(crate) async fn staged(
    catalog: &Catalog,
    (namespace, name): (&NamespaceName, &str),
    metadata: &TableMetadata,
    shape: &LoadOptions,
) -> Result<Response, ApiError> {
    let json = metadata.to_json().map_err(|e| bug(&e))?;
    let key = catalog.namespace(namespace).await?.name.key();
    // There is no such table yet, so it has no id.
    let on = catalog.namespace_path(&key).table(TableId(Uuid::nil()), name);
    let staged = (metadata.table_uuid, metadata.location.as_str(), &metadata.properties);
    let access = credentials::for_staged_table(catalog, &on, staged, shape).await;
    Ok(pieces(STAGED_HEAD, json.into(), loaded_end(access.as_ref(), None)))
}

/// Builds the response of a staged creation again, from its body without credentials. Returns `None` if it is another body.
pub(crate) async fn staged_again(
    catalog: &Catalog,
    namespace: Option<&NamespaceName>,
    body: &Value,
    shape: &LoadOptions,
) -> Option<Response> {
    /// The part of the metadata that credentials depend on.
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Staged {
        table_uuid: Option<Uuid>,
        location: String,
        #[serde(default)]
        properties: BTreeMap<String, String>,
    }
    let metadata = body.get("metadata").filter(|_| body.get("metadata-location").is_none())?;
    let Staged { table_uuid, location, properties } = Staged::deserialize(metadata).ok()?;
    // The rules know the namespace by the name that is stored: a warehouse may compare names without case.
    let stored = match namespace {
        Some(namespace) => catalog.namespace(namespace).await.ok().map(|row| row.name.key()),
        None => None,
    };
    let access = match stored.filter(|key| credentials::may_create(catalog, key, shape.rights())) {
        Some(key) => {
            // The body has no name of the table.
            let (on, staged) = (catalog.namespace_path(&key), (table_uuid, location.as_str(), &properties));
            credentials::for_staged_table(catalog, &on, staged, shape).await
        }
        None => None,
    };
    Some(pieces(STAGED_HEAD, metadata.to_string().into(), loaded_end(access.as_ref(), None)))
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
        let value = HeaderValue::from_bytes("Remote-Signing ,, vended-credentials,\u{e9}".as_bytes()).expect("bytes");
        headers.insert("x-iceberg-access-delegation", value);
        assert_eq!(delegation(&headers), ["remote-signing", "vended-credentials", "é"]);
    }
}
