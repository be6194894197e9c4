//! The error code that all protocols map from, and the traits and wrappers that keep it on the way up.
//!
//! Each crate has one error enum that implements [`Coded`]. The protocols decide by [`ErrorCode`] alone, never by the text of an
//! error. [`CodedError`] carries an error and its code through libraries that only know `dyn Error`. Start reading at
//! [`ErrorCode`].

use std::error::Error;
use std::{fmt, io};

use serde::{Deserialize, Serialize};

/// The kind of an error, in terms that every protocol can express.
///
/// Each code maps to an HTTP status and an error type of the Iceberg REST specification, and to a gRPC status code. Two rules
/// govern the mapping. A 409 means a certain conflict. A commit gets 500, 502, 503 or 504 only if its outcome is unknown, because
/// clients then keep the files that they wrote. Servers send the code to each other by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The request itself is wrong: malformed JSON, an unknown update, an invalid name.
    BadRequest,
    /// An argument is invalid and the reference implementation answers `IllegalArgumentException`.
    ///
    /// Java clients throw another exception for it than for [`ErrorCode::BadRequest`].
    IllegalArgument,
    /// The request has no token or a wrong one.
    Unauthenticated,
    /// The principal is known but lacks the right.
    Forbidden,
    /// The namespace does not exist.
    NoSuchNamespace,
    /// The table does not exist.
    NoSuchTable,
    /// The view does not exist.
    NoSuchView,
    /// The warehouse does not exist.
    NoSuchWarehouse,
    /// The scan plan does not exist, was cancelled or has expired.
    NoSuchPlan,
    /// The plan task does not exist or has expired.
    NoSuchPlanTask,
    /// Something else that the request names does not exist: a job, a route.
    NotFound,
    /// The namespace or table exists already.
    AlreadyExists,
    /// The namespace still holds tables or namespaces.
    NamespaceNotEmpty,
    /// A requirement does not hold, or a concurrent change won. The change was certainly not applied.
    CommitConflict,
    /// The request is well-formed but contradictory: it sets and removes the same key.
    Unprocessable,
    /// A metadata or data file that the catalog points to is missing from storage.
    DataMissing,
    /// A metadata or data file exists but cannot be decoded, or contradicts the metadata that describes it.
    DataInvalid,
    /// The request body exceeds the configured limit.
    TooLarge,
    /// The storage has no room left. The change was certainly not applied.
    StorageFull,
    /// The request or the table needs something that Esker or the table's format version does not support.
    Unsupported,
    /// The job or plan does not apply to this table: foreign, encrypted, changed meanwhile.
    Refused,
    /// The commit may or may not have been applied, so its files are kept.
    CommitStateUnknown,
    /// Anything else: a bug, or a machine that needs attention.
    Internal,
    /// A service that the request needs is unreachable, overloaded or draining. The same request may succeed a little later.
    Unavailable,
    /// A service that a change needs is unreachable or overloaded, and nothing was changed.
    ///
    /// Its HTTP status is 429, which no client takes for an unknown outcome.
    TooBusy,
}

impl ErrorCode {
    /// Returns the HTTP status.
    pub const fn http(self) -> u16 {
        match self {
            Self::BadRequest | Self::IllegalArgument | Self::DataInvalid => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            // `DataMissing` differs from `NoSuchTable` by the error's type: the table exists, but one of its files does not.
            Self::NoSuchNamespace
            | Self::NoSuchTable
            | Self::NoSuchView
            | Self::NoSuchWarehouse
            | Self::NoSuchPlan
            | Self::NoSuchPlanTask
            | Self::NotFound
            | Self::DataMissing => 404,
            Self::AlreadyExists | Self::NamespaceNotEmpty | Self::CommitConflict => 409,
            Self::TooLarge => 413,
            Self::Unprocessable | Self::Refused => 422,
            Self::TooBusy => 429,
            Self::CommitStateUnknown | Self::Internal => 500,
            Self::Unsupported => 406,
            Self::Unavailable => 503,
            Self::StorageFull => 507,
        }
    }

