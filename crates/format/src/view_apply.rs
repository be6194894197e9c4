//! The effect of updates on a view, and the metadata of new views: pure functions (Java: `ViewMetadata.Builder`).
//!
//! Refusals are worded as in Java. A schema or version that equals an existing one is not added again. A commit drops the oldest
//! versions beyond the number that a property sets.
//!
//! Start with [`apply_view`]; each kind of update has a method below it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::apply::refused;
use crate::{
    Extra, LAST_ADDED, Result, Schema, ViewMetadata, ViewRepresentation, ViewUpdate, ViewVersion, ViewVersionLog, rules,
};

/// The version of the view format.
const FORMAT_VERSION: u8 = 1;
/// The view property that limits the number of versions.
const MAX_VERSIONS: &str = "version.history.num-entries";
/// The number of versions that a view without the property [`MAX_VERSIONS`] keeps.
const VERSIONS_DEFAULT: usize = 10;
/// The view property that allows a new version to lack a dialect of the version before.
const MAY_DROP_DIALECTS: &str = "replace.drop-dialect.allowed";

/// The request of a client for a new view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewView {
    /// The base location of the view's metadata.
    pub location: String,
    /// The columns of the view.
    pub schema: Schema,
    /// The first version, with the query in each dialect. Its schema id is replaced by that of `schema`.
    pub version: ViewVersion,
    /// The properties of the view.
    pub properties: BTreeMap<String, String>,
}

/// Builds the metadata of a requested view.
///
/// `now_ms` is the time of creation, in milliseconds since the Unix epoch. Spec: View Spec, "View Metadata".
///
/// # Errors
///
/// Returns [`Refused`](crate::FormatError::Refused) if:
/// - the version has no representation, two of one dialect, or an id beyond 32 bits;
/// - the number of versions to keep is not positive;
/// - the schema breaks a rule of the specification.
pub fn create_view(new: NewView, uuid: Uuid, now_ms: i64) -> Result<ViewMetadata> {
    let nothing = ViewMetadata {
        view_uuid: uuid,
        format_version: FORMAT_VERSION,
        location: trimmed(&new.location),
        schemas: Vec::new(),
        current_version_id: 0,
        versions: Vec::new(),
        version_log: Vec::new(),
        properties: BTreeMap::new(),
        extra: Extra::default(),
    };
    let mut change = ViewBuilder::of(nothing, now_ms);
    change.update(&ViewUpdate::SetProperties { updates: new.properties })?;
    change.add_schema(&new.schema)?;
    change.add_version(&ViewVersion { schema_id: LAST_ADDED_SCHEMA, ..new.version })?;
    change.set_version(LAST_ADDED)?;
    change.finish(None)
}

/// Applies `updates` to a view in their order. Returns `None` if they change nothing.
///
/// `now_ms` is the time of the commit, in milliseconds since the Unix epoch.
///
/// # Errors
///
/// Returns [`Refused`](crate::FormatError::Refused) if:
/// - an update assigns another UUID, or another version of the view format;
/// - an update names a schema or version that does not exist, or the last added one when none was added;
/// - a new version has no representation, two of one dialect, or an id beyond 32 bits;
/// - the number of versions to keep is not positive;
/// - a new schema breaks a rule of the specification;
/// - the new current version lacks a dialect of the one before, and no property allows that.
pub fn apply_view(before: &ViewMetadata, updates: &[ViewUpdate], now_ms: i64) -> Result<Option<ViewMetadata>> {
    let mut change = ViewBuilder::of(before.clone(), now_ms);
    for update in updates {
        change.update(update)?;
    }
    if change.made == *before {
        return Ok(None);
    }
    change.finish(Some(before)).map(Some)
}

/// [`LAST_ADDED`] as a schema id.
const LAST_ADDED_SCHEMA: i32 = -1;

fn trimmed(location: &str) -> String {
    location.trim_end_matches('/').to_owned()
}

/// A view to which updates are applied one by one.
struct ViewBuilder {
    /// The metadata with the updates so far.
    made: ViewMetadata,
    /// The time of the commit, in milliseconds since the Unix epoch.
    now_ms: i64,
    /// The id of the schema that was added last, new or equal to an existing one.
    added_schema: Option<i32>,
    /// The id of the version that was added last, new or equal to an existing one.
    added_version: Option<i64>,
    /// The ids of the versions that this commit created.
    new_versions: BTreeSet<i64>,
}

