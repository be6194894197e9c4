//! SQL functions. The metadata of a function is a JSON text, stored under the function's name in a namespace.
//!
//! This crate does not read that text; `esker_catalog::functions` checks it. Spec: "SQL UDF".

use esker_access::Securable;
use esker_types::{IdentError, NamespaceName, TableName, now_ms};
use sqlx::{Any, Transaction};

use super::{Namespaces, namespace_id};
use crate::access::{add_rights_of_new, forget_function};
use crate::{Outbox, Result, StateError, Warehouse};

/// Returns the names of a function and of its namespace as they are stored, the namespace first. `None` if it does not exist.
async fn stored_names(tx: &mut Transaction<'_, Any>, namespace: i64, key: &str) -> Result<Option<(String, String)>> {
    let query = sqlx::query_as::<_, (String, String)>(
        "SELECT n.name, f.name FROM sql_function f JOIN namespace n ON n.id = f.namespace_id
         WHERE f.namespace_id = $1 AND f.name_key = $2",
    );
    Ok(query.bind(namespace).bind(key).fetch_optional(&mut **tx).await?)
}

/// Copies the grants on future functions to a new one.
async fn add_rights(tx: &mut Transaction<'_, Any>, warehouse: Warehouse, name: &TableName) -> Result<()> {
    let sql = "SELECT name FROM namespace WHERE warehouse_id = $1 AND name_key = $2";
    let query = sqlx::query_scalar(sql).bind(warehouse.id).bind(warehouse.namespace_key(&name.namespace));
    let stored: String = query.fetch_one(&mut **tx).await?;
    let namespace = NamespaceName::from_key(&stored).map_err(|e| StateError::Corrupt(e.to_string()))?;
    let on = Securable::Function { warehouse: warehouse.id, namespace: namespace.clone(), name: name.name.clone() };
    add_rights_of_new(tx, warehouse, Some(&namespace), &on, None).await
}

