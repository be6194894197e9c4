//! Random row filters and random queries, against PostgreSQL's row-level security.
//!
//! Each round puts random rows into a table of Esker and into one of PostgreSQL. A row filter to a member is a policy to a role
//! that has the same members. Then both answer the same random queries of one principal, and their sorted rows are equal, or
//! both fail. `ESKER_ROW_SECURITY` is the number of queries (40; `make soak` has 500), `ESKER_SEED` the first seed.
//!
//! The test needs a PostgreSQL: it says that it is skipped if `ESKER_TEST_POSTGRES` is not set, as under a plain `cargo test`.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use esker_access::{CompareOp, EVERYONE, FilterExpr, Member, RuleChange};
use esker_format::Schema;
use serde_json::{Value as Json, json};
use sqlx::{AssertSqlSafe, Column, Connection, PgConnection, Row as _, TypeInfo, ValueRef};
use uuid::Uuid;

use super::random_restrictions::{DAYS, date, pick, random_filter, some};
use super::restricted_sql::RestrictedReader;
use crate::histories::Random;

/// The queries of a round.
const QUERIES_OF_ROUND: u64 = 10;

/// The columns of the table, with their types. `k` is the key; the others may be null.
const COLUMNS: [(&str, Kind); 7] = [
    ("k", Kind::Number),
    ("n", Kind::Number),
    ("m", Kind::Decimal),
    ("f", Kind::Float),
    ("s", Kind::Text),
    ("d", Kind::Day),
    ("b", Kind::Flag),
];

/// The id of a field that no schema has.
const MISSING: i32 = 999;

const NUMBERS: [i64; 7] = [-8, -1, 0, 1, 2, 3, 12];
/// Each has the digits that the column has.
const DECIMALS: [&str; 6] = ["-3.50", "-0.01", "0.00", "1.10", "12.50", "99999999.99"];
/// Without -0.0, which Iceberg takes for less than 0.0 and PostgreSQL does not.
const FLOATS: [&str; 6] = ["-2.25", "0.0", "1.5", "1000.0", "NaN", "Infinity"];
const TEXTS: [&str; 9] = ["", "a", "ab", "O'Brien", "say \"hi\"", "100% _x", r"back\slash", "12", "üñ"];

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Decimal,
    Float,
    Text,
    Day,
    Flag,
}

/// A row of an answer. A value is in the form that both databases are brought to.
type Line = Vec<Option<String>>;

/// Returns a text in quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Returns the value of a column in SQL, as a text that is cast to the column's type.
fn value(random: &mut Random, kind: Kind) -> String {
    let text = match kind {
        Kind::Number => some(random, &NUMBERS).map(|number| number.to_string()),
        Kind::Decimal => some(random, &DECIMALS).map(str::to_owned),
        Kind::Float => some(random, &FLOATS).map(str::to_owned),
        Kind::Text => some(random, &TEXTS).map(str::to_owned),
        Kind::Day => some(random, &DAYS).map(date),
        Kind::Flag => some(random, &[true, false]).map(|flag| flag.to_string()),
    };
    text.map_or_else(|| "NULL".to_owned(), |text| quoted(&text))
}

/// Makes a row in SQL.
fn random_row(random: &mut Random, key: u64) -> String {
    let others = COLUMNS.iter().skip(1).map(|(_, kind)| value(random, *kind)).collect::<Vec<_>>();
    format!("('{key}', {})", others.join(", "))
}

/// Returns the query for rows, in the SQL of Esker.
fn query_of(rows: &[String]) -> String {
    format!(
        "SELECT CAST(k AS BIGINT) AS k, CAST(n AS BIGINT) AS n, CAST(m AS DECIMAL(10, 2)) AS m, CAST(f AS DOUBLE) AS f, \
         CAST(s AS TEXT) AS s, CAST(d AS DATE) AS d, CAST(b AS BOOLEAN) AS b FROM (VALUES {}) AS v(k, n, m, f, s, d, b)",
        rows.join(", ")
    )
}

/// Returns a statement of Esker in the SQL of PostgreSQL, where one type has another name.
fn to_postgres(sql: &str) -> String {
    sql.replace("AS DOUBLE)", "AS DOUBLE PRECISION)")
}

/// A field of the table with its id.
#[derive(Debug, Clone, Copy)]
struct Field {
    id: i32,
    name: &'static str,
    kind: Kind,
}

