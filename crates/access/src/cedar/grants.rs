//! Grants, printed as policies of the language.
//!
//! The text is for people who want to go on with policies, and for tests: the engine decides on it as the grants do. A grant
//! names tables and views by id, and a policy by name, so they part when a thing is renamed. Memberships need no policy: who is
//! a member of a role is `in` the role, directly or through other roles. Start reading at [`grants_as_policies`].

use std::fmt::Write as _;

use super::schema::EntityKind;
use crate::{ADMIN, Bundle, GrantRow, Member, PrivilegeSet, RuleRows, Securable, SecurableKind};

/// Prints the grants, the owners of tables and views, and the rights of administrators as policies.
///
/// `name` returns the name of a securable in the form of requests, as [`ResourcePath::dotted`](crate::ResourcePath::dotted) has
/// it; for the server any text. Without a name, a grant becomes a comment. So does a grant on future things, because policies
/// have none: one on the container holds for what is created in it. Break-glass needs no policy, because it passes all.
pub fn grants_as_policies(rows: &RuleRows, name: &dyn Fn(&Securable) -> Option<String>) -> String {
    let mut text = String::new();
    let admin = PolicyText { id: ADMIN, to: &Member::role(ADMIN), privileges: PrivilegeSet::ALL };
    admin.print(&mut text, SecurableKind::Server, "");
    for grant in &rows.grants {
        print_grant(&mut text, grant, name);
    }
    for row in &rows.owners {
        let things = [Securable::Table { table: row.table }, Securable::View { view: row.table }];
        let found = things.iter().find_map(|thing| Some((thing.kind(), name(thing)?)));
        match found {
            Some((kind, thing)) => {
                let privileges = Bundle::Own.privileges(kind, PrivilegeSet::EMPTY);
                PolicyText { id: "", to: &row.owner, privileges }.print(&mut text, kind, &thing);
            }
            None => comment(&mut text, &format!("{} owns a table or view that has no name here", row.owner)),
        }
    }
    text
}

/// Prints a grant.
fn print_grant(text: &mut String, grant: &GrantRow, name: &dyn Fn(&Securable) -> Option<String>) {
    let kind = grant.on.kind();
    let privileges = grant.privileges.intersection(kind.privileges());
    let about = |what: &str| format!("grant {} of {} to {}: {what}", grant.id, grant.privileges, grant.to);
    match (name(&grant.on), grant.future) {
        (_, Some(kind)) => comment(text, &about(&format!("it is on future {kind}s, which policies do not know"))),
        (None, None) => comment(text, &about(&format!("its {kind} has no name here"))),
        (Some(_), None) if privileges.is_empty() => comment(text, &about(&format!("a {kind} has none of them"))),
        (Some(thing), None) => PolicyText { id: &grant.id, to: &grant.to, privileges }.print(text, kind, &thing),
    }
}

/// Prints a line that is no policy. Names in it can't end the line.
fn comment(text: &mut String, what: &str) {
    let line = what.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'");
    text.push_str("// ");
    text.push_str(&line);
    text.push('\n');
}

/// A policy that permits privileges.
struct PolicyText<'a> {
    /// The value of the annotation `@id`. It is left out if it is empty.
    id: &'a str,
    /// The principals.
    to: &'a Member,
    privileges: PrivilegeSet,
}

impl PolicyText<'_> {
    /// Prints the policy for a securable with its content, by its kind and its name.
    fn print(&self, text: &mut String, kind: SecurableKind, name: &str) {
        if !self.id.is_empty() {
            line(text, format_args!("@id({})", quoted(self.id)));
        }
        let principal = match self.to {
            Member::Client { .. } | Member::User { .. } => format!("principal == {}", principal_of(self.to)),
            Member::Claim { .. } | Member::Role { .. } => format!("principal in {}", principal_of(self.to)),
        };
        let resource = match kind {
            SecurableKind::Server => "resource".to_owned(),
            SecurableKind::Warehouse | SecurableKind::Namespace => format!("resource in {}", entity(EntityKind::of(kind), name)),
            SecurableKind::Table | SecurableKind::View | SecurableKind::Function => {
                format!("resource == {}", entity(EntityKind::of(kind), name))
            }
        };
        let actions: Vec<String> =
            self.privileges.iter().map(|privilege| entity(EntityKind::Action, privilege.as_str())).collect();
        let action = match actions.as_slice() {
            _ if self.privileges == PrivilegeSet::ALL => "action".to_owned(),
            [action] => format!("action == {action}"),
            actions => format!("action in [{}]", actions.join(", ")),
        };
        line(text, format_args!("permit (\n  {principal},\n  {action},\n  {resource}\n);\n"));
    }
}

/// Adds a line.
fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    // A write to a string does not fail.
    _ = writeln!(text, "{what}");
}

/// Returns the entity of a member. A user and a claim have an issuer in their id, so they are named as people read them.
fn principal_of(member: &Member) -> String {
    match member {
        Member::Client { name } => entity(EntityKind::Client, name),
        Member::Role { name } => entity(EntityKind::Role, name),
        Member::User { .. } => entity(EntityKind::User, &member.to_string()),
        Member::Claim { .. } => entity(EntityKind::Claim, &member.to_string()),
    }
}

/// Returns an entity by its type and its id.
fn entity(kind: EntityKind, id: &str) -> String {
    format!("{kind}::{}", quoted(id))
}

