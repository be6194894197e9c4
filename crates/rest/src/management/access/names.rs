//! The things that privileges are granted on, as requests and answers name them: `table lake.raw.orders`.
//!
//! A request's name is looked up in the catalog, so that the grant holds the id of a table and the stored case of other names. An
//! answer has the name that the thing has now.

use esker_access::{ResourcePath, Securable, SecurableKind};
use esker_catalog::{CatalogError, LoadedTable};
use esker_state::{StateError, StoredGrant};
use esker_types::{ErrorCode, NamespaceName, TableName, quote_name, split_dotted};

use crate::{ApiError, App};

/// A thing by its names, as a person writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SecurableName {
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
    /// Returns [`ErrorCode::BadRequest`] with the forms if the text has none of them.
    fn parse(text: &str) -> Result<Self, ApiError> {
        let wrong = || {
            let forms = "`server`, `warehouse W`, `namespace W.N`, `table W.N.T`, `view W.N.V` or `function W.N.F`";
            ApiError::new(ErrorCode::BadRequest, format!("{text:?} names nothing that has privileges; write {forms}"))
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
        Ok(Self::Entry(kind, warehouse, TableName::new(namespace, name).map_err(CatalogError::from)?))
    }
}

/// A thing that was found, with its id and its names.
#[derive(Debug)]
pub(super) struct Found {
    /// The thing, as grants have it.
    pub(super) securable: Securable,
    /// The id and the name of the warehouse; `None` for the server.
    warehouse: Option<(i64, String)>,
    /// The key of the namespace.
    namespace: Option<String>,
    /// The name of the table, view or function.
    leaf: Option<String>,
}

impl Found {
    /// Finds a thing by the text of a request.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorCode::BadRequest`] if the text names nothing, and the error of the kind if the thing does not exist.
    pub(super) async fn by_name(app: &App, text: &str) -> Result<Self, ApiError> {
        match SecurableName::parse(text)? {
            SecurableName::Server => Ok(Self { securable: Securable::Server, warehouse: None, namespace: None, leaf: None }),
            SecurableName::Warehouse(name) => {
                let id = app.warehouse(&name)?.catalog().warehouse().id;
                let securable = Securable::Warehouse { warehouse: id };
                Ok(Self { securable, warehouse: Some((id, name)), namespace: None, leaf: None })
            }
            SecurableName::Namespace(warehouse, name) => {
                let catalog = app.warehouse(&warehouse)?.catalog();
                let (id, name) = (catalog.warehouse().id, catalog.namespace(&name).await?.name);
                let (key, securable) = (name.key(), Securable::Namespace { warehouse: id, namespace: name });
                Ok(Self { securable, warehouse: Some((id, warehouse)), namespace: Some(key), leaf: None })
            }
            SecurableName::Entry(kind, warehouse, name) => Self::entry(app, kind, warehouse, name).await,
        }
    }

    /// Finds a table, view or function.
    async fn entry(app: &App, kind: SecurableKind, warehouse: String, name: TableName) -> Result<Self, ApiError> {
        let catalog = app.warehouse(&warehouse)?.catalog();
        let id = catalog.warehouse().id;
        let (securable, name) = match kind {
            SecurableKind::View => {
                let row = catalog.view(&name).await?;
                (row.securable(), row.name)
            }
            SecurableKind::Function => {
                let name = catalog.function_name(&name).await?;
                let (namespace, function) = (name.namespace.clone(), name.name.clone());
                (Securable::Function { warehouse: id, namespace, name: function }, name)
            }
            _ => {
                let row = catalog.table(&name).await?;
                (row.securable(), row.name)
            }
        };
        let (namespace, leaf) = (Some(name.namespace.key()), Some(name.name));
        Ok(Self { securable, warehouse: Some((id, warehouse)), namespace, leaf })
    }

    /// Finds the thing of a stored grant; `None` if it is gone, or lies in a warehouse that this server does not have.
    pub(super) fn of_grant(app: &App, grant: &StoredGrant) -> Option<Self> {
        let securable = grant.row.on.clone();
        let name_of = |id: i64| {
            let found = app.warehouses().map(|warehouse| warehouse.catalog()).find(|catalog| catalog.warehouse().id == id);
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

    /// Loads the table that was found; `None` if the thing is no table.
    ///
    /// # Errors
    ///
    /// Returns the error of a table that does not exist if it was dropped or renamed since, and those of its metadata.
    pub(super) async fn load_table(&self, app: &App) -> Result<Option<LoadedTable>, ApiError> {
        let (Securable::Table { .. }, Some((_, warehouse)), Some(namespace), Some(name)) =
            (&self.securable, &self.warehouse, &self.namespace, &self.leaf)
        else {
            return Ok(None);
        };
        let namespace = NamespaceName::from_key(namespace).map_err(CatalogError::from)?;
        let name = TableName::new(namespace, name.as_str()).map_err(CatalogError::from)?;
        let table = app.warehouse(warehouse)?.catalog().load(&name).await?;
        // The caller's rights were checked on the table that had the name before.
        let is_same = Securable::Table { table: table.row.id } == self.securable;
        if is_same { Ok(Some(table)) } else { Err(CatalogError::from(StateError::NoSuchTable(name.to_string())).into()) }
    }

    /// Returns the path to the thing.
    pub(super) fn path(&self) -> ResourcePath<'_> {
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

    /// Returns the name of the thing, in the form of requests.
    pub(super) fn text(&self) -> String {
        let kind = self.securable.kind();
        let Some((_, warehouse)) = &self.warehouse else { return kind.to_string() };
        let Some(namespace) = &self.namespace else { return format!("{kind} {warehouse}") };
        let levels = namespace.split(NamespaceName::SEPARATOR);
        let parts = [warehouse.as_str()].into_iter().chain(levels).chain(self.leaf.as_deref());
        format!("{kind} {}", parts.map(quoted).collect::<Vec<_>>().join("."))
    }
}

/// Puts a part of a name in quotes if it would be read as something else without them.
fn quoted(part: &str) -> String {
    let plain = !part.starts_with(['"', '`']) && !part.contains(|c: char| c == '.' || c.is_whitespace());
    if plain { part.to_owned() } else { quote_name(part, '"') }
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
            assert!(refused.message().contains("`table W.N.T`"), "{wrong}: {}", refused.message());
        }
    }

    #[test]
    fn a_name_in_an_answer_is_read_as_the_same_thing() {
        let table = esker_types::TableId::fresh();
        let found = Found {
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
