//! Backup and restore as one stream of bytes.
//!
//! **Backup.** Writers go on meanwhile. All reads belong to one snapshot session, so the archive is consistent. Collections
//! are read in the reverse order of writing, so that a document is read before the documents that it refers to: even on a
//! server without snapshots, no reference is dangling.
//!
//! **Format.** gzip of a sequence of BSON documents with a tag before each: the header with the schema version; for each collection its name and
//! indexes, its documents, and their number; last the manifest. The manifest has the number of documents and bytes and the
//! SHA-256 of each collection, and the SHA-256 of everything before it. An archive without a manifest is incomplete.
//!
//! **Restore.** The archive is loaded into collections of other names and verified against the manifest, before any stored
//! data are changed. Then these collections replace the others one by one, by renaming. While that goes on, a document in
//! the collection `restore` makes [`PatientReader::check`](crate::PatientReader::check) fail. An interrupted exchange is
//! completed by restoring the same archive again. The caller ensures that there are no other writes during
//! the exchange.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use futures::TryStreamExt;
use mongodb::bson::raw::RawDocumentBuf;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::options::{CollectionOptions, ReadConcern};
use mongodb::{ClientSession, Collection, IndexModel};
use proto_json::{BlobHash, BlobHasher, CorrectionState, Fate};
use serde::{Deserialize, Serialize};

use super::corrections::{CorrectionDocument, FateDocument};
use super::failure::{answer, broken, explain, within};
use super::reading::all;
use super::sealed::{self, seal};
use super::{Db, documents, schema};
use crate::StoreError;

/// Collections in the reverse order of writing. Other collections are read before them.
const READING: [&str; 9] = [
    "uploads",
    "former_names",
    "patients",
    "heart_rates",
    "ecgs",
    "images",
    "blobs.files",
    "blobs.incomplete",
    "blobs.chunks",
];
/// Collections in the order of the exchange.
const EXCHANGING: [&str; 9] = [
    "uploads",
    "blobs.chunks",
    "blobs.files",
    "blobs.incomplete",
    "images",
    "ecgs",
    "heart_rates",
    "patients",
    "former_names",
];
/// Collections of the audit.
const AUDIT: [&str; 2] = ["audit", "audit_heads"];
/// Collections that contain the erasures. Those of the database are carried over to a restored backup.
const ERASURES: [&str; 3] = ["fates", "erased", "corrections"];
/// The collection and the `_id` of the document that marks a running exchange.
pub(super) const STATE: &str = "restore";
pub(super) const EXCHANGE: &str = "exchange";
/// Prefix of the collections that are being loaded.
const LOADING: &str = "restoring.";

const VERSION: i32 = 1;
/// Maximum length of a document. Servers accept 16 MiB.
const DOCUMENT_MAX: usize = 17 << 20;
/// Limits of the documents that are inserted at once: number and bytes.
const BATCH_DOCUMENTS: usize = 1000;
const BATCH_BYTES: usize = 8 << 20;

const HEAD: u8 = b'h';
const COLLECTION: u8 = b'c';
const DOCUMENT: u8 = b'd';
const END: u8 = b'e';
const MANIFEST: u8 = b'm';

/// A backup or restore failed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive cannot be read or written.
    #[error("the backup cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// The archive is damaged or incomplete. No stored data were changed.
    #[error("the backup is not whole: {0}")]
    Damaged(String),
}

fn damaged(what: impl Into<String>) -> ArchiveError {
    ArchiveError::Damaged(what.into())
}

/// Content of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// When the backup began.
    pub created_at: DateTime,
    /// Its collections.
    pub collections: Vec<Part>,
    /// SHA-256 of everything before the manifest.
    pub sha256: BlobHash,
}

/// One collection of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Number of documents.
    pub documents: i64,
    /// Total length of the documents before compression.
    pub bytes: i64,
    /// SHA-256 of all documents.
    pub sha256: BlobHash,
}

