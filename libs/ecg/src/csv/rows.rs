//! Rows of numbers: a fast path with `csv_core` for plain rows, and a slow path for all others.

use super::layout::{Delimiter, Layout, MAX_COLUMNS, TimeColumn, is_ignored, split};
use super::source::first_line;
use super::timeline::Row;
use super::{ReadError, clock, number};

/// Number of line numbers kept for warnings.
const KEPT_LINES: usize = 10;
/// Number of rows that the resolution of the times is measured on.
const RESOLUTION_ROWS: u64 = 400;
/// Largest number of decimals of a time that `f64` can represent.
const MAX_DECIMALS: u32 = 12;

/// Rejects content that is not text. Returns the length of the byte order mark.
pub(super) fn check_text(head: &[u8]) -> Result<usize, ReadError> {
    const SIGNATURES: [(&[u8], &str); 12] = [
        (b"PK\x03\x04", "a ZIP file or an Excel workbook"),
        (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
        (b"%PDF", "a PDF document"),
        (b"\x89PNG", "a PNG picture"),
        (b"\xff\xd8\xff", "a JPEG picture"),
        (b"GIF8", "a GIF picture"),
        (b"\x1f\x8b", "a compressed (gzip) file"),
        (b"\xff\xfe", "text in UTF-16 (save it as UTF-8)"),
        (b"\xfe\xff", "text in UTF-16 (save it as UTF-8)"),
        (b"{\\rtf", "an RTF document"),
        (b"<!DOCTYPE", "a web page"),
        (b"<?xml", "an XML document"),
    ];
    if let Some((_, kind)) = SIGNATURES.iter().find(|(signature, _)| head.starts_with(signature)) {
        return Err(ReadError::NotText { kind });
    }
    let sample = head.get(..4096).unwrap_or(head);
    let strange =
        sample.iter().filter(|&&byte| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c)).count();
    if strange * 50 > sample.len() {
        return Err(ReadError::NotText { kind: "binary data" });
    }
    Ok(if head.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 })
}

/// Reads rows and counts them.
pub(super) struct Rows {
    layout: Layout,
    /// The fast path, if the dialect allows it.
    records: Option<Records>,
    terminator: u8,
    max_rows: u64,
    max_line_bytes: usize,
    /// Number of the next line, from 1.
    line: u64,
    good: u64,
    skipped: u64,
    first_skipped_lines: Vec<u64>,
    /// Seconds added for midnights passed, for clocks without a date.
    midnights_s: f64,
    latest_clock_s: f64,
    decimals: u32,
    /// Voltages of the current row, one per lead. NaN if the row has none.
    values: Vec<f32>,
}

impl Rows {
    pub(super) fn new(layout: Layout, terminator: u8, max_rows: u64, max_line_bytes: usize) -> Self {
        let records = Records::new(&layout, terminator, max_line_bytes);
        let values = vec![f32::NAN; layout.leads.len()];
        Rows {
            layout,
            records,
            values,
            terminator,
            max_rows,
            max_line_bytes,
            line: 1,
            good: 0,
            skipped: 0,
            first_skipped_lines: Vec::new(),
            midnights_s: 0.0,
            latest_clock_s: f64::NEG_INFINITY,
            decimals: 0,
        }
    }

    /// Reads only one of the leads from here on.
    pub(super) fn keep_only(&mut self, lead: usize) {
        let lead = self.layout.leads.swap_remove(lead);
        self.layout.leads = vec![lead];
        self.values = vec![f32::NAN];
        self.records = Records::new(&self.layout, self.terminator, self.max_line_bytes);
    }

