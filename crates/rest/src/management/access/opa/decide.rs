//! Decisions for Trino: may a user do an operation on a thing?
//!
//! A thing is looked up in the catalog of its warehouse, and the rules decide on its path, as they do for every other request. A
//! name without a thing is answered like a hidden one. Start reading at [`Asker::may`].

use esker_access::{Need, Privilege, PrivilegeSet, Required, ResourcePath};
use esker_catalog::{Authority, Catalog, CatalogError};
use esker_state::{TabularKind, TabularRow};
use esker_types::{Coded, NamespaceName, TableName};

use super::OpaOptions;
use super::operations::{NewTabular, OpaRule, needed_by, needed_for, needed_to_call, needed_to_create_with};
use super::query::{OpaFunction, OpaResource, OpaSchema, OpaTable};
use crate::{ApiError, App};

/// The schema that Trino itself has in every catalog.
const INFORMATION_SCHEMA: &str = "information_schema";

/// The catalog that Trino itself has. Its tables show what other operations allow.
const SYSTEM: &str = "system";

/// The metadata tables that show neither rows nor counts nor values of columns.
const HARMLESS: [&str; 4] = ["history", "refs", "metadata_log_entries", "properties"];

/// The other metadata table that shows no values of columns. Trino's tables of manifests have bounds of partitions.
const DESCRIBING: &str = "snapshots";

/// A user of Trino, with the rules of now.
pub(super) struct Asker<'a> {
    pub(super) app: &'a App,
    pub(super) options: &'a OpaOptions,
    pub(super) authority: Authority,
    /// The name of the user at Trino.
    pub(super) user: &'a str,
}

/// The place that a catalog of Trino is.
pub(super) enum Home<'a> {
    /// A warehouse.
    Warehouse(&'a Catalog),
    /// Trino's own catalog.
    System,
    /// A catalog that has nothing to do with Esker.
    Elsewhere,
}

/// A table or view that a question names.
pub(super) struct NamedTabular {
    pub(super) row: TabularRow,
    /// The kind of the metadata table, if the question is about one.
    pub(super) metadata: Option<String>,
}

