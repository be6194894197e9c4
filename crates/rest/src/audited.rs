//! What the audit trail records of a request: its operation, its object, and what it is about.
//!
//! The object is what the path names, until the catalog says what it is by its id. Start reading at [`trail_of`].

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request};
use axum::http::header::USER_AGENT;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method};
use esker_access::Identity;
use esker_auth::{Audit, AuditedEntry, AuditedKind, AuditedObject, AuditedRequest, RequestTrail};
use esker_types::{NamespaceName, Principal};
use percent_encoding::percent_decode_str;

use crate::App;
use crate::guard::Peer;
use crate::needs::OperationNeeds;

/// The identifier of a request, which the answer has in `x-request-id`.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

/// The facts of a log-in or a request for a token that the audit trail records.
#[derive(Debug)]
pub(crate) struct EntryFacts {
    request_id: String,
    source_ip: Option<IpAddr>,
    engine: Option<String>,
}

impl FromRequestParts<App> for EntryFacts {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        let request_id = parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
        let source_ip = parts.extensions.get::<Peer>().map(|peer| peer.address);
        Ok(Self { request_id, source_ip, engine: engine_of(&parts.headers).map(str::to_owned) })
    }
}

impl EntryFacts {
    /// Records the entry. `principal` is who is known now; `None` if the entry was refused.
    pub(crate) fn record(self, app: &App, operation: &'static str, principal: Option<&Principal>, status: u16) {
        let Self { request_id, source_ip, engine } = self;
        let engine = engine.as_deref();
        app.access().audit().record_entry(AuditedEntry { request_id, operation, principal, status, source_ip, engine });
    }
}

/// Returns the header `user-agent`, if it is text.
fn engine_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(USER_AGENT).map(HeaderValue::to_str).and_then(Result::ok)
}

/// The operations that give rows of a table or of the trail, or the means to read or write rows.
const READS: [&str; 6] =
    ["loadCredentials", "planTableScan", "fetchPlanningResult", "fetchScanTasks", "signRequest", "listAuditRecords"];

/// The operations by methods that change something, which change nothing that anybody owns: reports, leases of workers, and the
/// decisions that Trino asks for.
const CHANGES_OF_NOTHING: [&str; 11] = [
    "getToken",
    "reportMetrics",
    "cancelPlanning",
    "claimJob",
    "renewLease",
    "pageLogOut",
    "opaAllow",
    "opaBatch",
    "opaRowFilters",
    "opaColumnMask",
    "opaBatchColumnMasks",
];

/// Returns the trail of a request; `None` if nothing is recorded.
///
/// `route` is the pattern of the route.
pub(crate) fn trail_of(
    audit: &Audit,
    identity: &Identity,
    peer: &Peer,
    request: &Request,
    (route, needs): (Option<&str>, Option<&OperationNeeds>),
) -> Option<Arc<RequestTrail>> {
    audit.request(|| {
        let id = needs.map_or("unknown", |needs| needs.id);
        let (object, variant) = route.map(|route| object_of(route, request.uri().path())).unwrap_or_default();
        AuditedRequest {
            request_id: request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
            protocol: "rest",
            identity,
            operation: variant.map_or_else(|| id.to_owned(), |variant| format!("{id} {variant}")),
            kind: needs.map_or(AuditedKind::Other, |needs| kind_of(request.method(), needs.id, request.headers())),
            source_ip: Some(peer.address),
            engine: engine_of(request.headers()),
            object,
        }
    })
}

/// Returns what an operation is about.
fn kind_of(method: &Method, operation: &str, headers: &HeaderMap) -> AuditedKind {
    let delegates = operation == "loadTable" && headers.contains_key("x-iceberg-access-delegation");
    if delegates || READS.contains(&operation) {
        return AuditedKind::Read;
    }
    match method.is_safe() || CHANGES_OF_NOTHING.contains(&operation) {
        true => AuditedKind::Other,
        false => AuditedKind::Change,
    }
}

