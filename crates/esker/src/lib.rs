//! The top crate: reads the configuration, wires the other crates into a server, and has the command line.
//!
//! It is a library as well as a binary, so that tests can run the server in their own process. Start reading at
//! [`server::Server::start`] for the server, and at [`cli::run`] for the commands.

mod background;
pub mod cli;
pub mod config;
mod error;
mod events;
mod housekeeping;
mod logging;
mod peers;
pub mod server;
mod supervise;
mod traces;
mod warehouses;
mod without_effect;

pub use config::Config;
pub use error::Error;

/// The result of a command or of a step of the server's start.
pub type Result<T> = std::result::Result<T, Error>;
