//! Tests that unknown fields of manifests and lists, of every Avro type, are kept and written back.

use std::collections::{BTreeMap, HashMap};

use iceberg::spec as theirs;
use proptest::collection::btree_map;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value as Json, json};

use super::crafted::{ValueGenerator, any_type, name_types};
use super::sample::{list, table_with, written_to};
use crate::avro::{ContainerWriter, Cursor, WriterSchema, put_bytes, put_long};
use crate::fuzz::FuzzRng;
use crate::*;

/// The unknown values of a record, encoded as [`UnknownFields`] keep them, by field id.
type EncodedValues = BTreeMap<i32, Vec<u8>>;

/// The unknown fields that a generated file gets.
struct UnknownFieldSet {
    /// The id and the Avro type of each field.
    fields: Vec<(i32, Json)>,
    /// The named Avro types within them, by name.
    types: HashMap<String, Json>,
}

impl UnknownFieldSet {
    fn new(fields: &BTreeMap<i32, Json>) -> Self {
        let mut types = Vec::new();
        let mut fields: Vec<(i32, Json)> = fields.iter().map(|(id, ty)| (*id, ty.clone())).collect();
        fields.iter_mut().for_each(|(_, ty)| name_types(ty, &mut types));
        Self { fields, types: types.into_iter().collect() }
    }

    /// Writes a file of `rows` records. Returns its bytes, and the unknown values of each record.
    ///
    /// Each record has the fields `known` (id, Avro type and encoded value), with the unknown fields between them. If `around` is
    /// an id, each record is the field with that id in an outer record, as a data file is in a manifest entry.
    fn file(
        &self,
        known: &[(i32, Json, Vec<u8>)],
        around: Option<i32>,
        rows: usize,
        dice: &mut FuzzRng,
    ) -> (Vec<u8>, Vec<EncodedValues>) {
        let mut schema: Vec<Json> = Vec::new();
        let name =
            |id: i32| if id % 2 == 0 { format!("☃ {id}") } else { ["status", "file_path", "a"][id as usize % 3].to_owned() };
        let mut order: Vec<usize> = Vec::new();
        for at in 0..known.len().max(self.fields.len()) {
            if let Some((id, ty, _)) = known.get(at) {
                schema.push(json!({"name": format!("n{id}"), "type": ty, "field-id": id}));
                order.push(at);
            }
            if let Some((id, ty)) = self.fields.get(at) {
                // Some names are those of defined fields.
                schema.push(json!({"name": format!("n_{id}"), "iceberg-field-name": name(*id), "type": ty, "field-id": id}));
                // Numbers from 1000 on stand for unknown fields.
                order.push(1000 + at);
            }
        }
        let mut schema = json!({"type": "record", "name": "record", "fields": schema});
        if let Some(id) = around {
            let fields = json!([{"name": "s", "type": "int", "field-id": 0}, {"name": "f", "type": schema, "field-id": id}]);
            schema = json!({"type": "record", "name": "around", "fields": fields});
        }
        let mut writer = ContainerWriter::new("file", AvroCodec::Null, &schema, &[]);
        let mut kept = Vec::new();
        for _ in 0..rows {
            let mut row = EncodedValues::new();
            let mut values = ValueGenerator { rng: dice, types: &self.types };
            let put = |out: &mut Vec<u8>| {
                around.into_iter().for_each(|_| put_long(out, 1));
                for at in &order {
                    match at.checked_sub(1000) {
                        None => out.extend_from_slice(&known[*at].2),
                        Some(at) => {
                            let (id, ty) = &self.fields[at];
                            row.extend(values.put(out, ty).map(|value| (*id, value)));
                        }
                    }
                }
                Ok(())
            };
            writer.add(put).expect("added");
            kept.push(row);
        }
        (writer.finish().expect("finished"), kept)
    }
}

fn bytes(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out);
    out
}

/// Writes a manifest whose data files have the unknown fields. Returns its bytes, and the unknown values of each entry.
fn manifest_of(crafted: &UnknownFieldSet, rows: usize, dice: &mut FuzzRng) -> (Vec<u8>, Vec<EncodedValues>) {
    let text = |text: &str| bytes(|out| put_bytes(out, text.as_bytes()));
    let known = [
        (100, json!("string"), text("s3://b/t/f")),
        (101, json!("string"), text("PARQUET")),
        (102, json!({"type": "record", "name": "partition", "fields": []}), Vec::new()),
        (103, json!("long"), bytes(|out| put_long(out, 10))),
        (104, json!("long"), bytes(|out| put_long(out, 100))),
    ];
    crafted.file(&known, Some(2), rows, dice)
}

