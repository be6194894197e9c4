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
    /// A metadata or data file that the catalog points to is gone from storage or can't be read.
    DataMissing,
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
    /// Anything else: a bug, or an I/O error outside a commit.
    Internal,
    /// What is needed is away, overloaded or draining: the same request may succeed a little later.
    Unavailable,
    /// The same, of a change of which certainly nothing was done. No client takes it for an unknown outcome.
    TooBusy,
}

impl ErrorCode {
    /// The HTTP status.
    pub const fn http(self) -> u16 {
        match self {
            Self::BadRequest | Self::IllegalArgument => 400,
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
            Self::BadRequest => "BadRequestException",
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
            Self::DataMissing => 15,
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

    /// The same on a change to a table that was certainly not made: clients read 503 as an unknown outcome.
    #[must_use]
    pub const fn of_change(self) -> Self {
        match self {
            Self::Unavailable => Self::TooBusy,
            code => code,
        }
    }
}

/// An error that knows its [`ErrorCode`]; every crate's error enum implements it.
pub trait Coded: std::error::Error {
    /// The code that the protocols answer with.
    fn code(&self) -> ErrorCode;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unknown_outcomes_look_unknown_to_a_committing_client() {
        // Java and PyIceberg read 500, 502, 503 and 504 on a commit as "state unknown".
        for code in
            [ErrorCode::BadRequest, ErrorCode::CommitConflict, ErrorCode::StorageFull, ErrorCode::DataMissing, ErrorCode::Refused]
        {
            assert!(![500, 502, 503, 504].contains(&code.http()), "{code:?}");
        }
        assert_eq!(ErrorCode::CommitStateUnknown.http(), 500);
    }
}
