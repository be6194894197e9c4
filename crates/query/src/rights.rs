//! What the caller of a statement may see and use of what its names mean.
//!
//! A thing that the caller may not see is as good as missing: [`admit`] answers `false`, and the look-up goes on as if there were
//! none. A thing that the caller sees and may not use is an error. Lists ask [`holds`], which records nothing: nobody was refused.

use esker_access::{Need, Privilege, PrivilegeSet, Required, ResourcePath, RightsError};
use esker_catalog::{Authority, Catalog};
use esker_state::TabularRow;

use crate::Result;

/// What `INSERT` needs on its table: the names and types of the columns, and to append rows.
pub(crate) const TO_INSERT: Required = Required::all(PrivilegeSet::of(&[Privilege::ReadMetadata, Privilege::Append]));

/// What `DELETE` and `UPDATE` need on their table: to find the rows, and to change them.
pub(crate) const TO_CHANGE_ROWS: Required = Required::all(PrivilegeSet::of(&[Privilege::ReadData, Privilege::Modify]));

/// Calls a function with the path to a table or view.
pub(crate) fn at_tabular<T>(catalog: &Catalog, row: &TabularRow, ask: impl FnOnce(&ResourcePath<'_>) -> T) -> T {
    ask(&catalog.tabular_path(&row.name.namespace.key(), row))
}

/// Checks that the caller has what a statement needs on a thing. False if, to the caller, the thing does not exist.
///
/// # Errors
///
/// Returns [`QueryError::Rights`](crate::QueryError::Rights) if the caller sees the thing and lacks a privilege.
pub(crate) fn admit(by: &Authority, on: &ResourcePath<'_>, required: Required) -> Result<bool> {
    match by.require(&Need { on: *on, required }) {
        Ok(()) => Ok(true),
        Err(RightsError::Hidden { .. }) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Checks that the caller has a privilege, as lists do for each entry.
pub(crate) fn holds(by: &Authority, on: &ResourcePath<'_>, privilege: Privilege) -> bool {
    by.has(on, Required::privilege(privilege))
}

/// Checks that to the caller, who needs something on a thing, the thing exists.
pub(crate) fn is_known(by: &Authority, on: &ResourcePath<'_>, required: Required) -> bool {
    by.has(on, required) || by.sees(on)
}

/// Checks that the caller may see the columns of a table or view in a list.
pub fn lists_columns(by: &Authority, catalog: &Catalog, row: &TabularRow) -> bool {
    at_tabular(catalog, row, |on| holds(by, on, Privilege::ReadMetadata))
}

/// Checks that what one authority may do, the other may do, because they are the same identity under the same rules, and access
/// policies can't tell their requests apart.
///
/// A plan that was made for one is then good for the other.
pub(crate) fn are_same(one: &Authority, other: &Authority) -> bool {
    match (one, other) {
        (Authority::Server, Authority::Server) => true,
        (Authority::Caller(one), Authority::Caller(other)) => one.decides_as(other),
        _ => false,
    }
}

/// Returns the name of the caller, as logs have it; `None` for Esker itself.
pub(crate) fn caller_name(by: &Authority) -> Option<String> {
    match by {
        Authority::Server => None,
        Authority::Caller(caller) => Some(caller.subject().identity().to_string()),
    }
}

#[cfg(test)]
pub(crate) mod samples {
    //! Callers under rules that a test names.

    use std::sync::Arc;

    use esker_access::{
        AccessMode, Caller, GrantRow, Identity, Member, RequestFacts, RuleRows, Rules, Securable, Subject, Unrecorded,
    };

    use super::{Authority, PrivilegeSet};

    /// Returns the client `bi` under rules of a mode and a version that give it privileges on some things.
    pub(crate) fn bi(mode: AccessMode, version: i64, grants: &[(Securable, PrivilegeSet)]) -> Authority {
        let grant = |(at, (on, privileges)): (usize, &(Securable, PrivilegeSet))| GrantRow {
            id: format!("g{at}"),
            to: Member::client("bi"),
            on: on.clone(),
            privileges: *privileges,
            future: None,
        };
        let grants = grants.iter().enumerate().map(grant).collect();
        let rules = Rules::build(RuleRows { version, mode, grants, ..RuleRows::default() }).expect("rules");
        let subject = Subject::new(Arc::new(rules), Identity::client("bi"));
        Authority::Caller(Arc::new(Caller::new(Arc::new(subject), RequestFacts::default(), Arc::new(Unrecorded))))
    }
}

#[cfg(test)]
mod tests {
    use esker_access::{AccessMode, Securable};
    use esker_types::{Coded, ErrorCode, TableId};
    use uuid::Uuid;

    use super::samples::bi;
    use super::*;

    const ID: TableId = TableId(Uuid::from_u128(1));

    fn orders() -> ResourcePath<'static> {
        ResourcePath::warehouse(1, "lake").namespace("raw").table(ID, "orders")
    }

    fn with(privileges: &[Privilege]) -> Authority {
        bi(AccessMode::On, 1, &[(Securable::Table { table: ID }, PrivilegeSet::of(privileges))])
    }

    #[test]
    fn a_hidden_thing_is_none_and_a_seen_one_is_refused_by_name() {
        let read = Required::privilege(Privilege::ReadData);
        let nobody = with(&[]);
        assert!(!admit(&nobody, &orders(), read).expect("no error"));
        assert!(!is_known(&nobody, &orders(), read) && !holds(&nobody, &orders(), Privilege::List));

        let lister = with(&[Privilege::List]);
        let refused = admit(&lister, &orders(), read).expect_err("refused");
        assert_eq!(refused.code(), ErrorCode::Forbidden);
        assert!(refused.to_string().starts_with("bi lacks READ_DATA on table raw.orders"), "{refused}");
        assert!(is_known(&lister, &orders(), read) && !holds(&lister, &orders(), Privilege::ReadMetadata));

        let reader = with(&[Privilege::List, Privilege::ReadData]);
        assert!(admit(&reader, &orders(), read).expect("allowed"));
        let refused = admit(&reader, &orders(), TO_CHANGE_ROWS).expect_err("refused");
        assert!(refused.to_string().starts_with("bi lacks MODIFY on"), "{refused}");
        let refused = admit(&reader, &orders(), TO_INSERT).expect_err("refused");
        assert!(refused.to_string().contains("READ_METADATA") && refused.to_string().contains("APPEND"), "{refused}");
    }

    #[test]
    fn who_may_use_a_thing_knows_it_even_if_it_is_in_no_list() {
        let append = with(&[Privilege::Append, Privilege::ReadMetadata]);
        assert!(is_known(&append, &orders(), TO_INSERT) && admit(&append, &orders(), TO_INSERT).expect("allowed"));
        assert!(!is_known(&append, &orders(), Required::privilege(Privilege::ReadData)));
    }

    #[test]
    fn nothing_is_hidden_from_esker_itself_or_while_rules_are_not_enforced() {
        let reported = bi(AccessMode::Report, 1, &[]);
        let off = bi(AccessMode::Off, 1, &[]);
        for by in [Authority::Server, reported, off] {
            assert!(admit(&by, &orders(), TO_CHANGE_ROWS).expect("allowed"));
            assert!(holds(&by, &ResourcePath::SERVER, Privilege::Monitor) && is_known(&by, &orders(), TO_INSERT));
        }
    }

    #[test]
    fn a_plan_is_good_for_the_same_identity_under_the_same_rules_alone() {
        let one = bi(AccessMode::On, 1, &[]);
        assert!(are_same(&one, &bi(AccessMode::On, 1, &[])) && are_same(&Authority::Server, &Authority::Server));
        assert!(!are_same(&one, &bi(AccessMode::On, 2, &[])) && !are_same(&one, &bi(AccessMode::Report, 1, &[])));
        assert!(!are_same(&one, &Authority::Server) && !are_same(&Authority::Server, &one));
        assert_eq!(caller_name(&one).as_deref(), Some("bi"));
    }
}
