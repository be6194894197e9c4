//! Namespaces, and the SQL functions in them.
//!
//! Each name is stored twice: as it was given, and as a key by which it is compared ([`Warehouse::full_key`]).

mod functions;

use std::collections::{BTreeMap, BTreeSet};

use esker_access::Securable;
use esker_types::{NamespaceName, TableId};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use crate::access::{add_rights_of_new, forget_namespace};
use crate::batch::{ROWS, placeholders};
use crate::{Outbox, Result, State, StateError, Warehouse, flag};

/// A namespace with its properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceRow {
    /// The name of the namespace.
    pub name: NamespaceName,
    /// The properties that clients stored with the namespace.
    pub properties: BTreeMap<String, String>,
    /// The namespace can't be dropped.
    pub protected: bool,
}

/// Returns the row number of a namespace, in a transaction that changes something in it.
///
/// # Errors
///
/// Returns [`NoSuchNamespace`](StateError::NoSuchNamespace) if the namespace does not exist, and [`Sql`](StateError::Sql) if the
/// database does not answer.
pub(crate) async fn namespace_id(tx: &mut Transaction<'_, Any>, warehouse: Warehouse, name: &NamespaceName) -> Result<i64> {
    let found: Option<i64> = sqlx::query_scalar("SELECT id FROM namespace WHERE warehouse_id = $1 AND name_key = $2")
        .bind(warehouse.id)
        .bind(warehouse.namespace_key(name))
        .fetch_optional(&mut **tx)
        .await?;
    found.ok_or_else(|| StateError::NoSuchNamespace(name.to_string()))
}

/// Inserts a namespace. Returns false if it exists.
async fn insert(tx: &mut Transaction<'_, Any>, warehouse: Warehouse, namespace: &NamespaceRow) -> Result<bool> {
    let done = sqlx::query(
        "INSERT INTO namespace (warehouse_id, name, name_key, parent, properties) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
    )
    .bind(warehouse.id)
    .bind(namespace.name.key())
    .bind(warehouse.namespace_key(&namespace.name))
    .bind(namespace.name.parent().map(|p| warehouse.namespace_key(&p)).unwrap_or_default())
    .bind(serde_json::to_string(&namespace.properties)?)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Copies the grants on future namespaces to a new one.
async fn add_rights(tx: &mut Transaction<'_, Any>, warehouse: Warehouse, name: &NamespaceName) -> Result<()> {
    let on = Securable::Namespace { warehouse: warehouse.id, namespace: name.clone() };
    add_rights_of_new(tx, warehouse, name.parent().as_ref(), &on, None).await
}

/// The handle for the namespaces and SQL functions.
#[derive(Debug, Clone, Copy)]
pub struct Namespaces<'a> {
    pub(crate) state: &'a State,
}

