//! The longest texts fit into the window at all sizes: no number is cut, and no German text.
//!
//! The German screens are written to `screenshots/patient` in the target folder.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::rc::Rc;

use patient::window::{Api, DialogKind, Main, OutboxUpload, PaneState, SelectedFile, Tone};
use slint::{ComponentHandle, ModelRc, SharedString, VecModel};

#[path = "../../ui/tests/canvas/mod.rs"]
mod canvas;

use canvas::Canvas;

const SIZES: [(u32, u32); 5] = [(860, 560), (900, 600), (1440, 900), (1920, 1080), (3840, 2160)];
const FILE: &str = "holter-recording-20…1-lead-II.csv";

fn model<T: Clone + 'static>(rows: Vec<T>) -> ModelRc<T> {
    ModelRc::from(Rc::new(VecModel::from(rows)))
}

fn open() -> (Canvas, Main) {
    let canvas = Canvas::new(1180, 760);
    let window = Main::new().unwrap();
    window.show().unwrap();
    canvas.open();
    (canvas, window)
}

#[test]
fn no_number_is_cut_in_any_size() {
    let (mut canvas, window) = open();
    let api = window.global::<Api>();
    api.set_mrn_hint(
        "Known as Maximiliana Bartholomea, last heart rate 300 bpm on 2026-11-28 23:59:59.".into(),
    );
    api.set_connection_text("connected · asks every 5 s".into());
    api.set_outbox_text("1,000 uploads wait".into());
    api.set_message(
        "Upload 9007199254740991 was kept on this computer: the gateway answered 503 after 10 s.".into(),
    );
    api.set_upload_reason("12 files, 2.05 GB, go to record 9007199254740991.".into());
    let mut ecg = api.get_ecg();
    ecg.state = PaneState::Shown;
    ecg.file_name = FILE.into();
    (ecg.heart_rate, ecg.heart_rate_range) = ("300".into(), "120 to 300 in the strip".into());
    (ecg.quality, ecg.quality_tone) = ("Signal quality unusable".into(), Tone::Danger);
    ecg.detail = "24 h 00 min · 1000 Hz, resampled from 1024 Hz · lead aVR of 12".into();
    let note = "30,000,000 rows were skipped because they hold no number, the first of them row 12,345,678.";
    ecg.notes = model(vec![SharedString::from(note); 3]);
    api.set_ecg(ecg);
    let mut image = api.get_image();
    (image.state, image.file_name) = (PaneState::Failed, FILE.into());
    image.error = "The image has 30,000 x 30,000 pixels; at most 100,000,000 can be shown.".into();
    api.set_image(image);
    let files = (0..5).map(|id| SelectedFile {
        id,
        is_ecg: true,
        name: FILE.into(),
        detail: "2.05 GB · 24 h 00 min · 1000 Hz · 300 bpm · 30,000,000 rows skipped".into(),
        loading: false,
        shown: id == 0,
    });
    api.set_files(model(files.collect()));
    let waiting = (0..5).map(|id| OutboxUpload {
        id: id.to_string().into(),
        title:
            "Maximiliana Bartholomea von und zu Hohenlohe · 9007199254740991 · 12 files · 2026-11-28 23:59:59"
                .into(),
        detail: "Tried 1,000 times since 2026-11-28 23:59:59: the gateway answered 503.".into(),
        needs_attention: id == 0,
        name_differs: id == 1,
    });
    api.set_outbox_uploads(model(waiting.collect()));
    let mut confirmation = api.get_confirmation();
    confirmation.text = "12 files go to record 9007199254740991.".into();
    confirmation.files = model(vec![format!("{FILE}, 2.05 GB, 24 h 00 min, 300 bpm").into(); 4]);
    api.set_confirmation(confirmation);
    for (width, height) in SIZES {
        for asking in [DialogKind::None, DialogKind::Upload, DialogKind::Outbox] {
            api.set_dialog(asking);
            canvas.resize(width, height);
            canvas.assert_numbers_whole(&format!("{asking:?} {width}x{height}"));
        }
    }
}

