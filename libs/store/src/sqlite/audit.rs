//! The audit in a file of its own.
//!
//! Every request waits for its entry, so commits of this file are not synced to the disk: an entry survives the end of the
//! process, and a power failure may remove the last ones. The rest of the chain stays intact. Triggers refuse to change or
//! delete entries.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use proto_json::audit::{AuditBatch, AuditHead, AuditPage, AuditVerdict};
use proto_json::{BlobHash, Timestamp};
use rusqlite::{Connection, OptionalExtension, ToSql};
use sqlite::{ChunkTable, DatabaseFile, Format, Readers, Table, Writer};

use crate::audit::{Chain, NewEvent, StoredEntry, Verification, serialized};
use crate::{AuditFilter, AuditReader, AuditStore, StoreError};

use super::SqliteStore;

static FORMAT: Format = Format {
    name: "audit",
    application_id: 0x4245_4441, // `BEDA`
    first_version: 1,
    migrations: &[include_str!("audit_1.sql")],
    syncs_commits: false,
    checkpoint_pages: 1_000,
    max_log_bytes: 16 << 20,
    truncates_log: false,
    shrinks: false,
    overwrites_free_pages: false,
    // There are no chunked files.
    chunks: ChunkTable {
        table: Table { name: "chunks", columns: &["id"], key: 1, unique: "id" },
        has_checksums: false,
        is_visible: |_, _| Ok(true),
        forget: |_, _| Ok(()),
    },
};

/// The audit file that belongs to a store.
#[must_use]
pub fn beside(store: &Path) -> PathBuf {
    store.with_extension("audit.db")
}

/// The audit in a SQLite file.
#[derive(Debug)]
pub struct AuditFile {
    readers: Readers,
    writer: Writer,
}

impl AuditFile {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let writer = Writer::start(DatabaseFile::open(path, &FORMAT)?, 1, Vec::new())?;
        Ok(AuditFile { readers: Readers::new(path), writer })
    }

    /// Verifies the chain of a file that another process may have open.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn verify(path: &Path, anchor: Option<AuditHead>) -> Result<AuditVerdict, StoreError> {
        let db = sqlite::open_reader(path)?;
        FORMAT.check(&db)?;
        verify(&db, anchor)
    }

    /// Number of entries of a file that another process may have open; 0 if there is no file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn count(path: &Path) -> Result<u64, StoreError> {
        if !path.is_file() {
            return Ok(0);
        }
        Ok(head(&sqlite::open_reader(path)?)?.map_or(0, |head| head.number))
    }
}

fn hash(bytes: &[u8]) -> Result<BlobHash, StoreError> {
    let bytes: [u8; 32] = bytes
        .try_into()
        .map_err(|_| StoreError::Corrupt("a hash of the audit has another length".to_owned()))?;
    Ok(BlobHash::from_bytes(bytes))
}

fn entry(row: &rusqlite::Row<'_>) -> Result<StoredEntry, StoreError> {
    let number: i64 = row.get(0)?;
    let hashed: Vec<u8> = row.get(2)?;
    Ok(StoredEntry { number: number.unsigned_abs(), event: row.get(1)?, hash: hash(&hashed)? })
}

fn head(db: &Connection) -> Result<Option<AuditHead>, StoreError> {
    let found = db
        .prepare_cached("SELECT number, hash FROM head")?
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))
        .optional()?;
    found
        .map(|(number, bytes)| Ok(AuditHead { number: number.unsigned_abs(), hash: hash(&bytes)? }))
        .transpose()
}

fn append(db: &Connection, gateway: uuid::Uuid, batch: u64, events: &[NewEvent]) -> Result<(), StoreError> {
    let batch = i64::try_from(batch).map_err(|_| StoreError::Corrupt("the number of a batch".to_owned()))?;
    let stored: Option<i64> = db
        .prepare_cached("SELECT batch FROM batches WHERE gateway = ?1")?
        .query_row([gateway.as_bytes().as_slice()], |row| row.get(0))
        .optional()?;
    if stored.is_some_and(|stored| stored >= batch) {
        return Ok(());
    }
    let mut chain = Chain::after(head(db)?);
    let mut insert = db.prepare_cached(
        "INSERT INTO audit (number, at, mrn, client, event, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for event in events {
        let entry = chain.append(&event.event);
        let mrn = event.mrn.map(|mrn| mrn.get().cast_signed());
        insert.execute((
            entry.number.cast_signed(),
            event.at.as_millis(),
            mrn,
            &event.client,
            &event.event,
            entry.hash.as_bytes().as_slice(),
        ))?;
    }
    db.prepare_cached("INSERT OR REPLACE INTO head (id, number, hash) VALUES (1, ?1, ?2)")?
        .execute((chain.number.cast_signed(), chain.hash.as_bytes().as_slice()))?;
    db.prepare_cached("INSERT OR REPLACE INTO batches (gateway, batch, at) VALUES (?1, ?2, ?3)")?
        .execute((gateway.as_bytes().as_slice(), batch, Timestamp::now().as_millis()))?;
    Ok(())
}

