//! [`Config::without_secrets`]: the configuration as it may be printed.

use super::Config;

/// The text in place of a secret.
const HIDDEN: &str = "(set)";

impl Config {
    /// Returns the configuration with `(set)` in place of every secret, to be printed.
    ///
    /// A key is a secret if its field is `write_only` in the schema; a test holds the two together. A storage option is a secret if
    /// its name contains `key`, `secret`, `token`, `sas` or `password`.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        let hide = |secret: &mut Option<String>| {
            if secret.is_some() {
                *secret = Some(HIDDEN.to_owned());
            }
        };
        hide(&mut self.auth.token);
        hide(&mut self.state.url);
        hide(&mut self.datahub.token);
        self.events.webhooks.values_mut().for_each(|w| hide(&mut w.token));
        self.events.openlineage.values_mut().for_each(|l| hide(&mut l.token));
        self.traces.headers.values_mut().for_each(|value| HIDDEN.clone_into(value));
        for (key, value) in self.warehouses.values_mut().flat_map(|w| w.storage.iter_mut()) {
            if ["key", "secret", "token", "sas", "password"].iter().any(|part| key.contains(part)) {
                HIDDEN.clone_into(value);
            }
        }
        self
    }
}
