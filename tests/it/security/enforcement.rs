//! Access control: hidden names, lists, transactions, renames, appends, owners, future grants, and the mode report.

use esker_access::{AccessMode, Bundle, Privilege, PrivilegeSet, Securable, SecurableKind};
use esker_tests::{AccessTest, TestApp, TestTable};
use esker_types::NamespaceName;
use reqwest::Method;
use serde_json::{Value, json};

use super::matrix::new_view;

const NAMESPACE: &str = "/v1/default/namespaces/n";
const TABLES: &str = "/v1/default/namespaces/n/tables";
const RENAME: &str = "/v1/default/tables/rename";
const TRANSACTION: &str = "/v1/default/transactions/commit";

/// The management path of a table of the namespace `n`.
fn managed(name: &str, what: &str) -> String {
    format!("/api/v1/warehouses/default/namespaces/n/tables/{name}/{what}")
}

fn table(name: &str) -> String {
    format!("{TABLES}/{name}")
}

fn set_property() -> Value {
    json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {"a": "b"}}]})
}

fn rename(from: (&str, &str), to: (&str, &str)) -> Value {
    let name = |(namespace, name): (&str, &str)| json!({"namespace": [namespace], "name": name});
    json!({"source": name(from), "destination": name(to)})
}

/// A change of a property of each named table of the namespace `n`, in one transaction.
fn transaction(names: &[&str]) -> Value {
    let change = |name: &&str| {
        let mut change = set_property();
        change["identifier"] = json!({"namespace": ["n"], "name": name});
        change
    };
    json!({"table-changes": names.iter().map(change).collect::<Vec<_>>()})
}

/// Starts a server with the mode on, and a namespace `n`.
async fn started() -> AccessTest {
    let test = AccessTest::start(AccessMode::On).await;
    test.create_namespace("n").await;
    test
}

