//! Securables: the things that privileges are granted on, and the path from the server to one of them.
//!
//! A grant names its thing as a [`Securable`]. A request names it as a [`ResourcePath`], with everything that contains it. Tables
//! and views are held by id, so a rename keeps their grants. Namespaces are held by warehouse and key.

use std::borrow::Cow;
use std::fmt;

use esker_types::{NamespaceName, TableId, quote_name};
use serde::{Deserialize, Serialize};

use crate::{Privilege, PrivilegeSet, Result, RightsError};

/// The kind of a securable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SecurableKind {
    /// The server.
    Server,
    /// A warehouse.
    Warehouse,
    /// A namespace.
    Namespace,
    /// A table.
    Table,
    /// A view.
    View,
    /// A function.
    Function,
}

impl SecurableKind {
    /// Every kind, containers first.
    pub const ALL: [Self; 6] = [Self::Server, Self::Warehouse, Self::Namespace, Self::Table, Self::View, Self::Function];

    /// Returns the name of the kind, as in texts, the API and the state database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Warehouse => "warehouse",
            Self::Namespace => "namespace",
            Self::Table => "table",
            Self::View => "view",
            Self::Function => "function",
        }
    }

    /// Returns the kind that a name stands for.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Returns the privileges that can be granted on a securable of this kind: for itself, and for what it contains.
    pub const fn privileges(self) -> PrivilegeSet {
        use Privilege::{
            AlterSchema, ChooseLocation, CreateFunction, CreateNamespace, CreateTable, CreateView, Drop, List, ManageGrants,
            Protect, ReadData, ReadMetadata, Register, Rename, SetLocation, SetProperties, SetProtected, Undrop, Upgrade, Use,
        };
        let warehouse = PrivilegeSet::ALL.without(PrivilegeSet::SERVER_ONLY);
        let namespace = warehouse.without(PrivilegeSet::of(&[Use]));
        let contained = [CreateNamespace, CreateTable, CreateView, CreateFunction, Register, ChooseLocation, Undrop];
        match self {
            Self::Server => PrivilegeSet::ALL,
            Self::Warehouse => warehouse,
            Self::Namespace => namespace,
            Self::Table => namespace.without(PrivilegeSet::of(&contained)),
            Self::View => {
                let read = PrivilegeSet::of(&[List, ReadMetadata, ReadData, ManageGrants]);
                let alter = PrivilegeSet::of(&[AlterSchema, SetProperties, SetProtected, SetLocation, Upgrade]);
                read.union(alter).union(PrivilegeSet::of(&[Drop, Rename, Protect]))
            }
            Self::Function => PrivilegeSet::of(&[List, ReadMetadata, Drop, ManageGrants]),
        }
    }

    /// Checks that privileges can be granted on a securable of this kind.
    ///
    /// # Errors
    ///
    /// Returns [`RightsError::NotGrantable`] with those that can't, and [`RightsError::NoPrivileges`] if there are none.
    pub fn check_grantable(self, privileges: PrivilegeSet) -> Result<()> {
        let wrong = privileges.without(self.privileges());
        match (privileges.is_empty(), wrong.is_empty()) {
            (true, _) => Err(RightsError::NoPrivileges),
            (_, false) => Err(RightsError::NotGrantable { privileges: wrong, kind: self }),
            _ => Ok(()),
        }
    }

    /// Checks that a securable of kind `inner` can lie below one of this kind.
    pub const fn can_contain(self, inner: Self) -> bool {
        match self {
            Self::Server => !matches!(inner, Self::Server),
            Self::Warehouse | Self::Namespace => !matches!(inner, Self::Server | Self::Warehouse),
            Self::Table | Self::View | Self::Function => false,
        }
    }

    /// Returns the privileges of which one is enough to see that the securable exists.
    pub(crate) const fn privileges_to_see(self) -> PrivilegeSet {
        match self {
            Self::Server | Self::Warehouse => PrivilegeSet::of(&[Privilege::Use, Privilege::List]),
            Self::Namespace | Self::Table | Self::View | Self::Function => PrivilegeSet::of(&[Privilege::List]),
        }
    }
}

