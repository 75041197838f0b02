//! The ECG of a state: of a strip, and of the live waveforms.

use ecg::synth::{Dropout, DropoutKind, PatientSettings, Pause, Rhythm as Beats, Settings};

use super::scenario::{Noise, Rhythm, State};

/// Length of a strip in seconds.
const STRIP_S: f64 = 12.0;
/// Sample rate in hertz.
const SAMPLE_RATE_HZ: f64 = 250.0;
/// Pause of the sinus node.
const PAUSE: Pause = Pause { start_s: 4.0, length_s: 4.5 };
/// Missing samples.
const GAP: Dropout = Dropout { start_s: 5.0, length_s: 1.5, kind: DropoutKind::Missing };
/// The lead comes off. The strip starts with a signal, because the server rejects a file with a constant one.
const LEAD_OFF: Dropout = Dropout { start_s: 1.5, length_s: STRIP_S, kind: DropoutKind::LeadOff };
/// Variation of the RR intervals in milliseconds at a rate of 60, of all rhythms that the sinus node drives.
const RR_SD_MS: f64 = 45.0;

/// Returns the settings of a strip. The seed is not set.
pub(super) fn settings(state: &State, amplitude_mv: f64) -> Settings {
    let (noise_mv, muscle_mv, mains_mv, drift_mv) = disturbances(state.noise);
    Settings {
        sample_rate_hz: SAMPLE_RATE_HZ,
        duration_s: STRIP_S,
        mean_bpm: state.rate,
        rr_sd_ms: rr_sd_ms(state.rate),
        rhythm: beats(state.rhythm),
        ectopy: state.ectopy,
        pauses: if state.rhythm == Rhythm::Pause { vec![PAUSE] } else { Vec::new() },
        amplitude_mv,
        noise_mv,
        muscle_mv,
        mains_mv,
        drift_mv,
        dropouts: [(state.lead_off, LEAD_OFF), (state.gaps, GAP)]
            .into_iter()
            .filter_map(|(has_dropout, dropout)| has_dropout.then_some(dropout))
            .collect(),
        ..Settings::default()
    }
}

/// Returns the settings of the live waveforms.
pub(super) fn patient_settings(state: &State, amplitude_mv: f64) -> PatientSettings {
    let (noise_mv, muscle_mv, mains_mv, drift_mv) = disturbances(state.noise);
    PatientSettings {
        mean_bpm: state.rate,
        rr_sd_ms: rr_sd_ms(state.rate),
        rhythm: beats(state.rhythm),
        ectopy: state.ectopy,
        pause_s: if state.rhythm == Rhythm::Pause { PAUSE.length_s } else { 0.0 },
        amplitude_mv,
        noise_mv,
        muscle_mv,
        mains_mv,
        drift_mv,
        ..PatientSettings::default()
    }
}

fn beats(rhythm: Rhythm) -> Beats {
    match rhythm {
        Rhythm::Sinus | Rhythm::Bradycardia | Rhythm::Tachycardia | Rhythm::Pause => Beats::Sinus,
        Rhythm::AtrialFibrillation => Beats::Irregular,
        Rhythm::VentricularTachycardia => Beats::VentricularTachycardia,
        Rhythm::Asystole => Beats::Asystole,
    }
}

/// White noise, muscle noise, mains hum and drift in millivolts.
fn disturbances(noise: Noise) -> (f64, f64, f64, f64) {
    match noise {
        Noise::None => (0.0, 0.0, 0.0, 0.0),
        Noise::Low => (0.01, 0.0, 0.0, 0.05),
        Noise::High => (0.08, 0.3, 0.1, 0.4),
    }
}

/// Variation of the RR intervals at this rate: a faster heart is more regular.
fn rr_sd_ms(rate: f64) -> f64 {
    RR_SD_MS * (60.0 / rate.max(20.0)).powi(2)
}

#[cfg(test)]
mod tests {
    use ecg::{Analysis, Quality, analyze};

    use super::super::scenario::{Change, Scenario};
    use super::*;

    fn state(rhythm: Rhythm, rate: f64) -> State {
        let mut state = Scenario::built_in().unwrap().patients[0].base.clone();
        state.apply(&Change { rhythm: Some((rhythm, rate)), ..Change::default() });
        state
    }

