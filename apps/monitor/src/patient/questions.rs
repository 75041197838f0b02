//! What the view of a patient asks, and what comes back.

use std::sync::Arc;

use client::ClientError;
use proto_json::{Cursor, EcgRecord, HeartRateRecord, ImageRecord, Page, RecordId};
use ui::Picture;
use ui::trace::EcgScene;

use crate::pages::Wanted;

/// One of the two ECGs side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The patient's latest.
    Latest,
    /// The one that was chosen from the list.
    Chosen,
}

/// A question to the gateway.
#[derive(Debug, Clone)]
pub enum Ask {
    /// Part of the list of ECGs.
    Ecgs(Wanted),
    /// Part of the list of images.
    Images(Wanted),
    /// Heart rates, newest first, from the beginning or after this one.
    Rates(Option<Cursor>),
    /// An ECG with its signal, or its picture. The signal is not fetched again where it is here already.
    Ecg(Side, RecordId, Option<Arc<ecg::Strip>>),
    /// A medical image.
    Image(ImageRecord),
}

/// What came back.
#[derive(Debug)]
pub enum Answer {
    /// To [`Ask::Ecgs`].
    Ecgs(Wanted, Result<Page<EcgRecord>, ClientError>),
    /// To [`Ask::Images`].
    Images(Wanted, Result<Page<ImageRecord>, ClientError>),
    /// To [`Ask::Rates`].
    Rates(Result<Page<HeartRateRecord>, ClientError>),
    /// To [`Ask::Ecg`].
    Ecg(Side, Result<Box<EcgShown>, String>),
    /// To [`Ask::Image`].
    Image(Result<Picture, String>),
}

/// Which question an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Which opening of which patient.
    pub(super) generation: u64,
    /// Which question of its kind.
    pub(super) number: u64,
}

/// An ECG as it can be shown.
#[derive(Debug, Clone)]
pub struct EcgShown {
    /// What is known of it.
    pub record: EcgRecord,
    /// Its signal or picture.
    pub content: Content,
}

/// What an ECG consists of.
#[derive(Debug, Clone)]
pub enum Content {
    /// Its signal, and the same ready to be drawn.
    Trace(Arc<ecg::Strip>, Arc<EcgScene>),
    /// A picture, and why there is no trace.
    Picture(Picture, String),
}
