//! The `esker` command: parses the command line, runs the command, and prints its error.
//!
//! [`esker::cli::run`] is the place to start reading.

use std::process::ExitCode;

use clap::Parser;
use esker::cli::Cli;

// Decoding and encoding allocate on many threads at once. The system's allocator would make the threads wait for each other.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match esker::cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // No other place prints an error or sets the exit status.
            eprintln!("esker: {e}");
            ExitCode::FAILURE
        }
    }
}
