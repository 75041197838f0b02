//! Formats values as text for the terminal.
//!
//! Ages have a formatter of their own: `humantime` prints all units ("2m 3s"), these texts only the largest
//! one ("2 min").

use client::ServerTime;
use proto_json::{
    CLOCK_TOLERANCE_MS, EcgAnalysis, EcgQuality, EcgRecord, EcgStatus, HeartRateSource, LatestEcg,
    LatestHeartRate, Timestamp, ValueTime,
};

/// Replaces control characters and characters that change the text direction, so that text from clients
/// cannot control the terminal or mislead its reader.
pub(super) fn plain(text: &str) -> String {
    let is_unsafe = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if is_unsafe(c) { '\u{fffd}' } else { c }).collect()
}

/// Shortens a text to `width` characters. A shortened text ends in an ellipsis.
pub(super) fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Returns a warning if the clock of the server is unreliable or differs from the clock of this computer.
/// Ages use server time.
pub(super) fn clock_warning(time: &ServerTime) -> Option<String> {
    if let Some(problem) = time.problem() {
        return Some(format!("warning: {}", plain(&problem)));
    }
    let ahead = time.ahead_of_computer_ms()?;
    (ahead.abs() > CLOCK_TOLERANCE_MS).then(|| {
        let difference = duration(ahead.abs() / 1000);
        let direction = if ahead > 0 { "behind" } else { "ahead of" };
        format!(
            "warning: the clock of this computer is {difference} {direction} the server's; ages use the server's clock"
        )
    })
}

/// Formats the time since `since` in one unit, for example `2 min`. Returns `0 s` if `since` is in the
/// future.
pub(super) fn age(since: Timestamp, now: Timestamp) -> String {
    duration(now.millis_since(since).max(0) / 1000)
}

fn duration(seconds: i64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

pub(super) fn quality(quality: EcgQuality) -> &'static str {
    match quality {
        EcgQuality::Good => "good",
        EcgQuality::Poor => "poor",
        EcgQuality::Unusable => "unusable",
    }
}

fn source(source: HeartRateSource) -> &'static str {
    match source {
        HeartRateSource::Reported => "reported",
        HeartRateSource::Ecg => "from ECG",
    }
}

/// Formats a heart rate, for example `72 bpm (from ECG, 3 s ago)`.
pub(super) fn heart_rate(rate: Option<&LatestHeartRate>, now: Timestamp) -> String {
    let Some(rate) = rate else { return "no heart rate".to_owned() };
    let when = match rate.time(now) {
        ValueTime::Recorded(at) => format!("{} ago", age(at, now)),
        ValueTime::Received(at) => format!("received {} ago", age(at, now)),
        ValueTime::ClockWrong => "clock wrong".to_owned(),
    };
    format!("{} bpm ({}, {when})", rate.bpm, source(rate.source))
}

/// Formats the age of a value for a column of a table.
pub(super) fn age_of(time: ValueTime, now: Timestamp) -> String {
    match time {
        ValueTime::Recorded(at) => age(at, now),
        ValueTime::Received(at) => format!("received {}", age(at, now)),
        ValueTime::ClockWrong => "clock wrong".to_owned(),
    }
}

/// Formats the status of an ECG, for example `ECG quality good`.
pub(super) fn ecg(ecg: Option<&LatestEcg>) -> String {
    let Some(ecg) = ecg else { return "no ECG".to_owned() };
    match (ecg.status, ecg.quality) {
        (EcgStatus::Pending, _) => "ECG being analysed".to_owned(),
        (EcgStatus::Failed, _) => "ECG unreadable".to_owned(),
        (EcgStatus::Picture, _) => "ECG is an image".to_owned(),
        (EcgStatus::Analyzed, Some(found)) => format!("ECG quality {}", quality(found)),
        (EcgStatus::Analyzed, None) => "ECG analysed".to_owned(),
    }
}

/// Returns the result of an ECG analysis, then its findings and warnings, as lines.
pub(super) fn findings(name: &str, record: &EcgRecord) -> Vec<String> {
    let mut lines = Vec::new();
    match (&record.analysis, &record.failure) {
        (Some(analysis), _) => {
            lines.push(format!("{name}: {}", result(analysis)));
            lines.extend(analysis.notes.iter().map(|note| format!("  finding: {}", plain(&note.message))));
            lines.extend(
                analysis.warnings.iter().map(|warning| format!("  warning: {}", plain(&warning.message))),
            );
        }
        (None, Some(failure)) => lines.push(format!("{name}: {}", plain(failure))),
        (None, None) => lines.push(format!("{name}: no result")),
    }
    lines
}

fn result(analysis: &EcgAnalysis) -> String {
    let signal = format!(
        "quality {}, {} beats in {:.1} s",
        quality(analysis.quality),
        analysis.beat_count,
        analysis.duration_s
    );
    match (&analysis.heart_rate, &analysis.no_heart_rate_reason) {
        (Some(rate), _) => format!(
            "heart rate {:.0} bpm ({:.0} to {:.0}), {signal}",
            rate.mean_bpm, rate.min_bpm, rate.max_bpm
        ),
        (None, Some(reason)) => format!("no heart rate: {} ({signal})", plain(reason)),
        (None, None) => format!("no heart rate ({signal})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_clients_cannot_control_the_terminal() {
        assert_eq!(plain("A\u{1b}[2Jn\nn\u{202e}é"), "A\u{fffd}[2Jn\u{fffd}n\u{fffd}é");
        assert_eq!(fit("Ann", 3), "Ann");
        assert_eq!(fit("Annabel", 4), "Ann…");
    }

    #[test]
    fn heart_rate_text_states_recording_time_receipt_time_or_wrong_clock() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000).unwrap();
        let mut rate = LatestHeartRate {
            id: proto_json::UploadId::generate().record("heart_rate", 0),
            bpm: proto_json::Bpm::new(72).unwrap(),
            at: at(0),
            received_at: Some(at(100)),
            recorded_at: Some(at(0)),
            source: HeartRateSource::Ecg,
            ecg_id: None,
            upload_version: 1,
            clock_wrong: false,
        };
        assert_eq!(heart_rate(Some(&rate), at(110)), "72 bpm (from ECG, 110 s ago)");
        assert_eq!(age_of(rate.time(at(110)), at(110)), "110 s");
        (rate.at, rate.recorded_at) = (at(100), None);
        assert_eq!(heart_rate(Some(&rate), at(110)), "72 bpm (from ECG, received 10 s ago)");
        assert_eq!(age_of(rate.time(at(110)), at(110)), "received 10 s");
        assert_eq!(
            heart_rate(Some(&rate), at(94)),
            "72 bpm (from ECG, clock wrong)",
            "the time is in the future"
        );
        rate.clock_wrong = true;
        assert_eq!(age_of(rate.time(at(110)), at(110)), "clock wrong");
    }

    #[test]
    fn ages_are_in_one_unit() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000).unwrap();
        assert_eq!(age(at(0), at(-5)), "0 s", "in the future");
        assert_eq!(age(at(0), at(119)), "119 s");
        assert_eq!(age(at(0), at(120)), "2 min");
        assert_eq!(age(at(0), at(3 * 3600)), "3 h");
        assert_eq!(age(at(0), at(3 * 86_400)), "3 d");
    }
}
