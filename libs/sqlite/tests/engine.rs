//! The engine on a small format: opening, group commit, chunked files and copies.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use rusqlite::Connection;
use sqlite::{
    CHUNK, Chunk, ChunkError, ChunkTable, DatabaseFile, Error, Format, PART, Priority, Readers, Table,
    UnfinishedFile, Writer, snapshot,
};

static FORMAT: Format = Format {
    name: "test",
    application_id: 77,
    first_version: 2,
    migrations: &[
        "CREATE TABLE notes (text TEXT NOT NULL);
         CREATE TABLE files (id INTEGER PRIMARY KEY);
         CREATE TABLE chunks (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL, checksum INTEGER NOT NULL);",
        "ALTER TABLE notes ADD COLUMN author TEXT",
    ],
    syncs_commits: true,
    checkpoint_pages: 100,
    max_log_bytes: 1 << 20,
    truncates_log: true,
    overwrites_free_pages: false,
    shrinks: true,
    chunks: ChunkTable {
        table: Table { name: "chunks", columns: &["id", "bytes"], key: 1, unique: "id" },
        has_checksums: true,
        is_visible: |db, file| {
            db.query_row("SELECT count(*) > 0 FROM files WHERE id = ?1", [file], |row| row.get(0))
        },
        forget: |_, _| Ok(()),
    },
};

struct Fixture {
    folder: tempfile::TempDir,
    writer: Writer,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let writer = start(&folder.path().join("data.db"));
        Fixture { folder, writer }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("data.db")
    }

    /// Keeps the writer busy until the channel is used or dropped.
    async fn block(&self) -> mpsc::Sender<()> {
        let (go_on, wait) = mpsc::channel::<()>();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let busy = move |_: &Connection| {
            begun.send(()).unwrap();
            let _ = wait.recv();
            Ok::<_, Error>(())
        };
        self.writer.submit(Priority::Normal, 0, busy, |_| {});
        begins.await.unwrap();
        go_on
    }

    async fn note(&self, text: &'static str) -> Result<(), Error> {
        self.writer.write(note(text)).await
    }

    /// Waits until at most this many files have chunks.
    async fn until_files(&self, most: usize) {
        let started = Instant::now();
        while self.writer.write(|db| Ok::<_, Error>(FORMAT.chunks.files(db)?)).await.unwrap().len() > most {
            assert!(started.elapsed() < Duration::from_secs(60), "chunks are not removed");
        }
    }

    /// The notes and the files that have chunks.
    fn contents(&self) -> (Vec<String>, Vec<i64>) {
        let db = sqlite::open_reader(&self.path()).unwrap();
        let mut notes = db.prepare("SELECT text FROM notes ORDER BY rowid").unwrap();
        let notes = notes.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        (notes, FORMAT.chunks.files(&db).unwrap())
    }
}

fn open(path: &Path) -> Result<DatabaseFile, Error> {
    DatabaseFile::open(path, &FORMAT)
}

fn start(path: &Path) -> Writer {
    Writer::start(open(path).unwrap(), 1, Vec::new()).unwrap()
}

fn note(text: &'static str) -> impl FnOnce(&Connection) -> Result<(), Error> + use<> {
    move |db| Ok(db.execute("INSERT INTO notes (text) VALUES (?1)", [text]).map(drop)?)
}

fn part() -> Bytes {
    Bytes::from(vec![7; PART])
}

#[tokio::test]
async fn parts_of_large_files_are_written_one_by_one_after_small_writes() {
    let fixture = Fixture::new();
    let go_on = fixture.block().await;
    let (mut first, mut second) =
        (UnfinishedFile::new(&fixture.writer), UnfinishedFile::new(&fixture.writer));
    let first = first.append(part(), note("first part"));
    let second = second.append(part(), note("second part"));
    let small = async {
        let mut written = std::pin::pin!(fixture.note("small"));
        // Polled once, so that the write is queued.
        assert!(futures::poll!(&mut written).is_pending());
        go_on.send(()).unwrap();
        written.await
    };
    let (first, second, small) = tokio::join!(first, second, small);
    first.and(second).and(small).unwrap();
    assert_eq!(fixture.contents().0, ["small", "first part", "second part"]);
}

