//! Manifests: any bytes are an error or entries, and what is read of one that is written again is what was written.
#![no_main]

use esker_format::{
    AvroCodec, ColumnSet, ManifestContent, ManifestProjection, ManifestWriter, NewManifest, PartitionSpec, Schema,
    decode_manifest, manifest_schema, read_manifest,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let _ = manifest_schema(file);
    let _ = decode_manifest(file, &ManifestProjection::planning(ColumnSet::of([1, 2])));
    let Ok(batch) = decode_manifest(file, &ManifestProjection::all()) else { return };
    let schema = Schema::new(0, Vec::new()).expect("a schema");
    let spec = PartitionSpec::new(0, Vec::new());
    let (content, codec) = (ManifestContent::Data, AvroCodec::Null);
    let new = NewManifest { format_version: 3, content, schema: &schema, spec: &spec, types: &[], snapshot_id: Some(1), codec };
    let mut writer = ManifestWriter::new(&new).expect("a manifest");
    let written: Vec<_> = batch.entries().into_iter().filter(|entry| writer.existing(entry).is_ok()).collect();
    if let Ok((bytes, _)) = writer.finish("m") {
        let (_, read) = read_manifest(&bytes).expect("read again");
        assert_eq!(read.len(), written.len());
        for (read, written) in read.iter().zip(written) {
            assert_eq!(read.data_file.extra, written.data_file.extra);
        }
    }
});
