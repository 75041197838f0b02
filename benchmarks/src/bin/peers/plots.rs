//! SVG plots of the figures, one file per subject.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use plotters::coord::Shift;
use plotters::coord::combinators::BindKeyPoints;
use plotters::prelude::*;

use crate::fanout::{Fanout, Watched};
use crate::load::Measured;
use crate::measure::{CONNECTIONS, Extent, Figures, What};
use crate::peer::Kind;
use crate::tables::short;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

const FONT: &str = "DejaVu Sans, Helvetica, Arial, sans-serif";
const INK: RGBColor = RGBColor(31, 35, 40);
const GRID: RGBColor = RGBColor(216, 222, 228);
const ROW: u32 = 26;
const RANGE: &str = "ms; filled: p50, open: p99";

fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Standalone => RGBColor(5, 80, 174),
        Kind::FullStack => RGBColor(26, 127, 55),
        Kind::Flask => RGBColor(188, 76, 0),
        Kind::Orthanc => RGBColor(130, 80, 223),
    }
}

/// Writes the plots of all figures that exist into a directory.
pub(crate) fn write(folder: &Path, all: &[Figures], extent: Extent, fanout: &[Fanout]) -> Drawn {
    fs::create_dir_all(folder)?;
    let file = |name: &str| folder.join(name);
    if !all.is_empty() {
        uploads(&file("uploads.svg"), all, extent)?;
        ranges(&file("upload-times.svg"), "Time to store an image", &upload_times(all, extent))?;
        reads(&file("reads.svg"), all, extent)?;
        ranges(&file("news.svg"), "Time until a monitor is notified of a new ECG", &notifications(all))?;
        cost(&file("cost.svg"), all)?;
    }
    if all.iter().any(|figures| figures.analysis.is_some()) {
        let title = "From POST of a raw ECG to its analysis, at half of the highest load";
        ranges(&file("analysis.svg"), title, &analysis(all))?;
    }
    if !fanout.is_empty() {
        watchers(&file("fanout.svg"), fanout)?;
    }
    Ok(())
}

/// A line of a chart.
struct Series {
    name: String,
    colour: RGBColor,
    dashed: bool,
    points: Vec<(f64, f64)>,
}

fn series(figures: &Figures, points: impl Iterator<Item = (f64, f64)>) -> Series {
    let points = points.filter(|point| point.1.is_finite() && point.1 > 0.0).collect();
    let name = figures.kind.title().to_owned();
    Series { name, colour: colour(figures.kind), dashed: false, points }
}

fn earlier(count: usize) -> String {
    if count == 1 { "1 earlier upload".to_owned() } else { format!("{count} earlier uploads") }
}

/// Lowest and highest positive value; 1 and 10 if there is none.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let positive = values.filter(|value| value.is_finite() && *value > 0.0);
    let (low, high) =
        positive.fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    if low > high { (1.0, 10.0) } else { (low, high) }
}

