//! The answer to `CommandGetSqlInfo`: the properties of the server.
//!
//! A client that asks for a code that is missing may fail on it, so the list is long.
//!
//! Spec: Arrow Flight SQL, "SqlInfo".

use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{SqlInfo, SqlNullOrdering, SqlSupportedCaseSensitivity, SqlSupportedTransaction};
use serde::Serialize;
use tonic::Status;

use crate::error::internal;

/// The value of a code.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub(crate) enum InfoValue {
    /// A text.
    Text(&'static str),
    /// True or false.
    Flag(bool),
    /// A number, a value of an enumeration, or a set of bits, by the code.
    Number(i32),
    /// A list of texts.
    Texts(&'static [&'static str]),
}

/// Encodes the values for clients.
///
/// # Errors
///
/// Returns the status `INTERNAL` if the values can't be encoded.
pub(crate) fn sql_info() -> Result<SqlInfoData, Status> {
    let mut info = SqlInfoDataBuilder::new();
    for (code, value) in values() {
        match value {
            InfoValue::Text(text) => info.append(code, text),
            InfoValue::Flag(flag) => info.append(code, flag),
            InfoValue::Number(number) => info.append(code, number),
            InfoValue::Texts(texts) => info.append(code, texts),
        }
    }
    info.build().map_err(internal)
}

/// Returns the value of every code that clients may ask for.
pub(crate) fn values() -> Vec<(SqlInfo, InfoValue)> {
    let mut values = Vec::new();
    for (code, text) in [
        (SqlInfo::FlightSqlServerName, "Esker"),
        (SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION")),
        (SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION),
        (SqlInfo::SqlIdentifierQuoteChar, "\""),
        (SqlInfo::SqlSearchStringEscape, "\\"),
        (SqlInfo::SqlExtraNameCharacters, ""),
        (SqlInfo::SqlSchemaTerm, "namespace"),
        (SqlInfo::SqlCatalogTerm, "warehouse"),
        (SqlInfo::SqlProcedureTerm, "procedure"),
    ] {
        values.push((code, InfoValue::Text(text)));
    }
    for (code, yes) in [
        (SqlInfo::FlightSqlServerReadOnly, false),
        (SqlInfo::FlightSqlServerSql, true),
        (SqlInfo::FlightSqlServerSubstrait, false),
        (SqlInfo::FlightSqlServerCancel, false),
        (SqlInfo::FlightSqlServerBulkIngestion, false),
        (SqlInfo::FlightSqlServerIngestTransactionsSupported, false),
        (SqlInfo::SqlDdlCatalog, false),
        (SqlInfo::SqlDdlSchema, false),
        (SqlInfo::SqlDdlTable, false),
        (SqlInfo::SqlAllTablesAreSelectable, true),
        (SqlInfo::SqlSupportsColumnAliasing, true),
        (SqlInfo::SqlNullPlusNullIsNull, true),
        (SqlInfo::SqlSupportsTableCorrelationNames, true),
        (SqlInfo::SqlSupportsDifferentTableCorrelationNames, false),
        (SqlInfo::SqlSupportsExpressionsInOrderBy, true),
        (SqlInfo::SqlSupportsOrderByUnrelated, true),
        (SqlInfo::SqlSupportsLikeEscapeClause, true),
        (SqlInfo::SqlSupportsNonNullableColumns, true),
        (SqlInfo::SqlSelectForUpdateSupported, false),
        (SqlInfo::SqlStoredProceduresSupported, false),
        (SqlInfo::SqlCorrelatedSubqueriesSupported, true),
        (SqlInfo::SqlTransactionsSupported, false),
        (SqlInfo::SqlDataDefinitionCausesTransactionCommit, false),
        (SqlInfo::SqlDataDefinitionsInTransactionsIgnored, false),
        (SqlInfo::SqlBatchUpdatesSupported, false),
        (SqlInfo::SqlSavepointsSupported, false),
        (SqlInfo::SqlNamedParametersSupported, false),
        (SqlInfo::SqlCatalogAtStart, true),
    ] {
        values.push((code, InfoValue::Flag(yes)));
    }
    for (code, number) in [
        (SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32),
        (SqlInfo::FlightSqlServerStatementTimeout, 0),
        (SqlInfo::FlightSqlServerTransactionTimeout, 0),
        (SqlInfo::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32),
        (SqlInfo::SqlQuotedIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i32),
        (SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32),
        (SqlInfo::SqlDefaultTransactionIsolation, 0),
        (SqlInfo::SqlSupportedTransactionsIsolationLevels, 0),
    ] {
        values.push((code, InfoValue::Number(number)));
    }
    let lists: [(SqlInfo, &'static [&'static str]); 5] = [
        (SqlInfo::SqlKeywords, &["SNAPSHOT", "VERSION", "EXPLAIN", "ANALYZE"]),
        (SqlInfo::SqlNumericFunctions, &["abs", "ceil", "floor", "round", "sqrt", "power", "ln", "log"]),
        (SqlInfo::SqlStringFunctions, &["lower", "upper", "substr", "trim", "concat", "length", "replace"]),
        (SqlInfo::SqlSystemFunctions, &["arrow_typeof", "coalesce", "nullif"]),
        (SqlInfo::SqlDatetimeFunctions, &["date_trunc", "date_part", "now", "to_timestamp"]),
    ];
    values.extend(lists.map(|(code, texts)| (code, InfoValue::Texts(texts))));
    values
}
