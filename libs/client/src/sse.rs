//! Parser of server-sent events, as specified in section 9.2 of the HTML standard.
//!
//! The client has its own parser because the available crates do not limit the length of a line and of an event, or bring an
//! own HTTP client with reconnects. This client reconnects itself: after each reconnect it loads a snapshot. A fuzz target
//! includes this file on its own.

/// Longest line and longest event, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// Type of the event; `message` if the stream does not name one.
    pub event: String,
    /// Data of the event, lines joined by `\n`.
    pub data: String,
}

/// Why a stream cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// A line or an event is too long.
    #[error("an event of the stream is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// The stream is not UTF-8 text.
    #[error("the event stream is not UTF-8 text")]
    NotUtf8,
}

/// Incremental parser: takes bytes and returns complete events.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    after_cr: bool,
    begun: bool,
    event: String,
    data: Option<String>,
}

impl SseParser {
    /// A parser at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        SseParser::default()
    }

    /// Returns the events that `bytes` complete. Comments are skipped.
    ///
    /// # Errors
    /// [`SseError`]. The parser cannot be used afterwards.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, SseError> {
        let mut events = Vec::new();
        for &byte in bytes {
            // A line ends with CR, LF or CR LF. The LF of a pair may arrive with the next bytes.
            let second_of_pair = std::mem::take(&mut self.after_cr) && byte == b'\n';
            match byte {
                b'\n' if second_of_pair => {}
                b'\n' | b'\r' => {
                    self.after_cr = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.end_of_line(&line)?);
                    self.line = line;
                    self.line.clear();
                }
                _ if self.line.len() >= MAX_BYTES => return Err(SseError::TooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self, line: &[u8]) -> Result<Option<SseEvent>, SseError> {
        let line = std::str::from_utf8(line).map_err(|_| SseError::NotUtf8)?;
        // The stream may start with one byte order mark.
        let line = if self.begun { line } else { line.strip_prefix('\u{feff}').unwrap_or(line) };
        self.begun = true;
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            // An event without data is discarded.
            return Ok(self.data.take().map(|data| SseEvent {
                event: if event.is_empty() { "message".to_owned() } else { event },
                data,
            }));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => match &mut self.data {
                Some(data) if data.len() + value.len() >= MAX_BYTES => return Err(SseError::TooLong),
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // Comments, `id` and `retry` are ignored: missed updates are loaded, not replayed.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(event: &str, data: &str) -> SseEvent {
        SseEvent { event: event.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_comments_and_line_ends_are_parsed_as_the_standard_specifies() {
        let stream = "\u{feff}event: ready\ndata: {}\n\n: keep-alive\n\nevent:updated\r\ndata: a\r\ndata:  b\r\n\r\n\
                      data\rid: 7\rretry: 10\rnonsense\r\revent: only a name\n\ndata: c\n\ndata: unfinished\n";
        let events = SseParser::new().push(stream.as_bytes()).unwrap();
        assert_eq!(
            events,
            [event("ready", "{}"), event("updated", "a\n b"), event("message", ""), event("message", "c")]
        );
    }

    #[test]
    fn lines_and_events_above_the_limit_are_rejected() {
        let mut parser = SseParser::new();
        assert_eq!(parser.push(&vec![b'x'; MAX_BYTES + 1]), Err(SseError::TooLong));
        let mut parser = SseParser::new();
        let line = format!("data: {}\n", "x".repeat(1000));
        let end = (0..2000).find_map(|_| parser.push(line.as_bytes()).err());
        assert_eq!(end, Some(SseError::TooLong));
        assert_eq!(SseParser::new().push(b"data: \xff\n"), Err(SseError::NotUtf8));
    }

    proptest! {
        #[test]
        fn events_do_not_depend_on_how_the_bytes_are_split(
            events in prop::collection::vec(("[a-z]{1,8}", "[^\r\n]{0,40}(\n[^\r\n]{0,40}){0,3}"), 0..6),
            line_end in prop::sample::select(vec!["\n", "\r", "\r\n"]),
            cuts in prop::collection::vec(0_usize..400, 0..12),
        ) {
            let mut text = String::new();
            for (name, data) in &events {
                text.push_str(&format!(": comment{line_end}event: {name}{line_end}"));
                for line in data.split('\n') {
                    text.push_str(&format!("data: {line}{line_end}"));
                }
                text.push_str(line_end);
            }
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut parser = SseParser::new();
            let mut seen = Vec::new();
            for pair in cuts.windows(2) {
                seen.extend(parser.push(&bytes[pair[0]..pair[1]]).unwrap());
            }
            let expected: Vec<SseEvent> = events.iter().map(|(name, data)| event(name, data)).collect();
            prop_assert_eq!(seen, expected);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = SseParser::new().push(&bytes);
        }
    }
}
