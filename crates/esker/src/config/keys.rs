//! The section `[keys]`: the master keys that encrypt the keys in the database.

use esker_auth::{AuthError, MasterKey, MasterKeys};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Error, Result};

/// The section `[keys]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeysConfig {
    /// The key that encrypts the keys in the database: 32 random bytes, as 64 hexadecimal digits or in base64. All servers of a
    /// database need the same. Default: keys are stored as they are.
    #[schema(write_only)]
    pub master_key: Option<String>,
    /// Another master key, which only decrypts, while the master key is rotated.
    #[schema(write_only)]
    pub previous_master_key: Option<String>,
}

impl KeysConfig {
    pub(super) fn check(&self) -> Result<()> {
        self.masters().map(drop)
    }

    /// Returns the master keys.
    ///
    /// # Errors
    ///
    /// Returns [`Config`](Error::Config) if a text is no master key.
    pub(crate) fn masters(&self) -> Result<MasterKeys> {
        let read = |key: &str, text: &Option<String>| -> Result<Option<MasterKey>> {
            let wrong = |error: AuthError| Error::Config(format!("keys.{key}: {error}"));
            text.as_deref().map(MasterKey::parse).transpose().map_err(wrong)
        };
        Ok(MasterKeys {
            current: read("master_key", &self.master_key)?,
            previous: read("previous_master_key", &self.previous_master_key)?,
        })
    }
}
