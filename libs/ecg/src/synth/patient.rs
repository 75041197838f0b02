//! A simulated patient: an endless ECG of several leads with the pleth, respiration and numerics of the same beats.
//!
//! The ECG is the dynamical model of the parent module, integrated step by step. The leads share the waves of each beat with
//! factors of their own. Breathing changes the RR intervals (respiratory sinus arrhythmia), the height of the pulses and the
//! impedance of the chest in the same phase. A pulse follows each beat; a beat after a short interval moves less blood.
//! [`SimulatedPatient::set`] changes rhythm and rate while the patient runs: the next beats follow the new settings.
//!
//! Invariants: memory is bounded, because only the beats of the last [`KEPT_S`] seconds are kept. Equal seeds and settings
//! give identical samples, however the samples are divided into calls.

use std::collections::VecDeque;
use std::f64::consts::{PI, TAU};

use super::Rhythm;
use super::noise::{DRIFT, MUSCLE_ABOVE_HZ, MUSCLE_BURST_S};
use super::random::Random;
use super::waves::{FIBRILLATION, NORMAL, R_HEIGHT, STRETCH, TACHYCARDIC, VENTRICULAR, WITHOUT_P, Wave};

/// Time for which beats are kept, in seconds. The longest look back is that of the heart rate.
const KEPT_S: f64 = 20.0;
/// Time for which beats are generated in advance, in seconds. A change of the rhythm takes effect after it.
const AHEAD_S: f64 = 2.0;
/// Window of the heart rate in seconds.
const RATE_WINDOW_S: f64 = 10.0;
/// Time from a beat to the start of its pulse at the finger, in seconds.
const PULSE_DELAY_S: f64 = 0.2;
/// Interval between the starts of two pauses, in seconds.
const PAUSE_EVERY_S: f64 = 20.0;
/// A premature beat follows after this share of the regular interval.
const PREMATURE: f64 = 0.62;
/// Frequency of the slow (Mayer) component of the RR intervals in hertz.
const SLOW_HZ: f64 = 0.1;

/// A lead of the simulated ECG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimulatedLead {
    /// Lead I.
    I,
    /// Lead II.
    II,
    /// Lead V1.
    V1,
    /// Lead V5.
    V5,
}

impl SimulatedLead {
    /// Factors of the P, Q, R, S and T waves relative to the waves of the model, which resemble lead II.
    fn factors(self) -> [f64; 5] {
        match self {
            SimulatedLead::I => [0.7, 0.6, 0.65, 0.5, 0.8],
            SimulatedLead::II => [1.0; 5],
            SimulatedLead::V1 => [0.5, 0.0, 0.25, 3.5, -0.4],
            SimulatedLead::V5 => [0.8, 1.2, 1.25, 0.8, 1.2],
        }
    }
}

/// Settings of a simulated patient. [`PatientSettings::default`] is a sinus rhythm at rest.
#[derive(Debug, Clone, PartialEq)]
pub struct PatientSettings {
    /// Mean heart rate in beats per minute.
    pub mean_bpm: f64,
    /// Standard deviation of the RR intervals in milliseconds.
    pub rr_sd_ms: f64,
    /// Rhythm.
    pub rhythm: Rhythm,
    /// Share of premature wide beats with a compensatory pause, 0 to 0.5.
    pub ectopy: f64,
    /// Every 20 s the beats stop for this time, in seconds. 0: never.
    pub pause_s: f64,
    /// Height of the R wave of lead II in millivolts. Negative values invert all leads.
    pub amplitude_mv: f64,
    /// Standard deviation of white noise in millivolts.
    pub noise_mv: f64,
    /// Standard deviation of muscle noise (above 20 Hz, in bursts) in millivolts.
    pub muscle_mv: f64,
    /// Amplitude of mains hum in millivolts.
    pub mains_mv: f64,
    /// Mains frequency in hertz.
    pub mains_hz: f64,
    /// Amplitude of the baseline drift in millivolts.
    pub drift_mv: f64,
    /// Breaths per minute.
    pub breaths_per_minute: f64,
    /// Oxygen saturation in percent.
    pub spo2_percent: f64,
    /// Systolic and diastolic pressure in mmHg at a heart rate of 70.
    pub pressure_mmhg: (f64, f64),
    /// Body temperature in degrees Celsius.
    pub temperature_c: f64,
}

