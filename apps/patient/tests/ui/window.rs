//! The window: confirmations, settings, keyboard and accessibility.

use i_slint_backend_testing::AccessibleRole;
use patient::Args;
use patient::window::{DialogKind, Theme};
use slint::ComponentHandle;
use slint::platform::{Key, WindowEvent};
use testkit::{Service, test_data};

use crate::fixture::{Fixture, next_turn, run_isolated, system};

const NOWHERE: &str = "http://127.0.0.1:9";

#[test]
fn reset_asks_only_if_the_form_holds_anything() {
    run_isolated("window::reset_asks_only_if_the_form_holds_anything", || async {
        let app = Fixture::new(NOWHERE);
        app.press("Reset all");
        assert!(!app.has("Reset all?"), "the form is empty");
        app.type_into("Medical record number", "7");
        app.select_file("ECG", &app.file("strip.csv", &test_data::strip_csv(72.0, 10.0, 1))).await;
        app.press("Reset all");
        assert!(app.description("Reset all?").contains("1 ECG"), "{}", app.description("Reset all?"));
        app.press("Keep");
        assert_eq!(app.value("Medical record number"), "7");
        app.press("Reset all");
        // The button of the dialog, not that of the form.
        app.press("Reset all");
        assert_eq!(app.value("Medical record number"), "");
        assert!(!app.has("strip.csv") && !app.has("Estimated heart rate"));
        assert_eq!(app.api(|api| api.get_file_type()), -1);
    });
}

#[test]
fn quit_and_the_close_button_ask_for_confirmation() {
    run_isolated("window::quit_and_the_close_button_ask_for_confirmation", || async {
        let app = Fixture::new(NOWHERE);
        app.press("Quit");
        assert!(app.has("Quit?"));
        app.keys(&[Key::Return.into()]);
        assert!(!app.has("Quit?") && !app.has_quit.get(), "the focus is on Cancel");
        app.press("Quit");
        app.press("Cancel");
        assert!(!app.has("Quit?") && !app.has_quit.get());
        app.type_into("Medical record number", "7");
        app.window().window().dispatch_event(WindowEvent::CloseRequested);
        app.until("the confirmation", |app| app.has("Quit?")).await;
        assert!(app.description("Quit?").contains("will be lost"), "{}", app.description("Quit?"));
        app.keys(&[Key::Escape.into()]);
        assert!(!app.has("Quit?") && !app.has_quit.get(), "Escape closes the dialog");
        app.press("Quit");
        app.press("Quit");
        assert!(app.has_quit.get());
    });
}

