//! Keys that authenticate what clients carry for the servers: made, rotated by overlap, and encrypted with a master key.
//!
//! Servers hand out texts that clients give back: tickets and handles of Flight SQL, and ids and tasks of scan plans. Each text has a
//! tag by a key of its [`KeyPurpose`], over the text and over whom it is for. So nobody makes or changes such a text, or uses that of
//! another principal. Ids and tasks of plans are encrypted, and so are the messages of servers. All servers of a database share the
//! keys, so each accepts what another one issued, and derives the same secrets.
//!
//! A rotation makes a new key, which signs from then on. The earlier one still verifies until its end. Start reading at
//! [`KeyRing::sign`], then at [`KeyRing::rotate`]; `master.rs` encrypts the keys.

mod key_ring;
mod master;

use std::fmt;
use std::str::FromStr;

use esker_state::SigningKeyRow;
use esker_types::{DAY_MS, DurationMillis, Millis};
use serde::Serialize;

pub use key_ring::{KEYS_SECONDS, KeyRing, RewrappedKeys};
pub use master::{MasterKey, MasterKeys};

/// The time for which a retired key stays in the list, in milliseconds.
const LISTED_AFTER_END_MS: DurationMillis = 30 * DAY_MS;

/// The purpose of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPurpose {
    /// Tickets and prepared handles of Flight SQL.
    Handles,
    /// Ids and tasks of scan plans.
    Plans,
    /// Secrets that every server derives alike: those in forms of readers without a session, and the salts of masks for Trino.
    Secrets,
    /// Messages that servers send to each other.
    Servers,
}

impl KeyPurpose {
    /// All purposes.
    pub const ALL: [Self; 4] = [Self::Handles, Self::Plans, Self::Secrets, Self::Servers];

    /// Returns the name, as the database and the command line have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handles => "handles",
            Self::Plans => "plans",
            Self::Secrets => "secrets",
            Self::Servers => "servers",
        }
    }
}

impl fmt::Display for KeyPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KeyPurpose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|purpose| purpose.name() == text);
        found.ok_or_else(|| format!("{text:?} is no purpose of keys; the purposes are {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// The state of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// The key signs and verifies.
    Active,
    /// Another key signs; this one still verifies.
    Retiring,
    /// The key verifies nothing any more.
    Retired,
}

impl KeyState {
    /// Returns the name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
        }
    }
}

/// A key, without its material.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KeyInfo {
    /// The id of the key, which each tag of the key begins with.
    pub id: String,
    /// The purpose of the key. A later release may have made one that this release does not know.
    pub purpose: String,
    /// The state of the key.
    pub state: KeyState,
    /// The time at which the key was made, in milliseconds since the Unix epoch.
    pub created_ms: Millis,
    /// The time at which another key began to sign, in milliseconds since the Unix epoch; null for the active key.
    pub retiring_ms: Option<Millis>,
    /// The time at which the key verifies nothing any more, in milliseconds since the Unix epoch; null for the active key.
    pub ends_ms: Option<Millis>,
    /// The id of the master key that encrypts the key in the database; null if it is stored as it is.
    pub master_key: Option<String>,
}

impl KeyInfo {
    /// Describes a row at the time `now`.
    fn of(row: SigningKeyRow, now: Millis) -> Self {
        let state = match (row.retiring_ms, row.ends_ms) {
            (None, _) => KeyState::Active,
            (Some(_), Some(end)) if end > now => KeyState::Retiring,
            (Some(_), _) => KeyState::Retired,
        };
        let SigningKeyRow { id, purpose, created_ms, retiring_ms, ends_ms, master_key, .. } = row;
        let master_key = Some(master_key).filter(|id| !id.is_empty());
        Self { id, purpose, state, created_ms, retiring_ms, ends_ms, master_key }
    }
}

#[cfg(test)]
mod tests;
