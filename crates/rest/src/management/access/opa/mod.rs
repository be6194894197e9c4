//! Decisions for Trino: its access control plugin for Open Policy Agent asks here, so that one set of grants holds for both.
//!
//! The caller is Trino, which needs `DECIDE` on the server. The user that it asks about is a principal of Esker: a client, or a
//! user of the issuer in `auth.opa.issuer`. Row filters and column masks are answered as expressions of Trino's SQL.
//! `docs/security/engines.md` has the configuration of Trino.
//!
//! Start reading at [`allow`], then at `operations.rs` for what an operation needs, and at `sql.rs` for row filters.

mod decide;
mod mask;
mod operations;
mod query;
mod sql;

use std::collections::{BTreeMap, HashSet};

use axum::Json;
use axum::extract::State;
use esker_access::{Caller, Identity, MaskAction, RequestFacts, Restrictions};
use esker_auth::KeyPurpose;
use esker_catalog::{Authority, LoadedTable};
use esker_format::{NestedFieldRef, Schema};
use esker_state::TabularKind;
use esker_types::hex;
use sha2::{Digest, Sha256};

use self::decide::{Asker, Home};
use self::mask::{Masks, column_mask};
use self::operations::{OpaRule, operation};
use self::query::{
    OpaAction, OpaColumn, OpaColumnMask, OpaColumnMasks, OpaContext, OpaDecision, OpaExpression, OpaIndexedMask, OpaIndices,
    OpaQuery, OpaResource, OpaRowFilters,
};
use crate::extract::{JsonBody, RequestCaller};
use crate::openapi::ReadErrors;
use crate::{ApiError, App};

/// The settings of the decisions that Trino asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpaOptions {
    /// The issuer of Trino's users. Without it, a user is the client of the same name.
    pub issuer: Option<String>,
    /// Takes the groups that Trino sends for claims of the issuer.
    pub groups: bool,
    /// The warehouses of catalogs, by the names of the catalogs. Other catalogs are the warehouse of their name.
    pub catalogs: BTreeMap<String, String>,
    /// Allows everything in catalogs that are no warehouse.
    pub allow_other_catalogs: bool,
}

/// Decides if a user of Trino may do an operation.
///
/// The operations are those of Trino's access control plugin for Open Policy Agent (`opa.policy.uri`). Fields that are not needed
/// are ignored, because each version of Trino may send more.
#[utoipa::path(
    post,
    path = "/api/v1/access/opa/allow",
    operation_id = "opaAllow",
    tag = "access",
    request_body = OpaQuery,
    responses((status = 200, description = "The decision.", body = OpaDecision), ReadErrors)
)]
pub(crate) async fn allow(
    State(app): State<App>,
    RequestCaller(by): RequestCaller,
    JsonBody(OpaQuery { input }): JsonBody<OpaQuery>,
) -> Result<Json<OpaDecision>, ApiError> {
    let Some((asker, rule)) = asker(&app, &by, &input.context, &input.action).await? else {
        return Ok(Json(OpaDecision { result: false }));
    };
    let none = OpaResource::default();
    let thing = input.action.resource.as_ref().unwrap_or(&none);
    let result = asker.may(rule, thing, input.action.target_resource.as_ref()).await?;
    Ok(Json(OpaDecision { result }))
}

