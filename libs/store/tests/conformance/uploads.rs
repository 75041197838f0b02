//! Storing uploads: once, whatever is delivered how often.

use proto_json::{BlobHash, EcgStatus, HeartRateSource};
use store::UploadOutcome;

use crate::harness::{Fixture, With, at, first, mrn, on_every_adapter, put, try_put, upload};

on_every_adapter!(
    first_upload_creates_the_patient,
    repeated_upload_has_the_same_receipt_and_adds_nothing,
    other_content_under_the_same_id_is_refused,
    upload_without_new_content_changes_nothing,
    new_name_replaces_the_old_one,
    every_record_is_read_as_it_was_stored,
    reported_rate_belongs_to_its_picture,
    latest_record_is_chosen_by_time_not_by_arrival,
    text_of_clients_is_never_interpreted_as_an_expression,
    unknown_ids_are_none,
);

async fn first_upload_creates_the_patient(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 0);
    let (receipt, patient, replayed) = put(&*store, &new).await;
    assert!(receipt.patient_created && !receipt.changed && !replayed);
    assert_eq!((receipt.upload_id, receipt.mrn, receipt.version), (new.id, mrn(7), 1));
    assert_eq!((patient.version, patient.created_at, patient.updated_at), (1, at(5), at(5)));
    assert_eq!(patient.name, None);
    assert_eq!(store.patient(mrn(7)).await.unwrap(), Some(patient));
    assert_eq!(store.mrns().await.unwrap(), [mrn(7)]);
    let stored = store.upload(new.id).await.unwrap().unwrap();
    assert_eq!((stored.receipt, stored.fingerprint), (receipt, new.fingerprint));
    assert_eq!(stored.uploaded_by, new.uploaded_by);
}

async fn repeated_upload_has_the_same_receipt_and_adds_nothing(Fixture { store, .. }: Fixture) {
    let one = upload(7, "a", 0).name("Ann").rate(70, 0).image().image().signal(None).picture(None);
    let (receipt, patient, _) = put(&*store, &one).await;
    let (again, same, replayed) = put(&*store, &one).await;
    assert!(replayed);
    assert_eq!((&again, &same), (&receipt, &patient));
    let (_, changed, _) = put(&*store, &upload(7, "b", 1).name("Bob")).await;
    let (again, now, _) = put(&*store, &one).await;
    assert_eq!(again, receipt, "the receipt is that of the first time");
    assert_eq!(now, changed, "the patient is as it is now");
    assert_eq!(store.heart_rates(mrn(7), first(9)).await.unwrap().items.len(), 1);
    assert_eq!(store.images(mrn(7), first(9)).await.unwrap().items.len(), 2);
    assert_eq!(store.ecgs(mrn(7), first(9)).await.unwrap().items.len(), 2);
}

async fn other_content_under_the_same_id_is_refused(Fixture { store, .. }: Fixture) {
    let one = upload(7, "a", 0).name("Ann");
    let (receipt, patient, _) = put(&*store, &one).await;
    let mut other = one.clone().name("Bob").rate(70, 0);
    other.fingerprint = BlobHash::of(b"other");
    assert_eq!(try_put(&*store, &other).await.unwrap(), UploadOutcome::Conflict);
    let mut elsewhere = one.clone();
    elsewhere.mrn = mrn(8);
    assert_eq!(try_put(&*store, &elsewhere).await.unwrap(), UploadOutcome::Conflict);
    assert_eq!(store.patient(mrn(7)).await.unwrap(), Some(patient));
    assert_eq!(store.patient(mrn(8)).await.unwrap(), None);
    assert!(store.heart_rates(mrn(7), first(9)).await.unwrap().items.is_empty());
    assert_eq!(store.upload(one.id).await.unwrap().unwrap().receipt, receipt);
}

async fn upload_without_new_content_changes_nothing(Fixture { store, .. }: Fixture) {
    put(&*store, &upload(7, "a", 0).name("Ann")).await;
    for (key, new) in [("b", upload(7, "b", 10)), ("c", upload(7, "c", 20).name("Ann"))] {
        let (receipt, patient, _) = put(&*store, &new).await;
        assert!(!receipt.changed && !receipt.patient_created, "{key}");
        assert_eq!((receipt.version, patient.version, patient.updated_at), (1, 1, at(5)), "{key}");
    }
    for new in [upload(7, "d", 30).rate(70, 0), upload(7, "e", 30).image(), upload(7, "f", 30).picture(None)]
    {
        let (receipt, ..) = put(&*store, &new).await;
        assert!(receipt.changed && !receipt.patient_created);
    }
}

async fn new_name_replaces_the_old_one(Fixture { store, .. }: Fixture) {
    put(&*store, &upload(7, "a", 0).rate(60, 0)).await;
    let (receipt, patient, _) = put(&*store, &upload(7, "b", 10).name("Ann")).await;
    assert!(receipt.changed);
    assert_eq!((patient.name.as_deref(), patient.version), (Some("Ann"), 2));
    let (receipt, patient, _) = put(&*store, &upload(7, "c", 20).name("Bob")).await;
    assert!(receipt.changed);
    assert_eq!(
        (patient.name.as_deref(), patient.created_at, patient.updated_at),
        (Some("Bob"), at(5), at(25))
    );
    let (_, patient, _) = put(&*store, &upload(7, "d", 30).rate(61, 0)).await;
    assert_eq!(patient.name.as_deref(), Some("Bob"), "no name leaves the name");
}

