//! Row filters and column masks of a table: listed, set and removed.
//!
//! Whoever manages the restrictions of a table may do all of this. What they do to readers is decided by the rules.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use esker_access::{
    AccessMode, Caller, ColumnMaskRow, FilterExpr, MaskAction, Member, Need, Privilege, Restrictions, RightsError, RowFilterRow,
    RuleChange,
};
use esker_catalog::{LoadedTable, NamedSecurable, check_mask, filter_of_json, restrictable_field};
use esker_format::Schema;
use esker_query::parse_row_filter;
use esker_state::{StoredColumnMask, StoredRowFilter};
use esker_types::{ErrorCode, Millis, now_ms, quote_name};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{find_securable, load_named_table};
use crate::extract::{InFilter, JsonBody, QueryParams, RequestCaller};
use crate::openapi::{ChangeErrors, ReadErrors};
use crate::{ApiError, App};

/// A row filter of a table.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct RowFilterView {
    /// The id of the filter.
    id: String,
    /// The member that sees the rows for which the filter is true.
    to: Member,
    /// The filter, as an expression of Iceberg with field ids.
    #[schema(value_type = Value)]
    filter: FilterExpr,
    /// The filter in SQL's form, with the present names of the fields.
    text: String,
    /// True if filters and masks restrict anybody: the mode of access control is `on`.
    in_force: bool,
    /// The principal that added the filter.
    created_by: String,
    /// The time at which the filter was added, in milliseconds since the Unix epoch.
    created_ms: Millis,
}

/// A column mask of a table.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ColumnMaskView {
    /// The present name of the field; null if the current schema does not have it.
    field: Option<String>,
    /// The id of the field.
    field_id: i32,
    /// The action on the values.
    action: MaskAction,
    /// The members that see the values as they are.
    except: Vec<Member>,
    /// True if filters and masks restrict anybody: the mode of access control is `on`.
    in_force: bool,
    /// The principal that set the mask.
    created_by: String,
    /// The time at which the mask was set, in milliseconds since the Unix epoch.
    created_ms: Millis,
}

/// The row filters and column masks of a table.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct RestrictionsView {
    /// The name of the table, in the form of requests.
    on: String,
    /// True if filters and masks restrict anybody: the mode of access control is `on`.
    in_force: bool,
    /// The row filters. With at least one, a reader sees only the rows of those that name it.
    filters: Vec<RowFilterView>,
    /// The column masks, by field id.
    masks: Vec<ColumnMaskView>,
}

/// The restrictions of the caller on a table.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct OwnRestrictions {
    /// The condition on the rows that the caller sees, in SQL's form; null if it sees all rows.
    filter: Option<String>,
    /// The masked fields with their actions.
    masks: Vec<OwnMask>,
}

/// A masked field of the caller.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct OwnMask {
    /// The name of the field.
    field: String,
    /// The action on the values.
    action: MaskAction,
}

/// The table whose restrictions a request is about.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct OnTable {
    /// The table: `table W.N.T`.
    on: String,
}

/// The request to add a row filter.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RowFilterRequest {
    /// The table: `table W.N.T`.
    on: String,
    /// The member that sees the rows for which the filter is true.
    to: Member,
    /// The filter: a condition of SQL as a text, such as `region = 'EU' AND amount < 10`, or an expression of Iceberg.
    #[schema(value_type = Value)]
    filter: Value,
}

/// The request to mask a field.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ColumnMaskRequest {
    /// The table: `table W.N.T`.
    on: String,
    /// The field: its name, with dots for fields of structs, or its id.
    field: String,
    /// The action on the values.
    action: MaskAction,
    /// The members that see the values as they are.
    #[serde(default)]
    except: Vec<Member>,
}

/// The mask that a request removes.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct MaskQuery {
    /// The table: `table W.N.T`.
    on: String,
    /// The field: its name, with dots for fields of structs, or its id.
    field: String,
}

/// Returns the name of a field in a text of SQL; its id in a comment of SQL if the schema does not have it.
fn sql_name(schema: &Schema, id: i32) -> String {
    match schema.name_by_field_id(id) {
        Some(name) if name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.')) => name.to_owned(),
        Some(name) => quote_name(name, '"'),
        None => format!("/* dropped */ field_{id}"),
    }
}

