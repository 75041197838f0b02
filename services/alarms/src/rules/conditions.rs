//! The conditions of the rules: what one second of vitals, or one strip, says about each rule.
//!
//! A condition is true, false, near its limit, or unknown. It is unknown if the signal supports no statement: an alarm then
//! neither begins nor ends. "Near" is the hysteresis: an alarm does not end before the value is on the safe side of its limit by a
//! margin, as IEC 60601-1-8 (clause 6.1.2, alarm condition delay and hysteresis of the alarm system) permits to avoid repeated
//! alarms.

use proto_json::alarms::AlarmRule;
use proto_json::waveform::{BeatTimes, StreamsState, Vitals, VitalsSource};
use proto_json::{Bpm, EcgQuality};

use super::limits::Effective;

/// What is known about a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// The condition is present.
    True,
    /// The value is within the limit, but not by the margin.
    Near,
    /// The condition is not present.
    False,
    /// The signal supports no statement.
    Unknown,
}

/// What one input says about a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The rule.
    pub rule: AlarmRule,
    /// Whether the condition is present.
    pub truth: Truth,
    /// The value that decided, in the unit of the rule.
    pub value: Option<f64>,
    /// The limit.
    pub limit: Option<f64>,
    /// The finding as text, for example `HR 152 > 150`.
    pub text: String,
}

impl Finding {
    fn simple(rule: AlarmRule, truth: Truth, text: impl Into<String>) -> Self {
        Finding { rule, truth, value: None, limit: None, text: text.into() }
    }
}

/// Numeric codes.
const HEART_RATE: &str = "MDC_ECG_HEART_RATE";
const SATURATION: &str = "MDC_PULS_OXIM_SAT_O2";
const RESPIRATION: [&str; 3] = ["MDC_RESP_RATE", "MDC_TTHOR_RESP_RATE", "MDC_CO2_RESP_RATE"];

/// Margins of the hysteresis: beats per minute, percent of saturation, breaths per minute.
const RATE_MARGIN: f64 = 2.0;
const SATURATION_MARGIN: f64 = 1.0;
const RESPIRATION_MARGIN: f64 = 1.0;

/// The extreme rate follows from this many of the latest intervals: few for a slow rate, so that it is found within two
/// beats; more for a fast one, so that a premature beat is none.
const SLOW_INTERVALS: usize = 2;
const FAST_INTERVALS: usize = 5;
/// A beat that has just happened is reported a little later: the silence begins by up to this much after the last beat, in
/// milliseconds. A silence that begins later follows a gap in the samples.
const MAX_REPORT_DELAY_MS: i64 = 1_000;
/// A pause counts while it lasts and for this long after it, in milliseconds.
const PAUSE_SHOWN_MS: u64 = 2_000;

enum Side {
    Below,
    Above,
}

/// A value outside of a limit.
fn limited(rule: AlarmRule, name: &str, value: Option<f64>, limit: u16, side: Side, margin: f64) -> Finding {
    let limit = f64::from(limit);
    let (truth, sign) = match (value, &side) {
        (None, Side::Below) => (Truth::Unknown, '<'),
        (None, Side::Above) => (Truth::Unknown, '>'),
        (Some(value), Side::Below) if value < limit => (Truth::True, '<'),
        (Some(value), Side::Below) if value < limit + margin => (Truth::Near, '<'),
        (Some(value), Side::Above) if value > limit => (Truth::True, '>'),
        (Some(value), Side::Above) if value > limit - margin => (Truth::Near, '>'),
        (Some(_), Side::Below) => (Truth::False, '<'),
        (Some(_), Side::Above) => (Truth::False, '>'),
    };
    let text = value.map_or_else(String::new, |value| format!("{name} {value:.0} {sign} {limit:.0}"));
    Finding { rule, truth, value, limit: Some(limit), text }
}

/// Mean rate of the latest intervals in beats per minute; `None` if there are fewer.
fn rate_of(intervals_ms: &[u32], count: usize) -> Option<f64> {
    let latest = intervals_ms.get(..count)?;
    let sum: f64 = latest.iter().map(|interval| f64::from(*interval)).sum();
    (sum > 0.0).then(|| 60_000.0 * count as f64 / sum)
}

