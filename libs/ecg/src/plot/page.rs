//! The twelve-lead page: three rows of four leads, each of 2.5 s, and a rhythm strip of 10 s below.
//!
//! The columns follow each other in time, as on the paper of an electrocardiograph. Leads that the file does not contain are
//! derived from I and II where possible; otherwise their place stays empty and is marked. A file with fewer than three of
//! the standard leads has its leads in their order, at most twelve.

use plotters::style::Color;
use plotters_backend::DrawingBackend;

use super::paper::{
    Drawing, Drawn, INK, LEGEND, PAGE_WIDTH, PAPER_LEFT, PAPER_RIGHT, QUIET, SHADE, Sheet, TRACE_LEFT, WHITE,
    at, frame_gap, grid, hundredths,
};
use super::rows::{PEN, Row, Stroke, calibration, clock};
use super::scale::{self, ROW_S, SPEED_MM_PER_S, Scale};
use super::text::TextLook;
use super::{Options, PlotError, to_pdf, to_png, to_svg};
use crate::recording::{Recording, RecordingAnalysis};
use crate::report::{Report, part, transfer};
use crate::{Analysis, Quality, Strip};

/// The leads of the page, row by row.
const LEADS: [[&str; 4]; 3] =
    [["I", "aVR", "V1", "V4"], ["II", "aVL", "V2", "V5"], ["III", "aVF", "V3", "V6"]];
const COLUMNS: usize = 4;
/// Seconds of a lead.
const CELL_S: f64 = ROW_S / COLUMNS as f64;
/// With fewer standard leads, the leads of the file are drawn in their order.
const MIN_STANDARD: usize = 3;
const NAME: TextLook = TextLook::new(3.2, INK).bold();
const ABSENT: TextLook = TextLook::new(2.6, QUIET);
/// Longest name of a lead that is drawn.
const NAME_CHARS: usize = 12;
const FOOTER_HEIGHT: f64 = 9.0;

/// A page of up to twelve leads.
pub struct Page<'a> {
    sheet: Sheet<'a>,
    options: &'a Options,
    start_s: f64,
    /// Leads of the cells, row by row.
    cells: Vec<Option<Cell>>,
    scale: Scale,
    rhythm: Rhythm,
}

/// A lead on the page. Without samples at its time it is empty.
struct Cell {
    name: String,
    strip: Strip,
    /// Unusable times.
    unusable: Vec<(f64, f64)>,
}

/// The strip below.
struct Rhythm {
    name: String,
    strip: Strip,
    analysis: Analysis,
    report: Report,
    scale: Scale,
}

impl<'a> Page<'a> {
    /// Lays out the page of the ten seconds from `start_s`. `report` belongs to the lead that gives the heart rate.
    ///
    /// # Errors
    /// Returns [`PlotError::Empty`] if the recording has no samples, or none at this time.
    pub fn of(
        recording: &'a Recording,
        analysis: &'a RecordingAnalysis,
        report: &Report,
        options: &'a Options,
        start_s: f64,
    ) -> Result<Self, PlotError> {
        let start_s = if start_s.is_finite() { start_s.max(0.0) } else { 0.0 };
        let end_s = start_s + ROW_S;
        let best = &recording.leads[analysis.best].strip;
        let found = &analysis.leads[analysis.best];
        let sheet = Sheet::of(best, found, options)?;
        let cells = cells(recording, analysis, start_s);
        // Lead II shows the rhythm; without it, the lead that gives the heart rate.
        let named = recording.standard("II");
        let (name, source) = match named {
            Some(strip) => ("II".to_owned(), strip),
            None => (recording.lead_name(analysis.best), best),
        };
        let strip = part(source, start_s, end_s);
        if strip.sample_count() == 0 && cells.iter().flatten().all(|cell| cell.strip.sample_count() == 0) {
            return Err(PlotError::Empty);
        }
        let (beats, indices) = transfer(&found.beats, &strip);
        let types = indices.iter().filter_map(|index| report.types.get(*index).copied()).collect();
        let own = recording.leads.iter().position(|lead| std::ptr::eq(&lead.strip, source));
        let quality_segments =
            own.map_or_else(Vec::new, |index| analysis.leads[index].quality_segments.clone());
        let windows: Vec<Vec<f32>> = cells.iter().flatten().map(|cell| samples(&cell.strip)).collect();
        let rhythm = Rhythm {
            name,
            scale: Scale::of(&[samples(&strip)]),
            strip,
            analysis: Analysis { beats, quality_segments, ..found.clone() },
            report: Report { types, ..Report::default() },
        };
        Ok(Page { sheet, options, start_s, cells, scale: Scale::of(&windows), rhythm })
    }

