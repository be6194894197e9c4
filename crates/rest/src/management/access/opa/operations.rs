//! The operations of Trino's access control, and the rule that decides on each.
//!
//! The names are those of `OpaAccessControl` in Trino's source. An operation that is not here is refused, and logged. Start
//! reading at [`OPERATIONS`].

use esker_access::{Privilege, PrivilegeSet, Required};
use serde_json::Value;

/// The rule that decides on an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpaRule {
    /// Everybody may do it.
    Everybody,
    /// Nobody may do it: Esker's catalogs have no such thing.
    Nobody,
    /// Privileges on the server.
    Server(Required),
    /// Everybody about themselves; about others with a privilege on the server.
    Oneself(Privilege),
    /// To use the catalog. Lists in it are filtered entry by entry.
    UseCatalog,
    /// To see the catalog in a list.
    ListCatalog,
    /// Privileges on a schema that exists.
    Schema(Required),
    /// To see the schema in a list.
    ListSchema,
    /// To create a schema.
    NewSchema,
    /// Privileges on a table or view that exists.
    Tabular(Required),
    /// To see the table or view in a list.
    ListTabular,
    /// To see the columns of the table or view in a list.
    ListColumns,
    /// To read columns of a table or view; the privileges are needed beside `READ_DATA`.
    Select(PrivilegeSet),
    /// Privileges on a table, which no caller may change that is restricted on it.
    Change(Required),
    /// To create a table or view.
    New(NewTabular),
    /// To rename a table or view.
    Rename(NewTabular),
    /// To set properties of a table.
    SetProperties,
    /// To run a procedure on a table.
    TableProcedure,
    /// To call a procedure of a catalog.
    CallProcedure,
    /// To call a function of a catalog.
    CallFunction,
    /// To see the function in a list.
    ListFunction,
    /// To create a function.
    NewFunction,
    /// Privileges on a function that exists.
    Function(Required),
}

/// The kind of a new table or view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NewTabular {
    /// A table.
    Table,
    /// A view.
    View,
}

impl NewTabular {
    /// Returns the privilege that is needed on the namespace.
    pub(super) const fn privilege(self) -> Privilege {
        match self {
            Self::Table => Privilege::CreateTable,
            Self::View => Privilege::CreateView,
        }
    }
}

impl OpaRule {
    /// Checks that the rule is about reading or listing, which everybody may do in Trino's own catalogs and schemas: their
    /// content is filtered by other operations.
    pub(super) const fn only_reads(self) -> bool {
        matches!(
            self,
            Self::UseCatalog
                | Self::ListCatalog
                | Self::ListSchema
                | Self::ListTabular
                | Self::ListColumns
                | Self::ListFunction
                | Self::Select(_)
                | Self::Tabular(READ_METADATA)
                | Self::Schema(READ_METADATA)
        )
    }
}

const READ_METADATA: Required = Required::privilege(Privilege::ReadMetadata);
const ALTER_SCHEMA: OpaRule = OpaRule::Tabular(Required::privilege(Privilege::AlterSchema));
const SET_PROPERTIES: OpaRule = OpaRule::Tabular(Required::privilege(Privilege::SetProperties));
const DROP: Required = Required::privilege(Privilege::Drop);
const MANAGE_SERVER: OpaRule = OpaRule::Server(Required::privilege(Privilege::ManageServer));
const CHANGE: OpaRule = OpaRule::Change(Required::all(PrivilegeSet::of(&[Privilege::ReadData, Privilege::Modify])));
const INSERT: OpaRule = OpaRule::Tabular(Required::all(PrivilegeSet::of(&[Privilege::ReadMetadata, Privilege::Append])));

/// To hand rows on to readers of a view, under the rights of its owner.
const SELECT_AND_GRANT: OpaRule = OpaRule::Select(PrivilegeSet::of(&[Privilege::ManageGrants]));

