//! A window that is drawn by the software renderer into memory, repainting only what changed, as on a real screen.
//! Shared by the tests of both apps.

#![allow(dead_code, unreachable_pub, reason = "each user needs another part")]

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

/// A pixel at a rounded corner depends a little on where the repainted part begins.
const ROUNDING: u8 = 16;

/// Height of a line of the smallest text that can be read, about 7 pixels of font size.
const LEAST_LINE: f32 = 8.0;

/// The platform of one test thread: one window, and a clock that the test moves.
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

/// A text in the window that can be seen.
#[derive(Debug)]
pub struct ShownText {
    pub text: String,
    /// Its place in logical pixels: left, top, width, height.
    pub place: (f32, f32, f32, f32),
    /// The room the whole text takes.
    pub needs: (f32, f32),
    wraps: bool,
    /// Left and right edge of what can be seen of its surroundings.
    seen: (f32, f32),
}

impl ShownText {
    /// Why a part of the text cannot be seen, if that is so.
    pub fn cut(&self) -> Option<String> {
        let (left, _, width, height) = self.place;
        let cut = if self.wraps {
            // The space at which a line is broken counts as a part of its width.
            self.needs.1 > height + 1.0 || self.needs.0 > width + 10.0
        } else {
            self.needs.0 > width + 0.5
        };
        let right = left + width.min(self.needs.0);
        let lines = self.text.lines().count().max(1) as f32;
        if cut {
            Some(format!("{:?} has {width} x {height} and needs {:?}", self.text, self.needs))
        } else if left < self.seen.0 - 0.5 || right > self.seen.1 + 0.5 {
            Some(format!("{:?} from {left} to {right} sticks out of {:?}", self.text, self.seen))
        } else if self.needs.1 < LEAST_LINE * lines {
            Some(format!("{:?} is too small to read: {} pixels high", self.text, self.needs.1))
        } else {
            None
        }
    }
}

/// The window and the pixels it has drawn.
pub struct Canvas {
    window: Rc<MinimalSoftwareWindow>,
    now: Rc<Cell<Duration>>,
    size: PhysicalSize,
    /// What a screen would show: each frame repaints a part of it.
    pixels: RefCell<Vec<Rgb8Pixel>>,
}

impl Canvas {
    /// Becomes the platform of this thread. The next window is drawn here.
    ///
    /// # Panics
    /// When the thread has a platform already.
    pub fn new(width: u32, height: u32) -> Self {
        let window = MinimalSoftwareWindow::new(RepaintBufferType::ReusedBuffer);
        let now = Rc::new(Cell::new(Duration::ZERO));
        slint::platform::set_platform(Box::new(Headless { window: window.clone(), now: now.clone() }))
            .expect("this thread has no platform yet");
        let size = PhysicalSize::new(width, height);
        let pixels = RefCell::new(vec![Rgb8Pixel::default(); (width * height) as usize]);
        Canvas { window, now, size, pixels }
    }

    /// Gives the window its size and the keyboard. Call it after `show`.
    pub fn open(&self) {
        self.window.set_size(self.size);
        self.window.dispatch_event(WindowEvent::WindowActiveChanged(true));
        self.frame();
    }

    /// Lets time pass for timers and animations of the window, and draws a frame if something has changed.
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

    /// Gives the window another size.
    pub fn resize(&mut self, width: u32, height: u32) {
        self.size = PhysicalSize::new(width, height);
        *self.pixels.borrow_mut() = vec![Rgb8Pixel::default(); (width * height) as usize];
        self.window.set_size(self.size);
        // What follows from the size settles in a few frames.
        for _ in 0..3 {
            self.window.request_redraw();
            self.frame();
        }
        let whole = self.painted_anew();
        self.pixels.replace(whole);
    }

    /// All texts that can be seen.
    pub fn texts(&self) -> Vec<ShownText> {
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
                    texts.push(ShownText {
                        text,
                        place: (at.x, at.y, geometry.width(), geometry.height()),
                        needs: (needs.width, needs.height),
                        wraps: wrap != TextWrap::NoWrap,
                        seen: seen_between(&here, window_width),
                    });
                }
                ItemVisitorResult::Continue(())
            },
            (),
        );
        texts
    }

    /// Fails if a text with a digit in it is cut, or sticks out of what can be seen.
    pub fn assert_numbers_whole(&self, state: &str) {
        let texts = self.texts();
        let with_digits = |text: &&ShownText| text.text.chars().any(|letter| letter.is_ascii_digit());
        let cut: Vec<String> = texts.iter().filter(with_digits).filter_map(ShownText::cut).collect();
        assert!(texts.iter().filter(with_digits).count() > 3, "{state}: there are texts with numbers");
        assert!(cut.is_empty(), "{state}: numbers are cut:\n{}", cut.join("\n"));
    }

    /// What is on the screen.
    pub fn shown(&self) -> Vec<Rgb8Pixel> {
        self.pixels.borrow().clone()
    }

    /// The same state of the window, painted as a whole.
    pub fn painted_anew(&self) -> Vec<Rgb8Pixel> {
        let mut pixels = vec![Rgb8Pixel::default(); self.pixels.borrow().len()];
        let width = self.size.width as usize;
        self.window.request_redraw();
        let drawn = self.window.draw_if_needed(|renderer| {
            renderer.set_repaint_buffer_type(RepaintBufferType::NewBuffer);
            renderer.render(&mut pixels, width);
            renderer.set_repaint_buffer_type(RepaintBufferType::ReusedBuffer);
        });
        assert!(drawn, "the window is drawn");
        pixels
    }

    /// Fails if the screen differs from the window painted as a whole, and names the places.
    pub fn assert_up_to_date(&self, state: &str) {
        let shown = self.shown();
        let whole = self.painted_anew();
        let places = self.differences(&shown, &whole);
        assert!(
            places.is_empty(),
            "{state}: these places (x, y, width, height) still show an earlier state: {places:?}"
        );
    }

    /// Bounding boxes of the pixels that differ, one for each group of neighbouring 16 x 16 squares.
    pub fn differences(&self, one: &[Rgb8Pixel], other: &[Rgb8Pixel]) -> Vec<(usize, usize, usize, usize)> {
        const SQUARE: usize = 16;
        let (width, height) = (self.size.width as usize, self.size.height as usize);
        let (columns, rows) = (width.div_ceil(SQUARE), height.div_ceil(SQUARE));
        let mut dirty = vec![false; columns * rows];
        let differ = |one: &Rgb8Pixel, other: &Rgb8Pixel| {
            let channels = [(one.r, other.r), (one.g, other.g), (one.b, other.b)];
            channels.iter().any(|(one, other)| one.abs_diff(*other) > ROUNDING)
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

    /// Keeps what is on the screen as a picture, for people to look at.
    pub fn save(&self, path: &std::path::Path) {
        let bytes: Vec<u8> =
            self.pixels.borrow().iter().flat_map(|pixel| [pixel.r, pixel.g, pixel.b]).collect();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).expect("the folder can be made");
        }
        image::save_buffer(path, &bytes, self.size.width, self.size.height, image::ColorType::Rgb8)
            .expect("the picture can be written");
    }
}

/// Left and right edge of what the ancestors of an item let be seen of it.
fn seen_between(item: &ItemRc, window_width: f32) -> (f32, f32) {
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