/// Turns an error about a name without a thing into `None`. A name that is not valid names nothing.
fn found<T>(looked_up: Result<T, CatalogError>) -> Result<Option<T>, ApiError> {
    match looked_up {
        Ok(thing) => Ok(Some(thing)),
        Err(CatalogError::Name(_)) => Ok(None),
        Err(e) if e.code().http() == 404 => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Checks that a schema is one that Trino itself has in every catalog.
pub(super) fn is_trinos_own(schema: &str) -> bool {
    schema.eq_ignore_ascii_case(INFORMATION_SCHEMA)
}

/// Parses the name of a schema, whose levels are separated by dots.
pub(super) fn namespace_of(schema: &str) -> Option<NamespaceName> {
    NamespaceName::new(schema.split('.').map(str::to_owned).collect()).ok()
}

/// Parses the name of a table in a schema.
fn name_of(schema: &str, table: &str) -> Option<TableName> {
    TableName::new(namespace_of(schema)?, table).ok()
}

impl<'a> Asker<'a> {
    /// Checks that the user may do an operation. `target` is the new name of a rename.
    ///
    /// # Errors
    ///
    /// Returns the error of the catalog if the database does not answer.
    pub(super) async fn may(&self, rule: OpaRule, thing: &OpaResource, target: Option<&OpaResource>) -> Result<bool, ApiError> {
        match rule {
            OpaRule::Everybody => return Ok(true),
            OpaRule::Nobody => {}
            OpaRule::Server(required) => return Ok(self.has(ResourcePath::SERVER, required)),
            OpaRule::Oneself(privilege) => {
                let is_own = thing.user.as_ref().is_some_and(|user| user.user == self.user);
                return Ok(is_own || self.has(ResourcePath::SERVER, Required::privilege(privilege)));
            }
            _ => {}
        }
        let Some(catalog) = catalog_name(thing) else { return Ok(self.otherwise()) };
        let catalog = match self.home(catalog) {
            Home::Warehouse(catalog) => catalog,
            Home::System => return Ok(rule.only_reads() || self.is_builtin(rule, thing)),
            Home::Elsewhere => return Ok(self.options.allow_other_catalogs),
        };
        if schema_name(thing).is_some_and(is_trinos_own) {
            return Ok(rule.only_reads() && self.sees_catalog(catalog));
        }
        match rule {
            OpaRule::UseCatalog => Ok(self.has(catalog.warehouse_path(), Required::privilege(Privilege::Use))),
            OpaRule::ListCatalog => Ok(self.sees_catalog(catalog)),
            OpaRule::Schema(_) | OpaRule::ListSchema | OpaRule::NewSchema => match &thing.schema {
                Some(schema) => self.may_on_schema(catalog, rule, schema).await,
                None => Ok(self.otherwise()),
            },
            OpaRule::CallProcedure
            | OpaRule::CallFunction
            | OpaRule::ListFunction
            | OpaRule::NewFunction
            | OpaRule::Function(_) => match &thing.function {
                Some(function) => self.may_on_function(catalog, rule, function).await,
                None => Ok(self.otherwise()),
            },
            OpaRule::New(kind) => match &thing.table {
                Some(table) => self.may_create(catalog, kind, table).await,
                None => Ok(self.otherwise()),
            },
            _ => match &thing.table {
                Some(table) => self.may_on_table(catalog, rule, (thing, table), target).await,
                None => Ok(self.otherwise()),
            },
        }
    }

    /// Returns the place that a catalog of Trino is.
    pub(super) fn home(&self, catalog: &str) -> Home<'a> {
        let mapped = self.options.catalogs.get(catalog).map(String::as_str);
        match self.app.warehouse(mapped.unwrap_or(catalog)) {
            // Trino's own catalog is no warehouse of the same name.
            _ if mapped.is_none() && catalog == SYSTEM => Home::System,
            Ok(warehouse) => Home::Warehouse(warehouse.catalog()),
            Err(_) => Home::Elsewhere,
        }
    }

    /// Decides, and records a refusal.
    fn has(&self, on: ResourcePath<'_>, required: Required) -> bool {
        self.authority.require(&Need { on, required }).is_ok()
    }

    /// Decides on what may reach any table of a warehouse, of which access policies must make no exception.
    fn has_on_all(&self, catalog: &Catalog, privilege: Privilege) -> bool {
        let (on, required) = (catalog.warehouse_path(), Required::privilege(privilege));
        self.has(on, required) && self.authority.has_for_content(&on, required)
    }

    /// Returns the answer about a thing that does not exist, or that Esker does not have: refused, where refusals count.
    pub(super) fn otherwise(&self) -> bool {
        !self.authority.is_limited()
    }

    /// Checks that the user sees the warehouse of a catalog.
    fn sees_catalog(&self, catalog: &Catalog) -> bool {
        self.authority.sees(&catalog.warehouse_path())
    }

    /// Checks that an operation on Trino's own catalog is a call of what each version of Trino brings along.
    ///
    /// Trino asks again before it kills the query of somebody else.
    fn is_builtin(&self, rule: OpaRule, thing: &OpaResource) -> bool {
        let called = thing.function.as_ref();
        match rule {
            OpaRule::CallFunction => true,
            OpaRule::CallProcedure if called.is_some_and(|function| function.function_name == "kill_query") => true,
            _ => self.otherwise(),
        }
    }

    /// Decides on a schema.
    async fn may_on_schema(&self, catalog: &Catalog, rule: OpaRule, schema: &OpaSchema) -> Result<bool, ApiError> {
        let Some(name) = namespace_of(&schema.schema_name) else { return Ok(self.otherwise()) };
        if rule == OpaRule::NewSchema {
            let location = schema.properties.get("location").is_some_and(|value| !value.is_null());
            let mut needed = PrivilegeSet::from(Privilege::CreateNamespace);
            if location {
                needed = needed.union(Privilege::ChooseLocation.into());
            }
            return self.may_in(catalog, name.parent(), Required::all(needed)).await;
        }
        let Some(row) = found(catalog.namespace(&name).await)? else { return Ok(self.otherwise()) };
        let key = row.name.key();
        let on = catalog.namespace_path(&key);
        match rule {
            OpaRule::Schema(required) => Ok(self.has(on, required)),
            _ if self.authority.sees(&on) => Ok(true),
            _ => {
                let tables = found(catalog.list_tables(&row.name, "", 1, &self.authority).await)?.unwrap_or_default();
                let views = found(catalog.list_views(&row.name, "", 1, &self.authority).await)?.unwrap_or_default();
                Ok(!tables.is_empty() || !views.is_empty())
            }
        }
    }

    /// Decides on something new in a namespace: with privileges on the innermost namespace around it that exists, or the
    /// warehouse.
    async fn may_in(&self, catalog: &Catalog, mut around: Option<NamespaceName>, required: Required) -> Result<bool, ApiError> {
        while let Some(name) = around {
            if let Some(row) = found(catalog.namespace(&name).await)? {
                let key = row.name.key();
                return Ok(self.has(catalog.namespace_path(&key), required));
            }
            around = name.parent();
        }
        Ok(self.has(catalog.warehouse_path(), required))
    }

    /// Finds a table or view by the names of a question.
    ///
    /// Trino takes what follows a dollar sign for the kind of a metadata table, even if a table has the whole name.
    pub(super) async fn tabular(&self, catalog: &Catalog, schema: &str, table: &str) -> Result<Option<NamedTabular>, ApiError> {
        if let Some((table, metadata)) = table.rsplit_once('$')
            && let Some(row) = find(catalog, schema, table).await?
        {
            return Ok(Some(NamedTabular { row, metadata: Some(metadata.to_lowercase()) }));
        }
        Ok(find(catalog, schema, table).await?.map(|row| NamedTabular { row, metadata: None }))
    }

    /// Decides on a table or view that exists.
    async fn may_on_table(
        &self,
        catalog: &Catalog,
        rule: OpaRule,
        (thing, table): (&OpaResource, &OpaTable),
        target: Option<&OpaResource>,
    ) -> Result<bool, ApiError> {
        let named = self.tabular(catalog, &table.schema_name, &table.table_name).await?;
        let Some(named) = named else { return Ok(self.otherwise()) };
        let key = named.row.name.namespace.key();
        let on = catalog.tabular_path(&key, &named.row);
        let is_restricted = || self.authority.restrictions(named.row.id).is_some();
        Ok(match rule {
            OpaRule::ListTabular => self.authority.sees(&on),
            OpaRule::ListColumns => self.authority.has(&on, Required::privilege(Privilege::ReadMetadata)),
            OpaRule::Tabular(required) => self.has(on, required),
            OpaRule::Select(more) => {
                let describes = |kind: &str| HARMLESS.contains(&kind) || kind == DESCRIBING;
                let only_describes = named.metadata.as_deref().is_some_and(describes);
                let read = if only_describes { Privilege::ReadMetadata } else { Privilege::ReadData };
                let reveals = named.reveals(&table.columns) && is_restricted();
                self.has(on, Required::all(more.union(read.into()))) && !reveals
            }
            OpaRule::Change(required) => self.has(on, required) && !is_restricted(),
            OpaRule::SetProperties => {
                let keys = table.properties.keys();
                let needed = keys.map(|key| needed_for(key)).fold(PrivilegeSet::EMPTY, PrivilegeSet::union);
                self.has(on, Required::all(needed))
            }
            OpaRule::TableProcedure => {
                let procedure = thing.function.as_ref().map_or("", |function| function.function_name.as_str());
                match needed_by(procedure) {
                    Some(required) => self.has(on, required) && !is_restricted(),
                    None => self.otherwise(),
                }
            }
            OpaRule::Rename(kind) => {
                let to = target.and_then(|target| target.table.as_ref()).filter(|to| to.catalog_name == table.catalog_name);
                let Some(target) = to else { return Ok(self.otherwise()) };
                let Some(to) = namespace_of(&target.schema_name) else { return Ok(self.otherwise()) };
                let into = found(catalog.namespace(&to).await)?.map(|into| into.name.key());
                // As the catalog does.
                let moves =
                    |into: &str| catalog.check_move(&self.authority, &named.row, &key, (into, &target.table_name)).is_ok();
                self.has(on, Required::privilege(Privilege::Rename))
                    && into.is_none_or(|into| moves(&into))
                    && self.may_in(catalog, Some(to), Required::privilege(kind.privilege())).await?
            }
            _ => self.otherwise(),
        })
    }

    /// Decides on a new table or view. One of the same name is replaced by it.
    async fn may_create(&self, catalog: &Catalog, kind: NewTabular, table: &OpaTable) -> Result<bool, ApiError> {
        let Some(namespace) = namespace_of(&table.schema_name) else { return Ok(self.otherwise()) };
        let mut needed = PrivilegeSet::from(kind.privilege());
        for (key, value) in &table.properties {
            needed = needed.union(needed_to_create_with(key, value));
        }
        if !self.may_in(catalog, Some(namespace), Required::all(needed)).await? {
            return Ok(false);
        }
        let Some(row) = find(catalog, &table.schema_name, &table.table_name).await? else { return Ok(true) };
        let key = row.name.namespace.key();
        let replace = if row.kind == TabularKind::View { Privilege::AlterSchema } else { Privilege::Drop };
        Ok(self.has(catalog.tabular_path(&key, &row), Required::privilege(replace)))
    }

    /// Decides on a function or procedure.
    async fn may_on_function(&self, catalog: &Catalog, rule: OpaRule, function: &OpaFunction) -> Result<bool, ApiError> {
        if function.schema_name.eq_ignore_ascii_case(SYSTEM) {
            // Trino's connector brings these along. Row filters and masks do not apply to what a table function reads.
            return Ok(match rule {
                OpaRule::ListFunction => self.sees_catalog(catalog),
                OpaRule::CallFunction => {
                    let may_read = !self.authority.may_forbid_below(&catalog.warehouse_path(), Privilege::ReadData);
                    may_read && self.has_on_all(catalog, Privilege::ReadAllRows)
                }
                OpaRule::CallProcedure => match needed_to_call(&function.function_name, self.authority.is_restricted()) {
                    Some(privileges) => privileges.iter().all(|privilege| self.has_on_all(catalog, *privilege)),
                    None => self.otherwise(),
                },
                _ => self.otherwise(),
            });
        }
        if rule == OpaRule::NewFunction {
            let namespace = namespace_of(&function.schema_name);
            return self.may_in(catalog, namespace, Required::privilege(Privilege::CreateFunction)).await;
        }
        let name = name_of(&function.schema_name, &function.function_name);
        let Some(name) = name else { return Ok(self.otherwise()) };
        let Some(name) = found(catalog.function_name(&name).await)? else { return Ok(self.otherwise()) };
        let key = name.namespace.key();
        let on = catalog.namespace_path(&key).function(&name.name);
        Ok(match rule {
            OpaRule::ListFunction => self.authority.sees(&on),
            OpaRule::CallFunction => self.has(on, Required::privilege(Privilege::ReadMetadata)),
            OpaRule::Function(required) => self.has(on, required),
            _ => self.otherwise(),
        })
    }
}

impl NamedTabular {
    /// Checks that a read could reveal rows or values that a row filter or a mask hides.
    ///
    /// Hidden columns such as `$path` and `$partition` have values of columns by which the table is partitioned.
    pub(super) fn reveals(&self, columns: &[String]) -> bool {
        match self.metadata.as_deref() {
            Some(kind) => !HARMLESS.contains(&kind),
            None => columns.iter().any(|column| column.starts_with('$')),
        }
    }
}

/// Finds a table or view, whoever may see it.
async fn find(catalog: &Catalog, schema: &str, name: &str) -> Result<Option<TabularRow>, ApiError> {
    let Some(name) = name_of(schema, name) else { return Ok(None) };
    match found(catalog.table(&name).await)? {
        Some(row) => Ok(Some(row)),
        None => found(catalog.view(&name).await),
    }
}

/// Returns the name of the catalog that a thing lies in, or that it is.
fn catalog_name(thing: &OpaResource) -> Option<&str> {
    let own = thing.catalog.as_ref().map(|catalog| catalog.name.as_str());
    own.or_else(|| thing.catalog_session_property.as_ref().map(|property| property.catalog_name.as_str()))
        .or_else(|| thing.schema.as_ref().map(|schema| schema.catalog_name.as_str()))
        .or_else(|| thing.table.as_ref().map(|table| table.catalog_name.as_str()))
        .or_else(|| thing.column.as_ref().map(|column| column.catalog_name.as_str()))
        .or_else(|| thing.function.as_ref().map(|function| function.catalog_name.as_str()))
}

/// Returns the name of the schema that a thing lies in, or that it is.
fn schema_name(thing: &OpaResource) -> Option<&str> {
    let own = thing.schema.as_ref().map(|schema| schema.schema_name.as_str());
    own.or_else(|| thing.table.as_ref().map(|table| table.schema_name.as_str()))
        .or_else(|| thing.column.as_ref().map(|column| column.schema_name.as_str()))
        .or_else(|| thing.function.as_ref().map(|function| function.schema_name.as_str()))
}