/// Draws lines over logarithmic axes. `marks` are the labelled values of the x axis, ascending.
fn lines(area: &Area<'_>, heading: &str, x_name: &str, marks: &[f64], all: &[Series]) -> Drawn {
    let (low, high) = bounds(all.iter().flat_map(|series| series.points.iter().map(|point| point.1)));
    let (first, last) = (marks.first().copied().unwrap_or(1.0), marks.last().copied().unwrap_or(10.0));
    let mut chart = ChartBuilder::on(area)
        .caption(heading, (FONT, 15))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(56)
        .build_cartesian_2d(
            (first * 0.9..last.max(first * 2.0) * 1.1).log_scale().with_key_points(marks.to_vec()),
            // The legend needs space above the highest line.
            (low * 0.8..high * (high / low).max(3.0).powf(0.5)).log_scale(),
        )?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc(x_name)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .label_style((FONT, 12))
        .draw()?;
    for series in all.iter().filter(|series| !series.points.is_empty()) {
        let style = series.colour.stroke_width(2);
        let points = series.points.iter().copied();
        let drawn = if series.dashed {
            chart.draw_series(DashedLineSeries::new(points.clone(), 6, 4, style))?
        } else {
            chart.draw_series(LineSeries::new(points.clone(), style))?
        };
        let colour = series.colour;
        drawn
            .label(&series.name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], colour.stroke_width(2)));
        chart.draw_series(points.map(|point| Circle::new(point, 4, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .label_font((FONT, 12))
        .draw()?;
    Ok(())
}

/// A row of a range chart: name, colour, p50 and p99. A row without values is a heading.
type Row = (String, RGBColor, Option<(f64, f64)>);

/// Draws a line from p50 to p99 for each row, over a logarithmic axis.
fn ranges(path: &PathBuf, title: &str, rows: &[Row]) -> Drawn {
    let root = SVGBackend::new(path, (860, rows.len() as u32 * ROW + 130)).into_drawing_area();
    root.fill(&WHITE)?;
    let (low, high) = bounds(rows.iter().filter_map(|row| row.2).flat_map(|(p50, p99)| [p50, p99]));
    let mut chart = ChartBuilder::on(&root)
        .caption(title, (FONT, 18))
        .margin(14)
        .x_label_area_size(42)
        .build_cartesian_2d(
            // Names are drawn to the right of their lines.
            (low * 0.8..high * (high / low).max(10.0).powf(0.6)).log_scale(),
            0.0..rows.len() as f64,
        )?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc(RANGE)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|value| short(*value))
        .label_style((FONT, 12))
        .draw()?;
    for (index, (name, colour, range)) in rows.iter().enumerate() {
        let y = rows.len() as f64 - index as f64 - 0.5;
        let text = (FONT, 13).into_font().color(colour);
        match range {
            None => drop(chart.draw_series([Text::new(name.clone(), (low, y + 0.25), text)])?),
            Some((p50, p99)) => {
                let line = PathElement::new(vec![(*p50, y), (*p99, y)], colour.stroke_width(3));
                chart.draw_series([line])?;
                chart.draw_series([Circle::new((*p50, y), 4, colour.filled())])?;
                chart.draw_series([Circle::new((*p99, y), 4, WHITE.filled())])?;
                chart.draw_series([Circle::new((*p99, y), 4, colour.stroke_width(2))])?;
                chart.draw_series([Text::new(format!("   {name}"), (*p99, y + 0.25), text)])?;
            }
        }
    }
    root.present()?;
    Ok(())
}

/// Draws a bar with name and value for each row.
fn bars(area: &Area<'_>, heading: &str, rows: &[(Kind, f64)]) -> Drawn {
    let (_, high) = bounds(rows.iter().map(|row| row.1));
    let mut chart = ChartBuilder::on(area)
        .caption(heading, (FONT, 15))
        .margin(12)
        // Names are drawn to the right of their bars.
        .build_cartesian_2d(0.0..high * 1.9, 0.0..rows.len() as f64)?;
    for (index, (kind, value)) in rows.iter().enumerate() {
        let y = rows.len() as f64 - index as f64 - 0.5;
        let bar = Rectangle::new([(0.0, y - 0.35), (*value, y + 0.35)], colour(*kind).filled());
        chart.draw_series([bar])?;
        let text = format!("  {}  {}", short(*value), kind.title());
        chart.draw_series([Text::new(text, (*value, y + 0.2), (FONT, 12).into_font().color(&INK))])?;
    }
    Ok(())
}

/// Draws one panel per item side by side.
fn panels<T>(path: &PathBuf, title: &str, items: &[T], draw: impl Fn(&Area<'_>, &T) -> Drawn) -> Drawn {
    let root = SVGBackend::new(path, (1_160, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let root = root.titled(title, (FONT, 18))?;
    for (area, item) in root.split_evenly((1, items.len())).iter().zip(items) {
        draw(area, item)?;
    }
    root.present()?;
    Ok(())
}

fn uploads(path: &PathBuf, all: &[Figures], extent: Extent) -> Drawn {
    let marks = CONNECTIONS.map(|connections| connections as f64);
    panels(path, "Images stored per second", &extent.histories[..2], |area, &history| {
        let of = |figures: &Figures| {
            let rate = |connections: usize| {
                Some((connections as f64, figures.intake(history, connections)?.per_second()))
            };
            series(figures, CONNECTIONS.into_iter().filter_map(rate))
        };
        lines(area, &earlier(history), "connections", &marks, &all.iter().map(of).collect::<Vec<_>>())
    })
}

fn reads(path: &PathBuf, all: &[Figures], extent: Extent) -> Drawn {
    let marks = extent.histories.map(|history| history as f64);
    panels(path, "Duration of a read, p50 in ms", &What::ALL, |area, what| {
        let of = |figures: &Figures| {
            let reads = figures.reads.iter().filter(|read| read.what == *what);
            series(figures, reads.map(|read| (read.history as f64, read.measured.p50())))
        };
        lines(area, what.title(), "earlier uploads", &marks, &all.iter().map(of).collect::<Vec<_>>())
    })
}

fn range(measured: &Measured) -> Option<(f64, f64)> {
    Some((measured.p50(), measured.p99())).filter(|(p50, _)| p50.is_finite())
}

fn upload_times(all: &[Figures], extent: Extent) -> Vec<Row> {
    let mut rows = Vec::new();
    for &history in &extent.histories[..2] {
        for connections in CONNECTIONS {
            rows.push((format!("Connections: {connections}, {}", earlier(history)), INK, None));
            for figures in all {
                if let Some(range) = figures.intake(history, connections).and_then(range) {
                    rows.push((figures.kind.title().to_owned(), colour(figures.kind), Some(range)));
                }
            }
        }
    }
    rows
}

fn notifications(all: &[Figures]) -> Vec<Row> {
    let row = |figures: &Figures| {
        let how = if figures.is_bedside() { "push" } else { "poll every 5 s" };
        let name = format!("{} ({how})", figures.kind.title());
        (name, colour(figures.kind), range(&figures.notification))
    };
    all.iter().map(row).collect()
}

fn analysis(all: &[Figures]) -> Vec<Row> {
    let row = |figures: &Figures| {
        let analysis = figures.analysis.as_ref()?;
        let name = format!("{}, {:.0} ECGs/s", figures.kind.title(), analysis.paced);
        Some((name, colour(figures.kind), range(&analysis.announced)))
    };
    all.iter().filter_map(row).collect()
}

fn cost(path: &PathBuf, all: &[Figures]) -> Drawn {
    type Value = fn(&Figures) -> f64;
    let subjects: [(&str, Value); 4] = [
        ("Memory after uploads, MB", |figures| figures.memory as f64 / 1e6),
        ("Processor per upload, ms", |figures| figures.processor),
        ("Start until ready, s", |figures| figures.start),
        ("Stored per image, KB", |figures| figures.stored / 1e3),
    ];
    panels(path, "Resources, with all processes of each server", &subjects, |area, (heading, value)| {
        let rows = all.iter().map(|figures| (figures.kind, value(figures)));
        bars(area, heading, &rows.filter(|row| row.1.is_finite()).collect::<Vec<_>>())
    })
}

fn watchers(path: &PathBuf, fanout: &[Fanout]) -> Drawn {
    let mut marks: Vec<f64> = fanout.iter().map(|row| row.watchers as f64).collect();
    marks.sort_by(f64::total_cmp);
    marks.dedup();
    let title = "From an upload until the last watcher receives it, ms; solid: p50, dashed: p99";
    panels(path, title, &[Watched::All, Watched::One], |area, watched| {
        type Value = fn(&Measured) -> f64;
        let values: [(&str, bool, Value); 2] = [("p50", false, Measured::p50), ("p99", true, Measured::p99)];
        let mut all = Vec::new();
        for kind in [Kind::Standalone, Kind::FullStack] {
            for (name, dashed, value) in values {
                let rows = fanout.iter().filter(|row| row.kind == kind && row.watched == *watched);
                let points = rows.map(|row| (row.watchers as f64, value(&row.last))).collect();
                all.push(Series {
                    name: format!("{}, {name}", kind.title()),
                    colour: colour(kind),
                    dashed,
                    points,
                });
            }
        }
        lines(area, &format!("watching {}", watched.title()), "watchers", &marks, &all)
    })
}
