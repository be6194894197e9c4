//! The loop of the autopilot: it assesses all tables at regular times, decides about each, and enqueues jobs.
//!
//! Several servers may run it at once. The key of a job makes sure that only one of them enqueues it: the key of a schedule's job
//! has the time of the schedule, the key of the autopilot's job has the version of the table's metadata.
//!
//! Start reading at [`Autopilot::pass`], then `pass_over_warehouse`. [`recommendations`] does the same without enqueueing.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use esker_catalog::{AssessedTable, Catalog, CatalogError, MergeSettings, is_audit_name};
use esker_maintenance::{
    Cost, JobRequest, JobSpec, Maintenance, MaintenanceError, PRIORITY_AUTOPILOT, PRIORITY_SCHEDULED, Strategy,
};
use esker_state::{Job, TableUsage, TabularRow};
use esker_types::{DAY_MS, JobKind, Millis, NamespaceName, TableId, TableName, catch_panic_sync, now_ms};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use crate::budget::{Accounts, charge};
use crate::cost_model::CandidateJob;
use crate::decide::{Decision, DecisionInput, JobToEnqueue, Verdict, decide};
use crate::kinds::{TableView, candidates};
use crate::{Layers, Policy};

/// The number of tables that a pass looks at in each warehouse. The next pass goes on after them, so that a pass of a large fleet
/// takes as long and as much memory as that of a small one.
const TABLES_PER_PASS: u32 = 10_000;

/// The number of tables outside of a pass that are read at once, to charge the jobs of the last day to their budgets.
const CHARGED_AT_ONCE: usize = 1_000;

/// The principal of the jobs that the autopilot enqueues.
pub const PRINCIPAL: &str = "autopilot";

/// The options of the autopilot.
#[derive(Debug, Clone, Copy)]
pub struct AutopilotOptions {
    /// The time between two passes over all tables.
    pub interval: Duration,
    /// The maximum number of its jobs that wait or run, over all warehouses of the database. A short queue keeps their order
    /// up to date.
    pub slots: usize,
}

/// The autopilot of all warehouses of a server. Several servers may run one: each job is enqueued once.
#[derive(Debug)]
pub struct Autopilot {
    /// The maintenance of each warehouse, with the policies that the configuration sets for it.
    warehouses: Vec<(Maintenance, Layers)>,
    options: AutopilotOptions,
    /// The last table of the pass before, by the name of the warehouse. None for a warehouse whose last pass came to the end.
    reached: HashMap<String, TableId>,
}

/// The properties of a warehouse's namespaces, by the name of the namespace.
type Namespaces = BTreeMap<NamespaceName, BTreeMap<String, String>>;

/// Reads the properties of all namespaces of a warehouse.
async fn namespaces(catalog: &Catalog) -> Result<Namespaces, CatalogError> {
    let rows = catalog.all_namespaces().await?;
    Ok(rows.into_iter().map(|row| (row.name, row.properties)).collect())
}

/// Merges the policy of a table from the configuration, the properties of its namespaces and its own properties.
///
/// The table of the audit trail has that of the configuration alone. Who may set properties of its namespace must not be able to
/// freeze it, or to change for how long it keeps snapshots.
fn merge_policy(layers: &Layers, namespaces: &Namespaces, table: &TableName, own: &BTreeMap<String, String>) -> Policy {
    let name = &table.namespace;
    if is_audit_name(table) {
        return Policy::of(&layers.layers_of_table(name, std::iter::empty(), std::iter::empty()));
    }
    let mut above = Vec::new();
    let mut at = Some(name.clone());
    while let Some(name) = at {
        at = name.parent();
        above.extend(namespaces.get_key_value(&name));
    }
    above.reverse();
    let own = own.iter().map(|(k, v)| (k.clone(), v.clone()));
    Policy::of(&layers.layers_of_table(name, above.into_iter(), own))
}

/// Returns the policy of a table, with the properties that its namespaces and its metadata have now.
///
/// # Errors
///
/// Returns [`State`](CatalogError::State) if the database fails, [`MetadataGone`](CatalogError::MetadataGone) if the metadata
/// file is not in storage, [`MetadataInvalid`](CatalogError::MetadataInvalid) if it can't be decompressed or parsed, and
/// [`Storage`](CatalogError::Storage) if it can't be read.
pub async fn policy_of(catalog: &Catalog, layers: &Layers, row: &TabularRow) -> Result<Policy, CatalogError> {
    let namespaces = catalog.properties_around(&row.name.namespace).await?;
    let table = catalog.load_row(row.clone()).await?;
    Ok(merge_policy(layers, &namespaces, &row.name, &table.metadata.properties))
}

