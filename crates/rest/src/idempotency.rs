//! Idempotent requests: a request that is repeated with the same `Idempotency-Key` gets the first answer again.
//!
//! The outcome of a change is stored as a receipt, in the database transaction that makes the change. So a client that lost its
//! connection can repeat the request: the change is not made twice, and its own success is no conflict. Final refusals are stored
//! too, but never a 5xx, a 401 or a 429. A key is its principal's: another principal's request with it is another request.
//!
//! Spec: REST, header `Idempotency-Key`. Start reading at [`replay_or_run`].

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use esker_catalog::{Catalog, RequestOutcome};
use esker_state::ReceiptKey;
use esker_types::{ErrorCode, NamespaceName, Principal, hex};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::access::{authority_of_answer, mark_repeated};
use crate::extract::{InWarehouse, namespace_in};
use crate::iceberg::load::{self, LoadOptions};
use crate::iceberg::{status, views};
use crate::{ApiError, App};

/// The number of locks from which on those of ended requests are removed.
const MAX_IDLE_LOCKS: usize = 256;

/// The statuses of refusals that are stored, because a repeated request would get them again.
///
/// A 403 is not among them: rights can be given, and a database that lags behind storage can be recovered.
const FINAL_STATUSES: [u16; 5] = [400, 404, 406, 409, 422];

/// The lock of an idempotency key. The request that is carried out holds it; others with the key wait.
type KeyLock = Arc<Mutex<()>>;

/// The locks of the idempotency keys in use, by principal, operation and key. Requests with the same key wait for each other.
#[derive(Debug, Default)]
pub(crate) struct KeyLocks(std::sync::Mutex<HashMap<(String, String, Uuid), KeyLock>>);

impl KeyLocks {
    /// Returns the lock of a key, and removes locks that nobody holds if there are many.
    fn lock(&self, key: &ReceiptKey) -> KeyLock {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.len() >= MAX_IDLE_LOCKS {
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        locks.entry((key.principal.clone(), key.operation.clone(), key.key)).or_default().clone()
    }
}

/// The ends of the routes that change nothing: planning a scan, signing, and reporting metrics.
const READS: [&str; 5] = ["/plan", "/plan/{plan-id}", "/tasks", "/metrics", "/sign"];

/// Checks whether a request changes anything.
pub(crate) fn is_mutation(request: &Request) -> bool {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    route.is_some_and(|route| changes(request.method(), route))
}

/// Checks whether an operation changes anything. The pattern of its route tells: a table may be called `metrics`, or its namespace
/// `plan`.
fn changes(method: &Method, route: &str) -> bool {
    matches!(*method, Method::POST | Method::DELETE) && !READS.iter().any(|end| route.ends_with(end))
}

/// Answers a repeated request from its receipt, and runs any other request.
pub(crate) async fn replay_or_run(State(app): State<App>, request: Request, next: Next) -> Response {
    let key = request.headers().get("idempotency-key").cloned();
    let Some(key) = key.filter(|_| is_mutation(&request)) else { return next.run(request).await };
    let parsed = key.to_str().ok().and_then(|k| Uuid::parse_str(k.trim()).ok());
    let Some(key) = parsed else {
        let what = format!("idempotency-key {key:?} is not a UUID");
        return ApiError::new(ErrorCode::BadRequest, what).into_response();
    };
    // The handler refuses a path without a warehouse.
    let Ok(warehouse) = InWarehouse::of(request.uri().path(), &app) else { return next.run(request).await };
    match handle(&app, warehouse.catalog(), key, request, next).await {
        Ok(response) => response,
        Err(e) => e.into_response(),
    }
}

/// Answers a request with an idempotency key: from its receipt, or by running it.
async fn handle(app: &App, catalog: &Catalog, key: Uuid, request: Request, next: Next) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let too_large = |_| ApiError::new(ErrorCode::TooLarge, "the request body is over server.max_body_bytes");
    let body = to_bytes(body, app.inner.options.max_body_bytes).await.map_err(too_large)?;
    let principal = parts.extensions.get::<Principal>();
    let principal = principal.ok_or_else(|| ApiError::new(ErrorCode::Internal, "the request has no principal"))?.identity();
    let receipt = ReceiptKey {
        warehouse: catalog.warehouse(),
        principal,
        operation: format!("{} {}", parts.method, parts.uri.path_and_query().map_or("", |p| p.as_str())),
        key,
        body_sha256: hex(&Sha256::digest(&body)),
    };
    let lock = app.inner.idempotency.lock(&receipt);
    let wait = catalog.options().commit_wait;
    let busy = |_| {
        ApiError::new(
            ErrorCode::TooBusy,
            format!("a request with the idempotency-key {key} is still being carried out; try again"),
        )
    };
    let _alone = tokio::time::timeout(wait, lock.lock()).await.map_err(busy)?;
    if let Some(found) = catalog.receipt(&receipt).await? {
        if found.body_sha256 != receipt.body_sha256 {
            let what = format!("idempotency-key {key} was used for another request body; use a new key");
            return Err(ApiError::new(ErrorCode::BadRequest, what));
        }
        let outcome: RequestOutcome = serde_json::from_str(&found.outcome)
            .map_err(|e| ApiError::new(ErrorCode::Internal, format!("receipt of {key}: {e}")))?;
        let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let (asked, method) = (LoadOptions::of(&parts), &parts.method);
        // The change was allowed when it was made. Credentials depend on the rights of today.
        mark_repeated(&parts);
        let namespace = namespace_in(parts.uri.path());
        let answer = answer_from_receipt(app, catalog, outcome, (namespace.as_ref(), &asked), |status| {
            status::listed(method, route, status)
        });
        return answer.await.map_err(ApiError::of_made_change);
    }
    parts.extensions.insert(receipt.clone());
    let is_limited = authority_of_answer(&parts).is_some_and(|authority| authority.is_limited());
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    // What is missing may only be hidden, and rights can be given.
    let is_missing = response.extensions().get::<ApiError>().is_some_and(|error| error.code().http() == 404);
    if is_limited && is_missing {
        return Ok(response);
    }
    store_receipt(catalog, receipt, response).await
}