/// Returns the fields of the table.
fn fields_of(schema: &Schema) -> Vec<Field> {
    let field = |(name, kind)| Field { id: schema.field_id_by_name(name).expect("a field"), name, kind };
    COLUMNS.into_iter().map(field).collect()
}

/// Returns a constant of a type, as filters have it.
fn constant(random: &mut Random, kind: Kind) -> Json {
    match kind {
        Kind::Number => json!(pick(random, &NUMBERS)),
        Kind::Decimal => json!(pick(random, &DECIMALS)),
        Kind::Float => json!(pick(random, &[-2.25, 0.0, 1.5, 1000.0])),
        Kind::Text => json!(pick(random, &TEXTS)),
        Kind::Day => json!(date(pick(random, &DAYS))),
        Kind::Flag => json!(random.one_in(2)),
    }
}

/// Makes a predicate on one field, which the schema may lack.
fn random_predicate(random: &mut Random, fields: &[Field]) -> FilterExpr {
    let id = |name: &str| fields.iter().find(|field| field.name == name).expect("a field").id;
    let field = pick(random, fields);
    let field_id = if random.one_in(12) { MISSING } else { field.id };
    match random.below(9) {
        0 => FilterExpr::IsNull(field_id),
        1 => FilterExpr::NotNull(field_id),
        2 => FilterExpr::IsNan(id("f")),
        3 => FilterExpr::NotNan(id("f")),
        4 => {
            let values = (0..3).map(|_| constant(random, field.kind)).collect();
            FilterExpr::In { field_id, values, negated: random.one_in(2) }
        }
        5 => {
            let prefix = pick(random, &["a", "", "O'", "100%", r"back\", "ü"]).to_owned();
            FilterExpr::StartsWith { field_id: id("s"), prefix, negated: random.one_in(2) }
        }
        _ => FilterExpr::Compare { op: pick(random, &CompareOp::ALL), field_id, value: constant(random, field.kind) },
    }
}

/// Returns a constant of a filter in the SQL of PostgreSQL.
fn postgres_constant(kind: Kind, value: &Json) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match kind {
        // The type of a text stays open, so that the column decides on the order.
        Kind::Text => quoted(&text),
        Kind::Number => format!("CAST('{text}' AS bigint)"),
        Kind::Decimal => format!("CAST('{text}' AS numeric)"),
        Kind::Float => format!("CAST('{text}' AS double precision)"),
        Kind::Day => format!("CAST('{text}' AS date)"),
        Kind::Flag => text,
    }
}

/// Returns a filter as an expression of PostgreSQL. What the schema lacks is unknown.
fn using(fields: &[Field], filter: &FilterExpr) -> String {
    let on = |id: &i32, condition: &dyn Fn(&Field) -> String| {
        let found = fields.iter().find(|field| field.id == *id);
        found.map_or_else(|| "CAST(NULL AS boolean)".to_owned(), |field| format!("({})", condition(field)))
    };
    let joined = |all: &[FilterExpr], word: &str| {
        let all: Vec<String> = all.iter().map(|one| using(fields, one)).collect();
        format!("({})", all.join(word))
    };
    let not = |negated: &bool| if *negated { "NOT " } else { "" };
    match filter {
        FilterExpr::True => "true".to_owned(),
        FilterExpr::False => "false".to_owned(),
        FilterExpr::And(all) => joined(all, " AND "),
        FilterExpr::Or(all) => joined(all, " OR "),
        FilterExpr::Not(one) => format!("(NOT {})", using(fields, one)),
        FilterExpr::IsNull(id) => on(id, &|field| format!("{} IS NULL", field.name)),
        FilterExpr::NotNull(id) => on(id, &|field| format!("{} IS NOT NULL", field.name)),
        FilterExpr::IsNan(id) => on(id, &|field| format!("{} = 'NaN'", field.name)),
        FilterExpr::NotNan(id) => on(id, &|field| format!("{} <> 'NaN'", field.name)),
        FilterExpr::Compare { op, field_id, value } => {
            on(field_id, &|field| format!("{} {} {}", field.name, op.symbol(), postgres_constant(field.kind, value)))
        }
        FilterExpr::In { field_id, values, negated } => on(field_id, &|field| {
            let values: Vec<String> = values.iter().map(|value| postgres_constant(field.kind, value)).collect();
            format!("{} {}IN ({})", field.name, not(negated), values.join(", "))
        }),
        FilterExpr::StartsWith { field_id, prefix, negated } => {
            on(field_id, &|field| format!("{}starts_with({}, {})", not(negated), field.name, quoted(prefix)))
        }
    }
}

/// Makes a condition on one column that fails on no row. `of` is put before the names of columns.
fn random_comparison(random: &mut Random, of: &str) -> String {
    let op = pick(random, &["=", "<>", "<", "<=", ">", ">="]);
    let number = pick(random, &NUMBERS);
    let text = quoted(pick(random, &TEXTS));
    match random.below(15) {
        0 => format!("{of}n {op} {number}"),
        1 => format!("{of}m {op} CAST('{}' AS DECIMAL(10, 2))", pick(random, &DECIMALS)),
        2 => format!("{of}f {op} {}", pick(random, &["-2.25", "0.0", "1.5"])),
        3 => format!("{of}f {op} CAST('NaN' AS DOUBLE)"),
        4 => format!("{of}s {op} {text}"),
        5 => format!("{of}s LIKE {}", quoted(pick(random, &["a%", "%'%", "_b", "%b%", "%"]))),
        6 => format!("{of}d {op} DATE '{}'", date(pick(random, &DAYS))),
        7 => format!("{of}b"),
        8 => format!("{of}b IS NOT TRUE"),
        9 => format!("{of}{} IS NULL", pick(random, &COLUMNS).0),
        10 => format!("{of}{} IS NOT NULL", pick(random, &COLUMNS).0),
        11 => format!("{of}n IN ({number}, 1, 2)"),
        12 => format!("{of}s NOT IN ({text}, 'a')"),
        13 => format!("{of}n BETWEEN {number} AND 3"),
        _ => format!("length({of}s) > {}", pick(random, &[0, 1, 4])),
    }
}

/// Makes a condition that fails on no row.
fn random_condition(random: &mut Random, of: &str) -> String {
    let mut condition = random_comparison(random, of);
    for _ in 0..random.below(3) {
        let other = random_comparison(random, of);
        condition = match random.below(3) {
            0 => format!("({condition} AND {other})"),
            1 => format!("({condition} OR {other})"),
            _ => format!("NOT ({condition})"),
        };
    }
    condition
}

/// Expressions of a row that fail on no row.
const EXPRESSIONS: [&str; 14] = [
    "n + 1",
    "-n",
    "n * 2",
    "n % 5",
    "abs(n)",
    "m",
    "m + 1",
    "f",
    "f * 2.0",
    "coalesce(s, '?')",
    "s || '!'",
    "length(s)",
    "b",
    "d",
];

/// Queries on the table `@`. A condition replaces `#`, one on the columns of `y` replaces `~`, and an expression `$`. Expressions
/// that can fail stand alone, because a condition beside them would decide by chance on which rows they are computed.
const QUERIES: [&str; 30] = [
    "SELECT k, n, m, f, s, d, b FROM @",
    "SELECT k, n, m, f, s, d, b FROM @ WHERE #",
    "SELECT k, $ AS e1, $ AS e2, $ AS e3 FROM @ WHERE #",
    "SELECT k, CASE WHEN # THEN 1 WHEN # THEN 2 ELSE 3 END FROM @",
    "SELECT count(*), count(s), count(DISTINCT s), sum(n), min(n), max(n), sum(m), min(m), max(m) FROM @ WHERE #",
    "SELECT count(f), min(f), max(f), min(s), max(s), min(d), max(d) FROM @ WHERE #",
    "SELECT s, count(*), sum(n), max(d) FROM @ WHERE # GROUP BY s",
    "SELECT b, n, count(*), sum(m) FROM @ GROUP BY b, n HAVING count(*) > 1",
    "SELECT f, count(*) FROM @ GROUP BY f",
    "SELECT x.k, y.k FROM @ AS x JOIN @ AS y ON x.s = y.s AND x.k < y.k WHERE ~",
    "SELECT x.k, y.k, y.s FROM @ AS x LEFT JOIN @ AS y ON x.n = y.n AND ~",
    "SELECT x.k, y.k FROM @ AS x LEFT JOIN @ AS y ON x.d = y.d AND x.k <> y.k WHERE y.k IS NULL",
    "SELECT x.k, y.k FROM @ AS x FULL JOIN @ AS y ON x.k = y.n",
    "SELECT k, x.n, y.d FROM @ AS x JOIN @ AS y USING (k)",
    "SELECT k FROM @ WHERE s IN (SELECT s FROM @ WHERE #)",
    "SELECT k FROM @ WHERE n NOT IN (SELECT n FROM @ WHERE #)",
    "SELECT x.k FROM @ AS x WHERE EXISTS (SELECT 1 FROM @ AS y WHERE y.n = x.n AND y.k <> x.k AND ~)",
    "SELECT x.k FROM @ AS x WHERE NOT EXISTS (SELECT 1 FROM @ AS y WHERE y.s = x.s AND y.k <> x.k)",
    "SELECT k, (SELECT max(n) FROM @ WHERE #) FROM @ WHERE #",
    "SELECT k FROM @ WHERE n > (SELECT min(n) FROM @ WHERE #)",
    "SELECT DISTINCT s, b FROM @ WHERE #",
    "SELECT DISTINCT f, d FROM @",
    "SELECT k, s FROM @ WHERE # ORDER BY s DESC NULLS LAST, k LIMIT 3 OFFSET 1",
    "SELECT k, f, m FROM @ ORDER BY f NULLS FIRST, m DESC NULLS LAST, k LIMIT 5",
    "SELECT k, row_number() OVER (PARTITION BY b ORDER BY k), count(*) OVER (PARTITION BY s), rank() OVER (ORDER BY n) FROM @",
    "SELECT k, sum(n) OVER (ORDER BY k), lag(n) OVER (ORDER BY k), max(m) OVER (PARTITION BY d) FROM @ WHERE #",
    "SELECT s FROM @ WHERE # UNION SELECT s FROM @ WHERE #",
    "SELECT n FROM @ WHERE # EXCEPT SELECT n FROM @ WHERE #",
    "WITH p AS (SELECT k, n FROM @ WHERE #) SELECT x.k, y.n FROM p AS x JOIN p AS y ON x.k = y.k",
    "SELECT count(*), max(k) FROM (SELECT k FROM @ ORDER BY k DESC LIMIT 4) AS p",
];

/// Queries that fail on some rows. Rows that are hidden must not make them fail.
const FAILING: [&str; 3] =
    ["SELECT k, 10 / (n - 3) FROM @", "SELECT k FROM @ WHERE 10 / (n - 2) > 1", "SELECT k, CAST(s AS INT) FROM @"];

/// Makes a query on the table `@`.
fn random_query(random: &mut Random) -> String {
    let template = if random.one_in(8) { pick(random, &FAILING) } else { pick(random, &QUERIES) };
    let mut query = String::new();
    for c in template.chars() {
        match c {
            '#' => query += &random_condition(random, ""),
            '~' => query += &random_condition(random, "y."),
            '$' => query += pick(random, &EXPRESSIONS),
            c => query.push(c),
        }
    }
    query
}

/// Returns a float in a form of its own.
fn float(text: &str) -> String {
    // The sum with 0.0 takes the sign of a zero away.
    format!("{:?}", text.parse::<f64>().expect("a float") + 0.0)
}

/// Returns a number without zeros at its end.
fn trimmed(text: &str) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
}

