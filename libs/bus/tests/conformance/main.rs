//! What every adapter of the bus promises: one source, run on each of them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod announcements;
mod blobs;
mod dead_letters;
mod deferrals;
mod outages;
mod queues;
mod receipts_and_claims;
mod rig;

use std::time::Duration;

/// No test waits longer than this for an event.
const GUARD: Duration = Duration::from_secs(60);

async fn guarded(test: impl Future<Output = ()>) {
    tokio::time::timeout(GUARD, test).await.expect("the awaited event comes in time");
}

macro_rules! on {
    ($adapter:ident in $name:ident; $($module:ident: $($test:ident),+;)+) => {
        mod $name {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::guarded(super::$module::$test(super::rig::Adapter::$adapter)).await;
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
        a_message_arrives_whole_and_once,
        a_dropped_delivery_comes_again_at_once,
        a_delivery_nobody_settles_comes_again_after_the_ack_wait,
        progress_keeps_a_delivery,
        a_failed_delivery_comes_again_after_waits_that_grow,
        competing_consumers_each_get_a_job_once,
        a_consumer_holds_no_more_than_its_limit,
        a_full_queue_refuses_until_there_is_room,
        messages_come_in_about_the_order_they_were_sent,
        a_crash_loses_nothing,
        a_late_ack_still_removes_the_message;
    dead_letters:
        a_message_that_fails_every_time_becomes_a_dead_letter_with_its_reason,
        a_message_that_kills_its_consumers_becomes_a_dead_letter,
        a_message_given_up_at_once_becomes_a_dead_letter,
        dead_letters_are_listed_in_pages,
        a_dead_letter_put_back_has_all_attempts_ahead_of_it,
        a_dead_letter_stays_when_its_queue_is_full,
        a_dropped_dead_letter_is_gone;
    deferrals:
        deferred_attempts_do_not_count,
        failures_before_a_crash_count_and_deferrals_do_not,
        a_delivery_that_no_work_began_on_does_not_count,
        an_outage_pauses_the_consumer_and_makes_no_dead_letters,
        after_an_outage_only_poison_messages_become_dead_letters;
    announcements:
        listeners_hear_of_their_patient_or_of_all,
        a_slow_listener_is_told_that_it_missed_something;
    receipts_and_claims:
        all_who_wait_for_a_receipt_get_it,
        a_receipt_nobody_waits_for_is_no_error,
        a_claim_tells_a_retry_from_another_upload,
        of_concurrent_claims_one_is_new;
    blobs:
        files_of_every_size_come_back_bit_for_bit,
        a_large_file_goes_through,
        a_file_staged_again_is_as_young_as_a_new_one,
        a_file_of_another_hash_is_refused_and_leaves_nothing,
        a_file_of_another_length_is_refused_and_leaves_nothing,
        a_body_that_breaks_off_leaves_nothing,
        a_put_that_is_cancelled_leaves_nothing,
        a_file_put_twice_is_there_once,
        concurrent_puts_of_one_file_leave_one,
        uploads_of_the_same_bytes_are_deleted_each_on_its_own,
        a_full_stage_refuses_until_there_is_room,
        the_stage_lists_what_is_staged,
        a_message_comes_with_the_files_it_needs,
        files_for_the_consumer_alone_come_with_every_delivery,
        messages_with_files_inside_find_room_or_are_refused,
        a_message_with_files_inside_is_given_up_and_tried_again_though_the_stage_is_full,
        a_message_whose_files_find_no_room_is_refused;
}

// Lanes keep no order among patients and divide the limits. What pins these down is left out, as is what knows no lanes.
on! {
    NatsInLanes in nats_in_lanes;
    queues:
        a_message_arrives_whole_and_once,
        a_dropped_delivery_comes_again_at_once,
        a_delivery_nobody_settles_comes_again_after_the_ack_wait,
        a_failed_delivery_comes_again_after_waits_that_grow,
        competing_consumers_each_get_a_job_once,
        a_consumer_holds_no_more_than_its_limit,
        a_full_queue_refuses_until_there_is_room,
        a_late_ack_still_removes_the_message;
    dead_letters:
        a_message_that_fails_every_time_becomes_a_dead_letter_with_its_reason,
        a_message_that_kills_its_consumers_becomes_a_dead_letter,
        a_dead_letter_put_back_has_all_attempts_ahead_of_it;
    deferrals:
        deferred_attempts_do_not_count,
        a_delivery_that_no_work_began_on_does_not_count;
    receipts_and_claims:
        a_claim_tells_a_retry_from_another_upload,
        of_concurrent_claims_one_is_new;
    blobs:
        files_of_every_size_come_back_bit_for_bit,
        a_large_file_goes_through,
        a_file_staged_again_is_as_young_as_a_new_one,
        a_file_of_another_hash_is_refused_and_leaves_nothing,
        a_body_that_breaks_off_leaves_nothing,
        a_put_that_is_cancelled_leaves_nothing,
        a_file_put_twice_is_there_once,
        concurrent_puts_of_one_file_leave_one,
        uploads_of_the_same_bytes_are_deleted_each_on_its_own,
        the_stage_lists_what_is_staged;
}
