//! The records that an upload becomes and the rules for "latest": one wording for every adapter.

use proto_json::{
    EcgRecord, EcgStatus, HeartRateRecord, ImageRecord, LatestEcg, LatestHeartRate, LatestImage, RecordId,
    SignalOptions, Timestamp, UploadReceipt,
};

use crate::{NewHeartRate, NewUpload};

/// Place of a record in a history: the later one is the newer one. The id decides between equal times.
pub(crate) type Place = (Timestamp, RecordId);

/// An ECG as it is stored, with what only its analysis needs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredEcg {
    pub(crate) record: EcgRecord,
    pub(crate) options: SignalOptions,
}

impl NewUpload {
    /// The heart rate of this upload in the history.
    pub(crate) fn heart_rate_record(&self) -> Option<HeartRateRecord> {
        self.heart_rate.as_ref().map(|NewHeartRate { id, bpm, at, source, ecg_id }| HeartRateRecord {
            id: *id,
            mrn: self.mrn,
            bpm: *bpm,
            at: *at,
            source: *source,
            ecg_id: *ecg_id,
        })
    }

    /// The ECGs of this upload in the history.
    pub(crate) fn ecg_records(&self) -> Vec<StoredEcg> {
        let stored = |ecg: &crate::NewEcg| StoredEcg {
            record: EcgRecord {
                id: ecg.id,
                mrn: self.mrn,
                upload_id: self.id,
                at: ecg.recorded_at.unwrap_or(self.received_at),
                received_at: self.received_at,
                recorded_at: ecg.recorded_at,
                status: if ecg.signal.is_some() { EcgStatus::Pending } else { EcgStatus::Picture },
                heart_rate: ecg.reported,
                signal: ecg.signal.clone(),
                plot: ecg.picture.clone(),
                detail: None,
                analysis: None,
                failure: None,
            },
            options: ecg.options.clone(),
        };
        self.ecgs.iter().map(stored).collect()
    }

    /// The images of this upload in the history.
    pub(crate) fn image_records(&self) -> Vec<ImageRecord> {
        let stored = |image: &crate::NewImage| ImageRecord {
            id: image.id,
            mrn: self.mrn,
            upload_id: self.id,
            at: self.received_at,
            file: image.file.clone(),
        };
        self.images.iter().map(stored).collect()
    }

    /// Whether it brings a record: then it always changes the patient.
    pub(crate) fn brings_records(&self) -> bool {
        self.heart_rate.is_some() || !self.images.is_empty() || !self.ecgs.is_empty()
    }

    /// What the client is told.
    pub(crate) fn receipt(&self, patient_created: bool, changed: bool, version: u64) -> UploadReceipt {
        UploadReceipt {
            upload_id: self.id,
            mrn: self.mrn,
            received_at: self.received_at,
            patient_created,
            changed,
            version,
            heart_rate: self.heart_rate.as_ref().map(|rate| rate.id),
            files: self.files.clone(),
        }
    }

    /// The newest of each kind that it brings.
    pub(crate) fn newest(&self) -> Newest {
        let ecg = self.ecg_records().into_iter().max_by_key(|ecg| (ecg.record.at, ecg.record.id));
        let image = self.image_records().into_iter().max_by_key(|image| (image.at, image.id));
        Newest {
            heart_rate: self.heart_rate_record().as_ref().map(latest_heart_rate),
            ecg: ecg.map(|ecg| latest_ecg(&ecg.record)),
            image: image.map(|image| LatestImage {
                id: image.id,
                at: image.at,
                media_type: image.file.media_type,
                file_name: image.file.file_name,
            }),
        }
    }
}

/// The newest records of one write: what may become a patient's latest.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Newest {
    pub(crate) heart_rate: Option<LatestHeartRate>,
    pub(crate) ecg: Option<LatestEcg>,
    pub(crate) image: Option<LatestImage>,
}

