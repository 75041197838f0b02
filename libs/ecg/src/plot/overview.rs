//! Overview of a long recording: envelope of the signal, and heart rate over time.

use plotters::style::Color;
use plotters_backend::DrawingBackend;

use super::paper::{
    BLUE, COARSE, Drawn, FINE, INK, PAPER, PAPER_LEFT, PAPER_RIGHT, QUIET, SHADE, SLATE, TRACE_LEFT, at,
};
use super::rows::clock;
use super::text::TextLook;
use crate::{Analysis, Quality, Strip};

/// Number of columns: four per millimetre.
const COLUMNS: usize = 1000;
const ENVELOPE_TOP: f64 = 9.0;
const ENVELOPE_HEIGHT: f64 = 20.0;
const TREND_TOP: f64 = 33.0;
const TREND_HEIGHT: f64 = 25.0;
/// Steps of the time axis, in seconds.
const TIME_STEPS_S: [f64; 12] =
    [10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0, 43_200.0, 86_400.0];
const TITLE: TextLook = TextLook::new(2.8, INK).bold();
const LABEL: TextLook = TextLook::new(2.4, QUIET);

/// A long recording reduced to a thousand columns.
pub(super) struct Overview {
    duration_s: f64,
    /// Lowest and highest sample per column.
    envelope: Vec<Option<(f32, f32)>>,
    /// Lowest, mean and highest rate per column.
    trend: Vec<Option<[f64; 3]>>,
    /// Whether the signal is unusable, per column.
    unusable: Vec<bool>,
}

impl Overview {
    /// Height of the overview in millimetres.
    pub(super) const HEIGHT: f64 = TREND_TOP + TREND_HEIGHT + 6.0;

    pub(super) fn of(strip: &Strip, analysis: &Analysis) -> Self {
        let duration_s = strip.duration_s();
        Overview {
            duration_s,
            envelope: envelope(strip, duration_s),
            trend: trend(analysis, duration_s),
            unusable: unusable(analysis, duration_s),
        }
    }

    pub(super) fn draw<B: DrawingBackend>(&self, backend: &mut B, top: f64, duration_s: f64) -> Drawn<B> {
        TITLE.draw(backend, "Whole recording", at(PAPER_LEFT, top + 5.0))?;
        let envelope = Panel { top: top + ENVELOPE_TOP, height: ENVELOPE_HEIGHT };
        let trend = Panel { top: top + TREND_TOP, height: TREND_HEIGHT };
        for panel in [&envelope, &trend] {
            panel.frame(backend)?;
            self.times(backend, panel, duration_s)?;
        }
        self.draw_envelope(backend, &envelope)?;
        self.draw_unusable(backend, &envelope)?;
        LABEL.right().draw(backend, "mV", at(TRACE_LEFT - 1.5, envelope.top + ENVELOPE_HEIGHT / 2.0))?;
        self.draw_trend(backend, &trend)
    }

    /// Vertical lines at round times, with labels below the lower panel.
    fn times<B: DrawingBackend>(&self, backend: &mut B, panel: &Panel, duration_s: f64) -> Drawn<B> {
        let last = TIME_STEPS_S[TIME_STEPS_S.len() - 1];
        let step_s = TIME_STEPS_S.into_iter().find(|step_s| duration_s / step_s <= 14.0);
        let step_s = step_s.unwrap_or_else(|| (duration_s / 14.0 / last).ceil() * last);
        let count = (duration_s / step_s).floor() as usize;
        for index in 0..=count {
            let time_s = index as f64 * step_s;
            let x = TRACE_LEFT + time_s / duration_s * (PAPER_RIGHT - TRACE_LEFT);
            backend.draw_path([at(x, panel.top), at(x, panel.bottom())], &COARSE.stroke_width(15))?;
            if panel.height == TREND_HEIGHT && x < PAPER_RIGHT - 5.0 {
                LABEL.centred().draw(backend, &clock(time_s), at(x, panel.bottom() + 2.8))?;
            }
        }
        Ok(())
    }

