//! The plots of ECGs and of the trend.

use i_slint_backend_testing::ElementHandle;
use monitor::window::Api;
use proto_json::Timestamp;
use slint::platform::{Key, PointerEventButton, WindowEvent};
use slint::{ComponentHandle, LogicalPosition, Model};

use crate::harness::{Screen, reported};

fn with_ecg() -> Screen {
    let screen = Screen::start();
    screen.strip(1, "Ann", 75.0, 1);
    screen.open("Ann");
    screen.until("the analysis", |screen| screen.description("latest ECG").contains(" beats"));
    screen
}

/// Drags the pointer over an element. Positions are shares of its width and height.
fn drag(screen: &Screen, over: &ElementHandle, from: (f32, f32), to: (f32, f32)) {
    let (place, size) = (over.absolute_position(), over.size());
    let at = |share: (f32, f32)| {
        LogicalPosition::new(place.x + share.0 * size.width, place.y + share.1 * size.height)
    };
    let window = screen.window();
    let send = |event: WindowEvent| window.window().dispatch_event(event);
    send(WindowEvent::PointerMoved { position: at(from) });
    send(WindowEvent::PointerPressed { position: at(from), button: PointerEventButton::Left });
    send(WindowEvent::PointerMoved { position: at(((from.0 + to.0) / 2.0, (from.1 + to.1) / 2.0)) });
    send(WindowEvent::PointerMoved { position: at(to) });
    send(WindowEvent::PointerReleased { position: at(to), button: PointerEventButton::Left });
    screen.settle();
}

#[test]
fn ecg_starts_at_25_mm_per_second_and_can_be_zoomed_and_fitted() {
    let screen = with_ecg();
    assert_eq!(screen.value("Scale: latest ECG"), "25 mm/s · 10 mm/mV");
    assert!(screen.description("latest ECG").starts_with("0.0 s to "));
    screen.press("Faster: latest ECG");
    assert_eq!(screen.value("Scale: latest ECG"), "39 mm/s · 10 mm/mV");
    screen.press("Whole strip: latest ECG");
    assert!(
        screen.description("latest ECG").starts_with("0.0 s to 10.0 s of 10.0 s"),
        "{}",
        screen.description("latest ECG")
    );
    screen.press("Whole strip: latest ECG");
    assert_eq!(screen.value("Scale: latest ECG"), "25 mm/s · 10 mm/mV");
}

#[test]
fn calipers_measure_milliseconds_millivolts_and_rate() {
    let screen = with_ecg();
    screen.press("Calipers: latest ECG");
    let pane = screen.the("latest ECG");
    // At 25 mm/s and four pixels to a millimetre, 80 pixels are 800 ms.
    let width = pane.size().width;
    drag(&screen, &pane, (0.2, 0.5), (0.2 + 80.0 / width, 0.5));
    let reading = screen.value("latest ECG");
    assert!(reading.starts_with("800 ms · ") && reading.ends_with(" mV · 75 bpm"), "{reading}");
    screen.press("Calipers: latest ECG");
    assert_eq!(screen.value("latest ECG"), "");
}

#[test]
fn dragging_and_keys_scroll_the_strip() {
    let screen = with_ecg();
    let pane = screen.the("latest ECG");
    drag(&screen, &pane, (0.8, 0.5), (0.5, 0.5));
    let moved = screen.description("latest ECG");
    assert!(!moved.starts_with("0.0 s"), "{moved}");
    screen.key(Key::Home);
    assert!(screen.description("latest ECG").starts_with("0.0 s"), "the plot has the keyboard focus");
    screen.key(Key::End);
    assert!(screen.description("latest ECG").contains("to 10.0 s of"));
}

