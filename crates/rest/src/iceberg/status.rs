//! The status codes of each operation of the catalog: those that the specification lists for the operation, and 429.
//!
//! Other routes answer with the status of the error's code (`ErrorCode::http`). Clients of the catalog know only the listed
//! statuses; Java makes an error without a class of any other. 429 is not listed, but no other status tells a client that a
//! change was not begun and may be sent again. The listed 503 may have been "partially processed", and Java takes it on a commit
//! for an unknown outcome.
//!
//! Spec: REST, the `responses` of each operation.

use axum::http::Method;

/// Returns a status if the specification lists it for an operation, or 400 instead of a 4xx that it does not list.
///
/// `route` is the pattern of the route, such as `/v1/{prefix}/namespaces`.
pub(crate) fn listed(method: &Method, route: &str, status: u16) -> u16 {
    let end = route.strip_prefix("/v1/{prefix}").unwrap_or(route);
    let of_namespace = end.strip_prefix("/namespaces/{namespace}");
    let post = *method == Method::POST;
    let is_listed = match status {
        403 => *method != Method::HEAD || of_namespace != Some("/views/{view}"),
        404 => !(post && (end == "/namespaces" || end.ends_with("/sign"))),
        406 => {
            let of_its_own = ["/namespaces", "/tables/rename", "/views/rename"].contains(&end);
            post && (of_its_own || matches!(of_namespace, Some("/properties" | "/tables/{table}/plan")))
        }
        409 if post => {
            let of_its_own = ["/namespaces", "/tables/rename", "/views/rename", "/transactions/commit"].contains(&end);
            let made = ["/tables", "/views", "/register", "/register-view", "/tables/{table}", "/views/{view}"];
            of_its_own || of_namespace.is_some_and(|end| made.contains(&end))
        }
        409 => *method == Method::DELETE && of_namespace == Some(""),
        422 => post && of_namespace == Some("/properties"),
        // 405 is for a method that the route does not have, so there is no operation that could list it.
        400 | 401 | 405 | 429 => true,
        status => !(400..500).contains(&status),
    };
    if is_listed { status } else { 400 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The integration tests compare every answer with the list of the specification. These cases rarely occur there.
    #[test]
    fn what_an_operation_does_not_list_is_a_bad_request() {
        let table = "/v1/{prefix}/namespaces/{namespace}/tables/{table}";
        let properties = "/v1/{prefix}/namespaces/{namespace}/properties";
        for (method, route, status, expected) in [
            (Method::POST, table, 422, 400),
            (Method::POST, table, 413, 400),
            (Method::POST, table, 406, 400),
            (Method::POST, table, 409, 409),
            (Method::DELETE, table, 409, 400),
            (Method::POST, table, 429, 429),
            (Method::POST, table, 507, 507),
            (Method::GET, table, 304, 304),
            (Method::POST, properties, 422, 422),
            (Method::POST, properties, 406, 406),
            (Method::POST, properties, 409, 400),
            (Method::POST, "/v1/{prefix}/namespaces", 404, 400),
            (Method::GET, "/v1/{prefix}/namespaces", 404, 404),
            (Method::DELETE, "/v1/{prefix}/namespaces/{namespace}", 409, 409),
            (Method::POST, "/v1/{prefix}/namespaces/{namespace}/tables/{table}/plan", 406, 406),
            (Method::POST, "/v1/{prefix}/namespaces/{namespace}/tables/{table}/sign", 404, 400),
            (Method::HEAD, "/v1/{prefix}/namespaces/{namespace}/views/{view}", 403, 400),
            (Method::GET, "/v1/config", 404, 404),
        ] {
            assert_eq!(listed(&method, route, status), expected, "{method} {route} {status}");
        }
    }
}
