//! The rules of alarms, as pure functions of their input.
//!
//! [`PatientRules`] holds the state of one patient and takes vitals, strips and the passing of time in order. It performs no
//! I/O and reads no clock, so the same input produces the same changes: a replay raises the same alarms with the same ids.
//!
//! | rule | priority | condition | raised after | over after |
//! |---|---|---|---|---|
//! | asystole | high | no beat for 4 s on a usable lead | at once | 3 s |
//! | ventricular run | high | three or more ventricular beats in a row | at once | 10 s |
//! | heart rate extremely low, high | high | two long intervals below, five intervals above the limit | at once | 3 s |
//! | heart rate low, high | medium | the rate is outside of the limit | 10 s | 3 s |
//! | pause | medium | an interval of 3 s | at once | 10 s |
//! | SpO2, respiration | medium | the value is outside of the limit | 10 s | 3 s |
//! | atrial fibrillation | low | onset, if it is switched on | at once | 60 s |
//! | lead off, unusable signal | technical | the device or the analysis reports it | 5 s, 15 s | 3 s |
//! | silent device | technical | no data for 2 s, or no vitals for 15 s | 3 s | at once |
//! | no data | technical | an admitted patient has no data for 10 min | at once | at once |
//!
//! Sources. IEC 60601-1-8: clause 6.1.2 (priorities and the detection of alarm conditions, delays), 6.8 (inactivation states),
//! 6.10 (latching). IEC 60601-2-27: clause 201.12.1.101.8 (rate alarms and their delay), 201.12.1.101.15 (cardiac
//! standstill), 208.6.1.2 (priorities of the alarms of ECG monitors), 208.6.6 (latching). The delays are below the 10 s that
//! the latter requires for standstill, low and high rate.
//!
//! - The condition must be present without interruption for the delay. Input that supports no statement
//!   ([`Truth::Unknown`]) interrupts it after [`MAX_UNKNOWN_MS`].
//! - An alarm ends when its condition is known to be over for its time. A gap in the input ends nothing.
//! - A stronger condition suppresses a weaker one: during an asystole, no slow rate and no pause is raised. An alarm that was
//!   raised before stays.
//! - While a patient has live vitals, strips raise nothing: they describe the past of the same heart.

pub mod conditions;
pub mod limits;

use std::collections::BTreeMap;

use proto_json::alarms::{AlarmEndReason, AlarmPriority, AlarmRule};
use proto_json::waveform::{StreamId, StreamsState, Vitals};
use proto_json::{Bpm, EcgQuality, RecordId, Timestamp};
use serde::{Deserialize, Serialize};

use conditions::{Finding, Truth};
use limits::Effective;

/// A condition whose delay runs is forgotten after this time without knowledge, in milliseconds.
pub const MAX_UNKNOWN_MS: i64 = 5_000;
/// A longer gap in the vitals interrupts every delay.
const MAX_GAP_MS: i64 = 10_000;
/// Vitals that step back by at most this are repeated; by more, the clock was corrected.
const MAX_REPEATED_MS: i64 = 60_000;
/// Without vitals for this long, a live device is silent.
const SILENT_MS: i64 = 15_000;
/// A device that reports silence for this long no longer supports any other condition.
const UNMONITORED_MS: i64 = 60_000;
/// An admitted patient without data for this long has an alarm.
const NO_DATA_MS: i64 = 10 * 60_000;
/// A strip is ignored if vitals are newer than this at its arrival.
const LIVE_MS: i64 = 35_000;
/// A strip that was recorded this long before it arrived describes the past.
const OLD_STRIP_MS: i64 = 15 * 60_000;

/// A strip whose analysis has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct StripResult {
    /// The ECG.
    pub id: RecordId,
    /// When it was recorded or received.
    pub at: Timestamp,
    /// Its heart rate.
    pub rate: Option<Bpm>,
    /// Whether there is a signal; otherwise, only a rate was reported.
    pub has_signal: bool,
    /// Quality of the signal; `None` if the analysis failed.
    pub quality: Option<EcgQuality>,
}