/// Returns the origin of the freeze of a table, for people; `None` if the table is not frozen.
///
/// `namespaces` are the properties of the namespaces around it at least, and `own` those of the table. Mistakes in other keys do not
/// count.
pub fn frozen_by(layers: &Layers, namespaces: &Namespaces, name: &TableName, own: &BTreeMap<String, String>) -> Option<String> {
    let policy = merge_policy(layers, namespaces, name, own);
    policy.freeze.then(|| policy.origin("freeze").to_string())
}

/// Returns which late commits to a table are merged. If the value can't be read, none is.
///
/// `namespaces` are the properties of the table's namespaces, and `own` those of the table. Mistakes in other keys do not count.
pub fn merges_of(layers: &Layers, namespaces: &Namespaces, name: &TableName, own: &BTreeMap<String, String>) -> MergeSettings {
    let policy = merge_policy(layers, namespaces, name, own);
    MergeSettings { policy: policy.merge, writer_keys: policy.writer_keys }
}

/// A table with the input of a decision, except its jobs.
struct TableUnderPolicy {
    assessed: AssessedTable,
    policy: Policy,
    used: TableUsage,
}

/// Merges the policy of a table with its facts. A table whose policy causes a panic counts as frozen.
fn under_policy(layers: &Layers, namespaces: &Namespaces, used: TableUsage, assessed: AssessedTable) -> TableUnderPolicy {
    let nothing = BTreeMap::new();
    let own = assessed.facts.as_ref().map_or(&nothing, |facts| &facts.policy_properties);
    let policy = catch_panic_sync(|| merge_policy(layers, namespaces, &assessed.row.name, own));
    let policy = policy.unwrap_or_else(|panic| {
        tracing::error!(table = %assessed.row.name, %panic, "reading a table's policy panicked; the table counts as frozen");
        Policy { freeze: true, ..Policy::default() }
    });
    TableUnderPolicy { assessed, policy, used }
}

/// Assesses a page of the tables of a warehouse, after the table `after`. Returns them by name, with the table after which the next
/// page begins; `None` at the end.
async fn page_with_policies(
    catalog: &Catalog,
    layers: &Layers,
    namespaces: &Namespaces,
    after: Option<TableId>,
) -> Result<(Vec<TableUnderPolicy>, Option<TableId>), CatalogError> {
    let (page, next) = catalog.fleet_page(after, TABLES_PER_PASS, |_| true).await?;
    let ids: Vec<TableId> = page.iter().map(|assessed| assessed.row.id).collect();
    let uses = catalog.overview().usages_of(&ids).await?;
    let used = |assessed: &AssessedTable| uses.get(&assessed.row.id).copied().unwrap_or_default();
    let looked = page.into_iter().map(|assessed| under_policy(layers, namespaces, used(&assessed), assessed));
    let mut looked: Vec<TableUnderPolicy> = looked.collect();
    looked.sort_by_cached_key(|TableUnderPolicy { assessed, .. }| {
        let name = &assessed.row.name;
        (name.namespace.key(), name.name.clone())
    });
    Ok((looked, next))
}

/// A job that would pay now, for schedulers outside of Esker.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Recommendation {
    /// The name of the warehouse.
    pub warehouse: String,
    /// The name of the table, its parts joined with dots.
    pub table: String,
    /// The name of the table in parts.
    #[serde(skip)]
    pub name: TableName,
    /// The kind of the job, as in the route that starts it.
    pub kind: JobKind,
    /// The body for the route that starts the job.
    pub options: Value,
    /// The flaw of the table that the job would remove, for people.
    pub why: String,
    /// The seconds that the job would save in a day.
    pub gain_seconds_a_day: f64,
    /// The seconds that the job would take.
    pub cost_seconds: f64,
}

