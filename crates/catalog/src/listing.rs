//! Lists of namespaces, tables, views and functions, with only what the reader may see.
//!
//! A page is filled before it is cut: every page but the last is full, however much is hidden between its entries. A container that
//! the reader does not see is listed if something in it is seen, and is missing otherwise. Start reading at [`Catalog::list_tables`].

use std::collections::HashSet;

use esker_access::{AUDIT_NAMESPACE, Caller, Privilege, PrivilegeSet, Required, ResourcePath};
use esker_state::{NamespaceRow, TabularKind};
use esker_types::{NamespaceName, TableId};

use crate::authorize::{Named, found, no_such_namespace, require_named};
use crate::{Authority, Catalog, Result};

/// Privileges with which a namespace exists for a reader, because a creation in it would tell. They show nothing that is in it.
const CREATING: Required = Required::any_of(PrivilegeSet::of(&[
    Privilege::CreateNamespace,
    Privilege::CreateTable,
    Privilege::CreateView,
    Privilege::CreateFunction,
    Privilege::Register,
]));

/// Number of entries that are read at once while a list is filtered.
const BATCH: u32 = 2_000;

impl Catalog {
    /// Lists at most `limit` namespaces directly under `parent`, in the order of [`NamespaceName::key`], after the key `after`.
    ///
    /// Without a parent, the outermost namespaces are listed. One that the reader does not see is listed if something in it is seen.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the parent does not exist or the database fails.
    pub async fn list_namespaces(
        &self,
        parent: Option<&NamespaceName>,
        after: &str,
        limit: u32,
        reader: &Authority,
    ) -> Result<Vec<NamespaceName>> {
        let filtered = self.filtered(parent, reader).await?;
        let Some(container) = filtered.filter(|key| !self.sees_all_namespaces(key, reader)) else {
            return self.read_namespaces(parent, after, limit).await;
        };
        let mut list = Filter { after: after.to_owned(), limit, found: Vec::new() };
        let mut within = self.keys_with_seen(reader).await?;
        while list.wants_more() {
            let page = self.read_namespaces(parent, &list.after, BATCH).await?;
            self.add_audit(&mut within, &page, reader).await?;
            list.add(page, NamespaceName::key, |name| self.is_listed(&name.key(), &within, reader));
        }
        if let Some(parent) = parent.filter(|_| list.found.is_empty()) {
            self.require_known(parent, &container, reader).await?;
        }
        Ok(list.found)
    }