/// Decides which of several things a user of Trino sees in a list.
///
/// Trino asks here if `opa.policy.batched-uri` is set. For columns the things are those of the only table that is named.
#[utoipa::path(
    post,
    path = "/api/v1/access/opa/batch",
    operation_id = "opaBatch",
    tag = "access",
    request_body = OpaQuery,
    responses((status = 200, description = "The indices of the things that the user sees.", body = OpaIndices), ReadErrors)
)]
pub(crate) async fn batch(
    State(app): State<App>,
    RequestCaller(by): RequestCaller,
    JsonBody(OpaQuery { input }): JsonBody<OpaQuery>,
) -> Result<Json<OpaIndices>, ApiError> {
    let Some((asker, rule)) = asker(&app, &by, &input.context, &input.action).await? else {
        return Ok(Json(OpaIndices { result: Vec::new() }));
    };
    let things = &input.action.filter_resources;
    if let (OpaRule::ListColumns, [only]) = (rule, things.as_slice()) {
        let columns = only.table.as_ref().map_or(0, |table| table.columns.len());
        let seen = if asker.may(rule, only, None).await? { columns } else { 0 };
        return Ok(Json(OpaIndices { result: (0..seen).collect() }));
    }
    let mut result = Vec::new();
    for (index, thing) in things.iter().enumerate() {
        if asker.may(rule, thing, None).await? {
            result.push(index);
        }
    }
    Ok(Json(OpaIndices { result }))
}

/// Returns the row filters of a user of Trino on a table.
///
/// Trino asks here if `opa.policy.row-filters-uri` is set, which it must be where tables have row filters.
#[utoipa::path(
    post,
    path = "/api/v1/access/opa/row-filters",
    operation_id = "opaRowFilters",
    tag = "access",
    request_body = OpaQuery,
    responses((status = 200, description = "The filters, in Trino's SQL.", body = OpaRowFilters), ReadErrors)
)]
pub(crate) async fn row_filters(
    State(app): State<App>,
    RequestCaller(by): RequestCaller,
    JsonBody(OpaQuery { input }): JsonBody<OpaQuery>,
) -> Result<Json<OpaRowFilters>, ApiError> {
    let asker = asker_of(&app, &by, &input.context, "GetRowFilters").await?;
    let table = input.action.resource.as_ref().and_then(|thing| thing.table.as_ref());
    let filter = match table {
        Some(table) => match asker.restricted(&table.catalog_name, &table.schema_name, &table.table_name).await? {
            Restricted::Not => None,
            Restricted::Hidden => Some("false".to_owned()),
            Restricted::Table(table, restrictions) => {
                restrictions.filter.map(|filter| sql::row_filter(&filter, table.metadata.current_schema()))
            }
        },
        None => Some("false".to_owned()),
    };
    Ok(Json(OpaRowFilters { result: filter.map(|expression| OpaExpression { expression }).into_iter().collect() }))
}

/// Returns the mask of a user of Trino on a column.
///
/// Trino asks here if `opa.policy.column-masking-uri` is set.
#[utoipa::path(
    post,
    path = "/api/v1/access/opa/column-mask",
    operation_id = "opaColumnMask",
    tag = "access",
    request_body = OpaQuery,
    responses((status = 200, description = "The mask, in Trino's SQL.", body = OpaColumnMask), ReadErrors)
)]
pub(crate) async fn mask(
    State(app): State<App>,
    RequestCaller(by): RequestCaller,
    JsonBody(OpaQuery { input }): JsonBody<OpaQuery>,
) -> Result<Json<OpaColumnMask>, ApiError> {
    let asker = asker_of(&app, &by, &input.context, "GetColumnMask").await?;
    let column = input.action.resource.as_ref().and_then(|thing| thing.column.as_ref());
    let found = asker.masks(&[column], input.context.query_id.as_deref()).await?.pop();
    Ok(Json(OpaColumnMask { result: found.map(|mask| mask.view_expression) }))
}

/// Returns the masks of a user of Trino on several columns.
///
/// Trino asks here if `opa.policy.batch-column-masking-uri` is set.
#[utoipa::path(
    post,
    path = "/api/v1/access/opa/batch-column-masks",
    operation_id = "opaBatchColumnMasks",
    tag = "access",
    request_body = OpaQuery,
    responses((status = 200, description = "The masks, in Trino's SQL.", body = OpaColumnMasks), ReadErrors)
)]
pub(crate) async fn batch_masks(
    State(app): State<App>,
    RequestCaller(by): RequestCaller,
    JsonBody(OpaQuery { input }): JsonBody<OpaQuery>,
) -> Result<Json<OpaColumnMasks>, ApiError> {
    let asker = asker_of(&app, &by, &input.context, "GetColumnMask").await?;
    let columns: Vec<Option<&OpaColumn>> = input.action.filter_resources.iter().map(|thing| thing.column.as_ref()).collect();
    let result = asker.masks(&columns, input.context.query_id.as_deref()).await?;
    Ok(Json(OpaColumnMasks { result }))
}

