//! The caller of a request, whom every protocol asks before it does something.
//!
//! A caller applies the mode: with access control off or in report, nothing is refused and nothing is hidden.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use esker_types::TableId;

use crate::{
    AccessDecision, AccessExplanation, AccessMode, Identity, Need, Needs, Privilege, PrivilegeSet, Required, ResourcePath,
    Result, RightsError, RuleRef, Rules, Subject,
};

/// The facts of a request besides its principal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// The operation: a route, a statement, a command.
    pub operation: Arc<str>,
    /// Address of the client.
    pub source_ip: Option<IpAddr>,
    /// Name of the trusted engine that makes the request.
    pub engine: Option<Arc<str>>,
    /// True if the request came over TLS.
    pub is_tls: bool,
}

/// A decision that must be recorded: a refusal, or anything that a break-glass principal does.
#[derive(Debug, Clone, Copy)]
pub struct WorthRecording<'a> {
    /// The caller.
    pub caller: &'a Caller,
    /// The need that was decided on.
    pub need: &'a Need<'a>,
    /// The decision.
    pub decision: AccessDecision,
    /// False if the decision is only reported, and the request goes on.
    pub is_enforced: bool,
}

/// A receiver of decisions that must be recorded: the report, the audit.
pub trait Record: fmt::Debug + Send + Sync {
    /// Records a decision. It must not block.
    fn record(&self, decision: WorthRecording<'_>);

    /// Receives every decision on what a request needs, those that are worth recording too. It must not block.
    fn decided(&self, _: WorthRecording<'_>) {}

    /// Receives a securable that a request names, whether or not anything is decided about it. It must not block.
    fn named(&self, _: &ResourcePath<'_>) {}

    /// Checks that the receiver wants the securables that a request names.
    fn wants_names(&self) -> bool {
        false
    }
}

/// A receiver that keeps nothing, for commands and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unrecorded;

impl Record for Unrecorded {
    fn record(&self, _: WorthRecording<'_>) {}
}

/// A subject with the facts of its request.
#[derive(Debug, Clone)]
pub struct Caller {
    subject: Arc<Subject>,
    facts: RequestFacts,
    /// False if no request is behind the caller, so that the facts say nothing.
    has_request: bool,
    record: Arc<dyn Record>,
}

impl Caller {
    /// Creates the caller of a request.
    pub fn new(subject: Arc<Subject>, facts: RequestFacts, record: Arc<dyn Record>) -> Self {
        Self { subject, facts, has_request: true, record }
    }

    /// Creates a caller that sends no request now, such as who asked for a job earlier.
    ///
    /// Access policies whose conditions read facts of a request permit it nothing, and forbid.
    pub fn without_request(subject: Arc<Subject>, operation: Arc<str>, record: Arc<dyn Record>) -> Self {
        Self { subject, facts: RequestFacts { operation, ..RequestFacts::default() }, has_request: false, record }
    }

    /// Returns the same caller under other rules.
    #[must_use]
    pub fn under(&self, rules: Arc<Rules>) -> Self {
        let subject = Arc::new(Subject::new(rules, self.subject.identity().clone()));
        Self { subject, facts: self.facts.clone(), has_request: self.has_request, record: self.record.clone() }
    }

    /// Returns the subject.
    pub const fn subject(&self) -> &Arc<Subject> {
        &self.subject
    }

    /// Returns the facts of the request. Without a request, only the operation says something.
    pub const fn facts(&self) -> &RequestFacts {
        &self.facts
    }

    /// Returns the facts by which access policies decide; `None` if there is no request.
    pub fn known_facts(&self) -> Option<&RequestFacts> {
        self.has_request.then_some(&self.facts)
    }

    /// Checks that the caller has what a request needs, before anything is done.
    ///
    /// If several needs are not met, the error is about the first on a securable that the caller may see. Report names that do not
    /// exist after this check, as hidden ones are. Otherwise the order of the errors would tell which of the two a name is.
    ///
    /// # Errors
    ///
    /// Returns [`RightsError::Denied`] if privileges are missing on a securable that the caller may see,
    /// [`RightsError::Forbidden`] if an access policy forbids them there, and [`RightsError::Hidden`] if the caller may not know that
    /// the securable exists.
    pub fn require<'n>(&self, needs: impl Into<Needs<'n>>) -> Result<()> {
        let refused = match needs.into() {
            Needs::All(needs) => self.first_unmet(needs),
            Needs::AnyOf(needs) => self.none_met(needs),
        };
        refused.map_or(Ok(()), |(need, decision)| self.refuse(&need, decision))
    }

    /// Records the decision on a need that is not met, and refuses it unless the mode lets it pass.
    fn refuse(&self, need: &Need<'_>, decision: AccessDecision) -> Result<()> {
        let is_on = self.subject.rules().mode() == AccessMode::On;
        let is_enforced = is_on || need.changes_audit_table();
        self.record.record(WorthRecording { caller: self, need, decision, is_enforced });
        match decision {
            // What a mode does not hide has no hidden name.
            AccessDecision::Deny { visible, missing } if is_enforced => Err(self.refusal(need, visible || !is_on, missing)),
            _ => Ok(()),
        }
    }

    /// Refuses a move that brings privileges on a table or view which the caller lacks, and records that. `gained` are those; there may
    /// be none.
    ///
    /// This request may have them at the old place already, where another request of the caller has not. The caller sees the place.
    ///
    /// # Errors
    ///
    /// Returns [`RightsError::Denied`] if privileges are gained, and [`RightsError::Forbidden`] if an access policy forbids this
    /// request one of them.
    pub fn refuse_gained(&self, on: ResourcePath<'_>, gained: PrivilegeSet) -> Result<()> {
        if gained.is_empty() {
            return Ok(());
        }
        let missing = Required::all(gained);
        self.refuse(&Need { on, required: missing }, AccessDecision::Deny { visible: true, missing })
    }

    /// Refuses to make a thing with the name of the audit trail, and records that. The rules have no say in it.
    ///
    /// `on` is the path that the thing would have.
    pub fn refuse_new_audit_table(&self, on: ResourcePath<'_>, missing: Required) -> RightsError {
        let need = Need { on, required: missing };
        let decision = AccessDecision::Deny { visible: true, missing };
        self.record.record(WorthRecording { caller: self, need: &need, decision, is_enforced: true });
        self.refusal(&need, true, missing)
    }

    /// Names a securable of the request to the receiver of its decisions.
    pub fn names(&self, on: &ResourcePath<'_>) {
        self.record.named(on);
    }

    /// Checks that the receiver of the decisions wants the securables that the request names.
    pub fn wants_names(&self) -> bool {
        self.record.wants_names()
    }

    /// Records that a break-glass principal sends a request for which [`Caller::require`] may never be asked, such as a list.
    pub fn record_break_glass(&self) {
        if self.subject.breaks_glass() && self.subject.rules().mode() != AccessMode::Off {
            let need = Need { on: ResourcePath::SERVER, required: Required::NOTHING };
            let decision = AccessDecision::Allow { rule: RuleRef::BreakGlass };
            self.record.record(WorthRecording { caller: self, need: &need, decision, is_enforced: true });
        }
    }

    /// Decides on a need. What break-glass allows is recorded.
    fn decide(&self, need: &Need<'_>) -> AccessDecision {
        let decision = self.subject.decide_by(&need.on, need.required, self.known_facts());
        let is_enforced = self.subject.rules().mode() == AccessMode::On || need.changes_audit_table();
        self.record.decided(WorthRecording { caller: self, need, decision, is_enforced });
        if decision == (AccessDecision::Allow { rule: RuleRef::BreakGlass }) {
            self.record.record(WorthRecording { caller: self, need, decision, is_enforced: true });
        }
        decision
    }

    /// Finds the need that a refusal is about: the first unmet one that the caller may see, else the first unmet one.
    ///
    /// The caller may see a container if it sees a thing in it that the same request is about: the request has the names of both.
    fn first_unmet<'n>(&self, needs: &[Need<'n>]) -> Option<(Need<'n>, AccessDecision)> {
        let contains_seen = |on: &ResourcePath<'_>| {
            let is_inside = |inner: &ResourcePath<'_>| inner.steps().any(|step| step == *on);
            on.leaf().is_none() && needs.iter().any(|need| need.on != *on && is_inside(&need.on) && self.sees(&need.on))
        };
        let mut hidden = None;
        for need in needs {
            match self.decide(need) {
                AccessDecision::Allow { .. } => {}
                decision @ AccessDecision::Deny { visible: true, .. } => return Some((*need, decision)),
                AccessDecision::Deny { visible: false, missing } if contains_seen(&need.on) => {
                    return Some((*need, AccessDecision::Deny { visible: true, missing }));
                }
                decision @ AccessDecision::Deny { visible: false, .. } => hidden = hidden.or(Some((*need, decision))),
            }
        }
        hidden
    }

