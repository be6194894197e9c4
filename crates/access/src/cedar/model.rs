//! Random policies and questions: what the engine selects and decides is what a model finds that looks at every policy.
//!
//! The model has no index. It compares the texts of entities, and looks at one privilege at a time.

use std::fmt::Write as _;
use std::sync::Arc;

use super::compile;
use super::schema::EntityKind;
use crate::samples::table;
use crate::{
    AccessPolicies, Identity, Member, MoveChanges, PolicyEffects, PolicyQuestion, PolicyRow, PolicyScope, Privilege,
    PrivilegeSet, RequestFacts, ResourcePath, SecurableKind,
};

/// An entity: its type and its id.
type Named = (EntityKind, String);

/// A source of numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    /// Returns a number below a limit.
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).expect("small")
    }

    /// Returns one of some values.
    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

/// The scope of a policy.
#[derive(Debug, Clone, Default)]
struct Scope {
    kind: Option<EntityKind>,
    /// True for the entity itself, false for what is in it.
    entity: Option<(bool, Named)>,
}

impl Scope {
    /// Checks that the scope holds for the last of some entities, each of which is in those before it.
    fn holds(&self, chain: &[Named]) -> bool {
        let itself = chain.last().expect("an entity");
        let fits = |(equals, entity): &(bool, Named)| if *equals { entity == itself } else { chain.contains(entity) };
        self.kind.is_none_or(|kind| kind == itself.0) && self.entity.as_ref().is_none_or(fits)
    }

    /// Prints the scope after its variable.
    fn text(&self) -> String {
        let mut text = self.kind.map(|kind| format!(" is {kind}")).unwrap_or_default();
        if let Some((equals, (kind, id))) = &self.entity {
            let id = id.replace('"', "\\\"");
            write!(text, " {} {kind}::\"{id}\"", if *equals { "==" } else { "in" }).expect("a string");
        }
        text
    }
}

/// The condition of a policy, with its text.
const CONDITIONS: [&str; 10] = [
    "",
    "when { context.tls }",
    "unless { context.tls }",
    "when { resource has name && resource.name == \"t\" }",
    "when { action == Esker::Action::\"READ_DATA\" }",
    "unless { principal in Esker::Role::\"a\" }",
    "when { principal is Esker::User && context.tls }",
    "when { resource has name && resource.name == \"t\" && context.tls }",
    "when { resource has name && resource.name like \"*b\" }",
    "when { resource has name && resource.name like \"a*\" }",
];

/// A policy.
#[derive(Debug, Clone)]
struct Sample {
    forbids: bool,
    principal: Scope,
    actions: Vec<Privilege>,
    resource: Scope,
    condition: usize,
}

impl Sample {
    fn text(&self) -> String {
        let effect = if self.forbids { "forbid" } else { "permit" };
        let actions: Vec<_> = self.actions.iter().map(|of| format!("Esker::Action::\"{of}\"")).collect();
        let (principal, resource, condition) = (self.principal.text(), self.resource.text(), CONDITIONS[self.condition]);
        format!("{effect}(principal{principal}, action in [{}], resource{resource}) {condition};\n", actions.join(", "))
    }

    /// Checks that the policy applies to one privilege.
    fn applies(&self, who: &[Named], what: &[Named], name: &str, privilege: Privilege, is_tls: Option<bool>) -> bool {
        let tls = |wanted| is_tls.map_or(self.forbids, |is_tls| is_tls == wanted);
        let met = match self.condition {
            0 => true,
            1 => tls(true),
            2 => tls(false),
            3 => name == "t",
            4 => privilege == Privilege::ReadData,
            5 => !who.contains(&(EntityKind::Role, "a".to_owned())),
            6 => who.last().expect("a principal").0 == EntityKind::User && tls(true),
            7 => name == "t" && tls(true),
            8 => name.ends_with('b'),
            _ => name.starts_with('a'),
        };
        self.actions.contains(&privilege) && self.principal.holds(who) && self.resource.holds(what) && met
    }
}

