//! The parameters that a client binds to a statement: read from its messages, and turned into rows of values.
//!
//! A client may send any bytes. A few of them can stand for very many rows, for a long text in each of these, or for a buffer of any
//! size once it is decompressed. So messages, values and their sizes are bounded, and nothing is decompressed. Start reading at
//! [`read`].

use std::future::ready;

use arrow::array::{Array, RecordBatch};
use arrow::ipc::root_as_message;
use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use datafusion::scalar::ScalarValue;
use esker_query::BoundValues;
use esker_types::catch_panic;
use futures::{Stream, TryStreamExt};
use tonic::Status;

use crate::error::invalid;

/// The maximum size in bytes of the messages with the parameters of one call.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// The maximum number of values that a call binds, in all rows together. Each takes about a hundred bytes.
const MAX_VALUES: usize = 1_000_000;

/// The maximum size in bytes of all values that a call binds. Values that share a buffer in a message have copies of their own here.
const MAX_VALUE_BYTES: usize = 256 << 20;

/// Reads the batches of parameters that a client sends.
///
/// Batches without columns are dropped: some clients send one when a statement has no parameters.
///
/// # Errors
///
/// Returns the status `INVALID_ARGUMENT` if the messages are compressed, have more than [`MAX_MESSAGE_BYTES`] bytes, or can't be
/// decoded, and the status of a call that breaks off.
pub(crate) async fn read(
    messages: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
) -> Result<Vec<RecordBatch>, Status> {
    let mut received = 0;
    // Some clients send a message without content when nothing is bound.
    let messages = messages.try_filter(|message| ready(!message.data_header.is_empty()));
    let messages = messages.and_then(move |message| {
        received += message.data_header.len() + message.data_body.len();
        ready(check(&message, received).map(|()| message))
    });
    let messages = messages.map_err(|e| FlightError::Tonic(Box::new(e)));
    let decoded = FlightRecordBatchStream::new_from_flight_data(messages).try_collect::<Vec<RecordBatch>>();
    let batches = match catch_panic(decoded).await {
        Ok(Ok(batches)) => batches,
        Ok(Err(FlightError::Tonic(status))) => return Err(*status),
        Ok(Err(error)) => return Err(invalid(format!("the parameters can't be decoded: {error}"))),
        // Arrow's decoder asserts some of what a message says.
        Err(panic) => return Err(invalid(format!("the parameters can't be decoded: {panic}"))),
    };
    Ok(batches.into_iter().filter(|batch| batch.num_columns() > 0).collect())
}

/// Checks a message before it is decoded. `received` is the size in bytes of all messages up to this one.
///
/// Arrow's decoder allocates what a compressed buffer says to be its size. So a message of a few bytes could end the process.
///
/// # Errors
///
/// Returns the status `INVALID_ARGUMENT` if the messages are too large, or this one is compressed.
fn check(message: &FlightData, received: usize) -> Result<(), Status> {
    if received > MAX_MESSAGE_BYTES {
        let what = format!("the parameters of a call have more than {} MiB; bind fewer rows at a time", MAX_MESSAGE_BYTES >> 20);
        return Err(invalid(what));
    }
    // What can't be read is refused by the decoder.
    let Ok(message) = root_as_message(&message.data_header) else { return Ok(()) };
    let batch = message.header_as_record_batch().or_else(|| message.header_as_dictionary_batch()?.data());
    match batch.is_some_and(|batch| batch.compression().is_some()) {
        true => Err(invalid("compressed parameters are not read; send them without compression")),
        false => Ok(()),
    }
}

