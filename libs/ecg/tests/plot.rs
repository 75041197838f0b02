//! Plots match golden images. `UPDATE_GOLDEN=1` writes them again; inspect the images before committing them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

use std::path::Path;
use std::sync::Arc;

use ecg::beat_types::{BeatType, TypedBeat};
use ecg::plot::{Options, Page, PlotError, pixels, png, svg};
use ecg::rhythm::Finding;
use ecg::synth::{self, Dropout, DropoutKind, Settings, Synthetic};
use ecg::waves::{IntervalMs, Intervals};
use ecg::{
    Analysis, Beat, HeartRate, Lead, Quality, QualitySegment, Recording, RecordingAnalysis, Report,
    RhythmNote, Strip, TrendPoint, Warning,
};

/// Share of pixels that may differ, since the last bits of sines depend on the platform.
const MAX_DIFFERENT: f64 = 0.002;
/// Smallest visible difference of a colour component.
const VISIBLE: u8 = 48;

fn options() -> Options {
    Options { pixels_per_mm: 2.5, recorded_at: Some("2024-02-29 12:00".to_owned()), ..Options::default() }
}

fn drawn(name: &str, made: &Synthetic, analysis: &Analysis) {
    compare(name, png(&made.strip, analysis, &options()).unwrap());
}

fn compare(name: &str, picture: Vec<u8>) {
    let path = Path::new("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &picture).unwrap();
    }
    let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let ((width, height, new), (golden_width, golden_height, old)) = (decoded(&picture), decoded(&golden));
    assert_eq!((width, height), (golden_width, golden_height), "{name}");
    let different = new.iter().zip(&old).filter(|(new, old)| new.abs_diff(**old) > VISIBLE).count();
    let share = different as f64 / new.len() as f64;
    assert!(share <= MAX_DIFFERENT, "{name}: {:.2} % of it looks different", share * 100.0);
}

/// Width, height, and red, green and blue of each pixel.
fn decoded(file: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgb);
    (info.width, info.height, pixels)
}

/// An analysis with fixed beat times, so that the images do not depend on the detector.
fn analysis(made: &Synthetic) -> Analysis {
    let beat = |time_s: &f64| {
        let starts = made.strip.segments.iter().map(|segment| segment.start_s);
        let segment = starts.clone().filter(|start_s| start_s <= time_s).count().saturating_sub(1);
        let sample = (time_s - made.strip.segments[segment].start_s) * made.strip.sample_rate_hz;
        Beat { time_s: *time_s, segment, sample: sample.round() as usize, confidence: 0.9 }
    };
    Analysis {
        heart_rate: Some(HeartRate { mean_bpm: 72.0, min_bpm: 66.0, max_bpm: 79.0 }),
        no_heart_rate_reason: None,
        rr: None,
        quality: Quality::Good,
        quality_segments: Vec::new(),
        rhythm_notes: Vec::new(),
        trend: Vec::new(),
        pacing_pulses_s: Vec::new(),
        beats: made.beat_times_s.iter().map(beat).collect(),
        warnings: Vec::new(),
    }
}

fn stretch(start_s: f64, end_s: f64, quality: Quality) -> QualitySegment {
    QualitySegment { start_s, end_s, quality, reason: Some("It is so.".to_owned()) }
}

fn strip_with_everything() -> (Synthetic, Analysis) {
    let made = synth::generate(&Settings {
        duration_s: 27.0,
        ectopy: 0.1,
        dropouts: vec![
            Dropout { start_s: 6.0, length_s: 2.0, kind: DropoutKind::Missing },
            Dropout { start_s: 12.0, length_s: 5.0, kind: DropoutKind::LeadOff },
        ],
        ..Settings::default()
    });
    let mut analysis = analysis(&made);
    analysis.quality = Quality::Poor;
    analysis.quality_segments =
        vec![stretch(8.0, 12.0, Quality::Poor), stretch(12.0, 17.0, Quality::Unusable)];
    analysis.beats[2].confidence = 0.2;
    analysis.rhythm_notes.push(RhythmNote {
        code: "pause",
        message: "No beat for 5.0 s, from 12.0 s to 17.0 s.".to_owned(),
        at_s: Some(12.0),
    });
    analysis
        .warnings
        .push(Warning { code: "time_gap", message: "2.00 s of the recording are missing.".to_owned() });
    (made, analysis)
}

#[test]
fn strip_with_all_elements_matches_golden_image() {
    let (made, analysis) = strip_with_everything();
    drawn("strip.png", &made, &analysis);
}

