//! A cluster of three brokers with replicated streams: each broker is killed in turn under load.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use testkit::load::Load;
use testkit::{System, records};

/// Every upload is answered within this time. An election takes 4 to 9 s; the gateway retries its publishes meanwhile.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(15);

/// Enough clients that uploads are in progress at any moment.
const UPLOADERS: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_upload_fails_or_is_lost_when_each_broker_is_killed_in_turn() {
    let mut system = System::start_on_cluster(3);
    let urls = system.cluster().unwrap().urls();
    let brokers = async_nats::connect(urls.split(',').collect::<Vec<_>>()).await.unwrap();
    let gateway = system.gateway();
    let load = Load::start_with(UPLOADERS, &gateway, &gateway);
    for index in 0..3 {
        load.goes_on(5).await;
        every_stream_is_replicated(&brokers).await;
        let _ = (load.longest_silence(), load.slowest());
        system.cluster().unwrap().kill(index);
        load.goes_on(30).await;
        let (pause, slowest) = (load.longest_silence(), load.slowest());
        println!(
            "broker {index} killed: longest time without an answered upload {:.2} s, slowest upload {:.2} s",
            pause.as_secs_f64(),
            slowest.as_secs_f64()
        );
        load.assert_no_failure("while a broker was down");
        assert!(slowest < CLIENT_TIMEOUT, "an upload took {slowest:?} when broker {index} was killed");
        tokio::task::block_in_place(|| system.cluster().unwrap().restart(index));
    }
    load.assert_no_failure("while the last broker restarted");
    let promises = load.end().await;
    records::assert_all_once(&gateway, &promises).await;
}

/// Waits until every stream has a leader and two replicas that are up to date.
async fn every_stream_is_replicated(brokers: &async_nats::Client) {
    let jetstream = async_nats::jetstream::new(brokers.clone());
    let is_replicated = async |stream: &str| {
        let cluster = jetstream.get_stream(stream).await.ok()?.cached_info().cluster.clone()?;
        let current = cluster.replicas.iter().filter(|replica| replica.current && !replica.offline);
        Some(cluster.leader.is_some() && current.count() >= 2)
    };
    for stream in ["UPLOADS", "ECG_JOBS", "ECG_RESULTS", "BLOBS", "ATTEMPTS", "DEAD_LETTERS"] {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while is_replicated(stream).await != Some(true) {
            assert!(tokio::time::Instant::now() < deadline, "{stream} is not replicated");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
