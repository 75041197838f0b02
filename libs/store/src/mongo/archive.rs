//! Backups: everything that is stored as one stream of bytes, and back.
//!
//! **Writing.** The writers go on meanwhile. All reads belong to one snapshot session, so they show one moment, on replica
//! sets and sharded clusters. Collections are also read in the reverse order of writing, so that whatever a document refers
//! to is read after it: on a server without snapshots the references are complete all the same.
//!
//! **Form.** gzip of a sequence of BSON documents with a tag before each: the head, then for each collection its name with
//! its indexes, its documents, and its end with their number; last the manifest, which has the number of documents and bytes
//! and the SHA-256 of each collection, and the SHA-256 of everything before it. An archive without its manifest is
//! incomplete.
//!
//! **Reading back.** Everything is loaded into collections of other names, and checked against the manifest, before anything
//! that is stored is touched. Then these take the places of the others, one by one, by renaming. A document in the collection
//! `restore` says so while it goes on: [`super::MongoStore::check`] fails as long as it is there. If the exchange is
//! interrupted, loading the same archive again completes it. Nobody may write during the exchange; who restores sees to that.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use futures::TryStreamExt;
use mongodb::bson::raw::RawDocumentBuf;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::options::{CollectionOptions, ReadConcern};
use mongodb::{ClientSession, Collection, IndexModel};
use proto_json::{BlobHash, BlobHasher};
use serde::{Deserialize, Serialize};

use super::Db;
use super::failure::{answer, explain, within};
use crate::StoreError;

/// Collections in the reverse order of writing. Those that are not named here come before them.
const READING: [&str; 9] = [
    "uploads",
    "former_names",
    "patients",
    "heart_rates",
    "ecgs",
    "images",
    "blobs.files",
    "blobs.writing",
    "blobs.chunks",
];
/// The order of the exchange: what is looked at before a file is removed comes before the files.
const EXCHANGING: [&str; 9] = [
    "uploads",
    "blobs.chunks",
    "blobs.files",
    "blobs.writing",
    "images",
    "ecgs",
    "heart_rates",
    "patients",
    "former_names",
];
/// Says that an exchange goes on.
pub(super) const STATE: &str = "restore";
pub(super) const EXCHANGE: &str = "exchange";
/// Collections that are being loaded begin so.
const LOADING: &str = "restoring.";

const VERSION: i32 = 1;
/// Longest document, with some room: servers take 16 MiB.
const DOCUMENT_MAX: usize = 17 << 20;
/// Documents that are inserted at once, by number and by length.
const BATCH_DOCUMENTS: usize = 1000;
const BATCH_BYTES: usize = 8 << 20;

const HEAD: u8 = b'h';
const COLLECTION: u8 = b'c';
const DOCUMENT: u8 = b'd';
const END: u8 = b'e';
const MANIFEST: u8 = b'm';

/// Why a backup was not written or not read back.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive cannot be read or written.
    #[error("the backup cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// The archive is not whole. Nothing that is stored was changed.
    #[error("the backup is not whole: {0}")]
    Damaged(String),
}

fn damaged(what: impl Into<String>) -> ArchiveError {
    ArchiveError::Damaged(what.into())
}

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// When the backup began.
    pub created_at: DateTime,
    /// Each collection.
    pub collections: Vec<Part>,
    /// SHA-256 of everything before the manifest.
    pub sha256: BlobHash,
}

/// One collection of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// How many documents it has.
    pub documents: i64,
    /// Their length together, before compression.
    pub bytes: i64,
    /// SHA-256 of all documents.
    pub sha256: BlobHash,
}

