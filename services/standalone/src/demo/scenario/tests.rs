use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::*;

const PATIENT: &str = "[[patients]]\nname = \"Demo A\"\nmrn = 900001\n";

fn error(text: &str) -> String {
    Scenario::parse("x.toml", text).unwrap_err().to_string()
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo")
}

#[test]
fn shipped_scenarios_are_valid_and_listed_and_one_is_built_in() {
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let mut names = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let scenario = Scenario::read(&path).unwrap_or_else(|error| panic!("{error}"));
        assert!(scenario.title.is_some(), "{name}");
        assert!(readme.contains(&format!("\n| [{name}]({name}) | ")), "{name} has no line in the README");
        names.push(name);
    }
    names.sort();
    assert_eq!(names, ["alarms.toml", "lesson.toml", "ward.toml"]);
    let ward = Scenario::read(&folder().join("ward.toml")).unwrap();
    assert_eq!(Scenario::built_in().unwrap(), ward);
    assert_eq!(ward.patients.len(), 8);
}

#[test]
fn format_in_the_readme_names_every_rhythm_with_its_rates() {
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    for rhythm in [
        Rhythm::Sinus,
        Rhythm::Bradycardia,
        Rhythm::Tachycardia,
        Rhythm::AtrialFibrillation,
        Rhythm::VentricularTachycardia,
        Rhythm::Pause,
        Rhythm::Asystole,
    ] {
        let name = rhythm.name();
        let line = readme.lines().find(|line| line.starts_with(&format!("| `{name}` | "))).unwrap();
        if let Some((rates, default)) = rhythm.rates() {
            assert!(line.contains(&format!("| {} to {}", rates.start(), rates.end())), "{line}");
            assert!(line.ends_with(&format!("| {default} |")), "{line}");
            assert!(rates.contains(&default));
        }
        let parsed = Scenario::parse("x.toml", &format!("{PATIENT}rhythm = \"{name}\"\n")).unwrap();
        assert_eq!(parsed.patients[0].base.rhythm, rhythm);
    }
}

#[test]
fn values_of_the_file_reach_the_scenario() {
    let text = "title = \"T\"\ninterval = \"5s\"\n\
        [[patients]]\nname = \"Demo A\"\nmrn = 900002\nrhythm = \"tachycardia\"\nrate_swing = 10\n\
        rate_period = \"1m\"\nectopy = 5\nnoise = \"high\"\ngaps = true\namplitude = -2\nimage = true\n\
        [[events]]\npatient = 900002\nat = \"+1m 30s\"\nfor = \"10s\"\nevery = \"20s\"\nrhythm = \"asystole\"\n\
        [[events]]\npatient = \"Demo A\"\nat = \"10:05\"\nrate = 130\nlead_off = true\n";
    let scenario = Scenario::parse("x.toml", text).unwrap();
    let seconds = Duration::from_secs;
    let events = vec![
        Event {
            at: At::AfterStart(seconds(90)),
            lasts: Some(seconds(10)),
            every: Some(seconds(20)),
            change: Change { rhythm: Some((Rhythm::Asystole, 0.0)), ..Change::default() },
        },
        Event {
            at: At::Clock(jiff::civil::time(10, 5, 0, 0)),
            lasts: None,
            every: None,
            change: Change { rate: Some(130.0), lead_off: Some(true), ..Change::default() },
        },
    ];
    let base = State {
        rhythm: Rhythm::Tachycardia,
        rate: 140.0,
        ectopy: 0.05,
        noise: Noise::High,
        lead_off: false,
        gaps: true,
    };
    let patient = Patient {
        mrn: 900_002,
        name: "Demo A".to_owned(),
        base,
        swing: Some(Swing { bpm: 10.0, period: seconds(60) }),
        amplitude_mv: -2.0,
        has_image: true,
        events,
    };
    assert_eq!(
        scenario,
        Scenario { title: Some("T".to_owned()), interval: Some(seconds(5)), patients: vec![patient] }
    );
}

