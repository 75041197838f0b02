//! A section of the live ECG as a CSV file, to be stored as a strip.

use std::fmt::Write as _;

use proto_json::Timestamp;

use super::patient::{ChannelKind, LivePatient};

/// The shortest and the longest strip in seconds.
pub const SECONDS: std::ops::RangeInclusive<u32> = 10..=60;

/// A strip of the live ECG.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptStrip {
    /// The file: a time in seconds and the voltages of all leads in millivolts. A row without any sample is left out.
    pub csv: String,
    /// The time of the first sample.
    pub recorded_at: Timestamp,
}

/// The last `seconds` before `now_us` (microseconds since 1970) of all ECG leads with the sampling rate of the first one. `None`
/// without samples.
#[must_use]
pub fn cut(patient: &LivePatient, now_us: i64, seconds: u32) -> Option<KeptStrip> {
    let seconds = seconds.clamp(*SECONDS.start(), *SECONDS.end());
    let leads: Vec<_> = patient
        .shown_channels()
        .into_iter()
        .filter_map(|(stream, channel)| {
            let stream = patient.streams().get(stream)?;
            Some((stream.description.channels.get(channel)?, &stream.channels.get(channel)?.history))
        })
        .filter(|(channel, _)| {
            ChannelKind::of(channel) == ChannelKind::Ecg && per_mv(&channel.unit).is_some()
        })
        .collect();
    let (first, grid) = leads.first()?;
    let leads: Vec<_> = leads.iter().filter(|(channel, _)| channel.rate == first.rate).collect();
    // The middle of the last cell, because its end is rounded to microseconds.
    let newest = grid.number_at(grid.end_us()? as f64 * 1e-6 - 0.5 / grid.cells_per_s());
    let last = grid.number_at(now_us as f64 * 1e-6).min(newest);
    let start = last - (f64::from(seconds) * grid.cells_per_s()).round() as i64 + 1;
    let mut csv = String::from("time_s");
    for (channel, _) in &leads {
        // A label may contain any character.
        let label: String = channel.label.chars().filter(|letter| letter.is_alphanumeric()).collect();
        let _ = write!(csv, ",{label} (mV)");
    }
    csv.push('\n');
    let mut begin = None;
    for number in start..=last {
        let values: Vec<Option<f64>> = leads
            .iter()
            .map(|(channel, history)| {
                let cell = history.cell(number);
                let sample = history.value(cell.low) / 2.0 + history.value(cell.high) / 2.0;
                let is_usable = !cell.is_missing() && !cell.lead_off;
                is_usable.then_some(sample).zip(per_mv(&channel.unit)).map(|(value, per_mv)| value / per_mv)
            })
            .collect();
        if values.iter().all(Option::is_none) {
            continue;
        }
        let from = *begin.get_or_insert(number);
        let _ = write!(csv, "{:.6}", (number - from) as f64 / grid.cells_per_s());
        for value in values {
            match value {
                Some(value) => {
                    let _ = write!(csv, ",{value:.4}");
                }
                None => csv.push(','),
            }
        }
        csv.push('\n');
    }
    let recorded_at = Timestamp::from_millis((grid.time_s(begin?) * 1000.0) as i64).ok()?;
    Some(KeptStrip { csv, recorded_at })
}

/// Units per millivolt.
fn per_mv(unit: &str) -> Option<f64> {
    match unit {
        "mV" => Some(1.0),
        "uV" => Some(1000.0),
        "V" => Some(0.001),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proto_json::LiveMode;

    use super::super::patient::tests::{START, channel, frame, stream};
    use super::*;

    #[test]
    fn strip_contains_all_leads_of_the_last_seconds_and_its_gap() {
        let channels = vec![
            channel("II", "MDC_ECG_LEAD_II", 250),
            channel("V1", "MDC_ECG_LEAD_V1", 250),
            channel("Pleth", "MDC_PULS_OXIM_PLETH", 125),
        ];
        let stream = stream(1, channels);
        let mut patient = LivePatient::new(LiveMode::Full, 75.0);
        assert_eq!(cut(&patient, START, 10), None);
        for number in (0..100).filter(|number| !(80..85).contains(number)) {
            let now = START + number as i64 * 200_000 + 250_000;
            patient.frame(&frame(&stream, number, &[Some(number as i16 * 10), Some(-5), Some(1)]), now);
        }
        let strip = cut(&patient, START + 20_000_000, 10).unwrap();
        let lines: Vec<&str> = strip.csv.lines().collect();
        assert_eq!(lines[0], "time_s,II (mV),V1 (mV)");
        assert_eq!(lines.len() - 1, 250 * 9, "ten seconds without the second that is missing");
        assert!(lines.last().unwrap().starts_with("9.99"), "{}", lines[2250]);
        assert!(
            (strip.recorded_at.as_millis() - (START / 1000 + 10_000)).abs() <= 4,
            "{:?}",
            strip.recorded_at
        );
        let read = ecg::read(strip.csv.as_bytes(), &ecg::csv::Options::default()).unwrap();
        assert_eq!(read.sample_rate_hz.round(), 250.0);
        assert_eq!(read.segments.len(), 2, "the gap stays a gap");
        let voltage = read.segments[0].samples[0];
        assert!((voltage - 0.5).abs() < 0.011, "{voltage} mV");
    }
}
