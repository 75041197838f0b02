//! Corrections against the running program: on open event streams, under load, and with `kill -9`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod program;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ecg::synth::{Settings, csv, generate};
use serde_json::{Value, json};

use crate::program::{BEDSIDE, Program};

/// Is in the names, the file names and the files of the patient that is erased.
const MARKER: &str = "Qzxwvmarker";

const LIMIT: Duration = Duration::from_secs(120);

fn start(data: &Path, address: &str) -> Program {
    Program::start_at(address, Command::new(BEDSIDE).args(["--log", "warn", "--data"]).arg(data))
}

/// Host and port of a program.
fn host(address: &str) -> &str {
    address.strip_prefix("http://").unwrap()
}

/// Sends a request. Returns status and body; an error if the program is not running.
fn request(
    host: &str,
    method: &str,
    path: &str,
    (media_type, key, body): (&str, &str, &[u8]),
) -> std::io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let key = if key.is_empty() { String::new() } else { format!("Idempotency-Key: {key}\r\n") };
    write!(
        stream,
        "{method} /api/v1/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{key}\
         Content-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.get(9..12).and_then(|status| status.parse().ok());
    let status = status.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let json = body.find(['{', '[']).zip(body.rfind(['}', ']'])).map(|(from, to)| &body[from..=to]);
    Ok((status, json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or(Value::Null)))
}

fn get(host: &str, path: &str) -> (u16, Value) {
    request(host, "GET", path, ("text/plain", "", b"")).unwrap()
}

fn change(host: &str, method: &str, path: &str, key: &str, body: &Value) -> std::io::Result<(u16, Value)> {
    request(host, method, path, ("application/json", key, body.to_string().as_bytes()))
}

/// A part of a form: name, file name and content.
type Part<'a> = (&'a str, Option<&'a str>, &'a [u8]);

fn upload(host: &str, mrn: u64, key: &str, parts: &[Part<'_>]) -> std::io::Result<(u16, Value)> {
    let mut body = Vec::new();
    for (name, file, content) in parts {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        write!(body, "--x\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n")?;
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--x--\r\n");
    request(host, "POST", &format!("patients/{mrn}/uploads"), ("multipart/form-data; boundary=x", key, &body))
}

fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(started.elapsed() < LIMIT, "{what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The data of the `updated` events of a stream.
fn events(host: &str) -> mpsc::Receiver<Value> {
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n")
        .unwrap();
    let (sender, received) = mpsc::channel();
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            if line.starts_with("event: ready") || line.starts_with("event:ready") {
                let _ = ready.send(());
            }
            let data =
                line.strip_prefix("data:").and_then(|data| serde_json::from_str::<Value>(data.trim()).ok());
            if let Some(update) = data.filter(|data| data.get("patient").is_some())
                && sender.send(update).is_err()
            {
                return;
            }
        }
    });
    is_ready.recv_timeout(LIMIT).unwrap();
    received
}

