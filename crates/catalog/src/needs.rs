//! The privileges that a change needs, by its updates.
//!
//! Each function matches every variant, so that a new kind of update does not compile without a privilege. A commit needs the
//! privileges of all its updates on its table or view. A commit that creates a table needs them on the namespace. A summary that
//! says `append` is believed from who has [`Privilege::Modify`], or if [`beyond_append`](esker_table::beyond_append) finds no more
//! in the snapshot. Start reading at [`of_updates`].

use std::collections::{BTreeMap, HashMap};

use esker_access::{Privilege, PrivilegeSet, Required};
use esker_format::{MAIN_BRANCH, Operation, Snapshot, SnapshotReference, TableMetadata, TableUpdate, ViewMetadata, ViewUpdate};
use esker_storage::Location;
use esker_table::properties::NAME_MAPPING;
use esker_types::JobKind;
use serde_json::{Map, Value};

use crate::places::{PATH_PROPERTIES, decides_paths, places_in_metadata};

/// The property of a namespace that says where its tables get their locations.
const NAMESPACE_LOCATION: &str = "location";

/// The property of a view that names the user of Trino with whose rights Trino runs it.
pub(crate) const RUN_AS_OWNER: &str = "trino.run-as-owner";

/// Properties that decide if files and history are deleted, or under whose rights a view runs.
const PROTECTED_PROPERTIES: [&str; 4] =
    ["gc.enabled", "write.metadata.delete-after-commit.enabled", "write.metadata.previous-versions-max", RUN_AS_OWNER];

/// The beginnings of the names of protected properties.
const PROTECTED_PREFIXES: [&str; 3] = ["commit.", "encryption.", "history.expire."];

/// The beginning of the names under `commit.` that are not protected.
///
/// They say how often a writer tries again, and nothing in Esker depends on them. Trino sets one on each new table.
const RETRY_PREFIX: &str = "commit.retry.";

/// The beginning of the names of properties that are the maintenance policy of a table, or of the tables in a namespace.
const POLICY_PREFIX: &str = "esker.";

/// Returns the privileges that updates of a table need on the table.
///
/// `before` is the table that the updates are applied to. A client's commit needs [`Privilege::ReadMetadata`] too, even without
/// updates: the answer has the metadata, and requirements ask about it. A place of the client's choice needs
/// [`Privilege::ChooseLocation`] on the namespace.
pub fn of_updates(before: &TableMetadata, updates: &[TableUpdate]) -> Required {
    use Privilege::{AlterSchema, Expire, Maintain, ManageKeys, ManageRefs, Modify, Rewrite, SetLocation, Upgrade};
    let mut branches = Branches::of(before);
    let mut required = Required::NOTHING;
    for update in updates {
        required = match update {
            TableUpdate::AssignUuid { .. } => required,
            TableUpdate::UpgradeFormatVersion { .. } => required.and(Upgrade.into()),
            TableUpdate::AddSchema { .. }
            | TableUpdate::SetCurrentSchema { .. }
            | TableUpdate::AddSpec { .. }
            | TableUpdate::SetDefaultSpec { .. }
            | TableUpdate::AddSortOrder { .. }
            | TableUpdate::SetDefaultSortOrder { .. } => required.and(AlterSchema.into()),
            TableUpdate::AddSnapshot { snapshot } => {
                branches.add(snapshot);
                required.and(of_snapshot(snapshot).into())
            }
            TableUpdate::SetSnapshotRef { ref_name, reference } => required.and(branches.set(ref_name, reference)),
            TableUpdate::RemoveSnapshotRef { .. } => required.and(ManageRefs.into()),
            TableUpdate::RemoveSnapshots { .. }
            | TableUpdate::RemovePartitionSpecs { .. }
            | TableUpdate::RemoveSchemas { .. } => required.and(Expire.into()),
            TableUpdate::SetLocation { .. } => required.and(SetLocation.into()),
            TableUpdate::SetProperties { updates } => required.and(updates.keys().map(|key| of_property(key)).collect()),
            TableUpdate::RemoveProperties { removals } => required.and(removals.iter().map(|key| of_property(key)).collect()),
            TableUpdate::SetStatistics { .. }
            | TableUpdate::RemoveStatistics { .. }
            | TableUpdate::SetPartitionStatistics { .. }
            | TableUpdate::RemovePartitionStatistics { .. } => {
                required.and_any_of(PrivilegeSet::of(&[Rewrite, Modify, Maintain]))
            }
            TableUpdate::AddEncryptionKey { .. } | TableUpdate::RemoveEncryptionKey { .. } => required.and(ManageKeys.into()),
        };
    }
    required
}

