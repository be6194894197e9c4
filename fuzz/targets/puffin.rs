//! Puffin files: any bytes are an error or blobs.
#![no_main]

use bytes::Bytes;
use esker_format::read_puffin;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let Ok(metadata) = read_puffin(file) else { return };
    let file = Bytes::copy_from_slice(file);
    for blob in &metadata.blobs {
        let _ = blob.of(&file);
    }
});
