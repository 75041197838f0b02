//! A simulated bedside monitor: three ECG leads, pleth, respiration and numerics of one simulated patient.

use ecg::synth::{PatientSettings, SimulatedLead, SimulatedPatient};
use proto_json::{Channel, Device, DeviceNumeric, MISSING_SAMPLE, SampleRate, Segment};

use crate::playback::{WaveformSource, indices};

/// The ECG leads with their labels and codes.
const LEADS: [(SimulatedLead, &str, &str); 3] = [
    (SimulatedLead::II, "II", "MDC_ECG_LEAD_II"),
    (SimulatedLead::I, "I", "MDC_ECG_LEAD_I"),
    (SimulatedLead::V1, "V1", "MDC_ECG_LEAD_V1"),
];
const ECG_HZ: f64 = 250.0;
const ECG_RATE: SampleRate = SampleRate { numerator: 250, denominator: 1 };
const PLETH_RATE: SampleRate = SampleRate { numerator: 125, denominator: 1 };
const RESPIRATION_RATE: SampleRate = SampleRate { numerator: 125, denominator: 2 };
/// Millivolts per step of an ECG sample.
const ECG_SCALE: f64 = 0.001;
const PLETH_SCALE: f64 = 0.0005;
/// Ohms per step of a respiration sample.
const RESPIRATION_SCALE: f64 = 0.0001;
/// Change of the impedance of the chest by a breath, in ohms.
const BREATH_OHM: f64 = 0.5;
/// With gaps, samples are missing for the first frames of each period.
const GAP_FRAMES: u64 = 8;
const GAP_EVERY_FRAMES: u64 = 50;
/// Interval of blood pressure measurements, in calls of [`WaveformSource::numerics`].
const PRESSURE_EVERY: u64 = 60;

/// What a simulated patient shows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SimulatorState {
    pub(crate) patient: PatientSettings,
    /// Whether the ECG electrodes are disconnected.
    pub(crate) is_lead_off: bool,
    /// Whether samples are missing from time to time.
    pub(crate) has_gaps: bool,
}

/// Returns the state at a time in seconds after the start.
pub(crate) type StateAt = Box<dyn FnMut(f64) -> SimulatorState + Send>;

/// A simulated bedside monitor.
pub(crate) struct Simulator {
    patient: SimulatedPatient,
    state_at: StateAt,
    state: SimulatorState,
    channels: Vec<Channel>,
    frame: u64,
    /// Number of frames after which the stream ends.
    frames: Option<u64>,
    /// The last ECG samples before the electrodes were disconnected.
    held: [i16; LEADS.len()],
    measurements: u64,
}

impl Simulator {
    /// A monitor that ends after this number of frames.
    pub(crate) fn new(mut state_at: StateAt, seed: u64, frames: Option<u64>) -> Self {
        let state = state_at(0.0);
        let leads = LEADS.map(|(lead, ..)| lead);
        Simulator {
            patient: SimulatedPatient::new(&state.patient, &leads, ECG_HZ, seed),
            state_at,
            state,
            channels: channels(),
            frame: 0,
            frames,
            held: [0; LEADS.len()],
            measurements: seed % PRESSURE_EVERY,
        }
    }

    /// The ECG of a frame: samples of each lead.
    fn ecg(&mut self, count: usize) -> [Vec<i16>; LEADS.len()] {
        let mut samples = [(); LEADS.len()].map(|()| Vec::with_capacity(count));
        let mut values = [0.0; LEADS.len()];
        for _ in 0..count {
            self.patient.next_ecg(&mut values);
            for ((samples, value), held) in samples.iter_mut().zip(values).zip(&mut self.held) {
                if !self.state.is_lead_off {
                    *held = step(f64::from(value), ECG_SCALE);
                }
                samples.push(*held);
            }
        }
        samples
    }
}

/// The device with this serial number.
pub(crate) fn device(serial: &str) -> Device {
    Device { name: "Bedside simulator".to_owned(), serial: serial.to_owned() }
}

fn channels() -> Vec<Channel> {
    let channel = |label: &str, code: &str, unit: &str, rate: SampleRate, scale: f64| Channel {
        label: label.to_owned(),
        code: code.to_owned(),
        unit: unit.to_owned(),
        rate,
        scale,
        offset: 0.0,
    };
    let mut channels: Vec<Channel> =
        LEADS.iter().map(|(_, label, code)| channel(label, code, "mV", ECG_RATE, ECG_SCALE)).collect();
    channels.push(channel("Pleth", "MDC_PULS_OXIM_PLETH", "1", PLETH_RATE, PLETH_SCALE));
    channels.push(channel("Resp", "MDC_IMPED_TTHOR", "Ohm", RESPIRATION_RATE, RESPIRATION_SCALE));
    channels
}

/// The sample of a value. [`MISSING_SAMPLE`] is never returned.
pub(crate) fn step(value: f64, scale: f64) -> i16 {
    let lowest = f64::from(MISSING_SAMPLE) + 1.0;
    (value / scale).round().clamp(lowest, f64::from(i16::MAX)) as i16
}

impl WaveformSource for Simulator {
    fn channels(&self) -> &[Channel] {
        &self.channels
    }

