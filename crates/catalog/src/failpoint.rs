/// Named points at which tests meet a process: it stops making progress at one, so that it can be killed just there, or panics.
///
/// Set by the configuration keys `debug.halt_at` and `debug.panic_at`; off in any real deployment.
#[derive(Debug, Clone, Default)]
pub struct Failpoint {
    /// Where it stops.
    pub stop_at: Option<String>,
    /// Where it panics.
    pub panic_at: Option<String>,
}

impl Failpoint {
    /// Returns at once, unless this is one of the points.
    pub async fn at(&self, point: &str) {
        assert!(self.panic_at.as_deref() != Some(point), "a bug at {point} (debug.panic_at)");
        if self.stop_at.as_deref() == Some(point) {
            tracing::error!(point, "halted by debug.halt_at");
            std::future::pending::<()>().await;
        }
    }
}
