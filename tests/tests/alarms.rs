//! Alarms of live patients, in both ways to run: from the samples of a device to the event at a client, with processes that
//! are killed.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use client::{Gateway, SenderSettings, WaveformSender};
use ecg::synth::{PatientSettings, Rhythm, SimulatedLead, SimulatedPatient};
use futures::StreamExt;
use proto_json::alarms::{Alarm, AlarmPage, AlarmRule, AlarmState, AlarmUpdated};
use proto_json::{Channel, Device, Mrn, SampleRate, Segment};
use testkit::{Extras, Mode, Service, System, free_port, http_client, within};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;

const RATE_HZ: u32 = 250;
const FRAME: usize = 50;
const SCALE: f64 = 0.002;
/// Longest time from the last QRS complex, or from the second beat of another rhythm, to the alarm at a client.
const DELAY: Duration = Duration::from_secs(5);
/// Longest time from an action to its appearance at the stations, at the 99th percentile.
const VISIBLE: Duration = Duration::from_millis(500);
/// What a machine that is busy with other programs may add. The measured times are printed.
const BUSY: Duration = Duration::from_millis(1_500);
/// A gateway whose broker was restarted connects again within this time.
const RECONNECT: Duration = Duration::from_secs(5);
/// One test at a time, because they measure times.
static ALONE: Mutex<()> = Mutex::const_new(());

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

/// A device that sends one lead of a simulated patient, as fast as it is recorded.
struct Bed {
    mrn: Mrn,
    settings: watch::Sender<PatientSettings>,
    /// Times of the beats that were sent, in microseconds since 1970, and how many there are.
    beats: watch::Receiver<Vec<i64>>,
    task: JoinHandle<()>,
}

impl Bed {
    fn start(gateway: Gateway, number: u64) -> Self {
        Self::with_clock(gateway, number, |_| 0)
    }

