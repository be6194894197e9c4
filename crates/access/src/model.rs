//! Property tests: decisions on random rules are those of a model that looks at every rule.
//!
//! The model has no index. It repeats the memberships until nothing is added, and compares names with names.

use std::collections::BTreeSet;
use std::sync::Arc;

use esker_types::TableId;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::samples::{TestPolicies, TestPolicy, namespace, table};
use crate::{
    AccessDecision, AccessMode, Bundle, ColumnMaskRow, FilterExpr, GrantRow, Identity, MaskAction, Member, MemberRow, OwnerRow,
    Privilege, PrivilegeSet, RequestFacts, Required, ResourcePath, RoleRow, RowFilterRow, RuleRows, Rules, Securable,
    SecurableKind, Subject,
};

/// The names of the roles; a role may be a member of a later one.
const ROLES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// Keys of namespaces, some of which contain others.
const NAMESPACES: [&str; 5] = ["n", "n\u{1f}m", "n\u{1f}m\u{1f}o", "nm", "x"];

/// Every path of the model: one of each container, and a table, a view and a function in each namespace.
pub(crate) fn paths() -> Vec<ResourcePath<'static>> {
    let mut paths = vec![ResourcePath::SERVER];
    for (warehouse, name) in [(1_i64, "lake"), (2, "pond")] {
        let lake = ResourcePath::warehouse(warehouse, name);
        paths.push(lake);
        for (n, key) in (0..).zip(NAMESPACES) {
            let (here, first) = (lake.namespace(key), warehouse.unsigned_abs() * 100 + n * 2);
            let (id, view) = (table(first.into()), table(u128::from(first) + 1));
            paths.extend([here, here.table(id, "t"), here.view(view, "v"), here.function("f")]);
        }
    }
    paths
}

/// The securable at the end of a path.
pub(crate) fn end(path: &ResourcePath<'_>) -> Securable {
    let warehouse = path.warehouse_part().map_or(0, |(id, _)| id);
    let levels = || namespace(path.namespace_part().expect("a namespace"));
    match (path.kind(), path.leaf()) {
        (SecurableKind::Server, _) => Securable::Server,
        (SecurableKind::Warehouse, _) => Securable::Warehouse { warehouse },
        (_, Some(crate::Leaf::Table { id, .. })) => Securable::Table { table: id },
        (_, Some(crate::Leaf::View { id, .. })) => Securable::View { view: id },
        (_, Some(crate::Leaf::Function { name })) => Securable::Function { warehouse, namespace: levels(), name: name.into() },
        _ => Securable::Namespace { warehouse, namespace: levels() },
    }
}

/// Identities, some of which have claims.
pub(crate) fn identities() -> Vec<Identity> {
    let user = |claims: &[&str]| {
        let claims = claims.iter().map(|claim| Arc::from(*claim)).collect();
        Identity::User { issuer: "i".into(), name: "u".into(), claims }
    };
    vec![Identity::client("c"), Identity::client("d"), user(&[]), user(&["g"]), user(&["g", "h"]), Identity::Anonymous]
}

fn leaf_members() -> Vec<Member> {
    let claim = |value: &str| Member::Claim { issuer: "i".into(), value: value.into() };
    let user = Member::User { issuer: "i".into(), name: "u".into() };
    vec![Member::client("c"), Member::client("d"), user, claim("g"), claim("h")]
}

/// Memberships without cycles: of principals and claims in any role, of a role in a later one.
fn memberships() -> impl Strategy<Value = Vec<MemberRow>> {
    let of_leaf = (select(&ROLES), select(leaf_members())).prop_map(|(role, member)| (role, member));
    let of_role = (1..ROLES.len()).prop_flat_map(|at| (Just(ROLES[at]), select(&ROLES[..at])));
    let of_role = of_role.prop_map(|(role, member)| (role, Member::role(member)));
    let of_admin = Just(("esker:admin", Member::role("f")));
    let row = prop_oneof![6 => of_leaf, 6 => of_role, 1 => of_admin];
    vec(row.prop_map(|(role, member)| MemberRow { role: role.to_owned(), member }), 0..12)
}

/// A few privileges, so that sets often overlap.
fn privileges() -> impl Strategy<Value = PrivilegeSet> {
    let some = [
        Privilege::Use,
        Privilege::List,
        Privilege::ReadData,
        Privilege::Append,
        Privilege::CreateTable,
        Privilege::Drop,
        Privilege::Monitor,
    ];
    vec(select(some.to_vec()), 1..4).prop_map(|all| all.into_iter().collect())
}