impl RowFilterView {
    fn of(stored: StoredRowFilter, schema: &Schema, in_force: bool) -> Self {
        let StoredRowFilter { row, created_by, created_ms } = stored;
        let text = row.filter.to_sql(&|id| sql_name(schema, id));
        Self { id: row.id, to: row.to, filter: row.filter, text, in_force, created_by, created_ms }
    }
}

impl ColumnMaskView {
    fn of(stored: StoredColumnMask, schema: &Schema, in_force: bool) -> Self {
        let StoredColumnMask { row: ColumnMaskRow { field_id, action, except, .. }, created_by, created_ms } = stored;
        let field = schema.name_by_field_id(field_id).map(str::to_owned);
        Self { field, field_id, action, except, in_force, created_by, created_ms }
    }
}

impl OwnRestrictions {
    /// Describes restrictions by the names of a schema. Masks of fields that it does not have do nothing.
    pub(super) fn of(restrictions: &Restrictions, schema: &Schema) -> Self {
        let named = |(id, action): &(i32, MaskAction)| {
            let field = schema.name_by_field_id(*id)?.to_owned();
            Some(OwnMask { field, action: *action })
        };
        let filter = restrictions.filter.as_ref().map(|filter| filter.to_sql(&|id| sql_name(schema, id)));
        Self { filter, masks: restrictions.masks.iter().filter_map(named).collect() }
    }
}

/// Checks that filters and masks restrict anybody under the rules of a caller.
fn in_force(caller: &Caller) -> bool {
    caller.subject().rules().mode() == AccessMode::On
}

/// Loads the table that a request names, if the caller manages its restrictions. Returns its names too.
async fn managed_table(app: &App, caller: &Caller, on: &str) -> Result<(LoadedTable, NamedSecurable), ApiError> {
    let found = find_securable(app, caller, on).await?;
    caller.require(&Need::new(found.path(), Privilege::ManageRestrictions))?;
    let table = load_named_table(app, &found).await?;
    let why = "row filters and column masks are on tables; write `table W.N.T`";
    Ok((table.ok_or_else(|| ApiError::new(ErrorCode::BadRequest, why))?, found))
}

/// Stores a change to the restrictions of a table.
async fn change(app: &App, caller: &Caller, table: &NamedSecurable, change: RuleChange) -> Result<(), ApiError> {
    let need = Need::new(table.path(), Privilege::ManageRestrictions);
    app.access().change_as(caller, &[need], &[change]).await?;
    Ok(())
}

/// Lists the row filters and column masks of a table.
#[utoipa::path(
    get,
    path = "/api/v1/access/restrictions",
    operation_id = "listRestrictions",
    tag = "access",
    params(OnTable),
    responses((status = 200, description = "The filters and masks.", body = RestrictionsView), ReadErrors)
)]
pub(crate) async fn list(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    QueryParams(OnTable { on }): QueryParams<OnTable>,
) -> Result<Json<RestrictionsView>, ApiError> {
    let (table, found) = managed_table(&app, &caller, &on).await?;
    let (id, schema, in_force) = (table.row.id, table.metadata.current_schema(), in_force(&caller));
    let filters = app.access().row_filters().await?.into_iter().filter(|stored| stored.row.table == id);
    let masks = app.access().column_masks().await?.into_iter().filter(|stored| stored.row.table == id);
    Ok(Json(RestrictionsView {
        on: found.text(),
        in_force,
        filters: filters.map(|stored| RowFilterView::of(stored, schema, in_force)).collect(),
        masks: masks.map(|stored| ColumnMaskView::of(stored, schema, in_force)).collect(),
    }))
}

