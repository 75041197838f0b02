//! Tests of access by ward and by bed, and of emergency access.

use std::time::Duration;

use axum::http::Method;
use bus::PubSub;
use gateway::Config;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use proto_json::waveform::{LiveMessage, LiveMode, LiveRequest};
use proto_json::{BedId, BlobHash, Change, ChangeKind, Mrn, PatientUpdated, Timestamp, UploadId, WardId};
use serde_json::{Value, json};
use store::wards::{Author, CareChange, WardChange, WardStore};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::fixture::{Api, Form, Reply, Start, TIMEOUT, ecg_csv, png};
use crate::sessions::{add_user, user};
use crate::waveforms::Connection;

const JSON: (&str, &str) = ("content-type", "application/json");

pub(crate) fn ward(number: u128) -> WardId {
    WardId::from_uuid(Uuid::from_u128(number))
}

pub(crate) fn bed(number: u128) -> BedId {
    BedId::from_uuid(Uuid::from_u128(number))
}

fn mrn(number: u64) -> Mrn {
    Mrn::new(number).unwrap()
}

fn author() -> Author {
    Author { name: "test".to_owned(), wards: None, granted: Vec::new(), at: Timestamp::now() }
}

/// Adds wards 1 and 2 with two beds each: 11, 12, 21, 22.
pub(crate) async fn add_wards(api: &Api) {
    for number in [1, 2] {
        let name = format!("Ward {number}").parse().unwrap();
        let change = WardChange::AddWard { ward: ward(number), name };
        api.store.change_ward(&change, &author()).await.unwrap();
        for second in [1, 2] {
            let (id, name) = (bed(number * 10 + second), format!("Bed {second}").parse().unwrap());
            let change = WardChange::AddBed { ward: ward(number), bed: id, name };
            api.store.change_ward(&change, &author()).await.unwrap();
        }
    }
}

/// Changes the place of a patient, and publishes it as ingest does.
async fn change(api: &Api, number: u64, change: CareChange) {
    let patient = api.store.change_care(mrn(number), &change, &author()).await.unwrap().patient;
    let changes = vec![Change { kind: ChangeKind::Admission, id: None }];
    let update = PatientUpdated { upload_id: None, changes, patient, sent_at: Some(Timestamp::now()) };
    api.bus.publish(&update, None).await.unwrap();
}

pub(crate) async fn admit(api: &Api, number: u64, to: u128) {
    let stay = UploadId::generate().record("stay", 0);
    change(api, number, CareChange::Admit { bed: bed(to), stay }).await;
}

async fn transfer(api: &Api, number: u64, to: u128) {
    let stay = UploadId::generate().record("stay", 0);
    change(api, number, CareChange::Transfer { bed: bed(to), from: None, stay }).await;
}

/// A token file: an administrator, and clients of ward 1 and bed 11.
pub(crate) fn tokens() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let line = |name: &str, role: &str, limits: &str| {
        format!("{name} {role} {} {limits}\n", BlobHash::of(format!("{name}-secret").as_bytes()))
    };
    let (one, in_bed) = (format!("ward={}", ward(1)), format!("bed={}", bed(11)));
    let text = [
        line("chief", "admin", ""),
        line("one", "nurse", &one),
        line("bed-11", "uploader", &in_bed),
        line("monitor-11", "device", &in_bed),
        line("monitor-1", "device", &one),
    ];
    std::fs::write(file.path(), text.concat()).unwrap();
    file
}

async fn system() -> (Api, tempfile::NamedTempFile) {
    system_with(Duration::from_secs(3600)).await
}

/// A system whose emergency accesses last for this time.
async fn system_with(emergency_access: Duration) -> (Api, tempfile::NamedTempFile) {
    let file = tokens();
    let mut config = Config {
        tokens: Some(file.path().to_owned()),
        receipt_wait: TIMEOUT,
        events_keep_alive: Duration::from_secs(60),
        audit_patient: gateway::AuditPatient::Number,
        ..Config::default()
    };
    config.sessions.emergency_access = emergency_access;
    let api = Start { config, ..Start::default() }.start().await;
    add_wards(&api).await;
    (api, file)
}

async fn ask(api: &Api, client: &str, method: Method, path: &str) -> Reply {
    let bearer = format!("Bearer {client}-secret");
    api.send(method, path, &[("authorization", &bearer)], "").await
}

