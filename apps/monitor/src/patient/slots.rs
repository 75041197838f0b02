//! Places of the screen, and which of them have to be drawn anew.

use proto_json::RecordId;

/// Something that is fetched for one place of the screen.
#[derive(Debug)]
pub enum Slot<T> {
    /// Nothing is wanted.
    Empty,
    /// It is on its way.
    Loading,
    /// It is here.
    Here(T),
    /// It did not come; one sentence.
    Failed(String),
}

impl<T> Slot<T> {
    /// What is here.
    pub fn get(&self) -> Option<&T> {
        if let Slot::Here(value) = self { Some(value) } else { None }
    }
}

/// A place of the screen, with the number of the question that may fill it.
#[derive(Debug)]
pub(super) struct Place<T> {
    pub(super) wanted: Option<RecordId>,
    pub(super) number: u64,
    pub(super) slot: Slot<T>,
}

impl<T> Default for Place<T> {
    fn default() -> Self {
        Place { wanted: None, number: 0, slot: Slot::Empty }
    }
}

/// What of the screen has to be drawn anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// Name, number, heart rate.
    pub vitals: bool,
    /// The latest ECG.
    pub latest: bool,
    /// The chosen ECG.
    pub chosen: bool,
    /// The list of ECGs.
    pub ecgs: bool,
    /// The medical image.
    pub image: bool,
    /// The list of images.
    pub images: bool,
    /// The trend.
    pub trend: bool,
}

impl Changed {
    /// Everything.
    pub const ALL: Changed = Changed {
        vitals: true,
        latest: true,
        chosen: true,
        ecgs: true,
        image: true,
        images: true,
        trend: true,
    };

    /// This and that.
    #[must_use]
    pub fn and(self, other: Changed) -> Changed {
        Changed {
            vitals: self.vitals | other.vitals,
            latest: self.latest | other.latest,
            chosen: self.chosen | other.chosen,
            ecgs: self.ecgs | other.ecgs,
            image: self.image | other.image,
            images: self.images | other.images,
            trend: self.trend | other.trend,
        }
    }
}