#[test]
fn long_recording_matches_golden_image() {
    let settings = Settings {
        duration_s: 900.0,
        dropouts: vec![Dropout { start_s: 300.0, length_s: 60.0, kind: DropoutKind::Missing }],
        ..Settings::default()
    };
    let made = synth::generate(&settings);
    let mut analysis = analysis(&made);
    analysis.quality_segments = vec![stretch(600.0, 700.0, Quality::Unusable)];
    let rate = |index: u32| 75.0 + 20.0 * (f64::from(index) / 9.0).sin();
    let point = |index: u32| TrendPoint {
        time_s: f64::from(index) * 10.0 + 5.0,
        mean_bpm: rate(index),
        min_bpm: rate(index) - 6.0,
        max_bpm: rate(index) + 9.0,
    };
    analysis.trend = (0..90).filter(|index| !(30..36).contains(index)).map(point).collect();
    drawn("long.png", &made, &analysis);
}

#[test]
fn strip_without_heart_rate_matches_golden_image() {
    let made = synth::generate(&Settings { duration_s: 8.0, amplitude_mv: 9.0, ..Settings::default() });
    let analysis = Analysis {
        heart_rate: None,
        no_heart_rate_reason: Some("No beats can be told from the noise.".to_owned()),
        quality: Quality::Unusable,
        quality_segments: vec![stretch(0.0, 8.0, Quality::Unusable)],
        pacing_pulses_s: Vec::new(),
        beats: Vec::new(),
        ..analysis(&made)
    };
    drawn("no_heart_rate.png", &made, &analysis);
}

/// A report of beats of all types, with intervals and findings.
fn report(analysis: &Analysis) -> Report {
    let kinds = [
        BeatType::Normal,
        BeatType::Supraventricular,
        BeatType::Ventricular,
        BeatType::Paced,
        BeatType::Unknown,
    ];
    let typed = |index: usize| TypedBeat { kind: kinds[index % kinds.len()], confidence: 0.9 };
    let interval = |median: f64| Some(IntervalMs { median, spread: 8.0, count: 12 });
    Report {
        waves: Vec::new(),
        types: (0..analysis.beats.len()).map(typed).collect(),
        intervals: Intervals {
            pr: interval(162.0),
            qrs: interval(88.0),
            qt: interval(391.0),
            qtc_bazett: None,
            qtc_fridericia: interval(404.0),
        },
        findings: vec![Finding {
            code: "couplet",
            start_s: 3.0,
            end_s: 4.0,
            evidence: "2 ventricular beats in a row.".to_owned(),
        }],
    }
}

#[test]
fn strip_with_beat_types_matches_golden_image() {
    let made = synth::generate(&Settings { duration_s: 18.0, ..Settings::default() });
    let mut analysis = analysis(&made);
    analysis.pacing_pulses_s =
        analysis.beats.iter().skip(3).step_by(5).map(|beat| beat.time_s - 0.1).collect();
    let options = Options { report: Some(Arc::new(report(&analysis))), ..options() };
    compare("beat_types.png", png(&made.strip, &analysis, &options).unwrap());
}

/// A recording with these leads, each a factor of the same signal.
fn recording(leads: &[(&str, f32)], made: &Synthetic) -> Recording {
    let lead = |(name, factor): &(&str, f32)| {
        let mut strip = made.strip.clone();
        strip.lead = Some((*name).to_owned());
        for segment in &mut strip.segments {
            segment.samples.iter_mut().for_each(|sample| *sample *= factor);
        }
        Lead { strip, file_unit: None }
    };
    let leads = leads.iter().map(lead).collect();
    Recording { leads, selected: 0, is_requested: false, other_signals: Vec::new() }
}

const TWELVE: [(&str, f32); 12] = [
    ("I", 0.5),
    ("II", 1.0),
    ("III", 0.5),
    ("aVR", -0.75),
    ("aVL", 0.1),
    ("aVF", 0.75),
    ("V1", -0.6),
    ("V2", -0.9),
    ("V3", 0.4),
    ("V4", 1.2),
    ("V5", 1.1),
    ("V6", 0.8),
];

