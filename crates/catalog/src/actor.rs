//! Who changes something and under which idempotency key, and what is recorded of it.

use esker_state::{NewEvent, NewReceipt, Outbox, ReceiptKey, TableRow, TabularKind};
use esker_types::TableName;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Catalog, LoadedTable, LoadedView, Result};

/// Who makes a change.
#[derive(Debug, Clone, Default)]
pub struct Actor {
    /// The principal, for the out-box.
    pub principal: String,
    /// Set if the client may repeat the request.
    pub receipt: Option<ReceiptKey>,
}

impl Actor {
    /// A change of Esker's own.
    pub fn internal(what: &str) -> Self {
        Self { principal: format!("esker:{what}"), receipt: None }
    }
}

/// What a request came to, as its receipt keeps it. Large answers are kept as where they come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestOutcome {
    /// An answer without a body.
    NoContent,
    /// A small answer.
    Body(Value),
    /// The table as it was with this metadata file.
    Table {
        /// Its name then.
        name: TableName,
        /// The metadata file.
        metadata_location: String,
    },
    /// The view as it was with this metadata file.
    View {
        /// Its name then.
        name: TableName,
        /// The metadata file.
        metadata_location: String,
    },
    /// Refused for good: the same request would be refused again.
    Refused {
        /// HTTP status.
        status: u16,
        /// The error envelope.
        body: Value,
    },
}

impl RequestOutcome {
    /// The table or view as a row points at it.
    pub(crate) fn of(row: &TableRow) -> Self {
        let (name, metadata_location) = (row.name.clone(), row.metadata_location.clone());
        match row.kind {
            TabularKind::Table => Self::Table { name, metadata_location },
            TabularKind::View => Self::View { name, metadata_location },
        }
    }

    /// As it is stored.
    pub fn to_json(&self) -> String {
        // Strings and numbers only: serialising can't fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Catalog {
    /// An event of this warehouse.
    pub(crate) fn event(&self, actor: &Actor, kind: &'static str, subject: &impl ToString, data: Value) -> NewEvent {
        NewEvent {
            kind,
            warehouse: self.options().warehouse.clone(),
            subject: subject.to_string(),
            principal: actor.principal.clone(),
            data,
        }
    }

    /// What goes along with a change: one event and the receipt, if the client wants one.
    pub(crate) fn outbox(
        &self,
        actor: &Actor,
        kind: &'static str,
        subject: &impl ToString,
        data: Value,
        outcome: &RequestOutcome,
    ) -> Outbox {
        let receipts = receipt(actor, outcome).into_iter().collect();
        Outbox { events: vec![self.event(actor, kind, subject, data)], receipts }
    }

    /// A table as it was with a metadata file; as it is now if that file is gone.
    pub async fn table_at(&self, name: &TableName, metadata_location: &str) -> Result<LoadedTable> {
        let row = self.state().table(self.warehouse(), name).await?;
        let then = TableRow { metadata_location: metadata_location.to_owned(), ..row };
        match self.load_row(then).await {
            Ok(table) => Ok(table),
            Err(_) => self.load(name).await,
        }
    }

    /// A view as it was with a metadata file; as it is now if that file is gone.
    pub async fn view_at(&self, name: &TableName, metadata_location: &str) -> Result<LoadedView> {
        let row = self.state().view(self.warehouse(), name).await?;
        let then = TableRow { metadata_location: metadata_location.to_owned(), ..row };
        match self.load_view_row(then).await {
            Ok(view) => Ok(view),
            Err(_) => self.load_view(name).await,
        }
    }
}

pub(crate) fn receipt(actor: &Actor, outcome: &RequestOutcome) -> Option<NewReceipt> {
    actor.receipt.clone().map(|key| NewReceipt { key, outcome: outcome.to_json() })
}
