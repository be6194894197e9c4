use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use esker_types::{Coded, ErrorCode};
use serde_json::{Value, json};

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
        (status, Json(self.body())).into_response()
    }
}
