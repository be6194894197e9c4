//! Looks at the fleet at regular times, decides, and enters jobs.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use esker_catalog::{AssessedTable, Catalog, CatalogError};
use esker_maintenance::{
    Cost, JobRequest, JobSpec, Maintenance, MaintenanceError, PRIORITY_AUTOPILOT, PRIORITY_SCHEDULED, Strategy,
};
use esker_state::{Job, TableUsage, TabularRow};
use esker_types::{JobKind, Millis, NamespaceName, TableId, TableName, catch_panic_sync, now_ms};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use crate::budget::{Accounts, charge};
use crate::cost_model::{CandidateJob, candidates};
use crate::decide::{Decision, DecisionInput, DecisionKind, JobToEnqueue, decide};
use crate::{Layers, Policy};

/// As whom it asks for jobs.
pub const NAME: &str = "autopilot";

const DAY_MS: Millis = 24 * 3600 * 1000;

/// How it works.
#[derive(Debug, Clone, Copy)]
pub struct AutopilotOptions {
    /// Between looks.
    pub every: Duration,
    /// Jobs of its own that wait or run, at most: the order of what waits is then never an old one.
    pub slots: usize,
}

/// The autopilot of a server's warehouses. Several servers may have one: a job is entered once.
#[derive(Debug)]
pub struct Autopilot {
    warehouses: Vec<(Maintenance, Layers)>,
    options: AutopilotOptions,
    /// What was last kept of each table's decision.
    last_saved: HashMap<TableId, String>,
}

/// Properties of a warehouse's namespaces by name.
type Namespaces = BTreeMap<NamespaceName, BTreeMap<String, String>>;

async fn namespaces(catalog: &Catalog) -> Result<Namespaces, CatalogError> {
    let rows = catalog.state().all_namespaces(catalog.warehouse()).await?;
    Ok(rows.into_iter().map(|row| (row.name, row.properties)).collect())
}

/// The policy of a table, whose own properties are given.
fn policy_in(layers: &Layers, namespaces: &Namespaces, name: &NamespaceName, own: &BTreeMap<String, String>) -> Policy {
    let mut above = Vec::new();
    let mut at = Some(name.clone());
    while let Some(name) = at {
        at = name.parent();
        above.extend(namespaces.get_key_value(&name));
    }
    above.reverse();
    let own = own.iter().map(|(k, v)| (k.clone(), v.clone()));
    Policy::of(&layers.of_table(name, above.into_iter(), own))
}

/// The policy of a table as it is now.
pub async fn policy_of(catalog: &Catalog, layers: &Layers, row: &TabularRow) -> Result<Policy, CatalogError> {
    let namespaces = namespaces(catalog).await?;
    let table = catalog.load_row(row.clone()).await?;
    Ok(policy_in(layers, &namespaces, &row.name.namespace, &table.metadata.properties))
}

/// By whom a table is frozen, if it is: what else may be wrong with its policy does not count.
pub fn frozen_by(
    layers: &Layers,
    namespaces: &Namespaces,
    name: &NamespaceName,
    own: &BTreeMap<String, String>,
) -> Option<String> {
    let policy = policy_in(layers, namespaces, name, own);
    policy.freeze.then(|| policy.origin("freeze").to_string())
}

/// A table with all that a decision about it rests on but the jobs that there were.
struct Looked {
    examined: AssessedTable,
    policy: Policy,
    used: TableUsage,
}

/// Looks at every table of a warehouse.
async fn look(catalog: &Catalog, layers: &Layers) -> Result<Vec<Looked>, CatalogError> {
    let (namespaces, uses) = (namespaces(catalog).await?, catalog.state().usages().await?);
    let nothing = BTreeMap::new();
    let looked = |examined: AssessedTable| {
        let own = examined.facts.as_ref().map_or(&nothing, |facts| &facts.policy_properties);
        let policy = catch_panic_sync(|| policy_in(layers, &namespaces, &examined.row.name.namespace, own));
        let policy = policy.unwrap_or_else(|panic| {
            tracing::error!(table = %examined.row.name, %panic, "a table's policy could not be read; it is left alone");
            Policy { freeze: true, ..Policy::default() }
        });
        let used = uses.get(&examined.row.id).copied().unwrap_or_default();
        Looked { examined, policy, used }
    };
    Ok(catalog.fleet().await?.into_iter().map(looked).collect())
}

