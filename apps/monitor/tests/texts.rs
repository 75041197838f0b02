//! No number on the screen is cut off: the longest texts of every page, in every size of the window, in both themes.
//!
//! The pictures are written to `screenshots/monitor` in the target folder.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use monitor::overview::Grid;
use monitor::window::{
    AlarmData, Api, ConnectionLevel, Dialog, EcgData, HistoryData, ImageData, Main, NameData, OptionData,
    OtherAlarmData, Page, PaneState, Severity, Theme, ThemeChoice, TileData, TrendData, VitalsData,
};
use slint::{ComponentHandle, Model, ModelRc, SharedString, VecModel};

#[path = "../../ui/tests/canvas/mod.rs"]
mod canvas;

use canvas::Canvas;

const SIZES: [(u32, u32); 6] =
    [(900, 600), (1024, 768), (1280, 800), (1440, 900), (1920, 1080), (3840, 2160)];
/// The largest record number.
const MRN: &str = "9007199254740991";
const LONG_NAME: &str = "Sample Maximiliana Bartholomea von und zu Hohenlohe-Schillingsfürst-Langenburg";
const DATE: &str = "2026-11-28 23:59:59";
const STATES: [&str; 5] = ["", "seen", "quiet +2", "over", "+11"];
const ALARMS: [(&str, Severity); 4] = [
    ("HR 300 > 150", Severity::High),
    ("HR 149 > 120", Severity::Medium),
    ("ECG without a rate", Severity::Technical),
    ("", Severity::None),
];

fn model<T: Clone + 'static>(rows: Vec<T>) -> ModelRc<T> {
    ModelRc::from(Rc::new(VecModel::from(rows)))
}

fn name(full: &str) -> NameData {
    NameData { full: full.into(), start: full.into(), end: "".into() }
}

fn tile(at: usize) -> TileData {
    let (alarm, severity) = ALARMS[at % ALARMS.len()];
    TileData {
        mrn: if at.is_multiple_of(3) { MRN } else { "900001" }.into(),
        name: name(if at.is_multiple_of(2) { LONG_NAME } else { "Demo Ann" }),
        rate: if at == 5 { "–" } else { "300" }.into(),
        rate_severity: severity,
        severity,
        alarm_severity: severity,
        alarm: alarm.into(),
        alarm_state: if alarm.is_empty() { "" } else { STATES[at / ALARMS.len() % STATES.len()] }.into(),
        flashes: at.is_multiple_of(2),
        stale: at % 3 == 1,
        has_sparkline: false,
        sparkline: slint::Image::default(),
        accessible_text: format!("tile {at}").into(),
        bed: "Bed 12".into(),
        bed_key: "".into(),
        is_empty: false,
    }
}

fn age(at: usize) -> SharedString {
    ["stale · 23 h 59 min", "59 s", "no rate yet", "stale · 365 d"][at % 4].into()
}

