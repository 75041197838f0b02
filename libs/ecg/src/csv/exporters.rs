//! Headers that name columns in a structure of their own: OpenSignals, LabChart and AcqKnowledge.
//!
//! - OpenSignals (BITalino, biosignalsplux) writes a comment with JSON: for each device the columns, the sensors
//!   of the analog channels, their resolution in bits and the sampling rate. Samples are counts of the
//!   converter; the transfer function of the ECG sensor is that of its data sheet.
//! - LabChart writes lines of tab-separated settings such as `ChannelTitle=`, one value per channel.
//! - AcqKnowledge writes the number of channels, then a line with the name and a line with the unit of each.
//!
//! A header that does not have the described structure gives nothing.

use serde_json::Value;

/// What such a header states about one column. Empty texts are not stated.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ColumnHeader {
    pub(super) name: String,
    pub(super) unit: String,
    /// Conversion of the values to millivolts, for counts of a converter.
    pub(super) scale: Option<Scale>,
}

/// Conversion of counts to millivolts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub(super) factor: f64,
    /// Subtracted from the counts.
    pub(super) zero: f64,
}

/// Columns and sampling rate.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ExporterHeader {
    pub(super) columns: Vec<ColumnHeader>,
    pub(super) rate_hz: Option<f64>,
}

/// Reads the header of one of the exporters from the lines above the data.
pub(super) fn of(preamble: &[String], columns: usize) -> Option<ExporterHeader> {
    let found = open_signals(preamble).or_else(|| lab_chart(preamble)).or_else(|| acq_knowledge(preamble))?;
    (columns > 0 && found.columns.len() == columns).then_some(found)
}

fn open_signals(preamble: &[String]) -> Option<ExporterHeader> {
    preamble.iter().find(|line| line.contains("OpenSignals"))?;
    let json = preamble.iter().find_map(|line| {
        let text = line.trim_start_matches(['#', ' ']);
        text.starts_with('{').then(|| (text, serde_json::from_str::<Value>(text).ok()))
    });
    let (text, value) = json?;
    let value = value?;
    // The columns of several devices are side by side in the order of the header.
    let mut devices: Vec<(&String, &Value)> = value.as_object()?.iter().collect();
    devices.sort_by_key(|(address, _)| text.find(address.as_str()));
    let mut header = ExporterHeader::default();
    for (_, device) in devices {
        header.rate_hz = header.rate_hz.or_else(|| device.get("sampling rate").and_then(Value::as_f64));
        header.columns.extend(device_columns(device)?);
    }
    header.rate_hz = header.rate_hz.filter(|rate| (super::MIN_RATE_HZ..=super::MAX_RATE_HZ).contains(rate));
    Some(header)
}

fn device_columns(device: &Value) -> Option<Vec<ColumnHeader>> {
    let texts = |key: &str| -> Vec<&str> {
        device.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let columns = texts("column");
    let sensors = texts("sensor");
    let labels = texts("label");
    let bits: Vec<u64> = device
        .get("resolution")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_u64)
        .collect();
    let first_analog = columns.len().checked_sub(sensors.len())?;
    let is_converted = device.get("convertedValues").and_then(Value::as_u64) == Some(1);
    let is_bitalino =
        device.get("device").and_then(Value::as_str).is_some_and(|name| name.starts_with("bitalino"));
    let column = |(index, &name): (usize, &&str)| {
        // Without labels, the analog channels are the last columns.
        let channel = labels
            .iter()
            .position(|label| *label == name)
            .or_else(|| index.checked_sub(first_analog).filter(|_| labels.is_empty()));
        let sensor = channel.and_then(|channel| sensors.get(channel)).copied().unwrap_or_default();
        let is_named = !sensor.is_empty() && !sensor.eq_ignore_ascii_case("raw");
        // The resolution is given for all columns or for the analog channels.
        let bits =
            if bits.len() == columns.len() { bits.get(index) } else { channel.and_then(|at| bits.get(at)) };
        let is_ecg = sensor.to_uppercase().contains("ECG");
        ColumnHeader {
            name: if is_named { sensor } else { name }.to_owned(),
            unit: if is_ecg && is_converted { "mV" } else { "" }.to_owned(),
            scale: bits.filter(|_| is_ecg && !is_converted).and_then(|&bits| ecg_sensor(bits, is_bitalino)),
        }
    };
    Some(columns.iter().enumerate().map(column).collect())
}

/// Transfer function of the ECG sensors of PLUX: `(counts / 2^bits - 1/2) * supply / gain`.
fn ecg_sensor(bits: u64, is_bitalino: bool) -> Option<Scale> {
    let (supply_mv, gain) = if is_bitalino { (3300.0, 1100.0) } else { (3000.0, 1000.0) };
    (4..=24).contains(&bits).then(|| {
        let range = (bits as f64).exp2();
        Scale { factor: supply_mv / gain / range, zero: range / 2.0 }
    })
}

