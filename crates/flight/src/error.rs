//! Converts errors to gRPC statuses.

use esker_types::Coded;
use tonic::{Code, Status};

/// Converts an error of Esker to the gRPC status of its code.
pub(crate) fn status(error: &impl Coded) -> Status {
    Status::new(Code::from_i32(error.code().grpc()), error.to_string())
}

/// Converts an error in what the client sent to the status `INVALID_ARGUMENT`.
pub(crate) fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

/// Converts an error that the client did not cause to the status `INTERNAL`.
pub(crate) fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}
