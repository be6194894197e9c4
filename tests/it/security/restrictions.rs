//! The management of row filters and column masks: who sets them, what fits, and what becomes of them.

use esker_tests::{TestApp, schema_json};
use esker_types::{DAY_MS, now_ms};
use reqwest::Method;
use serde_json::{Value, json};

use super::access::{grant, switch_on};
use super::{make_token, send_as};
use crate::cli::ok;

const ACCESS: &str = "/api/v1/access";
const FILTERS: &str = "/api/v1/access/filters";
const MASKS: &str = "/api/v1/access/masks";
const TABLE: &str = "table default.n.t";
/// The table as a parameter of a query.
const ON: &str = "on=table%20default.n.t";

/// Returns the body of a request that adds a row filter for a client.
fn filter_for(client: &str, filter: impl Into<Value>) -> Value {
    json!({"on": TABLE, "to": {"kind": "client", "name": client}, "filter": filter.into()})
}

/// Returns the body of a request that masks a field.
fn mask_of(field: &str, action: &str) -> Value {
    json!({"on": TABLE, "field": field, "action": action})
}

/// Lists the restrictions of the table `n.t`.
async fn restrictions(app: &TestApp) -> Value {
    app.ok(Method::GET, &format!("{ACCESS}/restrictions?{ON}"), None).await
}