/// Returns the rows of an answer of Esker, sorted.
fn lines_of(batches: &[RecordBatch]) -> Vec<Line> {
    let cell = |column: &dyn Array, row: usize| {
        let text = array_value_to_string(column, row).expect("shown");
        match column.data_type() {
            _ if column.is_null(row) => None,
            DataType::Float64 => Some(float(&text)),
            DataType::Decimal128(..) | DataType::Decimal256(..) => Some(trimmed(&text)),
            _ => Some(text),
        }
    };
    let line =
        |batch: &RecordBatch, row: usize| batch.columns().iter().map(|column| cell(column.as_ref(), row)).collect::<Line>();
    let mut lines: Vec<Line> = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| line(batch, row))).collect();
    lines.sort();
    lines
}

/// A PostgreSQL with the principals of the test. All that the test makes there has a prefix of its own.
struct RowSecurity {
    /// The connection of the superuser, to whom no policy applies.
    owner: PgConnection,
    /// The connection of `bi`.
    reader: PgConnection,
    prefix: String,
}

impl RowSecurity {
    /// Makes a schema and the roles in it.
    async fn start(server: &str) -> Self {
        let prefix = format!("rls_{}", Uuid::now_v7().simple());
        let connect = async || PgConnection::connect(server).await.expect("PostgreSQL");
        let mut postgres = Self { owner: connect().await, reader: connect().await, prefix };
        let roles = ["bi", "other", "readers", "analysts", "strangers"];
        let made: String = roles.iter().map(|role| format!("CREATE ROLE {}; ", postgres.name(role))).collect();
        let [bi, readers, analysts] = ["bi", "readers", "analysts"].map(|role| postgres.name(role));
        let prefix = postgres.prefix.clone();
        postgres
            .execute(&format!(
                "CREATE SCHEMA {prefix}; {made}GRANT {readers} TO {analysts}; GRANT {analysts} TO {bi}; \
                 GRANT USAGE ON SCHEMA {prefix} TO {bi}"
            ))
            .await;
        let become_reader = format!("SET ROLE {bi}");
        sqlx::raw_sql(AssertSqlSafe(become_reader)).execute(&mut postgres.reader).await.expect("the role of bi");
        postgres
    }