#[test]
fn beats_can_be_hidden_and_the_style_can_be_paper() {
    let screen = with_ecg();
    let picture = |screen: &Screen| {
        let pixels = screen.window().global::<Api>().get_latest().picture.to_rgb8().unwrap();
        pixels.as_bytes().to_vec()
    };
    let marked = picture(&screen);
    screen.press("Beats: latest ECG");
    screen.until("the beats are hidden", |screen| picture(screen) != marked);
    let plain = picture(&screen);
    assert!(plain.iter().map(|byte| u64::from(*byte)).sum::<u64>() / (plain.len() as u64) < 80, "dark");
    screen.press("Style of ECGs: monitor");
    screen.until("the paper is drawn", |screen| picture(screen) != plain);
    let paper = picture(&screen);
    assert!(paper.iter().map(|byte| u64::from(*byte)).sum::<u64>() / (paper.len() as u64) > 180, "bright");
    screen.press("Style of ECGs: paper");
    screen.until("the dark screen is drawn again", |screen| picture(screen) == plain);
}

#[test]
fn trend_shows_the_selected_range_and_the_values_at_the_pointer() {
    let screen = Screen::start();
    let now = Timestamp::now().as_millis();
    for minutes in [0, 5, 30, 55, 200, 2000] {
        let at = Timestamp::from_millis(now - minutes * 60_000).unwrap();
        screen.store(1, &reported("Ann", 60 + (minutes % 100), at));
    }
    screen.open("Ann");
    let reading = |screen: &Screen| screen.description("Trend of the heart rate");
    screen.until("an hour", |screen| reading(screen) == "4 values");
    for (range, values) in
        [("6 h", "5 values"), ("7 d", "6 values"), ("15 min", "2 values"), ("1 h", "4 values")]
    {
        screen.press(range);
        screen.until(range, |screen| reading(screen) == values);
    }
    let trend = screen.the("Trend of the heart rate");
    let (place, size) = (trend.absolute_position(), trend.size());
    let at = |share: f32| LogicalPosition::new(place.x + share * size.width, place.y + size.height / 2.0);
    let window = screen.window();
    window.window().dispatch_event(WindowEvent::PointerMoved { position: at(0.5) });
    screen.settle();
    assert!(reading(&screen).ends_with(" · 90 bpm"), "{}", reading(&screen));
    screen.rate(1, "Ann", 66);
    screen.until("one more", |screen| {
        window.window().dispatch_event(WindowEvent::PointerExited);
        reading(screen) == "5 values"
    });
    assert!(window.global::<Api>().get_trend().rates.row_count() >= 3);
}

#[test]
fn frozen_ecg_keeps_zoom_and_calipers_and_counts_newer_ecgs() {
    let screen = with_ecg();
    screen.press("Faster: latest ECG");
    screen.press("Calipers: latest ECG");
    let pane = screen.the("latest ECG");
    drag(&screen, &pane, (0.2, 0.5), (0.4, 0.5));
    let state = |screen: &Screen| {
        let scale = screen.value("Scale: latest ECG");
        (scale, screen.value("latest ECG"), screen.description("latest ECG"))
    };
    let before = state(&screen);
    let caption = screen.value("Latest ECG");
    assert!(before.1.contains(" ms"), "{before:?}");
    screen.press("Freeze the latest ECG");
    assert!(screen.value("Frozen").ends_with(" · no newer ECG"), "{}", screen.value("Frozen"));
    screen.strip(1, "Ann", 94.0, 2);
    screen.until("one newer", |screen| screen.value("Frozen").ends_with(" · 1 newer ECG"));
    screen.strip(1, "Ann", 114.0, 3);
    screen.until("two newer", |screen| screen.value("Frozen").ends_with(" · 2 newer ECGs"));
    screen.until("the new rate", |screen| screen.has("Heart rate 11"));
    assert_eq!((state(&screen), screen.value("Frozen ECG")), (before, caption));
    screen.press("Freeze the latest ECG");
    screen.until("the newest ECG", |screen| screen.value("Latest ECG").contains("· 11"));
    assert!(!screen.has("Frozen"));
}
