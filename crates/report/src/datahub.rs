//! Delivers table health to DataHub.
//!
//! Each table is a dataset, which gets a profile and an operation. Each code of a finding is an assertion about the dataset, with a
//! run event when the severity of the finding changes. Each dataset has one incident, which is active while a finding is critical.
//!
//! URNs of datasets are those of DataHub's own Iceberg source, so that health lands on the dataset that this source made. Esker
//! does not write the `datasetProperties` of that dataset. The state database remembers the fingerprint of each update that DataHub
//! took, and an update is sent again only when its fingerprint changes. After a failure the next delivery tries again, with longer
//! pauses. Start reading with [`DataHub::run`] and [`table_updates`].

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use esker_catalog::{AssessedTable, Catalog};
use esker_health::{Assessment, CODES, Severity};
use esker_state::State;
use esker_table::TableFacts;
use esker_types::{Millis, hex, now_ms};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::error::shown_url;
use crate::{ReportError, Result};

/// The name under which the state database remembers the updates that DataHub took.
const RECEIVER_NAME: &str = "datahub";
/// The number of entities in one request.
const BATCH_ENTITIES: usize = 50;
/// The time that one request may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// The actor that DataHub shows for changes made by Esker.
const ACTOR: &str = "urn:li:corpuser:esker";

/// The address of DataHub, and the names of Esker's tables there.
#[derive(Debug, Clone)]
pub struct DataHubOptions {
    /// The URL of the metadata service: `http://datahub-gms:8080`.
    pub url: String,
    /// A personal access token, sent as a bearer token.
    pub token: Option<String>,
    /// The environment of the datasets, as in the ingestion recipe: `PROD`, `DEV`, …
    pub env: String,
    /// The platform instance of each warehouse, as in the ingestion recipe. The key is the name of the warehouse.
    pub platform_instances: BTreeMap<String, String>,
    /// The pause between two deliveries.
    pub interval: Duration,
}

/// The client of one DataHub.
#[derive(Debug, Clone)]
pub struct DataHub {
    options: DataHubOptions,
    client: reqwest::Client,
}

/// An update of one entity, to be sent to DataHub.
#[derive(Debug, Clone, PartialEq)]
struct EntityUpdate {
    /// The type of the entity: `dataset`, `assertion` or `incident`.
    entity: &'static str,
    /// The entity with its aspects, as the OpenAPI v3 of DataHub takes it.
    body: Value,
    /// The key under which the fingerprint is remembered: the URN of the entity.
    subject: String,
    /// The part of the update that decides about sending: an update with the fingerprint that DataHub took last is not sent.
    fingerprint: String,
}

/// The result of sending updates one by one.
#[derive(Debug, Default)]
struct Sent<'a> {
    /// The updates that DataHub took.
    taken: Vec<&'a EntityUpdate>,
    /// The last refusal of an entity.
    refused: Option<ReportError>,
    /// The error of a request that got no answer. Nothing was sent after it.
    failed: Option<ReportError>,
}

/// Encodes a name as DataHub does: it escapes only the characters that have a meaning in URNs.
fn encoded(name: &str) -> String {
    name.chars().fold(String::with_capacity(name.len()), |mut out, c| {
        match c {
            ',' => out.push_str("%2C"),
            '(' => out.push_str("%28"),
            ')' => out.push_str("%29"),
            '\u{241f}' => out.push_str("%E2%90%9F"),
            c => out.push(c),
        }
        out
    })
}

/// Returns the URN that DataHub's Iceberg source gives a table.
fn dataset_urn(name: &str, instance: Option<&str>, env: &str) -> String {
    let instance = instance.map(|instance| format!("{instance}.")).unwrap_or_default();
    format!("urn:li:dataset:(urn:li:dataPlatform:iceberg,{},{env})", encoded(&format!("{instance}{name}")))
}

/// Returns the URN of an assertion or incident, derived from its dataset and from `key`, a name that is unique in the dataset.
fn derived_urn(kind: &str, dataset: &str, key: &str) -> String {
    let digest = Sha256::digest(format!("{dataset}/{key}"));
    format!("urn:li:{kind}:esker-{}", hex(&digest[..16]))
}

/// Returns an audit stamp: the time, and Esker as the actor.
fn audit_stamp(now: Millis) -> Value {
    json!({"time": now, "actor": ACTOR})
}

