//! The page of access control: the mode, roles with their members, grants, and explanations, with forms that change them, and the
//! access policies.
//!
//! It shows and changes what the API under `/api/v1/access` does, with the same rights. Start reading at [`show`].

use axum::Extension;
use axum::extract::State;
use axum::response::Redirect;
use bytes::Bytes;
use esker_access::{Caller, Member, Privilege, RESERVED_ROLES, RuleChange, SecurableKind, check_members_can_change};
use esker_auth::{AccessControl, GrantOrder};
use esker_catalog::NamedSecurable;
use esker_state::{StoredGrant, StoredMember};
use esker_types::{ErrorCode, now_ms};
use maud::{Markup, html};
use serde::Deserialize;

use super::visitor::{Visitor, parse_form};
use super::{ago, encode, page};
use crate::access::RequestAccess;
use crate::extract::{QueryParams, RequestCaller};
use crate::management::{explain_to, find_securable, thing_of_grant};
use crate::{ApiError, App};

/// The kinds of future things that a grant can be on.
const FUTURE: [SecurableKind; 4] = [SecurableKind::Namespace, SecurableKind::Table, SecurableKind::View, SecurableKind::Function];

/// The parameters of the page. An empty one counts as missing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AccessPageQuery {
    /// The thing whose grants are shown.
    on: String,
    /// The principal that is asked about.
    who: String,
    /// The privileges that are asked about.
    privileges: String,
    /// The thing that is asked about. Without it, nothing is explained.
    of: String,
}

/// The fields of the forms. Each form has some of them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AccessForm {
    /// What is done: `create-role`, `drop-role`, `add-member`, `remove-member`, `grant`, `revoke` or `remove-grant`.
    action: String,
    /// Name of the role.
    role: String,
    /// The member of the role.
    member: String,
    /// Holder of the grant.
    to: String,
    /// The privileges of the grant.
    privileges: String,
    /// The thing of the grant.
    on: String,
    /// Kind of the future things of the grant; empty for the thing itself.
    future: String,
    /// Id of the grant.
    id: String,
    /// The thing whose grants the reader looked at.
    back: String,
}

/// Returns a field if it is not empty.
fn filled(field: &str) -> Option<&str> {
    Some(field.trim()).filter(|field| !field.is_empty())
}

/// Returns a member in the form that people type: `client:bi`, `user:ann@https://idp.example`.
pub(crate) fn typed(member: &Member) -> String {
    match member.columns() {
        (kind, "", name) => format!("{kind}:{name}"),
        (kind, issuer, name) => format!("{kind}:{name}@{issuer}"),
    }
}

/// Shows the mode, the roles, the access policies and the grants that the reader may manage, and explains a decision
/// (`GET /access?on=&who=&privileges=&of=`).
pub(crate) async fn show(
    State(app): State<App>,
    visitor: Extension<Visitor>,
    access: RequestAccess,
    RequestCaller(caller): RequestCaller,
    QueryParams(query): QueryParams<AccessPageQuery>,
) -> Result<Markup, ApiError> {
    let rules = app.access().rules().await?;
    let manages = access.has_on_server(Privilege::ManageAccess);
    let roles = if manages { Some(roles(&app, &visitor).await?) } else { None };
    let policies = if manages { Some(policies(&app).await?) } else { None };
    let grants = grants(&app, &visitor, &caller, manages, filled(&query.on)).await;
    let explained = match filled(&query.of) {
        Some(of) => Some(match explain_to(&app, &caller, filled(&query.who), filled(&query.privileges), Some(of)).await {
            Ok(explanation) => explanation.to_string(),
            Err(e) => e.message().to_owned(),
        }),
        None => None,
    };
    let content = html! {
        h1 { "Access" }
        p { "Access control is " b { (rules.mode().as_str()) } ". The rules have version " (rules.version()) ". You are "
            code { (caller.subject().identity()) } " with the roles "
            @for (at, role) in caller.subject().roles().enumerate() { @if at > 0 { ", " } code { (role) } } "." }
        @if let Some(roles) = &roles { h2 { "Roles" } (roles) }
        @if let Some(policies) = &policies { h2 { "Policies" } (policies) }
        h2 { "Grants" }
        form.filter method="get" action="/access" {
            label for="on" { "On" } " "
            input id="on" name="on" value=(query.on) placeholder="table lake.raw.orders"; " "
            button { "Show" }
            @if manages { " " a href="/access" { "all" } }
        }
        @match &grants { Ok(grants) => (grants), Err(e) => p.poor role="alert" { (e.message()) } }
        h2 { "Explain" }
        (explain_form(&query))
        @if let Some(text) = &explained { pre { (text) } }
    };
    Ok(page(&visitor, "Access", &content))
}

