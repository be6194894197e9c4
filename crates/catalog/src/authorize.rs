//! Authority: in whose name something is done, and the checks that need the database.
//!
//! Every change of the catalog is checked here before anything is written. A name that does not exist and one that the caller may
//! not see get the same answer: [`require_named`] looks at the rights first, and then reports what is missing. Reads are
//! checked by those who answer them. Start reading at [`Authority`], then at `require_named`.

use std::sync::Arc;

use esker_access::{
    AccessMode, Caller, Member, Need, Needs, Privilege, PrivilegeSet, Required, ResourcePath, Restrictions, RightsError,
    SecurableKind, is_audit_table,
};
use esker_format::{Operation, Snapshot, TableMetadata, TableUpdate};
use esker_state::{NamespaceRow, StateError, TabularKind, TabularRow};
use esker_table::beyond_append;
use esker_types::{NamespaceName, TableId, TableName};
use uuid::Uuid;

use crate::views::TEXT_BY;
use crate::{Catalog, CatalogError, LoadedTable, LoadedView, Proposal, Result, needs};

/// The one in whose name something is done.
#[derive(Debug, Clone, Default)]
pub enum Authority {
    /// Esker itself: jobs, recovery, the health table. It may do everything.
    #[default]
    Server,
    /// Who sent the request.
    Caller(Arc<Caller>),
}

