//! Corrections in MongoDB. Each step is one transaction; files and parts of waveforms that it has released are removed after
//! its commit.

use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use mongodb::bson::{self, Bson, DateTime, Document, RawDocumentBuf, doc};
use mongodb::error::Error;
use mongodb::{ClientSession, Collection};
use proto_json::alarms::LimitScope;
use proto_json::{
    Correction, CorrectionId, EcgRecord, Fate, FormerName, HeartRateRecord, ImageRecord, Mrn, PatientSummary,
    RecordId, RetentionBody, RetentionReport, StreamId, Timestamp, UploadId,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::corrections::latest::NEWEST;
use crate::corrections::retention::{self, PATIENTS, Retained, TRANSACTIONS};
use crate::corrections::transaction::Transaction;
use crate::corrections::{MAX_CHAIN, MergedItem, StoredCorrection, begin, steps};
use crate::records::StoredEcg;
use crate::waveforms::StoredStream;
use crate::{
    BlobKey, CorrectionOutcome, CorrectionReader, CorrectionStep, Corrections, NewCorrection, StoreError,
    StoredUpload,
};

use super::documents::{
    self, EcgDocument, FormerNameDocument, HeartRateDocument, ImageDocument, UploadDocument, date, uuid,
};
use super::failure::{broken, within};
use super::reading::all;
use super::sealed::{self, Sealed, seal};
use super::transaction::{self, abort};
use super::{Db, MongoStore, blobs, calls, patients, reading, waveforms};

/// Newest former names that are read; a patient has few.
const FORMER_NAMES: usize = 100;

/// Collections of other parts of the system with data about patients. The audit stays.
const OTHER_COLLECTIONS: [&str; 3] = ["alarms", "alarm_rules", "admissions"];

/// `corrections`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CorrectionDocument {
    #[serde(rename = "_id")]
    id: bson::Uuid,
    mrns: Vec<i64>,
    at: DateTime,
    /// Absent when it is complete.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    running: bool,
    /// JSON.
    content: String,
}

/// `fates`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FateDocument {
    #[serde(rename = "_id")]
    mrn: i64,
    /// JSON.
    content: String,
}

impl CorrectionDocument {
    pub(super) fn new(stored: &StoredCorrection) -> Result<Self, StoreError> {
        let correction = &stored.correction;
        Ok(CorrectionDocument {
            id: uuid(correction.id.as_uuid()),
            mrns: correction.patients.iter().map(|mrn| documents::number(*mrn)).collect(),
            at: date(correction.at),
            running: stored.is_running(),
            content: json(stored)?,
        })
    }

    pub(super) fn stored(&self) -> Result<StoredCorrection, StoreError> {
        parsed(&self.content)
    }
}

impl FateDocument {
    fn new(mrn: Mrn, fate: &Fate) -> Result<Self, StoreError> {
        Ok(FateDocument { mrn: documents::number(mrn), content: json(fate)? })
    }

    pub(super) fn fate(&self) -> Result<Fate, StoreError> {
        parsed(&self.content)
    }
}

fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| broken("value", error))
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| broken("correction", error))
}

fn number(mrn: Mrn) -> Document {
    doc! { "_id": documents::number(mrn) }
}

/// A transaction, and what is to be removed after its commit.
pub(super) struct MongoTransaction<'a> {
    db: &'a Db,
    session: &'a mut ClientSession,
    /// Entries of `blobs.incomplete` whose chunks are to be removed.
    discarded: Vec<String>,
}

impl<'a> MongoTransaction<'a> {
    pub(super) fn new(db: &'a Db, session: &'a mut ClientSession) -> Self {
        MongoTransaction { db, session, discarded: Vec::new() }
    }

    async fn one<D, T>(
        &mut self,
        collection: &Collection<RawDocumentBuf>,
        id: Document,
    ) -> Result<Option<T>, Error>
    where
        D: Sealed,
        T: TryFrom<D, Error = StoreError>,
    {
        let found = collection.find_one(id).session(&mut *self.session).await?;
        let record = found.map(|raw| sealed::required::<D>(&raw)?.try_into());
        record.transpose().map_err(|error: StoreError| abort(error))
    }

