//! Encodes an event of the outbox as a CloudEvent 1.0.

use chrono::{DateTime, SecondsFormat};
use esker_state::Event;
use serde::Serialize;
use serde_json::{Value, json};

/// The beginning of the type of every CloudEvent, before the kind of the event.
pub(crate) const TYPE_PREFIX: &str = "io.esker.";

/// An event as webhooks and Kafka topics get it: a CloudEvent 1.0 in the JSON format, structured mode.
///
/// Spec: CloudEvents 1.0, "Required Attributes".
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CloudEvent<'a> {
    /// The version of the specification: `1.0`.
    specversion: &'static str,
    /// The identifier of the event, the same however often it is delivered.
    id: &'a str,
    /// The warehouse: `/esker/warehouses/NAME`; `/esker` for a change of the server.
    source: String,
    /// `io.esker.` and the kind of the event.
    #[serde(rename = "type")]
    kind: String,
    /// The full name of the entry that changed, levels joined by dots.
    subject: &'a str,
    /// The time of the change, as RFC 3339 has it, in UTC with milliseconds.
    time: String,
    /// The media type of `data`: `application/json`.
    datacontenttype: &'static str,
    /// The number of the event in the outbox, in decimal; an extension attribute. The replay API goes on from it.
    sequence: String,
    /// The principal that made the change; an extension attribute.
    principal: &'a str,
    /// The details of the change, by `type`.
    data: &'a Value,
}

/// Encodes an event as a CloudEvent in the JSON format, structured mode.
pub(crate) fn cloud_event(event: &Event) -> Value {
    let time = DateTime::from_timestamp_millis(event.time_ms).unwrap_or_default();
    json!(CloudEvent {
        specversion: "1.0",
        id: &event.uuid,
        source: match event.warehouse.as_str() {
            "" => "/esker".to_owned(),
            name => format!("/esker/warehouses/{name}"),
        },
        kind: format!("{TYPE_PREFIX}{}", event.kind),
        subject: &event.subject,
        time: time.to_rfc3339_opts(SecondsFormat::Millis, true),
        datacontenttype: "application/json",
        sequence: event.id.to_string(),
        principal: &event.principal,
        data: &event.data,
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
