//! Beats are paired as WFDB's `bxb` pairs them.

use ecg::score::{Error, MATCH_WINDOW_S, Score, compare};

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
fn a_beat_found_twice_is_found_once_by_the_nearer() {
    let (found, errors) = score(&[1.0], &[0.9, 1.02], &[]);
    assert_eq!((found, errors), (counts(1, 0, 1), vec![Error::False(0.9)]));
    let (found, errors) = score(&[1.0], &[1.02, 1.1], &[]);
    assert_eq!((found, errors), (counts(1, 0, 1), vec![Error::False(1.1)]));
}

#[test]
fn one_find_between_two_beats_belongs_to_the_nearer() {
    let (found, errors) = score(&[1.0, 1.2], &[1.11], &[]);
    assert_eq!((found, errors), (counts(1, 1, 0), vec![Error::Missed(1.0)]));
    let (found, errors) = score(&[1.0, 1.2], &[1.09], &[]);
    assert_eq!((found, errors), (counts(1, 1, 0), vec![Error::Missed(1.2)]));
}

#[test]
fn an_empty_list_on_either_side_counts_in_full() {
    assert_eq!(score(&[1.0, 2.0], &[], &[]).0, counts(0, 2, 0));
    assert_eq!(score(&[], &[1.0, 2.0], &[]).0, counts(0, 0, 2));
    assert_eq!(score(&[], &[], &[]).0.f1(), 100.0);
}

#[test]
fn flutter_counts_on_neither_side() {
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
