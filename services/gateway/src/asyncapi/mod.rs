//! The AsyncAPI document of the event streams, the WebSockets and the subjects of the broker, checked in as
//! `asyncapi.json`. A test regenerates it and compares. Schemas are derived from the types of proto-json; the layouts of
//! binary messages are data (`x-layout`), and a test decodes real messages with them.

/// The checked-in document.
pub(crate) const DOCUMENT: &str = include_str!("../../asyncapi.json");

#[cfg(test)]
mod document;
#[cfg(test)]
mod layout;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto_json::waveform::{Column, ColumnBlock, Frame, LiveFrame, Segment};
    use serde_json::{Value, json};

    use super::layout::decode;
    use crate::documents;

    #[test]
    fn checked_in_document_is_current() {
        documents::assert_current("asyncapi", &super::document::make());
    }

    #[test]
    fn every_reference_resolves_and_every_message_is_used() {
        let document = super::document::make();
        let found = documents::resolved_references(&document);
        let messages = document["components"]["messages"].as_object().unwrap();
        for name in messages.keys() {
            assert!(found.contains(&format!("#/components/messages/{name}")), "{name}");
        }
        for (name, channel) in document["channels"].as_object().unwrap() {
            for message in channel["messages"].as_object().unwrap().keys() {
                assert!(found.contains(&format!("#/channels/{name}/messages/{message}")), "{name} {message}");
            }
        }
    }

    fn frame() -> Frame {
        let segment = |channel, first, lead_off, samples: &[i16]| Segment {
            channel,
            first,
            lead_off,
            samples: samples.to_vec(),
        };
        Frame {
            sequence: 9,
            device_time_us: -5,
            segments: vec![
                segment(0, 70, false, &[1, -2, i16::MIN]),
                segment(1, 1 << 40, true, &[3, 4, 5, 6]),
            ],
        }
    }

    fn layout(message: &str) -> Value {
        super::document::make()["components"]["messages"][message]["x-layout"].clone()
    }

    fn decoded_frame() -> Value {
        json!({
            "version": 1, "flags": 0, "segments": 2, "reserved": 0, "sequence": 9, "device_time_us": -5,
            "segment": [
                { "channel": 0, "samples": 3, "state": 0, "reserved": 0, "first": 70, "values": [1, -2, -32768] },
                { "channel": 1, "samples": 4, "state": 1, "reserved": 0, "first": 1_099_511_627_776_u64,
                  "values": [3, 4, 5, 6] },
            ]
        })
    }

    #[test]
    fn frames_are_decoded_with_the_layout_of_the_document() {
        assert_eq!(decode(&layout("frame"), &frame().encode()), decoded_frame());
        let live = LiveFrame::Frame { number: 7, time_us: 1_000, frame: Bytes::from(frame().encode()) };
        let decoded = decode(&layout("liveFrame"), &live.encode());
        let mut expected = decoded_frame();
        for (name, value) in [("kind", 1), ("zero", 0), ("number", 7), ("padding", 0), ("time_us", 1_000)] {
            expected[name] = json!(value);
        }
        assert_eq!(decoded, expected);
    }

    #[test]
    fn columns_are_decoded_with_the_layout_of_the_document() {
        let columns = vec![Column { min: -3, max: 4 }, Column::MISSING, Column { min: 0, max: 1 }];
        let blocks = vec![
            ColumnBlock { channel: 2, lead_off: true, first: -60, columns },
            ColumnBlock { channel: 3, lead_off: false, first: 1, columns: vec![Column { min: 8, max: 9 }] },
        ];
        let live = LiveFrame::Columns { number: 1, time_us: -7, blocks };
        let column = |min: i16, max: i16| json!({ "min": min, "max": max });
        let expected = json!({
            "kind": 2, "zero": 0, "number": 1, "padding": 0, "time_us": -7,
            "block": [
                { "channel": 2, "columns": 3, "state": 1, "reserved": 0, "first": -60,
                  "column": [column(-3, 4), column(i16::MIN, i16::MIN), column(0, 1)] },
                { "channel": 3, "columns": 1, "state": 0, "reserved": 0, "first": 1, "column": [column(8, 9)] },
            ]
        });
        assert_eq!(decode(&layout("liveColumns"), &live.encode()), expected);
    }
}