/// The disk is left to other writes for as long as a part took.
#[tokio::test]
async fn part_of_a_large_file_waits_for_the_time_of_the_last_one_while_others_write() {
    const SLOW: Duration = Duration::from_millis(60);
    let fixture = Fixture::new();
    let slow = |_: &Connection| {
        std::thread::sleep(SLOW);
        Ok::<_, Error>(())
    };
    let mut file = UnfinishedFile::new(&fixture.writer);
    let (first, other) = tokio::join!(file.append(part(), slow), fixture.note("other"));
    first.and(other).unwrap();
    let ended = Instant::now();
    file.append(part(), note("part")).await.unwrap();
    assert!(ended.elapsed() >= SLOW / 2, "{:?}", ended.elapsed());
    assert_eq!(fixture.contents().0, ["other", "part"]);
}

#[tokio::test]
async fn part_of_a_large_file_waits_for_one_group_of_small_writes_only() {
    let fixture = Fixture::new();
    // Each small write waits until the next one has been queued behind it.
    let (begun, begins) = mpsc::channel::<()>();
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let small = |text| {
        let (begun, wait) = (begun.clone(), wait.clone());
        fixture.writer.write(move |db| {
            begun.send(()).unwrap();
            wait.lock().unwrap().recv().unwrap();
            note(text)(db)
        })
    };
    let mut file = UnfinishedFile::new(&fixture.writer);
    let (mut writes, mut part) = (Vec::new(), std::pin::pin!(file.append(part(), note("part"))));
    for text in ["busy", "first", "second", "third"] {
        let mut write = Box::pin(small(text));
        assert!(futures::poll!(&mut write).is_pending());
        writes.push(write);
        if text == "busy" {
            begins.recv().unwrap();
            assert!(futures::poll!(&mut part).is_pending());
        } else {
            go_on.send(()).unwrap();
            begins.recv().unwrap();
        }
    }
    go_on.send(()).unwrap();
    part.await.unwrap();
    for write in writes {
        write.await.unwrap();
    }
    assert_eq!(fixture.contents().0, ["busy", "first", "second", "part", "third"]);
}

#[tokio::test]
async fn failed_write_does_not_affect_the_others_of_its_group() {
    let fixture = Fixture::new();
    let go_on = fixture.block().await;
    let broken = fixture.writer.write(|db| {
        note("half of a write")(db)?;
        Ok::<_, Error>(db.execute("INSERT INTO nowhere VALUES (1)", [])?)
    });
    let (before, failed, after, ()) =
        tokio::join!(fixture.note("before"), broken, fixture.note("after"), async { drop(go_on) });
    before.and(after).unwrap();
    assert!(failed.unwrap_err().to_string().contains("no such table"));
    assert_eq!(fixture.contents().0, ["before", "after"]);
}

#[tokio::test]
async fn full_disk_fails_all_writes_of_its_transaction() {
    let fixture = Fixture::new();
    let limit = |pages: u32| {
        fixture.writer.write(move |db| {
            Ok::<_, Error>(db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?)
        })
    };
    fixture.note("durable").await.unwrap();
    // No page more than there are.
    limit(1).await.unwrap();
    let go_on = fixture.block().await;
    let large = fixture.writer.write(|db| {
        Ok::<_, Error>(db.execute("INSERT INTO notes (text) VALUES (?1)", ["x".repeat(100_000)])?)
    });
    let (before, large, after, ()) =
        tokio::join!(fixture.note("before"), large, fixture.note("after"), async { drop(go_on) });
    let Err(Error::Sqlite(own)) = large else { panic!("{large:?}") };
    assert_eq!(own.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull));
    for undone in [before, after] {
        assert!(matches!(&undone, Err(Error::RolledBack(cause)) if cause.contains("full")), "{undone:?}");
    }
    limit(1_000).await.unwrap();
    fixture.note("later").await.unwrap();
    assert_eq!(fixture.contents().0, ["durable", "later"]);
}

