//! Rules and callers that the tests of this crate share.

use std::sync::Arc;

use esker_types::{NamespaceName, TableId};
use uuid::Uuid;

use crate::model::covers;
use crate::{
    AccessPolicies, GrantRow, Identity, Member, MemberRow, MoveChanges, PolicyEffects, PolicyQuestion, PolicyScope, PrivilegeSet,
    ResourcePath, RoleRow, RuleRows, Rules, Securable, Subject, SubjectPolicies,
};

/// The id of the table `n` of the samples.
pub(crate) fn table(n: u128) -> TableId {
    TableId(Uuid::from_u128(n))
}

/// The namespace with a key.
pub(crate) fn namespace(key: &str) -> NamespaceName {
    NamespaceName::from_key(key).expect("a key")
}

/// The path to the table `raw.crm.orders`, which has the id 1.
pub(crate) fn orders() -> ResourcePath<'static> {
    ResourcePath::warehouse(1, "lake").namespace("raw\u{1f}crm").table(table(1), "orders")
}

/// A grant to a member.
pub(crate) fn grant(id: &str, to: Member, on: Securable, privileges: PrivilegeSet) -> GrantRow {
    GrantRow { id: id.to_owned(), to, on, privileges, future: None }
}

/// Rows with roles `readers` and `writers`, of which the writers are readers too.
pub(crate) fn rows(grants: Vec<GrantRow>) -> RuleRows {
    let roles = ["readers", "writers"].map(|name| RoleRow { name: name.to_owned() }).to_vec();
    let member = |role: &str, member| MemberRow { role: role.to_owned(), member };
    let members = vec![
        member("readers", Member::role("writers")),
        member("writers", Member::client("etl")),
        member("readers", Member::client("bi")),
        member("esker:admin", Member::client("root")),
        member("esker:break-glass", Member::client("break-glass-1")),
    ];
    RuleRows { version: 7, mode: crate::AccessMode::On, roles, members, grants, ..RuleRows::default() }
}

/// A client under the rules that rows make.
pub(crate) fn client(rows: RuleRows, name: &str) -> Subject {
    Subject::new(Arc::new(Rules::build(rows).expect("rules")), Identity::client(name))
}

/// Questions without the facts of a request. Outside of tests, a [`Caller`](crate::Caller) asks with those of its request.
impl Subject {
    /// Returns all privileges on a securable.
    pub(crate) fn effective(&self, on: &ResourcePath<'_>) -> PrivilegeSet {
        self.effective_by(on, None)
    }

    /// Checks that the subject may know that a securable exists.
    pub(crate) fn is_visible(&self, on: &ResourcePath<'_>) -> bool {
        self.is_visible_by(on, None)
    }

    /// Checks that the subject has privileges on a container and on everything in it.
    pub(crate) fn uniform_below(&self, container: &ResourcePath<'_>, privileges: PrivilegeSet) -> bool {
        self.uniform_below_by(container, privileges, None)
    }
}

/// An access policy of a test.
#[derive(Debug, Clone)]
pub(crate) struct TestPolicy {
    /// True for a policy that forbids, false for one that permits.
    pub(crate) forbids: bool,
    /// The principals that it applies to.
    pub(crate) to: Member,
    /// The securable that it applies to, with its content.
    pub(crate) on: Securable,
    pub(crate) privileges: PrivilegeSet,
    /// True if it applies to requests over TLS only. This condition fails without the facts of a request.
    pub(crate) needs_tls: bool,
}

impl TestPolicy {
    /// Checks that the policy applies to a request. `is_tls` says if it came over TLS; `None` if nothing is known of it.
    pub(crate) fn applies(&self, is_tls: Option<bool>) -> bool {
        !self.needs_tls || is_tls.unwrap_or(self.forbids)
    }
}

/// An engine of access policies that looks at each one. The id of the policy `n` is `policy-n`.
#[derive(Debug, Default)]
pub(crate) struct TestPolicies(Vec<(String, TestPolicy)>);

