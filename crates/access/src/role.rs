//! Roles and their members: principals, claims of an identity provider, and other roles.
//!
//! The memberships are a graph without cycles. [`Members::held_by`] finds every role that an identity has, and how it got each.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use esker_types::Principal;
use serde::{Deserialize, Serialize};

use crate::{MemberRow, Result, RightsError, RoleRow};

/// The prefix of the roles that the server has by itself.
const RESERVED: &str = "esker:";

/// The role whose members have every privilege.
pub const ADMIN: &str = "esker:admin";

/// The role of the tokens that are older than the rules.
pub const LEGACY: &str = "esker:legacy";

/// The role of the principal that a break-glass command makes. No rule refuses it anything.
pub const BREAK_GLASS: &str = "esker:break-glass";

/// The role that every principal that has logged in is a member of. Anonymous callers are not.
pub const EVERYONE: &str = "esker:everyone";

/// The role of callers without a token, where the configuration allows them.
pub const ANONYMOUS: &str = "esker:anonymous";

/// The role of the engines that apply row filters and column masks themselves. They get the files of a table, and its
/// restrictions.
pub const TRUSTED_ENGINE: &str = "esker:trusted-engine";

/// The roles that always exist, and that no one can create or drop.
pub const RESERVED_ROLES: [&str; 6] = [ADMIN, LEGACY, BREAK_GLASS, EVERYONE, ANONYMOUS, TRUSTED_ENGINE];

/// Checks that a person may create a role of this name.
///
/// # Errors
///
/// Returns [`RightsError::BadRoleName`] if the name is empty, longer than 128 bytes, has a control character, begins with the
/// prefix of the server's own roles, or begins or ends with a blank.
pub fn check_role_name(name: &str) -> Result<()> {
    let bad = |why| Err(RightsError::BadRoleName { name: name.to_owned(), why });
    match name {
        "" => bad("it is empty; give it a name"),
        name if name.len() > 128 => bad("it is longer than 128 bytes; shorten it"),
        name if name.chars().all(is_unseen) => bad("it has blanks alone; give it a name that people see"),
        name if name.chars().any(|c| c.is_control() || is_format(c)) => bad("it has a control character; leave it out"),
        // Lists do not show such a blank: a role ` esker:admin` would be taken for the server's.
        name if name.trim() != name => bad("it begins or ends with a blank; leave it out"),
        // In any case: a role ESKER:ADMIN would be taken for the server's.
        name if name.get(..RESERVED.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED)) => {
            bad("the prefix esker: is the server's; choose another")
        }
        _ => Ok(()),
    }
}

/// Checks that a character shows nothing by itself.
fn is_unseen(c: char) -> bool {
    c.is_whitespace() || c.is_control() || is_format(c)
}

/// Checks that a character changes how the text around it is shown or broken, and shows nothing: with one, a name can look like
/// another.
///
/// These are the general categories Cf, Zl and Zp of Unicode 16.
const fn is_format(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
        | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2064}'
        | '\u{2066}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}'
        | '\u{e0020}'..='\u{e007f}')
}

/// Checks that a person may add a member to a role, or remove one.
///
/// Anyone who manages access could otherwise become the principal of an emergency for good.
///
/// # Errors
///
/// Returns [`RightsError::FixedMembers`] if the server alone decides who the role's members are.
pub fn check_members_can_change(role: &str) -> Result<()> {
    match role {
        BREAK_GLASS | EVERYONE | ANONYMOUS => Err(RightsError::FixedMembers { role: role.to_owned() }),
        _ => Ok(()),
    }
}

/// A member of a role, or the holder of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Member {
    /// A person or service that an identity provider knows.
    User {
        /// Issuer of the tokens, exactly as they say it.
        issuer: String,
        /// Name of the user at the issuer.
        name: String,
    },
    /// A client that the server knows itself.
    Client {
        /// Name of the client.
        name: String,
    },
    /// Everyone whose token has a value among the groups or roles of its claims.
    Claim {
        /// Issuer of the tokens, exactly as they say it.
        issuer: String,
        /// The value.
        value: String,
    },
    /// A role: its members are members too.
    Role {
        /// Name of the role.
        name: String,
    },
}

impl Member {
    /// Returns the member that is a role.
    pub fn role(name: impl Into<String>) -> Self {
        Self::Role { name: name.into() }
    }

    /// Returns the member that is a client.
    pub fn client(name: impl Into<String>) -> Self {
        Self::Client { name: name.into() }
    }

