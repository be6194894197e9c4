//! Converts errors to gRPC statuses.

use esker_types::Coded;
use tonic::{Code, Status};

/// The maximum size of a message, in bytes. It is sent as a header, in which a byte may become three, and clients in Java take 8 KiB
/// of headers. Messages may name what a client sent, however long that is.
const MAX_TEXT_BYTES: usize = 2_500;

/// Formats a message, and cuts it if it is too long.
fn text(message: impl std::fmt::Display) -> String {
    let mut text = message.to_string();
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.push_str(" …");
    }
    text
}

/// Converts an error of Esker to the gRPC status of its code.
pub(crate) fn status(error: &impl Coded) -> Status {
    Status::new(Code::from_i32(error.code().grpc()), text(error))
}

/// Converts an error in what the client sent to the status `INVALID_ARGUMENT`.
pub(crate) fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(text(error))
}

/// Converts an error that the client did not cause to the status `INTERNAL`.
pub(crate) fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(text(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_fits_into_a_header_whatever_it_names() {
        assert_eq!(invalid("short").message(), "short");
        let long = "é".repeat(5 << 20);
        for status in [invalid(&long), internal(&long)] {
            let message = status.message();
            assert!(
                message.len() < MAX_TEXT_BYTES + 8 && message.starts_with("éé") && message.ends_with("é …"),
                "{}",
                message.len()
            );
        }
    }
}
