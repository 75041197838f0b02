//! The formats that devices and programs export: one test per format of the table in `docs/ECG.md`.
//!
//! Each test writes a file as the exporter does, from a strip that is known to the sample, and compares what the
//! reader returns.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

use std::fmt::Write as _;

use ecg::csv::{LeadChoice, Options, ReadError};
use ecg::synth::{self, Settings};
use ecg::{Recording, VoltageUnit};

/// Ten seconds of clean ECG in millivolts.
fn signal(rate_hz: f64) -> Vec<f64> {
    let settings = Settings { sample_rate_hz: rate_hz, duration_s: 10.0, ..Settings::default() };
    let strip = synth::generate(&settings).strip;
    strip.segments[0].samples.iter().map(|&sample| f64::from(sample)).collect()
}

/// A file with a header and one line per sample; `line` formats index, time in seconds, and millivolts.
fn file(header: &str, rate_hz: f64, line: impl Fn(usize, f64, f64) -> String) -> String {
    let mut text = header.to_owned();
    for (index, value) in signal(rate_hz).into_iter().enumerate() {
        writeln!(text, "{}", line(index, index as f64 / rate_hz, value)).unwrap();
    }
    text
}

fn comma(number: String) -> String {
    number.replace('.', ",")
}

/// `HH:MM:SS.mmm` of a time after 15:09:26.
fn clock(seconds: f64) -> String {
    let seconds = seconds + 54_566.0;
    format!(
        "{:02}:{:02}:{:06.3}",
        (seconds / 3600.0) as u32 % 24,
        (seconds / 60.0) as u32 % 60,
        seconds % 60.0
    )
}

/// What a test expects of the selected lead.
struct Expected<'a> {
    rate_hz: f64,
    lead: Option<&'a str>,
    /// Names of all leads and of the other signals.
    leads: &'a [&'a str],
    others: &'a [&'a str],
    unit: Option<VoltageUnit>,
    /// Codes of all warnings.
    warnings: &'a [&'a str],
}

const SINGLE: Expected<'static> = Expected {
    rate_hz: 250.0,
    lead: None,
    leads: &[""],
    others: &[],
    unit: Some(VoltageUnit::Millivolt),
    warnings: &[],
};

#[track_caller]
fn check(text: &str, options: &Options, expected: &Expected<'_>) -> Recording {
    let recording = ecg::read_recording(text.as_bytes(), options)
        .unwrap_or_else(|error| panic!("{error}\n{}", text.lines().take(20).collect::<Vec<_>>().join("\n")));
    let name = |strip: &ecg::Strip| strip.lead.clone().unwrap_or_default();
    let names: Vec<String> = recording.leads.iter().map(|lead| name(&lead.strip)).collect();
    assert_eq!(names, expected.leads);
    assert_eq!(recording.other_signals, expected.others);
    let lead = &recording.leads[recording.selected];
    assert_eq!(lead.strip.lead.as_deref(), expected.lead);
    assert_eq!(lead.file_unit, expected.unit);
    let codes: Vec<&str> = lead.strip.warnings.iter().map(|warning| warning.code).collect();
    assert_eq!(codes, expected.warnings, "{:?}", lead.strip.warnings);
    assert_is_signal(&lead.strip, expected.rate_hz);
    // A caller that needs one lead gets the same one.
    let strip = ecg::read(text.as_bytes(), options).unwrap();
    assert_eq!((&strip.lead, &strip.segments), (&lead.strip.lead, &lead.strip.segments));
    recording
}

#[track_caller]
fn assert_is_signal(strip: &ecg::Strip, rate_hz: f64) {
    assert!((strip.sample_rate_hz / rate_hz - 1.0).abs() < 1e-4, "{} Hz", strip.sample_rate_hz);
    assert_eq!(strip.segments.len(), 1, "{:?}", strip.warnings);
    let expected = signal(rate_hz);
    assert_eq!(strip.segments[0].samples.len(), expected.len());
    let off =
        strip.segments[0].samples.iter().zip(&expected).map(|(read, made)| (f64::from(*read) - made).abs());
    let off = off.fold(0.0, f64::max);
    assert!(off < 4e-3, "off by {off} mV");
}

fn given(rate_hz: f64) -> Options {
    Options { sample_rate_hz: Some(rate_hz), ..Options::default() }
}

