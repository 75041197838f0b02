//! Tests of the commands against the running program.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod program;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use ecg::synth::{Settings, csv, generate};
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{BEDSIDE, Program};

/// The program with its own data directory. Dropping it stops the program.
struct Bedside {
    program: Program,
    folder: TempDir,
}

impl Bedside {
    fn start(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Self::start_in(folder, &data, flags)
    }

    /// Starts the program on an existing data directory.
    fn start_on(data: &Path, flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), data, flags)
    }

    fn start_in(folder: TempDir, data: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new(BEDSIDE);
        let program = Program::start(command.args(["--log", "warn", "--data"]).arg(data).args(flags));
        Bedside { program, folder }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BEDSIDE);
        command.args(args).env("BEDSIDE_GATEWAY", &self.program.address);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed. Returns its output.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail with one line on standard error. Returns this line.
    fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{args:?}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        said
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn strip(mean_bpm: f64) -> Vec<u8> {
    csv(&generate(&Settings { mean_bpm, duration_s: 15.0, ..Settings::default() }).strip)
}

fn image() -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 3, 2);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&[0, 1, 2, 3, 4, 5]).unwrap();
    file
}

#[test]
fn reanalyse_reports_what_changed() {
    let bedside = Bedside::start(&[]);
    let (ecg, text) = (bedside.file("a.csv", &strip(84.0)), bedside.file("b.csv", b"no ECG"));
    // The second file is stored, too, but is no ECG.
    assert!(bedside.fails(&["upload", "--mrn", "7", "--ecg", &ecg, "--ecg", &text]).contains("one ECG"));
    let none = "0 ECGs analysed again: 0 changed, 0 unchanged.\n";
    assert_eq!(bedside.ok(&["reanalyse"]), none, "all results are current");
    let lines = bedside.ok(&["reanalyse", "--all", "--mrn", "7", "--json"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let analysed = lines.iter().find(|line| line["result"]["status"] == "analyzed").unwrap();
    assert_eq!(
        (&analysed["outcome"], &analysed["result"]["algorithm"]),
        (&"queued".into(), &ecg::ALGORITHM.into())
    );
    assert_eq!((lines.len(), &lines[2]["queued"]), (3, &2.into()));
    let id = analysed["id"].as_str().unwrap();
    let one =
        "0 ECGs analysed again: 0 changed, 0 unchanged; 1 queued that have a failed or current result.\n";
    assert_eq!(bedside.ok(&["reanalyse", "--id", id]), one);
    let unknown = uuid_of_nothing();
    assert!(bedside.fails(&["reanalyse", "--id", &unknown]).contains("there is no ECG"));
}

fn uuid_of_nothing() -> String {
    proto_json::UploadId::generate().record("ecg", 0).to_string()
}

#[test]
fn upload_is_analysed_listed_and_exported_unchanged() {
    let bedside = Bedside::start(&[]);
    let (strip, png) = (strip(84.0), image());
    let (ecg, image) = (bedside.file("strip.csv", &strip), bedside.file("x ray.png", &png));
    let said = bedside.ok(&["upload", "--mrn", "7", "--name", "Ann", "--ecg", &ecg, "--image", &image]);
    assert!(said.starts_with("New patient 7 is registered.\n"), "{said}");
    assert!(said.contains("\nstrip.csv: heart rate 8"), "{said}");

    let table = bedside.ok(&["patients"]);
    assert!(table.lines().nth(1).unwrap().contains("Ann"), "{table}");
    let json: Value =
        serde_json::from_str(bedside.ok(&["patients", "--query", "ann", "--json"]).trim()).unwrap();
    assert_eq!(json["mrn"], 7);
    assert_eq!(bedside.ok(&["patients", "--query", "nobody"]), "No patient matches.\n");

    let folder = bedside.folder.path().join("out");
    let to = folder.to_str().unwrap();
    assert!(bedside.ok(&["export", "7", "--to", to]).starts_with("4 files written, 0 existed"));
    let index: Value = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    let saved = |path: &Value| folder.join(path.as_str().unwrap());
    assert_eq!(fs::read(saved(&index["ecgs"][0]["signal_file"])).unwrap(), strip);
    let image_path = saved(&index["images"][0]["image_file"]);
    assert_eq!(fs::read(&image_path).unwrap(), png);

    let page = fs::read_to_string(folder.join("index.html")).unwrap();
    assert!(page.contains("<h1>Ann, number 7</h1>") && page.contains(">x ray.png</a>"), "{page}");
    for file in ["signal_file", "plot_file", "detail_file"] {
        let path = index["ecgs"][0][file].as_str().unwrap();
        assert!(page.contains(&format!("href=\"{path}\"")), "{page}");
    }
    let rates = fs::read_to_string(folder.join("heart-rates.csv")).unwrap();
    assert!(rates.starts_with("time,heart_rate_bpm,source\n20") && rates.ends_with(",ecg\n"), "{rates}");

    // A repeated export fetches only missing files and keeps files with other content.
    fs::remove_file(saved(&index["ecgs"][0]["plot_file"])).unwrap();
    assert!(bedside.ok(&["export", "7", "--to", to]).starts_with("1 file written, 3 existed"));
    fs::write(&image_path, "mine").unwrap();
    assert!(bedside.fails(&["export", "7", "--to", to]).contains("was kept"));
    assert_eq!(fs::read(&image_path).unwrap(), b"mine");
    assert!(bedside.fails(&["export", "8", "--to", to]).contains("there is no patient 8"));
    assert!(!Path::new(to).join(".part").exists());
}

#[test]
fn audit_lists_the_accesses_of_a_patient_and_is_verified() {
    let bedside = Bedside::start(&[]);
    for mrn in ["7", "8"] {
        bedside.ok(&["upload", "--mrn", mrn, "--name", "Ann"]);
    }
    let lines = bedside.ok(&["audit", "--mrn", "7", "--json"]);
    let entries: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(entries.iter().all(|entry| entry["mrn"] == 7), "{lines}");
    let upload = entries.iter().find(|entry| entry["method"] == "POST").unwrap();
    assert_eq!(
        (&upload["route"], &upload["status"], &upload["outcome"], &upload["client"]),
        (&"/api/v1/patients/{mrn}/uploads".into(), &201.into(), &"ok".into(), &"local".into())
    );
    let table = bedside.ok(&["audit", "--mrn", "7"]);
    assert!(table.contains("POST /api/v1/patients/{mrn}/uploads") && !table.contains("Ann"), "{table}");
    let verified = bedside.ok(&["audit", "verify"]);
    assert!(verified.contains("entries are intact. Last entry: "), "{verified}");
    let anchor = verified.trim().rsplit(' ').next().unwrap();
    bedside.ok(&["audit", "verify", "--anchor", anchor]);
    let data = bedside.folder.path().join("data");
    let directory = ["audit", "verify", "--directory", data.to_str().unwrap(), "--anchor"];
    bedside.ok(&[&directory[..], &[anchor]].concat());
    let (number, hash) = anchor.split_once(':').unwrap();
    let other: String = hash.chars().map(|digit| if digit == '0' { '1' } else { '0' }).collect();
    let forged = format!("{number}:{other}");
    assert!(bedside.fails(&[&directory[..], &[&forged]].concat()).contains("written anew"));
}

#[test]
fn deidentified_export_has_the_samples_and_no_name() {
    let bedside = Bedside::start(&[]);
    let text = "Ann Uncommon";
    let mut labelled = format!("# {text}\n").into_bytes();
    labelled.extend(strip(84.0));
    let (ecg, image) =
        (bedside.file("strip of Uncommon.csv", &labelled), bedside.file("Uncommon.png", &image()));
    bedside.ok(&["upload", "--mrn", "4711004711", "--name", text, "--ecg", &ecg, "--image", &image]);
    let data = bedside.folder.path().join("data");
    let export = |name: &str, more: &[&str]| {
        let folder = bedside.folder.path().join(name);
        let to = folder.to_str().unwrap();
        let start = ["export", "4711004711", "--to", to, "--deidentified", "--data", data.to_str().unwrap()];
        bedside.ok(&[&start, more].concat());
        folder
    };
    let folder = export("case", &[]);
    assert!(!folder.join("images").exists());
    let with_images = export("images", &["--with-images"]);
    assert!(with_images.join("images/image-1.png").is_file());
    let patient: Value = serde_json::from_slice(&fs::read(folder.join("patient.json")).unwrap()).unwrap();
    let other: Value = serde_json::from_slice(&fs::read(with_images.join("patient.json")).unwrap()).unwrap();
    assert_eq!((&patient["pseudonym"], &patient["ecgs"]), (&other["pseudonym"], &other["ecgs"]));
    let lead = patient["ecgs"][0]["leads"][0]["file"].as_str().unwrap();
    assert!(fs::read_to_string(folder.join(lead)).unwrap().lines().count() > 1_000);
    assert!(patient["ecgs"][0]["analysis"]["heart_rate"]["mean_bpm"].is_number(), "{patient}");
    let mut files = 0;
    for (name, bytes) in walk(&with_images) {
        let content = String::from_utf8_lossy(&bytes);
        for secret in ["Uncommon", "4711004711", "strip of"] {
            assert!(!name.contains(secret) && !content.contains(secret), "{name} contains {secret}");
        }
        files += 1;
    }
    assert!(files >= 6, "{files}");
    let to = folder.to_str().unwrap();
    let again = ["export", "4711004711", "--to", to, "--deidentified", "--data", data.to_str().unwrap()];
    assert!(bedside.fails(&again).contains("case"), "an existing directory is not changed");
}

/// Stores 20 s of two leads with different rates in a new data directory, before the program is started.
fn store_waveforms(data: &Path, from: proto_json::Timestamp) -> [Vec<i16>; 2] {
    use proto_json::waveform::{Channel, Device, SampleRate, StreamDescription, StreamId};
    use store::WaveformStore;
    use store::waveforms::{NewPiece, Run};

    let channel = |label: &str, rate| Channel {
        label: label.to_owned(),
        code: "MDC_ECG_LEAD_II".to_owned(),
        unit: "mV".to_owned(),
        rate: SampleRate::new(rate, 1).unwrap(),
        scale: 0.005,
        offset: 0.0,
    };
    let stream = std::sync::Arc::new(StreamDescription {
        stream: StreamId::generate(),
        mrn: proto_json::Mrn::new(7).unwrap(),
        device: Device { name: "Simulator".to_owned(), serial: "1".to_owned() },
        channels: vec![channel("II", 250), channel("V", 500)],
        opened_at: from,
        clock: None,
    });
    let leads = [5_000_i32, 10_000]
        .map(|count| (0..count).map(|index| (index * 7_919 % 3_000 - 1_500) as i16).collect::<Vec<i16>>());
    let zero_us = from.as_millis() * 1_000;
    let run = |(channel, samples): (u16, &Vec<i16>)| Run {
        channel,
        first: 0,
        zero_us,
        lead_off: false,
        samples: samples.clone(),
    };
    let piece = NewPiece { stream: stream.clone(), runs: (0..).zip(&leads).map(run).collect() };
    fs::create_dir_all(data).unwrap();
    let store = store::sqlite::SqliteStore::open(&data.join("patients.db")).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        store.open_waveform(&stream).await.unwrap();
        store.append_waveforms(vec![piece], from).await.unwrap();
    });
    leads
}

