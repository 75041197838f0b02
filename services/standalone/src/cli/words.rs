//! How values are put into words on a terminal.

use client::ServerTime;
use proto_json::{
    CLOCK_TOLERANCE_MS, EcgAnalysis, EcgQuality, EcgRecord, EcgStatus, HeartRateSource, LatestEcg,
    LatestHeartRate, Timestamp, ValueTime,
};

/// Text of others, without anything that could command a terminal or mislead its reader.
pub(super) fn plain(text: &str) -> String {
    let misleads = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if misleads(c) { '\u{fffd}' } else { c }).collect()
}

/// At most `width` characters; what is cut ends in an ellipsis.
pub(super) fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// What is wrong with the clock of the server or of this computer, if anything is known to be. Ages are by the server's.
pub(super) fn clock_warning(time: &ServerTime) -> Option<String> {
    if let Some(problem) = time.problem() {
        return Some(format!("warning: {}", plain(&problem)));
    }
    let ahead = time.ahead_of_computer_ms()?;
    (ahead.abs() > CLOCK_TOLERANCE_MS).then(|| {
        let off = length(ahead.abs() / 1000);
        let where_to = if ahead > 0 { "behind" } else { "ahead of" };
        format!(
            "warning: this computer's clock is {off} {where_to} the server's; ages are by the server's clock"
        )
    })
}

/// How long ago, in the largest unit that says enough.
pub(super) fn age(since: Timestamp, now: Timestamp) -> String {
    length(now.millis_since(since).max(0) / 1000)
}

fn length(seconds: i64) -> String {
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

pub(super) fn source(source: HeartRateSource) -> &'static str {
    match source {
        HeartRateSource::Reported => "reported",
        HeartRateSource::Ecg => "from ECG",
    }
}

/// As in `72 bpm (from ECG, 3 s ago)`.
pub(super) fn heart_rate(rate: Option<&LatestHeartRate>, now: Timestamp) -> String {
    let Some(rate) = rate else { return "no heart rate".to_owned() };
    let when = match rate.time(now) {
        ValueTime::Recorded(at) => format!("{} ago", age(at, now)),
        ValueTime::Received(at) => format!("received {} ago", age(at, now)),
        ValueTime::ClockWrong => "clock wrong".to_owned(),
    };
    format!("{} bpm ({}, {when})", rate.bpm, source(rate.source))
}

/// How long ago a value was recorded, or received, in a column of a table.
pub(super) fn age_of(time: ValueTime, now: Timestamp) -> String {
    match time {
        ValueTime::Recorded(at) => age(at, now),
        ValueTime::Received(at) => format!("received {}", age(at, now)),
        ValueTime::ClockWrong => "clock wrong".to_owned(),
    }
}

/// As in `analysed, quality good`.
pub(super) fn ecg(ecg: Option<&LatestEcg>) -> String {
    let Some(ecg) = ecg else { return "no ECG".to_owned() };
    match (ecg.status, ecg.quality) {
        (EcgStatus::Pending, _) => "ECG being analysed".to_owned(),
        (EcgStatus::Failed, _) => "ECG unreadable".to_owned(),
        (EcgStatus::Picture, _) => "ECG is a picture".to_owned(),
        (EcgStatus::Analyzed, Some(found)) => format!("ECG quality {}", quality(found)),
        (EcgStatus::Analyzed, None) => "ECG analysed".to_owned(),
    }
}

/// What was found in an ECG, a line each; the first says the most.
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
        (None, None) => lines.push(format!("{name}: nothing was found")),
    }
    lines
}

fn result(analysis: &EcgAnalysis) -> String {
    let strip = format!(
        "quality {}, {} beats in {:.1} s",
        quality(analysis.quality),
        analysis.beat_count,
        analysis.duration_s
    );
    match (&analysis.heart_rate, &analysis.no_heart_rate_reason) {
        (Some(rate), _) => format!(
            "heart rate {:.0} bpm ({:.0} to {:.0}), {strip}",
            rate.mean_bpm, rate.min_bpm, rate.max_bpm
        ),
        (None, Some(reason)) => format!("no heart rate: {} ({strip})", plain(reason)),
        (None, None) => format!("no heart rate ({strip})"),
    }
}

/// As in `1.5 MB`.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..=999 => format!("{count} B"),
        1_000..=999_999 => format!("{:.1} KB", count as f64 / 1e3),
        1_000_000..=999_999_999 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.2} GB", count as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_command_a_terminal() {
        assert_eq!(plain("A\u{1b}[2Jn\nn\u{202e}é"), "A\u{fffd}[2Jn\u{fffd}n\u{fffd}é");
        assert_eq!(fit("Ann", 3), "Ann");
        assert_eq!(fit("Annabel", 4), "Ann…");
    }

    #[test]
    fn heart_rate_says_whether_its_time_is_that_of_its_recording_of_its_receipt_or_wrong() {
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
            "it is from the future"
        );
        rate.clock_wrong = true;
        assert_eq!(age_of(rate.time(at(110)), at(110)), "clock wrong");
    }

    #[test]
    fn ages_and_sizes_are_in_units_people_use() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000).unwrap();
        assert_eq!(age(at(0), at(-5)), "0 s", "clocks differ");
        assert_eq!(age(at(0), at(119)), "119 s");
        assert_eq!(age(at(0), at(120)), "2 min");
        assert_eq!(age(at(0), at(3 * 3600)), "3 h");
        assert_eq!(age(at(0), at(3 * 86_400)), "3 d");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(430_000_000), "430.0 MB");
    }
}