#[tokio::test]
async fn deferred_write_waits_for_another_one_for_a_moment_only() {
    let fixture = Fixture::new();
    let (reply, outcome) = tokio::sync::oneshot::channel();
    fixture.writer.submit(Priority::Deferred, 0, note("alone"), |outcome| reply.send(outcome).unwrap());
    outcome.await.unwrap().unwrap();
    fixture.writer.submit(Priority::Deferred, 0, note("first"), |_| {});
    fixture.note("second").await.unwrap();
    assert_eq!(fixture.contents().0, ["alone", "first", "second"]);
}

/// The last part waits for a group of other writes, in which the file is already known to be cancelled.
#[tokio::test]
async fn chunks_of_a_cancelled_file_are_removed_after_its_last_part() {
    let fixture = Fixture::new();
    let mut file = UnfinishedFile::new(&fixture.writer);
    file.append(part(), note("first part")).await.unwrap();
    let go_on = fixture.block().await;
    {
        let mut last = std::pin::pin!(file.append(part(), note("last part")));
        assert!(futures::poll!(&mut last).is_pending());
    }
    let mut failing = std::pin::pin!(fixture.writer.write(|db| {
        // Undoes the whole transaction, so that maintenance follows at once.
        db.execute_batch("ROLLBACK")?;
        Ok::<_, Error>(())
    }));
    assert!(futures::poll!(&mut failing).is_pending());
    drop(file);
    go_on.send(()).unwrap();
    failing.await.unwrap_err();
    fixture.until_files(0).await;
    let (notes, files) = fixture.contents();
    assert_eq!(
        (notes.as_slice(), files.len()),
        (["first part".to_owned(), "last part".to_owned()].as_slice(), 0)
    );
}

#[tokio::test]
async fn file_that_becomes_visible_is_kept_if_its_writer_is_cancelled() {
    let fixture = Fixture::new();
    let go_on = fixture.block().await;
    {
        let mut file = UnfinishedFile::new(&fixture.writer);
        let show =
            |db: &Connection| Ok::<_, Error>(db.execute("INSERT INTO files VALUES (1)", []).map(drop)?);
        let mut last = std::pin::pin!(file.append(part(), show));
        assert!(futures::poll!(&mut last).is_pending());
    }
    drop(go_on);
    // Other files that are discarded are removed meanwhile.
    for _ in 0..3 {
        let mut other = UnfinishedFile::new(&fixture.writer);
        other.append(part(), note("other")).await.unwrap();
    }
    fixture.until_files(1).await;
    assert_eq!(fixture.contents().1, [1]);
}

#[tokio::test]
async fn file_is_read_as_it_was_written_or_not_at_all() {
    let fixture = Fixture::new();
    let content: Bytes = (0..6 * CHUNK + 5).map(|n| (n / 1_000) as u8).collect();
    let mut file = UnfinishedFile::new(&fixture.writer);
    for part in [content.slice(..4 * CHUNK), content.slice(4 * CHUNK..)] {
        file.append(part, |_| Ok::<_, Error>(())).await.unwrap();
    }
    let number = file.number;
    let show = move |db: &Connection| Ok::<_, Error>(db.execute("INSERT INTO files VALUES (?1)", [number])?);
    fixture.writer.write(show).await.unwrap();
    drop(file);
    let readers = Readers::new(&fixture.path());
    let read = |first| {
        let chunks = FORMAT.chunks.stream(&readers, number, content.len() as u64, first);
        chunks.try_collect::<Vec<Bytes>>()
    };
    assert_eq!(read(None).await.unwrap().concat(), content);
    assert_eq!(read(Some(content.slice(..CHUNK))).await.unwrap().concat(), content);
    let mut longer = FORMAT.chunks.stream(&readers, number, content.len() as u64 + 1, None).skip(6);
    assert!(matches!(longer.next().await, Some(Err(ChunkError::Missing))));

    let change = |sql| fixture.writer.write(move |db| Ok::<_, Error>(db.execute(sql, [])?));
    change("UPDATE chunks SET bytes = zeroblob(262144) WHERE id = (SELECT max(id) - 1 FROM chunks)")
        .await
        .unwrap();
    assert!(matches!(read(None).await, Err(ChunkError::Damaged(_))));
    change("DELETE FROM chunks WHERE id = (SELECT max(id) - 1 FROM chunks)").await.unwrap();
    assert!(matches!(read(None).await, Err(ChunkError::Missing)));
    let last = readers.read(move |db| Ok::<_, Error>(FORMAT.chunks.read(db, number, 6)?)).await.unwrap();
    assert_eq!(last, Chunk::Intact(content.slice(6 * CHUNK..)));

    // A key with a flipped bit is no file.
    change("UPDATE chunks SET id = 9223372036854775807 WHERE id = (SELECT max(id) FROM chunks)")
        .await
        .unwrap();
    let numbers = |db: &Connection| Ok::<_, Error>((FORMAT.chunks.files(db)?, FORMAT.chunks.last_file(db)?));
    assert_eq!(readers.read(numbers).await.unwrap(), (vec![number], number));
}