/// Checks that updates set or remove the mapping from names to field ids.
///
/// Who is restricted on the table could give the values of a masked column to another field by it, in files without field ids.
pub(crate) fn maps_names(updates: &[TableUpdate]) -> bool {
    updates.iter().any(|update| match update {
        TableUpdate::SetProperties { updates } => updates.contains_key(NAME_MAPPING.key),
        TableUpdate::RemoveProperties { removals } => removals.iter().any(|key| key == NAME_MAPPING.key),
        _ => false,
    })
}

/// Checks that updates of a table lead out of the places that it has, by a location or a path property.
///
/// Its commit needs [`Privilege::ChooseLocation`] on the namespace then, as a creation at a chosen place does.
pub(crate) fn leaves_places(before: &TableMetadata, updates: &[TableUpdate]) -> bool {
    let led_to = updates.iter().flat_map(|update| match update {
        TableUpdate::SetLocation { location } => vec![location.as_str()],
        TableUpdate::SetProperties { updates } => paths_of(updates),
        _ => Vec::new(),
    });
    leads_out(&before.location, &before.properties, led_to)
}

/// Checks that updates of a view lead out of the places that it has, as [`leaves_places`] does for a table.
pub(crate) fn view_leaves_places(before: &ViewMetadata, updates: &[ViewUpdate]) -> bool {
    let led_to = updates.iter().flat_map(|update| match update {
        ViewUpdate::SetLocation { location } => vec![location.as_str()],
        ViewUpdate::SetProperties { updates } => paths_of(updates),
        _ => Vec::new(),
    });
    leads_out(&before.location, &before.properties, led_to)
}

/// Returns the values of properties that name directories. The keys are compared without case, as [`of_property`] does.
fn paths_of(properties: &BTreeMap<String, String>) -> Vec<&str> {
    let named = properties.iter().filter(|(key, _)| PATH_PROPERTIES.contains(&key.to_lowercase().as_str()));
    named.map(|(_, path)| path.as_str()).collect()
}

/// Checks that a path is none of the places that a location and properties name, and lies in none of them.
fn leads_out<'a>(location: &str, properties: &BTreeMap<String, String>, mut led_to: impl Iterator<Item = &'a str>) -> bool {
    let places = places_in_metadata(location, properties);
    let places: Vec<Location> = places.iter().filter_map(|place| Location::parse(place).ok()).collect();
    let is_within = |at: &Location| places.iter().any(|place| at == place || at.is_inside(place));
    led_to.any(|path| !Location::parse(path).is_ok_and(|at| is_within(&at)))
}

/// Returns the privileges that updates which create a table need on its namespace.
///
/// `staged_location` is the location that the server gave to the table when the client staged it, or that is of this form; `None` if
/// there is none.
pub fn of_creation(updates: &[TableUpdate], staged_location: Option<&str>) -> PrivilegeSet {
    let same =
        |location: &str| staged_location.is_some_and(|staged| staged.trim_end_matches('/') == location.trim_end_matches('/'));
    let of_update = |update: &TableUpdate| match update {
        TableUpdate::SetLocation { location } if !same(location) => Privilege::ChooseLocation.into(),
        TableUpdate::SetProperties { updates } => of_new_properties(updates.keys().map(String::as_str)),
        // Whoever creates a table owns it, and may give it any shape.
        TableUpdate::SetLocation { .. }
        | TableUpdate::AssignUuid { .. }
        | TableUpdate::UpgradeFormatVersion { .. }
        | TableUpdate::AddSchema { .. }
        | TableUpdate::SetCurrentSchema { .. }
        | TableUpdate::AddSpec { .. }
        | TableUpdate::SetDefaultSpec { .. }
        | TableUpdate::AddSortOrder { .. }
        | TableUpdate::SetDefaultSortOrder { .. }
        | TableUpdate::AddSnapshot { .. }
        | TableUpdate::SetSnapshotRef { .. }
        | TableUpdate::RemoveSnapshots { .. }
        | TableUpdate::RemoveSnapshotRef { .. }
        | TableUpdate::RemoveProperties { .. }
        | TableUpdate::SetStatistics { .. }
        | TableUpdate::RemoveStatistics { .. }
        | TableUpdate::SetPartitionStatistics { .. }
        | TableUpdate::RemovePartitionStatistics { .. }
        | TableUpdate::RemovePartitionSpecs { .. }
        | TableUpdate::RemoveSchemas { .. }
        | TableUpdate::AddEncryptionKey { .. }
        | TableUpdate::RemoveEncryptionKey { .. } => PrivilegeSet::EMPTY,
    };
    updates.iter().map(of_update).fold(Privilege::CreateTable.into(), PrivilegeSet::union)
}

