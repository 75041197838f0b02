//! Reads of single records, histories and the list of patients.

use futures::TryStreamExt;
use mongodb::Collection;
use mongodb::action::Find;
use mongodb::bson::raw::CString;
use mongodb::bson::{Document, RawDocument, RawDocumentBuf, Regex, cstr, doc};
use proto_json::{CLOCK_TOLERANCE_MS, Cursor, FormerName, Mrn, Page, PatientSummary, Timestamp};
use serde::de::DeserializeOwned;

use crate::records::Position;
use crate::search::Search;
use crate::{PendingEcg, StoreError};

use super::Db;
use super::documents::{self, EcgDocument, FormerNameDocument, PatientDocument, date};
use super::failure::{answer, explain, within};
use super::sealed::{self, Sealed, unseal};

pub(super) async fn patient(db: &Db, mrn: Mrn) -> Result<Option<PatientSummary>, StoreError> {
    let action = db.patients.find_one(doc! { "_id": documents::number(mrn) }).max_time(db.limit);
    within(db.limit, action).await?.map(|raw| record::<PatientDocument, _>(&raw)).transpose()
}

pub(super) async fn patients(
    db: &Db,
    search: Option<&Search>,
    after: Option<Mrn>,
    limit: usize,
) -> Result<Page<PatientSummary>, StoreError> {
    let mut filter = search.map(matching).unwrap_or_default();
    if let Some(mrn) = after {
        filter.insert("_id", doc! { "$gt": documents::number(mrn) });
    }
    let action = db.patients.find(filter).sort(doc! { "_id": 1 }).limit((limit + 1) as i64);
    let found = all(db, action).await?;
    page_of::<PatientDocument, _>(found, limit, |patient: &PatientSummary| Cursor::Patient(patient.mrn))
}

/// The filter of a search.
fn matching(search: &Search) -> Document {
    let mut any = Vec::new();
    match CString::try_from(literal(&search.name)) {
        Ok(pattern) => any.push(doc! { "name_key": Regex { pattern, options: cstr!("").into() } }),
        // A pattern cannot contain a zero character, and neither can a name: nothing matches.
        Err(_) => any.push(doc! { "_id": { "$lt": 0_i64 } }),
    }
    if let Some(prefix) = &search.number {
        any.extend(
            number_ranges(prefix)
                .into_iter()
                .map(|(first, last)| doc! { "_id": { "$gte": first, "$lte": last } }),
        );
    }
    doc! { "$or": any }
}

/// Escapes text for a regular expression.
fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii_punctuation() {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}

/// Ranges of the numbers that start with these digits: for `12`, they are 12, 120 to 129, 1200 to 1299, and so on.
fn number_ranges(prefix: &str) -> Vec<(i64, i64)> {
    let last_mrn = Mrn::MAX as i64;
    let Ok(number) = prefix.parse::<i64>() else { return Vec::new() };
    if prefix.starts_with('0') {
        // Only the number 0 starts with a zero.
        return if prefix == "0" { vec![(0, 0)] } else { Vec::new() };
    }
    let (mut first, mut last) = (number, number);
    let mut ranges = Vec::new();
    while first <= last_mrn {
        ranges.push((first, last.min(last_mrn)));
        (first, last) = (first * 10, last * 10 + 9);
    }
    ranges
}

pub(super) async fn mrns(db: &Db) -> Result<Vec<Mrn>, StoreError> {
    mrns_where(db, doc! {}).await
}

/// Numbers of the patients that match the filter, ascending.
pub(super) async fn mrns_where(db: &Db, filter: Document) -> Result<Vec<Mrn>, StoreError> {
    let patients = db.patients.clone_with_type::<Document>();
    let action =
        patients.find(filter).projection(doc! { "_id": 1 }).sort(doc! { "_id": 1 }).max_time(db.limit);
    let number = |patient: Document| {
        let number = patient.get_i64("_id").map_err(|error| super::failure::broken("patient", error))?;
        documents::mrn(number)
    };
    all(db, action).await?.into_iter().map(number).collect()
}

/// The newest former names of a patient.
pub(super) async fn former_names(db: &Db, mrn: Mrn, limit: usize) -> Result<Vec<FormerName>, StoreError> {
    let filter = doc! { "mrn": documents::number(mrn) };
    let order = doc! { "replaced_at": -1, "_id": -1 };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let action = db.former_names.find(filter).sort(order).limit(limit);
    let found = all(db, action).await?;
    found.iter().map(|raw| record::<FormerNameDocument, _>(raw)).collect()
}

