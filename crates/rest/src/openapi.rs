//! The OpenAPI document of the management API, the metrics and the probes.
//!
//! The document comes from the handlers: each has an attribute `utoipa::path`, without which it can't become a route. This file
//! adds what operations share: the errors and the token. `api/openapi.json` is a copy that a test compares.
//!
//! Start reading at [`document`].

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::extract::{MatchedPath, Query, Request};
use axum::http::Uri;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response as HttpResponse};
use esker_types::ErrorCode;
use esker_types::schema::{inline_primitives, is_primitive};
use serde_json::{Value, json};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{Components, ContentBuilder, InfoBuilder, LicenseBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use crate::error::{ErrorBody, ErrorModel};
use crate::{ApiError, App, management, metrics, ops};

/// The statuses of errors: the name of the response in the document, and its description.
const ERRORS: [(u16, &str, &str); 12] = [
    (400, "BadRequest", "A parameter or the body is wrong, or a file of the table can't be decoded."),
    (401, "Unauthenticated", "The request has no token or a wrong one."),
    (
        403,
        "Forbidden",
        "The caller may not do this, a host or site is foreign, the storage denies access, or the database is older than the warehouse.",
    ),
    (404, "NotFound", "Something that the request names does not exist, or a file of the table is missing."),
    (406, "Unsupported", "The request or the table needs something that Esker does not support."),
    (409, "Conflict", "The name is taken, or a concurrent change won. Nothing was changed."),
    (413, "TooLarge", "The body is larger than `server.max_body_bytes`."),
    (422, "Refused", "The request does not apply to this table or job as it is. Nothing was changed."),
    (
        429,
        "TooBusy",
        "A service is overloaded or the caller has reached a limit, and nothing was changed. `Retry-After` has the seconds to wait.",
    ),
    (500, "Internal", "Esker has a bug, the machine needs attention, or the outcome of a change is unknown."),
    (503, "Unavailable", "A service is unreachable. `Retry-After` has the seconds to wait."),
    (507, "StorageFull", "The storage has no room left. Nothing was changed."),
];

/// Returns references to the responses of some statuses.
fn errors(of: &[u16]) -> BTreeMap<String, RefOr<Response>> {
    let wanted = ERRORS.iter().filter(|(status, ..)| of.contains(status));
    wanted.map(|(status, name, _)| (status.to_string(), RefOr::Ref(Ref::from_response_name(*name)))).collect()
}

/// The errors of an operation without parameters and without a body. It refuses any query parameter.
#[derive(Debug)]
pub(crate) enum ServerErrors {}

/// The errors of an operation that changes nothing.
#[derive(Debug)]
pub(crate) enum ReadErrors {}

/// The errors of an operation that may change something.
#[derive(Debug)]
pub(crate) enum ChangeErrors {}

impl IntoResponses for ServerErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        errors(&[400, 401, 429, 500, 503])
    }
}

impl IntoResponses for ReadErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        errors(&[400, 401, 403, 404, 406, 429, 500, 503])
    }
}

impl IntoResponses for ChangeErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        errors(&ERRORS.map(|(status, ..)| status))
    }
}

/// Tags of operations, with their descriptions.
const TAGS: [(&str, &str); 15] = [
    ("warehouses", "The warehouses of this server."),
    ("health", "The scores, findings and facts of tables."),
    ("jobs", "Jobs of maintenance: start, progress, log, cancellation, undo."),
    ("workers", "The protocol of workers of other engines, which run jobs under a lease."),
    ("policy", "The policies of tables, and the jobs that would pay."),
    ("lifecycle", "Protection, dropped tables, claims, branches and tags, functions."),
    ("files", "Why a file exists, and the quarantine."),
    ("events", "The events of the outbox."),
    ("audit", "The audit trail."),
    ("queries", "The SQL queries of this server, and the reports of engines."),
    ("tokens", "The tokens of principals."),
    ("access", "Access control: its mode, roles, grants and explanations."),
    ("metrics", "Metrics in the text format of Prometheus."),
    ("probes", "Probes for load balancers and supervisors. They need no token."),
    ("contract", "This document."),
];

/// The name of the security scheme.
const TOKEN: &str = "token";

