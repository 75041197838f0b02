//! The CSV reader on the dialects of real files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

use ecg::Strip;
use ecg::csv::{LeadChoice, Options, ReadError, read};
use ecg::synth::{self, Settings};

/// Ten seconds of clean ECG.
fn signal(rate_hz: f64) -> Vec<f32> {
    let settings = Settings { sample_rate_hz: rate_hz, duration_s: 10.0, ..Settings::default() };
    synth::generate(&settings).strip.segments.remove(0).samples
}

/// A file with one line per sample; `line` formats index, time in seconds, and millivolts.
fn file(header: &str, rate_hz: f64, line: impl Fn(usize, f64, f32) -> String) -> String {
    let rows = signal(rate_hz);
    let rows = rows.iter().enumerate().map(|(index, &value)| line(index, index as f64 / rate_hz, value));
    std::iter::once(header.to_owned()).chain(rows).collect()
}

fn read_text(text: &str) -> Strip {
    read(text.as_bytes(), &Options::default()).unwrap_or_else(|error| panic!("{error}\n{}", &text[..200]))
}

fn error_of(text: impl AsRef<[u8]>) -> String {
    read(text.as_ref(), &Options::default()).map(|strip| strip.rows).unwrap_err().to_string()
}

/// Asserts that a strip is the complete [`signal`].
#[track_caller]
fn assert_is_signal(strip: &Strip, rate_hz: f64) {
    assert_eq!(strip.sample_rate_hz, rate_hz);
    assert_eq!(strip.segments.len(), 1, "{:?}", strip.warnings);
    let expected = signal(rate_hz);
    let samples = &strip.segments[0].samples;
    assert_eq!(samples.len(), expected.len());
    let off = samples.iter().zip(&expected).map(|(read, made)| (read - made).abs()).fold(0.0, f32::max);
    assert!(off < 2e-3, "off by {off} mV");
}

fn codes(strip: &Strip) -> Vec<&str> {
    strip.warnings.iter().map(|warning| warning.code).collect()
}

#[test]
fn documented_dialect_is_read_without_warnings() {
    let strip = read_text(&file("", 360.0, |_, time, value| format!("{time:.3},{value:.3}\n")));
    assert_is_signal(&strip, 360.0);
    assert_eq!(strip.warnings, []);
    assert_eq!((strip.rows.used, strip.rows.skipped), (3600, 0));
}

