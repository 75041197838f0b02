//! Numbers, times and sizes in words. Slint would write numbers by the locale of the machine; clinical numbers look the
//! same everywhere.

use proto_json::Timestamp;

/// A heart rate as people say it: whole beats per minute; a dash where there is none.
#[must_use]
pub fn bpm(rate: Option<f64>) -> String {
    match rate {
        Some(rate) if rate.is_finite() && rate >= 0.0 => format!("{rate:.0}"),
        _ => "–".to_owned(),
    }
}

/// How old something is: `now`, `42 s`, `7 min`, `3 h 05 min`, `2 d`. A clock that is ahead counts as now.
#[must_use]
pub fn age(millis: i64) -> String {
    let seconds = millis / 1000;
    match seconds {
        ..1 => "now".to_owned(),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {:02} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long something lasts: `9.8 s`, `5 min 20 s`, `24 h 00 min`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".to_owned();
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    if whole < 3_600 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", whole / 3_600, whole / 60 % 60)
    }
}

/// A size: `812 B`, `25 kB`, `1.4 MB`, `2.05 GB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    let count_f = count as f64;
    match count {
        0..1_000 => format!("{count} B"),
        1_000..999_500 => format!("{:.0} kB", count_f / 1e3),
        999_500..999_950_000 => format!("{:.1} MB", count_f / 1e6),
        _ => format!("{:.2} GB", count_f / 1e9),
    }
}

/// A number with its noun: `1 file`, `3 files`, `12,000 rows`.
#[must_use]
pub fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {many}", grouped(number)) }
}

/// A whole number in groups of three: `30,000,000`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Time of day on this machine: `14:03:22`.
#[must_use]
pub fn clock(at: Timestamp) -> String {
    let full = at.local_seconds();
    full.split_once(' ').map_or(full.clone(), |(_, time)| time.to_owned())
}

/// Date and time on this machine: `2026-03-14 14:03:22`.
#[must_use]
pub fn date_time(at: Timestamp) -> String {
    at.local_seconds()
}

/// Time of day, with the date if that is not the day of `now`.
#[must_use]
pub fn clock_or_date(at: Timestamp, now: Timestamp) -> String {
    let (full, today) = (at.local_seconds(), now.local_seconds());
    match (full.split_once(' '), today.split_once(' ')) {
        (Some((day, time)), Some((this_day, _))) if day == this_day => time.to_owned(),
        _ => full,
    }
}

/// Hour and minute on this machine: `14:03`; the date if that is not the day of `now`.
#[must_use]
pub fn minute_or_day(at: Timestamp, now: Timestamp) -> String {
    let full = clock_or_date(at, now);
    match full.split_once(' ') {
        Some((day, _)) => day.to_owned(),
        None => full.rsplit_once(':').map_or(full.clone(), |(minute, _)| minute.to_owned()),
    }
}

/// A text of at most `most` characters: a longer one loses its middle, so that its beginning and its ending can be told apart
/// from others.
#[must_use]
pub fn shortened(text: &str, most: usize) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= most {
        return text.to_owned();
    }
    let kept = most.saturating_sub(1);
    let start = kept.div_ceil(2);
    let end = letters.len() - (kept - start);
    letters[..start].iter().chain(['…'].iter()).chain(&letters[end..]).collect()
}

/// The same as a sentence: a capital at the start, a full stop at the end.
#[must_use]
pub fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut letters = text.chars();
    let Some(first) = letters.next() else { return String::new() };
    let mut sentence: String = first.to_uppercase().chain(letters).collect();
    if !sentence.ends_with(['.', '!', '?', '…']) {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_lengths_read_as_people_say_them() {
        let ages = [-5, 0, 999, 1000, 59_999, 60_000, 3_599_999, 11_100_000, 86_400_000].map(age);
        assert_eq!(ages, ["now", "now", "now", "1 s", "59 s", "1 min", "59 min", "3 h 05 min", "1 d"]);
        assert_eq!(
            [9.8, 59.94, 59.96, 320.0, 86_400.0].map(duration),
            ["9.8 s", "59.9 s", "1 min 00 s", "5 min 20 s", "24 h 00 min"]
        );
        assert_eq!(duration(f64::NAN), "–");
    }

    #[test]
    fn minute_is_shown_for_today_and_date_for_other_days() {
        let now = Timestamp::now();
        assert_eq!(minute_or_day(now, now), clock(now)[..5]);
        assert_eq!(minute_or_day(now.plus_millis(-3 * 86_400_000), now).len(), "2026-03-14".len());
    }

    #[test]
    fn numbers_and_sizes_are_written_alike_everywhere() {
        assert_eq!(
            [0, 999, 25_400, 999_499, 999_500, 2_054_000_000].map(bytes),
            ["0 B", "999 B", "25 kB", "999 kB", "1.0 MB", "2.05 GB"]
        );
        assert_eq!([0, 12, 999, 1_000, 30_000_000].map(grouped), ["0", "12", "999", "1,000", "30,000,000"]);
        assert_eq!(count(1, "file", "files"), "1 file");
        assert_eq!(count(0, "file", "files"), "0 files");
        assert_eq!((bpm(Some(71.5)), bpm(Some(f64::NAN)), bpm(None)), ("72".into(), "–".into(), "–".into()));
    }

    #[test]
    fn long_text_loses_its_middle() {
        assert_eq!(shortened("thorax.png", 10), "thorax.png");
        assert_eq!(shortened("thorax-2026-11-28.png", 12), "thorax…8.png");
        assert_eq!(shortened("Ångström-äöü.csv", 9), "Ångs….csv");
        assert_eq!(shortened("abc", 0), "…");
    }

    #[test]
    fn a_sentence_starts_large_and_ends() {
        assert_eq!(sentence("the gateway is gone"), "The gateway is gone.");
        assert_eq!(sentence(" Done! "), "Done!");
        assert_eq!(sentence(""), "");
    }
}
