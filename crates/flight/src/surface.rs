//! The contract of Flight SQL, `api/flight-sql.json`: every call of the protocol, whether it is served, and the server's `SqlInfo`.
//!
//! `tests/it/api.rs` makes each call: one that is served is answered, and any other gets the status `UNIMPLEMENTED`.
//!
//! Spec: Arrow Flight SQL, "RPC Methods".

use serde::Serialize;
use serde_json::{Value, json};

use crate::info;

/// A call of the protocol.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ProtocolCall {
    /// The method of the Flight service.
    rpc: &'static str,
    /// The message of Flight SQL that the call carries, if any.
    message: Option<&'static str>,
    /// True if the server answers the call.
    served: bool,
    /// Description of the call, in a sentence.
    description: &'static str,
}

/// Describes a call that carries a message.
const fn call(rpc: &'static str, message: &'static str, served: bool, description: &'static str) -> ProtocolCall {
    ProtocolCall { rpc, message: Some(message), served, description }
}

/// Describes a call without a message of Flight SQL.
const fn bare(rpc: &'static str, served: bool, description: &'static str) -> ProtocolCall {
    ProtocolCall { rpc, message: None, served, description }
}

/// Every call of the protocol.
const CALLS: [ProtocolCall; 44] = [
    call("GetFlightInfo", "CommandStatementQuery", true, "Plans a statement. Returns its schema and a ticket for its rows."),
    call("DoGet", "TicketStatementQuery", true, "Runs the statement of a ticket and streams its rows."),
    call(
        "DoPut",
        "CommandStatementUpdate",
        true,
        "Runs a statement that changes rows, grants or roles. Returns the number of rows.",
    ),
    call("DoAction", "ActionCreatePreparedStatementRequest", true, "Prepares a statement. The server keeps no state of it."),
    call(
        "DoAction",
        "ActionClosePreparedStatementRequest",
        true,
        "Does nothing: the handle of a prepared statement holds its state.",
    ),
    call("DoPut", "CommandPreparedStatementQuery", true, "Binds rows of parameters. Returns the handle that holds them."),
    call("GetFlightInfo", "CommandPreparedStatementQuery", true, "Plans a prepared statement with its parameters."),
    call("DoGet", "CommandPreparedStatementQuery", true, "Runs a prepared statement and streams its rows."),
    call(
        "DoPut",
        "CommandPreparedStatementUpdate",
        true,
        "Runs a prepared statement that changes rows, once for each row of parameters.",
    ),
    call("GetFlightInfo", "CommandGetCatalogs", true, "Returns the schema of the list of warehouses."),
    call("DoGet", "CommandGetCatalogs", true, "Lists the warehouses."),
    call("GetFlightInfo", "CommandGetDbSchemas", true, "Returns the schema of the list of namespaces."),
    call("DoGet", "CommandGetDbSchemas", true, "Lists the namespaces, levels joined by dots."),
    call("GetFlightInfo", "CommandGetTables", true, "Returns the schema of the list of tables."),
    call("DoGet", "CommandGetTables", true, "Lists the tables, with their columns if asked for."),
    call("GetFlightInfo", "CommandGetTableTypes", true, "Returns the schema of the list of table types."),
    call("DoGet", "CommandGetTableTypes", true, "Lists the types of tables: `TABLE`."),
    call("GetFlightInfo", "CommandGetSqlInfo", true, "Returns the schema of the server's properties."),
    call("DoGet", "CommandGetSqlInfo", true, "Lists the server's properties: see `sql-info`."),
    call("GetFlightInfo", "CommandGetPrimaryKeys", false, "Tables have no primary keys."),
    call("DoGet", "CommandGetPrimaryKeys", false, "Tables have no primary keys."),
    call("GetFlightInfo", "CommandGetExportedKeys", false, "Tables have no foreign keys."),
    call("DoGet", "CommandGetExportedKeys", false, "Tables have no foreign keys."),
    call("GetFlightInfo", "CommandGetImportedKeys", false, "Tables have no foreign keys."),
    call("DoGet", "CommandGetImportedKeys", false, "Tables have no foreign keys."),
    call("GetFlightInfo", "CommandGetCrossReference", false, "Tables have no foreign keys."),
    call("DoGet", "CommandGetCrossReference", false, "Tables have no foreign keys."),
    call("GetFlightInfo", "CommandGetXdbcTypeInfo", false, "The types are in docs/types.md."),
    call("DoGet", "CommandGetXdbcTypeInfo", false, "The types are in docs/types.md."),
    call("GetFlightInfo", "CommandStatementSubstraitPlan", false, "Statements are SQL only."),
    call("DoPut", "CommandStatementSubstraitPlan", false, "Statements are SQL only."),
    call("DoAction", "ActionCreatePreparedSubstraitPlanRequest", false, "Statements are SQL only."),
    call("DoPut", "CommandStatementIngest", false, "Rows are written by statements, or by engines through the catalog."),
    call("DoAction", "ActionBeginTransactionRequest", false, "Each statement is a transaction."),
    call("DoAction", "ActionEndTransactionRequest", false, "Each statement is a transaction."),
    call("DoAction", "ActionBeginSavepointRequest", false, "Each statement is a transaction."),
    call("DoAction", "ActionEndSavepointRequest", false, "Each statement is a transaction."),
    call("DoAction", "ActionCancelQueryRequest", false, "A query ends when its client goes away, or by the management API."),
    bare("ListActions", true, "Lists the actions of the protocol, also those that are not served."),
    bare("Handshake", true, "Returns the token that was sent as the password of Basic authentication, as a bearer token."),
    bare("ListFlights", false, "Tables are listed by CommandGetTables."),
    bare("PollFlightInfo", false, "GetFlightInfo answers as soon as the statement is planned."),
    bare("GetSchema", false, "GetFlightInfo returns the schema."),
    bare("DoExchange", false, "Flight SQL does not use it."),
];

