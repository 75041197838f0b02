//! Interpretation of header cells: time columns and units.

use crate::leads::{is_other_unit, words};
use crate::units::VoltageUnit;

/// Unit of a time column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeUnit {
    /// Days since some date, as spreadsheet programs count them.
    Days,
    Hours,
    Minutes,
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
            TimeUnit::Days => Some(1.0 / 86_400.0),
            TimeUnit::Hours => Some(1.0 / 3600.0),
            TimeUnit::Minutes => Some(1.0 / 60.0),
            TimeUnit::Seconds => Some(1.0),
            TimeUnit::Milliseconds => Some(1e3),
            TimeUnit::Microseconds => Some(1e6),
            TimeUnit::Nanoseconds => Some(1e9),
            TimeUnit::Samples => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            TimeUnit::Days => "days",
            TimeUnit::Hours => "hours",
            TimeUnit::Minutes => "minutes",
            TimeUnit::Seconds => "seconds",
            TimeUnit::Milliseconds => "milliseconds",
            TimeUnit::Microseconds => "microseconds",
            TimeUnit::Nanoseconds => "nanoseconds",
            TimeUnit::Samples => "samples",
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "day" | "days" | "tage" => TimeUnit::Days,
            "h" | "hr" | "hrs" | "hour" | "hours" | "stunden" => TimeUnit::Hours,
            "min" | "mins" | "minute" | "minutes" | "minuten" | "minutos" => TimeUnit::Minutes,
            "s" | "sec" | "secs" | "second" | "seconds" | "sek" | "sekunden" | "segundos" | "secondes" => {
                TimeUnit::Seconds
            }
            "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" | "millisekunden" => {
                TimeUnit::Milliseconds
            }
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

/// Returns whether a column of this name contains times, and its unit if the name states it.
pub(super) fn time_column(cell: &str) -> Option<Option<TimeUnit>> {
    let words = words(cell);
    let first = words.first()?.as_str();
    let unit = words.iter().find_map(|word| TimeUnit::from_word(word));
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
        || (words.len() <= 2
            && TimeUnit::from_word(first).is_some()
            // Alone, it is a heart rate.
            && first != "hr"
            && !is_voltage(cell)
            && words.get(1).is_none_or(|word| !is_rate_word(word)));
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

/// `min HR` and `sample rate` are no times.
fn is_rate_word(word: &str) -> bool {
    matches!(word, "hr" | "rate" | "freq" | "frequency" | "value" | "values")
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
        || matches!(cell.to_lowercase().as_str(), "no units" | "unitless" | "a.u." | "-")
        || is_other_unit(cell)
        || (words.len() == 1
            && (TimeUnit::from_word(&words[0]).is_some()
                || voltage_unit(cell, true).is_some()
                || words[0] == "nu"))
}

/// The value of a setting with one of these keys, in a line such as `Lead,Lead I` or `Unit: µV`.
pub(super) fn value_of<'a>(line: &'a str, keys: &[&str]) -> Option<&'a str> {
    let (head, value) = setting(line)?;
    let head = head.to_lowercase();
    (keys.contains(&head.as_str()) && !value.is_empty()).then_some(value)
}

/// Key and value of a setting such as `Lead,Lead I` or `# Unit: µV`.
pub(super) fn setting(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start_matches(['#', '%', '/', ' ', '"']);
    let (head, tail) = line.split_once([',', ':', ';', '=', '\t'])?;
    Some((
        head.trim().trim_end_matches('"'),
        tail.trim().trim_matches('"').trim_end_matches([';', ',']).trim(),
    ))
}

/// Keys that name the unit of the voltages.
pub(super) const UNIT_KEYS: [&str; 10] =
    ["unit", "units", "einheit", "unidade", "unidad", "unité", "unità", "eenheid", "単位", "单位"];
/// Keys that name the lead.
pub(super) const LEAD_KEYS: [&str; 11] = [
    "lead",
    "channel",
    "ableitung",
    "derivação",
    "derivacao",
    "derivación",
    "dérivation",
    "derivazione",
    "afleiding",
    "リード",
    "导联",
];

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
            ("Time (min)", Some(Some(TimeUnit::Minutes))),
            ("t [h]", Some(Some(TimeUnit::Hours))),
            ("minutes", Some(Some(TimeUnit::Minutes))),
            ("HR", None),
            ("hr (bpm)", None),
            ("min HR", None),
            ("MLII", None),
            ("V5_uV", None),
            ("ecg", None),
        ] {
            assert_eq!(time_column(cell), unit, "{cell}");
        }
    }

    #[test]
    fn settings_are_read_in_the_languages_of_the_exporters() {
        assert_eq!(value_of("Unit,\u{b5}V", &UNIT_KEYS), Some("\u{b5}V"));
        assert_eq!(value_of("Einheit,\u{b5}V", &UNIT_KEYS), Some("\u{b5}V"));
        assert_eq!(value_of("# Lead: \"V5\"", &LEAD_KEYS), Some("V5"));
        assert_eq!(value_of("Ableitung,Ableitung I", &LEAD_KEYS), Some("Ableitung I"));
        assert_eq!(value_of("Unit", &UNIT_KEYS), None);
    }
}