impl ViewBuilder {
    const fn of(made: ViewMetadata, now_ms: i64) -> Self {
        Self { made, now_ms, added_schema: None, added_version: None, new_versions: BTreeSet::new() }
    }

    fn update(&mut self, update: &ViewUpdate) -> Result<()> {
        let made = &mut self.made;
        match update {
            ViewUpdate::AssignUuid { uuid } if *uuid != made.view_uuid => {
                return refused(format!("Cannot reassign uuid: it is {}, not {uuid}", made.view_uuid));
            }
            ViewUpdate::AssignUuid { .. } => {}
            ViewUpdate::UpgradeFormatVersion { format_version } if *format_version < made.format_version => {
                return refused(format!("Cannot downgrade v{} view to v{format_version}", made.format_version));
            }
            ViewUpdate::UpgradeFormatVersion { format_version } if *format_version > FORMAT_VERSION => {
                return refused(format!("Unsupported format version: {format_version}"));
            }
            ViewUpdate::UpgradeFormatVersion { .. } => {}
            ViewUpdate::AddSchema { schema } => self.add_schema(schema)?,
            ViewUpdate::SetLocation { location } => made.location = trimmed(location),
            ViewUpdate::SetProperties { updates } => {
                if let Some(text) = updates.get(MAX_VERSIONS).filter(|text| kept_versions(text).is_none()) {
                    return refused(format!("{MAX_VERSIONS} must be positive but was {text}"));
                }
                made.properties.extend(updates.clone());
            }
            ViewUpdate::RemoveProperties { removals } => removals.iter().for_each(|name| {
                made.properties.remove(name);
            }),
            ViewUpdate::AddViewVersion { view_version } => self.add_version(view_version)?,
            ViewUpdate::SetCurrentViewVersion { view_version_id } => self.set_version(*view_version_id)?,
        }
        Ok(())
    }

    /// Adds a schema. If the view has an equal one, no copy is added, and the equal one counts as added last.
    fn add_schema(&mut self, schema: &Schema) -> Result<()> {
        let schemas = &mut self.made.schemas;
        let id = match schemas.iter().find(|own| own.equals_except_id(schema)) {
            Some(own) => own.schema_id(),
            None => {
                if let Some(violation) = rules::of_view_schema(schema) {
                    return Err(violation.into());
                }
                let id = schemas.iter().map(|own| own.schema_id().saturating_add(1)).max().unwrap_or(0);
                schemas.push(Arc::new(schema.clone().with_schema_id(id)));
                id
            }
        };
        self.added_schema = Some(id);
        Ok(())
    }

    /// Adds a version. If the view has one that is equal apart from id and time, nothing is added, and the equal one counts as
    /// added last.
    fn add_version(&mut self, version: &ViewVersion) -> Result<()> {
        let mut version = version.clone();
        if version.schema_id == LAST_ADDED_SCHEMA {
            let Some(id) = self.added_schema else {
                return refused("Cannot set last added schema: no schema has been added".to_owned());
            };
            version.schema_id = id;
        }
        if let Some(own) = self.made.versions.iter().find(|own| is_same(own, &version)) {
            self.added_version = Some(own.version_id);
            return Ok(());
        }
        if self.made.schema_by_id(version.schema_id).is_none() {
            return refused(format!("Cannot add version with unknown schema: {}", version.schema_id));
        }
        if version.representations.is_empty() {
            return refused("Invalid view version: it has no representation".to_owned());
        }
        if i32::try_from(version.version_id).is_err() {
            return refused(format!("Invalid view version: its id {} is no integer of 32 bits", version.version_id));
        }
        let mut dialects = BTreeSet::new();
        if let Some(twice) = dialects_of(&version).find(|dialect| !dialects.insert(dialect.clone())) {
            return refused(format!("Invalid view version: Cannot add multiple queries for dialect {twice}"));
        }
        let next = self.made.versions.iter().map(|own| own.version_id.saturating_add(1)).max();
        version.version_id = next.map_or(version.version_id, |next| next.max(version.version_id));
        self.added_version = Some(version.version_id);
        self.new_versions.insert(version.version_id);
        self.made.versions.push(version);
        Ok(())
    }