/// Returns every update that describes a table now. Without facts there is no dataset profile.
///
/// `delivered` has the fingerprints that DataHub took, by URN.
fn table_updates(
    dataset: &str,
    facts: Option<&TableFacts>,
    assessment: &Assessment,
    delivered: &HashMap<String, String>,
    now: Millis,
) -> Vec<EntityUpdate> {
    let mut all: Vec<EntityUpdate> = facts.map(|facts| dataset_update(dataset, facts, now)).into_iter().collect();
    all.extend(CODES.iter().map(|code| assertion_update(dataset, code, assessment, now)));
    all.push(incident_update(dataset, assessment, delivered, now));
    all
}

/// Returns the profile and the operation of a dataset.
///
/// The number of rows does not count rows deleted by position. Rows deleted by equality are not known and still count.
fn dataset_update(dataset: &str, facts: &TableFacts, now: Millis) -> EntityUpdate {
    let by_position = facts.position_deletes.records.saturating_add(facts.deletion_vectors.records);
    let rows = facts.records.saturating_sub(by_position);
    let body = json!({
        "urn": dataset,
        "datasetProfile": {"value": {"timestampMillis": now, "rowCount": rows, "sizeInBytes": facts.data_bytes}},
        "operation": {"value": {
            "timestampMillis": now, "lastUpdatedTimestamp": facts.last_commit_ms, "operationType": "UPDATE",
            "sourceType": "DATA_PLATFORM",
        }},
    });
    let fingerprint = format!("{rows} {} {:?}", facts.data_bytes, facts.current_snapshot_id);
    EntityUpdate { entity: "dataset", body, subject: dataset.to_owned(), fingerprint }
}

/// Returns the assertion that a table has no finding of a code, with its verdict.
fn assertion_update(dataset: &str, code: &'static str, assessment: &Assessment, now: Millis) -> EntityUpdate {
    let urn = derived_urn("assertion", dataset, code);
    let finding = assessment.findings.iter().find(|f| f.code == code);
    let native = match finding {
        Some(f) => json!({"severity": f.severity.as_str(), "points": f.points.to_string(), "evidence": f.evidence,
            "recommendation": f.recommendation}),
        None => json!({}),
    };
    let verdict = if finding.is_some() { "FAILURE" } else { "SUCCESS" };
    let body = json!({
        "urn": urn,
        "assertionInfo": {"value": {
            "type": "CUSTOM", "description": format!("Esker: no finding {code}"),
            "customAssertion": {"type": format!("esker {code}"), "entity": dataset},
            "source": {"type": "EXTERNAL"},
        }},
        "assertionRunEvent": {"value": {
            "timestampMillis": now, "runId": format!("esker-{now}"), "asserteeUrn": dataset, "assertionUrn": urn, "status": "COMPLETE",
            "result": {"type": verdict, "nativeResults": native},
        }},
    });
    let fingerprint = finding.map_or_else(|| "well".to_owned(), |f| f.severity.as_str().to_owned());
    EntityUpdate { entity: "assertion", body, subject: urn, fingerprint }
}

/// Separator between the codes and the start in the fingerprint of an incident.
const SINCE: char = '@';

/// Returns the codes of the incident that DataHub took last, and its start if it was active.
///
/// The fingerprints of earlier versions have no start.
fn delivered_incident(fingerprint: &str) -> (&str, Option<Millis>) {
    match fingerprint.split_once(SINCE) {
        Some((codes, since)) => (codes, since.parse().ok()),
        None => (fingerprint, None),
    }
}