/// Adds a row filter to a table.
///
/// A table with row filters shows a reader only the rows for which a filter is true that names the reader. The first filter
/// of a table hides its rows from everybody else. Fields are found by their present names, and kept by their ids.
#[utoipa::path(
    post,
    path = "/api/v1/access/filters",
    operation_id = "addRowFilter",
    tag = "access",
    request_body = RowFilterRequest,
    responses((status = 201, description = "The filter.", body = RowFilterView), ChangeErrors)
)]
pub(crate) async fn add_filter(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    JsonBody(RowFilterRequest { on, to, filter }): JsonBody<RowFilterRequest>,
) -> Result<Response, ApiError> {
    let (table, found) = managed_table(&app, &caller, &on).await?;
    let schema = table.metadata.current_schema();
    let filter = match &filter {
        Value::String(text) => parse_row_filter(text, schema)?,
        expression => filter_of_json(expression, schema)?,
    };
    let row = RowFilterRow { id: Uuid::now_v7().to_string(), table: table.row.id, to, filter };
    change(&app, &caller, &found, RuleChange::SetRowFilter { filter: row.clone() }).await?;
    let stored = StoredRowFilter { row, created_by: caller.subject().identity().to_string(), created_ms: now_ms() };
    Ok((StatusCode::CREATED, Json(RowFilterView::of(stored, schema, in_force(&caller)))).into_response())
}

/// Removes a row filter from a table. A table without row filters shows all rows.
#[utoipa::path(
    delete,
    path = "/api/v1/access/filters/{filter-id}",
    operation_id = "removeRowFilter",
    tag = "access",
    params(InFilter, OnTable),
    responses((status = 204, description = "The filter is removed."), ChangeErrors)
)]
pub(crate) async fn remove_filter(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    InFilter(id): InFilter,
    QueryParams(OnTable { on }): QueryParams<OnTable>,
) -> Result<StatusCode, ApiError> {
    let (table, found) = managed_table(&app, &caller, &on).await?;
    change(&app, &caller, &found, RuleChange::RemoveRowFilter { table: table.row.id, id }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Masks a field of a table, or changes its mask.
///
/// Everybody sees the masked values but the members that are named. The mask stays on the field when the field is renamed.
#[utoipa::path(
    put,
    path = "/api/v1/access/masks",
    operation_id = "setColumnMask",
    tag = "access",
    request_body = ColumnMaskRequest,
    responses((status = 200, description = "The mask.", body = ColumnMaskView), ChangeErrors)
)]
pub(crate) async fn set_mask(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    JsonBody(ColumnMaskRequest { on, field, action, except }): JsonBody<ColumnMaskRequest>,
) -> Result<Json<ColumnMaskView>, ApiError> {
    let (table, found) = managed_table(&app, &caller, &on).await?;
    let (id, schema) = (table.row.id, table.metadata.current_schema());
    let missing = || RightsError::BadMask {
        why: format!("the table has no field {field}; name a column, or a field of a struct with dots"),
    };
    let field_id = restrictable_field(schema, &field).ok_or_else(missing)?.id;
    let masks = app.access().column_masks().await?;
    let masked = masks.iter().filter(|stored| stored.row.table == id).map(|stored| stored.row.field_id);
    check_mask(schema, field_id, action, masked)?;
    let row = ColumnMaskRow { table: id, field_id, action, except };
    change(&app, &caller, &found, RuleChange::SetColumnMask { mask: row.clone() }).await?;
    let stored = StoredColumnMask { row, created_by: caller.subject().identity().to_string(), created_ms: now_ms() };
    Ok(Json(ColumnMaskView::of(stored, schema, in_force(&caller))))
}

/// Removes the mask of a field. A mask on a field that was dropped is removed by the field's id.
#[utoipa::path(
    delete,
    path = "/api/v1/access/masks",
    operation_id = "removeColumnMask",
    tag = "access",
    params(MaskQuery),
    responses((status = 204, description = "The field has no mask."), ChangeErrors)
)]
pub(crate) async fn remove_mask(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    QueryParams(MaskQuery { on, field }): QueryParams<MaskQuery>,
) -> Result<StatusCode, ApiError> {
    let (table, found) = managed_table(&app, &caller, &on).await?;
    let named = restrictable_field(table.metadata.current_schema(), &field).map(|field| field.id);
    let missing = || RightsError::NoSuchRestriction { what: format!("column mask on the field {field}") };
    let field_id = named.or_else(|| field.parse().ok()).ok_or_else(missing)?;
    change(&app, &caller, &found, RuleChange::RemoveColumnMask { table: table.row.id, field_id }).await?;
    Ok(StatusCode::NO_CONTENT)
}