impl Manifest {
    /// Documents of all collections.
    #[must_use]
    pub fn documents(&self) -> i64 {
        self.collections.iter().map(|part| part.documents).sum()
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    bedside_archive: i32,
    created_at: DateTime,
}

#[derive(Serialize, Deserialize)]
struct Opening {
    collection: String,
    indexes: Vec<Document>,
}

/// Hashes what passes.
struct Counted {
    name: String,
    documents: i64,
    bytes: i64,
    hasher: BlobHasher,
}

impl Counted {
    fn new(name: &str) -> Self {
        Counted { name: name.to_owned(), documents: 0, bytes: 0, hasher: BlobHasher::new() }
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
struct Out<W: Write> {
    inner: GzEncoder<W>,
    hasher: BlobHasher,
}

impl<W: Write> Out<W> {
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

/// Writes everything in the database, compressed by this level of gzip.
pub(super) async fn write(db: &Db, to: impl Write + Send, level: u32) -> Result<Manifest, ArchiveError> {
    let created_at = DateTime::now();
    let inner = GzEncoder::new(to, Compression::new(level.min(9)));
    let mut out = Out { inner, hasher: BlobHasher::new() };
    out.put_value(HEAD, &Head { bedside_archive: VERSION, created_at })?;
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
    out: &mut Out<W>,
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
    let mut counted = Counted::new(name);
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

/// An index as the command that creates it takes it.
fn index_document(index: &IndexModel) -> Result<Document, ArchiveError> {
    let mut document = mongodb::bson::serialize_to_document(index).map_err(io::Error::other)?;
    document.remove("v");
    document.remove("ns");
    Ok(document)
}

/// Collections that hold data.
async fn names(db: &Db) -> Result<Vec<String>, StoreError> {
    let mut names = within(db.limit, db.database.list_collection_names()).await?;
    names.retain(|name| !name.starts_with("system.") && !name.starts_with(LOADING) && name != STATE);
    names.sort_unstable();
    Ok(names)
}

fn ordered(mut names: Vec<String>, order: &[&str]) -> Vec<String> {
    names.sort_by_key(|name| order.iter().position(|known| known == name).map_or(0, |place| place + 1));
    names
}

/// One piece of an archive.
enum Piece {
    Collection(Opening),
    Document(RawDocumentBuf),
    End,
    /// The last one, which is as what was read.
    Manifest(Manifest),
}

/// Reads and checks an archive piece by piece.
struct In<R: Read> {
    inner: MultiGzDecoder<R>,
    hasher: BlobHasher,
    open: Option<Counted>,
    seen: Vec<Part>,
}

impl<R: Read> In<R> {
    fn open(from: R) -> Result<Self, ArchiveError> {
        let mut archive =
            In { inner: MultiGzDecoder::new(from), hasher: BlobHasher::new(), open: None, seen: Vec::new() };
        match archive.tagged() {
            Ok((HEAD, head)) if parsed::<Head>(&head).is_ok_and(|head| head.bedside_archive == VERSION) => {
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

    fn next(&mut self) -> Result<Piece, ArchiveError> {
        let (tag, document) = self.tagged()?;
        if tag == MANIFEST {
            return self.finish(&document).map(Piece::Manifest);
        }
        self.count(tag, &document);
        match (tag, &mut self.open) {
            (COLLECTION, None) => {
                let opening: Opening = parsed(&document)?;
                self.open = Some(Counted::new(&opening.collection));
                Ok(Piece::Collection(opening))
            }
            (DOCUMENT, Some(open)) => {
                open.take(document.as_bytes());
                Ok(Piece::Document(document))
            }
            (END, open @ Some(_)) => {
                let part = open.take().map(Counted::finish);
                let part = part.ok_or_else(|| damaged("a collection ends twice"))?;
                self.seen.push(part);
                Ok(Piece::End)
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

/// Reads an archive to its end and checks it against its manifest.
///
/// # Errors
/// When it cannot be read or is not whole.
pub fn verify(from: impl Read) -> Result<Manifest, ArchiveError> {
    let mut archive = In::open(from)?;
    loop {
        if let Piece::Manifest(manifest) = archive.next()? {
            return Ok(manifest);
        }
    }
}

/// Loads an archive into collections of other names. What is stored stays as it is.
pub(super) async fn load(db: &Db, from: impl Read + Send) -> Result<Manifest, ArchiveError> {
    let mut archive = In::open(from)?;
    for name in within(db.limit, db.database.list_collection_names()).await? {
        if name.starts_with(LOADING) {
            within(db.limit, db.database.collection::<Document>(&name).drop()).await?;
        }
    }
    let mut target = None;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    loop {
        match archive.next()? {
            Piece::Collection(opening) => target = Some(open_collection(db, opening).await?),
            Piece::Document(document) => {
                bytes += document.as_bytes().len();
                batch.push(document);
                if batch.len() >= BATCH_DOCUMENTS || bytes >= BATCH_BYTES {
                    insert(db, target.as_ref(), &mut batch).await?;
                    bytes = 0;
                }
            }
            Piece::End => {
                insert(db, target.take().as_ref(), &mut batch).await?;
                bytes = 0;
            }
            Piece::Manifest(manifest) => return Ok(manifest),
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

/// The archive whose exchange was interrupted.
pub(super) async fn interrupted(db: &Db) -> Result<Option<String>, StoreError> {
    let state = db.database.collection::<Document>(STATE);
    let found = within(db.limit, state.find_one(doc! { "_id": EXCHANGE })).await?;
    Ok(found.map(|found| found.get_str("sha256").unwrap_or_default().to_owned()))
}

/// Notes that what is loaded is about to take the place of what is stored.
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

/// The steps of an exchange that are left: a collection that is loaded, or one that the archive does not have.
pub(super) async fn steps(db: &Db, manifest: &Manifest) -> Result<Vec<Step>, StoreError> {
    let there = within(db.limit, db.database.list_collection_names()).await?;
    let loaded = there.iter().filter_map(|name| name.strip_prefix(LOADING)).map(str::to_owned).collect();
    let mut steps: Vec<Step> = ordered(loaded, &EXCHANGING).into_iter().map(Step::Replace).collect();
    let kept = |name: &String| manifest.collections.iter().any(|part| part.name == *name);
    steps.extend(names(db).await?.into_iter().filter(|name| !kept(name)).map(Step::Drop));
    Ok(steps)
}

/// One step of an exchange.
#[derive(Debug)]
pub(super) enum Step {
    /// The loaded collection takes the place of the stored one.
    Replace(String),
    /// The stored collection goes.
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
        Step::Drop(name) => within(db.limit, db.database.collection::<Document>(name).drop()).await,
    }
}

/// Notes that the exchange is complete.
pub(super) async fn end_exchange(db: &Db) -> Result<(), StoreError> {
    let state = db.database.collection::<Document>(STATE);
    within(db.limit, state.drop()).await
}
