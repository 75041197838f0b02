//! The longest texts fit into the window at all sizes: no number is cut.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

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

#[test]
fn no_number_is_cut_in_any_size() {
    let mut canvas = Canvas::new(1180, 760);
    let window = Main::new().unwrap();
    window.show().unwrap();
    canvas.open();
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
