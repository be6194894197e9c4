use axum::extract::State;
use axum::response::Response;
use esker_catalog::{Change, Proposal};
use iceberg::spec::Operation;
use iceberg::{TableRequirement, TableUpdate};
use serde::Deserialize;

use super::load::{self, Shape};
use crate::extract::{Body, By, In, InTable};
use crate::{ApiError, App};

#[derive(Debug, Deserialize)]
pub(crate) struct CommitTable {
    #[serde(default)]
    requirements: Vec<TableRequirement>,
    updates: Vec<TableUpdate>,
}

/// `POST /v1/{prefix}/namespaces/{namespace}/tables/{table}`
pub(crate) async fn commit(
    State(app): State<App>,
    warehouse: In,
    By(cause): By,
    InTable(name): InTable,
    shape: Shape,
    Body(request): Body<CommitTable>,
) -> Result<Response, ApiError> {
    let catalog = warehouse.catalog();
    let creates = request.requirements.iter().any(|r| matches!(r, TableRequirement::NotExist));
    let operation = operation(&request.updates);
    let proposal = Proposal { requirements: request.requirements, updates: request.updates, cause, ..Proposal::default() };
    let result = match creates {
        true => catalog.create_by_commit(name, proposal).await,
        false => catalog.commit(&name, Change::Fixed(Box::new(proposal))).await.map(|committed| {
            app.inner.metrics.batch(committed.batch);
            committed.table
        }),
    };
    app.inner.metrics.commit(result.as_ref().err(), operation);
    load::committed(&app, catalog, &result?, &shape).await
}

/// The operation of the snapshot that is added: `append`, `overwrite`, `delete`, `replace`; `none` without a snapshot.
pub(super) fn operation(updates: &[TableUpdate]) -> &'static str {
    let added = updates.iter().find_map(|update| match update {
        TableUpdate::AddSnapshot { snapshot } => Some(&snapshot.summary().operation),
        _ => None,
    });
    match added {
        None => "none",
        Some(Operation::Append) => "append",
        Some(Operation::Overwrite) => "overwrite",
        Some(Operation::Delete) => "delete",
        Some(Operation::Replace) => "replace",
    }
}