impl Default for PatientSettings {
    fn default() -> Self {
        PatientSettings {
            mean_bpm: 72.0,
            rr_sd_ms: 30.0,
            rhythm: Rhythm::Sinus,
            ectopy: 0.0,
            pause_s: 0.0,
            amplitude_mv: 1.1,
            noise_mv: 0.01,
            muscle_mv: 0.0,
            mains_mv: 0.0,
            mains_hz: 50.0,
            drift_mv: 0.05,
            breaths_per_minute: 15.0,
            spo2_percent: 97.0,
            pressure_mmhg: (120.0, 75.0),
            temperature_c: 36.8,
        }
    }
}

/// What a bedside monitor computes from the waveforms of a simulated patient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimulatedNumerics {
    /// Beats per minute of the last 10 s; 0 without beats.
    pub heart_rate: f64,
    /// Pulses per minute; `None` without pulses.
    pub pulse_rate: Option<f64>,
    /// Oxygen saturation in percent; `None` without pulses.
    pub spo2_percent: Option<f64>,
    /// Breaths per minute.
    pub respiration_rate: f64,
    /// Systolic, diastolic and mean pressure in mmHg; `None` without pulses.
    pub pressure_mmhg: Option<(f64, f64, f64)>,
    /// Body temperature in degrees Celsius.
    pub temperature_c: f64,
}

/// A beat. `mean_s` and `rhythm` are those of the settings at the time at which the beat was generated.
#[derive(Debug, Clone, Copy)]
struct Beat {
    time_s: f64,
    /// Interval from the beat before.
    since_s: f64,
    mean_s: f64,
    rhythm: Rhythm,
    is_ventricular: bool,
}

/// A simulated patient. Times are seconds from the start.
#[derive(Debug, Clone)]
pub struct SimulatedPatient {
    settings: PatientSettings,
    rate_hz: f64,
    leads: Vec<LeadState>,
    /// Index of the next ECG sample.
    next: u64,
    /// In order of time, from before the clock to after it.
    beats: VecDeque<Beat>,
    /// Index in `beats` of the beat that forms the next sample.
    current: usize,
    /// Time of the next regular beat.
    next_beat_s: f64,
    just_ectopic: bool,
    next_pause_s: f64,
    breath_phase: f64,
    slow_phase: f64,
    fibrillation_hz: f64,
    beat_random: Random,
}

#[derive(Debug, Clone)]
struct LeadState {
    factors: [f64; 5],
    height: f64,
    drift_phases: [f64; 4],
    burst_phase: f64,
    /// State of the high-pass filter of muscle noise: white noise before, output before.
    muscle: (f64, f64),
    random: Random,
}

impl SimulatedPatient {
    /// A patient whose ECG has these leads at `rate_hz`, 50 to 20,000 Hz. Equal seeds give identical samples.
    #[must_use]
    pub fn new(settings: &PatientSettings, leads: &[SimulatedLead], rate_hz: f64, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let lead = |(index, lead): (u64, &SimulatedLead)| {
            let mut random = Random::new(seed.wrapping_mul(31).wrapping_add(index + 1));
            LeadState {
                factors: lead.factors(),
                height: 0.0,
                drift_phases: [(); 4].map(|()| TAU * random.uniform()),
                burst_phase: TAU * random.uniform(),
                muscle: (0.0, 0.0),
                random,
            }
        };
        let mut patient = SimulatedPatient {
            settings: settings.brought_into_range(),
            rate_hz: if rate_hz.is_finite() { rate_hz.clamp(50.0, 20_000.0) } else { 250.0 },
            leads: (0..).zip(leads).map(lead).collect(),
            next: 0,
            beats: VecDeque::new(),
            current: 0,
            next_beat_s: 0.3 + 0.5 * random.uniform(),
            just_ectopic: false,
            next_pause_s: PAUSE_EVERY_S / 2.0,
            breath_phase: TAU * random.uniform(),
            slow_phase: TAU * random.uniform(),
            fibrillation_hz: FIBRILLATION.0 + 0.5 * random.normal(),
            beat_random: random,
        };
        patient.generate_beats();
        patient
    }

    /// Changes the settings. Noise changes at once, beats after at most two seconds and the interval to the next beat.
    pub fn set(&mut self, settings: &PatientSettings) {
        let now_s = self.time_s();
        let settings = settings.brought_into_range();
        // Breathing goes on in the same phase.
        self.breath_phase +=
            TAU * (self.settings.breaths_per_minute - settings.breaths_per_minute) / 60.0 * now_s;
        self.settings = settings;
    }