impl Authority {
    /// Checks privileges, before anything is done. See [`Caller::require`].
    ///
    /// # Errors
    ///
    /// Returns [`RightsError::Denied`] if privileges are missing on a securable that the caller may see,
    /// [`RightsError::Forbidden`] if an access policy forbids them there, and [`RightsError::Hidden`] if the caller may not know that
    /// the securable exists.
    pub fn require<'n>(&self, needs: impl Into<Needs<'n>>) -> std::result::Result<(), RightsError> {
        match self {
            Self::Server => Ok(()),
            Self::Caller(caller) => caller.require(needs),
        }
    }

    /// Checks that a securable may be known to exist.
    pub fn sees(&self, on: &ResourcePath<'_>) -> bool {
        match self {
            Self::Server => true,
            Self::Caller(caller) => caller.sees(on),
        }
    }

    /// Checks that everything in a container is seen, so that a list of it needs no filter.
    pub fn sees_all_below(&self, container: &ResourcePath<'_>) -> bool {
        match self {
            Self::Server => true,
            Self::Caller(caller) => caller.sees_all_below(container),
        }
    }

    /// Checks privileges for what an answer contains. Unlike [`Authority::require`], it records nothing, because nothing is refused.
    pub fn has(&self, on: &ResourcePath<'_>, required: Required) -> bool {
        let counts = self.is_limited() || Need { on: *on, required }.changes_audit_table();
        !counts || self.decides(on, required)
    }

    /// Names a table or view of the request to the receiver of its decisions, if it wants to know.
    pub(crate) fn names(&self, catalog: &Catalog, row: &TabularRow) {
        if let Self::Caller(caller) = self
            && self.wants_names()
        {
            caller.names(&catalog.tabular_path(&row.name.namespace.key(), row));
        }
    }

    /// Checks that the receiver of the decisions wants the things that the request names.
    pub(crate) fn wants_names(&self) -> bool {
        matches!(self, Self::Caller(caller) if caller.wants_names())
    }

    /// Checks that a name is not that of the audit trail, which only Esker gives to a table. A refusal is recorded.
    ///
    /// `warehouse` is the path to the warehouse of the new table or view.
    ///
    /// # Errors
    ///
    /// Returns [`RightsError::AuditTrail`] if it is, whatever the mode.
    pub(crate) fn check_name_of_new(
        &self,
        warehouse: ResourcePath<'_>,
        name: &TableName,
    ) -> std::result::Result<(), RightsError> {
        match self {
            Self::Caller(caller) if is_audit_name(name) => {
                let key = name.namespace.key();
                // There is no such table, so it has no id.
                let on = warehouse.namespace(&key).table(TableId(Uuid::nil()), &name.name);
                Err(caller.refuse_new_audit_table(on, Required::privilege(Privilege::CreateTable)))
            }
            Self::Caller(_) | Self::Server => Ok(()),
        }
    }

    /// Returns the row filter and the column masks on a table; `None` if nothing is restricted, and for Esker itself, which sees
    /// everything. See [`Caller::restrictions`].
    pub fn restrictions(&self, table: TableId) -> Option<Restrictions> {
        match self {
            Self::Server => None,
            Self::Caller(caller) => caller.restrictions(table),
        }
    }

    /// Checks that refusals count: without it, every check succeeds, and a list needs no filter.
    pub fn is_limited(&self) -> bool {
        matches!(self, Self::Caller(caller) if caller.subject().rules().mode() == AccessMode::On)
    }

    /// Checks that access policies can apply to the caller: what holds for a container may not hold for everything in it.
    pub(crate) fn has_policies(&self) -> bool {
        matches!(self, Self::Caller(caller) if caller.subject().has_policies())
    }

    /// Checks privileges on a container, for what is told of something in it that can't be looked up, such as a table that is gone.
    ///
    /// An access policy may make an exception of it. So none must be able to, and only grants count. On a table, a view or a function
    /// it is [`Authority::has`].
    pub fn has_for_content(&self, on: &ResourcePath<'_>, required: Required) -> bool {
        match self {
            Self::Caller(caller) if self.is_limited() && self.has_policies() && on.leaf().is_none() => {
                caller.subject().inherits_below(on, required)
            }
            Self::Caller(_) | Self::Server => self.has(on, required),
        }
    }

    /// Checks that an access policy may forbid a privilege somewhere in a container, and that it counts.
    pub fn may_forbid_below(&self, container: &ResourcePath<'_>, privilege: Privilege) -> bool {
        let may_forbid = |caller: &Caller| caller.subject().may_forbid_below(container, privilege.into());
        matches!(self, Self::Caller(caller) if self.is_limited() && may_forbid(caller))
    }

    /// Checks that an access policy forbids a privilege, and that it counts. Other privileges must not bring what it forbids.
    pub fn is_forbidden(&self, on: &ResourcePath<'_>, privilege: Privilege) -> bool {
        matches!(self, Self::Caller(caller) if self.is_limited() && caller.is_forbidden(on, privilege.into()))
    }

    /// Checks that the caller is an engine that applies row filters and column masks itself. See [`Subject::is_trusted_engine`].
    ///
    /// [`Subject::is_trusted_engine`]: esker_access::Subject::is_trusted_engine
    pub fn is_trusted_engine(&self) -> bool {
        matches!(self, Self::Caller(caller) if caller.subject().is_trusted_engine())
    }

    /// Returns the owner of a view as the one in whose name the view's tables are read; `None` if there are no such rights.
    ///
    /// A view has none without an owner, nor while its text is not the owner's, which the property `esker.text-by` says. Esker itself
    /// needs none.
    pub fn definer_of(&self, view: &LoadedView) -> Option<Self> {
        let Self::Caller(caller) = self else { return None };
        let owner = caller.as_owner_of(view.row.id).filter(|_| !view.metadata.properties.contains_key(TEXT_BY))?;
        Some(Self::Caller(Arc::new(owner)))
    }

    /// Checks that a table or view is the caller's own. Esker itself counts as everybody's.
    pub(crate) fn owns(&self, id: TableId) -> bool {
        match self {
            Self::Server => true,
            Self::Caller(caller) => caller.owns(id),
        }
    }

    /// Checks that row filters or column masks restrict the caller on any table at all.
    pub fn is_restricted(&self) -> bool {
        matches!(self, Self::Caller(caller) if caller.subject().is_restricted())
    }

    /// Checks that a table or view has an owner, by the rules that the caller is under.
    pub(crate) fn knows_owner_of(&self, id: TableId) -> bool {
        matches!(self, Self::Caller(caller) if caller.subject().rules().owner(id).is_some())
    }

    /// Checks that the caller may read every row and value of everything in a container, so that nothing of it must be looked up.
    pub(crate) fn reads_all_below(&self, container: &ResourcePath<'_>) -> bool {
        match self {
            Self::Server => true,
            Self::Caller(caller) => {
                let reads_all = || caller.holds_all_below(container, Privilege::ReadData.into());
                !self.is_limited() || (reads_all() && !caller.subject().is_restricted())
            }
        }
    }

    /// Checks that anything is decided: neither Esker itself acts, nor is access control off.
    pub(crate) fn is_decided(&self) -> bool {
        matches!(self, Self::Caller(caller) if caller.subject().rules().mode() != AccessMode::Off)
    }

    /// Decides by the rules, whatever the mode does with a refusal.
    pub(crate) fn decides(&self, on: &ResourcePath<'_>, required: Required) -> bool {
        match self {
            Self::Server => true,
            Self::Caller(caller) => caller.allows(on, required),
        }
    }

    /// Returns the privileges that the caller gets on a table or view by moving it, because it has them under the new name.
    /// Esker itself gets none.
    ///
    /// What this request lacks there, another may have: one over TLS, from elsewhere, or by another operation. So what some
    /// request has under the new name, and lacks under the old one, is gained too.
    fn gained_by_move(&self, from: &ResourcePath<'_>, to: &ResourcePath<'_>) -> PrivilegeSet {
        match self {
            Self::Server => PrivilegeSet::EMPTY,
            Self::Caller(caller) => {
                let others = PrivilegeSet::ALL.without(to.kind().privileges());
                let by_this_request = caller.effective(to).without(caller.effective(from));
                by_this_request.union(caller.subject().gained_by_move(from, to)).without(others)
            }
        }
    }

    /// Refuses a move that brings the caller privileges on a table or view, which are `gained`. See [`Caller::refuse_gained`].
    fn refuse_gained(&self, on: ResourcePath<'_>, gained: PrivilegeSet) -> Result<()> {
        match self {
            Self::Server => Ok(()),
            Self::Caller(caller) => Ok(caller.refuse_gained(on, gained)?),
        }
    }

    /// Returns the owner of a table or view that is created now; `None` if nothing is decided, or the caller has no name.
    pub(crate) fn owner_of_new(&self) -> Option<Member> {
        match self {
            Self::Caller(caller) if self.is_decided() => caller.subject().identity().principal(),
            Self::Caller(_) | Self::Server => None,
        }
    }
}

