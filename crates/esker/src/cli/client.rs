use esker_types::{IdentError, TableName};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Remote;
use crate::{Error, Result};

/// Talks to a server's management API.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    remote: Remote,
}

impl Client {
    pub(super) fn new(remote: Remote) -> Self {
        Self { http: reqwest::Client::new(), remote }
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        Ok(self.send(Method::GET, path, &Value::Null).await?.json().await?)
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        Ok(self.send(Method::POST, path, body).await?.json().await?)
    }

    /// For answers without a body.
    pub(super) async fn post_only(&self, path: &str) -> Result<()> {
        self.send(Method::POST, path, &Value::Null).await?;
        Ok(())
    }

    /// For answers without a body.
    pub(super) async fn put_only(&self, path: &str, body: &impl Serialize) -> Result<()> {
        self.send(Method::PUT, path, body).await?;
        Ok(())
    }

    async fn send(&self, method: Method, path: &str, body: &impl Serialize) -> Result<Response> {
        let body = serde_json::to_value(body).map_err(|e| Error::Usage(e.to_string()))?;
        let mut request = self.http.request(method, format!("{}{path}", self.remote.url.trim_end_matches('/')));
        if let Some(token) = &self.remote.token {
            request = request.bearer_auth(token);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body: Value = response.json().await.unwrap_or_default();
        let message = body["error"]["message"].as_str().map_or_else(|| format!("the server answered {status}"), str::to_owned);
        Err(Error::Remote(message))
    }
}

/// A path segment or the value of a query.
pub(super) fn encode(segment: &str) -> String {
    utf8_percent_encode(segment, NON_ALPHANUMERIC).to_string()
}

impl Client {
    /// The warehouse that the command is about.
    pub(super) fn warehouse(&self) -> &str {
        &self.remote.warehouse
    }

    /// The management path of the warehouse that the command is about.
    pub(super) fn warehouse_path(&self) -> String {
        format!("/api/v1/warehouses/{}", encode(&self.remote.warehouse))
    }

    /// The management path of a table given as NAMESPACE.TABLE.
    pub(super) fn table_path(&self, name: &str) -> Result<String> {
        let name: TableName = name.parse().map_err(|e: IdentError| Error::Usage(e.to_string()))?;
        let (namespace, table) = (encode(&name.namespace.key()), encode(&name.name));
        Ok(format!("{}/namespaces/{namespace}/tables/{table}", self.warehouse_path()))
    }
}