/// Every role and every other member: holders of grants, principals of policies.
fn holders() -> Vec<Member> {
    let roles = ROLES.into_iter().chain(["esker:everyone", "esker:anonymous"]).map(Member::role);
    roles.chain(leaf_members()).collect()
}

fn policies() -> impl Strategy<Value = Vec<TestPolicy>> {
    let policy = (any::<bool>(), select(holders()), select(paths()), privileges(), any::<bool>());
    let policy = policy.prop_map(|(forbids, to, path, privileges, needs_tls)| {
        let on = end(&path);
        TestPolicy { forbids, to, on, privileges, needs_tls }
    });
    vec(policy, 0..12)
}

fn grants() -> impl Strategy<Value = Vec<GrantRow>> {
    let future = prop_oneof![9 => Just(None), 1 => Just(Some(SecurableKind::Table))];
    let grant = (select(holders()), select(paths()), privileges(), future).prop_map(|(to, path, privileges, future)| {
        let on = end(&path);
        let future = future.filter(|kind| on.kind().can_contain(*kind));
        GrantRow { id: String::new(), to, on, privileges, future }
    });
    vec(grant, 0..40)
}

/// The ids of all tables.
fn tables() -> Vec<TableId> {
    paths().iter().map(end).filter_map(|s| if let Securable::Table { table } = s { Some(table) } else { None }).collect()
}

/// Row filters, each on a field of its own, by which it is recognised, and column masks.
fn restrictions() -> impl Strategy<Value = (Vec<RowFilterRow>, Vec<ColumnMaskRow>)> {
    let few = || select(tables()[..3].to_vec());
    let filters = vec((few(), select(holders())), 0..8).prop_map(|all| {
        let filter = |(at, (table, to)): (i32, _)| RowFilterRow { id: at.to_string(), table, to, filter: FilterExpr::IsNull(at) };
        (0..).zip(all).map(filter).collect::<Vec<_>>()
    });
    let mask = (few(), 0..4_i32, select(&MaskAction::ALL), vec(select(holders()), 0..3));
    let mask = mask.prop_map(|(table, field_id, action, except)| ColumnMaskRow { table, field_id, action, except });
    let masks = vec(mask, 0..8).prop_map(|all| {
        let mut rows = RuleRows::default();
        all.iter().for_each(|mask| rows.set_column_mask(mask).expect("members with names"));
        rows.masks
    });
    (filters, masks)
}

/// Rules with random memberships, grants and owners.
pub(crate) fn rows() -> impl Strategy<Value = RuleRows> {
    let owner = (select(tables()), select(leaf_members())).prop_map(|(table, owner)| OwnerRow { table, owner });
    (memberships(), grants(), vec(owner, 0..3)).prop_map(|(members, grants, owners)| RuleRows {
        version: 1,
        mode: AccessMode::On,
        roles: ROLES.map(|name| RoleRow { name: name.to_owned() }).to_vec(),
        members,
        grants,
        owners,
        ..RuleRows::default()
    })
}

/// Everything that an identity stands for.
fn stands_for(rows: &RuleRows, identity: &Identity) -> BTreeSet<Member> {
    let mut held: BTreeSet<Member> = match identity {
        Identity::User { issuer, name, claims } => {
            let claim = |value: &Arc<str>| Member::Claim { issuer: issuer.to_string(), value: value.to_string() };
            let user = Member::User { issuer: issuer.to_string(), name: name.to_string() };
            claims.iter().map(claim).chain([user, Member::role("esker:everyone")]).collect()
        }
        Identity::Client { name } => [Member::client(&**name), Member::role("esker:everyone")].into(),
        Identity::Anonymous => [Member::role("esker:anonymous")].into(),
    };
    loop {
        let more = rows.members.iter().filter(|row| held.contains(&row.member)).map(|row| Member::role(&row.role));
        let more: Vec<_> = more.filter(|role| !held.contains(role)).collect();
        if more.is_empty() {
            return held;
        }
        held.extend(more);
    }
}

