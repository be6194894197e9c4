//! SQL on tables with row filters and column masks: no statement returns or reveals a hidden row or a masked value.

use arrow::array::RecordBatch;
use esker_access::{
    AccessMode, ColumnMaskRow, CompareOp, FilterExpr, MaskAction, Member, Privilege, PrivilegeSet, RowFilterRow, RuleChange,
};
use esker_format::SchemaRef;
use esker_state::AuditDecision;
use esker_tests::{AccessTest, TestTable};
use reqwest::Method;
use serde_json::json;
use tonic::Code;
use uuid::Uuid;

use super::sql::{code_of, fetch, lines, run};

/// The table of the tests here. The rows of `ruritania` are shown; what is divided by the salary fails on another row.
const PEOPLE: &str = "CREATE TABLE n.people AS SELECT id, region, email, salary, \
    CASE WHEN city IS NOT NULL THEN named_struct('city', city, 'zip', zip) END AS home \
    FROM (VALUES (1, 'ruritania', 'anna@x.eu', 10, 'Bonn', '53111'), (2, 'borduria', 'bob77@y.us', 0, 'Reno', '89501'), \
    (3, 'ruritania', NULL, 30, 'Ulm', '89073'), (4, NULL, 'dora@z.com', 40, NULL, NULL)) \
    AS v(id, region, email, salary, city, zip)";

/// The end of the refusal of what goes past filters and masks.
const RESTRICTED: &str = "has row filters or column masks for the caller";

/// A server with access control, and the client `bi`, who may read, create and change tables of the namespace `n`.
pub(super) struct RestrictedReader {
    pub(super) test: AccessTest,
    token: String,
}

impl RestrictedReader {
    /// Starts a server.
    pub(super) async fn start() -> Self {
        let test = AccessTest::start(AccessMode::On).await;
        test.app.namespace().await;
        let token = test.client("bi").await;
        let privileges = [
            Privilege::List,
            Privilege::ReadMetadata,
            Privilege::ReadData,
            Privilege::Append,
            Privilege::Modify,
            Privilege::CreateTable,
        ];
        test.grant("bi", test.namespace("n"), PrivilegeSet::of(&privileges)).await;
        Self { test, token }
    }

    /// Starts a server with the table `n.people`.
    async fn with_people() -> Self {
        let reader = Self::start().await;
        reader.run(PEOPLE).await;
        reader
    }

