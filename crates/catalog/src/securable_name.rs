//! The things that privileges are granted on, by the names that people give them: `table lake.raw.orders`.
//!
//! A name is looked up in the catalog, so that a grant holds the id of a table and the stored case of other names. Start reading at
//! [`NamedSecurable::find`].

use esker_access::{ResourcePath, Securable, SecurableKind};
use esker_state::{StateError, StoredGrant};
use esker_types::{NamespaceName, TableName, split_dotted};

use crate::{Catalog, CatalogError, LoadedTable, Result};

/// A thing by its names, as a person writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurableName {
    /// `server`.
    Server,
    /// `warehouse W`.
    Warehouse(String),
    /// `namespace W.N`.
    Namespace(String, NamespaceName),
    /// `table W.N.T`, and so for views and functions.
    Entry(SecurableKind, String, TableName),
}

impl SecurableName {
    /// Parses a name. Parts that contain dots stand in quotes.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](CatalogError::Invalid) with the forms if the text has none of them, and [`Name`](CatalogError::Name) if
    /// a name is not valid.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            let forms = "`server`, `warehouse W`, `namespace W.N`, `table W.N.T`, `view W.N.V` or `function W.N.F`";
            CatalogError::Invalid(format!("{text:?} names nothing that has privileges; write {forms}"))
        };
        let (kind, name) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
        let (kind, name) = (SecurableKind::from_name(&kind.to_lowercase()).ok_or_else(wrong)?, name.trim());
        let mut parts = split_dotted(name).map_err(|_| wrong())?.into_iter();
        match kind {
            SecurableKind::Server if name.is_empty() => return Ok(Self::Server),
            // The name of a warehouse may have dots without quotes: nothing follows it.
            SecurableKind::Warehouse if !name.is_empty() => return Ok(Self::Warehouse(name.to_owned())),
            SecurableKind::Server | SecurableKind::Warehouse => return Err(wrong()),
            SecurableKind::Namespace | SecurableKind::Table | SecurableKind::View | SecurableKind::Function => {}
        }
        let warehouse = parts.next().ok_or_else(wrong)?;
        let mut levels: Vec<String> = parts.collect();
        if kind == SecurableKind::Namespace {
            return Ok(Self::Namespace(warehouse, NamespaceName::new(levels).map_err(|_| wrong())?));
        }
        let name = levels.pop().ok_or_else(wrong)?;
        let namespace = NamespaceName::new(levels).map_err(|_| wrong())?;
        Ok(Self::Entry(kind, warehouse, TableName::new(namespace, name)?))
    }

    /// Returns the name of the warehouse; `None` for the server.
    pub fn warehouse(&self) -> Option<&str> {
        match self {
            Self::Server => None,
            Self::Warehouse(name) | Self::Namespace(name, _) | Self::Entry(_, name, _) => Some(name),
        }
    }
}

/// A thing that was found, with its id and its names.
#[derive(Debug, Clone)]
pub struct NamedSecurable {
    /// The thing, as grants have it.
    pub securable: Securable,
    /// The id and the name of the warehouse; `None` for the server.
    warehouse: Option<(i64, String)>,
    /// The key of the namespace.
    namespace: Option<String>,
    /// The name of the table, view or function.
    leaf: Option<String>,
}

impl NamedSecurable {
    /// The server.
    pub const SERVER: Self = Self { securable: Securable::Server, warehouse: None, namespace: None, leaf: None };

    /// Finds a thing of a warehouse. The name of the warehouse has been looked up.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the thing does not exist or the database fails.
    pub async fn find(name: &SecurableName, catalog: &Catalog) -> Result<Self> {
        let id = catalog.warehouse().id;
        let warehouse = Some((id, catalog.options().warehouse.clone()));
        let (securable, name) = match name {
            SecurableName::Server => return Ok(Self::SERVER),
            SecurableName::Warehouse(_) => {
                let securable = Securable::Warehouse { warehouse: id };
                return Ok(Self { securable, warehouse, ..Self::SERVER });
            }
            SecurableName::Namespace(_, name) => {
                let name = catalog.namespace(name).await?.name;
                let (key, securable) = (name.key(), Securable::Namespace { warehouse: id, namespace: name });
                return Ok(Self { securable, warehouse, namespace: Some(key), leaf: None });
            }
            SecurableName::Entry(SecurableKind::View, _, name) => {
                let row = catalog.view(name).await?;
                (row.securable(), row.name)
            }
            SecurableName::Entry(SecurableKind::Function, _, name) => {
                // As for tables and views, the function is missing: one in a hidden namespace gets this answer too.
                let missing = |e: CatalogError| match e {
                    CatalogError::State(StateError::NoSuchNamespace(_)) => StateError::NoSuchFunction(name.to_string()).into(),
                    e => e,
                };
                let name = catalog.function_name(name).await.map_err(missing)?;
                let (namespace, function) = (name.namespace.clone(), name.name.clone());
                (Securable::Function { warehouse: id, namespace, name: function }, name)
            }
            SecurableName::Entry(_, _, name) => {
                let row = catalog.table(name).await?;
                (row.securable(), row.name)
            }
        };
        Ok(Self { securable, warehouse, namespace: Some(name.namespace.key()), leaf: Some(name.name) })
    }

