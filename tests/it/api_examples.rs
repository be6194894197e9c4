//! The examples in `api/examples`: each is sent to a server, and the answer is compared with the example and with the contract.
//!
//! An example has a request, the status, and the answer. In an answer, `…` stands for any value, and fields that the example
//! leaves out are not compared. `keep` takes a value of the answer by its JSON pointer; `{name}` in a later step stands for it. A
//! step with `until` is repeated until the answer fits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use esker_tests::{TestApp, TestTable, check_body, is_listed, operation_of};
use reqwest::{Method, StatusCode};
use serde_json::Value;

const MANAGEMENT: &str = include_str!("../../api/examples/management.json");
const ICEBERG: &str = include_str!("../../api/examples/iceberg.json");
const OPENAPI: &str = include_str!("../../api/openapi.json");
const OPERATIONS: &str = include_str!("../../api/iceberg-rest.json");

/// How long a step with `until` is repeated.
const PATIENCE: Duration = Duration::from_secs(60);

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// The values that earlier steps kept, by name.
type Kept = BTreeMap<String, String>;

/// Puts kept values in the place of their names.
fn filled(text: &str, kept: &Kept) -> String {
    kept.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

/// Returns the first place at which an answer is not as the example says.
fn misfit(expected: &Value, answer: &Value, at: &str) -> Option<String> {
    match (expected, answer) {
        (Value::String(text), _) if text == "…" => None,
        (Value::Object(expected), Value::Object(answer)) => expected
            .iter()
            .find_map(|(key, value)| misfit(value, answer.get(key).unwrap_or(&Value::Null), &format!("{at}/{key}"))),
        (Value::Array(expected), Value::Array(answer)) if expected.len() == answer.len() => {
            expected.iter().zip(answer).enumerate().find_map(|(i, (e, a))| misfit(e, a, &format!("{at}/{i}")))
        }
        _ => (expected != answer).then(|| format!("{at}: {answer}, not {expected}")),
    }
}

/// Sends the request of a step. Returns the status and the body.
async fn send(app: &TestApp, step: &Value, kept: &Kept) -> (Method, String, StatusCode, Value) {
    let request = filled(step["request"].as_str().expect("a request"), kept);
    let (method, path) = request.split_once(' ').expect("a method and a path");
    let method: Method = method.parse().expect("a method");
    let body = step.get("body").map(|body| parse(&filled(&body.to_string(), kept)));
    if let Some(body) = body.as_ref().filter(|_| step["status"].as_u64() < Some(300)) {
        check_body(&method, path, body);
    }
    // `send` checks the answer against `api/openapi.json` and `api/iceberg-rest.json`.
    let (status, answer) = app.send(method.clone(), path, body).await;
    (method, path.to_owned(), status, answer)
}

/// Sends the steps of an example one after the other.
async fn replay(example: &Value) {
    let app = TestApp::start().await;
    if example["table"] == true {
        TestTable::six_files(&app).await;
    }
    let mut kept = Kept::new();
    for step in example["steps"].as_array().expect("steps") {
        let name = step["name"].as_str().expect("a name");
        let expected = step.get("answer").map_or(Value::from("…"), |answer| parse(&filled(&answer.to_string(), &kept)));
        let began = Instant::now();
        let answer = loop {
            let (method, path, status, answer) = send(&app, step, &kept).await;
            assert_eq!(Some(u64::from(status.as_u16())), step["status"].as_u64(), "{name}: {answer}");
            let described = operation_of(&method, &path).is_some() || is_listed(&method, &path, status) == Some(true);
            assert!(described, "{name}: {method} {path} is no operation");
            match misfit(&expected, &answer, "") {
                None => break answer,
                Some(why) => assert!(step["until"] == true && began.elapsed() < PATIENCE, "{name}: {why}: {answer}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        for (name, pointer) in step["keep"].as_object().into_iter().flatten() {
            let value = answer.pointer(pointer.as_str().expect("a pointer")).and_then(Value::as_str);
            kept.insert(name.clone(), value.unwrap_or_else(|| panic!("{pointer} is no text in {answer}")).to_owned());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_management_api_get_the_answers_that_they_show() {
    replay(&parse(MANAGEMENT)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_iceberg_catalog_get_the_answers_that_they_show() {
    replay(&parse(ICEBERG)).await;
}

/// Returns the methods and paths of all examples, the paths without their parameters.
fn requests() -> Vec<(Method, String)> {
    let of = |example: Value| example["steps"].as_array().expect("steps").clone();
    let steps = of(parse(MANAGEMENT)).into_iter().chain(of(parse(ICEBERG)));
    let request = |step: Value| {
        let (method, path) = step["request"].as_str().and_then(|request| request.split_once(' ')).expect("a method and a path");
        (method.parse().expect("a method"), path.split('?').next().unwrap_or(path).to_owned())
    };
    steps.map(request).collect()
}

#[test]
fn every_operation_has_an_example() {
    let requests = requests();
    let shown: BTreeSet<&str> = requests.iter().filter_map(|(method, path)| Some(operation_of(method, path)?.0)).collect();
    let mut described = BTreeSet::new();
    let document = parse(OPENAPI);
    for item in document["paths"].as_object().expect("paths").values() {
        described.extend(item.as_object().expect("operations").values().map(|o| o["operationId"].as_str().expect("an id")));
    }
    assert_eq!(described, shown);

    for operation in parse(OPERATIONS)["operations"].as_array().expect("operations") {
        // A request for a token is a form and not JSON.
        if operation["served"] == "no" || operation["id"] == "getToken" {
            continue;
        }
        let (named, pattern) = operation["request"].as_str().and_then(|r| r.split_once(' ')).expect("a method and a path");
        let segments: Vec<&str> = pattern.split('/').collect();
        let is_shown = requests.iter().any(|(method, path)| {
            let path: Vec<&str> = path.split('/').collect();
            let fits = |(segment, part): (&&str, &&str)| segment.starts_with('{') || segment == part;
            method.as_str() == named && path.len() == segments.len() && segments.iter().zip(&path).all(fits)
        });
        assert!(is_shown, "{named} {pattern}");
    }
}
