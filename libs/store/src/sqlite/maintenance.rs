//! Maintenance of the SQLite file: the sweep of orphaned files and the scrub. The scrub verifies rows by their checksums,
//! files by their hashes, pages and indexes by SQLite's `integrity_check`, and the audit by its chain.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use proto_json::{DamagedRecord, RecordKind, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, ToSql};
use sqlite::{Readers, Table};
use uuid::Uuid;

use crate::{Maintenance, ScrubPosition, ScrubState, ScrubStep, StoreError};

use super::blobs::{self, BlobRow};
use super::failure::broken;
use super::rows::{self, Checked, checked};
use super::{AuditFile, SqliteStore, audit, schema, users};

/// Tables whose rows are verified one by one. Chunks are verified with their files.
const RECORDS: &[Table] = &[
    rows::PATIENTS,
    rows::HEART_RATES,
    rows::ECGS,
    rows::IMAGES,
    rows::UPLOADS,
    rows::WAVE_STREAMS,
    rows::WAVE_PIECES,
    rows::WAVE_HEADS,
    rows::WAVE_SAMPLES,
    rows::ALARMS,
    rows::ALARM_LIMITS,
    rows::ALARM_RULES,
    rows::ALARM_RECEIVERS,
    rows::WARDS,
    rows::BEDS,
    rows::ADMISSIONS,
    rows::CORRECTIONS,
    rows::CORRECTION_PATIENTS,
    rows::FATES,
    rows::ERASED,
    rows::HOLDS,
    rows::MERGED_ITEMS,
    users::USERS,
];

/// The key of a table that has no row ids.
fn key_of(table: &Table) -> Option<&'static [&'static str]> {
    let without_row_ids = [rows::HEART_RATES.name, rows::CORRECTION_PATIENTS.name, rows::MERGED_ITEMS.name];
    let is_keyed =
        without_row_ids.contains(&table.name) || has_text_key(table) || table.name.starts_with("wave_");
    is_keyed.then(|| &table.columns[..table.key])
}

/// Whether the only column of the key is a text.
fn has_text_key(table: &Table) -> bool {
    table.name == users::USERS.name
}

/// Part of the files.
const FILES: &str = "files";

/// Part of the pages and indexes.
const PAGES: &str = "pages";

/// Part of the audit, which is verified in one step.
const AUDIT: &str = "audit";

/// A step ends after this many bytes of files.
const BYTES: u64 = 8 << 20;

/// A database file up to this size is checked page by page as a whole. A larger one is checked table by table, without the
/// chunks of files, because SQLite cannot truncate the write-ahead log while its check runs.
const CHECK_WHOLE_UP_TO: u64 = 1 << 30;

/// Maximum number of messages of SQLite's check.
const MESSAGES: usize = 100;

/// A store that is opened only for a scrub. It takes no lock, so another process may have the store open.
#[derive(Debug)]
pub struct Verifier {
    readers: Readers,
}

impl Verifier {
    /// Opens the file for reading.
    ///
    /// # Errors
    /// When it is missing, cannot be read, or has another version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.is_file() {
            return Err(StoreError::unavailable(format!("there is no file {}", path.display())));
        }
        schema::FORMAT.check(&sqlite::open_reader(path)?)?;
        Ok(Verifier { readers: Readers::new(path) })
    }

    /// Verifies about `records` records after `from`, as [`Maintenance::scrub`].
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn scrub(&self, from: Option<ScrubPosition>, records: usize) -> Result<ScrubStep, StoreError> {
        step(&self.readers, from, records).await
    }

    /// Approximate number of records and files.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn total(&self) -> Result<u64, StoreError> {
        total_of(&self.readers).await
    }
}

#[async_trait]
impl Maintenance for SqliteStore {
    async fn scrub(&self, from: Option<ScrubPosition>, records: usize) -> Result<ScrubStep, StoreError> {
        step(&self.readers, from, records).await
    }

    async fn scrub_total(&self) -> Result<u64, StoreError> {
        total_of(&self.readers).await
    }

    /// Only this process has the file open for writing, so no other one scrubs.
    async fn lease_scrub(&self, _holder: Uuid, _lease: Duration) -> Result<Option<ScrubState>, StoreError> {
        let state = self.readers.read(|connection| {
            let mut state = connection.prepare_cached("SELECT state FROM scrub WHERE id = 1")?;
            Ok::<_, StoreError>(state.query_row([], |row| row.get::<_, String>(0)).optional()?)
        });
        // A state that cannot be read is damaged: the round starts again.
        Ok(Some(state.await?.and_then(|state| rows::parse(&state).ok()).unwrap_or_default()))
    }

