//! Moves patients out of the database of the original server into a Bedside.
//!
//! Everything goes through the gateway, as every other upload does: the same checks, the same way of storing, nothing to
//! keep in step. Each upload has a key that follows from the patient's number and the place in the old lists, so that a
//! second run, or one after an interruption, changes nothing that is there.

mod plan;
mod record;
mod send;

use std::path::PathBuf;

use client::{ClientError, Gateway};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::tz::TimeZone;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, Collection};
use serde::Serialize;

pub use record::{Record, read};

/// What to move.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connection string with the database, as in `mongodb://host/patient_db`.
    pub from: String,
    /// The collection of patients; `None` if there is one collection only.
    pub collection: Option<String>,
    /// Where the clock of the original server stood.
    pub zone: TimeZone,
    /// Patients moved at the same time; the uploads of one patient go one after the other.
    pub concurrency: usize,
    /// Ids (as [`Outcome::id`]) that were moved before and are left out.
    pub done: std::collections::HashSet<String>,
    /// Reads and judges everything, sends nothing.
    pub dry_run: bool,
}

impl Options {
    /// Everything in this database.
    #[must_use]
    pub fn new(from: impl Into<String>) -> Self {
        Options {
            from: from.into(),
            collection: None,
            zone: TimeZone::system(),
            concurrency: 4,
            done: std::collections::HashSet::new(),
            dry_run: false,
        }
    }
}

/// Something that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `_id` of the patient in the old database.
    pub id: String,
    /// Where it is, as in `ecg_image[3]`.
    pub place: String,
    /// Why it was not taken, or what was done about it.
    pub reason: String,
}

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Patients.
    pub patients: u64,
    /// Pictures of ECGs.
    pub ecg_images: u64,
    /// Heart rates.
    pub heart_rates: u64,
    /// Medical images.
    pub medical_images: u64,
}

impl Counts {
    /// Adds those of another patient.
    pub fn add(&mut self, other: Counts) {
        self.patients += other.patients;
        self.ecg_images += other.ecg_images;
        self.heart_rates += other.heart_rates;
        self.medical_images += other.medical_images;
    }
}

/// What became of one patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `_id` in the old database.
    pub id: String,
    /// What was sent.
    pub counts: Counts,
    /// What could not be taken.
    pub findings: Vec<Finding>,
}

/// Why moving stopped. What was moved stays; a further run goes on.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The old database cannot be found in the connection string.
    #[error("{0}")]
    Source(String),
    /// The old database cannot be read.
    #[error("the old database cannot be read: {0}")]
    Read(#[from] mongodb::error::Error),
    /// The gateway takes nothing (any more).
    #[error("{0}; run the same command again to go on where it stopped")]
    Gateway(#[from] ClientError),
    /// What became of a patient could not be noted.
    #[error("{} cannot be written: {cause}", path.display())]
    Note {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
}

/// Moves everything. `outcome` hears of each patient, and of how many there are.
///
/// # Errors
/// [`ImportError`]; that single values cannot be taken is none.
pub async fn run(
    gateway: &Gateway,
    options: &Options,
    mut outcome: impl FnMut(Outcome, usize) -> Result<(), ImportError>,
) -> Result<Counts, ImportError> {
    let patients = open(options).await?;
    // Numbers first, then each patient alone: a cursor over large documents would time out while they are sent.
    let ids = patients.find(doc! {}).projection(doc! { "_id": 1 }).sort(doc! { "_id": 1 }).await?;
    let ids: Vec<Bson> =
        ids.try_filter_map(|found| async move { Ok(found.get("_id").cloned()) }).try_collect().await?;
    let total = ids.len();
    let left = ids.into_iter().filter(|id| !options.done.contains(&shown(id)));
    let patients = &patients;
    let mut moved = stream::iter(left)
        .map(|id| async move {
            let Some(document) = patients.find_one(doc! { "_id": &id }).await? else { return Ok(None) };
            move_one(gateway, options, &id, &document).await.map(Some)
        })
        .buffer_unordered(options.concurrency.max(1));
    let mut counts = Counts::default();
    while let Some(one) = moved.next().await {
        let one: Option<Outcome> = one?;
        if let Some(one) = one {
            counts.add(one.counts);
            outcome(one, total)?;
        }
    }
    Ok(counts)
}

async fn move_one(
    gateway: &Gateway,
    options: &Options,
    id: &Bson,
    document: &Document,
) -> Result<Outcome, ImportError> {
    let shown = shown(id);
    let mut findings = Vec::new();
    let mut find = |place: &str, reason: String| {
        findings.push(Finding { id: shown.clone(), place: place.to_owned(), reason });
    };
    let Some(record) = read(document, &options.zone, &mut find) else {
        return Ok(Outcome { id: shown, counts: Counts::default(), findings });
    };
    let counts =
        if options.dry_run { record.counts() } else { send::all(gateway, record, &mut find).await? };
    Ok(Outcome { id: shown, counts, findings })
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
                        "name the collection of patients with --collection; there are {}",
                        several.join(", ")
                    )));
                }
            }
        }
    };
    Ok(database.collection(&name))
}

/// Numbers as they are, texts in quotes: 7 and "7" are two patients.
fn shown(id: &Bson) -> String {
    match id {
        Bson::Int32(number) => number.to_string(),
        Bson::Int64(number) => number.to_string(),
        Bson::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}
