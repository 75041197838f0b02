//! The records of an upload, and the rule for the latest records of a patient. All adapters share them.
//!
//! A record replaces the latest one of its kind if it comes after it. Records are ordered by their times (of recording, or
//! of receipt if that is unknown), then by their ids. A time that is in the future when it is written
//! ([`Timestamp::is_in_future_of`]) is not trusted, because a clock must be wrong. If the time of either record is not
//! trusted, the records are ordered by their uploads instead: by the version of the patient after the upload, which the
//! store assigns and which does not depend on a clock. So a value from the future never hides a newer upload, and a value
//! that is received while the server's clock is behind is shown.

use std::collections::HashSet;

use proto_json::{
    BlobHash, EcgRecord, EcgStatus, FormerName, HeartRateRecord, ImageRecord, LatestEcg, LatestHeartRate,
    LatestImage, NameChange, NameMatch, PatientSummary, RecordId, Rename, SignalOptions, Timestamp,
    UploadReceipt, match_names,
};

use crate::{NewHeartRate, NewUpload};

/// Position of a record in a history, ordered by time, then by id.
pub(crate) type Position = (Timestamp, RecordId);

/// What a latest record is ordered by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rank {
    pub(crate) at: Timestamp,
    pub(crate) id: RecordId,
    /// See [`LatestHeartRate::upload_version`].
    pub(crate) upload_version: u64,
    pub(crate) clock_wrong: bool,
}

/// A latest record of one of the three kinds.
pub(crate) trait Latest {
    fn rank(&self) -> Rank;
    fn set_upload_version(&mut self, version: u64);
    fn set_clock_wrong(&mut self);
}

macro_rules! latest {
    ($($kind:ty),+) => {
        $(impl Latest for $kind {
            fn rank(&self) -> Rank {
                Rank {
                    at: self.at,
                    id: self.id,
                    upload_version: self.upload_version,
                    clock_wrong: self.clock_wrong,
                }
            }
            fn set_upload_version(&mut self, version: u64) {
                self.upload_version = version;
            }
            fn set_clock_wrong(&mut self) {
                self.clock_wrong = true;
            }
        })+
    };
}

latest!(LatestHeartRate, LatestEcg, LatestImage);

/// Whether `new` comes after `old` by the rule of this module; `Equal` only for the same record.
pub(crate) fn order(new: Rank, old: Rank, now: Timestamp) -> std::cmp::Ordering {
    let is_trusted = |rank: Rank| !rank.clock_wrong && !rank.at.is_in_future_of(now);
    if is_trusted(new) && is_trusted(old) {
        (new.at, new.id).cmp(&(old.at, old.id))
    } else {
        (new.upload_version, new.id).cmp(&(old.upload_version, old.id))
    }
}

/// Marks those latest records of a patient whose time is in the future of `now`. Returns whether any was not marked before.
pub(crate) fn mark_clock_wrong(patient: &mut PatientSummary, now: Timestamp) -> bool {
    fn mark(latest: Option<&mut impl Latest>, now: Timestamp) -> bool {
        let Some(latest) = latest else { return false };
        let rank = latest.rank();
        let is_new = !rank.clock_wrong && rank.at.is_in_future_of(now);
        if is_new {
            latest.set_clock_wrong();
        }
        is_new
    }
    let marked = [
        mark(patient.latest_heart_rate.as_mut(), now),
        mark(patient.latest_ecg.as_mut(), now),
        mark(patient.latest_image.as_mut(), now),
    ];
    marked.contains(&true)
}

/// An ECG with the options that only its analysis needs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredEcg {
    pub(crate) record: EcgRecord,
    pub(crate) options: SignalOptions,
}

