//! Change notifications: who receives them, and how a slow subscriber learns that it lost some.

use bus::UpdateEvent;
use futures::StreamExt;

use crate::fixture::{Adapter, mrn, update};

pub(crate) async fn subscribers_receive_updates_of_one_patient_or_of_all(adapter: Adapter) {
    let fixture = adapter.fixture();
    let (publisher, subscriber) = (fixture.join().await, fixture.join().await);
    let mut of_all = subscriber.pubsub.subscribe(None).await.unwrap();
    let mut of_one = subscriber.pubsub.subscribe(Some(mrn(2))).await.unwrap();
    let updates = [update(1, 1), update(2, 1), update(22, 1), update(2, 2)];
    for update in &updates {
        publisher.pubsub.publish(update, None).await.unwrap();
    }
    for update in &updates {
        assert_eq!(of_all.next().await, Some(UpdateEvent::Updated(Box::new(update.clone()))));
    }
    for update in [&updates[1], &updates[3]] {
        assert_eq!(of_one.next().await, Some(UpdateEvent::Updated(Box::new(update.clone()))));
    }
}

pub(crate) async fn slow_subscriber_receives_lagged(adapter: Adapter) {
    const MANY: u64 = 20_000;
    let fixture = adapter.fixture();
    let (publisher, subscriber) = (fixture.join().await, fixture.join().await);
    let mut slow = subscriber.pubsub.subscribe(None).await.unwrap();
    let mut quick = subscriber.pubsub.subscribe(Some(mrn(2))).await.unwrap();
    for version in 1..=MANY {
        publisher.pubsub.publish(&update(1, version), None).await.unwrap();
    }
    publisher.pubsub.publish(&update(2, 1), None).await.unwrap();
    // Other subscribers are not delayed.
    loop {
        match quick.next().await.unwrap() {
            UpdateEvent::Updated(update) => break assert_eq!(update.patient.mrn, mrn(2)),
            // In process, all subscribers share one channel.
            UpdateEvent::Disconnected | UpdateEvent::Lagged => {}
        }
    }
    let mut received = 0;
    loop {
        match slow.next().await.unwrap() {
            UpdateEvent::Lagged => break,
            UpdateEvent::Updated(_) => received += 1,
            UpdateEvent::Disconnected => panic!("the connection was not lost"),
        }
        assert!(received < MANY, "nothing was lost");
    }
    // The subscription continues.
    publisher.pubsub.publish(&update(3, 1), None).await.unwrap();
    loop {
        if let UpdateEvent::Updated(update) = slow.next().await.unwrap()
            && update.patient.mrn == mrn(3)
        {
            break;
        }
    }
}
