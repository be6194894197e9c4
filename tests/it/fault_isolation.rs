//! One unreadable table, bad property or panic must not stop the work on other tables, and must be reported by name.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, LargeBinaryArray, ListArray,
    RecordBatch, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::array_value_to_string;
use arrow_flight::sql::CommandGetTables;
use esker::Config;
use esker_catalog::deletion::sweep;
use esker_format::Value as Cell;
use esker_state::AssessmentFailure;
use esker_tests::{Faults, Row, TestApp, TestTable, wait_for};
use esker_types::now_ms;
use futures::TryStreamExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::properties::{WriterProperties, WriterVersion};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::events::receiver;
use crate::histories::Random;

const TABLE: &str = "/api/v1/warehouses/default/namespaces/n/tables/t";

/// Returns the local path of a `file://` URI.
fn path(uri: &str) -> &str {
    uri.strip_prefix("file://").expect("a local file")
}

fn rows(n: i64) -> Vec<Row> {
    (n * 10..n * 10 + 10).map(|id| (id, format!("s{id}"), 0, None)).collect()
}

async fn set(app: &TestApp, table: &str, properties: Value) {
    let body = json!({"requirements": [], "updates": [{"action": "set-properties", "updates": properties}]});
    app.ok(Method::POST, &format!("/v1/default/namespaces/{}", table.replace('.', "/tables/")), Some(body)).await;
}

async fn text(app: &TestApp, path: &str) -> String {
    let (status, _, text) = app.send_raw(Method::GET, path, &[], None).await;
    assert!(status.is_success(), "{path}: {status} {text}");
    text
}

/// DataHub gets all readable tables, and of an unreadable one the name of the file.
#[tokio::test(flavor = "multi_thread")]
async fn datahub_gets_an_unreadable_table_and_the_healthy_ones_beside_it() {
    let (dir, [manifest, metadata]) = a_healthy_table_and_two_unreadable_ones().await;
    let (url, kept) = receiver().await;
    let _app = TestApp::restart_with(dir, |config| {
        (config.datahub.url, config.datahub.every_seconds) = (Some(url), 1);
    })
    .await;
    let verdict = |table: &str, rule: &str| {
        let kept = kept.lock().expect("a lock");
        let entities = kept.iter().flat_map(|body| body.as_array().into_iter().flatten()).cloned().collect::<Vec<Value>>();
        let about = |e: &Value| {
            let what = &e["assertionInfo"]["value"]["customAssertion"];
            what["type"] == format!("esker {rule}")
                && what["entity"].as_str().is_some_and(|urn| urn.contains(&format!(",{table},")))
        };
        entities.iter().rev().find(|e| about(e)).map(|e| e["assertionRunEvent"]["value"]["result"].clone())
    };
    for _ in 0..600 {
        if [("lake.list", "unreadable"), ("lake.file", "unreadable"), ("n.t", "small-files")]
            .iter()
            .all(|(t, r)| verdict(t, r).is_some())
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (table, file) in [("lake.list", &manifest), ("lake.file", &metadata)] {
        let result = verdict(table, "unreadable").expect("a result");
        assert_eq!(result["type"], "FAILURE", "{result}");
        assert_eq!(result["nativeResults"]["severity"], "critical", "{result}");
        assert!(result["nativeResults"]["evidence"].as_str().expect("evidence").contains(file.as_str()), "{result}");
    }
    assert_eq!(verdict("n.t", "unreadable").expect("a result")["type"], "SUCCESS");
    assert_eq!(verdict("n.t", "small-files").expect("a result")["type"], "FAILURE");
}

/// A table whose storage is unreachable for a while is reported differently from a damaged one.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_storage_is_away_is_a_warning_that_may_pass() {
    let faults = Faults::local();
    let app = TestApp::start_on(Arc::new(faults.clone()), |_| {}).await;
    app.table().await;
    let writer = TestTable::simple(&app);
    let prepared = writer.prepare_append(0..10).await;
    faults.set_unreachable_for(".avro");
    writer.commit(&prepared).await;
    let health = until_found(&app, "n.t", "unreadable", true).await;
    let found = finding(&health, "unreadable").expect("a finding");
    assert_eq!((&found["severity"], &health["score"]), (&json!("warning"), &json!(0)), "{health}");
    assert!(found["recommendation"].as_str().expect("text").contains("tries again"), "{health}");
    let fleet = app.ok(Method::GET, "/api/v1/tables", None).await;
    assert!(fleet[0]["error"].as_str().expect("an error").ends_with("it may pass, and is tried again"), "{fleet}");
    let known = column(&app, "SELECT error FROM system.health WHERE finding = 'unreadable'").await;
    assert!(known[0].ends_with("it may pass, and is tried again"), "{known:?}");
    let metrics = text(&app, "/metrics").await;
    assert!(metrics.contains("esker_tables_with_finding{code=\"unreadable\",severity=\"warning\"} 1"), "{metrics}");
    faults.set_unreachable_for("");
    until_found(&app, "n.t", "unreadable", false).await;
}