fn lab_chart(preamble: &[String]) -> Option<ExporterHeader> {
    let cells = |key: &str| {
        preamble.iter().find_map(|line| {
            let (name, rest) = line.split_once('=')?;
            name.eq_ignore_ascii_case(key)
                .then(|| rest.split('\t').skip(1).map(str::trim).collect::<Vec<_>>())
        })
    };
    let titles = cells("ChannelTitle")?;
    let units = cells("UnitName").unwrap_or_default();
    // A range such as `2.000 mV` contains the unit.
    let ranges = cells("Range").unwrap_or_default();
    let unit_of = |index: usize| {
        let range =
            || ranges.get(index).and_then(|range| range.split_whitespace().last()).unwrap_or_default();
        units.get(index).copied().filter(|unit| !unit.is_empty() && *unit != "*").unwrap_or_else(range)
    };
    let mut columns = vec![ColumnHeader { name: "time".to_owned(), ..ColumnHeader::default() }];
    columns.extend(titles.iter().enumerate().filter(|(_, title)| !title.is_empty()).map(|(index, title)| {
        ColumnHeader { name: (*title).to_owned(), unit: unit_of(index).to_owned(), scale: None }
    }));
    Some(ExporterHeader { columns, rate_hz: None })
}

fn acq_knowledge(preamble: &[String]) -> Option<ExporterHeader> {
    let at = preamble.iter().position(|line| {
        let mut words = line.split_whitespace();
        words.next().is_some_and(|count| count.parse::<usize>().is_ok())
            && matches!(words.next(), Some("channels" | "channel"))
            && words.next().is_none()
    })?;
    let count: usize = preamble.get(at)?.split_whitespace().next()?.parse().ok()?;
    let lines = preamble.get(at + 1..)?.get(..count.checked_mul(2)?)?;
    let channels = lines.chunks_exact(2).map(|pair| ColumnHeader {
        name: pair[0].trim().to_owned(),
        unit: pair[1].trim().to_owned(),
        scale: None,
    });
    // The row above the data names the time column: `sec CH1 CH2`.
    let names = preamble.get(at + 1 + 2 * count..)?;
    let time = names.iter().find_map(|line| {
        let first = line.split(['\t', ',']).next()?.trim();
        (!first.is_empty() && line.contains("CH")).then(|| first.to_owned())
    });
    let mut columns: Vec<ColumnHeader> =
        time.into_iter().map(|name| ColumnHeader { name, ..ColumnHeader::default() }).collect();
    columns.extend(channels);
    Some(ExporterHeader { columns, rate_hz: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn open_signals_header_names_sensors_and_scales_counts() {
        let header = lines(
            "# OpenSignals Text File Format. Version 1\n\
             # {\"00:07:80:3B:46:61\": {\"sensor\": [\"RESP\", \"ECGBIT\"], \"column\": [\"nSeq\", \"I1\", \"A1\", \"A2\"], \
             \"sampling rate\": 1000, \"label\": [\"A1\", \"A2\"], \"resolution\": [4, 1, 10, 10], \"device\": \"bitalino_rev\"}}\n\
             # EndOfHeader",
        );
        let found = of(&header, 4).unwrap();
        assert_eq!(found.rate_hz, Some(1000.0));
        let names: Vec<&str> = found.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["nSeq", "I1", "RESP", "ECGBIT"]);
        let scale = found.columns[3].scale.unwrap();
        assert!((scale.factor * (1024.0 - scale.zero) - 1.5).abs() < 1e-12);
        assert_eq!(found.columns[2].scale, None);
        assert_eq!(of(&header, 3), None);
        assert_eq!(of(&lines("# OpenSignals\n# {\"a\": 1}\n"), 1), None);
    }

    #[test]
    fn titles_and_units_of_lab_chart_and_acq_knowledge_are_read() {
        let header = lines("Interval=\t0.001 s\nChannelTitle=\tECG\tResp\nRange=\t2.000 mV\t10.000 V\n");
        let found = of(&header, 3).unwrap();
        assert_eq!((found.columns[1].name.as_str(), found.columns[1].unit.as_str()), ("ECG", "mV"));
        let header =
            lines("a.acq\n1 msec/sample\n2 channels\nRSP\nVolts\nECG\nmV\nsec,CH1,CH2\n,5000,5000\n");
        let found = of(&header, 3).unwrap();
        let names: Vec<&str> = found.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["sec", "RSP", "ECG"]);
        assert_eq!(found.columns[2].unit, "mV");
    }
}
