//! Wards, beds, admissions and details.

use std::sync::Arc;

use mongodb::bson::{Document, doc};
use proto_json::wards::{BirthDate, DetailsUpdate, PlaceName, Sex, StayEventKind, Ward};
use proto_json::{BedId, Mrn, PatientSummary, RecordId, RecordKind, UploadId, WardId};
use rusqlite::Connection;
use store::mongo::{MongoConfig, MongoStore};
use store::sqlite::SqliteStore;
use store::wards::{
    Author, CareChange, ChangedPatient, ChangedWard, WardChange, WardError, WardRefusal, WardStore,
    admitted_patients,
};
use store::{PageRequest, StoreError};

use crate::harness::{Fixture, Store, With, at, first, mrn, on_every_adapter, put, shared_server, upload};

on_every_adapter!(
    stays_of_a_patient_are_recorded_with_time_and_author,
    wards_and_beds_are_added_renamed_and_removed,
    refused_changes_change_nothing,
    repeated_changes_succeed_once,
    one_of_many_admissions_into_one_bed_wins,
    details_change_only_from_the_expected_version,
    other_wards_do_not_exist_for_an_author,
    granted_patient_can_be_moved_to_own_wards_and_opens_no_other,
    admitted_patients_are_listed_by_ward_and_search,
);

fn name(text: &str) -> PlaceName {
    text.parse().unwrap()
}

/// An id that differs for each text.
pub(crate) fn stay(text: &str) -> RecordId {
    UploadId::from_idempotency_key("stay", text).record("admission", 0)
}

pub(crate) fn ward_id(text: &str) -> WardId {
    WardId::from_uuid(*stay(&format!("ward {text}")).as_uuid())
}

pub(crate) fn bed_id(text: &str) -> BedId {
    BedId::from_uuid(*stay(&format!("bed {text}")).as_uuid())
}

fn author(millis: i64) -> Author {
    Author { name: "Zoë".to_owned(), wards: None, granted: Vec::new(), at: at(millis) }
}

pub(crate) async fn add_ward(store: &(impl WardStore + ?Sized), ward: &str, beds: &[&str]) -> Ward {
    let change = WardChange::AddWard { ward: ward_id(ward), name: name(ward) };
    let mut added = store.change_ward(&change, &author(0)).await.unwrap().ward;
    for bed in beds {
        let change = WardChange::AddBed { ward: ward_id(ward), bed: bed_id(bed), name: name(bed) };
        let changed = store.change_ward(&change, &author(0)).await.unwrap();
        assert_eq!((changed.bed, changed.is_changed), (Some(bed_id(bed)), true));
        added = changed.ward;
    }
    added
}

pub(crate) async fn care(
    store: &(impl WardStore + ?Sized),
    number: u64,
    change: CareChange,
) -> ChangedPatient {
    store.change_care(mrn(number), &change, &author(1_000)).await.unwrap()
}

pub(crate) fn admit(bed: &str) -> CareChange {
    CareChange::Admit { bed: bed_id(bed), stay: stay(bed) }
}

pub(crate) fn occupants(ward: &Ward) -> Vec<Option<Mrn>> {
    ward.beds.iter().map(|bed| bed.occupant).collect()
}

/// Everything that changes of wards can change.
async fn everything(store: &dyn Store, numbers: &[u64]) -> String {
    let mut all = format!("{:?}", store.wards().await.unwrap());
    for number in numbers {
        all += &format!("{:?}", store.patient(mrn(*number)).await.unwrap());
        all += &format!("{:?}", store.admissions(mrn(*number), first(100)).await.unwrap());
    }
    all
}