/// Returns a copy of a file with flipped bits in its pages.
fn flipped(file: &[u8], pages: &[std::ops::Range<usize>], random: &mut Random) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..=random.below(3) {
        let pages = &pages[random.below(pages.len() as u64) as usize];
        // The beginning of a page, with its header and levels, is damaged more often.
        let length = if random.one_in(2) { pages.len().min(48) } else { pages.len() };
        bytes[pages.start + random.below(length as u64) as usize] ^= 1 << random.below(8);
    }
    bytes
}

/// A query of damaged pages returns rows or an error that names the file. It neither panics nor hangs.
///
/// Rows may be returned because pages have no checksums.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_is_an_error_that_names_file_and_column() {
    const FILES: i32 = 240;
    let app = TestApp::start().await;
    let optional = |id: i32, name: &str, ty: Value| json!({"id": id, "name": name, "required": false, "type": ty});
    let fields = json!([
        optional(1, "id", json!("long")),
        optional(2, "p", json!("int")),
        optional(3, "s", json!("string")),
        optional(4, "b", json!("boolean")),
        optional(5, "d", json!("double")),
        optional(6, "n", json!("decimal(20, 2)")),
        optional(7, "l", json!({"type": "list", "element-id": 8, "element-required": false, "element": "int"})),
        optional(9, "g", json!({"type": "struct", "fields": [optional(10, "x", json!("binary"))]})),
    ]);
    let spec = json!([{"source-id": 2, "field-id": 1000, "name": "p", "transform": "identity"}]);
    let lake = TestTable::create_with_schema(&app, "t", fields, spec, json!({})).await;
    let schema = lake.arrow_schema().await;
    let mut random = Random(7);
    let (mut files, mut paths) = (Vec::new(), Vec::new());
    for i in 0..FILES {
        let properties = WriterProperties::builder()
            .set_writer_version(if i % 2 == 0 { WriterVersion::PARQUET_1_0 } else { WriterVersion::PARQUET_2_0 })
            .set_dictionary_enabled(i % 3 == 0)
            .set_compression(if i % 4 == 0 { Compression::SNAPPY } else { Compression::UNCOMPRESSED });
        let mut file = lake.parquet(&many_types(&schema, i), properties.build()).await;
        file.partition = [Some(Cell::Int(i))].into();
        let at = file.file_path.clone();
        let whole = std::fs::read(path(&at)).expect("a file");
        let footer = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(whole.clone())).expect("a footer");
        let range = |c: &ColumnChunkMetaData| c.byte_range().0 as usize..(c.byte_range().0 + c.byte_range().1) as usize;
        let pages: Vec<_> = footer.metadata().row_group(0).columns().iter().map(range).collect();
        std::fs::write(path(&at), flipped(&whole, &pages, &mut random)).expect("damaged");
        files.push(file);
        paths.push(at);
    }
    lake.add(files, []).await;
    let (mut right, mut named) = (0, 0);
    for (i, at) in paths.iter().enumerate() {
        match app.sql(&format!("SELECT * FROM lake.t WHERE p = {i}")).await {
            Ok(found) => {
                assert!(found.iter().map(RecordBatch::num_rows).sum::<usize>() <= ROWS as usize, "{at}");
                right += 1;
            }
            Err(error) => {
                assert!(error.contains(at), "{at} of page {i}: {error}");
                assert!(!error.contains("this is a bug"), "{error}");
                named += usize::from(error.contains(": column "));
            }
        }
    }
    assert!(right > 10 && named > 10, "{right} {named}");
    let health = until_found(&app, "lake.t", "damaged-files", true).await;
    assert_eq!(finding(&health, "damaged-files").expect("a finding")["severity"], "critical");
}

const ROWS: i32 = 300;

