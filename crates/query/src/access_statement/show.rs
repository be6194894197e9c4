//! The results of `SHOW GRANTS`, `SHOW GRANTS OF ROLE` and `SHOW ROLES`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use esker_access::{Member, RESERVED_ROLES};
use esker_catalog::NamedSecurable;
use esker_state::{StoredGrant, StoredMember, StoredRole};
use serde_json::{Value, json};

use crate::Result;
use crate::rows::{batch, column, time};

/// Returns columns of text.
fn texts<const N: usize>(names: [&str; N]) -> Vec<Field> {
    names.map(|name| column(name, DataType::Utf8)).to_vec()
}

/// Returns the columns of `SHOW GRANTS`. It has a row for each privilege of each grant.
pub(super) fn grant_columns() -> Vec<Field> {
    let mut columns =
        texts(["privilege", "on_kind", "on_name", "future", "to_kind", "to_name", "grant_id", "copied_from", "granted_by"]);
    columns.push(column("granted_at", time()));
    columns
}

/// Returns the columns of `SHOW GRANTS OF ROLE`. It has a row for each direct member.
pub(super) fn member_columns() -> Vec<Field> {
    let mut columns = texts(["role", "member_kind", "member_name", "granted_by"]);
    columns.push(column("granted_at", time()));
    columns
}

/// Returns the columns of `SHOW ROLES`.
pub(super) fn role_columns() -> Vec<Field> {
    let mut columns = texts(["role", "created_by"]);
    columns.push(column("created_at", time()));
    columns.push(column("reserved", DataType::Boolean));
    columns
}

/// Returns the schema with these columns.
pub(super) fn schema(columns: Vec<Field>) -> SchemaRef {
    Arc::new(Schema::new(columns))
}

/// Builds the batch of a result, which may have no rows.
fn built(columns: Vec<Field>, rows: &[Value]) -> Result<RecordBatch> {
    let schema = schema(columns.clone());
    Ok(batch(columns, rows)?.unwrap_or_else(|| RecordBatch::new_empty(schema)))
}

/// Returns the kind and the name of a member, as statements write them.
fn shown(member: &Member) -> (&'static str, String) {
    match member.columns() {
        (kind, "", name) => (kind, name.to_owned()),
        (kind, issuer, name) => (kind, format!("{name}@{issuer}")),
    }
}

/// Builds the result of `SHOW GRANTS`. Each grant comes with its thing, if that is still there.
pub(super) fn grants(all: &[(StoredGrant, Option<NamedSecurable>)]) -> Result<RecordBatch> {
    let mut rows = Vec::new();
    for (stored, thing) in all {
        let (to_kind, to_name) = shown(&stored.row.to);
        for privilege in stored.row.privileges.iter() {
            rows.push(json!({
                "privilege": privilege.as_str(), "on_kind": stored.row.on.kind().as_str(),
                "on_name": thing.as_ref().map(NamedSecurable::dotted), "future": stored.row.future.map(|kind| kind.as_str()),
                "to_kind": to_kind, "to_name": to_name, "grant_id": stored.row.id, "copied_from": stored.copied_from,
                "granted_by": stored.created_by, "granted_at": stored.created_ms,
            }));
        }
    }
    built(grant_columns(), &rows)
}

/// Builds the result of `SHOW GRANTS OF ROLE`.
pub(super) fn members(all: &[StoredMember]) -> Result<RecordBatch> {
    let row = |stored: &StoredMember| {
        let (kind, name) = shown(&stored.row.member);
        json!({
            "role": stored.row.role, "member_kind": kind, "member_name": name, "granted_by": stored.created_by,
            "granted_at": stored.created_ms,
        })
    };
    built(member_columns(), &all.iter().map(row).collect::<Vec<_>>())
}

/// Builds the result of `SHOW ROLES`: the roles that always exist, then the others.
pub(super) fn roles(created: &[StoredRole]) -> Result<RecordBatch> {
    let reserved = RESERVED_ROLES.iter().map(|name| json!({"role": name, "reserved": true}));
    let row = |role: &StoredRole| json!({"role": role.name, "created_by": role.created_by, "created_at": role.created_ms, "reserved": false});
    built(role_columns(), &reserved.chain(created.iter().map(row)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_without_rows_has_its_columns() {
        for (made, columns) in [(grants(&[]), grant_columns()), (members(&[]), member_columns())] {
            let made = made.expect("a batch");
            assert_eq!((made.num_rows(), made.schema()), (0, schema(columns)));
        }
        assert_eq!(roles(&[]).expect("a batch").num_rows(), RESERVED_ROLES.len());
    }

    #[test]
    fn a_member_is_shown_as_a_statement_names_it() {
        let ann = Member::User { issuer: "https://id".into(), name: "ann@x".into() };
        assert_eq!(shown(&ann), ("user", "ann@x@https://id".to_owned()));
        assert_eq!(shown(&Member::role("readers")), ("role", "readers".to_owned()));
    }
}
