//! Jobs under access control: who asked for one is asked about again when it begins.

use esker_access::{AccessMode, Member, Privilege, PrivilegeSet, RuleChange};
use esker_auth::token_hash;
use esker_state::{JobAsker, NewJob};
use esker_tests::{AccessTest, TOKEN, TestTable};
use esker_types::JobId;
use reqwest::Method;
use serde_json::{Value, json};

use super::read_restrictions::{below, filter};
use crate::jobs::wait_for_hand_over;

/// The path of the expiries of the table `n.t`.
const EXPIRE: &str = "/api/v1/warehouses/default/namespaces/n/tables/t/expire";

const ISSUER: &str = "https://id.example";

/// A server with a table, and the request of an expiry of it as jobs have it.
struct Sandbox {
    test: AccessTest,
    request: Value,
}

impl Sandbox {
    async fn start(mode: AccessMode) -> Self {
        let test = AccessTest::start(mode).await;
        test.create_namespace("n").await;
        test.create_table("n", "t").await;
        let accepted = test.app.ok(Method::POST, EXPIRE, Some(json!({}))).await;
        let job = test.app.wait_for_job(accepted["job-id"].as_str().expect("an id")).await;
        assert_eq!(job["state"], "succeeded", "an administrator's: {job}");
        Self { test, request: job["request"].clone() }
    }

    /// Runs an expiry that `asker` asked for before the rules became what they are. Returns its state and its error.
    async fn run(&self, asker: Option<JobAsker>) -> (String, String) {
        self.run_job(asker, "expire", self.request.clone()).await
    }

    /// Runs a job of a kind as [`Self::run`] does.
    async fn run_job(&self, asker: Option<JobAsker>, kind: &'static str, request: Value) -> (String, String) {
        let catalog = self.test.app.catalog();
        let id = JobId::fresh();
        let job = NewJob {
            id,
            table: self.test.table_id("n.t").await,
            table_name: "n.t".to_owned(),
            kind,
            principal: "who-asked".to_owned(),
            asker,
            reason: "asked for earlier".to_owned(),
            key: None,
            request,
            priority: 100,
            due_ms: 0,
            predicted: None,
        };
        catalog.state().jobs().enqueue(catalog.warehouse(), &job).await.expect("enqueued");
        let ended = self.test.app.wait_for_job(&id.to_string()).await;
        // The row has the error. Answers withhold it from everybody whom row filters restrict, administrators too.
        let stored = catalog.state().jobs().get(id).await.expect("asked").expect("a job");
        (ended["state"].as_str().unwrap_or_default().to_owned(), stored.error.unwrap_or_default())
    }
}

fn client(name: &str) -> Option<JobAsker> {
    Some(JobAsker::Client { name: name.to_owned() })
}

fn user(claims: &[&str]) -> Option<JobAsker> {
    let claims = claims.iter().map(|claim| (*claim).to_owned()).collect();
    Some(JobAsker::User { issuer: ISSUER.to_owned(), name: "ann".to_owned(), claims })
}