#[test]
fn file_is_open_in_one_process_and_private() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.db");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = open(&path).unwrap();
    assert!(matches!(open(&path), Err(Error::InUse(_))));
    assert_eq!((mode(&path), mode(&folder.path().join("data.db.lock"))), (0o600, 0o600));
    drop(file);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    drop(open(&path).unwrap());
    assert_eq!(mode(&path), 0o600);
    assert!(matches!(open(&folder.path().join("missing/data.db")), Err(Error::Lock { .. })));
}

#[test]
fn file_is_migrated_or_refused_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.db");
    let execute = |sql: &str| Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let check = || FORMAT.check(&sqlite::open_reader(&path).unwrap());
    drop(open(&path).unwrap());
    check().unwrap();
    execute(
        "ALTER TABLE notes DROP COLUMN author; INSERT INTO notes VALUES ('kept'); PRAGMA user_version = 2",
    );
    assert!(matches!(check(), Err(Error::NotMigrated { found: 2, newest: 3 })));
    let db = open(&path).unwrap().db;
    let note = db.query_row("SELECT text, author FROM notes", [], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
    });
    assert_eq!(note.unwrap(), ("kept".to_owned(), None));
    drop(db);
    check().unwrap();

    let refused = |sql: &str| {
        execute(sql);
        let before = fs::read(&path).unwrap();
        let error = open(&path).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), before, "{error}");
        error
    };
    let error = refused("PRAGMA journal_mode = DELETE; PRAGMA user_version = 4");
    assert!(matches!(error, Error::TooNew { found: 4, newest: 3 }), "{error}");
    let error = refused("PRAGMA user_version = 1");
    assert!(matches!(error, Error::TooOld), "{error}");
    let error = refused("PRAGMA user_version = 3; PRAGMA application_id = 78");
    assert!(matches!(error, Error::OtherProgram(78)), "{error}");
}

#[tokio::test]
async fn damaged_file_is_refused_unchanged() {
    let fixture = Fixture::new();
    let many = |db: &Connection| (0..2_000).try_for_each(|_| note("some text that fills a page")(db));
    fixture.writer.write(many).await.unwrap();
    let path = fixture.path();
    let Fixture { folder: _folder, writer } = fixture;
    drop(writer);
    let whole = fs::read(&path).unwrap();
    let (mut scribbled, mut headless) = (whole.clone(), whole.clone());
    scribbled[16_384..20_480].fill(0x5a);
    headless[..100].fill(0);
    for damaged in [scribbled, headless, whole[..whole.len() / 2].to_vec(), b"Dear diary, ".repeat(1_000)] {
        fs::write(&path, &damaged).unwrap();
        let is_damage = match open(&path).unwrap_err() {
            Error::Damaged(_) => true,
            Error::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
            ),
            _ => false,
        };
        assert!(is_damage && fs::read(&path).unwrap() == damaged);
    }
    fs::write(&path, whole).unwrap();
    open(&path).unwrap();
}

#[tokio::test]
async fn copy_of_a_file_in_use_is_complete_and_private() {
    let fixture = Fixture::new();
    fixture.note("copied").await.unwrap();
    let copy = fixture.folder.path().join("copy.db");
    snapshot(&fixture.path(), &copy).unwrap();
    assert!(matches!(snapshot(&fixture.path(), &copy), Err(Error::Copy { .. })), "it exists");
    fixture.note("not copied").await.unwrap();
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let copied = open(&copy).unwrap().db;
    let notes: String =
        copied.query_row("SELECT group_concat(text) FROM notes", [], |row| row.get(0)).unwrap();
    assert_eq!(notes, "copied");
}