    fn next_frame(&mut self) -> Option<Vec<Segment>> {
        let frame = self.frame;
        if self.frames.is_some_and(|frames| frame >= frames) {
            return None;
        }
        self.frame += 1;
        let state = (self.state_at)(self.patient.time_s());
        if state != self.state {
            self.patient.set(&state.patient);
            self.state = state;
        }
        let ecg_range = indices(ECG_RATE, frame);
        let ecg = self.ecg((ecg_range.end - ecg_range.start) as usize);
        if self.state.has_gaps && frame % GAP_EVERY_FRAMES < GAP_FRAMES {
            return Some(Vec::new());
        }
        let mut segments: Vec<Segment> = (0..)
            .zip(ecg)
            .map(|(channel, samples)| Segment {
                channel,
                first: ecg_range.start,
                lead_off: self.state.is_lead_off,
                samples,
            })
            .collect();
        for (rate, scale, is_pleth) in
            [(PLETH_RATE, PLETH_SCALE, true), (RESPIRATION_RATE, RESPIRATION_SCALE, false)]
        {
            let range = indices(rate, frame);
            let first = range.start;
            let samples = range
                .map(|index| {
                    let time_s = index as f64 / rate.hz();
                    let value = if is_pleth {
                        self.patient.pleth(time_s)
                    } else {
                        BREATH_OHM * self.patient.respiration(time_s)
                    };
                    step(value, scale)
                })
                .collect();
            segments.push(Segment { channel: segments.len() as u16, first, lead_off: false, samples });
        }
        Some(segments)
    }

    fn numerics(&mut self, device_time_us: i64) -> Vec<DeviceNumeric> {
        let values = self.patient.numerics();
        let numeric = |code: &str, value: f64, unit: &str| DeviceNumeric {
            code: code.to_owned(),
            value,
            unit: unit.to_owned(),
            device_time_us,
        };
        let mut numerics = Vec::new();
        if !self.state.is_lead_off {
            numerics.push(numeric("MDC_ECG_HEART_RATE", values.heart_rate.round(), "/min"));
        }
        if let Some(rate) = values.pulse_rate {
            numerics.push(numeric("MDC_PULS_OXIM_PULS_RATE", rate.round(), "/min"));
        }
        if let Some(saturation) = values.spo2_percent {
            numerics.push(numeric("MDC_PULS_OXIM_SAT_O2", saturation.round(), "%"));
        }
        numerics.push(numeric("MDC_RESP_RATE", values.respiration_rate.round(), "/min"));
        numerics.push(numeric("MDC_TEMP_BODY", (values.temperature_c * 10.0).round() / 10.0, "Cel"));
        if self.measurements.is_multiple_of(PRESSURE_EVERY)
            && let Some((systolic, diastolic, mean)) = values.pressure_mmhg
        {
            numerics.push(numeric("MDC_PRESS_BLD_NONINV_SYS", systolic.round(), "mm[Hg]"));
            numerics.push(numeric("MDC_PRESS_BLD_NONINV_DIA", diastolic.round(), "mm[Hg]"));
            numerics.push(numeric("MDC_PRESS_BLD_NONINV_MEAN", mean.round(), "mm[Hg]"));
        }
        self.measurements += 1;
        numerics
    }
}

#[cfg(test)]
mod tests {
    use proto_json::{Frame, FrameLimits, check_channels};

    use super::*;

    fn state() -> SimulatorState {
        SimulatorState { patient: PatientSettings::default(), is_lead_off: false, has_gaps: false }
    }

    #[test]
    fn frames_and_numerics_are_valid_and_contiguous() {
        let mut simulator = Simulator::new(Box::new(|_| state()), 60, Some(100));
        assert_eq!(check_channels(simulator.channels()), Ok(()));
        let limits = FrameLimits::of(simulator.channels());
        let mut ends = vec![0; simulator.channels().len()];
        let mut frames = 0;
        while let Some(segments) = simulator.next_frame() {
            for segment in &segments {
                let end = &mut ends[usize::from(segment.channel)];
                assert_eq!(segment.first, *end);
                *end = segment.end();
            }
            let frame = Frame { sequence: frames, device_time_us: 0, segments };
            assert_eq!(Frame::decode(&frame.encode(), &limits), Ok(frame));
            frames += 1;
        }
        assert_eq!((frames, ends), (100, vec![5_000, 5_000, 5_000, 2_500, 1_250]));
        let numerics = simulator.numerics(1);
        assert_eq!(DeviceNumeric::check(&numerics), Ok(()));
        assert_eq!(numerics.len(), 8, "{numerics:?}");
    }

    #[test]
    fn disconnected_electrodes_are_flagged_and_gaps_leave_samples_out() {
        let at = |time_s: f64| SimulatorState { is_lead_off: (2.0..4.0).contains(&time_s), ..state() };
        let mut simulator = Simulator::new(Box::new(at), 1, Some(30));
        let frames: Vec<Vec<Segment>> = std::iter::from_fn(|| simulator.next_frame()).collect();
        let flags: Vec<bool> = frames.iter().map(|segments| segments[0].lead_off).collect();
        assert_eq!(flags, (0..30).map(|frame| (10..20).contains(&frame)).collect::<Vec<_>>());
        let off = &frames[12][0].samples;
        assert!(off.iter().all(|sample| *sample == off[0]), "a flat line");
        assert!(!frames[12][3].lead_off, "the finger sensor is not affected");

        let with_gaps = SimulatorState { has_gaps: true, ..state() };
        let mut simulator = Simulator::new(Box::new(move |_| with_gaps.clone()), 1, Some(50));
        let empty = std::iter::from_fn(|| simulator.next_frame()).filter(Vec::is_empty).count();
        assert_eq!(empty as u64, GAP_FRAMES);
    }
}