    /// The page as PNG.
    ///
    /// # Errors
    /// Returns [`PlotError`] if it cannot be encoded.
    pub fn png(&self) -> Result<Vec<u8>, PlotError> {
        to_png(self, self.options)
    }

    /// The page as an SVG document with its true size in millimetres.
    ///
    /// # Errors
    /// Returns [`PlotError`] if it cannot be drawn.
    pub fn svg(&self) -> Result<String, PlotError> {
        to_svg(self)
    }

    /// The page as a PDF document with its true size.
    ///
    /// # Errors
    /// Returns [`PlotError`] if it cannot be drawn.
    pub fn pdf(&self) -> Result<Vec<u8>, PlotError> {
        to_pdf(self)
    }

    fn rows(&self) -> usize {
        self.cells.len().div_ceil(COLUMNS)
    }

    fn rhythm_top(&self) -> f64 {
        self.sheet.paper_top() + self.rows() as f64 * self.scale.row_height_mm
    }

    fn bottom(&self) -> f64 {
        self.rhythm_top() + self.rhythm.scale.row_height_mm
    }

    fn cell<B: DrawingBackend>(&self, backend: &mut B, index: usize) -> Drawn<B> {
        let (row, column) = (index / COLUMNS, index % COLUMNS);
        let top = self.sheet.paper_top() + row as f64 * self.scale.row_height_mm;
        let bottom = top + self.scale.row_height_mm;
        let width = CELL_S * SPEED_MM_PER_S;
        let left = TRACE_LEFT + column as f64 * width;
        let start_s = self.start_s + column as f64 * CELL_S;
        let x = |time_s: f64| left + (time_s.clamp(start_s, start_s + CELL_S) - start_s) * SPEED_MM_PER_S;
        if column > 0 {
            // Border between two leads.
            for y in [top + 1.0, bottom - 4.0] {
                backend.draw_path([at(left, y), at(left, y + 3.0)], &INK.stroke_width(PEN))?;
            }
        }
        let Some(cell) = self.cells.get(index).and_then(Option::as_ref) else {
            if let Some(name) = LEADS.get(row).and_then(|names| names.get(column)) {
                let text = format!("{name}: not recorded");
                ABSENT.draw(backend, &text, at(left + 1.5, top + 3.0))?;
            }
            return Ok(());
        };
        for (from_s, to_s) in &cell.unusable {
            if *from_s < start_s + CELL_S && *to_s > start_s {
                backend.draw_rect(at(x(*from_s), top), at(x(*to_s), bottom), &SHADE.mix(0.3), true)?;
            }
        }
        let rate_hz = cell.strip.sample_rate_hz;
        let middle = f64::from(scale::median(&samples(&cell.strip)));
        let y = |sample: f32| {
            let y = top + self.scale.baseline_mm - (f64::from(sample) - middle) * self.scale.gain_mm_per_mv;
            y.clamp(top + 0.3, bottom - 0.3)
        };
        let mut shown_s = start_s;
        for segment in &cell.strip.segments {
            let time_s = |index: usize| segment.start_s + index as f64 / rate_hz;
            let mut stroke = Stroke::default();
            for (index, sample) in segment.samples.iter().enumerate().filter(|(_, sample)| sample.is_finite())
            {
                if (start_s..=start_s + CELL_S).contains(&time_s(index)) {
                    stroke.add(x(time_s(index)), y(*sample));
                }
            }
            let points = stroke.take();
            if points.len() > 1 {
                backend.draw_path(points, &INK.stroke_width(PEN))?;
            }
            if segment.start_s > shown_s + 1.0 / rate_hz {
                frame_gap(backend, (x(shown_s), top), (x(segment.start_s), bottom))?;
            }
            shown_s = shown_s.max(time_s(segment.samples.len()));
        }
        if shown_s + 1.0 / rate_hz < start_s + CELL_S {
            frame_gap(backend, (x(shown_s), top), (x(start_s + CELL_S), bottom))?;
        }
        NAME.draw(backend, &cell.name, at(left + 1.5, top + 3.0))
    }

