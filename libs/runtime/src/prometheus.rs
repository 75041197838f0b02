//! Metrics of the process in the Prometheus text format.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of the buckets of all durations, in seconds.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// The metrics of this process: what the `metrics` macros record, as Prometheus reads it.
#[derive(Debug, Clone)]
pub struct Metrics(());

impl Metrics {
    /// Makes the `metrics` macros record from now on. Further calls give the same metrics.
    #[must_use]
    pub fn install() -> Self {
        RECORDER.get_or_init(|| {
            let builder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
                .inspect_err(|error| tracing::error!(%error, "metrics have no buckets"))
                .ok()?;
            builder
                .install_recorder()
                .inspect_err(|error| tracing::error!(%error, "metrics are not recorded"))
                .ok()
        });
        Metrics(())
    }

    /// Says of which service they are.
    pub fn of(&self, service: &'static str) {
        metrics::describe_gauge!("bedside_build_info", "1; the labels tell what runs");
        metrics::gauge!("bedside_build_info", "service" => service, "version" => env!("CARGO_PKG_VERSION"))
            .set(1.0);
    }

    /// Everything recorded so far, in the Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        RECORDER.get().and_then(Option::as_ref).map_or_else(String::new, |handle| {
            handle.run_upkeep();
            handle.render()
        })
    }
}