/// Returns the incident of a table. It is active while a finding is critical, and keeps its start until it is resolved.
fn incident_update(dataset: &str, assessment: &Assessment, delivered: &HashMap<String, String>, now: Millis) -> EntityUpdate {
    let urn = derived_urn("incident", dataset, "critical");
    let known = delivered.get(&urn).map(String::as_str).unwrap_or_default();
    let (earlier_codes, since) = delivered_incident(known);
    let since = since.unwrap_or(now);
    let critical: Vec<_> = assessment.findings.iter().filter(|f| f.severity == Severity::Critical).collect();
    let codes: Vec<&str> = critical.iter().map(|f| f.code).collect();
    let codes = codes.join(",");
    let (state, title) = match critical.is_empty() {
        true => ("RESOLVED", format!("The table's health was critical: {}", earlier_codes.replace(',', ", "))),
        false => ("ACTIVE", format!("The table's health is critical: {}", codes.replace(',', ", "))),
    };
    let descriptions: Vec<String> =
        critical.iter().map(|f| format!("{}: {} → {}", f.code, f.evidence, f.recommendation)).collect();
    let body = json!({
        "urn": urn,
        "incidentInfo": {"value": {
            "type": "CUSTOM", "customType": "esker health", "entities": [dataset], "created": audit_stamp(since),
            "startedAt": since, "title": title, "description": descriptions.join("\n"),
            "status": {"state": state, "lastUpdated": audit_stamp(now)},
        }},
    });
    let fingerprint = match codes == earlier_codes {
        true => known.to_owned(),
        false if codes.is_empty() => String::new(),
        false => format!("{codes}{SINCE}{since}"),
    };
    EntityUpdate { entity: "incident", body, subject: urn, fingerprint }
}