/// Writes a manifest list whose manifests have the unknown fields. Returns its bytes, and the unknown values of each manifest.
fn list_of(crafted: &UnknownFieldSet, rows: usize, dice: &mut FuzzRng) -> (Vec<u8>, Vec<EncodedValues>) {
    let number = |number: i64| bytes(|out| put_long(out, number));
    let mut known = vec![(500, json!("string"), bytes(|out| put_bytes(out, b"s3://b/m")))];
    known.extend((501..=506).chain(512..=514).map(|id| (id, json!("long"), number(1))));
    crafted.file(&known, None, rows, dice)
}

/// Returns the encoded unknown values by field id.
fn kept(extra: &UnknownFields) -> EncodedValues {
    extra.iter().map(|(field, value)| (field.id, value.bytes().to_vec())).collect()
}

/// Checks that the bytes of each unknown value are exactly one value of the field's type.
fn assert_whole(extra: &UnknownFields) {
    for (field, value) in extra.iter() {
        let schema = WriterSchema::parse(field.avro_type.to_string().as_bytes()).expect("a type that stands alone");
        let mut cursor = Cursor::new(value.bytes());
        cursor.skip(&schema, schema.root()).expect("a value");
        assert!(cursor.rest().is_empty(), "{} of {}", field.id, field.avro_type);
    }
}

fn unpartitioned() -> (Schema, PartitionSpec, Vec<Option<PrimitiveType>>) {
    table_with(|_, _| None)
}

