//! Finding patients by name and number.

use store::PageRequest;

use crate::harness::{Fixture, With, first, on_every_adapter, put, upload};

on_every_adapter!(
    name_is_found_by_any_part_in_any_case,
    special_characters_in_a_search_are_literal,
    record_number_is_found_by_its_first_digits,
    search_results_are_paged,
);

async fn found(store: &dyn crate::harness::Store, query: &str) -> Vec<u64> {
    let page = store.patients(Some(query), first(100)).await.unwrap();
    page.items.iter().map(|patient| patient.mrn.get()).collect()
}

async fn patients(store: &dyn crate::harness::Store, names: &[(u64, &str)]) {
    for (number, name) in names {
        let new = upload(*number, &number.to_string(), 0);
        put(store, &if name.is_empty() { new } else { new.name(name) }).await;
    }
}

async fn name_is_found_by_any_part_in_any_case(Fixture { store, .. }: Fixture) {
    patients(&*store, &[(1, "Ann Öster"), (2, "JOANNA"), (3, "Bob"), (4, ""), (5, "Νίκος ΠΑΠΑΣ")]).await;
    assert_eq!(found(&*store, "ann").await, [1, 2]);
    assert_eq!(found(&*store, "ANN").await, [1, 2]);
    assert_eq!(found(&*store, "öST").await, [1]);
    assert_eq!(found(&*store, "παπας").await, [5]);
    assert_eq!(found(&*store, "n ö").await, [1]);
    assert!(found(&*store, "nobody").await.is_empty());
    assert_eq!(found(&*store, "").await, [1, 2, 3, 4, 5]);
    // A name that was replaced is no longer found.
    put(&*store, &upload(3, "renamed", 10).name("Carl")).await;
    assert!(found(&*store, "bob").await.is_empty());
    assert_eq!(found(&*store, "carl").await, [3]);
}

async fn special_characters_in_a_search_are_literal(Fixture { store, .. }: Fixture) {
    patients(
        &*store,
        &[(1, "a.c%_*"), (2, "abc"), (3, "O'Hara (x)"), (4, "[\\d]+^$|?{2}"), (5, "a-b/c#d&e~f")],
    )
    .await;
    for (query, expected) in [
        (".", vec![1]),
        ("%", vec![1]),
        ("_", vec![1]),
        ("*", vec![1]),
        (".*", vec![]),
        ("a.c", vec![1]),
        ("(", vec![3]),
        ("'", vec![3]),
        ("[\\d]+", vec![4]),
        ("\\", vec![4]),
        ("^", vec![4]),
        ("$|?{2}", vec![4]),
        ("-b/c#d&e~", vec![5]),
        ("\u{0}", vec![]),
    ] {
        assert_eq!(found(&*store, query).await, expected, "{query:?}");
    }
}

async fn record_number_is_found_by_its_first_digits(Fixture { store, .. }: Fixture) {
    let last = proto_json::Mrn::MAX;
    let names =
        [(0, ""), (9, "Room 12"), (12, ""), (120, ""), (129_999, ""), (13, ""), (212, ""), (last, "")];
    patients(&*store, &names).await;
    assert_eq!(found(&*store, "12").await, [9, 12, 120, 129_999]);
    assert_eq!(found(&*store, "120").await, [120]);
    assert_eq!(found(&*store, "0").await, [0]);
    assert_eq!(found(&*store, "012").await, [0_u64; 0]);
    assert_eq!(found(&*store, "90071992547409").await, [last]);
    assert_eq!(found(&*store, "99999999999999999999999999").await, [0_u64; 0]);
    assert_eq!(found(&*store, " 13 ").await, [13]);
}

async fn search_results_are_paged(Fixture { store, .. }: Fixture) {
    for number in 0..25 {
        put(
            &*store,
            &upload(number, &number.to_string(), 0).name(if number % 2 == 0 { "Even" } else { "Odd" }),
        )
        .await;
    }
    let mut seen = Vec::new();
    let mut page = PageRequest { after: None, limit: 4, include_errors: false };
    loop {
        let part = store.patients(Some("even"), page).await.unwrap();
        seen.extend(part.items.iter().map(|patient| patient.mrn.get()));
        let Some(next) = part.next else { break };
        page.after = Some(next);
    }
    assert_eq!(seen, (0..25).step_by(2).collect::<Vec<_>>());
}
