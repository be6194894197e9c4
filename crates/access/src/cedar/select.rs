//! Selects policies: for a subject once, then for each question.

use std::sync::Arc;

use super::ast::{Policy, Scope};
use super::compile::PolicyIndex;
use super::eval::{applies, applies_at_best, applies_to_all, is_same};
use super::request::{Names, PrincipalEntity, Request};
use crate::{
    AccessPolicies, Identity, Member, MoveChanges, PolicyEffects, PolicyQuestion, PolicyScope, PrivilegeSet, ResourcePath,
    SubjectPolicies,
};

/// The policies of one version of the rules.
#[derive(Debug)]
pub(super) struct CompiledPolicies(Arc<PolicyIndex>);

impl CompiledPolicies {
    /// Makes the engine of some policies.
    pub(super) fn new(index: PolicyIndex) -> Self {
        Self(Arc::new(index))
    }
}

impl AccessPolicies for CompiledPolicies {
    fn select(&self, identity: &Identity, members: &[&Member]) -> Option<Box<dyn SubjectPolicies>> {
        let principal = PrincipalEntity::new(identity, members);
        let selected = self.0.numbers_for(&principal);
        if selected.is_empty() {
            return None;
        }
        let mut is_selected = vec![0_u64; self.0.policies.len().div_ceil(64)];
        for number in &selected {
            is_selected[*number as usize / 64] |= 1_u64 << (number % 64);
        }
        let is_unnamed = |number: &u32| {
            let policy = self.0.policy(*number);
            policy.resource.entity.is_none() && policy.guard().is_none()
        };
        let unnamed = selected.iter().copied().filter(is_unnamed).collect();
        let reads_operation = selected.iter().any(|number| self.0.policy(*number).reads_operation);
        let may_permit = selected.iter().any(|number| !self.0.policy(*number).forbids);
        let forbidding = selected.into_iter().filter(|number| self.0.policy(*number).forbids).collect();
        let index = self.0.clone();
        Some(Box::new(SelectedPolicies { index, principal, is_selected, unnamed, forbidding, may_permit, reads_operation }))
    }

    fn id(&self, policy: u32) -> Option<&str> {
        self.0.id(policy)
    }
}

impl PolicyIndex {
    /// Returns a policy by its number.
    fn policy(&self, number: u32) -> &Policy {
        &self.policies[number as usize]
    }

    /// Returns the numbers of the policies whose scope admits a principal, in their order.
    fn numbers_for(&self, principal: &PrincipalEntity) -> Vec<u32> {
        let itself = principal.entity();
        let named = principal.entities().flat_map(|entity| {
            let is_itself = entity == itself;
            self.principals.of(entity).iter().map(move |number| (*number, is_itself))
        });
        let all = named.chain(self.principals.unnamed.iter().map(|number| (*number, false)));
        let admitted = all.filter(|(number, is_itself)| self.policy(*number).principal.admits(itself.kind, *is_itself));
        let mut numbers: Vec<u32> = admitted.map(|(number, _)| number).collect();
        // A claim that a token has twice must not count twice.
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

/// The policies that can apply to one subject.
#[derive(Debug)]
struct SelectedPolicies {
    /// All policies.
    index: Arc<PolicyIndex>,
    /// The subject.
    principal: PrincipalEntity,
    /// One bit for each policy: it can apply to the subject.
    is_selected: Vec<u64>,
    /// Those of them whose scope names no resource, and that have no guard.
    unnamed: Vec<u32>,
    /// Those of them that forbid.
    forbidding: Vec<u32>,
    /// True if one of them permits.
    may_permit: bool,
    /// True if one of them reads the operation of the request.
    reads_operation: bool,
}

impl SelectedPolicies {
    /// Checks that a policy can apply to the subject.
    fn is_selected(&self, number: u32) -> bool {
        self.is_selected[number as usize / 64] >> (number % 64) & 1 == 1
    }

    /// Returns the numbers of the policies whose scope admits a resource and one of some privileges, in their order. Those
    /// whose guard does not hold are left out: their conditions are not met.
    fn numbers_for(&self, names: &Names<'_>, privileges: PrivilegeSet) -> Vec<u32> {
        let itself = names.entity();
        let admits = |number: u32, is_itself: bool| {
            let policy = self.index.policy(number);
            policy.actions.intersects(privileges) && policy.resource.admits(itself.kind, is_itself)
        };
        let mut numbers: Vec<u32> = self.unnamed.iter().copied().filter(|number| admits(*number, false)).collect();
        let unnamed = numbers.len();
        let mut guarded = Vec::new();
        self.index.guards.find(names, &mut guarded);
        numbers.extend(guarded.into_iter().filter(|number| self.is_selected(*number) && admits(*number, false)));
        for entity in names.entities() {
            let named = self.index.resources.of(entity).iter().copied().filter(|number| self.is_selected(*number));
            numbers.extend(named.filter(|number| admits(*number, entity == itself)));
        }
        if numbers.len() > unnamed {
            numbers.sort_unstable();
        }
        numbers
    }

    /// Evaluates the policies. `applies` checks that the conditions of one are met.
    fn evaluate(&self, question: &PolicyQuestion<'_>, applies: fn(&Policy, &Request<'_>) -> bool) -> PolicyEffects {
        let mut effects = PolicyEffects::default();
        let names = Names::new(question.on);
        let request = Request { principal: &self.principal, names: &names, facts: question.facts, action: "" };
        for number in self.numbers_for(&names, question.privileges) {
            let policy = self.index.policy(number);
            let asked = policy.actions.intersection(question.privileges);
            let privileges = if policy.reads_action {
                let one_by_one = asked.iter().filter(|one| applies(policy, &Request { action: one.as_str(), ..request }));
                one_by_one.collect()
            } else if applies(policy, &request) {
                asked
            } else {
                PrivilegeSet::EMPTY
            };
            match policy.forbids {
                true => effects.forbid(question, privileges, number),
                false => effects.permit(question, privileges, number),
            }
        }
        effects
    }

    /// Returns a place of a resource, with the policies whose scope admits it there.
    fn place<'a>(&self, of: &ResourcePath<'a>) -> Place<'a> {
        let names = Names::new(of);
        Place { numbers: self.numbers_for(&names, PrivilegeSet::ALL), names }
    }

    /// Makes a request without facts at a place.
    fn request_at<'a>(&'a self, place: &'a Place<'_>, action: &'static str) -> Request<'a> {
        Request { principal: &self.principal, names: &place.names, facts: None, action }
    }

    /// Checks that some request is permitted by a policy at a new place and not at the old one, or is forbidden by it at the
    /// old place and not at the new one.
    fn frees(&self, number: u32, action: &'static str, (from, to): (&Place<'_>, &Place<'_>)) -> bool {
        let policy = self.index.policy(number);
        let (applied, not) = if policy.forbids { (from, to) } else { (to, from) };
        let applies = |at: &Place<'_>| match at.numbers.binary_search(&number) {
            Ok(_) => applies_to_all(policy, &self.request_at(at, action)),
            Err(_) => Some(false),
        };
        match (applies(applied), applies(not)) {
            (Some(false), _) | (_, Some(true)) => false,
            (None, None) => {
                let (applied, not) = (self.request_at(applied, action), self.request_at(not, action));
                !policy.conditions.iter().all(|condition| is_same(&condition.expr, &applied, &not))
            }
            _ => true,
        }
    }
}

