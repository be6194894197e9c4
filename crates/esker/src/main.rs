//! The `esker` command.

use std::process::ExitCode;

use clap::Parser;
use esker::cli::Cli;

// Decoding and encoding allocate from many threads at once, which the system's allocator serialises.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match esker::cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // The one place where the command speaks of failure.
            eprintln!("esker: {e}");
            ExitCode::FAILURE
        }
    }
}
