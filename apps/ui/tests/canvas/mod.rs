//! A window that the software renderer draws into memory. Like on a real screen, only changed parts are repainted. Both apps use
//! it in their tests.

#![allow(dead_code, unreachable_pub, reason = "each test uses another part")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use i_slint_core::item_rendering::RenderString;
use i_slint_core::item_tree::{
    ItemRc, ItemVisitorResult, ParentItemTraversalMode, TraversalOrder, visit_items,
};
use i_slint_core::items::{ComplexText, ItemRef, SimpleText, TextWrap};
use i_slint_core::lengths::LogicalLength;
use i_slint_core::window::WindowInner;
use slint::platform::software_renderer::{MinimalSoftwareWindow, RepaintBufferType};
use slint::platform::{Platform, WindowAdapter, WindowEvent};
use slint::{PhysicalSize, PlatformError, Rgb8Pixel};

/// The tolerance per channel. A pixel at a rounded corner depends on the repainted region: up to 24 of 255 was measured.
const TOLERANCE: u8 = 32;

/// The minimum height of a readable line of text: a font size of about 7 pixels.
const MIN_LINE_HEIGHT: f32 = 8.0;

/// The platform of a test thread: one window, and a clock that the test advances.
struct Headless {
    window: Rc<MinimalSoftwareWindow>,
    now: Rc<Cell<Duration>>,
}

impl Platform for Headless {
    fn create_window_adapter(&self) -> Result<Rc<dyn WindowAdapter>, PlatformError> {
        Ok(self.window.clone())
    }

    fn duration_since_start(&self) -> Duration {
        self.now.get()
    }
}

/// A visible text.
#[derive(Debug)]
pub struct VisibleText {
    pub text: String,
    /// Left, top, width and height in logical pixels.
    pub bounds: (f32, f32, f32, f32),
    /// The width and height of the whole text.
    pub required: (f32, f32),
    wraps: bool,
    /// The left and right edge of the visible area.
    visible: (f32, f32),
}

impl VisibleText {
    /// Describes how the text is cut off. `None` if it is fully visible.
    pub fn cut(&self) -> Option<String> {
        let (left, _, width, height) = self.bounds;
        let cut = if self.wraps {
            // The width includes the space at a line break.
            self.required.1 > height + 1.0 || self.required.0 > width + 10.0
        } else {
            self.required.0 > width + 0.5
        };
        let right = left + width.min(self.required.0);
        let lines = self.text.lines().count().max(1) as f32;
        if cut {
            Some(format!("{:?} has {width} x {height} and needs {:?}", self.text, self.required))
        } else if left < self.visible.0 - 0.5 || right > self.visible.1 + 0.5 {
            Some(format!("{:?} from {left} to {right} overflows {:?}", self.text, self.visible))
        } else if self.required.1 < MIN_LINE_HEIGHT * lines {
            Some(format!("{:?} is too small to read: {} pixels high", self.text, self.required.1))
        } else {
            None
        }
    }
}

/// A window and its pixels.
pub struct Canvas {
    window: Rc<MinimalSoftwareWindow>,
    now: Rc<Cell<Duration>>,
    size: PhysicalSize,
    /// The pixels of the screen. Each frame repaints a part of them.
    pixels: RefCell<Vec<Rgb8Pixel>>,
}

impl Canvas {
    /// Sets the platform of this thread. The next window is drawn here.
    ///
    /// # Panics
    /// The thread has a platform already.
    pub fn new(width: u32, height: u32) -> Self {
        let window = MinimalSoftwareWindow::new(RepaintBufferType::ReusedBuffer);
        let now = Rc::new(Cell::new(Duration::ZERO));
        slint::platform::set_platform(Box::new(Headless { window: window.clone(), now: now.clone() }))
            .expect("this thread has no platform yet");
        let size = PhysicalSize::new(width, height);
        let pixels = RefCell::new(vec![Rgb8Pixel::default(); (width * height) as usize]);
        Canvas { window, now, size, pixels }
    }

    /// Sets the size of the window and activates it. Call it after `show`.
    pub fn open(&self) {
        self.window.set_size(self.size);
        self.window.dispatch_event(WindowEvent::WindowActiveChanged(true));
        self.frame();
    }

    /// Lets time pass for timers and animations, and draws a frame if something has changed.
    pub fn pass(&self, time: Duration) {
        self.now.set(self.now.get() + time);
        self.frame();
    }

    fn frame(&self) {
        slint::platform::update_timers_and_animations();
        let width = self.size.width as usize;
        self.window.draw_if_needed(|renderer| {
            renderer.render(&mut self.pixels.borrow_mut(), width);
        });
    }

