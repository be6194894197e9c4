//! Commits to a table that several servers commit to: they go to the server that holds the lease of the table.
//!
//! Servers share a database in PostgreSQL. A test gives the lease to one of them, so that nothing depends on who loses which swap;
//! one test lets them find a sequencer by themselves.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use esker::Config;
use esker::config::CommitConfig;
use esker_access::{AccessMode, Privilege, PrivilegeSet};
use esker_catalog::{Actor, CatalogError, ForwardCounts, Proposal};
use esker_format::TableUpdate;
use esker_state::{CommitLease, StateError};
use esker_tests::{AccessTest, TestApp, TestTable, on_postgres};
use esker_types::TableId;
use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

use crate::failover::database_of;
use crate::kills::{Victim, beside_with};
use crate::recovery::{metadata_location, set};
use crate::turns::append;

const TABLE: &str = "/v1/default/namespaces/n/tables/t";

/// The time after which a test gives up waiting for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lets a server listen for others.
fn listen(config: &mut Config) {
    config.server.peer_listen = Some(([127, 0, 0, 1], 0).into());
}

/// Returns the id of the table `n.t`.
async fn id_of(app: &TestApp) -> TableId {
    app.catalog().table(&"n.t".parse().expect("a name")).await.expect("a table").id
}

/// Returns the numbers of commits that a server sent and got.
fn counts(app: &TestApp) -> ForwardCounts {
    app.catalog().forward_counts().expect("it listens for others")
}

/// Starts two servers that listen for each other, with the table `n.t`, whose lease the first one holds and the second one knows.
async fn holder_and_other() -> (TestApp, TestApp) {
    let holder = TestApp::start_with(listen).await;
    holder.table().await;
    let other = beside_with(holder.dir.path(), listen).await;
    share_lease(&holder, &other).await;
    (holder, other)
}

/// Starts two servers like [`holder_and_other`], with turns of the default length.
async fn with_turns() -> (TestApp, TestApp) {
    let change = |config: &mut Config| {
        listen(config);
        config.commit = CommitConfig::default();
    };
    let holder = TestApp::start_with(change).await;
    holder.table().await;
    let other = beside_with(holder.dir.path(), change).await;
    share_lease(&holder, &other).await;
    (holder, other)
}

