//! Several warehouses on one server, case-insensitive names, and the locations that tables may have.

use std::collections::BTreeMap;

use esker::Config;
use esker::config::WarehouseConfig;
use esker_tests::{TestApp, config, schema_json};
use reqwest::Method;
use serde_json::{Value, json};

fn at(location: &str) -> WarehouseConfig {
    WarehouseConfig { location: Some(location.to_owned()), ..WarehouseConfig::default() }
}

fn two(dir: &std::path::Path) -> BTreeMap<String, WarehouseConfig> {
    let place = |name: &str| at(&format!("file://{}/{name}", dir.display()));
    BTreeMap::from([("default".to_owned(), place("one")), ("other".to_owned(), place("two"))])
}

/// Lets the tables of the warehouse `default` share directories for data files.
pub(crate) fn share_data_paths(config: &mut Config) {
    config.warehouses.entry("default".to_owned()).or_default().shared_data_paths = true;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_one_warehouse_is_seen_or_reached_from_another() {
    let places = tempfile::tempdir().expect("a directory");
    let app = TestApp::start_with(|c| c.warehouses = two(places.path())).await;
    let create = json!({"name": "t", "schema": schema_json()});
    for warehouse in ["default", "other"] {
        app.ok(Method::POST, &format!("/v1/{warehouse}/namespaces"), Some(json!({"namespace": ["n"]}))).await;
    }
    let table = app.ok(Method::POST, "/v1/other/namespaces/n/tables", Some(create.clone())).await;
    assert!(table["metadata"]["location"].as_str().expect("a location").contains("/two/n/t-"));
    assert_eq!(app.ok(Method::GET, "/v1/default/namespaces/n/tables", None).await["identifiers"], json!([]));
    assert_eq!(app.refused(Method::GET, "/v1/default/namespaces/n/tables/t", None).await.0, 404);
    // A table can enter another warehouse neither by its registered files nor by its location.
    let register = json!({"name": "stolen", "metadata-location": table["metadata-location"]});
    assert_eq!(app.refused(Method::POST, "/v1/default/namespaces/n/register", Some(register)).await.0, 400);
    let mut inside = create;
    inside["location"] = json!(format!("file://{}/two/x", places.path().display()));
    assert_eq!(app.refused(Method::POST, "/v1/default/namespaces/n/tables", Some(inside)).await.0, 400);
    // A job is undone in its own warehouse alone, whose keys and policies are those of its table.
    let job = app.ok(Method::POST, "/api/v1/warehouses/other/namespaces/n/tables/t/compact", Some(json!({}))).await;
    let id = job["job-id"].as_str().expect("an id");
    app.wait_for_job(id).await;
    let (status, _, why) = app.refused(Method::POST, &format!("/api/v1/warehouses/default/jobs/{id}/undo"), None).await;
    assert_eq!((status, why), (404, format!("job {id} does not exist")));
    // The fleet lists the tables of both warehouses.
    let fleet = app.ok(Method::GET, "/api/v1/tables", None).await;
    assert_eq!((&fleet[0]["warehouse"], &fleet[0]["table"]), (&json!("other"), &json!("n.t")));
    assert_eq!(app.ok(Method::GET, "/api/v1/tables?warehouse=default", None).await, json!([]));
    assert_eq!(app.refused(Method::GET, "/api/v1/tables?warehouse=x", None).await.0, 404);
    let names: Vec<Value> = app.ok(Method::GET, "/api/v1/warehouses", None).await.as_array().expect("a list").clone();
    assert_eq!(names.iter().map(|w| w["name"].as_str().expect("a name")).collect::<Vec<_>>(), ["default", "other"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warehouse_that_moved_overlaps_or_mixes_stores_is_refused_by_name() {
    let places = tempfile::tempdir().expect("a directory");
    let app = TestApp::start_with(|c| c.warehouses = two(places.path())).await;
    let dir = app.stop().await;
    let refused = async |change: &dyn Fn(&mut BTreeMap<String, WarehouseConfig>)| {
        let mut config = config(dir.path());
        config.warehouses = two(places.path());
        change(&mut config.warehouses);
        esker::server::Server::start(&config).await.expect_err("refused").to_string()
    };
    let moved = refused(&|w| drop(w.insert("other".to_owned(), at("file:///elsewhere")))).await;
    assert!(moved.contains("warehouses.other.location"), "{moved}");
    let folded = refused(&|w| w.get_mut("other").expect("there").case_insensitive = true).await;
    assert!(folded.contains("warehouses.other.case_insensitive"), "{folded}");
    let inside = format!("file://{}/one/inside", places.path().display());
    let overlap = refused(&|w| drop(w.insert("third".to_owned(), at(&inside)))).await;
    assert!(overlap.contains("warehouses.third") && overlap.contains("overlap"), "{overlap}");
    let mixed = refused(&|w| w.get_mut("other").expect("there").allowed_locations.push("s3://b/x".to_owned())).await;
    assert!(mixed.contains("different kinds of stores"), "{mixed}");
    let option = refused(&|w| drop(w.get_mut("other").expect("there").storage.insert("endpoit".into(), "x".into()))).await;
    assert!(option.contains("warehouses.other.storage") && option.contains("endpoit"), "{option}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_keep_their_case_and_are_found_without_it_where_the_warehouse_says_so() {
    let app = TestApp::start_with(|c| {
        c.warehouses.insert("default".to_owned(), WarehouseConfig { case_insensitive: true, ..WarehouseConfig::default() });
    })
    .await;
    app.ok(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": ["Sales"]}))).await;
    app.ok(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": ["SALES", "Inner"]}))).await;
    let create = |name: &str| Some(json!({"name": name, "schema": schema_json()}));
    app.ok(Method::POST, "/v1/default/namespaces/sales/tables", create("Orders")).await;
    assert_eq!(app.refused(Method::POST, "/v1/default/namespaces/SALES/tables", create("ORDERS")).await.0, 409);
    app.ok(Method::GET, "/v1/default/namespaces/sAlEs/tables/oRdErS", None).await;
    let listed = app.ok(Method::GET, "/v1/default/namespaces/SALES/tables", None).await;
    assert_eq!(listed["identifiers"][0]["name"], "Orders");
    assert_eq!(app.ok(Method::GET, "/v1/default/namespaces", None).await["namespaces"], json!([["Sales"]]));
    app.ok(Method::GET, "/v1/default/namespaces/sales%1Finner", None).await;
    let rename = json!({"source": {"namespace": ["SALES"], "name": "ORDERS"},
        "destination": {"namespace": ["sales"], "name": "orders"}});
    app.ok(Method::POST, "/v1/default/tables/rename", Some(rename)).await;
    let listed = app.ok(Method::GET, "/v1/default/namespaces/SALES/tables", None).await;
    assert_eq!(listed["identifiers"][0]["name"], "orders", "a rename may change the case alone");
}

/// Tries a location outside the warehouse, and one inside another table, on every route that can set a table's location.
#[tokio::test(flavor = "multi_thread")]
async fn no_route_lets_a_table_lie_outside_or_in_another_one() {
    let app = TestApp::start().await;
    let other = app.table().await["metadata"]["location"].as_str().expect("a location").to_owned();
    let tables = "/v1/default/namespaces/n/tables";
    app.ok(Method::POST, tables, Some(json!({"name": "own", "schema": schema_json()}))).await;
    app.ok(Method::POST, "/v1/default/namespaces/n/views", Some(crate::rest_contract::view("v"))).await;
    for place in ["file:///etc".to_owned(), format!("{other}/data"), format!("{other}/../x")] {
        let mut create = json!({"name": "x", "schema": schema_json(), "location": place});
        app.refused(Method::POST, tables, Some(create.clone())).await;
        create["stage-create"] = json!(true);
        app.refused(Method::POST, tables, Some(create)).await;
        let mut view = crate::rest_contract::view("w");
        view["location"] = json!(place);
        app.refused(Method::POST, "/v1/default/namespaces/n/views", Some(view)).await;
        for update in [
            json!({"action": "set-location", "location": place}),
            json!({"action": "set-properties", "updates": {"write.data.path": place}}),
            json!({"action": "set-properties", "updates": {"write.metadata.path": place}}),
        ] {
            let body = json!({"requirements": [], "updates": [update]});
            let (code, _, message) = app.refused(Method::POST, &format!("{tables}/own"), Some(body.clone())).await;
            assert_eq!(code, 400, "{update}: {message}");
            let mut change = body.clone();
            change["identifier"] = json!({"namespace": ["n"], "name": "own"});
            let transaction = json!({"table-changes": [change]});
            assert_eq!(app.refused(Method::POST, "/v1/default/transactions/commit", Some(transaction)).await.0, 400);
            if !update.to_string().contains("write.data.path") {
                assert_eq!(app.refused(Method::POST, "/v1/default/namespaces/n/views/v", Some(body)).await.0, 400, "{update}");
            }
        }
        let properties = json!({"updates": {"location": place}, "removals": []});
        if !place.starts_with(&other) {
            assert_eq!(app.refused(Method::POST, "/v1/default/namespaces/n/properties", Some(properties)).await.0, 400);
        }
    }
}

/// Data files stay where they were written after the location or the properties change, because paths are absolute.
#[tokio::test(flavor = "multi_thread")]
async fn no_location_lies_where_another_table_has_files_or_had_them() {
    let app = TestApp::start_with(share_data_paths).await;
    app.namespace().await;
    let place = |name: &str| format!("file://{}/warehouse/{name}", app.dir.path().display());
    let tables = "/v1/default/namespaces/n/tables";
    let create = async |name: &str, location: &str, properties: Value| {
        let body = json!({"name": name, "schema": schema_json(), "location": place(location), "properties": properties});
        app.send(Method::POST, tables, Some(body)).await
    };
    let update = async |name: &str, update: Value| {
        let body = json!({"requirements": [], "updates": [update]});
        app.send(Method::POST, &format!("{tables}/{name}"), Some(body)).await
    };
    let named = |(status, body): (reqwest::StatusCode, Value), name: &str| {
        let message = body["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(status == 400 && message.contains(name) && message.contains("choose a place of its own"), "{status} {body}");
    };
    let done = |(status, body): (reqwest::StatusCode, Value)| assert!(status.is_success(), "{body}");
    done(create("paths", "paths", json!({"write.data.path": place("custom/data")})).await);
    done(create("moved", "first", json!({})).await);
    done(create("own", "own", json!({})).await);
    done(update("moved", json!({"action": "set-location", "location": place("second")})).await);
    done(update("paths", json!({"action": "remove-properties", "removals": ["write.data.path"]})).await);
    for (location, name) in [("custom", "n.paths"), ("custom/data/x", "n.paths"), ("first", "n.moved"), ("first/x", "n.moved")] {
        named(create("x", location, json!({})).await, name);
        named(update("own", json!({"action": "set-location", "location": place(location)})).await, name);
        let metadata = json!({"write.metadata.path": place(location)});
        named(update("own", json!({"action": "set-properties", "updates": metadata})).await, name);
    }
    // A table may return to an earlier location. With `shared_data_paths`, tables may share a data path, because writers add the
    // table's name to it (`write.object-storage`).
    done(update("moved", json!({"action": "set-location", "location": place("first")})).await);
    done(update("moved", json!({"action": "set-location", "location": place("second")})).await);
    done(create("sharing", "sharing", json!({"write.data.path": place("custom/data")})).await);
    done(update("own", json!({"action": "set-properties", "updates": {"write.data.path": place("custom/data")}})).await);
    // The places of a purged table are free.
    done(app.send(Method::DELETE, &format!("{tables}/moved?purgeRequested=true"), None).await);
    done(create("next", "first", json!({})).await);
    done(create("after", "second", json!({})).await);
}
