//! The scrub of the SQLite file: rows by their checksums, files by their hashes, pages and indexes by SQLite's own check.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use proto_json::{DamagedRecord, RecordKind};
use rusqlite::{Connection, OptionalExtension, Row, ToSql};
use sqlite::Table;
use uuid::Uuid;

use crate::{Scrub, ScrubPosition, ScrubState, ScrubStep, StoreError};

use super::blobs::{self, BlobRow};
use super::failure::broken;
use super::readers::Readers;
use super::rows::{self, Checked, checked};
use super::{SqliteStore, schema};

/// Tables whose rows are checked one by one. Chunks of files are checked with their files.
const RECORDS: [Table; 5] = [rows::PATIENTS, rows::HEART_RATES, rows::ECGS, rows::IMAGES, rows::UPLOADS];

/// Part of the files.
const FILES: &str = "files";

/// Part of the pages and indexes.
const PAGES: &str = "pages";

/// Bytes of files after which a step ends.
const BYTES: u64 = 8 << 20;

/// A file up to this size is checked page by page as a whole. A larger one is checked table by table, without the chunks
/// of files: SQLite's check holds back the write-ahead log while it runs.
const CHECK_WHOLE_UP_TO: u64 = 1 << 30;

/// Most sentences of SQLite's check.
const SENTENCES: usize = 100;

/// A store that is only checked: without the lock, beside a process that has it open, or alone.
#[derive(Debug)]
pub struct Verifier {
    readers: Readers,
    path: PathBuf,
}

impl Verifier {
    /// Opens the file for reading. Nothing is changed in it.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or is of another version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.is_file() {
            return Err(StoreError::unavailable(format!("there is no file {}", path.display())));
        }
        schema::check_version(&schema::open_reader(path)?)?;
        Ok(Verifier { readers: Readers::new(path.to_owned()), path: path.to_owned() })
    }

    /// Checks about `records` records from `from` on, as [`Scrub::scrub`].
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn scrub(&self, from: Option<ScrubPosition>, records: usize) -> Result<ScrubStep, StoreError> {
        step(&self.readers, &self.path, from, records).await
    }

    /// About how many records and files there are.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn total(&self) -> Result<u64, StoreError> {
        self.readers.read(total).await
    }
}

#[async_trait]
impl Scrub for SqliteStore {
    async fn scrub(&self, from: Option<ScrubPosition>, records: usize) -> Result<ScrubStep, StoreError> {
        step(&self.readers, self.readers.path(), from, records).await
    }

    async fn scrub_total(&self) -> Result<u64, StoreError> {
        self.readers.read(total).await
    }

    /// No other process has the file open for writing, so nobody else scrubs.
    async fn lease_scrub(&self, _holder: Uuid, _lease: Duration) -> Result<Option<ScrubState>, StoreError> {
        let state = self.readers.read(|connection| {
            let mut state = connection.prepare_cached("SELECT state FROM scrub WHERE id = 1")?;
            Ok(state.query_row([], |row| row.get::<_, String>(0)).optional()?)
        });
        // A state that cannot be read is damaged: the round starts anew.
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
}

fn total(connection: &Connection) -> Result<u64, StoreError> {
    let mut total = 0;
    for table in ["patients", "heart_rates", "ecgs", "images", "uploads", "blobs"] {
        let count: u64 =
            connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
        total += count;
    }
    Ok(total)
}

async fn step(
    readers: &Readers,
    path: &Path,
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
            // A page that cannot be read ends this table; the check of the pages says more.
            Err(error @ StoreError::Corrupt(_)) => Ok(ScrubStep {
                checked: 0,
                damaged: vec![format!("{}: {error}", table.name)],
                next: Some(begin(following)),
            }),
            Err(error) => Err(error),
        };
    }
    if from.part == FILES {
        return files(readers, from.after.as_deref(), records).await;
    }
    let done: usize = from.after.as_deref().and_then(|after| after.parse().ok()).unwrap_or(0);
    let whole = std::fs::metadata(path).is_ok_and(|file| file.len() <= CHECK_WHOLE_UP_TO);
    let tables = RECORDS.map(|table| table.name);
    let table = if whole { None } else { tables.get(done).copied() };
    let damaged =
        readers.read(move |connection| Ok(sqlite::check_pages(connection, table, SENTENCES)?)).await?;
    let more = !whole && done + 1 < tables.len();
    let next = more.then(|| ScrubPosition { part: PAGES.to_owned(), after: Some((done + 1).to_string()) });
    let damaged = damaged.into_iter().map(|sentence| format!("pages of the file: {sentence}")).collect();
    Ok(ScrubStep { checked: 0, damaged, next })
}

fn begin(part: &str) -> ScrubPosition {
    ScrubPosition { part: part.to_owned(), after: None }
}

/// Checks the rows of a table after a key. Returns the last key, if there may be more.
fn check_rows(
    connection: &Connection,
    table: &Table,
    after: Option<&str>,
    records: usize,
) -> Result<(ScrubStep, Option<String>), StoreError> {
    // The order of the table itself, not of an index.
    let by_key = table.name == rows::HEART_RATES.name;
    let order = if by_key { "mrn, at, id" } else { "rowid" };
    let select = table.select().replacen(" FROM ", &format!(", {} FROM ", order_text(by_key)), 1);
    let (condition, values) = match after {
        None => (String::new(), Vec::new()),
        Some(after) if by_key => (" WHERE (mrn, at, id) > (?1, ?2, ?3)".to_owned(), history_key(after)?),
        Some(after) => {
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
        // A damaged key would lead to another place. If all are damaged, it is better than none.
        if integrity.key || last.is_none() {
            last = Some(position_of(table, row)?);
        }
    }
    let more = step.checked as usize == records;
    Ok((step, last.filter(|_| more)))
}

/// The key of a row as text, in the order of the table.
fn order_text(by_key: bool) -> &'static str {
    if by_key { "mrn || ' ' || at || ' ' || hex(id)" } else { "CAST(rowid AS TEXT)" }
}

fn position_of(table: &Table, row: &Row<'_>) -> Result<String, StoreError> {
    Ok(row.get(table.columns.len() + 1)?)
}

fn history_key(text: &str) -> Result<Vec<Box<dyn ToSql>>, StoreError> {
    let wrong = || broken("position", text);
    let mut parts = text.split(' ');
    let mut next = || parts.next().ok_or_else(wrong);
    let number = |text: &str| text.parse::<i64>().map_err(|_| wrong());
    let (mrn, at, id) = (number(next()?)?, number(next()?)?, next()?);
    let id = (0..id.len() / 2)
        .map(|index| id.get(index * 2..index * 2 + 2).and_then(|byte| u8::from_str_radix(byte, 16).ok()))
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(wrong)?;
    Ok(vec![Box::new(mrn), Box::new(at), Box::new(id)])
}

/// Checks files, some at a time, after a number.
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