    async fn save_scrub(&self, _holder: Uuid, state: &ScrubState) -> Result<(), StoreError> {
        let state = rows::json(state)?;
        self.writer
            .write(move |connection| {
                connection
                    .prepare_cached("INSERT OR REPLACE INTO scrub (id, state) VALUES (1, ?1)")?
                    .execute([state])?;
                Ok(())
            })
            .await
    }

    /// Only this process has the file open for writing, so no other one sweeps.
    async fn lease_sweep(&self, _holder: Uuid, _lease: Duration) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn sweep_orphans(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        blobs::sweep(&self.writer, before, limit).await
    }
}

async fn total_of(readers: &Readers) -> Result<u64, StoreError> {
    let path = audit::beside(readers.path());
    readers.read(move |connection| Ok::<_, StoreError>(total(connection)? + AuditFile::count(&path)?)).await
}

fn total(connection: &Connection) -> Result<u64, StoreError> {
    let mut total = 0;
    for table in RECORDS.iter().map(|table| table.name).chain(["blobs"]) {
        let count: u64 =
            connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
        total += count;
    }
    Ok(total)
}

async fn step(
    readers: &Readers,
    from: Option<ScrubPosition>,
    records: usize,
) -> Result<ScrubStep, StoreError> {
    let records = records.max(1);
    let from = from.unwrap_or_else(|| begin(RECORDS[0].name));
    if let Some(index) = RECORDS.iter().position(|table| table.name == from.part) {
        let (table, after) = (RECORDS[index], from.after.clone());
        let following = RECORDS.get(index + 1).map_or(FILES, |table| table.name);
        let read = readers.read(move |connection| check_rows(connection, &table, after.as_deref(), records));
        return match read.await {
            Ok((mut step, last)) => {
                let after = last.map(|after| ScrubPosition { part: from.part, after: Some(after) });
                step.next = Some(after.unwrap_or_else(|| begin(following)));
                Ok(step)
            }
            // After a page that cannot be read, the next table follows; the check of the pages reports details.
            Err(error @ StoreError::Corrupt(_)) => Ok(ScrubStep {
                checked: 0,
                damaged: vec![format!("{}: {error}", table.name)],
                next: Some(begin(following)),
            }),
            Err(error) => Err(error),
        };
    }
    if from.part == AUDIT {
        return check_audit(readers).await;
    }
    if from.part == FILES {
        return files(readers, from.after.as_deref(), records).await;
    }
    let done: usize = from.after.as_deref().and_then(|after| after.parse().ok()).unwrap_or(0);
    let whole = std::fs::metadata(readers.path()).is_ok_and(|file| file.len() <= CHECK_WHOLE_UP_TO);
    let tables: Vec<&str> = RECORDS.iter().map(|table| table.name).collect();
    let table = if whole { None } else { tables.get(done).copied() };
    let damaged = readers
        .read(move |connection| sqlite::check_pages(connection, table, MESSAGES).map_err(StoreError::from))
        .await?;
    let more = !whole && done + 1 < tables.len();
    let next = if more {
        ScrubPosition { part: PAGES.to_owned(), after: Some((done + 1).to_string()) }
    } else {
        begin(AUDIT)
    };
    let damaged = damaged.into_iter().map(|message| format!("pages of the file: {message}")).collect();
    Ok(ScrubStep { checked: 0, damaged, next: Some(next) })
}

/// Verifies the chain of the audit, if there is one.
async fn check_audit(readers: &Readers) -> Result<ScrubStep, StoreError> {
    let path = audit::beside(readers.path());
    if !path.is_file() {
        return Ok(ScrubStep::default());
    }
    let verified = tokio::task::spawn_blocking(move || AuditFile::verify(&path, None));
    let (checked, defect) = match verified.await.map_err(StoreError::unavailable)? {
        Ok(verdict) => (verdict.verified, verdict.defect),
        Err(error @ (StoreError::Corrupt(_) | StoreError::Damaged(_))) => (0, Some(error.to_string())),
        Err(error) => return Err(error),
    };
    let damaged = defect.into_iter().map(|defect| format!("audit: {defect}")).collect();
    Ok(ScrubStep { checked, damaged, next: None })
}

fn begin(part: &str) -> ScrubPosition {
    ScrubPosition { part: part.to_owned(), after: None }
}

