//! Explanations: the reasons why a subject may or may not do something.

use std::fmt;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::index::Visitor;
use crate::role::{Held, MemberId};
use crate::{
    AccessDecision, AccessMode, Leaf, Member, PolicyQuestion, Privilege, PrivilegeSet, RequestFacts, Required, ResourcePath,
    Restrictions, RuleRef, Rules, SecurableKind, Subject,
};

/// The outcome of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AccessVerdict {
    /// The request is allowed.
    Allowed,
    /// The request is refused with 403.
    Denied,
    /// The request is refused as if the thing did not exist.
    Hidden,
}

/// A role of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExplainedRole {
    /// Name of the role.
    pub role: String,
    /// The way in which the subject got the role.
    pub how: String,
}

/// A grant that counts for a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExplainedGrant {
    /// Id of the grant, or the name of a built-in rule.
    pub rule: String,
    /// Holder of the grant.
    pub to: String,
    /// Privileges that it gives.
    pub privileges: PrivilegeSet,
}

/// One step of the path to a securable, with the grants that count for the subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExplainedStep {
    /// Kind of the securable.
    pub kind: SecurableKind,
    /// Name of the securable; empty for the server.
    pub name: String,
    /// Grants on the securable itself.
    pub grants: Vec<ExplainedGrant>,
}

/// The reasons why a subject may or may not do something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AccessExplanation {
    /// Name of the principal.
    pub principal: String,
    /// Kind and name of the securable.
    pub on: String,
    /// Privileges that were asked about.
    pub required: Required,
    /// Version of the rules.
    pub version: i64,
    /// Mode of access control.
    pub mode: AccessMode,
    /// Roles of the principal.
    pub roles: Vec<ExplainedRole>,
    /// Path to the securable, the server first.
    pub path: Vec<ExplainedStep>,
    /// Privileges that the principal has on the securable.
    pub effective: PrivilegeSet,
    /// Privileges that it lacks.
    pub missing: Required,
    /// Outcome of the decision.
    pub verdict: AccessVerdict,
    /// Rule that allows it: the id of a grant or an access policy, or the name of a built-in rule; none if no rule does.
    pub rule: Option<String>,
    /// Row filter and column masks that restrict the principal on the table, by field ids; null if nothing does, and if the
    /// principal may not read the table's schema.
    #[serde(default)]
    pub restrictions: Option<Restrictions>,
    /// Id of an access policy that forbids what is missing; none if no policy does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forbidden_by: Option<String>,
}

impl Subject {
    /// Explains the decision on a securable.
    ///
    /// In the modes off and report the outcome is that of [`Subject::decide`]: with `report`, it is what the mode `on` would do.
    /// No facts of a request are known, so policies whose conditions read them permit nothing, and forbid. Where the subject is
    /// that of a request, use [`Caller::explain`](crate::Caller::explain).
    pub fn explain(&self, on: &ResourcePath<'_>, required: Required) -> AccessExplanation {
        self.explain_by(on, required, None)
    }

    /// Explains the decision under the facts of a request, if there is one.
    pub(crate) fn explain_by(
        &self,
        on: &ResourcePath<'_>,
        required: Required,
        facts: Option<&RequestFacts>,
    ) -> AccessExplanation {
        let decision = self.decide_by(on, required, facts);
        let (verdict, rule, missing) = match decision {
            AccessDecision::Allow { rule } => (AccessVerdict::Allowed, Some(rule), Required::NOTHING),
            AccessDecision::Deny { visible: true, missing } => (AccessVerdict::Denied, None, missing),
            AccessDecision::Deny { visible: false, missing } => (AccessVerdict::Hidden, None, missing),
        };
        let effective = self.effective_by(on, facts);
        AccessExplanation {
            principal: self.identity().to_string(),
            on: on.text(),
            required,
            version: self.rules.version(),
            mode: self.rules.mode(),
            roles: self.explained_roles(),
            path: on.steps().map(|step| self.explained_step(&step)).collect(),
            restrictions: self.explained_restrictions(on, effective),
            effective,
            missing,
            verdict,
            rule: rule.map(|rule| self.rules.rule_name(rule).to_owned()),
            forbidden_by: self.forbidden_by(on, missing, facts).map(str::to_owned),
        }
    }