    fn footer<B: DrawingBackend>(&self, backend: &mut B) -> Drawn<B> {
        let y = self.bottom() + 4.5;
        let mut text = self.scale.text();
        if self.scale.gain_mm_per_mv != self.rhythm.scale.gain_mm_per_mv {
            text = format!("{text}   rhythm strip: {}", self.rhythm.scale.text());
        }
        let from = clock(self.start_s);
        let text = format!(
            "{text}   from {from}, leads of a row one after the other   S, V: ectopic beats, P: paced"
        );
        LEGEND.draw(backend, &text, at(PAPER_LEFT, y))
    }
}

impl Drawing for Page<'_> {
    fn size(&self) -> (u32, u32) {
        (hundredths(PAGE_WIDTH) as u32, hundredths(self.bottom() + FOOTER_HEIGHT) as u32)
    }

    fn draw<B: DrawingBackend>(&self, backend: &mut B) -> Drawn<B> {
        let (width, height) = self.size();
        backend.draw_rect((0, 0), (width as i32, height as i32), &WHITE.filled(), true)?;
        if self.options.captions {
            self.sheet.header(backend)?;
        }
        grid(backend, (PAPER_LEFT, self.sheet.paper_top()), (PAPER_RIGHT, self.bottom()), true)?;
        for row in 0..self.rows() {
            let top = self.sheet.paper_top() + row as f64 * self.scale.row_height_mm;
            calibration(backend, &self.scale, top)?;
        }
        for index in 0..self.cells.len() {
            self.cell(backend, index)?;
        }
        let Rhythm { name, strip, analysis, report, scale } = &self.rhythm;
        let top = self.rhythm_top();
        let row = Row {
            strip,
            analysis,
            types: &report.types,
            scale,
            top,
            start_s: self.start_s,
            middle_mv: f64::from(scale::median(&samples(strip))),
        };
        row.draw(backend)?;
        let name: String = name.chars().take(NAME_CHARS).collect();
        NAME.draw(backend, &name, at(PAPER_LEFT + 1.5, top + 3.0))?;
        self.footer(backend)
    }
}

/// The leads of the cells. A `None` is a standard lead that the recording does not have.
fn cells(recording: &Recording, analysis: &RecordingAnalysis, start_s: f64) -> Vec<Option<Cell>> {
    let window = |index: usize| {
        let column = (index % COLUMNS) as f64;
        (start_s + column * CELL_S, start_s + (column + 1.0) * CELL_S)
    };
    // One sample more on either side, so that the trace reaches the borders.
    let cut = |strip: &Strip, index: usize| {
        let (from_s, to_s) = window(index);
        let step_s = 1.0 / strip.sample_rate_hz;
        part(strip, from_s - step_s, to_s + 2.0 * step_s)
    };
    let own = |lead: usize, index: usize, name: String| Cell {
        name,
        strip: cut(&recording.leads[lead].strip, index),
        unusable: analysis.leads[lead]
            .quality_segments
            .iter()
            .filter(|segment| segment.quality == Quality::Unusable)
            .map(|segment| (segment.start_s, segment.end_s))
            .collect(),
    };
    let names: Vec<&str> = LEADS.iter().flatten().copied().collect();
    let standard = |name: &str| {
        let strip = recording.standard(name)?;
        recording.leads.iter().position(|lead| std::ptr::eq(&lead.strip, strip))
    };
    if names.iter().filter(|name| standard(name).is_some()).count() < MIN_STANDARD
        && recording.derived_names().is_empty()
    {
        let name = |lead: usize| recording.lead_name(lead).chars().take(NAME_CHARS).collect();
        let count = recording.leads.len().min(names.len());
        return (0..count).map(|lead| Some(own(lead, lead, name(lead)))).collect();
    }
    let derived = recording.derived(start_s - 1.0, start_s + ROW_S + 1.0);
    let cell = |(index, name): (usize, &&str)| {
        if let Some(lead) = standard(name) {
            return Some(own(lead, index, (*name).to_owned()));
        }
        let strip = derived.iter().find(|strip| strip.lead.as_deref() == Some(*name))?;
        Some(Cell { name: format!("{name} (derived)"), strip: cut(strip, index), unusable: Vec::new() })
    };
    names.iter().enumerate().map(cell).collect()
}

fn samples(strip: &Strip) -> Vec<f32> {
    strip.segments.iter().flat_map(|segment| segment.samples.iter().copied()).collect()
}
