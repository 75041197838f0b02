//! Pixels of a sweep, with a controlled playhead.

use proto_json::{Channel, Column, SampleRate};

use super::*;

const SIZE: Size = Size { width: 300, height: 100, scale: 1.0 };
const BLACK: Colour = Colour::opaque(0x00_00_00);
const GREEN: Colour = Colour::opaque(0x00_ff_00);
const GREY: Colour = Colour::opaque(0x80_80_80);
const CYAN: Colour = Colour::opaque(0x00_b7_d6);
const STYLE: SweepStyle = SweepStyle { background: BLACK, live: GREEN, stopped: GREY, mark: CYAN };
/// 25 mm/s and 10 mm/mV at 4 pixels per millimetre.
const SCALE: SweepScale = SweepScale { pixels_per_s: 100.0, centre: 0.0, pixels_per_unit: 40.0 };
/// A multiple of the three seconds that the picture shows.
const START: i64 = 1_790_000_001_000_000;

fn channel(rate: u32) -> Channel {
    Channel {
        label: "II".to_owned(),
        code: "MDC_ECG_LEAD_II".to_owned(),
        unit: "mV".to_owned(),
        rate: SampleRate { numerator: rate, denominator: 1 },
        scale: 0.001,
        offset: 0.0,
    }
}

fn sweep() -> Sweep {
    Sweep::new(SIZE, 64, STYLE, SCALE)
}

/// A wave with steep and flat parts.
fn wave(index: u64) -> i16 {
    let phase = (index % 200) as f64 / 200.0;
    let spike = (-((phase - 0.4) / 0.02).powi(2)).exp();
    (900.0 * spike + 150.0 * (phase * 12.0).sin()) as i16
}

/// Adds 200 ms of the wave.
fn frame(history: &mut History, rate: u64, number: u64) {
    let count = rate / 5;
    let samples: Vec<i16> = (number * count..(number + 1) * count).map(wave).collect();
    history.push_samples(START + number as i64 * 200_000, number * count, false, &samples);
}

/// The whole picture, row by row.
fn pixels(sweep: &Sweep) -> Vec<Rgba8Pixel> {
    let rows = 0..sweep.size.height as usize;
    rows.flat_map(|row| {
        sweep.strips.iter().flat_map(move |strip| {
            let width = strip.width() as usize;
            strip.as_slice()[row * width..(row + 1) * width].to_vec()
        })
    })
    .collect()
}

fn pixel(sweep: &Sweep, x: usize, y: usize) -> Rgba8Pixel {
    pixels(sweep)[y * sweep.size.width as usize + x]
}

/// The rows of a column that are at least half covered by a colour.
fn rows(sweep: &Sweep, x: usize, colour: Colour) -> Vec<usize> {
    let all = pixels(sweep);
    let is = |pixel: Rgba8Pixel| {
        [pixel.r, pixel.g, pixel.b].iter().zip(colour.rgb).all(|(is, wanted)| is.abs_diff(wanted) < 110)
            && (pixel.r, pixel.g, pixel.b) != (0, 0, 0)
    };
    (0..sweep.size.height as usize).filter(|y| is(all[y * sweep.size.width as usize + x])).collect()
}

