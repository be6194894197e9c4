//! The behaviour that both databases must share.
//!
//! Each test function runs on SQLite. It also runs on PostgreSQL if `ESKER_TEST_POSTGRES` is the URL of a server on which databases
//! can be created.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use esker_types::{JobId, NamespaceName, TableId, TableName, now_ms};
use sqlx::AnyPool;
use tempfile::TempDir;
use uuid::Uuid;

use crate::conformance_access::{
    clients_of_a_time_had_no_token_before, filters_and_masks_come_back_and_end_with_their_table,
    grants_end_with_what_they_are_on, new_entry, new_things_copy_grants_on_future_ones, of_two_changes_of_one_version_one_wins,
    policies_come_back_as_they_were_set, rules_come_back_as_they_were_written,
};
use crate::conformance_identities::{
    a_chain_counts_while_its_root_does, a_chain_of_a_user_is_kept_until_it_ends_and_is_no_token_of_a_person,
    a_receipt_answers_only_its_own_principal, a_token_that_counts_again_brings_back_none_that_was_issued_for_it,
    a_use_is_recorded_once_in_an_interval, issued_tokens_of_earlier_releases_are_forgotten_after_their_end,
    tokens_of_earlier_releases_count_until_they_are_revoked,
};
use crate::conformance_jobs::{
    a_job_is_cancelled_where_it_waits_and_notified_where_it_runs,
    a_job_is_entered_once_for_its_key_and_the_most_urgent_is_taken_first, a_job_is_undone_once_by_a_record_that_it_names,
    a_job_whose_taking_was_not_confirmed_is_run_if_it_was_taken,
    what_a_dead_server_was_at_is_taken_over_until_it_has_seen_too_many_die,
    what_was_handed_over_is_its_workers_until_the_lease_ends,
};
use crate::conformance_lease::{
    a_commit_of_a_term_that_has_ended_is_not_published,
    a_lease_is_its_servers_until_it_ends_its_server_is_dead_or_its_term_is_over,
    receipts_of_forwarded_commits_are_forgotten_before_those_of_clients,
};
use crate::conformance_places::{
    a_claimed_place_is_entered_once, locations_of_earlier_releases_are_normalised_once, places_come_in_pages_with_their_owners,
    the_index_of_places_compares_by_segments,
};
use crate::conformance_seen::{
    a_change_after_a_lost_one_fails_once_and_declares_the_database_to_be_behind,
    a_commit_that_was_under_way_loses_its_race_when_changes_were_lost, a_heartbeat_notices_a_lost_change_and_a_lost_row,
    a_heartbeat_notices_what_another_server_lost, a_lost_declaration_is_made_again,
    a_revocation_and_a_log_out_are_changes_that_are_counted, a_server_that_starts_again_notices_what_was_lost_meanwhile,
};
use crate::sessions::conformance::a_session_ends_at_its_time_when_it_is_idle_and_at_the_log_out;
use crate::{
    AssessmentFailure, DamageData, DamagedFile, Database, EventData, JobLogLine, MergedSnapshot, NamespaceRow, NewEvent,
    NewQuarantine, NewReceipt, NoEventData, Outbox, PlaceRange, PointerSwap, QuarantineKind, QuarantineState, ReceiptKey,
    SoftDrop, State, StateError, TableRecoveredData, TableUsage, TabularKind, TabularRow, Warehouse,
};

const DEAD: Duration = Duration::from_secs(60);

pub(crate) fn databases(dir: &TempDir) -> Vec<Database> {
    let mut found = vec![Database::Sqlite(dir.path().join("it's 100%.db"))];
    if let Ok(server) = std::env::var("ESKER_TEST_POSTGRES") {
        found.push(Database::Postgres(format!("{server}/state_{}", Uuid::now_v7().simple())));
    }
    found
}

pub(crate) fn namespace(levels: &[&str]) -> NamespaceName {
    NamespaceName::new(levels.iter().map(|l| (*l).to_owned()).collect()).expect("valid")
}

pub(crate) async fn with_namespace(state: &State) -> (Warehouse, NamespaceName) {
    state.servers().register(DEAD).await.expect("registered");
    let (warehouse, _) = state.warehouses().ensure("w", "file:///w", false).await.expect("made");
    let name = namespace(&["n"]);
    let row = NamespaceRow { name: name.clone(), properties: BTreeMap::new(), protected: false };
    state.namespaces().create(warehouse, &row, &Outbox::default(), |_| Outbox::default()).await.expect("created");
    (warehouse, name)
}

pub(crate) fn row(warehouse: Warehouse, namespace: &NamespaceName, name: &str) -> TabularRow {
    TabularRow {
        id: TableId::fresh(),
        warehouse: warehouse.id,
        kind: TabularKind::Table,
        name: TableName::new(namespace.clone(), name).expect("valid"),
        table_uuid: Uuid::now_v7(),
        location: format!("file:///w/n/{name}"),
        metadata_location: format!("file:///w/n/{name}/metadata/0.json"),
        owned: true,
        protected: false,
    }
}

pub(crate) async fn enter(state: &State, warehouse: Warehouse, row: &TabularRow) -> crate::Result<bool> {
    let new = new_entry(row, None, row.location.clone());
    state.tables().publish(warehouse, &[], &[new], &Outbox::default()).await
}

pub(crate) fn to(row: &TabularRow, from: &str, version: u32) -> PointerSwap {
    PointerSwap {
        id: row.id,
        from: from.to_owned(),
        to: format!("{}/metadata/{version}.json", row.location),
        location: row.location.clone(),
        places: Vec::new(),
        claims: Vec::new(),
        quarantine: Vec::new(),
        settled_outputs: Vec::new(),
        restored: Vec::new(),
        merged: Vec::new(),
        term: None,
    }
}