impl Manifest {
    /// Number of documents in all collections.
    #[must_use]
    pub fn documents(&self) -> i64 {
        self.collections.iter().map(|part| part.documents).sum()
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    bedside_archive: i32,
    /// Version of the documents.
    schema: i32,
    created_at: DateTime,
}

impl Head {
    fn is_current(&self) -> bool {
        self.bedside_archive == VERSION && self.schema == schema::VERSION
    }
}

#[derive(Serialize, Deserialize)]
struct Opening {
    collection: String,
    indexes: Vec<Document>,
}

/// Counts and hashes the documents of a collection.
struct Counter {
    name: String,
    documents: i64,
    bytes: i64,
    hasher: BlobHasher,
}

impl Counter {
    fn new(name: &str) -> Self {
        Counter { name: name.to_owned(), documents: 0, bytes: 0, hasher: BlobHasher::new() }
    }

    fn take(&mut self, document: &[u8]) {
        self.documents += 1;
        self.bytes += i64::try_from(document.len()).unwrap_or(i64::MAX);
        self.hasher.update(document);
    }

    fn finish(self) -> Part {
        Part { name: self.name, documents: self.documents, bytes: self.bytes, sha256: self.hasher.finish() }
    }
}

/// Writes tagged documents.
struct Writer<W: Write> {
    inner: GzEncoder<W>,
    hasher: BlobHasher,
}

impl<W: Write> Writer<W> {
    fn put(&mut self, tag: u8, document: &[u8]) -> io::Result<()> {
        self.hasher.update(&[tag]);
        self.hasher.update(document);
        self.inner.write_all(&[tag])?;
        self.inner.write_all(document)
    }

    fn put_value<T: Serialize>(&mut self, tag: u8, value: &T) -> Result<(), ArchiveError> {
        let document = mongodb::bson::serialize_to_vec(value).map_err(io::Error::other)?;
        Ok(self.put(tag, &document)?)
    }
}

/// Writes the whole database, compressed by this level of gzip.
pub(super) async fn write(db: &Db, to: impl Write + Send, level: u32) -> Result<Manifest, ArchiveError> {
    let created_at = DateTime::now();
    let inner = GzEncoder::new(to, Compression::new(level.min(9)));
    let mut out = Writer { inner, hasher: BlobHasher::new() };
    out.put_value(HEAD, &Head { bedside_archive: VERSION, schema: schema::VERSION, created_at })?;
    let session = db.database.client().start_session().snapshot(true);
    let mut session = within(db.limit, session).await?;
    let mut collections = Vec::new();
    for name in ordered(names(db).await?, &READING) {
        collections.push(write_collection(db, &mut session, &name, &mut out).await?);
    }
    let hasher = std::mem::take(&mut out.hasher);
    let manifest = Manifest { created_at, collections, sha256: hasher.finish() };
    out.put_value(MANIFEST, &manifest)?;
    out.inner.finish()?.flush()?;
    Ok(manifest)
}

async fn write_collection<W: Write>(
    db: &Db,
    session: &mut ClientSession,
    name: &str,
    out: &mut Writer<W>,
) -> Result<Part, ArchiveError> {
    let snapshot = CollectionOptions::builder().read_concern(ReadConcern::snapshot()).build();
    let collection: Collection<RawDocumentBuf> = db.database.collection_with_options(name, snapshot);
    let indexes: Vec<IndexModel> = within(db.limit, async {
        db.database.collection::<Document>(name).list_indexes().await?.try_collect().await
    })
    .await?;
    let indexes = indexes.iter().map(index_document).collect::<Result<_, _>>()?;
    out.put_value(COLLECTION, &Opening { collection: name.to_owned(), indexes })?;
    let mut cursor = within(db.limit, collection.find(doc! {}).session(&mut *session)).await?;
    let mut counted = Counter::new(name);
    while let Some(document) = {
        let next = async { cursor.next(session).await.transpose() };
        answer(db.limit, next).await?.map_err(|error| explain(&error))?
    } {
        counted.take(document.as_bytes());
        out.put(DOCUMENT, document.as_bytes())?;
    }
    let part = counted.finish();
    out.put_value(END, &doc! { "documents": part.documents })?;
    Ok(part)
}

/// Converts an index to the form of the command `createIndexes`.
fn index_document(index: &IndexModel) -> Result<Document, ArchiveError> {
    let mut document = mongodb::bson::serialize_to_document(index).map_err(io::Error::other)?;
    document.remove("v");
    document.remove("ns");
    Ok(document)
}

/// Names of the collections with data.
async fn names(db: &Db) -> Result<Vec<String>, StoreError> {
    let mut names = within(db.limit, db.database.list_collection_names()).await?;
    names.retain(|name| !name.starts_with("system.") && !name.starts_with(LOADING));
    names.retain(|name| name != STATE && name != schema::SCHEMA);
    names.sort_unstable();
    Ok(names)
}

fn ordered(mut names: Vec<String>, order: &[&str]) -> Vec<String> {
    names.sort_by_key(|name| order.iter().position(|known| known == name).map_or(0, |index| index + 1));
    names
}

/// An element of an archive.
enum Element {
    Collection(Opening),
    Document(RawDocumentBuf),
    End,
    /// The last element. It matches everything that was read.
    Manifest(Manifest),
}

/// Reads and verifies an archive.
struct Reader<R: Read> {
    inner: MultiGzDecoder<R>,
    hasher: BlobHasher,
    open: Option<Counter>,
    seen: Vec<Part>,
}

impl<R: Read> Reader<R> {
    fn open(from: R) -> Result<Self, ArchiveError> {
        let mut archive = Reader {
            inner: MultiGzDecoder::new(from),
            hasher: BlobHasher::new(),
            open: None,
            seen: Vec::new(),
        };
        match archive.tagged() {
            Ok((HEAD, head)) if parsed::<Head>(&head).is_ok_and(|head| head.is_current()) => {
                archive.count(HEAD, &head);
                Ok(archive)
            }
            Ok(_) | Err(ArchiveError::Damaged(_)) => Err(damaged("this is no backup of this version")),
            Err(error) => Err(error),
        }
    }

