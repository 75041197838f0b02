//! One patient whose heart stops, with interruptions of the signal around it.

use bus::{WaveKind, WaveMessage};
use ecg::synth::{PatientSettings, Rhythm, SimulatedLead, SimulatedPatient};
use proto_json::waveform::{
    Channel, Device, Frame, SampleRate, Segment, StreamDescription, StreamId, Vitals,
};
use proto_json::{Mrn, Timestamp};

use super::patient::Patient;

const RATE_HZ: u32 = 250;
const FRAME: u64 = 50;
const FRAME_US: i64 = 200_000;
const SCALE: f64 = 0.002;
const START_US: i64 = 1_800_000_000_000_000;
/// The limit of the alarm of asystole.
const ASYSTOLE_MS: u32 = 4_000;

/// A device with lead II and maybe V5, and the worker that receives its messages.
struct Bed {
    device: SimulatedPatient,
    leads: Vec<SimulatedLead>,
    /// Each sample deviates by this many millivolts, with alternating sign.
    artefact_mv: f64,
    stream: StreamId,
    sequence: u64,
    /// Index of the next sample.
    next: u64,
    /// Server time of index 0.
    anchor_us: i64,
    /// Time of the last beat that was recorded, in seconds of the device.
    last_beat_s: f64,
    worker: Patient,
}

impl Bed {
    /// A patient whose heart has beaten for 12 s.
    fn new() -> (Self, Vec<Vitals>) {
        Self::with_leads(&[SimulatedLead::II])
    }

    fn with_leads(leads: &[SimulatedLead]) -> (Self, Vec<Vitals>) {
        let device = SimulatedPatient::new(&PatientSettings::default(), leads, f64::from(RATE_HZ), 1);
        let mrn = Mrn::new(7).unwrap();
        let stream = StreamId::generate();
        let worker = Patient::new(mrn, None);
        let mut bed = Bed {
            device,
            leads: leads.to_vec(),
            artefact_mv: 0.0,
            stream,
            sequence: 0,
            next: 0,
            anchor_us: START_US,
            last_beat_s: 0.0,
            worker,
        };
        let open = bed.open();
        bed.worker.take(&open).unwrap();
        let vitals = bed.send(12.0);
        (bed, vitals)
    }

    fn message(&self, kind: WaveKind, time_us: i64, payload: Vec<u8>) -> WaveMessage {
        let (mrn, stream, sequence) = (Mrn::new(7).unwrap(), self.stream, self.sequence);
        WaveMessage { mrn, stream, kind, sequence, time_us, payload: payload.into() }
    }

    fn open(&self) -> WaveMessage {
        let channel = |lead: &SimulatedLead| Channel {
            label: format!("{lead:?}"),
            code: format!("MDC_ECG_LEAD_{lead:?}"),
            unit: "mV".to_owned(),
            rate: SampleRate::new(RATE_HZ, 1).unwrap(),
            scale: SCALE,
            offset: 0.0,
        };
        let description = StreamDescription {
            stream: self.stream,
            mrn: Mrn::new(7).unwrap(),
            device: Device { name: "Simulated".to_owned(), serial: "1".to_owned() },
            channels: self.leads.iter().map(channel).collect(),
            opened_at: Timestamp::now(),
            clock: None,
        };
        self.message(WaveKind::Open, self.anchor_us, serde_json::to_vec(&description).unwrap())
    }

    /// The next frame. The device records it in any case; it may be lost. The first lead can be off.
    fn record(&mut self, lead_off: bool) -> WaveMessage {
        let mut out = vec![0.0; self.leads.len()];
        let mut samples = vec![Vec::new(); self.leads.len()];
        for index in 0..FRAME {
            self.device.next_ecg(&mut out);
            let artefact_mv = if index % 2 == 0 { self.artefact_mv } else { -self.artefact_mv };
            for (lead, value) in samples.iter_mut().zip(&out) {
                lead.push(((f64::from(*value) + artefact_mv) / SCALE).round() as i16);
            }
        }
        let time_us = self.anchor_us + self.next as i64 * 1_000_000 / i64::from(RATE_HZ);
        let segments = (0..)
            .zip(samples)
            .map(|(channel, samples)| Segment {
                channel,
                first: self.next,
                lead_off: lead_off && channel == 0,
                samples,
            })
            .collect();
        let frame = Frame { sequence: self.sequence, device_time_us: time_us, segments };
        let message = self.message(WaveKind::Frame, time_us, frame.encode());
        self.sequence += 1;
        self.next += FRAME;
        let recorded = 0.0..=self.device.time_s();
        self.last_beat_s = self
            .device
            .beat_times_s()
            .filter(|time| recorded.contains(time))
            .fold(self.last_beat_s, f64::max);
        message
    }

