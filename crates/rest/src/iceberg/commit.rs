//! Commits to one table, which also create a table after a staged creation.

use axum::extract::State;
use axum::response::Response;
use esker_catalog::Proposal;
use esker_format::{Operation, Snapshot, TableRequirement, TableUpdate};
use esker_types::or_default;
use serde::Deserialize;

use super::load::{self, LoadOptions};
use crate::extract::{InTable, InWarehouse, JsonBody, RequestActor};
use crate::{ApiError, App};

/// The requirements and updates of a commit.
///
/// Spec: REST `CommitTableRequest`.
#[derive(Debug, Deserialize)]
pub(crate) struct CommitTable {
    #[serde(default, deserialize_with = "or_default")]
    requirements: Vec<TableRequirement>,
    #[serde(default, deserialize_with = "or_default")]
    updates: Vec<TableUpdate>,
}

/// Commits updates to a table, or creates it if a requirement is `assert-create`.
///
/// Route: `POST /v1/{prefix}/namespaces/{namespace}/tables/{table}`. Spec: REST `updateTable`.
pub(crate) async fn commit(
    State(app): State<App>,
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InTable(name): InTable,
    shape: LoadOptions,
    JsonBody(request): JsonBody<CommitTable>,
) -> Result<Response, ApiError> {
    let catalog = warehouse.catalog();
    let authority = actor.authority.clone();
    let creates = request.requirements.iter().any(|r| matches!(r, TableRequirement::AssertCreate));
    let operation = operation(&request.updates);
    let proposal = Proposal { requirements: request.requirements, updates: request.updates, actor, ..Proposal::default() };
    let result = match creates {
        true => catalog.create_by_commit(name, proposal).await,
        false => catalog.commit(&name, proposal).await.map(|committed| {
            app.inner.metrics.committed(&committed);
            committed.table
        }),
    };
    if creates && result.is_ok() {
        app.forget_rules_of(&authority);
    }
    app.inner.metrics.commit(result.as_ref().err(), operation);
    load::committed(&app, catalog, &result?, &shape).await
}

/// Returns the operation of the snapshot that a commit adds: `append`, `overwrite`, `delete` or `replace`.
///
/// It is `other` if the snapshot has none of these, and `none` if the commit adds no snapshot.
pub(super) fn operation(updates: &[TableUpdate]) -> &'static str {
    const KNOWN: [Operation; 4] = [Operation::Append, Operation::Overwrite, Operation::Delete, Operation::Replace];
    let added = updates.iter().find_map(|update| match update {
        TableUpdate::AddSnapshot { snapshot } => Some(snapshot),
        _ => None,
    });
    let named = |snapshot: &Snapshot| KNOWN.into_iter().find(|operation| snapshot.is(*operation));
    added.map_or("none", |snapshot| named(snapshot).map_or("other", Operation::as_str))
}
