//! The contract of jobs, `api/jobs.schema.json`: the options, the plan and the outcome of each kind.
//!
//! The types come from [`JobType`], so a kind without a schema does not compile.

use esker_state::UNDO;
use esker_types::JobKind;
use esker_types::schema::Definitions;
use serde_json::{Map, Value, json};

use super::kinds::{kind_view, schemas_of};
use crate::UndoOutcome;
use crate::job_type::JobType;

/// The schemas of one kind of jobs, as references into a document.
pub(super) struct JobSchemas {
    pub(super) options: Value,
    record: Value,
    preview: Value,
    outcome: Value,
}

impl JobSchemas {
    /// Adds the types of a kind to a document.
    pub(super) fn of<T: JobType>(definitions: &mut Definitions) -> Self {
        Self {
            options: definitions.add::<T::Options>(),
            record: definitions.add::<T::Record>(),
            preview: definitions.add::<T::Preview>(),
            outcome: definitions.add::<T::Outcome>(),
        }
    }
}

/// Makes the JSON Schema of jobs.
///
/// It holds for the record of a job, as `GET /api/v1/jobs/{job}` returns it, and for an object with some of its fields. It says
/// what depends on the kind. `options` is the body of the route that starts a job, and `preview` the answer to its dry run.
pub fn job_schema() -> Value {
    let mut definitions = Definitions::default();
    let mut kinds: Vec<Value> = JobKind::ALL.map(|kind| of_kind(kind, &mut definitions)).to_vec();
    let undone = definitions.add::<UndoOutcome>();
    kinds.push(json!({
        "title": UNDO,
        "description": "The record of an undo. It has no plan.",
        "properties": {"kind": {"const": UNDO}, "outcome": or_null(&undone)},
    }));
    let names: Vec<&str> = JobKind::ALL.iter().map(|kind| kind.as_str()).chain([UNDO]).collect();
    let root = json!({
        "description": "The record of a job, as far as it depends on the kind. `request` is the kind with its options. \
            `options` is the body of POST /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/{kind}, \
            and `preview` the answer to its dry run. `plan` is the plan of the last attempt, `earlier_plans` has those \
            of the attempts before. A job that another engine ran has the outcome of that engine, whatever it is. \
            Sizes are in bytes. Names that end with `_ms` or `-ms` are times in milliseconds since the Unix epoch, or \
            durations in milliseconds.",
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"description": "The kind of the job.", "enum": names}},
        "oneOf": kinds,
    });
    definitions.document("Jobs", root)
}

/// Describes the records of one kind.
fn of_kind(kind: JobKind, definitions: &mut Definitions) -> Value {
    let JobSchemas { options, record, preview, outcome } = schemas_of(kind, definitions);
    let request = Map::from_iter([(kind.as_str().to_owned(), options.clone())]);
    json!({
        "title": kind,
        "description": kind_view(kind).summary,
        "properties": {
            "kind": {"const": kind},
            "request": {"type": "object", "properties": request, "required": [kind], "additionalProperties": false},
            "options": options,
            "preview": preview,
            "plan": or_null(&record),
            "earlier_plans": {"type": "array", "items": record},
        },
        "if": {"properties": {"engine": {"type": "string"}}, "required": ["engine"]},
        "else": {"properties": {"outcome": or_null(&outcome)}},
    })
}

/// Allows null beside a schema.
fn or_null(schema: &Value) -> Value {
    json!({"anyOf": [{"type": "null"}, schema]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_in_api_is_what_the_code_says() {
        esker_types::schema::assert_contract_file("jobs.schema.json", &job_schema());
    }
}
