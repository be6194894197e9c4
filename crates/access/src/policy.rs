//! Access policies: rules with conditions, which count beside the grants.
//!
//! This file is the interface to an engine that evaluates them.
//! A privilege is allowed if a grant gives it or a policy permits it, and no policy forbids it. [`Rules`](crate::Rules) keep
//! the policies of one version, compiled by the engine ([`AccessPolicies`]). A [`Subject`](crate::Subject) keeps those that can
//! apply to it ([`SubjectPolicies`]), so a decision evaluates no others. Without policies, a decision costs one more branch.
//!
//! An engine evaluates each policy by itself, because errors are kept apart: a policy that permits does not apply if its
//! condition fails with an error, and one that forbids does. Start reading at [`SubjectPolicies::effects`].

use std::fmt;

use crate::{Identity, Member, PrivilegeSet, RequestFacts, ResourcePath};

/// The access policies of one version of the rules, compiled by an engine.
pub trait AccessPolicies: fmt::Debug + Send + Sync {
    /// Selects the policies whose principal can be a subject; `None` if there are none.
    ///
    /// It is called once for each subject. `members` are all members that stand for the subject: the principal, its claims and
    /// its roles.
    fn select(&self, identity: &Identity, members: &[&Member]) -> Option<Box<dyn SubjectPolicies>>;

    /// Returns the id of a policy by its number; `None` if there is no such policy.
    fn id(&self, policy: u32) -> Option<&str>;
}

/// The access policies that can apply to one subject.
pub trait SubjectPolicies: fmt::Debug + Send + Sync {
    /// Evaluates the policies that can apply to the privileges and the securable of a question.
    fn effects(&self, question: &PolicyQuestion<'_>) -> PolicyEffects;

    /// Evaluates the policies on all privileges for the requests that are best for the subject.
    ///
    /// A policy whose condition reads the facts of a request permits, and does not forbid. So privileges that some request has are
    /// not left out; some that none has may be among them.
    fn effects_at_best(&self, on: &ResourcePath<'_>) -> PolicyEffects;

    /// Checks that a policy may permit something, whatever it is about.
    fn may_permit(&self) -> bool;

    /// Checks that a policy reads the operation of the request. No answer about another request differs by it otherwise.
    fn read_operation(&self) -> bool;

    /// Compares the policies on a securable at its place with those at a new one, for every request.
    ///
    /// It may name too many privileges, and must not leave one out.
    fn changes_by_move(&self, from: &ResourcePath<'_>, to: &ResourcePath<'_>) -> MoveChanges;

    /// Returns the privileges that a policy may forbid, whatever the facts of the request are.
    ///
    /// It may name too many, and no condition is evaluated. It must not leave one out: lists that need no filter and the check
    /// that somebody manages access rely on it.
    fn may_forbid(&self, on: &ResourcePath<'_>, scope: PolicyScope) -> PrivilegeSet;
}

/// The securables that a question about a path is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyScope {
    /// The securable at the end of the path.
    Itself,
    /// That securable, and everything that it contains.
    WithContent,
}

/// A question to access policies.
#[derive(Debug, Clone, Copy)]
pub struct PolicyQuestion<'a> {
    /// Path to the securable.
    pub on: &'a ResourcePath<'a>,
    /// Privileges that are asked about.
    pub privileges: PrivilegeSet,
    /// Those of the privileges that the answer names policies for. The others only tell if the securable is seen.
    pub needed: PrivilegeSet,
    /// Facts of the request. Without them, a condition that reads one fails with an error.
    pub facts: Option<&'a RequestFacts>,
}

/// The effects of access policies on the privileges of a question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PolicyEffects {
    /// Privileges that policies permit, and the number of the last policy that permits a needed one.
    pub permitted: (PrivilegeSet, Option<u32>),
    /// Privileges that policies forbid, and the number of the last policy that forbids a needed one. A policy whose condition
    /// fails with an error counts.
    pub forbidden: (PrivilegeSet, Option<u32>),
}

