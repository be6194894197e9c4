//! The judgement of which metadata file of a table is the current one, from the metadata logs of all.
//!
//! A commit names its predecessor in its metadata log. A *tip* is a metadata file on which no other was built. If the only tip
//! was built on the entry's file, the entry advances to it. Two tips need a person's choice: the longer chain is not always the
//! one that clients saw.
//!
//! Nothing is read here. Start reading at [`judge`].

use std::collections::{BTreeMap, HashSet};

use esker_types::Millis;
use serde::Serialize;
use uuid::Uuid;

use crate::locations::version;

/// A metadata file that may be the current one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tip {
    /// URI of the file.
    pub uri: String,
    /// Time of the table's last change by this file, in milliseconds since the Unix epoch.
    pub updated_ms: Millis,
    /// Id of the current snapshot by this file; `None` without one and for views.
    pub snapshot: Option<i64>,
    /// Number of versions by which the file is ahead of the entry's; 0 if it is not ahead.
    pub commits: u64,
}

/// A metadata file with the predecessors that it names.
#[derive(Debug, Clone)]
pub(crate) struct CandidateMetadata {
    pub(crate) tip: Tip,
    /// The number that its name begins with.
    pub(crate) version: u64,
    /// Identities of the files in its metadata log; `None` for a view, which has no log.
    pub(crate) log: Option<HashSet<String>>,
    /// Directory of the metadata file after it, by its location and properties.
    pub(crate) metadata_directory: String,
}

/// The metadata file that an entry points to.
#[derive(Debug, Clone)]
pub(crate) struct CatalogPointer {
    pub(crate) uri: String,
    pub(crate) version: u64,
    /// The file as a possible choice; `None` if it is gone from storage.
    pub(crate) tip: Option<Tip>,
}

/// The judgement on the metadata files of a table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TipVerdict {
    /// The entry points to the only file that may be current.
    Current,
    /// The only other file that may be current was built on the entry's file.
    Advance(Tip),
    /// Several files may be current, or the only one was not built on the entry's file.
    Ambiguous(Vec<Tip>),
}

/// Returns the name of a metadata file if it has a UUID, so that no other file has this name.
pub(crate) fn unique_name(uri: &str) -> Option<&str> {
    let name = uri.rsplit('/').next()?;
    let uuid = name.split_once('-')?.1.get(..36)?;
    Uuid::try_parse(uuid).ok().map(|_| name)
}

/// Returns the identity of a metadata file, wherever it lies: its name if that is unique, otherwise its URI.
///
/// A commit that moves a table's metadata writes one file to two directories.
pub(crate) fn identity(uri: &str) -> &str {
    unique_name(uri).unwrap_or(uri)
}

/// Keeps one of the copies of each file: the one in the directory that the file itself names, if it is there.
pub(crate) fn distinct(files: &[CandidateMetadata]) -> Vec<CandidateMetadata> {
    let is_home = |c: &CandidateMetadata| c.tip.uri.rsplit_once('/').is_some_and(|(dir, _)| dir == c.metadata_directory);
    let mut found: BTreeMap<&str, &CandidateMetadata> = BTreeMap::new();
    for file in files {
        let place = found.entry(identity(&file.tip.uri)).or_insert(file);
        if !is_home(place) && is_home(file) {
            *place = file;
        }
    }
    found.into_values().cloned().collect()
}

/// Checks whether a path is a metadata file of a later version than another metadata file.
pub fn is_ahead(path: &str, metadata_location: &str) -> bool {
    path.ends_with(".metadata.json") && version(path) > version(metadata_location)
}

/// Judges the files of a table that its entry's file was not built on and that are not known to have failed.
///
/// A file on which no other was built is a tip. A tip may be a commit that a client was answered for, or an attempt that failed;
/// only a person can decide. After a backup was restored and committed to, both chains are in storage, and the longer one need
/// not be right.
pub(crate) fn judge(entry: &CatalogPointer, others: &[CandidateMetadata]) -> TipVerdict {
    if others.is_empty() {
        return TipVerdict::Current;
    }
    let mut tips: Vec<&CandidateMetadata> = others.iter().filter(|c| is_tip(entry, c, others)).collect();
    tips.sort_by_key(|c| &c.tip.uri);
    if let [only] = tips.as_slice()
        && builds_on(entry, only, others)
    {
        return TipVerdict::Advance(only.tip.clone());
    }
    // The entry's own file is no tip if another one was built on it.
    let own = entry.tip.iter().filter(|_| !tips.iter().any(|tip| builds_on(entry, tip, others)));
    TipVerdict::Ambiguous(own.chain(tips.iter().map(|c| &c.tip)).cloned().collect())
}

/// Checks that no other file was built on this one.
///
/// The files of a view have no log. Those of the newest version are tips, and those of the entry's own version.
fn is_tip(entry: &CatalogPointer, one: &CandidateMetadata, others: &[CandidateMetadata]) -> bool {
    match one.log {
        Some(_) => !others.iter().any(|c| c.log.as_ref().is_some_and(|log| log.contains(identity(&one.tip.uri)))),
        None => one.version == entry.version || !others.iter().any(|c| c.version > one.version),
    }
}

