//! Zoom and position of the medical image in its pane.

/// Largest zoom. At 1, the whole image fits into the pane.
const MAX_ZOOM: f64 = 16.0;

/// Which part of the image the pane shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Viewport {
    /// Magnification relative to the whole image, from 1 to [`MAX_ZOOM`].
    pub(crate) zoom: f64,
    /// Center of the visible part, as shares of width and height of the image.
    pub(crate) center: (f64, f64),
}

impl Default for Viewport {
    fn default() -> Self {
        Viewport { zoom: 1.0, center: (0.5, 0.5) }
    }
}

impl Viewport {
    /// Multiplies the zoom. The point `at`, given as shares of width and height of the drawn picture, stays in its place.
    pub(crate) fn zoom_by(&mut self, factor: f64, at: (f64, f64)) {
        let zoom = (self.zoom * factor).clamp(1.0, MAX_ZOOM);
        let shift = |center: f64, at: f64| center + (at - 0.5) * (1.0 / self.zoom - 1.0 / zoom);
        self.center = (shift(self.center.0, at.0), shift(self.center.1, at.1));
        self.zoom = zoom;
        self.clamp();
    }

    /// Moves the image by shares of width and height of the drawn picture.
    pub(crate) fn pan_by(&mut self, by: (f64, f64)) {
        self.center = (self.center.0 - by.0 / self.zoom, self.center.1 - by.1 / self.zoom);
        self.clamp();
    }

    /// Keeps the visible part inside the image.
    fn clamp(&mut self) {
        let half = 0.5 / self.zoom;
        let clamp = |center: f64| center.clamp(half, 1.0 - half);
        self.center = (clamp(self.center.0), clamp(self.center.1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_point_under_the_pointer_stays_in_place() {
        let mut view = Viewport::default();
        view.zoom_by(2.0, (0.25, 0.75));
        // Image coordinate of the point: center plus the offset in the visible part.
        let point = |view: &Viewport, at: f64| view.center.0 + (at - 0.5) / view.zoom;
        assert_eq!(view.zoom, 2.0);
        assert!((point(&view, 0.25) - 0.25).abs() < 1e-9, "{view:?}");
        view.zoom_by(2.0, (0.25, 0.75));
        assert!((point(&view, 0.25) - 0.25).abs() < 1e-9, "{view:?}");
    }

    #[test]
    fn the_visible_part_never_leaves_the_image() {
        let mut view = Viewport::default();
        view.pan_by((0.3, 0.3));
        assert_eq!(view, Viewport::default(), "the whole image is visible");
        view.zoom_by(4.0, (0.5, 0.5));
        view.pan_by((100.0, -100.0));
        assert_eq!(view.center, (0.125, 0.875));
        view.zoom_by(1e-3, (0.0, 0.0));
        assert_eq!(view, Viewport::default());
        view.zoom_by(1e9, (0.5, 0.5));
        assert_eq!(view.zoom, MAX_ZOOM);
    }
}