impl Namespaces<'_> {
    /// Stores the metadata of a SQL function under a name, and replaces the function that has the name.
    ///
    /// # Errors
    ///
    /// Returns [`NoSuchNamespace`](StateError::NoSuchNamespace) if the namespace does not exist, and
    /// [`DuplicateKey`](StateError::DuplicateKey) if another request with the same idempotency key was carried out. Returns
    /// [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing was written.
    pub async fn put_function(self, warehouse: Warehouse, name: &TableName, metadata: &str, outbox: &Outbox) -> Result<()> {
        let mut tx = self.state.begin().await?;
        let namespace = namespace_id(&mut tx, warehouse, &name.namespace).await?;
        let is_new = stored_names(&mut tx, namespace, &warehouse.key(&name.name)).await?.is_none();
        sqlx::query(
            "INSERT INTO sql_function (namespace_id, name, name_key, metadata, updated_ms) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (namespace_id, name_key) DO UPDATE SET metadata = $4, updated_ms = $5",
        )
        .bind(namespace)
        .bind(&name.name)
        .bind(warehouse.key(&name.name))
        .bind(metadata)
        .bind(now_ms())
        .execute(&mut *tx)
        .await?;
        if is_new {
            add_rights(&mut tx, warehouse, name).await?;
        }
        outbox.insert(&mut tx).await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(())
    }

    /// Returns the metadata of a SQL function, as it was stored.
    ///
    /// # Errors
    ///
    /// Returns [`NoSuchNamespace`](StateError::NoSuchNamespace) if the namespace does not exist, and
    /// [`NoSuchFunction`](StateError::NoSuchFunction) if it has no function of this name. Returns [`Sql`](StateError::Sql) if the
    /// database does not answer, and [`Corrupt`](StateError::Corrupt) if the namespace's stored values can't be read.
    pub async fn function(self, warehouse: Warehouse, name: &TableName) -> Result<String> {
        self.get(warehouse, &name.namespace).await?;
        let found: Option<String> = sqlx::query_scalar(
            "SELECT f.metadata FROM sql_function f JOIN namespace n ON n.id = f.namespace_id
             WHERE n.warehouse_id = $1 AND n.name_key = $2 AND f.name_key = $3",
        )
        .bind(warehouse.id)
        .bind(warehouse.namespace_key(&name.namespace))
        .bind(warehouse.key(&name.name))
        .fetch_optional(&self.state.readers)
        .await?;
        found.ok_or_else(|| StateError::NoSuchFunction(name.to_string()))
    }

    /// Returns the full name of a SQL function as it is stored, for a name in any case if the warehouse compares without case.
    ///
    /// # Errors
    ///
    /// Returns [`NoSuchNamespace`](StateError::NoSuchNamespace) if the namespace does not exist, and
    /// [`NoSuchFunction`](StateError::NoSuchFunction) if it has no function of this name. Returns [`Sql`](StateError::Sql) if the
    /// database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value can't be read.
    pub async fn function_name(self, warehouse: Warehouse, name: &TableName) -> Result<TableName> {
        let namespace = self.get(warehouse, &name.namespace).await?.name;
        let found: Option<String> = sqlx::query_scalar(
            "SELECT f.name FROM sql_function f JOIN namespace n ON n.id = f.namespace_id
             WHERE n.warehouse_id = $1 AND n.name_key = $2 AND f.name_key = $3",
        )
        .bind(warehouse.id)
        .bind(warehouse.namespace_key(&name.namespace))
        .bind(warehouse.key(&name.name))
        .fetch_optional(&self.state.readers)
        .await?;
        let found = found.ok_or_else(|| StateError::NoSuchFunction(name.to_string()))?;
        TableName::new(namespace, found).map_err(|e| StateError::Corrupt(e.to_string()))
    }

    /// Returns a page of the names of a namespace's functions: at most `limit`, ordered by their keys, after the name `after`.
    ///
    /// # Errors
    ///
    /// Returns [`NoSuchNamespace`](StateError::NoSuchNamespace) if the namespace does not exist. Returns [`Sql`](StateError::Sql)
    /// if the database does not answer, and [`Corrupt`](StateError::Corrupt) if the namespace's stored values can't be read.
    pub async fn list_functions(
        self,
        warehouse: Warehouse,
        namespace: &NamespaceName,
        after: &str,
        limit: u32,
    ) -> Result<Vec<String>> {
        self.get(warehouse, namespace).await?;
        let query = sqlx::query_scalar(
            "SELECT name FROM sql_function
             WHERE namespace_id = (SELECT id FROM namespace WHERE warehouse_id = $1 AND name_key = $2)
             AND name_key > $3 ORDER BY name_key LIMIT $4",
        )
        .bind(warehouse.id)
        .bind(warehouse.namespace_key(namespace))
        .bind(warehouse.key(after))
        .bind(i64::from(limit));
        Ok(query.fetch_all(&self.state.readers).await?)
    }

    /// Returns the full names of all SQL functions of a warehouse, as they are stored, in no order.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn all_functions(self, warehouse: Warehouse) -> Result<Vec<TableName>> {
        let query = sqlx::query_as::<_, (String, String)>(
            "SELECT n.name, f.name FROM sql_function f JOIN namespace n ON n.id = f.namespace_id WHERE n.warehouse_id = $1",
        );
        let stored = query.bind(warehouse.id).fetch_all(&self.state.readers).await?;
        let name = |(namespace, name): (String, String)| TableName::new(NamespaceName::from_key(&namespace)?, name);
        let names: std::result::Result<_, IdentError> = stored.into_iter().map(name).collect();
        names.map_err(|e| StateError::Corrupt(e.to_string()))
    }

    /// Removes a SQL function.
    ///
    /// # Errors
    ///
    /// - Returns [`NoSuchNamespace`](StateError::NoSuchNamespace) if the namespace does not exist, and
    ///   [`NoSuchFunction`](StateError::NoSuchFunction) if it has no function of this name.
    /// - Returns [`DuplicateKey`](StateError::DuplicateKey) if another request with the same idempotency key was carried out.
    /// - Returns [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and
    ///   [`Fenced`](StateError::Fenced), [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing was written.
    pub async fn drop_function(self, warehouse: Warehouse, name: &TableName, outbox: &Outbox) -> Result<()> {
        let mut tx = self.state.begin().await?;
        let namespace = namespace_id(&mut tx, warehouse, &name.namespace).await?;
        let key = warehouse.key(&name.name);
        let stored = stored_names(&mut tx, namespace, &key).await?;
        let (namespace_name, stored_name) = stored.ok_or_else(|| StateError::NoSuchFunction(name.to_string()))?;
        let delete = sqlx::query("DELETE FROM sql_function WHERE namespace_id = $1 AND name_key = $2").bind(namespace).bind(key);
        delete.execute(&mut *tx).await?;
        forget_function(&mut tx, warehouse, &namespace_name, &stored_name).await?;
        outbox.insert(&mut tx).await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(())
    }
}
