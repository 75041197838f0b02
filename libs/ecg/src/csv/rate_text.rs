//! The sampling rate in header and comment text, such as `Low-pass 150 Hz, sampled at 500 Hz`.
//!
//! A line may contain several frequencies. Each number belongs to the keyword before it in its clause, else to
//! the keyword after it in its clause, else to the last keyword before the clause. Only a number that belongs
//! to a word of sampling is a rate.

use super::header_text::TimeUnit;
use super::{MAX_RATE_HZ, MIN_RATE_HZ};

/// Beginnings of words of sampling, in the languages of the exporters.
const SAMPLING: &str = "sampl sfreq abtast messrate messfrequenz amostr muestr chantillon campion bemonster digitized \
     digitised サンプル 采样";
/// Beginnings of words of other frequencies and counts.
const OTHER: &str = "filter filt lowpass highpass bandpass pass notch cutoff cut mains power line hum band tief hoch netz \
     heart herz gain resol duration version display";

/// A number in a line, as both its readings.
struct Number {
    /// Without a decimal comma, `511,562` is 511562.
    value: f64,
    /// With a decimal comma, `511,562` is 511.562.
    with_comma: Option<f64>,
    unit: Unit,
}

#[derive(Clone, Copy, PartialEq)]
enum Unit {
    None,
    Hertz(f64),
    /// Seconds per unit of a sampling interval.
    Interval(f64),
    Other,
}

#[derive(Clone, Copy, PartialEq)]
enum Keyword {
    Sampling,
    Other,
}

enum Token {
    Number(Number),
    Keyword(Keyword),
    ClauseEnd,
}

/// The sampling rate that a line states.
pub(super) fn sample_rate(line: &str) -> Option<f64> {
    let line = line.to_lowercase().replace(['\u{a0}', '\u{202f}'], " ");
    let tokens = tokens(&line);
    let says_rate = ["rate", "freq", "fréqu", "taxa", "tasa"].iter().any(|word| line.contains(word))
        || line.split(|letter: char| !letter.is_alphanumeric()).any(|word| word.starts_with("fs"));
    let says_interval =
        ["interval", "period", "/sample", "per sample"].iter().any(|word| line.contains(word));
    let mut unmarked = None;
    for (index, token) in tokens.iter().enumerate() {
        let Token::Number(number) = token else { continue };
        if !matches!(keyword_of(&tokens, index), Some(Keyword::Sampling)) {
            continue;
        }
        match number.unit {
            Unit::Hertz(factor) => {
                if let Some(rate) = number.plausible(|value| value * factor) {
                    return Some(rate);
                }
            }
            Unit::Interval(seconds) if says_interval => {
                if let Some(rate) = number.plausible(|value| 1.0 / (value * seconds)) {
                    return Some(rate);
                }
            }
            Unit::None if says_rate || line.contains("hz") || line.contains("hertz") => {
                unmarked = unmarked.or_else(|| number.plausible(|value| value));
            }
            _ => {}
        }
    }
    unmarked
}

/// The rate of a setting whose key is in an unknown language: its value is only a frequency, and its key
/// names no other frequency.
pub(super) fn frequency_setting(line: &str) -> Option<f64> {
    /// Below it, a setting may be the frequency of the mains or of a filter.
    const MIN_UNNAMED_HZ: f64 = 100.0;
    let (key, value) = super::header_text::setting(line)?;
    let value = value.to_lowercase().replace(['\u{a0}', '\u{202f}'], " ");
    let key = tokens(&key.to_lowercase());
    if !matches!(key.as_slice(), [] | [Token::Keyword(Keyword::Sampling)]) {
        return None;
    }
    match tokens(&value).as_slice() {
        [Token::Number(number @ Number { unit: Unit::Hertz(factor), .. })]
            if value.starts_with(|letter: char| letter.is_ascii_digit()) =>
        {
            number.plausible(|value| value * factor).filter(|rate| *rate >= MIN_UNNAMED_HZ)
        }
        _ => None,
    }
}

