//! The window: questions before something is lost, settings, light, keyboard, names for everything.

use i_slint_backend_testing::AccessibleRole;
use patient::Args;
use patient::window::{Asking, Theme};
use slint::ComponentHandle;
use slint::platform::{Key, WindowEvent};
use testkit::{Service, material};

use crate::stage::{Stage, play, system, turn};

const NOWHERE: &str = "http://127.0.0.1:9";

#[test]
fn reset_clears_everything_and_asks_only_if_something_would_be_lost() {
    play("window::reset_clears_everything_and_asks_only_if_something_would_be_lost", || async {
        let stage = Stage::with(NOWHERE);
        stage.press("Reset all");
        assert!(!stage.has("Reset all?"), "there is nothing to lose");
        stage.type_into("Medical record number", "7");
        stage.stage_file("ECG", &stage.file("strip.csv", &material::strip_csv(72.0, 10.0, 1))).await;
        stage.press("Reset all");
        assert!(stage.description("Reset all?").contains("1 ECG"), "{}", stage.description("Reset all?"));
        stage.press("Keep");
        assert_eq!(stage.value("Medical record number"), "7");
        stage.press("Reset all");
        // The question's own button, not that of the form.
        stage.press("Reset all");
        assert_eq!(stage.value("Medical record number"), "");
        assert!(!stage.has("strip.csv") && !stage.has("Estimated heart rate"));
        assert_eq!(stage.api(|api| api.get_file_type()), -1);
    });
}

#[test]
fn quit_asks_first_and_so_does_the_close_button_of_the_window() {
    play("window::quit_asks_first_and_so_does_the_close_button_of_the_window", || async {
        let stage = Stage::with(NOWHERE);
        stage.press("Quit");
        assert!(stage.has("Quit?"));
        stage.press("No");
        assert!(!stage.has("Quit?") && !stage.has_quit.get());
        stage.type_into("Medical record number", "7");
        stage.window().window().dispatch_event(WindowEvent::CloseRequested);
        stage.until("the question", |stage| stage.has("Quit?")).await;
        assert!(stage.description("Quit?").contains("will be lost"), "{}", stage.description("Quit?"));
        stage.keys(&[Key::Escape.into()]);
        assert!(!stage.has("Quit?") && !stage.has_quit.get(), "Escape goes back");
        stage.press("Quit");
        stage.press("Yes");
        assert!(stage.has_quit.get());
    });
}

