//! The audit: its chain, its filters, and batches that are sent again.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use mongodb::bson::{Document, doc};
use proto_json::audit::{AuditBatch, AuditEvent, AuditHead};
use store::mongo::{MongoConfig, MongoStore};
use store::sqlite::{AuditFile, SqliteStore, audit_beside};
use store::{AuditFilter, AuditReader, AuditStore, Maintenance, UserStore};
use uuid::Uuid;

use crate::harness::{Fixture, at, mrn, on_every_adapter, shared_server};
use crate::users::user;

on_every_adapter!(
    entries_are_listed_newest_first_by_patient_client_and_time,
    batch_that_is_sent_again_is_stored_once,
    concurrent_gateways_append_to_one_chain,
    chain_is_verified_against_an_anchor,
    scrub_verifies_users_and_the_audit,
);

fn event(number: u64, client: &str, patient: Option<u64>) -> AuditEvent {
    AuditEvent {
        at: at(number as i64),
        client: client.to_owned(),
        role: "nurse".to_owned(),
        wards: None,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        method: "GET".to_owned(),
        route: "/api/v1/patients/{mrn}".to_owned(),
        mrn: patient.map(mrn),
        id: None,
        upload_id: None,
        request_id: Some(Uuid::from_u128(u128::from(number))),
        status: 200,
        outcome: "ok".to_owned(),
    }
}

fn batch(gateway: u128, batch: u64, events: Vec<AuditEvent>) -> AuditBatch {
    AuditBatch { gateway: Uuid::from_u128(gateway), batch, events }
}

fn all() -> AuditFilter {
    AuditFilter { limit: 1_000, ..AuditFilter::default() }
}

async fn numbers(store: &(impl AuditReader + ?Sized), filter: AuditFilter) -> (Vec<u64>, Option<u64>) {
    let page = store.audit(filter).await.unwrap();
    (page.items.iter().map(|entry| entry.number).collect(), page.next)
}

async fn entries_are_listed_newest_first_by_patient_client_and_time(Fixture { store, .. }: Fixture) {
    assert_eq!(store.audit_head().await.unwrap(), None);
    let events =
        (1..=9).map(|number| event(number, ["ann", "bob", "cy"][number as usize % 3], Some(number % 2)));
    store.append_audit(batch(1, 1, events.collect())).await.unwrap();
    store.append_audit(batch(1, 2, vec![event(10, "ann", None)])).await.unwrap();
    assert_eq!(numbers(&*store, AuditFilter { limit: 4, ..all() }).await, (vec![10, 9, 8, 7], Some(7)));
    let before = AuditFilter { before: Some(3), ..all() };
    assert_eq!(numbers(&*store, before).await, (vec![2, 1], None));
    let of_patient = AuditFilter { mrn: Some(mrn(1)), limit: 3, ..all() };
    assert_eq!(numbers(&*store, of_patient).await, (vec![9, 7, 5], Some(5)));
    let of_both = AuditFilter { mrn: Some(mrn(1)), client: Some("ann".to_owned()), ..all() };
    assert_eq!(numbers(&*store, of_both).await, (vec![9, 3], None));
    let of_client = AuditFilter { client: Some("ann".to_owned()), ..all() };
    let found = store.audit(of_client).await.unwrap().items;
    assert_eq!(found.first().map(|entry| entry.event.clone()), Some(event(10, "ann", None)));
    assert_eq!(found.len(), 4);
    assert_eq!(
        numbers(&*store, AuditFilter { client: Some("dan".to_owned()), ..all() }).await,
        (vec![], None)
    );
    let from = AuditFilter { from: Some(at(8)), ..all() };
    assert_eq!(numbers(&*store, from).await, (vec![10, 9, 8], None));
    let between = AuditFilter { from: Some(at(3)), to: Some(at(7)), limit: 3, ..all() };
    assert_eq!(numbers(&*store, between).await, (vec![6, 5, 4], Some(4)));
    let of_all = AuditFilter { mrn: Some(mrn(1)), client: Some("ann".to_owned()), to: Some(at(9)), ..all() };
    assert_eq!(numbers(&*store, of_all).await, (vec![3], None));
}