/// Returns the privileges on the table that reading a job of a kind needs. The request of an erasure has values of the rows.
pub fn to_read_job(kind: &str) -> Required {
    let read = Required::privilege(Privilege::ReadMetadata);
    match kind == JobKind::Erase.as_str() {
        true => read.and_any_of(PrivilegeSet::of(&[Privilege::ReadData, Privilege::Maintain, Privilege::Erase])),
        false => read,
    }
}

/// The options of jobs that name rows by their values.
const ROW_OPTIONS: [&str; 2] = ["where", "partition"];

/// Checks that the request of a job, as its record has it, names rows by their values.
///
/// The plan and the outcome of such a job answer a question about the rows. All kinds share the names of these options.
fn names_rows(request: &Value) -> bool {
    let kinds = request.as_object().into_iter().flat_map(Map::values);
    kinds.flat_map(|options| ROW_OPTIONS.map(|key| &options[key])).any(|option| !option.is_null())
}

/// Checks that a job names rows by their values. An erasure always does, whatever its record has.
pub fn is_about_rows(kind: &str, request: &Value) -> bool {
    kind == JobKind::Erase.as_str() || names_rows(request)
}

/// Checks that only who may read all rows of the table may ask for a job, because it names rows by their values.
///
/// An erasure by values is what `ERASE` is for: who has no more may start one, and is not told what it found.
pub fn asks_for_rows(kind: &str, request: &Value) -> bool {
    kind != JobKind::Erase.as_str() && names_rows(request)
}

/// Returns the privileges on the table that are needed to ask for a job, with `READ_DATA` for one that
/// [asks for rows](asks_for_rows).
pub fn to_ask_for_job(kind: &str, request: &Value) -> Required {
    let required = to_run_job(kind);
    match asks_for_rows(kind, request) {
        true => required.and(Privilege::ReadData.into()),
        false => required,
    }
}

/// Returns the privilege on the table that is needed to start, cancel or undo a job of a kind.
pub fn to_run_job(kind: &str) -> Required {
    Required::privilege(if kind == JobKind::Erase.as_str() { Privilege::Erase } else { Privilege::Maintain })
}

/// Returns the privileges that updates of a view need on the view.
pub fn of_view_updates(updates: &[ViewUpdate]) -> PrivilegeSet {
    let of_update = |update: &ViewUpdate| match update {
        ViewUpdate::AssignUuid { .. } => PrivilegeSet::EMPTY,
        ViewUpdate::UpgradeFormatVersion { .. } => Privilege::Upgrade.into(),
        ViewUpdate::AddSchema { .. } | ViewUpdate::AddViewVersion { .. } | ViewUpdate::SetCurrentViewVersion { .. } => {
            Privilege::AlterSchema.into()
        }
        ViewUpdate::SetLocation { .. } => Privilege::SetLocation.into(),
        ViewUpdate::SetProperties { updates } => updates.keys().map(|key| of_view_property(key)).collect(),
        ViewUpdate::RemoveProperties { removals } => removals.iter().map(|key| of_view_property(key)).collect(),
    };
    updates.iter().map(of_update).fold(PrivilegeSet::EMPTY, PrivilegeSet::union)
}

/// Returns the privileges on the namespace that properties of a new table or view need, besides the one to create it.
pub fn of_new_properties<'a>(keys: impl Iterator<Item = &'a str>) -> PrivilegeSet {
    let of_key = |key| match of_property(key) {
        Privilege::SetLocation => Privilege::ChooseLocation.into(),
        Privilege::SetProperties => PrivilegeSet::EMPTY,
        other => other.into(),
    };
    keys.map(of_key).fold(PrivilegeSet::EMPTY, PrivilegeSet::union)
}