    fn frames(seconds: f64) -> usize {
        (seconds * 1e6 / FRAME_US as f64).round() as usize
    }

    /// Sends this many seconds. Returns the vitals.
    fn send(&mut self, seconds: f64) -> Vec<Vitals> {
        let mut vitals = Vec::new();
        for _ in 0..Self::frames(seconds) {
            let message = self.record(false);
            self.worker.take(&message).unwrap();
            vitals.extend(std::iter::from_fn(|| self.worker.next_vitals(false, false)));
        }
        vitals
    }

    /// Sends this many seconds at once, of which no vitals are wanted.
    fn send_without_vitals(&mut self, seconds: f64) {
        for _ in 0..Self::frames(seconds) {
            let message = self.record(false);
            self.worker.take(&message).unwrap();
        }
    }

    /// The samples of this many seconds are lost.
    fn lose(&mut self, seconds: f64) {
        for _ in 0..Self::frames(seconds) {
            let _ = self.record(false);
        }
    }

    /// The first lead is off for this many seconds. Returns the vitals.
    fn lead_off(&mut self, seconds: f64) -> Vec<Vitals> {
        let mut vitals = Vec::new();
        for _ in 0..Self::frames(seconds) {
            let message = self.record(true);
            self.worker.take(&message).unwrap();
            vitals.extend(std::iter::from_fn(|| self.worker.next_vitals(false, false)));
        }
        vitals
    }

    fn stop_heart(&mut self) {
        self.device.set(&PatientSettings { rhythm: Rhythm::Asystole, ..PatientSettings::default() });
    }

    /// Time of the last beat, and of the last sample, in milliseconds of the device.
    fn last_beat_ms(&self) -> i64 {
        (self.last_beat_s * 1_000.0) as i64
    }

    fn now_ms(&self) -> i64 {
        (self.device.time_s() * 1_000.0).round() as i64
    }

    /// Time of vitals in milliseconds of the device.
    fn ms(&self, vitals: &Vitals) -> i64 {
        vitals.time.as_millis() - self.anchor_us / 1_000
    }
}

/// The first vitals that state an asystole.
fn asystole(vitals: &[Vitals]) -> Option<&Vitals> {
    vitals.iter().find(|vitals| vitals.beats.as_ref().is_some_and(|beats| beats.silent_ms >= ASYSTOLE_MS))
}

fn has_rate(vitals: &Vitals) -> bool {
    vitals.values.iter().any(|numeric| numeric.code == super::patient::HEART_RATE)
}