/// Gives the lease of the table `n.t` to one server, and lets another one know.
async fn share_lease(holder: &TestApp, other: &TestApp) {
    let id = id_of(holder).await;
    holder.catalog().seek_lease(id).await;
    other.catalog().seek_lease(id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_at_another_server_is_made_by_the_holder_and_answered_as_if_it_was_made_there() {
    if !on_postgres() {
        return; // with SQLite only one server can use a data directory
    }
    let (holder, other) = holder_and_other().await;
    let writer = TestTable::simple(&other);
    let (first, late) = (writer.prepare_append(0..1).await, writer.prepare_append(1..2).await);
    let answer = writer.commit(&first).await;
    assert_eq!(answer["metadata-location"], metadata_location(&holder).await);
    assert_eq!(answer["metadata"]["current-snapshot-id"], first.body()["updates"][0]["snapshot"]["snapshot-id"]);
    assert_eq!((counts(&other).committed, counts(&holder).received), (1, 1));

    // The holder's refusal has the status, the type and the text that the server's own would have.
    let (status, kind, text) = other.refused(Method::POST, TABLE, Some(late.body().clone())).await;
    let own = holder.refused(Method::POST, TABLE, Some(late.body().clone())).await;
    assert_eq!((status, &kind, &text), (409, &own.1, &own.2));
    assert_eq!(counts(&other), ForwardCounts { committed: 1, refused: 1, ..ForwardCounts::default() });

    // What the holder's own clients commit does not go anywhere.
    TestTable::simple(&holder).append_ids(2..3).await;
    assert_eq!(counts(&holder), ForwardCounts { received: 2, ..ForwardCounts::default() });
    assert_eq!(TestTable::simple(&other).ids().await.expect("ids"), [0, 2]);
    let events = holder.ok(Method::GET, "/api/v1/events?limit=1000", None).await;
    let updates: Vec<&Value> =
        events["events"].as_array().expect("events").iter().filter(|event| event["type"] == "table.updated").collect();
    assert!(updates.len() == 2 && updates.iter().all(|event| event["principal"] == "admin"), "{updates:?}");
    let metrics = other.ok(Method::GET, "/metrics", None).await;
    let line = r#"esker_commits_forwarded_total{outcome="committed",warehouse="default"} 1"#;
    assert!(metrics.as_str().expect("text").contains(line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_is_answered_from_its_receipt_at_every_server() {
    if !on_postgres() {
        return;
    }
    let (holder, other) = holder_and_other().await;
    let key = [("idempotency-key", "01890a5d-ac96-774b-bcce-b302099a8057")];
    let mut locations = Vec::new();
    for server in [&other, &other, &holder] {
        let (status, _, text) = server.send_raw(Method::POST, TABLE, &key, Some(set("a"))).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        locations.push(answer["metadata-location"].clone());
    }
    assert!(locations.iter().all(|location| *location == locations[0]), "made once: {locations:?}");
    assert_eq!((counts(&other).committed, counts(&holder).received), (1, 1));
}

/// The holder gives turns to the clients of all servers, so each makes its commit within the default retries.
#[tokio::test(flavor = "multi_thread")]
async fn of_clients_that_append_at_two_servers_with_default_retries_none_fails() {
    if !on_postgres() {
        return;
    }
    let (holder, other) = with_turns().await;
    let servers = [&holder, &other];
    let client = |i: i64| async move {
        let server = servers[usize::from(i % 2 == 1)];
        append(server, &TestTable::simple(server), i..i + 1).await
    };
    assert_eq!(join_all((0..8).map(client)).await, [true; 8]);
    assert_eq!(TestTable::simple(&other).ids().await.expect("ids"), (0..8).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_all_servers_land_beside_a_server_that_knows_no_lease() {
    if !on_postgres() {
        return;
    }
    let (holder, other) = holder_and_other().await;
    // As a server of the release before does, it neither listens nor looks for a lease.
    let before = beside_with(holder.dir.path(), |_| {}).await;
    let servers = [&holder, &other, &before];
    let commit = |n: usize| {
        let server = servers[n % servers.len()];
        async move {
            let began = Instant::now();
            // Who knows no lease competes, and may lose ten times in a row.
            loop {
                let (status, body) = server.send(Method::POST, TABLE, Some(set(&format!("k{n}")))).await;
                match status.as_u16() {
                    200 => return,
                    409 | 429 => assert!(began.elapsed() < PATIENCE, "{body}"),
                    _ => panic!("{status} {body}"),
                }
            }
        }
    };
    join_all((0..30).map(commit)).await;
    let table = holder.ok(Method::GET, TABLE, None).await;
    let properties = table["metadata"]["properties"].as_object().expect("properties");
    assert!((0..30).all(|n| properties.contains_key(&format!("k{n}"))), "{properties:?}");
    assert!(counts(&other).committed > 0, "{:?}", counts(&other));
    assert_eq!(before.catalog().forward_counts(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_lose_swaps_find_a_sequencer_by_themselves() {
    if !on_postgres() {
        return;
    }
    let first = TestApp::start_with(listen).await;
    first.table().await;
    let second = beside_with(first.dir.path(), listen).await;
    let servers = [&first, &second];
    let began = Instant::now();
    let is_found = || servers.iter().any(|server| counts(server).committed > 0);
    let client = |n: usize| async move {
        let server = servers[n % 2];
        // A value that is there already would change nothing.
        for number in 0.. {
            if is_found() {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "no commit was forwarded");
            let (status, body) = server.send(Method::POST, TABLE, Some(set(&format!("k{n}-{number}")))).await;
            assert!(matches!(status.as_u16(), 200 | 409 | 429), "{status} {body}");
        }
    };
    join_all((0..8).map(client)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_port_for_servers_there_is_no_lease() {
    let app = TestApp::start().await;
    app.table().await;
    let id = id_of(&app).await;
    app.catalog().seek_lease(id).await;
    assert_eq!((app.catalog().forward_counts(), app.server.peers), (None, None));
    let mut database = database_of(app.dir.path()).await;
    let leases: i64 = sqlx::query_scalar("SELECT count(*) FROM commit_lease").fetch_one(&mut database).await.expect("counted");
    assert_eq!(leases, 0);
}

/// The receiver decides by its own rules: the sender only looks whether the caller may do anything with the table.
#[tokio::test(flavor = "multi_thread")]
async fn the_holder_checks_the_rights_of_the_caller() {
    if !on_postgres() {
        return;
    }
    let (holder, other) = holder_and_other().await;
    holder.server.access().bootstrap("admin", Some(AccessMode::On)).await.expect("an administrator");
    let test = AccessTest { app: holder };
    let (etl, reader) = (test.client("etl").await, test.client("reader").await);
    let table = test.table("n.t").await;
    test.grant("reader", table.clone(), PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata])).await;
    let writes = PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata, Privilege::SetProperties]);
    test.grant("etl", table, writes).await;
    let send = async |token: &str, key: &str| {
        let (status, _, text) = other.send_as(token, Method::POST, TABLE, &[], Some(set(key))).await;
        (status.as_u16(), text)
    };
    let (status, text) = send(&etl, "by-etl").await;
    assert_eq!(status, 200, "{text}");
    let (status, text) = send(&reader, "by-reader").await;
    assert!(status == 403 && text.contains("SET_PROPERTIES"), "{status} {text}");
    assert_eq!(counts(&other), ForwardCounts { committed: 1, refused: 1, ..ForwardCounts::default() });
    let table = test.app.ok(Method::GET, TABLE, None).await;
    let properties = &table["metadata"]["properties"];
    assert_eq!((&properties["by-etl"], &properties["by-reader"]), (&json!("x"), &Value::Null));
    let events = test.app.ok(Method::GET, "/api/v1/events?limit=1000", None).await;
    let by_etl = events["events"].as_array().expect("events").iter().find(|event| event["type"] == "table.updated");
    assert_eq!(by_etl.expect("an event")["principal"], "etl");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_term_publishes_nothing_and_its_sender_commits_by_itself() {
    if !on_postgres() {
        return;
    }
    let (holder, other) = holder_and_other().await;
    let id = id_of(&holder).await;
    let take = async |server: &TestApp, over: Option<i64>| -> CommitLease {
        server.catalog().state().tables().take_lease(id, "127.0.0.1:1", over).await.expect("answered")
    };
    let earlier = take(&holder, None).await;
    assert_eq!(earlier.server, holder.catalog().state().servers().own_id());
    let later = take(&other, Some(earlier.term)).await;
    assert_eq!((later.server, later.term), (other.catalog().state().servers().own_id(), earlier.term + 1));

    let before = metadata_location(&holder).await;
    let updates = vec![TableUpdate::SetProperties { updates: [("late".to_owned(), "x".to_owned())].into() }];
    let proposal = Proposal { updates, actor: Actor::internal("test"), ..Proposal::default() };
    let refused = holder.catalog().commit_forwarded(id, earlier.term, proposal.clone()).await.expect_err("its term has ended");
    let is_ended = matches!(&refused, CatalogError::State(StateError::LeaseEnded { term, .. }) if *term == earlier.term);
    assert!(is_ended, "{refused}");
    assert_eq!(metadata_location(&holder).await, before, "nothing was published");
    // The server that holds the lease now publishes it in its term, which is no other server's.
    holder.catalog().commit_forwarded(id, later.term, proposal.clone()).await.expect_err("another server's term");
    other.catalog().commit_forwarded(id, later.term, proposal).await.expect("published");

    // A server that still takes the first one for the holder sends its commit there, and makes it itself.
    take(&holder, Some(later.term)).await;
    let (status, body) = other.send(Method::POST, TABLE, Some(set("a"))).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(counts(&other).unanswered, 1, "{:?}", counts(&other));
    assert_eq!(body["metadata"]["properties"]["a"], "x");
}

/// Returns a free port.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address").port()
}

/// Gives the lease of a table to the other live server on the database, which listens at an address.
async fn give_lease(app: &TestApp, table: TableId, address: &str) {
    let mut database = database_of(app.dir.path()).await;
    let give = "INSERT INTO commit_lease (table_id, server, address, term, until_ms) SELECT $1, id, $2, 1, $3 FROM instance
                WHERE id <> $4";
    let own = app.catalog().state().servers().own_id().to_string();
    let given = sqlx::query(give).bind(table.to_string()).bind(address).bind(i64::MAX).bind(own).execute(&mut database).await;
    assert_eq!(given.expect("given").rows_affected(), 1);
}

/// Starts a process beside a server, with the data directory `own`, which holds the lease of the table `n.t`. It stops at a failpoint.
async fn holder_beside(app: &TestApp, own: &Path, failpoint: &str) -> Victim {
    let address = format!("127.0.0.1:{}", free_port());
    let settings = [("ESKER__SERVER__PEER_LISTEN", address.clone()), ("ESKER__DEBUG__FAILPOINT", failpoint.to_owned())];
    let holder = Victim::spawn(own, app.dir.path(), &settings);
    holder.wait_until_ready().await;
    let id = id_of(app).await;
    give_lease(app, id, &address).await;
    app.catalog().seek_lease(id).await;
    holder
}

/// The holder is a process of its own, which dies by `kill -9` before or after it has swapped the pointer.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_goes_on_at_once_when_its_holder_is_killed_and_no_outcome_is_guessed() {
    if !on_postgres() {
        return;
    }
    for point in ["commit-before-swap", "commit-after-swap"] {
        let (app, own) = (TestApp::start_with(listen).await, tempfile::tempdir().expect("a directory"));
        app.table().await;
        let (victim, id) = (holder_beside(&app, own.path(), point).await, id_of(&app).await);

        let writer = TestTable::simple(&app);
        let append = writer.prepare_append(0..5).await;
        let ends = async {
            victim.wait_for_point().await;
            drop(victim);
        };
        let (answer, ()) = tokio::join!(writer.commit(&append), ends);
        let snapshots = answer["metadata"]["snapshots"].as_array().expect("snapshots");
        assert_eq!(snapshots.len(), 1, "{point}: made once: {answer}");
        assert_eq!(counts(&app), ForwardCounts { unanswered: 1, ..ForwardCounts::default() }, "{point}");
        // The server is the holder now, though the others still count the dead one as alive.
        writer.append_ids(5..10).await;
        assert_eq!(writer.ids().await.expect("ids"), (0..10).collect::<Vec<_>>(), "{point}");
        let lease = app.catalog().state().tables().take_lease(id, "", None).await.expect("answered");
        assert_eq!((lease.server, lease.term), (app.catalog().state().servers().own_id(), 2), "{point}");
    }
}

/// The kernel takes the connection to a process that hangs, so nothing but its silence tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_goes_on_when_its_holder_hangs() {
    if !on_postgres() {
        return;
    }
    let (app, own) = (TestApp::start_with(listen).await, tempfile::tempdir().expect("a directory"));
    app.table().await;
    let holder = holder_beside(&app, own.path(), "").await;
    holder.signal("-STOP");
    let writer = TestTable::simple(&app);
    for ids in [0..5, 5..10] {
        writer.append_ids(ids).await;
    }
    assert_eq!(writer.ids().await.expect("ids"), (0..10).collect::<Vec<_>>());
    assert_eq!(counts(&app), ForwardCounts { unanswered: 1, ..ForwardCounts::default() }, "nobody waits for it twice");
}

/// A proxy in front of a server's port for others, which records what comes.
#[derive(Debug, Clone, Default)]
struct Recorder(Arc<Mutex<Vec<u8>>>);

impl Recorder {
    /// Starts the proxy on a free port, in front of the port `to`. Returns its address.
    async fn start(&self, to: u16) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let (address, recorder) = (listener.local_addr().expect("an address").to_string(), self.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(recorder.clone().pass_on(client, to));
            }
        });
        address
    }

    /// Passes a connection on, and records what its client sends.
    async fn pass_on(self, client: TcpStream, to: u16) {
        let server = TcpStream::connect(("127.0.0.1", to)).await.expect("connected");
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), server.into_split());
        let requests = async move {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
                self.0.lock().expect("a lock").extend_from_slice(&buffer[..n]);
                to_server.write_all(&buffer[..n]).await.expect("passed on");
            }
        };
        let answers = async move { drop(copy(&mut from_server, &mut to_client).await) };
        tokio::join!(requests, answers);
    }
}