/// Shows the longest possible texts.
fn fill(api: &Api, patient: &str) {
    api.set_clock("23:59:59".into());
    api.set_connection_level(ConnectionLevel::Fair);
    api.set_connection("connected · push (NATS)".into());
    api.set_connection_since(format!("since {DATE}").into());
    api.set_alarm_count("1,000 alarms".into());
    api.set_worst(Severity::High);
    api.set_ranges(model(["15 min", "1 h", "6 h", "24 h", "7 d"].map(SharedString::from).to_vec()));
    let caption = format!("{DATE} · 300 bpm");
    let state = format!(
        "over at {DATE} · acknowledged by nurse.bartholomea, {DATE} · sound paused 10:00 by nurse.bartholomea"
    );
    api.set_vitals(VitalsData {
        known: true,
        name: patient.into(),
        mrn: MRN.into(),
        rate: "300".into(),
        rate_severity: Severity::High,
        time: DATE.into(),
        source: "measured from the latest strip".into(),
        stale: true,
        severity: Severity::High,
        alarm_severity: Severity::High,
        alarm: "HR 300 > 150".into(),
        alarm_state: state.clone().into(),
        other_alarms: format!("SpO₂ 84 < 90 · acknowledged by nurse.bartholomea, {DATE}\nLead off: II, V1").into(),
        acknowledge: "Acknowledge".into(),
        flashes: true,
        can_acknowledge: true,
        can_pause: true,
        limits: "Alarm limits: 100 to 120 bpm, critical below 100 or above 150 (of this patient)".into(),
        findings: "1 min 30 s: lead aVR, good signal, 1,000 beats\n120 to 300 bpm within the strip\nRR 1000 ms (median), SDNN \
                   100 ms"
            .into(),
        place: "Intensive care unit, bed 12 at the window".into(),
        details: "105 years, born on 31 December 1921, female".into(),
        notes: "Allergic to penicillin. Needs an interpreter for Italian.".into(),
        notice: format!("Until {DATE}: Maximiliana Bartholomea.\nNobody confirmed the new name.").into(),
    });
    api.set_age("stale: received 23 h 59 min ago; the time of recording is not known".into());
    let ecg = EcgData {
        state: PaneState::Shown,
        caption: caption.clone().into(),
        caption_lines: caption.replacen(" · ", "\n", 1).into(),
        quality: "unusable signal".into(),
        is_plot: true,
        scale: "12.5 mm/s · 10 mm/mV".into(),
        reading: "Δ 1000 ms · 300 bpm · 0.45 mV".into(),
        ..EcgData::default()
    };
    let frozen = format!("Frozen {DATE} · 1,000 newer ECGs").into();
    api.set_latest(EcgData { frozen, ..ecg.clone() });
    api.set_selected(ecg);
    api.set_other_alarm(OtherAlarmData {
        mrn: MRN.into(),
        patient: name(patient),
        severity: Severity::High,
        text: "HR 300 > 150".into(),
        flashes: true,
        more: "and 1,000 other patients".into(),
    });
    api.set_image(ImageData {
        state: PaneState::Failed,
        message: "The image cannot be shown: it has 30,000 x 30,000 pixels.".into(),
        caption: format!("{DATE} · simulated-pha…antom-2026.png").into(),
        caption_lines: format!("{DATE}\nsimulated-pha…antom-2026.png").into(),
        picture: slint::Image::default(),
    });
    api.set_images(model(vec![OptionData { key: "1".into(), ..OptionData::default() }]));
    api.set_trend(TrendData {
        has_values: true,
        reading: format!("{DATE} · mean 300, 200 to 300 bpm").into(),
        ..TrendData::default()
    });
    let rows = 0..12_usize;
    api.set_alarms(model(
        rows.clone()
            .map(|at| AlarmData {
                mrn: MRN.into(),
                patient: name(if at == 3 { "" } else { patient }),
                severity: ALARMS[at % 3].1,
                text: ALARMS[at % 3].0.into(),
                since: format!("since {DATE}").into(),
                state: if at.is_multiple_of(2) { state.clone() } else { String::new() }.into(),
                flashes: at.is_multiple_of(2),
                id: "".into(),
                acknowledge: "Acknowledge".into(),
                can_acknowledge: true,
                can_pause: true,
            })
            .collect(),
    ));
    api.set_history(model(
        rows.map(|at| HistoryData {
            at: DATE.into(),
            mrn: if at == 1 { "" } else { MRN }.into(),
            patient: name(if at == 1 { "This station" } else { patient }),
            severity: ALARMS[at % 3].1,
            event: format!("until {DATE} · nurse.bartholomea {DATE}").into(),
            text: ALARMS[at % 3].0.into(),
        })
        .collect(),
    ));
}

/// The window of the app, whose tiles are as large as possible.
fn open(width: u32, height: u32) -> (Canvas, Main) {
    let canvas = Canvas::new(width, height);
    let window = Main::new().unwrap();
    window.show().unwrap();
    canvas.open();
    let weak = window.as_weak();
    window
        .global::<Api>()
        .on_overview_resized(move |width, height| fit(&weak.unwrap().global::<Api>(), width, height));
    (canvas, window)
}

/// Makes the tiles as large as possible, as the controller does.
fn fit(api: &Api, width: f32, height: f32) {
    let grid = Grid::of(api.get_tiles().row_count(), width, height);
    api.set_columns(grid.columns as i32);
    api.set_tile_width(grid.width);
    api.set_tile_height(grid.height);
    api.set_tile_layout(grid.layout());
}

fn folder() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_monitor"));
    program.parent().and_then(Path::parent).unwrap().join("screenshots/monitor")
}