impl fmt::Display for SecurableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The thing that a grant is on, as the state database stores it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Securable {
    /// The server, which contains everything.
    Server,
    /// A warehouse.
    Warehouse {
        /// Id of the warehouse.
        warehouse: i64,
    },
    /// A namespace, with what it contains.
    Namespace {
        /// Id of the warehouse.
        warehouse: i64,
        /// Levels of the namespace, the outermost first.
        namespace: NamespaceName,
    },
    /// A table.
    Table {
        /// Id of the table.
        table: TableId,
    },
    /// A view.
    View {
        /// Id of the view.
        view: TableId,
    },
    /// A function.
    Function {
        /// Id of the warehouse.
        warehouse: i64,
        /// Levels of the function's namespace, the outermost first.
        namespace: NamespaceName,
        /// Name of the function in its namespace.
        name: String,
    },
}

impl Securable {
    /// Returns the kind.
    pub const fn kind(&self) -> SecurableKind {
        match self {
            Self::Server => SecurableKind::Server,
            Self::Warehouse { .. } => SecurableKind::Warehouse,
            Self::Namespace { .. } => SecurableKind::Namespace,
            Self::Table { .. } => SecurableKind::Table,
            Self::View { .. } => SecurableKind::View,
            Self::Function { .. } => SecurableKind::Function,
        }
    }
}

/// The last step of a path: a thing in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf<'a> {
    /// A table.
    Table {
        /// Id of the table.
        id: TableId,
        /// Name of the table in its namespace.
        name: &'a str,
    },
    /// A view.
    View {
        /// Id of the view.
        id: TableId,
        /// Name of the view in its namespace.
        name: &'a str,
    },
    /// A function.
    Function {
        /// Name of the function in its namespace.
        name: &'a str,
    },
}

impl<'a> Leaf<'a> {
    /// Returns the name of the table, view or function in its namespace.
    pub(crate) const fn name(self) -> &'a str {
        match self {
            Self::Table { name, .. } | Self::View { name, .. } | Self::Function { name } => name,
        }
    }
}

/// The namespace of the table of the audit trail, in every warehouse.
pub const AUDIT_NAMESPACE: &str = "system";

/// The name of the table of the audit trail in its namespace.
pub const AUDIT_TABLE: &str = "audit";

/// Checks that a table or view is that of the audit trail, by the key of its namespace and its name.
///
/// The case of the letters does not count, because it does not count in some warehouses.
pub fn is_audit_table(namespace: &str, name: &str) -> bool {
    namespace.eq_ignore_ascii_case(AUDIT_NAMESPACE) && name.eq_ignore_ascii_case(AUDIT_TABLE)
}

/// The path from the server to a securable. Grants count on each step.
///
/// Names are as the state database has them, in its case. A namespace is its key; see [`NamespaceName::key`].
///
/// ```
/// use esker_access::{ResourcePath, SecurableKind};
///
/// let path = ResourcePath::warehouse(1, "lake").namespace("raw\u{1f}crm");
/// assert_eq!(path.kind(), SecurableKind::Namespace);
/// assert_eq!(path.to_string(), "namespace raw.crm");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourcePath<'a> {
    warehouse: Option<(i64, &'a str)>,
    namespace: Option<&'a str>,
    leaf: Option<Leaf<'a>>,
}

impl<'a> ResourcePath<'a> {
    /// The path to the server.
    pub const SERVER: ResourcePath<'static> = ResourcePath { warehouse: None, namespace: None, leaf: None };

    /// Returns the path to a warehouse.
    pub const fn warehouse(id: i64, name: &'a str) -> Self {
        Self { warehouse: Some((id, name)), namespace: None, leaf: None }
    }

    /// Returns the path to a namespace of the path's warehouse.
    #[must_use]
    pub const fn namespace(self, key: &'a str) -> Self {
        Self { warehouse: self.warehouse, namespace: Some(key), leaf: None }
    }

