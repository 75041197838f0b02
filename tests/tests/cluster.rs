//! A cluster of three brokers that each hold everything: any of them may die at any moment.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::jetstream;
use testkit::load::Load;
use testkit::{System, records, within};

/// Uploads go on within this time after a broker has died, whichever streams it led. NATS takes 4 to 9 s to elect other
/// leaders, so this holds only while nobody waits for that.
const GOES_ON: Duration = Duration::from_secs(5);

/// Enough that some upload is under way at any moment, and that not all of them wait for the same thing.
const UPLOADERS: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_broker_of_three_may_die_under_load() {
    let mut system = System::start_on_cluster(3);
    let urls = system.cluster().unwrap().urls();
    let brokers = async_nats::connect(urls.split(',').collect::<Vec<_>>()).await.unwrap();
    let gateway = system.gateway();
    let load = Load::start_with(UPLOADERS, &gateway, &gateway);
    for index in 0..3 {
        load.goes_on(5).await;
        lanes_are_apart(&brokers).await;
        let _ = (load.longest_silence(), load.slowest());
        system.cluster().unwrap().kill(index);
        load.goes_on(30).await;
        let (silence, slowest) = (load.longest_silence(), load.slowest());
        println!(
            "broker {index} died: no upload was answered for {:.2} s; the slowest took {:.2} s",
            silence.as_secs_f64(),
            slowest.as_secs_f64()
        );
        assert!(silence < GOES_ON, "uploads stood still for {silence:?} when broker {index} died");
        tokio::task::block_in_place(|| system.cluster().unwrap().restart(index));
    }
    let failures = load.failures();
    println!("{} attempts were told to come again: {:?}", failures.len(), failures.first());
    let promises = load.end().await;
    records::assert_all_once(&gateway, &promises).await;
}

/// Waits until each of the streams that take uploads is led by another server.
async fn lanes_are_apart(brokers: &async_nats::Client) {
    let jetstream = jetstream::new(brokers.clone());
    within("the lanes are led by different brokers", || async {
        let mut leaders = BTreeSet::new();
        for stream in ["UPLOADS", "UPLOADS_2", "UPLOADS_3"] {
            let info = jetstream.get_stream(stream).await.ok()?.cached_info().clone();
            leaders.insert(info.cluster?.leader?);
        }
        (leaders.len() == 3).then_some(())
    })
    .await;
}