    /// Changes the size of the window.
    pub fn resize(&mut self, width: u32, height: u32) {
        self.size = PhysicalSize::new(width, height);
        *self.pixels.borrow_mut() = vec![Rgb8Pixel::default(); (width * height) as usize];
        self.window.set_size(self.size);
        // The layout needs a few frames to settle.
        for _ in 0..3 {
            self.window.request_redraw();
            self.frame();
        }
        let whole = self.repainted();
        self.pixels.replace(whole);
    }

    /// All visible texts.
    pub fn texts(&self) -> Vec<VisibleText> {
        let adapter: Rc<dyn WindowAdapter> = self.window.clone();
        let tree = WindowInner::from_pub(adapter.window()).component();
        let window_width = self.size.width as f32 / adapter.window().scale_factor();
        let mut texts = Vec::new();
        visit_items(
            &tree,
            TraversalOrder::BackToFront,
            |tree, item, index, ()| {
                let here = ItemRc::new(tree.clone(), index);
                let complex = ItemRef::downcast_pin::<ComplexText>(item);
                let simple = ItemRef::downcast_pin::<SimpleText>(item);
                let shown: Option<(std::pin::Pin<&dyn RenderString>, String, TextWrap)> =
                    match (complex, simple) {
                        (Some(text), _) => Some((text, text.text().to_string(), text.wrap())),
                        (_, Some(text)) => Some((text, text.text().to_string(), TextWrap::NoWrap)),
                        _ => None,
                    };
                if let Some((item, text, wrap)) = shown.filter(|(_, text, _)| !text.is_empty())
                    && here.is_visible()
                {
                    let geometry = here.geometry();
                    let at = here.map_to_window(geometry.origin);
                    let width = (wrap != TextWrap::NoWrap).then(|| LogicalLength::new(geometry.width()));
                    let needs = adapter.renderer().text_size(item, &here, width, wrap);
                    texts.push(VisibleText {
                        text,
                        bounds: (at.x, at.y, geometry.width(), geometry.height()),
                        required: (needs.width, needs.height),
                        wraps: wrap != TextWrap::NoWrap,
                        visible: visible_range(&here, window_width),
                    });
                }
                ItemVisitorResult::Continue(())
            },
            (),
        );
        texts
    }

    /// Fails if a text with a digit is cut off.
    pub fn assert_numbers_whole(&self, state: &str) {
        let texts = self.texts();
        let with_digits = |text: &&VisibleText| text.text.chars().any(|letter| letter.is_ascii_digit());
        let cut: Vec<String> = texts.iter().filter(with_digits).filter_map(VisibleText::cut).collect();
        assert!(texts.iter().filter(with_digits).count() > 3, "{state}: there have to be texts with numbers");
        assert!(cut.is_empty(), "{state}: numbers are cut off:\n{}", cut.join("\n"));
    }

    /// How each text that is cut off is cut.
    pub fn cut_texts(&self, state: &str) -> Vec<String> {
        let texts = self.texts();
        assert!(texts.len() > 10, "{state}: there have to be texts");
        texts.iter().filter_map(VisibleText::cut).map(|cut| format!("{state}: {cut}")).collect()
    }

    /// The texts of a dialog that cover each other. `title` is the first text of the dialog, which is in front of the window.
    pub fn overlapping_texts(&self, title: &str) -> Vec<String> {
        let texts = self.texts();
        let first = texts.iter().rposition(|text| text.text == title).expect("the dialog is open");
        let overlap = |one: (f32, f32), other: (f32, f32)| one.1.min(other.1) - one.0.max(other.0) > 1.0;
        let columns = |text: &VisibleText| (text.bounds.0, text.bounds.0 + text.required.0);
        let rows = |text: &VisibleText| (text.bounds.1, text.bounds.1 + text.required.1);
        let dialog = &texts[first..];
        let pairs = dialog
            .iter()
            .enumerate()
            .flat_map(|(at, one)| dialog[at + 1..].iter().map(move |other| (one, other)));
        pairs
            .filter(|(one, other)| overlap(columns(one), columns(other)) && overlap(rows(one), rows(other)))
            .map(|(one, other)| format!("{:?} covers {:?}", other.text, one.text))
            .collect()
    }

    /// The pixels of the screen.
    pub fn pixels(&self) -> Vec<Rgb8Pixel> {
        self.pixels.borrow().clone()
    }

