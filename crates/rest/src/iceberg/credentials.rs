//! Access to storage for clients: vended credentials, or the signing of their requests (`sign.rs`).
//!
//! A client that sends `X-Iceberg-Access-Delegation: vended-credentials` gets credentials with the answer to a load, a creation, a
//! registration or a plan, and new ones here before they end. Where nothing is vended, an answer has no entry at all: DuckDB takes
//! an entry without keys for the only way to the files.
//!
//! The rights of the caller bound the level: who may only read gets credentials for reading, and who may neither read nor write
//! gets none. Nor does a caller with row filters or column masks on the table, whatever it may write: files have all rows.
//!
//! Start reading at [`for_table`], then at `vend`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use esker_access::{Privilege, PrivilegeSet, Required, ResourcePath};
use esker_catalog::{Authority, Catalog, LoadedTable, Vendable};
use esker_state::TabularRow;
use esker_storage::{ALL_BUT_UNRESERVED, Credential, Grant, Level, PolicyPrefix, SessionName, VendRequest, Vendor};
use esker_types::{Coded, CodedError, ErrorCode, Principal, TableName};
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::definer::ReferencedBy;
use super::load::{CredentialRights, LoadOptions};
use super::restrictions::{is_withheld, require_files};
use super::sign;
use crate::access::RequestAccess;
use crate::extract::{InTable, InWarehouse, QueryParams};
use crate::{ApiError, App, Caller};

/// The properties of `/v1/config` that clients need with the credentials. An entry is all that DuckDB reads of them.
const STORE_PROPERTIES: [&str; 2] = ["s3.endpoint", "s3.path-style-access"];

/// Access to the files of one table, as an answer gives it to its caller.
pub(crate) struct StorageAccess {
    level: Level,
    /// The id of the credentials; `None` if requests are signed instead.
    credential_id: Option<String>,
    /// The URI that the entry of the credentials holds for.
    prefix: String,
    properties: Map<String, Value>,
}

impl StorageAccess {
    /// Makes the access of a client whose requests are signed, from its properties.
    pub(super) fn signed(level: Level, properties: BTreeMap<String, String>) -> Self {
        Self { level, credential_id: None, prefix: String::new(), properties: as_json(properties) }
    }

    /// Returns the text that tells these credentials from all others, without a secret. Entity tags cover it.
    ///
    /// A client with the tag has these very credentials. They have a third of their life left, or they were not given out again.
    pub(crate) fn identity(&self) -> String {
        format!("{} {}", self.level.as_str(), self.credential_id.as_deref().unwrap_or("signed"))
    }

    /// Returns the only entry of `storage-credentials`; `None` if requests are signed instead.
    ///
    /// Java's refresh fails if there are two of S3. So several places have one entry, for the URI that they all begin with.
    ///
    /// Spec: REST `StorageCredential`.
    pub(crate) fn entry(&self) -> Option<Value> {
        self.credential_id.as_ref().map(|_| json!({"prefix": self.prefix, "config": self.properties}))
    }

    /// Returns the properties of the table, by which clients that don't know `storage-credentials` reach its files.
    pub(crate) fn properties(&self) -> &Map<String, Value> {
        &self.properties
    }
}

/// The parameters of a request for credentials.
#[derive(Debug, Deserialize)]
pub(crate) struct CredentialsQuery {
    #[serde(rename = "planId")]
    plan_id: Option<String>,
}

