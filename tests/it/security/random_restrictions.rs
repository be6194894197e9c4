//! Random row filters and column masks, and random queries, against a copy that has what the caller may see.
//!
//! A model in plain Rust says which rows pass and what masks show, and a table without restrictions gets just that. Each query
//! has the same answer on both tables, and fails on both or on none. `ESKER_RESTRICTIONS` is the number of rounds (6; `make soak`
//! runs 500), `ESKER_SEED` the first seed.

use std::cmp::Ordering;
use std::fmt::Write as _;

use esker_access::{CompareOp, FilterExpr, MaskAction, Member};
use esker_format::Schema;
use ring::digest::{SHA256, digest};
use serde_json::{Value as Json, json};

use super::restricted_sql::RestrictedReader;
use crate::histories::Random;

/// A date as year, month and day.
pub(super) type Day = (i32, u32, u32);

/// A row of the table of the test.
#[derive(Debug, Clone)]
struct Row {
    id: Option<i64>,
    f: Option<f64>,
    s: Option<String>,
    d: Option<Day>,
    st: Option<(Option<i32>, Option<String>)>,
}

/// The fields of the table, with their ids.
#[derive(Debug, Clone, Copy)]
struct Fields {
    id: i32,
    f: i32,
    s: i32,
    d: i32,
    st: i32,
    a: i32,
    b: i32,
}

/// The id of a field that no schema has.
const MISSING: i32 = 999;

/// The value of a field in a row.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Number(i64),
    Float(f64),
    Text(String),
    Day(Day),
    Struct,
    Missing,
}

impl Fields {
    fn of(schema: &Schema) -> Self {
        let id = |name: &str| schema.field_id_by_name(name).expect("a field");
        Self { id: id("id"), f: id("f"), s: id("s"), d: id("d"), st: id("st"), a: id("st.a"), b: id("st.b") }
    }

    /// Returns the value of a field by its id.
    fn cell(&self, row: &Row, field: i32) -> Cell {
        let inner = row.st.as_ref();
        let found = match field {
            field if field == self.id => row.id.map(Cell::Number),
            field if field == self.f => row.f.map(Cell::Float),
            field if field == self.s => row.s.clone().map(Cell::Text),
            field if field == self.d => row.d.map(Cell::Day),
            field if field == self.st => inner.map(|_| Cell::Struct),
            field if field == self.a => inner.and_then(|(a, _)| *a).map(|a| Cell::Number(a.into())),
            field if field == self.b => inner.and_then(|(_, b)| b.clone()).map(Cell::Text),
            _ => return Cell::Missing,
        };
        found.unwrap_or(Cell::Null)
    }
}

/// Returns an item of a list.
pub(super) fn pick<T: Clone>(random: &mut Random, all: &[T]) -> T {
    all[usize::try_from(random.below(all.len() as u64)).expect("a small number")].clone()
}

/// Returns an item of a list, or nothing once in four times.
pub(super) fn some<T: Clone>(random: &mut Random, all: &[T]) -> Option<T> {
    (!random.one_in(4)).then(|| pick(random, all))
}

const TEXTS: [&str; 9] = ["", "a1", "abc-9", "b@x.y", "zebra (7)", "üñ4444é", "12", "7", "abc"];
const FLOATS: [f64; 6] = [-0.0, 0.0, 1.5, -2.25, f64::NAN, f64::INFINITY];
/// Days, some of which begin or end a month or a year.
pub(super) const DAYS: [Day; 5] = [(2023, 12, 31), (2024, 3, 1), (2024, 7, 15), (1969, 12, 31), (2024, 3, 31)];
const NUMBERS: [i64; 6] = [0, 1, 2, 3, 5, 8];

fn random_row(random: &mut Random) -> Row {
    let text = |random: &mut Random| some(random, &TEXTS).map(str::to_owned);
    let inner = |random: &mut Random| {
        let a = some(random, &NUMBERS).map(|a| i32::try_from(a).expect("a small number"));
        (a, some(random, &TEXTS).map(str::to_owned))
    };
    Row {
        id: some(random, &NUMBERS),
        f: some(random, &FLOATS),
        s: text(random),
        d: some(random, &DAYS),
        st: (!random.one_in(5)).then(|| inner(random)),
    }
}

