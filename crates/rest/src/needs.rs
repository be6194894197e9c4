//! The privileges that each operation needs: one row for each route behind authentication.
//!
//! A row says who checks. The layer in `access.rs` checks what is on the server, `RequestAccess` what the path names, the catalog
//! every change. A request that succeeds without the check of its row is answered 500, whatever the
//! mode is, so that a forgotten check fails every test of its route. The tests compare the rows with both lists of operations and
//! with `docs/security/access.md`. Start reading at [`OPERATIONS`].

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use axum::http::Method;
use esker_access::{Privilege, PrivilegeSet, Required};

/// The check of an operation's privileges: who makes it, and what is needed on what.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Check {
    /// Every caller may send the request. What the answer has is no secret.
    Open,
    /// Privileges on the server.
    Server(Required),
    /// Privileges on the warehouse that the path names.
    Warehouse(Required),
    /// The caller sees the namespace that the path names, or sees or may create something in it. Holds the need, for the
    /// documentation.
    Namespace(&'static str),
    /// Privileges on the table that the path names.
    Table(Required),
    /// Privileges on the view that the path names.
    View(Required),
    /// The catalog checks the change, by the authority of its author. Holds the need, for the documentation.
    Catalog(&'static str),
    /// The handler checks, because the need depends on more than the route. Holds the need, for the documentation.
    Handler(&'static str),
    /// The answer has only what the caller may see. Holds the content, for the documentation.
    Filtered(&'static str),
}

/// Prints the need as the documentation has it.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (required, thing) = match self {
            Self::Open => return f.write_str("nothing"),
            Self::Namespace(text) | Self::Catalog(text) | Self::Handler(text) | Self::Filtered(text) => return f.write_str(text),
            Self::Server(required) => (required, "server"),
            Self::Warehouse(required) => (required, "warehouse"),
            Self::Table(required) => (required, "table"),
            Self::View(required) => (required, "view"),
        };
        if *required == Required::NOTHING {
            return write!(f, "to see the {thing}");
        }
        let text = required.to_string();
        let (one_of, names) = text.strip_prefix("one of ").map_or(("", text.as_str()), |names| ("one of ", names));
        let names: Vec<String> = names.split(", ").map(|name| format!("`{name}`")).collect();
        write!(f, "{one_of}{} on the {thing}", names.join(", "))
    }
}

/// The needs of an operation.
#[derive(Debug)]
pub(crate) struct OperationNeeds {
    /// Id of the operation, as the OpenAPI documents have it. Two APIs may have the same.
    pub(crate) id: &'static str,
    /// Method and route.
    pub(crate) request: &'static str,
    /// The check of its privileges.
    pub(crate) check: Check,
}

/// Makes the row of an operation.
const fn needs(id: &'static str, request: &'static str, check: Check) -> OperationNeeds {
    OperationNeeds { id, request, check }
}

/// To see the thing.
const SEE: Required = Required::NOTHING;
const READ_METADATA: Required = Required::privilege(Privilege::ReadMetadata);
const READ_DATA: Required = Required::privilege(Privilege::ReadData);
const MANAGE_SERVER: Required = Required::privilege(Privilege::ManageServer);
const MANAGE_ACCESS: Required = Required::privilege(Privilege::ManageAccess);
const MONITOR: Required = Required::privilege(Privilege::Monitor);
const READ_AUDIT: Required = Required::privilege(Privilege::ReadAudit);
const RUN_JOBS: Required = Required::privilege(Privilege::RunJobs);
const DECIDE: Required = Required::privilege(Privilege::Decide);

/// To read or write rows of a table: what credentials are vended for, and what engines report about.
const USE_DATA: Required =
    Required::any_of(PrivilegeSet::of(&[Privilege::ReadData, Privilege::Append, Privilege::Modify, Privilege::Rewrite]));

/// To manage row filters and column masks. The table is in the body or the query.
const MANAGE_RESTRICTIONS: Check = Check::Handler("`MANAGE_RESTRICTIONS` on the table that is named");