#[test]
fn delimiters_decimal_signs_and_quotes_are_detected() {
    let comma = |number: String| number.replace('.', ",");
    for (name, text) in [
        ("semicolon", file("", 250.0, |_, time, value| format!("{time:.3};{value:.4}\n"))),
        ("tab", file("", 250.0, |_, time, value| format!("{time:.3}\t{value:.4}\n"))),
        ("bar", file("", 250.0, |_, time, value| format!("{time:.3}|{value:.4}\n"))),
        ("blanks", file("", 250.0, |_, time, value| format!("  {time:.3}   {value:.4}\n"))),
        ("blank after comma", file("", 250.0, |_, time, value| format!("{time:.3}, {value:.4}\n"))),
        ("aligned", file("", 250.0, |_, time, value| format!("{time:>10.3} , {value:>10.4}\n"))),
        (
            "decimal comma and semicolon",
            file("", 250.0, |_, time, value| comma(format!("{time:.3};{value:.4}\n"))),
        ),
        (
            "decimal comma and tab",
            file("", 250.0, |_, time, value| comma(format!("{time:.3}\t{value:.4}\n"))),
        ),
        (
            "decimal comma and blank",
            file("", 250.0, |_, time, value| comma(format!("{time:.3} {value:.4}\n"))),
        ),
        ("line ends of Windows", file("", 250.0, |_, time, value| format!("{time:.3},{value:.4}\r\n"))),
        ("line ends of old Macs", file("", 250.0, |_, time, value| format!("{time:.3},{value:.4}\r"))),
        (
            "byte order mark",
            file("\u{feff}time,voltage\n", 250.0, |_, time, value| format!("{time:.3},{value:.4}\n")),
        ),
        (
            "byte order mark, no header",
            file("\u{feff}", 250.0, |_, time, value| format!("{time:.3},{value:.4}\n")),
        ),
        (
            "quotes",
            file("\"time\",\"mV\"\n", 250.0, |_, time, value| format!("\"{time:.3}\",\"{value:.4}\"\n")),
        ),
        (
            "quoted decimal commas",
            file("t,v\n", 250.0, |_, time, value| {
                let quoted = |number: String| format!("\"{}\"", number.replace('.', ","));
                format!("{};{}\n", quoted(format!("{time:.3}")), quoted(format!("{value:.4}")))
            }),
        ),
        ("trailing delimiter", file("", 250.0, |_, time, value| format!("{time:.3},{value:.4},\n"))),
        ("exponents", file("", 250.0, |_, time, value| format!("{time:e},{value:e}\n"))),
        (
            "what a spreadsheet tells itself",
            file("sep=;\n", 250.0, |_, time, value| format!("{time:.3};{value:.4}\n")),
        ),
    ] {
        let strip =
            read(text.as_bytes(), &Options::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        println!("{name}");
        assert_is_signal(&strip, 250.0);
        assert_eq!(strip.rows.skipped, 0, "{name}");
    }
}

#[test]
fn comments_and_blank_lines_are_ignored() {
    let text = file("# made by hand\n% and by Matlab\n// and by C\n\n", 360.0, |index, time, value| {
        let aside = if index % 500 == 3 { "# a remark\n\n" } else { "" };
        format!("{aside}{time:.4},{value:.4}\n")
    });
    let strip = read_text(&text);
    assert_is_signal(&strip, 360.0);
    assert_eq!(strip.rows.skipped, 0);
}

#[test]
fn time_unit_comes_from_header_or_values() {
    for (header, per_second, rate_hz) in [
        ("time (ms),ecg (mV)\n", 1e3, 250.0),
        ("t_us,mV\n", 1e6, 250.0),
        ("ms,mV\n", 1e3, 1000.0),
        ("", 1.0, 500.0),
        ("", 1e3, 360.0),
        ("", 1e3, 2000.0),
        ("", 1e6, 360.0),
        ("", 1e9, 250.0),
        ("time,ecg\n", 1e3, 128.0),
    ] {
        let text = file(header, rate_hz, |_, time, value| format!("{:.3},{value:.4}\n", time * per_second));
        let strip = read_text(&text);
        assert_is_signal(&strip, rate_hz);
        let assumed = codes(&strip).contains(&"time_unit_assumed");
        let named = header.contains("ms") || header.contains("us");
        assert_eq!(assumed, per_second != 1.0 && !named, "{header:?} {per_second}");
    }
}

#[test]
fn sampling_rate_is_exact_with_a_coarse_clock() {
    for rate_hz in
        [50.0, 128.0, 180.0, 250.0, 257.0, 333.0, 360.0, 500.0, 720.0, 977.0, 1000.0, 1500.0, 2000.0]
    {
        for cut in [f64::floor, f64::round] {
            let seconds = |time: f64| cut(time * 1000.0) / 1000.0;
            let text =
                file("time (s),mV\n", rate_hz, |_, time, value| format!("{},{value:.4}\n", seconds(time)));
            assert_is_signal(&read_text(&text), rate_hz);
        }
    }
}

#[test]
fn clock_times_are_read_across_midnight() {
    let clock = |seconds: f64| {
        let seconds = seconds.rem_euclid(86_400.0);
        format!(
            "{:02}:{:02}:{:06.3}",
            (seconds / 3600.0) as u32,
            (seconds / 60.0) as u32 % 60,
            seconds % 60.0
        )
    };
    for text in [
        file("", 250.0, |_, time, value| format!("{},{value:.4}\n", clock(time + 86_395.0))),
        file("time,V5\n", 250.0, |_, time, value| format!("{},{value:.4}\n", clock(time + 3600.0))),
        file("", 250.0, |_, time, value| format!("2024-02-28T{},{value:.4}\n", clock(time))),
        file("", 250.0, |_, time, value| format!("2024-02-28T{}Z,{value:.4}\n", clock(time))),
        file("", 250.0, |_, time, value| format!("2024-02-28 {};{value:.4}\n", clock(time))),
        file("date;time;mV\n", 250.0, |_, time, value| {
            format!("28.02.2024;{};{value:.4}\n", clock(time + 86_399.0))
        }),
        file("", 250.0, |_, time, value| format!("2024-02-28 {} {value:.4}\n", clock(time))),
        file("'Elapsed time','MLII'\n'hh:mm:ss.mmm','mV'\n", 250.0, |_, time, value| {
            format!("'{}:{:06.3}',{value:.4}\n", (time / 60.0) as u32, time % 60.0)
        }),
        file("", 250.0, |_, time, value| format!("[{} 01/01/2000],{value:.4}\n", clock(time))),
    ] {
        assert_is_signal(&read_text(&text), 250.0);
    }
}

#[test]
fn single_column_takes_rate_from_options_or_comment() {
    let text = file("", 250.0, |_, _, value| format!("{value:.4}\n"));
    let options = Options { sample_rate_hz: Some(250.0), ..Options::default() };
    assert_is_signal(&read(text.as_bytes(), &options).unwrap(), 250.0);
    let decimal_comma = text.replace('.', ",");
    assert_is_signal(&read(decimal_comma.as_bytes(), &options).unwrap(), 250.0);
    assert_is_signal(&read_text(&format!("# Sampling rate: 250 Hz\n{text}")), 250.0);
    let watch = format!("Name,\nSample Rate,250 hertz\nLead,Lead I\nUnit,mV\n\n{text}");
    let strip = read_text(&watch);
    assert_is_signal(&strip, 250.0);
    assert_eq!(strip.lead.as_deref(), Some("Lead I"));

    let error = error_of(&text);
    assert!(error.contains("give the sampling rate"), "{error}");
    let given = Options { sample_rate_hz: Some(0.5), ..Options::default() };
    assert!(matches!(read(text.as_bytes(), &given), Err(ReadError::GivenRateImplausible { .. })));
}

#[test]
fn sample_counter_requires_a_rate() {
    for header in ["", "sample,mV\n", "'sample #','MLII'\n"] {
        let text = file(header, 360.0, |index, _, value| format!("{index},{value:.4}\n"));
        let error = error_of(&text);
        assert!(error.contains("give the sampling rate"), "{error}");
        let options = Options { sample_rate_hz: Some(360.0), ..Options::default() };
        assert_is_signal(&read(text.as_bytes(), &options).unwrap(), 360.0);
    }
}

#[test]
fn row_number_column_is_ignored() {
    for header in ["", ",time,ecg\n", "index,time,ecg\n"] {
        let text = file(header, 250.0, |index, time, value| format!("{index},{time:.3},{value:.4}\n"));
        let strip = read_text(&text);
        assert_is_signal(&strip, 250.0);
        assert_eq!(strip.warnings, [], "{header}");
    }
}

#[test]
fn first_or_requested_lead_is_read() {
    let text = file("time (s),II (mV),V5_uV\n", 250.0, |_, time, value| {
        format!("{time:.3},{:.4},{:.1}\n", value * 2.0, value * 1000.0)
    });
    let first = read_text(&text);
    assert_eq!(first.lead.as_deref(), Some("II"));
    let remark = first.warnings.iter().find(|warning| warning.code == "other_leads").unwrap();
    assert!(remark.message.contains("V5"), "{}", remark.message);
    for lead in [LeadChoice::Name("v5".to_owned()), LeadChoice::Index(1)] {
        let strip = read(text.as_bytes(), &Options { lead: Some(lead), ..Options::default() }).unwrap();
        assert_is_signal(&strip, 250.0);
        assert_eq!(strip.lead.as_deref(), Some("V5"));
    }
    let missing = Options { lead: Some(LeadChoice::Name("aVR".to_owned())), ..Options::default() };
    let error = read(text.as_bytes(), &missing).unwrap_err().to_string();
    assert!(error.contains("II, V5"), "{error}");
    let missing = Options { lead: Some(LeadChoice::Index(2)), ..Options::default() };
    assert!(matches!(read(text.as_bytes(), &missing), Err(ReadError::NoLeadAt { wanted: 2, count: 2 })));
}

#[test]
fn voltage_unit_comes_from_header_or_range() {
    for (header, factor, assumed) in [
        ("time,voltage (V)\n", 1e-3, false),
        ("time,voltage [uV]\n", 1e3, false),
        ("s,\u{b5}V\n", 1e3, false),
        ("time,voltage\n", 1.0, false),
        ("time,voltage\n", 1e-3, true),
        ("", 1e3, true),
    ] {
        let text =
            file(header, 250.0, |_, time, value| format!("{time:.3},{:.7}\n", f64::from(value) * factor));
        let strip = read_text(&text);
        assert_is_signal(&strip, 250.0);
        assert_eq!(codes(&strip).contains(&"unit_assumed"), assumed, "{header:?} {factor}");
    }
    let latin = file("", 250.0, |_, time, value| format!("{time:.3};{:.2}\n", value * 1000.0));
    let latin = [b"Zeit (s);Spannung (\xb5V)\n".as_slice(), latin.as_bytes()].concat();
    let strip = read(latin.as_slice(), &Options::default()).unwrap();
    assert_is_signal(&strip, 250.0);
    assert_eq!(strip.warnings, []);
}

#[test]
fn unusual_range_is_read_with_a_warning() {
    let text = file("time,ecg (mV)\n", 250.0, |_, time, value| format!("{time:.3},{:.1}\n", value * 1000.0));
    let strip = read_text(&text);
    assert_eq!(codes(&strip), ["range_unusual"]);
    assert!(strip.segments[0].samples.iter().any(|sample| *sample > 500.0));
}

#[test]
fn bad_rows_are_counted_and_single_ones_interpolated() {
    let text = file("", 360.0, |index, time, value| match index {
        100 => "word,0.1\n".to_owned(),
        200 => format!("{time:.3},nan\n"),
        300 => format!(",{value:.4}\n"),
        400 => format!("{time:.3}\n"),
        500 => format!("{time:.3},{value:.4},7\n"),
        600 => format!("{time:.3},\u{fffd}\n"),
        _ => format!("{time:.3},{value:.4}\n"),
    });
    let strip = read_text(&text);
    assert_eq!((strip.rows.used, strip.rows.skipped), (3594, 6));
    assert_eq!(strip.rows.first_skipped_lines, [101, 201, 301, 401, 501, 601]);
    assert_eq!((strip.segments.len(), strip.sample_count()), (1, 3600));
    assert_eq!(codes(&strip), ["rows_skipped", "samples_filled"]);
    let expected = signal(360.0);
    let bridged = strip.segments[0].samples[100];
    assert!((bridged - (expected[99] + expected[101]) / 2.0).abs() < 1e-3);
}

#[test]
fn gaps_split_the_strip() {
    let missing = |index: usize| (720..1080).contains(&index) || (2000..2010).contains(&index);
    let text =
        file(
            "",
            360.0,
            |index, time, value| {
                if missing(index) { String::new() } else { format!("{time:.3},{value:.4}\n") }
            },
        );
    let strip = read_text(&text);
    let gaps: Vec<_> = strip.gaps().collect();
    assert_eq!(gaps.len(), 2);
    assert!((gaps[0].start_s - 2.0).abs() < 0.003 && (gaps[0].end_s - 3.0).abs() < 0.003, "{gaps:?}");
    assert_eq!(strip.sample_count(), 3600 - 370);
    assert_eq!(codes(&strip), ["time_gap"]);
    assert!(strip.warnings[0].message.contains("line 721"), "{}", strip.warnings[0].message);
}

#[test]
fn repeated_rows_are_skipped() {
    let text = file("", 360.0, |index, time, value| {
        let row = format!("{time:.3},{value:.4}\n");
        if index % 400 == 399 { row.repeat(2) } else { row }
    });
    let strip = read_text(&text);
    assert_is_signal(&strip, 360.0);
    assert_eq!(codes(&strip), ["time_repeated"]);
    assert_eq!((strip.rows.used, strip.rows.skipped), (3600, 9));
}

#[test]
fn backward_clock_splits_the_strip() {
    let text = file("", 250.0, |index, time, value| {
        let time = if index < 1250 { time } else { time - 4.0 };
        format!("{time:.3},{value:.4}\n")
    });
    let strip = read_text(&text);
    assert_eq!(strip.segments.len(), 2);
    assert_eq!(codes(&strip)[0], "time_backward");
    assert!(strip.warnings[0].message.contains("line 1251"), "{}", strip.warnings[0].message);
    assert!(strip.gaps().all(|gap| gap.end_s > gap.start_s));
}

#[test]
fn single_wrong_times_do_not_split_the_strip() {
    let text = file("", 250.0, |index, time, value| {
        let time = match index {
            700 => 99_999.0,
            900 => -5.0,
            _ => time,
        };
        format!("{time:.3},{value:.4}\n")
    });
    let strip = read_text(&text);
    assert_is_signal(&strip, 250.0);
    assert_eq!(codes(&strip), ["time_stray"]);
    assert!(strip.warnings[0].message.contains("line 701"), "{}", strip.warnings[0].message);
}

#[test]
fn jittering_times_are_read_as_even() {
    let mut state = 1u64;
    let trembles: Vec<f64> = (0..2500)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 33) as f64 / (1u64 << 31) as f64 - 0.5) * 0.006
        })
        .collect();
    let text =
        file("", 250.0, |index, time, value| format!("{:.6},{value:.4}\n", time + 1.0 + trembles[index]));
    let strip = read_text(&text);
    assert!((strip.sample_rate_hz / 250.0 - 1.0).abs() < 2e-3, "{}", strip.sample_rate_hz);
    assert_eq!(strip.segments.len(), 1);
    assert!(strip.sample_count().abs_diff(2500) < 5, "{}", strip.sample_count());
    assert!(codes(&strip).contains(&"time_jitter"));
}

