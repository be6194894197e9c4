//! Warehouses, with the rule by which names in them are compared.
//!
//! In a warehouse that ignores case, the key of a name is the name in lower case ([`Warehouse::full_key`]).

mod epochs;

use esker_types::{NamespaceName, TableName};
use sqlx::Row;

pub use self::epochs::Epoch;
pub(crate) use self::epochs::{BACKUP, BEHIND, DATABASE, database_id};
use crate::{Result, State, flag};

/// The row of a warehouse, as the functions of this crate take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Warehouse {
    /// The row number.
    pub id: i64,
    /// Names are compared without case. They keep the case that they were created with.
    pub case_insensitive: bool,
}

impl Warehouse {
    /// Returns the key by which a name is compared.
    pub(crate) fn key(self, name: &str) -> String {
        match self.case_insensitive {
            true => name.to_lowercase(),
            false => name.to_owned(),
        }
    }

    /// Returns the key by which the name of a namespace is compared.
    pub(crate) fn namespace_key(self, name: &NamespaceName) -> String {
        self.key(&name.key())
    }

    /// Returns the keys by which the full name of a table or view is compared: of its namespace, and of its own name.
    pub fn full_key(self, name: &TableName) -> (String, String) {
        (self.namespace_key(&name.namespace), self.key(&name.name))
    }
}

/// The handle for the warehouses and their epochs.
#[derive(Debug, Clone, Copy)]
pub struct Warehouses<'a> {
    pub(crate) state: &'a State,
}

impl Warehouses<'_> {
    /// Returns the names of all warehouses that a server ever entered.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn names(self) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar("SELECT name FROM warehouse ORDER BY name").fetch_all(&self.state.readers).await?)
    }

    /// Returns the warehouse of a name with its location, and creates it if it does not exist.
    ///
    /// Location and comparison of names are fixed when it is created: those of an existing warehouse are returned.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn ensure(self, name: &str, location: &str, case_insensitive: bool) -> Result<(Warehouse, String)> {
        sqlx::query("INSERT INTO warehouse (name, location, case_insensitive) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(location)
            .bind(i64::from(case_insensitive))
            .execute(&self.state.writer)
            .await?;
        let row = sqlx::query("SELECT id, case_insensitive, location FROM warehouse WHERE name = $1")
            .bind(name)
            .fetch_one(&self.state.writer)
            .await?;
        Ok((Warehouse { id: row.try_get(0)?, case_insensitive: flag(&row, 1)? }, row.try_get(2)?))
    }
}