/// The operations of all routes, those that need no token included.
pub(crate) const OPERATIONS: &[OperationNeeds] = &[
    needs("getConfig", "GET /v1/config", Check::Handler("`USE` on the warehouse")),
    needs("getToken", "POST /v1/oauth/tokens", Check::Open),
    needs("listNamespaces", "GET /v1/{prefix}/namespaces", Check::Filtered("lists the namespaces that the caller sees")),
    needs(
        "createNamespace",
        "POST /v1/{prefix}/namespaces",
        Check::Catalog(
            "`CREATE_NAMESPACE` on the innermost namespace around it, or the warehouse; there also \
             `CHOOSE_LOCATION` for a location, `SET_PROTECTED` for protected properties, and `SET_POLICY` for `esker.*`",
        ),
    ),
    needs(
        "loadNamespaceMetadata",
        "GET /v1/{prefix}/namespaces/{namespace}",
        Check::Namespace(
            "to see the namespace or something in it, or to create or register something there; `READ_METADATA` on the \
             namespace for its properties, and for its location `CREATE_TABLE` or `CREATE_VIEW` will do",
        ),
    ),
    needs(
        "namespaceExists",
        "HEAD /v1/{prefix}/namespaces/{namespace}",
        Check::Namespace("to see the namespace or something in it, or to create or register something there"),
    ),
    needs("dropNamespace", "DELETE /v1/{prefix}/namespaces/{namespace}", Check::Catalog("`DROP` on the namespace")),
    needs(
        "updateProperties",
        "POST /v1/{prefix}/namespaces/{namespace}/properties",
        Check::Catalog("`SET_PROPERTIES`, `SET_PROTECTED`, `SET_POLICY` or `CHOOSE_LOCATION` on the namespace, by key"),
    ),
    needs(
        "listTables",
        "GET /v1/{prefix}/namespaces/{namespace}/tables",
        Check::Filtered("lists the tables that the caller sees"),
    ),
    needs(
        "createTable",
        "POST /v1/{prefix}/namespaces/{namespace}/tables",
        Check::Catalog(
            "`CREATE_TABLE` on the namespace; `CHOOSE_LOCATION` for a path property, or a location unlike those of Esker, \
             `SET_PROTECTED` for protected properties, and `SET_POLICY` for `esker.*`",
        ),
    ),
    needs("loadTable", "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}", Check::Table(READ_METADATA)),
    needs("tableExists", "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}", Check::Table(SEE)),
    needs(
        "updateTable",
        "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
        Check::Catalog("`READ_METADATA`, and [by update](#what-a-commit-needs); to create the table, as `createTable`"),
    ),
    needs(
        "dropTable",
        "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}",
        Check::Catalog("`DROP` on the table, and `PURGE` with `purgeRequested`"),
    ),
    needs("reportMetrics", "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics", Check::Table(USE_DATA)),
    needs(
        "unregisterTable",
        "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/unregister",
        Check::Catalog("`DROP` and `READ_METADATA` on the table"),
    ),
    needs("loadCredentials", "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials", Check::Table(USE_DATA)),
    needs("planTableScan", "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan", Check::Table(READ_DATA)),
    needs(
        "fetchPlanningResult",
        "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}",
        Check::Table(READ_DATA),
    ),
    needs("cancelPlanning", "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}", Check::Table(READ_DATA)),
    needs("fetchScanTasks", "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/tasks", Check::Table(READ_DATA)),
    needs("signRequest", "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/sign", Check::Table(USE_DATA)),
    needs(
        "registerTable",
        "POST /v1/{prefix}/namespaces/{namespace}/register",
        Check::Catalog("`REGISTER` on the namespace; with `overwrite`, `DROP` on the table that is replaced"),
    ),
    needs(
        "renameTable",
        "POST /v1/{prefix}/tables/rename",
        Check::Catalog(
            "`RENAME` on the table, and `CREATE_TABLE` on the new namespace; on the table also what the caller has \
             [by the new namespace](#securables)",
        ),
    ),
    needs("commitTransaction", "POST /v1/{prefix}/transactions/commit", Check::Catalog("what each of its changes needs")),
    needs("listViews", "GET /v1/{prefix}/namespaces/{namespace}/views", Check::Filtered("lists the views that the caller sees")),
    needs(
        "createView",
        "POST /v1/{prefix}/namespaces/{namespace}/views",
        Check::Catalog(
            "`CREATE_VIEW` on the namespace; `CHOOSE_LOCATION` for a path property, or a location unlike those of Esker, \
             `SET_PROTECTED` for protected properties, and `SET_POLICY` for `esker.*`",
        ),
    ),
    needs("loadView", "GET /v1/{prefix}/namespaces/{namespace}/views/{view}", Check::View(READ_METADATA)),
    needs("viewExists", "HEAD /v1/{prefix}/namespaces/{namespace}/views/{view}", Check::View(SEE)),
    needs(
        "replaceView",
        "POST /v1/{prefix}/namespaces/{namespace}/views/{view}",
        Check::Catalog(
            "`READ_METADATA` on the view, and `ALTER_SCHEMA`, `SET_LOCATION`, `SET_PROPERTIES`, `SET_PROTECTED` or `UPGRADE`, \
             by update",
        ),
    ),
    needs("dropView", "DELETE /v1/{prefix}/namespaces/{namespace}/views/{view}", Check::Catalog("`DROP` on the view")),
    needs(
        "renameView",
        "POST /v1/{prefix}/views/rename",
        Check::Catalog(
            "`RENAME` on the view, and `CREATE_VIEW` on the new namespace; on the view also what the caller has \
             [by the new namespace](#securables)",
        ),
    ),
    needs(
        "registerView",
        "POST /v1/{prefix}/namespaces/{namespace}/register-view",
        Check::Catalog("`REGISTER` on the namespace"),
    ),
    needs(
        "listFunctions",
        "GET /v1/{prefix}/namespaces/{namespace}/functions",
        Check::Filtered("lists the functions that the caller sees"),
    ),
    needs(
        "loadFunction",
        "GET /v1/{prefix}/namespaces/{namespace}/functions/{function}",
        Check::Handler("`READ_METADATA` on the function"),
    ),
    needs("getOpenApi", "GET /api/v1/openapi.json", Check::Open),
    needs("listWarehouses", "GET /api/v1/warehouses", Check::Filtered("lists the warehouses that the caller sees")),
    needs("listTables", "GET /api/v1/tables", Check::Filtered("lists the tables with `READ_METADATA`")),
    needs(
        "listDroppedTables",
        "GET /api/v1/warehouses/{warehouse}/dropped",
        Check::Filtered("lists the tables with `UNDROP` on the namespace"),
    ),
    needs(
        "undropTable",
        "POST /api/v1/warehouses/{warehouse}/dropped/{table-id}/undrop",
        Check::Catalog("`UNDROP` on the old namespace; for another name, also as `renameTable` on the new namespace"),
    ),
    needs("explainFile", "GET /api/v1/warehouses/{warehouse}/explain", Check::Warehouse(READ_METADATA)),
    needs(
        "listRecommendations",
        "GET /api/v1/warehouses/{warehouse}/recommendations",
        Check::Filtered("lists the jobs of tables with `READ_METADATA`"),
    ),
    needs(
        "undoJob",
        "POST /api/v1/warehouses/{warehouse}/jobs/{job}/undo",
        Check::Handler("`MAINTAIN` on the table; for an erasure, `ERASE`"),
    ),
    needs(
        "protectNamespace",
        "PUT /api/v1/warehouses/{warehouse}/namespaces/{namespace}/protection",
        Check::Catalog("`PROTECT` on the namespace"),
    ),
    needs(
        "protectView",
        "PUT /api/v1/warehouses/{warehouse}/namespaces/{namespace}/views/{view}/protection",
        Check::Catalog("`PROTECT` on the view"),
    ),
    needs(
        "putFunction",
        "PUT /api/v1/warehouses/{warehouse}/namespaces/{namespace}/functions/{function}",
        Check::Catalog("`CREATE_FUNCTION` on the namespace, and `DROP` on the function that is replaced"),
    ),
    needs(
        "dropFunction",
        "DELETE /api/v1/warehouses/{warehouse}/namespaces/{namespace}/functions/{function}",
        Check::Catalog("`DROP` on the function"),
    ),
    needs(
        "getTableHealth",
        "GET /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/health",
        Check::Table(READ_METADATA),
    ),
    needs(
        "claimTable",
        "POST /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/claim",
        Check::Catalog("`CLAIM` on the table"),
    ),
    needs(
        "startJob",
        "POST /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/{kind}",
        Check::Handler(
            "`MAINTAIN` on the table, for a preview too; for an erasure, `ERASE`; for rows that are named \
             [by values](#jobs-and-the-rows-they-name), also `READ_DATA`",
        ),
    ),
    needs(
        "protectTable",
        "PUT /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/protection",
        Check::Catalog("`PROTECT` on the table"),
    ),
    needs(
        "listRefs",
        "GET /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/refs",
        Check::Table(READ_METADATA),
    ),
    needs(
        "changeRefs",
        "POST /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/refs",
        Check::Catalog("`MANAGE_REFS` on the table, and what the commit needs"),
    ),
    needs(
        "listQuarantine",
        "GET /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/quarantine",
        Check::Table(READ_METADATA),
    ),
    needs(
        "getTableHistory",
        "GET /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/history",
        Check::Table(READ_METADATA),
    ),
    needs(
        "getTablePolicy",
        "GET /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/policy",
        Check::Table(READ_METADATA),
    ),
    needs(
        "listReports",
        "GET /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/reports",
        Check::Table(READ_METADATA),
    ),
    needs("sweepQuarantine", "POST /api/v1/quarantine/sweep", Check::Server(MANAGE_SERVER)),
    needs(
        "listEvents",
        "GET /api/v1/events",
        Check::Handler("`READ_METADATA` on the warehouse that is named, or `MONITOR` on the server"),
    ),
    needs("listAuditRecords", "GET /api/v1/audit", Check::Server(READ_AUDIT)),
    needs("listJobKinds", "GET /api/v1/job-kinds", Check::Open),
    needs("listJobs", "GET /api/v1/jobs", Check::Filtered("lists the jobs that the caller may read, as `getJob`")),
    needs("claimJob", "POST /api/v1/jobs/claim", Check::Server(RUN_JOBS)),
    needs(
        "getJob",
        "GET /api/v1/jobs/{job}",
        Check::Handler(
            "`READ_METADATA` on the table, for an erasure also one of `READ_DATA`, `MAINTAIN`, `ERASE`; or \
             `MONITOR` on the server",
        ),
    ),
    needs("renewLease", "POST /api/v1/jobs/{job}/renew", Check::Server(RUN_JOBS)),
    needs("finishJob", "POST /api/v1/jobs/{job}/finish", Check::Server(RUN_JOBS)),
    needs("getJobLog", "GET /api/v1/jobs/{job}/log", Check::Handler("as `getJob`")),
    needs("cancelJob", "POST /api/v1/jobs/{job}/cancel", Check::Handler("`MAINTAIN` on the table; for an erasure, `ERASE`")),
    needs(
        "listQueries",
        "GET /api/v1/queries",
        Check::Filtered("lists the queries of the caller, with `MONITOR` on the server all"),
    ),
    needs(
        "cancelQuery",
        "DELETE /api/v1/queries/{id}",
        Check::Handler("nothing for a query of the caller, else `MANAGE_SERVER` on the server"),
    ),
    needs(
        "listTokens",
        "GET /api/v1/tokens",
        Check::Filtered("lists the tokens of the caller, with `MANAGE_ACCESS` on the server all"),
    ),
    needs(
        "createToken",
        "POST /api/v1/tokens",
        Check::Handler("nothing for a token of the caller, else `MANAGE_ACCESS` on the server"),
    ),
    needs(
        "rotateTokens",
        "POST /api/v1/tokens/rotate",
        Check::Handler("nothing for the tokens of the caller, else `MANAGE_ACCESS` on the server"),
    ),
    needs(
        "revokeToken",
        "DELETE /api/v1/tokens/{token-id}",
        Check::Handler("nothing for a token of the caller, else `MANAGE_ACCESS` on the server"),
    ),
    needs("getAccess", "GET /api/v1/access", Check::Open),
    needs("setAccessMode", "PUT /api/v1/access/mode", Check::Server(MANAGE_ACCESS)),
    needs("listRoles", "GET /api/v1/access/roles", Check::Server(MANAGE_ACCESS)),
    needs("createRole", "POST /api/v1/access/roles", Check::Server(MANAGE_ACCESS)),
    needs("dropRole", "DELETE /api/v1/access/roles/{role}", Check::Server(MANAGE_ACCESS)),
    needs("listMembers", "GET /api/v1/access/roles/{role}/members", Check::Server(MANAGE_ACCESS)),
    needs("addMember", "PUT /api/v1/access/roles/{role}/members/{member}", Check::Server(MANAGE_ACCESS)),
    needs("removeMember", "DELETE /api/v1/access/roles/{role}/members/{member}", Check::Server(MANAGE_ACCESS)),
    needs("getRights", "GET /api/v1/access/me", Check::Handler("to see the thing that is named")),
    needs(
        "explainAccess",
        "GET /api/v1/access/explain",
        Check::Handler("to see the thing that is named; `MANAGE_ACCESS` on the server for other principals"),
    ),
    needs(
        "listGrants",
        "GET /api/v1/access/grants",
        Check::Handler("`MANAGE_GRANTS` on the thing that is named, or `MANAGE_ACCESS` on the server"),
    ),
    needs(
        "addGrant",
        "POST /api/v1/access/grants",
        Check::Handler("`MANAGE_GRANTS` and the privileges on the thing, or `MANAGE_ACCESS` on the server"),
    ),
    needs("revokePrivileges", "POST /api/v1/access/grants/revoke", Check::Handler("as `addGrant`")),
    needs("removeGrant", "DELETE /api/v1/access/grants/{grant-id}", Check::Handler("as `addGrant`")),
    needs("opaAllow", "POST /api/v1/access/opa/allow", Check::Server(DECIDE)),
    needs("opaBatch", "POST /api/v1/access/opa/batch", Check::Server(DECIDE)),
    needs("opaRowFilters", "POST /api/v1/access/opa/row-filters", Check::Server(DECIDE)),
    needs("opaColumnMask", "POST /api/v1/access/opa/column-mask", Check::Server(DECIDE)),
    needs("opaBatchColumnMasks", "POST /api/v1/access/opa/batch-column-masks", Check::Server(DECIDE)),
    needs("listRestrictions", "GET /api/v1/access/restrictions", MANAGE_RESTRICTIONS),
    needs("addRowFilter", "POST /api/v1/access/filters", MANAGE_RESTRICTIONS),
    needs("removeRowFilter", "DELETE /api/v1/access/filters/{filter-id}", MANAGE_RESTRICTIONS),
    needs("setColumnMask", "PUT /api/v1/access/masks", MANAGE_RESTRICTIONS),
    needs("removeColumnMask", "DELETE /api/v1/access/masks", MANAGE_RESTRICTIONS),
    needs("listAccessPolicies", "GET /api/v1/access/policies", Check::Server(MANAGE_ACCESS)),
    needs("getAccessPolicy", "GET /api/v1/access/policies/{policy}", Check::Server(MANAGE_ACCESS)),
    needs("setAccessPolicy", "PUT /api/v1/access/policies/{policy}", Check::Server(MANAGE_ACCESS)),
    needs("removeAccessPolicy", "DELETE /api/v1/access/policies/{policy}", Check::Server(MANAGE_ACCESS)),
    needs("getMetrics", "GET /metrics", Check::Server(MONITOR)),
    needs("getTableMetrics", "GET /metrics/tables", Check::Server(MONITOR)),
    needs("isAlive", "GET /healthz", Check::Open),
    needs("isReady", "GET /readyz", Check::Open),
    needs("pageTables", "GET /", Check::Filtered("as `GET /api/v1/tables`")),
    needs("pageJobs", "GET /jobs", Check::Filtered("as `listJobs`")),
    needs("pageJob", "GET /jobs/{job}", Check::Handler("as `getJob`")),
    needs("pageCancelJob", "POST /jobs/{job}/cancel", Check::Handler("as `cancelJob`")),
    needs("pageUndoJob", "POST /warehouses/{warehouse}/jobs/{job}/undo", Check::Handler("as `undoJob`")),
    needs("pageQuarantine", "GET /quarantine", Check::Server(MONITOR)),
    needs("pageQueries", "GET /queries", Check::Filtered("as `listQueries`")),
    needs(
        "pageAccess",
        "GET /access",
        Check::Filtered(
            "lists roles, access policies and all grants with `MANAGE_ACCESS` on the server; the grants on the thing that is \
             named as `listGrants`; explains as `explainAccess`",
        ),
    ),
    needs(
        "pageChangeAccess",
        "POST /access",
        Check::Handler(
            "as the operation of its form: `createRole`, `dropRole`, `addMember`, `removeMember`, `addGrant`, \
             `removeGrant`",
        ),
    ),
    needs("pageTable", "GET /warehouses/{warehouse}/namespaces/{namespace}/tables/{table}", Check::Table(READ_METADATA)),
    needs("pageLogOut", "POST /logout", Check::Open),
];

