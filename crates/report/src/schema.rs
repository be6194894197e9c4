//! The contract of events, `api/events.schema.json`: the envelopes, and the details of each kind.

use esker_state::{Event, EventData};
use esker_types::schema::Definitions;
use serde_json::{Value, json};

use crate::cloud_event::{CloudEvent, TYPE_PREFIX};

/// Makes the JSON Schema of events.
///
/// It holds for a CloudEvent, as webhooks and Kafka topics get it. `$defs/ReplayedEvent` holds for an event of
/// `GET /api/v1/events`.
pub fn event_schema() -> Value {
    let mut definitions = Definitions::default();
    let envelope = definitions.add::<CloudEvent<'_>>();
    let replayed = definitions.add::<Event>();
    let details = definitions.add::<EventData>();
    let mut prefixed = definitions.get("EventData").cloned().unwrap_or_default();
    for kind in
        prefixed["oneOf"].as_array_mut().into_iter().flatten().filter_map(|kind| kind.pointer_mut("/properties/type/enum/0"))
    {
        *kind = format!("{TYPE_PREFIX}{}", kind.as_str().unwrap_or_default()).into();
    }
    prefixed["description"] = "The type of a CloudEvent with its details.".into();
    let prefixed = definitions.insert("CloudEventData", prefixed);
    definitions.insert(
        "ReplayedEvent",
        json!({"description": "An event as `GET /api/v1/events` returns it.", "allOf": [replayed, details]}),
    );
    let root = json!({
        "description": "A change of the catalog, or the begin or the end of a job, as webhooks and Kafka topics get \
            it: a CloudEvent 1.0. `$defs/ReplayedEvent` is the same event in an answer of `GET /api/v1/events`. New \
            kinds and new fields of `data` may appear in any release. OpenLineage receivers get events about jobs as \
            run events of OpenLineage 2.0.2, whose schema is https://openlineage.io/spec/2-0-2/OpenLineage.json.",
        "allOf": [envelope, prefixed],
    });
    definitions.document("Events", root)
}

#[cfg(test)]
mod tests {
    use esker_state::{JobEventData, NoEventData, RenamedData};
    use esker_types::JobId;

    use super::*;
    use crate::cloud_event::cloud_event;

    /// Returns an event as the outbox has it.
    fn stored(data: &EventData) -> Event {
        let written = json!(data);
        let text = str::to_owned;
        let (uuid, kind) = (text("u"), text(written["type"].as_str().expect("a kind")));
        let (warehouse, subject, principal) = (text("w"), text("n.t"), text("p"));
        Event { id: 7, uuid, warehouse, kind, subject, principal, time_ms: 1_700_000_000_123, data: written["data"].clone() }
    }

    #[test]
    fn the_file_in_api_is_what_the_code_says() {
        esker_types::schema::assert_contract_file("events.schema.json", &event_schema());
    }

    #[test]
    fn events_are_valid_in_both_envelopes_with_the_details_of_their_kind_only() {
        let mut schema = event_schema();
        let cloud = jsonschema::validator_for(&schema).expect("a schema");
        schema["allOf"] = json!([{"$ref": "#/$defs/ReplayedEvent"}]);
        let replayed = jsonschema::validator_for(&schema).expect("a schema");
        let job = JobEventData {
            job_id: JobId::fresh(),
            kind: "compact".to_owned(),
            reason: "r".to_owned(),
            engine: None,
            location: None,
            error: None,
            outcome: Some(json!({"files_in": 2})),
            started_ms: Some(1),
            finished_ms: None,
        };
        for data in [
            EventData::JobSucceeded(job),
            EventData::TableRenamed(RenamedData { to: "n.u".to_owned() }),
            EventData::FunctionDropped(NoEventData {}),
        ] {
            let event = stored(&data);
            for (validator, value) in [(&cloud, cloud_event(&event)), (&replayed, json!(event))] {
                let errors: Vec<String> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
                assert_eq!(errors, Vec::<String>::new(), "{value}");
            }
        }
        let mut wrong = stored(&EventData::TableRenamed(RenamedData { to: "n.u".to_owned() }));
        wrong.data = json!({"protected": true});
        assert!(!cloud.is_valid(&cloud_event(&wrong)) && !replayed.is_valid(&json!(wrong)));
    }
}