    /// Returns the columns of the state database: kind, issuer (empty if there is none) and name.
    pub fn columns(&self) -> (&'static str, &str, &str) {
        match self {
            Self::User { issuer, name } => ("user", issuer, name),
            Self::Client { name } => ("client", "", name),
            Self::Claim { issuer, value } => ("claim", issuer, value),
            Self::Role { name } => ("role", "", name),
        }
    }

    /// Returns the member that has these columns in the state database; `None` if the kind is not known.
    pub fn from_columns(kind: &str, issuer: String, name: String) -> Option<Self> {
        Some(match kind {
            "user" => Self::User { issuer, name },
            "client" => Self::Client { name },
            "claim" => Self::Claim { issuer, value: name },
            "role" => Self::Role { name },
            _ => return None,
        })
    }
}

/// The maximum length of a member's name or issuer, in bytes.
const MAX_NAME_BYTES: usize = 512;

impl Member {
    /// Checks that the member has a name, and a user or a claim an issuer.
    pub(crate) fn check(&self) -> Result<()> {
        let (kind, issuer, name) = self.columns();
        let bad = |why| Err(RightsError::BadMember { text: self.to_string(), why });
        match self {
            _ if name.is_empty() => bad("it has no name"),
            Self::User { .. } | Self::Claim { .. } if issuer.is_empty() => bad("it has no issuer"),
            _ if [kind, issuer, name].iter().any(|text| text.len() > MAX_NAME_BYTES) => bad("it is longer than 512 bytes"),
            _ if [issuer, name].iter().any(|text| text.chars().any(char::is_control)) => bad("it has a control character"),
            _ => Ok(()),
        }
    }
}

/// Parses the form that people type: `role:NAME`, `client:NAME`, `user:NAME@ISSUER` or `claim:VALUE@ISSUER`.
///
/// ```
/// use esker_access::Member;
///
/// let ann: Member = "user:ann@example.org@https://id.example".parse().expect("a user");
/// assert_eq!(ann.to_string(), "user https://id.example/ann@example.org");
/// ```
impl FromStr for Member {
    type Err = RightsError;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why| RightsError::BadMember { text: text.to_owned(), why };
        let form = "write role:NAME, client:NAME, user:NAME@ISSUER or claim:VALUE@ISSUER";
        let (kind, name) = text.split_once(':').ok_or_else(|| bad(form))?;
        // Names of users are often addresses; an issuer has no such sign.
        let of_issuer = || name.rsplit_once('@').ok_or_else(|| bad("the issuer is missing; write it after an @"));
        let member = match kind {
            "role" => Self::role(name),
            "client" => Self::client(name),
            "user" => of_issuer().map(|(name, issuer)| Self::User { issuer: issuer.to_owned(), name: name.to_owned() })?,
            "claim" => of_issuer().map(|(value, issuer)| Self::Claim { issuer: issuer.to_owned(), value: value.to_owned() })?,
            _ => return Err(bad(form)),
        };
        member.check()?;
        Ok(member)
    }
}

/// Prints the kind and the name: `role readers`, `user ISSUER/ann`.
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.columns() {
            (kind, "", name) => write!(f, "{kind} {name}"),
            (kind, issuer, name) => write!(f, "{kind} {issuer}/{name}"),
        }
    }
}

/// The identity of a caller, as the authentication found it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A person or service that an identity provider knows.
    User {
        /// Issuer of the token, exactly as it says it.
        issuer: Arc<str>,
        /// Name of the user at the issuer.
        name: Arc<str>,
        /// Values of the token's claims for groups and roles.
        claims: Vec<Arc<str>>,
    },
    /// A client that the server knows itself.
    Client {
        /// Name of the client.
        name: Arc<str>,
    },
    /// A caller without a token.
    Anonymous,
}

impl Identity {
    /// Returns the identity of a client.
    pub fn client(name: impl Into<Arc<str>>) -> Self {
        Self::Client { name: name.into() }
    }

    /// Returns the identity of a user or client, without claims; `None` for a claim or a role.
    pub fn of_principal(member: &Member) -> Option<Self> {
        match member {
            Member::User { issuer, name } => {
                Some(Self::User { issuer: issuer.as_str().into(), name: name.as_str().into(), claims: Vec::new() })
            }
            Member::Client { name } => Some(Self::client(name.as_str())),
            Member::Claim { .. } | Member::Role { .. } => None,
        }
    }

