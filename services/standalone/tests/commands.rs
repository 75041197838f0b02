//! The commands against the running program, as a person uses them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to fail")]

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use ecg::synth::{Settings, csv, generate};
use serde_json::Value;
use tempfile::TempDir;

const BEDSIDE: &str = env!("CARGO_BIN_EXE_bedside");

/// The program, serving on a free port with data of its own. Dropping it ends it.
struct Bedside {
    process: Child,
    address: String,
    folder: TempDir,
    _output: Lines<BufReader<ChildStdout>>,
}

impl Bedside {
    fn start(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Self::start_in(folder, &data, flags)
    }

    /// The same on data that are there.
    fn start_on(data: &Path, flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), data, flags)
    }

    fn start_in(folder: TempDir, data: &Path, flags: &[&str]) -> Self {
        let mut process = Command::new(BEDSIDE)
            .args(["--listen", "127.0.0.1:0", "--log", "warn", "--data"])
            .arg(data)
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = output
            .find_map(|line| line.unwrap().strip_prefix("Bedside listens on ").map(str::to_owned))
            .unwrap();
        Bedside { process, address, folder, _output: output }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BEDSIDE);
        command.args(args).env("BEDSIDE_GATEWAY", &self.address);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed; what it prints.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail with one sentence; that sentence.
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

impl Drop for Bedside {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn strip(mean_bpm: f64) -> Vec<u8> {
    csv(&generate(&Settings { mean_bpm, duration_s: 15.0, ..Settings::default() }).strip)
}

fn picture() -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 3, 2);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&[0, 1, 2, 3, 4, 5]).unwrap();
    file
}

#[test]
fn an_upload_is_confirmed_analysed_listed_and_exported_bit_for_bit() {
    let bedside = Bedside::start(&[]);
    let (strip, picture) = (strip(84.0), picture());
    let (ecg, image) = (bedside.file("strip.csv", &strip), bedside.file("x ray.png", &picture));
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
    assert!(bedside.ok(&["export", "7", "--to", to]).starts_with("4 files written, 0 there"));
    let index: Value = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    let saved = |path: &Value| folder.join(path.as_str().unwrap());
    assert_eq!(fs::read(saved(&index["ecgs"][0]["signal_file"])).unwrap(), strip);
    let image_path = saved(&index["images"][0]["image_file"]);
    assert_eq!(fs::read(&image_path).unwrap(), picture);

    // Cut off and started again: only what is missing is fetched; what is somebody else's stays.
    fs::remove_file(saved(&index["ecgs"][0]["plot_file"])).unwrap();
    assert!(bedside.ok(&["export", "7", "--to", to]).starts_with("1 file written, 3 there"));
    fs::write(&image_path, "mine").unwrap();
    assert!(bedside.fails(&["export", "7", "--to", to]).contains("left as it is"));
    assert_eq!(fs::read(&image_path).unwrap(), b"mine");
    assert!(bedside.fails(&["export", "8", "--to", to]).contains("there is no patient 8"));
    assert!(!Path::new(to).join(".part").exists());
}

#[test]
fn what_cannot_be_uploaded_is_one_sentence_and_an_exit_code() {
    let bedside = Bedside::start(&[]);
    let text = bedside.file("notes.png", b"Patient feels well.");
    assert!(bedside.fails(&["upload", "--mrn", "7", "--image", &text]).contains("PNG"));
    assert!(bedside.fails(&["upload", "--mrn", "7", "--ecg", "/no/such.csv"]).contains("/no/such.csv"));
    assert_eq!(bedside.ok(&["patients"]), "No patients yet.\n");

    let unreadable = bedside.file("strip.csv", b"hello\nworld\n");
    let output = bedside.run(&["upload", "--mrn", "7", "--ecg", &unreadable]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.lines().any(|line| line.starts_with("strip.csv: ")), "the reason is told: {said}");

    let wrong = bedside.run(&["patients", "--gateway", "ftp://example"]);
    assert_eq!(wrong.status.code(), Some(64));
}

