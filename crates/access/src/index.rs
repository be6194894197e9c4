//! The index of grants by securable, in which a decision looks up each step of a path.
//!
//! A decision allocates nothing. It costs a look-up for each step, and at most one test of a bit for each holder of a
//! grant on the path.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::ControlFlow;

use esker_types::TableId;

use crate::role::{Held, MemberId};
use crate::{Leaf, PrivilegeSet, ResourcePath, RuleRef, Securable};

/// A grant to put into the index.
#[derive(Debug)]
pub(crate) struct IndexedGrant<'a> {
    pub(crate) on: Cow<'a, Securable>,
    pub(crate) to: MemberId,
    pub(crate) privileges: PrivilegeSet,
    pub(crate) rule: RuleRef,
}

/// The grants on one securable.
#[derive(Debug, Default)]
struct Entries {
    /// Privileges that any grant gives.
    union: PrivilegeSet,
    /// The holders of grants, each once, sorted.
    holders: Vec<MemberId>,
    /// The privileges that each holder gets, and the end of its grants in `rules`.
    granted: Vec<(PrivilegeSet, usize)>,
    /// The grants, by holder.
    rules: Vec<(PrivilegeSet, RuleRef)>,
}

/// A reader of the grants on a path.
pub(crate) trait Visitor {
    /// Returns the privileges that the visitor still looks for. Grants without one of them are left out.
    fn open(&self) -> PrivilegeSet;

    /// Visits a grant.
    fn visit(&mut self, holder: MemberId, privileges: PrivilegeSet, rule: RuleRef) -> ControlFlow<()>;
}

/// The search for a grant of one of some privileges.
struct AnyOf(PrivilegeSet);

impl Visitor for AnyOf {
    fn open(&self) -> PrivilegeSet {
        self.0
    }