/// The server, and containers and contents of two warehouses, with the name of each.
fn paths() -> Vec<(ResourcePath<'static>, &'static str)> {
    let mut paths = vec![(ResourcePath::SERVER, "")];
    for (id, name) in [(1, "lake"), (2, "my lake")] {
        let lake = ResourcePath::warehouse(id, name);
        paths.push((lake, name));
        for (key, level) in [("a", "a"), ("a\u{1f}b", "b"), ("a.b", "a.b"), ("ab", "ab")] {
            let here = lake.namespace(key);
            paths.extend([(here, level), (here.table(table(1), "t"), "t"), (here.view(table(2), "t"), "t")]);
            paths.push((here.function("f.g"), "f.g"));
        }
    }
    paths
}

/// The entities of a path, the server first.
fn chain(path: &ResourcePath<'_>) -> Vec<Named> {
    let id = |step: &ResourcePath<'_>| if step.kind() == SecurableKind::Server { "server".to_owned() } else { step.dotted() };
    path.steps().map(|step| (EntityKind::of(step.kind()), id(&step))).collect()
}

/// Identities with their roles.
fn subjects() -> Vec<(Identity, Vec<Member>)> {
    let user = |name: &str, claims: &[&str], roles: &[&str]| {
        let members = [Member::User { issuer: "i".into(), name: name.into() }].into_iter();
        let of = claims.iter().map(|value| Member::Claim { issuer: "i".into(), value: (*value).into() });
        let members = members.chain(of).chain(roles.iter().map(|role| Member::role(*role))).collect();
        let claims = claims.iter().map(|claim| Arc::from(*claim)).collect();
        (Identity::User { issuer: "i".into(), name: name.into(), claims }, members)
    };
    vec![
        (Identity::client("c"), vec![Member::client("c"), Member::role("a")]),
        (Identity::client("d"), vec![Member::client("d")]),
        user("u", &["g"], &["b", "a"]),
        user("v", &["g", "g"], &[]),
        (Identity::Anonymous, vec![Member::role(crate::ANONYMOUS)]),
    ]
}

/// The entities of a subject, the principal last.
fn entities(identity: &Identity, members: &[Member]) -> Vec<Named> {
    let mut all = vec![(EntityKind::Anonymous, "anonymous".to_owned())];
    for member in members {
        match member {
            Member::Role { name } => all.insert(0, (EntityKind::Role, name.clone())),
            Member::Claim { .. } => all.insert(0, (EntityKind::Claim, member.to_string())),
            Member::Client { name } => all.push((EntityKind::Client, name.clone())),
            Member::User { .. } => all.push((EntityKind::User, member.to_string())),
        }
    }
    if *identity != Identity::Anonymous {
        all.retain(|(kind, _)| *kind != EntityKind::Anonymous);
    }
    all
}

fn principal_scope(numbers: &mut Numbers) -> Scope {
    let named = |equals, kind, id: &str| Scope { kind: None, entity: Some((equals, (kind, id.to_owned()))) };
    let users_with_a = Scope { kind: Some(EntityKind::User), ..named(false, EntityKind::Role, "a") };
    numbers.one(&[
        Scope::default(),
        named(true, EntityKind::Client, "c"),
        named(false, EntityKind::Client, "d"),
        named(true, EntityKind::User, "user i/u"),
        named(true, EntityKind::Anonymous, "anonymous"),
        named(false, EntityKind::Role, "a"),
        named(false, EntityKind::Role, crate::ANONYMOUS),
        named(false, EntityKind::Claim, "claim i/g"),
        Scope { kind: Some(EntityKind::User), entity: None },
        users_with_a,
    ])
}

fn resource_scope(numbers: &mut Numbers) -> Scope {
    let (path, _) = numbers.one(&paths());
    let named = chain(&path).pop().expect("an entity");
    let kinds: Vec<_> = EntityKind::RESOURCES.into_iter().filter(|kind| kind.can_be_in(named.0)).collect();
    match numbers.below(6) {
        0 => Scope::default(),
        1 => Scope { kind: Some(numbers.one(&EntityKind::RESOURCES)), entity: None },
        2 => Scope { kind: None, entity: Some((true, named)) },
        3 => Scope { kind: Some(numbers.one(&kinds)), entity: Some((false, named)) },
        _ => Scope { kind: None, entity: Some((false, named)) },
    }
}

