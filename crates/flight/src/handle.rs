use arrow::array::{ArrayRef, RecordBatch};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use datafusion::scalar::ScalarValue;
use esker_query::BoundValues;
use serde::{Deserialize, Serialize};
use tonic::Status;
use uuid::Uuid;

use crate::error::internal;

/// What a prepared statement's handle holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Handle {
    pub(crate) sql: String,
    /// Rows of parameters as an Arrow IPC stream, base64.
    parameters: Option<String>,
    /// The statement's plan, if the server still keeps it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) plan: Option<Uuid>,
    /// The shape of the plan's answer was told, with a ticket to get just that.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(crate) schema_sent: bool,
}

impl Handle {
    pub(crate) fn new(sql: String) -> Self {
        Self { sql, parameters: None, plan: None, schema_sent: false }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Status> {
        serde_json::from_slice(bytes).map_err(|_| Status::invalid_argument("not a prepared statement handle of this server"))
    }

    pub(crate) fn encode(&self) -> Result<Bytes, Status> {
        serde_json::to_vec(self).map(Bytes::from).map_err(internal)
    }

    /// With the parameters of some batches.
    pub(crate) fn bind(&mut self, batches: &[RecordBatch]) -> Result<(), Status> {
        // What was planned before knew neither values nor their types.
        (self.plan, self.parameters) = (None, None);
        let Some(first) = batches.first() else { return Ok(()) };
        let mut stream = Vec::new();
        let mut writer = StreamWriter::try_new(&mut stream, &first.schema()).map_err(internal)?;
        for batch in batches {
            writer.write(batch).map_err(internal)?;
        }
        writer.finish().map_err(internal)?;
        drop(writer);
        self.parameters = Some(STANDARD_NO_PAD.encode(stream));
        Ok(())
    }

    /// The rows of values that are bound; none, if nothing is.
    pub(crate) fn bound(&self) -> Result<BoundValues, Status> {
        let Some(text) = &self.parameters else { return Ok(Vec::new()) };
        let bad = || Status::invalid_argument("the parameters of the prepared statement can't be read");
        let stream = STANDARD_NO_PAD.decode(text).map_err(|_| bad())?;
        let reader = StreamReader::try_new(stream.as_slice(), None).map_err(|_| bad())?;
        let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|_| bad())?;
        rows(&batches)
    }
}

/// The rows of some batches of parameters, one after the other.
pub(crate) fn rows(batches: &[RecordBatch]) -> Result<BoundValues, Status> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let value = |column: &ArrayRef| ScalarValue::try_from_array(column, row).map_err(internal);
            rows.push(batch.columns().iter().map(value).collect::<Result<_, _>>()?);
        }
    }
    Ok(rows)
}