async fn get(api: &Api, client: &str, path: &str) -> Reply {
    ask(api, client, Method::GET, path).await
}

async fn upload(api: &Api, client: &str, number: u64, form: Form) -> Reply {
    let bearer = format!("Bearer {client}-secret");
    api.upload(&number.to_string(), form, &[("authorization", &bearer)]).await
}

/// Patient 7 in ward 1, 8 in ward 2, 9 in no ward.
async fn patients(api: &Api) {
    for (number, name) in [(7, "Ann"), (8, "Bob"), (9, "Cid")] {
        assert_eq!(upload(api, "chief", number, Form::default().field("name", name)).await.status, 201);
    }
    admit(api, 7, 11).await;
    admit(api, 8, 21).await;
}

/// As [`patients`], each with an image and an ECG. Returns the receipts.
async fn patients_with_files(api: &Api) -> [Value; 3] {
    let mut receipts = Vec::new();
    for (number, name) in [(7, "Ann"), (8, "Bob"), (9, "Cid")] {
        let form = Form::default()
            .field("name", name)
            .file("medical_image", "a.png", &png(5, 5, number as u8))
            .file("ecg", "a.csv", &ecg_csv(70.0, number));
        let reply = upload(api, "chief", number, form).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        receipts.push(reply.json());
    }
    admit(api, 7, 11).await;
    admit(api, 8, 21).await;
    receipts.try_into().unwrap()
}

/// Waits until a client sees a patient, or does not.
async fn until_visible(api: &Api, client: &str, number: u64, visible: bool) {
    let status = if visible { 200 } else { 404 };
    let path = format!("/api/v1/patients/{number}");
    let polling = async {
        while get(api, client, &path).await.status != status {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, polling).await.unwrap_or_else(|_| panic!("{client} {path} {status}"));
}

#[tokio::test]
async fn patients_of_other_wards_do_not_exist_for_a_client() {
    let (api, _file) = system().await;
    let receipts = patients_with_files(&api).await;
    until_visible(&api, "one", 8, false).await;
    let unknown = get(&api, "one", "/api/v1/patients/99").await;
    for rest in ["", "/heart-rates", "/ecgs", "/images", "/names", "/events", "/waveforms/channels"] {
        let path = |number: u64| format!("/api/v1/patients/{number}{rest}");
        let other = get(&api, "one", &path(8)).await;
        assert_eq!(other.status, 404, "{rest}");
        assert_eq!(other.body, unknown.body, "{rest}: the answer is that for an unknown patient");
        if rest != "/events" {
            assert_eq!(get(&api, "one", &path(7)).await.status, 200, "{rest}");
            assert_eq!(get(&api, "one", &path(9)).await.status, 200, "{rest}");
            assert_eq!(get(&api, "chief", &path(8)).await.status, 200, "{rest}");
        }
    }
    assert_eq!(get(&api, "one", "/api/get_patient/8").await.status, 404);
    let list = get(&api, "one", "/api/v1/patients").await.json();
    let numbers: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|patient| patient["mrn"].clone()).collect();
    assert_eq!(numbers, [7, 9]);
    assert_eq!(get(&api, "one", "/api/get_patient").await.json(), json!({ "ID": [7, 9] }));
    assert_eq!(get(&api, "chief", "/api/get_patient").await.json(), json!({ "ID": [7, 8, 9] }));

    for (receipt, status) in receipts.iter().zip([200, 404, 200]) {
        let [image, ecg] = [0, 1].map(|index| receipt["files"][index]["id"].as_str().unwrap().to_owned());
        let upload = receipt["upload_id"].as_str().unwrap();
        for path in [
            format!("/api/v1/images/{image}"),
            format!("/api/v1/ecgs/{ecg}"),
            format!("/api/v1/ecgs/{ecg}/signal"),
            format!("/api/v1/uploads/{upload}"),
        ] {
            assert_eq!(get(&api, "one", &path).await.status, status, "{path}");
            assert_eq!(get(&api, "chief", &path).await.status, 200, "{path}");
        }
        // A conditional or partial request reveals nothing, either.
        let path = format!("/api/v1/images/{image}");
        let tag = get(&api, "chief", &path).await.header("etag").to_owned();
        for (header, allowed) in [(("if-none-match", tag.as_str()), 304), (("range", "bytes=0-3"), 206)] {
            let headers = [("authorization", "Bearer one-secret"), header];
            let reply = api.send(Method::GET, &path, &headers, "").await;
            assert_eq!(reply.status, if status == 200 { allowed } else { 404 }, "{header:?}");
        }
    }
}