#[test]
fn numbers_are_never_cut_off() {
    let (mut canvas, window) = open(1440, 900);
    let api = window.global::<Api>();
    fill(&api, LONG_NAME);
    for theme in [ThemeChoice::Light, ThemeChoice::Dark] {
        window.global::<Theme>().invoke_choose(theme);
        for (width, height) in SIZES {
            // The layout does not depend on the theme: one theme is enough in the other sizes.
            if theme == ThemeChoice::Dark && ![900, 3840].contains(&width) {
                continue;
            }
            let check = |canvas: &mut Canvas, page: &str| {
                canvas.resize(width, height);
                let name = format!("texts-{page}-{theme:?}-{width}x{height}");
                canvas.assert_numbers_whole(&name);
                // Large pictures take seconds to write.
                if width < 3840 || page == "patient" {
                    canvas.save(&folder().join(format!("{name}.png")));
                }
            };
            for alarm in [
                "",
                "Connection lost since 2026-11-28 23:59:59. The screen may be out of date. The gateway at 127.0.0.1:5011 does not answer.",
            ] {
                api.set_technical_alarm(alarm.into());
                for count in [1, 2, 8, 24, 72] {
                    if !alarm.is_empty() && count != 24 {
                        continue;
                    }
                    // The overview is created again and requests the grid.
                    api.set_page(Page::Patient);
                    canvas.pass(Duration::ZERO);
                    api.set_tiles(model((0..count).map(tile).collect()));
                    api.set_ages(model((0..count).map(age).collect()));
                    api.set_page(Page::Overview);
                    check(
                        &mut canvas,
                        &format!("overview{}-{count}", if alarm.is_empty() { "" } else { "-offline" }),
                    );
                }
            }
            api.set_technical_alarm("".into());
            api.set_page(Page::Patient);
            check(&mut canvas, "patient");
            api.set_page(Page::Alarms);
            check(&mut canvas, "alarms");
            api.set_sounds(true);
            api.set_sound_missing(true);
            check(&mut canvas, "alarms-sound");
            api.set_sounds(false);
            api.set_sound_pause("10:00".into());
            check(&mut canvas, "alarms-sound-paused");
            api.set_sound_pause("".into());
            api.set_sound_missing(false);
        }
    }
}

/// The height and width of everything in an area that differs from the pixel at its upper left corner.
fn ink(canvas: &Canvas, width: u32, area: (f32, f32, f32, f32)) -> (u32, u32) {
    let pixels = canvas.pixels();
    let at = |x: u32, y: u32| pixels[(y * width + x) as usize];
    let (left, top) = (area.0.ceil() as u32, area.1.ceil() as u32);
    let (right, bottom) = ((area.0 + area.2) as u32, (area.1 + area.3) as u32);
    let ground = at(left, top);
    let is_ink = |x: u32, y: u32| {
        let pixel = at(x, y);
        [(pixel.r, ground.r), (pixel.g, ground.g), (pixel.b, ground.b)]
            .iter()
            .any(|(one, other)| one.abs_diff(*other) > 90)
    };
    let rows = (top..bottom).filter(|y| (left..right).any(|x| is_ink(x, *y)));
    let columns = (left..right).filter(|x| (top..bottom).any(|y| is_ink(*x, y)));
    (rows.count() as u32, columns.count() as u32)
}

#[test]
fn digits_use_the_available_space() {
    // For each window: the minimum height of the digits of 1, 2, 8 and 72 patients in pixels.
    let cases = [
        ((900, 600), [180, 120, 60, 26]),
        ((1440, 900), [270, 210, 105, 27]),
        ((3840, 2160), [640, 500, 260, 70]),
    ];
    let (mut canvas, window) = open(1440, 900);
    let api = window.global::<Api>();
    for ((width, height), heights) in cases {
        for (count, least) in [1_usize, 2, 8, 72].into_iter().zip(heights) {
            api.set_page(Page::Patient);
            canvas.pass(Duration::ZERO);
            let tiles = (0..count).map(|at| TileData {
                mrn: at.to_string().into(),
                name: name("Demo Ann"),
                rate: "108".into(),
                ..TileData::default()
            });
            api.set_tiles(model(tiles.collect()));
            api.set_ages(model(vec![SharedString::from("12 s"); count]));
            api.set_page(Page::Overview);
            canvas.resize(width, height);
            let name = format!("digits-{count}-{width}x{height}");
            // Large pictures take seconds to write.
            if width < 3840 || count == 72 {
                canvas.save(&folder().join(format!("{name}.png")));
            }
            let (layout, gap) = (api.get_tile_layout(), 8.0 * window.global::<Theme>().get_zoom());
            // The first tile is below the top bar.
            let top = 52.0 * window.global::<Theme>().get_zoom() + gap + 3.0;
            let digits = &layout.digits;
            let area = (gap + 3.0 + digits.x, top + digits.y, digits.width, digits.height);
            let (high, wide) = ink(&canvas, width, area);
            assert!(high >= least, "{name}: the digits are {high} pixels high");
            assert!(
                (high as f32) < digits.height && (wide as f32) < digits.width,
                "{name}: {high}, {wide}: {digits:?}"
            );
            let columns = api.get_columns() as usize;
            let covered = api.get_tile_height() * count.div_ceil(columns) as f32;
            let free = height as f32 - top - 44.0 * window.global::<Theme>().get_zoom();
            assert!(covered > free * 0.95, "{name}: the tiles cover {covered} of {free}");
            assert!(api.get_tile_width() * columns as f32 > width as f32 * 0.97, "{name}");
        }
    }
}

