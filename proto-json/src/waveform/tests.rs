//! Tests of the types and layouts.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::frame::FRAME_VERSION;
use super::*;

fn channel(label: &str, numerator: u32, denominator: u32) -> Channel {
    Channel {
        label: label.to_owned(),
        code: "MDC_ECG_LEAD_II".to_owned(),
        unit: "mV".to_owned(),
        rate: SampleRate { numerator, denominator },
        scale: 0.005,
        offset: 0.0,
    }
}

fn channels() -> Vec<Channel> {
    vec![channel("II", 250, 1), channel("Pleth", 624_725, 10_000), channel("Temp", 1, 60)]
}

/// A valid frame of [`channels`]: increasing segments with gaps, at most 126, 33 and 2 samples.
fn frame() -> impl Strategy<Value = Frame> {
    let segments = |channel: u16, most: usize| {
        vec((0..50_u64, any::<bool>(), vec(any::<i16>(), 1..=most)), 0..=2).prop_flat_map(move |parts| {
            (0..1_u64 << 50).prop_map(move |first| {
                let mut next = first;
                let of_part = |(gap, lead_off, samples): &(u64, bool, Vec<i16>)| {
                    let first = next + gap;
                    next = first + samples.len() as u64;
                    Segment { channel, first, lead_off: *lead_off, samples: samples.clone() }
                };
                parts.iter().map(of_part).collect::<Vec<_>>()
            })
        })
    };
    (any::<u64>(), any::<i64>(), segments(0, 63), segments(1, 16), segments(2, 1))
        .prop_map(|(sequence, device_time_us, ecg, pleth, temperature)| Frame {
            sequence,
            device_time_us,
            segments: [ecg, pleth, temperature].concat(),
        })
        .prop_filter("has segments", |frame| !frame.segments.is_empty())
}

fn limits() -> FrameLimits {
    FrameLimits::of(&channels())
}