/// Returns the user that a question is about and the rule of its operation; `None` if the operation is not known.
async fn asker<'a>(
    app: &'a App,
    by: &Caller,
    context: &'a OpaContext,
    action: &OpaAction,
) -> Result<Option<(Asker<'a>, OpaRule)>, ApiError> {
    let Some((name, rule)) = operation(&action.operation) else {
        let (operation, user) = (&action.operation, &context.identity.user);
        tracing::warn!(operation, user, "an operation of Trino is not known, and so refused");
        return Ok(None);
    };
    Ok(Some((asker_of(app, by, context, name).await?, rule)))
}

/// Returns the user that a question is about, as the rules know them.
async fn asker_of<'a>(app: &'a App, by: &Caller, context: &'a OpaContext, operation: &str) -> Result<Asker<'a>, ApiError> {
    let options = &app.inner.options.opa;
    let user = context.identity.user.as_str();
    let identity = match &options.issuer {
        None => Identity::client(user),
        Some(issuer) => {
            let groups = if options.groups { context.identity.groups.as_slice() } else { &[] };
            let claims = groups.iter().map(|group| group.as_str().into()).collect();
            Identity::User { issuer: issuer.as_str().into(), name: user.into(), claims }
        }
    };
    let engine = by.subject().identity().to_string().into();
    let facts = RequestFacts { operation: format!("trino {operation}").into(), engine: Some(engine), ..by.facts().clone() };
    let caller = app.access().caller(identity, facts).await?;
    Ok(Asker { app, options, authority: Authority::Caller(caller), user })
}

/// What is known of a table before its row filters and masks are answered.
enum Restricted {
    /// Nothing restricts the user on it, or it is none of Esker's.
    Not,
    /// It can't be found, or shows what the restrictions hide.
    Hidden,
    /// The user is restricted on this table.
    Table(Box<LoadedTable>, Restrictions),
}

impl Asker<'_> {
    /// Finds out if row filters or masks apply to a table.
    ///
    /// A table that can't be found is hidden: it may have been renamed while Trino planned its query.
    async fn restricted(&self, catalog: &str, schema: &str, table: &str) -> Result<Restricted, ApiError> {
        let Home::Warehouse(catalog) = self.home(catalog) else { return Ok(Restricted::Not) };
        if self.otherwise() || decide::is_trinos_own(schema) {
            return Ok(Restricted::Not);
        }
        let Some(named) = self.tabular(catalog, schema, table).await? else { return Ok(Restricted::Hidden) };
        let restrictions = match self.authority.restrictions(named.row.id) {
            Some(restrictions) if named.row.kind != TabularKind::View => restrictions,
            _ => return Ok(Restricted::Not),
        };
        match (named.metadata.is_some(), named.reveals(&[])) {
            (true, true) => Ok(Restricted::Hidden),
            (true, false) => Ok(Restricted::Not),
            (false, _) => Ok(Restricted::Table(Box::new(catalog.load_row(named.row).await?), restrictions)),
        }
    }

    /// Returns the masks of columns, each with the index of its column. A question without a column gets none.
    async fn masks(&self, columns: &[Option<&OpaColumn>], query_id: Option<&str>) -> Result<Vec<OpaIndexedMask>, ApiError> {
        let (mut found, mut salt) = (Vec::new(), None);
        let mut last: Option<(&OpaColumn, Restricted)> = None;
        for (index, column) in columns.iter().enumerate() {
            let Some(column) = *column else { continue };
            let is_same = last.as_ref().is_some_and(|(other, _)| is_same_table(other, column));
            if !is_same {
                let restricted = self.restricted(&column.catalog_name, &column.schema_name, &column.table_name).await?;
                last = Some((column, restricted));
            }
            let Some((_, restricted)) = &last else { continue };
            let expression = match restricted {
                Restricted::Not => None,
                Restricted::Hidden => Some("NULL".to_owned()),
                Restricted::Table(table, restrictions) => {
                    let is_salted = restrictions.masks.iter().any(|(_, action)| *action == MaskAction::Sha256QueryLocal);
                    if is_salted
                        && salt.is_none()
                        && let Some(query_id) = query_id
                    {
                        salt = Some(salt_of(self.app, query_id).await?);
                    }
                    mask_of(table, &column.column_name, &restrictions.masks, salt.as_deref())
                }
            };
            found.extend(expression.map(|expression| OpaIndexedMask { index, view_expression: OpaExpression { expression } }));
        }
        Ok(found)
    }
}

