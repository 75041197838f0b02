//! ECGs and the trend on the screen.

use slint::{ComponentHandle, Image, ModelRc, VecModel};
use ui::trace::{Size, Style, TrendStyle};

use super::{Looked, Station};
use crate::ecg_pane::EcgPane;
use crate::patient::{Changed, Content, Side};
use crate::phrases;
use crate::window::{Api, EcgData, PaneState, Theme};

impl Station {
    fn pane(&mut self, side: Side) -> &mut EcgPane {
        match side {
            Side::Latest => &mut self.latest,
            Side::Chosen => &mut self.chosen,
        }
    }

    /// The size of a picture from its room in pixels of a window that is not zoomed.
    pub(super) fn size(&self, width: f32, height: f32) -> Size {
        let zoom = self.window.global::<Theme>().get_zoom();
        Size::new(width, height, self.window.window().scale_factor() * zoom)
    }

    /// Does something with an ECG on the screen, and draws it anew.
    pub(super) fn with_ecg(&mut self, side: Side, act: impl FnOnce(&mut EcgPane)) {
        act(self.pane(side));
        self.draw_ecg(side);
    }

    pub(super) fn resize_ecg(&mut self, side: Side, width: f32, height: f32) {
        let size = self.size(width, height);
        if self.pane(side).resize(size) {
            self.draw_ecg(side);
        }
    }

    /// Another ECG, or the same with more known of it, is to be shown.
    pub(super) fn show_ecg(&mut self, side: Side) {
        let Some(Looked { view }) = &self.looked else { return };
        let scene = view.ecg(side).get().and_then(|shown| match &shown.content {
            Content::Trace(_, scene) => Some((shown.record.id, scene.clone())),
            Content::Picture(..) => None,
        });
        self.pane(side).show(scene);
        self.draw_ecg(side);
    }

    fn draw_ecg(&mut self, side: Side) {
        let Some(Looked { view }) = &self.looked else { return };
        let pane = match side {
            Side::Latest => &self.latest,
            Side::Chosen => &self.chosen,
        };
        let style = if self.kept.paper { Style::PAPER } else { Style::MONITOR };
        let [red, green, blue] = style.label();
        let (state, message) = Station::ecg_message(view, side);
        let mut data = EcgData {
            state,
            message: message.into(),
            label: slint::Color::from_rgb_u8(red, green, blue),
            ground_is_dark: !self.kept.paper,
            measures: pane.measures(),
            marks_beats: pane.marks_beats(),
            ticks: ModelRc::new(VecModel::default()),
            ..EcgData::default()
        };
        if let Some(shown) = view.ecg(side).get() {
            let (caption, quality) = self.ecg_caption(&shown.record);
            data.caption_lines = phrases::two_lines(&caption).into();
            (data.caption, data.quality) = (caption.into(), quality.into());
            data.can_save_picture = shown.record.plot.is_some();
            data.can_save_signal = shown.record.signal.is_some();
            if let Content::Picture(picture, why) = &shown.content {
                data.picture = Image::clone(&picture.clone().into_image());
                data.spoken = why.as_str().into();
                data.scale = why.as_str().into();
            }
        }
        if let (PaneState::Shown, Some(drawn)) = (state, pane.draw(&style)) {
            data.is_trace = true;
            data.picture = drawn.picture;
            (data.scale, data.reading) = (drawn.scale, drawn.reading);
            (data.spoken, data.ticks) = (drawn.spoken, drawn.ticks);
        }
        let api = self.window.global::<Api>();
        match side {
            Side::Latest => api.set_latest(data),
            Side::Chosen => api.set_chosen(data),
        }
    }

    pub(super) fn set_paper(&mut self, on: bool) {
        self.kept.paper = on;
        self.window.global::<Api>().set_paper(on);
        self.keeper.settings(&self.kept);
        self.draw_ecg(Side::Latest);
        self.draw_ecg(Side::Chosen);
    }

    pub(super) fn resize_trend(&mut self, width: f32, height: f32) {
        let size = self.size(width, height);
        if self.trend.resize(size) {
            self.show_trend();
        }
    }

    pub(super) fn point_trend(&mut self, x: Option<f32>) {
        self.trend.point(x);
        self.show_trend();
    }

    pub(super) fn set_range(&mut self, range: i32) {
        let range = usize::try_from(range).unwrap_or(0);
        self.trend.set_range(range);
        self.kept.range = self.trend.range();
        self.keeper.settings(&self.kept);
        self.window.global::<Api>().set_range(self.trend.range() as i32);
        let from = self.trend.from(self.now());
        self.with_view(|view| (Changed { trend: true, ..Changed::default() }, view.want_trend(from)));
    }

    pub(super) fn show_trend(&mut self) {
        let now = self.now();
        let Some(Looked { view }) = &self.looked else { return };
        let limits = self.alarms.limits(view.mrn());
        let style =
            if self.window.global::<Theme>().get_dark() { TrendStyle::DARK } else { TrendStyle::LIGHT };
        let data = self.trend.draw(view.trend(), limits, now, &style);
        self.window.global::<Api>().set_trend(data);
    }

    /// Draws everything anew: the theme has changed.
    pub(super) fn redraw(&mut self) {
        self.redraw_tiles();
        self.show_patient(Changed::ALL);
    }
}