    /// Returns the name of a role.
    fn name(&self, role: &str) -> String {
        format!("{}_{role}", self.prefix)
    }

    /// Runs statements of the superuser.
    async fn execute(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.owner).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    /// Runs a query of `bi`. Returns the rows, sorted.
    async fn query(&mut self, sql: &str) -> Result<Vec<Line>, String> {
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.reader).await.map_err(|e| e.to_string())?;
        let cell = |row: &sqlx::postgres::PgRow, at: usize| {
            if row.try_get_raw(at).expect("a value").is_null() {
                return None;
            }
            // The answer of a simple query is text, whatever the type is.
            let text: String = row.try_get_unchecked(at).expect("a text");
            Some(match row.column(at).type_info().name() {
                "BOOL" => (text == "t").to_string(),
                "FLOAT8" => float(&text),
                "NUMERIC" => trimmed(&text),
                _ => text,
            })
        };
        let mut lines: Vec<Line> = rows.iter().map(|row| (0..row.len()).map(|at| cell(row, at)).collect()).collect();
        lines.sort();
        Ok(lines)
    }

    /// Drops all that the test made.
    async fn stop(mut self) {
        let roles = ["bi", "other", "readers", "analysts", "strangers"].map(|role| self.name(role)).join(", ");
        let drop = format!("DROP SCHEMA {} CASCADE; DROP ROLE {roles}", self.prefix);
        self.execute(&drop).await;
    }
}

