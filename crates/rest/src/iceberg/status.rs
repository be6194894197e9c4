//! Which status codes an operation answers with: those that the specification lists for it, and 429.
//!
//! What is refused has a code of its own elsewhere (`ErrorCode::http`), but clients of the catalog know only what is listed; of anything
//! else Java makes an error without a class. 429 is beyond the list: it alone tells a client that a change was not begun and may be sent
//! again. 503, which is listed, may have been "partially processed", and on a commit Java takes it for an unknown outcome.

use axum::http::Method;

/// The status that the operation at a route answers with, for one that is not listed for it.
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
        // A method that a route has not is no operation.
        400 | 401 | 405 | 429 => true,
        status => !(400..500).contains(&status),
    };
    if is_listed { status } else { 400 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The integration tests hold every answer that they get against the specification's own list; this is what they hardly meet.
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