    /// Returns the id of a policy that forbids one of the missing privileges.
    pub(crate) fn forbidden_by(&self, on: &ResourcePath<'_>, missing: Required, facts: Option<&RequestFacts>) -> Option<&str> {
        // Who may not read the audit trail lacks a privilege on the server.
        let of_server = on.is_audit_table() && missing == Required::privilege(Privilege::ReadAudit);
        let (on, named) = (if of_server { &ResourcePath::SERVER } else { on }, missing.named());
        let forbidden = self.effects(&PolicyQuestion { on, privileges: named, needed: named, facts }).forbidden.1;
        forbidden.map(|number| self.rules.rule_name(RuleRef::Policy(number)))
    }

    fn explained_restrictions(&self, on: &ResourcePath<'_>, effective: PrivilegeSet) -> Option<Restrictions> {
        match on.leaf()? {
            Leaf::Table { id, .. } if effective.has(Privilege::ReadMetadata) => self.restrictions(id),
            Leaf::Table { .. } | Leaf::View { .. } | Leaf::Function { .. } => None,
        }
    }

    fn explained_roles(&self) -> Vec<ExplainedRole> {
        let members = &self.rules.members;
        let explained = |held: &Held| {
            let Member::Role { name } = members.member(held.id) else { return None };
            let how = match held.through.map(|through| members.member(through)) {
                None => "every caller of this kind has it".to_owned(),
                Some(Member::Claim { value, .. }) => format!("by the claim {value:?}"),
                Some(Member::Role { name }) => format!("through the role {name}"),
                Some(principal @ (Member::User { .. } | Member::Client { .. })) => format!("given to the {principal}"),
            };
            Some(ExplainedRole { role: name.clone(), how })
        };
        self.held.iter().filter_map(explained).collect()
    }

    fn explained_step(&self, step: &ResourcePath<'_>) -> ExplainedStep {
        let mut all = AllGrants { rules: &self.rules, grants: Vec::new() };
        match self.rules.index.visit_step(step, &self.holders, &mut all) {
            ControlFlow::Break(()) | ControlFlow::Continue(()) => {}
        }
        ExplainedStep { kind: step.kind(), name: step.name(), grants: all.grants }
    }
}

/// All grants on a securable that count for a subject.
struct AllGrants<'a> {
    rules: &'a Rules,
    grants: Vec<ExplainedGrant>,
}

impl Visitor for AllGrants<'_> {
    fn open(&self) -> PrivilegeSet {
        PrivilegeSet::ALL
    }

    fn visit(&mut self, holder: MemberId, privileges: PrivilegeSet, rule: RuleRef) -> ControlFlow<()> {
        let (rule, to) = (self.rules.rule_name(rule).to_owned(), self.rules.members.member(holder).to_string());
        self.grants.push(ExplainedGrant { rule, to, privileges });
        ControlFlow::Continue(())
    }
}

