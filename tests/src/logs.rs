//! The logs of all servers in the test's process, searched for secrets.
//!
//! [`TestApp`](crate::TestApp) starts this for the whole binary. Each answer that it gets fails the test if a secret was logged
//! by then. So a leak anywhere in the suite fails tests, and names the line.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError, RwLock};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

use crate::TOKEN;

/// The levels: every line of Esker's own crates, and those of the crates that handle requests with secrets.
const LEVELS: &str = "info,esker=trace,object_store=debug,reqwest=debug,hyper_util=debug";

/// The beginning of each token that Esker makes, and the number of hexadecimal digits after it.
const MADE: (&str, usize) = ("esk_", 64);

/// The texts that no line may have.
static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// The lines that had one of them.
static LEAKS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The number of lines that were searched.
static LINES: AtomicU64 = AtomicU64::new(0);

/// Starts to search the logs of this process; later calls do nothing. Benchmarks are not slowed: they have the release profile.
pub(crate) fn start() {
    static STARTED: Once = Once::new();
    if !cfg!(debug_assertions) {
        return;
    }
    STARTED.call_once(|| {
        watch_for(TOKEN);
        let filter = EnvFilter::try_new(LEVELS).expect("valid levels");
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(|| Searched);
        tracing_subscriber::registry().with(filter).with(layer).try_init().expect("no other subscriber in this process");
    });
}

/// Makes a secret fail the tests if a line of a log has it from now on. Choose a text that is nothing else.
pub fn watch_for(secret: &str) {
    let mut secrets = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    if !secrets.iter().any(|known| known == secret) {
        secrets.push(secret.to_owned());
    }
}

/// Returns the number of lines that were searched so far.
pub fn searched_lines() -> u64 {
    LINES.load(Ordering::Relaxed)
}

/// Checks whether a line of a log has one of the watched secrets, or a token that Esker made.
pub fn has_secret(line: &str) -> bool {
    let secrets = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    secrets.iter().any(|secret| line.contains(secret.as_str())) || has_made_token(line)
}

/// Checks that no line so far had a secret.
///
/// # Panics
///
/// Panics with the lines that had one.
pub fn check_logs() {
    let leaks = LEAKS.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(leaks.is_empty(), "a log has a secret:\n{}", leaks.concat());
}

/// Checks whether a line has a token that Esker made.
fn has_made_token(line: &str) -> bool {
    let (beginning, digits) = MADE;
    let mut rests = line.match_indices(beginning).map(|(at, _)| &line[at + beginning.len()..]);
    rests.any(|rest| rest.chars().take_while(char::is_ascii_hexdigit).count() >= digits)
}

/// Takes the lines of the logs, and keeps those that have a secret.
#[derive(Debug)]
struct Searched;

impl io::Write for Searched {
    /// Takes one whole line: the subscriber formats an event first, and writes it at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LINES.fetch_add(1, Ordering::Relaxed);
        let text = String::from_utf8_lossy(line);
        if has_secret(&text) {
            LEAKS.lock().unwrap_or_else(PoisonError::into_inner).push(text.into_owned());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_inside_lines_and_tokens_by_their_form() {
        watch_for("hunter2-of-this-test");
        assert!(has_secret("INFO request{path=\"/x\"}: token=hunter2-of-this-test\n"));
        assert!(has_secret(&format!("a token esk_{} was made", "0f".repeat(32))));
        for line in ["a token was made", "hunter2", "esk_", "the beginning esk_0f is no secret"] {
            assert!(!has_secret(line), "{line}");
        }
    }
}