/// What the rules take.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A second of a live patient.
    Vitals(Box<Vitals>),
    /// An analysed strip, at the time when it was noticed.
    Strip(StripResult, Timestamp),
    /// The patient was admitted at the first time, or is not admitted, as it was noticed at the second time.
    Admission(Option<Timestamp>, Timestamp),
    /// Time has passed, and input could have been received since `since`.
    Time {
        /// The present time.
        now: Timestamp,
        /// Start of the uninterrupted reception of input.
        since: Timestamp,
    },
}

/// Why an alarm is raised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Onset {
    /// Time of the input that began the condition.
    pub onset_at: Timestamp,
    /// Time of the input that raised the alarm.
    pub raised_at: Timestamp,
    /// The worst value so far.
    pub value: Option<f64>,
    /// Time of the worst value.
    pub value_at: Timestamp,
    /// The limit.
    pub limit: Option<f64>,
    /// The worst value as text.
    pub text: String,
    /// The ECG that raised it.
    pub ecg_id: Option<RecordId>,
    /// The stream that raised it.
    pub stream: Option<StreamId>,
}

/// What the rules report.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// An alarm begins.
    Raised(AlarmRule, Onset),
    /// The value of an alarm is worse than before.
    Worse(AlarmRule, Onset),
    /// The condition of an alarm is over since this time.
    Over(AlarmRule, Timestamp),
    /// The alarm ends for another reason.
    Withdrawn(AlarmRule, Timestamp, AlarmEndReason),
}

impl Change {
    /// The rule.
    #[must_use]
    pub fn rule(&self) -> AlarmRule {
        match self {
            Change::Raised(rule, _)
            | Change::Worse(rule, _)
            | Change::Over(rule, _)
            | Change::Withdrawn(rule, ..) => *rule,
        }
    }
}

/// Progress of a rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
enum Progress {
    /// The condition is present, and the delay runs.
    Pending {
        /// First time at which it was present.
        onset: Onset,
        /// Last time at which it was known.
        known_at: Timestamp,
    },
    /// The alarm is raised.
    Active {
        onset: Onset,
        /// Since when the condition is known to be over.
        over_since: Option<Timestamp>,
    },
    /// A user has ended the alarm; it is not raised again before the condition is over.
    Dismissed,
}

/// The state of the rules of one patient. Its JSON is stored, so that a successor continues the delays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PatientRules {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rules: BTreeMap<AlarmRule, Progress>,
    /// Whether a device sends, as far as it is known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_live: bool,
    /// The last strip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    strip: Option<RecordId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admitted_at: Option<Timestamp>,
    /// Since when the device reports silence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    silent_since: Option<Timestamp>,
    /// Time of the last vitals. Not stored: it changes every second.
    #[serde(skip)]
    vitals_at: Option<Timestamp>,
    /// Time of the last data. Not stored.
    #[serde(skip)]
    data_at: Option<Timestamp>,
}

/// Delay of a rule and the time after which it is over, in milliseconds.
fn delays(rule: AlarmRule, limits: &Effective) -> (i64, i64) {
    match rule {
        AlarmRule::Asystole | AlarmRule::HeartRateExtremeLow | AlarmRule::HeartRateExtremeHigh => (0, 3_000),
        AlarmRule::VentricularRun | AlarmRule::Pause => (0, 10_000),
        AlarmRule::HeartRateLow | AlarmRule::HeartRateHigh => {
            (i64::from(limits.heart_rate_delay_s) * 1_000, 3_000)
        }
        AlarmRule::Spo2Low | AlarmRule::RespirationLow | AlarmRule::RespirationHigh => (10_000, 3_000),
        AlarmRule::AtrialFibrillation => (0, 60_000),
        AlarmRule::LeadOff => (5_000, 3_000),
        AlarmRule::UnusableSignal => (15_000, 3_000),
        AlarmRule::SilentDevice => (3_000, 0),
        AlarmRule::NoData | AlarmRule::Notice => (0, 0),
    }
}

/// The rules whose condition makes that of a rule meaningless.
fn stronger(rule: AlarmRule) -> &'static [AlarmRule] {
    match rule {
        AlarmRule::HeartRateExtremeLow | AlarmRule::Pause => &[AlarmRule::Asystole],
        AlarmRule::HeartRateLow => &[AlarmRule::Asystole, AlarmRule::HeartRateExtremeLow],
        AlarmRule::HeartRateHigh => &[AlarmRule::HeartRateExtremeHigh],
        AlarmRule::UnusableSignal => &[AlarmRule::LeadOff, AlarmRule::SilentDevice, AlarmRule::Asystole],
        AlarmRule::NoData => &[AlarmRule::SilentDevice],
        _ => &[],
    }
}