/// Checks that a securable is the end of a path or contains it.
pub(crate) fn covers(on: &Securable, path: &ResourcePath<'_>) -> bool {
    let within = |outer: &Securable| match (outer, path.warehouse_part(), path.namespace_part()) {
        (Securable::Server, ..) => true,
        (Securable::Warehouse { warehouse }, Some((id, _)), _) => *warehouse == id,
        (Securable::Namespace { warehouse, namespace: name }, Some((id, _)), Some(key)) => {
            *warehouse == id && namespace(key).levels().starts_with(name.levels())
        }
        _ => false,
    };
    *on == end(path) || within(on)
}

/// The privileges of an identity by the model.
fn model(rows: &RuleRows, identity: &Identity, path: &ResourcePath<'_>) -> PrivilegeSet {
    let held = stands_for(rows, identity);
    let own = Bundle::Own.privileges(SecurableKind::Table, PrivilegeSet::EMPTY);
    let owned = rows.owners.iter().filter(|row| held.contains(&row.owner) && end(path) == Securable::Table { table: row.table });
    let granted = rows.grants.iter().filter(|row| row.future.is_none() && held.contains(&row.to) && covers(&row.on, path));
    let granted = granted.map(|row| row.privileges.intersection(row.on.kind().privileges()));
    let admin = held.contains(&Member::role("esker:admin")).then_some(PrivilegeSet::ALL);
    granted.chain(owned.map(|_| own)).chain(admin).fold(PrivilegeSet::EMPTY, PrivilegeSet::union)
}

/// The privileges of an identity by the model, with policies. `is_tls` says if a request came over TLS; `None` if there is none.
fn model_with_policies(
    rows: &RuleRows,
    policies: &[TestPolicy],
    identity: &Identity,
    path: &ResourcePath<'_>,
    is_tls: Option<bool>,
) -> PrivilegeSet {
    let held = stands_for(rows, identity);
    let reached = |forbids: bool| {
        let applying = policies.iter().filter(|policy| policy.forbids == forbids && policy.applies(is_tls));
        let here = applying.filter(|policy| held.contains(&policy.to) && covers(&policy.on, path));
        here.fold(PrivilegeSet::EMPTY, |all, policy| all.union(policy.privileges))
    };
    model(rows, identity, path).union(reached(false)).without(reached(true))
}

fn subject_with_policies(rows: &RuleRows, identity: &Identity, policies: Vec<TestPolicy>) -> Subject {
    let rules = Rules::build(rows.clone()).expect("rules").with_policies(Arc::new(TestPolicies::new(policies)));
    Subject::new(Arc::new(rules), identity.clone())
}

/// An identity under the rules that rows make.
pub(crate) fn subject(rows: &RuleRows, identity: &Identity) -> Subject {
    Subject::new(Arc::new(Rules::build(rows.clone()).expect("rules")), identity.clone())
}

