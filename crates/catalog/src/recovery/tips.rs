//! Which of a table's metadata files is the current one, by what the files say of one another.

use std::collections::HashSet;

use esker_types::Millis;
use serde::Serialize;

/// A metadata file that may be current.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tip {
    /// Its URI.
    pub uri: String,
    /// When the table was last changed, by it.
    pub updated_ms: Millis,
    /// The current snapshot, by it.
    pub snapshot: Option<i64>,
    /// How many commits it is ahead of the entry.
    pub commits: u64,
}

/// A metadata file with what it says of those before it.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) tip: Tip,
    /// The number that its name begins with.
    pub(crate) version: u64,
    /// The files that were current before, by its metadata log. Unknown for a view.
    pub(crate) log: Option<HashSet<String>>,
}

/// What the files come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The entry points at the newest.
    Current,
    /// One file is the newest, and was built on what the entry points at.
    Advance(Tip),
    /// More than one may be.
    Ambiguous(Vec<Tip>),
}

/// The number that a metadata file's name begins with: `00012-….metadata.json`, or `v12.metadata.json`.
pub(crate) fn version(uri: &str) -> Option<u64> {
    let name = uri.rsplit('/').next()?.trim_start_matches('v');
    let end = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
    name[..end].parse().ok()
}

/// Whether a file is a metadata file that was made after another.
pub fn is_ahead(path: &str, metadata_location: &str) -> bool {
    path.ends_with(".metadata.json") && version(path) > version(metadata_location)
}

/// Judges the files of a table that are newer than its entry.
///
/// A commit builds on the file that was current then, and names it in its log. So whatever has the newest version is current, and
/// what has an older one and is in nobody's log is of an attempt that failed. Two files of the newest version are an attempt that
/// failed and one that may not have: only who made them can tell. So is one that does not build on the entry's file.
pub(crate) fn judge(entry: &str, at: u64, candidates: Vec<Candidate>) -> Verdict {
    let newest = candidates.iter().map(|c| c.version).max().filter(|newest| *newest > at);
    let Some(newest) = newest else { return Verdict::Current };
    // Where the log was cut, it does not reach back to the entry's file; a name in it that is older does.
    let reaches = |log: &HashSet<String>| {
        let known = |uri: &String| candidates.iter().any(|c| c.tip.uri == *uri);
        let cut = log.iter().filter_map(|uri| version(uri)).min().is_some_and(|oldest| oldest > at);
        log.contains(entry) || (cut && log.iter().any(known))
    };
    let mut tips: Vec<&Candidate> = candidates.iter().filter(|c| c.version == newest).collect();
    tips.sort_by_key(|c| &c.tip.uri);
    match tips.as_slice() {
        [only] if only.log.as_ref().is_none_or(reaches) => Verdict::Advance(only.tip.clone()),
        several => Verdict::Ambiguous(several.iter().map(|c| c.tip.clone()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, log: &[&str]) -> Candidate {
        let tip = Tip { uri: format!("m/{name}"), updated_ms: 0, snapshot: None, commits: 0 };
        let log = log.iter().map(|l| format!("m/{l}")).collect();
        Candidate { version: version(name).expect("a version"), tip, log: Some(log) }
    }

    fn judged(files: &[Candidate]) -> String {
        match judge("m/00001-a", 1, files.to_vec()) {
            Verdict::Current => "current".to_owned(),
            Verdict::Advance(tip) => tip.uri,
            Verdict::Ambiguous(tips) => format!("{} tips", tips.len()),
        }
    }

    #[test]
    fn the_newest_that_builds_on_the_entry_is_current() {
        assert_eq!(judged(&[]), "current");
        assert_eq!(judged(&[file("00002-b", &["00001-a"])]), "m/00002-b");
        let chain = [file("00002-b", &["00001-a"]), file("00003-c", &["00001-a", "00002-b"])];
        assert_eq!(judged(&chain), "m/00003-c");
    }

    #[test]
    fn a_failed_attempt_that_others_went_past_is_none() {
        let files = [file("00002-x", &["00001-a"]), file("00002-b", &["00001-a"]), file("00003-c", &["00001-a", "00002-b"])];
        assert_eq!(judged(&files), "m/00003-c");
    }

    #[test]
    fn two_of_the_newest_version_are_not_decided_between() {
        assert_eq!(judged(&[file("00002-x", &["00001-a"]), file("00002-b", &["00001-a"])]), "2 tips");
    }

    #[test]
    fn a_cut_log_is_followed_through_the_files_and_a_strange_file_is_not() {
        let cut = [file("00002-b", &["00001-a"]), file("00003-c", &["00002-b"]), file("00004-d", &["00003-c"])];
        assert_eq!(judged(&cut), "m/00004-d");
        assert_eq!(judged(&[file("00009-z", &["00008-y"])]), "1 tips", "nothing of its log is known");
        assert_eq!(judged(&[file("00002-z", &["00001-other"])]), "1 tips");
    }
}