/// A thing that a request names: the privileges that are needed on it, and the answer if there is no such thing.
pub(crate) struct Named<'a> {
    /// `None` if there is no such thing.
    need: Option<Need<'a>>,
    /// The error for a name without a thing, which a hidden one gets too.
    missing: StateError,
}

impl<'a> Named<'a> {
    /// Names a thing that exists.
    pub(crate) fn found(on: ResourcePath<'a>, required: Required, missing: StateError) -> Self {
        Self { need: Some(Need { on, required }), missing }
    }

    /// Names a thing that may exist.
    pub(crate) const fn looked_up(need: Option<Need<'a>>, missing: StateError) -> Self {
        Self { need, missing }
    }
}

/// Returns the error of a table or view that does not exist.
pub(crate) fn no_such_tabular(kind: TabularKind, name: &TableName) -> StateError {
    match kind {
        TabularKind::Table => StateError::NoSuchTable(name.to_string()),
        TabularKind::View => StateError::NoSuchView(name.to_string()),
    }
}

/// Replaces the error of a hidden table by that of one that does not exist.
pub(crate) fn hidden_as_missing(name: &TableName, error: CatalogError) -> CatalogError {
    match error {
        CatalogError::Rights(RightsError::Hidden { .. }) => no_such_tabular(TabularKind::Table, name).into(),
        error => error,
    }
}

/// Returns the error of a namespace that does not exist.
pub(crate) fn no_such_namespace(name: &NamespaceName) -> StateError {
    StateError::NoSuchNamespace(name.to_string())
}