#[test]
fn two_columns_of_the_patient_app() {
    let text = file("", 250.0, |_, time, value| format!("{time:.5},{value:.4}"));
    check(&text, &Options::default(), &Expected { unit: None, ..SINGLE });
}

#[test]
fn apple_watch_english() {
    let header = "Name,Jane Doe\nDate of Birth,\"Feb 5, 1952\"\nRecorded Date,2026-03-14 15:09:26 +0100\n\
                  Classification,Sinus Rhythm\nSymptoms,\nSoftware Version,1.90\nDevice,\"Watch7,12\"\n\
                  Sample Rate,512.844 hertz\n\n\nLead,Lead I\nUnit,µV\n\n\n";
    let text = file(header, 512.844, |_, _, value| format!("{:.3}", value * 1e3));
    let expected = Expected {
        rate_hz: 512.844,
        lead: Some("Lead I"),
        leads: &["Lead I"],
        unit: Some(VoltageUnit::Microvolt),
        ..SINGLE
    };
    check(&text, &Options::default(), &expected);
    // As older versions wrote it.
    let text = text.replace("512.844 hertz", "512.844 Hz").replace('\n', "\r\n");
    check(&text, &Options::default(), &expected);
}

#[test]
fn apple_watch_german() {
    let header = "Name,Erika Mustermann\nGeburtsdatum,\"01.01.1960\"\nAufzeichnungsdatum,2026-03-14 15:09:26 +0100\n\
                  Klassifizierung,Sinusrhythmus\nSymptome,Ohne\nSoftwareversion,2.0\nGerät,\"Watch6,7\"\n\
                  Messrate,511,562\u{a0}Hertz\n\n\nAbleitung,Ableitung I\nEinheit,µV\n\n";
    let text = file(header, 511.562, |_, _, value| {
        // Trailing zeros are not written.
        let number = format!("{:.3}", value * 1e3);
        comma(number.trim_end_matches('0').trim_end_matches('.').to_owned())
    });
    let expected = Expected {
        rate_hz: 511.562,
        lead: Some("Ableitung I"),
        leads: &["Ableitung I"],
        unit: Some(VoltageUnit::Microvolt),
        ..SINGLE
    };
    check(&text, &Options::default(), &expected);
}

#[test]
fn apple_watch_portuguese() {
    for (keys, lead) in [
        // English keys with the decimal comma of the region, and Portuguese keys.
        (["Name", "Date of Birth", "Recorded Date", "Sample Rate", "Lead", "Unit"], "Lead I"),
        (
            ["Nome", "Data de nascimento", "Data da gravação", "Taxa de amostragem", "Derivação", "Unidade"],
            "Derivação I",
        ),
    ] {
        let [name, birth, date, rate, lead_key, unit] = keys;
        let header = format!(
            "{name},Maria Silva\n{birth},\"4/01/1962\"\n{date},2026-03-14 15:09:26 +0000\n\
             {rate},512 hertz\n\n\n{lead_key},{lead}\n{unit},µV\n\n"
        );
        let text = file(&header, 512.0, |_, _, value| comma(format!("{:.3}", value * 1e3)));
        let expected = Expected {
            rate_hz: 512.0,
            lead: Some(lead),
            leads: &[lead],
            unit: Some(VoltageUnit::Microvolt),
            ..SINGLE
        };
        check(&text, &Options::default(), &expected);
    }
}

#[test]
fn apple_watch_in_a_language_without_known_keys() {
    let header = "Nimi,Matti\nNäytteenottotaajuus,511,9 hertz\n\nKytkentä,Kytkentä I\nYksikkö,µV\n\n";
    let text = file(header, 511.9, |_, _, value| comma(format!("{:.3}", value * 1e3)));
    let expected = Expected { rate_hz: 511.9, unit: Some(VoltageUnit::Microvolt), ..SINGLE };
    check(&text, &Options::default(), &expected);
}

