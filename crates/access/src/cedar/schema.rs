//! The schema of policies: types of entities, their attributes, what contains what, actions and the context.

use std::fmt;

use crate::{Bundle, Privilege, PrivilegeSet, SecurableKind};

/// Makes the enum, the list and the names of one list.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident $prefix:literal { $($(#[$of:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum $name {
            $($(#[$of])* $variant,)*
        }

        impl $name {
            /// Every value.
            pub(super) const ALL: [Self; [$($text),*].len()] = [$(Self::$variant),*];

            /// Returns the name in policies.
            pub(super) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($prefix, $text),)*
                }
            }

            /// Returns the value that a name stands for.
            pub(super) fn from_name(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|value| value.as_str() == name)
            }
        }
    };
}

named! {
    /// The type of an entity.
    EntityKind "Esker::" {
        /// A client that the server knows itself.
        Client = "Client",
        /// A user of an identity provider.
        User = "User",
        /// A caller without a token.
        Anonymous = "Anonymous",
        /// A role.
        Role = "Role",
        /// A value of a user's claims.
        Claim = "Claim",
        /// The server.
        Server = "Server",
        /// A warehouse.
        Warehouse = "Warehouse",
        /// A namespace.
        Namespace = "Namespace",
        /// A table.
        Table = "Table",
        /// A view.
        View = "View",
        /// A function.
        Function = "Function",
        /// A privilege, or a bundle of privileges.
        Action = "Action",
    }
}

named! {
    /// An attribute of an entity. Each is a string.
    Attribute "" {
        /// Issuer of a user's tokens.
        Issuer = "issuer",
        /// Name of a user at the issuer.
        Subject = "subject",
        /// Name of a resource in its container.
        Name = "name",
        /// Name of the warehouse that the resource is or lies in.
        Warehouse = "warehouse",
        /// Levels of the namespace that the resource is or lies in, joined by dots.
        Namespace = "namespace",
    }
}

named! {
    /// An attribute of the context.
    Fact "" {
        /// Address of the client.
        Ip = "ip",
        /// True if the request came over TLS.
        Tls = "tls",
        /// The operation: a route, a statement, a command.
        Operation = "operation",
        /// Name of the trusted engine that makes the request.
        Engine = "engine",
    }
}

named! {
    /// A method of sets and addresses.
    Method "" {
        /// Checks that a set has a value.
        Contains = "contains",
        /// Checks that a set has all values of another.
        ContainsAll = "containsAll",
        /// Checks that a set has a value of another.
        ContainsAny = "containsAny",
        /// Checks that a set has no value.
        IsEmpty = "isEmpty",
        /// Checks that an address is an IPv4 address.
        IsIpv4 = "isIpv4",
        /// Checks that an address is an IPv6 address.
        IsIpv6 = "isIpv6",
        /// Checks that an address is a loopback address.
        IsLoopback = "isLoopback",
        /// Checks that an address is a multicast address.
        IsMulticast = "isMulticast",
        /// Checks that an address is in a range.
        IsInRange = "isInRange",
    }
}

impl EntityKind {
    /// The types that a principal can have.
    pub(super) const PRINCIPALS: [Self; 3] = [Self::Client, Self::User, Self::Anonymous];

    /// The types that a resource can have.
    pub(super) const RESOURCES: [Self; 6] =
        [Self::Server, Self::Warehouse, Self::Namespace, Self::Table, Self::View, Self::Function];

    /// Returns the type of a securable.
    pub(super) const fn of(kind: SecurableKind) -> Self {
        match kind {
            SecurableKind::Server => Self::Server,
            SecurableKind::Warehouse => Self::Warehouse,
            SecurableKind::Namespace => Self::Namespace,
            SecurableKind::Table => Self::Table,
            SecurableKind::View => Self::View,
            SecurableKind::Function => Self::Function,
        }
    }

    /// Returns the kind of a resource; `None` for other types.
    const fn securable(self) -> Option<SecurableKind> {
        match self {
            Self::Server => Some(SecurableKind::Server),
            Self::Warehouse => Some(SecurableKind::Warehouse),
            Self::Namespace => Some(SecurableKind::Namespace),
            Self::Table => Some(SecurableKind::Table),
            Self::View => Some(SecurableKind::View),
            Self::Function => Some(SecurableKind::Function),
            Self::Client | Self::User | Self::Anonymous | Self::Role | Self::Claim | Self::Action => None,
        }
    }