/// Prints the explanation for people, over several lines.
impl fmt::Display for AccessExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} asks for {} on {}", self.principal, self.required, self.on)?;
        writeln!(f, "rules: version {}, mode {}", self.version, self.mode.as_str())?;
        writeln!(f, "roles:")?;
        for role in &self.roles {
            writeln!(f, "  {}: {}", role.role, role.how)?;
        }
        writeln!(f, "path:")?;
        for step in &self.path {
            let none = if step.grants.is_empty() { ": no grant" } else { "" };
            match step.kind {
                SecurableKind::Server => writeln!(f, "  server{none}")?,
                kind => writeln!(f, "  {kind} {}{none}", step.name)?,
            }
            for grant in &step.grants {
                writeln!(f, "    {} to {}: {}", grant.rule, grant.to, grant.privileges)?;
            }
        }
        if let Some(Restrictions { filter, masks }) = &self.restrictions {
            if let Some(filter) = filter {
                writeln!(f, "rows: those with {}", filter.to_sql(&|id| format!("field_{id}")))?;
            }
            for (id, action) in masks {
                writeln!(f, "mask: field_{id} by {action}")?;
            }
        }
        match self.verdict {
            AccessVerdict::Allowed => return write!(f, "allowed by {}", self.rule.as_deref().unwrap_or("no rule")),
            AccessVerdict::Denied => f.write_str("refused: ")?,
            AccessVerdict::Hidden => f.write_str("refused, as if it did not exist: ")?,
        }
        match &self.forbidden_by {
            Some(policy) => write!(f, "forbidden by {policy}"),
            None => write!(f, "no rule gives {}", self.missing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{client, grant, namespace, orders, rows, table};
    use crate::{ColumnMaskRow, FilterExpr, MaskAction, RowFilterRow, Securable};

    #[test]
    fn an_explanation_shows_restrictions_to_who_may_read_the_schema() {
        let on = Securable::Table { table: table(1) };
        let mut rows = rows(vec![grant("g1", Member::client("bi"), on, Privilege::ReadMetadata.into())]);
        let filter = FilterExpr::NotNull(3);
        rows.filters = vec![RowFilterRow { id: "f".into(), table: table(1), to: Member::client("bi"), filter }];
        rows.masks = vec![ColumnMaskRow { table: table(1), field_id: 4, action: MaskAction::ShowLast4, except: Vec::new() }];
        let explained = client(rows.clone(), "bi").explain(&orders(), Required::privilege(Privilege::ReadMetadata));
        let text = explained.to_string();
        assert!(text.ends_with("rows: those with field_3 IS NOT NULL\nmask: field_4 by show-last-4\nallowed by g1"), "{text}");
        let json = serde_json::to_value(&explained).expect("JSON");
        assert_eq!(json["restrictions"]["masks"], serde_json::json!([[4, "show-last-4"]]));
        assert_eq!(serde_json::from_value::<AccessExplanation>(json).expect("an explanation"), explained);
        let other = client(rows, "etl").explain(&orders(), Required::privilege(Privilege::ReadMetadata));
        assert_eq!(other.restrictions, None, "it would tell the columns");
    }

    #[test]
    fn an_explanation_shows_how_each_role_was_got_and_which_grant_counts() {
        let on = Securable::Namespace { warehouse: 1, namespace: namespace("raw") };
        let some = PrivilegeSet::of(&[Privilege::List, Privilege::ReadData]);
        let rows = rows(vec![grant("g1", Member::role("readers"), on, some)]);
        let explained = client(rows, "etl").explain(&orders(), Required::all(some));
        let text = "\
etl asks for LIST, READ_DATA on table lake.raw.crm.orders
rules: version 7, mode on
roles:
  esker:everyone: every caller of this kind has it
  writers: given to the client etl
  readers: through the role writers
path:
  server: no grant
  warehouse lake: no grant
  namespace raw
    g1 to role readers: LIST, READ_DATA
  namespace raw.crm: no grant
  table raw.crm.orders: no grant
allowed by g1";
        assert_eq!(explained.to_string(), text);
    }

    #[test]
    fn an_explanation_of_a_refusal_says_what_no_rule_gives() {
        let explained = client(rows(Vec::new()), "bi").explain(&orders(), Required::privilege(Privilege::Drop));
        assert_eq!(explained.verdict, AccessVerdict::Hidden);
        assert!(explained.to_string().ends_with("refused, as if it did not exist: no rule gives DROP"), "{explained}");
        let json = serde_json::to_value(&explained).expect("JSON");
        assert_eq!(json["missing"], serde_json::json!({"all": ["DROP"], "any_of": []}));
        assert_eq!((&json["verdict"], &json["mode"]), (&serde_json::json!("hidden"), &serde_json::json!("on")));
        assert_eq!(serde_json::from_value::<AccessExplanation>(json.clone()).expect("an explanation"), explained);
        assert_eq!(json["path"][3], serde_json::json!({"kind": "namespace", "name": "raw.crm", "grants": []}));
    }

    #[test]
    fn claims_and_built_in_rules_are_named() {
        let mut rows = rows(Vec::new());
        let claim = Member::Claim { issuer: "https://id".into(), value: "ops".into() };
        rows.members.push(crate::MemberRow { role: "esker:admin".into(), member: claim });
        let rules = std::sync::Arc::new(Rules::build(rows).expect("rules"));
        let claims = vec!["ops".into()];
        let ann = crate::Identity::User { issuer: "https://id".into(), name: "ann".into(), claims };
        let explained = Subject::new(rules, ann).explain(&orders(), Required::privilege(Privilege::Drop));
        assert_eq!((explained.principal.as_str(), explained.rule.as_deref()), ("https://id/ann", Some("esker:admin")));
        assert!(explained.roles.iter().any(|role| role.role == "esker:admin" && role.how == "by the claim \"ops\""));
    }
}
