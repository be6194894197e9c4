//! The plans that this server has computed or is computing.
//!
//! A server that does not have a plan computes it again. So the plans here save work, and nobody needs them.

use std::sync::Arc;
use std::time::Duration;

use esker_catalog::{Catalog, CatalogError, LoadedTable};
use esker_state::{ScanPlans, State};
use esker_types::{ErrorCode, catch_panic};
use moka::future::Cache;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::scan::{CheckedScan, Planned};
use crate::ApiError;
use crate::rate::AtWork;

/// The time after its last use at which this server forgets a plan.
const IDLE: Duration = Duration::from_secs(600);

/// The approximate maximum size of all plans, in bytes.
const CACHE_BYTES: u64 = 128 << 20;

/// The most that one plan counts for, in bytes. A plan that counted for more than all would be computed again for each of its pages.
const MAX_PLAN_BYTES: u32 = 64 << 20;

/// The approximate size of a task or of a delete file in memory, in bytes.
const TASK_BYTES: usize = 1_000;

/// The approximate size of a plan without tasks, in bytes. So the number of plans is bounded too.
const PLAN_BYTES: u32 = 4_000;

/// The approximate size in memory of a filter, in multiples of its length as JSON.
const FILTER_FACTOR: usize = 16;

/// The state of a plan.
///
/// Spec: REST `PlanStatus`. The database knows which plans are cancelled.
#[derive(Debug, Clone)]
pub(super) enum PlanState {
    Submitted,
    Completed(Arc<Planned>),
    Failed(ApiError),
}

/// The progress of a plan.
pub(super) type Progress = watch::Receiver<PlanState>;

/// A plan that this server computes, or has computed.
#[derive(Debug, Clone)]
struct StartedPlan {
    progress: Progress,
    task: AbortHandle,
    weight: u32,
}

/// The scan plans, as one server knows them.
#[derive(Debug)]
pub(crate) struct Plans {
    state: State,
    started: StartedPlans,
}

impl Plans {
    /// Makes an empty cache of plans.
    pub(crate) fn new(state: State) -> Self {
        Self { state, started: StartedPlans::new() }
    }

    /// Returns what the database remembers of plans.
    pub(super) const fn remembered(&self) -> ScanPlans<'_> {
        self.state.scan_plans()
    }

    /// Returns the progress of a plan, if this server has it.
    pub(super) async fn find(&self, id: Uuid) -> Option<Progress> {
        self.started.0.get(&id).await.map(|plan| plan.progress)
    }

    /// Computes a plan, in a task of its own. The request counts as one at work until its end, whenever it is answered.
    ///
    /// If another request has started the plan meanwhile, its progress is returned.
    pub(super) async fn start(
        &self,
        id: Uuid,
        catalog: Catalog,
        table: LoadedTable,
        scan: CheckedScan,
        at_work: AtWork,
    ) -> Progress {
        self.started.compute(id, at_work, async move { scan.run(&catalog, &table).await }).await
    }

    /// Forgets a plan, and stops computing it.
    pub(super) async fn forget(&self, id: Uuid) {
        if let Some(plan) = self.started.0.remove(&id).await {
            plan.task.abort();
        }
    }
}

/// The plans that this server computes or has computed, by their ids.
#[derive(Debug)]
struct StartedPlans(Cache<Uuid, StartedPlan>);

impl StartedPlans {
    /// Makes an empty cache.
    fn new() -> Self {
        let cache = Cache::builder().time_to_idle(IDLE).weigher(|_, plan: &StartedPlan| plan.weight).max_capacity(CACHE_BYTES);
        Self(cache.build())
    }

    /// Does the work of a plan in a task, unless one does it already.
    async fn compute(
        &self,
        id: Uuid,
        at_work: AtWork,
        work: impl Future<Output = Result<Planned, CatalogError>> + Send + 'static,
    ) -> Progress {
        let (done, progress) = watch::channel(PlanState::Submitted);
        let (begin, begun) = oneshot::channel::<()>();
        let started = self.0.clone();
        let task = tokio::spawn(async move {
            // The weight of a plan is known at its end, and counts only if the plan is in the cache by then.
            if begun.await.is_err() {
                return;
            }
            let result = match catch_panic(work).await {
                Ok(Ok(planned)) => PlanState::Completed(Arc::new(planned)),
                Ok(Err(e)) => PlanState::Failed(e.into()),
                // Without a final state the client would poll for ever.
                Err(panic) => {
                    PlanState::Failed(ApiError::new(ErrorCode::Internal, format!("planning hit a bug of Esker: {panic}")))
                }
            };
            if let PlanState::Completed(planned) = &result
                && let Some(plan) = started.get(&id).await
            {
                started.insert(id, StartedPlan { weight: weight_of(planned.files(), planned.filter_bytes), ..plan }).await;
            }
            drop(at_work);
            done.send_replace(result);
        });
        let plan = StartedPlan { progress, task: task.abort_handle(), weight: PLAN_BYTES };
        // A client fetches many pages at once: all of them must not compute the plan.
        let entry = self.0.entry(id).or_insert(plan).await;
        if entry.is_fresh() {
            // The task waits for this alone. Without it, the task ends.
            let _ = begin.send(());
        }
        entry.into_value().progress
    }
}

/// Returns what a plan of a number of data and delete files counts for, whose filter has a length as JSON, both in bytes.
fn weight_of(files: usize, filter_bytes: usize) -> u32 {
    let bytes = files.saturating_mul(TASK_BYTES).saturating_add(filter_bytes.saturating_mul(FILTER_FACTOR));
    u32::try_from(bytes).unwrap_or(u32::MAX).saturating_add(PLAN_BYTES).min(MAX_PLAN_BYTES)
}

/// Waits until a plan is completed or has failed, but no longer than a time.
pub(super) async fn wait(progress: &mut Progress, longest: Duration) {
    // A plan that is not ready after the wait is answered as submitted.
    let _ = tokio::time::timeout(longest, progress.wait_for(|state| !matches!(state, PlanState::Submitted))).await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn of_requests_for_one_plan_that_come_at_once_one_computes_it() {
        let (plans, id, computed) = (StartedPlans::new(), Uuid::now_v7(), Arc::new(AtomicU64::new(0)));
        let ask = || {
            let computed = computed.clone();
            plans.compute(id, AtWork::new(None), async move {
                computed.fetch_add(1, Ordering::Relaxed);
                Err(CatalogError::Invalid("nothing to plan".to_owned()))
            })
        };
        for mut progress in futures::future::join_all((0..8).map(|_| ask())).await {
            let reached = progress.wait_for(|state| !matches!(state, PlanState::Submitted)).await.expect("computed");
            assert!(matches!(*reached, PlanState::Failed(_)));
        }
        assert_eq!(computed.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn every_plan_counts_for_something_and_none_for_all() {
        assert_eq!((weight_of(0, 0), weight_of(10, 100)), (PLAN_BYTES, PLAN_BYTES + 11_600));
        assert_eq!((weight_of(usize::MAX, 0), weight_of(0, usize::MAX)), (MAX_PLAN_BYTES, MAX_PLAN_BYTES));
    }
}
