//! Decisions: what a subject may do with a securable.
//!
//! The answer is the union of the grants on the path from the server to the securable, with what access policies permit and
//! without what they forbid. Nothing is allowed that no rule allows.

use std::ops::ControlFlow;

use esker_types::TableId;

use crate::index::Visitor;
use crate::role::MemberId;
use crate::{
    AccessMode, PolicyEffects, PolicyQuestion, PolicyScope, Privilege, PrivilegeSet, RequestFacts, Required, ResourcePath,
    RuleRef, SecurableKind, Subject,
};

/// A decision, with the rule that allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessDecision {
    /// The rules allow it.
    Allow {
        /// The rule that gave the last of the privileges.
        rule: RuleRef,
    },
    /// No rule allows it.
    Deny {
        /// True if the subject may know that the securable exists.
        visible: bool,
        /// Privileges that the subject lacks.
        missing: Required,
    },
}

impl AccessDecision {
    /// Checks that the rules allow it.
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}

/// The search for what a request needs. It ends when nothing is missing.
struct Search {
    required: Required,
    /// Privileges of which one makes the securable visible.
    seeing: PrivilegeSet,
    /// Privileges that grants don't give, because an access policy forbids them.
    forbidden: PrivilegeSet,
    held: PrivilegeSet,
    /// The rule that gave the last needed privilege.
    last: RuleRef,
}

impl Visitor for Search {
    fn open(&self) -> PrivilegeSet {
        self.required.named().union(self.seeing).without(self.held.union(self.forbidden))
    }

