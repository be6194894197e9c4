//! Row filters and column masks.
//!
//! One that this release can't read is an error: a table that lost a filter would show rows.

use esker_access::{ColumnMaskRow, FilterExpr, MaskAction, Member, RowFilterRow};
use esker_types::{Millis, TableId, now_ms};
use sqlx::any::AnyRow;
use sqlx::{Any, AnyConnection, Row, Transaction};

use super::columns::member_of;
use crate::{Result, StateError, parse_id};

/// A row filter with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRowFilter {
    /// The filter.
    pub row: RowFilterRow,
    /// The principal that added the filter.
    pub created_by: String,
    /// The time at which the filter was added, in milliseconds since the Unix epoch.
    pub created_ms: Millis,
}

/// A column mask with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredColumnMask {
    /// The mask.
    pub row: ColumnMaskRow,
    /// The principal that set the mask.
    pub created_by: String,
    /// The time at which the mask was set, in milliseconds since the Unix epoch.
    pub created_ms: Millis,
}

/// Selects all row filters, by id.
pub(super) async fn select_filters(connection: &mut AnyConnection) -> Result<Vec<StoredRowFilter>> {
    let sql = "SELECT id, table_id, member_kind, member_issuer, member_name, filter, created_by, created_ms
               FROM access_row_filter ORDER BY id";
    sqlx::query(sql).fetch_all(connection).await?.iter().map(filter_of).collect()
}

/// Selects all column masks, by table and field.
pub(super) async fn select_masks(connection: &mut AnyConnection) -> Result<Vec<StoredColumnMask>> {
    let sql = "SELECT table_id, field_id, action, exempt, created_by, created_ms FROM access_column_mask
               ORDER BY table_id, field_id";
    sqlx::query(sql).fetch_all(connection).await?.iter().map(mask_of).collect()
}

/// Reads a row filter from the columns that [`select_filters`] selects.
fn filter_of(row: &AnyRow) -> Result<StoredRowFilter> {
    let id: String = row.try_get(0)?;
    let corrupt = |what: String| StateError::Corrupt(format!("the row filter {id} can't be read: {what}"));
    let to = member_of(row, 2)?.ok_or_else(|| corrupt("it is to a member of a kind that is not known".to_owned()))?;
    let filter: FilterExpr = serde_json::from_str(row.try_get(5)?).map_err(|e| corrupt(e.to_string()))?;
    let (created_by, created_ms) = (row.try_get(6)?, row.try_get(7)?);
    Ok(StoredRowFilter { row: RowFilterRow { table: parse_id(row.try_get(1)?)?, to, filter, id }, created_by, created_ms })
}

/// Reads a column mask from the columns that [`select_masks`] selects.
///
/// Members of a kind that is not known are left out: the mask applies to them.
fn mask_of(row: &AnyRow) -> Result<StoredColumnMask> {
    let (table, field): (TableId, i64) = (parse_id(row.try_get(0)?)?, row.try_get(1)?);
    let corrupt =
        |what: String| StateError::Corrupt(format!("the mask on the field {field} of the table {table} can't be read: {what}"));
    let field_id = i32::try_from(field).map_err(|e| corrupt(e.to_string()))?;
    let action = row.try_get::<&str, _>(2)?.parse::<MaskAction>().map_err(|e| corrupt(e.to_string()))?;
    let exempt: Vec<serde_json::Value> = serde_json::from_str(row.try_get(3)?).map_err(|e| corrupt(e.to_string()))?;
    let except = exempt.into_iter().filter_map(|member| serde_json::from_value::<Member>(member).ok()).collect();
    let mask = ColumnMaskRow { table, field_id, action, except };
    Ok(StoredColumnMask { row: mask, created_by: row.try_get(4)?, created_ms: row.try_get(5)? })
}

/// Adds a row filter, or replaces the one with its id.
pub(super) async fn set_filter(tx: &mut Transaction<'_, Any>, row: &RowFilterRow, by: &str) -> Result<()> {
    let (kind, issuer, name) = row.to.columns();
    let insert = sqlx::query(
        "INSERT INTO access_row_filter (id, table_id, member_kind, member_issuer, member_name, filter, created_by, created_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (id) DO UPDATE SET member_kind = $3, member_issuer = $4, member_name = $5, filter = $6, created_by = $7,
                                        created_ms = $8",
    );
    let insert = insert.bind(&row.id).bind(row.table.to_string()).bind(kind).bind(issuer).bind(name);
    insert.bind(row.filter.to_json().to_string()).bind(by).bind(now_ms()).execute(&mut **tx).await?;
    Ok(())
}

/// Removes a row filter.
pub(super) async fn remove_filter(tx: &mut Transaction<'_, Any>, table: TableId, id: &str) -> Result<()> {
    let delete = sqlx::query("DELETE FROM access_row_filter WHERE table_id = $1 AND id = $2");
    delete.bind(table.to_string()).bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// Sets a column mask in the place of another one of its field.
pub(super) async fn set_mask(tx: &mut Transaction<'_, Any>, row: &ColumnMaskRow, by: &str) -> Result<()> {
    let exempt = serde_json::to_string(&row.except).map_err(|e| StateError::Corrupt(e.to_string()))?;
    let insert = sqlx::query(
        "INSERT INTO access_column_mask (table_id, field_id, action, exempt, created_by, created_ms)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (table_id, field_id) DO UPDATE SET action = $3, exempt = $4, created_by = $5, created_ms = $6",
    );
    let insert = insert.bind(row.table.to_string()).bind(i64::from(row.field_id)).bind(row.action.as_str());
    insert.bind(exempt).bind(by).bind(now_ms()).execute(&mut **tx).await?;
    Ok(())
}

/// Removes a column mask.
pub(super) async fn remove_mask(tx: &mut Transaction<'_, Any>, table: TableId, field_id: i32) -> Result<()> {
    let delete = sqlx::query("DELETE FROM access_column_mask WHERE table_id = $1 AND field_id = $2");
    delete.bind(table.to_string()).bind(i64::from(field_id)).execute(&mut **tx).await?;
    Ok(())
}