impl Namespaces<'_> {
    /// Creates a namespace, and every namespace around it that does not exist, in one transaction.
    ///
    /// `outbox` is written with the namespace, the outbox that `made` returns with each namespace around it.
    ///
    /// # Errors
    ///
    /// Returns [`AlreadyExists`](StateError::AlreadyExists) if the namespace exists, and [`DuplicateKey`](StateError::DuplicateKey)
    /// if another request with the same idempotency key was carried out. Returns [`Ambiguous`](StateError::Ambiguous) if the
    /// commit was sent but not confirmed, and [`Fenced`](StateError::Fenced), [`Full`](StateError::Full) or
    /// [`Sql`](StateError::Sql) if nothing was written.
    pub async fn create(
        self,
        warehouse: Warehouse,
        namespace: &NamespaceRow,
        outbox: &Outbox,
        made: impl Fn(&NamespaceName) -> Outbox + Send,
    ) -> Result<()> {
        let mut around: Vec<NamespaceName> = std::iter::successors(namespace.name.parent(), NamespaceName::parent).collect();
        around.reverse();
        let mut tx = self.state.begin().await?;
        for name in around {
            let outer = NamespaceRow { name, properties: BTreeMap::new(), protected: false };
            if insert(&mut tx, warehouse, &outer).await? {
                add_rights(&mut tx, warehouse, &outer.name).await?;
                made(&outer.name).insert(&mut tx).await?;
            }
        }
        if !insert(&mut tx, warehouse, namespace).await? {
            return Err(StateError::AlreadyExists { kind: "Namespace", name: namespace.name.to_string() });
        }
        add_rights(&mut tx, warehouse, &namespace.name).await?;
        outbox.insert(&mut tx).await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(())
    }

    /// Returns a namespace.
    ///
    /// # Errors
    ///
    /// Returns [`NoSuchNamespace`](StateError::NoSuchNamespace) if the namespace does not exist. Returns [`Sql`](StateError::Sql)
    /// if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value can't be read.
    pub async fn get(self, warehouse: Warehouse, name: &NamespaceName) -> Result<NamespaceRow> {
        let row = sqlx::query("SELECT name, properties, protected FROM namespace WHERE warehouse_id = $1 AND name_key = $2")
            .bind(warehouse.id)
            .bind(warehouse.namespace_key(name))
            .fetch_optional(&self.state.readers)
            .await?;
        namespace_row(&row.ok_or_else(|| StateError::NoSuchNamespace(name.to_string()))?)
    }

    /// Returns a page of the namespaces directly under `parent`, or of the outermost ones without it.
    ///
    /// At most `limit` are returned, ordered by their keys, after the name `after`.
    ///
    /// # Errors
    ///
    /// Returns [`NoSuchNamespace`](StateError::NoSuchNamespace) if `parent` does not exist. Returns [`Sql`](StateError::Sql) if the
    /// database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value can't be read.
    pub async fn list(
        self,
        warehouse: Warehouse,
        parent: Option<&NamespaceName>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<NamespaceName>> {
        if let Some(parent) = parent {
            self.get(warehouse, parent).await?;
        }
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT name FROM namespace WHERE warehouse_id = $1 AND parent = $2 AND name_key > $3 ORDER BY name_key LIMIT $4",
        )
        .bind(warehouse.id)
        .bind(parent.map(|p| warehouse.namespace_key(p)).unwrap_or_default())
        .bind(warehouse.key(after))
        .bind(i64::from(limit))
        .fetch_all(&self.state.readers)
        .await?;
        parse_names(names)
    }

    /// Returns every namespace of a warehouse, nested ones included, each after the ones around it.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn all(self, warehouse: Warehouse) -> Result<Vec<NamespaceRow>> {
        let rows = sqlx::query("SELECT name, properties, protected FROM namespace WHERE warehouse_id = $1 ORDER BY name_key")
            .bind(warehouse.id)
            .fetch_all(&self.state.readers)
            .await?;
        rows.iter().map(namespace_row).collect()
    }

    /// Returns the namespaces of a warehouse in which some tables and views lie. Ids of what does not exist there are left out.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn of_tabulars(self, warehouse: Warehouse, ids: &[TableId]) -> Result<Vec<NamespaceName>> {
        let mut names = BTreeSet::new();
        for ids in ids.chunks(ROWS) {
            let sql = format!(
                "SELECT DISTINCT n.name FROM tabular t JOIN namespace n ON n.id = t.namespace_id
                 WHERE n.warehouse_id = $1 AND t.id IN ({})",
                placeholders(2, ids.len())
            );
            let query = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(sql)).bind(warehouse.id);
            let query = ids.iter().fold(query, |query, id| query.bind(id.to_string()));
            names.extend(query.fetch_all(&self.state.readers).await?);
        }
        parse_names(names.into_iter().collect())
    }

    /// Changes the properties of a namespace in one transaction, and returns those from before.
    ///
    /// `change` takes the present properties, and returns the new ones with the outbox to write with them.
    ///
    /// # Errors
    ///
    /// - Returns [`NoSuchNamespace`](StateError::NoSuchNamespace) if the namespace does not exist, and
    ///   [`Corrupt`](StateError::Corrupt) if its stored properties can't be read.
    /// - Returns [`DuplicateKey`](StateError::DuplicateKey) if another request with the same idempotency key was carried out.
    /// - Returns [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and
    ///   [`Fenced`](StateError::Fenced), [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing was written.
    pub async fn update(
        self,
        warehouse: Warehouse,
        name: &NamespaceName,
        change: impl FnOnce(&BTreeMap<String, String>) -> (BTreeMap<String, String>, Outbox) + Send,
    ) -> Result<BTreeMap<String, String>> {
        let mut tx = self.state.begin().await?;
        let id = namespace_id(&mut tx, warehouse, name).await?;
        let text: String =
            sqlx::query_scalar("SELECT properties FROM namespace WHERE id = $1").bind(id).fetch_one(&mut *tx).await?;
        let before: BTreeMap<String, String> = serde_json::from_str(&text)?;
        let (after, outbox) = change(&before);
        sqlx::query("UPDATE namespace SET properties = $2 WHERE id = $1")
            .bind(id)
            .bind(serde_json::to_string(&after)?)
            .execute(&mut *tx)
            .await?;
        outbox.insert(&mut tx).await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(before)
    }

    /// Drops an empty namespace.
    ///
    /// # Errors
    ///
    /// - Returns [`NoSuchNamespace`](StateError::NoSuchNamespace) if the namespace does not exist,
    ///   [`Protected`](StateError::Protected) if it is protected, and [`NotEmpty`](StateError::NotEmpty) if it contains a table,
    ///   view, function or namespace.
    /// - Returns [`DuplicateKey`](StateError::DuplicateKey) if another request with the same idempotency key was carried out.
    /// - Returns [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and
    ///   [`Fenced`](StateError::Fenced), [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing was written.
    pub async fn drop(self, warehouse: Warehouse, name: &NamespaceName, outbox: &Outbox) -> Result<()> {
        let mut tx = self.state.begin().await?;
        let id = namespace_id(&mut tx, warehouse, name).await?;
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM tabular WHERE namespace_id = $1)
                  + (SELECT count(*) FROM sql_function WHERE namespace_id = $1)
                  + (SELECT count(*) FROM namespace WHERE warehouse_id = $2 AND parent = $3),
                    (SELECT protected FROM namespace WHERE id = $1), (SELECT name FROM namespace WHERE id = $1)",
        )
        .bind(id)
        .bind(warehouse.id)
        .bind(warehouse.namespace_key(name))
        .fetch_one(&mut *tx)
        .await?;
        if flag(&row, 1)? {
            return Err(StateError::Protected { kind: "namespace", name: name.to_string() });
        }
        if row.try_get::<i64, _>(0)? > 0 {
            return Err(StateError::NotEmpty(name.to_string()));
        }
        let stored: String = row.try_get(2)?;
        sqlx::query("DELETE FROM namespace WHERE id = $1").bind(id).execute(&mut *tx).await?;
        forget_namespace(&mut tx, warehouse, &stored).await?;
        outbox.insert(&mut tx).await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(())
    }

    /// Protects a namespace from being dropped, or lifts the protection.
    ///
    /// # Errors
    ///
    /// Returns [`NoSuchNamespace`](StateError::NoSuchNamespace) if the namespace does not exist, and
    /// [`DuplicateKey`](StateError::DuplicateKey) if another request with the same idempotency key was carried out. Returns
    /// [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing was written.
    pub async fn protect(self, warehouse: Warehouse, name: &NamespaceName, protected: bool, outbox: &Outbox) -> Result<()> {
        let mut tx = self.state.begin().await?;
        let id = namespace_id(&mut tx, warehouse, name).await?;
        sqlx::query("UPDATE namespace SET protected = $2 WHERE id = $1")
            .bind(id)
            .bind(i64::from(protected))
            .execute(&mut *tx)
            .await?;
        outbox.insert(&mut tx).await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(())
    }
}

/// Reads a namespace from its name, properties and protection.
fn namespace_row(row: &AnyRow) -> Result<NamespaceRow> {
    let name = NamespaceName::from_key(row.try_get(0)?).map_err(|e| StateError::Corrupt(e.to_string()))?;
    Ok(NamespaceRow { name, properties: serde_json::from_str(row.try_get(1)?)?, protected: flag(row, 2)? })
}

/// Reads the names of namespaces as they are stored.
fn parse_names(names: Vec<String>) -> Result<Vec<NamespaceName>> {
    names.iter().map(|n| NamespaceName::from_key(n).map_err(|e| StateError::Corrupt(e.to_string()))).collect()
}
