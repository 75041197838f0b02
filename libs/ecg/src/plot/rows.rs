//! A row of ten seconds: calibration pulse, trace, beat marks with their types, pacemaker pulses, gaps and quality.

use plotters::style::{Color, RGBColor};
use plotters_backend::DrawingBackend;

use super::paper::{
    AMBER, BLUE, Drawn, FAINT_MARK, INK, MARK, PAPER_LEFT, QUIET, SHADE, SLATE, TRACE_LEFT, at, frame_gap,
    hundredths, mark,
};
use super::scale::{self, ROW_S, SPEED_MM_PER_S, Scale};
use super::text::TextLook;
use crate::beat_types::{BeatType, TypedBeat};
use crate::{Analysis, Gap, Quality, Segment, Strip};

/// Width of the pen in hundredths of a millimetre.
pub(super) const PEN: u32 = 28;
/// Width in millimetres of a column in which a dense trace is reduced to its extremes.
const COLUMN_MM: f64 = 0.1;
/// Beats below this confidence have a faint mark.
const CERTAIN: f32 = 0.5;
const LABEL: TextLook = TextLook::new(2.4, QUIET);
const TYPE: TextLook = TextLook::new(2.6, INK).bold();
/// Distance of the letter of a type from the middle of its mark, in millimetres.
const TYPE_RIGHT: f64 = 1.5;

/// A row of the page.
pub(super) struct Row<'a> {
    pub(super) strip: &'a Strip,
    pub(super) analysis: &'a Analysis,
    /// Types of the beats; empty if they are not known.
    pub(super) types: &'a [TypedBeat],
    pub(super) scale: &'a Scale,
    /// Upper edge in millimetres.
    pub(super) top: f64,
    pub(super) start_s: f64,
    /// The voltage on the baseline.
    pub(super) middle_mv: f64,
}

impl Row<'_> {
    pub(super) fn draw<B: DrawingBackend>(&self, backend: &mut B) -> Drawn<B> {
        self.quality(backend)?;
        self.gaps(backend)?;
        self.pulse(backend)?;
        for segment in &self.strip.segments {
            self.trace(backend, segment)?;
        }
        for pulse_s in self.analysis.pacing_pulses_s.iter().filter(|pulse_s| self.holds(**pulse_s)) {
            let x = self.x(*pulse_s);
            backend.draw_path([at(x, self.top + 4.0), at(x, self.top + 7.0)], &BLUE.stroke_width(PEN))?;
        }
        for (index, beat) in self.analysis.beats.iter().enumerate() {
            if !self.holds(beat.time_s) {
                continue;
            }
            let color = if beat.confidence < CERTAIN { FAINT_MARK } else { MARK };
            let x = self.x(beat.time_s);
            mark(backend, x, self.top + 1.5, color)?;
            if let Some(color) = self.types.get(index).and_then(|typed| type_color(typed.kind)) {
                let letter = self.types[index].kind.symbol().to_string();
                let place = at(x + TYPE_RIGHT, self.top + 2.4);
                TextLook { color, ..TYPE }.draw(backend, &letter, place)?;
            }
        }
        Ok(())
    }

    /// Whether part of the trace is outside the row.
    pub(super) fn is_cut(&self, samples: &[f32]) -> bool {
        samples.iter().any(|&sample| {
            let y = self.unclamped(sample);
            y < self.top || y > self.bottom()
        })
    }

    fn bottom(&self) -> f64 {
        self.top + self.scale.row_height_mm
    }

    fn end_s(&self) -> f64 {
        self.start_s + ROW_S
    }

    fn holds(&self, time_s: f64) -> bool {
        (self.start_s..self.end_s()).contains(&time_s)
    }

    fn x(&self, time_s: f64) -> f64 {
        TRACE_LEFT + (time_s - self.start_s) * SPEED_MM_PER_S
    }

    fn unclamped(&self, sample: f32) -> f64 {
        self.top + self.scale.baseline_mm - (f64::from(sample) - self.middle_mv) * self.scale.gain_mm_per_mv
    }

    fn y(&self, sample: f32) -> f64 {
        self.unclamped(sample).clamp(self.top + 0.3, self.bottom() - 0.3)
    }

    /// Left and right edge of a time interval, limited to the row.
    fn span(&self, start_s: f64, end_s: f64) -> Option<(f64, f64)> {
        let (start_s, end_s) = (start_s.max(self.start_s), end_s.min(self.end_s()));
        (start_s < end_s).then(|| (self.x(start_s), self.x(end_s)))
    }

    fn quality<B: DrawingBackend>(&self, backend: &mut B) -> Drawn<B> {
        for stretch in &self.analysis.quality_segments {
            let Some((left, right)) = self.span(stretch.start_s, stretch.end_s) else { continue };
            match stretch.quality {
                Quality::Good => {}
                Quality::Poor => {
                    backend.draw_rect(
                        at(left, self.top),
                        at(right, self.top + 0.8),
                        &AMBER.filled(),
                        true,
                    )?;
                }
                Quality::Unusable => {
                    backend.draw_rect(at(left, self.top), at(right, self.bottom()), &SHADE.mix(0.3), true)?;
                    self.label(backend, "unusable", left, right)?;
                }
            }
        }
        Ok(())
    }

    fn gaps<B: DrawingBackend>(&self, backend: &mut B) -> Drawn<B> {
        let before = self.strip.segments.first().map(|first| Gap { start_s: 0.0, end_s: first.start_s });
        for gap in before.into_iter().chain(self.strip.gaps()) {
            let Some((left, right)) = self.span(gap.start_s, gap.end_s) else { continue };
            frame_gap(backend, (left, self.top), (right.max(left + 0.2), self.bottom()))?;
            let length_s = gap.end_s - gap.start_s;
            self.label(backend, &format!("gap of {length_s:.1} s"), left, right)?;
        }
        Ok(())
    }

    /// Writes a label at the bottom of an interval if there is space.
    fn label<B: DrawingBackend>(&self, backend: &mut B, text: &str, left: f64, right: f64) -> Drawn<B> {
        if LABEL.width_mm(text) + 2.0 > right - left {
            return Ok(());
        }
        LABEL.centred().draw(backend, text, at((left + right) / 2.0, self.bottom() - 2.5))
    }

    /// Draws the calibration pulse and the time of the row.
    fn pulse<B: DrawingBackend>(&self, backend: &mut B) -> Drawn<B> {
        calibration(backend, self.scale, self.top)?;
        LABEL.draw(backend, &clock(self.start_s), at(PAPER_LEFT + 1.0, self.bottom() - 2.5))
    }

    fn trace<B: DrawingBackend>(&self, backend: &mut B, segment: &Segment) -> Drawn<B> {
        let rate_hz = self.strip.sample_rate_hz;
        let range = scale::index_range(segment.start_s, segment.samples.len(), rate_hz, self.start_s);
        let samples = segment.samples.get(range.clone()).unwrap_or_default();
        let step_mm = SPEED_MM_PER_S / rate_hz;
        let first_mm = self.x(segment.start_s + range.start as f64 / rate_hz);
        let mut stroke = Stroke::default();
        for (index, &sample) in samples.iter().enumerate() {
            if sample.is_finite() {
                stroke.add(first_mm + index as f64 * step_mm, self.y(sample));
            } else {
                self.finish(backend, &mut stroke)?;
            }
        }
        self.finish(backend, &mut stroke)
    }

    fn finish<B: DrawingBackend>(&self, backend: &mut B, stroke: &mut Stroke) -> Drawn<B> {
        let points = stroke.take();
        if points.len() < 2 { Ok(()) } else { backend.draw_path(points, &INK.stroke_width(PEN)) }
    }
}

