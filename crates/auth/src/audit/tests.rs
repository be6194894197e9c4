//! What is recorded of a request, and what becomes of records that can't be written.

use esker_access::{
    AccessMode, Caller, GrantRow, Member, MemberRow, Need, Needs, Privilege, PrivilegeSet, RequestFacts, RuleRows, Rules,
    Securable, Subject,
};
use esker_state::Database;
use esker_types::{Coded, ErrorCode, TableId};

use super::*;

/// Opens the trail over a new database.
async fn open(dir: &tempfile::TempDir, options: AuditOptions) -> Audit {
    let state = State::open(Database::Sqlite(dir.path().join("esker.db"))).await.expect("opened");
    Audit::new(state, options)
}

/// Begins a request of the client `etl` on `raw.orders`.
fn request(audit: &Audit, operation: &str, kind: AuditedKind) -> Option<Arc<RequestTrail>> {
    let named = |text: &str| Some(text.to_owned());
    let identity = Identity::client("etl");
    audit.request(|| AuditedRequest {
        request_id: format!("request of {operation}"),
        protocol: "rest",
        identity: &identity,
        operation: operation.to_owned(),
        kind,
        source_ip: Some(IpAddr::from([10, 0, 0, 7])),
        engine: Some("Spark/4\u{1b}[31m"),
        object: AuditedObject { warehouse: named("lake"), kind: named("table"), name: named("raw.orders"), id: None },
    })
}

/// Returns a caller of that request, who has privileges on every table of the warehouse.
fn caller(trail: &Arc<RequestTrail>, mode: AccessMode, privileges: &[Privilege], breaks_glass: bool) -> Caller {
    let grant = GrantRow {
        id: "g1".to_owned(),
        to: Member::client("etl"),
        on: Securable::Warehouse { warehouse: 1 },
        privileges: PrivilegeSet::of(privileges),
        future: None,
    };
    let glass = MemberRow { role: esker_access::BREAK_GLASS.to_owned(), member: Member::client("etl") };
    let members = if breaks_glass { vec![glass] } else { Vec::new() };
    let rules = Rules::build(RuleRows { version: 1, mode, grants: vec![grant], members, ..RuleRows::default() }).expect("rules");
    let subject = Subject::new(Arc::new(rules), Identity::client("etl"));
    let record = Arc::new(Audited { counted: Arc::new(Counted::new(Arc::new(esker_access::Unrecorded))), trail: trail.clone() });
    Caller::new(Arc::new(subject), RequestFacts::default(), record)
}

const ID: TableId = TableId(Uuid::from_u128(1));

fn orders() -> ResourcePath<'static> {
    ResourcePath::warehouse(1, "lake").namespace("raw").table(ID, "orders")
}

/// Writes what is queued, and returns all records.
async fn records(audit: &Audit) -> Vec<AuditRecord> {
    assert!(audit.flush().await, "written");
    audit.inner.state.audit().after(0, 1000).await.expect("read").into_iter().map(|(_, record)| record).collect()
}

const REQUIRED: AuditOptions = AuditOptions { record: AuditLevel::Changes, required: true, log: false, events: false };

#[tokio::test]
async fn a_change_is_recorded_before_and_after_with_its_rule_and_its_object() {
    let dir = tempfile::tempdir().expect("a directory");
    let audit = open(&dir, REQUIRED).await;
    let trail = request(&audit, "dropTable", AuditedKind::Change).expect("recorded");
    trail.begin().await.expect("written");
    assert_eq!(audit.counts().written, 1, "before anything is done");
    let caller = caller(&trail, AccessMode::On, &[Privilege::Drop], false);
    caller.require(&Need::new(orders(), Privilege::Drop)).expect("allowed");
    trail.finish(204);
    trail.finish(500);
    let found = records(&audit).await;
    let [attempt, outcome] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((attempt.phase, attempt.status, attempt.decision), (AuditPhase::Attempt, None, AuditDecision::None));
    assert_eq!((outcome.phase, outcome.status, outcome.decision), (AuditPhase::Outcome, Some(204), AuditDecision::Allowed));
    assert_eq!((outcome.rule.as_deref(), outcome.privileges.as_deref()), (Some("g1"), Some("DROP")));
    assert_eq!(outcome.object_id, Some(ID.to_string()));
    for record in [attempt, outcome] {
        assert_eq!((record.principal.as_str(), record.principal_kind.as_str()), ("etl", "client"));
        assert_eq!((record.object_kind.as_deref(), record.object.as_deref()), (Some("table"), Some("raw.orders")));
        assert_eq!((record.warehouse.as_deref(), record.source_ip.as_deref()), (Some("lake"), Some("10.0.0.7")));
        assert_eq!((record.request_id.as_str(), record.engine.as_deref()), ("request of dropTable", Some("Spark/4[31m")));
    }
    assert_ne!(attempt.uuid, outcome.uuid);
}

