//! Date and time at which a recording began, as stated in its file.
//!
//! EDF states it in its header, WFDB in the first line of the `.hea` file. A text file states it in the first
//! row of data, if the times have a date of known order, or in an earlier line that names a start or a recording. Most files
//! state local time without a zone; [`Start::offset_s`] is then `None`.

/// Number of bytes at the start of a file to pass to [`start_of`]: more than an EDF header or the first lines
/// of a text.
pub const START_BYTES: usize = 64 * 1024;

/// Number of lines of a text file that are searched.
const MAX_LINES: usize = 100;

/// Date and time of day as stated in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Year.
    pub year: i16,
    /// Month, from 1.
    pub month: i8,
    /// Day of the month, from 1.
    pub day: i8,
    /// Hour, 0 to 23.
    pub hour: i8,
    /// Minute, 0 to 59.
    pub minute: i8,
    /// Second, 0 to 59.
    pub second: i8,
    /// Millisecond, 0 to 999.
    pub millisecond: i16,
    /// Seconds east of UTC, if stated.
    pub offset_s: Option<i32>,
}

/// Returns the start of a recording from the first [`START_BYTES`] of an EDF, BDF or text file.
///
/// Returns `None` if the file does not state it or states a placeholder: 1 January 1985, which anonymous EDF
/// files use, or a year before 1970.
#[must_use]
pub fn start_of(head: &[u8]) -> Option<Start> {
    let start = if crate::edf::is_edf(head) { of_edf(head) } else { of_text(head) };
    start.filter(Start::is_plausible)
}

/// Returns the start of a recording from the text of a WFDB header (`.hea`).
#[must_use]
pub fn start_of_wfdb(header: &str) -> Option<Start> {
    // The record line: `record signals [rate [samples [time [date]]]]`.
    let line = header.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (time, date) = (time_of(fields.get(4)?.as_bytes())?, fields.get(5)?);
    let mut parts = date.split('/').map(|part| part.parse::<i16>().ok());
    let (day, month, year) = (parts.next()??, parts.next()??, parts.next()??);
    let start = Start { year, month: i8::try_from(month).ok()?, day: i8::try_from(day).ok()?, ..time.0 };
    Some(start).filter(Start::is_plausible)
}

impl Start {
    /// Whether date and time exist and are not a placeholder.
    fn is_plausible(&self) -> bool {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let days = match self.month {
            2 => 28 + i8::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let exists = (1970..=9999).contains(&self.year)
            && (1..=12).contains(&self.month)
            && (1..=days).contains(&self.day)
            && (0..24).contains(&self.hour)
            && (0..60).contains(&self.minute)
            && (0..60).contains(&self.second)
            && self.offset_s.is_none_or(|offset| offset.abs() <= 18 * 3600);
        exists && (self.year, self.month, self.day) != (1985, 1, 1)
    }
}

/// The header contains `dd.mm.yy` and `hh.mm.ss`. EDF+ repeats the date with a four-digit year in the field
/// before.
fn of_edf(head: &[u8]) -> Option<Start> {
    let field = |from: usize, to: usize| {
        head.get(from..to).and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::trim)
    };
    let numbers = |text: &str| -> Option<[i16; 3]> {
        let mut parts = text.split(['.', ':', '-', '/']).map(|part| part.trim().parse::<i16>().ok());
        Some([parts.next()??, parts.next()??, parts.next()??])
    };
    let [day, month, short_year] = numbers(field(168, 176)?)?;
    let [hour, minute, second] = numbers(field(176, 184)?)?;
    // EDF defines two-digit years: 85 is 1985, 84 is 2084.
    let year = if (0..85).contains(&short_year) { 2000 + short_year } else { 1900 + short_year };
    let stated = field(88, 168).and_then(|recording| {
        let mut words = recording.split_whitespace();
        (words.next()? == "Startdate").then_some(())?;
        words.next()?.rsplit('-').next()?.parse::<i16>().ok()
    });
    let byte = |number: i16| i8::try_from(number).ok();
    Some(Start {
        year: stated.unwrap_or(year),
        month: byte(month)?,
        day: byte(day)?,
        hour: byte(hour)?,
        minute: byte(minute)?,
        second: byte(second)?,
        millisecond: 0,
        offset_s: None,
    })
}

