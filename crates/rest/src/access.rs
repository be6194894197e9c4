//! Access control around the handlers: who sent a request, and proof that its privileges were checked.
//!
//! [`enforce`] runs behind authentication, and in front of every handler. It puts the caller into the request, and checks what an
//! operation needs on the server. The rest is checked with [`RequestAccess`], or by the catalog with the actor of the request. Each
//! of these marks the request as checked. Start reading at [`enforce`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use esker_access::{Caller, Identity, Need, Needs, Privilege, RequestFacts, Required, ResourcePath};
use esker_auth::{Authenticated, OutcomeGuard, RequestTrail};
use esker_catalog::{Authority, Catalog};
use esker_maintenance::Maintenance;
use esker_state::{NamespaceRow, TabularRow};
use esker_types::{ErrorCode, NamespaceName, Principal, TableName};

use crate::audited::trail_of;
use crate::guard::Peer;
use crate::iceberg::definer::{ReferencedBy, definer_of};
use crate::iceberg::load::CredentialRights;
use crate::named_in_body::name_object;
use crate::needs::{Check, OperationNeeds, needs_of};
use crate::{ApiError, App};

/// The operations after which new rules may exist: they give rights to new things, or take them from removed ones.
///
/// Commits are not among them. A commit that creates a table forgets the rules itself.
const CHANGES_RULES: [&str; 8] = [
    "createNamespace",
    "dropNamespace",
    "createTable",
    "registerTable",
    "createView",
    "registerView",
    "putFunction",
    "dropFunction",
];

/// The reason why a caller is not told what counts or names rows and values of a table.
pub(crate) const RESTRICTED: &str = "row filters or column masks restrict the caller, and this tells of all rows";

/// The caller of a request, with the needs of its operation.
#[derive(Debug, Clone)]
struct RequestNeeds {
    principal: Principal,
    caller: Arc<Caller>,
    /// `None` for a route without a row, which no request can use.
    needs: Option<&'static OperationNeeds>,
    /// `true` once the privileges were checked that the row names.
    checked: Arc<AtomicBool>,
    /// The trail of the request; `None` if nothing is recorded.
    trail: Option<Arc<RequestTrail>>,
}

impl RequestNeeds {
    /// Returns what the layer added to a request.
    fn of(parts: &Parts) -> Result<&Self, ApiError> {
        let missing = || ApiError::new(ErrorCode::Internal, "the request has no caller; this is a bug of Esker");
        parts.extensions.get::<Self>().ok_or_else(missing)
    }

    /// Marks the request as checked.
    fn mark(&self) {
        self.checked.store(true, Ordering::Relaxed);
    }

    /// Returns the check of the operation.
    fn check(&self) -> Option<Check> {
        self.needs.map(|needs| needs.check)
    }
}

/// Adds the caller to a request, checks what its operation needs on the server, and runs it.
///
/// An answer of success without the check that the operation's row names is a bug, and becomes an error.
///
/// The audit trail has a record of a change before it is made, if changes need one, and of the outcome.
pub(crate) async fn enforce(app: &App, authenticated: &Authenticated, peer: &Peer, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let needs = route.and_then(|route| needs_of(request.method(), route));
    let identity = authenticated.identity();
    let trail = trail_of(app.access().audit(), &identity, peer, &request, (route, needs));
    let mut outcome = OutcomeGuard::new(trail.clone());
    let response = check_and_run(app, (&authenticated.principal, identity), peer, (needs, trail), request, next).await;
    outcome.answered(response.status().as_u16());
    response
}

