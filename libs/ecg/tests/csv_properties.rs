//! Properties of the text reader: the result does not depend on the order of the columns, the punctuation or the
//! ends of the lines.

use ecg::csv::Options;
use ecg::synth::{self, Settings};
use proptest::prelude::*;

/// How a file is written.
#[derive(Debug, Clone)]
struct Dialect {
    delimiter: &'static str,
    decimal_comma: bool,
    line_end: &'static str,
    byte_order_mark: bool,
    quoted: bool,
    trailing_delimiter: bool,
    unicode_minus: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Column {
    Time,
    /// Name, and factor of the signal.
    Lead(&'static str, f64),
    Other(&'static str),
}

fn dialects() -> impl Strategy<Value = Dialect> {
    let delimiter =
        prop_oneof![Just(","), Just(";"), Just("\t"), Just("|"), Just(" "), Just(", "), Just("; ")];
    let line_end = prop_oneof![Just("\n"), Just("\r\n"), Just("\r")];
    (delimiter, line_end, any::<[bool; 5]>()).prop_map(
        |(
            delimiter,
            line_end,
            [decimal_comma, byte_order_mark, quoted, trailing_delimiter, unicode_minus],
        )| Dialect {
            delimiter,
            // A comma cannot be delimiter and decimal sign at once.
            decimal_comma: decimal_comma && !delimiter.starts_with(','),
            line_end,
            byte_order_mark,
            // Spaces separate fields without regard to quotes.
            quoted: quoted && delimiter.trim() == delimiter,
            trailing_delimiter: trailing_delimiter && delimiter.len() == 1,
            unicode_minus,
        },
    )
}

fn columns() -> impl Strategy<Value = Vec<Column>> {
    let leads = [("II", 1.0), ("V1", -0.6), ("aVF", 0.8), ("ECG", 1.2), ("MLII", 0.9), ("V5", 1.5)];
    let others = ["RESP", "PLETH", "ABP", "HR", "AccX", "Marker"];
    let leads = proptest::sample::subsequence(leads.to_vec(), 1..=4);
    let others = proptest::sample::subsequence(others.to_vec(), 0..=4);
    (leads, others)
        .prop_map(|(leads, others)| {
            let leads = leads.into_iter().map(|(name, factor)| Column::Lead(name, factor));
            let others = others.into_iter().map(Column::Other);
            [Column::Time].into_iter().chain(leads).chain(others).collect::<Vec<_>>()
        })
        .prop_shuffle()
}

/// Unit of the time column: its name, units per second, and decimals that are sufficient.
const TIMES: [(&str, f64, usize); 4] =
    [("time_s", 1.0, 5), ("t_ms", 1e3, 2), ("timestamp_us", 1e6, 0), ("time_min", 1.0 / 60.0, 9)];

fn written(dialect: &Dialect, columns: &[Column], time: usize, rate_hz: f64, signal: &[f32]) -> String {
    let (time_name, per_second, decimals) = TIMES[time];
    let mut text = if dialect.byte_order_mark { "\u{feff}".to_owned() } else { String::new() };
    let mut line = |fields: Vec<String>| {
        let quote = |field: &String| if dialect.quoted { format!("\"{field}\"") } else { field.clone() };
        text += &fields.iter().map(quote).collect::<Vec<_>>().join(dialect.delimiter);
        if dialect.trailing_delimiter {
            text += dialect.delimiter;
        }
        text += dialect.line_end;
    };
    let name = |column: &Column| match *column {
        Column::Time => time_name.to_owned(),
        Column::Lead(name, _) => format!("{name}_mV"),
        Column::Other(name) => name.to_owned(),
    };
    line(columns.iter().map(name).collect());
    for (index, &value) in signal.iter().enumerate() {
        let seconds = index as f64 / rate_hz;
        let field = |column: &Column| {
            let number = match *column {
                Column::Time => format!("{:.decimals$}", seconds * per_second),
                Column::Lead(_, factor) => format!("{:.4}", f64::from(value) * factor),
                Column::Other("Marker") => u8::from(index % 100 == 0).to_string(),
                Column::Other("HR") => "72".to_owned(),
                Column::Other(name) => format!("{:.3}", (seconds * name.len() as f64).sin()),
            };
            let number = if dialect.decimal_comma { number.replace('.', ",") } else { number };
            if dialect.unicode_minus { number.replace('-', "\u{2212}") } else { number }
        };
        line(columns.iter().map(field).collect());
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_leads_are_read_in_any_dialect(
        dialect in dialects(),
        columns in columns(),
        time in 0..TIMES.len(),
        rate_hz in prop_oneof![Just(125.0), Just(250.0), Just(360.0), Just(500.0)],
    ) {
        let settings = Settings { sample_rate_hz: rate_hz, duration_s: 4.0, ..Settings::default() };
        let signal = synth::generate(&settings).strip.segments.remove(0).samples;
        let text = written(&dialect, &columns, time, rate_hz, &signal);
        let recording = ecg::read_recording(text.as_bytes(), &Options::default())
            .map_err(|error| TestCaseError::fail(format!("{error}\n{}", text.chars().take(300).collect::<String>())))?;
        let leads: Vec<(&str, f64)> = columns
            .iter()
            .filter_map(|column| if let Column::Lead(name, factor) = *column { Some((name, factor)) } else { None })
            .collect();
        let names: Vec<&str> =
            recording.leads.iter().map(|lead| lead.strip.lead.as_deref().unwrap_or_default()).collect();
        prop_assert_eq!(&names, &leads.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (lead, (name, factor)) in recording.leads.iter().zip(&leads) {
            prop_assert_eq!(lead.strip.sample_rate_hz, rate_hz);
            prop_assert_eq!(lead.strip.rows.skipped, 0);
            prop_assert_eq!(lead.strip.segments.len(), 1);
            let samples = &lead.strip.segments[0].samples;
            prop_assert_eq!(samples.len(), signal.len());
            for (read, made) in samples.iter().zip(&signal) {
                prop_assert!((f64::from(*read) - f64::from(*made) * factor).abs() < 1e-3, "{name}: {read} {made}");
            }
        }
        // I and II come before other leads, which come in the order of the file.
        let is_limb = |name: &&str| ["II", "MLII"].contains(name);
        let preferred = names.iter().position(is_limb).unwrap_or(0);
        prop_assert_eq!(recording.selected, preferred);
    }
}