fn list(db: &Connection, filter: &AuditFilter) -> Result<AuditPage, StoreError> {
    let before = filter.before.map_or(i64::MAX, u64::cast_signed);
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX).saturating_add(1);
    let mrn = filter.mrn.map(|mrn| mrn.get().cast_signed());
    let (from, to) = (filter.from.map(Timestamp::as_millis), filter.to.map(Timestamp::as_millis));
    let mut conditions = vec!["number < ?1".to_owned()];
    let mut values: Vec<&dyn ToSql> = vec![&before, &limit];
    let optional: [(&str, Option<&dyn ToSql>); 4] = [
        ("mrn =", mrn.as_ref().map(|mrn| mrn as &dyn ToSql)),
        ("client =", filter.client.as_ref().map(|client| client as &dyn ToSql)),
        ("at >=", from.as_ref().map(|from| from as &dyn ToSql)),
        ("at <", to.as_ref().map(|to| to as &dyn ToSql)),
    ];
    for (condition, value) in optional {
        if let Some(value) = value {
            values.push(value);
            conditions.push(format!("{condition} ?{}", values.len()));
        }
    }
    let statement = format!(
        "SELECT number, event, hash FROM audit WHERE {} ORDER BY number DESC LIMIT ?2",
        conditions.join(" AND ")
    );
    let mut statement = db.prepare_cached(&statement)?;
    let mut found = statement.query(values.as_slice())?;
    let mut items = Vec::new();
    while let Some(row) = found.next()? {
        items.push(entry(row)?.parse()?);
    }
    let has_more = items.len() > filter.limit;
    items.truncate(filter.limit);
    let next = items.last().filter(|_| has_more).map(|last| last.number);
    Ok(AuditPage { items, next })
}

fn verify(db: &Connection, anchor: Option<AuditHead>) -> Result<AuditVerdict, StoreError> {
    // One transaction, so that the head belongs to the entries that are read.
    db.execute_batch("BEGIN")?;
    let verified = (|| {
        let head = head(db)?;
        let mut verification = Verification::new(anchor);
        let mut statement = db.prepare("SELECT number, event, hash FROM audit ORDER BY number")?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            if !verification.check(&entry(row)?) {
                break;
            }
        }
        Ok(verification.end(head))
    })();
    db.execute_batch("COMMIT")?;
    verified
}

#[async_trait]
impl AuditReader for AuditFile {
    async fn audit(&self, filter: AuditFilter) -> Result<AuditPage, StoreError> {
        self.readers.read(move |db| list(db, &filter)).await
    }

    async fn audit_head(&self) -> Result<Option<AuditHead>, StoreError> {
        self.readers.read(head).await
    }

    async fn verify_audit(&self, anchor: Option<AuditHead>) -> Result<AuditVerdict, StoreError> {
        self.readers.read(move |db| verify(db, anchor)).await
    }
}

#[async_trait]
impl AuditStore for AuditFile {
    async fn append_audit(&self, batch: AuditBatch) -> Result<(), StoreError> {
        let AuditBatch { gateway, batch, events } = batch;
        let events = serialized(events)?;
        self.writer.write(move |db| append(db, gateway, batch, &events)).await
    }
}

#[async_trait]
impl AuditReader for SqliteStore {
    async fn audit(&self, filter: AuditFilter) -> Result<AuditPage, StoreError> {
        self.audit.audit(filter).await
    }

    async fn audit_head(&self) -> Result<Option<AuditHead>, StoreError> {
        self.audit.audit_head().await
    }

    async fn verify_audit(&self, anchor: Option<AuditHead>) -> Result<AuditVerdict, StoreError> {
        self.audit.verify_audit(anchor).await
    }
}

#[async_trait]
impl AuditStore for SqliteStore {
    async fn append_audit(&self, batch: AuditBatch) -> Result<(), StoreError> {
        self.audit.append_audit(batch).await
    }
}