/// Does the work of [`enforce`], which records the outcome.
async fn check_and_run(
    app: &App,
    (principal, identity): (&Principal, Identity),
    peer: &Peer,
    (needs, trail): (Option<&'static OperationNeeds>, Option<Arc<RequestTrail>>),
    mut request: Request,
    next: Next,
) -> Response {
    let operation = needs.map_or("unknown", |needs| needs.id);
    let facts = RequestFacts { operation: operation.into(), source_ip: Some(peer.address), engine: None, is_tls: peer.is_tls };
    let caller = match app.access().audited_caller(identity, facts, trail.clone()).await {
        Ok(caller) => caller,
        Err(e) => return ApiError::from(e).into_response(),
    };
    if let Some(trail) = &trail {
        request = match name_object(app, trail, operation, request).await {
            Ok(request) => request,
            Err(e) => return e.into_response(),
        };
    }
    let (principal, checked) = (principal.clone(), Arc::default());
    let access = RequestNeeds { principal, caller: caller.clone(), needs, checked, trail: trail.clone() };
    match access.check() {
        Some(Check::Open) => access.mark(),
        Some(Check::Server(required)) => {
            if let Err(e) = caller.require(&Need { on: ResourcePath::SERVER, required }) {
                return ApiError::from(e).into_response();
            }
            access.mark();
        }
        _ => {}
    }
    // Every other check asks for a privilege, which is recorded.
    if matches!(access.check(), None | Some(Check::Open | Check::Handler(_) | Check::Filtered(_))) {
        caller.record_break_glass();
    }
    if let Some(trail) = trail
        && let Err(e) = trail.begin().await
    {
        return ApiError::from(e).into_response();
    }
    request.extensions_mut().insert(access.clone());
    let response = next.run(request).await;
    let succeeded = response.status().is_success() || response.status().is_redirection();
    if succeeded && !access.checked.load(Ordering::Relaxed) {
        let needs = needs.map(|needs| needs.check.to_string());
        tracing::error!(operation, needs, "an operation was answered without a check of its privileges");
        let what = format!("nobody checked the privileges of {operation}; this is a bug of Esker");
        return ApiError::new(ErrorCode::Internal, what).into_response();
    }
    if succeeded && CHANGES_RULES.contains(&operation) {
        app.access().refresh_after(&caller);
    }
    response
}

impl App {
    /// Makes the next request compare the rules with the database, after a change that may have given or taken rights.
    pub(crate) fn forget_rules_of(&self, authority: &Authority) {
        if let Authority::Caller(caller) = authority {
            self.access().refresh_after(caller);
        }
    }

    /// Returns a warehouse by its name, if the caller sees it. The error is that of a missing one.
    pub(crate) fn visible_warehouse(&self, name: &str, authority: &Authority) -> Result<&Maintenance, ApiError> {
        let warehouse = self.warehouse(name)?;
        authority.require(&Need { on: warehouse.catalog().warehouse_path(), required: Required::NOTHING })?;
        Ok(warehouse)
    }
}

/// The caller of a request, by whom a handler checks what its operation needs.
#[derive(Debug, Clone)]
pub(crate) struct RequestAccess(RequestNeeds);

impl FromRequestParts<App> for RequestAccess {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        RequestNeeds::of(parts).cloned().map(Self)
    }
}

/// Makes the error for a handler that checks something else than the row of its operation says.
fn other_check() -> ApiError {
    ApiError::new(ErrorCode::Internal, "the operation checks other privileges than it should; this is a bug of Esker")
}

impl RequestAccess {
    /// Returns the principal.
    pub(crate) const fn principal(&self) -> &Principal {
        &self.0.principal
    }

    /// Tells the audit trail the object of a request that names it in its body, where the catalog does not know it.
    pub(crate) fn names_object(&self, kind: &str, name: &str) {
        if let Some(trail) = &self.0.trail {
            trail.set_object(kind, name);
        }
    }

    /// Returns the identity, by which the rules decide.
    pub(crate) fn identity(&self) -> &Identity {
        self.0.caller.subject().identity()
    }

    /// Returns the row of a table by its name, after the check that the operation needs on it.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorCode::NoSuchTable`] if the table does not exist or is hidden, and [`ErrorCode::Forbidden`] if privileges are
    /// missing.
    pub(crate) async fn table(&self, catalog: &Catalog, name: &TableName) -> Result<TabularRow, ApiError> {
        let Some(Check::Table(required)) = self.0.check() else { return Err(other_check()) };
        let row = catalog.permitted_table(name, required, &self.quiet_authority()).await?;
        self.0.mark();
        Ok(row)
    }

    /// Returns the row of a table like [`Self::table`], and the rights by which its files are read: those of the caller, or of the
    /// owner of a view through which it reads the table.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::table`], and those of [`definer_of`].
    pub(crate) async fn table_through(
        &self,
        app: &App,
        catalog: &Catalog,
        name: &TableName,
        chain: &ReferencedBy,
    ) -> Result<(TabularRow, CredentialRights), ApiError> {
        let Some(Check::Table(required)) = self.0.check() else { return Err(other_check()) };
        let caller = self.quiet_authority();
        if !chain.is_empty()
            && let Ok(row) = catalog.table(name).await
            && let Some(owner) = definer_of(app, catalog, &caller, chain, &row).await?
        {
            // The record of the request gets the rule by which the owner reads the table.
            catalog.require_tabular(&owner, name, &row, required)?;
            self.0.mark();
            return Ok((row, CredentialRights::Definer(owner)));
        }
        Ok((self.table(catalog, name).await?, CredentialRights::Rules(caller)))
    }

    /// Returns the row of a table like [`Self::table`], for an answer that tells of all rows and values.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::table`], and [`ErrorCode::Forbidden`] if row filters or column masks restrict the caller.
    pub(crate) async fn whole_table(&self, catalog: &Catalog, name: &TableName) -> Result<TabularRow, ApiError> {
        let row = self.table(catalog, name).await?;
        self.check_unrestricted(&row)?;
        Ok(row)
    }

