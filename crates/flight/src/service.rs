//! [`FlightSqlHandler`]: the calls of Flight SQL, each answered by the query engine.
//!
//! A statement takes two calls: `GetFlightInfo` plans it and returns its schema with a ticket; `DoGet` with that ticket runs it.
//! Only `DoGet` and `DoPut` run statements, so each runs once. The plan is kept between the two calls ([`MAX_CACHED_PLANS`],
//! [`PLAN_TTL_SECONDS`]). If it is gone, the statement in the ticket is planned again: by another replica, after a restart, or for
//! a slow client. A ticket is its principal's, and nobody else can use it or make one. The engine runs no plan that was made under
//! other rules than those of the call, or for a call that an access policy can tell from it. Start reading with
//! [`FlightSqlHandler::query_info`] and [`FlightSqlHandler::run`].
//!
//! Spec: Arrow Flight SQL, "RPC Methods".

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Schema, UInt64Type};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::metadata::SqlInfoData;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementQuery, CommandStatementUpdate,
    DoPutPreparedStatementResult, ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse, IpcMessage, SchemaAsIpc, Ticket,
};
use bytes::Bytes;
use esker_access::Caller;
use esker_auth::{AccessControl, AuditedKind, KeyRing, OutcomeGuard, PrincipalLimits, PrincipalPermit, RequestTrail};
use esker_catalog::Authority;
use esker_query::{BoundValues, Engine, PreparedStatement, QueryError, RunningQuery, operation_of};
use esker_types::{Coded, ErrorCode, Principal};
use futures::{Stream, StreamExt, TryStreamExt};
use moka::future::Cache;
use prost::Message;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::error::{internal, invalid, status};
use crate::handle::{HandleKeys, StatementHandle};
use crate::{basic, info, metadata, parameters};

/// The stream that `DoGet` answers with.
type DoGet = <FlightSqlHandler as FlightService>::DoGetStream;
/// The stream that `Handshake` answers with.
type HandshakeStream = Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>;
/// The answer to a call, or the status of its refusal.
type FlightResult<T> = Result<Response<T>, Status>;

/// The number of plans that are kept between the calls for one answer.
const MAX_CACHED_PLANS: u64 = 64;
/// The time in seconds that a plan is kept between the calls for one answer.
///
/// Without its plan, a statement is planned again: by another replica, after a restart, or when a client takes its time.
const PLAN_TTL_SECONDS: u64 = 10;

/// The plans that are kept, by the key in their [`StatementHandle`].
type PlanCache = Cache<Uuid, Arc<CachedPlan>>;

/// A plan that is kept for the next call of the principal that asked for it.
struct CachedPlan {
    principal: Principal,
    /// The trail of the call that planned it, which knows the objects.
    trail: Option<Arc<RequestTrail>>,
    /// The plan, until it is taken out. It is taken out once.
    prepared: Mutex<Option<PreparedStatement>>,
}

/// Who makes a call.
struct Requester {
    /// The principal.
    principal: Principal,
    /// What the principal may see and do, by the rules at the time of the call.
    authority: Authority,
    /// The version of these rules.
    rules: i64,
    /// The trail of the call; `None` if nothing is recorded.
    trail: Option<Arc<RequestTrail>>,
}

/// The Flight SQL service of one server.
#[derive(Clone)]
pub(crate) struct FlightSqlHandler {
    engine: Engine,
    access: AccessControl,
    keys: HandleKeys,
    limits: PrincipalLimits,
    plans: PlanCache,
}

impl FlightSqlHandler {
    /// Makes the service of an engine.
    ///
    /// The handler forgets the rules of `access` after a statement that changed them. `keys` authenticate handles, and `limits` bound
    /// the statements of each principal.
    pub(crate) fn new(engine: Engine, access: AccessControl, keys: KeyRing, limits: PrincipalLimits) -> Self {
        let plans = Cache::builder().max_capacity(MAX_CACHED_PLANS).time_to_live(Duration::from_secs(PLAN_TTL_SECONDS)).build();
        Self { engine, access, keys: HandleKeys(keys), limits, plans }
    }