/// Returns credentials for a table; an empty list if the warehouse vends none.
///
/// With `planId` they are for the files of a scan, and so for reading.
///
/// Route: `GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials`. Spec: REST `loadCredentials`.
pub(crate) async fn load(
    State(app): State<App>,
    warehouse: InWarehouse,
    access: RequestAccess,
    caller: Caller,
    InTable(name): InTable,
    QueryParams(query): QueryParams<CredentialsQuery>,
    chain: ReferencedBy,
) -> Result<Response, ApiError> {
    let catalog = warehouse.catalog();
    let (row, rights) = access.table_through(&app, catalog, &name, &chain).await?;
    require_files(&row, &rights)?;
    let entries: Vec<Value> = match catalog.storage().vendor() {
        None => Vec::new(),
        Some(vendor) => {
            let allowed = level_by_rights(catalog, &row, &rights);
            let configured = level_of(&caller, vendor.level(), vendor.anonymous_level());
            let level = configured.zip(allowed).map(|(level, allowed)| level.min(allowed)).ok_or_else(|| {
                let what = format!("warehouse {} vends no credentials to {}", catalog.options().warehouse, caller.0);
                ApiError::new(ErrorCode::Forbidden, what)
            })?;
            let level = if query.plan_id.is_some() { Level::Read } else { level };
            let table = catalog.load_row(row).await?;
            let vendable = catalog.vendable(&table).await?;
            vend(catalog, vendor, &vendable, level, &caller, Some(&name)).await?.entry().into_iter().collect()
        }
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(json!({"storage-credentials": entries}))).into_response())
}

/// Returns the highest level of a caller, of that of callers with a token and that of anonymous ones; `None`: no access.
pub(super) fn level_of(caller: &Principal, with_token: Option<Level>, anonymous: Option<Level>) -> Option<Level> {
    match caller {
        Principal::Token(_) | Principal::User { .. } => with_token,
        Principal::Anonymous => anonymous,
    }
}

/// Returns the highest level of credentials for a table that the rights of a caller allow; `None`: no credentials.
///
/// Credentials for writing read as well, because writers read manifests, which lie in the same place as the data. So a caller whom an
/// access policy forbids to read gets none.
pub(super) fn level_by_rights(catalog: &Catalog, row: &TabularRow, rights: &CredentialRights) -> Option<Level> {
    const CHANGES: PrivilegeSet = PrivilegeSet::of(&[Privilege::Modify, Privilege::Rewrite]);
    let key = row.name.namespace.key();
    let on = catalog.tabular_path(&key, row);
    let authority = match rights {
        CredentialRights::Owner(authority) => return level_of_maker(authority, &on),
        CredentialRights::Nothing => return None,
        // A view is read. Who owns it got the rights checked.
        CredentialRights::Definer(owner) => {
            return Some(Level::Read).filter(|_| !owner.is_forbidden(&on, Privilege::ReadData));
        }
        CredentialRights::Rules(authority) => authority,
    };
    if authority.is_forbidden(&on, Privilege::ReadData) {
        None
    } else if authority.has(&on, Required::any_of(CHANGES)) {
        Some(Level::WriteDelete)
    } else if authority.has(&on, Required::privilege(Privilege::Append)) {
        Some(Level::Write)
    } else {
        authority.has(&on, Required::privilege(Privilege::ReadData)).then_some(Level::Read)
    }
}

/// Returns the highest level of credentials for a table that a caller makes: that of an owner, without what access policies forbid
/// the caller. `None`: no credentials.
///
/// `on` is the path of the table, or that of its namespace: then nothing counts that a policy may forbid on something in it.
fn level_of_maker(authority: &Authority, on: &ResourcePath<'_>) -> Option<Level> {
    let may = |privilege| match on.leaf() {
        Some(_) => !authority.is_forbidden(on, privilege),
        None => !authority.may_forbid_below(on, privilege),
    };
    if !may(Privilege::ReadData) {
        None
    } else if may(Privilege::Modify) || may(Privilege::Rewrite) {
        Some(Level::WriteDelete)
    } else if may(Privilege::Append) {
        Some(Level::Write)
    } else {
        Some(Level::Read)
    }
}