/// The operations by method and route.
static BY_REQUEST: LazyLock<HashMap<&'static str, &'static OperationNeeds>> =
    LazyLock::new(|| OPERATIONS.iter().map(|operation| (operation.request, operation)).collect());

/// Returns the needs of the operation at a route. A GET route answers HEAD as well.
pub(crate) fn needs_of(method: &Method, route: &str) -> Option<&'static OperationNeeds> {
    let find = |method: &str| BY_REQUEST.get(format!("{method} {route}").as_str()).copied();
    find(method.as_str()).or_else(|| find("GET").filter(|_| *method == Method::HEAD))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::openapi;

    /// Returns the requests of the rows that begin with one of some prefixes of routes, each with its id.
    fn rows(is_wanted: impl Fn(&str) -> bool) -> BTreeSet<(String, String)> {
        let route = |row: &OperationNeeds| row.request.split_once(' ').map_or("", |(_, route)| route);
        let wanted = OPERATIONS.iter().filter(|row| is_wanted(route(row)));
        wanted.map(|row| (row.request.to_owned(), row.id.to_owned())).collect()
    }

    #[test]
    fn every_operation_of_the_management_api_has_a_row() {
        let document = openapi::document();
        let routes = document["paths"].as_object().expect("paths").iter();
        let operations = routes.flat_map(|(route, item)| {
            let methods = item.as_object().expect("methods").iter();
            methods.map(move |(method, operation)| {
                let id = operation["operationId"].as_str().expect("an id").to_owned();
                (format!("{} {route}", method.to_uppercase()), id)
            })
        });
        let managed = |route: &str| ["/api/", "/metrics", "/healthz", "/readyz"].iter().any(|start| route.starts_with(start));
        assert_eq!(operations.collect::<BTreeSet<_>>(), rows(managed));
    }

    #[test]
    fn every_served_operation_of_the_catalog_has_a_row() {
        let listed: Value = serde_json::from_str(include_str!("../../../api/iceberg-rest.json")).expect("JSON");
        let served = listed["operations"].as_array().expect("operations").iter().filter(|operation| operation["served"] != "no");
        let text = |operation: &Value, key: &str| operation[key].as_str().expect("a text").to_owned();
        let served = served.map(|operation| (text(operation, "request"), text(operation, "id")));
        assert_eq!(served.collect::<BTreeSet<_>>(), rows(|route| route.starts_with("/v1/")));
    }

    /// Returns the row of the documentation.
    fn documented(row: &OperationNeeds) -> String {
        format!("| `{}` | `{}` | {} |", row.id, row.request, row.check)
    }

    #[test]
    fn the_page_about_access_lists_what_each_operation_needs() {
        let page = include_str!("../../../docs/security/access.md");
        let rows: Vec<String> = OPERATIONS.iter().map(documented).collect();
        let table = rows.join("\n");
        assert!(page.contains(&table), "docs/security/access.md does not have this table:\n{table}");
    }

    #[test]
    fn a_head_request_has_the_needs_of_its_own_row_or_of_get() {
        let table = "/v1/{prefix}/namespaces/{namespace}/tables/{table}";
        assert_eq!(needs_of(&Method::HEAD, table).expect("a row").id, "tableExists");
        assert_eq!(needs_of(&Method::GET, table).expect("a row").id, "loadTable");
        assert_eq!(needs_of(&Method::HEAD, "/metrics").expect("a row").id, "getMetrics");
        assert!(needs_of(&Method::PUT, table).is_none());
        assert_eq!(BY_REQUEST.len(), OPERATIONS.len(), "each request has one row");
    }
}
