//! Row filters and column masks: what a subject doesn't see of a table that it may read.
//!
//! `docs/security/restrictions.md` explains them. They count in the mode [`AccessMode::On`] only. The rules keep them by table,
//! so a table without any costs one look-up. Start reading at [`Subject::restrictions`].

mod filter;
mod filter_json;
mod mask;

use std::collections::HashMap;

use esker_types::TableId;
use serde::{Deserialize, Serialize};

pub use self::filter::{CompareOp, FilterExpr};
pub use self::mask::MaskAction;
use crate::index::Holders;
use crate::role::{MemberId, Members};
use crate::{AccessMode, Caller, Member, Result, RightsError, RuleRows, Subject};

/// A row filter, as the state database stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct RowFilterRow {
    /// Id of the filter, which the API and the audit name.
    pub id: String,
    /// Id of the table.
    pub table: TableId,
    /// Member that sees the rows for which the filter is true.
    pub to: Member,
    /// The filter, as an expression of Iceberg with field ids.
    #[schema(value_type = Value)]
    pub filter: FilterExpr,
}

/// A column mask, as the state database stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ColumnMaskRow {
    /// Id of the table.
    pub table: TableId,
    /// Id of the masked field. A rename of the field keeps it.
    pub field_id: i32,
    /// Action on the values.
    pub action: MaskAction,
    /// Members that see the values as they are.
    pub except: Vec<Member>,
}

/// What restricts a subject on one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Restrictions {
    /// The filter whose rows the subject sees, as an expression of Iceberg; null if it sees all. Several filters are one
    /// disjunction.
    #[schema(value_type = Option<Value>)]
    pub filter: Option<FilterExpr>,
    /// The masked fields, each with its action, by rising field id. The filter reads the values before they are masked.
    #[schema(value_type = Vec<Vec<Value>>)]
    pub masks: Vec<(i32, MaskAction)>,
}

/// The filters and masks of one table.
#[derive(Debug, Default)]
struct OfTable {
    filters: Vec<(MemberId, FilterExpr)>,
    /// By rising field id.
    masks: Vec<Mask>,
}

/// A mask with the members that it does not apply to.
#[derive(Debug)]
struct Mask {
    field_id: i32,
    action: MaskAction,
    except: Vec<MemberId>,
}

/// All filters and masks, by table.
#[derive(Debug, Default)]
pub(crate) struct RestrictionIndex {
    tables: HashMap<TableId, OfTable>,
}

impl RestrictionIndex {
    /// Indexes rows.
    ///
    /// # Errors
    ///
    /// Returns [`RightsError::NoSuchRole`] if a row names a role that does not exist.
    pub(crate) fn new(filters: Vec<RowFilterRow>, masks: Vec<ColumnMaskRow>, members: &mut Members) -> Result<Self> {
        let mut index = Self::default();
        for row in filters {
            let to = members.known(&row.to)?;
            index.tables.entry(row.table).or_default().filters.push((to, row.filter));
        }
        for ColumnMaskRow { table, field_id, action, except } in masks {
            let except = except.iter().map(|member| members.known(member)).collect::<Result<Vec<MemberId>>>()?;
            index.tables.entry(table).or_default().masks.push(Mask { field_id, action, except });
        }
        for of_table in index.tables.values_mut() {
            of_table.masks.sort_by_key(|mask| mask.field_id);
        }
        Ok(index)
    }
}

impl OfTable {
    /// Returns the filter for some members; `None` if they see all rows.
    fn filter_for(&self, holders: &Holders) -> Option<FilterExpr> {
        if self.filters.is_empty() {
            return None;
        }
        let held = self.filters.iter().filter(|(to, _)| holders.contains(*to)).map(|(_, filter)| filter);
        match FilterExpr::any(held.cloned()) {
            FilterExpr::True => None,
            filter => Some(filter),
        }
    }

    /// Returns the masks for some members.
    fn masks_for(&self, holders: &Holders) -> Vec<(i32, MaskAction)> {
        let applies = |mask: &&Mask| !mask.except.iter().any(|member| holders.contains(*member));
        self.masks.iter().filter(applies).map(|mask| (mask.field_id, mask.action)).collect()
    }
}

impl Subject {
    /// Returns what restricts the subject on a table; `None` if nothing does, which is always so in the modes off and report.
    ///
    /// A table with a row filter shows no row to a subject that no filter names. Administrators and owners are no exception: only
    /// members of [`BREAK_GLASS`](crate::BREAK_GLASS) are.
    pub fn restrictions(&self, table: TableId) -> Option<Restrictions> {
        let of_table = self.rules.restrictions.tables.get(&table)?;
        if self.rules.mode() != AccessMode::On || self.breaks_glass() {
            return None;
        }
        let (filter, masks) = (of_table.filter_for(&self.holders), of_table.masks_for(&self.holders));
        (filter.is_some() || !masks.is_empty()).then_some(Restrictions { filter, masks })
    }

