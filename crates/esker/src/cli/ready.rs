//! `esker ready`: asks the probe of a server, where an image has no other program that could.

use serde_json::json;

use super::client::Client;
use super::{print_json, print_line};
use crate::Result;

/// Asks `/readyz`, and prints its answer.
///
/// # Errors
///
/// Returns [`Remote`](crate::Error::Remote) if the server is not ready, and the error of the connection if it does not answer.
pub(super) async fn run(client: &Client) -> Result<()> {
    client.refuse_warehouse("ready")?;
    let answer = client.get_text("/readyz").await?;
    if client.prints_json() {
        return print_json(&json!({"ready": true, "degraded": degraded(&answer)}));
    }
    print_line(answer.trim_end());
    Ok(())
}

/// Returns the background tasks that keep failing, a line each. They leave the server ready.
fn degraded(answer: &str) -> Vec<&str> {
    answer.lines().filter_map(|line| line.strip_prefix("degraded: ")).collect()
}

#[cfg(test)]
mod tests {
    use super::degraded;

    #[test]
    fn tasks_that_fail_are_told_apart_from_the_answer() {
        assert!(degraded("ready\n").is_empty());
        let answer = "ready\ndegraded: sweep: restarts 3, last failure: no space\n";
        assert_eq!(degraded(answer), ["sweep: restarts 3, last failure: no space"]);
    }
}
