//! Formatting of numbers, sizes, times and texts for the screen. Both apps use this module for everything that they show.
//!
//! The result does not depend on the locale, so that clinical numbers look the same on every machine. Times are local.

mod time;

pub use time::{
    age, date_time, date_time_zone, duration, minute_or_date, parse_time, time_of_day, time_or_date,
};

/// A heart rate in whole beats per minute, without the unit. A dash if there is none.
#[must_use]
pub fn bpm(rate: Option<f64>) -> String {
    match rate {
        Some(rate) if rate.is_finite() && rate >= 0.0 => format!("{rate:.0}"),
        _ => "–".to_owned(),
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

/// A number with its noun in the singular or plural: `1 file`, `3 files`, `12,000 rows`.
#[must_use]
pub fn count(number: u64, singular: &str, plural: &str) -> String {
    if number == 1 { format!("1 {singular}") } else { format!("{} {plural}", grouped(number)) }
}

/// A whole number with its digits in groups of three: `30,000,000`.
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

/// A text of at most `max_chars` characters. A longer text loses its middle, because names often differ at the beginning or at
/// the end.
#[must_use]
pub fn elided(text: &str, max_chars: usize) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= max_chars {
        return text.to_owned();
    }
    let kept = max_chars.saturating_sub(1);
    let start = kept.div_ceil(2);
    let end = letters.len() - (kept - start);
    letters[..start].iter().chain(['…'].iter()).chain(&letters[end..]).collect()
}

/// A text as a sentence: with a capital letter at the start and a full stop at the end.
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
    fn numbers_and_sizes_have_one_format() {
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
        assert_eq!(elided("thorax.png", 10), "thorax.png");
        assert_eq!(elided("thorax-2026-11-28.png", 12), "thorax…8.png");
        assert_eq!(elided("Ångström-äöü.csv", 9), "Ångs….csv");
        assert_eq!(elided("abc", 0), "…");
    }

    #[test]
    fn sentence_has_a_capital_letter_and_a_full_stop() {
        assert_eq!(sentence("the gateway is closed"), "The gateway is closed.");
        assert_eq!(sentence(" Done! "), "Done!");
        assert_eq!(sentence(""), "");
    }
}
