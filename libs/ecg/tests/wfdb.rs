//! The WFDB reader byte by byte: sample formats, headers and annotations.

use ecg::wfdb::{Annotation, Header, WfdbError, annotations, beats_and_flutter, signal, strip};

fn header(text: &str) -> Header {
    Header::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

/// An annotation word: six bits of code, ten bits of value.
fn word(code: u16, value: u16) -> [u8; 2] {
    (code << 10 | value).to_le_bytes()
}

const NORMAL: u16 = 1;
const VENTRICULAR: u16 = 5;
const RHYTHM: u16 = 28;
const FLUTTER_ON: u16 = 32;
const FLUTTER_OFF: u16 = 33;
const SKIP: u16 = 59;
const NUM: u16 = 60;
const SUB: u16 = 61;
const CHN: u16 = 62;
const AUX: u16 = 63;

#[test]
fn format_212_holds_two_samples_in_three_bytes() {
    // 1 and -2, then 2047 and the marker of a missing sample.
    let bytes = [0x01, 0xf0, 0xfe, 0xff, 0x87, 0x00];
    let two = header("r 2 360 2\nr.dat 212 1(0)/mV 12 0 0 0 0 MLII\nr.dat 212 1(0)/mV 12 0 0 0 0 V5\n");
    assert_eq!(signal(&two, 0, &bytes).unwrap(), [1.0, 2047.0]);
    let second = signal(&two, 1, &bytes).unwrap();
    assert_eq!(second[0], -2.0);
    assert!(second[1].is_nan());

    let one = header("r 1 360\nr.dat 212 1(0)/mV\n");
    // A single last sample takes two of its three bytes.
    assert_eq!(signal(&one, 0, &[0x01, 0xf0, 0xfe, 0x03, 0x00]).unwrap(), [1.0, -2.0, 3.0]);
}

#[test]
fn format_16_is_little_endian_and_61_is_not() {
    let bytes = [0x34, 0x12, 0xff, 0xff, 0x00, 0x80, 0x07];
    let found = signal(&header("r 1 500\nr.dat 16 1(0)/mV\n"), 0, &bytes).unwrap();
    assert_eq!(found[..2], [f32::from(0x1234_i16), -1.0]);
    assert!(found[2].is_nan(), "the smallest number stands for a missing sample");
    assert_eq!(found.len(), 3, "half a sample at the end is none");
    let found = signal(&header("r 1 500\nr.dat 61 1(0)/mV\n"), 0, &[0x12, 0x34, 0xff, 0xfe]).unwrap();
    assert_eq!(found, [f32::from(0x1234_i16), -2.0]);
}

#[test]
fn format_80_is_a_byte_with_an_offset_of_128() {
    let found = signal(&header("r 1 250\nr.dat 80 1(0)/mV\n"), 0, &[128, 255, 1, 0]).unwrap();
    assert_eq!(found[..3], [0.0, 127.0, -127.0]);
    assert!(found[3].is_nan());
}

#[test]
fn gain_baseline_and_unit_convert_to_millivolts() {
    let sample = 1224_i16.to_le_bytes();
    let of = |line: &str| signal(&header(&format!("r 1 250\n{line}\n")), 0, &sample).unwrap()[0];
    assert_eq!(of("r.dat 16 200 12 1024 0 0 0 I"), 1.0, "without a baseline, zero is that of the converter");
    assert_eq!(of("r.dat 16 200(1204)/mV 12 1024"), 0.1);
    assert!((of("r.dat 16 1(0)/uV") - 1.224).abs() < 1e-6);
    assert_eq!(of("r.dat 16 0 12 1024"), 1.0, "no gain is 200 per millivolt");
}

#[test]
fn multi_sample_frames_and_byte_offsets_are_read() {
    let text = "r 2 100 2\nr.dat 16x2+4 1(0)/mV\nr.dat 16+4 1(0)/mV\n";
    let bytes: Vec<u8> =
        [9_i16, 9, 1, 2, 30, 3, 4, 40, 5, 6, 50].iter().flat_map(|value| value.to_le_bytes()).collect();
    let header = header(text);
    assert_eq!(signal(&header, 0, &bytes).unwrap(), [1.0, 2.0, 3.0, 4.0], "the header counts two frames");
    assert_eq!(signal(&header, 1, &bytes).unwrap(), [30.0, 40.0]);
    assert_eq!(header.sample_rate_hz(&header.signals[0]), 200.0);
}

#[test]
fn short_gaps_are_interpolated_and_long_ones_split() {
    let missing = i16::MIN;
    let mut values = vec![0_i16; 300];
    values[100] = missing;
    values[99] = 10;
    values[101] = 20;
    values[200..250].fill(missing);
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let found = strip(&header("r 1 100\nr.dat 16 1(0)/mV 16 0 0 0 0 lead II\n"), 0, &bytes).unwrap();
    assert_eq!(found.lead.as_deref(), Some("lead II"));
    assert_eq!(found.segments.len(), 2);
    assert_eq!((found.segments[0].samples.len(), found.segments[0].samples[100]), (200, 15.0));
    assert_eq!((found.segments[1].samples.len(), found.segments[1].start_s), (50, 2.5));
}

#[test]
fn unsupported_records_are_rejected_with_a_reason() {
    assert!(matches!(Header::parse("# nothing\n"), Err(WfdbError::NoRecordLine(_))));
    assert!(matches!(Header::parse("r/3 2 360\n"), Err(WfdbError::MultiSegment)));
    assert!(matches!(Header::parse("r 1 360\nr.dat abc\n"), Err(WfdbError::BadLine { line: 2, .. })));
    let other = header("r 1 360\nr.dat 310 200\n");
    assert_eq!(signal(&other, 0, &[0; 8]), Err(WfdbError::Format(310)));
    assert_eq!(signal(&other, 1, &[0; 8]), Err(WfdbError::NoSignal { index: 1, count: 1 }));
}

#[test]
fn annotations_have_time_and_text() {
    let bytes: Vec<u8> = [
        word(RHYTHM, 18).as_slice(),
        &word(AUX, 3),
        b"(N\0\0", // three bytes of text, filled up to an even number
        &word(NORMAL, 59),
        &word(NUM, 7),
        &word(SUB, 1),
        &word(CHN, 1),
        // An interval of 0x0001_2345 samples, high half first. The next annotation adds its own.
        &word(SKIP, 0),
        &[0x01, 0x00, 0x45, 0x23],
        &word(VENTRICULAR, 5),
        &word(0, 0),
        &word(NORMAL, 1), // behind the end
    ]
    .concat();
    let plain = |tick, symbol| Annotation { tick, symbol, text: None };
    assert_eq!(
        annotations(&bytes).unwrap(),
        [
            Annotation { tick: 18, symbol: '+', text: Some("(N".to_owned()) },
            plain(77, 'N'),
            plain(77 + 0x1_2345 + 5, 'V'),
        ]
    );
}

#[test]
fn negative_interval_is_read() {
    let bytes = [word(NORMAL, 100), word(SKIP, 0), [0xff, 0xff], [0xf6, 0xff], word(NORMAL, 0)].concat();
    let ticks: Vec<i64> = annotations(&bytes).unwrap().iter().map(|annotation| annotation.tick).collect();
    assert_eq!(ticks, [100, 90]);
}

#[test]
fn truncated_annotations_are_rejected() {
    for bytes in [&[word(SKIP, 0), [0, 0]].concat(), &[word(NORMAL, 3), word(AUX, 9)].concat()] {
        assert!(matches!(annotations(bytes), Err(WfdbError::AnnotationsCutOff(_))), "{bytes:?}");
    }
}

#[test]
fn beats_and_flutter_are_separated() {
    let bytes: Vec<u8> = [
        word(NORMAL, 250),
        word(RHYTHM, 10),
        word(FLUTTER_ON, 240),
        word(VENTRICULAR, 250),
        word(FLUTTER_OFF, 250),
        word(VENTRICULAR, 250),
        word(FLUTTER_ON, 250),
    ]
    .concat();
    let (beats, flutter) = beats_and_flutter(&annotations(&bytes).unwrap(), 250.0);
    assert_eq!(beats, [1.0, 3.0, 5.0]);
    assert_eq!(flutter, [(2.0, 4.0), (6.0, f64::INFINITY)], "flutter that never ends lasts to the end");
}

#[test]
fn annotation_clock_is_read() {
    let text = "## time resolution: 1000";
    let mut bytes = [word(22, 0), word(AUX, text.len() as u16)].concat();
    bytes.extend(text.as_bytes());
    bytes.extend(word(NORMAL, 500));
    assert_eq!(beats_and_flutter(&annotations(&bytes).unwrap(), 250.0).0, [0.5]);
}

#[test]
fn absurd_numbers_are_rejected_or_missing() {
    let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
    let many = format!("r 2 360\na.dat 16x{0}\na.dat 16x{0}\n", usize::MAX);
    assert!(matches!(Header::parse(&many), Err(WfdbError::BadLine { line: 2, .. })));
    for rate in ["inf", "1e300", "-1", "nan"] {
        assert!(Header::parse(&format!("r 1 {rate}\na.dat 16\n")).is_err(), "{rate}");
    }
    for gain in ["200(inf)", "200(nan)", "1e-300(5)", "1e-320"] {
        let read = strip(&header(&format!("r 1 360\na.dat 16 {gain}\n")), 0, &bytes).unwrap();
        assert!(
            read.segments.iter().flat_map(|segment| &segment.samples).all(|sample| sample.is_finite()),
            "{gain}"
        );
    }
}