#[test]
fn stored_waveforms_are_exported_with_their_samples() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let from: proto_json::Timestamp = "2026-03-14T15:09:26.250Z".parse().unwrap();
    let leads = store_waveforms(&data, from);
    // Old waveforms are deleted after 30 days by default.
    let bedside = Bedside::start_in(folder, &data, &["--keep-waveforms", "10000d"]);
    let export = |format: &str, until: &str| {
        let to = bedside.folder.path().join(format);
        let to = to.to_str().unwrap().to_owned();
        let args = [
            "export",
            "7",
            "--to",
            &to,
            "--format",
            format,
            "--from",
            "2026-03-14T15:00:00Z",
            "--until",
            until,
        ];
        args.map(str::to_owned)
    };
    let files = |format: &str| -> Vec<std::path::PathBuf> {
        let args = export(format, "2026-03-14T16:00:00Z");
        let names = bedside.ok(&args.each_ref().map(String::as_str));
        names.lines().map(|name| bedside.folder.path().join(format).join(name)).collect()
    };
    let steps =
        |samples: &[f32]| samples.iter().map(|value| (value / 0.005).round() as i16).collect::<Vec<_>>();
    let wfdb = files("wfdb");
    for (pair, lead) in wfdb.chunks(2).zip(&leads) {
        let header = ecg::wfdb::Header::parse(&fs::read_to_string(&pair[1]).unwrap()).unwrap();
        assert_eq!(header.signals[0].file, pair[0].file_name().unwrap().to_str().unwrap());
        let read = ecg::wfdb::signal(&header, 0, &fs::read(&pair[0]).unwrap()).unwrap();
        assert_eq!(&steps(&read), lead);
    }
    for ((file, lead), csv) in files("edf").iter().zip(&leads).zip(files("csv")) {
        let read = ecg::edf::read(fs::File::open(file).unwrap(), &ecg::edf::Options::default()).unwrap();
        assert_eq!(&steps(&read.segments[0].samples), lead);
        let read = ecg::csv::read(fs::File::open(csv).unwrap(), &ecg::csv::Options::default()).unwrap();
        assert_eq!(&steps(&read.segments[0].samples), lead);
    }
    assert_eq!(wfdb.len(), 4);
    let again = export("csv", "2026-03-14T16:00:00Z");
    assert!(bedside.fails(&again.each_ref().map(String::as_str)).contains("exists and was kept"));
    let none =
        export("none", "2026-03-14T15:01:00Z").map(|arg| if arg == "none" { "edf".to_owned() } else { arg });
    assert!(bedside.fails(&none.each_ref().map(String::as_str)).contains("no stored waveforms"));
    bedside.ok(&["verify", "--data", data.to_str().unwrap()]);
}

