//! The objects that bodies of requests name, for the audit trail: they are known before anything is done.
//!
//! A record has names only. So this reads the fields with names, and nothing else of a body. A body that can't be read names
//! nothing, and its handler refuses it. Start reading at [`name_object`].

use std::collections::BTreeMap;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use esker_access::Member;
use esker_auth::RequestTrail;
use esker_types::ErrorCode;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::extract::{namespace_in, read_body};
use crate::page::{MAX_FORM_BYTES, parse_form, typed};
use crate::{ApiError, App};

/// The operation of the page whose form names the object.
const FORM: &str = "pageChangeAccess";

/// The other operations whose bodies name the object.
const OPERATIONS: [&str; 15] = [
    "createNamespace",
    "createTable",
    "registerTable",
    "createView",
    "registerView",
    "renameTable",
    "renameView",
    "createRole",
    "setAccessMode",
    "createToken",
    "rotateTokens",
    "addGrant",
    "revokePrivileges",
    "addRowFilter",
    "setColumnMask",
];

/// The fields of all bodies that have names. Each body has some of them.
#[derive(Debug)]
struct NamesInBody {
    /// The action of a form.
    action: Value,
    /// The levels of a namespace.
    namespace: Value,
    name: Value,
    /// The present name of a table or view that gets another one.
    source: Value,
    role: Value,
    member: Value,
    principal: Value,
    mode: Value,
    privileges: Value,
    on: Value,
    to: Value,
    field: Value,
    id: Value,
}