/// A place of a resource that is moved.
struct Place<'a> {
    /// The resource by its name there.
    names: Names<'a>,
    /// The numbers of the policies whose scope admits it there, in their order.
    numbers: Vec<u32>,
}

impl SubjectPolicies for SelectedPolicies {
    fn effects(&self, question: &PolicyQuestion<'_>) -> PolicyEffects {
        self.evaluate(question, applies)
    }

    fn effects_at_best(&self, on: &ResourcePath<'_>) -> PolicyEffects {
        let (privileges, needed) = (PrivilegeSet::ALL, PrivilegeSet::EMPTY);
        self.evaluate(&PolicyQuestion { on, privileges, needed, facts: None }, applies_at_best)
    }

    fn may_permit(&self) -> bool {
        self.may_permit
    }

    fn read_operation(&self) -> bool {
        self.reads_operation
    }

    fn changes_by_move(&self, from: &ResourcePath<'_>, to: &ResourcePath<'_>) -> MoveChanges {
        let (from, to) = (self.place(from), self.place(to));
        let mut numbers = [from.numbers.as_slice(), to.numbers.as_slice()].concat();
        numbers.sort_unstable();
        numbers.dedup();
        let mut changes = MoveChanges::default();
        for number in numbers {
            let policy = self.index.policy(number);
            let frees = |action| self.frees(number, action, (&from, &to));
            let freed = match policy.reads_action {
                true => policy.actions.iter().filter(|one| frees(one.as_str())).collect(),
                false if frees("") => policy.actions,
                false => PrivilegeSet::EMPTY,
            };
            let kind = if policy.forbids { &mut changes.not_forbidden } else { &mut changes.permitted };
            *kind = kind.union(freed);
        }
        changes
    }

    fn may_forbid(&self, on: &ResourcePath<'_>, scope: PolicyScope) -> PrivilegeSet {
        let names = Names::new(on);
        let forbidding = self.forbidding.iter().map(|number| self.index.policy(*number));
        let reaching = forbidding.filter(|policy| reaches(&policy.resource, &names, scope));
        reaching.fold(PrivilegeSet::EMPTY, |all, policy| all.union(policy.actions))
    }
}

/// Checks that a scope admits a resource or, if that is asked, something that can be in it.
fn reaches(scope: &Scope, names: &Names<'_>, on: PolicyScope) -> bool {
    let kind = names.kind();
    let entity = scope.entity.as_ref().map(|(_, entity)| entity.entity());
    let (holds, is_itself) = match entity {
        None => (true, false),
        Some(entity) => (names.place(entity).is_some(), entity == names.entity()),
    };
    if holds && scope.admits(kind, is_itself) {
        return true;
    }
    // The scope may name something around the resource, with everything in it, or something in the resource.
    let can_hold = |wanted| kind.can_contain(wanted);
    let is_below =
        holds && scope.admits(scope.kind.unwrap_or(kind), false) || entity.is_some_and(|entity| names.contains(entity));
    on == PolicyScope::WithContent && is_below && scope.kind.is_none_or(can_hold)
}