#[test]
fn tiles_show_the_unit_and_a_mark_for_each_priority() {
    let (mut canvas, window) = open(1440, 900);
    let api = window.global::<Api>();
    let severities = [
        ("!!! a", Severity::High),
        ("!! b", Severity::Medium),
        ("! c", Severity::Low),
        ("? d", Severity::Technical),
    ];
    let tiles = severities.iter().map(|(text, severity)| TileData {
        alarm: text.split(' ').next_back().unwrap().into(),
        alarm_severity: *severity,
        ..tile(0)
    });
    api.set_tiles(model(tiles.collect()));
    api.set_ages(model(vec![SharedString::from("12 s"); severities.len()]));
    canvas.resize(1440, 900);
    let texts = canvas.texts();
    let count = |wanted: &str| texts.iter().filter(|text| text.text == wanted).count();
    assert_eq!(count("bpm"), severities.len());
    for (text, _) in severities {
        assert!(count(text) > 0, "{text}");
    }
}

#[test]
fn names_with_the_same_beginning_look_different() {
    let (mut canvas, window) = open(1440, 900);
    let api = window.global::<Api>();
    let first = "Sample Maximiliana Bartholomea von und zu Hohenlohe-";
    let show = |canvas: &mut Canvas, end: &str, is_split: bool| {
        let full = format!("{first}{end}");
        let data = if is_split {
            NameData { full: full.into(), start: first.into(), end: end.into() }
        } else {
            name(&full)
        };
        api.set_page(Page::Patient);
        canvas.pass(Duration::ZERO);
        let tile = TileData { name: data, mrn: "7".into(), rate: "70".into(), ..TileData::default() };
        api.set_tiles(model(vec![tile; 24]));
        api.set_ages(model(vec![SharedString::from("12 s"); 24]));
        api.set_page(Page::Overview);
        canvas.resize(1440, 900);
        canvas.pixels()
    };
    let (one, other) = (show(&mut canvas, "Ahlen", false), show(&mut canvas, "Zeven", false));
    assert!(canvas.differences(&one, &other).is_empty(), "shortened at the end, the names look alike");
    let (one, other) = (show(&mut canvas, "Ahlen", true), show(&mut canvas, "Zeven", true));
    assert!(canvas.differences(&one, &other).len() >= 24, "the end is shown on each tile");
    canvas.save(&folder().join("names.png"));
}

