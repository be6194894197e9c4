//! The rules of the specification for a table's metadata, and the violations of them.
//!
//! Readers ignore the rules: whatever exists is read. `esker check` prints all violations. A commit may add no violation, but
//! violations that exist already do not block it.
//!
//! Start with [`Rule`], [`check`] (one state of a table) and [`new_violations`] (a change).

mod columns;
mod partitions;
mod snapshots;

use std::fmt;

use crate::{FormatError, MAX_FORMAT_VERSION, Schema, TableMetadata};

/// A rule of the specification for table metadata. Each variant states what must hold, and the section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The table's format version has the type ("Schemas and Data Types"). Types that this version of Esker does not define are
    /// allowed.
    TypeOfVersion,
    /// A decimal has 1 to 38 digits, and a scale of at most that number ("Primitive Types").
    DecimalDigits,
    /// A field of type `unknown` is optional ("Primitive Types").
    UnknownIsOptional,
    /// Defaults exist only from format version 3 on ("Default values").
    DefaultOfVersion,
    /// A default is a value of its field's type; for variant, geometry, geography and unknown it is null ("Default values").
    DefaultOfType,
    /// An initial default never changes ("Default values").
    InitialDefaultChanged,
    /// A required field that is added has non-null defaults ("Schema Evolution"). Holds from format version 3 on, which has
    /// defaults.
    RequiredHasDefaults,
    /// A field stays in its struct, and a list or map keeps its element, key and value fields ("Schema Evolution").
    FieldPlace,
    /// A field changes its type only to one that the specification lists ("Schema Evolution").
    Promotion,
    /// Identifier fields are required primitive fields in required structs, but not float or double ("Identifier Field IDs").
    IdentifierField,
    /// `last-column-id` is the highest field id, and an added field has a higher one ("Table Metadata Fields").
    LastColumnId,
    /// Field ids above 2,147,483,447 are reserved for metadata columns ("Reserved Field IDs").
    ReservedFieldId,
    /// The source of a partition or sort field exists in the schema ("Partitioning", "Sorting").
    SourceExists,
    /// The source of a partition field may be in a struct, but not in a list or map ("Partitioning").
    SourcePlace,
    /// A transform accepts the type of its source ("Partition Transforms"). Transforms that this version of Esker does not define
    /// are allowed.
    SourceType,
    /// A partition field has a unique name, which no column has but the source of an identity transform ("Partitioning").
    PartitionName,
    /// A partition field id is unique in its spec, and has one source and transform in all specs ("Partition Evolution").
    PartitionFieldId,
    /// `last-partition-id` is the highest partition field id ("Table Metadata Fields").
    LastPartitionId,
    /// The snapshot of a branch or tag exists ("Snapshot References").
    ReferenceExists,
    /// `main` is a branch at the current snapshot ("Snapshot References").
    Main,
    /// Retention settings of a reference are positive, and a tag has none for snapshots ("Snapshot References").
    Retention,
    /// A snapshot's sequence number is at most the table's ("Sequence Numbers").
    SequenceNumber,
    /// A snapshot has a manifest list, or in format version 1 a list of manifests ("Snapshots").
    ManifestList,
    /// A snapshot has not both a manifest list and a list of manifests ("Snapshots").
    Manifests,
    /// From format version 2 on, a snapshot's operation is append, replace, overwrite or delete ("Snapshots").
    Operation,
    /// The schema of a snapshot exists ("Snapshots").
    SnapshotSchema,
    /// Encryption keys exist only from format version 3 on, are in Base64, and include those that snapshots name ("Table Metadata
    /// Fields").
    EncryptionKey,
    /// The edge algorithm of a geography is one that the specification lists ("Primitive Types").
    EdgeAlgorithm,
    /// In format version 3 a snapshot has a first row id and a row count, both below the table's next row id ("Row Lineage").
    RowLineage,
}