/// Returns the jobs that would pay now in a warehouse, those with the most gain for their cost first.
///
/// It does not matter whether the autopilot is on: the list is for schedulers outside of Esker. Tables that are frozen or
/// foreign, or whose policy can't be followed, are left out. So are compactions of tables with damaged files.
///
/// # Errors
///
/// Returns [`State`](CatalogError::State) if the database fails, and [`Encode`](CatalogError::Encode) if the facts of a table can't
/// be stored, which is a bug. A table that can't be assessed is left out.
pub async fn recommendations(catalog: &Catalog, layers: &Layers) -> Result<Vec<Recommendation>, CatalogError> {
    let (now, namespaces) = (now_ms(), namespaces(catalog).await?);
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let (page, next) = page_with_policies(catalog, layers, &namespaces, after).await?;
        for looked in &page {
            found.extend(paying(looked, now).into_iter().map(|candidate| (looked.assessed.row.name.clone(), candidate)));
        }
        match next {
            Some(_) => after = next,
            None => break,
        }
    }
    found.sort_by(|(_, a), (_, b)| b.rank().total_cmp(&a.rank()));
    let recommendation = |(name, candidate): (TableName, CandidateJob)| Recommendation {
        warehouse: catalog.options().warehouse.clone(),
        table: name.to_string(),
        name,
        kind: candidate.request.kind(),
        options: candidate.request.options(),
        why: candidate.why,
        gain_seconds_a_day: candidate.gain_seconds_a_day,
        cost_seconds: candidate.cost_seconds,
    };
    Ok(found.into_iter().map(recommendation).collect())
}

/// Returns the jobs that would pay now for a table; none if it is frozen, foreign, or its policy can't be followed.
fn paying(TableUnderPolicy { assessed, policy, used }: &TableUnderPolicy, now: Millis) -> Vec<CandidateJob> {
    let Ok(facts) = &assessed.facts else { return Vec::new() };
    if policy.freeze || !policy.problems.is_empty() || !assessed.row.owned {
        return Vec::new();
    }
    // A compaction reads the current snapshot only, so damage of an earlier snapshot does not stop it.
    let is_whole = assessed.damage.iter().all(|file| file.snapshot_id.is_some());
    let readable = |c: &CandidateJob| is_whole || c.request.kind() != JobKind::Compact;
    let all = candidates(TableView { facts, policy, usage: used, now });
    all.into_iter().filter(|c| c.pays(policy.payback) && readable(c)).collect()
}

impl Autopilot {
    /// Makes the autopilot of some warehouses, each with the policies that the configuration sets for it.
    pub fn new(warehouses: Vec<(Maintenance, Layers)>, options: AutopilotOptions) -> Self {
        Self { warehouses, options, reached: HashMap::new() }
    }