    /// Returns the path to a table in the path's namespace.
    #[must_use]
    pub const fn table(self, id: TableId, name: &'a str) -> Self {
        Self { leaf: Some(Leaf::Table { id, name }), ..self }
    }

    /// Returns the path to a view in the path's namespace.
    #[must_use]
    pub const fn view(self, id: TableId, name: &'a str) -> Self {
        Self { leaf: Some(Leaf::View { id, name }), ..self }
    }

    /// Returns the path to a function in the path's namespace.
    #[must_use]
    pub const fn function(self, name: &'a str) -> Self {
        Self { leaf: Some(Leaf::Function { name }), ..self }
    }

    /// Returns the kind of the securable at the end of the path.
    pub const fn kind(&self) -> SecurableKind {
        match (self.leaf, self.namespace, self.warehouse) {
            (Some(Leaf::Table { .. }), ..) => SecurableKind::Table,
            (Some(Leaf::View { .. }), ..) => SecurableKind::View,
            (Some(Leaf::Function { .. }), ..) => SecurableKind::Function,
            (None, Some(_), _) => SecurableKind::Namespace,
            (None, None, Some(_)) => SecurableKind::Warehouse,
            (None, None, None) => SecurableKind::Server,
        }
    }

    /// Returns the id and the name of the warehouse.
    pub const fn warehouse_part(&self) -> Option<(i64, &'a str)> {
        self.warehouse
    }

    /// Returns the key of the namespace.
    pub const fn namespace_part(&self) -> Option<&'a str> {
        self.namespace
    }

    /// Returns the table, view or function.
    pub const fn leaf(&self) -> Option<Leaf<'a>> {
        self.leaf
    }

    /// Checks that the path leads to the table of the audit trail, which no grant gives: see [`Subject::decide`].
    ///
    /// [`Subject::decide`]: crate::Subject::decide
    pub fn is_audit_table(&self) -> bool {
        match (self.namespace, self.leaf) {
            (Some(namespace), Some(Leaf::Table { name, .. } | Leaf::View { name, .. })) => is_audit_table(namespace, name),
            _ => false,
        }
    }

    /// Checks that the table of the audit trail can be the securable, or lie in it.
    pub(crate) fn can_hold_audit_table(&self) -> bool {
        match self.leaf {
            Some(_) => self.is_audit_table(),
            None => self.namespace.is_none_or(|namespace| namespace.eq_ignore_ascii_case(AUDIT_NAMESPACE)),
        }
    }

    /// Iterates over the keys of the namespace and the namespaces around it, the outermost first.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let key = self.namespace.unwrap_or_default();
        let inner = key.match_indices(NamespaceName::SEPARATOR).map(move |(end, _)| &key[..end]);
        inner.chain(self.namespace)
    }

    /// Iterates over the paths to everything that contains the securable, the server first, and the path itself last.
    pub fn steps(&self) -> impl Iterator<Item = Self> + use<'a> {
        let whole = *self;
        let warehouse = whole.warehouse.map(|_| Self { namespace: None, leaf: None, ..whole });
        let namespaces = whole.namespaces().map(move |key| Self { namespace: Some(key), leaf: None, ..whole });
        let leaf = whole.leaf.map(|_| whole);
        [ResourcePath::SERVER].into_iter().chain(warehouse).chain(namespaces).chain(leaf)
    }

    /// Returns the name of the securable, for people: levels and names joined by dots. It is empty for the server.
    pub fn name(&self) -> String {
        let namespace = self.namespace.map(|key| key.replace(NamespaceName::SEPARATOR, "."));
        match (namespace, self.leaf.map(Leaf::name)) {
            (Some(namespace), Some(leaf)) => format!("{namespace}.{leaf}"),
            (Some(namespace), None) => namespace,
            _ => self.warehouse.map(|(_, name)| name.to_owned()).unwrap_or_default(),
        }
    }

    /// Returns the name of the securable in the form of requests: it begins with the warehouse. It is empty for the server.
    pub fn dotted(&self) -> String {
        let Some((_, warehouse)) = self.warehouse else { return String::new() };
        let Some(namespace) = self.namespace else { return warehouse.to_owned() };
        let levels = namespace.split(NamespaceName::SEPARATOR);
        let parts = [warehouse].into_iter().chain(levels).chain(self.leaf.map(Leaf::name));
        parts.map(quoted).collect::<Vec<_>>().join(".")
    }

    /// Returns the kind and the name of the securable in the form of requests: `table lake.raw.crm.orders`, `server`.
    pub fn text(&self) -> String {
        let kind = self.kind();
        match self.dotted() {
            name if name.is_empty() => kind.to_string(),
            name => format!("{kind} {name}"),
        }
    }
}

