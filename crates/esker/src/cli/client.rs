//! [`Client`]: requests to the management API, with the token and the warehouse of the command line.

use esker_types::{IdentError, TableName};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::Remote;
use crate::config::DEFAULT_WAREHOUSE;
use crate::{Error, Result};

/// A client of a server's management API. Paths are those of the API, from `/api/v1` on.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    remote: Remote,
    /// The answer of [`Client::warehouse`], which may need a request.
    warehouse: OnceCell<String>,
}

impl Client {
    /// Makes a client that trusts the servers that the command line says.
    ///
    /// # Errors
    ///
    /// Returns what [`TlsArgs::http_client`](super::TlsArgs::http_client) returns.
    pub(super) fn new(remote: Remote) -> Result<Self> {
        Ok(Self { http: remote.tls.http_client()?, remote, warehouse: OnceCell::new() })
    }

    /// Returns true if answers are to be printed as JSON.
    pub(super) fn prints_json(&self) -> bool {
        self.remote.json
    }

    /// Sends a GET request and parses the answer.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        Ok(self.send(Method::GET, path, &Value::Null).await?.json().await?)
    }

    /// Sends a GET request and returns the answer's text.
    pub(super) async fn get_text(&self, path: &str) -> Result<String> {
        Ok(self.send(Method::GET, path, &Value::Null).await?.text().await?)
    }

    /// Sends a POST request with a JSON body and parses the answer.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        Ok(self.send(Method::POST, path, body).await?.json().await?)
    }

    /// Sends a POST request with a JSON body and parses the answer; `None` if the caller lacks privileges.
    pub(super) async fn post_if_permitted<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<Option<T>> {
        let response = self.request(Method::POST, path, body).await?;
        match response.status() {
            StatusCode::FORBIDDEN => Ok(None),
            _ => Ok(Some(checked(response).await?.json().await?)),
        }
    }

    /// Sends a POST request without a body, and ignores the answer's body.
    pub(super) async fn post_only(&self, path: &str) -> Result<()> {
        self.send(Method::POST, path, &Value::Null).await?;
        Ok(())
    }

    /// Sends a PUT request with a JSON body, and ignores the answer's body.
    pub(super) async fn put_only(&self, path: &str, body: &impl Serialize) -> Result<()> {
        self.send(Method::PUT, path, body).await?;
        Ok(())
    }

    /// Sends a PUT request with a JSON body and parses the answer.
    pub(super) async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        Ok(self.send(Method::PUT, path, body).await?.json().await?)
    }

    /// Sends a POST request with a JSON body, and ignores the answer's body.
    pub(super) async fn post_body(&self, path: &str, body: &impl Serialize) -> Result<()> {
        self.send(Method::POST, path, body).await?;
        Ok(())
    }

    /// Sends a DELETE request, and ignores the answer's body.
    pub(super) async fn delete(&self, path: &str) -> Result<()> {
        self.send(Method::DELETE, path, &Value::Null).await?;
        Ok(())
    }

    /// Sends a request. An answer with an error status becomes [`Error::Remote`] with the server's own message.
    async fn send(&self, method: Method, path: &str, body: &impl Serialize) -> Result<Response> {
        checked(self.request(method, path, body).await?).await
    }

    /// Sends a request, and returns the answer with any status.
    async fn request(&self, method: Method, path: &str, body: &impl Serialize) -> Result<Response> {
        let body = serde_json::to_value(body)?;
        let mut request = self.http.request(method, format!("{}{path}", self.remote.url.trim_end_matches('/')));
        if let Some(token) = &self.remote.token {
            request = request.bearer_auth(token);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        Ok(request.send().await?)
    }
}

/// Turns an answer with an error status into [`Error::Remote`] with the server's own message.
async fn checked(response: Response) -> Result<Response> {
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let body: Value = response.json().await.unwrap_or_default();
    let message = body["error"]["message"].as_str().map_or_else(|| format!("the server answered {status}"), str::to_owned);
    Err(Error::Remote(message))
}