/// Checks that a job was refused with words that name the reason.
fn assert_refused((state, error): (String, String), words: &str) {
    assert!(
        state == "failed" && error.starts_with("who-asked asked for this job and") && error.contains(words),
        "{state}: {error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_does_not_begin_for_who_lost_the_right_to_start_it() {
    let sandbox = Sandbox::start(AccessMode::On).await;
    let test = &sandbox.test;
    let token = test.client("bi").await;
    assert_refused(sandbox.run(client("bi")).await, "has MAINTAIN on the table no more");

    let maintain = PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata, Privilege::Maintain]);
    test.grant("bi", test.table("n.t").await, maintain).await;
    assert_eq!(sandbox.run(client("bi")).await, ("succeeded".to_owned(), String::new()));
    let (status, accepted) = test.send(&token, Method::POST, EXPIRE, Some(json!({}))).await;
    let accepted: Value = serde_json::from_str(&accepted).expect("JSON");
    let id = accepted["job-id"].as_str().expect("an id").to_owned();
    assert_eq!((status, &test.app.wait_for_job(&id).await["state"]), (202, &json!("succeeded")));
    let stored = test.app.catalog().state().jobs().get(id.parse().expect("an id")).await.expect("asked").expect("a job");
    assert_eq!(stored.asker, client("bi"), "who asked is recorded");

    // Esker's own jobs are asked about nothing.
    assert_eq!(sandbox.run(None).await.0, "succeeded");

    let revoked = RuleChange::Revoke {
        to: Member::client("bi"),
        on: test.table("n.t").await,
        future: None,
        privileges: Privilege::Maintain.into(),
    };
    test.change(vec![revoked]).await;
    assert_refused(sandbox.run(client("bi")).await, "has MAINTAIN on the table no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_names_rows_does_not_begin_for_who_may_not_read_them_any_more() {
    let sandbox = Sandbox::start(AccessMode::On).await;
    let test = &sandbox.test;
    test.client("bi").await;
    let table = test.table_id("n.t").await;
    let compact = async || sandbox.run_job(client("bi"), "compact", json!({"compact": {"where": "id = 1"}})).await;
    let privileges = PrivilegeSet::of(&[Privilege::List, Privilege::Maintain]);
    test.grant("bi", test.table("n.t").await, privileges).await;
    assert_refused(compact().await, "READ_DATA");
    test.grant("bi", test.table("n.t").await, Privilege::ReadData.into()).await;
    assert_eq!(compact().await, ("succeeded".to_owned(), String::new()));
    test.change(vec![filter("f1", table, &Member::client("bi"), below(2))]).await;
    assert_refused(compact().await, "may not read all rows of the table");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_does_not_begin_for_a_client_whose_tokens_were_revoked() {
    let sandbox = Sandbox::start(AccessMode::On).await;
    let test = &sandbox.test;
    let made = test.app.ok(Method::POST, "/api/v1/tokens", Some(json!({"principal": "bi"}))).await;
    test.grant("bi", test.table("n.t").await, Privilege::Maintain.into()).await;
    assert_eq!(sandbox.run(client("bi")).await.0, "succeeded");
    let id = made["id"].as_str().expect("an id");
    test.app.ok(Method::DELETE, &format!("/api/v1/tokens/{id}"), None).await;
    assert_refused(sandbox.run(client("bi")).await, "every token of the client bi was revoked");

    // A token of the first start, or of an earlier release, leaves no row.
    test.app.catalog().state().principals().put("first", &token_hash("of-the-first-start")).await.expect("stored");
    test.grant("first", test.table("n.t").await, Privilege::Maintain.into()).await;
    assert_eq!(sandbox.run(client("first")).await.0, "succeeded");
    test.app.ok(Method::DELETE, "/api/v1/tokens/principal:first", None).await;
    assert_refused(sandbox.run(client("first")).await, "every token of the client first was revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claims_of_who_asked_count_when_the_job_begins() {
    let sandbox = Sandbox::start(AccessMode::On).await;
    let test = &sandbox.test;
    let claim = Member::Claim { issuer: ISSUER.to_owned(), value: "ops".to_owned() };
    let role = || "maintainers".to_owned();
    test.change(vec![RuleChange::CreateRole { role: role() }]).await;
    test.change(vec![RuleChange::AddMember { role: role(), member: claim.clone() }]).await;
    let grant = esker_access::GrantRow {
        id: uuid::Uuid::now_v7().to_string(),
        to: Member::role(role()),
        on: test.table("n.t").await,
        privileges: Privilege::Maintain.into(),
        future: None,
    };
    test.change(vec![RuleChange::AddGrant { grant }]).await;
    assert_eq!(sandbox.run(user(&["data", "ops"])).await.0, "succeeded");
    assert_refused(sandbox.run(user(&["data"])).await, "has MAINTAIN on the table no more");
    test.change(vec![RuleChange::RemoveMember { role: role(), member: claim }]).await;
    assert_refused(sandbox.run(user(&["ops"])).await, "has MAINTAIN on the table no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_enforced_every_job_begins() {
    let sandbox = Sandbox::start(AccessMode::Report).await;
    assert_eq!(sandbox.run(client("bi")).await.0, "succeeded");
    assert_eq!(sandbox.run(Some(JobAsker::Anonymous)).await.0, "succeeded");
}

/// Days may pass between the plan of a job and the worker that claims it.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_not_given_to_a_worker_of_spark_for_who_lost_the_right_while_it_waited() {
    let test = AccessTest::start(AccessMode::On).await;
    TestTable::six_files(&test.app).await;
    let set =
        json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {"esker.compact.spark-over": "1B"}}]});
    test.app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(set)).await;
    let token = test.client("bi").await;
    let maintain = PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata, Privilege::Maintain]);
    test.grant("bi", test.table("n.t").await, maintain).await;
    let compact = EXPIRE.replace("expire", "compact");
    let (status, accepted) = test.send(&token, Method::POST, &compact, Some(json!({}))).await;
    let accepted: Value = serde_json::from_str(&accepted).expect("JSON");
    assert_eq!(status, 202, "{accepted}");
    wait_for_hand_over(&test.app, &accepted["job-id"]).await;

    let (to, on) = (Member::client("bi"), test.table("n.t").await);
    test.change(vec![RuleChange::Revoke { to, on, future: None, privileges: Privilege::Maintain.into() }]).await;
    let claim = json!({"engine": "spark", "worker": "w"});
    let (_, _, why) = test.app.refused(Method::POST, "/api/v1/jobs/claim", Some(claim.clone())).await;
    assert!(why.contains("bi asked for this job and has MAINTAIN on the table no more"), "{why}");
    let path = format!("/api/v1/jobs/{}", accepted["job-id"].as_str().expect("an id"));
    let job = test.app.ok(Method::GET, &path, None).await;
    assert_eq!((&job["state"], &job["error"]), (&json!("failed"), &json!(why)));
    let (status, ..) = test.app.send_raw(Method::POST, "/api/v1/jobs/claim", &[], Some(claim)).await;
    assert_eq!(status.as_u16(), 204, "it is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_few_tables_gets_the_newest_of_their_jobs_and_who_reads_none_gets_none() {
    let test = AccessTest::start(AccessMode::On).await;
    test.create_namespace("n").await;
    let mut started = Vec::new();
    for table in ["t", "u", "v", "t", "u"] {
        if started.len() < 3 {
            test.create_table("n", table).await;
        }
        let accepted = test.app.ok(Method::POST, &EXPIRE.replace("/t/", &format!("/{table}/")), Some(json!({}))).await;
        let id = accepted["job-id"].as_str().expect("an id").to_owned();
        test.app.wait_for_job(&id).await;
        started.push(id);
    }
    let bi = test.client("bi").await;
    let ids = async |limit: usize| -> Vec<String> {
        let (_, text) = test.send(&bi, Method::GET, &format!("/api/v1/jobs?limit={limit}"), None).await;
        let jobs: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        jobs.iter().map(|job| job["id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(ids(10).await, Vec::<String>::new());
    for table in ["n.t", "n.u"] {
        test.grant("bi", test.table(table).await, Privilege::ReadMetadata.into()).await;
    }
    let newest_first = [4, 3, 1, 0].map(|at: usize| started[at].clone());
    assert_eq!(ids(10).await, newest_first);
    assert_eq!(ids(3).await, newest_first[..3]);
    test.grant("bi", test.warehouse(), Privilege::ReadMetadata.into()).await;
    assert_eq!(ids(10).await.len(), 5);
}

/// The work of a job is the size of files, in which a row filter may hide all rows.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_restricted_is_not_told_how_far_a_job_is() {
    let test = AccessTest::start(AccessMode::On).await;
    TestTable::six_files(&test.app).await;
    let set =
        json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {"esker.compact.spark-over": "1B"}}]});
    test.app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(set)).await;
    let accepted = test.app.ok(Method::POST, &EXPIRE.replace("expire", "compact"), Some(json!({}))).await;
    wait_for_hand_over(&test.app, &accepted["job-id"]).await;
    test.app.ok(Method::POST, "/api/v1/jobs/claim", Some(json!({"engine": "spark", "worker": "w"}))).await;
    let job = format!("/api/v1/jobs/{}", accepted["job-id"].as_str().expect("an id"));
    let renewal = json!({"worker": "w", "done": 3, "total": 7});
    test.app.ok(Method::POST, &format!("{job}/renew"), Some(renewal)).await;

    let reader = test.client("reader").await;
    let may = PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata, Privilege::ReadData]);
    test.grant("reader", test.table("n.t").await, may).await;
    let progress = async || -> Value {
        let (_, text) = test.send(&reader, Method::GET, &job, None).await;
        serde_json::from_str::<Value>(&text).expect("JSON")["progress"].clone()
    };
    assert_eq!(progress().await, json!([3, 7]));
    test.change(vec![filter("f1", test.table_id("n.t").await, &Member::client("reader"), below(2))]).await;
    assert_eq!(progress().await, json!([0, 0]));
}