/// Whether `value` is worse than `known`.
fn is_worse(rule: AlarmRule, value: f64, known: f64) -> bool {
    match rule {
        AlarmRule::HeartRateExtremeLow
        | AlarmRule::HeartRateLow
        | AlarmRule::Spo2Low
        | AlarmRule::RespirationLow => value < known,
        _ => value > known,
    }
}

/// Where a finding comes from.
#[derive(Clone, Copy, Default)]
struct Source {
    ecg_id: Option<RecordId>,
    stream: Option<StreamId>,
    /// No delay: the input covers more time than the delays.
    at_once: bool,
}

impl PatientRules {
    /// Processes one input with these limits.
    pub fn take(&mut self, input: &Input, limits: &Effective) -> Vec<Change> {
        let mut changes = Vec::new();
        match input {
            Input::Vitals(vitals) => self.take_vitals(vitals, limits, &mut changes),
            Input::Strip(strip, noticed_at) => self.take_strip(strip, *noticed_at, limits, &mut changes),
            Input::Admission(admitted_at, noticed_at) => {
                if self.admitted_at.is_some() && admitted_at.is_none() {
                    self.discharge(*noticed_at, &mut changes);
                }
                self.admitted_at = *admitted_at;
            }
            Input::Time { now, since } => self.take_time(*now, *since, limits, &mut changes),
        }
        changes
    }

    /// Technical alarms end. They are raised again only after their condition was over: a device often sends for a while after
    /// the patient has left.
    fn discharge(&mut self, at: Timestamp, changes: &mut Vec<Change>) {
        for (rule, progress) in &mut self.rules {
            if rule.priority() == AlarmPriority::Technical && matches!(progress, Progress::Active { .. }) {
                *progress = Progress::Dismissed;
                changes.push(Change::Withdrawn(*rule, at, AlarmEndReason::Discharged));
            }
        }
        if self.rules.contains_key(&AlarmRule::SilentDevice) {
            self.is_live = false;
        }
    }

    fn take_vitals(&mut self, vitals: &Vitals, limits: &Effective, changes: &mut Vec<Change>) {
        let at = vitals.time;
        if let Some(last) = self.vitals_at {
            let step = at.millis_since(last);
            if (-MAX_REPEATED_MS..=0).contains(&step) {
                return;
            }
            if !(0..=MAX_GAP_MS).contains(&step) {
                self.interrupt();
            }
        } else {
            // After a restart.
            self.rules.retain(|_, progress| {
                !matches!(progress, Progress::Pending { known_at, .. } if at.millis_since(*known_at) > MAX_GAP_MS)
            });
            self.interrupt_recoveries();
        }
        self.vitals_at = Some(at);
        if vitals.streams == StreamsState::Ended {
            self.is_live = false;
            self.silent_since = None;
            // Nothing is monitored any more.
            for rule in AlarmRule::ALL.into_iter().filter(|rule| *rule != AlarmRule::NoData) {
                self.end(rule, at, changes);
            }
            return;
        }
        self.is_live = true;
        if vitals.streams == StreamsState::Silent {
            let since = *self.silent_since.get_or_insert(at);
            if at.millis_since(since) >= UNMONITORED_MS {
                for rule in AlarmRule::ALL {
                    if !matches!(rule, AlarmRule::SilentDevice | AlarmRule::NoData) {
                        self.end(rule, at, changes);
                    }
                }
            }
        } else {
            self.silent_since = None;
            self.data_at = Some(at);
        }
        let source = Source { stream: vitals.stream, ..Source::default() };
        self.evaluate(&conditions::of_vitals(vitals, limits), at, source, limits, changes);
    }

