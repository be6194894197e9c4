//! Commits to several tables at once, of which all or none are applied.

use axum::extract::State;
use axum::http::StatusCode;
use esker_catalog::{Proposal, TableChange};
use esker_format::{TableRequirement, TableUpdate};
use esker_types::or_default;
use serde::Deserialize;

use super::tables::Identifier;
use crate::extract::{InWarehouse, JsonBody, RequestActor};
use crate::{ApiError, App};

#[derive(Debug, Deserialize)]
struct TableChangeRequest {
    identifier: Identifier,
    #[serde(default, deserialize_with = "or_default")]
    requirements: Vec<TableRequirement>,
    #[serde(default, deserialize_with = "or_default")]
    updates: Vec<TableUpdate>,
}

/// The request for a commit to several tables.
///
/// Spec: REST `CommitTransactionRequest`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct CommitTransaction {
    table_changes: Vec<TableChangeRequest>,
}

/// Commits changes to several tables in one transaction.
///
/// Route: `POST /v1/{prefix}/transactions/commit`. Spec: REST `commitTransaction`.
pub(crate) async fn commit(
    State(app): State<App>,
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    JsonBody(request): JsonBody<CommitTransaction>,
) -> Result<StatusCode, ApiError> {
    let mut changes = Vec::with_capacity(request.table_changes.len());
    for TableChangeRequest { identifier, requirements, updates } in request.table_changes {
        let proposal = Proposal { requirements, updates, actor: actor.clone(), ..Proposal::default() };
        changes.push(TableChange { name: identifier.name()?, proposal });
    }
    let (authority, creates) = (actor.authority.clone(), changes.iter().any(TableChange::creates));
    let result = warehouse.catalog().commit_transaction(changes, actor).await;
    if creates && result.is_ok() {
        app.forget_rules_of(&authority);
    }
    app.inner.metrics.commit(result.as_ref().err(), "transaction");
    result?;
    Ok(StatusCode::NO_CONTENT)
}