#[tokio::test]
async fn corrections_need_access_to_every_patient_that_they_change() {
    let (api, _file) = system().await;
    let receipts = patients_with_files(&api).await;
    until_visible(&api, "one", 8, false).await;
    let correct = async |client: &str, path: String, body: Value| {
        let bearer = format!("Bearer {client}-secret");
        api.send(Method::POST, &path, &[JSON, ("authorization", &bearer)], body.to_string()).await
    };
    let merge = |from: u64| format!("/api/v1/patients/{from}/merge");
    let into = |number: u64| json!({ "into": number, "reason": "test" });
    correct("one", merge(7), into(8)).await.assert_problem(404, "no patient with the number 8");
    correct("one", merge(9), into(8)).await.assert_problem(404, "no patient with the number 8");
    correct("one", merge(8), into(7)).await.assert_problem(404, "no patient");
    let [upload_7, upload_8] = [0, 1].map(|index| receipts[index]["upload_id"].as_str().unwrap().to_owned());
    let move_to = |number: u64| json!({ "mrn": number, "reason": "test" });
    let path = |upload: &str| format!("/api/v1/uploads/{upload}/move");
    correct("one", path(&upload_7), move_to(8)).await.assert_problem(404, "no patient with the number 8");
    for to in [7, 8] {
        correct("one", path(&upload_8), move_to(to)).await.assert_problem(404, "no upload with this id");
    }
    let image = receipts[1]["files"][0]["id"].as_str().unwrap();
    let mark = format!("/api/v1/records/{image}/entered-in-error");
    correct("one", mark, json!({ "reason": "test" }))
        .await
        .assert_problem(404, "no heart rate, ECG or image");
    // The bed of 7 goes to 9, and back.
    let merged = correct("one", merge(7), into(9)).await;
    assert_eq!(merged.status, 200, "{}", merged.text());
    let beds = async |client: &str| {
        let wards = get(&api, client, "/api/v1/wards").await.json()["items"].take();
        let all = wards.as_array().unwrap().iter().flat_map(|ward| ward["beds"].as_array().unwrap().clone());
        all.map(|bed| bed["occupant"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(beds("one").await, [json!(9), Value::Null]);
    assert_eq!(beds("chief").await, [json!(9), Value::Null, json!(8), Value::Null]);
    let undo = format!("/api/v1/merges/{}/undo", merged.json()["id"].as_str().unwrap());
    assert_eq!(correct("one", undo, json!({ "reason": "test" })).await.status, 200);
    assert_eq!(beds("one").await, [json!(7), Value::Null]);
    let summary = get(&api, "one", "/api/v1/patients/7").await.json();
    assert_eq!(summary["admission"]["bed"], json!(bed(11)));
    // An erased patient leaves an empty bed.
    let erase = json!({ "confirm": 7, "reason": "test" });
    let erased = correct("chief", "/api/v1/patients/7/erase".to_owned(), erase).await;
    assert_eq!(erased.status, 200, "{}", erased.text());
    assert_eq!(beds("one").await, [Value::Null, Value::Null]);
    admit(&api, 9, 11).await;
}

#[tokio::test]
async fn uploads_go_only_to_patients_of_the_ward_or_bed() {
    let (api, _file) = system().await;
    patients(&api).await;
    until_visible(&api, "one", 8, false).await;
    let rate = || Form::default().field("heart_rate", "72");
    assert_eq!(upload(&api, "one", 7, rate()).await.status, 201);
    upload(&api, "one", 8, rate()).await.assert_problem(404, "no patient");
    assert_eq!(upload(&api, "bed-11", 7, rate()).await.status, 201);
    for number in [8, 9, 99] {
        upload(&api, "bed-11", number, rate()).await.assert_problem(409, "not admitted to it");
    }
    let legacy = async |client: &str, number: u64| {
        let bearer = format!("Bearer {client}-secret");
        let body = format!("{{\"medical_record_number\":{number}}}");
        api.send(Method::POST, "/api/new_patient", &[JSON, ("authorization", &bearer)], body).await
    };
    assert_eq!(legacy("bed-11", 7).await.status, 200);
    assert_eq!(legacy("bed-11", 8).await.status, 409);
    assert_eq!(legacy("one", 8).await.status, 404);
    assert_eq!(api.store.patient_version(8).await, 2, "nothing of the rejected uploads is stored");
    // The next patient in the bed.
    change(&api, 7, CareChange::Discharge { from: None }).await;
    admit(&api, 9, 11).await;
    let moved = async { while upload(&api, "bed-11", 9, rate()).await.status != 201 {} };
    tokio::time::timeout(TIMEOUT, moved).await.unwrap();
    upload(&api, "bed-11", 7, rate()).await.assert_problem(409, "not admitted to it");
}

trait Version {
    async fn patient_version(&self, number: u64) -> u64;
}

impl Version for store::sqlite::SqliteStore {
    async fn patient_version(&self, number: u64) -> u64 {
        use store::PatientReader;
        self.patient(mrn(number)).await.unwrap().unwrap().version
    }
}

/// Reads until the next event of this name; other events fail the test.
async fn event(stream: &mut Incoming, name: &str) -> String {
    let mut text = String::new();
    let reading = async {
        while !text.ends_with("\n\n") {
            let frame = stream.frame().await.expect("an open stream").unwrap();
            text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    };
    tokio::time::timeout(TIMEOUT, reading).await.unwrap_or_else(|_| panic!("no {name}"));
    assert!(text.contains(&format!("event: {name}\n")), "{text:?} instead of {name}");
    text
}

#[tokio::test]
async fn event_stream_has_only_the_own_ward_and_reports_who_leaves() {
    let (api, _file) = system().await;
    patients(&api).await;
    until_visible(&api, "one", 8, false).await;
    let mut stream = api.stream_as("/api/v1/events", "Bearer one-secret").await;
    let mut of_7 = api.stream_as("/api/v1/patients/7/events", "Bearer one-secret").await;
    event(&mut stream, "ready").await;
    event(&mut of_7, "ready").await;
    let rate = || Form::default().field("heart_rate", "72");
    for number in [8, 7, 8, 9] {
        assert_eq!(upload(&api, "chief", number, rate()).await.status, 201);
    }
    assert!(event(&mut stream, "updated").await.contains("\"mrn\":7"));
    assert!(event(&mut stream, "updated").await.contains("\"mrn\":9"));
    assert!(event(&mut of_7, "updated").await.contains("\"mrn\":7"));
    // 8 comes, 7 goes.
    transfer(&api, 8, 12).await;
    assert!(event(&mut stream, "updated").await.contains("\"mrn\":8"));
    transfer(&api, 7, 22).await;
    event(&mut stream, "missed").await;
    let ended = async { while of_7.frame().await.is_some_and(|frame| frame.is_ok()) {} };
    tokio::time::timeout(TIMEOUT, ended).await.expect("the stream of the patient ends");
    assert_eq!(get(&api, "one", "/api/v1/patients/7").await.status, 404);
    assert_eq!(get(&api, "one", "/api/v1/patients/8").await.status, 200);
}

async fn text(socket: &mut Connection) -> LiveMessage {
    match socket.next().await {
        Message::Text(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn live_waveforms_are_limited_to_the_ward_and_end_with_a_transfer() {
    let (api, _file) = system().await;
    patients(&api).await;
    until_visible(&api, "one", 8, false).await;
    let mut screen = Connection::open(api.address, "/api/v1/live", "one-secret").await.unwrap();
    screen.send_json(&LiveRequest::Subscribe { mrn: mrn(8), mode: LiveMode::Full }).await;
    assert!(matches!(text(&mut screen).await, LiveMessage::Rejected { .. }));
    screen.send_json(&LiveRequest::Subscribe { mrn: mrn(7), mode: LiveMode::Full }).await;
    // The answer to the next request shows that the subscription was accepted.
    screen.send_json(&LiveRequest::Unsubscribe { mrn: mrn(99) }).await;
    assert!(matches!(text(&mut screen).await, LiveMessage::Closed { mrn } if mrn.get() == 99));
    transfer(&api, 7, 22).await;
    assert!(matches!(text(&mut screen).await, LiveMessage::Closed { mrn } if mrn.get() == 7));
}

#[tokio::test]
async fn device_of_a_bed_sends_only_for_its_patient_and_stops_with_a_transfer() {
    let (api, _file) = system().await;
    patients(&api).await;
    let path = |number: u64| format!("/api/v1/patients/{number}/waveforms");
    let open = async |client: &str, number: u64| {
        Connection::open(api.address, &path(number), &format!("{client}-secret"))
            .await
            .map_err(|error| error.0)
    };
    assert_eq!(open("monitor-11", 8).await.err(), Some(409));
    assert_eq!(open("monitor-11", 9).await.err(), Some(409));
    assert_eq!(open("monitor-1", 8).await.err(), Some(404));
    let mut device = open("monitor-11", 7).await.unwrap();
    device.send_json(&crate::waveforms::open_message()).await;
    let Message::Text(opened) = device.next().await else { panic!("opened") };
    assert!(opened.contains("\"opened\""), "{opened}");
    transfer(&api, 7, 12).await;
    let (code, reason) = device.closed().await;
    assert_eq!(code, 4401);
    assert!(reason.contains("bed or ward"), "{reason}");
}

#[tokio::test]
async fn emergency_access_has_a_reason_is_limited_in_time_and_audited() {
    let (api, _file) = system_with(Duration::from_secs(6)).await;
    patients(&api).await;
    let wards = json!([ward(1)]);
    add_user(&api, "anna", "nurse", wards.clone()).await;
    add_user(&api, "ben", "viewer", wards).await;
    let (anna, ben) = (user(&api, "anna").await, user(&api, "ben").await);
    let path = "/api/v1/patients/8/break-glass";
    let reason = json!({ "reason": "Resuscitation in ward 2" });
    assert_eq!(anna.get(&api, "/api/v1/patients/8").await.status, 404);
    ben.send(&api, Method::POST, path, reason.clone()).await.assert_problem(403, "role viewer");
    for wrong in ["", "help", "     ", "line\nbreak", &"x".repeat(501)] {
        anna.send(&api, Method::POST, path, json!({ "reason": wrong })).await.assert_problem(422, "`reason`");
    }
    let headers = [("authorization", "Bearer one-secret"), JSON];
    let token = api.send(Method::POST, path, &headers, reason.to_string()).await;
    token.assert_problem(403, "a login of a person");
    for number in [7, 9, 99] {
        let path = format!("/api/v1/patients/{number}/break-glass");
        anna.send(&api, Method::POST, &path, reason.clone())
            .await
            .assert_problem(409, "without emergency access");
    }
    let granted = anna.send(&api, Method::POST, path, reason.clone()).await;
    assert_eq!(granted.status, 200, "{}", granted.text());
    assert_eq!(granted.json()["mrn"], 8);
    assert_eq!(anna.get(&api, "/api/v1/session").await.json()["emergency_access_s"], 6);
    let started = std::time::Instant::now();
    let notice = loop {
        let list = get(&api, "chief", "/api/v1/alarms?mrn=8&priority=low").await.json();
        if let Some(notice) = list["items"].get(0) {
            break notice.clone();
        }
        assert!(started.elapsed() < TIMEOUT, "the notice of the access");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!((&notice["rule"], &notice["state"]), (&json!("notice"), &json!("latched")));
    assert_eq!(notice["text"], "Emergency access by anna");
    assert_eq!(anna.get(&api, "/api/v1/patients/8").await.status, 200);
    assert_eq!(anna.get(&api, "/api/v1/session").await.json()["emergency"][0]["mrn"], 8);
    let list = anna.get(&api, "/api/v1/patients").await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 3);
    let other = user(&api, "anna").await;
    assert_eq!(other.get(&api, "/api/v1/patients/8").await.status, 404, "only this session has access");
    let mut stream = api.stream_as("/api/v1/patients/8/events", &format!("Bearer {}", anna.secret())).await;
    let ended = async { while stream.frame().await.is_some_and(|frame| frame.is_ok()) {} };
    tokio::time::timeout(TIMEOUT, ended).await.expect("the stream ends with the access");
    assert_eq!(anna.get(&api, "/api/v1/patients/8").await.status, 404);
    assert_eq!(anna.get(&api, "/api/v1/patients/7").await.status, 200);
    let log = std::fs::read_to_string(&api.audit_log).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let emergencies: Vec<_> = lines.iter().filter(|line| line["message"] == "emergency access").collect();
    assert_eq!(emergencies.len(), 1);
    let line = emergencies[0];
    assert_eq!((&line["client"], &line["patient"]), (&json!("anna"), &json!("8")));
    assert_eq!(line["reason"], "Resuscitation in ward 2");
}

#[tokio::test]
async fn emergency_access_includes_the_alarms_of_the_patient_and_of_no_other() {
    let (api, _file) = system().await;
    patients(&api).await;
    let form = Form::default().field("name", "Eve");
    assert_eq!(upload(&api, "chief", 10, form).await.status, 201);
    admit(&api, 10, 22).await;
    for number in [8, 10] {
        until_visible(&api, "one", number, false).await;
    }
    for name in ["anna", "ben"] {
        add_user(&api, name, "nurse", json!([ward(1)])).await;
    }
    let (anna, ben) = (user(&api, "anna").await, user(&api, "ben").await);
    // Patients 8 and 10 are in ward 2, and each has an alarm: the notice of an access.
    for (nurse, number) in [(&anna, 8), (&ben, 10)] {
        let path = format!("/api/v1/patients/{number}/break-glass");
        let reason = json!({ "reason": "Resuscitation in ward 2" });
        assert_eq!(nurse.send(&api, Method::POST, &path, reason).await.status, 200);
    }
    let started = std::time::Instant::now();
    let alarms = loop {
        let list = get(&api, "chief", "/api/v1/alarms").await.json()["items"].as_array().unwrap().clone();
        if list.len() == 2 {
            break list;
        }
        assert!(started.elapsed() < TIMEOUT, "the notices of both accesses: {list:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let of = |number: u64| alarms.iter().find(|alarm| alarm["mrn"] == number).unwrap();
    let (own, other) = (of(8), of(10));
    let listed = async |path: &str| anna.get(&api, path).await.json()["items"].clone();
    assert_eq!(listed("/api/v1/alarms").await, json!([own]));
    assert_eq!(listed("/api/v1/alarms?mrn=8").await, json!([own]));
    assert_eq!(anna.get(&api, "/api/v1/patients/8/limits").await.status, 200);
    for path in [
        "/api/v1/alarms?mrn=10".to_owned(),
        "/api/v1/patients/10/limits".to_owned(),
        format!("/api/v1/wards/{}/limits", ward(2)),
    ] {
        assert_eq!(anna.get(&api, &path).await.status, 404, "{path}");
    }
    let act = async |alarm: &Value, action: &str| {
        let path = format!("/api/v1/alarms/{}/{action}", alarm["id"].as_str().unwrap());
        anna.send(&api, Method::POST, &path, json!({})).await
    };
    for action in ["acknowledge", "audio-pause", "reset"] {
        assert_eq!(act(other, action).await.status, 404, "{action}");
    }
    let seen = anna.send(&api, Method::POST, "/api/v1/patients/10/alarms/acknowledge", json!({})).await;
    assert_eq!(seen.status, 404);
    let mut events = api.stream_as("/api/v1/events", &format!("Bearer {}", anna.secret())).await;
    assert_eq!(ben.send(&api, Method::POST, &acknowledge(other), json!({})).await.status, 200);
    assert_eq!(act(own, "acknowledge").await.status, 200);
    let mut received = String::new();
    let event = async {
        while !received.contains("event: alarm") || !received.ends_with("\n\n") {
            let frame = events.frame().await.unwrap().unwrap();
            received += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
        }
    };
    tokio::time::timeout(TIMEOUT, event).await.expect("the event of the alarm");
    let id = |alarm: &Value| alarm["id"].as_str().unwrap().to_owned();
    assert!(received.contains(&id(own)) && !received.contains(&id(other)), "{received}");
    // The access does not lead further: a correction needs access to both patients, and an admission to the bed.
    let merge = json!({ "into": 10, "reason": "the same person" });
    let merged = anna.send(&api, Method::POST, "/api/v1/patients/8/merge", merge).await;
    assert_eq!(merged.status, 404, "{}", merged.text());
    let renamed = json!({ "name": "Bob Ray", "reason": "misspelt" });
    let renamed = anna.send(&api, Method::POST, "/api/v1/patients/8/name", renamed).await;
    assert_eq!(renamed.status, 200, "{}", renamed.text());
}

fn acknowledge(alarm: &Value) -> String {
    format!("/api/v1/alarms/{}/acknowledge", alarm["id"].as_str().unwrap())
}