/// Checks privileges on everything that a request names, as one sum.
///
/// A refusal on something that the caller sees comes first. Then the first name is reported that has no thing or a hidden one, so
/// that nobody can tell the two apart.
///
/// # Errors
///
/// Returns [`Rights`](CatalogError::Rights) if privileges are missing on a thing that the caller sees, and
/// [`State`](CatalogError::State) with the error of the first name that is missing or hidden.
pub(crate) fn require_named(authority: &Authority, named: Vec<Named<'_>>) -> Result<()> {
    let needs: Vec<Need<'_>> = named.iter().filter_map(|one| one.need).collect();
    let some_hidden = match authority.require(Needs::All(&needs)) {
        Ok(()) => false,
        Err(RightsError::Hidden { .. }) => true,
        Err(denied) => return Err(denied.into()),
    };
    let unseen = |one: &Named<'_>| one.need.is_none_or(|need| some_hidden && !authority.has(&need.on, need.required));
    match named.into_iter().find(unseen) {
        Some(one) => Err(one.missing.into()),
        None => Ok(()),
    }
}

/// Turns a lookup that found nothing into `None`. Other errors stay.
pub(crate) fn found<T>(looked_up: Result<T>) -> Result<Option<T>> {
    match looked_up {
        Ok(thing) => Ok(Some(thing)),
        Err(CatalogError::State(
            StateError::NoSuchNamespace(_)
            | StateError::NoSuchTable(_)
            | StateError::NoSuchView(_)
            | StateError::NoSuchFunction(_),
        )) => Ok(None),
        Err(e) => Err(e),
    }
}

