//! What every kind of job must have: a test fails for a kind that lacks something, and names the file to edit.
//!
//! The compiler asks for the options of a new kind in [`options_of`]. Tests of `api.rs` and `kills.rs` run each kind with them.

use std::path::Path;

use esker_types::{JobKind, now_ms};
use serde_json::{Value, json};

/// Returns options with which a job of a kind has something to do on a table with several files, snapshots and a deleted row.
pub(crate) fn options_of(kind: JobKind) -> Value {
    match kind {
        JobKind::Compact => json!({"rewrite-all": true, "courtesy-seconds": 0}),
        JobKind::Expire => json!({"retain-last": 1, "older-than-ms": now_ms() + 60_000}),
        JobKind::Orphans | JobKind::Statistics => json!({}),
        JobKind::Manifests => json!({"rewrite-all": true}),
        JobKind::Erase => json!({"where": "id = 1", "deadline-ms": now_ms() + 60_000}),
        JobKind::Check => json!({"files": true}),
    }
}

/// Reads a file of the repository.
fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// Returns the line of a file that contains a text.
fn line_with(file: &str, text: &str) -> String {
    let all = read(file);
    all.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{file} has no line with {text:?}")).to_owned()
}

#[test]
fn every_kind_is_in_the_lists_of_the_documentation() {
    let listed = [
        ("docs/ARCHITECTURE.md", line_with("docs/ARCHITECTURE.md", "| `maintenance` |")),
        ("docs/glossary.md", line_with("docs/glossary.md", "| job kind |")),
    ];
    let page = read("docs/maintenance.md");
    for kind in JobKind::ALL {
        for (file, line) in &listed {
            let mut words = line.split(|c: char| !c.is_alphanumeric());
            assert!(words.any(|word| word == kind.as_str()), "{file} does not list {kind}: {line}");
        }
        let row = format!("| [{kind}](#");
        assert!(page.contains(&row), "docs/maintenance.md: the table of kinds has no row `{row}…`, or no section behind it");
    }
}

#[test]
fn the_record_of_every_kind_is_a_snapshot() {
    for kind in JobKind::ALL {
        let file = format!("tests/it/wire/snapshots/it__wire__jobs__{kind}.snap");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&file);
        assert!(path.exists(), "{file} is missing: add the test `{kind}` to tests/it/wire/jobs.rs, which writes it");
    }
}

#[test]
fn every_kind_has_integration_tests_of_its_own() {
    let module = |kind: JobKind| match kind {
        JobKind::Compact => "compaction",
        JobKind::Expire => "expiry",
        JobKind::Orphans => "orphans",
        JobKind::Manifests => "manifests",
        JobKind::Statistics => "statistics",
        JobKind::Erase => "erasure",
        JobKind::Check => "check",
    };
    let main = read("tests/it/main.rs");
    for kind in JobKind::ALL {
        let module = module(kind);
        assert!(main.contains(&format!("mod {module};")), "tests/it/main.rs has no module {module}, with the tests of {kind}");
        assert!(read(&format!("tests/it/{module}.rs")).contains("#[tokio::test"), "tests/it/{module}.rs has no test");
    }
}
