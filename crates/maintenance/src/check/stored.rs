//! [`stored_size`]: the size of a file in storage, or the reason that storage does not give the file.

use esker_types::Coded;

use super::findings::CheckFindingKind;
use crate::Result;
use crate::context::JobContext;

/// The reason that storage does not give a file. It is a fact about the file, and no failure of the check.
pub(super) struct NotStored {
    /// The reason, for people.
    pub(super) what: String,
    /// True if the storage denies the file or can't hold its location; false if the file is missing.
    pub(super) denied: bool,
}

impl NotStored {
    /// Returns the kind of the finding about the file: `denied` if the storage denies it.
    pub(super) fn kind(&self, denied: CheckFindingKind) -> CheckFindingKind {
        if self.denied { denied } else { CheckFindingKind::MissingFile }
    }
}

/// Asks storage for the size of a file, in bytes.
///
/// # Errors
///
/// Returns [`MaintenanceError::Storage`](crate::MaintenanceError::Storage) for a transient error, which is no evidence about the
/// file.
pub(super) async fn stored_size(context: &JobContext, path: &str) -> Result<std::result::Result<u64, NotStored>> {
    match context.catalog.storage().size(path).await {
        Ok(Some(size)) => Ok(Ok(size)),
        Ok(None) => Ok(Err(NotStored { what: "it is not in storage".to_owned(), denied: false })),
        Err(error) if error.code().is_transient() => Err(error.into()),
        Err(error) => Ok(Err(NotStored { what: error.to_string(), denied: true })),
    }
}
