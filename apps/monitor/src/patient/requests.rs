//! The requests of the patient view and their responses.

use std::sync::Arc;

use client::ClientError;
use proto_json::{Cursor, EcgRecord, HeartRateRecord, ImageRecord, Page, RecordId};
use ui::Picture;
use ui::trace::EcgScene;

use crate::paged_list::PageRequest;

/// One of the two ECGs side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The latest ECG of the patient.
    Latest,
    /// The ECG that the user selected from the list.
    Selected,
}

/// A request to the gateway.
#[derive(Debug, Clone)]
pub enum Request {
    /// A page of the list of ECGs.
    Ecgs(PageRequest),
    /// A page of the list of images.
    Images(PageRequest),
    /// A page of heart rates, newest first: the first page, or the one after the cursor.
    Rates(Option<Cursor>),
    /// An ECG with its signal or picture. The strip is given if the signal has already been loaded.
    Ecg(Side, RecordId, Option<Arc<ecg::Strip>>),
    /// A medical image.
    Image(ImageRecord),
}

/// The response to a [`Request`].
#[derive(Debug)]
pub enum Response {
    /// To [`Request::Ecgs`].
    Ecgs(PageRequest, Result<Page<EcgRecord>, ClientError>),
    /// To [`Request::Images`].
    Images(PageRequest, Result<Page<ImageRecord>, ClientError>),
    /// To [`Request::Rates`].
    Rates(Result<Page<HeartRateRecord>, ClientError>),
    /// To [`Request::Ecg`]. The error is a sentence.
    Ecg(Side, Result<Box<LoadedEcg>, String>),
    /// To [`Request::Image`]. The error is a sentence.
    Image(Result<Picture, String>),
}

/// Identifies a request, so that an outdated response can be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    /// The generation of the patient view that sent the request.
    pub(super) generation: u64,
    /// The number of the request within the view.
    pub(super) number: u64,
}

/// An ECG that can be shown.
#[derive(Debug, Clone)]
pub struct LoadedEcg {
    /// The record.
    pub record: EcgRecord,
    /// The signal or the picture.
    pub content: EcgContent,
}

/// The content of an ECG.
#[derive(Debug, Clone)]
pub enum EcgContent {
    /// The signal, and the scene that draws it.
    Signal(Arc<ecg::Strip>, Arc<EcgScene>),
    /// A picture, and the reason why no signal is drawn.
    Picture(Picture, String),
}
