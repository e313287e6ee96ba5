//! In the place of the exporter, where the program is built without the feature `otlp`: no span goes anywhere.

use super::Spans;

/// Exports nothing.
#[derive(Debug)]
pub struct Exporter;

impl Exporter {
    /// Says so, where the environment asks for it.
    #[must_use]
    pub fn from_environment() -> Self {
        let endpoints = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
        for name in endpoints.iter().filter(|name| std::env::var_os(name).is_some()) {
            tracing::warn!("{name} is set, but no spans are exported: built without the feature `otlp`");
        }
        Self
    }

    /// Where spans go: nowhere.
    #[must_use]
    pub fn spans(&self) -> Spans {
        Spans::default()
    }

    /// There is nothing to wait for.
    #[expect(clippy::unused_async, reason = "the one that it stands in for has to wait")]
    pub async fn finish(self) {}
}