#[test]
fn german_texts_are_not_cut_off() {
    let (mut canvas, window) = open(1440, 900);
    slint::select_bundled_translation("de").unwrap();
    let api = window.global::<Api>();
    let patient = "Erika Muster";
    fill(&api, patient);
    // The longest German texts that the controllers set.
    api.set_connection("verbunden · Push (NATS)".into());
    api.set_connection_since("seit 23:59:59".into());
    api.set_alarm_count("100 Alarme".into());
    let state = format!(
        "vorbei um {DATE} · quittiert von schwester.bartholomea, {DATE} · Ton-Pause 10:00 durch schwester.bartholomea"
    );
    let mut vitals = api.get_vitals();
    vitals.mrn = "900001".into();
    (vitals.source, vitals.alarm, vitals.alarm_state) =
        ("beim Upload angegeben".into(), "HF 300 > 150".into(), state.clone().into());
    (vitals.acknowledge, vitals.other_alarms) = (
        "Zurücksetzen".into(),
        "SpO₂ 84 < 90 · quittiert von schwester.bartholomea\nElektrode ab: II, V1".into(),
    );
    vitals.limits =
        "Alarmgrenzen: 100 bis 120 bpm, kritisch unter 100 oder über 150 (für diesen Patienten)".into();
    api.set_vitals(vitals);
    api.set_age("veraltet: erhalten vor 23 h 59 min; die Aufnahmezeit ist nicht bekannt".into());
    let mut ecg = api.get_latest();
    (ecg.quality, ecg.frozen) =
        ("unbrauchbares Signal".into(), format!("Angehalten {DATE} · 100 neuere EKGs").into());
    (ecg.caption, ecg.caption_lines) =
        (format!("{DATE} · keine Herzfrequenz").into(), format!("{DATE}\nkeine Herzfrequenz").into());
    api.set_latest(ecg.clone());
    ecg.frozen = "".into();
    api.set_selected(ecg);
    let mut trend = api.get_trend();
    trend.reading = format!("{DATE} · Mittel 300, 200 bis 300 bpm").into();
    api.set_trend(trend);
    let mut image = api.get_image();
    image.message = "Das Bild hat 30.000 x 30.000 Pixel, das sind zu viele.".into();
    api.set_image(image);
    api.set_other_alarm(OtherAlarmData {
        mrn: "900001".into(),
        patient: name(patient),
        severity: Severity::High,
        text: "HF 300 > 150".into(),
        flashes: true,
        more: "und 100 andere Patienten".into(),
    });
    let rows = (0..12_usize).map(|at| AlarmData {
        mrn: "900001".into(),
        patient: name(patient),
        severity: ALARMS[at % 3].1,
        text: ["HF 300 > 150", "HF 149 > 120", "EKG ohne Frequenz"][at % 3].into(),
        since: format!("seit {DATE}").into(),
        state: state.clone().into(),
        flashes: true,
        id: "".into(),
        acknowledge: "Zurücksetzen".into(),
        can_acknowledge: true,
        can_pause: true,
    });
    api.set_alarms(model(rows.collect()));
    let rows = (0..12_usize).map(|at| HistoryData {
        at: DATE.into(),
        mrn: "900001".into(),
        patient: name(patient),
        severity: ALARMS[at % 3].1,
        event: format!("bis {DATE} · schwester.bartholomea {DATE}").into(),
        text: ["HF 300 > 150", "EKG unbrauchbar", "EKG ohne Frequenz"][at % 3].into(),
    });
    api.set_history(model(rows.collect()));
    api.set_patients_note("Kein Patient hat diesen Namen oder diese Nummer.".into());
    let mut limits = api.get_limits();
    (limits.title, limits.mrn, limits.is_own) =
        (format!("Alarmgrenzen von {patient} · 900001").into(), "900001".into(), true);
    let default_limits = monitor::window::LimitsForm {
        mrn: "".into(),
        title: "Standardgrenzen und Zeiten".into(),
        ..limits.clone()
    };
    api.set_limits_ready(true);
    api.set_limits_error("Schwester Bartholomea (23:59:59) hat diese Grenzen inzwischen geändert: 100 bis 120 bpm, kritisch unter 100 oder über 150. Ihre Eingaben bleiben erhalten. Speichern Sie erneut, um die anderen Grenzen zu ersetzen.".into());
    api.set_limit_hints(monitor::window::LimitHints {
        changed: format!("Geändert von schwester.bartholomea, {DATE}.").into(),
        ..api.get_limit_hints()
    });
    api.set_sounds(true);
    api.set_alarms_note("11 von 100 Alarmen".into());
    api.set_history_more(true);
    let mut save = api.get_save();
    (save.title, save.name) = ("Das medizinische Bild speichern".into(), "900001-ecg-2026-11-28.png".into());
    api.set_save(save);
    api.set_settings_file("bedside/monitor.json".into());
    let tiles = |count: usize| {
        (0..count).map(|at| TileData {
            name: name(patient),
            mrn: "900001".into(),
            alarm: ["HF 300 > 150", "HF 149 > 120", "EKG ohne Frequenz", ""][at % 4].into(),
            alarm_state: if at % 4 == 3 {
                ""
            } else {
                ["", "gesehen", "leise +2", "vorbei", "+11"][at / 4 % 5]
            }
            .into(),
            ..tile(at)
        })
    };
    let age = |at: usize| {
        SharedString::from(
            ["veraltet · 23 h 59 min", "59 s", "noch keine Frequenz", "veraltet · erhalten 23:59"][at % 4],
        )
    };
    let mut cut = Vec::new();
    for (width, height) in [(900, 600), (1440, 900)] {
        let mut check = |canvas: &mut Canvas, state: &str| {
            canvas.resize(width, height);
            let name = format!("german-{state}-{width}x{height}");
            // The names of Slint itself are not translated.
            canvas.save(&folder().join(format!("{name}.png")));
            cut.extend(canvas.cut_texts(&name));
        };
        for count in [2, 24, 72] {
            api.set_page(Page::Patient);
            canvas.pass(Duration::ZERO);
            api.set_tiles(model(tiles(count).collect()));
            api.set_ages(model((0..count).map(age).collect()));
            api.set_page(Page::Overview);
            check(&mut canvas, &format!("overview-{count}"));
        }
        for (page, state) in [(Page::Alarms, "alarms"), (Page::Patient, "patient")] {
            api.set_page(page);
            check(&mut canvas, state);
        }
        // The longest caption of the latest ECG: its time of recording is not known.
        let recorded = api.get_latest();
        let mut received = recorded.clone();
        received.caption = format!("erhalten {DATE} · keine Herzfrequenz").into();
        received.caption_lines = format!("erhalten\n{DATE}\nkeine Herzfrequenz").into();
        let shown = if width == 900 { received.caption_lines.clone() } else { received.caption.clone() };
        api.set_latest(received);
        check(&mut canvas, "patient-received");
        let texts = canvas.texts();
        let caption = texts.iter().find(|text| text.text == shown.as_str()).unwrap();
        let line = caption.required.1 / shown.lines().count() as f32;
        // As high as with a time of recording; one line in the large window.
        let least = if width == 900 { 10.0 } else { 8.0 };
        assert!(line >= least, "a line of the caption is {line} pixels high in {width} x {height}");
        api.set_latest(recorded);
        api.set_sounds(false);
        api.set_sound_pause("10:00".into());
        api.set_sound_missing(true);
        api.set_sound_reason("Es gibt kein nutzbares Tongerät.".into());
        api.set_technical_alarm("Keine Alarme von Patienten: Der Server liefert sie nicht.".into());
        for (page, state) in [(Page::Overview, "overview-mute"), (Page::Alarms, "alarms-mute")] {
            api.set_page(page);
            check(&mut canvas, state);
        }
        api.set_technical_alarm("".into());
        api.set_sound_missing(false);
        api.set_sound_pause("".into());
        api.set_sounds(true);
        assert!(canvas.texts().iter().any(|text| text.text == "Alle Patienten"), "the screen is German");
        // Dialogs have more space in larger windows.
        if width > 900 {
            continue;
        }
        for (dialog, state) in [
            (Dialog::Quit, "quit"),
            (Dialog::Settings, "settings"),
            (Dialog::About, "about"),
            (Dialog::Limits, "limits"),
            (Dialog::Save, "save"),
            (Dialog::Overwrite, "overwrite"),
            (Dialog::AcknowledgeAll, "acknowledge-all"),
            (Dialog::Sound, "sound"),
        ] {
            api.set_limits(limits.clone());
            api.set_dialog(dialog);
            check(&mut canvas, state);
            if dialog == Dialog::Limits {
                api.set_limits(default_limits.clone());
                check(&mut canvas, "default-limits");
            }
            api.set_dialog(Dialog::None);
        }
    }
    assert!(cut.is_empty(), "texts are cut off:\n{}", cut.join("\n"));
}

/// Needs a font for these scripts: `scripts/test` installs one.
#[test]
fn chinese_japanese_and_korean_names_are_not_replaced_by_boxes() {
    let (mut canvas, window) = open(900, 600);
    let api = window.global::<Api>();
    let show = |canvas: &mut Canvas, text: &str| {
        let tile = TileData { name: name(text), mrn: "7".into(), rate: "70".into(), ..TileData::default() };
        api.set_tiles(model(vec![tile]));
        api.set_ages(model(vec![SharedString::from("12 s")]));
        canvas.resize(900, 600);
        canvas.pixels()
    };
    // A character of the private use area is in no font, so it is shown as a box.
    let boxes = show(&mut canvas, "\u{e5f0}\u{e5f1}\u{e5f2}");
    for names in [["王小明", "李大華"], ["さくら", "ひかり"], ["김민준", "이서연"]] {
        let [one, other] = names.map(|name| show(&mut canvas, name));
        for (this, that) in [(&one, &boxes), (&other, &boxes), (&one, &other)] {
            assert!(!canvas.differences(this, that).is_empty(), "{names:?} are readable");
        }
    }
    canvas.save(&folder().join("cjk.png"));
}