impl NewUpload {
    /// The heart rate of this upload in the history.
    pub(crate) fn heart_rate_record(&self) -> Option<HeartRateRecord> {
        self.heart_rate.as_ref().map(|NewHeartRate { id, bpm, recorded_at, source, ecg_id }| {
            HeartRateRecord {
                id: *id,
                mrn: self.mrn,
                bpm: *bpm,
                at: recorded_at.unwrap_or(self.received_at),
                received_at: Some(self.received_at),
                recorded_at: *recorded_at,
                source: *source,
                ecg_id: *ecg_id,
            }
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
                signal_options: ecg.signal.is_some().then(|| ecg.options.clone()),
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

    /// Whether it has a record. Such an upload always changes the patient.
    fn has_records(&self) -> bool {
        self.heart_rate.is_some() || !self.images.is_empty() || !self.ecgs.is_empty()
    }

    /// Applies the name of this upload to its patient.
    fn apply_name(&self, patient: &mut PatientSummary) -> NameEffect {
        let Some(given) = &self.name else { return NameEffect::default() };
        match (&patient.name, self.rename) {
            (Some(stored), _) if stored == given => NameEffect::default(),
            (Some(stored), Rename::No) => {
                let kept = match_names(given, Some(stored)) == NameMatch::Different;
                NameEffect { kept, ..NameEffect::default() }
            }
            (stored, rename) => {
                let former = stored.clone();
                patient.renamed = former.clone().map(|from| NameChange {
                    from,
                    at: self.stored_at,
                    confirmed: rename == Rename::Confirmed,
                });
                patient.name = Some(given.clone());
                NameEffect { changed: true, kept: false, former }
            }
        }
    }

    /// The name that this upload has replaced, as a record.
    fn former_name(&self, effect: &NameEffect) -> Option<FormerName> {
        effect.former.clone().map(|name| FormerName {
            name,
            replaced_at: self.stored_at,
            upload_id: self.id,
            confirmed: self.rename == Rename::Confirmed,
        })
    }

    /// Applies this upload to its patient; `None` if it is the first upload of the patient.
    pub(crate) fn apply(&self, known: Option<PatientSummary>) -> AppliedUpload {
        let created = known.is_none();
        let mut patient = known.unwrap_or(PatientSummary {
            mrn: self.mrn,
            name: None,
            version: 0,
            created_at: self.stored_at,
            updated_at: self.stored_at,
            latest_heart_rate: None,
            latest_ecg: None,
            latest_image: None,
            renamed: None,
            admission: None,
            details: None,
        });
        let name = self.apply_name(&mut patient);
        let changed = name.changed || self.has_records();
        // An upload with a record always increments the version.
        self.newest().of_upload(patient.version + 1).enter(&mut patient, self.stored_at);
        if created || changed {
            patient.version += 1;
            patient.updated_at = patient.updated_at.max(self.stored_at);
        }
        let receipt = UploadReceipt {
            name_kept: name.kept,
            upload_id: self.id,
            mrn: self.mrn,
            received_at: self.received_at,
            patient_created: created,
            changed,
            version: patient.version,
            heart_rate: self.heart_rate.as_ref().map(|rate| rate.id),
            files: self.files.clone(),
        };
        let former_name = self.former_name(&name);
        AppliedUpload { patient, is_changed: created || changed, former_name, receipt }
    }

    /// Its newest record of each kind, without `upload_version`.
    fn newest(&self) -> Newest {
        let ecg = self.ecg_records().into_iter().max_by_key(|ecg| (ecg.record.at, ecg.record.id));
        let image = self.image_records().into_iter().max_by_key(|image| (image.at, image.id));
        let newest = Newest {
            heart_rate: self.heart_rate_record().as_ref().map(latest_heart_rate),
            ecg: ecg.map(|ecg| latest_ecg(&ecg.record)),
            image: image.map(|image| LatestImage {
                id: image.id,
                at: image.at,
                media_type: image.file.media_type,
                file_name: image.file.file_name,
                upload_version: 0,
                clock_wrong: false,
            }),
        };
        newest.stored_at(self.stored_at)
    }
}

/// A patient after an upload.
#[derive(Debug)]
pub(crate) struct AppliedUpload {
    pub(crate) patient: PatientSummary,
    /// The patient is new or differs from the stored one.
    pub(crate) is_changed: bool,
    /// The name that the upload has replaced.
    pub(crate) former_name: Option<FormerName>,
    pub(crate) receipt: UploadReceipt,
}

/// Effect of the name in an upload on its patient.
#[derive(Debug, Clone, Default, PartialEq)]
struct NameEffect {
    /// The patient has another name than before.
    changed: bool,
    /// The upload named the patient differently, and the stored name was kept.
    kept: bool,
    /// The name that was replaced.
    former: Option<String>,
}

/// The newest records of one write. They may become a patient's latest.
#[derive(Debug, Clone, Default, PartialEq)]
struct Newest {
    heart_rate: Option<LatestHeartRate>,
    ecg: Option<LatestEcg>,
    image: Option<LatestImage>,
}

impl Newest {
    /// The records of an analysis of an ECG whose upload made this version of the patient.
    fn of_analysis(ecg: &EcgRecord, upload_version: u64, stored_at: Timestamp) -> Self {
        let newest = Newest {
            heart_rate: heart_rate_of(ecg).as_ref().map(latest_heart_rate),
            ecg: Some(latest_ecg(ecg)),
            image: None,
        };
        newest.of_upload(upload_version).stored_at(stored_at)
    }

    /// Sets the version that their upload made.
    fn of_upload(mut self, version: u64) -> Self {
        self.each(|latest| latest.set_upload_version(version));
        self
    }

    /// Marks those whose time is in the future of `now`.
    fn stored_at(mut self, now: Timestamp) -> Self {
        self.each(|latest| {
            if latest.rank().at.is_in_future_of(now) {
                latest.set_clock_wrong();
            }
        });
        self
    }

    fn each(&mut self, change: impl Fn(&mut dyn Latest)) {
        self.heart_rate.iter_mut().for_each(|latest| change(latest));
        self.ecg.iter_mut().for_each(|latest| change(latest));
        self.image.iter_mut().for_each(|latest| change(latest));
    }
}

impl Newest {
    /// Makes those that are newer the patient's latest, at the time `now`. An analysed ECG replaces itself while it is
    /// pending, and not the other way round.
    fn enter(self, patient: &mut PatientSummary, now: Timestamp) {
        fn is_newer<T: Latest>(
            new: Option<&T>,
            old: Option<&T>,
            now: Timestamp,
            accept: fn(std::cmp::Ordering) -> bool,
        ) -> bool {
            new.is_some_and(|new| old.is_none_or(|old| accept(order(new.rank(), old.rank(), now))))
        }
        use std::cmp::Ordering;
        if is_newer(self.heart_rate.as_ref(), patient.latest_heart_rate.as_ref(), now, Ordering::is_gt) {
            patient.latest_heart_rate = self.heart_rate;
        }
        let is_pending = self.ecg.as_ref().is_some_and(|ecg| ecg.status == EcgStatus::Pending);
        let accept = if is_pending { Ordering::is_gt } else { Ordering::is_ge };
        if is_newer(self.ecg.as_ref(), patient.latest_ecg.as_ref(), now, accept) {
            patient.latest_ecg = self.ecg;
        }
        if is_newer(self.image.as_ref(), patient.latest_image.as_ref(), now, Ordering::is_gt) {
            patient.latest_image = self.image;
        }
    }
}

/// Whether a result of this version of the analysis, or a failure (`None`), is stored for `ecg`: the ECG has no result, or
/// one of an earlier version. A failure never replaces a result, and a success replaces a failure. The rule makes
/// redeliveries harmless: a result never replaces itself.
#[must_use]
pub fn replaces_result(ecg: &EcgRecord, new: Option<u32>) -> bool {
    match (ecg.status, new) {
        (EcgStatus::Pending, _) => true,
        (EcgStatus::Analyzed, Some(new)) => ecg.analysis.as_ref().is_none_or(|stored| new > stored.algorithm),
        (EcgStatus::Failed, Some(new)) => new > 0,
        (EcgStatus::Analyzed | EcgStatus::Failed, None) | (EcgStatus::Picture, _) => false,
    }
}

impl crate::AnalysisResult {
    /// Applies this result to the patient. `ecg` has the result; its upload made version `upload_version` of the patient.
    pub(crate) fn apply_to_patient(
        &self,
        ecg: &EcgRecord,
        upload_version: u64,
        patient: &mut PatientSummary,
    ) {
        Newest::of_analysis(ecg, upload_version, self.stored_at).enter(patient, self.stored_at);
        patient.version += 1;
        patient.updated_at = patient.updated_at.max(self.stored_at);
    }

    /// Whether this result is stored ([`replaces_result`]).
    pub(crate) fn replaces_result_of(&self, ecg: &EcgRecord) -> bool {
        replaces_result(ecg, self.outcome.as_ref().ok().map(|(analysis, ..)| analysis.algorithm))
    }

    /// Applies this result to the patient in place of the former result of the same ECG. `ecg` has the new result.
    /// `others` are the newest other heart rates of the patient, newest first: one of them becomes the latest if the ECG
    /// gave the latest and now gives none.
    pub(crate) fn replace_in_patient(
        &self,
        ecg: &EcgRecord,
        upload_version: u64,
        others: &[HeartRateRecord],
        patient: &mut PatientSummary,
    ) {
        let latest = patient.latest_ecg.clone().filter(|latest| latest.id == ecg.id);
        let of_ecg = ecg.id.derived("heart_rate");
        let former = patient.latest_heart_rate.clone().filter(|latest| latest.id == of_ecg);
        if former.is_some() {
            patient.latest_heart_rate = None;
        }
        self.apply_to_patient(ecg, upload_version, patient);
        // A time that was not trusted before is not trusted now.
        if let (Some(old), Some(new)) = (latest, &mut patient.latest_ecg) {
            new.clock_wrong |= old.clock_wrong && new.id == old.id;
        }
        match (former, &mut patient.latest_heart_rate) {
            (Some(old), Some(new)) => new.clock_wrong |= old.clock_wrong,
            (Some(_), None) => {
                let is_trusted = |rate: &&HeartRateRecord| !rate.at.is_in_future_of(self.stored_at);
                let other = others.iter().find(is_trusted).or(others.first());
                // The version of its upload is not known; any later upload comes after it.
                patient.latest_heart_rate = other.map(|other| LatestHeartRate {
                    clock_wrong: other.at.is_in_future_of(self.stored_at),
                    ..latest_heart_rate(other)
                });
            }
            (None, _) => {}
        }
    }

    /// The ECG with this result.
    pub(crate) fn apply(&self, mut ecg: EcgRecord) -> EcgRecord {
        ecg.failure = None;
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

/// Hashes of the plot and the details of a replaced result that no record of the upload refers to any more. `ecg` has the
/// new result; `others` are the other ECGs of the upload, and `files` the hashes of the uploaded files.
pub(crate) fn released_files(
    former: &EcgRecord,
    ecg: &EcgRecord,
    others: &[EcgRecord],
    files: impl IntoIterator<Item = BlobHash>,
) -> Vec<BlobHash> {
    fn hashes(ecg: &EcgRecord) -> impl Iterator<Item = BlobHash> + '_ {
        [&ecg.signal, &ecg.plot, &ecg.detail].into_iter().flatten().map(|file| file.sha256)
    }
    let used: HashSet<BlobHash> = hashes(ecg).chain(others.iter().flat_map(hashes)).chain(files).collect();
    hashes(former).filter(|sha256| !used.contains(sha256)).collect()
}

/// The heart rate of an analysed ECG in the history.
pub(crate) fn heart_rate_of(ecg: &EcgRecord) -> Option<HeartRateRecord> {
    (ecg.status == EcgStatus::Analyzed).then_some(ecg.heart_rate).flatten().map(|bpm| HeartRateRecord {
        id: ecg.id.derived("heart_rate"),
        mrn: ecg.mrn,
        bpm,
        at: ecg.at,
        received_at: Some(ecg.received_at),
        recorded_at: ecg.recorded_at,
        source: proto_json::HeartRateSource::Ecg,
        ecg_id: Some(ecg.id),
    })
}

/// A heart rate as the patient's latest.
pub(crate) fn latest_heart_rate(rate: &HeartRateRecord) -> LatestHeartRate {
    LatestHeartRate {
        id: rate.id,
        bpm: rate.bpm,
        at: rate.at,
        received_at: rate.received_at,
        recorded_at: rate.recorded_at,
        source: rate.source,
        ecg_id: rate.ecg_id,
        upload_version: 0,
        clock_wrong: false,
    }
}

/// An ECG as the patient's latest.
pub(crate) fn latest_ecg(ecg: &EcgRecord) -> LatestEcg {
    LatestEcg {
        id: ecg.id,
        at: ecg.at,
        received_at: Some(ecg.received_at),
        recorded_at: ecg.recorded_at,
        status: ecg.status,
        heart_rate: ecg.heart_rate,
        quality: ecg.analysis.as_ref().map(|analysis| analysis.quality),
        upload_version: 0,
        clock_wrong: false,
    }
}

/// Makes a page of entries that were read with one more than the limit.
pub(crate) fn page<T>(
    mut items: Vec<T>,
    limit: usize,
    cursor: impl Fn(&T) -> proto_json::Cursor,
) -> proto_json::Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(cursor) } else { None };
    proto_json::Page { items, next, damaged: Vec::new() }
}

impl crate::PageRequest {
    /// Maximum number of entries: at least 1, and small enough to add 1.
    pub(crate) fn size(&self) -> usize {
        self.limit.clamp(1, 1 << 20)
    }

    /// The start of a page of a history.
    pub(crate) fn after_record(&self) -> Result<Option<Position>, crate::StoreError> {
        match self.after {
            None => Ok(None),
            Some(proto_json::Cursor::Record(at, id)) => Ok(Some((at, id))),
            Some(_) => Err(crate::StoreError::WrongCursor),
        }
    }

    /// The start of a page of the list of patients.
    pub(crate) fn after_patient(&self) -> Result<Option<proto_json::Mrn>, crate::StoreError> {
        match self.after {
            None => Ok(None),
            Some(proto_json::Cursor::Patient(mrn)) => Ok(Some(mrn)),
            Some(_) => Err(crate::StoreError::WrongCursor),
        }
    }
}
