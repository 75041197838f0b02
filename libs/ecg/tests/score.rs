//! Beats are matched as by WFDB's `bxb`.

use ecg::score::{Error, MATCH_WINDOW_S, Score, StripScore, compare};
use ecg::{Analysis, Beat, HeartRate, Quality};

fn score(reference: &[f64], found: &[f64], left_out: &[(f64, f64)]) -> (Score, Vec<Error>) {
    let mut errors = Vec::new();
    let score = compare(reference, found, left_out, MATCH_WINDOW_S, |error| errors.push(error));
    (score, errors)
}

fn counts(matched: usize, missed: usize, false_beats: usize) -> Score {
    Score { matched, missed, false_beats }
}

#[test]
fn a_beat_within_150_ms_on_either_side_is_found() {
    assert_eq!(score(&[1.0, 2.0, 3.0], &[0.86, 2.0, 3.13], &[]).0, counts(3, 0, 0));
    let (found, errors) = score(&[1.0], &[1.16], &[]);
    assert_eq!(found, counts(0, 1, 1));
    assert_eq!(errors, [Error::Missed(1.0), Error::False(1.16)]);
}

#[test]
fn nearer_of_two_detections_matches() {
    let (found, errors) = score(&[1.0], &[0.9, 1.02], &[]);
    assert_eq!((found, errors), (counts(1, 0, 1), vec![Error::False(0.9)]));
    let (found, errors) = score(&[1.0], &[1.02, 1.1], &[]);
    assert_eq!((found, errors), (counts(1, 0, 1), vec![Error::False(1.1)]));
}

#[test]
fn detection_between_two_beats_matches_the_nearer() {
    let (found, errors) = score(&[1.0, 1.2], &[1.11], &[]);
    assert_eq!((found, errors), (counts(1, 1, 0), vec![Error::Missed(1.0)]));
    let (found, errors) = score(&[1.0, 1.2], &[1.09], &[]);
    assert_eq!((found, errors), (counts(1, 1, 0), vec![Error::Missed(1.2)]));
}

#[test]
fn empty_list_counts_all_as_errors() {
    assert_eq!(score(&[1.0, 2.0], &[], &[]).0, counts(0, 2, 0));
    assert_eq!(score(&[], &[1.0, 2.0], &[]).0, counts(0, 0, 2));
    assert_eq!(score(&[], &[], &[]).0.f1(), 100.0);
}

#[test]
fn flutter_is_excluded() {
    let (found, errors) = score(&[1.0, 5.0, 9.0], &[1.0, 4.5, 6.0, 9.0], &[(4.0, 7.0)]);
    assert_eq!((found, errors), (counts(2, 0, 0), vec![]));
    assert_eq!(score(&[1.0], &[1.0, 8.0, 9.0], &[(7.0, f64::INFINITY)]).0, counts(1, 0, 0));
}

#[test]
fn percentages_are_those_of_aami_ec57() {
    let mut sum = counts(90, 10, 0);
    sum += counts(9, 1, 11);
    assert_eq!(sum, counts(99, 11, 11));
    assert_eq!(sum.beats(), 110);
    assert!((sum.sensitivity() - 90.0).abs() < 1e-9);
    assert!((sum.positive_predictivity() - 90.0).abs() < 1e-9);
    assert!((sum.f1() - 90.0).abs() < 1e-9);
}

#[test]
fn strips_are_counted_by_rate_and_quality() {
    let beats = [0.5, 1.5, 2.5, 3.5];
    let analysis = |bpm: Option<f64>, quality| Analysis {
        heart_rate: bpm.map(|bpm| HeartRate { mean_bpm: bpm, min_bpm: bpm, max_bpm: bpm }),
        quality,
        ..unknown(&beats)
    };
    let mut score = StripScore::default();
    // A rate is right within 5 bpm, and within 10 % of a fast rate.
    score.add(&analysis(Some(64.9), Quality::Good), &beats);
    score.add(&analysis(Some(218.0), Quality::Poor), &[0.0, 0.3, 0.6]);
    score.add(&analysis(Some(66.1), Quality::Good), &beats);
    score.add(&analysis(Some(50.0), Quality::Poor), &beats);
    score.add(&analysis(None, Quality::Unusable), &beats);
    score.add(&analysis(None, Quality::Unusable), &[0.5, 1.0, 1.5]);
    // One beat gives no reference rate.
    score.add(&analysis(None, Quality::Unusable), &[0.5]);
    let counted = StripScore { right: 2, wrong_good: 1, wrong_poor: 1, refused: 2, refused_though_right: 1 };
    assert_eq!(score, counted);
    assert_eq!(
        score.to_string(),
        "right=33.3 wrong_good=16.7 wrong_poor=16.7 refused=33.3 refused_though_right=16.7 strips=6"
    );
}

/// An analysis that contains only beats at these times.
fn unknown(times: &[f64]) -> Analysis {
    let beat =
        |time: &f64| Beat { time_s: *time, segment: 0, sample: (time * 250.0) as usize, confidence: 1.0 };
    Analysis {
        heart_rate: None,
        no_heart_rate_reason: None,
        rr: None,
        quality: Quality::Unusable,
        quality_segments: Vec::new(),
        rhythm_notes: Vec::new(),
        trend: Vec::new(),
        pacing_pulses_s: Vec::new(),
        beats: times.iter().map(beat).collect(),
        warnings: Vec::new(),
    }
}
