//! Login, the lock of the station, and emergency access, with accounts on a real server.

use std::time::Duration;

use client::{Gateway, Settings, Token, new_bed_id, new_stay_id, new_ward_id};
use monitor::alarm_sound::SoundPriority;
use monitor::window::{Account, Api, Dialog, Severity};
use proto_json::users::{NewUser, Sensitive, UserChange, UserRole};
use proto_json::wards::{AdmitRequest, NewBed, NewWard, Ward};
use proto_json::{Mrn, WardId};
use slint::platform::Key;
use slint::{ComponentHandle, Model};

use crate::fixture::System;
use crate::harness::{Screen, mrn, reported, strip};

const PASSWORD: &str = "correct horse";
/// After this time the station locks.
const IDLE: Duration = Duration::from_secs(600);

/// A monitor without a token, and a server with accounts and an administrator.
struct Site {
    screen: Screen,
    admin: Gateway,
    // Holds the file of tokens.
    _folder: tempfile::TempDir,
}

impl Site {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        let digest = proto_json::BlobHash::of(b"root-token");
        std::fs::write(&tokens, format!("root admin {digest}\n")).unwrap();
        let system = System::standalone_with(&[&["--tokens", tokens.to_str().unwrap()], args].concat());
        let token = Token::new("root-token").unwrap();
        let admin = Gateway::new(&Settings::new(system.url()).with_token(Some(token))).unwrap();
        let screen = Screen::with_system(system, |args| args.lock_after = IDLE);
        Site { screen, admin, _folder: folder }
    }

    fn add_user(&self, name: &str, display_name: &str, wards: Option<Vec<WardId>>) {
        let new = NewUser {
            name: name.parse().unwrap(),
            display_name: Some(display_name.to_owned()),
            role: UserRole::Nurse,
            wards,
            password: Sensitive(PASSWORD.to_owned()),
        };
        self.screen.run(self.admin.add_user(&new)).unwrap();
    }

    fn add_ward(&self, name: &str) -> Ward {
        self.screen.run(async {
            let new = NewWard { id: Some(new_ward_id()), name: name.parse().unwrap() };
            let ward = self.admin.add_ward(&new).await.unwrap();
            let new = NewBed { id: Some(new_bed_id()), name: "Bed 1".parse().unwrap() };
            self.admin.add_bed(ward.id, &new).await.unwrap()
        })
    }

    fn admit(&self, patient: u64, ward: &Ward) {
        let request = AdmitRequest { bed: ward.beds[0].id, id: Some(new_stay_id()) };
        self.screen.run(self.admin.admit(mrn(patient), &request)).unwrap();
    }

    fn store(&self, patient: u64, upload: &client::Upload) {
        self.screen.run(self.admin.upload(mrn(patient), upload, |_| {})).unwrap();
    }

    fn rate(&self, patient: u64, name: &str, bpm: i64) {
        self.store(patient, &reported(name, bpm, proto_json::Timestamp::now()));
    }

    fn account<T>(&self, read: impl FnOnce(Account<'_>) -> T) -> T {
        read(self.screen.window().global::<Account>())
    }

    fn is_locked(&self) -> bool {
        self.account(|account| account.get_locked())
    }

    /// Types a text and a key.
    fn type_text(&self, text: &str, end: Key) {
        for letter in text.chars() {
            self.screen.key(letter.to_string());
        }
        self.screen.key(end);
    }

    /// Logs in with the keyboard: the focus is in the field of the account.
    fn log_in(&self, name: &str) {
        self.screen.until("the login", |_| self.is_locked());
        self.type_text(name, Key::Tab);
        self.type_text(PASSWORD, Key::Return);
        self.screen.until("logged in", |_| !self.is_locked());
    }
}

#[test]
fn person_logs_in_with_the_keyboard_is_shown_and_logs_out() {
    let site = Site::start();
    let screen = &site.screen;
    site.add_user("anna", "Anna Berg", None);
    site.rate(1, "Zoe", 70);
    screen.until("the login", |_| site.is_locked());
    assert!(site.account(|account| account.get_can_set_up()), "the settings can be opened");
    site.type_text("anna", Key::Tab);
    site.type_text("wrong password", Key::Return);
    screen.until("the reason", |screen| screen.has("The name or the password is wrong"));
    assert!(site.account(|account| account.get_form().password.is_empty()), "the password is not kept");
    site.type_text(PASSWORD, Key::Return);
    screen.until("the patients", |screen| screen.tiles().len() == 1 && !site.is_locked());
    assert!(!screen.has("Technical alarm"));
    screen.until("the account", |screen| screen.has("Account: Anna Berg · nurse"));
    let saved = std::fs::read_to_string(screen.folder().join("monitor.json")).unwrap_or_default();
    assert!(!saved.contains("session") && !saved.contains(PASSWORD), "{saved}");

    screen.press("Account: Anna Berg · nurse");
    screen.press("Log out");
    assert!(site.is_locked());
    assert!(screen.tiles().is_empty(), "nothing stays on the screen");
    screen.until("the server rejects it", |screen| screen.has("Not logged in since "));
    assert!(!screen.has("Account: Anna Berg · nurse"));
}

