//! Descriptions of the gateway's metrics. Each metric is initialised, so that an alert can distinguish 0 from
//! a missing metric.

use http_server::observe;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use runtime::Metrics;

pub(crate) fn describe() {
    Metrics::install().of("gateway");
    observe::describe();
    runtime::disk::describe_disks();
    describe_counter!("bedside_gateway_uploads_accepted_total", "Uploads that were enqueued durably");
    describe_counter!("bedside_gateway_uploads_rejected_total", "Uploads that were invalid or failed");
    describe_counter!(
        "bedside_gateway_uploads_refused_total",
        "Uploads rejected temporarily: queue full, broker unreachable, in-flight limit reached"
    );
    describe_counter!(
        "bedside_gateway_reads_refused_total",
        "Reads rejected temporarily: in-flight limit reached"
    );
    describe_counter!("bedside_gateway_rate_limited_total", "Requests rejected by a rate limit");
    describe_counter!(
        "bedside_gateway_slow_uploads_total",
        "Uploads aborted because the body arrived too slowly or exceeded its deadline"
    );
    describe_counter!("bedside_gateway_received_bytes_total", Unit::Bytes, "Bytes of upload bodies received");
    describe_counter!("bedside_gateway_events_sent_total", "Events sent to subscribers of event streams");
    describe_counter!("bedside_gateway_audit_failures_total", "Audit lines that could not be written");
    for name in [
        "bedside_gateway_audit_failures_total",
        "bedside_gateway_uploads_accepted_total",
        "bedside_gateway_uploads_rejected_total",
        "bedside_gateway_uploads_refused_total",
        "bedside_gateway_reads_refused_total",
        "bedside_gateway_rate_limited_total",
        "bedside_gateway_slow_uploads_total",
        "bedside_gateway_received_bytes_total",
        "bedside_gateway_events_sent_total",
    ] {
        counter!(name).increment(0);
    }
    describe_counter!("bedside_gateway_wave_frames_total", "Frames of waveforms received from devices");
    describe_counter!(
        "bedside_gateway_wave_bytes_total",
        Unit::Bytes,
        "Bytes of frames received from devices"
    );
    describe_counter!(
        "bedside_gateway_wave_append_failures_total",
        "Messages of waveform streams that the broker did not store"
    );
    describe_counter!(
        "bedside_gateway_device_clock_jumps_total",
        "Frames whose device time did not agree with their sample index"
    );
    describe_counter!(
        "bedside_gateway_live_losses_total",
        "Losses of waveforms that screens were notified of"
    );
    for name in [
        "bedside_gateway_wave_frames_total",
        "bedside_gateway_wave_bytes_total",
        "bedside_gateway_wave_append_failures_total",
        "bedside_gateway_device_clock_jumps_total",
        "bedside_gateway_live_losses_total",
    ] {
        counter!(name).increment(0);
    }
    describe_counter!(
        "bedside_gateway_websockets_closed_total",
        "WebSockets that ended, by endpoint and reason: `gone` or the name of the close code"
    );
    for endpoint in ["device", "live"] {
        let labels = [("endpoint", endpoint), ("reason", "gone")];
        counter!("bedside_gateway_websockets_closed_total", &labels).increment(0);
    }
    describe_gauge!("bedside_gateway_device_streams", "Devices that stream waveforms");
    gauge!("bedside_gateway_device_streams").increment(0.0);
    describe_histogram!(
        "bedside_gateway_receipt_wait_seconds",
        Unit::Seconds,
        "Time from enqueueing an upload until its receipt arrived or the wait ended"
    );
    let _ = histogram!("bedside_gateway_receipt_wait_seconds");
    describe_gauge!(
        "bedside_gateway_clock_skew_seconds",
        Unit::Seconds,
        "Minimum offset of the query service's clock from the gateway's clock; positive if it is ahead"
    );
    gauge!("bedside_gateway_clock_skew_seconds").increment(0.0);
    describe_gauge!("bedside_gateway_sessions", "Sessions that are in use at this gateway");
    gauge!("bedside_gateway_sessions").increment(0.0);
    describe_counter!(
        "bedside_gateway_emergency_accesses_total",
        "Emergency accesses to patients of other wards"
    );
    counter!("bedside_gateway_emergency_accesses_total").increment(0);
    describe_gauge!("bedside_gateway_watchers", "Open event streams and screens");
    gauge!("bedside_gateway_watchers").increment(0.0);
}
