//! Row filters and column masks towards engines: what a caller that is restricted on a table gets of its files.
//!
//! Files have all rows and values. So a restricted caller gets no credentials, signatures or plans, and metadata without the
//! counts of rows. An engine that is a member of `esker:trusted-engine` gets the files, with `read-restrictions` that it applies
//! itself. Start reading at [`FileAccess::of`].
//!
//! Spec: REST `LoadTableResult`, `read-restrictions` (apache/iceberg #13879).

use std::collections::BTreeMap;

use bytes::Bytes;
use esker_access::{CompareOp, FilterExpr, Privilege, PrivilegeSet, Required, Restrictions};
use esker_catalog::{Authority, Catalog, LoadedTable};
use esker_format::{Schema, TableMetadata};
use esker_state::TabularRow;
use esker_types::ErrorCode;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use super::load::CredentialRights;
use crate::ApiError;

/// The beginning of the entries of a snapshot's summary that count the changes of one partition, and name it.
const CHANGED_PARTITION: &str = "partitions.";

/// The access of a caller to the files of a table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FileAccess {
    /// Nothing restricts the caller.
    Whole,
    /// The caller is a trusted engine, and applies these `read-restrictions`.
    Restricted(Value),
    /// The caller is restricted and no trusted engine: it gets no way to the files.
    Withheld {
        /// True if the caller may not write either. Writers need the counts in the metadata for those of their commits.
        hides_counts: bool,
    },
}

impl FileAccess {
    /// Returns the access to the files of a table.
    pub(crate) fn of(catalog: &Catalog, table: &LoadedTable, rights: &CredentialRights) -> Self {
        let (authority, is_trusted) = match rights {
            CredentialRights::Rules(authority) => (authority, authority.is_trusted_engine()),
            // Only trusted engines get the rights of a view's owner, and the owner's restrictions with them.
            CredentialRights::Definer(owner) => (owner, true),
            CredentialRights::Owner(_) | CredentialRights::Nothing => return Self::Whole,
        };
        match authority.restrictions(table.row.id) {
            None => Self::Whole,
            Some(restrictions) if is_trusted => Self::Restricted(read_restrictions(&restrictions, &table.metadata)),
            Some(_) => Self::Withheld { hides_counts: !writes(catalog, &table.row, authority) },
        }
    }

    /// Returns the value of the field `read-restrictions`.
    pub(crate) const fn restrictions(&self) -> Option<&Value> {
        match self {
            Self::Restricted(restrictions) => Some(restrictions),
            Self::Whole | Self::Withheld { .. } => None,
        }
    }

    /// Returns the text that tells apart answers with another access. Entity tags cover it.
    pub(crate) fn identity(&self) -> String {
        match self {
            Self::Whole => String::new(),
            Self::Restricted(restrictions) => restrictions.to_string(),
            Self::Withheld { hides_counts } => format!("withheld {hides_counts}"),
        }
    }
}

/// Checks that a caller may write rows of a table.
fn writes(catalog: &Catalog, row: &TabularRow, authority: &Authority) -> bool {
    const WRITE: PrivilegeSet = PrivilegeSet::of(&[Privilege::Append, Privilege::Modify, Privilege::Rewrite]);
    let key = row.name.namespace.key();
    authority.has(&catalog.tabular_path(&key, row), Required::any_of(WRITE))
}

/// Checks that a caller gets no way to the files of a table, because it is restricted on it and no trusted engine.
pub(crate) fn is_withheld(row: &TabularRow, rights: &CredentialRights) -> bool {
    let CredentialRights::Rules(authority) = rights else { return false };
    authority.restrictions(row.id).is_some() && !authority.is_trusted_engine()
}

/// Refuses a request for credentials, signatures or plans of a caller that gets no way to the files of a table.
///
/// # Errors
///
/// Returns [`ErrorCode::Forbidden`] with the ways out.
pub(crate) fn require_files(row: &TabularRow, rights: &CredentialRights) -> Result<(), ApiError> {
    if !is_withheld(row, rights) {
        return Ok(());
    }
    let what = format!(
        "table {} has row filters or column masks for the caller, and its files have all rows and values; read it by SQL \
         through Flight SQL, or with an engine that is a member of esker:trusted-engine",
        row.name
    );
    Err(ApiError::new(ErrorCode::Forbidden, what))
}

