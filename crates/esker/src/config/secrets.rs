//! [`Config::without_secrets`]: the configuration as it may be printed.

use esker_report::shown_url;

use super::Config;

/// The text in place of a secret.
const HIDDEN: &str = "(set)";

impl Config {
    /// Returns the configuration with `(set)` in place of every secret, to be printed.
    ///
    /// A key is a secret if its field is `write_only` in the schema; a test holds the two together. An option of a storage
    /// or a property for clients is a secret if its name contains `key`, `secret`, `token`, `sas`, `password` or `credential`. URLs of
    /// receivers are [shown](shown_url) without what may be one.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        let hide = |secret: &mut Option<String>| {
            if secret.is_some() {
                *secret = Some(HIDDEN.to_owned());
            }
        };
        hide(&mut self.auth.token);
        hide(&mut self.state.url);
        self.auth.oidc.values_mut().for_each(|provider| hide(&mut provider.login.client_secret));
        hide(&mut self.datahub.token);
        hide(&mut self.keys.master_key);
        hide(&mut self.keys.previous_master_key);
        self.events.webhooks.values_mut().for_each(|w| hide(&mut w.token));
        self.events.openlineage.values_mut().for_each(|l| hide(&mut l.token));
        let urls =
            self.events.webhooks.values_mut().map(|w| &mut w.url).chain(self.events.openlineage.values_mut().map(|l| &mut l.url));
        urls.chain(&mut self.datahub.url).chain(&mut self.traces.url).for_each(|url| *url = shown_url(url));
        self.traces.headers.values_mut().for_each(|value| HIDDEN.clone_into(value));
        for (key, value) in self.warehouses.values_mut().flat_map(|w| w.storage.iter_mut().chain(w.client.iter_mut())) {
            let key = key.to_lowercase();
            if ["key", "secret", "token", "sas", "password", "credential"].iter().any(|part| key.contains(part)) {
                HIDDEN.clone_into(value);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::WarehouseConfig;

    /// PyIceberg and Java take credentials from these properties: `s3.secret-access-key`, `adls.sas-token.ACCOUNT`, `token`.
    #[test]
    fn credentials_that_clients_get_are_hidden_and_other_properties_are_shown() {
        let client: BTreeMap<String, String> =
            ["s3.access-key-id", "s3.secret-access-key", "adls.sas-token.account", "token", "credential", "s3.endpoint"]
                .map(|key| (key.to_owned(), "hunter2".to_owned()))
                .into();
        let warehouse = WarehouseConfig { client, ..WarehouseConfig::default() };
        let config = Config { warehouses: BTreeMap::from([("lake".to_owned(), warehouse)]), ..Config::default() };
        let shown = config.without_secrets().warehouses["lake"].client.clone();
        let open: Vec<&String> = shown.iter().filter(|(_, value)| *value == "hunter2").map(|(key, _)| key).collect();
        assert_eq!(open, ["s3.endpoint"]);
    }
}
