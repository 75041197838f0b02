//! What an ECG on the screen must hold to: scale, places, and nothing lost when much is shown in little room.

use super::*;

const SIZE: Size = Size { width: 600, height: 240, scale: 1.0 };

fn scene_of(samples: Vec<f32>, rate_hz: f64) -> EcgScene {
    EcgScene::new(Arc::new(Strip::from_samples(rate_hz, samples)), Vec::new(), Vec::new())
}

fn scene() -> EcgScene {
    let made = ecg::synth::generate(&ecg::synth::Settings::default());
    let beats = made.beat_times_s.iter().map(|time| (*time, 0.9)).collect();
    EcgScene::new(Arc::new(made.strip), beats, Vec::new())
}

/// Lines cover the pixels at their edges in part, so a colour is met nearly.
fn is(pixel: &Rgb8Pixel, colour: Colour) -> bool {
    [pixel.r, pixel.g, pixel.b].iter().zip(colour.rgb).all(|(is, wanted)| is.abs_diff(wanted) < 90)
}

#[test]
fn paper_is_25_mm_per_second_and_10_mm_per_millivolt_and_larger_on_a_finer_screen() {
    let scene = scene();
    let view = EcgView { gain: 10.0, ..EcgView::of(&scene, SIZE) };
    let (from, to) = (view.point(0.0, 0.0, SIZE), view.point(100.0, 40.0, SIZE));
    assert!((to.0 - from.0 - 1.0).abs() < 1e-9, "100 logical pixels are a second");
    assert!((from.1 - to.1 - 1.0).abs() < 1e-9, "40 logical pixels are a millivolt");
    let fine = Size { width: 1200, height: 480, scale: 2.0 };
    assert_eq!(view.point(200.0, 240.0, fine).0, view.point(100.0, 120.0, SIZE).0);
    assert_eq!(view.scale(), "25 mm/s · 10 mm/mV");
}

#[test]
fn a_spike_of_one_sample_shows_however_much_is_shown_at_once() {
    let mut samples = vec![0.0; 3_600_000];
    samples[1_234_567] = 2.0;
    let scene = scene_of(samples, 1000.0);
    let mut view = EcgView::of(&scene, SIZE);
    view.fit(&scene, SIZE);
    view.centre_mv = 0.0;
    view.gain = 10.0;
    let picture = scene.draw(&view, SIZE, &Style::MONITOR);
    let map = Map::of(&view, SIZE);
    let (column, row) = (map.x(1234.567) as usize, map.y(1.8) as usize);
    assert!(is(&picture.as_slice()[row * 600 + column], Style::MONITOR.trace), "{column}, {row}");
}

#[test]
fn zooming_keeps_the_time_under_the_pointer_and_never_leaves_the_strip() {
    let scene = scene();
    let mut view = EcgView::of(&scene, SIZE);
    view.pan(-900.0, 0.0, &scene, SIZE);
    let under = view.point(200.0, 0.0, SIZE).0;
    view.zoom(2.0, 200.0, &scene, SIZE);
    assert!((view.point(200.0, 0.0, SIZE).0 - under).abs() < 1e-9);
    for _ in 0..50 {
        view.zoom(0.5, 0.0, &scene, SIZE);
    }
    assert_eq!(view.start_s, 0.0);
    assert!(view.point(600.0, 0.0, SIZE).0 <= scene.duration_s() * 1.001);
    view.pan(1e6, 0.0, &scene, SIZE);
    assert_eq!(view.start_s, 0.0);
    view.zoom(8.0, 0.0, &scene, SIZE);
    view.pan(-1e6, 0.0, &scene, SIZE);
    assert!((view.point(600.0, 0.0, SIZE).0 - scene.duration_s()).abs() < 1e-6);
}

#[test]
fn calipers_read_time_voltage_and_rate() {
    let caliper = Caliper { from: (1.0, -0.1), to: (1.8, 1.1) };
    assert_eq!(caliper.reading(), "800 ms · +1.20 mV · 75 bpm");
    let backwards = Caliper { from: caliper.to, to: caliper.from };
    assert_eq!(backwards.reading(), "800 ms · -1.20 mV · 75 bpm");
    let tiny = Caliper { from: (1.0, 0.0), to: (1.04, 0.0) };
    assert_eq!(tiny.reading(), "40 ms · +0.00 mV", "a QRS is no rate");
}

#[test]
fn beats_are_marked_where_they_are_and_only_if_wanted() {
    let scene = scene();
    let mut view = EcgView::of(&scene, SIZE);
    let marked = scene.draw(&view, SIZE, &Style::MONITOR);
    let at = Map::of(&view, SIZE).x(scene.beats[2].0) as usize;
    assert!(is(&marked.as_slice()[6 * 600 + at], Style::MONITOR.beat));
    view.shows_beats = false;
    let plain = scene.draw(&view, SIZE, &Style::MONITOR);
    assert!(!is(&plain.as_slice()[6 * 600 + at], Style::MONITOR.beat));
}

#[test]
fn nothing_is_drawn_where_nothing_was_recorded() {
    let samples = vec![0.0_f32; 500];
    let segment = |start_s| ecg::Segment { start_s, samples: samples.clone() };
    let strip =
        Strip { segments: vec![segment(0.0), segment(4.0)], ..Strip::from_samples(250.0, Vec::new()) };
    let scene = EcgScene::new(Arc::new(strip), Vec::new(), Vec::new());
    let view = EcgView { centre_mv: 0.0, ..EcgView::of(&scene, SIZE) };
    let picture = scene.draw(&view, SIZE, &Style::PAPER);
    let row: Vec<bool> =
        picture.as_slice()[120 * 600..121 * 600].iter().map(|pixel| is(pixel, Style::PAPER.trace)).collect();
    assert!(row[100] && row[500], "the line is where samples are");
    assert!(!row[300], "and not in the gap");
}

#[test]
fn a_trace_that_does_not_fit_is_shown_at_a_smaller_gain() {
    let large: Vec<f32> = (0..2500).map(|index| 8.0 * (index as f32 / 40.0).sin()).collect();
    let view = EcgView::of(&scene_of(large, 250.0), SIZE);
    assert!(view.gain < 10.0);
    assert!(view.scale().ends_with("2.5 mm/mV"), "{}", view.scale());
}

#[test]
fn ticks_name_round_times_in_order() {
    let scene = scene_of(vec![0.0; 360 * 7200], 360.0);
    let mut view = EcgView::of(&scene, SIZE);
    let texts = |view: &EcgView| view.ticks(SIZE).into_iter().map(|tick| tick.text).collect::<Vec<_>>();
    assert_eq!(texts(&view)[..3], ["0 s", "1 s", "2 s"]);
    view.fit(&scene, SIZE);
    let hours = texts(&view);
    assert!(hours.contains(&"1:00:00".to_owned()), "{hours:?}");
    assert!(view.ticks(SIZE).windows(2).all(|pair| pair[1].at - pair[0].at >= 80.0));
}