    /// Runs a pass every [`AutopilotOptions::interval`], until `stopped` holds true.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.options.interval) => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
            self.pass().await;
        }
    }

    /// Assesses all tables once, and enqueues the jobs that pay. Returns the number of enqueued jobs.
    ///
    /// Of a warehouse with more than 10,000 tables, a pass looks at the next 10,000.
    ///
    /// Skips warehouses whose epoch does not fit the database. An error of one warehouse is logged, and the others go on.
    pub async fn pass(&mut self) -> usize {
        let mut entered = 0;
        for (maintenance, layers) in self.warehouses.clone() {
            if maintenance.catalog().check_epoch().is_err() {
                continue;
            }
            match self.pass_over_warehouse(&maintenance, &layers).await {
                Ok(jobs) => entered += jobs,
                Err(error) => {
                    let warehouse = &maintenance.catalog().options().warehouse;
                    tracing::warn!(warehouse, %error, "a pass of the autopilot over a warehouse failed; the next pass tries again");
                }
            }
        }
        entered
    }

    /// Assesses the next tables of one warehouse, decides, enqueues jobs and stores the decisions. Returns the number of enqueued
    /// jobs.
    async fn pass_over_warehouse(&mut self, maintenance: &Maintenance, layers: &Layers) -> Result<usize, MaintenanceError> {
        let (catalog, now) = (maintenance.catalog(), now_ms());
        let (namespaces, warehouse) = (namespaces(catalog).await?, &catalog.options().warehouse);
        let (fleet, next) = page_with_policies(catalog, layers, &namespaces, self.reached.get(warehouse).copied()).await?;
        let jobs = catalog.overview().jobs_of(PRINCIPAL, now - DAY_MS).await?;
        let mut jobs_by_table: HashMap<TableId, Vec<&Job>> = HashMap::new();
        jobs.iter().for_each(|job| jobs_by_table.entry(job.table_id).or_default().push(job));
        let mut spent: HashMap<TableId, Cost> = HashMap::new();
        for (table, measured) in catalog.overview().job_costs(PRINCIPAL, now - DAY_MS).await? {
            match Cost::deserialize(&measured["cost"]) {
                Ok(cost) => spent.entry(table).or_default().add(cost),
                Err(error) => tracing::warn!(%table, %error, "the measured cost of a job can't be read, and charges no budget"),
            }
        }
        let mut accounts = Accounts::new();
        for looked in &fleet {
            if let Some(spent) = spent.remove(&looked.assessed.row.id) {
                charge(&mut accounts, &looked.policy, spent);
            }
        }
        // Tables of other passes, and of other warehouses, which charge nothing here.
        let others: Vec<TableId> = spent.keys().copied().collect();
        for ids in others.chunks(CHARGED_AT_ONCE) {
            for assessed in catalog.assessed_among(ids).await? {
                let spent = spent.remove(&assessed.row.id).unwrap_or_default();
                let looked = under_policy(layers, &namespaces, TableUsage::default(), assessed);
                charge(&mut accounts, &looked.policy, spent);
            }
        }
        let about = |looked: &TableUnderPolicy| match &looked.assessed.facts {
            Err(why) => {
                let verdict = if why.is_passing() { Verdict::Wait } else { Verdict::Leave };
                Decision { verdict, ..Decision::leave(format!("the table can't be assessed: {why}")) }
            }
            Ok(facts) => {
                let known = DecisionInput {
                    now,
                    policy: &looked.policy,
                    facts,
                    damage: &looked.assessed.damage,
                    owned: looked.assessed.row.owned,
                    usage: &looked.used,
                    jobs: jobs_by_table.get(&looked.assessed.row.id).map_or(&[], Vec::as_slice),
                    accounts: &accounts,
                };
                catch_panic_sync(|| decide(&known)).unwrap_or_else(|panic| {
                    let table = &looked.assessed.row.name;
                    tracing::error!(%table, %panic, "deciding about a table panicked; the table is left alone");
                    Decision::leave(format!("the autopilot can't decide about the table: {panic}"))
                })
            }
        };
        let mut decisions: Vec<Decision> = fleet.iter().map(about).collect();
        let open = jobs.iter().filter(|job| !job.state.is_over()).count();
        let entered = self.enqueue_jobs(maintenance, &fleet, &mut decisions, open).await?;
        save_decisions(catalog, &fleet, &decisions).await?;
        if let Some(next) = next {
            self.reached.insert(warehouse.clone(), next);
        } else {
            self.reached.remove(warehouse);
        }
        Ok(entered)
    }

    /// Enqueues the jobs of all decisions, at most one a table, while there are free slots. Returns their number.
    ///
    /// Jobs of schedules come first, then those with the most gain for their cost. `open` is the number of slots in use. The
    /// decision about a table whose job is not enqueued gets the reason.
    async fn enqueue_jobs(
        &self,
        maintenance: &Maintenance,
        fleet: &[TableUnderPolicy],
        decisions: &mut [Decision],
        open: usize,
    ) -> Result<usize, MaintenanceError> {
        let mut wanted: Vec<(usize, JobToEnqueue)> = Vec::new();
        for (i, decision) in decisions.iter_mut().enumerate() {
            decision.to_enqueue.sort_by(JobToEnqueue::by_urgency);
            wanted.extend(decision.to_enqueue.drain(..).take(1).map(|act| (i, act)));
        }
        wanted.sort_by(|(_, a), (_, b)| a.by_urgency(b));
        let mut slots = self.options.slots.saturating_sub(open);
        let mut entered = 0;
        for (i, act) in wanted {
            if slots == 0 {
                let reason = format!("the {} slots of the autopilot are taken by jobs that come first", self.options.slots);
                decisions[i] = Decision { verdict: Verdict::Wait, reason, ..decisions[i].clone() };
                continue;
            }
            let row = &fleet[i].assessed.row;
            let order = job_spec(row, &act);
            let reason = match maintenance.enqueue(row.id, &row.name, order).await {
                Ok(Some(_)) => {
                    slots -= 1;
                    entered += 1;
                    continue;
                }
                Ok(None) => "an equal job already ran on this metadata version".to_owned(),
                Err(error) => {
                    tracing::warn!(table = %row.name, %error, "a job could not be enqueued");
                    format!("the job could not be enqueued: {error}")
                }
            };
            decisions[i] = Decision { verdict: Verdict::Leave, reason, ..decisions[i].clone() };
        }
        Ok(entered)
    }
}