#[test]
fn deidentified_export_has_the_samples_of_waveforms() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let leads = store_waveforms(&data, proto_json::Timestamp::now().plus_millis(-3_600_000));
    let bedside = Bedside::start_in(folder, &data, &[]);
    bedside.ok(&["upload", "--mrn", "7", "--name", "Ann Uncommon"]);
    let to = bedside.folder.path().join("case");
    let (data, case) = (data.to_str().unwrap(), to.to_str().unwrap());
    bedside.ok(&["export", "7", "--to", case, "--deidentified", "--data", data]);
    for (lead, (number, label)) in leads.iter().zip([(1, "II-1"), (2, "lead-1")]) {
        let text = fs::read_to_string(to.join(format!("waveforms/waveform-{number}.hea"))).unwrap();
        let header = ecg::wfdb::Header::parse(&text).unwrap();
        let bytes = fs::read(to.join("waveforms").join(&header.signals[0].file)).unwrap();
        let read = ecg::wfdb::signal(&header, 0, &bytes).unwrap();
        let steps: Vec<i16> = read.iter().map(|value| (value / 0.005).round() as i16).collect();
        assert_eq!((&steps, text.contains(&format!(" 0 {label}\n"))), (lead, true), "{text}");
    }
}

#[test]
fn rejected_upload_ends_with_one_sentence_and_an_exit_code() {
    let bedside = Bedside::start(&[]);
    let text = bedside.file("notes.png", b"Patient feels well.");
    assert!(bedside.fails(&["upload", "--mrn", "7", "--image", &text]).contains("PNG"));
    assert!(bedside.fails(&["upload", "--mrn", "7", "--ecg", "/no/such.csv"]).contains("/no/such.csv"));
    assert_eq!(bedside.ok(&["patients"]), "No patients yet.\n");

    let unreadable = bedside.file("strip.csv", b"hello\nworld\n");
    let output = bedside.run(&["upload", "--mrn", "7", "--ecg", &unreadable]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.lines().any(|line| line.starts_with("strip.csv: ")), "{said}");

    let wrong = bedside.run(&["patients", "--gateway", "ftp://example"]);
    assert_eq!(wrong.status.code(), Some(64));
}

#[test]
fn watch_prints_current_patients_and_then_each_update() {
    let bedside = Bedside::start(&["--demo"]);
    let mut watch = bedside.command(&["watch", "900001", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut versions = Vec::new();
    for line in lines {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let patient = &line["patient"];
        assert_eq!((&patient["mrn"], &patient["name"]), (&900_001.into(), &"Demo Ann".into()));
        versions.push(patient["version"].as_u64().unwrap());
        let rate = patient["latest_heart_rate"]["bpm"].as_u64();
        if line["type"] == "updated" && rate.is_some_and(|rate| (60..90).contains(&rate)) {
            break;
        }
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
}

#[test]
fn created_tokens_grant_the_permissions_of_their_roles() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let make = |args: &[&str]| Command::new(BEDSIDE).args(["token", "new"]).args(args).output().unwrap();
    let printed = String::from_utf8(make(&["bed-1", "--role", "uploader"]).stdout).unwrap();
    let [token, line] = printed.lines().collect::<Vec<_>>()[..] else { panic!("{printed}") };
    assert!(line.starts_with("bed-1 uploader ") && !line.contains(token));
    fs::write(&file, line).unwrap();
    let output = make(&["station", "--role", "viewer", "--file", file.to_str().unwrap()]);
    let viewer = String::from_utf8(output.stdout).unwrap();
    let again = make(&["station", "--role", "admin", "--file", file.to_str().unwrap()]);
    assert!(
        !again.status.success()
            && String::from_utf8(again.stderr).unwrap().contains("already contains a token of station")
    );
    assert!(!make(&["a b", "--role", "viewer"]).status.success());

    let bedside = Bedside::start(&["--tokens", file.to_str().unwrap()]);
    assert!(bedside.fails(&["patients"]).contains("does not accept the access token"));
    assert!(bedside.fails(&["patients", "--token", token]).contains("does not allow this"));
    assert_eq!(bedside.ok(&["patients", "--token", viewer.trim()]), "No patients yet.\n");
    // An uploader cannot read the analysis. The upload is stored, so the command succeeds.
    let ecg = bedside.file("strip.csv", &strip(84.0));
    let said = bedside.ok(&["upload", "--mrn", "7", "--ecg", &ecg, "--token", token]);
    assert!(said.starts_with("New patient 7 is registered."), "{said}");
    assert!(said.ends_with("The analysis cannot be read with this token.\n"), "{said}");
    let token_file = bedside.file("uploader", token.as_bytes());
    let json = bedside.ok(&["upload", "--mrn", "7", "--ecg", &ecg, "--token-file", &token_file, "--json"]);
    let kinds: Vec<Value> =
        json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].clone()).collect();
    assert_eq!(kinds, ["stored", "not_readable"]);
    bedside.ok(&["healthcheck"]);
    assert!(bedside.fails(&["dead-letters", "list", "--token", viewer.trim()]).contains("does not allow"));
}