/// The operations with their rules.
pub(super) const OPERATIONS: &[(&str, OpaRule)] = &[
    ("ExecuteQuery", OpaRule::Everybody),
    ("SetSystemSessionProperty", OpaRule::Everybody),
    ("ImpersonateUser", OpaRule::Oneself(Privilege::ManageAccess)),
    ("ViewQueryOwnedBy", OpaRule::Oneself(Privilege::Monitor)),
    ("FilterViewQueryOwnedBy", OpaRule::Oneself(Privilege::Monitor)),
    ("KillQueryOwnedBy", OpaRule::Oneself(Privilege::ManageServer)),
    ("ReadSystemInformation", OpaRule::Server(Required::privilege(Privilege::Monitor))),
    ("WriteSystemInformation", MANAGE_SERVER),
    ("CreateCatalog", MANAGE_SERVER),
    ("DropCatalog", MANAGE_SERVER),
    ("AccessCatalog", OpaRule::UseCatalog),
    ("SetCatalogSessionProperty", OpaRule::UseCatalog),
    ("FilterCatalogs", OpaRule::ListCatalog),
    ("ShowSchemas", OpaRule::UseCatalog),
    ("ShowTables", OpaRule::UseCatalog),
    ("ShowFunctions", OpaRule::UseCatalog),
    ("FilterSchemas", OpaRule::ListSchema),
    ("ShowCreateSchema", OpaRule::Schema(READ_METADATA)),
    ("CreateSchema", OpaRule::NewSchema),
    ("DropSchema", OpaRule::Schema(DROP)),
    ("RenameSchema", OpaRule::Nobody),
    ("SetSchemaAuthorization", OpaRule::Nobody),
    ("FilterTables", OpaRule::ListTabular),
    ("ShowColumns", OpaRule::Tabular(READ_METADATA)),
    ("FilterColumns", OpaRule::ListColumns),
    ("ShowCreateTable", OpaRule::Tabular(READ_METADATA)),
    ("SelectFromColumns", OpaRule::Select(PrivilegeSet::EMPTY)),
    ("CreateViewWithSelectFromColumns", SELECT_AND_GRANT),
    ("InsertIntoTable", INSERT),
    ("DeleteFromTable", CHANGE),
    ("UpdateTableColumns", CHANGE),
    ("TruncateTable", CHANGE),
    ("CreateTable", OpaRule::New(NewTabular::Table)),
    ("DropTable", OpaRule::Tabular(DROP)),
    ("RenameTable", OpaRule::Rename(NewTabular::Table)),
    ("SetTableProperties", OpaRule::SetProperties),
    ("SetTableComment", SET_PROPERTIES),
    ("SetColumnComment", ALTER_SCHEMA),
    ("AddColumn", ALTER_SCHEMA),
    ("AlterColumn", ALTER_SCHEMA),
    ("DropColumn", ALTER_SCHEMA),
    ("RenameColumn", ALTER_SCHEMA),
    ("SetTableAuthorization", OpaRule::Nobody),
    ("ExecuteTableProcedure", OpaRule::TableProcedure),
    ("CreateView", OpaRule::New(NewTabular::View)),
    ("DropView", OpaRule::Tabular(DROP)),
    ("RenameView", OpaRule::Rename(NewTabular::View)),
    ("SetViewComment", SET_PROPERTIES),
    ("SetViewAuthorization", OpaRule::Nobody),
    ("CreateMaterializedView", OpaRule::Nobody),
    ("RefreshMaterializedView", OpaRule::Nobody),
    ("SetMaterializedViewProperties", OpaRule::Nobody),
    ("SetMaterializedViewComment", OpaRule::Nobody),
    ("DropMaterializedView", OpaRule::Nobody),
    ("RenameMaterializedView", OpaRule::Nobody),
    ("FilterFunctions", OpaRule::ListFunction),
    ("ExecuteFunction", OpaRule::CallFunction),
    ("CreateViewWithExecuteFunction", OpaRule::CallFunction),
    ("ExecuteProcedure", OpaRule::CallProcedure),
    ("CreateFunction", OpaRule::NewFunction),
    ("DropFunction", OpaRule::Function(DROP)),
    ("ShowCreateFunction", OpaRule::Function(READ_METADATA)),
];

/// Returns an operation by its name, with its rule.
pub(super) fn operation(name: &str) -> Option<(&'static str, OpaRule)> {
    OPERATIONS.iter().find(|(known, _)| *known == name).copied()
}