    /// Returns the namespaces that the reader sees, or sees something in, nested ones included; parents before children.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn visible_namespaces(&self, reader: &Authority) -> Result<Vec<NamespaceName>> {
        let mut all: Vec<NamespaceName> = self.all_namespaces().await?.into_iter().map(|row| row.name).collect();
        if !self.sees_all_namespaces("", reader) {
            let mut within = self.keys_with_seen(reader).await?;
            self.add_audit(&mut within, &all, reader).await?;
            all.retain(|name| self.is_listed(&name.key(), &within, reader));
        }
        Ok(all)
    }

    /// Lists at most `limit` tables of a namespace, by name, after the name `after`.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the namespace does not exist or the database fails.
    pub async fn list_tables(
        &self,
        namespace: &NamespaceName,
        after: &str,
        limit: u32,
        reader: &Authority,
    ) -> Result<Vec<String>> {
        self.list_tabulars(TabularKind::Table, namespace, (after, limit), reader).await
    }

    /// Lists at most `limit` views of a namespace, by name, after the name `after`.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the namespace does not exist or the database fails.
    pub async fn list_views(
        &self,
        namespace: &NamespaceName,
        after: &str,
        limit: u32,
        reader: &Authority,
    ) -> Result<Vec<String>> {
        self.list_tabulars(TabularKind::View, namespace, (after, limit), reader).await
    }

    /// Lists at most `limit` functions of a namespace, by name, after the name `after`.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the namespace does not exist or the database fails.
    pub async fn list_functions(
        &self,
        namespace: &NamespaceName,
        after: &str,
        limit: u32,
        reader: &Authority,
    ) -> Result<Vec<String>> {
        let Some(container) = self.filtered(Some(namespace), reader).await? else {
            return self.read_functions(namespace, after, limit).await;
        };
        let mut list = Filter { after: after.to_owned(), limit, found: Vec::new() };
        while list.wants_more() {
            let page = self.read_functions(namespace, &list.after, BATCH).await?;
            list.add(page, String::clone, |name| reader.sees(&self.namespace_path(&container).function(name)));
        }
        if list.found.is_empty() {
            self.require_known(namespace, &container, reader).await?;
        }
        Ok(list.found)
    }

    /// Lists tables or views of a namespace: a page after a name, with a limit.
    async fn list_tabulars(
        &self,
        kind: TabularKind,
        namespace: &NamespaceName,
        (after, limit): (&str, u32),
        reader: &Authority,
    ) -> Result<Vec<String>> {
        let Some(container) = self.filtered(Some(namespace), reader).await? else {
            let all = self.read_tabulars(kind, namespace, after, limit).await?;
            return Ok(all.into_iter().map(|(_, name)| name).collect());
        };
        let mut list = Filter { after: after.to_owned(), limit, found: Vec::new() };
        while list.wants_more() {
            let page = self.read_tabulars(kind, namespace, &list.after, BATCH).await?;
            list.add(
                page,
                |(_, name)| name.clone(),
                |entry| reader.sees(&entry_path(self.namespace_path(&container), kind, entry)),
            );
        }
        if list.found.is_empty() {
            self.require_known(namespace, &container, reader).await?;
        }
        Ok(list.found.into_iter().map(|(_, name)| name).collect())
    }

    /// Returns a namespace that the reader sees, or in which the reader sees or may create something.
    ///
    /// Engines load a namespace before its tables. Without this answer, a table that one may read would be out of reach, and
    /// engines would create a namespace that exists before a table in it.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the namespace does not exist, neither it nor anything in it is seen and
    /// nothing may be created in it, or the database fails.
    pub async fn visible_namespace(&self, name: &NamespaceName, reader: &Authority) -> Result<NamespaceRow> {
        let row = self.namespace(name).await?;
        let is_known = {
            let key = row.name.key();
            let on = self.namespace_path(&key);
            !reader.is_decided() || reader.decides(&on, Required::NOTHING) || reader.decides(&on, CREATING)
        };
        if !is_known && !self.sees_within(&row.name, reader).await? {
            self.require_namespace(reader, name, &row, Required::NOTHING)?;
        }
        Ok(row)
    }

    /// Checks that the reader sees a namespace, by its stored key, or sees or may create something in it. An empty list would
    /// tell that it exists.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) with the error of a namespace that does not exist if it is not known, or
    /// if the database fails.
    async fn require_known(&self, namespace: &NamespaceName, key: &str, reader: &Authority) -> Result<()> {
        let on = self.container_path(key);
        if reader.sees(&on) || reader.decides(&on, CREATING) || self.sees_within(&NamespaceName::from_key(key)?, reader).await? {
            return Ok(());
        }
        // The namespace is as if it were not there, and the refusal is recorded.
        require_named(reader, vec![Named::found(self.container_path(key), Required::NOTHING, no_such_namespace(namespace))])
    }

    /// Checks that a namespace is in the reader's lists, by its key. `within` has the keys of those in which something is seen.
    fn is_listed(&self, key: &str, within: &HashSet<String>, reader: &Authority) -> bool {
        within.contains(key) || reader.sees(&self.namespace_path(key))
    }

    /// Returns the keys of the namespaces in which the reader sees something by grants on the thing itself, and of those around them.
    ///
    /// What is seen by a grant on a container is in a namespace that is seen. So the cost grows with the grants, and not with the
    /// number of tables.
    async fn keys_with_seen(&self, reader: &Authority) -> Result<HashSet<String>> {
        let Authority::Caller(caller) = reader else { return Ok(HashSet::new()) };
        if caller.subject().has_permitting_policies() {
            return self.keys_with_seen_by_policies(reader).await;
        }
        let by_own_grants = self.keys_of_own_grants(caller).await?;
        if reader.has_policies() {
            return self.keys_with_seen_despite_policies(by_own_grants, caller, reader).await;
        }
        let mut within = HashSet::new();
        by_own_grants.into_iter().for_each(|key| add_with_outer(&mut within, key));
        Ok(within)
    }

    /// Returns the keys of the namespaces with something on which a grant of the caller is.
    async fn keys_of_own_grants(&self, caller: &Caller) -> Result<Vec<String>> {
        let (keys, tabulars) = caller.subject().seen_by_own_grants(self.warehouse().id);
        let of_tabulars = self.state().namespaces().of_tabulars(self.warehouse(), &tabulars).await?;
        Ok(keys.into_iter().map(str::to_owned).chain(of_tabulars.iter().map(NamespaceName::key)).collect())
    }

    /// Returns what [`Self::keys_with_seen`] returns, for a reader to whom access policies forbid something and permit nothing.
    ///
    /// Only what a grant shows can be seen. So only namespaces with own grants are looked into, and those that a policy hides
    /// and a grant on a container would show.
    async fn keys_with_seen_despite_policies(
        &self,
        mut candidates: Vec<String>,
        caller: &Caller,
        reader: &Authority,
    ) -> Result<HashSet<String>> {
        let mut within = HashSet::new();
        let shows = Required::privilege(Privilege::List);
        for row in self.all_namespaces().await? {
            let key = row.name.key();
            if reader.decides(&self.namespace_path(&key), Required::NOTHING) {
                add_with_outer(&mut within, key);
            } else if caller.subject().is_granted(&self.namespace_path(&key), shows) {
                candidates.push(key);
            }
        }
        for key in candidates {
            // A grant may be on a namespace that was dropped meanwhile.
            let is_seen = !within.contains(&key)
                && found(self.sees_within(&NamespaceName::from_key(&key)?, reader).await)?.unwrap_or_default();
            if is_seen {
                add_with_outer(&mut within, key);
            }
        }
        Ok(within)
    }

    /// Returns what [`Self::keys_with_seen`] returns, for a reader to whom access policies permit something.
    ///
    /// A policy may show or hide anything by its name, so everything in the warehouse is asked about, page by page.
    async fn keys_with_seen_by_policies(&self, reader: &Authority) -> Result<HashSet<String>> {
        let mut within = HashSet::new();
        for kind in [TabularKind::Table, TabularKind::View] {
            let mut last = None;
            loop {
                let page = self.state().tables().page(Some(kind), self.warehouse(), last, BATCH).await?;
                let Some(end) = page.last() else { break };
                last = Some(end.id);
                for row in &page {
                    let key = row.name.namespace.key();
                    if !within.contains(&key) && reader.decides(&self.tabular_path(&key, row), Required::NOTHING) {
                        add_with_outer(&mut within, key);
                    }
                }
            }
        }
        for function in self.state().namespaces().all_functions(self.warehouse()).await? {
            let key = function.namespace.key();
            if !within.contains(&key) && reader.decides(&self.namespace_path(&key).function(&function.name), Required::NOTHING) {
                add_with_outer(&mut within, key);
            }
        }
        for row in self.all_namespaces().await? {
            let key = row.name.key();
            if !within.contains(&key) && reader.decides(&self.namespace_path(&key), Required::NOTHING) {
                add_with_outer(&mut within, key);
            }
        }
        Ok(within)
    }

    /// Adds the key of the audit trail's namespace if it is among `names` and something in it is seen. No grant shows the trail.
    async fn add_audit(&self, within: &mut HashSet<String>, names: &[NamespaceName], reader: &Authority) -> Result<()> {
        for name in names {
            let key = name.key();
            let may_hold = key.eq_ignore_ascii_case(AUDIT_NAMESPACE) && !self.is_listed(&key, within, reader);
            if may_hold && self.sees_within(name, reader).await? {
                within.insert(key);
            }
        }
        Ok(())
    }

    /// Checks that the reader sees something in a namespace, at any depth, by the rules.
    async fn sees_within(&self, namespace: &NamespaceName, reader: &Authority) -> Result<bool> {
        let mut open = vec![namespace.clone()];
        while let Some(namespace) = open.pop() {
            let key = namespace.key();
            for kind in [TabularKind::Table, TabularKind::View] {
                if self.sees_any_tabular(kind, &namespace, &key, reader).await? {
                    return Ok(true);
                }
            }
            if self.sees_any_function(&namespace, &key, reader).await? {
                return Ok(true);
            }
            let inner = self.read_namespaces(Some(&namespace), "", u32::MAX).await?;
            if inner.iter().any(|name| reader.decides(&self.namespace_path(&name.key()), Required::NOTHING)) {
                return Ok(true);
            }
            open.extend(inner);
        }
        Ok(false)
    }

    /// Reads a page of namespaces, whoever may see them.
    async fn read_namespaces(&self, parent: Option<&NamespaceName>, after: &str, limit: u32) -> Result<Vec<NamespaceName>> {
        Ok(self.state().namespaces().list(self.warehouse(), parent, after, limit).await?)
    }

    /// Reads a page of tables or views, whoever may see them.
    async fn read_tabulars(
        &self,
        kind: TabularKind,
        namespace: &NamespaceName,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(TableId, String)>> {
        Ok(self.state().tables().list(kind, self.warehouse(), namespace, after, limit).await?)
    }

    /// Reads a page of functions, whoever may see them.
    async fn read_functions(&self, namespace: &NamespaceName, after: &str, limit: u32) -> Result<Vec<String>> {
        Ok(self.state().namespaces().list_functions(self.warehouse(), namespace, after, limit).await?)
    }

    /// Returns the key of a container whose list needs a filter, empty for the warehouse; `None` if its list needs none.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the namespace does not exist or the database fails.
    async fn filtered(&self, container: Option<&NamespaceName>, reader: &Authority) -> Result<Option<String>> {
        if !reader.is_limited() {
            return Ok(None);
        }
        let key = match container {
            Some(namespace) => self.namespace(namespace).await?.name.key(),
            None => String::new(),
        };
        let sees_all = reader.sees_all_below(&self.container_path(&key));
        Ok(Some(key).filter(|_| !sees_all))
    }

    /// Checks that the reader sees every namespace in a container, by its key.
    ///
    /// The table of the audit trail is the one thing that a privilege on the container does not show, and it is no namespace.
    fn sees_all_namespaces(&self, key: &str, reader: &Authority) -> bool {
        // An access policy may hide a namespace in it.
        reader.has_for_content(&self.container_path(key), Required::privilege(Privilege::List))
    }

    /// Returns the path to a namespace by its key, or to the warehouse for an empty one.
    fn container_path<'a>(&'a self, key: &'a str) -> ResourcePath<'a> {
        if key.is_empty() { self.warehouse_path() } else { self.namespace_path(key) }
    }

    /// Checks that the reader sees a table or view of a namespace, by the rules.
    async fn sees_any_tabular(
        &self,
        kind: TabularKind,
        namespace: &NamespaceName,
        key: &str,
        reader: &Authority,
    ) -> Result<bool> {
        let mut after = String::new();
        loop {
            let page = self.read_tabulars(kind, namespace, &after, BATCH).await?;
            if page.iter().any(|entry| reader.decides(&entry_path(self.namespace_path(key), kind, entry), Required::NOTHING)) {
                return Ok(true);
            }
            match page.into_iter().next_back() {
                Some((_, last)) => after = last,
                None => return Ok(false),
            }
        }
    }

    /// Checks that the reader sees a function of a namespace, by the rules.
    async fn sees_any_function(&self, namespace: &NamespaceName, key: &str, reader: &Authority) -> Result<bool> {
        let all = self.read_functions(namespace, "", u32::MAX).await?;
        Ok(all.iter().any(|name| reader.decides(&self.namespace_path(key).function(name), Required::NOTHING)))
    }
}