    /// Returns the `type` of the error envelope.
    ///
    /// Spec: REST OpenAPI document, `ErrorModel`.
    pub const fn iceberg_type(self) -> &'static str {
        match self {
            Self::BadRequest | Self::DataInvalid => "BadRequestException",
            Self::IllegalArgument => "IllegalArgumentException",
            Self::Unauthenticated => "NotAuthorizedException",
            Self::Forbidden => "ForbiddenException",
            Self::NoSuchNamespace => "NoSuchNamespaceException",
            Self::NoSuchTable => "NoSuchTableException",
            Self::NoSuchView => "NoSuchViewException",
            Self::NoSuchWarehouse => "NoSuchWarehouseException",
            Self::NoSuchPlan => "NoSuchPlanIdException",
            Self::NoSuchPlanTask => "NoSuchPlanTaskException",
            Self::NotFound | Self::DataMissing => "NotFoundException",
            Self::AlreadyExists => "AlreadyExistsException",
            Self::NamespaceNotEmpty => "NamespaceNotEmptyException",
            Self::CommitConflict => "CommitFailedException",
            Self::TooLarge => "PayloadTooLargeException",
            Self::Unprocessable => "UnprocessableEntityException",
            Self::Refused => "RefusedException",
            Self::CommitStateUnknown => "CommitStateUnknownException",
            Self::Internal => "InternalServerError",
            Self::Unsupported => "UnsupportedOperationException",
            Self::Unavailable => "ServiceUnavailableException",
            Self::StorageFull => "InsufficientStorageException",
            Self::TooBusy => "TooManyRequestsException",
        }
    }

    /// Returns the number of the gRPC status code (`google.rpc.Code`).
    pub const fn grpc(self) -> i32 {
        match self {
            Self::BadRequest | Self::IllegalArgument | Self::Unprocessable => 3,
            Self::NoSuchNamespace
            | Self::NoSuchTable
            | Self::NoSuchView
            | Self::NoSuchWarehouse
            | Self::NoSuchPlan
            | Self::NoSuchPlanTask
            | Self::NotFound => 5,
            Self::AlreadyExists => 6,
            Self::Forbidden => 7,
            Self::StorageFull | Self::TooLarge => 8,
            Self::NamespaceNotEmpty | Self::Refused => 9,
            Self::CommitConflict => 10,
            Self::Unsupported => 12,
            Self::Internal => 13,
            Self::Unavailable | Self::TooBusy => 14,
            Self::DataMissing | Self::DataInvalid => 15,
            Self::Unauthenticated => 16,
            Self::CommitStateUnknown => 2,
        }
    }
}

impl ErrorCode {
    /// Checks that the error is transient: the same operation may succeed a little later without anybody's help.
    ///
    /// Callers retry only transient errors. All others are lasting: somebody must change something first.
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::CommitConflict | Self::CommitStateUnknown | Self::StorageFull | Self::Unavailable | Self::TooBusy)
    }

    /// Returns the code that reports a change that was certainly not made.
    ///
    /// It turns [`Self::Unavailable`] into [`Self::TooBusy`], because clients read 503 on a commit as an unknown outcome.
    #[must_use]
    pub const fn for_unapplied_change(self) -> Self {
        match self {
            Self::Unavailable => Self::TooBusy,
            code => code,
        }
    }
}

/// An error that has an [`ErrorCode`]. Every crate's error enum implements this trait.
pub trait Coded: Error {
    /// Returns the code that the protocols answer with.
    fn code(&self) -> ErrorCode;
}

/// A boxed error that keeps its [`ErrorCode`].
///
/// It passes through code that does not know the error's type, such as DataFusion, `io::Error` or a caller's closure.
#[derive(Debug)]
pub struct CodedError {
    code: ErrorCode,
    error: Box<dyn Error + Send + Sync>,
}

impl CodedError {
    /// Boxes an error together with its code.
    pub fn new(error: impl Coded + Send + Sync + 'static) -> Self {
        Self { code: error.code(), error: Box::new(error) }
    }

    /// Finds the outermost [`CodedError`] among an error and its causes.
    pub fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        error_chain(error).find_map(|e| e.downcast_ref())
    }
}