/// A few privileges, so that policies often have the same.
const PRIVILEGES: [Privilege; 4] = [Privilege::List, Privilege::ReadData, Privilege::Drop, Privilege::ManageAccess];

fn sample(numbers: &mut Numbers) -> Sample {
    let count = 1 + numbers.below(2);
    Sample {
        forbids: numbers.below(2) == 0,
        principal: principal_scope(numbers),
        actions: (0..count).map(|_| numbers.one(&PRIVILEGES)).collect(),
        resource: resource_scope(numbers),
        condition: numbers.below(CONDITIONS.len()),
    }
}

fn compiled(samples: &[Sample]) -> Arc<dyn AccessPolicies> {
    let (first, rest) = samples.split_at(samples.len() / 2);
    let row = |name: &str, of: &[Sample]| PolicyRow { name: name.into(), text: of.iter().map(Sample::text).collect() };
    let rows = [row("p", first), row("q", rest)];
    compile(&rows).unwrap_or_else(|e| panic!("{e}: {rows:?}")).expect("policies")
}

/// The effects of policies, found by a look at each.
fn expected(samples: &[Sample], who: &[Named], name: &str, question: &PolicyQuestion<'_>) -> PolicyEffects {
    let (mut effects, what) = (PolicyEffects::default(), chain(question.on));
    let is_tls = question.facts.map(|facts| facts.is_tls);
    for (number, sample) in (0..).zip(samples) {
        for privilege in question.privileges.iter().filter(|of| sample.applies(who, &what, name, *of, is_tls)) {
            let effect = if sample.forbids { &mut effects.forbidden } else { &mut effects.permitted };
            effect.0 = effect.0.union(privilege.into());
            effect.1 = if question.needed.has(privilege) { Some(number) } else { effect.1 };
        }
    }
    effects
}

#[test]
fn effects_are_those_of_all_policies() {
    let mut numbers = Numbers(0x5eed);
    let (paths, subjects) = (paths(), subjects());
    let tls = |is_tls| RequestFacts { is_tls, ..RequestFacts::default() };
    let (with, without) = (tls(true), tls(false));
    let mut effective = 0;
    for _ in 0..200 {
        let samples: Vec<_> = (0..12).map(|_| sample(&mut numbers)).collect();
        let policies = compiled(&samples);
        for (identity, members) in &subjects {
            let who = entities(identity, members);
            let selected = policies.select(identity, &members.iter().collect::<Vec<_>>());
            for (on, name) in &paths {
                let privileges = PrivilegeSet::of(&[numbers.one(&PRIVILEGES), numbers.one(&PRIVILEGES)]);
                let needed = numbers.one(&[privileges, PrivilegeSet::EMPTY, Privilege::List.into()]).intersection(privileges);
                let facts = numbers.one(&[None, Some(&with), Some(&without)]);
                let question = PolicyQuestion { on, privileges, needed, facts };
                let found = selected.as_ref().map_or_else(PolicyEffects::default, |some| some.effects(&question));
                let wanted = expected(&samples, &who, name, &question);
                assert_eq!(found, wanted, "{identity} {question:?}\n{samples:#?}");
                let best = selected.as_ref().map_or_else(PolicyEffects::default, |some| some.effects_at_best(on));
                let is_best = best.permitted.0.contains(found.permitted.0)
                    && found.forbidden.0.contains(best.forbidden.0.intersection(privileges));
                assert!(is_best, "{identity} {question:?}: {best:?}\n{samples:#?}");
                effective += usize::from(found != PolicyEffects::default());
            }
        }
    }
    assert!(effective > 1000, "{effective} questions had an effect");
}