/// Returns the names in a list of tables.
fn names(list: &str) -> Vec<String> {
    let list: Value = serde_json::from_str(list).expect("JSON");
    let identifiers = list["identifiers"].as_array().unwrap_or_else(|| panic!("{list}")).iter();
    identifiers.map(|identifier| identifier["name"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_table_is_answered_as_one_that_does_not_exist() {
    let test = started().await;
    let bi = test.client("bi").await;
    let drop = [(Method::DELETE, table("t"), None), (Method::DELETE, format!("{}?purgeRequested=true", table("t")), None)];
    let reads =
        ["health", "history", "policy", "refs", "quarantine", "reports"].map(|what| (Method::GET, managed("t", what), None));
    let changes = [
        (Method::GET, table("t"), None),
        (Method::HEAD, table("t"), None),
        (Method::POST, table("t"), Some(set_property())),
        (Method::POST, format!("{}/plan", table("t")), Some(json!({}))),
        (Method::GET, format!("{}/credentials", table("t")), None),
        (Method::POST, format!("{}/metrics", table("t")), Some(json!({"report-type": "other"}))),
        (Method::POST, format!("{}/unregister", table("t")), None),
        (Method::POST, RENAME.to_owned(), Some(rename(("n", "t"), ("n", "u")))),
        (Method::POST, TRANSACTION.to_owned(), Some(transaction(&["t"]))),
        (Method::POST, managed("t", "claim"), None),
        (Method::POST, managed("t", "expire"), None),
        (Method::POST, managed("t", "refs"), Some(json!({"action": "create-branch", "name": "b"}))),
        (Method::PUT, managed("t", "protection"), Some(json!({"protected": true}))),
        (Method::GET, NAMESPACE.to_owned(), None),
        (Method::GET, TABLES.to_owned(), None),
    ];
    let requests: Vec<_> = changes.into_iter().chain(reads).chain(drop).collect();
    let mut missing = Vec::new();
    for (method, path, body) in &requests {
        // A namespace that exists and is hidden is compared with one that does not exist below.
        missing.push(test.send(&bi, method.clone(), path, body.clone()).await);
    }
    test.create_table("n", "t").await;
    for ((method, path, body), expected) in requests.iter().zip(missing) {
        assert!(expected.0 >= 400, "{method} {path}: {expected:?}");
        assert_eq!(test.send(&bi, method.clone(), path, body.clone()).await, expected, "{method} {path}");
    }
    let absent = test.send(&bi, Method::GET, "/v1/default/namespaces/m/tables", None).await;
    let hidden = test.send(&bi, Method::GET, TABLES, None).await;
    assert_eq!((absent.0, absent.1.replace(": m", ": n")), hidden);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_warehouse_is_answered_as_one_that_does_not_exist() {
    let test = started().await;
    let nobody = test.token("nobody").await;
    for path in ["/v1/default/namespaces", "/v1/default/namespaces/n", "/api/v1/warehouses/default/dropped"] {
        let hidden = test.send(&nobody, Method::GET, path, None).await;
        let absent = test.send(&nobody, Method::GET, &path.replace("default", "defauln"), None).await;
        assert_eq!((hidden.0, hidden.1.replace("default", "defauln")), absent, "{path}");
    }
    let config = test.send(&nobody, Method::GET, "/v1/config?warehouse=default", None).await;
    let absent = test.send(&nobody, Method::GET, "/v1/config?warehouse=defauln", None).await;
    assert_eq!((config.0, config.1.replace("default", "defauln")), absent);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_full_however_many_tables_are_hidden_between() {
    let test = started().await;
    for n in 0..12 {
        test.create_table("n", &format!("t{n:02}")).await;
    }
    let bi = test.client("bi").await;
    for n in [1, 5, 6, 11] {
        let on = test.table(&format!("n.t{n:02}")).await;
        test.grant("bi", on, Privilege::List.into()).await;
    }
    let (status, all) = test.send(&bi, Method::GET, TABLES, None).await;
    assert_eq!((status, names(&all)), (200, ["t01", "t05", "t06", "t11"].map(str::to_owned).to_vec()));
    let (_, first) = test.send(&bi, Method::GET, &format!("{TABLES}?pageToken=&pageSize=3"), None).await;
    assert_eq!(names(&first), ["t01", "t05", "t06"]);
    let first: Value = serde_json::from_str(&first).expect("JSON");
    let token = first["next-page-token"].as_str().expect("another page");
    let (_, last) = test.send(&bi, Method::GET, &format!("{TABLES}?pageToken={token}&pageSize=3"), None).await;
    assert_eq!(names(&last), ["t11"]);
    assert!(last.contains("\"next-page-token\":null"), "{last}");
    // Behind the last one there is an empty page, because the namespace has tables that are seen.
    let behind = "dDEy";
    let (status, empty) = test.send(&bi, Method::GET, &format!("{TABLES}?pageToken={behind}&pageSize=3"), None).await;
    assert_eq!((status, names(&empty)), (200, Vec::new()));
    let (_, namespaces) = test.send(&bi, Method::GET, "/v1/default/namespaces", None).await;
    assert!(namespaces.contains("\"namespaces\":[[\"n\"]]"), "something in it is seen: {namespaces}");
    let (_, fleet) = test.send(&bi, Method::GET, "/api/v1/tables", None).await;
    assert_eq!(fleet, "[]", "seen without READ_METADATA");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_can_be_loaded_if_something_in_it_is_seen() {
    let test = started().await;
    test.create_table("n", "t").await;
    let parent = "/v1/default/namespaces/p";
    for levels in [json!(["p"]), json!(["p", "q"])] {
        test.app.ok(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": levels}))).await;
    }
    let bi = test.client("bi").await;
    let load = async |path: &str| test.send(&bi, Method::GET, path, None).await;
    let exists = async |path: &str| test.status(&bi, Method::HEAD, path, None).await;
    let absent = load("/v1/default/namespaces/m").await;
    assert_eq!((absent.0, absent.1.replace(": m", ": n")), load(NAMESPACE).await);
    assert_eq!((exists(NAMESPACE).await, exists(parent).await), (404, 404));

    test.grant("bi", test.table("n.t").await, Privilege::List.into()).await;
    let (status, body) = load(NAMESPACE).await;
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, body), (200, json!({"namespace": ["n"], "properties": {}})));
    assert_eq!((exists(NAMESPACE).await, exists(parent).await), (204, 404));
    test.grant("bi", test.namespace("n"), Privilege::ReadMetadata.into()).await;
    assert!(load(NAMESPACE).await.1.contains("\"location\""), "who reads its metadata gets the properties");

    let namespace = NamespaceName::new(["p", "q"].map(str::to_owned).to_vec()).expect("a name");
    let inner = Securable::Namespace { warehouse: test.app.catalog().warehouse().id, namespace };
    test.grant("bi", inner, Privilege::List.into()).await;
    assert_eq!((load(parent).await.0, exists(parent).await), (200, 204), "a namespace in it is seen");
}

/// Engines and people find a table by going from list to list.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_in_lists_if_something_in_it_is_seen_at_any_depth() {
    let test = started().await;
    for levels in [json!(["p", "q", "r"]), json!(["p", "other"]), json!(["f"]), json!(["z"])] {
        test.app.ok(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": levels}))).await;
    }
    for namespace in ["n", "p%1Fq%1Fr", "z"] {
        test.create_table(namespace, "t").await;
    }
    let uuid = "9c12d441-03fe-4693-9a96-a0705ddf69c1";
    let function = json!({"function-uuid": uuid, "format-version": 1, "definitions": [{"definition-id": "()"}]});
    test.app.ok(Method::PUT, "/api/v1/warehouses/default/namespaces/f/functions/g", Some(function)).await;
    let bi = test.client("bi").await;
    let list = async |query: &str| {
        let (status, text) = test.send(&bi, Method::GET, &format!("/v1/default/namespaces{query}"), None).await;
        let body: Value = serde_json::from_str(&text).expect("JSON");
        (status, body["namespaces"].clone(), body["next-page-token"].clone())
    };
    let nothing = list("").await;
    assert_eq!((nothing.0, nothing.1), (200, json!([])));
    assert_eq!(list("?parent=p").await.0, 404);

    test.grant("bi", test.table("p.q.r.t").await, Privilege::List.into()).await;
    test.grant("bi", test.table("z.t").await, Privilege::ReadMetadata.into()).await;
    let warehouse = test.app.catalog().warehouse().id;
    let namespace = NamespaceName::new(vec!["f".to_owned()]).expect("a name");
    test.grant("bi", Securable::Function { warehouse, namespace, name: "g".to_owned() }, Privilege::List.into()).await;
    assert_eq!(list("").await.1, json!([["f"], ["p"]]), "a privilege that shows nothing shows no namespace either");
    assert_eq!(list("?parent=p").await.1, json!([["p", "q"]]));
    assert_eq!(list("?parent=p%1Fq").await.1, json!([["p", "q", "r"]]));
    assert_eq!(list("?parent=z").await.0, 404);
    let inner = list("?parent=p%1Fq%1Fr").await;
    assert_eq!((inner.0, inner.1), (200, json!([])), "it is known, and has no namespaces");
    let views = test.status(&bi, Method::GET, "/v1/default/namespaces/p%1Fq%1Fr/views", None).await;
    assert_eq!(views, 200, "it is known, and has no views");
    // Each page has one, although others are hidden between, and so it is behind the last.
    let (_, first, token) = list("?pageToken=&pageSize=1").await;
    assert_eq!(first, json!([["f"]]));
    let token = token.as_str().expect("another page").to_owned();
    let (_, second, end) = list(&format!("?pageToken={token}&pageSize=1")).await;
    assert_eq!((second, end), (json!([["p"]]), Value::Null));

    test.app.ok(Method::DELETE, "/v1/default/namespaces/p%1Fq%1Fr/tables/t", None).await;
    assert_eq!(list("").await.1, json!([["f"]]), "what is gone shows nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_needs_privileges_on_both_sides() {
    let test = started().await;
    test.create_namespace("m").await;
    test.create_table("n", "t").await;
    let etl = test.client("etl").await;
    let (on, list) = (test.table("n.t").await, PrivilegeSet::of(&[Privilege::List, Privilege::Rename]));
    test.grant("etl", on, list).await;
    let body = || Some(rename(("n", "t"), ("m", "t")));
    let hidden = test.send(&etl, Method::POST, RENAME, body()).await;
    let absent = test.send(&etl, Method::POST, RENAME, Some(rename(("n", "t"), ("k", "t")))).await;
    assert_eq!((hidden.0, hidden.1.clone()), (absent.0, absent.1.replace(": k", ": m")));
    test.grant("etl", test.namespace("m"), Privilege::List.into()).await;
    assert_eq!(test.status(&etl, Method::POST, RENAME, body()).await, 403, "CREATE_TABLE is missing");
    test.grant("etl", test.namespace("m"), Privilege::CreateTable.into()).await;
    assert_eq!(test.status(&etl, Method::POST, RENAME, body()).await, 204);
    assert_eq!(test.status(&etl, Method::HEAD, "/v1/default/namespaces/m/tables/t", None).await, 204, "grants follow the id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_gives_its_caller_no_privileges_on_the_table() {
    let test = started().await;
    test.create_namespace("m").await;
    test.create_table("n", "t").await;
    let etl = test.client("etl").await;
    test.grant("etl", test.table("n.t").await, PrivilegeSet::of(&[Privilege::List, Privilege::Rename])).await;
    let read = AccessTest::bundle(Bundle::Select, SecurableKind::Namespace);
    test.grant("etl", test.namespace("m"), read.union(Privilege::CreateTable.into())).await;
    let move_it = async || test.send(&etl, Method::POST, RENAME, Some(rename(("n", "t"), ("m", "t")))).await;
    let (status, text) = move_it().await;
    assert!(status == 403 && text.contains("READ_DATA on table n.t"), "{status} {text}");

    // Neither does a way through the dropped tables.
    let id = test.table_id("n.t").await;
    test.grant("etl", test.namespace("n"), PrivilegeSet::of(&[Privilege::List, Privilege::Undrop])).await;
    test.app.ok(Method::DELETE, &table("t"), None).await;
    let undrop = format!("/api/v1/warehouses/default/dropped/{id}/undrop");
    let (status, text) = test.send(&etl, Method::POST, &undrop, Some(json!({"as": {"namespace": ["m"], "name": "t"}}))).await;
    assert!(status == 403 && text.contains("READ_DATA on table n.t"), "{status} {text}");
    test.app.ok(Method::POST, &undrop, Some(json!({}))).await;

    test.grant("etl", test.table("n.t").await, AccessTest::bundle(Bundle::Select, SecurableKind::Table)).await;
    let (status, text) = move_it().await;
    assert_eq!(status, 204, "it has them already: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thing_in_a_hidden_namespace_is_answered_as_one_in_a_missing_namespace() {
    let test = started().await;
    let bi = test.client("bi").await;
    for kind in ["table", "view", "function"] {
        for route in ["me?on=", "grants?on=", "explain?privileges=LIST&on="] {
            let ask = async |namespace: &str| {
                let path = format!("/api/v1/access/{route}{kind}%20default.{namespace}.x");
                test.send(&bi, Method::GET, &path, None).await
            };
            let ((hidden, of_hidden), (missing, of_missing)) = (ask("n").await, ask("k").await);
            assert_eq!((hidden, of_hidden), (missing, of_missing.replace("k.x", "n.x")), "{route} {kind}");
            assert_eq!(hidden, 404, "{route} {kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_needs_the_privileges_of_all_its_tables_before_anything_is_written() {
    let test = started().await;
    for name in ["a", "b", "c"] {
        test.create_table("n", name).await;
    }
    let etl = test.client("etl").await;
    let alter = PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata, Privilege::SetProperties]);
    test.grant("etl", test.table("n.a").await, alter).await;
    test.grant("etl", test.table("n.b").await, PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata])).await;
    let commit = async |names: &[&str]| test.send(&etl, Method::POST, TRANSACTION, Some(transaction(names))).await;
    let (status, text) = commit(&["a", "b"]).await;
    assert_eq!(status, 403, "{text}");
    assert!(text.contains("SET_PROPERTIES on table n.b"), "{text}");
    // `c` is hidden, `x` does not exist. What is refused on a table that is seen comes first in both cases.
    let (hidden, absent) = (commit(&["c", "a", "b"]).await, commit(&["x", "a", "b"]).await);
    assert_eq!(hidden, absent);
    let (hidden, absent) = (commit(&["a", "c"]).await, commit(&["a", "x"]).await);
    assert_eq!((hidden.0, hidden.1.replace("n.c", "n.x")), absent);
    let untouched = test.app.ok(Method::GET, &table("a"), None).await;
    assert_eq!(untouched["metadata"]["properties"].get("a"), None, "{untouched}");
    assert_eq!(commit(&["a"]).await.0, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_leaves_files_out_needs_modify() {
    let test = AccessTest::start(AccessMode::On).await;
    let fields = json!([{"id": 1, "name": "id", "required": false, "type": "long"}, {"id": 2, "name": "s", "required": false, "type": "string"}]);
    let written = TestTable::create_with_schema(&test.app, "e", fields.clone(), json!([]), json!({})).await;
    written.append_ids(0..3).await;
    let etl = test.client("etl").await;
    test.grant("etl", test.table("lake.e").await, AccessTest::bundle(Bundle::Insert, SecurableKind::Table)).await;
    let prepared = written.prepare_append(3..6).await;
    let (status, text) = test.send(&etl, Method::POST, &written.path(), Some(prepared.body().clone())).await;
    assert_eq!(status, 200, "a true append: {text}");
    // The second append is moved onto a manifest list that knows nothing of the files before. Its rows are no secret.
    let other = TestTable::create_with_schema(&test.app, "other", fields, json!([]), json!({})).await;
    other.append_ids(0..1).await;
    test.grant("etl", test.table("lake.other").await, Privilege::ReadData.into()).await;
    let foreign = other.metadata().await;
    let list = foreign.current_snapshot().expect("a snapshot").manifest_list.clone().expect("a list");
    let mut forged = written.prepare_append(6..9).await.body().clone();
    let updates = forged["updates"].as_array_mut().expect("updates");
    let added = updates.iter_mut().find(|update| update["action"] == "add-snapshot").expect("a snapshot");
    added["snapshot"]["manifest-list"] = list.into();
    let (status, text) = test.send(&etl, Method::POST, &written.path(), Some(forged)).await;
    assert_eq!(status, 403, "{text}");
    assert!(text.contains("MODIFY"), "{text}");
    assert_eq!(written.metadata().await.snapshots.len(), 2);
}

/// The answer to a commit has the metadata, and a requirement that fails tells what the table has instead.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_tells_nothing_of_the_metadata_to_who_may_not_read_it() {
    let test = started().await;
    test.create_table("n", "t").await;
    test.app.ok(Method::POST, &format!("{NAMESPACE}/views"), Some(new_view("v"))).await;
    let lister = test.client("lister").await;
    let (see, change) = (Privilege::List, Privilege::SetProperties);
    test.grant("lister", test.namespace("n"), PrivilegeSet::of(&[see, change])).await;
    let uuid = json!([{"type": "assert-table-uuid", "uuid": "00000000-0000-0000-0000-000000000000"}]);
    for body in [json!({"requirements": [], "updates": []}), json!({"requirements": uuid, "updates": []}), set_property()] {
        let mut of_transaction = body.clone();
        of_transaction["identifier"] = json!({"namespace": ["n"], "name": "t"});
        for (path, body) in [
            (table("t"), body.clone()),
            (TRANSACTION.to_owned(), json!({"table-changes": [of_transaction]})),
            (format!("{NAMESPACE}/views/v"), json!({"updates": body["updates"]})),
        ] {
            let (status, text) = test.send(&lister, Method::POST, &path, Some(body)).await;
            assert!(status == 403 && text.contains("lacks READ_METADATA on"), "{path}: {status} {text}");
        }
    }
    test.grant("lister", test.namespace("n"), Privilege::ReadMetadata.into()).await;
    assert_eq!(test.status(&lister, Method::POST, &table("t"), Some(set_property())).await, 200);
}

/// Whoever creates a table owns it, and would else move it a moment later to where it could not create it.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_moves_a_table_out_of_its_place_only_with_choose_location() {
    let test = started().await;
    test.create_namespace("secret").await;
    test.create_table("secret", "hidden").await;
    let maker = test.client("maker").await;
    test.grant("maker", test.namespace("n"), Privilege::CreateTable.into()).await;
    let (status, text) = test.send(&maker, Method::POST, TABLES, Some(AccessTest::new_table("t"))).await;
    assert_eq!(status, 200, "{text}");
    let made: Value = serde_json::from_str(&text).expect("JSON");
    let own = made["metadata"]["location"].as_str().expect("a location").to_owned();
    let elsewhere = format!("file://{}/warehouse/elsewhere", test.app.dir.path().display());
    let to = |location: &str| json!([{"action": "set-location", "location": location}]);
    let path = |path: &str| json!([{"action": "set-properties", "updates": {"write.data.path": path}}]);
    let commit = async |updates: Value| {
        let body = json!({"requirements": [], "updates": updates});
        test.send(&maker, Method::POST, &table("t"), Some(body)).await
    };
    for updates in [to(&elsewhere), path(&elsewhere)] {
        let (status, text) = commit(updates.clone()).await;
        assert!(status == 403 && text.contains("lacks CHOOSE_LOCATION on namespace n"), "{status} {text}");
        let change = json!({"identifier": {"namespace": ["n"], "name": "t"}, "requirements": [], "updates": updates});
        let (status, text) = test.send(&maker, Method::POST, TRANSACTION, Some(json!({"table-changes": [change]}))).await;
        assert!(status == 403 && text.contains("lacks CHOOSE_LOCATION on namespace n"), "{status} {text}");
    }
    for updates in [to(&own), path(&format!("{own}/inner"))] {
        let (status, text) = commit(updates).await;
        assert_eq!(status, 200, "{text}");
    }
    test.grant("maker", test.namespace("n"), Privilege::ChooseLocation.into()).await;
    // The place of a table that the caller may not see has no name.
    let (hidden, seen) = (format!("file://{}/warehouse/secret", test.app.dir.path().display()), "secret.hidden");
    let (status, text) = commit(to(&hidden)).await;
    assert!(status == 400 && text.contains("the location of another table") && !text.contains("hidden"), "{status} {text}");
    test.grant("maker", test.table(seen).await, Privilege::List.into()).await;
    let (status, text) = commit(to(&hidden)).await;
    assert!(status == 400 && text.contains(seen), "{status} {text}");
    assert_eq!(commit(to(&elsewhere)).await.0, 200);
}

/// A new table at a location, as Trino creates it.
fn located(name: &str, location: &str) -> Value {
    let mut new = AccessTest::new_table(name);
    new["location"] = json!(location);
    new["properties"] = json!({"commit.retry.num-retries": "4"});
    new
}

/// Checks that an answer refuses a creation because its location is chosen.
fn is_chosen((status, text): &(u16, String)) -> bool {
    *status == 403 && text.contains("lacks CHOOSE_LOCATION on namespace n")
}

/// Trino gives each new table and view a location and a property `commit.retry.…`.
#[tokio::test(flavor = "multi_thread")]
async fn a_location_as_esker_or_trino_gives_it_needs_no_choose_location() {
    let test = started().await;
    let maker = test.client("maker").await;
    let creates = PrivilegeSet::of(&[Privilege::List, Privilege::CreateTable, Privilege::CreateView]);
    test.grant("maker", test.namespace("n"), creates).await;
    let namespace = test.send(&maker, Method::GET, NAMESPACE, None).await.1;
    let namespace: Value = serde_json::from_str(&namespace).expect("JSON");
    let base = namespace["properties"]["location"].as_str().expect("who creates something there is told the location");
    assert_eq!(namespace, json!({"namespace": ["n"], "properties": {"location": base}}), "and no other property");

    let random = "0a1b2c3d0a1b2c3d0a1b2c3d0a1b2c3d";
    let create = async |location: &str| test.send(&maker, Method::POST, TABLES, Some(located("t", location))).await;
    for chosen in ["/t", "/u-0a1b2c3d", "/t-0A1B2C3D", "/inner/t-0a1b2c3d", "2/t-0a1b2c3d"] {
        let answer = create(&format!("{base}{chosen}")).await;
        assert!(is_chosen(&answer), "{chosen}: {answer:?}");
    }
    let place = format!("{base}/t-{random}");
    let (status, text) = create(&place).await;
    assert!(status == 200 && text.contains(&place), "{status} {text}");
    let view = format!("{base}/v-{random}");
    let mut viewed = new_view("v");
    viewed["location"] = json!(view);
    let (status, text) = test.send(&maker, Method::POST, "/v1/default/namespaces/n/views", Some(viewed)).await;
    assert!(status == 200 && text.contains(&view), "{status} {text}");

    for (name, by_transaction) in [("staged", false), ("other", true)] {
        let staged = format!("{base}/{name}-{random}");
        let mut stage = located(name, &staged);
        stage["stage-create"] = json!(true);
        let (status, text) = test.send(&maker, Method::POST, TABLES, Some(stage.clone())).await;
        assert_eq!(status, 200, "{text}");
        let updates = json!([{"action": "set-location", "location": staged}, {"action": "add-schema", "schema": stage["schema"]},
            {"action": "set-current-schema", "schema-id": -1}, {"action": "set-properties", "updates": stage["properties"]}]);
        let mut commit = json!({"requirements": [{"type": "assert-create"}], "updates": updates});
        if by_transaction {
            commit["identifier"] = json!({"namespace": ["n"], "name": name});
            let (status, text) = test.send(&maker, Method::POST, TRANSACTION, Some(json!({"table-changes": [commit]}))).await;
            assert_eq!(status, 204, "{text}");
        } else {
            let (status, text) = test.send(&maker, Method::POST, &table(name), Some(commit)).await;
            assert!(status == 200 && text.contains(&staged), "{status} {text}");
        }
    }
}

/// Trino writes down its user as the owner of a view, with whose rights it runs the view.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_view_that_runs_as_its_creator_in_trino_needs_no_set_protected() {
    const VIEWS: &str = "/v1/default/namespaces/n/views";
    let test = started().await;
    let maker = test.client("maker").await;
    let creates = PrivilegeSet::of(&[Privilege::List, Privilege::CreateTable, Privilege::CreateView]);
    test.grant("maker", test.namespace("n"), creates).await;
    let owned = |mut body: Value, key: &str, owner: &str| {
        body["properties"] = json!({key: owner});
        Some(body)
    };
    let create = async |key: &str, owner: &str| test.send(&maker, Method::POST, VIEWS, owned(new_view("v"), key, owner)).await;
    let is_refused = |(status, text): &(u16, String)| *status == 403 && text.contains("lacks SET_PROTECTED on namespace n");
    for (key, owner) in [
        ("trino.run-as-owner", "admin"),
        ("trino.run-as-owner", "Maker"),
        ("trino.run-as-owner", ""),
        ("Trino.Run-As-Owner", "maker"),
        ("gc.enabled", "maker"),
    ] {
        let answer = create(key, owner).await;
        assert!(is_refused(&answer), "{key} {owner}: {answer:?}");
    }
    let of_table = owned(AccessTest::new_table("t"), "trino.run-as-owner", "maker");
    let answer = test.send(&maker, Method::POST, TABLES, of_table).await;
    assert!(is_refused(&answer), "{answer:?}");
    let (status, text) = create("trino.run-as-owner", "maker").await;
    assert_eq!(status, 200, "{text}");
    let change = |owner: &str| {
        let update = json!({"action": "set-properties", "updates": {"trino.run-as-owner": owner}});
        Some(json!({"requirements": [], "updates": [update]}))
    };
    let other = test.client("other").await;
    let alter = PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata, Privilege::AlterSchema, Privilege::SetProperties]);
    test.grant("other", test.namespace("n"), alter).await;
    let (status, text) = test.send(&other, Method::POST, &format!("{VIEWS}/v"), change("other")).await;
    assert!(status == 403 && text.contains("lacks SET_PROTECTED on view n.v"), "{status} {text}");
}

/// Trino's users may be those of an identity provider. Then a client of the same name is somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_the_name_of_a_user_of_trino_makes_no_view_that_runs_as_the_user() {
    let app = TestApp::start_with(|config| config.auth.opa.issuer = Some("https://idp.example".to_owned())).await;
    let test = AccessTest { app };
    test.app.server.access().bootstrap("admin", Some(AccessMode::On)).await.expect("an administrator");
    test.create_namespace("n").await;
    let ann = test.client("ann").await;
    test.grant("ann", test.namespace("n"), PrivilegeSet::of(&[Privilege::List, Privilege::CreateView])).await;
    let mut view = new_view("v");
    view["properties"] = json!({"trino.run-as-owner": "ann"});
    let (status, text) = test.send(&ann, Method::POST, "/v1/default/namespaces/n/views", Some(view)).await;
    assert!(status == 403 && text.contains("lacks SET_PROTECTED on namespace n"), "{status} {text}");
}

/// Whoever creates a table where another one was would get credentials for its rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_location_at_which_a_table_was_is_a_chosen_one() {
    let test = started().await;
    let maker = test.client("maker").await;
    test.grant("maker", test.namespace("n"), PrivilegeSet::of(&[Privilege::List, Privilege::CreateTable])).await;
    let create = async |location: &str| test.send(&maker, Method::POST, TABLES, Some(located("t", location))).await;
    let base = format!("file://{}/warehouse/n", test.app.dir.path().display());
    let place = format!("{base}/t-0a1b2c3d0a1b2c3d0a1b2c3d0a1b2c3d");
    let (status, text) = create(&place).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(test.status(&maker, Method::DELETE, &format!("{}?purgeRequested=true", table("t")), None).await, 204);
    let answer = create(&place).await;
    assert!(is_chosen(&answer), "the dropped table can be brought back to its place: {answer:?}");
    let left = format!("{base}/t-0a1b2c3d");
    let metadata = format!("{}/metadata", &left["file://".len()..]);
    std::fs::create_dir_all(&metadata).expect("made");
    std::fs::write(format!("{metadata}/snap-1.avro"), "a manifest list").expect("written");
    let file = std::fs::File::create(format!("{metadata}/00000-x.metadata.json")).expect("made");
    let (now, day) = (std::time::SystemTime::now(), std::time::Duration::from_secs(86_400));
    file.set_modified(now - day).expect("set");
    let answer = create(&left).await;
    assert!(is_chosen(&answer), "a table that nobody remembers has left its files there: {answer:?}");
    file.set_modified(now).expect("set");
    let (status, text) = create(&left).await;
    assert_eq!(status, 200, "they may be those of a failed attempt: {text}");
}

/// Engines look for a namespace before they create a table in it, and would create the namespace.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_exists_for_who_may_create_in_it_and_is_in_no_list() {
    let test = started().await;
    test.create_table("n", "hidden").await;
    let maker = test.client("maker").await;
    let get = async |path: &str| test.send(&maker, Method::GET, path, None).await;
    let (namespaces, views) = ("/v1/default/namespaces", format!("{NAMESPACE}/views"));
    for path in [NAMESPACE, TABLES, views.as_str()] {
        assert_eq!(get(path).await.0, 404, "{path}");
    }
    assert_eq!(test.status(&maker, Method::HEAD, NAMESPACE, None).await, 404);

    test.grant("maker", test.namespace("n"), Privilege::CreateTable.into()).await;
    assert_eq!(test.status(&maker, Method::HEAD, NAMESPACE, None).await, 204);
    assert_eq!(get(NAMESPACE).await.0, 200);
    for path in [TABLES, views.as_str()] {
        let (status, text) = get(path).await;
        assert_eq!((status, names(&text)), (200, Vec::new()), "{path}");
    }
    let (status, text) = get(namespaces).await;
    assert!(status == 200 && text.contains("\"namespaces\":[]"), "LIST shows it in lists: {status} {text}");
    let (status, text) = test.send(&maker, Method::DELETE, NAMESPACE, None).await;
    assert_eq!(status, 404, "nothing else is told: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_creates_a_table_owns_it_and_future_grants_are_copied() {
    let test = started().await;
    let maker = test.client("maker").await;
    let reader = test.client("reader").await;
    test.grant("maker", test.namespace("n"), Privilege::CreateTable.into()).await;
    let select = AccessTest::bundle(Bundle::Select, SecurableKind::Table);
    test.create_table("n", "before").await;
    test.grant_on_future("reader", test.namespace("n"), SecurableKind::Table, select).await;
    let (status, text) = test.send(&maker, Method::POST, TABLES, Some(AccessTest::new_table("t"))).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(test.status(&maker, Method::POST, &table("t"), Some(set_property())).await, 200, "the owner changes it at once");
    assert_eq!(test.status(&reader, Method::GET, &table("t"), None).await, 200, "by the copy of a future grant");
    assert_eq!(test.status(&reader, Method::GET, &table("before"), None).await, 404, "an older table");
    assert_eq!(test.status(&reader, Method::POST, &table("t"), Some(set_property())).await, 403);
    let taken = test.send(&maker, Method::POST, TABLES, Some(AccessTest::new_table("before"))).await;
    assert_eq!(taken.0, 409, "a hidden name is taken all the same: {}", taken.1);
    assert_eq!(test.status(&maker, Method::DELETE, &table("t"), None).await, 204);
    let (status, text) = test.send(&maker, Method::POST, TABLES, Some(AccessTest::new_table("t"))).await;
    assert_eq!(status, 200, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_mode_report_everything_passes() {
    let test = AccessTest::start(AccessMode::Report).await;
    test.create_namespace("n").await;
    test.create_table("n", "t").await;
    let nobody = test.token("nobody").await;
    for path in [NAMESPACE, TABLES, &table("t"), &managed("t", "health"), "/metrics", "/api/v1/tokens", "/api/v1/queries"] {
        assert_eq!(test.status(&nobody, Method::GET, path, None).await, 200, "{path}");
    }
    let (_, list) = test.send(&nobody, Method::GET, TABLES, None).await;
    assert_eq!(names(&list), ["t"]);
    assert_eq!(test.status(&nobody, Method::POST, &table("t"), Some(set_property())).await, 200);
    assert_eq!(test.status(&nobody, Method::DELETE, &table("t"), None).await, 204);
    let metrics = test.send(&nobody, Method::GET, "/metrics", None).await.1;
    let reported = metrics.lines().find(|line| line.contains("outcome=\"reported\"")).expect("a metric");
    assert!(!reported.ends_with(" 0"), "{reported}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_its_own_tokens_and_no_others() {
    let test = started().await;
    let bi = test.client("bi").await;
    test.token("other").await;
    let tokens = "/api/v1/tokens";
    let (_, list) = test.send(&bi, Method::GET, tokens, None).await;
    assert!(list.contains("\"principal\":\"bi\"") && !list.contains("other") && !list.contains("admin"), "{list}");
    assert_eq!(test.status(&bi, Method::POST, tokens, Some(json!({}))).await, 201, "one of its own");
    assert_eq!(test.status(&bi, Method::POST, tokens, Some(json!({"principal": "admin"}))).await, 403);
    let all = test.app.ok(Method::GET, tokens, None).await;
    let id = |principal: &str| {
        let found = all.as_array().expect("tokens").iter().find(|token| token["principal"] == principal);
        found.expect("a token")["id"].as_str().expect("an id").to_owned()
    };
    let hidden = test.send(&bi, Method::DELETE, &format!("{tokens}/{}", id("other")), None).await;
    let absent = test.send(&bi, Method::DELETE, &format!("{tokens}/nothing"), None).await;
    assert_eq!((hidden.0, hidden.1.replace(&id("other"), "nothing")), absent);
}