    /// Checks that a resource of this type can contain one of type `inner`.
    pub(super) fn can_contain(self, inner: Self) -> bool {
        self.securable().zip(inner.securable()).is_some_and(|(outer, inner)| outer.can_contain(inner))
    }

    /// Checks that an entity of this type can be in one of type `outer`: the same, or one that it descends from.
    pub(super) fn can_be_in(self, outer: Self) -> bool {
        match (self, outer) {
            (Self::Client | Self::User | Self::Anonymous, Self::Role) | (Self::User, Self::Claim) => true,
            _ => self == outer || outer.can_contain(self),
        }
    }
}

impl Attribute {
    /// Checks that entities of a type have the attribute.
    pub(super) const fn is_of(self, kind: EntityKind) -> bool {
        use EntityKind::{Function, Namespace, Table, User, View, Warehouse};
        match self {
            Self::Issuer | Self::Subject => matches!(kind, User),
            Self::Name | Self::Warehouse => matches!(kind, Warehouse | Namespace | Table | View | Function),
            Self::Namespace => matches!(kind, Namespace | Table | View | Function),
        }
    }
}

impl Fact {
    /// Checks that every request has the fact.
    pub(super) const fn is_required(self) -> bool {
        matches!(self, Self::Tls | Self::Operation)
    }
}

impl Method {
    /// Checks that the method has an argument. None has two.
    pub(super) const fn has_argument(self) -> bool {
        matches!(self, Self::Contains | Self::ContainsAll | Self::ContainsAny | Self::IsInRange)
    }
}

/// Prints the name in policies.
impl fmt::Display for EntityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Returns names joined by commas, for messages.
pub(super) fn listed(names: impl IntoIterator<Item = &'static str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// Returns the privileges that an action stands for: one, or those of a bundle. `None` if there is no such action.
pub(super) fn privileges_of(action: &str) -> Option<PrivilegeSet> {
    privilege(action).map(PrivilegeSet::from).or_else(|| {
        let bundle = Bundle::ALL.into_iter().find(|bundle| bundle.as_str() == action)?;
        Some(bundle.privileges(SecurableKind::Server, PrivilegeSet::ALL))
    })
}

/// Returns the privilege that an action is; `None` if it is a bundle or unknown.
pub(super) fn privilege(action: &str) -> Option<Privilege> {
    Privilege::ALL.into_iter().find(|privilege| privilege.as_str() == action)
}

/// Checks that an entity of a type can have an id.
///
/// # Errors
///
/// Returns what is wrong. An id that no entity can have would make a policy that never applies.
pub(super) fn check_id(kind: EntityKind, id: &str) -> Result<(), String> {
    let is_right = match kind {
        EntityKind::Client | EntityKind::Role | EntityKind::Warehouse => !id.is_empty(),
        EntityKind::User => id.strip_prefix("user ").is_some_and(has_name_after_issuer),
        EntityKind::Claim => id.strip_prefix("claim ").is_some_and(has_name_after_issuer),
        EntityKind::Anonymous => id == "anonymous",
        EntityKind::Server => id == "server",
        EntityKind::Namespace => dotted_parts(id).is_some_and(|parts| parts >= 2),
        EntityKind::Table | EntityKind::View | EntityKind::Function => dotted_parts(id).is_some_and(|parts| parts >= 3),
        EntityKind::Action => privileges_of(id).is_some(),
    };
    let form = match kind {
        _ if is_right => return Ok(()),
        EntityKind::Client | EntityKind::Role | EntityKind::Warehouse => "write its name".to_owned(),
        EntityKind::User => "write \"user ISSUER/NAME\"".to_owned(),
        EntityKind::Claim => "write \"claim ISSUER/VALUE\"".to_owned(),
        EntityKind::Anonymous => "there is \"anonymous\" alone".to_owned(),
        EntityKind::Server => "there is \"server\" alone".to_owned(),
        EntityKind::Namespace => format!("write \"warehouse.namespace\"{QUOTES}"),
        EntityKind::Table | EntityKind::View | EntityKind::Function => format!("write \"warehouse.namespace.name\"{QUOTES}"),
        EntityKind::Action => {
            let (bundles, privileges) = (Bundle::ALL.map(Bundle::as_str), Privilege::ALL.map(Privilege::as_str));
            format!("the actions are {}, the groups of actions {}", listed(privileges), listed(bundles))
        }
    };
    Err(format!("no {kind} can be {id:?}: {form}"))
}

/// Checks that something follows the issuer. The slashes of `https://` do not end it.
fn has_name_after_issuer(text: &str) -> bool {
    let rest = ["https://", "http://"].into_iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    rest.split_once('/').is_some_and(|(_, name)| !name.is_empty())
}

/// The end of messages about names with dots.
const QUOTES: &str = ", with double quotes around a part that has a dot or a blank, and around no other";

/// Counts the parts of a name with dots, if it is written as [`ResourcePath::dotted`](crate::ResourcePath::dotted) writes it.
fn dotted_parts(name: &str) -> Option<usize> {
    let (mut rest, mut parts) = (name, 0);
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(inner) => quoted_part(inner)?,
            None => {
                let (part, after) = rest.split_once('.').map_or((rest, None), |(part, after)| (part, Some(after)));
                (part.to_owned(), after)
            }
        };
        let written = rest.len() - after.map_or(0, |after| after.len() + 1);
        if part.is_empty() || crate::securable::quoted(&part) != rest[..written] {
            return None;
        }
        parts += 1;
        let Some(after) = after else { return Some(parts) };
        rest = after;
    }
}