/// Checks that a caller who staged a table may still create it in the namespace with a key.
pub(crate) fn may_create(catalog: &Catalog, key: &str, rights: &CredentialRights) -> bool {
    match rights {
        CredentialRights::Rules(authority) => {
            authority.has(&catalog.namespace_path(key), Required::privilege(Privilege::CreateTable))
        }
        CredentialRights::Owner(_) | CredentialRights::Definer(_) | CredentialRights::Nothing => false,
    }
}

/// Returns the vendor, the caller and the level, if the client asks for credentials and may get some.
fn asked_for<'a>(catalog: &'a Catalog, asked: &'a LoadOptions) -> Option<(&'a Vendor, &'a Principal, Level)> {
    let vendor = catalog.storage().vendor().filter(|_| asked.wants_credentials())?;
    let caller = asked.caller()?;
    Some((vendor, caller, level_of(caller, vendor.level(), vendor.anonymous_level())?))
}

/// Returns access to a table for a client that asks for it; `None` if it gets none. `most` bounds the level.
///
/// A client that asks for both mechanisms gets credentials if the warehouse vends any, else signatures. A table that can't have
/// either can be loaded all the same, by engines with keys of their own. The reason is logged, and [`load`] answers with it.
///
/// # Errors
///
/// Returns an error that passes, such as a token service that does not answer. A client repeats the request then.
pub(crate) async fn for_table(
    catalog: &Catalog,
    table: &LoadedTable,
    asked: &LoadOptions,
    most: Level,
) -> Result<Option<StorageAccess>, ApiError> {
    if !asked.wants_credentials() && !asked.wants_signing() {
        return Ok(None);
    }
    if is_withheld(&table.row, asked.rights()) {
        return Ok(None);
    }
    let Some(allowed) = level_by_rights(catalog, &table.row, asked.rights()) else { return Ok(None) };
    let most = most.min(allowed);
    let access = async {
        let Some((vendor, caller, level)) = asked_for(catalog, asked) else {
            // A request for a signature names no view.
            if matches!(asked.rights(), CredentialRights::Definer(_)) {
                return Ok(None);
            }
            return sign::for_table(catalog, table, asked, most).await;
        };
        let vendable = catalog.vendable(table).await?;
        vend(catalog, vendor, &vendable, level.min(most), caller, Some(&table.row.name)).await.map(Some)
    };
    match access.await {
        Ok(access) => Ok(access),
        Err(error) if error.code().is_transient() => Err(error),
        Err(error) => {
            log_refusal(catalog, &table.row.name.to_string(), &error);
            Ok(None)
        }
    }
}

/// Returns access to a table for an answer that must not fail, such as that to a change that is made. Any failure is logged.
pub(crate) async fn for_table_if_possible(
    catalog: &Catalog,
    table: &LoadedTable,
    asked: &LoadOptions,
    most: Level,
) -> Option<StorageAccess> {
    for_table(catalog, table, asked, most).await.unwrap_or_else(|error| {
        log_refusal(catalog, &table.row.name.to_string(), &error);
        None
    })
}

/// Returns access to the places of a table that is only staged, by its UUID, location and properties. Any failure is logged.
///
/// `on` is the path that the table would have, or that to its namespace.
/// There is nothing that new credentials could be loaded for, so the properties name no route for that.
pub(crate) async fn for_staged_table(
    catalog: &Catalog,
    on: &ResourcePath<'_>,
    (uuid, location, properties): (Option<Uuid>, &str, &BTreeMap<String, String>),
    asked: &LoadOptions,
) -> Option<StorageAccess> {
    let allowed = match asked.rights() {
        CredentialRights::Owner(authority) | CredentialRights::Rules(authority) => level_of_maker(authority, on)?,
        CredentialRights::Definer(_) | CredentialRights::Nothing => return None,
    };
    let (vendor, caller, level) = asked_for(catalog, asked)?;
    let vended = async {
        let vendable = catalog.vendable_staged(uuid.unwrap_or_default(), location, properties)?;
        vend(catalog, vendor, &vendable, level.min(allowed), caller, None).await
    };
    vended.await.map_err(|error| log_refusal(catalog, location, &error)).ok()
}

