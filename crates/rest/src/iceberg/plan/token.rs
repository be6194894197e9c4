//! What a client carries of a plan: the id of the plan, and the names of its tasks.
//!
//! Both are JSON, encrypted with a key that all servers share, behind the name of their form. Form and principal are associated data.
//! So any server of the database can go on with a plan, and none goes on with one that no server made for the principal. The id of a
//! plan is a part of an address, which proxies log: nobody reads the values of a filter there. A scan that is too long for an address
//! is in the database, and the id of the plan names it. The database also has the plans that were cancelled.
//!
//! Start reading at [`PlanToken::make`] and [`OpenedPlan::of`].

use esker_auth::KeyPurpose;
use esker_types::{DAY_MS, ErrorCode, Millis, Principal, TableId, now_ms};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::scan::{PinnedScan, Planned};
use crate::iceberg::definer::ReferencedBy;
use crate::{ApiError, App};

/// The form of the id of a plan. Another form of a later release has another name.
const PLAN: &str = "p1";

/// The form of the name of a task.
const TASK: &str = "t1";

/// The maximum length in bytes of a scan that the client carries. The id of a plan is a part of an address, and proxies bound these.
const MAX_CARRIED_BYTES: usize = 1 << 10;

/// The maximum length in bytes of a scan that the database carries.
const MAX_STORED_BYTES: usize = 64 << 20;

/// The plan that a client carries.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PlanToken {
    /// The id of the plan, as servers know it.
    pub(super) id: Uuid,
    /// The table.
    pub(super) table: TableId,
    /// The time at which the plan was made.
    made_ms: Millis,
    /// The scan; `None` if the database has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    scan: Option<PinnedScan>,
    /// The principal reads the table through views, which the scan names.
    is_through_views: bool,
}

/// The task that a client carries.
#[derive(Debug, Serialize, Deserialize)]
struct TaskToken {
    plan: PlanToken,
    place: TaskPlace,
}

/// The place of a task in its plan.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TaskPlace {
    /// The number of the page.
    pub(super) page: usize,
    /// The digest of the plan that the page belongs to.
    pub(super) digest: String,
}

/// A plan that a client has brought back.
#[derive(Debug)]
pub(super) struct OpenedPlan {
    pub(super) token: PlanToken,
    /// The scan, as far as it was read; see [`OpenedPlan::read_scan`].
    scan: Option<PinnedScan>,
    pub(super) is_cancelled: bool,
}

impl PlanToken {
    /// Makes the token of a plan. A long scan is stored.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorCode::BadRequest`] if the scan is too long to be stored, and the code of the database's error.
    pub(super) async fn make(app: &App, id: Uuid, table: TableId, scan: PinnedScan) -> Result<Self, ApiError> {
        let (made_ms, text) = (now_ms(), serde_json::to_string(&scan).map_err(|e| bug(&e))?);
        let mut token = Self { id, table, made_ms, scan: None, is_through_views: !scan.chain.is_empty() };
        if text.len() <= MAX_CARRIED_BYTES {
            token.scan = Some(scan);
        } else if text.len() <= MAX_STORED_BYTES {
            app.inner.plans.remembered().insert(id, &text, made_ms, token.ends_ms()).await?;
        } else {
            let what = format!("the filter is too long: a scan may have {MAX_STORED_BYTES} bytes");
            return Err(ApiError::new(ErrorCode::BadRequest, what));
        }
        Ok(token)
    }

    /// Returns the time at which the plan ends.
    fn ends_ms(&self) -> Millis {
        self.made_ms.saturating_add(DAY_MS)
    }

    /// Returns the text of the id for a principal.
    ///
    /// # Errors
    ///
    /// Returns the code of the error of [`KeyRing::encrypt`](esker_auth::KeyRing::encrypt).
    pub(super) async fn seal(&self, app: &App, principal: &Principal) -> Result<String, ApiError> {
        seal(app, PLAN, principal, self).await
    }

    /// Returns the names of the pages of a plan but the first, for a principal.
    ///
    /// # Errors
    ///
    /// Returns the code of the error of [`KeyRing::encrypt`](esker_auth::KeyRing::encrypt).
    pub(super) async fn tasks(&self, app: &App, principal: &Principal, planned: &Planned) -> Result<Vec<String>, ApiError> {
        let mut names = Vec::new();
        for page in 1..planned.pages() {
            let place = TaskPlace { page, digest: planned.digest.clone() };
            names.push(seal(app, TASK, principal, &TaskToken { plan: self.clone(), place }).await?);
        }
        Ok(names)
    }

