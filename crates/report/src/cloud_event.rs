//! Encodes an event of the outbox as a CloudEvent 1.0.

use chrono::{DateTime, SecondsFormat};
use esker_state::Event;
use serde_json::{Value, json};

/// Encodes an event as a CloudEvent in the JSON format, structured mode.
///
/// Spec: CloudEvents 1.0, "Required Attributes".
pub(crate) fn cloud_event(event: &Event) -> Value {
    let time = DateTime::from_timestamp_millis(event.time_ms).unwrap_or_default();
    json!({
        "specversion": "1.0",
        "id": event.uuid,
        "source": format!("/esker/warehouses/{}", event.warehouse),
        "type": format!("io.esker.{}", event.kind),
        "subject": event.subject,
        "time": time.to_rfc3339_opts(SecondsFormat::Millis, true),
        "datacontenttype": "application/json",
        // An extension attribute: the event's number in the outbox, from which the replay API can go on.
        "sequence": event.id.to_string(),
        "principal": event.principal,
        "data": event.data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_those_of_the_specification() {
        let event = Event {
            id: 7,
            uuid: "u".to_owned(),
            warehouse: "w".to_owned(),
            kind: "table.updated".to_owned(),
            subject: "n.t".to_owned(),
            principal: "admin".to_owned(),
            time_ms: 1_700_000_000_123,
            data: json!({"x": 1}),
        };
        let expected = json!({
            "specversion": "1.0", "id": "u", "source": "/esker/warehouses/w", "type": "io.esker.table.updated",
            "subject": "n.t", "time": "2023-11-14T22:13:20.123Z", "datacontenttype": "application/json",
            "sequence": "7", "principal": "admin", "data": {"x": 1},
        });
        assert_eq!(cloud_event(&event), expected);
    }
}
