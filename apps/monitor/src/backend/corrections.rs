//! Requests about corrections.

use client::{ClientError, Gateway};
use proto_json::{
    Correction, CorrectionId, EcgRecord, HeartRateRecord, ImageRecord, Mrn, RecordId, UploadId,
};
use ui::{format, tr};

use super::{Backend, BackendEvent};

/// The number of the newest records of each kind that can be corrected.
const RECORDS: u32 = 100;

/// What can be corrected: the newest records of a patient, and the corrections that can be undone.
#[derive(Debug, Default)]
pub(crate) struct Correctable {
    pub(crate) rates: Vec<HeartRateRecord>,
    pub(crate) ecgs: Vec<EcgRecord>,
    pub(crate) images: Vec<ImageRecord>,
    pub(crate) corrections: Vec<Correction>,
}

/// A correction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CorrectionRequest {
    MarkError(RecordId),
    UnmarkError(RecordId),
    /// `true`: the patient is created if no patient has this number.
    Move(UploadId, Mrn, bool),
    Name(Mrn, String),
    Merge(Mrn, Mrn),
    UndoMerge(CorrectionId),
}

impl Backend {
    /// Loads what can be corrected. Returns `false` if there is no connection.
    pub(crate) fn load_correctable(&self, mrn: Mrn) -> bool {
        let Some(gateway) = self.gateway.clone() else { return false };
        let events = self.events.clone();
        self.runtime.spawn_detached(async move {
            let loaded = correctable(&gateway, mrn).await;
            let loaded = loaded.map(Box::new).map_err(|error| format::sentence(&error.to_string()));
            events.send(BackendEvent::Correctable(mrn, loaded));
        });
        true
    }

    /// Corrects a patient. Returns `false` if there is no connection.
    pub(crate) fn correct(&self, mrn: Mrn, request: CorrectionRequest, reason: String) -> bool {
        let Some(gateway) = self.gateway.clone() else { return false };
        let events = self.events.clone();
        self.runtime.spawn_detached(async move {
            let corrected = match &request {
                CorrectionRequest::MarkError(record) => gateway.mark_error(*record, &reason).await,
                CorrectionRequest::UnmarkError(record) => gateway.unmark_error(*record, &reason).await,
                CorrectionRequest::Move(upload, to, create) => {
                    gateway.move_upload(*upload, *to, *create, &reason).await
                }
                CorrectionRequest::Name(mrn, name) => gateway.correct_name(*mrn, name, &reason).await,
                CorrectionRequest::Merge(from, into) => gateway.merge(*from, *into, &reason).await,
                CorrectionRequest::UndoMerge(merge) => gateway.undo_merge(*merge, &reason).await,
            };
            let corrected = corrected.map(|_| ()).map_err(|error| match error {
                ClientError::Forbidden(_) => {
                    tr!("You are not allowed to correct. Log in with another account.").to_owned()
                }
                error => format::sentence(&error.to_string()),
            });
            events.send(BackendEvent::Corrected(mrn, request, corrected));
        });
        true
    }
}

async fn correctable(gateway: &Gateway, mrn: Mrn) -> Result<Correctable, ClientError> {
    let (rates, ecgs, images, corrections) = tokio::try_join!(
        gateway.heart_rates(mrn, None, Some(RECORDS)),
        gateway.ecgs(mrn, None, Some(RECORDS)),
        gateway.images(mrn, None, Some(RECORDS)),
        gateway.corrections(mrn),
    )?;
    Ok(Correctable {
        rates: rates.items,
        ecgs: ecgs.items,
        images: images.items,
        corrections: corrections.unwrap_or_default(),
    })
}