    /// Keeps a plan for the next call of its principal. Returns the key for the client's handle.
    async fn cache_plan(&self, prepared: PreparedStatement, caller: &Requester) -> Option<Uuid> {
        let id = Uuid::new_v4();
        let (principal, trail) = (caller.principal.clone(), caller.trail.clone());
        let plan = CachedPlan { principal, trail, prepared: Mutex::new(Some(prepared)) };
        self.plans.insert(id, Arc::new(plan)).await;
        Some(id)
    }

    /// Takes the plan of a handle out of the kept ones, so that no other call gets it. A plan of another principal stays.
    async fn take_cached_plan(&self, handle: &StatementHandle, caller: &Requester) -> Option<PreparedStatement> {
        let id = handle.plan?;
        let kept = self.plans.get(&id).await.filter(|plan| plan.principal == caller.principal)?;
        self.plans.invalidate(&id).await;
        if let (Some(trail), Some(planned)) = (&caller.trail, &kept.trail) {
            trail.adopt(planned);
        }
        kept.prepared.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns the plan of a handle, for a caller.
    ///
    /// The kept plan is used if its principal asked for it under the present rules, and if its schema was sent with the ticket or
    /// nothing has changed since it was made. Else the statement is planned again.
    ///
    /// # Errors
    ///
    /// Returns the status of the engine's error if the statement can't be planned. Returns the status `INVALID_ARGUMENT` if the
    /// handle's parameters are damaged, or if one has a type without scalar values.
    async fn prepared(&self, handle: &StatementHandle, caller: &Requester) -> Result<PreparedStatement, Status> {
        let by = &caller.authority;
        let kept = match handle.rules == caller.rules {
            true => self.take_cached_plan(handle, caller).await,
            false => None,
        };
        match kept {
            Some(prepared) if handle.schema_sent || self.engine.is_current(&prepared, by).await => Ok(prepared),
            _ => self.plan(&handle.sql, handle.bound_values()?, caller).await,
        }
    }

    /// Plans a statement for a caller. The trail of a call whose statement can't be planned has the operation that was meant.
    ///
    /// Meanwhile the statement counts as one at work.
    ///
    /// # Errors
    ///
    /// Returns the status of the engine's error if the statement can't be planned, and the status `RESOURCE_EXHAUSTED` if the caller
    /// has too many statements at work.
    async fn plan(&self, sql: &str, bound: BoundValues, caller: &Requester) -> Result<PreparedStatement, Status> {
        let _planning = self.admit(caller)?;
        self.engine.prepare(sql, bound, &caller.authority).await.map_err(|e| {
            if let (Some(trail), Some((operation, is_change))) = (&caller.trail, operation_of(sql)) {
                trail.set_operation(operation, if is_change { AuditedKind::Change } else { AuditedKind::Read });
            }
            status(&e)
        })
    }

    /// Admits a statement of a caller, which counts as one at work until the permit is dropped.
    ///
    /// # Errors
    ///
    /// Returns the status `RESOURCE_EXHAUSTED` if the caller has too many statements at work.
    fn admit(&self, caller: &Requester) -> Result<PrincipalPermit, Status> {
        self.limits.admit_statement(&caller.principal).map_err(|refused| Status::resource_exhausted(refused.to_string()))
    }

    /// Starts a plan for a caller. The engine plans the statement again if the rules have changed since it was planned.
    ///
    /// The permit is to be kept for as long as the statement runs.
    ///
    /// # Errors
    ///
    /// Returns the status `RESOURCE_EXHAUSTED` if the caller has too many statements at work, the status of the engine's error, and
    /// the status `UNAVAILABLE` if the statement changes something and can't be recorded.
    async fn start(&self, prepared: PreparedStatement, caller: &Requester) -> Result<(RunningQuery, PrincipalPermit), Status> {
        let mut outcome = OutcomeGuard::new(caller.trail.clone());
        let permit = self.admit(caller).inspect_err(|_| outcome.answered(ErrorCode::TooBusy.http()))?;
        if let Some(trail) = &caller.trail {
            let kind = if prepared.is_change() { AuditedKind::Change } else { AuditedKind::Read };
            trail.set_operation(prepared.operation(), kind);
            if let Some(role) = prepared.role() {
                trail.set_object("role", &role);
            }
            trail.begin().await.map_err(|e| {
                outcome.answered(e.code().http());
                status(&e)
            })?;
        }
        let creates_table = prepared.creates_table();
        let started = self.engine.run(prepared, &caller.principal, &caller.authority).await;
        if let Authority::Caller(caller) = &caller.authority
            && creates_table
        {
            // The transaction that created the table made the caller its owner.
            self.access.refresh_after(caller);
        }
        outcome.answered(started.as_ref().map_or_else(|e| e.code().http(), |_| 200));
        Ok((started.map_err(|e| status(&e))?, permit))
    }

    /// Runs a statement and streams its rows. Only `DoGet` and `DoPut` run statements, so that each runs once.
    ///
    /// # Errors
    ///
    /// Returns what [`requester_of`], [`HandleKeys::open`], [`Self::prepared`] and [`Self::start`] return. Later errors end the
    /// stream.
    async fn run<T>(&self, handle: &[u8], request: &Request<T>) -> FlightResult<DoGet> {
        let caller = requester_of(request)?;
        let handle = self.keys.open(handle, &caller.principal).await?;
        let (running, permit) = self.start(self.prepared(&handle, &caller).await?, &caller).await?;
        let schema = running.stream.schema();
        let batches = running.stream.map_err(move |e| {
            // The stream has the permit until it is dropped.
            let _running = &permit;
            FlightError::Tonic(Box::new(status(&QueryError::from(e))))
        });
        let encoded = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .with_dictionary_handling(DictionaryHandling::Resend)
            .build(batches)
            .map_err(Status::from);
        Ok(Response::new(encoded.boxed()))
    }

    /// Runs a statement that changes rows or rules. Returns the number of rows.
    ///
    /// A query is refused, as JDBC's `executeUpdate` refuses it: its rows would be computed and thrown away.
    ///
    /// # Errors
    ///
    /// Returns the status `INVALID_ARGUMENT` for a query. Returns what [`Self::start`] returns, the status of the engine's error if
    /// the statement fails later, and the status `INTERNAL` if the number exceeds 63 bits.
    async fn update(&self, prepared: PreparedStatement, caller: &Requester) -> Result<i64, Status> {
        if !prepared.is_change() {
            return Err(invalid("the statement is a query and changes no rows; run it as a query, not as an update"));
        }
        let (mut running, _permit) = self.start(prepared, caller).await?;
        let mut count = 0;
        while let Some(batch) = running.stream.try_next().await.map_err(|e| status(&QueryError::from(e)))? {
            if let Some(column) = batch.columns().first().and_then(|c| c.as_primitive_opt::<UInt64Type>()) {
                count += column.values().iter().sum::<u64>();
            }
        }
        i64::try_from(count).map_err(internal)
    }

    /// Returns the schema of an answer with one endpoint: this server, with the command itself as the ticket.
    fn flight_info(schema: &Schema, ticket: Bytes, request: Request<FlightDescriptor>) -> FlightResult<FlightInfo> {
        let endpoint = FlightEndpoint::new().with_ticket(Ticket { ticket });
        let info = FlightInfo::new()
            .try_with_schema(schema)
            .map_err(internal)?
            .with_endpoint(endpoint)
            .with_descriptor(request.into_inner());
        Ok(Response::new(info))
    }

    /// Plans a statement, and returns the schema of its answer with a ticket. The plan is kept for the ticket.
    ///
    /// # Errors
    ///
    /// Returns what [`Self::prepared`] and [`HandleKeys::seal`] return, and the status `INTERNAL` if the schema can't be encoded.
    async fn query_info<T: ProstMessageExt>(
        &self,
        mut handle: StatementHandle,
        ticket_of: impl FnOnce(Bytes) -> T,
        caller: Requester,
        request: Request<FlightDescriptor>,
    ) -> FlightResult<FlightInfo> {
        let prepared = self.prepared(&handle, &caller).await?;
        let schema = prepared.schema();
        (handle.plan, handle.schema_sent) = (self.cache_plan(prepared, &caller).await, true);
        handle.rules = caller.rules;
        let sealed = self.keys.seal(&handle, &caller.principal).await?;
        Self::flight_info(&schema, ticket(&ticket_of(sealed)), request)
    }

    /// Returns the properties of the server.
    fn sql_info() -> Result<SqlInfoData, Status> {
        info::sql_info()
    }
}

/// Returns who makes a call.
///
/// # Errors
///
/// Returns the status `UNAUTHENTICATED` for a call without a principal.
fn requester_of<T>(request: &Request<T>) -> Result<Requester, Status> {
    let (principal, caller) = (request.extensions().get::<Principal>(), request.extensions().get::<Arc<Caller>>());
    let trail = request.extensions().get::<Arc<RequestTrail>>().cloned();
    match (principal, caller) {
        (Some(principal), Some(caller)) => {
            let (authority, rules) = (Authority::Caller(caller.clone()), caller.subject().rules().version());
            Ok(Requester { principal: principal.clone(), authority, rules, trail })
        }
        _ => Err(Status::unauthenticated("the call has no principal")),
    }
}

/// Answers with one batch.
fn stream_of_one_batch(batch: RecordBatch) -> FlightResult<DoGet> {
    let schema = batch.schema();
    let batches = futures::stream::once(async { Ok(batch) });
    let encoded = FlightDataEncoderBuilder::new().with_schema(schema).build(batches).map_err(Status::from);
    Ok(Response::new(encoded.boxed()))
}

/// Encodes a schema as an Arrow IPC message.
fn encode_schema(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let message = IpcMessage::try_from(SchemaAsIpc::new(schema, &options)).map_err(internal)?;
    Ok(message.0)
}

/// Encodes a command as a ticket.
fn ticket(command: &impl ProstMessageExt) -> Bytes {
    command.as_any().encode_to_vec().into()
}

#[tonic::async_trait]
impl FlightSqlService for FlightSqlHandler {
    type FlightService = Self;

