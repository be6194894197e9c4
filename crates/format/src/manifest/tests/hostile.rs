//! Damaged files: an error or other values, but no panic, and no memory that the bytes do not justify.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::sample::{entry, list, manifest, written};
use crate::avro::{Container, ContainerWriter, Scratch, put_bytes};
use crate::dice::Dice;
use crate::*;

const CODECS: [Codec; 4] = [Codec::Null, Codec::Deflate, Codec::Snappy, Codec::Zstandard];

fn one<S: Strategy>(strategy: S) -> S::Value {
    strategy.new_tree(&mut TestRunner::deterministic()).expect("a value").current()
}

fn manifests() -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for version in 1..=3 {
        let entries = one(vec(entry(DataContentType::Data, version), 5));
        files.extend(CODECS.map(|codec| written(version, ManifestContent::Data, codec, &entries).0));
    }
    files
}

#[test]
fn damaged_manifests_are_errors_or_other_values() {
    let mut dice = Dice::new(0x9e37_79b9_7f4a_7c15);
    let mut read = 0;
    for file in manifests() {
        for _ in 0..400 {
            let damaged = dice.damage(&file);
            if let Ok(mut batch) = decode_manifest(&damaged, &Projection::all()) {
                read += 1;
                assert!(batch.memory() < 100 * (damaged.len() + 4096) * 25, "{} bytes of {}", batch.memory(), damaged.len());
                let entries = batch.entries();
                assert_eq!(entries.len(), batch.len());
                batch.inherit(&one(manifest(3)));
            }
            let _ = decode_manifest(&damaged, &Projection::planning([1, 2, 30]));
        }
    }
    assert!(read > 100, "{read} were read");
}

#[test]
fn damaged_lists_are_errors_or_other_values() {
    let mut dice = Dice::new(0x1234_5678_9abc_def1);
    for version in 1..=3 {
        let manifests = one(vec(manifest(version), 4));
        for codec in CODECS {
            let file = list(version, codec, &manifests);
            for _ in 0..400 {
                let _ = read_manifest_list(&dice.damage(&file));
            }
        }
    }
}

#[test]
fn every_cut_of_a_manifest_is_an_error_or_has_fewer_entries() {
    for file in manifests() {
        for at in (0..file.len()).step_by(7) {
            if let Ok(batch) = decode_manifest(&file[..at], &Projection::all()) {
                assert_eq!(batch.len(), 0, "cut at {at}");
            }
        }
    }
}

#[test]
fn blocks_that_grow_beyond_reason_are_refused() {
    let schema = serde_json::json!("bytes");
    let zeros = vec![0; 90 << 20];
    for codec in [Codec::Deflate, Codec::Zstandard, Codec::Snappy] {
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
        let read = container.next(&mut scratch);
        // Snappy makes no more than 22 bytes of one.
        match codec {
            Codec::Snappy => assert!(read.is_ok_and(|block| block.is_some_and(|(_, bytes)| bytes.len() > zeros.len()))),
            _ => assert!(read.expect_err("too large").to_string().contains("can't be decompressed"), "{codec:?}"),
        }
    }
}
