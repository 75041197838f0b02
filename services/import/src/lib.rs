//! Imports patients from the database of the original server.
//!
//! The import sends normal uploads to the gateway, so the same validation and storage code applies. The
//! idempotency key of each upload is derived from the record number and the position in the source list. A
//! second run, or a run after an interruption, therefore changes nothing that is already stored.

mod counts;
mod error;
mod plan;
mod record;
mod send;

use client::Gateway;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::tz::TimeZone;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, Collection};
use serde::Serialize;

pub use counts::Counts;
pub use error::ImportError;
pub use record::{Record, read};

/// Options of an import.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connection string with the database, as in `mongodb://host/patient_db`.
    pub from: String,
    /// Name of the patient collection. `None` selects the only collection of the database.
    pub collection: Option<String>,
    /// Time zone of the original server.
    pub zone: TimeZone,
    /// Number of patients that are imported concurrently. The uploads of one patient are sequential.
    pub concurrency: usize,
    /// Ids (see [`PatientReport::id`]) that an earlier run imported. They are skipped.
    pub done: std::collections::HashSet<String>,
    /// Reads and validates everything, but sends nothing.
    pub dry_run: bool,
}

impl Options {
    /// Options for importing everything in this database.
    #[must_use]
    pub fn new(from: impl Into<String>, concurrency: usize) -> Self {
        Options {
            from: from.into(),
            collection: None,
            zone: TimeZone::system(),
            concurrency,
            done: std::collections::HashSet::new(),
            dry_run: false,
        }
    }
}

/// A value that cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `_id` of the patient in the source database.
    pub id: String,
    /// Path of the value, for example `ecg_image[3]`.
    pub place: String,
    /// Why the value was skipped or how it was changed.
    pub reason: String,
}

/// Result of one patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatientReport {
    /// `_id` in the source database.
    pub id: String,
    /// What was sent.
    pub counts: Counts,
    /// Values that were skipped.
    pub findings: Vec<Finding>,
}

/// Runs the import. Calls `report` once per patient, with the total number of patients.
///
/// # Errors
/// [`ImportError`]. Values that cannot be imported are reported as [`Finding`] and are not errors.
pub async fn run(
    gateway: &Gateway,
    options: &Options,
    mut report: impl FnMut(PatientReport, usize) -> Result<(), ImportError>,
) -> Result<Counts, ImportError> {
    let patients = open(options).await?;
    // Read all ids first, then each patient separately: a cursor over large documents would time out during
    // the uploads.
    let ids = patients.find(doc! {}).projection(doc! { "_id": 1 }).sort(doc! { "_id": 1 }).await?;
    let ids: Vec<Bson> =
        ids.try_filter_map(|found| async move { Ok(found.get("_id").cloned()) }).try_collect().await?;
    let total = ids.len();
    let pending = ids.into_iter().filter(|id| !options.done.contains(&formatted_id(id)));
    let patients = &patients;
    let mut reports = stream::iter(pending)
        .map(|id| async move {
            let Some(document) = patients.find_one(doc! { "_id": &id }).await? else { return Ok(None) };
            import_patient(gateway, options, &id, &document).await.map(Some)
        })
        .buffer_unordered(options.concurrency.max(1));
    let mut counts = Counts::default();
    while let Some(one) = reports.next().await {
        let one: Option<PatientReport> = one?;
        if let Some(one) = one {
            counts.add(one.counts);
            report(one, total)?;
        }
    }
    Ok(counts)
}

async fn import_patient(
    gateway: &Gateway,
    options: &Options,
    id: &Bson,
    document: &Document,
) -> Result<PatientReport, ImportError> {
    let id = formatted_id(id);
    let mut findings = Vec::new();
    let mut find = |place: &str, reason: String| {
        findings.push(Finding { id: id.clone(), place: place.to_owned(), reason });
    };
    let Some(record) = read(document, &options.zone, &mut find) else {
        return Ok(PatientReport { id, counts: Counts::default(), findings });
    };
    let counts =
        if options.dry_run { record.counts() } else { send::all(gateway, record, &mut find).await? };
    Ok(PatientReport { id, counts, findings })
}

async fn open(options: &Options) -> Result<Collection<Document>, ImportError> {
    let mut settings = ClientOptions::parse(&options.from)
        .await
        .map_err(|error| ImportError::Source(format!("--from cannot be read: {error}")))?;
    settings.app_name.get_or_insert_with(|| "bedside-import".to_owned());
    let database = Client::with_options(settings)?.default_database().ok_or_else(|| {
        ImportError::Source("--from must name the database, as in mongodb://host/patient_db".to_owned())
    })?;
    let name = match &options.collection {
        Some(name) => name.clone(),
        None => {
            let mut names = database.list_collection_names().await?;
            names.retain(|name| !name.starts_with("system."));
            names.sort();
            match &mut names[..] {
                [only] => std::mem::take(only),
                [] => return Err(ImportError::Source(format!("the database {} is empty", database.name()))),
                several => {
                    return Err(ImportError::Source(format!(
                        "the database has several collections ({}); select one with --collection",
                        several.join(", ")
                    )));
                }
            }
        }
    };
    Ok(database.collection(&name))
}

/// Formats an id. Strings are quoted, because 7 and "7" are two different patients.
fn formatted_id(id: &Bson) -> String {
    match id {
        Bson::Int32(number) => number.to_string(),
        Bson::Int64(number) => number.to_string(),
        Bson::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}