async fn names_are_listed_by_their_bytes_and_taken_once(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    for name in ["b", "B", "a", "ä", "_", "aa"] {
        assert!(enter(state, warehouse, &row(warehouse, &n, name)).await.expect("entered"));
    }
    let taken = enter(state, warehouse, &row(warehouse, &n, "a")).await.expect_err("taken");
    assert!(matches!(taken, StateError::AlreadyExists { .. }), "{taken}");
    let mut after = String::new();
    let mut listed = Vec::new();
    loop {
        let page = state.tables().list(TabularKind::Table, warehouse, &n, &after, 2).await.expect("listed");
        let Some((_, last)) = page.last() else { break };
        after.clone_from(last);
        listed.extend(page.into_iter().map(|(_, name)| name));
    }
    assert_eq!(listed, ["B", "_", "a", "aa", "b", "ä"]);
    let (mut last, mut paged) = (None, Vec::new());
    loop {
        let page = state.tables().page(Some(TabularKind::Table), warehouse, last, 4).await.expect("a page");
        let Some(row) = page.last() else { break };
        last = Some(row.id);
        paged.extend(page);
    }
    let mut all = state.tables().all(TabularKind::Table, warehouse).await.expect("all");
    all.sort_by_key(|row| row.id.to_string());
    assert_eq!(paged, all, "each once, by their ids");
    let full = state.namespaces().drop(warehouse, &n, &Outbox::default()).await.expect_err("not empty");
    assert!(matches!(full, StateError::NotEmpty(_)), "{full}");
}

async fn a_namespace_is_made_with_those_around_it(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let row = |levels| NamespaceRow { name: namespace(levels), properties: BTreeMap::new(), protected: false };
    let made = std::sync::Mutex::new(Vec::new());
    let outbox_of = |name: &NamespaceName| {
        made.lock().expect("nobody panics").push(name.to_string());
        Outbox::default()
    };
    state.namespaces().create(warehouse, &row(&["n", "a", "b", "c"]), &Outbox::default(), outbox_of).await.expect("created");
    assert_eq!(*made.lock().expect("nobody panics"), ["n.a", "n.a.b"]);
    let all = state.namespaces().all(warehouse).await.expect("listed").into_iter().map(|row| row.name.to_string());
    assert_eq!(all.collect::<Vec<_>>(), ["n", "n.a", "n.a.b", "n.a.b.c"]);
    assert_eq!(state.namespaces().list(warehouse, Some(&n), "", 9).await.expect("listed"), [namespace(&["n", "a"])]);
    let taken = state.namespaces().create(warehouse, &row(&["n", "a"]), &Outbox::default(), outbox_of).await.expect_err("taken");
    assert!(matches!(taken, StateError::AlreadyExists { .. }), "{taken}");
}

async fn of_swaps_from_the_same_state_one_wins(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let table = row(warehouse, &n, "t");
    enter(state, warehouse, &table).await.expect("entered");
    let swaps = (1..=8).map(|version| {
        let (state, swap) = (state.clone(), to(&table, &table.metadata_location, version));
        let data = EventData::TableRecovered(TableRecoveredData {
            metadata_location: swap.to.clone(),
            previous_metadata_location: Some(swap.from.clone()),
        });
        let (warehouse_name, subject) = ("w".to_owned(), "n.t".to_owned());
        let event = NewEvent { data, warehouse: warehouse_name, subject, principal: "p".to_owned() };
        let outbox = Outbox { events: vec![event], receipts: Vec::new() };
        async move { state.tables().publish(warehouse, &[swap], &[], &outbox).await.expect("answered") }
    });
    let won = futures::future::join_all(swaps).await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
    let events = state.outbox().events_after(0, Some("w"), 100).await.expect("events");
    let now = state.tables().by_id(table.id).await.expect("there").expect("a row").metadata_location;
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].kind.as_str(), &events[0].data["metadata-location"]),
        ("table.recovered", &serde_json::Value::from(now))
    );
}

async fn a_change_that_fails_leaves_nothing_of_itself(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let table = row(warehouse, &n, "t");
    enter(state, warehouse, &table).await.expect("entered");
    let (key, operation) = (Uuid::now_v7(), "POST /t".to_owned());
    let key = ReceiptKey { warehouse, principal: "client:p".into(), operation, key, body_sha256: "0".into() };
    let receipts = vec![NewReceipt { key: key.clone(), outcome: "{}".into() }];
    let outbox = Outbox { events: Vec::new(), receipts };
    let first = to(&table, &table.metadata_location, 1);
    assert!(state.tables().publish(warehouse, std::slice::from_ref(&first), &[], &outbox).await.expect("swapped"));
    let again = state.tables().publish(warehouse, &[to(&table, &first.to, 2)], &[], &outbox).await.expect_err("the same key");
    assert!(matches!(again, StateError::DuplicateKey(_)), "{again}");
    assert_eq!(state.tables().by_id(table.id).await.expect("there").expect("a row").metadata_location, first.to);
    assert_eq!(state.outbox().receipt(&key).await.expect("read").expect("there").outcome, "{}");
}