#[test]
fn watch_prints_what_is_there_and_then_each_update_of_the_simulated_patients() {
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
fn a_token_that_is_made_lets_its_holder_in() {
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
    assert!(!again.status.success() && String::from_utf8(again.stderr).unwrap().contains("station already"));
    assert!(!make(&["a b", "--role", "viewer"]).status.success());

    let bedside = Bedside::start(&["--tokens", file.to_str().unwrap()]);
    assert!(bedside.fails(&["patients"]).contains("does not accept the access token"));
    assert!(bedside.fails(&["patients", "--token", token]).contains("does not allow this"));
    assert_eq!(bedside.ok(&["patients", "--token", viewer.trim()]), "No patients yet.\n");
    // A bed may upload, and not read: that the upload is stored is success.
    let ecg = bedside.file("strip.csv", &strip(84.0));
    let said = bedside.ok(&["upload", "--mrn", "7", "--ecg", &ecg, "--token", token]);
    assert!(said.starts_with("New patient 7 is registered."), "{said}");
    assert!(said.ends_with("this token may not read its result.\n"), "{said}");
    bedside.ok(&["healthcheck"]);
    assert!(bedside.fails(&["dead-letters", "list", "--token", viewer.trim()]).contains("does not allow"));
}

#[test]
fn verify_checks_a_running_bedside() {
    let bedside = Bedside::start(&[]);
    let ecg = bedside.file("strip.csv", &strip(84.0));
    bedside.ok(&["upload", "--mrn", "7", "--name", "Ann", "--ecg", &ecg]);
    let data = bedside.folder.path().join("data");
    let said = bedside.ok(&["verify", "--data", data.to_str().unwrap()]);
    assert!(said.trim_end().ends_with("records and files are intact."), "{said}");
    assert!(bedside.fails(&["verify", "--data", "/no/such/folder"]).contains("there is no data in"));
}

#[test]
fn without_dead_letters_there_is_nothing_to_deal_with() {
    let bedside = Bedside::start(&[]);
    assert_eq!(bedside.ok(&["dead-letters", "list"]), "No dead letters.\n");
    assert!(bedside.fails(&["dead-letters", "show", "1"]).contains("there is no dead letter 1"));
    assert_eq!(bedside.ok(&["dead-letters", "retry", "--all"]), "");
    assert!(bedside.fails(&["dead-letters", "drop", "3"]).contains("there is no dead letter 3"));
    assert!(!bedside.run(&["dead-letters", "drop"]).status.success(), "which ones must be said");
}

#[test]
fn a_backup_of_a_running_bedside_gives_the_same_answers() {
    let bedside = Bedside::start(&[]);
    let (ecg, image) = (bedside.file("strip.csv", &strip(84.0)), bedside.file("x.png", &picture()));
    bedside.ok(&["upload", "--mrn", "7", "--name", "Ann", "--ecg", &ecg, "--image", &image]);
    let data = bedside.folder.path().join("data");
    let copy = bedside.folder.path().join("copy");
    let (data, to) = (data.to_str().unwrap(), copy.to_str().unwrap());
    bedside.ok(&["backup", "--data", data, "--to", to]);
    assert!(bedside.fails(&["backup", "--data", data, "--to", to]).contains("is not empty"));
    assert!(bedside.fails(&["backup", "--data", "/no/such/folder", "--to", "/tmp/x"]).contains("no data"));
    bedside.ok(&["upload", "--mrn", "8", "--name", "later"]);

    // A backup is not a data folder: started on it, it would not be a backup any more.
    assert!(refusal(&copy).contains("is a backup"), "{}", refusal(&copy));
    let place = bedside.folder.path().join("restored");
    let target = place.to_str().unwrap();
    bedside.ok(&["restore", "--from", to, "--data", target]);
    assert!(bedside.fails(&["restore", "--from", to, "--data", target]).contains("--replace"));
    assert!(
        bedside
            .fails(&["restore", "--from", to, "--data", data, "--replace"])
            .contains("uses the data folder")
    );
    let restored = Bedside::start_on(&place, &[]);
    let patients = restored.ok(&["patients", "--json"]);
    assert_eq!(
        patients,
        bedside.ok(&["patients", "--json", "--query", "ann"]),
        "and nothing that came later"
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

/// Whoever else has an account on the machine reads no patients.
#[cfg(unix)]
#[test]
fn files_are_private_and_a_folder_that_was_there_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = tempfile::tempdir().unwrap();
    let (shared, link) = (folder.path().join("shared"), folder.path().join("link"));
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o750)).unwrap();
    std::os::unix::fs::symlink(&shared, &link).unwrap();
    // As an earlier version left it.
    fs::write(shared.join("patients.db"), "").unwrap();
    fs::set_permissions(shared.join("patients.db"), fs::Permissions::from_mode(0o644)).unwrap();

    let bedside = Bedside::start_on(&link, &[]);
    let image = bedside.file("x.png", &picture());
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

/// What `bedside` says that refuses to start on a folder.
fn refusal(data: &Path) -> String {
    let listen = ["--listen", "127.0.0.1:0", "--data"];
    let output = Command::new(BEDSIDE).args(listen).arg(data).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn interrupted_backup_is_no_system_and_no_backup() {
    let bedside = Bedside::start(&[]);
    bedside.ok(&["upload", "--mrn", "7", "--name", "Ann"]);
    let folder = bedside.folder.path();
    let data = folder.join("data");
    let data = data.to_str().unwrap();
    // As it is at any point before its end: under another name, and marked.
    let copy = folder.join("copy");
    let part = folder.join("copy.incomplete");
    fs::create_dir(&part).unwrap();
    fs::write(part.join("INCOMPLETE"), "").unwrap();
    assert!(refusal(&part).contains("is incomplete"), "{}", refusal(&part));
    let place = folder.join("restored");
    let restore = ["restore", "--from", part.to_str().unwrap(), "--data", place.to_str().unwrap()];
    assert!(bedside.fails(&restore).contains("is incomplete"));
    // The next one removes the rest.
    bedside.ok(&["backup", "--data", data, "--to", copy.to_str().unwrap()]);
    assert!(!part.exists() && copy.join("SHA256SUMS").is_file());

    // One that fails for want of a place leaves nothing under the name of the backup.
    let other = folder.join("other");
    fs::write(folder.join("other.incomplete"), "a file of somebody else").unwrap();
    bedside.fails(&["backup", "--data", data, "--to", other.to_str().unwrap()]);
    assert!(!other.exists());
    // A copy of a backup that lacks a file is neither.
    let half = folder.join("half");
    fs::create_dir(&half).unwrap();
    fs::copy(copy.join("queues.db"), half.join("queues.db")).unwrap();
    assert!(refusal(&half).contains("no patients"), "{}", refusal(&half));
}

#[test]
fn damaged_backup_changes_nothing_and_an_interrupted_restore_can_be_run_again() {
    let bedside = Bedside::start(&[]);
    bedside.ok(&["upload", "--mrn", "7", "--name", "Ann"]);
    let folder = bedside.folder.path();
    let (data, copy, place) = (folder.join("data"), folder.join("copy"), folder.join("place"));
    let (from, to) = (copy.to_str().unwrap(), place.to_str().unwrap());
    bedside.ok(&["backup", "--data", data.to_str().unwrap(), "--to", from]);
    bedside.ok(&["restore", "--from", from, "--data", to]);
    let before = walk(&place);
    let whole = fs::read(copy.join("patients.db")).unwrap();
    let mut damaged = whole.clone();
    damaged[5_000] ^= 1;
    fs::write(copy.join("patients.db"), damaged).unwrap();
    let told = bedside.fails(&["restore", "--from", from, "--data", to, "--replace"]);
    assert!(told.contains("patients.db is damaged") && told.contains("nothing was changed"), "{told}");
    fs::rename(copy.join("patients.db"), folder.join("away")).unwrap();
    assert!(
        bedside
            .fails(&["restore", "--from", from, "--data", to, "--replace"])
            .contains("nothing was changed")
    );
    assert_eq!(walk(&place), before);

    fs::write(copy.join("patients.db"), whole).unwrap();
    // Interrupted between the two files.
    fs::write(place.join("INCOMPLETE"), "").unwrap();
    fs::remove_file(place.join("patients.db")).unwrap();
    assert!(refusal(&place).contains("is incomplete"), "{}", refusal(&place));
    bedside.ok(&["restore", "--from", from, "--data", to]);
    let restored = Bedside::start_on(&place, &[]);
    assert!(restored.ok(&["patients"]).contains("Ann"));
}

/// Names and contents of all files but the index, which tells when it was written.
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