/// The first row of data decides, unless a line above it names the start.
fn of_text(head: &[u8]) -> Option<Start> {
    let lines = head.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !line.trim_ascii().is_empty());
    for line in lines.take(MAX_LINES) {
        let is_inside_number = |at: usize| at > 0 && line.get(at - 1).is_some_and(u8::is_ascii_digit);
        let found = (0..line.len())
            .filter(|&at| !is_inside_number(at))
            .find_map(|at| date_time(line.get(at..)?).map(|start| (at, start)));
        let before = line.get(..found.map_or(line.len(), |(at, _)| at)).unwrap_or_default();
        let is_data = !before.iter().any(u8::is_ascii_alphabetic)
            && !line.trim_ascii_start().starts_with(b"#")
            && !line.trim_ascii_start().starts_with(b"%");
        if is_data {
            return found.map(|(_, start)| start);
        }
        if let Some((_, start)) = found
            && names_start(before)
        {
            return Some(start);
        }
    }
    None
}

/// Whether the text before a time names it as the start of the recording.
fn names_start(words: &[u8]) -> bool {
    let words = words.to_ascii_lowercase();
    let has = |word: &[u8]| words.windows(word.len()).any(|window| window == word);
    // Also in the languages of exports: Aufzeichnungsdatum, Aufnahme, gravação, grabación, registro,
    // enregistrement.
    let starts: [&[u8]; 10] = [
        b"record",
        b"start",
        b"begin",
        b"acqui",
        b"aufzeichn",
        b"aufnahme",
        b"grava",
        b"graba",
        b"regist",
        b"datetime",
    ];
    starts.iter().any(|word| has(word))
}

/// Reads `YYYY-MM-DD` or `DD.MM.YYYY`, a separator and `HH:MM[:SS[.fff]]` with optional `AM` or `PM` and zone, or
/// `HH:MM:SS.mmm DD/MM/YYYY` as PhysioNet writes it in brackets.
fn date_time(bytes: &[u8]) -> Option<Start> {
    if let Some(((year, month, day), length)) =
        date(bytes).map(|date| (date, 10)).or_else(|| date_with_year_last(bytes))
    {
        let rest = bytes.get(length..)?;
        let rest = match rest.first()? {
            b'T' | b't' | b' ' | b',' | b';' | b'\t' => rest.get(1..)?,
            _ => return None,
        };
        let rest = rest.trim_ascii_start();
        let rest = rest.strip_prefix(b"\"").unwrap_or(rest);
        let (time, rest) = time_of(rest)?;
        let (seconds, rest) = crate::csv::clock::half_of_day(f64::from(time.hour) * 3600.0, rest);
        let hour = (seconds / 3600.0) as i8;
        return Some(Start { year, month, day, hour, offset_s: zone(rest), ..time });
    }
    let (time, rest) = time_of(bytes)?;
    let rest = rest.strip_prefix(b" ")?;
    let number = |from: usize, to: usize| digits(rest.get(from..to)?);
    let is_date = rest.get(2) == Some(&b'/') && rest.get(5) == Some(&b'/');
    is_date.then_some(())?;
    Some(Start {
        year: number(6, 10)?,
        month: i8::try_from(number(3, 5)?).ok()?,
        day: i8::try_from(number(0, 2)?).ok()?,
        ..time
    })
}

fn date(bytes: &[u8]) -> Option<(i16, i8, i8)> {
    let separator = *bytes.get(4)?;
    (matches!(separator, b'-' | b'/') && *bytes.get(7)? == separator).then_some(())?;
    let number = |from: usize, to: usize| digits(bytes.get(from..to)?);
    Some((number(0, 4)?, i8::try_from(number(5, 7)?).ok()?, i8::try_from(number(8, 10)?).ok()?))
}

