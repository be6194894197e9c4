//! Measures the catalog with 1,000, 100,000 and a million tables: what a client, a person and the autopilot wait for.
//!
//! Tables are entered through the functions of the state database, many in a transaction. Each namespace has 100,000. All share the
//! metadata file of one real table; with `files`, each has that file's bytes in a directory of its own. Each has an assessment. The
//! measured changes are made through REST. The arguments are numbers of tables, in rising order, and `files`:
//! `cargo run --release -p esker-benches --bin scale -- 1000 100000`. `benches/scale.py` runs it on both databases. Prints one JSON
//! object.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use esker_autopilot::{Autopilot, AutopilotOptions, Layers};
use esker_state::{NamespaceRow, NewTabular, Outbox, TabularRow};
use esker_tests::{TOKEN, TestApp, on_postgres, schema_json};
use esker_types::{NamespaceName, TableId, TableName};
use reqwest::Method;
use serde_json::{Value, json};

/// Number of tables in a namespace.
const PER_NAMESPACE: usize = 100_000;
/// Number of tables that are entered in one transaction.
const BATCH: usize = 1_000;
/// Number of times that a request is measured.
const ROUNDS: usize = 25;
/// Number of times that work over many tables is measured.
const LONG_ROUNDS: usize = 3;
/// The namespace in which requests are measured: the first that is filled.
const TABLES: &str = "/v1/default/namespaces/s0/tables";

/// The table whose metadata file and facts all others share.
struct Template {
    /// Row of the table.
    row: TabularRow,
    /// Facts about the table, as JSON.
    facts: String,
    /// Location of the warehouse.
    root: String,
    /// Each table gets a metadata file of its own.
    files: bool,
}

impl Template {
    /// Creates the table, and has it assessed.
    async fn create(app: &TestApp, files: bool) -> Self {
        app.table().await;
        let catalog = app.catalog();
        let row = catalog.table(&"n.t".parse().expect("a name")).await.expect("the table");
        catalog.assessed_table(row.clone()).await.expect("assessed");
        let health = catalog.state().fleet().health(row.id).await.expect("read").expect("stored");
        let facts = health.facts.expect("facts");
        Self { row, facts, root: catalog.options().location.to_string(), files }
    }

    /// Returns the row of the table with a number.
    fn copy(&self, i: usize) -> TabularRow {
        let space = format!("s{}", i / PER_NAMESPACE);
        let location = format!("{}/{space}/t{i:07}-{:08x}", self.root, i.wrapping_mul(2_654_435_761) % (1 << 32));
        let metadata_location = match self.files {
            true => format!("{location}/metadata/00000.metadata.json"),
            false => self.row.metadata_location.clone(),
        };
        let namespace = NamespaceName::new(vec![space]).expect("a name");
        let name = TableName::new(namespace, format!("t{i:07}")).expect("a name");
        TabularRow { id: TableId::fresh(), name, location, metadata_location, ..self.row.clone() }
    }

    /// Writes the metadata file of a copy. The files share their bytes on disk.
    fn write_file(&self, copy: &TabularRow) {
        let path = |uri: &str| uri.trim_start_matches("file://").to_owned();
        let target = path(&copy.metadata_location);
        std::fs::create_dir_all(target.trim_end_matches("/00000.metadata.json")).expect("a directory");
        std::fs::hard_link(path(&self.row.metadata_location), target).expect("a file");
    }
}

/// Enters the tables from one number up to another.
async fn fill(app: &TestApp, template: &Template, from: usize, to: usize) {
    let (catalog, state) = (app.catalog(), app.catalog().state());
    for first in (from..to).step_by(BATCH) {
        if first % PER_NAMESPACE == 0 {
            let name = NamespaceName::new(vec![format!("s{}", first / PER_NAMESPACE)]).expect("a name");
            let row = NamespaceRow { name, properties: BTreeMap::new(), protected: false };
            let made = state.namespaces().create(catalog.warehouse(), &row, &Outbox::default(), |_| Outbox::default()).await;
            made.expect("created");
        }
        let rows: Vec<TabularRow> = (first..to.min(first + BATCH)).map(|i| template.copy(i)).collect();
        if template.files {
            rows.iter().for_each(|row| template.write_file(row));
        }
        let entry = |row: &TabularRow| {
            let places = vec![row.location.clone()];
            NewTabular { row: row.clone(), recorded_output: None, replaces: None, places, claims: Vec::new(), owner: None }
        };
        let new: Vec<NewTabular> = rows.iter().map(entry).collect();
        let entered = state.tables().publish(catalog.warehouse(), &[], &new, &Outbox::default()).await;
        assert!(entered.expect("entered"), "nobody else enters tables");
        for row in &rows {
            let found = Ok((template.facts.as_str(), 100, "{}"));
            state.fleet().record_health(row.id, &row.metadata_location, found).await.expect("recorded");
        }
    }
}

