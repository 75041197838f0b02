//! Descriptions of the metrics of ingest. All are registered at the start, so that an alert can distinguish 0 from a
//! missing metric.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use proto_json::Queue;
use runtime::Metrics;

pub(crate) fn describe() {
    Metrics::install().of("ingest");
    runtime::disk::describe_disks();
    bus::describe_consumer(&[Queue::Uploads, Queue::EcgResults]);
    describe_counter!("bedside_uploads_stored_total", "Uploads stored for the first time");
    describe_counter!("bedside_analyses_stored_total", "Results of analyses stored, by status");
    describe_counter!("bedside_announcements_total", "Changes published");
    describe_counter!("bedside_jobs_resent_total", "Jobs of pending ECGs sent again because they were lost");
    describe_counter!(
        "bedside_staged_files_cleared_total",
        "Staged files removed because nothing needs them"
    );
    describe_counter!(
        "bedside_abandoned_files_removed_total",
        "Orphaned stored files removed: no record refers to them"
    );
    describe_counter!("bedside_ingest_logins_failed_total", "Logins with a wrong name or password");
    describe_counter!("bedside_ingest_logins_limited_total", "Logins rejected because too many had failed");
    for name in [
        "bedside_ingest_logins_failed_total",
        "bedside_ingest_logins_limited_total",
        "bedside_uploads_stored_total",
        "bedside_announcements_total",
        "bedside_jobs_resent_total",
        "bedside_staged_files_cleared_total",
        "bedside_abandoned_files_removed_total",
    ] {
        counter!(name).increment(0);
    }
    for status in ["analyzed", "failed"] {
        counter!("bedside_analyses_stored_total", "status" => status).increment(0);
    }
    describe_histogram!(
        "bedside_upload_stored_seconds",
        Unit::Seconds,
        "Time from the receipt of an upload by the gateway until it was stored"
    );
    describe_histogram!(
        "bedside_upload_to_analysis_announced_seconds",
        Unit::Seconds,
        "Time from the receipt of a raw ECG by the gateway until its analysis was published"
    );
    let _ = histogram!("bedside_upload_stored_seconds");
    let _ = histogram!("bedside_upload_to_analysis_announced_seconds");
    describe_gauge!("bedside_queue_messages", "Messages in a queue, delivered or not");
    describe_gauge!(
        "bedside_queue_in_flight",
        "Messages of a queue that are being processed or wait for their next attempt"
    );
    describe_gauge!(
        "bedside_queue_oldest_age_seconds",
        Unit::Seconds,
        "Age of the oldest message in a queue"
    );
    for queue in Queue::ALL {
        gauge!("bedside_queue_messages", "queue" => queue.name()).increment(0.0);
        gauge!("bedside_queue_in_flight", "queue" => queue.name()).increment(0.0);
        gauge!("bedside_queue_oldest_age_seconds", "queue" => queue.name()).increment(0.0);
    }
    describe_counter!(
        "bedside_scrub_records_total",
        "Records and files that the background scrub has checked"
    );
    counter!("bedside_scrub_records_total").increment(0);
    describe_gauge!(
        "bedside_scrub_damaged",
        "Damaged records found in this round of the scrub or in the last complete one, whichever is more"
    );
    describe_gauge!(
        "bedside_scrub_finished_timestamp_seconds",
        Unit::Seconds,
        "When the last complete round of the scrub ended, as Unix time; 0 before the first has"
    );
    gauge!("bedside_scrub_damaged").increment(0.0);
    gauge!("bedside_scrub_finished_timestamp_seconds").increment(0.0);
    describe_gauge!("bedside_dead_letters", "Dead letters that have not been retried or dropped");
    describe_gauge!(
        "bedside_ecgs_pending_long",
        "ECGs whose analysis is overdue; above 200, not all of them are counted"
    );
    describe_gauge!(
        "bedside_staged_files",
        "Staged files; on a broker, a file above 512 KiB counts once for each part"
    );
    describe_gauge!(
        "bedside_clock_behind_seconds",
        Unit::Seconds,
        "How far the clock is behind the highest time it has shown; 0 while it is not behind by more than 5 s"
    );
    describe_counter!(
        "bedside_values_from_future_total",
        "Patients whose latest values were marked because they were in the future"
    );
    counter!("bedside_values_from_future_total").increment(0);
    for (name, description) in [
        (
            "bedside_waveform_samples_stored_total",
            "Samples of waveforms stored; redelivered ones count again",
        ),
        ("bedside_waveform_messages_rejected_total", "Messages of waveforms that could not be read"),
        ("bedside_waveform_chunks_sealed_total", "Chunks of waveforms compressed"),
        (
            "bedside_waveform_pieces_damaged_total",
            "Pieces of waveforms that were damaged before they were compressed",
        ),
        ("bedside_waveform_chunks_deleted_total", "Chunks of waveforms deleted because of their age"),
    ] {
        describe_counter!(name, description);
        counter!(name).increment(0);
    }
    for name in [
        "bedside_dead_letters",
        "bedside_ecgs_pending_long",
        "bedside_staged_files",
        "bedside_clock_behind_seconds",
    ] {
        gauge!(name).increment(0.0);
    }
}