/// Builds the document.
pub(crate) fn document() -> Value {
    let all = management::router().merge(metrics::router()).merge(ops::router());
    let mut api = OpenApiRouter::<App>::into_openapi(all);
    let about = "Everything for which the Iceberg REST catalog of Esker (`/v1`) has no operation. Times are milliseconds since the \
        Unix epoch, sizes are bytes. Answers may get new fields in any release; requests under `/api` with unknown fields or query \
        parameters are refused.";
    let licence = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new().title("Esker management API").version(env!("CARGO_PKG_VERSION"));
    api.info = info.description(Some(about)).license(Some(licence)).build();
    api.tags = Some(TAGS.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build()).to_vec());
    api.security = Some(vec![SecurityRequirement::new(TOKEN, [] as [&str; 0])]);
    let components = api.components.get_or_insert_with(Components::new);
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
    let scheme = scheme
        .description(Some("A token that `esker token` or `POST /api/v1/tokens` made, or that `POST /v1/oauth/tokens` issued."))
        .build();
    components.add_security_scheme(TOKEN, SecurityScheme::Http(scheme));
    for (_, name, about) in ERRORS {
        let body = ContentBuilder::new().schema(Some(Ref::from_schema_name(ErrorBody::name()))).build();
        let response = ResponseBuilder::new().description(about).content("application/json", body).build();
        components.responses.insert(name.to_owned(), response.into());
    }
    components.schemas.insert(ErrorBody::name().into(), ErrorBody::schema());
    components.schemas.insert(ErrorModel::name().into(), ErrorModel::schema());
    let mut document = json!(api);
    let schemas = document["components"]["schemas"].as_object().cloned().unwrap_or_default();
    inline_primitives(&mut document, &schemas);
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.retain(|name, _| !is_primitive(name));
    }
    unlink(&mut document);
    document
}

/// Takes the links of rustdoc out of descriptions.
fn unlink(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(unlink),
        Value::Array(items) => items.iter_mut().for_each(unlink),
        Value::String(text) if text.contains("[`") => *text = text.replace("[`", "`").replace("`]", "`"),
        _ => {}
    }
}

/// The names of the query parameters of each operation, by its method and its route, such as `GET /api/v1/jobs`.
static QUERY_PARAMETERS: LazyLock<BTreeMap<String, Vec<String>>> = LazyLock::new(|| {
    let document = document();
    let routes = document["paths"].as_object().into_iter().flatten();
    let operations = routes.flat_map(|(route, item)| item.as_object().into_iter().flatten().map(move |of| (route, of)));
    let named = operations.map(|(route, (method, operation))| {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let names = parameters.filter(|p| p["in"] == "query").filter_map(|p| p["name"].as_str());
        (format!("{} {route}", method.to_uppercase()), names.map(str::to_owned).collect::<Vec<_>>())
    });
    named.collect()
});

/// Refuses a request with a query parameter that the description of its operation does not have.
///
/// A mistyped parameter must not be ignored: `dryrun=true` would run the job that `dry-run=true` only shows.
pub(crate) async fn refuse_unknown_parameters(request: Request, next: Next) -> HttpResponse {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    // A GET route answers HEAD as well.
    let method = match request.method().as_str() {
        "HEAD" => "GET",
        method => method,
    };
    let known = QUERY_PARAMETERS.get(&format!("{method} {route}")).map(Vec::as_slice).unwrap_or_default();
    match unknown_parameter(request.uri(), known) {
        None => next.run(request).await,
        Some(refusal) => ApiError::new(ErrorCode::BadRequest, refusal).into_response(),
    }
}

/// Returns the text about the first query parameter of a URI that is not among the known ones.
fn unknown_parameter(uri: &Uri, known: &[String]) -> Option<String> {
    let given = match Query::<Vec<(String, String)>>::try_from_uri(uri) {
        Ok(Query(given)) => given,
        Err(error) => return Some(error.body_text()),
    };
    let (unknown, _) = given.into_iter().find(|(name, _)| !known.contains(name))?;
    Some(match known {
        [] => format!("query parameter {unknown:?} is unknown; this route takes none"),
        known => format!("query parameter {unknown:?} is unknown; this route takes {}", known.join(", ")),
    })
}

/// The document as it is served.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", document()));

