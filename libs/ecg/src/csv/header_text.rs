//! Interpretation of header and comment text: time columns, units, sampling rates.

use crate::units::VoltageUnit;

/// Unit of a time column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeUnit {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
    /// The column counts samples; the rate must be known from elsewhere.
    Samples,
}

impl TimeUnit {
    pub(super) fn per_second(self) -> Option<f64> {
        match self {
            TimeUnit::Seconds => Some(1.0),
            TimeUnit::Milliseconds => Some(1e3),
            TimeUnit::Microseconds => Some(1e6),
            TimeUnit::Nanoseconds => Some(1e9),
            TimeUnit::Samples => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            TimeUnit::Seconds => "seconds",
            TimeUnit::Milliseconds => "milliseconds",
            TimeUnit::Microseconds => "microseconds",
            TimeUnit::Nanoseconds => "nanoseconds",
            TimeUnit::Samples => "samples",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "s" | "sec" | "secs" | "second" | "seconds" | "sek" | "sekunden" => TimeUnit::Seconds,
            "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => TimeUnit::Milliseconds,
            "us" | "usec" | "µs" | "micros" | "microsecond" | "microseconds" => TimeUnit::Microseconds,
            "ns" | "nsec" | "nanosecond" | "nanoseconds" => TimeUnit::Nanoseconds,
            "sample" | "samples" => TimeUnit::Samples,
            _ => return None,
        })
    }
}

/// Decodes a header cell. Bytes that are not UTF-8 are read as Latin-1, in which `µ` is 0xB5.
pub(super) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.trim().to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect::<String>().trim().to_owned(),
    }
}

