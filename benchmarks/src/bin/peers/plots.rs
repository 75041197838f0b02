//! The figures as SVG pictures, one for each thing that is measured.

use std::fs;
use std::io;
use std::path::Path;

use crate::fanout::{Told, Watched};
use crate::load::Measured;
use crate::measure::{CONNECTIONS, Extent, Figures, What};
use crate::peer::Kind;
use crate::svg::{Area, INK, Series, Svg, bars, lines, ranges};

const ORDER: &str = "logarithmic axes; all figures of one run on one machine with one load generator";
const RANGE: &str = "filled: p50; open: p99; logarithmic axis";

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Standalone => "#0550ae",
        Kind::FullStack => "#1a7f37",
        Kind::Flask => "#bc4c00",
        Kind::Orthanc => "#8250df",
    }
}

pub(crate) fn write(folder: &Path, all: &[Figures], extent: Extent, told: &[Told]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    if !all.is_empty() {
        fs::write(folder.join("uploads.svg"), uploads(all, extent))?;
        fs::write(folder.join("upload-times.svg"), upload_times(all, extent))?;
        fs::write(folder.join("reads.svg"), reads(all, extent))?;
        fs::write(folder.join("news.svg"), news(all))?;
        fs::write(folder.join("cost.svg"), cost(all))?;
    }
    if all.iter().any(|figures| figures.analysis.is_some()) {
        fs::write(folder.join("analysis.svg"), analysis(all))?;
    }
    if !told.is_empty() {
        fs::write(folder.join("fanout.svg"), fanout(told))?;
    }
    Ok(())
}

/// Panels beside each other, each with room for the names at its right.
fn panel(index: usize, count: usize) -> Area {
    let each = 1_140.0 / count as f64;
    Area { left: 60.0 + index as f64 * each, top: 100.0, width: each - 200.0, height: 260.0 }
}

fn earlier(count: usize) -> String {
    if count == 1 { "1 earlier upload".to_owned() } else { format!("{count} earlier uploads") }
}

fn uploads(all: &[Figures], extent: Extent) -> String {
    let mut svg = Svg::new(1_160.0, 420.0, "Images stored per second, by connections", ORDER);
    let marks = CONNECTIONS.map(|connections| connections as f64);
    for (index, &history) in extent.histories[..2].iter().enumerate() {
        let series: Vec<Series> = all
            .iter()
            .map(|figures| {
                let of = |connections: usize| {
                    Some((connections as f64, figures.intake(history, connections)?.per_second()))
                };
                line(figures, CONNECTIONS.into_iter().filter_map(of).collect())
            })
            .collect();
        let heading = format!("Uploads/s, {}", earlier(history));
        lines(&mut svg, panel(index, 2), &heading, &marks, "connections", &series);
    }
    svg.done()
}

fn line(figures: &Figures, points: Vec<(f64, f64)>) -> Series {
    Series {
        name: figures.kind.title().to_owned(),
        colour: colour(figures.kind),
        dashed: false,
        points: points.into_iter().filter(|point| point.1.is_finite() && point.1 > 0.0).collect(),
    }
}

fn range(measured: &Measured) -> Option<(f64, f64)> {
    Some((measured.p50(), measured.p99())).filter(|(low, _)| low.is_finite())
}

fn upload_times(all: &[Figures], extent: Extent) -> String {
    let mut rows = Vec::new();
    for &history in &extent.histories[..2] {
        for connections in CONNECTIONS {
            let plural = if connections == 1 { "" } else { "s" };
            rows.push((format!("{connections} connection{plural}, {}", earlier(history)), INK, None));
            for figures in all {
                let range = figures.intake(history, connections).and_then(range);
                if range.is_some() {
                    rows.push((figures.kind.title().to_owned(), colour(figures.kind), range));
                }
            }
        }
    }
    let height = rows.len() as f64 * 20.0;
    let mut svg = Svg::new(860.0, height + 130.0, "Time to store an image", RANGE);
    let area = Area { left: 190.0, top: 70.0, width: 640.0, height };
    ranges(&mut svg, area, "milliseconds", &rows);
    svg.done()
}

