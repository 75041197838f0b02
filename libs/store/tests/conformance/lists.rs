//! Paging: every entry once, also while others are added.

use std::collections::BTreeSet;

use proto_json::{Cursor, Timestamp};
use store::{PageRequest, StoreError};

use crate::harness::{Fixture, With, first, mrn, on_every_adapter, put, upload};

on_every_adapter!(
    pages_of_a_history_are_in_order_and_complete,
    pages_of_patients_are_in_order_and_complete,
    complete_page_has_no_next_cursor,
    cursor_of_another_list_is_refused,
    histories_of_patients_do_not_mix,
);

async fn pages_of_a_history_are_in_order_and_complete(Fixture { store, .. }: Fixture) {
    // 1,005 images, 15 an upload: groups of equal times that no page size divides.
    let image = |key: String, millis: i64| (0..15).fold(upload(7, &key, millis), |upload, _| upload.image());
    for n in 0..67 {
        put(&*store, &image(format!("old {n}"), n / 3)).await;
    }
    let before: BTreeSet<_> = store
        .images(mrn(7), first(5000))
        .await
        .unwrap()
        .items
        .iter()
        .map(|image| (image.at, image.id))
        .collect();
    assert_eq!(before.len(), 1005);
    let mut seen: Vec<(Timestamp, _)> = Vec::new();
    let mut page = first(97);
    for n in 0.. {
        let part = store.images(mrn(7), page).await.unwrap();
        seen.extend(part.items.iter().map(|image| (image.at, image.id)));
        let Some(next) = part.next else { break };
        assert_eq!(part.items.len(), 97);
        page.after = Some(next);
        // Others come in between: some newer than all, some among those already read, some among the rest.
        put(&*store, &image(format!("new {n}"), [1000, 21, 1][n % 3])).await;
    }
    assert!(seen.is_sorted_by(|one, next| one > next), "newest first, none twice");
    let seen: BTreeSet<_> = seen.into_iter().collect();
    assert!(seen.is_superset(&before), "none of those that were there is missing");
}

async fn pages_of_patients_are_in_order_and_complete(Fixture { store, .. }: Fixture) {
    let numbers: Vec<u64> = (0..60).map(|n| n * n * 31).chain([proto_json::Mrn::MAX]).collect();
    for number in numbers.iter().rev() {
        put(&*store, &upload(*number, &number.to_string(), 0)).await;
    }
    let mut seen = Vec::new();
    let mut page = first(7);
    loop {
        let part = store.patients(None, page).await.unwrap();
        seen.extend(part.items.iter().map(|patient| patient.mrn.get()));
        let Some(next) = part.next else { break };
        page.after = Some(next);
    }
    assert_eq!(seen, numbers);
    let all: Vec<_> = store.mrns().await.unwrap().iter().map(|mrn| mrn.get()).collect();
    assert_eq!(all, numbers);
}

async fn complete_page_has_no_next_cursor(Fixture { store, .. }: Fixture) {
    for n in 0..3 {
        put(&*store, &upload(7, &n.to_string(), n).rate(60, n)).await;
    }
    let page = store.heart_rates(mrn(7), first(3)).await.unwrap();
    assert_eq!((page.items.len(), page.next), (3, None));
    let page = store.heart_rates(mrn(7), first(2)).await.unwrap();
    assert_eq!((page.items.len(), page.next.is_some()), (2, true));
    let page = store
        .heart_rates(mrn(7), PageRequest { after: page.next, limit: 2, include_errors: false })
        .await
        .unwrap();
    assert_eq!((page.items.len(), page.next), (1, None));
    assert_eq!(store.heart_rates(mrn(7), first(usize::MAX)).await.unwrap().items.len(), 3);
}

async fn cursor_of_another_list_is_refused(Fixture { store, .. }: Fixture) {
    let patient = PageRequest { after: Some(Cursor::Patient(mrn(1))), limit: 1, include_errors: false };
    let id = upload(1, "a", 0).id.record("ecg", 0);
    let record =
        PageRequest { after: Some(Cursor::Record(Timestamp::now(), id)), limit: 1, include_errors: false };
    assert!(matches!(store.patients(None, record).await, Err(StoreError::WrongCursor)));
    assert!(matches!(store.ecgs(mrn(1), patient).await, Err(StoreError::WrongCursor)));
    assert!(matches!(store.images(mrn(1), patient).await, Err(StoreError::WrongCursor)));
    assert!(matches!(store.heart_rates(mrn(1), patient).await, Err(StoreError::WrongCursor)));
}

async fn histories_of_patients_do_not_mix(Fixture { store, .. }: Fixture) {
    for number in 1..=3 {
        let new = upload(number, &number.to_string(), 0).rate(60 + number as i64, 0).image().signal(None);
        put(&*store, &new).await;
    }
    assert_eq!(store.heart_rates(mrn(2), first(9)).await.unwrap().items[0].bpm.get(), 62);
    for number in 1..=3 {
        assert_eq!(store.images(mrn(number), first(9)).await.unwrap().items.len(), 1);
        assert_eq!(store.ecgs(mrn(number), first(9)).await.unwrap().items.len(), 1);
    }
}
