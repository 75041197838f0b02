//! The metrics recorder of the process, in the Prometheus text format.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of the histogram buckets of all durations, in seconds.
const DURATION_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Handle to the process-wide metrics recorder.
#[derive(Debug, Clone)]
pub struct Metrics(());

impl Metrics {
    /// Installs the recorder of the `metrics` macros. Later calls return the same recorder.
    #[must_use]
    pub fn install() -> Self {
        RECORDER.get_or_init(|| {
            let builder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), DURATION_BUCKETS)
                .inspect_err(|error| tracing::error!(%error, "histogram buckets cannot be configured"))
                .ok()?;
            builder
                .install_recorder()
                .inspect_err(|error| tracing::error!(%error, "the metrics recorder cannot be installed"))
                .ok()
        });
        Metrics(())
    }

    /// Records the build information of a service.
    pub fn of(&self, service: &'static str) {
        metrics::describe_gauge!("bedside_build_info", "Always 1; the labels name service and version");
        metrics::gauge!("bedside_build_info", "service" => service, "version" => env!("CARGO_PKG_VERSION"))
            .set(1.0);
    }

    /// Renders all metrics in the Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        RECORDER.get().and_then(Option::as_ref).map_or_else(String::new, |handle| {
            handle.run_upkeep();
            handle.render()
        })
    }
}
