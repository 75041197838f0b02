//! Event streams: the parsed events do not depend on how the bytes are split.
#![no_main]

use proto_json::PatientUpdated;
use sse::{SseError, SseEvent, SseParser};

// Includes only the parser, without the dependencies of the client.
#[path = "../../libs/client/src/sse.rs"]
mod sse;

fn events<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<SseEvent>, SseError> {
    let mut parser = SseParser::new();
    let mut events = Vec::new();
    for piece in pieces {
        events.extend(parser.push(piece)?);
    }
    Ok(events)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let length = 1 + usize::from(bytes.last().copied().unwrap_or_default()) % 37;
    let whole = events(std::iter::once(bytes));
    assert_eq!(events(bytes.chunks(length)), whole);
    for event in whole.into_iter().flatten() {
        assert!(!event.event.is_empty() && !event.event.contains(['\r', '\n']) && !event.data.contains('\r'));
        let _ = serde_json::from_str::<PatientUpdated>(&event.data);
    }
});