/// A key of Esker's own is known to everybody: `undo/` with the id of a job. Whoever took it would keep that job from being undone.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_job_is_its_askers_own_and_none_of_eskers() {
    let test = AccessTest::start(AccessMode::On).await;
    TestTable::six_files(&test.app).await;
    let compacted = test.app.job("compact", json!({})).await["id"].as_str().expect("an id").to_owned();
    test.create_namespace("own").await;
    test.create_table("own", "mine").await;
    let thief = test.client("thief").await;
    let may = PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata, Privilege::Maintain]);
    test.grant("thief", test.table("own.mine").await, may).await;
    let mine = EXPIRE.replace("/n/tables/t/", "/own/tables/mine/");
    let start = async |token: &str, path: &str, key: &str| -> String {
        let header = [("idempotency-key", key)];
        let (status, _, text) = test.app.send_as(token, Method::POST, path, &header, Some(json!({}))).await;
        assert_eq!(status, 202, "{text}");
        let accepted: Value = serde_json::from_str(&text).expect("JSON");
        accepted["job-id"].as_str().expect("an id").to_owned()
    };
    let taken = start(&thief, &mine, &format!("undo/{compacted}")).await;
    assert_eq!(start(&thief, &mine, &format!("undo/{compacted}")).await, taken, "it is a key as any other");
    let job = format!("/api/v1/jobs/{compacted}");
    assert_eq!(test.app.ok(Method::GET, &job, None).await["undone_by"], Value::Null);
    let undo = format!("/api/v1/warehouses/default/jobs/{compacted}/undo");
    test.app.ok(Method::POST, &undo, None).await;
    assert!(test.app.ok(Method::GET, &job, None).await["undone_by"].is_string());

    let (own, others) = (start(TOKEN, EXPIRE, "nightly").await, start(&thief, &mine, "nightly").await);
    assert_ne!(own, others, "a key of another principal is another key");
    assert_eq!(start(TOKEN, EXPIRE, "nightly").await, own);
}

