//! Wrong clocks, by an hour and a year in both directions: of the running server, and of a station. Real processes run under
//! libfaketime, which changes the wall clock and not the monotonic clock.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use client::{Gateway, Outbox, Upload, UploadFile};
use proto_json::{Bpm, FileKind, LatestHeartRate, Mrn, Timestamp};
use tempfile::TempDir;

use testkit::{Extras, Mode, System, program, test_data, within};

const HOUR_S: i64 = 3_600;
const YEAR_S: i64 = 365 * 24 * HOUR_S;
/// Offsets of a clock. The negative ones come first, because a clock that was ahead remains marked as wrong.
const OFFSETS_S: [i64; 4] = [-HOUR_S, -YEAR_S, HOUR_S, YEAR_S];

/// The library of the package `faketime`.
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten().map(|folder| folder.path());
    folders
        .map(|folder| folder.join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.is_file())
        .expect("the package faketime is installed")
}

fn preloaded() -> Vec<(String, String)> {
    let library = library().to_str().unwrap().to_owned();
    [("LD_PRELOAD", library.as_str()), ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("DONT_FAKE_MONOTONIC", "1")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

/// A system with an adjustable clock.
struct Clocked {
    system: System,
    folder: TempDir,
}

impl Clocked {
    fn start(mode: Mode) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 0);
        let mut env = preloaded();
        let file = folder.path().join("clock").to_str().unwrap().to_owned();
        for (name, value) in [
            ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
            ("FAKETIME_NO_CACHE", "1"),
            ("BEDSIDE_RECONCILE_EVERY", "1s"),
        ] {
            env.push((name.to_owned(), value.to_owned()));
        }
        let system = System::start_extra(mode, &Extras { env, ..Extras::default() });
        Clocked { system, folder }
    }

    /// Sets the offset of the server's clock and waits until responses show it.
    async fn set(&self, offset_s: i64) {
        write(self.folder.path(), offset_s);
        let gateway = self.system.gateway();
        within("the clock of the server is set", || async {
            // A new client each time, without earlier measurements of the clock.
            let gateway = Gateway::new(&client::Settings::new(gateway.address())).unwrap();
            gateway.check(std::time::Duration::from_secs(5)).await.ok()?;
            let ahead = gateway.server_time().ahead_of_computer_ms()?;
            ((ahead - offset_s * 1_000).abs() < 60_000).then_some(())
        })
        .await;
    }
}

fn write(folder: &Path, offset_s: i64) {
    // Renamed, so that no process reads a partial file.
    let new = folder.join("new");
    std::fs::write(&new, format!("{offset_s:+}\n")).unwrap();
    std::fs::rename(new, folder.join("clock")).unwrap();
}

fn mrn(value: u64) -> Mrn {
    Mrn::new(value).unwrap()
}

fn rate(bpm: i64) -> Upload {
    Upload { heart_rate: Some(Bpm::new(bpm).unwrap()), ..Upload::of(Vec::new()) }
}

async fn send(gateway: &Gateway, patient: u64, upload: &Upload) {
    gateway.upload_with_retries(mrn(patient), upload, client::RetryPolicy::default(), |_| {}).await.unwrap();
}

/// Waits until the latest heart rate is `bpm`.
async fn latest(gateway: &Gateway, patient: u64, bpm: u16) -> LatestHeartRate {
    within(&format!("patient {patient} has {bpm} bpm"), || async {
        let latest = gateway.patient(mrn(patient)).await.ok()??.latest_heart_rate?;
        (latest.bpm.get() == bpm).then_some(latest)
    })
    .await
}

/// Waits until the server reports a problem with its clock, or none.
async fn problem_is(gateway: &Gateway, wanted: bool) {
    within(&format!("clock problem reported: {wanted}"), || async {
        gateway.check(std::time::Duration::from_secs(5)).await.ok()?;
        (gateway.server_time().problem().is_some() == wanted).then_some(())
    })
    .await;
}