/// What happens, in words and as a function.
type Interruption = (&'static str, fn(&mut Bed));

/// Interruptions without lost samples: what a restart of a process can cause.
fn interruptions() -> Vec<Interruption> {
    vec![
        ("none", |_| {}),
        ("the mapped time is later", |bed| bed.anchor_us += 240_000),
        ("the mapped time is much later", |bed| bed.anchor_us += 450_000),
        ("the mapped time is earlier", |bed| bed.anchor_us -= 240_000),
        ("the mapped time is much earlier", |bed| bed.anchor_us -= 1_500_000),
        ("the description is repeated", |bed| {
            let open = bed.open();
            bed.worker.take(&open).unwrap();
        }),
    ]
}

#[test]
fn asystole_is_found_after_an_interruption_without_lost_samples() {
    for (what, interrupt) in interruptions() {
        let (mut bed, _) = Bed::new();
        bed.stop_heart();
        bed.send(1.0);
        interrupt(&mut bed);
        let vitals = bed.send(7.0);
        let found = asystole(&vitals).unwrap_or_else(|| panic!("{what}"));
        let silent_ms = bed.ms(found) - bed.last_beat_ms();
        // Times that were published already are not published again.
        assert!((3_700..=6_500).contains(&silent_ms), "{what}: {silent_ms} ms after the last beat");
    }
}

#[test]
fn rhythm_goes_on_after_an_interruption_without_lost_samples() {
    for (what, interrupt) in interruptions() {
        let (mut bed, _) = Bed::new();
        interrupt(&mut bed);
        let vitals = bed.send(8.0);
        assert!(vitals.iter().all(has_rate), "{what}: {vitals:?}");
        assert_eq!(asystole(&vitals), None, "{what}");
    }
}

#[test]
fn silence_after_lost_samples_is_counted_from_their_end_and_needs_a_lead_that_had_beats() {
    for lost_s in [1.0, 4.0, 10.0, 25.0] {
        let (mut bed, _) = Bed::new();
        bed.stop_heart();
        bed.send(1.0);
        let last_beat_ms = bed.last_beat_ms();
        bed.lose(lost_s);
        let resumed_ms = bed.now_ms();
        let vitals = bed.send(6.0);
        let found = asystole(&vitals).unwrap_or_else(|| panic!("{lost_s} s are lost"));
        let silent_ms = bed.ms(found) - resumed_ms;
        assert!((4_000..=4_900).contains(&silent_ms), "{lost_s}: {silent_ms} ms after the gap");
        let beats = found.beats.as_ref().unwrap();
        let last_ms = beats.last.as_millis() - START_US / 1_000;
        assert!((last_ms - last_beat_ms).abs() < 50, "{last_ms}, {last_beat_ms}: no beat is invented");
        assert_eq!(beats.intervals_ms, [] as [u32; 0]);
        assert!(!vitals.iter().any(has_rate));
    }
    // The knowledge is too old, or it was never there.
    let (mut bed, _) = Bed::new();
    bed.stop_heart();
    bed.lose(40.0);
    assert_eq!(asystole(&bed.send(20.0)), None);
}

#[test]
fn asystole_is_found_soon_after_lost_samples() {
    for beats_s in [1.0, 2.0, 4.0, 6.0, 10.0] {
        let (mut bed, _) = Bed::new();
        bed.lose(2.0);
        bed.send(beats_s);
        bed.stop_heart();
        let vitals = bed.send(7.0);
        let found = asystole(&vitals).unwrap_or_else(|| panic!("{beats_s} s after the gap"));
        let silent_ms = bed.ms(found) - bed.last_beat_ms();
        assert!((4_000..=4_900).contains(&silent_ms), "{beats_s}: {silent_ms} ms after the last beat");
    }
}

#[test]
fn lost_samples_of_a_healthy_patient_are_no_asystole() {
    for lost_s in [1.0, 4.0, 10.0, 25.0, 40.0] {
        let (mut bed, _) = Bed::new();
        bed.lose(lost_s);
        let vitals = bed.send(15.0);
        assert_eq!(asystole(&vitals), None, "{lost_s} s are lost");
        assert!(vitals.last().is_some_and(has_rate), "{lost_s} s are lost");
    }
}

#[test]
fn lead_that_was_off_has_to_have_beats_again() {
    let (mut bed, _) = Bed::new();
    bed.stop_heart();
    bed.send(1.0);
    bed.lead_off(1.0);
    assert_eq!(asystole(&bed.send(20.0)), None, "the electrode may lie beside the patient");
    // Also if samples are missing before or after it.
    let (mut bed, _) = Bed::new();
    bed.stop_heart();
    bed.lose(1.0);
    bed.lead_off(1.0);
    bed.lose(1.0);
    assert_eq!(asystole(&bed.send(20.0)), None);
}

#[test]
fn asystole_is_found_by_a_successor_whose_warm_up_ends_in_the_silence() {
    for silent_s in [1.0, 2.5, 3.5] {
        let (mut bed, _) = Bed::new();
        bed.worker = Patient::new(Mrn::new(7).unwrap(), None);
        let open = bed.open();
        bed.worker.take(&open).unwrap();
        bed.send_without_vitals(12.0);
        bed.stop_heart();
        bed.send_without_vitals(silent_s);
        bed.worker.skip_to_data();
        let vitals = bed.send(6.0);
        let found = asystole(&vitals).unwrap_or_else(|| panic!("{silent_s} s of silence in the warm-up"));
        let silent_ms = bed.ms(found) - bed.last_beat_ms();
        assert!((4_000..=5_500).contains(&silent_ms), "{silent_s}: {silent_ms} ms after the last beat");
    }
}

#[test]
fn asystole_is_found_when_a_device_sends_what_it_has_kept() {
    for away_s in [10.0, 60.0, 300.0] {
        let (mut bed, _) = Bed::new();
        bed.stop_heart();
        bed.send(1.0);
        bed.send_without_vitals(away_s);
        let vitals = bed.send(2.0);
        let last = vitals.last().unwrap();
        let beats = last.beats.as_ref().unwrap_or_else(|| panic!("{away_s} s"));
        let silent_ms = i64::from(beats.silent_ms);
        let expected_ms = bed.ms(last) - bed.last_beat_ms() - 300;
        assert!((silent_ms - expected_ms).abs() < 400, "{away_s}: {silent_ms}, {expected_ms}");
    }
}

#[test]
fn asystole_is_over_when_the_heart_beats_again() {
    let (mut bed, _) = Bed::new();
    bed.stop_heart();
    let vitals = bed.send(60.0);
    let last = vitals.last().unwrap();
    assert!(last.beats.as_ref().is_some_and(|beats| beats.silent_ms > 50_000), "{last:?}");
    bed.device.set(&PatientSettings::default());
    bed.send(2.0);
    let vitals = bed.send(15.0);
    assert_eq!(asystole(&vitals), None);
    assert!(vitals.last().is_some_and(has_rate), "{:?}", vitals.last());
}

#[test]
fn asystole_is_found_on_another_lead_when_the_current_one_is_off() {
    for lost_s in [0.0, 2.0] {
        let (mut bed, _) = Bed::with_leads(&[SimulatedLead::II, SimulatedLead::V5]);
        bed.stop_heart();
        bed.lose(lost_s);
        let resumed_ms = bed.now_ms();
        let vitals = bed.lead_off(7.0);
        let from_ms = if lost_s > 0.0 { resumed_ms } else { bed.last_beat_ms() };
        let found = asystole(&vitals).unwrap_or_else(|| panic!("{lost_s} s are lost"));
        let silent_ms = bed.ms(found) - from_ms;
        assert!((4_000..=4_900).contains(&silent_ms), "{lost_s}: {silent_ms} ms");
    }
    // Nor is a healthy heart silent when a lead comes off and is attached again.
    let (mut bed, _) = Bed::with_leads(&[SimulatedLead::II, SimulatedLead::V5]);
    let mut vitals = bed.lead_off(8.0);
    vitals.extend(bed.send(12.0));
    assert_eq!(asystole(&vitals), None);
}

#[test]
fn artefact_after_lost_samples_does_not_hide_an_asystole() {
    let (mut bed, _) = Bed::new();
    bed.lose(2.0);
    bed.send(1.2);
    bed.artefact_mv = 3.0;
    bed.send(2.0);
    bed.artefact_mv = 0.0;
    bed.stop_heart();
    let vitals = bed.send(9.0);
    assert!(asystole(&vitals).is_some());
}

#[test]
fn sinus_rhythm_that_becomes_fast_is_no_ventricular_run() {
    let (mut bed, mut vitals) = Bed::with_leads(&[SimulatedLead::II, SimulatedLead::I, SimulatedLead::V1]);
    for bpm in (76..160).step_by(2) {
        bed.device.set(&PatientSettings { mean_bpm: f64::from(bpm), ..PatientSettings::default() });
        vitals.extend(bed.send(2.0));
    }
    let highest =
        vitals.iter().flat_map(|vitals| &vitals.values).map(|numeric| numeric.value).fold(0.0, f64::max);
    assert!(highest > 150.0, "{highest}");
    let runs = vitals.iter().filter(|vitals| vitals.rhythm.as_deref() == Some("ventricular_run"));
    assert_eq!(runs.count(), 0);
}
