//! Boundaries that the compiler does not check. The tests search the sources for names.
//!
//! Only `format` and `table` handle manifests, so another version of the table format changes nothing in the crates above. Only the
//! context of a job writes the job's files, so a crash leaves no file that nothing knows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Names of types and functions for manifest lists, manifests and column bounds, which the crates above must not use.
const INNER: [&str; 12] = [
    "BoundMap",
    "ManifestBatch",
    "ManifestFile",
    "ManifestListWriter",
    "NewManifestList",
    "decode_manifest",
    "load_manifests",
    "lower_bounds",
    "manifest_list",
    "read_manifest_header",
    "read_manifest_list",
    "upper_bounds",
];

/// The files of other crates that use such names all the same, with the reason.
const EXCEPTED: [(&str, &str); 10] = [
    ("catalog/src/cache.rs", "a snapshot's files are known by its list, and what a manifest comes to is kept by manifest"),
    ("catalog/src/merge/mod.rs", "the receipt of a merged commit names the list that its client wrote"),
    ("maintenance/src/check/metadata.rs", "a check looks at manifests themselves, and says what of them is wrong"),
    ("maintenance/src/check/mod.rs", "a check reads manifests one by one, and says which can't be read"),
    ("maintenance/src/check/snapshots.rs", "a check looks whether each manifest of each snapshot is there"),
    ("maintenance/src/manifests/mod.rs", "maintenance of manifests decides by what they are"),
    ("query/src/inspect.rs", "tables about a table show its snapshots, manifests and bounds under these names"),
    ("query/src/served_tables.rs", "the list of those tables has the names of their columns"),
    ("state/src/conformance.rs", "a test builds the receipt of a merged commit"),
    ("state/src/tables/merged.rs", "the receipt of a merged commit names the list that its client wrote"),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|end| end == "rs") => found.push(path),
            false => {}
        }
    }
}

/// Returns the inner names that a file's code uses. Comments are left out, and tests, which may build what they check.
fn used(text: &str) -> BTreeSet<&str> {
    let code = text.split("#[cfg(test)]\n").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let words = lines.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.filter(|word| INNER.contains(word)).collect()
}

#[test]
fn no_crate_above_table_names_a_manifest_list_or_a_bound_map() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut files = Vec::new();
    sources(&crates, &mut files);
    let mut met = BTreeSet::new();
    for file in files {
        let name = file.strip_prefix(&crates).expect("inside").to_str().expect("text").to_owned();
        if ["format/", "table/"].iter().any(|own| name.starts_with(own)) {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("read");
        let used = used(&text);
        match EXCEPTED.iter().any(|(excepted, _)| *excepted == name) {
            false => assert!(used.is_empty(), "crates/{name} names {used:?}; `table` has functions for what is asked of them"),
            true if !used.is_empty() => drop(met.insert(name)),
            true => {}
        }
    }
    // An exception that is no longer needed must be removed from the list.
    let expected: BTreeSet<String> = EXCEPTED.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(met, expected);
}

/// Ways to write a file or to commit that are not a job's own, each with what a job calls instead.
const NOT_OF_JOBS: [(&str, &str); 4] = [
    ("storage().write(", "JobContext::write"),
    ("Destination {", "JobContext::destination"),
    (".recorder)(", "JobContext::write or JobContext::destination"),
    (".commit_to(", "Catalog::commit_rebase"),
];

#[test]
fn jobs_write_files_and_commit_only_in_ways_that_survive_a_crash() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/maintenance/src");
    let mut files = Vec::new();
    sources(&source, &mut files);
    for file in files {
        let name = file.strip_prefix(&source).expect("inside").to_str().expect("text").to_owned();
        // The first defines the ways to write. The second commits what a job removed, and no job.
        if ["context.rs", "expire/undo.rs"].contains(&name.as_str()) {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("read");
        let code = text.split("#[cfg(test)]\n").next().unwrap_or_default();
        for (way, instead) in NOT_OF_JOBS {
            assert!(!code.contains(way), "crates/maintenance/src/{name} has {way:?}: a job calls {instead}");
        }
    }
}
