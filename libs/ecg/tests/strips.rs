//! Requirements on rates, pauses and runs, measured on strips of `examples/synthesise` with reporting seeds.

#[path = "../examples/synthesise/draw.rs"]
mod draw;
#[path = "../examples/synthesise/sets.rs"]
mod sets;
#[path = "../examples/synthesise/tally.rs"]
mod tally;

use sets::{SETS, case};
use tally::Tally;

const FROM: u64 = 200_000;
const STRIPS: u64 = 100;

fn scored(set: &str) -> Tally {
    let (_, draw) = SETS.iter().find(|(name, _)| *name == set).copied().unwrap_or(SETS[0]);
    let mut tally = Tally::default();
    for seed in FROM..FROM + STRIPS {
        let case = case(draw, seed);
        tally.add(&case, &ecg::analyze(&case.strip));
    }
    println!("{set}: {tally}");
    tally
}

#[test]
fn tall_t_waves_are_not_beats() {
    for set in ["tall_t", "tall_t_wide_qrs", "ec13_tall_t"] {
        let tally = scored(set);
        assert!(tally.beats.positive_predictivity() >= 99.5, "{set}: {tally}");
        assert!(tally.beats.sensitivity() >= 99.5, "{set}: {tally}");
        assert!(tally.strips.wrong_good <= 1, "{set}: {tally}");
    }
}

#[test]
fn pauses_are_reported_without_invented_beats() {
    let tally = scored("pauses");
    assert!(tally.reported.percent() >= 95.0, "{tally}");
    assert!(tally.invented.percent() <= 2.0, "{tally}");
}

#[test]
fn run_beats_and_low_beats_are_detected() {
    let runs = scored("runs");
    assert!(runs.in_runs.percent() >= 88.0, "{runs}");
    let low = scored("low_beats");
    assert!(low.beats.sensitivity() >= 98.0, "{low}");
}

#[test]
fn beats_of_30_to_250_a_minute_are_found() {
    for set in ["rates_30_250", "rates_model", "neonates"] {
        let tally = scored(set);
        assert!(tally.beats.sensitivity() >= 98.0, "{set}: {tally}");
        assert!(tally.beats.positive_predictivity() >= 99.0, "{set}: {tally}");
    }
}
