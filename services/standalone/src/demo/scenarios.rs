//! The simulated patients and their heart rhythms.

use ecg::synth::{Dropout, DropoutKind, Rhythm, Settings};

/// A simulated patient.
#[derive(Debug, Clone)]
pub(super) struct Patient {
    /// From 900001 to 900099.
    pub(super) mrn: u64,
    pub(super) name: &'static str,
    /// Returns the settings of the strip with this number.
    pub(super) strip: fn(u64) -> Settings,
    /// Whether the patient also sends an image.
    pub(super) has_image: bool,
}

/// Period of the patient whose heart rate rises and falls, in strips.
const PERIOD: u64 = 20;

/// Returns all simulated patients.
pub(super) fn all() -> Vec<Patient> {
    let patient = |mrn, name, strip| Patient { mrn, name, strip, has_image: false };
    vec![
        Patient { has_image: true, ..patient(900_001, "Demo Ann", normal) },
        patient(900_002, "Demo Ben", athlete),
        patient(900_003, "Demo Cleo", fast),
        Patient { has_image: true, ..patient(900_004, "Demo Dan", irregular) },
        patient(900_005, "Demo Eve", ectopic),
        patient(900_006, "Demo Finn", noisy),
        patient(900_007, "Demo Gus", rise_and_fall),
        patient(900_008, "Demo Hana", interrupted),
    ]
}

fn base(mean_bpm: f64) -> Settings {
    Settings { sample_rate_hz: 250.0, duration_s: 12.0, mean_bpm, ..Settings::default() }
}

/// Sine wave from -1 to 1 with a period of `strips` strips. It makes the trend vary.
fn swing(strip: u64, strips: u64) -> f64 {
    let share = (strip % strips) as f64 / strips as f64;
    (share * std::f64::consts::TAU).sin()
}

fn normal(strip: u64) -> Settings {
    base(72.0 + 4.0 * swing(strip, 30))
}

fn athlete(strip: u64) -> Settings {
    Settings { amplitude_mv: 1.6, rr_sd_ms: 60.0, ..base(46.0 + 2.0 * swing(strip, 24)) }
}

fn fast(strip: u64) -> Settings {
    Settings { rr_sd_ms: 8.0, ..base(126.0 + 6.0 * swing(strip, 40)) }
}

fn irregular(strip: u64) -> Settings {
    Settings { rhythm: Rhythm::Irregular, rr_sd_ms: 140.0, ..base(94.0 + 8.0 * swing(strip, 36)) }
}

fn ectopic(strip: u64) -> Settings {
    Settings { ectopy: 0.12, ..base(78.0 + 3.0 * swing(strip, 28)) }
}

fn noisy(strip: u64) -> Settings {
    Settings {
        noise_mv: 0.08,
        muscle_mv: 0.3,
        mains_mv: 0.1,
        drift_mv: 0.4,
        ..base(84.0 + 3.0 * swing(strip, 26))
    }
}

/// The rate rises until a lead comes off at the maximum, then falls.
fn rise_and_fall(strip: u64) -> Settings {
    let at = strip % PERIOD;
    let half = PERIOD / 2;
    let severity = at.min(PERIOD - at) as f64 / half as f64;
    let lead_off = Dropout { start_s: 3.0, length_s: 9.0, kind: DropoutKind::LeadOff };
    Settings {
        muscle_mv: 0.1 * severity,
        drift_mv: 0.05 + 0.4 * severity,
        dropouts: if severity > 0.95 { vec![lead_off] } else { Vec::new() },
        ..base(76.0 + 82.0 * severity)
    }
}

/// Inverted, with a gap in every other strip.
fn interrupted(strip: u64) -> Settings {
    let gap = Dropout { start_s: 5.0, length_s: 1.5, kind: DropoutKind::Missing };
    Settings {
        amplitude_mv: -0.9,
        dropouts: if strip % 2 == 1 { vec![gap] } else { Vec::new() },
        ..base(64.0 + 3.0 * swing(strip, 22))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Mean rate of the generated beats, in beats per minute.
    fn true_rate(patient: &Patient, strip: u64) -> Option<f64> {
        let generated = ecg::synth::generate(&(patient.strip)(strip));
        let (first, last) = (generated.beat_times_s.first()?, generated.beat_times_s.last()?);
        (generated.beat_times_s.len() > 3)
            .then(|| (generated.beat_times_s.len() - 1) as f64 * 60.0 / (last - first))
    }

    #[test]
    fn record_numbers_and_names_are_distinct_and_mark_simulated_patients() {
        let all = all();
        assert_eq!(all.iter().map(|patient| patient.mrn).collect::<HashSet<_>>().len(), all.len());
        assert!(all.iter().all(|patient| patient.name.starts_with("Demo ")));
        assert!(all.iter().all(|patient| (900_001..=900_099).contains(&patient.mrn)));
    }

    #[test]
    fn only_noisy_strips_lack_good_quality() {
        let quality = |settings: Settings| ecg::analyze(&ecg::synth::generate(&settings).strip).quality;
        for strip in 0..4 {
            assert_ne!(quality(noisy(strip)), ecg::Quality::Good, "strip {strip}");
            assert_eq!(quality(normal(strip)), ecg::Quality::Good, "strip {strip}");
        }
        assert_ne!(quality(rise_and_fall(PERIOD / 2)), ecg::Quality::Good);
    }

    #[test]
    fn strips_have_the_rates_of_their_scenarios() {
        let rate = |name: &str, strip| {
            let all = all();
            let patient = all.iter().find(|patient| patient.name == name).unwrap();
            true_rate(patient, strip).unwrap()
        };
        assert!((60.0..85.0).contains(&rate("Demo Ann", 0)));
        assert!((38.0..55.0).contains(&rate("Demo Ben", 0)));
        assert!((110.0..145.0).contains(&rate("Demo Cleo", 0)));
        assert!(rate("Demo Gus", PERIOD / 2 - 1) > 1.5 * rate("Demo Gus", 0));
        assert!(rate("Demo Gus", PERIOD) < 90.0);
    }
}