/// The extreme low rate: both of the latest two intervals are long, or the latest one and the time since the last beat.
fn slow_rate(beats: &BeatTimes) -> Option<f64> {
    let closed = beats.intervals_ms.get(..SLOW_INTERVALS)?;
    let rate = |longest_of: [u32; 2]| 60_000.0 / f64::from(longest_of[0].min(longest_of[1]).max(1));
    let of_closed = rate([closed[0], closed[1]]);
    let of_open = rate([closed[0], beats.silent_ms]);
    Some(of_closed.min(of_open))
}

/// The longest interval in seconds that ended a short time ago or still lasts.
fn pause_s(beats: &BeatTimes) -> f64 {
    let mut longest = beats.silent_ms;
    let mut end_ms = u64::from(beats.silent_ms);
    for interval in &beats.intervals_ms {
        if end_ms > PAUSE_SHOWN_MS {
            break;
        }
        longest = longest.max(*interval);
        end_ms += u64::from(*interval);
    }
    f64::from(longest) / 1_000.0
}

fn numeric(vitals: &Vitals, codes: &[&str]) -> Option<f64> {
    codes
        .iter()
        .find_map(|code| vitals.values.iter().find(|numeric| numeric.code == *code))
        .map(|numeric| numeric.value)
}

/// What a second of vitals says about each rule. Rules that depend on the course of time alone are not among them.
#[must_use]
pub fn of_vitals(vitals: &Vitals, limits: &Effective) -> Vec<Finding> {
    let is_live = vitals.streams == StreamsState::Live;
    let beats = vitals.beats.as_ref().filter(|_| is_live);
    let rate = numeric(vitals, &[HEART_RATE]).filter(|_| is_live);
    let live = |truth: Truth| if is_live { truth } else { Truth::Unknown };
    let is_usable = is_live && vitals.quality != EcgQuality::Unusable;

    // After a gap, it is not known when the last beat was. A silence that is too short for an alarm then does not end one.
    let is_gapless = beats.is_none_or(|beats| {
        vitals.time.millis_since(beats.last) - i64::from(beats.silent_ms) <= MAX_REPORT_DELAY_MS
    });
    let too_short = if is_gapless { Truth::False } else { Truth::Unknown };
    // IEC 60601-2-27, clause 201.12.1.101.15: cardiac standstill.
    let silent_s = beats.map(|beats| f64::from(beats.silent_ms) / 1_000.0);
    let asystole = Finding {
        rule: AlarmRule::Asystole,
        truth: match silent_s {
            None => Truth::Unknown,
            Some(silent) if silent >= limits.asystole_s => Truth::True,
            Some(_) => too_short,
        },
        value: None,
        limit: Some(limits.asystole_s),
        text: format!("No beat for {} s", limits.asystole_s),
    };
    let pause = beats.map(pause_s);
    let pause = Finding {
        rule: AlarmRule::Pause,
        truth: match pause {
            None => Truth::Unknown,
            Some(length) if length >= limits.pause_s => Truth::True,
            Some(_) => too_short,
        },
        value: pause.map(|length| (length * 10.0).round() / 10.0),
        limit: Some(limits.pause_s),
        text: pause.map_or_else(String::new, |length| format!("Pause of {length:.1} s")),
    };

    let fast = beats.map_or(rate, |beats| rate_of(&beats.intervals_ms, FAST_INTERVALS));
    let slow = beats.map_or(rate, slow_rate);
    let rhythm = |rule, code: &str, text: &str| {
        let truth = match vitals.rhythm.as_deref() {
            Some(found) if found == code => Truth::True,
            Some(_) if is_usable => Truth::False,
            _ => Truth::Unknown,
        };
        Finding::simple(rule, live(truth), text)
    };
    let mut fibrillation =
        rhythm(AlarmRule::AtrialFibrillation, "atrial_fibrillation", "Atrial fibrillation");
    if !limits.atrial_fibrillation {
        fibrillation.truth = Truth::False;
    }

    let is_off = !vitals.lead_off.is_empty();
    let lead_off = Finding::simple(
        AlarmRule::LeadOff,
        live(if is_off { Truth::True } else { Truth::False }),
        format!("Lead off: {}", vitals.lead_off.join(", ")),
    );
    let is_unusable = vitals.source == VitalsSource::Analysis && vitals.quality == EcgQuality::Unusable;
    let unusable = Finding::simple(
        AlarmRule::UnusableSignal,
        live(if is_unusable { Truth::True } else { Truth::False }),
        "The ECG supports no heart rate",
    );
    let silent = Finding::simple(
        AlarmRule::SilentDevice,
        if vitals.streams == StreamsState::Silent { Truth::True } else { Truth::False },
        "The device sends no data",
    );
    let saturation = numeric(vitals, &[SATURATION]).filter(|_| is_live);
    let respiration = numeric(vitals, &RESPIRATION).filter(|_| is_live);
    vec![
        asystole,
        rhythm(AlarmRule::VentricularRun, "ventricular_run", "Ventricular run"),
        limited(
            AlarmRule::HeartRateExtremeLow,
            "HR",
            slow,
            limits.heart_rate_extreme_low,
            Side::Below,
            RATE_MARGIN,
        ),
        limited(
            AlarmRule::HeartRateExtremeHigh,
            "HR",
            fast,
            limits.heart_rate_extreme_high,
            Side::Above,
            RATE_MARGIN,
        ),
        limited(AlarmRule::HeartRateLow, "HR", rate, limits.heart_rate_low, Side::Below, RATE_MARGIN),
        limited(AlarmRule::HeartRateHigh, "HR", rate, limits.heart_rate_high, Side::Above, RATE_MARGIN),
        pause,
        fibrillation,
        limited(AlarmRule::Spo2Low, "SpO2", saturation, limits.spo2_low, Side::Below, SATURATION_MARGIN),
        limited(
            AlarmRule::RespirationLow,
            "RR",
            respiration,
            limits.respiration_low,
            Side::Below,
            RESPIRATION_MARGIN,
        ),
        limited(
            AlarmRule::RespirationHigh,
            "RR",
            respiration,
            limits.respiration_high,
            Side::Above,
            RESPIRATION_MARGIN,
        ),
        silent,
        lead_off,
        unusable,
    ]
}