    async fn raw(
        &mut self,
        collection: &Collection<RawDocumentBuf>,
        filter: Document,
        sort: Document,
        limit: usize,
    ) -> Result<Vec<RawDocumentBuf>, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut found = collection.find(filter).sort(sort).limit(limit).session(&mut *self.session).await?;
        let mut documents = Vec::new();
        while let Some(raw) = found.next(&mut *self.session).await.transpose()? {
            documents.push(raw);
        }
        Ok(documents)
    }

    async fn many<D, T>(
        &mut self,
        collection: &Collection<RawDocumentBuf>,
        filter: Document,
        sort: Document,
        limit: usize,
    ) -> Result<Vec<T>, Error>
    where
        D: Sealed,
        T: TryFrom<D, Error = StoreError>,
    {
        let found = self.raw(collection, filter, sort, limit).await?;
        let record = |raw: &RawDocumentBuf| sealed::required::<D>(raw)?.try_into();
        found.iter().map(|raw| record(raw).map_err(|error: StoreError| abort(error))).collect()
    }

    async fn put<D: Sealed>(
        &mut self,
        collection: &Collection<RawDocumentBuf>,
        id: Document,
        document: &D,
    ) -> Result<(), Error> {
        let document = seal(document).map_err(abort)?;
        collection.replace_one(id, document).upsert(true).session(&mut *self.session).await.map(drop)
    }

    async fn delete<T: Send + Sync>(
        &mut self,
        collection: &Collection<T>,
        id: Document,
    ) -> Result<(), Error> {
        collection.delete_one(id).session(&mut *self.session).await.map(drop)
    }

    /// Newest records of a patient that are not marked.
    async fn newest<D, T>(
        &mut self,
        collection: &Collection<RawDocumentBuf>,
        mrn: Mrn,
    ) -> Result<Vec<T>, Error>
    where
        D: Sealed,
        T: TryFrom<D, Error = StoreError>,
    {
        let filter = doc! { "mrn": documents::number(mrn), "error": { "$exists": false } };
        self.many::<D, T>(collection, filter, doc! { "at": -1, "_id": -1 }, NEWEST).await
    }

    async fn old<D, T>(
        &mut self,
        collection: &Collection<RawDocumentBuf>,
        (mrn, before, limit): (Mrn, Timestamp, usize),
    ) -> Result<Vec<T>, Error>
    where
        D: Sealed,
        T: TryFrom<D, Error = StoreError>,
    {
        let filter = doc! { "mrn": documents::number(mrn), "at": { "$lt": date(before) } };
        self.many::<D, T>(collection, filter, doc! { "at": 1, "_id": 1 }, limit).await
    }

    /// Whether an upload or a stream belonged to an erased patient.
    pub(super) async fn is_erased(&mut self, item: Uuid) -> Result<bool, Error> {
        let erased = &self.db.erased;
        let found = erased.find_one(doc! { "_id": uuid(&item) }).session(&mut *self.session).await?;
        Ok(found.is_some())
    }

    /// The patient that an upload for `addressed_to` is stored with; `None` if the patient or the upload was erased.
    pub(super) async fn receiver(
        &mut self,
        upload: UploadId,
        addressed_to: Mrn,
    ) -> Result<Option<Mrn>, Error> {
        if self.is_erased(*upload.as_uuid()).await? {
            return Ok(None);
        }
        Ok(match begin::fate_of(self, addressed_to).await? {
            None => Some(addressed_to),
            Some(Fate::Merged { into, .. }) => Some(into),
            Some(Fate::Erased { .. }) => None,
        })
    }
}

impl TryFrom<CorrectionDocument> for StoredCorrection {
    type Error = StoreError;
    fn try_from(document: CorrectionDocument) -> Result<Self, StoreError> {
        document.stored()
    }
}

impl TryFrom<FateDocument> for Fate {
    type Error = StoreError;
    fn try_from(document: FateDocument) -> Result<Self, StoreError> {
        document.fate()
    }
}

fn record_id(id: RecordId) -> Document {
    doc! { "_id": documents::record(id) }
}

fn upload_id(id: UploadId) -> Document {
    doc! { "_id": documents::upload(id) }
}

fn correction_id(id: CorrectionId) -> Document {
    doc! { "_id": uuid(id.as_uuid()) }
}

fn item_id(merge: CorrectionId, item: MergedItem) -> String {
    let (kind, id) = item.parts();
    format!("{merge}/{kind}/{id}")
}

