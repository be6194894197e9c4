//! Measures decisions of access control on one thread, and lists of tables that they filter.
//!
//! The rules have 1,000 roles and 10,000 grants, and the principal is a member of 1,000 or 20 roles. `spread` has the grants on
//! namespaces and tables. `one place` has all on the server, and only the last gives what is asked for. A cold
//! decision is the first after other work has taken the processor's caches. Each is timed by itself, the clock included.
//! `policies` has 1,000 access policies besides: on single namespaces and tables, and ten on everything, with conditions. In
//! `policies on everything`, each of the 1,000 applies to every decision.
//! `cargo run -p esker-benches --bin security`
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use esker_access::{
    AccessMode, Bundle, Caller, GrantRow, Identity, Member, MemberRow, PolicyRow, Privilege, PrivilegeSet, RequestFacts,
    Required, ResourcePath, RoleRow, RuleRows, Rules, Securable, SecurableKind, Subject, Unrecorded,
};
use esker_types::{NamespaceName, TableId};

const GRANTS: usize = 10_000;
const POLICIES: usize = 1_000;
const TABLES: usize = 10_000;
const NAMESPACES: usize = 100;
const WARM: usize = 200_000;
const COLD: usize = 2_000;
/// The size of the buffer that takes the processor's caches before a cold decision, in bytes.
const FLUSHED_BYTES: usize = 64 << 20;

/// A table of the benchmark.
struct BenchTable {
    id: TableId,
    namespace: String,
    name: String,
}

impl BenchTable {
    fn path(&self) -> ResourcePath<'_> {
        ResourcePath::warehouse(1, "lake").namespace(&self.namespace).table(self.id, &self.name)
    }
}

/// A generator of numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    /// Returns a number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}

fn tables() -> Vec<BenchTable> {
    let table = |n: usize| BenchTable {
        id: TableId::fresh(),
        namespace: format!("raw\u{1f}source_{}\u{1f}daily", n % NAMESPACES),
        name: format!("table_{n}"),
    };
    (0..TABLES).map(table).collect()
}

/// Builds rules of `roles` roles, of which `client` has the first `held`, and gives each grant to the role of its number.
fn subject(roles: usize, held: usize, policies: Vec<PolicyRow>, granted: impl Fn(usize) -> (Securable, PrivilegeSet)) -> Caller {
    let name = |n: usize| format!("role-{n}");
    let grant = |n: usize| {
        let (on, privileges) = granted(n);
        GrantRow { id: format!("grant-{n}"), to: Member::role(name(n % roles)), on, privileges, future: None }
    };
    let rows = RuleRows {
        version: 1,
        mode: AccessMode::On,
        roles: (0..roles).map(|n| RoleRow { name: name(n) }).collect(),
        members: (0..held).map(|n| MemberRow { role: name(n), member: Member::client("bench") }).collect(),
        grants: (0..GRANTS).map(grant).collect(),
        policies,
        ..RuleRows::default()
    };
    let began = Instant::now();
    let rules = Arc::new(Rules::build(rows).expect("rules"));
    let built = began.elapsed();
    let began = Instant::now();
    let subject = Subject::new(rules, Identity::client("bench"));
    println!("  rules built in {:.1} ms, the subject in {:.3} ms", ms(built), ms(began.elapsed()));
    Caller::new(Arc::new(subject), RequestFacts::default(), Arc::new(Unrecorded))
}

/// Returns access policies, each with a text of its own.
fn policies(text: impl Fn(usize) -> String) -> Vec<PolicyRow> {
    (0..POLICIES).map(|n| PolicyRow { name: format!("policy-{n:04}"), text: text(n) }).collect()
}