impl Rule {
    /// Returns the title of the specification's section that has the rule.
    pub const fn section(self) -> &'static str {
        match self {
            Self::TypeOfVersion => "Schemas and Data Types",
            Self::DecimalDigits | Self::UnknownIsOptional | Self::EdgeAlgorithm => "Primitive Types",
            Self::DefaultOfVersion | Self::DefaultOfType | Self::InitialDefaultChanged => "Default values",
            Self::Promotion | Self::RequiredHasDefaults | Self::FieldPlace => "Schema Evolution",
            Self::IdentifierField => "Identifier Field IDs",
            Self::LastColumnId | Self::LastPartitionId | Self::EncryptionKey => "Table Metadata Fields",
            Self::ReservedFieldId => "Reserved Field IDs",
            Self::SourceExists | Self::SourcePlace | Self::PartitionName => "Partitioning",
            Self::SourceType => "Partition Transforms",
            Self::PartitionFieldId => "Partition Evolution",
            Self::ReferenceExists | Self::Main | Self::Retention => "Snapshot References",
            Self::SequenceNumber => "Sequence Numbers",
            Self::ManifestList | Self::Manifests | Self::Operation | Self::SnapshotSchema => "Snapshots",
            Self::RowLineage => "Row Lineage",
        }
    }
}

/// A violation: a rule, and the part of a table's metadata that breaks it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Violation {
    /// The rule that is broken.
    pub rule: Rule,
    /// The part that breaks the rule: a field, a snapshot, a reference.
    pub what: String,
    /// The way in which it breaks the rule.
    pub why: String,
    /// The id of the snapshot, if a snapshot breaks the rule.
    pub snapshot_id: Option<i64>,
    /// A key that identifies the violation in another state of the table. A later schema or spec inherits the violations of a
    /// field.
    subject: String,
}

impl Violation {
    pub(crate) fn new(rule: Rule, what: impl Into<String>, why: impl Into<String>) -> Self {
        let what = what.into();
        Self { rule, subject: what.clone(), what, why: why.into(), snapshot_id: None }
    }

    /// Creates a violation of a field. It is the same violation in every schema or spec that has the field.
    pub(crate) fn of_field(rule: Rule, what: String, why: String, id: i32) -> Self {
        Self { subject: format!("field {id}: {why}"), ..Self::new(rule, what, why) }
    }
}