/// Describes the surface of Flight SQL: calls, with those that are refused, and the value of each code of `SqlInfo`.
pub fn flight_surface() -> Value {
    let versions = ["FLIGHT_SQL_SERVER_VERSION", "FLIGHT_SQL_SERVER_ARROW_VERSION"];
    let info = |(code, value): (arrow_flight::sql::SqlInfo, info::InfoValue)| {
        let name = code.as_str_name();
        // The contract does not change with each release.
        let value = if versions.contains(&name) { Value::Null } else { json!(value) };
        json!({"name": name, "code": code as i32, "value": value})
    };
    json!({
        "title": "Flight SQL",
        "description": "The calls of Arrow Flight SQL. A call that is not served is answered with the status \
            UNIMPLEMENTED. `message` is the message of arrow.flight.protocol.sql that the call carries. `sql-info` has \
            the answers to CommandGetSqlInfo; a value of null depends on the release.",
        "authorization": "A bearer token in the header `authorization` of each call, or Basic authentication with the name of \
            the principal and the token.",
        "calls": CALLS.as_slice(),
        "sql-info": info::values().into_iter().map(info).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use arrow_flight::sql::Command;

    use super::*;

    #[test]
    fn the_file_in_api_is_what_the_code_says() {
        esker_types::schema::assert_contract_file("flight-sql.json", &flight_surface());
    }

    /// Returns the name of a message that a client sends; `None` for an answer. A message of a later version does not compile.
    fn sent(command: &Command) -> Option<&'static str> {
        macro_rules! names {
            ($($name:ident),*) => {
                match command {
                    $(Command::$name(_) => Some(stringify!($name)),)*
                    Command::ActionBeginSavepointResult(_)
                    | Command::ActionBeginTransactionResult(_)
                    | Command::ActionCancelQueryResult(_)
                    | Command::ActionCreatePreparedStatementResult(_)
                    | Command::DoPutPreparedStatementResult(_)
                    | Command::DoPutUpdateResult(_)
                    | Command::Unknown(_) => None,
                }
            };
        }
        names!(
            ActionBeginSavepointRequest,
            ActionBeginTransactionRequest,
            ActionCancelQueryRequest,
            ActionClosePreparedStatementRequest,
            ActionCreatePreparedStatementRequest,
            ActionCreatePreparedSubstraitPlanRequest,
            ActionEndSavepointRequest,
            ActionEndTransactionRequest,
            CommandGetCatalogs,
            CommandGetCrossReference,
            CommandGetDbSchemas,
            CommandGetExportedKeys,
            CommandGetImportedKeys,
            CommandGetPrimaryKeys,
            CommandGetSqlInfo,
            CommandGetTableTypes,
            CommandGetTables,
            CommandGetXdbcTypeInfo,
            CommandPreparedStatementQuery,
            CommandPreparedStatementUpdate,
            CommandStatementIngest,
            CommandStatementQuery,
            CommandStatementSubstraitPlan,
            CommandStatementUpdate,
            TicketStatementQuery
        )
    }

    #[test]
    fn every_message_of_the_protocol_is_listed() {
        let mut listed: Vec<&str> = CALLS.iter().filter_map(|call| call.message).collect();
        listed.sort_unstable();
        listed.dedup();
        assert_eq!(listed.len(), 25, "{listed:?}");
        for name in listed {
            let type_url = format!("type.googleapis.com/arrow.flight.protocol.sql.{name}");
            let any = arrow_flight::sql::Any { type_url, value: bytes::Bytes::new() };
            let command = Command::try_from(any).expect("a message");
            assert_eq!(sent(&command), Some(name));
        }
    }
}