/// A job that would pay, for whoever runs them.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recommendation {
    /// The warehouse.
    pub warehouse: String,
    /// The table.
    pub table: String,
    /// The table's name by its parts, which `table` joins with dots.
    #[serde(skip)]
    pub name: TableName,
    /// The kind of job, as in its route.
    pub kind: JobKind,
    /// The body for that route.
    pub options: Value,
    /// What is wrong.
    pub why: String,
    /// Seconds that it would save in a day.
    pub gain_seconds_a_day: f64,
    /// Seconds that it would take.
    pub cost_seconds: f64,
}

/// What would pay now in a warehouse, the best ratio first, whether or not the autopilot is on.
///
/// For schedulers that decide themselves. Tables that are frozen, foreign, or whose policy can't be followed are left out.
pub async fn recommendations(catalog: &Catalog, layers: &Layers) -> Result<Vec<Recommendation>, CatalogError> {
    let now = now_ms();
    let mut found = Vec::new();
    for Looked { examined, policy, used } in look(catalog, layers).await? {
        let Ok(facts) = &examined.facts else { continue };
        if policy.freeze || !policy.problems.is_empty() || !examined.row.owned {
            continue;
        }
        // A compaction does not read what only earlier snapshots lead to.
        let is_whole = examined.damage.iter().all(|file| file.snapshot_id.is_some());
        let readable = |c: &CandidateJob| is_whole || c.request.kind() != JobKind::Compact;
        let paying = candidates(facts, &policy, &used, now).into_iter().filter(|c| c.pays(policy.payback) && readable(c));
        found.extend(paying.map(|candidate| (examined.row.name.clone(), candidate)));
    }
    found.sort_by(|(_, a), (_, b)| b.rank().total_cmp(&a.rank()));
    let told = |(name, candidate): (TableName, CandidateJob)| Recommendation {
        warehouse: catalog.options().warehouse.clone(),
        table: name.to_string(),
        name,
        kind: candidate.request.kind(),
        options: candidate.request.options(),
        why: candidate.why,
        gain_seconds_a_day: candidate.gain_seconds_a_day,
        cost_seconds: candidate.cost_seconds,
    };
    Ok(found.into_iter().map(told).collect())
}

impl Autopilot {
    /// For some warehouses, each with what the configuration says of it.
    pub fn new(warehouses: Vec<(Maintenance, Layers)>, options: AutopilotOptions) -> Self {
        Self { warehouses, options, last_saved: HashMap::new() }
    }