async fn quarantine_moves_on_only_from_the_state_it_was_checked_in(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let table = row(warehouse, &n, "t");
    enter(state, warehouse, &table).await.expect("entered");
    let mut quarantines: Vec<NewQuarantine> =
        (0..3).map(|i| table.quarantine(format!("file:///w/n/t/{i}"), Some(10), "test", None, 5)).collect();
    quarantines[1].kind = QuarantineKind::Orphan;
    state.quarantine().add(&quarantines).await.expect("quarantined");
    let quarantine = state.quarantine().of_table(table.id).await.expect("read");
    let recorded: Vec<&NewQuarantine> = quarantine.iter().map(|quarantined| &quarantined.record).collect();
    assert_eq!(recorded, quarantines.iter().collect::<Vec<_>>(), "the records are read as they were written");
    assert_eq!(state.quarantine().totals().await.expect("totals"), (3, 30));
    assert!(state.quarantine().due_for_deletion(warehouse, table.id, 4, 10).await.expect("due").is_empty());
    let due: Vec<String> = state
        .quarantine()
        .due_for_deletion(warehouse, table.id, 5, 10)
        .await
        .expect("due")
        .into_iter()
        .map(|d| d.record.path)
        .collect();
    assert_eq!(due.len(), 3);
    let elsewhere = state.quarantine().begin_deleting(table.id, Some("file:///other.json"), due.clone()).await.expect("asked");
    assert!(elsewhere.is_empty(), "the table has moved on since it was checked");
    let begun =
        state.quarantine().begin_deleting(table.id, Some(&table.metadata_location), due[..1].to_vec()).await.expect("begun");
    assert_eq!(begun, due[..1]);
    state.quarantine().set_state(&begun, QuarantineState::Deleted, None).await.expect("marked");
    assert!(
        state.outputs().is_known_non_state(&begun[0], false).await.expect("asked"),
        "it is deleted, and no state of the table"
    );
    state.quarantine().add(&quarantines).await.expect("a deleted path is quarantined again");
    assert_eq!(state.quarantine().totals().await.expect("totals"), (3, 30));
    let swap = |version, i: usize| PointerSwap {
        restored: vec![quarantines[i].path.clone()],
        ..to(&table, &table.metadata_location, version)
    };
    state.quarantine().begin_deleting(table.id, Some(&table.metadata_location), due[1..2].to_vec()).await.expect("begun");
    let refused = state.tables().publish(warehouse, &[swap(1, 1)], &[], &Outbox::default()).await.expect_err("it is going");
    assert!(matches!(refused, StateError::BeingDeleted(_)), "{refused}");
    assert!(state.tables().publish(warehouse, &[swap(2, 2)], &[], &Outbox::default()).await.expect("restored"));
    assert_eq!(state.quarantine().totals().await.expect("totals"), (2, 20));
}

/// The row of a merged snapshot is written with the swap, and outlives what is said of the snapshot elsewhere.
async fn merged_snapshots_are_known_until_they_are_forgotten(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let (table, other) = (row(warehouse, &n, "a"), row(warehouse, &n, "b"));
    enter(state, warehouse, &table).await.expect("entered");
    let merged =
        |snapshot_id: i64, list: &str| MergedSnapshot { snapshot_id, branch: "main".to_owned(), manifest_list: list.to_owned() };
    let swap =
        |from: &str, version, merged: &[MergedSnapshot]| PointerSwap { merged: merged.to_vec(), ..to(&table, from, version) };
    let publish =
        async |swap: PointerSwap| state.tables().publish(warehouse, &[swap], &[], &Outbox::default()).await.expect("published");
    let (first, both) = (table.metadata_location.as_str(), [merged(7, "snap-7.avro"), merged(i64::MAX, "snap-8.avro")]);
    assert!(publish(swap(first, 1, &both)).await);
    assert!(!publish(swap(first, 2, &[merged(9, "snap-9.avro")])).await, "the swap was lost");
    let known = async |id, among: &[i64]| state.tables().merged_among(id, among).await.expect("read");
    assert_eq!(known(table.id, &[i64::MAX, 9, 7]).await, both);
    assert!(known(other.id, &[7]).await.is_empty());
    let second = format!("{}/metadata/1.json", table.location);
    assert!(publish(swap(&second, 3, &[merged(7, "another.avro")])).await);
    assert_eq!(known(table.id, &[7]).await, both[..1], "the first counts");
    state.tables().forget_merged(0).await.expect("forgotten");
    assert_eq!(known(table.id, &[7]).await.len(), 1);
    state.tables().forget_merged(now_ms() + 1).await.expect("forgotten");
    assert!(known(table.id, &[7]).await.is_empty());
}

/// A table with more due files than one sweep takes does not hold back the due files of another table.
async fn files_that_are_due_are_found_table_by_table(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let (many, one) = (row(warehouse, &n, "a"), row(warehouse, &n, "b"));
    let record = |table: &TabularRow, i: usize| table.quarantine(format!("{}/{i}", table.location), None, "test", None, 5);
    let mut quarantines: Vec<NewQuarantine> = (0..9).map(|i| record(&many, i)).collect();
    quarantines.push(record(&one, 0));
    state.quarantine().add(&quarantines).await.expect("quarantined");
    assert!(state.quarantine().due_tables(warehouse, 4).await.expect("asked").is_empty());
    let mut both = vec![many.id, one.id];
    both.sort_unstable();
    assert_eq!(state.quarantine().due_tables(warehouse, 5).await.expect("asked"), both);
    assert_eq!(state.quarantine().due_for_deletion(warehouse, many.id, 5, 4).await.expect("asked").len(), 4);
    assert_eq!(state.quarantine().due_for_deletion(warehouse, one.id, 5, 4).await.expect("asked").len(), 1);
}