#[tokio::test]
async fn a_refusal_is_recorded_whatever_was_asked_for_and_a_second_way_to_a_right_is_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let audit = open(&dir, AuditOptions::default()).await;
    let trail = request(&audit, "loadTable", AuditedKind::Read).expect("recorded");
    let asks = caller(&trail, AccessMode::On, &[Privilege::List], false);
    asks.require(&Need::new(orders(), Privilege::ReadData)).expect_err("refused");
    trail.finish(403);
    let trail = request(&audit, "explainAccess", AuditedKind::Other).expect("recorded");
    let asks = caller(&trail, AccessMode::On, &[Privilege::List], false);
    let ways = [Need::new(orders(), Privilege::Drop), Need::new(orders(), Privilege::List)];
    asks.require(Needs::AnyOf(&ways)).expect("one of two ways");
    trail.finish(200);
    let trail = request(&audit, "planTableScan", AuditedKind::Read).expect("recorded");
    let asks = caller(&trail, AccessMode::Report, &[], false);
    asks.require(&Need::new(orders(), Privilege::ReadData)).expect("reported only");
    trail.finish(200);
    let found = records(&audit).await;
    let told: Vec<_> = found.iter().map(|r| (r.operation.as_str(), r.decision, r.status, r.privileges.as_deref())).collect();
    let expected = [
        ("loadTable", AuditDecision::Refused, Some(403), Some("READ_DATA")),
        ("planTableScan", AuditDecision::Reported, Some(200), Some("READ_DATA")),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn reads_are_recorded_at_the_level_all_and_what_break_glass_does_at_each() {
    let dir = tempfile::tempdir().expect("a directory");
    let requests = [
        ("loadCredentials", AuditedKind::Read, false),
        ("listTables", AuditedKind::Other, true),
        ("getJob", AuditedKind::Other, false),
    ];
    for (record, expected) in [
        (AuditLevel::Off, vec![]),
        (AuditLevel::Changes, vec!["listTables"]),
        (AuditLevel::All, vec!["loadCredentials", "listTables"]),
    ] {
        let audit = open(&dir, AuditOptions { record, ..AuditOptions::default() }).await;
        let before = records(&audit).await.len();
        for (operation, kind, breaks_glass) in requests {
            let Some(trail) = request(&audit, operation, kind) else { continue };
            let caller = caller(&trail, AccessMode::On, &[Privilege::ReadData], breaks_glass);
            caller.record_break_glass();
            trail.finish(200);
        }
        let found = records(&audit).await.split_off(before);
        assert_eq!(found.iter().map(|record| record.operation.as_str()).collect::<Vec<_>>(), expected, "{record:?}");
        for record in found.iter().filter(|record| record.operation == "listTables") {
            assert_eq!(record.rule.as_deref(), Some("esker:break-glass"));
        }
    }
}

#[tokio::test]
async fn a_change_that_cannot_be_recorded_is_refused_and_a_queued_record_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let audit = open(&dir, REQUIRED).await;
    let trail = request(&audit, "dropTable", AuditedKind::Change).expect("recorded");
    trail.finish(204);
    audit.inner.state.close().await;
    let refused = request(&audit, "createTable", AuditedKind::Change).expect("recorded").begin().await.expect_err("refused");
    assert_eq!(refused.code(), ErrorCode::Unavailable, "{refused}");
    assert!(refused.to_string().contains("audit.required"), "{refused}");
    request(&audit, "loadTable", AuditedKind::Read).expect("recorded").begin().await.expect("no change");
    assert!(!audit.flush().await, "the database is closed");
    let expected = AuditCounts { written: 0, lost: 0, queued: 1, refused: 1 };
    assert_eq!(audit.counts(), expected, "the record of the first request still waits");
    audit.drain().await;
    let expected = AuditCounts { written: 0, lost: 1, queued: 0, refused: 1 };
    assert_eq!(audit.counts(), expected, "the server stops: what could not be written is counted as lost");
}

