//! [`PeerClient`]: sends commits to other servers.

use std::time::Duration;

use esker_auth::KeyRing;
use esker_catalog::{Authority, Forwarded, Forwarder, NotSent, Proposal};
use esker_state::CommitLease;
use esker_types::{now_ms, with_causes};
use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use tokio::time::timeout;
use uuid::Uuid;

use super::message::{AnswerMessage, CommitMessage, MessageCaller, MessageReceipt};
use super::{ROUTE, SILENCE};
use crate::{Error, Result};

/// The number of bytes of a message for which a receiver gets a second more until its first sign of life.
const BYTES_PER_SECOND: usize = 4 << 20;

/// The maximum size of an answer with its signs of life, in bytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Sends commits to other servers, each encrypted for the one process that holds a lease.
#[derive(Debug)]
pub(crate) struct PeerClient {
    keys: KeyRing,
    /// The identifier of this process.
    own: Uuid,
    /// The address at which other servers reach this one.
    address: String,
    http: Client,
    /// The longest time for which a receiver may work on a commit, with signs of life.
    patience: Duration,
}

impl PeerClient {
    /// Makes the client of the process `own`, which others reach at `address`. `patience` is the longest time for which a receiver may
    /// work on a commit, if it gives signs of life.
    ///
    /// # Errors
    ///
    /// Returns [`Config`](Error::Config) if the HTTP client can't be made.
    pub(crate) fn new(keys: KeyRing, own: Uuid, address: String, patience: Duration) -> Result<Self> {
        // A proxy of the environment is for the world outside.
        let http = Client::builder().no_proxy().redirect(Policy::none()).connect_timeout(SILENCE).tcp_nodelay(true).build();
        let http = http.map_err(|error| Error::Config(format!("server.peer_listen: {}", with_causes(&error))))?;
        Ok(Self { keys, own, address, http, patience })
    }

    /// Encrypts a commit for the holder of a lease. Returns the id of the message, too.
    ///
    /// # Errors
    ///
    /// Returns [`Usage`](Error::Usage) if the commit has no caller or no receipt key, and the errors of [`CommitMessage::seal`].
    async fn message(&self, lease: &CommitLease, warehouse: i64, proposal: &Proposal) -> Result<(Uuid, String)> {
        let lacks = |what: &str| Error::Usage(format!("the commit has no {what}"));
        let Authority::Caller(caller) = &proposal.actor.authority else { return Err(lacks("caller")) };
        let receipt = proposal.actor.receipt.as_ref().ok_or_else(|| lacks("receipt key"))?;
        let message = CommitMessage {
            id: Uuid::now_v7(),
            sender: self.own,
            receiver: lease.server,
            sent_ms: now_ms(),
            term: lease.term,
            warehouse,
            table: lease.table,
            caller: MessageCaller::of(caller),
            principal: proposal.actor.principal.clone(),
            receipt: MessageReceipt::of(receipt),
            requirements: proposal.requirements.as_slice().into(),
            updates: proposal.updates.as_slice().into(),
        };
        Ok((message.id, message.seal(&self.keys).await?))
    }

    /// Sends a message to an address. Returns the answer.
    ///
    /// # Errors
    ///
    /// Returns [`Remote`](Error::Remote) if none comes, and the errors of [`AnswerMessage::open`]. It is not known then what became
    /// of the commit.
    async fn exchange(&self, address: &str, message: Uuid, sealed: String) -> Result<AnswerMessage> {
        let time = SILENCE + Duration::from_secs((sealed.len() / BYTES_PER_SECOND) as u64);
        let request = self.http.post(format!("http://{address}{ROUTE}")).body(sealed);
        let response = timeout(time, request.send()).await.map_err(|_| silent(time))?;
        let response = response.map_err(|error| Error::Remote(with_causes(&error)))?;
        if !response.status().is_success() {
            let refused = format!("it refused the message with status {}; its log says why", response.status());
            return Err(Error::Remote(refused));
        }
        AnswerMessage::open(&self.keys, message, &collect(response).await?).await
    }
}

/// Makes the error of a receiver that gives no sign of life.
fn silent(time: Duration) -> Error {
    Error::Remote(format!("it gave no sign of life for {} s", time.as_secs()))
}

/// Reads an answer to its end, for as long as there are signs of life.
///
/// # Errors
///
/// Returns [`Remote`](Error::Remote) if the answer breaks off, is too long, or nothing comes for [`SILENCE`].
async fn collect(mut response: Response) -> Result<Vec<u8>> {
    let mut answer = Vec::new();
    loop {
        match timeout(SILENCE, response.chunk()).await {
            Err(_) => return Err(silent(SILENCE)),
            Ok(Err(error)) => return Err(Error::Remote(with_causes(&error))),
            Ok(Ok(None)) => return Ok(answer),
            Ok(Ok(Some(chunk))) if answer.len() + chunk.len() <= MAX_ANSWER_BYTES => answer.extend_from_slice(&chunk),
            Ok(Ok(Some(_))) => return Err(Error::Remote("its answer is too long".to_owned())),
        }
    }
}

impl Forwarder for PeerClient {
    fn address(&self) -> &str {
        &self.address
    }

    fn forward<'a>(
        &'a self,
        lease: &'a CommitLease,
        warehouse: i64,
        proposal: &'a Proposal,
    ) -> BoxFuture<'a, std::result::Result<Forwarded, NotSent>> {
        async move {
            let (id, sealed) = self.message(lease, warehouse, proposal).await.map_err(|error| NotSent(error.to_string()))?;
            Ok(match timeout(self.patience, self.exchange(&lease.address, id, sealed)).await {
                Ok(Ok(answer)) => answer.into(),
                Ok(Err(error)) => Forwarded::Unanswered(error.to_string()),
                Err(_) => Forwarded::Unanswered(format!("it did not answer within {} s", self.patience.as_secs())),
            })
        }
        .boxed()
    }
}