/// Returns the object that a path names, and the variant of the operation: the kind of a job.
///
/// `route` is the pattern of the route. Of a table with something that belongs to it, the object is the table.
fn object_of(route: &str, path: &str) -> (AuditedObject, Option<String>) {
    let (mut object, mut variant) = (AuditedObject::default(), None);
    let mut namespace: Option<String> = None;
    let mut leaf: Option<(String, String)> = None;
    for (pattern, segment) in route.split('/').zip(path.split('/')) {
        let Some(name) = pattern.strip_prefix('{').and_then(|pattern| pattern.strip_suffix('}')) else { continue };
        let value = percent_decode_str(segment).decode_utf8_lossy().into_owned();
        match (name, &mut leaf) {
            ("prefix" | "warehouse", _) => object.warehouse = Some(value),
            ("namespace", _) => namespace = Some(value.replace(NamespaceName::SEPARATOR, ".")),
            ("kind", _) => variant = Some(value),
            ("table-id", _) => object.id = Some(value),
            ("member", Some((_, of))) => *of = format!("{of}: {value}"),
            (_, Some(_)) => {}
            (name, leaf) => *leaf = Some((name.to_owned(), value)),
        }
    }
    let (kind, name) = match (namespace, leaf, &object) {
        (Some(namespace), Some((kind, leaf)), _) => (Some(kind), Some(format!("{namespace}.{leaf}"))),
        (None, Some((kind, leaf)), _) => (Some(kind), Some(leaf)),
        (Some(namespace), None, _) => (Some("namespace".to_owned()), Some(namespace)),
        (None, None, AuditedObject { id: Some(_), .. }) => (Some("table".to_owned()), None),
        (None, None, AuditedObject { warehouse: Some(name), .. }) => (Some("warehouse".to_owned()), Some(name.clone())),
        (None, None, _) => (None, None),
    };
    (AuditedObject { kind, name, ..object }, variant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs::OPERATIONS;

    #[test]
    fn an_object_is_what_the_path_names() {
        let text = |object: AuditedObject| {
            let shown = |part: Option<String>| part.unwrap_or_else(|| "-".to_owned());
            [object.warehouse, object.kind, object.name, object.id].map(shown).join(" ")
        };
        for (route, path, expected) in [
            ("/v1/{prefix}/namespaces", "/v1/lake/namespaces", "lake warehouse lake -"),
            ("/v1/{prefix}/namespaces/{namespace}", "/v1/lake/namespaces/a%1Fb", "lake namespace a.b -"),
            ("/v1/{prefix}/namespaces/{namespace}/tables/{table}", "/v1/lake/namespaces/a/tables/t%20u", "lake table a.t u -"),
            (
                "/v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}",
                "/v1/lake/namespaces/a/tables/t/plan/secret",
                "lake table a.t -",
            ),
            ("/api/v1/access/roles/{role}/members/{member}", "/api/v1/access/roles/r/members/client:b", "- role r: client:b -"),
            ("/api/v1/warehouses/{warehouse}/dropped/{table-id}/undrop", "/api/v1/warehouses/w/dropped/7/undrop", "w table - 7"),
            ("/api/v1/access/policies/{policy}", "/api/v1/access/policies/only-tls", "- policy only-tls -"),
            ("/api/v1/access/mode", "/api/v1/access/mode", "- - - -"),
        ] {
            assert_eq!(text(object_of(route, path).0), expected, "{path}");
        }
        let job = "/api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/{kind}";
        let (object, variant) = object_of(job, "/api/v1/warehouses/w/namespaces/n/tables/t/compact");
        assert_eq!((object.name.as_deref(), variant.as_deref()), (Some("n.t"), Some("compact")));
    }

    #[test]
    fn every_operation_that_is_set_apart_exists_and_others_are_told_by_their_method() {
        for id in READS.iter().chain(&CHANGES_OF_NOTHING) {
            assert!(OPERATIONS.iter().any(|needs| needs.id == *id), "{id}");
        }
        let none = HeaderMap::new();
        let delegating = HeaderMap::from_iter([(
            axum::http::HeaderName::from_static("x-iceberg-access-delegation"),
            HeaderValue::from_static("vended-credentials"),
        )]);
        for (method, operation, headers, expected) in [
            (Method::GET, "loadTable", &none, AuditedKind::Other),
            (Method::GET, "loadTable", &delegating, AuditedKind::Read),
            (Method::POST, "signRequest", &none, AuditedKind::Read),
            (Method::POST, "updateTable", &none, AuditedKind::Change),
            (Method::PUT, "setAccessMode", &none, AuditedKind::Change),
            (Method::DELETE, "dropTable", &none, AuditedKind::Change),
            (Method::POST, "reportMetrics", &none, AuditedKind::Other),
            (Method::POST, "opaBatch", &none, AuditedKind::Other),
        ] {
            assert_eq!(kind_of(&method, operation, headers), expected, "{operation}");
        }
    }
}