impl DataHub {
    /// Makes the client. Sends nothing yet.
    ///
    /// # Errors
    ///
    /// Returns [`Http`](ReportError::Http) if the HTTP client can't be made.
    pub fn new(options: DataHubOptions) -> Result<Self> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).build();
        let client = client.map_err(|source| ReportError::http(&options.url, source))?;
        Ok(Self { options, client })
    }

    /// Delivers changed updates, again and again, until `stopped` holds `true`. `state` remembers the updates that DataHub took.
    ///
    /// The pause doubles with each failure, up to ten minutes, and is [`DataHubOptions::interval`] again after a success.
    pub async fn run(self, state: State, catalogs: Vec<Catalog>, mut stopped: watch::Receiver<bool>) {
        let mut pause = self.options.interval;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
            pause = match self.deliver_changes(&state, &catalogs).await {
                Ok(_) => self.options.interval,
                Err(error) => {
                    let next = (pause * 2).min(LONGEST_PAUSE);
                    tracing::warn!(%error, retry_seconds = next.as_secs_f64(), "health could not be delivered to DataHub");
                    next
                }
            };
        }
    }

    /// Delivers every update whose fingerprint is not the one that DataHub last took. Returns their number.
    ///
    /// Updates that DataHub took are recorded also if a later one fails.
    ///
    /// # Errors
    ///
    /// - Returns [`State`](ReportError::State) if the fingerprints can't be read or recorded, and [`Health`](ReportError::Health)
    ///   if the health of the tables can't be read.
    /// - Returns [`Http`](ReportError::Http) if a request can't be made or gets no answer; the rest is not sent then.
    /// - Returns the last [`EntitiesRefused`](ReportError::EntitiesRefused) if DataHub refused some entities, after the rest was
    ///   sent.
    async fn deliver_changes(&self, state: &State, catalogs: &[Catalog]) -> Result<usize> {
        let delivered = state.outbox().delivered_fingerprints(RECEIVER_NAME).await?;
        let mut changed: HashMap<&'static str, Vec<EntityUpdate>> = HashMap::new();
        for catalog in catalogs {
            for assessed in catalog.fleet().await.map_err(|e| ReportError::Health(Box::new(e)))? {
                for update in self.updates_of(catalog, &assessed, &delivered) {
                    let known = delivered.get(&update.subject);
                    // There is no incident to resolve if none was ever sent.
                    let never_sent = known.is_none() && update.entity == "incident" && update.fingerprint.is_empty();
                    if known != Some(&update.fingerprint) && !never_sent {
                        changed.entry(update.entity).or_default().push(update);
                    }
                }
            }
        }
        let (mut count, mut refused) = (0, None);
        // Datasets first: DataHub drops assertions and incidents of a dataset that it does not have.
        for entity in ["dataset", "assertion", "incident"] {
            for batch in changed.remove(entity).unwrap_or_default().chunks(BATCH_ENTITIES) {
                let sent = self.send_each(entity, batch).await;
                let taken: Vec<_> =
                    sent.taken.iter().map(|update| (update.subject.clone(), update.fingerprint.clone())).collect();
                state.outbox().record_delivered(RECEIVER_NAME, &taken).await?;
                if let Some(error) = sent.failed {
                    return Err(error);
                }
                count += taken.len();
                refused = sent.refused.or(refused);
            }
        }
        refused.map_or(Ok(count), Err)
    }

    /// Sends updates as a batch, and one by one if DataHub refuses the batch: one wrong update must not block the others.
    async fn send_each<'a>(&self, entity: &str, batch: &'a [EntityUpdate]) -> Sent<'a> {
        let mut sent = Sent::default();
        match self.send(entity, batch).await {
            Ok(()) => sent.taken.extend(batch),
            Err(ReportError::EntitiesRefused { .. }) if batch.len() > 1 => {
                for update in batch {
                    match self.send(entity, std::slice::from_ref(update)).await {
                        Ok(()) => sent.taken.push(update),
                        Err(error @ ReportError::EntitiesRefused { .. }) => {
                            tracing::warn!(subject = update.subject, %error, "DataHub refused the update of one entity");
                            sent.refused = Some(error);
                        }
                        Err(error) => {
                            sent.failed = Some(error);
                            break;
                        }
                    }
                }
            }
            Err(error @ ReportError::EntitiesRefused { .. }) => sent.refused = Some(error),
            Err(error) => sent.failed = Some(error),
        }
        sent
    }

    /// Returns every update that describes a table of a catalog now. `delivered` has the fingerprints that DataHub took, by URN.
    fn updates_of(&self, catalog: &Catalog, assessed: &AssessedTable, delivered: &HashMap<String, String>) -> Vec<EntityUpdate> {
        let instance = self.options.platform_instances.get(&catalog.options().warehouse);
        let dataset = dataset_urn(&assessed.row.name.to_string(), instance.map(String::as_str), &self.options.env);
        let now = now_ms();
        table_updates(&dataset, assessed.facts.as_deref().ok(), &assessed.assess(now), delivered, now)
    }

    /// Sends updates of one type of entity in one request.
    ///
    /// # Errors
    ///
    /// Returns [`Http`](ReportError::Http) if the request can't be made or gets no answer within a minute, and
    /// [`EntitiesRefused`](ReportError::EntitiesRefused) if DataHub answers with a status other than 2xx.
    async fn send(&self, entity: &str, updates: &[EntityUpdate]) -> Result<()> {
        let url = format!("{}/openapi/v3/entity/{entity}?async=false", self.options.url.trim_end_matches('/'));
        let body: Vec<&Value> = updates.iter().map(|update| &update.body).collect();
        let mut request = self.client.post(&url).json(&body);
        if let Some(token) = &self.options.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|source| ReportError::http(&url, source))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(ReportError::EntitiesRefused {
                url: shown_url(&url),
                status: status.as_u16(),
                answer: answer.text().await.unwrap_or_default(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use esker_health::{Finding, assess};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn names_are_those_of_the_iceberg_source() {
        assert_eq!(dataset_urn("a.b.t", None, "PROD"), "urn:li:dataset:(urn:li:dataPlatform:iceberg,a.b.t,PROD)");
        assert_eq!(dataset_urn("n.t(1)", Some("eu"), "DEV"), "urn:li:dataset:(urn:li:dataPlatform:iceberg,eu.n.t%281%29,DEV)");
        assert_ne!(derived_urn("assertion", "d", "small-files"), derived_urn("assertion", "d", "many-snapshots"));
    }

    #[test]
    fn what_stays_the_same_has_the_same_fingerprint_and_what_is_ill_has_an_incident() {
        let poor =
            TableFacts { data_files: 900, ideal_files: 1, data_bytes: 900, target_file_bytes: 1 << 20, ..TableFacts::default() };
        let with = |facts: &TableFacts, now, known: &HashMap<_, _>| {
            table_updates("d", Some(facts), &assess(Ok(facts), &[], now), known, now)
        };
        let all = |facts: &TableFacts, now| with(facts, now, &HashMap::new());
        let fingerprints = |updates: &[EntityUpdate]| updates.iter().map(|update| update.fingerprint.clone()).collect::<Vec<_>>();
        let updates = all(&poor, 1);
        let delivered = updates.iter().map(|update| (update.subject.clone(), update.fingerprint.clone())).collect();
        assert_eq!(fingerprints(&updates), fingerprints(&with(&poor, 2, &delivered)));
        assert_eq!(updates.len(), 1 + CODES.len() + 1);
        assert_eq!(updates.last().expect("one").body["incidentInfo"]["value"]["status"]["state"], "ACTIVE");
        let well = all(&TableFacts::default(), 1);
        let at = 1 + CODES.iter().position(|code| *code == "small-files").expect("a code");
        let small_files = |updates: &[EntityUpdate]| updates[at].body.clone();
        assert_eq!(well.last().expect("one").body["incidentInfo"]["value"]["status"]["state"], "RESOLVED");
        assert_eq!(small_files(&well)["assertionRunEvent"]["value"]["result"]["type"], "SUCCESS");
        assert_eq!(small_files(&updates)["assertionRunEvent"]["value"]["result"]["type"], "FAILURE");
    }

    #[test]
    fn an_incident_keeps_its_start_while_its_findings_change_and_when_it_is_resolved() {
        let critical = |code| Finding {
            code,
            severity: Severity::Critical,
            points: 40,
            evidence: "seen".to_owned(),
            recommendation: "do".to_owned(),
        };
        let mut delivered = HashMap::new();
        let mut at = |now, codes: &[&'static str]| {
            let assessment = Assessment { score: 0, findings: codes.iter().copied().map(critical).collect() };
            let update = incident_update("d", &assessment, &delivered, now);
            let is_new = delivered.insert(update.subject, update.fingerprint.clone()) != Some(update.fingerprint);
            (is_new, update.body["incidentInfo"]["value"].clone())
        };
        let (first, second) = (at(100, &["small-files"]), at(200, &["small-files", "unreadable"]));
        assert_eq!((first.0, &first.1["startedAt"]), (true, &json!(100)));
        assert_eq!((second.0, &second.1["startedAt"], &second.1["created"]["time"]), (true, &json!(100), &json!(100)));
        assert_eq!(second.1["status"]["lastUpdated"]["time"], 200);
        assert!(!at(300, &["small-files", "unreadable"]).0, "nothing changed");
        let (is_new, resolved) = at(400, &[]);
        assert_eq!((is_new, &resolved["startedAt"], &resolved["status"]["state"]), (true, &json!(100), &json!("RESOLVED")));
        assert_eq!(resolved["title"], "The table's health was critical: small-files, unreadable");
        assert_eq!(at(500, &["unreadable"]).1["startedAt"], 500, "it is another incident");
    }

    #[test]
    fn an_incident_of_an_earlier_version_is_not_sent_again() {
        assert_eq!(delivered_incident("small-files,unreadable"), ("small-files,unreadable", None));
        assert_eq!(delivered_incident("small-files@7"), ("small-files", Some(7)));
        assert_eq!(delivered_incident(""), ("", None));
    }

    /// Answers one request on each connection, and closes it.
    async fn answer(listener: TcpListener, answers: Vec<&'static str>) {
        for answer in answers {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            while !is_whole(&request) {
                assert!(socket.read_buf(&mut request).await.expect("read") > 0, "the request ended early");
            }
            socket.write_all(answer.as_bytes()).await.expect("written");
        }
    }

    /// Checks that a request has its headers and its body.
    fn is_whole(request: &[u8]) -> bool {
        let text = String::from_utf8_lossy(request).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).expect("a length");
        body.len() >= length.trim().parse().expect("a number")
    }

    fn datahub(url: String) -> DataHub {
        let interval = Duration::from_secs(1);
        let options = DataHubOptions { url, token: None, env: "PROD".to_owned(), platform_instances: BTreeMap::new(), interval };
        DataHub::new(options).expect("a client")
    }

    #[tokio::test]
    async fn what_was_taken_before_a_request_without_an_answer_is_known() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = datahub(format!("http://{}", listener.local_addr().expect("an address")));
        let refused = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let taken = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        tokio::spawn(answer(listener, vec![refused, taken, ""]));
        let update = |n: u32| EntityUpdate {
            entity: "dataset",
            body: json!({"urn": n}),
            subject: n.to_string(),
            fingerprint: String::new(),
        };
        let batch = [update(0), update(1), update(2)];
        let sent = client.send_each("dataset", &batch).await;
        assert_eq!(sent.taken, [&batch[0]]);
        assert!(matches!(sent.failed, Some(ReportError::Http { .. })) && sent.refused.is_none(), "{sent:?}");
    }

    #[tokio::test]
    async fn a_receiver_that_is_not_there_is_named_once_with_the_reason() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        drop(listener);
        let error = datahub(url.clone()).send("dataset", &[]).await.expect_err("nobody listens").to_string();
        assert_eq!((error.matches(&url).count(), error.to_lowercase().contains("connection refused")), (1, true), "{error}");
    }
}
