//! Flight SQL: the properties of the server, and the schemas of the answers to metadata commands and of the tables about tables.

use std::fmt::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::util::pretty::pretty_format_batches;
use arrow_flight::FlightInfo;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetTables};
use esker_tests::{TestApp, Transcript};
use futures::TryStreamExt;
use tonic::transport::Channel;

/// Describes a schema, one field a line: its name, its type, and whether it is required.
fn described(schema: &Schema) -> String {
    let mut text = String::new();
    for field in schema.fields() {
        let null = if field.is_nullable() { "" } else { " required" };
        let _ = writeln!(text, "{}: {}{null}", field.name(), field.data_type());
    }
    text
}

/// Fetches the answer that a flight is about.
async fn fetch(client: &mut FlightSqlServiceClient<Channel>, info: FlightInfo) -> Vec<RecordBatch> {
    let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
    let stream = client.do_get(ticket).await.expect("a stream");
    stream.try_collect().await.expect("batches")
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_info() {
    let app = TestApp::start().await;
    let mut client = app.flight().await;
    let info = client.get_sql_info(Vec::new()).await.expect("a flight");
    let batches = fetch(&mut client, info).await;
    let mut log = Transcript::of(&app);
    log.note_text("schema", &described(&batches[0].schema()));
    log.note_text("values", &pretty_format_batches(&batches).expect("text").to_string());
    insta::assert_snapshot!(log.text().replace(arrow::ARROW_VERSION, "[version of Arrow]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata() {
    let app = TestApp::start().await;
    app.table().await;
    let mut client = app.flight().await;
    let mut log = Transcript::of(&app);
    let mut answers = Vec::new();
    let info = client.get_catalogs().await.expect("a flight");
    answers.push(("catalogs", fetch(&mut client, info).await));
    let info = client.get_db_schemas(CommandGetDbSchemas::default()).await.expect("a flight");
    answers.push(("schemas", fetch(&mut client, info).await));
    let info = client.get_table_types().await.expect("a flight");
    answers.push(("table types", fetch(&mut client, info).await));
    let info = client.get_tables(CommandGetTables::default()).await.expect("a flight");
    answers.push(("tables", fetch(&mut client, info).await));
    for (title, batches) in &answers {
        log.note_text(title, &described(&batches[0].schema()));
        log.note_text("rows", &pretty_format_batches(batches).expect("text").to_string());
    }
    let with_schema = CommandGetTables { include_schema: true, ..CommandGetTables::default() };
    let info = client.get_tables(with_schema).await.expect("a flight");
    log.note_text("tables with their schemas", &described(&fetch(&mut client, info).await[0].schema()));
    insta::assert_snapshot!(log.text());
}

/// The columns of the tables in `system`, and of the tables about a table.
#[tokio::test(flavor = "multi_thread")]
async fn columns_of_system_and_metadata_tables() {
    let app = TestApp::start().await;
    super::two_files(&app).await;
    let mut log = Transcript::of(&app);
    let system = ["tables", "health", "jobs", "queries"].map(|name| format!("system.{name}"));
    let about = [
        "snapshots",
        "history",
        "refs",
        "metadata_log_entries",
        "properties",
        "manifests",
        "files",
        "data_files",
        "delete_files",
        "partitions",
    ]
    .map(|name| format!("n.\"t${name}\""));
    for table in system.iter().chain(&about) {
        let mut client = app.flight().await;
        match client.execute(format!("SELECT * FROM {table}"), None).await {
            Ok(info) => log.note_text(table, &described(&info.try_decode_schema().expect("a schema"))),
            Err(error) => log.note_text(table, &error.to_string()),
        }
    }
    insta::assert_snapshot!(log.text());
}