#[test]
fn settings_are_tested_saved_and_applied() {
    run_isolated("window::settings_are_tested_saved_and_applied", || async {
        let mut system = system();
        let url = system.url();
        let mut app = Fixture::new(NOWHERE);
        app.until("offline", |app| app.value("Connection") == "offline").await;
        app.press("Settings");
        assert_eq!(app.value("Gateway address"), NOWHERE);
        app.press("Test connection");
        let message = |app: &Fixture| String::from(app.api(|api| api.get_settings_message()));
        app.until("the test fails", |app| message(app).contains("cannot be reached")).await;
        app.type_into("Gateway address", "ftp://nowhere");
        app.press("Save");
        app.until("it is refused", |app| message(app).contains("must start with http")).await;
        assert!(app.has("Gateway address"), "the dialog stays open");
        app.type_into("Gateway address", &url);
        app.press("Test connection");
        app.until("the test is good", |app| message(app).contains("and pushes updates")).await;
        app.press("Dark");
        app.press("Save");
        app.until("it is closed", |app| !app.has("Gateway address")).await;
        app.until_connected().await;
        assert!(app.window().global::<Theme<'_>>().get_dark());
        // The settings file decides where no flag is given.
        let mut args = Args::default();
        args.connection.gateway = None;
        let saved: serde_json::Value =
            serde_json::from_slice(&std::fs::read(app.path("settings.json")).unwrap()).unwrap();
        assert_eq!((saved["gateway"].as_str(), saved["theme"].as_str()), (Some(url.as_str()), Some("dark")));
        args.connection.gateway = Some(url);
        app.restart(args);
        app.until_connected().await;
        assert!(app.window().global::<Theme<'_>>().get_dark());
        system.service(Service::Gateway).kill();
        app.until("offline", |app| app.value("Connection") == "offline").await;
        assert!(app.description("Connection").starts_with("Since "), "{}", app.description("Connection"));
        system.service(Service::Gateway).restart();
        app.until_connected().await;
    });
}

#[test]
fn shortcuts_work_and_are_disabled_behind_a_dialog() {
    run_isolated("window::shortcuts_work_and_are_disabled_behind_a_dialog", || async {
        let app = Fixture::new(NOWHERE);
        let control = |letter: &str| [Key::Control.into(), letter.into()];
        next_turn().await;
        app.keys(&control("o"));
        assert!(app.message().contains("Select the file type first"));
        app.keys(&[Key::Escape.into()]);
        assert_eq!(app.message(), "");
        app.keys(&control("q"));
        assert!(app.has("Quit?"));
        app.keys(&control("o"));
        assert_eq!(app.message(), "", "a dialog is open");
        app.keys(&[Key::Escape.into()]);
        assert!(!app.has("Quit?"));
        next_turn().await;
        app.keys(&control(","));
        assert!(app.has("Gateway address"));
        app.keys(&[Key::Escape.into()]);
        next_turn().await;
        app.keys(&[Key::F11.into()]);
        assert!(app.window().window().is_fullscreen());
        app.keys(&[Key::F11.into()]);
        assert!(!app.window().window().is_fullscreen());
        app.keys(&[Key::F1.into()]);
        assert!(app.has("About Bedside Patient"));
        let text = app.labels().join("\n");
        assert!(text.contains("not for clinical use") && text.contains("#MadeWithSlint"), "{text}");
        app.keys(&[Key::Return.into()]);
        assert!(app.api(|api| api.get_dialog()) == DialogKind::None);
        app.type_into("Medical record number", "7");
        app.type_into("Name", "Ida");
        next_turn().await;
        app.keys(&control("u"));
        app.until("the question", |app| app.has("Upload this?") && app.is_enabled("Upload")).await;
        app.keys(&[Key::Return.into()]);
        app.until_message("is kept on this computer").await;
        app.type_into("Medical record number", "8");
        next_turn().await;
        app.keys(&control("r"));
        assert!(app.has("Reset all?"));
        app.keys(&[Key::Return.into()]);
        assert_eq!(app.value("Medical record number"), "8", "the focus is on Keep");
    });
}

#[test]
fn tab_does_not_leave_a_dialog() {
    run_isolated("window::tab_does_not_leave_a_dialog", || async {
        let app = Fixture::new(NOWHERE);
        app.type_into("Medical record number", "7");
        app.press("Quit");
        next_turn().await;
        for _ in 0..30 {
            app.keys(&[Key::Tab.into()]);
        }
        app.keys(&["9".into()]);
        assert_eq!(app.value("Medical record number"), "7", "keys do not reach the window behind the dialog");
        assert!(app.has("Quit?"));
        app.keys(&[Key::Escape.into()]);
        assert!(!app.has("Quit?"), "the dialog still handles its keys");
    });
}

#[test]
fn tab_moves_through_the_fields_and_buttons_of_a_dialog() {
    run_isolated("window::tab_moves_through_the_fields_and_buttons_of_a_dialog", || async {
        let app = Fixture::new(NOWHERE);
        app.press("Settings");
        next_turn().await;
        let certificates = "Trusted certificates (PEM file)";
        assert_eq!(app.value("Gateway address"), NOWHERE);
        app.keys(&[Key::Tab.into(), Key::Tab.into(), "p".into()]);
        assert_eq!((app.value("Gateway address").as_str(), app.value(certificates).as_str()), (NOWHERE, "p"));
        app.keys(&[Key::Backtab.into(), Key::Backtab.into(), Key::End.into(), "q".into()]);
        assert_eq!(app.value("Gateway address"), format!("{NOWHERE}q"));
        app.keys(&[Key::Escape.into()]);
        next_turn().await;
        app.type_into("Medical record number", "7");
        app.press("Reset all");
        next_turn().await;
        // The focus starts on "Keep". Tab moves it to the button that resets.
        app.keys(&[Key::Tab.into(), Key::Return.into()]);
        assert_eq!(app.value("Medical record number"), "");
    });
}

#[test]
fn every_control_has_a_role_and_a_label() {
    run_isolated("window::every_control_has_a_role_and_a_label", || async {
        let app = Fixture::new(NOWHERE);
        app.select_file("Medical image", &app.file("a.png", &test_data::png(64, 1))).await;
        let check = |app: &Fixture, least: usize| {
            let roles = [
                AccessibleRole::Button,
                AccessibleRole::TextInput,
                AccessibleRole::RadioButton,
                AccessibleRole::RadioGroup,
                AccessibleRole::ListItem,
                AccessibleRole::ProgressIndicator,
            ];
            let controls: Vec<_> =
                app.elements().into_iter().filter(|(role, _)| roles.contains(role)).collect();
            assert!(controls.len() >= least, "{controls:?}");
            let unlabelled: Vec<_> = controls.iter().filter(|(_, label)| label.is_none()).collect();
            assert!(unlabelled.is_empty(), "{unlabelled:?} of {controls:?}");
        };
        check(&app, 14);
        for (open, least) in [("Settings", 24), ("About", 15), ("Quit", 16)] {
            app.press(open);
            check(&app, least);
            app.keys(&[Key::Escape.into()]);
            next_turn().await;
        }
    });
}

#[test]
fn invalid_settings_file_ends_the_start_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.json");
    std::fs::write(&file, "{ not json").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_patient"))
        .arg("--settings")
        .arg(&file)
        .env("SLINT_BACKEND", "headless")
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{stderr}");
    assert!(stderr.contains("settings.json") && stderr.trim_end().lines().count() == 1, "{stderr}");
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_patient")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for word in ["--gateway", "BEDSIDE_GATEWAY", "--mrn", "Ctrl+U", "ot for clinical use"] {
        assert!(help.contains(word), "{word} in\n{help}");
    }
}

#[test]
fn messages_do_not_move_the_fields_of_the_form() {
    run_isolated("window::messages_do_not_move_the_fields_of_the_form", || async {
        let app = Fixture::new(NOWHERE);
        let places = |app: &Fixture| {
            ["Medical record number", "Name", "File path", "Upload"].map(|label| {
                let place = app.all(label)[0].absolute_position();
                (place.x, place.y)
            })
        };
        let before = places(&app);
        app.press("Select files");
        assert_ne!(app.message(), "");
        assert_eq!(places(&app), before, "a message is shown");
        app.type_into("Medical record number", "seven");
        assert_ne!(app.api(|api| api.get_mrn_error()), "");
        assert_eq!(places(&app)[..3], before[..3], "the hint below the fields is shown");
    });
}