/// Returns rows with columns of many types, for one partition.
fn many_types(schema: &SchemaRef, partition: i32) -> RecordBatch {
    let some = |i: i32| i % 7 != 3;
    let DataType::List(element) = schema.field(6).data_type() else { panic!("{schema}") };
    let DataType::Struct(inner) = schema.field(7).data_type() else { panic!("{schema}") };
    let lengths: Vec<usize> = (0..ROWS).map(|i| (i % 4) as usize).collect();
    let items = lengths.iter().sum::<usize>() as i32;
    let nulls: NullBuffer = (0..ROWS).map(some).collect::<Vec<_>>().into();
    let list = ListArray::new(
        element.clone(),
        OffsetBuffer::from_lengths(lengths),
        Arc::new((0..items).map(|i| some(i).then_some(i)).collect::<Int32Array>()),
        None,
    );
    let inside: ArrayRef = Arc::new((0..ROWS).map(|i| Some(vec![i as u8; (i % 5) as usize])).collect::<LargeBinaryArray>());
    let decimals: Decimal128Array = (0..ROWS).map(|i| some(i).then_some(i128::from(i) * 7)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new((0..ROWS).map(|i| some(i).then_some(i64::from(i))).collect::<Int64Array>()),
        Arc::new(Int32Array::from(vec![partition; ROWS as usize])),
        Arc::new((0..ROWS).map(|i| some(i).then(|| format!("text {}", i % 40))).collect::<StringArray>()),
        Arc::new((0..ROWS).map(|i| some(i).then_some(i % 3 == 0)).collect::<BooleanArray>()),
        Arc::new((0..ROWS).map(|i| some(i).then_some(f64::from(i) / 3.0)).collect::<Float64Array>()),
        Arc::new(decimals.with_precision_and_scale(20, 2).expect("decimals")),
        Arc::new(list),
        Arc::new(StructArray::new(inner.clone(), vec![inside], Some(nulls))),
    ];
    RecordBatch::try_new(schema.clone(), columns).expect("a batch")
}

async fn health(app: &TestApp, table: &str) -> Value {
    let path = format!("/api/v1/warehouses/default/namespaces/{}/health", table.replace('.', "/tables/"));
    app.ok(Method::GET, &path, None).await
}

fn finding<'a>(health: &'a Value, code: &str) -> Option<&'a Value> {
    health["findings"].as_array().into_iter().flatten().find(|f| f["code"] == code)
}

