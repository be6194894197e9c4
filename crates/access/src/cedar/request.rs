//! The request that conditions are evaluated for: the principal, the names of the resource, the action and the facts.

use esker_types::NamespaceName;

use super::schema::{Attribute, EntityKind, privilege, privileges_of};
use super::value::Entity;
use crate::securable::quoted;
use crate::{Identity, Leaf, Member, RequestFacts, ResourcePath};

/// A principal, with the entities that it is in.
#[derive(Debug)]
pub(super) struct PrincipalEntity {
    /// Type of the principal.
    kind: EntityKind,
    /// Id of the principal.
    id: Box<str>,
    /// Issuer and name of a user; both are empty for others.
    issuer_and_subject: (Box<str>, Box<str>),
    /// Names of its roles, sorted.
    roles: Vec<Box<str>>,
    /// Ids of its claims, sorted.
    claims: Vec<Box<str>>,
}

impl PrincipalEntity {
    /// Finds the entities of an identity. `members` are all members that stand for it.
    pub(super) fn new(identity: &Identity, members: &[&Member]) -> Self {
        let id = identity.principal().map(|member| match &member {
            Member::User { .. } | Member::Claim { .. } => member.to_string(),
            Member::Client { name } | Member::Role { name } => name.clone(),
        });
        let (kind, issuer_and_subject) = match identity {
            Identity::User { issuer, name, .. } => (EntityKind::User, (Box::from(&**issuer), Box::from(&**name))),
            Identity::Client { .. } => (EntityKind::Client, Default::default()),
            Identity::Anonymous => (EntityKind::Anonymous, Default::default()),
        };
        let (mut roles, mut claims): (Vec<Box<str>>, Vec<Box<str>>) = (Vec::new(), Vec::new());
        for member in members {
            match member {
                Member::Role { name } => roles.push(name.as_str().into()),
                Member::Claim { .. } => claims.push(member.to_string().into_boxed_str()),
                Member::User { .. } | Member::Client { .. } => {}
            }
        }
        roles.sort_unstable();
        claims.sort_unstable();
        let id = id.unwrap_or_else(|| "anonymous".to_owned()).into_boxed_str();
        Self { kind, id, issuer_and_subject, roles, claims }
    }

    /// Returns the entity.
    pub(super) fn entity(&self) -> Entity<'_> {
        Entity { kind: self.kind, id: &self.id }
    }

    /// Iterates over the principal and everything that it is in.
    pub(super) fn entities(&self) -> impl Iterator<Item = Entity<'_>> {
        let roles = self.roles.iter().map(|id| Entity { kind: EntityKind::Role, id });
        let claims = self.claims.iter().map(|id| Entity { kind: EntityKind::Claim, id });
        [self.entity()].into_iter().chain(roles).chain(claims)
    }

    /// Returns the issuer of a user.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer_and_subject.0
    }

    /// Returns the name of a user at the issuer.
    pub(super) fn subject(&self) -> &str {
        &self.issuer_and_subject.1
    }

    /// Checks that the principal is in a role or a claim.
    fn is_in(&self, outer: Entity<'_>) -> bool {
        let of = match outer.kind {
            EntityKind::Role => &self.roles,
            EntityKind::Claim => &self.claims,
            _ => return false,
        };
        of.binary_search_by(|id| (**id).cmp(outer.id)).is_ok()
    }
}

/// The ids of a resource and of everything that contains it.
///
/// The id of a warehouse is its name. Others have the form of [`ResourcePath::dotted`].
#[derive(Debug)]
pub(super) struct Names<'a> {
    /// The path to the resource.
    path: ResourcePath<'a>,
    /// The id of the path's end, if it is in a warehouse.
    dotted: String,
    /// The end of the warehouse's name in the id.
    warehouse_end: usize,
    /// The ends of the ids of the namespaces, the outermost first.
    namespace_ends: Vec<usize>,
}

impl<'a> Names<'a> {
    /// Makes the ids.
    pub(super) fn new(path: &ResourcePath<'a>) -> Self {
        let mut dotted = String::with_capacity(64);
        let mut namespace_ends = Vec::new();
        dotted.push_str(&path.warehouse_part().map(|(_, name)| quoted(name)).unwrap_or_default());
        let warehouse_end = dotted.len();
        for level in path.namespace_part().into_iter().flat_map(|key| key.split(NamespaceName::SEPARATOR)) {
            dotted.push('.');
            dotted.push_str(&quoted(level));
            namespace_ends.push(dotted.len());
        }
        if let Some(leaf) = path.leaf() {
            dotted.push('.');
            dotted.push_str(&quoted(leaf.name()));
        }
        Self { path: *path, dotted, warehouse_end, namespace_ends }
    }

    /// Returns the type of the resource.
    pub(super) const fn kind(&self) -> EntityKind {
        EntityKind::of(self.path.kind())
    }