/// The table of a round in both databases.
struct Round<'a> {
    reader: &'a RestrictedReader,
    postgres: &'a mut RowSecurity,
    seed: u64,
}

/// The counts of a test, by which it tells that it compared something.
#[derive(Debug, Default)]
struct Counts {
    failed: usize,
    partly_hidden: usize,
}

impl Round<'_> {
    /// Makes the table with random rows in both databases. Returns its fields and the number of rows.
    async fn fill(&mut self, random: &mut Random) -> (Vec<Field>, usize) {
        let count = 15 + random.below(25);
        let rows: Vec<String> = (0..count).map(|key| random_row(random, key)).collect();
        let (seed, prefix) = (self.seed, self.postgres.prefix.clone());
        let bi = self.postgres.name("bi");
        // Several files, so that filters can leave some of them out.
        self.reader.run(&format!("CREATE TABLE n.t{seed} AS {}", query_of(&rows[..6]))).await;
        self.reader.run(&format!("INSERT INTO n.t{seed} {}", query_of(&rows[6..12]))).await;
        self.reader.run(&format!("INSERT INTO n.t{seed} {}", query_of(&rows[12..]))).await;
        self.postgres
            .execute(&format!(
                "CREATE TABLE {prefix}.t{seed} (k bigint, n bigint, m numeric(10, 2), f double precision, s text COLLATE \"C\", \
                 d date, b boolean); INSERT INTO {prefix}.t{seed} {}; GRANT SELECT ON {prefix}.t{seed} TO {bi}",
                to_postgres(&query_of(&rows))
            ))
            .await;
        let schema = self.reader.schema(&format!("n.t{seed}")).await;
        (fields_of(schema.as_ref()), rows.len())
    }

    /// Sets random filters to random members in both databases. Returns them for messages.
    async fn restrict(&mut self, random: &mut Random, fields: &[Field]) -> String {
        let (seed, prefix) = (self.seed, self.postgres.prefix.clone());
        let predicate = |random: &mut Random| random_predicate(random, fields);
        let names = |member: Member, role: &str| (member, self.postgres.name(role));
        let of_bi = [
            names(Member::client("bi"), "bi"),
            names(Member::role("readers"), "readers"),
            names(Member::role("analysts"), "analysts"),
            (Member::role(EVERYONE), "PUBLIC".to_owned()),
        ];
        let of_others = [names(Member::client("other"), "other"), names(Member::role("strangers"), "strangers")];
        let mut holders = Vec::new();
        if !random.one_in(6) {
            holders.push(pick(random, &of_bi));
        }
        for _ in 0..random.below(3) {
            let holder = if random.one_in(2) { pick(random, &of_bi) } else { pick(random, &of_others) };
            holders.push(holder);
        }
        let mut filters = Vec::new();
        let mut policies = String::new();
        for (at, (member, role)) in holders.into_iter().enumerate() {
            let filter = random_filter(random, 2, &predicate);
            let condition = using(fields, &filter);
            policies += &format!("CREATE POLICY p{at} ON {prefix}.t{seed} FOR SELECT TO {role} USING ({condition}); ");
            filters.push((member, filter));
        }
        self.reader.restrict(&format!("n.t{seed}"), &filters, &[]).await;
        if !filters.is_empty() {
            self.postgres.execute(&format!("ALTER TABLE {prefix}.t{seed} ENABLE ROW LEVEL SECURITY; {policies}")).await;
        }
        policies
    }

    /// Compares the answers to a query.
    async fn compare(&mut self, query: &str, policies: &str, counts: &mut Counts) {
        let (seed, prefix) = (self.seed, self.postgres.prefix.clone());
        let answer = self.reader.batches(&query.replace('@', &format!("n.t{seed}"))).await.map(|batches| lines_of(&batches));
        let expected = self.postgres.query(&to_postgres(&query.replace('@', &format!("{prefix}.t{seed}")))).await;
        match (answer, expected) {
            (Ok(answer), Ok(expected)) => assert_eq!(answer, expected, "seed {seed}: {query}\n{policies}"),
            (Err(_), Err(_)) => counts.failed += 1,
            (answer, expected) => panic!("seed {seed}: {query}\n{policies}\nEsker: {answer:?}\nPostgreSQL: {expected:?}"),
        }
    }

    /// Runs the round.
    async fn run(mut self, counts: &mut Counts, queries: u64) {
        let mut random = Random(self.seed);
        let (fields, rows) = self.fill(&mut random).await;
        let policies = self.restrict(&mut random, &fields).await;
        let all = format!("SELECT k FROM {}.t{}", self.postgres.prefix, self.seed);
        let seen = self.postgres.query(&all).await.expect("keys").len();
        counts.partly_hidden += usize::from(seen > 0 && seen < rows);
        for _ in 0..queries {
            let query = random_query(&mut random);
            self.compare(&query, &policies, counts).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_under_random_row_filters_are_those_of_postgresqls_row_security() {
    let Ok(server) = std::env::var("ESKER_TEST_POSTGRES") else {
        eprintln!("skipped: ESKER_TEST_POSTGRES names no server to compare with");
        return;
    };
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (queries, first) = (number("ESKER_ROW_SECURITY", 40), number("ESKER_SEED", 1));
    let reader = RestrictedReader::start().await;
    let member = |role: &str, member| RuleChange::AddMember { role: role.to_owned(), member };
    let mut changes: Vec<RuleChange> =
        ["readers", "analysts", "strangers"].map(|role| RuleChange::CreateRole { role: role.to_owned() }).into();
    changes.extend([member("readers", Member::role("analysts")), member("analysts", Member::client("bi"))]);
    reader.test.change(changes).await;
    let mut postgres = RowSecurity::start(&server).await;
    let mut counts = Counts::default();
    let mut left = queries;
    for seed in first.. {
        let of_round = left.min(QUERIES_OF_ROUND);
        if of_round == 0 {
            break;
        }
        Round { reader: &reader, postgres: &mut postgres, seed }.run(&mut counts, of_round).await;
        left -= of_round;
    }
    postgres.stop().await;
    assert!(queries < 40 || counts.partly_hidden > 0, "some filter hides some of the rows: {counts:?}");
    assert!(queries < 500 || counts.failed > 0, "some queries fail on both: {counts:?}");
}
