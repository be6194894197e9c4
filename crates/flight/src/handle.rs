use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use datafusion::scalar::ScalarValue;
use serde::{Deserialize, Serialize};
use tonic::Status;
use uuid::Uuid;

use crate::error::internal;

/// What a prepared statement's handle holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Handle {
    pub(crate) sql: String,
    /// One row of parameters as an Arrow IPC stream, base64.
    parameters: Option<String>,
    /// The statement's plan, if the server still keeps it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) plan: Option<Uuid>,
    /// The shape of the plan's answer was told, with a ticket to get just that.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(crate) told: bool,
}

impl Handle {
    pub(crate) fn new(sql: String) -> Self {
        Self { sql, parameters: None, plan: None, told: false }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Status> {
        serde_json::from_slice(bytes).map_err(|_| Status::invalid_argument("not a prepared statement handle of this server"))
    }

    pub(crate) fn encode(&self) -> Result<Bytes, Status> {
        serde_json::to_vec(self).map(Bytes::from).map_err(internal)
    }

    /// With the parameters of a batch of one row.
    pub(crate) fn bind(&mut self, batch: &RecordBatch) -> Result<(), Status> {
        if batch.num_rows() != 1 {
            let what = format!("a query takes one row of parameters, not {}", batch.num_rows());
            return Err(Status::invalid_argument(what));
        }
        let mut stream = Vec::new();
        let mut writer = StreamWriter::try_new(&mut stream, &batch.schema()).map_err(internal)?;
        writer.write(batch).and_then(|()| writer.finish()).map_err(internal)?;
        drop(writer);
        self.parameters = Some(STANDARD_NO_PAD.encode(stream));
        Ok(())
    }

    /// The bound values, in order.
    pub(crate) fn values(&self) -> Result<Vec<ScalarValue>, Status> {
        let Some(text) = &self.parameters else { return Ok(Vec::new()) };
        let bad = || Status::invalid_argument("the parameters of the prepared statement can't be read");
        let stream = STANDARD_NO_PAD.decode(text).map_err(|_| bad())?;
        let mut reader = StreamReader::try_new(stream.as_slice(), None).map_err(|_| bad())?;
        let batch = reader.next().ok_or_else(bad)?.map_err(|_| bad())?;
        batch.columns().iter().map(|column| ScalarValue::try_from_array(column, 0).map_err(internal)).collect()
    }
}
