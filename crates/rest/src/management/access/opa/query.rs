//! The questions of Trino's access control plugin for Open Policy Agent, and the answers.
//!
//! Fields that are not needed here are ignored, because each version of Trino may send more. Start reading at [`OpaQuery`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A question, as Trino's plugin sends it.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct OpaQuery {
    /// The question.
    pub(super) input: OpaInput,
}

/// The user of a question, and what the user wants to do.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct OpaInput {
    /// The user and the query.
    pub(super) context: OpaContext,
    /// The operation on things.
    pub(super) action: OpaAction,
}

/// The user and the query that a question is about.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OpaContext {
    /// The user.
    pub(super) identity: OpaIdentity,
    /// The id of the query. Versions of Trino before 477 send none.
    pub(super) query_id: Option<String>,
}

/// A user of Trino.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct OpaIdentity {
    /// The name of the user.
    pub(super) user: String,
    /// The groups that Trino knows of the user.
    #[serde(default)]
    pub(super) groups: Vec<String>,
}

/// An operation on things.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OpaAction {
    /// The name of the operation, such as `SelectFromColumns`.
    pub(super) operation: String,
    /// The thing that the operation is about.
    pub(super) resource: Option<OpaResource>,
    /// The new thing of a rename.
    pub(super) target_resource: Option<OpaResource>,
    /// The things of which a list is to be filtered.
    #[serde(default)]
    pub(super) filter_resources: Vec<OpaResource>,
}

/// A thing of Trino. One of its fields is set, or a table and a function.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OpaResource {
    /// A user.
    pub(super) user: Option<OpaUser>,
    /// A catalog.
    pub(super) catalog: Option<OpaName>,
    /// A property of a session that a catalog has.
    pub(super) catalog_session_property: Option<OpaCatalogProperty>,
    /// A schema.
    pub(super) schema: Option<OpaSchema>,
    /// A table or view.
    pub(super) table: Option<OpaTable>,
    /// A column.
    pub(super) column: Option<OpaColumn>,
    /// A function or procedure.
    pub(super) function: Option<OpaFunction>,
}

/// A user that a question is about.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct OpaUser {
    /// The name of the user.
    pub(super) user: String,
}

/// The name of a catalog.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct OpaName {
    /// The name.
    pub(super) name: String,
}

/// A property of a session.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OpaCatalogProperty {
    /// The name of the catalog.
    pub(super) catalog_name: String,
}

/// A schema.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OpaSchema {
    /// The name of the catalog.
    pub(super) catalog_name: String,
    /// The name of the schema. Levels are separated by dots.
    pub(super) schema_name: String,
    /// The properties of a new schema.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(super) properties: BTreeMap<String, Value>,
}

/// A table or view.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OpaTable {
    /// The name of the catalog.
    pub(super) catalog_name: String,
    /// The name of the schema. Levels are separated by dots.
    pub(super) schema_name: String,
    /// The name of the table or view. A metadata table has a dollar sign in its name.
    pub(super) table_name: String,
    /// The columns that the operation is about.
    #[serde(default)]
    pub(super) columns: Vec<String>,
    /// The properties that are set.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(super) properties: BTreeMap<String, Value>,
}

/// A column.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OpaColumn {
    /// The name of the catalog.
    pub(super) catalog_name: String,
    /// The name of the schema. Levels are separated by dots.
    pub(super) schema_name: String,
    /// The name of the table.
    pub(super) table_name: String,
    /// The name of the column.
    pub(super) column_name: String,
}

/// A function or procedure. A procedure of a table has a name alone.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OpaFunction {
    /// The name of the catalog.
    #[serde(default)]
    pub(super) catalog_name: String,
    /// The name of the schema. Levels are separated by dots.
    #[serde(default)]
    pub(super) schema_name: String,
    /// The name of the function.
    pub(super) function_name: String,
}

/// The answer to a question.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct OpaDecision {
    /// True if the user may do it.
    pub(super) result: bool,
}

/// The answer to a question about several things.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct OpaIndices {
    /// The indices of the things that the user may see.
    pub(super) result: Vec<usize>,
}

/// An expression in Trino's SQL.
#[derive(Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub(crate) struct OpaExpression {
    /// The expression.
    pub(super) expression: String,
}

/// The row filters of a user on a table. All of them apply.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct OpaRowFilters {
    /// The filters: none, or one.
    pub(super) result: Vec<OpaExpression>,
}

/// The mask of a column.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct OpaColumnMask {
    /// The mask. It is missing if the user sees the values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<OpaExpression>,
}

/// The mask of one of several columns.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OpaIndexedMask {
    /// The index of the column in the question.
    pub(super) index: usize,
    /// The mask.
    pub(super) view_expression: OpaExpression,
}

/// The masks of several columns.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct OpaColumnMasks {
    /// The masks. Columns whose values the user sees have none.
    pub(super) result: Vec<OpaIndexedMask>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn questions_of_every_version_are_read() {
        let context = json!({"identity": {"user": "ann", "principal": "ann", "groups": ["a"], "enabledRoles": []},
            "softwareStack": {"trinoVersion": "476"}, "properties": {}, "queryId": "20260101_000000_00001_abcde"});
        let table = json!({"catalogName": "lake", "schemaName": "a.b", "tableName": "t", "properties": {"location": null}});
        let action = json!({"operation": "ExecuteTableProcedure",
            "resource": {"table": table, "function": {"functionName": "OPTIMIZE"}, "security": "INVOKER"}});
        let query: OpaQuery = serde_json::from_value(json!({"input": {"context": context, "action": action}})).expect("read");
        let resource = query.input.action.resource.expect("a resource");
        assert_eq!(resource.function.expect("a procedure").function_name, "OPTIMIZE");
        assert!(resource.table.expect("a table").properties["location"].is_null());
        let simple = json!({"input": {"context": {"identity": {"user": "ann"}}, "action": {"operation": "ExecuteQuery"}}});
        let query: OpaQuery = serde_json::from_value(simple).expect("read");
        assert!(query.input.context.query_id.is_none() && query.input.action.resource.is_none());
    }
}