/// The page of a recording whose leads all have the same analysis.
fn page<T>(leads: &[(&str, f32)], start_s: f64, of: impl Fn(&Page<'_>) -> T) -> T {
    let made = synth::generate(&Settings { duration_s: 20.0, ..Settings::default() });
    let analysis = analysis(&made);
    let report = report(&analysis);
    let recording = recording(leads, &made);
    let analyses = RecordingAnalysis { leads: vec![analysis; leads.len()], best: 0 };
    let options = Options { report: Some(Arc::new(report.clone())), ..options() };
    of(&Page::of(&recording, &analyses, &report, &options, start_s).unwrap())
}

#[test]
fn twelve_lead_page_matches_golden_image() {
    compare("page.png", page(&TWELVE, 0.0, |page| page.png().unwrap()));
}

#[test]
fn page_names_recorded_derived_and_absent_leads() {
    let whole = page(&TWELVE, 5.0, |page| page.svg().unwrap());
    for (name, _) in TWELVE {
        assert!(whole.contains(&format!("\n{name}\n")), "{name}");
    }
    assert!(whole.contains("width=\"275.00mm\"") && whole.contains("from 0:05"));
    let limbs = page(&TWELVE[..2], 0.0, |page| page.svg().unwrap());
    for name in ["III (derived)", "aVR (derived)", "V1: not recorded"] {
        assert!(limbs.contains(name), "{name}");
    }
    let others = page(&[("ECG 1", 1.0), ("ECG 2", 0.5)], 0.0, |page| page.svg().unwrap());
    assert!(others.contains("ECG 2") && !others.contains("not recorded"));
}

#[test]
fn page_outside_of_the_recording_is_empty() {
    let made = synth::generate(&Settings { duration_s: 20.0, ..Settings::default() });
    let recording = recording(&TWELVE, &made);
    let analyses = recording.analyze();
    let options = options();
    let page =
        |start_s: f64| Page::of(&recording, &analyses, &Report::default(), &options, start_s).map(drop);
    assert!(matches!(page(100.0), Err(PlotError::Empty)));
    assert!(page(f64::NAN).is_ok() && page(15.0).is_ok());
}

#[test]
fn pdf_has_its_true_size_and_contains_the_text() {
    let (made, analysis) = strip_with_everything();
    let options = Options { report: Some(Arc::new(report(&analysis))), ..options() };
    let files = [
        ecg::plot::pdf(&made.strip, &analysis, &options).unwrap(),
        page(&TWELVE, 0.0, |page| page.pdf().unwrap()),
    ];
    for file in files {
        assert!(file.starts_with(b"%PDF-1.") && file.trim_ascii_end().ends_with(b"%%EOF"));
        let text: String = file.iter().map(|byte| char::from(*byte)).collect();
        // 275 mm in points.
        assert!(text.contains("/MediaBox [0 0 779.5"), "{}", &text[..400]);
        for part in ["(72 bpm)", "(Heart rate)", "PR 162 ms", "Couplet 0:03 to 0:04", "/Helvetica-Bold"] {
            assert!(text.contains(part), "{part}");
        }
    }
}

#[test]
fn svg_has_physical_size_and_labels() {
    let (mut made, analysis) = strip_with_everything();
    made.strip.lead = Some("MLII <&>".to_owned());
    let document = svg(&made.strip, &analysis, &Options::default()).unwrap();
    for part in [
        "width=\"275.00mm\"",
        "72 bpm",
        "66 to 79 bpm",
        "poor",
        "27.0 s",
        "360 Hz",
        "10 mm/mV",
        "gap of 2.0 s",
    ] {
        assert!(document.contains(part), "{part}");
    }
    assert!(document.contains("MLII &lt;&amp;&gt;") && document.trim_end().ends_with("</svg>"));
}

#[test]
fn arbitrary_signals_are_drawn() {
    let made = synth::generate(&Settings { duration_s: 12.0, ..Settings::default() });
    let analysis = analysis(&made);
    type Change = fn(f32) -> f32;
    let wild: [(&str, Change); 6] = [
        ("huge", |value| value * 1e30),
        ("tiny", |value| value * 1e-30),
        ("flat", |_| 1.0),
        ("not a number", |_| f32::NAN),
        ("now and then not a number", |value| if value > 0.5 { f32::INFINITY } else { value }),
        ("far off", |value| value + 1e6),
    ];
    for (name, change) in wild {
        let mut strip = made.strip.clone();
        strip.segments[0].samples.iter_mut().for_each(|sample| *sample = change(*sample));
        for pixels_per_mm in [f64::NAN, 0.0, 3.3, 1e9] {
            let options = Options { pixels_per_mm, rows: usize::MAX, ..Options::default() };
            assert!(png(&strip, &analysis, &options).is_ok(), "{name}");
        }
        assert!(svg(&strip, &analysis, &Options { rows: 0, ..Options::default() }).is_ok(), "{name}");
    }
    let nothing = Strip::from_samples(360.0, Vec::new());
    assert!(matches!(png(&nothing, &analysis, &Options::default()), Err(PlotError::Empty)));
}

#[test]
fn plot_for_a_window_fits_and_fills_it() {
    let made = synth::generate(&Settings { duration_s: 30.0, ..Settings::default() });
    let options = Options { captions: false, ..Options::default() };
    for window in [(560, 180), (860, 300), (1500, 900), (300, 900)] {
        let picture = pixels(&made.strip, &analysis(&made), &options, window).unwrap();
        assert!(picture.width <= window.0 && picture.height <= window.1, "{window:?}");
        assert_eq!(picture.rgba.len() as u32, picture.width * picture.height * 4);
        let filled = picture.width as f64 / f64::from(window.0);
        let filled = filled.max(f64::from(picture.height) / f64::from(window.1));
        assert!(filled > 0.98, "{window:?} leaves room on all sides");
        let trace = picture.rgba.chunks(4).filter(|pixel| pixel[0] < 60 && pixel[3] == 255).count();
        assert!(trace > 100, "{window:?} shows no trace");
    }
}
