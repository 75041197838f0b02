//! Layouts of binary messages as data, and a decoder that knows nothing but such a layout.
//!
//! A layout is a list of fields in the order of the bytes. A field has a `type` (`u8`, `u16`, `u32`, `u64`, `i16`, `i64`) or
//! `fields` of its own. `repeat` is the name of the field with the number of repetitions, or `to the end`. With `align`,
//! zeros follow each repetition up to a multiple of this number of bytes, counted from the start of the message.

use serde_json::{Map, Value, json};

fn field(name: &str, kind: &str, description: &str) -> Value {
    json!({ "name": name, "type": kind, "description": description })
}

fn constant(name: &str, kind: &str, value: u8) -> Value {
    json!({ "name": name, "type": kind, "const": value })
}

fn frame_fields() -> Vec<Value> {
    vec![
        constant("version", "u8", 1),
        constant("flags", "u8", 0),
        field("segments", "u16", "Number of segments."),
        constant("reserved", "u32", 0),
        field("sequence", "u64", "Sequence number of the message in the stream."),
        field("device_time_us", "i64", "Clock of the device at the first sample, microseconds since 1970."),
        json!({
            "name": "segment", "repeat": "segments", "align": 8,
            "description": "Contiguous samples of a channel.",
            "fields": [
                field("channel", "u16", "Position of the channel in the description, starting at 0."),
                field("samples", "u16", "Number of samples."),
                field("state", "u16", "Bit 0: the electrode or sensor is disconnected."),
                constant("reserved", "u16", 0),
                field("first", "u64", "Index of the first sample in the channel, below 2^53."),
                json!({
                    "name": "values", "type": "i16", "repeat": "samples",
                    "description": "Samples; -32768: missing. The value is sample * scale + offset."
                })
            ]
        }),
    ]
}

fn live_fields(kind: u8) -> Vec<Value> {
    vec![
        constant("kind", "u8", kind),
        constant("zero", "u8", 0),
        field("number", "u16", "Number of the stream, as in the message `stream`."),
        constant("padding", "u32", 0),
        field("time_us", "i64", "Server time of the first sample of the frame, microseconds since 1970."),
    ]
}

fn layout(fields: Vec<Value>) -> Value {
    json!({ "byteOrder": "little", "fields": fields })
}

/// Layout of [`proto_json::waveform::Frame`].
pub(super) fn frame() -> Value {
    layout(frame_fields())
}

/// Layout of a frame for a screen.
pub(super) fn live_frame() -> Value {
    layout([live_fields(1), frame_fields()].concat())
}

/// Layout of overview columns.
pub(super) fn live_columns() -> Value {
    let block = json!({
        "name": "block", "repeat": "to the end", "align": 8,
        "description": "Contiguous columns of a channel. A column that was sent before gains samples: the smaller minimum and \
                        the larger maximum count.",
        "fields": [
            field("channel", "u16", "Position of the channel in the description, starting at 0."),
            field("columns", "u16", "Number of columns."),
            field("state", "u16", "Bit 0: the electrode or sensor is disconnected."),
            constant("reserved", "u16", 0),
            field("first", "i64", "Number of the first column: server time in units of 1/60 s since 1970, rounded down."),
            json!({
                "name": "column", "repeat": "columns",
                "description": "Smallest and largest sample; both -32768: no samples.",
                "fields": [field("min", "i16", "Smallest sample."), field("max", "i16", "Largest sample.")]
            })
        ]
    });
    layout([live_fields(2), vec![block]].concat())
}

/// Decodes a message with its layout.
pub(super) fn decode(layout: &Value, bytes: &[u8]) -> Value {
    let mut at = 0;
    let decoded = decode_fields(&layout["fields"], bytes, &mut at);
    assert_eq!(at, bytes.len(), "the layout covers the message");
    decoded
}

fn decode_fields(fields: &Value, bytes: &[u8], at: &mut usize) -> Value {
    let mut decoded = Map::new();
    for field in fields.as_array().unwrap() {
        let name = field["name"].as_str().unwrap();
        let value = match field["repeat"].as_str() {
            None => decode_one(field, bytes, at),
            Some("to the end") => {
                let mut values = Vec::new();
                while *at < bytes.len() {
                    values.push(decode_one(field, bytes, at));
                }
                Value::Array(values)
            }
            Some(count) => {
                let count = decoded[count].as_u64().unwrap();
                (0..count).map(|_| decode_one(field, bytes, at)).collect()
            }
        };
        if let Some(constant) = field.get("const") {
            assert_eq!(&value, constant, "{name}");
        }
        decoded.insert(name.to_owned(), value);
    }
    Value::Object(decoded)
}

fn decode_one(field: &Value, bytes: &[u8], at: &mut usize) -> Value {
    let value = match field["type"].as_str() {
        None => decode_fields(&field["fields"], bytes, at),
        Some("u8") => json!(take::<1>(bytes, at)[0]),
        Some("u16") => json!(u16::from_le_bytes(take(bytes, at))),
        Some("i16") => json!(i16::from_le_bytes(take(bytes, at))),
        Some("u32") => json!(u32::from_le_bytes(take(bytes, at))),
        Some("u64") => json!(u64::from_le_bytes(take(bytes, at))),
        Some("i64") => json!(i64::from_le_bytes(take(bytes, at))),
        Some(other) => panic!("{other}"),
    };
    if let Some(align) = field["align"].as_u64() {
        *at = at.next_multiple_of(align as usize);
    }
    value
}

fn take<const N: usize>(bytes: &[u8], at: &mut usize) -> [u8; N] {
    let taken = bytes[*at..][..N].try_into().unwrap();
    *at += N;
    taken
}