fn reads(all: &[Figures], extent: Extent) -> String {
    let mut svg = Svg::new(1_160.0, 420.0, "Time of a read, by earlier uploads of the patient", ORDER);
    let marks = extent.histories.map(|history| history as f64);
    for (index, what) in What::ALL.into_iter().enumerate() {
        let series: Vec<Series> = all
            .iter()
            .map(|figures| {
                let of = figures.reads.iter().filter(|read| read.what == what);
                let points = of.map(|read| (read.history as f64, read.measured.p50())).collect();
                let mut series = line(figures, points);
                if let Some((most, _)) = figures.end {
                    series.name = format!("{} (ends at {most})", series.name);
                }
                series
            })
            .collect();
        let heading = format!("{}, p50 in ms", what.title());
        lines(&mut svg, panel(index, 3), &heading, &marks, "earlier uploads", &series);
    }
    svg.done()
}

fn news(all: &[Figures]) -> String {
    let rows: Vec<_> = all
        .iter()
        .map(|figures| {
            let how = if figures.is_bedside() { "push" } else { "poll every 5 s" };
            let name = format!("{} ({how})", figures.kind.title());
            (name, colour(figures.kind), range(&figures.notice))
        })
        .collect();
    let height = rows.len() as f64 * 32.0;
    let mut svg = Svg::new(860.0, height + 130.0, "Time until a monitor knows of a new ECG", RANGE);
    let area = Area { left: 240.0, top: 70.0, width: 590.0, height };
    ranges(&mut svg, area, "milliseconds", &rows);
    svg.done()
}

fn cost(all: &[Figures]) -> String {
    let subtitle = "axes from zero; each system with all of its processes";
    let mut svg = Svg::new(1_000.0, 410.0, "What it takes", subtitle);
    type Value = fn(&Figures) -> f64;
    let panels: [(&str, Value); 4] = [
        ("Memory after uploads, MB", |figures| figures.memory as f64 / 1e6),
        ("Processor per upload, ms", |figures| figures.processor),
        ("Start until ready, s", |figures| figures.start),
        ("Stored per image, KB", |figures| figures.stored / 1e3),
    ];
    for (index, (heading, value)) in panels.into_iter().enumerate() {
        let (column, row) = ((index % 2) as f64, (index / 2) as f64);
        let area =
            Area { left: 160.0 + column * 490.0, top: 95.0 + row * 165.0, width: 340.0, height: 112.0 };
        let rows: Vec<_> = all
            .iter()
            .map(|figures| (figures.kind.title(), colour(figures.kind), value(figures)))
            .filter(|(.., value)| value.is_finite())
            .collect();
        bars(&mut svg, area, heading, &rows);
    }
    svg.done()
}

fn analysis(all: &[Figures]) -> String {
    let rows: Vec<_> = all
        .iter()
        .filter_map(|figures| {
            let analysis = figures.analysis.as_ref()?;
            let name = format!("{}, {:.0} ECGs/s", figures.kind.title(), analysis.paced);
            Some((name, colour(figures.kind), range(&analysis.announced)))
        })
        .collect();
    let height = rows.len() as f64 * 32.0;
    let title = "From POST of a raw ECG to its announced analysis, at half of the highest load";
    let mut svg = Svg::new(860.0, height + 130.0, title, RANGE);
    let area = Area { left: 240.0, top: 70.0, width: 590.0, height };
    ranges(&mut svg, area, "milliseconds", &rows);
    svg.done()
}

fn fanout(told: &[Told]) -> String {
    let title = "From an upload until the last watcher is told, by watchers on one gateway";
    let mut svg = Svg::new(1_160.0, 420.0, title, "solid: p50; dashed: p99; logarithmic axes");
    let mut marks: Vec<f64> = told.iter().map(|row| row.watchers as f64).collect();
    marks.sort_by(f64::total_cmp);
    marks.dedup();
    for (index, watched) in [Watched::All, Watched::One].into_iter().enumerate() {
        let mut series = Vec::new();
        for kind in [Kind::Standalone, Kind::FullStack] {
            type Value = fn(&Measured) -> f64;
            let values: [(&str, bool, Value); 2] =
                [("p50", false, Measured::p50), ("p99", true, Measured::p99)];
            for (name, dashed, value) in values {
                let rows = told.iter().filter(|row| row.kind == kind && row.watched == watched);
                let points = rows.map(|row| (row.watchers as f64, value(&row.last))).collect();
                let name = format!("{}, {name}", kind.title());
                series.push(Series { name, colour: colour(kind), dashed, points });
            }
        }
        let heading = format!("Watching {}, ms", watched.title());
        lines(&mut svg, panel(index, 2), &heading, &marks, "watchers", &series);
    }
    svg.done()
}