#[test]
fn idle_station_locks_alarms_continue_and_its_user_finds_the_form_again() {
    let site = Site::start();
    let screen = &site.screen;
    site.add_user("anna", "Anna Berg", None);
    site.rate(1, "Zoe", 70);
    let north = site.add_ward("North");
    site.admit(1, &north);
    site.log_in("anna");
    screen.open("Zoe");
    screen.key("d");
    screen.fill("Date of birth", "1957-03-14");
    // Each key counts as use.
    screen.app.advance_clock(IDLE - Duration::from_secs(30));
    screen.key(Key::Shift);
    screen.app.advance_clock(Duration::from_secs(60));
    assert!(!site.is_locked());
    screen.app.advance_clock(IDLE);
    assert!(site.is_locked());
    assert!(!screen.has("Details of Zoe · 1"), "the form is hidden");
    screen.app.reset_clock();

    site.store(1, &strip("Zoe", 165.0, 1));
    screen.until("the alarm", |_| site.account(|account| account.get_alarms().row_count() == 1));
    let alarm = site.account(|account| account.get_alarms().row_data(0)).unwrap();
    assert_eq!((alarm.severity, alarm.place.as_str()), (Severity::High, "North · Bed 1"));
    screen.until("the sound", |screen| screen.app.sounding() == Some(SoundPriority::High));
    // No shortcut works.
    screen.key(Key::Escape);
    screen.control("l");
    screen.control("q");
    let window = screen.window();
    assert_eq!(window.global::<Api>().get_dialog(), Dialog::Details, "nothing is behind the lock");

    // The account is entered already.
    site.type_text(PASSWORD, Key::Return);
    screen.until("unlocked", |_| !site.is_locked());
    assert_eq!(screen.value("Date of birth"), "1957-03-14");
    screen.press("Save");
    screen.until("saved", |screen| screen.has("The details are saved."));
    screen.key(Key::Escape);

    // Another person gets a screen without the content of the former one.
    site.add_user("ben", "Ben Ahlers", None);
    screen.open("Zoe");
    screen.press("Account: Anna Berg · nurse");
    screen.press("Lock");
    assert!(site.is_locked());
    screen.fill("Account", "ben");
    screen.fill("Password", PASSWORD);
    screen.press_in_dialog("Log in");
    screen.until("unlocked", |_| !site.is_locked());
    screen.until("the other person", |screen| screen.has("Account: Ben Ahlers · nurse"));
    screen.until("the overview", |screen| screen.tiles().len() == 1);
}

#[test]
fn session_that_ends_asks_again_and_keeps_the_form() {
    let site = Site::start();
    let screen = &site.screen;
    site.add_user("anna", "Anna Berg", None);
    site.rate(1, "Zoe", 70);
    site.log_in("anna");
    screen.open("Zoe");
    screen.key("d");
    screen.fill("Date of birth", "1957-03-14");
    let change = UserChange { role: Some(UserRole::Physician), ..UserChange::default() };
    screen.run(site.admin.change_user(&"anna".parse().unwrap(), &change)).unwrap();
    screen.until("the end", |screen| site.is_locked() && screen.has("The session has ended. Log in again."));
    screen.until("the technical alarm", |screen| screen.has("Not logged in since "));
    assert!(!site.account(|account| account.get_can_set_up()));
    site.type_text(PASSWORD, Key::Return);
    screen.until("unlocked", |_| !site.is_locked());
    assert_eq!(screen.value("Date of birth"), "1957-03-14");
    screen.until("connected", |screen| screen.value("Connection").starts_with("connected"));
    screen.press("Save");
    screen.until("saved", |screen| screen.has("The details are saved."));
    assert!(screen.has("Account: Anna Berg · physician"));
}

#[test]
fn emergency_access_to_a_patient_of_another_ward_needs_a_reason() {
    let site = Site::start_with(&["--emergency-access", "95m"]);
    let screen = &site.screen;
    let (north, south) = (site.add_ward("North"), site.add_ward("South"));
    site.rate(1, "Zoe", 70);
    site.rate(8, "Ben", 80);
    site.admit(1, &north);
    site.admit(8, &south);
    site.add_user("anna", "Anna Berg", Some(vec![north.id]));
    site.log_in("anna");
    screen.until("the own ward", |screen| screen.tiles().len() == 1);
    // The number finds the patient.
    screen.control("f");
    screen.key("8");
    screen.key(Key::Return);
    screen.until("the question", |screen| screen.has("Emergency access to patient 8?"));
    // The duration is that of the server.
    assert!(screen.has("The patient is in another ward or does not exist. The access lasts 1 h 35 min"));
    site.type_text("no", Key::Return);
    screen.until("the reason", |screen| screen.has("`reason` has 5 to 500 characters"));
    site.type_text(", resuscitation", Key::Return);
    screen.until("the patient", |screen| screen.value("Name") == "Ben");
    site.rate(8, "Ben", 91);
    screen.until("updates arrive", |screen| screen.has("Heart rate 91 bpm"));
    // An unknown number is no patient.
    screen.window().global::<Api>().invoke_open_patient(Mrn::new(77).unwrap().to_string().into());
    screen.until("the question", |screen| screen.has("Emergency access to patient 77?"));
    site.type_text("resuscitation", Key::Return);
    screen.until("the answer", |screen| screen.has("No patient of another ward has this number."));
}