/// Returns the text of a field; `None` if it has none.
fn text(field: &Value) -> Option<String> {
    match field {
        Value::String(found) => Some(found.trim().to_owned()).filter(|found| !found.is_empty()),
        Value::Array(levels) => Some(levels.iter().map(text).collect::<Option<Vec<_>>>()?.join(".")),
        Value::Object(_) => Member::deserialize(field).ok().as_ref().map(typed),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Returns the name of a table or view that has its namespace beside it.
fn identifier(field: &Value) -> Option<String> {
    Some(format!("{}.{}", text(&field["namespace"])?, text(&field["name"])?))
}

impl NamesInBody {
    /// Collects the names by a function that returns a field, or null for one that is not there.
    fn of_fields(field: impl Fn(&str) -> Value) -> Self {
        let [action, namespace, name, source] = ["action", "namespace", "name", "source"].map(&field);
        let [role, member, principal, mode] = ["role", "member", "principal", "mode"].map(&field);
        let [privileges, on, to, named, id] = ["privileges", "on", "to", "field", "id"].map(&field);
        Self { action, namespace, name, source, role, member, principal, mode, privileges, on, to, field: named, id }
    }

    /// Reads the names in a JSON body; `None` if it is no object.
    ///
    /// Of a field that is there twice the last one counts. Handlers skip fields that they do not know, so that an error for these
    /// would let a body hide its names from the record.
    fn of_json(body: &[u8]) -> Option<Self> {
        let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(body).ok()?;
        Some(Self::of_fields(|key| fields.get(key).and_then(|text| serde_json::from_str(text.get()).ok()).unwrap_or_default()))
    }

    /// Reads the names in a form, as [`Self::of_json`] does.
    fn of_form(body: &[u8]) -> Option<Self> {
        let pairs: Vec<(String, String)> = parse_form(body).ok()?;
        let fields: BTreeMap<String, String> = pairs.into_iter().collect();
        Some(Self::of_fields(|key| fields.get(key).map(|text| Value::from(text.as_str())).unwrap_or_default()))
    }

    /// Returns the kind and the name of the object of an operation; `None` if the body does not have it.
    ///
    /// `namespace` is the one in the path.
    fn object(&self, operation: &str, namespace: Option<&str>) -> Option<(&'static str, String)> {
        let within = || Some(format!("{}.{}", namespace?, text(&self.name)?));
        let grant = || Some(format!("{} on {} to {}", text(&self.privileges)?, text(&self.on)?, text(&self.to)?));
        let member = || Some(format!("{}: {}", text(&self.role)?, text(&self.member)?));
        Some(match operation {
            "createNamespace" => ("namespace", text(&self.namespace)?),
            "createTable" | "registerTable" => ("table", within()?),
            "createView" | "registerView" => ("view", within()?),
            "renameTable" => ("table", identifier(&self.source)?),
            "renameView" => ("view", identifier(&self.source)?),
            "createRole" => ("role", text(&self.name)?),
            "setAccessMode" => ("mode", text(&self.mode)?),
            "createToken" | "rotateTokens" => ("client", text(&self.principal)?),
            "addGrant" | "revokePrivileges" => ("grant", grant()?),
            "addRowFilter" => ("row-filter", format!("on {} to {}", text(&self.on)?, text(&self.to)?)),
            "setColumnMask" => ("column-mask", format!("on {} of {}", text(&self.field)?, text(&self.on)?)),
            FORM => match text(&self.action)?.as_str() {
                "create-role" | "drop-role" => ("role", text(&self.role)?),
                "add-member" | "remove-member" => ("role", member()?),
                "grant" | "revoke" => ("grant", grant()?),
                "remove-grant" => ("grant", text(&self.id)?),
                _ => return None,
            },
            _ => return None,
        })
    }
}

/// Tells the trail of a request the object that its body names. Returns the request with its body.
///
/// # Errors
///
/// Returns [`ErrorCode::TooLarge`] if the body is over the limit of its route, and [`ErrorCode::BadRequest`] if it breaks off.
pub(crate) async fn name_object(app: &App, trail: &RequestTrail, operation: &str, request: Request) -> Result<Request, ApiError> {
    let is_form = operation == FORM;
    if !is_form && !OPERATIONS.contains(&operation) {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let bytes = match is_form {
        true => to_bytes(body, MAX_FORM_BYTES)
            .await
            .map_err(|_| ApiError::new(ErrorCode::TooLarge, format!("the form has more than {MAX_FORM_BYTES} bytes")))?,
        false => read_body(Request::from_parts(parts.clone(), body), app).await?,
    };
    let names = if is_form { NamesInBody::of_form(&bytes) } else { NamesInBody::of_json(&bytes) };
    let namespace = namespace_in(parts.uri.path()).map(|namespace| namespace.to_string());
    if let Some((kind, name)) = names.and_then(|names| names.object(operation, namespace.as_deref())) {
        trail.set_object(kind, &name);
    }
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::needs::OPERATIONS as ALL;

    #[test]
    fn the_object_of_a_body_is_what_it_names_and_nothing_else_of_it() {
        let identifier = |name: &str| json!({"namespace": ["a", "b"], "name": name});
        let (to, on) = (json!({"kind": "user", "issuer": "https://idp", "name": "ann"}), "table lake.n.t");
        for (operation, body, expected) in [
            ("createNamespace", json!({"namespace": ["a", "b"], "properties": {"k": "secret"}}), "namespace a.b"),
            ("createTable", json!({"name": "t", "properties": {"k": "secret"}}), "table n.t"),
            ("registerView", json!({"name": "v", "metadata-location": "secret"}), "view n.v"),
            ("renameTable", json!({"source": identifier("t"), "destination": identifier("u")}), "table a.b.t"),
            ("createRole", json!({"name": "readers"}), "role readers"),
            ("setAccessMode", json!({"mode": "off"}), "mode off"),
            ("createToken", json!({"principal": "etl", "label": "secret"}), "client etl"),
            (
                "addGrant",
                json!({"privileges": "SELECT", "on": on, "to": to}),
                "grant SELECT on table lake.n.t to user:ann@https://idp",
            ),
            (
                "addRowFilter",
                json!({"on": on, "to": to, "filter": "secret"}),
                "row-filter on table lake.n.t to user:ann@https://idp",
            ),
            ("setColumnMask", json!({"on": on, "field": "f", "action": "null"}), "column-mask on f of table lake.n.t"),
        ] {
            let names = NamesInBody::of_json(body.to_string().as_bytes()).expect("names");
            let (kind, name) = names.object(operation, Some("n")).expect(operation);
            assert_eq!(format!("{kind} {name}"), expected);
        }
        for body in [json!({}), json!({"name": 1}), json!({"namespace": [1]}), json!({"mode": null})] {
            let names = NamesInBody::of_json(body.to_string().as_bytes()).expect("names");
            assert!(OPERATIONS.iter().all(|operation| names.object(operation, Some("n")).is_none()), "{names:?}");
        }
    }

    #[test]
    fn a_form_of_the_page_names_its_role_member_or_grant() {
        for (form, expected) in [
            ("csrf=secret&action=create-role&role=readers", Some("role readers")),
            ("action=add-member&role=readers&member=client%3Abi", Some("role readers: client:bi")),
            (
                "action=grant&privileges=SELECT&on=namespace+lake.n&to=role%3Ar",
                Some("grant SELECT on namespace lake.n to role:r"),
            ),
            ("action=remove-grant&id=7", Some("grant 7")),
            ("action=other&role=readers", None),
            ("", None),
        ] {
            let found = NamesInBody::of_form(form.as_bytes()).and_then(|names| names.object(FORM, None));
            assert_eq!(found.map(|(kind, name)| format!("{kind} {name}")).as_deref(), expected, "{form}");
        }
    }

    #[test]
    fn a_field_that_is_there_twice_hides_no_name() {
        for body in [
            r#"{"id": 1, "name": "t", "id": 2}"#,
            r#"{"na\u006de": "t", "role": null, "role": {"a": []}}"#,
            r#"{"name": "s", "name": "t"}"#,
        ] {
            let found = NamesInBody::of_json(body.as_bytes()).and_then(|names| names.object("createTable", Some("n")));
            assert_eq!(found, Some(("table", "n.t".to_owned())), "{body}");
        }
        let form = b"name=1&action=create-role&name=2&role=readers";
        let found = NamesInBody::of_form(form).and_then(|names| names.object(FORM, None));
        assert_eq!(found, Some(("role", "readers".to_owned())));
        assert!(NamesInBody::of_json(b"[]").is_none() && NamesInBody::of_json(b"{").is_none());
    }

    #[test]
    fn every_operation_whose_body_is_read_exists() {
        for id in OPERATIONS.iter().chain(&[FORM]) {
            assert!(ALL.iter().any(|needs| needs.id == *id), "{id}");
        }
    }
}
