//! The contracts in `api/` hold for what a server answers: jobs and their dry runs, events, system tables, calls of Flight SQL.
//!
//! That each file is what the code says is tested beside the code.

use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, CommandPreparedStatementQuery, ProstMessageExt,
};
use arrow_flight::{Action, Criteria, Empty, FlightData, FlightDescriptor, HandshakeRequest, Ticket};
use esker_tests::{TestApp, TestTable};
use esker_types::JobKind;
use prost::Message;
use reqwest::Method;
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::kinds::options_of;

const TABLE: &str = "/api/v1/warehouses/default/namespaces/n/tables/t";

/// Reads a contract.
fn contract(file: &str) -> Value {
    let path = format!("{}/../api/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("api/{file}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("api/{file}: {e}"))
}

/// Checks a value against a schema.
fn check(schema: &Value, value: &Value) {
    let validator = jsonschema::validator_for(schema).expect("a schema");
    let errors: Vec<String> = validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?} in {value:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_job_has_the_request_the_plan_and_the_outcome_of_its_schema() {
    let app = TestApp::start().await;
    TestTable::six_files(&app).await;
    let schema = contract("jobs.schema.json");
    for kind in JobKind::ALL {
        let options = options_of(kind);
        let preview = app.ok(Method::POST, &format!("{TABLE}/{kind}?dry-run=true"), Some(options.clone())).await;
        check(&schema, &json!({"kind": kind, "options": options, "preview": preview}));
        let job = app.job(kind.as_str(), options).await;
        assert!(job["plan"].is_object() && job["request"][kind.as_str()].is_object(), "{job:#}");
        check(&schema, &job);
        if kind == JobKind::Compact {
            assert_eq!((&job["state"], &job["outcome"]["files_in"]), (&json!("succeeded"), &json!(6)), "{job:#}");
            let path = format!("/api/v1/warehouses/default/jobs/{}/undo", job["id"].as_str().expect("an id"));
            let undone = app.ok(Method::POST, &path, None).await;
            check(&schema, &json!({"kind": "undo", "outcome": undone}));
        }
    }
    let kinds: Vec<Value> = app.ok(Method::GET, "/api/v1/jobs", None).await.as_array().expect("jobs").clone();
    assert!(kinds.iter().any(|job| job["kind"] == "undo"), "{kinds:#?}");
    kinds.iter().for_each(|job| check(&schema, job));
    let mut wrong = kinds[0].clone();
    wrong["kind"] = json!("compaction");
    assert!(!jsonschema::is_valid(&schema, &wrong), "no kind of job");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_parameter_that_an_operation_does_not_have_is_refused_by_name() {
    let app = TestApp::start().await;
    app.table().await;
    let document = contract("openapi.json");
    let operations = document["paths"].as_object().expect("paths").iter().filter(|(path, _)| path.starts_with("/api/"));
    for (pattern, item) in operations {
        for (method, operation) in item.as_object().expect("operations") {
            let path = pattern.replace("{warehouse}", "default").replace(['{', '}'], "");
            let method: Method = method.to_uppercase().parse().expect("a method");
            let (code, kind, message) = app.refused(method, &format!("{path}?dryrun=true"), Some(json!({}))).await;
            assert_eq!((code, kind.as_str()), (400, "BadRequestException"), "{pattern}: {message}");
            assert!(message.contains("\"dryrun\" is unknown"), "{pattern}: {message}");
            let parameters = operation["parameters"].as_array().into_iter().flatten().filter(|p| p["in"] == "query");
            let known: Vec<&str> = parameters.map(|p| p["name"].as_str().expect("a name")).collect();
            assert!(
                if known.is_empty() { message.ends_with("takes none") } else { message.ends_with(&known.join(", ")) },
                "{message}"
            );
        }
    }
    app.refused(Method::POST, &format!("{TABLE}/manifests?dryrun=true"), Some(json!({}))).await;
    assert_eq!(app.ok(Method::GET, "/api/v1/jobs", None).await, json!([]), "no job was started");
    // Clients of the Iceberg catalog add parameters of their own.
    app.ok(Method::GET, "/v1/default/namespaces?dryrun=true", None).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_have_the_details_of_their_schema() {
    let app = TestApp::start().await;
    TestTable::six_files(&app).await;
    app.job("compact", json!({"courtesy-seconds": 0})).await;
    let rename = json!({"source": {"namespace": ["n"], "name": "t"}, "destination": {"namespace": ["n"], "name": "u"}});
    app.ok(Method::POST, "/v1/default/tables/rename", Some(rename)).await;
    app.ok(Method::POST, "/v1/default/namespaces/n/properties", Some(json!({"updates": {"a": "b"}, "removals": ["c"]}))).await;
    app.ok(Method::DELETE, "/v1/default/namespaces/n/tables/u", None).await;
    let mut schema = contract("events.schema.json");
    schema["allOf"] = json!([{"$ref": "#/$defs/ReplayedEvent"}]);
    let page = app.ok(Method::GET, "/api/v1/events?limit=1000", None).await;
    let events = page["events"].as_array().expect("events");
    for kind in ["table.created", "table.updated", "table.renamed", "table.dropped", "namespace.updated", "job.succeeded"] {
        assert!(events.iter().any(|event| event["type"] == kind), "{kind} in {events:#?}");
    }
    events.iter().for_each(|event| check(&schema, event));
}

#[tokio::test(flavor = "multi_thread")]
async fn system_and_metadata_tables_have_the_columns_that_the_contract_lists() {
    let app = TestApp::start().await;
    app.table().await;
    TestTable::simple(&app).append_ids(0..3).await;
    let contract = contract("system-tables.json");
    let name = |table: &Value| table["name"].as_str().expect("a name").to_owned();
    let tables = |group: &str| contract[group]["tables"].as_array().expect("tables").clone();
    let system = tables("system").into_iter().map(|table| (format!("system.{}", name(&table)), table));
    let metadata = tables("metadata").into_iter().map(|table| (format!("n.\"t${}\"", name(&table)), table));
    let mut client = app.flight().await;
    for (from, table) in system.chain(metadata) {
        let info = client.execute(format!("SELECT * FROM {from}"), None).await.expect("planned");
        let schema = info.try_decode_schema().expect("a schema");
        let served: Vec<Value> = schema
            .fields()
            .iter()
            .map(|field| json!([field.name(), field.data_type().to_string(), field.is_nullable()]))
            .collect();
        let listed = table["columns"].as_array().expect("columns").iter();
        let listed: Vec<Value> = listed.map(|c| json!([c["name"], c["arrow-type"], c["nullable"]])).collect();
        assert_eq!(served, listed, "{from}");
    }
    let tables = app.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'system'").await.expect("listed");
    let listed: usize = tables.iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(listed, contract["system"]["tables"].as_array().expect("tables").len());
}

/// Adds the token to a call, which ends in half a minute.
fn signed<T>(message: T) -> Request<T> {
    signed_by(message, esker_tests::TOKEN)
}

/// Adds another token to a call, which ends in half a minute.
pub(crate) fn signed_by<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
    request.set_timeout(Duration::from_secs(30));
    request
}

/// Makes a call of Flight SQL, with a message that is empty. Returns the status of the answer.
async fn status_of(client: &mut FlightServiceClient<Channel>, rpc: &str, message: Option<&str>) -> Code {
    let command = message.map_or_else(Vec::new, |name| {
        let type_url = format!("type.googleapis.com/arrow.flight.protocol.sql.{name}");
        arrow_flight::sql::Any { type_url, value: bytes::Bytes::new() }.encode_to_vec()
    });
    let descriptor = FlightDescriptor::new_cmd(command.clone());
    let answer: Result<(), Status> = match rpc {
        "GetFlightInfo" => client.get_flight_info(signed(descriptor)).await.map(drop),
        "PollFlightInfo" => client.poll_flight_info(signed(descriptor)).await.map(drop),
        "GetSchema" => client.get_schema(signed(descriptor)).await.map(drop),
        "ListFlights" => client.list_flights(signed(Criteria::default())).await.map(drop),
        "ListActions" => client.list_actions(signed(Empty {})).await.map(drop),
        "Handshake" => client.handshake(signed(futures::stream::iter([HandshakeRequest::default()]))).await.map(drop),
        "DoGet" => client.do_get(signed(Ticket { ticket: command.into() })).await.map(drop),
        "DoPut" => {
            let first = FlightData { flight_descriptor: Some(descriptor), ..FlightData::default() };
            client.do_put(signed(futures::stream::iter([first]))).await.map(drop)
        }
        "DoExchange" => client.do_exchange(signed(futures::stream::iter([FlightData::default()]))).await.map(drop),
        "DoAction" => {
            let name = message.expect("an action has a message");
            let kind = name.strip_prefix("Action").and_then(|name| name.strip_suffix("Request")).expect("the name of a request");
            client.do_action(signed(Action { r#type: kind.to_owned(), body: command.into() })).await.map(drop)
        }
        other => panic!("no method {other}"),
    };
    answer.map_or_else(|status| status.code(), |()| Code::Ok)
}

/// Connects to the server's Flight service.
pub(crate) async fn flight(app: &TestApp) -> FlightServiceClient<Channel> {
    let url = format!("http://{}", app.server.flight);
    FlightServiceClient::new(Endpoint::from_shared(url).expect("a url").connect().await.expect("a connection"))
}

/// Prepares a statement. Returns its handle.
pub(crate) async fn prepare(app: &TestApp, token: &str, sql: &str) -> bytes::Bytes {
    let create = ActionCreatePreparedStatementRequest { query: sql.to_owned(), transaction_id: None };
    let action = Action { r#type: "CreatePreparedStatement".to_owned(), body: create.as_any().encode_to_vec().into() };
    let mut results = flight(app).await.do_action(signed_by(action, token)).await.expect("prepared").into_inner();
    let result = results.message().await.expect("an answer").expect("a result");
    let any = arrow_flight::sql::Any::decode(&*result.body).expect("a message");
    let made: Option<ActionCreatePreparedStatementResult> = any.unpack().expect("read");
    made.expect("a prepared statement").prepared_statement_handle
}

/// Rows of parameters that can't be decoded are a mistake of the client.
#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_cannot_be_decoded_are_an_invalid_argument() {
    let app = TestApp::start().await;
    let handle = prepare(&app, esker_tests::TOKEN, "SELECT ? || ?").await;
    let command = CommandPreparedStatementQuery { prepared_statement_handle: handle }.as_any().encode_to_vec();
    let first = FlightData {
        flight_descriptor: Some(FlightDescriptor::new_cmd(command)),
        data_header: bytes::Bytes::from_static(b"no message of Arrow"),
        ..FlightData::default()
    };
    let refused = flight(&app).await.do_put(signed(futures::stream::iter([first]))).await.expect_err("refused");
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("parameters"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_flight_sql_is_served_or_unimplemented_as_the_contract_says() {
    let app = TestApp::start().await;
    let mut client = flight(&app).await;
    let contract = contract("flight-sql.json");
    let calls = contract["calls"].as_array().expect("calls");
    let mut served = 0;
    for call in calls {
        let (rpc, message) = (call["rpc"].as_str().expect("a method"), call["message"].as_str());
        let status = status_of(&mut client, rpc, message).await;
        let is_served = call["served"] == true;
        assert_eq!(status != Code::Unimplemented, is_served, "{rpc} {message:?}: {status:?}");
        served += usize::from(is_served);
    }
    assert!(served > 10 && served < calls.len());
}