    /// Checks that something restricts the subject on any table at all.
    pub fn is_restricted(&self) -> bool {
        self.rules.restrictions.tables.keys().any(|table| self.restrictions(*table).is_some())
    }
}

impl Caller {
    /// Returns what restricts the caller on a table. See [`Subject::restrictions`].
    pub fn restrictions(&self, table: TableId) -> Option<Restrictions> {
        self.subject().restrictions(table)
    }
}

impl RuleRows {
    /// Adds a row filter, or replaces the one with its id.
    pub(crate) fn set_row_filter(&mut self, row: &RowFilterRow) -> Result<()> {
        row.to.check()?;
        row.filter.check_size()?;
        match self.filters.iter_mut().find(|other| other.id == row.id) {
            Some(other) if other.table != row.table => Err(RightsError::BadFilter {
                why: format!("the id {} is that of a filter of another table; choose another", row.id),
            }),
            Some(other) => {
                other.clone_from(row);
                Ok(())
            }
            None => {
                self.filters.push(row.clone());
                Ok(())
            }
        }
    }

    /// Removes a row filter.
    pub(crate) fn remove_row_filter(&mut self, table: TableId, id: &str) -> Result<()> {
        let before = self.filters.len();
        self.filters.retain(|row| row.table != table || row.id != id);
        match self.filters.len() < before {
            true => Ok(()),
            false => Err(RightsError::NoSuchRestriction { what: format!("row filter with the id {id}") }),
        }
    }

    /// Adds a column mask, or replaces that of its field.
    pub(crate) fn set_column_mask(&mut self, row: &ColumnMaskRow) -> Result<()> {
        row.except.iter().try_for_each(Member::check)?;
        match self.masks.iter_mut().find(|other| other.table == row.table && other.field_id == row.field_id) {
            Some(other) => other.clone_from(row),
            None => self.masks.push(row.clone()),
        }
        Ok(())
    }

    /// Removes a column mask.
    pub(crate) fn remove_column_mask(&mut self, table: TableId, field_id: i32) -> Result<()> {
        let before = self.masks.len();
        self.masks.retain(|row| row.table != table || row.field_id != field_id);
        match self.masks.len() < before {
            true => Ok(()),
            false => Err(RightsError::NoSuchRestriction { what: format!("column mask on the field {field_id}") }),
        }
    }