    /// Time of the next ECG sample in seconds from the start.
    #[must_use]
    pub fn time_s(&self) -> f64 {
        self.next as f64 / self.rate_hz
    }

    /// Times of the beats of the last 20 s, and of those that are generated already, in seconds from the start.
    pub fn beat_times_s(&self) -> impl Iterator<Item = f64> + '_ {
        self.beats.iter().map(|beat| beat.time_s)
    }

    /// The next ECG sample of each lead, in millivolts, in the order of the leads. `out` has one value per lead.
    pub fn next_ecg(&mut self, out: &mut [f32]) {
        self.generate_beats();
        let time_s = self.time_s();
        let step_s = 1.0 / self.rate_hz;
        while self.beats.get(self.current + 1).is_some_and(|after| {
            self.beats.get(self.current).is_none_or(|beat| (beat.time_s + after.time_s) / 2.0 <= time_s)
        }) {
            self.current += 1;
        }
        let pushes = self.pushes(time_s);
        let decay = (-step_s).exp();
        let settings = &self.settings;
        let scale = settings.amplitude_mv / R_HEIGHT;
        let tremble = if self.beats.get(self.current).is_some_and(|beat| beat.rhythm == Rhythm::Irregular) {
            let phase = TAU * self.fibrillation_hz * time_s;
            FIBRILLATION.1 * settings.amplitude_mv.abs() * (phase.sin() + 0.5 * (1.7 * phase + 1.0).sin())
        } else {
            0.0
        };
        let mains = settings.mains_mv * (TAU * settings.mains_hz * time_s).sin();
        for (lead, out) in self.leads.iter_mut().zip(out) {
            let push: f64 = lead.factors.iter().zip(pushes).map(|(factor, push)| factor * push).sum();
            lead.height = lead.height * decay + push * (1.0 - decay);
            let noise = lead.noise(settings, time_s, step_s);
            *out = (lead.height * scale + tremble + mains + noise) as f32;
        }
        self.next += 1;
        if self.next.is_multiple_of(1024) {
            self.forget_beats();
        }
    }

    /// Pleth at this time, without unit: 0 is the level before a pulse, 1 the height of a normal pulse. The time must not be
    /// before the last 10 s or after the clock.
    #[must_use]
    pub fn pleth(&self, time_s: f64) -> f64 {
        let breath = self.breath(time_s).sin();
        let pulses: f64 = self
            .beats
            .iter()
            .rev()
            .skip_while(|beat| beat.time_s > time_s)
            .take_while(|beat| beat.time_s > time_s - 3.0)
            .map(|beat| beat.stroke() * pulse(time_s - beat.time_s - PULSE_DELAY_S))
            .sum();
        pulses * (1.0 + 0.08 * breath) + 0.04 * breath
    }

    /// Impedance of the chest at this time, without unit: about -1 (breathed out) to 1 (breathed in).
    #[must_use]
    pub fn respiration(&self, time_s: f64) -> f64 {
        let phase = self.breath(time_s);
        (phase.sin() + 0.22 * (2.0 * phase - 0.6).sin()) / 1.15
    }

    /// The numerics at the time of the clock.
    #[must_use]
    pub fn numerics(&self) -> SimulatedNumerics {
        let now_s = self.time_s();
        let recent: Vec<&Beat> =
            self.beats.iter().filter(|beat| (now_s - RATE_WINDOW_S..=now_s).contains(&beat.time_s)).collect();
        let heart_rate = match (recent.first(), recent.last()) {
            (Some(first), Some(last)) if recent.len() > 1 && now_s - last.time_s < 4.0 => {
                60.0 * (recent.len() - 1) as f64 / (last.time_s - first.time_s)
            }
            _ => 0.0,
        };
        let has_pulse = heart_rate > 0.0;
        let settings = &self.settings;
        let slow = (TAU * now_s / 47.0 + self.slow_phase).sin();
        let pressure = has_pulse.then(|| {
            let weak = if settings.rhythm == Rhythm::VentricularTachycardia { 0.6 } else { 1.0 };
            let (systolic, diastolic) = settings.pressure_mmhg;
            let systolic = (systolic + 0.15 * (heart_rate - 70.0) + 3.0 * slow) * weak;
            let diastolic = (diastolic + 0.1 * (heart_rate - 70.0) + 2.0 * slow) * weak;
            (systolic, diastolic, diastolic + (systolic - diastolic) / 3.0)
        });
        SimulatedNumerics {
            heart_rate,
            pulse_rate: has_pulse.then_some(heart_rate),
            spo2_percent: has_pulse.then(|| (settings.spo2_percent + 0.5 * slow).min(100.0)),
            respiration_rate: settings.breaths_per_minute,
            pressure_mmhg: pressure,
            temperature_c: settings.temperature_c,
        }
    }

    fn breath(&self, time_s: f64) -> f64 {
        TAU * self.settings.breaths_per_minute / 60.0 * time_s + self.breath_phase
    }

    /// Pushes of the P, Q, R, S and T waves on the model at this time.
    fn pushes(&self, time_s: f64) -> [f64; 5] {
        let mut pushes = [0.0; 5];
        let Some(beat) = self.beats.get(self.current) else { return pushes };
        let neighbour = if time_s < beat.time_s {
            self.current.checked_sub(1).and_then(|before| self.beats.get(before))
        } else {
            self.beats.get(self.current + 1)
        };
        let mean_s = beat.mean_s;
        let round_s = neighbour.map_or(mean_s, |neighbour| (neighbour.time_s - beat.time_s).abs());
        let round_s = round_s.clamp(STRETCH.start * mean_s, STRETCH.end * mean_s);
        let angle = (time_s - beat.time_s) * TAU / round_s;
        // In a pause longer than a cycle the point waits, and no wave acts on it.
        if angle.abs() > PI {
            return pushes;
        }
        let spread = (1.0 / mean_s).sqrt();
        let (waves, places): (&[Wave], &[usize]) = match (beat.is_ventricular, beat.rhythm) {
            (true, Rhythm::VentricularTachycardia) => (&TACHYCARDIC, &[2, 4]),
            (true, _) => (&VENTRICULAR, &[2, 3, 4]),
            (false, Rhythm::Irregular) => (&WITHOUT_P, &[1, 2, 3, 4]),
            (false, _) => (&NORMAL, &[0, 1, 2, 3, 4]),
        };
        for (wave, place) in waves.iter().zip(places) {
            if let Some(push) = pushes.get_mut(*place) {
                *push = wave.push_at(angle, spread) * mean_s / round_s;
            }
        }
        pushes
    }

    /// Generates the beats up to [`AHEAD_S`] after the clock.
    fn generate_beats(&mut self) {
        let until_s = self.time_s() + AHEAD_S;
        while self.next_beat_s <= until_s {
            let PatientSettings { rhythm, mean_bpm, ectopy, pause_s, rr_sd_ms, .. } = self.settings;
            let mean_s = 60.0 / mean_bpm;
            let time_s = self.next_beat_s;
            if rhythm == Rhythm::Asystole {
                // Looks again soon: the settings may change.
                self.next_beat_s += 0.25;
                continue;
            }
            if pause_s > 0.0 && time_s >= self.next_pause_s {
                self.next_pause_s = time_s + PAUSE_EVERY_S.max(2.0 * pause_s);
                self.next_beat_s += pause_s;
                continue;
            }
            let is_ventricular = rhythm == Rhythm::VentricularTachycardia;
            self.add_beat(time_s, mean_s, is_ventricular);
            let random = &mut self.beat_random;
            let interval_s = match rhythm {
                Rhythm::Irregular => mean_s * (1.0 + 0.22 * random.normal()).clamp(0.5, 1.8),
                Rhythm::VentricularTachycardia => mean_s * (1.0 + 0.015 * random.normal()).clamp(0.9, 1.1),
                Rhythm::Sinus | Rhythm::Asystole => {
                    let breath = TAU * self.settings.breaths_per_minute / 60.0 * time_s + self.breath_phase;
                    let slow = (TAU * SLOW_HZ * time_s + self.slow_phase).sin();
                    // Two thirds of the power come from breathing. Inspiration shortens the intervals.
                    let swing = (1.0 / 3.0_f64).sqrt() * slow - (2.0 / 3.0_f64).sqrt() * breath.sin();
                    let deviation = swing * std::f64::consts::SQRT_2 + 0.1 * random.normal();
                    (mean_s + rr_sd_ms / 1000.0 * deviation).max(0.5 * mean_s)
                }
            };
            if !self.just_ectopic && self.beat_random.uniform() < ectopy && !is_ventricular {
                self.add_beat(time_s + PREMATURE * interval_s, mean_s, true);
                self.next_beat_s = time_s + 2.0 * interval_s;
                self.just_ectopic = ectopy < 0.5;
            } else {
                self.next_beat_s = time_s + interval_s;
                self.just_ectopic = false;
            }
        }
    }

    fn add_beat(&mut self, time_s: f64, mean_s: f64, is_ventricular: bool) {
        let since_s = self.beats.back().map_or(mean_s, |last| time_s - last.time_s);
        self.beats.push_back(Beat { time_s, since_s, mean_s, rhythm: self.settings.rhythm, is_ventricular });
    }

    fn forget_beats(&mut self) {
        let before_s = self.time_s() - KEPT_S;
        // The beat before the current one forms its waves.
        while self.current > 1 && self.beats.front().is_some_and(|beat| beat.time_s < before_s) {
            self.beats.pop_front();
            self.current -= 1;
        }
    }
}