    fn visit(&mut self, _: MemberId, privileges: PrivilegeSet, _: RuleRef) -> ControlFlow<()> {
        if privileges.intersects(self.0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// The grants within one warehouse.
#[derive(Debug, Default)]
struct WarehouseGrants {
    own: Entries,
    /// By the namespace's key.
    namespaces: HashMap<Box<str>, Entries>,
    /// By the key of the namespace, then by name.
    functions: HashMap<Box<str>, HashMap<Box<str>, Entries>>,
    /// The number of levels of the deepest namespace with a grant.
    deepest: usize,
}

/// All grants, by securable.
#[derive(Debug, Default)]
pub(crate) struct GrantIndex {
    server: Entries,
    warehouses: HashMap<i64, WarehouseGrants>,
    /// Grants on tables and views.
    tabulars: HashMap<TableId, Entries>,
}

/// The members that stand for a subject: the principal, its claims and all its roles.
#[derive(Debug)]
pub(crate) struct Holders {
    /// All of them, sorted.
    sorted: Box<[MemberId]>,
    /// The roles among them: one bit for each role of the rules, so that a look-up costs the same for any number of roles.
    roles: Box<[u64]>,
    /// The number of roles of the rules.
    role_count: usize,
    /// The place in `sorted` of the first member that is no role.
    others: usize,
}

impl Holders {
    /// Indexes members. Those with ids below `role_count` are roles.
    pub(crate) fn new(held: &[Held], role_count: usize) -> Self {
        let mut sorted: Vec<MemberId> = held.iter().map(|held| held.id).collect();
        sorted.sort_unstable();
        let others = sorted.partition_point(|id| (*id as usize) < role_count);
        let mut roles = vec![0_u64; role_count.div_ceil(64)];
        for id in &sorted[..others] {
            roles[*id as usize / 64] |= 1 << (id % 64);
        }
        Self { sorted: sorted.into(), roles: roles.into(), role_count, others }
    }

    /// Checks that a member is one of them.
    pub(crate) fn contains(&self, id: MemberId) -> bool {
        if (id as usize) < self.role_count {
            return self.roles.get(id as usize / 64).is_some_and(|bits| bits >> (id % 64) & 1 == 1);
        }
        self.sorted[self.others..].binary_search(&id).is_ok()
    }
}

impl Entries {
    /// Visits the grants of `holders`.
    fn visit(&self, holders: &Holders, visitor: &mut impl Visitor) -> ControlFlow<()> {
        if !self.union.intersects(visitor.open()) {
            return ControlFlow::Continue(());
        }
        let count = self.holders.len();
        let searches = holders.sorted.len().saturating_mul(count.checked_ilog2().map_or(0, |depth| depth as usize + 1));
        if searches >= count {
            for (at, holder) in self.holders.iter().enumerate() {
                if holders.contains(*holder) {
                    self.visit_holder(at, visitor)?;
                }
            }
            return ControlFlow::Continue(());
        }
        let mut at = 0;
        for holder in &holders.sorted {
            at += self.holders[at..].partition_point(|other| other < holder);
            if self.holders.get(at) == Some(holder) {
                self.visit_holder(at, visitor)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Visits the grants of the holder at a place.
    // Apart from the loop that calls it, which most often goes on to the next holder.
    #[inline(never)]
    fn visit_holder(&self, at: usize, visitor: &mut impl Visitor) -> ControlFlow<()> {
        let (privileges, end) = self.granted[at];
        if !privileges.intersects(visitor.open()) {
            return ControlFlow::Continue(());
        }
        let start = if at == 0 { 0 } else { self.granted[at - 1].1 };
        let rules = self.rules[start..end].iter();
        rules.copied().try_for_each(|(privileges, rule)| visitor.visit(self.holders[at], privileges, rule))
    }

    /// Adds a grant. Its holder is the last one, or comes after it.
    fn push(&mut self, grant: &IndexedGrant<'_>) {
        if self.holders.last() != Some(&grant.to) {
            self.holders.push(grant.to);
            self.granted.push((PrivilegeSet::EMPTY, self.rules.len()));
        }
        if let Some((privileges, end)) = self.granted.last_mut() {
            *privileges = privileges.union(grant.privileges);
            *end += 1;
        }
        self.union = self.union.union(grant.privileges);
        self.rules.push((grant.privileges, grant.rule));
    }
}

impl GrantIndex {
    /// Indexes grants.
    pub(crate) fn new(mut grants: Vec<IndexedGrant<'_>>) -> Self {
        // The holders of each securable are then sorted. The sort is stable, so grants of one holder keep the order of the rows.
        grants.sort_by_key(|grant| grant.to);
        let mut index = Self::default();
        for grant in &grants {
            index.entries_for(&grant.on).push(grant);
        }
        index
    }

    fn entries_for(&mut self, on: &Securable) -> &mut Entries {
        match on {
            Securable::Server => &mut self.server,
            Securable::Warehouse { warehouse } => &mut self.warehouses.entry(*warehouse).or_default().own,
            Securable::Namespace { warehouse, namespace } => {
                let grants = self.warehouses.entry(*warehouse).or_default();
                grants.deepest = grants.deepest.max(namespace.levels().len());
                grants.namespaces.entry(namespace.key().into()).or_default()
            }
            Securable::Table { table: id } | Securable::View { view: id } => self.tabulars.entry(*id).or_default(),
            Securable::Function { warehouse, namespace, name } => {
                let grants = self.warehouses.entry(*warehouse).or_default();
                grants.functions.entry(namespace.key().into()).or_default().entry(name.as_str().into()).or_default()
            }
        }
    }

    /// Visits the grants of `holders` on the steps of a path, the server first.
    pub(crate) fn visit(&self, on: &ResourcePath<'_>, holders: &Holders, visitor: &mut impl Visitor) -> ControlFlow<()> {
        self.server.visit(holders, visitor)?;
        if let Some(grants) = on.warehouse_part().and_then(|(id, _)| self.warehouses.get(&id)) {
            grants.own.visit(holders, visitor)?;
            // Deeper namespaces have no grants. Without this bound a name of a thousand levels would be hashed a thousand times.
            for entries in on.namespaces().take(grants.deepest).filter_map(|key| grants.namespaces.get(key)) {
                entries.visit(holders, visitor)?;
            }
        }
        self.leaf(on).map_or(ControlFlow::Continue(()), |entries| entries.visit(holders, visitor))
    }

    /// Visits the grants of `holders` on a securable itself.
    pub(crate) fn visit_step(&self, step: &ResourcePath<'_>, holders: &Holders, visitor: &mut impl Visitor) -> ControlFlow<()> {
        let warehouse = step.warehouse_part().and_then(|(id, _)| self.warehouses.get(&id));
        let entries = match (step.leaf(), step.namespace_part(), step.warehouse_part()) {
            (Some(_), ..) => self.leaf(step),
            (None, Some(key), _) => warehouse.and_then(|grants| grants.namespaces.get(key)),
            (None, None, Some(_)) => warehouse.map(|grants| &grants.own),
            (None, None, None) => Some(&self.server),
        };
        entries.map_or(ControlFlow::Continue(()), |entries| entries.visit(holders, visitor))
    }

    /// Finds where `holders` have one of some privileges by grants on the thing itself: the keys of the namespaces of a warehouse that
    /// are such a thing or have such a function, and the ids of such tables and views of all warehouses.
    pub(crate) fn own_grants(&self, warehouse: i64, holders: &Holders, privileges: PrivilegeSet) -> (Vec<&str>, Vec<TableId>) {
        let has = |entries: &Entries| entries.visit(holders, &mut AnyOf(privileges)).is_break();
        let mut keys = Vec::new();
        if let Some(grants) = self.warehouses.get(&warehouse) {
            keys.extend(grants.namespaces.iter().filter(|(_, entries)| has(entries)).map(|(key, _)| &**key));
            let functions = grants.functions.iter().filter(|(_, functions)| functions.values().any(has));
            keys.extend(functions.map(|(key, _)| &**key));
        }
        let tabulars = self.tabulars.iter().filter(|(_, entries)| has(entries)).map(|(id, _)| *id);
        (keys, tabulars.collect())
    }

    /// Returns the grants on the table, view or function of a path.
    fn leaf(&self, on: &ResourcePath<'_>) -> Option<&Entries> {
        match on.leaf()? {
            Leaf::Table { id, .. } | Leaf::View { id, .. } => self.tabulars.get(&id),
            Leaf::Function { name } => {
                let (warehouse, _) = on.warehouse_part()?;
                self.warehouses.get(&warehouse)?.functions.get(on.namespace_part()?)?.get(name)
            }
        }
    }

    /// Iterates over the holders of grants on the server, with their privileges.
    pub(crate) fn on_server(&self) -> impl Iterator<Item = (MemberId, PrivilegeSet)> {
        self.server.holders.iter().copied().zip(self.server.granted.iter().map(|(privileges, _)| *privileges))
    }
}
