//! Encodes events about jobs as run events of OpenLineage 2.0.2.
//!
//! Each job of Esker is one run. Its only dataset is an output: the table of the job. Events that are not about jobs have no run
//! event.

use chrono::{DateTime, SecondsFormat};
use esker_state::Event;
use esker_types::JobKind;
use serde_json::{Value, json};

/// The URI of the producer, which every event and facet names.
const PRODUCER: &str = concat!("urn:esker:", env!("CARGO_PKG_VERSION"));

/// Returns a facet with the given fields, the producer and the URL of the facet's schema.
///
/// `schema` is the version and the name of the schema: `1-0-1/ErrorMessageRunFacet`.
fn facet(schema: &str, mut fields: Value) -> Value {
    let schema = format!("https://openlineage.io/spec/facets/{schema}.json");
    fields["_producer"] = PRODUCER.into();
    fields["_schemaURL"] = schema.into();
    fields
}

/// Encodes an event about a job as a run event. Returns `None` for other events.
///
/// `namespace` is the namespace of the names of jobs. The id of the run is the id of the job, however often the job is attempted.
/// The dataset is named by the location of the table (`s3://bucket` and the key). The name of the table in the catalog is one of
/// the dataset's symlinks, as OpenLineage calls other names of a dataset.
///
/// Spec: OpenLineage 2.0.2, "RunEvent", and "Naming".
pub(crate) fn run_event(event: &Event, namespace: &str) -> Option<Value> {
    let kind = match event.kind.as_str() {
        "job.started" => "START",
        "job.succeeded" => "COMPLETE",
        "job.failed" => "FAIL",
        "job.cancelled" => "ABORT",
        _ => return None,
    };
    let (data, text) = (&event.data, |key: &str| event.data[key].as_str().unwrap_or_default());
    let time = DateTime::from_timestamp_millis(event.time_ms).unwrap_or_default();
    let engine = json!({"name": data["engine"].as_str().unwrap_or("esker"), "version": env!("CARGO_PKG_VERSION")});
    let mut run_facets = json!({"processing_engine": facet("1-1-1/ProcessingEngineRunFacet", engine)});
    if let Some(error) = data["error"].as_str() {
        let error = json!({"message": error, "programmingLanguage": "RUST"});
        run_facets["errorMessage"] = facet("1-0-1/ErrorMessageRunFacet", error);
    }
    let job_type = json!({"processingType": "BATCH", "integration": "ESKER", "jobType": text("kind").to_uppercase()});
    let mut body = json!({
        "eventType": kind,
        "eventTime": time.to_rfc3339_opts(SecondsFormat::Millis, true),
        "producer": PRODUCER,
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": text("job-id"), "facets": run_facets},
        "job": {
            "namespace": namespace,
            "name": format!("{}.{}.{}", event.warehouse, event.subject, text("kind")),
            "facets": {"jobType": facet("2-0-3/JobTypeJobFacet", job_type)},
        },
        "inputs": [],
        "outputs": [],
    });
    if let Some((dataset_namespace, name)) = data["location"].as_str().map(dataset_name) {
        let catalog_name =
            json!({"namespace": format!("{namespace}/{}", event.warehouse), "name": event.subject, "type": "TABLE"});
        let symlinks = facet("1-0-1/SymlinksDatasetFacet", json!({"identifiers": [catalog_name]}));
        let mut table = json!({"namespace": dataset_namespace, "name": name, "facets": {"symlinks": symlinks}});
        let outcome = &data["outcome"];
        if text("kind") == JobKind::Compact.as_str() && outcome["files_out"].is_u64() {
            let statistics =
                json!({"rowCount": outcome["records"], "size": outcome["bytes_out"], "fileCount": outcome["files_out"]});
            table["outputFacets"] = json!({"outputStatistics": facet("1-0-2/OutputStatisticsOutputDatasetFacet", statistics)});
        }
        body["outputs"] = json!([table]);
    }
    Some(body)
}

/// Returns the namespace and the name of the dataset at a location: `s3://bucket` and `n/t` for `s3://bucket/n/t`.
///
/// Spec: OpenLineage, "Naming".
fn dataset_name(location: &str) -> (String, String) {
    let Some((scheme, rest)) = location.split_once("://") else {
        return ("file".to_owned(), location.trim_start_matches("file:").to_owned());
    };
    match scheme {
        "file" => ("file".to_owned(), rest.to_owned()),
        _ => {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            let scheme = if matches!(scheme, "s3a" | "s3n") { "s3" } else { scheme };
            (format!("{scheme}://{bucket}"), key.trim_end_matches('/').to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, data: Value) -> Event {
        let text = str::to_owned;
        let (id, uuid, warehouse, subject, principal) = (7, text("u"), text("w"), text("n.t"), text("p"));
        Event { id, uuid, warehouse, kind: text(kind), subject, principal, time_ms: 1_700_000_000_123, data }
    }

    #[test]
    fn a_job_is_a_run_on_its_table() {
        let data =
            json!({"job-id": "j", "kind": "compact", "location": "s3a://lake/n/t/", "error": "no", "outcome": {"files_out": 1}});
        let run_facts = run_event(&event("job.failed", data), "esker").expect("one");
        assert_eq!(
            (&run_facts["eventType"], &run_facts["run"]["runId"], &run_facts["job"]["name"]),
            (&json!("FAIL"), &json!("j"), &json!("w.n.t.compact"))
        );
        assert_eq!(run_facts["run"]["facets"]["errorMessage"]["message"], "no");
        let table = &run_facts["outputs"][0];
        assert_eq!((&table["namespace"], &table["name"]), (&json!("s3://lake"), &json!("n/t")));
        assert_eq!(table["facets"]["symlinks"]["identifiers"][0]["name"], "n.t");
        assert_eq!(table["outputFacets"]["outputStatistics"]["fileCount"], 1);
        assert_eq!(run_event(&event("table.updated", json!({})), "esker"), None);
        assert_eq!(dataset_name("file:/a/b"), ("file".to_owned(), "/a/b".to_owned()));
        assert_eq!(dataset_name("file:///a/b"), ("file".to_owned(), "/a/b".to_owned()));
    }
}