async fn stays_of_a_patient_are_recorded_with_time_and_author(Fixture { store, .. }: Fixture) {
    add_ward(&*store, "North", &["1", "2"]).await;
    add_ward(&*store, "South", &["S1"]).await;
    put(&*store, &upload(7, "a", 0).name("Ann").rate(60, 0)).await;
    let move_to = |bed: &str, id: &str| CareChange::Transfer { bed: bed_id(bed), from: None, stay: stay(id) };
    for (millis, change) in [
        (1_000, admit("1")),
        (2_000, move_to("2", "second")),
        // The clock is set back; the order of the history is that of the changes.
        (1_500, move_to("S1", "third")),
        (4_000, CareChange::Discharge { from: None }),
        (5_000, CareChange::Admit { bed: bed_id("1"), stay: stay("again") }),
    ] {
        let before = store.patient(mrn(7)).await.unwrap().unwrap();
        let changed = store.change_care(mrn(7), &change, &author(millis)).await.unwrap();
        assert!(changed.is_changed);
        assert_eq!(changed.patient.version, before.version + 1);
        assert_eq!(store.patient(mrn(7)).await.unwrap().unwrap(), changed.patient);
    }
    // An upload keeps the admission.
    let (_, patient, _) = put(&*store, &upload(7, "b", 6_000).rate(70, 6_000)).await;
    let admission = patient.admission.unwrap();
    assert_eq!((admission.bed, admission.admitted_at), (bed_id("1"), at(5_000)));
    assert_eq!((admission.ward_name, admission.bed_name), (name("North"), name("1")));
    let wards = store.wards().await.unwrap().items;
    assert_eq!(wards.iter().map(|ward| ward.name.as_str()).collect::<Vec<_>>(), ["North", "South"]);
    assert_eq!(occupants(&wards[0]), [Some(mrn(7)), None]);
    assert_eq!(occupants(&wards[1]), [None]);

    let mut page = first(3);
    let newest = store.admissions(mrn(7), page).await.unwrap();
    page.after = newest.next;
    let oldest = store.admissions(mrn(7), page).await.unwrap();
    assert_eq!((newest.items.len(), oldest.items.len(), oldest.next), (3, 1, None));
    let history: Vec<_> = newest.items.into_iter().chain(oldest.items).collect();
    let ended = |index: usize| history[index].ended.as_ref().map(|end| (end.kind, end.at));
    use StayEventKind::{Admitted, Discharged, Transferred};
    let began: Vec<_> = history.iter().map(|stay| (stay.began.kind, stay.began.at)).collect();
    let expected =
        [(Admitted, at(5_000)), (Transferred, at(2_001)), (Transferred, at(2_000)), (Admitted, at(1_000))];
    assert_eq!(began, expected);
    let expected =
        [None, Some((Discharged, at(4_000))), Some((Transferred, at(2_000))), Some((Transferred, at(2_000)))];
    assert_eq!([ended(0), ended(1), ended(2), ended(3)], expected);
    assert!(history.iter().all(|stay| stay.began.by == "Zoë" && stay.mrn == mrn(7)));
    assert_eq!((history[1].ward_name.as_str(), history[1].bed_name.as_str()), ("South", "S1"));
    let unknown = store.admissions(mrn(8), first(9)).await.unwrap();
    assert!(unknown.items.is_empty());
    let wrong =
        PageRequest { after: Some(proto_json::Cursor::Patient(mrn(7))), limit: 3, include_errors: false };
    assert!(matches!(store.admissions(mrn(7), wrong).await, Err(StoreError::WrongCursor)));
}

async fn wards_and_beds_are_added_renamed_and_removed(Fixture { store, .. }: Fixture) {
    let ward = add_ward(&*store, "North", &["1", "2", "3"]).await;
    assert_eq!((ward.version, ward.beds.len()), (4, 3));
    put(&*store, &upload(7, "a", 0)).await;
    care(&*store, 7, admit("1")).await;
    let id = ward_id("North");
    let version = Some(store.wards().await.unwrap().items[0].version);
    let rename = WardChange::RenameWard { ward: id, name: name("ward n"), version };
    let changed = store.change_ward(&rename, &author(2_000)).await.unwrap();
    assert_eq!(changed.patients.len(), 1);
    let rename = WardChange::RenameBed { ward: id, bed: bed_id("1"), name: name("Window"), version: None };
    let changed = store.change_ward(&rename, &author(3_000)).await.unwrap();
    let [patient] = &changed.patients[..] else { panic!("{changed:?}") };
    assert_eq!(store.patient(mrn(7)).await.unwrap().as_ref(), Some(patient));
    let admission = patient.admission.clone().unwrap();
    assert_eq!((admission.ward_name, admission.bed_name), (name("ward n"), name("Window")));
    assert_eq!((patient.version, patient.updated_at), (4, at(3_000)));
    let remove = WardChange::RemoveBed { ward: id, bed: bed_id("2") };
    let ward = store.change_ward(&remove, &author(0)).await.unwrap().ward;
    assert_eq!(ward.beds.iter().map(|bed| bed.name.as_str()).collect::<Vec<_>>(), ["Window", "3"]);
    // A removed bed can be added again, to another ward, too.
    add_ward(&*store, "South", &["2"]).await;
    care(&*store, 7, CareChange::Discharge { from: None }).await;
    store.change_ward(&WardChange::RemoveWard { ward: id }, &author(0)).await.unwrap();
    let wards = store.wards().await.unwrap().items;
    assert_eq!(wards.iter().map(|ward| ward.name.as_str()).collect::<Vec<_>>(), ["South"]);
    assert_eq!(store.admissions(mrn(7), first(9)).await.unwrap().items.len(), 1);
    // Its name and its beds are free again.
    add_ward(&*store, "Ward N", &["1"]).await;
}

