/// A named point at which the process stops making progress, so that a test can kill it just there.
///
/// Set by the configuration key `debug.halt_at`; off in any real deployment.
#[derive(Debug, Clone, Default)]
pub struct Halt(Option<String>);

impl Halt {
    /// Stops at the point of this name.
    pub fn at_point(name: Option<String>) -> Self {
        Self(name)
    }

    /// Returns at once, unless this is the point.
    pub async fn at(&self, point: &str) {
        if self.0.as_deref() == Some(point) {
            tracing::error!(point, "halted by debug.halt_at");
            std::future::pending::<()>().await;
        }
    }
}