#[test]
fn settings_are_tried_out_kept_and_in_force() {
    play("window::settings_are_tried_out_kept_and_in_force", || async {
        let mut system = system();
        let url = system.url();
        let mut stage = Stage::with(NOWHERE);
        stage.until("offline", |stage| stage.value("Connection") == "offline").await;
        stage.press("Settings");
        assert_eq!(stage.value("Gateway address"), NOWHERE);
        stage.press("Test connection");
        let said = |stage: &Stage| String::from(stage.api(|api| api.get_settings_message()));
        stage.until("the test fails", |stage| said(stage).contains("cannot be reached")).await;
        stage.type_into("Gateway address", "ftp://nowhere");
        stage.press("Save");
        stage.until("it is refused", |stage| said(stage).contains("must start with http")).await;
        assert!(stage.has("Gateway address"), "the dialog stays open");
        stage.type_into("Gateway address", &url);
        stage.press("Test connection");
        stage.until("the test is good", |stage| said(stage).contains("and pushes updates")).await;
        stage.press("Dark");
        stage.press("Save");
        stage.until("it is closed", |stage| !stage.has("Gateway address")).await;
        stage.until_connected().await;
        assert!(stage.window().global::<Theme<'_>>().get_dark());
        // Without the flag, the file has the say.
        let mut args = Args::default();
        args.connection.gateway = None;
        let kept: serde_json::Value =
            serde_json::from_slice(&std::fs::read(stage.path("settings.json")).unwrap()).unwrap();
        assert_eq!((kept["gateway"].as_str(), kept["theme"].as_str()), (Some(url.as_str()), Some("dark")));
        args.connection.gateway = Some(url);
        stage.restart(args);
        stage.until_connected().await;
        assert!(stage.window().global::<Theme<'_>>().get_dark());
        system.service(Service::Gateway).kill();
        stage.until("offline", |stage| stage.value("Connection") == "offline").await;
        assert!(stage.description("Connection").starts_with("Since "), "{}", stage.description("Connection"));
        system.service(Service::Gateway).restart();
        stage.until_connected().await;
    });
}

#[test]
fn shortcuts_do_what_the_buttons_do_and_nothing_behind_a_dialog() {
    play("window::shortcuts_do_what_the_buttons_do_and_nothing_behind_a_dialog", || async {
        let stage = Stage::with(NOWHERE);
        let control = |letter: &str| [Key::Control.into(), letter.into()];
        turn().await;
        stage.keys(&control("o"));
        assert!(stage.message().contains("Choose the file type first"));
        stage.keys(&[Key::Escape.into()]);
        assert_eq!(stage.message(), "");
        stage.keys(&control("q"));
        assert!(stage.has("Quit?"));
        stage.keys(&control("o"));
        assert_eq!(stage.message(), "", "a dialog is in the way");
        stage.keys(&[Key::Escape.into()]);
        assert!(!stage.has("Quit?"));
        turn().await;
        stage.keys(&control(","));
        assert!(stage.has("Gateway address"));
        stage.keys(&[Key::Escape.into()]);
        turn().await;
        stage.keys(&[Key::F1.into()]);
        assert!(stage.has("About Bedside Patient"));
        let said = stage.labels().join("\n");
        assert!(said.contains("not for clinical use") && said.contains("#MadeWithSlint"), "{said}");
        stage.keys(&[Key::Return.into()]);
        assert!(stage.api(|api| api.get_asking()) == Asking::Nothing);
        stage.type_into("Medical record number", "7");
        turn().await;
        stage.keys(&control("u"));
        stage.until("the question", |stage| stage.has("Upload this?") && stage.is_enabled("Upload")).await;
        stage.keys(&[Key::Return.into()]);
        stage.until_message("is kept on this computer").await;
        stage.type_into("Medical record number", "8");
        turn().await;
        stage.keys(&control("r"));
        assert!(stage.has("Reset all?"));
        stage.keys(&[Key::Return.into()]);
        assert_eq!(stage.value("Medical record number"), "8", "Enter is on the safe answer");
    });
}

#[test]
fn tab_stays_inside_of_a_dialog() {
    play("window::tab_stays_inside_of_a_dialog", || async {
        let stage = Stage::with(NOWHERE);
        stage.type_into("Medical record number", "7");
        stage.press("Quit");
        turn().await;
        for _ in 0..30 {
            stage.keys(&[Key::Tab.into()]);
        }
        stage.keys(&["9".into()]);
        assert_eq!(stage.value("Medical record number"), "7", "what is typed goes nowhere else");
        assert!(stage.has("Quit?"));
        stage.keys(&[Key::Escape.into()]);
        assert!(!stage.has("Quit?"), "and the dialog still hears its keys");
    });
}

#[test]
fn tab_moves_through_the_fields_and_buttons_of_a_dialog() {
    play("window::tab_moves_through_the_fields_and_buttons_of_a_dialog", || async {
        let stage = Stage::with(NOWHERE);
        stage.press("Settings");
        turn().await;
        let certificates = "Trusted certificates (PEM file)";
        assert_eq!(stage.value("Gateway address"), NOWHERE);
        stage.keys(&[Key::Tab.into(), Key::Tab.into(), "p".into()]);
        assert_eq!(
            (stage.value("Gateway address").as_str(), stage.value(certificates).as_str()),
            (NOWHERE, "p")
        );
        stage.keys(&[Key::Backtab.into(), Key::Backtab.into(), Key::End.into(), "q".into()]);
        assert_eq!(stage.value("Gateway address"), format!("{NOWHERE}q"));
        stage.keys(&[Key::Escape.into()]);
        turn().await;
        stage.type_into("Medical record number", "7");
        stage.press("Reset all");
        turn().await;
        // The focus starts on "Keep". Tab moves it to the button that resets.
        stage.keys(&[Key::Tab.into(), Key::Return.into()]);
        assert_eq!(stage.value("Medical record number"), "");
    });
}

#[test]
fn everything_that_can_be_used_has_a_role_and_a_name() {
    play("window::everything_that_can_be_used_has_a_role_and_a_name", || async {
        let stage = Stage::with(NOWHERE);
        stage.stage_file("Medical image", &stage.file("a.png", &material::png(64, 1))).await;
        let named = |stage: &Stage, least: usize| {
            let wanted = [
                AccessibleRole::Button,
                AccessibleRole::TextInput,
                AccessibleRole::RadioButton,
                AccessibleRole::RadioGroup,
                AccessibleRole::ListItem,
                AccessibleRole::ProgressIndicator,
            ];
            let used: Vec<_> =
                stage.elements().into_iter().filter(|(role, _)| wanted.contains(role)).collect();
            assert!(used.len() >= least, "{used:?}");
            let nameless: Vec<_> = used.iter().filter(|(_, label)| label.is_none()).collect();
            assert!(nameless.is_empty(), "{nameless:?} of {used:?}");
        };
        named(&stage, 14);
        for (open, least) in [("Settings", 24), ("About", 15), ("Quit", 16)] {
            stage.press(open);
            named(&stage, least);
            stage.keys(&[Key::Escape.into()]);
            turn().await;
        }
    });
}

#[test]
fn what_is_wrong_with_the_settings_file_ends_the_start_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.json");
    std::fs::write(&file, "{ not json").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_patient"))
        .arg("--settings")
        .arg(&file)
        .env("SLINT_BACKEND", "headless")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("settings.json") && said.trim_end().lines().count() == 1, "{said}");
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_patient")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for word in ["--gateway", "BEDSIDE_GATEWAY", "--mrn", "Ctrl+U", "ot for clinical use"] {
        assert!(help.contains(word), "{word} in\n{help}");
    }
}