    fn draw_unusable<B: DrawingBackend>(&self, backend: &mut B, panel: &Panel) -> Drawn<B> {
        for (start, end) in runs(&self.unusable, |&unusable| unusable) {
            backend.draw_rect(
                at(column_x(start as f64), panel.top),
                at(column_x(end as f64), panel.bottom()),
                &SHADE.mix(0.6),
                true,
            )?;
        }
        Ok(())
    }

    fn draw_envelope<B: DrawingBackend>(&self, backend: &mut B, panel: &Panel) -> Drawn<B> {
        let mut lows: Vec<f32> = self.envelope.iter().flatten().map(|column| column.0).collect();
        let mut highs: Vec<f32> = self.envelope.iter().flatten().map(|column| column.1).collect();
        if lows.is_empty() {
            return Ok(());
        }
        // The range excludes 1 % of the columns at each end, so that an outlier does not compress the rest.
        let rank = lows.len() / 100;
        let low = f64::from(*lows.select_nth_unstable_by(rank, f32::total_cmp).1);
        let rank = highs.len() - 1 - highs.len() / 100;
        let high = f64::from(*highs.select_nth_unstable_by(rank, f32::total_cmp).1);
        let span = (high - low).max(1e-9) * 1.1;
        let middle = (high + low) / 2.0;
        let y = |value: f32| panel.y((f64::from(value) - middle) / span + 0.5);
        for (start, end) in runs(&self.envelope, Option::is_some) {
            let columns = || (start..end).filter_map(|column| Some((column, self.envelope[column]?)));
            let upper = columns().map(|(column, (_, high))| at(column_x(column as f64 + 0.5), y(high) - 0.1));
            let lower = columns().map(|(column, (low, _))| at(column_x(column as f64 + 0.5), y(low) + 0.1));
            let mut outline: Vec<(i32, i32)> = upper.collect();
            outline.extend(lower.rev());
            if end - start == 1 {
                // A single column has no area.
                backend.draw_path(outline, &SLATE.stroke_width(20))?;
            } else {
                backend.fill_polygon(outline, &SLATE)?;
            }
        }
        Ok(())
    }

    fn draw_trend<B: DrawingBackend>(&self, backend: &mut B, panel: &Panel) -> Drawn<B> {
        let low = self.trend.iter().flatten().map(|rates| rates[0]).fold(f64::MAX, f64::min);
        let high = self.trend.iter().flatten().map(|rates| rates[2]).fold(f64::MIN, f64::max);
        LABEL.draw(backend, "bpm", at(PAPER_LEFT + 0.5, panel.top + 1.5))?;
        if low > high {
            let middle = (TRACE_LEFT + PAPER_RIGHT) / 2.0;
            return LABEL.centred().draw(
                backend,
                "no heart rate",
                at(middle, panel.top + TREND_HEIGHT / 2.0),
            );
        }
        let step = if high - low > 200.0 {
            100.0
        } else if high - low > 80.0 {
            50.0
        } else {
            20.0
        };
        let bottom = (low / step).floor() * step;
        let top = ((high / step).ceil() * step).max(bottom + step);
        let y = |rate: f64| panel.y((rate - bottom) / (top - bottom));
        let lines = ((top - bottom) / step).round() as usize;
        for index in 0..=lines {
            let rate = bottom + index as f64 * step;
            backend.draw_path([at(TRACE_LEFT, y(rate)), at(PAPER_RIGHT, y(rate))], &FINE.stroke_width(15))?;
            LABEL.right().draw(backend, &format!("{rate:.0}"), at(TRACE_LEFT - 1.5, y(rate)))?;
        }
        // In a short recording there are empty columns between two rates; these do not interrupt the line.
        let known: Vec<(usize, [f64; 3])> =
            self.trend.iter().enumerate().filter_map(|(column, rates)| Some((column, (*rates)?))).collect();
        let apart = (60.0 / self.duration_s * COLUMNS as f64).max(3.0) as usize;
        for run in known.chunk_by(|a, b| b.0 - a.0 <= apart) {
            let x = |column: usize| column_x(column as f64 + 0.5);
            let mut band: Vec<(i32, i32)> =
                run.iter().map(|(column, rates)| at(x(*column), y(rates[2]))).collect();
            band.extend(run.iter().rev().map(|(column, rates)| at(x(*column), y(rates[0]))));
            backend.fill_polygon(band, &BLUE.mix(0.2))?;
            let mean = run.iter().map(|(column, rates)| at(x(*column), y(rates[1])));
            backend.draw_path(mean, &BLUE.stroke_width(35))?;
        }
        Ok(())
    }
}