async fn newest_upload_is_shown_with_a_wrong_server_clock(mode: Mode) {
    let clocked = Clocked::start(mode);
    let gateway = clocked.system.gateway();
    for (number, offset_s) in (0..).zip(OFFSETS_S) {
        let (both, only_wrong) = (2 * number + 1, 2 * number + 2);
        send(&gateway, both, &rate(60)).await;
        latest(&gateway, both, 60).await;

        clocked.set(offset_s).await;
        send(&gateway, both, &rate(180)).await;
        let wrong = latest(&gateway, both, 180).await;
        let off_ms = wrong.at.millis_since(Timestamp::now());
        assert!((off_ms - offset_s * 1_000).abs() < 120_000, "{offset_s}: {off_ms}");
        send(&gateway, only_wrong, &rate(44)).await;
        latest(&gateway, only_wrong, 44).await;
        if offset_s < 0 {
            problem_is(&gateway, true).await;
            let future = Upload { recorded_at: Some(Timestamp::now()), ..rate(61) };
            let refused = gateway.upload(mrn(both), &future, |_| {}).await.unwrap_err();
            assert!(refused.to_string().contains("5 s in the future"), "{refused}");
        }

        clocked.set(0).await;
        send(&gateway, both, &rate(70)).await;
        let right = latest(&gateway, both, 70).await;
        assert!(!right.clock_wrong && right.at.millis_since(Timestamp::now()).abs() < 120_000, "{right:?}");
        // A value from the future remains marked. A value from the past shows its age.
        let marked = within("the value is marked", || async {
            let latest = gateway.patient(mrn(only_wrong)).await.ok()??.latest_heart_rate?;
            (latest.clock_wrong == (offset_s > 0)).then_some(latest)
        });
        assert_eq!(marked.await.bpm.get(), 44);
        problem_is(&gateway, offset_s > 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standalone_shows_the_newest_upload_with_a_wrong_clock() {
    newest_upload_is_shown_with_a_wrong_server_clock(Mode::Standalone).await;
}

/// The clock of the broker is correct.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_stack_shows_the_newest_upload_with_a_wrong_clock() {
    newest_upload_is_shown_with_a_wrong_server_clock(Mode::Processes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn station_computes_ages_from_the_server_clock_and_reports_that_its_own_is_wrong() {
    let system = System::start(Mode::Standalone);
    let gateway = system.gateway();
    let recorded =
        Upload { recorded_at: Some(Timestamp::now().plus_millis(-2 * HOUR_S * 1_000)), ..rate(44) };
    send(&gateway, 1, &recorded).await;
    send(&gateway, 2, &rate(72)).await;
    for offset_s in OFFSETS_S {
        let output = Command::new(program("bedside"))
            .args(["patients", "--gateway", &system.url()])
            .envs(preloaded())
            .env("FAKETIME", format!("{offset_s:+}"))
            .output()
            .unwrap();
        let (shown, warning) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let line = |bpm: &str| shown.lines().find(|line| line.contains(bpm)).unwrap_or_default().to_owned();
        assert!(line("44 bpm").contains("  2 h  "), "{offset_s}: {shown}{warning}");
        assert!(
            line("72 bpm").contains("received ") && line("72 bpm").contains(" s  "),
            "{offset_s}: {shown}"
        );
        let direction = if offset_s < 0 { "behind the server's" } else { "ahead of the server's" };
        assert!(
            warning.contains("the clock of this computer is") && warning.contains(direction),
            "{offset_s}: {warning}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn selection_time_from_a_wrong_clock_is_corrected_before_the_upload() {
    let clocked = Clocked::start(Mode::Standalone);
    let gateway = clocked.system.gateway();
    let folder = tempfile::tempdir().unwrap();
    for (patient, offset_s) in (1..).zip(OFFSETS_S) {
        // Relative to the server, the clock of this computer is wrong.
        clocked.set(offset_s).await;
        let gateway = Gateway::new(&client::Settings::new(gateway.address())).unwrap();
        let outbox = Outbox::open(folder.path()).unwrap();
        let chosen_at = Timestamp::now().plus_millis(-180_000);
        let strip = UploadFile::from_bytes(FileKind::Ecg, "strip.csv", test_data::strip_csv(72.0, 10.0, 1));
        let upload = Upload {
            recorded_at: Some(chosen_at),
            recorded_by_this_computer: true,
            ..Upload::of(vec![strip])
        };
        outbox.put(mrn(patient), &upload, |_| {}).await.unwrap();
        let sent = within("it is sent", || async { outbox.entries().is_empty().then_some(()) });
        tokio::select! {
            never = outbox.run(&gateway, |_| {}) => match never {},
            () = sent => {}
        }
        let ecg = gateway.ecgs(mrn(patient), None, None).await.unwrap().items.remove(0);
        let recorded_at = ecg.recorded_at.expect("it is known when it was recorded");
        let off_ms = recorded_at.millis_since(chosen_at) - offset_s * 1_000;
        assert!(off_ms.abs() < 60_000, "{offset_s}: recorded {recorded_at}, chosen {chosen_at}");
    }
}