impl Catalog {
    /// Returns the path to the warehouse.
    pub fn warehouse_path(&self) -> ResourcePath<'_> {
        ResourcePath::warehouse(self.warehouse().id, &self.options().warehouse)
    }

    /// Returns the path to a namespace by its key, in the case that the database has.
    pub fn namespace_path<'a>(&'a self, key: &'a str) -> ResourcePath<'a> {
        self.warehouse_path().namespace(key)
    }

    /// Returns the path to a table or view. `key` is the key of its namespace: `row.name.namespace.key()`.
    pub fn tabular_path<'a>(&'a self, key: &'a str, row: &'a TabularRow) -> ResourcePath<'a> {
        let namespace = self.namespace_path(key);
        match row.kind {
            TabularKind::Table => namespace.table(row.id, &row.name.name),
            TabularKind::View => namespace.view(row.id, &row.name.name),
        }
    }

    /// Checks that another name for a table or view brings the caller no privileges on it. A move must not be a grant.
    ///
    /// `key` is the key of its namespace now, and `into` that of the new one, where it is called `name`: access policies know things
    /// by name. Privileges that end by the move are not looked at. The caller sees the table or view.
    ///
    /// # Errors
    ///
    /// Returns [`Rights`](CatalogError::Rights) if this request or another one of the caller would gain privileges.
    pub fn check_move(&self, authority: &Authority, row: &TabularRow, key: &str, (into, name): (&str, &str)) -> Result<()> {
        let namespace = self.namespace_path(into);
        let to = match row.kind {
            TabularKind::Table => namespace.table(row.id, name),
            TabularKind::View => namespace.view(row.id, name),
        };
        let from = self.tabular_path(key, row);
        authority.refuse_gained(from, authority.gained_by_move(&from, &to))
    }

    /// Checks privileges on a table or view that a request names.
    ///
    /// # Errors
    ///
    /// Returns [`Rights`](CatalogError::Rights) if privileges are missing, and [`State`](CatalogError::State) with the error of a
    /// name that does not exist if the caller may not see the table or view.
    pub fn require_tabular(&self, authority: &Authority, name: &TableName, row: &TabularRow, required: Required) -> Result<()> {
        authority.names(self, row);
        if !authority.is_decided() && !is_audit_name(&row.name) {
            return Ok(());
        }
        let key = row.name.namespace.key();
        let on = self.tabular_path(&key, row);
        require_named(authority, vec![Named::found(on, required, no_such_tabular(row.kind, name))])
    }

    /// Checks that a caller may read every row and value of a table: it has `READ_DATA`, and nothing restricts it.
    pub fn shows_all(&self, row: &TabularRow, authority: &Authority) -> bool {
        let key = row.name.namespace.key();
        let may_read = authority.has(&self.tabular_path(&key, row), Required::privilege(Privilege::ReadData));
        may_read && authority.restrictions(row.id).is_none()
    }

    /// Checks privileges on a namespace that a request names.
    ///
    /// # Errors
    ///
    /// Returns [`Rights`](CatalogError::Rights) if privileges are missing, and [`State`](CatalogError::State) with the error of a
    /// name that does not exist if the caller may not see the namespace.
    pub fn require_namespace(
        &self,
        authority: &Authority,
        name: &NamespaceName,
        row: &NamespaceRow,
        required: Required,
    ) -> Result<()> {
        if !authority.is_decided() {
            return Ok(());
        }
        let key = row.name.key();
        require_named(authority, vec![Named::found(self.namespace_path(&key), required, no_such_namespace(name))])
    }

    /// Returns the row of a table that exists and on which the caller has privileges.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Catalog::table`] and [`Catalog::require_tabular`].
    pub async fn permitted_table(&self, name: &TableName, required: Required, authority: &Authority) -> Result<TabularRow> {
        let row = self.table(name).await?;
        self.require_tabular(authority, name, &row, required)?;
        Ok(row)
    }

    /// Returns the row of a view that exists and on which the caller has privileges.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Catalog::view`] and [`Catalog::require_tabular`].
    pub async fn permitted_view(&self, name: &TableName, required: Required, authority: &Authority) -> Result<TabularRow> {
        let row = self.view(name).await?;
        self.require_tabular(authority, name, &row, required)?;
        Ok(row)
    }

    /// Returns a namespace that exists and on which the caller has privileges.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Catalog::namespace`] and [`Catalog::require_namespace`].
    pub(crate) async fn permitted_namespace(
        &self,
        name: &NamespaceName,
        required: Required,
        authority: &Authority,
    ) -> Result<NamespaceRow> {
        let row = self.namespace(name).await?;
        self.require_namespace(authority, name, &row, required)?;
        Ok(row)
    }

    /// Checks that a namespace may be created: with privileges on the innermost namespace around it that exists, or the warehouse.
    ///
    /// A hidden namespace around it is passed over like one that does not exist. What its own grants allow counts all the same.
    pub(crate) async fn require_container(&self, name: &NamespaceName, required: Required, authority: &Authority) -> Result<()> {
        let mut around = name.parent();
        while let Some(outer) = around {
            if let Some(row) = found(self.namespace(&outer).await)? {
                let key = row.name.key();
                let on = self.namespace_path(&key);
                if authority.has(&on, required) || authority.sees(&on) {
                    return Ok(authority.require(&Need { on, required })?);
                }
            }
            around = outer.parent();
        }
        Ok(authority.require(&Need { on: self.warehouse_path(), required })?)
    }

    /// Checks the privileges of a commit on the state of the table that it is applied to.
    ///
    /// # Errors
    ///
    /// Returns [`Rights`](CatalogError::Rights) if privileges are missing, or the table is hidden.
    pub(crate) fn authorize_commit(&self, table: &LoadedTable, proposal: &Proposal) -> Result<()> {
        let authority = &proposal.actor.authority;
        authority.names(self, &table.row);
        if !authority.is_decided() && !is_audit_name(&table.row.name) {
            return Ok(());
        }
        let key = table.row.name.namespace.key();
        let mut required = needs::of_updates(&table.metadata, &proposal.updates);
        if needs::maps_names(&proposal.updates) && authority.restrictions(table.row.id).is_some() {
            required = required.and(Privilege::ManageRestrictions.into());
        }
        let mut all = vec![Need { on: self.tabular_path(&key, &table.row), required }];
        if needs::leaves_places(&table.metadata, &proposal.updates) {
            all.push(Need::new(self.namespace_path(&key), Privilege::ChooseLocation));
        }
        Ok(authority.require(Needs::All(&all))?)
    }

    /// Checks that the snapshots of a commit that say `append` remove nothing, if their writer may do no more than append.
    ///
    /// `after` is the table after the commit, with all schemas and partition specs.
    ///
    /// # Errors
    ///
    /// Returns [`Rights`](CatalogError::Rights) if a snapshot does more than append, and [`Table`](CatalogError::Table) if its
    /// manifests or those of its parent can't be read.
    pub(crate) async fn check_appends(&self, before: &LoadedTable, after: &TableMetadata, proposal: &Proposal) -> Result<()> {
        let authority = &proposal.actor.authority;
        if !authority.is_decided() {
            return Ok(());
        }
        let key = before.row.name.namespace.key();
        let need = Need::new(self.tabular_path(&key, &before.row), Privilege::Modify);
        if authority.decides(&need.on, need.required) {
            return Ok(());
        }
        for snapshot in appends(&proposal.updates) {
            let id = snapshot.parent_snapshot_id;
            let parent = id.and_then(|id| before.metadata.snapshots.get(id).or_else(|| after.snapshots.get(id)));
            let parent: Option<&Snapshot> = parent.map(AsRef::as_ref);
            if let Some(what) = beyond_append(self.manifests(), after, parent, snapshot).await? {
                tracing::info!(table = %before.row.name, snapshot = snapshot.snapshot_id, what, "an append does more than append");
                authority.require(&need)?;
            }
        }
        Ok(())
    }

    /// Reads the manifests that [`Catalog::check_appends`] is going to read into the cache, before the commit waits for its turn.
    ///
    /// A failure is left to that check.
    pub(crate) async fn prefetch_appends(&self, row: &TabularRow, proposal: &Proposal) {
        let authority = &proposal.actor.authority;
        if !authority.is_decided() || appends(&proposal.updates).next().is_none() {
            return;
        }
        let key = row.name.namespace.key();
        if authority.decides(&self.tabular_path(&key, row), Required::privilege(Privilege::Modify)) {
            return;
        }
        let Ok(table) = self.load_row(row.clone()).await else { return };
        for snapshot in appends(&proposal.updates) {
            let parent = snapshot.parent_snapshot_id.and_then(|id| table.metadata.snapshots.get(id)).map(AsRef::as_ref);
            if let Err(error) = beyond_append(self.manifests(), &table.metadata, parent, snapshot).await {
                tracing::debug!(table = %row.name, %error, "an append can't be looked into yet");
            }
        }
    }
}