/// Splits a cell into lower-case words. Both micro signs become one.
fn words(cell: &str) -> Vec<String> {
    cell.to_lowercase()
        .replace('\u{3bc}', "µ")
        .split(|letter: char| !letter.is_alphanumeric() && letter != 'µ')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Returns whether a column of this name contains times, and its unit if the name states it.
pub(super) fn time_column(cell: &str) -> Option<Option<TimeUnit>> {
    let words = words(cell);
    let unit = words.iter().find_map(|word| TimeUnit::from_word(word));
    let first = words.first()?.as_str();
    let is_time = matches!(
        first,
        "time"
            | "times"
            | "t"
            | "zeit"
            | "temps"
            | "tiempo"
            | "tempo"
            | "tempi"
            | "timestamp"
            | "timestamps"
            | "datetime"
            | "elapsed"
            | "clock"
            | "utc"
            | "uhrzeit"
    ) || words.iter().any(|word| matches!(word.as_str(), "time" | "timestamp" | "hh" | "zeit"))
        || (words.len() <= 2 && TimeUnit::from_word(first).is_some() && !is_voltage(cell));
    is_time.then_some(unit)
}

/// Whether a column of this name contains row numbers.
pub(super) fn counts_rows(cell: &str) -> bool {
    let words = words(cell);
    words.is_empty()
        || (words.len() <= 2
            && matches!(
                words[0].as_str(),
                "index" | "row" | "rows" | "nr" | "no" | "id" | "n" | "unnamed" | "line"
            ))
}

fn is_voltage(cell: &str) -> bool {
    voltage_unit(cell, true).is_some()
}

/// The voltage unit in a header cell such as `voltage (mV)`, `V5_uV` or, in a row of units, `mV`.
///
/// A lone `V` is often a name, so it means volts only in a row of units or after a bracket or a slash.
pub(super) fn voltage_unit(cell: &str, row_of_units: bool) -> Option<VoltageUnit> {
    let words = words(cell);
    let found = words.iter().find_map(|word| match word.as_str() {
        "mv" | "millivolt" | "millivolts" => Some(VoltageUnit::Millivolt),
        "uv" | "µv" | "microvolt" | "microvolts" => Some(VoltageUnit::Microvolt),
        "nv" | "nanovolt" | "nanovolts" => Some(VoltageUnit::Nanovolt),
        "volt" | "volts" => Some(VoltageUnit::Volt),
        _ => None,
    });
    let volt = || {
        let last = words.last().is_some_and(|word| word == "v");
        let marked =
            ["(v)", "[v]", "/v", "_v", "/ v", ", v"].iter().any(|mark| cell.to_lowercase().ends_with(mark));
        (last && (marked || row_of_units && words.len() == 1)).then_some(VoltageUnit::Volt)
    };
    found.or_else(volt)
}

/// The unit of a time column from a cell in a row of units, such as `ms` or `hh:mm:ss.mmm`.
pub(super) fn time_unit(cell: &str) -> Option<TimeUnit> {
    words(cell).iter().find_map(|word| TimeUnit::from_word(word))
}

/// Whether a cell contains only a unit, as in the second line of a header.
pub(super) fn is_unit(cell: &str) -> bool {
    let words = words(cell);
    let clock = words.first().is_some_and(|word| word == "hh" || word == "mm");
    clock
        || (words.len() == 1
            && (TimeUnit::from_word(&words[0]).is_some()
                || voltage_unit(cell, true).is_some()
                || words[0] == "nu"))
}

/// The sampling rate in a line such as `# Sample rate: 360 Hz`, `fs=250` or `Sample Rate,512 hertz`.
pub(super) fn sample_rate(line: &str) -> Option<f64> {
    let lower = line.to_lowercase();
    let words = words(&lower);
    let says_rate = (lower.contains("sampl")
        && ["rate", "freq", "hz", "hertz"].iter().any(|word| lower.contains(word)))
        || words.iter().any(|word| matches!(word.as_str(), "fs" | "sfreq" | "samplerate" | "samplingrate"));
    if !says_rate {
        return None;
    }
    let start = lower.find(|letter: char| letter.is_ascii_digit())?;
    let tail = lower.get(start..)?;
    let (value, used) = super::number::prefix(tail.as_bytes(), b'.')?;
    let unit = tail.get(used..).unwrap_or_default().trim_start();
    let rate = if unit.starts_with("khz") { value * 1000.0 } else { value };
    (super::MIN_RATE_HZ..=super::MAX_RATE_HZ).contains(&rate).then_some(rate)
}

/// The value of `key` in a line such as `Lead,Lead I` or `Unit: µV`.
pub(super) fn value_of<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let line = line.trim_start_matches(['#', '%', '/', ' ', '"']);
    let (head, tail) = line.split_once([',', ':', ';', '=', '\t'])?;
    let head = head.trim().trim_end_matches('"').to_lowercase();
    let value = tail.trim().trim_matches('"').trim();
    (head == key && !value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_units_in_every_common_shape() {
        for (cell, unit) in [
            ("voltage (mV)", Some(VoltageUnit::Millivolt)),
            ("V5_uV", Some(VoltageUnit::Microvolt)),
            ("ECG [\u{3bc}V]", Some(VoltageUnit::Microvolt)),
            ("ECG / µV", Some(VoltageUnit::Microvolt)),
            ("signal (V)", Some(VoltageUnit::Volt)),
            ("Volts", Some(VoltageUnit::Volt)),
            ("V", None),
            ("V5", None),
            ("aVF", None),
            ("voltage", None),
        ] {
            assert_eq!(voltage_unit(cell, false), unit, "{cell}");
        }
        assert_eq!(voltage_unit("V", true), Some(VoltageUnit::Volt));
        assert_eq!(voltage_unit(&text(b"Spannung (\xb5V)"), false), Some(VoltageUnit::Microvolt));
    }

    #[test]
    fn headers_name_times_in_every_common_shape() {
        for (cell, unit) in [
            ("time", Some(None)),
            ("Time (ms)", Some(Some(TimeUnit::Milliseconds))),
            ("t_s", Some(Some(TimeUnit::Seconds))),
            ("sec", Some(Some(TimeUnit::Seconds))),
            ("sample #", Some(Some(TimeUnit::Samples))),
            ("Elapsed time", Some(None)),
            ("MLII", None),
            ("V5_uV", None),
            ("ecg", None),
        ] {
            assert_eq!(time_column(cell), unit, "{cell}");
        }
    }

    #[test]
    fn comments_give_the_sampling_rate() {
        assert_eq!(sample_rate("# Sample rate: 360 Hz"), Some(360.0));
        assert_eq!(sample_rate("fs=250"), Some(250.0));
        assert_eq!(sample_rate("Sample Rate,512 hertz"), Some(512.0));
        assert_eq!(sample_rate("% sampling frequency 1 kHz"), Some(1000.0));
        assert_eq!(sample_rate("# 50 Hz notch filter"), None);
        assert_eq!(sample_rate("# heart rate 72"), None);
        assert_eq!(value_of("Unit,\u{b5}V", "unit"), Some("\u{b5}V"));
        assert_eq!(value_of("# Lead: \"V5\"", "lead"), Some("V5"));
    }
}