/// Draws the calibration pulse of a row.
pub(super) fn calibration<B: DrawingBackend>(backend: &mut B, scale: &Scale, top: f64) -> Drawn<B> {
    let height = scale.pulse_mv() * scale.gain_mm_per_mv;
    let row = scale.row_height_mm;
    let base = top + scale.baseline_mm.clamp((height + 2.0).min(row - 6.0), row - 6.0);
    let left = PAPER_LEFT + 2.5;
    let points = [
        at(left, base),
        at(left + 2.5, base),
        at(left + 2.5, base - height),
        at(left + 7.5, base - height),
        at(left + 7.5, base),
        at(left + 10.0, base),
    ];
    backend.draw_path(points, &INK.stroke_width(PEN))
}

/// Colour of the letter of a beat that is not normal.
pub(super) fn type_color(kind: BeatType) -> Option<RGBColor> {
    match kind {
        BeatType::Ventricular => Some(MARK),
        BeatType::Supraventricular => Some(BLUE),
        BeatType::Paced => Some(SLATE),
        BeatType::Normal | BeatType::Unknown => None,
    }
}

/// Formats `0:10`, or `1:00:10` for an hour and more.
pub(super) fn clock(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    if whole < 3600 {
        format!("{}:{:02}", whole / 60, whole % 60)
    } else {
        format!("{}:{:02}:{:02}", whole / 3600, whole % 3600 / 60, whole % 60)
    }
}

/// A path reduced to the first, lowest, highest and last point of each narrow column.
#[derive(Default)]
pub(super) struct Stroke {
    points: Vec<(i32, i32)>,
    column: i64,
    /// First, lowest, highest and last point of the current column, with their order.
    open: Option<[(usize, (i32, i32)); 4]>,
    count: usize,
}

impl Stroke {
    pub(super) fn add(&mut self, x_mm: f64, y_mm: f64) {
        let column = (x_mm / COLUMN_MM).floor() as i64;
        let point = (self.count, (hundredths(x_mm), hundredths(y_mm)));
        self.count += 1;
        match &mut self.open {
            Some([_, low, high, last]) if self.column == column => {
                if point.1.1 < low.1.1 {
                    *low = point;
                }
                if point.1.1 > high.1.1 {
                    *high = point;
                }
                *last = point;
            }
            _ => {
                self.close();
                self.column = column;
                self.open = Some([point; 4]);
            }
        }
    }

    fn close(&mut self) {
        let Some(mut column) = self.open.take() else { return };
        column.sort_by_key(|(order, _)| *order);
        for (_, point) in column {
            if self.points.last() != Some(&point) {
                self.points.push(point);
            }
        }
    }

    pub(super) fn take(&mut self) -> Vec<(i32, i32)> {
        self.close();
        std::mem::take(&mut self.points)
    }
}
