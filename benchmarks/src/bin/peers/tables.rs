//! Markdown tables of the figures.

use crate::fanout::Fanout;
use crate::load::Measured;
use crate::measure::{CONNECTIONS, Extent, Figures, What};
use crate::peer::Kind;

pub(crate) fn print(all: &[Figures], extent: Extent) {
    let image = all.first().map_or(0.0, |figures| figures.image as f64 / 1e3);
    println!("\n## Comparison\n\nUploads of one image of {image:.0} KB:\n");
    intake(all, extent);
    println!("\nReads on one connection, milliseconds:\n");
    reads(all, extent);
    println!("\nTime until a monitor is notified of a new ECG, milliseconds:\n");
    notification(all);
    println!("\nResources:\n");
    cost(all);
    if all.iter().any(|figures| figures.analysis.is_some()) {
        println!(
            "\nFrom POST of a raw ECG (130 KB) to its announced analysis, at half of the highest load:\n"
        );
        analysis(all);
    }
    println!("\nGoals:\n");
    goals(all, extent);
}

fn intake(all: &[Figures], extent: Extent) {
    println!("| server | earlier uploads | connections | per second | p50 ms | p99 ms | failed |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for history in extent.histories {
        for connections in CONNECTIONS {
            for figures in all {
                let name = figures.kind.title();
                if let Some(measured) = figures.intake(history, connections) {
                    println!(
                        "| {name} | {history} | {connections} | {} | {} | {} | {} |",
                        short(measured.per_second()),
                        short(measured.p50()),
                        short(measured.p99()),
                        measured.failures,
                    );
                } else if connections == 8
                    && let Some((most, _)) = &figures.end
                {
                    println!("| {name} | {history} | {connections} | ends at {most} | | | |");
                }
            }
        }
    }
    for figures in all {
        if let Some((most, error)) = &figures.end {
            println!(
                "\n{}: accepts no upload after {most} of one patient; response: `{error}`.",
                figures.kind.title()
            );
        }
        for intake in &figures.intake {
            if let Some(error) = &intake.measured.error {
                println!("\n{}: error of a failed upload: `{error}`.", figures.kind.title());
            }
        }
    }
}

fn reads(all: &[Figures], extent: Extent) {
    println!("| read | earlier uploads | server | p50 | p99 |");
    println!("|---|---:|---|---:|---:|");
    for what in What::ALL {
        for history in extent.histories {
            for figures in all {
                let (at, found) = match (figures.read(what, history), &figures.end) {
                    (None, Some((most, _))) => (format!("{most} (last)"), figures.read(what, *most)),
                    (found, _) => (history.to_string(), found),
                };
                let Some(measured) = found else { continue };
                println!("| {} | {at} | {} | {} |", what.title(), figures.kind.title(), cells(measured));
            }
        }
    }
}

fn notification(all: &[Figures]) {
    println!("| server | how | p50 | p99 |\n|---|---|---:|---:|");
    for figures in all {
        let how = if figures.is_bedside() {
            "push, raw ECG uploaded and analysed"
        } else {
            "poll every 5 s, image uploaded"
        };
        println!("| {} | {how} | {} |", figures.kind.title(), cells(&figures.notification));
    }
}

fn cost(all: &[Figures]) {
    println!(
        "| server | start s | idle MB | MB after uploads | processor ms per upload | KB stored per upload |"
    );
    println!("|---|---:|---:|---:|---:|---:|");
    for figures in all {
        println!(
            "| {} | {:.2} | {:.0} | {:.0} | {} | {} |",
            figures.kind.title(),
            figures.start,
            figures.idle_memory as f64 / 1e6,
            figures.memory as f64 / 1e6,
            short(figures.processor),
            short(figures.stored / 1e3),
        );
    }
}

fn analysis(all: &[Figures]) {
    println!(
        "| server | highest load, ECGs/s | load, ECGs/s | p50 ms | p99 ms | p99 goal |\n|---|---:|---:|---:|---:|---:|"
    );
    for figures in all {
        if let Some(analysis) = &figures.analysis {
            let (highest, paced) = (short(analysis.highest), short(analysis.paced));
            println!(
                "| {} | {highest} | {paced} | {} | 150 |",
                figures.kind.title(),
                cells(&analysis.announced)
            );
        }
    }
}

fn goals(all: &[Figures], extent: Extent) {
    println!("| uploads on 8 connections | times | goal |\n|---|---:|---:|");
    let rate = |kind: Kind, history: usize| {
        let figures = all.iter().find(|figures| figures.kind == kind)?;
        figures.intake(history, 8).map(Measured::per_second)
    };
    let [few, some, _] = extent.histories;
    for (ours, theirs, history, goal) in [
        (Kind::Standalone, Kind::Orthanc, few, 5.0),
        (Kind::FullStack, Kind::Orthanc, few, 2.0),
        (Kind::Standalone, Kind::Flask, some, 20.0),
        (Kind::FullStack, Kind::Flask, some, 20.0),
    ] {
        if let (Some(our), Some(their)) = (rate(ours, history), rate(theirs, history)) {
            println!(
                "| {} against {}, {history} earlier | {:.1} | {goal} |",
                ours.title(),
                theirs.title(),
                our / their
            );
        }
    }
}

pub(crate) fn print_fanout(fanout: &[Fanout]) {
    println!("\n## Push fan-out\n\nFrom POST of an image until the last watcher receives it:\n");
    println!(
        "| server | watched | watchers | p50 ms | p99 ms | any watcher p50 ms | KB per watcher | idle processor % |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    for row in fanout {
        println!(
            "| {} | {} | {} | {} | {} | {} | {:.0} |",
            row.kind.title(),
            row.watched.title(),
            row.watchers,
            cells(&row.last),
            short(row.any.p50()),
            row.memory_each.map_or("".to_owned(), |bytes| short(bytes / 1e3)),
            row.idle_processor * 100.0,
        );
    }
}

fn cells(measured: &Measured) -> String {
    format!("{} | {}", short(measured.p50()), short(measured.p99()))
}

/// Three significant digits.
pub(crate) fn short(value: f64) -> String {
    match value {
        value if !value.is_finite() => "?".to_owned(),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