/// A commit releases the files that it restores, whichever job quarantined them. If one is deleted, it releases none.
async fn files_are_restored_all_or_none_whichever_job_quarantined_them(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let table = row(warehouse, &n, "t");
    enter(state, warehouse, &table).await.expect("entered");
    let path = |i: usize| format!("file:///w/n/t/{i}");
    let quarantines: Vec<NewQuarantine> =
        (0..1200).map(|i| table.quarantine(path(i), None, "test", Some(JobId::fresh()), 5)).collect();
    state.quarantine().add(&quarantines).await.expect("quarantined");
    let deleted = [path(700)];
    state.quarantine().set_state(&deleted, QuarantineState::Deleted, None).await.expect("marked");
    let all: Vec<String> = (0..1300).map(path).collect();
    let (quarantined, found) = state.quarantine().quarantined_among(&all).await.expect("asked");
    assert_eq!((quarantined.len(), found.as_slice()), (1199, deleted.as_slice()));
    let swap = |restored: Vec<String>| PointerSwap { restored, ..to(&table, &table.metadata_location, 1) };
    let refused = state.tables().publish(warehouse, &[swap(all)], &[], &Outbox::default()).await.expect_err("one is deleted");
    assert!(matches!(&refused, StateError::BeingDeleted(path) if *path == deleted[0]), "{refused}");
    assert_eq!(state.quarantine().totals().await.expect("totals").0, 1199);
    assert!(state.tables().publish(warehouse, &[swap(quarantined)], &[], &Outbox::default()).await.expect("swapped"));
    assert_eq!(state.quarantine().totals().await.expect("totals").0, 0);
}

/// After the database was away, the first server to reach it does not count those as dead that could not reach it either.
async fn no_server_counts_as_dead_because_the_database_was_away(state: &State, other: &State) {
    with_namespace(state).await;
    if !state.database.is_postgres() {
        return; // one server only
    }
    let dead_after = Duration::from_secs(5);
    other.servers().register(dead_after).await.expect("registered");
    let away = "UPDATE instance SET seen_ms = seen_ms - 3600000";
    sqlx::query(away).execute(&state.writer).await.expect("long ago");
    state.heartbeats.last_ms.fetch_sub(3_600_000, Ordering::AcqRel);
    state.servers().heartbeat(dead_after).await.expect("alive");
    other.servers().heartbeat(dead_after).await.expect("alive: the first did not remove it");
    sqlx::query(away).execute(&state.writer).await.expect("long ago");
    let third = State::open(state.database.clone()).await.expect("opened");
    let (registered, beaten) = tokio::join!(third.servers().register(dead_after), other.servers().heartbeat(dead_after));
    registered.expect("registered");
    beaten.expect("alive");
    other.servers().heartbeat(dead_after).await.expect("not removed by one that has just started");
    assert!(
        matches!(state.servers().heartbeat(dead_after).await, Err(StateError::Fenced)),
        "it wrote no heartbeat while others did"
    );
}

async fn sightings_remember_the_first_and_forget_what_was_not_seen_again(state: &State) {
    with_namespace(state).await;
    let (a, b, paths) = (TableId::fresh(), TableId::fresh(), ["x".to_owned(), "y".to_owned()]);
    assert_eq!(state.quarantine().record_orphan_candidates(a, &paths, 10).await.expect("seen"), [10, 10]);
    assert_eq!(state.quarantine().record_orphan_candidates(a, &paths[..1], 20).await.expect("seen"), [10]);
    assert_eq!(state.quarantine().forget_orphan_candidates(a, 20).await.expect("forgotten"), 1);
    assert_eq!(state.quarantine().orphan_candidate_since("y").await.expect("asked"), None);
    assert_eq!(state.quarantine().record_orphan_candidates(b, &paths[..1], 30).await.expect("seen"), [30], "another table's");
}

async fn reports_and_sinks_are_kept(state: &State) {
    with_namespace(state).await;
    let table = TableId::fresh();
    for body in 0..3 {
        let used = TableUsage { scans: 1, scanned_files: body, ..TableUsage::default() };
        state.fleet().insert_report(table, "p", &body.to_string(), Some(&used)).await.expect("kept");
    }
    assert_eq!(state.fleet().reports(table, 2).await.expect("reports"), ["2", "1"]);
    let used = TableUsage { scans: 3, scanned_files: 3, ..TableUsage::default() };
    assert_eq!(state.fleet().usage_of(table).await.expect("summed up"), used);
    assert_eq!(state.fleet().usages().await.expect("summed up")[&table], used);
    let of_some = state.fleet().usages_of(&[TableId::fresh(), table]).await.expect("summed up");
    assert_eq!(of_some.into_iter().collect::<Vec<_>>(), [(table, used)]);
    assert_eq!(state.outbox().sink_cursor("s").await.expect("a cursor"), 0);
    state.outbox().advance_sink("s", 7).await.expect("advanced");
    state.outbox().advance_sink("s", 3).await.expect("not back");
    assert_eq!(state.outbox().sink_cursor("s").await.expect("a cursor"), 7);
    assert_eq!(state.outbox().sink_lag("s").await.expect("lag"), (0, 0));
    state.outbox().forget_old(now_ms(), now_ms()).await.expect("forgotten");
}

