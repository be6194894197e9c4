//! Wires the crates into one binary: configuration, the server, the command line.
//!
//! A library as well, so that tests run the server in their own process.

mod background;
pub mod cli;
pub mod config;
mod error;
mod events;
mod housekeeping;
mod logging;
pub mod server;
mod supervise;
mod traces;
mod warehouses;

pub use config::Config;
pub use error::Error;

/// The result of a command.
pub type Result<T> = std::result::Result<T, Error>;