/// Prints restrictions for an engine.
///
/// Masks of fields that no schema has are left out. A filter is bound to the present schema, because a reader of an older
/// snapshot must not see more rows.
fn read_restrictions(restrictions: &Restrictions, metadata: &TableMetadata) -> Value {
    let exists = |id: &i32| metadata.schemas.iter().any(|schema| schema.field_by_id(*id).is_some());
    let masks = restrictions.masks.iter().filter(|(id, _)| exists(id));
    let projections: Vec<Value> = masks.map(|(id, action)| json!({"field-id": id, "action": action.as_str()})).collect();
    let mut printed = json!({"required-column-projections": projections});
    if let Some(filter) = &restrictions.filter {
        printed["required-row-filter"] = two_valued(bound(filter.clone(), metadata.current_schema()).without_not()).to_json();
    }
    printed
}

/// Replaces each disjunct that reads a field which the schema does not have by `false`.
pub(crate) fn bound(filter: FilterExpr, schema: &Schema) -> FilterExpr {
    match filter {
        FilterExpr::Or(any) => FilterExpr::any(any.into_iter().map(|one| bound(one, schema))),
        one if one.field_ids().iter().all(|id| schema.field_by_id(*id).is_some()) => one,
        _ => FilterExpr::False,
    }
}

/// Adds `not-null` to each predicate that Iceberg's logic of two values takes for true on NULL. The filter has no negations.
///
/// Iceberg's comparisons sort NULL before every value, so `lt` is among them.
fn two_valued(filter: FilterExpr) -> FilterExpr {
    let id = match &filter {
        FilterExpr::Compare { op: CompareOp::NotEq | CompareOp::Lt | CompareOp::LtEq, field_id, .. }
        | FilterExpr::In { field_id, negated: true, .. }
        | FilterExpr::StartsWith { field_id, negated: true, .. } => *field_id,
        FilterExpr::NotNan(id) => *id,
        _ => {
            return match filter {
                FilterExpr::And(all) => FilterExpr::all(all.into_iter().map(two_valued)),
                FilterExpr::Or(any) => FilterExpr::any(any.into_iter().map(two_valued)),
                filter => filter,
            };
        }
    };
    FilterExpr::all([FilterExpr::NotNull(id), filter])
}

/// The fields of metadata, as far as they are parsed.
type RawFields<'a> = BTreeMap<&'a str, &'a RawValue>;

/// Removes the counts of rows and values from the text of metadata: summaries but for the operation, statistics, and row ids.
///
/// Only the outermost fields and the snapshots are parsed. The text of the others stays as it is.
///
/// # Errors
///
/// Returns the error of JSON that is not that of table metadata.
pub(crate) fn without_counts(json: &[u8]) -> Result<Bytes, serde_json::Error> {
    let mut fields: RawFields<'_> = serde_json::from_slice(json)?;
    let nothing = to_raw_value(&[(); 0])?;
    remove_statistics(&mut fields, &nothing);
    let zero = to_raw_value(&0)?;
    if let Some(field) = fields.get_mut("next-row-id") {
        *field = &zero;
    }
    with_snapshots(fields, |snapshot| {
        for key in ["first-row-id", "added-rows"] {
            snapshot.remove(key);
        }
        if let Some(summary) = snapshot.get_mut("summary") {
            *summary = json!({"operation": summary.get("operation")});
        }
    })
}

/// Removes statistics from the text of metadata, and what names partitions from its summaries.
///
/// A partition has values of the rows, and statistics count the distinct values of all rows. Writers go on from neither.
///
/// # Errors
///
/// Returns the error of JSON that is not that of table metadata.
pub(crate) fn without_values(json: &[u8]) -> Result<Bytes, serde_json::Error> {
    let mut fields: RawFields<'_> = serde_json::from_slice(json)?;
    let nothing = to_raw_value(&[(); 0])?;
    remove_statistics(&mut fields, &nothing);
    with_snapshots(fields, |snapshot| {
        if let Some(Value::Object(summary)) = snapshot.get_mut("summary") {
            summary.retain(|key, _| !key.starts_with(CHANGED_PARTITION));
        }
    })
}

/// Puts `nothing`, an empty list, in the place of the lists of statistics.
fn remove_statistics<'a>(fields: &mut RawFields<'a>, nothing: &'a RawValue) {
    for key in ["statistics", "partition-statistics"] {
        if let Some(field) = fields.get_mut(key) {
            *field = nothing;
        }
    }
}

/// Prints the fields of metadata with changed snapshots.
fn with_snapshots(fields: RawFields<'_>, change: impl FnMut(&mut Map<String, Value>)) -> Result<Bytes, serde_json::Error> {
    // The changed snapshots live shorter than the text that the other fields borrow from.
    let mut fields: RawFields<'_> = fields;
    let Some(snapshots) = fields.get("snapshots") else { return Ok(serde_json::to_vec(&fields)?.into()) };
    let mut snapshots: Vec<Map<String, Value>> = serde_json::from_str(snapshots.get())?;
    snapshots.iter_mut().for_each(change);
    let snapshots = to_raw_value(&snapshots)?;
    fields.insert("snapshots", &snapshots);
    Ok(serde_json::to_vec(&fields)?.into())
}

