//! Conformance suite of the ports: every test runs on every adapter.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod attachments;
mod dead_letters;
mod deferrals;
mod fixture;
mod outages;
mod pubsub;
mod queues;
mod receipts;
mod staging;
mod waves;

use std::time::Duration;

/// Longest duration of a test.
const TIMEOUT: Duration = Duration::from_secs(60);

async fn with_timeout(test: impl Future<Output = ()>) {
    tokio::time::timeout(TIMEOUT, test).await.expect("the test ends in time");
}

macro_rules! on {
    ($adapter:ident in $name:ident; $($module:ident: $($test:ident),+;)+) => {
        mod $name {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::with_timeout(super::$module::$test(super::fixture::Adapter::$adapter)).await;
                }
            )+)+
        }
    };
}

macro_rules! on_every_adapter {
    ($($tests:tt)+) => {
        on! { Local in local; $($tests)+ }
        on! { Nats in nats; $($tests)+ }
    };
}

on_every_adapter! {
    queues:
        message_is_delivered_unchanged_and_once,
        dropped_delivery_is_redelivered_at_once,
        unsettled_delivery_is_redelivered_after_the_ack_wait,
        progress_prevents_redelivery,
        failed_delivery_is_redelivered_with_backoff,
        competing_consumers_receive_each_message_once,
        consumer_holds_at_most_max_in_flight_deliveries,
        full_queue_refuses_messages_until_one_is_removed,
        messages_are_delivered_in_order,
        confirmed_messages_survive_a_crash,
        late_ack_removes_the_message;
    dead_letters:
        message_that_always_fails_becomes_a_dead_letter_with_its_reason,
        message_that_kills_its_consumers_becomes_a_dead_letter,
        message_can_be_dead_lettered_at_once,
        dead_letters_are_listed_in_pages,
        retried_dead_letter_has_all_attempts_left,
        dead_letter_stays_if_its_queue_is_full,
        deleted_dead_letter_does_not_exist;
    deferrals:
        deferred_attempts_do_not_count,
        failures_before_a_crash_count_and_deferrals_do_not,
        delivery_that_was_not_begun_does_not_count,
        outage_pauses_the_consumer_and_produces_no_dead_letters,
        after_an_outage_only_poison_messages_become_dead_letters;
    pubsub:
        subscribers_receive_updates_of_one_patient_or_of_all,
        slow_subscriber_receives_lagged;
    receipts:
        all_waiters_receive_the_receipt,
        receipt_for_a_closed_inbox_is_no_error;
    staging:
        files_of_every_size_are_returned_unchanged,
        large_file_survives_a_crash,
        staging_a_file_again_updates_its_time,
        file_with_another_hash_is_refused_and_leaves_nothing,
        file_with_another_length_is_refused_and_leaves_nothing,
        failed_body_leaves_nothing,
        cancelled_put_leaves_nothing,
        file_put_twice_is_stored_once,
        concurrent_puts_of_one_file_store_it_once,
        uploads_with_the_same_bytes_have_separate_copies,
        full_staging_store_refuses_files_until_one_is_deleted,
        list_returns_every_staged_file,
        list_old_returns_files_staged_before_a_time_or_in_the_future;
    attachments:
        attachments_are_staged_before_their_message_is_delivered,
        consumer_only_attachments_can_be_opened_on_every_delivery,
        removed_attachments_are_not_left_in_the_staging_store,
        messages_with_attachments_are_refused_when_full,
        message_with_attachments_can_be_retried_while_the_staging_store_is_full,
        message_is_refused_if_its_attachments_do_not_fit;
    waves:
        messages_are_delivered_unchanged_and_in_order,
        repeated_message_is_stored_once,
        appended_messages_survive_a_crash,
        unacknowledged_messages_are_redelivered_first_after_a_consumer_died,
        new_consumer_of_the_analysis_receives_the_last_seconds_again,
        partition_has_one_active_consumer_per_group,
        consumer_holds_at_most_max_in_flight_messages,
        full_log_refuses_messages_and_keeps_those_it_has,
        last_message_of_a_stream_is_found,
        live_subscribers_receive_one_patient_or_all,
        slow_live_subscriber_loses_messages_and_is_notified,
        subscribers_receive_each_second_of_vitals_once;
}