impl Transaction for MongoTransaction<'_> {
    type Error = Error;

    async fn patient(&mut self, mrn: Mrn) -> Result<Option<PatientSummary>, Error> {
        patients::find(self.db, self.session, mrn).await
    }

    async fn put_patient(&mut self, patient: &PatientSummary) -> Result<(), Error> {
        let document = documents::PatientDocument::from(patient);
        self.put(&self.db.patients, number(patient.mrn), &document).await
    }

    async fn delete_patient(&mut self, mrn: Mrn) -> Result<(), Error> {
        self.delete(&self.db.patients, number(mrn)).await
    }

    async fn upload(&mut self, id: UploadId) -> Result<Option<StoredUpload>, Error> {
        self.one::<UploadDocument, _>(&self.db.uploads, upload_id(id)).await
    }

    async fn uploads_of(&mut self, mrn: Mrn, limit: usize) -> Result<Vec<StoredUpload>, Error> {
        let filter = doc! { "mrn": documents::number(mrn) };
        self.many::<UploadDocument, _>(&self.db.uploads, filter, doc! { "_id": 1 }, limit).await
    }

    async fn put_upload(&mut self, upload: &StoredUpload) -> Result<(), Error> {
        let id = upload_id(upload.receipt.upload_id);
        let found = self.db.uploads.find_one(id.clone()).session(&mut *self.session).await?;
        let found = found.ok_or_else(|| abort(broken("upload", "it is gone")))?;
        let document: UploadDocument = sealed::required(&found).map_err(abort)?;
        self.put(&self.db.uploads, id, &document.moved(upload)).await
    }

    async fn delete_upload(&mut self, id: UploadId) -> Result<(), Error> {
        self.delete(&self.db.uploads, upload_id(id)).await
    }

    async fn ecg(&mut self, id: RecordId) -> Result<Option<EcgRecord>, Error> {
        self.one::<EcgDocument, _>(&self.db.ecgs, record_id(id)).await
    }

    async fn put_ecg(&mut self, ecg: &EcgRecord) -> Result<(), Error> {
        let options = ecg.signal_options.clone().unwrap_or_default();
        let document = EcgDocument::from(&StoredEcg { record: ecg.clone(), options });
        self.put(&self.db.ecgs, record_id(ecg.id), &document).await
    }

    async fn delete_ecg(&mut self, id: RecordId) -> Result<(), Error> {
        self.delete(&self.db.ecgs, record_id(id)).await
    }

    async fn image(&mut self, id: RecordId) -> Result<Option<ImageRecord>, Error> {
        self.one::<ImageDocument, _>(&self.db.images, record_id(id)).await
    }

    async fn put_image(&mut self, image: &ImageRecord) -> Result<(), Error> {
        self.put(&self.db.images, record_id(image.id), &ImageDocument::from(image)).await
    }

    async fn delete_image(&mut self, id: RecordId) -> Result<(), Error> {
        self.delete(&self.db.images, record_id(id)).await
    }

    async fn rate(&mut self, id: RecordId) -> Result<Option<HeartRateRecord>, Error> {
        self.one::<HeartRateDocument, _>(&self.db.heart_rates, record_id(id)).await
    }

    async fn put_rate(&mut self, _before: &HeartRateRecord, rate: &HeartRateRecord) -> Result<(), Error> {
        self.put(&self.db.heart_rates, record_id(rate.id), &HeartRateDocument::from(rate)).await
    }

    async fn delete_rate(&mut self, rate: &HeartRateRecord) -> Result<(), Error> {
        self.delete(&self.db.heart_rates, record_id(rate.id)).await
    }

    async fn newest_rates(&mut self, mrn: Mrn) -> Result<Vec<HeartRateRecord>, Error> {
        self.newest::<HeartRateDocument, _>(&self.db.heart_rates, mrn).await
    }

    async fn newest_ecgs(&mut self, mrn: Mrn) -> Result<Vec<EcgRecord>, Error> {
        self.newest::<EcgDocument, _>(&self.db.ecgs, mrn).await
    }

    async fn newest_images(&mut self, mrn: Mrn) -> Result<Vec<ImageRecord>, Error> {
        self.newest::<ImageDocument, _>(&self.db.images, mrn).await
    }

    async fn old_rates(
        &mut self,
        mrn: Mrn,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<HeartRateRecord>, Error> {
        self.old::<HeartRateDocument, _>(&self.db.heart_rates, (mrn, before, limit)).await
    }

    async fn old_ecgs(&mut self, mrn: Mrn, before: Timestamp, limit: usize) -> Result<Vec<EcgRecord>, Error> {
        self.old::<EcgDocument, _>(&self.db.ecgs, (mrn, before, limit)).await
    }

    async fn old_images(
        &mut self,
        mrn: Mrn,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<ImageRecord>, Error> {
        self.old::<ImageDocument, _>(&self.db.images, (mrn, before, limit)).await
    }

    async fn former_names(&mut self, mrn: Mrn) -> Result<Vec<FormerName>, Error> {
        let filter = doc! { "mrn": documents::number(mrn) };
        let sort = doc! { "replaced_at": -1, "_id": -1 };
        self.many::<FormerNameDocument, _>(&self.db.former_names, filter, sort, FORMER_NAMES).await
    }

    async fn put_former_name(&mut self, mrn: Mrn, former: &FormerName) -> Result<(), Error> {
        let id = record_id(former.upload_id.record("former_name", 0));
        self.put(&self.db.former_names, id, &FormerNameDocument::new(mrn, former)).await
    }

    async fn delete_former_name(&mut self, _mrn: Mrn, former: &FormerName) -> Result<(), Error> {
        self.delete(&self.db.former_names, record_id(former.upload_id.record("former_name", 0))).await
    }

    async fn release_file(&mut self, key: BlobKey) -> Result<(), Error> {
        blobs::release(self.db, self.session, key.upload, &[key.sha256]).await
    }

    async fn delete_files(&mut self, upload: UploadId, budget: &mut usize) -> Result<bool, Error> {
        blobs::delete_all(self.db, self.session, upload, budget, &mut self.discarded).await
    }

    async fn fate(&mut self, mrn: Mrn) -> Result<Option<Fate>, Error> {
        self.one::<FateDocument, _>(&self.db.fates, number(mrn)).await
    }

    async fn put_fate(&mut self, mrn: Mrn, fate: &Fate) -> Result<(), Error> {
        let document = FateDocument::new(mrn, fate).map_err(abort)?;
        self.put(&self.db.fates, number(mrn), &document).await
    }

    async fn delete_fate(&mut self, mrn: Mrn) -> Result<(), Error> {
        self.delete(&self.db.fates, number(mrn)).await
    }

    async fn put_erased(&mut self, item: Uuid) -> Result<(), Error> {
        let id = doc! { "_id": uuid(&item) };
        let put = self.db.erased.replace_one(id.clone(), id).upsert(true);
        put.session(&mut *self.session).await.map(drop)
    }

    async fn is_held(&mut self, mrn: Mrn) -> Result<bool, Error> {
        let found = self.db.holds.find_one(number(mrn)).session(&mut *self.session).await?;
        Ok(found.is_some())
    }

    async fn set_held(&mut self, mrn: Mrn, held: bool) -> Result<(), Error> {
        if !held {
            return self.delete(&self.db.holds, number(mrn)).await;
        }
        let put = self.db.holds.replace_one(number(mrn), number(mrn)).upsert(true);
        put.session(&mut *self.session).await.map(drop)
    }

    async fn correction(&mut self, id: CorrectionId) -> Result<Option<StoredCorrection>, Error> {
        self.one::<CorrectionDocument, _>(&self.db.corrections, correction_id(id)).await
    }

    async fn put_correction(&mut self, correction: &StoredCorrection) -> Result<(), Error> {
        let document = CorrectionDocument::new(correction).map_err(abort)?;
        self.put(&self.db.corrections, correction_id(correction.correction.id), &document).await
    }

    async fn delete_correction(&mut self, id: CorrectionId) -> Result<(), Error> {
        self.delete(&self.db.corrections, correction_id(id)).await
    }

    async fn corrections_of(&mut self, mrn: Mrn, limit: usize) -> Result<Vec<StoredCorrection>, Error> {
        let filter = doc! { "mrns": documents::number(mrn) };
        let sort = doc! { "at": -1, "_id": -1 };
        self.many::<CorrectionDocument, _>(&self.db.corrections, filter, sort, limit).await
    }

    async fn running(&mut self) -> Result<Vec<StoredCorrection>, Error> {
        let filter = doc! { "running": true };
        self.many::<CorrectionDocument, _>(&self.db.corrections, filter, doc! { "at": 1 }, usize::MAX).await
    }

    async fn put_item(&mut self, merge: CorrectionId, item: MergedItem) -> Result<(), Error> {
        let (kind, id) = item.parts();
        let key = doc! { "_id": item_id(merge, item) };
        let document = doc! {
            "_id": item_id(merge, item),
            "merge": uuid(merge.as_uuid()),
            "kind": kind,
            "item": uuid(&id),
        };
        let put = self.db.merged_items.replace_one(key, document).upsert(true);
        put.session(&mut *self.session).await.map(drop)
    }

    async fn items(&mut self, merge: CorrectionId, limit: usize) -> Result<Vec<MergedItem>, Error> {
        let filter = doc! { "merge": uuid(merge.as_uuid()) };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let items = &self.db.merged_items;
        let mut found =
            items.find(filter).sort(doc! { "_id": 1 }).limit(limit).session(&mut *self.session).await?;
        let mut items = Vec::new();
        while let Some(document) = found.next(&mut *self.session).await.transpose()? {
            let id = match document.get("item") {
                Some(Bson::Binary(binary)) => Uuid::from_slice(&binary.bytes).ok(),
                _ => None,
            };
            let item = document.get_i32("kind").ok().zip(id).and_then(|(kind, id)| MergedItem::of(kind, id));
            items.push(item.ok_or_else(|| abort(broken("merge", "it has moved something unknown")))?);
        }
        Ok(items)
    }

    async fn delete_item(&mut self, merge: CorrectionId, item: MergedItem) -> Result<(), Error> {
        self.delete(&self.db.merged_items, doc! { "_id": item_id(merge, item) }).await
    }

    async fn stream(&mut self, id: StreamId) -> Result<Option<StoredStream>, Error> {
        let id = doc! { "_id": uuid(id.as_uuid()) };
        let found = self.db.waveform_streams.find_one(id).session(&mut *self.session).await?;
        found.as_ref().map(waveforms::stored_stream).transpose().map_err(abort)
    }

    async fn streams_of(&mut self, mrn: Mrn, limit: usize) -> Result<Vec<StoredStream>, Error> {
        let filter = doc! { "mrn": documents::number(mrn) };
        let found =
            self.raw(&self.db.waveform_streams, filter, doc! { "opened_at": 1, "_id": 1 }, limit).await?;
        found.iter().map(waveforms::stored_stream).collect::<Result<_, _>>().map_err(abort)
    }

    async fn move_stream(&mut self, stream: &StoredStream, to: Mrn) -> Result<(), Error> {
        let (id, document) = waveforms::moved(stream, to).map_err(abort)?;
        self.db.waveform_streams.replace_one(id, document).session(&mut *self.session).await.map(drop)
    }

    async fn delete_parts(&mut self, stream: StreamId, budget: &mut usize) -> Result<bool, Error> {
        let db = self.db;
        for parts in [&db.waveform_pieces, &db.waveforms] {
            let limit = (*budget).max(1);
            let filter = doc! { "stream": uuid(stream.as_uuid()) };
            let deleted = self.delete_found(parts, filter, doc! { "_id": 1 }, limit, true).await?;
            *budget = budget.saturating_sub(deleted);
            if deleted == limit {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn delete_stream(&mut self, stream: StreamId) -> Result<(), Error> {
        self.delete(&self.db.waveform_streams, doc! { "_id": uuid(stream.as_uuid()) }).await
    }

    async fn old_parts(
        &mut self,
        stream: &StoredStream,
        before_us: i64,
        limit: usize,
        delete: bool,
    ) -> Result<u64, Error> {
        let (db, mut count) = (self.db, 0);
        for channel in 0..stream.description.channels.len() {
            if count >= limit {
                break;
            }
            let filter = doc! {
                "stream": uuid(stream.description.stream.as_uuid()),
                "channel": i32::try_from(channel).unwrap_or(i32::MAX),
                "to_us": { "$lt": before_us },
            };
            let sort = doc! { "to_us": 1 };
            count += self.delete_found(&db.waveforms, filter, sort, limit - count, delete).await?;
        }
        Ok(count as u64)
    }

    async fn delete_other_data(&mut self, mrn: Mrn) -> Result<(), Error> {
        for name in OTHER_COLLECTIONS {
            let collection = self.db.database.collection::<Document>(name);
            let any = doc! { "$or": [{ "mrn": documents::number(mrn) }, { "_id": documents::number(mrn) }] };
            collection.delete_many(any).session(&mut *self.session).await?;
        }
        let limits = doc! { "_id": LimitScope::Patient { mrn }.to_string() };
        self.db.alarm_limits.delete_many(limits).session(&mut *self.session).await?;
        Ok(())
    }
}

impl MongoTransaction<'_> {
    /// Deletes, or only counts, the first documents of a query. Returns how many.
    async fn delete_found(
        &mut self,
        collection: &Collection<Document>,
        filter: Document,
        sort: Document,
        limit: usize,
        delete: bool,
    ) -> Result<usize, Error> {
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let action = collection.find(filter).sort(sort).limit(most).projection(doc! { "_id": 1 });
        let mut found = action.session(&mut *self.session).await?;
        let mut ids: Vec<Bson> = Vec::new();
        while let Some(document) = found.next(&mut *self.session).await.transpose()? {
            ids.extend(document.get("_id").cloned());
        }
        let count = ids.len();
        if delete && count > 0 {
            let which = doc! { "_id": { "$in": ids } };
            collection.delete_many(which).session(&mut *self.session).await?;
        }
        Ok(count)
    }
}

/// What has become of a number, outside of a transaction.
pub(super) async fn fate_of(db: &Db, mrn: Mrn) -> Result<Option<Fate>, StoreError> {
    let (mut last, mut mrn) = (None, mrn);
    for _ in 0..MAX_CHAIN {
        let found = within(db.limit, db.fates.find_one(number(mrn)).max_time(db.limit)).await?;
        match found.map(|raw| sealed::required::<FateDocument>(&raw)?.fate()).transpose()? {
            None => return Ok(last),
            Some(Fate::Merged { into, merge }) => {
                mrn = into;
                last = Some(Fate::Merged { into, merge });
            }
            Some(erased) => return Ok(Some(erased)),
        }
    }
    Ok(last)
}

pub(super) async fn is_erased(db: &Db, item: Uuid) -> Result<bool, StoreError> {
    let found = db.erased.find_one(doc! { "_id": uuid(&item) }).max_time(db.limit);
    Ok(within(db.limit, found).await?.is_some())
}

/// Streams of patients with a legal hold.
pub(super) async fn held_streams(db: &Db) -> Result<Vec<Bson>, StoreError> {
    let mut streams = Vec::new();
    for held in all(db, db.holds.find(doc! {})).await? {
        let Some(mrn) = held.get("_id") else { continue };
        let of_patient = db.waveform_streams.clone_with_type::<Document>();
        let found = of_patient.find(doc! { "mrn": mrn }).projection(doc! { "_id": 1 });
        streams.extend(all(db, found).await?.iter().filter_map(|stream| stream.get("_id").cloned()));
    }
    Ok(streams)
}

async fn correct(db: &Arc<Db>, new: &NewCorrection) -> Result<CorrectionOutcome, StoreError> {
    let made = transaction::run(db, (&**db, new), |session, (db, new)| {
        async move { begin::begin(&mut MongoTransaction::new(db, session), new).await }.boxed()
    });
    Ok(made.await?)
}

async fn step(db: &Arc<Db>, id: CorrectionId, now: Timestamp) -> Result<CorrectionStep, StoreError> {
    let done = transaction::run(db, &**db, move |session, db| {
        async move {
            let mut tx = MongoTransaction::new(db, session);
            let step = steps::step(&mut tx, id, now).await?;
            Ok((step, tx.discarded))
        }
        .boxed()
    });
    let (step, discarded) = done.await?;
    for entry in discarded {
        blobs::discard(db, &entry).await?;
    }
    Ok(step)
}

async fn finish(db: &Arc<Db>, id: CorrectionId) -> Result<(), StoreError> {
    let done = transaction::run(db, &**db, move |session, db| {
        async move { steps::finish_erasure(&mut MongoTransaction::new(db, session), id).await }.boxed()
    });
    Ok(done.await?)
}

async fn discard_files(db: &Arc<Db>, upload: UploadId) -> Result<(), StoreError> {
    loop {
        let deleted = transaction::run(db, &**db, move |session, db| {
            async move {
                let mut tx = MongoTransaction::new(db, session);
                let done = tx.delete_files(upload, &mut { 64 }).await?;
                Ok((done, tx.discarded))
            }
            .boxed()
        });
        let (done, discarded) = deleted.await?;
        for entry in discarded {
            blobs::discard(db, &entry).await?;
        }
        if done {
            return Ok(());
        }
    }
}

async fn retain_one(
    db: &Arc<Db>,
    rule: RetentionBody,
    mrn: Mrn,
    now: Option<Timestamp>,
) -> Result<Retained, StoreError> {
    let done = transaction::run(db, &**db, move |session, db| {
        async move {
            let tx = &mut MongoTransaction::new(db, session);
            retention::retain(tx, rule.kind, mrn, rule.before, now).await
        }
        .boxed()
    });
    Ok(done.await?)
}

async fn retain(
    db: &Arc<Db>,
    rule: RetentionBody,
    now: Timestamp,
) -> Result<(RetentionReport, Vec<PatientSummary>), StoreError> {
    let mut progress = retention::Progress::new(rule, now);
    loop {
        let page = reading::patients(db, None, progress.last, PATIENTS).await?;
        for patient in page.items {
            while progress.add(patient.mrn, retain_one(db, rule, patient.mrn, progress.apply).await?) {}
            if progress.transactions >= TRANSACTIONS {
                break;
            }
        }
        if progress.is_complete(page.next.is_some()) {
            return Ok(progress.finish());
        }
    }
}

#[async_trait]
impl CorrectionReader for MongoStore {
    async fn fate(&self, mrn: Mrn) -> Result<Option<Fate>, StoreError> {
        calls::run(&self.db, move |db| async move { fate_of(&db, mrn).await }).await
    }

    async fn corrections(&self, mrn: Mrn, limit: usize) -> Result<Vec<Correction>, StoreError> {
        calls::run(&self.db, move |db| async move {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let of_patient = db.corrections.find(doc! { "mrns": documents::number(mrn) });
            let found = all(&db, of_patient.sort(doc! { "at": -1, "_id": -1 }).limit(limit)).await?;
            let correction = |raw: &RawDocumentBuf| {
                let stored = sealed::required::<CorrectionDocument>(raw)?.stored()?;
                Ok::<_, StoreError>(stored.correction)
            };
            found.iter().map(correction).collect()
        })
        .await
    }

    async fn is_erased(&self, item: Uuid) -> Result<bool, StoreError> {
        calls::run(&self.db, move |db| async move { is_erased(&db, item).await }).await
    }
}

#[async_trait]
impl Corrections for MongoStore {
    async fn correct(&self, correction: &NewCorrection) -> Result<CorrectionOutcome, StoreError> {
        let new = correction.clone();
        calls::run(&self.db, move |db| async move { correct(&db, &new).await }).await
    }

    async fn running_corrections(&self) -> Result<Vec<CorrectionId>, StoreError> {
        calls::run(&self.db, move |db| async move {
            let found =
                all(&db, db.corrections.find(doc! { "running": true }).sort(doc! { "at": 1 })).await?;
            let id = |raw: &RawDocumentBuf| {
                let stored = sealed::required::<CorrectionDocument>(raw)?.stored()?;
                Ok::<_, StoreError>(stored.correction.id)
            };
            found.iter().map(id).collect()
        })
        .await
    }

    async fn continue_correction(
        &self,
        id: CorrectionId,
        now: Timestamp,
    ) -> Result<CorrectionStep, StoreError> {
        calls::run(&self.db, move |db| async move { step(&db, id, now).await }).await
    }

    async fn finish_erasure(&self, id: CorrectionId) -> Result<(), StoreError> {
        calls::run(&self.db, move |db| async move { finish(&db, id).await }).await
    }

    async fn discard_files(&self, upload: UploadId) -> Result<(), StoreError> {
        calls::run(&self.db, move |db| async move { discard_files(&db, upload).await }).await
    }

    async fn retain(
        &self,
        rule: RetentionBody,
        now: Timestamp,
    ) -> Result<(RetentionReport, Vec<PatientSummary>), StoreError> {
        calls::run(&self.db, move |db| async move { retain(&db, rule, now).await }).await
    }
}
