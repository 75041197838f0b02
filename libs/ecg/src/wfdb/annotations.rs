//! Annotation files in the MIT format: annot(5) of the WFDB Applications Guide.

use super::WfdbError;

/// One annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Time in ticks of the annotation clock, usually the frame rate of the record.
    pub tick: i64,
    /// Mnemonic of one character (`N`, `V`, `+`, `~`, ...).
    pub symbol: char,
    /// Text attached to it.
    pub text: Option<String>,
}

/// The symbols of codes 1 to 49. Unassigned codes are spaces.
const SYMBOLS: &[u8; 50] = b" NLRaVFJASEj/Q~ | sT*D\"=pB^t+u?![]en@xf()r        ";
/// Codes that are not annotations but modify the next or the previous one.
const SKIP: u16 = 59;
const NUM: u16 = 60;
const SUB: u16 = 61;
const CHN: u16 = 62;
const AUX: u16 = 63;

/// Parses an annotation file in the MIT format.
///
/// # Errors
/// Returns an error if the file ends within an annotation.
pub fn annotations(bytes: &[u8]) -> Result<Vec<Annotation>, WfdbError> {
    let mut out: Vec<Annotation> = Vec::new();
    let (mut at, mut tick) = (0_usize, 0_i64);
    while let Some(pair) = bytes.get(at..at + 2) {
        let word = u16::from_le_bytes([pair[0], pair[1]]);
        at += 2;
        if word == 0 {
            break;
        }
        let (code, value) = (word >> 10, word & 0x3ff);
        match code {
            SKIP => {
                let long = bytes.get(at..at + 4).ok_or(WfdbError::AnnotationsCutOff(at))?;
                // The high half of the interval is stored first; each half is little-endian.
                let interval = i32::from_le_bytes([long[2], long[3], long[0], long[1]]);
                tick = tick.saturating_add(i64::from(interval));
                at += 4;
            }
            NUM | SUB | CHN => {}
            AUX => {
                let length = usize::from(value);
                let text = bytes.get(at..at + length).ok_or(WfdbError::AnnotationsCutOff(at))?;
                if let Some(last) = out.last_mut() {
                    let text = String::from_utf8_lossy(text);
                    last.text = Some(text.trim_end_matches('\0').to_owned());
                }
                at += length + length % 2;
            }
            _ => {
                tick = tick.saturating_add(i64::from(value));
                let symbol = SYMBOLS.get(usize::from(code)).map_or(' ', |symbol| char::from(*symbol));
                out.push(Annotation { tick, symbol, text: None });
            }
        }
    }
    Ok(out)
}

/// Symbols of beats according to AAMI EC57 and WFDB's `isqrs`.
const BEATS: &str = "NLRaVFJASEj/QefnBr?";

/// Returns the beats in seconds, and the intervals of flutter or fibrillation (`[` to `]`) that scoring
/// excludes.
///
/// `frame_rate_hz` is the clock of the ticks unless the file states another (a note `## time resolution: N`).
#[must_use]
pub fn beats_and_flutter(annotations: &[Annotation], frame_rate_hz: f64) -> (Vec<f64>, Vec<(f64, f64)>) {
    let clock = annotations
        .iter()
        .take_while(|annotation| annotation.tick == 0)
        .filter_map(|annotation| annotation.text.as_deref()?.strip_prefix("## time resolution:"))
        .find_map(|text| text.trim().parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate > 0.0))
        .unwrap_or(frame_rate_hz);
    let (mut beats, mut flutter) = (Vec::new(), Vec::new());
    let mut since: Option<f64> = None;
    for annotation in annotations {
        let time = annotation.tick as f64 / clock;
        match annotation.symbol {
            '[' => since = since.or(Some(time)),
            ']' => {
                if let Some(start) = since.take() {
                    flutter.push((start, time));
                }
            }
            symbol if BEATS.contains(symbol) => beats.push(time),
            _ => {}
        }
    }
    if let Some(start) = since {
        flutter.push((start, f64::INFINITY));
    }
    (beats, flutter)
}
