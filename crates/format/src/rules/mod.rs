//! What the specification allows of a table's metadata.
//!
//! Reading ignores it: what exists is read. `esker check` prints it, and a commit may add no violation, while old ones don't block it.

mod columns;
mod partitions;
mod snapshots;

use std::fmt;

use crate::{FormatError, TableMetadata};

/// A rule of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A type belongs to a later version of the format ("Schemas and Data Types"). One that nobody knows yet may be a later engine's.
    TypeOfVersion,
    /// A decimal has 1 to 38 digits, of which so many are behind the point at most ("Primitive Types").
    DecimalDigits,
    /// A field of the type unknown is optional ("Primitive Types").
    UnknownIsOptional,
    /// Defaults belong to version 3 ("Default values").
    DefaultOfVersion,
    /// A default is a value of its field's type; of variant, geometry, geography and unknown it is null ("Default values").
    DefaultOfType,
    /// An initial default never changes ("Default values").
    InitialDefaultChanged,
    /// A field becomes another type that the specification lists, and no other ("Schema Evolution").
    Promotion,
    /// Identifier fields are required fields of simple types but float and double, in required structs ("Identifier Field IDs").
    IdentifierField,
    /// `last-column-id` is the highest id of a field ("Table Metadata Fields").
    LastColumnId,
    /// A partition or sort field has a source that the schema has ("Partitioning", "Sorting").
    SourceExists,
    /// A partition field's source may be in a struct, but in no list and no map ("Partitioning").
    SourcePlace,
    /// A transform takes the type of its source ("Partition Transforms"). One that nobody knows yet may be a later engine's.
    SourceType,
    /// Names of partition fields are apart from one another, and from columns but an identity's own ("Partitioning").
    PartitionName,
    /// An id of a partition field means one source and transform ("Partition Evolution").
    PartitionFieldId,
    /// `last-partition-id` is the highest id of a partition field ("Table Metadata Fields").
    LastPartitionId,
    /// A branch or tag is at a snapshot that is there ("Snapshot References").
    ReferenceExists,
    /// `main` is a branch, at the current snapshot ("Snapshot References").
    Main,
    /// What a reference keeps is more than nothing ("Snapshot Retention Policy").
    Retention,
    /// A snapshot's sequence number is no higher than the table's ("Sequence Numbers").
    SequenceNumber,
    /// From version 2 on a snapshot has a manifest list ("Snapshots").
    ManifestList,
    /// From version 2 on a snapshot says what its commit did ("Snapshots").
    Operation,
    /// A snapshot has a schema that is there ("Snapshots").
    SnapshotSchema,
    /// In version 3 a snapshot has a first row id and a number of rows, below the table's next ("Row Lineage").
    RowLineage,
}

impl Rule {
    /// The section of the specification that has it.
    pub const fn section(self) -> &'static str {
        match self {
            Self::TypeOfVersion => "Schemas and Data Types",
            Self::DecimalDigits | Self::UnknownIsOptional => "Primitive Types",
            Self::DefaultOfVersion | Self::DefaultOfType | Self::InitialDefaultChanged => "Default values",
            Self::Promotion => "Schema Evolution",
            Self::IdentifierField => "Identifier Field IDs",
            Self::LastColumnId | Self::LastPartitionId => "Table Metadata Fields",
            Self::SourceExists | Self::SourcePlace | Self::PartitionName => "Partitioning",
            Self::SourceType => "Partition Transforms",
            Self::PartitionFieldId => "Partition Evolution",
            Self::ReferenceExists | Self::Main => "Snapshot References",
            Self::Retention => "Snapshot Retention Policy",
            Self::SequenceNumber => "Sequence Numbers",
            Self::ManifestList | Self::Operation | Self::SnapshotSchema => "Snapshots",
            Self::RowLineage => "Row Lineage",
        }
    }
}

/// A rule that a table's metadata breaks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// What breaks it: a field, a snapshot, a reference. The same in another state of the table is the same violation.
    pub what: String,
    /// How.
    pub why: String,
    /// The snapshot, if it is one that breaks the rule.
    pub snapshot_id: Option<i64>,
}

impl Violation {
    pub(crate) fn new(rule: Rule, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { rule, what: what.into(), why: why.into(), snapshot_id: None }
    }
}

/// A change that would break a rule is refused.
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

/// The rules that a table's metadata breaks.
pub fn check(metadata: &TableMetadata) -> Vec<Violation> {
    let mut found = columns::check(metadata);
    found.extend(partitions::check(metadata));
    found.extend(snapshots::check(metadata));
    found
}