/// Checks that a table is that of the audit trail, whose changes are refused in every mode.
pub fn is_audit_name(name: &TableName) -> bool {
    let levels = name.namespace.levels();
    levels.len() == 1 && is_audit_table(&levels[0], &name.name)
}

/// Iterates over the new snapshots that say that they only append.
fn appends(updates: &[TableUpdate]) -> impl Iterator<Item = &Snapshot> {
    updates.iter().filter_map(|update| match update {
        TableUpdate::AddSnapshot { snapshot } if snapshot.is(Operation::Append) => Some(snapshot),
        _ => None,
    })
}

/// Returns the need to have any privilege at all on a table, which every commit has at least.
pub(crate) const ANY_OF_TABLE: Required = Required::any_of(SecurableKind::Table.privileges());

#[cfg(test)]
mod tests {
    use esker_access::{GrantRow, Identity, RequestFacts, RuleRows, Rules, Securable, Subject, Unrecorded};
    use esker_types::{Coded, ErrorCode};

    use super::*;

    /// Returns the authority of the client `etl`, which has some privileges on tables.
    fn authority(mode: AccessMode, grants: &[(TableId, &[Privilege])]) -> Authority {
        let grant = |(table, privileges): &(TableId, &[Privilege])| GrantRow {
            id: table.to_string(),
            to: Member::client("etl"),
            on: Securable::Table { table: *table },
            privileges: PrivilegeSet::of(privileges),
            future: None,
        };
        let rows = RuleRows { version: 1, mode, grants: grants.iter().map(grant).collect(), ..RuleRows::default() };
        let rules = Arc::new(Rules::build(rows).expect("rules"));
        let subject = Arc::new(Subject::new(rules, Identity::client("etl")));
        Authority::Caller(Arc::new(Caller::new(subject, RequestFacts::default(), Arc::new(Unrecorded))))
    }

    fn name(table: &str) -> TableName {
        format!("n.{table}").parse().expect("a name")
    }