#[test]
fn verify_succeeds_on_the_data_of_a_running_bedside() {
    let bedside = Bedside::start(&[]);
    let ecg = bedside.file("strip.csv", &strip(84.0));
    bedside.ok(&["upload", "--mrn", "7", "--name", "Ann", "--ecg", &ecg]);
    let data = bedside.folder.path().join("data");
    let said = bedside.ok(&["verify", "--data", data.to_str().unwrap()]);
    assert!(said.trim_end().ends_with("records and files are intact."), "{said}");
    assert!(bedside.fails(&["verify", "--data", "/no/such/folder"]).contains("there is no data in"));
}

#[test]
fn dead_letter_commands_report_missing_dead_letters() {
    let bedside = Bedside::start(&[]);
    assert_eq!(bedside.ok(&["dead-letters", "list"]), "No dead letters.\n");
    assert!(bedside.fails(&["dead-letters", "show", "1"]).contains("there is no dead letter 1"));
    assert_eq!(bedside.ok(&["dead-letters", "retry", "--all"]), "");
    assert!(bedside.fails(&["dead-letters", "drop", "3"]).contains("there is no dead letter 3"));
    assert_eq!(bedside.run(&["dead-letters", "drop"]).status.code(), Some(2), "a selection is required");
}

#[test]
fn restored_backup_of_a_running_bedside_has_the_same_data() {
    let bedside = Bedside::start(&[]);
    let (ecg, image) = (bedside.file("strip.csv", &strip(84.0)), bedside.file("x.png", &image()));
    bedside.ok(&["upload", "--mrn", "7", "--name", "Ann", "--ecg", &ecg, "--image", &image]);
    let data = bedside.folder.path().join("data");
    let copy = bedside.folder.path().join("copy");
    let (data, to) = (data.to_str().unwrap(), copy.to_str().unwrap());
    bedside.ok(&["backup", "--data", data, "--to", to]);
    assert!(bedside.fails(&["backup", "--data", data, "--to", to]).contains("is not empty"));
    assert!(bedside.fails(&["backup", "--data", "/no/such/folder", "--to", "/tmp/x"]).contains("no data"));
    bedside.ok(&["upload", "--mrn", "8", "--name", "later"]);

    // A backup is not a data directory: starting on it would change it.
    assert!(refusal(&copy).contains("is a backup"), "{}", refusal(&copy));
    let target_dir = bedside.folder.path().join("restored");
    let target = target_dir.to_str().unwrap();
    bedside.ok(&["restore", "--from", to, "--data", target]);
    assert!(bedside.fails(&["restore", "--from", to, "--data", target]).contains("--replace"));
    assert!(
        bedside
            .fails(&["restore", "--from", to, "--data", data, "--replace"])
            .contains("uses the data directory")
    );
    let restored = Bedside::start_on(&target_dir, &[]);
    let patients = restored.ok(&["patients", "--json"]);
    assert_eq!(
        patients,
        bedside.ok(&["patients", "--json", "--query", "ann"]),
        "later uploads are not in the backup"
    );
    let files = |bedside: &Bedside, name: &str| {
        let folder = bedside.folder.path().join(name);
        bedside.ok(&["export", "7", "--to", folder.to_str().unwrap()]);
        let mut files: Vec<_> = walk(&folder);
        files.sort();
        files
    };
    let (before, after) = (files(&bedside, "before"), files(&restored, "after"));
    assert!(before.len() >= 4);
    assert_eq!(before, after);
}

#[cfg(unix)]
#[test]
fn files_are_private_and_existing_directories_keep_their_mode() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = tempfile::tempdir().unwrap();
    let (shared, link) = (folder.path().join("shared"), folder.path().join("link"));
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o750)).unwrap();
    std::os::unix::fs::symlink(&shared, &link).unwrap();
    // As created by an earlier version.
    fs::write(shared.join("patients.db"), "").unwrap();
    fs::set_permissions(shared.join("patients.db"), fs::Permissions::from_mode(0o644)).unwrap();

    let bedside = Bedside::start_on(&link, &[]);
    let image = bedside.file("x.png", &image());
    bedside.ok(&["upload", "--mrn", "7", "--image", &image]);
    let out = folder.path().join("out");
    bedside.ok(&["export", "7", "--to", out.to_str().unwrap()]);
    assert_eq!((mode(&shared), mode(&out)), (0o750, 0o700));
    let mut looked_at = 0;
    for root in [&shared, &out, &out.join("images")] {
        for entry in fs::read_dir(root).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
                looked_at += 1;
            }
        }
    }
    assert!(looked_at >= 7, "{looked_at}");
}