/// Returns the rows of some batches of parameters, one batch after the other, with one value for each column.
///
/// # Errors
///
/// Returns the status `INVALID_ARGUMENT` for a column of a type that has no scalar value, and if there are more than [`MAX_VALUES`]
/// values or more than [`MAX_VALUE_BYTES`] bytes of them.
pub(crate) fn rows(batches: &[RecordBatch]) -> Result<BoundValues, Status> {
    let counts = batches.iter().map(|batch| batch.num_rows().saturating_mul(batch.num_columns().max(1)));
    if counts.fold(0, usize::saturating_add) > MAX_VALUES {
        return Err(invalid(format!("a call binds at most {MAX_VALUES} values; bind fewer rows at a time")));
    }
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for batch in batches {
        for row in 0..batch.num_rows() {
            let mut values = Vec::with_capacity(batch.num_columns());
            for column in batch.columns() {
                let value = ScalarValue::try_from_array(column, row).map_err(invalid)?;
                // The items of a list or struct stay in the buffers of the message.
                if !column.data_type().is_nested() {
                    bytes += value.size();
                }
                if bytes > MAX_VALUE_BYTES {
                    let what = format!("a call binds at most {} MiB; bind fewer rows at a time", MAX_VALUE_BYTES >> 20);
                    return Err(invalid(what));
                }
                values.push(value);
            }
            rows.push(values);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int8Array, Int64Array, NullArray, StringArray};
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::IpcWriteOptions;
    use arrow_flight::encode::FlightDataEncoderBuilder;
    use futures::executor::block_on;
    use futures::stream;
    use tonic::Code;

    use super::*;

    fn batch(column: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([("p", column, true)]).expect("a batch")
    }

    /// Returns the messages of a client that sends a batch.
    fn messages(batch: RecordBatch, options: IpcWriteOptions) -> Vec<FlightData> {
        let encoder = FlightDataEncoderBuilder::new().with_options(options).build(stream::iter([Ok(batch)]));
        block_on(encoder.try_collect()).expect("encoded")
    }

    fn read_all(messages: Vec<FlightData>) -> Result<Vec<RecordBatch>, Status> {
        block_on(read(stream::iter(messages.into_iter().map(Ok))))
    }

    #[test]
    fn parameters_are_read_as_they_were_sent() {
        let sent = batch(Arc::new(Int64Array::from(vec![Some(1), None])));
        let read = read_all(messages(sent.clone(), IpcWriteOptions::default())).expect("read");
        assert_eq!(read, [sent]);
        assert_eq!(rows(&read).expect("rows"), [[ScalarValue::Int64(Some(1))], [ScalarValue::Int64(None)]]);
    }

    #[test]
    fn compressed_messages_are_refused_before_they_are_decoded() {
        for codec in [CompressionType::ZSTD, CompressionType::LZ4_FRAME] {
            let options = IpcWriteOptions::default().try_with_compression(Some(codec)).expect("a codec");
            let mut sent = messages(batch(Arc::new(Int64Array::from(vec![7; 1000]))), options);
            // The size that the first buffer says to have, which a decoder would allocate.
            for message in &mut sent {
                let mut body = message.data_body.to_vec();
                if let Some(size) = body.get_mut(..8) {
                    size.copy_from_slice(&(1_i64 << 45).to_le_bytes());
                }
                message.data_body = body.into();
            }
            let refused = read_all(sent).expect_err("compressed");
            assert!(refused.code() == Code::InvalidArgument && refused.message().contains("compression"), "{refused}");
        }
    }

    #[test]
    fn messages_are_bounded_together() {
        let sent = messages(batch(Arc::new(Int64Array::from(vec![1]))), IpcWriteOptions::default());
        for message in &sent {
            check(message, MAX_MESSAGE_BYTES).expect("within the limit");
            assert_eq!(check(message, MAX_MESSAGE_BYTES + 1).expect_err("too large").code(), Code::InvalidArgument);
        }
    }

    #[test]
    fn few_bytes_stand_for_no_more_rows_and_texts_than_fit_into_memory() {
        let endless = batch(Arc::new(NullArray::new(1 << 40)));
        let refused = rows(&[endless]).expect_err("too many rows");
        assert!(refused.code() == Code::InvalidArgument && refused.message().contains("values"), "{refused}");
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1 << 20)]));
        let repeated = DictionaryArray::new(Int8Array::from(vec![0_i8; 100_000]), text);
        let refused = rows(&[batch(Arc::new(repeated))]).expect_err("too many bytes");
        assert!(refused.code() == Code::InvalidArgument && refused.message().contains("MiB"), "{refused}");
    }

    #[test]
    fn a_message_that_says_what_it_does_not_have_is_refused() {
        let mut sent = messages(batch(Arc::new(StringArray::from(vec!["text"; 100]))), IpcWriteOptions::default());
        for message in &mut sent {
            message.data_body.truncate(8);
        }
        assert_eq!(read_all(sent).expect_err("cut").code(), Code::InvalidArgument);
    }
}