    fn count(&mut self, tag: u8, document: &RawDocumentBuf) {
        self.hasher.update(&[tag]);
        self.hasher.update(document.as_bytes());
    }

    fn tagged(&mut self) -> Result<(u8, RawDocumentBuf), ArchiveError> {
        let mut head = [0; 5];
        self.fill(&mut head)?;
        let [tag, length @ ..] = head;
        let bytes = usize::try_from(i32::from_le_bytes(length)).unwrap_or(0);
        if !(5..=DOCUMENT_MAX).contains(&bytes) {
            return Err(damaged("a document has an impossible length"));
        }
        let mut document = vec![0; bytes];
        document[..4].copy_from_slice(&length);
        self.fill(&mut document[4..])?;
        let document =
            RawDocumentBuf::from_bytes(document).map_err(|error| damaged(format!("a document: {error}")))?;
        Ok((tag, document))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        self.inner.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged("it ends too early"),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => damaged(error.to_string()),
            _ => ArchiveError::Io(error),
        })
    }

    fn next(&mut self) -> Result<Element, ArchiveError> {
        let (tag, document) = self.tagged()?;
        if tag == MANIFEST {
            return self.finish(&document).map(Element::Manifest);
        }
        self.count(tag, &document);
        match (tag, &mut self.open) {
            (COLLECTION, None) => {
                let opening: Opening = parsed(&document)?;
                self.open = Some(Counter::new(&opening.collection));
                Ok(Element::Collection(opening))
            }
            (DOCUMENT, Some(open)) => {
                open.take(document.as_bytes());
                Ok(Element::Document(document))
            }
            (END, open @ Some(_)) => {
                let part = open.take().map(Counter::finish);
                let part = part.ok_or_else(|| damaged("a collection ends twice"))?;
                self.seen.push(part);
                Ok(Element::End)
            }
            _ => Err(damaged("its parts are not in order")),
        }
    }

    fn finish(&mut self, manifest: &RawDocumentBuf) -> Result<Manifest, ArchiveError> {
        let manifest: Manifest = parsed(manifest)?;
        let seen = std::mem::take(&mut self.hasher).finish();
        if self.open.is_some() || manifest.sha256 != seen || manifest.collections != self.seen {
            return Err(damaged("its content is not what its manifest says"));
        }
        if self.inner.read(&mut [0])? != 0 {
            return Err(damaged("something follows its manifest"));
        }
        Ok(manifest)
    }
}

