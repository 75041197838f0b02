//! The service on the local adapters: evaluation, actions, limits, two processes of which one dies, and notification.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use alarms::{Alarms, Config, Notifications, NotifyArgs, Ports};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bus::local::LocalBus;
use bus::{BusPorts, PubSub, QueueLimits, RetryPolicy, SystemSignal, WaveLog};
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body_util::BodyExt;
use http_server::internal::Actor;
use proto_json::alarms::{Alarm, AlarmEndReason, AlarmPage, AlarmRule, AlarmState, StoredLimits};
use proto_json::waveform::{BeatTimes, Numeric, StreamsState, Vitals, VitalsSource};
use proto_json::{
    BedId, BlobHash, Change, ChangeKind, CorrectionAction, CorrectionId, EcgQuality, Mrn, PatientUpdated,
    Rename, SystemEvent, Timestamp, UploadId, WardId,
};
use runtime::Shutdown;
use serde_json::{Value, json};
use store::sqlite::SqliteStore;
use store::wards::{Author, CareChange, WardChange, WardStore};
use store::{AlarmStore, CorrectionStep, Corrections, NewCorrection, NewUpload, PatientWriter};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use uuid::Uuid;

const TIMEOUT: Duration = Duration::from_secs(60);

struct Fixture {
    bus: Arc<LocalBus>,
    store: Arc<SqliteStore>,
    _folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (policy, limits) = (RetryPolicy::default(), QueueLimits::default());
        let bus = LocalBus::open(&folder.path().join("queues.db"), policy, limits).unwrap();
        let store = SqliteStore::open(&folder.path().join("patients.db")).unwrap();
        Fixture { bus, store, _folder: folder }
    }

    /// A process of the service; the handle ends it like a kill.
    fn start(&self, notifications: Notifications) -> (Router, JoinHandle<()>) {
        let ports = Ports::of(&BusPorts::of(&self.bus), self.store.clone());
        let alarms = Alarms::new(Config::default(), notifications, ports);
        let router = alarms.router();
        let task = tokio::spawn(async move {
            alarms.run(Shutdown::new()).await.unwrap();
        });
        (router, task)
    }

    async fn events(&self) -> BoxStream<'static, SystemSignal> {
        self.bus.subscribe_events().await.unwrap()
    }

    async fn send(&self, vitals: &Vitals) {
        self.bus.publish_vitals(vitals).await.unwrap();
    }

    /// Sends vitals each 20 ms, one second of a patient after the other, until the alarm is in this state.
    async fn until(&self, clock: &mut i64, rate: f64, rule: AlarmRule, state: AlarmState) -> Alarm {
        let started = Instant::now();
        loop {
            *clock += 1_000;
            self.send(&vitals(*clock, rate)).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            let found = self.all().await.into_iter().find(|alarm| alarm.rule == rule && alarm.state == state);
            if let Some(alarm) = found {
                return alarm;
            }
            assert!(started.elapsed() < TIMEOUT, "{rule:?} is not {state:?}");
        }
    }

    async fn all(&self) -> Vec<Alarm> {
        let page = store::PageRequest { after: None, limit: 100, include_errors: false };
        self.store.alarms(store::alarms::AlarmQuery::default(), page).await.unwrap().items
    }
}

/// Vitals of patient 7, this many milliseconds after a fixed time in the past.
fn vitals(millis: i64, rate: f64) -> Vitals {
    let time = Timestamp::from_millis(1_700_000_000_000 + millis).unwrap();
    let interval = (60_000.0 / rate) as u32;
    Vitals {
        mrn: Mrn::new(7).unwrap(),
        stream: None,
        time,
        values: vec![Numeric {
            code: "MDC_ECG_HEART_RATE".to_owned(),
            value: rate,
            unit: "/min".to_owned(),
            time,
        }],
        rhythm: Some("sinus_rhythm".to_owned()),
        quality: EcgQuality::Good,
        lead_off: Vec::new(),
        source: VitalsSource::Analysis,
        streams: StreamsState::Live,
        beats: Some(BeatTimes { last: time, silent_ms: 0, intervals_ms: vec![interval; 8] }),
    }
}

async fn call(
    router: &Router,
    method: Method,
    path: &str,
    user: &str,
    body: Option<Value>,
) -> (StatusCode, Value) {
    call_as(router, method, path, user, None, body).await
}