#[test]
fn wrong_patient_upload_is_right_on_open_screens_also_if_the_analysis_ends_after_the_move() {
    let folder = tempfile::tempdir().unwrap();
    let program = start(&folder.path().join("data"), "127.0.0.1:0");
    let host = host(&program.address);
    for (mrn, name, rate) in [(7, "Anna", "70"), (8, "Ben", "80")] {
        let parts: [Part; 2] = [("name", None, name.as_bytes()), ("heart_rate", None, rate.as_bytes())];
        assert_eq!(upload(host, mrn, &format!("first {mrn}").replace(' ', "-"), &parts).unwrap().0, 201);
    }
    let screen = events(host);
    let strip = csv(&generate(&Settings { mean_bpm: 120.0, duration_s: 60.0, ..Settings::default() }).strip);
    let parts: [Part; 1] = [("ecg", Some("strip.csv"), &strip)];
    let (status, receipt) = upload(host, 7, "wrong", &parts).unwrap();
    assert_eq!((status, &receipt["mrn"]), (201, &json!(7)));
    // At once: the analysis is still running.
    let path = format!("uploads/{}/move", receipt["upload_id"].as_str().unwrap());
    let body = json!({ "mrn": 8, "reason": "bed 8" });
    let (status, correction) = change(host, "POST", &path, "move", &body).unwrap();
    assert_eq!(
        (status, &correction["action"], &correction["from"]),
        (200, &json!("upload_moved"), &json!(7))
    );

    // A screen that applies every update with a higher version.
    let (mut seven, mut eight) = (Value::Null, Value::Null);
    let started = Instant::now();
    loop {
        let update = screen.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("7: {seven}, 8: {eight}"));
        let patient = &update["patient"];
        let known = if patient["mrn"] == 7 { &mut seven } else { &mut eight };
        if known.is_null() || known["version"].as_u64() < patient["version"].as_u64() {
            *known = patient.clone();
        }
        let rate = |patient: &Value| patient["latest_heart_rate"]["bpm"].as_u64().unwrap_or(0);
        let is_analysed = (115..=125).contains(&rate(&eight)) && eight["latest_ecg"]["status"] == "analyzed";
        if rate(&seven) == 70 && is_analysed {
            break;
        }
        assert!(started.elapsed() < LIMIT, "7: {seven}, 8: {eight}");
    }
    assert_eq!(seven.get("latest_ecg"), None, "{seven}");
    assert_eq!((&seven["name"], &eight["name"]), (&json!("Anna"), &json!("Ben")));
    for (mrn, screen) in [(7, &seven), (8, &eight)] {
        assert_eq!(get(host, &format!("patients/{mrn}")).1, *screen, "as after a reload");
    }
    assert_eq!(get(host, "patients/7/ecgs").1["items"], json!([]));
    assert_eq!(get(host, "patients/8/ecgs").1["items"].as_array().unwrap().len(), 1);

    // Mistakes: status and message, and nothing changes.
    let before = (get(host, "patients/7").1, get(host, "patients/8").1);
    let unknown = "0192f0c1-0000-7000-8000-000000000000";
    let reason = json!({ "reason": "x" });
    let cases: [(&str, String, Value, u16); 12] = [
        ("POST", path.clone(), body.clone(), 409),
        ("POST", path.clone(), json!({ "mrn": 99, "reason": "x" }), 404),
        ("POST", path.clone(), json!({ "mrn": 7 }), 400),
        ("POST", path.clone(), json!({ "mrn": 7, "reason": " " }), 400),
        ("POST", format!("uploads/{unknown}/move"), body.clone(), 404),
        ("POST", format!("records/{unknown}/entered-in-error"), reason.clone(), 404),
        ("POST", "records/7/entered-in-error".to_owned(), reason.clone(), 400),
        ("POST", "patients/7/merge".to_owned(), json!({ "into": 7, "reason": "x" }), 409),
        ("POST", "patients/99/name".to_owned(), json!({ "name": "A", "reason": "x" }), 404),
        ("POST", format!("merges/{unknown}/undo"), reason.clone(), 404),
        ("POST", "patients/7/erase".to_owned(), json!({ "confirm": 8, "reason": "x" }), 409),
        ("POST", "retention".to_owned(), json!({ "kind": "images", "before": "2999-01-01T00:00:00Z" }), 409),
    ];
    for (method, path, body, expected) in cases {
        let (status, problem) = change(host, method, &path, "", &body).unwrap();
        assert_eq!(status, expected, "{path} {body}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.ends_with('.')), "{path}: {problem}");
    }
    assert_eq!((get(host, "patients/7").1, get(host, "patients/8").1), before);
}

fn marked_image() -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 3, 2);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.add_text_chunk("Comment".to_owned(), MARKER.repeat(40)).unwrap();
    encoder.write_header().unwrap().write_image_data(&[0, 1, 2, 3, 4, 5]).unwrap();
    file
}

