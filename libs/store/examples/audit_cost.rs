//! Measures the audit in SQLite: appending, verifying and querying a million entries.
//!
//! `cargo run --release -p bedside-store --example audit_cost [entries]`

#![allow(clippy::unwrap_used, reason = "a measurement that fails has nothing else to do than to say so")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use proto_json::audit::{AuditBatch, AuditEvent};
use proto_json::{Mrn, Timestamp};
use store::sqlite::AuditFile;
use store::{AuditFilter, AuditReader, AuditStore};
use uuid::Uuid;

/// Entries of a batch.
const BATCH: u64 = 100;
/// Patients that the entries are about.
const PATIENTS: u64 = 500;

#[tokio::main]
async fn main() {
    let entries: u64 = std::env::args().nth(1).map_or(1_000_000, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let audit = AuditFile::open(&folder.path().join("audit.db")).unwrap();
    let event = |number: u64| AuditEvent {
        at: Timestamp::from_millis(1_800_000_000_000 + number as i64).unwrap(),
        client: format!("station-{}", number % 20),
        role: "viewer".to_owned(),
        wards: None,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        method: "GET".to_owned(),
        route: "/api/v1/patients/{mrn}/heart-rates".to_owned(),
        mrn: Mrn::new(number % PATIENTS).ok(),
        id: None,
        upload_id: None,
        request_id: Some(Uuid::from_u128(u128::from(number))),
        status: 200,
        outcome: "ok".to_owned(),
    };
    let started = Instant::now();
    for batch in 1..=entries / BATCH {
        let events = ((batch - 1) * BATCH..batch * BATCH).map(event).collect();
        audit.append_audit(AuditBatch { gateway: Uuid::nil(), batch, events }).await.unwrap();
    }
    println!("append   {entries} entries in {:.2} s", started.elapsed().as_secs_f64());
    let started = Instant::now();
    let verdict = audit.verify_audit(None).await.unwrap();
    println!("verify   {} entries in {:.2} s", verdict.verified, started.elapsed().as_secs_f64());
    assert_eq!(verdict.defect, None);
    let mut times: Vec<f64> = Vec::new();
    for mrn in 0..200 {
        let started = Instant::now();
        let filter = AuditFilter { mrn: Mrn::new(mrn).ok(), limit: 100, ..AuditFilter::default() };
        assert_eq!(audit.audit(filter).await.unwrap().items.len(), 100);
        times.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    println!("query    100 entries of a patient: p50 {:.2} ms, p99 {:.2} ms", times[100], times[198]);
    let started = Instant::now();
    let one = AuditBatch { gateway: Uuid::from_u128(1), batch: 1, events: vec![event(1)] };
    audit.append_audit(one).await.unwrap();
    println!("append   one entry: {:.2} ms", started.elapsed().as_secs_f64() * 1_000.0);
}