/// Waits until a table has a finding, or no longer has it. Returns the table's health.
async fn until_found(app: &TestApp, table: &str, code: &str, there: bool) -> Value {
    for _ in 0..600 {
        let health = health(app, table).await;
        if finding(&health, code).is_some() == there {
            return health;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{table} and the finding {code}: {:#}", health(app, table).await);
}

/// Runs a statement. Returns the first column of its answer as text.
async fn column(app: &TestApp, sql: &str) -> Vec<String> {
    let batches = app.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let one =
        |b: &RecordBatch| (0..b.num_rows()).map(|i| array_value_to_string(b.column(0), i).expect("a text")).collect::<Vec<_>>();
    batches.iter().flat_map(one).collect()
}

/// Creates the healthy table `n.t` with six small files, and two damaged ones.
///
/// The manifest of `lake.list` and the metadata file of `lake.file` are damaged.
///
/// Returns the data directory, for a server with empty caches, and the URIs of the two damaged files.
async fn a_healthy_table_and_two_unreadable_ones() -> (TempDir, [String; 2]) {
    let app = TestApp::start().await;
    TestTable::six_files(&app).await;
    let mut broken = [String::new(), String::new()];
    for (i, name) in ["list", "file"].into_iter().enumerate() {
        let lake = TestTable::create(&app, name, 2, false, json!({})).await;
        lake.append(&rows(0)).await;
        let metadata = lake.metadata().await;
        let found = app.ok(Method::GET, &format!("/v1/default/namespaces/lake/tables/{name}"), None).await;
        let file = match name {
            "list" => lake.live(&metadata).await.manifests[0].manifest_path.clone(),
            _ => found["metadata-location"].as_str().expect("a location").to_owned(),
        };
        std::fs::write(path(&file), "garbage").expect("overwritten");
        broken[i] = file;
        let id = {
            let name = format!("lake.{name}").parse().expect("a name");
            let catalog = app.catalog();
            catalog.state().tables().table(catalog.warehouse(), &name).await.expect("a row").id
        };
        // Removes the assessment from before the damage.
        app.catalog()
            .state()
            .fleet()
            .record_health(id, "", Err(&AssessmentFailure { why: String::new(), passing: false }))
            .await
            .expect("kept");
    }
    (app.stop().await, broken)
}

/// Another version of Esker may store facts in a form that this one can't parse. The table is as readable as before.
#[tokio::test(flavor = "multi_thread")]
async fn facts_of_another_version_are_gathered_again() {
    let app = TestApp::start().await;
    app.table().await;
    app.sql("INSERT INTO n.t VALUES (1, 'a')").await.expect("a row");
    let store = async |app: &TestApp| {
        let catalog = app.catalog();
        let row = catalog.state().tables().table(catalog.warehouse(), &"n.t".parse().expect("a name")).await.expect("a row");
        catalog
            .state()
            .fleet()
            .record_health(row.id, &row.metadata_location, Ok(("[\"facts\"]", 100, "{}")))
            .await
            .expect("stored");
    };
    store(&app).await;
    // The restart forgets the facts that are parsed already.
    let app = TestApp::restart(app.stop().await).await;
    let all = app.catalog().fleet().await.expect("the fleet");
    assert_eq!(all.iter().map(|t| t.facts.as_ref().map(|f| f.data_files)).collect::<Vec<_>>(), [Ok(1)]);
    store(&app).await;
    assert_eq!(health(&app, "n.t").await["facts"]["data_files"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cant_be_read_is_listed_everywhere_beside_the_healthy_ones() {
    let (dir, [manifest, metadata]) = a_healthy_table_and_two_unreadable_ones().await;
    let app = TestApp::restart(dir).await;

    let all = ["n.t", "lake.list", "lake.file"];
    let listed = column(&app, "SELECT table_schema || '.' || table_name FROM information_schema.tables").await;
    assert!(all.iter().all(|name| listed.iter().any(|l| l == name)), "{listed:?}");
    let shown = app.sql("SHOW TABLES").await.expect("the list");
    assert!(shown.iter().map(RecordBatch::num_rows).sum::<usize>() >= 3);
    let columns = column(&app, "SELECT table_name || '.' || column_name FROM information_schema.columns").await;
    assert!(columns.contains(&"t.id".to_owned()) && columns.contains(&"list.p".to_owned()), "{columns:?}");
    assert!(!columns.iter().any(|c| c.starts_with("file.")), "{columns:?}");

    let mut client = app.flight().await;
    let info = client.get_tables(CommandGetTables { include_schema: true, ..CommandGetTables::default() }).await.expect("tables");
    let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
    let batches: Vec<RecordBatch> = client.do_get(ticket).await.expect("a stream").try_collect().await.expect("tables");
    let names = |b: &RecordBatch| {
        let names = b.column_by_name("table_name").expect("names").as_any().downcast_ref::<StringArray>().expect("text").clone();
        (0..names.len()).map(|i| names.value(i).to_owned()).collect::<Vec<_>>()
    };
    let mut listed: Vec<String> = batches.iter().flat_map(names).collect();
    listed.sort();
    assert_eq!(listed, ["file", "list", "t"]);

    let fleet = app.ok(Method::GET, "/api/v1/tables", None).await;
    let of = |name: &str| fleet.as_array().expect("tables").iter().find(|t| t["table"] == name).expect("listed").clone();
    for (name, file) in [("lake.list", manifest.as_str()), ("lake.file", metadata.as_str())] {
        let table = of(name);
        assert_eq!((&table["findings"], &table["score"]), (&json!(["unreadable"]), &Value::Null), "{table}");
        assert!(table["error"].as_str().expect("an error").contains(file), "{table} names {file}");
        let health = health(&app, name).await;
        let unreadable = finding(&health, "unreadable").expect("a finding");
        assert_eq!(unreadable["severity"], "critical");
        assert!(unreadable["evidence"].as_str().expect("evidence").contains(file), "{health}");
        let page = text(&app, &format!("/warehouses/default/namespaces/{}", name.replace('.', "/tables/"))).await;
        assert!(page.contains("unreadable") && page.contains(file), "{page}");
        let error = app.sql(&format!("SELECT * FROM {name}")).await.expect_err("it can't be read");
        assert!(error.contains(file), "{error}");
    }
    assert_eq!(of("n.t")["data_files"], 6);
    let page = text(&app, "/").await;
    assert!(all.iter().all(|name| page.contains(&format!(">{name}<"))) && page.contains("unreadable"), "{page}");
    assert!(page.contains("poor or without a score."), "{page}");
    let metrics = text(&app, "/metrics").await;
    assert!(metrics.contains("esker_tables_with_finding{code=\"unreadable\",severity=\"critical\"} 2"), "{metrics}");
    let metrics = text(&app, "/metrics/tables").await;
    assert!(metrics.contains("esker_tables_not_examined 2"), "{metrics}");
    assert!(metrics.contains("esker_table_unreadable{namespace=\"lake\",table=\"list\",warehouse=\"default\"} 1"), "{metrics}");
    assert!(metrics.contains("esker_table_data_files{namespace=\"n\",table=\"t\",warehouse=\"default\"} 6"), "{metrics}");
    let known = column(&app, "SELECT namespace || '.' || \"table\" FROM system.tables").await;
    assert!(all.iter().all(|name| known.iter().any(|l| l == name)), "{known:?}");
    let unreadable = column(&app, "SELECT \"table\" FROM system.health WHERE finding = 'unreadable' ORDER BY 1").await;
    assert_eq!(unreadable, ["file", "list"]);
    let paying = app.ok(Method::GET, "/api/v1/warehouses/default/recommendations", None).await;
    assert!(paying.as_array().expect("jobs").iter().any(|job| job["table"] == "n.t"), "{paying}");
}

fn policy(values: &'static [(&str, &str)]) -> impl FnOnce(&mut Config) {
    move |config| {
        config.maintenance.autopilot_seconds = 1;
        config.policy = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_autopilot_the_sweep_and_the_table_of_health_go_on_beside_unreadable_tables() {
    let (dir, _) = a_healthy_table_and_two_unreadable_ones().await;
    let app = TestApp::restart_with(dir, |config| {
        config.health.table_seconds = 1;
        policy(&[("autopilot", "true"), ("orphans.schedule", "")])(config);
    })
    .await;
    let writer = TestTable::simple(&app);
    for _ in 0..1000 {
        if writer.data_paths().await.len() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(writer.data_paths().await.len(), 1, "it was compacted");
    let expired = app.job("expire", json!({"older-than-ms": now_ms() + 60_000})).await;
    assert_eq!(expired["state"], "succeeded", "{expired}");
    let swept = sweep(app.catalog(), now_ms() + 1000).await.expect("swept");
    assert!(swept.deleted >= 6, "{swept:?}");
    let sql = "SELECT DISTINCT worst_finding FROM system.table_health WHERE \"table\" = 'list'";
    for _ in 0..600 {
        if app.sql(sql).await.is_ok_and(|batches| batches.iter().any(|b| b.num_rows() > 0)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(column(&app, sql).await, ["unreadable"]);
    let decision = app.ok(Method::GET, "/api/v1/warehouses/default/namespaces/n/tables/t/policy", None).await;
    assert!(decision["decision"].is_object(), "{decision}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_panics_has_failed_and_its_table_is_free() {
    for point in ["job-compact", "compact-after-write", "compact-before-commit"] {
        let app = TestApp::start_with(|config| config.debug.panic_at = Some(point.to_owned())).await;
        let writer = TestTable::six_files(&app).await;
        let job = app.job("compact", json!({})).await;
        assert_eq!((&job["state"], &job["attempts"]), (&json!("failed"), &json!(1)), "{job}");
        let error = job["error"].as_str().expect("an error");
        assert!(error.contains("a panic: ") && error.contains(point), "{error}");
        if point == "job-compact" {
            assert!(error.starts_with("compact: "), "{error}");
        }
        let next = app.job("expire", json!({"older-than-ms": 1})).await;
        assert_eq!(next["state"], "succeeded", "{next}");
        assert_eq!(writer.data_paths().await.len(), 6);
        writer.append_ids(100..110).await;
        assert_eq!(writer.ids().await.expect("ids").len(), 70);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_background_task_that_panics_is_started_again_counted_and_reported_by_readyz() {
    let app = TestApp::start_with(|config| config.debug.panic_at = Some("task-observer-default".to_owned())).await;
    let writer = TestTable::six_files(&app).await;
    let restarts = async || {
        let metrics = text(&app, "/metrics").await;
        let line =
            metrics.lines().find_map(|l| l.strip_prefix("esker_background_task_restarts_total{task=\"observer-default\"} "));
        line.expect("a metric").parse::<u64>().expect("a number")
    };
    wait_for("the task was not restarted twice", async || (restarts().await >= 2).then_some(())).await;
    let ready = text(&app, "/readyz").await;
    assert!(ready.starts_with("ready\n") && ready.contains("degraded: observer-default"), "{ready}");
    assert!(ready.contains("a bug at task-observer-default"), "{ready}");
    assert!(text(&app, "/metrics").await.contains("esker_background_task_restarts_total{task=\"worker\"} 0"));
    assert_eq!(app.job("compact", json!({})).await["state"], "succeeded");
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_property_that_makes_no_sense_costs_itself_alone_and_is_named() {
    let app = TestApp::start().await;
    let bad = [
        ("write.target-file-size-bytes", "200KB"),
        ("commit.manifest.target-size-bytes", "8MB"),
        ("write.metadata.delete-after-commit.enabled", "yes"),
        ("write.metadata.previous-versions-max", "many"),
        ("write.metadata.compression-codec", "zstd"),
        ("write.delete.isolation-level", "snapshots"),
        ("write.update.isolation-level", "none"),
        ("schema.name-mapping.default", "{"),
        ("write.parquet.compression-codec", "lzo"),
        ("write.parquet.compression-level", "99"),
        ("write.parquet.row-group-size-bytes", "-1"),
        ("write.parquet.page-size-bytes", "1MB"),
        ("write.parquet.page-row-limit", "0"),
        ("write.parquet.dict-size-bytes", "x"),
        ("write.parquet.page-version", "v9"),
        ("write.parquet.bloom-filter-enabled.column.id", "maybe"),
        ("write.parquet.bloom-filter-fpp.column.id", "2"),
        ("write.parquet.stats-enabled.column.id", "on"),
        ("write.metadata.metrics.default", "truncate(x)"),
        ("write.metadata.metrics.column.id", "most"),
        ("write.metadata.metrics.max-inferred-column-defaults", "-1"),
        ("esker.autopilot", "yes"),
        ("esker.compact.schedule", "every day"),
        ("esker.expire.max-age", "five days"),
        ("esker.budget.bytes", "-3"),
        ("esker.compact.after-comits", "3"),
    ];
    app.table().await;
    set(&app, "n.t", bad.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect::<serde_json::Map<_, _>>().into()).await;
    for i in 0..6 {
        app.sql(&format!("INSERT INTO n.t VALUES ({i}, 'a'), ({}, 'b')", i + 100)).await.expect("rows");
    }
    app.sql("DELETE FROM n.t WHERE id = 3").await.expect("deleted");
    app.sql("UPDATE n.t SET s = 'c' WHERE id = 4").await.expect("updated");
    let job = app.job("compact", json!({"min-input-files": 2})).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(column(&app, "SELECT count(*) FROM n.t").await, ["11"]);
    let health = health(&app, "n.t").await;
    assert_eq!(health["facts"]["target_file_bytes"], 512 << 20);
    let finding = finding(&health, "bad-property").expect("a finding");
    let evidence = finding["evidence"].as_str().expect("evidence");
    for (key, value) in bad {
        assert!(evidence.contains(&format!("{key} = {value:?} is not ")), "{key}: {evidence}");
    }
    assert!(evidence.contains("; 512 MiB is used") && evidence.contains("serializable is used"), "{evidence}");
    let remove = json!({"requirements": [], "updates": [{"action": "remove-properties", "removals": bad.map(|(k, _)| k)}]});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(remove)).await;
    until_found(&app, "n.t", "bad-property", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_property_protects_stays_protected_while_it_makes_no_sense() {
    let app = TestApp::start_with(|config| config.maintenance.grace_seconds = 0).await;
    let writer = TestTable::six_files(&app).await;
    let expire = json!({"older-than-ms": now_ms() + 60_000});
    let refused = async |kind: &str, options: &Value, key: &str| {
        let (code, _, message) = app.refused(Method::POST, &format!("{TABLE}/{kind}"), Some(options.clone())).await;
        assert_eq!(code, 422, "{kind}: {message}");
        assert!(message.contains(key), "{kind}: {message}");
    };
    for (key, value, kind, options) in [
        ("history.expire.max-snapshot-age-ms", "5d", "expire", &json!({})),
        ("history.expire.max-snapshot-age-ms", "-1", "expire", &expire),
        ("history.expire.min-snapshots-to-keep", "all", "expire", &expire),
        ("history.expire.max-ref-age-ms", "7 days", "expire", &expire),
        ("esker.expire.writer-state-ms", "1w", "expire", &expire),
        ("gc.enabled", "flase", "expire", &expire),
        ("gc.enabled", "flase", "orphans", &json!({})),
        ("esker.orphans.min-age-ms", "3 days", "orphans", &json!({"older-than-age-ms": 86_400_000})),
        ("esker.freeze", "ture", "compact", &json!({})),
    ] {
        set(&app, "n.t", json!({key: value})).await;
        let named = if key == "esker.freeze" { "frozen" } else { key };
        refused(kind, options, named).await;
        let health = health(&app, "n.t").await;
        let evidence = finding(&health, "bad-property").expect("a finding")["evidence"].as_str().expect("text").to_owned();
        assert!(evidence.contains(&format!("{key} = {value:?}")), "{evidence}");
        let remove = json!({"requirements": [], "updates": [{"action": "remove-properties", "removals": [key]}]});
        app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(remove)).await;
    }
    set(&app, "n.t", json!({"esker.expire.min-age-ms": "0"})).await;
    let expired = app.job("expire", expire).await;
    assert_eq!(expired["state"], "succeeded", "{expired}");
    // With an unreadable `gc.enabled`, files in quarantine stay there.
    set(&app, "n.t", json!({"gc.enabled": "flase"})).await;
    assert_eq!(sweep(app.catalog(), now_ms() + 1000).await.expect("swept").deleted, 0);
    set(&app, "n.t", json!({"gc.enabled": "true"})).await;
    assert!(sweep(app.catalog(), now_ms() + 1000).await.expect("swept").deleted > 0);
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_data_file_is_a_finding_that_names_it_until_it_is_back() {
    let app = TestApp::start().await;
    let writer = TestTable::six_files(&app).await;
    let lost = writer.data_paths().await[2].clone();
    let kept = std::fs::read(path(&lost)).expect("read");
    std::fs::remove_file(path(&lost)).expect("removed");
    let error = writer.ids().await.expect_err("it can't be read");
    assert!(error.contains(&lost), "{error}");
    let health = until_found(&app, "n.t", "damaged-files", true).await;
    let finding = finding(&health, "damaged-files").expect("a finding");
    assert_eq!(finding["severity"], "critical");
    let evidence = finding["evidence"].as_str().expect("evidence");
    assert!(evidence.contains(&format!("{lost} is gone")) && evidence.contains("query"), "{evidence}");
    assert!(text(&app, "/metrics").await.contains("esker_damaged_files 1"));
    assert!(text(&app, "/warehouses/default/namespaces/n/tables/t").await.contains(&lost));
    let count_events = async |kind: &str| {
        let events = app.ok(Method::GET, "/api/v1/events", None).await;
        events["events"].as_array().expect("events").iter().filter(|e| e["type"] == kind).count()
    };
    assert_eq!(count_events("table.file-damaged").await, 1);
    std::fs::write(path(&lost), kept).expect("put back");
    until_found(&app, "n.t", "damaged-files", false).await;
    assert_eq!((count_events("table.file-damaged").await, count_events("table.file-mended").await), (1, 1));
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_that_meets_a_damaged_file_names_it_and_is_not_tried_over_and_over() {
    for cut in [true, false] {
        let app = TestApp::start_with(policy(&[("orphans.schedule", ""), ("respect-others", "0s")])).await;
        let writer = TestTable::six_files(&app).await;
        let file = writer.data_paths().await[4].clone();
        let whole = std::fs::read(path(&file)).expect("read");
        let broken = if cut { whole[..whole.len() / 2].to_vec() } else { vec![7; whole.len()] };
        std::fs::write(path(&file), broken).expect("overwritten");
        let job = app.job("compact", json!({})).await;
        assert_eq!((&job["state"], &job["attempts"]), (&json!("failed"), &json!(1)), "{job}");
        assert!(job["error"].as_str().expect("an error").contains(&file), "{job}");
        let health = until_found(&app, "n.t", "damaged-files", true).await;
        let evidence = finding(&health, "damaged-files").expect("a finding")["evidence"].as_str().expect("text").to_owned();
        assert!(evidence.contains(&format!("{file} is damaged")), "{evidence}");
        assert!(evidence.contains(job["id"].as_str().expect("an id")), "{evidence}");
        set(&app, "n.t", json!({"esker.autopilot": "true"})).await;
        let reason = wait_for("the autopilot did not name the file", async || {
            let policy = app.ok(Method::GET, &format!("{TABLE}/policy"), None).await;
            policy["decision"]["reason"].as_str().filter(|reason| reason.contains(&file)).map(str::to_owned)
        })
        .await;
        assert!(reason.contains("can't be read"), "{reason}");
        let jobs = app.ok(Method::GET, "/api/v1/jobs?kind=compact", None).await;
        assert_eq!(jobs.as_array().expect("jobs").len(), 1, "{jobs}");
    }
}

/// Creates a table in whose history one snapshot alone refers to a data file, and removes its manifest list or its manifest.
///
/// Returns the server, the snapshot's id, the path of the removed file and that of the data file.
async fn with_a_damaged_snapshot(of_list: bool) -> (TestApp, i64, String, String) {
    let app = TestApp::start().await;
    let writer = TestTable::six_files(&app).await;
    let before = writer.data_paths().await;
    writer.append_ids(60..65).await;
    let only = writer.data_paths().await.into_iter().find(|file| !before.contains(file)).expect("a new file");
    let metadata = writer.metadata().await;
    let snapshot = metadata.current_snapshot().expect("a snapshot").clone();
    assert_eq!(app.job("compact", json!({"rewrite-all": true})).await["state"], "succeeded");
    let source = esker_table::Manifests::new(app.catalog().storage().clone(), 0);
    let manifests = esker_table::load_manifests(&source, &snapshot).await.expect("manifests");
    let manifest = manifests.into_iter().find(|m| m.added_snapshot_id == snapshot.snapshot_id).expect("its own").manifest_path;
    let lost = if of_list { snapshot.manifest_list.clone().expect("a manifest list") } else { manifest };
    std::fs::remove_file(path(&lost)).expect("removed");
    // A running server has the manifest in its cache.
    (TestApp::restart(app.stop().await).await, snapshot.snapshot_id, lost, only)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_snapshot_that_cant_be_read_is_a_finding_until_it_expires_and_then_stops_nothing() {
    for of_list in [true, false] {
        let (app, id, lost, only) = with_a_damaged_snapshot(of_list).await;
        let writer = TestTable::simple(&app);
        assert_eq!(writer.ids().await.expect("ids"), (0..65).collect::<Vec<_>>());
        let job = app.job("orphans", json!({})).await;
        let error = job["error"].as_str().expect("an error");
        assert_eq!((&job["state"], &job["attempts"]), (&json!("failed"), &json!(1)), "{job}");
        assert!(error.contains(&lost) && error.contains(&id.to_string()) && error.contains("expire"), "{error}");
        let health = until_found(&app, "n.t", "damaged-snapshots", true).await;
        let found = finding(&health, "damaged-snapshots").expect("a finding");
        let (evidence, way_out) = (found["evidence"].as_str().expect("text"), found["recommendation"].as_str().expect("text"));
        assert!(evidence.contains(&format!("snapshot {id}")) && evidence.contains(&format!("{lost} is gone")), "{evidence}");
        assert!(found["severity"] == "warning" && way_out.contains("maintain expire"), "{found}");
        assert!(finding(&health, "damaged-files").is_none(), "the table itself is whole: {health}");
        assert!(text(&app, "/metrics").await.contains("esker_damaged_files 0"));

        let job = app.job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
        assert_eq!((&job["state"], &job["outcome"]["snapshots"]), (&json!("succeeded"), &json!(7)), "{job}");
        let unread = &job["outcome"]["unread"];
        assert_eq!((&unread[0]["path"], &unread[0]["snapshot-id"]), (&json!(lost), &json!(id)), "{job}");
        let swept = sweep(app.catalog(), now_ms() + 25 * 3600 * 1000).await.expect("swept");
        assert!(swept.sick_tables == 0 && swept.deleted > 0, "{swept:?}");
        assert!(std::path::Path::new(path(&only)).exists(), "what could not be judged stays");
        until_found(&app, "n.t", "damaged-snapshots", false).await;
        // The data file is unreferenced now, and so is the manifest if its list was removed.
        let orphans = app.ok(Method::POST, &format!("{TABLE}/orphans?dry-run=true"), Some(json!({}))).await;
        assert_eq!(orphans["young"], if of_list { 2 } else { 1 }, "{orphans}");
        assert_eq!(writer.ids().await.expect("ids"), (0..65).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_names_an_earlier_snapshot_that_cant_be_read_and_tells_health() {
    for of_list in [true, false] {
        let (app, id, lost, _) = with_a_damaged_snapshot(of_list).await;
        let job = app.job("check", json!({})).await;
        let findings = job["outcome"]["findings"].as_array().expect("findings");
        let named: Vec<_> = findings.iter().map(|f| (&f["kind"], &f["path"], &f["snapshot-id"])).collect();
        assert_eq!(named, [(&json!("unreadable-snapshot"), &json!(lost), &json!(id))], "{job}");
        assert!(findings[0]["repair"].as_str().expect("text").contains("expire"), "{job}");
        until_found(&app, "n.t", "damaged-snapshots", true).await;
    }
}
