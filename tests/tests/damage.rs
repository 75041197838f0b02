//! Standalone on a read-only disk and on damaged files: it reports the problem and does not start or does not answer. It does not
//! lose or change data silently.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use client::{Upload, UploadFile};
use proto_json::{FileKind, Mrn};
use testkit::{Mode, Service, SmallDisk, System, http_client, program, test_data, within};

const MRN: u64 = 7;

/// Stores an image and an ECG, waits for the heart rate, and stops the system. Returns the bytes of the image.
async fn store_and_stop(system: &mut System) -> Vec<u8> {
    let image = test_data::jpeg(160, 1);
    let gateway = system.gateway();
    let files = vec![
        UploadFile::from_bytes(FileKind::MedicalImage, "image.jpg", image.clone()),
        UploadFile::from_bytes(FileKind::Ecg, "strip.csv", test_data::strip_csv(75.0, 10.0, 1)),
    ];
    gateway.upload(Mrn::new(MRN).unwrap(), &Upload::of(files), |_| {}).await.unwrap();
    wait_until_complete(system).await;
    assert_eq!(system.service(Service::Gateway).terminate(), Some(0));
    image.to_vec()
}

/// Waits until the patient has an image and a heart rate.
async fn wait_until_complete(system: &System) {
    let gateway = system.gateway();
    within("the patient has an image and a heart rate", || async {
        let patient = gateway.patient(Mrn::new(MRN).unwrap()).await.ok()??;
        (patient.latest_image.is_some() && patient.latest_heart_rate.is_some()).then_some(())
    })
    .await;
}