/// Reads `DD.MM.YYYY` or `DD-MM-YYYY`, or a date with slashes if one of its numbers cannot be a month. Returns
/// it with its length in bytes.
fn date_with_year_last(bytes: &[u8]) -> Option<((i16, i8, i8), usize)> {
    let number = |from: usize| {
        let length = bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
        (1..=2)
            .contains(&length)
            .then(|| digits(bytes.get(from..from + length)?).map(|value| (value, from + length)))?
    };
    let (first, end) = number(0)?;
    let separator = *bytes.get(end)?;
    let (second, end) = number(end + 1)?;
    if !matches!(separator, b'.' | b'-' | b'/') || bytes.get(end) != Some(&separator) {
        return None;
    }
    let year = digits(bytes.get(end + 1..end + 5)?)?;
    let (day, month) = match (separator, first > 12, second > 12) {
        (b'.' | b'-', _, _) | (_, true, _) => (first, second),
        (_, false, true) => (second, first),
        // Day and month are ambiguous.
        _ => return None,
    };
    Some(((year, i8::try_from(month).ok()?, i8::try_from(day).ok()?), end + 5))
}

/// Reads a time of day. Returns it with an empty date, and the bytes after it.
fn time_of(bytes: &[u8]) -> Option<(Start, &[u8])> {
    let hours = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (1..=2).contains(&hours).then_some(())?;
    let hour = digits(bytes.get(..hours)?)?;
    let two = |bytes: &[u8], after: u8| -> Option<i16> {
        (*bytes.first()? == after).then_some(())?;
        digits(bytes.get(1..3)?)
    };
    let mut rest = bytes.get(hours..)?;
    let minute = two(rest, b':')?;
    rest = rest.get(3..)?;
    let mut second = 0;
    let mut millisecond = 0;
    if let Some(value) = two(rest, b':') {
        second = value;
        rest = rest.get(3..)?;
        if let Some(fraction) = rest.strip_prefix(b".").or_else(|| rest.strip_prefix(b",")) {
            let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            // A comma may also end the field.
            if length > 0 && (rest.first() == Some(&b'.') || length == 3) {
                let shown: Vec<u8> = fraction.iter().copied().take(length).chain(*b"000").take(3).collect();
                millisecond = digits(&shown)?;
                rest = fraction.get(length..)?;
            }
        }
    }
    let byte = |number: i16| i8::try_from(number).ok();
    let start = Start {
        year: 0,
        month: 0,
        day: 0,
        hour: byte(hour)?,
        minute: byte(minute)?,
        second: byte(second)?,
        millisecond,
        offset_s: None,
    };
    Some((start, rest))
}