async fn batch_that_is_sent_again_is_stored_once(Fixture { store, .. }: Fixture) {
    for (gateway, number) in [(1, 1), (1, 1), (2, 1), (1, 2), (1, 1), (1, 2), (2, 1)] {
        store.append_audit(batch(gateway, number, vec![event(number, "ann", None)])).await.unwrap();
    }
    assert_eq!(numbers(&*store, all()).await.0, [3, 2, 1]);
    assert_eq!(store.verify_audit(None).await.unwrap().defect, None);
}

async fn concurrent_gateways_append_to_one_chain(Fixture { store, .. }: Fixture) {
    let writers = (1..=4_u128).map(|gateway| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in 1..=10 {
                let events = vec![event(number, "ann", Some(7)), event(number, "bob", None)];
                store.append_audit(batch(gateway, number, events)).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let verdict = store.verify_audit(None).await.unwrap();
    assert_eq!((verdict.verified, verdict.defect), (80, None));
    assert_eq!(verdict.head, store.audit_head().await.unwrap());
}

async fn chain_is_verified_against_an_anchor(Fixture { store, .. }: Fixture) {
    store
        .append_audit(batch(1, 1, (1..=5).map(|number| event(number, "ann", None)).collect()))
        .await
        .unwrap();
    let anchor = store.audit_head().await.unwrap().unwrap();
    store.append_audit(batch(1, 2, vec![event(6, "ann", None)])).await.unwrap();
    assert_eq!(store.verify_audit(Some(anchor)).await.unwrap().defect, None);
    let other = AuditHead { number: 4, ..anchor };
    assert!(store.verify_audit(Some(other)).await.unwrap().defect.unwrap().contains("written anew"));
    let later = AuditHead { number: 9, ..anchor };
    let defect = store.verify_audit(Some(later)).await.unwrap().defect.unwrap();
    assert_eq!(defect, "entries 7 to 9 are missing at the end");
}

/// What an attacker does to the stored entries, in SQL and as a command of MongoDB, and what the verification finds.
const TAMPERED: [(&str, &str); 5] = [
    (
        "UPDATE audit SET event = replace(event, 'ann', 'bob') WHERE number = 3",
        "entry 3 does not match its hash",
    ),
    ("DELETE FROM audit WHERE number BETWEEN 2 AND 3", "entries 2 to 3 are missing"),
    ("DELETE FROM audit WHERE number > 5", "entries 6 to 6 are missing at the end"),
    (
        "UPDATE audit SET number = number + 1000 WHERE number > 2;
         INSERT INTO audit SELECT 3, at, mrn, client, event, hash FROM audit WHERE number = 2;
         UPDATE audit SET number = number - 999 WHERE number > 1000",
        "entry 3 does not match its hash",
    ),
    ("DELETE FROM audit; DELETE FROM head", "entries 1 to 6 are missing at the end"),
];

#[tokio::test]
async fn changed_removed_and_inserted_entries_are_found_in_sqlite() {
    for (statement, expected) in TAMPERED {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let anchor = {
            let store = SqliteStore::open(&path).unwrap();
            let events = (1..=6).map(|number| event(number, "ann", Some(7))).collect();
            store.append_audit(batch(1, 1, events)).await.unwrap();
            store.audit_head().await.unwrap()
        };
        let file = audit_beside(&path);
        assert_eq!(AuditFile::verify(&file, anchor).unwrap().defect, None);
        let db = rusqlite::Connection::open(&file).unwrap();
        assert!(db.execute_batch(statement).unwrap_err().to_string().contains("append-only"));
        db.execute_batch("DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_deleted").unwrap();
        db.execute_batch(statement).unwrap();
        let defect = AuditFile::verify(&file, anchor).unwrap().defect.unwrap();
        assert!(defect.contains(expected), "{statement}: {defect}");
    }
}

#[tokio::test]
async fn changed_and_removed_entries_are_found_in_mongodb() {
    let server = shared_server();
    let database = server.fresh_database();
    let store = MongoStore::connect(MongoConfig::new(server.uri(), database.clone())).await.unwrap();
    store.ensure_indexes().await.unwrap();
    let events = (1..=6).map(|number| event(number, "ann", Some(7))).collect();
    store.append_audit(batch(1, 1, events)).await.unwrap();
    let client = mongodb::Client::with_uri_str(server.uri()).await.unwrap();
    let entries = client.database(&database).collection::<Document>("audit");
    let defect = async || store.verify_audit(None).await.unwrap().defect;
    assert_eq!(defect().await, None);
    entries.delete_one(doc! { "_id": 6_i64 }).await.unwrap();
    assert_eq!(defect().await.as_deref(), Some("entries 6 to 6 are missing at the end"));
    entries.update_one(doc! { "_id": 3_i64 }, doc! { "$set": { "event": "{}" } }).await.unwrap();
    assert!(defect().await.unwrap().contains("entry 3 does not match its hash"));
    entries.delete_one(doc! { "_id": 2_i64 }).await.unwrap();
    assert_eq!(defect().await.as_deref(), Some("entries 2 to 2 are missing"));
    // A copy of another entry in its place.
    let mut copy = entries.find_one(doc! { "_id": 1_i64 }).await.unwrap().unwrap();
    copy.insert("_id", 2_i64);
    entries.insert_one(copy).await.unwrap();
    assert!(defect().await.unwrap().contains("entry 2 does not match its hash: it was changed or inserted"));
}

/// All defects that a scrub finds.
async fn scrubbed(store: &dyn Maintenance) -> Vec<String> {
    let (mut from, mut damaged) = (None, Vec::new());
    loop {
        let step = store.scrub(from, 2).await.unwrap();
        damaged.extend(step.damaged);
        from = step.next;
        if from.is_none() {
            return damaged;
        }
    }
}

async fn scrub_verifies_users_and_the_audit(Fixture { store, .. }: Fixture) {
    for name in ["ann", "12", "bob", "cy@site.example", "zoe"] {
        store.add_user(&user(name, 1, 1)).await.unwrap();
    }
    store
        .append_audit(batch(1, 1, (1..=6).map(|number| event(number, "ann", None)).collect()))
        .await
        .unwrap();
    assert_eq!(scrubbed(&*store).await, [""; 0]);
}

#[tokio::test]
async fn scrub_finds_a_damaged_user_and_a_changed_entry_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path).unwrap();
    store.add_user(&user("ann", 1, 1)).await.unwrap();
    store.append_audit(batch(1, 1, vec![event(1, "ann", None)])).await.unwrap();
    let tamper = |path: &std::path::Path, sql: &str| {
        rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
    };
    tamper(&path, "UPDATE users SET record = replace(record, 'nurse', 'admin')");
    tamper(&audit_beside(&path), "DROP TRIGGER audit_is_not_changed; UPDATE audit SET event = '{}'");
    let damaged = scrubbed(&*store).await;
    assert_eq!(damaged.len(), 2, "{damaged:?}");
    assert!(damaged[0].contains("user"), "{damaged:?}");
    assert!(damaged[1].contains("audit: entry 1 does not match"), "{damaged:?}");
}

#[tokio::test]
async fn scrub_finds_a_damaged_user_and_a_changed_entry_in_mongodb() {
    let server = shared_server();
    let database = server.fresh_database();
    let store = MongoStore::connect(MongoConfig::new(server.uri(), database.clone())).await.unwrap();
    store.ensure_indexes().await.unwrap();
    store.add_user(&user("ann", 1, 1)).await.unwrap();
    store.append_audit(batch(1, 1, vec![event(1, "ann", None)])).await.unwrap();
    let client = mongodb::Client::with_uri_str(server.uri()).await.unwrap();
    let database = client.database(&database);
    let set = async |name: &str, values: Document| {
        database.collection::<Document>(name).update_many(doc! {}, doc! { "$set": values }).await.unwrap();
    };
    set("users", doc! { "role": "admin" }).await;
    set("audit", doc! { "event": "{}" }).await;
    let damaged = scrubbed(&*store).await;
    assert_eq!(damaged.len(), 2, "{damaged:?}");
    assert!(damaged[0].contains("user"), "{damaged:?}");
    assert!(damaged[1].contains("audit: entry 1 does not match"), "{damaged:?}");
}