/// Returns a date as SQL and JSON have it.
pub(super) fn date((year, month, day): Day) -> String {
    format!("{year:04}-{month:02}-{day:02}")
}

/// Returns a text in quotes, or NULL.
fn quoted(text: Option<&str>) -> String {
    text.map_or_else(|| "NULL".to_owned(), |text| format!("'{text}'"))
}

/// Returns the query for rows, in their order.
fn query_of(rows: &[Row]) -> String {
    let float = |f: f64| if f.is_infinite() { "Infinity".to_owned() } else { format!("{f:?}") };
    let number = |n: Option<i64>| n.map_or_else(|| "NULL".to_owned(), |n| n.to_string());
    let line = |row: &Row| {
        let (a, b) = row.st.clone().unwrap_or_default();
        let (f, d) = (row.f.map(float), row.d.map(date));
        format!(
            "({}, {}, {}, {}, {}, {}, {})",
            number(row.id),
            quoted(f.as_deref()),
            quoted(row.s.as_deref()),
            quoted(d.as_deref()),
            row.st.is_some(),
            number(a.map(i64::from)),
            quoted(b.as_deref())
        )
    };
    let nothing = [Row { id: None, f: None, s: None, d: None, st: None }];
    let (rows, none) = if rows.is_empty() { (nothing.as_slice(), " WHERE false") } else { (rows, "") };
    let values: Vec<String> = rows.iter().map(line).collect();
    format!(
        "SELECT CAST(id AS BIGINT) AS id, CAST(f AS DOUBLE) AS f, CAST(s AS TEXT) AS s, CAST(d AS DATE) AS d, \
         CASE WHEN h THEN named_struct('a', CAST(a AS INT), 'b', CAST(b AS TEXT)) END AS st \
         FROM (VALUES {}) AS v(id, f, s, d, h, a, b){none}",
        values.join(", ")
    )
}

/// Makes a predicate on one field.
fn random_predicate(random: &mut Random, fields: &Fields) -> FilterExpr {
    let any = [fields.id, fields.f, fields.s, fields.d, fields.st, fields.a, fields.b, MISSING];
    let value = |random: &mut Random, field: i32| match field {
        field if field == fields.f => json!(pick(random, &[-0.0, 0.0, 1.5])),
        field if field == fields.s || field == fields.b => json!(pick(random, &TEXTS)),
        field if field == fields.d => json!(date(pick(random, &DAYS))),
        _ => json!(pick(random, &NUMBERS)),
    };
    let comparable = [fields.id, fields.f, fields.s, fields.d, fields.a, fields.b, MISSING];
    match random.below(8) {
        0 => FilterExpr::IsNull(pick(random, &any)),
        1 => FilterExpr::NotNull(pick(random, &any)),
        2 => FilterExpr::IsNan(fields.f),
        3 => FilterExpr::NotNan(fields.f),
        4 => {
            let field_id = pick(random, &[fields.id, fields.s, fields.b]);
            let values = (0..3).map(|_| value(random, field_id)).collect();
            FilterExpr::In { field_id, values, negated: random.one_in(2) }
        }
        5 => {
            let field_id = pick(random, &[fields.s, fields.b]);
            let prefix = pick(random, &["a", "ab", "", "z"]).to_owned();
            FilterExpr::StartsWith { field_id, prefix, negated: random.one_in(2) }
        }
        _ => {
            let field_id = pick(random, &comparable);
            FilterExpr::Compare { op: pick(random, &CompareOp::ALL), field_id, value: value(random, field_id) }
        }
    }
}

/// Makes a filter of some depth, of predicates that `predicate` makes.
pub(super) fn random_filter(random: &mut Random, depth: u32, predicate: &dyn Fn(&mut Random) -> FilterExpr) -> FilterExpr {
    if depth == 0 || random.one_in(3) {
        return predicate(random);
    }
    let inner = |random: &mut Random| (0..2).map(|_| random_filter(random, depth - 1, predicate)).collect::<Vec<_>>();
    match random.below(3) {
        0 => FilterExpr::And(inner(random)),
        1 => FilterExpr::Or(inner(random)),
        _ => FilterExpr::Not(Box::new(random_filter(random, depth - 1, predicate))),
    }
}