/// Sends heart rates for both patients until it is stopped, and repeats each until it is confirmed. Returns how many.
fn load(host: String, stop: Arc<AtomicBool>, name: &'static str) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let confirmed = AtomicU64::new(0);
        for index in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let (mrn, key) = ([7, 71][index % 2], format!("{name}-{index}"));
            let parts: [Part; 1] = [("heart_rate", None, b"90")];
            until("an upload is confirmed", || {
                let answer = upload(&host, mrn, &key, &parts);
                answer.ok().filter(|(status, _)| (200..300).contains(status))
            });
            confirmed.fetch_add(1, Ordering::Relaxed);
        }
        confirmed.into_inner()
    })
}

/// Sends a correction, kills the program after a while, starts it again, and waits until the correction is complete.
fn killed(
    program: &mut Program,
    data: &Path,
    after: Duration,
    (path, key, body): (&str, &str, Value),
) -> Value {
    let address = host(&program.address).to_owned();
    let sender = {
        let (address, path, key, body) = (address.clone(), path.to_owned(), key.to_owned(), body.clone());
        thread::spawn(move || drop(change(&address, "POST", &path, &key, &body)))
    };
    thread::sleep(after);
    program.process.kill().unwrap();
    program.process.wait().unwrap();
    sender.join().unwrap();
    *program = start(data, &address);
    until("the correction is complete", || {
        let answer = change(&address, "POST", path, key, &body).ok()?;
        (answer.0 == 200).then_some(answer.1)
    })
}

/// All heart rates of a patient.
fn rates(host: &str, mrn: u64) -> usize {
    let (mut count, mut after) = (0, String::new());
    loop {
        let page = get(host, &format!("patients/{mrn}/heart-rates?limit=500{after}")).1;
        count += page["items"].as_array().map_or(0, Vec::len);
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return count,
        }
    }
}

/// Files below a folder that contain the marker.
fn remains(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(remains(&path));
            continue;
        }
        let content = fs::read(&path).unwrap();
        // Searches do not distinguish case, so a copy without case may be stored, too.
        for marker in [MARKER.to_owned(), MARKER.to_lowercase()] {
            if content.windows(marker.len()).any(|window| window == marker.as_bytes()) {
                found.push(format!("{} contains {marker}", path.display()));
            }
        }
    }
    found
}

#[test]
fn merge_undo_and_erasure_are_complete_after_kill_9_under_load_and_leave_no_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut program = start(&data, "127.0.0.1:0");
    let address = host(&program.address).to_owned();
    let (name, image) = (format!("{MARKER} Anna"), marked_image());
    let file = format!("{MARKER}.png");
    for index in 0..60 {
        let key = format!("image-{index}");
        let parts: [Part; 2] = [("name", None, name.as_bytes()), ("medical_image", Some(&file), &image)];
        let (status, answer) = upload(&address, 71, &key, &parts).unwrap();
        assert_eq!(status, 201, "{answer}");
    }
    assert_eq!(upload(&address, 7, "seven", &[("heart_rate", None, b"60")]).unwrap().0, 201);
    assert!(!remains(&data).is_empty(), "the search finds what is stored");

    let stop = Arc::new(AtomicBool::new(false));
    let loads = [load(address.clone(), stop.clone(), "a"), load(address.clone(), stop.clone(), "b")];
    thread::sleep(Duration::from_millis(500));
    let merge = ("patients/71/merge", "merge", json!({ "into": 7, "reason": "same person" }));
    let merged = killed(&mut program, &data, Duration::from_millis(30), merge);
    let (status, problem) = get(&address, "patients/71");
    assert_eq!((status, &problem["merged_into"]), (404, &json!(7)), "{problem}");
    assert_eq!(get(&address, "patients/7/images?limit=500").1["items"].as_array().unwrap().len(), 60);

    let path = format!("merges/{}/undo", merged["id"].as_str().unwrap());
    killed(
        &mut program,
        &data,
        Duration::from_millis(15),
        (&path, "undo", json!({ "reason": "two persons" })),
    );
    assert_eq!(get(&address, "patients/71/images?limit=500").1["items"].as_array().unwrap().len(), 60);
    assert_eq!(get(&address, "patients/7/images").1["items"], json!([]));
    stop.store(true, Ordering::Relaxed);
    let confirmed: u64 = loads.into_iter().map(|load| load.join().unwrap()).sum();
    // No confirmed upload is lost, and none is stored twice.
    until("all confirmed uploads are stored", || {
        let stored = (rates(&address, 7) + rates(&address, 71)) as u64;
        assert!(stored <= confirmed + 1, "{stored} of {confirmed} uploads");
        (stored == confirmed + 1).then_some(())
    });

    let before = rates(&address, 7);
    let erase = ("patients/71/erase", "erase", json!({ "confirm": 71, "reason": "on request" }));
    killed(&mut program, &data, Duration::from_millis(20), erase);
    assert_eq!(get(&address, "patients/71").0, 404);
    // A message that arrives late is refused.
    let parts: [Part; 2] = [("name", None, name.as_bytes()), ("medical_image", Some(&file), &image)];
    let (status, problem) = upload(&address, 71, "image-0", &parts).unwrap();
    assert_eq!(status, 410, "{problem}");
    let (status, _) = upload(&address, 71, "late", &parts).unwrap();
    assert_eq!(status, 410);
    assert_eq!(rates(&address, 7), before);
    // The queue file is cleaned up shortly after.
    until(&format!("nothing is left: {:?}", remains(&data)), || remains(&data).is_empty().then_some(()));
    program.process.kill().unwrap();
    program.process.wait().unwrap();
    assert_eq!(remains(&data), Vec::<String>::new());
}

