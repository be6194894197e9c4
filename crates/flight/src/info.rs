//! The answer to `CommandGetSqlInfo`: the properties of the server.
//!
//! A client that asks for a code that is missing may fail on it, so the list is long.
//!
//! Spec: Arrow Flight SQL, "SqlInfo".

use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{SqlInfo, SqlNullOrdering, SqlSupportedCaseSensitivity, SqlSupportedTransaction};

use crate::error::internal;
use tonic::Status;

/// Returns the value of every code that clients may ask for.
///
/// # Errors
///
/// Returns the status `INTERNAL` if the values can't be encoded.
pub(crate) fn sql_info() -> Result<SqlInfoData, Status> {
    let mut info = SqlInfoDataBuilder::new();
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
        info.append(code, text);
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
    ] {
        info.append(code, yes);
    }
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(SqlInfo::FlightSqlServerStatementTimeout, 0_i32);
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0_i32);
    info.append(SqlInfo::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32);
    info.append(SqlInfo::SqlQuotedIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i32);
    info.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    info.append(SqlInfo::SqlCatalogAtStart, true);
    for code in [SqlInfo::SqlDefaultTransactionIsolation, SqlInfo::SqlSupportedTransactionsIsolationLevels] {
        info.append(code, 0_i32);
    }
    info.append(SqlInfo::SqlKeywords, &["SNAPSHOT", "VERSION", "EXPLAIN", "ANALYZE"][..]);
    info.append(SqlInfo::SqlNumericFunctions, &["abs", "ceil", "floor", "round", "sqrt", "power", "ln", "log"][..]);
    info.append(SqlInfo::SqlStringFunctions, &["lower", "upper", "substr", "trim", "concat", "length", "replace"][..]);
    info.append(SqlInfo::SqlSystemFunctions, &["arrow_typeof", "coalesce", "nullif"][..]);
    info.append(SqlInfo::SqlDatetimeFunctions, &["date_trunc", "date_part", "now", "to_timestamp"][..]);
    info.build().map_err(internal)
}