    fn set_version(&mut self, id: i64) -> Result<()> {
        let id = match (id, self.added_version) {
            (LAST_ADDED, None) => return refused("Cannot set last version id: no current version id has been set".to_owned()),
            (LAST_ADDED, Some(added)) => added,
            (id, _) => id,
        };
        if self.made.version_by_id(id).is_none() {
            return refused(format!("Cannot set current version to unknown version: {id}"));
        }
        self.made.current_version_id = id;
        Ok(())
    }

    /// Finishes the commit: checks dialects, extends the version log, and removes versions beyond the number to keep.
    fn finish(mut self, before: Option<&ViewMetadata>) -> Result<ViewMetadata> {
        self.made = self.made.checked()?;
        let made = &mut self.made;
        let id = made.current_version_id;
        let current = made.current_version();
        let previous = before.map(ViewMetadata::current_version);
        if let Some(previous) = previous.filter(|_| !may_drop_dialects(&made.properties)) {
            let [had, has] = [previous, current].map(|version| dialects_of(version).collect::<BTreeSet<_>>());
            if !has.is_superset(&had) {
                let list = |dialects: BTreeSet<String>| dialects.into_iter().collect::<Vec<_>>().join(", ");
                return refused(format!(
                    "Cannot replace view due to loss of view dialects ({MAY_DROP_DIALECTS}=false):\nPrevious dialects: [{}]\n\
                     New dialects: [{}]",
                    list(had),
                    list(has)
                ));
            }
        }
        if previous.is_none_or(|previous| previous.version_id != id) {
            // The log has the time at which a version became current. For a version from before this commit, that is now.
            let timestamp_ms = if self.new_versions.contains(&id) { current.timestamp_ms } else { self.now_ms };
            made.version_log.push(ViewVersionLog { timestamp_ms, version_id: id, extra: Extra::default() });
        }
        let kept = made.properties.get(MAX_VERSIONS).and_then(|text| kept_versions(text)).unwrap_or(VERSIONS_DEFAULT);
        self.new_versions.insert(id);
        expire_versions(made, kept.max(self.new_versions.len()));
        Ok(self.made)
    }
}

/// Keeps at most `kept` versions: the current one and those with the highest ids.
///
/// The log loses its entries up to and including the last one of a removed version. Java does the same (`ViewMetadata.Builder`):
/// with a gap, the log would tell a wrong version for the time of the gap.
fn expire_versions(view: &mut ViewMetadata, kept: usize) {
    let mut ids: Vec<i64> = view.versions.iter().map(|version| version.version_id).collect();
    if ids.len() <= kept {
        return;
    }
    ids.sort_unstable_by_key(|id| (*id != view.current_version_id, std::cmp::Reverse(*id)));
    ids.truncate(kept);
    view.versions.retain(|version| ids.contains(&version.version_id));
    if let Some(last) = view.version_log.iter().rposition(|entry| !ids.contains(&entry.version_id)) {
        view.version_log.drain(..=last);
    }
}

/// Returns `true` if two versions are equal apart from id and time.
fn is_same(one: &ViewVersion, other: &ViewVersion) -> bool {
    let of = |version: &ViewVersion| ViewVersion { version_id: 0, timestamp_ms: 0, ..version.clone() };
    of(one) == of(other)
}

/// Returns the dialects of a version's SQL, in lower case: dialects are compared without case.
fn dialects_of(version: &ViewVersion) -> impl Iterator<Item = String> {
    version.representations.iter().filter_map(|representation| match representation {
        ViewRepresentation::Sql { dialect, .. } => Some(dialect.to_lowercase()),
        ViewRepresentation::Other(_) => None,
    })
}

/// Parses the number of versions to keep. Returns `None` if the text is no positive number.
fn kept_versions(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|kept| *kept > 0)
}