proptest! {
    #[test]
    fn frames_round_trip(frame in frame()) {
        let bytes = frame.encode();
        prop_assert_eq!(bytes.len() % 8, 0);
        prop_assert_eq!(Frame::decode(&bytes, &limits()), Ok(frame));
    }

    #[test]
    fn truncated_and_extended_frames_are_rejected(frame in frame(), cut in any::<prop::sample::Index>()) {
        let mut bytes = frame.encode();
        let short = &bytes[..cut.index(bytes.len())];
        prop_assert_eq!(Frame::decode(short, &limits()), Err(FrameError::Truncated(short.len())));
        bytes.push(0);
        let extended = Frame::decode(&bytes, &limits());
        let too_large = matches!(extended, Err(FrameError::TooLarge { .. }));
        prop_assert!(too_large || extended == Err(FrameError::Trailing(1)));
    }

    #[test]
    fn every_accepted_message_has_exactly_one_encoding(
        frame in frame(), at in any::<prop::sample::Index>(), flip in 1..=255_u8,
    ) {
        let mut bytes = frame.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(decoded) = Frame::decode(&bytes, &limits()) {
            prop_assert_ne!(&decoded, &frame);
            prop_assert_eq!(decoded.encode(), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in vec(any::<u8>(), 0..300), version in any::<bool>()) {
        let mut bytes = bytes;
        if let (true, Some(first)) = (version, bytes.first_mut()) {
            *first = FRAME_VERSION;
        }
        if let Ok(frame) = Frame::decode(&bytes, &limits()) {
            prop_assert_eq!(frame.encode(), &bytes[..]);
        }
        let bytes = Bytes::from(bytes);
        if let Ok(live) = LiveFrame::decode(&bytes) {
            prop_assert_eq!(live.encode(), bytes);
        }
    }

    #[test]
    fn overview_columns_round_trip(
        number in any::<u16>(), time_us in any::<i64>(), first in any::<i64>(), lead_off in any::<bool>(),
        columns in vec((any::<i16>(), any::<i16>()), 0..100),
    ) {
        let columns = columns.into_iter().map(|(min, max)| Column { min, max }).collect();
        let block = ColumnBlock { channel: 3, lead_off, first, columns };
        let live = LiveFrame::Columns { number, time_us, blocks: vec![block.clone(), block] };
        prop_assert_eq!(LiveFrame::decode(&live.encode().into()), Ok(live));
    }

    #[test]
    fn index_and_time_of_a_sample_agree(index in 0..1_u64 << 40, numerator in 1..100_000_u32, denominator in 1..100_u32) {
        if let Ok(rate) = SampleRate::new(numerator, denominator) {
            prop_assert_eq!(rate.index_at(rate.micros(index)), index);
        }
    }
}

fn one(channel: u16, first: u64, samples: usize) -> Frame {
    let segment = Segment { channel, first, lead_off: false, samples: vec![7; samples] };
    Frame { sequence: 0, device_time_us: 0, segments: vec![segment] }
}

#[test]
fn frames_that_do_not_fit_the_stream_are_rejected() {
    let reject = |frame: &Frame| Frame::decode(&frame.encode(), &limits()).unwrap_err();
    assert_eq!(reject(&one(3, 0, 1)), FrameError::Channel(3));
    assert_eq!(reject(&one(0, 0, 0)), FrameError::NoSamples(0));
    assert_eq!(reject(&one(0, 0, 127)), FrameError::TooManySamples { channel: 0, samples: 127, limit: 126 });
    assert_eq!(reject(&one(0, 1 << 53, 1)), FrameError::Index { channel: 0, index: 1 << 53 });
    let mut overlapping = one(0, 10, 5);
    overlapping.segments.extend(one(0, 14, 5).segments);
    assert_eq!(reject(&overlapping), FrameError::Index { channel: 0, index: 14 });
    let none = Frame { segments: Vec::new(), ..one(0, 0, 1) };
    assert_eq!(reject(&none), FrameError::Empty);
    let large = vec![1; limits().max_bytes() + 1];
    assert!(matches!(Frame::decode(&large, &limits()), Err(FrameError::TooLarge { .. })));
}

#[test]
fn reserved_fields_and_versions_are_rejected() {
    let bytes = one(0, 0, 1).encode();
    for (at, error) in [
        (0, FrameError::Version(3)),
        (1, FrameError::Reserved(1)),
        (4, FrameError::Reserved(4)),
        (28, FrameError::Reserved(28)),
        (31, FrameError::Reserved(31)),
        (42, FrameError::Reserved(42)),
        (47, FrameError::Reserved(47)),
    ] {
        let mut changed = bytes.clone();
        changed[at] ^= 2;
        assert_eq!(Frame::decode(&changed, &limits()), Err(error), "{at}");
    }
}

#[test]
fn layout_of_a_frame_is_the_documented_one() {
    let frame = Frame {
        sequence: 5,
        device_time_us: 1_700_000_000_000_000,
        segments: vec![Segment { channel: 1, first: 500, lead_off: true, samples: vec![1, -2, i16::MIN] }],
    };
    let hex: String = frame.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "0100010000000000\
         0500000000000000\
         00401e18240a0600\
         0100030001000000\
         f401000000000000\
         0100feff00800000"
    );
}

#[test]
fn largest_frame_of_the_fastest_stream_is_allowed() {
    let channels: Vec<Channel> = (0..4).map(|n| channel(&n.to_string(), 100_000, 1)).collect();
    assert_eq!(check_channels(&channels), Ok(()));
    let mut frame = one(0, 0, 50_000);
    (1..4).for_each(|channel| frame.segments.extend(one(channel, 0, 50_000).segments));
    assert_eq!(Frame::decode(&frame.encode(), &FrameLimits::of(&channels)), Ok(frame));
}

#[test]
fn channels_are_checked() {
    let changed = |change: fn(&mut Channel)| {
        let mut channel = channel("II", 250, 1);
        change(&mut channel);
        check_channels(&[channel]).unwrap_err().to_string()
    };
    assert_eq!(check_channels(&channels()), Ok(()));
    assert_eq!(check_channels(&[]), Err(ChannelError::Count(0)));
    assert_eq!(changed(|c| c.rate.numerator = 0), "the sample rate 0/1 Hz is outside of 1/60 to 100000 Hz");
    assert!(changed(|c| c.label = " ".to_owned()).starts_with("the label"));
    assert!(changed(|c| c.label = "a\u{0}".to_owned()).starts_with("the label"));
    assert!(changed(|c| c.unit = "m".repeat(33)).starts_with("the unit"));
    assert!(changed(|c| c.code = "mdc".to_owned()).starts_with("the code"));
    assert!(changed(|c| c.scale = 0.0).starts_with("scale and offset"));
    assert!(changed(|c| c.offset = f64::NAN).starts_with("scale and offset"));
    let twice = [channel("II", 250, 1), channel("II", 250, 1)];
    assert_eq!(check_channels(&twice), Err(ChannelError::Duplicate("II".to_owned())));
    let fast: Vec<Channel> = (0..5).map(|n| channel(&n.to_string(), 100_000, 1)).collect();
    assert_eq!(check_channels(&fast), Err(ChannelError::TotalRate(500_000.0)));
}

#[test]
fn rates_outside_of_the_range_are_rejected_in_json() {
    let rate = |numerator: u64, denominator: u64| {
        let json = format!(r#"{{"numerator":{numerator},"denominator":{denominator}}}"#);
        serde_json::from_str::<SampleRate>(&json).map(SampleRate::hz).map_err(|error| error.to_string())
    };
    assert_eq!(rate(624_725, 10_000), Ok(62.4725));
    assert_eq!(rate(1, 60), Ok(1.0 / 60.0));
    assert_eq!(rate(100_000, 1), Ok(100_000.0));
    for (numerator, denominator) in [(0, 1), (1, 0), (1, 61), (100_001, 1), (1_000_000, 1)] {
        let error = rate(numerator, denominator).unwrap_err();
        assert!(error.contains("outside of 1/60 to 100000 Hz"), "{error}");
    }
}

#[test]
fn segments_of_different_rates_have_their_own_times() {
    let channels = [channel("II", 250, 1), channel("Pleth", 125, 2)];
    let mut frame = one(0, 500, 50);
    frame.segments.extend(one(1, 126, 12).segments);
    assert_eq!(frame.start_us(&channels), 2_000_000);
    let times: Vec<i64> = frame.timed_segments(1_000, &channels).map(|(time, _)| time).collect();
    assert_eq!(times, [1_000, 17_000]);
}

#[test]
fn partitions_are_stable_and_even() {
    let partition = |mrn| partition_of(&Mrn::new(mrn).unwrap());
    assert_eq!([0, 1, 7, 1_000, Mrn::MAX].map(partition), [15, 12, 6, 4, 11]);
    let mut counts = [0; PARTITIONS as usize];
    (0..16_000).for_each(|mrn| counts[usize::from(partition(mrn))] += 1);
    assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    let stream: StreamId = "0198c0de-0000-7000-8000-000000000001".parse().unwrap();
    assert_eq!(
        wave_subject(Mrn::new(7).unwrap(), Some(stream)),
        "wave.6.7.0198c0de-0000-7000-8000-000000000001"
    );
    assert_eq!(wave_subject(Mrn::new(7).unwrap(), None), "wave.6.7.*");
}

#[test]
fn messages_of_the_protocols_have_the_documented_json() {
    let open = r#"{"type":"open","device":{"name":"Sim","serial":"1"},"channels":[{"label":"II",
        "code":"MDC_ECG_LEAD_II","unit":"mV","rate":{"numerator":250,"denominator":1},"scale":0.005,"offset":0}],
        "device_time_us":1700000000000000}"#;
    let DeviceMessage::Open { resume, channels, .. } = serde_json::from_str(open).unwrap() else {
        panic!("not open");
    };
    assert_eq!((resume, channels), (None, vec![channel("II", 250, 1)]));
    let without_rate = open.replace(r#""rate":{"numerator":250,"denominator":1},"#, "");
    let error = serde_json::from_str::<DeviceMessage>(&without_rate).unwrap_err();
    assert!(error.to_string().contains("missing field `rate`"), "{error}");
    let json = |message: &LiveRequest| serde_json::to_string(message).unwrap();
    let mrn = Mrn::new(7).unwrap();
    assert_eq!(
        json(&LiveRequest::Subscribe { mrn, mode: LiveMode::Overview }),
        r#"{"type":"subscribe","mrn":7,"mode":"overview"}"#
    );
    assert!(serde_json::from_str::<LiveRequest>(r#"{"type":"subscribe","mrn":"*","mode":"full"}"#).is_err());
    assert_eq!(
        serde_json::to_string(&DeviceReply::Ack { sequence: 4 }).unwrap(),
        r#"{"type":"ack","sequence":4}"#
    );
    assert_eq!(serde_json::to_string(&DeviceMessage::End {}).unwrap(), r#"{"type":"end"}"#);
}

#[test]
fn close_codes_are_distinct_and_fit_a_close_frame() {
    assert!(close::ALL.is_sorted_by(|a, b| a.code < b.code));
    assert!(close::ALL.iter().all(|code| code.reason.len() <= 123));
}