#[test]
fn non_ecg_files_are_rejected_with_a_reason() {
    let many = |line: &str| line.repeat(3000);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", Vec::new(), "empty"),
        ("blank lines", many("\n").into_bytes(), "No line of the file holds numbers"),
        ("words", many("the quick brown fox\n").into_bytes(), "No line of the file holds numbers"),
        ("a header alone", b"time,voltage\n".to_vec(), "No line of the file holds numbers"),
        ("a PNG", b"\x89PNG\r\n\x1a\n0000".to_vec(), "a PNG picture"),
        ("a workbook", b"PK\x03\x04rest".to_vec(), "an Excel workbook"),
        ("binary", (0..9000u32).map(|index| (index % 7) as u8).collect(), "binary data"),
        ("UTF-16", b"\xff\xfe0\0,\x001\0\n\0".to_vec(), "UTF-16"),
        ("one endless line", vec![b'1'; 3_000_000], "longer than"),
        ("a few rows", b"0,1\n0.004,2\n0.008,3\n".to_vec(), "Only 3 rows hold"),
        (
            "two seconds",
            file(
                "",
                250.0,
                |index, time, value| {
                    if index < 500 { format!("{time:.3},{value:.4}\n") } else { String::new() }
                },
            )
            .into_bytes(),
            "2.0 s long",
        ),
        (
            "a flat line",
            file("", 250.0, |_, time, _| format!("{time:.3},0.25\n")).into_bytes(),
            "Every one of the 2500 voltages is 0.25",
        ),
        (
            "a time that stands still",
            file("time,mV\n", 250.0, |_, _, value| format!("1,{value:.4}\n")).into_bytes(),
            "does not grow",
        ),
        (
            "a time without sense",
            file("time,mV\n", 250.0, |index, _, value| {
                format!("{},{value:.4}\n", index * index * 7919 % 4093)
            })
            .into_bytes(),
            "",
        ),
        (
            "half of the rows bad",
            file("", 250.0, |index, time, value| {
                if index % 2 == 0 { format!("{time:.3},{value:.4}\n") } else { format!("{time:.3},?\n") }
            })
            .into_bytes(),
            "1250 of 2500 rows",
        ),
        (
            "one sample per second",
            file("time (s),mV\n", 250.0, |index, _, value| format!("{}.5,{value:.4}\n", index * 2))
                .into_bytes(),
            "samples per second",
        ),
        ("times alone", file("time (s)\n", 250.0, |_, time, _| format!("{time:.3}\n")).into_bytes(), ""),
    ];
    for (name, bytes, part) in cases {
        let error = error_of(&bytes);
        println!("{name}: {error}");
        assert!(error.contains(part), "{name}: {error}");
        assert!(error.ends_with('.') && !error.contains('\n'), "{name}: {error}");
    }
}

#[test]
fn rows_beyond_the_limit_are_rejected() {
    let text = file("", 250.0, |_, time, value| format!("{time:.3},{value:.4}\n"));
    let options = Options { max_rows: 2000, ..Options::default() };
    assert!(matches!(read(text.as_bytes(), &options), Err(ReadError::TooManyRows { limit: 2000 })));
}

#[test]
fn failing_reader_is_reported() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the cable was pulled"))
        }
    }
    let error = read(Broken, &Options::default()).unwrap_err().to_string();
    assert!(error.contains("the cable was pulled"), "{error}");
}

#[test]
fn small_reads_give_the_same_strip() {
    struct Dribble<'a>(&'a [u8], usize);
    impl std::io::Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.1 = self.1 % 13 + 1;
            let count = self.1.min(buffer.len()).min(self.0.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }
    let settings = Settings { duration_s: 120.0, ..Settings::default() };
    let text = synth::csv(&synth::generate(&settings).strip);
    let whole = read(text.as_slice(), &Options::default()).unwrap();
    assert_eq!(read(Dribble(&text, 0), &Options::default()).unwrap(), whole);
}