    /// Looks, decides and enters jobs until told to stop.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.options.every) => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
            self.pass().await;
        }
    }

    /// One look at everything; returns how many jobs were entered.
    pub async fn pass(&mut self) -> usize {
        let mut entered = 0;
        for (maintenance, layers) in self.warehouses.clone() {
            if maintenance.catalog().check_epoch().is_err() {
                continue;
            }
            match self.pass_over(&maintenance, &layers).await {
                Ok(jobs) => entered += jobs,
                Err(error) => {
                    let warehouse = &maintenance.catalog().options().warehouse;
                    tracing::warn!(warehouse, %error, "the autopilot could not look at the fleet; it is tried again");
                }
            }
        }
        entered
    }

    async fn pass_over(&mut self, maintenance: &Maintenance, layers: &Layers) -> Result<usize, MaintenanceError> {
        let (catalog, now) = (maintenance.catalog(), now_ms());
        let state = catalog.state();
        let fleet = look(catalog, layers).await?;
        let jobs = state.jobs_of(NAME, now - DAY_MS).await?;
        let mut jobs_by_table: HashMap<TableId, Vec<&Job>> = HashMap::new();
        jobs.iter().for_each(|job| jobs_by_table.entry(job.table_id).or_default().push(job));
        let mut spent: HashMap<TableId, Cost> = HashMap::new();
        for (table, measured) in state.job_costs(NAME, now - DAY_MS).await? {
            spent.entry(table).or_default().add(Cost::deserialize(&measured["cost"]).unwrap_or_default());
        }
        let mut accounts = Accounts::new();
        for looked in &fleet {
            if let Some(spent) = spent.get(&looked.examined.row.id) {
                charge(&mut accounts, &looked.policy, *spent);
            }
        }
        let about = |looked: &Looked| match &looked.examined.facts {
            Err(why) => {
                let verdict = if why.is_passing() { DecisionKind::Wait } else { DecisionKind::Leave };
                Decision { verdict, ..Decision::leave(format!("it can't be examined: {why}")) }
            }
            Ok(facts) => {
                let known = DecisionInput {
                    now,
                    policy: &looked.policy,
                    facts,
                    damage: &looked.examined.damage,
                    owned: looked.examined.row.owned,
                    used: &looked.used,
                    jobs: jobs_by_table.get(&looked.examined.row.id).map_or(&[], Vec::as_slice),
                    accounts: &accounts,
                };
                catch_panic_sync(|| decide(&known)).unwrap_or_else(|panic| {
                    tracing::error!(table = %looked.examined.row.name, %panic, "what a table needs could not be decided");
                    Decision::leave(format!("it can't be decided: {panic}"))
                })
            }
        };
        let mut decisions: Vec<Decision> = fleet.iter().map(about).collect();
        let open = jobs.iter().filter(|job| !job.state.is_over()).count();
        let entered = self.enter(maintenance, &fleet, &mut decisions, open).await?;
        self.save_decisions(catalog, &fleet, &decisions).await?;
        Ok(entered)
    }

    /// Enters what is to be done: what schedules want, then what gains most for its cost, one job a table, while there are slots.
    async fn enter(
        &self,
        maintenance: &Maintenance,
        fleet: &[Looked],
        decisions: &mut [Decision],
        open: usize,
    ) -> Result<usize, MaintenanceError> {
        let mut wanted: Vec<(usize, JobToEnqueue)> = Vec::new();
        for (i, decision) in decisions.iter_mut().enumerate() {
            decision.act.sort_by(JobToEnqueue::by_urgency);
            wanted.extend(decision.act.drain(..).take(1).map(|act| (i, act)));
        }
        wanted.sort_by(|(_, a), (_, b)| a.by_urgency(b));
        let mut slots = self.options.slots.saturating_sub(open);
        let mut entered = 0;
        for (i, act) in wanted {
            if slots == 0 {
                let reason = format!("{} other jobs of more gain come first", self.options.slots);
                decisions[i] = Decision { verdict: DecisionKind::Wait, reason, ..decisions[i].clone() };
                continue;
            }
            let row = &fleet[i].examined.row;
            let order = order(row, &act);
            let reason = match maintenance.enqueue(row.id, &row.name, order).await {
                Ok(Some(_)) => {
                    slots -= 1;
                    entered += 1;
                    continue;
                }
                Ok(None) => "such a job has seen the table as it is now, and left it so".to_owned(),
                Err(error) => {
                    tracing::warn!(table = %row.name, %error, "a job could not be entered");
                    format!("the job could not be entered: {error}")
                }
            };
            decisions[i] = Decision { verdict: DecisionKind::Leave, reason, ..decisions[i].clone() };
        }
        Ok(entered)
    }

    /// Keeps the decisions that are others than before.
    async fn save_decisions(
        &mut self,
        catalog: &Catalog,
        fleet: &[Looked],
        decisions: &[Decision],
    ) -> Result<(), MaintenanceError> {
        let mut news = Vec::new();
        for (Looked { examined, .. }, decision) in fleet.iter().zip(decisions) {
            let json = serde_json::to_string(decision).unwrap_or_default();
            if self.last_saved.get(&examined.row.id) != Some(&json) {
                self.last_saved.insert(examined.row.id, json.clone());
                news.push((examined.row.id, decision.verdict.as_str(), json));
            }
        }
        if !news.is_empty() {
            catalog.state().record_decisions(&news).await?;
        }
        Ok(())
    }
}

/// The job as it is entered. Its key makes sure that several servers enter it once, and that one which had nothing to do is not entered
/// again before the table has changed.
fn order(row: &TabularRow, act: &JobToEnqueue) -> JobSpec {
    let candidate = &act.candidate;
    let kind = candidate.request.kind();
    let version = row.metadata_location.rsplit('/').next().unwrap_or_default();
    // Two sorts of compaction are two jobs.
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
        principal: NAME.to_owned(),
        reason,
        key: Some(key),
        priority,
        due_ms: 0,
        predicted: (!candidate.predicted.is_null()).then(|| candidate.predicted.clone()),
    }
}