/// A call of a user who may access these wards.
async fn call_as(
    router: &Router,
    method: Method,
    path: &str,
    user: &str,
    wards: Option<Vec<WardId>>,
    body: Option<Value>,
) -> (StatusCode, Value) {
    let actor = Actor { name: user.into(), role: "nurse".into(), wards, granted: Vec::new(), address: None };
    call_of(router, method, path, actor, body).await
}

async fn call_of(
    router: &Router,
    method: Method,
    path: &str,
    actor: Actor,
    body: Option<Value>,
) -> (StatusCode, Value) {
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let mut request = Request::builder().method(method).uri(path).body(body).unwrap();
    let (name, value) = actor.header().unwrap();
    request.headers_mut().insert(name, value);
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

async fn get(router: &Router, path: &str) -> Value {
    let (status, body) = call(router, Method::GET, path, "Ann", None).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

/// The next event of an alarm that fulfils the condition.
async fn event(events: &mut BoxStream<'static, SystemSignal>, is_it: impl Fn(&Alarm) -> bool) -> Alarm {
    let waiting = async {
        loop {
            if let SystemSignal::Event(event) = events.next().await.unwrap()
                && let SystemEvent::Alarm(update) = *event
                && is_it(&update.alarm)
            {
                return update.alarm;
            }
        }
    };
    tokio::time::timeout(TIMEOUT, waiting).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alarm_is_raised_acknowledged_silenced_and_ends_and_every_change_is_published() {
    let system = Fixture::new();
    let mut events = system.events().await;
    let (router, task) = system.start(Notifications::default());
    let mut clock = 0;
    let raised = system.until(&mut clock, 180.0, AlarmRule::HeartRateExtremeHigh, AlarmState::Raised).await;
    let told = event(&mut events, |alarm| alarm.state == AlarmState::Raised).await;
    assert_eq!((told.id, told.version, told.text.as_str()), (raised.id, 1, "HR 180 > 150"));
    let page: AlarmPage = serde_json::from_value(get(&router, "/api/v1/alarms?mrn=7").await).unwrap();
    assert_eq!(page.items, std::slice::from_ref(&told));

    let path = format!("/api/v1/alarms/{}", raised.id);
    let (status, paused) =
        call(&router, Method::POST, &format!("{path}/audio-pause"), "Ann", Some(json!({ "seconds": 1 })))
            .await;
    assert_eq!(status, StatusCode::OK, "{paused}");
    assert_eq!((&paused["state"], &paused["audio_paused"]["by"]), (&json!("raised"), &json!("Ann")));
    let loud = event(&mut events, |alarm| alarm.version == 3).await;
    assert_eq!((loud.audio_paused_until, loud.state), (None, AlarmState::Raised), "the pause has expired");

    let body = Some(json!({ "version": 2 }));
    let (status, problem) = call(&router, Method::POST, &format!("{path}/acknowledge"), "Ann", body).await;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    let (status, seen) = call(&router, Method::POST, &format!("{path}/acknowledge"), "Zoë", None).await;
    assert_eq!((status, &seen["state"]), (StatusCode::OK, &json!("acknowledged")));
    let told = event(&mut events, |alarm| alarm.state == AlarmState::Acknowledged).await;
    assert_eq!(told.acknowledged.unwrap().by, "Zoë");
    let (status, again) = call(&router, Method::POST, &format!("{path}/acknowledge"), "Bob", None).await;
    assert_eq!((status, &again), (StatusCode::OK, &seen), "the second one changes nothing");

    let ended = system.until(&mut clock, 72.0, AlarmRule::HeartRateExtremeHigh, AlarmState::Ended).await;
    assert_eq!(ended.id, raised.id);
    let (status, problem) = call(&router, Method::POST, &format!("{path}/reset"), "Ann", None).await;
    assert_eq!(
        (status, &problem["type"]),
        (StatusCode::CONFLICT, &json!("urn:bedside:problem:state-conflict"))
    );
    assert!(get(&router, "/api/v1/alarms").await["items"].as_array().unwrap().is_empty());
    let history = get(&router, "/api/v1/alarms?state=ended&priority=high").await;
    assert_eq!(history["items"][0]["id"], json!(raised.id));
    task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_process_takes_over_and_no_alarm_is_lost_raised_twice_or_ended() {
    let system = Fixture::new();
    let (_, first) = system.start(Notifications::default());
    let mut clock = 0;
    let raised = system.until(&mut clock, 180.0, AlarmRule::HeartRateExtremeHigh, AlarmState::Raised).await;
    let (router, second) = system.start(Notifications::default());
    // The second process hears the same vitals.
    for _ in 0..20 {
        clock += 1_000;
        system.send(&vitals(clock, 180.0)).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut events = system.events().await;
    let killed = Instant::now();
    first.abort();
    // The open alarm is published again by the successor.
    let told = event(&mut events, |alarm| alarm.id == raised.id).await;
    assert!(killed.elapsed() < Duration::from_secs(3), "{:?}", killed.elapsed());
    assert_eq!(told.state, AlarmState::Raised);
    assert_eq!(system.all().await.len(), 1);
    let latched = system.until(&mut clock, 72.0, AlarmRule::HeartRateExtremeHigh, AlarmState::Latched).await;
    assert_eq!(latched.id, raised.id);
    let path = format!("/api/v1/alarms/{}/acknowledge", raised.id);
    let (status, ended) = call(&router, Method::POST, &path, "Ann", None).await;
    assert_eq!((status, &ended["state"]), (StatusCode::OK, &json!("ended")));
    // Another occurrence is another alarm.
    let again = system.until(&mut clock, 180.0, AlarmRule::HeartRateExtremeHigh, AlarmState::Raised).await;
    assert_ne!(again.id, raised.id);
    second.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_process_continues_the_delay_of_a_rule() {
    let system = Fixture::new();
    let (_, first) = system.start(Notifications::default());
    let started = Instant::now();
    for second in 1..=6 {
        system.send(&vitals(second * 1_000, 130.0)).await;
    }
    while system.store.rule_states().await.unwrap().is_empty() {
        assert!(started.elapsed() < TIMEOUT);
        system.send(&vitals(6_500, 130.0)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    first.abort();
    let (_, second) = system.start(Notifications::default());
    let mut clock = 8_000;
    let raised = system.until(&mut clock, 130.0, AlarmRule::HeartRateHigh, AlarmState::Raised).await;
    let onset_ms = raised.onset_at.as_millis() - 1_700_000_000_000;
    assert!((1_000..=6_500).contains(&onset_ms), "the delay began before the restart: {onset_ms}");
    second.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_apply_at_once_and_bad_ones_change_nothing() {
    let system = Fixture::new();
    let (router, task) = system.start(Notifications::default());
    let path = "/api/v1/patients/7/limits";
    let limits: StoredLimits = serde_json::from_value(get(&router, path).await).unwrap();
    assert_eq!((limits.version, limits.effective.heart_rate_extreme_high), (0, Some(150)));
    for (limits, version, status, about) in [
        (json!({ "heart_rate_high": 160 }), 0, 422, "must be below the extreme high limit (150)"),
        (json!({ "heart_rate_high": 9 }), 0, 422, "from 10 to 350"),
        (json!({ "heart_rate_high": 110 }), 4, 409, "their version is 0"),
        (json!({ "heart_rate": 110 }), 0, 400, "unknown field"),
    ] {
        let body = Some(json!({ "limits": limits, "version": version }));
        let (found, problem) = call(&router, Method::PUT, path, "Ann", body).await;
        assert_eq!(found.as_u16(), status, "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(about), "{detail}");
    }
    assert_eq!(get(&router, path).await["version"], 0);
    let body =
        || Some(json!({ "limits": { "heart_rate_high": 100, "heart_rate_delay_s": 2 }, "version": 0 }));
    let (status, changed) = call(&router, Method::PUT, path, "Ann", body()).await;
    assert_eq!(status, StatusCode::OK, "{changed}");
    assert_eq!((&changed["version"], &changed["changed"]["by"]), (&json!(1), &json!("Ann")));
    assert_eq!(changed["effective"]["heart_rate_extreme_high"], 150);
    let (status, again) = call(&router, Method::PUT, path, "Ann", body()).await;
    assert_eq!((status, &again), (StatusCode::OK, &changed), "the gateway may repeat a call");
    let mut clock = 0;
    let raised = system.until(&mut clock, 110.0, AlarmRule::HeartRateHigh, AlarmState::Raised).await;
    assert_eq!(raised.text, "HR 110 > 100");
    let (status, _) = call(&router, Method::POST, "/api/v1/alarms/7/acknowledge", "Ann", None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let unknown = "/api/v1/alarms/67e55044-10b1-426f-9247-bb680e5fe0c8/acknowledge";
    let (status, _) = call(&router, Method::POST, unknown, "Ann", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, page) =
        call(&router, Method::POST, "/api/v1/patients/7/alarms/acknowledge", "Ann", None).await;
    assert_eq!((status, &page["items"][0]["state"]), (StatusCode::OK, &json!("acknowledged")));
    task.abort();
}

fn mrn(number: u64) -> Mrn {
    Mrn::new(number).unwrap()
}

fn author() -> Author {
    Author { name: "test".to_owned(), wards: None, granted: Vec::new(), at: Timestamp::now() }
}

impl Fixture {
    /// Stores a patient with a name.
    async fn add_patient(&self, number: u64) {
        let id = UploadId::from_uuid(Uuid::now_v7());
        let upload = NewUpload {
            id,
            fingerprint: BlobHash::of(id.to_string().as_bytes()),
            mrn: mrn(number),
            uploaded_by: None,
            received_at: Timestamp::now(),
            stored_at: Timestamp::now(),
            name: Some(format!("Patient {number}")),
            rename: Rename::No,
            heart_rate: None,
            images: Vec::new(),
            ecgs: Vec::new(),
            files: Vec::new(),
        };
        self.store.store_upload(&upload, Vec::new()).await.unwrap();
    }

    /// Adds a ward with one bed.
    async fn add_ward(&self, number: u128) -> (WardId, BedId) {
        let (ward, bed) =
            (WardId::from_uuid(Uuid::from_u128(number)), BedId::from_uuid(Uuid::from_u128(number * 10)));
        let name = format!("Ward {number}").parse().unwrap();
        self.store.change_ward(&WardChange::AddWard { ward, name }, &author()).await.unwrap();
        let name = "Bed 1".parse().unwrap();
        self.store.change_ward(&WardChange::AddBed { ward, bed, name }, &author()).await.unwrap();
        (ward, bed)
    }

    /// Changes the place of a patient, and publishes it as ingest does.
    async fn change_care(&self, number: u64, change: CareChange) {
        let patient = self.store.change_care(mrn(number), &change, &author()).await.unwrap().patient;
        let changes = vec![Change { kind: ChangeKind::Admission, id: None }];
        let update = PatientUpdated { upload_id: None, changes, patient, sent_at: None };
        self.bus.publish(&update, None).await.unwrap();
    }

    async fn admit(&self, number: u64, bed: BedId) {
        let stay = proto_json::RecordId::from_uuid(Uuid::now_v7());
        self.change_care(number, CareChange::Admit { bed, stay }).await;
    }

    /// Makes a correction, and publishes it as ingest does.
    async fn correct(&self, action: CorrectionAction, patients: &[u64]) {
        let id = CorrectionId::from_uuid(Uuid::now_v7());
        let (by, reason, at) = ("Ann".to_owned(), "wrong number".to_owned(), Timestamp::now());
        self.store
            .correct(&NewCorrection { id, action, by, reason, at, wards: None, granted: Vec::new() })
            .await
            .unwrap();
        for number in patients {
            self.bus.publish_event(&SystemEvent::Patient { mrn: mrn(*number) }).await.unwrap();
        }
        while self.store.running_corrections().await.unwrap().contains(&id) {
            let step = self.store.continue_correction(id, Timestamp::now()).await.unwrap();
            if matches!(step, CorrectionStep::Erased(_)) {
                self.store.finish_erasure(id).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_the_ward_apply_to_its_patients_and_users_of_other_wards_find_no_alarm() {
    let system = Fixture::new();
    let ((ward, bed), (other, _)) = (system.add_ward(1).await, system.add_ward(2).await);
    system.add_patient(7).await;
    let (router, task) = system.start(Notifications::default());
    let body = Some(json!({ "limits": { "heart_rate_high": 100, "heart_rate_delay_s": 2 }, "version": 0 }));
    let path = format!("/api/v1/wards/{ward}/limits");
    let (status, problem) =
        call_as(&router, Method::PUT, &path, "Bob", Some(vec![other]), body.clone()).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{problem}");
    let (status, _) = call_as(&router, Method::PUT, &path, "Ann", Some(vec![ward]), body).await;
    assert_eq!(status, StatusCode::OK);
    let effective =
        async || get(&router, "/api/v1/patients/7/limits").await["effective"]["heart_rate_high"].clone();
    assert_eq!(effective().await, 120);
    system.admit(7, bed).await;
    assert_eq!(effective().await, 100);
    let mut clock = 0;
    let raised = system.until(&mut clock, 110.0, AlarmRule::HeartRateHigh, AlarmState::Raised).await;
    assert_eq!(raised.text, "HR 110 > 100");

    let as_bob =
        async |method, path: &str| call_as(&router, method, path, "Bob", Some(vec![other]), None).await;
    let act = format!("/api/v1/alarms/{}/acknowledge", raised.id);
    for (method, path) in [
        (Method::POST, act.as_str()),
        (Method::POST, "/api/v1/patients/7/alarms/acknowledge"),
        (Method::GET, "/api/v1/alarms?mrn=7"),
        (Method::GET, "/api/v1/patients/7/limits"),
        (Method::PUT, "/api/v1/patients/7/limits"),
    ] {
        let (status, problem) = as_bob(method, path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {problem}");
    }
    let (_, list) = as_bob(Method::GET, "/api/v1/alarms").await;
    assert_eq!(list["items"], json!([]));
    let granted = |number: u64| Actor {
        name: "Bob".into(),
        role: "nurse".into(),
        wards: Some(vec![other]),
        granted: vec![mrn(number)],
        address: None,
    };
    for (number, expected) in [(7, json!([raised.clone()])), (8, json!([]))] {
        let (_, list) = call_of(&router, Method::GET, "/api/v1/alarms", granted(number), None).await;
        assert_eq!(list["items"], expected, "with emergency access to {number}");
    }
    let (status, _) = call_of(&router, Method::GET, &path, granted(7), None).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "the limits of the ward");
    let (status, _) = call_of(&router, Method::POST, &act, granted(8), None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, paused) =
        call_of(&router, Method::POST, &act.replace("acknowledge", "audio-pause"), granted(7), None).await;
    assert_eq!(status, StatusCode::OK, "{paused}");
    let (status, seen) = call_as(&router, Method::POST, &act, "Ann", Some(vec![ward]), None).await;
    assert_eq!((status, &seen["state"]), (StatusCode::OK, &json!("acknowledged")));
    task.abort();
}

/// Vitals of patient 7 without an electrode.
fn without_electrode(clock: i64) -> Vitals {
    Vitals { lead_off: vec!["MDC_ECG_LEAD_II".to_owned()], ..vitals(clock, 72.0) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discharge_ends_technical_alarms_also_if_the_process_did_not_run() {
    for restarts in [false, true] {
        let system = Fixture::new();
        let (_, bed) = system.add_ward(1).await;
        system.add_patient(7).await;
        system.admit(7, bed).await;
        let (_, task) = system.start(Notifications::default());
        let (mut clock, started) = (0, Instant::now());
        let raised = loop {
            clock += 1_000;
            system.send(&without_electrode(clock)).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Some(alarm) = system.all().await.into_iter().find(|alarm| alarm.rule == AlarmRule::LeadOff)
            {
                break alarm;
            }
            assert!(started.elapsed() < TIMEOUT);
        };
        let states = async || system.store.rule_states().await.unwrap();
        while !states().await.iter().any(|state| state.state.contains("admitted_at")) {
            assert!(started.elapsed() < TIMEOUT);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if restarts {
            task.abort();
        }
        system.change_care(7, CareChange::Discharge { from: None }).await;
        let (_, second) = system.start(Notifications::default());
        let ended = loop {
            let alarm = system.store.alarm(raised.id).await.unwrap().unwrap();
            if !alarm.is_open() {
                break alarm;
            }
            assert!(started.elapsed() < TIMEOUT, "{alarm:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(ended.end_reason, Some(AlarmEndReason::Discharged));
        task.abort();
        second.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merged_or_erased_patient_keeps_no_open_alarm_and_a_late_device_raises_those_of_the_survivor() {
    for (action, reason) in [
        (CorrectionAction::Merged { from: mrn(7), into: mrn(8) }, AlarmEndReason::Merged),
        (CorrectionAction::Erased { mrn: mrn(7) }, AlarmEndReason::Erased),
    ] {
        let system = Fixture::new();
        system.add_patient(7).await;
        system.add_patient(8).await;
        let (_, task) = system.start(Notifications::default());
        let mut clock = 0;
        let raised =
            system.until(&mut clock, 180.0, AlarmRule::HeartRateExtremeHigh, AlarmState::Raised).await;
        let mut events = system.events().await;
        system.correct(action, &[7, 8]).await;
        let over = event(&mut events, |alarm| alarm.id == raised.id && !alarm.is_open()).await;
        assert_eq!(over.end_reason, Some(reason));
        for _ in 0..10 {
            clock += 1_000;
            system.send(&vitals(clock, 180.0)).await;
        }
        let started = Instant::now();
        while reason == AlarmEndReason::Merged && system.store.open_alarms().await.unwrap().is_empty() {
            assert!(started.elapsed() < TIMEOUT, "the survivor has an alarm");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let open = system.store.open_alarms().await.unwrap();
        let of: Vec<_> = open.iter().map(|alarm| (alarm.mrn, alarm.rule)).collect();
        let expected = [(mrn(8), AlarmRule::HeartRateExtremeHigh)];
        assert_eq!(of, if reason == AlarmEndReason::Merged { &expected[..] } else { &[] });
        task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emergency_access_raises_one_notice_that_stays_until_it_is_seen() {
    let system = Fixture::new();
    let (router, task) = system.start(Notifications::default());
    let path = "/api/v1/patients/7/emergency";
    let notice = async |user: &str, at: i64| {
        let body = Some(json!({ "at": Timestamp::from_millis(1_700_000_000_000 + at).unwrap() }));
        let (status, alarm) = call(&router, Method::POST, path, user, body).await;
        assert_eq!(status, StatusCode::OK, "{alarm}");
        alarm
    };
    let first = notice("Ann", 1).await;
    assert_eq!((&first["state"], &first["text"]), (&json!("latched"), &json!("Emergency access by Ann")));
    assert_eq!(notice("Ann", 1).await, first, "the gateway repeats a call");
    let second = notice("Bob", 2).await;
    assert_eq!((&second["id"], &second["text"]), (&first["id"], &json!("Emergency access by Bob")));
    let id = first["id"].as_str().unwrap();
    let (status, seen) =
        call(&router, Method::POST, &format!("/api/v1/alarms/{id}/acknowledge"), "Zoë", None).await;
    assert_eq!((status, &seen["state"]), (StatusCode::OK, &json!("ended")));
    assert_eq!(notice("Ann", 1).await["state"], "ended", "the repeated call raises nothing again");
    assert_eq!(system.all().await.len(), 1);
    for body in [None, Some(json!({})), Some(json!({ "at": "now" }))] {
        let (status, problem) = call(&router, Method::POST, path, "Ann", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    }
    task.abort();
}

/// A receiver of webhooks that answers with these statuses, then with 200.
async fn receiver(
    mut statuses: Vec<u16>,
) -> (String, tokio::sync::mpsc::UnboundedReceiver<(HeaderMap, Vec<u8>)>) {
    let (sender, received) = tokio::sync::mpsc::unbounded_channel();
    statuses.reverse();
    let statuses = Arc::new(std::sync::Mutex::new(statuses));
    let router = Router::new().fallback(move |headers: HeaderMap, body: axum::body::Bytes| {
        let (sender, statuses) = (sender.clone(), Arc::clone(&statuses));
        async move {
            let _ = sender.send((headers, body.to_vec()));
            let status = statuses.lock().unwrap().pop().unwrap_or(200);
            StatusCode::from_u16(status).unwrap()
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = http_server::Limits::of("receiver");
    tokio::spawn(async move {
        let _ = http_server::serve(listener, router, limits, &Shutdown::new()).await;
    });
    (format!("http://{address}/hook"), received)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhook_is_signed_repeated_after_a_failure_and_a_rejected_one_is_listed() {
    let secret = "webhook-secret-0123456789abcdef0123456789";
    let system = Fixture::new();
    let (url, mut received) = receiver(vec![503, 200, 400]).await;
    let file = system._folder.path().join("secret");
    std::fs::write(&file, secret).unwrap();
    let notifications =
        NotifyArgs { alertmanager: None, webhooks: vec![url.clone()], webhook_secret_file: Some(file) };
    let (router, task) = system.start(notifications.open().unwrap());
    let mut clock = 0;
    let raised = system.until(&mut clock, 180.0, AlarmRule::HeartRateExtremeHigh, AlarmState::Raised).await;
    let mut next = async || tokio::time::timeout(TIMEOUT, received.recv()).await.unwrap().unwrap();
    let (first, (headers, body)) = (next().await, next().await);
    assert_eq!(first.1, body, "the same state again after 503");
    let delivered: Alarm = serde_json::from_slice(&body).unwrap();
    assert_eq!(delivered, raised);
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("bedside-delivery"), format!("{}/1", raised.id));
    let message = [header("bedside-timestamp").as_bytes(), b".", &body].concat();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let hash: String =
        ring::hmac::sign(&key, &message).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(header("bedside-signature"), format!("sha256={hash}"));
    // The next state is rejected for good.
    call(&router, Method::POST, &format!("/api/v1/alarms/{}/acknowledge", raised.id), "Ann", None).await;
    next().await;
    let started = Instant::now();
    let letter = loop {
        let letters = get(&router, "/api/v1/alarms/undelivered").await;
        if let Some(letter) = letters["items"].get(0) {
            break letter.clone();
        }
        assert!(started.elapsed() < TIMEOUT);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((&letter["receiver"], &letter["alarm"]["state"]), (&json!(url), &json!("acknowledged")));
    assert_eq!((&letter["attempts"], &letter["version"]), (&json!(1), &json!(2)));
    // It is stored.
    task.abort();
    let (router, task) = system.start(Notifications::default());
    assert_eq!(get(&router, "/api/v1/alarms/undelivered").await["items"][0], letter);
    task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhook_that_a_killed_process_has_not_delivered_is_delivered_by_the_next_one_and_none_is_missed() {
    let system = Fixture::new();
    // The first process does not get through.
    let (url, mut received) = receiver(vec![503; 3]).await;
    let file = system._folder.path().join("secret");
    std::fs::write(&file, "webhook-secret-0123456789abcdef0123456789").unwrap();
    let notifications =
        NotifyArgs { alertmanager: None, webhooks: vec![url], webhook_secret_file: Some(file) };
    let notifications = notifications.open().unwrap();
    let (router, first) = system.start(notifications.clone());
    let mut clock = 0;
    let raised = system.until(&mut clock, 180.0, AlarmRule::HeartRateExtremeHigh, AlarmState::Raised).await;
    let mut next = async || {
        let (headers, _) = tokio::time::timeout(TIMEOUT, received.recv()).await.unwrap().unwrap();
        headers["bedside-delivery"].to_str().unwrap().to_owned()
    };
    assert_eq!(next().await, format!("{}/1", raised.id));
    // Killed after the failed attempt; the alarm ends while no process evaluates.
    system.until(&mut clock, 72.0, AlarmRule::HeartRateExtremeHigh, AlarmState::Latched).await;
    first.abort();
    let path = format!("/api/v1/alarms/{}/acknowledge", raised.id);
    let (status, ended) = call(&router, Method::POST, &path, "Ann", None).await;
    assert_eq!((status, &ended["state"]), (StatusCode::OK, &json!("ended")));
    let (_, second) = system.start(notifications.clone());
    let last = format!("{}/{}", raised.id, ended["version"]);
    while next().await != last {}
    // What was delivered is not delivered again after another kill.
    let started = Instant::now();
    while !system.store.receiver_states().await.unwrap()[0].state.contains(&raised.id.to_string()) {
        assert!(started.elapsed() < TIMEOUT);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The rules know that the condition is over.
    while system.store.rule_states().await.unwrap().iter().any(|state| state.state.contains("extreme_high")) {
        assert!(started.elapsed() < TIMEOUT);
        clock += 1_000;
        system.send(&vitals(clock, 72.0)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The attempts until the delivery.
    while received.try_recv().is_ok() {}
    second.abort();
    let (_, third) = system.start(notifications);
    let again = system.until(&mut clock, 180.0, AlarmRule::HeartRateExtremeHigh, AlarmState::Raised).await;
    assert_ne!(again.id, raised.id);
    let (headers, _) = tokio::time::timeout(TIMEOUT, received.recv()).await.unwrap().unwrap();
    let delivery = headers["bedside-delivery"].to_str().unwrap();
    assert_eq!(delivery, format!("{}/1", again.id), "the next delivery is a new one");
    third.abort();
}