/// Returns the privileges that changes of a namespace's properties need on the namespace.
pub fn of_namespace_properties<'a>(keys: impl Iterator<Item = &'a str>) -> PrivilegeSet {
    let of_key = |key: &str| match of_property(key) {
        _ if key.to_lowercase() == NAMESPACE_LOCATION => Privilege::ChooseLocation,
        Privilege::SetLocation => Privilege::ChooseLocation,
        other => other,
    };
    keys.map(of_key).collect()
}

/// Returns the privilege that a change of a view's property needs. A view has no maintenance policy.
fn of_view_property(key: &str) -> Privilege {
    match of_property(key) {
        Privilege::SetPolicy => Privilege::SetProtected,
        other => other,
    }
}

/// Returns the privilege that a change of a table's property needs. The key is compared without case.
///
/// Engines that read a key in any case would otherwise be told what a writer may not tell them.
fn of_property(key: &str) -> Privilege {
    let key = key.to_lowercase();
    let is_isolation = key.starts_with("write.") && key.ends_with(".isolation-level");
    let has_protected_prefix = PROTECTED_PREFIXES.iter().any(|start| key.starts_with(start)) && !key.starts_with(RETRY_PREFIX);
    let is_protected = PROTECTED_PROPERTIES.contains(&key.as_str()) || has_protected_prefix;
    if decides_paths(&key) {
        Privilege::SetLocation
    } else if key.starts_with(POLICY_PREFIX) {
        Privilege::SetPolicy
    } else if is_isolation || is_protected {
        Privilege::SetProtected
    } else {
        Privilege::SetProperties
    }
}

/// Returns the privilege that a new snapshot needs, by the operation that its summary has.
fn of_snapshot(snapshot: &Snapshot) -> Privilege {
    if snapshot.is(Operation::Append) {
        Privilege::Append
    } else if snapshot.is(Operation::Replace) {
        Privilege::Rewrite
    } else {
        // Overwrites, deletes, and everything that the specification does not define.
        Privilege::Modify
    }
}

/// The branches and tags of a table while updates are applied.
struct Branches<'a> {
    before: &'a TableMetadata,
    /// The snapshots that the updates added, each with its parent.
    added: HashMap<i64, Option<i64>>,
    /// The branches and tags that the updates set.
    set: HashMap<&'a str, &'a SnapshotReference>,
}

impl<'a> Branches<'a> {
    fn of(before: &'a TableMetadata) -> Self {
        Self { before, added: HashMap::new(), set: HashMap::new() }
    }

    fn add(&mut self, snapshot: &Snapshot) {
        self.added.insert(snapshot.snapshot_id, snapshot.parent_snapshot_id);
    }