    /// Number of the next line, from 1.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    pub(super) fn max_rows(&self) -> u64 {
        self.max_rows
    }

    /// Number of rows with usable numbers.
    pub(super) fn good(&self) -> u64 {
        self.good
    }

    /// Number of rows without.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    pub(super) fn first_skipped_lines(&self) -> &[u64] {
        &self.first_skipped_lines
    }

    /// Smallest difference between the times read so far.
    pub(super) fn time_resolution(&self) -> f64 {
        10f64.powi(-(self.decimals.min(MAX_DECIMALS) as i32))
    }

    /// Reads a block of whole lines and passes its rows to `take`, each with one voltage per lead. A voltage is
    /// NaN if the row has none for that lead; at least one is a number.
    pub(super) fn read_block(
        &mut self,
        block: &[u8],
        mut take: impl FnMut(Row, &[f32]) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let mut rest = block;
        let mut fields = Vec::new();
        while !rest.is_empty() {
            // The resolution of the times is measured on the first rows, which all take the slow path.
            if self.good >= RESOLUTION_ROWS
                && rest.first() != Some(&self.terminator)
                && let Some(records) = &mut self.records
                && let Some((time, taken)) = records.row(rest, &mut self.values)
            {
                let ordinal = self.good + self.skipped;
                self.count_good()?;
                take(Row { line: self.line, ordinal, time }, &self.values)?;
                self.line += 1;
                rest = rest.get(taken..).unwrap_or_default();
                continue;
            }
            let (line, taken) = first_line(rest, self.terminator);
            if line.len() > self.max_line_bytes {
                return Err(ReadError::LineTooLong { line: self.line, limit: self.max_line_bytes });
            }
            if self.line > self.layout.header_lines && !is_ignored(line) {
                match self.row(line, &mut fields) {
                    Some(time) => {
                        let ordinal = self.good + self.skipped;
                        self.count_good()?;
                        take(Row { line: self.line, ordinal, time }, &self.values)?;
                    }
                    None => self.skip()?,
                }
            }
            self.line += 1;
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    #[inline]
    fn count_good(&mut self) -> Result<(), ReadError> {
        self.good += 1;
        if self.good + self.skipped > self.max_rows {
            return Err(ReadError::TooManyRows { limit: self.max_rows });
        }
        Ok(())
    }

    fn skip(&mut self) -> Result<(), ReadError> {
        self.skipped += 1;
        if self.first_skipped_lines.len() < KEPT_LINES {
            self.first_skipped_lines.push(self.line);
        }
        if self.good + self.skipped > self.max_rows {
            return Err(ReadError::TooManyRows { limit: self.max_rows });
        }
        Ok(())
    }

    /// Time of a line whose voltages are stored in `values`, if it has a time, a voltage and no additional fields.
    fn row<'a>(&mut self, line: &'a [u8], fields: &mut Vec<&'a [u8]>) -> Option<f64> {
        split(line, self.layout.delimiter, fields);
        if fields.iter().skip(self.layout.columns).any(|field| !field.is_empty()) {
            return None;
        }
        let mut has_value = false;
        for (lead, value) in self.layout.leads.iter().zip(&mut self.values) {
            let read = fields.get(lead.column).and_then(|field| number::value_of(field, self.layout.decimal));
            *value = read.map_or(f32::NAN, |value| value as f32);
            // A number beyond the range of `f32` is none.
            if value.is_finite() {
                has_value = true;
            } else {
                *value = f32::NAN;
            }
        }
        if !has_value {
            return None;
        }
        let time = match self.layout.time {
            // Skipped rows advance the time, too.
            TimeColumn::None { .. } => (self.good + self.skipped) as f64,
            TimeColumn::Number { column, .. } => {
                let field = fields.get(column)?;
                self.note_decimals(field, self.layout.decimal);
                number::value_of(field, self.layout.decimal)?
            }
            TimeColumn::Clock { column } => {
                let field = fields.get(column)?;
                let time = clock::clock(field)?;
                self.note_decimals(field, b'.');
                self.note_decimals(field, b',');
                self.unwrap_midnight(time)
            }
        };
        Some(time)
    }

    /// A clock without a date starts again at midnight.
    fn unwrap_midnight(&mut self, time: clock::ClockTime) -> f64 {
        const DAY_S: f64 = 86_400.0;
        if time.dated {
            return time.seconds;
        }
        if time.seconds < self.latest_clock_s - DAY_S / 2.0 {
            self.midnights_s += DAY_S;
        }
        self.latest_clock_s = time.seconds;
        time.seconds + self.midnights_s
    }

    fn note_decimals(&mut self, field: &[u8], decimal: u8) {
        let Some(at) = memchr::memchr(decimal, field) else { return };
        let tail = field.get(at + 1..).unwrap_or_default();
        let decimals = tail.iter().take_while(|byte| byte.is_ascii_digit()).count() as u32;
        let exponent = tail.get(decimals as usize).is_some_and(|byte| matches!(byte, b'e' | b'E'));
        // An exponent says nothing about the resolution of the clock; such numbers have full precision.
        self.decimals = self.decimals.max(if exponent { MAX_DECIMALS } else { decimals });
    }
}

/// Reads rows of plain numbers with `csv_core`.
///
/// Quoting is off, so that a record never spans lines and an unbalanced quote cannot hide the rest of the file. Quoted rows,
/// comments, and rows with missing or damaged numbers take the slow path, which reports them.
struct Records {
    reader: csv_core::Reader,
    decimal: u8,
    columns: usize,
    time: usize,
    leads: Vec<usize>,
    /// The fields of one record side by side, and the end of each.
    output: Vec<u8>,
    ends: Vec<usize>,
}

impl Records {
    /// `None` if the dialect has no delimiter byte or no column of numeric times.
    fn new(layout: &Layout, terminator: u8, max_line_bytes: usize) -> Option<Self> {
        let (Delimiter::Byte(delimiter), TimeColumn::Number { column, .. }) = (layout.delimiter, layout.time)
        else {
            return None;
        };
        let reader = csv_core::ReaderBuilder::new()
            .delimiter(delimiter)
            .terminator(csv_core::Terminator::Any(terminator))
            .quoting(false)
            .build();
        Some(Records {
            reader,
            decimal: layout.decimal,
            columns: layout.columns,
            time: column,
            leads: layout.leads.iter().map(|lead| lead.column).collect(),
            output: vec![0; max_line_bytes],
            ends: vec![0; MAX_COLUMNS + 1],
        })
    }

    /// Time and length in bytes of the row at the start of `bytes`, which must not be blank. Stores its voltages in
    /// `values`. `None` for a row that the slow path has to read.
    #[inline]
    fn row(&mut self, bytes: &[u8], values: &mut [f32]) -> Option<(f64, usize)> {
        let (result, taken, _, fields) = self.reader.read_record(bytes, &mut self.output, &mut self.ends);
        if result != csv_core::ReadRecordResult::Record {
            self.reader.reset();
            return None;
        }
        let field = |index: usize| {
            let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
            self.output.get(start..self.ends[index])
        };
        if self.time >= fields
            || (self.columns..fields).any(|index| !field(index).unwrap_or_default().trim_ascii().is_empty())
        {
            return None;
        }
        for (&lead, value) in self.leads.iter().zip(values) {
            if lead >= fields {
                return None;
            }
            *value = number::value_of(field(lead)?, self.decimal)? as f32;
            if !value.is_finite() {
                return None;
            }
        }
        let time = number::value_of(field(self.time)?, self.decimal)?;
        Some((time, taken))
    }
}