/// Returns the privileges that the properties of a table need when they are set, by Trino's names of them.
///
/// `extra_properties` can hold any property of Iceberg.
pub(super) fn needed_for(property: &str) -> PrivilegeSet {
    match property {
        "partitioning" | "sorted_by" => Privilege::AlterSchema.into(),
        "format_version" => Privilege::Upgrade.into(),
        "location" | "data_location" | "object_store_layout_enabled" => Privilege::SetLocation.into(),
        "extra_properties" => PrivilegeSet::of(&[Privilege::SetProperties, Privilege::SetProtected, Privilege::SetLocation]),
        "delete_after_commit_enabled" | "max_previous_versions" => Privilege::SetProtected.into(),
        _ => Privilege::SetProperties.into(),
    }
}

/// Returns the privileges that a property of a new table needs beside the privilege to create it.
///
/// Trino sends the defaults of all properties, so only those count that have none.
pub(super) fn needed_to_create_with(property: &str, value: &Value) -> PrivilegeSet {
    match property {
        "location" | "data_location" if value.is_string() => Privilege::ChooseLocation.into(),
        "extra_properties" if value.as_object().is_some_and(|given| !given.is_empty()) => {
            PrivilegeSet::of(&[Privilege::ChooseLocation, Privilege::SetProtected])
        }
        _ => PrivilegeSet::EMPTY,
    }
}

/// Returns the privileges that a procedure of a table needs; `None` if it is not known.
pub(super) fn needed_by(procedure: &str) -> Option<Required> {
    const STATISTICS: PrivilegeSet = PrivilegeSet::of(&[Privilege::Modify, Privilege::Rewrite, Privilege::Maintain]);
    let rewrite = PrivilegeSet::of(&[Privilege::ReadData, Privilege::Rewrite]);
    let copy = PrivilegeSet::of(&[Privilege::Append, Privilege::Modify, Privilege::SetLocation]);
    Some(match procedure.to_ascii_lowercase().as_str() {
        "optimize" | "optimize_manifests" => Required::all(rewrite),
        "expire_snapshots" => Required::privilege(Privilege::Expire),
        "remove_orphan_files" => Required::privilege(Privilege::Maintain),
        "drop_extended_stats" => Required::any_of(STATISTICS),
        "rollback_to_snapshot" => Required::privilege(Privilege::ManageRefs),
        "add_files" | "add_files_from_table" => Required::all(copy),
        _ => return None,
    })
}

/// Returns the privileges on the warehouse that a procedure of the schema `system` needs; `None` if it is not known.
///
/// Trino does not say which table a procedure is called for. So whoever is `restricted` on any table needs what unregistering that
/// one needs.
pub(super) fn needed_to_call(procedure: &str, restricted: bool) -> Option<&'static [Privilege]> {
    let needed: &'static [Privilege] = match procedure.to_ascii_lowercase().as_str() {
        "register_table" | "migrate" | "add_files" | "add_files_from_table" => &[Privilege::Register],
        "unregister_table" if restricted => &[Privilege::Drop, Privilege::ReadMetadata, Privilege::ManageRestrictions],
        "unregister_table" => &[Privilege::Drop, Privilege::ReadMetadata],
        "rollback_to_snapshot" => &[Privilege::ManageRefs],
        _ => return None,
    };
    Some(needed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_has_one_rule() {
        let names: BTreeSet<&str> = OPERATIONS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), OPERATIONS.len());
        assert_eq!(operation("SelectFromColumns"), Some(("SelectFromColumns", OpaRule::Select(PrivilegeSet::EMPTY))));
        assert_eq!(operation("selectFromColumns"), None);
    }

    #[test]
    fn nothing_that_changes_a_thing_only_reads() {
        let reading: Vec<&str> = OPERATIONS.iter().filter(|(_, rule)| rule.only_reads()).map(|(name, _)| *name).collect();
        let changes = ["Create", "Drop", "Rename", "Set", "Insert", "Update", "Delete", "Truncate", "Add", "Alter", "Refresh"];
        let wrong = |name: &&&str| changes.iter().any(|change| name.starts_with(change));
        let allowed = ["CreateViewWithSelectFromColumns", "SetCatalogSessionProperty"];
        assert!(reading.iter().filter(wrong).all(|name| allowed.contains(name)), "{reading:?}");
        assert!(reading.contains(&"SelectFromColumns") && reading.contains(&"FilterCatalogs"));
    }
}