#[test]
fn no_request_gains_more_by_a_move_than_is_told() {
    let mut numbers = Numbers(0x307e);
    let (paths, subjects) = (paths(), subjects());
    let facts = [true, false].map(|is_tls| RequestFacts { is_tls, ..RequestFacts::default() });
    let (privileges, needed): (PrivilegeSet, _) = (PRIVILEGES.into_iter().collect(), PrivilegeSet::EMPTY);
    let mut gains = 0;
    for _ in 0..200 {
        let samples: Vec<_> = (0..8).map(|_| sample(&mut numbers)).collect();
        let policies = compiled(&samples);
        for (identity, members) in &subjects {
            let Some(selected) = policies.select(identity, &members.iter().collect::<Vec<_>>()) else { continue };
            let ((from, _), (to, _)) = (numbers.one(&paths), numbers.one(&paths));
            let told = selected.changes_by_move(&from, &to);
            for facts in &facts {
                let effects = |on| selected.effects(&PolicyQuestion { on, privileges, needed, facts: Some(facts) });
                let (before, after) = (effects(&from), effects(&to));
                let permitted = after.permitted.0.without(before.permitted.0);
                let not_forbidden = before.forbidden.0.without(after.forbidden.0);
                let is_told = told.permitted.contains(permitted) && told.not_forbidden.contains(not_forbidden);
                assert!(is_told, "{identity} from {from} to {to}: {told:?}\n{samples:#?}");
                gains += usize::from(!permitted.union(not_forbidden).is_empty());
            }
            assert_eq!(selected.changes_by_move(&from, &from), MoveChanges::default(), "{identity} {from}\n{samples:#?}");
        }
    }
    assert!(gains > 50, "{gains} requests gained something");
}

#[test]
fn nothing_that_a_policy_may_forbid_is_left_out() {
    let mut numbers = Numbers(0xf0b1d);
    let subjects = subjects();
    let paths: Vec<_> = paths().into_iter().map(|(path, _)| (path, chain(&path))).collect();
    for _ in 0..100 {
        let samples: Vec<_> = (0..6).map(|_| sample(&mut numbers)).collect();
        let policies = compiled(&samples);
        for (identity, members) in &subjects {
            let who = entities(identity, members);
            let selected = policies.select(identity, &members.iter().collect::<Vec<_>>());
            let may_forbid = |on: &ResourcePath<'_>, scope| match &selected {
                Some(some) => some.may_forbid(on, scope),
                None => PrivilegeSet::EMPTY,
            };
            let forbidden = |what: &[Named]| {
                let forbidding = samples.iter().filter(|of| of.forbids && of.principal.holds(&who) && of.resource.holds(what));
                forbidding.flat_map(|of| of.actions.iter().copied()).collect::<PrivilegeSet>()
            };
            for (on, here) in &paths {
                assert_eq!(may_forbid(on, PolicyScope::Itself), forbidden(here), "{identity} {on}\n{samples:#?}");
                let below = paths.iter().filter(|(_, chain)| chain.starts_with(here));
                let all = below.fold(PrivilegeSet::EMPTY, |all, (_, what)| all.union(forbidden(what)));
                let found = may_forbid(on, PolicyScope::WithContent);
                assert!(found.contains(all), "{identity} {on}: {found} lacks some of {all}\n{samples:#?}");
            }
        }
    }
}

#[test]
fn a_policy_has_the_name_of_its_text_or_a_part_of_it() {
    let row = |name: &str, text: &str| PolicyRow { name: name.into(), text: text.into() };
    let any = "permit(principal, action, resource);";
    let texts = [row("one", &format!("@id(\"x\") {any}")), row("two", &format!("{any} @id(\"last\") {any}"))];
    let policies = compile(&texts).expect("policies").expect("some");
    let ids: Vec<_> = (0..4).map(|number| policies.id(number)).collect();
    assert_eq!(ids, [Some("one"), Some("two#1"), Some("two#last"), None]);
    assert!(compile(&[]).expect("no error").is_none());
    let twice = compile(&[row("p", &format!("@id(\"a\") {any}\n@id(\"a\") {any}"))]).expect_err("twice");
    assert!(twice.to_string().contains("line 2, column 1: there are two policies with the id p#a"), "{twice}");
    assert!(compile(&[row("p", any), row("q", "permit(principal);")]).is_err());
}