fn assert_equal(one: &Sweep, other: &Sweep, what: &str) {
    let differs = |a: &Rgba8Pixel, b: &Rgba8Pixel| {
        a.g.abs_diff(b.g) > 3 || a.b.abs_diff(b.b) > 3 || a.r.abs_diff(b.r) > 3
    };
    let (one, other) = (pixels(one), pixels(other));
    let wrong: Vec<(usize, usize)> = one
        .iter()
        .zip(&other)
        .enumerate()
        .filter(|(_, (a, b))| differs(a, b))
        .map(|(at, _)| (at % SIZE.width as usize, at / SIZE.width as usize))
        .collect();
    assert!(
        wrong.is_empty(),
        "{what}: {} pixels differ, first {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
}

fn whole(history: &mut History, head: i64, tail: Tail) -> Sweep {
    let mut sweep = sweep();
    sweep.draw(history, head, tail);
    sweep
}

#[test]
fn scale_is_25_mm_per_second_and_10_mm_per_millivolt() {
    let mut history = History::of_samples(&channel(250), 10.0);
    // One second at 0 mV, one second at 1 mV.
    let samples: Vec<i16> = (0..500).map(|at| if at < 250 { 0 } else { 1000 }).collect();
    history.push_samples(START, 0, false, &samples);
    let sweep = whole(&mut history, START + 2_000_000, Tail::Live);
    assert_eq!(rows(&sweep, 50, GREEN), [49, 50], "0 mV is in the middle");
    assert_eq!(rows(&sweep, 150, GREEN), [9, 10], "1 mV is 40 pixels higher");
    let edge: Vec<usize> = (90..110).filter(|x| rows(&sweep, *x, GREEN).len() > 30).collect();
    assert!(
        edge.iter().all(|x| (98..=101).contains(x)) && !edge.is_empty(),
        "one second is 100 pixels: {edge:?}"
    );
}

#[test]
fn drawing_only_changed_columns_gives_the_same_pixels_as_drawing_all() {
    for rate in [25, 125, 250, 1000] {
        let mut history = History::of_samples(&channel(rate), 10.0);
        let mut sweep = sweep();
        let mut head = START - 230_000;
        for number in 0..40_u64 {
            frame(&mut history, u64::from(rate), number);
            for _ in 0..12 {
                head += 16_667;
                sweep.draw(&mut history, head, Tail::Live);
            }
            if number % 7 == 6 {
                assert_equal(
                    &sweep,
                    &whole(&mut history.clone(), head, Tail::Live),
                    &format!("{rate} Hz, frame {number}"),
                );
            }
        }
    }
}

#[test]
fn few_columns_are_drawn_per_frame_and_few_strips_change() {
    let mut history = History::of_samples(&channel(250), 10.0);
    let mut sweep = sweep();
    for number in 0..40 {
        frame(&mut history, 250, number);
    }
    sweep.draw(&mut history, START + 1_000_000, Tail::Live);
    assert_eq!(sweep.take_changed().count(), 5, "the first time, all strips");
    let before = sweep.columns_drawn();
    let mut strips = 0;
    for refresh in 1..=60 {
        sweep.draw(&mut history, START + 1_000_000 + refresh * 16_667, Tail::Live);
        strips += sweep.take_changed().count();
    }
    let columns = sweep.columns_drawn() - before;
    assert!(columns < 60 * 9, "{columns} columns in 60 frames");
    assert!(strips <= 60 * 2, "{strips} strips in 60 frames");
    sweep.draw(&mut history, START + 2_000_020, Tail::Live);
    let drawn = sweep.columns_drawn();
    sweep.draw(&mut history, START + 2_000_030, Tail::Live);
    assert_eq!(
        (sweep.columns_drawn(), sweep.take_changed().count()),
        (drawn, 0),
        "the playhead is in the same column"
    );
}

#[test]
fn erase_bar_precedes_the_trace_and_the_previous_sweep_follows_it() {
    let mut history = History::of_samples(&channel(250), 10.0);
    history.push_samples(START, 0, false, &[0; 1250]);
    let sweep = whole(&mut history, START + 4_000_000, Tail::Live);
    assert!(!rows(&sweep, 99, GREEN).is_empty(), "the trace");
    for x in 102..114 {
        assert_eq!(pixel(&sweep, x, 50), blend(BLACK, GREEN, 0), "the erase bar at {x}");
    }
    assert!(!rows(&sweep, 117, GREEN).is_empty(), "the previous sweep");
}

#[test]
fn gap_is_a_gap_and_late_samples_fill_it_in() {
    let mut history = History::of_samples(&channel(250), 10.0);
    let mut sweep = sweep();
    let (mut head, mut all) = (START, History::of_samples(&channel(250), 10.0));
    for number in 0..12 {
        frame(&mut all, 250, number);
        if !(4..6).contains(&number) {
            frame(&mut history, 250, number);
        }
    }
    while head < START + 2_000_000 {
        head += 16_667;
        sweep.draw(&mut history, head, Tail::Live);
    }
    for x in 83..117 {
        assert!(rows(&sweep, x, GREEN).is_empty(), "nothing in the gap at {x}");
    }
    assert!(!rows(&sweep, 78, GREEN).is_empty() && !rows(&sweep, 122, GREEN).is_empty());
    let before = sweep.columns_drawn();
    frame(&mut history, 250, 5);
    frame(&mut history, 250, 4);
    sweep.draw(&mut history, head, Tail::Live);
    assert!(sweep.columns_drawn() - before < 60, "only the gap is drawn");
    assert_equal(&sweep, &whole(&mut all, head, Tail::Live), "filled in");
}

#[test]
fn trace_that_has_stopped_has_another_colour_and_an_edge() {
    let mut history = History::of_samples(&channel(250), 10.0);
    history.push_samples(START, 0, false, &[0; 250]);
    let mut sweep = sweep();
    sweep.draw(&mut history, START + 1_000_000, Tail::Live);
    assert!(!rows(&sweep, 50, GREEN).is_empty());
    sweep.draw(&mut history, START + 2_500_000, Tail::Stopped);
    assert!((0..300).all(|x| rows(&sweep, x, GREEN).is_empty()), "nothing looks live");
    assert!(!rows(&sweep, 50, GREY).is_empty());
    let edge: Vec<usize> = (0..300).filter(|x| rows(&sweep, *x, CYAN).len() == 100).collect();
    assert_eq!(edge, [101, 102], "after the last sample");
    sweep.draw(&mut history, START + 2_600_000, Tail::Live);
    assert!((0..300).all(|x| rows(&sweep, x, CYAN).is_empty()), "live again");
}

#[test]
fn disconnected_sensor_is_marked_by_dashes_and_not_drawn() {
    let mut history = History::of_samples(&channel(250), 10.0);
    history.push_samples(START, 0, false, &[300; 125]);
    history.push_samples(START + 500_000, 125, true, &[-900; 125]);
    let sweep = whole(&mut history, START + 1_000_000, Tail::Live);
    for x in 56..94 {
        assert!(rows(&sweep, x, GREEN).is_empty(), "the samples at {x} have no meaning");
    }
    let dashed = (56..94).filter(|x| !rows(&sweep, *x, CYAN).is_empty()).count();
    assert!((12..30).contains(&dashed), "{dashed} columns");
}

#[test]
fn overview_columns_are_drawn_as_a_line() {
    let mut history = History::of_columns(&channel(250), 10.0);
    let first = Column::at(START);
    let columns: Vec<Column> =
        (0..120).map(|at| Column { min: 0, max: if at == 60 { 1000 } else { 20 } }).collect();
    history.push_columns(first, false, &columns);
    let scale = SweepScale { pixels_per_s: 60.0, ..SCALE };
    let mut sweep = Sweep::new(SIZE, SIZE.width, STYLE, scale);
    sweep.draw(&mut history, START + 2_000_000, Tail::Live);
    let at = |column: i64| (first + column).rem_euclid(300) as usize;
    assert!(rows(&sweep, at(60), GREEN).len() > 35, "the spike of one column");
    assert!((2..118).all(|column| !rows(&sweep, at(column), GREEN).is_empty()), "no holes");
    assert_eq!(sweep.strip_count(), 1);
}

#[test]
fn frozen_trace_is_in_the_order_of_time() {
    let mut history = History::of_samples(&channel(250), 10.0);
    let samples: Vec<i16> = (0..1000).map(|at| if (498..502).contains(&at) { 1000 } else { 0 }).collect();
    history.push_samples(START, 0, false, &samples);
    let mut sweep = sweep();
    sweep.set_order(Order::Scroll);
    sweep.draw(&mut history, START + 4_000_000 - 10_000, Tail::Frozen);
    // The picture shows the seconds 1 to 4; the spike is at 2 s.
    let spike: Vec<usize> = (0..300).filter(|x| rows(&sweep, *x, GREEN).len() > 30).collect();
    assert!(!spike.is_empty() && spike.iter().all(|x| (97..=103).contains(x)), "{spike:?}");
    let time = sweep.time_s(100.0).unwrap() - START as f64 * 1e-6;
    assert!((time - 2.0).abs() < 0.02, "{time}");
    assert!((sweep.value(10.0) - 1.0).abs() < 1e-9);
}