/// Returns the text of a policy as people write them: most are about one place and one role, some about names.
fn usual_policy(n: usize) -> String {
    let (role, namespace) = (n % 50, n % NAMESPACES);
    match n % 100 {
        0 => format!(
            "forbid (principal, action, resource is Esker::Table)
             when {{ resource.name like \"*_pii_{n}\" }} unless {{ principal in Esker::Role::\"role-{role}\" }};"
        ),
        1..60 => format!(
            "forbid (principal in Esker::Role::\"role-{role}\", action == Esker::Action::\"DROP\",
                 resource in Esker::Namespace::\"lake.raw.source_{namespace}\") unless {{ context.tls }};"
        ),
        _ => format!(
            "permit (principal in Esker::Role::\"role-{role}\", action in [Esker::Action::\"READ_DATA\", Esker::Action::\"LIST\"],
                 resource == Esker::Table::\"lake.raw.source_{namespace}.daily.table_{n}\") when {{ !context.tls }};"
        ),
    }
}

/// Returns the text of a policy whose condition every decision on a table evaluates.
fn policy_on_everything(n: usize) -> String {
    format!("forbid (principal, action, resource is Esker::Table) when {{ resource.name like \"*_pii_{n}\" }};")
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Returns the 50th and the 99th percentile in microseconds.
fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort();
    let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e6;
    (at(50), at(99))
}

/// Times decisions on random tables, each by itself, after `before` has run.
fn decisions(caller: &Caller, tables: &[BenchTable], rounds: usize, mut before: impl FnMut()) -> (f64, f64) {
    let mut numbers = Numbers(1);
    // What is asked for is refused on some tables and allowed on others; MODIFY is granted nowhere.
    let wanted = [Privilege::ReadData, Privilege::Modify].map(Required::privilege);
    let timed = |round: usize| {
        let path = tables[numbers.below(tables.len())].path();
        before();
        let began = Instant::now();
        black_box(caller.allows(black_box(&path), wanted[round % 2]));
        began.elapsed()
    };
    percentiles((0..rounds).map(timed).collect())
}

fn measure(what: &str, caller: &Caller, tables: &[BenchTable]) {
    let mut flushed = vec![1_u8; FLUSHED_BYTES];
    let warm = decisions(caller, tables, WARM, || {});
    let cold = decisions(caller, tables, COLD, || {
        flushed.iter_mut().step_by(64).for_each(|byte| *byte = byte.wrapping_add(1));
        black_box(&flushed);
    });
    let began = Instant::now();
    let seen = tables.iter().filter(|table| caller.sees(&table.path())).count();
    let listed = ms(began.elapsed());
    println!("  {what:<34} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {listed:>11.2} {seen:>7}", warm.0, warm.1, cold.0, cold.1);
}

fn main() {
    let tables = tables();
    let select = Bundle::Select.privileges(SecurableKind::Table, PrivilegeSet::EMPTY);
    let spread = |n: usize| {
        if n >= NAMESPACES {
            return (Securable::Table { table: tables[n].id }, select);
        }
        let levels = vec!["raw".to_owned(), format!("source_{n}")];
        let namespace = NamespaceName::new(levels).expect("valid");
        (Securable::Namespace { warehouse: 1, namespace }, select)
    };
    // Only the last grant has more than LIST, so that no decision can end before it.
    let one_place = |n: usize| (Securable::Server, if n == GRANTS - 1 { PrivilegeSet::ALL } else { Privilege::List.into() });
    println!(
        "{GRANTS} grants, {POLICIES} policies where they are named; decisions in µs (bar: p99 below 20), lists of {TABLES} tables in ms (bar: 100)"
    );
    println!("  {:<34} {:>9} {:>9} {:>9} {:>9} {:>11} {:>7}", "", "warm p50", "warm p99", "cold p50", "cold p99", "list", "seen");
    let none = Vec::new;
    measure("spread, 20 of 1,000 roles", &subject(1000, 20, none(), spread), &tables);
    measure("spread, 1,000 of 1,000 roles", &subject(1000, 1000, none(), spread), &tables);
    measure("one place, 1,000 of 1,000 roles", &subject(1000, 1000, none(), one_place), &tables);
    measure("one place, 1,000 of 10,000 roles", &subject(10_000, 1000, none(), one_place), &tables);
    measure("policies, 20 of 1,000 roles", &subject(1000, 20, policies(usual_policy), spread), &tables);
    measure("policies, 1,000 of 1,000 roles", &subject(1000, 1000, policies(usual_policy), spread), &tables);
    measure("policies on everything", &subject(1000, 20, policies(policy_on_everything), spread), &tables);
}