    /// Returns the principal as a member of roles, holder of grants and owner. An anonymous caller is none.
    pub fn principal(&self) -> Option<Member> {
        match self {
            Self::User { issuer, name, .. } => Some(Member::User { issuer: issuer.to_string(), name: name.to_string() }),
            Self::Client { name } => Some(Member::client(&**name)),
            Self::Anonymous => None,
        }
    }

    /// Returns the members that stand for the identity itself: the principal, then its claims.
    pub(crate) fn members(&self) -> Vec<Member> {
        let (issuer, claims): (&str, &[Arc<str>]) = match self {
            Self::User { issuer, claims, .. } => (issuer, claims),
            Self::Client { .. } | Self::Anonymous => ("", &[]),
        };
        let claims = claims.iter().map(|value| Member::Claim { issuer: issuer.to_owned(), value: value.to_string() });
        self.principal().into_iter().chain(claims).collect()
    }

    /// Returns the role that the identity has without a membership.
    const fn own_role(&self) -> &'static str {
        match self {
            Self::User { .. } | Self::Client { .. } => EVERYONE,
            Self::Anonymous => ANONYMOUS,
        }
    }
}

/// A principal that the server knows by a token is a client. A user has no claims: those are in the token.
impl From<&Principal> for Identity {
    fn from(principal: &Principal) -> Self {
        match principal {
            Principal::Token(name) => Self::client(name.as_str()),
            Principal::User { issuer, name } => {
                Self::User { issuer: issuer.as_str().into(), name: name.as_str().into(), claims: Vec::new() }
            }
            Principal::Anonymous => Self::Anonymous,
        }
    }
}

/// Prints the name that jobs, events and logs have: `client`, `ISSUER/user`, `anonymous`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { issuer, name, .. } => write!(f, "{issuer}/{name}"),
            Self::Client { name } => f.write_str(name),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

/// The number of a member in [`Members`]. Roles have the lowest numbers.
pub(crate) type MemberId = u32;

/// All members of roles and holders of grants, with the roles that each is directly a member of.
#[derive(Debug, Default)]
pub(crate) struct Members {
    members: Vec<Member>,
    ids: HashMap<Member, MemberId>,
    /// The roles of each member, by its id.
    roles_of: Vec<Vec<MemberId>>,
    /// The number of roles, whose ids are the first.
    roles: usize,
}

/// A member that stands for a subject, and the one through which it was reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) id: MemberId,
    /// `None` for the principal itself, for its claims, and for a role that it has without a membership.
    pub(crate) through: Option<MemberId>,
}

impl Members {
    /// Numbers the roles, and adds the memberships.
    pub(crate) fn new(roles: &[RoleRow], memberships: &[MemberRow]) -> Result<Self> {
        let mut members = Self::default();
        let names = RESERVED_ROLES.into_iter().chain(roles.iter().map(|role| role.name.as_str()));
        for name in names {
            members.id_of(&Member::role(name));
        }
        members.roles = members.members.len();
        for row in memberships {
            let role = members.known(&Member::role(&row.role))?;
            let member = members.known(&row.member)?;
            if !members.roles_of[member as usize].contains(&role) {
                members.roles_of[member as usize].push(role);
            }
        }
        match members.cycle() {
            Some(roles) => Err(RightsError::RoleCycle { roles }),
            None => Ok(members),
        }
    }

    /// Returns the id of a member, a new one if it has none yet.
    fn id_of(&mut self, member: &Member) -> MemberId {
        if let Some(id) = self.ids.get(member) {
            return *id;
        }
        let id = MemberId::try_from(self.members.len()).expect("fewer than four billion members");
        self.members.push(member.clone());
        self.roles_of.push(Vec::new());
        self.ids.insert(member.clone(), id);
        id
    }

    /// Returns the id of a member, which must exist if it is a role.
    pub(crate) fn known(&mut self, member: &Member) -> Result<MemberId> {
        match member {
            Member::Role { name } => self.ids.get(member).copied().ok_or_else(|| RightsError::NoSuchRole { name: name.clone() }),
            _ => Ok(self.id_of(member)),
        }
    }

    /// Returns the id of a member that exists already.
    pub(crate) fn find(&self, member: &Member) -> Option<MemberId> {
        self.ids.get(member).copied()
    }

    /// Returns the member with an id.
    pub(crate) fn member(&self, id: MemberId) -> &Member {
        &self.members[id as usize]
    }

    /// Returns the number of roles, which have the ids below it.
    pub(crate) const fn role_count(&self) -> usize {
        self.roles
    }