/// Renders the roles with their members, and the forms that change them.
async fn roles(app: &App, visitor: &Visitor) -> Result<Markup, ApiError> {
    let created = app.access().roles().await?;
    let members = app.access().members().await?;
    let names = RESERVED_ROLES.into_iter().chain(created.iter().map(|role| role.name.as_str()));
    Ok(html! {
        div.scroll { table {
            thead { tr { th { "Role" } th { "Members" } th { "" } } }
            tbody { @for name in names { tr {
                td { code { (name) } }
                td { (members_of(name, &members, visitor)) }
                td { @if !RESERVED_ROLES.contains(&name) { (button_form(visitor, "drop-role", &[("role", name)], "Drop")) } }
            } } }
        } }
        form.filter method="post" action="/access" {
            (visitor.field()) input type="hidden" name="action" value="create-role";
            label for="new-role" { "New role" } " " input id="new-role" name="role" required; " " button { "Create" }
        }
        form.filter method="post" action="/access" {
            (visitor.field()) input type="hidden" name="action" value="add-member";
            label for="member" { "Add" } " " input id="member" name="member" placeholder="client:bi" required; " "
            label for="to-role" { "to the role" } " " input id="to-role" name="role" required; " " button { "Add" }
        }
        p.soft { "Members are " code { "role:NAME" } ", " code { "client:NAME" } ", " code { "user:NAME@ISSUER" } " and "
            code { "claim:VALUE@ISSUER" } "." }
    })
}

/// Renders the direct members of a role, each with a button that removes it if people may do that.
fn members_of(role: &str, members: &[StoredMember], visitor: &Visitor) -> Markup {
    let can_change = check_members_can_change(role).is_ok();
    html! {
        @for stored in members.iter().filter(|stored| stored.row.role == role) {
            @let member = typed(&stored.row.member);
            div.actions {
                code { (member) }
                @if can_change { (button_form(visitor, "remove-member", &[("role", role), ("member", member.as_str())], "Remove")) }
            }
        }
    }
}

/// Renders the access policies with their texts. The command line and the API change them.
async fn policies(app: &App) -> Result<Markup, ApiError> {
    let stored = app.access().policies().await?;
    Ok(html! {
        @if stored.is_empty() { p.soft { "None." } } @else {
            div.scroll { table {
                thead { tr { th { "Policy" } th { "Text" } th { "By" } th { "Changed" } } }
                tbody { @for policy in &stored { tr {
                    td { code { (policy.name) } }
                    td { details { summary { "in Cedar" } pre { (policy.text) } } }
                    td { (policy.changed_by) }
                    td { (ago(policy.changed_ms, now_ms())) }
                } } }
            } }
        }
    })
}

/// Renders a form that is only a button, with hidden fields.
fn button_form(visitor: &Visitor, action: &str, fields: &[(&str, &str)], label: &str) -> Markup {
    html! {
        form method="post" action="/access" {
            (visitor.field()) input type="hidden" name="action" value=(action);
            @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
            button { (label) }
        }
    }
}

/// Renders the grants on a thing, or all of them for who manages access, with the form that adds one.
///
/// # Errors
///
/// Returns [`ErrorCode::BadRequest`] if the text names no thing, the error of its kind if it does not exist, and
/// [`ErrorCode::Forbidden`] if the reader does not manage its grants.
async fn grants(app: &App, visitor: &Visitor, caller: &Caller, manages: bool, on: Option<&str>) -> Result<Markup, ApiError> {
    let found = match on {
        Some(text) => Some(find_securable(app, caller, text).await?),
        None if manages => None,
        None => return Ok(html! { p.soft { "Name a thing whose grants you manage." } }),
    };
    let thing = found.as_ref().map(|found| (&found.securable, found.path()));
    let all = app.access().listed_grants(caller, thing, None).await?;
    let back = found.as_ref().map(NamedSecurable::text).unwrap_or_default();
    Ok(html! {
        @if all.is_empty() { p.soft { "None." } } @else {
            div.scroll { table {
                thead { tr {
                    th { "To" } th { "Privileges" } th { "On" } th { "Future" } th { "By" } th { "Granted" } th { "" }
                } }
                tbody { @for stored in &all { (grant_row(app, visitor, stored, &back)) } }
            } }
        }
        form.filter method="post" action="/access" {
            (visitor.field()) input type="hidden" name="action" value="grant"; input type="hidden" name="back" value=(back);
            label for="privileges" { "Grant" } " " input id="privileges" name="privileges" placeholder="SELECT" required; " "
            label for="grant-on" { "on" } " "
            input id="grant-on" name="on" value=(back) placeholder="namespace lake.raw" required; " "
            label for="to" { "to" } " " input id="to" name="to" placeholder="role:readers" required; " "
            label for="future" { "for future" } " "
            select id="future" name="future" {
                option value="" { "no, the thing itself" }
                @for kind in FUTURE { option value=(kind.as_str()) { (kind.as_str()) "s" } }
            } " "
            button { "Grant" }
        }
    })
}

