//! [`StatementHandle`]: the state of a statement, which the client carries between its calls.
//!
//! It is JSON in the opaque bytes of a ticket or of the handle of a prepared statement, so that any replica can answer the next
//! call. Before the JSON is a tag, over the JSON and the principal that the handle was made for. So a server reads no handle that no
//! server made, that was changed, or that was made for another principal. Start reading at [`HandleKeys::open`].

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use esker_auth::{KeyPurpose, KeyRing};
use esker_query::{BoundValues, PinnedSnapshot};
use esker_types::Principal;
use serde::{Deserialize, Serialize};
use tonic::Status;
use uuid::Uuid;

use crate::error::{internal, invalid, status};
use crate::parameters;

/// The beginning of each handle, which tells its form. The tag follows, a line feed, and the JSON.
const FORM: &[u8] = b"esker1.";

/// The keys that authenticate handles.
#[derive(Debug, Clone)]
pub(crate) struct HandleKeys(pub(crate) KeyRing);

impl HandleKeys {
    /// Writes a handle for a principal.
    ///
    /// # Errors
    ///
    /// Returns the status `INTERNAL` if the handle can't be written as JSON, and that of [`KeyRing::sign`]'s error.
    pub(crate) async fn seal(&self, handle: &StatementHandle, principal: &Principal) -> Result<Bytes, Status> {
        let body = serde_json::to_vec(handle).map_err(internal)?;
        let identity = principal.identity();
        let tag = self.0.sign(KeyPurpose::Handles, &[identity.as_bytes(), &body]).await.map_err(|e| status(&e))?;
        Ok([FORM, tag.as_bytes(), b"\n", &body].concat().into())
    }

    /// Reads a handle that a principal sent back.
    ///
    /// # Errors
    ///
    /// Returns the status `INVALID_ARGUMENT` for bytes that no server made for the principal, and for a handle whose key has ended.
    /// Returns the status of [`KeyRing::verify`]'s error.
    pub(crate) async fn open(&self, bytes: &[u8], principal: &Principal) -> Result<StatementHandle, Status> {
        let Some((tag, body)) = parts(bytes) else {
            return Err(Status::invalid_argument("not a ticket or prepared statement handle of this server"));
        };
        let identity = principal.identity();
        let is_right = self.0.verify(KeyPurpose::Handles, &[identity.as_bytes(), body], tag).await.map_err(|e| status(&e))?;
        if !is_right {
            return Err(Status::invalid_argument(
                "the ticket or prepared statement handle was changed, was made for another caller, or its key has ended; \
                 send the statement again",
            ));
        }
        let other_release = || Status::invalid_argument("the handle is of another release; send the statement again");
        serde_json::from_slice(body).map_err(|_| other_release())
    }
}

/// Returns the tag and the JSON of a handle; `None` if the bytes have another form.
fn parts(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(FORM)?;
    let at = rest.iter().position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&rest[..at]).ok()?, &rest[at + 1..]))
}

/// The content of a ticket or of the handle of a prepared statement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StatementHandle {
    /// The text of the statement.
    pub(crate) sql: String,
    /// The rows of parameters, as an Arrow IPC stream in base64. `None` if nothing is bound.
    parameters: Option<String>,
    /// The key of the plan in the cache of the server that made the handle. That server may have dropped the plan since, and gives
    /// it to the principal that asked for it only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) plan: Option<Uuid>,
    /// True if the plan's schema was sent with this ticket: the client expects an answer with that schema.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(crate) schema_sent: bool,
    /// The version of the rules under which the handle was made. Under others, the statement is planned again.
    #[serde(default)]
    pub(crate) rules: i64,
    /// The snapshots that a query was planned on. Whichever server plans it again reads the same ones.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) snapshots: Vec<PinnedSnapshot>,
}

impl StatementHandle {
    /// Makes a handle without parameters and plan, under the rules of a version.
    pub(crate) fn new(sql: String, rules: i64) -> Self {
        Self { sql, parameters: None, plan: None, schema_sent: false, rules, snapshots: Vec::new() }
    }

    /// Binds the rows of some batches, in place of those that were bound before.
    ///
    /// The batches must all have the same schema. The key of the plan and its snapshots are removed: the plan was made without these
    /// values and their types.
    ///
    /// # Errors
    ///
    /// Returns the status `INVALID_ARGUMENT` if the batches can't be written as a stream: their types or their schemas do not fit.
    pub(crate) fn bind(&mut self, batches: &[RecordBatch]) -> Result<(), Status> {
        (self.plan, self.parameters) = (None, None);
        self.snapshots.clear();
        let Some(first) = batches.first() else { return Ok(()) };
        let mut stream = Vec::new();
        let mut writer = StreamWriter::try_new(&mut stream, &first.schema()).map_err(invalid)?;
        for batch in batches {
            writer.write(batch).map_err(invalid)?;
        }
        writer.finish().map_err(internal)?;
        drop(writer);
        self.parameters = Some(STANDARD_NO_PAD.encode(stream));
        Ok(())
    }

    /// Returns the bound rows of values. They are empty if nothing is bound.
    ///
    /// # Errors
    ///
    /// Returns the status `INVALID_ARGUMENT` if the stream of parameters is damaged, and the errors of [`parameters::rows`].
    pub(crate) fn bound_values(&self) -> Result<BoundValues, Status> {
        let Some(text) = &self.parameters else { return Ok(Vec::new()) };
        let bad = || Status::invalid_argument("the parameters of the prepared statement can't be read");
        let stream = STANDARD_NO_PAD.decode(text).map_err(|_| bad())?;
        let reader = StreamReader::try_new(stream.as_slice(), None).map_err(|_| bad())?;
        let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|_| bad())?;
        parameters::rows(&batches)
    }
}