/// Seconds east of UTC of a zone: `Z`, `+02:00`, `+0200` or ` +0200`.
fn zone(bytes: &[u8]) -> Option<i32> {
    let bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
    let sign = match bytes.first()? {
        b'Z' | b'z' => return Some(0),
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let hours = i32::from(digits(bytes.get(1..3)?)?);
    let rest = bytes.get(3..)?;
    let minutes = rest.strip_prefix(b":").unwrap_or(rest).get(..2).and_then(digits).unwrap_or(0);
    Some(sign * (hours * 3600 + i32::from(minutes) * 60))
}

fn digits(bytes: &[u8]) -> Option<i16> {
    (!bytes.is_empty() && bytes.len() <= 4 && bytes.iter().all(u8::is_ascii_digit)).then_some(())?;
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(start: Option<Start>) -> String {
        start.map_or_else(String::new, |start| {
            let Start { year, month, day, hour, minute, second, millisecond, offset_s } = start;
            let offset = offset_s.map_or_else(String::new, |offset| format!(" {offset:+}"));
            format!(
                "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millisecond:03}{offset}"
            )
        })
    }

    #[test]
    fn text_start_is_read_from_first_row_or_named_line() {
        for (text, start) in [
            ("time,mV\n2026-03-14T15:09:26.535Z,0.1\n", "2026-03-14 15:09:26.535 +0"),
            ("2026-03-14 15:09:26,0.1\n2026-03-15 00:00:00,0.2\n", "2026-03-14 15:09:26.000"),
            ("2026/03/14 15:09:26.5+02:00;0,1\n", "2026-03-14 15:09:26.500 +7200"),
            ("date,time,mV\n2026-03-14,15:09:26.004,0.1\n", "2026-03-14 15:09:26.004"),
            ("'Elapsed time','MLII'\n'[15:09:26.000 14/03/2026]',-0.1\n", "2026-03-14 15:09:26.000"),
            ("Recorded Date,2020-01-05 10:00:00 +0100\nName,x\n1,2\n", "2020-01-05 10:00:00.000 +3600"),
            ("# start: 2026-03-14T15:09\n0.0,0.1\n", "2026-03-14 15:09:00.000"),
            ("Aufzeichnungsdatum,2020-01-05 10:00:00 +0100\n1,2\n", "2020-01-05 10:00:00.000 +3600"),
            ("Data da gravação,2020-01-05 10:00:00 +0000\n1,2\n", "2020-01-05 10:00:00.000 +0"),
            ("14.03.2026 15:09:26,5;0,1\n", "2026-03-14 15:09:26.000"),
            ("4.3.2026, 15:09:26.535;0.1\n", "2026-03-04 15:09:26.535"),
            ("14/03/2026 15:09:26.535,0.1\n", "2026-03-14 15:09:26.535"),
            ("3/14/2026 3:09:26.535 PM,0.1\n", "2026-03-14 15:09:26.535"),
            ("29.02.2024 11:00:00 p.\u{a0}m.,0.1\n", "2024-02-29 23:00:00.000"),
            ("3/14/2026 12:09:26 am,0.1\n", "2026-03-14 00:09:26.000"),
            ("03/04/2026 15:09:26.535,0.1\n", ""),
            ("ExcelDateTime=\t4.6e+04\t14/03/2026 15:09:26.5\n0.0\t0.1\n", "2026-03-14 15:09:26.500"),
            ("0.000,0.1\n0.004,0.2\n2026-03-14T15:09:26Z,0.3\n", ""),
            ("Date of Birth,1980-02-03 00:00:00\n0.0,0.1\n", ""),
            ("# exported 2026-03-14 15:09:26\n0.0,0.1\n", ""),
            ("15:09:26.000,0.1\n15:09:26.004,0.1\n", ""),
            ("2026-02-30T15:09:26Z,0.1\n", ""),
            ("2026-03-14T25:09:26Z,0.1\n", ""),
            ("1970-01-01,0.1\n", ""),
            ("", ""),
        ] {
            assert_eq!(shown(start_of(text.as_bytes())), start, "{text:?}");
        }
    }

    /// The fixed part of an EDF header without signals.
    fn edf(recording: &str, date: &str, time: &str) -> Vec<u8> {
        let text = format!(
            "{:<8}{:<80}{recording:<80}{date:<8}{time:<8}{:<8}{:<44}{:<8}{:<8}{:<4}",
            0, "X", 256, "", 1, 1, 0
        );
        assert_eq!(text.len(), 256);
        text.into_bytes()
    }

    #[test]
    fn edf_start_is_read_unless_placeholder() {
        let start = |recording, date, time| shown(start_of(&edf(recording, date, time)));
        assert_eq!(start("", "14.03.26", "15.09.26"), "2026-03-14 15:09:26.000");
        assert_eq!(start("", "14.03.98", "15.09.26"), "1998-03-14 15:09:26.000");
        assert_eq!(start("Startdate 14-MAR-2086 X X X", "14.03.yy", "15.09.26"), "");
        assert_eq!(start("Startdate 14-MAR-2086 X X X", "14.03.86", "15.09.26"), "2086-03-14 15:09:26.000");
        assert_eq!(start("Startdate X X X X", "14.03.26", "15.09.26"), "2026-03-14 15:09:26.000");
        assert_eq!(start("", "01.01.85", "00.00.00"), "");
        assert_eq!(start("", "99.99.99", "00.00.00"), "");
    }

    #[test]
    fn wfdb_start_requires_time_and_date() {
        let start = |line: &str| shown(start_of_wfdb(&format!("# a comment\n{line}\n100.dat 212 200\n")));
        assert_eq!(start("100 2 360 650000 15:09:26.5 14/03/2026"), "2026-03-14 15:09:26.500");
        assert_eq!(start("100 2 360 650000 15:09:26"), "");
        assert_eq!(start("100 2 360 650000"), "");
    }

    #[test]
    fn arbitrary_bytes_do_not_panic() {
        let text = b"2026-03-14T15:09:26.535+02:00,'[15:09:26.000 14/03/2026]' start";
        for from in 0..text.len() {
            for to in from..text.len() {
                let _ = start_of(&text[from..to]);
            }
        }
    }
}
