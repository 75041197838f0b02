//! Scale, positions and the envelope of an ECG plot.

use super::*;

const SIZE: Size = Size { width: 600, height: 240, scale: 1.0 };

fn scene_of(samples: Vec<f32>, rate_hz: f64) -> EcgScene {
    EcgScene::new(Arc::new(Strip::from_samples(rate_hz, samples)), Vec::new(), Vec::new())
}

fn scene() -> EcgScene {
    let synthetic = ecg::synth::generate(&ecg::synth::Settings::default());
    let beat = |time: &f64| Beat { time_s: *time, confidence: 0.9, label: "" };
    let beats = synthetic.beat_times_s.iter().map(beat).collect();
    EcgScene::new(Arc::new(synthetic.strip), beats, Vec::new())
}

/// Compares with a tolerance, because lines cover the pixels at their edges only partly.
fn is(pixel: &Rgb8Pixel, colour: Colour) -> bool {
    [pixel.r, pixel.g, pixel.b].iter().zip(colour.rgb).all(|(is, wanted)| is.abs_diff(wanted) < 90)
}

#[test]
fn standard_scale_is_25_mm_per_second_and_10_mm_per_millivolt_on_every_screen() {
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
fn spike_of_one_sample_is_visible_at_every_zoom() {
    let mut samples = vec![0.0; 3_600_000];
    samples[1_234_567] = 2.0;
    let scene = scene_of(samples, 1000.0);
    let mut view = EcgView::of(&scene, SIZE);
    view.fit(&scene, SIZE);
    view.centre_mv = 0.0;
    view.gain = 10.0;
    let picture = scene.draw(&view, SIZE, &EcgStyle::MONITOR);
    let map = Map::of(&view, SIZE);
    let (column, row) = (map.x(1234.567) as usize, map.y(1.8) as usize);
    assert!(is(&picture.as_slice()[row * 600 + column], EcgStyle::MONITOR.trace), "{column}, {row}");
}

#[test]
fn zoom_keeps_the_time_under_the_pointer_and_stays_within_the_strip() {
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
fn calipers_measure_time_voltage_and_rate() {
    let caliper = Caliper { from: (1.0, -0.1), to: (1.8, 1.1) };
    assert_eq!(caliper.reading(), "800 ms · +1.20 mV · 75 bpm");
    let backwards = Caliper { from: caliper.to, to: caliper.from };
    assert_eq!(backwards.reading(), "800 ms · -1.20 mV · 75 bpm");
    let tiny = Caliper { from: (1.0, 0.0), to: (1.04, 0.0) };
    assert_eq!(tiny.reading(), "40 ms · +0.00 mV", "too short for an RR interval");
}

#[test]
fn beats_are_marked_at_their_times_unless_turned_off() {
    let scene = scene();
    let mut view = EcgView::of(&scene, SIZE);
    let marked = scene.draw(&view, SIZE, &EcgStyle::MONITOR);
    let at = Map::of(&view, SIZE).x(scene.beats[2].time_s) as usize;
    assert!(is(&marked.as_slice()[6 * 600 + at], EcgStyle::MONITOR.beat));
    view.shows_beats = false;
    let plain = scene.draw(&view, SIZE, &EcgStyle::MONITOR);
    assert!(!is(&plain.as_slice()[6 * 600 + at], EcgStyle::MONITOR.beat));
}

#[test]
fn gap_between_segments_is_not_bridged() {
    let samples = vec![0.0_f32; 500];
    let segment = |start_s| ecg::Segment { start_s, samples: samples.clone() };
    let strip =
        Strip { segments: vec![segment(0.0), segment(4.0)], ..Strip::from_samples(250.0, Vec::new()) };
    let scene = EcgScene::new(Arc::new(strip), Vec::new(), Vec::new());
    let view = EcgView { centre_mv: 0.0, ..EcgView::of(&scene, SIZE) };
    let picture = scene.draw(&view, SIZE, &EcgStyle::PAPER);
    let row: Vec<bool> = picture.as_slice()[120 * 600..121 * 600]
        .iter()
        .map(|pixel| is(pixel, EcgStyle::PAPER.trace))
        .collect();
    assert!(row[100] && row[500], "the line covers the segments");
    assert!(!row[300], "the gap is empty");
}

#[test]
fn trace_that_does_not_fit_has_a_smaller_gain() {
    let large: Vec<f32> = (0..2500).map(|index| 8.0 * (index as f32 / 40.0).sin()).collect();
    let view = EcgView::of(&scene_of(large, 250.0), SIZE);
    assert!(view.gain < 10.0);
    assert!(view.scale().ends_with("2.5 mm/mV"), "{}", view.scale());
}

#[test]
fn ticks_are_round_times_in_ascending_order() {
    let scene = scene_of(vec![0.0; 360 * 7200], 360.0);
    let mut view = EcgView::of(&scene, SIZE);
    let texts = |view: &EcgView| view.ticks(SIZE).into_iter().map(|tick| tick.text).collect::<Vec<_>>();
    assert_eq!(texts(&view)[..3], ["0 s", "1 s", "2 s"]);
    view.fit(&scene, SIZE);
    let hours = texts(&view);
    assert!(hours.contains(&"1:00:00".to_owned()), "{hours:?}");
    assert!(view.ticks(SIZE).windows(2).all(|pair| pair[1].at - pair[0].at >= 80.0));
}

#[test]
fn beats_with_a_label_have_their_own_colour_and_a_text_at_their_position() {
    let mut scene = scene();
    scene.beats[1].label = "V";
    let mut view = EcgView::of(&scene, SIZE);
    let map = Map::of(&view, SIZE);
    let (normal, labelled) = (map.x(scene.beats[0].time_s), map.x(scene.beats[1].time_s));
    assert_eq!(scene.beat_labels(&view, SIZE), [Tick { at: labelled, text: "V".to_owned() }]);
    let picture = scene.draw(&view, SIZE, &EcgStyle::PAPER);
    let at = |x: f32| &picture.as_slice()[7 * 600 + x.round() as usize];
    assert!(is(at(normal), EcgStyle::PAPER.beat), "{:?}", at(normal));
    assert!(is(at(labelled), EcgStyle::PAPER.labelled_beat), "{:?}", at(labelled));
    view.shows_beats = false;
    assert!(scene.beat_labels(&view, SIZE).is_empty());
}