impl Beat {
    /// Blood that the beat moves, relative to a normal beat.
    fn stroke(&self) -> f64 {
        let filling = (self.since_s / self.mean_s).powf(1.2).clamp(0.15, 1.3);
        match (self.is_ventricular, self.rhythm) {
            (true, Rhythm::VentricularTachycardia) => 0.3,
            (true, _) => 0.6 * filling,
            (false, _) => filling,
        }
    }
}

/// The pulse of a normal beat, `time_s` after its start at the finger: a systolic peak and a dicrotic wave.
fn pulse(time_s: f64) -> f64 {
    if !(-0.1..1.5).contains(&time_s) {
        return 0.0;
    }
    let bell = |middle: f64, width: f64| (-((time_s - middle) / width).powi(2) / 2.0).exp();
    bell(0.16, if time_s < 0.16 { 0.055 } else { 0.12 }) + 0.35 * bell(0.43, 0.1)
}

impl LeadState {
    fn noise(&mut self, settings: &PatientSettings, time_s: f64, step_s: f64) -> f64 {
        let mut noise = 0.0;
        if settings.noise_mv > 0.0 {
            noise += settings.noise_mv * self.random.normal();
        }
        if settings.muscle_mv > 0.0 {
            let keep = 1.0 / (1.0 + TAU * MUSCLE_ABOVE_HZ * step_s);
            let gain = settings.muscle_mv * ((1.0 + keep) / (2.0 * keep * keep)).sqrt();
            let white = self.random.normal();
            self.muscle = (white, keep * (self.muscle.1 + white - self.muscle.0));
            noise +=
                gain * (1.0 + 0.8 * (TAU * time_s / MUSCLE_BURST_S + self.burst_phase).sin()) * self.muscle.1;
        }
        if settings.drift_mv > 0.0 {
            let drift: f64 = DRIFT
                .iter()
                .zip(self.drift_phases)
                .map(|((frequency, share), phase)| share * (TAU * frequency * time_s + phase).sin())
                .sum();
            noise += settings.drift_mv * drift;
        }
        noise
    }
}