    fn visit(&mut self, _: MemberId, privileges: PrivilegeSet, rule: RuleRef) -> ControlFlow<()> {
        let privileges = privileges.without(self.forbidden);
        if privileges.without(self.held).intersects(self.required.named()) {
            self.last = rule;
        }
        self.held = self.held.union(privileges);
        if self.required.is_met_by(self.held) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// The union of all grants. It ends when every privilege is found.
struct Union(PrivilegeSet);

impl Visitor for Union {
    fn open(&self) -> PrivilegeSet {
        PrivilegeSet::ALL.without(self.0)
    }

    fn visit(&mut self, _: MemberId, privileges: PrivilegeSet, _: RuleRef) -> ControlFlow<()> {
        self.0 = self.0.union(privileges);
        if self.0 == PrivilegeSet::ALL { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Subject {
    /// Decides if the subject has privileges on a securable.
    ///
    /// A request that needs no privilege needs one to see the securable: it must not tell that a hidden thing exists.
    ///
    /// The mode [`AccessMode::Report`] decides like [`AccessMode::On`]; [`Caller`](crate::Caller) lets refusals pass. A decision
    /// allocates nothing, unless access policies apply.
    ///
    /// The table of the audit trail is apart: `READ_AUDIT` on the server reads it, no grant and no policy that permits counts, and
    /// nobody changes it, not even in the mode [`AccessMode::Off`].
    ///
    /// No facts of a request are known. So policies whose conditions read them permit nothing, and forbid. Where there is a
    /// request, ask its [`Caller`](crate::Caller).
    pub fn decide(&self, on: &ResourcePath<'_>, required: Required) -> AccessDecision {
        self.decide_by(on, required, None)
    }

    /// Decides under the facts of a request, if there is one. See [`Self::decide`].
    pub(crate) fn decide_by(&self, on: &ResourcePath<'_>, required: Required, facts: Option<&RequestFacts>) -> AccessDecision {
        if on.is_audit_table() {
            return self.decide_on_audit_table(on, required, facts);
        }
        self.search(on, required, |privileges, needed| self.effects(&PolicyQuestion { on, privileges, needed, facts }))
    }

    /// Decides by the grants and by the effects of access policies. Those get the privileges to ask about, and the needed ones.
    fn search(
        &self,
        on: &ResourcePath<'_>,
        required: Required,
        effects: impl FnOnce(PrivilegeSet, PrivilegeSet) -> PolicyEffects,
    ) -> AccessDecision {
        if let Some(rule) = self.always() {
            return AccessDecision::Allow { rule };
        }
        let seeing = on.kind().privileges_to_see();
        let required = match (required == Required::NOTHING, on.kind()) {
            (true, SecurableKind::Server) => return AccessDecision::Allow { rule: RuleRef::NothingNeeded },
            (true, _) => Required::any_of(seeing),
            (false, _) => required,
        };
        let effects = effects(required.named().union(seeing), required.named());
        let forbidden = effects.forbidden.0;
        let last = effects.permitted.1.map_or(RuleRef::NothingNeeded, RuleRef::Policy);
        let mut search = Search { required, seeing, forbidden, held: effects.permitted.0.without(forbidden), last };
        if required.is_met_by(search.held) {
            return AccessDecision::Allow { rule: search.last };
        }
        match self.rules.index.visit(on, &self.holders, &mut search) {
            ControlFlow::Break(()) => AccessDecision::Allow { rule: search.last },
            ControlFlow::Continue(()) => {
                let visible = on.kind() == SecurableKind::Server || search.held.intersects(seeing);
                AccessDecision::Deny { visible, missing: required.missing_from(search.held) }
            }
        }
    }

    /// Decides on the table of the audit trail.
    fn decide_on_audit_table(&self, on: &ResourcePath<'_>, required: Required, facts: Option<&RequestFacts>) -> AccessDecision {
        let allowed = match self.to_read_audit(facts) {
            AccessDecision::Deny { missing, .. } => return AccessDecision::Deny { visible: false, missing },
            allowed @ AccessDecision::Allow { .. } => allowed,
        };
        let (reads, seeing) = (self.reads_of_audit(on, facts), on.kind().privileges_to_see());
        let required = if required == Required::NOTHING { Required::any_of(seeing) } else { required };
        match required.is_met_by(reads) {
            true => allowed,
            false => AccessDecision::Deny { visible: reads.intersects(seeing), missing: required.missing_from(reads) },
        }
    }

    /// Decides if the subject may read the table of the audit trail, but for policies about the table itself.
    fn to_read_audit(&self, facts: Option<&RequestFacts>) -> AccessDecision {
        match self.always() {
            Some(rule) => AccessDecision::Allow { rule },
            None => self.decide_by(&ResourcePath::SERVER, Required::privilege(Privilege::ReadAudit), facts),
        }
    }

    /// Returns the privileges on the table of the audit trail of a subject that may read it: those that no policy forbids.
    fn reads_of_audit(&self, on: &ResourcePath<'_>, facts: Option<&RequestFacts>) -> PrivilegeSet {
        let reads = PrivilegeSet::READS_OF_AUDIT;
        if self.always().is_some() {
            return reads;
        }
        reads.without(self.effects(&PolicyQuestion { on, privileges: reads, needed: reads, facts }).forbidden.0)
    }

    /// Returns the effects of the access policies that can apply to the subject.
    pub(crate) fn effects(&self, question: &PolicyQuestion<'_>) -> PolicyEffects {
        self.policies.as_ref().map_or_else(PolicyEffects::default, |policies| policies.effects(question))
    }

    /// Checks that an access policy forbids one of some privileges, whatever the mode is. None does with a broken glass.
    pub(crate) fn is_forbidden_by(&self, on: &ResourcePath<'_>, privileges: PrivilegeSet, facts: Option<&RequestFacts>) -> bool {
        let question = PolicyQuestion { on, privileges, needed: privileges, facts };
        !self.breaks_glass() && !self.effects(&question).forbidden.0.is_empty()
    }

    /// Returns all privileges that the subject has on a securable, under the facts of a request, if there is one.
    pub(crate) fn effective_by(&self, on: &ResourcePath<'_>, facts: Option<&RequestFacts>) -> PrivilegeSet {
        if on.is_audit_table() {
            let reads = self.to_read_audit(facts).is_allowed();
            return if reads { self.reads_of_audit(on, facts) } else { PrivilegeSet::EMPTY };
        }
        if self.always().is_some() { PrivilegeSet::ALL } else { self.granted_by(on, facts) }
    }

    /// Returns all privileges that the rules give the subject on a securable, whatever the mode is, without the facts of a request.
    ///
    /// Who may change the rules is decided by it in the mode [`AccessMode::Off`] too. Policies count in every mode.
    pub fn granted(&self, on: &ResourcePath<'_>) -> PrivilegeSet {
        self.granted_by(on, None)
    }

    /// Returns all privileges that the rules give under the facts of a request, if there is one.
    pub(crate) fn granted_by(&self, on: &ResourcePath<'_>, facts: Option<&RequestFacts>) -> PrivilegeSet {
        if self.breaks_glass() {
            return PrivilegeSet::ALL;
        }
        let (privileges, needed) = (PrivilegeSet::ALL, PrivilegeSet::EMPTY);
        let effects = self.effects(&PolicyQuestion { on, privileges, needed, facts });
        self.by_grants(on).union(effects.permitted.0).without(effects.forbidden.0)
    }

    /// Returns all privileges that the subject may have on a securable by some request, whatever its facts are.
    ///
    /// It may name some that no request has. The table of the audit trail is not told apart.
    pub(crate) fn at_best(&self, on: &ResourcePath<'_>) -> PrivilegeSet {
        if self.always().is_some() {
            return PrivilegeSet::ALL;
        }
        let by_grants = self.by_grants(on);
        let Some(policies) = &self.policies else { return by_grants };
        let effects = policies.effects_at_best(on);
        by_grants.union(effects.permitted.0).without(effects.forbidden.0)
    }

    /// Returns the privileges that some request of the subject has on a securable at a new place, and has not at the old one.
    ///
    /// It may name some that no request gains. The table of the audit trail is not told apart.
    pub fn gained_by_move(&self, from: &ResourcePath<'_>, to: &ResourcePath<'_>) -> PrivilegeSet {
        if self.always().is_some() {
            return PrivilegeSet::EMPTY;
        }
        let (before, after) = (self.by_grants(from), self.by_grants(to));
        let Some(policies) = &self.policies else { return after.without(before) };
        let changes = policies.changes_by_move(from, to);
        // What a grant gives at the old place was lacking only where a policy forbade it.
        let given = after.union(changes.permitted).without(before);
        // Without facts, conditions on them permit nothing and forbid: that much every request has.
        let gained = self.at_best(to).without(self.granted_by(from, None));
        gained.intersection(given.union(changes.not_forbidden))
    }

    /// Returns all privileges that grants give.
    fn by_grants(&self, on: &ResourcePath<'_>) -> PrivilegeSet {
        let mut union = Union(PrivilegeSet::EMPTY);
        match self.rules.index.visit(on, &self.holders, &mut union) {
            ControlFlow::Break(()) | ControlFlow::Continue(()) => union.0,
        }
    }

    /// Checks that the subject may know that a securable exists, under the facts of a request, if there is one.
    pub(crate) fn is_visible_by(&self, on: &ResourcePath<'_>, facts: Option<&RequestFacts>) -> bool {
        let required = Required::any_of(on.kind().privileges_to_see());
        on.kind() == SecurableKind::Server || self.decide_by(on, required, facts).is_allowed()
    }

    /// Finds what the subject sees in containers that it may not see: the keys of the namespaces of a warehouse that a grant on
    /// themselves or on a function in them shows, and the ids of the tables and views of all warehouses that their own grants show.
    ///
    /// It looks at every grant, and not at what there is. The table of the audit trail is not among it, because no grant shows it.
    pub fn seen_by_own_grants(&self, warehouse: i64) -> (Vec<&str>, Vec<TableId>) {
        self.rules.index.own_grants(warehouse, &self.holders, SecurableKind::Table.privileges_to_see())
    }

    /// Checks that the subject has privileges on a container and, without exception, on everything in it, under the facts of a
    /// request, if there is one.
    pub(crate) fn uniform_below_by(
        &self,
        container: &ResourcePath<'_>,
        privileges: PrivilegeSet,
        facts: Option<&RequestFacts>,
    ) -> bool {
        let holds_below = !container.can_hold_audit_table()
            || (PrivilegeSet::READS_OF_AUDIT.contains(privileges) && self.to_read_audit(facts).is_allowed());
        match container.is_audit_table() {
            true => self.decide_by(container, Required::all(privileges), facts).is_allowed(),
            false => holds_below && self.inherits_below(container, Required::all(privileges)),
        }
    }

    /// Checks that the subject has privileges on a container and, but for the audit trail, on everything in it, whatever the facts of
    /// a request are.
    pub fn inherits_below(&self, container: &ResourcePath<'_>, required: Required) -> bool {
        if self.may_forbid_below(container, required.named()) {
            return false;
        }
        // Grants only add: what is inherited can't be lost further down. What a policy permits on the container may be lost.
        self.is_granted(container, required)
    }

    /// Checks that grants give privileges on a securable, whatever access policies say. They count for everything in it too.
    pub fn is_granted(&self, on: &ResourcePath<'_>, required: Required) -> bool {
        self.search(on, required, |_, _| PolicyEffects::default()).is_allowed()
    }

    /// Checks that access policies may give the subject something that no grant gives.
    pub fn has_permitting_policies(&self) -> bool {
        self.policies.as_ref().is_some_and(|policies| policies.may_permit())
    }

    /// Checks that an access policy may forbid one of some privileges on a container or on something in it.
    pub fn may_forbid_below(&self, container: &ResourcePath<'_>, privileges: PrivilegeSet) -> bool {
        let scope = PolicyScope::WithContent;
        let forbids = || self.policies.as_ref().is_some_and(|some| some.may_forbid(container, scope).intersects(privileges));
        self.always().is_none() && forbids()
    }

    /// Returns the rule that allows everything, if there is one.
    pub(crate) fn always(&self) -> Option<RuleRef> {
        match (self.rules.mode(), self.breaks_glass()) {
            (AccessMode::Off, _) => Some(RuleRef::Off),
            (_, true) => Some(RuleRef::BreakGlass),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{client, grant, namespace, orders, rows, table};
    use crate::{Member, OwnerRow, Securable};

    const SELECT: PrivilegeSet = PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata, Privilege::ReadData]);

    fn to_readers(on: Securable) -> Vec<crate::GrantRow> {
        vec![grant("g1", Member::role("readers"), on, SELECT)]
    }

    #[test]
    fn without_a_rule_nothing_is_allowed_and_nothing_is_seen() {
        let nobody = client(rows(Vec::new()), "bi");
        let missing = Required::privilege(Privilege::ReadData);
        assert_eq!(nobody.decide(&orders(), missing), AccessDecision::Deny { visible: false, missing });
        assert!(!nobody.is_visible(&orders()));
        assert!(nobody.is_visible(&ResourcePath::SERVER), "who asks knows that there is a server");
    }

    #[test]
    fn what_a_subject_sees_by_grants_on_the_thing_itself_is_found() {
        let on_namespace = |key: &str| Securable::Namespace { warehouse: 1, namespace: namespace(key) };
        let function = Securable::Function { warehouse: 1, namespace: namespace("f"), name: "g".into() };
        let elsewhere = Securable::Namespace { warehouse: 2, namespace: namespace("other") };
        let readers = Member::role("readers");
        let mut grants: Vec<_> = [on_namespace("a\u{1f}b"), function, elsewhere, Securable::Table { table: table(1) }]
            .map(|on| grant("g", readers.clone(), on, SELECT))
            .to_vec();
        // Neither a privilege that shows nothing counts, nor a grant to somebody else.
        grants.push(grant("g", readers, Securable::View { view: table(2) }, Privilege::ReadMetadata.into()));
        grants.push(grant("g", Member::client("etl"), on_namespace("c"), SELECT));
        let subject = client(rows(grants), "bi");
        let (mut keys, tabulars) = subject.seen_by_own_grants(1);
        keys.sort_unstable();
        assert_eq!((keys, tabulars), (vec!["a\u{1f}b", "f"], vec![table(1)]));
    }

    #[test]
    fn a_grant_on_a_container_counts_for_what_is_in_it() {
        let lake = ResourcePath::warehouse(1, "lake");
        let raw = Securable::Namespace { warehouse: 1, namespace: namespace("raw") };
        let reader = client(rows(to_readers(raw)), "bi");
        let read = Required::privilege(Privilege::ReadData);
        let allowed = AccessDecision::Allow { rule: RuleRef::Grant(0) };
        assert_eq!(reader.decide(&orders(), read), allowed);
        assert_eq!(reader.decide(&lake.namespace("raw").function("f"), read), allowed);
        let elsewhere =
            [lake, lake.namespace("rawer"), lake.namespace("x\u{1f}raw"), ResourcePath::warehouse(2, "w").namespace("raw")];
        for path in elsewhere {
            assert!(!reader.decide(&path, read).is_allowed(), "{path}");
        }
    }

    #[test]
    fn who_may_see_the_thing_learns_what_is_missing() {
        let reader = client(rows(to_readers(Securable::Table { table: table(1) })), "etl");
        let required = Required::all(PrivilegeSet::of(&[Privilege::ReadData, Privilege::Drop, Privilege::Purge]));
        let missing = Required::all(PrivilegeSet::of(&[Privilege::Drop, Privilege::Purge]));
        assert_eq!(reader.decide(&orders(), required), AccessDecision::Deny { visible: true, missing });
        let renamed = ResourcePath::warehouse(1, "lake").namespace("other").table(table(1), "renamed");
        assert!(reader.is_visible(&renamed), "a rename keeps grants");
        let next = ResourcePath::warehouse(1, "lake").namespace("raw\u{1f}crm").table(table(2), "orders");
        assert!(!reader.is_visible(&next), "a new table of the old name has none");
    }

    #[test]
    fn a_request_that_needs_nothing_is_refused_on_a_hidden_thing() {
        let reader = client(rows(to_readers(Securable::Table { table: table(1) })), "bi");
        let allowed = |path: &ResourcePath<'_>| reader.decide(path, Required::NOTHING).is_allowed();
        assert!(allowed(&ResourcePath::SERVER) && allowed(&orders()));
        let hidden = ResourcePath::warehouse(1, "lake").namespace("raw").table(table(2), "hidden");
        let missing = Required::any_of(Privilege::List.into());
        assert_eq!(reader.decide(&hidden, Required::NOTHING), AccessDecision::Deny { visible: false, missing });
        assert!(!allowed(&ResourcePath::warehouse(1, "lake")));
    }

    #[test]
    fn a_warehouse_is_seen_with_the_privilege_to_use_it() {
        let on = Securable::Warehouse { warehouse: 1 };
        let user = client(rows(vec![grant("g", Member::client("bi"), on, Privilege::Use.into())]), "bi");
        assert!(user.is_visible(&ResourcePath::warehouse(1, "lake")));
        assert!(!user.is_visible(&ResourcePath::warehouse(2, "other")));
        assert!(!user.is_visible(&ResourcePath::warehouse(1, "lake").namespace("raw")));
    }

    #[test]
    fn privileges_that_a_thing_does_not_have_are_ignored() {
        let on = Securable::Namespace { warehouse: 1, namespace: namespace("raw") };
        let sneaky = client(rows(vec![grant("g", Member::client("bi"), on, PrivilegeSet::ALL)]), "bi");
        assert!(!sneaky.effective(&orders()).intersects(PrivilegeSet::SERVER_ONLY));
        assert!(!sneaky.decide(&ResourcePath::SERVER, Required::privilege(Privilege::ManageAccess)).is_allowed());
    }

    #[test]
    fn the_owner_of_a_table_has_the_bundle_own_on_it() {
        let mut rows = rows(Vec::new());
        rows.owners.push(OwnerRow { table: table(1), owner: Member::client("etl") });
        let owner = client(rows, "etl");
        assert_eq!(owner.decide(&orders(), Required::privilege(Privilege::Drop)), AccessDecision::Allow { rule: RuleRef::Owner });
        assert!(!owner.effective(&orders()).has(Privilege::ReadAllRows));
        assert!(!owner.is_visible(&ResourcePath::warehouse(1, "lake").namespace("raw\u{1f}crm")));
    }

    #[test]
    fn administrators_and_break_glass_may_do_everything_and_are_told_apart() {
        let all = Required::all(PrivilegeSet::ALL);
        let admin = client(rows(Vec::new()), "root").decide(&ResourcePath::SERVER, all);
        assert_eq!(admin, AccessDecision::Allow { rule: RuleRef::Admin });
        let glass = client(rows(Vec::new()), "break-glass-1").decide(&orders(), all);
        assert_eq!(glass, AccessDecision::Allow { rule: RuleRef::BreakGlass });
    }

    #[test]
    fn with_access_control_off_everything_is_allowed() {
        let mut rows = rows(Vec::new());
        rows.mode = AccessMode::Off;
        let anyone = client(rows, "nobody");
        let decision = anyone.decide(&orders(), Required::all(PrivilegeSet::ALL));
        assert_eq!(decision, AccessDecision::Allow { rule: RuleRef::Off });
        assert_eq!(anyone.effective(&orders()), PrivilegeSet::ALL);
        assert_eq!(anyone.granted(&orders()), PrivilegeSet::EMPTY, "no rule gives it");
    }

    /// The path to the table of the audit trail.
    fn audit() -> ResourcePath<'static> {
        ResourcePath::warehouse(1, "lake").namespace("system").table(table(1), "audit")
    }

    #[test]
    fn the_audit_trail_is_read_with_its_privilege_on_the_server_alone() {
        let warehouse = Securable::Warehouse { warehouse: 1 };
        let mut given = to_readers(warehouse);
        given.extend(to_readers(Securable::Table { table: table(1) }));
        let mut own = rows(given);
        own.owners.push(OwnerRow { table: table(1), owner: Member::client("bi") });
        let nobody = client(own, "bi");
        let (read, missing) = (Required::privilege(Privilege::ReadData), Required::privilege(Privilege::ReadAudit));
        assert_eq!(nobody.decide(&audit(), read), AccessDecision::Deny { visible: false, missing });
        assert_eq!((nobody.is_visible(&audit()), nobody.effective(&audit())), (false, PrivilegeSet::EMPTY));
        for container in [ResourcePath::warehouse(1, "lake"), ResourcePath::warehouse(1, "lake").namespace("System")] {
            assert!(!nobody.uniform_below(&container, Privilege::List.into()), "{container}: the list must be filtered");
        }
        assert!(nobody.uniform_below(&ResourcePath::warehouse(1, "lake").namespace("raw"), Privilege::List.into()));

        let auditor = client(rows(vec![grant("a", Member::client("bi"), Securable::Server, Privilege::ReadAudit.into())]), "bi");
        assert_eq!(auditor.decide(&audit(), read), AccessDecision::Allow { rule: RuleRef::Grant(0) });
        assert!(auditor.decide(&audit(), Required::NOTHING).is_allowed() && auditor.is_visible(&audit()));
        assert_eq!(auditor.effective(&audit()), PrivilegeSet::READS_OF_AUDIT);
        for other in [ResourcePath::warehouse(1, "lake").namespace("system").table(table(1), "tables"), orders()] {
            assert!(!auditor.decide(&other, read).is_allowed(), "{other}");
        }
    }

    #[test]
    fn nobody_changes_the_audit_trail_whatever_the_rules_and_the_mode_are() {
        for name in ["audit", "Audit", "AUDIT"] {
            let path = ResourcePath::warehouse(1, "lake").namespace("SYSTEM").table(table(1), name);
            let mut off = rows(Vec::new());
            off.mode = AccessMode::Off;
            for (rules, who) in [(rows(Vec::new()), "root"), (rows(Vec::new()), "break-glass-1"), (off, "nobody")] {
                let subject = client(rules, who);
                for privilege in [Privilege::Drop, Privilege::Modify, Privilege::Append, Privilege::Maintain, Privilege::Rename] {
                    let required = Required::privilege(privilege);
                    let denied = AccessDecision::Deny { visible: true, missing: required };
                    assert_eq!(subject.decide(&path, required), denied, "{who} {name}");
                }
                assert!(subject.decide(&path, Required::privilege(Privilege::ReadData)).is_allowed(), "{who} reads");
            }
        }
    }

    #[test]
    fn few_of_many_holders_are_found_like_many_of_few() {
        let one = |n: usize| grant(&n.to_string(), Member::client(format!("c{n}")), Securable::Server, SELECT);
        let rows = rows((0..1000).map(one).collect());
        let found = client(rows.clone(), "c500").decide(&orders(), Required::all(SELECT));
        assert_eq!(found, AccessDecision::Allow { rule: RuleRef::Grant(500) });
        assert!(!client(rows, "c1000").decide(&orders(), Required::all(SELECT)).is_allowed());
    }
}