/// Creates the table `n.t` with columns of several types.
async fn rich_table(app: &TestApp) {
    app.namespace().await;
    let person = json!({"type": "struct", "fields": [{"id": 7, "name": "email", "required": false, "type": "string"}]});
    let tags = json!({"type": "list", "element-id": 8, "element": "string", "element-required": false});
    let field = |id: i32, name: &str, ty: Value| json!({"id": id, "name": name, "required": id == 1, "type": ty});
    let fields = [
        field(1, "id", json!("long")),
        field(2, "region", json!("string")),
        field(3, "price", json!("decimal(9, 2)")),
        field(4, "day", json!("date")),
        field(5, "person", person),
        field(6, "tags", tags),
    ];
    let create = json!({"name": "t", "schema": {"type": "struct", "fields": fields}});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_masks_are_set_listed_and_removed() {
    let app = TestApp::start().await;
    rich_table(&app).await;
    let text = app.ok(Method::POST, FILTERS, Some(filter_for("bi", "Region = 'EU' AND price < 14.2"))).await;
    assert_eq!((&text["text"], &text["in-force"]), (&json!("(region = 'EU') AND (price < '14.20')"), &json!(false)));
    assert_eq!((&text["filter"]["type"], &text["created-by"]), (&json!("and"), &json!("admin")));
    let expression = json!({"type": "not", "child": {"type": "in", "child": {"type": "reference", "name": "person.email"},
        "values": ["a", "b"]}});
    let json = app.ok(Method::POST, FILTERS, Some(filter_for("etl", expression))).await;
    assert_eq!(json["text"], "person.email NOT IN ('a', 'b')", "the negation is part of the predicate");
    let all = app.ok(Method::POST, FILTERS, Some(filter_for("auditor", true))).await;
    assert_eq!((&all["text"], &all["filter"]), (&json!("TRUE"), &json!(true)));

    let mut email = mask_of("person.email", "mask-alphanum");
    email["except"] = json!([{"kind": "role", "name": "esker:admin"}]);
    let mask = app.ok(Method::PUT, MASKS, Some(email)).await;
    assert_eq!((&mask["field"], &mask["in-force"]), (&json!("person.email"), &json!(false)));
    assert_eq!(mask["except"], json!([{"kind": "role", "name": "esker:admin"}]));
    app.ok(Method::PUT, MASKS, Some(mask_of("id", "sha-256-global"))).await;
    let id = mask["field-id"].as_i64().expect("an id").to_string();
    app.ok(Method::PUT, MASKS, Some(mask_of(&id, "show-last-4"))).await;

    switch_on(&app).await;
    let listed = restrictions(&app).await;
    assert_eq!((&listed["on"], &listed["in-force"]), (&json!(TABLE), &json!(true)));
    let texts: Vec<&Value> = listed["filters"].as_array().expect("filters").iter().map(|filter| &filter["text"]).collect();
    assert_eq!(texts, [&text["text"], &json["text"], &all["text"]]);
    let shown = |mask: &Value| (mask["field"].clone(), mask["action"].clone());
    let masks: Vec<_> = listed["masks"].as_array().expect("masks").iter().map(shown).collect();
    assert_eq!(masks, [(json!("id"), json!("sha-256-global")), (json!("person.email"), json!("show-last-4"))], "one a field");

    let path = format!("{FILTERS}/{}?{ON}", text["id"].as_str().expect("an id"));
    app.ok(Method::DELETE, &path, None).await;
    assert_eq!(app.refused(Method::DELETE, &path, None).await.0, 404);
    for field in ["id", &id] {
        app.ok(Method::DELETE, &format!("{MASKS}?{ON}&field={field}"), None).await;
        let (code, _, message) = app.refused(Method::DELETE, &format!("{MASKS}?{ON}&field={field}"), None).await;
        assert!(code == 404 && message.contains("no column mask"), "{code} {message}");
    }
    let left = restrictions(&app).await;
    assert_eq!((left["filters"].as_array().map(Vec::len), &left["masks"]), (Some(2), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_the_table_is_refused_with_the_name_of_the_field() {
    let app = TestApp::start().await;
    rich_table(&app).await;
    for (filter, words) in [
        (json!("nope = 1"), "no field nope"),
        (json!("id = 'x'"), "no value of id, which is long"),
        (json!("price = 14.201"), "no value of price"),
        (json!("day > 10"), "'2026-01-31'"),
        (json!("region = \"EU\""), "single quotes"),
        (json!("upper(region) = 'EU'"), "no field"),
        (json!("tags IS NULL AND tags.element = 'a'"), "lies in the list or map tags"),
        (json!("id IN (SELECT 1)"), "can't be in a row filter"),
        (json!({"type": "eq", "left": {"type": "reference", "id": 99}, "right": 1}), "with the id 99"),
        (json!({"type": "is-nan", "child": {"type": "reference", "name": "id"}}), "only a float or double"),
        (json!(3), "without a type"),
    ] {
        let (code, _, message) = app.refused(Method::POST, FILTERS, Some(filter_for("bi", filter.clone()))).await;
        assert!(code == 400 && message.contains(words), "{filter}: {code} {message}");
    }
    for (field, action, words) in [
        ("nope", "mask-alphanum", "no field nope"),
        ("price", "mask-alphanum", "mask-alphanum is for strings, and price is decimal(9, 2)"),
        ("region", "truncate-to-year", "is for dates and timestamps"),
        ("id", "replace-with-null", "id is required"),
        ("tags.element", "mask-alphanum", "mask tags as a whole"),
        ("region", "hash", "mask-alphanum"),
    ] {
        let (code, _, message) = app.refused(Method::PUT, MASKS, Some(mask_of(field, action))).await;
        assert!((code == 400 || code == 422) && message.contains(words), "{field} {action}: {code} {message}");
    }
    app.ok(Method::PUT, MASKS, Some(mask_of("person.email", "show-first-4"))).await;
    let (code, _, message) = app.refused(Method::PUT, MASKS, Some(mask_of("person", "mask-to-fixed-value"))).await;
    assert!(code == 400 && message.contains("person.email has a mask already"), "{code} {message}");
    let nobody = json!({"on": TABLE, "to": {"kind": "role", "name": "nobody"}, "filter": "TRUE"});
    let (code, _, message) = app.refused(Method::POST, FILTERS, Some(nobody)).await;
    assert!(code == 404 && message.contains("no role nobody"), "{code} {message}");
    let left = restrictions(&app).await;
    assert_eq!((&left["filters"], left["masks"].as_array().map(Vec::len)), (&json!([]), Some(1)), "nothing else was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn restrictions_follow_their_fields_and_end_with_their_table() {
    let app = TestApp::start().await;
    app.table().await;
    app.ok(Method::POST, FILTERS, Some(filter_for("bi", "s = 'EU'"))).await;
    app.ok(Method::PUT, MASKS, Some(mask_of("s", "mask-alphanum"))).await;
    let mut schema = schema_json();
    schema["fields"][1]["name"] = "region".into();
    let commit = async |schema: Value| {
        let updates = json!([{"action": "add-schema", "schema": schema}, {"action": "set-current-schema", "schema-id": -1}]);
        let body = json!({"requirements": [], "updates": updates});
        app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(body)).await;
        let now = restrictions(&app).await;
        (now["filters"][0]["text"].clone(), now["masks"][0]["field"].clone())
    };
    assert_eq!(commit(schema.clone()).await, (json!("region = 'EU'"), json!("region")), "a rename of the field");
    schema["fields"].as_array_mut().expect("fields").pop();
    assert_eq!(commit(schema).await, (json!("/* dropped */ field_2 = 'EU'"), Value::Null), "a drop of the field");

    let kept = async || {
        let rows = app.catalog().state().access().rows().await.expect("rules");
        (rows.filters.len(), rows.masks.len())
    };
    let rename = json!({"source": {"namespace": ["n"], "name": "t"}, "destination": {"namespace": ["n"], "name": "u"}});
    app.ok(Method::POST, "/v1/default/tables/rename", Some(rename)).await;
    let renamed = app.ok(Method::GET, &format!("{ACCESS}/restrictions?on=table%20default.n.u"), None).await;
    assert_eq!(renamed["filters"].as_array().map(Vec::len), Some(1));
    app.ok(Method::DELETE, "/v1/default/namespaces/n/tables/u", None).await;
    assert_eq!(kept().await, (1, 1), "the table can be brought back");
    app.catalog().expire_drops(now_ms() + 30 * DAY_MS).await.expect("ended");
    assert_eq!(kept().await, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_manages_the_restrictions_of_a_table_reads_and_changes_them() {
    let app = TestApp::start().await;
    app.table().await;
    switch_on(&app).await;
    let (_, token) = make_token(&app, "owner").await;
    let requests = || {
        [
            (Method::GET, format!("{ACCESS}/restrictions?{ON}"), None),
            (Method::POST, FILTERS.to_owned(), Some(filter_for("owner", "TRUE"))),
            (Method::DELETE, format!("{FILTERS}/x?{ON}"), None),
            (Method::PUT, MASKS.to_owned(), Some(mask_of("s", "mask-alphanum"))),
            (Method::DELETE, format!("{MASKS}?{ON}&field=s"), None),
        ]
    };
    for (method, path, body) in requests() {
        let (status, answer) = send_as(&app, &token, method.clone(), &path, &[], body).await;
        let message = &answer["error"]["message"];
        assert_eq!((status, message), (404, &json!("warehouse default does not exist")), "{method} {path}");
    }
    // All other privileges on the table are not enough.
    grant(&app, "owner", "SELECT, MANAGE_GRANTS, ALTER_SCHEMA, READ_ALL_ROWS", TABLE).await;
    for (method, path, body) in requests() {
        let (status, answer) = send_as(&app, &token, method.clone(), &path, &[], body).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(status == 403 && message.contains("lacks MANAGE_RESTRICTIONS on table n.t"), "{method} {path}: {answer}");
    }
    grant(&app, "owner", "MANAGE_RESTRICTIONS", TABLE).await;
    let statuses: Vec<u16> = {
        let mut all = Vec::new();
        for (method, path, body) in requests() {
            all.push(send_as(&app, &token, method, &path, &[], body).await.0);
        }
        all
    };
    assert_eq!(statuses, [200, 201, 404, 200, 204], "no filter has the id x");
    let (code, _, message) = app.refused(Method::GET, &format!("{ACCESS}/restrictions?on=namespace%20default.n"), None).await;
    assert!(code == 400 && message.contains("write `table W.N.T`"), "{code} {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_learn_what_restricts_them_and_nobody_is_an_exception_by_rank() {
    let app = TestApp::start().await;
    app.table().await;
    let (_, token) = make_token(&app, "seen").await;
    app.ok(Method::POST, FILTERS, Some(filter_for("bi", "s LIKE 'E%'"))).await;
    app.ok(Method::PUT, MASKS, Some(mask_of("id", "sha-256-query-local"))).await;
    let own = async |token: &str| send_as(&app, token, Method::GET, &format!("{ACCESS}/me?{ON}"), &[], None).await.1;
    assert_eq!(own(esker_tests::TOKEN).await["restrictions"], Value::Null, "the mode is off");
    switch_on(&app).await;
    let (_, bi) = make_token(&app, "bi").await;
    grant(&app, "bi", "SELECT", TABLE).await;
    let masks = json!([{"field": "id", "action": "sha-256-query-local"}]);
    assert_eq!(own(&bi).await["restrictions"], json!({"filter": "s LIKE 'E%'", "masks": masks}));
    let hidden = json!({"filter": "FALSE", "masks": masks});
    assert_eq!(own(esker_tests::TOKEN).await["restrictions"], hidden, "no filter names the administrator");
    assert_eq!(own(&token).await["restrictions"], hidden, "nor a client of esker:legacy");

    // The names of columns are not told to who may only see the table.
    let (_, lister) = make_token(&app, "lister").await;
    grant(&app, "lister", "LIST", TABLE).await;
    assert_eq!(own(&lister).await["restrictions"], Value::Null);
    let explained = app.ok(Method::GET, &format!("{ACCESS}/explain?who=client:bi&privileges=SELECT&{ON}"), None).await;
    assert_eq!(explained["restrictions"]["masks"], json!([[1, "sha-256-query-local"]]));
    assert_eq!(explained["restrictions"]["filter"]["left"], json!({"type": "reference", "id": 2}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_stays_while_a_restriction_names_it_and_each_change_is_an_event() {
    let app = TestApp::start().await;
    app.table().await;
    app.ok(Method::POST, &format!("{ACCESS}/roles"), Some(json!({"name": "eu"}))).await;
    let body = json!({"on": TABLE, "to": {"kind": "role", "name": "eu"}, "filter": "TRUE"});
    let filter = app.ok(Method::POST, FILTERS, Some(body)).await;
    app.ok(Method::PUT, MASKS, Some(mask_of("s", "replace-with-null"))).await;
    let role = format!("{ACCESS}/roles/eu");
    let (code, _, message) = app.refused(Method::DELETE, &role, None).await;
    assert!(code == 422 && message.contains("names the role eu; remove that filter or mask first"), "{code} {message}");
    app.ok(Method::DELETE, &format!("{FILTERS}/{}?{ON}", filter["id"].as_str().expect("an id")), None).await;
    app.ok(Method::DELETE, &format!("{MASKS}?{ON}&field=s"), None).await;
    app.ok(Method::DELETE, &role, None).await;

    let events = app.ok(Method::GET, "/api/v1/events?limit=1000", None).await;
    let events = events["events"].as_array().expect("events").iter().filter(|event| event["type"] == "access.changed");
    let changes: Vec<&Value> = events.map(|event| &event["data"]["change"]).collect();
    let actions: Vec<&Value> = changes.iter().map(|change| &change["action"]).collect();
    let expected = ["create-role", "set-row-filter", "set-column-mask", "remove-row-filter", "remove-column-mask", "drop-role"];
    assert_eq!(actions, expected.map(|action| json!(action)).iter().collect::<Vec<_>>());
    assert_eq!((&changes[1]["filter"]["id"], &changes[1]["filter"]["filter"]), (&filter["id"], &json!(true)));
    assert_eq!((&changes[2]["mask"]["field-id"], &changes[4]["field-id"]), (&json!(2), &json!(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_manages_filters_and_masks() {
    let app = TestApp::start().await;
    app.table().await;
    let table = "default.n.t";
    let added = ok(&app, &["access", "filter", "add", table, "client:bi", "s = 'EU' OR id < 10"]).await;
    assert!(added.starts_with("client bi sees the rows of default.n.t with (s = 'EU') OR (id < 10): "), "{added}");
    assert!(added.ends_with("; it restricts nobody until the mode is on\n"), "{added}");
    let set = ["access", "mask", "set", table, "s", "show-first-4", "--except", "client:a", "--except", "role:esker:admin"];
    assert_eq!(ok(&app, &set).await, "s of default.n.t is masked by show-first-4; it restricts nobody until the mode is on\n");
    let listed = ok(&app, &["access", "filter", "list", table]).await;
    assert!(listed.contains("client:bi") && listed.contains("(s = 'EU') OR (id < 10)"), "{listed}");
    assert!(listed.contains("restrict nobody until the mode is on"), "{listed}");
    switch_on(&app).await;
    let listed = ok(&app, &["access", "mask", "list", table]).await;
    assert!(listed.contains("show-first-4") && listed.contains("client:a, role:esker:admin"), "{listed}");
    assert!(!listed.contains("restrict nobody"), "{listed}");
    let json = ok(&app, &["access", "filter", "list", table, "--json"]).await;
    let filters: Value = json.parse().expect("JSON");
    let id = filters[0]["id"].as_str().expect("an id");
    ok(&app, &["access", "filter", "remove", table, id]).await;
    assert_eq!(ok(&app, &["access", "mask", "remove", table, "s"]).await, "s of default.n.t has no mask\n");
    let left = restrictions(&app).await;
    assert_eq!((&left["filters"], &left["masks"]), (&json!([]), &json!([])));
}
