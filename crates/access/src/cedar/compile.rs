//! Compiles stored texts: reads and checks the policies, names them, and indexes them by their principals and resources.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::ast::{Policy, Scope};
use super::check::check;
use super::guard::GuardIndex;
use super::lexer::{Issue, Parsed};
use super::parser::parse;
use super::schema::EntityKind;
use super::select::CompiledPolicies;
use super::value::Entity;
use crate::{AccessPolicies, PolicyRow, Result, RightsError};

/// Checks that a text has policies that can be stored under a name.
///
/// # Errors
///
/// Returns [`RightsError::BadPolicy`] with the first place that is wrong: a text that is no policy, that is longer than 64 KiB,
/// or that names what the schema does not have.
pub fn check_policy(name: &str, text: &str) -> Result<()> {
    policies_of(name, text).map(drop)
}

/// Compiles stored policies; `None` if there are none.
///
/// # Errors
///
/// Returns [`RightsError::BadPolicy`] if a text can't be used.
pub(crate) fn compile(rows: &[PolicyRow]) -> Result<Option<Arc<dyn AccessPolicies>>> {
    if rows.is_empty() {
        return Ok(None);
    }
    let (mut ids, mut policies) = (Vec::new(), Vec::new());
    for row in rows {
        for (id, policy) in policies_of(&row.name, &row.text)? {
            ids.push(id);
            policies.push(policy);
        }
    }
    Ok(Some(Arc::new(CompiledPolicies::new(PolicyIndex::new(ids, policies)))))
}

/// Reads and checks the policies of a text. Returns each with its id.
fn policies_of(name: &str, text: &str) -> Result<Vec<(Box<str>, Policy)>> {
    checked(name, text).map_err(|Issue { at, what }| RightsError::BadPolicy {
        name: name.to_owned(),
        line: at.line,
        column: at.column,
        what,
    })
}

/// Reads and checks the policies of a text. The one policy of a text has its name, others have their number or `@id` after it.
fn checked(name: &str, text: &str) -> Parsed<Vec<(Box<str>, Policy)>> {
    let policies = parse(text)?;
    let is_alone = policies.len() == 1;
    let mut ids = HashSet::new();
    let mut named = Vec::with_capacity(policies.len());
    for (number, policy) in (1..).zip(policies) {
        check(&policy)?;
        let id: Box<str> = match &policy.id {
            _ if is_alone => name.into(),
            Some(id) => format!("{name}#{id}").into(),
            None => format!("{name}#{number}").into(),
        };
        if !ids.insert(id.clone()) {
            return Err(Issue::new(policy.at, format!("there are two policies with the id {id}; give each another @id")));
        }
        named.push((id, policy));
    }
    Ok(named)
}

/// All policies, indexed.
#[derive(Debug)]
pub(super) struct PolicyIndex {
    /// Ids of the policies, by their numbers.
    ids: Vec<Box<str>>,
    /// The policies, by their numbers.
    pub(super) policies: Vec<Policy>,
    /// The policies by the principals that they name.
    pub(super) principals: ScopeIndex,
    /// The policies by the resources that they name.
    pub(super) resources: ScopeIndex,
    /// The policies that name no resource in their scope, and have a guard.
    pub(super) guards: GuardIndex,
}

impl PolicyIndex {
    /// Indexes policies.
    fn new(ids: Vec<Box<str>>, policies: Vec<Policy>) -> Self {
        let principals = ScopeIndex::new(policies.iter().map(|policy| &policy.principal));
        let resources = ScopeIndex::new(policies.iter().map(|policy| &policy.resource));
        let mut guards = GuardIndex::default();
        for (number, policy) in (0..).zip(&policies) {
            if let Some(guard) = policy.guard() {
                guards.add(number, guard);
            }
        }
        Self { ids, policies, principals, resources, guards }
    }

    /// Returns the id of a policy.
    pub(super) fn id(&self, policy: u32) -> Option<&str> {
        self.ids.get(policy as usize).map(|id| &**id)
    }
}

/// The numbers of policies by the entity that a scope names.
#[derive(Debug)]
pub(super) struct ScopeIndex {
    /// The policies whose scope names no entity.
    pub(super) unnamed: Vec<u32>,
    /// The policies by type and id of the entity.
    named: Vec<HashMap<Box<str>, Vec<u32>>>,
}

impl ScopeIndex {
    /// Indexes the scopes of all policies.
    fn new<'a>(scopes: impl Iterator<Item = &'a Scope>) -> Self {
        let mut index = Self { unnamed: Vec::new(), named: EntityKind::ALL.map(|_| HashMap::new()).into() };
        for (number, scope) in (0..).zip(scopes) {
            match &scope.entity {
                None => index.unnamed.push(number),
                Some((_, entity)) => index.named[entity.kind as usize].entry(entity.id.clone()).or_default().push(number),
            }
        }
        index
    }

    /// Returns the policies whose scope names an entity.
    pub(super) fn of(&self, entity: Entity<'_>) -> &[u32] {
        self.named[entity.kind as usize].get(entity.id).map(Vec::as_slice).unwrap_or_default()
    }
}
