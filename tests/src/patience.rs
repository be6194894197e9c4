//! [`wait_for`]: waits for a condition, for as long as a busy machine may need.

use std::time::{Duration, Instant};

/// The time after which a test gives up waiting. It is longer than two rounds of a schedule of every minute.
const PATIENCE: Duration = Duration::from_secs(150);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Waits until `found` returns a value, and returns the value. Panics with `what` when the patience is over.
pub async fn wait_for<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = found().await {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(PAUSE).await;
    }
}