    /// Runs a statement of the administrator.
    pub(super) async fn run(&self, sql: &str) -> Vec<String> {
        lines(&self.test.app.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")))
    }

    /// Runs a statement of `bi`. Returns the lines of the answer.
    pub(super) async fn sql(&self, sql: &str) -> Result<Vec<String>, String> {
        run(&mut self.test.app.flight_as(&self.token).await, sql).await
    }

    /// Runs a statement of `bi`. Returns the answer as it came.
    pub(super) async fn batches(&self, sql: &str) -> Result<Vec<RecordBatch>, String> {
        let mut client = self.test.app.flight_as(&self.token).await;
        let info = client.execute(sql.to_owned(), None).await.map_err(|e| e.to_string())?;
        fetch(&mut client, info).await
    }

    async fn rows(&self, sql: &str) -> Vec<String> {
        self.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// Returns the present schema of a table.
    pub(super) async fn schema(&self, table: &str) -> SchemaRef {
        let catalog = self.test.app.catalog();
        let row = catalog.table(&table.parse().expect("a name")).await.expect("a table");
        catalog.load_row(row).await.expect("metadata").metadata.current_schema().clone()
    }

    /// Sets the row filters and the column masks of a table, in place of earlier ones.
    pub(super) async fn restrict(&self, table: &str, filters: &[(Member, FilterExpr)], masks: &[(i32, MaskAction, Vec<Member>)]) {
        let table = self.test.table_id(table).await;
        let rows = self.test.app.catalog().state().access().rows().await.expect("rules");
        let mut changes = Vec::new();
        for row in rows.filters.into_iter().filter(|row| row.table == table) {
            changes.push(RuleChange::RemoveRowFilter { table, id: row.id });
        }
        for row in rows.masks.into_iter().filter(|row| row.table == table) {
            changes.push(RuleChange::RemoveColumnMask { table, field_id: row.field_id });
        }
        for (to, filter) in filters {
            let (id, to, filter) = (Uuid::now_v7().to_string(), to.clone(), filter.clone());
            changes.push(RuleChange::SetRowFilter { filter: RowFilterRow { id, table, to, filter } });
        }
        for (field_id, action, except) in masks {
            let (field_id, action, except) = (*field_id, *action, except.clone());
            changes.push(RuleChange::SetColumnMask { mask: ColumnMaskRow { table, field_id, action, except } });
        }
        if !changes.is_empty() {
            self.test.change(changes).await;
        }
    }

    /// Shows `bi` the people of `ruritania`, with masks on fields by name.
    async fn restrict_people(&self, masks: &[(&str, MaskAction)]) {
        let schema = self.schema("n.people").await;
        let field = |name: &str| schema.field_id_by_name(name).expect("a field");
        let filter = equals(field("region"), "ruritania");
        let masks: Vec<_> = masks.iter().map(|(name, action)| (field(name), *action, Vec::new())).collect();
        self.restrict("n.people", &[(bi(), filter)], &masks).await;
    }
}

fn bi() -> Member {
    Member::client("bi")
}

fn equals(field_id: i32, value: &str) -> FilterExpr {
    FilterExpr::Compare { op: CompareOp::Eq, field_id, value: json!(value) }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_sees_masked_values_of_the_rows_that_pass() {
    let reader = RestrictedReader::with_people().await;
    reader.restrict_people(&[("email", MaskAction::MaskAlphanum), ("home.city", MaskAction::MaskToFixedValue)]).await;
    for (sql, expected) in [
        (
            "SELECT id, email, home FROM n.people ORDER BY id",
            vec!["1|xxxx@x.xx|{city: XXXXXXXX, zip: 53111}", "3||{city: XXXXXXXX, zip: 89073}"],
        ),
        ("SELECT count(*) FROM n.people", vec!["2"]),
        ("SELECT count(*) FROM n.people WHERE region = 'borduria' OR region IS NULL", vec!["0"]),
        ("SELECT min(id), max(id), sum(salary), min(email), count(email) FROM n.people", vec!["1|3|40|xxxx@x.xx|1"]),
        ("SELECT region, count(*) FROM n.people GROUP BY region", vec!["ruritania|2"]),
        ("SELECT id FROM n.people WHERE email LIKE 'anna%'", vec![]),
        ("SELECT id FROM n.people WHERE home.city = 'Bonn'", vec![]),
        ("SELECT home.city, home.zip FROM n.people WHERE home.zip = '53111'", vec!["XXXXXXXX|53111"]),
        ("SELECT count(*) FROM (SELECT id FROM n.people LIMIT 3)", vec!["2"]),
        ("SELECT id FROM n.people ORDER BY salary DESC LIMIT 1", vec!["3"]),
        (
            "SELECT a.id, b.id FROM n.people AS a JOIN n.people AS b ON a.region = b.region ORDER BY 1, 2",
            vec!["1|1", "1|3", "3|1", "3|3"],
        ),
        ("SELECT id FROM n.people WHERE id IN (SELECT id FROM n.people WHERE salary < 20)", vec!["1"]),
        ("SELECT (SELECT max(salary) FROM n.people)", vec!["30"]),
        ("SELECT salary, count(*) OVER () FROM n.people ORDER BY 1", vec!["10|2", "30|2"]),
        (
            "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r, (SELECT count(*) AS c FROM n.people) AS p \
             WHERE i < p.c) SELECT max(i) FROM r",
            vec!["2"],
        ),
        ("SELECT upper(email) FROM n.people FOR VERSION AS OF 'main' WHERE id = 1", vec!["XXXX@X.XX"]),
    ] {
        assert_eq!(reader.rows(sql).await, expected, "{sql}");
    }
    let all = reader.sql("SELECT * FROM n.people ORDER BY id").await.expect("rows");
    assert_eq!(all.len(), 2);
    assert_eq!(reader.run("SELECT count(*) FROM n.people").await, ["0"], "no filter names the administrator");
}

/// A division by zero on a row that the caller may not see would tell what is in the row.
#[tokio::test(flavor = "multi_thread")]
async fn no_expression_fails_on_a_hidden_row() {
    let reader = RestrictedReader::with_people().await;
    let queries = [
        ("SELECT id, 100 / salary FROM n.people ORDER BY id", vec!["1|10", "3|3"]),
        ("SELECT id FROM n.people WHERE 100 / salary > 5", vec!["1"]),
        ("SELECT id FROM n.people WHERE id > 0 AND 100 / salary > 5", vec!["1"]),
        ("SELECT sum(100 / salary) FROM n.people", vec!["13"]),
        ("SELECT a.id FROM n.people AS a JOIN n.people AS b ON a.id = b.id AND 100 / a.salary > 5", vec!["1"]),
        ("SELECT max(1 / (salary - 40)) FROM n.people", vec!["0"]),
    ];
    for (sql, _) in &queries {
        assert!(reader.sql(sql).await.is_err(), "{sql} fails on all rows");
    }
    reader.restrict_people(&[]).await;
    for (sql, expected) in queries {
        assert_eq!(reader.rows(sql).await, expected, "{sql}");
    }
    reader.restrict_people(&[("email", MaskAction::ReplaceWithNull)]).await;
    assert_eq!(reader.rows("SELECT CAST(email AS INT) FROM n.people").await, ["", ""], "no error has a masked value");
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_show_neither_filters_nor_files_nor_counts() {
    let reader = RestrictedReader::with_people().await;
    reader.restrict_people(&[("email", MaskAction::MaskAlphanum)]).await;
    for explain in ["EXPLAIN", "EXPLAIN VERBOSE", "EXPLAIN ANALYZE", "EXPLAIN ANALYZE VERBOSE"] {
        for query in ["SELECT id, email FROM n.people WHERE id > 1", "SELECT count(*), max(salary) FROM n.people"] {
            let plan = reader.rows(&format!("{explain} {query}")).await.concat();
            assert!(plan.contains("RestrictedExec"), "{explain} {query}: {plan}");
            for hidden in ["ruritania", "region", "alphanum", ".parquet", "DataSourceExec", "output_rows=4", "files_pruned"] {
                assert!(!plan.contains(hidden), "{explain} {query} shows {hidden}: {plan}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_shows_counts_or_values_of_all_rows_is_refused_or_left_out() {
    let reader = RestrictedReader::with_people().await;
    let path = "/api/v1/warehouses/default/namespaces/n/tables/people/expire";
    let accepted = reader.test.app.ok(Method::POST, path, Some(json!({}))).await;
    reader.test.app.wait_for_job(accepted["job-id"].as_str().expect("an id")).await;
    let counts = "SELECT records IS NULL, data_files IS NULL, partitions IS NULL, location IS NULL FROM system.tables \
        WHERE \"table\" = 'people'";
    let jobs = "SELECT DISTINCT kind, state, plan IS NULL, outcome IS NULL FROM system.jobs WHERE kind = 'expire'";
    let health = "SELECT count(*) > 0, count(score), count(evidence) FROM system.health WHERE \"table\" = 'people'";
    let read = "SELECT max(files_opened) > 0 FROM system.queries WHERE sql LIKE '%FROM n.people%'";
    assert_eq!(reader.rows(counts).await, ["false|false|false|false"]);
    assert_eq!(reader.rows(jobs).await, ["expire|succeeded|false|false"]);

    reader.restrict_people(&[]).await;
    for what in ["snapshots", "manifests", "files", "data_files", "delete_files", "partitions"] {
        let sql = format!("SELECT * FROM n.\"people${what}\"");
        let error = reader.sql(&sql).await.expect_err(what);
        assert!(error.contains(&format!("the metadata table ${what} can't be read")) && error.contains(RESTRICTED), "{error}");
        assert_eq!(code_of(&reader.test.app, &reader.token, &sql).await, Code::PermissionDenied);
    }
    for what in ["history", "refs", "metadata_log_entries", "properties"] {
        reader.rows(&format!("SELECT * FROM n.\"people${what}\"")).await;
    }
    assert_eq!(reader.rows(counts).await, ["true|true|true|false"]);
    assert_eq!(reader.rows(jobs).await, ["expire|succeeded|true|true"]);
    assert!(reader.rows(health).await.concat().starts_with("true|0|0"));
    reader.rows("SELECT id FROM n.people").await;
    assert_eq!(reader.rows(read).await, ["false"], "the log counts nothing below a restricted scan");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_unmasks_nothing_and_time_travel_neither() {
    let reader = RestrictedReader::with_people().await;
    let people = TestTable::simple_named(&reader.test.app, "people");
    let body = reader.test.app.ok(Method::GET, &people.path(), None).await;
    let before = body["metadata"]["current-snapshot-id"].as_i64().expect("a snapshot");
    let mut schema = body["metadata"]["schemas"][0].clone();
    let fields = schema["fields"].as_array_mut().expect("fields");
    let email = fields.iter_mut().find(|field| field["name"] == "email").expect("a field");
    email["name"] = json!("mail");
    fields.push(json!({"id": 50, "name": "later", "required": false, "type": "string"}));
    people.update(json!([{"action": "add-schema", "schema": schema}, {"action": "set-current-schema", "schema-id": -1}])).await;

    reader.restrict_people(&[("mail", MaskAction::ShowLast4)]).await;
    assert_eq!(reader.rows("SELECT mail FROM n.people WHERE id = 1").await, ["xxxx@x.eu"]);
    let old = format!("SELECT email FROM n.people FOR VERSION AS OF {before} ORDER BY id");
    assert_eq!(reader.rows(&old).await.len(), 2);
    assert!(!reader.rows(&old).await.concat().contains("anna"));

    let later = reader.schema("n.people").await.field_id_by_name("later").expect("a field");
    reader.restrict("n.people", &[(bi(), FilterExpr::IsNull(later))], &[]).await;
    assert_eq!(reader.rows("SELECT count(*) FROM n.people").await, ["4"]);
    assert_eq!(reader.rows(&old).await, Vec::<String>::new(), "the old schema lacks the filter's field");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_shows_what_its_caller_sees_of_the_tables() {
    let reader = RestrictedReader::with_people().await;
    let field = |id, name: &str| json!({"id": id, "name": name, "type": "string", "required": false});
    let schema = json!({"type": "struct", "schema-id": 0, "fields": [field(1, "region"), field(2, "email")]});
    let version = json!({"version-id": 1, "timestamp-ms": 1, "schema-id": 0, "summary": {}, "default-namespace": ["n"],
        "representations": [{"type": "sql", "sql": "SELECT region, email FROM people", "dialect": "trino"}]});
    let view = json!({"name": "shown", "schema": schema, "view-version": version, "properties": {}});
    reader.test.app.ok(Method::POST, "/v1/default/namespaces/n/views", Some(view)).await;
    reader.restrict_people(&[("email", MaskAction::ReplaceWithNull)]).await;
    assert_eq!(reader.rows("SELECT region, email FROM n.shown").await, ["ruritania|", "ruritania|"]);
    assert_eq!(reader.rows("SELECT count(*) FROM n.shown WHERE email IS NOT NULL").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_have_what_was_seen_and_changes_by_conditions_are_refused() {
    let reader = RestrictedReader::with_people().await;
    reader.restrict_people(&[("email", MaskAction::MaskAlphanum)]).await;
    reader.rows("CREATE TABLE n.copy AS SELECT id, email FROM n.people").await;
    reader.rows("INSERT INTO n.copy SELECT id + 10, email FROM n.people").await;
    let copied = reader.run("SELECT id, email FROM n.copy ORDER BY id").await;
    assert_eq!(copied, ["1|xxxx@x.xx", "3|", "11|xxxx@x.xx", "13|"]);
    for sql in [
        "DELETE FROM n.people WHERE region = 'borduria'",
        "DELETE FROM n.people",
        "UPDATE n.people SET email = 'x' WHERE 100 / salary > 1",
        "WITH x AS (SELECT 1) UPDATE n.people SET salary = 1",
    ] {
        let error = reader.sql(sql).await.expect_err(sql);
        assert!(error.contains("DELETE and UPDATE are refused") && error.contains(RESTRICTED), "{sql}: {error}");
        assert_eq!(code_of(&reader.test.app, &reader.token, sql).await, Code::PermissionDenied, "{sql}");
    }
    assert!(reader.test.app.server.access().audit().flush().await, "written");
    let trail = reader.test.app.catalog().state().audit().after(0, 1000).await.expect("read");
    let refused = trail.iter().filter(|(_, record)| record.principal == "bi" && record.decision == AuditDecision::Refused);
    assert_eq!(refused.count(), 8, "each refusal, twice");
    reader.rows("DELETE FROM n.copy WHERE id IN (SELECT id FROM n.people)").await;
    assert_eq!(reader.run("SELECT id FROM n.copy ORDER BY id").await, ["11", "13"], "conditions read what is seen");
    reader.rows("INSERT INTO n.people (id, region) VALUES (5, 'borduria'), (6, 'ruritania')").await;
    assert_eq!(reader.rows("SELECT count(*) FROM n.people").await, ["3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_add_up_and_masks_have_exceptions() {
    let reader = RestrictedReader::with_people().await;
    let schema = reader.schema("n.people").await;
    let id = |name: &str| schema.field_id_by_name(name).expect("a field");
    let (region, email) = (id("region"), id("email"));
    let ids = "SELECT id FROM n.people ORDER BY id";

    let other = Member::client("other");
    reader.restrict("n.people", &[(other.clone(), FilterExpr::True)], &[]).await;
    assert_eq!(reader.rows(ids).await, Vec::<String>::new(), "no filter names the caller");
    let ruritania = (bi(), equals(region, "ruritania"));
    let several = [ruritania.clone(), (bi(), FilterExpr::IsNull(region)), (other.clone(), FilterExpr::True)];
    reader.restrict("n.people", &several, &[]).await;
    assert_eq!(reader.rows(ids).await, ["1", "3", "4"]);
    let not = FilterExpr::Not(Box::new(equals(region, "ruritania")));
    reader.restrict("n.people", &[(bi(), not)], &[]).await;
    assert_eq!(reader.rows(ids).await, ["2"], "NULL is neither");
    reader.restrict("n.people", &[ruritania, (bi(), FilterExpr::True)], &[]).await;
    assert_eq!(reader.rows(ids).await, ["1", "2", "3", "4"]);

    let emails = "SELECT email FROM n.people WHERE id = 1";
    reader.restrict("n.people", &[], &[(email, MaskAction::ShowFirst4, vec![other])]).await;
    assert_eq!(reader.rows(emails).await, ["anna@x.xx"]);
    reader.restrict("n.people", &[], &[(email, MaskAction::ShowFirst4, vec![bi()])]).await;
    assert_eq!(reader.rows(emails).await, ["anna@x.eu"]);
    reader.rows("DELETE FROM n.people WHERE id = 4").await;

    reader.restrict("n.people", &[(Member::client("nobody"), FilterExpr::True)], &[]).await;
    assert_eq!(reader.rows(ids).await, Vec::<String>::new());
    reader.test.change(vec![RuleChange::SetMode { mode: AccessMode::Report }]).await;
    assert_eq!(reader.rows(ids).await, ["1", "2", "3"], "restrictions count in the mode on alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_salted_hash_joins_within_a_query_and_differs_between_queries() {
    let reader = RestrictedReader::with_people().await;
    reader.restrict_people(&[("email", MaskAction::Sha256QueryLocal)]).await;
    let joined = "SELECT count(*) FROM n.people AS a JOIN n.people AS b ON a.email = b.email";
    assert_eq!(reader.rows(joined).await, ["1"]);
    let one = "SELECT email FROM n.people WHERE id = 1";
    let (first, second) = (reader.rows(one).await, reader.rows(one).await);
    assert_eq!((first[0].len(), second[0].len()), (64, 64));
    assert_ne!(first, second);
}