/// Logs the reason why a client that asks for credentials gets none.
fn log_refusal(catalog: &Catalog, what: &str, error: &ApiError) {
    let warehouse = &catalog.options().warehouse;
    tracing::warn!(warehouse, table = what, reason = error.message(), "no credentials are vended");
}

/// Vends credentials for places that passed their own checks, and puts together what clients get.
///
/// `name` is that of the table, if the catalog has it.
async fn vend(
    catalog: &Catalog,
    vendor: &Vendor,
    vendable: &Vendable,
    level: Level,
    caller: &Principal,
    name: Option<&TableName>,
) -> Result<StorageAccess, ApiError> {
    let prefixes = vendable.prefixes();
    let vended = scoped(catalog, vendor, vendable, Grant::new(level, prefixes.to_vec()), caller).await?;
    let refresh = name.map(|name| route(&catalog.options().warehouse, name, "credentials"));
    let properties = properties(catalog, vendor, level, &vended, refresh);
    let prefix = PolicyPrefix::common_uri(prefixes);
    Ok(StorageAccess { level, credential_id: Some(vended.id()), prefix, properties })
}

/// Returns credentials for places that passed their own checks. They are compared with those of other tables if none are kept.
pub(super) async fn scoped(
    catalog: &Catalog,
    vendor: &Vendor,
    vendable: &Vendable,
    grant: Grant,
    caller: &Principal,
) -> Result<Arc<Credential>, ApiError> {
    let request = VendRequest { table: vendable.id(), grant, session: session_of(caller) };
    let apart = async { catalog.check_apart(vendable).await.map_err(CodedError::new) };
    vendor.vend(&request, apart).await.map_err(|e| ApiError::new(e.code(), e.to_string()))
}

/// Returns the name of a caller's sessions. It begins with the caller's name, and no two callers have the same one: names have
/// no control characters.
fn session_of(caller: &Principal) -> SessionName {
    match caller {
        Principal::Token(name) => SessionName::of(name),
        Principal::User { issuer, name } => SessionName::of(&format!("{name}\0{issuer}")),
        Principal::Anonymous => SessionName::of("\0anonymous"),
    }
}

/// Returns the properties by which clients reach the files.
///
/// Spec: REST `LoadTableResult`, "Storage Credentials".
fn properties(
    catalog: &Catalog,
    vendor: &Vendor,
    level: Level,
    vended: &Credential,
    refresh: Option<String>,
) -> Map<String, Value> {
    let (mut properties, route) = match vended {
        Credential::S3(_) => (store_properties(catalog, vendor.region(), level), "client.refresh-credentials-endpoint"),
        Credential::Gcs(_) => (BTreeMap::new(), "gcs.oauth2.refresh-credentials-endpoint"),
        Credential::Adls(_) => (BTreeMap::new(), "adls.refresh-credentials-endpoint"),
    };
    properties.extend(secrets(vended));
    properties.extend(refresh.map(|path| (route.to_owned(), path)));
    as_json(properties)
}

/// Returns the properties that hold credentials and their end.
fn secrets(vended: &Credential) -> BTreeMap<String, String> {
    let end = vended.expires_ms().to_string();
    let pairs = match vended {
        Credential::S3(keys) => vec![
            ("s3.access-key-id".to_owned(), keys.access_key_id.clone()),
            ("s3.secret-access-key".to_owned(), keys.secret_access_key.clone()),
            ("s3.session-token".to_owned(), keys.session_token.clone()),
            ("s3.session-token-expires-at-ms".to_owned(), end),
        ],
        Credential::Gcs(token) => {
            vec![("gcs.oauth2.token".to_owned(), token.token.clone()), ("gcs.oauth2.token-expires-at".to_owned(), end)]
        }
        // Clients look for the account by its host, and older ones by its name.
        Credential::Adls(sas) => [&sas.host, &sas.account]
            .into_iter()
            .flat_map(|of| {
                let token = (format!("adls.sas-token.{of}"), sas.token.clone());
                [token, (format!("adls.sas-token-expires-at-ms.{of}"), end.clone())]
            })
            .collect(),
    };
    pairs.into_iter().collect()
}

