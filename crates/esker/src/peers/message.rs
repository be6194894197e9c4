//! What servers send each other, as JSON, and the key that encrypts it.
//!
//! A commit is sent as its client sent it, with its caller and its receipt key. The receiver decides by its own rules what the caller
//! may do. An answer has the id of its message among the authenticated data, so it answers no other one.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use esker_access::{Caller, Identity, RequestFacts};
use esker_auth::{KeyPurpose, KeyRing};
use esker_catalog::Forwarded;
use esker_format::{TableRequirement, TableUpdate};
use esker_state::{ReceiptKey, Warehouse};
use esker_table::MergeClass;
use esker_types::{ErrorCode, Millis, TableId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Error, Result};

/// The authenticated data of a commit. Another form of the message needs another number.
const COMMIT: &[u8] = b"commit 1";

/// The authenticated data of an answer, beside the id of the message that it answers.
const ANSWER: &[u8] = b"answer 1";

/// A commit that is sent to the server that holds the lease of its table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct CommitMessage<'a> {
    /// The id of the message, which counts once.
    pub(super) id: Uuid,
    /// The process that sends it.
    pub(super) sender: Uuid,
    /// The process that it is for.
    pub(super) receiver: Uuid,
    /// The time of the sender, in milliseconds since the Unix epoch.
    pub(super) sent_ms: Millis,
    /// The term of the lease.
    pub(super) term: i64,
    /// The number of the warehouse in the database.
    pub(super) warehouse: i64,
    /// The table.
    pub(super) table: TableId,
    /// Who sent the request.
    pub(super) caller: MessageCaller,
    /// The name of the principal, as events have it.
    pub(super) principal: String,
    /// The key of the receipt.
    pub(super) receipt: MessageReceipt,
    /// The requirements of the commit.
    pub(super) requirements: Cow<'a, [TableRequirement]>,
    /// The updates of the commit.
    pub(super) updates: Cow<'a, [TableUpdate]>,
}

/// The caller of a request with its facts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct MessageCaller {
    identity: MessageIdentity,
    operation: Arc<str>,
    source_ip: Option<IpAddr>,
    engine: Option<Arc<str>>,
    is_tls: bool,
}

/// An identity, as the authentication at the sender found it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum MessageIdentity {
    /// A person or service that an identity provider knows.
    User { issuer: Arc<str>, name: Arc<str>, claims: Vec<Arc<str>> },
    /// A client that the servers know themselves.
    Client { name: Arc<str> },
    /// A caller without a token.
    Anonymous,
}

/// A receipt key without its warehouse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct MessageReceipt {
    principal: String,
    operation: String,
    key: Uuid,
    body_sha256: String,
}

/// The answer to a commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub(super) enum AnswerMessage {
    /// The commit was made.
    Committed {
        /// The URI of the metadata file after the batch.
        metadata_location: String,
        /// The number of commits in the batch.
        batch: usize,
        /// The name of the class of a merged commit.
        merged: Option<String>,
    },
    /// The commit was certainly not made.
    Refused {
        /// The code of the error.
        code: ErrorCode,
        /// The text of the error.
        message: String,
    },
    /// The receiver does not hold the lease in this term any more.
    Ended,
    /// The receiver does not know what became of the commit.
    Unknown {
        /// The reason.
        reason: String,
    },
}

impl MessageCaller {
    /// Takes what another server needs of a caller.
    pub(super) fn of(caller: &Caller) -> Self {
        let identity = match caller.subject().identity() {
            Identity::User { issuer, name, claims } => {
                MessageIdentity::User { issuer: issuer.clone(), name: name.clone(), claims: claims.clone() }
            }
            Identity::Client { name } => MessageIdentity::Client { name: name.clone() },
            Identity::Anonymous => MessageIdentity::Anonymous,
        };
        let RequestFacts { operation, source_ip, engine, is_tls } = caller.facts().clone();
        Self { identity, operation, source_ip, engine, is_tls }
    }

    /// Returns the identity and the facts of the request.
    pub(super) fn into_parts(self) -> (Identity, RequestFacts) {
        let identity = match self.identity {
            MessageIdentity::User { issuer, name, claims } => Identity::User { issuer, name, claims },
            MessageIdentity::Client { name } => Identity::Client { name },
            MessageIdentity::Anonymous => Identity::Anonymous,
        };
        let Self { operation, source_ip, engine, is_tls, .. } = self;
        (identity, RequestFacts { operation, source_ip, engine, is_tls })
    }
}

