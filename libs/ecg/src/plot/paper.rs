//! Layout of the sheet: header, grid, rows and legend.

use plotters::style::{Color, RGBColor};
use plotters_backend::{DrawingBackend, DrawingErrorKind};

use super::overview::Overview;
use super::rows::{Row, clock};
use super::scale::{self, ROW_S, Scale};
use super::text::TextLook;
use super::{Options, PlotError};
use crate::beat_types::TypedBeat;
use crate::rhythm::Finding;
use crate::waves::{IntervalMs, Intervals};
use crate::{Analysis, Quality, Report, Strip};

/// Result of drawing on a back end.
pub(super) type Drawn<B> = Result<(), DrawingErrorKind<<B as DrawingBackend>::ErrorType>>;

pub(super) const PAPER: RGBColor = RGBColor(255, 248, 246);
pub(super) const FINE: RGBColor = RGBColor(250, 221, 215);
pub(super) const COARSE: RGBColor = RGBColor(238, 172, 162);
pub(super) const INK: RGBColor = RGBColor(22, 24, 38);
pub(super) const QUIET: RGBColor = RGBColor(112, 116, 124);
pub(super) const MARK: RGBColor = RGBColor(178, 34, 34);
pub(super) const FAINT_MARK: RGBColor = RGBColor(226, 160, 160);
pub(super) const SHADE: RGBColor = RGBColor(120, 126, 138);
pub(super) const AMBER: RGBColor = RGBColor(222, 148, 40);
pub(super) const GREEN: RGBColor = RGBColor(46, 132, 74);
pub(super) const SLATE: RGBColor = RGBColor(62, 70, 96);
pub(super) const BLUE: RGBColor = RGBColor(32, 84, 164);
pub(super) const WHITE: RGBColor = RGBColor(255, 255, 255);

/// All flat colours of a sheet.
pub(super) const COLORS: [RGBColor; 13] =
    [WHITE, PAPER, FINE, COARSE, INK, QUIET, MARK, FAINT_MARK, SHADE, AMBER, GREEN, SLATE, BLUE];

/// Left edge of the paper, in millimetres.
pub(super) const PAPER_LEFT: f64 = 5.0;
/// Position of the first sample in millimetres. The calibration pulse is to its left.
pub(super) const TRACE_LEFT: f64 = 20.0;
/// Right edge of the paper, in millimetres: ten seconds at 25 mm/s.
pub(super) const PAPER_RIGHT: f64 = TRACE_LEFT + ROW_S * scale::SPEED_MM_PER_S;
pub(super) const PAGE_WIDTH: f64 = PAPER_RIGHT + 5.0;
/// Height of the header, and of each line of text below its cells.
const HEADER_HEIGHT: f64 = 19.0;
const LINE_HEIGHT: f64 = 5.0;
const FOOTER_HEIGHT: f64 = 9.0;
/// Margin above and below the paper without captions.
const BARE_MARGIN: f64 = 1.0;
/// Pixels per millimetre above which the lines of the fine grid are distinguishable.
const FINE_GRID_SCALE: f64 = 3.0;
/// Space between cells of the header.
const CELL_GAP: f64 = 9.0;
const CAPTION: TextLook = TextLook::new(2.3, QUIET);
const VALUE: TextLook = TextLook::new(4.0, INK).bold();
const NOTE: TextLook = TextLook::new(2.8, INK);
pub(super) const LEGEND: TextLook = TextLook::new(2.4, QUIET);
/// Longest name of a lead that is drawn.
const LEAD_LETTERS: usize = 16;
/// Most findings of the rhythm that the header names.
const MAX_FINDINGS: usize = 12;
/// Limit in rows per page.
const MAX_ROWS: usize = 60;

/// Converts millimetres to hundredths.
pub(super) fn hundredths(mm: f64) -> i32 {
    // Clamped far beyond the page, so that extreme values cannot overflow.
    (mm * 100.0).round().clamp(-10_000_000.0, 10_000_000.0) as i32
}

/// A point in millimetres.
pub(super) fn at(x: f64, y: f64) -> (i32, i32) {
    (hundredths(x), hundredths(y))
}

/// A drawing that every format renders.
pub(super) trait Drawing {
    /// Width and height in hundredths of a millimetre.
    fn size(&self) -> (u32, u32);