async fn every_record_is_read_as_it_was_stored(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 1000).rate(70, 400).image().signal(Some(300));
    let (receipt, patient, _) = put(&*store, &new).await;
    assert_eq!(receipt.files, new.files);
    assert_eq!(receipt.heart_rate, Some(new.id.record("heart_rate", 0)));

    let rate = store.heart_rates(mrn(7), first(9)).await.unwrap().items.remove(0);
    assert_eq!((rate.bpm.get(), rate.at, rate.source), (70, at(400), HeartRateSource::Reported));
    let latest = patient.latest_heart_rate.unwrap();
    assert_eq!((latest.id, latest.bpm, latest.at), (rate.id, rate.bpm, rate.at));

    let ecg = store.ecgs(mrn(7), first(9)).await.unwrap().items.remove(0);
    assert_eq!((ecg.at, ecg.recorded_at, ecg.received_at), (at(300), Some(at(300)), at(1000)));
    assert_eq!((ecg.status, &ecg.signal, &ecg.plot), (EcgStatus::Pending, &new.ecgs[0].signal, &None));
    assert_eq!((ecg.upload_id, ecg.mrn), (new.id, mrn(7)));
    assert_eq!(store.ecg(ecg.id).await.unwrap().as_ref(), Some(&ecg));
    let latest = patient.latest_ecg.unwrap();
    assert_eq!((latest.id, latest.at, latest.status), (ecg.id, ecg.at, EcgStatus::Pending));

    let image = store.images(mrn(7), first(9)).await.unwrap().items.remove(0);
    assert_eq!((image.at, image.upload_id, &image.file), (at(1000), new.id, &new.images[0].file));
    assert_eq!(store.image(image.id).await.unwrap().as_ref(), Some(&image));
    let latest = patient.latest_image.unwrap();
    assert_eq!((latest.id, latest.at, &latest.file_name), (image.id, image.at, &image.file.file_name));
}

async fn reported_rate_belongs_to_its_picture(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 1000).picture(Some(80));
    let (_, patient, _) = put(&*store, &new).await;
    let ecg = store.ecg(new.ecgs[0].id).await.unwrap().unwrap();
    assert_eq!((ecg.status, ecg.heart_rate.unwrap().get()), (EcgStatus::Picture, 80));
    assert_eq!((ecg.at, &ecg.plot, &ecg.signal), (at(1000), &new.ecgs[0].picture, &None));
    let rate = store.heart_rates(mrn(7), first(9)).await.unwrap().items.remove(0);
    assert_eq!(rate.ecg_id, Some(ecg.id));
    assert_eq!(patient.latest_heart_rate.unwrap().ecg_id, Some(ecg.id));
    assert_eq!(patient.latest_ecg.unwrap().heart_rate, ecg.heart_rate);
}

async fn latest_record_is_chosen_by_time_not_by_arrival(Fixture { store, .. }: Fixture) {
    let later = upload(7, "later", 2000).rate(70, 1900).image().signal(Some(1900));
    let earlier = upload(7, "earlier", 1000).rate(60, 900).image().signal(Some(900));
    put(&*store, &later).await;
    let (receipt, patient, _) = put(&*store, &earlier).await;
    assert!(receipt.changed);
    assert_eq!(patient.version, 2);
    assert_eq!(patient.latest_heart_rate.unwrap().bpm.get(), 70);
    assert_eq!(patient.latest_ecg.unwrap().id, later.ecgs[0].id);
    assert_eq!(patient.latest_image.unwrap().id, later.images[0].id);
    // Between equal times the id decides, whichever came first.
    let (one, other) = (upload(7, "x", 3000).image(), upload(7, "y", 3000).image());
    put(&*store, &one).await;
    let (_, patient, _) = put(&*store, &other).await;
    assert_eq!(patient.latest_image.unwrap().id, one.images[0].id.max(other.images[0].id));
    let listed = store.images(mrn(7), first(1)).await.unwrap().items.remove(0);
    assert_eq!(listed.id, one.images[0].id.max(other.images[0].id));
}

async fn text_of_clients_is_never_interpreted_as_an_expression(Fixture { store, .. }: Fixture) {
    for (key, name) in
        [("a", "$version"), ("b", "$$ROOT"), ("c", "{\"$gt\":\"\"}"), ("d", "O'Hara; --"), ("e", "a.b")]
    {
        let new = upload(7, key, 10).name(name).image().signal(None);
        let (receipt, patient, _) = put(&*store, &new).await;
        assert_eq!(patient.name.as_deref(), Some(name));
        assert!(patient.latest_image.unwrap().file_name.unwrap().starts_with("$$"));
        let (again, ..) = put(&*store, &new).await;
        assert_eq!(again, receipt);
    }
}

async fn unknown_ids_are_none(Fixture { store, .. }: Fixture) {
    let id = upload(1, "nobody", 0).id;
    assert_eq!(store.patient(mrn(1)).await.unwrap(), None);
    assert_eq!(store.upload(id).await.unwrap(), None);
    assert_eq!(store.ecg(id.record("ecg", 0)).await.unwrap(), None);
    assert_eq!(store.image(id.record("image", 0)).await.unwrap(), None);
    assert!(store.blob(crate::harness::orphan(BlobHash::of(b"nothing"))).await.unwrap().is_none());
    assert!(store.mrns().await.unwrap().is_empty());
    assert!(store.ecgs(mrn(1), first(5)).await.unwrap().items.is_empty());
    store.check().await.unwrap();
}
