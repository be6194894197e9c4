//! What a job tells of itself to who may not read the rows of its table.
//!
//! Plans and outcomes name the partitions of a table by their values, and its files by their paths, which may have such values too.

use serde_json::Value;

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