async fn refused_changes_change_nothing(Fixture { store, .. }: Fixture) {
    add_ward(&*store, "North", &["1", "2"]).await;
    add_ward(&*store, "South", &["S1"]).await;
    for (number, bed) in [(7, "1"), (8, "S1")] {
        put(&*store, &upload(number, &number.to_string(), 0)).await;
        care(&*store, number, admit(bed)).await;
    }
    put(&*store, &upload(9, "9", 0)).await;
    let before = everything(&*store, &[7, 8, 9]).await;
    let (north, none) = (ward_id("North"), ward_id("none"));
    let occupied = |ward: &str, bed: &str, occupant| WardRefusal::BedOccupied {
        ward: name(ward),
        bed: name(bed),
        occupant: mrn(occupant),
    };
    let taken = WardRefusal::NameTaken;
    for (change, expected) in [
        (WardChange::AddWard { ward: none, name: name("SOUTH") }, taken("ward")),
        (WardChange::AddWard { ward: north, name: name("West") }, WardRefusal::IdTaken("ward")),
        (WardChange::RenameWard { ward: none, name: name("a"), version: None }, WardRefusal::UnknownWard),
        (WardChange::RenameWard { ward: north, name: name("south"), version: None }, taken("ward")),
        (
            WardChange::RenameWard { ward: north, name: name("West"), version: Some(1) },
            WardRefusal::VersionConflict { what: "beds of the ward", expected: 1, found: 4 },
        ),
        (WardChange::RemoveWard { ward: north }, WardRefusal::InUse { what: "ward", occupant: mrn(7) }),
        (WardChange::RemoveWard { ward: none }, WardRefusal::UnknownWard),
        (WardChange::AddBed { ward: none, bed: bed_id("3"), name: name("3") }, WardRefusal::UnknownWard),
        (WardChange::AddBed { ward: north, bed: bed_id("3"), name: name(" 2 ") }, taken("bed")),
        (WardChange::AddBed { ward: north, bed: bed_id("S1"), name: name("3") }, WardRefusal::IdTaken("bed")),
        (WardChange::AddBed { ward: north, bed: bed_id("2"), name: name("3") }, WardRefusal::IdTaken("bed")),
        (
            WardChange::RenameBed { ward: north, bed: bed_id("1"), name: name("2"), version: None },
            taken("bed"),
        ),
        (
            WardChange::RenameBed { ward: north, bed: bed_id("S1"), name: name("9"), version: None },
            WardRefusal::UnknownBed,
        ),
        (
            WardChange::RemoveBed { ward: north, bed: bed_id("1") },
            WardRefusal::InUse { what: "bed", occupant: mrn(7) },
        ),
        (WardChange::RemoveBed { ward: north, bed: bed_id("3") }, WardRefusal::UnknownBed),
    ] {
        let refused = store.change_ward(&change, &author(9_000)).await.unwrap_err();
        let WardError::Refused(refusal) = refused else { panic!("{change:?}: {refused}") };
        assert_eq!(refusal, expected, "{change:?}");
    }
    let transfer = |bed: &str, from| CareChange::Transfer { bed: bed_id(bed), from, stay: stay("new") };
    let in_bed_1 = (name("North"), name("1"));
    for (number, change, expected) in [
        (6, admit("2"), WardRefusal::UnknownPatient),
        (9, admit("none"), WardRefusal::UnknownBed),
        (9, CareChange::Admit { bed: bed_id("1"), stay: stay("new") }, occupied("North", "1", 7)),
        (9, CareChange::Admit { bed: bed_id("2"), stay: stay("1") }, WardRefusal::IdTaken("stay")),
        (7, admit("2"), WardRefusal::AlreadyAdmitted { ward: in_bed_1.0.clone(), bed: in_bed_1.1.clone() }),
        (
            7,
            CareChange::Admit { bed: bed_id("1"), stay: stay("new") },
            WardRefusal::AlreadyAdmitted { ward: in_bed_1.0.clone(), bed: in_bed_1.1.clone() },
        ),
        (7, transfer("S1", None), occupied("South", "S1", 8)),
        (7, transfer("none", None), WardRefusal::UnknownBed),
        (7, transfer("1", None), WardRefusal::SameBed { ward: in_bed_1.0, bed: in_bed_1.1 }),
        (7, transfer("2", Some(stay("other"))), WardRefusal::OtherStay),
        (9, transfer("2", None), WardRefusal::NotAdmitted),
        (9, CareChange::Discharge { from: None }, WardRefusal::NotAdmitted),
        (7, CareChange::Discharge { from: Some(stay("S1")) }, WardRefusal::OtherStay),
        (6, CareChange::Details(DetailsUpdate::default()), WardRefusal::UnknownPatient),
    ] {
        let refused = store.change_care(mrn(number), &change, &author(9_000)).await.unwrap_err();
        let WardError::Refused(refusal) = refused else { panic!("{change:?}: {refused}") };
        assert_eq!(refusal, expected, "{change:?}");
    }
    assert_eq!(everything(&*store, &[7, 8, 9]).await, before);
}