/// Adds the key of a namespace, and those of the namespaces around it.
fn add_with_outer(keys: &mut HashSet<String>, key: String) {
    keys.extend(key.match_indices(NamespaceName::SEPARATOR).map(|(end, _)| key[..end].to_owned()));
    keys.insert(key);
}

/// Returns the path to a listed table or view.
fn entry_path<'a>(namespace: ResourcePath<'a>, kind: TabularKind, (id, name): &'a (TableId, String)) -> ResourcePath<'a> {
    match kind {
        TabularKind::Table => namespace.table(*id, name),
        TabularKind::View => namespace.view(*id, name),
    }
}

/// A list that is filled from batches until it has its entries, or there are no more.
struct Filter<T> {
    /// Name after which the next batch begins.
    after: String,
    limit: u32,
    found: Vec<T>,
}

impl<T> Filter<T> {
    /// Checks that another batch must be read. A full list, and one whose last batch was not full, needs none.
    const fn wants_more(&self) -> bool {
        self.limit > 0
    }

    /// Adds the entries of a batch that are seen.
    fn add(&mut self, batch: Vec<T>, name: impl Fn(&T) -> String, sees: impl Fn(&T) -> bool) {
        let is_last = batch.len() < BATCH as usize;
        if let Some(last) = batch.last() {
            self.after = name(last);
        }
        for entry in batch {
            if self.limit > 0 && sees(&entry) {
                self.found.push(entry);
                self.limit -= 1;
            }
        }
        if is_last {
            self.limit = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(range: std::ops::Range<u32>) -> Vec<u32> {
        range.collect()
    }

    #[test]
    fn a_page_is_full_however_much_is_hidden() {
        let mut list = Filter { after: String::new(), limit: 3, found: Vec::new() };
        list.add(numbers(0..BATCH), u32::to_string, |n| *n == BATCH - 1);
        assert!(list.wants_more(), "one of three is found");
        assert_eq!(list.after, (BATCH - 1).to_string());
        list.add(numbers(BATCH..2 * BATCH), u32::to_string, |n| n % 2 == 0);
        assert!(!list.wants_more());
        assert_eq!(list.found, [BATCH - 1, BATCH, BATCH + 2]);
    }

    #[test]
    fn a_batch_that_is_not_full_ends_the_list() {
        let mut list = Filter { after: "x".to_owned(), limit: u32::MAX, found: Vec::new() };
        list.add(numbers(0..5), u32::to_string, |n| *n > 3);
        assert!(!list.wants_more());
        assert_eq!(list.found, [4]);
        let mut empty: Filter<u32> = Filter { after: "x".to_owned(), limit: 1, found: Vec::new() };
        empty.add(Vec::new(), u32::to_string, |_| true);
        assert!(!empty.wants_more() && empty.found.is_empty());
        assert_eq!(empty.after, "x");
    }
}