/// Returns a text in quotes. Rust's escapes for people are escapes of the language too.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_debug())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::cedar::compile;
    use crate::model::{end, identities, paths, rows as random_rows, subject};
    use crate::samples::{grant, namespace, rows, table};
    use crate::{Identity, OwnerRow, PolicyQuestion, PolicyRow, Privilege, ResourcePath, SubjectPolicies};

    /// Compiles a printed text for an identity; `None` if no policy can apply to it.
    fn selected(rows: &RuleRows, text: &str, identity: &Identity) -> Option<Box<dyn SubjectPolicies>> {
        let printed = PolicyRow { name: "grants".to_owned(), text: text.to_owned() };
        let policies = compile(&[printed]).unwrap_or_else(|e| panic!("{e}\n{text}")).expect("policies");
        let subject = subject(rows, identity);
        let own = identity.members();
        let roles: Vec<Member> = subject.roles().map(Member::role).collect();
        policies.select(identity, &own.iter().chain(&roles).collect::<Vec<_>>())
    }

    /// Returns the privileges that policies permit.
    fn permitted(policies: Option<&dyn SubjectPolicies>, on: &ResourcePath<'_>) -> PrivilegeSet {
        let question = PolicyQuestion { on, privileges: PrivilegeSet::ALL, needed: PrivilegeSet::EMPTY, facts: None };
        let effects = policies.map(|policies| policies.effects(&question)).unwrap_or_default();
        assert!(effects.forbidden.0.is_empty(), "a grant forbids nothing");
        effects.permitted.0
    }

    proptest! {
        #[test]
        fn the_printed_policies_decide_as_the_grants(rows in random_rows(), identity in select(identities())) {
            let names: HashMap<Securable, String> = paths().iter().map(|path| (end(path), path.dotted())).collect();
            let text = grants_as_policies(&rows, &|thing| names.get(thing).cloned());
            let (policies, subject) = (selected(&rows, &text, &identity), subject(&rows, &identity));
            for path in paths() {
                prop_assert_eq!(permitted(policies.as_deref(), &path), subject.granted(&path), "{}\n{}", path, text);
            }
        }
    }

    #[test]
    fn a_grant_is_one_policy_with_its_id() {
        let on = Securable::Namespace { warehouse: 1, namespace: namespace("raw\u{1f}crm") };
        let read = PrivilegeSet::of(&[Privilege::List, Privilege::ReadData]);
        let text =
            grants_as_policies(&rows(vec![grant("g1", Member::role("readers"), on, read)]), &|_| Some("lake.raw.crm".into()));
        let expected = "@id(\"esker:admin\")\npermit (\n  principal in Esker::Role::\"esker:admin\",\n  \
                        action,\n  resource\n);\n\n\
                        @id(\"g1\")\npermit (\n  principal in Esker::Role::\"readers\",\n  \
                        action in [Esker::Action::\"LIST\", Esker::Action::\"READ_DATA\"],\n  \
                        resource in Esker::Namespace::\"lake.raw.crm\"\n);\n\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn names_with_quotes_and_line_ends_say_nothing_else() {
        let hostile = "a\"); permit (principal, action, resource); //\n\u{202e}\\";
        let raw = ResourcePath::warehouse(1, "lake").namespace("raw");
        let (thing, other) = (raw.table(table(1), hostile), raw.table(table(2), "orders"));
        let read = PrivilegeSet::from(Privilege::ReadData);
        let rows = rows(vec![grant(hostile, Member::client(hostile), end(&thing), read)]);
        let named = grants_as_policies(&rows, &|of| (*of == end(&thing)).then(|| thing.dotted()));
        let nameless = grants_as_policies(&rows, &|_| None);
        for (text, who, expected) in
            [(&named, hostile, read), (&named, "other", PrivilegeSet::EMPTY), (&nameless, hostile, PrivilegeSet::EMPTY)]
        {
            let policies = selected(&rows, text, &Identity::client(who));
            assert_eq!(permitted(policies.as_deref(), &thing), expected, "{who}: {text}");
            assert_eq!(permitted(policies.as_deref(), &other), PrivilegeSet::EMPTY, "{who}: {text}");
        }
    }

    #[test]
    fn what_policies_can_not_say_is_a_comment() {
        let readers = Member::role("readers");
        let future = GrantRow {
            future: Some(SecurableKind::Table),
            ..grant("f", readers.clone(), Securable::Server, Privilege::List.into())
        };
        let gone = grant("g", readers.clone(), Securable::Table { table: table(1) }, Privilege::List.into());
        let nothing = grant("n", readers, Securable::Warehouse { warehouse: 1 }, Privilege::Monitor.into());
        let mut rows = rows(vec![future, gone, nothing]);
        rows.owners.push(OwnerRow { table: table(1), owner: Member::client("etl") });
        let name =
            |thing: &Securable| (thing.kind() != SecurableKind::Table && thing.kind() != SecurableKind::View).then(String::new);
        let text = grants_as_policies(&rows, &name);
        let comments: Vec<&str> = text.lines().filter(|line| line.starts_with("//")).collect();
        let expected = [
            "// grant f of LIST to role readers: it is on future tables, which policies do not know",
            "// grant g of LIST to role readers: its table has no name here",
            "// grant n of MONITOR to role readers: a warehouse has none of them",
            "// client etl owns a table or view that has no name here",
        ];
        assert_eq!(comments, expected);
        assert_eq!(text.matches("permit (").count(), 1, "administrators keep their rights");
    }
}