async fn a_table_is_looked_at_again_when_it_changed_or_could_not_be_assessed(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let table = row(warehouse, &n, "t");
    enter(state, warehouse, &table).await.expect("entered");
    let stale = async |failed_before| state.fleet().stale_tables(warehouse, 0, failed_before, 9).await.expect("asked").len();
    assert_eq!(stale(0).await, 1, "never assessed");
    let later = state.fleet().stale_tables(warehouse, now_ms() + 1, 0, 9).await.expect("asked");
    assert!(later.is_empty(), "it was entered before");
    let away = AssessmentFailure { why: "the storage is away".to_owned(), passing: true };
    state.fleet().record_health(table.id, &table.metadata_location, Err(&away)).await.expect("kept");
    assert_eq!(state.fleet().health(table.id).await.expect("asked").expect("there").facts, Err(away));
    assert_eq!((stale(0).await, stale(now_ms() + 1).await), (0, 1), "a failed assessment is repeated after a while");
    state.fleet().record_health(table.id, &table.metadata_location, Ok(("{}", 90, "{}"))).await.expect("kept");
    assert_eq!(stale(now_ms() + 1).await, 0);
    assert_eq!(state.fleet().health(table.id).await.expect("asked").expect("there").facts, Ok("{}".to_owned()));
    let swap = to(&table, &table.metadata_location, 1);
    state.tables().publish(warehouse, &[swap], &[], &Outbox::default()).await.expect("swapped");
    assert_eq!(stale(0).await, 1, "changed");
    assert_eq!(state.fleet().history(table.id, 0).await.expect("asked")[0].score, 90);
    let other = row(warehouse, &n, "u");
    enter(state, warehouse, &other).await.expect("entered");
    let pages = async |after| state.fleet().tables_page(warehouse, after, 1).await.expect("asked");
    let (first, second) = (pages(None).await, pages(Some(table.id)).await);
    assert_eq!((first[0].0.id, first[0].1.as_ref()), (table.id, Some(&table.metadata_location)));
    assert_eq!((second[0].0.id, second[0].1.as_ref()), (other.id, None));
    assert!(pages(Some(other.id)).await.is_empty());
    let mut among = state.fleet().tables_among(warehouse, &[other.id, TableId::fresh(), table.id]).await.expect("asked");
    among.sort_by_key(|(row, _)| row.id.to_string());
    assert_eq!(among, [first, second].concat());
    assert!(state.fleet().tables_among(Warehouse { id: -1, ..warehouse }, &[table.id]).await.expect("asked").is_empty());
    let worst = async || {
        let found = state.fleet().worst_tables(warehouse, 9).await.expect("asked");
        found.into_iter().map(|(row, _)| row.id).collect::<Vec<_>>()
    };
    assert_eq!(worst().await, [table.id], "the other was never assessed");
    state.fleet().record_health(other.id, "x", Ok(("{}", 80, "{}"))).await.expect("kept");
    assert_eq!(worst().await, [other.id, table.id]);
    let away = AssessmentFailure { why: "gone".to_owned(), passing: false };
    state.fleet().record_health(table.id, "x", Err(&away)).await.expect("kept");
    assert_eq!(worst().await, [table.id, other.id], "without facts");
    assert_eq!(state.fleet().count_tables(warehouse, 9).await.expect("counted"), 2);
    assert_eq!(state.fleet().count_tables(warehouse, 1).await.expect("counted"), 1);
    state.fleet().record_health(table.id, "x", Ok(("{}", 90, "{}"))).await.expect("kept");
    let unknown = TableId::fresh();
    let mut kept: Vec<TableId> =
        state.fleet().healths_of(&[table.id, other.id, unknown]).await.expect("asked").into_keys().collect();
    kept.sort_by_key(TableId::to_string);
    assert_eq!(kept, [table.id, other.id]);
    state.tables().drop(&other, None, &[], None, &Outbox::default()).await.expect("dropped");
    state.fleet().forget(0).await.expect("forgotten");
    assert_eq!(worst().await, [table.id]);
    assert!(state.fleet().health(other.id).await.expect("asked").is_none(), "its table is gone");
    assert!(!state.fleet().history(table.id, 0).await.expect("asked").is_empty());
    state.fleet().forget(now_ms() + 1).await.expect("forgotten");
    assert!(state.fleet().history(table.id, 0).await.expect("asked").is_empty(), "it is older than it is kept");
}

async fn damage_is_kept_once_reported_once_and_forgotten(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let table = row(warehouse, &n, "t");
    enter(state, warehouse, &table).await.expect("entered");
    let event = |kind: fn(DamageData) -> EventData| NewEvent {
        data: kind(DamageData { table_uuid: table.table_uuid, files: Vec::new() }),
        warehouse: "w".to_owned(),
        subject: "n.t".to_owned(),
        principal: "health".to_owned(),
    };
    let file = |path: &str, met_by: &str| DamagedFile {
        path: path.to_owned(),
        missing: true,
        error: "not found".to_owned(),
        first_met_by: met_by.to_owned(),
        first_seen_ms: 0,
        snapshot_id: (path == "b").then_some(-7),
    };
    let note =
        async |path, met_by| state.fleet().record_damage(table.id, &file(path, met_by), event(EventData::TableFileDamaged)).await;
    assert!(note("a", "job 1").await.expect("noted") && note("b", "job 1").await.expect("noted"));
    assert!(!note("a", "job 2").await.expect("known"), "the first that met it is kept");
    let events = state.outbox().events_after(0, None, 99).await.expect("events");
    assert_eq!(events.iter().filter(|e| e.kind == "table.file-damaged").count(), 2);
    assert_eq!(state.outbox().newest_event().await.expect("read"), events.iter().map(|e| e.id).max().expect("some"));
    let kept = state.fleet().damage(warehouse).await.expect("read").remove(&table.id).expect("some");
    assert_eq!(
        kept.iter().map(|f| (f.path.as_str(), f.first_met_by.as_str())).collect::<Vec<_>>(),
        [("a", "job 1"), ("b", "job 1")]
    );
    assert!(kept[0].missing && kept[0].first_seen_ms > 0);
    assert_eq!((kept[0].snapshot_id, kept[1].snapshot_id), (None, Some(-7)));
    state.fleet().forget_damage(table.id, &["a".to_owned()], event(EventData::TableFileMended)).await.expect("forgotten");
    assert_eq!(state.fleet().damage_of(table.id).await.expect("read").iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["b"]);
}