/// Checks whether a file was built on the entry's.
///
/// A log is cut after some entries, so the logs of the files in it are followed, too.
fn builds_on(entry: &CatalogPointer, tip: &CandidateMetadata, others: &[CandidateMetadata]) -> bool {
    let Some(log) = &tip.log else { return tip.version > entry.version };
    let mut chain: HashSet<&String> = log.iter().collect();
    let mut open: Vec<&String> = chain.iter().copied().collect();
    while let Some(file) = open.pop() {
        let found = others.iter().find(|c| identity(&c.tip.uri) == file).and_then(|c| c.log.as_ref());
        open.extend(found.into_iter().flatten().filter(|before| chain.insert(before)));
    }
    chain.iter().any(|file| *file == identity(&entry.uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tip(name: &str) -> Tip {
        Tip { uri: format!("m/{name}"), updated_ms: 0, snapshot: None, commits: 0 }
    }

    fn file(name: &str, log: &[&str]) -> CandidateMetadata {
        let log = log.iter().map(|l| format!("m/{l}")).collect();
        CandidateMetadata {
            version: version(name).expect("a version"),
            tip: tip(name),
            log: Some(log),
            metadata_directory: "m".to_owned(),
        }
    }

    fn judged_at(entry: &str, files: &[CandidateMetadata]) -> String {
        let entry =
            CatalogPointer { uri: format!("m/{entry}"), version: version(entry).expect("a version"), tip: Some(tip(entry)) };
        match judge(&entry, files) {
            TipVerdict::Current => "current".to_owned(),
            TipVerdict::Advance(tip) => tip.uri,
            TipVerdict::Ambiguous(tips) => tips.iter().map(|tip| &tip.uri[2..]).collect::<Vec<_>>().join(" "),
        }
    }

    fn judged(files: &[CandidateMetadata]) -> String {
        judged_at("00001-a", files)
    }

    #[test]
    fn the_newest_that_builds_on_the_entry_is_current() {
        assert_eq!(judged(&[]), "current");
        assert_eq!(judged(&[file("00002-b", &["00001-a"])]), "m/00002-b");
        let chain = [file("00002-b", &["00001-a"]), file("00003-c", &["00001-a", "00002-b"])];
        assert_eq!(judged(&chain), "m/00003-c");
    }

    #[test]
    fn a_file_that_others_went_past_is_a_tip_until_it_is_known_to_have_failed() {
        let files = [file("00002-x", &["00001-a"]), file("00002-b", &["00001-a"]), file("00003-c", &["00001-a", "00002-b"])];
        assert_eq!(judged(&files), "00002-x 00003-c");
    }

    #[test]
    fn files_on_the_same_predecessor_are_not_decided_between_whichever_the_entry_points_at() {
        assert_eq!(judged(&[file("00002-x", &["00001-a"]), file("00002-b", &["00001-a"])]), "00002-b 00002-x");
        assert_eq!(judged_at("00002-b", &[file("00002-x", &["00001-a"])]), "00002-b 00002-x");
    }

    #[test]
    fn a_chain_that_overtook_another_does_not_win_by_that() {
        assert_eq!(judged_at("00004-d", &[file("00002-x", &["00001-a"])]), "00004-d 00002-x", "the entry's is the longer one");
        let other = [file("00002-x", &["00001-a"]), file("00003-y", &["00001-a", "00002-x"])];
        assert_eq!(judged_at("00002-b", &other), "00002-b 00003-y", "the other is");
    }

    #[test]
    fn a_cut_log_is_followed_through_the_files_and_a_strange_file_is_not() {
        let cut = [file("00002-b", &["00001-a"]), file("00003-c", &["00002-b"]), file("00004-d", &["00003-c"])];
        assert_eq!(judged(&cut), "m/00004-d");
        assert_eq!(judged(&[file("00009-z", &["00008-y"])]), "00001-a 00009-z", "nothing of its log is known");
        assert_eq!(judged(&[file("00002-z", &["00001-other"])]), "00001-a 00002-z");
    }

    #[test]
    fn a_file_in_two_directories_is_one_and_lies_where_it_says() {
        let name = "00002-0197f3c2-0000-7000-8000-000000000002.metadata.json";
        let at = |dir: &str| CandidateMetadata {
            tip: Tip { uri: format!("{dir}/{name}"), ..tip("x") },
            log: Some(HashSet::from(["m/00001-a".to_owned()])),
            metadata_directory: "new".to_owned(),
            ..file("00002-b", &[])
        };
        let next = CandidateMetadata { log: Some(HashSet::from([identity(name).to_owned()])), ..file("00003-c", &[]) };
        for files in [[at("m"), at("new")], [at("new"), at("m")]] {
            let found = distinct(&files);
            assert_eq!(found.iter().map(|c| c.tip.uri.as_str()).collect::<Vec<_>>(), [format!("new/{name}")]);
            assert_eq!(judged(&found), format!("new/{name}"));
            assert_eq!(
                judged(&distinct(&[files.to_vec(), vec![next.clone()]].concat())),
                "m/00003-c",
                "what was built on either"
            );
        }
        assert_eq!(distinct(&[file("00002-a", &[]), file("00002-b", &[])]).len(), 2, "names without a UUID tell nothing");
    }

    #[test]
    fn of_a_view_whose_files_name_nothing_the_newest_is_current_unless_one_is_beside_it() {
        let view = |name: &str| CandidateMetadata { log: None, ..file(name, &[]) };
        assert_eq!(judged(&[view("00002-b"), view("00003-c")]), "m/00003-c");
        assert_eq!(judged(&[view("00002-b"), view("00002-c")]), "00002-b 00002-c");
        assert_eq!(judged(&[view("00001-b")]), "00001-a 00001-b");
    }
}