/// The privileges that access policies give by the move of a securable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MoveChanges {
    /// Privileges that a policy permits some request at the new place, and does not permit this request at the old one.
    pub permitted: PrivilegeSet,
    /// Privileges that a policy forbids some request at the old place, and does not forbid this request at the new one.
    pub not_forbidden: PrivilegeSet,
}

impl PolicyEffects {
    /// Adds a policy that permits privileges. Those that the question is not about are left out.
    pub fn permit(&mut self, question: &PolicyQuestion<'_>, privileges: PrivilegeSet, policy: u32) {
        add(&mut self.permitted, question, privileges, policy);
    }

    /// Adds a policy that forbids privileges. Those that the question is not about are left out.
    pub fn forbid(&mut self, question: &PolicyQuestion<'_>, privileges: PrivilegeSet, policy: u32) {
        add(&mut self.forbidden, question, privileges, policy);
    }
}

/// Adds the privileges of a policy to an effect.
fn add(effect: &mut (PrivilegeSet, Option<u32>), question: &PolicyQuestion<'_>, privileges: PrivilegeSet, policy: u32) {
    effect.0 = effect.0.union(privileges.intersection(question.privileges));
    if privileges.intersects(question.needed) {
        effect.1 = Some(policy);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::samples::{TestPolicies, TestPolicy, grant, orders, rows, table, with_policies};
    use crate::{
        AccessDecision, AccessVerdict, Caller, Need, Privilege, Required, RightsError, RuleRef, RuleRows, Securable, Unrecorded,
    };

    const READ: Required = Required::privilege(Privilege::ReadData);

    fn readers_read_orders() -> RuleRows {
        let select = PrivilegeSet::of(&[Privilege::List, Privilege::ReadData]);
        rows(vec![grant("g1", Member::role("readers"), Securable::Table { table: table(1) }, select)])
    }

    /// A policy about reading everything.
    fn on_reads(forbids: bool, to: Member, needs_tls: bool) -> TestPolicy {
        let privileges = PrivilegeSet::of(&[Privilege::List, Privilege::ReadData]);
        TestPolicy { forbids, to, on: Securable::Server, privileges, needs_tls }
    }

    fn over_tls(is_tls: bool) -> RequestFacts {
        RequestFacts { is_tls, ..RequestFacts::default() }
    }

    #[test]
    fn a_policy_that_forbids_is_stronger_than_grants_and_permits() {
        let permit = on_reads(false, Member::client("bi"), false);
        let forbid = TestPolicy { privileges: Privilege::ReadData.into(), ..on_reads(true, Member::role("readers"), false) };
        let bi = with_policies(readers_read_orders(), "bi", vec![permit, forbid]);
        assert_eq!(bi.decide(&orders(), READ), AccessDecision::Deny { visible: true, missing: READ });
        assert_eq!(bi.effective(&orders()), PrivilegeSet::from(Privilege::List));
        let root = with_policies(readers_read_orders(), "root", vec![on_reads(true, Member::role("esker:admin"), false)]);
        assert!(!root.decide(&orders(), READ).is_allowed(), "administrators are no exception");
    }

    #[test]
    fn a_policy_that_permits_needs_no_grant_and_is_named() {
        let bi = with_policies(rows(Vec::new()), "bi", vec![on_reads(false, Member::role("readers"), false)]);
        assert_eq!(bi.decide(&orders(), READ), AccessDecision::Allow { rule: RuleRef::Policy(0) });
        assert_eq!(bi.rules().rule_name(RuleRef::Policy(0)), "policy-0");
        let other = with_policies(rows(Vec::new()), "other", vec![on_reads(false, Member::role("readers"), false)]);
        assert_eq!(other.decide(&orders(), READ), AccessDecision::Deny { visible: false, missing: READ });
    }

    #[test]
    fn the_policy_that_is_named_permits_what_was_needed() {
        let permit = on_reads(false, Member::client("bi"), false);
        let only = |privilege: Privilege| TestPolicy { privileges: privilege.into(), ..permit.clone() };
        let bi = with_policies(rows(Vec::new()), "bi", vec![only(Privilege::ReadData), only(Privilege::List)]);
        assert_eq!(bi.decide(&orders(), READ), AccessDecision::Allow { rule: RuleRef::Policy(0) });
    }

    #[test]
    fn a_thing_that_one_must_not_list_does_not_exist() {
        let forbid = TestPolicy { privileges: Privilege::List.into(), ..on_reads(true, Member::client("bi"), false) };
        let bi = with_policies(readers_read_orders(), "bi", vec![forbid]);
        assert!(!bi.is_visible(&orders()) && bi.decide(&orders(), READ).is_allowed());
        let drop = Required::privilege(Privilege::Drop);
        assert_eq!(bi.decide(&orders(), drop), AccessDecision::Deny { visible: false, missing: drop });
        assert!(!bi.decide(&orders(), Required::NOTHING).is_allowed());
    }

    #[test]
    fn a_condition_that_fails_with_an_error_permits_nothing_and_forbids() {
        let unless_known = vec![on_reads(true, Member::client("bi"), true)];
        let bi = with_policies(readers_read_orders(), "bi", unless_known);
        assert!(!bi.decide(&orders(), READ).is_allowed(), "without the facts of a request the condition fails");
        assert!(bi.decide_by(&orders(), READ, Some(&over_tls(false))).is_allowed());
        assert!(!bi.decide_by(&orders(), READ, Some(&over_tls(true))).is_allowed());
        let permit = with_policies(rows(Vec::new()), "bi", vec![on_reads(false, Member::client("bi"), true)]);
        assert!(!permit.decide(&orders(), READ).is_allowed());
        assert!(permit.decide_by(&orders(), READ, Some(&over_tls(true))).is_allowed());
    }

    #[test]
    fn a_caller_is_decided_by_the_facts_of_its_request() {
        let policies = || vec![on_reads(false, Member::client("bi"), true)];
        let caller = |is_tls| {
            let subject = Arc::new(with_policies(rows(Vec::new()), "bi", policies()));
            Caller::new(subject, over_tls(is_tls), Arc::new(Unrecorded))
        };
        let need = Need { on: orders(), required: READ };
        assert_eq!(caller(true).require(&need), Ok(()));
        assert!(caller(true).sees(&orders()) && caller(true).allows(&orders(), READ));
        assert!(matches!(caller(false).require(&need), Err(RightsError::Hidden { .. })));
        assert!(!caller(false).sees(&orders()) && !caller(false).allows(&orders(), READ));
    }

    fn caller(rows: RuleRows, policies: Vec<TestPolicy>, is_tls: bool) -> Caller {
        let subject = Arc::new(with_policies(rows, "bi", policies));
        Caller::new(subject, over_tls(is_tls), Arc::new(Unrecorded))
    }

    #[test]
    fn without_a_request_conditions_on_its_facts_permit_nothing_and_forbid() {
        let absent = |forbids| {
            let policies = vec![on_reads(forbids, Member::client("bi"), true)];
            let rows = if forbids { readers_read_orders() } else { rows(Vec::new()) };
            Caller::without_request(Arc::new(with_policies(rows, "bi", policies)), "startJob".into(), Arc::new(Unrecorded))
        };
        assert_eq!((&*absent(true).facts().operation, absent(true).known_facts()), ("startJob", None));
        assert!(!absent(true).allows(&orders(), READ) && !absent(false).allows(&orders(), READ));
        assert!(absent(true).under(Arc::new(crate::Rules::build(readers_read_orders()).expect("rules"))).allows(&orders(), READ));
    }

    #[test]
    fn every_answer_about_a_caller_is_by_the_facts_of_its_request() {
        let policies = || vec![on_reads(true, Member::client("bi"), true), on_reads(false, Member::role("readers"), false)];
        let (tls, plain) = (caller(rows(Vec::new()), policies(), true), caller(rows(Vec::new()), policies(), false));
        let read = PrivilegeSet::of(&[Privilege::List, Privilege::ReadData]);
        assert_eq!((tls.effective(&orders()), plain.effective(&orders())), (PrivilegeSet::EMPTY, read));
        assert_eq!((tls.granted(&orders()), plain.granted(&orders())), (PrivilegeSet::EMPTY, read));
        assert!(tls.is_forbidden(&orders(), Privilege::List.into()) && !plain.is_forbidden(&orders(), read));
        assert_eq!(plain.explain(&orders(), READ).rule.as_deref(), Some("policy-1"));
        assert_eq!(tls.explain(&orders(), READ).forbidden_by.as_deref(), Some("policy-0"));
    }

    #[test]
    fn a_refusal_names_the_policy_to_who_sees_the_thing() {
        let forbid = TestPolicy { privileges: Privilege::ReadData.into(), ..on_reads(true, Member::client("bi"), false) };
        let refused = caller(readers_read_orders(), vec![forbid], false).require(&Need::new(orders(), Privilege::ReadData));
        let text = "bi lacks READ_DATA on table raw.crm.orders: the access policy policy-0 forbids it";
        assert_eq!(refused.expect_err("refused").to_string(), text);
        let hidden = vec![on_reads(true, Member::client("bi"), false)];
        let refused = caller(readers_read_orders(), hidden, false).require(&Need::new(orders(), Privilege::ReadData));
        assert_eq!(refused.expect_err("refused").to_string(), "Table does not exist: raw.crm.orders");
    }

    #[test]
    fn a_decision_is_good_for_another_request_only_if_no_policy_can_tell_them_apart() {
        let conditional = || vec![on_reads(false, Member::client("bi"), true)];
        let of_others = || vec![on_reads(false, Member::client("other"), true)];
        assert!(caller(rows(Vec::new()), conditional(), true).decides_as(&caller(rows(Vec::new()), conditional(), true)));
        assert!(!caller(rows(Vec::new()), conditional(), true).decides_as(&caller(rows(Vec::new()), conditional(), false)));
        assert!(caller(rows(Vec::new()), of_others(), true).decides_as(&caller(rows(Vec::new()), of_others(), false)));
    }

    #[test]
    fn a_decision_is_good_for_another_operation_if_no_policy_reads_the_operation() {
        let permit = |condition: &str| {
            let text = format!("permit (principal, action, resource) when {{ {condition} }};");
            RuleRows { policies: vec![crate::PolicyRow { name: "p".to_owned(), text }], ..rows(Vec::new()) }
        };
        let caller = |condition: &str, facts: RequestFacts| {
            let rules = Arc::new(crate::Rules::build(permit(condition)).expect("rules"));
            Caller::new(Arc::new(crate::Subject::new(rules, Identity::client("bi"))), facts, Arc::new(Unrecorded))
        };
        let facts = |operation: &str| RequestFacts { operation: operation.into(), ..over_tls(true) };
        let engine = || RequestFacts { engine: Some("trino".into()), ..facts("DoGet") };
        let is_good = |condition: &str, other: RequestFacts| {
            caller(condition, facts("GetFlightInfo")).decides_as(&caller(condition, other))
        };
        for (condition, expected) in [
            ("context.tls", true),
            ("context has engine", true),
            ("context.operation == \"DoGet\"", false),
            ("context.tls && (context has engine || context.operation like \"Do*\")", false),
        ] {
            assert_eq!(is_good(condition, facts("DoGet")), expected, "{condition}");
            assert!(is_good(condition, facts("GetFlightInfo")), "{condition}");
            assert!(!is_good(condition, engine()), "{condition}: another fact");
        }
    }

    /// Over TLS, nothing changes. Without it, what was forbidden is not.
    #[test]
    fn a_move_out_of_a_condition_gives_what_other_requests_lacked() {
        let lake = ResourcePath::warehouse(1, "lake");
        let in_namespace = |key: &'static str| lake.namespace(key).table(table(1), "orders");
        let (secure, open) = (in_namespace("raw\u{1f}crm"), in_namespace("open"));
        let in_crm = Securable::Namespace { warehouse: 1, namespace: crate::samples::namespace("raw\u{1f}crm") };
        let policy = |forbids| TestPolicy { on: in_crm.clone(), ..on_reads(forbids, Member::client("bi"), true) };
        let read = PrivilegeSet::of(&[Privilege::List, Privilege::ReadData]);
        let forbidden = with_policies(readers_read_orders(), "bi", vec![policy(true)]);
        assert_eq!(forbidden.gained_by_move(&secure, &open), read);
        assert_eq!(forbidden.gained_by_move(&open, &secure), PrivilegeSet::EMPTY);
        assert_eq!(forbidden.gained_by_move(&secure, &secure), PrivilegeSet::EMPTY);
        let permitted = with_policies(rows(Vec::new()), "bi", vec![policy(false)]);
        assert_eq!(permitted.gained_by_move(&open, &secure), read);
        assert_eq!(permitted.gained_by_move(&secure, &open), PrivilegeSet::EMPTY);
        let granted = with_policies(readers_read_orders(), "bi", vec![policy(false)]);
        assert_eq!(granted.gained_by_move(&open, &secure), PrivilegeSet::EMPTY, "its grant goes with it");
    }

    #[test]
    fn what_some_request_may_do_is_what_facts_do_not_take_away() {
        let forbid =
            |needs_tls| TestPolicy { privileges: Privilege::ReadData.into(), ..on_reads(true, Member::client("bi"), needs_tls) };
        let at_best = |rows, policies| with_policies(rows, "bi", policies).at_best(&orders());
        let read = PrivilegeSet::of(&[Privilege::List, Privilege::ReadData]);
        assert_eq!(at_best(readers_read_orders(), vec![forbid(true)]), read);
        assert_eq!(at_best(readers_read_orders(), vec![forbid(false)]), PrivilegeSet::from(Privilege::List));
        assert_eq!(at_best(rows(Vec::new()), vec![on_reads(false, Member::client("bi"), true)]), read);
        assert_eq!(at_best(rows(Vec::new()), Vec::new()), PrivilegeSet::EMPTY);
        let mut off = rows(Vec::new());
        off.mode = crate::AccessMode::Off;
        assert_eq!(at_best(off, vec![forbid(false)]), PrivilegeSet::ALL);
    }

    #[test]
    fn a_policy_forbids_the_audit_trail_and_none_permits_it() {
        let audit = ResourcePath::warehouse(1, "lake").namespace("system").table(table(3), "audit");
        let on = Securable::Table { table: table(3) };
        let reader = || rows(vec![grant("g", Member::client("bi"), Securable::Server, Privilege::ReadAudit.into())]);
        let about = |forbids, privilege: Privilege| {
            let policy = on_reads(forbids, Member::client("bi"), false);
            vec![TestPolicy { on: on.clone(), privileges: privilege.into(), ..policy }]
        };
        let list = PrivilegeSet::from(Privilege::List);
        let no_rows = with_policies(reader(), "bi", about(true, Privilege::ReadData));
        assert_eq!(no_rows.decide(&audit, READ), AccessDecision::Deny { visible: true, missing: READ });
        assert_eq!(no_rows.effective(&audit), PrivilegeSet::READS_OF_AUDIT.without(Privilege::ReadData.into()));
        let hidden = with_policies(reader(), "bi", about(true, Privilege::List));
        let missing = Required::any_of(list);
        assert_eq!(hidden.decide(&audit, Required::NOTHING), AccessDecision::Deny { visible: false, missing });
        let permitted = with_policies(rows(Vec::new()), "bi", about(false, Privilege::ReadData));
        assert!(!permitted.decide(&audit, READ).is_allowed() && permitted.effective(&audit).is_empty());
    }

    #[test]
    fn policies_say_who_may_change_the_rules_in_every_mode() {
        let mut rows = rows(Vec::new());
        rows.mode = crate::AccessMode::Off;
        let about = |forbids| {
            let privileges = Privilege::ManageAccess.into();
            vec![TestPolicy { privileges, ..on_reads(forbids, Member::role(crate::EVERYONE), false) }]
        };
        let root = with_policies(rows.clone(), "root", about(true));
        assert!(!root.granted(&ResourcePath::SERVER).has(Privilege::ManageAccess), "an administrator is forbidden too");
        assert!(root.effective(&ResourcePath::SERVER).has(Privilege::ManageAccess), "nothing is refused");
        assert_eq!(root.rules().granted_holders(Privilege::ManageAccess).len(), 1);
        let bi = with_policies(rows, "bi", about(false));
        assert!(bi.granted(&ResourcePath::SERVER).has(Privilege::ManageAccess));
    }

    #[test]
    fn what_is_inherited_holds_below_unless_a_policy_may_forbid_it_there() {
        let lake = ResourcePath::warehouse(1, "lake");
        let on_lake =
            || rows(vec![grant("g", Member::client("bi"), Securable::Warehouse { warehouse: 1 }, Privilege::ReadData.into())]);
        let forbid = |privilege: Privilege| {
            let on = Securable::Table { table: table(1) };
            vec![TestPolicy { on, privileges: privilege.into(), ..on_reads(true, Member::client("bi"), true) }]
        };
        let inherits = |policies| with_policies(on_lake(), "bi", policies).inherits_below(&lake, READ);
        assert!(inherits(Vec::new()) && inherits(forbid(Privilege::Drop)) && !inherits(forbid(Privilege::ReadData)));
        let permit = with_policies(rows(Vec::new()), "bi", vec![on_reads(false, Member::client("bi"), false)]);
        assert!(!permit.inherits_below(&lake, READ));
    }

    #[test]
    fn a_list_is_filtered_where_a_policy_may_forbid_an_entry() {
        // The warehouse may hold the audit trail, which no grant on the warehouse gives.
        let raw = ResourcePath::warehouse(1, "lake").namespace("raw");
        let on_lake = grant("g", Member::client("bi"), Securable::Warehouse { warehouse: 1 }, Privilege::List.into());
        let forbid = |on| vec![TestPolicy { on, ..on_reads(true, Member::client("bi"), true) }];
        let list = PrivilegeSet::from(Privilege::List);
        let uniform = |on| with_policies(rows(vec![on_lake.clone()]), "bi", forbid(on)).uniform_below(&raw, list);
        assert!(!uniform(Securable::Table { table: table(1) }) && !uniform(Securable::Server));
        assert!(uniform(Securable::Warehouse { warehouse: 2 }));
        let permit = with_policies(rows(Vec::new()), "bi", vec![on_reads(false, Member::client("bi"), false)]);
        assert!(!permit.uniform_below(&raw, list), "a permit may hold for the container alone");
    }

    #[test]
    fn who_may_be_forbidden_to_manage_access_does_not_count_as_manager() {
        let manage = Privilege::ManageAccess;
        let forbid = |to, on| TestPolicy { forbids: true, to, on, privileges: PrivilegeSet::ALL, needs_tls: true };
        let names = |policies| {
            let root = with_policies(rows(Vec::new()), "root", policies);
            root.rules().holders(manage).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names(Vec::new()), ["client root"]);
        assert_eq!(names(vec![forbid(Member::client("root"), Securable::Table { table: table(1) })]), ["client root"]);
        assert_eq!(names(vec![forbid(Member::client("root"), Securable::Server)]), [""; 0]);
        assert_eq!(names(vec![forbid(Member::role(crate::EVERYONE), Securable::Server)]), [""; 0]);
    }

    #[test]
    fn break_glass_passes_every_policy() {
        let forbid = on_reads(true, Member::role(crate::EVERYONE), false);
        let glass = with_policies(rows(Vec::new()), "break-glass-1", vec![forbid]);
        assert_eq!(glass.decide(&orders(), READ), AccessDecision::Allow { rule: RuleRef::BreakGlass });
    }

    #[test]
    fn an_explanation_names_the_policy_that_forbids() {
        let forbid = on_reads(true, Member::role("readers"), false);
        let explained = with_policies(readers_read_orders(), "bi", vec![forbid]).explain(&orders(), READ);
        assert_eq!((explained.verdict, explained.forbidden_by.as_deref()), (AccessVerdict::Hidden, Some("policy-0")));
        assert!(explained.to_string().ends_with("refused, as if it did not exist: forbidden by policy-0"), "{explained}");
        let without = TestPolicies::new(Vec::new());
        assert_eq!(without.id(0), None);
    }
}
