//! The answers of the crate `cedar-policy`, with the entities that a request has in Esker's schema.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request, Response,
    RestrictedExpression,
};
use esker_access::{Bundle, Identity, Leaf, Member, PolicyAnswer, Privilege, PrivilegeSet, ResourcePath, SecurableKind};

use crate::requests::Asked;

/// Attributes of an entity or of the context.
type Attributes = Vec<(String, RestrictedExpression)>;

/// Returns the name of an entity of Esker.
fn uid(kind: &str, id: &str) -> EntityUid {
    let kind = EntityTypeName::from_str(&format!("Esker::{kind}")).expect("a type");
    EntityUid::from_type_name_and_id(kind, EntityId::new(id))
}

/// Returns an attribute that is a text.
fn text(name: &str, value: &str) -> (String, RestrictedExpression) {
    (name.to_owned(), RestrictedExpression::new_string(value.to_owned()))
}

/// Creates an entity.
fn entity(uid: EntityUid, attributes: Attributes, parents: HashSet<EntityUid>) -> Entity {
    Entity::new(uid, attributes.into_iter().collect::<HashMap<_, _>>(), parents).expect("an entity")
}

/// Returns the entity of who asks.
fn principal(asked: &Asked) -> Entity {
    let mut parents: HashSet<EntityUid> = asked.roles.iter().map(|role| uid("Role", role)).collect();
    match &asked.identity {
        Identity::Client { name } => entity(uid("Client", name), Vec::new(), parents),
        Identity::User { issuer, name, claims } => {
            let member = Member::User { issuer: issuer.to_string(), name: name.to_string() };
            for value in claims {
                let claim = Member::Claim { issuer: issuer.to_string(), value: value.to_string() };
                parents.insert(uid("Claim", &claim.to_string()));
            }
            entity(uid("User", &member.to_string()), vec![text("issuer", issuer), text("subject", name)], parents)
        }
        Identity::Anonymous => entity(uid("Anonymous", "anonymous"), Vec::new(), parents),
    }
}

/// Returns the name of the entity at the end of a path.
fn uid_of(path: &ResourcePath<'_>) -> EntityUid {
    let kind = match path.kind() {
        SecurableKind::Server => return uid("Server", "server"),
        SecurableKind::Warehouse => "Warehouse",
        SecurableKind::Namespace => "Namespace",
        SecurableKind::Table => "Table",
        SecurableKind::View => "View",
        SecurableKind::Function => "Function",
    };
    uid(kind, &path.dotted())
}

/// Returns the entities of the securable and of all that contains it. Only the securable itself has attributes.
fn resources(on: &ResourcePath<'_>) -> Vec<Entity> {
    let mut parents = HashSet::new();
    let mut found = Vec::new();
    for step in on.steps() {
        let attributes = if step == *on { attributes_of(on) } else { Vec::new() };
        found.push(entity(uid_of(&step), attributes, parents.clone()));
        parents.insert(uid_of(&step));
    }
    found
}

/// Returns the attributes of a securable.
fn attributes_of(path: &ResourcePath<'_>) -> Attributes {
    let Some((_, warehouse)) = path.warehouse_part() else { return Vec::new() };
    let Some(key) = path.namespace_part() else { return vec![text("name", warehouse), text("warehouse", warehouse)] };
    let last = key.rsplit('\u{1f}').next().unwrap_or(key);
    let name = match path.leaf() {
        Some(Leaf::Table { name, .. } | Leaf::View { name, .. } | Leaf::Function { name }) => name,
        None => last,
    };
    let namespace = ResourcePath::warehouse(1, warehouse).namespace(key).dotted();
    // No warehouse of a request has a name that stands in quotes.
    let levels = namespace.strip_prefix(warehouse).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default();
    vec![text("name", name), text("warehouse", warehouse), text("namespace", levels)]
}

/// Returns the entities of all actions: each privilege is in the bundles that have it.
fn actions() -> Vec<Entity> {
    let bundles = Bundle::ALL.map(|bundle| (bundle, bundle.privileges(SecurableKind::Server, PrivilegeSet::ALL)));
    let of_privilege = |privilege: Privilege| {
        let has = bundles.iter().filter(|(_, privileges)| privileges.has(privilege));
        let parents = has.map(|(bundle, _)| uid("Action", bundle.as_str())).collect();
        Entity::new_no_attrs(uid("Action", privilege.as_str()), parents)
    };
    let groups = Bundle::ALL.into_iter().map(|bundle| Entity::new_no_attrs(uid("Action", bundle.as_str()), HashSet::new()));
    Privilege::ALL.into_iter().map(of_privilege).chain(groups).collect()
}

/// Returns the facts of a request.
fn context(asked: &Asked) -> Context {
    let facts = &asked.facts;
    let mut pairs = vec![("tls".to_owned(), RestrictedExpression::new_bool(facts.is_tls)), text("operation", &facts.operation)];
    pairs.extend(facts.engine.as_ref().map(|engine| text("engine", engine)));
    pairs.extend(facts.source_ip.map(|ip| ("ip".to_owned(), RestrictedExpression::new_ip(ip.to_string()))));
    Context::from_pairs(pairs).expect("a context")
}

/// What errors of conditions say that a check of types finds before.
const ILL_TYPED: [&str; 3] = ["type error", "record does not have the attribute", "extension function"];

/// Evaluates a policy, whose text begins behind `permit` or `forbid`.
///
/// # Errors
///
/// Returns the message of the parser, or of a condition that has wrong types: Esker must refuse both when a policy is stored.
pub fn evaluate(body: &str, asked: &Asked) -> Result<PolicyAnswer, String> {
    let policies = PolicySet::from_str(&format!("permit {body}")).map_err(|e| e.to_string())?;
    let response = respond(&policies, asked);
    let diagnostics = response.diagnostics();
    match (diagnostics.reason().next(), diagnostics.errors().next().map(ToString::to_string)) {
        (Some(_), _) => Ok(PolicyAnswer::Satisfied),
        (None, Some(error)) if ILL_TYPED.iter().any(|what| error.contains(what)) => Err(error),
        (None, Some(_)) => Ok(PolicyAnswer::Error),
        (None, None) => Ok(PolicyAnswer::NotSatisfied),
    }
}

/// Decides on a request by all policies of a text.
///
/// # Panics
///
/// Panics if the text can't be parsed.
pub fn allows(text: &str, asked: &Asked) -> bool {
    let policies = PolicySet::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    respond(&policies, asked).decision() == Decision::Allow
}

/// Asks the authorizer about a request.
fn respond(policies: &PolicySet, asked: &Asked) -> Response {
    let (who, chain) = (principal(asked), resources(&asked.on));
    let action = uid("Action", asked.privilege.as_str());
    let request = Request::new(who.uid(), action, uid_of(&asked.on), context(asked), None).expect("a request");
    let entities = Entities::from_entities([who].into_iter().chain(chain).chain(actions()), None).expect("entities");
    Authorizer::new().is_authorized(&request, policies, &entities)
}