/// A framed area below the rows.
struct Panel {
    top: f64,
    height: f64,
}

impl Panel {
    fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// Position of a value from 0 (bottom) to 1 (top).
    fn y(&self, share: f64) -> f64 {
        self.top + self.height * (1.0 - share.clamp(0.0, 1.0))
    }

    fn frame<B: DrawingBackend>(&self, backend: &mut B) -> Drawn<B> {
        let (from, to) = (at(TRACE_LEFT, self.top), at(PAPER_RIGHT, self.bottom()));
        backend.draw_rect(from, to, &PAPER.filled(), true)?;
        let corners = [from, (to.0, from.1), to, (from.0, to.1), from];
        backend.draw_path(corners, &COARSE.stroke_width(20))
    }
}

fn column_x(column: f64) -> f64 {
    TRACE_LEFT + column / COLUMNS as f64 * (PAPER_RIGHT - TRACE_LEFT)
}

fn column_of(time_s: f64, duration_s: f64) -> usize {
    ((time_s / duration_s * COLUMNS as f64).max(0.0) as usize).min(COLUMNS - 1)
}

fn envelope(strip: &Strip, duration_s: f64) -> Vec<Option<(f32, f32)>> {
    let mut columns: Vec<Option<(f32, f32)>> = vec![None; COLUMNS];
    for segment in &strip.segments {
        let mut index = 0;
        while index < segment.samples.len() {
            let time_s = segment.start_s + index as f64 / strip.sample_rate_hz;
            let column = column_of(time_s, duration_s);
            // The first sample of the next column, and at least one further, so that rounding cannot cause an
            // endless loop.
            let end_s = (column + 1) as f64 / COLUMNS as f64 * duration_s;
            let end = ((end_s - segment.start_s) * strip.sample_rate_hz).ceil() as usize;
            let end = end.max(index + 1).min(segment.samples.len());
            let samples = segment.samples.get(index..end).unwrap_or_default();
            let (low, high) = crate::units::extremes(samples);
            if low <= high {
                let known = columns[column].get_or_insert((low, high));
                *known = (known.0.min(low), known.1.max(high));
            }
            index = end;
        }
    }
    columns
}

fn trend(analysis: &Analysis, duration_s: f64) -> Vec<Option<[f64; 3]>> {
    let mut columns: Vec<Option<([f64; 3], f64)>> = vec![None; COLUMNS];
    for point in &analysis.trend {
        let column = &mut columns[column_of(point.time_s, duration_s)];
        let (rates, count) = column.get_or_insert(([f64::MAX, 0.0, f64::MIN], 0.0));
        rates[0] = rates[0].min(point.min_bpm);
        rates[1] += point.mean_bpm;
        rates[2] = rates[2].max(point.max_bpm);
        *count += 1.0;
    }
    columns
        .into_iter()
        .map(|column| column.map(|([low, sum, high], count)| [low, sum / count, high]))
        .collect()
}

fn unusable(analysis: &Analysis, duration_s: f64) -> Vec<bool> {
    let mut columns = vec![false; COLUMNS];
    for stretch in analysis.quality_segments.iter().filter(|stretch| stretch.quality == Quality::Unusable) {
        let (start, end) = (column_of(stretch.start_s, duration_s), column_of(stretch.end_s, duration_s));
        columns.get_mut(start..=end).unwrap_or_default().fill(true);
    }
    columns
}

/// Start and end of each run of columns that satisfies `belongs`.
fn runs<T>(columns: &[T], belongs: impl Fn(&T) -> bool) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut start = None;
    for (index, column) in columns.iter().enumerate() {
        match (belongs(column), start) {
            (true, None) => start = Some(index),
            (false, Some(from)) => {
                found.push((from, index));
                start = None;
            }
            _ => {}
        }
    }
    found.extend(start.map(|from| (from, columns.len())));
    found
}