#[test]
fn polar_sensor_logger_with_arrival_times() {
    // Packets of 73 samples: the phone writes the time at which the packet arrived.
    let arrival = |index: usize| {
        let packet = (index / 73) as f64;
        packet * 73.0 / 130.0 + 0.08 * (packet * 2.3).sin()
    };
    let header = "Phone timestamp;sensor timestamp [ns];timestamp [ms];ecg [uV] \n";
    let text = file(header, 130.0, |index, time, value| {
        format!(
            "2026-03-14T{};{};{:.3};{:.0}",
            clock(arrival(index)),
            599_616_050_941_733_632u64 + (time * 1e9) as u64,
            time * 1e3,
            value * 1e3
        )
    });
    let expected = Expected {
        rate_hz: 130.0,
        lead: Some("ecg"),
        leads: &["ecg"],
        unit: Some(VoltageUnit::Microvolt),
        ..SINGLE
    };
    check(&text, &Options::default(), &expected);

    // Only arrival times: the rate is needed, and the samples are counted.
    let text = file("Phone timestamp;ecg [uV]\n", 130.0, |index, _, value| {
        format!("2026-03-14T{};{:.0}", clock(arrival(index)), value * 1e3)
    });
    check(&text, &given(130.0), &expected);
    let error = ecg::read(text.as_bytes(), &Options::default()).unwrap_err().to_string();
    assert!(error.contains("do not distinguish the samples: give the sampling rate"), "{error}");
}

#[test]
fn open_signals_of_bitalino_and_biosignalsplux() {
    let header = |device: &str, columns: &str, sensors: &str, labels: &str, resolution: &str| {
        format!(
            "# OpenSignals Text File Format. Version 1\n# {{\"00:07:80:3B:46:61\": {{\"sensor\": [{sensors}], \
             \"device name\": \"00:07:80:3B:46:61\", \"column\": [{columns}], \"sync interval\": 0, \
             \"time\": \"15:9:26.0\", \"comments\": \"\", \"channels\": [1, 2], \"date\": \"2026-3-14\", \"mode\": 0, \
             \"digital IO\": [0, 0, 1, 1], \"firmware version\": 773, \"device\": \"{device}\", \"position\": 0, \
             \"sampling rate\": 1000, \"label\": [{labels}], \"resolution\": [{resolution}], \"special\": [{{}}]}}}}\n\
             # EndOfHeader\n"
        )
    };
    let top = header(
        "bitalino_rev",
        r#""nSeq", "I1", "I2", "O1", "O2", "A1", "A2""#,
        r#""RESP", "ECGBIT""#,
        r#""A1", "A2""#,
        "4, 1, 1, 1, 1, 10, 10",
    );
    // 10 bits for 3 mV.
    let text = file(&top, 1000.0, |index, time, value| {
        let counts = ((value / 3.0 + 0.5) * 1024.0).round();
        format!("{}\t0\t0\t0\t0\t{:.0}\t{counts}\t", index % 16, 500.0 + 200.0 * time.sin())
    });
    let expected = Expected {
        rate_hz: 1000.0,
        lead: Some("ECGBIT"),
        leads: &["ECGBIT"],
        others: &["nSeq", "I1", "I2", "O1", "O2", "RESP"],
        unit: None,
        warnings: &["other_leads"],
    };
    check(&text, &Options::default(), &expected);

    let top = header(
        "biosignalsplux",
        r#""nSeq", "DI", "CH1", "CH2""#,
        r#""EDA", "ECG""#,
        r#""CH1", "CH2""#,
        "16, 16",
    );
    let text = file(&top, 1000.0, |index, time, value| {
        let counts = ((value / 3.0 + 0.5) * 65_536.0).round();
        format!("{}\t0\t{:.0}\t{counts}\t", index % 65_536, 30_000.0 + 9000.0 * (time * 0.7).sin())
    });
    let expected =
        Expected { lead: Some("ECG"), leads: &["ECG"], others: &["nSeq", "DI", "EDA"], ..expected };
    check(&text, &Options::default(), &expected);
}

#[test]
fn physionet_rdsamp_and_physiobank_atm() {
    let two = Expected { lead: Some("MLII"), leads: &["V5", "MLII"], others: &["RESP"], ..SINGLE };
    let two = Expected { warnings: &["other_leads"], ..two };
    for header in [
        "'Elapsed time','V5','RESP','MLII'\n'hh:mm:ss.mmm','mV','NU','mV'\n",
        "Elapsed time,V5,RESP,MLII\n(seconds),(mV),(NU),(mV)\n",
    ] {
        let text = file(header, 250.0, |_, time, value| {
            let time = if header.starts_with('\'') {
                format!("'{}:{:06.3}'", (time / 60.0) as u32, time % 60.0)
            } else {
                format!("{time:>12.3}")
            };
            format!("{time},{:.3},{:.3},{value:.3}", -value, time.len())
        });
        check(&text, &Options::default(), &two);
    }
    let header = "'Date','MLII'\n'hh:mm:ss.mmm dd/mm/yyyy','mV'\n";
    let text = file(header, 250.0, |_, time, value| format!("'[{} 14/03/2026]',{value:.3}", clock(time)));
    check(&text, &Options::default(), &Expected { lead: Some("MLII"), leads: &["MLII"], ..SINGLE });
}