/// Starts `bedside` on a directory that it must reject. Returns its standard error.
fn start_rejected(data: &Path) -> String {
    let mut child = Command::new(program("bedside"))
        .args(["--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("bedside runs on a directory that it must reject");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn read_only_disk_is_reported_and_data_is_complete_when_it_is_writable_again() {
    let mut system = System::start_extra(Mode::Standalone, &Default::default());
    store_and_stop(&mut system).await;
    // The data is copied to a separate disk.
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&folder.path().join("disk"));
    let data = disk.folder().join("data");
    copy(&system.data_folder(), &data);
    disk.read_only(true).unwrap();
    let message = start_rejected(&data);
    assert!(message.contains("Read-only file system"), "{message}");
    assert!(message.contains(&*data.to_string_lossy()), "the message names the directory: {message}");
    disk.read_only(false).unwrap();
    fs::remove_dir_all(system.data_folder()).unwrap();
    copy(&data, &system.data_folder());
    system.service(Service::Gateway).restart();
    wait_until_complete(&system).await;
}

#[tokio::test]
async fn damaged_file_is_rejected_and_not_changed() {
    let mut system = System::start_extra(Mode::Standalone, &Default::default());
    store_and_stop(&mut system).await;
    let data = system.data_folder();
    for name in ["patients.db", "queues.db"] {
        let path = data.join(name);
        let whole = fs::read(&path).unwrap();
        let mut scribbled = whole.clone();
        scribbled[8_192..12_288].fill(0x5a);
        let mut headless = whole.clone();
        headless[..100].fill(0);
        let kinds = [
            ("a damaged page", scribbled),
            ("no header", headless),
            ("a truncated end", whole[..whole.len() / 2].to_vec()),
            ("text", b"Dear diary, ".repeat(1_000)),
        ];
        for (kind, damaged) in kinds {
            fs::write(&path, &damaged).unwrap();
            let message = start_rejected(&data);
            let clear = message.contains("is damaged") || message.contains("is not a SQLite database");
            assert!(clear, "{name} with {kind}: {message}");
            assert!(message.contains("restore it from a backup"), "{name} with {kind}: {message}");
            assert!(fs::read(&path).unwrap() == damaged, "{name} with {kind} was written to");
        }
        fs::write(&path, whole).unwrap();
    }
    system.service(Service::Gateway).restart();
    wait_until_complete(&system).await;
}

/// Flips one bit of patients.db, in the middle of the first occurrence of `part`.
fn flip(system: &System, part: &[u8]) {
    let path = system.data_folder().join("patients.db");
    let mut file = fs::read(&path).unwrap();
    let at = file.windows(part.len()).position(|window| window == part).expect("the file contains it");
    file[at + part.len() / 2] ^= 0x10;
    fs::write(&path, file).unwrap();
}

/// Runs `bedside verify` on the data. Returns its exit code and output.
fn verify(system: &System) -> (Option<i32>, String) {
    let output = Command::new(program("bedside"))
        .args(["verify", "--data"])
        .arg(system.data_folder())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// Status and problem document of a GET request.
async fn problem(system: &System, path: &str) -> (u16, serde_json::Value) {
    let answer = http_client().get(format!("{}{path}", system.url())).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

#[tokio::test]
async fn damaged_image_is_answered_with_a_problem_document() {
    let mut system = System::start_extra(Mode::Standalone, &Default::default());
    let image = store_and_stop(&mut system).await;
    assert_eq!(verify(&system).0, Some(0));
    flip(&system, &image[image.len() / 2..][..64]);
    let (code, found) = verify(&system);
    assert_eq!(code, Some(1));
    assert!(found.lines().count() == 1 && found.starts_with("the stored file (number "), "{found}");
    system.service(Service::Gateway).restart();
    let gateway = system.gateway();
    let page = gateway.images(Mrn::new(MRN).unwrap(), None, Some(1)).await.unwrap();
    let (status, document) = problem(&system, &format!("/api/v1/images/{}", page.items[0].id)).await;
    assert_eq!((status, &document["type"]), (500, &"urn:bedside:problem:record-damaged".into()));
    let detail = document["detail"].as_str().unwrap();
    assert!(detail.starts_with("The stored part of a file (key ") && detail.contains("backup"), "{detail}");
    let log = system.service(Service::Gateway).log();
    assert!(log.contains("a stored record is damaged"), "{log}");
    // The legacy route has already started its response, which is then aborted.
    let all = http_client().get(format!("{}/api/get_patient/{MRN}", system.url())).send().await;
    let all = match all {
        Ok(answer) => answer.bytes().await,
        Err(error) => Err(error),
    };
    assert!(all.is_err(), "a response with a damaged image was completed");
    // Everything else is available.
    wait_until_complete(&system).await;
}

#[tokio::test]
async fn damaged_patient_is_named_in_lists_and_a_problem_document_elsewhere() {
    let mut system = System::start_extra(Mode::Standalone, &Default::default());
    for (number, name) in [(3, "Ann Before"), (MRN, "Bob Between"), (9, "Cid Behind")] {
        let upload = Upload { name: Some(name.to_owned()), ..Upload::of(Vec::new()) };
        system.gateway().upload(Mrn::new(number).unwrap(), &upload, |_| {}).await.unwrap();
    }
    assert_eq!(system.service(Service::Gateway).terminate(), Some(0));
    flip(&system, b"Bob Between");
    let (code, found) = verify(&system);
    let sentence =
        "the stored patient (mrn 7) is damaged: its checksum does not match; restore it from a backup";
    assert_eq!((code, found.trim()), (Some(1), sentence));
    system.service(Service::Gateway).restart();
    // The same while Bedside runs.
    assert_eq!(verify(&system), (Some(1), format!("{sentence}\n")));
    let (status, document) = problem(&system, &format!("/api/v1/patients/{MRN}")).await;
    assert_eq!((status, &document["type"]), (500, &"urn:bedside:problem:record-damaged".into()));
    assert!(document["detail"].as_str().unwrap().starts_with("The stored patient (mrn 7) is damaged"));
    let page = system.gateway().patients(None, None, None).await.unwrap();
    assert_eq!(page.items.iter().map(|patient| patient.mrn.get()).collect::<Vec<_>>(), [3, 9]);
    assert_eq!((page.damaged.len(), page.damaged[0].key.as_str()), (1, "mrn 7"));
    let legacy = http_client().get(format!("{}/api/get_patient/{MRN}", system.url())).send().await.unwrap();
    assert_eq!(legacy.status(), 500);
    assert!(legacy.text().await.unwrap().starts_with("The stored patient (mrn 7) is damaged"));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
