use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use esker_types::{Coded, ErrorCode};
use serde_json::{Value, json};

use crate::iceberg::status;

/// When to ask again where something is away or too busy.
const AGAIN_SECONDS: &str = "1";

/// An error as every route answers it: the envelope of the Iceberg REST specification.
#[derive(Debug, Clone)]
pub struct ApiError {
    code: ErrorCode,
    status: u16,
    message: String,
}

impl ApiError {
    /// With the code's own status.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, status: code.http(), message: message.into() }
    }

    /// What it means.
    pub(crate) fn code(&self) -> ErrorCode {
        self.code
    }

    /// The error of a change that was certainly not made: no client may take it for an unknown outcome.
    #[must_use]
    pub(crate) fn of_change(self) -> Self {
        match self.code.for_unapplied_change() {
            code if code == self.code => self,
            code => Self { code, status: code.http(), ..self },
        }
    }

    /// The status that it is answered with.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// With a status that the specification lists for the operation at a route of the Iceberg catalog.
    #[must_use]
    pub(crate) fn listed_for(self, method: &Method, route: &str) -> Self {
        // 422 is listed of a contradiction only.
        let status = if self.code == ErrorCode::Refused { ErrorCode::BadRequest.http() } else { self.status };
        Self { status: status::listed(method, route, status), ..self }
    }

    /// With another status.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }
}

/// Every error of ours knows its code.
impl<E: Coded> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl ApiError {
    /// The envelope.
    pub(crate) fn body(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.code.iceberg_type(), "code": self.status}})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status >= 500 {
            tracing::error!(status = self.status, error = self.message, "request failed");
        }
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.body())).into_response();
        if matches!(self.status, 429 | 503) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(AGAIN_SECONDS));
        }
        response.extensions_mut().insert(self);
        response
    }
}