#[test]
fn mit_bih_table_of_sample_numbers() {
    let text = file("'sample #','V5','MLII'\n", 360.0, |index, _, value| {
        format!("{index},{:.0},{:.0}", 1024.0 - value * 1e3, value * 1e3)
    });
    let expected = Expected {
        rate_hz: 360.0,
        lead: Some("MLII"),
        leads: &["V5", "MLII"],
        unit: None,
        warnings: &["unit_assumed"],
        ..SINGLE
    };
    check(&text, &given(360.0), &expected);
    let error = ecg::read(text.as_bytes(), &Options::default()).unwrap_err();
    assert!(matches!(error, ecg::ReadError::Csv(ReadError::TimeCountsRows)), "{error}");
}

#[test]
fn labchart_text() {
    let header = "Interval=\t0.001 s\nExcelDateTime=\t4.6095e+04\t14/03/2026 15:09:26.000\nTimeFormat=\tStartOfBlock\n\
                  DateFormat=\t\nChannelTitle=\tRespiration\tECG\nRange=\t10.000 V\t2.000 mV\n";
    let text =
        file(header, 1000.0, |_, time, value| format!("{time:.3}\t{:.4}\t{value:.4}", time.sin() * 2.0));
    let expected = Expected {
        rate_hz: 1000.0,
        lead: Some("ECG"),
        leads: &["ECG"],
        others: &["Respiration"],
        warnings: &["other_leads"],
        ..SINGLE
    };
    check(&text, &Options::default(), &expected);
}

#[test]
fn acqknowledge_text() {
    let header = "sitting.acq\n2 msec/sample\n2 channels\nRSP, X, RSPEC-R\nVolts\nECG - Lead II\nmV\nmin,CH1,CH2\n,5000,5000\n";
    let text =
        file(header, 500.0, |_, time, value| format!("{:.8},{:.5},{value:.5}", time / 60.0, time.sin()));
    let expected = Expected {
        rate_hz: 500.0,
        lead: Some("ECG - Lead II"),
        leads: &["ECG - Lead II"],
        others: &["RSP, X, RSPEC-R"],
        warnings: &["rows_skipped", "other_leads"],
        ..SINGLE
    };
    check(&text, &Options::default(), &expected);
}

#[test]
fn shimmer_consensys() {
    let header = "\"sep=\t\"\nShimmer_5A3B_Timestamp_Unix_CAL\tShimmer_5A3B_Accel_LN_X_CAL\t\
                  Shimmer_5A3B_ECG_EXG1_Status_CAL\tShimmer_5A3B_ECG_LL-RA_24BIT_CAL\t\
                  Shimmer_5A3B_ECG_Vx-RL_24BIT_CAL\nms\tm/(s^2)\tno units\tmV\tmV\n";
    let text = file(header, 512.0, |index, time, value| {
        format!("{:.4}\t9.81\t{}\t{value:.5}\t{:.5}\t", 1.773e12 + time * 1e3, index % 2, -value)
    });
    let names = ["Shimmer_5A3B_ECG_LL-RA_24BIT_CAL", "Shimmer_5A3B_ECG_Vx-RL_24BIT_CAL"];
    let expected = Expected {
        rate_hz: 512.0,
        lead: Some(names[0]),
        leads: &names,
        others: &["Shimmer_5A3B_Accel_LN_X_CAL", "Shimmer_5A3B_ECG_EXG1_Status_CAL"],
        warnings: &["other_leads"],
        ..SINGLE
    };
    check(&text, &Options::default(), &expected);
}

#[test]
fn zephyr_bioharness_with_the_day_first() {
    let text = file("Time,EcgWaveform\n", 250.0, |_, time, value| {
        format!("14/03/2026 {},{:.4}", clock(time), value)
    });
    let expected = Expected { lead: Some("EcgWaveform"), leads: &["EcgWaveform"], unit: None, ..SINGLE };
    check(&text, &Options::default(), &expected);
}