/// Renders the row of a grant.
fn grant_row(app: &App, visitor: &Visitor, stored: &StoredGrant, back: &str) -> Markup {
    let kind = stored.row.on.kind();
    let name = thing_of_grant(app, stored).map_or_else(|| format!("{kind} that is gone"), |found| found.text());
    html! {
        tr {
            td { code { (typed(&stored.row.to)) } }
            td { (stored.row.privileges) }
            td { (name) }
            td { @if let Some(future) = stored.row.future { (future.as_str()) "s" } }
            td { (stored.created_by) }
            td { (ago(stored.created_ms, now_ms())) }
            td { (button_form(visitor, "remove-grant", &[("id", stored.row.id.as_str()), ("back", back)], "Remove")) }
        }
    }
}

/// Renders the form of a question, with its fields as they were sent.
fn explain_form(query: &AccessPageQuery) -> Markup {
    html! {
        form.filter method="get" action="/access" {
            input type="hidden" name="on" value=(query.on);
            label for="who" { "May" } " " input id="who" name="who" value=(query.who) placeholder="yourself"; " "
            label for="asked" { "use" } " " input id="asked" name="privileges" value=(query.privileges) placeholder="SELECT"; " "
            label for="of" { "on" } " " input id="of" name="of" value=(query.of) placeholder="table lake.raw.orders" required; " "
            button { "Explain" }
        }
        p.soft { "Others are " code { "client:NAME" } ", " code { "user:NAME@ISSUER" } " and " code { "anonymous" }
            ". Claims of others are not known." }
    }
}

/// Changes roles, members or grants by a form, and goes back to the page (`POST /access`).
pub(crate) async fn change(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    body: Bytes,
) -> Result<Redirect, ApiError> {
    let form: AccessForm = parse_form(&body)?;
    let role = form.role.trim().to_owned();
    match form.action.as_str() {
        "create-role" => manage(&app, &caller, RuleChange::CreateRole { role }).await?,
        "drop-role" => manage(&app, &caller, RuleChange::DropRole { role }).await?,
        "add-member" => manage(&app, &caller, RuleChange::AddMember { role, member: form.member.trim().parse()? }).await?,
        "remove-member" => manage(&app, &caller, RuleChange::RemoveMember { role, member: form.member.trim().parse()? }).await?,
        "grant" | "revoke" => change_grant(&app, &caller, &form).await?,
        "remove-grant" => {
            let stored = app.access().grant_by_id(&form.id).await?;
            let found = thing_of_grant(&app, &stored);
            app.access().remove_grant(&caller, &stored, found.as_ref().map(|found| found.path())).await?;
        }
        _ => return Err(ApiError::new(ErrorCode::BadRequest, "the form has no known action; open its page again")),
    }
    Ok(Redirect::to(&match filled(&form.back) {
        Some(on) => format!("/access?on={}", encode(on)),
        None => "/access".to_owned(),
    }))
}

/// Makes a change that needs the privilege to manage access on the server.
async fn manage(app: &App, caller: &Caller, change: RuleChange) -> Result<(), ApiError> {
    AccessControl::require_manager(caller)?;
    app.access().change(caller, vec![change]).await?;
    Ok(())
}

/// Grants or revokes privileges by a form.
async fn change_grant(app: &App, caller: &Caller, form: &AccessForm) -> Result<(), ApiError> {
    let wrong = || ApiError::new(ErrorCode::BadRequest, "the form names no kind of future things; open its page again");
    let future = filled(&form.future).map(|kind| SecurableKind::from_name(kind).ok_or_else(wrong)).transpose()?;
    let to: Member = form.to.trim().parse()?;
    let found = find_securable(app, caller, &form.on).await?;
    let order = GrantOrder { to, privileges: &form.privileges, on: &found.securable, path: found.path(), future };
    match form.action.as_str() {
        "revoke" => app.access().revoke(caller, order).await?,
        _ => drop(app.access().grant(caller, order).await?),
    }
    Ok(())
}
