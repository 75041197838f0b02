//! The live waveforms of a simulated patient. They show the state of the patient at each moment.

use client::{Gateway, SenderError, SenderSettings, WaveformSender};
use ecg::synth::PatientSettings;
use proto_json::Mrn;
use tokio::time::Instant;

use super::scenario::{Noise, Patient, Rhythm, State};
use super::signal;
use super::timeline::Timeline;
use crate::playback::{self, WaveformSource};
use crate::simulator::{self, Simulator, SimulatorState};

/// Height of the R wave of a patient without a scenario, in millivolts.
const AMPLITUDE_MV: f64 = 1.1;

/// A constant state of a patient, for `bedside stream`.
#[derive(Debug, Clone)]
pub(crate) struct SimulatedState(State);

impl SimulatedState {
    /// A state with this rhythm, and with its usual rate if none is given.
    ///
    /// # Errors
    /// One sentence, if the rhythm does not have this rate.
    pub(crate) fn new(rhythm: Rhythm, rate: Option<u32>, noise: Noise) -> Result<Self, String> {
        let rate = match (rhythm.rates(), rate) {
            (Some((rates, _)), Some(rate)) if !rates.contains(&rate) => {
                return Err(format!(
                    "the rhythm {} has a rate of {} to {} beats per minute",
                    rhythm.name(),
                    rates.start(),
                    rates.end()
                ));
            }
            (Some((_, default)), rate) => rate.unwrap_or(default),
            (None, Some(_)) => return Err(format!("the rhythm {} has no rate", rhythm.name())),
            (None, None) => 0,
        };
        let rate = f64::from(rate);
        Ok(SimulatedState(State { rhythm, rate, ectopy: 0.0, noise, lead_off: false, gaps: false }))
    }

    pub(crate) fn patient_settings(&self) -> PatientSettings {
        signal::patient_settings(&self.0, AMPLITUDE_MV)
    }
}

/// Streams the patient until the future is dropped.
pub(super) async fn stream(
    gateway: Gateway,
    patient: &Patient,
    timeline: Timeline,
    started: Instant,
    seed: u64,
) -> Result<(), SenderError> {
    let Ok(mrn) = Mrn::new(patient.mrn) else { return Ok(()) };
    let amplitude_mv = patient.amplitude_mv;
    let since_start = started.elapsed();
    let state_at = move |time_s: f64| {
        let state = timeline.state_at(since_start + std::time::Duration::from_secs_f64(time_s));
        SimulatorState {
            patient: signal::patient_settings(&state, amplitude_mv),
            is_lead_off: state.lead_off,
            has_gaps: state.gaps,
        }
    };
    let mut simulator = Simulator::new(Box::new(state_at), seed, None);
    let device = simulator::device(&format!("demo-{mrn}"));
    let mut settings = SenderSettings::new(gateway, mrn, device, simulator.channels().to_vec());
    // The server is in this process.
    settings.spill_dir = None;
    let sender = WaveformSender::start(settings)?;
    playback::play(&mut simulator, &sender, playback::now_us(), 1.0, |_| {}).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_rhythm() {
        let rate = |rhythm, rate| SimulatedState::new(rhythm, rate, Noise::Low).map(|state| state.0.rate);
        assert_eq!(rate(Rhythm::Sinus, None), Ok(72.0));
        assert_eq!(rate(Rhythm::Asystole, None), Ok(0.0));
        assert_eq!(rate(Rhythm::Tachycardia, Some(150)), Ok(150.0));
        let error = "the rhythm tachycardia has a rate of 101 to 220 beats per minute";
        assert_eq!(rate(Rhythm::Tachycardia, Some(100)), Err(error.to_owned()));
        assert!(rate(Rhythm::Asystole, Some(60)).is_err());
    }
}