    fn draw<B: DrawingBackend>(&self, backend: &mut B) -> Drawn<B>;
}

/// Layout of a strip on paper.
pub(super) struct Sheet<'a> {
    strip: &'a Strip,
    analysis: &'a Analysis,
    options: &'a Options,
    scale: Scale,
    rows: Vec<Vec<f32>>,
    overview: Option<Overview>,
    /// Lines below the cells of the header, with their colours.
    lines: Vec<(String, RGBColor)>,
    fine_grid: bool,
}

impl Drawing for Sheet<'_> {
    fn size(&self) -> (u32, u32) {
        let height =
            self.paper_bottom() + self.overview.as_ref().map_or(0.0, |_| Overview::HEIGHT) + self.below();
        (hundredths(PAGE_WIDTH) as u32, hundredths(height) as u32)
    }

    fn draw<B: DrawingBackend>(&self, backend: &mut B) -> Drawn<B> {
        let (width, height) = self.size();
        backend.draw_rect((0, 0), (width as i32, height as i32), &WHITE.filled(), true)?;
        if self.options.captions {
            self.header(backend)?;
        }
        let bottom = self.paper_bottom();
        grid(backend, (PAPER_LEFT, self.paper_top()), (PAPER_RIGHT, bottom), self.fine_grid)?;
        let mut cut = false;
        for (index, samples) in self.rows.iter().enumerate() {
            let row = Row {
                strip: self.strip,
                analysis: self.analysis,
                types: self.types(),
                scale: &self.scale,
                top: self.paper_top() + index as f64 * self.scale.row_height_mm,
                start_s: index as f64 * ROW_S,
                middle_mv: f64::from(scale::median(samples)),
            };
            row.draw(backend)?;
            cut |= row.is_cut(samples);
        }
        let mut footer_top = bottom;
        if let Some(overview) = &self.overview {
            overview.draw(backend, bottom, self.strip.duration_s())?;
            footer_top += Overview::HEIGHT;
        }
        if self.options.captions { self.footer(backend, footer_top, cut) } else { Ok(()) }
    }
}

impl<'a> Sheet<'a> {
    pub(super) fn of(
        strip: &'a Strip,
        analysis: &'a Analysis,
        options: &'a Options,
    ) -> Result<Self, PlotError> {
        if strip.sample_count() == 0 || strip.sample_rate_hz <= 0.0 || !strip.sample_rate_hz.is_finite() {
            return Err(PlotError::Empty);
        }
        let duration_s = strip.duration_s();
        let on_page = options.rows.clamp(1, MAX_ROWS);
        // A few samples more than a row do not start another row.
        let needed = ((duration_s - 0.05) / ROW_S).ceil().max(1.0);
        let rows = scale::samples_of_rows(strip, on_page.min(needed as usize));
        let scale = Scale::of(&rows);
        let overview = (needed as usize > on_page).then(|| Overview::of(strip, analysis));
        let width = PAPER_RIGHT - PAPER_LEFT;
        let report = options.report.as_deref();
        let lines = [
            (findings(analysis), INK),
            (report.map(rhythm).unwrap_or_default(), INK),
            (report.map(intervals).unwrap_or_default(), INK),
            (warnings(analysis), QUIET),
        ];
        let lines = lines.into_iter().filter(|(text, _)| options.captions && !text.is_empty());
        let lines = lines.map(|(text, color)| (NOTE.fitted(&text, width), color)).collect();
        Ok(Sheet { strip, analysis, options, scale, rows, overview, lines, fine_grid: true })
    }

    /// Omits the fine grid if it is not distinguishable at this scale.
    pub(super) fn adapt_to(&mut self, pixels_per_mm: f64) {
        self.fine_grid = pixels_per_mm >= FINE_GRID_SCALE;
    }

    /// Types of the beats; empty if they are not known.
    fn types(&self) -> &[TypedBeat] {
        self.options.report.as_deref().map_or(&[], |report| &report.types)
    }

    /// Lower edge of the header in millimetres.
    pub(super) fn paper_top(&self) -> f64 {
        let above = if self.options.captions { HEADER_HEIGHT } else { BARE_MARGIN };
        above + self.lines.len() as f64 * LINE_HEIGHT
    }

    fn below(&self) -> f64 {
        if self.options.captions { FOOTER_HEIGHT } else { BARE_MARGIN }
    }

