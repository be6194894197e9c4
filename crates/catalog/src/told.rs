//! What a job tells of itself to who may not read the rows of its table.
//!
//! Plans and outcomes name the partitions of a table by their values, and its files by their paths, which may have such values too.

use esker_state::Job;
use serde_json::Value;

use crate::Authority;
use crate::needs::is_about_rows;

/// What a reader is told of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Everything: the reader may read the rows of the table.
    All,
    /// All but the texts that may name values and files: the reader lacks `READ_DATA`.
    Counts,
    /// That it exists: row filters or masks restrict the reader on the table, or the job names rows and the reader lacks `READ_DATA`.
    Existence,
}

impl Told {
    /// Decides what a reader is told. `reads` says if it may read the rows of the table, but for filters and masks.
    pub fn of(job: &Job, reader: &Authority, reads: bool) -> Self {
        match reads {
            _ if reader.restrictions(job.table_id).is_some() => Self::Existence,
            true => Self::All,
            false if is_about_rows(&job.kind, &job.request) => Self::Existence,
            false => Self::Counts,
        }
    }

    /// Takes out of a job what is not told.
    #[must_use]
    pub fn of_job(self, mut job: Job) -> Job {
        match self {
            Self::All => job,
            Self::Counts => {
                job.plan.iter_mut().chain(&mut job.earlier_plans).chain(&mut job.outcome).for_each(remove_names);
                job.error = job.error.map(|_| ERROR_IS_WITHHELD.to_owned());
                job
            }
            Self::Existence => Job {
                reason: String::new(),
                request: Value::Null,
                plan: None,
                earlier_plans: Vec::new(),
                progress: (0, 0),
                outcome: None,
                error: None,
                predicted: None,
                measured: None,
                ..job
            },
        }
    }
}

/// The fields whose texts are no values of rows and no paths of the table's files. The options are those that somebody asked for.
const KEPT: [&str; 6] = ["branch", "kind", "nothing_to_do", "options", "proof", "table"];

/// The text in the place of an error, which may name values and files.
pub const ERROR_IS_WITHHELD: &str = "the error may name values and files, so it is shown to who has READ_DATA on the table";

/// Empties the texts in the plan or the outcome of a job that may name values or files. Numbers stay, and so does the form.
pub fn remove_names(told: &mut Value) {
    match told {
        Value::String(text) => text.clear(),
        Value::Array(items) => items.iter_mut().for_each(remove_names),
        Value::Object(fields) => {
            for (key, value) in fields {
                if !KEPT.contains(&key.as_str()) {
                    remove_names(value);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_keeps_its_counts_and_loses_partitions_and_paths() {
        let mut plan = json!({"table": "n.t", "options": {"strategy": "binpack"}, "data_files": 2, "nothing_to_do": null,
            "groups": [{"id": 0, "partition": "region=EU", "files": [{"path": "s3://b/region=EU/a.parquet", "bytes": 7}]}],
            "left_alone": [{"partition": "region=US", "files": 1, "reason": "region=US was changed"}], "samples": ["EU", 5]});
        remove_names(&mut plan);
        let expected = json!({"table": "n.t", "options": {"strategy": "binpack"}, "data_files": 2, "nothing_to_do": null,
            "groups": [{"id": 0, "partition": "", "files": [{"path": "", "bytes": 7}]}],
            "left_alone": [{"partition": "", "files": 1, "reason": ""}], "samples": ["", 5]});
        assert_eq!(plan, expected);
    }
}