    /// Records that the plan is cancelled, on all servers.
    ///
    /// # Errors
    ///
    /// Returns the code of the database's error.
    pub(super) async fn cancel(&self, app: &App) -> Result<(), ApiError> {
        Ok(app.inner.plans.remembered().cancel(self.id, now_ms(), self.ends_ms()).await?)
    }

    /// Adds what the database remembers of the plan. Returns `None` if the plan has ended, or if its scan is gone.
    ///
    /// A scan that the database has is read only if it names views: it may be long, and this server may have computed the plan.
    async fn open(self, app: &App) -> Result<Option<OpenedPlan>, ApiError> {
        let now = now_ms();
        if self.ends_ms() <= now {
            return Ok(None);
        }
        let remembered = app.inner.plans.remembered().is_cancelled(self.id, now).await?;
        let (is_cancelled, is_known) = (remembered.unwrap_or_default(), remembered.is_some() || self.scan.is_some());
        let mut opened = OpenedPlan { scan: self.scan.clone(), token: self, is_cancelled };
        if is_known && !is_cancelled && opened.token.is_through_views {
            opened.scan = opened.read_scan(app).await?;
        }
        let lacks_views = opened.token.is_through_views && opened.scan.is_none() && !is_cancelled;
        Ok((is_known && !lacks_views).then_some(opened))
    }
}

impl OpenedPlan {
    /// Opens the id of a plan that a principal brings back. Returns `None` if it is none, or has ended.
    ///
    /// # Errors
    ///
    /// Returns the code of the database's error, and of that of [`KeyRing::decrypt`](esker_auth::KeyRing::decrypt).
    pub(super) async fn of(app: &App, principal: &Principal, text: &str) -> Result<Option<Self>, ApiError> {
        match unseal::<PlanToken>(app, PLAN, principal, text).await? {
            Some(token) => token.open(app).await,
            None => Ok(None),
        }
    }

    /// Opens the name of a task that a principal brings back. Returns `None` if it is none, or its plan has ended.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::of`].
    pub(super) async fn of_task(app: &App, principal: &Principal, text: &str) -> Result<Option<(Self, TaskPlace)>, ApiError> {
        let Some(task) = unseal::<TaskToken>(app, TASK, principal, text).await? else { return Ok(None) };
        Ok(task.plan.open(app).await?.map(|plan| (plan, task.place)))
    }

    /// Returns the scan. Reads it if the database has it; `None` if it is gone.
    ///
    /// # Errors
    ///
    /// Returns the code of the database's error.
    pub(super) async fn read_scan(&self, app: &App) -> Result<Option<PinnedScan>, ApiError> {
        if let Some(scan) = &self.scan {
            return Ok(Some(scan.clone()));
        }
        let remembered = app.inner.plans.remembered().get(self.token.id, now_ms()).await?;
        Ok(remembered.and_then(|plan| plan.request).and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Returns the views through which the principal planned the scan.
    pub(super) fn chain(&self) -> ReferencedBy {
        self.scan.as_ref().map(|scan| scan.chain.clone()).unwrap_or_default()
    }
}

/// Writes a value as a text that its principal alone can use.
async fn seal(app: &App, form: &str, principal: &Principal, value: &impl Serialize) -> Result<String, ApiError> {
    let (identity, body) = (principal.identity(), serde_json::to_vec(value).map_err(|e| bug(&e))?);
    let sealed = app.inner.options.keys.encrypt(KeyPurpose::Plans, &[form.as_bytes(), identity.as_bytes()], &body).await?;
    Ok(format!("{form}.{sealed}"))
}

/// Reads a text that a principal brings back. Returns `None` if no server made it for the principal, or its key has ended.
async fn unseal<T: DeserializeOwned>(app: &App, form: &str, principal: &Principal, text: &str) -> Result<Option<T>, ApiError> {
    let Some(sealed) = text.strip_prefix(form).and_then(|rest| rest.strip_prefix('.')) else { return Ok(None) };
    let identity = principal.identity();
    let opened = app.inner.options.keys.decrypt(KeyPurpose::Plans, &[form.as_bytes(), identity.as_bytes()], sealed).await?;
    Ok(opened.and_then(|body| serde_json::from_slice(&body).ok()))
}

/// Makes the error for a token that can't be written, which is a bug.
fn bug(error: &serde_json::Error) -> ApiError {
    ApiError::new(ErrorCode::Internal, format!("a scan plan can't be written as JSON: {error}"))
}