/// Orders floats as Iceberg does.
fn float_order(one: f64, other: f64) -> Ordering {
    let key = |f: f64| (f.is_nan(), if f.is_nan() { 0.0 } else { f }, f == 0.0 && f.is_sign_positive());
    key(one).partial_cmp(&key(other)).expect("no NaN is left")
}

/// Compares a value that is not null with a constant.
fn order(cell: &Cell, constant: &Json) -> Option<Ordering> {
    Some(match cell {
        Cell::Number(n) => n.cmp(&constant.as_i64()?),
        Cell::Float(f) => float_order(*f, constant.as_f64()?),
        Cell::Text(text) => text.as_str().cmp(constant.as_str()?),
        Cell::Day(day) => date(*day).as_str().cmp(constant.as_str()?),
        Cell::Null | Cell::Struct | Cell::Missing => return None,
    })
}

/// Evaluates a filter on a row; `None` is unknown.
fn passes(fields: &Fields, row: &Row, filter: &FilterExpr) -> Option<bool> {
    let cell = |field: &i32| Some(fields.cell(row, *field)).filter(|cell| *cell != Cell::Missing);
    let negate = |value: bool, negated: bool| value != negated;
    match filter {
        FilterExpr::True => Some(true),
        FilterExpr::False => Some(false),
        FilterExpr::And(all) => {
            let all: Vec<_> = all.iter().map(|one| passes(fields, row, one)).collect();
            if all.contains(&Some(false)) { Some(false) } else { (!all.contains(&None)).then_some(true) }
        }
        FilterExpr::Or(all) => {
            let all: Vec<_> = all.iter().map(|one| passes(fields, row, one)).collect();
            if all.contains(&Some(true)) { Some(true) } else { (!all.contains(&None)).then_some(false) }
        }
        FilterExpr::Not(one) => passes(fields, row, one).map(|value| !value),
        FilterExpr::IsNull(field) => cell(field).map(|cell| cell == Cell::Null),
        FilterExpr::NotNull(field) => cell(field).map(|cell| cell != Cell::Null),
        FilterExpr::IsNan(_) => row.f.map(f64::is_nan),
        FilterExpr::NotNan(_) => row.f.map(|f| !f.is_nan()),
        FilterExpr::Compare { op, field_id, value } => {
            let order = order(&cell(field_id)?, value)?;
            Some(match op {
                CompareOp::Eq => order.is_eq(),
                CompareOp::NotEq => order.is_ne(),
                CompareOp::Lt => order.is_lt(),
                CompareOp::LtEq => order.is_le(),
                CompareOp::Gt => order.is_gt(),
                CompareOp::GtEq => order.is_ge(),
            })
        }
        FilterExpr::In { field_id, values, negated } => {
            let cell = cell(field_id)?;
            let orders = values.iter().map(|value| order(&cell, value)).collect::<Option<Vec<_>>>()?;
            Some(negate(orders.contains(&Ordering::Equal), *negated))
        }
        FilterExpr::StartsWith { field_id, prefix, negated } => match cell(field_id)? {
            Cell::Text(text) => Some(negate(text.starts_with(prefix.as_str()), *negated)),
            _ => None,
        },
    }
}

/// Makes masks on some fields, none below another.
fn random_masks(random: &mut Random, fields: &Fields) -> Vec<(i32, MaskAction)> {
    use MaskAction::{
        MaskAlphanum, MaskToFixedValue, ReplaceWithNull, Sha256Global, ShowFirst4, ShowLast4, TruncateToMonth, TruncateToYear,
    };
    let texts = [MaskAlphanum, MaskToFixedValue, ReplaceWithNull, Sha256Global, ShowFirst4, ShowLast4];
    let numbers = [MaskToFixedValue, ReplaceWithNull, Sha256Global];
    let others = [MaskToFixedValue, ReplaceWithNull];
    let days = [MaskToFixedValue, ReplaceWithNull, TruncateToMonth, TruncateToYear];
    let within = random.one_in(2);
    let mut masks = Vec::new();
    for (field, actions) in [
        (fields.id, numbers.as_slice()),
        (fields.f, others.as_slice()),
        (fields.s, texts.as_slice()),
        (fields.d, days.as_slice()),
        if within { (fields.a, numbers.as_slice()) } else { (fields.st, others.as_slice()) },
        (fields.b, if within { texts.as_slice() } else { [].as_slice() }),
    ] {
        if !actions.is_empty() && random.one_in(2) {
            masks.push((field, pick(random, actions)));
        }
    }
    masks
}