async fn repeated_changes_succeed_once(Fixture { store, .. }: Fixture) {
    add_ward(&*store, "North", &["1", "2"]).await;
    put(&*store, &upload(7, "a", 0)).await;
    let ward = ward_id("North");
    let update = DetailsUpdate { sex: Some(Some(Sex::Male)), ..DetailsUpdate::default() };
    let transfer = CareChange::Transfer { bed: bed_id("2"), from: Some(stay("1")), stay: stay("2") };
    for change in
        [admit("1"), transfer, CareChange::Details(update), CareChange::Discharge { from: Some(stay("2")) }]
    {
        let done = care(&*store, 7, change.clone()).await;
        let before = everything(&*store, &[7]).await;
        let again = care(&*store, 7, change.clone()).await;
        assert_eq!((again.is_changed, &again.patient), (false, &done.patient), "{change:?}");
        assert_eq!(everything(&*store, &[7]).await, before, "{change:?}");
    }
    let version = Some(store.wards().await.unwrap().items[0].version);
    for change in [
        WardChange::AddWard { ward: ward_id("South"), name: name("South") },
        WardChange::AddBed { ward, bed: bed_id("3"), name: name("3") },
        WardChange::RenameWard { ward, name: name("West"), version: version.map(|version| version + 1) },
        WardChange::RenameBed { ward, bed: bed_id("3"), name: name("Door"), version: None },
    ] {
        let done = store.change_ward(&change, &author(0)).await.unwrap();
        assert!(done.is_changed, "{change:?}");
        let again = store.change_ward(&change, &author(0)).await.unwrap();
        assert_eq!(again, ChangedWard { is_changed: false, ..done }, "{change:?}");
    }
}

