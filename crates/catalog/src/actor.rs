//! The author of a change, and the outcome that an idempotent request leaves behind.
//!
//! A change writes its event and, if the client may repeat the request, a receipt in its own transaction. A repeated request is
//! answered from the receipt. Spec: REST, header `Idempotency-Key`.

use esker_state::{EventData, NewEvent, NewReceipt, Outbox, Receipt, ReceiptKey, TabularKind, TabularRow};
use esker_types::TableName;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Authority, Catalog, Result};

/// The author of a change: a principal, with the idempotency key and the authority of the request.
///
/// The default is Esker itself, without a name.
#[derive(Debug, Clone, Default)]
pub struct Actor {
    /// Name of the principal, as events have it.
    pub principal: String,
    /// Key of the receipt; set if the client may repeat the request.
    pub receipt: Option<ReceiptKey>,
    /// The one in whose name the change is made, whose privileges it needs.
    pub authority: Authority,
}

impl Actor {
    /// Returns the author of a change that Esker makes itself, named `esker:{what}`.
    pub fn internal(what: &str) -> Self {
        Self::server_for(format!("esker:{what}"))
    }

    /// Returns the author of a change that Esker makes for a principal, whose rights were checked when the change was asked for.
    pub fn server_for(principal: impl Into<String>) -> Self {
        Self { principal: principal.into(), receipt: None, authority: Authority::Server }
    }
}

/// The outcome of a request, as its receipt stores it.
///
/// A large answer is stored as a reference from which it is built again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestOutcome {
    /// An answer without a body.
    NoContent,
    /// A small answer.
    Body(Value),
    /// The table in the state that this metadata file describes.
    Table {
        /// Name of the table at that time.
        name: TableName,
        /// URI of the metadata file.
        metadata_location: String,
    },
    /// The view in the state that this metadata file describes.
    View {
        /// Name of the view at that time.
        name: TableName,
        /// URI of the metadata file.
        metadata_location: String,
    },
    /// A refusal that a repeated request would get again.
    Refused {
        /// HTTP status of the answer.
        status: u16,
        /// Error body of the answer (REST `IcebergErrorResponse`).
        body: Value,
    },
}

impl RequestOutcome {
    /// Returns the outcome that refers to the state that a row points to.
    pub(crate) fn of(row: &TabularRow) -> Self {
        let (name, metadata_location) = (row.name.clone(), row.metadata_location.clone());
        match row.kind {
            TabularKind::Table => Self::Table { name, metadata_location },
            TabularKind::View => Self::View { name, metadata_location },
        }
    }

    /// Serialises the outcome as a receipt stores it.
    pub fn to_json(&self) -> String {
        // Strings and numbers only: serialising can't fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Catalog {
    /// Builds an event of this warehouse.
    pub(crate) fn event(&self, actor: &Actor, subject: &impl ToString, data: EventData) -> NewEvent {
        NewEvent {
            data,
            warehouse: self.options().warehouse.clone(),
            subject: subject.to_string(),
            principal: actor.principal.clone(),
        }
    }

    /// Builds what a change writes to the outbox: one event, and a receipt if the client may repeat the request.
    pub(crate) fn outbox(&self, actor: &Actor, subject: &impl ToString, data: EventData, outcome: &RequestOutcome) -> Outbox {
        let receipts = receipt(actor, outcome).into_iter().collect();
        Outbox { events: vec![self.event(actor, subject, data)], receipts }
    }

    /// Returns the receipt of a request, or `None` if no request with its key was carried out before.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn receipt(&self, key: &ReceiptKey) -> Result<Option<Receipt>> {
        Ok(self.state().outbox().receipt(key).await?)
    }

    /// Writes the receipt of a request that changed nothing.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if another request with the same key was carried out meanwhile, or the
    /// database fails.
    pub async fn record_outcome(&self, key: ReceiptKey, outcome: &RequestOutcome) -> Result<()> {
        Ok(self.state().outbox().insert_receipt(NewReceipt { key, outcome: outcome.to_json() }).await?)
    }
}

/// Builds the receipt of an outcome; `None` if the client may not repeat the request.
pub(crate) fn receipt(actor: &Actor, outcome: &RequestOutcome) -> Option<NewReceipt> {
    actor.receipt.clone().map(|key| NewReceipt { key, outcome: outcome.to_json() })
}
