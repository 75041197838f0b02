//! The software renderer repaints only what changed. After many texts were drawn, every text that changes must still be
//! repainted.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use patient::window::{Api, Main, PaneState};
use slint::{ComponentHandle, SharedString};

#[path = "../../ui/tests/canvas/mod.rs"]
mod canvas;

use canvas::Canvas;

/// The renderer sweeps its cache of shaped text after 1024 texts. So many texts cause at least one sweep.
const TEXTS: usize = 1100;

#[test]
fn every_text_that_changes_is_repainted_after_many_texts() {
    let canvas = Canvas::new(1180, 760);
    let window = Main::new().unwrap();
    window.show().unwrap();
    canvas.open();
    let api = window.global::<Api>();
    let show = |round: usize| {
        let text = |what: &str| SharedString::from(format!("{what} {round}"));
        api.set_mrn_hint(text("hint"));
        api.set_connection_text(text("connected"));
        api.set_outbox_text(text("waiting"));
        api.set_analysis(text("analysis"));
        api.set_upload_reason(text("reason"));
        api.set_progress_text(text("progress"));
        api.set_uploading(round > 2);
        let mut ecg = api.get_ecg();
        ecg.state = PaneState::Shown;
        (ecg.heart_rate, ecg.heart_rate_range) = (text(""), text("range"));
        (ecg.quality, ecg.detail) = (text("quality"), text("detail"));
        api.set_ecg(ecg);
        let mut image = api.get_image();
        (image.state, image.error) = (PaneState::Failed, text("error"));
        api.set_image(image);
        canvas.pass(Duration::ZERO);
    };
    show(1);
    for round in 2..5 {
        for number in 0..TEXTS {
            api.set_message(format!("Message {number}").into());
            canvas.pass(Duration::ZERO);
        }
        show(round);
        canvas.assert_up_to_date(&format!("round {round}"));
    }
}
