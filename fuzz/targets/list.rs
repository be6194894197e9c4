//! Manifest lists: any bytes are an error or manifests, and what is read of one that is written again is what was written.
#![no_main]

use esker_format::{AvroCodec, ManifestFile, ManifestListWriter, NewManifestList, read_manifest_list};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let Ok(manifests) = read_manifest_list(file) else { return };
    let new = NewManifestList {
        format_version: 2,
        snapshot_id: 1,
        parent_snapshot_id: None,
        sequence_number: 9,
        first_row_id: None,
        codec: AvroCodec::Null,
    };
    let mut writer = ManifestListWriter::new(new).expect("a list");
    let written: Vec<ManifestFile> = manifests.into_iter().filter(|manifest| writer.add(manifest).is_ok()).collect();
    if let Ok(bytes) = writer.finish() {
        let read = read_manifest_list(&bytes).expect("read again");
        assert_eq!(read.len(), written.len());
        for (read, written) in read.iter().zip(written) {
            assert_eq!((&read.manifest_path, &read.extra), (&written.manifest_path, &written.extra));
        }
    }
});
