//! The plans that this server has computed or is computing.
//!
//! A server that does not have a plan computes it again. So the plans here save work, and nobody needs them.

use std::sync::Arc;
use std::time::Duration;

use esker_catalog::{Catalog, LoadedTable};
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

/// The approximate size of a task in memory, in bytes.
const TASK_BYTES: usize = 1_000;

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
    started: Cache<Uuid, StartedPlan>,
}

impl Plans {
    /// Makes an empty cache of plans.
    pub(crate) fn new(state: State) -> Self {
        let cache = Cache::builder().time_to_idle(IDLE).weigher(|_, plan: &StartedPlan| plan.weight).max_capacity(CACHE_BYTES);
        Self { state, started: cache.build() }
    }

    /// Returns what the database remembers of plans.
    pub(super) const fn remembered(&self) -> ScanPlans<'_> {
        self.state.scan_plans()
    }

    /// Returns the progress of a plan, if this server has it.
    pub(super) async fn find(&self, id: Uuid) -> Option<Progress> {
        self.started.get(&id).await.map(|plan| plan.progress)
    }

    /// Computes a plan, in a task of its own. The request counts as one at work until its end, whenever it is answered.
    pub(super) async fn start(
        &self,
        id: Uuid,
        catalog: Catalog,
        table: LoadedTable,
        scan: CheckedScan,
        at_work: AtWork,
    ) -> Progress {
        let (done, progress) = watch::channel(PlanState::Submitted);
        let (begin, begun) = oneshot::channel::<()>();
        let started = self.started.clone();
        let task = tokio::spawn(async move {
            // The weight of a plan is known at its end, and counts only if the plan is in the cache by then.
            if begun.await.is_err() {
                return;
            }
            let result = match catch_panic(scan.run(&catalog, table)).await {
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
                let weight = u32::try_from(planned.tasks().saturating_mul(TASK_BYTES)).unwrap_or(u32::MAX).min(MAX_PLAN_BYTES);
                started.insert(id, StartedPlan { weight, ..plan }).await;
            }
            drop(at_work);
            done.send_replace(result);
        });
        let plan = StartedPlan { progress: progress.clone(), task: task.abort_handle(), weight: 1 };
        self.started.insert(id, plan).await;
        // The task waits for this alone.
        let _ = begin.send(());
        progress
    }

    /// Forgets a plan, and stops computing it.
    pub(super) async fn forget(&self, id: Uuid) {
        if let Some(plan) = self.started.remove(&id).await {
            plan.task.abort();
        }
    }
}

/// Waits until a plan is completed or has failed, but no longer than a time.
pub(super) async fn wait(progress: &mut Progress, longest: Duration) {
    // A plan that is not ready after the wait is answered as submitted.
    let _ = tokio::time::timeout(longest, progress.wait_for(|state| !matches!(state, PlanState::Submitted))).await;
}