/// Puts a part of a name in quotes if it would be read as something else without them.
pub(crate) fn quoted(part: &str) -> Cow<'_, str> {
    let plain = !part.starts_with(['"', '`']) && !part.contains(|c: char| c == '.' || c.is_whitespace());
    if plain { part.into() } else { quote_name(part, '"').into() }
}

/// Prints the kind and the name: `table raw.crm.orders`, `the server`.
impl fmt::Display for ResourcePath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            SecurableKind::Server => f.write_str("the server"),
            kind => write!(f, "{kind} {}", self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_every_container_of_its_end() {
        let table = TableId::fresh();
        let path = ResourcePath::warehouse(1, "lake").namespace("a\u{1f}b.c").table(table, "t");
        let steps: Vec<String> = path.steps().map(|step| step.to_string()).collect();
        assert_eq!(steps, ["the server", "warehouse lake", "namespace a", "namespace a.b.c", "table a.b.c.t"]);
        let texts: Vec<String> = path.steps().map(|step| step.text()).collect();
        let expected = ["server", "warehouse lake", "namespace lake.a", "namespace lake.a.\"b.c\"", "table lake.a.\"b.c\".t"];
        assert_eq!(texts, expected);
        assert_eq!(ResourcePath::SERVER.steps().collect::<Vec<_>>(), [ResourcePath::SERVER]);
        assert_eq!(ResourcePath::warehouse(1, "lake").steps().count(), 2);
    }

    #[test]
    fn what_a_container_has_includes_what_its_content_has() {
        for outer in SecurableKind::ALL {
            for inner in SecurableKind::ALL.into_iter().filter(|inner| outer.can_contain(*inner)) {
                assert!(outer.privileges().contains(inner.privileges()), "{outer} has all of {inner}");
            }
            assert!(outer.privileges().contains(outer.privileges_to_see()), "{outer} can be seen");
            assert_eq!(SecurableKind::from_name(outer.as_str()), Some(outer));
        }
    }

    #[test]
    fn privileges_of_the_server_can_be_granted_on_the_server_alone() {
        let audit = PrivilegeSet::from(Privilege::ReadAudit);
        assert_eq!(SecurableKind::Server.check_grantable(audit), Ok(()));
        for kind in &SecurableKind::ALL[1..] {
            assert_eq!(kind.check_grantable(audit), Err(RightsError::NotGrantable { privileges: audit, kind: *kind }));
        }
        assert_eq!(SecurableKind::Server.check_grantable(PrivilegeSet::EMPTY), Err(RightsError::NoPrivileges));
    }

    #[test]
    fn securables_are_objects_with_a_kind_in_json() {
        let namespace = NamespaceName::new(vec!["a".into(), "b".into()]).expect("valid");
        let json = serde_json::to_value(Securable::Namespace { warehouse: 1, namespace }).expect("JSON");
        assert_eq!(json, serde_json::json!({"kind": "namespace", "warehouse": 1, "namespace": ["a", "b"]}));
        assert_eq!(serde_json::to_value(Securable::Server).expect("JSON"), serde_json::json!({"kind": "server"}));
    }
}
