//! The plot of one ECG: the visible part, the calipers, and the picture.

use std::sync::Arc;
use ui::tr;

use proto_json::RecordId;
use slint::{Image, ModelRc, SharedString, VecModel};
use ui::trace::{Caliper, EcgScene, EcgStyle, EcgView, Size};

use crate::window::{Gesture, TickData};

/// The factor of one zoom step.
const ZOOM_STEP: f64 = 1.25;

/// The plot of one ECG.
#[derive(Debug)]
pub(crate) struct EcgPane {
    size: Size,
    scene: Option<(RecordId, Arc<EcgScene>, EcgView)>,
    measures: bool,
    marks_beats: bool,
    /// The last position of the pointer in physical pixels while it is pressed.
    pointer: Option<(f32, f32)>,
}

impl Default for EcgPane {
    fn default() -> Self {
        EcgPane {
            size: Size::new(600.0, 240.0, 1.0),
            scene: None,
            measures: false,
            marks_beats: true,
            pointer: None,
        }
    }
}

impl EcgPane {
    /// Shows an ECG, or none. Another ECG is shown from its start and keeps the paper speed. The same ECG with new data, such as
    /// its analysis, keeps the whole view with its calipers.
    pub(crate) fn show(&mut self, scene: Option<(RecordId, Arc<EcgScene>)>) {
        let before = self.scene.take();
        self.scene = scene.map(|(id, scene)| {
            let initial = EcgView { shows_beats: self.marks_beats, ..EcgView::of(&scene, self.size) };
            let view = match before {
                Some((known, _, view)) if known == id => view,
                Some((_, _, view)) => EcgView { speed: view.speed, ..initial },
                None => initial,
            };
            (id, scene, view)
        });
        if self.scene.is_none() {
            self.measures = false;
        }
    }

    /// Resets the view for another patient.
    pub(crate) fn reset(&mut self) {
        *self = EcgPane { size: self.size, marks_beats: self.marks_beats, ..EcgPane::default() };
    }

    /// Sets the size. Returns whether it has changed.
    pub(crate) fn resize(&mut self, size: Size) -> bool {
        let changed = size != self.size;
        self.size = size;
        changed
    }

    /// The pointer was pressed, dragged or released at a position in logical pixels.
    pub(crate) fn gesture(&mut self, gesture: Gesture, x: f32, y: f32) {
        let (x, y) = (x * self.size.scale, y * self.size.scale);
        let before = self.pointer;
        self.pointer = (gesture != Gesture::Release).then_some((x, y));
        let Some((_, scene, view)) = &mut self.scene else { return };
        if self.measures {
            let at = view.point(x, y, self.size);
            match (gesture, &mut view.caliper) {
                (Gesture::Press, caliper) => *caliper = Some(Caliper { from: at, to: at }),
                (Gesture::Drag, Some(caliper)) => caliper.to = at,
                _ => {}
            }
        } else if let (Gesture::Drag, Some(from)) = (gesture, before) {
            view.pan(x - from.0, y - from.1, scene, self.size);
        }
    }

    /// Zooms in time around a position in logical pixels. Negative steps zoom out.
    pub(crate) fn zoom(&mut self, steps: f32, x: f32) {
        let size = self.size;
        if let Some((_, scene, view)) = &mut self.scene {
            view.zoom(ZOOM_STEP.powf(f64::from(steps)), x * size.scale, scene, size);
        }
    }

    /// Changes the gain. Negative steps reduce it.
    pub(crate) fn amplify(&mut self, steps: f32) {
        if let Some((_, _, view)) = &mut self.scene {
            view.amplify(ZOOM_STEP.powf(f64::from(steps)));
        }
    }

    /// Shows the whole strip. If it is visible already, returns to the standard speed.
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

    /// Scrolls by a number of visible widths.
    pub(crate) fn step(&mut self, pages: f32) {
        let size = self.size;
        if let Some((_, scene, view)) = &mut self.scene {
            view.pan(-pages * size.width as f32, 0.0, scene, size);
        }
    }

    /// Turns the calipers on or off.
    pub(crate) fn measure(&mut self, on: bool) {
        self.measures = on;
        if let Some((_, _, view)) = &mut self.scene {
            view.caliper = None;
        }
    }

    /// Turns the marks of beats on or off.
    pub(crate) fn mark_beats(&mut self, on: bool) {
        self.marks_beats = on;
        if let Some((_, _, view)) = &mut self.scene {
            view.shows_beats = on;
        }
    }

    /// Whether the calipers are on.
    #[must_use]
    pub(crate) fn measures(&self) -> bool {
        self.measures
    }

    /// Whether beats are marked.
    #[must_use]
    pub(crate) fn marks_beats(&self) -> bool {
        self.marks_beats
    }

    /// Draws the visible part. `None` without an ECG.
    #[must_use]
    pub(crate) fn draw(&self, style: &EcgStyle) -> Option<Drawn> {
        let (_, scene, view) = self.scene.as_ref()?;
        let beats = ui::format::count(scene.beat_count() as u64, tr!("beat"), tr!("beats"));
        Some(Drawn {
            picture: Image::from_rgb8(scene.draw(view, self.size, style)),
            scale: view.scale().into(),
            reading: view.caliper.map(|caliper| caliper.reading()).unwrap_or_default().into(),
            description: format!("{}, {}, {beats}", scene.description(view, self.size), view.scale()).into(),
            ticks: self.ticks(view.ticks(self.size)),
            beats: self.ticks(scene.beat_labels(view, self.size)),
        })
    }

    fn ticks(&self, ticks: Vec<ui::trace::Tick>) -> ModelRc<TickData> {
        let scale = self.size.scale;
        let ticks = ticks.into_iter().map(|tick| TickData { at: tick.at / scale, text: tick.text.into() });
        ModelRc::new(VecModel::from_iter(ticks))
    }
}

/// A picture of an ECG with its texts.
#[derive(Debug)]
pub(crate) struct Drawn {
    /// The picture.
    pub(crate) picture: Image,
    /// Speed and gain.
    pub(crate) scale: SharedString,
    /// The measurement of the calipers.
    pub(crate) reading: SharedString,
    /// The visible part as a text for screen readers.
    pub(crate) description: SharedString,
    /// The time axis.
    pub(crate) ticks: ModelRc<TickData>,
    /// The labels of beats.
    pub(crate) beats: ModelRc<TickData>,
}