impl TestPolicies {
    /// Compiles policies.
    pub(crate) fn new(policies: Vec<TestPolicy>) -> Self {
        Self(policies.into_iter().enumerate().map(|(at, policy)| (format!("policy-{at}"), policy)).collect())
    }
}

impl AccessPolicies for TestPolicies {
    fn select(&self, _: &Identity, members: &[&Member]) -> Option<Box<dyn SubjectPolicies>> {
        let numbered = (0..).zip(&self.0).map(|(number, (_, policy))| (number, policy.clone()));
        let selected: Vec<(u32, TestPolicy)> = numbered.filter(|(_, policy)| members.contains(&&policy.to)).collect();
        if selected.is_empty() { None } else { Some(Box::new(Selected(selected))) }
    }

    fn id(&self, policy: u32) -> Option<&str> {
        self.0.get(policy as usize).map(|(id, _)| id.as_str())
    }
}

/// The policies of a test that can apply to a subject, with their numbers.
#[derive(Debug)]
struct Selected(Vec<(u32, TestPolicy)>);

impl SubjectPolicies for Selected {
    fn effects(&self, question: &PolicyQuestion<'_>) -> PolicyEffects {
        let mut effects = PolicyEffects::default();
        let is_tls = question.facts.map(|facts| facts.is_tls);
        for (number, policy) in self.0.iter().filter(|(_, policy)| covers(&policy.on, question.on) && policy.applies(is_tls)) {
            match policy.forbids {
                true => effects.forbid(question, policy.privileges, *number),
                false => effects.permit(question, policy.privileges, *number),
            }
        }
        effects
    }

    fn effects_at_best(&self, on: &ResourcePath<'_>) -> PolicyEffects {
        let mut effects = PolicyEffects::default();
        let question = PolicyQuestion { on, privileges: PrivilegeSet::ALL, needed: PrivilegeSet::EMPTY, facts: None };
        for (number, policy) in self.0.iter().filter(|(_, policy)| covers(&policy.on, on)) {
            match policy.forbids {
                true if policy.needs_tls => {}
                true => effects.forbid(&question, policy.privileges, *number),
                false => effects.permit(&question, policy.privileges, *number),
            }
        }
        effects
    }

    fn may_permit(&self) -> bool {
        self.0.iter().any(|(_, policy)| !policy.forbids)
    }

    fn read_operation(&self) -> bool {
        false
    }

    fn changes_by_move(&self, from: &ResourcePath<'_>, to: &ResourcePath<'_>) -> MoveChanges {
        let mut changes = MoveChanges::default();
        for (_, policy) in &self.0 {
            match (policy.forbids, covers(&policy.on, from), covers(&policy.on, to)) {
                (true, true, false) => changes.not_forbidden = changes.not_forbidden.union(policy.privileges),
                (false, false, true) => changes.permitted = changes.permitted.union(policy.privileges),
                _ => {}
            }
        }
        changes
    }

    fn may_forbid(&self, on: &ResourcePath<'_>, scope: PolicyScope) -> PrivilegeSet {
        let reaches = |policy: &TestPolicy| match (&policy.on, on.warehouse_part()) {
            // No more is known of a table, a view or a function than that they may lie in the container.
            (Securable::Warehouse { warehouse }, Some((id, _))) => *warehouse == id,
            (inside, _) => covers(inside, on) || scope == PolicyScope::WithContent,
        };
        let forbidding = self.0.iter().filter(|(_, policy)| policy.forbids && reaches(policy));
        forbidding.fold(PrivilegeSet::EMPTY, |all, (_, policy)| all.union(policy.privileges))
    }
}

/// A client under the rules that rows make, with access policies.
pub(crate) fn with_policies(rows: RuleRows, name: &str, policies: Vec<TestPolicy>) -> Subject {
    let rules = Rules::build(rows).expect("rules").with_policies(Arc::new(TestPolicies::new(policies)));
    Subject::new(Arc::new(rules), Identity::client(name))
}
