use esker_types::Coded;
use tonic::{Code, Status};

/// An error of ours as a gRPC status.
pub(crate) fn status(error: &impl Coded) -> Status {
    Status::new(Code::from_i32(error.code().grpc()), error.to_string())
}

/// An error that is nobody's mistake but ours.
pub(crate) fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}
