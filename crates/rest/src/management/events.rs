//! The events of the outbox, for readers that keep a cursor of their own.

use axum::Json;
use axum::extract::State;
use esker_access::{Need, Needs, Privilege, Required, ResourcePath, is_audit_table};
use esker_catalog::{Authority, Catalog, ERROR_IS_WITHHELD, remove_names};
use esker_state::{AUDIT_RECORDED, Event, TabularRow};
use esker_types::JobKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::access::RequestAccess;
use crate::extract::QueryParams;
use crate::openapi::ReadErrors;
use crate::{ApiError, App};

/// The kinds of events that count rows and name files, beside those of jobs.
const COUNTING: [&str; 3] = ["table.updated", "table.file-damaged", "table.file-mended"];

/// The text in the place of access policies, which say who may do what, and from where.
const POLICY_IS_WITHHELD: &str = "the text is shown to who has MANAGE_ACCESS on the server";

/// The maximum number of events in one answer.
const MAX_EVENTS: u32 = 1000;

/// The parameters of a request for events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventQuery {
    /// The cursor: the id of the last event that the reader has.
    #[serde(default)]
    after: i64,
    /// The warehouse whose events are returned; without it, those of all.
    warehouse: Option<String>,
    /// The maximum number of events in the answer, at most 1000; without it, 100.
    #[serde(default = "default_limit")]
    limit: u32,
}

const fn default_limit() -> u32 {
    100
}

/// A page of events, in the order of their ids.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct EventPage {
    /// The events, by id.
    events: Vec<Event>,
    /// The cursor for the next request. It stays the same if there is no new event.
    next: i64,
}

/// Returns the events after a cursor, the oldest first.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    operation_id = "listEvents",
    tag = "events",
    params(EventQuery),
    responses((status = 200, description = "A page of events.", body = EventPage), ReadErrors)
)]
pub(crate) async fn list(
    State(app): State<App>,
    caller: RequestAccess,
    QueryParams(query): QueryParams<EventQuery>,
) -> Result<Json<EventPage>, ApiError> {
    let monitor = Need::new(ResourcePath::SERVER, Privilege::Monitor);
    match &query.warehouse {
        None => caller.require(&monitor)?,
        Some(name) => {
            let read = Need::new(app.warehouse(name)?.catalog().warehouse_path(), Privilege::ReadMetadata);
            let reader = caller.authority();
            // The events are of every table in the warehouse.
            match reader.has(&read.on, read.required) && !reader.has_for_content(&read.on, read.required) {
                true => caller.require(&monitor)?,
                false => caller.require(Needs::AnyOf(&[read, monitor]))?,
            }
        }
    }
    let mut events =
        app.overview().events_after(query.after, query.warehouse.as_deref(), query.limit.clamp(1, MAX_EVENTS)).await?;
    let next = events.last().map_or(query.after, |e| e.id);
    let counts = |event: &Event| event.kind.starts_with("job.") || COUNTING.contains(&event.kind.as_str());
    if let Some(name) = &query.warehouse
        && !caller.has_on_server(Privilege::Monitor)
        && events.iter().any(counts)
    {
        let (catalog, reader) = (app.warehouse(name)?.catalog(), caller.quiet_authority());
        let (restricted, read) = split_tables(catalog, &reader).await?;
        let reads_all = reader.has_for_content(&catalog.warehouse_path(), Required::privilege(Privilege::ReadData));
        // An erasure names rows by their values, so its event has them for who may read the rows. Outcomes of others name files.
        let is_told = |event: &Event| reads_all || read.iter().any(|row| event.data["location"] == row.location.as_str());
        for event in &mut events {
            if restricted.iter().any(|row| is_of(event, row)) || (is_of_erasure(event) && !is_told(event)) {
                hide_rows(event);
            } else if event.kind.starts_with("job.") && !is_told(event) {
                hide_names(event);
            }
        }
    }
    // Who may watch the server may not read the audit trail for that.
    if !caller.has_on_server(Privilege::ReadAudit) {
        events.retain(|event| event.kind != AUDIT_RECORDED && !is_of_audit_table(event));
    }
    if !caller.has_on_server(Privilege::ManageAccess) {
        events.iter_mut().for_each(hide_policy);
    }
    Ok(Json(EventPage { events, next }))
}

/// Returns the tables of a warehouse on which row filters or column masks restrict a reader, and those that the reader may read
/// as a whole. Those that can be brought back count.
async fn split_tables(catalog: &Catalog, reader: &Authority) -> Result<(Vec<TabularRow>, Vec<TabularRow>), ApiError> {
    if !reader.is_limited() {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut tables = catalog.tables().await?;
    tables.extend(catalog.dropped_tables().await?.into_iter().map(|dropped| dropped.row));
    let (restricted, mut read): (Vec<_>, Vec<_>) = tables.into_iter().partition(|row| reader.restrictions(row.id).is_some());
    read.retain(|row| catalog.shows_all(row, reader));
    Ok((restricted, read))
}

/// Checks that an event is about an erasure.
fn is_of_erasure(event: &Event) -> bool {
    event.kind.starts_with("job.") && event.data["kind"] == JobKind::Erase.as_str()
}

/// Checks that an event is about the table of the audit trail: its files, its commits and the counts of its records.
fn is_of_audit_table(event: &Event) -> bool {
    let is_of_table = event.kind.starts_with("table.") || event.kind.starts_with("job.");
    is_of_table && event.subject.split_once('.').is_some_and(|(namespace, name)| is_audit_table(namespace, name))
}

/// Checks that an event is about a table. Some kinds have its name or location alone.
fn is_of(event: &Event, row: &TabularRow) -> bool {
    let says = |key: &str, value: &str| event.data[key] == value;
    says("table-id", &row.id.to_string())
        || says("table-uuid", &row.table_uuid.to_string())
        || says("location", &row.location)
        || event.subject == row.name.to_string()
}

/// Takes out of the event of a job what may name values and files.
fn hide_names(event: &mut Event) {
    if let Some(outcome) = event.data.get_mut("outcome") {
        remove_names(outcome);
    }
    if let Some(error) = event.data.get_mut("error").filter(|error| !error.is_null()) {
        *error = ERROR_IS_WITHHELD.into();
    }
}

/// Takes the text out of the event of an access policy that was set. Its name stays.
fn hide_policy(event: &mut Event) {
    if let Some(change) = event.data.get_mut("change").filter(|change| change["action"] == "set-policy") {
        change["text"] = POLICY_IS_WITHHELD.into();
    }
}

/// Takes out of an event what counts or names rows, values and files.
fn hide_rows(event: &mut Event) {
    let data = &mut event.data;
    for (key, nothing) in [("reason", json!("")), ("error", Value::Null), ("outcome", Value::Null), ("files", json!([]))] {
        if let Some(value) = data.get_mut(key) {
            *value = nothing;
        }
    }
    for snapshot in data.get_mut("snapshots").and_then(Value::as_array_mut).into_iter().flatten() {
        snapshot["summary"] = json!({});
    }
}
