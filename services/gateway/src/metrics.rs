//! What the metrics of the gateway mean. They are shown from the start, so that an alert can tell 0 from nothing.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use runtime::{Metrics, observe};

pub(crate) fn describe() {
    Metrics::install().of("gateway");
    observe::describe();
    runtime::disk::describe_disks();
    describe_counter!("bedside_gateway_uploads_accepted_total", "Uploads that were queued durably");
    describe_counter!(
        "bedside_gateway_uploads_rejected_total",
        "Uploads that were not valid, or not taken for another reason"
    );
    describe_counter!(
        "bedside_gateway_uploads_refused_total",
        "Uploads that were not taken for now: queue full, broker away, too many under way"
    );
    describe_counter!(
        "bedside_gateway_reads_refused_total",
        "Reads that were not taken for now: too many under way"
    );
    describe_counter!("bedside_gateway_rate_limited_total", "Requests answered 429 because of their rate");
    describe_counter!(
        "bedside_gateway_slow_uploads_total",
        "Uploads ended because their body arrived too slowly or took too long"
    );
    describe_counter!("bedside_gateway_received_bytes_total", Unit::Bytes, "Bytes of upload bodies received");
    describe_counter!("bedside_gateway_events_sent_total", "Updates pushed to watchers of event streams");
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
    describe_histogram!(
        "bedside_gateway_receipt_wait_seconds",
        Unit::Seconds,
        "Time from the queueing of an upload until it was known to be stored, or no longer waited for"
    );
    let _ = histogram!("bedside_gateway_receipt_wait_seconds");
    describe_gauge!(
        "bedside_gateway_clock_skew_seconds",
        Unit::Seconds,
        "By how much the clock of the query service is ahead of the gateway's, at least"
    );
    gauge!("bedside_gateway_clock_skew_seconds").increment(0.0);
    describe_gauge!("bedside_gateway_watchers", "Event streams that are open");
    gauge!("bedside_gateway_watchers").increment(0.0);
}