/// Returns the error of a start on a directory that is rejected.
fn refusal(data: &Path) -> String {
    let listen = ["--listen", "127.0.0.1:0", "--data"];
    let output = Command::new(BEDSIDE).args(listen).arg(data).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn interrupted_backup_is_rejected_as_data_and_as_backup() {
    let bedside = Bedside::start(&[]);
    bedside.ok(&["upload", "--mrn", "7", "--name", "Ann"]);
    let folder = bedside.folder.path();
    let data = folder.join("data");
    let data = data.to_str().unwrap();
    // The state of a backup before it is complete.
    let copy = folder.join("copy");
    let part = folder.join("copy.incomplete");
    fs::create_dir(&part).unwrap();
    fs::write(part.join("INCOMPLETE"), "").unwrap();
    assert!(refusal(&part).contains("is incomplete"), "{}", refusal(&part));
    let target_dir = folder.join("restored");
    let restore = ["restore", "--from", part.to_str().unwrap(), "--data", target_dir.to_str().unwrap()];
    assert!(bedside.fails(&restore).contains("is incomplete"));
    // The next backup removes the remains.
    bedside.ok(&["backup", "--data", data, "--to", copy.to_str().unwrap()]);
    assert!(!part.exists() && copy.join("SHA256SUMS").is_file());

    // A failed backup leaves nothing under its name.
    let other = folder.join("other");
    fs::write(folder.join("other.incomplete"), "a foreign file").unwrap();
    bedside.fails(&["backup", "--data", data, "--to", other.to_str().unwrap()]);
    assert!(!other.exists());
    // A copy of a backup that lacks a file is rejected.
    let half = folder.join("half");
    fs::create_dir(&half).unwrap();
    fs::copy(copy.join("queues.db"), half.join("queues.db")).unwrap();
    assert!(refusal(&half).contains("no patients"), "{}", refusal(&half));
}

#[test]
fn damaged_backup_changes_nothing_and_interrupted_restore_can_be_repeated() {
    let bedside = Bedside::start(&[]);
    bedside.ok(&["upload", "--mrn", "7", "--name", "Ann"]);
    let folder = bedside.folder.path();
    let (data, copy, target_dir) = (folder.join("data"), folder.join("copy"), folder.join("place"));
    let (from, to) = (copy.to_str().unwrap(), target_dir.to_str().unwrap());
    bedside.ok(&["backup", "--data", data.to_str().unwrap(), "--to", from]);
    bedside.ok(&["restore", "--from", from, "--data", to]);
    let before = walk(&target_dir);
    let whole = fs::read(copy.join("patients.db")).unwrap();
    let mut damaged = whole.clone();
    damaged[5_000] ^= 1;
    fs::write(copy.join("patients.db"), damaged).unwrap();
    let said = bedside.fails(&["restore", "--from", from, "--data", to, "--replace"]);
    assert!(said.contains("patients.db is damaged") && said.contains("nothing was changed"), "{said}");
    fs::rename(copy.join("patients.db"), folder.join("away")).unwrap();
    assert!(
        bedside
            .fails(&["restore", "--from", from, "--data", to, "--replace"])
            .contains("nothing was changed")
    );
    assert_eq!(walk(&target_dir), before);

    fs::write(copy.join("patients.db"), whole).unwrap();
    // Interrupted between the two files.
    fs::write(target_dir.join("INCOMPLETE"), "").unwrap();
    fs::remove_file(target_dir.join("patients.db")).unwrap();
    assert!(refusal(&target_dir).contains("is incomplete"), "{}", refusal(&target_dir));
    bedside.ok(&["restore", "--from", from, "--data", to]);
    let restored = Bedside::start_on(&target_dir, &[]);
    assert!(restored.ok(&["patients"]).contains("Ann"));
}

/// Returns names and contents of all files except the index, which contains the time of the export.
fn walk(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else if path.file_name().is_some_and(|name| name != "index.json") {
            found.push((path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()));
        }
    }
    found
}

#[test]
fn upload_without_content_is_rejected_before_it_is_sent() {
    let bedside = Bedside::start(&[]);
    let output = bedside.run(&["upload", "--mrn", "8"]);
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("bedside: there is nothing to upload: add --name"), "{said}");
    assert_eq!(bedside.ok(&["patients"]), "No patients yet.\n");
}