impl Number {
    /// The reading that gives a plausible rate.
    fn plausible(&self, rate_of: impl Fn(f64) -> f64) -> Option<f64> {
        [Some(self.value), self.with_comma]
            .into_iter()
            .flatten()
            .map(rate_of)
            .find(|rate| (MIN_RATE_HZ..=MAX_RATE_HZ).contains(rate))
    }
}

/// The keyword that the number at `index` belongs to.
fn keyword_of(tokens: &[Token], index: usize) -> Option<Keyword> {
    let is_end = |token: &&Token| matches!(token, Token::ClauseEnd);
    let keyword = |token: &Token| match token {
        Token::Keyword(keyword) => Some(*keyword),
        _ => None,
    };
    let (before, after) = (tokens.get(..index)?, tokens.get(index + 1..)?);
    before
        .iter()
        .rev()
        .take_while(|token| !is_end(token))
        .find_map(keyword)
        .or_else(|| after.iter().take_while(|token| !is_end(token)).find_map(keyword))
        .or_else(|| before.iter().rev().find_map(keyword))
}

fn tokens(line: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = line;
    while let Some(letter) = rest.chars().next() {
        if letter.is_ascii_digit() {
            let (number, after) = number(rest);
            // `samples per second` and `Hz` after a number are its unit, not a keyword.
            tokens.push(Token::Number(number));
            rest = after;
        } else if letter.is_alphabetic() {
            let end = rest.find(|letter: char| !letter.is_alphabetic()).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after;
            // A digit that belongs to a word, as in `lead2`, is no number.
            if rest.starts_with(|letter: char| letter.is_ascii_digit())
                && word.is_ascii()
                && !is_sampling(word)
            {
                rest = rest.trim_start_matches(|letter: char| letter.is_alphanumeric());
            }
            if is_sampling(word) {
                tokens.push(Token::Keyword(Keyword::Sampling));
            } else if OTHER.split(' ').any(|start| word.starts_with(start)) || word.ends_with("filter") {
                tokens.push(Token::Keyword(Keyword::Other));
            }
        } else {
            if matches!(letter, ',' | ';' | '(' | ')' | '[' | ']' | '|') {
                tokens.push(Token::ClauseEnd);
            }
            rest = rest.get(letter.len_utf8()..).unwrap_or_default();
        }
    }
    tokens
}

fn is_sampling(word: &str) -> bool {
    word == "fs" || SAMPLING.split(' ').any(|start| word.contains(start))
}