/// Returns the salt of a query, in hexadecimal. It is the same for all columns and tables of the query, on every server.
async fn salt_of(app: &App, query_id: &str) -> Result<String, ApiError> {
    let tag = app.inner.options.keys.sign(KeyPurpose::Secrets, &[b"salt of a query", query_id.as_bytes()]).await?;
    Ok(hex(&Sha256::digest(tag)[..16]))
}

/// Checks that two columns are of the same table.
fn is_same_table(one: &OpaColumn, other: &OpaColumn) -> bool {
    one.catalog_name == other.catalog_name && one.schema_name == other.schema_name && one.table_name == other.table_name
}

/// Returns the expression that stands for a column of a table; `None` if nothing in it is masked.
///
/// Trino writes names in lower case, and asks by the name alone, also for the columns of an older snapshot. So a column is NULL
/// if a snapshot's schema, or another case, gives the name to a masked field that the expression is not for. A column that the
/// table does not have now is NULL too, if any of its columns is masked: it may have been renamed while Trino planned its query.
/// Hidden columns have no mask.
fn mask_of(table: &LoadedTable, column: &str, masks: &[(i32, MaskAction)], salt: Option<&str>) -> Option<String> {
    let (metadata, rules, name) = (&table.metadata, Masks { masks, salt }, column.to_lowercase());
    let is_named = |field: &&NestedFieldRef| field.name.to_lowercase() == name;
    let schema = metadata.current_schema();
    let columns = schema.as_struct().fields();
    let named = columns.iter().find(|field| field.name == column).or_else(|| columns.iter().find(is_named));
    let expression = named.and_then(|field| column_mask(field, &rules));
    // The expression of a struct names the fields in it.
    let has_other_names = |older: &Schema| {
        masks.iter().any(|(id, _)| {
            let now = older.name_by_field_id(*id).and_then(|name| schema.field_by_name_case_insensitive(name));
            now.is_some_and(|field| field.id != *id)
        })
    };
    let is_masked_otherwise = |older: &Schema| {
        let mut of_name = older.as_struct().fields().iter().filter(is_named);
        of_name.any(|field| {
            let is_other = expression.is_none() || named.is_none_or(|now| now.id != field.id) || has_other_names(older);
            is_other && column_mask(field, &rules).is_some()
        })
    };
    let retained: HashSet<i32> = metadata.snapshots.iter().filter_map(|snapshot| snapshot.schema_id).collect();
    let mut schemas = metadata.schemas.iter().filter(|schema| retained.contains(&schema.schema_id())).chain([schema]);
    if schemas.any(|schema| is_masked_otherwise(schema)) {
        return Some("NULL".to_owned());
    }
    match named {
        Some(_) => expression,
        None if masks.is_empty() || column.starts_with('$') => None,
        None => Some("NULL".to_owned()),
    }
}
