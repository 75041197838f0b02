//! The parts of the patient page, and which of them have changed.

use proto_json::RecordId;

/// Something that is loaded for a part of the page.
#[derive(Debug)]
pub enum LoadState<T> {
    /// Nothing is requested.
    Empty,
    /// The request is on its way.
    Loading,
    /// The content is loaded.
    Loaded(T),
    /// The request failed: one sentence.
    Failed(String),
}

impl<T> LoadState<T> {
    /// The loaded content.
    pub fn get(&self) -> Option<&T> {
        if let LoadState::Loaded(value) = self { Some(value) } else { None }
    }

    /// Whether the request failed.
    pub fn has_failed(&self) -> bool {
        matches!(self, LoadState::Failed(_))
    }
}

/// A part of the page that shows one record.
#[derive(Debug)]
pub(super) struct Slot<T> {
    /// The requested record.
    pub(super) id: Option<RecordId>,
    /// The number of the request whose response fills the slot.
    pub(super) request: u64,
    pub(super) state: LoadState<T>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Slot { id: None, request: 0, state: LoadState::Empty }
    }
}

/// The parts of the page that have changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Name, number, heart rate.
    pub vitals: bool,
    /// The latest ECG.
    pub latest: bool,
    /// The selected ECG.
    pub selected: bool,
    /// The list of ECGs.
    pub ecgs: bool,
    /// The medical image.
    pub image: bool,
    /// The list of images.
    pub images: bool,
    /// The trend.
    pub trend: bool,
}

impl Changes {
    /// Everything has changed.
    pub const ALL: Changes = Changes {
        vitals: true,
        latest: true,
        selected: true,
        ecgs: true,
        image: true,
        images: true,
        trend: true,
    };
}