fn parsed<T: serde::de::DeserializeOwned>(document: &RawDocumentBuf) -> Result<T, ArchiveError> {
    mongodb::bson::deserialize_from_slice(document.as_bytes()).map_err(|error| damaged(error.to_string()))
}

/// Reads an archive and verifies it against its manifest.
///
/// # Errors
/// When it cannot be read, is damaged or incomplete.
pub fn verify(from: impl Read) -> Result<Manifest, ArchiveError> {
    let mut archive = Reader::open(from)?;
    loop {
        if let Element::Manifest(manifest) = archive.next()? {
            return Ok(manifest);
        }
    }
}

/// Loads an archive into collections of other names.
pub(super) async fn load(db: &Db, from: impl Read + Send) -> Result<Manifest, ArchiveError> {
    let mut archive = Reader::open(from)?;
    for name in within(db.limit, db.database.list_collection_names()).await? {
        if name.starts_with(LOADING) {
            within(db.limit, db.database.collection::<Document>(&name).drop()).await?;
        }
    }
    let mut target = None;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    loop {
        match archive.next()? {
            Element::Collection(opening) => target = Some(open_collection(db, opening).await?),
            Element::Document(document) => {
                bytes += document.as_bytes().len();
                batch.push(document);
                if batch.len() >= BATCH_DOCUMENTS || bytes >= BATCH_BYTES {
                    insert(db, target.as_ref(), &mut batch).await?;
                    bytes = 0;
                }
            }
            Element::End => {
                insert(db, target.take().as_ref(), &mut batch).await?;
                bytes = 0;
            }
            Element::Manifest(manifest) => return Ok(manifest),
        }
    }
}

async fn open_collection(db: &Db, opening: Opening) -> Result<Collection<RawDocumentBuf>, ArchiveError> {
    let Opening { collection, indexes } = opening;
    if collection.is_empty() || collection == STATE || collection.starts_with("system.") {
        return Err(damaged(format!("a collection is named {collection:?}")));
    }
    let name = format!("{LOADING}{collection}");
    within(db.limit, db.database.create_collection(&name)).await?;
    let indexes: Vec<Bson> = indexes
        .into_iter()
        .filter(|index| index.get_document("key").is_ok_and(|key| *key != doc! { "_id": 1 }))
        .map(Bson::Document)
        .collect();
    if !indexes.is_empty() {
        let create = doc! { "createIndexes": &name, "indexes": indexes };
        within(db.limit, db.database.run_command(create)).await?;
    }
    Ok(db.database.collection(&name))
}