    /// Gives a client that authenticated itself the token that it sent, as the bearer token of its calls.
    async fn do_handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> FlightResult<HandshakeStream> {
        let token = request.metadata().get("authorization").and_then(|header| basic::token_of(header.as_bytes()));
        let payload = token.clone().unwrap_or_default().into();
        let answer: Result<HandshakeResponse, Status> = Ok(HandshakeResponse { protocol_version: 0, payload });
        let answers: HandshakeStream = Box::pin(futures::stream::once(std::future::ready(answer)));
        let mut response = Response::new(answers);
        if let Some(token) = token {
            let bearer = format!("Bearer {token}").parse().map_err(|_| invalid("the token is not text"))?;
            response.metadata_mut().insert("authorization", bearer);
        }
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> FlightResult<FlightInfo> {
        let ticket_of = |statement_handle| TicketStatementQuery { statement_handle };
        let caller = requester_of(&request)?;
        self.query_info(StatementHandle::new(query.query, caller.rules), ticket_of, caller, request).await
    }

    async fn do_get_statement(&self, query: TicketStatementQuery, request: Request<Ticket>) -> FlightResult<DoGet> {
        self.run(&query.statement_handle, &request).await
    }

    async fn do_put_statement_update(
        &self,
        query: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let caller = requester_of(&request)?;
        let prepared = self.prepared(&StatementHandle::new(query.query, caller.rules), &caller).await?;
        self.update(prepared, &caller).await
    }

    async fn do_put_prepared_statement_update(
        &self,
        query: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let caller = requester_of(&request)?;
        let handle = self.keys.open(&query.prepared_statement_handle, &caller.principal).await?;
        let batches = parameters::read(request.into_inner()).await?;
        let bound = parameters::rows(&batches)?;
        let prepared = match batches.is_empty() {
            true => self.prepared(&handle, &caller).await?,
            // Each row of parameters is one run of the statement, so no row is no run.
            false if bound.is_empty() => return Ok(0),
            false => self.plan(&handle.sql, bound, &caller).await?,
        };
        self.update(prepared, &caller).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let caller = requester_of(&request)?;
        let prepared = self.plan(&query.query, Vec::new(), &caller).await?;
        let (dataset_schema, parameter_schema) = (encode_schema(&prepared.schema())?, encode_schema(&prepared.parameters())?);
        let mut handle = StatementHandle::new(query.query, caller.rules);
        handle.plan = self.cache_plan(prepared, &caller).await;
        let prepared_statement_handle = self.keys.seal(&handle, &caller.principal).await?;
        Ok(ActionCreatePreparedStatementResult { prepared_statement_handle, dataset_schema, parameter_schema })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _query: ActionClosePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<(), Status> {
        Ok(())
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let caller = requester_of(&request)?;
        let mut handle = self.keys.open(&query.prepared_statement_handle, &caller.principal).await?;
        handle.bind(&parameters::read(request.into_inner()).await?)?;
        let prepared_statement_handle = Some(self.keys.seal(&handle, &caller.principal).await?);
        Ok(DoPutPreparedStatementResult { prepared_statement_handle })
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> FlightResult<FlightInfo> {
        let ticket_of = |prepared_statement_handle| CommandPreparedStatementQuery { prepared_statement_handle };
        let caller = requester_of(&request)?;
        let handle = self.keys.open(&query.prepared_statement_handle, &caller.principal).await?;
        self.query_info(handle, ticket_of, caller, request).await
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> FlightResult<DoGet> {
        self.run(&query.prepared_statement_handle, &request).await
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> FlightResult<FlightInfo> {
        Self::flight_info(&query.into_builder().schema(), ticket(&query), request)
    }

    async fn do_get_catalogs(&self, query: CommandGetCatalogs, request: Request<Ticket>) -> FlightResult<DoGet> {
        stream_of_one_batch(metadata::catalogs(&self.engine, query, &requester_of(&request)?.authority).await?)
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> FlightResult<FlightInfo> {
        let ticket = ticket(&query);
        Self::flight_info(&query.into_builder().schema(), ticket, request)
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, request: Request<Ticket>) -> FlightResult<DoGet> {
        stream_of_one_batch(metadata::schemas(&self.engine, query, &requester_of(&request)?.authority).await?)
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> FlightResult<FlightInfo> {
        let ticket = ticket(&query);
        Self::flight_info(&query.into_builder().schema(), ticket, request)
    }

    async fn do_get_tables(&self, query: CommandGetTables, request: Request<Ticket>) -> FlightResult<DoGet> {
        stream_of_one_batch(metadata::tables(&self.engine, query, &requester_of(&request)?.authority).await?)
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> FlightResult<FlightInfo> {
        Self::flight_info(&query.into_builder().schema(), ticket(&query), request)
    }

    async fn do_get_table_types(&self, query: CommandGetTableTypes, _request: Request<Ticket>) -> FlightResult<DoGet> {
        stream_of_one_batch(metadata::table_types(query)?)
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> FlightResult<FlightInfo> {
        let ticket = ticket(&query);
        Self::flight_info(&query.into_builder(&Self::sql_info()?).schema(), ticket, request)
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, _request: Request<Ticket>) -> FlightResult<DoGet> {
        stream_of_one_batch(query.into_builder(&Self::sql_info()?).build().map_err(internal)?)
    }

    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}
