//! Named points in the code at which a test stops a process, to kill it just there, or makes it panic.

/// The failpoints that the configuration sets; none in a real deployment.
///
/// The keys are `debug.failpoint` and `debug.panic_at`.
#[derive(Debug, Clone, Default)]
pub struct Failpoint {
    /// Name of the point at which a task stops for ever.
    pub stop_at: Option<String>,
    /// Name of the point at which a task panics.
    pub panic_at: Option<String>,
}

impl Failpoint {
    /// Stops for ever if `point` is the configured one; otherwise returns at once.
    ///
    /// # Panics
    ///
    /// Panics if `point` is the one of `debug.panic_at`.
    pub async fn at(&self, point: &str) {
        assert!(self.panic_at.as_deref() != Some(point), "a bug at {point} (debug.panic_at)");
        if self.stop_at.as_deref() == Some(point) {
            tracing::error!(point, "stopped at a failpoint (debug.failpoint)");
            std::future::pending::<()>().await;
        }
    }
}