    fn take_strip(
        &mut self,
        strip: &StripResult,
        noticed_at: Timestamp,
        limits: &Effective,
        changes: &mut Vec<Change>,
    ) {
        if self.strip == Some(strip.id) {
            return;
        }
        self.strip = Some(strip.id);
        self.data_at = Some(noticed_at);
        let is_live = self.is_live && self.vitals_at.is_none_or(|at| noticed_at.millis_since(at) < LIVE_MS);
        if is_live || noticed_at.millis_since(strip.at) > OLD_STRIP_MS {
            return;
        }
        let source = Source { ecg_id: Some(strip.id), at_once: true, ..Source::default() };
        let mut findings = conditions::of_strip(strip.rate, strip.quality, limits);
        findings.retain(|finding| strip.has_signal || finding.rule != AlarmRule::UnusableSignal);
        self.evaluate(&findings, strip.at, source, limits, changes);
    }

    fn take_time(&mut self, now: Timestamp, since: Timestamp, limits: &Effective, changes: &mut Vec<Change>) {
        if self.is_live {
            let last = self.vitals_at.map_or(since, |at| at.max(since));
            if now.millis_since(last) >= SILENT_MS {
                let silent = Finding {
                    rule: AlarmRule::SilentDevice,
                    truth: Truth::True,
                    value: None,
                    limit: None,
                    text: "The device sends no data".to_owned(),
                };
                let source = Source { at_once: true, ..Source::default() };
                self.evaluate(&[silent], now, source, limits, changes);
            }
        }
        let missing = self.admitted_at.filter(|_| !self.is_live).map(|admitted_at| {
            let last = self.data_at.map_or(since, |at| at.max(since)).max(admitted_at);
            now.millis_since(last) >= NO_DATA_MS
        });
        let truth = if missing == Some(true) { Truth::True } else { Truth::False };
        if truth == Truth::True || self.rules.contains_key(&AlarmRule::NoData) {
            // Without knowledge of the data before `since`, a raised alarm stays.
            let is_known = self.admitted_at.is_none() || self.is_live || self.data_at.is_some();
            if truth == Truth::True || is_known {
                let text = "The patient is admitted and has no data".to_owned();
                let finding = Finding { rule: AlarmRule::NoData, truth, value: None, limit: None, text };
                self.evaluate(&[finding], now, Source::default(), limits, changes);
            }
        }
    }

    /// A gap in the vitals: delays start again, and nothing is over yet.
    fn interrupt(&mut self) {
        self.rules.retain(|_, progress| !matches!(progress, Progress::Pending { .. }));
        self.interrupt_recoveries();
    }

    fn interrupt_recoveries(&mut self) {
        for progress in self.rules.values_mut() {
            if let Progress::Active { over_since, .. } = progress {
                *over_since = None;
            }
        }
    }

    /// Ends a rule at once.
    fn end(&mut self, rule: AlarmRule, at: Timestamp, changes: &mut Vec<Change>) {
        if let Some(Progress::Active { .. }) = self.rules.remove(&rule) {
            changes.push(Change::Over(rule, at));
        }
    }

    /// Whether the condition of a raised or dismissed alarm is present.
    fn is_active(&self, rule: AlarmRule) -> bool {
        let progress = self.rules.get(&rule);
        matches!(progress, Some(Progress::Active { over_since: None, .. } | Progress::Dismissed))
    }