/// Reads a part after its opening quote. Returns the part, and what follows the dot after it.
fn quoted_part(inner: &str) -> Option<(String, Option<&str>)> {
    let mut from = 0;
    loop {
        let end = from + inner[from..].find('"')?;
        let after = &inner[end + 1..];
        match after.chars().next() {
            Some('"') => from = end + 2,
            Some('.') => return Some((inner[..end].replace("\"\"", "\""), Some(&after[1..]))),
            Some(_) => return None,
            None => return Some((inner[..end].replace("\"\"", "\""), None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_form_that_entities_have() {
        for (kind, id) in [
            (EntityKind::User, "user https://id/ann"),
            (EntityKind::Claim, "claim https://id/ops"),
            (EntityKind::Claim, "claim https://id//ops"),
            (EntityKind::Warehouse, "my lake.1"),
            (EntityKind::Namespace, "lake.a.b"),
            (EntityKind::Namespace, "\"my lake.1\".\"a \"\"b\"\"\".c"),
            (EntityKind::Table, "lake.a.\"t.1\""),
            (EntityKind::Action, "READ_DATA"),
            (EntityKind::Action, "SELECT"),
        ] {
            assert_eq!(check_id(kind, id), Ok(()), "{kind} {id}");
        }
        for (kind, id) in [
            (EntityKind::User, "ann"),
            (EntityKind::User, "user https://id"),
            (EntityKind::User, "user https://id/"),
            (EntityKind::Claim, "ops"),
            (EntityKind::Claim, "claim http://id"),
            (EntityKind::Role, ""),
            (EntityKind::Server, "lake"),
            (EntityKind::Namespace, "lake"),
            (EntityKind::Namespace, "lake.\"a\""),
            (EntityKind::Namespace, "lake.a b"),
            (EntityKind::Table, "lake.t"),
            (EntityKind::Table, "lake..t"),
            (EntityKind::Table, "lake.a.\"t.1"),
            (EntityKind::Action, "read_data"),
        ] {
            assert!(check_id(kind, id).is_err(), "{kind} {id}");
        }
    }

    #[test]
    fn names_of_paths_are_ids() {
        let path = crate::ResourcePath::warehouse(1, "my lake").namespace("a.b\u{1f}c\"\u{1f}\"d").function("f g");
        for step in path.steps().skip(2) {
            assert_eq!(check_id(EntityKind::of(step.kind()), &step.dotted()), Ok(()), "{}", step.dotted());
        }
    }

    #[test]
    fn entities_are_in_what_contains_them() {
        use EntityKind::{Action, Anonymous, Claim, Client, Namespace, Role, Server, Table, User, Warehouse};
        for (inner, outer) in [(Client, Role), (User, Claim), (Table, Server), (Namespace, Namespace), (Client, Client)] {
            assert!(inner.can_be_in(outer), "{inner} {outer}");
        }
        for (inner, outer) in [(Client, Claim), (Anonymous, User), (Warehouse, Namespace), (Client, Server), (Table, Action)] {
            assert!(!inner.can_be_in(outer), "{inner} {outer}");
        }
        assert_eq!(privileges_of("ALL"), Some(PrivilegeSet::ALL));
        assert_eq!(privileges_of("LIST"), Some(PrivilegeSet::from(Privilege::List)));
    }
}
