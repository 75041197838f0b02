//! One ECG on the screen: which part of it is shown, what is measured, and the picture of it.

use std::sync::Arc;

use proto_json::RecordId;
use slint::{Image, ModelRc, SharedString};
use ui::trace::{Caliper, EcgScene, EcgView, Size, Style};

use crate::window::{Gesture, TickData};

/// One step of a wheel or a key makes this much of a difference.
const STEP: f64 = 1.25;

/// One ECG on the screen.
#[derive(Debug)]
pub(crate) struct EcgPane {
    size: Size,
    scene: Option<(RecordId, Arc<EcgScene>, EcgView)>,
    measures: bool,
    marks_beats: bool,
    /// Where the pointer was when it was last heard of, while it is pressed.
    grip: Option<(f32, f32)>,
}

impl Default for EcgPane {
    fn default() -> Self {
        EcgPane {
            size: Size::new(600.0, 240.0, 1.0),
            scene: None,
            measures: false,
            marks_beats: true,
            grip: None,
        }
    }
}

impl EcgPane {
    /// Shows an ECG, or none. Another ECG begins at its start, at the speed and gain that were chosen; the same one, when
    /// more is known of it, stays as it is.
    pub(crate) fn show(&mut self, scene: Option<(RecordId, Arc<EcgScene>)>) {
        let before = self.scene.take();
        self.scene = scene.map(|(id, scene)| {
            let fresh = EcgView { shows_beats: self.marks_beats, ..EcgView::of(&scene, self.size) };
            let view = match before {
                Some((known, _, view)) if known == id => view,
                Some((_, _, view)) => EcgView { speed: view.speed, ..fresh },
                None => fresh,
            };
            (id, scene, view)
        });
        if self.scene.is_none() {
            self.measures = false;
        }
    }

    /// Forgets speed and gain, too: another patient.
    pub(crate) fn clear(&mut self) {
        *self = EcgPane { size: self.size, marks_beats: self.marks_beats, ..EcgPane::default() };
    }

    /// Gives whether the size has changed.
    pub(crate) fn resize(&mut self, size: Size) -> bool {
        let changed = size != self.size;
        self.size = size;
        changed
    }

    /// The pointer was pressed, dragged or let go at a place in logical pixels.
    pub(crate) fn gesture(&mut self, gesture: Gesture, x: f32, y: f32) {
        let (x, y) = (x * self.size.scale, y * self.size.scale);
        let grip = self.grip;
        self.grip = (gesture != Gesture::Release).then_some((x, y));
        let Some((_, scene, view)) = &mut self.scene else { return };
        if self.measures {
            let at = view.point(x, y, self.size);
            match (gesture, &mut view.caliper) {
                (Gesture::Press, caliper) => *caliper = Some(Caliper { from: at, to: at }),
                (Gesture::Drag, Some(caliper)) => caliper.to = at,
                _ => {}
            }
        } else if let (Gesture::Drag, Some(from)) = (gesture, grip) {
            view.pan(x - from.0, y - from.1, scene, self.size);
        }
    }

    /// Shows more detail in time around a place in logical pixels, or less.
    pub(crate) fn zoom(&mut self, steps: f32, x: f32) {
        let size = self.size;
        if let Some((_, scene, view)) = &mut self.scene {
            view.zoom(STEP.powf(f64::from(steps)), x * size.scale, scene, size);
        }
    }

    /// Draws millivolts higher, or less high.
    pub(crate) fn amplify(&mut self, steps: f32) {
        if let Some((_, _, view)) = &mut self.scene {
            view.amplify(STEP.powf(f64::from(steps)));
        }
    }

    /// The whole strip; and from there back to the usual speed.
    pub(crate) fn fit(&mut self) {
        let size = self.size;
        if let Some((_, scene, view)) = &mut self.scene {
            let before = view.clone();
            view.fit(scene, size);
            if before.start_s == view.start_s && before.speed == view.speed {
                *view = EcgView { shows_beats: view.shows_beats, ..EcgView::of(scene, size) };
            }
        }
    }

    /// Moves on by so many widths of what is shown.
    pub(crate) fn step(&mut self, pages: f32) {
        let size = self.size;
        if let Some((_, scene, view)) = &mut self.scene {
            view.pan(-pages * size.width as f32, 0.0, scene, size);
        }
    }

    /// Begins or ends measuring.
    pub(crate) fn measure(&mut self, on: bool) {
        self.measures = on;
        if let Some((_, _, view)) = &mut self.scene {
            view.caliper = None;
        }
    }

    /// Marks beats, or not.
    pub(crate) fn mark_beats(&mut self, on: bool) {
        self.marks_beats = on;
        if let Some((_, _, view)) = &mut self.scene {
            view.shows_beats = on;
        }
    }

    /// Whether it measures.
    #[must_use]
    pub(crate) fn measures(&self) -> bool {
        self.measures
    }

    /// Whether beats are marked.
    #[must_use]
    pub(crate) fn marks_beats(&self) -> bool {
        self.marks_beats
    }

    /// The picture of what is shown, and the words that go with it.
    #[must_use]
    pub(crate) fn draw(&self, style: &Style) -> Option<Drawn> {
        let (_, scene, view) = self.scene.as_ref()?;
        let ticks: Vec<TickData> = view.ticks(self.size).into_iter().map(|tick| self.tick(tick)).collect();
        let beats = ui::format::count(scene.beat_count() as u64, "beat", "beats");
        Some(Drawn {
            picture: Image::from_rgb8(scene.draw(view, self.size, style)),
            scale: view.scale().into(),
            reading: view.caliper.map(|caliper| caliper.reading()).unwrap_or_default().into(),
            spoken: format!("{}, {}, {beats}", scene.spoken(view, self.size), view.scale()).into(),
            ticks: ModelRc::new(slint::VecModel::from(ticks)),
        })
    }

    fn tick(&self, tick: ui::trace::Tick) -> TickData {
        TickData { at: tick.at / self.size.scale, text: tick.text.into() }
    }
}

/// A picture of an ECG with its words.
#[derive(Debug)]
pub(crate) struct Drawn {
    /// The picture.
    pub(crate) picture: Image,
    /// Speed and gain.
    pub(crate) scale: SharedString,
    /// What the calipers read.
    pub(crate) reading: SharedString,
    /// What is shown, for those who do not see it.
    pub(crate) spoken: SharedString,
    /// Times at the lower edge.
    pub(crate) ticks: ModelRc<TickData>,
}