    /// Returns the first need if none is met.
    fn none_met<'n>(&self, needs: &[Need<'n>]) -> Option<(Need<'n>, AccessDecision)> {
        let nothing = Need { on: ResourcePath::SERVER, required: Required::privilege(Privilege::ManageAccess) };
        let first = needs.first().copied().unwrap_or(nothing);
        let decision = self.decide(&first);
        let is_met = decision.is_allowed() || needs.iter().skip(1).any(|need| self.decide(need).is_allowed());
        (!is_met).then_some((first, decision))
    }

    fn refusal(&self, need: &Need<'_>, visible: bool, missing: Required) -> RightsError {
        match visible {
            true if need.changes_audit_table() => {
                RightsError::AuditTrail { principal: self.subject.identity().to_string(), on: need.on.to_string(), missing }
            }
            true => self.denial(&need.on, missing),
            false => RightsError::Hidden { kind: need.on.kind(), name: need.on.name() },
        }
    }

    /// Builds the error for privileges that are missing on a securable that the caller may see: [`RightsError::Forbidden`] if an
    /// access policy forbids one of them, else [`RightsError::Denied`].
    pub fn denial(&self, on: &ResourcePath<'_>, missing: Required) -> RightsError {
        let (principal, kind, policy) = (self.subject.identity().to_string(), on.kind(), self.forbidden_by(on, missing));
        let on = on.to_string();
        match policy {
            Some(policy) => RightsError::Forbidden { principal, on, missing, policy: policy.to_owned() },
            None => RightsError::Denied { principal, kind, on, missing },
        }
    }

    /// Checks that the caller is the owner of a table or view.
    pub fn owns(&self, id: TableId) -> bool {
        let owner = self.subject.rules().owner(id);
        owner.is_some() && self.subject.identity().principal().as_ref() == owner
    }

    /// Returns the owner of a table or view as the caller of this request, with the same facts and the same record; `None` if it has
    /// no owner, or one that no rule refuses anything.
    ///
    /// An owner that is a user has no claims here, because those are in its token: only what the rules give the user itself counts.
    pub fn as_owner_of(&self, id: TableId) -> Option<Self> {
        let rules = self.subject.rules();
        let owner = Subject::new(rules.clone(), Identity::of_principal(rules.owner(id)?)?);
        let (facts, has_request, record) = (self.facts.clone(), self.has_request, self.record.clone());
        (!owner.breaks_glass()).then(|| Self { subject: Arc::new(owner), facts, has_request, record })
    }

    /// Checks that the caller may know that a securable exists, as lists do for each entry.
    pub fn sees(&self, on: &ResourcePath<'_>) -> bool {
        self.subject.rules().mode() != AccessMode::On || self.subject.is_visible_by(on, self.known_facts())
    }

    /// Decides by the rules and records nothing, whatever the mode does with a refusal.
    pub fn allows(&self, on: &ResourcePath<'_>, required: Required) -> bool {
        self.subject.decide_by(on, required, self.known_facts()).is_allowed()
    }

    /// Returns all privileges that the caller has on a securable.
    pub fn effective(&self, on: &ResourcePath<'_>) -> PrivilegeSet {
        self.subject.effective_by(on, self.known_facts())
    }

    /// Returns all privileges that the rules give the caller on a securable, whatever the mode is. See [`Subject::granted`].
    pub fn granted(&self, on: &ResourcePath<'_>) -> PrivilegeSet {
        self.subject.granted_by(on, self.known_facts())
    }

    /// Checks that an access policy forbids one of some privileges, whatever grants say and the mode is.
    pub fn is_forbidden(&self, on: &ResourcePath<'_>, privileges: PrivilegeSet) -> bool {
        self.subject.is_forbidden_by(on, privileges, self.known_facts())
    }

    /// Returns the id of an access policy that forbids one of the privileges that a refusal says are missing.
    pub fn forbidden_by(&self, on: &ResourcePath<'_>, missing: Required) -> Option<&str> {
        self.subject.forbidden_by(on, missing, self.known_facts())
    }

    /// Explains the decision on a securable, for this request. See [`Subject::explain`].
    pub fn explain(&self, on: &ResourcePath<'_>, required: Required) -> AccessExplanation {
        self.subject.explain_by(on, required, self.known_facts())
    }

    /// Checks that the caller has privileges on a container and, without exception, on everything in it, whatever the mode does with a
    /// refusal.
    ///
    /// A list of the container's content then needs no check of each entry. A false answer says nothing about an entry.
    pub fn holds_all_below(&self, container: &ResourcePath<'_>, privileges: PrivilegeSet) -> bool {
        self.subject.uniform_below_by(container, privileges, self.known_facts())
    }

    /// Checks that every decision on this caller is one on the other too: it is the same principal under the same rules, and the
    /// facts of the two requests are the same, as far as access policies ask for them.
    pub fn decides_as(&self, other: &Self) -> bool {
        let (one, two) = (self.subject.rules(), other.subject.rules());
        let same_rules = one.version() == two.version() && one.mode() == two.mode();
        // A condition of an access policy may hold for one request and not for the next.
        let same_facts = self.subject.are_alike(self.known_facts(), other.known_facts());
        same_rules && same_facts && self.subject.identity() == other.subject.identity()
    }

    /// Checks that the caller sees everything in a container, so that a list of it needs no filter.
    pub fn sees_all_below(&self, container: &ResourcePath<'_>) -> bool {
        let enforced = self.subject.rules().mode() == AccessMode::On;
        !enforced || self.holds_all_below(container, Privilege::List.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::samples::{client, grant, orders, rows, table};
    use crate::{GrantRow, Member, OwnerRow, RuleRows, Securable};

    /// A receiver that keeps a text for each decision.
    #[derive(Debug, Default)]
    struct Kept(Mutex<Vec<String>>);

    impl Record for Kept {
        fn record(&self, recorded: WorthRecording<'_>) {
            let WorthRecording { caller, need, decision, is_enforced } = recorded;
            let who = caller.subject().identity();
            let text = format!("{who} {} {} {} {is_enforced}", need.required, need.on, decision.is_allowed());
            self.0.lock().expect("no panic").push(text);
        }
    }

    fn caller(rows: RuleRows, name: &str) -> (Caller, Arc<Kept>) {
        let kept = Arc::new(Kept::default());
        (Caller::new(Arc::new(client(rows, name)), RequestFacts::default(), kept.clone()), kept)
    }

    fn hidden() -> ResourcePath<'static> {
        ResourcePath::warehouse(1, "lake").namespace("raw").table(table(2), "hidden")
    }

    fn readers() -> Vec<GrantRow> {
        let select = PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata, Privilege::ReadData]);
        vec![grant("g1", Member::role("readers"), Securable::Table { table: table(1) }, select)]
    }

    #[test]
    fn a_refusal_names_what_is_missing_only_to_who_may_see_the_thing() {
        let (caller, kept) = caller(rows(readers()), "bi");
        assert_eq!(caller.require(&Need::new(orders(), Privilege::ReadData)), Ok(()));
        let refused = caller.require(&Need::new(orders(), Privilege::Drop)).expect_err("refused");
        let text = "bi lacks DROP on table raw.crm.orders; a principal with MANAGE_GRANTS there can grant it";
        assert_eq!(refused.to_string(), text);
        let masked = caller.require(&Need::new(hidden(), Privilege::ReadData)).expect_err("refused");
        assert_eq!(masked.to_string(), "Table does not exist: raw.hidden");
        let expected = ["bi DROP table raw.crm.orders false true", "bi READ_DATA table raw.hidden false true"];
        assert_eq!(*kept.0.lock().expect("no panic"), expected);
    }

    #[test]
    fn of_several_refusals_the_first_on_a_seen_thing_is_told() {
        let (caller, _) = caller(rows(readers()), "bi");
        let needs = [Need::new(hidden(), Privilege::Modify), Need::new(orders(), Privilege::Modify)];
        assert!(
            matches!(caller.require(Needs::All(&needs)), Err(RightsError::Denied { on, .. }) if on == "table raw.crm.orders")
        );
        assert!(matches!(caller.require(Needs::All(&needs[..1])), Err(RightsError::Hidden { .. })));
        assert_eq!(caller.require(Needs::All(&[])), Ok(()));
    }

    #[test]
    fn the_container_of_a_thing_that_the_caller_sees_is_told() {
        let (caller, _) = caller(rows(readers()), "bi");
        let around = |inner: ResourcePath<'static>| {
            let outer = inner.steps().filter(|step| step.leaf().is_none()).last().expect("a namespace");
            [Need { on: inner, required: Required::NOTHING }, Need::new(outer, Privilege::ChooseLocation)]
        };
        let refused = caller.require(Needs::All(&around(orders()))).expect_err("refused");
        assert!(matches!(&refused, RightsError::Denied { on, .. } if on == "namespace raw.crm"), "{refused}");
        let alone = caller.require(Needs::All(&around(orders())[1..])).expect_err("refused");
        assert!(matches!(alone, RightsError::Hidden { .. }), "{alone}");
        let unseen = caller.require(Needs::All(&around(hidden()))).expect_err("refused");
        assert!(matches!(unseen, RightsError::Hidden { .. }), "{unseen}");
    }

    #[test]
    fn one_of_several_ways_is_enough() {
        let give = |privilege: Privilege| PrivilegeSet::from(privilege);
        let mut grants = readers();
        grants.push(grant("g2", Member::client("bi"), Securable::Table { table: table(1) }, give(Privilege::ManageGrants)));
        grants.push(grant("g3", Member::client("etl"), Securable::Server, give(Privilege::ManageAccess)));
        let rows = rows(grants);
        let ways = |on, privilege| Need::to_grant(on, give(privilege));
        let (bi, _) = caller(rows.clone(), "bi");
        assert_eq!(bi.require(Needs::AnyOf(&ways(orders(), Privilege::ReadData))), Ok(()));
        let more = bi.require(Needs::AnyOf(&ways(orders(), Privilege::Modify)));
        assert!(matches!(more, Err(RightsError::Denied { missing, .. }) if missing == Required::privilege(Privilege::Modify)));
        let (etl, _) = caller(rows, "etl");
        assert_eq!(etl.require(Needs::AnyOf(&ways(hidden(), Privilege::Modify))), Ok(()));
        assert!(bi.require(Needs::AnyOf(&[])).is_err());
    }

    #[test]
    fn in_the_mode_report_nothing_is_refused_and_every_refusal_is_recorded() {
        let mut rows = rows(readers());
        rows.mode = AccessMode::Report;
        let (caller, kept) = caller(rows, "bi");
        assert_eq!(caller.require(&Need::new(hidden(), Privilege::Drop)), Ok(()));
        assert!(caller.sees(&hidden()) && caller.sees_all_below(&ResourcePath::SERVER));
        assert_eq!(*kept.0.lock().expect("no panic"), ["bi DROP table raw.hidden false false"]);
    }

    #[test]
    fn what_break_glass_allows_is_recorded() {
        let (caller, kept) = caller(rows(Vec::new()), "break-glass-1");
        assert_eq!(caller.require(&Need::new(orders(), Privilege::Drop)), Ok(()));
        assert_eq!(*kept.0.lock().expect("no panic"), ["break-glass-1 DROP table raw.crm.orders true true"]);
    }

    #[test]
    fn a_list_of_break_glass_is_recorded_and_one_of_others_is_not() {
        let (glass, kept) = caller(rows(Vec::new()), "break-glass-1");
        glass.record_break_glass();
        assert_eq!(*kept.0.lock().expect("no panic"), ["break-glass-1 nothing the server true true"]);
        let (bi, kept) = caller(rows(readers()), "bi");
        bi.record_break_glass();
        let mut off = rows(Vec::new());
        off.mode = AccessMode::Off;
        let (idle, unused) = caller(off, "break-glass-1");
        idle.record_break_glass();
        assert!(kept.0.lock().expect("no panic").is_empty() && unused.0.lock().expect("no panic").is_empty());
    }

    #[test]
    fn a_change_of_the_audit_trail_is_refused_in_every_mode() {
        let audit = ResourcePath::warehouse(1, "lake").namespace("system").table(table(3), "audit");
        for mode in [AccessMode::Off, AccessMode::Report, AccessMode::On] {
            let mut rows = rows(readers());
            rows.mode = mode;
            let (caller, kept) = caller(rows, "root");
            let refused = caller.require(&Need::new(audit, Privilege::Drop)).expect_err("refused");
            assert!(matches!(refused, RightsError::AuditTrail { .. }), "{mode:?}: {refused}");
            assert_eq!(*kept.0.lock().expect("no panic"), ["root DROP table system.audit false true"], "{mode:?}");
            assert_eq!(caller.require(&Need::new(audit, Privilege::ReadData)), Ok(()), "{mode:?}");
            let new = caller.refuse_new_audit_table(audit, Required::privilege(Privilege::CreateTable));
            assert!(matches!(new, RightsError::AuditTrail { .. }), "{mode:?}: {new}");
            let last = kept.0.lock().expect("no panic").last().cloned();
            assert_eq!(last.as_deref(), Some("root CREATE_TABLE table system.audit false true"), "{mode:?}");
        }
    }

    #[test]
    fn the_owner_of_a_view_acts_with_its_own_rights_and_an_emergency_owns_nothing() {
        let give = |owner: Member| {
            let mut rows = rows(readers());
            rows.owners.push(OwnerRow { table: table(9), owner });
            rows
        };
        let read = Need::new(orders(), Privilege::ReadData);
        let (nobody, _) = caller(give(Member::client("bi")), "nobody");
        assert!(nobody.require(&read).is_err() && !nobody.owns(table(9)));
        let owner = nobody.as_owner_of(table(9)).expect("an owner");
        assert_eq!((owner.require(&read), owner.owns(table(9))), (Ok(()), true));
        assert!(nobody.as_owner_of(table(1)).is_none(), "it has no owner");
        let user = Member::User { issuer: "https://idp".to_owned(), name: "ann".to_owned() };
        let owner = caller(give(user), "nobody").0.as_owner_of(table(9)).expect("an owner");
        assert!(owner.require(&read).is_err(), "nothing is granted to the user");
        let (nobody, _) = caller(give(Member::client("break-glass-1")), "nobody");
        assert!(nobody.as_owner_of(table(9)).is_none());
    }

    #[test]
    fn a_list_needs_no_filter_where_everything_is_seen() {
        let on = Securable::Warehouse { warehouse: 1 };
        let (caller, _) = caller(rows(vec![grant("g", Member::client("bi"), on, Privilege::List.into())]), "bi");
        assert!(caller.sees_all_below(&ResourcePath::warehouse(1, "lake").namespace("raw")));
        assert!(!caller.sees_all_below(&ResourcePath::SERVER));
        assert!(caller.sees(&hidden()));
    }
}