    /// Sets a branch or tag. Returns the privileges that it needs.
    ///
    /// A branch moves to a new snapshot whose parent is its head with the privilege for the snapshot alone. Clients repeat the
    /// retention that a branch has; another one changes what is expired.
    fn set(&mut self, name: &'a str, reference: &'a SnapshotReference) -> PrivilegeSet {
        let own = self.set.get(name).copied().or_else(|| self.before.refs.get(name));
        let head = match own {
            Some(own) => Some(own.snapshot_id),
            None => self.before.snapshot_for_ref(name).map(|snapshot| snapshot.snapshot_id),
        };
        // Only the main branch of an empty table begins with a snapshot.
        let is_there = own.is_some_and(SnapshotReference::is_branch) || (own.is_none() && name == MAIN_BRANCH);
        let follows = is_there && reference.is_branch() && self.added.get(&reference.snapshot_id) == Some(&head);
        let retention = |r: &SnapshotReference| (r.min_snapshots_to_keep, r.max_snapshot_age_ms, r.max_ref_age_ms);
        let keeps = own.map_or((None, None, None), retention) == retention(reference);
        let is_same = own == Some(reference);
        self.set.insert(name, reference);
        let refs = if follows || is_same { PrivilegeSet::EMPTY } else { Privilege::ManageRefs.into() };
        refs.union(if keeps { PrivilegeSet::EMPTY } else { Privilege::Expire.into() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use esker_access::{
        AccessMode, GrantRow, Identity, Member, ResourcePath, RightsError, RuleRows, Rules, Securable, SecurableKind, Subject,
    };
    use esker_state::StateError;
    use esker_types::{Coded, TableId};
    use serde_json::{Value, json};

    use super::*;

    /// A table whose head of `main` is snapshot 1, with a branch `kept` that has a retention, and a tag `v1`.
    fn table() -> TableMetadata {
        let json = json!({
            "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "file:///t",
            "last-sequence-number": 1, "last-updated-ms": 1, "last-column-id": 1, "current-schema-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "p", "required": false, "type": "int"}]}],
            "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}], "last-partition-id": 999,
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}], "current-snapshot-id": 1,
            "snapshots": [{"snapshot-id": 1, "sequence-number": 1, "timestamp-ms": 1, "manifest-list": "file:///t/s1"}],
            "refs": {
                "main": {"snapshot-id": 1, "type": "branch"}, "v1": {"snapshot-id": 1, "type": "tag"},
                "kept": {"snapshot-id": 1, "type": "branch", "min-snapshots-to-keep": 5},
            },
        });
        serde_json::from_value(json).expect("metadata")
    }

    fn snapshot(id: i64, parent: Option<i64>, summary: &Value) -> Value {
        let snapshot = json!({"snapshot-id": id, "parent-snapshot-id": parent, "sequence-number": 2, "timestamp-ms": 2,
            "manifest-list": "file:///t/s2", "summary": summary});
        json!({"action": "add-snapshot", "snapshot": snapshot})
    }

    fn append(id: i64, parent: Option<i64>) -> Value {
        snapshot(id, parent, &json!({"operation": "append"}))
    }

    fn branch(name: &str, id: i64) -> Value {
        json!({"action": "set-snapshot-ref", "ref-name": name, "type": "branch", "snapshot-id": id})
    }

    fn needs(before: &TableMetadata, updates: Value) -> String {
        let updates: Vec<TableUpdate> = serde_json::from_value(updates).expect("updates");
        of_updates(before, &updates).to_string()
    }

    /// Every kind of update but those of properties and references, with what it needs alone.
    fn kinds() -> Vec<(Value, &'static str)> {
        let (schema, statistics) = (json!({"type": "struct", "schema-id": 1, "fields": []}), "one of MODIFY, REWRITE, MAINTAIN");
        let partition_file = json!({"snapshot-id": 1, "statistics-path": "s", "file-size-in-bytes": 9});
        let mut file = partition_file.clone();
        (file["file-footer-size-in-bytes"], file["blob-metadata"]) = (json!(1), json!([]));
        vec![
            (json!({"action": "assign-uuid", "uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1"}), "nothing"),
            (json!({"action": "upgrade-format-version", "format-version": 3}), "UPGRADE"),
            (json!({"action": "add-schema", "schema": schema}), "ALTER_SCHEMA"),
            (json!({"action": "set-current-schema", "schema-id": -1}), "ALTER_SCHEMA"),
            (json!({"action": "add-spec", "spec": {"spec-id": 1, "fields": []}}), "ALTER_SCHEMA"),
            (json!({"action": "set-default-spec", "spec-id": -1}), "ALTER_SCHEMA"),
            (json!({"action": "add-sort-order", "sort-order": {"order-id": 1, "fields": []}}), "ALTER_SCHEMA"),
            (json!({"action": "set-default-sort-order", "sort-order-id": -1}), "ALTER_SCHEMA"),
            (append(2, Some(1)), "APPEND"),
            (json!({"action": "remove-snapshots", "snapshot-ids": [1]}), "EXPIRE"),
            (json!({"action": "remove-snapshot-ref", "ref-name": "v1"}), "MANAGE_REFS"),
            (json!({"action": "set-location", "location": "file:///u"}), "SET_LOCATION"),
            (json!({"action": "set-statistics", "statistics": file}), statistics),
            (json!({"action": "remove-statistics", "snapshot-id": 1}), statistics),
            (json!({"action": "set-partition-statistics", "partition-statistics": partition_file}), statistics),
            (json!({"action": "remove-partition-statistics", "snapshot-id": 1}), statistics),
            (json!({"action": "remove-partition-specs", "spec-ids": [1]}), "EXPIRE"),
            (json!({"action": "remove-schemas", "schema-ids": [1]}), "EXPIRE"),
            (
                json!({"action": "add-encryption-key", "encryption-key": {"key-id": "k", "encrypted-key-metadata": "AA=="}}),
                "MANAGE_KEYS",
            ),
            (json!({"action": "remove-encryption-key", "key-id": "k"}), "MANAGE_KEYS"),
        ]
    }

    #[test]
    fn every_kind_of_update_needs_its_privilege() {
        let kinds = kinds();
        let actions: HashSet<String> = kinds.iter().map(|(update, _)| update["action"].to_string()).collect();
        assert_eq!(actions.len(), 20, "and those of properties and references have tests of their own");
        for (update, needed) in &kinds {
            assert_eq!(needs(&table(), json!([update])), *needed, "{update}");
        }
    }

    #[test]
    fn a_commit_needs_what_all_its_updates_need() {
        let updates = kinds().into_iter().map(|(update, _)| update).collect();
        let all =
            "APPEND, ALTER_SCHEMA, SET_LOCATION, MANAGE_REFS, EXPIRE, UPGRADE, MANAGE_KEYS and one of MODIFY, REWRITE, MAINTAIN";
        assert_eq!(needs(&table(), updates), all);
        assert_eq!(needs(&table(), json!([])), "nothing");
    }

    #[test]
    fn a_commit_that_needs_nothing_is_refused_on_a_hidden_table() {
        let rules = |grants| Rules::build(RuleRows { mode: AccessMode::On, grants, ..RuleRows::default() }).expect("rules");
        let (id, to) = (TableId::fresh(), Member::client("bi"));
        let grant = GrantRow {
            id: "g".to_owned(),
            to,
            on: Securable::Table { table: id },
            privileges: Privilege::List.into(),
            future: None,
        };
        let on = ResourcePath::warehouse(1, "lake").namespace("n").table(id, "t");
        let uuid = json!([{"action": "assign-uuid", "uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1"}]);
        for updates in [json!([]), uuid, json!([branch("main", 1)])] {
            let parsed: Vec<TableUpdate> = serde_json::from_value(updates.clone()).expect("updates");
            let required = of_updates(&table(), &parsed);
            for (grants, seen) in [(Vec::new(), false), (vec![grant.clone()], true)] {
                let subject = Subject::new(Arc::new(rules(grants)), Identity::client("bi"));
                assert_eq!(subject.decide(&on, required).is_allowed(), seen, "{updates}");
            }
        }
    }

    #[test]
    fn a_snapshot_needs_the_privilege_of_its_operation() {
        let summaries = [
            (json!({"operation": "append"}), "APPEND"),
            (json!({"operation": "replace"}), "REWRITE"),
            (json!({"operation": "overwrite"}), "MODIFY"),
            (json!({"operation": "delete"}), "MODIFY"),
            (json!({"operation": "Append"}), "MODIFY"),
            (json!({"operation": "later"}), "MODIFY"),
            (json!(null), "MODIFY"),
        ];
        for (summary, needed) in summaries {
            assert_eq!(needs(&table(), json!([snapshot(2, Some(1), &summary)])), needed, "{summary}");
        }
    }

    #[test]
    fn a_branch_follows_the_snapshots_that_are_added_to_it() {
        let on = |branch_name: &str, parent| needs(&table(), json!([append(2, parent), branch(branch_name, 2)]));
        assert_eq!(on("main", Some(1)), "APPEND");
        assert_eq!(on("main", None), "APPEND, MANAGE_REFS", "the history of the branch would be cut off");
        assert_eq!(on("new", Some(1)), "APPEND, MANAGE_REFS");
        assert_eq!(on("v1", Some(1)), "APPEND, MANAGE_REFS", "a tag would become a branch");
        let twice = json!([append(2, Some(1)), branch("main", 2), append(3, Some(2)), branch("main", 3)]);
        assert_eq!(needs(&table(), twice), "APPEND");
        let back = json!([append(2, Some(1)), branch("main", 2), branch("main", 1)]);
        assert_eq!(needs(&table(), back), "APPEND, MANAGE_REFS");
        assert_eq!(needs(&table(), json!([branch("main", 1)])), "nothing", "nothing changes");
        let kept_tag = json!({"action": "set-snapshot-ref", "ref-name": "v1", "type": "tag", "snapshot-id": 1});
        assert_eq!(needs(&table(), json!([kept_tag])), "nothing", "nothing changes");
        let tag = json!({"action": "set-snapshot-ref", "ref-name": "main", "type": "tag", "snapshot-id": 2});
        assert_eq!(needs(&table(), json!([append(2, Some(1)), tag])), "APPEND, MANAGE_REFS");
    }

    #[test]
    fn the_first_snapshot_of_a_table_begins_its_main_branch() {
        let mut empty = table();
        empty.refs.clear();
        empty.current_snapshot_id = None;
        assert_eq!(needs(&empty, json!([append(2, None), branch("main", 2)])), "APPEND");
        assert_eq!(needs(&empty, json!([append(2, None), branch("new", 2)])), "APPEND, MANAGE_REFS");
    }

    #[test]
    fn another_retention_of_a_branch_needs_the_privilege_to_expire() {
        let with = |name: &str, id: i64, keep: i32| {
            let mut update = branch(name, id);
            update["min-snapshots-to-keep"] = keep.into();
            update
        };
        let appended = |update: Value| needs(&table(), json!([append(2, Some(1)), update]));
        assert_eq!(appended(with("kept", 2, 5)), "APPEND", "clients repeat what the branch has");
        assert_eq!(appended(with("kept", 2, 1)), "APPEND, EXPIRE");
        assert_eq!(appended(branch("kept", 2)), "APPEND, EXPIRE");
        assert_eq!(needs(&table(), json!([with("main", 1, 1)])), "MANAGE_REFS, EXPIRE");
    }

    #[test]
    fn properties_need_privileges_by_what_they_decide() {
        let keys = [
            ("owner", "SET_PROPERTIES"),
            ("write.format.default", "SET_PROPERTIES"),
            ("commitment", "SET_PROPERTIES"),
            ("write.data.path", "SET_LOCATION"),
            ("Write.Metadata.Path", "SET_LOCATION"),
            ("write.object-storage.path", "SET_LOCATION"),
            ("write.folder-storage.path", "SET_LOCATION"),
            ("write.location-provider.impl", "SET_LOCATION"),
            ("gc.enabled", "SET_PROTECTED"),
            ("GC.Enabled", "SET_PROTECTED"),
            ("write.delete.isolation-level", "SET_PROTECTED"),
            ("history.expire.max-snapshot-age-ms", "SET_PROTECTED"),
            ("write.metadata.delete-after-commit.enabled", "SET_PROTECTED"),
            ("write.metadata.previous-versions-max", "SET_PROTECTED"),
            ("esker.freeze", "SET_POLICY"),
            ("ESKER.Expire.max-age", "SET_POLICY"),
            ("commit.retry.num-retries", "SET_PROPERTIES"),
            ("commit.manifest.min-count-to-merge", "SET_PROTECTED"),
            ("commit.retry", "SET_PROTECTED"),
            ("encryption.key-id", "SET_PROTECTED"),
            ("Trino.Run-As-Owner", "SET_PROTECTED"),
        ];
        for (key, needed) in keys {
            let set = json!({"action": "set-properties", "updates": {key: "x"}});
            let removed = json!({"action": "remove-properties", "removals": [key]});
            for update in [set, removed] {
                assert_eq!(needs(&table(), json!([update])), needed, "{update}");
                let update: ViewUpdate = serde_json::from_value(update).expect("an update");
                let needed = if needed == "SET_POLICY" { "SET_PROTECTED" } else { needed };
                assert_eq!(of_view_updates(&[update]).to_string(), needed, "{key} of a view");
            }
        }
    }

    #[test]
    fn every_kind_of_view_update_needs_its_privilege() {
        let version = json!({"version-id": 2, "schema-id": -1, "timestamp-ms": 1, "summary": {}, "default-namespace": [],
            "representations": [{"type": "sql", "sql": "SELECT 1", "dialect": "spark"}]});
        let kinds = [
            (json!({"action": "assign-uuid", "uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1"}), ""),
            (json!({"action": "upgrade-format-version", "format-version": 1}), "UPGRADE"),
            (json!({"action": "add-schema", "schema": {"type": "struct", "schema-id": 1, "fields": []}}), "ALTER_SCHEMA"),
            (json!({"action": "set-location", "location": "file:///u"}), "SET_LOCATION"),
            (json!({"action": "add-view-version", "view-version": version}), "ALTER_SCHEMA"),
            (json!({"action": "set-current-view-version", "view-version-id": -1}), "ALTER_SCHEMA"),
        ];
        for (update, needed) in kinds {
            let parsed: ViewUpdate = serde_json::from_value(update.clone()).expect("an update");
            assert_eq!(of_view_updates(&[parsed]).to_string(), needed, "{update}");
        }
    }

    #[test]
    fn a_creation_needs_more_only_for_locations_and_protected_properties() {
        let created = |updates: Value, staged| {
            let updates: Vec<TableUpdate> = serde_json::from_value(updates).expect("updates");
            of_creation(&updates, staged).to_string()
        };
        let location = json!({"action": "set-location", "location": "file:///t/"});
        assert_eq!(created(json!([location]), Some("file:///t")), "CREATE_TABLE");
        assert_eq!(created(json!([location]), Some("file:///u")), "CREATE_TABLE, CHOOSE_LOCATION");
        assert_eq!(created(json!([location]), None), "CREATE_TABLE, CHOOSE_LOCATION");
        let properties = |key: &str| json!([{"action": "set-properties", "updates": {key: "x"}}]);
        assert_eq!(created(properties("owner"), None), "CREATE_TABLE");
        assert_eq!(created(properties("commit.retry.num-retries"), None), "CREATE_TABLE", "Trino sets it");
        assert_eq!(created(properties("write.data.path"), None), "CREATE_TABLE, CHOOSE_LOCATION");
        assert_eq!(created(properties("gc.enabled"), None), "CREATE_TABLE, SET_PROTECTED");
        assert_eq!(created(properties("esker.freeze"), None), "CREATE_TABLE, SET_POLICY");
        let others = kinds().into_iter().map(|(update, _)| update).filter(|update| update["action"] != "set-location");
        assert_eq!(created(others.collect(), None), "CREATE_TABLE");
    }

    #[test]
    fn a_location_or_path_outside_of_the_places_of_a_table_is_a_chosen_one() {
        let mut before = table();
        before.properties = BTreeMap::from([("write.data.path".to_owned(), "file:///data".to_owned())]);
        let leaves = |update: Value| {
            let updates: Vec<TableUpdate> = serde_json::from_value(json!([update])).expect("updates");
            leaves_places(&before, &updates)
        };
        let location = |location: &str| json!({"action": "set-location", "location": location});
        let path = |key: &str, path: &str| json!({"action": "set-properties", "updates": {key: path}});
        for within in ["file:///t", "file:///t/", "file:/t/x", "file:///data/x"] {
            assert!(!leaves(location(within)), "{within}");
            assert!(!leaves(path("write.metadata.path", within)), "{within}");
        }
        for outside in ["file:///t2", "file:///", "file:///dat", "relative", "file:///t/../u", "s3://t/x"] {
            assert!(leaves(location(outside)), "{outside}");
            assert!(leaves(path("write.metadata.path", outside)) && leaves(path("Write.Data.Path", outside)), "{outside}");
        }
        assert!(!leaves(path("comment", "file:///u")));
        assert!(!leaves(json!({"action": "remove-properties", "removals": ["write.data.path"]})), "what is left is its own");
        let view = json!({"view-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "format-version": 1, "location": "file:///v",
            "current-version-id": 1, "schemas": [{"type": "struct", "schema-id": 0, "fields": []}],
            "versions": [{"version-id": 1, "schema-id": 0, "timestamp-ms": 1, "summary": {}, "default-namespace": [],
                "representations": [{"type": "sql", "sql": "SELECT 1", "dialect": "spark"}]}],
            "version-log": [{"version-id": 1, "timestamp-ms": 1}]});
        let view = ViewMetadata::from_json(view.to_string().as_bytes()).expect("a view");
        for (to, expected) in [("file:///v/x", false), ("file:///w", true)] {
            let update: ViewUpdate = serde_json::from_value(location(to)).expect("an update");
            assert_eq!(view_leaves_places(&view, &[update]), expected, "{to}");
        }
    }

    #[test]
    fn the_location_of_a_namespace_decides_where_its_tables_lie() {
        let of = |keys: &[&str]| of_namespace_properties(keys.iter().copied()).to_string();
        assert_eq!(of(&["Location"]), "CHOOSE_LOCATION");
        assert_eq!(of(&["write.data.path"]), "CHOOSE_LOCATION");
        assert_eq!(of(&["esker.freeze", "comment"]), "SET_PROPERTIES, SET_POLICY");
    }

    #[test]
    fn what_is_hidden_is_answered_like_what_does_not_exist() {
        let name = || "raw.orders".to_owned();
        let errors = [
            (SecurableKind::Namespace, StateError::NoSuchNamespace(name())),
            (SecurableKind::Table, StateError::NoSuchTable(name())),
            (SecurableKind::View, StateError::NoSuchView(name())),
            (SecurableKind::Function, StateError::NoSuchFunction(name())),
        ];
        for (kind, error) in errors {
            let hidden = RightsError::Hidden { kind, name: name() };
            assert_eq!((hidden.to_string(), hidden.code()), (error.to_string(), error.code()));
        }
    }
}