#[test]
fn day_first_and_month_by_name_across_midnight() {
    let night = |time: f64| clock(time + 31_830.0);
    let day = |time: f64| if time + 31_830.0 + 54_566.0 < 86_400.0 { (28, 2) } else { (1, 3) };
    for date in [
        |(day, month): (u32, u32)| format!("{day:02}.{month:02}.2026"),
        |(day, month): (u32, u32)| format!("{day:02}/{month:02}/2026"),
        |(day, month): (u32, u32)| format!("{month}/{day}/2026"),
        |(day, month): (u32, u32)| format!("{day:02}-{month:02}-2026"),
        |(day, month): (u32, u32)| format!("{day:02}-{}-2026", ["Jan", "Feb", "Mar"][month as usize - 1]),
        |(day, month): (u32, u32)| format!("{day}.{month}.26"),
        |(day, month): (u32, u32)| format!("{} {day}, 2026", ["Jan", "Feb", "Mar"][month as usize - 1]),
    ] {
        let text = file("Zeit;EKG (mV)\n", 250.0, |_, time, value| {
            format!("{} {};{value:.4}", date(day(time)), night(time))
        });
        check(&text, &Options::default(), &Expected { lead: Some("EKG"), leads: &["EKG"], ..SINGLE });
        if !date(day(0.0)).contains('.') {
            let text = text.replace('.', ",");
            check(&text, &Options::default(), &Expected { lead: Some("EKG"), leads: &["EKG"], ..SINGLE });
        }
    }
}

#[test]
fn clock_of_twelve_hours() {
    for space in [" ", "\u{202f}", ""] {
        for (am, pm) in [("AM", "PM"), ("a.m.", "p.m.")] {
            // From 11:59:55 to 12:00:05.
            let text = file("Date,Time,ECG (mV)\n", 250.0, |_, time, value| {
                let seconds = 43_195.0 + time;
                let half = if seconds < 43_200.0 { am } else { pm };
                let hour = (seconds / 3600.0) as u32;
                let minute = (seconds / 60.0) as u32 % 60;
                format!("3/14/2026,{hour}:{minute:02}:{:06.3}{space}{half},{value:.4}", seconds % 60.0)
            });
            check(&text, &Options::default(), &Expected { lead: Some("ECG"), leads: &["ECG"], ..SINGLE });
        }
    }
}

#[test]
fn clock_of_whole_seconds() {
    let text = |header: &str| {
        file(header, 250.0, |_, time, value| {
            format!("2026-03-14 {},{value:.4}", clock((time + 0.4).floor()).split('.').next().unwrap())
        })
    };
    let expected = Expected { lead: Some("ecg"), leads: &["ecg"], ..SINGLE };
    check(&text("time,ecg_mV\n"), &given(250.0), &expected);
    check(&text("# sampling rate: 250 Hz\ntime,ecg_mV\n"), &Options::default(), &expected);
    let counted = Expected { warnings: &["rate_counted"], ..expected };
    check(&text("time,ecg_mV\n"), &Options::default(), &counted);
    // A wrong rate is noticed, since every second has 250 rows.
    let wrong = Expected { warnings: &["rate_differs"], ..counted };
    check(&text("time,ecg_mV\n"), &given(500.0), &wrong);
}

#[test]
fn times_that_repeat_in_packets() {
    // Ten samples have the time of their packet in milliseconds.
    let text = |header: &str| {
        file(header, 250.0, |index, _, value| {
            format!("{},{value:.4}", 1_773_500_000_000u64 + (index / 10 * 40) as u64)
        })
    };
    let expected = Expected { lead: Some("ecg"), leads: &["ecg"], ..SINGLE };
    check(&text("time_ms,ecg_mV\n"), &given(250.0), &expected);
    let unnamed = Expected { warnings: &["time_unit_assumed"], ..expected };
    check(&text("time,ecg_mV\n"), &given(250.0), &unnamed);
    let counted = Expected { warnings: &["time_unit_assumed", "rate_counted"], ..expected };
    check(&text("time,ecg_mV\n"), &Options::default(), &counted);
    // The unit of the header and the rate contradict each other.
    let error = ecg::read(text("time_s,ecg_mV\n").as_bytes(), &given(250.0)).unwrap_err();
    assert!(matches!(error, ecg::ReadError::Csv(ReadError::ImplausibleRate { .. })), "{error}");
}

