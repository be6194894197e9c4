//! Puffin files, written and read back, compared with the `iceberg` crate, and damaged.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use futures::executor::block_on;
use iceberg::compression::CompressionCodec;
use iceberg::io::FileIO;
use iceberg::puffin as theirs;

use super::*;
use crate::fuzz::{FuzzRng, for_each_seed};
use crate::memory;

const CODECS: [PuffinCodec; 3] = [PuffinCodec::None, PuffinCodec::Lz4, PuffinCodec::Zstd];

fn blob(name: &str) -> NewBlob {
    let properties = BTreeMap::from([("ndv".to_owned(), name.to_owned())]);
    NewBlob { blob_type: name.to_owned(), fields: vec![1, 3], snapshot_id: 5, sequence_number: -1, properties }
}

fn data(codec: PuffinCodec) -> Vec<u8> {
    (0..2000_u32).map(|at| (at / 7 + codec as u32) as u8).collect()
}

fn written(compressed: bool, codecs: &[PuffinCodec]) -> (Vec<u8>, u64) {
    let mut writer = PuffinWriter::default();
    for codec in codecs {
        writer.add(blob(&format!("{codec:?}")), &data(*codec), *codec).expect("added");
    }
    writer.finish(BTreeMap::from([("created-by".to_owned(), "esker".to_owned())]), compressed).expect("finished")
}

#[test]
fn files_are_read_as_they_were_written() {
    for compressed in [false, true] {
        let (file, footer) = written(compressed, &CODECS);
        let file = Bytes::from(file);
        assert_eq!(puffin_footer_length(&file[file.len() - 12..], file.len() as u64).expect("a length"), footer);
        let metadata = read_puffin(&file).expect("read");
        assert_eq!(metadata.properties, Some(BTreeMap::from([("created-by".to_owned(), "esker".to_owned())])));
        assert_eq!(metadata.blobs.len(), 3);
        for (blob, codec) in metadata.blobs.iter().zip(CODECS) {
            assert_eq!((blob.blob_type.clone(), blob.compression_codec.as_deref()), (format!("{codec:?}"), codec.name()));
            assert_eq!(blob.of(&file).expect("a blob"), data(codec));
        }
        let (empty, _) = written(compressed, &[]);
        assert!(read_puffin(&empty).expect("read").blobs.is_empty());
    }
}

#[test]
fn a_file_that_java_wrote_is_read() {
    // The reference implementation's empty file: a footer without blobs.
    let mut file = b"PFA1PFA1{\"blobs\":[]}".to_vec();
    file.extend_from_slice(&[12, 0, 0, 0, 0, 0, 0, 0]);
    file.extend_from_slice(b"PFA1");
    assert_eq!(read_puffin(&file).expect("read").blobs, []);
}

#[test]
fn the_crate_reads_and_writes_the_same() {
    let io = FileIO::new_with_memory();
    let codecs = [PuffinCodec::None, PuffinCodec::Zstd];
    let (file, _) = written(false, &codecs);
    block_on(io.new_output("memory:///a").expect("an output").write(file.into())).expect("written");
    let reader = theirs::PuffinReader::new(io.new_input("memory:///a").expect("an input"));
    let metadata = block_on(reader.file_metadata()).expect("read").clone();
    for (blob, codec) in metadata.blobs().iter().zip(codecs) {
        assert_eq!((blob.blob_type(), blob.fields()), (&*format!("{codec:?}"), &[1, 3][..]));
        assert_eq!(block_on(reader.blob(blob)).expect("a blob").data(), data(codec));
    }
    let mut writer =
        block_on(theirs::PuffinWriter::new(&io.new_output("memory:///b").expect("an output"), HashMap::new(), false))
            .expect("a writer");
    for (codec, theirs_codec) in codecs.into_iter().zip([CompressionCodec::None, CompressionCodec::zstd_default()]) {
        let new = theirs::Blob::builder().r#type(format!("{codec:?}")).fields(vec![1]).snapshot_id(5).sequence_number(6);
        block_on(writer.add(new.data(data(codec)).properties(HashMap::new()).build(), theirs_codec)).expect("added");
    }
    block_on(writer.close()).expect("closed");
    let file = block_on(io.new_input("memory:///b").expect("an input").read()).expect("read");
    for (blob, codec) in read_puffin(&file).expect("read").blobs.iter().zip(codecs) {
        assert_eq!((blob.snapshot_id, blob.sequence_number, blob.of(&file).expect("a blob")), (5, 6, data(codec).into()));
    }
}

#[test]
fn what_is_unknown_is_kept_and_refused_by_name_where_it_must_be_read() {
    let json = r#"{"blobs":[{"type":"x","fields":[],"snapshot-id":1,"sequence-number":1,"offset":4,"length":2,"compression-codec":"gzip","later":1}],"more":2}"#;
    let metadata: PuffinMetadata = serde_json::from_str(json).expect("read");
    let printed: serde_json::Value = serde_json::to_value(&metadata).expect("printed");
    assert_eq!(printed, serde_json::from_str::<serde_json::Value>(json).expect("read"));
    let error = metadata.blobs[0].decompress(&Bytes::from_static(b"ab")).expect_err("gzip").to_string();
    assert!(error.contains("puffin blob x at byte 4") && error.contains("gzip"), "{error}");
}

/// Damaged files must give an error or other values, but no panic and no allocation that their length does not justify.
#[test]
fn damaged_files_are_errors_or_other_values() {
    let files: Vec<Vec<u8>> = [false, true].map(|compressed| written(compressed, &CODECS).0).into();
    let mut read = 0_u64;
    for_each_seed(3000, |dice| {
        let file = dice.one(&files).clone();
        let damaged = Bytes::from(if dice.below(3) == 0 { with_footer(dice, &files[0]) } else { dice.damage(&file) });
        let justified = (64 << 20) + 500 * damaged.len();
        let ((), bytes) = memory::with_peak_memory(|| {
            if let Ok(metadata) = read_puffin(&damaged) {
                read += 1;
                for blob in &metadata.blobs {
                    let _ = blob.of(&damaged);
                }
            }
        });
        assert!(bytes < justified, "{bytes} bytes for {}", damaged.len());
    });
    assert!(read > 100, "{read} were read");
}

/// Returns the file with another, uncompressed footer.
fn with_footer(dice: &mut FuzzRng, file: &[u8]) -> Vec<u8> {
    let metadata = read_puffin(file).expect("read");
    let length = puffin_footer_length(file, file.len() as u64).expect("a footer") as usize;
    let mut json = serde_json::to_value(&metadata).expect("printed");
    dice.damage_json(&mut json);
    let json = json.to_string();
    let mut made = file[..file.len() - length + MAGIC.len()].to_vec();
    made.extend_from_slice(json.as_bytes());
    made.extend_from_slice(&(json.len() as i32).to_le_bytes());
    made.extend_from_slice(&[0, 0, 0, 0]);
    made.extend_from_slice(MAGIC);
    made
}
