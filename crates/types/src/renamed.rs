//! Old names that go on working for a release, and the release that drops them.
//!
//! This is the only list of names that end. Code that meets one looks it up here and logs a warning. A test fails in the release
//! that an entry names, so no old name outlives its time. Old fields of job records are not here: records stay in the database, so
//! they are read for good (`jobs/compatibility.rs` in `esker-maintenance`).

/// A name that has another one now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renamed {
    /// The name of earlier releases.
    pub old: &'static str,
    /// The name of today.
    pub new: &'static str,
    /// The release that no longer takes the old name.
    pub dropped_in: &'static str,
}

/// Keys of the configuration, as in the TOML file with dots.
pub const CONFIGURATION_KEYS: [Renamed; 1] = [Renamed { old: "debug.halt_at", new: "debug.failpoint", dropped_in: "0.3.0" }];

/// Fields in the `data` of events, which have both names until then.
pub const EVENT_FIELDS: [Renamed; 1] = [Renamed { old: "doomed-files", new: "quarantined-files", dropped_in: "0.3.0" }];

impl Renamed {
    /// Words the warning for a name that is used in a place, such as a file.
    pub fn warning(&self) -> String {
        format!("{} is now {}; release {} no longer takes the old name", self.old, self.new, self.dropped_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Vec<u32> {
        text.split('.').map(|number| number.parse().expect("a number")).collect()
    }

    #[test]
    fn no_old_name_outlives_its_release() {
        for renamed in CONFIGURATION_KEYS.iter().chain(&EVENT_FIELDS) {
            assert!(version(env!("CARGO_PKG_VERSION")) < version(renamed.dropped_in), "drop {renamed:?}");
        }
    }
}