/// Admits many patients into one bed at once, and one patient into many beds at once.
async fn race(stores: &[Arc<dyn Store>], round: usize) {
    const WRITERS: u64 = 8;
    let (ward, first_bed) = (format!("W{round}"), format!("{round}/0"));
    let beds: Vec<String> = (0..WRITERS).map(|bed| format!("{round}/{bed}")).collect();
    let store = &stores[0];
    add_ward(&**store, &ward, &beds.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let numbers: Vec<u64> = (0..WRITERS).map(|writer| round as u64 * 100 + writer).collect();
    for number in &numbers {
        put(&**store, &upload(*number, &number.to_string(), 0)).await;
    }
    let admissions = |targets: Vec<(u64, String)>| async {
        let writers = (0..).zip(targets).map(|(index, (number, bed)): (usize, _)| {
            let store = stores[index % stores.len()].clone();
            tokio::spawn(async move {
                let stay = stay(&format!("{number} {bed}"));
                let change = CareChange::Admit { bed: bed_id(&bed), stay };
                loop {
                    match store.change_care(mrn(number), &change, &author(1_000)).await {
                        // Two processes can meet at the same moment; a client tries again then.
                        Err(WardError::Store(StoreError::Unavailable(_))) => {}
                        done => return done,
                    }
                }
            })
        });
        let mut won = Vec::new();
        for writer in writers.collect::<Vec<_>>() {
            match writer.await.unwrap() {
                Ok(changed) => won.push(changed.patient),
                Err(WardError::Refused(refusal)) => assert!(
                    matches!(refusal, WardRefusal::BedOccupied { .. } | WardRefusal::AlreadyAdmitted { .. }),
                    "{refusal}"
                ),
                Err(error) => panic!("{error}"),
            }
        }
        let [winner] = <[PatientSummary; 1]>::try_from(won).unwrap();
        winner
    };
    let winner = admissions(numbers.iter().map(|number| (*number, first_bed.clone())).collect()).await;
    for number in &numbers {
        let patient = store.patient(mrn(*number)).await.unwrap().unwrap();
        assert_eq!(patient.admission.is_some(), patient.mrn == winner.mrn);
    }
    let loser = *numbers.iter().find(|number| mrn(**number) != winner.mrn).unwrap();
    let winner = admissions(beds.iter().skip(1).map(|bed| (loser, bed.clone())).collect()).await;
    assert_eq!(winner.mrn, mrn(loser));
    let wards = store.wards().await.unwrap().items;
    let this = wards.iter().find(|known| known.name.as_str() == ward).unwrap();
    assert_eq!(occupants(this).into_iter().flatten().count(), 2);
    assert_eq!(store.admissions(mrn(loser), first(99)).await.unwrap().items.len(), 1);
}

async fn one_of_many_admissions_into_one_bed_wins(Fixture { store, .. }: Fixture) {
    for round in 0..4 {
        race(std::slice::from_ref(&store), round).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_admissions_of_two_processes_wins() {
    let server = shared_server();
    let database = server.fresh_database();
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for _ in 0..2 {
        let store = MongoStore::connect(MongoConfig::new(server.uri(), database.clone())).await.unwrap();
        store.ensure_indexes().await.unwrap();
        stores.push(store);
    }
    for round in 0..4 {
        race(&stores, round).await;
    }
}

async fn details_change_only_from_the_expected_version(Fixture { store, .. }: Fixture) {
    put(&*store, &upload(7, "a", 0).name("Ann")).await;
    let born: BirthDate = "1957-03-14".parse().unwrap();
    let update = DetailsUpdate {
        birth_date: Some(Some(born)),
        notes: Some(Some("Allergic to\npenicillin".parse().unwrap())),
        ..DetailsUpdate::default()
    };
    let changed = care(&*store, 7, CareChange::Details(update.clone())).await;
    let details = changed.patient.details.clone().unwrap();
    assert_eq!((details.version, details.birth_date, details.sex), (1, Some(born), None));
    assert_eq!(changed.patient.version, 2);
    let remove = |version| DetailsUpdate { notes: Some(None), version, ..DetailsUpdate::default() };
    let before = everything(&*store, &[7]).await;
    let future = DetailsUpdate { birth_date: Some("9000-01-01".parse().ok()), version: 1, ..update };
    for (wrong, expected) in [
        (remove(0), WardRefusal::VersionConflict { what: "details of the patient", expected: 0, found: 1 }),
        (remove(2), WardRefusal::VersionConflict { what: "details of the patient", expected: 2, found: 1 }),
        (future, WardRefusal::BirthDateInFuture),
    ] {
        let change = CareChange::Details(wrong);
        let refused = store.change_care(mrn(7), &change, &author(2_000)).await.unwrap_err();
        assert!(matches!(&refused, WardError::Refused(refusal) if *refusal == expected), "{refused}");
    }
    assert_eq!(everything(&*store, &[7]).await, before);
    // An upload keeps the details.
    put(&*store, &upload(7, "b", 1).rate(70, 1)).await;
    let patient = care(&*store, 7, CareChange::Details(remove(1))).await.patient;
    let details = patient.details.unwrap();
    assert_eq!((details.version, details.birth_date, details.notes), (2, Some(born), None));
}

async fn other_wards_do_not_exist_for_an_author(Fixture { store, .. }: Fixture) {
    add_ward(&*store, "North", &["1", "2"]).await;
    add_ward(&*store, "South", &["S1", "S2"]).await;
    for (number, bed) in [(7, "1"), (8, "S1")] {
        put(&*store, &upload(number, &number.to_string(), 0)).await;
        care(&*store, number, admit(bed)).await;
    }
    put(&*store, &upload(9, "9", 0)).await;
    let of_north = Author { wards: Some(vec![ward_id("North")]), ..author(2_000) };
    let before = everything(&*store, &[7, 8, 9]).await;
    let transfer = |bed: &str| CareChange::Transfer { bed: bed_id(bed), from: None, stay: stay("new") };
    for (number, change, expected) in [
        (8, transfer("2"), WardRefusal::UnknownPatient),
        (8, CareChange::Discharge { from: None }, WardRefusal::UnknownPatient),
        (8, CareChange::Details(DetailsUpdate::default()), WardRefusal::UnknownPatient),
        (7, transfer("S2"), WardRefusal::UnknownBed),
        (9, CareChange::Admit { bed: bed_id("S2"), stay: stay("new") }, WardRefusal::UnknownBed),
    ] {
        let refused = store.change_care(mrn(number), &change, &of_north).await.unwrap_err();
        assert!(matches!(&refused, WardError::Refused(refusal) if *refusal == expected), "{refused}");
    }
    let remove = WardChange::RemoveBed { ward: ward_id("South"), bed: bed_id("S2") };
    let refused = store.change_ward(&remove, &of_north).await.unwrap_err();
    assert!(matches!(refused, WardError::Refused(WardRefusal::UnknownWard)));
    assert_eq!(everything(&*store, &[7, 8, 9]).await, before);
    store.change_care(mrn(7), &transfer("2"), &of_north).await.unwrap();
}

async fn granted_patient_can_be_moved_to_own_wards_and_opens_no_other(Fixture { store, .. }: Fixture) {
    add_ward(&*store, "North", &["1"]).await;
    add_ward(&*store, "South", &["S1", "S2", "S3"]).await;
    for (number, bed) in [(8, "S1"), (88, "S2")] {
        put(&*store, &upload(number, &number.to_string(), 0)).await;
        care(&*store, number, admit(bed)).await;
    }
    let granted = Author { wards: Some(vec![ward_id("North")]), granted: vec![mrn(8)], ..author(2_000) };
    let before = everything(&*store, &[8, 88]).await;
    let transfer = |bed: &str| CareChange::Transfer { bed: bed_id(bed), from: None, stay: stay("new") };
    for (number, change, expected) in [
        (88, CareChange::Discharge { from: None }, WardRefusal::UnknownPatient),
        (8, transfer("S3"), WardRefusal::UnknownBed),
    ] {
        let refused = store.change_care(mrn(number), &change, &granted).await.unwrap_err();
        assert!(matches!(&refused, WardError::Refused(refusal) if *refusal == expected), "{refused}");
    }
    let remove = WardChange::RemoveBed { ward: ward_id("South"), bed: bed_id("S3") };
    let refused = store.change_ward(&remove, &granted).await.unwrap_err();
    assert!(matches!(refused, WardError::Refused(WardRefusal::UnknownWard)));
    assert_eq!(everything(&*store, &[8, 88]).await, before);
    store.change_care(mrn(8), &transfer("1"), &granted).await.unwrap();
}

async fn admitted_patients_are_listed_by_ward_and_search(Fixture { store, .. }: Fixture) {
    add_ward(&*store, "North", &["1", "2", "3"]).await;
    add_ward(&*store, "South", &["S1", "S2"]).await;
    let places = [(70, "S1"), (7, "3"), (71, "1"), (8, "S2"), (9, "2")];
    for (number, bed) in places {
        put(&*store, &upload(number, &number.to_string(), 0).name(&format!("Patient {bed}"))).await;
        care(&*store, number, admit(bed)).await;
    }
    put(&*store, &upload(72, "72", 0).name("Patient without bed")).await;
    let (north, south) = (Some(ward_id("North")), Some(ward_id("South")));
    for (ward, query, expected) in [
        (None, None, vec![7, 8, 9, 70, 71]),
        (north, None, vec![7, 9, 71]),
        (south, None, vec![8, 70]),
        (Some(ward_id("none")), None, vec![]),
        (None, Some("7"), vec![7, 70, 71]),
        (None, Some("patient s"), vec![8, 70]),
        (north, Some("patient s"), vec![]),
    ] {
        for limit in [1, 2, 100] {
            let mut page = first(limit);
            let mut found = Vec::new();
            loop {
                let part = admitted_patients(&*store, ward, query, page).await.unwrap();
                assert!(part.items.len() <= limit && part.damaged.is_empty());
                found.extend(part.items.iter().map(|patient| patient.mrn.get()));
                page.after = part.next;
                if part.next.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected, "{ward:?} {query:?} {limit}");
        }
    }
}

/// A ward with a patient.
async fn fill(store: &dyn Store) {
    add_ward(store, "North", &["1", "2"]).await;
    put(store, &upload(7, "a", 0)).await;
    care(store, 7, admit("1")).await;
}

/// A damaged ward, bed or stay is never used, and the scrub finds it.
async fn damage_is_reported(store: &dyn Store, kind: RecordKind) {
    let (wards, listed) = (store.wards().await, admitted_patients(store, None, None, first(9)).await);
    let stays = store.admissions(mrn(7), first(9)).await;
    let discharge = CareChange::Discharge { from: None };
    let discharged = store.change_care(mrn(7), &discharge, &author(2_000)).await;
    let transfer = CareChange::Transfer { bed: bed_id("2"), from: None, stay: stay("new") };
    let moved = store.change_care(mrn(7), &transfer, &author(2_000)).await;
    let refused = |result: Result<ChangedPatient, WardError>| matches!(&result, Err(WardError::Store(StoreError::Damaged(record))) if record.kind == kind);
    if kind == RecordKind::Ward {
        // A damaged bed is only met by its id.
        let is_bed = wards.as_ref().is_ok_and(|page| page.damaged.is_empty());
        assert!(is_bed || matches!(listed, Err(StoreError::Damaged(_))), "{listed:?}");
        assert!(is_bed || refused(discharged));
        assert!(refused(moved));
    } else {
        assert_eq!(stays.unwrap().damaged.len(), 1);
        assert!(refused(discharged) && refused(moved));
    }
    let (mut found, mut from) = (Vec::new(), None);
    loop {
        let step = store.scrub(from, 100).await.unwrap();
        found.extend(step.damaged);
        from = step.next;
        if from.is_none() {
            break;
        }
    }
    assert!(found.len() == 1 && found[0].contains(kind.name()), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_the_file_is_reported() {
    for (change, kind) in [
        ("UPDATE wards SET record = replace(record, 'North', 'Nortn')", RecordKind::Ward),
        ("UPDATE beds SET ward = zeroblob(16)", RecordKind::Ward),
        ("UPDATE admissions SET record = replace(record, 'Zo', 'Zu')", RecordKind::Admission),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let store = SqliteStore::open(&path).unwrap();
        fill(&*store).await;
        drop(store);
        let bed = format!(" WHERE id = x'{}'", bed_id("2").as_uuid().simple());
        let change = if change.contains("beds") { format!("{change}{bed}") } else { change.to_owned() };
        assert_eq!(Connection::open(&path).unwrap().execute(&change, []).unwrap(), 1, "{change}");
        damage_is_reported(&*SqliteStore::open(&path).unwrap(), kind).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_the_database_is_reported() {
    let server = shared_server();
    for (collection, change, kind) in [
        ("wards", doc! { "$set": { "name": "Nortn" } }, RecordKind::Ward),
        ("beds", doc! { "$set": { "ward": mongodb::bson::Uuid::from_bytes([7; 16]) } }, RecordKind::Ward),
        ("admissions", doc! { "$set": { "began.by": "Zoe" } }, RecordKind::Admission),
    ] {
        let database = server.fresh_database();
        let store = MongoStore::connect(MongoConfig::new(server.uri(), database.clone())).await.unwrap();
        store.ensure_indexes().await.unwrap();
        fill(&*store).await;
        let client = mongodb::Client::with_uri_str(server.uri()).await.unwrap();
        let id = mongodb::bson::Uuid::from_bytes(*bed_id("2").as_uuid().as_bytes());
        let filter = if collection == "beds" {
            doc! { "_id": id }
        } else {
            doc! {}
        };
        let documents = client.database(&database).collection::<Document>(collection);
        assert_eq!(documents.update_one(filter, change).await.unwrap().modified_count, 1);
        damage_is_reported(&*store, kind).await;
    }
}