/// Statements about many rows write what a statement a row would: in order, the last of two, all or none.
async fn rows_that_share_a_statement_are_written_as_if_alone(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let table = row(warehouse, &n, "t");
    enter(state, warehouse, &table).await.expect("entered");
    let event = |i: usize| NewEvent {
        data: EventData::NamespaceDropped(NoEventData {}),
        warehouse: "many".to_owned(),
        subject: i.to_string(),
        principal: "p".to_owned(),
    };
    let receipt = |key| NewReceipt {
        key: ReceiptKey { warehouse, principal: "client:p".into(), operation: "POST /t".into(), key, body_sha256: "0".into() },
        outcome: "{}".into(),
    };
    let keys: Vec<Uuid> = (0..600).map(|_| Uuid::now_v7()).collect();
    let outbox = Outbox { events: (0..1100).map(event).collect(), receipts: keys.iter().copied().map(receipt).collect() };
    let first = to(&table, &table.metadata_location, 1);
    assert!(state.tables().publish(warehouse, std::slice::from_ref(&first), &[], &outbox).await.expect("swapped"));
    let events = state.outbox().events_after(0, Some("many"), 2000).await.expect("events");
    assert!(events.iter().map(|e| e.subject.clone()).eq((0..1100).map(|i| i.to_string())), "in their order");
    let fresh = Uuid::now_v7();
    for (receipts, duplicate) in [(vec![fresh, keys[599]], keys[599]), (vec![fresh, fresh], fresh)] {
        let outbox = Outbox { events: Vec::new(), receipts: receipts.into_iter().map(receipt).collect() };
        let refused =
            state.tables().publish(warehouse, &[to(&table, &first.to, 2)], &[], &outbox).await.expect_err("a key is taken");
        assert!(matches!(refused, StateError::DuplicateKey(key) if key == duplicate), "{refused}");
    }
    assert_eq!(state.outbox().receipt(&receipt(fresh).key).await.expect("read"), None, "all or none");

    let delivered: Vec<(String, String)> = (0..1200).map(|i| (format!("s{}", i % 700), i.to_string())).collect();
    state.outbox().record_delivered("r", &delivered).await.expect("recorded");
    let kept = state.outbox().delivered_fingerprints("r").await.expect("read");
    assert_eq!((kept.len(), kept["s0"].as_str(), kept["s699"].as_str()), (700, "700", "699"), "the last of two counts");

    let job = JobId::fresh();
    let lines: Vec<JobLogLine> = (0..1100).map(|i| JobLogLine { time_ms: i, text: i.to_string() }).collect();
    for lines in lines.chunks(600) {
        state.jobs().append_log(job, lines).await.expect("logged");
    }
    assert_eq!(state.jobs().log(job).await.expect("read"), lines);
}

async fn an_epoch_never_goes_back(state: &State) {
    let (warehouse, _) = with_namespace(state).await;
    assert_eq!(
        (
            state.warehouses().epoch(warehouse).await.expect("read").entered,
            state.warehouses().epoch(warehouse).await.expect("read").entering
        ),
        (0, 0)
    );
    state.warehouses().set_epoch(warehouse, 3, 4).await.expect("set");
    state.warehouses().set_epoch(warehouse, 2, 9).await.expect("set");
    let epoch = state.warehouses().epoch(warehouse).await.expect("read");
    assert_eq!((epoch.entered, epoch.entering), (3, 9));
    assert!(!epoch.database.is_empty() && epoch.identity.contains('-') && epoch.backup_ms.is_none());
}