    /// A device whose clock states the start of each frame this many microseconds too late.
    fn with_clock(gateway: Gateway, number: u64, late_us: fn(u64) -> i64) -> Self {
        let mrn = Mrn::new(number).unwrap();
        let channel = Channel {
            label: "II".to_owned(),
            code: "MDC_ECG_LEAD_II".to_owned(),
            unit: "mV".to_owned(),
            rate: SampleRate::new(RATE_HZ, 1).unwrap(),
            scale: SCALE,
            offset: 0.0,
        };
        let device = Device { name: "Simulated".to_owned(), serial: number.to_string() };
        let sender = WaveformSender::start(SenderSettings::new(gateway, mrn, device, vec![channel])).unwrap();
        let (settings, mut changes) = watch::channel(PatientSettings::default());
        let (beats_of, beats) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            let initial = changes.borrow_and_update().clone();
            let mut patient =
                SimulatedPatient::new(&initial, &[SimulatedLead::II], f64::from(RATE_HZ), number);
            let start_us = now_us();
            let started = tokio::time::Instant::now();
            let mut known: BTreeSet<i64> = BTreeSet::new();
            for frame in 0_u64.. {
                let end = Duration::from_millis((frame + 1) * 200);
                tokio::time::sleep_until(started + end).await;
                if changes.has_changed().is_ok_and(|changed| changed) {
                    let settings = changes.borrow_and_update().clone();
                    patient.set(&settings);
                }
                let mut out = [0.0];
                let samples = (0..FRAME)
                    .map(|_| {
                        patient.next_ecg(&mut out);
                        (f64::from(out[0]) / SCALE).round() as i16
                    })
                    .collect();
                let first = frame * FRAME as u64;
                let segment = Segment { channel: 0, first, lead_off: false, samples };
                let time_us = start_us + (frame * 200_000) as i64 + late_us(frame);
                sender.send_frame(time_us, vec![segment]).unwrap();
                let sent_s = patient.time_s();
                let times = patient.beat_times_s().filter(|time| (0.0..=sent_s).contains(time));
                known.extend(times.map(|time| start_us + (time * 1e6) as i64));
                beats_of.send_replace(known.iter().copied().collect());
            }
        });
        Bed { mrn, settings, beats, task }
    }

    fn set(&self, settings: PatientSettings) {
        self.settings.send_replace(settings);
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client of the event stream: every alarm event with the time of its arrival, and all versions of each alarm.
struct Station {
    events: mpsc::UnboundedReceiver<(Alarm, i64)>,
    task: JoinHandle<()>,
}

impl Station {
    /// Connects again whenever the stream ends, and then loads the open alarms, as the apps do.
    async fn start(url: String) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let (ready, mut is_ready) = watch::channel(false);
        let task = tokio::spawn(async move {
            loop {
                let _ = follow(&url, &sender, &ready).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        is_ready.wait_for(|ready| *ready).await.unwrap();
        Station { events, task }
    }

    /// The next event that fulfils the condition, and when it arrived.
    async fn next(&mut self, what: &str, is_it: impl Fn(&Alarm) -> bool) -> (Alarm, i64) {
        let waiting = async {
            loop {
                let event = self.events.recv().await.unwrap();
                if is_it(&event.0) {
                    return event;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("{what}"))
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn open_alarms(url: &str) -> Option<Vec<Alarm>> {
    let answer = http_client().get(format!("{url}/api/v1/alarms?limit=500")).send().await.ok()?;
    answer.json::<AlarmPage>().await.ok().map(|page| page.items)
}

async fn follow(
    url: &str,
    sender: &mpsc::UnboundedSender<(Alarm, i64)>,
    ready: &watch::Sender<bool>,
) -> Result<(), reqwest::Error> {
    let stream = http_client().get(format!("{url}/api/v1/events")).send().await?.error_for_status()?;
    for alarm in open_alarms(url).await.unwrap_or_default() {
        let _ = sender.send((alarm, now_us()));
    }
    ready.send_replace(true);
    let (mut bytes, mut text) = (stream.bytes_stream(), String::new());
    while let Some(part) = bytes.next().await {
        text.push_str(&String::from_utf8_lossy(&part?));
        while let Some((event, rest)) = text.split_once("\n\n") {
            let is_alarm = event.lines().any(|line| line == "event: alarm");
            if let Some(data) =
                event.lines().find_map(|line| line.strip_prefix("data: ")).filter(|_| is_alarm)
            {
                let update: AlarmUpdated = serde_json::from_str(data).unwrap();
                let _ = sender.send((update.alarm, now_us()));
            }
            text = rest.to_owned();
        }
    }
    Ok(())
}

fn asystole() -> PatientSettings {
    PatientSettings { rhythm: Rhythm::Asystole, ..PatientSettings::default() }
}

fn rate(mean_bpm: f64) -> PatientSettings {
    PatientSettings { mean_bpm, rr_sd_ms: 5.0, ..PatientSettings::default() }
}

fn tachycardia() -> PatientSettings {
    PatientSettings { rhythm: Rhythm::VentricularTachycardia, ..rate(190.0) }
}

/// The last beat before `before_us`.
fn last_beat(bed: &Bed, before_us: i64) -> i64 {
    bed.beats.borrow().iter().copied().filter(|beat| *beat < before_us).max().unwrap()
}

/// The beat with which the intervals are at most (or at least) this long for the first time after `after_us`: the end of the
/// second such interval.
fn second_interval(bed: &Bed, after_us: i64, is_it: impl Fn(i64) -> bool) -> i64 {
    let beats = bed.beats.borrow().clone();
    let mut ends = beats.windows(2).filter(|pair| pair[1] > after_us && is_it(pair[1] - pair[0]));
    ends.next();
    ends.next().unwrap()[1]
}

async fn alarms_of_live_patients(mode: Mode) {
    let alertmanager = Alertmanager::start();
    let arguments = vec!["--alertmanager".to_owned(), alertmanager.url.clone()];
    let system = System::start_extra(mode, &Extras { alarms: arguments, ..Extras::default() });
    let beds: Vec<Bed> = (1..=4).map(|number| Bed::start(system.gateway(), number)).collect();
    let (mut one, mut other) = (Station::start(system.url()).await, Station::start(system.url()).await);
    // The analysis knows the rhythm of each patient.
    tokio::time::sleep(Duration::from_secs(14)).await;
    let cases = [
        (asystole(), AlarmRule::Asystole),
        (tachycardia(), AlarmRule::VentricularRun),
        (rate(30.0), AlarmRule::HeartRateExtremeLow),
        (rate(180.0), AlarmRule::HeartRateExtremeHigh),
    ];
    let changed_us = now_us();
    let mut expected = BTreeMap::new();
    for (bed, (settings, rule)) in beds.iter().zip(cases) {
        bed.set(settings);
        expected.insert((bed.mrn, rule), bed);
    }
    let mut ids = BTreeSet::new();
    for station in [&mut one, &mut other] {
        let mut expected = expected.clone();
        while !expected.is_empty() {
            let missing: Vec<_> = expected.keys().copied().collect();
            let (alarm, arrived_us) = station
                .next(&format!("{missing:?}"), |alarm| {
                    alarm.state == AlarmState::Raised && expected.contains_key(&(alarm.mrn, alarm.rule))
                })
                .await;
            let bed = expected.remove(&(alarm.mrn, alarm.rule)).unwrap();
            let from_us = match alarm.rule {
                AlarmRule::Asystole => last_beat(bed, arrived_us),
                AlarmRule::HeartRateExtremeLow => {
                    second_interval(bed, changed_us, |interval| interval > 1_700_000)
                }
                _ => second_interval(bed, changed_us, |interval| interval < 400_000),
            };
            let delay = Duration::from_micros((arrived_us - from_us).max(0) as u64);
            println!("{mode:?} {}: {delay:?}", alarm.rule.name());
            assert!(delay <= DELAY + BUSY, "{}: {delay:?}", alarm.rule.name());
            ids.insert(alarm.id.to_string());
        }
    }
    assert_eq!(ids.len(), 4, "both stations got the same alarms");
    within("Alertmanager has all of them", || async {
        let found: BTreeSet<String> = alertmanager.ids().await?;
        ids.is_subset(&found).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alarms_of_live_patients_reach_a_client_in_time_standalone() {
    let _alone = ALONE.lock().await;
    alarms_of_live_patients(Mode::Standalone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alarms_of_live_patients_reach_a_client_in_time_as_processes() {
    let _alone = ALONE.lock().await;
    alarms_of_live_patients(Mode::Processes).await;
}

/// Kills a service, starts it again, and verifies that the alarm of the patient is still the same one.
async fn kill_and_compare(system: &mut System, service: Service, before: &Alarm) {
    system.service(service).restart();
    let url = system.url();
    let after = within("the alarm is listed after a kill", || async {
        open_alarms(&url).await?.into_iter().find(|alarm| alarm.rule == before.rule)
    })
    .await;
    assert_eq!((after.id, after.state), (before.id, before.state), "{service:?}");
}

/// One alarm, two stations, an acknowledgement, and a kill of every process that takes part.
async fn kills(mode: Mode) {
    let mut system = System::start(mode);
    let bed = Bed::start(system.gateway(), 7);
    let (mut one, mut other) = (Station::start(system.url()).await, Station::start(system.url()).await);
    tokio::time::sleep(Duration::from_secs(12)).await;
    bed.set(rate(180.0));
    let is_it = |alarm: &Alarm| alarm.rule == AlarmRule::HeartRateExtremeHigh;
    let (raised, _) = one.next("raised", is_it).await;
    other.next("raised at the other station", is_it).await;

    for service in [Service::Alarms, Service::Gateway, Service::EcgWorker] {
        kill_and_compare(&mut system, service, &raised).await;
        if mode == Mode::Standalone {
            break;
        }
    }
    if let Some(nats) = system.nats() {
        nats.restart();
    }
    let url = system.url();
    let path = format!("{url}/api/v1/alarms/{}/acknowledge", raised.id);
    let acknowledged_us = within("the acknowledgement is stored", || async {
        let answer = http_client().post(&path).send().await.ok()?;
        answer.status().is_success().then(now_us)
    })
    .await;
    let (seen, arrived_us) =
        other.next("acknowledged", |alarm| is_it(alarm) && alarm.state == AlarmState::Acknowledged).await;
    assert_eq!(seen.id, raised.id);
    let delay = Duration::from_micros((arrived_us - acknowledged_us).max(0) as u64);
    let limit = if mode == Mode::Processes { RECONNECT } else { VISIBLE + BUSY };
    assert!(delay < limit, "{delay:?}");
    // The condition is over: the acknowledged alarm ends, and there was only one.
    bed.set(rate(70.0));
    let over = within("the alarm ends", || async {
        let answer = http_client().get(format!("{url}/api/v1/alarms?state=all&mrn=7")).send().await.ok()?;
        let page = answer.json::<AlarmPage>().await.ok()?;
        let of_rule: Vec<Alarm> = page.items.into_iter().filter(is_it).collect();
        of_rule.iter().all(|alarm| alarm.state == AlarmState::Ended).then_some(of_rule)
    })
    .await;
    assert_eq!(over.iter().map(|alarm| alarm.id).collect::<Vec<_>>(), [raised.id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_of_a_process_loses_duplicates_and_ends_no_alarm_standalone() {
    let _alone = ALONE.lock().await;
    kills(Mode::Standalone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_of_a_process_loses_duplicates_and_ends_no_alarm_as_processes() {
    let _alone = ALONE.lock().await;
    kills(Mode::Processes).await;
}

/// Kills the alarms while the condition of an alarm begins: two stations and Alertmanager get the alarm once, and an
/// acknowledgement at one station is visible at both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alarm_whose_condition_begins_during_a_kill_reaches_two_stations_and_alertmanager_once() {
    let _alone = ALONE.lock().await;
    let alertmanager = Alertmanager::start();
    let arguments = vec!["--alertmanager".to_owned(), alertmanager.url.clone()];
    let mut system = System::start_extra(Mode::Processes, &Extras { alarms: arguments, ..Extras::default() });
    let url = system.url();
    let bed = Bed::start(system.gateway(), 1);
    let (mut one, mut other) = (Station::start(url.clone()).await, Station::start(url.clone()).await);
    tokio::time::sleep(Duration::from_secs(14)).await;
    bed.set(asystole());
    tokio::time::sleep(Duration::from_secs(1)).await;
    system.service(Service::Alarms).restart();
    let restarted = Instant::now();
    let is_it = |alarm: &Alarm| alarm.mrn == bed.mrn && alarm.rule == AlarmRule::Asystole;
    let what = "raised in spite of a kill of the alarms";
    let (raised, _) = one.next(what, is_it).await;
    let (same, _) = other.next(what, is_it).await;
    assert_eq!((same.id, same.state), (raised.id, AlarmState::Raised));
    println!("raised {:?} after the restart", restarted.elapsed());
    let path = format!("{url}/api/v1/alarms/{}/acknowledge", raised.id);
    let acknowledged_us = within("the acknowledgement is stored", || async {
        let answer = http_client().post(&path).send().await.ok()?;
        answer.status().is_success().then(now_us)
    })
    .await;
    for station in [&mut one, &mut other] {
        let is_seen = |alarm: &Alarm| is_it(alarm) && alarm.state == AlarmState::Acknowledged;
        let (_, arrived_us) = station.next("acknowledged", is_seen).await;
        let delay = Duration::from_micros((arrived_us - acknowledged_us).max(0) as u64);
        assert!(delay < VISIBLE + BUSY, "{delay:?}");
    }
    let id = raised.id.to_string();
    within("Alertmanager has the alarm", || async { alertmanager.ids().await?.contains(&id).then_some(()) })
        .await;
    let answer = http_client().get(format!("{url}/api/v1/alarms?state=all&mrn={}", bed.mrn)).send().await;
    let all = answer.unwrap().json::<AlarmPage>().await.unwrap().items;
    let of_rule: Vec<_> = all.iter().filter(|alarm| is_it(alarm)).map(|alarm| alarm.id).collect();
    assert_eq!(of_rule, [raised.id], "one alarm");
}

/// Debian's Alertmanager on a free port.
struct Alertmanager {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Alertmanager {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let config = folder.path().join("alertmanager.yml");
        std::fs::write(&config, "route: { receiver: none }\nreceivers: [{ name: none }]\n").unwrap();
        let tools = std::env::var_os("BEDSIDE_TEST_PROMETHEUS").expect("BEDSIDE_TEST_PROMETHEUS is set");
        let tools = std::path::PathBuf::from(tools);
        // Debian's program reads its templates from a fixed path, where only an installed package has them.
        let script = "[ -e /usr/share/prometheus/alertmanager ] || {
                mount -t tmpfs none /usr/share && mkdir /usr/share/prometheus &&
                cp -r \"$0/../share/prometheus/alertmanager\" /usr/share/prometheus/
            } && exec \"$0/prometheus-alertmanager\" \"$@\"";
        let child = Command::new("unshare")
            .args(["-m", "sh", "-c", script])
            .arg(&tools)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.path().display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Alertmanager starts");
        Alertmanager { child, url: format!("http://127.0.0.1:{port}"), _folder: folder }
    }

    /// The ids of the alarms that it has.
    async fn ids(&self) -> Option<BTreeSet<String>> {
        let alerts = self.alerts().await?;
        Some(alerts.iter().filter_map(|alert| alert["labels"]["alarm"].as_str().map(str::to_owned)).collect())
    }

    /// The alerts with their labels and whether they are active.
    async fn alerts(&self) -> Option<Vec<serde_json::Value>> {
        let answer = http_client().get(format!("{}/api/v2/alerts", self.url)).send().await.ok()?;
        answer.json().await.ok()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alertmanager_receives_an_alarm_and_its_end() {
    let _alone = ALONE.lock().await;
    let alertmanager = Arc::new(Alertmanager::start());
    let arguments = vec!["--alertmanager".to_owned(), alertmanager.url.clone()];
    let system = System::start_extra(Mode::Standalone, &Extras { alarms: arguments, ..Extras::default() });
    let upload = async |bpm: u32| {
        let form = reqwest::multipart::Form::new().text("heart_rate", bpm.to_string());
        let path = format!("{}/api/v1/patients/7/uploads", system.url());
        assert_eq!(http_client().post(path).multipart(form).send().await.unwrap().status().as_u16(), 201);
    };
    upload(190).await;
    let alert =
        within("Alertmanager has the alarm", || async { alertmanager.alerts().await?.into_iter().next() });
    let alert = alert.await;
    let labels = &alert["labels"];
    assert_eq!(
        (&labels["rule"], &labels["priority"], &labels["mrn"]),
        (&"heart_rate_extreme_high".into(), &"high".into(), &"7".into())
    );
    assert_eq!(alert["annotations"]["summary"], "HR 190 > 150");
    upload(70).await;
    let id = labels["alarm"].as_str().unwrap();
    let path = format!("{}/api/v1/alarms/{id}/acknowledge", system.url());
    within("the latched alarm is acknowledged and ends", || async {
        let answer = http_client().post(&path).send().await.ok()?.json::<Alarm>().await.ok()?;
        (answer.state == AlarmState::Ended).then_some(())
    })
    .await;
    // Resolved alerts are not listed.
    within("the alert is resolved", || async { alertmanager.alerts().await?.is_empty().then_some(()) }).await;
}

async fn acknowledgements(mode: Mode) {
    const ALARMS: u64 = 40;
    let system = System::start(mode);
    let url = system.url();
    for mrn in 1..=ALARMS {
        let form = reqwest::multipart::Form::new().text("heart_rate", "190");
        let path = format!("{url}/api/v1/patients/{mrn}/uploads");
        assert_eq!(http_client().post(path).multipart(form).send().await.unwrap().status().as_u16(), 201);
    }
    let open = within("all alarms are raised", || async {
        open_alarms(&url).await.filter(|open| open.len() as u64 == ALARMS)
    })
    .await;
    let mut stations = [Station::start(url.clone()).await, Station::start(url.clone()).await];
    let mut delays = Vec::new();
    // An audio pause, then the acknowledgement.
    for (call, is_done) in [
        ("audio-pause", (|alarm| alarm.audio_paused_until.is_some()) as fn(&Alarm) -> bool),
        ("acknowledge", |alarm| alarm.state == AlarmState::Acknowledged),
    ] {
        for alarm in &open {
            let path = format!("{url}/api/v1/alarms/{}/{call}", alarm.id);
            let begun_us = now_us();
            assert!(http_client().post(path).send().await.unwrap().status().is_success());
            for station in &mut stations {
                let is_it = |event: &Alarm| event.id == alarm.id && is_done(event);
                let (_, arrived_us) = station.next(call, is_it).await;
                delays.push(Duration::from_micros((arrived_us - begun_us).max(0) as u64));
            }
        }
    }
    delays.sort();
    let p99 = delays[delays.len() * 99 / 100];
    let median = delays[delays.len() / 2];
    println!(
        "{mode:?}: action visible at both stations: median {median:?}, p99 {p99:?}, of {}",
        delays.len()
    );
    assert!(p99 < VISIBLE + BUSY, "{delays:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actions_are_visible_at_two_stations_within_500_ms_standalone() {
    let _alone = ALONE.lock().await;
    acknowledgements(Mode::Standalone).await;
}

/// Longest time from the end of a restart to an alarm whose condition began before it. It includes the waits after failed connections
/// of the device, the gateway and the worker, each at most 4 s.
const AFTER_RESTART: Duration = Duration::from_secs(20);

/// The clock of a device that starts while it is busy, within the jitter that the gateway ignores.
fn first_frame_is_late(frame: u64) -> i64 {
    if frame == 0 { 220_000 } else { 0 }
}

/// Begins an asystole, waits until the last beat is `silent` ago, and restarts a part of the system. The alarm reaches a station,
/// once.
async fn asystole_with_a_restart(
    system: &mut System,
    bed: &Bed,
    station: &mut Station,
    silent: Duration,
    what: &str,
    restart: impl FnOnce(&mut System),
) {
    bed.set(asystole());
    let last_us = loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let last_us = last_beat(bed, now_us());
        if now_us() - last_us >= silent.as_micros() as i64 {
            break last_us;
        }
    };
    let begun = Instant::now();
    tokio::task::block_in_place(|| restart(system));
    let (took, restarted) = (begun.elapsed(), Instant::now());
    let is_it = |alarm: &Alarm| alarm.mrn == bed.mrn && alarm.rule == AlarmRule::Asystole;
    let (raised, arrived_us) = station.next(what, is_it).await;
    let waited = restarted.elapsed();
    println!(
        "{what}: restart {took:?}, raised {waited:?} after it, {} ms after the last beat",
        (arrived_us - last_us) / 1_000
    );
    assert!(waited < AFTER_RESTART + BUSY, "{what}: {waited:?}");
    let url = system.url();
    let all = within("the alarms are listed", || async {
        let answer =
            http_client().get(format!("{url}/api/v1/alarms?state=all&mrn={}", bed.mrn)).send().await.ok()?;
        answer.json::<AlarmPage>().await.ok()
    })
    .await;
    let of_rule: Vec<_> = all.items.iter().filter(|alarm| is_it(alarm)).map(|alarm| alarm.id).collect();
    assert_eq!(of_rule, [raised.id], "{what}: one alarm");
}

/// The patient has a heart rate, no alarm of asystole, and never had one.
async fn has_no_asystole(system: &System, bed: &Bed) {
    let url = format!("{}/api/v1/alarms?state=all&mrn={}", system.url(), bed.mrn);
    let page = within("the alarms are listed", || async {
        http_client().get(&url).send().await.ok()?.json::<AlarmPage>().await.ok()
    })
    .await;
    let wrong: Vec<_> = page.items.iter().filter(|alarm| alarm.rule == AlarmRule::Asystole).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// An asystole begins shortly before a process is killed: the gateway, the broker, the worker. Another patient is healthy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asystole_that_begins_before_a_restart_raises_one_alarm_as_processes() {
    let _alone = ALONE.lock().await;
    let mut system = System::start(Mode::Processes);
    let beds: Vec<Bed> =
        (1..=4).map(|number| Bed::with_clock(system.gateway(), number, first_frame_is_late)).collect();
    let mut station = Station::start(system.url()).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    let second = Duration::from_secs(1);
    let gateway = |system: &mut System| system.service(Service::Gateway).restart();
    asystole_with_a_restart(&mut system, &beds[0], &mut station, second, "gateway", gateway).await;
    let broker = |system: &mut System| system.nats().unwrap().restart();
    asystole_with_a_restart(&mut system, &beds[1], &mut station, second, "broker", broker).await;
    // So late that the successor sees no beat in what it is to publish.
    let worker = |system: &mut System| system.service(Service::EcgWorker).restart();
    asystole_with_a_restart(&mut system, &beds[2], &mut station, 3 * second, "worker", worker).await;
    has_no_asystole(&system, &beds[3]).await;
}

/// The same with the one process of standalone. The healthy patient is watched for 20 s after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asystole_that_begins_before_a_restart_raises_one_alarm_standalone() {
    let _alone = ALONE.lock().await;
    let mut system = System::start(Mode::Standalone);
    let beds: Vec<Bed> =
        (1..=2).map(|number| Bed::with_clock(system.gateway(), number, first_frame_is_late)).collect();
    let mut station = Station::start(system.url()).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    let second = Duration::from_secs(1);
    let begun = Instant::now();
    let all = |system: &mut System| system.service(Service::Gateway).restart();
    asystole_with_a_restart(&mut system, &beds[0], &mut station, second, "standalone", all).await;
    tokio::time::sleep((20 * second).saturating_sub(begun.elapsed())).await;
    has_no_asystole(&system, &beds[1]).await;
}