#[test]
fn german_texts_are_not_cut_off() {
    let (mut canvas, window) = open();
    slint::select_bundled_translation("de").unwrap();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_patient"));
    let folder = program.parent().and_then(Path::parent).unwrap().join("screenshots/patient");
    let api = window.global::<Api>();
    // The longest German texts that the controllers set.
    api.set_mrn("900001".into());
    api.set_name("Erika Muster".into());
    api.set_mrn_hint("Dies ist ein neuer Patient: Noch kein Patient hat diese Nummer.".into());
    api.set_name_error("Der Name enthält ein nicht darstellbares Zeichen.".into());
    api.set_file_type(1);
    api.set_has_ecgs(true);
    api.set_recorded_hint("Aufgenommen: nicht bekannt. Stationen zeigen die Empfangszeit".into());
    api.set_signal_error("Geben Sie die Abtastrate in Werten pro Sekunde ein, von 1 bis 100.000.".into());
    api.set_connection_text("verbunden · fragt alle 5 s".into());
    api.set_outbox_text("100 Uploads warten".into());
    api.set_message(
        "Das Gateway ist nicht erreichbar. Der Upload wird hier aufbewahrt und später gesendet.".into(),
    );
    api.set_upload_reason(
        "Geben Sie einen Namen ein oder wählen Sie eine Datei: Ein Upload ohne Inhalt wird nicht gesendet."
            .into(),
    );
    api.set_analysis(
        "Der Server findet 300 bpm in strip.csv, die Vorschau fand 72 bpm. Prüfen Sie den Streifen.".into(),
    );
    api.set_receipt(model(vec![
        SharedString::from("Name: Erika Muster"),
        "EKG strip.csv, 2,05 GB".into(),
        "Medizinisches Bild knie.png, 25 kB".into(),
    ]));
    let files = (0..3).map(|id| SelectedFile {
        id,
        is_ecg: id > 0,
        name: FILE.into(),
        detail: "2,05 GB · 24 h 00 min · 1000 Hz · 300 bpm".into(),
        loading: id == 1,
        shown: id == 0,
    });
    api.set_files(model(files.collect()));
    let mut ecg = api.get_ecg();
    (ecg.heart_rate, ecg.heart_rate_range) = ("300".into(), "120 bis 300 im Streifen".into());
    (ecg.quality, ecg.quality_tone) = ("Signalqualität unbrauchbar".into(), Tone::Danger);
    ecg.detail = "24 h 00 min · 1000 Hz · Ableitung aVR".into();
    ecg.file_name = FILE.into();
    ecg.notes = model(vec!["Schläge in unregelmäßigen Abständen bei 12,5 s".into(); 3]);
    let mut image = api.get_image();
    (image.file_name, image.detail) = (FILE.into(), "30.000 × 30.000 Pixel · 2,05 GB".into());
    image.error =
        "das Bild hat 30.000 × 30.000 Pixel, ein Bild darf aber höchstens 100 Millionen Pixel haben".into();
    api.set_outbox_uploads(model(vec![
        OutboxUpload {
            id: "1".into(),
            title: "Erika Muster · 900001 · 2 Dateien".into(),
            detail: "Abgelehnt: Der Patient hat einen anderen Namen.".into(),
            needs_attention: true,
            name_differs: true,
        };
        3
    ]));
    let mut confirmation = api.get_confirmation();
    confirmation.text = "2 Dateien gehen an Patient 900001.".into();
    confirmation.warning =
        "Patientennummer 900001 gehört Max Muster. Dieser Upload würde den Patienten in „Erika Muster“ \
                            umbenennen. Ist es der richtige Patient?"
            .into();
    confirmation.accept = "Umbenennen und hochladen".into();
    confirmation.files = model(vec![format!("{FILE}, 2,05 GB, 24 h 00 min, 300 bpm").into(); 3]);
    api.set_confirmation(confirmation);
    api.set_question("Ein Upload läuft. Er wird fortgesetzt, wenn die App wieder gestartet wird. ".into());
    let mut browser = api.get_browser();
    (browser.title, browser.accept) = ("EKGs auswählen".into(), "Ordner öffnen".into());
    browser.error = "Dieser Ordner hat keine Unterordner und keine Dateien dieses Typs.".into();
    api.set_browser(browser);
    api.set_settings_file("bedside/patient.json".into());
    api.set_settings_message(
        "Das Gateway lehnt das Zugriffstoken ab. Prüfen Sie es in den Einstellungen.".into(),
    );
    let mut cut = Vec::new();
    for (width, height) in [(860, 560), (900, 600), (1440, 900)] {
        for pane in [PaneState::Empty, PaneState::Shown, PaneState::Failed] {
            (ecg.state, image.state) = (pane, pane);
            api.set_ecg(ecg.clone());
            api.set_image(image.clone());
            canvas.resize(width, height);
            let name = format!("german-{pane:?}-{width}x{height}");
            canvas.save(&folder.join(format!("{name}.png")));
            cut.extend(canvas.cut_texts(&name));
        }
        assert!(canvas.texts().iter().any(|text| text.text == "Patientennummer"), "the screen is German");
        for (dialog, title) in [
            (DialogKind::Upload, "Hochladen?"),
            (DialogKind::Reset, "Alles zurücksetzen?"),
            (DialogKind::Quit, "Beenden?"),
            (DialogKind::Settings, "Einstellungen"),
            (DialogKind::About, "Über Bedside Patient"),
            (DialogKind::Outbox, "Wartende Uploads"),
            (DialogKind::FileBrowser, "EKGs auswählen"),
        ] {
            api.set_dialog(dialog);
            canvas.resize(width, height);
            let name = format!("german-{dialog:?}-{width}x{height}");
            canvas.save(&folder.join(format!("{name}.png")));
            cut.extend(canvas.cut_texts(&name));
            cut.extend(canvas.overlapping_texts(title).into_iter().map(|text| format!("{name}: {text}")));
        }
        api.set_dialog(DialogKind::None);
    }
    assert!(cut.is_empty(), "{}", cut.join("\n"));
}