/// Returns the names of warehouses, sorted.
fn names(warehouses: &[Value]) -> Vec<&str> {
    let mut names: Vec<&str> = warehouses.iter().filter_map(|warehouse| warehouse["name"].as_str()).collect();
    names.sort_unstable();
    names
}

/// Encodes text for a path segment or the value of a query parameter.
pub(super) fn encode(segment: &str) -> String {
    utf8_percent_encode(segment, NON_ALPHANUMERIC).to_string()
}

impl Client {
    /// Returns the warehouse that `--warehouse` names, or `None` if the option was not given.
    pub(super) fn chosen_warehouse(&self) -> Option<&str> {
        self.remote.warehouse.as_deref()
    }

    /// Returns the warehouses that a list is about, as the API describes them: the one that `--warehouse` names, else all.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Usage`] with the names of the warehouses if the server does not have the named one, and
    /// [`Error::Remote`] if the server does not list them.
    pub(super) async fn listed_warehouses(&self) -> Result<Vec<Value>> {
        let all: Vec<Value> = self.get("/api/v1/warehouses").await?;
        let Some(name) = self.chosen_warehouse() else { return Ok(all) };
        let names = names(&all);
        if !names.contains(&name) {
            return Err(Error::Usage(format!("warehouse {name} does not exist; the server has {}", names.join(", "))));
        }
        Ok(all.iter().filter(|warehouse| warehouse["name"] == name).cloned().collect())
    }

    /// Returns the parameters of a request for a list: the warehouse that `--warehouse` names, and `more`.
    pub(super) fn list_query(&self, more: &[(&str, String)]) -> String {
        let warehouse = self.chosen_warehouse().map(|name| ("warehouse", encode(name)));
        let all = warehouse.iter().chain(more).map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        if all.is_empty() { String::new() } else { format!("?{}", all.join("&")) }
    }

    /// Refuses `--warehouse` for a command that is the same for all warehouses. `ESKER_WAREHOUSE` is for other commands too, and
    /// is ignored.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Usage`] if the option was given.
    pub(super) fn refuse_warehouse(&self, command: &str) -> Result<()> {
        let of_environment = std::env::var("ESKER_WAREHOUSE").ok();
        match self.chosen_warehouse() {
            Some(name) if of_environment.as_deref() != Some(name) => {
                Err(Error::Usage(format!("`esker {command}` is the same for all warehouses; leave --warehouse out")))
            }
            _ => Ok(()),
        }
    }

    /// Returns the warehouse that the command is about.
    ///
    /// It is the one that `--warehouse` names, else the server's only one, else `default`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Usage`] with the names of the warehouses if it is not clear which one is meant, and [`Error::Remote`] if
    /// the server does not list them.
    pub(super) async fn warehouse(&self) -> Result<&str> {
        let found = self.warehouse.get_or_try_init(|| async {
            if let Some(name) = &self.remote.warehouse {
                return Ok(name.clone());
            }
            let all: Vec<Value> = self.get("/api/v1/warehouses").await?;
            let names = names(&all);
            match (names.as_slice(), names.contains(&DEFAULT_WAREHOUSE)) {
                ([only], _) => Ok((*only).to_owned()),
                (_, true) => Ok(DEFAULT_WAREHOUSE.to_owned()),
                _ => Err(Error::Usage(format!("name the warehouse with --warehouse: the server has {}", names.join(", ")))),
            }
        });
        found.await.map(String::as_str)
    }

    /// Returns the management path of the warehouse that the command is about.
    pub(super) async fn warehouse_path(&self) -> Result<String> {
        Ok(format!("/api/v1/warehouses/{}", encode(self.warehouse().await?)))
    }

    /// Returns the management path of a table given as NAMESPACE.TABLE.
    pub(super) async fn table_path(&self, name: &str) -> Result<String> {
        let name: TableName = name.parse().map_err(|e: IdentError| Error::Usage(e.to_string()))?;
        let (namespace, table) = (encode(&name.namespace.key()), encode(&name.name));
        Ok(format!("{}/namespaces/{namespace}/tables/{table}", self.warehouse_path().await?))
    }
}
