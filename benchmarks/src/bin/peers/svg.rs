//! Small charts as SVG: lines over a logarithmic axis, ranges, bars. Every line and bar has its name beside it.

use std::fmt::Write as _;

pub(crate) const INK: &str = "#1f2328";
const QUIET: &str = "#57606a";
const GRID: &str = "#d8dee4";

/// A picture under way.
pub(crate) struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// Where text begins.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    pub(crate) fn new(width: f64, height: f64, title: &str, subtitle: &str) -> Self {
        let mut svg = Svg { width, height, body: String::new() };
        let _ = writeln!(svg.body, "<title>{}</title>", escaped(title));
        let _ = writeln!(svg.body, "<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>");
        svg.styled((20.0, 30.0), 18.0, Anchor::Start, INK, true, title);
        svg.styled((20.0, 50.0), 13.0, Anchor::Start, QUIET, false, subtitle);
        svg
    }

    pub(crate) fn text(&mut self, at: (f64, f64), anchor: Anchor, colour: &str, text: &str) {
        self.styled(at, 12.0, anchor, colour, false, text);
    }

    pub(crate) fn heading(&mut self, at: (f64, f64), text: &str) {
        self.styled(at, 13.0, Anchor::Start, INK, true, text);
    }

    fn styled(
        &mut self,
        (x, y): (f64, f64),
        size: f64,
        anchor: Anchor,
        colour: &str,
        bold: bool,
        text: &str,
    ) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if bold { " font-weight=\"600\"" } else { "" };
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{colour}\"{weight}>{}</text>",
            escaped(text)
        );
    }

    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(
            self.body,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
        );
    }

    pub(crate) fn path(&mut self, points: &[(f64, f64)], colour: &str, dashed: bool) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let dashes = if dashed { " stroke-dasharray=\"5 4\"" } else { "" };
        let _ = writeln!(
            self.body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
            points.join(" ")
        );
    }

    pub(crate) fn dot(&mut self, (x, y): (f64, f64), colour: &str, filled: bool) {
        let fill = if filled { colour } else { "#ffffff" };
        let _ = writeln!(
            self.body,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        );
    }

    pub(crate) fn bar(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str) {
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        );
    }

    pub(crate) fn done(self) -> String {
        let Svg { width, height, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             role=\"img\" font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\">\n{body}</svg>\n"
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Place of a panel: left, top, width, height of its plotting area.
#[derive(Clone, Copy)]
pub(crate) struct Area {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// A logarithmic axis whose ends are marks: 1, 2 or 5 times a power of ten.
#[derive(Clone, Copy)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    pub(crate) fn over(values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::MAX, 0.0_f64);
        for value in values.filter(|value| value.is_finite() && *value > 0.0) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        let steps = || (-4..8).flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power)));
        Axis {
            low: steps().rfind(|step| *step <= low * 0.95).unwrap_or(low),
            high: steps().find(|step| *step >= high * 1.05).unwrap_or(high),
        }
    }

    /// From 0 at the low end to 1 at the high end.
    pub(crate) fn share(self, value: f64) -> f64 {
        (value / self.low).ln() / (self.high / self.low).ln()
    }

    pub(crate) fn marks(self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let steps: &[f64] = if decades > 3.0 {
            &[1.0]
        } else if decades > 1.6 {
            &[1.0, 3.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        (-4..8)
            .flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)))
            .filter(|mark| *mark >= self.low * 0.999 && *mark <= self.high * 1.001)
            .collect()
    }
}

/// One line of a chart.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) colour: &'static str,
    pub(crate) dashed: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Lines over a logarithmic x axis with these marks; names stand at their right ends.