/// Each error is one line with file, line, what is wrong and what is allowed.
#[test]
fn errors_state_the_line_and_what_is_allowed() {
    let patient = |line: &str| format!("{PATIENT}{line}\n");
    let event = |lines: &str| format!("{PATIENT}[[events]]\npatient = \"Demo A\"\n{lines}\n");
    let second = |lines: &str| format!("{PATIENT}[[patients]]\n{lines}\n");
    let cases: [(String, usize, &[&str]); 33] = [
        ("[[patients".to_owned(), 1, &["]]"]),
        (patient("rythm = \"sinus\""), 4, &["unknown field `rythm`", "`rhythm`", "`rate`", "`lead_off`"]),
        (patient("rhythm = \"vt\""), 4, &["unknown variant `vt`", "`ventricular-tachycardia`", "`asystole`"]),
        (patient("rate = 0"), 4, &["`0`", "a whole number from 20 to 280"]),
        (patient("rate = 72.5"), 4, &["`72.5`", "a whole number from 20 to 280"]),
        (patient("rate = \"72\""), 4, &["\"72\"", "a whole number from 20 to 280"]),
        (patient("rate = 250"), 4, &["the rate of sinus is from 20 to 220, not 250"]),
        (
            patient("rhythm = \"bradycardia\"\nrate = 72"),
            5,
            &["the rate of bradycardia is from 20 to 59, not 72"],
        ),
        (patient("rhythm = \"asystole\"\nrate = 72"), 5, &["asystole has no rate"]),
        (patient("rate_swing = 4"), 4, &["`rate_swing` needs `rate_period`"]),
        (patient("rate_period = \"1m\""), 4, &["`rate_period` needs `rate_swing`"]),
        (patient("rate_swing = 4\nrate_period = \"9s\""), 5, &["`rate_period` is from 10s to 7days"]),
        (
            patient("rate_swing = 60\nrate_period = \"1m\""),
            4,
            &["the rate is from 12 to 132", "the rate of sinus is from 20 to 220"],
        ),
        (patient("ectopy = 51"), 4, &["`51`", "a whole number from 0 to 50"]),
        (patient("noise = \"loud\""), 4, &["unknown variant `loud`", "`none`, `low`, `high`"]),
        (patient("lead_off = 1"), 4, &["`1`", "a boolean"]),
        (patient("amplitude = 0"), 4, &["`0`", "from 0.2 to 4"]),
        (patient("mrn = 900001"), 4, &["duplicate key"]),
        (second("mrn = 900002"), 4, &["missing field `name`"]),
        (second("name = \"Bed 3\"\nmrn = 900002"), 5, &["\"Bed 3\"", "a name that starts with \"Demo \""]),
        (second("name = \"Demo A\"\nmrn = 900002"), 5, &["two patients have the name \"Demo A\""]),
        (second("name = \"Demo B\"\nmrn = 900001"), 6, &["two patients have the record number 900001"]),
        (second("name = \"Demo B\"\nmrn = 7"), 6, &["`7`", "a whole number from 900001 to 900999"]),
        (format!("interval = \"0s\"\n{PATIENT}"), 1, &["`interval` is from 1s to 1h"]),
        (event("at = \"5m\"\nrate = 80"), 6, &["\"5m\"", "as in \"+5m\"", "\"10:05\""]),
        (event("at = \"25:00\"\nrate = 80"), 6, &["\"25:00\"", "as in \"+5m\""]),
        (event("at = \"+8days\"\nrate = 80"), 6, &["at most 7 days"]),
        (event("rate = 80"), 4, &["missing field `at`"]),
        (event("at = \"+5m\""), 4, &["the event changes nothing", "rhythm", "lead_off"]),
        (event("at = \"+5m\"\nrate = 80\nfor = \"soon\""), 8, &["\"soon\"", "a duration as in \"90s\""]),
        (event("at = \"+5m\"\nrate = 80\nfor = \"0s\""), 8, &["`for` is from 1s to 7days"]),
        (
            event("at = \"+5m\"\nrate = 80\nfor = \"1m\"\nevery = \"1m\""),
            9,
            &["`every` must be longer than `for`"],
        ),
        (event("at = \"+5m\"\nrate = 80\nevery = \"1m\""), 8, &["`every` needs `for`"]),
    ];
    for (text, line, parts) in cases {
        let said = error(&text);
        assert!(said.starts_with(&format!("x.toml, line {line}: ")), "{said}\n{text}");
        assert_eq!(said.lines().count(), 1, "{said}");
        for part in parts {
            assert!(said.contains(part), "{said} lacks {part}");
        }
    }
    let unknown = format!("{PATIENT}[[events]]\nat = \"+5m\"\npatient = \"Demo B\"\nrate = 80\n");
    assert_eq!(
        error(&unknown),
        "x.toml, line 6: there is no patient \"Demo B\"; the patients are \"Demo A\""
    );
    assert_eq!(error("title = \"T\"\n"), "x.toml: the scenario has no [[patients]]");
}

#[test]
fn numbers_of_patients_and_bytes_are_limited() {
    let patients = |count: usize| {
        let one = |number| format!("[[patients]]\nname = \"Demo {number}\"\nmrn = {}\n", 900_001 + number);
        (0..count).map(one).collect::<String>()
    };
    assert_eq!(Scenario::parse("x.toml", &patients(200)).unwrap().patients.len(), 200);
    assert_eq!(error(&patients(201)), "x.toml, line 601: a scenario has at most 200 patients");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large.toml");
    fs::write(&file, format!("{PATIENT}#{}", "x".repeat(1 << 20))).unwrap();
    assert!(Scenario::read(&file).unwrap_err().to_string().ends_with("a scenario has at most 1024 KB"));
    fs::write(&file, b"\xff").unwrap();
    assert!(Scenario::read(&file).unwrap_err().to_string().contains("cannot be read"));
    let said = Scenario::read(&folder.path().join("none.toml")).unwrap_err().to_string();
    assert!(said.contains("none.toml: the scenario cannot be opened"), "{said}");
}

#[test]
fn added_patients_have_other_names_and_numbers_and_no_events() {
    let ward = Scenario::built_in().unwrap();
    let mut few = ward.clone();
    few.resize(3);
    assert_eq!(few.patients, ward.patients[..3]);
    let mut many = ward.clone();
    many.resize(200);
    assert_eq!(many.patients.len(), 200);
    assert_eq!(many.patients[..8], ward.patients[..]);
    assert_eq!(many.patients[8].name, "Demo Ann 2");
    assert_eq!(many.patients[199].name, "Demo Hana 25");
    let distinct = |key: fn(&Patient) -> String| many.patients.iter().map(key).collect::<HashSet<_>>().len();
    assert_eq!(
        (distinct(|patient| patient.name.clone()), distinct(|patient| patient.mrn.to_string())),
        (200, 200)
    );
    assert!(many.patients.iter().all(|patient| (900_001..=900_999).contains(&patient.mrn)));
    assert!(many.patients[8..].iter().all(|patient| patient.events.is_empty()));
}
