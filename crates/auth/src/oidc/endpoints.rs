//! [`LogInEndpoints`]: the addresses at which users of an issuer log in and out.
//!
//! Spec: OpenID Connect Discovery 1.0, section 3.

use reqwest::Url;

use super::client::Discovery;

/// The way in which Esker proves at the token endpoint which client it is.
///
/// Spec: OpenID Connect Core, section 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientAuth {
    /// By the header `authorization` of HTTP Basic.
    Basic,
    /// By the fields `client_id` and `client_secret` of the form.
    Post,
}

/// Where users of an issuer log in and out.
#[derive(Debug)]
pub(super) struct LogInEndpoints {
    /// The address to which browsers are sent to log in.
    pub(super) authorize: Url,
    /// The address at which a code is exchanged.
    pub(super) token: Url,
    /// The address to which browsers are sent to log out, if there is one.
    pub(super) end_session: Option<Url>,
    /// The way in which a client with a secret proves who it is.
    pub(super) client_auth: ClientAuth,
    /// True if every answer to a log-in names the issuer, so that one without is refused.
    pub(super) names_issuer: bool,
}

impl LogInEndpoints {
    /// Takes the addresses of a document. `check` parses an address, or says why it may not be used.
    ///
    /// # Errors
    ///
    /// Returns the reason, for the log, if an address is missing or may not be used.
    pub(super) fn of(document: &Discovery, check: impl Fn(&str) -> Result<Url, String>) -> Result<Self, String> {
        let needed = |name: &str, text: &Option<String>| match text {
            Some(text) => check(text).map_err(|why| format!("{name}: {why}")),
            None => Err(format!("the document has no {name}")),
        };
        let methods = document.token_endpoint_auth_methods_supported.as_deref();
        let has = |method: &str| methods.is_none_or(|all| all.iter().any(|one| one == method));
        Ok(Self {
            authorize: needed("authorization_endpoint", &document.authorization_endpoint)?,
            token: needed("token_endpoint", &document.token_endpoint)?,
            // A log-out there is a courtesy: an address that can't be used costs nobody the log-in.
            end_session: document.end_session_endpoint.as_deref().and_then(|text| check(text).ok()),
            client_auth: match !has("client_secret_basic") && has("client_secret_post") {
                true => ClientAuth::Post,
                false => ClientAuth::Basic,
            },
            names_issuer: document.authorization_response_iss_parameter_supported,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(change: impl FnOnce(&mut Value)) -> Result<LogInEndpoints, String> {
        let mut document = json!({
            "issuer": "https://idp.example", "jwks_uri": "https://idp.example/keys",
            "authorization_endpoint": "https://idp.example/authorize", "token_endpoint": "https://idp.example/token",
        });
        change(&mut document);
        let document: Discovery = serde_json::from_value(document).expect("a document");
        LogInEndpoints::of(&document, |text| match text.starts_with("https://idp.example/") {
            true => Url::parse(text).map_err(|error| error.to_string()),
            false => Err("not there".to_owned()),
        })
    }

    #[test]
    fn a_document_without_an_address_or_with_a_forbidden_one_is_refused_by_its_name() {
        let found = of(|_| {}).expect("endpoints");
        assert_eq!((found.authorize.path(), found.token.path()), ("/authorize", "/token"));
        assert!(found.end_session.is_none() && !found.names_issuer);
        for name in ["authorization_endpoint", "token_endpoint"] {
            for wrong in [Value::Null, json!("http://169.254.169.254/")] {
                let refused = of(|document| document[name] = wrong).expect_err("refused");
                assert!(refused.contains(name), "{refused}");
            }
        }
        let without = of(|document| document["end_session_endpoint"] = json!("http://evil.example")).expect("endpoints");
        assert!(without.end_session.is_none());
    }

    #[test]
    fn a_client_proves_itself_by_basic_unless_the_provider_takes_the_form_alone() {
        let auth = |methods: Value| {
            let found = of(|document| document["token_endpoint_auth_methods_supported"] = methods);
            found.expect("endpoints").client_auth
        };
        assert_eq!(auth(Value::Null), ClientAuth::Basic);
        assert_eq!(auth(json!(["client_secret_post", "client_secret_basic"])), ClientAuth::Basic);
        assert_eq!(auth(json!(["private_key_jwt", "client_secret_post"])), ClientAuth::Post);
        assert_eq!(auth(json!(["private_key_jwt"])), ClientAuth::Basic);
    }
}