/// One page of a history, newest first.
pub(super) async fn history<D, T>(
    db: &Db,
    collection: &Collection<RawDocumentBuf>,
    (mrn, after, limit): (Mrn, Option<Position>, usize),
    place: impl Fn(&T) -> Position,
) -> Result<Page<T>, StoreError>
where
    D: Sealed,
    T: TryFrom<D, Error = StoreError>,
{
    let mut filter = doc! { "mrn": documents::number(mrn) };
    if let Some((at, id)) = after {
        // The first condition bounds the index scan; the second decides between equal times.
        let at = date(at);
        filter.insert("at", doc! { "$lte": at });
        filter.insert(
            "$or",
            vec![doc! { "at": { "$lt": at } }, doc! { "_id": { "$lt": documents::record(id) } }],
        );
    }
    let action = collection.find(filter).sort(doc! { "at": -1, "_id": -1 }).limit((limit + 1) as i64);
    let found = all(db, action).await?;
    page_of::<D, T>(found, limit, |item| {
        let (at, id) = place(item);
        Cursor::Record(at, id)
    })
}

/// Makes a page of documents that were read with one more than the limit. Damaged ones are listed by their keys.
pub(super) fn page_of<D, T>(
    mut found: Vec<RawDocumentBuf>,
    limit: usize,
    cursor: impl Fn(&T) -> Cursor,
) -> Result<Page<T>, StoreError>
where
    D: Sealed,
    T: TryFrom<D, Error = StoreError>,
{
    let more = found.len() > limit;
    found.truncate(limit);
    let mut page = Page { items: Vec::new(), next: None, damaged: Vec::new() };
    for raw in found {
        match unseal::<D>(&raw) {
            Ok(document) => page.items.push(document.try_into()?),
            Err(damaged) => page.damaged.push(damaged),
        }
    }
    if more {
        page.next = page.items.last().map(cursor);
        if let (None, Some(damaged)) = (page.next, page.damaged.pop()) {
            // No cursor leads past them.
            return Err(StoreError::Damaged(damaged));
        }
    }
    Ok(page)
}

/// Converts a stored document, which must be intact, to its record.
fn record<D, T>(raw: &RawDocument) -> Result<T, StoreError>
where
    D: Sealed,
    T: TryFrom<D, Error = StoreError>,
{
    sealed::required::<D>(raw)?.try_into()
}

/// One record by its id.
pub(super) async fn one<D, T>(
    db: &Db,
    collection: &Collection<RawDocumentBuf>,
    id: proto_json::RecordId,
) -> Result<Option<T>, StoreError>
where
    D: Sealed,
    T: TryFrom<D, Error = StoreError>,
{
    let action = collection.find_one(doc! { "_id": documents::record(id) }).max_time(db.limit);
    let found = within(db.limit, action).await?;
    found.map(|raw| record::<D, T>(&raw)).transpose()
}

/// ECGs that wait for their analysis. Damaged ones are left out: they cannot be analysed.
pub(super) async fn pending(
    db: &Db,
    before: Timestamp,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<PendingEcg>, StoreError> {
    let mut found = pending_by(db, doc! { "$lt": date(before) }, limit).await?;
    let in_future = date(now.plus_millis(CLOCK_TOLERANCE_MS));
    found.extend(pending_by(db, doc! { "$gt": in_future }, limit - found.len()).await?);
    Ok(found)
}

async fn pending_by(db: &Db, received_at: Document, limit: usize) -> Result<Vec<PendingEcg>, StoreError> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let action = db
        .ecgs
        .find(doc! { "status": "pending", "received_at": received_at })
        .sort(doc! { "received_at": 1, "_id": 1 })
        .limit(i64::try_from(limit).unwrap_or(i64::MAX));
    let mut pending = Vec::new();
    for raw in all(db, action).await? {
        match unseal::<EcgDocument>(&raw) {
            Ok(ecg) => pending.push(ecg.try_into()?),
            Err(record) => tracing::error!(kind = record.kind.name(), "a damaged ECG is not analysed"),
        }
    }
    Ok(pending)
}

/// Reads what a query finds, to its end. The limit applies on the server, too.
pub(super) async fn all<D>(db: &Db, action: Find<'_, D>) -> Result<Vec<D>, StoreError>
where
    D: DeserializeOwned + Send + Sync + Unpin,
{
    let mut cursor = within(db.limit, action.max_time(db.limit)).await?;
    let mut items = Vec::new();
    while let Some(document) = answer(db.limit, cursor.try_next()).await?.map_err(|error| explain(&error))? {
        items.push(document);
    }
    Ok(items)
}