impl PatientSettings {
    fn brought_into_range(&self) -> Self {
        let default = PatientSettings::default();
        let finite = |value: f64, low: f64, high: f64, otherwise: f64| {
            if value.is_finite() { value.clamp(low, high) } else { otherwise }
        };
        PatientSettings {
            mean_bpm: finite(self.mean_bpm, 20.0, 300.0, default.mean_bpm),
            rr_sd_ms: finite(self.rr_sd_ms, 0.0, 500.0, 0.0),
            ectopy: finite(self.ectopy, 0.0, 0.5, 0.0),
            pause_s: finite(self.pause_s, 0.0, 30.0, 0.0),
            amplitude_mv: finite(self.amplitude_mv, -20.0, 20.0, default.amplitude_mv),
            noise_mv: finite(self.noise_mv, 0.0, 10.0, 0.0),
            muscle_mv: finite(self.muscle_mv, 0.0, 10.0, 0.0),
            mains_mv: finite(self.mains_mv, 0.0, 10.0, 0.0),
            mains_hz: finite(self.mains_hz, 1.0, 1000.0, default.mains_hz),
            drift_mv: finite(self.drift_mv, 0.0, 10.0, 0.0),
            breaths_per_minute: finite(self.breaths_per_minute, 1.0, 80.0, default.breaths_per_minute),
            spo2_percent: finite(self.spo2_percent, 0.0, 100.0, default.spo2_percent),
            temperature_c: finite(self.temperature_c, 20.0, 45.0, default.temperature_c),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples of lead II at 250 Hz.
    fn ecg(patient: &mut SimulatedPatient, seconds: usize) -> Vec<f32> {
        let mut out = [0.0];
        (0..seconds * 250)
            .map(|_| {
                patient.next_ecg(&mut out);
                out[0]
            })
            .collect()
    }

    fn patient(settings: &PatientSettings) -> SimulatedPatient {
        SimulatedPatient::new(settings, &[SimulatedLead::II], 250.0, 7)
    }

    #[test]
    fn heart_rate_of_the_ecg_and_the_numerics_agree() {
        for (rhythm, bpm) in
            [(Rhythm::Sinus, 50.0), (Rhythm::Sinus, 140.0), (Rhythm::VentricularTachycardia, 170.0)]
        {
            let mut patient =
                patient(&PatientSettings { mean_bpm: bpm, rhythm, ..PatientSettings::default() });
            let samples = ecg(&mut patient, 30);
            let found =
                crate::analyze(&crate::Strip::from_samples(250.0, samples)).heart_rate.unwrap().mean_bpm;
            let numerics = patient.numerics();
            assert!((found / bpm - 1.0).abs() < 0.06, "{rhythm:?} {bpm}: {found}");
            assert!((numerics.heart_rate / bpm - 1.0).abs() < 0.12, "{rhythm:?} {bpm}: {numerics:?}");
        }
    }

    #[test]
    fn pulse_follows_each_beat_and_stops_with_the_heart() {
        let mut patient = patient(&PatientSettings::default());
        ecg(&mut patient, 20);
        let beats: Vec<f64> = patient.beat_times_s().filter(|time| (10.0..18.0).contains(time)).collect();
        assert!(beats.len() > 7, "{beats:?}");
        for beat in beats {
            assert!(patient.pleth(beat + PULSE_DELAY_S + 0.16) > patient.pleth(beat + 0.05) + 0.5, "{beat}");
        }
        patient.set(&PatientSettings { rhythm: Rhythm::Asystole, ..PatientSettings::default() });
        let samples = ecg(&mut patient, 20);
        let numerics = patient.numerics();
        assert_eq!((numerics.heart_rate, numerics.pulse_rate, numerics.spo2_percent), (0.0, None, None));
        assert!(samples[10 * 250..].iter().all(|sample| sample.abs() < 0.2), "no waves in an asystole");
        patient.set(&PatientSettings::default());
        ecg(&mut patient, 20);
        assert!((patient.numerics().heart_rate - 72.0).abs() < 6.0, "{:?}", patient.numerics());
    }

    #[test]
    fn breathing_changes_the_intervals_in_its_phase() {
        let settings = PatientSettings { rr_sd_ms: 60.0, noise_mv: 0.0, ..PatientSettings::default() };
        let mut patient = patient(&settings);
        ecg(&mut patient, 18);
        let beats: Vec<f64> = patient.beat_times_s().collect();
        let pairs: Vec<(f64, f64)> =
            beats.windows(2).map(|pair| (patient.breath(pair[0]).sin(), pair[1] - pair[0])).collect();
        let mean = pairs.iter().map(|pair| pair.1).sum::<f64>() / pairs.len() as f64;
        let product = pairs.iter().map(|pair| pair.0 * (pair.1 - mean)).sum::<f64>();
        assert!(product < -0.1, "inspiration shortens the intervals: {product}");
        let values: Vec<f64> =
            (0..400).map(|index| patient.respiration(8.0 + f64::from(index) * 0.02)).collect();
        assert!(values.iter().all(|value| value.abs() <= 1.1));
        let rises = values.windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count();
        assert!((1..=3).contains(&rises), "15 breaths per minute are 2 in 8 s: {rises}");
    }

    #[test]
    fn memory_is_bounded_and_leads_differ() {
        let leads = [SimulatedLead::I, SimulatedLead::II, SimulatedLead::V1, SimulatedLead::V5];
        let mut patient = SimulatedPatient::new(&PatientSettings::default(), &leads, 250.0, 3);
        let mut out = [0.0; 4];
        let mut extremes = [(f32::MAX, f32::MIN); 4];
        for _ in 0..250 * 120 {
            patient.next_ecg(&mut out);
            for (extreme, sample) in extremes.iter_mut().zip(out) {
                *extreme = (extreme.0.min(sample), extreme.1.max(sample));
            }
            assert!(patient.beats.len() < 60);
        }
        assert!(extremes[1].1 > 0.9 && extremes[0].1 < extremes[1].1, "{extremes:?}");
        assert!(-extremes[2].0 > extremes[2].1, "V1 is mainly negative: {extremes:?}");
    }
}