    /// Finds everything that an identity stands for: itself, its claims, and all roles that it gets through these.
    pub(crate) fn held_by(&self, identity: &Identity) -> Vec<Held> {
        let own = identity.members().into_iter().chain([Member::role(identity.own_role())]);
        let first = own.filter_map(|member| self.find(&member)).map(|id| Held { id, through: None });
        self.closure(first.collect(), |id| &self.roles_of[id as usize])
    }

    /// Finds the members of some roles, direct and through other roles, and the roles themselves.
    pub(crate) fn members_of(&self, roles: &[MemberId]) -> Vec<Held> {
        let mut inside: Vec<Vec<MemberId>> = vec![Vec::new(); self.members.len()];
        for (member, roles) in (0..).zip(&self.roles_of) {
            roles.iter().for_each(|role| inside[*role as usize].push(member));
        }
        self.closure(roles.iter().map(|id| Held { id: *id, through: None }).collect(), |id| &inside[id as usize])
    }

    /// Follows edges from the first members; each member is found once.
    fn closure<'a>(&self, mut found: Vec<Held>, next: impl Fn(MemberId) -> &'a Vec<MemberId>) -> Vec<Held> {
        let mut seen = vec![false; self.members.len()];
        found.retain(|held| !std::mem::replace(&mut seen[held.id as usize], true));
        let mut at = 0;
        while at < found.len() {
            let id = found[at].id;
            for role in next(id) {
                if !std::mem::replace(&mut seen[*role as usize], true) {
                    found.push(Held { id: *role, through: Some(id) });
                }
            }
            at += 1;
        }
        found
    }

    /// Finds roles that are members of each other. Returns their names, each a member of the next.
    fn cycle(&self) -> Option<Vec<String>> {
        let mut done = vec![false; self.roles];
        let mut on_path = vec![false; self.roles];
        for start in 0..self.roles {
            // The path from `start`, each role with the number of its roles that were looked at.
            let mut path = if done[start] { Vec::new() } else { vec![(start, 0)] };
            while let Some((role, looked)) = path.last_mut() {
                on_path[*role] = true;
                let Some(next) = self.roles_of[*role].get(*looked).map(|next| *next as usize) else {
                    (done[*role], on_path[*role]) = (true, false);
                    path.pop();
                    continue;
                };
                *looked += 1;
                if on_path[next] {
                    let from = path.iter().position(|(role, _)| *role == next).unwrap_or(0);
                    return Some(path[from..].iter().map(|(role, _)| self.members[*role].columns().2.to_owned()).collect());
                }
                if !done[next] {
                    path.push((next, 0));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(memberships: &[(&str, Member)]) -> Result<Members> {
        let roles = ["a", "b", "c", "d"].map(|name| RoleRow { name: name.to_owned() });
        let row = |(role, member): &(&str, Member)| MemberRow { role: (*role).to_owned(), member: member.clone() };
        Members::new(&roles, &memberships.iter().map(row).collect::<Vec<_>>())
    }

    fn roles(members: &Members, identity: &Identity) -> Vec<String> {
        let held = members.held_by(identity);
        let mut names: Vec<_> = held.iter().map(|held| members.member(held.id).to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_role_gives_what_the_roles_around_it_give() {
        let ann = Member::User { issuer: "https://id".into(), name: "ann".into() };
        let eng = Member::Claim { issuer: "https://id".into(), value: "eng".into() };
        let rows = [("a", ann), ("b", Member::role("a")), ("c", Member::role("b")), ("c", eng), ("d", Member::client("ann"))];
        let members = members(&rows).expect("no cycle");
        let user = |issuer: &str, claims: &[&str]| Identity::User {
            issuer: issuer.into(),
            name: "ann".into(),
            claims: claims.iter().map(|value| Arc::from(*value)).collect(),
        };
        let everyone = "role esker:everyone";
        assert_eq!(roles(&members, &user("https://id", &[])), ["role a", "role b", "role c", everyone, "user https://id/ann"]);
        assert_eq!(roles(&members, &user("https://other", &["eng"])), [everyone], "another issuer's names are other names");
        assert_eq!(roles(&members, &Identity::client("ann")), ["client ann", "role d", everyone]);
        assert_eq!(roles(&members, &Identity::Anonymous), ["role esker:anonymous"]);
    }

    #[test]
    fn a_claim_of_a_roles_name_does_not_give_the_role() {
        let members = members(&[("a", Member::client("c"))]).expect("no cycle");
        let claims = vec![Arc::from("a"), Arc::from(ADMIN)];
        let caller = Identity::User { issuer: "https://id".into(), name: "a".into(), claims };
        assert_eq!(roles(&members, &caller), ["role esker:everyone"]);
    }

    #[test]
    fn roles_that_are_members_of_each_other_are_refused() {
        let cycle = members(&[("b", Member::role("a")), ("c", Member::role("b")), ("b", Member::role("c"))]);
        assert_eq!(cycle.expect_err("a cycle"), RightsError::RoleCycle { roles: vec!["b".into(), "c".into()] });
        let itself = members(&[("d", Member::role("d"))]);
        assert_eq!(itself.expect_err("a cycle"), RightsError::RoleCycle { roles: vec!["d".into()] });
        let diamond = [("b", "a"), ("c", "a"), ("d", "b"), ("d", "c")].map(|(role, member)| (role, Member::role(member)));
        assert!(members(&diamond).is_ok(), "two ways to a role are no cycle");
        let unknown = members(&[("e", Member::client("c"))]);
        assert_eq!(unknown.expect_err("no role"), RightsError::NoSuchRole { name: "e".into() });
    }

    #[test]
    fn names_of_the_servers_roles_are_taken_in_every_case() {
        assert_eq!(check_role_name("readers of esker:admin"), Ok(()));
        assert_eq!(check_role_name("Lesende für é"), Ok(()));
        let unseen = [" ", "\u{a0}\u{3000}", "\u{200b}", "admin\u{202e}", "a\u{2028}b", "\u{feff}esker:admin"];
        for name in ["", "a\nb", "esker:admin", "Esker:mine", " esker:admin", "a ", &"x".repeat(129)].into_iter().chain(unseen) {
            assert!(matches!(check_role_name(name), Err(RightsError::BadRoleName { .. })), "{name:?}");
        }
    }

    #[test]
    fn members_of_the_roles_that_the_server_gives_stay_as_they_are() {
        for role in RESERVED_ROLES {
            let is_fixed = check_members_can_change(role) == Err(RightsError::FixedMembers { role: role.to_owned() });
            assert_eq!(is_fixed, ![ADMIN, LEGACY, TRUSTED_ENGINE].contains(&role), "{role}");
        }
        assert_eq!(check_members_can_change("readers"), Ok(()));
    }

    #[test]
    fn a_token_called_anonymous_is_a_client() {
        let token = Principal::Token("anonymous".to_owned());
        assert_eq!(Identity::from(&token), Identity::client("anonymous"));
        assert_eq!(Identity::from(&Principal::Anonymous), Identity::Anonymous);
        let user = Principal::User { issuer: "https://idp.example".to_owned(), name: "anonymous".to_owned() };
        for principal in [token, user, Principal::Anonymous] {
            assert_eq!(Identity::from(&principal).to_string(), principal.to_string());
        }
    }

    #[test]
    fn members_are_parsed_as_people_type_them() {
        let issuer = || "https://id/realms/x".to_owned();
        let parse = |text: &str| text.parse::<Member>();
        assert_eq!(parse("role:esker:admin"), Ok(Member::role("esker:admin")));
        assert_eq!(parse("client:etl@night"), Ok(Member::client("etl@night")));
        assert_eq!(parse("user:a@b@https://id/realms/x"), Ok(Member::User { issuer: issuer(), name: "a@b".into() }));
        assert_eq!(parse("claim:/ops@https://id/realms/x"), Ok(Member::Claim { issuer: issuer(), value: "/ops".into() }));
        for wrong in ["readers", "group:x@y", "user:ann", "user:@https://id", "user:ann@", "role:", "client:a\nb"] {
            assert!(matches!(parse(wrong), Err(RightsError::BadMember { .. })), "{wrong}");
        }
    }

    #[test]
    fn members_go_into_the_database_and_come_back() {
        let claim = Member::Claim { issuer: "i".into(), value: "v".into() };
        let user = Member::User { issuer: "i".into(), name: "u".into() };
        for member in [claim, user, Member::client("c"), Member::role("r")] {
            let (kind, issuer, name) = member.columns();
            assert_eq!(Member::from_columns(kind, issuer.to_owned(), name.to_owned()), Some(member.clone()));
            assert_eq!(serde_json::to_value(&member).expect("JSON")["kind"], kind);
        }
        assert_eq!(Member::from_columns("group", String::new(), "g".into()), None);
    }
}