/// Returns what a mask shows of a text.
fn masked_text(action: MaskAction, text: Option<&str>) -> Option<String> {
    let shown = |c: char| match c {
        c if c.is_ascii_digit() => 'n',
        c if "(),.-@".contains(c) => c,
        _ => 'x',
    };
    let parts = |text: &str, at: usize, first: bool| {
        let (kept, rest): (String, String) = (text.chars().take(at).collect(), text.chars().skip(at).collect());
        let hidden = |part: &str| part.chars().map(shown).collect::<String>();
        if first { kept + &hidden(&rest) } else { hidden(&kept) + &rest }
    };
    match action {
        MaskAction::MaskToFixedValue => Some("XXXXXXXX".to_owned()),
        MaskAction::ReplaceWithNull => None,
        MaskAction::MaskAlphanum => text.map(|text| parts(text, 0, true)),
        MaskAction::ShowFirst4 => text.map(|text| parts(text, 4, true)),
        MaskAction::ShowLast4 => text.map(|text| parts(text, text.chars().count().saturating_sub(4), false)),
        _ => text.map(|text| {
            digest(&SHA256, text.as_bytes()).as_ref().iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").expect("written");
                hex
            })
        }),
    }
}

/// Returns the first bytes of the SHA-256 of some bytes.
fn hash<const N: usize>(bytes: &[u8]) -> [u8; N] {
    digest(&SHA256, bytes).as_ref()[..N].try_into().expect("enough bytes")
}

/// Returns what masks show of a row.
fn masked(fields: &Fields, row: &Row, masks: &[(i32, MaskAction)]) -> Row {
    let mut row = row.clone();
    for (field, action) in masks {
        let (is_null, is_fixed) = (*action == MaskAction::ReplaceWithNull, *action == MaskAction::MaskToFixedValue);
        let is_month = *action == MaskAction::TruncateToMonth;
        match *field {
            field if field == fields.id && is_null => row.id = None,
            field if field == fields.id && is_fixed => row.id = Some(0),
            field if field == fields.id => row.id = row.id.map(|id| i64::from_le_bytes(hash(&id.to_le_bytes()))),
            field if field == fields.f => row.f = is_fixed.then_some(0.0),
            field if field == fields.s => row.s = masked_text(*action, row.s.as_deref()),
            field if field == fields.d && is_null => row.d = None,
            field if field == fields.d && is_fixed => row.d = Some((1970, 1, 1)),
            field if field == fields.d => row.d = row.d.map(|(year, month, _)| (year, if is_month { month } else { 1 }, 1)),
            field if field == fields.st => row.st = is_fixed.then(|| (Some(0), Some("XXXXXXXX".to_owned()))),
            field if field == fields.a => {
                row.st = row.st.map(|(a, b)| match (is_null, is_fixed) {
                    (true, _) => (None, b),
                    (_, true) => (Some(0), b),
                    _ => (a.map(|a| i32::from_le_bytes(hash(&a.to_le_bytes()))), b),
                });
            }
            _ => row.st = row.st.map(|(a, b)| (a, masked_text(*action, b.as_deref()))),
        }
    }
    row
}

/// Conditions that fail on no row.
const CONDITIONS: [&str; 14] = [
    "id > 2",
    "id = 5",
    "f < 1.0",
    "f = 0.0",
    "s LIKE 'a%'",
    "s >= 'b'",
    "s = 'xn'",
    "d < DATE '2024-03-02'",
    "st.b = 'a1'",
    "st.a > 2",
    "s IS NULL",
    "st IS NULL",
    "id IS NOT NULL AND s <> 'abc'",
    "length(s) > 3",
];