    /// Finds the thing of a stored grant; `None` if it is gone, or lies in a warehouse that is not among those given.
    pub fn of_grant<'a>(grant: &StoredGrant, mut catalogs: impl Iterator<Item = &'a Catalog>) -> Option<Self> {
        let securable = grant.row.on.clone();
        let mut name_of = |id: i64| {
            let found = catalogs.find(|catalog| catalog.warehouse().id == id);
            found.map(|catalog| (id, catalog.options().warehouse.clone()))
        };
        let (warehouse, namespace, leaf) = match &securable {
            Securable::Server => (None, None, None),
            Securable::Warehouse { warehouse } => (Some(name_of(*warehouse)?), None, None),
            Securable::Namespace { warehouse, namespace } => (Some(name_of(*warehouse)?), Some(namespace.key()), None),
            Securable::Function { warehouse, namespace, name } => {
                (Some(name_of(*warehouse)?), Some(namespace.key()), Some(name.clone()))
            }
            Securable::Table { .. } | Securable::View { .. } => {
                let (warehouse, name) = grant.tabular.as_ref()?;
                (Some(name_of(*warehouse)?), Some(name.namespace.key()), Some(name.name.clone()))
            }
        };
        Some(Self { securable, warehouse, namespace, leaf })
    }

    /// Returns the name of the warehouse; `None` for the server.
    pub fn warehouse(&self) -> Option<&str> {
        self.warehouse.as_ref().map(|(_, name)| name.as_str())
    }

    /// Loads the table that was found in a warehouse; `None` if the thing is no table.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) with the error of a table that does not exist if it was dropped or renamed since, and
    /// the errors of [`Catalog::load`].
    pub async fn load_table(&self, catalog: &Catalog) -> Result<Option<LoadedTable>> {
        let (Securable::Table { .. }, Some(namespace), Some(name)) = (&self.securable, &self.namespace, &self.leaf) else {
            return Ok(None);
        };
        let name = TableName::new(NamespaceName::from_key(namespace)?, name.as_str())?;
        let table = catalog.load(&name).await?;
        // The caller's rights were checked on the table that had the name before.
        let is_same = Securable::Table { table: table.row.id } == self.securable;
        if is_same { Ok(Some(table)) } else { Err(StateError::NoSuchTable(name.to_string()).into()) }
    }

    /// Returns the path to the thing.
    pub fn path(&self) -> ResourcePath<'_> {
        let Some((id, name)) = &self.warehouse else { return ResourcePath::SERVER };
        let path = ResourcePath::warehouse(*id, name);
        let Some(namespace) = &self.namespace else { return path };
        let path = path.namespace(namespace);
        match (&self.securable, &self.leaf) {
            (Securable::Table { table }, Some(name)) => path.table(*table, name),
            (Securable::View { view }, Some(name)) => path.view(*view, name),
            (Securable::Function { .. }, Some(name)) => path.function(name),
            _ => path,
        }
    }

    /// Returns the name of the thing without its kind, in the form of requests; empty for the server.
    pub fn dotted(&self) -> String {
        self.path().dotted()
    }

    /// Returns the kind and the name of the thing, in the form of requests.
    pub fn text(&self) -> String {
        self.path().text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(levels: &[&str]) -> NamespaceName {
        NamespaceName::new(levels.iter().map(|level| (*level).to_owned()).collect()).expect("valid")
    }

    #[test]
    fn things_are_named_from_the_warehouse_on() {
        let parse = |text: &str| SecurableName::parse(text).expect("a name");
        let lake = || "lake".to_owned();
        assert_eq!(parse(" Server "), SecurableName::Server);
        assert_eq!(parse("warehouse my.lake"), SecurableName::Warehouse("my.lake".into()));
        assert_eq!(parse("namespace lake.raw.crm"), SecurableName::Namespace(lake(), namespace(&["raw", "crm"])));
        let table = TableName::new(namespace(&["a.b"]), "t").expect("valid");
        assert_eq!(parse("TABLE  lake.\"a.b\".t"), SecurableName::Entry(SecurableKind::Table, lake(), table));
        for wrong in ["", "lake.raw", "server x", "warehouse", "namespace lake", "table lake.t", "table lake..t", "bucket x"] {
            let refused = SecurableName::parse(wrong).expect_err("refused");
            assert!(refused.to_string().contains("`table W.N.T`"), "{wrong}: {refused}");
        }
    }

    #[test]
    fn a_name_in_an_answer_is_read_as_the_same_thing() {
        let table = esker_types::TableId::fresh();
        let found = NamedSecurable {
            securable: Securable::Table { table },
            warehouse: Some((1, "lake".into())),
            namespace: Some("a.b\u{1f}c d".into()),
            leaf: Some("t".into()),
        };
        assert_eq!(found.text(), "table lake.\"a.b\".\"c d\".t");
        let name = TableName::new(namespace(&["a.b", "c d"]), "t").expect("valid");
        let read = SecurableName::parse(&found.text()).expect("a name");
        assert_eq!(read, SecurableName::Entry(SecurableKind::Table, "lake".into(), name));
        assert_eq!(found.path().to_string(), "table a.b.c d.t");
    }
}