async fn a_dropped_table_comes_back_as_it_was(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let table = row(warehouse, &n, "t");
    enter(state, warehouse, &table).await.expect("entered");
    let created_ms = state.tables().created_ms(table.id).await.expect("read");
    let keep = SoftDrop { purge: true, principal: "p".into(), expires_ms: 99 };
    assert!(
        !state.tables().drop(&table, Some("file:///other.json"), &[], None, &Outbox::default()).await.expect("asked"),
        "it moved on"
    );
    let at = Some(table.metadata_location.as_str());
    assert!(state.tables().drop(&table, at, &[], Some(&keep), &Outbox::default()).await.expect("dropped"));
    let dropped = state.tables().all_dropped(warehouse).await.expect("listed");
    assert!(dropped.len() == 1 && dropped[0].purge && dropped[0].row == table);
    let view = TabularRow { kind: TabularKind::View, ..table.clone() };
    for (entry, missing) in [(&table, "Table does not exist: n.t"), (&view, "View does not exist: n.t")] {
        let gone = state.tables().drop(entry, None, &[], None, &Outbox::default()).await.expect_err("gone");
        assert_eq!(gone.to_string(), missing);
    }
    // Metadata files that were written meanwhile must not count as those of another catalog.
    while now_ms() <= dropped[0].dropped_ms {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    state.tables().undrop(warehouse, table.id, &table.name, &Outbox::default()).await.expect("back");
    assert_eq!(state.tables().created_ms(table.id).await.expect("read"), created_ms, "as if it had not been dropped");
    state.tables().protect(table.id, true, &Outbox::default()).await.expect("protected");
    let refused = state.tables().drop(&table, None, &[], None, &Outbox::default()).await.expect_err("protected");
    assert!(matches!(refused, StateError::Protected { .. }), "{refused}");
}

/// A table keeps its places until it is gone for good and no file of it waits in quarantine.
async fn a_place_is_its_tables_until_that_is_gone_for_good(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let (table, other) = (row(warehouse, &n, "t"), row(warehouse, &n, "u"));
    for row in [&table, &other] {
        enter(state, warehouse, row).await.expect("entered");
    }
    let at = |place: &str| (table.id, format!("file:///w/{place}"));
    let moved = PointerSwap { places: vec![at("n/t").1, at("x").1], ..to(&table, &table.metadata_location, 1) };
    assert!(state.tables().publish(warehouse, &[moved], &[], &Outbox::default()).await.expect("moved"));
    let of_table = async || {
        let (places, _) = state.tables().places_in(warehouse, &PlaceRange::below("file:///w"), None).await.expect("read");
        let places = places.into_iter().map(|place| (place.owner.id, place.location));
        places.filter(|(id, _)| *id != other.id).collect::<Vec<_>>()
    };
    assert_eq!(of_table().await, [at("n/t"), at("x")]);
    let keep = SoftDrop { purge: true, principal: "p".into(), expires_ms: 99 };
    state.tables().drop(&table, None, &[], Some(&keep), &Outbox::default()).await.expect("dropped");
    assert_eq!(of_table().await, [at("n/t"), at("x")], "it can be brought back");
    let record = table.quarantine("file:///w/x/1".into(), None, "test", None, 5);
    state.tables().end_drop(table.id, &[record], &Outbox::default()).await.expect("ended");
    assert_eq!(of_table().await, []);
    assert_eq!(
        state.tables().places_of(table.id).await.expect("read"),
        [at("n/t").1, at("x").1],
        "files wait for their deletion there"
    );

    let again = TabularRow { id: TableId::fresh(), ..other.clone() };
    let new = new_entry(&again, Some(other.id), at("y").1);
    state.tables().publish(warehouse, &[], &[new], &Outbox::default()).await.expect("entered");
    assert_eq!(
        state.tables().places_of(again.id).await.expect("read"),
        [other.location.clone(), at("y").1],
        "it is the same table"
    );
    assert!(state.tables().places_of(other.id).await.expect("read").is_empty());
    let stranger = TabularRow { id: TableId::fresh(), table_uuid: Uuid::now_v7(), ..other.clone() };
    let new = new_entry(&stranger, Some(again.id), at("z").1);
    state.tables().publish(warehouse, &[], &[new], &Outbox::default()).await.expect("entered");
    assert_eq!(state.tables().places_of(stranger.id).await.expect("read"), [at("z").1], "it is another table");
}

/// The pending outputs of a dead server are found, and the server can change nothing any more.
async fn the_dead_are_found_and_fenced(state: &State, other: &State) {
    let (warehouse, n) = with_namespace(state).await;
    other.servers().register(DEAD).await.expect("registered");
    let table = row(warehouse, &n, "t");
    enter(other, warehouse, &table).await.expect("entered");
    other.outputs().record(warehouse, table.id, None, &["x".to_owned()]).await.expect("recorded");
    assert!(state.outputs().of_dead_servers(warehouse).await.expect("asked").is_empty() || !state.database.is_postgres());
    let known = async |path: &str, dead| state.outputs().is_known_non_state(path, dead).await.expect("asked");
    assert!(known("x", false).await || !state.database.is_postgres(), "a live server is about to publish it");
    other.servers().unregister().await.expect("left");
    assert_eq!((known("x", false).await, known("x", true).await, known("y", true).await), (false, true, false));
    let left = state.outputs().of_dead_servers(warehouse).await.expect("asked");
    assert_eq!(left.len(), 1);
    if state.database.is_postgres() {
        let before = state.servers().count_live().await.expect("counted");
        other.servers().register(DEAD).await.expect("registered");
        assert_eq!(state.servers().count_live().await.expect("counted"), before + 1);
        sqlx::query("DELETE FROM instance").execute(&state.writer).await.expect("taken for dead");
        assert!(matches!(other.servers().heartbeat(DEAD).await, Err(StateError::Fenced)));
        let swap = to(&table, &table.metadata_location, 1);
        let refused = other.tables().publish(warehouse, &[swap], &[], &Outbox::default()).await.expect_err("fenced");
        assert!(matches!(refused, StateError::Fenced), "{refused}");
    }
}

/// A client that disconnects in the middle of a change blocks no other change.
async fn a_change_cut_short_holds_no_lock(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let begun = state.begin().await.expect("begun");
    drop(begun);
    let one = row(warehouse, &n, "t");
    let entered = tokio::time::timeout(Duration::from_secs(10), enter(state, warehouse, &one)).await.expect("no lock is held");
    assert!(entered.expect("entered"));
    if state.database.is_postgres() {
        assert_eq!(advisory_locks(&state.writer).await, 0);
    }
}

async fn advisory_locks(pool: &AnyPool) -> i64 {
    let sql = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
               WHERE locktype = 'advisory' AND d.datname = current_database()";
    sqlx::query_scalar(sql).fetch_one(pool).await.expect("counted")
}

macro_rules! on_every_database {
    ($($name:ident),* $(,)?) => {
        mod on_every_database {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let dir = tempfile::tempdir().expect("a directory");
                for database in super::databases(&dir) {
                    let state = super::State::open(database).await.expect("opened");
                    super::$name(&state).await;
                    state.close().await;
                }
            })*
        }
    };
}