/// The rules that a change breaks that were not broken before it.
pub fn added(before: &TableMetadata, after: &TableMetadata) -> Vec<Violation> {
    let old = check(before);
    let is_new = |violation: &Violation| !old.iter().any(|old| old.rule == violation.rule && old.what == violation.what);
    check(after).into_iter().filter(is_new).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::json::tests::of_version;

    /// What breaks a rule.
    type Broken = Box<dyn FnOnce(&mut Json)>;

    fn found(version: u8, change: impl FnOnce(&mut Json)) -> Vec<Violation> {
        let mut json = of_version(version);
        // A spec and a table without a dropped column break nothing.
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

    fn push(json: &mut Json, path: &str, value: Json) {
        json.pointer_mut(path).and_then(Json::as_array_mut).expect("a list").push(value);
    }

    #[test]
    fn a_table_that_keeps_the_rules_has_no_violation() {
        for version in 1..=3 {
            assert_eq!(found(version, |_| {}), [], "{version}");
        }
    }

    #[test]
    fn each_rule_is_found_with_what_breaks_it() {
        use Rule::*;
        let column = |value: Json| move |json: &mut Json| push(json, "/schemas/1/fields", value);
        let cases: Vec<(u8, Broken, Rule, &str)> = vec![
            (3, Box::new(|json| json["schemas"][1]["fields"][0]["initial-default"] = json!(1)), InitialDefaultChanged, "x (1)"),
            (
                2,
                Box::new(column(field(4, json!("variant"), false))),
                TypeOfVersion,
                "field f4 (4): variant is not supported until v3",
            ),
            (2, Box::new(column(field(4, json!("timestamp_ns"), false))), TypeOfVersion, "timestamp_ns"),
            (2, Box::new(column(field(4, json!("decimal(39, 2)"), false))), DecimalDigits, "decimal(39, 2)"),
            (3, Box::new(column(field(5, json!("unknown"), true))), UnknownIsOptional, "f5"),
            (2, Box::new(|json| json["schemas"][1]["fields"][1]["write-default"] = json!(1)), DefaultOfVersion, "write-default"),
            (3, Box::new(|json| json["schemas"][1]["fields"][1]["write-default"] = json!("x")), DefaultOfType, "\"x\""),
            (
                3,
                Box::new(column(json!({"id": 4, "name": "v", "required": false, "type": "variant", "write-default": 1}))),
                DefaultOfType,
                "v (4)",
            ),
            (
                2,
                Box::new(|json| json["schemas"][1]["fields"][0]["type"] = json!("string")),
                Promotion,
                "it was int and can't become string",
            ),
            (2, Box::new(column(field(4, json!("int"), true))), Promotion, "f4 (4): it was string"),
            (2, Box::new(|json| json["schemas"][1]["fields"][1]["required"] = json!(false)), IdentifierField, "y is optional"),
            (2, Box::new(|json| json["schemas"][1]["fields"][1]["type"] = json!("double")), IdentifierField, "it is double"),
            (2, Box::new(|json| json["last-column-id"] = json!(2)), LastColumnId, "it is 2"),
            (2, Box::new(|json| json["partition-specs"][0]["fields"][0]["source-id"] = json!(9)), SourceExists, "id 9"),
            (
                2,
                Box::new(|json| {
                    let list = json!({"type": "list", "element-id": 6, "element": "int", "element-required": true});
                    push(json, "/schemas/1/fields", field(5, list, false));
                    json["partition-specs"][0]["fields"][0]["source-id"] = json!(6);
                }),
                SourcePlace,
                "in a list",
            ),
            (
                2,
                Box::new(|json| json["partition-specs"][0]["fields"][0]["transform"] = json!("day")),
                SourceType,
                "day takes no long",
            ),
            (
                2,
                Box::new(|json| json["partition-specs"][0]["fields"][0]["name"] = json!("y")),
                PartitionName,
                "a column is called y",
            ),
            (
                2,
                Box::new(|json| {
                    push(
                        json,
                        "/partition-specs",
                        json!({"spec-id": 1, "fields": [
                {"name": "p", "transform": "identity", "source-id": 2, "field-id": 1000}]}),
                    )
                }),
                PartitionFieldId,
                "its id 1000 means x",
            ),
            (2, Box::new(|json| json["last-partition-id"] = json!(999)), LastPartitionId, "1000"),
            (
                2,
                Box::new(|json| json["sort-orders"][0]["fields"][0]["source-id"] = json!(9)),
                SourceExists,
                "sort order 3, field 1",
            ),
            (2, Box::new(|json| json["refs"]["t"]["snapshot-id"] = json!(9)), ReferenceExists, "tag t: snapshot 9"),
            (2, Box::new(|json| json["refs"]["main"]["type"] = json!("tag")), Main, "main is a branch"),
            (2, Box::new(|json| json["current-snapshot-id"] = json!(3_051_729_675_574_597_004_i64)), Main, "current-snapshot-id"),
            (2, Box::new(|json| json["refs"]["t"]["max-ref-age-ms"] = json!(0)), Retention, "max-ref-age-ms"),
            (2, Box::new(|json| json["last-sequence-number"] = json!(0)), SequenceNumber, "above the table's, 0"),
            (
                2,
                Box::new(|json| {
                    json["snapshots"][0].as_object_mut().expect("a snapshot").remove("manifest-list");
                }),
                ManifestList,
                "manifest-list",
            ),
            (2, Box::new(|json| json["snapshots"][0]["summary"] = json!({})), Operation, "operation"),
            (2, Box::new(|json| json["snapshots"][1]["schema-id"] = json!(7)), SnapshotSchema, "schema 7"),
            (3, Box::new(|json| json["next-row-id"] = json!(4)), RowLineage, "end at 5"),
        ];
        for (version, change, rule, words) in cases {
            let found = found(version, change);
            assert!(found.iter().any(|v| v.rule == rule && v.to_string().contains(words)), "{rule:?} {words}: {found:?}");
        }
    }

    /// Specification, "Schema Evolution": a date may become a timestamp but where a partition field's values would be others.
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
