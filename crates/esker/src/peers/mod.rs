//! Messages between the servers of a database: commits that go to the server that holds the lease of their table.
//!
//! They go over HTTP to a port for servers alone, `server.peer_listen`. Each is encrypted with a key of the purpose `servers`, which
//! the servers share, so nobody else reads, makes or changes one. It names the process that it is for, counts for 30 seconds, and
//! once. The receiver answers at once with a sign of life, repeats it while it works, and ends with the encrypted answer. So a sender
//! soon knows that a receiver is gone, however long a commit takes.
//!
//! | file | work |
//! |---|---|
//! | `message.rs` | what is sent, and how it is encrypted |
//! | `client.rs` | sends commits; the `Forwarder` of the catalogs |
//! | `port.rs` | takes commits of others, and commits them |
//! | `once.rs` | remembers which messages came |
//!
//! Which commits go where, and what a missing answer means, is decided by `esker_catalog`, in `forward/mod.rs`. Start reading at
//! [`PeerClient`], then at [`PeerPort`].

mod client;
mod message;
mod once;
mod port;

use std::time::Duration;

pub(crate) use client::PeerClient;
pub(crate) use port::PeerPort;

/// The route of the port.
const ROUTE: &str = "/commit";

/// The time between two signs of life of a receiver.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);

/// The time without a sign of life after which a receiver counts as gone.
const SILENCE: Duration = Duration::from_secs(2);

/// The time for which a message counts, and by which the clocks of two servers may differ.
const VALID: Duration = Duration::from_secs(30);