/// Sends bytes to a port. Returns the beginning of the answer.
async fn send_bytes(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
    stream.write_all(bytes).await.expect("sent");
    let mut buffer = [0; 64];
    let n = stream.read(&mut buffer).await.expect("an answer");
    String::from_utf8_lossy(&buffer[..n]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_repeated_or_made_by_others_are_refused() {
    if !on_postgres() {
        return;
    }
    let (recorder, port) = (Recorder::default(), free_port());
    let address = recorder.start(port).await;
    let holder = TestApp::start_with(|config| {
        config.server.peer_listen = Some(([127, 0, 0, 1], port).into());
        config.server.peer_address = Some(address);
    })
    .await;
    holder.table().await;
    let other = beside_with(holder.dir.path(), listen).await;
    share_lease(&holder, &other).await;
    // Without a key of its own, a commit that is made twice would be two commits.
    other.ok(Method::POST, TABLE, Some(set("wanted"))).await;
    assert_eq!(counts(&other).committed, 1);
    let made = metadata_location(&holder).await;

    let recorded = recorder.0.lock().expect("a lock").clone();
    let text = String::from_utf8_lossy(&recorded);
    assert!(text.starts_with("POST /commit") && !text.contains("wanted") && !text.contains("admin"), "{text}");
    assert!(send_bytes(port, &recorded).await.starts_with("HTTP/1.1 403"), "it came before");
    // The other server is no holder, so the message is for another process.
    let elsewhere = other.server.peers.expect("it listens").port();
    assert!(send_bytes(elsewhere, &recorded).await.starts_with("HTTP/1.1 403"), "it is for another process");
    let mut changed = recorded.clone();
    *changed.last_mut().expect("a body") ^= 1;
    assert!(send_bytes(port, &changed).await.starts_with("HTTP/1.1 403"), "nobody changes it");

    let client = reqwest::Client::new();
    let forged = client.post(format!("http://127.0.0.1:{port}/commit")).json(&set("forged")).send().await.expect("an answer");
    assert_eq!(forged.status(), StatusCode::FORBIDDEN);
    assert_eq!(forged.text().await.expect("a body"), "", "who has no key learns nothing");
    // Nothing else is served there, with a token or without.
    for path in ["/v1/config", "/healthz", "/metrics", "/commit"] {
        let answer = client.get(format!("http://127.0.0.1:{port}{path}")).bearer_auth(esker_tests::TOKEN).send().await;
        assert!(matches!(answer.expect("an answer").status().as_u16(), 404 | 405), "{path}");
    }
    assert_eq!(metadata_location(&holder).await, made, "nothing was committed");
    assert_eq!(counts(&holder).received, 1);
}