    fn paper_bottom(&self) -> f64 {
        self.paper_top() + self.rows.len() as f64 * self.scale.row_height_mm
    }

    pub(super) fn header<B: DrawingBackend>(&self, backend: &mut B) -> Drawn<B> {
        let mut x = PAPER_LEFT;
        let (rate, rate_color) = match &self.analysis.heart_rate {
            Some(rate) => (format!("{:.0} bpm", rate.mean_bpm), INK),
            None => ("no heart rate".to_owned(), MARK),
        };
        let big = TextLook::new(7.0, rate_color).bold();
        CAPTION.draw(backend, "Heart rate", at(x, 5.0))?;
        big.draw(backend, &rate, at(x, 12.0))?;
        x += big.width_mm(&rate) + CELL_GAP * 1.3;
        for (caption, value, color) in self.cells() {
            let width = VALUE.width_mm(&value).max(CAPTION.width_mm(caption));
            if x + width > PAPER_RIGHT {
                break;
            }
            CAPTION.draw(backend, caption, at(x, 5.0))?;
            TextLook { color, ..VALUE }.draw(backend, &value, at(x, 12.0))?;
            x += width + CELL_GAP;
        }
        for (index, (text, color)) in self.lines.iter().enumerate() {
            let y = HEADER_HEIGHT + index as f64 * LINE_HEIGHT;
            TextLook { color: *color, ..NOTE }.draw(backend, text, at(PAPER_LEFT, y))?;
        }
        Ok(())
    }

    /// Caption, value and colour of the cells of the header after the heart rate.
    fn cells(&self) -> Vec<(&'static str, String, RGBColor)> {
        let mut cells = Vec::new();
        if let Some(rate) = &self.analysis.heart_rate {
            cells.push(("Lowest to highest", format!("{:.0} to {:.0} bpm", rate.min_bpm, rate.max_bpm), INK));
        }
        let (quality, color) = match self.analysis.quality {
            Quality::Good => ("good", GREEN),
            Quality::Poor => ("poor", AMBER),
            Quality::Unusable => ("unusable", MARK),
        };
        cells.push(("Signal quality", quality.to_owned(), color));
        let lead = self.strip.lead.as_deref().unwrap_or("not named");
        let lead: String = lead.chars().take(LEAD_LETTERS).collect();
        cells.push(("Lead", lead, INK));
        cells.push(("Duration", format_duration(self.strip.duration_s()), INK));
        cells.push(("Sampling", format!("{} Hz", rounded(self.strip.sample_rate_hz)), INK));
        if let Some(time) = &self.options.recorded_at {
            cells.push(("Recorded", time.chars().take(40).collect(), INK));
        }
        cells
    }

    fn footer<B: DrawingBackend>(&self, backend: &mut B, top: f64, cut: bool) -> Drawn<B> {
        let y = top + 4.5;
        let pulse = format!("pulse: {} mV", rounded(self.scale.pulse_mv()));
        let mut text = format!("{}   {pulse}", self.scale.text());
        if cut {
            text.push_str("   values outside a row are clipped");
        }
        LEGEND.draw(backend, &text, at(PAPER_LEFT, y))?;
        let mut x = PAPER_RIGHT;
        let mut entry = |backend: &mut B, text: &str| -> Result<f64, DrawingErrorKind<B::ErrorType>> {
            x -= LEGEND.width_mm(text);
            LEGEND.draw(backend, text, at(x, y))?;
            x -= 6.5;
            let sample = x;
            x -= 5.0;
            Ok(sample)
        };
        let x = entry(backend, "gap in the recording")?;
        frame_gap(backend, (x, y - 1.5), (x + 5.0, y + 1.5))?;
        let x = entry(backend, "unusable signal")?;
        backend.draw_rect(at(x, y - 1.5), at(x + 5.0, y + 1.5), &SHADE.mix(0.3), true)?;
        let x = entry(backend, "poor signal")?;
        backend.draw_rect(at(x, y - 0.4), at(x + 5.0, y + 0.4), &AMBER.filled(), true)?;
        let text = if self.types().is_empty() { "beat" } else { "beat (S, V: ectopic, P: paced)" };
        let x = entry(backend, text)?;
        mark(backend, x + 3.5, y - 1.0, MARK)
    }
}