/// What a strip says about the rules that a strip can decide. `quality` is `None` if its analysis failed.
#[must_use]
pub fn of_strip(rate: Option<Bpm>, quality: Option<EcgQuality>, limits: &Effective) -> Vec<Finding> {
    let is_unusable = quality.is_none_or(|quality| quality == EcgQuality::Unusable);
    let rate = rate.map(|bpm| f64::from(bpm.get()));
    let unusable = Finding::simple(
        AlarmRule::UnusableSignal,
        if is_unusable { Truth::True } else { Truth::False },
        "The ECG supports no heart rate",
    );
    vec![
        limited(
            AlarmRule::HeartRateExtremeLow,
            "HR",
            rate,
            limits.heart_rate_extreme_low,
            Side::Below,
            RATE_MARGIN,
        ),
        limited(
            AlarmRule::HeartRateExtremeHigh,
            "HR",
            rate,
            limits.heart_rate_extreme_high,
            Side::Above,
            RATE_MARGIN,
        ),
        limited(AlarmRule::HeartRateLow, "HR", rate, limits.heart_rate_low, Side::Below, RATE_MARGIN),
        limited(AlarmRule::HeartRateHigh, "HR", rate, limits.heart_rate_high, Side::Above, RATE_MARGIN),
        unusable,
    ]
}

#[cfg(test)]
mod tests {
    use proto_json::Timestamp;

    use super::*;

    fn beats(silent_ms: u32, intervals_ms: &[u32]) -> BeatTimes {
        let last = Timestamp::from_millis(0).unwrap();
        BeatTimes { last, silent_ms, intervals_ms: intervals_ms.to_vec() }
    }

    #[test]
    fn slow_rate_needs_two_long_intervals_or_one_and_the_time_since_the_last_beat() {
        assert_eq!(slow_rate(&beats(300, &[2_000, 2_000, 800])), Some(30.0));
        assert_eq!(slow_rate(&beats(2_000, &[2_000, 800])), Some(30.0));
        assert_eq!(slow_rate(&beats(300, &[3_900, 800, 800])), Some(75.0), "one pause is no slow rate");
        assert_eq!(slow_rate(&beats(300, &[800])), None);
    }

    #[test]
    fn pause_counts_while_it_lasts_and_shortly_after_it() {
        assert_eq!(pause_s(&beats(3_200, &[800, 800])), 3.2);
        assert_eq!(pause_s(&beats(500, &[3_400, 800])), 3.4);
        assert_eq!(pause_s(&beats(500, &[800, 800, 800, 3_400])), 0.8);
    }
}