fn may_drop_dialects(properties: &BTreeMap<String, String>) -> bool {
    properties.get(MAY_DROP_DIALECTS).is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::ViewRequirement;

    const NOW: i64 = 2_000_000_000_000;

    /// Returns a version as Java's `TestViewMetadata.newViewVersion` makes it.
    fn version(id: i64, schema: i32, at: i64, sql: &str) -> Json {
        json!({"version-id": id, "schema-id": schema, "timestamp-ms": at, "summary": {"user": "some-user"}, "default-catalog": "prod",
            "default-namespace": ["default"], "representations": [{"type": "sql", "dialect": "spark", "sql": sql}]})
    }

    fn add(id: i64, sql: &str) -> Json {
        json!({"action": "add-view-version", "view-version": version(id, 0, 1000 * id, sql)})
    }

    fn schema(id: i32, name: &str) -> Json {
        json!({"action": "add-schema", "schema": {"type": "struct", "schema-id": id,
            "fields": [{"id": 1, "name": name, "required": true, "type": "long"}]}})
    }

    fn current(id: i64) -> Json {
        json!({"action": "set-current-view-version", "view-version-id": id})
    }

    fn set(key: &str, value: &str) -> Json {
        json!({"action": "set-properties", "updates": {key: value}})
    }

    fn parsed(updates: &[Json]) -> Vec<ViewUpdate> {
        serde_json::from_value(json!(updates)).unwrap_or_else(|e| panic!("{e}: {updates:?}"))
    }

    /// Applies updates to an empty view, as Java's builder does.
    fn try_updates(updates: &[Json]) -> Result<ViewMetadata> {
        let json = json!({"view-uuid": "fa6506c3-7681-40c8-86dc-e36561f83385", "format-version": 1, "location": "location",
            "schemas": [{"type": "struct", "schema-id": 0, "fields": []}], "current-version-id": 0, "version-log": [],
            "versions": [{"version-id": 0, "schema-id": 0, "timestamp-ms": 0, "representations": []}]});
        let mut nothing: ViewMetadata = serde_json::from_value(json).expect("a view");
        (nothing.schemas, nothing.versions) = (Vec::new(), Vec::new());
        let mut change = ViewBuilder::of(nothing, NOW);
        parsed(updates).iter().try_for_each(|update| change.update(update))?;
        change.finish(None)
    }

    fn made(updates: &[Json]) -> ViewMetadata {
        try_updates(updates).expect("made")
    }

    fn changed(view: &ViewMetadata, updates: &[Json]) -> ViewMetadata {
        apply_view(view, &parsed(updates), NOW).expect("applied").expect("a change")
    }

    fn refusal(view: &ViewMetadata, updates: &[Json]) -> String {
        apply_view(view, &parsed(updates), NOW).expect_err("refused").to_string()
    }

    fn versions(view: &ViewMetadata) -> Vec<i64> {
        view.versions.iter().map(|version| version.version_id).collect()
    }

    fn log(view: &ViewMetadata) -> Vec<(i64, i64)> {
        view.version_log.iter().map(|entry| (entry.version_id, entry.timestamp_ms)).collect()
    }

    fn schemas(view: &ViewMetadata) -> Vec<(i32, &str)> {
        view.schemas.iter().map(|schema| (schema.schema_id(), schema.name_by_field_id(1).expect("a field"))).collect()
    }

    const SQL: [&str; 3] = ["select * from ns.tbl", "select count(*) from ns.tbl", "select count(*) as count from ns.tbl"];

    /// Spark with Iceberg 1.12 does not load views with such schemas or versions.
    #[test]
    fn what_no_java_client_reads_is_no_view() {
        let view = made(&[schema(0, "x"), add(1, SQL[0]), current(1)]);
        let mut lost = schema(1, "y");
        lost["schema"]["identifier-field-ids"] = json!([9]);
        assert!(refusal(&view, &[lost]).contains("the schema has no such field"));
        let mut long = schema(1, "y");
        long["schema"]["fields"][0]["type"] = json!("decimal(99,2)");
        assert!(refusal(&view, &[long]).contains("decimal(99, 2)"));
        assert!(refusal(&view, &[add(1 << 40, SQL[1])]).contains("1099511627776"));
        let mut none = add(2, SQL[1]);
        none["view-version"]["representations"] = json!([]);
        assert!(refusal(&view, &[none]).contains("it has no representation"));
    }

    /// Java: `testExpiration`, `testUpdateHistory`.
    #[test]
    fn the_latest_versions_stay_and_of_the_log_what_comes_after_the_last_that_is_gone() {
        // The ids are not in the order of the times, because expiry must go by id.
        let expired = |kept| {
            let mut view = made(&[schema(0, "x"), add(1, SQL[0]), add(3, SQL[1]), current(1)]);
            let mut two = view.versions[0].clone();
            (two.version_id, two.timestamp_ms) = (2, 9000);
            view.versions.push(two);
            expire_versions(&mut view, kept);
            let mut ids = versions(&view);
            ids.sort_unstable();
            ids
        };
        assert_eq!((expired(3), expired(2), expired(1)), (vec![1, 2, 3], vec![1, 3], vec![1]));
        let entry = |version_id| ViewVersionLog { timestamp_ms: 0, version_id, extra: Extra::default() };
        for (id, kept, before, after) in [
            (3, 3, vec![1, 2, 3], vec![1, 2, 3]),
            (3, 2, vec![3, 2, 1, 2, 3], vec![2, 3]),
            (1, 2, vec![1, 2, 3, 1, 3], vec![3, 1, 3]),
        ] {
            let mut view = made(&[schema(0, "x"), add(1, SQL[0]), add(2, SQL[1]), add(3, SQL[2]), current(id)]);
            view.version_log = before.into_iter().map(entry).collect();
            expire_versions(&mut view, kept);
            assert_eq!(log(&view).into_iter().map(|(id, _)| id).collect::<Vec<_>>(), after);
        }
    }

    /// Java: `viewVersionHistoryIsCorrectlyRetained`, `currentViewVersionIsNeverExpired`, `versionsAddedInCurrentBuildAreRetained`.
    #[test]
    fn so_many_versions_are_kept_as_the_property_says_but_never_fewer_than_came_and_the_current_one() {
        let three = [set("version.history.num-entries", "2"), schema(0, "x"), add(1, SQL[0]), add(2, SQL[1]), add(3, SQL[2])];
        let view = made(&[&three[..], &[current(3)]].concat());
        assert_eq!((versions(&view), log(&view)), (vec![1, 2, 3], vec![(3, 3000)]));
        let view = changed(&view, &[set("any", "change")]);
        assert_eq!((versions(&view), log(&view)), (vec![2, 3], vec![(3, 3000)]));
        let view = changed(&view, &[current(2)]);
        let view = changed(&view, &[current(3)]);
        assert_eq!((versions(&view), log(&view)), (vec![2, 3], vec![(3, 3000), (2, NOW), (3, NOW)]));
        assert_eq!(refusal(&view, &[current(1)]), "Cannot set current version to unknown version: 1");

        let view = made(&[&three[..], &[set("version.history.num-entries", "1"), current(1)]].concat());
        let view = changed(&view, &[set("any", "change")]);
        assert_eq!((versions(&view), log(&view)), (vec![1], vec![(1, 1000)]));

        let view = made(&[set("version.history.num-entries", "2"), schema(0, "x"), add(1, SQL[0]), current(1)]);
        let view = changed(&view, &[add(2, SQL[1]), add(3, SQL[2])]);
        assert_eq!(versions(&view), [1, 2, 3]);
        assert_eq!(versions(&changed(&view, &[set("any", "change")])), [1, 3]);
        assert_eq!(
            refusal(&view, &[set("version.history.num-entries", "0")]),
            "version.history.num-entries must be positive but was 0"
        );
    }

    /// Java: `versionHistoryEntryMaintainCorrectTimeline`.
    #[test]
    fn a_version_is_logged_with_its_own_time_when_it_is_new_and_with_the_present_when_it_comes_back() {
        let view = made(&[schema(0, "x"), add(1, SQL[0]), add(2, SQL[1]), current(1)]);
        let view = changed(&view, &[current(2)]);
        let view = changed(&view, &[add(3, SQL[2]), current(3)]);
        assert_eq!(log(&changed(&view, &[current(1)])), [(1, 1000), (2, NOW), (3, 3000), (1, NOW)]);
    }

    /// Java: `viewVersionIDReassignment`, `viewVersionDeduplication`, `viewVersionDeduplicationWithCustomSummary`.
    #[test]
    fn versions_get_ids_of_their_own_and_those_that_behave_alike_are_one() {
        let again = SQL.map(|sql| json!({"action": "add-view-version", "view-version": version(1, 0, 10, sql)}));
        let view = made(&[&[schema(0, "x")][..], &SQL.map(|sql| add(1, sql)), &again, &[current(3)]].concat());
        let texts = view.versions.iter().map(|version| (version.version_id, &version.representations[0]));
        let expected = SQL.iter().zip(1..).map(|(sql, id)| {
            (id, ViewRepresentation::Sql { sql: (*sql).to_owned(), dialect: "spark".to_owned(), extra: Extra::default() })
        });
        assert_eq!(texts.map(|(id, text)| (id, text.clone())).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        assert!(view.versions.iter().all(|version| version.timestamp_ms == 1000), "the first stays");
        let mut other = version(1, 0, 1000, SQL[1]);
        other["summary"] = json!({"user": "some-user", "key": "val"});
        let other = json!({"action": "add-view-version", "view-version": other});
        assert_eq!(
            versions(&made(&[schema(0, "x"), add(1, SQL[0]), add(1, SQL[1]), add(1, SQL[0]), other, current(3)])),
            [1, 2, 3]
        );
    }

    /// Java: `schemaIDReassignment`, `schemaDeduplication`, `viewVersionAndSchemaIDReassignment`, `lastAddedSchemaFailure`.
    #[test]
    fn schemas_get_ids_from_0_on_and_a_version_may_be_of_the_last() {
        let of_last = |id, sql| json!({"action": "add-view-version", "view-version": version(id, -1, 1, sql)});
        let view = made(&[
            schema(5, "x"),
            of_last(1, SQL[0]),
            schema(7, "y"),
            of_last(1, SQL[1]),
            schema(9, "z"),
            schema(10, "z"),
            of_last(1, SQL[2]),
            current(-1),
        ]);
        assert_eq!(schemas(&view), [(0, "x"), (1, "y"), (2, "z")]);
        let ids: Vec<(i64, i32)> = view.versions.iter().map(|version| (version.version_id, version.schema_id)).collect();
        assert_eq!((ids, view.current_version_id), (vec![(1, 0), (2, 1), (3, 2)], 3));
        for (updates, words) in [
            (vec![of_last(1, SQL[0])], "Cannot set last added schema: no schema has been added"),
            (vec![add(1, SQL[0])], "Cannot add version with unknown schema: 0"),
            (vec![schema(0, "x"), add(1, SQL[0]), current(23)], "Cannot set current version to unknown version: 23"),
            (vec![schema(0, "x"), current(-1)], "Cannot set last version id: no current version id has been set"),
        ] {
            assert_eq!(try_updates(&updates).expect_err(words).to_string(), words);
        }
    }

    fn in_dialects(id: i64, dialects: &[&str]) -> Json {
        let mut version = version(id, 0, 1, SQL[0]);
        version["representations"] =
            dialects.iter().map(|dialect| json!({"type": "sql", "dialect": dialect, "sql": "select * from tbl"})).collect();
        json!({"action": "add-view-version", "view-version": version})
    }

    /// Java: `viewMetadataWithMultipleSQLForSameDialect`, `droppingDialectFailsByDefault`, `droppingDialectDoesNotFailWhenAllowed`,
    /// `droppingDialectDoesNotFailWhenKeepingPreviousRepresentation`, `droppingDialectFailsWhenSwitchingViewVersionId`,
    /// `droppingDialectAllowedAndThenDisallowed`.
    #[test]
    fn a_dialect_has_one_text_and_is_not_left_out_unless_that_is_allowed() {
        assert_eq!(
            try_updates(&[schema(0, "x"), in_dialects(1, &["spark", "SpArK"])]).expect_err("twice").to_string(),
            "Invalid view version: Cannot add multiple queries for dialect spark"
        );
        let lost = |had: &str, has: &str| {
            format!(
                "Cannot replace view due to loss of view dialects (replace.drop-dialect.allowed=false):\nPrevious dialects: [{had}]\nNew \
                 dialects: [{has}]"
            )
        };
        let view = made(&[schema(0, "x"), in_dialects(1, &["spark"]), current(1)]);
        assert_eq!(refusal(&view, &[in_dialects(1, &["trino"]), current(-1)]), lost("spark", "trino"));
        changed(&view, &[in_dialects(1, &["Spark", "trino"]), current(-1)]);
        let allowed = set("replace.drop-dialect.allowed", "true");
        let updated = changed(&view, &[in_dialects(1, &["trino"]), current(-1), allowed]);
        assert_eq!(updated.current_version_id, 2);
        assert_eq!(refusal(&updated, &[current(1), set("replace.drop-dialect.allowed", "false")]), lost("trino", "spark"));

        let all = [schema(0, "x"), in_dialects(1, &["spark"]), in_dialects(2, &["trino"]), in_dialects(3, &["trino", "spark"])];
        let view = made(&[&all[..], &[current(1)]].concat());
        assert_eq!(refusal(&view, &[current(3), current(1), current(2)]), lost("spark", "trino"));
        assert_eq!(refusal(&changed(&view, &[current(3)]), &[current(1), current(2)]), lost("spark, trino", "trino"));
    }

    /// Java: `uuidAssignment`, `unsupportedFormatVersion`.
    #[test]
    fn its_uuid_and_the_version_of_its_format_stay() {
        let view = made(&[schema(0, "x"), add(1, SQL[0]), current(1)]);
        let uuid = |uuid: &str| json!({"action": "assign-uuid", "uuid": uuid});
        let version = |version: u8| json!({"action": "upgrade-format-version", "format-version": version});
        let same = [uuid("fa6506c3-7681-40c8-86dc-e36561f83385"), version(1), current(1), schema(4, "x"), add(7, SQL[0])];
        assert_eq!(apply_view(&view, &parsed(&same), NOW).expect("applied"), None);
        assert!(refusal(&view, &[uuid("00000000-0000-0000-0000-000000000001")]).starts_with("Cannot reassign uuid"));
        assert_eq!(refusal(&view, &[version(23)]), "Unsupported format version: 23");
        assert_eq!(refusal(&view, &[version(0)]), "Cannot downgrade v1 view to v0");
        let moved = json!({"action": "set-location", "location": "s3://b/v/"});
        let view = changed(
            &view,
            &[moved, set("a", "b"), set("c", "d"), json!({"action": "remove-properties", "removals": ["a", "z"]})],
        );
        assert_eq!((view.location.as_str(), view.properties), ("s3://b/v", BTreeMap::from([("c".into(), "d".into())])));
    }

    #[test]
    fn a_new_view_is_of_the_schema_that_comes_with_it() {
        let update = |json: Json| serde_json::from_value(json).expect("parsed");
        let (ViewUpdate::AddSchema { schema }, ViewUpdate::AddViewVersion { view_version }) =
            (update(schema(4, "x")), update(add(1, SQL[0])))
        else {
            panic!("others were asked for")
        };
        let version = ViewVersion { schema_id: 9, ..view_version };
        let new = NewView { location: "s3://b/v/".to_owned(), schema, version, properties: BTreeMap::new() };
        let view = create_view(new, Uuid::nil(), NOW).expect("made");
        assert_eq!((view.location.as_str(), schemas(&view), log(&view)), ("s3://b/v", vec![(0, "x")], vec![(1, 1000)]));
        assert_eq!((view.versions[0].version_id, view.versions[0].schema_id, view.current_version_id), (1, 0, 1));
    }

    #[test]
    fn a_requirement_is_worded_as_the_reference_implementation_words_it() {
        let view = made(&[schema(0, "x"), add(1, SQL[0]), current(1)]);
        let of = |uuid: &str| -> ViewRequirement {
            let json = json!({"type": "assert-view-uuid", "uuid": uuid});
            let parsed: ViewRequirement = serde_json::from_value(json.clone()).expect("parsed");
            assert_eq!(serde_json::to_value(&parsed).expect("printed"), json);
            parsed
        };
        of("fa6506c3-7681-40c8-86dc-e36561f83385").check(&view).expect("it holds");
        assert_eq!(
            of("00000000-0000-0000-0000-000000000001").check(&view).expect_err("it does not hold").to_string(),
            "Requirement failed: view UUID does not match: expected fa6506c3-7681-40c8-86dc-e36561f83385 != \
             00000000-0000-0000-0000-000000000001"
        );
    }
}