    /// Checks that no filter and no mask names a role that is going to be dropped.
    ///
    /// A table that lost its only filter with the role would show all rows.
    pub(crate) fn check_restricts_nobody(&self, role: &Member) -> Result<()> {
        let filters = self.filters.iter().filter(|row| row.to == *role).map(|row| row.table);
        let masks = self.masks.iter().filter(|row| row.except.contains(role)).map(|row| row.table);
        match filters.chain(masks).next() {
            Some(table) => Err(RightsError::RoleInRestrictions { role: role.to_string(), table: table.to_string() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::samples::{client, rows, table};
    use crate::{BREAK_GLASS, RuleChange, Rules};

    fn filter(id: &str, to: Member, filter: FilterExpr) -> RowFilterRow {
        RowFilterRow { id: id.to_owned(), table: table(1), to, filter }
    }

    fn equals(field_id: i32, value: &str) -> FilterExpr {
        FilterExpr::Compare { op: CompareOp::Eq, field_id, value: json!(value) }
    }

    fn mask(field_id: i32, action: MaskAction, except: &[Member]) -> ColumnMaskRow {
        ColumnMaskRow { table: table(1), field_id, action, except: except.to_vec() }
    }

    fn restricted() -> RuleRows {
        let mut rows = rows(Vec::new());
        rows.filters = vec![
            filter("f1", Member::role("readers"), equals(3, "EU")),
            filter("f2", Member::client("etl"), equals(3, "US")),
            filter("f3", Member::client("auditor"), FilterExpr::True),
        ];
        rows.masks =
            vec![mask(9, MaskAction::ReplaceWithNull, &[]), mask(4, MaskAction::Sha256Global, &[Member::role("writers")])];
        rows
    }

    #[test]
    fn a_subject_sees_the_rows_of_all_filters_that_name_it_and_of_no_other() {
        let seen = |name: &str| client(restricted(), name).restrictions(table(1)).and_then(|found| found.filter);
        assert_eq!(seen("bi"), Some(equals(3, "EU")));
        assert_eq!(seen("etl"), Some(FilterExpr::Or(vec![equals(3, "EU"), equals(3, "US")])), "by its role and by its name");
        assert_eq!(seen("auditor"), None, "the filter true shows all rows");
        assert_eq!(seen("nobody"), Some(FilterExpr::False));
        assert_eq!(seen("root"), Some(FilterExpr::False), "administrators are no exception");
        assert_eq!(client(restricted(), "nobody").restrictions(table(2)), None, "another table");
    }

    #[test]
    fn a_mask_applies_to_all_but_its_exceptions() {
        let seen = |name: &str| client(restricted(), name).restrictions(table(1)).map(|found| found.masks);
        let (null, hash) = ((9, MaskAction::ReplaceWithNull), (4, MaskAction::Sha256Global));
        assert_eq!(seen("bi"), Some(vec![hash, null]), "by rising field id");
        assert_eq!(seen("etl"), Some(vec![null]), "it is a writer");
        let mut masked = rows(Vec::new());
        masked.masks = vec![mask(4, MaskAction::Sha256Global, &[Member::client("bi")])];
        assert_eq!(client(masked.clone(), "bi").restrictions(table(1)), None, "nothing restricts it");
        let found = client(masked, "root").restrictions(table(1)).expect("restricted");
        assert_eq!((found.filter, found.masks), (None, vec![hash]));
    }

    #[test]
    fn nothing_is_restricted_in_an_emergency_or_while_refusals_do_not_count() {
        assert_eq!(client(restricted(), "break-glass-1").restrictions(table(1)), None);
        for mode in [AccessMode::Off, AccessMode::Report] {
            let rows = RuleRows { mode, ..restricted() };
            assert_eq!(client(rows, "nobody").restrictions(table(1)), None, "{mode:?}");
        }
    }

    #[test]
    fn filters_and_masks_are_set_replaced_and_removed() {
        let mut rows = rows(Vec::new());
        let first = filter("f", Member::role("readers"), FilterExpr::True);
        rows.apply(&RuleChange::SetRowFilter { filter: first.clone() }).expect("set");
        let other = filter("f", Member::role("readers"), equals(3, "EU"));
        rows.apply(&RuleChange::SetRowFilter { filter: other.clone() }).expect("replaced");
        assert_eq!(rows.filters, [other]);
        let elsewhere = RuleChange::SetRowFilter { filter: RowFilterRow { table: table(2), ..first } };
        assert!(matches!(rows.apply(&elsewhere), Err(RightsError::BadFilter { .. })));
        for action in [MaskAction::MaskAlphanum, MaskAction::ShowLast4] {
            rows.apply(&RuleChange::SetColumnMask { mask: mask(4, action, &[]) }).expect("set");
        }
        assert_eq!(rows.masks, [mask(4, MaskAction::ShowLast4, &[])]);
        let change = RuleChange::RemoveRowFilter { table: table(2), id: "f".into() };
        assert!(matches!(rows.apply(&change), Err(RightsError::NoSuchRestriction { .. })), "of another table");
        rows.apply(&RuleChange::RemoveRowFilter { table: table(1), id: "f".into() }).expect("removed");
        rows.apply(&RuleChange::RemoveColumnMask { table: table(1), field_id: 4 }).expect("removed");
        assert!(rows.filters.is_empty() && rows.masks.is_empty());
        let again = rows.apply(&RuleChange::RemoveColumnMask { table: table(1), field_id: 4 }).expect_err("gone");
        assert_eq!(again.to_string(), "there is no column mask on the field 4; the list of the table's restrictions shows all");
    }

    #[test]
    fn a_role_that_a_filter_or_a_mask_names_is_not_dropped() {
        for change in [
            RuleChange::SetRowFilter { filter: filter("f", Member::role("readers"), FilterExpr::True) },
            RuleChange::SetColumnMask { mask: mask(4, MaskAction::MaskAlphanum, &[Member::role("readers")]) },
        ] {
            let mut rows = rows(Vec::new());
            rows.apply(&change).expect("set");
            let dropped = rows.apply(&RuleChange::DropRole { role: "readers".into() });
            assert!(matches!(dropped, Err(RightsError::RoleInRestrictions { .. })), "{change:?}");
            rows.apply(&RuleChange::DropRole { role: "writers".into() }).expect("no restriction names it");
        }
    }

    #[test]
    fn restrictions_that_name_a_role_that_does_not_exist_make_no_rules() {
        let mut unknown = rows(Vec::new());
        unknown.filters = vec![filter("f", Member::role("nobody"), FilterExpr::True)];
        assert_eq!(Rules::build(unknown).expect_err("refused"), RightsError::NoSuchRole { name: "nobody".into() });
        let mut known = rows(Vec::new());
        known.masks = vec![mask(1, MaskAction::MaskAlphanum, &[Member::role(BREAK_GLASS)])];
        Rules::build(known).expect("rules");
    }

    #[test]
    fn changes_of_restrictions_have_a_subject_and_the_expression_in_events() {
        let change = RuleChange::SetRowFilter { filter: filter("f", Member::role("readers"), equals(3, "EU")) };
        let json = serde_json::to_value(&change).expect("JSON");
        assert_eq!(json["action"], "set-row-filter");
        assert_eq!(json["filter"]["filter"]["left"], json!({"type": "reference", "id": 3}));
        assert_eq!(change.subject(), format!("table {}", table(1)));
        let change = RuleChange::SetColumnMask { mask: mask(4, MaskAction::ShowFirst4, &[]) };
        assert_eq!(serde_json::to_value(&change).expect("JSON")["mask"]["field-id"], 4);
    }
}