/// Stores the decisions that differ from those that are stored.
async fn save_decisions(catalog: &Catalog, fleet: &[TableUnderPolicy], decisions: &[Decision]) -> Result<(), MaintenanceError> {
    let ids: Vec<TableId> = fleet.iter().map(|looked| looked.assessed.row.id).collect();
    let saved = catalog.overview().decisions_of(&ids).await?;
    let mut news = Vec::new();
    for (TableUnderPolicy { assessed, .. }, decision) in fleet.iter().zip(decisions) {
        match serde_json::to_string(decision) {
            Ok(json) if saved.get(&assessed.row.id) == Some(&json) => {}
            Ok(json) => news.push((assessed.row.id, decision.verdict.as_str(), json)),
            Err(error) => {
                tracing::error!(table = %assessed.row.name, %error, "a decision can't be stored; the last one stays")
            }
        }
    }
    if !news.is_empty() {
        catalog.record_decisions(&news).await?;
    }
    Ok(())
}

/// Makes the job to enqueue, with its key, reason and priority.
///
/// The key makes sure that several servers enqueue the job once. It has the name of the metadata file, so a job that found
/// nothing to do is not enqueued again before the table changes.
fn job_spec(row: &TabularRow, act: &JobToEnqueue) -> JobSpec {
    let candidate = &act.candidate;
    let kind = candidate.request.kind();
    let version = row.metadata_location.rsplit('/').next().unwrap_or_default();
    // A conversion of deletes is a compaction too, and must not have the key of a rewrite of small files.
    let sort = match &candidate.request {
        JobRequest::Compact(options) if options.strategy == Strategy::ConvertDeletes => "convert-deletes",
        _ => kind.as_str(),
    };
    let (key, reason, priority) = match act.scheduled_ms {
        Some(moment) => (format!("schedule/{}/{kind}/{moment}", row.id), candidate.why.clone(), PRIORITY_SCHEDULED),
        None => {
            let (gain, cost) = (candidate.gain_seconds_a_day, candidate.cost_seconds);
            let reason = format!("{}; saves about {gain:.1} s a day, takes about {cost:.1} s", candidate.why);
            (format!("autopilot/{}/{sort}/{version}/{}", row.id, act.failed), reason, PRIORITY_AUTOPILOT)
        }
    };
    JobSpec {
        request: candidate.request.clone(),
        principal: PRINCIPAL.to_owned(),
        asker: None,
        reason,
        key: Some(key),
        priority,
        due_ms: 0,
        predicted: (!candidate.predicted.is_null()).then(|| candidate.predicted.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_of_its_namespace_do_not_steer_the_table_of_the_audit_trail() {
        let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let none = BTreeMap::new();
        let system: NamespaceName = NamespaceName::new(vec!["system".to_owned()]).expect("valid");
        let of = |layers: &Layers, properties: BTreeMap<String, String>, table: &str| {
            let namespaces = BTreeMap::from([(system.clone(), properties)]);
            let name: TableName = format!("system.{table}").parse().expect("valid");
            let policy = merge_policy(layers, &namespaces, &name, &none);
            (policy.freeze, policy.schedules.len(), policy.problems.len(), frozen_by(layers, &namespaces, &name, &none))
        };
        let layers = Layers::default();
        let untouched = of(&layers, none.clone(), "audit");
        for (key, value) in [("esker.freeze", "true"), ("esker.expire.schedule", "* * * * *"), ("esker.no-such-key", "1")] {
            assert_eq!(of(&layers, map(key, value), "audit"), untouched, "{key}");
            assert_ne!(of(&layers, map(key, value), "other"), untouched, "{key}");
        }
        let frozen = Layers::new("w", &map("freeze", "true"), &none, &BTreeMap::new()).expect("valid");
        assert!(of(&frozen, none.clone(), "AUDIT").0, "whoever configures the server decides");
    }
}