/// Returns the properties of the store that clients need at a level, whoever signs their requests.
pub(super) fn store_properties(catalog: &Catalog, region: &str, level: Level) -> BTreeMap<String, String> {
    let client = &catalog.options().client;
    let store = STORE_PROPERTIES.iter().filter_map(|key| client.get(*key).map(|value| ((*key).to_owned(), value.clone())));
    let mut properties: BTreeMap<String, String> = store.collect();
    for key in ["client.region", "s3.region"] {
        properties.insert(key.to_owned(), client.get(key).map_or(region, String::as_str).to_owned());
    }
    if level < Level::WriteDelete {
        // Java's clients would try to delete, and take each refusal for a failure.
        properties.insert("s3.delete-enabled".to_owned(), "false".to_owned());
    }
    properties
}

/// Returns properties as JSON.
fn as_json(properties: BTreeMap<String, String>) -> Map<String, Value> {
    properties.into_iter().map(|(key, value)| (key, Value::String(value))).collect()
}

/// Returns a route of a table, relative to the catalog's URI. `end` is its last segment.
///
/// Java sends its token to an absolute URL, whatever the host (iceberg#16463).
pub(super) fn route(warehouse: &str, name: &TableName, end: &str) -> String {
    let encode = |text: &str| utf8_percent_encode(text, ALL_BUT_UNRESERVED).to_string();
    let (namespace, table) = (encode(&name.namespace.key()), encode(&name.name));
    format!("v1/{}/namespaces/{namespace}/tables/{table}/{end}", encode(warehouse))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use esker_storage::{BearerToken, DirectorySas};
    use esker_types::NamespaceName;

    use super::*;

    #[test]
    fn the_route_of_new_credentials_is_relative_and_encoded_as_clients_do() {
        let namespace = NamespaceName::from_key("a\u{1f}b c").expect("a namespace");
        let name = TableName::new(namespace, "t+x/é".to_owned()).expect("a name");
        assert_eq!(route("lake", &name, "credentials"), "v1/lake/namespaces/a%1Fb%20c/tables/t%2Bx%2F%C3%A9/credentials");
    }

    #[test]
    fn credentials_of_each_store_have_the_properties_that_its_clients_read() {
        let token = BearerToken { token: "ya29".to_owned(), expires_ms: 7 };
        let found = secrets(&Credential::Gcs(token));
        let pairs: Vec<(&str, &str)> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("gcs.oauth2.token", "ya29"), ("gcs.oauth2.token-expires-at", "7")]);
        let (account, host) = ("acc".to_owned(), "acc.dfs.core.windows.net".to_owned());
        let found = secrets(&Credential::Adls(DirectorySas { token: "sv=1".to_owned(), account, host, expires_ms: 7 }));
        for of in ["acc", "acc.dfs.core.windows.net"] {
            assert_eq!(found[&format!("adls.sas-token.{of}")], "sv=1");
            assert_eq!(found[&format!("adls.sas-token-expires-at-ms.{of}")], "7");
        }
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn callers_of_one_name_have_different_sessions() {
        let token = Principal::Token("anonymous".to_owned());
        let user = |issuer: &str| Principal::User { issuer: issuer.to_owned(), name: "anonymous".to_owned() };
        let callers = [token, user("https://a"), user("https://b"), Principal::Anonymous];
        let sessions: HashSet<SessionName> = callers.iter().map(session_of).collect();
        assert_eq!(sessions.len(), callers.len(), "{sessions:?}");
        assert!(session_of(&callers[1]).as_str().starts_with("esker-anonymous_https"), "the store's log shows the name");
    }
}