/// Queries on the table `@`. A condition replaces `#`. Expressions that can fail stand alone, because a condition beside them
/// would decide by chance on which rows they are computed.
const QUERIES: [&str; 16] = [
    "SELECT id, f, s, d, st FROM @",
    "SELECT id, f, s, d, st FROM @ WHERE #",
    "SELECT s, d FROM @ WHERE # OR #",
    "SELECT count(*), count(s), count(DISTINCT s), min(f + 1.0), max(f + 1.0), min(id), max(d), max(s) FROM @ WHERE #",
    "SELECT count(*) FROM @ WHERE NOT (#)",
    "SELECT s, count(*), max(id) FROM @ GROUP BY s",
    "SELECT st.b, max(st.a) FROM @ GROUP BY st.b",
    "SELECT x.id, y.s FROM @ AS x JOIN @ AS y ON x.s = y.s AND x.id <= y.id",
    "SELECT x.id FROM @ AS x LEFT JOIN @ AS y ON x.st.b = y.s WHERE y.id IS NULL",
    "SELECT id FROM @ WHERE s IN (SELECT s FROM @ WHERE #)",
    "SELECT upper(s), length(st.b), count(*) OVER (PARTITION BY s) FROM @",
    "SELECT count(*) FROM (SELECT id FROM @ LIMIT 3)",
    "SELECT id FROM @ ORDER BY id DESC NULLS LAST LIMIT 2",
    "SELECT 10 / (id - 3) FROM @",
    "SELECT CAST(s AS INT) FROM @",
    "SELECT count(*) FROM @ WHERE 10 / (st.a - 2) > 1",
];

/// Runs a round: sets restrictions, makes the copy, and compares the answers. Returns the number of queries that failed on both.
async fn round(reader: &RestrictedReader, fields: &Fields, rows: &[Row], seed: u64) -> usize {
    let mut random = Random(seed);
    let predicate = |random: &mut Random| random_predicate(random, fields);
    let filters: Vec<FilterExpr> = (0..random.below(3)).map(|_| random_filter(&mut random, 2, &predicate)).collect();
    let masks = random_masks(&mut random, fields);
    let of_bi: Vec<_> = filters.iter().map(|filter| (Member::client("bi"), filter.clone())).collect();
    let set: Vec<_> = masks.iter().map(|(field, action)| (*field, *action, Vec::new())).collect();
    reader.restrict("n.t", &of_bi, &set).await;

    let is_seen = |row: &&Row| filters.is_empty() || filters.iter().any(|filter| passes(fields, row, filter) == Some(true));
    let seen: Vec<Row> = rows.iter().filter(is_seen).map(|row| masked(fields, row, &masks)).collect();
    let copy = format!("n.copy{seed}");
    reader.run(&format!("CREATE TABLE {copy} AS {}", query_of(&seen))).await;

    let mut failed = 0;
    for query in QUERIES {
        let mut query = query.to_owned();
        while query.contains('#') {
            query = query.replacen('#', pick(&mut random, &CONDITIONS), 1);
        }
        let answer = async |table: &str| {
            let mut lines = reader.sql(&query.replace('@', table)).await?;
            lines.sort();
            Ok::<_, String>(lines)
        };
        let about = format!("seed {seed}: {query}\nfilters {filters:?}\nmasks {masks:?}");
        match (answer("n.t").await, answer(&copy).await) {
            (Ok(restricted), Ok(expected)) => assert_eq!(restricted, expected, "{about}"),
            (Err(_), Err(_)) => failed += 1,
            (restricted, expected) => panic!("{about}\nrestricted: {restricted:?}\nexpected: {expected:?}"),
        }
    }
    failed
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_a_filtered_and_masked_copy() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (rounds, first) = (number("ESKER_RESTRICTIONS", 6), number("ESKER_SEED", 1));
    let reader = RestrictedReader::start().await;
    let mut random = Random(first);
    let rows: Vec<Row> = (0..30).map(|_| random_row(&mut random)).collect();
    // Several files, so that filters can leave some of them out.
    reader.run(&format!("CREATE TABLE n.t AS {}", query_of(&rows[..12]))).await;
    reader.run(&format!("INSERT INTO n.t {}", query_of(&rows[12..20]))).await;
    reader.run(&format!("INSERT INTO n.t {}", query_of(&rows[20..]))).await;
    let fields = Fields::of(reader.schema("n.t").await.as_ref());
    let mut failed = 0;
    for seed in first..first + rounds {
        failed += round(&reader, &fields, &rows, seed).await;
    }
    assert!(rounds < 6 || failed > 0, "some queries fail on what is seen, so the test compares failures too");
}
