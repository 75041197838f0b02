//! The summary of a patient: read, changed in memory and replaced, within a transaction.
//!
//! The checksum of a document covers all of it, so the server cannot change single fields. A transaction that meets another
//! one on the same patient is repeated. Writers of one process wait for each other instead: see [`Db::patient_turn`].

use futures::FutureExt;
use mongodb::ClientSession;
use mongodb::bson::doc;
use mongodb::error::Error;
use proto_json::{Mrn, PatientSummary, Timestamp};

use crate::{StoreError, records};

use super::Db;
use super::documents::{self, PatientDocument};
use super::failure::broken;
use super::sealed::{self, seal};
use super::transaction::{self, abort};

/// Reads a patient within a transaction.
pub(super) async fn find(
    db: &Db,
    session: &mut ClientSession,
    mrn: Mrn,
) -> Result<Option<PatientSummary>, Error> {
    let found = db.patients.find_one(doc! { "_id": documents::number(mrn) }).session(session).await?;
    let patient = found.map(|raw| sealed::required::<PatientDocument>(&raw)?.try_into());
    patient.transpose().map_err(|error: StoreError| abort(error))
}

/// Inserts a patient, or replaces the document that the same transaction has read.
pub(super) async fn write(
    db: &Db,
    session: &mut ClientSession,
    patient: &PatientSummary,
    is_new: bool,
) -> Result<(), Error> {
    let document = seal(&PatientDocument::from(patient)).map_err(abort)?;
    if is_new {
        return db.patients.insert_one(document).session(session).await.map(drop);
    }
    let id = doc! { "_id": documents::number(patient.mrn) };
    let replaced = db.patients.replace_one(id, document).session(session).await?;
    if replaced.matched_count == 0 {
        return Err(abort(broken("patient", "it is gone")));
    }
    Ok(())
}

/// Marks latest records of a patient whose time is in the future. `None` if there are none that are not marked.
pub(super) async fn mark_clock_wrong(
    db: &Db,
    mrn: Mrn,
    now: Timestamp,
) -> Result<Option<PatientSummary>, StoreError> {
    let _turn = db.patient_turn(mrn).lock().await;
    let marked = transaction::run(db, db, |session, db| {
        async move {
            let Some(mut patient) = find(db, session, mrn).await? else { return Ok(None) };
            if !records::mark_clock_wrong(&mut patient, now) {
                return Ok(None);
            }
            patient.version += 1;
            write(db, session, &patient, false).await?;
            Ok(Some(patient))
        }
        .boxed()
    });
    Ok(marked.await?)
}