#[cfg(test)]
mod tests {
    use esker_format::{NestedField, PrimitiveType, Type};

    use super::*;

    fn compare(op: CompareOp, field_id: i32) -> FilterExpr {
        FilterExpr::Compare { op, field_id, value: json!(5) }
    }

    fn printed(filter: FilterExpr) -> Value {
        two_valued(filter.without_not()).to_json()
    }

    #[test]
    fn an_engine_with_two_values_keeps_no_row_for_which_sql_is_not_certain() {
        let not_null = FilterExpr::NotNull(1);
        for (filter, expected) in [
            (compare(CompareOp::Eq, 1), compare(CompareOp::Eq, 1)),
            (compare(CompareOp::Gt, 1), compare(CompareOp::Gt, 1)),
            (compare(CompareOp::Lt, 1), FilterExpr::And(vec![not_null.clone(), compare(CompareOp::Lt, 1)])),
            (
                FilterExpr::Not(Box::new(compare(CompareOp::Eq, 1))),
                FilterExpr::And(vec![not_null.clone(), compare(CompareOp::NotEq, 1)]),
            ),
            (
                FilterExpr::Not(Box::new(compare(CompareOp::Gt, 1))),
                FilterExpr::And(vec![not_null.clone(), compare(CompareOp::LtEq, 1)]),
            ),
            (
                FilterExpr::Not(Box::new(FilterExpr::StartsWith { field_id: 1, prefix: "a".into(), negated: false })),
                FilterExpr::And(vec![not_null, FilterExpr::StartsWith { field_id: 1, prefix: "a".into(), negated: true }]),
            ),
        ] {
            assert_eq!(printed(filter.clone()), expected.to_json(), "{filter:?}");
        }
    }

    #[test]
    fn a_disjunct_on_a_missing_field_is_false_and_the_others_stay() {
        let field = NestedField::optional(1, "a", Type::Primitive(PrimitiveType::Long));
        let schema = Schema::new(0, vec![field.into()]).expect("a schema");
        let (here, gone) = (compare(CompareOp::Eq, 1), compare(CompareOp::Eq, 2));
        assert_eq!(bound(FilterExpr::Or(vec![gone.clone(), here.clone()]), &schema), here);
        assert_eq!(bound(FilterExpr::And(vec![gone.clone(), here.clone()]), &schema), FilterExpr::False);
        assert_eq!(bound(FilterExpr::Not(Box::new(gone)), &schema), FilterExpr::False);
    }

    #[test]
    fn metadata_without_counts_has_the_operation_of_each_snapshot() {
        let snapshot = json!({"snapshot-id": 9_007_199_254_740_993_i64, "manifest-list": "l", "first-row-id": 0, "added-rows": 7,
            "summary": {"operation": "append", "total-records": "7"}});
        let metadata = json!({"format-version": 3, "next-row-id": 7, "snapshots": [snapshot], "last-column-id": 2,
            "statistics": [{"blob-metadata": [{"properties": {"ndv": "5"}}]}]});
        let shown: Value = serde_json::from_slice(&without_counts(metadata.to_string().as_bytes()).expect("JSON")).expect("JSON");
        let summary = json!({"operation": "append"});
        let snapshot = json!({"snapshot-id": 9_007_199_254_740_993_i64, "manifest-list": "l", "summary": summary});
        let expected = json!({"format-version": 3, "next-row-id": 0, "snapshots": [snapshot], "last-column-id": 2,
            "statistics": []});
        assert_eq!(shown, expected);
    }

    #[test]
    fn metadata_without_values_has_the_totals_that_writers_go_on_from() {
        let summary = json!({"operation": "append", "total-records": "7", "partitions.region=EU": "added-records=7"});
        let snapshot = |summary: &Value| json!({"snapshot-id": 1, "first-row-id": 0, "added-rows": 7, "summary": summary});
        let metadata = |summary: &Value, statistics: Value| {
            let snapshots = json!([snapshot(summary), {"snapshot-id": 2}]);
            json!({"next-row-id": 7, "snapshots": snapshots, "statistics": statistics, "partition-statistics": statistics})
        };
        let counted = json!([{"snapshot-id": 1, "blob-metadata": [{"properties": {"ndv": "5"}}]}]);
        let shown = without_values(metadata(&summary, counted).to_string().as_bytes()).expect("JSON");
        let expected = metadata(&json!({"operation": "append", "total-records": "7"}), json!([]));
        assert_eq!(serde_json::from_slice::<Value>(&shown).expect("JSON"), expected);
    }
}
