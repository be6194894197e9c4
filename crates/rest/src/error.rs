//! The error of every route, and its response.
//!
//! An error of another crate becomes an [`ApiError`] by its [`ErrorCode`] alone. The response also carries the error as an
//! extension, so that a layer can change its status.
//!
//! Spec: REST `ErrorModel`.

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use esker_types::{Coded, ErrorCode};
use serde::Serialize;

use crate::iceberg::status;

/// The value in seconds of the header `Retry-After`, which the statuses 429 and 503 get.
pub(crate) const AGAIN_SECONDS: &str = "1";

/// The error of a route, which is answered in the envelope of the Iceberg REST specification.
///
/// Spec: REST `ErrorModel`.
#[derive(Debug, Clone)]
pub struct ApiError {
    code: ErrorCode,
    status: u16,
    message: String,
}

/// The envelope of an error, as JSON.
///
/// Spec: REST `IcebergErrorResponse`.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct ErrorBody {
    /// The error.
    error: ErrorModel,
}

/// An error, as JSON.
///
/// Spec: REST `ErrorModel`.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct ErrorModel {
    /// The HTTP status of the answer.
    code: u16,
    /// The error, for people.
    message: String,
    /// The stable name of the kind of error, which tells apart what shares a status.
    #[serde(rename = "type")]
    kind: &'static str,
}

impl ApiError {
    /// Makes an error with the HTTP status of its code.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, status: code.http(), message: message.into() }
    }

    /// Returns the code.
    pub(crate) fn code(&self) -> ErrorCode {
        self.code
    }

    /// Returns the text.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Maps the error of a change that was certainly not made to a code that no client takes for an unknown outcome.
    #[must_use]
    pub(crate) fn of_change(self) -> Self {
        match self.code.for_unapplied_change() {
            code if code == self.code => self,
            code => Self { code, status: code.http(), ..self },
        }
    }

    /// Maps a passing error that keeps the answer to a finished change from being built.
    ///
    /// A client must not take the change for one that was not made, and delete its files.
    #[must_use]
    pub(crate) fn of_made_change(self) -> Self {
        match self.code.is_transient() {
            true => {
                let what = format!("the change was made, but its answer can't be built: {}; repeat the request", self.message);
                Self::new(ErrorCode::CommitStateUnknown, what)
            }
            false => self,
        }
    }

    /// Returns the HTTP status of the response.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// Replaces the status by one that the specification lists for an operation of the Iceberg catalog.
    #[must_use]
    pub(crate) fn listed_for(self, method: &Method, route: &str) -> Self {
        // The specification lists 422 only for a request that contradicts itself.
        let status = if self.code == ErrorCode::Refused { ErrorCode::BadRequest.http() } else { self.status };
        Self { status: status::listed(method, route, status), ..self }
    }

    /// Replaces the status. The code, and so the type in the envelope, stays.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }
}

/// Takes the code and the text of any error of Esker's crates.
impl<E: Coded> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl ApiError {
    /// Returns the error envelope.
    pub(crate) fn body(&self) -> ErrorBody {
        let ApiError { code, status, message } = self;
        ErrorBody { error: ErrorModel { code: *status, message: message.clone(), kind: code.iceberg_type() } }
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