/// Returns this document.
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    operation_id = "getOpenApi",
    tag = "contract",
    responses((status = 200, description = "The OpenAPI document.", body = Value), ServerErrors)
)]
pub(crate) async fn serve() -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(CONTENT_TYPE, "application/json")], &DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use esker_types::schema::assert_file;

    use super::*;

    /// The operations of the document: the pointer to each, with its JSON.
    fn operations(document: &Value) -> Vec<(String, Value)> {
        let paths = document["paths"].as_object().expect("paths");
        let of_path = |(path, item): (&String, &Value)| {
            let item = item.as_object().expect("operations").clone();
            item.into_iter().map(|(method, operation)| (format!("{method} {path}"), operation)).collect::<Vec<_>>()
        };
        paths.iter().flat_map(of_path).collect()
    }

    /// Calls a function on every object of a document.
    fn each(value: &Value, see: &mut impl FnMut(&serde_json::Map<String, Value>)) {
        match value {
            Value::Object(fields) => {
                see(fields);
                fields.values().for_each(|field| each(field, see));
            }
            Value::Array(items) => items.iter().for_each(|item| each(item, see)),
            _ => {}
        }
    }

    #[test]
    fn the_stored_document_is_that_of_the_handlers() {
        assert_file("api/openapi.json", &DOCUMENT);
    }

    #[test]
    fn every_route_is_described() {
        // A router has no list of its routes, but its debug form has their paths.
        let shown = format!("{:?}", axum::Router::from(management::router()));
        let routed: BTreeSet<&str> = shown.split('"').filter(|text| text.starts_with("/api/v1")).collect();
        let document = document();
        let described = document["paths"].as_object().expect("paths").keys().map(String::as_str);
        assert_eq!(routed, described.filter(|path| path.starts_with("/api/v1")).collect());
    }

    #[test]
    fn every_operation_has_a_unique_id_a_known_tag_a_summary_and_its_errors() {
        let mut ids = BTreeSet::new();
        for (at, operation) in operations(&document()) {
            assert!(ids.insert(operation["operationId"].as_str().expect("an id").to_owned()), "{at}: the id is not unique");
            let tag = operation["tags"][0].as_str().expect("a tag");
            assert!(TAGS.iter().any(|(name, _)| *name == tag) && operation["tags"][1].is_null(), "{at}: {tag}");
            let summary = operation["summary"].as_str().unwrap_or_default();
            assert!(summary.ends_with('.'), "{at}: {summary:?}");
            let responses = operation["responses"].as_object().expect("responses");
            assert!(responses.keys().any(|status| status.starts_with('2')), "{at}");
            let open = operation["security"] == json!([{}]);
            assert_eq!(open, tag == "probes", "{at}");
            assert_eq!(responses.contains_key("401"), !open, "{at}");
        }
    }

    #[test]
    fn the_parameters_in_a_path_are_those_that_are_described() {
        for (at, operation) in operations(&document()) {
            let named = at.split('{').skip(1).map(|part| part.split('}').next().expect("a brace").to_owned());
            let none = Vec::new();
            let described = operation["parameters"].as_array().unwrap_or(&none).iter();
            for parameter in described.clone() {
                assert!(parameter["description"].is_string() && parameter["schema"].is_object(), "{at}: {parameter}");
                assert!(parameter["required"] == true || parameter["in"] != "path", "{at}: {parameter}");
            }
            let described: Vec<_> =
                described.filter(|p| p["in"] == "path").map(|p| p["name"].as_str().expect("a name").to_owned()).collect();
            assert_eq!(described, named.collect::<Vec<_>>(), "{at}");
        }
    }

    #[test]
    fn every_reference_resolves_and_every_component_is_used() {
        let document = document();
        let mut used = BTreeSet::new();
        each(&document, &mut |fields| {
            if let Some(Value::String(at)) = fields.get("$ref") {
                let pointer = at.strip_prefix('#').expect("a reference in the document");
                assert!(document.pointer(pointer).is_some(), "{at}");
                used.insert(at.clone());
            }
        });
        for kind in ["schemas", "responses"] {
            for name in document["components"][kind].as_object().expect("components").keys() {
                assert!(used.contains(&format!("#/components/{kind}/{name}")), "{kind} {name}");
            }
        }
    }

    #[test]
    fn the_types_of_answers_and_requests_are_described() {
        // The description of an optional reference is beside the reference, one of the two parts of `oneOf`.
        let is_described = |schema: &Value| {
            let mut parts = schema["oneOf"].as_array().into_iter().flatten().chain([schema]);
            parts.any(|part| part["description"].is_string())
        };
        let document = document();
        for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
            assert!(is_described(schema), "{name}");
            for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
                assert!(is_described(schema), "{name}.{field}");
            }
        }
        assert_eq!(document["openapi"], "3.1.0");
    }
}