#[tokio::test]
async fn a_full_queue_drops_records_and_counts_them_and_refusals_push_out_no_change() {
    let dir = tempfile::tempdir().expect("a directory");
    let audit = open(&dir, AuditOptions { record: AuditLevel::All, ..AuditOptions::default() }).await;
    for _ in 0..MAX_QUEUED + 3 {
        request(&audit, "loadTable", AuditedKind::Read).expect("recorded").finish(200);
    }
    request(&audit, "dropTable", AuditedKind::Change).expect("recorded").finish(204);
    let counts = audit.counts();
    assert_eq!((counts.lost, counts.queued), (3, MAX_QUEUED as u64 + 1));
    assert_eq!(audit.take_batch().first().map(|record| record.operation.as_str()), Some("dropTable"));
}

#[tokio::test]
async fn an_answer_of_403_is_a_refusal_whoever_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let audit = open(&dir, AuditOptions::default()).await;
    let trail = request(&audit, "planTableScan", AuditedKind::Read).expect("recorded");
    let asks = caller(&trail, AccessMode::On, &[Privilege::ReadData], false);
    asks.require(&Need::new(orders(), Privilege::ReadData)).expect("allowed, but for row filters");
    trail.finish(403);
    let found = records(&audit).await;
    let [refusal] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((refusal.decision, refusal.rule.as_deref(), refusal.status), (AuditDecision::Refused, None, Some(403)));
    assert_eq!(refusal.object.as_deref(), Some("raw.orders"));
}

#[tokio::test]
async fn the_object_of_a_body_stays_where_a_privilege_on_the_server_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let audit = open(&dir, AuditOptions::default()).await;
    let trail = request(&audit, "createRole", AuditedKind::Change).expect("recorded");
    trail.set_object("role", "auditors\n");
    let asks = caller(&trail, AccessMode::On, &[], false);
    asks.require(&Need::new(ResourcePath::SERVER, Privilege::ManageAccess)).expect_err("refused");
    trail.finish(403);
    let found = records(&audit).await;
    let [refusal] = found.as_slice() else { panic!("{found:?}") };
    let told = (refusal.object_kind.as_deref(), refusal.object.as_deref(), refusal.privileges.as_deref());
    assert_eq!(told, (Some("role"), Some("auditors\\n"), Some("MANAGE_ACCESS")));
}