/// The number at the start of `text` with its unit, and the text after both.
fn number(text: &str) -> (Number, &str) {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(0);
    let mut end = whole;
    let mut has_comma = false;
    if let Some(b'.' | b',') = bytes.get(end)
        && digits(end + 1) > 0
    {
        has_comma = bytes.get(end) == Some(&b',');
        end += 1 + digits(end + 1);
    }
    let (written, mut rest) = text.split_at(end);
    let parse = |text: String| text.parse::<f64>().unwrap_or(f64::NAN);
    let with_comma = has_comma.then(|| parse(written.replace(',', ".")));
    // Only three digits are a group of thousands.
    let value = match with_comma {
        Some(value) if end - whole != 4 => value,
        _ => parse(written.replace(',', "")),
    };
    rest = rest.trim_start_matches(' ');
    let word_end = rest.find(|letter: char| !letter.is_alphabetic()).unwrap_or(rest.len());
    let (word, after) = rest.split_at(word_end);
    let unit = match word {
        "hz" | "hertz" | "hercios" | "sps" | "ヘルツ" | "赫兹" | "герц" | "гц" => Unit::Hertz(1.0),
        "khz" | "kilohertz" | "ksps" => Unit::Hertz(1000.0),
        // `250 samples/s` and `250 samples per second`, but not `5000 samples`.
        "samples" | "sample" | "s" | "abtastungen"
            if after.starts_with("/s") || after.trim_start().starts_with("per s") =>
        {
            return (
                Number { value, with_comma, unit: Unit::Hertz(1.0) },
                // The word of sampling remains, so that the number belongs to it.
                if word == "s" { after } else { rest },
            );
        }
        "" => Unit::None,
        _ => match TimeUnit::from_word(word).and_then(TimeUnit::per_second) {
            Some(per_second) => Unit::Interval(1.0 / per_second),
            None => Unit::Other,
        },
    };
    let is_unit = !matches!(unit, Unit::None | Unit::Other);
    (Number { value, with_comma, unit }, if is_unit { after } else { rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_rate_is_distinguished_from_other_frequencies() {
        for (line, rate) in [
            ("# Sample rate: 360 Hz", Some(360.0)),
            ("fs=250", Some(250.0)),
            ("Sample Rate,512 hertz", Some(512.0)),
            ("Sample Rate,512.844 hertz", Some(512.844)),
            ("% sampling frequency 1 kHz", Some(1000.0)),
            ("# sampling rate 1,000 Hz", Some(1000.0)),
            ("# Low-pass 150 Hz, sampled at 500 Hz", Some(500.0)),
            ("# 500 Hz sampling, 150 Hz low-pass", Some(500.0)),
            ("# low-pass filtered at 150 Hz and sampled at 500 Hz", Some(500.0)),
            ("# sampled at 500 Hz with a 150 Hz low-pass", Some(500.0)),
            ("# Filter: 0.05-150 Hz; sampling rate 500 Hz", Some(500.0)),
            ("# band 0.5-150 Hz (sampling 500 Hz)", Some(500.0)),
            ("# notch 50 Hz, fs 250", Some(250.0)),
            ("# mains 60 Hz; Fs = 1000 Hz", Some(1000.0)),
            ("Sampling rate [Hz]: 500", Some(500.0)),
            ("Sample Rate (Hz),250", Some(250.0)),
            ("Messrate,511,562\u{a0}Hertz", Some(511.562)),
            ("Abtastrate,512 Hertz", Some(512.0)),
            ("Taxa de amostragem,512 hertz", Some(512.0)),
            ("Frequência de Amostragem,511,9 hertz", Some(511.9)),
            ("Frecuencia de muestreo,512 hercios", Some(512.0)),
            ("Fréquence d’échantillonnage,512 hertz", Some(512.0)),
            ("サンプルレート,512ヘルツ", Some(512.0)),
            ("# 250 samples per second", Some(250.0)),
            ("# 250 samples/s, 12 bit", Some(250.0)),
            ("1 msec/sample", Some(1000.0)),
            ("# sampling interval: 4 ms", Some(250.0)),
            ("Sampling period = 0.002 s", Some(500.0)),
            ("# 50 Hz notch filter", None),
            ("# low-pass 150 Hz", None),
            ("# heart rate 72", None),
            ("# sampled by hand, heart rate 72", None),
            ("Samples: 15360", None),
            ("# sampled for 300 s", None),
            ("Software Version,1.90", None),
            ("Device,\"Watch6,7\"", None),
        ] {
            assert_eq!(sample_rate(line), rate, "{line}");
        }
    }

    #[test]
    fn frequency_in_a_setting_of_an_unknown_language_is_a_rate() {
        assert_eq!(frequency_setting("Näytteenottotaajuus,512 hertz"), Some(512.0));
        assert_eq!(frequency_setting("Частота,511,9 Гц"), Some(511.9));
        for line in [
            "Mains frequency,150 Hz",
            "Notch: 50 Hz",
            "Taajuus,50 Hz",
            "Filter,150 Hz",
            "Puls,72 bpm",
            "# 150 Hz",
        ] {
            assert_eq!(frequency_setting(line), None, "{line}");
        }
    }
}