/// Findings of the strip, or the reason for a missing rate.
fn findings(analysis: &Analysis) -> String {
    if let Some(reason) = &analysis.no_heart_rate_reason {
        return reason.clone();
    }
    let notes: Vec<&str> = analysis.rhythm_notes.iter().map(|note| note.message.as_str()).collect();
    notes.join("  ")
}

/// Name and times of each finding of the rhythm.
fn rhythm(report: &Report) -> String {
    let finding = |finding: &Finding| {
        format!("{} {} to {}", finding.name(), clock(finding.start_s), clock(finding.end_s))
    };
    report.findings.iter().take(MAX_FINDINGS).map(finding).collect::<Vec<_>>().join("   ")
}

/// Medians of the intervals that can be measured.
fn intervals(report: &Report) -> String {
    let Intervals { pr, qrs, qt, qtc_bazett, qtc_fridericia } = report.intervals;
    let values = [
        ("PR", pr, ""),
        ("QRS", qrs, ""),
        ("QT", qt, ""),
        ("QTc", qtc_bazett, " (Bazett)"),
        ("QTc", qtc_fridericia, " (Fridericia)"),
    ];
    let text = |(name, value, of): (&str, Option<IntervalMs>, &str)| {
        value.map(|value| format!("{name} {:.0} ms{of}", value.median))
    };
    values.into_iter().filter_map(text).collect::<Vec<_>>().join("   ")
}

/// Warnings of the reader. Names of other leads do not concern this one.
fn warnings(analysis: &Analysis) -> String {
    let warnings = analysis.warnings.iter().filter(|warning| warning.code != "other_leads");
    let texts: Vec<&str> = warnings.map(|warning| warning.message.as_str()).collect();
    texts.join("  ")
}

/// Draws the mark of a beat with its tip down.
pub(super) fn mark<B: DrawingBackend>(backend: &mut B, x: f64, top: f64, color: RGBColor) -> Drawn<B> {
    backend.fill_polygon([at(x - 1.1, top), at(x + 1.1, top), at(x, top + 2.0)], &color)
}

/// Draws a gap: white paper between two dashed lines.
pub(super) fn frame_gap<B: DrawingBackend>(backend: &mut B, from: (f64, f64), to: (f64, f64)) -> Drawn<B> {
    backend.draw_rect(at(from.0, from.1), at(to.0, to.1), &WHITE.mix(0.85), true)?;
    let mut y = from.1;
    while y < to.1 {
        for x in [from.0, to.0] {
            backend.draw_path([at(x, y), at(x, (y + 1.0).min(to.1))], &QUIET.stroke_width(20))?;
        }
        y += 2.0;
    }
    Ok(())
}

/// Draws the grid of 1 and 5 mm.
pub(super) fn grid<B: DrawingBackend>(
    backend: &mut B,
    from: (f64, f64),
    to: (f64, f64),
    fine: bool,
) -> Drawn<B> {
    backend.draw_rect(at(from.0, from.1), at(to.0, to.1), &PAPER.filled(), true)?;
    for (step, color, width) in [(1.0, FINE, 10), (5.0, COARSE, 20)] {
        if step < 5.0 && !fine {
            continue;
        }
        let style = color.stroke_width(width);
        // All lines of a direction are one path, so that the SVG stays small.
        let columns = ((to.0 - from.0) / step).round() as usize;
        let stroke = (0..=columns).flat_map(|column| {
            let x = from.0 + column as f64 * step;
            if column % 2 == 0 { [at(x, from.1), at(x, to.1)] } else { [at(x, to.1), at(x, from.1)] }
        });
        backend.draw_path(stroke, &style)?;
        let rows = ((to.1 - from.1) / step).round() as usize;
        let stroke = (0..=rows).flat_map(|row| {
            let y = from.1 + row as f64 * step;
            if row % 2 == 0 { [at(from.0, y), at(to.0, y)] } else { [at(to.0, y), at(from.0, y)] }
        });
        backend.draw_path(stroke, &style)?;
    }
    Ok(())
}

/// Formats `27.8 s`, `5 min 3 s` or `24 h 0 min`.
fn format_duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    if whole < 3600 {
        format!("{} min {} s", whole / 60, whole % 60)
    } else {
        format!("{} h {} min", whole / 3600, whole % 3600 / 60)
    }
}

/// Formats at most three decimals without trailing zeros.
pub(super) fn rounded(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
