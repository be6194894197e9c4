use std::collections::BTreeMap;

use esker_types::NamespaceName;
use sqlx::Row;

use crate::{Result, State, StateError};

/// A warehouse's row.
pub type WarehouseId = i64;

/// A namespace with its properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceRow {
    /// Its name.
    pub name: NamespaceName,
    /// What clients stored with it.
    pub properties: BTreeMap<String, String>,
}

impl State {
    /// The warehouse of this name, made if it is not there. Its location is fixed when it is made.
    pub async fn ensure_warehouse(&self, name: &str, location: &str) -> Result<(WarehouseId, String)> {
        sqlx::query("INSERT INTO warehouse (name, location) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(location)
            .execute(&self.writer)
            .await?;
        let row = sqlx::query("SELECT id, location FROM warehouse WHERE name = ?1").bind(name).fetch_one(&self.writer).await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    /// Creates a namespace; its parent must exist.
    pub async fn create_namespace(&self, warehouse: WarehouseId, namespace: &NamespaceRow) -> Result<()> {
        let parent = namespace.name.parent();
        let parent_key = parent.as_ref().map(NamespaceName::key).unwrap_or_default();
        let mut tx = self.writer.begin().await?;
        if let Some(parent) = parent {
            let found: Option<i64> = sqlx::query_scalar("SELECT id FROM namespace WHERE warehouse_id = ?1 AND name = ?2")
                .bind(warehouse)
                .bind(&parent_key)
                .fetch_optional(&mut *tx)
                .await?;
            found.ok_or_else(|| StateError::NoSuchNamespace(parent.to_string()))?;
        }
        let done = sqlx::query(
            "INSERT INTO namespace (warehouse_id, name, parent, properties) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (warehouse_id, name) DO NOTHING",
        )
        .bind(warehouse)
        .bind(namespace.name.key())
        .bind(&parent_key)
        .bind(serde_json::to_string(&namespace.properties)?)
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Err(StateError::AlreadyExists { kind: "Namespace", name: namespace.name.to_string() });
        }
        tx.commit().await?;
        Ok(())
    }

    /// One namespace.
    pub async fn namespace(&self, warehouse: WarehouseId, name: &NamespaceName) -> Result<NamespaceRow> {
        let properties: Option<String> =
            sqlx::query_scalar("SELECT properties FROM namespace WHERE warehouse_id = ?1 AND name = ?2")
                .bind(warehouse)
                .bind(name.key())
                .fetch_optional(&self.readers)
                .await?;
        let properties = properties.ok_or_else(|| StateError::NoSuchNamespace(name.to_string()))?;
        Ok(NamespaceRow { name: name.clone(), properties: serde_json::from_str(&properties)? })
    }

    /// The names of the namespaces directly under `parent` (or the outermost), by name, after `after`, at most `limit`.
    pub async fn list_namespaces(
        &self,
        warehouse: WarehouseId,
        parent: Option<&NamespaceName>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<NamespaceName>> {
        if let Some(parent) = parent {
            self.namespace(warehouse, parent).await?;
        }
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT name FROM namespace WHERE warehouse_id = ?1 AND parent = ?2 AND name > ?3 ORDER BY name LIMIT ?4",
        )
        .bind(warehouse)
        .bind(parent.map(NamespaceName::key).unwrap_or_default())
        .bind(after)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        parse_names(names)
    }

    /// Every namespace of the warehouse, nested ones included.
    pub async fn all_namespaces(&self, warehouse: WarehouseId) -> Result<Vec<NamespaceName>> {
        let query = sqlx::query_scalar("SELECT name FROM namespace WHERE warehouse_id = ?1 ORDER BY name").bind(warehouse);
        parse_names(query.fetch_all(&self.readers).await?)
    }

    /// Changes properties in one transaction and returns what was there before.
    pub async fn update_namespace(
        &self,
        warehouse: WarehouseId,
        name: &NamespaceName,
        change: impl FnOnce(&mut BTreeMap<String, String>) + Send,
    ) -> Result<BTreeMap<String, String>> {
        let mut tx = self.writer.begin().await?;
        let row = sqlx::query("SELECT id, properties FROM namespace WHERE warehouse_id = ?1 AND name = ?2")
            .bind(warehouse)
            .bind(name.key())
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| StateError::NoSuchNamespace(name.to_string()))?;
        let (id, text): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        let before: BTreeMap<String, String> = serde_json::from_str(&text)?;
        let mut properties = before.clone();
        change(&mut properties);
        sqlx::query("UPDATE namespace SET properties = ?2 WHERE id = ?1")
            .bind(id)
            .bind(serde_json::to_string(&properties)?)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(before)
    }

    /// Drops an empty namespace.
    pub async fn drop_namespace(&self, warehouse: WarehouseId, name: &NamespaceName) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        let id: Option<i64> = sqlx::query_scalar("SELECT id FROM namespace WHERE warehouse_id = ?1 AND name = ?2")
            .bind(warehouse)
            .bind(name.key())
            .fetch_optional(&mut *tx)
            .await?;
        let id = id.ok_or_else(|| StateError::NoSuchNamespace(name.to_string()))?;
        let inside: i64 = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM iceberg_table WHERE namespace_id = ?1)
                  + (SELECT count(*) FROM namespace WHERE warehouse_id = ?2 AND parent = ?3)",
        )
        .bind(id)
        .bind(warehouse)
        .bind(name.key())
        .fetch_one(&mut *tx)
        .await?;
        if inside > 0 {
            return Err(StateError::NotEmpty(name.to_string()));
        }
        sqlx::query("DELETE FROM namespace WHERE id = ?1").bind(id).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }
}

fn parse_names(names: Vec<String>) -> Result<Vec<NamespaceName>> {
    names.iter().map(|n| NamespaceName::from_key(n).map_err(|e| StateError::Corrupt(e.to_string()))).collect()
}