#[test]
fn created_certificate_is_trusted_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let file = |name: &str| certs.join(name).to_str().unwrap().to_owned();
    let cert = |names: &[&str]| {
        Command::new(BEDSIDE).args(["cert", "--to"]).arg(&certs).args(names).output().unwrap()
    };
    assert_eq!(cert(&["https://ward"]).status.code(), Some(64));
    assert!(cert(&["localhost", "127.0.0.1"]).status.success());
    let names = ["ca.pem", "ca-key.pem", "server.pem", "server-key.pem"];
    let contents = || names.map(|name| fs::read(certs.join(name)).unwrap());
    let before = contents();
    #[cfg(unix)]
    for name in names {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(certs.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    let again = cert(&["localhost"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8(again.stderr).unwrap().contains("exists"));
    fs::remove_file(file("ca.pem")).unwrap();
    assert_eq!(cert(&["localhost"]).status.code(), Some(1), "the other files exist");
    assert!(!certs.join("ca.pem").exists());
    fs::write(file("ca.pem"), &before[0]).unwrap();
    assert_eq!(contents(), before);

    let start = |cert: &str, key: &str| Bedside::start(&["--tls-cert", &file(cert), "--tls-key", &file(key)]);
    let bedside = start("server.pem", "server-key.pem");
    assert!(bedside.program.address.starts_with("https://"));
    assert_eq!(bedside.ok(&["patients", "--ca", &file("ca.pem")]), "No patients yet.\n");
    let localhost = bedside.program.address.replace("127.0.0.1", "localhost");
    bedside.ok(&["patients", "--ca", &file("ca.pem"), "--gateway", &localhost]);
    let said = bedside.fails(&["patients"]);
    assert!(said.contains("not issued by a trusted CA"), "{said}");
    // A CA certificate as server certificate, as `openssl req -x509` creates it.
    let wrong = start("ca.pem", "ca-key.pem");
    let said = wrong.fails(&["patients", "--ca", &file("ca.pem")]);
    assert!(said.contains("`bedside cert`"), "{said}");
}

#[test]
fn demo_has_its_own_directory_and_clears_it_unless_keep_is_given() {
    let home = tempfile::tempdir().unwrap();
    // The user's data directory on Linux.
    let start = |flags: &[&str]| {
        let mut command = Command::new(BEDSIDE);
        command.args(flags).env("XDG_DATA_HOME", home.path()).env("HOME", home.path());
        command.env_remove("BEDSIDE_DATA").env_remove("BEDSIDE_LOG").stderr(Stdio::piped());
        Bedside { program: Program::start(&mut command), folder: tempfile::tempdir().unwrap() }
    };
    let own = |bedside: &Bedside| bedside.ok(&["patients", "--query", "Zed"]) != "No patient matches.\n";

    let mut bedside = start(&["--demo"]);
    let banner = &bedside.program.banner;
    assert!(banner.contains("simulated patients") && banner.contains("bedside-demo"), "{banner}");
    bedside.ok(&["upload", "--mrn", "7", "--name", "Zed"]);
    let program = &mut bedside.program;
    program.process.kill().unwrap();
    program.process.wait().unwrap();
    let mut rest = String::new();
    for line in program.output.by_ref() {
        rest.push_str(&line.unwrap());
    }
    let mut log = String::new();
    std::io::Read::read_to_string(&mut program.process.stderr.take().unwrap(), &mut log).unwrap();
    assert_eq!(rest, "", "the address is the last line");
    assert!(!log.contains("INFO"), "{log}");

    let bedside = start(&["--demo", "--keep"]);
    assert!(own(&bedside));
    drop(bedside);
    let bedside = start(&["--demo"]);
    assert!(!own(&bedside));
    assert!(!home.path().join("bedside").exists());
    drop(bedside);
    let bedside = start(&[]);
    let banner = &bedside.program.banner;
    assert!(!banner.contains("simulated"), "{banner}");
    assert!(!bedside.ok(&["patients"]).contains("Demo"));
}

#[test]
fn commands_have_the_same_connection_settings_and_json_output() {
    let help = |command: &str| {
        let args = command.split_whitespace().chain(["--help"]);
        let output = Command::new(BEDSIDE).args(args).output().unwrap();
        assert!(output.status.success(), "{command}");
        String::from_utf8(output.stdout).unwrap()
    };
    let gateway = [
        "upload",
        "patients",
        "watch",
        "export",
        "import",
        "reanalyse",
        "dead-letters list",
        "dead-letters show",
        "dead-letters retry",
        "dead-letters drop",
        "healthcheck",
    ];
    for command in gateway {
        let text = help(command);
        for flag in ["--gateway", "--token ", "--token-file", "--ca", "--json"] {
            assert!(text.contains(flag), "{command} {flag}");
        }
    }
    for command in [
        "verify",
        "backup",
        "restore",
        "token new",
        "token list",
        "token revoke",
        "token rotate",
        "cert",
        "audit pseudonym",
    ] {
        assert!(help(command).contains("--json"), "{command}");
    }
    let watch = help("watch");
    for setting in [
        "BEDSIDE_NATS=",
        "BEDSIDE_NATS_USER=",
        "BEDSIDE_NATS_PASSWORD",
        "BEDSIDE_NATS_PASSWORD_FILE=",
        "BEDSIDE_NATS_CREDS=",
        "BEDSIDE_NATS_INBOX=",
        "BEDSIDE_NATS_CA=",
    ] {
        assert!(watch.contains(setting), "{setting}: {watch}");
    }
    assert!(help("").contains("Exit codes:"));
    // The earlier name of BEDSIDE_NATS: without it, the user would be ignored.
    let mut command = Command::new(BEDSIDE);
    command.args(["watch", "--nats-user", "monitor"]).env_remove("BEDSIDE_NATS");
    let output = command.env("BEDSIDE_NATS_URL", "nats://127.0.0.1:1").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--nats-password-file"));
}

#[test]
fn revoked_and_rotated_tokens_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let path = file.to_str().unwrap();
    let token = |args: &[&str]| {
        let output = Command::new(BEDSIDE).arg("token").args(args).args(["--file", path]).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (one, two) = (token(&["new", "one", "--role", "viewer"]), token(&["new", "two", "--role", "admin"]));
    let listed = token(&["list", "--json"]);
    // No ward and no bed: it is not limited.
    let first = r#"{"bed":null,"expires":null,"name":"one","role":"viewer","wards":[]}"#;
    assert_eq!(listed.lines().next().unwrap(), first);
    assert!(!listed.contains(&one));
    let rotated = token(&["rotate", "one", "--days", "1"]);
    let entry: Value = serde_json::from_str(token(&["list", "--json"]).lines().next().unwrap()).unwrap();
    assert!(entry["expires"].is_string(), "{entry}");
    token(&["revoke", "two"]);
    let bedside = Bedside::start(&["--tokens", path]);
    assert_eq!(bedside.ok(&["patients", "--token", &rotated]), "No patients yet.\n");
    for old in [&one, &two] {
        assert!(bedside.fails(&["patients", "--token", old]).contains("does not accept the access token"));
    }
    assert!(bedside.fails(&["token", "revoke", "two", "--file", path]).contains("no token of two"));
}

/// The next line of the example device that contains this text.
fn line_with(lines: &mut impl Iterator<Item = std::io::Result<String>>, text: &str) -> String {
    lines
        .map(Result::unwrap)
        .find(|line| line.contains(text))
        .unwrap_or_else(|| panic!("no line with {text:?}"))
}

#[test]
fn example_device_streams_and_resumes_after_the_server_was_killed() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/device.py");
    assert!(fs::read_to_string(script).unwrap().lines().count() <= 80);
    let data = tempfile::tempdir().unwrap();
    let killed = Bedside::start_on(data.path(), &[]);
    let address = killed.program.address.strip_prefix("http://").unwrap().to_owned();
    let mut device =
        Command::new("python3").args([script, &address, "7", "25"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(device.stdout.take().unwrap()).lines();
    let opened = line_with(&mut lines, "opened");
    let stream = opened.strip_suffix(" 0").expect("a new stream starts at 0");
    line_with(&mut lines, r#""sequence": 5}"#);
    drop(killed);
    line_with(&mut lines, "disconnected");
    let mut command = Command::new(BEDSIDE);
    command.args(["--log", "warn", "--data"]).arg(data.path());
    let _restarted = Program::start_at(&address, &mut command);
    let resumed = line_with(&mut lines, "opened");
    let next: u64 = resumed.strip_prefix(stream).expect("the same stream").trim().parse().unwrap();
    assert!((6..25).contains(&next), "{resumed}");
    line_with(&mut lines, r#""sequence": 24}"#);
    line_with(&mut lines, "closed 1000");
    assert!(device.wait().unwrap().success());
}

#[test]
fn simulated_patient_and_recording_are_streamed_until_everything_is_stored() {
    let bedside = Bedside::start(&[]);
    let said = bedside.ok(&["stream", "--mrn", "7", "--synthetic", "--duration", "3s", "--json"]);
    let summary: Value = serde_json::from_str(said.trim()).unwrap();
    // 15 frames of 200 ms, and numerics once per second.
    assert_eq!(summary["acknowledged"], 18, "{summary}");
    assert_eq!((&summary["dropped"], &summary["unacknowledged"]), (&0.into(), &0.into()), "{summary}");

    let file = bedside.file("strip.csv", &strip(70.0));
    let said = bedside.ok(&["stream", "--mrn", "20", "--patients", "3", "--speed", "20", &file]);
    let mut lines = said.lines();
    assert!(lines.next().unwrap().ends_with("strip.csv: ECG of 15.0 s"), "{said}");
    assert_eq!(lines.next(), Some("Sent 15.0 s to 3 patients: 225 messages are stored."), "{said}");
}

#[test]
fn wrong_arguments_of_a_stream_are_explained() {
    let run = |args: &[&str]| {
        let output = Command::new(BEDSIDE).args(["stream", "--mrn", "7"]).args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (args, code, reason) in [
        (&["--synthetic", "--speed", "0.5"][..], 2, "a number from 1 to 60"),
        (&["--synthetic", "--rhythm", "vt"], 2, "one of sinus, bradycardia"),
        (&["--synthetic", "--noise", "much"], 2, "none, low or high"),
        (&["--synthetic", "strip.csv"], 2, "cannot be used with"),
        (&["--rate", "70"], 2, "--synthetic"),
        (&["--synthetic", "--speed", "2"], 64, "add --duration"),
        (&["--synthetic", "--rhythm", "tachycardia", "--rate", "60"], 64, "101 to 220"),
        (&["--synthetic", "--lead-off-every", "5s"], 64, "longer than --lead-off-for"),
        (&["/no/such.edf"], 1, "/no/such.edf cannot be read"),
    ] {
        let (status, said) = run(args);
        assert_eq!(status, Some(code), "{args:?}: {said}");
        assert!(said.contains(reason), "{args:?}: {said}");
    }
    let help = Command::new(BEDSIDE).args(["stream", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for flag in
        ["--mrn <MRN>", "--speed <FACTOR>", "--synthetic", "--lead-off-every <TIME>", "--patients <NUMBER>"]
    {
        assert!(help.contains(flag), "{flag}: {help}");
    }
}

#[test]
fn wards_and_beds_are_managed_and_patients_move_through_them() {
    let bedside = Bedside::start(&[]);
    for mrn in ["7", "8"] {
        bedside.ok(&["upload", "--mrn", mrn, "--name", "Ann"]);
    }
    assert_eq!(bedside.ok(&["ward", "list"]), "No wards yet.\n");
    assert_eq!(bedside.ok(&["ward", "add", "Ward 1"]), "Ward 1 is added\n");
    assert_eq!(bedside.ok(&["ward", "add", "Ward 2"]), "Ward 2 is added\n");
    let added = bedside.ok(&["bed", "add", "ward 1", "Bed 1", "Bed 2"]);
    assert_eq!(added, "Bed 1 of Ward 1 is added\nBed 2 of Ward 1 is added\n");
    bedside.ok(&["bed", "add", "Ward 2", "Bed 1"]);
    let said = bedside.ok(&["admit", "7", "--ward", "Ward 1", "--bed", "bed 1"]);
    assert_eq!(said, "Patient 7 is in Ward 1, Bed 1.\n");
    assert_eq!(bedside.ok(&["transfer", "7", "--bed", "Bed 2"]), "Patient 7 is in Ward 1, Bed 2.\n");
    let said = bedside.ok(&["transfer", "7", "--ward", "Ward 2", "--bed", "Bed 1"]);
    assert_eq!(said, "Patient 7 is in Ward 2, Bed 1.\n");
    assert_eq!(bedside.ok(&["ward", "rename", "Ward 2", "South"]), "Ward 2 is now South\n");
    assert_eq!(bedside.ok(&["bed", "rename", "South", "Bed 1", "Window"]), "Window of South is renamed\n");

    let table = bedside.ok(&["ward", "list"]);
    let line = table.lines().find(|line| line.starts_with("South")).unwrap();
    assert!(line.contains("Window") && line.ends_with("  7"), "{table}");
    let json: Vec<Value> = bedside
        .ok(&["ward", "list", "--json"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&json[0]["beds"][0]["occupant"], &json[1]["beds"].as_array().unwrap().len()),
        (&7.into(), &2)
    );

    // Each error is one sentence, and the exit code is 1.
    for (args, about) in [
        (&["ward", "add", "SOUTH"][..], "Another ward has this name"),
        (&["ward", "remove", "South"], "patient 7 is in it"),
        (&["ward", "remove", "West"], "known: South, Ward 1"),
        (&["bed", "remove", "South", "Window"], "patient 7 is in it"),
        (&["bed", "add", "South", "window"], "Another bed has this name"),
        (&["bed", "remove", "Ward 1", "Bed 9"], "known: Bed 1, Bed 2"),
        (&["admit", "8", "--ward", "South", "--bed", "Window"], "occupied by patient 7"),
        (&["admit", "7", "--ward", "Ward 1", "--bed", "Bed 1"], "already in bed Window of South"),
        (&["admit", "9", "--ward", "Ward 1", "--bed", "Bed 1"], "no patient"),
        (&["transfer", "8", "--bed", "Bed 1"], "patient 8 is not admitted"),
        (&["transfer", "9", "--bed", "Bed 1"], "there is no patient 9"),
        (&["discharge", "8"], "not admitted"),
        (&["discharge", "9"], "there is no patient 9"),
    ] {
        assert_eq!(bedside.run(args).status.code(), Some(1), "{args:?}");
        assert!(bedside.fails(args).contains(about), "{args:?}: {}", bedside.fails(args));
    }
    assert_eq!(bedside.ok(&["discharge", "7"]), "Patient 7 is discharged.\n");
    let shown = bedside.ok(&["patient", "show", "7"]);
    assert!(shown.contains("Place: not admitted\n"), "{shown}");
    let last = shown.lines().last().unwrap();
    assert!(last.starts_with("Ward 1, Bed 1: ") && last.contains("(admitted by local) to "), "{shown}");
    bedside.ok(&["bed", "remove", "South", "Window"]);
    assert_eq!(bedside.ok(&["ward", "remove", "South"]), "South is removed\n");
}

#[test]
fn details_of_a_patient_are_edited_and_shown() {
    let bedside = Bedside::start(&[]);
    bedside.ok(&["upload", "--mrn", "7", "--name", "Ann"]);
    bedside.ok(&["patient", "edit", "7", "--birth-date", "1957-03-14", "--sex", "female", "--notes", "a\nb"]);
    let shown = bedside.ok(&["patient", "show", "7"]);
    let details = "Born: 1957-03-14\nSex: female\nNotes: a\nNotes: b\n";
    assert!(shown.starts_with("Patient 7: Ann\n") && shown.ends_with(details), "{shown}");
    bedside.ok(&["patient", "edit", "7", "--notes", ""]);
    let json: Value = serde_json::from_str(&bedside.ok(&["patient", "show", "7", "--json"])).unwrap();
    let details = &json["patient"]["details"];
    assert_eq!(
        (&details["notes"], &details["sex"], &details["version"]),
        (&Value::Null, &"female".into(), &2.into())
    );
    for (args, code, about) in [
        (&["patient", "edit", "7", "--sex", "f"][..], 64, "female, male, other or unknown"),
        (&["patient", "edit", "7", "--birth-date", "14.3.1957"], 64, "1957-03-14"),
        (&["patient", "edit", "7", "--birth-date", "9000-01-01"], 1, "in the future"),
        (&["patient", "edit", "8", "--sex", "male"], 1, "there is no patient 8"),
        (&["patient", "show", "8"], 1, "there is no patient 8"),
    ] {
        assert_eq!(bedside.run(args).status.code(), Some(code), "{args:?}");
        assert!(bedside.fails(args).contains(about), "{args:?}: {}", bedside.fails(args));
    }
    assert_eq!(bedside.run(&["patient", "edit", "7"]).status.code(), Some(2));
}

/// A new site has no account. The first one is added to the data directory, the others by that administrator.
#[test]
fn first_administrator_is_added_to_the_data_directory_and_manages_users() {
    let folder = tempfile::tempdir().unwrap();
    let (data, tokens) = (folder.path().join("data"), folder.path().join("tokens"));
    fs::write(&tokens, "").unwrap();
    let flags = ["--tokens", tokens.to_str().unwrap()];
    let path = data.to_str().unwrap();
    let user =
        |args: &[&str]| Command::new(BEDSIDE).arg("user").args(args).args(["--data", path]).output().unwrap();
    let said = |output: &Output| String::from_utf8(output.stderr.clone()).unwrap();
    let none = user(&["list"]);
    assert_eq!(none.status.code(), Some(64));
    assert!(said(&none).contains("is not a data directory"), "{}", said(&none));
    let bedside = Bedside::start_on(&data, &flags);
    let busy = user(&["add", "chief", "--role", "admin"]);
    assert!(!busy.status.success() && said(&busy).contains("another Bedside uses"), "{}", said(&busy));
    drop(bedside);
    let added = user(&["add", "Chief", "--role", "admin", "--display-name", "Dr. Chief"]);
    assert!(added.status.success(), "{}", said(&added));
    let password = String::from_utf8(added.stdout).unwrap().trim().to_owned();
    assert_eq!(password.len(), 23, "{password}");
    let again = user(&["add", "chief", "--role", "admin"]);
    assert_eq!(
        (again.status.code(), said(&again)),
        (Some(1), "bedside: There is already a user chief.\n".to_owned())
    );

    let bedside = Bedside::start_on(&data, &flags);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let gateway = client::Gateway::new(&client::Settings::new(&bedside.program.address)).unwrap();
    let log_in = |name: &str, password: &str| {
        let password = proto_json::users::Sensitive(password.to_owned());
        let login = proto_json::users::LoginRequest::Account { user: name.to_owned(), password };
        runtime.block_on(gateway.log_in(&login))
    };
    let (session, secret) = log_in("chief", &password).unwrap();
    assert_eq!((session.display_name.as_str(), session.role.as_str()), ("Dr. Chief", "admin"));
    let token = ["--token", secret.as_str()];
    fn by_chief<'a>(args: &[&'a str], token: &[&'a str]) -> Vec<&'a str> {
        [&["user"], args, token].concat()
    }
    let ward = "0198c0de-0000-7000-8000-000000000001";
    let password = bedside.ok(&by_chief(&["add", "anna", "--role", "nurse", "--ward", ward], &token));
    assert_eq!(log_in("anna", password.trim()).unwrap().0.wards.unwrap()[0].to_string(), ward);
    let list = bedside.ok(&by_chief(&["list"], &token));
    assert_eq!(list.lines().count(), 2);
    assert!(list.lines().next().unwrap().contains(ward) && list.contains("Dr. Chief"), "{list}");
    let changed = bedside.ok(&by_chief(&["passwd", "anna"], &token));
    assert!(log_in("anna", password.trim()).is_err());
    let (_, of_anna) = log_in("anna", changed.trim()).unwrap();
    let refused = bedside.fails(&["user", "list", "--token", of_anna.as_str()]);
    assert!(refused.contains("does not allow this"), "{refused}");
    assert_eq!(bedside.ok(&by_chief(&["disable", "anna"], &token)), "anna is disabled.\n");
    assert!(log_in("anna", changed.trim()).is_err());
    assert_eq!(bedside.ok(&by_chief(&["disable", "anna", "--enable"], &token)), "anna is enabled.\n");
    log_in("anna", changed.trim()).unwrap();
    assert_eq!(bedside.ok(&by_chief(&["remove", "anna"], &token)), "anna is removed.\n");
    assert!(bedside.fails(&by_chief(&["remove", "anna"], &token)).contains("no user"));
    assert!(bedside.fails(&by_chief(&["disable", "chief"], &token)).contains("Another administrator"));
}