/// Converts the violation to a refusal: a change that would break a rule is not made.
impl From<Violation> for FormatError {
    fn from(violation: Violation) -> Self {
        Self::Refused(format!("{violation} (specification, {:?})", violation.rule.section()))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// Returns all violations in a table's metadata.
pub fn check(metadata: &TableMetadata) -> Vec<Violation> {
    let mut found = of_state(metadata);
    found.extend(columns::evolution(metadata));
    found
}

/// Returns the violations that one state shows, without those of schema evolution.
fn of_state(metadata: &TableMetadata) -> Vec<Violation> {
    let mut found = columns::check(metadata);
    found.extend(partitions::check(metadata));
    found.extend(snapshots::check(metadata));
    found
}

/// Returns the first violation in a view's schema, by the rules of the latest format version: a view's schema has none of its own.
pub(crate) fn of_view_schema(schema: &Schema) -> Option<Violation> {
    columns::of_schema(schema, MAX_FORMAT_VERSION).into_iter().next()
}

/// Returns the violations that a change adds, without those that existed before.
pub fn new_violations(before: &TableMetadata, after: &TableMetadata) -> Vec<Violation> {
    let old = of_state(before);
    let is_old = |violation: &Violation| old.iter().any(|old| old.rule == violation.rule && old.subject == violation.subject);
    let mut found: Vec<Violation> = of_state(after).into_iter().filter(|violation| !is_old(violation)).collect();
    found.extend(columns::changed(before, after));
    found.extend(partitions::changed(before, after));
    found
}

#[cfg(test)]
mod changes;

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::json::tests::of_version;

    /// A change of a table's JSON that breaks a rule.
    type Broken = Box<dyn FnOnce(&mut Json)>;

    fn found(version: u8, change: impl FnOnce(&mut Json)) -> Vec<Violation> {
        let mut json = of_version(version);
        // Without a dropped column, spec and table break no rule.
        json["partition-specs"][0]["fields"].as_array_mut().expect("fields").pop();
        json.as_object_mut().expect("an object").remove("partition-spec");
        json.as_object_mut().expect("an object").remove("schema");
        json["last-column-id"] = json!(4);
        change(&mut json);
        check(&TableMetadata::from_json(json.to_string().as_bytes()).expect("read"))
    }

    fn field(id: i32, ty: Json, required: bool) -> Json {
        json!({"id": id, "name": format!("f{id}"), "required": required, "type": ty})
    }

    fn nested(id: i32, inner: Json) -> Json {
        field(id, json!({"type": "struct", "fields": [inner]}), false)
    }

    fn push(json: &mut Json, path: &str, value: Json) {
        json.pointer_mut(path).and_then(Json::as_array_mut).expect("a list").push(value);
    }

    #[test]
    fn a_table_that_keeps_the_rules_has_no_violation() {
        for version in 1..=3 {
            assert_eq!(found(version, |_| {}), [], "{version}");
        }
    }

    /// Cases: a format version, a change of a table, the rule that it breaks, and a piece of the violation's text.
    type Cases = Vec<(u8, Broken, Rule, &'static str)>;

    fn column(value: Json) -> Broken {
        Box::new(move |json: &mut Json| push(json, "/schemas/1/fields", value))
    }

    fn set(path: &'static str, value: Json) -> Broken {
        Box::new(move |json: &mut Json| {
            let (parent, key) = path.rsplit_once('/').expect("a path");
            json.pointer_mut(parent).expect("what is changed")[key] = value;
        })
    }

    fn of_columns() -> Cases {
        use Rule::*;
        let default = json!({"id": 4, "name": "v", "required": false, "type": "variant", "write-default": 1});
        vec![
            (3, set("/schemas/1/fields/0/initial-default", json!(1)), InitialDefaultChanged, "x (1)"),
            (2, column(field(4, json!("variant"), false)), TypeOfVersion, "field f4 (4): variant is not supported until v3"),
            (2, column(field(4, json!("timestamp_ns"), false)), TypeOfVersion, "timestamp_ns"),
            (2, column(field(4, json!("decimal(39, 2)"), false)), DecimalDigits, "decimal(39, 2)"),
            (3, column(field(5, json!("unknown"), true)), UnknownIsOptional, "f5"),
            (3, column(field(4, json!("geography(OGC:CRS84, flat)"), false)), EdgeAlgorithm, "flat is not one of spherical"),
            (2, set("/schemas/1/fields/1/write-default", json!(1)), DefaultOfVersion, "write-default"),
            (3, set("/schemas/1/fields/1/write-default", json!("x")), DefaultOfType, "\"x\""),
            (3, column(default), DefaultOfType, "v (4)"),
            (2, set("/schemas/1/fields/0/type", json!("string")), Promotion, "it was int and can't become string"),
            (2, column(field(4, json!("int"), true)), Promotion, "f4 (4): it was string"),
            (3, set("/snapshots/0/schema-id", json!(0)), RequiredHasDefaults, "schema 1, field z (3): it is required, was added"),
            (2, column(nested(5, field(4, json!("string"), false))), FieldPlace, "f5.f4 (4): it was in the table's own fields"),
            (2, set("/schemas/1/fields/1/required", json!(false)), IdentifierField, "y is optional"),
            (2, set("/schemas/1/fields/1/type", json!("double")), IdentifierField, "is double"),
            (2, set("/last-column-id", json!(2)), LastColumnId, "it is 2"),
        ]
    }

    fn of_partitions() -> Cases {
        use Rule::*;
        let in_list: Broken = Box::new(|json| {
            let list = json!({"type": "list", "element-id": 6, "element": "int", "element-required": true});
            push(json, "/schemas/1/fields", field(5, list, false));
            json["partition-specs"][0]["fields"][0]["source-id"] = json!(6);
        });
        let other_meaning: Broken = Box::new(|json| {
            let field = json!({"name": "p", "transform": "identity", "source-id": 2, "field-id": 1000});
            push(json, "/partition-specs", json!({"spec-id": 1, "fields": [field]}));
        });
        vec![
            (2, set("/partition-specs/0/fields/0/source-id", json!(9)), SourceExists, "id 9"),
            (2, in_list, SourcePlace, "in a list"),
            (2, set("/partition-specs/0/fields/0/transform", json!("day")), SourceType, "day does not accept long"),
            (2, set("/partition-specs/0/fields/0/name", json!("y")), PartitionName, "a column is called y"),
            (2, other_meaning, PartitionFieldId, "its id 1000 means x"),
            (2, set("/last-partition-id", json!(999)), LastPartitionId, "1000"),
            (2, set("/sort-orders/0/fields/0/source-id", json!(9)), SourceExists, "sort order 3, field 1"),
        ]
    }

    fn of_snapshots() -> Cases {
        use Rule::*;
        let key = |text: &str| json!([{"key-id": "k", "encrypted-key-metadata": text}]);
        let no_list: Broken = Box::new(|json| {
            json["snapshots"][0].as_object_mut().expect("a snapshot").remove("manifest-list");
        });
        vec![
            (2, set("/refs/t/snapshot-id", json!(9)), ReferenceExists, "tag t: snapshot 9"),
            (2, set("/refs/main/type", json!("tag")), Main, "main must be a branch"),
            (2, set("/current-snapshot-id", json!(3_051_729_675_574_597_004_i64)), Main, "current-snapshot-id"),
            (2, set("/refs/t/max-ref-age-ms", json!(0)), Retention, "max-ref-age-ms must be greater than 0"),
            (2, set("/refs/t/min-snapshots-to-keep", json!(1)), Retention, "tag t: min-snapshots-to-keep is only for branches"),
            (2, set("/refs/t/max-snapshot-age-ms", json!(1)), Retention, "tag t: max-snapshot-age-ms is only for branches"),
            (2, set("/last-sequence-number", json!(0)), SequenceNumber, "above the table's, 0"),
            (2, no_list, ManifestList, "manifest-list"),
            (1, set("/snapshots/0/manifests", json!(["s3://a/b/m.avro"])), Manifests, "both manifests and a manifest-list"),
            (2, set("/snapshots/0/manifests", json!([])), Manifests, "both manifests and a manifest-list"),
            (2, set("/snapshots/0/summary", json!({})), Operation, "operation"),
            (2, set("/snapshots/1/schema-id", json!(7)), SnapshotSchema, "schema 7"),
            (3, set("/next-row-id", json!(4)), RowLineage, "end at 5"),
            (3, set("/snapshots/0/key-id", json!("k9")), EncryptionKey, "encryption-keys has no k9"),
            (3, set("/encryption-keys", key("%%%")), EncryptionKey, "encryption key k: encrypted-key-metadata is not Base64"),
            (2, set("/encryption-keys", key("aGk=")), EncryptionKey, "version 3"),
        ]
    }

    #[test]
    fn each_rule_is_found_with_what_breaks_it() {
        for (version, change, rule, words) in of_columns().into_iter().chain(of_partitions()).chain(of_snapshots()) {
            let found = found(version, change);
            assert!(found.iter().any(|v| v.rule == rule && v.to_string().contains(words)), "{rule:?} {words}: {found:?}");
        }
    }

    /// Spec: "Schema Evolution": a date may become a timestamp unless the values of a partition field would change.
    #[test]
    fn a_date_becomes_a_timestamp_unless_its_partition_would_be_another() {
        let promoted = |transform: &str| {
            found(3, |json| {
                json["schemas"][0]["fields"][0]["type"] = json!("date");
                json["schemas"][1]["fields"][0]["type"] = json!("timestamp");
                json["schemas"][1]["identifier-field-ids"] = json!([]);
                json["partition-specs"][0]["fields"][0] =
                    json!({"name": "p", "transform": transform, "source-id": 1, "field-id": 1000});
            })
        };
        assert_eq!(promoted("day"), []);
        assert_eq!(promoted("void"), []);
        for transform in ["identity", "bucket[4]"] {
            assert!(promoted(transform).iter().any(|v| v.rule == Rule::Promotion), "{transform}");
        }
    }

    /// Rows that are older than a required column get its default. No default is needed if there are no such rows, and format
    /// versions below 3 have none.
    #[test]
    fn a_required_column_needs_defaults_where_rows_may_be_older() {
        let added = |version: u8, column: Json, change: fn(&mut Json)| {
            let mut found = found(version, |json| {
                push(json, "/schemas/1/fields", column);
                json["last-column-id"] = json!(9);
                json["snapshots"][0]["schema-id"] = json!(0);
                change(json);
            });
            found.retain(|violation| violation.rule == Rule::RequiredHasDefaults && violation.what.contains("field f"));
            found.len()
        };
        let required = || field(5, json!("int"), true);
        let with = |name: &str, value: Json| {
            let mut field = required();
            field[name] = value;
            field
        };
        let both = json!({"id": 5, "name": "f5", "required": true, "type": "int", "initial-default": 0, "write-default": 1});
        assert_eq!(added(3, required(), |_| {}), 1);
        assert_eq!(added(3, with("initial-default", json!(1)), |_| {}), 1);
        assert_eq!(added(3, with("write-default", json!(1)), |_| {}), 1);
        assert_eq!(added(3, both, |_| {}), 0);
        assert_eq!(added(3, field(5, json!("int"), false), |_| {}), 0);
        assert_eq!(
            added(2, required(), |_| {}),
            0,
            "version 2 has no defaults, and Java's clients add such a column if they are told to"
        );
        // A required field within an added struct is missing together with the struct.
        assert_eq!(added(3, nested(5, field(6, json!("int"), true)), |_| {}), 0);
        // All snapshots that a branch reaches have the schema with the column.
        let replaced = |json: &mut Json| {
            json["snapshots"][1].as_object_mut().expect("a snapshot").remove("parent-snapshot-id");
        };
        assert_eq!(added(3, required(), replaced), 0);
        let other_branch = |json: &mut Json| {
            json["snapshots"][1].as_object_mut().expect("a snapshot").remove("parent-snapshot-id");
            json["refs"]["t"] = json!({"snapshot-id": 3_051_729_675_574_597_004_i64, "type": "branch"});
        };
        assert_eq!(added(3, required(), other_branch), 1);
    }

    /// The schema that an old violation names may change. The violation still blocks nothing.
    #[test]
    fn schemas_are_removed_from_a_table_whose_columns_became_what_they_may_not() {
        let mut json = of_version(2);
        let mut third = json["schemas"][1].clone();
        third["schema-id"] = json!(2);
        third["fields"][2]["type"] = json!("string");
        let mut last = third.clone();
        last["schema-id"] = json!(3);
        push(&mut json, "/schemas", third);
        push(&mut json, "/schemas", last);
        let before = TableMetadata::from_json(json.to_string().as_bytes()).expect("read");
        assert!(check(&before).iter().any(|violation| violation.what == "schema 2, field z (3)"));
        json["schemas"].as_array_mut().expect("schemas").remove(2);
        let after = TableMetadata::from_json(json.to_string().as_bytes()).expect("read");
        assert!(check(&after).iter().any(|violation| violation.what == "schema 3, field z (3)"));
        assert_eq!(new_violations(&before, &after), []);
    }

    #[test]
    fn what_nobody_knows_yet_breaks_no_rule() {
        let found = found(2, |json| {
            push(json, "/schemas/1/fields", field(4, json!("interval(day)"), false));
            json["schemas"].as_array_mut().expect("schemas").remove(0);
            json["partition-specs"][0]["fields"][0]["transform"] = json!("zorder");
            json["partition-specs"][0]["fields"][0]["name"] = json!("p");
        });
        assert_eq!(found, []);
    }
}