async fn insert(
    db: &Db,
    target: Option<&Collection<RawDocumentBuf>>,
    batch: &mut Vec<RawDocumentBuf>,
) -> Result<(), ArchiveError> {
    let documents = std::mem::take(batch);
    match target {
        Some(target) if !documents.is_empty() => {
            within(db.limit, target.insert_many(documents).ordered(false)).await?;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The hash of the archive whose exchange was interrupted.
pub(super) async fn interrupted(db: &Db) -> Result<Option<String>, StoreError> {
    let state = db.database.collection::<Document>(STATE);
    let found = within(db.limit, state.find_one(doc! { "_id": EXCHANGE })).await?;
    Ok(found.map(|found| found.get_str("sha256").unwrap_or_default().to_owned()))
}

/// Marks the beginning of the exchange.
pub(super) async fn begin_exchange(db: &Db, manifest: &Manifest) -> Result<(), StoreError> {
    let state = db.database.collection::<Document>(STATE);
    within(db.limit, state.delete_many(doc! {})).await?;
    let mark = doc! {
        "_id": EXCHANGE,
        "sha256": manifest.sha256.to_string(),
        "begun_at": DateTime::now(),
    };
    within(db.limit, state.insert_one(mark)).await.map(drop)
}

/// Adds the erasures of the database to a loaded archive, as running ones: they are applied to it again. Can be repeated,
/// also when a part of the archive has been exchanged.
pub(super) async fn carry_erasures(db: &Db) -> Result<(), StoreError> {
    let loaded = |name: &str| db.database.collection::<RawDocumentBuf>(&format!("{LOADING}{name}"));
    for raw in all(db, db.fates.find(doc! {})).await? {
        let Fate::Erased { erasure, .. } = sealed::required::<FateDocument>(&raw)?.fate()? else { continue };
        let id = doc! { "_id": documents::uuid(erasure.as_uuid()) };
        if let Some(found) = within(db.limit, db.corrections.find_one(id.clone())).await? {
            let mut stored = sealed::required::<CorrectionDocument>(&found)?.stored()?;
            stored.correction.state = CorrectionState::Running;
            let running = seal(&CorrectionDocument::new(&stored)?)?;
            within(db.limit, loaded("corrections").replace_one(id, running).upsert(true)).await?;
        }
        let mrn = raw.get("_id").ok().flatten().and_then(|id| Bson::try_from(id).ok());
        let mrn = mrn.ok_or_else(|| broken("number", "it is missing"))?;
        within(db.limit, loaded("patients").delete_one(doc! { "_id": mrn.clone() })).await?;
        within(db.limit, loaded("fates").replace_one(doc! { "_id": mrn }, raw).upsert(true)).await?;
    }
    let erased = db.database.collection::<Document>(&format!("{LOADING}erased"));
    for item in all(db, db.erased.find(doc! {})).await? {
        within(db.limit, erased.replace_one(item.clone(), item).upsert(true)).await?;
    }
    Ok(())
}

/// The remaining steps of an exchange.
pub(super) async fn steps(db: &Db, manifest: &Manifest) -> Result<Vec<Step>, StoreError> {
    let there = within(db.limit, db.database.list_collection_names()).await?;
    let loaded = there.iter().filter_map(|name| name.strip_prefix(LOADING)).map(str::to_owned).collect();
    // The audit of what happened since the backup stays.
    let has_audit = within(db.limit, db.audit.find_one(doc! {})).await?.is_some();
    let step = |name: String| {
        if has_audit && AUDIT.contains(&name.as_str()) { Step::Discard(name) } else { Step::Replace(name) }
    };
    let mut steps: Vec<Step> = ordered(loaded, &EXCHANGING).into_iter().map(step).collect();
    let kept = |name: &String| manifest.collections.iter().any(|part| part.name == *name);
    let stays = |name: &String| AUDIT.contains(&name.as_str()) || ERASURES.contains(&name.as_str());
    steps.extend(names(db).await?.into_iter().filter(|name| !kept(name) && !stays(name)).map(Step::Drop));
    Ok(steps)
}

/// One step of an exchange.
#[derive(Debug)]
pub(super) enum Step {
    /// Replace the stored collection by the loaded one.
    Replace(String),
    /// Keep the stored collection and drop the loaded one.
    Discard(String),
    /// Drop a stored collection that the archive does not have.
    Drop(String),
}

pub(super) async fn take_step(db: &Db, step: &Step) -> Result<(), StoreError> {
    let database = db.database.name();
    match step {
        Step::Replace(name) => {
            let rename = doc! {
                "renameCollection": format!("{database}.{LOADING}{name}"),
                "to": format!("{database}.{name}"),
                "dropTarget": true,
                "writeConcern": { "w": "majority", "j": true },
            };
            within(db.limit, db.database.client().database("admin").run_command(rename)).await.map(drop)
        }
        Step::Discard(name) => {
            let loaded = db.database.collection::<Document>(&format!("{LOADING}{name}"));
            within(db.limit, loaded.drop()).await
        }
        Step::Drop(name) => within(db.limit, db.database.collection::<Document>(name).drop()).await,
    }
}

/// Marks the end of the exchange.
pub(super) async fn end_exchange(db: &Db) -> Result<(), StoreError> {
    let state = db.database.collection::<Document>(STATE);
    within(db.limit, state.drop()).await
}