#[test]
fn gap_of_a_clock_of_whole_seconds_splits_the_strip() {
    let text = file("time,ecg_mV\n", 250.0, |index, time, value| {
        let time = if index < 1250 { time } else { time + 30.0 };
        format!("{},{value:.4}", clock(time.floor()))
    });
    let strip = ecg::read(text.as_bytes(), &given(250.0)).unwrap();
    assert_eq!(strip.segments.len(), 2);
    let gap = strip.gaps().next().unwrap();
    assert!((gap.end_s - gap.start_s - 30.0).abs() <= 1.0, "{gap:?}");
}

#[test]
fn times_in_minutes_hours_and_days() {
    let minutes =
        file("Time (min),Potential (mV)\n", 250.0, |_, time, value| format!("{:.8},{value:.4}", time / 60.0));
    let expected = Expected { lead: Some("Potential"), leads: &["Potential"], ..SINGLE };
    check(&minutes, &Options::default(), &expected);
    let hours =
        file("t [h],Potential (mV)\n", 250.0, |_, time, value| format!("{:.10},{value:.4}", time / 3600.0));
    check(&hours, &Options::default(), &expected);
    let row =
        file("Time,Potential\nmin,mV\n", 500.0, |_, time, value| format!("{:.8},{value:.4}", time / 60.0));
    check(&row, &Options::default(), &Expected { rate_hz: 500.0, ..expected });

    // Without a unit, 250 Hz in minutes would be 15 kHz in seconds.
    let unnamed = Expected { unit: None, warnings: &["time_unit_assumed"], ..SINGLE };
    for rate_hz in [125.0, 250.0, 360.0, 500.0] {
        let text = file("", rate_hz, |_, time, value| format!("{:.9},{value:.4}", time / 60.0));
        check(&text, &Options::default(), &Expected { rate_hz, ..unnamed });
    }
    let days = file("", 250.0, |_, time, value| format!("{:.10},{value:.4}", 46_095.25 + time / 86_400.0));
    check(&days, &Options::default(), &unnamed);
    // A high rate in seconds stays one.
    let text = file("", 10_000.0, |_, time, value| format!("{time:.4},{value:.4}"));
    check(&text, &Options::default(), &Expected { rate_hz: 10_000.0, unit: None, ..SINGLE });
}

#[test]
fn thousands_are_grouped() {
    /// Groups the integer part by three digits.
    fn grouped(number: &str, separator: &str) -> String {
        let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let mut text = String::new();
        for (index, digit) in whole.chars().enumerate() {
            if index > 0 && (whole.len() - index).is_multiple_of(3) {
                text.push_str(separator);
            }
            text.push(digit);
        }
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{sign}{text}{point}{fraction}")
    }
    let expected =
        Expected { lead: Some("ECG"), leads: &["ECG"], unit: Some(VoltageUnit::Microvolt), ..SINGLE };
    for (separator, delimiter) in
        [(",", ";"), (",", "\t"), ("'", ","), ("\u{2019}", ";"), (" ", ";"), ("\u{a0}", ";")]
    {
        let text = file(&format!("Time (ms){delimiter}ECG (uV)\n"), 250.0, |_, time, value| {
            let value = grouped(&format!("{:.1}", value * 1e3), separator);
            format!("{}{delimiter}{value}", grouped(&format!("{:.0}", time * 1e3), separator))
        });
        check(&text, &Options::default(), &expected);
    }
    let quoted = file("Time (ms),ECG (uV)\n", 250.0, |_, time, value| {
        format!(
            "\"{}\",\"{}\"",
            grouped(&format!("{:.0}", time * 1e3), ","),
            grouped(&format!("{:.1}", value * 1e3), ",")
        )
    });
    check(&quoted, &Options::default(), &expected);
    for separator in [".", "\u{202f}"] {
        let german = file("Zeit (ms);EKG (µV)\n", 250.0, |_, time, value| {
            let value =
                grouped(&format!("{:.1}", value * 1e3), "~").replace('.', ",").replace('~', separator);
            format!("{};{value}", grouped(&format!("{:.0}", time * 1e3), separator))
        });
        check(&german, &Options::default(), &Expected { lead: Some("EKG"), leads: &["EKG"], ..expected });
    }
}

#[test]
fn minus_of_typography() {
    for minus in ["\u{2212}", "\u{2013}"] {
        let text = file("time,ECG (mV)\n", 250.0, |_, time, value| {
            format!("{time:.3},{}", format!("{value:.4}").replace('-', minus))
        });
        check(&text, &Options::default(), &Expected { lead: Some("ECG"), leads: &["ECG"], ..SINGLE });
    }
}