    /// Evaluates findings, stronger rules first.
    fn evaluate(
        &mut self,
        findings: &[Finding],
        at: Timestamp,
        source: Source,
        limits: &Effective,
        changes: &mut Vec<Change>,
    ) {
        for finding in findings {
            let rule = finding.rule;
            let (delay, recovery) = if source.at_once { (0, 0) } else { delays(rule, limits) };
            let is_suppressed = stronger(rule).iter().any(|stronger| self.is_active(*stronger));
            let progress = self.rules.remove(&rule);
            let next = match (finding.truth, progress) {
                (Truth::True, None) if is_suppressed => None,
                (Truth::True, None) => {
                    let onset = Onset {
                        onset_at: at,
                        raised_at: at,
                        value: finding.value,
                        value_at: at,
                        limit: finding.limit,
                        text: finding.text.clone(),
                        ecg_id: source.ecg_id,
                        stream: source.stream,
                    };
                    Some(raise_when_due(rule, onset, at, delay, changes))
                }
                (Truth::True, Some(Progress::Pending { .. })) if is_suppressed => None,
                (Truth::True, Some(Progress::Pending { mut onset, .. })) => {
                    worsen(&mut onset, finding, at);
                    Some(raise_when_due(rule, onset, at, delay, changes))
                }
                (Truth::True, Some(Progress::Active { mut onset, .. })) => {
                    if !is_suppressed && worsen(&mut onset, finding, at) {
                        changes.push(Change::Worse(rule, onset.clone()));
                    }
                    Some(Progress::Active { onset, over_since: None })
                }
                (Truth::True | Truth::Near | Truth::Unknown, Some(Progress::Dismissed)) => {
                    Some(Progress::Dismissed)
                }
                (Truth::Near | Truth::Unknown, Some(Progress::Active { onset, .. })) => {
                    Some(Progress::Active { onset, over_since: None })
                }
                (Truth::Unknown, Some(Progress::Pending { onset, known_at })) => (at.millis_since(known_at)
                    <= MAX_UNKNOWN_MS)
                    .then_some(Progress::Pending { onset, known_at }),
                (Truth::Near | Truth::Unknown, None)
                | (Truth::Near | Truth::False, Some(Progress::Pending { .. }))
                | (Truth::False, None | Some(Progress::Dismissed)) => None,
                (Truth::False, Some(Progress::Active { onset, over_since })) => {
                    let since = over_since.unwrap_or(at);
                    if at.millis_since(since) >= recovery {
                        changes.push(Change::Over(rule, at));
                        None
                    } else {
                        Some(Progress::Active { onset, over_since: Some(since) })
                    }
                }
            };
            if let Some(next) = next {
                self.rules.insert(rule, next);
            }
        }
    }

    /// Whether a device sends, as far as it is known.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// The alarms that are raised, with what raised them.
    pub fn raised(&self) -> impl Iterator<Item = (AlarmRule, &Onset)> {
        self.rules.iter().filter_map(|(rule, progress)| match progress {
            Progress::Active { onset, .. } => Some((*rule, onset)),
            Progress::Pending { .. } | Progress::Dismissed => None,
        })
    }

    /// Takes over an alarm that is stored as raised, and that these rules do not know.
    pub fn adopt(&mut self, rule: AlarmRule, onset: Onset) {
        if !matches!(self.rules.get(&rule), Some(Progress::Active { .. })) {
            self.rules.insert(rule, Progress::Active { onset, over_since: None });
        }
    }

    /// The alarm of a rule has ended although its condition may be present.
    pub fn withdraw(&mut self, rule: AlarmRule) {
        self.rules.remove(&rule);
    }

    /// A user has ended the alarm of a rule: it is raised again only after its condition was over.
    pub fn dismiss(&mut self, rule: AlarmRule) {
        if let Some(progress) = self.rules.get_mut(&rule) {
            *progress = Progress::Dismissed;
            if rule == AlarmRule::SilentDevice {
                // The device is gone.
                self.is_live = false;
            }
        }
    }

    /// Whether there is nothing to store.
    #[must_use]
    pub fn is_default(&self) -> bool {
        let transient =
            PatientRules { vitals_at: self.vitals_at, data_at: self.data_at, ..PatientRules::default() };
        *self == transient
    }
}

/// Takes over a worse value.
fn worsen(onset: &mut Onset, finding: &Finding, at: Timestamp) -> bool {
    let is_worse = match (finding.value, onset.value) {
        // Smaller differences do not change the text.
        (Some(value), Some(known)) => is_worse(finding.rule, value, known) && (value - known).abs() >= 0.5,
        _ => false,
    };
    if is_worse {
        onset.value = finding.value;
        onset.value_at = at;
        onset.text.clone_from(&finding.text);
    }
    is_worse
}

/// Raises an alarm if its delay has passed.
fn raise_when_due(
    rule: AlarmRule,
    mut onset: Onset,
    at: Timestamp,
    delay: i64,
    changes: &mut Vec<Change>,
) -> Progress {
    if at.millis_since(onset.onset_at) < delay {
        return Progress::Pending { onset, known_at: at };
    }
    onset.raised_at = at;
    changes.push(Change::Raised(rule, onset.clone()));
    Progress::Active { onset, over_since: None }
}

#[cfg(test)]
mod tests;