    fn path(id: TableId, name: &str) -> ResourcePath<'_> {
        ResourcePath::warehouse(1, "lake").namespace("n").table(id, name)
    }

    /// Needs `DROP` on a table that exists.
    fn there(id: TableId, table: &str) -> Named<'_> {
        let missing = no_such_tabular(TabularKind::Table, &name(table));
        Named::found(path(id, table), Required::privilege(Privilege::Drop), missing)
    }

    /// Names a table that does not exist.
    fn absent(table: &str) -> Named<'static> {
        Named::looked_up(None, no_such_tabular(TabularKind::Table, &name(table)))
    }

    #[test]
    fn a_missing_and_a_hidden_name_have_the_same_error_wherever_they_stand() {
        let (seen, hidden) = (TableId::fresh(), TableId::fresh());
        let lister = authority(AccessMode::On, &[(seen, &[Privilege::List])]);
        let dropper = authority(AccessMode::On, &[(seen, &[Privilege::List, Privilege::Drop])]);
        for (caller, expected) in [(&lister, ErrorCode::Forbidden), (&dropper, ErrorCode::NoSuchTable)] {
            for hidden_first in [true, false] {
                let sum = |other: Named<'static>, id: Option<TableId>| {
                    let other = id.map_or(other, |id| there(id, "b"));
                    let named = if hidden_first { vec![other, there(seen, "a")] } else { vec![there(seen, "a"), other] };
                    require_named(caller, named).expect_err("refused")
                };
                let (of_hidden, of_absent) = (sum(absent("b"), Some(hidden)), sum(absent("b"), None));
                assert_eq!((of_hidden.code(), of_hidden.to_string()), (of_absent.code(), of_absent.to_string()));
                assert_eq!(of_hidden.code(), expected);
            }
        }
        let two = require_named(&dropper, vec![absent("x"), there(hidden, "b")]).expect_err("refused");
        assert_eq!(two.to_string(), "Table does not exist: n.x", "the first of several");
    }

    #[test]
    fn only_the_mode_on_refuses_and_a_missing_name_stays_missing() {
        let id = TableId::fresh();
        for (caller, is_decided) in
            [(Authority::Server, false), (authority(AccessMode::Off, &[]), false), (authority(AccessMode::Report, &[]), true)]
        {
            assert!(require_named(&caller, vec![there(id, "a")]).is_ok(), "{caller:?}");
            assert_eq!(require_named(&caller, vec![absent("a")]).expect_err("missing").code(), ErrorCode::NoSuchTable);
            assert_eq!((caller.is_limited(), caller.is_decided()), (false, is_decided));
            assert_eq!(caller.owner_of_new().is_some(), is_decided, "{caller:?}");
        }
    }

    #[test]
    fn the_audit_trail_is_changed_by_esker_alone_in_every_mode() {
        let (id, trail) = (TableId::fresh(), "system.audit".parse::<TableName>().expect("a name"));
        let on = ResourcePath::warehouse(1, "lake").namespace("system").table(id, "audit");
        let (read, write) = (Required::privilege(Privilege::ReadData), Required::privilege(Privilege::Modify));
        for mode in [AccessMode::Off, AccessMode::Report, AccessMode::On] {
            let caller = authority(mode, &[(id, &[Privilege::List, Privilege::ReadData, Privilege::Modify])]);
            assert!(!caller.has(&on, write), "{mode:?}: no credentials for writing are vended");
            assert_eq!(caller.has(&on, read), mode != AccessMode::On, "{mode:?}");
            assert!(caller.require(&Need { on, required: write }).is_err(), "{mode:?}");
            let lake = ResourcePath::warehouse(1, "lake");
            let refused = caller.check_name_of_new(lake, &trail).expect_err("refused").to_string();
            assert!(refused.contains("table system.audit"), "{mode:?}: {refused}");
            assert!(caller.check_name_of_new(lake, &name("audit")).is_ok(), "{mode:?}");
        }
        let lake = ResourcePath::warehouse(1, "lake");
        assert!(Authority::Server.has(&on, write) && Authority::Server.check_name_of_new(lake, &trail).is_ok());
    }

    #[test]
    fn the_caller_owns_what_it_creates() {
        let caller = authority(AccessMode::On, &[]);
        assert_eq!(caller.owner_of_new(), Some(Member::client("etl")));
    }
}