    /// Returns the resource.
    pub(super) fn entity(&self) -> Entity<'_> {
        let kind = self.kind();
        match (kind, self.path.warehouse_part()) {
            (EntityKind::Server, _) | (_, None) => Entity { kind, id: "server" },
            (EntityKind::Warehouse, Some((_, id))) => Entity { kind, id },
            _ => Entity { kind, id: &self.dotted },
        }
    }

    /// Iterates over everything that contains the resource, the server first, and the resource itself last.
    pub(super) fn entities(&self) -> impl Iterator<Item = Entity<'_>> {
        let warehouse = self.path.warehouse_part().map(|(_, id)| Entity { kind: EntityKind::Warehouse, id });
        let namespaces = self.namespace_ends.iter().map(|end| Entity { kind: EntityKind::Namespace, id: &self.dotted[..*end] });
        let leaf = self.path.leaf().map(|_| self.entity());
        [Entity { kind: EntityKind::Server, id: "server" }].into_iter().chain(warehouse).chain(namespaces).chain(leaf)
    }

    /// Returns the place of an entity among [`Self::entities`]; `None` if it is not among them.
    pub(super) fn place(&self, of: Entity<'_>) -> Option<usize> {
        match of.kind {
            EntityKind::Server => (of.id == "server").then_some(0),
            EntityKind::Warehouse => self.path.warehouse_part().filter(|(_, name)| *name == of.id).map(|_| 1),
            EntityKind::Namespace => {
                let at = self.namespace_ends.binary_search(&of.id.len()).ok()?;
                (self.dotted[..of.id.len()] == *of.id).then_some(at + 2)
            }
            EntityKind::Table | EntityKind::View | EntityKind::Function => {
                (self.entity() == of).then_some(self.namespace_ends.len() + 2)
            }
            EntityKind::Client
            | EntityKind::User
            | EntityKind::Anonymous
            | EntityKind::Role
            | EntityKind::Claim
            | EntityKind::Action => None,
        }
    }

    /// Checks that an entity has the id of something in the resource.
    pub(super) fn contains(&self, of: Entity<'_>) -> bool {
        let is_below = || of.id.strip_prefix(&*self.dotted).is_some_and(|rest| rest.starts_with('.'));
        self.kind().can_contain(of.kind) && (self.kind() == EntityKind::Server || is_below())
    }

    /// Returns an attribute of the resource, or of something that contains it.
    pub(super) fn attribute(&self, of: Entity<'_>, attribute: Attribute) -> Option<&str> {
        let place = self.place(of).filter(|_| attribute.is_of(of.kind))?;
        let (_, warehouse) = self.path.warehouse_part()?;
        let level = place.checked_sub(2);
        match attribute {
            Attribute::Issuer | Attribute::Subject => None,
            Attribute::Warehouse => Some(warehouse),
            Attribute::Namespace => {
                let end = level.and_then(|level| self.namespace_ends.get(level)).or_else(|| self.namespace_ends.last())?;
                Some(&self.dotted[self.warehouse_end + 1..*end])
            }
            Attribute::Name => match of.kind {
                EntityKind::Warehouse => Some(warehouse),
                EntityKind::Namespace => self.path.namespace_part()?.split(NamespaceName::SEPARATOR).nth(level?),
                _ => self.path.leaf().map(Leaf::name),
            },
        }
    }
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    /// Who asks.
    pub(super) principal: &'a PrincipalEntity,
    /// The thing that it asks about.
    pub(super) names: &'a Names<'a>,
    /// Facts of the request, if there is one.
    pub(super) facts: Option<&'a RequestFacts>,
    /// Name of the privilege that is asked for. It is empty for conditions that do not read it.
    pub(super) action: &'static str,
}

impl Request<'_> {
    /// Checks that an entity is another one, or descends from it.
    ///
    /// Only the entities of the request are known: the principal, the resource and what contains them. Roles are in no other role
    /// here: the roles of a principal are all that it has, directly or not.
    pub(super) fn is_in(&self, inner: Entity<'_>, outer: Entity<'_>) -> bool {
        if inner == outer {
            return true;
        }
        match inner.kind {
            EntityKind::Client | EntityKind::User | EntityKind::Anonymous => {
                inner == self.principal.entity() && self.principal.is_in(outer)
            }
            EntityKind::Role | EntityKind::Claim => false,
            EntityKind::Action => {
                let group = if outer.kind == EntityKind::Action { privileges_of(outer.id) } else { None };
                // A privilege is in no other one, and a group in no group.
                let is_group = privilege(outer.id).is_none();
                is_group && group.zip(privilege(inner.id)).is_some_and(|(group, inner)| group.has(inner))
            }
            EntityKind::Server
            | EntityKind::Warehouse
            | EntityKind::Namespace
            | EntityKind::Table
            | EntityKind::View
            | EntityKind::Function => {
                let places = self.names.place(inner).zip(self.names.place(outer));
                places.is_some_and(|(inner, outer)| outer <= inner)
            }
        }
    }
}