#[tokio::test]
async fn no_object_has_a_token_or_a_control_character() {
    let dir = tempfile::tempdir().expect("a directory");
    let audit = open(&dir, AuditOptions::default()).await;
    let token = crate::SecretToken::generate().expect("made").reveal();
    let name = |text: String| AuditedObject { kind: Some("token-id".to_owned()), name: Some(text), ..AuditedObject::default() };
    for (object, expected) in [(name(token.clone()), "esk_…"), (name("a\u{1b}[31m\r\nb".to_owned()), "a\\u{1b}[31m\\r\\nb")] {
        let identity = Identity::client("etl");
        let trail = audit.request(|| AuditedRequest {
            request_id: String::new(),
            protocol: "rest",
            identity: &identity,
            operation: "revokeToken".to_owned(),
            kind: AuditedKind::Change,
            source_ip: None,
            engine: Some(&token),
            object,
        });
        trail.expect("recorded").finish(400);
        let found = records(&audit).await;
        let last = found.last().expect("a record");
        assert_eq!((last.object.as_deref(), last.engine.as_deref()), (Some(expected), Some("esk_…")));
    }
    let trail = request(&audit, "createRole", AuditedKind::Change).expect("recorded");
    trail.set_object("role", &token);
    trail.finish(422);
    // The kind of a job is a part of the path, which PostgreSQL would not take with a zero byte.
    request(&audit, &format!("startJob {token}\0"), AuditedKind::Change).expect("recorded").finish(404);
    let last = records(&audit).await.pop().expect("a record");
    assert_eq!(last.operation, "startJob esk_…\\u{0}");
    let records = records(&audit).await.into_iter();
    // The identifiers of requests are made by Esker. Those of this test repeat the operation.
    let shown: Vec<AuditRecord> = records.map(|record| AuditRecord { request_id: String::new(), ..record }).collect();
    assert!(!serde_json::to_string(&shown).expect("JSON").contains(&token));
}

#[tokio::test]
async fn the_object_of_a_new_namespace_is_not_the_one_around_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let audit = open(&dir, AuditOptions::default()).await;
    let trail = request(&audit, "createNamespace", AuditedKind::Change).expect("recorded");
    trail.set_object("namespace", "raw.new");
    let asks = caller(&trail, AccessMode::On, &[Privilege::CreateNamespace], false);
    let around = ResourcePath::warehouse(1, "lake").namespace("raw");
    asks.require(&Need::new(around, Privilege::CreateNamespace)).expect("allowed");
    trail.finish(200);
    let found = records(&audit).await;
    let [made] = found.as_slice() else { panic!("{found:?}") };
    let told = (made.warehouse.as_deref(), made.object_kind.as_deref(), made.object.as_deref());
    assert_eq!(told, (Some("lake"), Some("namespace"), Some("raw.new")));
    assert_eq!(made.decision, AuditDecision::Allowed);
}

#[tokio::test]
async fn every_log_in_is_recorded_and_of_a_flood_of_wrong_ones_a_few() {
    let dir = tempfile::tempdir().expect("a directory");
    let audit = open(&dir, AuditOptions::default()).await;
    let ann = Principal::User { issuer: "https://idp".to_owned(), name: "ann".to_owned() };
    let enter = |principal, status| {
        let (request_id, source_ip) = (String::new(), Some(IpAddr::from([10, 0, 0, 7])));
        audit.record_entry(AuditedEntry { request_id, operation: "pageLogIn", principal, status, source_ip, engine: None });
    };
    for _ in 0..1000 {
        enter(None, 401);
    }
    enter(None, 503);
    for _ in 0..20 {
        enter(Some(&ann), 303);
    }
    let found = records(&audit).await;
    let (entered, refused): (Vec<_>, Vec<_>) = found.iter().partition(|record| record.principal == "https://idp/ann");
    assert!(entered.iter().all(|record| record.principal_kind == "user" && record.decision == AuditDecision::None));
    assert!(refused.iter().all(|record| record.principal_kind == "unknown" && record.decision == AuditDecision::Refused));
    assert_eq!(entered.len(), 20);
    assert!((10..500).contains(&refused.len()), "{}", refused.len());
    assert!(refused.iter().all(|record| record.status == Some(401) && record.source_ip.as_deref() == Some("10.0.0.7")));
}

#[tokio::test]
async fn a_write_that_is_broken_off_loses_no_record() {
    let dir = tempfile::tempdir().expect("a directory");
    let audit = open(&dir, AuditOptions::default()).await;
    request(&audit, "dropTable", AuditedKind::Change).expect("recorded").finish(204);
    // The server stops: it aborts the task that writes.
    let _ = tokio::time::timeout(Duration::ZERO, audit.flush()).await;
    let found = records(&audit).await;
    assert!(found.iter().any(|record| record.operation == "dropTable"), "{found:?}");
}
