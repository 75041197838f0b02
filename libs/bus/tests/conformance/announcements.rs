//! Announcements: who hears them, and who is told that it did not.

use bus::UpdateEvent;
use futures::StreamExt;

use crate::rig::{Adapter, mrn, update};

pub(crate) async fn listeners_hear_of_their_patient_or_of_all(adapter: Adapter) {
    let rig = adapter.rig();
    let (speaker, listener) = (rig.join().await, rig.join().await);
    let mut of_all = listener.bus.updates(None).await.unwrap();
    let mut of_one = listener.bus.updates(Some(mrn(2))).await.unwrap();
    let updates = [update(1, 1), update(2, 1), update(22, 1), update(2, 2)];
    for update in &updates {
        speaker.bus.announce(update, None).await.unwrap();
    }
    for update in &updates {
        assert_eq!(of_all.next().await, Some(UpdateEvent::Updated(Box::new(update.clone()))));
    }
    for update in [&updates[1], &updates[3]] {
        assert_eq!(of_one.next().await, Some(UpdateEvent::Updated(Box::new(update.clone()))));
    }
}

pub(crate) async fn a_slow_listener_is_told_that_it_missed_something(adapter: Adapter) {
    const MANY: u64 = 20_000;
    let rig = adapter.rig();
    let (speaker, listener) = (rig.join().await, rig.join().await);
    let mut slow = listener.bus.updates(None).await.unwrap();
    let mut quick = listener.bus.updates(Some(mrn(2))).await.unwrap();
    for version in 1..=MANY {
        speaker.bus.announce(&update(1, version), None).await.unwrap();
    }
    speaker.bus.announce(&update(2, 1), None).await.unwrap();
    // Others are not held up by it.
    loop {
        match quick.next().await.unwrap() {
            UpdateEvent::Updated(update) => break assert_eq!(update.patient.mrn, mrn(2)),
            // In process, everyone listens to one channel.
            UpdateEvent::Disconnected | UpdateEvent::Lagged => {}
        }
    }
    let mut heard = 0;
    loop {
        match slow.next().await.unwrap() {
            UpdateEvent::Lagged => break,
            UpdateEvent::Updated(_) => heard += 1,
            UpdateEvent::Disconnected => panic!("the connection was not lost"),
        }
        assert!(heard < MANY, "heard everything, whatever the buffer");
    }
    // It goes on afterwards.
    speaker.bus.announce(&update(3, 1), None).await.unwrap();
    loop {
        if let UpdateEvent::Updated(update) = slow.next().await.unwrap()
            && update.patient.mrn == mrn(3)
        {
            break;
        }
    }
}