#[cfg(feature = "sqlite")]
impl Newest {
    /// Makes them the patient's latest where they are. An ECG that is the latest already is replaced: it was analysed.
    pub(crate) fn enter(self, patient: &mut proto_json::PatientSummary) {
        fn place<T>(latest: Option<&T>, of: impl Fn(&T) -> Place) -> Option<Place> {
            latest.map(of)
        }
        if place(self.heart_rate.as_ref(), |new| (new.at, new.id))
            > place(patient.latest_heart_rate.as_ref(), |old| (old.at, old.id))
        {
            patient.latest_heart_rate = self.heart_rate;
        }
        if self.ecg.is_some()
            && place(self.ecg.as_ref(), |new| (new.at, new.id))
                >= place(patient.latest_ecg.as_ref(), |old| (old.at, old.id))
        {
            patient.latest_ecg = self.ecg;
        }
        if place(self.image.as_ref(), |new| (new.at, new.id))
            > place(patient.latest_image.as_ref(), |old| (old.at, old.id))
        {
            patient.latest_image = self.image;
        }
    }
}

#[cfg(feature = "sqlite")]
impl crate::AnalysisResult {
    /// The ECG with this result.
    pub(crate) fn apply(&self, mut ecg: EcgRecord) -> EcgRecord {
        match &self.outcome {
            Ok((analysis, plot, detail)) => {
                ecg.status = EcgStatus::Analyzed;
                ecg.heart_rate = self.heart_rate();
                ecg.plot = Some(plot.clone());
                ecg.detail = Some(detail.clone());
                ecg.analysis = Some(analysis.clone());
            }
            Err(reason) => {
                ecg.status = EcgStatus::Failed;
                ecg.failure = Some(reason.clone());
            }
        }
        ecg
    }
}

/// The heart rate of an analysed ECG in the history.
pub(crate) fn heart_rate_of(ecg: &EcgRecord) -> Option<HeartRateRecord> {
    (ecg.status == EcgStatus::Analyzed).then_some(ecg.heart_rate).flatten().map(|bpm| HeartRateRecord {
        id: ecg.id.derived("heart_rate"),
        mrn: ecg.mrn,
        bpm,
        at: ecg.at,
        source: proto_json::HeartRateSource::Ecg,
        ecg_id: Some(ecg.id),
    })
}

/// A heart rate as the patient's latest.
pub(crate) fn latest_heart_rate(rate: &HeartRateRecord) -> LatestHeartRate {
    LatestHeartRate { id: rate.id, bpm: rate.bpm, at: rate.at, source: rate.source, ecg_id: rate.ecg_id }
}

/// An ECG as the patient's latest.
pub(crate) fn latest_ecg(ecg: &EcgRecord) -> LatestEcg {
    LatestEcg {
        id: ecg.id,
        at: ecg.at,
        status: ecg.status,
        heart_rate: ecg.heart_rate,
        quality: ecg.analysis.as_ref().map(|analysis| analysis.quality),
    }
}

/// Cuts what was read with one entry too many to a page, and says where the next one starts.
pub(crate) fn page<T>(
    mut items: Vec<T>,
    limit: usize,
    cursor: impl Fn(&T) -> proto_json::Cursor,
) -> proto_json::Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(cursor) } else { None };
    proto_json::Page { items, next }
}

impl crate::PageRequest {
    /// Most entries to give, at least 1 and small enough to count one more.
    pub(crate) fn size(&self) -> usize {
        self.limit.clamp(1, 1 << 20)
    }

    /// Where a page of a history starts.
    pub(crate) fn after_record(&self) -> Result<Option<Place>, crate::StoreError> {
        match self.after {
            None => Ok(None),
            Some(proto_json::Cursor::Record(at, id)) => Ok(Some((at, id))),
            Some(_) => Err(crate::StoreError::WrongCursor),
        }
    }

    /// Where a page of the list of patients starts.
    pub(crate) fn after_patient(&self) -> Result<Option<proto_json::Mrn>, crate::StoreError> {
        match self.after {
            None => Ok(None),
            Some(proto_json::Cursor::Patient(mrn)) => Ok(Some(mrn)),
            Some(_) => Err(crate::StoreError::WrongCursor),
        }
    }
}
