use axum::Json;
use axum::extract::State;
use esker_state::Event;
use serde::{Deserialize, Serialize};

use crate::extract::Query;
use crate::{ApiError, App};

/// Events in one answer, at most.
const MOST: u32 = 1000;

#[derive(Debug, Deserialize)]
pub(crate) struct EventQuery {
    /// The cursor: the id of the last event that the reader has.
    #[serde(default)]
    after: i64,
    /// Of this warehouse only.
    warehouse: Option<String>,
    #[serde(default = "default_limit")]
    limit: u32,
}

const fn default_limit() -> u32 {
    100
}

/// A stretch of the out-box.
#[derive(Debug, Serialize)]
pub(crate) struct EventPage {
    events: Vec<Event>,
    /// What to ask `after` next. Stays where it is when there is nothing new.
    next: i64,
}

/// `GET /api/v1/events`: the out-box from a cursor on, the oldest first, for readers that keep their own place.
pub(crate) async fn list(State(app): State<App>, Query(query): Query<EventQuery>) -> Result<Json<EventPage>, ApiError> {
    if let Some(name) = &query.warehouse {
        app.warehouse(name)?;
    }
    let events = app.state().events_after(query.after, query.warehouse.as_deref(), query.limit.clamp(1, MOST)).await?;
    let next = events.last().map_or(query.after, |e| e.id);
    Ok(Json(EventPage { events, next }))
}