/// Builds the answer of a receipt again. Credentials are vended anew, because receipts hold none.
///
/// `listed` maps its status to one that the specification lists, because receipts of earlier releases may have another.
async fn answer_from_receipt(
    app: &App,
    catalog: &Catalog,
    outcome: RequestOutcome,
    (namespace, asked): (Option<&NamespaceName>, &LoadOptions),
    listed: impl FnOnce(u16) -> u16,
) -> Result<Response, ApiError> {
    Ok(match outcome {
        RequestOutcome::NoContent => StatusCode::NO_CONTENT.into_response(),
        RequestOutcome::Body(body) => match load::staged_again(catalog, namespace, &body, asked).await {
            Some(staged) => staged,
            None => Json(body).into_response(),
        },
        RequestOutcome::Table { name, metadata_location } => {
            let table = catalog.table_at(&name, &metadata_location).await?;
            load::response(app, catalog, &table, asked).await?
        }
        RequestOutcome::View { name, metadata_location } => views::response(&catalog.view_at(&name, &metadata_location).await?),
        RequestOutcome::Refused { status, mut body } => {
            let status = listed(status);
            if let Some(code) = body.pointer_mut("/error/code") {
                *code = status.into();
            }
            (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(body)).into_response()
        }
    })
}

/// Stores a receipt for an answer whose handler stored none: a refusal, or a success without a change, such as a staged create.
async fn store_receipt(catalog: &Catalog, key: ReceiptKey, response: Response) -> Result<Response, ApiError> {
    let status = response.status().as_u16();
    let refused = FINAL_STATUSES.contains(&status);
    if !refused && !response.status().is_success() {
        return Ok(response);
    }
    if !refused && catalog.receipt(&key).await?.is_some() {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let failed = |e: axum::Error| ApiError::new(ErrorCode::Internal, format!("response: {e}"));
    let bytes = to_bytes(body, usize::MAX).await.map_err(failed)?;
    let body: Option<Value> = serde_json::from_slice(&bytes).ok();
    let outcome = match (refused, body) {
        (true, body) => RequestOutcome::Refused { status, body: body.unwrap_or_default() },
        (false, Some(body)) => RequestOutcome::Body(without_credentials(body)),
        (false, None) => RequestOutcome::NoContent,
    };
    catalog.record_outcome(key, &outcome).await?;
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

/// Returns the body of a staged creation without its credentials, as a receipt may hold it. Other bodies stay as they are.
fn without_credentials(mut body: Value) -> Value {
    if let Some(fields) = body.as_object_mut()
        && fields.remove("storage-credentials").is_some()
    {
        // The properties of the table have the same secrets.
        fields.insert("config".to_owned(), Value::Object(Map::new()));
    }
    body
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::needs::OPERATIONS;

    #[test]
    fn planning_signing_and_reports_alone_change_nothing_among_posts_and_deletes() {
        let of_catalog = OPERATIONS.iter().filter(|operation| operation.request.contains(" /v1/{prefix}/"));
        let reads = of_catalog.filter(|operation| {
            let (method, route) = operation.request.split_once(' ').expect("a method and a route");
            matches!(method, "POST" | "DELETE") && !changes(&method.parse().expect("a method"), route)
        });
        let mut reads: Vec<&str> = reads.map(|operation| operation.id).collect();
        reads.sort_unstable();
        assert_eq!(reads, ["cancelPlanning", "fetchScanTasks", "planTableScan", "reportMetrics", "signRequest"]);
    }

    #[test]
    fn a_receipt_holds_no_credentials() {
        let entry = json!([{"prefix": "s3://lake/t/", "config": {"s3.secret-access-key": "hunter2"}}]);
        let body = json!({"metadata": {}, "config": {"s3.secret-access-key": "hunter2"}, "storage-credentials": entry});
        assert_eq!(without_credentials(body), json!({"metadata": {}, "config": {}}));
        let other = json!({"config": {"a": "b"}});
        assert_eq!(without_credentials(other.clone()), other);
    }
}