/// Generates the unknown fields of two files. Fields that are in both files have the same type, before types are named.
fn fields() -> impl Strategy<Value = [BTreeMap<i32, Json>; 2]> {
    let types = || btree_map(7000_i32..7006, any_type(), 0..4);
    (types(), types()).prop_map(|(a, b)| {
        let mut b = b;
        for (id, ty) in &mut b {
            if let Some(known) = a.get(id) {
                ty.clone_from(known);
            }
        }
        [a, b]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_nobody_knows_of_files_is_kept_and_written_back(
        fields in fields(), seed in 1_u64..u64::MAX, version in 1_u8..=3, rows in 1_usize..5,
    ) {
        let mut dice = FuzzRng::new(seed);
        // A name in the second file may refer to another type than in the first. Then a field has two types.
        let crafted = fields.map(|fields| UnknownFieldSet::new(&fields));
        let (mut entries, mut expected) = (Vec::new(), Vec::new());
        for crafted in &crafted {
            let (file, rows) = manifest_of(crafted, rows, &mut dice);
            let (_, read) = read_manifest(&file).expect("read");
            prop_assert_eq!(&read.iter().map(|entry| kept(&entry.data_file.extra)).collect::<Vec<_>>(), &rows);
            entries.extend(read);
            expected.extend(rows);
        }
        let plain = DataFile::new(DataContentType::Data, "s3://b/plain", DataFileFormat::Parquet, 1, 1);
        let plain = ManifestEntry { data_file: plain, ..entries[0].clone() };
        entries.insert(1, plain);
        expected.insert(1, EncodedValues::new());
        for entry in &mut entries {
            assert_whole(&entry.data_file.extra);
            (entry.status, entry.snapshot_id) = (ManifestStatus::Existing, Some(1));
            (entry.sequence_number, entry.file_sequence_number) = (Some(2), Some(2));
        }
        if version == 1 {
            entries.iter_mut().for_each(|entry| (entry.sequence_number, entry.file_sequence_number) = (None, None));
        }
        if one_type(entries.iter().map(|entry| &entry.data_file.extra)) {
            let (file, _) = written_to(&unpartitioned(), version, ManifestContent::Data, AvroCodec::Deflate, &entries);
            let (_, read) = read_manifest(&file).expect("read");
            prop_assert_eq!(&read, &entries);
            prop_assert_eq!(&read.iter().map(|entry| kept(&entry.data_file.extra)).collect::<Vec<_>>(), &expected);
            if !entries.iter().any(|entry| is_recursive(&entry.data_file.extra)) {
                let theirs = theirs::Manifest::parse_avro(&file).map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert_eq!(theirs.entries().len(), entries.len());
            }
        }
    }

    #[test]
    fn what_nobody_knows_of_manifests_is_kept_and_written_back(
        fields in fields(), seed in 1_u64..u64::MAX, version in 1_u8..=3, rows in 1_usize..5,
    ) {
        let mut dice = FuzzRng::new(seed);
        let (mut manifests, mut expected) = (Vec::new(), Vec::new());
        for crafted in fields.map(|fields| UnknownFieldSet::new(&fields)) {
            let (file, rows) = list_of(&crafted, rows, &mut dice);
            manifests.extend(read_manifest_list(&file).expect("read"));
            expected.extend(rows);
        }
        prop_assert_eq!(&manifests.iter().map(|manifest| kept(&manifest.extra)).collect::<Vec<_>>(), &expected);
        manifests.iter().for_each(|manifest| assert_whole(&manifest.extra));
        if version == 3 {
            manifests.iter_mut().for_each(|manifest| manifest.first_row_id = Some(5));
        }
        if one_type(manifests.iter().map(|manifest| &manifest.extra)) {
            let file = list(version, AvroCodec::Null, &manifests);
            prop_assert_eq!(&read_manifest_list(&file).expect("read"), &manifests);
            let format = [theirs::FormatVersion::V1, theirs::FormatVersion::V2, theirs::FormatVersion::V3][usize::from(version) - 1];
            if !manifests.iter().any(|manifest| is_recursive(&manifest.extra)) {
                let theirs = theirs::ManifestList::parse_with_version(&file, format);
                let theirs = theirs.map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert_eq!(theirs.entries().len(), manifests.len());
            }
        }
    }
}

/// Returns `true` if the type of one of the fields is recursive. The `iceberg` crate does not read a file with such fields.
///
/// The named types within a field are called `x70…`. A name that occurs where it is not defined is a reference to a type around it.
fn is_recursive(extra: &UnknownFields) -> bool {
    let count = |text: &str, what: &str| text.matches(what).count();
    let mut types = extra.iter().map(|(field, _)| field.avro_type.to_string());
    types.any(|ty| count(&ty, r#""x70"#) > count(&ty, r#""name":"x70"#))
}

/// Returns `true` if each field has the same type in all records.
fn one_type<'a>(extras: impl Iterator<Item = &'a UnknownFields>) -> bool {
    let mut types: BTreeMap<i32, Json> = BTreeMap::new();
    let mut same = |field: &UnknownField| *types.entry(field.id).or_insert_with(|| field.avro_type.clone()) == field.avro_type;
    extras.flat_map(UnknownFields::iter).all(|(field, _)| same(field))
}

/// Returns the entries of a manifest with one unknown field, 7001, as entries of files that existed before.
fn entries_with(ty: Json, rows: usize) -> Vec<ManifestEntry> {
    let crafted = UnknownFieldSet::new(&BTreeMap::from([(7001, ty)]));
    let (file, _) = manifest_of(&crafted, rows, &mut FuzzRng::new(7));
    let mut entries = read_manifest(&file).expect("read").1;
    for entry in &mut entries {
        (entry.status, entry.snapshot_id, entry.sequence_number) = (ManifestStatus::Existing, Some(1), Some(2));
    }
    entries
}

/// Writes entries as a manifest, and reads them again.
fn rewritten(entries: &[ManifestEntry]) -> Result<Vec<ManifestEntry>> {
    let (schema, spec, types) = unpartitioned();
    let content = ManifestContent::Data;
    let new = NewManifest {
        format_version: 2,
        content,
        schema: &schema,
        spec: &spec,
        types: &types,
        snapshot_id: Some(1),
        codec: AvroCodec::Zstandard,
    };
    let mut writer = ManifestWriter::new(&new)?;
    entries.iter().try_for_each(|entry| writer.existing(entry))?;
    Ok(read_manifest(&writer.finish("m")?.0)?.1)
}

#[test]
fn a_field_of_two_types_is_refused_by_name_and_ints_become_longs() {
    let (ints, longs, texts) =
        (entries_with(json!("int"), 3), entries_with(json!(["null", "long"]), 20), entries_with(json!("string"), 1));
    let read = rewritten(&[ints.clone(), longs.clone()].concat()).expect("numbers");
    let values = |entries: &[ManifestEntry]| entries.iter().map(|entry| kept(&entry.data_file.extra)).collect::<Vec<_>>();
    assert_eq!(values(&read), [values(&ints), values(&longs)].concat());
    let ty = |entry: &ManifestEntry| entry.data_file.extra.iter().next().map(|(field, _)| field.avro_type.clone());
    assert_eq!(ty(&read[0]), Some(json!(["null", "long"])));
    let error = rewritten(&[longs, texts].concat()).expect_err("two types").to_string();
    assert_eq!(error, r#"manifest: field 7001 (a): its types ["null","long"] and ["null","string"] can't be merged"#);
}

#[test]
fn records_of_two_writers_become_one() {
    let field = |name: &str, id: i32, ty: Json| json!({"name": name, "field-id": id, "type": ty});
    let record = |fields: &[Json]| json!({"type": "record", "fields": fields});
    let (n, s) = (field("n", 1, json!("int")), field("s", 2, json!(["null", "string"])));
    let early = entries_with(record(&[n.clone(), s.clone()]), 5);
    let late = entries_with(record(&[s, field("later", 3, json!("double")), n]), 5);
    let read = rewritten(&[early.clone(), late.clone()].concat()).expect("one type");
    let extras: Vec<_> = read.iter().map(|entry| &entry.data_file.extra).collect();
    let types: Vec<_> = extras.iter().flat_map(|extra| extra.iter().map(|(field, _)| field.avro_type.clone())).collect();
    assert_eq!((types.len(), types.windows(2).all(|types| types[0] == types[1])), (10, true));
    extras.iter().for_each(|extra| assert_whole(extra));
    // The field `later` is null in the values of the first writer, which has no such field: a byte 0 at the end.
    for (before, after) in early.iter().zip(&extras) {
        let before = kept(&before.data_file.extra)[&7001].clone();
        assert_eq!(kept(after)[&7001], [before, vec![0]].concat());
    }
    // Values of one type are written unchanged.
    assert_eq!(rewritten(&read).expect("as they are"), read);
}

#[test]
fn values_of_one_manifest_are_in_one_piece_of_memory_and_files_without_any_have_none() {
    let entries = entries_with(json!("string"), 3);
    let place = |entry: &ManifestEntry| entry.data_file.extra.iter().next().map(|(_, value)| value.bytes().as_ptr_range());
    let places: Vec<_> = entries.iter().map(|entry| place(entry).expect("a value")).collect();
    assert!(places.windows(2).all(|places| places[0].end == places[1].start));
    let nulls = entries_with(json!("null"), 3);
    assert!(nulls.iter().all(|entry| entry.data_file.extra.is_empty()));
    assert_eq!(size_of::<UnknownFields>(), size_of::<usize>());
    assert!(rewritten(&nulls).expect("written").iter().all(|entry| entry.data_file.extra == UnknownFields::default()));
}

#[test]
fn what_is_not_asked_for_is_not_kept() {
    let crafted = UnknownFieldSet::new(&BTreeMap::from([(7001, json!("int"))]));
    let (file, _) = manifest_of(&crafted, 5, &mut FuzzRng::new(7));
    let batch = decode_manifest(&file, &ManifestProjection::paths()).expect("read");
    assert!(batch.entries().iter().all(|entry| entry.data_file.extra.is_empty()));
}

/// Deprecated fields are not written back (105 `block_size_in_bytes`, 106 `file_ordinal`, 107 `sort_columns`, 111
/// `distinct_counts`).
#[test]
fn deprecated_fields_are_not_kept() {
    let fields = [105, 106, 107, 111].map(|id| (id, json!("long")));
    let (file, _) = manifest_of(&UnknownFieldSet::new(&BTreeMap::from(fields)), 2, &mut FuzzRng::new(7));
    let entries = read_manifest(&file).expect("read").1;
    assert!(entries.iter().all(|entry| entry.data_file.extra.is_empty()));
}

/// Returns manifests with unknown fields of many types, for other tests.
pub(super) fn manifests() -> Vec<Vec<u8>> {
    samples().map(|(crafted, dice)| manifest_of(&crafted, 4, &mut FuzzRng::new(dice)).0).collect()
}

/// Returns manifest lists with unknown fields of many types, for other tests.
pub(super) fn lists() -> Vec<Vec<u8>> {
    samples().map(|(crafted, dice)| list_of(&crafted, 4, &mut FuzzRng::new(dice)).0).collect()
}

fn samples() -> impl Iterator<Item = (UnknownFieldSet, u64)> {
    let mut runner = TestRunner::deterministic();
    (1..6).map(move |dice| {
        let fields = btree_map(7000_i32..7006, any_type(), 3..5).new_tree(&mut runner).expect("fields").current();
        (UnknownFieldSet::new(&fields), dice)
    })
}