/// A client that checks nothing but the status.
struct Client<'a> {
    http: reqwest::Client,
    app: &'a TestApp,
}

impl Client<'_> {
    /// Sends a request. Returns the status and the body.
    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (u16, String) {
        let request = self.http.request(method, self.app.url(path)).bearer_auth(TOKEN);
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
            None => request,
        };
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    }

    /// Sends a request that succeeds. Returns the body.
    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> String {
        let (status, text) = self.send(method, path, body).await;
        assert!(status < 300, "{path}: {status} {text}");
        text
    }
}

/// Runs `work` some times. Returns the median duration in milliseconds.
async fn timed(rounds: usize, mut work: impl AsyncFnMut(usize)) -> f64 {
    let mut times: Vec<Duration> = Vec::new();
    for round in 0..rounds {
        let began = Instant::now();
        work(round).await;
        times.push(began.elapsed());
    }
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

/// Returns the size of this process in memory, in megabytes.
fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap_or_default() / 1000.0
}

/// Measures the requests and the work of a server with `n` tables, in milliseconds. `size` makes names unique.
async fn measure(app: &TestApp, n: usize, size: usize) -> Value {
    let client = Client { http: reqwest::Client::new(), app };
    let name = |round: usize| format!("x{size}-{round:03}");
    let create = timed(ROUNDS, async |round| {
        let body = json!({"name": name(round), "schema": schema_json()});
        client.ask(Method::POST, TABLES, Some(body)).await;
    })
    .await;
    let refused = timed(ROUNDS, async |round| {
        // One location encloses those of all tables of the namespace, the other one lies in one.
        let location = if round % 2 == 0 { "s0" } else { "s0/t0000007-538453d7/x" };
        let location = format!("{}/{location}", app.catalog().options().location);
        let body = json!({"name": "refused", "schema": schema_json(), "location": location});
        client.send(Method::POST, TABLES, Some(body)).await;
    })
    .await;
    let commit = timed(ROUNDS, async |round| {
        let update = json!({"action": "set-properties", "updates": {"round": round.to_string()}});
        let body = json!({"requirements": [], "updates": [update]});
        client.ask(Method::POST, &format!("{TABLES}/{}", name(round)), Some(body)).await;
    })
    .await;
    let load = timed(ROUNDS, async |round| {
        client.ask(Method::GET, &format!("{TABLES}/t{:07}", round * 7), None).await;
    })
    .await;
    let page: Value =
        serde_json::from_str(&client.ask(Method::GET, &format!("{TABLES}?pageSize=100"), None).await).expect("JSON");
    let next = format!("{TABLES}?pageSize=100&pageToken={}", page["next-page-token"].as_str().expect("a further page"));
    let list = timed(ROUNDS, async |_| drop(client.ask(Method::GET, &next, None).await)).await;
    let drop_table = timed(ROUNDS, async |round| {
        client.ask(Method::DELETE, &format!("{TABLES}/{}", name(round)), None).await;
    })
    .await;
    let fleet_page = timed(LONG_ROUNDS, async |_| drop(client.ask(Method::GET, "/", None).await)).await;
    let pass = timed(LONG_ROUNDS, async |_| {
        let options = AutopilotOptions { interval: Duration::from_secs(1), slots: 1 };
        let warehouses = app.server.maintenance().iter().map(|maintenance| (maintenance.clone(), Layers::default()));
        Autopilot::new(warehouses.collect(), options).pass().await;
    })
    .await;
    let ledger = timed(1, async |_| app.catalog().write_ledger().await.expect("written")).await;
    json!({
        "tables": n, "resident_mb": resident_mb(),
        "ms": {"create": create, "refused location": refused, "commit": commit, "load": load, "list a page": list,
               "drop": drop_table, "fleet page": fleet_page, "autopilot's pass": pass, "ledger": ledger},
    })
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let files = arguments.iter().any(|argument| argument == "files");
    let sizes = arguments.iter().filter(|argument| *argument != "files").map(|n| n.parse().expect("a number of tables"));
    let sizes: Vec<usize> = sizes.collect();
    let app = TestApp::start_with(|config| {
        // The server does nothing beside what is measured.
        config.maintenance.autopilot_seconds = 0;
        config.maintenance.sweep_seconds = 1 << 20;
    })
    .await;
    let template = Template::create(&app, files).await;
    let (mut found, mut there) = (Vec::new(), 0);
    for (size, n) in sizes.into_iter().enumerate() {
        let began = Instant::now();
        fill(&app, &template, there, n).await;
        there = n;
        let filled = began.elapsed().as_secs_f64();
        let mut measured = measure(&app, n, size).await;
        measured["fill_seconds"] = json!(filled);
        eprintln!("{measured}");
        found.push(measured);
    }
    println!("{}", json!({"database": if on_postgres() { "PostgreSQL" } else { "SQLite" }, "sizes": found}));
    app.stop().await;
}