pub(crate) fn lines(svg: &mut Svg, area: Area, heading: &str, x_marks: &[f64], x_name: &str, all: &[Series]) {
    let Area { left, top, width, height } = area;
    svg.heading((left - 40.0, top - 14.0), heading);
    let y_axis = Axis::over(all.iter().flat_map(|series| series.points.iter().map(|point| point.1)));
    let x_axis =
        Axis { low: x_marks.first().copied().unwrap_or(1.0), high: x_marks.last().copied().unwrap_or(10.0) };
    let place = |(x, y): (f64, f64)| {
        (left + 12.0 + x_axis.share(x) * (width - 24.0), top + (1.0 - y_axis.share(y)) * height)
    };
    for mark in y_axis.marks() {
        let y = place((x_axis.low, mark)).1;
        svg.line((left, y), (left + width, y), GRID, 1.0);
        svg.text((left - 6.0, y + 4.0), Anchor::End, QUIET, &grouped(mark));
    }
    for &mark in x_marks {
        let x = place((mark, y_axis.low)).0;
        svg.text((x, top + height + 18.0), Anchor::Middle, QUIET, &grouped(mark));
    }
    svg.text((left + width / 2.0, top + height + 36.0), Anchor::Middle, QUIET, x_name);
    let mut labels = Vec::new();
    for series in all.iter().filter(|series| !series.points.is_empty()) {
        let points: Vec<_> = series.points.iter().map(|point| place(*point)).collect();
        svg.path(&points, series.colour, series.dashed);
        for point in &points {
            svg.dot(*point, series.colour, !series.dashed);
        }
        labels.push((points[points.len() - 1].1, series));
    }
    // Names that would stand on each other move apart.
    labels.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut lowest = f64::MIN;
    for (y, series) in labels {
        let y = y.max(lowest + 15.0);
        lowest = y;
        svg.text((left + width + 6.0, y + 4.0), Anchor::Start, series.colour, &series.name);
    }
}

/// Name, colour, and p50 with p99; without these the name is a heading.
pub(crate) type Row = (String, &'static str, Option<(f64, f64)>);

/// From p50 to p99 of each row, over a logarithmic axis.
pub(crate) fn ranges(svg: &mut Svg, area: Area, unit: &str, rows: &[Row]) {
    let Area { left, top, width, height } = area;
    let axis = Axis::over(rows.iter().filter_map(|row| row.2).flat_map(|(low, high)| [low, high]));
    let x = |value: f64| left + axis.share(value) * width;
    for mark in axis.marks() {
        svg.line((x(mark), top), (x(mark), top + height), GRID, 1.0);
        svg.text((x(mark), top + height + 18.0), Anchor::Middle, QUIET, &grouped(mark));
    }
    svg.text((left + width / 2.0, top + height + 36.0), Anchor::Middle, QUIET, unit);
    let step = height / rows.len().max(1) as f64;
    for (index, (name, colour, range)) in rows.iter().enumerate() {
        let y = top + (index as f64 + 0.5) * step;
        match range {
            None => svg.heading((20.0, y + 5.0), name),
            Some((low, high)) => {
                svg.text((left - 10.0, y + 4.0), Anchor::End, colour, name);
                svg.line((x(*low), y), (x(*high), y), colour, 3.0);
                svg.dot((x(*low), y), colour, true);
                svg.dot((x(*high), y), colour, false);
            }
        }
    }
}

/// A bar for each row, from zero on, with its value.
pub(crate) fn bars(svg: &mut Svg, area: Area, heading: &str, rows: &[(&str, &'static str, f64)]) {
    let Area { left, top, width, height } = area;
    svg.heading((left - 140.0, top - 10.0), heading);
    let most = rows.iter().map(|row| row.2).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let step = height / rows.len().max(1) as f64;
    for (index, (name, colour, value)) in rows.iter().enumerate() {
        let y = top + index as f64 * step;
        svg.text((left - 8.0, y + step / 2.0 + 4.0), Anchor::End, INK, name);
        let length = value / most * (width - 60.0);
        svg.bar((left, y + step * 0.15), (length, step * 0.7), colour);
        svg.text(
            (left + length + 6.0, y + step / 2.0 + 4.0),
            Anchor::Start,
            INK,
            &crate::tables::short(*value),
        );
    }
    svg.line((left, top), (left, top + height), QUIET, 1.0);
}

/// 5000 as 5,000; 0.50 as 0.5.
fn grouped(value: f64) -> String {
    if value < 1_000.0 {
        return format!("{}", (value * 1e4).round() / 1e4);
    }
    let digits = format!("{value:.0}");
    let (head, tail) = digits.split_at(digits.len() - 3);
    format!("{head},{tail}")
}