#[test]
fn restored_older_backup_is_erased_again() {
    let folder = tempfile::tempdir().unwrap();
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    let program = start(&data, "127.0.0.1:0");
    let address = host(&program.address).to_owned();
    let name = format!("{MARKER} Anna");
    let parts: [Part; 2] =
        [("name", None, name.as_bytes()), ("medical_image", Some("a.png"), &marked_image())];
    for mrn in [7, 8] {
        assert_eq!(upload(&address, mrn, &format!("image-{mrn}"), &parts).unwrap().0, 201);
    }
    let bedside = |args: &[&str]| {
        let output =
            Command::new(BEDSIDE).args(args).env("BEDSIDE_GATEWAY", &program.address).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let (from, to) = (data.to_str().unwrap(), copy.to_str().unwrap());
    bedside(&["backup", "--data", from, "--to", to]);
    // The second patient is erased through a merge.
    bedside(&["merge", "8", "--into", "7", "--reason", "same person", "--yes"]);
    let listed = bedside(&["correct", "list", "7"]);
    assert!(listed.contains("8 merged into 7"), "{listed}");
    bedside(&["erase", "7", "--confirm", "7", "--reason", "on request", "--yes"]);
    drop(program);
    let restored =
        Command::new(BEDSIDE).args(["restore", "--from", to, "--data", from, "--replace"]).output();
    let restored = restored.unwrap();
    let text = String::from_utf8(restored.stdout).unwrap();
    assert!(restored.status.success() && text.contains("erased again"), "{text}");
    for aside in fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()) {
        if aside.is_dir() && aside.file_name().unwrap().to_string_lossy().starts_with("replaced-") {
            fs::remove_dir_all(aside).unwrap();
        }
    }
    let program = start(&data, "127.0.0.1:0");
    let address = host(&program.address).to_owned();
    for mrn in [7, 8] {
        assert_eq!(get(&address, &format!("patients/{mrn}")).0, 404);
    }
    until("the erasures are complete", || {
        let corrections = get(&address, "patients/7/corrections").1;
        corrections.as_array()?.iter().all(|correction| correction["state"] == "done").then_some(())
    });
    until("nothing is left", || remains(&data).is_empty().then_some(()));
    assert_eq!(upload(&address, 7, "image-7", &parts).unwrap().0, 410);
}