impl MessageReceipt {
    /// Takes a receipt key.
    pub(super) fn of(key: &ReceiptKey) -> Self {
        let ReceiptKey { principal, operation, key, body_sha256, .. } = key.clone();
        Self { principal, operation, key, body_sha256 }
    }

    /// Returns the receipt key in a warehouse.
    pub(super) fn into_key(self, warehouse: Warehouse) -> ReceiptKey {
        let Self { principal, operation, key, body_sha256 } = self;
        ReceiptKey { warehouse, principal, operation, key, body_sha256 }
    }
}

impl From<Forwarded> for AnswerMessage {
    fn from(answer: Forwarded) -> Self {
        match answer {
            Forwarded::Committed { metadata_location, batch, merged } => {
                Self::Committed { metadata_location, batch, merged: merged.map(|class| class.name().to_owned()) }
            }
            Forwarded::Refused { code, message } => Self::Refused { code, message },
            Forwarded::Ended => Self::Ended,
            Forwarded::Unanswered(reason) => Self::Unknown { reason },
        }
    }
}

impl From<AnswerMessage> for Forwarded {
    fn from(answer: AnswerMessage) -> Self {
        match answer {
            AnswerMessage::Committed { metadata_location, batch, merged } => {
                let merged = merged.and_then(|name| MergeClass::ALL.into_iter().find(|class| class.name() == name));
                Self::Committed { metadata_location, batch, merged }
            }
            AnswerMessage::Refused { code, message } => Self::Refused { code, message },
            AnswerMessage::Ended => Self::Ended,
            AnswerMessage::Unknown { reason } => Self::Unanswered(reason),
        }
    }
}

/// Encrypts a value for the other servers, with authenticated data.
///
/// # Errors
///
/// Returns [`Encode`](Error::Encode) if the value can't be written as JSON, and [`Auth`](Error::Auth) if the servers' keys can't be
/// used.
async fn seal(keys: &KeyRing, data: &[&[u8]], value: &impl Serialize) -> Result<String> {
    Ok(keys.encrypt(KeyPurpose::Servers, data, &serde_json::to_vec(value)?).await?)
}

/// Decrypts what [`seal`] made with the same data.
///
/// # Errors
///
/// Returns [`Remote`](Error::Remote) if no key of the servers made it with this data, or it has another form, and
/// [`Auth`](Error::Auth) if the keys can't be used.
async fn open<T: DeserializeOwned>(keys: &KeyRing, data: &[&[u8]], sealed: &[u8]) -> Result<T> {
    let text = std::str::from_utf8(sealed).map_err(|error| Error::Remote(error.to_string()))?;
    let opened = keys.decrypt(KeyPurpose::Servers, data, text.trim_ascii()).await?;
    let json = opened.ok_or_else(|| Error::Remote("no present key of the servers made it".to_owned()))?;
    serde_json::from_slice(&json).map_err(|error| Error::Remote(error.to_string()))
}

impl CommitMessage<'_> {
    /// Encrypts the message.
    ///
    /// # Errors
    ///
    /// Returns [`Encode`](Error::Encode) if the message can't be written as JSON, and [`Auth`](Error::Auth) if the servers' keys
    /// can't be used.
    pub(super) async fn seal(&self, keys: &KeyRing) -> Result<String> {
        seal(keys, &[COMMIT], self).await
    }

    /// Decrypts a message.
    ///
    /// # Errors
    ///
    /// Returns [`Remote`](Error::Remote) if it is no message of a server, and [`Auth`](Error::Auth) if the keys can't be used.
    pub(super) async fn open(keys: &KeyRing, sealed: &[u8]) -> Result<CommitMessage<'static>> {
        open(keys, &[COMMIT], sealed).await
    }
}

impl AnswerMessage {
    /// Encrypts the answer to a message.
    ///
    /// # Errors
    ///
    /// Returns [`Encode`](Error::Encode) if the answer can't be written as JSON, and [`Auth`](Error::Auth) if the servers' keys can't
    /// be used.
    pub(super) async fn seal(&self, keys: &KeyRing, message: Uuid) -> Result<String> {
        seal(keys, &[ANSWER, message.as_bytes()], self).await
    }

    /// Decrypts the answer to a message.
    ///
    /// # Errors
    ///
    /// Returns [`Remote`](Error::Remote) if it is no answer of a server to this message, and [`Auth`](Error::Auth) if the keys can't
    /// be used.
    pub(super) async fn open(keys: &KeyRing, message: Uuid, sealed: &[u8]) -> Result<Self> {
        open(keys, &[ANSWER, message.as_bytes()], sealed).await
    }
}