/// A manifest can be replaced in the store after its commit. Here an administrator commits what a forged one would name.
#[tokio::test(flavor = "multi_thread")]
async fn no_job_copies_rows_of_another_table_or_tells_of_them() {
    let test = AccessTest::start(AccessMode::On).await;
    let victim = TestTable::create(&test.app, "victim", 2, false, json!({})).await;
    victim.append(&[(1, "x".to_owned(), 0, None), (2, "y".to_owned(), 0, None)]).await;
    let mine = TestTable::create(&test.app, "mine", 2, false, json!({})).await;
    for id in [3, 4] {
        mine.append(&[(id, "z".to_owned(), 0, None)]).await;
    }
    let forged = mine.prepare_add(victim.data_files().await, []).await.body().clone();
    test.app.ok(Method::POST, &mine.path(), Some(forged)).await;
    let theirs = victim.data_paths().await.remove(0);
    let words = "it lies in a place of another table";

    let all = json!({"rewrite-all": true, "min-input-files": 1});
    let job = mine.compact(all.clone()).await;
    assert_eq!((&job["state"], &job["outcome"]["files_in"]), (&json!("succeeded"), &json!(2)), "{job}");
    let left = &job["plan"]["left_alone"];
    assert_eq!(left[0]["files"], 1, "{job}");
    assert!(left[0]["reason"].as_str().is_some_and(|reason| reason.contains("in a place of another table")), "{job}");
    assert!(mine.data_paths().await.contains(&theirs), "it stays where it was");
    assert_eq!(mine.ids().await, Ok(vec![1, 2, 3, 4]), "an administrator may read both tables");

    let job = mine.run_job("statistics", json!({})).await;
    let error = job["error"].as_str().unwrap_or_default();
    assert!(job["state"] == "failed" && error.contains(words) && error.contains(&theirs), "{job}");

    for path in ["erase", "erase?dry-run=true"] {
        let (status, _, error) =
            test.app.refused(Method::POST, &mine.management_path(path), Some(json!({"where": "id = 1"}))).await;
        assert!(status == 403 && error.contains(words) && error.contains(&theirs), "{path}: {status} {error}");
    }

    let job = mine.run_job("check", json!({"files": true})).await;
    let notes = job["outcome"]["notes"].to_string();
    assert!(job["state"] == "succeeded" && notes.contains("1 file: in a place of another table"), "{job}");
    assert_eq!(job["outcome"]["rows"], 2, "of the table's own files");

    // Where nothing is enforced, nothing is left alone.
    test.change(vec![RuleChange::SetMode { mode: AccessMode::Report }]).await;
    let preview = format!("{}?dry-run=true", mine.management_path("compact"));
    let plan = test.app.ok(Method::POST, &preview, Some(all)).await;
    assert_eq!((&plan["left_alone"], &plan["groups"][0]["files"][1]["records"].is_u64()), (&json!([]), &true), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_job_copies_the_bounds_in_manifests_of_another_table() {
    let test = AccessTest::start(AccessMode::On).await;
    let victim = TestTable::create(&test.app, "victim", 2, false, json!({})).await;
    for id in [1, 2] {
        victim.append(&[(id, "x".to_owned(), 0, None)]).await;
    }
    let mine = TestTable::create(&test.app, "mine", 2, false, json!({})).await;
    let forged = mine.prepare_manifests_of(&victim).await.body().clone();
    test.app.ok(Method::POST, &mine.path(), Some(forged)).await;
    let plan = async |of: &TestTable<'_>| {
        let path = format!("{}?dry-run=true", of.management_path("manifests"));
        test.app.ok(Method::POST, &path, Some(json!({"rewrite-all": true}))).await
    };
    assert_eq!(plan(&victim).await["rewrite"].as_array().map(Vec::len), Some(2), "its own are rewritten");
    let of_mine = plan(&mine).await;
    assert_eq!((&of_mine["manifests"], &of_mine["rewrite"]), (&json!(2), &json!([])), "{of_mine}");
    let why = of_mine["nothing_to_do"].as_str().unwrap_or_default();
    assert!(why.contains("in places of other tables"), "{of_mine}");
}