    /// The window, repainted as a whole.
    pub fn repainted(&self) -> Vec<Rgb8Pixel> {
        let mut pixels = vec![Rgb8Pixel::default(); self.pixels.borrow().len()];
        let width = self.size.width as usize;
        self.window.request_redraw();
        let drawn = self.window.draw_if_needed(|renderer| {
            renderer.set_repaint_buffer_type(RepaintBufferType::NewBuffer);
            renderer.render(&mut pixels, width);
            renderer.set_repaint_buffer_type(RepaintBufferType::ReusedBuffer);
        });
        assert!(drawn, "the window has to be drawn");
        pixels
    }

    /// Fails if the screen differs from the repainted window.
    pub fn assert_up_to_date(&self, state: &str) {
        let shown = self.pixels();
        let whole = self.repainted();
        let places = self.differences(&shown, &whole);
        if !places.is_empty() {
            self.write("shown.png", &shown);
            self.write("repainted.png", &whole);
        }
        assert!(
            places.is_empty(),
            "{state}: these regions (x, y, width, height) show an earlier state: {places:?}"
        );
    }

    /// Writes pixels to the directory of test output, for a person to look at after a failure.
    fn write(&self, name: &str, pixels: &[Rgb8Pixel]) {
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let bytes: Vec<u8> = pixels.iter().flat_map(|pixel| [pixel.r, pixel.g, pixel.b]).collect();
        let (width, height) = (self.size.width, self.size.height);
        match image::save_buffer(&path, &bytes, width, height, image::ExtendedColorType::Rgb8) {
            Ok(()) => eprintln!("{}", path.display()),
            Err(error) => eprintln!("{}: {error}", path.display()),
        }
    }

    /// The bounding boxes of different pixels, one for each group of adjacent 16 x 16 squares.
    pub fn differences(&self, one: &[Rgb8Pixel], other: &[Rgb8Pixel]) -> Vec<(usize, usize, usize, usize)> {
        const SQUARE: usize = 16;
        let (width, height) = (self.size.width as usize, self.size.height as usize);
        let (columns, rows) = (width.div_ceil(SQUARE), height.div_ceil(SQUARE));
        let mut dirty = vec![false; columns * rows];
        let differ = |one: &Rgb8Pixel, other: &Rgb8Pixel| {
            let channels = [(one.r, other.r), (one.g, other.g), (one.b, other.b)];
            channels.iter().any(|(one, other)| one.abs_diff(*other) > TOLERANCE)
        };
        for (at, _) in one.iter().zip(other).enumerate().filter(|(_, (one, other))| differ(one, other)) {
            dirty[at / width / SQUARE * columns + at % width / SQUARE] = true;
        }
        let mut places = Vec::new();
        for start in 0..dirty.len() {
            if !dirty[start] {
                continue;
            }
            let (mut left, mut right, mut top, mut bottom) = (columns, 0, rows, 0);
            let mut stack = vec![start];
            while let Some(at) = stack.pop() {
                if !std::mem::take(&mut dirty[at]) {
                    continue;
                }
                let (x, y) = (at % columns, at / columns);
                (left, right) = (left.min(x), right.max(x));
                (top, bottom) = (top.min(y), bottom.max(y));
                let (from, to) = (x.saturating_sub(1), (x + 1).min(columns - 1));
                for row in y.saturating_sub(1)..=(y + 1).min(rows - 1) {
                    stack.extend((from..=to).map(|column| row * columns + column));
                }
            }
            places.push((
                left * SQUARE,
                top * SQUARE,
                (right - left + 1) * SQUARE,
                (bottom - top + 1) * SQUARE,
            ));
        }
        places
    }

    /// Saves the screen as a picture.
    pub fn save(&self, path: &std::path::Path) {
        let bytes: Vec<u8> =
            self.pixels.borrow().iter().flat_map(|pixel| [pixel.r, pixel.g, pixel.b]).collect();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).expect("the folder can be created");
        }
        image::save_buffer(path, &bytes, self.size.width, self.size.height, image::ColorType::Rgb8)
            .expect("the picture can be written");
    }
}

/// The left and right edge of the visible area of an item, clipped by its ancestors.
fn visible_range(item: &ItemRc, window_width: f32) -> (f32, f32) {
    let (mut left, mut right) = (0.0_f32, window_width);
    let mut parent = item.parent_item(ParentItemTraversalMode::StopAtPopups);
    while let Some(here) = parent {
        if here.borrow().as_ref().clips_children() {
            let geometry = here.geometry();
            let at = here.map_to_window(geometry.origin);
            left = left.max(at.x);
            right = right.min(at.x + geometry.width());
        }
        parent = here.parent_item(ParentItemTraversalMode::StopAtPopups);
    }
    (left, right)
}