#[test]
fn rate_in_comment_lines() {
    let voltages = |header: &str| file(header, 500.0, |_, _, value| format!("{value:.4}"));
    let expected = Expected { rate_hz: 500.0, unit: None, ..SINGLE };
    for comment in [
        "# Low-pass 150 Hz, sampled at 500 Hz\n",
        "# sampling rate 500 Hz, low-pass 150 Hz\n",
        "% 0.05-150 Hz, 50 Hz notch\n% fs = 500\n",
        "// 500 samples per second\n",
        "# sample interval: 2 ms\n",
        "# notch filter 60 Hz; sampling frequency 0.5 kHz\n",
    ] {
        check(&voltages(comment), &Options::default(), &expected);
    }
    let error = ecg::read(voltages("# Low-pass 150 Hz\n").as_bytes(), &Options::default()).unwrap_err();
    assert!(matches!(error, ecg::ReadError::Csv(ReadError::NoTime)), "{error}");
}

#[test]
fn twelve_leads_without_times() {
    let names = ["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"];
    let text = file(&(names.join(",") + "\n"), 500.0, |_, _, value| {
        let values: Vec<String> =
            (0..12).map(|lead| format!("{:.4}", value * (1.0 - f64::from(lead) / 10.5))).collect();
        values.join(",")
    });
    let expected = Expected { rate_hz: 500.0, lead: Some("I"), leads: &names, unit: None, ..SINGLE };
    let recording = check(&text, &given(500.0), &expected);
    let v6 = &recording.leads[11].strip.segments[0].samples;
    let lead_i = &recording.leads[0].strip.segments[0].samples;
    assert!(v6.iter().zip(lead_i).all(|(v6, lead_i)| (v6 + lead_i / 21.0).abs() < 1e-3));
    let options = Options { lead: Some(LeadChoice::Name("v2".to_owned())), ..given(500.0) };
    let chosen = ecg::read_recording(text.as_bytes(), &options).unwrap();
    assert_eq!((chosen.selected, chosen.is_requested, chosen.leads.len()), (7, true, 12));
    // Portuguese and Spanish recorders name the limb leads DI, DII and DIII.
    let text = text.replacen("I,II,III", "DI,DII,DIII", 1);
    let strip = ecg::read(text.as_bytes(), &given(500.0)).unwrap();
    assert_eq!(strip.lead.as_deref(), Some("DI"));
}

#[test]
fn monitor_with_other_signals_first() {
    let header = "Time,HR,PLETH,ABP,RESP,Acc_X,Marker,V1,II\ns,bpm,NU,mmHg,ohm,g,,mV,mV\n";
    let text = file(header, 250.0, |index, time, value| {
        let slow = (time * 7.0).sin();
        format!(
            "{time:.3},72,{:.3},{:.1},{:.3},{:.3},{},{:.4},{value:.4}",
            slow,
            100.0 + 20.0 * slow,
            (time * 1.5).sin(),
            slow * 0.1,
            u8::from(index % 200 == 0),
            -value
        )
    });
    let expected = Expected {
        lead: Some("II"),
        leads: &["V1", "II"],
        others: &["HR", "PLETH", "ABP", "RESP", "Acc_X", "Marker"],
        warnings: &["other_leads"],
        ..SINGLE
    };
    check(&text, &Options::default(), &expected);

    // Without a lead, no other signal is taken for one. It can be requested by its name.
    let text = file("Time (s),PLETH,RESP\n", 250.0, |_, time, value| {
        format!("{time:.3},{value:.4},{:.3}", (time * 1.5).sin())
    });
    let error = ecg::read_recording(text.as_bytes(), &Options::default()).unwrap_err();
    assert!(error.to_string().contains("named like an ECG; select one of PLETH, RESP"), "{error}");
    let options = Options { lead: Some(LeadChoice::Name("pleth".to_owned())), ..Options::default() };
    assert_is_signal(&ecg::read(text.as_bytes(), &options).unwrap(), 250.0);
}

#[test]
fn unnamed_columns_next_to_a_marker() {
    let text = file("", 250.0, |index, time, value| {
        format!("{time:.3},{},{value:.4},{:.4}", u8::from(index % 200 == 0), -value)
    });
    let expected = Expected { lead: Some("1"), leads: &["1", "2"], unit: None, ..SINGLE };
    check(&text, &Options::default(), &expected);
}
