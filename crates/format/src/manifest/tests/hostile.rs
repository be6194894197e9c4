//! Damaged files must give an error or other values, but no panic and no allocation that their length does not justify. Entries
//! that are read are also written again.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value as Json;

use super::sample::{entry, list, manifest, table, table_with, written};
use super::unknown;
use crate::avro::{Container, ContainerWriter, Scratch, put_bytes};
use crate::fuzz::{FuzzRng, for_each_seed};
use crate::*;

const CODECS: [AvroCodec; 4] = [AvroCodec::Null, AvroCodec::Deflate, AvroCodec::Snappy, AvroCodec::Zstandard];

fn one<S: Strategy>(strategy: S) -> S::Value {
    strategy.new_tree(&mut TestRunner::deterministic()).expect("a value").current()
}

fn manifests() -> Vec<Vec<u8>> {
    let mut files = unknown::manifests();
    for version in 1..=3 {
        let entries = one(vec(entry(DataContentType::Data, version), 5));
        files.extend(CODECS.map(|codec| written(version, ManifestContent::Data, codec, &entries).0));
    }
    files
}

/// Returns the file with another schema in its header.
fn with_schema(file: &[u8], change: impl FnOnce(&mut Json)) -> Vec<u8> {
    let container = Container::open("file", file).expect("opened");
    let old = container.schema_json();
    let mut json: Json = serde_json::from_slice(old).expect("a schema");
    change(&mut json);
    let mut length = Vec::new();
    put_bytes(&mut length, old);
    let start = old.as_ptr() as usize - file.as_ptr() as usize;
    let mut made = file[..start + old.len() - length.len()].to_vec();
    put_bytes(&mut made, json.to_string().as_bytes());
    made.extend_from_slice(&file[start + old.len()..]);
    made
}

fn damaged(dice: &mut FuzzRng, file: &[u8]) -> Vec<u8> {
    match dice.below(3) {
        0 => with_schema(file, |schema| dice.damage_json(schema)),
        _ => dice.damage(file),
    }
}

/// Returns the memory that reading a file may take, in bytes. Blocks decompress to at most a hundredfold and 16 MiB, and an entry
/// of few bytes takes some hundred.
fn justified(file: &[u8]) -> usize {
    (64 << 20) + 1000 * file.len()
}

/// Checks that the entries of a damaged manifest can be written and read back. Most cannot be written, because their partitions do
/// not fit.
fn assert_rewritten(entries: &[ManifestEntry]) -> bool {
    let unpartitioned = table_with(|_, _| None);
    let mut is_written = false;
    for (schema, spec, types) in [&table(), &unpartitioned] {
        for content in [ManifestContent::Data, ManifestContent::Deletes] {
            let codec = AvroCodec::Null;
            let new = NewManifest { format_version: 3, content, schema, spec, types, snapshot_id: Some(1), codec };
            let mut writer = ManifestWriter::new(&new).expect("a manifest");
            let added: Vec<&ManifestEntry> = entries.iter().filter(|entry| writer.existing(entry).is_ok()).collect();
            let Ok((bytes, _)) = writer.finish("m") else { continue };
            let (_, read) = read_manifest(&bytes).expect("read again");
            let files = |entry: &ManifestEntry| (entry.data_file.file_path.clone(), entry.data_file.extra.clone());
            assert_eq!(read.iter().map(files).collect::<Vec<_>>(), added.iter().map(|entry| files(entry)).collect::<Vec<_>>());
            is_written |= !read.is_empty();
        }
    }
    is_written
}

#[test]
fn damaged_manifests_are_errors_or_other_values() {
    let (files, list) = (manifests(), one(manifest(3)));
    let (mut read, mut rewritten) = (0_u64, 0_u64);
    for_each_seed(4000, |dice| {
        let file = dice.one(&files).clone();
        let file = damaged(dice, &file);
        let (batch, bytes) = memory::with_peak_memory(|| decode_manifest(&file, &ManifestProjection::all()));
        assert!(bytes < justified(&file), "{bytes} bytes for {}", file.len());
        if let Ok(mut batch) = batch {
            read += 1;
            batch.inherit(&list);
            let entries = batch.entries();
            assert_eq!(entries.len(), batch.len());
            rewritten += u64::from(assert_rewritten(&entries));
        }
        let _ = decode_manifest(&file, &ManifestProjection::planning(ColumnSet::of([1, 2, 30])));
        let _ = manifest_schema(&file);
    });
    assert!(read > 100 && rewritten > 20, "{read} were read, {rewritten} rewritten");
}

#[test]
fn damaged_lists_are_errors_or_other_values() {
    let mut files = unknown::lists();
    for version in 1..=3 {
        let manifests = one(vec(manifest(version), 4));
        files.extend(CODECS.map(|codec| list(version, codec, &manifests)));
    }
    let mut rewritten = 0_u64;
    for_each_seed(3000, |dice| {
        let file = dice.one(&files).clone();
        let file = damaged(dice, &file);
        let (manifests, bytes) = memory::with_peak_memory(|| read_manifest_list(&file));
        assert!(bytes < justified(&file), "{bytes} bytes for {}", file.len());
        let Ok(manifests) = manifests else { return };
        let new = NewManifestList {
            format_version: 2,
            snapshot_id: 1,
            parent_snapshot_id: None,
            sequence_number: 9,
            first_row_id: None,
            codec: AvroCodec::Null,
        };
        let mut writer = ManifestListWriter::new(new).expect("a list");
        let added: Vec<&ManifestFile> = manifests.iter().filter(|manifest| writer.add(manifest).is_ok()).collect();
        if let Ok(bytes) = writer.finish() {
            let read = read_manifest_list(&bytes).expect("read again");
            let files = |manifest: &ManifestFile| (manifest.manifest_path.clone(), manifest.extra.clone());
            assert_eq!(read.iter().map(files).collect::<Vec<_>>(), added.iter().map(|file| files(file)).collect::<Vec<_>>());
            rewritten += u64::from(!read.is_empty());
        }
    });
    assert!(rewritten > 20, "{rewritten} were rewritten");
}

#[test]
fn every_cut_of_a_manifest_is_an_error_or_has_fewer_entries() {
    for file in manifests() {
        for at in (0..file.len()).step_by(7) {
            if let Ok(batch) = decode_manifest(&file[..at], &ManifestProjection::all()) {
                assert_eq!(batch.len(), 0, "cut at {at}");
            }
        }
    }
}

#[test]
fn blocks_that_grow_beyond_reason_are_refused() {
    let schema = serde_json::json!("bytes");
    let zeros = vec![0; 90 << 20];
    for codec in [AvroCodec::Deflate, AvroCodec::Zstandard, AvroCodec::Snappy] {
        let mut writer = ContainerWriter::new("file", codec, &schema, &[]);
        writer
            .add(|out| {
                put_bytes(out, &zeros);
                Ok(())
            })
            .expect("added");
        let file = writer.finish().expect("finished");
        let mut container = Container::open("file", &file).expect("opened");
        let mut scratch = Scratch::default();
        let (read, bytes) =
            memory::with_peak_memory(|| container.next(&mut scratch).map(|block| block.map(|(_, bytes)| bytes.len())));
        // Snappy decompresses a byte to at most 22 bytes.
        match codec {
            AvroCodec::Snappy => assert!(read.is_ok_and(|block| block.is_some_and(|bytes| bytes > zeros.len()))),
            _ => {
                assert!(read.expect_err("too large").to_string().contains("can't be decompressed"), "{codec:?}");
                assert!(bytes < justified(&file), "{bytes} bytes for {}", file.len());
            }
        }
    }
}