impl fmt::Display for CodedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for CodedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.error.as_ref())
    }
}

impl Coded for CodedError {
    fn code(&self) -> ErrorCode {
        self.code
    }
}

/// Iterates over an error and its causes, the outermost first.
///
/// `io::Error` does not return an error that it wraps from `source()`, so this function unwraps it.
pub fn error_chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|e| e as &(dyn Error + 'static)).or_else(move || error.source())
    })
}

/// Formats an error with its causes, the outermost first. A cause that the text says already is left out.
///
/// It is for errors of libraries that display no cause of theirs, such as those of HTTP clients.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    error_chain(error).map(ToString::to_string).fold(String::new(), |text, cause| match text.is_empty() {
        true => cause,
        false if text.contains(&cause) => text,
        false => format!("{text}: {cause}"),
    })
}

/// Classifies an error of the operating system.
///
/// It returns [`ErrorCode::StorageFull`] if a disk or quota is full, [`ErrorCode::Unavailable`] for other transient errors, and
/// [`ErrorCode::Internal`] for lasting ones.
pub fn code_of_io(error: &io::Error) -> ErrorCode {
    use io::ErrorKind as K;
    match error.kind() {
        K::StorageFull | K::QuotaExceeded => ErrorCode::StorageFull,
        K::TimedOut
        | K::Interrupted
        | K::WouldBlock
        | K::ResourceBusy
        | K::StaleNetworkFileHandle
        | K::ConnectionRefused
        | K::ConnectionReset
        | K::ConnectionAborted
        | K::NotConnected
        | K::BrokenPipe
        | K::HostUnreachable
        | K::NetworkUnreachable
        | K::NetworkDown => ErrorCode::Unavailable,
        // 23 is ENFILE and 24 is EMFILE: the system or the process has too many open files.
        _ if matches!(error.raw_os_error(), Some(23 | 24)) => ErrorCode::Unavailable,
        _ => ErrorCode::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unknown_outcomes_look_unknown_to_a_committing_client() {
        // Java and PyIceberg read 500, 502, 503 and 504 on a commit as "state unknown".
        for code in [
            ErrorCode::BadRequest,
            ErrorCode::CommitConflict,
            ErrorCode::StorageFull,
            ErrorCode::DataMissing,
            ErrorCode::DataInvalid,
            ErrorCode::Refused,
            ErrorCode::Unavailable.for_unapplied_change(),
        ] {
            assert!(![500, 502, 503, 504].contains(&code.http()), "{code:?}");
        }
        assert_eq!(ErrorCode::CommitStateUnknown.http(), 500);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("it is away")]
    struct Unreachable;

    impl Coded for Unreachable {
        fn code(&self) -> ErrorCode {
            ErrorCode::Unavailable
        }
    }

    #[test]
    fn an_error_is_written_with_each_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("error sending request")]
        struct Sending(#[source] io::Error);
        let refused = io::Error::other(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(with_causes(&Sending(refused)), "error sending request: connection refused");
    }

    #[test]
    fn an_error_keeps_its_meaning_under_whatever_wraps_it() {
        let hidden = io::Error::other(io::Error::other(CodedError::new(Unreachable)));
        let found = CodedError::cause_of(&hidden).expect("found");
        assert_eq!((found.code(), found.to_string().as_str()), (ErrorCode::Unavailable, "it is away"));
        assert!(error_chain(&hidden).any(|e| e.is::<Unreachable>()));
        assert!(CodedError::cause_of(&io::Error::other("text")).is_none());
    }

    #[test]
    fn momentary_operating_system_errors_are_transient() {
        for (kind, transient) in [
            (io::ErrorKind::TimedOut, true),
            (io::ErrorKind::ConnectionReset, true),
            (io::ErrorKind::StorageFull, true),
            (io::ErrorKind::PermissionDenied, false),
            (io::ErrorKind::InvalidData, false),
        ] {
            assert_eq!(code_of_io(&io::Error::from(kind)).is_transient(), transient, "{kind}");
        }
    }
}