    /// Checks that neither row filters nor column masks restrict the caller on a table, for an answer that tells of all rows.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorCode::Forbidden`] if they do.
    pub(crate) fn check_unrestricted(&self, row: &TabularRow) -> Result<(), ApiError> {
        match self.0.caller.restrictions(row.id) {
            None => Ok(()),
            Some(_) => Err(ApiError::new(ErrorCode::Forbidden, format!("table {}: {RESTRICTED}", row.name))),
        }
    }

    /// Returns the row of a view by its name, after the check that the operation needs on it.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorCode::NoSuchView`] if the view does not exist or is hidden, and [`ErrorCode::Forbidden`] if privileges are
    /// missing.
    pub(crate) async fn view(&self, catalog: &Catalog, name: &TableName) -> Result<TabularRow, ApiError> {
        let Some(Check::View(required)) = self.0.check() else { return Err(other_check()) };
        let row = catalog.permitted_view(name, required, &self.quiet_authority()).await?;
        self.0.mark();
        Ok(row)
    }

    /// Returns a namespace by its name, if the caller sees it, or sees or may create something in it.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorCode::NoSuchNamespace`] if the namespace does not exist or is hidden with everything in it.
    pub(crate) async fn namespace(&self, catalog: &Catalog, name: &NamespaceName) -> Result<NamespaceRow, ApiError> {
        let Some(Check::Namespace(_)) = self.0.check() else { return Err(other_check()) };
        let row = catalog.visible_namespace(name, &self.quiet_authority()).await?;
        self.0.mark();
        Ok(row)
    }

    /// Returns the authority by which a handler filters its answer or checks a need of its own.
    pub(crate) fn authority(&self) -> Authority {
        if matches!(self.0.check(), Some(Check::Filtered(_) | Check::Handler(_))) {
            self.0.mark();
        }
        self.quiet_authority()
    }

    /// Returns the authority for a part of the answer, after the check of the operation.
    pub(crate) fn quiet_authority(&self) -> Authority {
        Authority::Caller(self.0.caller.clone())
    }

    /// Checks needs that depend on more than the route.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorCode::Forbidden`] if privileges are missing, or the error of a missing thing for a hidden one.
    pub(crate) fn require<'n>(&self, needs: impl Into<Needs<'n>>) -> Result<(), ApiError> {
        Ok(self.authority().require(needs)?)
    }

    /// Checks for a privilege on the server, for what an answer has of others.
    pub(crate) fn has_on_server(&self, privilege: Privilege) -> bool {
        self.authority().has(&ResourcePath::SERVER, Required::privilege(privilege))
    }

    /// Checks that a name is that of the caller, as jobs and queries have it.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.0.caller.subject().identity().to_string() == name
    }

    /// Checks that a client is the caller. A person with the name of a client is not that client.
    pub(crate) fn is_client(&self, client: &str) -> bool {
        matches!(self.0.caller.subject().identity(), Identity::Client { name } if &**name == client)
    }
}

/// Checks that the caller sees a warehouse, and has what the operation needs on it.
///
/// # Errors
///
/// Returns [`ErrorCode::NoSuchWarehouse`] if the warehouse is hidden, and [`ErrorCode::Forbidden`] if privileges are missing.
pub(crate) fn check_warehouse(parts: &Parts, catalog: &Catalog) -> Result<(), ApiError> {
    let access = RequestNeeds::of(parts)?;
    let on = catalog.warehouse_path();
    match access.check() {
        Some(Check::Warehouse(required)) => {
            access.caller.require(&Need { on, required })?;
            access.mark();
        }
        _ => access.caller.require(&Need { on, required: Required::NOTHING })?,
    }
    Ok(())
}

/// Returns the caller, by whom a handler checks its needs itself.
///
/// # Errors
///
/// Returns [`ErrorCode::Internal`] if the request has no caller.
pub(crate) fn caller_of(parts: &Parts) -> Result<Arc<Caller>, ApiError> {
    let access = RequestNeeds::of(parts)?;
    if matches!(access.check(), Some(Check::Filtered(_) | Check::Handler(_))) {
        access.mark();
    }
    Ok(access.caller.clone())
}

/// Returns the authority of a change, which the catalog checks.
///
/// # Errors
///
/// Returns [`ErrorCode::Internal`] if the request has no caller.
pub(crate) fn authority_of_change(parts: &Parts) -> Result<Authority, ApiError> {
    let access = RequestNeeds::of(parts)?;
    if matches!(access.check(), Some(Check::Catalog(_))) {
        access.mark();
    }
    Ok(Authority::Caller(access.caller.clone()))
}

/// Returns the authority by which an answer is restricted; `None` if the request has no caller.
pub(crate) fn authority_of_answer(parts: &Parts) -> Option<Authority> {
    parts.extensions.get::<RequestNeeds>().map(|access| Authority::Caller(access.caller.clone()))
}

/// Marks a request as checked that is answered from the receipt of an earlier one of the same principal.
pub(crate) fn mark_repeated(parts: &Parts) {
    if let Some(access) = parts.extensions.get::<RequestNeeds>() {
        access.mark();
    }
}