/// Verifies the rows of a table after a key. Returns the last key if more may follow.
fn check_rows(
    connection: &Connection,
    table: &Table,
    after: Option<&str>,
    records: usize,
) -> Result<(ScrubStep, Option<String>), StoreError> {
    // In the order of the table, not of an index.
    let key = key_of(table);
    let order = key.map_or_else(|| "rowid".to_owned(), |key| key.join(", "));
    let select = table.select().replacen(" FROM ", &format!(", {} FROM ", order_text(key)), 1);
    let (condition, values) = match (after, key) {
        (None, _) => (String::new(), Vec::new()),
        (Some(after), Some(key)) => {
            let values = match has_text_key(table) {
                true => vec![Box::new(after.to_owned()) as Box<dyn ToSql>],
                false => parse_key(after, key.len())?,
            };
            (format!(" WHERE ({order}) > ({})", vec!["?"; key.len()].join(", ")), values)
        }
        (Some(after), None) => {
            let rowid: i64 = after.parse().map_err(|error| broken("position", error))?;
            (" WHERE rowid > ?1".to_owned(), vec![Box::new(rowid) as Box<dyn ToSql>])
        }
    };
    let sql = format!("{select}{condition} ORDER BY {order} LIMIT {records}");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    let (mut step, mut last) = (ScrubStep::default(), None);
    while let Some(row) = rows.next()? {
        step.checked += 1;
        let integrity = table.verify(row)?;
        if !integrity.row {
            step.damaged.push(rows::damaged(table, row)?.to_string());
        }
        // A damaged key is no valid position. It is used only if all keys are damaged.
        if integrity.key || last.is_none() {
            last = Some(position_of(table, row)?);
        }
    }
    let more = step.checked as usize == records;
    Ok((step, last.filter(|_| more)))
}

/// The SQL expression for the key of a row as text.
fn order_text(key: Option<&[&str]>) -> String {
    let Some(key) = key else { return "CAST(rowid AS TEXT)".to_owned() };
    let part =
        |column: &&str| format!("CASE typeof({column}) WHEN 'blob' THEN hex({column}) ELSE {column} END");
    key.iter().map(part).collect::<Vec<_>>().join(" || ' ' || ")
}

fn position_of(table: &Table, row: &Row<'_>) -> Result<String, StoreError> {
    Ok(row.get(table.columns.len() + 1)?)
}

/// Reads the text of [`order_text`]. Ids and hashes have at least 32 hexadecimal digits, numbers have fewer digits.
fn parse_key(text: &str, columns: usize) -> Result<Vec<Box<dyn ToSql>>, StoreError> {
    let wrong = || broken("position", text);
    let part = |text: &str| -> Option<Box<dyn ToSql>> {
        if text.len() < 32 {
            return Some(Box::new(text.parse::<i64>().ok()?));
        }
        let byte = |index| u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok();
        Some(Box::new((0..text.len() / 2).map(byte).collect::<Option<Vec<u8>>>()?))
    };
    let values = text.split(' ').map(part).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
    if values.len() == columns { Ok(values) } else { Err(wrong()) }
}

/// Verifies some files after a number.
async fn files(readers: &Readers, after: Option<&str>, records: usize) -> Result<ScrubStep, StoreError> {
    let after: i64 = after.map_or(Ok(i64::MIN), str::parse).map_err(|error| broken("position", error))?;
    let found = readers.read(move |connection| next_files(connection, after, records)).await;
    let found = match found {
        Err(error @ StoreError::Corrupt(_)) => {
            let damaged = vec![format!("files: {error}")];
            return Ok(ScrubStep { checked: 0, damaged, next: Some(begin(PAGES)) });
        }
        found => found?,
    };
    let (mut step, mut bytes, mut last) = (ScrubStep::default(), 0, None);
    let all = found.len() < records;
    let count = found.len();
    for (index, (number, file)) in found.into_iter().enumerate() {
        step.checked += 1;
        last = Some((number, index + 1 == count));
        let file = match file {
            Checked::Damaged(record) => {
                step.damaged.push(record.to_string());
                continue;
            }
            Checked::Intact(file) if !file.is_complete() => continue,
            Checked::Intact(file) => file,
        };
        bytes += file.bytes;
        let body = blobs::read(readers, &file);
        if let Err(error) = body.try_for_each(|_| async { Ok(()) }).await {
            let key = format!("number {number}, sha256 {}", file.sha256);
            let record = DamagedRecord { kind: RecordKind::File, key };
            step.damaged.push(format!("{record} ({error})"));
        }
        if bytes >= BYTES {
            break;
        }
    }
    let next = match last {
        None => begin(PAGES),
        Some((_, true)) if all => begin(PAGES),
        Some((number, _)) => ScrubPosition { part: FILES.to_owned(), after: Some(number.to_string()) },
    };
    step.next = Some(next);
    Ok(step)
}

fn next_files(
    connection: &Connection,
    after: i64,
    most: usize,
) -> Result<Vec<(i64, Checked<BlobRow>)>, StoreError> {
    let sql = format!("{} WHERE number > ?1 ORDER BY number LIMIT ?2", rows::BLOBS.select());
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(rusqlite::params![after, most as i64])?;
    let mut files = Vec::new();
    while let Some(row) = found.next()? {
        files.push((row.get(0)?, checked(&rows::BLOBS, row, BlobRow::read)?));
    }
    Ok(files)
}
