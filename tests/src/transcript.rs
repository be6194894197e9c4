//! [`Transcript`]: requests to a [`TestApp`] and its answers as text, for snapshots of wire formats.

use std::fmt::Write as _;

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::TestApp;
use crate::redact::Redactor;

/// The headers of answers that a transcript shows.
const HEADERS: [&str; 7] = ["content-type", "etag", "cache-control", "vary", "retry-after", "www-authenticate", "deprecation"];

/// A record of requests and their answers, without what differs from run to run.
#[derive(Debug)]
pub struct Transcript<'a> {
    app: &'a TestApp,
    redactor: Redactor,
    text: String,
}

impl<'a> Transcript<'a> {
    /// Begins a transcript of requests to a server.
    pub fn of(app: &'a TestApp) -> Self {
        let mut redactor = Redactor::default();
        redactor.replace(app.dir.path().to_str().expect("UTF-8"), "[dir]");
        redactor.replace(app.server.rest.to_string(), "[address]");
        redactor.replace(app.server.flight.to_string(), "[address]");
        Self { app, redactor, text: String::new() }
    }

    /// Replaces a text by a placeholder from now on.
    pub fn redact(&mut self, text: impl Into<String>, placeholder: &'static str) {
        self.redactor.replace(text, placeholder);
    }

    /// Sends a request with headers, and records it with its answer. Returns the status and the body of the answer.
    ///
    /// A body that is not JSON becomes a JSON string; an empty one becomes null.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let _ = write!(self.text, "{method} {}", self.redactor.text(path));
        for (name, value) in headers {
            let _ = write!(self.text, "\n{name}: {}", self.redactor.text(value));
        }
        if let Some(body) = &body {
            let _ = write!(self.text, "\n{}", self.redactor.json(body));
        }
        let (status, answered, text) = self.app.send_raw(method, path, headers, body).await;
        self.answer(status, &answered, &text)
    }

    /// Records an answer. Returns its status and its body.
    fn answer(&mut self, status: StatusCode, headers: &HeaderMap, text: &str) -> (StatusCode, Value) {
        let _ = write!(self.text, "\n\n-> {}", status.as_u16());
        for name in HEADERS {
            if let Some(value) = headers.get(name) {
                let value = if name == "etag" { "[tag]" } else { value.to_str().expect("text") };
                let _ = write!(self.text, "\n{name}: {value}");
            }
        }
        let body = match text.is_empty() {
            true => Value::Null,
            false => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        };
        match &body {
            Value::Null => {}
            Value::String(text) => self.text += &format!("\n{}", self.redactor.text(text)),
            json => self.text += &format!("\n{:#}", self.redactor.json(json)),
        }
        self.text.push_str("\n\n");
        (status, body)
    }

    /// Sends a request without the token, and records it with its answer.
    ///
    /// `form` is the body; without one, the request has no body.
    pub async fn send_anonymously(&mut self, method: Method, path: &str, form: Option<&str>) -> Value {
        let mut request = reqwest::Client::new().request(method.clone(), self.app.url(path));
        let _ = write!(self.text, "{method} {path}\n(without a token)");
        if let Some(form) = form {
            let _ = write!(self.text, "\n{form}");
            request = request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned());
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.expect("a body");
        self.answer(status, &headers, &text).1
    }

    /// Gets a resource.
    pub async fn get(&mut self, path: &str) -> Value {
        self.send(Method::GET, path, &[], None).await.1
    }

    /// Posts a body.
    pub async fn post(&mut self, path: &str, body: Value) -> Value {
        self.send(Method::POST, path, &[], Some(body)).await.1
    }

    /// Puts a body.
    pub async fn put(&mut self, path: &str, body: Value) -> Value {
        self.send(Method::PUT, path, &[], Some(body)).await.1
    }

    /// Deletes a resource.
    pub async fn delete(&mut self, path: &str) -> Value {
        self.send(Method::DELETE, path, &[], None).await.1
    }

    /// Records a JSON value under a title.
    pub fn note(&mut self, title: &str, value: &Value) {
        let _ = write!(self.text, "{}\n{:#}\n\n", self.redactor.text(title), self.redactor.json(value));
    }

    /// Records a text under a title.
    pub fn note_text(&mut self, title: &str, text: &str) {
        let _ = write!(self.text, "{}\n{}\n\n", self.redactor.text(title), self.redactor.text(text));
    }

    /// Returns the text of the whole transcript.
    pub fn text(&self) -> &str {
        self.text.trim_end()
    }
}
