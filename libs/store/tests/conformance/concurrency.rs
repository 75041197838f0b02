//! Several writers at once.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::harness::{Fixture, With, at, first, mrn, on_every_adapter, put, try_put, upload};
use store::UploadOutcome;

on_every_adapter!(
    many_writers_on_one_patient_lose_nothing,
    upload_of_two_writers_is_stored_once,
    one_of_two_contents_under_one_id_is_stored,
);

async fn many_writers_on_one_patient_lose_nothing(Fixture { store, .. }: Fixture) {
    const WRITERS: i64 = 16;
    const UPLOADS: i64 = 20;
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut versions = Vec::new();
            for n in 0..UPLOADS {
                // Times that go up and down over the writers, with some equal ones.
                let millis = (writer * 7 + n * 13) % 100 * 10;
                let new =
                    upload(7, &format!("{writer}/{n}"), millis).rate(50 + n, millis).image().signal(None);
                versions.push(put(&*store, &new).await.0.version);
            }
            assert!(versions.is_sorted_by(|one, next| one < next), "{versions:?}");
            versions
        })
    });
    let mut versions = BTreeSet::new();
    for writer in writers.collect::<Vec<_>>() {
        versions.extend(writer.await.unwrap());
    }
    let total = (WRITERS * UPLOADS) as u64;
    assert_eq!(versions, (1..=total).collect(), "each upload has its version");
    let patient = store.patient(mrn(7)).await.unwrap().unwrap();
    assert_eq!(patient.version, total);
    let rates = store.heart_rates(mrn(7), first(1000)).await.unwrap().items;
    let images = store.images(mrn(7), first(1000)).await.unwrap().items;
    let ecgs = store.ecgs(mrn(7), first(1000)).await.unwrap().items;
    assert_eq!((rates.len(), images.len(), ecgs.len()), (total as usize, total as usize, total as usize));
    assert_eq!(rates.iter().map(|rate| rate.id).collect::<HashSet<_>>().len(), total as usize);
    assert_eq!(patient.latest_heart_rate.unwrap().id, rates[0].id);
    assert_eq!(patient.latest_image.unwrap().id, images[0].id);
    let latest = patient.latest_ecg.unwrap();
    assert_eq!((latest.id, latest.at), (ecgs[0].id, at(990)));
}

async fn upload_of_two_writers_is_stored_once(Fixture { store, .. }: Fixture) {
    for round in 0..8 {
        let new = upload(round, &format!("same {round}"), 0).name("Ann").rate(60, 0).image();
        let (one, other) = tokio::join!(put(&*store, &new), put(&*store, &new));
        assert_eq!(one.0, other.0, "both have the same receipt");
        assert!(one.0.patient_created && one.0.changed);
        assert_eq!(store.patient(mrn(round)).await.unwrap().unwrap().version, 1);
        assert_eq!(store.images(mrn(round), first(9)).await.unwrap().items.len(), 1);
        assert_eq!(store.heart_rates(mrn(round), first(9)).await.unwrap().items.len(), 1);
    }
}

async fn one_of_two_contents_under_one_id_is_stored(Fixture { store, .. }: Fixture) {
    for round in 0..8 {
        let key = format!("two {round}");
        let one = upload(round * 2, &key, 0).rate(60, 0);
        let mut other = upload(round * 2 + 1, &key, 0).rate(70, 0);
        other.fingerprint = proto_json::BlobHash::of(b"other");
        let outcomes = tokio::join!(try_put(&*store, &one), try_put(&*store, &other));
        let stored = BTreeMap::from([(one.mrn, outcomes.0.unwrap()), (other.mrn, outcomes.1.unwrap())]);
        let conflicts = stored.values().filter(|&outcome| *outcome == UploadOutcome::Conflict).count();
        assert_eq!(conflicts, 1);
        for (mrn, outcome) in stored {
            let there = store.patient(mrn).await.unwrap().is_some();
            assert_eq!(there, outcome != UploadOutcome::Conflict);
            assert_eq!(store.heart_rates(mrn, first(9)).await.unwrap().items.len(), usize::from(there));
        }
    }
}
