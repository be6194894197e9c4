//! The JSON form of the footers of Puffin files.
//!
//! Spec: Puffin specification, "Footer Payload".

use crate::{PuffinBlob, PuffinMetadata};

json_object!(PuffinMetadata {
    needed "blobs" => blobs,
    optional "properties" => properties,
});

json_object!(PuffinBlob {
    needed "type" => blob_type,
    needed "fields" => fields,
    needed "snapshot-id" => snapshot_id,
    needed "sequence-number" => sequence_number,
    needed "offset" => offset,
    needed "length" => length,
    optional "compression-codec" => compression_codec,
    optional "properties" => properties,
});
