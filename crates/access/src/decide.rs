//! Decisions: what a subject may do with a securable.
//!
//! The answer is the union of the grants on the path from the server to the securable. Nothing is allowed that no rule allows.

use std::ops::ControlFlow;

use esker_types::TableId;

use crate::index::Visitor;
use crate::role::MemberId;
use crate::{AccessMode, Privilege, PrivilegeSet, Required, ResourcePath, RuleRef, SecurableKind, Subject};

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
    held: PrivilegeSet,
    /// The rule that gave the last needed privilege.
    last: RuleRef,
}

impl Visitor for Search {
    fn open(&self) -> PrivilegeSet {
        self.required.named().union(self.seeing).without(self.held)
    }

    fn visit(&mut self, _: MemberId, privileges: PrivilegeSet, rule: RuleRef) -> ControlFlow<()> {
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
    /// allocates nothing.
    ///
    /// The table of the audit trail is apart: `READ_AUDIT` on the server reads it, no grant counts, and nobody changes it, not even
    /// in the mode [`AccessMode::Off`].
    pub fn decide(&self, on: &ResourcePath<'_>, required: Required) -> AccessDecision {
        if on.is_audit_table() {
            return self.decide_on_audit_table(required);
        }
        if let Some(rule) = self.always() {
            return AccessDecision::Allow { rule };
        }
        let seeing = on.kind().privileges_to_see();
        let required = match (required == Required::NOTHING, on.kind()) {
            (true, SecurableKind::Server) => return AccessDecision::Allow { rule: RuleRef::NothingNeeded },
            (true, _) => Required::any_of(seeing),
            (false, _) => required,
        };
        let mut search = Search { required, seeing, held: PrivilegeSet::EMPTY, last: RuleRef::NothingNeeded };
        match self.rules.index.visit(on, &self.holders, &mut search) {
            ControlFlow::Break(()) => AccessDecision::Allow { rule: search.last },
            ControlFlow::Continue(()) => {
                let visible = on.kind() == SecurableKind::Server || search.held.intersects(seeing);
                AccessDecision::Deny { visible, missing: required.missing_from(search.held) }
            }
        }
    }

    /// Decides on the table of the audit trail.
    fn decide_on_audit_table(&self, required: Required) -> AccessDecision {
        let reads = PrivilegeSet::READS_OF_AUDIT;
        match self.to_read_audit() {
            AccessDecision::Allow { .. } if !required.is_met_by(reads) => {
                AccessDecision::Deny { visible: true, missing: required.missing_from(reads) }
            }
            AccessDecision::Deny { missing, .. } => AccessDecision::Deny { visible: false, missing },
            allowed @ AccessDecision::Allow { .. } => allowed,
        }
    }

    /// Decides if the subject may read the table of the audit trail.
    fn to_read_audit(&self) -> AccessDecision {
        match self.always() {
            Some(rule) => AccessDecision::Allow { rule },
            None => self.decide(&ResourcePath::SERVER, Required::privilege(Privilege::ReadAudit)),
        }
    }

    /// Returns all privileges that the subject has on a securable.
    pub fn effective(&self, on: &ResourcePath<'_>) -> PrivilegeSet {
        if on.is_audit_table() {
            return if self.to_read_audit().is_allowed() { PrivilegeSet::READS_OF_AUDIT } else { PrivilegeSet::EMPTY };
        }
        if self.always().is_some() { PrivilegeSet::ALL } else { self.granted(on) }
    }

    /// Returns all privileges that the rules give the subject on a securable, whatever the mode is.
    ///
    /// Who may change the rules is decided by it in the mode [`AccessMode::Off`] too.
    pub fn granted(&self, on: &ResourcePath<'_>) -> PrivilegeSet {
        if self.breaks_glass() {
            return PrivilegeSet::ALL;
        }
        let mut union = Union(PrivilegeSet::EMPTY);
        match self.rules.index.visit(on, &self.holders, &mut union) {
            ControlFlow::Break(()) | ControlFlow::Continue(()) => union.0,
        }
    }

    /// Checks that the subject may know that a securable exists.
    pub fn is_visible(&self, on: &ResourcePath<'_>) -> bool {
        on.kind() == SecurableKind::Server || self.decide(on, Required::any_of(on.kind().privileges_to_see())).is_allowed()
    }

    /// Finds what the subject sees in containers that it may not see: the keys of the namespaces of a warehouse that a grant on
    /// themselves or on a function in them shows, and the ids of the tables and views of all warehouses that their own grants show.
    ///
    /// It looks at every grant, and not at what there is. The table of the audit trail is not among it, because no grant shows it.
    pub fn seen_by_own_grants(&self, warehouse: i64) -> (Vec<&str>, Vec<TableId>) {
        self.rules.index.own_grants(warehouse, &self.holders, SecurableKind::Table.privileges_to_see())
    }

    /// Checks that the subject has privileges on a container and, without exception, on everything in it.
    ///
    /// A list of the container's content then needs no check of each entry. A false answer says nothing about an entry.
    pub fn uniform_below(&self, container: &ResourcePath<'_>, privileges: PrivilegeSet) -> bool {
        // Grants only add: what is inherited can't be lost further down, but on the audit trail.
        let holds_below = !container.can_hold_audit_table()
            || (PrivilegeSet::READS_OF_AUDIT.contains(privileges) && self.to_read_audit().is_allowed());
        holds_below && self.decide(container, Required::all(privileges)).is_allowed()
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