on_every_database!(
    names_are_listed_by_their_bytes_and_taken_once,
    a_namespace_is_made_with_those_around_it,
    of_swaps_from_the_same_state_one_wins,
    a_change_that_fails_leaves_nothing_of_itself,
    quarantine_moves_on_only_from_the_state_it_was_checked_in,
    files_that_are_due_are_found_table_by_table,
    merged_snapshots_are_known_until_they_are_forgotten,
    files_are_restored_all_or_none_whichever_job_quarantined_them,
    sightings_remember_the_first_and_forget_what_was_not_seen_again,
    a_job_is_entered_once_for_its_key_and_the_most_urgent_is_taken_first,
    a_job_is_cancelled_where_it_waits_and_notified_where_it_runs,
    a_job_whose_taking_was_not_confirmed_is_run_if_it_was_taken,
    a_job_is_undone_once_by_a_record_that_it_names,
    what_a_dead_server_was_at_is_taken_over_until_it_has_seen_too_many_die,
    what_was_handed_over_is_its_workers_until_the_lease_ends,
    reports_and_sinks_are_kept,
    a_session_ends_at_its_time_when_it_is_idle_and_at_the_log_out,
    a_dropped_table_comes_back_as_it_was,
    a_place_is_its_tables_until_that_is_gone_for_good,
    a_table_is_looked_at_again_when_it_changed_or_could_not_be_assessed,
    damage_is_kept_once_reported_once_and_forgotten,
    rows_that_share_a_statement_are_written_as_if_alone,
    an_epoch_never_goes_back,
    a_change_cut_short_holds_no_lock,
    rules_come_back_as_they_were_written,
    of_two_changes_of_one_version_one_wins,
    grants_end_with_what_they_are_on,
    filters_and_masks_come_back_and_end_with_their_table,
    policies_come_back_as_they_were_set,
    new_things_copy_grants_on_future_ones,
    clients_of_a_time_had_no_token_before,
    a_chain_counts_while_its_root_does,
    tokens_of_earlier_releases_count_until_they_are_revoked,
    issued_tokens_of_earlier_releases_are_forgotten_after_their_end,
    a_chain_of_a_user_is_kept_until_it_ends_and_is_no_token_of_a_person,
    a_token_that_counts_again_brings_back_none_that_was_issued_for_it,
    a_use_is_recorded_once_in_an_interval,
    a_receipt_answers_only_its_own_principal,
    the_index_of_places_compares_by_segments,
    places_come_in_pages_with_their_owners,
    a_claimed_place_is_entered_once,
    locations_of_earlier_releases_are_normalised_once,
    a_change_after_a_lost_one_fails_once_and_declares_the_database_to_be_behind,
    a_heartbeat_notices_a_lost_change_and_a_lost_row,
    a_heartbeat_notices_what_another_server_lost,
    a_lost_declaration_is_made_again,
    a_revocation_and_a_log_out_are_changes_that_are_counted,
    a_server_that_starts_again_notices_what_was_lost_meanwhile,
    a_commit_that_was_under_way_loses_its_race_when_changes_were_lost,
    a_lease_is_its_servers_until_it_ends_its_server_is_dead_or_its_term_is_over,
    a_commit_of_a_term_that_has_ended_is_not_published,
    receipts_of_forwarded_commits_are_forgotten_before_those_of_clients,
);

#[tokio::test(flavor = "multi_thread")]
async fn what_the_dead_left_is_found_on_every_database() {
    let dir = tempfile::tempdir().expect("a directory");
    for database in databases(&dir) {
        let (state, other) = (State::open(database.clone()).await.expect("opened"), State::open(database).await.expect("opened"));
        the_dead_are_found_and_fenced(&state, &other).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_survive_the_time_that_their_database_is_away() {
    let dir = tempfile::tempdir().expect("a directory");
    for database in databases(&dir) {
        let (state, other) = (State::open(database.clone()).await.expect("opened"), State::open(database).await.expect("opened"));
        no_server_counts_as_dead_because_the_database_was_away(&state, &other).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_start_at_once_migrate_once() {
    let dir = tempfile::tempdir().expect("a directory");
    for database in databases(&dir) {
        let opened = futures::future::join_all((0..6).map(|_| State::open(database.clone()))).await;
        let states: Vec<State> = opened.into_iter().collect::<crate::Result<_>>().expect("all opened");
        assert!(states[0].database.identity(&states[0].readers).await.expect("known").split('-').count() > 1);
        if database.is_postgres() {
            assert_eq!(advisory_locks(&states[0].writer).await, 0);
        }
    }
}

/// A setting that outlives its transaction would count for whoever the pooler lends the session to next.
#[tokio::test]
async fn behind_a_pooler_settings_last_as_long_as_their_transaction() {
    let dir = tempfile::tempdir().expect("a directory");
    for database in databases(&dir).into_iter().filter(Database::is_postgres) {
        let state = State::open(database.behind_pooler()).await.expect("opened");
        let sql = "SELECT current_setting('lock_timeout') || ' ' || current_setting('synchronous_commit')";
        let own: String = sqlx::query_scalar(sql).fetch_one(&state.readers).await.expect("read");
        let durable = own.strip_prefix("0 ").expect("no limit of its own");
        let (mut change, mut relaxed) = (state.begin().await.expect("begun"), state.begin_relaxed().await.expect("begun"));
        let of_change: String = sqlx::query_scalar(sql).fetch_one(&mut *change).await.expect("read");
        let of_relaxed: String = sqlx::query_scalar(sql).fetch_one(&mut *relaxed).await.expect("read");
        assert_eq!((of_change, of_relaxed.as_str()), (format!("30s {durable}"), "30s off"));
        change.commit().await.expect("committed");
        relaxed.commit().await.expect("committed");
        for pool in [&state.writer, &state.relaxed_writer, &state.readers] {
            let after: String = sqlx::query_scalar(sql).fetch_one(pool).await.expect("read");
            assert_eq!(after, own);
        }
        assert!(state.jobs().listen().await.expect("asked").is_none(), "a subscription needs a session");
        state.close().await;
    }
}

/// Returns the columns of each table of the schema.
async fn columns(state: &State) -> BTreeMap<String, Vec<String>> {
    let sql = match state.database.is_postgres() {
        true => {
            "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT) FROM information_schema.columns
             WHERE table_schema = 'public' AND table_name NOT LIKE '\\_%'"
        }
        false => {
            "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c
             WHERE m.type = 'table' AND m.name NOT LIKE '\\_%' ESCAPE '\\' AND m.name NOT LIKE 'sqlite%'"
        }
    };
    let rows: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(&state.readers).await.expect("read");
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    rows.into_iter().for_each(|(table, column)| found.entry(table).or_default().push(column));
    found.values_mut().for_each(|columns| columns.sort());
    found
}

#[tokio::test]
async fn both_schemas_have_the_same_tables_and_columns() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut schemas = Vec::new();
    for database in databases(&dir) {
        schemas.push(columns(&State::open(database).await.expect("opened")).await);
    }
    assert!(schemas[0].len() > 10, "{schemas:?}");
    assert!(schemas.windows(2).all(|pair| pair[0] == pair[1]), "{schemas:#?}");
}