    /// The analyses of some strips of a state.
    fn analyses(state: &State) -> Vec<Analysis> {
        let strip = |seed| {
            let settings = Settings { seed, ..settings(state, 1.1) };
            // As the server reads it.
            let csv = ecg::synth::csv(&ecg::synth::generate(&settings).strip);
            analyze(&ecg::csv::read(csv.as_slice(), &ecg::csv::Options::default()).unwrap())
        };
        (1..=10).map(strip).collect()
    }

    /// RR intervals in seconds.
    fn intervals(analysis: &Analysis) -> Vec<f64> {
        analysis.beats.windows(2).map(|pair| pair[1].time_s - pair[0].time_s).collect()
    }

    #[test]
    fn heart_rates_of_all_rhythms_are_found() {
        for (rhythm, rate, tolerance) in [
            (Rhythm::Sinus, 72.0, 0.06),
            (Rhythm::Sinus, 46.0, 0.1),
            (Rhythm::Bradycardia, 30.0, 0.1),
            (Rhythm::Bradycardia, 38.0, 0.1),
            (Rhythm::Tachycardia, 140.0, 0.05),
            (Rhythm::Tachycardia, 190.0, 0.05),
            (Rhythm::AtrialFibrillation, 110.0, 0.25),
            (Rhythm::AtrialFibrillation, 160.0, 0.25),
            (Rhythm::VentricularTachycardia, 130.0, 0.05),
            (Rhythm::VentricularTachycardia, 180.0, 0.05),
            (Rhythm::VentricularTachycardia, 220.0, 0.05),
        ] {
            for analysis in analyses(&state(rhythm, rate)) {
                let found = analysis.heart_rate.as_ref().unwrap_or_else(|| panic!("{rhythm:?} {rate}"));
                let found = found.mean_bpm;
                assert!((found / rate - 1.0).abs() < tolerance, "{rhythm:?} at {rate}: {found}");
            }
        }
    }

    #[test]
    fn atrial_fibrillation_is_irregular_and_tachycardias_are_regular() {
        let spread = |rhythm, rate| -> Vec<f64> {
            let of = |analysis: &Analysis| {
                let intervals = intervals(analysis);
                let mean = intervals.iter().sum::<f64>() / intervals.len() as f64;
                let squares = intervals.iter().map(|interval| (interval / mean - 1.0).powi(2)).sum::<f64>();
                (squares / intervals.len() as f64).sqrt()
            };
            analyses(&state(rhythm, rate)).iter().map(of).collect()
        };
        assert!(spread(Rhythm::AtrialFibrillation, 110.0).iter().all(|spread| *spread > 0.1));
        for rhythm in [Rhythm::Tachycardia, Rhythm::VentricularTachycardia] {
            let spread = spread(rhythm, 160.0);
            assert!(spread.iter().all(|spread| *spread < 0.05), "{rhythm:?}: {spread:?}");
        }
    }

    #[test]
    fn pause_is_longer_than_three_seconds_and_asystole_has_no_beats() {
        for analysis in analyses(&state(Rhythm::Pause, 60.0)) {
            assert!(
                intervals(&analysis).iter().any(|interval| *interval > 3.0),
                "{:?}",
                intervals(&analysis)
            );
        }
        let asystole = state(Rhythm::Asystole, 0.0);
        assert!(ecg::synth::generate(&settings(&asystole, 1.1)).beat_times_s.is_empty());
        assert!(analyses(&asystole).iter().all(|analysis| analysis.heart_rate.is_none()));
    }

    #[test]
    fn disturbances_reduce_the_quality() {
        let sinus = state(Rhythm::Sinus, 72.0);
        let good = |state: &State| {
            analyses(state).iter().filter(|analysis| analysis.quality == Quality::Good).count()
        };
        assert_eq!(good(&sinus), 10);
        assert_eq!(good(&State { noise: Noise::None, ..sinus.clone() }), 10);
        assert_eq!(good(&State { noise: Noise::High, ..sinus.clone() }), 0);
        for analysis in analyses(&State { lead_off: true, ..sinus.clone() }) {
            assert_eq!((analysis.heart_rate, analysis.quality), (None, Quality::Unusable));
        }
        let with_gap = Settings { seed: 1, ..settings(&State { gaps: true, ..sinus }, 1.1) };
        assert_eq!(ecg::synth::generate(&with_gap).strip.gaps().count(), 1);
    }
}
