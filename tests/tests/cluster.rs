//! A cluster of three brokers that each hold everything: any of them may die at any moment.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use tests::load::Load;
use tests::{System, records};

/// Uploads go on within this time after a broker has died. NATS elects another leader of a stream 4 to 9 s after the last word
/// of the old one, which no setting changes, and an upload needs the leaders of several streams.
const GOES_ON: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_broker_of_three_may_die_under_load() {
    let mut system = System::start_on_cluster(3);
    let gateway = system.gateway();
    let load = Load::start(&gateway, &gateway);
    load.goes_on(5).await;
    for index in 0..3 {
        let _ = load.longest_silence();
        system.cluster().unwrap().kill(index);
        load.goes_on(20).await;
        let silence = load.longest_silence();
        println!("broker {index} died: no upload was answered for {:.2} s", silence.as_secs_f64());
        assert!(silence < GOES_ON, "uploads stood still for {silence:?} when broker {index} died");
        tokio::task::block_in_place(|| system.cluster().unwrap().restart(index));
    }
    let failures = load.failures();
    println!("{} attempts were told to come again: {:?}", failures.len(), failures.first());
    let promises = load.end().await;
    records::assert_all_once(&gateway, &promises).await;
}