proptest! {
    #[test]
    fn decisions_are_those_of_the_model(
        rows in rows(), identity in select(identities()), all in privileges(), any in privileges(),
    ) {
        let subject = subject(&rows, &identity);
        for path in paths() {
            let held = model(&rows, &identity, &path);
            prop_assert_eq!(subject.effective(&path), held, "{}", path);
            let seen = path.kind() == SecurableKind::Server || held.intersects(path.kind().privileges_to_see());
            prop_assert_eq!(subject.decide(&path, Required::NOTHING).is_allowed(), seen, "{}", path);
            for required in [Required::all(all), Required::any_of(any), Required::all(all).and_any_of(any)] {
                let decision = subject.decide(&path, required);
                prop_assert_eq!(decision.is_allowed(), required.is_met_by(held), "{} on {}", required, path);
                if let AccessDecision::Deny { visible, missing } = decision {
                    prop_assert_eq!(visible, subject.is_visible(&path));
                    prop_assert!(!missing.named().intersects(held));
                    prop_assert!(required.is_met_by(held.union(missing.named())));
                }
            }
        }
    }

    #[test]
    fn a_grant_or_a_membership_never_takes_a_right_away(
        before in rows(), grants in grants(), members in memberships(), identity in select(identities()),
    ) {
        let mut after = before.clone();
        after.grants.extend(grants);
        after.members.extend(members);
        let (before, after) = (subject(&before, &identity), subject(&after, &identity));
        for path in paths() {
            prop_assert!(after.effective(&path).contains(before.effective(&path)), "{}", path);
        }
    }

    #[test]
    fn a_uniform_container_has_no_exception(rows in rows(), identity in select(identities()), wanted in privileges()) {
        let subject = subject(&rows, &identity);
        for container in paths().iter().filter(|container| subject.uniform_below(container, wanted)) {
            for path in paths().iter().filter(|path| path.steps().any(|step| step == *container)) {
                prop_assert!(subject.decide(path, Required::all(wanted)).is_allowed(), "{} in {}", path, container);
            }
        }
    }

    #[test]
    fn restrictions_are_those_of_the_model(
        rows in rows(), (filters, masks) in restrictions(), identity in select(identities()),
    ) {
        let rows = RuleRows { filters, masks, ..rows };
        let (subject, held) = (subject(&rows, &identity), stands_for(&rows, &identity));
        for table in tables() {
            let found = subject.restrictions(table);
            let of_table: Vec<_> = rows.filters.iter().filter(|row| row.table == table).collect();
            let seen: BTreeSet<i32> =
                of_table.iter().filter(|row| held.contains(&row.to)).flat_map(|row| row.filter.field_ids()).collect();
            let filter = found.as_ref().and_then(|found| found.filter.as_ref());
            prop_assert_eq!(filter.is_some(), !of_table.is_empty());
            prop_assert_eq!(filter == Some(&FilterExpr::False), !of_table.is_empty() && seen.is_empty());
            prop_assert_eq!(filter.map(FilterExpr::field_ids).unwrap_or_default(), seen);
            let applies = |row: &&ColumnMaskRow| row.table == table && !row.except.iter().any(|member| held.contains(member));
            let mut masks: Vec<_> = rows.masks.iter().filter(applies).map(|row| (row.field_id, row.action)).collect();
            masks.sort_unstable();
            prop_assert_eq!(found.map(|found| found.masks).unwrap_or_default(), masks);
        }
    }

    #[test]
    fn an_explanation_names_every_grant_that_counts(rows in rows(), identity in select(identities()), wanted in privileges()) {
        let subject = subject(&rows, &identity);
        for path in paths() {
            let explanation = subject.explain(&path, Required::all(wanted));
            let grants = explanation.path.iter().flat_map(|step| &step.grants).map(|grant| grant.privileges);
            prop_assert_eq!(grants.fold(PrivilegeSet::EMPTY, PrivilegeSet::union), model(&rows, &identity, &path));
            prop_assert_eq!(explanation.verdict == crate::AccessVerdict::Allowed, explanation.missing == Required::NOTHING);
        }
    }

    #[test]
    fn policies_add_to_grants_and_take_away_what_they_forbid(
        rows in rows(), policies in policies(), identity in select(identities()), all in privileges(), is_tls in any::<bool>(),
    ) {
        let subject = subject_with_policies(&rows, &identity, policies.clone());
        let facts = RequestFacts { is_tls, ..RequestFacts::default() };
        for path in paths() {
            let held = model_with_policies(&rows, &policies, &identity, &path, Some(is_tls));
            let decision = subject.decide_by(&path, Required::all(all), Some(&facts));
            prop_assert_eq!(decision.is_allowed(), held.contains(all), "{}", path);
            let seen = path.kind() == SecurableKind::Server || held.intersects(path.kind().privileges_to_see());
            prop_assert_eq!(subject.is_visible_by(&path, Some(&facts)), seen, "{}", path);
            if let AccessDecision::Deny { visible, .. } = decision {
                prop_assert_eq!(visible, seen, "{}", path);
            }
            let unknown = model_with_policies(&rows, &policies, &identity, &path, None);
            prop_assert_eq!(subject.effective(&path), unknown, "{}", path);
        }
    }

    #[test]
    fn a_uniform_container_has_no_policy_that_forbids_in_it(
        rows in rows(), policies in policies(), identity in select(identities()), wanted in privileges(), is_tls in any::<bool>(),
    ) {
        let subject = subject_with_policies(&rows, &identity, policies);
        let facts = RequestFacts { is_tls, ..RequestFacts::default() };
        for container in paths().iter().filter(|container| subject.uniform_below(container, wanted)) {
            for path in paths().iter().filter(|path| path.steps().any(|step| step == *container)) {
                let decision = subject.decide_by(path, Required::all(wanted), Some(&facts));
                prop_assert!(decision.is_allowed(), "{} in {}", path, container);
            }
        }
    }
}
