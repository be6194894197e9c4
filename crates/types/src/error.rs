use std::error::Error;
use std::{fmt, io};

/// What went wrong, in the terms every protocol can express.
///
/// One enum, mapped to the HTTP status and error type of the Iceberg REST specification and to a gRPC
/// status code. The rule behind the mapping: 409 only for a certain conflict; 500, 502, 503 and 504 only when the
/// outcome of a commit is unknown, because clients then keep the files they wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request itself is wrong: malformed JSON, unknown update, invalid name.
    BadRequest,
    /// An argument that the reference implementation refuses as such; Java clients throw another exception for it.
    IllegalArgument,
    /// No or a wrong token.
    Unauthenticated,
    /// A known principal without the right.
    Forbidden,
    /// The namespace does not exist.
    NoSuchNamespace,
    /// The table does not exist.
    NoSuchTable,
    /// The view does not exist.
    NoSuchView,
    /// The warehouse does not exist.
    NoSuchWarehouse,
    /// The scan plan does not exist, was cancelled or is too old.
    NoSuchPlan,
    /// The plan task does not exist or is too old.
    NoSuchPlanTask,
    /// Something else that was named does not exist: a job, a route.
    NotFound,
    /// The namespace or table exists already.
    AlreadyExists,
    /// The namespace still holds tables or namespaces.
    NamespaceNotEmpty,
    /// A requirement does not hold, or a concurrent change won. Certainly not applied.
    CommitConflict,
    /// Syntactically right, but contradictory: a key both set and removed.
    Unprocessable,
    /// A metadata or data file that the catalog points to is gone from storage.
    DataMissing,
    /// A metadata or data file is there and can't be read: damaged, or not what is said of it.
    DataInvalid,
    /// The request body is over the configured limit.
    TooLarge,
    /// The storage took no more bytes. Certainly not applied.
    StorageFull,
    /// Something that Esker or the client's format version does not support.
    Unsupported,
    /// The job or plan does not apply to this table: foreign, encrypted, changed meanwhile.
    Refused,
    /// A commit may or may not have been applied; its files are kept.
    CommitStateUnknown,
    /// Anything else: a bug, or a machine that has to be looked at.
    Internal,
    /// What is needed is away, overloaded or draining: the same request may succeed a little later.
    Unavailable,
    /// What a change needs is away or overloaded, and certainly nothing was done. No client takes it for an unknown outcome.
    TooBusy,
}

impl ErrorCode {
    /// The HTTP status.
    pub const fn http(self) -> u16 {
        match self {
            Self::BadRequest | Self::IllegalArgument | Self::DataInvalid => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            // Not "no such table": the error's type tells a client that the table is there and a file of it is not.
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

    /// The `type` of the Iceberg REST error envelope.
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

    /// The gRPC status code number (google.rpc.Code).
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
    /// Whether the same may succeed a little later, without anybody doing anything about it. What is lasting is not tried again.
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::CommitConflict | Self::CommitStateUnknown | Self::StorageFull | Self::Unavailable | Self::TooBusy)
    }

    /// The code for a change to a table that was certainly not made: clients read 503 as an unknown outcome.
    #[must_use]
    pub const fn of_change(self) -> Self {
        match self {
            Self::Unavailable => Self::TooBusy,
            code => code,
        }
    }
}

/// An error that knows its [`ErrorCode`]; every crate's error enum implements it.
pub trait Coded: Error {
    /// The code that the protocols answer with.
    fn code(&self) -> ErrorCode;
}

/// An error on its way through code that does not know its type: its meaning goes with it.
#[derive(Debug)]
pub struct Carried {
    code: ErrorCode,
    error: Box<dyn Error + Send + Sync>,
}

impl Carried {
    /// Takes an error along.
    pub fn new(error: impl Coded + Send + Sync + 'static) -> Self {
        Self { code: error.code(), error: Box::new(error) }
    }

    /// The carried error that led to another one, however deep it is wrapped.
    pub fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        causes(error).find_map(|e| e.downcast_ref())
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Carried {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.error.as_ref())
    }
}

impl Coded for Carried {
    fn code(&self) -> ErrorCode {
        self.code
    }
}

/// An error and what led to it, the outermost first.
///
/// `io::Error` hides an error that it wraps from `source()`; this looks into it.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|e| e as &(dyn Error + 'static)).or_else(move || error.source())
    })
}

/// What an error of the operating system means, wherever it came from.
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
        // Too many open files, of the system or of the process.
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
            ErrorCode::Unavailable.of_change(),
        ] {
            assert!(![500, 502, 503, 504].contains(&code.http()), "{code:?}");
        }
        assert_eq!(ErrorCode::CommitStateUnknown.http(), 500);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("it is away")]
    struct Away;

    impl Coded for Away {
        fn code(&self) -> ErrorCode {
            ErrorCode::Unavailable
        }
    }

    #[test]
    fn an_error_keeps_its_meaning_under_whatever_wraps_it() {
        let hidden = io::Error::other(io::Error::other(Carried::new(Away)));
        let found = Carried::cause_of(&hidden).expect("found");
        assert_eq!((found.code(), found.to_string().as_str()), (ErrorCode::Unavailable, "it is away"));
        assert!(causes(&hidden).any(|e| e.is::<Away>()));
        assert!(Carried::cause_of(&io::Error::other("text")).is_none());
    }

    #[test]
    fn what_the_operating_system_says_of_a_moment_is_passing() {
        for (kind, passing) in [
            (io::ErrorKind::TimedOut, true),
            (io::ErrorKind::ConnectionReset, true),
            (io::ErrorKind::StorageFull, true),
            (io::ErrorKind::PermissionDenied, false),
            (io::ErrorKind::InvalidData, false),
        ] {
            assert_eq!(code_of_io(&io::Error::from(kind)).is_passing(), passing, "{kind}");
        }
    }
}
